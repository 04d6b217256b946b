"""Measure ``ms-lesions`` on whole heads, whose skull it takes off by another model's labels.

Two painted heads, of people and masks that no training uses, beside the same scans stripped by the
truth: the difference is what stripping costs. The figures are in ``docs/lesions.md``::

    python tools/evaluate_lesion_heads.py --people FOLDER --masks FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lesions.heads import heads
from lesions.scoring import score
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.stripping import brain_of


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--masks", type=Path, required=True, help="folder of masks")
    parser.add_argument("--people", type=Path, required=True, help="folder of the label maps")
    parser.add_argument("--keep-ratio", type=float, default=0.5)
    arguments = parser.parse_args()
    model = load_model("ms-lesions")
    for head in heads(arguments.people, arguments.masks):
        brain, true = (each.array[0] != 0 for each in (brain_of(head.scan, model), head.stripped))
        print(
            f"{head.scan.name}: {brain.sum() / 1000:.0f} ml of {true.sum() / 1000:.0f} ml are left,"
            f" {(brain & ~true).sum() / 1000:.0f} ml more; {(head.truth & ~brain).sum()} of "
            f"{head.truth.sum()} mm³ of lesions are cut off"
        )
        for said, scan in (("by the truth", head.stripped), ("by the model", head.scan)):
            found = segment(scan, model, arguments.keep_ratio)
            scores = score(found.labels > 0, head.truth)
            print(
                f"  stripped {said}: Dice {scores.dice:.3f} F1 {scores.f1:.3f} "
                f"sensitivity {scores.sensitivity:.2f} precision {scores.precision:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
