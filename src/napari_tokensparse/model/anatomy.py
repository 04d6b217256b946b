"""SNOMED CT codes of structures by the names that label files give them.

Codes and meanings are those of the DICOM standard, PS3.16: CID 7150 (categories), CID 7140 (brain
structures), CID 7151 (property types, which takes in 7152 to 7160), CID 244 (laterality). A test
compares each with ``pydicom.sr.codedict``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_tokensparse.model.info import Code, LabelClass

TISSUE: Code = ("85756007", "SCT", "Tissue")
"""Category and type of a class that neither its model nor this table has codes for."""
ANATOMY: Code = ("91723000", "SCT", "Anatomical Structure")
SUBSTANCE: Code = ("91720002", "SCT", "Body Substance")
SIDES: dict[str, Code] = {
    "left": ("7771000", "SCT", "Left"),
    "right": ("24028007", "SCT", "Right"),
}
STRUCTURES: dict[str, tuple[str, str]] = {
    # FreeSurfer's names, without their side
    "cerebral white matter": ("68523003", "Cerebral White Matter"),
    "cerebral cortex": ("40146001", "Cerebral cortex"),
    "lateral ventricle": ("66720007", "Lateral Ventricle"),
    "inf lat vent": ("53118009", "Inferior Horn of Lateral Ventricle"),
    "cerebellum white matter": ("33060004", "Cerebellar White Matter"),
    "cerebellum cortex": ("25991003", "Cerebellar Cortex"),
    "thalamus": ("42695009", "Thalamus"),
    "thalamus proper": ("42695009", "Thalamus"),
    "caudate": ("11000004", "Caudate Nucleus"),
    "putamen": ("89278009", "Putamen"),
    "pallidum": ("14738005", "Globus Pallidus"),
    "3rd ventricle": ("49841001", "Third ventricle"),
    "4th ventricle": ("35918002", "Fourth Ventricle"),
    "brain stem": ("119238007", "Brain Stem"),
    "hippocampus": ("5366008", "Hippocampus"),
    "amygdala": ("4958002", "Amygdala"),
    "accumbens area": ("427667007", "Nucleus Accumbens"),
    # The standard has no code for its ventral part; this is the whole that it belongs to.
    "ventraldc": ("87563008", "Diencephalon"),
    "csf": ("65216001", "Cerebrospinal Fluid"),
    "optic chiasm": ("244453006", "Optic chiasm"),
    "corpus callosum": ("88442005", "Corpus callosum"),
    "brain": ("12738006", "Brain"),
    # organs, as BTCV and others name them
    "spleen": ("78961009", "Spleen"),
    "kidney": ("64033007", "Kidney"),
    "gallbladder": ("28231008", "Gallbladder"),
    "esophagus": ("32849002", "Esophagus"),
    "liver": ("10200004", "Liver"),
    "stomach": ("69695003", "Stomach"),
    "aorta": ("15825003", "Aorta"),
    "inferior vena cava": ("64131007", "Inferior vena cava"),
    # There is no code for both; this is what they are.
    "portal and splenic veins": ("29092000", "Vein"),
    "portal vein": ("32764006", "Portal vein"),
    "pancreas": ("15776009", "Pancreas"),
    "adrenal gland": ("23451007", "Adrenal gland"),
    "duodenum": ("38848004", "Duodenum"),
    "colon": ("71854001", "Colon"),
    "lung": ("39607008", "Lung"),
    "heart": ("80891009", "Heart"),
    "prostate": ("41216001", "Prostate"),
}
"""SNOMED CT's code and its meaning by name: small letters, a space between words, no side."""
_SUBSTANCES = ("csf",)


def codes_of(c: LabelClass) -> tuple[Code, ...]:
    """Return what DICOM calls a class: category, type and, of a paired structure, its side.

    Its own codes come first, then those of its name (``Left-Hippocampus``, ``right kidney``,
    ``kidney_left``); one with neither is a tissue.

    Examples
    --------
    >>> from napari_tokensparse.model.info import LabelClass
    >>> kidney = LabelClass(value=2, name="right kidney", color=(0, 0, 255))
    >>> [meaning for _, _, meaning in codes_of(kidney)]
    ['Anatomical Structure', 'Kidney', 'Right']
    """
    return c.codes or codes_of_name(c.name) or (TISSUE, TISSUE)


def codes_of_name(name: str) -> tuple[Code, ...] | None:
    """Return the codes of a structure's name; None where the table has no such name."""
    words = re.sub(r"[\s_-]+", " ", name.lower()).split()
    side = next((SIDES[word] for word in (*words[:1], *words[-1:]) if word in SIDES), None)
    plain = " ".join(word for word in words if word not in SIDES)
    if plain not in STRUCTURES:
        return None
    value, meaning = STRUCTURES[plain]
    category = SUBSTANCE if plain in _SUBSTANCES else ANATOMY
    kind: Code = (value, "SCT", meaning)
    return (category, kind) if side is None else (category, kind, side)
