"""Windows from worker processes, and what is said where the memory between them is too small."""

from __future__ import annotations

import multiprocessing
from itertools import islice
from typing import Any

import pytest
import torch

from napari_tokensparse.training.loading import SharedMemoryError, _Volumes, loading


class Numbers:
    """Gives windows that hold their index, or fails as it is told."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def windows(self, seed: int, index: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        if self._error is not None and index >= 4:
            raise self._error
        return [(torch.full((1, 2, 2, 2), float(index)), torch.full((2, 2, 2), seed))]


@pytest.mark.parametrize("workers", [0, 2])
def test_volumes_come_in_order_from_any_number_of_workers(workers: int) -> None:
    volumes = list(islice(loading(Numbers(), 7, workers, 3, 2), 4))
    assert [index for index, _ in volumes] == [3, 5, 7, 9]
    assert [float(windows[0][0].mean()) for _, windows in volumes] == [3.0, 5.0, 7.0, 9.0]
    assert all(int(windows[0][1].max()) == 7 for _, windows in volumes)


def test_a_worker_shares_windows_itself_so_that_its_error_is_heard() -> None:
    volumes: Any = _Volumes(Numbers(), 0, shared=True)
    assert all(tensor.is_shared() for pair in volumes[0][1] for tensor in pair)
    alone: Any = _Volumes(Numbers(), 0, shared=False)
    assert not alone[0][1][0][0].is_shared()


@pytest.mark.parametrize(
    "said",
    [
        "unable to allocate shared memory(shm) for file </torch_5461_1>: No space left on device",
        "DataLoader worker (pid 3) is killed by signal: Bus error. It is possible that dataloader's"
        " workers are out of shared memory. Please try to raise your shared memory limit.",
        "unable to mmap 4096 bytes from file </torch_1_2_3>: Cannot allocate memory (12)",
    ],
)
def test_a_small_shared_memory_ends_in_one_line_that_names_both_ways_out(said: str) -> None:
    with pytest.raises(SharedMemoryError) as caught:
        list(loading(Numbers(RuntimeError(said)), 0, 1, 0, 1))
    assert str(caught.value) == (
        "workers 1: the memory that they share with this process (/dev/shm) is too small; give a "
        "container more, with docker run --shm-size 8g, or train with --workers 0"
    )


def test_other_errors_of_a_worker_pass() -> None:
    for kind in (RuntimeError, ValueError):
        with pytest.raises(kind, match="the sampler's own"):
            list(loading(Numbers(kind("the sampler's own")), 0, 1, 0, 1))
        assert multiprocessing.active_children() == []
    with pytest.raises(RuntimeError, match="Bus error"):  # not a worker's
        list(loading(Numbers(RuntimeError("Bus error")), 0, 0, 0, 1))
