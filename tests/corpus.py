"""Broken and odd inputs from a seeded script, each with what must come of it.

``cases(seed)`` lists them; ``try_case`` runs ``tokensparse segment`` on one of them and says what
is wrong with what came, if anything is. A family of its own for each format: add a list to `cases`.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import lzma
import os
import pickle
import re
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import nibabel as nib
import nrrd
import numpy as np
from nibabel.nifti1 import Nifti1Header, Nifti1Image, Nifti1Pair
from typer.testing import CliRunner

from napari_tokensparse.cli import app
from napari_tokensparse.common.untrusted import printable
from napari_tokensparse.model.bundle import write_bundle
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

if TYPE_CHECKING:
    from numpy.typing import NDArray

Expected = Literal["refused", "read", "either"]
Write = Callable[[Path, np.random.Generator], Path]

MOST_SECONDS = 10.0
SHAPE = (20, 18, 14)
GEOMETRY = ("pixdim", "qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "xyzt_units")
_FIX = re.compile(r"; |must |[Cc]heck |give |crop |is it |right\?")
_METADATA = {"version": "1", "task": "test", "description": "", "authors": "", "copyright": ""}


@dataclass(frozen=True)
class Case:
    """An input: how it is written, and whether it is refused or read.

    ``whole`` means that labels, if there are any, must be those of the undamaged scan.
    """

    family: str
    name: str
    write: Write
    expected: Expected = "either"
    whole: bool = False


def cases(seed: int = 0) -> list[Case]:
    """List every case; the seed moves what is cut and flipped."""
    rng = np.random.default_rng(seed)
    return [
        *_cut(rng), *_flipped(rng), *_packed(), *_fields(), *_affines(), *_values(), *_shapes(),
        *_names(), *_places(), *_others(rng), *_nrrd(rng), *_mgh(rng), *_dicom(),
    ]  # fmt: skip


def write_model(folder: Path) -> Path:
    """Write a nano network with the preprocessing of the bundled model."""
    import torch

    info = ModelInfo(
        name="nano",
        channels=("MRI",),
        classes=(LabelClass(value=7, name="seven", color=(255, 0, 0)),),
        preprocessing=(
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": [2.0] * 3, "mode": "bilinear"},
            {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"},
            {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True},
        ),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SCD(preset("nano"), info).eval()
    write_bundle(folder, model, _METADATA, "# nano")
    return folder


def try_case(case: Case, folder: Path, model: Path, seed: int = 0) -> list[str]:
    """Segment a case in an empty folder; return what is wrong with what came of it."""
    rng = np.random.default_rng(seed)
    (folder / "in").mkdir(parents=True)
    (folder / "out").mkdir()
    source = case.write(folder / "in", rng)
    output = folder / "out/labels.nii.gz"
    options = ["--model", str(model), "--device", "cpu", "--backend", "plain", "--no-receipt"]
    began = time.perf_counter()
    with _permissions(case):
        ran = CliRunner().invoke(app, ["segment", "-o", str(output), *options, "--", str(source)])
    seconds = time.perf_counter() - began
    wrong = [] if seconds < MOST_SECONDS else [f"took {seconds:.1f} s"]
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        return [*wrong, f"{type(ran.exception).__name__}: {ran.exception}"]
    written = sorted(p.name for p in (folder / "out").iterdir())
    if ran.exit_code == 0:
        return wrong + _wrong_result(case, source, output, written)
    return wrong + _wrong_refusal(case, source, ran.output, written)


def _wrong_refusal(case: Case, source: Path, said: str, written: list[str]) -> list[str]:
    lines = [line for line in said.splitlines() if not line.startswith("Warning: ")]
    wrong = []
    if case.expected == "read":
        wrong.append(f"refused: {said}")
    if len(lines) != 1 or not lines[0].startswith("tokensparse: ") or not lines[0].isprintable():
        wrong.append(f"not one plain line: {said!r}")
    name = printable(source.name)
    # Nobody may enter the folder of a test, so that another path is named.
    known = [
        name,
        *(p.name for p in (source.iterdir() if case.family == "DICOM" and source.is_dir() else ())),
    ]
    if "permission" not in case.name and not any(n.partition(".")[0] in said for n in known):
        wrong.append(f"does not name {name}: {said}")
    if not _FIX.search(said):
        wrong.append(f"says no fix: {said}")
    if written:
        wrong.append(f"left {', '.join(written)}")
    return wrong


def _wrong_result(case: Case, source: Path, output: Path, written: list[str]) -> list[str]:
    wrong = []
    if case.expected == "refused":
        wrong.append("read, and not refused")
    if written != ["labels.label.txt", "labels.nii.gz", "labels_dseg.tsv"]:
        wrong.append(f"wrote {', '.join(written)}")
    labels = nib.load(output)
    values = np.asarray(labels.dataobj)
    if not set(np.unique(values)) <= {0, 7}:
        wrong.append(f"labels {np.unique(values)}")
    if not source.name.lower().endswith((".nii", ".nii.gz")):
        return wrong + _wrong_place(case, labels)
    scan: Nifti1Pair = nib.load(source)
    if values.shape != scan.shape[:3]:
        wrong.append(f"labels of shape {values.shape} for {scan.shape}")
    wrong += [
        f"{field} {labels.header[field]} instead of {scan.header[field]}"
        for field in GEOMETRY
        if labels.header[field].tobytes() != scan.header[field].tobytes()
    ]
    if case.whole and not np.array_equal(np.asarray(scan.dataobj), _scan()):
        wrong.append("read another volume than was written")
    return wrong


def _wrong_place(case: Case, labels: Nifti1Pair) -> list[str]:
    """Compare labels of another format with where the undamaged scan lies."""
    if not case.whole:
        return []
    wrong = [] if labels.shape == SHAPE else [f"labels of shape {labels.shape}"]
    if not np.allclose(labels.affine, _affine(), atol=1e-4):
        wrong.append(f"labels at {labels.affine.tolist()}")
    return wrong


@contextmanager
def _permissions(case: Case) -> Iterator[None]:
    """Be nobody for a case without permission, where tests run as root, who may all."""
    nobody = "permission" in case.name and hasattr(os, "geteuid") and os.geteuid() == 0
    if nobody:
        os.seteuid(65534)
    try:
        yield
    finally:
        if nobody:
            os.seteuid(0)


def _scan(shape: tuple[int, ...] = SHAPE) -> NDArray[np.int16]:
    rng = np.random.default_rng(0)
    return rng.integers(1, 900, shape, dtype=np.int16)


def _affine() -> NDArray[np.float64]:
    affine = np.diag([-1.1, 0.9, 1.5, 1.0])
    affine[:3, 3] = (11.0, -12.5, 3.25)
    return affine


def _image(array: NDArray[Any] | None = None) -> Nifti1Image:
    image = Nifti1Image(_scan() if array is None else array, _affine())
    image.set_qform(_affine(), 1)
    image.set_sform(_affine(), 1)
    return image


def _whole(path: Path) -> bytes:
    """Write the undamaged scan and return its bytes."""
    nib.save(_image(), path)
    return path.read_bytes()


def _cut(rng: np.random.Generator) -> list[Case]:
    """Files that end too early."""

    def cut(suffix: str, share: float, less: int) -> Write:
        def write(folder: Path, _: np.random.Generator) -> Path:
            path = folder / f"scan{suffix}"
            content = _whole(path)
            path.write_bytes(content[: int(len(content) * share) - less])
            return path

        return write

    ends = [(0.0, 0), (0.0, -1), (0.0, -5), (0.0, -11), (1.0, 1), (1.0, 4), (1.0, 8), (1.0, 9)]
    ends += [(float(share), 0) for share in rng.uniform(0.02, 0.98, 8)]
    headers = [(0.0, -n) for n in (347, 348, 351, 352, 353)]
    return [
        Case("cut short", f"{suffix} to {share:.3f} - {less}", cut(suffix, share, less), "refused")
        for suffix, kept in ((".nii.gz", ends), (".nii", [*ends, *headers]))
        for share, less in kept
    ]


def _flipped(rng: np.random.Generator) -> list[Case]:
    """Files with a bit that turned."""

    def flip(suffix: str, share: float, bit: int) -> Write:
        def write(folder: Path, _: np.random.Generator) -> Path:
            path = folder / f"scan{suffix}"
            content = bytearray(_whole(path))
            content[int(share * len(content))] ^= 1 << bit
            path.write_bytes(content)
            return path

        return write

    made = []
    for share, bit in zip(rng.uniform(0, 1, 24), rng.integers(0, 8, 24), strict=True):
        name = f"bit {bit} at {share:.4f}"
        gz = flip(".nii.gz", float(share), int(bit))
        made.append(Case("flipped bit in gzip", name, gz, "either", whole=True))
        plain = flip(".nii", float(share) * 352 / (352 + 2 * np.prod(SHAPE)), int(bit))
        made.append(Case("flipped bit in a header", name, plain))
    return made


def _packed() -> list[Case]:
    """Gzip in ways that are allowed, and in ways that are not."""

    def packed(pack: Callable[[bytes], bytes]) -> Write:
        def write(folder: Path, _: np.random.Generator) -> Path:
            whole = _whole(folder / "whole.nii")
            (folder / "whole.nii").unlink()
            (folder / "scan.nii.gz").write_bytes(pack(whole))
            return folder / "scan.nii.gz"

        return write

    half = 3000
    ways: dict[str, tuple[Callable[[bytes], bytes], Expected]] = {
        "two members": (lambda b: gzip.compress(b[:half]) + gzip.compress(b[half:]), "read"),
        "stored": (lambda b: gzip.compress(b, 0), "read"),
        "zeros after it": (lambda b: gzip.compress(b) + bytes(512), "read"),
        "voxels after it": (lambda b: gzip.compress(b + bytes(4096)), "read"),
        "garbage after it": (lambda b: gzip.compress(b) + b"garbage", "refused"),
        "an empty member": (lambda b: gzip.compress(b""), "refused"),
        "a checksum of 0": (lambda b: gzip.compress(b)[:-8] + bytes(8), "refused"),
        "the wrong length": (lambda b: gzip.compress(b)[:-4] + b"abcd", "refused"),
        "not packed": (lambda b: b, "refused"),
        "packed twice": (lambda b: gzip.compress(gzip.compress(b)), "refused"),
        "xz": (lzma.compress, "refused"),
        "a bomb": (lambda b: gzip.compress(b + bytes(2**28), 1), "refused"),
    }
    return [
        Case("gzip", name, packed(pack), expected, whole=expected == "read")
        for name, (pack, expected) in ways.items()
    ]


def _patched(changes: dict[int, bytes], suffix: str = ".nii") -> Write:
    def write(folder: Path, _: np.random.Generator) -> Path:
        path = folder / "scan.nii"
        content = bytearray(_whole(path))
        for at, value in changes.items():
            content[at : at + len(value)] = value
        path.unlink()
        path = folder / f"scan{suffix}"
        path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
        return path

    return write


def _short(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}h", *values)


def _floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


NAN, INF = float("nan"), float("inf")


# Where in a NIfTI-1 header it is changed, and to what.
_I, _J, _K = SHAPE
_LARGEST = 32767
_REST = (1, 1, 1, 1)
_FIELDS: dict[str, tuple[dict[int, bytes], Expected]] = {
    "0 axes": ({40: _short(0)}, "refused"),
    "1 axis": ({40: _short(1)}, "refused"),
    "2 axes": ({40: _short(2)}, "refused"),
    "5 axes, of 2": ({40: _short(5, _I, _J, 7, 1, 2)}, "refused"),
    "7 axes, of 1": ({40: _short(7, _I, _J, _K, *_REST)}, "read"),
    "8 axes": ({40: _short(8)}, "refused"),
    "-1 axes": ({40: _short(-1)}, "refused"),
    "300 axes": ({40: _short(300)}, "refused"),
    "no voxel along i": ({42: _short(0)}, "refused"),
    "no voxel at all": ({42: _short(0, 0, 0)}, "refused"),
    "-5 voxels along j": ({44: _short(-5)}, "refused"),
    "-1 voxels along all": ({42: _short(-1, -1, -1)}, "refused"),
    "one row too many": ({46: _short(_K + 1)}, "refused"),
    "one row too few": ({46: _short(_K - 1)}, "read"),
    "10^13 voxels": ({42: _short(_LARGEST, _LARGEST, _LARGEST)}, "refused"),
    "10^18 voxels": ({40: _short(5, *[_LARGEST] * 5)}, "refused"),
    "10^31 voxels": ({40: _short(7, *[_LARGEST] * 7)}, "refused"),
    "10^9 voxels": ({42: _short(1000, 1000, 1000)}, "refused"),
    "type 0": ({70: _short(0)}, "refused"),
    "bits": ({70: _short(1, 1)}, "refused"),
    "type 999": ({70: _short(999)}, "refused"),
    "type -1": ({70: _short(-1)}, "refused"),
    "complex": ({70: _short(32, 64)}, "refused"),
    "RGB": ({70: _short(128, 24)}, "refused"),
    "RGBA": ({70: _short(2304, 32)}, "refused"),
    "128-bit floats": ({70: _short(1536, 128)}, "refused"),
    "doubles": ({70: _short(64, 64)}, "refused"),
    "bytes": ({70: _short(2, 8)}, "read"),
    "0 bits": ({72: _short(0)}, "either"),
    "64 bits": ({72: _short(64)}, "either"),
    "voxels from 0": ({108: _floats(0)}, "either"),
    "voxels from -1": ({108: _floats(-1)}, "refused"),
    "voxels from 100": ({108: _floats(100)}, "refused"),
    "voxels from 353.5": ({108: _floats(353.5)}, "refused"),
    "voxels from 10^9": ({108: _floats(1e9)}, "refused"),
    "voxels from 10^30": ({108: _floats(1e30)}, "refused"),
    "voxels from NaN": ({108: _floats(NAN)}, "refused"),
    "voxels from infinity": ({108: _floats(INF)}, "refused"),
    "no magic": ({344: bytes(4)}, "refused"),
    "magic of a pair": ({344: b"ni1\0"}, "either"),
    "magic of NIfTI-2": ({344: b"n+2\0"}, "refused"),
    "a header of 0 bytes": ({0: struct.pack("<i", 0)}, "either"),
    "a header of 540 bytes": ({0: struct.pack("<i", 540)}, "either"),
    "a header of -1 bytes": ({0: struct.pack("<i", -1)}, "either"),
    "a header turned round": ({0: struct.pack(">i", 348)}, "either"),
    "slope NaN": ({112: _floats(NAN, 0)}, "read"),
    "slope infinity": ({112: _floats(INF, 0)}, "either"),
    "slope 0": ({112: _floats(0, 0)}, "read"),
    "slope -1": ({112: _floats(-1, 0)}, "either"),
    "slope 10^30": ({112: _floats(1e30, 0)}, "either"),
    "slope 3 * 10^38": ({112: _floats(3e38, 0)}, "refused"),
    "slope 10^-30": ({112: _floats(1e-30, 0)}, "either"),
    "offset NaN": ({112: _floats(1, NAN)}, "refused"),
    "offset infinity": ({112: _floats(1, INF)}, "refused"),
    "unit 7": ({123: b"\x07"}, "refused"),
    "unit 255": ({123: b"\xff"}, "refused"),
    "no unit": ({123: b"\0"}, "read"),
    "intent 9999": ({68: _short(9999)}, "read"),
    "intent label": ({68: _short(1002)}, "read"),
    "slices 255": ({39: b"\xff"}, "read"),
    "an extension of 10^9 bytes": ({348: b"\1\0\0\0" + struct.pack("<ii", 10**9, 4)}, "either"),
    "an extension of -1 bytes": ({348: b"\1\0\0\0" + struct.pack("<ii", -1, 4)}, "either"),
    "an extension of 0 bytes": ({348: b"\1\0\0\0" + struct.pack("<ii", 0, 4)}, "either"),
    "text of bytes": ({148: bytes(range(255, 175, -1))}, "read"),
    "all ones": ({0: b"\xff" * 348}, "refused"),
    "all zeros": ({0: bytes(348)}, "refused"),
}


def _fields() -> list[Case]:
    """Headers whose fields lie."""
    lies = _FIELDS
    packed = {name: lies[name] for name in ("10^13 voxels", "10^9 voxels", "10^18 voxels")}
    return [
        Case("header", name, _patched(changes), expected)
        for name, (changes, expected) in lies.items()
    ] + [
        Case("header", f"{name}, packed", _patched(changes, ".nii.gz"), expected)
        for name, (changes, expected) in packed.items()
    ]


def _affines() -> list[Case]:
    """Spacings and affines that cannot be, or that are odd and can."""
    spacings: dict[str, tuple[float, ...]] = {
        "0": (0, 0, 0), "-1": (-1, -1, -1), "NaN": (NAN, 1, 1), "infinity": (INF, 1, 1),
        "10^-30": (1e-30,) * 3, "10^30": (1e30,) * 3, "10^4": (1e4,) * 3, "10^-4": (1e-4,) * 3,
        "0.01 x 1 x 100": (0.01, 1, 100),
    }  # fmt: skip
    made = []
    for name, sizes in spacings.items():
        fields = {80: _floats(*sizes), 252: _short(1, 0)}
        made.append(Case("affine", f"voxels of {name} mm by qform", _patched(fields)))
        fields = {80: _floats(*sizes), 252: _short(0, 0)}
        made.append(Case("affine", f"voxels of {name} mm without a code", _patched(fields)))
        sheet = np.diag([*sizes, 1.0])[:3]
        fields = {252: _short(0, 1), 280: _floats(*sheet.ravel())}
        made.append(Case("affine", f"voxels of {name} mm by sform", _patched(fields)))
    rows: dict[str, tuple[list[list[float]], Expected]] = {
        "singular": ([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]], "refused"),
        "of zeros": ([[0] * 4] * 3, "refused"),
        "of NaN": ([[NAN] * 4] * 3, "refused"),
        "of infinity": ([[INF] * 4] * 3, "refused"),
        "far away": ([[1, 0, 0, 1e30], [0, 1, 0, 0], [0, 0, 1, 0]], "either"),
        "nowhere": ([[1, 0, 0, NAN], [0, 1, 0, 0], [0, 0, 1, 0]], "refused"),
        "nearly singular": ([[1, 0.9999999, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]], "refused"),
        "sheared": ([[1, 0.5, 0, 0], [0, 1, 0.3, 0], [0, 0, 1, 0]], "read"),
        "turned by 45 degrees": ([[1, -1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]], "read"),
        "mirrored": ([[0, 0, -2, 0], [-1, 0, 0, 0], [0, -1.5, 0, 0]], "read"),
    }
    made += [
        Case(
            "affine", f"sform {name}", _patched({252: _short(0, 1), 280: _floats(*np.ravel(m))}), e
        )
        for name, (m, e) in rows.items()
    ]
    others: dict[str, tuple[dict[int, bytes], Expected]] = {
        "quaternion NaN": ({252: _short(1, 0), 256: _floats(NAN, 0, 0)}, "refused"),
        "quaternion of length 2": ({252: _short(1, 0), 256: _floats(1, 1, 1)}, "refused"),
        "quaternion infinity": ({252: _short(1, 0), 256: _floats(INF, 0, 0)}, "refused"),
        "qform offset NaN": ({252: _short(1, 0), 268: _floats(NAN)}, "refused"),
        "qfac 0": ({76: _floats(0), 252: _short(1, 0)}, "either"),
        "qfac 7": ({76: _floats(7), 252: _short(1, 0)}, "either"),
        "codes 99": ({252: _short(99, 99)}, "either"),
        "codes -1": ({252: _short(-1, -1)}, "either"),
    }
    return made + [Case("affine", name, _patched(f), e) for name, (f, e) in others.items()]


def _saved(make: Callable[[], NDArray[Any]], suffix: str = ".nii.gz") -> Write:
    def write(folder: Path, _: np.random.Generator) -> Path:
        array = make()
        image = Nifti1Image(array, _affine(), dtype=array.dtype)
        nib.save(image, folder / f"scan{suffix}")
        return folder / f"scan{suffix}"

    return write


def _with(value: float, share: float = 0.0) -> Callable[[], NDArray[np.float32]]:
    """The scan with a value at one voxel, or at a share of them."""

    def make() -> NDArray[np.float32]:
        array = _scan().astype(np.float32)
        where = np.random.default_rng(1).uniform(size=SHAPE) < share
        where[3, 4, 5] = True
        array[where] = value
        return array

    return make


def _values() -> list[Case]:
    """Voxels that are no numbers, or all the same."""
    made: dict[str, tuple[Callable[[], NDArray[Any]], Expected]] = {
        "a NaN": (_with(NAN), "refused"),
        "half NaN": (_with(NAN, 0.5), "refused"),
        "all NaN": (_with(NAN, 2.0), "refused"),
        "an infinity": (_with(INF), "refused"),
        "a minus infinity": (_with(-INF), "refused"),
        "10^38": (_with(1e38), "either"),
        "denormal": (_with(1e-42, 2.0), "either"),
        "all 0": (lambda: np.zeros(SHAPE, np.uint8), "refused"),
        "all 5": (lambda: np.full(SHAPE, 5, np.uint8), "read"),
        "all -5": (lambda: np.full(SHAPE, -5, np.int16), "refused"),
        "all 0.1": (lambda: np.full(SHAPE, 0.1, np.float32), "read"),
        "one voxel": (lambda: np.eye(1, 5040, 777, dtype=np.uint8).reshape(SHAPE), "either"),
        "doubles of 10^300": (lambda: np.full(SHAPE, 1e300), "either"),
        "doubles": (lambda: _scan() / 7, "read"),
        "the least of 64 bits": (lambda: np.full(SHAPE, -(2**63), np.int64), "refused"),
        "the most of 64 bits": (lambda: np.full(SHAPE, 2**64 - 1, np.uint64), "either"),
        "signed bytes": (lambda: _scan().astype(np.int8), "either"),
        "32 bits": (lambda: _scan().astype(np.uint32) * 4_000_000, "read"),
        "complex": (lambda: _scan().astype(np.complex64), "refused"),
        "complex doubles": (lambda: _scan().astype(np.complex128), "refused"),
        "RGB": (lambda: np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]), "refused"),
    }
    return [Case("values", name, _saved(make), expected) for name, (make, expected) in made.items()]


def _shapes() -> list[Case]:
    """Shapes that are no volume, or a strange one."""
    shapes: dict[tuple[int, ...], Expected] = {
        (1, 1, 1): "refused", (1, 18, 14): "refused", (20, 1, 14): "refused",
        (20, 18, 1): "refused", (20, 18): "refused", (20,): "refused", (2, 2, 2): "either",
        (3, 2, 2): "either", (2, 2, 300): "read", (300, 2, 2): "read", (33, 31, 2): "read",
        (20, 18, 14, 1): "read", (20, 18, 14, 1, 1): "read", (20, 18, 14, 2): "refused",
        (20, 18, 14, 5): "refused", (20, 18, 14, 1, 3): "refused", (4, 4, 4, 2, 2, 2): "refused",
        (2, 3, 4, 300): "refused",
    }  # fmt: skip
    return [
        Case("shape", " x ".join(map(str, shape)), _saved(lambda s=shape: _scan(s)), expected)
        for shape, expected in shapes.items()
    ]


def _named(name: str | bytes) -> Write:
    def write(folder: Path, _: np.random.Generator) -> Path:
        _whole(folder / "whole.nii")
        target = folder / (name if isinstance(name, str) else os.fsdecode(name))
        content = (folder / "whole.nii").read_bytes()
        target.write_bytes(gzip.compress(content) if str(name).lower().endswith("z") else content)
        (folder / "whole.nii").unlink()
        return target

    return write


def _names() -> list[Case]:
    """Names that a file may have, however odd."""
    read = [
        "скан.nii.gz", "脳.nii", "🧠🧠.nii.gz", "a b  c.nii.gz", "-o.nii.gz", "--help.nii",
        "a'b\".nii", "%s%n{}.nii.gz", "$HOME.nii", "scan.NII.GZ", ".hidden.nii.gz",
        "a.b.c.nii.gz", f"{'n' * 248}.nii.gz", f"{'é' * 124}.nii.gz", "[red]x[bold].nii.gz",
        "e\u0301.nii.gz", "\u202egpj.nii.gz",
    ]  # fmt: skip
    refused = ["scan", "scan.Nii", "scan.nii.gz.txt", "scan.png", "scan.nii.gz.part"]
    made = [Case("name", ascii(name), _named(name), "read", whole=True) for name in read]
    made += [Case("name", ascii(name), _named(name), "either", whole=True) for name in refused]
    if sys.platform == "linux":
        odd = ["a\nb.nii.gz", "a\tb.nii.gz", "\x1b[31mred\x1b[0m.nii.gz", "a\\b.nii", "*?.nii"]
        made += [Case("name", ascii(name), _named(name), "read", whole=True) for name in odd]
        made.append(Case("name", "bytes that are not UTF-8", _named(b"a\xff\xfe.nii.gz")))
        broken = {name: _named(name) for name in ("x\ny.nii.gz", "\x1b[2Jz.nii.gz")}
        made += [
            Case("name", f"{n!a}, cut short", _halved(w), "refused") for n, w in broken.items()
        ]
        made.append(
            Case("name", "not UTF-8, cut short", _halved(_named(b"\xff.nii.gz")), "refused")
        )
    return made


def _halved(write: Write) -> Write:
    def halved(folder: Path, rng: np.random.Generator) -> Path:
        path = write(folder, rng)
        path.write_bytes(path.read_bytes()[:2000])
        return path

    return halved


def _placed(place: Callable[[Path], object], name: str = "scan.nii.gz") -> Write:
    def write(folder: Path, _: np.random.Generator) -> Path:
        place(folder / name)
        return folder / name

    return write


def _locked(path: Path) -> None:
    _whole(path)
    path.chmod(0)


def _places() -> list[Case]:
    """Paths where no file is, or none that may be read."""
    places: dict[str, Callable[[Path], object]] = {
        "nothing": lambda path: None,
        "a folder": lambda path: path.mkdir(),
        "a file as a folder": lambda path: path.parent.rmdir() or path.parent.write_text("x"),
    }
    if os.name == "posix":
        places |= {
            "no permission": _locked,
            "a link to nothing": lambda path: path.symlink_to("nothing.nii.gz"),
            "a link to itself": lambda path: path.symlink_to(path.name),
            "a pipe": os.mkfifo,
            "a device": lambda path: path.symlink_to("/dev/null"),
            "an endless device": lambda path: path.symlink_to("/dev/zero"),
        }
    made = [Case("place", name, _placed(place), "refused") for name, place in places.items()]
    nothing = _placed(lambda path: None, "n" * 300 + ".nii.gz")
    return [
        *made,
        Case("place", "a name of 307 bytes", nothing, "refused"),
    ]


def _others(rng: np.random.Generator) -> list[Case]:
    """Files of other kinds with a volume's name."""
    noise = rng.bytes(4000)
    png = b"\x89PNG\r\n\x1a\n" + noise
    contents = {
        "text": b"not an image, but long enough to hold a header\n" * 20,
        "a page of a failed download": b"<!DOCTYPE html><html><title>404</title></html>" * 20,
        "JSON": json.dumps(list(range(500))).encode(),
        "a pickle": pickle.dumps(list(range(5000))),
        "a PNG": png,
        "a ZIP": b"PK\x03\x04" + noise,
        "noise": noise,
        "zeros": bytes(8000),
        "an Analyze header": Nifti1Header(check=False).binaryblock[:344] + bytes(4) + noise,
    }
    return [
        Case(
            "other kind",
            f"{name} as {suffix}",
            _placed(_writing(content), f"scan{suffix}"),
            "refused",
        )
        for name, content in contents.items()
        for suffix in (".nii", ".nii.gz")
    ]


def _writing(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _nrrd_bytes(folder: Path, encoding: str = "gzip") -> bytes:
    lps = np.diag([-1.0, -1.0, 1.0])
    header = {
        "space": "left-posterior-superior",
        "space directions": (lps @ _affine()[:3, :3]).T,
        "space origin": lps @ _affine()[:3, 3],
        "encoding": encoding,
    }
    nrrd.write(str(folder / "whole.nrrd"), _scan(), header, index_order="F")
    content = (folder / "whole.nrrd").read_bytes()
    (folder / "whole.nrrd").unlink()
    return content


def _changed_nrrd(change: Callable[[bytes], bytes], suffix: str = ".nrrd") -> Write:
    def write(folder: Path, _: np.random.Generator) -> Path:
        path = folder / f"scan{suffix}"
        path.write_bytes(change(_nrrd_bytes(folder)))
        return path

    return write


def _field(name: str, value: str) -> Write:
    """Set a field of the header."""
    line = f"{name}: {value}".encode()
    return _changed_nrrd(lambda b: re.sub(rb"(?m)^" + name.encode() + rb": .*$", line, b, count=1))


def _nrrd(rng: np.random.Generator) -> list[Case]:
    """NRRD: cut short, with bits that turned, and with headers that lie."""
    size = "20 18 14"
    fields: list[tuple[str, str, Expected]] = [
        *(("sizes", s, "refused") for s in ("99999 99999 99999", "0 18 14", "-1 18 14", "20 18")),
        *(("sizes", s, "refused") for s in ("20 18 15", "x y z", "", "1e9 1 1", f"{size} 2")),
        *(("type", s, "refused") for s in ("block", "quadruple", "", "double")),
        *(("encoding", s, "refused") for s in ("raw", "hex", "zip", "bzip2", "")),
        *(("dimension", s, "refused") for s in ("0", "17", "-3", "three")),
        ("endian", "middle", "either"),
        ("space", "sideways", "either"),
        *(
            ("space directions", s, "refused")
            for s in ("(0,0,0) (0,1,0) (0,0,1)", "none none none")
        ),
        *(("space directions", s, "refused") for s in ("(nan,0,0) (0,1,0) (0,0,1)", "(1,0)", "x")),
        ("space origin", "(nan,0,0)", "refused"),
        ("space origin", "(1e30,0,0)", "either"),
    ]
    added = {
        "a data file elsewhere": "data file: ../../../../etc/passwd",
        "a data file of the system": "data file: /etc/passwd",
        "a data file that is not there": "data file: nothing.raw",
        "a line without a meaning": "what is this",
        "lines to skip": "line skip: 1000000",
        "bytes to skip": "byte skip: -1000000",
    }
    cuts, flips = rng.uniform(0.02, 0.98, 6), rng.uniform(0, 1, 10)
    return [
        Case("NRRD", "whole", _changed_nrrd(lambda b: b), "read", whole=True),
        Case("NRRD", "of nothing", _changed_nrrd(lambda b: b""), "refused"),
        *(Case("NRRD", f"{n} {v!r}", _field(n, v), e) for n, v, e in fields),
        *(
            Case(
                "NRRD",
                name,
                _changed_nrrd(lambda b, t=t: b.replace(b"\n\n", f"\n{t}\n\n".encode(), 1)),
            )
            for name, t in added.items()
        ),
        *(
            Case(
                "NRRD",
                f"cut to {s:.3f}",
                _changed_nrrd(lambda b, s=s: b[: int(s * len(b))]),
                "refused",
            )
            for s in cuts
        ),
        *(Case("NRRD", f"bit at {s:.4f}", _changed_nrrd(_flip_at(s))) for s in flips),
    ]


def _flip_at(share: float) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[int(share * len(content))] ^= 4
        return bytes(changed)

    return flip


def _changed_mgh(change: Callable[[bytes], bytes], suffix: str) -> Write:
    def write(folder: Path, _: np.random.Generator) -> Path:
        path = folder / f"scan{suffix}"
        nib.save(nib.MGHImage(_scan(), _affine()), path)
        path.write_bytes(change(path.read_bytes()))
        return path

    return write


def _mgh(rng: np.random.Generator) -> list[Case]:
    """MGH and MGZ: cut short, with bits that turned, and with headers that lie."""

    def put(at: int, *values: int) -> Callable[[bytes], bytes]:
        packed = struct.pack(f">{len(values)}i", *values)
        return lambda b: b[:at] + packed + b[at + len(packed) :]

    lies = {
        "10^13 voxels": put(4, 20000, 20000, 20000),
        "no voxels": put(4, 0, 0, 0),
        "-1 voxels": put(4, -1, -1, -1),
        "10^9 frames": put(16, 10**9),
        "type 7": put(20, 7),
        "type -1": put(20, -1),
        "version 9": put(0, 9),
    }
    expected: dict[str, Expected] = {"version 9": "either"}
    bomb = _changed_mgh(lambda b: gzip.compress(gzip.decompress(b) + bytes(2**27), 1), ".mgz")
    return [
        Case("MGH", "whole", _changed_mgh(lambda b: b, ".mgh"), "read", whole=True),
        Case("MGH", "whole, packed", _changed_mgh(lambda b: b, ".mgz"), "read", whole=True),
        Case("MGH", "a bomb", bomb, "refused"),
        *(
            Case("MGH", n, _changed_mgh(c, ".mgh"), expected.get(n, "refused"))
            for n, c in lies.items()
        ),
        *(
            Case(
                "MGH",
                f"{x} cut to {s:.3f}",
                _changed_mgh(lambda b, s=s: b[: int(s * len(b))], x),
                "refused",
            )
            for x in (".mgh", ".mgz")
            for s in rng.uniform(0.02, 0.9, 4)
        ),
        *(
            Case("MGH", f"bit at {s:.4f}", _changed_mgh(_flip_at(s), ".mgz"), "either")
            for s in rng.uniform(0.3, 1, 8)
        ),
    ]


def _dicom() -> list[Case]:
    """Folders of DICOM that are no series, or a damaged one."""
    spec = importlib.util.spec_from_file_location("dicoms", Path(__file__).with_name("dicoms.py"))
    assert spec is not None
    assert spec.loader is not None
    dicoms = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dicoms)
    pixels = _scan((8, 12, 10))

    def series(change: Callable[[list[Path]], object]) -> Write:
        def write(folder: Path, _: np.random.Generator) -> Path:
            change(dicoms.write_series(folder / "scan", pixels))
            return folder / "scan"

        return write

    def empty(folder: Path, _: np.random.Generator) -> Path:
        (folder / "scan").mkdir()
        return folder / "scan"

    def other(files: list[Path]) -> None:
        dicoms.write_series(files[0].parent, pixels, prefix="other", SeriesNumber=6)

    def garbage(files: list[Path]) -> None:
        files[3].write_bytes(bytes(range(256)) * 20)

    def cut(files: list[Path]) -> None:
        files[3].write_bytes(files[3].read_bytes()[:-100])

    def cut_header(files: list[Path]) -> None:
        files[3].write_bytes(files[3].read_bytes()[:200])

    return [
        Case("DICOM", "whole", series(lambda files: None), "read"),
        Case("DICOM", "an empty folder", empty, "refused"),
        Case("DICOM", "two series", series(other), "refused"),
        Case(
            "DICOM",
            "a slice is missing",
            series(lambda f: f[[p.stem for p in f].index("IM004")].unlink()),
        ),
        Case("DICOM", "one slice alone", series(lambda f: [p.unlink() for p in f[1:]]), "refused"),
        Case("DICOM", "a file of garbage", series(garbage)),
        Case("DICOM", "a file cut short", series(cut), "refused"),
        Case("DICOM", "a header cut short", series(cut_header)),
        Case("DICOM", "all empty", series(lambda f: [p.write_bytes(b"") for p in f]), "refused"),
        Case(
            "DICOM", "one file", lambda d, r: series(lambda f: None)(d, r) / "IM003.dcm", "refused"
        ),
    ]
