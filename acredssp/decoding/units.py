"""From bytes to trees: which unit begins at an offset, where it ends, and what it holds.

A stream of a conversation holds one unit behind the other: PDUs of X.224, records of TLS, TSRequests, tokens, messages
of HTTP. Each unit is decoded by itself, so a fault in one does not hide the next where the first one's size is known.
"""

import dataclasses
import enum
from collections.abc import Callable, Collection
from typing import Final

from acredssp.decoding import asn1, credssp, gss, http, ntlm, rdp, tls
from acredssp.decoding.nodes import Malformed, Node, Secret, Source, TooMuch
from acredssp.wire.preconnection import PreconnectionPDU

__all__ = ["MOST_BYTES", "MOST_UNITS", "Kind", "decode"]

MOST_BYTES: Final = 1 << 24
"""Bytes of one input: a logon has some thousands."""
MOST_UNITS: Final = 2_000
"""Units of one input."""

_RECORDS: Final = {20: "ChangeCipherSpec", 21: "Alert", 22: "Handshake", 23: "Application Data"}
_HANDSHAKE: Final = {
    1: "ClientHello",
    2: "ServerHello",
    4: "NewSessionTicket",
    11: "Certificate",
    12: "ServerKeyExchange",
    13: "CertificateRequest",
    14: "ServerHelloDone",
    16: "ClientKeyExchange",
}
_LEVELS: Final = {1: "warning", 2: "fatal"}
_ALERTS: Final = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    109: "missing_extension",
    112: "unrecognized_name",
    116: "certificate_required",
    120: "no_application_protocol",
}


class Kind(enum.StrEnum):
    """What a unit is.

    Attributes:
        TS_REQUEST: A TSRequest of CredSSP.
        TS_CREDENTIALS: The plaintext of a TSRequest's authInfo.
        TOKEN: A token of SPNEGO, NTLM or Kerberos.
        SEALED: What NTLM has sealed, with its signature in front.
        X224: A TPKT with a PDU of X.224.
        MCS: A Connect-Initial or Connect-Response of MCS without TPKT.
        TLS: A record of TLS.
        HTTP: A message of HTTP/1.
        EARLY_AUTHORIZATION: The four bytes behind a logon with HYBRID_EX.
        PRECONNECTION: An RDP_PRECONNECTION_PDU.
    """

    TS_REQUEST = "ts-request"
    TS_CREDENTIALS = "ts-credentials"
    TOKEN = "token"  # noqa: S105 - no password
    SEALED = "sealed"
    X224 = "x224"
    MCS = "mcs"
    TLS = "tls"
    HTTP = "http"
    EARLY_AUTHORIZATION = "early-authorization"
    PRECONNECTION = "preconnection"


@dataclasses.dataclass(frozen=True, slots=True)
class _Unit:
    """One unit's kind and bounds."""

    kind: Kind
    end: int


_MAY_HOLD_SECRETS: Final = frozenset({Kind.TS_REQUEST, Kind.TS_CREDENTIALS, Kind.TOKEN, Kind.SEALED, None})
"""Kinds around whose faults little is shown; None stands for unknown bytes."""


def decode(data: bytes, *, kind: Kind | None = None, show: Collection[Secret] = ()) -> Node:
    """Decode bytes of a conversation into a tree. No bytes make it fail: a fault stands in the tree.

    Args:
        data: One unit, or several behind each other; at most 16 MiB are looked at.
        kind: What the first unit is; None to tell by its bytes.
        show: The secrets whose values the tree shall hold.

    Returns:
        A node whose children are the units.
    """
    note = "" if len(data) <= MOST_BYTES else f"only the first {MOST_BYTES} bytes are shown"
    data = data[:MOST_BYTES]
    source = Source(data, frozenset(show))
    root = Node("input", 0, len(data), note=note)
    offset = 0
    try:
        while offset < len(data) and len(root.children) < MOST_UNITS:
            offset = _unit(source, root, offset, kind)
            kind = None
    except TooMuch:
        root.note = "the tree ends here: there are more fields than are shown"
    if offset < len(data) and not root.note and not root.fault:
        root.note = f"the last {len(data) - offset} bytes are not shown"
    return root


def _unit(source: Source, root: Node, offset: int, kind: Kind | None) -> int:
    """Add the unit at an offset, and return where the next one begins."""
    count = len(root.children)
    try:
        kind = kind or _kind(source.data, offset)
        return _DECODERS.get(kind, _unknown)(source, root, offset, len(source.data))
    except (Malformed, RecursionError) as error:
        malformed = error if isinstance(error, Malformed) else Malformed(offset, "too deeply nested")
        if len(root.children) == count:
            source.new(root, str(kind) if kind else "unknown bytes", offset, len(source.data))
        node = root.children[count]
        if kind in _MAY_HOLD_SECRETS:  # a wrong length or tag makes a secret of another field's bytes
            source.guard(Secret.UNKNOWN, 0 if offset else 32, len(source.data))
        node.fault = source.fault(malformed)
        return _end_after_fault(source, offset, node)


def _end_after_fault(source: Source, offset: int, node: Node) -> int:
    """Return where to go on behind a unit with a fault: where its length says, else at the end."""
    end = node.offset + node.size
    return end if offset < end < len(source.data) and node.name != "unknown bytes" else len(source.data)


def _kind(data: bytes, offset: int) -> Kind | None:
    """Tell what the unit at an offset is."""
    start = data[offset : offset + 64]
    for kind, begins in _BEGINNINGS:
        if begins(start):
            return kind
    if http.begins_message(data[offset : offset + 8192]):
        return Kind.HTTP
    return Kind.EARLY_AUTHORIZATION if start in {b"\0\0\0\0", b"\5\0\0\0"} else None


def _is_token(start: bytes) -> bool:
    kerberos = start[:2] in {b"\x05\x04", b"\x04\x04"} and start[3:4] == b"\xff"
    return start.startswith((b"NTLMSSP\0", b"\x60", b"\xa0", b"\xa1")) or kerberos or gss.is_kerberos(start[0])


def _is_credentials(start: bytes) -> bool:
    """A TSCredentials has an OCTET STRING in [1]; a TSRequest has a SEQUENCE there."""
    at = start.find(b"\xa0\x03\x02\x01", 0, 8)
    if start[:1] != b"\x30" or at < 0 or start[at + 5 : at + 6] != b"\xa1":
        return False
    long = start[at + 6 : at + 7] >= b"\x80"
    body = at + 7 + (start[at + 6] & 0x7F if long else 0)
    return start[body : body + 1] == b"\x04"


_BEGINNINGS: Final[tuple[tuple[Kind, Callable[[bytes], bool]], ...]] = (
    (Kind.X224, lambda start: start[:2] == b"\x03\x00"),
    (Kind.TLS, lambda start: len(start) > 1 and start[0] in _RECORDS and start[1] == 3),
    (Kind.TS_CREDENTIALS, _is_credentials),
    (Kind.TS_REQUEST, lambda start: start[:1] == b"\x30"),
    (Kind.TOKEN, _is_token),
    (Kind.MCS, lambda start: start[:2] in {b"\x7f\x65", b"\x7f\x66"}),
    (Kind.PRECONNECTION, lambda start: start[4:12] in {b"\0\0\0\0\1\0\0\0", b"\0\0\0\0\2\0\0\0"} and start[0] >= 16),
    (Kind.SEALED, lambda start: start[:4] == b"\1\0\0\0" and len(start) >= 16),
)


def _unknown(source: Source, root: Node, start: int, end: int) -> int:  # noqa: ARG001 - as every decoder of a unit
    raise Malformed(start, "expected a unit of CredSSP, RDP, TLS or HTTP, got other bytes")


def _in_der(kind: Kind, add: Callable[[Source, Node, int, int], None]) -> Callable[[Source, Node, int, int], int]:
    """Return a decoder of a unit whose first element tells its size."""

    def decode_unit(source: Source, root: Node, start: int, end: int) -> int:
        _, _, stop = asn1.element(source, start, end, str(kind))
        add(source, root, start, stop)
        return stop

    return decode_unit


def _token(source: Source, root: Node, start: int, end: int) -> int:
    if source.data[start] & 0xE0 in {0x60, 0xA0}:  # in DER, which tells its size
        _, _, end = asn1.element(source, start, end, "token")
    gss.token(source, root, "", start, end)
    return end


def _request_token(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    """Add what a token of CredSSP in HTTP holds: TLS records, or a TSRequest where TLS is not used."""
    del name
    offset = start
    while offset < end and len(parent.children) < MOST_UNITS:
        kind = _kind(source.data, offset)
        if kind not in {Kind.TLS, Kind.TS_REQUEST}:
            raise Malformed(offset, "CredSSP: expected a TLS record in the token")
        offset = _DECODERS[kind](source, parent, offset, end)


def _http(source: Source, root: Node, start: int, end: int) -> int:
    return http.message(source, root, start, end, _request_token)


def _tpkt(source: Source, root: Node, start: int, end: int) -> int:
    rdp.tpkt(source, root, start, end)
    return start + root.children[-1].size


def _sealed(source: Source, root: Node, start: int, end: int) -> int:
    source.need(start, 16, end, "sealed data")
    ntlm.signature(source, root, "sealed data", start, end)
    return end


def _early(source: Source, root: Node, start: int, end: int) -> int:
    source.need(start, 4, end, "authorizationResult")
    try:
        credssp.early_authorization(source, root, start, start + 4)
    except Exception as error:  # noqa: BLE001 - whatever the engine finds wrong
        raise Malformed(start, str(error)) from None
    return start + 4


def _preconnection(source: Source, root: Node, start: int, end: int) -> int:
    size = source.number(start, 4, end, "cbSize")
    if size < 16:
        raise Malformed(start, f"preconnection: expected a size of at least 16, got {size}")
    stop = source.need(start, size, end, "preconnection")
    node = source.new(root, "RDP_PRECONNECTION_PDU", start, stop)
    source.new(node, "version", start + 8, start + 12, source.number(start + 8, 4, stop, "version"))
    try:
        pdu = PreconnectionPDU.decode(source.data[start:stop])
    except Exception as error:  # noqa: BLE001 - whatever the engine finds wrong
        raise Malformed(start, str(error)) from None
    source.new(node, "id", start + 12, start + 16, pdu.id)
    if stop > start + 16:
        source.new(node, "blob", start + 16, stop, pdu.blob)
    return stop


def _record(source: Source, root: Node, start: int, end: int) -> int:
    kind, version = source.number(start, 1, end, "TLS"), source.number(start + 1, 2, end, "TLS", "big")
    size = source.number(start + 3, 2, end, "TLS: length", "big")
    body, stop = start + 5, source.need(start + 5, size, end, "TLS record")
    node = source.new(root, f"TLS {_RECORDS.get(kind, kind)}", start, stop)
    means = {0x0303: "TLS 1.2 or 1.3"}.get(version) or tls.VERSIONS.get(version, "unknown")
    if kind == 22 and source.data[body : body + 1] == b"\1":
        means = "of the record alone, which says little of the versions that the client offers"
    source.new(node, "version", start + 1, start + 3, f"0x{version:04x}", means)
    source.new(node, "length", start + 3, body, size)
    if kind == 21 and size == 2:
        level, description = source.data[body], source.data[body + 1]
        source.new(node, "level", body, body + 1, level, _LEVELS.get(level, "unknown"))
        source.new(node, "description", body + 1, stop, description, _ALERTS.get(description, "unknown"))
    elif kind == 22 and size >= 4 and source.data[body] in _HANDSHAKE:
        length = source.number(body + 1, 3, stop, "TLS: length of a message", "big")
        if length <= 1 << 17:  # anything longer is an encrypted message
            message = source.new(node, "message", body, body + 4, source.data[body], _HANDSHAKE[source.data[body]])
            read = {1: tls.client_hello, 2: tls.server_hello}.get(source.data[body])
            if read is not None and body + 4 + length <= stop:
                message.size += length
                read(source, message, body + 4, body + 4 + length)
    return stop


def _mcs(source: Source, root: Node, start: int, end: int) -> None:
    rdp.mcs_connect(source, root, start, end)


_DECODERS: Final[dict[Kind | None, Callable[[Source, Node, int, int], int]]] = {
    Kind.TS_REQUEST: _in_der(Kind.TS_REQUEST, credssp.request),
    Kind.TS_CREDENTIALS: _in_der(Kind.TS_CREDENTIALS, credssp.ts_credentials_tree),
    Kind.TOKEN: _token,
    Kind.SEALED: _sealed,
    Kind.X224: _tpkt,
    Kind.MCS: _in_der(Kind.MCS, _mcs),
    Kind.TLS: _record,
    Kind.HTTP: _http,
    Kind.EARLY_AUTHORIZATION: _early,
    Kind.PRECONNECTION: _preconnection,
}
