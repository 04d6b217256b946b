"""The files of a training run, in its model folder, and whose that folder is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tokensparse.common.ownership import (
    RECORD,
    OwnershipError,
    check_place,
    is_ours,
    recorded,
)
from napari_tokensparse.model.folder import BUNDLE_FILES
from napari_tokensparse.training.runconfig import RunConfig

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "training"
RUN_FILE = "run.yaml"
EVENTS_FILE = "events.jsonl"
PREVIEW_FILE = "preview.nii.gz"
STATE_FILE = "state.pt"
BEST_FILE = "best.pt"
CACHE_FOLDER = "cache"
_OWN = {RUN_FILE, EVENTS_FILE, PREVIEW_FILE, STATE_FILE, BEST_FILE, CACHE_FOLDER, RECORD}


def check_model_folder(folder: Path, *, resume: bool) -> None:
    """Refuse to train into a folder that holds something else, or that was changed by hand.

    Parameters
    ----------
    folder
        To train into: not there yet, empty, with the beginning of a run, or on a resume its own.
    resume
        Whether the run in it goes on.

    Raises
    ------
    OwnershipError
        In one line: what is there.
    """
    check_place(folder if folder.is_dir() else folder.parent)
    if resume:
        _check_unchanged(folder)
    elif folder.exists() and not folder.is_dir():
        raise OwnershipError(f"{folder}: is a file; name a folder for the model")
    elif folder.is_dir():
        _check_new(folder)


def _check_new(folder: Path) -> None:
    others = sorted(path.name for path in folder.iterdir() if path.name != FOLDER)
    run = folder / FOLDER
    if not others and run.is_dir():
        others = sorted(f"{FOLDER}/{p.name}" for p in run.iterdir() if p.name not in _OWN)
    if not others and run.exists() and not _is_run(run):
        others = [FOLDER]
    if others:
        raise OwnershipError(
            f"{folder}: holds something else already ({', '.join(others[:3])}); give a folder that "
            "is new or empty"
        )


def _is_run(run: Path) -> bool:
    """Whether a folder is empty, or holds the beginning of a run of ours."""
    if not run.is_dir():
        return False
    if not any(run.iterdir()):
        return True
    try:
        RunConfig.read(run / RUN_FILE)
    except ValueError:
        return False
    return True


def _check_unchanged(folder: Path) -> None:
    """Refuse where the model was changed by hand since its run wrote it, where that is known."""
    written = recorded(folder / FOLDER)
    for path in (folder / name for name in BUNDLE_FILES):
        if written and not is_ours(path, written):
            raise OwnershipError(
                f"{path}: was changed by hand, and the run would write it anew; move it elsewhere"
            )
