"""What the package says of itself, in pyproject.toml, README, citation and conda recipe alike."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from jinja2 import Environment, StrictUndefined
from packaging.licenses import canonicalize_license_expression
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# What conda-forge calls packages otherwise than PyPI, or has in a smaller form.
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "dask": "dask-core"}
OWN = "napari-tokensparse"


def recipe() -> dict[str, Any]:
    """Render the recipe as conda-build does."""
    text = (ROOT / "recipe" / "meta.yaml").read_text("utf-8")
    rendered = Environment(undefined=StrictUndefined).from_string(text)
    said: dict[str, Any] = yaml.safe_load(rendered.render(PYTHON="python", environ={}))
    return said


def as_conda(requirement: str) -> str:
    """Write a requirement of PyPI's as one of conda-forge's."""
    parsed = Requirement(requirement)
    return f"{CONDA_NAMES.get(parsed.name, parsed.name)} {parsed.specifier}".strip()


def test_the_recipe_needs_what_the_package_needs() -> None:
    requirements = recipe()["requirements"]
    python = f"python {PROJECT['requires-python']}"
    assert sorted(requirements["run"]) == sorted([python, *map(as_conda, PROJECT["dependencies"])])
    extras = {
        as_conda(one)
        for group in PROJECT["optional-dependencies"].values()
        for one in group
        if Requirement(one).name != OWN
    }
    assert sorted(requirements["run_constrained"]) == sorted(extras)
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    wanted = {as_conda(one).replace("_", "-") for one in build}
    assert wanted <= set(requirements["host"])


def test_the_recipe_says_what_the_project_says() -> None:
    said = recipe()
    assert said["package"]["name"] == PROJECT["name"]
    assert said["about"]["summary"] == PROJECT["description"]
    assert said["about"]["license"] == PROJECT["license"]
    assert {said["about"]["home"], said["about"]["dev_url"]} == {PROJECT["urls"]["Source"]}
    (script,) = said["build"]["entry_points"]
    assert script == f"tokensparse = {PROJECT['scripts']['tokensparse']}"
    assert said["source"]["path"].endswith(
        f"napari_tokensparse-{said['package']['version']}.tar.gz"
    )


def test_the_licence_expression_is_valid_and_its_terms_are_in_the_package() -> None:
    expression = PROJECT["license"]
    assert canonicalize_license_expression(expression) == expression
    files = {f.relative_to(ROOT).as_posix() for g in PROJECT["license-files"] for f in ROOT.glob(g)}
    assert files == set(recipe()["about"]["license_file"])
    terms = "\n".join((ROOT / file).read_text("utf-8") for file in files)
    for part in ("Apache License", "FreeSurfer\nSoftware License", "McGill University"):
        assert part in terms
    assert "Redistribution and use in source and binary forms" in terms  # BSD 3-Clause


def test_every_python_that_is_named_is_one_that_the_package_takes() -> None:
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert named == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == f">={named[0]}"


@pytest.mark.parametrize("pattern", [r"\]\(([^)\s]+)\)", r"^\[[\w-]+\]: (\S+)$"])
def test_pictures_and_links_of_the_readme_show_wherever_it_is_read(pattern: str) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    matches = re.findall(pattern, text, re.MULTILINE)
    assert len(matches) > 2
    relative = [link for link in matches if urlsplit(link).scheme != "https"]
    assert relative == []
    home = urlsplit(PROJECT["urls"]["Source"]).path
    for link in matches:
        parts = urlsplit(link)
        if not parts.path.startswith(home):
            continue
        kept = re.sub(r"^/(blob/)?main/", "", parts.path.removeprefix(home))
        assert (ROOT / kept).is_file(), link
    names = set(re.findall(r"\]\[([\w-]+)\]", text))
    assert names == set(re.findall(r"^\[([\w-]+)\]: ", text, re.MULTILINE))


def test_the_citation_names_the_same_repository_and_licences() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["repository-code"] == PROJECT["urls"]["Source"]
    assert citation["license"] == PROJECT["license"].split(" AND ")[0]
