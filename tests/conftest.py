"""What every test shares."""

from __future__ import annotations

import gc
import json
import lzma
import os
import runpy
import shutil
import subprocess
import sys
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_tokensparse.model.scd import SCD

# No test, nor a process that it starts, reads or writes the settings of the person's own napari.
os.environ["NAPARI_CONFIG"] = ""
# oneDNN's own switch: without its instructions for it, bfloat16 is chosen on no processor, so that
# tests, and the processes that they start, compute the same on all of them.
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE"

REFERENCE = Path(__file__).parent / "data/reference"
TUBES = runpy.run_path(str(Path(__file__).with_name("tubes.py")))
METADATA = {"version": "1", "task": "test", "description": "", "authors": "", "copyright": ""}


def pytest_configure() -> None:
    """Look for circles of objects less often: a run of these imports makes a million objects."""
    gc.set_threshold(20_000, 20, 20)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests with a window in one process, where others run beside them (pytest-xdist)."""
    for item in items:
        if item.get_closest_marker("gui"):
            item.add_marker(pytest.mark.xdist_group("windows"))


@pytest.fixture(scope="module", autouse=True)
def old_objects_rest() -> None:
    """Leave what modules before imported out of collections: napari's fixture makes two a test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leave the person's cache alone: converted networks go to a folder of this run."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of all processes: what one converts, the others find
    os.environ["TOKENSPARSE_CACHE"] = str(folder / "cache")


@pytest.fixture(scope="session")
def run_python(
    own_cache: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run Python in a process of its own, without a display: ``run_python("-m", …, cwd=folder)``.

    What segments is imported already (``warm.py``); tests of a start from nothing start it so.
    """
    folder = tmp_path_factory.mktemp("streams")
    line = [sys.executable, str(Path(__file__).with_name("warm.py"))]
    with subprocess.Popen(line, stdin=-1, stdout=-1, text=True) as server:
        assert server.stdin is not None and server.stdout is not None

        def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
            hidden = ("DISPLAY", "WAYLAND_DISPLAY")
            out, err = folder / "out", folder / "err"
            out.write_bytes(b"")
            err.write_bytes(b"")
            job = {
                "arguments": [str(each) for each in arguments],
                "cwd": str(cwd),
                "env": {k: v for k, v in os.environ.items() if k not in hidden},
                "stdout": str(out),
                "stderr": str(err),
            }
            server.stdin.write(json.dumps(job) + "\n")
            server.stdin.flush()
            status = int(server.stdout.readline())
            return subprocess.CompletedProcess(
                job["arguments"], status, out.read_text("utf-8"), err.read_text("utf-8")
            )

        yield run


@pytest.fixture(scope="session")
def tokensparse(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line: ``tokensparse("segment", …, cwd=folder)``."""
    return partial(run_python, "-m", "napari_tokensparse.cli")


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Start every test with the same weights, and leave the global generator as it was."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def make_model() -> Callable[..., SCD]:
    """Make a nano network whose random weights give every class and every stage its share."""
    return _network_maker("make_model")


@pytest.fixture(scope="session")
def make_cropping() -> Callable[..., SCD]:
    """Make the same of the gated pyramid, whose windows of 32 x 24 x 16 voxels are cropped."""
    return _network_maker("make_cropping")


def _network_maker(name: str) -> Callable[..., SCD]:
    make: Callable[..., SCD] = runpy.run_path(str(Path(__file__).with_name("networks.py")))[name]
    return make


@pytest.fixture
def figures() -> Callable[[str, dict[str, Any]], None]:
    """Keep figures of a deep test for docs/reliability.md, where ``TOKENSPARSE_FIGURES`` says."""

    def keep(name: str, said: dict[str, Any]) -> None:
        folder = os.environ.get("TOKENSPARSE_FIGURES")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            text = json.dumps(said, indent=1, ensure_ascii=False) + "\n"
            Path(folder, f"{name}.json").write_text(text, encoding="utf-8")

    return keep


def nano_writer(folder: Path) -> Callable[..., Path]:
    """Return what writes model folders of random weights into a folder."""
    import torch

    from napari_tokensparse.model.bundle import write_bundle
    from napari_tokensparse.model.info import LabelClass, ModelInfo
    from napari_tokensparse.model.presets import preset
    from napari_tokensparse.model.scd import SCD

    def write(name: str = "nano", channels: int | tuple[str, ...] = 1, **changes: Any) -> Path:
        if isinstance(channels, int):
            channels = tuple(f"channel {n}" for n in range(channels))
        said = {
            "channels": channels,
            "classes": (LabelClass(value=7, name="seven", color=(255, 0, 0)),),
            "preprocessing": ({"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},),
        }
        info = ModelInfo(name=name, **{**said, **changes})
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = SCD(preset("nano", in_channels=len(channels)), info).eval()
        write_bundle(folder / name, model, METADATA, "# nano")
        return folder / name

    return write


@pytest.fixture
def write_nano(tmp_path: Path) -> Callable[..., Path]:
    """Write a model folder of random weights: one class, windows of 32³ voxels of the input."""
    return nano_writer(tmp_path)


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what `write_nano` writes, once for all tests that leave it as it is."""
    return nano_writer(tmp_path_factory.mktemp("model"))()


@pytest.fixture
def write_msd(tmp_path: Path) -> Callable[..., Path]:
    """Write the tubes of ``tubes.py`` in the Decathlon's form: ``write_msd("name", cases=8)``."""
    return lambda name, **options: TUBES["write_msd"](tmp_path / name, **options)


@pytest.fixture
def write_list(tmp_path: Path) -> Callable[..., Path]:
    """Write the tubes with a list of files alone, as for BTCV; the path is the list's."""
    return lambda name, **options: TUBES["write_list"](tmp_path / name, **options)


@pytest.fixture
def write_folders(tmp_path: Path) -> Callable[..., Path]:
    """Write the tubes as two folders of images and labels."""
    return lambda name, **options: TUBES["write_folders"](tmp_path / name, **options)


@pytest.fixture(scope="session")
def dicoms() -> dict[str, Any]:
    """Return what ``dicoms.py`` writes DICOM series with."""
    return runpy.run_path(str(Path(__file__).with_name("dicoms.py")))


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Unpack a recording of the authors' code: a folder as their code leaves it, and ``io.npz``."""

    @cache
    def unpacked(name: str) -> Path:
        folder = tmp_path_factory.mktemp("reference") / name
        shutil.copytree(REFERENCE / name, folder)
        packed = folder / "best_model.pth.tar.xz"
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        return folder

    return unpacked
