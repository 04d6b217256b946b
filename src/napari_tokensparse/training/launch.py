"""A training run in processes of its own, which report by a JSON-lines file."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from napari_tokensparse.training.events import Finished, from_json
from napari_tokensparse.training.folder import EVENTS_FILE, RUN_FILE
from napari_tokensparse.training.run import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_tokensparse.training.events import Event
    from napari_tokensparse.training.runconfig import RunConfig

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 60.0
# Beside the run's own files, in a folder that is gone with the processes.
_STOP, _ERRORS = "stop", "errors.txt"


def launched(
    config: RunConfig, *, resume: bool = False, stop: Callable[[], bool] = lambda: False
) -> Iterator[Event]:
    """Train in ``config.processes`` processes of this machine, under torchrun.

    Parameters
    ----------
    config, resume, stop
        As for `napari_tokensparse.training.run.running`.

    Yields
    ------
    Event
        What the first process tells. Closing the generator stops the run with a checkpoint.

    Raises
    ------
    RunError
        The processes failed; the line is theirs.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config.write(folder / RUN_FILE)
        (folder / EVENTS_FILE).touch()
        with (
            _process(config.processes, folder, resume) as process,
            (folder / EVENTS_FILE).open(encoding="utf-8") as lines,
        ):
            yield from _events(process, lines, folder, stop)


def command(processes: int, folder: Path, resume: bool) -> list[str]:
    """Write the command line that trains from ``run.yaml`` in a folder and reports there."""
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(processes), "-m", "napari_tokensparse.cli", "train"),
        *("--config", str(folder / RUN_FILE), "--events", str(folder / EVENTS_FILE)),
        *("--stop-file", str(folder / _STOP)),
        *(["--resume"] if resume else []),
    ]


@contextmanager
def _process(processes: int, folder: Path, resume: bool) -> Iterator[subprocess.Popen[bytes]]:
    """Start the processes; on the way out ask them to stop, and in the end make them."""
    with (folder / _ERRORS).open("wb") as errors:
        process = subprocess.Popen(
            command(processes, folder, resume),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # Ctrl-C in a terminal is for the parent, which asks to stop
        )
        try:
            yield process
        finally:
            (folder / _STOP).touch()
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.terminate()
                process.wait()


def _events(
    process: subprocess.Popen[bytes], lines: TextIO, folder: Path, stop: Callable[[], bool]
) -> Iterator[Event]:
    """Yield events as their lines appear, until the process ends."""
    rest, event = "", None
    while True:
        ended = process.poll() is not None
        if stop():
            (folder / _STOP).touch()
        *whole, rest = (rest + lines.read()).split("\n")
        for line in whole:
            event = from_json(line)
            yield event
        if ended:
            break
        time.sleep(_POLL_SECONDS)
    if not isinstance(event, Finished):
        raise RunError(_reason(folder / _ERRORS, process.returncode))


def _reason(errors: Path, code: int) -> str:
    """Find the plain line of the command in what the processes wrote, else their last lines."""
    lines = errors.read_text("utf-8", "replace").splitlines()
    said = [line for line in lines if line.startswith("tokensparse: ")]
    if said:
        return said[0].removeprefix("tokensparse: ")
    return f"the training processes ended with code {code}: {' '.join(deque(lines, 3))}"
