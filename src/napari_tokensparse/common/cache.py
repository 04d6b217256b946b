"""Where files lie that can be made again: converted networks, measurements, parts of downloads."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "TOKENSPARSE_CACHE"


def cache_folder(part: str) -> Path:
    """Return a part of the user's cache; ``TOKENSPARSE_CACHE`` moves it.

    It may not exist, and it may not be possible to make it: who uses it does without, then.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    root = Path(chosen) if chosen else platformdirs.user_cache_path("napari-tokensparse")
    if not chosen and not root.is_absolute():  # there is no home: nothing can lie below this
        root = Path(os.devnull)
    return root / part
