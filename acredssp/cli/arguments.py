"""The values on a command line, read from its words: addresses, versions, accounts, secrets.

Every function raises `UsageError` for text that it does not understand. No such error quotes a secret.
"""

import contextlib
import dataclasses
import enum
import ipaddress
import math
import os
import pathlib
import re
import ssl
import stat
import sys
import urllib.parse
from collections.abc import Iterable, Iterator
from getpass import getpass
from typing import Any, BinaryIO, Final

from acredssp.aio import FailureLimit
from acredssp.arguments import expect_seconds
from acredssp.cli.outcome import UsageError, expect_readable
from acredssp.credentials import AccountSecret, Credential, Keytab, NTHash, Password, TicketCache
from acredssp.names import escape_principal, upper
from acredssp.policy import FIRST_SAFE_VERSION, NEWEST_VERSION, OLDEST_VERSION, Policy
from acredssp.trust import Trust
from acredssp.workers import Address

__all__ = [
    "Secret",
    "Service",
    "TLSVersion",
    "account",
    "address",
    "exposed",
    "failure_limit",
    "https_context",
    "legacy_warning",
    "networks",
    "nt_hash",
    "number",
    "policy_of",
    "proxy",
    "seconds",
    "service",
    "tls_warnings",
    "unbuffered_input",
    "values",
    "weak_certificates_warning",
]

_TLS_VERSIONS: Final = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
_WINRM_PORTS: Final = {"http": 5985, "https": 5986}
_PROXIES: Final = frozenset({"http", "https", "socks5", "socks5h"})
_URL: Final = "http://HOST:5985/wsman"
_NT_HASH: Final = re.compile("[0-9A-Fa-f]{32}")


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
    if ":" in host and not _is_ipv6(host):
        raise UsageError(f"expected an IPv6 address, got {host!r}: write [IPV6]:PORT for an address with a port")
    return Address(host, default_port if port is None else _port(port, lowest_port))


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _refuse_what_is_more_than_an_address(text: str) -> None:
    """Refuse a URL, a bare port, a path or a user name in place of an address, each with an error that names it."""
    scheme, separator, rest = text.partition("://")
    if separator:
        host = rest.partition("/")[0]
        raise UsageError(
            f"expected HOST:PORT, or a URL such as {_URL}, got a URL of another kind: write {host or 'HOST'} without "
            f"{scheme}://"
        )
    if text.isascii() and text.isdecimal():
        raise UsageError(f"expected HOST:PORT, got only a number: write HOST:{text} for port {text}")
    if "/" in text:
        raise UsageError(f"expected HOST:PORT, or a URL such as {_URL}, got a path or a network: {text!r}")
    if "@" in text:
        raise UsageError(f"expected HOST:PORT, got {text!r}: give the user with -u")


def _port(text: str, lowest: int) -> int:
    if text.isascii() and text.isdecimal() and lowest <= int(text) <= 65535:
        return int(text)
    raise UsageError(f"expected a port from {lowest} to 65535, got {text!r}")


def legacy_warning(lowest: int) -> str | None:
    """Return the warning to print if the options allow versions that an attacker can relay; None otherwise."""
    if lowest >= FIRST_SAFE_VERSION:
        return None
    return "versions 2 to 4 let an attacker on the network take over the logon (CVE-2018-0886): use version 5 or 6"


def exposed(option: str, path: pathlib.Path) -> str | None:
    """Return the warning to print if everybody on this machine can read a file with secrets; None otherwise."""
    if os.name == "nt" or not path.stat().st_mode & stat.S_IROTH:
        return None
    return f"everybody on this machine can read {option} {path}: run chmod o-r {path}"


class TLSVersion(enum.StrEnum):
    """A TLS version, as users write it on the command line."""

    TLS_1_0 = "1.0"
    TLS_1_1 = "1.1"
    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"


def policy_of(
    lowest: int, highest: int, lowest_tls: TLSVersion, *, legacy_tls: bool, legacy_ciphers: bool, **more: Any
) -> Policy:
    """Return the policy that the options of versions and ciphers stand for.

    Args:
        lowest: `--min-version`.
        highest: `--max-version`.
        lowest_tls: `--min-tls`.
        legacy_tls: Whether `--dangerous-allow-legacy-tls` was given.
        legacy_ciphers: Whether `--dangerous-allow-legacy-ciphers` was given.
        more: The other settings of the policy.

    Raises:
        UsageError: The CredSSP versions are not known or not in order, or the lowest version of TLS is broken and
            `legacy_tls` is not set.
    """
    if not OLDEST_VERSION <= lowest <= highest <= NEWEST_VERSION:
        raise UsageError(
            f"expected --min-version and --max-version from {OLDEST_VERSION} to {NEWEST_VERSION}, the lower one first, "
            f"got {lowest} and {highest}"
        )
    version = _TLS_VERSIONS[lowest_tls]
    if version < ssl.TLSVersion.TLSv1_2 and not legacy_tls:
        name = lowest_tls.value
        raise UsageError(f"tls {name} is broken (RFC 8996): --min-tls {name} needs --dangerous-allow-legacy-tls too")
    return Policy(
        min_version=lowest,
        max_version=highest,
        dangerous_allow_legacy_versions=lowest < FIRST_SAFE_VERSION,
        min_tls=version,
        dangerous_allow_legacy_tls=legacy_tls,
        dangerous_allow_legacy_ciphers=legacy_ciphers,
        **more,
    )


def tls_warnings(policy: Policy) -> list[str]:
    """Return the warnings to print if the options allow weak TLS."""
    warnings = []
    if policy.legacy_tls:
        warnings.append("tls 1.0 and 1.1 are broken (RFC 8996), and short keys are accepted with them: use tls 1.2")
    if policy.dangerous_allow_legacy_ciphers:
        warnings.append(
            "some of the allowed ciphers lack forward secrecy: whoever gets the server's key later can read recorded "
            "connections"
        )
    return warnings


def weak_certificates_warning(trust: Trust | None) -> str | None:
    """Return the warning to print if the options accept certificates that can be forged; None otherwise."""
    if trust is None or not trust.dangerous_allow_weak_certificates:
        return None
    return (
        "certificates with weak keys or sha-1 signatures are accepted, and an attacker may forge one: "
        "renew the server's certificate"
    )


def account(user: str, domain: str | None) -> tuple[str, str]:
    r"""Return user and domain, read from `-u USER -d DOMAIN` or from `-u DOMAIN\USER`.

    An empty `-d ''` leaves USER unchanged, even where it holds a backslash.
    """
    if domain == "":
        name, realm = user, ""
    else:
        before, backslash, after = user.partition("\\")
        if backslash and domain is not None:
            raise UsageError("expected the domain once, got it in -u and in -d (-d '' sends -u unchanged)")
        name, realm = (after, before) if backslash else (user, domain or "")
    if not name:
        raise UsageError("expected a user name, got an empty one")
    return _unicode(name, "user name"), _unicode(realm, "domain")


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """The address of a WinRM service."""

    url: str
    host: str
    """Name or IP address, without brackets."""
    secure: bool
    """Whether it is reached by HTTPS."""


def service(text: str) -> Service:
    """Read a URL of WinRM. `HOST` alone stands for `http://HOST:5985/wsman`, and https has the port 5986."""
    if _is_ipv6(text):
        text = f"[{text}]"
    try:
        parts = urllib.parse.urlsplit(text if "://" in text else f"http://{text}")
    except ValueError:
        raise UsageError(f"expected a URL such as {_URL}, got {text!r}") from None
    if parts.username is not None:
        raise UsageError(f"expected a URL without a user, such as {_URL}: give the user with -u")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UsageError(_no_port(parts.netloc, text)) from None
    if parts.scheme not in _WINRM_PORTS:
        raise UsageError(f"expected a URL of http or https such as {_URL}, got {text!r}")
    if not host or parts.query or parts.fragment or any(each.isspace() for each in text):
        raise UsageError(f"expected a URL such as {_URL}, got {text!r}")
    address = Address(host, port or _WINRM_PORTS[parts.scheme])
    return Service(f"{parts.scheme}://{address}{parts.path or '/wsman'}", host, parts.scheme == "https")


def proxy(text: str) -> str:
    """Check the URL of a proxy. It may have a password, so no error quotes it."""
    try:
        parts = urllib.parse.urlsplit(text)
        fits = parts.scheme in _PROXIES and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise UsageError(
            "--proxy: expected a URL of http, https or socks5, such as http://proxy.example:3128, got another"
        )
    return text


def _no_port(where: str, text: str) -> str:
    """Return the text of an error about a port.

    Args:
        where: The host and the port of the URL.
        text: The whole URL.
    """
    if where.count(":") > 1 and "[" not in where:
        return f"expected an IPv6 address in brackets, such as [::1] or [::1]:5985, got {text!r}"
    return f"expected a port from 1 to 65535, got {where.rpartition(':')[2]!r} in {text!r}"


def https_context(*, insecure: bool, authorities: pathlib.Path | None) -> ssl.SSLContext:
    """Return the TLS context of HTTPS around CredSSP."""
    context = ssl.create_default_context(cafile=str(authorities) if authorities is not None else None)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@dataclasses.dataclass(frozen=True, slots=True)
class Secret:
    """Where the secret of a logon comes from: one of these fields, or a prompt on the terminal if none is set."""

    password: str | None = dataclasses.field(default=None, repr=False)
    from_stdin: bool = False
    nt_hash: str | None = dataclasses.field(default=None, repr=False)
    ccache: str | None = None
    """The name of a ticket cache; `default` for the user's own."""
    keytab: str | None = None

    def credential(self, user: str | None, domain: str | None) -> Credential:
        r"""Read the secret and return the credential that holds it.

        Args:
            user: `USER`, `USER@SUFFIX` or `DOMAIN\USER`; None if the tickets or the keytab name the user.
            domain: The domain, if it was given apart from the user; None otherwise.

        Raises:
            UsageError: The options contradict each other, or the secret cannot be read.
        """
        given = (self.password, self.from_stdin or None, self.nt_hash, self.ccache, self.keytab)
        if len(given) - given.count(None) > 1:
            raise UsageError("expected one of -p, --password-stdin, --nt-hash, --ccache and --keytab, got several")
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
        if domain and "\\" in user:  # with `-d ''` it is sent as it stands
            raise UsageError(
                f"-u: expected DOMAIN\\USER with one backslash, got {domain}\\{user}: within quotes, and outside of a "
                "shell of Unix, a backslash is not doubled"
            )
        with values():
            if self.nt_hash is not None:
                return NTHash(nt_hash(self.nt_hash), user, domain)
            return Password(_unicode(self._password(user), "password"), user, domain)

    def _password(self, user: str) -> str:
        if self.password is not None:
            return self.password
        if self.from_stdin:
            return _first_line()
        if sys.stdin is None or not sys.stdin.isatty():  # it is None where the process was started without one
            raise UsageError(
                "cannot ask for the password, since there is no terminal: give -p, --password-stdin or --nt-hash"
            )
        return _asked_for(user)


def _principal(user: str | None, domain: str | None) -> str:
    """Return the Kerberos principal of an account; empty without a user, for whichever the tickets name."""
    if user is None:
        return ""
    name, realm = account(user, domain)
    if not realm:
        name, _, realm = name.rpartition("@") if "@" in name else (name, "", realm)
    name = escape_principal(name)
    return f"{name}@{upper(realm)}" if realm else name


def _asked_for(user: str) -> str:
    """Ask for a password on the terminal. Ctrl-C at the prompt raises `KeyboardInterrupt`, for the caller to handle."""
    try:
        return getpass(f"Password of {user}: ")
    except EOFError:
        raise UsageError("expected a password, got the end of the input") from None
    except KeyboardInterrupt:
        print(file=sys.stderr)  # noqa: T201 - so that the shell's prompt begins on a new line
        raise


def _first_line() -> str:
    if sys.stdin is None:
        raise UsageError("expected a password on the standard input, but the standard input is closed")
    source, line = unbuffered_input(), b""
    while not line.endswith(b"\n") and (byte := source.read(1)):
        line += byte
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    if not line:
        raise UsageError("expected a password on the standard input, got an empty line")
    return line.decode("utf-8", "surrogateescape")


def unbuffered_input() -> BinaryIO:
    """Return the standard input without its buffer; all who read it have to read it so.

    A thread that waits for input in the buffer holds the buffer's lock, and Python ends with a fatal error if it exits
    then.
    """
    buffer = sys.stdin.buffer
    source: BinaryIO = getattr(buffer, "raw", buffer)
    return source


def nt_hash(text: str) -> bytes:
    """Read an NT hash: 32 hex digits."""
    if not _NT_HASH.fullmatch(text):
        raise UsageError("expected an nt hash of 32 hex digits, got something else")
    return bytes.fromhex(text)


def _unicode(text: str, what: str) -> str:
    """Return `text` unless it came from bytes that are not UTF-8: Python turns such bytes into lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"expected a {what} in utf-8, got other bytes") from None
    return text


def failure_limit(text: str) -> FailureLimit | None:
    """Read `N/MINUTES`; return None for `0`, which means no limit."""
    if text == "0":
        return None
    count, _, minutes = text.partition("/")
    try:
        return FailureLimit(int(count), float(minutes) * 60)
    except ValueError:
        raise UsageError(
            f"--max-failures: expected N/MINUTES, such as 10/10, with at most 1440 minutes, or 0, got {text!r}"
        ) from None


def networks(option: str, texts: Iterable[str]) -> list[str]:
    """Check that each text is an IP address or a network, and return them all."""
    found = [*texts]
    for text in found:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise UsageError(f"{option}: expected an address or a network such as 10.0.0.0/8: {error}") from None
    return found


def _check_readable(option: str, name: str) -> None:
    """Check that the file of a ticket cache or keytab can be read.

    A name that is no file (`KEYRING:`, `KCM:`, `default`) is not checked here: libkrb5 finds it later.

    Raises:
        UsageError: The file cannot be read.
    """
    kind, colon, rest = name.partition(":")
    if name == "default" or (colon and kind != "FILE"):
        return
    expect_readable(option, pathlib.Path(rest if colon else name))


@contextlib.contextmanager
def values() -> Iterator[None]:
    """Turn a `ValueError` of the block into a `UsageError`, for values that came from the command line."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from None


def number(option: str, value: float, lowest: float, highest: float | None = None) -> None:
    """Raise `UsageError`, which names `option`, unless `value` is in the range."""
    bound = math.inf if highest is None else highest
    if not (lowest <= value <= bound and math.isfinite(value)):
        wanted = f"{lowest:g} or more" if highest is None else f"from {lowest:g} to {highest:g}"
        raise UsageError(f"{option}: expected a number {wanted}, got {value:g}")


def seconds(option: str, value: float) -> float:
    """Return `value` if it is a time limit that ends; otherwise raise `UsageError`, which names `option`."""
    with values():
        expect_seconds(option, value)
    return value
