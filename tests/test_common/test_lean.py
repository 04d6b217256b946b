"""MONAI is imported without what segmenting does not take of it, and as ever where that fails."""

import gc
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from napari_tokensparse.common import lean
from napari_tokensparse.common.lean import import_monai


@pytest.fixture
def other_monai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put another package in MONAI's place, which walks over itself and looks for one more."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "monai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(lean, "_OPTIONAL", ("much_more",))
    monkeypatch.setattr(lean, "_NEEDED", ("monai", "monai.part"))
    (tmp_path / "monai").mkdir()
    (tmp_path / "monai/part.py").touch()
    (tmp_path / "much_more.py").touch()
    yield tmp_path / "monai/__init__.py"
    for name in ("monai", "monai.part", "much_more"):
        sys.modules.pop(name, None)
    gc.unfreeze()


def test_what_is_optional_seems_to_be_missing_and_no_module_is_walked_over(
    other_monai: Path,
) -> None:
    walk = pkgutil.walk_packages
    other_monai.write_text(
        "import pkgutil\n"
        "walked = list(pkgutil.walk_packages(__path__))\n"
        "try:\n    import much_more\nexcept ImportError:\n    much_more = None\n"
    )
    import_monai()
    module = sys.modules["monai"]
    assert (module.walked, module.much_more) == ([], None)
    assert "monai.part" in sys.modules
    assert "much_more" not in sys.modules
    assert pkgutil.walk_packages is walk
    import much_more  # type: ignore[import-not-found]  # noqa: F401  # afterwards it is there


def test_a_monai_that_needs_what_is_hidden_is_imported_as_ever(other_monai: Path) -> None:
    other_monai.write_text("import much_more\n")
    import_monai()
    assert {"monai", "much_more"} <= sys.modules.keys()


def test_a_monai_that_is_there_already_is_left_alone(
    other_monai: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "monai", pkgutil)
    import_monai()
    assert sys.modules["monai"] is pkgutil
    assert "monai.part" not in sys.modules


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_looked_for_meanwhile_and_never_among_what_came(
    other_monai: Path, monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    gc.unfreeze()
    other_monai.write_text("import gc\nlooked_for = gc.isenabled()\n")
    if not enabled:
        gc.disable()
    try:
        import_monai()
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
    assert sys.modules["monai"].looked_for is False
    assert gc.get_freeze_count() > 1000


def test_a_process_ends_without_a_last_look_for_garbage() -> None:
    code = (
        "import atexit, gc\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000))\n"
        "from napari_tokensparse.common.lean import end_quickly\n"
        "end_quickly()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
