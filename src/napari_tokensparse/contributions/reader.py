"""The npe2 reader: layers placed where the patient is, in millimetres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tokensparse.volumes.volume import Volume

LayerData: TypeAlias = tuple[Any, dict[str, Any], str]
Reader: TypeAlias = Callable[[str | Sequence[str]], list[LayerData]]


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Return what reads every path: volumes by name, DICOM folders, or model folders to list."""
    if all(map(_is_model, _paths(path))):
        return add_models
    return read_layers if all(map(_is_ours, _paths(path))) else None


def add_models(path: str | Sequence[str]) -> list[LayerData]:
    """List model folders among the models to segment with; there is no layer to show.

    Returns
    -------
    list
        What napari takes for "read, and no layer": ``[(None,)]``.
    """
    from pathlib import Path

    from napari.utils.notifications import show_info

    from napari_tokensparse.model.folder import user_models_folder
    from napari_tokensparse.widgets.controls import models

    for folder in (Path(one).absolute() for one in _paths(path)):
        models.add(folder)
        show_info(
            f"{folder.name} is listed among the models until napari closes; to keep it there, put "
            f"its folder into {user_models_folder()}."
        )
    nothing: list[Any] = [(None,)]
    return nothing


def read_layers(path: str | Sequence[str]) -> list[LayerData]:
    """Read files or DICOM folders: labels where the header says so, else an image per channel.

    Of a folder every series is read that makes a volume; a message tells of the others. A time
    series, or a DICOM series of several images of each place, is one layer with a slider.

    Returns
    -------
    list
        Of (array (z, y, x), or (frame, z, y, x), layer arguments, layer type); the arrays share the
        files' memory.

    Raises
    ------
    VolumeError
        In one line, if a file is not a usable volume.
    """
    layers: list[LayerData] = []
    problems: list[str] = []
    for one in _paths(path):
        read, unread = _layers_of(one)
        layers += read
        problems += unread
    _show_notes(layers, problems)
    return layers


def _layers_of(path: str) -> tuple[list[LayerData], list[str]]:
    from pathlib import Path

    from napari_tokensparse.volumes.reading import is_zarr

    if is_zarr(Path(path)):
        return _pyramid(Path(path)), []
    volumes, films, problems = _read(path)
    layers = [layer for volume in volumes for layer in volume_layers(volume)]
    return [*layers, *map(film_layer, films)], problems


def _pyramid(path: Path) -> list[LayerData]:
    """Return the layers of OME-Zarr: all levels, which napari reads as it shows them."""
    from napari_tokensparse.volumes.omezarr import holds_labels, read_levels
    from napari_tokensparse.volumes.volume import TimeSeriesError

    try:
        first, *coarser = [volume_layers(level) for level in read_levels(path)]
    except TimeSeriesError:
        levels = read_levels(path, time_is_channels=True)
        first, *coarser = [[film_layer(level)] for level in levels]
    layers = []
    for channel, (array, said, kind) in enumerate(first):
        kind = "labels" if holds_labels(path) else kind
        levels = [array, *(level[channel][0] for level in coarser)]
        several = len(levels) > 1
        layers.append((levels if several else array, {**said, "multiscale": several}, kind))
    return layers


def _read(path: str) -> tuple[list[Volume], list[Volume], list[str]]:
    """Return volumes, those whose first axis is of frames, and why others cannot be read."""
    from pathlib import Path

    from napari_tokensparse.volumes.dicom.folder import read_each
    from napari_tokensparse.volumes.reading import read_volume
    from napari_tokensparse.volumes.volume import TimeSeriesError

    if Path(path).is_dir():
        return read_each(Path(path))
    try:
        return [read_volume(path)], [], []
    except TimeSeriesError:
        return [], [read_volume(path, time_is_channels=True)], []


def film_layer(volume: Volume) -> LayerData:
    """Return the layer of a volume whose first axis is of frames, not of channels: with a slider.

    One of its frames that is split off as a layer lies where the file's voxels do.
    """
    from dataclasses import replace

    from napari_tokensparse.volumes.placement import layer_kwargs, placement_of

    note = (
        f"holds {len(volume.array)} frames, as the slider counts them: a command takes one with "
        "--frame N; to segment one here, right-click the layer and choose Split Stack"
    )
    said = layer_kwargs(replace(volume, notes=(*volume.notes, note)))
    shown = placement_of(volume.affine, volume.shape).view(volume.array)
    film = {
        "name": volume.name,
        "scale": (1.0, *said["scale"]),
        "translate": (0.0, *said["translate"]),
        "units": ("pixel", *said["units"]),
        "axis_labels": ("frame", *said["axis_labels"]),
    }
    return shown, {**said, **film}, "image"


def volume_layers(volume: Volume) -> list[LayerData]:
    """Return a volume's layers, one for each channel, named ``<name>`` or ``<name> <channel>``."""
    from napari_tokensparse.volumes.placement import layer_kwargs, placement_of

    kind = "labels" if volume.is_labels else "image"
    shown = placement_of(volume.affine, volume.shape).view(volume.array)
    names = [volume.name]
    if len(shown) > 1:
        channels = volume.channel_names or tuple(str(n) for n in range(1, len(shown) + 1))
        names = [f"{volume.name} {channel}" for channel in channels]
    return [
        (array, {"name": name, **layer_kwargs(volume, channel), **_limits(array, kind)}, kind)
        for channel, (array, name) in enumerate(zip(shown, names, strict=True))
    ]


def _limits(array: Any, kind: str) -> dict[str, Any]:
    """Show CT in the window of soft tissue; anything else is napari's to choose."""
    from napari_tokensparse.volumes.ctwindows import WINDOWS, could_be_ct
    from napari_tokensparse.volumes.volume import is_lazy

    if kind == "image" and not is_lazy(array) and could_be_ct(array):
        return {"contrast_limits": WINDOWS["soft tissue"]}
    return {}


def _is_model(path: str) -> bool:
    from pathlib import Path

    from napari_tokensparse.model.folder import is_bundle

    return is_bundle(Path(path))


def _is_ours(path: str) -> bool:
    from pathlib import Path

    from napari_tokensparse.volumes.reading import could_be_volume

    return could_be_volume(Path(path))


def _paths(path: str | Sequence[str]) -> list[str]:
    return [path] if isinstance(path, str) else [str(p) for p in path]


def _show_notes(layers: Sequence[LayerData], problems: Sequence[str]) -> None:
    """Turn the viewer, if there is one, to the patient's sides, and pass on notes and problems."""
    import napari
    from napari.utils.notifications import show_info

    from napari_tokensparse.volumes.placement import KEY

    viewer = napari.current_viewer()
    if viewer is None:
        return
    from napari_tokensparse.contributions.ctwindows import widen
    from napari_tokensparse.widgets.patient import show_patient_sides
    from napari_tokensparse.widgets.savedialog import watch_save_dialog

    watch_save_dialog()
    show_patient_sides(viewer)
    viewer.layers.events.inserted.connect(widen)  # once, however often
    read = [kwargs["metadata"][KEY] for _, kwargs, _ in layers]
    notes = [f"{one['name']}: {note}" for one in read for note in one["notes"]]
    for text in dict.fromkeys((*notes, *problems)):
        show_info(text)
