"""Whether there is something to segment: buttons follow, and a line says what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject

from napari_tokensparse.widgets.segment.scan import missing_images

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qtpy.QtWidgets import QAbstractButton, QLabel, QWidget

    from napari_tokensparse.widgets.segment.channels import ChannelCombos


class Ready(QObject):
    """Switches buttons off while no image is chosen, and lets no line about an earlier one stand.

    Parameters
    ----------
    channels
        Where images are chosen.
    buttons
        Those that need one.
    message
        The line.
    busy
        Whether a run goes on: its button cancels then, and the line is the run's.
    parent
        Qt parent.
    """

    def __init__(
        self,
        channels: ChannelCombos,
        buttons: Sequence[QAbstractButton],
        message: QLabel,
        busy: Callable[[], bool],
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self._channels, self._buttons, self._message = channels, buttons, message
        self._busy = busy
        self._missing = ""
        channels.valueChanged.connect(self.check)
        self.check()

    def check(self) -> None:
        """Look again, and say what is missing."""
        if self._busy():
            return
        missing = self.switch()
        if missing or self._message.text() == self._missing:
            self._message.setText(missing)
        self._missing = missing

    def switch(self) -> str:
        """Switch the buttons, and return what is missing."""
        missing = missing_images(self._channels.value(), self._channels.channels)
        for button in self._buttons:
            button.setEnabled(not missing)
        return missing
