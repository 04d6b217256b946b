import subprocess
import sys
import threading

import pytest

from napari_tokensparse import widgets
from napari_tokensparse.widgets.importing import IMPORTING

IN_TWO_THREADS = """
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from napari_tokensparse.training.runconfig import RunConfig
from napari_tokensparse.widgets.controls import find_devices
from napari_tokensparse.widgets.train.run import TrainRequest, training

run = training(TrainRequest(RunConfig(data=Path("none"), output=Path("none"))), Event())
with ThreadPoolExecutor(2) as pool:
    devices, first_event = pool.submit(find_devices), pool.submit(next, run)
print(devices.result(), type(first_event.exception()).__name__)
"""


@pytest.mark.gui
def test_a_run_may_start_while_another_thread_still_imports_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_TWO_THREADS], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    *devices, refusal = done.stdout.split()
    assert "cpu" in "".join(devices)
    assert refusal == "DataError"


@pytest.mark.gui
def test_a_widget_is_not_imported_while_a_thread_imports_the_engine() -> None:
    found: list[type] = []
    opening = threading.Thread(target=lambda: found.append(widgets.BatchWidget))
    with IMPORTING:
        opening.start()
        opening.join(0.2)
        assert found == []
    opening.join(60)
    assert [each.__name__ for each in found] == ["BatchWidget"]
