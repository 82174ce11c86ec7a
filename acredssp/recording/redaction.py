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
_LEAST_UNKNOWN: Final = 8
"""Bytes of an unknown field from which on it may hold a secret."""
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
    if message.sender == "client" and any(_is_unknown(node) for node in _walk(tree)):
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


def _is_unknown(node: Node) -> bool:
    opaque = node.note.startswith(_NOT_SHOWN) and node.size >= _LEAST_UNKNOWN
    distrusted = node.secret is Secret.UNKNOWN and not node.note  # a name of a broken message may be its proof
    return node.fault is not None or opaque or distrusted or (len(node.children) > 1 and node.name == "input")
