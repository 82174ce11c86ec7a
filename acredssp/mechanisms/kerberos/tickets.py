"""What Kerberos logs on with and takes tickets with: values that the contexts of a configuration share.

Nothing here loads a library of Kerberos before somebody asks for a ticket, a ticket's end, or the realms of a keytab.

Who calls: `choice`, both sides' contexts, `library`, `forwarding`.
"""

import importlib.util
from typing import TYPE_CHECKING

from acredssp.credentials import Keytab, Password, TicketCache
from acredssp.errors import PolicyError
from acredssp.status import SecurityStatus

if TYPE_CHECKING:
    from acredssp.mechanisms.kerberos.memory_cache import MemoryCache

__all__ = [
    "ServiceKeys",
    "Tickets",
    "installed",
    "keytab_realms",
    "parse_spn",
    "require_installed",
]


def installed() -> bool:
    """Whether there is a Kerberos to be had: the extra `kerberos`, or Windows."""
    find = importlib.util.find_spec
    return find("sspilib") is not None or (find("gssapi") is not None and find("krb5") is not None)


def require_installed() -> None:
    """See that there is a Kerberos.

    Raises:
        PolicyError: SEC_E_SECPKG_NOT_FOUND: there is none.
    """
    if not installed():
        raise PolicyError(
            "kerberos is not installed",
            security_status=SecurityStatus.SEC_E_SECPKG_NOT_FOUND,
            hint="pip install acredssp[kerberos], which compiles against libkrb5's headers",
        )


class Tickets:
    """What initiators log on with, shared by the contexts of a configuration: one ticket for a password serves all.

    Args:
        credential: A password (its domain is the realm; none for krb5.conf's default), a ticket cache or a keytab.
        forwardable: Whether the ticket for a password or of a keytab may be forwarded.
    """

    def __init__(self, credential: Password | TicketCache | Keytab, *, forwardable: bool = False) -> None:
        self.credential = credential
        self.forwardable = forwardable
        self.cache: MemoryCache | None = None
        """In memory, with the first ticket, once there is one. Two threads may both ask for a ticket: either is good,
        and neither waits for the other's KDC."""

    def in_memory(self) -> "MemoryCache":
        """Return the cache in memory, with a first ticket that is good for a while. May ask a KDC, so it may block.

        Raises:
            TypeError: The tickets lie in a cache of the caller's.
        """
        if isinstance(self.credential, TicketCache):
            raise TypeError("expected a password or a keytab, got a ticket cache")
        from acredssp.mechanisms.kerberos.memory_cache import MemoryCache  # noqa: PLC0415 - loads libkrb5

        cache = self.cache
        if cache is None or not cache.fresh:
            self.cache = cache = MemoryCache.acquire(self.credential, forwardable=self.forwardable)
        return cache

    def end(self) -> int | None:
        """Return when the tickets that there are end, in seconds since 1970; None for a password or a keytab.

        Reads the ticket cache, so it may block; asks no KDC.
        """
        if not isinstance(self.credential, TicketCache):
            return None
        from acredssp.mechanisms.kerberos.memory_cache import end_of_tickets  # noqa: PLC0415 - loads libkrb5

        return end_of_tickets(self.credential)


class ServiceKeys:
    """What acceptors take tickets with, shared by the contexts of a configuration: the keytab is looked up once.

    A key that is added to the file later is found all the same.

    Args:
        keytab: The service's.
    """

    def __init__(self, keytab: Keytab) -> None:
        self.keytab = keytab
        self.native: object = None
        """The library's credential, once there is one."""


def parse_spn(spn: str) -> tuple[str, str]:
    """Split `TERMSRV/host` into service and host."""
    service, _, host = spn.partition("/")
    if not service or not host or set(host) & set("/@"):
        raise PolicyError(
            f"kerberos: expected an spn SERVICE/host, got {spn or 'none'}",
            security_status=SecurityStatus.SEC_E_TARGET_UNKNOWN,
            hint="give the spn that the server is registered with, such as TERMSRV/its.name",
        )
    return service, host


def keytab_realms(keytab: Keytab) -> frozenset[str]:
    """Return the realms that a keytab has keys of. Reads the file.

    Raises:
        CredSSPError: It cannot be read, or Kerberos is not installed.
    """
    require_installed()
    from acredssp.mechanisms.kerberos import memory_cache  # noqa: PLC0415 - loads libkrb5

    return memory_cache.keytab_realms(keytab)
