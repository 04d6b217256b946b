"""What a benchmark ran on, without anything that tells whose machine it is."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import monai
import psutil
import torch

from napari_tokensparse import __version__

_CPUINFO = Path("/proc/cpuinfo")


def describe_machine() -> dict[str, str | int | float | None]:
    """Describe processor, threads and versions; the host's name is left out."""
    return {
        "cpu": _cpu_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__,
        "tokensparse": __version__,
    }


def _cpu_name() -> str:
    if _CPUINFO.is_file():  # Linux, where platform knows only the architecture
        match = re.search(r"^model name\s*:\s*(.+)$", _CPUINFO.read_text(), re.MULTILINE)
        if match:
            return match[1]
    return platform.processor() or platform.machine()
