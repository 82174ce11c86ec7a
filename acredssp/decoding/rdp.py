"""RDP's first PDUs as trees: TPKT and X.224 ([MS-RDPBCGR] 2.2.1.1, 2.2.1.2), and the protocol fields of MCS."""

from collections.abc import Callable
from typing import Final

from acredssp.decoding import asn1
from acredssp.decoding.nodes import Malformed, Node, Source
from acredssp.wire import mcs, x224
from acredssp.wire.x224 import ConnectionConfirm, ConnectionRequest, FailureCode, Protocols, RequestFlags, ResponseFlags

__all__ = ["mcs_connect", "tpkt"]

_PDUS: Final = {
    0xE0: "Connection Request",
    0xD0: "Connection Confirm",
    0x80: "Disconnect Request",
    0xF0: "Data",
    0x70: "Error",
}
_STRICT: Final[dict[int, Callable[[bytes], object]]] = {0xE0: ConnectionRequest.decode, 0xD0: ConnectionConfirm.decode}
_NEGOTIATION: Final = {1: "RDP_NEG_REQ", 2: "RDP_NEG_RSP", 3: "RDP_NEG_FAILURE", 6: "RDP_NEG_CORRELATION_INFO"}
_DOMAIN_PDUS: Final = {
    1: "Erect Domain Request",
    8: "Disconnect Provider Ultimatum",
    10: "Attach User Request",
    11: "Attach User Confirm",
    14: "Channel Join Request",
    15: "Channel Join Confirm",
    25: "Send Data Request",
    26: "Send Data Indication",
}
"""The PDUs of MCS behind the Connect PDUs, by the upper six bits of their first byte (T.125 7)."""
_CONNECT: Final = {0x7F65: "MCS Connect-Initial", 0x7F66: "MCS Connect-Response"}
_PARTS: Final = {
    0x7F65: (
        "callingDomainSelector",
        "calledDomainSelector",
        "upwardFlag",
        "targetParameters",
        "minimumParameters",
        "maximumParameters",
    ),
    0x7F66: ("result", "calledConnectId", "domainParameters"),
}
_KEYS: Final = (b"Duca", b"McDn")
"""What stands in front of the GCC user data of a client, and of a server (T.124 8.7)."""
_BLOCKS: Final = {
    0xC001: "CS_CORE",
    0xC002: "CS_SECURITY",
    0xC003: "CS_NET",
    0xC004: "CS_CLUSTER",
    0xC005: "CS_MONITOR",
    0xC006: "CS_MCS_MSGCHANNEL",
    0xC008: "CS_MONITOR_EX",
    0xC00A: "CS_MULTITRANSPORT",
    0x0C01: "SC_CORE",
    0x0C02: "SC_SECURITY",
    0x0C03: "SC_NET",
    0x0C04: "SC_MCS_MSGCHANNEL",
    0x0C08: "SC_MULTITRANSPORT",
}
_MOST_BLOCKS: Final = 32
_COOKIE: Final = b"Cookie: mstshash="
_MOST_SHOWN: Final = 512


def tpkt(source: Source, parent: Node, start: int, end: int) -> None:
    """Add a TPKT with an X.224 PDU."""
    data = source.data
    length = source.number(start + 2, 2, end, "TPKT: length", "big")
    if length < 7 or start + length > end:
        raise Malformed(start + 2, f"TPKT: expected a length of 7 to {end - start}, got {length}")
    stop = start + length
    code = data[start + 5] & 0xF0
    node = source.new(parent, f"X.224 {_PDUS.get(code, 'PDU')}", start, stop)
    source.new(node, "TPKT length", start + 2, start + 4, length)
    indicator = data[start + 4]
    source.new(node, "length indicator", start + 4, start + 5, indicator)
    source.new(node, "code", start + 5, start + 6, f"0x{data[start + 5]:02x}", _PDUS.get(code, "unknown"))
    if code == 0xF0:
        _data(source, node, start + 5 + indicator, stop)
        return
    source.need(start + 6, 5, stop, "X.224 header")
    source.new(node, "DST-REF", start + 6, start + 8, source.number(start + 6, 2, stop, "DST-REF", "big"))
    source.new(node, "SRC-REF", start + 8, start + 10, source.number(start + 8, 2, stop, "SRC-REF", "big"))
    source.new(node, "class", start + 10, start + 11, data[start + 10])
    _negotiation(source, node, start + 11, stop)
    strict = _STRICT.get(code)
    if strict is not None:
        try:
            x224.frame_size(data[start:stop])
            strict(data[start:stop])
        except Exception as error:  # noqa: BLE001 - whatever the engine finds wrong
            node.refused = str(error)


def _negotiation(source: Source, node: Node, start: int, end: int) -> None:
    data = source.data
    line = data.find(b"\r\n", start, end)
    if start < end and data[start] not in _NEGOTIATION and line < 0:
        raise Malformed(start, "X.224: expected a cookie that ends with CR LF, or a negotiation of RDP")
    if line >= 0 and not (data[start] in _NEGOTIATION and data[start + 2 : start + 4] == b"\x08\x00"):
        cookie = data.startswith(_COOKIE, start)
        body = start + len(_COOKIE) if cookie else start
        text = data[body:line].decode("utf-8", "backslashreplace")
        source.new(node, "cookie: mstshash" if cookie else "routing token", start, line + 2, text)
        start = line + 2
    while start < end:
        start = _negotiation_part(source, node, start, end)


def _negotiation_part(source: Source, parent: Node, start: int, end: int) -> int:
    kind, flags = source.number(start, 1, end, "type"), source.number(start + 1, 1, end, "flags")
    size = source.number(start + 2, 2, end, "length")
    if kind not in _NEGOTIATION or size < 8:
        raise Malformed(start, f"X.224: expected type 1, 2, 3 or 6 and a length of 8 or more, got {kind} and {size}")
    stop = source.need(start, size, end, _NEGOTIATION[kind])
    node = source.new(parent, _NEGOTIATION[kind], start, stop)
    if kind == 6:
        source.new(node, "correlationId", start + 4, min(stop, start + 20), source.data[start + 4 : start + 20])
        return stop
    names = {1: RequestFlags, 2: ResponseFlags}.get(kind)
    meaning = " ".join(str(each.name) for each in names if each & flags) if names else ""
    source.new(node, "flags", start + 1, start + 2, f"0x{flags:02x}", meaning)
    value = source.number(start + 4, 4, stop, _NEGOTIATION[kind])
    if kind == 3:
        source.new(node, "failureCode", start + 4, start + 8, value, str(FailureCode(value)))
    else:
        _protocols(source, node, "requestedProtocols" if kind == 1 else "selectedProtocol", start + 4)
    return stop


def _protocols(source: Source, node: Node, name: str, start: int) -> None:
    value = source.number(start, 4, start + 4, name)
    source.new(node, name, start, start + 4, f"0x{value:08x}", Protocols(value).names)


def _data(source: Source, node: Node, start: int, end: int) -> None:
    data = source.data
    if start >= end:
        return
    if data[start] == 0x7F:
        mcs_connect(source, node, start, end)
        return
    name = _DOMAIN_PDUS.get(data[start] >> 2, "payload")
    source.new(node, f"MCS {name}" if name != "payload" else name, start, end, data[start:end][:_MOST_SHOWN])


def mcs_connect(source: Source, parent: Node, start: int, end: int) -> None:
    """Add a Connect-Initial or Connect-Response, with the blocks of its GCC user data."""
    tag, body, stop = asn1.element(source, start, end, "MCS")
    if tag not in _CONNECT:
        raise Malformed(start, f"MCS: expected a Connect-Initial or Connect-Response, got tag 0x{tag:04X}")
    node = source.new(parent, _CONNECT[tag], start, stop)
    for name in _PARTS[tag]:
        _, inner, after = asn1.element(source, body, stop, name)
        source.new(node, name, body, after, source.data[inner:after][:_MOST_SHOWN])
        body = after
    inner, after = asn1.expect(source, asn1.OCTET_STRING, body, stop, "userData")
    gcc = source.new(node, "userData (GCC)", body, after)
    key = max(source.data.find(key, inner, after) for key in _KEYS)
    if key < 0:
        raise Malformed(inner, "userData: expected the key Duca or McDn in front of the user data")
    block, first = key + 5, source.number(key + 4, 1, after, "userData: length")
    if first & 0x80:
        block += 1
    for _ in range(_MOST_BLOCKS):
        if block >= after:
            break
        block = _block(source, gcc, block, after)
    whole = source.data[start - 7 : stop]
    if start >= 7 and whole[:1] == b"\x03":
        try:
            (mcs.selected_protocol_at if tag == 0x7F65 else mcs.requested_protocols_at)(whole)
        except Exception as error:  # noqa: BLE001 - whatever the engine finds wrong
            node.refused = str(error)


def _block(source: Source, parent: Node, start: int, end: int) -> int:
    kind = source.number(start, 2, end, "type of a block")
    size = source.number(start + 2, 2, end, "length of a block")
    if size < 4:
        raise Malformed(start + 2, f"block: expected a length of at least 4, got {size}")
    stop = source.need(start, size, end, _BLOCKS.get(kind, "block"))
    node = source.new(parent, _BLOCKS.get(kind, f"block 0x{kind:04x}"), start, stop)
    if kind in {0xC001, 0x0C01} and size >= 8:
        version = source.number(start + 4, 4, stop, "version")
        source.new(node, "version", start + 4, start + 8, f"0x{version:08x}")
    if kind == 0xC001 and size >= 56:
        name = source.data[start + 24 : start + 56].decode("utf-16-le", "backslashreplace").partition("\0")[0]
        source.new(node, "clientBuild", start + 20, start + 24, source.number(start + 20, 4, stop, "clientBuild"))
        source.new(node, "clientName", start + 24, start + 56, name)
    if kind == 0xC001 and size >= 216:
        _protocols(source, node, "serverSelectedProtocol", start + 212)
    if kind == 0x0C01 and size >= 12:
        _protocols(source, node, "clientRequestedProtocols", start + 8)
    return stop
