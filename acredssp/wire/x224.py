"""The clear-text PDUs that open an RDP connection ([MS-RDPBCGR] 2.2.1.1, 2.2.1.2), between bytes and frozen values.

    TPKT (4)   03 | 00 | length of the whole packet, u16 big-endian
    X.224 (7)  LI, bytes that follow it | E0 request, D0 confirm | DST-REF (2) | SRC-REF (2) | class 0
    request    [cookie or routing token, CR LF] [RDP_NEG_REQ (8) [RDP_NEG_CORRELATION_INFO (36)]]
    confirm    [RDP_NEG_RSP (8) | RDP_NEG_FAILURE (8)]

RDP's own numbers are little-endian. `frame_size` tells where a PDU ends; the caller judges the bytes behind it.
"""

import dataclasses
import enum
import struct
from typing import Final, Self

from acredssp.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from acredssp.status import OpenEnum
from acredssp.wire import first_bytes
from acredssp.wire.framing import FrameSize

__all__ = [
    "FIRST_BYTE",
    "MAX_SIZE",
    "ConnectionConfirm",
    "ConnectionRequest",
    "FailureCode",
    "Protocols",
    "RequestFlags",
    "ResponseFlags",
    "frame_size",
]

FIRST_BYTE: Final = 3
"""How TPKT begins: with its version (RFC 1006 6)."""

MAX_SIZE: Final = 4 + 1 + 254
"""Bytes of the largest PDU: the length indicator is one byte, and 255 is reserved (X.224 13.2.1)."""

_TPKT_SIZE: Final = 4
_HEADER_SIZE: Final = 11
_CONNECTION_REQUEST: Final = 0xE0
_CONNECTION_CONFIRM: Final = 0xD0

_NAMES: Final = {
    _CONNECTION_REQUEST: "connection request",
    _CONNECTION_CONFIRM: "connection confirm",
    0x80: "disconnect request",
    0xF0: "data",
    0x70: "error",
}
"""The PDUs of class 0 (X.224 13)."""

_TYPE_REQUEST: Final = 1
_TYPE_RESPONSE: Final = 2
_TYPE_FAILURE: Final = 3
_TYPE_CORRELATION: Final = 6

_HEADER: Final = struct.Struct(">BxHBBHHB")
_NEGOTIATION: Final = struct.Struct("<BBHI")
_CORRELATION: Final = struct.Struct("<BBH16s16x")

_COOKIE: Final = b"Cookie: mstshash="
_CRLF: Final = b"\r\n"


class Protocols(enum.IntFlag):
    """The values of requestedProtocols and selectedProtocol ([MS-RDPBCGR] 2.2.1.1.1). Unknown bits are kept.

    Attributes:
        RDP: Standard RDP security, without TLS.
        SSL: TLS, without CredSSP.
        HYBRID: CredSSP.
        RDSTLS: TLS with a logon of redirected clients.
        HYBRID_EX: CredSSP, then the Early User Authorization Result.
        RDSAAD: TLS with a logon by Microsoft Entra.
    """

    RDP = 0x00000000
    SSL = 0x00000001
    HYBRID = 0x00000002
    RDSTLS = 0x00000004
    HYBRID_EX = 0x00000008
    RDSAAD = 0x00000010

    @classmethod
    def _missing_(cls, value: object) -> object:
        """Make a value that has no name. Python would keep each for ever, and a peer may send 2^32 of them."""
        made = super()._missing_(value)
        if int(made) & ~_KNOWN_PROTOCOLS:
            cls._value2member_map_.pop(value, None)
        return made

    @property
    def names(self) -> str:
        """The names of the protocols, as `SSL, HYBRID`; bits without a name as one number; `RDP` for no bit at all."""
        names = [str(protocol.name) for protocol in Protocols if protocol & self]
        unknown = int(self) & ~_KNOWN_PROTOCOLS
        if unknown:
            names.append(f"0x{unknown:08X}")
        return ", ".join(names) or "RDP"


_KNOWN_PROTOCOLS: Final = 0x1F


class RequestFlags(enum.IntFlag):
    """Flags of RDP_NEG_REQ ([MS-RDPBCGR] 2.2.1.1.1).

    Attributes:
        RESTRICTED_ADMIN_MODE_REQUIRED: Restricted Admin: no credentials are delegated.
        REDIRECTED_AUTHENTICATION_MODE_REQUIRED: Remote Credential Guard.
        CORRELATION_INFO_PRESENT: A correlation id follows.
    """

    RESTRICTED_ADMIN_MODE_REQUIRED = 0x01
    REDIRECTED_AUTHENTICATION_MODE_REQUIRED = 0x02
    CORRELATION_INFO_PRESENT = 0x08


class ResponseFlags(enum.IntFlag):
    """Flags of RDP_NEG_RSP ([MS-RDPBCGR] 2.2.1.2.1)."""

    EXTENDED_CLIENT_DATA_SUPPORTED = 0x01
    DYNVC_GFX_PROTOCOL_SUPPORTED = 0x02
    NEGRSP_FLAG_RESERVED = 0x04
    RESTRICTED_ADMIN_MODE_SUPPORTED = 0x08
    REDIRECTED_AUTHENTICATION_MODE_SUPPORTED = 0x10


_NO_REQUEST_FLAGS: Final = RequestFlags(0)
_WITHOUT_CORRELATION: Final = ~int(RequestFlags.CORRELATION_INFO_PRESENT)
_NO_RESPONSE_FLAGS: Final = ResponseFlags(0)


class FailureCode(OpenEnum):
    """failureCode of RDP_NEG_FAILURE ([MS-RDPBCGR] 2.2.1.2.2). An unknown value keeps its number."""

    SSL_REQUIRED_BY_SERVER = 1
    SSL_NOT_ALLOWED_BY_SERVER = 2
    SSL_CERT_NOT_ON_SERVER = 3
    INCONSISTENT_FLAGS = 4
    HYBRID_REQUIRED_BY_SERVER = 5
    SSL_WITH_USER_AUTH_REQUIRED_BY_SERVER = 6


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRequest:
    """The X.224 Connection Request, with which a client opens a connection.

    Attributes:
        requested_protocols: None where RDP_NEG_REQ is absent: such a client knows standard RDP security only.
        flags: Never has CORRELATION_INFO_PRESENT: `encode` sets it where `correlation_id` is given.
        cookie: The name after `Cookie: mstshash=`, mostly the user's name, which mstsc cuts to 9 characters. It is a
            hint for load balancers that anybody can send, never an identity. Bytes that are not UTF-8 become surrogate
            escapes.
        routing_token: A load balancer's token, `Cookie: msts=...` or `tsv://...`, without CR LF. A request has a
            cookie or a routing token, never both.
        correlation_id: 16 bytes that name the connection in logs.
    """

    requested_protocols: Protocols | None = None
    flags: RequestFlags = _NO_REQUEST_FLAGS
    cookie: str | None = None
    routing_token: str | None = None
    correlation_id: bytes | None = None

    def encode(self) -> bytes:
        """The whole PDU.

        Raises:
            LocalProtocolError: The fields contradict each other, or a field cannot be encoded.
        """
        if self.requested_protocols is None and (self.flags or self.correlation_id is not None):
            raise LocalProtocolError("flags and correlation_id travel with requested_protocols, got None")
        body = _encode_text(self.cookie, self.routing_token)
        if self.requested_protocols is not None:
            flags = _without_correlation(self.flags)
            if self.correlation_id is not None:
                flags |= RequestFlags.CORRELATION_INFO_PRESENT
            body += _NEGOTIATION.pack(_TYPE_REQUEST, flags, _NEGOTIATION.size, self.requested_protocols)
        if self.correlation_id is not None:
            _check_correlation_id(self.correlation_id)
            body += _CORRELATION.pack(_TYPE_CORRELATION, 0, _CORRELATION.size, self.correlation_id)
        return _encode_pdu(_CONNECTION_REQUEST, 0, body)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a request. `data` is one whole frame, as `frame_size` measures it, with nothing behind it.

        Raises:
            RemoteProtocolError: `data` is not a Connection Request.
        """
        _check_pdu(data, _CONNECTION_REQUEST, "connection request")
        cookie, routing_token, offset = _decode_text(data)
        if offset == len(data):
            return cls(cookie=cookie, routing_token=routing_token)
        kind, bits, value = _decode_negotiation(data, offset)
        if kind != _TYPE_REQUEST:
            raise RemoteProtocolError(f"connection request: expected RDP_NEG_REQ at byte {offset}, got type {kind}")
        flags = RequestFlags(bits)
        correlation_id = _decode_correlation(data, offset + _NEGOTIATION.size, flags)
        return cls(
            requested_protocols=Protocols(value),
            flags=_without_correlation(flags),
            cookie=cookie,
            routing_token=routing_token,
            correlation_id=correlation_id,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionConfirm:
    """The X.224 Connection Confirm, the server's answer: a protocol, a failure, or (standard RDP) neither.

    Attributes:
        selected_protocol: One protocol, not several.
        flags: The server's flags, which are sent beside `selected_protocol` only.
        failure_code: Why the server refuses; None where it does not.
        src_ref: The server's reference, which nobody reads. Windows and the specification's examples send 0x1234.
    """

    selected_protocol: Protocols | None = None
    flags: ResponseFlags = _NO_RESPONSE_FLAGS
    failure_code: FailureCode | None = None
    src_ref: int = 0x1234

    def encode(self) -> bytes:
        """The whole PDU.

        Raises:
            LocalProtocolError: Both a protocol and a failure, or flags without a protocol.
        """
        if self.failure_code is not None and self.selected_protocol is not None:
            raise LocalProtocolError("expected a selected protocol or a failure code, got both")
        if self.flags and self.selected_protocol is None:
            raise LocalProtocolError("flags travel with selected_protocol, got None")
        body = b""
        if self.selected_protocol is not None:
            body = _NEGOTIATION.pack(_TYPE_RESPONSE, self.flags, _NEGOTIATION.size, self.selected_protocol)
        elif self.failure_code is not None:
            body = _NEGOTIATION.pack(_TYPE_FAILURE, 0, _NEGOTIATION.size, self.failure_code)
        return _encode_pdu(_CONNECTION_CONFIRM, self.src_ref, body)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a confirm. `data` is one whole frame, as `frame_size` measures it, with nothing behind it.

        Raises:
            RemoteProtocolError: `data` is not a Connection Confirm.
        """
        src_ref = _check_pdu(data, _CONNECTION_CONFIRM, "connection confirm")
        if len(data) == _HEADER_SIZE:
            return cls(src_ref=src_ref)
        kind, bits, value = _decode_negotiation(data, _HEADER_SIZE)
        if len(data) != _HEADER_SIZE + _NEGOTIATION.size:
            raise RemoteProtocolError(f"connection confirm: expected 11 or 19 bytes, got {len(data)}")
        if kind == _TYPE_RESPONSE:
            return cls(selected_protocol=Protocols(value), flags=ResponseFlags(bits), src_ref=src_ref)
        if kind == _TYPE_FAILURE:
            return cls(failure_code=FailureCode(value), src_ref=src_ref)
        raise RemoteProtocolError(f"connection confirm: expected RDP_NEG_RSP or RDP_NEG_FAILURE, got type {kind}")


def frame_size(data: bytes | bytearray | memoryview, offset: int = 0) -> FrameSize:
    """The size of the TPKT packet that begins at `offset` (RFC 1006 6).

    Raises:
        LimitExceeded: The packet is longer than any Connection Request or Confirm.
        RemoteProtocolError: These bytes begin no TPKT packet; raised as soon as the offending byte is there.
    """
    have = len(data) - offset
    if have and data[offset] != FIRST_BYTE:
        otherwise = f"TPKT: expected version {FIRST_BYTE}, got {data[offset]}"
        raise first_bytes.refusal(data, offset, "RDP's negotiation in clear (TPKT)", otherwise)
    if have < _TPKT_SIZE:
        return FrameSize(0, _TPKT_SIZE - have)
    total = data[offset + 2] << 8 | data[offset + 3]
    if total < _HEADER_SIZE:
        raise RemoteProtocolError(f"TPKT: expected a length of at least {_HEADER_SIZE}, got {total}")
    if total > MAX_SIZE:
        raise LimitExceeded(f"TPKT: expected a length of at most {MAX_SIZE}, got {total}")
    return FrameSize(total, max(0, total - have))


def _encode_pdu(code: int, src_ref: int, body: bytes) -> bytes:
    total = _HEADER_SIZE + len(body)
    if total > MAX_SIZE:
        raise LocalProtocolError(f"expected a PDU of at most {MAX_SIZE} bytes, got {total}: shorten the cookie")
    return _HEADER.pack(FIRST_BYTE, total, total - 5, code, 0, src_ref, 0) + body


def _check_pdu(data: bytes, code: int, what: str) -> int:
    """Refuse anything but one whole PDU of `code`; return its SRC-REF. References and class are not checked."""
    expected = frame_size(data).total or _HEADER_SIZE
    if len(data) != expected:
        raise RemoteProtocolError(f"{what}: expected {expected} bytes, got {len(data)}")
    _, _, length_indicator, got, _, src_ref, _ = _HEADER.unpack_from(data)
    if length_indicator != len(data) - 5:
        raise RemoteProtocolError(f"{what}: expected length indicator {len(data) - 5}, got {length_indicator}")
    if got != code:
        raise RemoteProtocolError(f"{what}: expected code 0x{code:02X}, got 0x{got:02X}{_meaning(got)}")
    return int(src_ref)


def _meaning(code: int) -> str:
    """The name of a PDU in parentheses; empty where it has no name."""
    name = _NAMES.get(code & 0xF0)
    return f" ({name})" if name else ""


def _encode_text(cookie: str | None, routing_token: str | None) -> bytes:
    if cookie is not None and routing_token is not None:
        raise LocalProtocolError("expected a cookie or a routing token, got both")
    text = cookie if routing_token is None else routing_token
    if text is None:
        return b""
    try:
        line = (b"" if cookie is None else _COOKIE) + text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise LocalProtocolError("expected a cookie or routing token in Unicode, got a lone surrogate") from error
    if line < b" " or b"\r" in line or b"\n" in line:
        raise LocalProtocolError(
            "expected a cookie or routing token of one line that begins with a printable character, got another"
        )
    return line + _CRLF


def _decode_text(data: bytes) -> tuple[str | None, str | None, int]:
    """The cookie, the routing token, and the offset where the negotiation data begins."""
    # Both texts begin with printable ASCII; negotiation data begins with its type, 1 to 3.
    if len(data) == _HEADER_SIZE or data[_HEADER_SIZE] < 0x20:
        return None, None, _HEADER_SIZE
    stop = data.find(_CRLF, _HEADER_SIZE)
    if stop < 0:
        raise RemoteProtocolError(
            f"connection request: expected CR LF behind the text at byte {_HEADER_SIZE}, got none"
        )
    line = data[_HEADER_SIZE:stop]
    if b"\r" in line or b"\n" in line:
        raise RemoteProtocolError("connection request: expected a cookie or routing token of one line, got several")
    is_cookie = line.startswith(_COOKIE)
    text = line.removeprefix(_COOKIE).decode("utf-8", "surrogateescape")
    return (text, None, stop + 2) if is_cookie else (None, text, stop + 2)


def _decode_negotiation(data: bytes, offset: int) -> tuple[int, int, int]:
    """Type, flags and value of the negotiation structure at `offset`."""
    if len(data) - offset < _NEGOTIATION.size:
        raise RemoteProtocolError(f"negotiation data: expected 8 bytes at byte {offset}, got {len(data) - offset}")
    kind, flags, length, value = _NEGOTIATION.unpack_from(data, offset)
    if length != _NEGOTIATION.size:
        raise RemoteProtocolError(f"negotiation data: expected length 8 at byte {offset}, got {length}")
    return kind, flags, value


def _decode_correlation(data: bytes, offset: int, flags: RequestFlags) -> bytes | None:
    """The correlation id, which must be there if and only if the flag is set."""
    expected = _CORRELATION.size if RequestFlags.CORRELATION_INFO_PRESENT in flags else 0
    if len(data) - offset != expected:
        raise RemoteProtocolError(
            f"connection request: expected {expected} bytes behind RDP_NEG_REQ, got {len(data) - offset}"
        )
    if not expected:
        return None
    kind, _, length, correlation_id = _CORRELATION.unpack_from(data, offset)
    if (kind, length) != (_TYPE_CORRELATION, _CORRELATION.size):
        raise RemoteProtocolError(f"correlation info: expected type 6 of 36 bytes, got type {kind} of {length}")
    return bytes(correlation_id)


def _without_correlation(flags: RequestFlags) -> RequestFlags:
    # Not `~flag`: for an IntFlag that is every *known* other bit, and would drop the unknown ones.
    return flags & _WITHOUT_CORRELATION if flags else flags


def _check_correlation_id(correlation_id: bytes) -> None:
    """Refuse what a client must not send ([MS-RDPBCGR] 2.2.1.1.2). A server takes any id, since it only logs it."""
    if len(correlation_id) != 16 or correlation_id[0] in {0x00, 0xF4} or 0x0D in correlation_id:
        raise LocalProtocolError("correlation_id: expected 16 bytes, the first not 00 or F4, none 0D")
