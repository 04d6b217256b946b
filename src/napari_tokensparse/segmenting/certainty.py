"""Leave out pieces of a class that the network is nowhere sure of: thresholding with hysteresis.

A piece is found by a high threshold and outlined by a low one, as edges are by J. Canny ("A
computational approach to edge detection", IEEE TPAMI 8, 1986). For lesions it is much better than
any single threshold: one low enough to outline them marks a great deal besides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_tokensparse.segmenting.probabilities import FULL

if TYPE_CHECKING:
    from numpy.typing import NDArray


def leave_out_unsure(
    labels: NDArray[np.unsignedinteger], confidence: NDArray[np.uint8], least: float
) -> int:
    """Set pieces of classes to background that are nowhere as sure as asked, in place.

    Parameters
    ----------
    labels
        ``(i, j, k)`` label values, 0 background.
    confidence
        ``(i, j, k)``, 0 to 255: probability of the label (`Segmentation.confidence`).
    least
        In [0, 1): what the largest probability of a piece must reach. Voxels are of one piece if
        they have the same label and share a face.

    Returns
    -------
    int
        How many pieces were left out.
    """
    left_out = 0
    for value, box in enumerate(ndimage.find_objects(labels.astype(np.int32)), start=1):
        if box is None:
            continue
        inside = labels[box]
        pieces, count = ndimage.label(inside == value)
        unsure = np.ones(count + 1, np.bool_)
        unsure[pieces[confidence[box] >= least * FULL]] = unsure[0] = False
        inside[unsure[pieces]] = 0
        left_out += int(unsure.sum())
    return left_out
