"""What a model folder says of the run that trained it, read without torch."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from napari_tokensparse.common.untrusted import json_object
from napari_tokensparse.model.folder import METADATA

if TYPE_CHECKING:
    from pathlib import Path

KEY = "napari_tokensparse_training"
"""In ``configs/metadata.json``: what an `Origin` holds."""
_Text = Annotated[str, Field(max_length=200)]
_STOPPED = ("", "stopped")


class Beginning(BaseModel):
    """A model that another one was trained from.

    Attributes
    ----------
    name, weights_sha256 : str
        What it is called, and the hash of its weights; the latter is empty where it is not known.
    """

    model_config = ConfigDict(frozen=True)

    name: _Text
    weights_sha256: _Text = ""


class Origin(BaseModel):
    """The run that a model comes from.

    Attributes
    ----------
    ended : str
        Why it ended, as `napari_tokensparse.training.events.Finished` says; empty while it goes on,
        and of a run that was killed.
    step : int
        Steps behind the weights.
    began_from : Beginning or None
        The model that it began from; None: random weights.
    """

    model_config = ConfigDict(frozen=True)

    ended: _Text = ""
    step: NonNegativeInt = 0
    began_from: Beginning | None = None

    @property
    def is_unfinished(self) -> bool:
        """Whether the run was stopped, killed, or goes on."""
        return self.ended in _STOPPED


def origin_of(folder: Path) -> Origin | None:
    """Read what a model folder says of its run; None where it says nothing that can be read."""
    with suppress(OSError, ValueError, KeyError, ValidationError):
        return Origin.model_validate(json_object(folder / METADATA)[KEY])
    return None


def shown_name(folder: Path) -> str:
    """Name a model folder as lists do: one of a run that did not end by itself says so."""
    origin = origin_of(folder)
    unfinished = origin is not None and origin.is_unfinished
    return f"{folder.name} (unfinished)" if unfinished else folder.name
