"""The certificate of `acredssp serve`: read from files, or made at the start."""

import dataclasses
import datetime as dt
import pathlib
import socket
import ssl
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from acredssp import tls
from acredssp.cli.outcome import UsageError, unreadable
from acredssp.config import ServerConfig
from acredssp.credentials import Keytab
from acredssp.diagnosis import CertificateFacts
from acredssp.hooks import AdmitHook, AuthorizeHook, LookupHook
from acredssp.policy import Policy
from acredssp.trust import pin_of

__all__ = ["Certificate"]

_ANYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclasses.dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain and its private key, both in PEM."""

    chain: bytes
    """The certificates, the server's own one first."""
    key: bytes = dataclasses.field(repr=False)
    source: str = ""
    """The options that named the files, for error texts; empty for a self-made certificate."""

    @classmethod
    def self_made(cls, host: str, key_type: Literal["rsa", "ec"]) -> "Certificate":
        """Make a self-signed certificate for the host that the server listens on, and for the host's other names."""
        names = [host]
        if host in _ANYWHERE:
            names = [socket.gethostname(), *_LOOPBACK]
        elif host in _LOOPBACK:
            names += [name for name in _LOOPBACK if name != host]
        try:
            return cls(*tls.self_signed(names, key_type))
        except ValueError:
            raise UsageError(f"expected a host name or an ip address, got {host}") from None

    @classmethod
    def from_files(cls, chain: pathlib.Path, key: pathlib.Path) -> "Certificate":
        """Read a certificate and its key.

        Raises:
            UsageError: A file cannot be read, or does not hold a certificate or a private key in PEM.
        """
        return cls(
            _pem("--cert", chain, b"CERTIFICATE-----"),
            _pem("--key", key, b"PRIVATE KEY-----"),
            f"--cert {chain} --key {key}",
        )

    @property
    def invalid(self) -> str:
        """Why the certificate is not valid now, for a warning; empty where it is, and where it cannot be read."""
        try:
            own = x509.load_pem_x509_certificates(self.chain)[0].public_bytes(Encoding.DER)
        except ValueError:
            return ""
        facts = CertificateFacts.of(own)
        now = dt.datetime.now(dt.UTC)
        if facts is None or facts.not_before <= now <= facts.not_after:
            return ""
        when = (
            f"has expired on {facts.not_after:%Y-%m-%d}"
            if facts.not_after < now
            else f"is not valid before {facts.not_before:%Y-%m-%d}"
        )
        return f"{self.source}: the certificate {when}, so clients refuse it"

    def server_config(
        self,
        policy: Policy,
        *,
        lookup: LookupHook | None = None,
        keytab: Keytab | None = None,
        authorize: AuthorizeHook | None = None,
        admit: AdmitHook | None = None,
    ) -> ServerConfig:
        """Make a server's configuration with this certificate.

        Raises:
            UsageError: OpenSSL refuses the chain or the key.
        """
        try:
            context = tls.server_context_from_pem(policy, self.chain, self.key)
        except ssl.SSLError as error:
            raise UsageError(f"{self.source}: {_refusal(error)}") from None
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.source}: expected a certificate chain and its private key: {error}") from None
        return ServerConfig(
            ssl_context=context, lookup=lookup, keytab=keytab, authorize=authorize, admit=admit, policy=policy
        )

    @property
    def pin(self) -> str:
        """The SHA-256 of the server's public key in hex, as clients give it to `--pin`."""
        return pin_of(x509.load_pem_x509_certificate(self.chain).public_bytes(Encoding.DER))


def _refusal(error: ssl.SSLError) -> str:
    """Say why OpenSSL refuses a chain and a key, and what to do about it. The reason reveals nothing of the key."""
    reason = error.reason or "no reason given"
    if "MISMATCH" in reason:
        advice = "give the key that belongs to the certificate, which is the first one in --cert"
    elif reason.endswith(("_TOO_SMALL", "_TOO_WEAK")):
        advice = (
            "renew the certificate with an RSA key of 2048 bits or an EC key, signed with SHA-256, "
            "or accept weak certificates with --min-tls 1.0 --dangerous-allow-legacy-tls"
        )
    else:
        advice = "check that both files are complete, and in pem"
    return f"openssl refuses the certificate chain with this key: {reason} ({advice})"


def _pem(option: str, path: pathlib.Path, mark: bytes) -> bytes:
    """Read a PEM file, and check that it holds an object of the wanted kind.

    Args:
        option: The option that named the file, for error texts.
        path: The file.
        mark: The end of the line with which such an object begins or ends.

    Raises:
        UsageError: The file cannot be read, holds no such object, or holds a key that is encrypted.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(option, path, error) from None
    what = mark.decode("ascii").rstrip("-").lower()
    if mark not in content:
        raise UsageError(f"{option} {path}: expected a {what} in pem, got none")
    if option == "--key" and b"ENCRYPTED" in content:
        # OpenSSL would ask for the key's password at the terminal while the server starts.
        raise UsageError(f"{option} {path}: expected a {what} without a password: remove it with openssl pkey")
    return content
