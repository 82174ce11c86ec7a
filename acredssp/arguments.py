"""What a caller gives is looked at where it is given: an argument that cannot be is refused by its name.

No text quotes a value of a wrong type: it may be a secret.
"""

import functools
from typing import Final

__all__ = ["expect", "expect_callable", "expect_host_name", "expect_service_name"]

_MAX_HOST_NAME: Final = 255
"""Bytes of a name in TLS (OpenSSL's bound, and that of DNS)."""
_MAX_SERVICE_NAME: Final = 1024
"""Characters; a service principal name in a directory has at most as many."""


def expect(name: str, value: object, *kinds: type | None) -> None:
    """See that the argument `name` is of one of the types.

    Args:
        name: The argument's name, for the text.
        value: What was given.
        *kinds: The types; None for None itself.

    Raises:
        TypeError: It is of none of them.
    """
    for kind in kinds:
        if value is None if kind is None else isinstance(value, kind):
            return
    raise TypeError(f"{name}: expected {' or '.join([_name(kind) for kind in kinds])}, got {type(value).__name__}")


def expect_callable(name: str, value: object) -> None:
    """See that the argument `name` is a function, or None.

    Raises:
        TypeError: It is neither.
    """
    if value is not None and not callable(value):
        raise TypeError(f"{name}: expected a function or None, got {type(value).__name__}")


def expect_host_name(name: str, value: str) -> None:
    """See that the argument `name` is the name of a host, international or not, or an IP address.

    Raises:
        TypeError: It is no text.
        ValueError: Neither DNS nor TLS can ask for it.
    """
    expect(name, value, str)
    if not _is_host_name(value):
        raise ValueError(f"{name}: expected the name of a host or an ip address, got {_short(value)}")


def expect_service_name(name: str, value: str) -> None:
    """See that the argument `name` is a service principal name, or empty.

    Raises:
        TypeError: It is no text.
        ValueError: No directory can have it.
    """
    expect(name, value, str)
    if len(value) > _MAX_SERVICE_NAME or not value.isprintable():
        expected = f"a service principal name of at most {_MAX_SERVICE_NAME} printable characters, as TERMSRV/host"
        raise ValueError(f"{name}: expected {expected}, got {_short(value)}")


@functools.lru_cache(maxsize=256)  # a client has few servers and many connections; 2 us each time else
def _is_host_name(value: str) -> bool:
    try:
        size = len(value.encode("idna"))
    except UnicodeError:
        return False
    return 0 < size <= _MAX_HOST_NAME and value.isprintable() and " " not in value


def _name(kind: type | None) -> str:
    return "None" if kind is None or kind is type(None) else kind.__name__


def _short(value: str) -> str:
    return ascii(value) if len(value) <= 60 else f"{value[:60]!a} and {len(value) - 60} characters more"
