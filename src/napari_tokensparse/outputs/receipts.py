"""Receipts: what a segmentation was made from, with what and how, so that it can be repeated.

A receipt holds names without their folders and no date: a path may name a patient. Nothing of a
scan's header is in it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_tokensparse.common.files import file_sha256
from napari_tokensparse.common.tables import write_json
from napari_tokensparse.common.untrusted import json_object, one_line
from napari_tokensparse.outputs.classresults import counted
from napari_tokensparse.outputs.hashes import hash_of, labels_hash, slabs
from napari_tokensparse.outputs.omezarr import image_of
from napari_tokensparse.outputs.writing import beside, output_stem
from napari_tokensparse.segmenting.concerns import concerns
from napari_tokensparse.segmenting.options import BaseName, Options, command_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.result import Segmentation
    from napari_tokensparse.volumes.volume import Volume

SUFFIX = ".receipt.json"
RESEARCH_ONLY = "For research only, not for diagnosis."
_PACKAGES = ("torch", "monai", "numpy", "nibabel")
_OF_BACKENDS = {"openvino": ("openvino",), "int8": ("openvino", "nncf")}


class ReceiptError(ValueError):
    """A receipt that cannot be read or repeated; one plain line says why."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputScan(_Frozen):
    """What was segmented.

    Attributes
    ----------
    name : str
        Of the file or folder, or of the napari layer.
    sha256 : str or None
        Hash of its content (`hash_of`); None for a layer that no file holds.
    channel : str
        Which of the model's channels it was, where it was not all of them.
    """

    name: BaseName
    sha256: str | None
    channel: str = ""


class ModelUsed(_Frozen):
    """A model: its name, and hashes of its weights and of all that it says of itself."""

    name: str
    weights_sha256: str
    settings_sha256: str


class OutputLabels(_Frozen):
    """The labels.

    Attributes
    ----------
    name, sha256 : str or None
        File and its hash; None where they were not written.
    labels_sha256 : str
        Hash of the array, whatever the file's format (`labels_hash`).
    shape : tuple of int
        Voxels along (i, j, k).
    """

    name: BaseName | None
    sha256: str | None
    labels_sha256: str
    shape: tuple[int, int, int]


class FileBeside(_Frozen):
    """A file that was written with the labels: names of classes, a table, a map, a mask."""

    name: BaseName
    sha256: str


class ClassVolume(_Frozen):
    """How much of a class there is."""

    value: int
    name: str
    voxels: int
    ml: float


class TokenFigures(_Frozen):
    """Windows and tokens of the run, as in `napari_tokensparse.segmenting.result.Stats`."""

    windows: int
    skipped: int
    tokens_per_stage: tuple[int, ...]
    tokens: dict[str, int]


class Machine(_Frozen):
    """Where and how it was run; whose machine it is, is not told."""

    device: str
    device_name: str
    backend: str
    threads: int
    system: str


class Receipt(_Frozen):
    """All about one segmentation.

    Attributes
    ----------
    purpose : str
        That it is for research only.
    format : int
        Of the receipt.
    command : str
        The command line that asks for the same, with names in place of paths.
    inputs, model, options, output, classes, tokens, machine
        See their classes.
    stripper : ModelUsed or None
        The other model by whose labels a whole head was stripped of its skull; None where none was.
    seconds : dict
        Per part of the run, and ``total``.
    versions : dict
        Of this package, what it computes with, and Python.
    files : tuple of FileBeside
        What else was written of the run. A file that is not as it says is a person's by now.
    warnings, notes : tuple of str
        What speaks against using this model on this scan; what a person should know besides.
    """

    purpose: str = RESEARCH_ONLY
    format: Literal[1] = 1
    command: str
    inputs: Annotated[tuple[InputScan, ...], Field(min_length=1)]
    model: ModelUsed
    stripper: ModelUsed | None = None
    options: Options
    output: OutputLabels
    classes: tuple[ClassVolume, ...]
    tokens: TokenFigures
    seconds: dict[str, float]
    machine: Machine
    versions: dict[str, str]
    files: tuple[FileBeside, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A finished run: what was segmented, with what and how, and what that gave."""

    volume: Volume
    network: SCD
    options: Options
    result: Segmentation


def receipt_of(
    run: FinishedRun,
    inputs: Sequence[InputScan],
    output: Path | None,
    beside: Sequence[Path] = (),
) -> Receipt:
    """Write down a finished run.

    Parameters
    ----------
    run
        It.
    inputs
        What was segmented (`input_scan`).
    output
        The labels file, which is written already; None where the labels are in no file.
    beside
        What else was written of the run.
    """
    info, stats = run.network.info, run.result.stats
    files = [_scan_file(scan) for scan in inputs]
    scans = [(scan.channel, file) for scan, (file, _) in zip(inputs, files, strict=True)]
    unsaved = [note for _, notes in files for note in notes]
    name = f"{output_stem(files[0][0])}_labels.nii.gz" if output is None else _output_name(output)
    return Receipt(
        command=command_line(run.options, scans, name, info),
        inputs=tuple(inputs),
        model=model_used(run.network.config, info),
        stripper=_stripper_used(run),
        options=run.options,
        output=_output(run.result.labels, output),
        classes=class_volumes(run.result, run.volume, info),
        tokens=TokenFigures(
            windows=stats.windows,
            skipped=stats.skipped,
            tokens_per_stage=stats.tokens_per_stage,
            tokens=stats.tokens,
        ),
        seconds={part: round(seconds, 3) for part, seconds in stats.seconds.items()},
        machine=_machine(run.network, stats.backend),
        versions=versions(stats.backend),
        files=tuple(FileBeside(name=path.name, sha256=file_sha256(path)) for path in beside),
        warnings=concerns(run.volume, info, run.options.strip),
        notes=(*run.volume.notes, *stats.notes, *unsaved),
    )


def receipt_path(output: Path) -> Path:
    """Return where the receipt of a labels file lies: ``labels.receipt.json`` beside it."""
    return beside(output, SUFFIX)


def _output_name(output: Path) -> str:
    """Return what a command calls labels: within an OME-Zarr image, by the image as well."""
    image = image_of(output)
    return output.name if image is None else f"{image.name}/labels/{output.name}"


def write_receipt(path: Path, receipt: Receipt) -> Path:
    """Write a receipt as JSON.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    # Without a stripper it is read by versions that know none.
    left_out = {"stripper"} if receipt.stripper is None else None
    return write_json(path, receipt.model_dump(mode="json", exclude=left_out))


def read_receipt(path: Path) -> Receipt:
    """Read a receipt.

    Raises
    ------
    ReceiptError
        In one line: the file cannot be read, or is no receipt.
    """
    try:
        return Receipt(**json_object(path))
    except OSError as error:
        raise ReceiptError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise ReceiptError(f"{path}: is not a receipt ({_first(one_line(error))})") from error
    except (TypeError, ValueError) as error:
        raise ReceiptError(f"{path}: is not a receipt ({one_line(error)})") from error


def input_scan(path: Path, channel: str = "") -> InputScan:
    """Name and hash a file, or a folder of files, that was segmented.

    A link into a store is named as the person's path says, not by the store's key.
    """
    return InputScan(name=Path(os.path.abspath(path)).name, sha256=hash_of(path), channel=channel)


def model_used(config: SCDConfig, info: ModelInfo) -> ModelUsed:
    """Name a model; one that was trained on, or whose preprocessing was changed, is another."""
    # Without defaults: a version that knows one more setting finds the same hash. What scans a
    # model expects changes no label.
    settings = "".join(
        said.model_dump_json(exclude_defaults=True, exclude={"expects"}) for said in (config, info)
    )
    return ModelUsed(
        name=info.name,
        weights_sha256=info.weights_sha256,
        settings_sha256=hashlib.sha256(settings.encode()).hexdigest(),
    )


def _stripper_used(run: FinishedRun) -> ModelUsed | None:
    if "strip" not in run.result.stats.seconds:
        return None
    from napari_tokensparse.segmenting.stripping import stripper_of  # a receipt is read without it

    stripper = stripper_of(run.network)
    return None if stripper is run.network else model_used(stripper.config, stripper.info)


def class_volumes(result: Segmentation, volume: Volume, info: ModelInfo) -> tuple[ClassVolume, ...]:
    """Measure every class; of regions that may overlap, each has all its voxels."""
    voxel_ml = volume.voxel_mm3 / 1000
    if result.regions is None:
        counts = _counts(result.labels, 1 + max(c.value for c in info.classes))
        voxels = [int(counts[c.value]) for c in info.classes]
    else:
        voxels = [int(np.count_nonzero(mask)) for mask in result.regions]
    return tuple(
        ClassVolume(value=c.value, name=c.name, voxels=n, ml=round(n * voxel_ml, 6))
        for c, n in zip(info.classes, voxels, strict=True)
    )


def versions(backend: str = "plain") -> dict[str, str]:
    """Return the versions that a result may depend on; reading them imports nothing."""
    import platform

    from napari_tokensparse import __version__

    packages = (*_PACKAGES, *_OF_BACKENDS.get(backend, ()))
    return {
        "napari-tokensparse": __version__,
        **{name: own for name in packages if (own := _version(name)) is not None},
        "python": platform.python_version(),
    }


def _scan_file(scan: InputScan) -> tuple[str, list[str]]:
    """Return the file that a command names, and what to do first where it is not there yet."""
    if scan.sha256 is not None:
        return scan.name, []
    file = f"{scan.name}.nii.gz"
    note = f"the scan was the napari layer {scan.name!r}, as no file of our reader holds it"
    return file, [f"{note}: save it as {file} before the command is run"]


def _output(labels: NDArray[np.unsignedinteger], path: Path | None) -> OutputLabels:
    i, j, k = labels.shape
    return OutputLabels(
        name=None if path is None else path.name,
        sha256=None if path is None else hash_of(path),
        labels_sha256=labels_hash(labels),
        shape=(i, j, k),
    )


def _machine(network: SCD, backend: str) -> Machine:
    import torch

    from napari_tokensparse.compute.machine import describe_machine

    said, device = describe_machine(), next(network.parameters()).device
    gpu = device.type == "cuda"
    return Machine(
        device=str(device),
        device_name=torch.cuda.get_device_name(device) if gpu else str(said["cpu"]),
        backend=backend,
        threads=torch.get_num_threads(),
        system=str(said["os"]),
    )


def _counts(labels: NDArray[np.unsignedinteger], length: int) -> NDArray[np.int64]:
    counts = np.zeros(length, np.int64)
    for rows in slabs(len(labels)):  # bincount makes 8 bytes of each voxel
        counts += counted(labels[rows].ravel(), length)
    return counts


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _first(text: str) -> str:
    return text.split(";", maxsplit=1)[0]
