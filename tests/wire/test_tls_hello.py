"""The hello that asks for a certificate, and the certificates in the answer."""

import ssl

import pytest
from support.engine import pem

from acredssp import tls_config
from acredssp.policy import Policy
from acredssp.wire.tls_hello import (
    asks_for_another_hello,
    certificate_chain,
    client_hello,
    signature_algorithms,
    with_signature_algorithms,
)

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


# --- the hello of an openssl client, changed ---


def test_a_hello_keeps_all_but_its_signatures():
    hello = client_hello([ECDHE_ECDSA_AES128_GCM], [ECDSA_SHA256, 0x0804])
    assert signature_algorithms(hello) == (ECDSA_SHA256, 0x0804)
    assert with_signature_algorithms(hello, [0x0805]) == client_hello([ECDHE_ECDSA_AES128_GCM], [0x0805])


def openssl_client():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = tls_config.client_context(Policy(min_tls=ssl.TLSVersion.TLSv1_3)).wrap_bio(incoming, outgoing)

    def flight(answer=b""):
        incoming.write(answer)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        return outgoing.read()

    return flight


def openssl_server(key, curve):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = tls_config.server_context_from_pem(Policy(), *pem(key))
    context.set_ecdh_curve(curve)
    server = context.wrap_bio(incoming, outgoing, server_side=True)

    def flight(hello):
        incoming.write(hello)
        with pytest.raises(ssl.SSLWantReadError):
            server.do_handshake()
        return outgoing.read()

    return flight


def test_openssl_takes_a_changed_hello_and_the_one_after_a_retry_request():
    client, server = openssl_client(), openssl_server("ec", "secp521r1")
    first = client()
    assert ECDSA_SHA256 in signature_algorithms(first)
    retry = server(with_signature_algorithms(first, [ECDSA_SHA256]))
    assert asks_for_another_hello(retry)
    second = client(retry)
    assert not asks_for_another_hello(server(with_signature_algorithms(second, [ECDSA_SHA256])))


def test_openssl_takes_nothing_that_a_changed_hello_does_not_offer():
    server = openssl_server("ec", "prime256v1")
    hello = with_signature_algorithms(openssl_client()(), [0x0804])
    with pytest.raises(ssl.SSLError, match=r"NO_SHARED_CIPHER|NO_SUITABLE"):
        server(hello)
