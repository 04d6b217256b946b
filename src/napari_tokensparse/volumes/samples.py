"""The sample brain that comes with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

SAMPLE_FILE = "mni_icbm152_t1_1mm.nii.gz"
SAMPLE_KEY = "mni-brain"
"""What the manifest calls it."""


def sample_path() -> Path:
    """Return where the sample brain lies: MNI ICBM152 2009a T1, 1 mm, skull-stripped.

    Its licence and origin are in ``NOTICE`` beside it. It is symmetric: no left-right error shows.
    """
    return Path(str(files("napari_tokensparse") / "samples" / SAMPLE_FILE))
