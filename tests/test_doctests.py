import doctest
from importlib import import_module
from pkgutil import walk_packages

import pytest

import napari_tokensparse

MODULES = sorted(
    module.name
    for module in walk_packages(napari_tokensparse.__path__, "napari_tokensparse.")
    if not module.name.startswith("napari_tokensparse.widgets")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_do_what_they_say(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0


def test_there_are_examples_to_run() -> None:
    ratios = import_module("napari_tokensparse.model.ratios")
    assert doctest.testmod(ratios).attempted >= 1
