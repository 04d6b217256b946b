"""Light on surfaces in 3-D, from the side that we look from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray


def lit(
    vertices: NDArray[np.float64], placement: Mapping[str, Any]
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Mirror vertices along the last axis, and their layer back: they stay where they are.

    In the patient's orientation the screen's axes are left-handed, and there napari 0.9 lights
    surfaces from behind. Layers that are mirrored themselves it lights from the front.

    Parameters
    ----------
    vertices
        ``(n, 3)``, (z, y, x) in a layer's voxels.
    placement
        What the layer is created with; its scale is mirrored.
    """
    *others, last = placement["scale"]
    return vertices * (1.0, 1.0, -1.0), {**placement, "scale": (*others, -last)}
