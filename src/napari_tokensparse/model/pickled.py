"""Checkpoints of torch that a stranger may have written: tensors and plain values, nothing else."""

from __future__ import annotations

import copy
import pickle
import re
import zipfile
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_ZIP = b"PK\x03\x04"
_MAX_RECORDS = 100_000


class PickledError(ValueError):
    """A checkpoint that is refused; the line does not name the file."""


def read_pickled(path: Path, also: Iterable[Any] = ()) -> Any:
    """Read a file of ``torch.save`` onto the CPU.

    Memory that it asks for is bounded by its size: records that are compressed, or that together
    are larger than the file, and tensors larger than what is stored of them are refused.

    Parameters
    ----------
    path
        The file, in torch's zip form or in its form before 1.6.
    also
        Classes and functions to allow beside those of torch's own short list.

    Raises
    ------
    PickledError
        In one line: it is not such a file, is damaged, or asks for anything else than tensors and
        plain values.
    OSError
        It cannot be read.
    """
    if path.exists() and not path.is_file():
        raise PickledError("is not a file")
    with path.open("rb") as file:
        zipped = file.read(len(_ZIP)) == _ZIP
    try:
        if zipped:
            _check_records(path)
        with torch.serialization.safe_globals(list(also)):
            # Mapped: a tensor that claims more than its record cannot reach beyond the file.
            saved = torch.load(path, "cpu", weights_only=True, mmap=zipped)
        _check_tensors(saved, path.stat().st_size)
        # A copy, or the file stays open, and Windows could not replace it.
        return copy.deepcopy(saved) if zipped else saved
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged or hostile pickle makes of the unpickler
        raise PickledError(_reason(error)) from error


def _check_records(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    if len(records) > _MAX_RECORDS:
        raise PickledError(f"holds {len(records)} records: at most {_MAX_RECORDS} are read")
    packed = [r.filename for r in records if r.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise PickledError(f"record {packed[0]!r} is compressed, which torch.save never does")
    held, size = sum(r.file_size for r in records), path.stat().st_size
    if held > size:
        raise PickledError(f"its records claim {held} bytes, the file has {size}")


def _check_tensors(saved: Any, size: int) -> None:
    storages: dict[int, int] = {}
    for tensor in _tensors(saved):
        if tensor.layout is not torch.strided or tensor.device.type != "cpu":
            raise PickledError(f"holds a {tensor.layout} tensor on {tensor.device}")
        storage = tensor.untyped_storage()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise PickledError(
                f"a tensor claims shape {tuple(tensor.shape)}, but {storage.nbytes()} bytes "
                "are stored"
            )
        storages[storage.data_ptr()] = storage.nbytes()
    if sum(storages.values()) > size:
        raise PickledError(f"its tensors claim {sum(storages.values())} bytes, the file has {size}")


def _tensors(saved: Any) -> Iterable[torch.Tensor]:
    """Every tensor within lists and dicts, however they refer to one another."""
    rest, seen = [saved], set()
    while rest:
        value = rest.pop()
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, dict | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            rest += [*value, *value.values()] if isinstance(value, dict) else value


def _reason(error: Exception) -> str:
    """Say what is wrong, without torch's advice to load it unsafely."""
    text = str(error)
    asked = re.search(r"(?:GLOBAL |type |class )([\w.]+)", text)
    if isinstance(error, pickle.UnpicklingError) and asked:
        return f"asks for {asked[1]}; only tensors and plain values are read"
    said = text.rpartition("WeightsUnpickler error: ")[2].strip()
    if isinstance(error, pickle.UnpicklingError) and said == text.strip():
        return "asks for more than tensors and plain values"
    return (said.splitlines() or [type(error).__name__])[0][:200]
