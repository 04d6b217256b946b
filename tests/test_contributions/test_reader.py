import time

import nibabel as nib
import nrrd
import numpy as np
import pytest
from napari.layers import Image
from napari.layers.utils.stack_utils import stack_to_images
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from qtpy.QtWidgets import QApplication

from napari_tokensparse.contributions.reader import get_reader, read_layers
from napari_tokensparse.volumes.placement import KEY
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import VolumeError, write_nifti
from napari_tokensparse.widgets.layervolumes import read_layer

SHAPE = (24, 28, 20)  # R, A, S
SPACING = (2.0, 1.5, 2.5)


def phantom():
    """A grey body with a bright block on the left, in front and above; RAS order, uint8."""
    body = np.zeros(SHAPE, dtype=np.uint8)
    body[2:-2, 2:-2, 2:-2] = 60
    body[3:9, 18:25, 12:17] = 255
    return body


def save_as(path, codes, array=None):
    """Write the phantom with the file axes pointing to ``codes``, for example ``PIR``."""
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = (-23.0, -20.0, -25.0)
    array = phantom() if array is None else array
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    turned = nib.orientations.apply_orientation(array, turn)
    affine = affine @ inv_ornt_aff(turn, array.shape)
    assert nib.aff2axcodes(affine) == tuple(codes)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(turned), affine), path)
    return path


def picture(viewer):
    """Return the canvas as it is painted, without the marks: float (h, w, 3)."""
    for overlay in viewer.canvas.overlays.values():
        overlay.visible = False
    QApplication.processEvents()
    return viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(float)


def offset_of(mask, of):
    """Where the middle of ``mask`` lies from that of ``of``, in pixels to the right and down."""
    (y, x), (y0, x0) = (np.argwhere(m).mean(0) for m in (mask, of))
    return x - x0, y - y0


def block_offset(viewer):
    grey = picture(viewer).mean(axis=-1)
    return offset_of(grey > 200, of=grey > 30)


def show(viewer, path):
    (data, kwargs, kind) = read_layers(str(path))[0]
    viewer.window.resize(700, 600)
    layer = getattr(viewer, f"add_{kind}")(data, **kwargs)
    return layer


@pytest.mark.gui
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_left_stays_left_from_file_to_2d_and_3d_and_back_to_file(
    tmp_path, make_napari_viewer, codes
):
    path = save_as(tmp_path / "scan.nii.gz", codes)
    viewer = make_napari_viewer(show=True)
    layer = show(viewer, path)
    layer.contrast_limits = (0, 255)
    assert viewer.scene.camera.orientation == ("away", "down", "right")  # the reader saw to it

    viewer.dims.set_point(0, 2.5 * 14 - 25.0)
    right, down = block_offset(viewer)  # axial: the patient's left on the right, face up
    assert right > 20
    assert down < -20

    viewer.dims.order = (1, 0, 2)
    viewer.reset_view()
    viewer.dims.set_point(1, -(1.5 * 21 - 20.0))
    right, down = block_offset(viewer)  # coronal: left on the right, head up
    assert right > 20
    assert down < -20

    viewer.dims.order = (2, 0, 1)
    viewer.reset_view()
    viewer.dims.set_point(2, -(2.0 * 6 - 23.0))
    right, down = block_offset(viewer)  # sagittal: face to the left, head up
    assert right < -20
    assert down < -20

    viewer.dims.order = (0, 1, 2)
    viewer.dims.ndisplay = 3
    right, down = block_offset(viewer)  # 3-D, face to face: left on the right, head up
    assert right > 20
    assert down < -20

    volume, known = read_layer(layer)
    out = write_nifti(tmp_path / "block.nii.gz", volume.array[0] > 200, like=volume)
    assert known
    assert nib.aff2axcodes(nib.load(out).affine) == tuple(codes)
    assert np.array_equal(nib.load(out).affine, nib.load(path).affine)
    canonical = np.asarray(nib.as_closest_canonical(nib.load(out)).dataobj)
    assert np.array_equal(canonical, phantom() > 200)


def paint_depth(viewer, path):
    """Show two boxes one behind the other: label 1 in front (red), 2 at the back (green)."""
    from napari.utils.colormaps import DirectLabelColormap

    layer = show(viewer, path)
    layer.colormap = DirectLabelColormap(
        color_dict={None: "transparent", 0: "transparent", 1: "red", 2: "lime"}
    )
    viewer.dims.ndisplay = 3
    viewer.reset_view()
    return layer


def two_boxes():
    boxes = np.zeros(SHAPE, dtype=np.uint8)
    boxes[3:9, 20:26, 11:17] = 1  # left, in front, above
    boxes[3:9, 2:8, 11:17] = 2  # left, at the back, above
    return boxes


@pytest.mark.gui
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_3d_is_not_mirrored_the_nearer_box_hides_the_other(tmp_path, make_napari_viewer, codes):
    source = read_volume(save_as(tmp_path / "scan.nii.gz", codes))
    turned = read_volume(save_as(tmp_path / "boxes.nii.gz", codes, two_boxes())).array[0]
    path = write_nifti(tmp_path / "boxes.nii.gz", turned, like=source)
    viewer = make_napari_viewer(show=True)
    layer = paint_depth(viewer, path)
    assert type(layer).__name__ == "Labels"

    camera, up = viewer.scene.camera, (1, 0, 0)
    middle = np.array(viewer.canvas.size)[::-1] / 2
    camera.set_view_direction((0, 1, 0), up)  # towards the back: face to face
    red, green = colours(viewer)
    assert green.sum() < 0.02 * red.sum()
    assert np.argwhere(red).mean(0)[1] > middle[0] + 20  # the patient's left is on our right

    camera.set_view_direction((0, -1, 0), up)  # towards the face, from behind
    red, green = colours(viewer)
    assert red.sum() < 0.02 * green.sum()
    assert np.argwhere(green).mean(0)[1] < middle[0] - 20  # left is left


def colours(viewer):
    picture_ = picture(viewer)
    red = (picture_[..., 0] > 60) & (picture_[..., 1] < 40)
    green = (picture_[..., 1] > 60) & (picture_[..., 0] < 40)
    return red, green


@pytest.mark.gui
def test_napari_opens_a_file_through_the_reader_in_millimetres(tmp_path, make_napari_viewer):
    path = save_as(tmp_path / "scan.nii.gz", "PIR")
    viewer = make_napari_viewer()
    (layer,) = viewer.open(str(path), plugin="napari-tokensparse")
    assert (layer.name, layer.data.shape) == ("scan", (20, 28, 24))
    assert tuple(layer.scale) == (2.5, 1.5, 2.0)
    assert tuple(layer.translate) == (-25.0, -20.5, -23.0)
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert tuple(viewer.dims.axis_labels) == ("z", "y", "x")
    assert layer.metadata[KEY]["shape"] == (28, 20, 24)


def test_channels_become_layers_that_share_memory_and_labels_become_labels(tmp_path):
    two = np.stack([phantom(), phantom()[::-1]], axis=-1)
    nib.save(nib.Nifti1Image(two, np.eye(4)), tmp_path / "two.nii")
    layers = read_layers(str(tmp_path / "two.nii"))
    assert [(kwargs["name"], kind) for _, kwargs, kind in layers] == [
        ("two 1", "image"),
        ("two 2", "image"),
    ]
    assert np.array_equal(layers[0][0], layers[1][0][..., ::-1])
    assert np.may_share_memory(layers[0][0], layers[1][0].base)
    labels = write_nifti(tmp_path / "seg.nii", phantom(), read_volume(tmp_path / "two.nii"))
    assert [kind for _, _, kind in read_layers([str(labels)])] == ["labels"]


def test_several_files_are_read_in_their_order(tmp_path):
    paths = [str(save_as(tmp_path / f"{name}.nii", "RAS")) for name in "ba"]
    reader = get_reader(paths)
    assert reader is not None
    assert [kwargs["name"] for _, kwargs, _ in reader(paths)] == ["b", "a"]


@pytest.mark.parametrize("path", ["a.png", ["a.nii", "b.png"], "nii"])
def test_other_files_are_left_to_other_readers(path):
    assert get_reader(path) is None


def test_a_file_of_each_format_is_read_where_it_lies(tmp_path):
    affine = np.diag([-2.0, 1.5, 2.5, 1.0])
    nib.save(nib.MGHImage(phantom(), affine), tmp_path / "scan.mgz")
    nib.save(nib.Nifti1Pair(phantom(), affine), tmp_path / "scan.img")
    lps = {"space": "left-posterior-superior", "space directions": np.diag([2.0, -1.5, 2.5])}
    nrrd.write(str(tmp_path / "scan.nrrd"), phantom(), {**lps, "space origin": np.zeros(3)})
    for name in ("scan.mgz", "scan.img", "scan.hdr", "scan.nrrd"):
        reader = get_reader(str(tmp_path / name))
        assert reader is not None
        ((data, kwargs, _),) = reader(str(tmp_path / name))
        assert np.array_equal(data, phantom().transpose()[:, ::-1])  # +i is to the left here
        assert kwargs["scale"] == (2.5, 1.5, 2.0)
        assert kwargs["metadata"][KEY]["affine"] == pytest.approx(affine)


def test_what_only_has_the_name_of_half_a_nifti_pair_is_left_to_others(tmp_path):
    (tmp_path / "light.hdr").write_bytes(b"#?RADIANCE\n" + bytes(400))
    (tmp_path / "disk.img").write_bytes(bytes(400))
    (tmp_path / "light.img").touch()
    for name in ("light.hdr", "disk.img", "light.img"):
        assert get_reader(str(tmp_path / name)) is None


def test_a_folder_without_dicom_is_left_to_others_at_once(tmp_path):
    for name in ("empty", "pictures"):
        (tmp_path / name).mkdir()
    for n in range(300):
        (tmp_path / f"pictures/{n}.png").write_bytes(b"\x89PNG" + bytes(200))
    started = time.perf_counter()
    assert get_reader(str(tmp_path / "pictures")) is None
    assert get_reader(str(tmp_path / "empty")) is None
    assert time.perf_counter() - started < 0.5


@pytest.mark.gui
def test_napari_opens_each_series_of_a_dicom_folder_and_says_which_it_cannot(
    dicoms, tmp_path, make_napari_viewer, monkeypatch
):
    said = []
    monkeypatch.setattr("napari.utils.notifications.show_info", said.append)
    pixels = phantom().transpose(2, 1, 0).astype(np.uint16)
    folder = tmp_path / "exam"
    dicoms["write_series"](folder, pixels, SeriesNumber=3, prefix="a")
    reader = get_reader(str(folder))
    assert reader is not None
    assert [kwargs["name"] for _, kwargs, _ in reader(str(folder))] == ["exam"]
    dicoms["write_series"](folder, pixels + 1, SeriesNumber=8, prefix="b")
    gap = dicoms["write_series"](folder, pixels, SeriesNumber=9, prefix="c")
    gap[5].unlink()
    layers = make_napari_viewer().open(str(folder), plugin="napari-tokensparse")
    assert [layer.name for layer in layers] == ["exam 3", "exam 8"]
    assert np.array_equal(layers[1].data, pixels + 1)
    assert tuple(layers[1].scale) == (3.5, 1.25, 0.75)
    assert tuple(layers[1].translate) == (7.25, 22.5, -31.0)  # LPS: as in the files
    assert said[-1].startswith("exam 9: 1 of its slices, 3.5 mm apart, are missing between")


def test_a_bad_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "bad.nii").write_text("no image")
    reader = get_reader(str(tmp_path / "bad.nii"))
    with pytest.raises(VolumeError, match=r"bad\.nii: is not a NIfTI file"):
        reader(str(tmp_path / "bad.nii"))


@pytest.mark.gui
def test_an_oblique_file_is_shown_with_a_note(tmp_path, make_napari_viewer, monkeypatch):
    said = []
    monkeypatch.setattr("napari.utils.notifications.show_info", said.append)
    affine = np.eye(4)
    a = np.radians(10)
    affine[1:3, 1:3] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    nib.save(nib.Nifti1Image(phantom(), affine), tmp_path / "scan.nii")
    make_napari_viewer()
    read_layers(str(tmp_path / "scan.nii"))
    assert said == [
        "scan: shown turned straight by 10.0 degrees; files and tables keep the true positions"
    ]


def write_film(path, frames):
    image = nib.Nifti1Image(np.moveaxis(frames, 0, -1), np.diag([-2.0, 2.0, 3.0, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2.0
    nib.save(image, path)
    return path


def test_a_time_series_is_one_layer_with_a_slider_and_a_frame_of_it_lies_as_the_file(tmp_path):
    frames = np.random.default_rng(0).integers(0, 900, (5, 8, 9, 10)).astype(np.int16)
    path = write_film(tmp_path / "film.nii.gz", frames)
    ((array, kwargs, kind),) = read_layers(str(path))
    assert (kind, array.shape, kwargs["name"]) == ("image", (5, 10, 9, 8), "film")
    assert (kwargs["scale"], kwargs["axis_labels"]) == ((1, 3, 2, 2), ("frame", "z", "y", "x"))
    (note,) = kwargs["metadata"][KEY]["notes"]
    assert note.startswith("holds 5 frames, as the slider counts them: a command takes one with")
    split = stack_to_images(Image(array, **kwargs), 0)[3]  # as Split Stack in the list of layers
    volume, known = read_layer(split)
    assert known
    wanted = read_volume(path, frame=3)
    assert np.array_equal(volume.array, wanted.array)
    assert np.array_equal(volume.affine, wanted.affine)


def test_images_of_one_place_in_a_dicom_series_are_frames_with_what_tells_them_apart(
    dicoms, tmp_path
):
    pixels = np.random.default_rng(0).integers(0, 900, (2, 7, 8, 9)).astype(np.uint16)
    for echo, (time_ms, of) in enumerate(zip(("2.5", "7.5"), pixels, strict=True)):
        tags = {"SeriesInstanceUID": "1.2.3", "EchoTime": time_ms}
        dicoms["write_series"](tmp_path / "mr", of, prefix=f"E{echo}", **tags)
    ((array, kwargs, _),) = read_layers(str(tmp_path / "mr"))
    assert array.shape == (2, 7, 8, 9)
    assert np.array_equal(array[1], pixels[1])
    first, second = kwargs["metadata"][KEY]["notes"]
    assert "0 (echo time 2.5 ms), 1 (echo time 7.5 ms)" in first
    assert "choose Split Stack" in second
    assert kwargs["metadata"][KEY]["slices"] == ()
