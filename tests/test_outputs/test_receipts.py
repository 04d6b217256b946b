"""What a receipt says, and what it does not."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.folder import WEIGHTS
from napari_tokensparse.outputs.hashes import hash_of, labels_hash
from napari_tokensparse.outputs.receipts import (
    FinishedRun,
    ReceiptError,
    class_volumes,
    input_scan,
    read_receipt,
    receipt_of,
    receipt_path,
    versions,
    write_receipt,
)
from napari_tokensparse.outputs.writing import write_volume
from napari_tokensparse.segmenting.infer import segment, segment_with
from napari_tokensparse.segmenting.options import Options
from napari_tokensparse.volumes.reading import read_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_tokensparse.outputs.receipts import Receipt

OPTIONS = Options(model="nano", keep_ratio=(0.5, 0.5, 0.25), device="cpu", backend="plain")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Write a scan whose folder and header name a patient and a date."""
    folder = tmp_path / "Jane Doe 1970-01-31"
    folder.mkdir()
    data = np.random.default_rng(0).integers(1, 900, (36, 32, 20)).astype(np.int16)
    image = nib.Nifti1Image(data, np.diag([1.0, 1.0, 2.5, 1.0]))
    image.header["descrip"] = b"DOE^JANE 19700131"
    nib.save(image, folder / "scan.nii.gz")
    return folder / "scan.nii.gz"


@pytest.fixture
def finished(scan: Path, write_nano: Callable[..., Path]) -> FinishedRun:
    network = load_model(write_nano(foreground_ml=(300.0, 900.0)))
    volume = read_volume(scan)
    return FinishedRun(volume, network, OPTIONS, segment_with(volume, network, OPTIONS))


@pytest.fixture
def receipt(scan: Path, finished: FinishedRun, tmp_path: Path) -> Receipt:
    labels = write_volume(tmp_path / "labels.nii.gz", finished.result.labels, finished.volume)
    return receipt_of(finished, [input_scan(scan)], labels)


def test_a_receipt_states_hashes_tokens_versions_and_the_command(
    receipt: Receipt, finished: FinishedRun, scan: Path, tmp_path: Path
) -> None:
    assert receipt.purpose == "For research only, not for diagnosis."
    assert receipt.command == (
        "tokensparse segment scan.nii.gz -o labels.nii.gz --model nano --keep-ratio 0.5,0.5,0.25 "
        "--device cpu --backend plain"
    )
    assert [(one.name, one.sha256) for one in receipt.inputs] == [("scan.nii.gz", sha256(scan))]
    assert receipt.model.weights_sha256 == sha256(tmp_path / "nano" / WEIGHTS)
    labels = finished.result.labels
    assert receipt.output.sha256 == sha256(tmp_path / "labels.nii.gz")
    plain = np.ascontiguousarray(labels, "<u2").tobytes()
    assert receipt.output.labels_sha256 == hashlib.sha256(plain).hexdigest()
    assert receipt.output.shape == (36, 32, 20)
    (seven,) = receipt.classes
    assert seven.voxels == np.count_nonzero(labels == 7) > 0
    assert seven.ml == pytest.approx(seven.voxels * 2.5 / 1000)
    stats = finished.result.stats
    assert receipt.tokens.tokens == stats.tokens
    assert receipt.tokens.windows == stats.windows == 2
    assert receipt.seconds["total"] == pytest.approx(stats.seconds["total"], abs=1e-3)
    assert (receipt.machine.device, receipt.machine.backend) == ("cpu", "plain")
    assert receipt.versions["torch"] == version("torch")
    assert {"napari-tokensparse", "monai", "numpy", "python"} <= receipt.versions.keys()
    assert "300 to 900 ml" in receipt.warnings[0]


def test_versions_are_of_what_computed() -> None:
    assert "openvino" not in versions("plain")
    assert versions("openvino")["openvino"] == version("openvino")


def test_a_receipt_is_read_back_and_names_no_patient_folder_or_date(
    receipt: Receipt, tmp_path: Path
) -> None:
    path = write_receipt(receipt_path(tmp_path / "labels.nii.gz"), receipt)
    assert path.name == "labels.receipt.json"
    assert read_receipt(path) == receipt
    text = path.read_text(encoding="utf-8").casefold()
    for secret in ("jane", "doe", "1970", str(tmp_path).casefold()):
        assert secret not in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not a receipt (Expecting"),
        ("[]", "is not a receipt ("),
        ("{}", "is not a receipt (command"),
    ],
)
def test_what_is_no_receipt_is_refused_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "R.json"
    path.write_text(content)
    with pytest.raises(ReceiptError) as caught:
        read_receipt(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_receipt_may_name_no_file_in_another_folder(receipt: Receipt, tmp_path: Path) -> None:
    said = receipt.model_dump(mode="json")
    said["inputs"][0]["name"] = "../scan.nii.gz"
    (tmp_path / "R.json").write_text(json.dumps(said))
    with pytest.raises(ReceiptError, match="must be a name without a folder"):
        read_receipt(tmp_path / "R.json")


def test_the_hash_of_labels_is_that_of_their_values_whatever_the_type_and_order() -> None:
    labels = np.random.default_rng(0).integers(0, 9, (37, 5, 6))
    expected = hashlib.sha256(labels.astype("<u2").tobytes()).hexdigest()
    for array in (labels.astype(np.uint8), np.asfortranarray(labels.astype(">u2"))):
        assert labels_hash(array) == expected
    labels[36, 4, 5] += 1
    assert labels_hash(labels) != expected


def test_the_hash_of_a_folder_is_of_its_files_and_a_header_has_its_image(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in (1, 2):
            (tmp_path / name / f"{name}{number}.dcm").write_bytes(bytes([number]))
    assert hash_of(tmp_path / "a") == hash_of(tmp_path / "b")
    (tmp_path / "b" / ".DS_Store").write_bytes(b"x")
    assert hash_of(tmp_path / "a") == hash_of(tmp_path / "b")
    (tmp_path / "b" / "b3.dcm").write_bytes(b"3")
    assert hash_of(tmp_path / "a") != hash_of(tmp_path / "b")

    (tmp_path / "scan.hdr").write_bytes(b"header")
    alone = hash_of(tmp_path / "scan.hdr")
    (tmp_path / "scan.img").write_bytes(b"image")
    assert hash_of(tmp_path / "scan.hdr") != alone == sha256(tmp_path / "scan.hdr")


def test_regions_that_overlap_have_all_their_voxels(
    make_model: Callable[..., object], scan: Path
) -> None:
    network = make_model(exclusive=False)
    volume = read_volume(scan)
    result = segment(volume, network)
    volumes = class_volumes(result, volume, network.info)
    assert [one.voxels for one in volumes] == [np.count_nonzero(mask) for mask in result.regions]
    assert sum(one.voxels for one in volumes) > np.count_nonzero(result.labels)


def test_labels_within_an_image_are_named_by_it(
    scan: Path, finished: FinishedRun, tmp_path: Path
) -> None:
    image = write_volume(tmp_path / "scan.ome.zarr", finished.result.labels, finished.volume)
    inside = write_volume(image / "labels/brain", finished.result.labels, finished.volume)
    receipt = receipt_of(finished, [input_scan(scan)], inside)
    assert " -o scan.ome.zarr/labels/brain --model nano" in receipt.command
    assert receipt.output.name == "brain"
