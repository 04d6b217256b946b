"""torch.compile, where there is a compiler for C++."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from napari_tokensparse.compute.backends.base import Backend, BackendError, with_parts

if TYPE_CHECKING:
    from napari_tokensparse.model.scd import SCD

COMPILE = "compile"
_COMPILERS = ("c++", "g++", "clang++", "cl")


def has_compiler() -> bool:
    """Whether torch can compile: the compiler is the variable ``CXX``, or one on the path."""
    return any(shutil.which(name) for name in (os.environ.get("CXX"), *_COMPILERS) if name)


def compiled_backend(model: SCD) -> Backend:
    """Compile a model, once for each keep ratio: the first window of each takes a minute or so.

    Raises
    ------
    BackendError
        There is no compiler.
    """
    if not has_compiler():
        raise BackendError(f"backend {COMPILE!r}: no C++ compiler here ({', '.join(_COMPILERS)})")
    twin = with_parts(model, lambda part: None)
    twin.compile(dynamic=False)
    return Backend(COMPILE, twin)
