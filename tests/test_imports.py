"""What importing the package brings along, each time in a fresh process."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import napari_tokensparse

GUI = {"PyQt5", "PyQt6", "PySide6", "magicgui", "napari", "pyqtgraph", "qtpy", "superqt", "vispy"}

RESOLVE_THE_PUBLIC_NAMES = """
import napari_tokensparse as package
names = {"Volume", "load_model", "read_volume", "segment"}
assert names <= set(dir(package)), dir(package)
assert names | {"__version__"} == set(package.__all__)
assert all(callable(getattr(package, name)) for name in names)
"""

IMPORT_EVERYTHING_BUT_THE_WIDGETS = """
import importlib, pkgutil
import napari_tokensparse as package
for module in pkgutil.walk_packages(package.__path__, "napari_tokensparse."):
    if not module.name.startswith("napari_tokensparse.widgets"):
        importlib.import_module(module.name)
"""

# The menus of a real window are built; the plugin is shown to be among them. Then its widget is
# opened: looking for devices is put off, for that needs torch and is done in a thread meanwhile.
OPEN_SEGMENT = """
import threading, napari
viewer = napari.Viewer(show=False)
from npe2 import PluginManager
manager = PluginManager.instance()
assert "napari-tokensparse" in manager, list(manager.iter_manifests())
assert [w.display_name for w in manager.iter_widgets() if w.plugin_name == "napari-tokensparse"]
from napari_tokensparse.widgets import controls
asked = []
def find_devices():
    asked.append(threading.current_thread())
    return ["cpu"]
controls.find_devices = find_devices
_, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
assert widget.model.combo.findText("brain-structures") >= 0
assert "Tokens of a full window" in widget.keep_ratio.meaning.text()
from napari.qt.threading import WorkerBase
WorkerBase.await_workers()
assert asked and asked[0] is not threading.main_thread()
viewer.close()
"""

SEGMENT = """
from napari_tokensparse.cli import app
app(["segment", "scan.nii", "-o", "labels.nii"], standalone_mode=False)
"""

HELP = """
from napari_tokensparse.cli import app
app(ARGUMENTS, standalone_mode=False)
"""

IMPORT_SEGMENT_THEN_TRAIN = """
import sys
from napari_tokensparse.widgets import SegmentWidget
assert "magicgui" in sys.modules
assert not {"pyqtgraph", "scipy.ndimage", "torch", "monai"} & sys.modules.keys()
from napari_tokensparse.widgets import TrainWidget
"""


def modules_after(code: str, folder: Path | None = None) -> set[str]:
    """Run the code in a new process and name the top-level modules that it imported."""
    report = (
        "\nimport sys\nprint('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + report],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_package_imports_no_torch_and_no_gui() -> None:
    modules = modules_after("import napari_tokensparse")
    assert not modules & (GUI | {"torch", "monai", "numpy"})


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'segmnet'"):
        _ = napari_tokensparse.segmnet


def test_public_names_resolve_and_all_but_the_widgets_imports_no_gui() -> None:
    modules = modules_after(RESOLVE_THE_PUBLIC_NAMES + IMPORT_EVERYTHING_BUT_THE_WIDGETS)
    assert "torch" in modules
    assert not modules & GUI


@pytest.mark.parametrize("command", [[], ["segment"], ["bench"], ["train"], ["models"]])
def test_help_imports_the_command_line_and_nothing_that_computes(command: list[str]) -> None:
    modules = modules_after(HELP.replace("ARGUMENTS", repr([*command, "--help"])))
    assert "typer" in modules
    slow = {"torch", "monai", "numpy", "scipy", "nibabel", "skimage", "matplotlib"}
    assert not modules & (GUI | slow)
    assert command or "pydantic" not in modules  # typer takes it for the options of a command


@pytest.mark.gui
def test_napari_and_the_segment_widget_open_without_torch() -> None:
    modules = modules_after(OPEN_SEGMENT)
    assert "napari" in modules
    assert not modules & {"torch", "monai", "nibabel", "pyqtgraph"}


def test_only_the_train_widget_imports_the_plots_and_neither_widget_imports_torch() -> None:
    modules = modules_after(IMPORT_SEGMENT_THEN_TRAIN)
    assert "pyqtgraph" in modules
    assert not modules & {"torch", "monai"}


def test_the_command_imports_nothing_that_its_run_does_without(tmp_path: Path) -> None:
    """Labels are those of a process with all of MONAI."""
    scan = np.zeros((40, 48, 40), np.int16)
    scan[8:-8, 8:-8, 8:-8] = np.random.default_rng(0).integers(50, 200, (24, 32, 24))
    nib.Nifti1Image(scan, np.diag([3.0, 3.0, 3.0, 1.0])).to_filename(tmp_path / "scan.nii")
    modules = modules_after(SEGMENT, tmp_path)
    assert {"torch", "monai", "nibabel"} <= modules
    without = {"PIL", "jsonschema", "matplotlib", "nrrd", "pandas", "pydicom", "requests"}
    assert not modules & (GUI | without | {"skimage", "sympy", "tifffile", "zarr"})
    labels = np.asarray(nib.load(tmp_path / "labels.nii").dataobj)
    expected = napari_tokensparse.segment(tmp_path / "scan.nii").labels
    assert len(np.unique(expected)) > 5
    assert np.array_equal(labels, expected)
