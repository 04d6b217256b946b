"""Layers saved to files: from a file and back, and layers of other origin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import highdicom
import nibabel as nib
import nrrd
import numpy as np
import pytest
from napari.layers import Image, Labels
from pydicom import dcmread

from napari_tokensparse.contributions.reader import read_layers
from napari_tokensparse.contributions.writer import write_image, write_labels
from napari_tokensparse.model.folder import describe_folder
from napari_tokensparse.volumes.placement import MODEL_KEY, layer_kwargs, placement_of
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (36, 40, 20)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Write an oblique scan whose axes run back, left and up."""
    angle = np.radians(12.0)
    affine = np.array([[0, -0.9, 0, 31.5], [-1.1, 0, 0, 12.25], [0, 0, 2.5, -7], [0, 0, 0, 1]])
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    data = np.random.default_rng(0).integers(1, 900, SHAPE).astype(np.int16)
    image = nib.Nifti1Image(data, turn @ affine)
    image.set_qform(turn @ affine, code=1)
    image.set_sform(turn @ affine, code=4)
    nib.save(image, tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def saved(layer: Any, path: Path) -> Path:
    """Save as napari does when a writer was chosen in the dialog."""
    data, meta, kind = layer.as_layer_data_tuple()
    written = (write_labels if kind == "labels" else write_image)(str(path), data, meta)
    assert written == [str(path)]
    return path


@pytest.mark.gui
def test_a_segmentation_saved_from_the_viewer_is_the_file_that_the_command_line_writes(
    scan: Path, write_nano: Callable[..., Path], make_napari_viewer: Callable[..., Any], qtbot: Any
) -> None:
    from napari_tokensparse.outputs.writing import write_volume
    from napari_tokensparse.segmenting.infer import segment

    viewer = make_napari_viewer(show=True)
    viewer.open(str(scan), plugin="napari-tokensparse")
    _, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
    model = write_nano()
    widget.model.setValue(model)
    widget.button.click()
    qtbot.waitUntil(lambda: widget.button.text() == "Segment", timeout=120_000)

    out = scan.with_name("saved.nii.gz")
    beside = [str(scan.with_name(name)) for name in ("saved.label.txt", "saved_dseg.tsv")]
    assert viewer.layers["scan labels"].save(str(out)) == [str(out), *beside]
    assert Path(beside[1]).read_text("utf-8") == "index\tname\tcolor\n7\tseven\t#ff0000\n"
    expected = write_volume(
        scan.with_name("expected.nii.gz"), segment(scan, model).labels, read_volume(scan)
    )
    one, two = nib.load(out), nib.load(expected)
    assert one.shape == SHAPE
    assert one.header.binaryblock == two.header.binaryblock
    np.testing.assert_array_equal(one.affine, nib.load(scan).affine)
    np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(two.dataobj))
    assert len(np.unique(np.asarray(one.dataobj))) == 2


@pytest.mark.gui
def test_labels_of_a_dicom_series_are_saved_as_dicom_seg_and_its_receipt_names_the_series(
    write_nano: Callable[..., Path],
    dicoms: dict[str, Any],
    make_napari_viewer: Callable[..., Any],
    qtbot: Any,
    tmp_path: Path,
) -> None:
    from napari_tokensparse.widgets.results import results_of
    from napari_tokensparse.widgets.segment.saving.receipts import inputs_of, result_receipt

    pixels = np.random.default_rng(0).integers(1, 900, (20, 36, 40)).astype(np.uint16)
    for number in (3, 8):
        dicoms["write_series"](
            tmp_path / "exam", pixels + number, SeriesNumber=number, prefix=f"{number}-"
        )
    viewer = make_napari_viewer(show=True)
    viewer.open(str(tmp_path / "exam"), plugin="napari-tokensparse")
    _, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
    widget.model.setValue(write_nano())
    widget.image.value = viewer.layers["exam 8"]
    widget.button.click()
    qtbot.waitUntil(lambda: widget.button.text() == "Segment", timeout=120_000)

    out, layer = tmp_path / "labels.dcm", viewer.layers["exam 8 labels"]
    assert layer.save(str(out)) == [str(out)]
    labels = read_volume(tmp_path / "exam", series=8)
    shown = placement_of(labels.affine, labels.shape).unview(layer.data)
    frames = highdicom.seg.segread(out).get_pixels_by_source_instance(
        [dcmread(file).SOPInstanceUID for file in labels.slices],
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(7 * frames.transpose(2, 1, 0), shown)
    assert 0 < np.count_nonzero(shown) < shown.size
    assert dcmread(out).SegmentSequence[0].SegmentLabel == "seven"

    result = results_of(viewer).latest
    receipt = result_receipt(result, inputs_of(result))
    assert receipt.options.series == "8"
    assert receipt.inputs[0].sha256 is not None
    assert "segment exam -o exam_labels.nii.gz --series 8 --model nano" in receipt.command


@pytest.mark.parametrize("suffix", [".nii", ".nrrd"])
def test_an_image_from_a_file_keeps_its_values_type_order_and_affine(
    scan: Path, suffix: str
) -> None:
    (data, kwargs, _) = read_layers(str(scan))[0]
    out = saved(Image(data, **kwargs), scan.with_name(f"out{suffix}"))
    source = nib.load(scan)
    if suffix == ".nrrd":
        values, header = nrrd.read(str(out))
        affine = np.eye(4)
        affine[:3, :3] = header["space directions"].T
        affine[:3, 3] = header["space origin"]
        np.testing.assert_array_equal(np.diag([-1, -1, 1, 1]) @ affine, source.affine)
    else:
        values = np.asarray(nib.load(out).dataobj)
        np.testing.assert_array_equal(nib.load(out).affine, source.affine)
        assert not read_volume(out).is_labels
    assert values.dtype == np.int16
    np.testing.assert_array_equal(values, source.dataobj)


def test_a_foreign_layer_is_written_as_it_is_shown(tmp_path: Path) -> None:
    data = np.arange(24).reshape(2, 3, 4) % 5
    layer = Labels(data, scale=(3, 2, 1), translate=(10, 20, 30), name="own")
    image = nib.load(saved(layer, tmp_path / "own.nii"))
    np.testing.assert_array_equal(image.dataobj, data.transpose())
    np.testing.assert_allclose(
        image.affine, [[-1, 0, 0, -30], [0, -2, 0, -20], [0, 0, 3, 10], [0, 0, 0, 1]]
    )
    assert read_volume(tmp_path / "own.nii").is_labels


def test_a_foreign_layer_in_micrometres_is_written_in_millimetres(tmp_path: Path) -> None:
    layer = Image(np.zeros((2, 3, 4)), scale=(3, 2, 1), units=("um",) * 3)
    volume = read_volume(saved(layer, tmp_path / "small.nii"))
    assert volume.spacing == pytest.approx((0.001, 0.002, 0.003))


def test_a_turned_layer_is_written_where_it_is_shown(tmp_path: Path) -> None:
    layer = Image(np.zeros((2, 3, 4), np.float32), scale=(3, 2, 1), rotate=(0, 0, 20))
    layer.affine = np.array([[1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    affine = nib.load(saved(layer, tmp_path / "turned.nii")).affine
    z, y, x = layer.data_to_world((1, 2, 3))
    np.testing.assert_allclose(affine @ [3, 2, 1, 1], [-x, -y, z, 1], atol=1e-5)


def test_a_layer_of_ours_that_was_moved_is_written_where_it_is_now(scan: Path) -> None:
    (data, kwargs, _) = read_layers(str(scan))[0]
    layer = Image(data, **kwargs)
    layer.translate = np.add(layer.translate, (0, 0, 50))
    affine = nib.load(saved(layer, scan.with_name("moved.nii"))).affine
    z, y, x = layer.data_to_world((0, 0, 0))
    np.testing.assert_allclose(affine[:3, 3], [-x, -y, z], atol=1e-4)


def test_a_map_with_unknown_voxels_is_written_with_them(tmp_path: Path) -> None:
    values = np.full((1, 2, 3, 4), np.nan, np.float32)
    values[0, 1, 2, 3] = 0.5
    volume = Volume(values, np.diag([1.0, 2, 3, 1]), "map")
    view = placement_of(volume.affine, volume.shape).view
    layer = Image(view(values[0]), contrast_limits=(0, 1), **layer_kwargs(volume))
    written = nib.load(saved(layer, tmp_path / "map.nii.gz")).get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(written, values[0])


@pytest.mark.parametrize(
    ("layer", "name", "said"),
    [
        (Image(np.zeros((2, 3, 4, 3), np.uint8), rgb=True), "a.nii", "is a colour image"),
        (Image(np.zeros((2, 2, 3, 4))), "a.nii", r"has 4 axes \(2 x 2 x 3 x 4\): right-click"),
        (Labels(np.zeros((3, 4), int)), "a.nii", "has 2 axes; choose a 3-D image"),
        (Labels(np.zeros((2, 3, 4), int)), "no/a.nii", "no: no such folder; create it first"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line_that_napari_does_not_swallow(
    tmp_path: Path, layer: Any, name: str, said: str
) -> None:
    with pytest.raises(OSError, match=said):
        saved(layer, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_labels_are_not_saved_where_names_of_classes_would_replace_another_file(
    tmp_path: Path, write_nano: Callable[..., Path]
) -> None:
    info = describe_folder(write_nano()).info
    model = {MODEL_KEY: info.model_dump(mode="json")}
    data, meta, _ = Labels(np.ones((2, 3, 4), int), metadata=model).as_layer_data_tuple()
    table = tmp_path / "out_dseg.tsv"
    for _ in range(2):  # our own may be there
        assert str(table) in write_labels(str(tmp_path / "out.nii"), data, meta)
    table.write_text("mine")
    (tmp_path / "out.nii").unlink()
    with pytest.raises(OSError, match=r"out_dseg.tsv: is there already, .* or move it away"):
        write_labels(str(tmp_path / "out.nii"), data, meta)
    assert table.read_text() == "mine"
    assert not (tmp_path / "out.nii").exists()


def test_nothing_is_saved_among_the_slices_of_a_series(
    tmp_path: Path, dicoms: dict[str, Any]
) -> None:
    paths = dicoms["write_series"](tmp_path / "exam", np.ones((7, 5, 6), np.uint16))
    before = {path: path.read_bytes() for path in (tmp_path / "exam").iterdir()}
    (layer_data,) = read_layers(str(tmp_path / "exam"))
    data, meta, _ = Image(layer_data[0], **layer_data[1]).as_layer_data_tuple()
    for path in (paths[0], tmp_path / "exam/labels.nii.gz"):
        with pytest.raises(OSError, match=r"input itself|lies in the folder of the scan"):
            write_image(str(path), data, meta)
    assert {path: path.read_bytes() for path in (tmp_path / "exam").iterdir()} == before


def test_a_suffix_that_was_not_typed_leads_to_no_file_that_is_there(tmp_path: Path) -> None:
    """The dialog asks whether to replace the name that was typed, and no other."""
    data, meta, _ = Labels(np.ones((2, 3, 4), int)).as_layer_data_tuple()
    there = tmp_path / "mine.nii.gz"
    there.write_bytes(b"corrected")
    with pytest.raises(OSError, match=r"mine\.nii\.gz: is there already, .* give it whole"):
        write_labels(str(tmp_path / "mine"), data, meta)
    assert there.read_bytes() == b"corrected"
    assert write_labels(str(there), data, meta) == [str(there)]  # the dialog has asked
