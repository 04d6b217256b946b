"""The network that runs and previews share."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from napari_tokensparse.common import settings
from napari_tokensparse.model.folder import WEIGHTS
from napari_tokensparse.widgets.importing import IMPORTING

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tokensparse.model.scd import SCD


class Networks:
    """Keeps the network that was loaded last, for threads.

    A network stays on its device, for another thread may be running it: for another device it is
    loaded again. So it is when its folder was trained further.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: tuple[tuple[Path, int, str], SCD] | None = None

    def load(self, folder: Path, device: str) -> SCD:
        """Return the network of a model folder on a device, which may be ``auto``.

        The calling thread computes with as many threads as napari's Preferences say.

        Raises
        ------
        ModelError, SegmentError
            In one plain line: the folder holds no model, or there is no such device.
        """
        with IMPORTING:
            from napari_tokensparse.compute.devices import use_threads
            from napari_tokensparse.model.checkpoints import load_model
            from napari_tokensparse.segmenting.infer import choose_device

        use_threads(settings.current().computing.threads)
        wanted = (folder, written_at(folder), choose_device(device))
        with self._lock:
            if self._kept is None or self._kept[0] != wanted:
                self._kept = (wanted, load_model(folder).to(wanted[2]))
            return self._kept[1]


def written_at(folder: Path) -> int:
    """Return when the weights of a model folder were written, in ns; 0 where there are none."""
    try:
        return (folder / WEIGHTS).stat().st_mtime_ns
    except OSError:
        return 0
