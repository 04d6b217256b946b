"""A copy of a model folder that ``monai.bundle.load`` takes: its weights as ``model.pt`` too.

MONAI's ``load`` reads weights by ``torch.load`` only, before it looks at the configs, and sets no
``bundle_root``: a folder with safetensors alone runs by ``monai.bundle.run`` and
``ConfigWorkflow``, but not by ``load``. The copy is about twice as large.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_tokensparse.common.files import write_error
from napari_tokensparse.model.bundle import LogitsOnly, read_bundle
from napari_tokensparse.model.config import SCDConfig
from napari_tokensparse.model.folder import INFERENCE, OUR_KEY, ModelError
from napari_tokensparse.model.scd import SCD

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKPOINT = Path("models/model.pt")
_HERE = f"{OUR_KEY}.model.monaicopy"


def export_for_monai(folder: Path, target: Path) -> Path:
    """Copy a model folder, with its weights in the form that ``monai.bundle.load`` reads.

    Parameters
    ----------
    folder
        A model folder in bundle form.
    target
        The copy; must not be there.

    Returns
    -------
    Path
        The copy.

    Raises
    ------
    ModelError
        The folder holds no usable model, or the target is there.
    WriteError
        (an ``OSError``) The copy cannot be written; nothing is left of it.
    """
    if target.exists():
        raise ModelError(f"{target}: is there already; name a folder that is not")
    network = LogitsOnly(read_bundle(folder))
    inference = json.loads((folder / INFERENCE).read_text("utf-8"))
    inference["imports"].append(f"$from {_HERE} import filled")
    inference["network_def"] = {
        "_target_": f"{_HERE}.unfilled_network",
        "described": f"$@_meta_['{OUR_KEY}']",
    }
    weights = f"@bundle_root + '/{CHECKPOINT.as_posix()}'"
    inference["network"] = f"$filled(@network_def, {weights}).to(@device)"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent) as made:
            copy = Path(made) / target.name
            shutil.copytree(folder, copy)
            text = json.dumps(inference, indent=2, ensure_ascii=False)
            (copy / INFERENCE).write_text(f"{text}\n", "utf-8")
            torch.save(network.state_dict(), copy / CHECKPOINT)
            os.rename(copy, target)
    except (OSError, RuntimeError) as error:  # torch tells of a full disk by the latter
        raise write_error(target, error) from error
    return target


def unfilled_network(described: Mapping[str, Any]) -> LogitsOnly:
    """Build the network that a metadata file describes, for MONAI to fill with weights."""
    return LogitsOnly(SCD(SCDConfig(**described["network"]))).eval()


def filled(network: LogitsOnly, checkpoint: str) -> LogitsOnly:
    """Fill a network with the weights of ``model.pt``, all of them."""
    network.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    return network.eval().requires_grad_(False)
