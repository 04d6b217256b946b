"""MONAI without what it only looks for: for a process that is nobody else's.

On import MONAI loads all of its modules, each of them twice, and every package that one of them
might use, such as matplotlib and pandas: two seconds, of which segmenting a scan needs a third.
Looking for garbage among what is imported, and again when the process ends, takes most of another.
"""

from __future__ import annotations

import atexit
import gc
import pkgutil
import sys
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# MONAI does without them if they are not installed, and so do the transforms that a model may name.
_OPTIONAL = (
    *("cucim", "huggingface_hub", "ignite", "itk", "jsonschema", "matplotlib", "nrrd", "pandas"),
    *("PIL", "pydicom", "requests", "scipy.signal", "scipy.sparse", "scipy.sparse.linalg"),
    *("skimage", "tifffile", "tqdm", "transformers", "zarr"),
)
_NEEDED = ("monai", "monai.apps", "monai.transforms", "monai.networks.blocks.unetr_block")
"""In this order: its modules import one another in circles."""


def import_monai() -> None:
    """Import what segmenting takes of MONAI, and no more.

    Its other modules can be imported afterwards, but those that came do without optional packages
    from then on: so this is for commands, whose process ends with them. Where MONAI is imported
    already, or cannot be imported so, it is as it always is.
    """
    if "monai" in sys.modules:
        return
    before = set(sys.modules)
    try:
        with _lacking(_OPTIONAL), _loading_no_more(), _collecting_nothing():
            for name in _NEEDED:
                import_module(name)
    except Exception:  # a MONAI to come may need what is lacking
        for name in [name for name in sys.modules if name.partition(".")[0] == "monai"]:
            if name not in before:
                del sys.modules[name]
        import_module("monai")


def end_quickly() -> None:
    """Let the process end without a last look for garbage, whose memory goes back with it."""
    atexit.register(gc.freeze)


@contextmanager
def _lacking(names: tuple[str, ...]) -> Iterator[None]:
    """Let packages that are not imported yet seem not to be installed."""
    modules: dict[str, Any] = sys.modules
    hidden = [name for name in names if name not in modules]
    modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del modules[name]


@contextmanager
def _collecting_nothing() -> Iterator[None]:
    """Look for no garbage, and never again among what there is then: imports leave none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


@contextmanager
def _loading_no_more() -> Iterator[None]:
    """Keep MONAI from loading its modules one after the other, which it finds by this function."""
    walk = pkgutil.walk_packages
    pkgutil.walk_packages = lambda *_, **__: iter(())
    try:
        yield
    finally:
        pkgutil.walk_packages = walk
