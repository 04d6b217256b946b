"""Maps of the tokens as NIfTI."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tokensparse.segmenting.infer import Segmentation
    from napari_tokensparse.volumes.volume import Volume


def write_tokens(folder: Path, result: Segmentation, volume: Volume) -> list[Path]:
    """Write ``importance-1.nii.gz`` … and ``pruned-at.nii.gz`` on the input's grid."""
    from napari_tokensparse.volumes.volume import write_nifti

    folder.mkdir(parents=True, exist_ok=True)
    tokens = result.tokens
    written = [
        write_nifti(folder / f"importance-{stage}.nii.gz", tokens.on_input_grid(values), volume)
        for stage, values in enumerate(tokens.importance, start=1)
    ]
    pruned_at = tokens.on_input_grid(tokens.pruned_at)
    return [*written, write_nifti(folder / "pruned-at.nii.gz", pruned_at, volume)]
