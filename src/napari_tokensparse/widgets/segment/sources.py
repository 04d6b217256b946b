"""What is previewed: the same choice gives the same source, so that its window is kept."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari_tokensparse.widgets.segment.preview import Source

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tokensparse.widgets.segment.networks import Networks
    from napari_tokensparse.widgets.segment.region import RegionCombo
    from napari_tokensparse.widgets.segment.scan import Scan


class Sources:
    """Makes sources of what is chosen, and keeps the latest.

    Parameters
    ----------
    networks
        Give a source its network.
    region
        Says where to look: in the middle of what is drawn, or else at the viewer's point.
    """

    def __init__(self, networks: Networks, region: RegionCombo) -> None:
        self._networks, self._region = networks, region
        self._latest: tuple[tuple[Any, ...], Source] | None = None

    def of(self, scan: Scan, folder: Path, device: str) -> Source:
        """Return the source of a scan with a model on a device.

        Raises
        ------
        ValueError
            In one line: the region cannot be used.
        """
        voxel = self._drawn_voxel(scan)
        network = partial(self._networks.load, folder, device)
        source = Source(scan.layer, scan.volume, network, voxel)
        return self.kept((scan, folder, device, voxel), source)

    def kept(self, chosen: tuple[Any, ...], source: Source) -> Source:
        """Return the source that the same choice gave before, if it is the latest."""
        if self._latest is None or self._latest[0] != chosen:
            self._latest = (chosen, source)
        return self._latest[1]

    def _drawn_voxel(self, scan: Scan) -> tuple[float, float, float] | None:
        """Return the middle of the region that is drawn; None for the viewer's point."""
        if isinstance(self._region.value(), str):
            return None
        box = self._region.box(scan.layer, scan.volume)
        if box is None:
            return None
        i, j, k = ((a + b - 1) / 2 for a, b in zip(box.start, box.stop, strict=True))
        return i, j, k
