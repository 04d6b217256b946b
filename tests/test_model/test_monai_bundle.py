"""The bundled model as MONAI's own tools see it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow, run
from monai.bundle.properties import InferProperties
from nibabel.nifti1 import Nifti1Image

from napari_tokensparse.model.folder import CARD, INFERENCE, METADATA, bundled_models_folder
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.volumes.samples import sample_path

FOLDER = bundled_models_folder() / "brain-structures"
# What MONAI's bundle specification asks for.
REQUIRED = {
    *("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task"),
    *("required_packages_version", "description", "authors", "copyright", "network_data_format"),
}
OF_TENSORS = {
    *("type", "format", "num_channels", "spatial_shape", "dtype", "value_range"),
    *("is_patch_data", "channel_def"),
}
# MONAI goes back to the scan in two steps, and undoes the mean of eight voxels by repeating the
# one: borders are coarser than ours, which are interpolated at once.
BORDERS = 0.1
WITH_MONAIS_WARNINGS = pytest.mark.filterwarnings(
    "ignore:.*:FutureWarning:monai",
    "ignore:NvImgCodec:UserWarning",
    "ignore:parsing config_file:UserWarning",  # that a config of a stranger is code
)


def test_the_metadata_have_the_fields_of_monais_specification() -> None:
    metadata = json.loads((FOLDER / METADATA).read_text("utf-8"))
    assert metadata.keys() >= REQUIRED
    assert metadata["schema"].startswith("https://github.com/Project-MONAI/")
    (image,) = metadata["network_data_format"]["inputs"].values()
    (pred,) = metadata["network_data_format"]["outputs"].values()
    for tensor in (image, pred):
        assert tensor.keys() >= OF_TENSORS
        assert len(tensor["channel_def"]) == tensor["num_channels"]
        assert all(size % 8 == 0 for size in tensor["spatial_shape"])
    assert (FOLDER / "LICENSE").is_file()
    assert (FOLDER / CARD).is_file()


@WITH_MONAIS_WARNINGS
def test_the_inference_config_has_what_monais_workflows_ask_for(tmp_path: Path) -> None:
    asked = {p["id"] for p in InferProperties.values() if p["required"]}
    (tmp_path / "b.nii.gz").touch()
    (tmp_path / "a.nii").touch()
    config = {"config_file": str(FOLDER / INFERENCE), "meta_file": str(FOLDER / METADATA)}
    workflow = ConfigWorkflow(
        workflow_type="inference", logging_file=False, bundle_root=str(FOLDER), **config,
        dataset_dir=str(tmp_path), device="$torch.device('cpu')",
    )  # fmt: skip
    workflow.initialize()
    assert asked <= workflow.parser.config.keys()
    assert workflow.dataset_dir == str(tmp_path)
    names = [Path(item["image"]).name for item in workflow.dataset.data]
    assert names == ["a.nii", "b.nii.gz"]
    assert isinstance(workflow.network_def.model, SCD)


def sample(folder: Path, step: int) -> Path:
    """Write the sample brain with every so manieth voxel."""
    image = nib.load(sample_path())
    thinned = np.asarray(image.dataobj)[::step, ::step, ::step]
    path = folder / "sample.nii.gz"
    nib.save(Nifti1Image(thinned, image.affine @ np.diag([step, step, step, 1.0])), path)
    return path


@WITH_MONAIS_WARNINGS
@pytest.mark.parametrize("step", [2, pytest.param(1, marks=pytest.mark.deep)])
def test_monai_runs_the_folder_and_labels_as_segment_does(tmp_path: Path, step: int) -> None:
    scan = sample(tmp_path, step)
    run(
        run_id="run",
        config_file=str(FOLDER / INFERENCE),
        meta_file=str(FOLDER / METADATA),
        bundle_root=str(FOLDER),
        output_dir=str(tmp_path / "out"),
        images=[str(scan)],
        device="$torch.device('cpu')",
    )
    (out,) = (tmp_path / "out").rglob("*.nii.gz")
    theirs, ours = nib.load(out), segment(scan, backend="plain", sharpen=False).labels
    np.testing.assert_allclose(theirs.affine, nib.load(scan).affine, atol=1e-5)
    labels = np.asarray(theirs.dataobj)
    assert labels.shape == ours.shape
    assert set(np.unique(labels)) == set(np.unique(ours))  # FreeSurfer's values
    different = np.count_nonzero(labels != ours)
    assert different < BORDERS * np.count_nonzero(ours), different
