"""The target name of InitializeSecurityContext: a service principal name, and the host in it."""

import dataclasses
import functools

from acredssp.arguments import expect_target_name
from acredssp.sspi.arguments import refusal
from acredssp.status import SecurityStatus

__all__ = ["Target"]


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The target of a client."""

    spn: str
    """The target name as the caller gave it, `TERMSRV/host`; empty if no target was given."""
    host: str
    """The host in the target name, which the server's certificate must name; empty if no target was given."""

    @staticmethod
    @functools.lru_cache(maxsize=256)  # a client has few targets and many connections; this saves some 10 us each time
    def parse(name: str | None) -> "Target":
        """Read `pszTargetName`: `host[:port]`, or `SERVICE/host[:port][/name]`.

        Raises:
            LocalProtocolError: SEC_E_TARGET_UNKNOWN: the name contains no host.
        """
        if not name:
            return Target("", "")
        try:
            expect_target_name("pszTargetName", name)
        except ValueError as error:
            raise refusal(str(error), SecurityStatus.SEC_E_TARGET_UNKNOWN) from None
        service, slash, rest = name.partition("/")
        return Target(name, _without_port(rest.partition("/")[0] if slash else service))


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and ":" not in name else host
