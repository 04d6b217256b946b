"""Model folders as files: where they lie and what they say of themselves, without torch."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from napari_tokensparse.common import settings
from napari_tokensparse.common.files import file_sha256, how_to_fetch
from napari_tokensparse.common.surroundings import user_place
from napari_tokensparse.common.untrusted import PlainError, json_object, one_line
from napari_tokensparse.model.config import SCDConfig
from napari_tokensparse.model.info import ModelInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

METADATA = Path("configs/metadata.json")
INFERENCE = Path("configs/inference.json")
WEIGHTS = Path("models/model.safetensors")
CARD = Path("docs/README.md")
BUNDLE_FILES = (METADATA, INFERENCE, WEIGHTS, CARD)
"""The files that make a model folder, and are written together."""
OUR_KEY = "napari_tokensparse"
AUTHORS_CONFIG = "config.json"
"""What a folder of the paper's authors holds beside its weights."""
ORIGIN_KEY = "napari_tokensparse_training"
"""In ``configs/metadata.json``: what an `Origin` holds."""
_Text = Annotated[str, Field(max_length=200)]
_STOPPED = ("", "stopped")
_MAX_HEADER = 8 * 2**20  # bytes of names and shapes in a weights file
_KEPT_IN = (Path(".git/annex/objects"), Path(".dvc/cache"))
USER_FOLDER_VARIABLE = "TOKENSPARSE_MODELS"

# What MONAI's tools do before the model's own preprocessing.
LOAD_TRANSFORMS: tuple[dict[str, Any], ...] = (
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
)


class ModelError(PlainError):
    """A model folder or checkpoint that cannot be used; one plain line says why."""


class Described(Protocol):
    """What both a loaded model and the description of a folder have."""

    @property
    def config(self) -> SCDConfig:
        """Sizes and choices of the network."""

    @property
    def info(self) -> ModelInfo:
        """What the model says of itself."""


class Beginning(BaseModel):
    """A model that another one was trained from.

    Attributes
    ----------
    name, weights_sha256 : str
        What it is called, and the hash of its weights; the latter is empty where it is not known.
    """

    model_config = ConfigDict(frozen=True)

    name: _Text
    weights_sha256: _Text = ""


class Origin(BaseModel):
    """The run that a model comes from.

    Attributes
    ----------
    ended : str
        Why it ended, as `napari_tokensparse.training.events.Finished` says; empty while it goes on,
        and of a run that was killed.
    step : int
        Steps behind the weights.
    began_from : Beginning or None
        The model that it began from; None: random weights.
    """

    model_config = ConfigDict(frozen=True)

    ended: _Text = ""
    step: NonNegativeInt = 0
    began_from: Beginning | None = None

    @property
    def is_unfinished(self) -> bool:
        """Whether the run was stopped, killed, or goes on."""
        return self.ended in _STOPPED


@dataclass(frozen=True)
class Description:
    """What a model folder says: the network's config and the model's info."""

    config: SCDConfig
    info: ModelInfo


def available_models() -> dict[str, Path]:
    """Model folders by name: the bundled ones, then the user's."""
    return {
        folder.name: folder
        for root in (bundled_models_folder(), user_models_folder())
        for folder in _folders(root)
        if is_bundle(folder)
    }


def _folders(root: Path) -> list[Path]:
    """List a folder; one that is not there, or not ours to look into, holds nothing."""
    try:
        return sorted(root.iterdir())
    except OSError:
        return []


def bundled_models_folder() -> Path:
    """Where the models lie that come with the package."""
    return Path(str(files("napari_tokensparse"))) / "bundled"


def user_models_folder() -> Path:
    """Where a user's own models lie: ``TOKENSPARSE_MODELS``, or the setting, or the data folder."""
    chosen = os.environ.get(USER_FOLDER_VARIABLE) or settings.current().models.folder
    if chosen:
        return Path(os.path.expanduser(chosen))
    return user_place(lambda: platformdirs.user_data_path("napari-tokensparse")) / "models"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Name what is spelt nearly like ``name``, as the end of a sentence; empty if nothing is."""
    near = get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds a model in bundle form."""
    return (folder / METADATA).is_file()


def no_model(folder: Path) -> str:
    """Say in one line why a folder is no model; empty for one that is."""
    if is_bundle(folder) or (folder / AUTHORS_CONFIG).is_file():
        return ""
    return (
        f"{folder} is no model folder: it holds neither {METADATA.as_posix()} nor an authors' "
        f"{AUTHORS_CONFIG}; choose the folder itself, not the one around it."
    )


def describe_folder(folder: Path, *, hashed: bool = True) -> Description:
    """Read what a model folder says of itself; nothing in it is evaluated.

    Parameters
    ----------
    folder
        A model folder in bundle form.
    hashed
        Whether to read the weights through for their hash, which a receipt holds.

    Raises
    ------
    ModelError
        A file is missing or does not fit; the line names it.
    """
    for part in (METADATA, INFERENCE, WEIGHTS):
        _check_inside(folder, part)
    metadata, inference = _read_json(folder / METADATA), _read_json(folder / INFERENCE)
    with _naming(folder / METADATA):
        ours = metadata[OUR_KEY]
        config, said = SCDConfig(**ours["network"]), dict(ModelInfo(**ours["info"]))
        _check_agreement(config, ModelInfo(**said))
    with _naming(folder / WEIGHTS):
        check_weights_size(folder / WEIGHTS, config)
        if hashed:
            said["weights_sha256"] = file_sha256(folder / WEIGHTS)
    with _naming(folder / INFERENCE):
        said["preprocessing"] = _own_transforms(inference)
        said["overlap"] = inference["inferer"]["overlap"]
        said["blending"] = inference["inferer"]["mode"]
        return Description(config, ModelInfo(**said))


def origin_of(folder: Path) -> Origin | None:
    """Read what a model folder says of its run; None where it says nothing that can be read."""
    with suppress(OSError, ValueError, KeyError):  # what pydantic refuses is a ValueError
        return Origin.model_validate(json_object(folder / METADATA)[ORIGIN_KEY])
    return None


def shown_name(folder: Path) -> str:
    """Name a model folder as lists do: one of a run that did not end by itself says so."""
    origin = origin_of(folder)
    unfinished = origin is not None and origin.is_unfinished
    return f"{folder.name} (unfinished)" if unfinished else folder.name


def check_weights_size(path: Path, config: SCDConfig) -> None:
    """Refuse weights that cannot hold a network, before any of it is made.

    Raises
    ------
    ValueError
        The file only stands for weights elsewhere, or has fewer bytes than the network parameters.
    OSError
        It cannot be read.
    """
    fetch = how_to_fetch(path)
    if fetch is not None:
        raise ValueError(f"{path.name} only stands for the weights; fetch them with {fetch}")
    size, fewest, file = path.stat().st_size, config.fewest_parameters, path.name
    if size < fewest:
        raise ValueError(f"{file} has {size} bytes; its network has {fewest} parameters or more")
    with path.open("rb") as opened:
        header = int.from_bytes(opened.read(8), "little")
    if path.suffix == WEIGHTS.suffix and header > _MAX_HEADER:
        raise ValueError(f"{file} claims a header of {header} bytes: at most {_MAX_HEADER}")


def _check_inside(folder: Path, part: Path) -> None:
    """Refuse a file that is a link to somewhere else, or no file."""
    path = folder / part
    really = path.resolve()
    if not any(really.is_relative_to(store.resolve()) for store in _stores(folder)):
        raise ModelError(f"{path}: leads out of the model folder; put the file itself there")
    if path.exists() and not path.is_file():
        raise ModelError(f"{path}: is not a file")


def _stores(folder: Path) -> list[Path]:
    """Return where a folder's files may lie: in it, or in the store of what it is kept by.

    Those are its repository in the hub's cache, and of the folders that it lies in the stores of
    git-annex (datalad) and DVC.
    """
    *_, repository, snapshots, _revision = ("", "", "", *folder.parts)
    hub = snapshots == "snapshots" and repository.startswith("models--")
    whole = Path(os.path.abspath(folder))
    kept = [above / store for above in (whole, *whole.parents) for store in _KEPT_IN]
    return [folder, *([folder.parents[1]] if hub else []), *filter(Path.is_dir, kept)]


def _check_agreement(config: SCDConfig, info: ModelInfo) -> None:
    outputs = len(info.label_values)
    if outputs != config.out_channels:
        raise ValueError(
            f"{len(info.classes)} classes need {outputs} output channels; the network has "
            f"{config.out_channels}"
        )
    if len(info.channels) != config.in_channels:
        raise ValueError(
            f"names {len(info.channels)} image channels; the network takes {config.in_channels}"
        )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in whatever is wrong with its content."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: not a model of ours ({one_line(error)})") from error


def _own_transforms(inference: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    transforms = inference["preprocessing"]["transforms"]
    if not isinstance(transforms, list):
        raise TypeError("preprocessing: transforms must be a list")
    return tuple(t for t in transforms if t not in LOAD_TRANSFORMS)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json_object(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({one_line(error)})") from error
