"""Several images of each place in one series: listed as they are chosen, and chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom import dcmread

from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import VolumeError

if TYPE_CHECKING:
    from pathlib import Path

PIXELS = np.random.default_rng(1).integers(0, 4000, (7, 5, 6)).astype(np.uint16)
VOXELS = PIXELS.transpose(2, 1, 0)

SERIES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "time points": (
        [{"TemporalPositionIdentifier": n} for n in (1, 2, 3)],
        "0 (time point 1), 1 (time point 2), 2 (time point 3)",
    ),
    "trigger times": (
        [{"TriggerTime": n} for n in (0, 20.5)],
        "0 (trigger time 0 ms), 1 (trigger time 20.5 ms)",
    ),
    "echoes": (
        [{"EchoTime": 2.46, "EchoNumbers": 1}, {"EchoTime": 7.38, "EchoNumbers": 2}],
        "0 (echo time 2.46 ms), 1 (echo time 7.38 ms)",
    ),
    "magnitude and phase": (
        [{"ImageType": ["ORIGINAL", "PRIMARY", kind, "ND"]} for kind in ("M", "P")],
        "0 (image type M), 1 (image type P)",
    ),
    "Dixon": (
        [
            {"ImageType": ["DERIVED", "PRIMARY", "DIXON", kind]}
            for kind in ("FAT", "IN_PHASE", "OPP_PHASE", "WATER")
        ],
        "0 (image type FAT), 1 (image type IN_PHASE), 2 (image type OPP_PHASE), "
        "3 (image type WATER)",
    ),
    "b-values": (
        [{"DiffusionBValue": b} for b in (0, 50, 1000)],
        "0 (b-value 0 s/mm2), 1 (b-value 50 s/mm2), 2 (b-value 1000 s/mm2)",
    ),
    "a b-value that only some give": (
        [{}, {"DiffusionBValue": 800}],
        "0 (b-value not given), 1 (b-value 800 s/mm2)",
    ),
    "magnitude and phase of two echoes": (
        [
            {"EchoTime": echo, "ImageType": ["ORIGINAL", "PRIMARY", kind]}
            for echo in (3, 6)
            for kind in ("M", "P")
        ],
        "0 (echo time 3 ms, image type M), 1 (echo time 3 ms, image type P), "
        "2 (echo time 6 ms, image type M), 3 (echo time 6 ms, image type P)",
    ),
    "flip angles": ([{"FlipAngle": a} for a in (4, 18)], "0 (flip angle 4 degrees), 1 (flip"),
}


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(VolumeError) as caught:
        read_volume(folder, **options)
    assert "Doe" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", SERIES)
def test_what_tells_frames_apart_is_listed_and_can_be_chosen(dicoms, tmp_path, kind):
    frames, listed = SERIES[kind]
    folder = tmp_path / "mr"
    for n in np.random.default_rng(3).permutation(len(frames)).tolist():
        tags = {"SeriesInstanceUID": "1.2.3", "prefix": f"t{n}-", **frames[n]}
        dicoms["write_series"](folder, PIXELS + n, **tags)
    said = refusal(folder)
    assert said.startswith(
        f"mr: holds {len(frames)} images of each place; choose one with --frame N (frame=N in "
        f"Python): {listed}"
    )
    assert f"mr: frame {len(frames)}: must be one of {listed}" in refusal(folder, frame=len(frames))
    for n in range(len(frames)):
        assert np.array_equal(read_volume(folder, frame=n).array[0], VOXELS + n)


def test_what_makers_of_scanners_write_in_their_own_places_counts_too(dicoms, tmp_path):
    folder = tmp_path / "mr"
    for n, b in enumerate((0, 1000)):
        for path in dicoms["write_series"](
            folder, PIXELS + n, SeriesInstanceUID="1.2.3", prefix=f"b{b}-"
        ):
            image = dcmread(path)
            block = image.private_block(0x0043, "GEMS_PARM_01", create=True)
            block.add_new(0x39, "IS", [b + 10**9 * (b > 0), 8, 0, 0])
            image.save_as(path)
    assert "0 (b-value 0 s/mm2), 1 (b-value 1000 s/mm2)" in refusal(folder)
    assert np.array_equal(read_volume(folder, frame=1).array[0], VOXELS + 1)


def test_a_trigger_time_of_each_slice_makes_no_frame_of_each_slice(dicoms, tmp_path):
    folder = tmp_path / "mr"
    for n in (0, 1):
        dicoms["write_series"](
            folder,
            PIXELS + n,
            SeriesInstanceUID="1.2.3",
            prefix=f"t{n}-",
            TriggerTime=[10.0 * (7 * n + k) for k in range(7)],
            EchoTime=5 + n,
        )
    assert "holds 2 images of each place" in refusal(folder)
    assert np.array_equal(read_volume(folder, frame=1).array[0], VOXELS + 1)


def test_a_frame_of_a_series_that_has_one_is_refused(dicoms, tmp_path):
    dicoms["write_series"](tmp_path / "mr", PIXELS)
    assert refusal(tmp_path / "mr", frame=2) == (
        "mr: frame 2: there is one image of each place only; leave it out"
    )
    assert read_volume(tmp_path / "mr", frame=0).shape == (6, 5, 7)


def test_acquisitions_say_what_tells_them_apart(dicoms, tmp_path):
    folder = tmp_path / "dwi"
    for number, b in ((1, 0), (2, 1000)):
        tags = {"AcquisitionNumber": number, "SeriesInstanceUID": "1.2.3", "DiffusionBValue": b}
        dicoms["write_series"](folder, PIXELS, prefix=f"a{number}-", **tags)
    assert "5.2 (MR axial, 7 slices of 6 x 5, b-value 1000 s/mm2)" in refusal(folder)
