"""Where a network can run."""

from __future__ import annotations

import torch

from napari_tokensparse.common.untrusted import PlainError


class DeviceError(PlainError):
    """A device or a number of threads that this machine does not have; one plain line."""


def choose_device(name: str = "auto") -> str:
    """Turn ``auto`` into the fastest device there is, and check any other name.

    Raises
    ------
    DeviceError
        There is no such device here; the line lists those there are.
    """
    devices = available_devices()
    if name == "auto":
        return devices[0]
    if name not in devices and f"{name}:0" not in devices:
        raise DeviceError(f"device {name!r}: this machine has {', '.join(devices)}")
    return name


_FREE = torch.get_num_threads()  # what torch takes by itself


def use_threads(number: int) -> None:
    """Let torch compute with so many threads, in this thread and in new ones; 0 leaves it free.

    Raises
    ------
    DeviceError
        The number is negative.
    """
    if number < 0:
        raise DeviceError(f"threads {number}: must be 1 or more, or 0 to leave it to torch")
    if torch.get_num_threads() != (number or _FREE):
        torch.set_num_threads(number or _FREE)


def available_devices() -> list[str]:
    """Name the devices of this machine, the fastest first."""
    cuda = [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *mps, "cpu"]
