"""Measure how long the plugin takes to be there, in fresh processes: its help, its Segment widget.

python tools/with_display.py python tools/measure_start.py --json start.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

HELP = [sys.executable, "-m", "napari_tokensparse.cli", "--help"]
# napari itself is there already, as it is for who opens the widget.
OPEN_SEGMENT = """
import time, napari
from napari.qt.threading import WorkerBase
from qtpy.QtWidgets import QApplication
viewer = napari.Viewer()
QApplication.processEvents()
began = time.perf_counter()
viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
QApplication.processEvents()
print(time.perf_counter() - began)
WorkerBase.await_workers()  # one looks for devices
viewer.close()
"""


def seconds_of_help() -> float:
    """Time ``tokensparse --help``, from the start of its process to the end."""
    began = time.perf_counter()
    subprocess.run(HELP, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def seconds_of_widget() -> float:
    """Time the Segment widget in a window of napari's, from the click until it is drawn."""
    command = [sys.executable, "-c", OPEN_SEGMENT]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Take turns, print the medians, and write them if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    works = {
        "tokensparse --help": seconds_of_help,
        "Segment widget in an open viewer": seconds_of_widget,
    }
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(given.rounds + 1):
        for name, work in works.items():
            seconds = work()
            if number:  # the first round warms up the system's cache of files
                taken[name].append(seconds)
    medians = {name: median(seconds) for name, seconds in taken.items()}
    for name, seconds in medians.items():
        print(f"{name:34} {seconds:.2f} s")
    if given.json:
        given.json.write_text(json.dumps(medians, indent=1))


if __name__ == "__main__":
    main()
