"""The hello that asks for a certificate, and the certificates in the answer."""

import ssl

import pytest
from support.engine import pem

from acredssp import tls_config
from acredssp.policy import Policy
from acredssp.wire.tls_hello import certificate_chain, client_hello

ECDHE_ECDSA_AES128_GCM = 0xC02B
ECDSA_SHA256 = 0x0403


def record(messages, content_type=22):
    return bytes((content_type, 3, 3)) + len(messages).to_bytes(2, "big") + messages


def message(kind, body):
    return bytes((kind,)) + len(body).to_bytes(3, "big") + body


def chain_of(*certificates):
    links = b"".join(len(link).to_bytes(3, "big") + link for link in certificates)
    return message(11, len(links).to_bytes(3, "big") + links)


HELLO = message(2, b"a server hello")


@pytest.mark.parametrize(
    ("flight", "chain"),
    [
        (b"", ()),
        (record(HELLO), ()),
        (record(b"\2\50", 21), ()),
        (record(HELLO) + record(chain_of(b"leaf", b"authority")), (b"leaf", b"authority")),
        (record(HELLO + chain_of(b"leaf") + message(14, b"")), (b"leaf",)),
        (record(HELLO) + record(chain_of()), ()),
        (record((HELLO + chain_of(b"leaf"))[:20]) + record((HELLO + chain_of(b"leaf"))[20:]), (b"leaf",)),
        (record(HELLO) + record(chain_of(b"a" * 9000, b"b" * 9000)[:16000])
         + record(chain_of(b"a" * 9000, b"b" * 9000)[16000:]), (b"a" * 9000, b"b" * 9000)),
    ],
)  # fmt: skip
def test_a_flight_shows_its_chain(flight, chain):
    assert certificate_chain(flight) == chain


def test_openssl_understands_the_hello_and_shows_its_certificate():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = tls_config.server_context_from_pem(Policy(), *pem("ec"))
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(client_hello([ECDHE_ECDSA_AES128_GCM], [ECDSA_SHA256]))
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    assert certificate_chain(outgoing.read()) == tls_config.chain_of(pem("ec")[0])


def test_openssl_takes_nothing_that_the_hello_does_not_offer():
    incoming = ssl.MemoryBIO()
    context = tls_config.server_context_from_pem(Policy(), *pem("rsa"))
    server = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    incoming.write(client_hello([ECDHE_ECDSA_AES128_GCM], [ECDSA_SHA256]))
    with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
        server.do_handshake()
