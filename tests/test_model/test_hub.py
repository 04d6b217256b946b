"""Models of the Hugging Face Hub, from a server on this machine that speaks as it does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from napari_tokensparse.model.folder import (
    METADATA,
    WEIGHTS,
    ModelError,
    bundled_models_folder,
    describe_folder,
)
from napari_tokensparse.model.hub import model_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODEL = bundled_models_folder() / "brain-structures"
COMMIT = "c0ffee" * 6 + "1234"
ASK = """
import sys
from napari_tokensparse.model.folder import ModelError, describe_folder
from napari_tokensparse.model.hub import model_folder
for source in sys.argv[1:]:
    try:
        folder = model_folder(source)
        print(folder, describe_folder(folder).info.weights_sha256)
    except ModelError as error:
        print(error)
assert "torch" not in sys.modules
"""


class _Hub(BaseHTTPRequestHandler):
    """One repository, lab/brain, of which ``v1`` and ``main`` are the same commit."""

    files = {  # noqa: RUF012  # as a class of the standard library has it
        **{p.relative_to(MODEL).as_posix(): p for p in MODEL.rglob("*") if p.is_file()},
        "models/other.bin": MODEL / METADATA,
    }
    fetched: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0].strip("/").split("/")
        content, headers = self._content(path)
        self.send_response(404 if content is None else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if body and content is not None:
            self.wfile.write(content)
            self.fetched.append("/".join(path))

    def _content(self, path: list[str]) -> tuple[bytes | None, dict[str, str]]:
        typed = {"Content-Type": "application/json"}
        if path[:4] == ["api", "models", "lab", "brain"]:
            if path[4] == "tree":
                rows = [
                    {"type": "file", "path": n, "size": p.stat().st_size, "oid": _etag(p)}
                    for n, p in self.files.items()
                ]
                return json.dumps(rows).encode(), typed
            if path[5] in ("main", "v1", COMMIT):
                said = {"id": "lab/brain", "sha": COMMIT}
                said["siblings"] = [{"rfilename": name} for name in self.files]  # type: ignore[assignment]
                return json.dumps(said).encode(), typed
            return None, {"X-Error-Code": "RevisionNotFound"}
        if path[:3] == ["lab", "brain", "resolve"]:
            file = self.files["/".join(path[4:])]
            return file.read_bytes(), {"ETag": f'"{_etag(file)}"', "X-Repo-Commit": COMMIT}
        return None, {"X-Error-Code": "RepoNotFound"}

    def log_message(self, *_: object) -> None:
        pass


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on this machine and give the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hub() -> Iterator[str]:
    """Serve the repository and give the address."""
    with serving(_Hub) as address:
        yield address


def ask(home: Path, *sources: str, **environment: str) -> list[str]:
    """Look models up in a process of its own: huggingface_hub reads its settings once."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, *sources],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_repository_is_fetched_once_and_used_without_a_network_after(
    hub: str, tmp_path: Path
) -> None:
    wanted = describe_folder(MODEL).info.weights_sha256
    sources = ("hf://lab/brain", "hf://lab/brain@v1", "hf://lab/brain@v2", "hf://lab/none")
    first, tagged, revision, repository = ask(tmp_path, *sources, HF_ENDPOINT=hub)
    folder, sha256 = first.split()
    assert sha256 == wanted
    assert tagged == first
    assert revision == "model hf://lab/brain@v2: there is no such revision; check it"
    assert repository.startswith("model hf://lab/none: there is no such repository, or it is")
    files = [path for path in _Hub.fetched if "resolve" in path]
    assert sum(path.endswith(WEIGHTS.as_posix()) for path in files) == 1
    assert not any(path.endswith("other.bin") for path in files)  # not ours: not fetched
    again, unknown = ask(tmp_path, "hf://lab/brain@v1", "hf://lab/else", HF_HUB_OFFLINE="1")
    assert again.split() == [folder, sha256]
    assert unknown == (
        "model hf://lab/else: cannot be reached, and is not in the hub's cache; check the network "
        "connection, HTTPS_PROXY if it is set, and HF_HUB_OFFLINE"
    )


class _Proxy(BaseHTTPRequestHandler):
    """A proxy that lets nobody through without a password."""

    def do_CONNECT(self) -> None:
        self.send_response(407)
        self.send_header("Proxy-Authenticate", "Basic")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_proxy_that_wants_a_password_is_named(tmp_path: Path) -> None:
    with serving(_Proxy) as proxy:
        (line,) = ask(
            tmp_path, "hf://lab/brain", HF_ENDPOINT="https://hub.invalid", HTTPS_PROXY=proxy
        )
    assert line == (
        "model hf://lab/brain: the proxy wants a password; put it into HTTPS_PROXY, as "
        "http://name:password@proxy:port"
    )


def test_links_of_the_hubs_cache_may_lead_into_their_repository_and_nowhere_else(
    tmp_path: Path,
) -> None:
    repository = tmp_path / "models--lab--brain"
    folder = repository / "snapshots" / COMMIT
    for file in (p for p in MODEL.rglob("*") if p.is_file()):
        blob, link = repository / "blobs" / _etag(file), folder / file.relative_to(MODEL)
        for path in (blob, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(file.read_bytes())
        link.symlink_to(blob)
    assert describe_folder(folder).info == describe_folder(MODEL).info
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(MODEL / WEIGHTS)
    with pytest.raises(ModelError, match="leads out of the model folder"):
        describe_folder(folder)


@pytest.mark.parametrize("store", [".git/annex/objects", ".dvc/cache/files/md5"])
def test_links_of_datalad_and_dvc_may_lead_into_their_store_and_nowhere_else(
    tmp_path: Path, store: str
) -> None:
    folder = tmp_path / "study/models/brain"
    for file in (p for p in MODEL.rglob("*") if p.is_file()):
        kept, link = tmp_path / "study" / store / _etag(file), folder / file.relative_to(MODEL)
        for path in (kept, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(file.read_bytes())
        link.symlink_to(os.path.relpath(kept, link.parent))
    assert describe_folder(folder).info == describe_folder(MODEL).info
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(MODEL / WEIGHTS)
    with pytest.raises(ModelError, match="leads out of the model folder"):
        describe_folder(folder)


@pytest.mark.parametrize("name", ["hf://brain", "hf://a/b/c", "hf://../x", "hf://lab/brain@"])
def test_another_form_of_address_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ModelError, match=r"must be hf://owner/repo or hf://owner/repo@revision"):
        model_folder(name)
