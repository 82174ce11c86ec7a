"""TLS contexts as CredSSP wants them, and certificates to put into them.

Made once and shared: a server context with its certificate costs about as much as a whole handshake.

A key in memory never touches a disk in clear: OpenSSL, as CPython wraps it, reads keys from files only, so on Linux
it gets one that exists in memory alone (memfd); elsewhere a temporary file encrypted under a one-time password and
removed at once.
"""

import contextlib
import datetime as dt
import ipaddress
import os
import pathlib
import secrets
import ssl
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from acredssp.arguments import expect
from acredssp.core.own_certificate import own_public_key
from acredssp.core.server_name import note_server_name
from acredssp.errors import PolicyError
from acredssp.policy import Policy
from acredssp.tracebacks import forget_locals

__all__ = [
    "chain_of",
    "client_context",
    "client_context_from_pem",
    "self_signed",
    "server_context",
    "server_context_from_pem",
]

_VALIDITY: Final = dt.timedelta(days=365)
_SUITES: Final = ("ECDH+AESGCM", "ECDH+CHACHA20", "ECDH+AES", "DHE+AES")
"""Suites of TLS 1.2 and below, as the ssl module lists them, but with those of SHA-1: the only ones below TLS 1.2."""
_WITHOUT_FORWARD_SECRECY: Final = ("kRSA+AESGCM", "kRSA+AES")
_NEVER: Final = ("!aNULL", "!eNULL", "!aDSS", "!AESCCM", "!PSK", "!SRP")

_CLOCK_SKEW: Final = dt.timedelta(days=1)
"""A client whose clock is behind should still find the certificate valid."""


def client_context(policy: Policy) -> ssl.SSLContext:
    """Make a context for clients. It verifies nothing: the certificate is judged after the handshake (`trust`).

    Raises:
        PolicyError: OpenSSL has not what the policy lets in.
    """
    expect("policy", policy, Policy)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _apply(context, policy)
    if policy.tls_resumption:
        context.options &= ~ssl.OP_NO_TICKET
    return context


def client_context_from_pem(policy: Policy, certificate: bytes, key: bytes) -> ssl.SSLContext:
    """Make a context for clients that shows a certificate to a server that asks for one.

    Args:
        policy: The TLS versions and suites.
        certificate: The client's certificate chain in PEM, its own first.
        key: The private key in PEM.

    Raises:
        ssl.SSLError: They are no PEM, or do not belong together.
    """
    expect("certificate", certificate, bytes)
    expect("key", key, bytes)
    context = client_context(policy)
    try:
        with _file_of_key(certificate, key) as (path, password):
            context.load_cert_chain(path, None, password)
    except BaseException as error:
        key = b""  # a frame is kept with an error
        forget_locals(error)
        raise
    return context


def server_context(policy: Policy, certfile: str, keyfile: str | None = None) -> ssl.SSLContext:
    """Make a context for servers from files in PEM.

    Args:
        policy: The TLS versions and suites.
        certfile: The certificate chain, the server's own first.
        keyfile: The private key; None when it is in `certfile`.

    Raises:
        OSError: A file cannot be read.
        ssl.SSLError: A file is no PEM, or key and certificate do not belong together.
        PolicyError: There are certificates of two key types, or OpenSSL has not what the policy lets in.
    """
    expect("policy", policy, Policy)
    expect("certfile", certfile, str)
    expect("keyfile", keyfile, str, None)
    for path in filter(None, (certfile, keyfile)):
        pathlib.Path(path).open("rb").close()  # OpenSSL would not say which file it is that cannot be read
    return _server_context(policy, certfile, keyfile, None)


def server_context_from_pem(policy: Policy, certificate: bytes, key: bytes) -> ssl.SSLContext:
    """Make a context for servers from PEM in memory; raises as `server_context` does."""
    expect("policy", policy, Policy)
    expect("certificate", certificate, bytes)
    expect("key", key, bytes)
    try:
        with _file_of_key(certificate, key) as (path, password):
            return _server_context(policy, path, None, password)
    except BaseException as error:
        key = b""  # a frame is kept with an error
        forget_locals(error)
        raise


def _server_context(policy: Policy, certfile: str, keyfile: str | None, password: bytes | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _apply(context, policy)  # first: how long a key must be is the policy's to say
    context.load_cert_chain(certfile, keyfile, password)
    # CredSSP knows no resumption ([MS-CSSP] 3.1.5 step 1), and tickets in front of the first reply confuse peers. What
    # remains is OpenSSL's own cache: a TLS 1.2 client that closed cleanly may resume by session id, and the ssl module
    # has no switch for it (SSL_CTX_set_session_cache_mode). It holds 20480 sessions of some KiB at most, and saves TLS
    # alone: the logon is a whole one, bound to this context's key.
    context.num_tickets = 0
    note_server_name(context)
    own_public_key(context)
    return context


def chain_of(certificate: bytes) -> tuple[bytes, ...]:
    """Return the certificates of a chain in PEM as DER, in their order.

    Raises:
        ValueError: There is none.
    """
    try:
        links = x509.load_pem_x509_certificates(certificate)
    except ValueError:
        raise ValueError("expected a certificate chain in PEM, got something else") from None
    return tuple(link.public_bytes(serialization.Encoding.DER) for link in links)


def _apply(context: ssl.SSLContext, policy: Policy) -> None:
    if policy.legacy_tls:
        _check_built_with(policy)
    with warnings.catch_warnings():
        if policy.legacy_tls:
            warnings.simplefilter("ignore", DeprecationWarning)  # the policy's own switch says it louder
        context.minimum_version = policy.min_tls
        context.maximum_version = policy.max_tls
    _apply_legacy_suites(context, policy)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION


def _check_built_with(policy: Policy) -> None:
    for version, there in ((ssl.TLSVersion.TLSv1, ssl.HAS_TLSv1), (ssl.TLSVersion.TLSv1_1, ssl.HAS_TLSv1_1)):
        if policy.min_tls <= version and not there:
            raise PolicyError(
                f"this python's {ssl.OPENSSL_VERSION} has no {version.name}",
                hint="use a python whose openssl was built with it, or a higher min_tls (--min-tls)",
            )


def _apply_legacy_suites(context: ssl.SSLContext, policy: Policy) -> None:
    """Let in what the policy's switches name; without them the list of the ssl module stays as it is."""
    suites = [*_SUITES, *_WITHOUT_FORWARD_SECRECY] if policy.dangerous_allow_legacy_ciphers else [*_SUITES]
    if policy.legacy_tls:
        # OpenSSL 3 counts the signatures of TLS 1.0 and 1.1, by MD5 and SHA-1, to level 0.
        suites.append("@SECLEVEL=0")
    elif not policy.dangerous_allow_legacy_ciphers:
        return
    try:
        context.set_ciphers(":".join([*suites, *_NEVER]))
    except ssl.SSLError as error:
        raise PolicyError(
            f"this python's {ssl.OPENSSL_VERSION} does not take the suites of old peers: {error.reason}",
            hint="use a python with openssl 3, or go without dangerous_allow_legacy_tls and "
            "dangerous_allow_legacy_ciphers",
        ) from None


@contextlib.contextmanager
def _file_of_key(certificate: bytes, key: bytes) -> Iterator[tuple[str, bytes | None]]:
    """A path that holds chain and key for as long as the block runs, and the password that opens it."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("acredssp-key"), "wb") as memory:
            memory.write(key + b"\n" + certificate)
            memory.flush()
            yield f"/proc/self/fd/{memory.fileno()}", None
        return
    password = secrets.token_hex(32).encode()
    sealed = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )
    with tempfile.TemporaryDirectory(prefix="acredssp-") as folder:
        path = pathlib.Path(folder, "key.pem")
        path.write_bytes(sealed + b"\n" + certificate)
        yield str(path), password


def self_signed(names: Sequence[str], key_type: Literal["rsa", "ec"] = "rsa") -> tuple[bytes, bytes]:
    """Make a certificate for a server that has none, valid for a year.

    Args:
        names: Host names and IP addresses for the subjectAltName; the first is the common name too.
        key_type: RSA-2048, which every client takes, or P-256, which is several times faster for the server.

    Returns:
        The certificate and its private key, both in PEM.

    Raises:
        TypeError, ValueError: There are no names, or something else than names, or the type of key is another one.
    """
    expect("names", names, list, tuple)
    for entry in names:
        expect("names", entry, str)
    if not names:
        raise ValueError("names: expected a host name or an ip address, got none")
    if key_type not in {"rsa", "ec"}:
        raise ValueError("key_type: expected rsa or ec, got something else")
    key = rsa.generate_private_key(65537, 2048) if key_type == "rsa" else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
