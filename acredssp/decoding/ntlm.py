"""NTLM's messages as trees ([MS-NLMP] 2.2)."""

import datetime as dt
from collections.abc import Callable
from typing import Final

from acredssp.decoding.nodes import Malformed, Node, Secret, Source
from acredssp.mechanisms.ntlm.messages import (
    SIGNATURE,
    AuthenticateMessage,
    ChallengeMessage,
    NegotiateMessage,
)

__all__ = ["BYTES_OF_NO_FIELD", "decode_message", "filetime", "signature"]

_TYPES: Final = {1: "NEGOTIATE_MESSAGE", 2: "CHALLENGE_MESSAGE", 3: "AUTHENTICATE_MESSAGE"}
_STRICT: Final[dict[int, Callable[[bytes], object]]] = {
    1: NegotiateMessage.decode,
    2: ChallengeMessage.decode,
    3: AuthenticateMessage.decode,
}

FLAGS: Final = {
    0x00000001: "UNICODE",
    0x00000002: "OEM",
    0x00000004: "REQUEST_TARGET",
    0x00000010: "SIGN",
    0x00000020: "SEAL",
    0x00000040: "DATAGRAM",
    0x00000080: "LM_KEY",
    0x00000200: "NTLM",
    0x00000800: "ANONYMOUS",
    0x00001000: "DOMAIN_SUPPLIED",
    0x00002000: "WORKSTATION_SUPPLIED",
    0x00008000: "ALWAYS_SIGN",
    0x00010000: "TARGET_TYPE_DOMAIN",
    0x00020000: "TARGET_TYPE_SERVER",
    0x00080000: "EXTENDED_SESSIONSECURITY",
    0x00100000: "IDENTIFY",
    0x00400000: "NON_NT_SESSION_KEY",
    0x00800000: "TARGET_INFO",
    0x02000000: "VERSION",
    0x20000000: "128",
    0x40000000: "KEY_EXCH",
    0x80000000: "56",
}
"""NegotiateFlags ([MS-NLMP] 2.2.2.5)."""

_AV_NAMES: Final = {
    0: "MsvAvEOL",
    1: "MsvAvNbComputerName",
    2: "MsvAvNbDomainName",
    3: "MsvAvDnsComputerName",
    4: "MsvAvDnsDomainName",
    5: "MsvAvDnsTreeName",
    6: "MsvAvFlags",
    7: "MsvAvTimestamp",
    8: "MsvAvSingleHost",
    9: "MsvAvTargetName",
    10: "MsvAvChannelBindings",
}
_AV_TEXT: Final = frozenset({1, 2, 3, 4, 5, 9})
_AV_FLAGS: Final = {1: "CONSTRAINED", 2: "MIC_PRESENT", 4: "UNTRUSTED_SPN"}
_MOST_PAIRS: Final = 64
BYTES_OF_NO_FIELD: Final = "bytes of no field"
"""The name of what an AUTHENTICATE_MESSAGE has between its fields."""
_VERSION_SIZE: Final = 8
_MIC_SIZE: Final = 16
_OLD_RESPONSE: Final = 24
"""Bytes of NTLMv1's response, and of LM's."""

_EPOCH: Final = dt.datetime(1601, 1, 1, tzinfo=dt.UTC)


def decode_message(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    """Add a message; `name` is the field that holds it, or empty."""
    if source.data[start : start + 8] != SIGNATURE:
        raise Malformed(start, "NTLM: expected the signature NTLMSSP")
    kind = source.number(start + 8, 4, end, "NTLM: MessageType")
    title = _TYPES.get(kind)
    if title is None:
        raise Malformed(start + 8, f"NTLM: expected message type 1, 2 or 3, got {kind}")
    node = source.new(parent, f"{name}: NTLM {title}" if name else f"NTLM {title}", start, end)
    if kind == 3:
        source.guard(Secret.NT_RESPONSE, min(end, start + 64), end)
    try:
        (_negotiate, _challenge, _authenticate)[kind - 1](source, node, start, end)
    except Malformed as error:
        source.distrust(node)
        node.fault = source.fault(error)
        return
    try:
        _STRICT[kind](source.data[start:end])
    except Exception as error:  # noqa: BLE001 - whatever the engine finds wrong
        node.refused = str(error)
        source.distrust(node)


def signature(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    """Add a message signature of NTLM ([MS-NLMP] 2.2.2.9), and what it seals."""
    node = source.new(parent, name, start, end, None, "sealed by NTLM")
    source.new(node, "Checksum", start + 4, start + 12, source.data[start + 4 : start + 12])
    source.new(node, "SeqNum", start + 12, start + 16, source.number(start + 12, 4, end, "SeqNum"))
    source.secret(node, Secret.SEALED, "sealed data", start + 16, end)


def _negotiate(source: Source, node: Node, start: int, end: int) -> None:
    flags = _flags(source, node, start + 12, end)
    fields = [("DomainName", start + 16), ("Workstation", start + 24)]
    for name, at in fields:
        if at + 8 <= end:
            _field(source, node, name, start, at, end, _oem)
    if start + 40 <= end and flags & 0x02000000:
        _version(source, node, start + 32)


def _challenge(source: Source, node: Node, start: int, end: int) -> None:
    flags = source.number(start + 20, 4, end, "NegotiateFlags")
    _field(source, node, "TargetName", start, start + 12, end, _text)
    _flags(source, node, start + 20, end)
    stop = source.need(start + 24, 8, end, "ServerChallenge")
    source.new(node, "ServerChallenge", start + 24, stop, source.data[start + 24 : stop])
    if flags & 0x02000000 and start + 56 <= end:
        _version(source, node, start + 48)
    _field(source, node, "TargetInfo", start, start + 40, end, _av_pairs)


def _authenticate(source: Source, node: Node, start: int, end: int) -> None:
    flags = source.number(start + 60, 4, end, "NegotiateFlags")
    text = _text if flags & 1 else _oem
    at = [_place(source, name, start, start + offset, end) for name, offset in _AUTHENTICATE]
    payload = min([place for place, stop in at if stop > place], default=end)
    _field(source, node, "DomainName", start, start + 28, end, text)
    _field(source, node, "UserName", start, start + 36, end, text)
    _field(source, node, "Workstation", start, start + 44, end, text)
    _flags(source, node, start + 60, end)
    if flags & 0x02000000 and start + 72 <= payload:
        _version(source, node, start + 64)
    if start + 88 <= payload:
        source.new(node, "MIC", start + 72, start + 88, source.data[start + 72 : start + 88])
    _field(source, node, "LmChallengeResponse", start, start + 12, end, _lm_response)
    _field(source, node, "NtChallengeResponse", start, start + 20, end, _nt_response)
    _field(source, node, "EncryptedRandomSessionKey", start, start + 52, end, _session_key)
    _account_for(source, node, at, payload, end)


def _account_for(source: Source, node: Node, places: list[tuple[int, int]], payload: int, end: int) -> None:
    """Add what no field covers, and distrust fields that overlap or have no proof beside them: bytes of a proof."""
    start = node.offset
    head = next((start + size for size in (88, 72, 64) if start + size <= payload), payload)
    used = sorted((place, stop) for place, stop in places if stop > place)
    broken = payload < start + 64 or not places[1][1] > places[1][0]
    for place, stop in [*used, (end, end)]:
        if place > head:
            gap = source.secret(node, Secret.UNKNOWN, BYTES_OF_NO_FIELD, head, place)
            gap.note = "no field covers them"
        broken = broken or place < head
        head = max(head, stop)
    if broken:
        source.distrust(node)


_AUTHENTICATE: Final = (
    ("LmChallengeResponse", 12),
    ("NtChallengeResponse", 20),
    ("DomainName", 28),
    ("UserName", 36),
    ("Workstation", 44),
    ("EncryptedRandomSessionKey", 52),
)


def _place(source: Source, name: str, start: int, at: int, end: int) -> tuple[int, int]:
    """Return the bounds of the field whose descriptor is at `at`."""
    size = source.number(at, 2, end, f"NTLM: {name}")
    place = start + source.number(at + 4, 4, end, f"NTLM: {name}")
    if size and place + size > end:
        raise Malformed(at, f"NTLM: {name}: {size} bytes at offset {place - start} reach past the end of the message")
    return (place, place + size) if size else (at, at)


def _field(  # noqa: PLR0913, PLR0917 - the bounds of both
    source: Source,
    node: Node,
    name: str,
    start: int,
    at: int,
    end: int,
    read: Callable[[Source, Node, str, int, int], None],
) -> None:
    begin, stop = _place(source, name, start, at, end)
    if begin == stop:
        source.new(node, name, begin, stop, "", "empty")
        return
    read(source, node, name, begin, stop)


def _text(source: Source, node: Node, name: str, start: int, end: int) -> None:
    source.new(node, name, start, end, source.data[start:end].decode("utf-16-le", "backslashreplace"))


def _oem(source: Source, node: Node, name: str, start: int, end: int) -> None:
    source.new(node, name, start, end, source.data[start:end].decode("cp437"))


def _flags(source: Source, node: Node, start: int, end: int) -> int:
    flags = source.number(start, 4, end, "NegotiateFlags")
    names = [FLAGS.get(1 << bit, f"0x{1 << bit:08x}") for bit in range(32) if flags >> bit & 1]
    source.new(node, "NegotiateFlags", start, start + 4, f"0x{flags:08x}", " ".join(names))
    return flags


def _version(source: Source, node: Node, start: int) -> None:
    major, minor = source.data[start], source.data[start + 1]
    build = int.from_bytes(source.data[start + 2 : start + 4], "little")
    text = f"{major}.{minor}.{build}"
    source.new(node, "Version", start, start + _VERSION_SIZE, text, f"NTLM revision {source.data[start + 7]}")


def _lm_response(source: Source, node: Node, name: str, start: int, end: int) -> None:
    if not any(source.data[start:end]):
        source.new(node, name, start, end, source.data[start:end], "zeros, as beside NTLMv2")
        return
    source.secret(node, Secret.LM_RESPONSE, name, start, end)


def _session_key(source: Source, node: Node, name: str, start: int, end: int) -> None:
    source.secret(node, Secret.SESSION_KEY, name, start, end)


def _nt_response(source: Source, node: Node, name: str, start: int, end: int) -> None:
    if end - start <= _OLD_RESPONSE:
        source.secret(node, Secret.NT_RESPONSE, f"{name} (NTLMv1)", start, end)
        return
    response = source.new(node, f"{name} (NTLMv2)", start, end)
    source.secret(response, Secret.NT_RESPONSE, "NTProofStr", start, start + 16)
    source.need(start, 44, end, name)
    source.new(response, "TimeStamp", start + 24, start + 32, *filetime(source.data[start + 24 : start + 32]))
    client = source.data[start + 32 : start + 40]
    source.new(response, "ChallengeFromClient", start + 32, start + 40, client)
    _av_pairs(source, response, "AvPairs", start + 44, end)


def _av_pairs(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    node = source.new(parent, name, start, end)
    for _ in range(_MOST_PAIRS):
        kind = source.number(start, 2, end, name)
        size = source.number(start + 2, 2, end, name)
        body, stop = start + 4, source.need(start + 4, size, end, _AV_NAMES.get(kind, f"AV pair {kind}"))
        if kind == 0:
            return
        _av_pair(source, node, kind, body, stop)
        start = stop
    node.note = f"only the first {_MOST_PAIRS} pairs are shown"


def _av_pair(source: Source, node: Node, kind: int, start: int, end: int) -> None:
    name, data = _AV_NAMES.get(kind, f"AV pair {kind}"), source.data[start:end]
    if kind in _AV_TEXT:
        _text(source, node, name, start, end)
    elif kind == 6 and len(data) == 4:
        flags = int.from_bytes(data, "little")
        source.new(node, name, start, end, f"0x{flags:08x}", " ".join(n for b, n in _AV_FLAGS.items() if flags & b))
    elif kind == 7 and len(data) == 8:
        source.new(node, name, start, end, *filetime(data))
    else:
        none = "no channel bindings" if kind == 10 and not any(data) else ""
        source.new(node, name, start, end, data, none)


def filetime(data: bytes) -> tuple[int, str]:
    """Return a FILETIME as a number, and the time that it means."""
    value = int.from_bytes(data, "little")
    try:
        moment = _EPOCH + dt.timedelta(microseconds=value // 10)
    except OverflowError:
        return value, "no date"
    return value, moment.isoformat(timespec="seconds").replace("+00:00", "Z")
