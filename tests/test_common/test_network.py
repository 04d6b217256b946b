"""What stands in the way to the web is named, whichever library met it."""

from __future__ import annotations

import ssl

import pytest

from napari_tokensparse.common.network import network_fault


class ProxyError(Exception):
    """As requests, urllib3, httpx and httpcore call theirs."""


def raised(error: Exception, behind: Exception | None = None) -> Exception:
    try:
        raise error from behind
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    ("behind", "said"),
    [
        (ProxyError("407 Proxy Authentication Required"), "the proxy wants a password; put it"),
        (ProxyError("Tunnel connection failed: 407 Proxy Auth"), "the proxy wants a password; put"),
        (ProxyError("[Errno 111] Connection refused"), "the proxy cannot be reached; check"),
        (ProxyError("127.0.0.1:40712: <object at 0x7f407a>"), "the proxy cannot be reached; check"),
        (
            ssl.SSLCertVerificationError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"),
            "name the file of its authority's certificates in SSL_CERT_FILE; else check",
        ),
        (ConnectionRefusedError("Connection refused"), None),
    ],
)
def test_what_lies_behind_an_error_is_named(behind: Exception, said: str | None) -> None:
    fault = network_fault(raised(OSError("not found"), behind), "SSL_CERT_FILE")
    assert fault is None if said is None else said in str(fault)
