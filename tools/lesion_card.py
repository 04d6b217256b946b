"""The model card of ``ms-lesions`` and the figure of lost lesions, from measured figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from lesions.cases import MADE_UP, REAL
from lesions.scoring import SIZES_MM3
from napari_tokensparse.model.folder import CARD

if TYPE_CHECKING:
    from pathlib import Path

Figures = list[dict[str, Any]]

_NAMES = {
    "learned": "pruned by the model, keep {:g}",
    "random": "pruned at random, keep {:g}",
    "intensity": "pruned by intensity, keep {:g}",
    "importance": "importance of {:g} or more",
    "encoder ablated": "without the encoder's blocks, keep {:g}",
    "threshold": "best threshold in white matter",
}


def write_card(folder: Path, figures: Figures, least: float) -> None:
    """Write the card of a model folder.

    Parameters
    ----------
    folder
        Of the model.
    figures
        What `evaluate_lesion_model.py` measured.
    least
        The model's least confidence.
    """
    text = _TEXT.format(
        least=least,
        real=table([f for f in figures if f["group"] == REAL]),
        made_up=table([f for f in figures if f["group"] == MADE_UP]),
        scans=len({f["case"] for f in figures if f["group"] == MADE_UP}),
    )
    (folder / CARD).write_text(text, encoding="utf-8")


def table(figures: Figures) -> str:
    """Lay figures out, the mean over the scans for each way of segmenting them.

    The settings of importance and threshold are chosen for each scan, so they are not named.
    """
    rows = [
        "| | Dice | lesion-wise F1 | sensitivity | precision | tokens past stage 1 | network, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for said, of_way in _by_way(figures).items():
        numbers = [
            f"{np.mean([f[key] for f in of_way]):.2f}"
            for key in ("dice", "f1", "sensitivity", "precision")
        ]
        numbers.append(_mean(of_way, "tokens", 100, "{:.0f} %"))
        numbers.append(_mean(of_way, "seconds", 1, "{:.1f}"))
        rows.append(f"| {said} | " + " | ".join(numbers) + " |")
    return "\n".join(rows)


def _by_way(figures: Figures) -> dict[str, Figures]:
    """Group figures by the way of segmenting, in words."""
    settings: dict[str, set[float]] = {}
    for figure in figures:
        settings.setdefault(figure["by"], set()).add(figure["setting"])
    ways: dict[str, Figures] = {}
    for figure in figures:
        said = _NAMES[figure["by"]].format(figure["setting"])
        if figure["by"] == "importance" and len(settings["importance"]) > 1:
            said = "by importance"
        ways.setdefault(said, []).append(figure)
    return ways


def _mean(figures: Figures, key: str, times: float, form: str) -> str:
    if any(key not in f for f in figures):
        return "–"
    return form.format(times * np.mean([f[key] for f in figures]))


def lost_shares(figures: Figures) -> dict[float, list[float]]:
    """Share of the true lesions of each group of sizes that is lost, by keep ratio, all scans."""
    learned = [f for f in figures if f["by"] == "learned"]
    shares = {}
    for keep in sorted({f["setting"] for f in learned}, reverse=True):
        of_keep = [f for f in learned if f["setting"] == keep]
        lost = np.sum([f["lost"] for f in of_keep], axis=0)
        lesions = np.sum([f["lesions"] for f in of_keep], axis=0)
        shares[keep] = (lost / np.maximum(lesions, 1)).tolist()
    return shares


def draw_lost(path: Path, figures: Figures) -> None:
    """Draw what share of the lesions of each size is lost at each keep ratio, and the tokens."""
    shares = lost_shares(figures)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    lost, price = figure.subplots(1, 2, width_ratios=(2, 1))
    groups = np.arange(len(SIZES_MM3) - 1)
    width = 0.8 / len(shares)
    colours = ["#1b4f72", "#2e86c1", "#f5b041", "#cb4335"]
    for n, (keep, of_groups) in enumerate(shares.items()):
        colour = colours[n % len(colours)]
        lost.bar(
            groups + n * width, 100 * np.array(of_groups), width, label=f"{keep:g}", color=colour
        )
    lost.set_xticks(groups + 0.4 - width / 2, [_size(g) for g in groups])
    lost.set(xlabel="size of the lesion, mm³", ylabel="not found, %", ylim=(0, 100))
    lost.legend(title="keep ratio", frameon=False)
    for by, mark in (("learned", "o-"), ("random", "s"), ("intensity", "^"), ("importance", "*")):
        points = _by_setting([f for f in figures if f["by"] == by])
        price.plot(*zip(*points, strict=True), mark, label=by, markersize=7)
    price.set(xlabel="tokens past the first stage, %", ylabel="Dice", ylim=(0, None))
    price.legend(frameon=False)
    for axes in (lost, price):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def _by_setting(figures: Figures) -> list[tuple[float, float]]:
    """Mean tokens in per cent and mean Dice, for each keep ratio; of all for importance."""
    keys = sorted({0.0 if f["by"] == "importance" else f["setting"] for f in figures})
    points = []
    for key in keys:
        of_key = [f for f in figures if f["by"] == "importance" or f["setting"] == key]
        tokens = 100 * np.mean([f["tokens"] for f in of_key])
        points.append((float(tokens), float(np.mean([f["dice"] for f in of_key]))))
    return points


def _size(group: int) -> str:
    low, high = SIZES_MM3[group], SIZES_MM3[group + 1]
    return f"{low} and more" if group == len(SIZES_MM3) - 2 else f"{low} to {high - 1}"


_TEXT = """\
# ms-lesions

White-matter lesions of multiple sclerosis in FLAIR MRI, best of 1 mm and with its bias field
corrected; of a whole head the skull is taken off first, by `brain-structures`. For
research only, not for diagnosis.

- **Network.** SCD; window 96 × 96 × 96 voxels of 1 mm; patch 8 behind a convolutional stem;
  stages before block 1 and after blocks 2 and 4 of 8; what the first stage prunes is forgotten;
  token assembly without attention; a light decoder that computes half the image's resolution
  everywhere and its voxels only in the tokens that the first stage kept, so that its cost follows
  them. One checkpoint for every keep ratio.
- **Training.** No image of a patient: lesions of 25 patients, moved, mirrored, grown or shrunk
  and kept to white matter and its border, in the deformed anatomies of twelve other people,
  painted as FLAIR with what is bright without being a lesion (rims and caps of the ventricles,
  choroid plexus, flow, vessels, bright cortex, cortex amid white matter), bias, thick slices and
  noise. A keep ratio drawn anew at each step, and tokens pinned at random in a quarter of
  the last run's. 92 minutes on one core with another decoder, and 258 with this one, the last 170
  of them in whole windows; the last run, of 105, began with the mean of two before it. Made by
  `tools/train_lesion_model.py`, `tools/export_lesion_model.py` and, for every figure below,
  `tools/evaluate_lesion_model.py`.
- **Data.** Masks of the database of Lesjak et al. (Laboratory of Imaging Technologies, University
  of Ljubljana; CC BY), patients 1 to 30 but 7, 19, 26, 27 and 28; label maps of twelve people,
  `seg_01` to `seg_12` of SynthSeg's training label maps (Apache-2.0). Notices: `LICENSE`.

Lesions of 3 mm³ and more are counted; one is found if a marked voxel lies in it. "Tokens past
stage 1" is their share of all; it is what the decoder draws detail for. Importance is the least,
in steps of a tenth of it, that keeps half the tokens of keep 0.25 or fewer. The threshold is the
one that is best for each scan with its truth known, within white matter.

A connected piece counts if its surest voxel has a probability of {least:g} or more (hysteresis;
`info.least_confidence`). That and how far the last biases are set back were chosen by
`tools/choose_lesion_settings.py`, on patient 07 and on made-up ones who are not those below.

## Measured: one real patient

Patient 07 (1.3 ml of lesions, which are few and small), whose images were looked at to choose the
looks of training and the settings of the export. So these figures flatter the model; yet no voxel
of that patient was trained on. White matter of the threshold is that of `brain-structures` in the
T1.

{real}

## Measured: made-up patients

Person 15 with the lesions of patient 27 and person 16 with those of patient 28, none of them seen
in training, painted by the looks of training: {scans} scans. They do not say whether those looks
are those of a scanner.

{made_up}

## Limits

- Trained on made-up FLAIR alone, and chosen by one patient of one scanner.
- A brain alone must lie on exactly 0. Stripping was measured on painted heads, not on real ones
  (`docs/lesions`). The bias field should be corrected (N4).
- Lesions of other diseases, black holes, lesions of cortex and spinal cord: not trained on.
- A keep ratio below 0.07 was not trained on.
"""
