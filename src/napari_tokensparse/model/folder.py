"""Model folders as files: where they lie and what they say of themselves, without torch."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from napari_tokensparse import _settings
from napari_tokensparse.model.config import SCDConfig
from napari_tokensparse.model.info import ModelInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

METADATA = Path("configs/metadata.json")
INFERENCE = Path("configs/inference.json")
WEIGHTS = Path("models/model.safetensors")
CARD = Path("docs/README.md")
OUR_KEY = "napari_tokensparse"
USER_FOLDER_VARIABLE = "TOKENSPARSE_MODELS"

# What MONAI's tools do before the model's own preprocessing.
LOAD_TRANSFORMS: tuple[dict[str, Any], ...] = (
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
)


class ModelError(ValueError):
    """A model folder or checkpoint that cannot be used; one plain line says why."""


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
        if root.is_dir()
        for folder in sorted(root.iterdir())
        if is_bundle(folder)
    }


def bundled_models_folder() -> Path:
    """Where the models lie that come with the package."""
    return Path(str(files("napari_tokensparse"))) / "models"


def user_models_folder() -> Path:
    """Where a user's own models lie: ``TOKENSPARSE_MODELS``, or the setting, or the data folder."""
    chosen = os.environ.get(USER_FOLDER_VARIABLE) or _settings.current().models.folder
    if chosen:
        return Path(chosen).expanduser()
    return platformdirs.user_data_path("napari-tokensparse") / "models"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Name what is spelt nearly like ``name``, as the end of a sentence; empty if nothing is."""
    near = get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds a model in bundle form."""
    return (folder / METADATA).is_file()


def describe_folder(folder: Path) -> Description:
    """Read what a model folder says of itself; nothing in it is evaluated.

    Raises
    ------
    ModelError
        A file is missing or does not fit; the line names it.
    """
    metadata, inference = _read_json(folder / METADATA), _read_json(folder / INFERENCE)
    with _naming(folder / METADATA):
        ours = metadata[OUR_KEY]
        config, said = SCDConfig(**ours["network"]), dict(ModelInfo(**ours["info"]))
    with _naming(folder / WEIGHTS):
        said["weights_sha256"] = file_sha256(folder / WEIGHTS)
    with _naming(folder / INFERENCE):
        said["preprocessing"] = _own_transforms(inference)
        said["overlap"] = inference["inferer"]["overlap"]
        said["blending"] = inference["inferer"]["mode"]
        return Description(config, ModelInfo(**said))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in whatever is wrong with its content."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: not a model of ours ({_one_line(error)})") from error


def _own_transforms(inference: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    transforms = inference["preprocessing"]["transforms"]
    return tuple(t for t in transforms if t not in LOAD_TRANSFORMS)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({_one_line(error)})") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: must hold one JSON object")
    return content


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
