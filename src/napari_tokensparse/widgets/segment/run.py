"""A run of the Segment widget: what it is asked, what it says, and what is done in its thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tokensparse.segmenting.concerns import concerns
from napari_tokensparse.widgets.importing import IMPORTING
from napari_tokensparse.widgets.layers import placement_kwargs
from napari_tokensparse.widgets.segment.networks import written_at
from napari_tokensparse.widgets.segment.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.infer import Progress, Segmentation
    from napari_tokensparse.segmenting.options import Options
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.volume import Volume
    from napari_tokensparse.widgets.pruning.choice import Pruning
    from napari_tokensparse.widgets.results import RunAgain
    from napari_tokensparse.widgets.segment.networks import Networks


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
    least_confidence: float
    pruning: Pruning
    anyway: bool

    def is_outdated(self) -> bool:
        """Whether the model was changed on disk since."""
        return written_at(self.model) != self.written


@dataclass(frozen=True, eq=False)
class AgainRequest:
    """A result that is run again with other options, by the network that it came from."""

    placement: dict[str, Any]
    scan: Scan
    network: SCD
    options: Options

    @classmethod
    def of(cls, again: RunAgain) -> AgainRequest:
        """Read it off a result that lies in the viewer."""
        result = again.result
        scan = Scan(result.image, result.volume, (), result.layers, ())
        return cls(placement_kwargs(result.image), scan, result.network, again.options)

    def is_outdated(self) -> bool:
        """Say that the network is the one that was asked for."""
        return False


@dataclass(frozen=True)
class Lacking:
    """A run that was not begun, for memory is not likely to be enough; one line says so."""

    said: str


@dataclass(frozen=True, eq=False)
class Result:
    """What a run ends with.

    Attributes
    ----------
    segmentation, network, options
        What came out, of which network, and how.
    warnings
        What to know of the scan.
    slowdown
        How many times as long as on a free machine work took meanwhile.
    """

    segmentation: Segmentation
    network: SCD
    options: Options
    warnings: tuple[str, ...]
    slowdown: float


def run(
    request: SegmentRequest | AgainRequest, networks: Networks
) -> Iterator[Progress | Result | Lacking]:
    """Load the model and segment, in the worker's thread; touches no widget."""
    if isinstance(request, AgainRequest):
        yield from _segmenting(request.scan.volume, request.network, request.options)
        return
    with IMPORTING:
        from napari_tokensparse.segmenting.estimating.estimate import room
        from napari_tokensparse.segmenting.options import options_for

    network = networks.load(request.model, request.device)
    volume, region = request.scan.volume, request.region
    if not request.anyway:
        maps = int(request.confidence or request.least_confidence > 0)
        left = room(volume, network, region, maps)
        if not left.is_enough:
            yield Lacking(left.lacking(volume.name))
            return
    device = str(next(network.parameters()).device)
    options = options_for(
        network,
        request.keep_ratio,
        sharpen=request.sharpen,
        region=region,
        device=device,
        confidence=request.confidence,
        least_confidence=request.least_confidence,
        **request.pruning.options(volume, network),
    )
    yield from _segmenting(volume, network, options)


def _segmenting(volume: Volume, network: SCD, options: Options) -> Iterator[Progress | Result]:
    from napari_tokensparse.segmenting.estimating.learned import learn_from
    from napari_tokensparse.segmenting.estimating.timing import Stopwatch
    from napari_tokensparse.segmenting.infer import Progress, segmenting

    warnings, watch = concerns(volume, network.info, options.strip), Stopwatch()
    watch.slowdown()
    for event in segmenting(volume, network, options):
        if isinstance(event, Progress):
            yield event
            continue
        watch.slowdown()
        yield Result(event, network, options, warnings, watch.busy)
        learn_from(volume, network, options, event, watch.busy)
