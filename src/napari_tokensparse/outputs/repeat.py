"""A run repeated from its receipt: the same scan, the same model, and how the labels compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import nrrd
import numpy as np

from napari_tokensparse.outputs.hashes import hash_of, labels_hash
from napari_tokensparse.outputs.receipts import ReceiptError
from napari_tokensparse.outputs.writing import SEG_SUFFIX
from napari_tokensparse.volumes.reading import read_volume

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from napari_tokensparse.outputs.receipts import InputScan, ModelUsed, Receipt


def scans_of(receipt: Receipt, path: Path, scan: Path | None = None) -> dict[str, Path]:
    """Find the scans that a receipt was written for, and check that they are the same.

    Parameters
    ----------
    receipt
        Of the earlier run.
    path
        The receipt's file.
    scan
        Where the scan lies; beside the receipt if not given.

    Returns
    -------
    dict
        Channel to file; "" for a scan of all channels.

    Raises
    ------
    ReceiptError
        In one line: a scan is not there, is another one, or was a layer that no file holds; or one
        is given for several.
    """
    if scan is not None and len(receipt.inputs) > 1:
        raise ReceiptError(
            f"{scan}: {path.name} is of {len(receipt.inputs)} channels with a file each, which are "
            "looked for beside it; leave IN out"
        )
    return {
        known.channel: _checked(known, path, path.parent / known.name if scan is None else scan)
        for known in receipt.inputs
    }


def _checked(known: InputScan, path: Path, scan: Path) -> Path:
    if known.sha256 is None:
        raise ReceiptError(
            f"{path.name}: its scan was the napari layer {known.name!r}, which no file holds; save "
            "the layer and segment the file"
        )
    if not scan.exists():
        raise ReceiptError(f"{scan}: no such file; give the scan: --from-receipt {path.name} IN")
    if (sha256 := hash_of(scan)) != known.sha256:
        raise ReceiptError(
            f"{scan}: is not the scan of {path.name} (SHA-256 {sha256[:12]}…, not "
            f"{known.sha256[:12]}…)"
        )
    return scan


def check_model(receipt: Receipt, used: ModelUsed, stripper: ModelUsed | None = None) -> None:
    """Check that a model, and what it strips heads by, have the weights of a receipt's.

    Parameters
    ----------
    receipt
        Of the earlier run.
    used, stripper
        The model, and the one that its heads are stripped by now; None leaves the latter unchecked.

    Raises
    ------
    ReceiptError
        They differ.
    """
    _check_weights(used, receipt.model, "give the right folder with --model")
    if receipt.stripper is not None and stripper is not None:
        _check_weights(stripper, receipt.stripper, "bring back that model, which strips heads")


def _check_weights(used: ModelUsed, known: ModelUsed, way_out: str) -> None:
    now, then = used.weights_sha256, known.weights_sha256
    if now != then:
        raise ReceiptError(
            f"model {used.name}: has other weights than the receipt's (SHA-256 {now[:12]}…, not "
            f"{then[:12]}…); {way_out}"
        )


@dataclass(frozen=True)
class Comparison:
    """Whether labels are those of a receipt.

    Attributes
    ----------
    identical
        Every voxel has the same label.
    differing
        How many have another one; None where the old labels are no longer there to count.
    old
        The old labels' file, if any.
    """

    identical: bool
    differing: int | None
    old: str | None


def compare(labels: NDArray[np.integer], receipt: Receipt, folder: Path) -> Comparison:
    """Compare labels with those that a receipt was written for.

    Parameters
    ----------
    labels
        Shape (i, j, k), of the repeated run.
    receipt
        Of the earlier run.
    folder
        Where the earlier labels may still lie.
    """
    output = receipt.output
    if labels.shape == output.shape and labels_hash(labels) == output.labels_sha256:
        return Comparison(True, 0, output.name)
    old = None if output.name is None else _read_labels(folder / output.name, output.sha256)
    if old is None or old.shape != labels.shape:
        return Comparison(False, None, output.name)
    return Comparison(False, int(np.count_nonzero(old != labels)), output.name)


def changes(old: Receipt, new: Receipt) -> tuple[str, ...]:
    """Say what of versions, machine and model is not as it was, one line each."""
    before, now = _circumstances(old), _circumstances(new)
    return tuple(
        f"{key.replace('_', ' ')}: was {before.get(key)}, is {now.get(key)}"
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    )


def _circumstances(receipt: Receipt) -> dict[str, object]:
    settings = {"model settings": receipt.model.settings_sha256[:12]}
    if receipt.stripper is not None:
        settings["stripper settings"] = receipt.stripper.settings_sha256[:12]
    return {**receipt.versions, **receipt.machine.model_dump(), **settings}


def _read_labels(path: Path, sha256: str | None) -> NDArray[Any] | None:
    """Read labels; None where they are gone, not those that were written, or DICOM SEG."""
    if path.suffix.lower() == SEG_SUFFIX or not path.exists() or hash_of(path) != sha256:
        return None
    if path.name.lower().endswith(".nrrd"):
        array: NDArray[Any] = nrrd.read(str(path))[0]
    else:
        array = np.asarray(read_volume(path).array[0])
    return array
