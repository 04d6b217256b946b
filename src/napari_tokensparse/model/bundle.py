"""A model is a folder in the form of a MONAI Bundle: write one, read one.

``configs/metadata.json`` follows MONAI's schema and keeps what is ours under one key,
``configs/inference.json`` runs with MONAI's own tools, ``models/model.safetensors`` holds the
weights. Reading takes plain values out of these files; nothing in them is evaluated.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import monai
import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn

from napari_tokensparse import __version__
from napari_tokensparse.common.files import written_whole
from napari_tokensparse.model.folder import (
    CARD,
    INFERENCE,
    LOAD_TRANSFORMS,
    METADATA,
    OUR_KEY,
    WEIGHTS,
    ModelError,
    describe_folder,
)
from napari_tokensparse.model.scd import SCD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.model.info import ModelInfo

SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
"""What MONAI's ``verify_metadata`` checks the metadata by."""
INTENDED_USE = "For research only, not for diagnosis"
METHOD = (
    "Lei Zhou, Huidong Liu, Joseph Bae, Junjun He, Dimitris Samaras, Prateek Prasanna. Token "
    "Sparsification for Faster Medical Image Segmentation. IPMI 2023, arXiv:2303.06522"
)
"""The reference that every model of this package has."""
_NEWER = ("sharpen", "least_confidence", "strip")
"""Fields of `ModelInfo` that older versions do not know: left out where they say nothing."""
_USUAL: dict[str, Any] = {"intended_use": INTENDED_USE, "references": [METHOD]}


def read_bundle(folder: Path) -> SCD:
    """Load the network of a model folder, in evaluation mode on the CPU.

    Raises
    ------
    ModelError
        A file is missing or does not fit; the line names it.
    """
    described = describe_folder(folder)
    if described.config.decoder == "custom":
        raise ModelError(
            f"{folder}: its decoder is the user's own, which no folder holds; build "
            "SCD(config, info, decoder) and fill it with load_weights"
        )
    model = SCD(described.config, described.info)
    load_weights(model, read_weights(folder / WEIGHTS), str(folder))
    return model.eval()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file of weights.

    Raises
    ------
    ModelError
        It is not one; the line names it.
    """
    try:
        return load_file(path)
    except MemoryError:
        raise
    except Exception as error:  # SafetensorError, or a type of numbers that torch does not know
        said = " ".join(str(error).split())
        raise ModelError(f"{path}: not a weights file ({said})") from error


def write_bundle(
    folder: Path,
    model: SCD,
    metadata: Mapping[str, Any],
    card: str,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model folder.

    Parameters
    ----------
    folder
        Made if missing; files in it are replaced.
    model
        Network with its `ModelInfo`.
    metadata
        ``version``, ``task``, ``description``, ``authors`` and ``copyright`` for MONAI's schema;
        as MONAI's own bundles have them, also ``data_source``, and ``intended_use`` and
        ``references`` where they say more than `INTENDED_USE` and `METHOD`.
    card
        Markdown of the model card.
    dtype
        Type the weights are stored in.

    Raises
    ------
    ModelError
        The model has no `ModelInfo`.
    WriteError
        (an ``OSError``) A file cannot be written; those that were there are as they were.
    """
    if not model.has_info:
        raise ModelError("a model without its ModelInfo cannot be written")
    weights = {k: v.to(dtype).contiguous() for k, v in model.state_dict().items()}
    _write_together(
        folder,
        {
            METADATA: _json({**_USUAL, **metadata, **_metadata(model.config, model.info)}),
            INFERENCE: _json(_inference(model.config, model.info)),
            CARD: card.encode("utf-8"),
            WEIGHTS: save(weights),
        },
    )


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a network, all of them or none.

    Raises
    ------
    ModelError
        Parameters are missing, unknown, of another shape or not finite; the line lists them.
    """
    own = model.state_dict()
    problems = {
        "missing": sorted(own.keys() - weights.keys()),
        "unknown": sorted(weights.keys() - own.keys()),
        "of another shape": [
            f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
            for name in sorted(own.keys() & weights.keys())
            if weights[name].shape != own[name].shape
        ],
    }
    problems["of another kind of number"] = [
        f"{name} {weights[name].dtype}"
        for name in sorted(own.keys() & weights.keys())
        if weights[name].is_floating_point() != own[name].is_floating_point()
        or weights[name].is_complex()
    ]
    misfit = "; ".join(f"{what}: {', '.join(names)}" for what, names in problems.items() if names)
    if misfit:
        raise ModelError(f"{source}: the weights do not fit the network – {misfit}")
    broken = [name for name in sorted(own) if not bool(torch.isfinite(weights[name]).all())]
    if broken:
        raise ModelError(f"{source}: the weights hold NaN or infinity: {', '.join(broken)}")
    model.load_state_dict(dict(weights))


class LogitsOnly(nn.Module):
    """An SCD network as MONAI's inferers expect one: image in, logits out."""

    def __init__(self, model: SCD) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits ``(B, K, h, w, d)`` at the model's default keep ratio."""
        out: Tensor = self.model(image).logits
        return out


def monai_network(bundle_root: str) -> LogitsOnly:
    """Network of a model folder for MONAI's tools: the target of ``inference.json``."""
    return LogitsOnly(read_bundle(Path(bundle_root))).eval().requires_grad_(False)


def _metadata(config: SCDConfig, info: ModelInfo) -> dict[str, Any]:
    names = [c.name for c in info.classes]
    outputs = ["background", *names] if info.exclusive else names
    common = {"type": "image", "dtype": "float32", "is_patch_data": True}
    return {
        "schema": SCHEMA,
        "name": info.name,
        "required_packages_version": {"napari-tokensparse": __version__},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "network_data_format": {
            "inputs": {
                "image": {
                    **common,
                    "format": "magnitude",
                    "modality": "n/a",
                    "num_channels": config.in_channels,
                    "spatial_shape": list(config.window),
                    "value_range": [],
                    "channel_def": dict(enumerate(info.channels)),
                }
            },
            "outputs": {
                "pred": {
                    **common,
                    "format": "segmentation",
                    "num_channels": config.out_channels,
                    "spatial_shape": list(config.window),
                    "value_range": [0, 1],
                    "channel_def": dict(enumerate(outputs)),
                }
            },
        },
        OUR_KEY: {
            "network": config.model_dump(mode="json"),
            "info": info.model_dump(
                mode="json",
                exclude={
                    *("preprocessing", "overlap", "blending", "weights_sha256"),
                    *(name for name in _NEWER if not getattr(info, name)),
                },
                exclude_none=True,
            ),
        },
    }


def _postprocessing(info: ModelInfo) -> list[dict[str, Any]]:
    """Define, for MONAI's tools, how logits become a file on the input's grid."""
    inside = [
        {"_target_": "CopyItemsd", "keys": "pred", "names": "inside"},
        {"_target_": "Lambdad", "keys": "inside", "func": "$lambda x: torch.ones_like(x[:1])"},
    ]
    invert = {
        "_target_": "Invertd",
        "keys": ["pred", "inside"],
        "transform": "@preprocessing",
        "orig_keys": "image",
        "nearest_interp": False,
        "to_tensor": True,
    }
    discrete: dict[str, Any] = {"_target_": "AsDiscreted", "keys": "pred"}
    activation: list[dict[str, Any]] = []
    naming: list[dict[str, Any]] = []
    if info.exclusive:
        discrete["argmax"] = True
        naming = [_channels_to_values(info)]
    else:
        activation = [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}]
        discrete["threshold"] = 0.5
    save = {
        "_target_": "SaveImaged",
        "keys": "pred",
        "output_dir": "@output_dir",
        "output_dtype": "$np.uint16",
        "resample": False,
    }
    # Logits end half a voxel beyond the cropped image; MONAI pads them with zeros, and a mean of
    # logits and zeros has the same best channel up to a whole voxel further out.
    cut = {
        "_target_": "MaskIntensityd",
        "keys": "pred",
        "mask_key": "inside",
        "select_fn": "$lambda x: x > 0.4999",
    }
    return [*activation, *inside, invert, discrete, cut, *naming, save]


def _channels_to_values(info: ModelInfo) -> dict[str, Any]:
    """Define how the number of the best channel becomes the value that `segment` writes."""
    return {
        "_target_": "MapLabelValued",
        "keys": "pred",
        "orig_labels": list(range(len(info.label_values))),
        "target_labels": list(info.label_values),
        "dtype": "$np.uint16",
    }


def _inference(config: SCDConfig, info: ModelInfo) -> dict[str, Any]:
    return {
        "imports": ["$import glob", "$import numpy as np", "$import torch"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "$@bundle_root + '/data'",
        "images": "$sorted(glob.glob(@dataset_dir + '/*.nii*'))",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": {
            "_target_": f"{OUR_KEY}.model.bundle.monai_network",
            "bundle_root": "@bundle_root",
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [*LOAD_TRANSFORMS, *info.preprocessing],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': i} for i in @images]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(config.window),
            "sw_batch_size": 1,
            "overlap": info.overlap,
            "mode": info.blending,
            "cval": info.background,
        },
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(info)},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        # The evaluator needs ignite, which MONAI does not install; this does without.
        "run": [
            "$[@postprocessing({**item, 'pred': "
            "@inferer(item['image'][None].to(@device), @network)[0]}) for item in @dataset]"
        ],
    }


def _json(content: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(content, indent=2, ensure_ascii=False)}\n".encode()


def _write_together(folder: Path, contents: Mapping[Path, bytes]) -> None:
    """Write files of which none takes its place before all of them are complete."""
    with ExitStack() as stack:
        for name, content in contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(written_whole(path)).write_bytes(content)
