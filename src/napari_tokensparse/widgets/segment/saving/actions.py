"""Two buttons that save a result: "Save labels…" and "Save maps…"."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # renamed by qtpy
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QMenu,
    QPushButton,
    QWidget,
)

from napari_tokensparse.widgets.history.history import history_of
from napari_tokensparse.widgets.layerfiles import (
    ask_for_file,
    labels_path,
    may_replace,
    open_scans,
)
from napari_tokensparse.widgets.layers import IMPORTANCE, LABELS, PRUNED_AT, RESULT_KEY, RUN_KEY
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.savedialog import watch_save_dialog
from napari_tokensparse.widgets.segment.saving.receipts import inputs_of
from napari_tokensparse.widgets.segment.saving.result import (
    LabelsToSave,
    MapToSave,
    check_place,
    in_the_way,
    save_labels,
    save_map,
    save_maps,
)
from napari_tokensparse.widgets.showing import KEPT_KEY, counted, edited_voxels
from napari_tokensparse.widgets.workers import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari

    from napari_tokensparse.widgets.results import ShownResult

_NIFTI, _NRRD = "NIfTI (*.nii.gz *.nii)", "NRRD (*.nrrd)"
_SEG, _ZARR = "DICOM SEG (*.dcm)", "OME-Zarr (*.ome.zarr)"


class SaveActions(QWidget):
    """Saves the labels of a result, and its maps of tokens, where a person says.

    Parameters
    ----------
    viewer
        Whose results.
    parent
        Qt parent.

    Signals
    -------
    said
        A line about what was done.
    """

    said = Signal(str)

    def __init__(self, viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._results = viewer, results_of(viewer)
        self._into = ""  # the folder that is made for what is saved
        watch_save_dialog()
        self.labels_button = QPushButton("Save labels…")
        self.labels_button.setToolTip(
            "Save the selected labels of a result, or those of the last run, as they are now; "
            "names and colours, the table of results and the receipt go beside them. The format is "
            "that of the name"
        )
        self.maps_button = QPushButton("Save maps…")
        self.maps_button.setToolTip("Save importance maps and pruned-at of the result in view")
        self._menu = QMenu(self.maps_button)
        self.maps_button.setMenu(self._menu)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for button in (self.labels_button, self.maps_button):
            layout.addWidget(button)
        self.labels_button.clicked.connect(lambda _: self.ask_for_labels())
        self._results.changed.connect(self._follow)
        self._results.changed.connect(self._list_maps)
        viewer.layers.events.removed.connect(self._follow)
        viewer.layers.events.inserted.connect(self._follow)
        self._follow()
        self._list_maps()

    def ask_for_labels(self) -> None:
        """Ask where to, and save labels there; ``said`` tells when they are there."""
        layer = self._labels()
        assert layer is not None  # or the button is not enabled
        asked = self._read_labels(layer)
        formats = [_NIFTI, _NRRD, *([_ZARR] if find_spec("zarr") else [])]
        formats += [_SEG] if layer.metadata.get("tokensparse", {}).get("slices") else []
        path = self._ask("Save labels", asked.path, formats)
        if path is None:
            return
        asked = replace(asked, path=path)
        try:
            check_place(asked)
        except (OSError, ValueError) as error:
            self.said.emit(str(error))
            return
        if may_replace(self, in_the_way(asked), self.said.emit):
            self._save(save_labels, asked)

    def ask_for_map(self, stage: int | None) -> None:
        """Ask where to, and save importance at a stage there, or pruned-at where that is None."""
        shown = self._shown()
        name = "pruned-at" if stage is None else f"importance-{stage}"
        path = self._ask("Save map", self._place(shown, name), [_NIFTI, _NRRD])
        if path is not None:
            self._save(save_map, MapToSave(path, shown, stage, self._scans(shown)))

    def ask_for_maps(self) -> None:
        """Ask where to, and save all maps in a folder of their own there."""
        shown = self._shown()
        own = self._place(shown, "tokens", "")
        text = QFileDialog.getExistingDirectory(
            self, f"Where to put the folder {own.name} of the maps", str(own.parent)
        )
        if text:
            chosen = Path(text)
            folder = chosen if chosen.name == own.name else chosen / own.name
            self._save(save_maps, folder, shown, self._scans(shown), into=f"{folder.name}/")

    def _labels(self) -> Labels | None:
        """Return the selected labels of a result, else the last of them that are shown."""
        label_layers = [layer for layer in self._viewer.layers if _are_labels(layer)]
        active = self._viewer.layers.selection.active
        shown = [layer for layer in label_layers if layer.visible] or label_layers
        return active if active in label_layers else (shown[-1] if shown else None)

    def _read_labels(self, layer: Labels) -> LabelsToSave:
        run = history_of(self._viewer).numbered(layer.metadata.get(RUN_KEY))
        shown = None if run is None else run.shown()
        data, meta, _ = layer.as_layer_data_tuple()
        meta = {**meta, "metadata": dict(layer.metadata)}
        path = Path.home() / f"{_plain(layer.name)}.nii.gz"
        if shown is not None:
            edited = edited_voxels(layer)
            by_hand = 0 if edited is None else int(np.count_nonzero(edited))
            kept = layer.metadata.get(KEPT_KEY, ())
            if by_hand:
                kept = (*kept, f"edited by hand: {counted(by_hand)} of the labels")
            shown = replace(shown, kept=kept)
            path = self._place(shown, _plain(layer.name.removeprefix(f"{shown.image.name} ")))
        inputs = [] if shown is None else inputs_of(shown)
        return LabelsToSave(path, np.array(data), meta, shown, inputs, self._scans(shown))

    def _shown(self) -> ShownResult:
        shown = self._results.latest
        assert shown is not None  # or the button is not enabled
        return shown

    def _scans(self, shown: ShownResult | None) -> list[Path]:
        """Return what is never written over: open scans, and the slices of the series."""
        slices = [] if shown is None else [path.parent for path in shown.volume.slices[:1]]
        return [*open_scans(self._viewer.layers), *slices]

    def _place(self, shown: ShownResult, name: str, suffix: str = ".nii.gz") -> Path:
        """Return where something of a result goes by default: beside the scan, named after it."""
        scans = open_scans([shown.image])
        labels = labels_path(shown.image.name, scans[0] if scans else None)
        stem = labels.name.removesuffix(f"_{LABELS}.nii.gz")
        return labels.with_name(f"{stem}_{name}{suffix}")

    def _ask(self, title: str, start: Path, formats: list[str]) -> Path | None:
        asked = ask_for_file(self, title, start, formats, self.said.emit)
        return None if asked is None else asked[0]

    def _save(self, write: Callable[..., list[Path]], *asked: Any, into: str = "") -> None:
        self.setEnabled(False)
        self._into = into
        self.said.emit("Saving …")
        worker = in_thread(write, *asked, failed=self._fail)
        worker.returned.connect(self._say_saved)
        worker.finished.connect(self._follow)
        worker.start()

    def _fail(self, error: BaseException) -> None:
        self.said.emit(str(error))

    def _say_saved(self, written: list[Path]) -> None:
        first, *rest = written
        beside = f", and beside it {', '.join(path.name for path in rest)}" if rest else ""
        self.said.emit(f"Saved {self._into}{first.name}{beside}.")

    def _follow(self, _event: Any = None) -> None:
        """Offer what there is to save."""
        latest = self._results.latest
        self.setEnabled(True)
        self.labels_button.setEnabled(self._labels() is not None)
        self.maps_button.setEnabled(latest is not None)

    def _list_maps(self) -> None:
        """Offer the maps of the latest result."""
        latest = self._results.latest
        self._menu.clear()
        if latest is None:
            return
        for stage in range(1, latest.segmentation.tokens.stages + 1):
            self._offer(f"{IMPORTANCE.capitalize()} {stage}…", partial(self.ask_for_map, stage))
        self._offer(f"{PRUNED_AT.capitalize()}…", partial(self.ask_for_map, None))
        self._offer("All, into a folder…", self.ask_for_maps)

    def _offer(self, text: str, ask: Callable[[], None]) -> None:
        action = self._menu.addAction(text)
        assert action is not None
        action.triggered.connect(lambda _: ask())


def _are_labels(layer: Any) -> bool:
    return isinstance(layer, Labels) and layer.metadata.get(RESULT_KEY) == LABELS


def _plain(name: str) -> str:
    """Return a layer's name as that of a file."""
    return re.sub(r"[^\w.+-]+", "_", name)
