"""Measure the model ``ms-lesions``, and write its card and the figure of the documentation.

Whole pipeline, on the real patient 07, by whom settings were chosen, and on made-up patients:
people and masks that no training uses::

    python tools/evaluate_lesion_model.py --people FOLDER --masks FOLDER           # writes the card
    python tools/evaluate_lesion_model.py --masks FOLDER --model RUN --set-back 1       # 07 alone

At each keep ratio, by the controls at one of them, with the encoder's blocks left out, by the rule
*importance* at half the tokens of that ratio or less, and, in place of a model, by the threshold
that is best for each scan within white matter, with its truth known.
"""

from __future__ import annotations

import argparse
import json
from bisect import bisect_left
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export_lesion_model import TARGET, trained
from lesion_card import draw_lost, write_card
from lesions.cases import made_up_cases, real_case
from lesions.scoring import best_threshold, score
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.segmenting.infer import segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lesions.cases import Case
    from napari_tokensparse.model.scd import SCD

FIGURES = Path(__file__).parents[1] / "docs/lesions/figures.json"
PICTURE = Path(__file__).parents[1] / "docs/images/lost-lesions.png"
KEEP_RATIOS = (1.0, 0.5, 0.25, 0.1)
HARD = 0.25
"""Keep ratio at which the choice of tokens is compared with the controls'."""
LEASTS = (0.01 * 1.1 ** np.arange(40)).round(4).tolist()
"""Importances of which the least that keeps few enough tokens is taken."""


def figures(model: SCD, case: Case) -> Iterator[dict[str, Any]]:
    """Segment a case in every way, and score it."""
    for keep_ratio in KEEP_RATIOS:
        yield _figure(model, case, "learned", keep_ratio)
    for scorer in ("random", "intensity"):
        yield _figure(model, case, scorer, HARD, scorer=scorer)
    yield _figure(model, case, "encoder ablated", 1.0, ablate="encoder")
    yield adaptive(model, case)
    image = case.scan.array[0].astype(np.float32)
    level, marked = best_threshold(image, case.white & (image != 0), case.truth)
    yield _scored(case, "threshold", level, marked)


def adaptive(model: SCD, case: Case) -> dict[str, Any]:
    """Segment by importance with half the tokens of the hard keep ratio, or just less."""
    most = _figure(model, case, "learned", HARD)["tokens"] / 2
    tried: dict[float, dict[str, Any]] = {}

    def spared(least: float) -> float:
        tried[least] = _figure(model, case, "importance", least, importance=least)
        return -tried[least]["tokens"]

    return tried[LEASTS[bisect_left(LEASTS, -most, key=spared)]]


def _figure(model: SCD, case: Case, by: str, setting: float, **how: Any) -> dict[str, Any]:
    """Segment a case in one way; ``tokens`` is the share alive past the first stage."""
    keep_ratio = None if "importance" in how else setting
    result = segment(case.scan, model, keep_ratio, **how)
    tokens = result.stats.tokens
    alive = tokens["processed"] - tokens["pruned at 1"]
    return _scored(case, by, setting, result.labels > 0) | {
        "tokens": alive / tokens["processed"],
        "seconds": result.stats.seconds["network"],
    }


def _scored(case: Case, by: str, setting: float, marked: np.ndarray) -> dict[str, Any]:
    scores = score(marked, case.truth)._asdict()
    return {"group": case.group, "case": case.scan.name, "by": by, "setting": setting, **scores}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--masks", type=Path, required=True, help="folder of masks and images")
    parser.add_argument("--people", type=Path, help="folder of the label maps; real alone without")
    parser.add_argument("--model", type=Path, help="a run or its weights; writes no card")
    parser.add_argument("--set-back", type=float, default=0.0, metavar="A", help="of such weights")
    parser.add_argument("--least-confidence", type=float, default=0.0, metavar="P", help="of such")
    arguments = parser.parse_args()
    chosen, settings = arguments.model, (arguments.set_back, None, arguments.least_confidence)
    model = trained(chosen, *settings)[0] if chosen else load_model(TARGET)
    cases = [real_case(arguments.masks)]
    if arguments.people:
        cases += made_up_cases(arguments.people, arguments.masks)
    measured = []
    for case in cases:
        for figure in figures(model, case):
            measured.append(figure)
            print(
                f"{figure['case']:24} {figure['by']:16} {figure['setting']:6.3g} "
                f"Dice {figure['dice']:.3f} F1 {figure['f1']:.3f} "
                f"sensitivity {figure['sensitivity']:.2f} precision {figure['precision']:.2f} "
                f"tokens {figure.get('tokens', 1):.3f} {figure.get('seconds', 0):.1f} s",
                flush=True,
            )
    if chosen is None:
        FIGURES.parent.mkdir(exist_ok=True)
        FIGURES.write_text(json.dumps(measured, indent=1) + "\n")
        write_card(TARGET, measured, model.info.least_confidence)
        draw_lost(PICTURE, measured)


if __name__ == "__main__":
    main()
