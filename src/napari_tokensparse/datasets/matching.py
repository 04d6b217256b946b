"""Images and labels in two folders, matched by their names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_tokensparse.datasets.dataset import Case, DataError
from napari_tokensparse.volumes.reading import could_be_volume
from napari_tokensparse.volumes.volume import volume_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# How nnU-Net marks the channel in the name of an image's file.
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>[0-9]{4})", re.DOTALL)


def matched(images: Path, labels: Path, ending: str | None = None) -> list[Case]:
    """Find the cases of two folders: a label is called as its image.

    An image may be several files, one for each channel, whose names go on with ``_0000``, ``_0001``
    and so on.

    Parameters
    ----------
    images, labels
        The folders. What `read_volume` would not try is passed over.
    ending
        What names of files end in, in small letters; any that are read if not given.

    Raises
    ------
    DataError
        There are none, one has no partner, two have one name, or a channel is missing.
    """
    label_of = _labels(labels, ending)
    files_of = _images(images, ending, label_of)
    alone = [path for name, of in files_of.items() if name not in label_of for path in of.values()]
    alone += [path for name, path in label_of.items() if name not in files_of]
    if alone:
        listed = ", ".join(f"{path.parent.name}/{path.name}" for path in alone)
        raise DataError(
            f"{listed}: has no partner; name an image and its label alike (or case_0000, case_0001 "
            "and so on, and case, as nnU-Net does), or move it away"
        )
    if not files_of:
        raise DataError(
            f"{images}: holds no {ending or 'volume'}; give a folder of NIfTI, NRRD or MGH files, "
            "or of folders of DICOM series"
        )
    return [Case(name, _image(name, of), label_of[name]) for name, of in files_of.items()]


def channel_files(image: Path) -> tuple[Path, ...]:
    """Find the files that nnU-Net has of an image which a list names without its channel."""
    name = volume_name(image)
    suffix = image.name[len(name) :]
    files: list[Path] = []
    while (path := image.with_name(f"{name}_{len(files):04d}{suffix}")).exists():
        files.append(path)
    return tuple(files)


def case_name(image: Path) -> str:
    """Return the name of a case without that of the channel."""
    case, _ = case_and_channel(image)
    return case


def case_and_channel(image: Path) -> tuple[str, int | None]:
    """Return the name of a case, and the number of the channel if the file's name ends in one.

    Examples
    --------
    >>> from pathlib import Path
    >>> case_and_channel(Path("brain_7_0001.nii.gz")), case_and_channel(Path("brain_7.nii.gz"))
    (('brain_7', 1), ('brain_7', None))
    """
    marked = _CHANNEL.fullmatch(volume_name(image))
    return (marked["case"], int(marked["channel"])) if marked else (volume_name(image), None)


def is_volume(path: Path, ending: str | None = None) -> bool:
    """Whether a file, or a folder of DICOM, is a volume by its name."""
    # Archives made on a Mac hold a "._scan.nii.gz" beside each "scan.nii.gz".
    name = path.name.lower()
    if name.startswith(".") or name.endswith(".img"):  # the .hdr beside it stands for both
        return False
    return could_be_volume(path) and (ending is None or name.endswith(ending))


def _labels(folder: Path, ending: str | None) -> dict[str, Path]:
    by_name: dict[str, Path] = {}
    for path in _volumes(folder, ending):
        name = volume_name(path)
        if name in by_name:
            raise _both(by_name[name], path, name)
        by_name[name] = path
    return by_name


def _images(
    folder: Path, ending: str | None, label_of: Mapping[str, Path]
) -> dict[str, dict[int, Path]]:
    """Files by case and number of channel; one that is called as its label is all of them."""
    by_name: dict[str, dict[int, Path]] = {}
    whole: set[str] = set()
    for path in _volumes(folder, ending):
        name, channel = volume_name(path), 0
        marked = _CHANNEL.fullmatch(name)
        if name not in label_of and marked and marked["case"] in label_of:
            name, channel = marked["case"], int(marked["channel"])
        else:
            whole.add(name)
        of = by_name.setdefault(name, {})
        if of and (name in whole or channel in of):
            raise _both(next(iter(of.values())), path, name)
        of[channel] = path
    return by_name


def _image(name: str, files: Mapping[int, Path]) -> Path | tuple[Path, ...]:
    missing = sorted(set(range(max(files) + 1)) - files.keys())
    if missing:
        raise DataError(
            f"{name}: has no file of channel _{missing[0]:04d} beside "
            f"{', '.join(path.name for path in files.values())}; add it"
        )
    in_order = tuple(files[channel] for channel in sorted(files))
    return in_order[0] if len(in_order) == 1 else in_order


def _volumes(folder: Path, ending: str | None) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_volume(path, ending))


def _both(one: Path, other: Path, name: str) -> DataError:
    return DataError(f"{one.name}, {other.name}: are both {name}; keep one of them")
