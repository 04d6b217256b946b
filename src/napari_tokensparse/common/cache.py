"""Where files lie that can be made again: converted networks, measurements, parts of downloads."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "TOKENSPARSE_CACHE"


def cache_folder(part: str) -> Path:
    """Return a part of the user's cache, which may not exist; ``TOKENSPARSE_CACHE`` moves it."""
    chosen = os.environ.get(CACHE_VARIABLE)
    root = Path(chosen) if chosen else platformdirs.user_cache_path("napari-tokensparse")
    return root / part
