"""Where files lie that can be made again: converted networks, measurements, parts of downloads."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from napari_tokensparse.common.surroundings import user_place

CACHE_VARIABLE = "TOKENSPARSE_CACHE"


def cache_folder(part: str) -> Path:
    """Return a part of the user's cache; ``TOKENSPARSE_CACHE`` moves it.

    It may not exist, and it may not be possible to make it: who uses it does without, then.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen) / part
    return user_place(lambda: platformdirs.user_cache_path("napari-tokensparse")) / part
