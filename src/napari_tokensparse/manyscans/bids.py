"""A BIDS data set in, a BIDS derivative of its segmentations out.

Names and files follow the Brain Imaging Data Structure 1.10
(https://bids-specification.readthedocs.io/en/v1.10.0/derivatives/imaging.html).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tokensparse import __version__
from napari_tokensparse.common.files import written_whole
from napari_tokensparse.common.ownership import check_free, is_ours, record, recorded
from napari_tokensparse.manyscans.cases import ManyScansError, ScanCase
from napari_tokensparse.outputs.classfiles import write_bids_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_tokensparse.model.folder import Description

NAME = "napari-tokensparse"
DERIVATIVE = Path("derivatives") / NAME
DESCRIPTION_FILE = "dataset_description.json"
VERSION = "1.10.0"
# The image that a model of one channel is given, where a session has several.
_PREFERRED = ("T1w", "T2w", "FLAIR", "PDw", "T2starw")
_SUFFIXES = (".nii.gz", ".nii")
_NO_MAGNITUDE = re.compile(r"_part-(phase|real|imag)(_|$)")
# What is here for people and for a run that goes on, and no part of BIDS.
_IGNORED = "summary.csv\n.tokensparse.json\n**/*.receipt.json\n"


def bids_scans(data_set: Path, channels: Sequence[str]) -> tuple[ScanCase, ...]:
    """Find the scans of a BIDS data set: ``sub-*/[ses-*/]anat``.

    A model of one channel is given one kind of image in each session: what its channel is called
    after, else the first there is of T1w, T2w, FLAIR, PDw and T2starw; all runs and acquisitions
    of it. A model of several is given the images that its channels are called after, where ``T1``
    is called after ``T1w`` too. Phase, real and imaginary parts are passed over.

    Parameters
    ----------
    data_set
        Its folder.
    channels
        Those of the model.

    Raises
    ------
    ManyScansError
        In one line: there are none.
    """
    if not data_set.is_dir():
        raise ManyScansError(f"{data_set}: no such folder; give a BIDS data set")
    each = (_session(folder, data_set, channels) for folder in _sessions(data_set))
    cases = [case for session in each for case in session]
    if not cases:
        wanted = ", ".join(channels) if len(channels) > 1 else ", ".join(_PREFERRED)
        raise ManyScansError(
            f"{data_set}: no scan is there; a BIDS data set has them as "
            f"sub-01/anat/sub-01_T1w.nii.gz, and this model takes {wanted}"
        )
    return tuple(cases)


def sessions_left_out(data_set: Path, channels: Sequence[str]) -> tuple[str, ...]:
    """Say of each session that has images, and none for a model, what it lacks."""
    said = []
    for folder in _sessions(data_set):
        kinds = _images(folder)
        if kinds and not _session(folder, data_set, channels):
            there = ", ".join(sorted(kinds))
            where = folder.relative_to(data_set).as_posix()
            lacking = [one for one in channels if len(channels) > 1 and not _of_kind(kinds, one)]
            why = f"has no {' and no '.join(lacking)}" if lacking else "has none that go together"
            said.append(f"{where}: left out, for it {why} (there: {there})")
    return tuple(said)


def prepare_bids(
    output: Path, data_set: Path, described: Description, *, overwrite: bool = False
) -> Path:
    """Make the derivative's folder, and write what says what it is.

    Parameters
    ----------
    output
        The folder for ``derivatives``; it may be the data set itself.
    data_set
        Whose scans are segmented.
    described
        The model.
    overwrite
        Whether files are replaced that are not as they were written.

    Returns
    -------
    Path
        ``output/derivatives/napari-tokensparse``, with ``dataset_description.json`` and
        ``dseg.tsv``.

    Raises
    ------
    ManyScansError
        In one line: it holds something else, or labels of another model.
    OwnershipError
        One of the files that say what it is was changed by hand.
    WriteError
        (an ``OSError``) It cannot be written.
    """
    folder = output.absolute() / DERIVATIVE
    said = _description(folder, data_set.absolute(), described)
    _check_ours(folder, said)
    written = [folder / name for name in (DESCRIPTION_FILE, ".bidsignore", "dseg.tsv")]
    check_free(written, recorded(folder), overwrite=overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(written[0], said)
    with written_whole(written[1]) as part:
        part.write_text(_IGNORED, "utf-8")
    write_bids_table(written[2], described.info)
    record(folder, written)
    return folder


def _sessions(data_set: Path) -> list[Path]:
    return sorted([*data_set.glob("sub-*/anat"), *data_set.glob("sub-*/ses-*/anat")])


def _images(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the images of a session by kind, then by the rest of their names."""
    images: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((s for s in _SUFFIXES if path.name.endswith(s)), None)
        if suffix is not None and path.name.startswith("sub-"):
            entities, _, kind = path.name[: -len(suffix)].rpartition("_")
            if not _NO_MAGNITUDE.search(entities):
                images.setdefault(kind, {}).setdefault(entities, path.absolute())
    return images


def _session(folder: Path, data_set: Path, channels: Sequence[str]) -> list[ScanCase]:
    images = _images(folder)
    where = folder.relative_to(data_set)
    if len(channels) > 1:
        return _of_several(images, where, channels)
    chosen = next((k for k in (*channels, *_PREFERRED) if k in images), None)
    scans = {} if chosen is None else images[chosen]
    return [ScanCase(name, path, labels=_labels(where, name)) for name, path in scans.items()]


def _of_several(
    images: dict[str, dict[str, Path]], where: Path, channels: Sequence[str]
) -> list[ScanCase]:
    each = [_of_kind(images, channel) for channel in channels]
    cases = []
    for name in (name for name in each[0] if all(name in scans for scans in each)):
        files = tuple((c, scans[name]) for c, scans in zip(channels, each, strict=True))
        cases.append(ScanCase(name, files[0][1], files, labels=_labels(where, name)))
    return cases


def _of_kind(images: dict[str, dict[str, Path]], channel: str) -> dict[str, Path]:
    """Return the images that a channel is called after: ``T1w`` for T1w, t1w or T1."""
    kinds = {kind.casefold(): scans for kind, scans in images.items()}
    name = channel.casefold()
    return kinds.get(name) or kinds.get(f"{name}w") or {}


def _labels(where: Path, name: str) -> Path:
    return where / f"{name}_dseg.nii.gz"


def _description(folder: Path, data_set: Path, described: Description) -> dict[str, Any]:
    info = described.info
    # No path of this machine: the data set is named as it lies from here.
    source = Path(os.path.relpath(data_set, folder)).as_posix()
    return {
        "Name": f"Segmentations by {info.name}",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": NAME,
                "Version": __version__,
                "Description": f"Model {info.name}, SHA-256 of its weights {info.weights_sha256}. "
                "For research only, not for diagnosis.",
            }
        ],
        "SourceDatasets": [{"URL": source}],
        "DatasetLinks": {"raw": source},
    }


def _check_ours(folder: Path, said: dict[str, Any]) -> None:
    """Refuse a folder of another program or another model; a run that goes on is welcome."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        there = json.loads((folder / DESCRIPTION_FILE).read_text("utf-8"))
        made_by = [_maker(one) for one in there["GeneratedBy"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManyScansError(
            f"{folder}: holds something else (no {DESCRIPTION_FILE} of ours); give another folder"
        ) from error
    if made_by != list(map(_maker, said["GeneratedBy"])):
        raise ManyScansError(f"{folder}: holds labels of another model; give another folder")


def _maker(one: dict[str, Any]) -> tuple[Any, Any]:
    return one["Name"], one["Description"]


def write_sidecars(
    folder: Path, data_set: Path, cases: Iterable[ScanCase], *, overwrite: bool = False
) -> list[Path]:
    """Write beside labels what they were made of, as BIDS' ``_dseg.json``.

    Returns
    -------
    list of Path
        Those that were changed by hand, and so stay unless ``overwrite``.

    Raises
    ------
    WriteError
        (an ``OSError``) One cannot be written.
    """
    known, written, kept = recorded(folder), [], []
    for case in cases:
        if case.labels is None:
            continue
        name = case.labels.name.removesuffix(".nii.gz")
        path = folder / case.labels.parent / f"{name}.json"
        if not (overwrite or is_ours(path, known)):
            kept.append(path)
            continue
        files = [file.relative_to(data_set.absolute()) for _, file in case.files]
        said = {
            "Sources": [f"bids:raw:{file.as_posix()}" for file in files],
            "Description": "Labels on the grid of the first source",
            "Resolution": "As the first source",
            "Manual": False,
        }
        _write_json(path, said)
        written.append(path)
    record(folder, written)
    return kept


def _write_json(path: Path, said: dict[str, Any]) -> None:
    with written_whole(path) as part:
        part.write_text(f"{json.dumps(said, indent=2, ensure_ascii=False)}\n", "utf-8")
