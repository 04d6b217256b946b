"""What a person set in napari's Preferences, read without napari.

napari 0.9 keeps the settings of each plugin, declared in ``napari.yaml``, in a file of its own
beside ``settings.yaml``. The command line and Python read that file; in napari itself the widgets
tell of what its Preferences hold now (`follow`).
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Annotated

import platformdirs
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_tokensparse.common.surroundings import user_place

PLUGIN = "napari-tokensparse"


class Computing(BaseModel):
    """``device``: where to compute. ``threads``: how many threads torch takes; 0 leaves it free."""

    model_config = ConfigDict(frozen=True)

    device: str = "auto"
    threads: Annotated[int, Field(ge=0)] = 0


class Models(BaseModel):
    """``folder``: where the user's models lie. ``index``: list of models to download."""

    model_config = ConfigDict(frozen=True)

    folder: str = ""
    index: str = ""


class Segmenting(BaseModel):
    """``live_preview``: whether the Segment widget begins with it."""

    model_config = ConfigDict(frozen=True)

    live_preview: bool = False


class Settings(BaseModel):
    """The settings, by the keys of ``napari.yaml``; an empty text or 0 is the default."""

    model_config = ConfigDict(frozen=True)

    computing: Computing = Computing()
    models: Models = Models()
    segment: Segmenting = Segmenting()


_followed: Settings | None = None


def follow(settings: Settings) -> None:
    """Let this process go by these settings instead of the file's."""
    global _followed
    _followed = settings


def current() -> Settings:
    """Return the settings that hold now.

    Raises
    ------
    ValueError
        napari's file holds something else; the line names it.
    """
    if _followed is not None:
        return _followed
    file = settings_file()
    return Settings() if file is None or not _is_there(file) else _read(file)


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # in a home that is not ours, as a container may have
        return False


def settings_file() -> Path | None:
    """Where napari keeps our settings; None where ``NAPARI_CONFIG`` is empty, as in napari."""
    chosen = os.environ.get("NAPARI_CONFIG")
    if chosen is None:
        return _napari_folder() / f"{PLUGIN}.yaml"
    return Path(chosen).parent / f"{PLUGIN}.yaml" if chosen else None


def _napari_folder() -> Path:
    """Return napari's own settings folder, one for each environment."""
    prefix = os.path.realpath(sys.prefix)
    environment = f"{Path(prefix).name}_{hashlib.sha1(prefix.encode()).hexdigest()}"
    return user_place(lambda: platformdirs.user_config_path("napari", False, environment))


def _read(file: Path) -> Settings:
    try:
        return Settings.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    except (OSError, yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{file}: not settings of ours ({why}); mend or delete it") from error
