"""What a caller gives is looked at where it is given: an argument that cannot be is refused by its name.

No text quotes a value of a wrong type: it may be a secret.
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
]

_MAX_HOST_NAME: Final = 255
"""Bytes of a name in TLS (OpenSSL's bound, and that of DNS)."""
_MAX_SERVICE_NAME: Final = 1024
"""Characters; a service principal name in a directory has at most as many."""
_MAX_SECONDS: Final = 1_000_000_000
"""Some 32 years: every loop can count so far."""
_MAX_PORT: Final = 65535
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""What a resolver looks for. Underscores are in no standard and in many names; a hyphen does not come first."""
_SERVICE_CLASS: Final = re.compile(r"[^\s/](?:[^/]*[^\s/])?")
"""Spaces may be within it: Hyper-V's is `Microsoft Virtual Console Service`."""


def expect(name: str, value: object, *kinds: type | None) -> None:
    """See that the argument `name` is of one of the types. True and False are no numbers.

    Args:
        name: The argument's name, for the text.
        value: What was given.
        *kinds: The types; None for None itself.

    Raises:
        TypeError: It is of none of them.
    """
    for kind in kinds:
        if value is None if kind is None else isinstance(value, kind):
            if isinstance(value, bool) and bool not in kinds:
                break
            return
    raise TypeError(f"{name}: expected {' or '.join([_name(kind) for kind in kinds])}, got {type(value).__name__}")


def expect_callable(name: str, value: object) -> None:
    """See that the argument `name` is a function, or None.

    Raises:
        TypeError: It is neither.
    """
    if value is not None and not callable(value):
        raise TypeError(f"{name}: expected a function or None, got {type(value).__name__}")


def expect_count(name: str, value: int, least: int = 1) -> None:
    """See that the argument `name` is a whole number from `least` on.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is below `least`.
    """
    expect(name, value, int)
    if value < least:
        raise ValueError(f"{name}: expected {least} or more, got {value}")


def expect_seconds(name: str, value: float) -> None:
    """See that the argument `name` is a time in seconds after which something ends.

    Raises:
        TypeError: It is no number.
        ValueError: It has passed already, or never comes.
    """
    expect(name, value, float, int)
    if not 0 < value <= _MAX_SECONDS:
        raise ValueError(f"{name}: expected seconds above 0 and at most {_MAX_SECONDS:,}, got {value:g}")


def expect_host_name(name: str, value: str) -> None:
    """See that the argument `name` is the name of a host, international or not, or an IP address.

    Raises:
        TypeError: It is no text.
        ValueError: Neither DNS nor TLS can ask for it.
    """
    if not isinstance(value, str):
        expect(name, value, str)
    if not _is_host_name(value):
        raise ValueError(f"{name}: expected the name of a host or an ip address, got {_short(value)}")


def expect_service_name(name: str, value: str) -> None:
    """See that the argument `name` is a service principal name: SERVICE/host, SERVICE/host:port or SERVICE/host/name.

    Raises:
        TypeError: It is no text.
        ValueError: No directory can have it.
    """
    expect(name, value, str)
    if not _is_service_name(value):
        expected = f"SERVICE/host, SERVICE/host:port or SERVICE/host/name, at most {_MAX_SERVICE_NAME} characters"
        raise ValueError(f"{name}: expected {expected}, got {_short(value)}")


def expect_target_name(name: str, value: str) -> None:
    """See that the argument `name` is a service principal name, a host alone with or without a port, or empty.

    That is what SSPI's `pszTargetName` may be; empty is nobody in particular.

    Raises:
        TypeError: It is no text.
        ValueError: It is none of them.
    """
    if not isinstance(value, str):
        expect(name, value, str)
    if not _is_target_name(value):
        expect_service_name(name, value)


@functools.lru_cache(maxsize=256)  # a client has few servers and many connections; 2 us each time else
def _is_host_name(value: str) -> bool:
    try:
        encoded = value.encode("idna")
    except UnicodeError:
        return False
    if ":" in value:
        return _is_ipv6_address(value)
    return 0 < len(encoded) <= _MAX_HOST_NAME and _HOST_NAME.fullmatch(encoded.decode("ascii")) is not None


def _is_ipv6_address(value: str) -> bool:
    """Whether it is one, with or without a zone (`fe80::1%eth0`)."""
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
    """Whether it is host:port, or an IPv6 address in brackets, with or without a port."""
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
    return ascii(value) if len(value) <= 60 else f"{value[:60]!a} and {len(value) - 60} characters more"
