"""Which certificate a server's `ssl.SSLContext` presents: what CredSSP binds to, and CPython has no getter for.

A context is asked once, by a handshake in memory that goes no further than its first flight, and what it presents is
remembered beside it. It is asked in TLS 1.2, where a hello of our own shows the chain in clear, whatever the context
wants of a client afterwards; a context of TLS 1.3 alone is asked by a client of OpenSSL's.

A context with certificates of several kinds is refused: which of them a client gets to see would depend on the client,
and nobody could say which key to bind to.

Who calls: `config` and `tls_config` when a context is given or made; the engine for each connection of a server, since
an SNI callback may have chosen another context.
"""

import ssl
from collections.abc import Iterator
from typing import Any, Final

from acredssp.core.server_name import ask_without_callback, note_server_name
from acredssp.core.tls import TLSSession
from acredssp.errors import PolicyError, TLSError
from acredssp.wire.tls_hello import certificate_chain, client_hello
from acredssp.wire.x509 import subject_public_key

__all__ = ["own_chain", "own_public_key", "present"]

_IDENTITY: Final = "acredssp_identity"

_KINDS: Final = (
    ("auth-rsa", (0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0201)),
    ("auth-rsa", (0x0809, 0x080A, 0x080B)),  # keys that are for RSASSA-PSS alone
    ("auth-ecdsa", (0x0403, 0x0503, 0x0603, 0x0203)),
    ("auth-ecdsa", (0x0807,)),  # Ed25519
    ("auth-ecdsa", (0x0808,)),  # Ed448
    ("auth-dss", (0x0402, 0x0502, 0x0602, 0x0202)),
)
"""The kinds of certificates: how OpenSSL names what a suite authenticates by, and the signatures that take such a key
(RFC 8446 4.2.3), SHA-1's too: the context decides what it takes."""

_HAS_NONE: Final = {
    "tls failed: no shared cipher",
    "tls failed: no suitable signature algorithm",
    "tls failed: unsupported protocol",
}
"""What OpenSSL says for a context without a certificate, to who offers everything that the context takes: of TLS 1.2,
of TLS 1.3, and of a version that the context has switched off."""

_MOST_FLIGHTS: Final = 4
"""Flights a client sends before its handshake is complete: two, and one more after a HelloRetryRequest."""


def own_public_key(context: ssl.SSLContext) -> bytes:
    """Return the SubjectPublicKey of a server context's certificate.

    Raises:
        PolicyError: The context presents no certificate, or certificates of several kinds.
    """
    return _identity(context)[0]


def own_chain(context: ssl.SSLContext) -> tuple[bytes, ...]:
    """Return the certificates that a server context presents, in DER, its own first; raises as `own_public_key`."""
    return _identity(context)[1]


def present(context: ssl.SSLContext, chain: tuple[bytes, ...]) -> None:
    """Take the caller's word for the chain of a context that does not tell.

    Args:
        context: A server's.
        chain: In DER, the server's own first.

    Raises:
        PolicyError: The context was asked, and presents another certificate, or certificates of several kinds.
    """
    presented = _ask(context, [])
    if not presented:
        _remember(context, chain)
    elif own_chain(context)[0] != chain[0]:
        raise PolicyError(
            "the ssl context presents another certificate than the one that was given",
            hint="leave the certificate out where the ssl context has it",
        )


def _identity(context: ssl.SSLContext) -> tuple[bytes, tuple[bytes, ...]]:
    """The key, which every connection needs, and the chain."""
    identity: tuple[bytes, tuple[bytes, ...]] | None = getattr(context, _IDENTITY, None)
    if identity is None:
        identity = _remember(context, _ask_chain(context))
    return identity


def _remember(context: ssl.SSLContext, chain: tuple[bytes, ...]) -> tuple[bytes, tuple[bytes, ...]]:
    identity = subject_public_key(chain[0]), chain
    setattr(context, _IDENTITY, identity)
    return identity


def _ask_chain(context: ssl.SSLContext) -> tuple[bytes, ...]:
    reasons: list[str] = []
    chains = _ask(context, reasons)
    if len(chains) == 1:
        return chains.pop()
    if chains:
        raise PolicyError(
            "the ssl context has certificates of two key types",
            hint="load one certificate chain with load_cert_chain()",
        )
    said = ", ".join(dict.fromkeys(reasons))
    if set(reasons) <= _HAS_NONE:
        raise PolicyError(
            f"the ssl context has no certificate that it could present ({said})",
            hint="load a certificate chain with load_cert_chain()",
        )
    raise PolicyError(
        f"the certificate of the ssl context cannot be found out ({said})",
        hint="give its chain to ServerConfig as certificate",
    )


def _ask(context: ssl.SSLContext, reasons: list[str]) -> set[tuple[bytes, ...]]:
    """The chains that a context presents to one client or another; `reasons` gets what OpenSSL says instead."""
    note_server_name(context)  # so that the caller's own callback is left out of this
    chains = {_ask_in_tls12(context, suites, signatures, reasons) for suites, signatures in _kinds_of(context)}
    chains.discard(())
    if not chains and (chain := _ask_in_tls13(context, reasons)):
        chains.add(chain)
    return chains


def _kinds_of(context: ssl.SSLContext) -> Iterator[tuple[list[int], tuple[int, ...]]]:
    """Suites and signatures to offer to a context, for each kind of certificate that it could have."""
    ciphers: list[dict[str, Any]] = context.get_ciphers()  # type: ignore[assignment] # typeshed has fewer keys
    for authentication, signatures in _KINDS:
        # The two low bytes of OpenSSL's number are the suite's own.
        suites = [cipher["id"] & 0xFFFF for cipher in ciphers if cipher["auth"] == authentication]
        if suites:
            yield suites, signatures


def _ask_in_tls12(
    context: ssl.SSLContext, suites: list[int], signatures: tuple[int, ...], reasons: list[str]
) -> tuple[bytes, ...]:
    server = _server(context)
    try:
        server.handshake(client_hello(suites, signatures))
    except TLSError as error:
        reasons.append(error.message)
        return ()
    return certificate_chain(server.output())


def _ask_in_tls13(context: ssl.SSLContext, reasons: list[str]) -> tuple[bytes, ...]:
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname = False
    asking.verify_mode = ssl.CERT_NONE  # only the certificates are looked at, and nothing is sent over this connection
    client, server = TLSSession(asking, server_side=False), _server(context)
    flight = b""
    try:
        for _ in range(_MOST_FLIGHTS):
            if client.handshake(flight):
                return client.peer_chain()
            server.handshake(client.output())
            flight = server.output()
    except TLSError as error:
        reasons.append(error.message)
    return ()


def _server(context: ssl.SSLContext) -> TLSSession:
    session = TLSSession(context, server_side=True)
    ask_without_callback(session.ssl_object)
    return session
