"""Measure what comes back of lost components when their tokens are pinned, as a click on them does.

At a keep ratio, of the largest components of the sample (or a scan) that pruning lost or shrank::

    python tools/measure_pins.py --keep-ratio 0.1 --count 8
    python tools/measure_pins.py --model ms-lesions --scan flair.nii.gz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from napari_tokensparse.inspecting.audit import audit
from napari_tokensparse.inspecting.components import component_at
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.pins import tokens_under, written
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.samples import sample_path


def main() -> None:
    """Find what is lost, pin it, and print the shares that are there before and after."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="brain-structures", help="a name or a folder")
    parser.add_argument("--scan", type=Path, help="the sample brain if not given")
    parser.add_argument("--keep-ratio", type=float, default=0.1)
    parser.add_argument("--count", type=int, default=8, help="of components")
    given = parser.parse_args()
    model, volume = load_model(given.model), read_volume(given.scan or sample_path())
    whole = segment(volume, model, 1.0)
    pruned = segment(volume, model, given.keep_ratio)
    found = audit(volume, model, given.keep_ratio)
    lost = [c for c in found.components if c.change != "appeared"][: given.count]
    shares = []
    for component in lost:
        mask = whole.labels == component.value
        box, inside = component_at(mask, component.voxel)
        region = np.zeros(volume.shape, bool)
        region[box.slices] = inside
        tokens = tokens_under(region, whole.tokens.places)
        again = segment(volume, model, given.keep_ratio, pin=written(tokens))
        before, after = (
            float((run.labels[region] == component.value).mean()) for run in (pruned, again)
        )
        shares.append((before, after))
        print(
            f"{component.name:32} {component.before_mm3:8.0f} mm³, {int(tokens.sum()):4d} tokens: "
            f"{100 * before:3.0f} % → {100 * after:3.0f} %",
            flush=True,
        )
    if shares:
        print("mean {:.0%} → {:.0%}".format(*np.mean(shares, axis=0)))


if __name__ == "__main__":
    main()
