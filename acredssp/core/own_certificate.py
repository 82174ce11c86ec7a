"""Finds the certificate that a server's `ssl.SSLContext` presents. CredSSP binds to it, and CPython has no getter.

This module asks a context once, by handshakes in memory that go no further than the context's first flight, and
remembers the answer as an attribute of the context. It asks again where a logon is bound to another key, since the
certificate may have been renewed meanwhile. It asks for each kind of certificate in turn:

* In TLS 1.2 a hello of our own gets the chain in clear, whatever the context demands of a client afterwards.
* In TLS 1.3 a hello finds out whether the context has a certificate of one kind. The suites of TLS 1.3 do not depend on
  the kind, so a context may have a certificate that it never presents in TLS 1.2. Where a context has TLS 1.3 alone, a
  client of OpenSSL gets the chain.

A context with certificates of several kinds is refused: the client decides which one it gets, and the ssl module does
not tell a server which one that was. So the server could not know which key to bind to.

Who calls: `config` and `tls_config` when a context is given or made; the engine for each connection of a server, since
an SNI callback may have chosen another context.
"""

import ssl
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from acredssp.core.server_name import ask_without_callback, note_server_name
from acredssp.core.tls import TLSSession
from acredssp.errors import PolicyError, TLSError
from acredssp.wire.tls_hello import (
    asks_for_another_hello,
    certificate_chain,
    client_hello,
    signature_algorithms,
    with_signature_algorithms,
)
from acredssp.wire.x509 import subject_public_key

__all__ = ["OwnCertificate", "ask_again", "own_certificate", "own_chain", "own_public_key", "present", "remembered"]

OwnCertificate: TypeAlias = tuple[bytes, tuple[bytes, ...]]
"""The SubjectPublicKey of a certificate, and its chain in DER, the certificate itself first."""

_IDENTITY: Final = "acredssp_identity"

_KINDS: Final = (
    ("auth-rsa", (0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0201)),
    ("auth-rsa", (0x0809, 0x080A, 0x080B)),  # keys for RSASSA-PSS alone
    ("auth-ecdsa", (0x0403, 0x0503, 0x0603, 0x0203, 0x081A, 0x081B, 0x081C)),  # the last ones: Brainpool (RFC 8734)
    ("auth-ecdsa", (0x0807,)),  # Ed25519
    ("auth-ecdsa", (0x0808,)),  # Ed448
    ("auth-dss", (0x0402, 0x0502, 0x0602, 0x0202)),
)
"""The kinds of certificates. Each row has OpenSSL's name for how a suite authenticates, and the signatures that such a
key makes (RFC 8446 4.2.3). Those with SHA-1 are among them, since the context decides which ones it makes."""

_PRESENTS_NONE: Final = {
    "tls failed: no shared cipher",
    "tls failed: no suitable signature algorithm",
    "tls failed: unsupported protocol",
}
"""OpenSSL's errors for a context without a certificate, where the client offers everything that the context takes: in
TLS 1.2, in TLS 1.3, and for a version that is switched off. OpenSSL has the same errors for a certificate that no suite
or version of the context can use."""

_OTHER_KINDS: Final = len(_KINDS)
"""The number that stands for all kinds that OpenSSL knows and `_KINDS` does not, such as ML-DSA since OpenSSL 3.5."""

_MOST_FLIGHTS: Final = 4
"""The most turns of a handshake in memory. A client sends two flights, and one more after a HelloRetryRequest."""
_MOST_HELLOS: Final = 2
"""A client's hello, and the one that answers a HelloRetryRequest."""


def own_certificate(context: ssl.SSLContext) -> OwnCertificate:
    """Return the certificate that a server context presents, as the context's first answer told it.

    Raises:
        PolicyError: The context presents no certificate, or certificates of several kinds.
    """
    known = remembered(context)
    return known if known is not None else _remember(context, _ask_chain(context))


def own_public_key(context: ssl.SSLContext) -> bytes:
    """Return the SubjectPublicKey of a server context's certificate. Raises what `own_certificate` raises."""
    return own_certificate(context)[0]


def own_chain(context: ssl.SSLContext) -> tuple[bytes, ...]:
    """Return the chain that a server context presents, in DER, the server's own certificate first.

    Raises:
        PolicyError: The context presents no certificate, or certificates of several kinds.
    """
    return own_certificate(context)[1]


def remembered(context: ssl.SSLContext) -> OwnCertificate | None:
    """Return the remembered certificate of a context; None where the context has not been asked."""
    known: OwnCertificate | None = getattr(context, _IDENTITY, None)
    return known


def ask_again(context: ssl.SSLContext) -> bytes:
    """Return the SubjectPublicKey of the certificate that a context presents now, and remember the certificate.

    The certificate may have been renewed. The call takes some milliseconds. A context whose certificate cannot be found
    out keeps the certificate that the caller has named.

    Raises:
        PolicyError: The context presents certificates of several kinds now.
    """
    chain = _ask(context, [])
    return _remember(context, chain)[0] if chain else own_public_key(context)


def present(context: ssl.SSLContext, chain: tuple[bytes, ...]) -> None:
    """Use the chain that the caller names, for a context whose certificate cannot be found out.

    Args:
        context: A server's context.
        chain: The certificates in DER, the server's own first.

    Raises:
        PolicyError: The context was asked, and presents another certificate, or certificates of several kinds.
    """
    presented = _ask(context, [])
    if presented and presented[0] != chain[0]:
        raise PolicyError(
            "the ssl context presents another certificate than the one given as certificate",
            hint="leave certificate out: the ssl context has its own",
        )
    _remember(context, presented or chain)


def _remember(context: ssl.SSLContext, chain: tuple[bytes, ...]) -> OwnCertificate:
    identity = subject_public_key(chain[0]), chain
    setattr(context, _IDENTITY, identity)
    return identity


def _ask_chain(context: ssl.SSLContext) -> tuple[bytes, ...]:
    reasons: list[str] = []
    chain = _ask(context, reasons)
    if chain:
        return chain
    said = ", ".join(dict.fromkeys(reasons))
    if _PRESENTS_NONE.issuperset(reasons):
        raise PolicyError(
            f"the ssl context presents no certificate ({said}): it has none, or none of its tls versions and cipher "
            "suites can use the certificate's key",
            hint="load a certificate chain with load_cert_chain(), and check that minimum_version, maximum_version, "
            "set_ciphers() and set_ecdh_curve() of the context allow its key",
        )
    raise PolicyError(
        f"cannot find out which certificate the ssl context presents ({said})",
        hint="give the certificate chain to ServerConfig as certificate=...",
    )


def _ask(context: ssl.SSLContext, reasons: list[str]) -> tuple[bytes, ...]:
    """The chain that a context presents; empty where it cannot be found out, with OpenSSL's errors in `reasons`."""
    note_server_name(context)  # so that `ask_without_callback` can leave the caller's own callback out
    chains: dict[int, tuple[bytes, ...]] = {}
    for kind, suites, signatures in _kinds_in_tls12(context):
        if chain := _ask_in_tls12(context, suites, signatures, reasons):
            chains[kind] = chain
    asking = _asking_context()
    kinds = {kind for kind, signatures in _kinds_in_tls13(asking) if _has_in_tls13(context, asking, signatures)}
    # Below TLS 1.2 a context presents the same certificate for any signatures, so several kinds may have one chain.
    if len(set(chains.values())) > 1 or len(kinds) > 1 or (chains and not kinds <= chains.keys()):
        raise PolicyError(
            "expected an ssl context with one certificate, got one with certificates of two key types",
            hint="load only one certificate chain with load_cert_chain()",
        )
    return next(iter(chains.values()), ()) or _ask_in_tls13(context, asking, reasons)


def _kinds_in_tls12(context: ssl.SSLContext) -> Iterator[tuple[int, list[int], tuple[int, ...]]]:
    """Each kind of certificate that a context may have, with the suites and signatures to offer for it."""
    ciphers: list[dict[str, Any]] = context.get_ciphers()  # type: ignore[assignment] # typeshed has fewer keys
    for kind, (authentication, signatures) in enumerate(_KINDS):
        # The two low bytes of OpenSSL's number are the number that TLS gives the suite.
        suites = [cipher["id"] & 0xFFFF for cipher in ciphers if cipher["auth"] == authentication]
        if suites:
            yield kind, suites, signatures


def _kinds_in_tls13(asking: ssl.SSLContext) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Each kind of certificate, with the signatures to offer for it."""
    known: set[int] = set()
    for kind, (_, signatures) in enumerate(_KINDS):
        known.update(signatures)
        yield kind, signatures
    client = TLSSession(asking, server_side=False)
    client.handshake()
    others = tuple([number for number in signature_algorithms(client.output()) if number not in known])
    if others:
        yield _OTHER_KINDS, others


def _has_in_tls13(context: ssl.SSLContext, asking: ssl.SSLContext, signatures: tuple[int, ...]) -> bool:
    """Whether a context goes on with a client of TLS 1.3 that takes no other signatures."""
    client, server = TLSSession(asking, server_side=False), _server(context)
    flight = b""
    try:
        for _ in range(_MOST_HELLOS):
            client.handshake(flight)
            server.handshake(with_signature_algorithms(client.output(), signatures))
            flight = server.output()
            if not asks_for_another_hello(flight):
                return True
    except TLSError:
        pass
    return False


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


def _ask_in_tls13(context: ssl.SSLContext, asking: ssl.SSLContext, reasons: list[str]) -> tuple[bytes, ...]:
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


def _asking_context() -> ssl.SSLContext:
    """A context for clients of TLS 1.3 that only read certificates: no data is sent over their connections."""
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.minimum_version = ssl.TLSVersion.TLSv1_3
    asking.check_hostname = False
    asking.verify_mode = ssl.CERT_NONE
    return asking
