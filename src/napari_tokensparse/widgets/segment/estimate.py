"""A line that says, before a click, how long a run will take and how much memory."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QTimer,
    Signal,
)
from qtpy.QtWidgets import QApplication

from napari_tokensparse.widgets.importing import IMPORTING
from napari_tokensparse.widgets.segment.asked import AskedLabel
from napari_tokensparse.widgets.segment.beyond import beyond

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qtpy.QtWidgets import QWidget

    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.estimating.estimate import Estimate
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.volume import Volume
    from napari_tokensparse.widgets.segment.networks import Networks
    from napari_tokensparse.widgets.segment.run import Result, SegmentRequest

ESTIMATING = "Estimating time and memory …"
DELAY_MS = 500
"""How long nothing must have changed before a run is estimated."""
AGAIN_MS = 10_000
"""How long an estimate holds: what else the machine does may have begun or ended."""


@dataclass(frozen=True, eq=False)
class Question:
    """A run that has not begun.

    Attributes
    ----------
    volume, region, keep_ratio, importance, sharpen, confidence
        What would be segmented, and how; the keep ratio may be one per stage.
    network
        Gives the network, in the thread of the estimate.
    """

    volume: Volume
    network: Callable[[], SCD]
    keep_ratio: float | tuple[float, ...]
    importance: float | None
    region: Box | None
    sharpen: bool | None = None
    confidence: bool = False
    least_confidence: float | None = None

    @classmethod
    def of(
        cls, asked: SegmentRequest, networks: Networks, shares: tuple[float, ...] | None
    ) -> Question:
        """Ask about a click.

        Parameters
        ----------
        asked
            What it would run.
        networks
            Give its network.
        shares
            Which share of its tokens each stage keeps by the least importance, where that is known.
        """
        ratio: float | tuple[float, ...] = asked.keep_ratio
        least = asked.pruning.importance
        if least is not None and shares is not None:
            ratio, least = shares, None
        network = partial(networks.load, asked.model, asked.device)
        likely = (asked.sharpen, asked.confidence, asked.least_confidence)
        return cls(asked.scan.volume, network, ratio, least, asked.region, *likely)


class EstimateLabel(AskedLabel):
    """Estimates a run in a thread, once nothing has changed for a moment.

    The first time for a model the machine is measured, which takes some seconds; a run that begins
    meanwhile stops that. What a click takes beyond its run is learned from clicks, and added. It is
    made anew now and then while a person works in its window: of how busy the machine was before,
    nothing counts.

    Parameters
    ----------
    choose
        Returns what is chosen now; a ``ValueError`` where that is nothing to run.
    parent
        Qt parent.
    """

    estimated = Signal(object)
    """An `Estimate`, or None where there is none yet."""

    def __init__(self, choose: Callable[[], Question], parent: QWidget | None = None) -> None:
        super().__init__(self._noted, _answer, DELAY_MS, parent)
        self._chosen = choose
        self._voxels, self._clicked = 0, 0.0
        self._again = QTimer(self)
        self._again.setInterval(AGAIN_MS)
        self._again.timeout.connect(self._look_again)
        self.setToolTip("As busy as this machine is now; measured here, once for each model")

    def begin(self) -> None:
        """Say nothing while a run goes on, and see how long it takes."""
        self.stop()
        self._clicked = time.perf_counter()

    def end(self, result: Result) -> None:
        """Learn from a run that is shown now."""
        took, run = time.perf_counter() - self._clicked, result.segmentation
        more = max(0.0, took - run.stats.seconds["total"])
        beyond.learn(more / result.slowdown, run.labels.size)

    def show_answer(self, estimate: Estimate | None) -> None:
        """Show an estimate, and pass on that there is one or none."""
        if estimate is not None:
            more = beyond.seconds(self._voxels) * estimate.slowdown
            estimate = replace(estimate, seconds=estimate.seconds + more)
            self._again.start()
        else:
            self._again.stop()
        super().show_answer(estimate)
        self.estimated.emit(estimate)

    def _look_again(self) -> None:
        if self.isVisible() and QApplication.activeWindow() is not None:
            self.ask_again()

    def _noted(self) -> Question:
        question = self._chosen()
        self._voxels = math.prod(question.volume.shape)
        return question

    def show_waiting(self) -> None:
        """Say that it is estimated."""
        self.setText(ESTIMATING)


def _answer(question: Question) -> Iterator[Estimate | None]:
    """Estimate, in the worker's thread; touches no widget."""
    with IMPORTING:
        from napari_tokensparse.segmenting.estimating.estimate import estimating
        from napari_tokensparse.segmenting.options import options_for

    yield None
    network = question.network()
    options = options_for(
        network,
        question.keep_ratio,
        importance=question.importance,
        region=question.region,
        sharpen=question.sharpen,
        confidence=question.confidence,
        least_confidence=question.least_confidence,
        device=None,
    )
    yield (yield from estimating(question.volume, network, options))
