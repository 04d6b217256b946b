"""The npe2 manifest: valid, resolvable, and one file."""

from importlib import import_module
from pathlib import Path

import pytest
from npe2 import PluginManifest

import napari_tokensparse
from napari_tokensparse.volumes.samples import SAMPLE_KEY
from napari_tokensparse.volumes.volume import READ_SUFFIXES, ZARR_SUFFIX

PACKAGED = Path(napari_tokensparse.__file__).with_name("napari.yaml")
ROOT = Path(__file__).parents[1]
NAMES = (
    "read",
    "write_labels",
    "write_image",
    "sample",
    "sample_patient",
    "segment",
    "train",
    "batch",
    "inspect",
)
WINDOWS = ("soft_tissue", "lung", "bone", "brain", "liver", "whole_range")
COMMANDS = [
    f"napari-tokensparse.{name}"
    for name in (*NAMES, "classes", "folders", *(f"ct_{window}" for window in WINDOWS))
]


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(PACKAGED)


def test_installed_package_offers_the_manifest_to_napari() -> None:
    manifest = PluginManifest.from_distribution("napari-tokensparse")
    assert manifest.name == "napari-tokensparse"
    assert manifest.display_name == "Token Sparsification"


def test_root_manifest_is_the_packaged_one() -> None:
    link, source = ROOT / "napari.yaml", ROOT / "src" / "napari_tokensparse" / "napari.yaml"
    if link.is_symlink():
        assert link.resolve() == source
    else:  # git on Windows may check a link out as a file that holds its target
        assert link.read_text().strip() == "src/napari_tokensparse/napari.yaml"
    assert source.read_bytes() == PACKAGED.read_bytes()


@pytest.mark.parametrize("command", COMMANDS)
def test_command_resolves_to_something_callable(manifest: PluginManifest, command: str) -> None:
    contribution = next(c for c in manifest.contributions.commands or [] if c.id == command)
    module, _, name = str(contribution.python_name).partition(":")
    assert callable(getattr(import_module(module), name))


def test_there_are_no_other_commands(manifest: PluginManifest) -> None:
    assert [c.id for c in manifest.contributions.commands or []] == COMMANDS


def test_reader_takes_every_format_that_is_read_and_folders(manifest: PluginManifest) -> None:
    (reader,) = manifest.contributions.readers or []
    suffixes = (*READ_SUFFIXES, ZARR_SUFFIX)
    assert sorted(reader.filename_patterns) == sorted(f"*{suffix}" for suffix in suffixes)
    assert reader.accepts_directories  # those of DICOM: get_reader says no to others


def test_writers_take_one_layer_and_put_nii_gz_first(manifest: PluginManifest) -> None:
    labels, image = manifest.contributions.writers or []
    assert (labels.layer_types, image.layer_types) == (["labels"], ["image"])
    assert image.filename_extensions == [".nii.gz", ".nii", ".nrrd"]
    assert labels.filename_extensions == [*image.filename_extensions, ".dcm", ".ome.zarr"]


def test_samples_are_named_in_the_menu(manifest: PluginManifest) -> None:
    samples = {s.key: s.display_name for s in manifest.contributions.sample_data or []}
    assert samples == {
        SAMPLE_KEY: "Brain MRI (MNI ICBM152 T1, 1 mm)",
        "made-up-patient": "Made-up patient with lesions (FLAIR, 1 mm)",
    }


def test_the_widgets_stand_under_layers_segment(
    manifest: PluginManifest,
) -> None:
    widgets = {w.command: w.display_name for w in manifest.contributions.widgets or []}
    assert widgets == {
        "napari-tokensparse.segment": "Segment",
        "napari-tokensparse.train": "Train",
        "napari-tokensparse.batch": "Batch",
        "napari-tokensparse.inspect": "Token inspector",
        "napari-tokensparse.classes": "Class list",
        "napari-tokensparse.folders": "Folders",
    }
    items = manifest.contributions.menus["napari/layers/segment"]
    assert [item.command for item in items] == list(widgets)[:-1]  # which has to do with no layer


def test_ct_windows_stand_in_a_submenu_under_layers_visualize(manifest: PluginManifest) -> None:
    (submenu,) = manifest.contributions.submenus or []
    (shown,) = manifest.contributions.menus["napari/layers/visualize"]
    assert shown.submenu == submenu.id == "napari-tokensparse.ct_windows"
    items = manifest.contributions.menus[submenu.id]
    assert [item.command for item in items] == [f"napari-tokensparse.ct_{w}" for w in WINDOWS]
