"""Packages that come with an extra: what to say where one is lacking."""

from __future__ import annotations

from importlib.util import find_spec

from napari_tokensparse.common.untrusted import PlainError


class ExtraError(PlainError):
    """A package that is not installed; the line says with which extra it comes."""


def lacking(purpose: str, package: str, extra: str) -> str:
    """Say in one line what a purpose needs, and how to get it."""
    return f"{purpose} needs {package}: pip install 'napari-tokensparse[{extra}]'"


def require(purpose: str, package: str, extra: str, module: str | None = None) -> None:
    """Check that a package is installed, without importing it.

    Parameters
    ----------
    purpose
        What it is for, as the line begins.
    package, extra
        Its name, and that of the extra which brings it.
    module
        What it is imported as, if not by its name.

    Raises
    ------
    ExtraError
        It is not.
    """
    if find_spec(module or package) is None:
        raise ExtraError(lacking(purpose, package, extra))
