"""The sample brain gives the same labels whichever backend runs, and the same bytes each time."""

from pathlib import Path

import numpy as np
import pytest

from napari_tokensparse.data.samples import sample_path
from napari_tokensparse.data.volume import Volume, read_volume, write_nifti
from napari_tokensparse.engine.infer import segment
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.scd import SCD

DEEP = [pytest.param(n / 20, marks=pytest.mark.deep) for n in range(1, 21) if n not in (2, 10)]


@pytest.fixture(scope="module")
def volume() -> Volume:
    return read_volume(sample_path())


@pytest.fixture(scope="module")
def model() -> SCD:
    return load_model("brain-structures")


@pytest.mark.parametrize("keep_ratio", [0.1, 0.5, *DEEP])
def test_openvino_gives_the_labels_of_torch_at_every_keep_ratio_of_the_slider(
    volume: Volume, model: SCD, keep_ratio: float
) -> None:
    pytest.importorskip("openvino")
    fast, plain = (
        segment(volume, model, keep_ratio, backend=name) for name in ("openvino", "plain")
    )
    assert (fast.stats.backend, plain.stats.backend) == ("openvino", "plain")
    assert (fast.labels == plain.labels).mean() >= 0.9999
    assert (fast.tokens.pruned_at == plain.tokens.pruned_at).mean() >= 0.999
    for one, other in zip(fast.tokens.importance, plain.tokens.importance, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


def test_the_same_run_gives_the_same_bytes(volume: Volume, model: SCD, tmp_path: Path) -> None:
    written = []
    for number in range(2):
        result = segment(volume, model, 0.25)
        path = write_nifti(tmp_path / f"{number}.nii.gz", result.labels, volume)
        maps = (*result.tokens.importance, result.tokens.pruned_at)
        written.append((path.read_bytes(), *(values.tobytes() for values in maps)))
    assert written[0] == written[1]
