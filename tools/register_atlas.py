"""Do what a user would do without the model: register the atlas by ANTs, and take its labels.

The template is the ICBM152 2009c T1 that the model was trained on, with the training label map; the
scans are those of ``evaluate_default_model.py``, which writes them into the card. Needed anew only
where the scans are others::

    pip install --group train-default-model --group register-atlas
    python tools/register_atlas.py --people FOLDER
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import ants
import numpy as np

from brain.atlas import build_atlas, training_t1s
from brain.cases import PERSON, another_person, people_cases
from brain.people import CARD
from brain.structures import class_ids
from evaluate_default_model import REGISTRATION, dice_by_name

if TYPE_CHECKING:
    from brain.cases import Case


def by_registration(case: Case) -> np.ndarray:
    """Warp the template's labels onto a scan: affine, then symmetric normalisation (SyN)."""
    labels, affine = build_atlas()
    template = next(t1 for name, t1, _ in training_t1s() if "2009c" in name)
    fixed = _image(case.scan.array[0], case.scan.affine)
    moving = _image(template, affine)
    registered = ants.registration(fixed, moving, type_of_transform="SyN", random_seed=1)
    warped = ants.apply_transforms(
        fixed,
        _image(class_ids()[labels], affine),
        registered["fwdtransforms"],
        interpolator="genericLabel",
    )
    return np.asarray(warped.numpy()).round().astype(np.uint8)


def _image(array: np.ndarray, affine: np.ndarray) -> ants.ANTsImage:
    """Place an array whose axes lie along the world's: ANTs counts from the right and the front."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    to_lps = np.diag([-1.0, -1.0, 1.0])
    return ants.from_numpy(
        np.ascontiguousarray(array, np.float32),
        origin=list(to_lps @ affine[:3, 3]),
        spacing=list(spacing),
        direction=to_lps @ affine[:3, :3] / spacing,
    )


def main() -> None:
    """Register the template to some scans and write how its labels agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=Path, required=True, help="folder of the label maps")
    parser.add_argument("--json", type=Path, default=REGISTRATION)
    given = parser.parse_args()
    t1s = [case for case in people_cases(given.people, CARD, 1) if case.group == PERSON]
    figures = []
    for case in (*t1s, *another_person()):
        dice = dice_by_name(by_registration(case), case)
        print(f"{case.scan.name:20} {np.mean(list(dice.values())):.3f}", flush=True)
        figures.append({"group": case.group, "case": case.scan.name, "dice": dice})
    said = {"ants": ants.__version__, "figures": figures}
    given.json.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
