"""The names around a sealed body ([MS-WSMV] 2.2.9.1.3): its media type, its boundary, and what was sealed.

    Content-Type: multipart/encrypted;
        protocol="application/HTTP-CredSSP-session-encrypted";boundary="Encrypted Boundary"

    --Encrypted Boundary
    <tab>Content-Type: application/HTTP-CredSSP-session-encrypted
    <tab>OriginalContent: type=application/soap+xml;charset=UTF-8;Length=1234
    --Encrypted Boundary
    <tab>Content-Type: application/octet-stream
    <length of the record's trailer, 32 bits, little-endian><TLS records>--Encrypted Boundary--

A body of more than 16,384 bytes has one pair of parts for each 16,384 bytes, and is `multipart/x-multi-encrypted`.
"""

import re
from typing import Final

from acredssp.http.errors import HTTPProtocolError
from acredssp.http.headers import parameters

__all__ = ["BOUNDARY", "OCTETS", "PROTOCOL", "SOAP", "boundary_of", "is_sealed", "media_type", "original_content"]

PROTOCOL: Final = "application/HTTP-CredSSP-session-encrypted"
OCTETS: Final = "application/octet-stream"
BOUNDARY: Final = "Encrypted Boundary"
SOAP: Final = "application/soap+xml;charset=UTF-8"
"""What WinRM seals."""

_SINGLE: Final = "multipart/encrypted"
_MULTI: Final = "multipart/x-multi-encrypted"
_BOUNDARY_SIZE: Final = 70
"""The most characters of a boundary (RFC 2046 5.1.1)."""
_ORIGINAL: Final = re.compile(r"type=[ \t]*([^ \t\r\n][^\r\n]*);[ \t]*Length=[ \t]*([0-9]+)", re.IGNORECASE)


def media_type(*, multi: bool) -> str:
    """Return the Content-Type of a sealed body, of one pair of parts or of several pairs."""
    return f'{_MULTI if multi else _SINGLE};protocol="{PROTOCOL}";boundary="{BOUNDARY}"'


_USUAL: Final = frozenset({media_type(multi=False), media_type(multi=True)})
"""What we and Windows write, which needs no parsing."""


def is_sealed(content_type: str) -> bool:
    """Return whether a Content-Type is a sealed body's, for whatever protocol."""
    return content_type.partition(";")[0].strip(" \t").lower() in {_SINGLE, _MULTI}


def boundary_of(content_type: str) -> bytes:
    """Return the boundary of a sealed body.

    Raises:
        HTTPProtocolError: The Content-Type is not one of a body that CredSSP has sealed.
    """
    if content_type in _USUAL:
        return BOUNDARY.encode()
    if not is_sealed(content_type):
        raise HTTPProtocolError(
            f"expected a sealed body of type {_SINGLE}, got one of type {_shown(content_type)}",
            415,
            hint="send the body sealed by the tls session of credssp",
        )
    found, _ = parameters(content_type.partition(";")[2])
    protocol, boundary = found.get("protocol", ""), found.get("boundary", "")
    if protocol.lower() != PROTOCOL.lower():
        raise HTTPProtocolError(f"expected a body sealed for {PROTOCOL}, got one for {_shown(protocol)}", 415)
    if not 0 < len(boundary) <= _BOUNDARY_SIZE or not boundary.isascii() or not boundary.isprintable():
        raise HTTPProtocolError(
            f"expected a boundary of 1 to {_BOUNDARY_SIZE} printable characters, got {len(boundary)} characters"
        )
    return boundary.encode()


def original_content(value: str) -> tuple[str, int]:
    """Return the Content-Type and the size in bytes of what was sealed, from the value of `OriginalContent`.

    Raises:
        HTTPProtocolError: The value has another form.
    """
    match = _ORIGINAL.fullmatch(value)
    if match is None:
        raise HTTPProtocolError("expected originalcontent of the form type=...;Length=..., got another form")
    return match[1].strip(" \t"), int(match[2])


def _shown(text: str) -> str:
    return ascii(text[:100]) if text else "none"
