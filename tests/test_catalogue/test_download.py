"""Models from a web server on this machine: whole, checked, or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import runpy
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests

from napari_tokensparse.catalogue.download import download, downloads_folder, remove
from napari_tokensparse.catalogue.fetching import DownloadError, plain_web_errors
from napari_tokensparse.catalogue.models import Offer, read_index
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.folder import METADATA, WEIGHTS, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WEB = runpy.run_path(str(Path(__file__).parents[1] / "webserver.py"))
SERVING, NOBODY = _WEB["serving"], _WEB["nobody"]


@pytest.fixture
def server() -> Iterator[Any]:
    with SERVING() as running:
        yield running


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the user's models, which is not made yet."""
    monkeypatch.setenv("TOKENSPARSE_MODELS", str(tmp_path / "mine"))
    monkeypatch.setenv("TOKENSPARSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "mine"


@pytest.fixture
def archive(write_nano: Callable[..., Path]) -> bytes:
    return zipped(write_nano("lab-model"))


def zipped(folder: Path, top: str = "lab-model/") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, f"{top}{file.relative_to(folder).as_posix()}")
    return packed.getvalue()


def offer(server: Any, content: bytes, **changes: Any) -> Offer:
    server.files["/lab-model.zip"] = content
    fields = {
        "name": "lab-model",
        "url": server.url("/lab-model.zip"),
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }
    return Offer(**(fields | changes))


def left_behind(mine: Path) -> list[Path]:
    return [p for root in (mine, downloads_folder()) for p in root.rglob("*") if p.is_file()]


def refusal(given: Offer) -> str:
    with pytest.raises(ValueError) as refused:  # of whichever kind: the line counts
        download(given)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("top", ["", "lab-model/", "another name/"])
def test_a_downloaded_model_is_the_one_that_was_packed_and_is_used_by_name(
    server: Any, mine: Path, tmp_path: Path, write_nano: Callable[..., Path], top: str
) -> None:
    source, events = write_nano("lab-model"), []
    given = offer(server, zipped(source, top))
    assert download(given, events.append) == mine / "lab-model"
    for file in (f for f in source.rglob("*") if f.is_file()):
        assert (mine / "lab-model" / file.relative_to(source)).read_bytes() == file.read_bytes()
    assert events[-1] == given.size
    assert load_model("lab-model").info == load_model(source).info
    assert [p.name for p in mine.iterdir()] == ["lab-model"]
    assert not list(downloads_folder().iterdir())
    assert "is here already" in refusal(given)
    assert remove("lab-model") == mine / "lab-model"
    assert not list(mine.iterdir())


def test_a_broken_download_goes_on_where_it_broke_off(
    server: Any, mine: Path, archive: bytes
) -> None:
    given, half = offer(server, archive), len(archive) // 2
    server.breaks_after = half
    line = refusal(given)
    assert not mine.exists()
    (part,) = left_behind(mine)
    kept = part.stat().st_size
    assert half - 2**14 < kept <= half
    assert part.read_bytes() == archive[:kept]
    assert line == (
        f"{given.url}: broke off after {kept} of {len(archive)} bytes; "
        "run it again to go on from there"
    )

    server.breaks_after = None
    download(given)
    assert [asked for _, asked in server.asked] == [None, f"bytes={kept}-"]
    assert (mine / "lab-model" / WEIGHTS).is_file()
    assert not list(downloads_folder().iterdir())


def test_a_server_without_ranges_is_asked_for_the_whole_again(
    server: Any, mine: Path, archive: bytes
) -> None:
    given = offer(server, archive)
    server.breaks_after = 50_000
    refusal(given)
    assert left_behind(mine)
    server.breaks_after, server.ranges = None, False
    download(given)
    assert (mine / "lab-model" / METADATA).is_file()


def test_a_file_with_another_hash_or_size_is_refused_and_nothing_is_left(
    server: Any, mine: Path, archive: bytes
) -> None:
    other = archive[:-1] + bytes([archive[-1] ^ 1])
    given = offer(server, other, sha256=hashlib.sha256(archive).hexdigest())
    assert refusal(given) == (
        f"{given.url}: its SHA-256 is not the index's, {given.sha256}; nothing of it was kept"
    )
    assert not left_behind(mine)
    longer = offer(server, archive + b"more", size=len(archive))
    assert "has more than the index's" in refusal(longer)
    assert not left_behind(mine)


def test_a_part_that_was_changed_meanwhile_does_not_get_past_the_hash(
    server: Any, mine: Path, archive: bytes
) -> None:
    given = offer(server, archive)
    server.breaks_after = 50_000
    refusal(given)
    (part,) = left_behind(mine)
    part.write_bytes(bytes(part.stat().st_size))
    server.breaks_after = None
    assert "its SHA-256 is not the index's" in refusal(given)
    assert not left_behind(mine)
    download(given)


def test_without_a_network_there_is_one_clear_line(mine: Path) -> None:
    with NOBODY() as address:
        url = f"{address}/lab-model.zip"
        nothing = Offer(name="lab-model", url=url, sha256="0" * 64, size=9)
        assert refusal(nothing) == (
            f"{url}: cannot be reached; check the network connection and the address; without a "
            "network, copy the model's folder from another machine and name it with --model"
        )
    nowhere = nothing.model_copy(update={"url": "https://models.invalid/lab-model.zip"})
    assert refusal(nowhere).startswith("https://models.invalid/lab-model.zip: cannot be reached")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/m.zip",
        "http://localhost.example.org/m.zip",
        "http://127.0.0.1:80@example.org/m.zip",
        "http://me@127.0.0.1/m.zip",
        "ftp://example.org/m.zip",
        "file:///etc/passwd",
    ],
)
def test_only_https_and_this_very_machine_are_asked(mine: Path, url: str) -> None:
    given = Offer(name="lab-model", url=url, sha256="0" * 64, size=9)
    assert refusal(given) == f"{url}: only https addresses are read"


def test_a_proxy_is_named_with_what_it_wants(
    server: Any, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Offer(name="m", url="https://models.invalid/m.zip", sha256="0" * 64, size=9)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTPS_PROXY", server.url(""))
    assert refusal(given) == (
        f"{given.url}: the proxy wants a password; put it into HTTPS_PROXY, as "
        "http://name:password@proxy:port"
    )
    with NOBODY() as address:
        monkeypatch.setenv("HTTPS_PROXY", address)
        assert "the proxy cannot be reached; check HTTPS_PROXY, or unset it" in refusal(given)


def test_what_makes_a_connection_insecure_is_told(server: Any, mine: Path) -> None:
    url = server.url("/m.zip").replace("http:", "https:")
    given = Offer(name="m", url=url, sha256="0" * 64, size=9)
    assert refusal(given) == (
        f"{url}: gives no secure connection; check the address, and HTTPS_PROXY if it is set"
    )
    why = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"
    said = "authority's certificates in REQUESTS_CA_BUNDLE"
    with pytest.raises(DownloadError, match=said), plain_web_errors(url):
        raise requests.exceptions.SSLError(why)


def test_a_cache_that_cannot_be_written_to_is_done_without(
    server: Any, mine: Path, archive: bytes, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("no folder can be made here")
    download(offer(server, archive))
    assert (mine / "lab-model" / WEIGHTS).is_file()
    assert (tmp_path / "cache").read_text() == "no folder can be made here"


def test_a_full_disk_says_where_else_to_go(server: Any) -> None:
    with pytest.raises(DownloadError) as caught, plain_web_errors("https://x/m.zip"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value) == (
        "https://x/m.zip: cannot be kept (No space left on device); free some space, or name "
        "another folder for unfinished downloads in TOKENSPARSE_CACHE"
    )


def test_a_redirect_is_followed_but_not_to_http_elsewhere(
    server: Any, mine: Path, archive: bytes
) -> None:
    given = offer(server, archive, url=server.url("/moved"))
    server.leads_to["/moved"] = "http://example.org/lab-model.zip"
    assert refusal(given) == f"{given.url}: leads on to an address that is not https"
    server.leads_to["/moved"] = "/lab-model.zip"
    download(given)
    assert (mine / "lab-model" / WEIGHTS).is_file()


def test_an_answer_that_is_an_error_is_named(server: Any, mine: Path, archive: bytes) -> None:
    given = offer(server, archive, url=server.url("/elsewhere.zip"))
    assert refusal(given) == f"{given.url}: answers 404 Not Found"


def test_what_is_no_model_that_loads_is_not_put_in_place(
    server: Any, mine: Path, write_nano: Callable[..., Path]
) -> None:
    source = write_nano("lab-model")
    weights = (source / WEIGHTS).read_bytes()
    (source / WEIGHTS).write_bytes(weights[:-100])
    given = offer(server, zipped(source))
    line = refusal(given)
    assert line.startswith(f"{given.url}: the model in it cannot be used – {WEIGHTS}: ")
    assert not left_behind(mine)
    assert not list(mine.iterdir())
    (source / METADATA).unlink()
    assert "holds no model folder (configs/metadata.json)" in refusal(offer(server, zipped(source)))
    assert "not a zip archive" in refusal(offer(server, b"PK nonsense"))
    assert not list(mine.iterdir())


def test_what_comes_with_the_package_is_neither_replaced_nor_removed(mine: Path) -> None:
    given = Offer(name="brain-structures", url="https://x.invalid/", sha256="0" * 64, size=1)
    assert "is here already" in refusal(given)
    with pytest.raises(ModelError, match="comes with the package and stays"):
        remove("brain-structures")


def test_an_index_is_read_from_the_web_and_one_that_is_too_long_is_not(server: Any) -> None:
    server.files["/index.json"] = b'{"format": 1, "models": []}'
    assert read_index(server.url("/index.json")).models == ()
    server.files["/index.json"] = np.full(2**20 + 1, 32, np.uint8).tobytes()
    with pytest.raises(DownloadError, match="has more than 1048576 bytes"):
        read_index(server.url("/index.json"))
