"""The script that brings a display: it passes through, and never leaves a test out silently."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "with_display.py"
EXIT_7 = [sys.executable, "-c", "raise SystemExit(7)"]


def run(**environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *EXIT_7],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_with_a_display_the_command_runs_and_its_exit_status_is_passed_on() -> None:
    assert run(DISPLAY=":7").returncode == 7


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_without_xvfb_and_apt_it_stops_and_prints_the_line_that_installs_it() -> None:
    done = run(PATH="/nonexistent")
    assert done.returncode == 1
    assert "missing xvfb-run, Xvfb, xauth" in done.stderr
    assert "apt-get update && apt-get install -y" in done.stderr
