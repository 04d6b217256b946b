"""Files of probabilities, beside the labels: how sure the network is, and maps of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tokensparse.outputs.regionfiles import region_file_names
from napari_tokensparse.outputs.writing import beside
from napari_tokensparse.volumes.volume import write_nifti

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.segmenting.result import Segmentation
    from napari_tokensparse.volumes.volume import Volume


def confidence_file(labels: Path) -> Path:
    """Return where the winner's probability lies: ``labels_confidence.nii.gz`` beside labels."""
    return beside(labels, "_confidence.nii.gz")


def probabilities_folder(labels: Path) -> Path:
    """Return where maps of classes lie: ``labels_probabilities`` beside labels."""
    return beside(labels, "_probabilities")


def probability_files(labels: Path, names: Sequence[str], info: ModelInfo) -> dict[str, Path]:
    """Return the file of each class, called after it as masks of regions are."""
    every = zip((c.name for c in info.classes), region_file_names(info), strict=True)
    files = dict(reversed([*every]))
    return {name: probabilities_folder(labels) / files[name] for name in names}


def write_probabilities(
    labels: Path, result: Segmentation, like: Volume, info: ModelInfo
) -> list[Path]:
    """Write what a run kept of probabilities, 0 to 255, on the input's own grid.

    Parameters
    ----------
    labels
        The labels file that they lie beside.
    result
        Of the run.
    like
        What was segmented.
    info
        Of the model, which names the classes.

    Raises
    ------
    VolumeError, OSError
        A file cannot be written.
    """
    written = []
    if result.confidence is not None:
        path = confidence_file(labels)
        written.append(write_nifti(path, result.confidence, like, labels=False))
    files = probability_files(labels, [*result.probabilities], info)
    for name, path in files.items():
        path.parent.mkdir(exist_ok=True)
        written.append(write_nifti(path, result.probabilities[name], like, labels=False))
    return written
