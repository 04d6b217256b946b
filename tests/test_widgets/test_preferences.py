"""napari's Preferences and the widgets that are open meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from qtpy.QtWidgets import QLineEdit

from napari_tokensparse.compute.devices import use_threads
from napari_tokensparse.segmenting.infer import available_devices
from napari_tokensparse.widgets.segment.networks import Networks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Opened

pytestmark = pytest.mark.gui


def typing_line(dialog: Any, tip: str) -> QLineEdit:
    """Find a line of the Preferences by what its tool tip says."""
    (line,) = (x for x in dialog.findChildren(QLineEdit) if x.toolTip().startswith(tip))
    return line


def test_what_is_set_in_the_preferences_holds_in_open_widgets_at_once(
    settings: Any, opened: Opened, write_nano: Callable[..., Path], tmp_path: Path
) -> None:
    widget = opened.widget
    assert (widget.device.value(), widget.live.isChecked()) == ("auto", False)
    dialog = opened.viewer.window._open_preferences_dialog()
    device = typing_line(dialog, "Where to compute")
    device.setText("cuda:9")  # one change, as a paste; typed, there are six
    assert widget.device.value() == "cuda:9"
    for text in ("c", "cp", "cpx"):
        device.setText(text)
    listed = [widget.device.itemText(n) for n in range(widget.device.count())]
    assert [name for name in listed if name not in ("auto", *available_devices())] == ["cpx"]
    settings.computing.device = "cpu"
    assert widget.device.value() == "cpu"
    settings.segment.live_preview = True
    assert widget.live.isChecked()
    assert "No image" in widget.message.text()

    mine = write_nano("mine")
    assert widget.model.combo.findText("mine") < 0
    settings.models.folder = str(tmp_path)
    assert widget.model.combo.findData(str(mine)) >= 0
    assert widget.model.combo.currentText() == "brain-structures"
    write_nano("later")
    widget.model.combo.showPopup()
    widget.model.combo.hidePopup()
    assert widget.model.combo.findText("later") >= 0

    use_threads(0)  # whatever tests before this one left
    threads = torch.get_num_threads()
    settings.computing.threads = threads + 1
    try:
        Networks().load(mine, "cpu")
        assert torch.get_num_threads() == threads + 1
        settings.computing.threads = 0
        Networks().load(mine, "cpu")
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(threads)
    dialog.reject()  # puts back what was set before it opened
    assert widget.device.value() == "auto"
    assert not widget.live.isChecked()
