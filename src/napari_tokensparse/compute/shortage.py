"""Memory that runs out: how it shows, what there is, and what is given back before another try."""

from __future__ import annotations

import errno
import gc
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import torch

from napari_tokensparse.compute.memory import give_back

if TYPE_CHECKING:
    from collections.abc import Callable

_SAID = (
    *("can't allocate memory", "not enough memory", "out of memory"),
    *("bad_alloc", "cannot allocate memory", "unable to allocate"),
)
# "you tried to allocate 1024 bytes" (torch, CPU), "Tried to allocate 2.00 GiB" (torch, CUDA),
# "Unable to allocate 1.50 GiB for an array" (NumPy)
_ASKED = re.compile(r"allocate ([\d.]+) ?([KMGTPE]?i?B|bytes)", re.IGNORECASE)
_UNITS = {"b": 1e-6, "bytes": 1e-6} | {
    f"{letter}{ending}": base**power / 1e6
    for power, letter in enumerate("kmgtpe", start=1)
    for ending, base in (("ib", 1024), ("b", 1000))
}


@dataclass(frozen=True)
class Shortage:
    """Memory ran out.

    Attributes
    ----------
    asked_mb
        What could not be had, in 10⁶ bytes; None where it is not said.
    free_mb
        What the device had left then, after what could be given back was.
    """

    asked_mb: float | None
    free_mb: float

    def __str__(self) -> str:
        """Tell the figures in a few words."""
        asked = "" if self.asked_mb is None else f"{self.asked_mb:,.0f} MB more were needed, "
        return f"{asked}{self.free_mb:,.0f} MB are free"


def is_shortage(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that memory ran out.

    NumPy says so, torch on a GPU and on a CPU, and the system; MONAI's transforms put an error of
    their own before it.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if isinstance(error, RuntimeError) and any(s in str(error).lower() for s in _SAID):
        return True
    return error.__cause__ is not None and is_shortage(error.__cause__)


def shortage_line(error: BaseException) -> str | None:
    """Say in one line that memory ran out and what to do; None where it was something else."""
    if not is_shortage(error):
        return None
    lacking = Shortage(_asked_mb(str(error)), free_mb(torch.device("cpu")))
    where = "of the GPU ran out" if isinstance(error, torch.OutOfMemoryError) else "ran out"
    free = "" if isinstance(error, torch.OutOfMemoryError) else f" ({lacking})"
    return f"memory {where}{free}; close other programs, or crop or split the scan"


def shortage_of(work: Callable[[], object], device: torch.device) -> Shortage | None:
    """Do some work; return what was lacking if memory ran out, else None.

    When it returns, the failed work holds nothing any more, and what torch keeps for later is given
    back. Other errors pass.
    """
    try:
        work()
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        asked = _asked_mb(str(error))
    else:
        return None
    free_memory(device)
    return Shortage(asked, free_mb(device))


def free_memory(device: torch.device) -> None:
    """Give back what nobody uses, to the system or to the GPU."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    give_back()


def free_mb(device: torch.device) -> float:
    """Return the free memory of a device in 10⁶ bytes; on a CPU, what the process may take."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0]) / 1e6
    return min(float(psutil.virtual_memory().available), _left_to_the_process()) / 1e6


def _left_to_the_process() -> float:
    """Return how many bytes ``ulimit -v`` leaves."""
    try:
        import resource
    except ImportError:  # Windows
        return float("inf")
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return float("inf")
    return float(max(0, limit - psutil.Process().memory_info().vms))


def _asked_mb(said: str) -> float | None:
    match = _ASKED.search(said)
    return float(match[1]) * _UNITS[match[2].lower()] if match else None
