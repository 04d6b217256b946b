"""What a run writes as its model folder, each time that it knows better weights."""

from __future__ import annotations

import importlib.metadata
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tokensparse.common.ownership import record
from napari_tokensparse.model.bundle import load_weights, write_bundle
from napari_tokensparse.model.folder import BUNDLE_FILES, ORIGIN_KEY, Origin
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.training.card import card
from napari_tokensparse.training.events import Validated, from_json
from napari_tokensparse.training.folder import EVENTS_FILE, FOLDER
from napari_tokensparse.training.state import best_weights, counters

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tokensparse.datasets.cases import DataSet
    from napari_tokensparse.training.recipes.choose import Recipe
    from napari_tokensparse.training.runconfig import RunConfig
    from napari_tokensparse.training.starting import Start


@dataclass(frozen=True, eq=False)
class ModelWriter:
    """Writes the best weights so far as a model folder, with card and metadata.

    Attributes
    ----------
    config, recipe, data_set
        Of the run.
    notes
        What a person should know of the cases, a line each.
    start
        What the run began from, or None.
    """

    config: RunConfig
    recipe: Recipe
    data_set: DataSet
    notes: tuple[str, ...]
    start: Start | None

    def write(self, validated: Validated | None, ended: str = "") -> None:
        """Write them, and how the run ended; nothing where it goes on."""
        config, recipe = self.config, self.recipe
        model = SCD(recipe.network, recipe.info)
        load_weights(model, best_weights(config.output / FOLDER), str(config.output))
        done = counters(config.output / FOLDER).step if validated is None else validated.step
        beginning = None if self.start is None else self.start.beginning
        origin = Origin(ended=ended, step=done, began_from=beginning)
        text = card(config, recipe, self.data_set, validated, origin, self.notes)
        write_bundle(config.output, model.eval(), self._metadata(origin), text)
        record(config.output / FOLDER, [config.output / name for name in BUNDLE_FILES])

    def _metadata(self, origin: Origin) -> dict[str, Any]:
        data = self.data_set.name
        return {
            "version": "0.1.0",
            "changelog": {"0.1.0": "trained"},
            "task": f"Segmentation of {', '.join(c.name for c in self.recipe.info.classes)}",
            "description": f"Token-sparse network trained on {data}",
            "authors": "",
            "copyright": "",
            "data_source": data,
            **{str(key): value for key, value in self.config.about.items()},
            "napari_tokensparse_version": importlib.metadata.version("napari-tokensparse"),
            ORIGIN_KEY: origin.model_dump(mode="json", exclude_none=True),
        }


def best_validation(folder: Path) -> Validated | None:
    """Find the best validation of a run so far in its journal; None where there was none."""
    best = None
    with suppress(OSError, ValueError):  # a kill may have cut the last line short
        for line in (folder / FOLDER / EVENTS_FILE).read_text("utf-8").splitlines():
            event = from_json(line)
            if isinstance(event, Validated) and event.best:
                best = event
    return best
