"""What decoding costs where the first stage left few tokens, as in large volumes of small things.

A volume of windows of which a share of the tokens hold something: half of the windows hold twice as
much of it as the average, as far as they can, and the others the rest. Tokens are told by scores
that are given, and kept by the rule of importance; weights are random.
"""

from __future__ import annotations

from functools import partial
from math import log, prod
from typing import TYPE_CHECKING

import torch

from napari_tokensparse.benchmarks.networks import drawn
from napari_tokensparse.benchmarks.report import TOTAL, Row
from napari_tokensparse.benchmarks.timing import take_turns
from napari_tokensparse.compute.allocation import kept_memory
from napari_tokensparse.compute.backends.base import PLAIN
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.ratios import Importance

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from napari_tokensparse.benchmarks.plan import Plan
    from napari_tokensparse.benchmarks.timing import Note, Round
    from napari_tokensparse.model.scd import SCD

SECTION = "sparse"
SHARES = (0.05, 0.2, 0.6, 1.0)
"""Shares of the tokens that hold something."""
WINDOWS = 4
_PRESETS = ("ms-lesions",)
_SPARSE, _DENSE = "coarse-to-fine", "gated-pyramid"
"""Decoders of the same widths: voxels in kept tokens alone, and all of them."""
_SEEN, _AIR = log(0.9), log(0.01)


def time_sparse(plan: Plan) -> Iterator[Round | Note | Row]:
    """Time volumes of each share, by a decoder of the voxels of kept tokens and by one of all.

    Yields
    ------
    Round, Row
        A round as it begins; the rows when all rounds of a preset are over.
    """
    for name in plan.presets_of(_PRESETS):
        config = preset(name)
        image = torch.randn(
            1, config.in_channels, *config.window, generator=torch.Generator().manual_seed(0)
        )
        models = {
            decoder: drawn(preset(name, decoder=decoder)).eval() for decoder in (_SPARSE, _DENSE)
        }
        works = {
            (variant, share): partial(_segment, model, image, held(prod(config.grid), share))
            for share in SHARES
            for variant, model in models.items()
        }
        with torch.inference_mode(), kept_memory():
            times = yield from take_turns(f"sparse {name}", works, plan.rounds, plan.rate)
        for (variant, share), seconds in times.items():
            row = Row(SECTION, TOTAL, name, variant, PLAIN, share, windows=WINDOWS)
            yield row.timed(seconds[TOTAL])


def held(tokens: int, share: float) -> list[Tensor]:
    """Return the scores ``(1, L)`` of the tokens of each window of such a volume."""
    fullest = min(1.0, 2 * share)
    shares = [fullest, 2 * share - fullest] * (WINDOWS // 2)
    generator = torch.Generator().manual_seed(0)
    scores = []
    for each in shares:
        seen = torch.randperm(tokens, generator=generator) < round(each * tokens)
        scores.append(torch.where(seen, _SEEN, _AIR)[None])
    return scores


def _segment(model: SCD, image: Tensor, scores: Sequence[Tensor]) -> None:
    for each in scores:
        model(image, Importance(0.5), token_scores=each)
