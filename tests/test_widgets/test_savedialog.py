"""napari's own File > Save Selected Layers, by clicks in a real viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from napari._app_model import get_app_model
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QLabel,
    QLineEdit,
)

from napari_tokensparse.widgets.savedialog import watch_save_dialog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.gui
SAVE = "napari.window.file.save_layers_dialog.selected"
NAPARIS = "napari builtins labels (*.tif"


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    """Open a viewer with labels that our reader read, and errors shown as in napari."""
    viewer = make_napari_viewer(show=True)
    labels = np.zeros((6, 7, 8), np.uint8)
    labels[2:4, 2:5, 3:6] = 3
    image = nib.Nifti1Image(labels, np.diag([-1.0, -1, 2, 1]))
    image.header.set_intent("label")
    nib.save(image, tmp_path / "truth.nii.gz")
    viewer.open(tmp_path / "truth.nii.gz", plugin="napari-tokensparse")
    watch_save_dialog()
    with notification_manager:
        notification_manager.records.clear()
        yield viewer
        notification_manager.records.clear()


def save() -> None:
    """Choose File > Save Selected Layers; an error goes where napari's hook takes it."""
    try:
        get_app_model().commands.execute_command(SAVE).result()
    except OSError as error:
        alone = error.with_traceback(None)  # its frames would keep the window
        notification_manager.receive_error(OSError, alone)


def messages() -> list[str]:
    """Return what the messages say that are on the screen."""
    dialogs = [one for one in QApplication.allWidgets() if isinstance(one, QDialog)]
    labels = [label for one in dialogs if one.isVisible() for label in one.findChildren(QLabel)]
    return [label.text() for label in labels if "out.nii.gz" in label.text()]


def messages() -> list[str]:
    return [str(record.message) for record in notification_manager.records]


@pytest.mark.filterwarnings("default:Plugin 'napari' tried to save:UserWarning")  # as in napari
def test_a_name_of_nifti_is_written_by_us_whatever_line_was_chosen(
    viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    out = tmp_path / "out.nii.gz"
    chosen = (str(out), NAPARIS)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: chosen)
    save()
    assert "save failed" in messages()[0]
    assert messages()[1:] == [
        "Saved out.nii.gz by Token Sparsification: napari's own writer, which was chosen in the "
        "dialog, does not know this format.",
    ]
    (shown,) = messages()  # no traceback stays
    assert shown.startswith("Saved out.nii.gz")
    written, truth = nib.load(out), nib.load(tmp_path / "truth.nii.gz")
    np.testing.assert_array_equal(written.affine, truth.affine)
    np.testing.assert_array_equal(written.dataobj, truth.dataobj)


def test_what_cannot_be_written_is_said_in_one_line(viewer: Any, tmp_path: Path) -> None:
    failed = OSError(f"File {tmp_path}/no/out.nii.gz save failed.\nPlugin 'napari' tried")
    notification_manager.receive_error(OSError, failed)
    assert messages()[-1] == f"{tmp_path}/no: no such folder; create it first"
    viewer.add_points([[0, 0, 0]])
    notification_manager.receive_error(OSError, failed)
    assert (
        messages()[-1]
        == "out.nii.gz: holds one layer of an image or of labels; select one and save"
    )
    notification_manager.receive_error(OSError, OSError("another"))
    assert messages()[-1] == "another"


def test_our_line_is_chosen_in_the_dialog_and_a_bare_name_becomes_nifti(
    viewer: Any, tmp_path: Path, qtbot: Any
) -> None:
    chosen: list[str] = []

    def answer(looks: int = 600) -> None:
        dialog = QApplication.activeModalWidget()
        is_there = isinstance(dialog, QFileDialog)
        if not is_there or (looks and "Token" not in dialog.selectedNameFilter()):
            QTimer.singleShot(50, lambda: answer(looks - is_there))
            return
        chosen.append(dialog.selectedNameFilter())
        dialog.findChild(QLineEdit).setText(str(tmp_path / "truth labels"))
        save_button = dialog.findChild(QDialogButtonBox).button(
            QDialogButtonBox.StandardButton.Save
        )
        qtbot.mouseClick(save_button, Qt.MouseButton.LeftButton)

    QTimer.singleShot(50, answer)
    save()
    assert chosen[0].startswith("Token Sparsification NIfTI")
    assert (tmp_path / "truth labels.nii.gz").is_file()
