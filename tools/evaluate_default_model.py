"""Measure the bundled model ``brain-structures`` and write the figures of its card.

Whole pipeline, 1 mm in and out, on what no training run uses::

    pip install --group train-default-model
    python tools/evaluate_default_model.py                  # minutes; prints and writes the card
    python tools/evaluate_default_model.py --quick --model FOLDER --keep-card

What the working grid can hold at all is measured first. The cases are deformations of the training
anatomy from reserved seeds, a T1 among them spoiled in six ways, and, where Debian's package
``mricron-data`` is installed, another person's brain: the Colin 27 average of one man, with those
structures of the AAL atlas (drawn on it) that the model knows too. Nothing is ever chosen by that
brain: it is there to show over-fitting.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from brain_atlas import build_atlas, training_t1s
from default_model_card import SPACING_MM, TARGET, write_card
from napari_tokensparse.data.deformation import grid_axes, keyed_generator, smooth_field
from napari_tokensparse.data.structures import CLASS_COUNT, STRUCTURES, class_ids
from napari_tokensparse.data.synthesis import (
    NATIVE_WINDOW,
    VALIDATION_SEED,
    SynthesisConfig,
    Synthesizer,
    as_scan,
)
from napari_tokensparse.data.volume import Volume, read_volume
from napari_tokensparse.engine.infer import Controls, segment
from napari_tokensparse.engine.metrics import dice_per_class
from napari_tokensparse.model.checkpoints import load_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_tokensparse.model.scd import SCD

KEEP_RATIOS = (1.0, 0.5, 0.25, 0.1)
HARD = 0.25  # keep ratio from which on the choice of tokens must matter
MRICRON = Path("/usr/share/mricron/templates")
# A scanner without faults, for what is spoiled on purpose.
CLEAN = SynthesisConfig(real_share=1.0, bias=0.0, gamma=0.0, noise=0.0, slice_mm=1.0)
WHITE, CORTEX = 2, 3  # FreeSurfer's ids
# AAL's number of a structure, and FreeSurfer's.
AAL = {
    37: 17, 38: 53, 41: 18, 42: 54, 71: 11, 72: 50, 73: 12, 74: 51, 75: 13, 76: 52, 77: 10, 78: 49
}  # fmt: skip


class Case(NamedTuple):
    """A scan and FreeSurfer's ids of its voxels; what group of the report it belongs to."""

    group: str
    scan: Volume
    truth: np.ndarray
    values: list[int]


class Figure(NamedTuple):
    """Dice of each structure in one run."""

    group: str
    case: str
    scorer: str
    keep_ratio: float
    dice: dict[str, float]

    @property
    def mean(self) -> float:
        """Mean over the structures that the truth holds."""
        return float(np.mean(list(self.dice.values())))


def unseen_cases(count: int) -> Iterator[Case]:
    """Deform the training anatomy by reserved seeds; contrasts as in training."""
    yield from _deformed("unseen", SynthesisConfig(), range(count))


def spoiled_cases(count: int) -> Iterator[Case]:
    """Deform a T1 by reserved seeds, and spoil it in six ways."""
    found = 0
    for case in _deformed("clean", CLEAN, range(1000, 2000)):
        image, truth = case.scan.array[0], case.truth
        if image[truth == WHITE].mean() < image[truth == CORTEX].mean():
            continue  # an inverted one
        yield case
        for name, scan, labels in _spoiled(torch.from_numpy(image), truth):
            yield Case(name, scan, labels, case.values)
        found += 1
        if found == count:
            return


def ceilings() -> Iterator[Figure]:
    """Bring the true labels to the working grid and back: no network of that grid does better."""
    labels, _ = build_atlas()
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
        found = dict(zip(names, dice.tolist(), strict=True))
        yield Figure("ceiling", way, "true labels", 1.0, found)


def another_person() -> Iterator[Case]:
    """Colin 27 with AAL's structures, if Debian's mricron-data is installed."""
    if not (MRICRON / "ch2bet.nii.gz").exists():
        return
    scan, atlas = read_volume(MRICRON / "ch2bet.nii.gz"), read_volume(MRICRON / "aal.nii.gz")
    truth = np.zeros(atlas.shape, np.uint8)
    for number, value in AAL.items():
        truth[atlas.array[0] == number] = value
    yield Case("another person", scan, truth, sorted(AAL.values()))


def figures(model: SCD, cases: Iterator[Case], quick: bool) -> Iterator[Figure]:
    """Segment every case at every keep ratio, and by the controls where pruning is hard."""
    for case in cases:
        spoiled = case.group not in ("unseen", "another person")
        ratios = (0.5,) if spoiled else (1.0, 0.25) if quick else KEEP_RATIOS
        for keep_ratio in ratios:
            yield _figure(model, case, keep_ratio, Controls())
        if spoiled:
            continue
        yield _figure(model, case, 1.0, Controls(ablate_encoder=True))
        for scorer in ("random", "intensity"):
            for keep_ratio in ratios:
                if keep_ratio <= HARD:
                    yield _figure(model, case, keep_ratio, Controls(scorer))


def _figure(model: SCD, case: Case, keep_ratio: float, controls: Controls) -> Figure:
    labels = segment(case.scan, model, keep_ratio, controls=controls).labels
    by = "encoder ablated" if controls.ablate_encoder else controls.scorer
    return Figure(case.group, case.scan.name, by, keep_ratio, dice_by_name(labels, case))


def dice_by_name(labels: np.ndarray, case: Case) -> dict[str, float]:
    """Dice of each structure that the case's truth holds."""
    known = np.where(np.isin(labels, case.values), labels, 0)
    dice = dice_per_class(known, case.truth, case.values)
    names = {s.id: s.name for s in STRUCTURES}
    return {names[v]: float(d) for v, d in zip(case.values, dice, strict=True) if np.isfinite(d)}


def _deformed(group: str, config: SynthesisConfig, keys: range) -> Iterator[Case]:
    labels, _ = build_atlas()
    images = [image for _, image, _ in training_t1s()]
    synthesizer = Synthesizer(labels, images, NATIVE_WINDOW, 1.0, config)
    for key in keys:
        sample = synthesizer.sample(VALIDATION_SEED, key)
        scan = Volume(as_scan(sample.image).numpy(), np.eye(4), f"{group} {key}")
        yield Case(group, scan, class_ids()[sample.labels.numpy()], [int(s.id) for s in STRUCTURES])


def _spoiled(image: torch.Tensor, truth: np.ndarray) -> Iterator[tuple[str, Volume, np.ndarray]]:
    inside = image > 0
    low, high = image[inside].min(), image[inside].max()
    unit = (image - low) / (high - low)
    generator = keyed_generator(VALIDATION_SEED, 7)
    field = smooth_field(grid_axes(tuple(image.shape), 1.0), 60.0, generator)
    noise = 0.03 * torch.randn(image.shape, generator=generator)
    ways = {
        "inverted": 1 - unit,
        "strong bias field": unit * torch.exp(0.5 * field),
        "3 % noise": (unit + noise).clamp(min=0),
        "gamma 0.6": unit**0.6,
        "gamma 1.6": unit**1.6,
    }
    for name, spoiled in ways.items():
        voxels = torch.where(inside, 100 * (spoiled + 0.1), 0.0)[None].numpy()
        yield name, Volume(voxels, np.eye(4), name), truth
    slices = image.unflatten(2, (-1, 4)).mean(dim=3)[None].numpy()
    yield "1 x 1 x 4 mm", Volume(slices, np.diag([1, 1, 4, 1.0]), "slices"), truth[..., 2::4]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=TARGET)
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--quick", action="store_true", help="two cases, two keep ratios")
    parser.add_argument("--keep-card", action="store_true", help="write no card")
    parser.add_argument("--json", type=Path, help="write every figure there")
    parser.add_argument("--registration", type=Path, help="figures of register_atlas.py")
    arguments = parser.parse_args()
    registered = json.loads(arguments.registration.read_text()) if arguments.registration else None
    model = load_model(arguments.model)
    count = 2 if arguments.quick else arguments.cases
    found = list(ceilings())
    groups = [unseen_cases(count), another_person()]
    groups += [] if arguments.quick else [spoiled_cases(max(count // 2, 1))]
    for cases in groups:
        for figure in figures(model, cases, arguments.quick):
            found.append(figure)
            print(f"{figure.case:16} {figure.scorer:16} {figure.keep_ratio:4g} {figure.mean:.3f}")
    summary = defaultdict(list)
    for figure in found:
        summary[figure.group, figure.scorer, figure.keep_ratio].append(figure.mean)
    print()
    for (group, scorer, keep_ratio), means in summary.items():
        print(f"{group:18} {scorer:16} {keep_ratio:4g} {np.mean(means):.3f} (of {len(means)})")
    if arguments.json:
        arguments.json.write_text(json.dumps([f._asdict() for f in found], indent=1))
    if not arguments.keep_card:
        write_card(arguments.model, [f._asdict() for f in found], registered)


if __name__ == "__main__":
    main()
