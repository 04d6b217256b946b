import numpy as np
import pytest

from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.presets import preset
from napari_tokensparse.segmenting.windowing import windowed
from napari_tokensparse.volumes.volume import Volume


@pytest.mark.parametrize("background", [0.0, -3.0])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_window_is_foreground_where_any_voxel_of_any_channel_is_not_background(
    background: float, channels: int
) -> None:
    rng = np.random.default_rng(0)
    array = np.full((channels, 70, 90, 100), background, np.float32)
    voxels = tuple(rng.integers(0, n, 12) for n in array.shape)
    array[voxels] += rng.choice([-0.5, 1e-3], 12)
    info = ModelInfo(
        name="nano",
        channels=("T1",) * channels,
        classes=(LabelClass(value=1, name="one", color=(0, 0, 0)),),
        background=background,
    )
    seen = windowed(
        Volume(array, np.eye(4), "scan"), preset("nano", in_channels=channels), info, 0.5
    )
    assert seen.foreground.shape == seen.grid.tokens
    expected = [
        bool((seen.grid.cut(seen.image, start) != background).any()) for start in seen.grid.starts
    ]
    assert [seen.is_foreground(start) for start in seen.grid.starts] == expected
    assert 10 < sum(expected) < len(expected) - 10
