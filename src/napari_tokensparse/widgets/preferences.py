"""What napari's Preferences hold for this plugin, for widgets that are open meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.settings import get_plugin_settings
from qtpy.QtCore import (  # type: ignore[attr-defined]  # Signal is renamed by qtpy
    QObject,
    Signal,
)

from napari_tokensparse.common import settings

if TYPE_CHECKING:
    from napari_tokensparse.common.settings import Settings


class Preferences(QObject):
    """Follows napari's settings of this plugin, and tells the rest of the package what they are.

    Signals
    -------
    deviceChanged, livePreviewChanged
        A person set another value in the Preferences.
    modelsFolderChanged
        The user's models lie elsewhere now.
    indexChanged
        The list of models to download does.
    """

    deviceChanged = Signal(str)
    livePreviewChanged = Signal(bool)
    modelsFolderChanged = Signal()
    indexChanged = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._followed: Any = None
        self._known: Settings | None = None

    def value(self) -> Settings:
        """Return the settings that hold now."""
        theirs = get_plugin_settings().get(settings.PLUGIN)
        if theirs is None:  # the widget is used where napari does not know the plugin
            return settings.current()
        if theirs is not self._followed:  # napari makes new ones when plugins come and go
            theirs.events.changed.connect(self._changed)
            self._followed = theirs
        self._known = settings.Settings.model_validate(theirs.model_dump())
        settings.follow(self._known)
        return self._known

    def set_models(self, folder: str, index: str) -> None:
        """Set where models lie, as a person does in the Preferences; napari keeps it at once."""
        models = get_plugin_settings(settings.PLUGIN).models
        models.folder, models.index = folder, index

    def _changed(self, _event: Any = None) -> None:
        before, now = self._known, self.value()
        if before is None or before == now:
            return
        if before.computing.device != now.computing.device:
            self.deviceChanged.emit(now.computing.device)
        if before.segment.live_preview != now.segment.live_preview:
            self.livePreviewChanged.emit(now.segment.live_preview)
        if before.models.folder != now.models.folder:
            self.modelsFolderChanged.emit()
        if before.models.index != now.models.index:
            self.indexChanged.emit()


preferences = Preferences()
