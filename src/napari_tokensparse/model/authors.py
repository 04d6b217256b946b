"""The authors' checkpoints: their argument names and parameter names, and ours.

A checkpoint is a ``.pth.tar`` with a ``state_dict``; its config is the YAML or JSON of their
arguments. Nothing is unpickled beyond tensors and numpy scalars.
"""

from __future__ import annotations

import colorsys
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_tokensparse.common.files import file_sha256
from napari_tokensparse.common.ownership import check_apart, check_free
from napari_tokensparse.common.untrusted import yaml_mapping, yaml_value
from napari_tokensparse.model.bundle import load_weights, write_bundle
from napari_tokensparse.model.config import (
    CompletionName,
    DecoderName,
    PredictorName,
    SCDConfig,
)
from napari_tokensparse.model.expected import HOUNSFIELD, STRIPPED_MR
from napari_tokensparse.model.folder import (
    AUTHORS_CONFIG,
    BUNDLE_FILES,
    ModelError,
    check_weights_size,
    user_models_folder,
)
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.pickled import PickledError, read_pickled
from napari_tokensparse.model.scd import SCD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

WEIGHTS_FILE = "best_model.pth.tar"

_DECODERS: dict[str, DecoderName] = {
    "UNETR_decoder": "unetr",
    "UNETRx8_decoder": "unetr-x8",
    "UNETRx8_decoderv2": "unetr-x8-v2",
}
_PREDICTORS: dict[str, PredictorName] = {"MlpPredictor": "mlp", "AttPredictor": "attention"}
_COMPLETIONS: dict[str, CompletionName] = {
    "FusionNet": "mta",
    "FusionNetV2": "mta-no-linear",
    "CompletionNet": "mask-token",
}
_RENAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^module\.", ""),
    (r"^encoder\.patch_embed\.proj\.", "encoder.patch_embed."),
    (r"^encoder\.score_predictor_list\.(\d+)\.in_mlp\.0\.", r"encoder.stages.\1.predictor.norm."),
    (r"^encoder\.score_predictor_list\.(\d+)\.in_mlp\.1\.", r"encoder.stages.\1.predictor.embed."),
    (r"^encoder\.score_predictor_list\.(\d+)\.out_mlp\.", r"encoder.stages.\1.predictor.head."),
    (r"^encoder\.score_predictor_list\.(\d+)\.", r"encoder.stages.\1.predictor."),
    (r"^encoder\.mid_norm_list\.(\d+)\.", r"encoder.stages.\1.pruned_norm."),
    (r"^completion_net\.pre_linear_list\.", "completion.source_linears."),
    (r"^completion_net\.completion\.layer_tokens\.", "completion.layer_tokens."),
    (r"^completion_net\.mask_complection\.", "completion."),
    (r"^completion_net\.", "completion."),
    (r"^decoder\.encoder(\d+)\.", lambda m: f"decoder.skips.{int(m[1]) - 1}."),
    (r"^decoder\.decoder(\d+)\.", lambda m: f"decoder.ups.{int(m[1]) - 2}."),
)
# Buffers that hold nothing learned: a mask of ones and the fixed position table.
_NOT_LEARNED = (
    "encoder.policy",
    "completion_net.completion.pos_embed",
    "completion_net.mask_complection.pos_embed",
)
_LATER_PREDICTOR = re.compile(r"encoder\.stages\.[1-9]\d*\.predictor\.")
_OUTPUT_BIAS = "decoder.out.conv.conv.bias"
# Their training loop saves its metric as a numpy scalar, under numpy 1's name or numpy 2's.
_SCALAR = np.float64(0.0).__reduce__()[0]
_NUMPY_SCALAR: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64)),
]

# What the authors' code does with each data set; the organs' colours follow the golden angle.
_BTCV = (
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "portal and splenic veins",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
)
_BRATS_CHANNELS = ("FLAIR", "T1w", "T1gd", "T2w")


def read_authors_folder(folder: Path) -> SCD:
    """Load a folder with ``config.json`` and ``best_model.pth.tar``, in evaluation mode.

    Raises
    ------
    ModelError
        A file is missing or does not fit; the line names it.
    """
    return read_authors(folder / WEIGHTS_FILE, folder / AUTHORS_CONFIG, name=folder.name)


def read_authors(
    checkpoint: Path, config: Path, overrides: Sequence[str] = (), name: str = ""
) -> SCD:
    """Load a checkpoint of the authors' code, in evaluation mode.

    Parameters
    ----------
    checkpoint
        Their ``.pth.tar``.
    config
        Their arguments, YAML or JSON.
    overrides
        ``KEY=VALUE`` each, for what their command line changed.
    name
        What to call the model; the checkpoint's folder if empty.

    Raises
    ------
    ModelError
        (a ``ValueError``) A file or an argument cannot be used; parameters that do not fit are
        listed by name.
    """
    weights = _read_weights(checkpoint)
    arguments = _read_arguments(config, overrides)
    try:
        ours = _config(arguments, weights)
        check_weights_size(checkpoint, ours)
        info = _info(name or _folder_name(checkpoint), arguments, ours)
    except KeyError as error:
        raise ModelError(f"{config}: says nothing of {error}; give it with --set") from error
    except (TypeError, ValueError) as error:
        raise ModelError(f"{config}: cannot be used ({' '.join(str(error).split())})") from error
    if ours.share_predictor:  # theirs saves a predictor per stage and uses the first
        weights = {k: v for k, v in weights.items() if not _LATER_PREDICTOR.match(k)}
    model = SCD(ours, info.model_copy(update={"weights_sha256": file_sha256(checkpoint)}))
    load_weights(model, weights, str(checkpoint))
    return model.eval()


def import_checkpoint(
    checkpoint: Path,
    config: Path,
    folder: Path | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Turn a checkpoint of the authors' code into a model folder, and return the folder.

    The parameters are those of `read_authors`; ``folder`` is by default among the user's models,
    named like the checkpoint's folder. Files of another model in it are refused, unless
    ``overwrite`` is given; the checkpoint and its config are never replaced.
    """
    target = folder or user_models_folder() / _folder_name(checkpoint)
    paths = [target / name for name in BUNDLE_FILES]
    check_apart(paths, [checkpoint, config])
    check_free(paths, (), overwrite=overwrite)
    model = read_authors(checkpoint, config, overrides, target.name)
    write_bundle(target, model, _METADATA, _CARD.format(name=target.name))
    return target


def _folder_name(checkpoint: Path) -> str:
    """Name a checkpoint's folder as its path does, wherever links lead."""
    return checkpoint.absolute().parent.name


def _read_arguments(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    try:
        arguments = yaml_mapping(path, "names and values of arguments")  # JSON is YAML, too
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ModelError(f"--set {override!r}: must be KEY=VALUE")
        try:
            arguments[key] = yaml_value(value)
        except ValueError as error:
            raise ModelError(f"--set {override!r}: {error}") from error
    return arguments


def _config(arguments: Mapping[str, Any], weights: Mapping[str, Tensor]) -> SCDConfig:
    dense = arguments["enc_arch"] == "ViTBackbone"
    common = {
        "in_channels": arguments["in_chans"],
        "out_channels": arguments.get("num_classes") or _classes_of(weights),
        "window": tuple(arguments[f"roi_{axis}"] for axis in "xyz"),
        "patch_size": arguments["patch_size"],
        "embed_dim": arguments["encoder_embed_dim"],
        "depth": arguments["encoder_depth"],
        "num_heads": arguments["encoder_num_heads"],
        "drop_path": arguments.get("drop_path", 0.0),
        "decoder": _ours(_DECODERS, "dec_arch", arguments),
        "feature_size": arguments["feature_size"],
    }
    if dense:
        return SCDConfig(**common, prune_after=(), keep_ratio=(), completion="none")
    stages = tuple(int(n) for n in str(arguments["tp_loc"]).split("-"))
    return SCDConfig(
        **common,
        prune_after=stages,
        keep_ratio=(1 - float(arguments["tp_ratio"]),) * len(stages),
        predictor=_ours(_PREDICTORS, "score_predictor", arguments),
        share_predictor=arguments.get("share_pred", False),
        perturbation=arguments.get("perturbation", "gumbel"),
        tau=arguments.get("tp_tau", 1.0),
        completion=_ours(_COMPLETIONS, "completion_net", arguments),
        completion_dim=arguments["compl_embed_dim"],
        completion_depth=arguments["compl_depth"],
        completion_heads=arguments["compl_num_heads"],
    )


def _ours(names: Mapping[str, Any], key: str, arguments: Mapping[str, Any]) -> Any:
    if arguments[key] not in names:
        raise ValueError(f"{key} {arguments[key]!r}: must be one of {', '.join(names)}")
    return names[arguments[key]]


def _classes_of(weights: Mapping[str, Tensor]) -> int:
    if _OUTPUT_BIAS not in weights:
        raise ValueError(f"number of classes: not in the config, and no {_OUTPUT_BIAS}")
    return len(weights[_OUTPUT_BIAS])


def _info(name: str, arguments: Mapping[str, Any], config: SCDConfig) -> ModelInfo:
    """Describe the model by its data set, or by numbers where that is unknown."""
    data_set = arguments.get("dataset")
    common: dict[str, Any] = {
        "name": name,
        "overlap": arguments.get("infer_overlap", 0.5),
        "blending": "constant",
    }
    orient = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
    crop = {
        "_target_": "CropForegroundd",
        "keys": "image",
        "source_key": "image",
        "allow_smaller": True,
    }
    if data_set == "btcv":
        return ModelInfo(
            **common,
            channels=("CT",),
            classes=_classes(_BTCV),
            background=arguments["b_min"],
            expects=HOUNSFIELD,
            preprocessing=(orient, _spacing(arguments), _intensity_range(arguments), crop),
        )
    if data_set == "msd_brats":
        return ModelInfo(
            **common,
            channels=_BRATS_CHANNELS,
            classes=(
                LabelClass(value=2, name="tumour core", color=(255, 127, 0)),
                LabelClass(value=1, name="whole tumour", color=(0, 158, 115)),
                LabelClass(value=3, name="enhancing tumour", color=(213, 0, 50)),
            ),
            exclusive=False,
            paint_order=(1, 0, 2),
            # Their code takes value 2, not 3, for the enhancing tumour.
            regions=((2, 3), (1, 2, 3), (2,)),
            expects=STRIPPED_MR,
            preprocessing=(orient, _spacing({}), crop, _Z_SCORE),
        )
    names = [f"class {n}" for n in range(1, config.out_channels)]
    channels = tuple(f"channel {n + 1}" for n in range(config.in_channels))
    return ModelInfo(**common, channels=channels, classes=_classes(names), preprocessing=(orient,))


_Z_SCORE = {
    "_target_": "NormalizeIntensityd",
    "keys": "image",
    "nonzero": True,
    "channel_wise": True,
}


def _spacing(arguments: Mapping[str, Any]) -> dict[str, Any]:
    pixdim = [float(arguments.get(f"space_{axis}", 1.0)) for axis in "xyz"]
    return {"_target_": "Spacingd", "keys": "image", "pixdim": pixdim, "mode": "bilinear"}


def _intensity_range(arguments: Mapping[str, Any]) -> dict[str, Any]:
    limits = {key: float(arguments[key]) for key in ("a_min", "a_max", "b_min", "b_max")}
    return {"_target_": "ScaleIntensityRanged", "keys": "image", **limits, "clip": True}


def _classes(names: Sequence[str]) -> tuple[LabelClass, ...]:
    return tuple(
        LabelClass(value=n, name=name, color=_colour(n)) for n, name in enumerate(names, start=1)
    )


def _colour(index: int) -> tuple[int, int, int]:
    """Tell classes apart: the golden angle round the colour circle."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 0.7, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        saved = read_pickled(path, _NUMPY_SCALAR)
    except (OSError, PickledError) as error:
        raise ModelError(f"{path}: not a checkpoint of the authors' code ({error})") from error
    state = saved.get("state_dict") if isinstance(saved, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and torch.is_tensor(v) for k, v in state.items()
    ):
        raise ModelError(f"{path}: not a checkpoint of the authors' code (no state_dict)")
    return {
        _renamed(k): v for k, v in state.items() if k.removeprefix("module.") not in _NOT_LEARNED
    }


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


_METADATA = {
    "version": "1.0.0",
    "changelog": {"1.0.0": "imported"},
    "task": "Segmentation",
    "description": "Imported from a checkpoint of the authors' code (arXiv 2303.06522)",
    "authors": "",
    "copyright": "",
}
_CARD = """\
# {name}

Imported from a checkpoint of the code of *Token Sparsification for Faster Medical Image
Segmentation* (IPMI 2023). Its data, licence and accuracy are known to whoever trained it. For
research only, not for diagnosis.
"""
