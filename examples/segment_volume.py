"""Segment a NIfTI file and say what was pruned.

Usage: ``python examples/segment_volume.py [SCAN.nii.gz]``; without a file, the sample brain.
"""

import sys

from napari_tokensparse import load_model, segment
from napari_tokensparse.volumes.samples import sample_path

scan = sys.argv[1] if len(sys.argv) > 1 else sample_path()
model = load_model("brain-structures")

for keep_ratio in (1.0, 0.25):
    result = segment(scan, model, keep_ratio)
    print(f"keep ratio {keep_ratio:g}: tokens {result.stats.tokens}")
    for structure in model.info.classes[:4]:
        print(f"  {structure.name}: {(result.labels == structure.value).sum()} voxels")
