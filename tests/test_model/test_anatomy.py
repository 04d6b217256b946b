"""Codes of structures: those of the DICOM standard, for each that the bundled model names."""

from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes

from napari_tokensparse.model.anatomy import (
    ANATOMY,
    SIDES,
    STRUCTURES,
    SUBSTANCE,
    TISSUE,
    codes_of,
    codes_of_name,
)
from napari_tokensparse.model.folder import bundled_models_folder, describe_folder
from napari_tokensparse.model.info import LabelClass, ModelInfo

BUNDLED = describe_folder(bundled_models_folder() / "brain-structures").info


def standard() -> dict[str, set[str]]:
    """Return SNOMED CT's meanings by code, as the DICOM standard lists them."""
    meanings: dict[str, set[str]] = {}
    for name in codes.SCT.dir():
        code = getattr(codes.SCT, name)
        meanings.setdefault(code.value, set()).add(code.meaning)
    return meanings


def test_every_code_and_meaning_is_the_standards() -> None:
    meanings = standard()
    table = [*STRUCTURES.values(), *((c[0], c[2]) for c in (ANATOMY, SUBSTANCE, TISSUE))]
    table += [(side[0], side[2]) for side in SIDES.values()]
    assert len(table) > 40
    wrong = [(code, meaning) for code, meaning in table if meaning not in meanings.get(code, ())]
    assert wrong == []


def test_all_structures_of_the_bundled_model_have_their_own_codes_and_sides() -> None:
    by_name = {c.name: codes_of(c) for c in BUNDLED.classes}
    assert len(by_name) == len(set(by_name.values())) == 27
    assert all(codes[0] == ANATOMY for codes in by_name.values())
    for name, said in by_name.items():
        side = name.partition("-")[0].lower()
        assert said[2:] == ((SIDES[side],) if side in SIDES else ()), name
    assert all(c.codes == codes_of_name(c.name) for c in BUNDLED.classes)  # written in its folder


@pytest.mark.parametrize(
    ("name", "meanings"),
    [
        ("Left-Hippocampus", ["Anatomical Structure", "Hippocampus", "Left"]),
        ("right kidney", ["Anatomical Structure", "Kidney", "Right"]),
        ("adrenal_gland_left", ["Anatomical Structure", "Adrenal gland", "Left"]),
        ("CSF", ["Body Substance", "Cerebrospinal Fluid"]),
        ("Tumour", ["Tissue", "Tissue"]),
    ],
)
def test_a_class_is_found_by_its_name_in_the_common_spellings(
    name: str, meanings: list[str]
) -> None:
    codes = codes_of(LabelClass(value=1, name=name, color=(0, 0, 0)))
    assert [meaning for _, _, meaning in codes] == meanings


def test_codes_of_the_users_own_come_first_and_outlive_the_file() -> None:
    own = (TISSUE, ("108369006", "SCT", "Neoplasm"), SIDES["left"])
    given = LabelClass(value=1, name="Left-Hippocampus", color=(0, 0, 0), codes=own)
    info = ModelInfo(name="mine", channels=("T1",), classes=(given,))
    again = ModelInfo.model_validate_json(info.model_dump_json())
    assert codes_of(again.classes[0]) == own
    assert codes_of(given.model_copy(update={"codes": own[:2]})) == own[:2]
