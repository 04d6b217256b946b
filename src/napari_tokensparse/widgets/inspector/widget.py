"""The Token inspector: what became of the tokens of the latest result, in tabs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from napari_tokensparse.widgets.accessible import name_inputs
from napari_tokensparse.widgets.canvas.context import hold_context
from napari_tokensparse.widgets.closing import end_with_dock
from napari_tokensparse.widgets.controls import research_note
from napari_tokensparse.widgets.fitting import dock_as_tab, scrolled
from napari_tokensparse.widgets.inspector.audit_pane import AuditPane
from napari_tokensparse.widgets.inspector.curve_pane import CurvePane
from napari_tokensparse.widgets.inspector.doubt_pane import DoubtPane
from napari_tokensparse.widgets.inspector.stages_pane import StagesPane
from napari_tokensparse.widgets.inspector.token_pane import TokenPane
from napari_tokensparse.widgets.layerfiles import suggested_file
from napari_tokensparse.widgets.results import results_of
from napari_tokensparse.widgets.table import Table

if TYPE_CHECKING:
    import napari


class InspectorWidget(QWidget):
    """Inspect the tokens of the result that the Segment widget gave last.

    Parameters
    ----------
    napari_viewer
        The viewer with the result.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.token = TokenPane(napari_viewer)
        self.stages = StagesPane(napari_viewer)
        self.curve = CurvePane(napari_viewer)
        self.audit = AuditPane(napari_viewer)
        self.doubt = DoubtPane(napari_viewer)
        self.tabs = QTabWidget()
        for pane, title, tip in (
            (self.token, "Token", "The token under the pointer"),
            (self.stages, "Stages", "What each stage kept and pruned"),
            (self.curve, "Curve", "Segmentation, time and memory at several keep ratios"),
            (self.audit, "Audit", "What pruning changed, against keep ratio 1.0"),
            (self.doubt, "Least sure", "Where the network is least sure of its class"),
        ):
            self.tabs.setTabToolTip(self.tabs.addTab(pane, title), tip)
        for table in self.findChildren(Table):
            table.suggest = partial(suggested_file, results_of(napari_viewer))
        layout = QVBoxLayout(scrolled(self, below=research_note()))
        layout.addWidget(self.tabs)
        name_inputs(self)
        hold_context(napari_viewer, self)
        dock_as_tab(self)
        end_with_dock(self, napari_viewer)
