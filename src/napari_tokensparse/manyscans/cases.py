"""Which scans many scans are: those of a folder, a glob or a CSV of cases."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tokensparse.common.paths import path_here
from napari_tokensparse.common.tables import NOT_UTF8, TABLE_SUFFIXES, read_rows
from napari_tokensparse.datasets.matching import case_and_channel
from napari_tokensparse.outputs.writing import SUFFIXES as OUTPUT_SUFFIXES
from napari_tokensparse.segmenting.options import base_name
from napari_tokensparse.volumes.reading import could_be_volume, is_zarr, read_volume
from napari_tokensparse.volumes.volume import VolumeError, volume_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class ManyScansError(ValueError):
    """Scans that cannot be run together; one plain line says why."""


@dataclass(frozen=True)
class ScanCase:
    """One scan: what its labels are called after, and its file.

    Attributes
    ----------
    name
        It, a file's name.
    image
        The file, or the first one of the channels.
    channels
        Of a case with a file for each channel of the model: channel and file, in the model's order.
    labels
        Where its labels go within the folder of the results; ``<name>_labels.nii.gz`` if None.
    """

    name: str
    image: Path
    channels: tuple[tuple[str, Path], ...] = ()
    labels: Path | None = None

    @property
    def files(self) -> tuple[tuple[str, Path], ...]:
        """Channel and file of all files; the channel is empty where one file has them all."""
        return self.channels or (("", self.image),)


def is_many(source: str, output: Path) -> bool:
    """Tell whether an input means many scans: a folder, a glob or a CSV of cases.

    A folder whose output is one file is one scan, for example a DICOM series.
    """
    if Path(source).is_dir() and not is_zarr(Path(source)):
        return not output.name.lower().endswith(OUTPUT_SUFFIXES)
    return source.lower().endswith(TABLE_SUFFIXES) or (
        glob.has_magic(source) and not Path(source).exists()
    )


def list_scans(source: str, output: Path, channels: Sequence[str] = ()) -> tuple[ScanCase, ...]:
    """Find the scans of a folder, a glob or a CSV of cases.

    Parameters
    ----------
    source
        A folder, whose scans are taken: files, and folders of a DICOM series; a glob, ``**`` for
        any folders; or a CSV (TSV) with a column ``image``, or else one for each channel, paths
        from its folder, and perhaps ``name``. Its other columns are not looked at. Of a folder or
        a glob, files of one channel that are called ``case_0000``, ``case_0001`` and so on, as
        nnU-Net calls them, are one case of a model of several channels.
    output
        The folder for the labels.
    channels
        Those of the model.

    Raises
    ------
    ManyScansError
        In one line: there are none, two have one name, a case lacks a channel, or the output is
        the scans' own folder.
    """
    if source.lower().endswith(TABLE_SUFFIXES):
        cases = tuple(_listed(Path(source), channels))
    elif Path(source).is_dir():
        cases = _named(filter(_is_scan, Path(source).iterdir()))
    else:
        cases = _named(map(Path, glob.glob(source, recursive=True)))
    if len(channels) > 1 and not source.lower().endswith(TABLE_SUFFIXES):
        cases = _by_channel(cases, channels)
    if not cases:
        raise ManyScansError(_nothing(source))
    _check_names(cases)
    _check_folder(cases, output)
    return cases


def _is_scan(path: Path) -> bool:
    return path.suffix.lower() != ".img" and could_be_volume(path)


def _nothing(source: str) -> str:
    if Path(source).is_dir() and could_be_volume(Path(source)):
        return (
            f"{source}: is itself a DICOM series; name a file for its labels, for example "
            "-o labels.nii.gz"
        )
    return f"{source}: no scan is there; check the path"


def _named(images: Iterator[Path]) -> tuple[ScanCase, ...]:
    shown = sorted(p for p in images if not p.name.startswith("."))
    return tuple(ScanCase(volume_name(p), _whole_path(p)) for p in shown)


def _by_channel(cases: Sequence[ScanCase], channels: Sequence[str]) -> tuple[ScanCase, ...]:
    """Put the files of one case together where each holds one channel, as nnU-Net has them."""
    marked = [case for case in cases if case_and_channel(case.image)[1] is not None]
    if not marked or not _is_of_one_channel(marked[0].image):
        return tuple(cases)
    files: dict[Path, dict[int, Path]] = {}
    for case in marked:
        name, number = case_and_channel(case.image)
        if number is not None:
            files.setdefault(case.image.with_name(name), {})[number] = case.image
    whole = (_of_channels(path.name, of, channels) for path, of in files.items())
    return tuple(sorted((*(c for c in cases if c not in marked), *whole), key=lambda c: c.name))


def _of_channels(name: str, files: dict[int, Path], channels: Sequence[str]) -> ScanCase:
    if sorted(files) != list(range(len(channels))):
        wanted = ", ".join(f"_{n:04d} ({channel})" for n, channel in enumerate(channels))
        there = ", ".join(files[n].name for n in sorted(files))
        raise ManyScansError(
            f"{name}: the model takes {wanted}, and there is {there}; add the others"
        )
    in_order = tuple((channel, files[n]) for n, channel in enumerate(channels))
    return ScanCase(name, files[0], in_order)


def _is_of_one_channel(image: Path) -> bool:
    try:
        return len(read_volume(image, finite=False).array) == 1
    except VolumeError:  # it is said of that scan, when its turn comes
        return False


def _whole_path(path: Path) -> Path:
    """Return a path from the root, as a person sees it: a link into a store keeps its name."""
    return Path(os.path.abspath(path))


def _listed(path: Path, channels: Sequence[str]) -> Iterator[ScanCase]:
    """Read a CSV of cases."""
    try:
        there, rows = read_rows(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or NOT_UTF8
        raise ManyScansError(f"{path}: cannot be read ({reason}); give a CSV of cases") from error
    columns = _columns(path, there, channels)
    for number, row in enumerate(rows, start=2):
        missing = next((column for column in columns if not row[column]), None)
        if missing is not None:
            raise ManyScansError(f"{path}: line {number} names no {missing}")
        here = [path_here(row[column], path.parent) for column in columns]
        files = [_whole_path(path.parent / file) for file in here]
        each = () if columns == ("image",) else tuple(zip(columns, files, strict=True))
        yield ScanCase(row.get("name") or volume_name(files[0]), files[0], each)


def _columns(path: Path, there: Sequence[str], channels: Sequence[str]) -> tuple[str, ...]:
    """Return which columns of a CSV name files."""
    if "image" in there:
        return ("image",)
    several = len(channels) > 1
    if several and set(channels) <= set(there):
        return tuple(channels)
    other = f", or one for each channel: {', '.join(channels)}" if several else ""
    raise ManyScansError(f"{path}: has no column image{other}; its first line must name it")


def _check_names(cases: Sequence[ScanCase]) -> None:
    seen: dict[str, ScanCase] = {}
    for case in cases:
        if base_name(case.name) != case.name:
            raise ManyScansError(f"name {case.name!r}: must be a file's name, without a folder")
        other = seen.setdefault(case.name.casefold(), case)
        if other is not case:
            raise ManyScansError(
                f"{other.image} and {case.image}: are both called {case.name}; list them in a CSV "
                "with the columns image and name"
            )


def _check_folder(cases: Sequence[ScanCase], output: Path) -> None:
    if output.is_file() or output.name.lower().endswith(OUTPUT_SUFFIXES):
        raise ManyScansError(f"{output}: is a file; give a folder for the labels of many scans")
    places = {output.resolve(), _whole_path(output)}
    files = [file for case in cases for _, file in case.files]
    if any(places & _places(file) for file in files):
        raise ManyScansError(f"{output}: holds scans; give another folder for their labels")


def _places(file: Path) -> set[Path]:
    """Return a scan and its folder, as a person names them and as links lead to them."""
    really = file.resolve()
    return {file, file.parent, file.parent.resolve(), really, really.parent}
