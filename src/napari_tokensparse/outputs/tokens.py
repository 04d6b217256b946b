"""Maps of the tokens as NIfTI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokensparse.segmenting.infer import Segmentation
    from napari_tokensparse.volumes.volume import Volume


def token_file_names(stages: int) -> tuple[str, ...]:
    """Return the files of the maps: importance of each stage, and where tokens were pruned.

    Examples
    --------
    >>> token_file_names(2)
    ('importance-1.nii.gz', 'importance-2.nii.gz', 'pruned-at.nii.gz')
    """
    importance = (f"importance-{stage}.nii.gz" for stage in range(1, stages + 1))
    return (*importance, "pruned-at.nii.gz")


def write_tokens(folder: Path, result: Segmentation, volume: Volume) -> list[Path]:
    """Write ``importance-1.nii.gz`` … and ``pruned-at.nii.gz`` on the input's grid."""
    from napari_tokensparse.volumes.volume import write_nifti

    folder.mkdir(parents=True, exist_ok=True)
    tokens = result.tokens
    maps: list[NDArray[Any]] = [*tokens.importance, tokens.pruned_at]
    return [
        write_nifti(folder / name, tokens.on_input_grid(values), volume)
        for name, values in zip(token_file_names(len(maps) - 1), maps, strict=True)
    ]
