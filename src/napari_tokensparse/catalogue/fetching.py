"""Reading from the web: https alone, whole files by their hash, and going on after a break."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from napari_tokensparse.common.cache import CACHE_VARIABLE
from napari_tokensparse.common.files import is_full
from napari_tokensparse.common.network import PROXY_LOGIN, network_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

OFFLINE = "without a network, copy the model's folder from another machine and name it with --model"
_INSECURE = "gives no secure connection; check the address, and HTTPS_PROXY if it is set"
_STATUS = {
    401: "; the address wants a login",
    403: "; it is not for everyone, or a proxy forbids it",
    407: f"; the proxy {PROXY_LOGIN}",
    429: "; try again later",
    503: "; try again later",
}
_HERE = ("127.0.0.1", "localhost", "::1")
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and without a byte
_CHUNK = 2**14  # a break loses less than this


class DownloadError(ValueError):
    """A model that cannot be had from the web; one plain line says why."""


def is_url(place: str) -> bool:
    """Whether a place is an address rather than a file."""
    return "://" in place


def fetch_text(url: str, most: int) -> str:
    """Read a small text.

    Parameters
    ----------
    url
        https, but for this very machine.
    most
        Bytes that it may have.

    Raises
    ------
    DownloadError
        In one plain line: the address cannot be reached, or gives something else.
    """
    with plain_web_errors(url), _get(url) as response:
        response.raise_for_status()
        content = b""
        for chunk in response.iter_content(_CHUNK):
            content += chunk
            if len(content) > most:
                raise DownloadError(f"{url}: has more than {most} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DownloadError(f"{url}: not a text ({error})") from error


def fetch_file(
    url: str, sha256: str, size: int, folder: Path, progress: Callable[[int], None]
) -> Path:
    """Download a file, going on with what an earlier try left of it.

    Parameters
    ----------
    url
        https, but for this very machine.
    sha256, size
        Hash and bytes that the file must have.
    folder
        Where the file, named by its hash, and an unfinished one lie.
    progress
        Is told how many bytes are there.

    Raises
    ------
    DownloadError
        In one plain line. Of a file with another hash or size nothing is kept; what came before
        a break is, and the next call goes on with it.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    part = folder / f"{sha256}.part"
    downloader = _Resuming(part, size, progress)
    with plain_web_errors(url):
        try:
            archive = pooch.retrieve(
                url, f"sha256:{sha256}", f"{sha256}.zip", folder, downloader=downloader
            )
        except ValueError as error:
            if isinstance(error, DownloadError | OSError):  # those of requests are both
                raise
            raise DownloadError(
                f"{url}: its SHA-256 is not the index's, {sha256}; nothing of it was kept"
            ) from error
    return Path(archive)


class _Resuming:
    """Downloads for pooch into a file of its own, which outlives a break.

    pooch deletes what a broken download leaves; here it stays, and an HTTP range asks for the rest.
    Whether the whole is right is pooch's to say, by its hash.
    """

    def __init__(self, part: Path, size: int, progress: Callable[[int], None]) -> None:
        self._part, self._size, self._progress = part, size, progress

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download the rest and hand the whole over."""
        if self._there() != self._size:
            self._download(url)
        if self._there() != self._size:
            raise DownloadError(
                f"{url}: broke off after {self._there()} of {self._size} bytes; "
                "run it again to go on from there"
            )
        os.replace(self._part, output_file)

    def _there(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _download(self, url: str) -> None:
        begun = self._there()
        with _get(url, {"Range": f"bytes={begun}-"} if begun else {}) as response:
            response.raise_for_status()
            goes_on = response.status_code == 206 and _start(response) == begun
            with self._part.open("ab" if goes_on else "wb") as file:
                self._write(response, file, url)

    def _write(self, response: requests.Response, file: Any, url: str) -> None:
        import requests

        try:
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                if file.tell() > self._size:
                    break
                self._progress(file.tell())
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            return  # what is there says how far it got
        if file.tell() > self._size:
            file.close()
            self._part.unlink()
            raise DownloadError(
                f"{url}: has more than the index's {self._size} bytes; nothing of it was kept"
            )


def _start(response: requests.Response) -> int | None:
    """Read where a partial answer begins: ``bytes 100-199/200``."""
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else None


@contextmanager
def _get(url: str, headers: dict[str, str] | None = None) -> Iterator[requests.Response]:
    """Ask for an address; the files come as they are stored, not packed for the way."""
    with (
        _session(url) as session,
        session.get(
            url, headers={"Accept-Encoding": "identity", **(headers or {})}, stream=True,
            timeout=_TIMEOUT,
        ) as response,
    ):  # fmt: skip
        yield response


def _session(url: str) -> requests.Session:
    """Make a session that knows https, and of http the server on this machine that is asked.

    So no answer can lead on to http elsewhere.
    """
    import requests
    from requests.adapters import HTTPAdapter

    parts = urlsplit(url)
    session = requests.Session()
    del session.adapters["http://"]
    if parts.scheme == "https":
        return session
    if parts.scheme != "http" or parts.hostname not in _HERE or parts.username is not None:
        raise DownloadError(f"{url}: only https addresses are read")
    session.trust_env = False  # a proxy cannot reach this machine's own server
    session.mount(f"http://{parts.netloc}/", HTTPAdapter())
    return session


@contextmanager
def plain_web_errors(url: str) -> Iterator[None]:
    """Say in one plain line what went wrong with an address."""
    import requests

    try:
        yield
    except requests.HTTPError as error:
        answer = error.response
        assert answer is not None  # it is what raised
        said = f"{url}: answers {answer.status_code} {answer.reason}"
        raise DownloadError(f"{said}{_STATUS.get(answer.status_code, '')}") from error
    except requests.exceptions.SSLError as error:
        why = network_fault(error, "REQUESTS_CA_BUNDLE") or _INSECURE
        raise DownloadError(f"{url}: {why}") from error
    except requests.exceptions.ProxyError as error:
        fault = network_fault(error, "REQUESTS_CA_BUNDLE")
        mend = "" if fault is None or PROXY_LOGIN in fault else f"; {OFFLINE}"
        raise DownloadError(f"{url}: {fault}{mend}") from error
    except requests.Timeout as error:
        raise DownloadError(f"{url}: does not answer; try again later") from error
    except requests.exceptions.InvalidSchema as error:
        raise DownloadError(f"{url}: leads on to an address that is not https") from error
    except requests.ConnectionError as error:
        raise DownloadError(
            f"{url}: cannot be reached; check the network connection and the address; {OFFLINE}"
        ) from error
    except requests.RequestException as error:
        raise DownloadError(f"{url}: cannot be read ({type(error).__name__})") from error
    except OSError as error:
        if error.filename is None and not is_full(error):
            raise
        raise DownloadError(
            f"{url}: cannot be kept ({error.strerror}); free some space, or name another folder "
            f"for unfinished downloads in {CACHE_VARIABLE}"
        ) from error
