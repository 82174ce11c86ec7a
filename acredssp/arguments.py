"""Checks of the arguments that a caller gives. A wrong argument is refused at once, in a text with its name.

No text quotes a value of a wrong type, since the value may be a secret.
"""

import contextlib
import functools
import ipaddress
import re
from typing import Final

__all__ = [
    "expect",
    "expect_callable",
    "expect_count",
    "expect_host_name",
    "expect_seconds",
    "expect_service_name",
    "expect_target_name",
    "is_ip_address",
]

_MAX_HOST_NAME: Final = 255
"""The most bytes of a host name in DNS, and in TLS by OpenSSL's bound."""
_MAX_SERVICE_NAME: Final = 1024
"""The most characters of a service principal name in a directory."""
_MAX_SECONDS: Final = 1_000_000_000
"""Some 32 years, which every event loop can count."""
_MAX_PORT: Final = 65535
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""A name that a resolver looks up. No standard allows underscores, but many names have them; no name begins with a
hyphen."""
_SERVICE_CLASS: Final = re.compile(r"[^\s/](?:[^/]*[^\s/])?")
"""A service class, which may hold spaces: Hyper-V's is `Microsoft Virtual Console Service`."""


def expect(name: str, value: object, *kinds: type | None) -> None:
    """Check that the argument `name` is of one of the types. True and False do not count as numbers.

    Args:
        name: The argument's name, for the error text.
        value: The argument's value.
        *kinds: The types; None stands for the value None.

    Raises:
        TypeError: The value is of none of the types.
    """
    if type(value) in kinds:  # nearly every value is, and every configuration and connection has some
        return
    for kind in kinds:
        if value is None if kind is None else isinstance(value, kind):
            if isinstance(value, bool) and bool not in kinds:
                break
            return
    raise TypeError(f"{name}: expected {' or '.join([_name(kind) for kind in kinds])}, got {type(value).__name__}")


def expect_callable(name: str, value: object) -> None:
    """Check that the argument `name` is a function, or None.

    Raises:
        TypeError: The value is neither.
    """
    if value is not None and not callable(value):
        raise TypeError(f"{name}: expected a function or None, got {type(value).__name__}")


def expect_count(name: str, value: int, least: int = 1) -> None:
    """Check that the argument `name` is a whole number of at least `least`.

    Raises:
        TypeError: The value is not a whole number.
        ValueError: The value is below `least`.
    """
    expect(name, value, int)
    if value < least:
        raise ValueError(f"{name}: expected {least} or more, got {value}")


def expect_seconds(name: str, value: float) -> None:
    """Check that the argument `name` is a time limit in seconds, above 0 and at most `_MAX_SECONDS`.

    Raises:
        TypeError: The value is not a number.
        ValueError: The value is 0 or less, too large, or not finite.
    """
    expect(name, value, float, int)
    if not 0 < value <= _MAX_SECONDS:
        raise ValueError(f"{name}: expected seconds above 0 and at most {_MAX_SECONDS:,}, got {value:g}")


def expect_host_name(name: str, value: str) -> None:
    """Check that the argument `name` is the name of a host, international or not, or an IP address.

    Raises:
        TypeError: The value is not a text.
        ValueError: The value cannot be a name in DNS and TLS, nor an address.
    """
    if not isinstance(value, str):
        expect(name, value, str)
    if not _is_host_name(value):
        raise ValueError(f"{name}: expected the name of a host or an ip address, got {_short(value)}")


def expect_service_name(name: str, value: str) -> None:
    """Check that the argument `name` is a service principal name.

    Its form is SERVICE/host, SERVICE/host:port or SERVICE/host/name.

    Raises:
        TypeError: The value is not a text.
        ValueError: The value is of no such form, or too long.
    """
    expect(name, value, str)
    if not _is_service_name(value):
        expected = f"SERVICE/host, SERVICE/host:port or SERVICE/host/name, at most {_MAX_SERVICE_NAME} characters"
        raise ValueError(f"{name}: expected {expected}, got {_short(value)}")


def expect_target_name(name: str, value: str) -> None:
    """Check that the argument `name` is a service principal name, a host with or without a port, or empty.

    SSPI's `pszTargetName` has the same forms; an empty one names no server.

    Raises:
        TypeError: The value is not a text.
        ValueError: The value has none of these forms.
    """
    if not isinstance(value, str):
        expect(name, value, str)
    if not _is_target_name(value):
        expect_service_name(name, value)


@functools.lru_cache(maxsize=256)  # saves 2 us a connection: a client has few servers and many connections
def _is_host_name(value: str) -> bool:
    try:
        encoded = value.encode("idna")
    except UnicodeError:
        return False
    if ":" in value:
        return _is_ipv6_address(value)
    return 0 < len(encoded) <= _MAX_HOST_NAME and _HOST_NAME.fullmatch(encoded.decode("ascii")) is not None


def _is_ipv6_address(value: str) -> bool:
    """Whether the text is an IPv6 address, with or without a zone (`fe80::1%eth0`)."""
    with contextlib.suppress(ValueError):
        ipaddress.IPv6Address(value)
        return True
    return False


@functools.lru_cache(maxsize=256)
def _is_target_name(value: str) -> bool:
    return not value or _is_host_name(value) or _is_host_with_port(value) or _is_service_name(value)


@functools.lru_cache(maxsize=256)
def _is_service_name(value: str) -> bool:
    service, slash, rest = value.partition("/")
    host, second_slash, instance = rest.partition("/")
    if len(value) > _MAX_SERVICE_NAME or not value.isprintable() or not slash or not _SERVICE_CLASS.fullmatch(service):
        return False
    if second_slash and (not instance or "/" in instance):
        return False
    return _is_host_name(host) or _is_host_with_port(host)


def _is_host_with_port(host: str) -> bool:
    """Whether the text is host:port, or an IPv6 address in brackets with or without a port."""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        return bool(bracket) and _is_ipv6_address(name) and (not rest or (rest[0] == ":" and _is_port(rest[1:])))
    name, _, port = host.partition(":")
    return _is_port(port) and _is_host_name(name)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text[:6]) <= _MAX_PORT


def _name(kind: type | None) -> str:
    return "None" if kind is None or kind is type(None) else kind.__name__


def _short(value: str) -> str:
    return ascii(value) if len(value) <= 60 else f"{value[:60]!a} and {len(value) - 60} more characters"


@functools.lru_cache(maxsize=256)  # a client has few servers and many connections
def is_ip_address(host: str) -> bool:
    """Return whether a host is an IP address, without brackets, and no name."""
    if ":" not in host and not host.replace(".", "").isdigit():  # nearly every host is a name
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
