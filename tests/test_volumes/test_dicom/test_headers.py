"""Enhanced files, of many frames each: every voxel where its frame's group puts it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import VolumeError

PIXELS = np.random.default_rng(1).integers(0, 4000, (7, 5, 6)).astype(np.uint16)
VOXELS = PIXELS.transpose(2, 1, 0)


def places(dicoms, plane: str) -> list[np.ndarray]:
    row, column = np.reshape(dicoms["PLANES"][plane], (2, 3))
    return [np.array((-31.0, 22.5, 7.25)) + n * 3.5 * np.cross(row, column) for n in range(7)]


@pytest.mark.parametrize("plane", ["axial", "oblique"])
def test_an_enhanced_file_is_read_frame_by_frame(dicoms, tmp_path, plane):
    folder = tmp_path / "mr"
    folder.mkdir()
    where = places(dicoms, plane)
    order = [3, 0, 6, 1, 5, 2, 4]  # of the frames in the file
    path = dicoms["write_enhanced"](
        folder / "one.dcm",
        PIXELS[order],
        [{"position": where[n]} for n in order],
        dicoms["PLANES"][plane],
    )
    volume = read_volume(folder)
    assert np.array_equal(volume.array[0], VOXELS)
    assert volume.slices == (path,) * 7
    alone = read_volume(path)
    assert np.array_equal(alone.array, volume.array)
    assert np.array_equal(alone.affine, volume.affine)
    assert (alone.name, alone.slices) == ("one.dcm", volume.slices)
    for index in [(0, 0, 0), (5, 4, 6), (2, 3, 1)]:
        wanted = dicoms["ras_of"](dicoms["PLANES"][plane], index)
        assert np.abs((volume.affine @ [*index, 1])[:3] - wanted).max() < 1e-9


def test_frames_of_an_enhanced_file_are_chosen_and_scaled_each_by_its_own(dicoms, tmp_path):
    folder, where = tmp_path / "mr", places(dicoms, "axial")
    folder.mkdir()
    frames = [
        {"position": place, "b": b, "scaling": (2.0 if b else 1.0, -b)}
        for b in (0, 800)
        for place in where
    ]
    dicoms["write_enhanced"](folder / "one.dcm", np.concatenate([PIXELS, PIXELS]), frames)
    with pytest.raises(VolumeError, match=r"0 \(b-value 0 s/mm2\), 1 \(b-value 800 s/mm2\)$"):
        read_volume(folder)
    assert np.array_equal(read_volume(folder, frame=0).array[0], VOXELS)
    volume = read_volume(folder, frame=1)
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array[0], VOXELS * 2.0 - 800)


def test_kinds_of_frames_and_echoes_are_read_from_their_groups(dicoms, tmp_path):
    folder, where = tmp_path / "mr", places(dicoms, "axial")
    folder.mkdir()
    frames = [
        {"position": place, "echo": echo, "kind": ["ORIGINAL", "PRIMARY", kind, "NONE"]}
        for echo in (4.6, 9.2)
        for kind in ("M", "P")
        for place in where
    ]
    dicoms["write_enhanced"](folder / "one.dcm", np.concatenate([PIXELS] * 4), frames)
    with pytest.raises(VolumeError, match=r"3 \(echo time 9.2 ms, image type P\)$"):
        read_volume(folder)


def test_a_missing_frame_is_named_by_its_number(dicoms, tmp_path):
    folder, where = tmp_path / "mr", places(dicoms, "axial")
    folder.mkdir()
    kept = [0, 1, 2, 4, 5, 6]
    dicoms["write_enhanced"](
        folder / "one.dcm", PIXELS[kept], [{"position": where[n]} for n in kept]
    )
    with pytest.raises(VolumeError, match=r"missing between one.dcm frame 2 \(at 14.25 mm\)"):
        read_volume(folder)
