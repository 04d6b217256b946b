"""The Train widget in a real viewer, driven by clicks."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from napari import Viewer
from napari.layers import Image, Labels
from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_tokensparse.model.folder import origin_of
from napari_tokensparse.volumes.placement import placement_of
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.widgets.train.data_source import LAYERS, FileSource, LayerSource
from napari_tokensparse.widgets.train.fields import Length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytestqt.qtbot import QtBot

    from napari_tokensparse.widgets import SegmentWidget, TrainWidget

pytestmark = pytest.mark.gui

SMALL = (32, 32, 16)
A_STEP_MS = 120_000  # the first one waits for torch, the data and the network


@dataclass(frozen=True)
class Training:
    """A window that shows the Train widget."""

    viewer: Viewer
    widget: TrainWidget
    qtbot: QtBot

    def click(self, button: str) -> None:
        """Click on ``check``, ``train``, ``stop`` or ``resume``."""
        self.qtbot.mouseClick(getattr(self.widget, button), Qt.MouseButton.LeftButton)

    def steps(self, number: int) -> None:
        """Wait until so many steps are drawn, or the run ends without them."""

        def done() -> bool:
            return len(self.drawn()) >= number or self.widget.train.isEnabled()

        self.qtbot.waitUntil(done, timeout=A_STEP_MS)
        assert len(self.drawn()) >= number, self.widget.message.text()

    def drawn(self) -> list[int]:
        """Return the steps that the loss curve shows."""
        steps, _ = self.widget.plot.loss_curve.getOriginalDataset()
        return [] if steps is None else steps.tolist()

    def finish(self) -> None:
        """Wait until the run has ended."""
        self.qtbot.waitUntil(self.widget.train.isEnabled, timeout=A_STEP_MS)


@pytest.fixture
def training(
    make_napari_viewer: Callable[..., Any],
    qtbot: QtBot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Training]:
    """Open a viewer with the Train widget, as the menu does, set to the nano size."""
    monkeypatch.setenv("TOKENSPARSE_MODELS", str(tmp_path / "models"))
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Train")
    widget.settings.network_size.setCurrentText("nano")
    widget.settings.device.setValue("cpu")
    widget.settings.length.setValue(Length(minutes=5))
    opened = Training(viewer, widget, qtbot)
    gone: list[bool] = []
    widget.destroyed.connect(lambda *_: gone.append(True))
    yield opened
    if not gone and opened.viewer in Viewer._instances and widget.stop.isEnabled():
        opened.click("stop")  # the test failed in the middle of a run; closing would ask
        opened.finish()


@pytest.fixture
def one_channel(write_folders: Callable[..., Path]) -> Path:
    """Write four small cases of one channel, the only kind that the Segment widget takes."""
    folder = write_folders("tubes", cases=4, shape=SMALL)
    for path in (folder / "imagesTr").iterdir():
        image = nib.load(path)
        first = np.asarray(image.dataobj)[..., 0]
        nib.save(nib.Nifti1Image(first, image.affine), path)
    return folder


@contextmanager
def said_of(widget: TrainWidget) -> Iterator[list[str]]:
    """Gather what the widget says meanwhile."""
    said: list[str] = []
    widget.message.installEventFilter(watcher := _Watcher(said))
    yield said
    widget.message.removeEventFilter(watcher)


class _Watcher(QObject):
    """Notes each text of a label when it is painted anew."""

    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self._said = said

    def eventFilter(self, label: Any, _event: Any) -> bool:
        self._said += [line for line in label.text().splitlines() if line not in self._said]
        return False


def press(text: str) -> None:
    """Press a button of the message box that is about to open."""
    box = QApplication.activeModalWidget()
    if isinstance(box, QMessageBox):
        next(button for button in box.buttons() if button.text() == text).click()
    else:
        QTimer.singleShot(50, lambda: press(text))


def test_train_stop_resume_and_use_the_model_by_clicks(
    training: Training, one_channel: Path, tmp_path: Path
) -> None:
    viewer, widget = training.viewer, training.widget
    _, segment = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
    widget.settings.source.setValue(FileSource(one_channel))
    widget.settings.length.setValue(Length(epochs=6))  # of three cases; one is held out
    model = tmp_path / "models/tubes"
    assert widget.settings.output.value() == model
    assert [b.isEnabled() for b in (widget.stop, widget.resume)] == [False, False]

    training.click("train")
    assert [b.isEnabled() for b in (widget.train, widget.check, widget.stop)] == [
        False,
        False,
        True,
    ]
    training.steps(2)
    assert widget.progress.isVisible()
    training.steps(len(training.drawn()) + 2)  # the plot is live
    assert widget.message.text().startswith("Step ")

    training.click("stop")
    training.finish()
    stopped_at = training.drawn()[-1]
    assert widget.message.text().startswith(f"Ended after step {stopped_at}: stopped.")
    assert f"is in {model}; choose it in Segment." in widget.message.text()
    assert (model / "training/state.pt").is_file()
    assert widget.resume.isEnabled()

    unfinished = segment.model.combo.findData(str(model))
    assert segment.model.combo.itemText(unfinished) == "tubes (unfinished)"

    training.click("train")  # with whatever is chosen now: the run that is there is not touched
    assert "holds a run already" in widget.message.text()
    assert widget.again.isVisible()
    assert widget.again.elsewhere.text() == "Train into tubes-2"

    training.click("resume")
    training.steps(stopped_at + 1)
    training.finish()
    assert widget.again.isHidden()
    assert training.drawn() == list(range(1, 19))
    assert widget.message.text().startswith("Ended after step 18: all steps done.")
    assert set(widget.plot.dice_curves) == {"label 1", "label 2", "label 3"}
    segment_with(training, segment, one_channel, model)


def test_start_over_keeps_the_earlier_run_and_another_folder_leaves_it(
    training: Training, one_channel: Path, tmp_path: Path
) -> None:
    widget, model = training.widget, tmp_path / "models/tubes"
    widget.settings.source.setValue(FileSource(one_channel))
    widget.settings.length.setValue(Length(epochs=1))
    training.click("train")
    training.finish()
    first = (model / "models/model.safetensors").read_bytes()

    training.click("train")
    training.qtbot.mouseClick(widget.again.over, Qt.MouseButton.LeftButton)
    training.finish()
    kept = tmp_path / "models/tubes-before"
    assert (kept / "models/model.safetensors").read_bytes() == first
    assert widget.message.text().startswith("Ended after step 3: all steps done.")

    widget.settings.start_from.setValue(kept)
    assert not widget.settings.network_size.isEnabled()
    training.click("train")
    training.qtbot.mouseClick(widget.again.elsewhere, Qt.MouseButton.LeftButton)
    training.finish()
    assert widget.settings.output.value() == tmp_path / "models/tubes-2"
    assert f"Begins from {model.name} (weights" in widget.report.toPlainText()
    origin = origin_of(tmp_path / "models/tubes-2")
    assert origin is not None and origin.began_from is not None
    assert origin.began_from.name == "tubes"


def segment_with(training: Training, segment: SegmentWidget, data: Path, model: Path) -> None:
    """Choose the new model in the Segment widget that is open by a click, and use it."""
    training.viewer.open(data / "imagesTr/tubes_000.nii.gz", plugin="napari-tokensparse")
    assert segment.model.value() != model
    training.click("use")
    assert segment.model.value() == model
    assert segment.model.combo.currentText() == model.name
    training.qtbot.mouseClick(segment.button, Qt.MouseButton.LeftButton)
    training.qtbot.waitUntil(lambda: segment.button.text() == "Segment", timeout=A_STEP_MS)
    labels = training.viewer.layers["tubes_000 labels"]
    assert set(np.unique(labels.data)) <= {0, 1, 2, 3}
    assert "tokens reached the end" in segment.message.text()


def test_the_preview_of_the_validation_case_lies_where_its_image_does(
    training: Training, write_msd: Callable[..., Path]
) -> None:
    viewer, widget = training.viewer, training.widget
    data = write_msd("tubes", cases=3, validation=1, shape=SMALL)
    widget.settings.source.setValue(FileSource(data / "dataset.json"))
    widget.settings.length.setValue(Length(epochs=2))
    shown: list[Any] = []
    viewer.layers.events.inserted.connect(lambda event: shown.append(event.value))
    with said_of(widget) as said:
        training.click("train")
        training.finish()

    assert not list(viewer.layers)  # the preview goes when training ends
    assert "Step 2: validating on 1 case …" in said
    assert "Step 6: mean Dice" in widget.report.toPlainText()
    image, labels = shown[-2:]
    assert (image.name, labels.name) == ("tubes_003 preview image", "tubes_003 preview")
    assert isinstance(image, Image) and isinstance(labels, Labels)
    volume = read_volume(data / "imagesTr/tubes_003.nii.gz")
    where = placement_of(volume.affine, volume.shape)
    np.testing.assert_array_equal(where.unview(image.data), volume.array[0])
    for layer in (image, labels):
        np.testing.assert_allclose(layer.scale, where.scale)
        np.testing.assert_allclose(layer.translate, where.translate)
        assert layer.axis_labels == ("z", "y", "x")
        assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert list(labels.features["name"]) == ["background", "tube", "ball", "rod"]
    assert set(widget.plot.dice_curves) == {"tube", "ball", "rod"}


def test_a_few_painted_slices_of_an_open_image_are_enough(training: Training) -> None:
    viewer, widget = training.viewer, training.widget
    rng = np.random.default_rng(0)
    bright = np.zeros((24, 32, 32), bool)
    bright[:, 8:20, 8:20] = True
    data = (100 * bright + 20 * rng.standard_normal(bright.shape) + 50).astype(np.float32)
    image = viewer.add_image(data, name="scan", scale=(2, 1, 1), translate=(5, 6, 7))
    widget.settings.source.kind.setCurrentText(LAYERS)
    viewer.window._qt_viewer.layerButtons.newLabelsButton.click()
    labels = viewer.layers[-1]
    for z in (4, 12, 20):
        labels.data[z] = np.where(bright[z], 2, 1)
    assert widget.settings.source.value().pairs == ((image, labels),)
    training.click("train")
    said = widget.message.text()
    assert f"{labels.name}: labels are in 3 of 24 slices" in said
    assert said.endswith("Click again to go on all the same.")
    assert widget.train.isEnabled() and training.drawn() == []
    widget.settings.source.zero.click()
    widget.settings.classes.names.setText("2 bright part")
    widget.settings.classes.background.setValue(1)

    widget.settings.length.setValue(Length(epochs=4))
    shown: list[Any] = []
    viewer.layers.events.inserted.connect(lambda event: shown.append(event.value))
    training.click("train")
    training.finish()
    assert widget.message.text().startswith("Ended after step 4")
    (preview,) = shown
    assert preview.name == "scan preview"
    assert list(preview.features["name"]) == ["background", "bright part"]
    for name in ("scale", "translate", "units", "axis_labels"):
        np.testing.assert_array_equal(getattr(preview, name), getattr(image, name))
    assert preview.data.shape == image.data.shape
    assert [layer.name for layer in viewer.layers] == ["scan", labels.name]
    assert "none is held out" in widget.message.text()


def test_check_data_reports_every_bad_case_and_training_can_go_on_without_them(
    training: Training, one_channel: Path
) -> None:
    widget = training.widget
    (one_channel / "imagesTr/tubes_001.nii.gz").write_bytes(b"no image")
    label = nib.load(one_channel / "labelsTr/tubes_002.nii.gz")
    moved = label.affine @ np.diag([1, 1, 1.5, 1])
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj), moved), label.get_filename())
    widget.settings.source.setValue(FileSource(one_channel))
    training.click("check")
    training.finish()
    report = widget.report.toPlainText()
    assert widget.report.isVisible()
    assert "tubes_001" in report and "tubes_002" in report
    assert "tubes_000" not in report and "tubes_003" not in report

    training.click("train")
    training.finish()
    assert training.drawn() == []
    assert "tubes_001" in widget.report.toPlainText()

    widget.settings.skip_bad.click()
    training.click("train")
    training.steps(1)
    training.click("stop")
    training.finish()
    assert widget.message.text().startswith("Ended after step")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (FileSource(), "No data: choose a folder, a dataset.json or open layers."),
        (LayerSource(), "No layers: choose an image and its labels under Open layers."),
        (FileSource(Path("/none")), "/none: "),
    ],
    ids=["no data", "no layers", "no such folder"],
)
def test_what_cannot_be_trained_on_is_refused_in_one_plain_line(
    training: Training, source: FileSource | LayerSource, said: str, tmp_path: Path
) -> None:
    widget = training.widget
    widget.settings.source.setValue(source)
    widget.settings.output.setValue(tmp_path / "model")
    training.click("train")
    training.finish()
    assert widget.message.text().startswith(said)
    assert "\n" not in widget.message.text()
    assert widget.progress.isHidden()


def test_closing_the_window_asks_and_then_stops_with_a_checkpoint(
    training: Training, one_channel: Path, tmp_path: Path
) -> None:
    widget, window = training.widget, training.viewer.window._qt_window
    widget.settings.source.setValue(FileSource(one_channel))
    training.click("train")
    training.steps(1)

    press("Keep training")
    assert not window.close()
    assert window.isVisible()
    training.steps(len(training.drawn()) + 1)  # it goes on

    press("Stop and close")
    assert window.close()
    training.viewer.close()  # at once: afterwards there is no window for it to close
    assert widget.message.text().startswith("Ended after step")
    assert (tmp_path / "models/tubes/training/state.pt").is_file()


def test_an_idle_window_closes_without_a_question(training: Training) -> None:
    assert training.viewer.window._qt_window.close()
    training.viewer.close()


def test_taking_the_widget_out_of_the_window_stops_the_run_with_a_checkpoint(
    training: Training, one_channel: Path, tmp_path: Path
) -> None:
    training.widget.settings.source.setValue(FileSource(one_channel))
    training.click("train")
    training.steps(1)
    with training.qtbot.waitSignal(training.widget.destroyed, timeout=A_STEP_MS):
        training.viewer.window.remove_dock_widget(training.widget)
    assert (tmp_path / "models/tubes/training/state.pt").is_file()


@pytest.mark.deep
def test_a_run_of_two_processes_is_driven_by_the_same_clicks(
    training: Training, one_channel: Path, tmp_path: Path
) -> None:
    widget = training.widget
    widget.settings.source.setValue(FileSource(one_channel))
    widget.settings.processes.setValue(2)
    training.click("train")
    training.steps(2)
    training.click("stop")
    training.finish()
    assert widget.message.text().startswith(f"Ended after step {training.drawn()[-1]}: stopped.")
    assert (tmp_path / "models/tubes/training/state.pt").is_file()
