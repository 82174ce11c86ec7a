"""Bytes of any kind are the same bytes, and numbers may be as large as their field.

Compiled code is stricter about types than what it is compiled from: here is held that nobody sees a difference.
"""

import pytest
from support.logon import MECHANISMS, attack, bare_pair, client, established, flights, server

from acredssp.wire.ts_request import TSRequest


class Derived(bytes):
    """A caller's own kind of bytes."""

    __slots__ = ()


KINDS = {
    "derived": Derived,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "writable view": lambda data: memoryview(bytearray(data)),
    "part of a view": lambda data: memoryview(b"in front" + data + b"behind")[8:-6],
    "view of characters": lambda data: memoryview(data).cast("c").cast("B"),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@every_kind
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_conversation_in_any_kind_of_bytes_succeeds(kind, mechanism):
    ends = bare_pair(mechanism)
    attack(*ends, lambda _number, _direction, flight: kind(flight))
    assert all(map(established, ends))


@every_kind
def test_so_does_one_over_tls(kind):
    ends = client(), server()
    attack(*ends, lambda _number, _direction, flight: kind(flight))
    assert all(map(established, ends))


def test_a_request_in_derived_bytes_is_decoded_to_the_same():
    for flight in flights():
        assert TSRequest.decode(Derived(flight)) == TSRequest.decode(flight)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("value", [b"\xff" * 8, b"\x80" + bytes(7), bytes(7) + b"\x80"], ids=bytes.hex)
@pytest.mark.thorough
def test_the_largest_numbers_anywhere_are_numbers_or_refused(mechanism, value):
    """Whatever eight bytes are a length, a time or a flag: `attack` lets no other exception than ours through."""
    said = [flight for flight in flights(mechanism) if flight]
    for stage, message in enumerate(said):
        for offset in range(0, len(message) - 8, 8):
            ends = bare_pair(mechanism)
            attack(*ends, lambda n, _, f, s=stage, o=offset: f[:o] + value + f[o + 8 :] if n == s else f)
