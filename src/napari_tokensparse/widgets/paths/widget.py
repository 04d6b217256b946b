"""The Folders widget: the paths among napari's Preferences, which has no button to choose one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFormLayout, QVBoxLayout, QWidget

from napari_tokensparse.catalogue.fetching import is_url
from napari_tokensparse.catalogue.models import index_place
from napari_tokensparse.model.folder import user_models_folder
from napari_tokensparse.widgets.accessible import name_inputs
from napari_tokensparse.widgets.canvas.context import hold_context
from napari_tokensparse.widgets.closing import end_with_dock
from napari_tokensparse.widgets.fitting import dock_as_tab, scrolled
from napari_tokensparse.widgets.paths.edit import PathEdit
from napari_tokensparse.widgets.preferences import preferences
from napari_tokensparse.widgets.wrapped import WrappedLabel

if TYPE_CHECKING:
    import napari


class FoldersWidget(QWidget):
    """Choose where your models and the list of models to download lie.

    The values are napari's settings of this plugin: its Preferences show them too, and what is set
    there is shown here.

    Parameters
    ----------
    napari_viewer
        In whose window it is docked.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.folder = PathEdit("Choose the folder of your models")
        self.folder.line.setToolTip(
            "Where your own models lie, and new ones go; empty is the folder for data of programs"
        )
        self.index = PathEdit("Choose a list of models", "Index (*.json)", folders=False)
        self.index.line.setToolTip(
            "List of models to download: a file or an https address; empty is the package's own"
        )
        self.message = WrappedLabel()
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Model folder", self.folder)
        form.addRow("Index", self.index)
        layout = QVBoxLayout(scrolled(self))
        layout.addLayout(form)
        layout.addWidget(self.message)
        layout.addStretch()
        for edit in (self.folder, self.index):
            edit.line.editingFinished.connect(self._set)
            for button in (edit.folder_button, edit.file_button):  # its dialog is over by then
                button.clicked.connect(self._set)
        preferences.modelsFolderChanged.connect(self._show)
        preferences.indexChanged.connect(self._show)
        self._show()
        name_inputs(self)
        hold_context(napari_viewer, self)
        dock_as_tab(self)
        end_with_dock(self, napari_viewer)

    def _show(self) -> None:
        """Show what is set, and what holds: a variable of the surroundings goes before it."""
        models = preferences.value().models
        for edit, text in ((self.folder, models.folder), (self.index, models.index)):
            edit.line.setText(text)
        self.message.setText(
            f"Your models lie in {user_models_folder()}.\nModels are offered by {index_place()}."
        )

    def _set(self) -> None:
        """Set what is typed or chosen, unless nothing lies there."""
        folder, index = (_whole(edit.line.text().strip()) for edit in (self.folder, self.index))
        if folder and not Path(folder).is_dir():
            self.message.setText(f"{folder}: no such folder; nothing was set.")
        elif index and not (is_url(index) or Path(index).is_file()):
            self.message.setText(f"{index}: neither a file nor an address; nothing was set.")
        else:
            preferences.set_models(folder, index)
            self._show()


def _whole(place: str) -> str:
    """Return a path from its root, and an address or nothing as it is."""
    if not place or is_url(place):
        return place
    return str(Path(place).expanduser().absolute())
