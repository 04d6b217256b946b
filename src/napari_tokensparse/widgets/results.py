"""What the widgets of one viewer share: the latest result, and the keep ratio that a plot chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QObject,
    Signal,
)

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.infer import Segmentation
    from napari_tokensparse.segmenting.options import Options
    from napari_tokensparse.volumes.volume import Volume


@dataclass(frozen=True, eq=False)
class ShownResult:
    """A result that lies in the viewer.

    Attributes
    ----------
    image
        The layer that was segmented, or that of the first channel; it may have been removed since.
    volume
        Its voxels, as the engine took them.
    network
        The model, on the device it ran on.
    options
        What was asked for.
    segmentation
        Labels, token maps and figures.
    layers
        One for each channel, where these are several.
    kept
        What the labels layer holds beside what the run gave: sentences.
    run
        The number of the run in the viewer's list; None for a result that is not listed.
    """

    image: Image
    volume: Volume
    network: SCD
    options: Options
    segmentation: Segmentation
    layers: tuple[Image, ...] = ()
    kept: tuple[str, ...] = ()
    run: int | None = None


@dataclass(eq=False)
class RunAgain:
    """A result that is to be run again, with other options.

    Attributes
    ----------
    result
        Of the run before.
    options
        Of the run to be.
    refusal
        Why it was not begun, in one line; empty once it is.
    """

    result: ShownResult
    options: Options
    refusal: str = "Open the Segment widget: it runs the image again."


class Results(QObject):
    """The latest result of a viewer.

    Signals
    -------
    changed
        There is a new result.
    keepRatioChosen
        A person chose a keep ratio elsewhere than at the slider, for example on the curve.
    importanceChosen
        A person chose a least importance there.
    keepRatiosPreviewed
        A person tries keep ratios, one per stage, on the latest result: the live preview shows
        them.
    pinned
        A person pinned tokens in a layer: the layer, and whether they are kept (1) or dropped (-1).
    runAgain
        A `RunAgain` is asked for, which the Segment widget takes.
    swept
        Keep ratios of the image of a result were compared: the result and its `Sweep`.
    """

    changed = Signal()
    keepRatioChosen = Signal(float)
    importanceChosen = Signal(float)
    keepRatiosPreviewed = Signal(tuple)
    pinned = Signal(tuple)
    runAgain = Signal(object)
    swept = Signal(tuple)

    def __init__(self) -> None:
        super().__init__()
        self.latest: ShownResult | None = None

    def show(self, result: ShownResult) -> None:
        """Take a new result."""
        self.latest = result
        self.changed.emit()


_RESULTS: WeakKeyDictionary[napari.Viewer, Results] = WeakKeyDictionary()


def results_of(viewer: napari.Viewer) -> Results:
    """Return what the widgets of this viewer share."""
    # napari gives every plugin widget a proxy of its own, which lives no longer than the widget.
    return _RESULTS.setdefault(getattr(viewer, "__wrapped__", viewer), Results())
