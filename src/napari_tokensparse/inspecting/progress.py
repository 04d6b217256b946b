"""How far several runs on one volume are; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_tokensparse.model.controls import Scorer


@dataclass(frozen=True)
class Setting:
    """What one run differs in: keep ratio per stage, or the least importance, scorer, and pins."""

    keep_ratios: tuple[float, ...]
    scorer: Scorer = "learned"
    importance: float | None = None
    pin: str | None = None
    drop: str | None = None

    @property
    def kept(self) -> str:
        """What is kept, in words.

        Examples
        --------
        >>> Setting((0.5, 0.5)).kept, Setting((0.5,), importance=0.25).kept
        ('keep ratio 0.5', 'importance 0.25')
        """
        said = "keep ratio " + ", ".join(f"{ratio:g}" for ratio in dict.fromkeys(self.keep_ratios))
        if self.importance is not None:
            said = f"importance {self.importance:.3g}"
        return said if (self.pin, self.drop) == (None, None) else f"{said}, pins"


@dataclass(frozen=True)
class RunProgress:
    """How far several runs are.

    Attributes
    ----------
    setting
        Of the run that goes on.
    run, runs
        Its number, from 1, and how many there are.
    done, total
        Its windows.
    seconds_left
        Estimate for all runs, or None.
    """

    setting: Setting
    run: int
    runs: int
    done: int
    total: int
    seconds_left: float | None

    @property
    def share(self) -> float:
        """Share of all the work that is done, in 0..1."""
        return (self.run - 1 + self.done / max(self.total, 1)) / self.runs
