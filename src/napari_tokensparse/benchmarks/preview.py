"""How fast the live preview answers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari_tokensparse.benchmarks.macs import gmacs, update_gmacs
from napari_tokensparse.benchmarks.networks import SCD_VARIANT
from napari_tokensparse.benchmarks.report import TOTAL, Row
from napari_tokensparse.benchmarks.timing import take_turns
from napari_tokensparse.compute.backends.base import PLAIN
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.segmenting.preview import PreviewSession
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.samples import sample_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_tokensparse.benchmarks.plan import Plan
    from napari_tokensparse.benchmarks.timing import Round

PREVIEW = "preview"
FULL, UPDATE = "full", "update"
"""The whole window with its labels; what is redone when another keep ratio was seen before."""
DEFAULT_MODEL = "brain-structures"


def time_sample_preview(plan: Plan) -> Iterator[Round | Row]:
    """Time the preview of the sample brain by the bundled model; as `time_preview`."""
    session = PreviewSession(read_volume(sample_path()), load_model(DEFAULT_MODEL))
    yield from time_preview(session, DEFAULT_MODEL, plan)


def time_preview(session: PreviewSession, preset: str, plan: Plan) -> Iterator[Round | Row]:
    """Time a live preview's window, whole and updated, at every keep ratio.

    Yields
    ------
    Round, Row
        Rounds as they begin, then per keep ratio a row for `FULL` and one for `UPDATE`.
    """
    works = {ratio: partial(_seen, session, ratio) for ratio in plan.keep_ratios}
    taken = yield from take_turns(PREVIEW, works, plan.rounds, plan.rate)
    config, size = session.model.config, session.looked_at
    for ratio, seconds in taken.items():
        whole, update = gmacs(config, ratio, size)[TOTAL], update_gmacs(config, ratio, size)
        counted = {FULL: whole, UPDATE: update}
        for part in (FULL, UPDATE):
            row = Row(PREVIEW, part, preset, SCD_VARIANT, PLAIN, ratio, gmacs=counted[part])
            yield row.timed(seconds[part])


def _seen(session: PreviewSession, keep_ratio: float) -> dict[str, float]:
    session.restart()
    return {part: session.update(keep_ratio).seconds for part in (FULL, UPDATE)}
