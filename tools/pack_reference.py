"""Pack recorded outputs of the authors' code for the tests, small enough for the repository.

Checkpoints are compressed, logits are kept at every fourth voxel and large gradients at every
second entry of their last three axes; everything else is kept as it is::

    python tools/pack_reference.py REFERENCE_FOLDER
"""

from __future__ import annotations

import argparse
import lzma
import shutil
from pathlib import Path

import numpy as np

TARGET = Path(__file__).parents[1] / "tests/data/reference"
LARGE = 100_000


def thinned(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Thin out what is large, and say so in its name."""
    if name == "logits":
        return "logits[::4]", array[..., ::4, ::4, ::4]
    if name.startswith("grad/") and array.size > LARGE:
        return f"{name}[::2]", array[..., ::2, ::2, ::2]
    return name, array


def main() -> None:
    """Pack every folder of recordings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    for folder in sorted(parser.parse_args().source.iterdir()):
        target = TARGET / folder.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "config.json", target / "config.json")
        packed = lzma.compress((folder / "best_model.pth.tar").read_bytes(), preset=9)
        (target / "best_model.pth.tar.xz").write_bytes(packed)
        with np.load(folder / "io.npz") as arrays:
            np.savez_compressed(
                target / "io.npz", **dict(thinned(k, arrays[k]) for k in arrays.files)
            )


if __name__ == "__main__":
    main()
