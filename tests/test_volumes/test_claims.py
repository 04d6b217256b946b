"""What a file claims, and what it holds."""

import gzip
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_tokensparse.volumes.claims import false_claim
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import VolumeError

NOISE = np.random.default_rng(0).integers(0, 4000, (20, 18, 16), dtype=np.int16)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    nib.save(nib.Nifti1Image(NOISE, np.eye(4)), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def refusal(path: Path) -> str:
    with pytest.raises(VolumeError) as refused:
        read_volume(path)
    assert str(refused.value).startswith(path.name)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_no_bit_of_the_packed_voxels_turns_unnoticed(packed: Path) -> None:
    whole = packed.read_bytes()
    places = np.random.default_rng(1).integers(200, len(whole), 60)
    for place, bit in zip(places, np.arange(60) % 8, strict=True):
        changed = bytearray(whole)
        changed[place] ^= 1 << bit
        packed.write_bytes(changed)
        assert "is damaged" in refusal(packed) or "is not a NIfTI file" in refusal(packed)
    packed.write_bytes(whole)
    np.testing.assert_array_equal(read_volume(packed).array[0], NOISE)


def test_a_file_that_goes_on_long_after_its_voxels_is_not_unpacked(packed: Path) -> None:
    content = gzip.decompress(packed.read_bytes())
    packed.write_bytes(gzip.compress(content + bytes(2**20)))
    np.testing.assert_array_equal(read_volume(packed).array[0], NOISE)
    packed.write_bytes(gzip.compress(content + bytes(70 * 2**20), 1))
    assert "goes on long after its voxels" in refusal(packed)


def test_a_claim_is_held_against_the_file_and_the_memory(tmp_path: Path) -> None:
    plain, small = tmp_path / "a.nii", tmp_path / "a.nii.gz"
    plain.write_bytes(bytes(1000))
    small.write_bytes(bytes(1000))
    assert false_claim(plain, 1000) is None
    assert "claims 1001 bytes, more than a file of 1000" in str(false_claim(plain, 1001))
    assert false_claim(small, 1_032_000) is None
    assert "can hold" in str(false_claim(small, 1_032_001))
    with plain.open("wb") as file:
        file.truncate(2**43)  # a sparse file
    assert "GiB of memory are free: crop it" in str(false_claim(plain, 2**43))


READ = """
import resource, sys
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import VolumeError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_volume(sys.argv[1])
except VolumeError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_no_memory_is_asked_for_before_the_check(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    nib.save(nib.Nifti1Image(NOISE, np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([1200, 1200, 1200], np.int16).tobytes()
    path.write_bytes(content)
    ran = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True
    )
    grown, _, said = ran.stdout.partition(" ")
    assert int(grown) * 1024 < 64 * 2**20
    assert "its header claims 3456000352 bytes, more than a file of" in said
