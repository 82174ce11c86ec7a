"""TSRequest, the one message of CredSSP ([MS-CSSP] 2.2.1), between DER and a value.

    TSRequest ::= SEQUENCE {
        version     [0] INTEGER,
        negoTokens  [1] SEQUENCE OF SEQUENCE { negoToken [0] OCTET STRING } OPTIONAL,
        authInfo    [2] OCTET STRING OPTIONAL,
        pubKeyAuth  [3] OCTET STRING OPTIONAL,
        errorCode   [4] INTEGER OPTIONAL,
        clientNonce [5] OCTET STRING OPTIONAL }

Which field may come when, at which version, is the engine's matter: here only the form is judged.
"""

import dataclasses
from typing import Final, Self

from acredssp.errors import RemoteProtocolError
from acredssp.wire import der

__all__ = ["NONCE_SIZE", "TSRequest"]

NONCE_SIZE: Final = 32
"""Bytes of a clientNonce ([MS-CSSP] 2.2.1)."""

_MAX_NEGO_TOKENS: Final = 8
"""Elements of negoTokens that are read: every peer known sends one, the bound keeps 128 KiB of them cheap."""

_FIELDS: Final = ("version", "negoTokens", "authInfo", "pubKeyAuth", "errorCode", "clientNonce")
_MESSAGE: Final = der.Nesting(der.SEQUENCE)
_NEGO_TOKEN: Final = der.Nesting(der.CONTEXT, der.OCTET_STRING)
_ONE_NEGO_TOKEN: Final = der.Nesting(der.SEQUENCE, der.CONTEXT, der.OCTET_STRING)
_NEGO_TOKENS: Final = der.Nesting(der.CONTEXT + 1, der.SEQUENCE, der.SEQUENCE, der.CONTEXT, der.OCTET_STRING)


@dataclasses.dataclass(slots=True)
class TSRequest:
    """One CredSSP message. None is an absent field.

    A value all the same: not frozen, since that would treble the price of making one, and a logon makes ten.
    """

    version: int
    """The sender's own newest version. A decoded one may be any 32-bit number: the engine takes 96 as its own
    and refuses 0 and 1."""
    nego_token: bytes | None = None
    """The mechanism's token. Empty means no token, as `negoTokens` without elements or with an empty one do
    (an acceptor that waits for more may send that): so test its truth, not its presence."""
    auth_info: bytes | None = None
    """The sealed TSCredentials."""
    pub_key_auth: bytes | None = None
    """The sealed binding value: the key itself in versions 2 to 4, its hash from version 5."""
    error_code: int | None = None
    """An NTSTATUS as an unsigned 32-bit number."""
    client_nonce: bytes | None = None
    """32 bytes."""

    def __repr__(self) -> str:
        """Version, error and the lengths of the rest: the contents are secret, or useless to a reader."""
        blobs = ("nego_token", "auth_info", "pub_key_auth", "client_nonce")
        shown = [f"version={self.version}"]
        if self.error_code is not None:
            shown.append(f"error_code=0x{self.error_code:08X}")
        shown += [f"{name}=<{len(blob)} bytes>" for name in blobs if (blob := getattr(self, name)) is not None]
        return f"TSRequest({', '.join(shown)})"

    def encode(self) -> bytes:
        """The DER of this message, one whole frame.

        errorCode is written signed, `02 04 C0 00 00 6D`: FreeRDP's decoder takes four bytes at most.
        """
        parts = [der.encode_integer(0, self.version)]
        if self.nego_token is not None:
            parts.append(_NEGO_TOKENS.encode(self.nego_token))
        if self.auth_info is not None:
            parts.append(der.encode_octets(2, self.auth_info))
        if self.pub_key_auth is not None:
            parts.append(der.encode_octets(3, self.pub_key_auth))
        if self.error_code is not None:
            signed = self.error_code - (1 << 32) if self.error_code >= 1 << 31 else self.error_code
            parts.append(der.encode_integer(4, signed))
        if self.client_nonce is not None:
            parts.append(der.encode_octets(5, self.client_nonce))
        return _MESSAGE.encode(b"".join(parts))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The message that `data` is: one whole frame as `der.frame_size` measures it, nothing behind it.

        Raises:
            RemoteProtocolError: `data` is no TSRequest; field and offset are in the text.
        """
        offset, end = _MESSAGE.bounds(data, 0, len(data), "TSRequest")
        if offset == end or data[offset] != der.CONTEXT:
            der.integer(data, offset, end, 0, "version")  # refuses that
        fields = der.fields(data, offset, end, _FIELDS, "TSRequest")
        return cls(
            _version(data, fields[0]),
            _nego_token(data, fields[1]) if 1 in fields else None,
            der.octets_of(data, fields[2], "authInfo") if 2 in fields else None,
            der.octets_of(data, fields[3], "pubKeyAuth") if 3 in fields else None,
            _error_code(data, fields[4]) if 4 in fields else None,
            _client_nonce(data, fields[5]) if 5 in fields else None,
        )


def _version(data: bytes, field: der.Field) -> int:
    version = der.integer_of(data, field, "version")
    if not 0 <= version <= 0xFFFFFFFF:
        raise RemoteProtocolError(f"version: expected 0 to 0xFFFFFFFF at byte {field[1] - 2}, got {version}")
    return version


def _nego_token(data: bytes, field: der.Field) -> bytes:
    """The one token of negoTokens, b"" when there is none.

    [MS-CSSP] 2.2.1.1 allows several elements and gives the others no meaning: a second one that is not empty
    is refused rather than dropped.
    """
    offset, end = der.content_of(field, der.SEQUENCE, "negoTokens")
    if start := _ONE_NEGO_TOKEN.start(data, offset, end):
        return data[start:end]
    token = b""
    for _ in range(_MAX_NEGO_TOKENS):
        if offset == end:
            return token
        start, stop = der.element(data, offset, end, der.SEQUENCE, "negoTokens")
        start, stop = _NEGO_TOKEN.bounds(data, start, stop, "negoTokens")
        if start < stop and token:
            raise RemoteProtocolError(f"negoTokens: expected one token, got another one at byte {start}")
        token = data[start:stop] or token
        offset = stop
    der.expect_end(offset, end, "negoTokens")
    return token


def _error_code(data: bytes, field: der.Field) -> int:
    """An NTSTATUS: written signed in 4 bytes, or unsigned in 5 (pyspnego)."""
    code = der.integer_of(data, field, "errorCode")
    if not -(1 << 31) <= code < 1 << 32:
        raise RemoteProtocolError(f"errorCode: expected 32 bits at byte {field[1]}, got an INTEGER of more")
    return code & 0xFFFFFFFF


def _client_nonce(data: bytes, field: der.Field) -> bytes:
    nonce = der.octets_of(data, field, "clientNonce")
    if len(nonce) != NONCE_SIZE:
        raise RemoteProtocolError(f"clientNonce: expected {NONCE_SIZE} bytes at byte {field[1]}, got {len(nonce)}")
    return nonce
