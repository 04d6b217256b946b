"""Files of a series without the preamble: read, or named; never passed over in silence."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from napari_tokensparse.volumes.dicom.folder import holds_dicom
from napari_tokensparse.volumes.dicom.signs import begins_as_dicom
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import VolumeError

PIXELS = np.random.default_rng(1).integers(0, 4000, (20, 5, 6)).astype(np.uint16)


@pytest.mark.parametrize("how", [{"meta": True}, {"implicit": True}, {"implicit": False}])
@pytest.mark.parametrize("without", [range(20), range(15, 20), [3, 7, 8, 9, 12]])
def test_files_without_a_preamble_are_slices_like_the_others(dicoms, tmp_path, how, without):
    folder = tmp_path / "mr"
    paths = dicoms["write_series"](folder, PIXELS)
    whole = read_volume(folder)
    for n in without:
        dicoms["without_preamble"](paths[n], **how)
    assert holds_dicom(folder)
    read = read_volume(folder)
    assert np.array_equal(read.array, whole.array)
    assert np.array_equal(read.array[0], PIXELS.transpose(2, 1, 0))
    assert np.array_equal(read.affine, whole.affine)
    assert read.slices == tuple(paths)
    assert read.notes == ()


def test_what_is_left_out_of_a_folder_is_named(dicoms, tmp_path):
    folder = tmp_path / "mr"
    paths = dicoms["write_series"](folder, PIXELS)
    for n in range(16, 20):
        paths[n].write_bytes(b"garbage " * 40)
    names = sorted(path.name for path in paths[16:])
    assert read_volume(folder).notes == (
        f"left out, as not DICOM: {', '.join(names[:3])} and 1 more",
    )
    assert read_volume(folder).shape == (6, 5, 16)


def test_a_gap_that_a_file_leaves_which_is_not_dicom_is_refused_with_its_name(dicoms, tmp_path):
    folder = tmp_path / "mr"
    paths = dicoms["write_series"](folder, PIXELS)
    paths[4].write_bytes(b"garbage " * 40)
    with pytest.raises(VolumeError) as caught:
        read_volume(folder)
    assert "mr: 1 of its slices, 3.5 mm apart, are missing between" in str(caught.value)
    assert str(caught.value).endswith(f"(left out, as not DICOM: {paths[4].name})")


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"\x08\x00",
        b"\x08\x00\x05\x00XX" + bytes(200),  # no type of value that can come first
        b"\x10\x00\x10\x00PN" + bytes(200),  # a later group
        struct.pack("<HHI", 8, 5, 11) + bytes(200),  # an odd number of bytes
        struct.pack("<HHI", 8, 5, 2**20) + bytes(200),  # a character set of a megabyte
        struct.pack("<HHI", 8, 0, 6) + bytes(200),  # the length of a group has 4 bytes
        struct.pack("<HHI", 8, 8, 20) + b"\xff" * 200,  # no text
        struct.pack("<HHI", 8, 0x1030, 20) + b"a" * 200,  # no element to begin with
        b"Patient,Age\n" * 20,
    ],
)
def test_other_files_do_not_begin_so(tmp_path, start):
    (tmp_path / "file").write_bytes(start)
    assert not begins_as_dicom(tmp_path / "file")


@pytest.mark.parametrize(
    "start",
    [
        struct.pack("<HHI", 8, 0, 4) + struct.pack("<I", 480) + bytes(200),
        struct.pack("<HHI", 8, 5, 10) + b"ISO_IR 100" + bytes(200),
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + bytes(200),
        bytes(128) + b"DICM",
    ],
)
def test_dicom_begins_so(tmp_path, start):
    (tmp_path / "file").write_bytes(start)
    assert begins_as_dicom(tmp_path / "file")
