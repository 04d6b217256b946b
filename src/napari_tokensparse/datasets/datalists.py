"""Data sets from files: dataset.json, a list of files, or two folders matched by name."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tokensparse.common.paths import path_here
from napari_tokensparse.common.tables import NOT_UTF8, TABLE_SUFFIXES, read_rows
from napari_tokensparse.common.untrusted import PlainError, json_object, printable
from napari_tokensparse.datasets.dataset import (
    Case,
    DataError,
    DataSet,
    channel_names,
    class_names,
    label_values,
)
from napari_tokensparse.datasets.matching import case_name, channel_files, is_volume, matched
from napari_tokensparse.volumes.volume import READ_SUFFIXES, Volume, VolumeError, volume_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DATASET_JSON = "dataset.json"
FOLDERS = (("imagesTr", "labelsTr"), ("images", "labels"))
_FORMS = (
    f"a {DATASET_JSON} or a folder with one, a list of cases (JSON or CSV), a folder with images "
    "and labels (or imagesTr and labelsTr), or two folders, images and labels"
)


@dataclass(frozen=True)
class _Classes:
    names: dict[int, str]
    unlabelled: int | None = None


@dataclass(frozen=True)
class _Listed:
    """Cases of a list."""

    training: list[Case]
    validation: list[Case]
    notes: tuple[str, ...] = ()


def read_data_set(data: Path, labels: Path | None = None, fold: int | None = None) -> DataSet:
    """Find the cases of a data set; no image is opened that need not be.

    Parameters
    ----------
    data
        One of: a ``dataset.json`` as the Medical Segmentation Decathlon or nnU-Net write it, or
        another list with ``training`` and perhaps ``validation``; a CSV with the columns ``image``
        and ``label``; a folder that holds a ``dataset.json``, or two folders ``images`` and
        ``labels``; with ``labels``, a folder of images or a single image.
    labels
        Folder of labels whose files are named as their images are, or the label of the one image.
    fold
        Which ``fold`` of a list that has them is held out for validation: the lowest one if not
        given and the list names no validation cases.

    Returns
    -------
    DataSet
        With the validation cases that it lists; see :func:`~.cases.split` to hold some out. Where
        no names of classes are given, the values are those in the label files.

    Raises
    ------
    DataError
        It is none of these, an image has no label or the reverse, a path leaves the data set's
        folder, or there is no such fold.
    """
    data = Path(data)
    if not data.exists():
        raise DataError(f"{data}: does not exist; give {_FORMS}")
    if labels is None and (data / DATASET_JSON).is_file():
        data = data / DATASET_JSON
    if labels is None and data.is_file():
        return _from_list(data, fold)
    if fold is not None:
        raise _no_folds(fold)
    return (
        _data_set(data.name, _cases_in(data)) if labels is None else _from_pair(data, Path(labels))
    )


def _from_pair(images: Path, labels: Path) -> DataSet:
    if not labels.exists():
        raise DataError(f"{labels}: does not exist; give the labels of {images.name}")
    if images.is_dir() and labels.is_dir():
        return _data_set(images.name, matched(images, labels))
    if is_volume(images) and is_volume(labels):
        return _data_set(volume_name(images), [Case(volume_name(images), images, labels)])
    raise DataError(
        f"{images.name} and {labels.name}: give two folders, or one image and its label; "
        "a list of files needs no labels beside it"
    )


def _cases_in(folder: Path, ending: str | None = None) -> list[Case]:
    for images, labels in FOLDERS:
        if (folder / images).is_dir() and (folder / labels).is_dir():
            return matched(folder / images, folder / labels, ending)
    lists = sorted(path.name for path in folder.glob("*.json"))
    hint = f"; or did you mean {', '.join(lists)}?" if lists else ""
    raise DataError(f"{folder}: holds no data set; give {_FORMS}{hint}")


def _from_list(path: Path, fold: int | None) -> DataSet:
    content = _content(path)
    folder = path.parent
    listed = _cases(content, path, fold)
    cases = _unambiguous([*listed.training, *listed.validation], folder)
    made = _data_set(
        _plain(content.get("name") or Path(os.path.abspath(folder)).name),
        cases[: len(listed.training)],
        cases[len(listed.training) :],
        _channels(content, path.name),
        _classes(content["labels"], path.name) if content.get("labels") else None,
    )
    return replace(made, notes=(*listed.notes, *_miscounted(content, path.name, len(cases))))


def _cases(content: Mapping[str, Any], path: Path, fold: int | None) -> _Listed:
    """Read what a list names, or find what lies in nnU-Net's folders beside it."""
    folder = path.parent
    if "training" not in content:
        nnunet = content.get("dataset")
        if isinstance(nnunet, dict):
            cases = _nnunets(nnunet, folder)
        else:
            cases = _cases_in(folder, _ending(content, path.name))
        return _by_fold(cases, [], [None] * len(cases), fold)
    items = _items(content, "training")
    cases = [_case(item, f"training {n}", folder) for n, item in enumerate(items, 1)]
    held_out = _items(content, "validation") if "validation" in content else []
    validation = [_case(item, f"validation {n}", folder) for n, item in enumerate(held_out, 1)]
    folds = [_fold(item.get("fold"), f"training {n}") for n, item in enumerate(items, 1)]
    return _by_fold(cases, validation, folds, fold)


def _by_fold(
    cases: list[Case], validation: list[Case], folds: Sequence[int | None], chosen: int | None
) -> _Listed:
    """Hold out the cases of one fold; those of none are always trained on."""
    there = sorted({fold for fold in folds if fold is not None})
    if not there:
        if chosen is not None:
            raise _no_folds(chosen)
        return _Listed(cases, validation)
    named = ", ".join(map(str, there))
    if chosen is None and (validation or len(there) == 1):
        why = "validation cases are listed" if validation else "it is the only one"
        return _Listed(cases, validation, (f"Folds ({named}) are not used: {why}.",))
    held_out = there[0] if chosen is None else chosen
    if held_out not in there:
        raise DataError(f"fold {held_out}: the list has {named}; choose one of them")
    parted = [case for case, fold in zip(cases, folds, strict=True) if fold == held_out]
    training = [case for case, fold in zip(cases, folds, strict=True) if fold != held_out]
    note = f"Fold {held_out} of {named} is held out: {len(parted)} of {len(cases)} cases."
    return _Listed(training, [*validation, *parted], (note,))


def _no_folds(chosen: int) -> DataError:
    return DataError(f"fold {chosen}: no case has a fold; leave it out, or give each one a fold")


def _fold(value: Any, which: str) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).isdecimal():
        raise DataError(f"{which}: fold {value!r}: must be a whole number from 0")
    return int(value)


def _ending(content: Mapping[str, Any], file: str) -> str | None:
    """Return what nnU-Net's files end in."""
    ending = content.get("file_ending")
    if ending is None:
        return None
    if not isinstance(ending, str) or ending.lower() not in READ_SUFFIXES:
        raise DataError(
            f"{file}: file_ending {ending!r}: must be one of {', '.join(READ_SUFFIXES)}; convert "
            "the files"
        )
    return ending.lower()


def _miscounted(content: Mapping[str, Any], file: str, count: int) -> tuple[str, ...]:
    said = content.get("numTraining")
    if not isinstance(said, int) or said == count or "training" in content:
        return ()
    return (f"{file} says {said} training cases (numTraining), and {count} are there.",)


def _plain(name: Any) -> str:
    """Make a name of what a list gives as one: models are called by it."""
    return printable(str(name)).replace("/", "-").replace("\\", "-")[:200]


def _content(path: Path) -> dict[str, Any]:
    if path.suffix.lower() in TABLE_SUFFIXES:
        return {"training": _rows(path)}
    try:
        return json_object(path)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path.name}: is not JSON ({reason}); give {_FORMS}") from error


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        columns, rows = read_rows(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or NOT_UTF8
        raise DataError(f"{path.name}: cannot be read ({reason}); give a CSV of cases") from error
    missing = [name for name in ("image", "label") if name not in columns]
    if missing:
        raise DataError(
            f"{path.name}: has no column {' and no column '.join(missing)}; its first line must "
            "name image and label"
        )
    return rows


def _items(content: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    items = content[part]
    if not isinstance(items, list):
        raise DataError(f"{part}: must be a list of objects with image and label")
    for n, item in enumerate(items, 1):
        if not isinstance(item, dict) or not {"image", "label"} <= item.keys():
            raise DataError(f"{part} {n}: must be an object with image and label")
    return items


def _case(item: Mapping[str, Any], which: str, folder: Path) -> Case:
    image = _image(item["image"], f"{which}: image", folder)
    label = _inside(item["label"], f"{which}: label", folder)
    name = case_name(image[0]) if isinstance(image, tuple) else volume_name(image)
    return Case(name, image, label)


def _nnunets(listed: Mapping[str, Any], folder: Path) -> list[Case]:
    """Read the ``dataset`` of a dataset.json, where nnU-Net names the files of each case."""
    for name, item in listed.items():
        if not isinstance(item, dict) or not {"images", "label"} <= item.keys():
            raise DataError(f"dataset {name}: must be an object with images and label")
    return [
        Case(
            name,
            _image(item["images"], f"dataset {name}: images", folder),
            _inside(item["label"], f"dataset {name}: label", folder),
        )
        for name, item in listed.items()
    ]


def _image(value: Any, which: str, folder: Path) -> Path | tuple[Path, ...]:
    """Read the path of an image, or a list with one for each channel."""
    if isinstance(value, list) and value:
        files = tuple(_inside(text, which, folder) for text in value)
        return files[0] if len(files) == 1 else files
    image = _inside(value, which, folder)
    files = () if image.exists() else channel_files(image)
    if not files:
        return image
    return files[0] if len(files) == 1 else files


def _inside(text: Any, which: str, folder: Path) -> Path:
    if not isinstance(text, str) or not text:
        raise DataError(f"{which} {text!r}: must be a path (of an image: or one for each channel)")
    try:
        path = os.path.normpath(path_here(text, folder))
    except PlainError as error:
        raise DataError(f"{which} {error}") from error
    if os.path.isabs(path):  # relpath of two drives of Windows is an error
        within = Path(path).is_relative_to(os.path.abspath(folder))
        path = os.path.relpath(path, folder) if within else path
    if os.path.isabs(path) or Path(path).parts[:1] == ("..",):
        raise DataError(f"{which} {text!r}: must be a path inside the data set's folder")
    return folder / path


def _unambiguous(cases: Sequence[Case], folder: Path) -> list[Case]:
    """Name cases by their folders too where the names of the files alone are not enough."""
    if max(Counter(case.name for case in cases).values(), default=1) == 1:
        return list(cases)
    return [Case(_long_name(case.image, folder), case.image, case.label) for case in cases]


def _long_name(image: Path | tuple[Path, ...] | Volume, folder: Path) -> str:
    assert not isinstance(image, Volume)
    if isinstance(image, tuple):
        return "-".join([*image[0].relative_to(folder).parent.parts, case_name(image[0])])
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
    if isinstance(value, list):
        raise DataError(
            f"{file}: label {name!r}: {value!r}: is a region of several values, and regions are "
            "not read from here; name each value by itself (recipe brats makes its regions of them)"
        )
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
        why = "" if classes is not None else next(_label_faults(cases), "")
        raise DataError(f"{name}: {what} beside background{why}; label or name at least one")
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


def _label_faults(cases: Sequence[Case]) -> Iterator[str]:
    """Say of labels that cannot be read why."""
    for case in cases:
        try:
            case.read_label()
        except VolumeError as error:
            yield f" ({error})"


def _first_channels(cases: Sequence[Case]) -> tuple[str, ...]:
    for case in cases:
        try:
            return channel_names(case.read_image(finite=False))
        except VolumeError:
            continue
    raise DataError("no image can be read; give NIfTI, NRRD or MGH files, or DICOM folders")
