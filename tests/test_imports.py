"""What importing the package brings along, each time in a fresh process."""

import subprocess
import sys

import pytest

import napari_tokensparse

GUI = {"PyQt5", "PyQt6", "PySide6", "magicgui", "napari", "qtpy", "superqt", "vispy"}

# The menus of a real window are built; the plugin is shown to be among them.
OPEN_NAPARI = """
import napari
viewer = napari.Viewer(show=False)
from npe2 import PluginManager
manager = PluginManager.instance()
assert "napari-tokensparse" in manager, list(manager.iter_manifests())
assert [w.display_name for w in manager.iter_widgets() if w.plugin_name == "napari-tokensparse"]
"""


def modules_after(code: str) -> set[str]:
    """Run the code in a new process and name the top-level modules that it imported."""
    report = (
        "\nimport sys\nprint('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + report], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_package_imports_no_torch_and_no_gui() -> None:
    modules = modules_after("import napari_tokensparse")
    assert not modules & (GUI | {"torch", "monai", "numpy"})


@pytest.mark.parametrize("name", ["Volume", "load_model", "read_volume", "segment"])
def test_public_name_is_listed_and_resolves(name: str) -> None:
    modules_after(
        f"import napari_tokensparse as n; assert {name!r} in dir(n); assert callable(n.{name})"
    )


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'segmnet'"):
        _ = napari_tokensparse.segmnet


@pytest.mark.parametrize("package", ["model", "data", "engine"])
def test_lower_layers_import_no_gui(package: str) -> None:
    every_module = (
        "import pkgutil, importlib\n"
        f"import napari_tokensparse.{package} as package\n"
        "for m in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    importlib.import_module(m.name)"
    )
    assert not modules_after(every_module) & GUI


@pytest.mark.gui
def test_opening_napari_with_the_plugin_imports_no_torch() -> None:
    modules = modules_after(OPEN_NAPARI)
    assert "napari" in modules
    assert not modules & {"torch", "monai"}
