from pathlib import Path

import numpy as np
from PIL import Image

from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.outputs.montage import save_montage
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.tokenmaps import STAGE_COLOURS, stage_colour
from napari_tokensparse.volumes.volume import Volume

INFO = ModelInfo(
    name="nano",
    channels=("MRI",),
    classes=(LabelClass(value=1, name="one", color=(0, 255, 0)),),
    preprocessing=({"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},),
)
HEADER = 20


def test_the_picture_is_radiological_with_the_head_up(tmp_path: Path) -> None:
    """A bright block on the patient's left, front and top, in a file stored as PIR."""
    array = np.full((1, 32, 32, 32), 10, np.int16)
    array[0, :20, :20, :20] = 200  # P, I, R: each axis begins at the front, the top, the left
    affine = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], float)
    volume = Volume(array, affine, "phantom")
    model = SCD(preset("nano"), INFO).eval()
    save_montage(tmp_path / "m.png", volume, segment(volume, model), INFO)

    picture = np.asarray(Image.open(tmp_path / "m.png").convert("L")).astype(int)
    assert picture.shape[1] == 6 * (32 + 4)  # image, labels, three importances, pruned at
    planes = [picture[HEADER + 36 * n :][:32, :32] for n in range(3)]

    def bright(plane: np.ndarray) -> tuple[int, int]:
        row, column = np.argwhere(plane > 150).mean(axis=0) > 15.5
        return int(row), int(column)

    assert bright(planes[0]) == (0, 1)  # axial: front at the top, left on the right
    assert bright(planes[1]) == (0, 1)  # coronal: head up, left on the right
    assert bright(planes[2]) == (0, 0)  # sagittal: head up, front on the left


def test_stages_beyond_the_last_colour_begin_anew() -> None:
    assert stage_colour(1) == STAGE_COLOURS[0]
    assert stage_colour(len(STAGE_COLOURS) + 1) == STAGE_COLOURS[0]
    assert len(set(STAGE_COLOURS)) == len(STAGE_COLOURS)
