"""Data sets from files: dataset.json, a list of files, or two folders matched by name."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tokensparse.common.untrusted import json_object, printable
from napari_tokensparse.datasets.dataset import (
    Case,
    DataError,
    DataSet,
    channel_names,
    class_names,
    label_values,
)
from napari_tokensparse.volumes.volume import SUFFIXES, Volume, VolumeError, volume_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DATASET_JSON = "dataset.json"
FOLDERS = (("imagesTr", "labelsTr"), ("images", "labels"))
# How nnU-Net marks the first channel in the name of an image's file.
_FIRST_CHANNEL = "_0000"
_FORMS = (
    f"a {DATASET_JSON} or a folder with one, a folder with images and labels (or imagesTr and "
    "labelsTr), or two folders, images and labels"
)


@dataclass(frozen=True)
class _Classes:
    names: dict[int, str]
    unlabelled: int | None = None


def read_data_set(data: Path, labels: Path | None = None) -> DataSet:
    """Find the cases of a data set; no image is opened that need not be.

    Parameters
    ----------
    data
        One of: a ``dataset.json`` as the Medical Segmentation Decathlon or nnU-Net write it, or
        another list with ``training`` and perhaps ``validation``; a folder that holds a
        ``dataset.json``, or two folders ``images`` and ``labels``; with ``labels``, a folder of
        images or a single image.
    labels
        Folder of labels whose files are named as their images are, or the label of the one image.

    Returns
    -------
    DataSet
        With the validation cases that it lists; see :func:`~.cases.split` to hold some out. Where
        no names of classes are given, the values are those in the label files.

    Raises
    ------
    DataError
        It is none of these, an image has no label or the reverse, or a path leaves the data set's
        folder.
    """
    data = Path(data)
    if not data.exists():
        raise DataError(f"{data}: does not exist; give {_FORMS}")
    if labels is not None:
        return _from_pair(data, Path(labels))
    if data.is_file():
        return _from_json(data)
    if (data / DATASET_JSON).is_file():
        return _from_json(data / DATASET_JSON)
    return _from_folders(data)


def _from_pair(images: Path, labels: Path) -> DataSet:
    if not labels.exists():
        raise DataError(f"{labels}: does not exist; give the labels of {images.name}")
    if images.is_dir() and labels.is_dir():
        return _data_set(images.name, _matched(images, labels))
    if _is_volume(images) and _is_volume(labels):
        return _data_set(volume_name(images), [Case(volume_name(images), images, labels)])
    raise DataError(
        f"{images.name} and {labels.name}: give two folders, or one NIfTI image and its label; "
        "a list of files needs no labels beside it"
    )


def _from_folders(folder: Path) -> DataSet:
    return _data_set(folder.name, _cases_in(folder))


def _cases_in(folder: Path) -> list[Case]:
    for images, labels in FOLDERS:
        if (folder / images).is_dir() and (folder / labels).is_dir():
            return _matched(folder / images, folder / labels)
    lists = sorted(path.name for path in folder.glob("*.json"))
    hint = f"; or did you mean {', '.join(lists)}?" if lists else ""
    raise DataError(f"{folder}: holds no data set; give {_FORMS}{hint}")


def _matched(images: Path, labels: Path) -> list[Case]:
    label_of = _by_name(labels)
    image_of = _by_name(images, label_of)
    alone = [path for name, path in image_of.items() if name not in label_of]
    alone += [path for name, path in label_of.items() if name not in image_of]
    if alone:
        listed = ", ".join(f"{path.parent.name}/{path.name}" for path in alone)
        raise DataError(
            f"{listed}: has no partner; name an image and its label alike, or move it away"
        )
    if not image_of:
        raise DataError(f"{images}: holds no NIfTI file; give a folder of .nii.gz or .nii files")
    return [Case(name, path, label_of[name]) for name, path in image_of.items()]


def _by_name(folder: Path, label_of: Mapping[str, Path] | None = None) -> dict[str, Path]:
    """Files by name, in order; an image's name loses nnU-Net's ending where its label lacks it."""
    found: dict[str, Path] = {}
    for path in sorted(filter(_is_volume, folder.iterdir())):
        name = volume_name(path)
        short = name.removesuffix(_FIRST_CHANNEL)
        if label_of is not None and name not in label_of and short in label_of:
            name = short
        if name in found:
            raise DataError(f"{found[name].name}, {path.name}: are both {name}; keep one of them")
        found[name] = path
    return found


def _is_volume(path: Path) -> bool:
    # Archives made on a Mac hold a "._scan.nii.gz" beside each "scan.nii.gz".
    name = path.name.lower()
    return path.is_file() and name.endswith(SUFFIXES) and not name.startswith(".")


def _from_json(path: Path) -> DataSet:
    content = _content(path)
    folder = path.parent
    training = _listed(content, "training", folder) if "training" in content else _cases_in(folder)
    validation = _listed(content, "validation", folder) if "validation" in content else []
    cases = _unambiguous([*training, *validation], folder)
    return _data_set(
        _plain(content.get("name") or Path(os.path.abspath(folder)).name),
        cases[: len(training)],
        cases[len(training) :],
        _channels(content, path.name),
        _classes(content["labels"], path.name) if content.get("labels") else None,
    )


def _plain(name: Any) -> str:
    """Make a name of what a list gives as one: models are called by it."""
    return printable(str(name)).replace("/", "-").replace("\\", "-")[:200]


def _content(path: Path) -> dict[str, Any]:
    try:
        return json_object(path)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path.name}: is not JSON ({reason}); give {_FORMS}") from error


def _listed(content: Mapping[str, Any], part: str, folder: Path) -> list[Case]:
    items = content[part]
    if not isinstance(items, list):
        raise DataError(f"{part}: must be a list of objects with image and label")
    return [_case(item, f"{part} {n}", folder) for n, item in enumerate(items, 1)]


def _case(item: Any, which: str, folder: Path) -> Case:
    if not isinstance(item, dict) or not {"image", "label"} <= item.keys():
        raise DataError(f"{which}: must be an object with image and label")
    image = _inside(item["image"], f"{which}: image", folder)
    return Case(volume_name(image), image, _inside(item["label"], f"{which}: label", folder))


def _inside(text: Any, which: str, folder: Path) -> Path:
    if not isinstance(text, str) or not text:
        raise DataError(f"{which} {text!r}: must be one path; put all channels into one 4-D file")
    path = os.path.normpath(text)
    if os.path.isabs(path) or Path(path).parts[:1] == ("..",):
        raise DataError(f"{which} {text!r}: must be a path inside the data set's folder")
    return folder / path


def _unambiguous(cases: Sequence[Case], folder: Path) -> list[Case]:
    """Name cases by their folders too where the names of the files alone are not enough."""
    if max(Counter(case.name for case in cases).values(), default=1) == 1:
        return list(cases)
    return [Case(_long_name(case.image, folder), case.image, case.label) for case in cases]


def _long_name(image: Path | Volume, folder: Path) -> str:
    assert isinstance(image, Path)
    return volume_name("-".join(image.relative_to(folder).parts))


def _channels(content: Mapping[str, Any], file: str) -> tuple[str, ...] | None:
    names = content.get("modality") or content.get("channel_names")
    if not names:
        return None
    if not isinstance(names, dict) or sorted(names) != sorted(map(str, range(len(names)))):
        raise DataError(f'{file}: channels {names!r}: must be like {{"0": "CT"}}')
    return tuple(str(names[str(n)]) for n in range(len(names)))


def _classes(labels: Any, file: str) -> _Classes:
    """Classes of ``{"0": "background"}`` (Decathlon) or ``{"background": 0}`` (nnU-Net)."""
    if not isinstance(labels, dict):
        raise DataError(f'{file}: labels {labels!r}: must be like {{"0": "background"}}')
    pairs = list(labels.items())
    if not all(key.isdecimal() for key in labels):
        pairs = [(value, name) for name, value in pairs]
    names: dict[int, str] = {}
    for value, name in pairs:
        number = _value(value, name, file)
        if number in names:
            raise DataError(f"{file}: label {number}: has two names; give it one")
        names[number] = str(name)
    unlabelled = next((value for value, name in names.items() if name == "ignore"), None)
    kept = {v: names[v] for v in sorted(names) if v not in (0, unlabelled)}
    return _Classes(kept, unlabelled)


def _value(value: Any, name: Any, file: str) -> int:
    if not isinstance(value, (int, str)) or not str(value).isdecimal():
        raise DataError(f"{file}: label {name!r}: {value!r}: must be a whole number from 0")
    return int(value)


def _data_set(
    name: str,
    training: Sequence[Case],
    validation: Sequence[Case] = (),
    channels: tuple[str, ...] | None = None,
    classes: _Classes | None = None,
) -> DataSet:
    cases = (*training, *validation)
    known = classes or _Classes(class_names(label_values(_readable_labels(cases))))
    if not known.names:
        what = "no label file holds a class" if classes is None else "names no class"
        raise DataError(f"{name}: {what} beside background; label or name at least one")
    return DataSet(
        name=name,
        channels=channels or _first_channels(cases),
        labels=known.names,
        training=tuple(training),
        validation=tuple(validation),
        unlabelled=known.unlabelled,
    )


def _readable_labels(cases: Sequence[Case]) -> Iterator[Volume]:
    """Every label that can be read; what is wrong with the others, the check of the data says."""
    for case in cases:
        try:
            yield case.read_label()
        except VolumeError:
            continue


def _first_channels(cases: Sequence[Case]) -> tuple[str, ...]:
    for case in cases:
        try:
            return channel_names(case.read_image(finite=False))
        except VolumeError:
            continue
    raise DataError("no image can be read; give NIfTI files (.nii.gz or .nii)")
