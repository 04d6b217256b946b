"""Loading a model by name, from a model folder, or from the authors' checkpoint folder."""

from __future__ import annotations

import colorsys
import json
import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_tokensparse.model.bundle import load_weights, read_bundle
from napari_tokensparse.model.config import DecoderName, SCDConfig
from napari_tokensparse.model.folder import ModelError, available_models, is_bundle
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.scd import SCD

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from torch import Tensor

AUTHORS_CONFIG = "config.json"
AUTHORS_WEIGHTS = "best_model.pth.tar"


def load_model(source: str | os.PathLike[str], device: str | torch.device = "cpu") -> SCD:
    """Load a trained network, in evaluation mode.

    Parameters
    ----------
    source
        Name of a bundled or user model, a model folder, or a folder with the authors'
        ``config.json`` and ``best_model.pth.tar``.
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
    folder = available_models().get(str(source), Path(source))
    if is_bundle(folder):
        return read_bundle(folder).to(device)
    if (folder / AUTHORS_CONFIG).is_file():
        return _read_authors(folder).to(device)
    names = ", ".join(available_models())
    raise ModelError(
        f"model {str(source)!r}: neither a known name ({names}) nor a model folder "
        "(configs/metadata.json) nor an authors' checkpoint folder (config.json)"
    )


# The authors' names on the left, ours on the right.
_DECODERS: dict[str, DecoderName] = {
    "UNETR_decoder": "unetr",
    "UNETRx8_decoder": "unetr-x8",
    "UNETRx8_decoderv2": "unetr-x8-v2",
}
_RENAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^module\.", ""),
    (r"^encoder\.patch_embed\.proj\.", "encoder.patch_embed."),
    (r"^encoder\.score_predictor_list\.(\d+)\.in_mlp\.0\.", r"encoder.stages.\1.predictor.norm."),
    (r"^encoder\.score_predictor_list\.(\d+)\.in_mlp\.1\.", r"encoder.stages.\1.predictor.embed."),
    (r"^encoder\.score_predictor_list\.(\d+)\.out_mlp\.", r"encoder.stages.\1.predictor.head."),
    (r"^encoder\.mid_norm_list\.(\d+)\.", r"encoder.stages.\1.pruned_norm."),
    (r"^completion_net\.pre_linear_list\.", "completion.source_linears."),
    (r"^completion_net\.completion\.layer_tokens\.", "completion.layer_tokens."),
    (r"^completion_net\.", "completion."),
    (r"^decoder\.encoder(\d+)\.", lambda m: f"decoder.skips.{int(m[1]) - 1}."),
    (r"^decoder\.decoder(\d+)\.", lambda m: f"decoder.ups.{int(m[1]) - 2}."),
)
# Buffers that hold nothing learned: a mask of ones and the fixed position table.
_NOT_LEARNED = ("encoder.policy", "completion_net.completion.pos_embed")
# Their training loop saves its metric as a numpy scalar, under numpy 1's name or numpy 2's.
_SCALAR = np.float64(0.0).__reduce__()[0]
_NUMPY_SCALAR: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64)),
]


def _read_authors(folder: Path) -> SCD:
    try:
        config = _authors_config(json.loads((folder / AUTHORS_CONFIG).read_text("utf-8")))
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{folder / AUTHORS_CONFIG}: cannot be used ({reason})") from error
    model = SCD(config, _authors_info(folder.name, config))
    load_weights(model, _authors_weights(folder / AUTHORS_WEIGHTS), str(folder))
    return model.eval()


def _authors_config(arguments: Mapping[str, Any]) -> SCDConfig:
    stages = tuple(int(n) for n in str(arguments["tp_loc"]).split("-"))
    expected = {"score_predictor": "MlpPredictor", "completion_net": "FusionNet"}
    for key, value in expected.items():
        if arguments[key] != value:
            raise ValueError(f"{key} {arguments[key]!r}: only {value!r} can be loaded")
    if arguments["dec_arch"] not in _DECODERS:
        raise ValueError(f"dec_arch {arguments['dec_arch']!r}: one of {', '.join(_DECODERS)}")
    return SCDConfig(
        in_channels=arguments["in_chans"],
        out_channels=arguments["num_classes"],
        window=(arguments["roi_x"], arguments["roi_y"], arguments["roi_z"]),
        patch_size=arguments["patch_size"],
        embed_dim=arguments["encoder_embed_dim"],
        depth=arguments["encoder_depth"],
        num_heads=arguments["encoder_num_heads"],
        drop_path=arguments["drop_path"],
        prune_after=stages,
        keep_ratio=(1 - arguments["tp_ratio"],) * len(stages),
        perturbation=arguments["perturbation"],
        tau=arguments["tp_tau"],
        completion_dim=arguments["compl_embed_dim"],
        completion_depth=arguments["compl_depth"],
        completion_heads=arguments["compl_num_heads"],
        decoder=_DECODERS[arguments["dec_arch"]],
        feature_size=arguments["feature_size"],
    )


def _authors_info(name: str, config: SCDConfig) -> ModelInfo:
    """Describe a checkpoint that says nothing of its data: numbered channels and classes."""
    return ModelInfo(
        name=name,
        channels=tuple(f"channel {n + 1}" for n in range(config.in_channels)),
        classes=tuple(
            LabelClass(value=n, name=f"class {n}", color=_colour(n))
            for n in range(1, config.out_channels)
        ),
        preprocessing=({"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},),
    )


def _colour(index: int) -> tuple[int, int, int]:
    """Tell classes apart: the golden angle round the colour circle."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 0.7, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _authors_weights(path: Path) -> dict[str, Tensor]:
    try:
        with torch.serialization.safe_globals(_NUMPY_SCALAR):
            saved = torch.load(path, "cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path}: not a checkpoint of the authors' code ({reason})") from error
    state = saved.get("state_dict") if isinstance(saved, dict) else None
    if not isinstance(state, dict) or not all(torch.is_tensor(v) for v in state.values()):
        raise ModelError(f"{path}: not a checkpoint of the authors' code (no state_dict)")
    return {
        _renamed(k): v for k, v in state.items() if k.removeprefix("module.") not in _NOT_LEARNED
    }


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name
