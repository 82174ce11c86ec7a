"""The tickets that Kerberos clients log on with, and the keys of services. The contexts of a configuration share them.

This module loads a Kerberos library only when a ticket, a ticket's end, or the realms of a keytab are asked for.

Who calls: `choice`, both sides' contexts, `library`, `forwarding`.
"""

import importlib.util
from typing import TYPE_CHECKING

from acredssp.credentials import Keytab, Password, TicketCache, TicketInfo
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
    """Whether Kerberos can be used: the extra `kerberos` is installed, or this is Windows."""
    find = importlib.util.find_spec
    return find("sspilib") is not None or (find("gssapi") is not None and find("krb5") is not None)


def require_installed() -> None:
    """Check that Kerberos can be used.

    Raises:
        PolicyError: SEC_E_SECPKG_NOT_FOUND: it is not installed.
    """
    if not installed():
        raise PolicyError(
            "kerberos is not installed",
            security_status=SecurityStatus.SEC_E_SECPKG_NOT_FOUND,
            hint="pip install acredssp[kerberos]: it needs a compiler and libkrb5's headers",
        )


class Tickets:
    """The tickets that initiators log on with. The contexts of a configuration share one ticket for a password.

    Args:
        credential: A password, a ticket cache or a keytab. The password's domain is the realm; without a domain it is
            krb5.conf's default.
        forwardable: Whether to ask for a forwardable ticket, where the credential is a password or a keytab.
    """

    def __init__(self, credential: Password | TicketCache | Keytab, *, forwardable: bool = False) -> None:
        self.credential = credential
        self.forwardable = forwardable
        self.cache: MemoryCache | None = None
        """In memory, with the first ticket, once there is one. Two threads may both ask for a ticket: either is good,
        and neither waits for the other's KDC."""

    def in_memory(self) -> "MemoryCache":
        """Return the cache in memory, whose first ticket is valid for a while. The call may ask a KDC, so it may block.

        Raises:
            TypeError: The tickets are in the caller's own cache.
        """
        if isinstance(self.credential, TicketCache):
            raise TypeError("expected a password or a keytab, got a ticket cache")
        from acredssp.mechanisms.kerberos.memory_cache import MemoryCache  # noqa: PLC0415 - loads libkrb5

        cache = self.cache
        if cache is None or not cache.fresh:
            self.cache = cache = MemoryCache.acquire(self.credential, forwardable=self.forwardable)
        return cache

    def end(self) -> int | None:
        """Return when the tickets in the caller's cache end, in seconds since 1970; None for a password or a keytab.

        The call reads the ticket cache, so it may block. It asks no KDC.
        """
        if not isinstance(self.credential, TicketCache):
            return None
        from acredssp.mechanisms.kerberos.memory_cache import end_of_tickets  # noqa: PLC0415 - loads libkrb5

        return end_of_tickets(self.credential)

    def held(self) -> tuple[TicketInfo, ...]:
        """Return what is known of the tickets that are there. The call may read a file, so it may block."""
        cache = self.credential if isinstance(self.credential, TicketCache) else self.cache
        if cache is None:
            return ()
        from acredssp.mechanisms.kerberos.memory_cache import list_tickets  # noqa: PLC0415 - loads libkrb5

        return list_tickets(cache)


class ServiceKeys:
    """The keys that acceptors take tickets with. The contexts of a configuration share them, and open the keytab once.

    A key that is added to the file later is found nevertheless.

    Args:
        keytab: The service's keytab.
    """

    def __init__(self, keytab: Keytab) -> None:
        self.keytab = keytab
        self.native: object = None
        """The library's credential, once there is one."""
        self.own_tickets: MemoryCache | None = None
        """The account's own tickets, for constrained delegation; None until there are any."""


def parse_spn(spn: str) -> tuple[str, str]:
    """Split an SPN such as `TERMSRV/host` into service and host."""
    service, _, host = spn.partition("/")
    if not service or not host or set(host) & set("/@"):
        raise PolicyError(
            f"kerberos: expected an spn SERVICE/host, got {spn or 'none'}",
            security_status=SecurityStatus.SEC_E_TARGET_UNKNOWN,
            hint="give the spn that the server is registered with, such as TERMSRV/its.name",
        )
    return service, host


def keytab_realms(keytab: Keytab) -> frozenset[str]:
    """Return the realms of the keys in a keytab. The call reads the file.

    Raises:
        CredSSPError: The keytab cannot be read, or Kerberos is not installed.
    """
    require_installed()
    from acredssp.mechanisms.kerberos import memory_cache  # noqa: PLC0415 - loads libkrb5

    return memory_cache.keytab_realms(keytab)
