"""The Train widget: choose data and a recipe; click Train; see it learn, stop it, resume it."""

from __future__ import annotations

from threading import Event as StopEvent
from typing import TYPE_CHECKING, Any

from napari.utils.theme import get_theme
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QHBoxLayout,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QSplitter,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_tokensparse.common.untrusted import one_line
from napari_tokensparse.model.folder import is_bundle
from napari_tokensparse.training.events import Finished
from napari_tokensparse.training.folder import EVENTS_FILE, FOLDER
from napari_tokensparse.widgets.accessible import name_inputs
from napari_tokensparse.widgets.canvas.context import hold_context
from napari_tokensparse.widgets.closing import CloseGuard, ClosingTexts, end_with_dock
from napari_tokensparse.widgets.controls import models, research_note
from napari_tokensparse.widgets.fitting import ScrollArea, StatusLine, dock_as_tab, scrolled
from napari_tokensparse.widgets.train.again import AgainOffer, next_free, set_aside
from napari_tokensparse.widgets.train.plot import TrainingPlot
from napari_tokensparse.widgets.train.preview import PreviewLayers
from napari_tokensparse.widgets.train.run import (
    CasePreview,
    Report,
    TrainRequest,
    checking_data,
    training,
)
from napari_tokensparse.widgets.train.runlog import RunLog
from napari_tokensparse.widgets.train.settings import TrainSettings
from napari_tokensparse.widgets.workers import Worker, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import napari

_SHARE_OF_SETTINGS = 0.35
_DRAW_EVERY_MS = 250
_PLUGIN = "napari-tokensparse"
_GO_ON = "Click again to go on all the same."
_CLOSING = ClosingTexts(
    "A training run is going on. Stop training and close?",
    "It stops after this step and keeps a checkpoint to resume from.",
    "Stop and close",
    "Keep training",
)


class Doubt(ValueError):
    """Something speaks against a run, a line each; it may go on all the same."""


class TrainWidget(QWidget):
    """Train a model on files or on open layers.

    Parameters
    ----------
    napari_viewer
        The viewer whose layers can be trained on, and where the preview is shown.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._worker: Worker | None = None
        self._stop = StopEvent()
        self._log = RunLog()
        self._preview = PreviewLayers(napari_viewer)
        self._confirmed: tuple[Any, ...] | None = None
        self._guard = CloseGuard(_CLOSING, lambda: self._worker, self._stop_clicked, self)
        self._build()
        self._lay_out()
        self._connect()
        self._update_buttons()
        name_inputs(self)
        hold_context(napari_viewer, self)
        dock_as_tab(self)
        end_with_dock(self, napari_viewer, leave=self._leave, is_busy=self._is_busy)

    def _build(self) -> None:
        self.settings = TrainSettings(self._viewer)
        self.check = QPushButton("Check data")
        self.check.setToolTip("Read every case, and report all that cannot be used")
        self.train = QPushButton("Train")
        self.train.setToolTip("Check the data, then train into the model folder")
        self.stop = QPushButton("Stop")
        self.stop.setToolTip("End after this step, with a checkpoint and the model of now")
        self.resume = QPushButton("Resume")
        self.resume.setToolTip(
            "Go on with the run of the model folder as it began;\n"
            "device, processes and how long to train are those chosen here"
        )
        self.progress = QProgressBar()
        self.progress.setAccessibleName("Progress of the training")
        self.progress.hide()
        self.message = StatusLine()
        self.again = AgainOffer()
        self.use = QPushButton("Segment with it")
        self.use.setToolTip("Choose the new model in the Segment widget")
        self.use.hide()
        self.report = QPlainTextEdit()
        self.report.setReadOnly(True)
        self.plot = TrainingPlot()
        self.tabs = QTabWidget()
        self.tabs.addTab(self.plot, "Plot")
        self.tabs.addTab(self.report, "Report")
        self.tabs.hide()

    def _lay_out(self) -> None:
        self._parts = QSplitter(Qt.Orientation.Vertical)
        self._parts.setChildrenCollapsible(False)
        self._parts.addWidget(ScrollArea(self.settings))
        self._parts.addWidget(self._run_part())
        self._parts.setStretchFactor(0, 1)
        layout = QVBoxLayout(scrolled(self, below=research_note()))
        layout.addWidget(self._parts)

    def _run_part(self) -> QWidget:
        buttons = QHBoxLayout()
        for button in (self.check, self.train, self.stop, self.resume):
            buttons.addWidget(button)
        part = QWidget()
        layout = QVBoxLayout(part)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(buttons)
        layout.addWidget(self.progress)
        for widget in (self.message, self.again, self.use):
            layout.addWidget(widget)
        layout.addWidget(self.tabs, stretch=1)
        return part

    def _connect(self) -> None:
        read = self.settings
        self.check.clicked.connect(lambda: self._start(checking_data, read.request))
        self.train.clicked.connect(self._train_clicked)
        self.again.overClicked.connect(self._start_over)
        self.again.elsewhereClicked.connect(self._train_elsewhere)
        self.use.clicked.connect(self._segment_with_it)
        self.resume.clicked.connect(lambda: self._start(training, read.resumed))
        self.stop.clicked.connect(self._stop_clicked)
        self.settings.outputChanged.connect(self._output_changed)
        self._drawing = QTimer(self)
        self._drawing.setSingleShot(True)
        self._drawing.setInterval(_DRAW_EVERY_MS)
        self._drawing.timeout.connect(self._draw)
        self._viewer.events.theme.connect(self._theme_changed)
        self._theme_changed()

    def _theme_changed(self, _event: Any = None) -> None:
        self.plot.set_foreground(get_theme(self._viewer.theme).text.as_hex(format="long"))

    def _update_buttons(self) -> None:
        busy = self._worker is not None
        for widget in (self.train, self.check, self.settings):
            widget.setEnabled(not busy)
        self.stop.setEnabled(busy and not self._stop.is_set())
        self.resume.setEnabled(not busy and self.settings.can_resume())

    def _output_changed(self) -> None:
        self.again.hide()
        self._update_buttons()

    def _train_clicked(self) -> None:
        """Train, unless a run is in the folder already, or something speaks against the data."""
        folder = self.settings.output.value()
        if folder is not None and self.settings.can_resume():
            self.message.setText(self.again.offer(folder))
            return
        self._start(training, self._undoubted)

    def _start_over(self) -> None:
        """Train in the folder anew; the run that is there is kept under another name."""

        def read() -> TrainRequest:
            request = self._undoubted()
            kept = set_aside(request.config.output)
            if is_bundle(kept):
                models.add(kept)
            return request

        self._start(training, read)

    def _train_elsewhere(self) -> None:
        """Leave the folder as it is, and train into the next free one."""
        folder = self.settings.output.value()
        if folder is not None:
            self.settings.choose_output(next_free(folder))
            self._start(training, self._undoubted)

    def _undoubted(self) -> TrainRequest:
        """Return the run that is asked for.

        Raises
        ------
        ValueError
            It cannot be, or something speaks against it; the latter is raised once.
        """
        request = self.settings.request()
        doubts = request.doubts()
        asked = (request.config, doubts)
        if doubts and self._confirmed != asked:
            self._confirmed = asked
            raise Doubt("\n".join([*doubts, _GO_ON]))
        return request

    def _segment_with_it(self) -> None:
        """Choose the model that was trained last in the Segment widget, which is opened for it."""
        finished = self._log.finished
        if finished is not None:
            _, segment = self._viewer.window.add_plugin_dock_widget(_PLUGIN, "Segment")
            segment.model.setValue(finished.folder)

    def _start(
        self,
        work: Callable[[TrainRequest, StopEvent], Iterator[Any]],
        read: Callable[[], TrainRequest],
    ) -> None:
        try:
            request = read()
        except Doubt as error:
            self.message.setText(str(error))
            return
        except ValueError as error:
            self.message.setText(one_line(error))
            return
        self.again.hide()
        self.use.hide()
        self._stop, self._log = StopEvent(), RunLog()
        if request.resume:
            self.settings.setValue(request.config)
            self._log.recall(request.config.output / FOLDER / EVENTS_FILE)
        self._worker = in_thread(work, request, self._stop, failed=self._failed)
        self._worker.yielded.connect(self._receive)
        self._worker.finished.connect(self._finished)
        self._guard.watch(self)
        self._show_log()
        self._show_tab(self.plot if work is training else self.report)
        self.progress.setRange(0, 0)  # busy: no step is done yet
        self.progress.show()
        self._update_buttons()
        self._worker.start()

    def _stop_clicked(self) -> None:
        self._stop.set()
        self._update_buttons()
        self.message.setText("Stopping after this step …")

    def _receive(self, event: Any) -> None:
        if isinstance(event, CasePreview):
            self._show_preview(event)
        elif isinstance(event, Report):
            self._say(event.text)
        else:
            self._log.receive(event)
            self._show_log()
        if isinstance(event, Finished) and is_bundle(event.folder):
            models.add(event.folder)
            self.use.show()

    def _show_preview(self, preview: CasePreview) -> None:
        if not self._guard.closing:
            self._preview.show(preview)

    def _show_log(self) -> None:
        log = self._log
        if not self._stop.is_set() or log.finished:
            self.message.setText(log.status)
        if log.share is not None:
            self.progress.setRange(0, 1000)
            self.progress.setValue(round(1000 * log.share))
        report = "\n".join(log.report)
        if report != self.report.toPlainText():
            self.report.setPlainText(report)
        if not self._drawing.isActive():
            self._drawing.start()

    def _draw(self) -> None:
        self.plot.show_curves(self._log.curves)

    def _say(self, text: str) -> None:
        """Show one line as a message, and more as a report under their first."""
        first, _, more = text.partition("\n")
        self.message.setText(first)
        if more:
            self.report.setPlainText(text)
            self._show_tab(self.report)

    def _show_tab(self, tab: QWidget) -> None:
        """Show what a run tells, and make room for it when it is first shown."""
        if self.tabs.isHidden():
            self.tabs.show()
            settings = round(self._parts.height() * _SHARE_OF_SETTINGS)
            self._parts.setSizes([settings, self._parts.height() - settings])
        self.tabs.setCurrentWidget(tab)

    def _failed(self, error: BaseException) -> None:
        self._say(str(error) or type(error).__name__)

    def _finished(self) -> None:
        if self._stop.is_set() and self._log.finished is None:
            self.message.setText("Stopped before the first step.")
        self._drawing.stop()
        self._draw()  # whole when the run is said to have ended, not a quarter of a second later
        self._guard.release()
        if not self._guard.closing:
            self._preview.clear()
        self._worker = None
        self.progress.hide()
        self._update_buttons()

    def _is_busy(self) -> bool:
        return self._worker is not None

    def _leave(self) -> None:
        """Stop the run, with a checkpoint."""
        self._stop.set()
