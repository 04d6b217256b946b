"""Models by name, by folder, or by ``hf://owner/repo`` from the Hugging Face Hub.

A repository of the hub is a model folder whose files lie in the hub's own cache; without a network,
or with ``HF_HUB_OFFLINE=1``, what lies there is used. ``HF_HOME``, ``HF_ENDPOINT`` and a login
work as for the hub's other tools.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tokensparse.common.extras import lacking
from napari_tokensparse.common.network import network_fault
from napari_tokensparse.model.folder import (
    CARD,
    INFERENCE,
    METADATA,
    WEIGHTS,
    ModelError,
    available_models,
    is_bundle,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

PREFIX = "hf://"
_CERTIFICATES = "SSL_CERT_FILE"
_FORM = re.compile(r"hf://(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w-][\w./-]*))?")
_FILES = (*(part.as_posix() for part in (METADATA, INFERENCE, WEIGHTS, CARD)), "LICENSE")


def model_folder(source: str | os.PathLike[str]) -> Path:
    """Return the folder of a model: of a known name, of the hub, or as it is given.

    Parameters
    ----------
    source
        Name of a bundled or user model, ``hf://owner/repo`` or ``hf://owner/repo@revision``, or a
        folder, which need not hold a model.

    Raises
    ------
    ModelError
        In one line: the hub's repository cannot be had, or holds no model.
    """
    name = str(source)
    if name.startswith(PREFIX):
        return _hub_folder(name)
    return available_models().get(name, Path(source))


def whole_source(source: str) -> str:
    """Return what names the same model from any folder: a path is written whole."""
    if source.startswith(PREFIX) or source in available_models() or not Path(source).exists():
        return source
    return os.path.abspath(source)


def is_hub_address(name: str) -> bool:
    """Whether a model is named by its address on the hub.

    Examples
    --------
    >>> is_hub_address("hf://lab/brain@v1"), is_hub_address("hf://brain"), is_hub_address("brain")
    (True, False, False)
    """
    return _FORM.fullmatch(name) is not None


def _hub_folder(source: str) -> Path:
    form = _FORM.fullmatch(source)
    if form is None:
        raise ModelError(f"model {source}: must be hf://owner/repo or hf://owner/repo@revision")
    try:
        import huggingface_hub
    except ImportError:
        raise ModelError(lacking(f"model {source}", "huggingface_hub", "hub")) from None
    repo, revision = form["repo"], form["revision"]
    with _plain_hub_errors(source):
        # Anything else in the repository is not ours to fetch.
        snapshot = huggingface_hub.snapshot_download(
            repo, revision=revision, allow_patterns=list(_FILES)
        )
    folder = Path(snapshot)
    if not is_bundle(folder):
        raise ModelError(f"model {source}: holds no model folder ({METADATA.as_posix()})")
    return folder


def _plain_hub_errors(source: str) -> AbstractContextManager[None]:
    from contextlib import contextmanager

    from huggingface_hub import errors

    @contextmanager
    def plain() -> Iterator[None]:
        try:
            yield
        except errors.GatedRepoError as error:
            raise ModelError(
                f"model {source}: asks for its terms to be accepted; do so on its page, then log "
                "in with `hf auth login`"
            ) from error
        except errors.RevisionNotFoundError as error:
            raise ModelError(f"model {source}: there is no such revision; check it") from error
        except errors.RepositoryNotFoundError as error:
            raise ModelError(
                f"model {source}: there is no such repository, or it is private; check the name, "
                "or log in with `hf auth login`"
            ) from error
        except errors.LocalEntryNotFoundError as error:
            why = network_fault(error, _CERTIFICATES) or (
                "cannot be reached, and is not in the hub's cache; check the network connection, "
                "HTTPS_PROXY if it is set, and HF_HUB_OFFLINE"
            )
            raise ModelError(f"model {source}: {why}") from error
        except Exception as error:  # the library that asks the hub changes with its version
            said = " ".join(str(error).split())[:200]
            why = network_fault(error, _CERTIFICATES) or f"cannot be had ({said})"
            raise ModelError(f"model {source}: {why}") from error

    return plain()
