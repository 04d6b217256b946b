"""What a click takes beyond its run: the model is loaded, layers are made and shown.

It is learned from clicks and kept in the user's cache: the first click of a process takes longer,
for napari compiles what it needs then. The middle one of the latest few counts, so that one click
on a machine that was busy, or asleep, spoils nothing.
"""

from __future__ import annotations

from contextlib import suppress
from statistics import median
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, ValidationError

from napari_tokensparse.common.cache import cache_folder
from napari_tokensparse.common.files import written_whole

if TYPE_CHECKING:
    from pathlib import Path


class Known(BaseModel):
    """What is known of the latest clicks: seconds a first one took more, and seconds a voxel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: tuple[NonNegativeFloat, ...] = ()
    each: tuple[NonNegativeFloat, ...] = ()


class Beyond:
    """Tells what the next click will take beyond its run, and learns from each.

    One stands for a process, whose first click is another.
    """

    def __init__(self) -> None:
        self._earlier: tuple[float, int] | None = None  # seconds and voxels of the first click

    def seconds(self, voxels: int) -> float:
        """Return what a click on a scan of so many voxels takes beyond its run; 0 if unknown."""
        known = _read()
        return _usual(known.each) * voxels + (_usual(known.first) if self._earlier is None else 0.0)

    def learn(self, seconds: float, voxels: int) -> None:
        """Take what a click took beyond its run."""
        known = _read()
        if self._earlier is None:
            self._earlier, others = (seconds, voxels), known.first
        else:
            known = known.model_copy(update={"each": _with(known.each, seconds / voxels)})
            others = known.first[:-1]  # the last is of this process, and better known now
        first, of_first = self._earlier
        more = max(0.0, first - _usual(known.each) * of_first)
        _write(known.model_copy(update={"first": _with(others, more)}))


beyond = Beyond()


_LATEST = 5  # clicks that are kept


def _with(kept: tuple[float, ...], latest: float) -> tuple[float, ...]:
    return (*kept, latest)[-_LATEST:]


def _usual(kept: tuple[float, ...]) -> float:
    return median(kept) if kept else 0.0


def _file() -> Path:
    return cache_folder("calibration") / "clicks.json"


def _read() -> Known:
    try:
        return Known.model_validate_json(_file().read_bytes())
    except (OSError, ValidationError):
        return Known()  # it is not there, or no longer what it was


def _write(known: Known) -> None:
    with suppress(OSError):  # a cache that cannot be written to is none
        _file().parent.mkdir(parents=True, exist_ok=True)
        with written_whole(_file()) as part:
            part.write_text(known.model_dump_json(), encoding="utf-8")
