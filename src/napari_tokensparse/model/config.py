"""What an SCD network is made of: one frozen, validated config."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from napari_tokensparse.model.ratios import grid_size, keep_ratios

DecoderName = Literal[
    "unetr",
    "unetr-x8",
    "unetr-x8-v2",
    "linear",
    "pup",
    "gated-pyramid",
    "coarse-to-fine",
    "custom",
]
"""UNETR's decoder for patch 16 and its two shallower forms for patch 8 (``UNETR_decoder``,
``UNETRx8_decoder`` and ``UNETRx8_decoderv2`` in the authors' code); a linear head; progressive
upsampling (SETR-PUP, Zheng et al., CVPR 2021); a light pyramid whose detail of the image is drawn
only where the first stage kept a token; one that computes its voxels there alone; the user's
own."""

EmbeddingName = Literal["linear", "conv-stem"]
"""The paper's linear patch embedding; a convolutional stem."""

PredictorName = Literal["mlp", "attention"]
"""``MlpPredictor`` and ``AttPredictor`` in the authors' code."""

RelaxationName = Literal["softmax", "threshold"]
"""What stands in for the top-K mask in the backward pass: the paper's softmax, or a sigmoid
threshold of mass k."""

CompletionName = Literal["mta", "mta-no-linear", "mta-mlp", "mask-token", "none"]
"""``FusionNet``, ``FusionNetV2``; ``mta-mlp`` is MTA whose blocks have no attention, so that a
pruned token learns nothing more of the others; ``CompletionNet``; ``none`` is the dense baseline
``UNETR3D``, which prunes nothing and feeds the decoder's skips from earlier blocks."""

DECODER_PATCH: dict[str, int] = {"unetr": 16, "unetr-x8": 8, "unetr-x8-v2": 8}
"""Patch size that each decoder of UNETR's family is made for."""

_LIGHT: dict[str, int] = {"gated-pyramid": 2, "coarse-to-fine": 4}
"""Smallest patch size of each light decoder."""

MOST_PARAMETERS = 10**10
MOST_VOXELS_A_SIDE = 1024
_MOST = {
    "in_channels": 1024,
    "out_channels": 65536,  # label files hold no more
    "depth": 1024,
    "completion_depth": 1024,
    "patch_size": 256,
}


class SCDConfig(BaseModel):
    """Sizes and choices of an SCD network (paper, section 3).

    Parameters
    ----------
    in_channels, out_channels
        Image channels; classes (background included) or regions.
    window
        Size ``(h, w, d)`` in voxels that the position table is made for.
    patch_size
        Edge of the cubic patch in voxels.
    embedding
        How a patch becomes a token.
    embed_dim, depth, num_heads, drop_path
        Encoder width, number of blocks, attention heads, stochastic depth in [0, 1).
    prune_after
        0-based blocks after which a stage prunes, ascending; -1 prunes before the first block.
    keep_ratio
        Default keep ratio per stage, in (0, 1].
    predictor, share_predictor
        How tokens are scored, and whether all stages share the first stage's predictor.
    perturbation, relaxation, tau
        Noise on the scores while training; how the top-K is made soft in the backward pass, and
        its temperature.
    completion
        How the map is made dense again.
    forgotten_stages
        Stages, from the first on, whose pruned tokens leave nothing but their place: the completion
        puts the stage's layer token there. 0 is the paper's MTA; the mask-token baseline forgets
        them all.
    completion_dim, completion_depth, completion_heads
        Width, blocks and heads of the token completion.
    completion_positions
        Whether the completion adds a position table; without one, place is known to the encoder
        alone.
    decoder, feature_size
        Which dense decoder, and its width ``f``.
    crop_value
        Intensity of emptiness: a window is cropped to the box of the tokens that hold anything else
        before it is looked at, in training and after; None computes whole windows.

    Raises
    ------
    pydantic.ValidationError
        (a ``ValueError``) with one line per choice that does not fit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_channels: PositiveInt = 1
    out_channels: PositiveInt
    window: tuple[PositiveInt, PositiveInt, PositiveInt]
    patch_size: PositiveInt = 8
    embedding: EmbeddingName = "linear"
    embed_dim: PositiveInt = 768
    depth: PositiveInt = 12
    num_heads: PositiveInt = 12
    drop_path: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    prune_after: tuple[int, ...] = (2, 5, 8)
    keep_ratio: tuple[float, ...] = (0.5, 0.5, 0.5)
    predictor: PredictorName = "mlp"
    share_predictor: bool = False
    perturbation: Literal["gumbel", "none"] = "gumbel"
    relaxation: RelaxationName = "softmax"
    tau: Annotated[float, Field(gt=0.0)] = 1.0
    completion: CompletionName = "mta"
    forgotten_stages: NonNegativeInt = 0
    completion_dim: PositiveInt = 768
    completion_depth: PositiveInt = 1
    completion_heads: PositiveInt = 12
    completion_positions: bool = True
    decoder: DecoderName = "unetr-x8-v2"
    feature_size: PositiveInt = 16
    crop_value: FiniteFloat | None = None

    @property
    def stages(self) -> int:
        """Number of pruning stages S."""
        return len(self.prune_after)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Token grid ``(gh, gw, gd)`` of the window."""
        return grid_size(self.window, self.patch_size)

    @property
    def skip_after(self) -> tuple[int, ...]:
        """0-based blocks whose raw outputs feed the skips of the dense baseline; else none."""
        if self.completion != "none":
            return ()
        return (4, 8) if self.decoder == "unetr-x8" else (3, 6, 9)

    @property
    def fewest_parameters(self) -> int:
        """A lower bound on the number of parameters, by the large matrices alone."""
        width, thread, f = self.embed_dim, self.completion_dim, self.feature_size
        embedding = self.in_channels * self.patch_size**3 * width
        if self.embedding == "conv-stem":
            embedding = 0
        completion = 0 if self.completion == "none" else 4 * self.completion_depth * thread**2
        decoder = 27 * f**2 if self.decoder in DECODER_PATCH else 0
        positions = math.prod(self.grid) * width
        return embedding + positions + 12 * self.depth * width**2 + completion + decoder

    @model_validator(mode="after")
    def _fits(self) -> SCDConfig:
        _check_size(self)
        _check_window(self)
        _check_decoder(self)
        _check_widths(self)
        _check_dense(self)
        _check_forgotten(self)
        keep_ratios(self.keep_ratio, self.stages)
        if any(b <= a for a, b in pairwise((-2, *self.prune_after, self.depth))):
            raise ValueError(
                f"prune_after {self.prune_after}: must ascend within blocks 0 to {self.depth - 1}; "
                "-1, first, is before them all"
            )
        return self


def _check_size(config: SCDConfig) -> None:
    """Refuse what no machine could make, before anything of it is made."""
    for name, most in _MOST.items():
        if getattr(config, name) > most:
            raise ValueError(f"{name} {getattr(config, name)}: at most {most}")
    if max(config.window) > MOST_VOXELS_A_SIDE:
        raise ValueError(f"window {config.window}: at most {MOST_VOXELS_A_SIDE} voxels a side")
    if config.fewest_parameters > MOST_PARAMETERS:
        raise ValueError(
            f"asks for a network of at least {config.fewest_parameters:.3g} parameters: at most "
            f"{MOST_PARAMETERS:.0e} can be made"
        )


def _check_window(config: SCDConfig) -> None:
    if any(n % config.patch_size for n in config.window):
        raise ValueError(
            f"window {config.window}: every side must be a multiple of the patch size "
            f"{config.patch_size}"
        )


def _check_decoder(config: SCDConfig) -> None:
    patch = DECODER_PATCH.get(config.decoder, config.patch_size)
    if config.patch_size != patch:
        raise ValueError(
            f"patch_size {config.patch_size}: decoder {config.decoder!r} needs {patch}"
        )
    power_of_2 = not config.patch_size & (config.patch_size - 1)
    if config.embedding == "conv-stem" and not (power_of_2 and config.patch_size > 1):
        raise ValueError(
            f"patch_size {config.patch_size}: embedding 'conv-stem' halves the image down to it, "
            "so it must be a power of 2, at least 2"
        )
    if config.decoder in ("pup", *_LIGHT) and not power_of_2:
        raise ValueError(
            f"patch_size {config.patch_size}: decoder {config.decoder!r} doubles the map up to it, "
            "so it must be a power of 2"
        )
    if config.patch_size < _LIGHT.get(config.decoder, 1):
        raise ValueError(
            f"patch_size {config.patch_size}: decoder {config.decoder!r} needs a level between "
            f"tokens and voxels; give at least {_LIGHT[config.decoder]}"
        )
    if config.decoder == "pup" and config.grid == (1, 1, 1):
        raise ValueError(
            f"token grid {config.grid}: decoder 'pup' normalises it over space, so it must have "
            "more than one token"
        )
    if config.crop_value is not None and config.decoder in ("unetr-x8-v2", "pup"):
        raise ValueError(
            f"crop_value {config.crop_value:g}: decoder {config.decoder!r} cannot decode boxes of "
            "any size; leave crop_value out or choose another decoder"
        )
    if config.decoder == "unetr-x8-v2" and any(n % 2 or n < 4 for n in config.grid):
        raise ValueError(
            f"token grid {config.grid}: decoder 'unetr-x8-v2' halves it, so every side must be "
            "even and at least 4"
        )


def _check_dense(config: SCDConfig) -> None:
    if config.completion != "none":
        return
    if config.prune_after:
        raise ValueError(
            f"completion 'none' is the dense baseline: prune_after {config.prune_after} must be ()"
        )
    if config.decoder not in DECODER_PATCH:
        raise ValueError(
            f"decoder {config.decoder!r}: the dense baseline feeds skips from earlier blocks, "
            f"so it needs one of {', '.join(DECODER_PATCH)}"
        )
    if config.depth <= max(config.skip_after):
        raise ValueError(
            f"depth {config.depth}: the dense baseline's skips leave blocks {config.skip_after}"
        )


def _check_forgotten(config: SCDConfig) -> None:
    most = config.stages if config.completion.startswith("mta") else 0
    if config.forgotten_stages > most:
        raise ValueError(
            f"forgotten_stages {config.forgotten_stages}: completion {config.completion!r} with "
            f"{config.stages} stages can forget at most {most}"
        )


def _check_widths(config: SCDConfig) -> None:
    if config.embed_dim % config.num_heads:
        raise ValueError(
            f"embed_dim {config.embed_dim}: must be a multiple of num_heads {config.num_heads}"
        )
    if config.predictor == "mlp" and config.embed_dim % 4:
        raise ValueError(
            f"embed_dim {config.embed_dim}: the score predictor halves it twice, so it must be a "
            "multiple of 4"
        )
    if config.predictor == "attention" and config.embed_dim < 6:
        raise ValueError(
            f"embed_dim {config.embed_dim}: the attention predictor works on a sixth of it"
        )
    if config.completion == "none":
        return
    if config.completion == "mta-no-linear" and config.completion_dim != config.embed_dim:
        raise ValueError(
            f"completion_dim {config.completion_dim}: without Linears it must be embed_dim "
            f"{config.embed_dim}"
        )
    if config.completion_dim % config.completion_heads:
        raise ValueError(
            f"completion_dim {config.completion_dim}: must be a multiple of completion_heads "
            f"{config.completion_heads}"
        )
    if config.completion_positions and config.completion_dim % 6:
        raise ValueError(
            f"completion_dim {config.completion_dim}: the 3-D position table needs a multiple of 6"
        )
