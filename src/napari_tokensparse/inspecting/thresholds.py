"""Thresholds on importance that leave as many tokens as keep ratios do."""

from __future__ import annotations

from math import floor, prod
from typing import TYPE_CHECKING

import numpy as np

from napari_tokensparse.inspecting.progress import Setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_tokensparse.inspecting.runs import SettingRun

_DIGITS = 10**6  # of thresholds


class Thresholds:
    """The settings by importance that leave about as many tokens as those by a share.

    How important tokens are is known once the reference was run; so these settings are made when
    they are asked for.
    """

    def __init__(self, settings: Sequence[Setting]) -> None:
        self._shares = sorted({prod(each.keep_ratios) for each in settings[1:]}, reverse=True)
        self._stages = len(settings[0].keep_ratios) if settings else 0
        self._least: NDArray[np.float32] | None = None

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._shares)

    def learn(self, run: SettingRun) -> None:
        """Take the reference, in which every stage looks at every token."""
        if self._least is None and self.count:
            tokens = run.segmentation.tokens
            seen = np.min(tokens.importance, axis=0)
            self._least = np.sort(seen[np.isfinite(seen)])[::-1]

    def __iter__(self) -> Iterator[Setting]:
        """Yield them, the one that leaves most first."""
        for share in self._shares:
            assert self._least is not None  # the reference comes first
            place = min(max(int(share * len(self._least)), 1), len(self._least)) - 1
            least = float(self._least[place]) if self._least.size else 1.0
            ratios = (share ** (1 / self._stages),) * self._stages
            # Rounded down, so that the token at the threshold stays.
            yield Setting(ratios, importance=floor(least * _DIGITS) / _DIGITS)
