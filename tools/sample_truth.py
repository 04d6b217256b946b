"""Write ``tests/data/sample_labels.nii.gz``: the atlas labels on the sample brain's grid.

The sample is an average in the same MNI space as the atlas, so the labels follow by affine alone::

    python tools/sample_truth.py
"""

from __future__ import annotations

from pathlib import Path

from brain.atlas import build_atlas, resample_nearest
from brain.structures import class_ids
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.samples import sample_path
from napari_tokensparse.volumes.volume import write_nifti

TARGET = Path(__file__).parents[1] / "tests/data/sample_labels.nii.gz"


def main() -> None:
    """Resample and write FreeSurfer's ids."""
    sample = read_volume(sample_path())
    classes = resample_nearest(*build_atlas(), sample.shape, sample.affine)
    print(write_nifti(TARGET, class_ids()[classes], sample))


if __name__ == "__main__":
    main()
