"""Napari widgets: thin views on the engine, each loaded when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_tokensparse.widgets.segment import SegmentWidget

__all__ = ["SegmentWidget"]


def __getattr__(name: str) -> type[SegmentWidget]:
    if name != "SegmentWidget":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from napari_tokensparse.widgets.segment import SegmentWidget

    return SegmentWidget
