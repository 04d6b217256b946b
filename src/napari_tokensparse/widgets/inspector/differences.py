"""The layer of what pruning changed: names and colours of the differences, as an audit has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from napari.layers import Labels

from napari_tokensparse.volumes.placement import shown_placement
from napari_tokensparse.widgets.layers import LayerSpec, label_colours, placed, rgba

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from napari_tokensparse.model.info import Colour
    from napari_tokensparse.volumes.volume import Volume

DIFFERENCE: Final = "difference"
DIFFERENCES = {
    1: "lost: background with pruning",
    2: "gained: background without pruning",
    3: "another class with pruning",
}
DIFFERENCE_COLOURS: dict[int, Colour] = {1: (213, 94, 0), 2: (0, 114, 178), 3: (240, 228, 66)}
"""Okabe and Ito's too, and none of the first three stages'."""


def difference_layer(
    image_name: str,
    placement: Mapping[str, Any],
    volume: Volume,
    difference: NDArray[np.uint8],
) -> LayerSpec:
    """Describe the layer of what pruning changed; the image is as for `result_layers`.

    Parameters
    ----------
    image_name, placement, volume
        The image.
    difference
        ``(i, j, k)``, as ``Audit.difference``.
    """
    looks = {
        "name": DIFFERENCE,
        "features": {"index": [0, *DIFFERENCES], "name": ["same", *DIFFERENCES.values()]},
        "colormap": label_colours({n: rgba(c) for n, c in DIFFERENCE_COLOURS.items()}),
        "opacity": 0.8,
    }
    view = shown_placement(volume).view
    return placed(LayerSpec(Labels, view(difference), looks), image_name, placement)
