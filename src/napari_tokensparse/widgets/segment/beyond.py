"""What a click takes beyond its run: the model is loaded, layers are made and shown.

It is learned from clicks and kept in the user's cache: the first click of a process takes longer,
for napari compiles what it needs then.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, ValidationError

from napari_tokensparse.common.cache import cache_folder
from napari_tokensparse.common.files import written_whole

if TYPE_CHECKING:
    from pathlib import Path


class Known(BaseModel):
    """What is known of clicks: seconds that the first one takes more, and seconds a voxel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: NonNegativeFloat = 0.0
    each: NonNegativeFloat = 0.0


class Beyond:
    """Tells what the next click will take beyond its run, and learns from each.

    One stands for a process, whose first click is another.
    """

    def __init__(self) -> None:
        self._earlier: tuple[float, int] | None = None  # seconds and voxels of the first click

    def seconds(self, voxels: int) -> float:
        """Return what a click on a scan of so many voxels takes beyond its run; 0 if unknown."""
        known = _read()
        return known.each * voxels + (known.first if self._earlier is None else 0.0)

    def learn(self, seconds: float, voxels: int) -> None:
        """Take what a click took beyond its run."""
        known = _read()
        if self._earlier is None:
            self._earlier = (seconds, voxels)
        else:
            known = known.model_copy(update={"each": seconds / voxels})
        first, of_first = self._earlier
        more = max(0.0, first - known.each * of_first)
        _write(known.model_copy(update={"first": more}))


beyond = Beyond()


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
