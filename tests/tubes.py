"""A seeded data set to train on: tubes and balls in noise, two channels, anisotropic voxels.

Tubes are bright in the first channel only, balls in the second only, rods in both: whoever sees one
channel cannot tell all three apart.
"""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Image
from scipy.ndimage import distance_transform_edt

SPACING = (1.0, 1.0, 2.5)
SHAPE = (64, 64, 32)
CHANNELS = ("first", "second")
LABELS = ("background", "tube", "ball", "rod")
# Contrast of each label in the two channels, in units of 200 grey values.
CONTRAST = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=np.float64)


def write_msd(folder, cases=8, validation=0, **options):
    """Write a data set as the Medical Segmentation Decathlon does: one 4-D file per image.

    The first ``cases`` are listed for training, ``validation`` more for validation.
    """
    items = _write_cases(folder, cases + validation, **options)
    _write_json(
        folder / "dataset.json",
        name="Tubes",
        modality={str(n): name for n, name in enumerate(CHANNELS)},
        labels={str(n): name for n, name in enumerate(LABELS)},
        numTraining=cases,
        training=items[:cases],
        test=[],
        **({"validation": items[cases:]} if validation else {}),
    )
    return folder


def write_list(folder, cases=8, validation=2, **options):
    """Write the same images with a list of files alone, and return the list."""
    items = _write_cases(folder, cases + validation, **options)
    return _write_json(folder / "list.json", training=items[:cases], validation=items[cases:])


def write_folders(folder, cases=8, **options):
    """Write the same images as two folders, ``imagesTr`` and ``labelsTr``."""
    _write_cases(folder, cases, **options)
    return folder


def volume(seed, shape=SHAPE, noise=0.4):
    """Draw one image (i, j, k, 2) int16 and its label (i, j, k) uint8."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    for value, length, radii in ((1, 90, (4, 6)), (2, 0, (8, 11)), (3, 24, (6, 8))):
        for _ in range(3):
            label[_near_curve(rng, shape, length) <= rng.uniform(*radii)] = value
    clean = CONTRAST[label] * rng.uniform(0.9, 1.1)
    image = 400 + 200 * (clean + noise * rng.standard_normal(clean.shape))
    return image.round().astype(np.int16), label


def _near_curve(rng, shape, length):
    """Distance (mm) of every voxel from a random bent line of about ``length`` mm."""
    size = np.array(shape) * SPACING
    start, middle, end = (rng.normal(size=3) * length / 4 for _ in range(3))
    t = np.linspace(0, 1, 200)[:, None]
    points = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
    points = points - points.mean(axis=0) + rng.uniform(0.15, 0.85, 3) * size
    voxels = np.clip((points / SPACING).astype(int), 0, np.array(shape) - 1)
    away = np.ones(shape, bool)
    away[tuple(voxels.T)] = False
    return distance_transform_edt(away, sampling=SPACING)


def _write_cases(folder, count, seed=0, **options):
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    return [_write_case(folder, number, seed, **options) for number in range(count)]


def _write_case(folder, number, seed, **options):
    image, label = volume([seed, number], **options)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.diag([*SPACING, 1.0])
    affine[:3, 3] = (30.0, 28.0, -40.0)
    item = {}
    for key, array in (("image", image), ("label", label)):
        path = f"{key}sTr/tubes_{number:03d}.nii.gz"
        nib.save(Nifti1Image(array, affine), folder / path)
        item[key] = f"./{path}"
    return item


def _write_json(path: Path, **content):
    path.write_text(json.dumps(content, indent=1))
    return path
