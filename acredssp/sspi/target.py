"""The target name of InitializeSecurityContext: a service principal name, and the host in it."""

import dataclasses
import functools
from typing import Final

from acredssp.sspi.arguments import refusal
from acredssp.status import SecurityStatus

__all__ = ["Target"]

_MAX_NAME: Final = 1024
"""Characters; a service principal name in a directory has at most 1,024."""


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Whom a client wants to reach."""

    spn: str
    """As the caller gave it, `TERMSRV/host`; empty for nobody in particular."""
    host: str
    """The host in it, which the server's certificate must name; empty with the name."""

    @staticmethod
    @functools.lru_cache(maxsize=256)  # a client has few targets and many connections; some 10 us each time else
    def parse(name: str | None) -> "Target":
        """Read `pszTargetName`: `host`, or `SERVICE/host[:port][/name]`.

        Raises:
            LocalProtocolError: SEC_E_TARGET_UNKNOWN: no host can be found in it.
        """
        if not name:
            return Target("", "")
        service, slash, rest = name.partition("/")
        host = _without_port(rest.partition("/")[0] if slash else service)
        if not _is_host(host) or len(name) > _MAX_NAME or not name.isprintable() or " " in name:
            raise refusal("pszTargetName names no host: expected SERVICE/host", SecurityStatus.SEC_E_TARGET_UNKNOWN)
        return Target(name, host)


def _is_host(host: str) -> bool:
    """Whether TLS can ask for it (SNI): `ssl` raises for an empty label, and for one of more than 63 bytes."""
    try:
        return bool(host.encode("idna"))
    except UnicodeError:
        return False


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and ":" not in name else host
