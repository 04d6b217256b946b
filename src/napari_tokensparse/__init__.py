"""Segmentation of medical volumes with token sparsification, in napari, a shell or Python.

The public names are resolved on first use, so that importing the package (which napari
does when it looks for plugins) imports neither torch nor Qt.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from napari_tokensparse.common.surroundings import name_account, share_processors

if TYPE_CHECKING:
    from napari_tokensparse.model.checkpoints import load_model
    from napari_tokensparse.segmenting.infer import segment
    from napari_tokensparse.volumes.reading import read_volume
    from napari_tokensparse.volumes.volume import Volume

__all__ = ["Volume", "__version__", "load_model", "read_volume", "segment"]

__version__ = version("napari-tokensparse")

name_account()
share_processors()

_HOMES = {
    "Volume": "napari_tokensparse.volumes.volume",
    "load_model": "napari_tokensparse.model.checkpoints",
    "read_volume": "napari_tokensparse.volumes.reading",
    "segment": "napari_tokensparse.segmenting.infer",
}


def __getattr__(name: str) -> object:
    """Import a public name from its home the first time it is asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, those not yet imported too."""
    return sorted({*globals(), *__all__})
