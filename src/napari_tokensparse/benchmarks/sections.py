"""A whole benchmark: the sections that are asked for, one after the other, and their report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tokensparse.benchmarks.bfloat16 import SECTION as BFLOAT16
from napari_tokensparse.benchmarks.bfloat16 import time_bfloat16
from napari_tokensparse.benchmarks.inference import INFERENCE, time_inference
from napari_tokensparse.benchmarks.int8 import SECTION as INT8
from napari_tokensparse.benchmarks.int8 import time_int8
from napari_tokensparse.benchmarks.macs import MACS, costs
from napari_tokensparse.benchmarks.networks import PRESETS
from napari_tokensparse.benchmarks.preview import PREVIEW, time_sample_preview
from napari_tokensparse.benchmarks.report import Report, Row
from napari_tokensparse.benchmarks.sparse import SECTION as SPARSE
from napari_tokensparse.benchmarks.sparse import time_sparse
from napari_tokensparse.benchmarks.training import TRAINING, time_training
from napari_tokensparse.benchmarks.volume import VOLUME, time_volumes
from napari_tokensparse.compute.machine import describe_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from napari_tokensparse.benchmarks.plan import Plan
    from napari_tokensparse.benchmarks.timing import Note, Round


def _count(plan: Plan) -> Iterator[Row]:
    yield from costs(plan.presets_of(PRESETS), plan.keep_ratios)


SECTIONS: dict[str, Callable[[Plan], Iterator[Round | Note | Row]]] = {
    MACS: _count,
    INFERENCE: time_inference,
    BFLOAT16: time_bfloat16,
    INT8: time_int8,
    SPARSE: time_sparse,
    TRAINING: time_training,
    VOLUME: time_volumes,
    PREVIEW: time_sample_preview,
}


def benchmark(wanted: Collection[str], plan: Plan) -> Iterator[Round | Note | Report]:
    """Run the wanted sections, in the order of `SECTIONS`.

    Yields
    ------
    Round, Note
        As the sections tell them. The caller may stop at any.
    Report
        Once, at the end.
    """
    rows: list[Row] = []
    for section in (section for section in SECTIONS if section in wanted):
        for event in SECTIONS[section](plan):
            if isinstance(event, Row):
                rows.append(event)
            else:
                yield event
    rate = plan.rate.gmac_s
    yield Report(describe_machine(), rate, tuple(row.with_efficiency(rate) for row in rows))
