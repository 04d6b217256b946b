"""The model card of a trained model, in Markdown."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tokensparse.datasets.cases import DataSet
    from napari_tokensparse.model.folder import Origin
    from napari_tokensparse.training.events import Validated
    from napari_tokensparse.training.recipes.choose import Recipe
    from napari_tokensparse.training.runconfig import RunConfig

_TEXT = """\
# {name}

Trained with napari-tokensparse {version} on {data} ({cases} training cases, {held_out} held out).
For research only, not for diagnosis.
{ended}
- **Classes.** {classes}
- **Channels.** {channels}
- **Training.** {steps} steps, recipe `{recipe}`, seed {seed}; keep ratios {low:g} to {high:g},
  drawn at each step. `training/run.yaml` repeats the run.
{reasons}

## Measured

{measured}

## Limits

- Measured on the data set that it was trained for, and nowhere else.
- Licence: that of the training data decides.
{notes}"""

_UNFINISHED = """
**Unfinished**: its run was stopped or goes on, and its step size had not fallen to 0.
"""


def card(
    config: RunConfig,
    recipe: Recipe,
    data_set: DataSet,
    validated: Validated | None,
    origin: Origin,
    notes: Sequence[str] = (),
) -> str:
    """Write the card of a model: data, training, and what was measured on which cases.

    ``origin`` says how the run ended and what it began from;
    ``notes`` are what a person should know of the cases, a line each.
    """
    low, high = recipe.training.keep_range
    return _TEXT.format(
        name=recipe.info.name,
        version=importlib.metadata.version("napari-tokensparse").split("+")[0],
        data=data_set.name,
        cases=len(data_set.training),
        held_out=len(data_set.validation),
        classes=", ".join(f"{c.value} {c.name}" for c in recipe.info.classes),
        channels=", ".join(recipe.info.channels),
        steps=origin.step,
        ended=_UNFINISHED if origin.is_unfinished else "",
        recipe=recipe.name,
        low=low,
        high=high,
        seed=config.seed,
        reasons="\n".join(f"- {reason}" for reason in recipe.reasons),
        measured=_measured(validated),
        notes=_noted(notes),
    )


def _noted(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    return "\n".join(["\n## Notes on the cases\n", *(f"- {note}" for note in notes), ""])


def _measured(validated: Validated | None) -> str:
    if validated is None:
        return "Nothing yet."
    cases = "held-out cases" if validated.held_out else "**a training case; none was held out**"
    rows = [
        f"| {name} | {dice:.3f} | {_hd95(validated, name)} |"
        for name, dice in validated.dice.items()
    ]
    head = f"Whole volumes on their own grid, {cases}, at the model's default keep ratio."
    mean = f"| **mean** | **{validated.mean_dice:.3f}** | |"
    return "\n".join([head, "", "| class | Dice | HD95 (mm) |", "|---|---|---|", *rows, mean])


def _hd95(validated: Validated, name: str) -> str:
    return f"{validated.hd95_mm[name]:.1f}" if name in validated.hd95_mm else "–"
