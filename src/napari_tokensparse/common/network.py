"""Why the network gives nothing, in words that name what to do, whichever library asked it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROXY_LOGIN = "wants a password; put it into HTTPS_PROXY, as http://name:password@proxy:port"
"""What a proxy does that answers 407, and what to do."""
# a status stands alone in the text; in a port or an object's address its digits do not
_WANTS_LOGIN = re.compile(r"(?<!\S)407(?!\S)")


def network_fault(error: BaseException, certificates: str) -> str | None:
    """Say why an address could not be had, from an error or one behind it.

    Parameters
    ----------
    error
        Of requests, httpx or what else asked.
    certificates
        The variable that names a file of certificates to that library.

    Returns
    -------
    str or None
        One plain line; None where neither a certificate nor a proxy is to blame.
    """
    chain = list(_chain(error))
    said = " ".join(map(str, chain))
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return (
            "its certificate cannot be verified; where a proxy has one of its own, name the file "
            f"of its authority's certificates in {certificates}; else check this machine's clock"
        )
    if not any(type(one).__name__ == "ProxyError" for one in chain):
        return None
    if _WANTS_LOGIN.search(said):
        return f"the proxy {PROXY_LOGIN}"
    return "the proxy cannot be reached; check HTTPS_PROXY, or unset it where there is none"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it came of."""
    seen: set[int] = set()
    behind: BaseException | None = error
    while behind is not None and id(behind) not in seen:
        seen.add(id(behind))
        yield behind
        behind = behind.__cause__ or behind.__context__
