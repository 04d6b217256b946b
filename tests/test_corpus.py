"""Broken and odd inputs: a plain line or a correct result, never anything between."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

SHARE = 24
SEEDS = range(5)


def load_corpus() -> ModuleType:
    spec = importlib.util.spec_from_file_location("corpus", Path(__file__).with_name("corpus.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["corpus"] = module
    spec.loader.exec_module(module)
    return module


CORPUS = load_corpus()
ALL = CORPUS.cases()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(CORPUS.write_model(tmp_path_factory.mktemp("model")))


def share() -> list[Any]:
    """Draw a case of every family, then any others."""
    order = np.random.default_rng(1).permutation(len(ALL))
    shuffled = [ALL[n] for n in order]
    firsts = {case.family: case for case in reversed(shuffled)}
    chosen = list(firsts.values())
    return [*chosen, *(case for case in shuffled if case not in chosen)][:SHARE]


def test_the_corpus_has_150_cases_or_more_of_many_families_and_every_name_once() -> None:
    assert len(ALL) >= 150
    assert len({(case.family, case.name) for case in ALL}) == len(ALL)
    assert len({case.family for case in ALL}) >= 10
    again, other = CORPUS.cases(), CORPUS.cases(1)
    assert [case.name for case in again] == [case.name for case in ALL]
    assert {case.name for case in other} != {case.name for case in ALL}


@pytest.mark.parametrize("case", share(), ids=lambda case: f"{case.family}: {case.name!a}")
def test_an_input_is_refused_in_a_line_or_segmented_on_its_own_grid(
    case: Any, model: Path, tmp_path: Path
) -> None:
    assert CORPUS.try_case(case, tmp_path / "case", model) == []


@pytest.mark.deep
@pytest.mark.parametrize("seed", SEEDS)
def test_every_input_is_refused_in_a_line_or_segmented_on_its_own_grid(
    seed: int, model: Path, tmp_path: Path, figures: Callable[[str, dict[str, Any]], None]
) -> None:
    cases = CORPUS.cases(seed)
    wrong = {
        f"{case.family}: {case.name}": fault
        for number, case in enumerate(cases)
        if (fault := CORPUS.try_case(case, tmp_path / str(number), model, seed))
    }
    assert not wrong
    figures(f"corpus-{seed}", {"cases": dict(Counter(case.family for case in cases))})


def in_a_process(case: Any, folder: Path, model: Path) -> tuple[int, list[str], list[str]]:
    """Run the command as a person would: its exit code, lines of stderr, files written."""
    (folder / "in").mkdir(parents=True)
    (folder / "out").mkdir()
    source = case.write(folder / "in", np.random.default_rng(0))
    command = [sys.executable, "-m", "napari_tokensparse.cli", "segment", "-o", "out/labels.nii"]
    options = [
        "--model",
        str(model),
        "--device",
        "cpu",
        "--backend",
        "plain",
        "--no-receipt",
        "--",
        str(source),
    ]
    ran = subprocess.run([*command, *options], cwd=folder, capture_output=True, check=False)
    lines = ran.stderr.decode("utf-8", "replace").splitlines()
    return ran.returncode, lines, os.listdir(folder / "out")


def named(name: str) -> Any:
    return next(case for case in ALL if name in case.name)


def test_a_process_says_its_one_line_and_nothing_else(model: Path, tmp_path: Path) -> None:
    code, lines, left = in_a_process(named("10^13 voxels"), tmp_path / "a", model)
    assert (code in (1, 2), len(lines), left) == (True, 1, [])
    assert lines[0].startswith("tokensparse: scan.nii: is damaged or cut short (its header claims")


@pytest.mark.deep
@pytest.mark.parametrize(
    "name",
    ["not UTF-8, cut", "'\\x1b[2Jz", "type 999", "a pipe", "no permission", "a bomb", "all NaN"],
)
def test_a_process_refuses_in_one_line(name: str, model: Path, tmp_path: Path) -> None:
    case = named(name)
    if name == "no permission" and os.geteuid() == 0:
        return  # root may read it; the corpus itself asks as nobody
    code, lines, left = in_a_process(case, tmp_path / "a", model)
    assert (code in (1, 2), len(lines), left) == (True, 1, [])
    assert lines[0].startswith("tokensparse: ")


@pytest.mark.deep
def test_what_a_header_lacks_is_told_in_a_process_and_the_scan_is_segmented(
    model: Path, tmp_path: Path
) -> None:
    code, lines, left = in_a_process(named("codes 99"), tmp_path / "a", model)
    assert code == 0, lines
    assert sorted(left) == ["labels.label.txt", "labels.nii", "labels_dseg.tsv"]
    assert not any("not valid" in line for line in lines)  # it is told as a note, on stdout
