import subprocess
import sys
from pathlib import Path

import pytest

from napari_tokensparse.common.extras import ExtraError, lacking, require

# A process in which a package is not there, as where its extra was not installed.
WITHOUT = """
import sys
sys.modules[{package!r}] = None
import importlib.util as util
found = util.find_spec
util.find_spec = lambda name, package=None: None if name == {package!r} else found(name, package)
from napari_tokensparse.cli import main
sys.argv = ["tokensparse", *{arguments!r}]
main()
"""


def without(package: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    code = WITHOUT.format(package=package, arguments=arguments)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_what_is_installed_is_not_asked_for() -> None:
    require("reading", "numpy", "none")
    with pytest.raises(ExtraError, match=r"^flying needs wings: pip install 'napari-to.*\[air\]'$"):
        require("flying", "wings", "air", "no_such_module")
    assert lacking("a", "b", "c") == "a needs b: pip install 'napari-tokensparse[c]'"


def test_training_says_which_extra_it_needs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    done = without("accelerate", "train", "--data", str(data), "-o", str(tmp_path / "m"))
    assert done.returncode == 1
    assert done.stderr == (
        "tokensparse: training needs accelerate: pip install 'napari-tokensparse[train]'\n"
    )
