"""The certificate of `acredssp serve`: from files, or made for the occasion."""

import dataclasses
import pathlib
import socket
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from acredssp import tls_config
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

    @classmethod
    def self_made(cls, host: str, key_type: Literal["rsa", "ec"]) -> "Certificate":
        """Make one for the host that is listened on, and the other names it has."""
        names = [host]
        if host in _ANYWHERE:
            names = [socket.gethostname(), *_LOOPBACK]
        elif host in _LOOPBACK:
            names += [name for name in _LOOPBACK if name != host]
        try:
            return cls(*tls_config.self_signed(names, key_type))
        except ValueError:
            raise UsageError(f"expected a host name or an ip address, got {host}") from None

    @classmethod
    def from_files(cls, chain: pathlib.Path, key: pathlib.Path) -> "Certificate":
        """Read one; raises `UsageError` if a file cannot be read, or does not hold what it is for."""
        return cls(_pem("--cert", chain, b"CERTIFICATE-----"), _pem("--key", key, b"PRIVATE KEY-----"))

    def server_config(
        self,
        policy: Policy,
        *,
        lookup: LookupHook | None = None,
        keytab: Keytab | None = None,
        authorize: AuthorizeHook | None = None,
        admit: AdmitHook | None = None,
    ) -> ServerConfig:
        """Make a server's configuration with it; raises `UsageError` if chain and key are no pair."""
        try:
            context = tls_config.server_context_from_pem(policy, self.chain, self.key)
        except (OSError, ValueError):  # ssl.SSLError is an OSError
            raise UsageError(
                "expected in --cert a certificate chain in pem and in --key its private key, got no such pair"
            ) from None
        return ServerConfig(
            ssl_context=context, lookup=lookup, keytab=keytab, authorize=authorize, admit=admit, policy=policy
        )

    @property
    def pin(self) -> str:
        """What a client pins: the SHA-256 of the public key, in hex."""
        return pin_of(x509.load_pem_x509_certificate(self.chain).public_bytes(Encoding.DER))


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
