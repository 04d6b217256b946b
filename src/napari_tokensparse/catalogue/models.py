"""What models there are: bundled, the user's own, and those that an index offers for download."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.resources import files
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_tokensparse.catalogue.fetching import DownloadError, fetch_text, is_url
from napari_tokensparse.common import settings
from napari_tokensparse.model.folder import (
    CARD,
    ModelError,
    available_models,
    bundled_models_folder,
    describe_folder,
    did_you_mean,
    origin_of,
)
from napari_tokensparse.volumes.definitions import working_spacing

if TYPE_CHECKING:
    from collections.abc import Sequence

INDEX_VARIABLE = "TOKENSPARSE_INDEX"
LARGEST_INDEX = 2**20
"""Bytes that an index may have."""
_LARGEST_CARD = 2**18

Where = Literal["bundled", "user", "downloadable"]


class Offer(BaseModel):
    """One model of an index.

    Attributes
    ----------
    name : str
        What the model is called, and its folder.
    url : str
        Where its archive is, a zip; https, but for this very machine.
    sha256 : str
        Hash of the archive.
    size : int
        Bytes of the archive.
    description, licence : str
        One line each.
    """

    model_config = ConfigDict(frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    url: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(gt=0)]
    description: str = ""
    licence: str = ""


class Index(BaseModel):
    """A list of models to download; ``format`` counts up when its form changes."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1]
    models: tuple[Offer, ...]


@dataclass(frozen=True)
class Listed:
    """A model as it is listed.

    Attributes
    ----------
    name, where, place
        Its name, whether it is here, and its folder or address.
    channels, classes
        Names; empty where they are not known.
    window, spacing
        Of a window: voxels, and mm per voxel; empty where not known or left as in the scan.
    keep_ratio
        The default of each stage.
    size
        Bytes, of the folder or of the archive.
    says
        First line of the card, or the index's description.
    licence
        As the index says.
    problem
        Why it cannot be used; empty for a good one.
    unfinished
        Whether the run that trained it was stopped, or goes on.
    """

    name: str
    where: Where
    place: str
    channels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    window: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    keep_ratio: tuple[float, ...] = ()
    size: int = 0
    says: str = ""
    licence: str = ""
    problem: str = ""
    unfinished: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def index_place(chosen: str | None = None) -> str:
    """Where the index is: what is given, or ``TOKENSPARSE_INDEX``, or the setting, or our own."""
    return (
        chosen
        or os.environ.get(INDEX_VARIABLE)
        or settings.current().models.index
        or str(files("napari_tokensparse") / "bundled" / "index.json")
    )


def read_index(place: str) -> Index:
    """Read an index.

    Parameters
    ----------
    place
        A file, or an https address.

    Raises
    ------
    DownloadError
        In one plain line: it cannot be read, or is not an index.
    """
    text = fetch_text(place, LARGEST_INDEX) if is_url(place) else _file_text(Path(place))
    try:
        index = Index.model_validate(json.loads(text))
    except ValidationError as error:
        raise DownloadError(f"{place}: not an index of models ({_first(error)})") from error
    except (ValueError, RecursionError) as error:
        raise DownloadError(f"{place}: not an index of models ({error})") from error
    names = [offer.name for offer in index.models]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DownloadError(f"{place}: names {', '.join(twice)} more than once")
    return index


def offer_of(name: str, index: Index, place: str) -> Offer:
    """Find a model in an index.

    Raises
    ------
    DownloadError
        There is none of this name; the line names similar ones.
    """
    offers = {offer.name: offer for offer in index.models}
    if name not in offers:
        raise DownloadError(f"model {name!r}: not in {place}{did_you_mean(name, offers)}")
    return offers[name]


def local_models() -> list[Listed]:
    """Describe the models of this machine, the bundled ones first."""
    described = [_describe(name, folder) for name, folder in available_models().items()]
    return sorted(described, key=lambda listed: listed.where != "bundled")


def offered_models(index: Index, here: Sequence[Listed]) -> list[Listed]:
    """List what an index offers beyond what is here."""
    names = {listed.name for listed in here}
    return [
        Listed(
            offer.name,
            "downloadable",
            offer.url,
            size=offer.size,
            says=plain(offer.description),
            licence=plain(offer.licence),
        )
        for offer in index.models
        if offer.name not in names
    ]


def card_of(name: str) -> str:
    """Read the card of a model of this machine.

    Raises
    ------
    ModelError
        There is no such model, or it has no card.
    """
    folder = folder_of(name)
    try:
        return _card_text(folder)
    except OSError as error:
        raise ModelError(f"{folder / CARD}: cannot be read ({error.strerror})") from error


def folder_of(name: str) -> Path:
    """Find the folder of a model of this machine.

    Raises
    ------
    ModelError
        There is no such model; the line names similar ones.
    """
    known = available_models()
    if name not in known:
        raise ModelError(
            f"model {name!r}: not on this machine, as `tokensparse models` lists"
            f"{did_you_mean(name, known)}"
        )
    return known[name]


def plain(text: str) -> str:
    """Leave out what could steer a terminal: all that is neither printable nor a line's end."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def _describe(name: str, folder: Path) -> Listed:
    where: Where = "bundled" if folder.parent == bundled_models_folder() else "user"
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    try:
        described, says = describe_folder(folder, hashed=False), _first_sentence(_card_text(folder))
    except (ModelError, OSError) as error:
        return Listed(name, where, str(folder), size=size, problem=plain(str(error)))
    config, info, origin = described.config, described.info, origin_of(folder)
    return Listed(
        name,
        where,
        str(folder),
        tuple(map(plain, info.channels)),
        tuple(plain(c.name) for c in info.classes),
        config.window,
        _spacing(info.preprocessing),
        config.keep_ratio,
        size,
        says,
        unfinished=origin is not None and origin.is_unfinished,
    )


def _spacing(preprocessing: Sequence[dict[str, Any]]) -> tuple[float, ...]:
    """Find the voxel size that a model resamples to; none if it does not, or does not say so."""
    with suppress(KeyError, TypeError, ValueError):
        return tuple(float(mm) for mm in working_spacing(preprocessing) or ())
    return ()


def _first_sentence(card: str) -> str:
    """Return the first sentence of a card, without marks of emphasis, or else its heading."""
    lines = [line.strip() for line in card.splitlines()]
    text = dropwhile(lambda line: not line or line.startswith("#"), lines)
    paragraph = " ".join(takewhile(bool, text)) or next(filter(None, lines), "").strip("# ")
    return re.sub(r"[*`]+", "", re.split(r"(?<=[.!?])\s", paragraph, maxsplit=1)[0])


def _card_text(folder: Path) -> str:
    with (folder / CARD).open("rb") as file:
        return plain(file.read(_LARGEST_CARD).decode("utf-8", "replace"))


def _file_text(file: Path) -> str:
    try:
        if file.stat().st_size > LARGEST_INDEX:
            raise DownloadError(f"{file}: not an index of models (over {LARGEST_INDEX} bytes)")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DownloadError(f"{file}: cannot be read ({error})") from error


def _first(error: ValidationError) -> str:
    """Say where an index is wrong, and how."""
    problem = error.errors(include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'all of it'}: {problem['msg']}"
