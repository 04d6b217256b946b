"""Which file a layer was read from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.layers import Image
from napari.layers._source import layer_source

from napari_tokensparse.volumes.samples import SAMPLE_KEY, sample_path
from napari_tokensparse.widgets.layerfiles import layer_file

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.gui


@pytest.mark.parametrize(
    ("sample", "file"),
    [
        (("napari-tokensparse", SAMPLE_KEY), sample_path()),
        (("napari-tokensparse", "made-up-patient"), None),
        (("another-plugin", SAMPLE_KEY), None),
    ],
)
def test_of_the_samples_only_the_brain_is_a_file(
    sample: tuple[str, str], file: Path | None
) -> None:
    with layer_source(sample=sample):
        layer = Image(np.zeros((2, 2, 2)))
    assert layer_file(layer) == file
