"""Draw which rooms one volume goes through at one keep ratio, for ``docs/walk.md``.

A profiler counts the functions that a real run enters, module by module: the sample brain is read,
the bundled model loaded, the volume segmented, labels written. The picture shows the rooms from the
top of the house to its foundation, and in each the modules in the order in which they are entered.
Into the page goes how many a click on Segment enters: the model loaded, memory checked, a run::

    python tools/walk_figure.py
"""

from __future__ import annotations

import re
import sys
import tempfile
import threading
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import napari_tokensparse
from napari_tokensparse import load_model, read_volume, segment
from napari_tokensparse.segmenting.estimating import estimate
from napari_tokensparse.volumes.samples import sample_path
from napari_tokensparse.volumes.volume import write_nifti

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs/images/walk.png"
PAGE = ROOT / "docs/walk.md"
KEEP_RATIO = 0.5
_PACKAGE = Path(napari_tokensparse.__file__).parent
_COLUMNS, _ROW_HEIGHT = 3, 0.34
_ACCENT = "#0072b2"


@contextmanager
def entered() -> Iterator[list[str]]:
    """Collect the modules of the package whose functions are called, in the order of entry."""
    modules: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name != "<module>":
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(_PACKAGE):
                name = path.relative_to(_PACKAGE).with_suffix("").as_posix()
                modules[name.removesuffix("/__init__")] = None

    names: list[str] = []
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield names
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        names += modules


def rooms() -> list[str]:
    """Return the rooms from the top of the house down, as the contract of imports has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = contracts["contracts"][0]["layers"]
    return [room.strip() for layer in layers for room in layer.split("|")]


def walk() -> list[str]:
    """Segment the sample brain as a script would; return the modules that were entered."""
    with tempfile.TemporaryDirectory() as folder, entered() as modules:
        volume = read_volume(sample_path())
        result = segment(volume, load_model("brain-structures"), KEEP_RATIO)
        write_nifti(Path(folder) / "labels.nii.gz", result.labels, volume)
    return modules


def click() -> list[str]:
    """Do what a click on Segment does with the sample; return the modules that were entered."""
    volume = read_volume(sample_path())
    with entered() as modules:
        model = load_model("brain-structures")
        assert estimate.room(volume, model).is_enough
        segment(volume, model, KEEP_RATIO)
    return modules


def write_count(modules: int, page: Path = PAGE) -> None:
    """Put a number of modules into the page."""
    text, count = re.subn(r"(?<=enters )\d+(?= modules)", str(modules), page.read_text("utf-8"))
    if count != 1:
        raise ValueError(f"{page}: must say once how many modules a click enters")
    page.write_text(text, "utf-8")


def draw(names: list[str], path: Path) -> None:
    """Draw the rooms that were entered as boxes, with their modules."""
    by_room = {room: [m for m in names if m.split("/")[0] == room] for room in rooms()}
    shown = {room: modules for room, modules in by_room.items() if modules}
    heights = [0.2 - (-len(modules) // _COLUMNS) for modules in shown.values()]
    figure = Figure(figsize=(8.0, _ROW_HEIGHT * (sum(heights) + 0.5 * len(heights) + 1)), dpi=120)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, 10)
    total = sum(heights) + 0.5 * len(heights)
    axes.set_ylim(-total, 0.5)
    top = 0.0
    for (room, modules), height in zip(shown.items(), heights, strict=True):
        box = FancyBboxPatch(
            (0.2, -top - height),
            9.6,
            height,
            boxstyle="round,pad=0,rounding_size=0.15",
            facecolor="#f4f7fa",
            edgecolor=_ACCENT,
        )
        axes.add_patch(box)
        axes.text(0.4, -top - 0.55, room, weight="bold", va="center", color=_ACCENT)
        for n, module in enumerate(modules):
            row, column = divmod(n, _COLUMNS)
            name = module.removeprefix(f"{room}/").replace("/", " / ")
            place = (2.4 + column * 2.5, -top - 0.55 - row)
            axes.text(*place, f"{names.index(module) + 1}  {name}", va="center", fontsize=9)
        top += height + 0.5
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Trace a run and draw it; trace a click and count."""
    entered_by_click = len(click())
    write_count(entered_by_click)
    modules = walk()
    draw(modules, PICTURE)
    print(f"A click enters {entered_by_click} modules: {PAGE}")
    print(f"{len(modules)} modules in {len({m.split('/')[0] for m in modules})} rooms: {PICTURE}")


if __name__ == "__main__":
    main()
