import numpy as np
import pytest
from scipy.special import expit

from choose_lesion_settings import RUN_AT, marked
from train_lesion_model import CLASS_WEIGHTS


@pytest.mark.parametrize("set_back", [0.25, 1.0, 1.75])
def test_settings_mark_what_a_network_with_them_would(set_back: float) -> None:
    logits = np.zeros((3, 3, 9)) - 8.0
    logits[0, 0] = [-8, 1.0, 3.0, 0.5, -8, 1.1, 1.6, 2.2, -8]
    logits[2, 2] = [-8, 2.9, -8, -0.4, 0.3, -0.8, -8, 0.9, 1.2]
    changed = logits - (set_back - RUN_AT) * np.log(CLASS_WEIGHTS[1])
    expected = changed > 0
    lesion = np.round(255 * expit(logits)).astype(np.uint8)
    assert np.array_equal(marked(lesion, set_back, 0.0), expected)
    for row, spans in ((0, ((1, 4), (5, 8))), (2, ((1, 2), (3, 6), (7, 9)))):
        for first, end in spans:
            piece = expected[row, row, first:end]
            sure = expit(changed[row, row, first:end]).max() >= 0.8
            piece &= sure
    assert np.array_equal(marked(lesion, set_back, 0.8), expected)
