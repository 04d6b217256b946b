"""The assembled network: sparse encoding, token completion, dense decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_tokensparse.model.completion import make_completion
from napari_tokensparse.model.crop import TokenBox, content_box, whole_box
from napari_tokensparse.model.decoders.making import make_decoder
from napari_tokensparse.model.decoders.protocols import (
    BranchedDecoder,
    GatedDecoder,
    SparseDecoder,
)
from napari_tokensparse.model.encoder import EncoderStart, Pass, SparseEncoder, TokenTrace
from napari_tokensparse.model.folder import ModelError
from napari_tokensparse.model.layers.layout import channels_last
from napari_tokensparse.model.ratios import rule_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.model.noise import Noise
    from napari_tokensparse.model.ratios import Rule


OUTSIDE = 10.0
"""Size of the logits where a cropped window was not looked at: background, as sure as can be."""


@dataclass(frozen=True)
class SCDOutput:
    """What a forward pass gives.

    Attributes
    ----------
    inside
        Logits ``(B, K, h, w, d)`` of the box that was looked at.
    trace
        Scores and grid ids of every stage; tokens outside the box are in none.
    box
        Where the box lies in the window; None where that is the window.
    around
        ``(K,)`` logits outside the box; None without one.
    token_logits
        ``(B, L, K)`` of the training's token head, for the box's tokens in grid order; or None.
    """

    inside: Tensor
    trace: TokenTrace
    box: TokenBox | None = None
    around: Tensor | None = None
    token_logits: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """Logits ``(B, K, h, w, d)`` of the whole window."""
        if self.box is None or self.around is None:
            return self.inside
        return self.box.put_back(self.inside, self.around)


@dataclass(frozen=True, eq=False)
class Begun:
    """What of a forward pass does not depend on the keep ratio.

    Attributes
    ----------
    image
        ``(B, C, h, w, d)``, cropped if the config says so.
    encoder
        Tokens and scores at the first stage.
    image_skip
        What the decoder takes of the image; None for one that does not tell it apart.
    box
        What the image was cropped to, or None.
    """

    image: Tensor
    encoder: EncoderStart
    image_skip: Any
    box: TokenBox | None = None


class SCD(nn.Module):
    """Token-sparse segmentation network (IPMI 2023, arXiv 2303.06522).

    Parameters
    ----------
    config
        Sizes and choices.
    info
        Channels, classes and preprocessing of a trained model; without it only tensors can be
        segmented.
    decoder
        The user's own `Decoder`, for a config whose decoder is "custom".

    Examples
    --------
    >>> import torch
    >>> from napari_tokensparse.model.presets import preset
    >>> model = SCD(preset("nano", out_channels=2)).eval()
    >>> out = model(torch.zeros(1, 1, 32, 32, 32), keep_ratio=0.5)
    >>> tuple(out.logits.shape), tuple(out.trace.kept.shape)
    ((1, 2, 32, 32, 32), (1, 8))
    """

    def __init__(
        self,
        config: SCDConfig,
        info: ModelInfo | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self._info = info
        self.encoder = SparseEncoder(config)
        self.completion = make_completion(config)
        self.decoder: Any = channels_last(make_decoder(config, decoder))
        self.token_head: nn.Module | None = None

    @property
    def info(self) -> ModelInfo:
        """What the model says of itself.

        Raises
        ------
        ModelError
            It was made without.
        """
        if self._info is None:
            raise ModelError(
                "this network has no ModelInfo, so its preprocessing is unknown: use load_model"
            )
        return self._info

    @info.setter
    def info(self, info: ModelInfo) -> None:
        self._info = info

    @property
    def has_info(self) -> bool:
        """Whether more than tensors can be segmented."""
        return self._info is not None

    def forward(
        self,
        image: Tensor,
        keep_ratio: float | Sequence[float] | Rule | None = None,
        noise: Noise = None,
        *,
        token_scores: Tensor | None = None,
        skip_blocks: bool = False,
        box: TokenBox | None = None,
        pins: Tensor | None = None,
    ) -> SCDOutput:
        """Segment a batch of windows.

        Parameters
        ----------
        image
            ``(B, C, h, w, d)``, preprocessed, of the config's window and channels.
        keep_ratio
            Share of live tokens that each stage keeps, in (0, 1]: one number or one per stage; or
            another rule (`napari_tokensparse.model.ratios`). The config's if not given.
        noise
            Source of the training noise: a generator, one for each window, or the global one if
            not given.
        token_scores
            ``(B, L)`` scores to prune by instead of the predictors', a control.
        skip_blocks
            Leave every transformer block out: a control that tells whether tokens matter at all.
        box
            What to crop the windows to: the box of all they hold, found by the config's
            ``crop_value``, if not given.
        pins
            ``(B, L)`` int8 of the token grid: 1 keeps a token at every stage, -1 prunes it at the
            first, 0 leaves it to the rule. None pins nothing.

        Raises
        ------
        ValueError
            The image does not fit the network, or a keep ratio is outside (0, 1].
        """
        begun = self.begin(
            image, noise, token_scores=token_scores, skip_blocks=skip_blocks, box=box
        )
        return self.finish(begun, keep_ratio, pins)

    def begin(
        self,
        image: Tensor,
        noise: Noise = None,
        *,
        token_scores: Tensor | None = None,
        skip_blocks: bool = False,
        box: TokenBox | None = None,
    ) -> Begun:
        """Run what does not depend on the keep ratio; the parameters are those of `forward`.

        That is the embedding, the blocks up to the first stage with its scores, and the decoder's
        image branch. What is begun can be finished many times.
        """
        self._check(image)
        box, how = self._cropped_to(image, box), Pass(noise, token_scores, skip_blocks)
        ids = None
        if box is not None:
            image, ids = box.cut(image), box.ids(image.device)
        start = self.encoder.begin(image, how, ids)
        branched = isinstance(self.decoder, BranchedDecoder)
        return Begun(image, start, self.decoder.image_branch(image) if branched else None, box)

    def finish(
        self,
        begun: Begun,
        keep_ratio: float | Sequence[float] | Rule | None = None,
        pins: Tensor | None = None,
    ) -> SCDOutput:
        """Run the rest of a forward pass: ``forward`` is ``finish(begin(image), keep_ratio)``."""
        chosen = self.config.keep_ratio if keep_ratio is None else keep_ratio
        rule = rule_of(chosen, self.config.stages)
        sparse, trace = self.encoder.finish(begun.encoder, rule, pins)
        box = begun.box
        grid = self.config.grid if box is None else box.size
        ids = None if box is None else begun.encoder.ids[0]
        tokens = self.completion(sparse, trace, ids)
        given: dict[str, Any] = {}
        skips = [[as_map(skip, grid) for skip in sparse.skips]] if sparse.skips else []
        if begun.image_skip is not None:
            given["image_skip"] = begun.image_skip
        if sparse.gate is not None and isinstance(self.decoder, GatedDecoder):
            given["gate"] = as_map(sparse.gate[..., None], grid)
            if isinstance(self.decoder, SparseDecoder):
                given["places"] = sparse.places
        return SCDOutput(
            self.decoder(as_map(tokens, grid), begun.image, *skips, **given),
            trace,
            box,
            None if box is None else self.around,
            None if self.token_head is None else self.token_head(tokens),
        )

    def _cropped_to(self, image: Tensor, box: TokenBox | None) -> TokenBox | None:
        """Return the box that is looked at; None if that is the window."""
        if box is None:
            return content_box(image, self.config)
        return None if box == whole_box(self.config) else box

    @property
    def around(self) -> Tensor:
        """Logits ``(K,)`` of what is outside a crop: of exclusive classes the first is there."""
        around = torch.full((self.config.out_channels,), -OUTSIDE)
        if not self.has_info or self.info.exclusive:
            around[0] = OUTSIDE
        return around

    def _check(self, image: Tensor) -> None:
        expected = (self.config.in_channels, *self.config.window)
        if tuple(image.shape[1:]) != expected:
            raise ValueError(
                f"image of shape {tuple(image.shape)}: this model takes (batch, channels, h, w, d) "
                f"= (B, {', '.join(map(str, expected))})"
            )


def as_map(tokens: Tensor, grid: Sequence[int]) -> Tensor:
    """Lay ``(B, L, E)`` out as ``(B, E, *grid)``, channels last in memory."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *grid)
