"""A record without secrets: zeros in the place of all from which a password or a ticket could be found out.

NTLM's proofs, its encrypted session key and the encrypted parts of Kerberos' messages are left out. Without them
nothing else of a record helps to find out the password: every other key of it is random. Where NTLM exchanges no random
key, its keys follow from the password, so all that was made with them is left out, too. A client's message that cannot
be decoded is left out as a whole. A token that a gateway has issued comes in clear, in the Connection Request. It is
filled with the digit 0 there and in the flights.
"""

import dataclasses
import re
from collections.abc import Iterator
from typing import Final

from acredssp.decoding import Kind, Node, Secret, decode
from acredssp.decoding.asn1 import OBJECT_IDENTIFIER, element
from acredssp.decoding.nodes import Malformed, Source
from acredssp.decoding.ntlm import BYTES_OF_NO_FIELD
from acredssp.recording.recording import Flight, Message, Recording

__all__ = ["without_secrets"]

_LEFT_OUT: Final = frozenset({Secret.NT_RESPONSE, Secret.LM_RESPONSE, Secret.SESSION_KEY, Secret.TICKET})
_OF_THE_KEY: Final = frozenset({"MIC", "mechListMIC", "pubKeyAuth", "authInfo"})
"""The fields that are made with the keys of the session."""
_KEY: Final = "EncryptedRandomSessionKey"
_UNKNOWN: Final = "unknown"
_NOT_SHOWN: Final = (_UNKNOWN, "only the first", "the tree ends here", "the last")
"""How the note of a node begins whose bytes, or a part of them, no field accounts for."""
_MOST_HARMLESS: Final = 7
"""Bytes of a field, such as a number, that may hold whatever they will: they are too few for a piece of a proof."""
_HARMLESS: Final = {"MIC": 16, "SND_SEQ": 8, "checksum": 24, "clientNonce": 34}
"""The other fields that hold bytes, with the most bytes that each may have."""
_TEXTS: Final = frozenset({"part", "realm", "crealm", "hintName", "e-text", "ctime", "stime"})
_OBJECTS: Final = frozenset({"mechType", "supportedMech", "thisMech"})
_NTLM_HEADS: Final = {"NEGOTIATE_MESSAGE": 40, "CHALLENGE_MESSAGE": 56}
"""The bytes that stand before the fields of a message; AUTHENTICATE_MESSAGE accounts for all of its bytes itself."""
_TOKEN: Final = re.compile(rb"(?<=acredssp=)[^\r\n]+")
"""What `acredssp.stores.issue_token` has made."""


def without_secrets(record: Recording) -> Recording:
    """Return a copy that holds no one's secret, in which each message says what was left out."""
    trees = [decode(message.data, kind=Kind.TS_REQUEST) for message in record.messages]
    guessable = any(node.name == _KEY and not node.size for tree in trees for node in _walk(tree))
    messages = tuple(
        _redacted(message, tree, guessable=guessable) for message, tree in zip(record.messages, trees, strict=True)
    )
    return dataclasses.replace(
        record,
        x224_request=_without_token(record.x224_request),
        messages=messages,
        accounts=(),
        with_secrets=False,
        flights=_without_tokens(record.flights),
    )


def _without_token(data: bytes) -> bytes:
    return _TOKEN.sub(lambda found: b"0" * len(found[0]), data)


def _without_tokens(flights: tuple[Flight, ...]) -> tuple[Flight, ...]:
    """Leave tokens out of what the client sent, whose pieces may part a token anywhere."""
    sent = _without_token(b"".join(flight.data for flight in flights if flight.sender == "client"))
    kept: list[Flight] = []
    for flight in flights:
        size = len(flight.data)
        if flight.sender == "client":
            kept.append(dataclasses.replace(flight, data=sent[:size]))
            sent = sent[size:]
        else:
            kept.append(flight)
    return tuple(kept)


def _redacted(message: Message, tree: Node, *, guessable: bool) -> Message:
    places = tuple(_places(tree, _OF_THE_KEY if guessable else frozenset()))
    if not _is_accounted_for(message.data, tree):
        places = ((0, len(message.data), _UNKNOWN),)
    data = bytearray(message.data)
    for start, size, _ in places:
        data[start : start + size] = bytes(size)
    return dataclasses.replace(message, data=bytes(data), redacted=places)


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _places(tree: Node, names: frozenset[str]) -> Iterator[tuple[int, int, str]]:
    for node in _walk(tree):
        if (node.secret in _LEFT_OUT or node.name == BYTES_OF_NO_FIELD) and node.size:
            yield node.offset, node.size, str(node.secret)
        elif node.name in names and node.size:
            yield node.offset, node.size, node.name


# --- whether every byte is accounted for ---


def _is_accounted_for(data: bytes, tree: Node) -> bool:
    """Whether a message is one structure from its first byte to its last, of which each byte is known."""
    if (tree.offset, tree.size) != (0, len(data)):
        return False
    source, ends = Source(data), frozenset(node.offset + node.size for node in _walk(tree))
    return all(_is_known(source, ends, node) for node in _outside_of_ntlm(tree)) and not any(map(_is_odd, _walk(tree)))


def _is_odd(node: Node) -> bool:
    """Whether a node is broken, or has bytes that the tree does not show."""
    return (
        node.fault is not None
        or bool(node.refused)
        or (node.note.startswith(_NOT_SHOWN) and node.size > _MOST_HARMLESS)
        or (node.secret is Secret.UNKNOWN and not node.note)  # a name of a broken message may be its proof
    )


def _outside_of_ntlm(node: Node) -> Iterator[Node]:
    """Yield the nodes, but of a message of NTLM only the message."""
    yield node
    for child in () if _ntlm_of(node) else node.children:
        yield from _outside_of_ntlm(child)


def _ntlm_of(node: Node) -> str:
    """Return the kind of a message of NTLM, or of what is sealed by it; empty for any other node."""
    name = node.name.rpartition("NTLM ")[2]
    return name if name.endswith("_MESSAGE") else "signature" if node.note == "sealed by NTLM" else ""


def _is_known(source: Source, ends: frozenset[int], node: Node) -> bool:
    """Whether a field holds what it says, or a structure has nothing but its fields and their headers."""
    if kind := _ntlm_of(node):
        return _is_covered(node, _NTLM_HEADS[kind]) if kind in _NTLM_HEADS else True
    if not node.children:
        return node.secret is not None or node.size <= _MOST_HARMLESS or _is_harmless(source.data, node)
    if node.note.startswith("a ") and node.note.endswith(" token"):  # of RFC 4121, whose fields have fixed places
        return True
    at = node.offset
    for child in node.children:
        if not _is_headers(source, ends, at, child.offset):
            return False
        at = child.offset + child.size
    return at == node.offset + node.size


def _is_covered(node: Node, head: int) -> bool:
    """Whether the fields of a message of NTLM cover all behind its head."""
    at = node.offset + head
    for child in sorted(node.children, key=lambda each: each.offset):
        if child.offset > at:
            return False
        at = max(at, child.offset + child.size)
    return at >= node.offset + node.size


def _is_harmless(data: bytes, node: Node) -> bool:
    """Whether a field that is kept holds what its name says."""
    content = data[node.offset : node.offset + node.size]
    if node.name == "mechListMIC":
        return _is_mic(content)
    if node.name in _TEXTS:
        return content[2:].isascii() and content[2:].decode("ascii").isprintable()
    if node.name in _OBJECTS:
        return node.note not in {"", "IAKERB"}  # a mechanism with a name
    return node.size <= _HARMLESS.get(node.name, 0) or not any(content)


def _is_mic(content: bytes) -> bool:
    """Whether bytes are a MIC of NTLM or Kerberos (RFC 4121 4.2.6.1, RFC 4757 7.2), and no token in its place."""
    ntlm = len(content) == 16 and content.startswith(b"\1\0\0\0")
    aes = 28 <= len(content) <= 40 and content.startswith(b"\4\4")
    rc4 = len(content) == 37 and content[13:15] == b"\1\1"
    return ntlm or aes or rc4


def _is_headers(source: Source, ends: frozenset[int], at: int, end: int) -> bool:
    """Whether the bytes between two fields are known to be harmless.

    They are harmless if they are names of mechanisms, or headers of DER whose content holds the next field.
    """
    while at < end:
        try:
            tag, body, stop = element(source, at, len(source.data), "")
        except Malformed:
            return False
        if stop in ends and stop >= end:
            at = body
        elif tag == OBJECT_IDENTIFIER and stop <= end and stop - body <= _MOST_HARMLESS:
            at = stop
        else:
            return False
    return at == end
