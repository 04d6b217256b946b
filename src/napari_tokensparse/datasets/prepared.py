"""Training cases on the model's grid, kept in memory up to a budget and beyond it on disk.

Why not MONAI's datasets: ``CacheDataset`` prepares every case before the first step, and
``PersistentDataset`` reads a whole volume back for each crop and knows a file by its path alone.
Here a case is prepared when it is first needed, its file is mapped, so that only the crop is read,
and a file that has changed is prepared again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from napari_tokensparse.volumes.preprocess import preprocess_pair
from napari_tokensparse.volumes.windows import window_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_tokensparse.datasets.cases import Case
    from napari_tokensparse.datasets.plan import SamplingPlan
    from napari_tokensparse.volumes.volume import Volume

_MOST_CENTRES = 2**18
_LEAVE_FREE = 5 * 2**30  # bytes of disk
_FORMAT = 2


@dataclass(frozen=True)
class CacheBudget:
    """Where prepared cases are kept.

    Attributes
    ----------
    memory_bytes
        Memory that one process may fill with them; each worker is a process.
    folder
        Where the others lie as files; None prepares them anew each time, as does a disk with
        less than 5 GiB free.
    """

    memory_bytes: int = 4 * 2**30
    folder: Path | None = None


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """One case, ready to be cropped.

    Attributes
    ----------
    image
        ``(C, h, w, d)`` float32, no side smaller than the window.
    label
        ``(1, h, w, d)`` int32, the values of the label file.
    positive, negative
        Flat voxel numbers ``(n,)`` int64 that a crop may have at its centre: labelled with a class,
        and background. Neither is empty: one stands in for the other.
    """

    image: Tensor
    label: Tensor
    positive: Tensor
    negative: Tensor

    @property
    def centres(self) -> dict[str, Tensor]:
        """Both lists of centres, by name."""
        return {"positive": self.positive, "negative": self.negative}

    @property
    def nbytes(self) -> int:
        """Bytes of all four."""
        return sum(t.nbytes for t in vars(self).values())


class PreparedCases:
    """Prepares cases when they are first asked for, and keeps them.

    Parameters
    ----------
    cases
        Image and label each.
    plan
        What to do with them.
    cache
        Where to keep them.
    """

    def __init__(self, cases: Sequence[Case], plan: SamplingPlan, cache: CacheBudget) -> None:
        self._cases, self._plan, self._cache = tuple(cases), plan, cache
        self._memory: dict[int, PreparedCase] = {}
        self._used = 0

    def __len__(self) -> int:
        """Count the cases."""
        return len(self._cases)

    def __getitem__(self, index: int) -> PreparedCase:
        """Return a case, prepared now if it is nowhere yet."""
        if index in self._memory:
            return self._memory[index]
        path = self._path(self._cases[index])
        kept = None if path is None else _kept(path)
        if kept is not None:
            return kept
        prepared = prepare_case(self._cases[index], self._plan)
        if self._used + prepared.nbytes <= self._cache.memory_bytes:
            self._memory[index] = prepared
            self._used += prepared.nbytes
        elif path is not None:
            with suppress(OSError, SafetensorError):  # without the cache it is prepared again
                if shutil.disk_usage(path.parent).free > _LEAVE_FREE:
                    _write(prepared, path)
        return prepared

    def __getstate__(self) -> dict[str, Any]:
        """Leave the memory behind: a worker fills its own."""
        return {**self.__dict__, "_memory": {}, "_used": 0}

    def _path(self, case: Case) -> Path | None:
        """Name a case's file by everything that its content depends on."""
        if self._cache.folder is None:
            return None
        with suppress(OSError):
            self._cache.folder.mkdir(parents=True, exist_ok=True)
        plan = self._plan.model_dump(
            mode="json", exclude={"augmentation", "crops", "positive_share"}
        )
        sources = [_identity(case.image), _identity(case.label), *case.relabel]
        key = json.dumps([_FORMAT, plan, sources], sort_keys=True)
        return self._cache.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"


def prepare_case(case: Case, plan: SamplingPlan) -> PreparedCase:
    """Read a case and bring it to the model's grid, padded to the window and its jitter.

    Raises
    ------
    VolumeError, PreprocessError
        It cannot be read, or nothing is left of it.
    """
    image, label = preprocess_pair(case.read_image(), case.read_label(), plan.preprocessing)
    h, w, d = (n + plan.jitter for n in plan.window)
    grid = window_grid(image.shape[1:], (h, w, d), 1, 0.0)
    image = grid.pad(image, plan.background)
    label = grid.pad(label, plan.unlabelled or 0)
    positive, negative = _centres(image, label[0], plan)
    return PreparedCase(image.contiguous(), label.contiguous(), positive, negative)


def _centres(image: Tensor, label: Tensor, plan: SamplingPlan) -> tuple[Tensor, Tensor]:
    """Flat numbers of the voxels that positive and negative crops are centred on."""
    values = label.numpy().ravel()
    labelled = np.ones_like(values, bool) if plan.unlabelled is None else values != plan.unlabelled
    positive = _positive(values, labelled & (values != 0), plan)
    shown = _shown(image, plan).numpy().ravel()
    negative = _at_most(np.flatnonzero(labelled & (values == 0) & shown), _MOST_CENTRES)
    if plan.unlabelled is not None:
        positive, negative = (_scattered(c, image.shape[1:], plan) for c in (positive, negative))
    present = [c for c in (positive, negative) if len(c)] or [np.array([values.size // 2])]
    return torch.from_numpy(present[0]), torch.from_numpy(present[-1]).clone()


def _positive(
    values: NDArray[np.int32], inside: NDArray[np.bool_], plan: SamplingPlan
) -> NDArray[np.int64]:
    if not plan.balanced or not inside.any():
        return _at_most(np.flatnonzero(inside), _MOST_CENTRES)
    classes = np.unique(values[inside])
    each = _MOST_CENTRES // len(classes)
    rng = np.random.default_rng(0)
    return np.concatenate([rng.choice(np.flatnonzero(values == c), each) for c in classes])


def _scattered(
    indices: NDArray[np.int64], shape: Sequence[int], plan: SamplingPlan
) -> NDArray[np.int64]:
    """Move centres by up to half a window: a painted slice must not always lie in the middle."""
    if not len(indices):
        return indices
    rng = np.random.default_rng(0)
    chosen = np.stack(np.unravel_index(rng.choice(indices, _MOST_CENTRES), shape))
    half = np.array(plan.window)[:, None] // 2
    moved = chosen + rng.integers(-half + 1, half, chosen.shape)
    flat: NDArray[np.int64] = np.ravel_multi_index(tuple(moved), tuple(shape), mode="clip")
    return flat


def _shown(image: Tensor, plan: SamplingPlan) -> Tensor:
    """Where the image shows enough to be the centre of a background crop, ``(h, w, d)``."""
    if plan.image_threshold is None:
        return torch.ones_like(image[0], dtype=torch.bool)
    return (image > plan.image_threshold).any(dim=0)


def _at_most(indices: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Thin a long list out at random, the same each time: a crop needs one of them."""
    if len(indices) <= count:
        return indices
    return np.random.default_rng(0).choice(indices, count)


def _kept(path: Path) -> PreparedCase | None:
    """Return a case that is kept on disk; None where there is none, or half of one."""
    try:
        return PreparedCase(**load_file(path)) if path.exists() else None
    except (OSError, SafetensorError, TypeError):
        return None


def _write(prepared: PreparedCase, path: Path) -> None:
    """Write to a temporary name and rename: another process may look for the file."""
    part = path.with_name(f".{uuid.uuid4().hex}")
    try:
        save_file(vars(prepared), part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _identity(source: Path | tuple[Path, ...] | Volume) -> list[Any]:
    if isinstance(source, tuple):
        return [_identity(file) for file in source]
    if isinstance(source, Path) and source.is_dir():
        return [_identity(file) for file in sorted(source.rglob("*")) if file.is_file()]
    if isinstance(source, Path):
        status = source.stat()
        return [str(source.resolve()), status.st_size, status.st_mtime_ns]
    content = hashlib.sha256(np.ascontiguousarray(source.array).tobytes()).hexdigest()
    return [content, source.array.shape, source.array.dtype.str, source.affine.tolist()]
