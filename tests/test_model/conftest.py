import lzma
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

REFERENCE = Path(__file__).parents[1] / "data/reference"


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Start every test with the same weights, and leave the global generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Unpack a recording of the authors' code: a folder as their code leaves it, and ``io.npz``."""

    @cache
    def unpacked(name: str) -> Path:
        folder = tmp_path_factory.mktemp("reference") / name
        shutil.copytree(REFERENCE / name, folder)
        packed = folder / "best_model.pth.tar.xz"
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        return folder

    return unpacked
