"""What speaks against a scan with a model, seen before the click."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QLabel

from napari_tokensparse.model.folder import describe_folder, is_bundle
from napari_tokensparse.segmenting.concerns import concerns
from napari_tokensparse.widgets.amber import make_amber, show_warnings
from napari_tokensparse.widgets.segment.asked import AskedLabel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from qtpy.QtWidgets import QWidget

    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.widgets.segment.scan import Scan

    Chosen = tuple[Scan, Path]

DELAY_MS = 200
_GO_ON = "Click Segment again to go on all the same."


class ExpectsLabel(QLabel):
    """Says below a model's name which scans it was made for, if it says so."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWordWrap(True)

    def say(self, info: ModelInfo) -> None:
        """Show what a model expects; of one that takes anything there is no line."""
        self.setText(f"Expects {info.expectation}" if info.expectation else "")
        self.setVisible(bool(info.expectation))


class Advice(AskedLabel):
    """Warns, in colour, of a scan that the chosen model was not made for.

    Parameters
    ----------
    choose
        Returns the scan and the model folder that are chosen; a ``ValueError`` where one is
        missing.
    parent
        Qt parent.
    """

    def __init__(self, choose: Callable[[], Chosen], parent: QWidget | None = None) -> None:
        super().__init__(choose, _advise, DELAY_MS, parent)
        self._confirmed: Chosen | None = None
        make_amber(self)

    def show_answer(self, answer: Any) -> None:
        """Show warnings, a line each; without any there is no box."""
        show_warnings(self, answer or ())

    def asks_first(self, scan: Scan, folder: Path, others: str = "") -> str:
        """Return what to say instead of a run, once for each scan and model; empty to go on.

        Parameters
        ----------
        scan, folder
            What would be run.
        others
            What speaks against it besides, a line each.
        """
        if self._confirmed == (scan, folder) or not is_bundle(folder):
            return ""
        warnings = _advise((scan, folder))
        self._timer.stop()
        self.show_answer(warnings)
        if not (others or warnings):
            return ""
        self._confirmed = (scan, folder)
        return asking(filter(None, [others, *warnings]))


def asking(against: Iterable[str]) -> str:
    """Return what a click says that does not run yet, with the way on first.

    The button stands low where there are many warnings, and what follows it may have to be
    scrolled to.

    Parameters
    ----------
    against
        What speaks against the run, a line each.
    """
    return "\n".join([_GO_ON, *against])


def _advise(chosen: Chosen) -> tuple[str, ...]:
    """Compare, in the worker's thread; touches no widget."""
    scan, folder = chosen
    if not is_bundle(folder):
        return ()
    return concerns(scan.volume, describe_folder(folder, hashed=False).info)
