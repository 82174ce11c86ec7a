"""The certificate of `acredssp serve`: from files, or made for the occasion."""

import dataclasses
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
    """The server's own first."""
    key: bytes = dataclasses.field(repr=False)
    source: str = ""
    """The options that it came by, for an error; empty for one that was made here."""

    @classmethod
    def self_made(cls, host: str, key_type: Literal["rsa", "ec"]) -> "Certificate":
        """Make one for the host that is listened on, and the other names it has."""
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
        """Read one; raises `UsageError` if a file cannot be read, or does not hold what it is for."""
        return cls(
            _pem("--cert", chain, b"CERTIFICATE-----"),
            _pem("--key", key, b"PRIVATE KEY-----"),
            f"--cert {chain} --key {key}",
        )

    def server_config(
        self,
        policy: Policy,
        *,
        lookup: LookupHook | None = None,
        keytab: Keytab | None = None,
        authorize: AuthorizeHook | None = None,
        admit: AdmitHook | None = None,
    ) -> ServerConfig:
        """Make a server's configuration with it; raises `UsageError` if OpenSSL does not take chain and key."""
        try:
            context = tls.server_context_from_pem(policy, self.chain, self.key)
        except ssl.SSLError as error:
            raise UsageError(f"{self.source}: {_not_taken(error)}") from None
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.source}: expected a certificate chain and its private key: {error}") from None
        return ServerConfig(
            ssl_context=context, lookup=lookup, keytab=keytab, authorize=authorize, admit=admit, policy=policy
        )

    @property
    def pin(self) -> str:
        """What a client pins: the SHA-256 of the public key, in hex."""
        return pin_of(x509.load_pem_x509_certificate(self.chain).public_bytes(Encoding.DER))


def _not_taken(error: ssl.SSLError) -> str:
    """Say why OpenSSL does not take a chain and a key, and what to do about it. Its reason holds nothing of the key."""
    reason = error.reason or "no reason given"
    if "MISMATCH" in reason:
        advice = "give the key that belongs to the certificate, which is the first one in --cert"
    elif reason.endswith(("_TOO_SMALL", "_TOO_WEAK")):
        advice = (
            "have the certificate renewed with an RSA key of 2048 bits or an EC key, signed with SHA-256, "
            "or let old ones in by --min-tls 1.0 --dangerous-allow-legacy-tls"
        )
    else:
        advice = "see that both files are whole, and in pem"
    return f"openssl does not take the certificate chain with this key: {reason} ({advice})"


def _pem(option: str, path: pathlib.Path, mark: bytes) -> bytes:
    """Read a file in PEM that holds an object of the kind that `mark` ends the name of."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(option, path, error) from None
    what = mark.decode("ascii").rstrip("-").lower()
    if mark not in content:
        raise UsageError(f"{option} {path}: expected a {what} in pem, got none")
    if option == "--key" and b"ENCRYPTED" in content:
        # OpenSSL would ask for its password at the terminal, in the middle of the start.
        raise UsageError(f"{option} {path}: expected a {what} without a password: take it off by openssl pkey")
    return content
