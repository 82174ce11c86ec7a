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
from typing import Final, NoReturn, Self

from acredssp.errors import RemoteProtocolError
from acredssp.wire import der

__all__ = ["NONCE_SIZE", "TSRequest"]

NONCE_SIZE: Final = 32
"""Bytes of a clientNonce ([MS-CSSP] 2.2.1)."""

_MAX_NEGO_TOKENS: Final = 8
"""Elements of negoTokens that are read: every peer known sends one, the bound keeps 128 KiB of them cheap."""

_KNOWN_FIELDS: Final = ("version", "negoTokens", "authInfo", "pubKeyAuth", "errorCode", "clientNonce")


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
            item = der.encode(der.SEQUENCE, der.encode_octets(0, self.nego_token))
            parts.append(der.encode(der.CONTEXT + 1, der.encode(der.SEQUENCE, item)))
        if self.auth_info is not None:
            parts.append(der.encode_octets(2, self.auth_info))
        if self.pub_key_auth is not None:
            parts.append(der.encode_octets(3, self.pub_key_auth))
        if self.error_code is not None:
            signed = self.error_code - (1 << 32) if self.error_code >= 1 << 31 else self.error_code
            parts.append(der.encode_integer(4, signed))
        if self.client_nonce is not None:
            parts.append(der.encode_octets(5, self.client_nonce))
        return der.encode(der.SEQUENCE, b"".join(parts))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The message that `data` is: one whole frame as `der.frame_size` measures it, nothing behind it.

        Raises:
            RemoteProtocolError: `data` is no TSRequest; field and offset are in the text.
        """
        offset, end = der.only(data, 0, len(data), der.SEQUENCE, "TSRequest")
        version, offset = _version(data, offset, end)
        nego_token = auth_info = pub_key_auth = error_code = client_nonce = None
        previous = der.CONTEXT
        while offset < end:
            tag = data[offset]
            if not previous < tag <= der.LAST_CONTEXT:  # leaves room for 25 new fields
                _refuse_field(tag, offset)
            previous = tag
            if tag == 0xA1:
                nego_token, offset = _nego_token(data, offset, end)
            elif tag == 0xA2:
                auth_info, offset = der.octets(data, offset, end, 2, "authInfo")
            elif tag == 0xA3:
                pub_key_auth, offset = der.octets(data, offset, end, 3, "pubKeyAuth")
            elif tag == 0xA4:
                error_code, offset = _error_code(data, offset, end)
            elif tag == 0xA5:
                client_nonce, offset = _client_nonce(data, offset, end)
            else:
                # A newer version's field: version 5 came as one. Its length is all that we must understand.
                _, offset = der.element(data, offset, end, tag, "unknown field")
        return cls(version, nego_token, auth_info, pub_key_auth, error_code, client_nonce)


def _version(data: bytes, offset: int, end: int) -> tuple[int, int]:
    version, stop = der.integer(data, offset, end, 0, "version")
    if not 0 <= version <= 0xFFFFFFFF:
        raise RemoteProtocolError(f"version: expected 0 to 0xFFFFFFFF at byte {offset}, got {version}")
    return version, stop


def _nego_token(data: bytes, offset: int, end: int) -> tuple[bytes, int]:
    """The one token of negoTokens, b"" when there is none, and where negoTokens ends.

    [MS-CSSP] 2.2.1.1 allows several elements and gives the others no meaning: a second one that is not empty
    is refused rather than dropped.
    """
    offset, stop = der.explicit(data, offset, end, 1, der.SEQUENCE, "negoTokens")
    token = b""
    for _ in range(_MAX_NEGO_TOKENS):
        if offset == stop:
            return token, stop
        start, offset = der.element(data, offset, stop, der.SEQUENCE, "negoTokens")
        value, value_stop = der.octets(data, start, offset, 0, "negoToken")
        der.expect_end(value_stop, offset, "negoTokens")
        if value and token:
            raise RemoteProtocolError(f"negoTokens: expected one token, got another one at byte {start}")
        token = value or token
    der.expect_end(offset, stop, "negoTokens")
    return token, stop


def _error_code(data: bytes, offset: int, end: int) -> tuple[int, int]:
    """An NTSTATUS, and where it ends: written signed in 4 bytes, or unsigned in 5 (pyspnego)."""
    code, stop = der.integer(data, offset, end, 4, "errorCode")
    if not -(1 << 31) <= code < 1 << 32:
        raise RemoteProtocolError(f"errorCode: expected 32 bits at byte {offset}, got an INTEGER of more")
    return code & 0xFFFFFFFF, stop


def _client_nonce(data: bytes, offset: int, end: int) -> tuple[bytes, int]:
    nonce, stop = der.octets(data, offset, end, 5, "clientNonce")
    if len(nonce) != NONCE_SIZE:
        raise RemoteProtocolError(f"clientNonce: expected {NONCE_SIZE} bytes at byte {offset}, got {len(nonce)}")
    return nonce, stop


def _refuse_field(tag: int, offset: int) -> NoReturn:
    number = tag - der.CONTEXT
    name = _KNOWN_FIELDS[number] if 0 <= number < len(_KNOWN_FIELDS) else f"tag 0x{tag:02X}"
    raise RemoteProtocolError(
        f"TSRequest: expected the fields once each and in ascending order, got {name} at byte {offset}"
    )
