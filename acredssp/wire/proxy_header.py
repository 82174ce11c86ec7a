r"""The PROXY protocol header, by which a load balancer tells the address of the client whose connection it passes on.

The specification is HAProxy's `proxy-protocol.txt`. Both versions come before everything else on the connection:

    version 1    PROXY TCP4|TCP6 SOURCE DESTINATION PORT PORT CR LF     one line, at most 107 bytes
                 PROXY UNKNOWN [anything] CR LF
    version 2    \r\n\r\n\0\r\nQUIT\n (12) | version 2, command (1) | family, protocol (1) | length, u16 (2)
                 source and destination address | source and destination port | TLVs: type (1), length u16 (2), value

Numbers are big-endian. Limits and logs rely on the address in the header, so a header is accepted only in the form that
the specification allows. The caller decides whether to trust the sender. `frame_size` tells where the header ends; the
bytes behind it belong to the caller.
"""

import contextlib
import dataclasses
import enum
import functools
import ipaddress
import re
import struct
from collections.abc import Iterator
from typing import Final, Self, TypeAlias

from acredssp.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from acredssp.wire import first_bytes
from acredssp.wire.framing import FrameSize

__all__ = [
    "MAX_LINE",
    "MAX_SIZE",
    "ProxyAddress",
    "ProxyCommand",
    "ProxyEndpoint",
    "ProxyFamily",
    "ProxyHeader",
    "ProxyTLS",
    "TLVType",
    "frame_size",
]

MAX_LINE: Final = 107
"""Bytes of the longest header of version 1, CR LF included (2.1)."""

MAX_SIZE: Final = 2048
"""Bytes of the longest header of version 2 that is accepted. The length field would allow 65,551. The specification
wants the header to fit into 536 bytes; two Unix addresses with all registered TLVs of usual length take about 1,400."""

_SHORTEST_LINE: Final = len(b"PROXY UNKNOWN\r\n")
_LINE: Final = b"PROXY "
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_HEADER: Final = struct.Struct(">12sBBH")
_PORTS: Final = struct.Struct(">HH")
_TLV: Final = struct.Struct(">BH")
_TLS: Final = struct.Struct(">BI")
_CHECKSUM: Final = struct.Struct(">I")
_VERSION_2: Final = 0x20
_UNIX_SIZE: Final = 108
_CRLF: Final = b"\r\n"
_MOST_UNIQUE_ID: Final = 128
_PORT: Final = re.compile(rb"0|[1-9][0-9]{0,4}")
_HIGHEST_PORT: Final = 0xFFFF
_HINT: Final = (
    "switch on send-proxy or send-proxy-v2 in the load balancer, or remove its address from proxy_protocol "
    "(--proxy-protocol)"
)


class ProxyCommand(enum.Enum):
    """On whose behalf the load balancer made the connection (2.2).

    Attributes:
        LOCAL: On its own behalf, as for a health check. The real addresses count, and the header's contents are
            ignored.
        PROXY: On behalf of a client, whose address is in the header.
    """

    LOCAL = 0
    PROXY = 1


class ProxyFamily(enum.Enum):
    """The address family and transport protocol of the client's connection (2.2). Version 1 has TCP alone.

    Attributes:
        UNSPEC: The sender does not know them (version 1: UNKNOWN). The header has no addresses.
        TCP4: TCP over IPv4.
        UDP4: UDP over IPv4.
        TCP6: TCP over IPv6.
        UDP6: UDP over IPv6.
        UNIX_STREAM: A Unix socket for streams.
        UNIX_DGRAM: A Unix socket for datagrams.
    """

    UNSPEC = 0x00
    TCP4 = 0x11
    UDP4 = 0x12
    TCP6 = 0x21
    UDP6 = 0x22
    UNIX_STREAM = 0x31
    UNIX_DGRAM = 0x32


class TLVType(enum.IntEnum):
    """The registered types of the TLVs of version 2 (2.2)."""

    ALPN = 0x01
    AUTHORITY = 0x02
    CRC32C = 0x03
    NOOP = 0x04
    UNIQUE_ID = 0x05
    SSL = 0x20
    SSL_VERSION = 0x21
    SSL_CN = 0x22
    SSL_CIPHER = 0x23
    SSL_SIG_ALG = 0x24
    SSL_KEY_ALG = 0x25
    NETNS = 0x30


_FAMILIES: Final = {family.value: family for family in ProxyFamily}
_LINE_FAMILIES: Final = {b"TCP4": ProxyFamily.TCP4, b"TCP6": ProxyFamily.TCP6}
_ADDRESS_SIZES: Final = {
    ProxyFamily.UNSPEC: 0,
    ProxyFamily.TCP4: 12,
    ProxyFamily.UDP4: 12,
    ProxyFamily.TCP6: 36,
    ProxyFamily.UDP6: 36,
    ProxyFamily.UNIX_STREAM: 216,
    ProxyFamily.UNIX_DGRAM: 216,
}
_IPV4: Final = (ProxyFamily.TCP4, ProxyFamily.UDP4)
_IPV6: Final = (ProxyFamily.TCP6, ProxyFamily.UDP6)
_ONCE: Final = frozenset({
    TLVType.ALPN, TLVType.AUTHORITY, TLVType.CRC32C, TLVType.UNIQUE_ID, TLVType.SSL, TLVType.NETNS,
    TLVType.SSL_VERSION, TLVType.SSL_CN, TLVType.SSL_CIPHER, TLVType.SSL_SIG_ALG, TLVType.SSL_KEY_ALG,
})  # fmt: skip
"""The TLVs that a header may have only once, since of two it would be unclear which one counts."""


@dataclasses.dataclass(frozen=True, slots=True)
class ProxyEndpoint:
    """One end of a client's TCP or UDP connection.

    Attributes:
        host: The IP address.
        port: The port.
    """

    host: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int


ProxyAddress: TypeAlias = ProxyEndpoint | bytes
"""One end of a client's connection; bytes for the path of a Unix socket, empty for a socket without a name."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProxyTLS:
    """The load balancer's facts about the client's TLS connection to it (2.2.6). A text is empty where it is not told.

    Attributes:
        over_tls: Whether the client connected over TLS.
        certificate: Whether the client showed a certificate, on this connection or earlier in its TLS session.
        verified: Whether the load balancer verified that certificate. Without `certificate` the value means nothing.
        version: The version of TLS, as the load balancer writes it.
        common_name: The common name of the client's certificate. Bytes that are not UTF-8 become surrogate escapes.
        cipher: The cipher suite.
        signature_algorithm: The algorithm by which the load balancer's certificate is signed.
        key_algorithm: The algorithm of the key in the load balancer's certificate.
    """

    over_tls: bool
    certificate: bool
    verified: bool
    version: str = ""
    common_name: str = ""
    cipher: str = ""
    signature_algorithm: str = ""
    key_algorithm: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProxyHeader:
    """The header that a load balancer sends in front of a client's bytes.

    Attributes:
        version: The version of the protocol, 1 or 2.
        command: On whose behalf the connection was made. Version 1 has no LOCAL.
        family: The address family and transport protocol of the client's connection.
        source: The client's address; None with LOCAL and UNSPEC.
        destination: The address that the client connected to; None with LOCAL and UNSPEC.
        tlvs: Version 2: types and values in the order received, without CRC32C and NOOP. With LOCAL and UNSPEC no TLVs
            are read, since it is not defined where they begin.
        checksum: Version 2: whether the header had a CRC32C, which was right.
    """

    version: int = 2
    command: ProxyCommand = ProxyCommand.PROXY
    family: ProxyFamily = ProxyFamily.UNSPEC
    source: ProxyAddress | None = None
    destination: ProxyAddress | None = None
    tlvs: tuple[tuple[int, bytes], ...] = ()
    checksum: bool = False

    @property
    def authority(self) -> str:
        """The host name that the client asked the load balancer for (SNI); empty for none.

        Bytes that are not UTF-8 become surrogate escapes.
        """
        return _text(self._value(TLVType.AUTHORITY) or b"")

    @property
    def unique_id(self) -> bytes:
        """The load balancer's id of this connection; empty for none."""
        return self._value(TLVType.UNIQUE_ID) or b""

    @property
    def tls(self) -> ProxyTLS | None:
        """The facts of the client's TLS connection to the load balancer; None where the header has none."""
        value = self._value(TLVType.SSL)
        return _decode_tls(value) if value is not None else None

    def _value(self, wanted: TLVType) -> bytes | None:
        return next((value for kind, value in self.tlvs if kind == wanted), None)

    def encode(self) -> bytes:
        """The whole header.

        Raises:
            LocalProtocolError: The fields contradict each other, or a field cannot be encoded.
        """
        for address in (self.source, self.destination):
            _check_address(self.family, self.command, address)
        if self.version == 1:
            return self._encode_line()
        if self.version != 2:
            raise LocalProtocolError(f"version: expected 1 or 2, got {self.version}")
        return self._encode_binary()

    def _encode_line(self) -> bytes:
        if self.command is ProxyCommand.LOCAL or self.tlvs or self.checksum:
            raise LocalProtocolError("version 1 has no LOCAL, TLVs and checksum: expected version 2")
        if self.family is ProxyFamily.UNSPEC:
            return b"PROXY UNKNOWN\r\n"
        if self.family not in _LINE_FAMILIES.values():
            raise LocalProtocolError(f"version 1: expected TCP4, TCP6 or UNSPEC, got {self.family.name}")
        source, destination = self.source, self.destination
        assert isinstance(source, ProxyEndpoint)
        assert isinstance(destination, ProxyEndpoint)
        line = f"PROXY {self.family.name} {source.host} {destination.host} {source.port} {destination.port}\r\n"
        return line.encode("ascii")

    def _encode_binary(self) -> bytes:
        body = b"" if self.source is None else _encode_addresses(self.family, self.source, self.destination)
        if self.tlvs and (self.command is ProxyCommand.LOCAL or self.family is ProxyFamily.UNSPEC):
            raise LocalProtocolError("tlvs: expected none with LOCAL and UNSPEC, where nobody reads them")
        body += b"".join(_encode_tlv(kind, value) for kind, value in self.tlvs)
        _check_tlvs(body, len(body) - sum(_TLV.size + len(value) for _, value in self.tlvs), LocalProtocolError)
        if self.checksum:
            if self.source is None:
                raise LocalProtocolError("checksum: expected none with LOCAL and UNSPEC, where nobody reads it")
            body += _encode_tlv(TLVType.CRC32C, bytes(_CHECKSUM.size))
        if _HEADER.size + len(body) > MAX_SIZE:
            raise LocalProtocolError(f"expected a header of at most {MAX_SIZE} bytes, got {_HEADER.size + len(body)}")
        version_command = _VERSION_2 | self.command.value
        header = _HEADER.pack(_SIGNATURE, version_command, self.family.value, len(body)) + body
        return header[: -_CHECKSUM.size] + _CHECKSUM.pack(_crc32c(header)) if self.checksum else header

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a header. `data` is one whole frame, as `frame_size` measures it, with nothing behind it.

        Raises:
            RemoteProtocolError: `data` is not a PROXY header.
        """
        total, missing = frame_size(data)
        if missing or len(data) != total:
            raise RemoteProtocolError(f"PROXY header: expected {total or len(data) + missing} bytes, got {len(data)}")
        return cls._decode_line(data) if data.startswith(_LINE) else cls._decode_binary(data)

    @classmethod
    def _decode_line(cls, data: bytes) -> Self:
        fields = data.removesuffix(_CRLF).split(b" ")
        if fields[1] == b"UNKNOWN":
            return cls(version=1)
        family = _LINE_FAMILIES.get(fields[1])
        if family is None:
            raise RemoteProtocolError("PROXY header: expected TCP4, TCP6 or UNKNOWN at byte 6, got another word")
        if len(fields) != 6:
            raise RemoteProtocolError(f"PROXY header: expected 6 words with one space between, got {len(fields)}")
        return cls(
            version=1,
            family=family,
            source=ProxyEndpoint(_decode_host(family, "source", fields[2]), _decode_port("source", fields[4])),
            destination=ProxyEndpoint(
                _decode_host(family, "destination", fields[3]), _decode_port("destination", fields[5])
            ),
        )

    @classmethod
    def _decode_binary(cls, data: bytes) -> Self:
        _, version_command, family_byte, _ = _HEADER.unpack_from(data)
        if version_command & 0x0F == ProxyCommand.LOCAL.value:
            return cls(command=ProxyCommand.LOCAL)
        family = _FAMILIES[family_byte]
        if family is ProxyFamily.UNSPEC:
            return cls()
        source, destination = _decode_addresses(family, data)
        offset = _HEADER.size + _ADDRESS_SIZES[family]
        _check_tlvs(data, offset, RemoteProtocolError)
        found = [(kind, data[start:end]) for kind, start, end in _walk(data, offset, len(data), RemoteProtocolError)]
        return cls(
            family=family,
            source=source,
            destination=destination,
            tlvs=tuple((kind, value) for kind, value in found if kind not in (TLVType.CRC32C, TLVType.NOOP)),
            checksum=any(kind == TLVType.CRC32C for kind, _ in found),
        )


def frame_size(data: bytes | bytearray | memoryview, offset: int = 0) -> FrameSize:
    """The size of the header that begins at `offset`, of either version.

    Raises:
        LimitExceeded: The header is longer than `MAX_LINE` or `MAX_SIZE`.
        RemoteProtocolError: These bytes begin no header; raised as soon as the offending byte is there.
    """
    most = offset + MAX_LINE
    head = bytes(data[offset:most])
    size = len(head)
    if _LINE.startswith(head[: len(_LINE)]):
        return _line_size(head) if size >= len(_LINE) else FrameSize(0, _SHORTEST_LINE - size)
    if _SIGNATURE.startswith(head[: len(_SIGNATURE)]):
        return _binary_size(head, len(data) - offset)
    error = first_bytes.refusal(data, offset, "a PROXY header", "expected a PROXY header, got other bytes")
    error.hint = _HINT
    raise error


def _line_size(head: bytes) -> FrameSize:
    """The size of a header of version 1 that begins with `head`."""
    size = len(head)
    stop = next((index for index, byte in enumerate(head) if byte in _CRLF), size)
    if stop >= MAX_LINE - 1:
        raise LimitExceeded(f"PROXY header: expected a line of at most {MAX_LINE} bytes, got a longer one")
    if stop == size:
        return FrameSize(0, max(_SHORTEST_LINE - size, len(_CRLF)))
    if head[stop] == _CRLF[0] and stop + 1 == size:
        return FrameSize(0, 1)
    if not head.startswith(_CRLF, stop):
        raise RemoteProtocolError(f"PROXY header: expected CR LF at byte {stop}, got a single one of them")
    if stop + len(_CRLF) < _SHORTEST_LINE:
        raise RemoteProtocolError(
            f"PROXY header: expected a line of at least {_SHORTEST_LINE} bytes, got one of {stop + len(_CRLF)}"
        )
    return FrameSize(stop + len(_CRLF), 0)


def _binary_size(head: bytes, have: int) -> FrameSize:
    """The size of a header of version 2 that begins with `head`; `have` bytes have arrived."""
    if have > 12 and head[12] & 0xF0 != _VERSION_2:
        raise RemoteProtocolError(f"PROXY header: expected version 2 at byte 12, got {head[12] >> 4}")
    if have > 12 and head[12] & 0x0F > ProxyCommand.PROXY.value:
        raise RemoteProtocolError(f"PROXY header: expected command 0 or 1 at byte 12, got {head[12] & 0x0F}")
    is_local = have > 12 and head[12] & 0x0F == ProxyCommand.LOCAL.value
    if have > 13 and not is_local and head[13] not in _FAMILIES:
        raise RemoteProtocolError(f"PROXY header: expected a known family at byte 13, got 0x{head[13]:02X}")
    if have < _HEADER.size:
        return FrameSize(0, _HEADER.size - have)
    length = head[14] << 8 | head[15]
    least = 0 if is_local else _ADDRESS_SIZES[_FAMILIES[head[13]]]
    if length < least:
        raise RemoteProtocolError(f"PROXY header: expected a length of at least {least} at byte 14, got {length}")
    total = _HEADER.size + length
    if total > MAX_SIZE:
        raise LimitExceeded(f"PROXY header: expected at most {MAX_SIZE} bytes, got {total}")
    return FrameSize(total, max(0, total - have))


# --- addresses ---


def _decode_host(family: ProxyFamily, end: str, text: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that a word of version 1 is. ipaddress takes no leading zeros, signs or letters of other scripts."""
    kind = ipaddress.IPv4Address if family is ProxyFamily.TCP4 else ipaddress.IPv6Address
    if b"%" not in text:  # a scope holds on one machine only
        with contextlib.suppress(ValueError):
            return kind(text.decode("ascii"))
    raise RemoteProtocolError(f"PROXY header: expected the {end} as an address of {family.name}, got other text")


def _decode_port(end: str, text: bytes) -> int:
    port = int(text) if _PORT.fullmatch(text) else _HIGHEST_PORT + 1
    if port > _HIGHEST_PORT:
        raise RemoteProtocolError(f"PROXY header: expected the {end} port as a number from 0 to 65535, got other text")
    return port


def _decode_addresses(family: ProxyFamily, data: bytes) -> tuple[ProxyAddress, ProxyAddress]:
    """Source and destination of version 2; the block is whole."""
    start = _HEADER.size
    if family not in _IPV4 and family not in _IPV6:
        middle, end = start + _UNIX_SIZE, start + 2 * _UNIX_SIZE
        return data[start:middle].rstrip(b"\0"), data[middle:end].rstrip(b"\0")
    kind, size = (ipaddress.IPv4Address, 4) if family in _IPV4 else (ipaddress.IPv6Address, 16)
    middle, end = start + size, start + 2 * size
    source_port, destination_port = _PORTS.unpack_from(data, end)
    return ProxyEndpoint(kind(data[start:middle]), source_port), ProxyEndpoint(kind(data[middle:end]), destination_port)


def _check_address(family: ProxyFamily, command: ProxyCommand, address: ProxyAddress | None) -> None:
    """Refuse an address that is not of the family.

    Raises:
        LocalProtocolError: The address is of another family, or cannot be encoded.
    """
    right: type | tuple[type, ...] = bytes
    if command is ProxyCommand.LOCAL or family is ProxyFamily.UNSPEC:
        right = type(None)
    elif family in _IPV4 or family in _IPV6:
        right = ProxyEndpoint
    if not isinstance(address, right):
        what = f"{command.name} with {family.name}"
        raise LocalProtocolError(f"source and destination: expected those of {what}, got {type(address).__name__}")
    if isinstance(address, bytes) and (len(address) > _UNIX_SIZE or address.endswith(b"\0")):
        raise LocalProtocolError("source and destination: expected paths of at most 108 bytes without a final NUL")
    if isinstance(address, ProxyEndpoint):
        if address.host.version != (4 if family in _IPV4 else 6):
            raise LocalProtocolError(f"expected addresses of {family.name}, got one of version {address.host.version}")
        if isinstance(address.host, ipaddress.IPv6Address) and address.host.scope_id is not None:
            raise LocalProtocolError("expected addresses without a scope, which means nothing to another machine")
        if not 0 <= address.port <= _HIGHEST_PORT:
            raise LocalProtocolError(f"expected a port from 0 to 65535, got {address.port}")


def _encode_addresses(family: ProxyFamily, source: ProxyAddress, destination: ProxyAddress | None) -> bytes:
    """The address block of version 2; the addresses are those of the family."""
    if isinstance(source, ProxyEndpoint) and isinstance(destination, ProxyEndpoint):
        return source.host.packed + destination.host.packed + _PORTS.pack(source.port, destination.port)
    assert isinstance(source, bytes), family
    assert isinstance(destination, bytes), family
    return source.ljust(_UNIX_SIZE, b"\0") + destination.ljust(_UNIX_SIZE, b"\0")


# --- TLVs ---

_Raised: TypeAlias = type[LocalProtocolError] | type[RemoteProtocolError]


def _encode_tlv(kind: int, value: bytes) -> bytes:
    if not 0 <= kind <= 0xFF or len(value) > MAX_SIZE:
        raise LocalProtocolError(f"tlvs: expected a type from 0 to 255 and at most {MAX_SIZE} bytes, got others")
    return _TLV.pack(kind, len(value)) + value


def _walk(data: bytes, offset: int, end: int, wrong: _Raised) -> Iterator[tuple[int, int, int]]:
    """The type, and the bounds of the value, of each TLV from `offset` on. The last one has to end at `end`."""
    seen = set()
    while offset < end:
        if end - offset < _TLV.size:
            raise wrong(f"PROXY header: expected a TLV of at least 3 bytes at byte {offset}, got {end - offset}")
        kind, length = _TLV.unpack_from(data, offset)
        start = offset + _TLV.size
        offset = start + length
        if offset > end:
            raise wrong(f"PROXY header: expected TLV 0x{kind:02X} to have at most {end - start} bytes, got {length}")
        if kind in seen and kind in _ONCE:
            raise wrong(f"PROXY header: expected one TLV 0x{kind:02X}, got another at byte {start - _TLV.size}")
        seen.add(kind)
        yield kind, start, offset


def _check_tlvs(data: bytes, offset: int, wrong: _Raised) -> None:
    """Refuse TLVs from `offset` on that are malformed, or that may not be there."""
    for kind, start, end in _walk(data, offset, len(data), wrong):
        if kind == TLVType.CRC32C:
            if wrong is LocalProtocolError:
                raise wrong("tlvs: expected no CRC32C, which checksum=True writes")
            _check_checksum(data, start, end)
        elif kind == TLVType.UNIQUE_ID and end - start > _MOST_UNIQUE_ID:
            raise wrong(f"PROXY header: expected a unique id of at most {_MOST_UNIQUE_ID} bytes, got {end - start}")
        elif kind == TLVType.SSL:
            if end - start < _TLS.size:
                raise wrong(f"PROXY header: expected an SSL TLV of at least {_TLS.size} bytes, got {end - start}")
            for _ in _walk(data, start + _TLS.size, end, wrong):
                pass


def _decode_tls(data: bytes) -> ProxyTLS:
    """Read an SSL TLV that `_check_tlvs` has checked."""
    client, verify = _TLS.unpack_from(data)
    inner = {
        kind: _text(data[start:end]) for kind, start, end in _walk(data, _TLS.size, len(data), RemoteProtocolError)
    }
    return ProxyTLS(
        over_tls=bool(client & 0x01),
        certificate=bool(client & 0x06),
        verified=verify == 0,
        version=inner.get(TLVType.SSL_VERSION, ""),
        common_name=inner.get(TLVType.SSL_CN, ""),
        cipher=inner.get(TLVType.SSL_CIPHER, ""),
        signature_algorithm=inner.get(TLVType.SSL_SIG_ALG, ""),
        key_algorithm=inner.get(TLVType.SSL_KEY_ALG, ""),
    )


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


# --- the checksum ---


def _check_checksum(data: bytes, start: int, end: int) -> None:
    if end - start != _CHECKSUM.size:
        raise RemoteProtocolError(f"PROXY header: expected a CRC32C of 4 bytes, got {end - start}")
    (got,) = _CHECKSUM.unpack_from(data, start)
    expected = _crc32c(data[:start] + bytes(_CHECKSUM.size) + data[end:])
    if got != expected:
        raise RemoteProtocolError(f"PROXY header: expected CRC32C 0x{expected:08X}, got 0x{got:08X}")


def _crc32c(data: bytes) -> int:
    """The CRC of the Castagnoli polynomial (RFC 4960 appendix B).

    zlib and binascii have another polynomial only, and cryptography has no checksums. A checksum against transmission
    errors is not cryptography, so a package in place of these lines would cost users more than it gives.
    """
    table, crc = _crc32c_table(), 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@functools.cache
def _crc32c_table() -> tuple[int, ...]:
    """The table for `_crc32c`. It is made for the first header with a checksum, since most load balancers send none."""
    entries = []
    for byte in range(256):
        entry = byte
        for _ in range(8):
            entry = entry >> 1 ^ (0x82F63B78 if entry & 1 else 0)
        entries.append(entry)
    return tuple(entries)
