"""A run of the Segment widget: what it is asked, what it says, and what is done in its thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tokensparse.segmenting.concerns import concerns
from napari_tokensparse.widgets.importing import IMPORTING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.infer import Progress, Segmentation
    from napari_tokensparse.segmenting.options import Options
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.widgets.pruning.choice import Pruning
    from napari_tokensparse.widgets.segment.networks import Networks
    from napari_tokensparse.widgets.segment.scan import Scan


@dataclass(frozen=True, eq=False)
class SegmentRequest:
    """One click on Segment: everything the run needs, read off the widget once."""

    placement: dict[str, Any]
    scan: Scan
    model: Path
    written: int
    keep_ratio: float
    device: str
    region: Box | None
    sharpen: bool
    confidence: bool
    pruning: Pruning
    anyway: bool


@dataclass(frozen=True)
class Lacking:
    """A run that was not begun, for memory is not likely to be enough; one line says so."""

    said: str


@dataclass(frozen=True, eq=False)
class Result:
    """What a run ends with."""

    segmentation: Segmentation
    network: SCD
    options: Options
    warnings: tuple[str, ...]


def run(request: SegmentRequest, networks: Networks) -> Iterator[Progress | Result | Lacking]:
    """Load the model and segment, in the worker's thread; touches no widget."""
    with IMPORTING:
        from napari_tokensparse.segmenting.estimating.estimate import room
        from napari_tokensparse.segmenting.infer import Progress, segmenting
        from napari_tokensparse.segmenting.options import options_for

    network = networks.load(request.model, request.device)
    volume, region = request.scan.volume, request.region
    if not request.anyway:
        found = room(volume, network, region, int(request.confidence))
        if not found.is_enough:
            yield Lacking(found.lacking(volume.name))
            return
    device = str(next(network.parameters()).device)
    options = options_for(
        network,
        request.keep_ratio,
        sharpen=request.sharpen,
        region=region,
        device=device,
        confidence=request.confidence,
        **request.pruning.options(volume, network),
    )
    warnings = concerns(volume, network.info)
    for event in segmenting(volume, network, options):
        yield event if isinstance(event, Progress) else Result(event, network, options, warnings)
