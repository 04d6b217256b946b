"""What SCD asks of a decoder, and what one may offer beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Decoder(Protocol):
    """What SCD asks of a decoder; an `nn.Module` with such a ``forward`` is one."""

    def __call__(self, token_map: Tensor, image: Tensor) -> Tensor:
        """Turn the map ``(B, E, gh, gw, gd)`` and image ``(B, C, h, w, d)`` into logits."""


@runtime_checkable
class BranchedDecoder(Protocol):
    """A decoder that can do apart, and once, what depends on the image alone.

    Optional: what `image_branch` returns is handed to its ``forward`` as ``image_skip``.
    """

    def image_branch(self, image: Tensor) -> Tensor:
        """Turn the image ``(B, C, h, w, d)`` into what decoding takes of it."""


@runtime_checkable
class GatedDecoder(Protocol):
    """A decoder that is told where the first stage kept a token.

    Optional: its ``forward`` takes ``gate`` ``(B, 1, gh, gw, gd)``: 1 where it did, 0 where not.
    """

    gated: bool


@runtime_checkable
class SparseDecoder(Protocol):
    """A gated decoder that computes less where the first stage kept fewer tokens.

    Optional: its ``forward`` takes ``places`` ``(B, k)`` too, where the gate is 1 in grid order.
    """

    gated: bool
    sparse: bool
