"""Do what a user would do without the model: register the atlas by ANTs, and take its labels.

The template is the ICBM152 2009c T1 that the model was trained on, with the training label map; the
scans are those of ``evaluate_default_model.py``. Writes Dice and seconds of both for the card::

    pip install --group train-default-model --group register-atlas
    python tools/register_atlas.py figures/registration.json --people FOLDER
    python tools/evaluate_default_model.py --people FOLDER --registration figures/registration.json
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import ants
import numpy as np
import torch

from brain.atlas import build_atlas, training_t1s
from brain.cases import PERSON, another_person, people_cases
from brain.people import CARD
from brain.structures import class_ids
from evaluate_default_model import dice_by_name
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.segmenting.infer import segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brain.cases import Case
    from napari_tokensparse.model.scd import SCD


def compare(case: Case, model: SCD) -> Iterator[dict[str, object]]:
    """Label a scan by registration and by the model: Dice per structure, and seconds."""
    began = time.perf_counter()
    registered = by_registration(case)
    yield _figure(case, "registration", registered, time.perf_counter() - began)
    began = time.perf_counter()
    labels = segment(case.scan, model, 0.5).labels
    yield _figure(case, "model at keep 0.5", labels, time.perf_counter() - began)


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


def _figure(case: Case, by: str, labels: np.ndarray, seconds: float) -> dict[str, object]:
    dice = dice_by_name(labels, case)
    print(f"{case.scan.name:20} {by:18} {np.mean(list(dice.values())):.3f} {seconds:.1f} s")
    return {"group": case.group, "case": case.scan.name, "by": by, "dice": dice, "seconds": seconds}


def main() -> None:
    """Compare on some cases and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", type=Path)
    parser.add_argument("--people", type=Path, required=True, help="folder of the label maps")
    parser.add_argument("--model", default="brain-structures")
    given = parser.parse_args()
    model = load_model(given.model)
    t1s = [case for case in people_cases(given.people, CARD, 1) if case.group == PERSON]
    cases = [*t1s, *another_person()]
    segment(cases[0].scan, model, 0.5)  # what a process does once is not counted
    figures = [figure for case in cases for figure in compare(case, model)]
    given.json.parent.mkdir(parents=True, exist_ok=True)
    threads = {"threads": torch.get_num_threads(), "ants": ants.__version__}
    given.json.write_text(json.dumps({**threads, "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
