"""One training run as a person asks for it: a frozen config that is also a YAML file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from napari_tokensparse.common.files import written_whole
from napari_tokensparse.common.untrusted import one_line, yaml_mapping
from napari_tokensparse.model.info import HIGHEST_LABEL, Name
from napari_tokensparse.training.trainconfig import MOST_PROCESSES, KeepRange

About = Literal["version", "task", "description", "authors", "copyright", "data_source",
                "intended_use"]  # fmt: skip
"""Fields of MONAI's metadata that a person may say for a model of theirs."""
_Source = Annotated[
    str, BeforeValidator(lambda given: os.fspath(given) if isinstance(given, Path) else given)
]


class RunConfig(BaseModel):
    """What to train on, what to train, for how long, where to write it.

    Attributes
    ----------
    data, labels : Path or None
        A ``dataset.json`` or another list, a folder with images and labels, or a folder of images
        beside one of labels; None where volumes are handed over in Python.
    fold : int or None
        Which fold of a list that has them is held out; the lowest one if not given.
    output : Path
        Model folder to write; ``training/`` in it holds what a resume needs.
    recipe : str
        ``auto``, ``btcv`` or ``brats``.
    size : str
        Size of the network, a name of the recipes; ``auto`` leaves it to the recipe.
    start_from : str or None
        Model to begin from, a name or a folder: its network, spacing and intensities are taken
        over, and its head where classes are the same. Random weights if not given.
    keep_range : tuple of float or None
        Keep ratios that the model is trained for, within (0, 1]; the recipe's own if not given.
    epochs, max_minutes : int, float or None
        When to stop; the recipe's epochs if neither is given.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    processes : int
        Training processes on this machine; more than one share each step's volumes.
    seed : int
        Key of every random choice.
    validation_share : float
        Share of the cases that are held out where the data set lists none, in [0, 1).
    skip_bad : bool
        Whether to go on without the cases that cannot be used.
    zero_is_unlabelled : bool
        Whether label 0 means "not labelled" rather than background; it is left out of the loss.
    class_names : dict
        Names of classes by label value, before those that the data give.
    background : int or None
        Label value of what was labelled as background; it becomes 0.
    workers : int
        Processes that prepare windows.
    cache_gib : float
        Memory for prepared volumes, of all processes together; beyond it they lie on disk.
    et_as_authors : bool
        Recipe ``brats``: read label 2 as the enhancing tumour, as the authors' code does.
    about : dict
        What the model's metadata say of it in words, by MONAI's names, e.g. ``authors``.
    overrides : dict
        Fields of `TrainConfig` to set instead of the recipe's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path | None = None
    labels: Path | None = None
    fold: NonNegativeInt | None = None
    output: Path
    recipe: Literal["auto", "btcv", "brats"] = "auto"
    size: str = "auto"
    start_from: _Source | None = None
    keep_range: KeepRange | None = None
    epochs: PositiveInt | None = None
    max_minutes: PositiveFloat | None = None
    device: str = "auto"
    processes: Annotated[int, Field(ge=1, le=MOST_PROCESSES)] = 1
    seed: NonNegativeInt = 0
    validation_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    skip_bad: bool = False
    zero_is_unlabelled: bool = False
    class_names: dict[Annotated[int, Field(ge=1, le=HIGHEST_LABEL)], Name] = {}
    background: Annotated[int, Field(ge=1, le=HIGHEST_LABEL)] | None = None
    workers: Annotated[int, Field(ge=0, le=MOST_PROCESSES)] = 0
    cache_gib: Annotated[float, Field(ge=0)] = 4.0
    et_as_authors: bool = False
    about: dict[About, str] = {}
    overrides: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_network(self) -> RunConfig:
        if self.start_from is not None and self.size != "auto":
            raise ValueError(
                f"size {self.size} with start_from {self.start_from}: the network is that model's; "
                "leave one of the two out"
            )
        return self

    @classmethod
    def read(cls, path: Path) -> RunConfig:
        """Read a config from YAML.

        Raises
        ------
        ValueError
            In one line: the file cannot be read, or a field does not fit.
        """
        try:
            said = yaml_mapping(path, "the fields of a run, as run.yaml does")
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
        try:
            return cls(**said)
        except (TypeError, ValidationError) as error:
            raise ValueError(f"{path}: {one_line(error)}") from error

    def write(self, path: Path) -> None:
        """Write the config as YAML."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part:
            part.write_text(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False), "utf-8")
