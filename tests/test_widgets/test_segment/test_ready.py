"""Buttons and the line of the Segment widget follow the images that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.gui


def test_without_an_image_nothing_can_be_clicked_and_no_line_about_an_earlier_one_stands(
    opened: Any, nano: Path
) -> None:
    viewer, widget = opened.viewer, opened.widget
    said = "No image: open a volume, then choose it here."
    assert not widget.button.isEnabled() and not widget.beside.isEnabled()
    assert widget.message.text() == said

    grey = np.random.default_rng(0).integers(1, 200, (32, 32, 32)).astype(np.uint8)
    image = viewer.add_image(grey, name="scan")
    assert widget.button.isEnabled() and widget.beside.isEnabled()
    assert widget.message.text() == ""
    widget.model.setValue(nano)
    opened.segment()
    assert widget.message.text().startswith("Done")
    viewer.layers.remove(image)
    assert not widget.button.isEnabled()
    assert widget.message.text() == said
