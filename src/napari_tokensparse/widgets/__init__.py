"""Napari widgets: thin views on the engine, each loaded when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_tokensparse.widgets.importing import IMPORTING

if TYPE_CHECKING:
    from napari_tokensparse.widgets.batch.widget import BatchWidget
    from napari_tokensparse.widgets.classes.widget import ClassListWidget
    from napari_tokensparse.widgets.inspector.widget import InspectorWidget
    from napari_tokensparse.widgets.paths.widget import FoldersWidget
    from napari_tokensparse.widgets.segment.widget import SegmentWidget
    from napari_tokensparse.widgets.train.widget import TrainWidget

__all__ = [
    "BatchWidget",
    "ClassListWidget",
    "FoldersWidget",
    "InspectorWidget",
    "SegmentWidget",
    "TrainWidget",
]

_MODULES = {
    "BatchWidget": "batch.widget",
    "ClassListWidget": "classes.widget",
    "FoldersWidget": "paths.widget",
    "InspectorWidget": "inspector.widget",
    "SegmentWidget": "segment.widget",
    "TrainWidget": "train.widget",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with IMPORTING:  # a thread of another widget may be at the engine, and at scipy with it
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
