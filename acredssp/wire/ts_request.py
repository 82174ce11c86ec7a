"""TSRequest, the one message of CredSSP ([MS-CSSP] 2.2.1), between DER and a value.

    TSRequest ::= SEQUENCE {
        version     [0] INTEGER,
        negoTokens  [1] SEQUENCE OF SEQUENCE { negoToken [0] OCTET STRING } OPTIONAL,
        authInfo    [2] OCTET STRING OPTIONAL,
        pubKeyAuth  [3] OCTET STRING OPTIONAL,
        errorCode   [4] INTEGER OPTIONAL,
        clientNonce [5] OCTET STRING OPTIONAL }

This module checks the form alone. The engine checks which field may come in which state and at which version. It calls
`encode` and `decode`, which make no object for a message that is sent, and do not measure a frame a second time. The
methods of `TSRequest` are for everybody else.
"""

import dataclasses
from typing import Final

from acredssp.errors import RemoteProtocolError
from acredssp.wire import der

__all__ = ["FRAME", "NONCE_SIZE", "TSRequest", "decode", "encode", "encode_token"]

NONCE_SIZE: Final = 32
"""Bytes of a clientNonce ([MS-CSSP] 2.2.1)."""

_MAX_NEGO_TOKENS: Final = 8
"""How many elements of negoTokens are read. Every known peer sends one; the bound keeps 128 KiB of elements cheap."""

_FIELDS: Final = ("version", "negoTokens", "authInfo", "pubKeyAuth", "errorCode", "clientNonce")
_NEGO_TOKENS_TAG: Final = der.CONTEXT + 1
_AUTH_INFO_TAG: Final = der.CONTEXT + 2
_PUB_KEY_AUTH_TAG: Final = der.CONTEXT + 3
_ERROR_CODE_TAG: Final = der.CONTEXT + 4
_CLIENT_NONCE_TAG: Final = der.CONTEXT + 5
_NO_TAG: Final = 0
"""Stands for the tag where no field is left."""

FRAME: Final = der.Nesting(der.SEQUENCE)
"""A whole message. Where `FRAME.begin` does not know the bytes, `der.frame_size` measures them."""
_NEGO_TOKENS: Final = der.Nesting(_NEGO_TOKENS_TAG, der.SEQUENCE, der.SEQUENCE, der.CONTEXT, der.OCTET_STRING)
_NEGO_TOKEN: Final = der.Nesting(der.SEQUENCE, der.CONTEXT, der.OCTET_STRING)
_AUTH_INFO: Final = der.OCTETS[2]
_PUB_KEY_AUTH: Final = der.OCTETS[3]
_CLIENT_NONCE: Final = der.OCTETS[5]
_LONGEST_SHORT_LENGTH: Final = 0x7F
_LONG_LENGTH: Final = 0x80
"""The first byte of a length, less the number of bytes that follow it (X.690 8.1.3.5)."""
_VERSION_FIELDS: Final = {version: der.encode_integer(0, version) for version in range(8)}
"""The encoded field of every version there is."""
_VERSIONS: Final = {field: version for version, field in _VERSION_FIELDS.items()}
_VERSION_SIZE: Final = 5
"""Bytes of an encoded version field."""
_TOKEN_ALONE: Final = {
    version: der.Nesting(
        der.SEQUENCE, field, _NEGO_TOKENS_TAG, der.SEQUENCE, der.SEQUENCE, der.CONTEXT, der.OCTET_STRING
    )
    for version, field in _VERSION_FIELDS.items()
}
"""By version, the elements of a message with one token and nothing else, as most messages of a logon are."""


@dataclasses.dataclass(slots=True)
class TSRequest:
    """One CredSSP message. None stands for an absent field.

    Treat it as a value. It is not frozen, because freezing would treble the cost of making one, and a logon makes ten.

    Attributes:
        version: The sender's own newest version. A received version may be any 32-bit number: the engine treats 96 as
            its own version, and refuses 0 and 1.
        nego_token: The mechanism's token. An acceptor that waits for more may send `negoTokens` without elements, or
            with an empty one. Both are decoded to an empty token, which means no token: test the truth of this value.
        auth_info: The sealed TSCredentials.
        pub_key_auth: The sealed binding value: the public key in versions 2 to 4, a hash of it from version 5 on.
        error_code: An NTSTATUS as an unsigned 32-bit number.
        client_nonce: 32 bytes.
    """

    version: int
    nego_token: bytes | None = None
    auth_info: bytes | None = None
    pub_key_auth: bytes | None = None
    error_code: int | None = None
    client_nonce: bytes | None = None

    def __repr__(self) -> str:
        """Version, error code and the lengths of the other fields, whose contents are secret or useless to a reader."""
        blobs = ("nego_token", "auth_info", "pub_key_auth", "client_nonce")
        shown = [f"version={self.version}"]
        if self.error_code is not None:
            shown.append(f"error_code=0x{self.error_code:08X}")
        shown += [f"{name}=<{len(blob)} bytes>" for name in blobs if (blob := getattr(self, name)) is not None]
        return f"TSRequest({', '.join(shown)})"

    def encode(self) -> bytes:
        """The DER of this message, as `encode` makes it."""
        return encode(
            self.version, self.nego_token, self.auth_info, self.pub_key_auth, self.error_code, self.client_nonce
        )

    @classmethod
    def decode(cls, data: bytes) -> "TSRequest":
        """Read a message. `data` is one whole message, with nothing behind it.

        Raises:
            RemoteProtocolError: `data` is not a TSRequest; the text names field and offset.
        """
        _, stop = FRAME.bounds(data, 0, len(data), "TSRequest")
        der.expect_end(stop, len(data), "TSRequest")
        return decode(data)


def encode(  # noqa: PLR0913, PLR0917 - the fields of a TSRequest
    version: int,
    nego_token: bytes | None = None,
    auth_info: bytes | None = None,
    pub_key_auth: bytes | None = None,
    error_code: int | None = None,
    client_nonce: bytes | None = None,
) -> bytes:
    """The DER of a TSRequest with these fields, one whole frame.

    errorCode is written as a signed number, `02 04 C0 00 00 6D`, since FreeRDP's decoder takes at most four bytes.
    """
    content = _VERSION_FIELDS.get(version) or der.encode_integer(0, version)
    if nego_token is not None:
        content += _NEGO_TOKENS.headers(len(nego_token)) + nego_token
    if auth_info is not None:
        content += _AUTH_INFO.headers(len(auth_info)) + auth_info
    if pub_key_auth is not None:
        content += _PUB_KEY_AUTH.headers(len(pub_key_auth)) + pub_key_auth
    if error_code is not None:
        content += der.encode_integer(4, error_code - (1 << 32) if error_code >= 1 << 31 else error_code)
    if client_nonce is not None:
        content += _CLIENT_NONCE.headers(len(client_nonce)) + client_nonce
    return FRAME.headers(len(content)) + content


def encode_token(version: int, token: bytes) -> bytes:
    """The DER of a TSRequest with a token and no other field, as `encode` makes it. The version has one digit."""
    return _TOKEN_ALONE[version].headers(len(token)) + token


def decode(data: bytes) -> TSRequest:
    """Read a message that the caller has measured: `data` is exactly the frame that `der.frame_size` found.

    Raises:
        RemoteProtocolError: `data` is not a TSRequest; the text names field and offset.
    """
    end = len(data)
    length = data[1]
    offset = 2 if length <= _LONGEST_SHORT_LENGTH else 2 + length - _LONG_LENGTH
    version = _VERSIONS.get(data[offset : offset + _VERSION_SIZE])
    if version is None:
        version, offset = _version(data, offset, end)
    else:
        if token := _TOKEN_ALONE[version].begin(data):
            return TSRequest(version, data[token:])
        offset += _VERSION_SIZE
    nego_token = auth_info = pub_key_auth = error_code = client_nonce = None
    tag = data[offset] if offset < end else _NO_TAG
    if tag == _NEGO_TOKENS_TAG:
        try:
            start, offset = _NEGO_TOKENS.bounds(data, offset, end, "negoTokens")
            nego_token = data[start:offset]
        except RemoteProtocolError:  # no element, several elements, or something else
            nego_token, offset = _nego_token(data, offset, end)
        tag = data[offset] if offset < end else _NO_TAG
    if tag == _AUTH_INFO_TAG:
        start, offset = _AUTH_INFO.bounds(data, offset, end, "authInfo")
        auth_info = data[start:offset]
        tag = data[offset] if offset < end else _NO_TAG
    if tag == _PUB_KEY_AUTH_TAG:
        start, offset = _PUB_KEY_AUTH.bounds(data, offset, end, "pubKeyAuth")
        pub_key_auth = data[start:offset]
        tag = data[offset] if offset < end else _NO_TAG
    if tag == _ERROR_CODE_TAG:
        error_code, offset = _error_code(data, offset, end)
        tag = data[offset] if offset < end else _NO_TAG
    if tag == _CLIENT_NONCE_TAG:
        client_nonce, offset = _client_nonce(data, offset, end)
    if offset < end:
        der.pass_over(data, offset, end, _FIELDS, "TSRequest")
    return TSRequest(version, nego_token, auth_info, pub_key_auth, error_code, client_nonce)


def _version(data: bytes, offset: int, end: int) -> tuple[int, int]:
    """A version that this engine does not speak or that is not in DER, and where its field ends."""
    version, stop = der.integer(data, offset, end, 0, "version")
    if not 0 <= version <= 0xFFFFFFFF:
        raise RemoteProtocolError(f"version: expected 0 to 0xFFFFFFFF at byte {offset}, got {version}")
    return version, stop


def _nego_token(data: bytes, offset: int, end: int) -> tuple[bytes, int]:
    """The token of a negoTokens that has not exactly one element, b"" where there is none; and where the field ends.

    [MS-CSSP] 2.2.1.1 allows several elements, and gives all but the first no meaning. A second token that is not empty
    is refused rather than dropped.
    """
    offset, end = der.explicit(data, offset, end, 1, der.SEQUENCE, "negoTokens")
    token = b""
    for _ in range(_MAX_NEGO_TOKENS):
        if offset == end:
            return token, end
        start, offset = _NEGO_TOKEN.bounds(data, offset, end, "negoTokens")
        if start < offset and token:
            raise RemoteProtocolError(f"negoTokens: expected one token, got another one at byte {start}")
        token = data[start:offset] or token
    der.expect_end(offset, end, "negoTokens")
    return token, end


def _error_code(data: bytes, offset: int, end: int) -> tuple[int, int]:
    """An NTSTATUS, which peers write as a signed number in 4 bytes, or as an unsigned one in 5 (pyspnego)."""
    code, stop = der.integer(data, offset, end, 4, "errorCode")
    if not -(1 << 31) <= code < 1 << 32:
        raise RemoteProtocolError(f"errorCode: expected 32 bits at byte {offset}, got an INTEGER of more")
    return code & 0xFFFFFFFF, stop


def _client_nonce(data: bytes, offset: int, end: int) -> tuple[bytes, int]:
    start, stop = _CLIENT_NONCE.bounds(data, offset, end, "clientNonce")
    nonce = data[start:stop]
    if len(nonce) != NONCE_SIZE:
        raise RemoteProtocolError(f"clientNonce: expected {NONCE_SIZE} bytes at byte {offset}, got {len(nonce)}")
    return nonce, stop
