"""Windows from worker processes, through memory that they share with the training process."""

from __future__ import annotations

import re
from contextlib import contextmanager
from itertools import count
from traceback import clear_frames
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

Window = tuple["Tensor", "Tensor"]

# torch where a file there cannot be made, grown or mapped, or its worker was killed for a page that
# could not be had; Python where a lock cannot be made there.
_SAID = re.compile(
    r"bus error|shared memory|/torch_\d|/dev/shm|unable to (write|open|mmap|resize)|no space left",
    re.IGNORECASE,
)


class SharedMemoryError(ValueError):
    """Memory for windows of workers ran out; one plain line says what to do."""


class Sampler(Protocol):
    """Where training pairs come from."""

    def windows(self, seed: int, index: int) -> Sequence[Window]:
        """Return the windows of one volume, the same for a key.

        Each is an image ``(C, h, w, d)`` and its target, as `make_loss` takes it without B.
        """


def loading(
    sampler: Sampler, seed: int, workers: int, first: int, every: int
) -> Iterator[tuple[int, Sequence[Window]]]:
    """Yield training volumes for ever, as index and windows.

    Parameters
    ----------
    sampler
        Which makes them.
    seed
        Key of its random choices.
    workers
        Processes that do so; 0 is this one.
    first, every
        Index of the first volume, and from one to the next.

    Raises
    ------
    SharedMemoryError
        The memory that workers share, /dev/shm, is too small.
    """
    with _named(workers):
        yield from DataLoader(
            _Volumes(sampler, seed, shared=workers > 0),
            batch_size=None,
            sampler=count(first, every),
            num_workers=workers,
            generator=torch.Generator(),  # or the workers' seeds would be drawn from the global one
        )


@contextmanager
def _named(workers: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # The frames hold the loader: collected later, with its queues, it would wait five seconds
        # for each worker; let go of now, it ends them.
        clear_frames(error.__traceback__)
        lacks = isinstance(error, (RuntimeError, OSError)) and _SAID.search(str(error))
        if not workers or not lacks:
            raise
        raise SharedMemoryError(
            f"workers {workers}: the memory that they share with this process (/dev/shm) is too "
            "small; give a container more, with docker run --shm-size 8g, or train with --workers 0"
        ) from error


class _Volumes(Dataset[tuple[int, "Sequence[Window]"]]):
    """The sampler's volumes by index, for a `DataLoader`.

    In a worker they are put into shared memory here: torch would do it in a thread, whose error
    nobody hears, and the training process would wait for ever.
    """

    def __init__(self, sampler: Sampler, seed: int, *, shared: bool) -> None:
        self._sampler, self._seed, self._shared = sampler, seed, shared

    def __getitem__(self, index: int) -> tuple[int, Sequence[Window]]:
        windows = self._sampler.windows(self._seed, index)
        if self._shared:
            windows = [(_shared(image), _shared(label)) for image, label in windows]
        return index, windows


def _shared(tensor: Tensor) -> Tensor:
    return cast("Tensor", tensor.share_memory_())  # type: ignore[no-untyped-call]
