"""Whose a file is: no output takes the place of an input, or of a file that is not as we wrote it.

What was written is known by its SHA-256. A receipt holds that of a segmentation's files; a folder
of results has `RECORD` in it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tokensparse.common.files import file_sha256, written_whole
from napari_tokensparse.common.untrusted import json_object

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

RECORD = ".tokensparse.json"
"""In a folder of results: the names and hashes of the files that were written there."""


class OwnershipError(ValueError):
    """An output that would take the place of a person's file; one plain line names it."""


def check_apart(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse outputs that are inputs, by whatever link, or lie in the folder of a scan.

    Parameters
    ----------
    outputs
        Files to write, and folders to write them to.
    inputs
        Files that are read, and folders of DICOM series; those that are not there are left out.

    Raises
    ------
    OwnershipError
        There is one. Two outputs at one place are refused as well.
    """
    outputs, inputs = list(outputs), [path for path in inputs if path.exists()]
    for path, count in Counter(map(os.path.abspath, outputs)).items():
        if count > 1:
            raise OwnershipError(f"{path}: is named for two outputs; give each a name of its own")
    for output in outputs:
        for given in inputs:
            _check_pair(output, given)


def _check_pair(output: Path, given: Path) -> None:
    if output.exists() and not output.is_dir() and _is_one_of(output, given):
        raise OwnershipError(
            f"{output}: is the scan or another input itself; name another file for the results"
        )
    if given.is_dir() and _lies_in(output.resolve(), given.resolve()):
        raise OwnershipError(
            f"{output}: lies in the folder of the scan, {given}; choose another folder"
        )


def _lies_in(output: Path, scan: Path) -> bool:
    """Whether an output is a folder of slices, or in it; or anywhere in a zarr store but labels."""
    if scan.name.lower().endswith(".zarr") and output != scan:
        return output.is_relative_to(scan) and output.parent != scan / "labels"
    return scan in (output, output.parent)


def _is_one_of(output: Path, given: Path) -> bool:
    """Whether a file is another one, or one of a folder's, or the other half of a pair."""
    if given.is_dir():
        return any(each.is_file() and output.samefile(each) for each in given.iterdir())
    halves = [given.with_suffix(suffix) for suffix in (".hdr", ".img")]
    both = halves if given.suffix.lower() in (".hdr", ".img") else [given]
    return any(each.exists() and output.samefile(each) for each in both)


def check_free(
    outputs: Iterable[Path],
    written: Collection[str],
    *,
    overwrite: bool = False,
    mend: str = "replace it with --overwrite",
) -> None:
    """Refuse to replace files that are not as they were written by us.

    Parameters
    ----------
    outputs
        Files to write.
    written
        SHA-256 of what was written there earlier.
    overwrite
        Whether a person wants them replaced.
    mend
        What a person can do other than choose another name.

    Raises
    ------
    OwnershipError
        There is one; a folder is never replaced.
    """
    for path in outputs:
        if path.is_dir():
            raise OwnershipError(f"{path}: is a folder; move it away, or choose another place")
        if not overwrite and not is_ours(path, written):
            raise OwnershipError(
                f"{path}: is there already, and not as tokensparse wrote it; choose another name, "
                f"or {mend}"
            )


def is_ours(path: Path, written: Collection[str]) -> bool:
    """Whether a file may be replaced: it is not there, or as we wrote it."""
    if not os.path.lexists(path):
        return True
    try:
        return path.is_file() and file_sha256(path) in written
    except OSError:
        return False


def recorded(folder: Path) -> frozenset[str]:
    """Return the hashes of what was written to a folder; none where its record is not readable."""
    try:
        files = json_object(folder / RECORD)["files"]
        return frozenset(map(str, files.values()))
    except (OSError, ValueError, KeyError, AttributeError):
        return frozenset()


def record(folder: Path, paths: Sequence[Path]) -> None:
    """Note in a folder of results what was written there; what is noted already stays.

    Raises
    ------
    WriteError
        (an ``OSError``) The note cannot be written.
    """
    try:
        known = dict(json_object(folder / RECORD)["files"])
    except (OSError, ValueError, KeyError, TypeError):
        known = {}
    known |= {Path(os.path.relpath(path, folder)).as_posix(): file_sha256(path) for path in paths}
    said = {"written by": "napari-tokensparse", "files": known}
    with written_whole(folder / RECORD) as part:
        part.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def check_place(folder: Path) -> None:
    """Refuse a folder that could not be made or written to, before the work rather than after it.

    Raises
    ------
    OwnershipError
        It, or one that it would lie in, is a file or may not be written to.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise OwnershipError(f"{there}: is a file; name a folder for the results")
    if not os.access(there, os.W_OK):
        raise OwnershipError(f"{there}: may not be written to; choose another folder")


def check_results(
    folder: Path, names: Iterable[str], inputs: Iterable[Path], *, overwrite: bool = False
) -> list[Path]:
    """Refuse a folder of results where one of them would replace a person's file.

    Parameters
    ----------
    folder
        Which may not be there yet.
    names
        Of the files to write.
    inputs
        What is read.
    overwrite
        As for `check_free`.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    OwnershipError
        In one line: which, and why.
    """
    paths = [folder / name for name in names]
    check_apart([folder, *paths], inputs)
    check_place(folder)
    check_free(paths, recorded(folder), overwrite=overwrite)
    return paths
