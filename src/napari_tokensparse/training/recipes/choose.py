"""Recipes: every choice of a training run, made for a data set, with its reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tokensparse.training.recipes.auto import auto
from napari_tokensparse.training.recipes.parts import SIZES, Recipe, RecipeError, RecipeRequest
from napari_tokensparse.training.recipes.published import brats, btcv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tokensparse.datasets.cases import DataSet
    from napari_tokensparse.datasets.checks import CaseFacts

__all__ = ["RECIPES", "SIZES", "Recipe", "RecipeError", "RecipeRequest", "make_recipe"]

RECIPES = ("auto", "btcv", "brats")


def make_recipe(
    name: str,
    data_set: DataSet,
    facts: Sequence[CaseFacts],
    *,
    size: str = "auto",
    device: str = "cpu",
    memory_bytes: int,
    keep_range: tuple[float, float] | None = None,
    epochs: int | None = None,
    max_minutes: float | None = None,
    et_as_authors: bool = False,
) -> Recipe:
    """Choose everything that a training run needs.

    Parameters
    ----------
    name
        ``auto``, which looks at the data set, the device and its memory; ``btcv`` or ``brats``,
        which are as published.
    data_set
        What to train on.
    facts
        What the check found, for each training case in order.
    size, device, memory_bytes, keep_range, epochs, max_minutes, et_as_authors
        See `RecipeRequest`.

    Raises
    ------
    RecipeError
        There is no such recipe or size, or it does not fit the data set.
    """
    request = RecipeRequest(
        size, device, memory_bytes, keep_range, epochs, max_minutes, et_as_authors
    )
    if name == "auto":
        return auto(data_set, facts, request)
    if name == "btcv":
        return btcv(data_set, request)
    if name == "brats":
        return brats(data_set, request)
    raise RecipeError(f"recipe {name!r}: choose one of {', '.join(RECIPES)}")
