"""Makes TLS contexts as CredSSP needs them, and self-signed certificates.

Make a context once and share it: a server context with its certificate costs about as much as a whole handshake.

A key in memory is never written to a disk in clear. CPython's ssl module reads keys from files only. So on Linux it
gets a file that exists in memory alone (memfd). Elsewhere it gets a temporary file that is encrypted under a one-time
password, and removed at once.
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
"""Suites of TLS 1.2 and below, as the ssl module lists them, and those with SHA-1, the only ones below TLS 1.2."""
_WITHOUT_FORWARD_SECRECY: Final = ("kRSA+AESGCM", "kRSA+AES")
_NEVER: Final = ("!aNULL", "!eNULL", "!aDSS", "!AESCCM", "!PSK", "!SRP")

_CLOCK_SKEW: Final = dt.timedelta(days=1)
"""How long before the present a certificate becomes valid, for clients whose clock is slow."""


def client_context(policy: Policy) -> ssl.SSLContext:
    """Make a context for clients. It verifies nothing, since `trust` judges the certificate after the handshake.

    Raises:
        PolicyError: OpenSSL lacks a version or suites that the policy allows.
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
        ssl.SSLError: `certificate` or `key` is not PEM, or they do not belong together.
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
        ssl.SSLError: A file is not PEM, or key and certificate do not belong together.
        PolicyError: There are certificates of two key types, or OpenSSL lacks a version or suites that the policy
            allows.
    """
    expect("policy", policy, Policy)
    expect("certfile", certfile, str)
    expect("keyfile", keyfile, str, None)
    for path in filter(None, (certfile, keyfile)):
        pathlib.Path(path).open("rb").close()  # OpenSSL would not tell which file cannot be read
    return _server_context(policy, certfile, keyfile, None)


def server_context_from_pem(policy: Policy, certificate: bytes, key: bytes) -> ssl.SSLContext:
    """Make a context for servers from PEM in memory.

    Args:
        policy: The TLS versions and suites.
        certificate: The certificate chain in PEM, the server's own first.
        key: The private key in PEM.

    Raises:
        ssl.SSLError: `certificate` or `key` is not PEM, or they do not belong together.
        PolicyError: There are certificates of two key types, or OpenSSL lacks a version or suites that the policy
            allows.
    """
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
    _apply(context, policy)  # comes before the key is loaded, since the policy decides how short a key may be
    context.load_cert_chain(certfile, keyfile, password)
    # CredSSP defines no resumption ([MS-CSSP] 3.1.5 step 1), and tickets in front of the first reply confuse peers.
    # OpenSSL's own cache remains: a TLS 1.2 client that closed cleanly may resume by session id, and the ssl module has
    # no switch for the cache (SSL_CTX_set_session_cache_mode). The cache holds at most 20480 sessions of some KiB. To
    # resume shortens TLS alone: the logon is a whole one, bound to this context's key.
    context.num_tickets = 0
    note_server_name(context)
    own_public_key(context)
    return context


def chain_of(certificate: bytes) -> tuple[bytes, ...]:
    """Return the certificates of a chain in PEM as DER, in their order.

    Raises:
        ValueError: `certificate` holds no certificate in PEM.
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
            warnings.simplefilter("ignore", DeprecationWarning)  # the policy's switch is named dangerous already
        context.minimum_version = policy.min_tls
        context.maximum_version = policy.max_tls
    _apply_legacy_suites(context, policy)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION


def _check_built_with(policy: Policy) -> None:
    for version, there in ((ssl.TLSVersion.TLSv1, ssl.HAS_TLSv1), (ssl.TLSVersion.TLSv1_1, ssl.HAS_TLSv1_1)):
        if policy.min_tls <= version and not there:
            raise PolicyError(
                f"this python's {ssl.OPENSSL_VERSION} has no {version.name}",
                hint=f"use a python whose openssl was built with {version.name}, or set a higher min_tls (--min-tls)",
            )


def _apply_legacy_suites(context: ssl.SSLContext, policy: Policy) -> None:
    """Allow the suites that the policy's switches name. Without them the ssl module's own list stays."""
    suites = [*_SUITES, *_WITHOUT_FORWARD_SECRECY] if policy.dangerous_allow_legacy_ciphers else [*_SUITES]
    if policy.legacy_tls:
        # OpenSSL 3 allows the signatures of TLS 1.0 and 1.1, by MD5 and SHA-1, at level 0 only.
        suites.append("@SECLEVEL=0")
    elif not policy.dangerous_allow_legacy_ciphers:
        return
    try:
        context.set_ciphers(":".join([*suites, *_NEVER]))
    except ssl.SSLError as error:
        raise PolicyError(
            f"this python's {ssl.OPENSSL_VERSION} does not take the suites of old peers: {error.reason}",
            hint="use a python with openssl 3, or switch dangerous_allow_legacy_tls and "
            "dangerous_allow_legacy_ciphers off",
        ) from None


@contextlib.contextmanager
def _file_of_key(certificate: bytes, key: bytes) -> Iterator[tuple[str, bytes | None]]:
    """The path of a file with chain and key, which exists while the block runs; and the password of the key or None."""
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
        names: Host names and IP addresses for the subjectAltName. The first one is the common name too.
        key_type: `"rsa"` for RSA-2048, which every client takes; `"ec"` for P-256, which is several times faster for
            the server.

    Returns:
        The certificate and its private key, both in PEM.

    Raises:
        TypeError, ValueError: There are no names, a name is not a text, or `key_type` is another one.
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
