"""Measure the bundled model ``brain-structures`` and write the figures of its card.

Whole pipeline, 1 mm in and out, on people whom no training run uses::

    pip install --group train-default-model
    python tools/evaluate_default_model.py --people FOLDER             # prints and writes the card
    python tools/evaluate_default_model.py --people FOLDER --choose --model MODEL

``FOLDER`` holds the label maps that ``train_default_model.py`` takes. ``--choose`` measures the
people that may be chosen by, and writes no card; without it those are measured of whom nothing is
ever chosen, stripped and with their heads on, a T1 among them spoiled in six ways, and, where
Debian's package ``mricron-data`` is installed, the Colin 27 average of one man with those
structures of the AAL atlas (drawn on it) that the model knows too. What the working grid can hold
at all is measured first.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from brain.cases import (
    ANY_CONTRAST,
    COLIN,
    HEAD,
    PERSON,
    REAL,
    Case,
    another_person,
    head_cases,
    people_cases,
    real_head,
    spoiled_cases,
)
from brain.people import CARD, CHOOSING, read_person, structure_classes
from brain.structures import CLASS_COUNT, STRUCTURES
from default_model_card import SPACING_MM, TARGET, write_card
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.scoring.metrics import dice_per_class
from napari_tokensparse.segmenting.infer import segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_tokensparse.model.scd import SCD

REGISTRATION = Path(__file__).parents[1] / "docs/registration.json"
"""What `register_atlas.py` found."""
KEEP_RATIOS = (1.0, 0.5, 0.25, 0.15, 0.1)
HARD = (0.5, 0.25, 0.1)
"""Keep ratios at which the choice of tokens is compared with the controls'."""
MEASURED = {
    **dict.fromkeys((PERSON, COLIN, REAL), (KEEP_RATIOS, HARD)),
    ANY_CONTRAST: (KEEP_RATIOS, HARD[1:]),
    HEAD: ((1.0, 0.25), (0.25,)),
}
"""Of a group of scans, the keep ratios and those of the controls; of spoiled ones 0.5 alone."""


class Figure(NamedTuple):
    """Dice of each structure in one run."""

    group: str
    case: str
    scorer: str
    keep_ratio: float
    dice: dict[str, float]
    seconds: float = 0.0

    @property
    def mean(self) -> float:
        """Mean over the structures that the truth holds."""
        return float(np.mean(list(self.dice.values())))


def ceilings(folder: Path, number: int) -> Iterator[Figure]:
    """Bring a person's labels to the working grid and back: no network of that grid does better."""
    labels = structure_classes(read_person(folder / f"seg_{number:02d}.nii.gz")[0])
    step = round(SPACING_MM)
    truth = torch.from_numpy(labels[tuple(slice(n // step * step) for n in labels.shape)]).long()
    shares = functional.one_hot(truth, CLASS_COUNT).movedim(-1, 0).float()
    ways = {
        "nearest labels": shares[:, step // 2 :: step, step // 2 :: step, step // 2 :: step],
        "shares of labels": functional.avg_pool3d(shares, step),
    }
    names = [s.name for s in STRUCTURES]
    for way, coarse in ways.items():
        finer = functional.interpolate(coarse[None], size=truth.shape, mode="trilinear")[0]
        dice = dice_per_class(finer.argmax(dim=0).numpy(), truth.numpy(), range(1, CLASS_COUNT))
        by_name = dict(zip(names, dice.tolist(), strict=True))
        yield Figure("ceiling", way, "true labels", 1.0, by_name)


def figures(model: SCD, case: Case) -> Iterator[Figure]:
    """Segment a case at every keep ratio, and by the controls where they are compared."""
    ratios, hard = MEASURED.get(case.group, ((0.5,), ()))
    for keep_ratio in ratios:
        yield _figure(model, case, keep_ratio)
    if not hard:
        return
    yield _figure(model, case, 1.0, ablate="encoder")
    for scorer in ("random", "intensity"):
        for keep_ratio in hard:
            yield _figure(model, case, keep_ratio, scorer=scorer)


def _figure(model: SCD, case: Case, keep_ratio: float, **control: Any) -> Figure:
    result = segment(case.scan, model, keep_ratio, **control)
    by = "encoder ablated" if "ablate" in control else control.get("scorer", "learned")
    dice, seconds = dice_by_name(result.labels, case), result.stats.seconds["total"]
    return Figure(case.group, case.scan.name, by, keep_ratio, dice, seconds)


def dice_by_name(labels: np.ndarray, case: Case) -> dict[str, float]:
    """Dice of each structure that the case's truth holds."""
    for value, other in case.joined.items():
        labels = np.where(labels == value, other, labels)
    known = np.where(np.isin(labels, case.values), labels, 0)
    dice = dice_per_class(known, case.truth, case.values)
    names = {s.id: s.name for s in STRUCTURES}
    return {names[v]: float(d) for v, d in zip(case.values, dice, strict=True) if np.isfinite(d)}


def cases(folder: Path, choose: bool, looks: int, real: Path | None) -> Iterator[Case]:
    """Give the cases of a report."""
    numbers = CHOOSING if choose else CARD
    yield from people_cases(folder, numbers, looks)
    yield from head_cases(folder, numbers)
    yield from spoiled_cases(folder, numbers[:1])
    yield from real_head(real)
    if not choose:
        yield from another_person()


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=Path, required=True, help="folder of the label maps")
    parser.add_argument("--model", type=Path, default=TARGET)
    parser.add_argument("--choose", action="store_true", help="people to choose by; no card")
    parser.add_argument("--looks", type=int, default=2, help="of each person and kind of contrast")
    parser.add_argument("--real-head", type=Path, help="a folder as `brain.surfaces` takes it")
    parser.add_argument("--json", type=Path, help="write every figure there")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    limits = list(ceilings(arguments.people, (CHOOSING if arguments.choose else CARD)[0]))
    for case in cases(arguments.people, arguments.choose, arguments.looks, arguments.real_head):
        for figure in figures(model, case):
            limits.append(figure)
            print(
                f"{figure.case:24} {figure.scorer:16} {figure.keep_ratio:4g} {figure.mean:.3f} "
                f"{figure.seconds:.1f} s",
                flush=True,
            )
    summary = defaultdict(list)
    for figure in limits:
        summary[figure.group, figure.scorer, figure.keep_ratio].append(figure.mean)
    print()
    for (group, scorer, keep_ratio), means in summary.items():
        print(f"{group:18} {scorer:16} {keep_ratio:4g} {np.mean(means):.3f} (of {len(means)})")
    if arguments.json:
        arguments.json.write_text(json.dumps([f._asdict() for f in limits], indent=1))
    if not arguments.choose:
        registered = json.loads(REGISTRATION.read_text())
        write_card(arguments.model, [f._asdict() for f in limits], registered)


if __name__ == "__main__":
    main()
