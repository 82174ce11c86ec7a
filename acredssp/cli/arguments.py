"""What the words of a command line mean: addresses, versions, accounts, secrets.

Every function raises `UsageError` for what it does not understand, and none quotes a secret in it.
"""

import contextlib
import dataclasses
import enum
import os
import pathlib
import re
import ssl
import stat
import sys
from collections.abc import Iterator
from getpass import getpass
from typing import Any, Final

from acredssp.aio import FailureLimit
from acredssp.arguments import expect_seconds
from acredssp.cli.outcome import UsageError, unreadable
from acredssp.credentials import AccountSecret, Credential, Keytab, NTHash, Password, TicketCache
from acredssp.names import escape_principal, upper
from acredssp.policy import FIRST_SAFE_VERSION, NEWEST_VERSION, OLDEST_VERSION, Policy
from acredssp.trust import Trust

__all__ = [
    "Address",
    "Secret",
    "TLSVersion",
    "account",
    "address",
    "check_versions",
    "exposed",
    "failure_limit",
    "legacy_warning",
    "nt_hash",
    "seconds",
    "tls_settings",
    "tls_warnings",
    "values",
    "weak_certificates_warning",
]

_TLS_VERSIONS: Final = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
_NT_HASH: Final = re.compile("[0-9A-Fa-f]{32}")


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port."""

    host: str
    """Name or IP address, without brackets."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address(text: str, *, default_port: int, lowest_port: int = 1) -> Address:
    """Read `HOST`, `HOST:PORT`, `[IPV6]`, `[IPV6]:PORT` or a bare IPv6 address."""
    _refuse_what_is_more_than_an_address(text)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise UsageError(f"expected [IPV6]:PORT, got {text}")
        port = rest[1:] if rest else None
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, None
    if not host or any(character.isspace() for character in host):
        raise UsageError(f"expected HOST:PORT, got {text!r}")
    return Address(host, default_port if port is None else _port(port, lowest_port))


def _refuse_what_is_more_than_an_address(text: str) -> None:
    """Name what people write in the place of an address."""
    scheme, separator, rest = text.partition("://")
    if separator:
        host = rest.partition("/")[0]
        raise UsageError(f"expected HOST:PORT, got a URL: leave {scheme}:// out, as in {host or 'HOST'}")
    if text.isascii() and text.isdecimal():
        raise UsageError(f"expected HOST:PORT, got a number alone: for the port {text} write HOST:{text}")
    if "/" in text:
        raise UsageError(f"expected HOST:PORT, got a path or a network: {text!r}")
    if "@" in text:
        raise UsageError(f"expected HOST:PORT, got {text!r}: the user is given by -u")


def _port(text: str, lowest: int) -> int:
    if text.isascii() and text.isdecimal() and lowest <= int(text) <= 65535:
        return int(text)
    raise UsageError(f"expected a port from {lowest} to 65535, got {text!r}")


def check_versions(lowest: int, highest: int) -> None:
    """See that the CredSSP versions are a range."""
    if not OLDEST_VERSION <= lowest <= highest <= NEWEST_VERSION:
        raise UsageError(
            f"expected --min-version up to --max-version within {OLDEST_VERSION} to {NEWEST_VERSION}, "
            f"got {lowest} and {highest}"
        )


def legacy_warning(lowest: int) -> str | None:
    """Return the line to print where versions are allowed that an attacker can relay."""
    if lowest >= FIRST_SAFE_VERSION:
        return None
    return "versions 2 to 4 let an attacker in between take over the logon (CVE-2018-0886): use 5 or 6 where you can"


def exposed(option: str, path: pathlib.Path) -> str | None:
    """Return the line to print where everybody on this machine can read a file with secrets."""
    if os.name == "nt" or not path.stat().st_mode & stat.S_IROTH:
        return None
    return f"everybody on this machine can read {option} {path}: chmod o-r {path}"


class TLSVersion(enum.StrEnum):
    """A version of TLS, as people write it."""

    TLS_1_0 = "1.0"
    TLS_1_1 = "1.1"
    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"


def tls_settings(lowest: TLSVersion, *, legacy: bool, legacy_ciphers: bool) -> dict[str, Any]:
    """Return what a policy is to be told of TLS."""
    version = _TLS_VERSIONS[lowest]
    if version < ssl.TLSVersion.TLSv1_2 and not legacy:
        raise UsageError(f"--min-tls {lowest.value} is broken (RFC 8996): it needs --dangerous-allow-legacy-tls")
    return {
        "min_tls": version,
        "dangerous_allow_legacy_tls": legacy,
        "dangerous_allow_legacy_ciphers": legacy_ciphers,
    }


def tls_warnings(policy: Policy) -> list[str]:
    """Return the lines to print where TLS is let in that is weaker than it need be."""
    warnings = []
    if policy.legacy_tls:
        warnings.append("tls 1.0 and 1.1 are broken (RFC 8996), and short keys are taken: use tls 1.2 where you can")
    if policy.dangerous_allow_legacy_ciphers:
        warnings.append("without forward secrecy, whoever gets the server's key later can read recorded connections")
    return warnings


def weak_certificates_warning(trust: Trust | None) -> str | None:
    """Return the line to print where certificates are let in that can be forged."""
    if trust is None or not trust.dangerous_allow_weak_certificates:
        return None
    return "certificates with weak keys or sha-1 signatures are taken, and such ones can be forged: renew the server's"


def account(user: str, domain: str | None) -> tuple[str, str]:
    r"""Return user and domain, from `-u USER -d DOMAIN` or from `-u DOMAIN\USER`; `-d ''` leaves USER as it stands."""
    if domain == "":
        name, realm = user, ""
    else:
        before, backslash, after = user.partition("\\")
        if backslash and domain is not None:
            raise UsageError("expected the domain once, got it in -u and in -d (-d '' sends -u as it stands)")
        name, realm = (after, before) if backslash else (user, domain or "")
    if not name:
        raise UsageError("expected a user name, got an empty one")
    return _unicode(name, "user name"), _unicode(realm, "domain")


@dataclasses.dataclass(frozen=True, slots=True)
class Secret:
    """Where the secret of a logon comes from: one of these, or else a prompt on the terminal."""

    password: str | None = dataclasses.field(default=None, repr=False)
    from_stdin: bool = False
    nt_hash: str | None = dataclasses.field(default=None, repr=False)
    ccache: str | None = None
    """A ticket cache; `default` for the user's own."""
    keytab: str | None = None

    def credential(self, user: str | None, domain: str | None) -> Credential:
        r"""Get the secret, and make the credential of it.

        Args:
            user: `USER`, `USER@SUFFIX` or `DOMAIN\USER`; None where the tickets say who logs on.
            domain: The domain where it is apart; None otherwise.
        """
        given = (self.password, self.from_stdin or None, self.nt_hash, self.ccache, self.keytab)
        if len(given) - given.count(None) > 1:
            raise UsageError("expected one of -p, --password-stdin, --nt-hash, --ccache and --keytab, got more")
        if self.ccache is not None:
            _check_readable("--ccache", self.ccache)
            return TicketCache("" if self.ccache == "default" else self.ccache, _principal(user, domain))
        if self.keytab is not None:
            _check_readable("--keytab", self.keytab)
            return Keytab(self.keytab, _principal(user, domain))
        if user is None:
            raise UsageError("expected -u USER: only --ccache and --keytab work without it")
        return self._of_account(*account(user, domain))

    def _of_account(self, user: str, domain: str) -> AccountSecret:
        if self.nt_hash is not None:
            return NTHash(nt_hash(self.nt_hash), user, domain)
        return Password(_unicode(self._password(user), "password"), user, domain)

    def _password(self, user: str) -> str:
        if self.password is not None:
            return self.password
        if self.from_stdin:
            return _first_line()
        if sys.stdin is None or not sys.stdin.isatty():  # None: the process was started without one
            raise UsageError(
                "expected -p, --password-stdin or --nt-hash: there is no terminal to ask for the password on"
            )
        return _asked_for(user)


def _principal(user: str | None, domain: str | None) -> str:
    """The Kerberos principal of an account; empty for whose tickets there are."""
    if user is None:
        return ""
    name, realm = account(user, domain)
    if not realm:
        name, _, realm = name.rpartition("@") if "@" in name else (name, "", realm)
    name = escape_principal(name)
    return f"{name}@{upper(realm)}" if realm else name


def _asked_for(user: str) -> str:
    """Ask for a password on the terminal; Ctrl-C there is left to whoever called."""
    try:
        return getpass(f"Password of {user}: ")
    except EOFError:
        raise UsageError("expected a password, got the end of the input") from None
    except KeyboardInterrupt:
        print(file=sys.stderr)  # noqa: T201 - what the shell writes next begins a line of its own
        raise


def _first_line() -> str:
    if sys.stdin is None:
        raise UsageError("expected a password on the standard input, which is closed")
    line = sys.stdin.buffer.readline().removesuffix(b"\n").removesuffix(b"\r")
    if not line:
        raise UsageError("expected a password on the standard input, got an empty line")
    return line.decode("utf-8", "surrogateescape")


def nt_hash(text: str) -> bytes:
    """Read an NT hash: 32 hex digits."""
    if not _NT_HASH.fullmatch(text):
        raise UsageError("expected an nt hash of 32 hex digits")
    return bytes.fromhex(text)


def _unicode(text: str, what: str) -> str:
    """Refuse what came in as bytes that are no UTF-8, which Python lets through as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"expected a {what} in utf-8") from None
    return text


def failure_limit(text: str) -> FailureLimit | None:
    """Read `N/MINUTES`; None for `0`, no limit."""
    if text == "0":
        return None
    count, _, minutes = text.partition("/")
    try:
        return FailureLimit(int(count), float(minutes) * 60)
    except ValueError:
        raise UsageError(
            f"--max-failures: expected N/MINUTES, such as 10/10, with at most 1440 minutes, or 0, got {text!r}"
        ) from None


def _check_readable(option: str, name: str) -> None:
    """See that a file of libkrb5's can be read.

    What lies elsewhere (`KEYRING:`, `KCM:`, `default`) is libkrb5's to find.

    Raises:
        UsageError: It cannot be read.
    """
    kind, colon, rest = name.partition(":")
    if name == "default" or (colon and kind != "FILE"):
        return
    path = pathlib.Path(rest if colon else name)
    try:
        path.open("rb").close()
    except OSError as error:
        raise unreadable(option, path, error) from None


@contextlib.contextmanager
def values() -> Iterator[None]:
    """Make a value that cannot be a matter of the command line."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from None


def seconds(option: str, value: float) -> float:
    """Return a time if it ends; raises `UsageError` where it does not."""
    with values():
        expect_seconds(option, value)
    return value
