"""Compare ways to borders at the scan's own resolution, and write the table of ``docs/method.md``.

The network of ``brain-structures`` works at 3 mm. Its labels at 1 mm are interpolated alone, or
sharpened by the Gaussians of `napari_tokensparse.segmenting.sharpening`, or corrected by a small
convolutional head that is trained for it: it sees the interpolated probabilities and the scan. The
head is trained on scans of people 01 to 12, as the evaluation paints them but with other looks,
half of them T1-weighted; all three are compared on people 13 and 14, T1-weighted and of any
contrast::

    pip install --group train-default-model
    python tools/compare_borders.py --people FOLDER --minutes 15
    python tools/compare_borders.py --table
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from monai.losses import DiceCELoss
from scipy import ndimage
from torch import nn

from brain.cases import ANY_CONTRAST, PERSON, painted, people_cases
from brain.people import CHOOSING, TRAINING
from brain.structures import CLASS_COUNT, STRUCTURES
from default_model_card import TARGET
from evaluate_default_model import dice_by_name
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.probabilities import FULL

if TYPE_CHECKING:
    from brain.cases import Case
    from napari_tokensparse.model.scd import SCD

PAGE = Path(__file__).parents[1] / "docs" / "method.md"
FIGURES = PAGE.with_name("borders.json")
BEGIN, END = "<!-- borders -->", "<!-- end of borders -->"
INTERPOLATED, SHARPENED, LEARNED = "interpolated", "sharpened", "a learned head"
KEEP_RATIOS = (1.0, 0.25)
_FIRST_LOOK = 100  # of the scans to train on; the evaluation takes those from 0 on
_PATCH, _PATCHES = 40, 32  # edge in voxels, and how many of a scan
_BATCH, _LR = 2, 2e-3
_MARGIN = 4  # voxels round the brain that the head looks at: as far as it sees


class Head(nn.Module):
    """Corrects interpolated logits of 28 classes by the scan: three convolutions and a sum."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(CLASS_COUNT + 1, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv3d(width, width, 3, padding=2, dilation=2),
            nn.ReLU(inplace=True),
            nn.Conv3d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv3d(width, CLASS_COUNT, 1),
        )

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """Give logits ``(B, 28, ...)`` from log probabilities and intensity ``(B, 29, ...)``."""
        corrected: torch.Tensor = seen[:, :CLASS_COUNT] + self.layers(seen)
        return corrected


class Scan(NamedTuple):
    """What the head learns from: ``(28, ...)`` and ``(...)`` uint8, ``(...)`` float32, a box."""

    probabilities: torch.Tensor
    truth: torch.Tensor
    image: torch.Tensor
    box: tuple[slice, ...]


def interpolated_scan(model: SCD, case: Case, keep_ratio: float) -> tuple[Scan, np.ndarray]:
    """Segment a case without sharpening; with the labels that this gives."""
    names = [s.name for s in STRUCTURES]
    result = segment(case.scan, model, keep_ratio, sharpen=False, probabilities=names)
    classes = torch.from_numpy(np.stack([result.probabilities[name] for name in names]))
    background = FULL - classes.sum(dim=0, dtype=torch.int32).clamp(max=FULL)
    image = torch.from_numpy(case.scan.array[0].astype(np.float32))
    inside = image != 0
    image = torch.where(inside, (image - image[inside].mean()) / image[inside].std(), image)
    table = np.zeros(256, np.uint8)
    table[[s.id for s in STRUCTURES]] = np.arange(1, CLASS_COUNT)
    brain = ndimage.find_objects((result.labels > 0).astype(np.uint8))[0]
    box = tuple(
        slice(max(0, span.start - _MARGIN), min(n, span.stop + _MARGIN))
        for span, n in zip(brain, image.shape, strict=True)
    )
    probabilities = torch.cat([background[None].to(torch.uint8), classes])
    return Scan(probabilities, torch.from_numpy(table[case.truth]), image, box), result.labels


def seen_of(probabilities: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Put together what the head sees ``(29, ...)``."""
    shares = (probabilities.float() + 0.5) / (FULL + 0.5 * CLASS_COUNT)
    return torch.cat([shares.log(), image[None]])


def patches(scan: Scan, rng: np.random.Generator) -> list[tuple[torch.Tensor, ...]]:
    """Cut cubes out of the brain's box."""
    cubes = []
    for _ in range(_PATCHES):
        starts = [int(rng.integers(s.start, max(s.start + 1, s.stop - _PATCH))) for s in scan.box]
        cube = tuple(slice(start, start + _PATCH) for start in starts)
        parts = (scan.probabilities[(slice(None), *cube)], scan.image[cube], scan.truth[cube])
        if parts[1].shape == (_PATCH,) * 3:
            cubes.append(tuple(part.clone() for part in parts))
    return cubes


def trained_head(cubes: list[tuple[torch.Tensor, ...]], minutes: float) -> tuple[Head, int]:
    """Train a head for some minutes of processor time; with how many steps that were."""
    torch.manual_seed(0)
    head, loss_of = Head(), DiceCELoss(to_onehot_y=True, softmax=True, batch=True)
    optimiser = torch.optim.Adam(head.parameters(), lr=_LR)
    rng, began, step = np.random.default_rng(0), time.process_time(), 0
    while (share := (time.process_time() - began) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = _LR * min(1.0, 2 * (1 - share))
        some = [cubes[i] for i in rng.integers(0, len(cubes), _BATCH)]
        seen = torch.stack([seen_of(probabilities, image) for probabilities, image, _ in some])
        truth = torch.stack([truth[None].long() for _, _, truth in some])
        loss = loss_of(head(seen), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        if step % 100 == 0:
            print(f"step {step}: loss {float(loss):.3f}", flush=True)
    return head.eval(), step


def corrected(head: Head, scan: Scan) -> tuple[np.ndarray, float]:
    """Label a scan by the head within the brain's box; with the processor's seconds."""
    began = time.process_time()
    cut = scan.probabilities[(slice(None), *scan.box)], scan.image[scan.box]
    with torch.inference_mode():
        classes = head(seen_of(*cut)[None])[0].argmax(dim=0).numpy()
    ids = np.array([0, *(s.id for s in STRUCTURES)], np.uint8)
    labels = np.zeros(scan.image.shape, np.uint8)
    labels[scan.box] = ids[classes]
    return labels, time.process_time() - began


def compared(model: SCD, head: Head, people: Path, looks: int) -> list[dict[str, Any]]:
    """Measure every way on the people to choose by."""
    measured = []
    for case in people_cases(people, CHOOSING, looks):
        for keep_ratio in KEEP_RATIOS:
            scan, labels = interpolated_scan(model, case, keep_ratio)
            learned, seconds = corrected(head, scan)
            sharp = segment(case.scan, model, keep_ratio, sharpen=True)
            ways = (
                (INTERPOLATED, labels, 0.0),
                (SHARPENED, sharp.labels, sharp.stats.seconds["sharpen"]),
                (LEARNED, learned, seconds),
            )
            for way, given, spent in ways:
                dice = float(np.mean(list(dice_by_name(given, case).values())))
                measured.append(
                    {
                        "case": case.scan.name,
                        "group": case.group,
                        "keep": keep_ratio,
                        "way": way,
                        "dice": dice,
                        "seconds": spent,
                    }
                )
                print(f"{case.scan.name} keep {keep_ratio}: {way} {dice:.3f}, {spent:.1f} s")
    return measured


def table(report: dict[str, Any]) -> str:
    """Write the means as a table."""
    means = defaultdict(list)
    for figure in report["figures"]:
        means[figure["way"], figure["group"], figure["keep"]].append(figure["dice"])
    columns = [(group, keep) for group in (PERSON, ANY_CONTRAST) for keep in KEEP_RATIOS]
    heads = [f"{group}, keep {keep:g}" for group, keep in columns]
    lines = [f"| borders | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for way in (INTERPOLATED, SHARPENED, LEARNED):
        cells = [f"{np.mean(means[way, *column]):.3f}" for column in columns]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    scans = len({figure["case"] for figure in report["figures"]})
    said = (
        f"Mean Dice of 27 structures, {scans} scans of two people. The head has three convolutions "
        f"of 24 channels at 1 mm; it learned from {report['scans']} scans of twelve others in "
        f"{report['steps']:,} steps, {report['minutes']:g} minutes on one thread."
    )
    return "\n".join([*lines, "", said])


def main() -> None:
    """Train, compare and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=Path, help="folder of the label maps")
    parser.add_argument("--minutes", type=float, default=15.0, help="of the head's training")
    parser.add_argument("--looks", type=int, default=2, help="of each person and kind of contrast")
    parser.add_argument("--table", action="store_true", help="write the page from the figures")
    arguments = parser.parse_args()
    if arguments.people:
        model, rng, cubes, scans = load_model(TARGET), np.random.default_rng(1), [], 0
        for number in TRAINING:
            for look in range(arguments.looks):
                for group in (PERSON, ANY_CONTRAST):
                    case = painted(arguments.people, number, _FIRST_LOOK + look, group)
                    keep_ratio = float(rng.choice(KEEP_RATIOS))
                    cubes += patches(interpolated_scan(model, case, keep_ratio)[0], rng)
                    scans += 1
                    print(f"{case.scan.name}: {len(cubes)} cubes", flush=True)
        head, steps = trained_head(cubes, arguments.minutes)
        measured = compared(model, head, arguments.people, arguments.looks)
        report = {
            "scans": scans,
            "steps": steps,
            "minutes": arguments.minutes,
            "figures": measured,
        }
        FIGURES.write_text(json.dumps(report, indent=1) + "\n")
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    report = json.loads(FIGURES.read_text())
    PAGE.write_text(f"{before}{BEGIN}\n{table(report)}\n\n{END}{after}")


if __name__ == "__main__":
    main()
