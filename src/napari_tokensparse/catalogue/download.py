"""A model from an index into the user's models: whole, checked, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tokensparse.catalogue.fetching import DownloadError, fetch_file
from napari_tokensparse.catalogue.unpacking import unpack
from napari_tokensparse.common.cache import cache_folder
from napari_tokensparse.model.folder import (
    METADATA,
    ModelError,
    available_models,
    bundled_models_folder,
    is_bundle,
    user_models_folder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_tokensparse.catalogue.models import Offer


def download(offer: Offer, progress: Callable[[int], None] = lambda _: None) -> Path:
    """Put a model of an index among the user's models.

    Parameters
    ----------
    offer
        The index's entry.
    progress
        Is told how many bytes of the archive are there.

    Returns
    -------
    Path
        The model's folder.

    Raises
    ------
    DownloadError, ArchiveError, ModelError
        In one plain line: a model of this name is here already, the archive cannot be had or
        unpacked, or holds no model. Nothing is left behind, but for what came before a break.
    """
    known = available_models().get(offer.name)
    target = user_models_folder() / offer.name
    if known is not None or target.exists():
        raise DownloadError(f"model {offer.name!r}: is here already, in {known or target}")
    with _place() as folder:
        archive = fetch_file(offer.url, offer.sha256, offer.size, folder, progress)
        try:
            _install(archive, target, offer)
        finally:
            archive.unlink()
    return target


@contextmanager
def _place() -> Iterator[Path]:
    """Give the cache, where the next try goes on; where that cannot be, a folder for this one."""
    cache = downloads_folder()
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
    if os.access(cache, os.W_OK | os.X_OK):
        yield cache
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def remove(name: str) -> Path:
    """Delete one of the user's models for good.

    Raises
    ------
    ModelError
        There is no such model, or it comes with the package.
    """
    from napari_tokensparse.catalogue.models import folder_of

    folder = folder_of(name)
    if folder.parent == bundled_models_folder():
        raise ModelError(f"model {name!r}: comes with the package and stays")
    folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
    return folder


def downloads_folder() -> Path:
    """Where unfinished downloads lie; the variable ``TOKENSPARSE_CACHE`` moves it."""
    return cache_folder("downloads")


def _install(archive: Path, target: Path, offer: Offer) -> None:
    """Unpack beside the target, load the network once, and only then put the folder in place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent) as made:
        unpacked = Path(made) / offer.name
        unpacked.mkdir()
        unpack(archive, unpacked, offer.url)
        model = _model_in(unpacked, offer.url)
        _check(model, offer.url)
        os.rename(model, target)


def _model_in(unpacked: Path, name: str) -> Path:
    """Find the model: the archive's content itself, or the one folder in it."""
    if is_bundle(unpacked):
        return unpacked
    folders = [folder for folder in unpacked.iterdir() if is_bundle(folder)]
    if len(folders) != 1:
        raise DownloadError(f"{name}: holds no model folder ({METADATA.as_posix()})")
    return folders[0]


def _check(model: Path, name: str) -> None:
    from napari_tokensparse.model.bundle import read_bundle

    try:
        read_bundle(model)
    except ModelError as error:
        said = str(error).replace(f"{model}{os.sep}", "").replace(str(model), "the folder")
        raise ModelError(f"{name}: the model in it cannot be used – {said}") from error
