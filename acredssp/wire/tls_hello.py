"""The few messages of a TLS handshake that ask a server for its certificate chain.

Up to TLS 1.2 a server shows its chain in clear, in its first flight (RFC 5246 7.4.2). So one ClientHello, written by
hand, is enough to see the chain. What the server demands of a client afterwards does not matter, and the hello can
offer curves that OpenSSL's own clients do not offer.

In TLS 1.3 the chain is encrypted. But a server goes on only if it has a certificate for the signatures that the client
offers. The ssl module cannot choose these signatures, so this module changes the hello of an OpenSSL client.

Who calls: `core.own_certificate`, which asks the server contexts of its own process. These hellos never go to a peer.
"""

from collections.abc import Sequence
from typing import Final

from acredssp.wire.tls_record import HANDSHAKE, HEADER_SIZE, record_end

__all__ = [
    "asks_for_another_hello",
    "certificate_chain",
    "client_hello",
    "signature_algorithms",
    "with_signature_algorithms",
]

_CLIENT_HELLO: Final = 1
_CERTIFICATE: Final = 11
_MESSAGE_HEADER: Final = 4
_TLS12: Final = b"\x03\x03"
_SUPPORTED_GROUPS: Final = 10
_POINT_FORMATS: Final = 11
_SIGNATURE_ALGORITHMS: Final = 13
_RENEGOTIATION_INFO: Final = 0xFF01
_VERSION_AND_RANDOM: Final = 34
_HELLO_RETRY_REQUEST: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random that marks a ServerHello as a HelloRetryRequest (RFC 8446 4.1.3)."""

_GROUPS: Final = (*range(1, 31), *range(256, 261))
"""All groups with a number for TLS 1.2: the curves of RFC 8422 and RFC 7027 (brainpool), and the ffdhe of RFC 7919."""


def client_hello(suites: Sequence[int], signature_algorithms: Sequence[int]) -> bytes:
    """One record with a TLS 1.2 ClientHello that offers these suites and signatures, and every group.

    Args:
        suites: The numbers of cipher suites. A server of a lower version picks one that it knows.
        signature_algorithms: The numbers of signatures (RFC 8446 4.2.3). A server below TLS 1.2 ignores them.
    """
    extensions = {
        _SUPPORTED_GROUPS: _vector(2, _numbers(_GROUPS)),
        _POINT_FORMATS: _vector(1, b"\0"),
        _SIGNATURE_ALGORITHMS: _vector(2, _numbers(signature_algorithms)),
        _RENEGOTIATION_INFO: _vector(1, b""),
    }
    # The random may be zeros, since the handshake ends here and no key is derived from it.
    front = _TLS12 + bytes(32) + _vector(1, b"") + _vector(2, _numbers(suites)) + _vector(1, b"\0")
    return _record(front, extensions)


def signature_algorithms(flight: bytes) -> tuple[int, ...]:
    """The numbers of the signatures that a client's hello offers.

    Args:
        flight: Whole records with a ClientHello made by OpenSSL.
    """
    _, extensions = _split(flight)
    listed = extensions[_SIGNATURE_ALGORITHMS]
    return tuple([listed[offset] << 8 | listed[offset + 1] for offset in range(2, len(listed), 2)])


def with_signature_algorithms(flight: bytes, algorithms: Sequence[int]) -> bytes:
    """One record with a copy of the ClientHello that offers other signatures.

    The client that made the hello cannot go on after a ServerHello, since its keys depend on the hello that it made.
    It can answer a HelloRetryRequest.

    Args:
        flight: Whole records with a ClientHello made by OpenSSL.
        algorithms: The numbers of the signatures to offer.
    """
    front, extensions = _split(flight)
    extensions[_SIGNATURE_ALGORITHMS] = _vector(2, _numbers(algorithms))
    return _record(front, extensions)


def asks_for_another_hello(flight: bytes) -> bool:
    """Whether a server's first flight is a HelloRetryRequest, which a server sends before it chooses a certificate.

    Args:
        flight: Whole records of a server of our own.
    """
    start = HEADER_SIZE + _MESSAGE_HEADER + 2
    return flight.startswith(_HELLO_RETRY_REQUEST, start)


def _split(flight: bytes) -> tuple[bytes, dict[int, bytes]]:
    """The bytes of a ClientHello in front of its extensions; and the extensions by their numbers, in their order."""
    message = _handshake_messages(flight)
    offset = _MESSAGE_HEADER + _VERSION_AND_RANDOM
    for size in (1, 2, 1):  # session id, suites, compression methods
        start = offset + size
        offset = start + int.from_bytes(message[offset:start], "big")
    front = message[_MESSAGE_HEADER:offset]
    offset += 2
    extensions: dict[int, bytes] = {}
    while offset < len(message):
        start = offset + 4
        end = start + (message[offset + 2] << 8 | message[offset + 3])
        extensions[message[offset] << 8 | message[offset + 1]] = message[start:end]
        offset = end
    return front, extensions


def _record(front: bytes, extensions: dict[int, bytes]) -> bytes:
    listed = b"".join([_extension(kind, content) for kind, content in extensions.items()])
    message = bytes((_CLIENT_HELLO,)) + _vector(3, front + _vector(2, listed))
    return bytes((HANDSHAKE, 3, 1)) + _vector(2, message)


def certificate_chain(flight: bytes) -> tuple[bytes, ...]:
    """The certificates, in DER, of a server's first flight, the server's own first; empty where there are none.

    Args:
        flight: Whole records in clear, from a server of our own.
    """
    messages = _handshake_messages(flight)
    offset = 0
    while offset + _MESSAGE_HEADER <= len(messages):
        start = offset + _MESSAGE_HEADER
        end = start + int.from_bytes(messages[offset + 1 : start], "big")
        if messages[offset] == _CERTIFICATE:
            return _certificates(messages[start + 3 : end])
        offset = end
    return ()


def _handshake_messages(flight: bytes) -> bytes:
    fragments, offset = [], 0
    while offset < len(flight):
        end = record_end(flight, offset)
        if flight[offset] == HANDSHAKE:
            start = offset + HEADER_SIZE
            fragments.append(flight[start:end])
        offset = end
    return b"".join(fragments)


def _certificates(chain: bytes) -> tuple[bytes, ...]:
    certificates, offset = [], 0
    while offset + 3 <= len(chain):
        start = offset + 3
        offset = start + int.from_bytes(chain[offset:start], "big")
        certificates.append(chain[start:offset])
    return tuple(certificates)


def _numbers(numbers: Sequence[int]) -> bytes:
    return b"".join([number.to_bytes(2, "big") for number in numbers])


def _extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + _vector(2, content)


def _vector(size: int, content: bytes) -> bytes:
    """`content` behind its length, which takes `size` bytes."""
    return len(content).to_bytes(size, "big") + content
