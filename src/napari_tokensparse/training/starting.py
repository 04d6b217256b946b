"""Beginning a run from a trained model: its network, its grid and its weights are taken over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.datasets.cases import DataError
from napari_tokensparse.datasets.dataset import class_names
from napari_tokensparse.model.bundle import load_weights
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.config import SCDConfig
from napari_tokensparse.model.folder import Beginning
from napari_tokensparse.training.recipes.parts import (
    most_windows,
    said_of_validation,
    validation_pace,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from napari_tokensparse.datasets.cases import DataSet
    from napari_tokensparse.model.expected import Expected
    from napari_tokensparse.model.info import LabelClass, ModelInfo
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.training.recipes.parts import Recipe
    from napari_tokensparse.training.trainconfig import TrainConfig

STEPS = 300
"""Steps of a run that begins from a model, where nobody says how long it is to be."""
LR_SHARE = 0.3
"""Step size by that of a run from random weights: what was learnt is not to be thrown away."""
_WARMUP = 20
_HEAD = ("decoder.out.", "decoder.linear.")  # of whatever decoder: what makes logits of features
_SCALED = "NormalizeIntensityd"  # of crops, in recipes whose model does it to the whole volume


@dataclass(frozen=True, eq=False)
class Start:
    """A trained network that a run begins from.

    Attributes
    ----------
    network
        With its `ModelInfo`; it is read, never changed.
    """

    network: SCD

    @property
    def info(self) -> ModelInfo:
        """What the model says of itself."""
        return self.network.info

    @property
    def beginning(self) -> Beginning:
        """Name and hash, for the metadata of what is trained from it."""
        return Beginning(name=self.info.name, weights_sha256=self.info.weights_sha256)

    def named(self, data_set: DataSet) -> DataSet:
        """Call classes and channels that a data set has no names for as the model does.

        Raises
        ------
        DataError
            The data set has other channels than the model.
        """
        self._check_channels(data_set)
        theirs = {c.value: c.name for c in self.info.classes}
        nameless = class_names(data_set.labels)
        labels = {
            value: theirs.get(value, name) if name == nameless[value] else name
            for value, name in data_set.labels.items()
        }
        numbered = tuple(f"channel {n}" for n in range(1, len(data_set.channels) + 1))
        channels = self.info.channels if data_set.channels == numbered else data_set.channels
        return replace(data_set, labels=labels, channels=channels)

    def adapted(self, recipe: Recipe, memory_bytes: int, length_given: bool) -> Recipe:
        """Put the model's network, grid and intensities in the place of a recipe's choices.

        Parameters
        ----------
        recipe
            Made for the data set. Its classes, crops and flips stay.
        memory_bytes
            What a step may use.
        length_given
            Whether a person said how long to train; else it is `STEPS`.
        """
        ours, info = self.network.config, self.info
        outputs = recipe.network.out_channels
        network = SCDConfig(**{**ours.model_dump(), "out_channels": outputs})
        taken = ("preprocessing", "background", "overlap", "blending", "foreground_ml")
        said = {name: getattr(info, name) for name in taken}
        said["classes"] = tuple(self._class(c) for c in recipe.info.classes)
        said["sharpen"] = info.sharpen and recipe.info.exclusive
        said["expects"] = self._expected(recipe)
        # A head is stripped by the labels of all that makes up its brain.
        by_another = info.strip_by not in ("", info.name)
        said["strip_by"] = info.strip_by if by_another else ""
        said["strip"] = info.strip and (by_another or not self._gone(recipe.info))
        plan = recipe.plan.model_copy(
            update={
                "window": network.window,
                "jitter": network.patch_size,
                "preprocessing": info.preprocessing,
                "background": info.background,
                "augmentation": _on_grid(recipe.plan.augmentation, info.preprocessing),
            }
        )
        windows = recipe.training.batch_size * plan.crops
        steps = recipe.training.steps if length_given else STEPS
        changes = _schedule(recipe.training, steps, recipe.network.embed_dim / ours.embed_dim)
        changes["micro_batch"] = most_windows(network, windows, memory_bytes)
        made = recipe.model_copy(
            update={
                "network": network,
                "info": recipe.info.model_copy(update=said),
                "plan": plan,
                "training": recipe.training.model_copy(update=changes),
            }
        )
        return made.model_copy(update={"reasons": self._reasons(made)})

    def fill(self, network: SCD) -> None:
        """Copy the weights into a network of `adapted`; rows of classes of its own stay as made.

        Raises
        ------
        ModelError
            The weights do not fit.
        """
        own, theirs = network.state_dict(), self.network.state_dict()
        rows = self._rows(network.info)
        outputs = len(self.info.label_values)
        weights = {
            name: _head(own[name], tensor, rows, outputs) if name.startswith(_HEAD) else tensor
            for name, tensor in theirs.items()
        }
        load_weights(network, weights, self.info.name)

    def _check_channels(self, data_set: DataSet) -> None:
        theirs, given = self.info.channels, data_set.channels
        if len(theirs) != len(given):
            raise DataError(
                f"start from {self.info.name}: takes {len(theirs)} channels ({', '.join(theirs)}) "
                f"and the data have {len(given)} ({', '.join(given)}); start from another model"
            )
        lowered = [[name.casefold() for name in names] for names in (theirs, given)]
        if lowered[0] != lowered[1] and sorted(lowered[0]) == sorted(lowered[1]):
            raise DataError(
                f"start from {self.info.name}: takes channels in the order {', '.join(theirs)} and "
                f"the data have {', '.join(given)}; put them in the model's order"
            )

    def _expected(self, recipe: Recipe) -> Expected | None:
        """Return what scans the model was made for, unless the data are others."""
        ours, theirs = recipe.info.expects, self.info.expects
        if theirs is None or (bool(theirs.modality) and _is_ct(ours) != _is_ct(theirs)):
            return ours
        steps = (t for t in recipe.info.preprocessing if t["_target_"] == "Spacingd")
        edges = [mm for step in steps for mm in np.atleast_1d(step["pixdim"]).tolist()]
        if theirs.spacing_mm is None or not edges:
            return theirs
        least, most = theirs.spacing_mm
        wider = (min(least, *edges), max(most, *edges))
        return theirs.model_copy(update={"spacing_mm": wider})

    def _gone(self, info: ModelInfo) -> list[str]:
        """Name the classes of the model that the data do not list."""
        listed = {_key(c) for c in info.classes}
        return [c.name for c in self.info.classes if _key(c) not in listed]

    def _class(self, given: LabelClass) -> LabelClass:
        """Keep colour and codes of a class that the model has."""
        return next((c for c in self.info.classes if _key(c) == _key(given)), given)

    def _rows(self, info: ModelInfo) -> dict[int, int]:
        """Return for each output that the model has too, which of its outputs it is."""
        if info.exclusive != self.info.exclusive:
            return {}
        shift = int(info.exclusive)  # output 0 is background then
        theirs = {_key(c): at + shift for at, c in enumerate(self.info.classes)}
        ours = {at + shift: _key(c) for at, c in enumerate(info.classes)}
        rows = {at: theirs[key] for at, key in ours.items() if key in theirs}
        return {0: 0, **rows} if info.exclusive else rows

    def _reasons(self, recipe: Recipe) -> tuple[str, ...]:
        """Say what was taken over, what was made anew, and how it goes on."""
        training, window = recipe.training, "x".join(map(str, recipe.network.window))
        minutes = training.max_minutes
        length = f"{minutes:g} minutes" if minutes else f"{training.steps} steps"
        sha = self.info.weights_sha256[:12]
        hashed = f" (weights {sha}…)" if sha else ""
        return (
            f"Begins from {self.info.name}{hashed}: its network, its windows of {window} voxels, "
            "its spacing and its intensities are taken over.",
            self._said_of_classes(recipe.info),
            f"{length}, step size {training.lr:g} falling to 0; {said_of_validation(training)}.",
        )

    def _said_of_classes(self, info: ModelInfo) -> str:
        rows, shift = self._rows(info), int(info.exclusive)
        new = [c.name for at, c in enumerate(info.classes) if at + shift not in rows]
        gone = self._gone(info)
        said = [
            *([f"made anew for {', '.join(new)}"] if new else []),
            *([f"without {', '.join(gone)}, which the data do not list"] if gone else []),
        ]
        return f"Its head is {'; '.join(said)}." if said else "Its classes are those of the data."


def load_start(source: str) -> Start:
    """Load the model to begin from: a name, a model folder, or whatever `load_model` takes.

    Raises
    ------
    ModelError
        There is no such model, or its files do not fit.
    """
    return Start(load_model(source))


def _schedule(training: TrainConfig, steps: int | None, width: float) -> dict[str, Any]:
    """Return what of a schedule differs where training begins from a model."""
    warmup = min(training.warmup_steps, _WARMUP)
    return {
        "steps": steps,
        "lr": round(training.lr * LR_SHARE * min(1.0, width), 6),
        "warmup_steps": warmup if steps is None else min(warmup, -(-steps // 10)),
        **validation_pace(training.validate_every, steps, training.max_minutes),
    }


def _is_ct(expected: Expected | None) -> bool:
    return expected is not None and "CT" in expected.modality


def _key(one: LabelClass) -> tuple[int, str]:
    return one.value, one.name.casefold()


def _head(own: Tensor, theirs: Tensor, rows: Mapping[int, int], outputs: int) -> Tensor:
    """Put the rows of known outputs into those of a head of our own, each ``n`` rows deep."""
    deep, filled = len(theirs) // outputs, own.clone()
    for at, source in rows.items():
        filled[at * deep : (at + 1) * deep] = theirs[source * deep : (source + 1) * deep]
    return filled


def _on_grid(
    augmentation: Sequence[dict[str, Any]], preprocessing: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], ...]:
    """Fit a recipe's augmentation, of axes that run right, front and top, to a model's grid."""
    turned = [t.get("axcodes") for t in preprocessing if t["_target_"] == "Orientationd"]
    codes = turned[-1] if turned else None
    fitted = []
    for transform in augmentation:
        if transform["_target_"] == _SCALED:
            continue
        if transform["_target_"] == "RandFlipd":
            if codes is None:
                continue  # which way the axes of a file run is not known
            letters = ("LR", "PA", "IS")[transform["spatial_axis"]]
            axis = next(at for at, code in enumerate(codes) if code in letters)
            transform = {**transform, "spatial_axis": axis}
        fitted.append(transform)
    return tuple(fitted)
