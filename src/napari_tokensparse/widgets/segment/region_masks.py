"""The masks of a result's overlapping regions as layers, where a person wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QWidget

from napari_tokensparse.widgets.layers import REGION, RESULT_KEY, placement_kwargs, region_layers
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.showing import show_layers

if TYPE_CHECKING:
    import napari

    from napari_tokensparse.widgets.layers import LayerSpec


class RegionMasks(QCheckBox):
    """Shows or hides a layer for each region of the latest result; hidden where there are none.

    Parameters
    ----------
    viewer
        Whose latest result it is.
    parent
        Qt parent.
    """

    def __init__(self, viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__("A layer for each region", parent)
        self._viewer, self._results = viewer, results_of(viewer)
        self._image_name = ""
        self.setToolTip(
            "The model's regions may overlap, and labels show the one painted last: this adds the "
            "mask of each region whole"
        )
        self.toggled.connect(lambda _: self._update())
        self._results.changed.connect(self._update)
        self._update()

    def _update(self) -> None:
        """Bring the layers up to date with the latest result."""
        wanted = self._wanted()
        names = {spec.name for spec in wanted}
        for layer in list(self._viewer.layers):
            if _is_region_of(layer, self._image_name) and layer.name not in names:
                self._viewer.layers.remove(layer)
        show_layers(self._viewer, wanted)

    def _wanted(self) -> list[LayerSpec]:
        latest = self._results.latest
        masks = None if latest is None else latest.segmentation.regions
        self.setVisible(masks is not None)
        if latest is None:
            return []
        info, image = latest.network.info, latest.image
        self._image_name = image.name
        if masks is None or not self.isChecked():
            return []
        placement = placement_kwargs(image)
        return region_layers(image.name, placement, latest.volume, masks, info)


def _is_region_of(layer: napari.layers.Layer, image_name: str) -> bool:
    kind = str(layer.metadata.get(RESULT_KEY, ""))
    return kind.startswith(f"{REGION} ") and layer.name == f"{image_name} {kind}"
