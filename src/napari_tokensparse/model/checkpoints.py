"""Loading a model by name, from a model folder, or from the authors' checkpoint folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tokensparse.model.authors import read_authors_folder
from napari_tokensparse.model.bundle import read_bundle
from napari_tokensparse.model.folder import (
    AUTHORS_CONFIG,
    ModelError,
    available_models,
    did_you_mean,
    is_bundle,
)
from napari_tokensparse.model.hub import model_folder

if TYPE_CHECKING:
    import os

    import torch

    from napari_tokensparse.model.scd import SCD


def load_model(source: str | os.PathLike[str], device: str | torch.device = "cpu") -> SCD:
    """Load a trained network, in evaluation mode.

    Parameters
    ----------
    source
        Name of a bundled or user model, a model folder, ``hf://owner/repo`` (`model_folder`), or a
        folder with the authors' ``config.json`` and ``best_model.pth.tar``.
    device
        Where to put it.

    Raises
    ------
    ModelError
        (a ``ValueError``) There is no such model, or its files do not fit.

    Examples
    --------
    >>> model = load_model("brain-structures")
    >>> model.info.channels
    ('MRI of any contrast',)
    """
    folder = model_folder(source)
    if is_bundle(folder):
        return read_bundle(folder).to(device)
    if (folder / AUTHORS_CONFIG).is_file():
        return read_authors_folder(folder).to(device)
    known = available_models()
    raise ModelError(
        f"model {str(source)!r}: neither a known name ({', '.join(known)}) nor a model folder "
        "(configs/metadata.json) nor an authors' checkpoint folder (config.json)"
        f"{did_you_mean(str(source), known)}"
    )
