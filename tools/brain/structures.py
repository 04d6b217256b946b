"""The 27 brain structures of the bundled model: FreeSurfer's ids, names and colours.

Class index 0 is background and class index ``i`` is ``STRUCTURES[i - 1]``. Ids, names and colours
are those of FreeSurfer 7's ``FreeSurferColorLUT.txt`` (v 1.105), so that other tools read the label
files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Structure(NamedTuple):
    """One class of the label map.

    Attributes
    ----------
    id : int
        FreeSurfer's label value.
    name : str
        FreeSurfer's name.
    rgb : tuple of int
        FreeSurfer's colour, 0..255 each.
    """

    id: int
    name: str
    rgb: tuple[int, int, int]


STRUCTURES: tuple[Structure, ...] = (
    Structure(2, "Left-Cerebral-White-Matter", (245, 245, 245)),
    Structure(3, "Left-Cerebral-Cortex", (205, 62, 78)),
    Structure(4, "Left-Lateral-Ventricle", (120, 18, 134)),
    Structure(7, "Left-Cerebellum-White-Matter", (220, 248, 164)),
    Structure(8, "Left-Cerebellum-Cortex", (230, 148, 34)),
    Structure(10, "Left-Thalamus", (0, 118, 14)),
    Structure(11, "Left-Caudate", (122, 186, 220)),
    Structure(12, "Left-Putamen", (236, 13, 176)),
    Structure(13, "Left-Pallidum", (12, 48, 255)),
    Structure(14, "3rd-Ventricle", (204, 182, 142)),
    Structure(15, "4th-Ventricle", (42, 204, 164)),
    Structure(16, "Brain-Stem", (119, 159, 176)),
    Structure(17, "Left-Hippocampus", (220, 216, 20)),
    Structure(18, "Left-Amygdala", (103, 255, 255)),
    Structure(28, "Left-VentralDC", (165, 42, 42)),
    Structure(41, "Right-Cerebral-White-Matter", (245, 245, 245)),
    Structure(42, "Right-Cerebral-Cortex", (205, 62, 78)),
    Structure(43, "Right-Lateral-Ventricle", (120, 18, 134)),
    Structure(46, "Right-Cerebellum-White-Matter", (220, 248, 164)),
    Structure(47, "Right-Cerebellum-Cortex", (230, 148, 34)),
    Structure(49, "Right-Thalamus", (0, 118, 14)),
    Structure(50, "Right-Caudate", (122, 186, 220)),
    Structure(51, "Right-Putamen", (236, 13, 176)),
    Structure(52, "Right-Pallidum", (13, 48, 255)),
    Structure(53, "Right-Hippocampus", (220, 216, 20)),
    Structure(54, "Right-Amygdala", (103, 255, 255)),
    Structure(60, "Right-VentralDC", (165, 42, 42)),
)

CLASS_COUNT = len(STRUCTURES) + 1
"""Classes of the model, background included."""

BY_SIDE = -1
"""Marks, in merged ids, white matter whose FreeSurfer label does not say on which side it lies."""

_MERGED_IDS = {
    5: 4, 31: 4,  # inferior horn and choroid plexus into the lateral ventricle
    44: 43, 63: 43,
    26: 11, 58: 50,  # accumbens into caudate
    78: 2, 79: 41,  # white-matter hypointensities of a known side
    9: 10, 48: 49,  # the thalamus as some versions number it
}  # fmt: skip
_WHITE_MATTER_BY_SIDE = (77, 80, 250, 251, 252, 253, 254, 255)
_CORTEX_PARCELS = {3: range(1000, 2000), 42: range(2000, 3000)}


def class_ids() -> npt.NDArray[np.uint8]:
    """Label value of every class index, background first.

    Returns
    -------
    ndarray, shape (28,)
        FreeSurfer's id at each class index.
    """
    return np.array([0, *(structure.id for structure in STRUCTURES)], dtype=np.uint8)


def mirrored_classes() -> npt.NDArray[np.uint8]:
    """Class index of the same structure on the other side.

    Returns
    -------
    ndarray, shape (28,)
        A permutation that is its own inverse; background and midline structures stay.
    """
    index = {structure.name: i for i, structure in enumerate(STRUCTURES, start=1)}
    return np.array([0, *(index[_other_side(s.name)] for s in STRUCTURES)], dtype=np.uint8)


def _other_side(name: str) -> str:
    side, dash, rest = name.partition("-")
    return {"Left": "Right", "Right": "Left"}.get(side, side) + dash + rest


def merge_ids(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.int16]:
    """Merge the ids of an ``aparc+aseg`` or ``aseg`` into the 27 structures' ids.

    Cortical parcels join the cortex of their side, accumbens the caudate, inferior horn and choroid
    plexus the lateral ventricle. Corpus callosum, fornix and hypointensities (non-white-matter ones
    too: in an average brain they lie within the white matter) become `BY_SIDE`, for the caller to
    give to the white matter of the nearer side. Everything else (CSF 24, vessels 30 and 62, optic
    chiasm 85, unknown ids) becomes 0: it is inside the head but no structure of ours.

    Parameters
    ----------
    labels : ndarray
        FreeSurfer's ids, of any shape.

    Returns
    -------
    ndarray
        Ids of the 27 structures, 0, or `BY_SIDE`; the same shape.
    """
    own = {structure.id: structure.id for structure in STRUCTURES} | _MERGED_IDS
    values = np.unique(labels)
    table = np.array([own.get(i, _special_target(i)) for i in values.tolist()], dtype=np.int16)
    return table[np.searchsorted(values, labels)]


def _special_target(source: int) -> int:
    if source in _WHITE_MATTER_BY_SIDE:
        return BY_SIDE
    return next((cortex for cortex, parcels in _CORTEX_PARCELS.items() if source in parcels), 0)


def ids_to_classes(ids: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Turn the 27 structures' ids into class indices.

    Parameters
    ----------
    ids : ndarray
        Ids of the 27 structures, or 0.

    Returns
    -------
    ndarray
        Class indices 0..27, the same shape.

    Raises
    ------
    ValueError
        An id is none of the 27 structures'.
    """
    known = class_ids()
    unknown = np.setdiff1d(ids, known)
    if unknown.size:
        raise ValueError(f"label ids {unknown.tolist()}: not among the model's structures")
    return np.searchsorted(known, ids).astype(np.uint8)
