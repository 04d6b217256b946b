import subprocess
import sys

import pytest

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
