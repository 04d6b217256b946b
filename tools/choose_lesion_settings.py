"""Try settings of the export of ``ms-lesions``: how far biases are set back, the least confidence.

On the real patient 07 and on made-up ones who have people's anatomies that no training sees and
patients' lesions that it does; patients and people of the card are not looked at::

    python tools/choose_lesion_settings.py RUN --people FOLDER --masks FOLDER --keep-ratio 1

The network runs once for each scan: to set its biases back moves the threshold of its probability.
Prints Dice and lesion-wise F1 of each scan, and their means, by the mean of both.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import expit, logit

from export_lesion_model import info, trained
from lesions.cases import REAL, TO_CHOOSE_BY, made_up_cases, real_scan
from lesions.scoring import score
from napari_tokensparse.segmenting.certainty import leave_out_unsure
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.probabilities import FULL
from train_lesion_model import CLASS_WEIGHTS

if TYPE_CHECKING:
    import numpy.typing as npt

RUN_AT = 1.0
"""How far biases are set back in the run, so that 8 bits of probability tell settings apart."""
SET_BACKS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
LEASTS = (0.0, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99)


class Run(NamedTuple):
    """A scan's probability of lesion, 0 to 255, with the biases set back by `RUN_AT`."""

    group: str
    lesion: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.bool_]


def marked(lesion: npt.NDArray[np.uint8], set_back: float, least: float) -> npt.NDArray[np.bool_]:
    """Mark what a model with these settings would.

    Parameters
    ----------
    lesion
        ``(i, j, k)`` probability with the biases set back by `RUN_AT`.
    set_back, least
        The settings.
    """
    moved = (set_back - RUN_AT) * np.log(CLASS_WEIGHTS[1] / CLASS_WEIGHTS[0])
    labels = (lesion >= FULL * expit(moved)).astype(np.uint8)
    if least:
        leave_out_unsure(labels, lesion, float(expit(logit(least) + moved)))
    return labels > 0


def main() -> None:
    """Run, try and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="its folder, or a model.safetensors")
    parser.add_argument("--masks", type=Path, required=True, help="folder of masks and images")
    parser.add_argument("--people", type=Path, required=True, help="folder of the label maps")
    parser.add_argument("--average", type=Path, metavar="RUN", help="take the mean with this one")
    rule = parser.add_mutually_exclusive_group()
    rule.add_argument("--keep-ratio", type=float, default=1.0)
    rule.add_argument("--importance", type=float, help="in place of the keep ratio")
    given = parser.parse_args()
    model, _ = trained(given.run, RUN_AT, given.average)
    scans = [real_scan(given.masks)]
    scans += [
        (case.group, case.scan, case.truth)
        for case in made_up_cases(given.people, given.masks, TO_CHOOSE_BY)
    ]
    keep_ratio = None if given.importance else given.keep_ratio
    (name,) = (c.name for c in info().classes)
    runs = []
    for group, scan, truth in scans:
        result = segment(scan, model, keep_ratio, importance=given.importance, probabilities=[name])
        runs.append(Run(group, result.probabilities[name], truth))
    tried = []
    for set_back in SET_BACKS:
        for least in LEASTS:
            scores = [score(marked(r.lesion, set_back, least), r.truth) for r in runs]
            each = [(float(s.dice), s.f1) for s in scores]
            tried.append((float(np.mean(each)), set_back, least, each))
    for mean, set_back, least, each in sorted(tried):
        told = "  ".join(
            f"{'07' if r.group == REAL else 'made up'} {dice:.3f} {f1:.2f}"
            for r, (dice, f1) in zip(runs, each, strict=True)
        )
        print(f"set back {set_back:<4g} least {least:<4g} mean {mean:.3f}  {told}")


if __name__ == "__main__":
    main()
