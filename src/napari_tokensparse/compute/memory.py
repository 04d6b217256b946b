"""How much memory a piece of work takes at its peak."""

from __future__ import annotations

import ctypes
import sys
from threading import Event, Thread, current_thread
from typing import TYPE_CHECKING

import psutil
import torch

if TYPE_CHECKING:
    from types import TracebackType

_SAMPLE_EVERY_S = 0.005
_BYTES_PER_MB = 1e6


class PeakMemory:
    """Measures while it is entered; the figure is ``mb`` afterwards, in 10⁶ bytes.

    On CUDA: the most that torch had allocated on the device, weights included. Elsewhere: by how
    much the process's resident memory grew, looked at every 5 ms, weights not included. What
    another thread allocates meanwhile counts too.

    Parameters
    ----------
    device
        Where the work runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self._ended = Event()
        self._sampling = Thread(target=self._sample, daemon=True)
        self.mb = 0.0

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            give_back()
            self._before = self._peak = self._resident()
            self._sampling.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._device.type == "cuda":
            self.mb = torch.cuda.max_memory_allocated(self._device) / _BYTES_PER_MB
            return
        self._ended.set()
        if current_thread() is not self._sampling:  # where a forgotten generator may be collected
            self._sampling.join()
        self.mb = (max(self._peak, self._resident()) - self._before) / _BYTES_PER_MB

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_EVERY_S):
            self._peak = max(self._peak, self._resident())

    def _resident(self) -> int:
        return int(self._process.memory_info().rss)


def memory_measured(device: torch.device) -> str:
    """Say in words what `PeakMemory` measures on a device."""
    if device.type == "cuda":
        return "peak allocated by torch on the GPU"
    return "peak growth of the process's resident memory"


def give_back() -> None:
    """Let glibc return freed memory, or what an earlier run left would hide the growth of this."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
