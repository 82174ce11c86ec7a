"""Caches of tickets in memory, by python-krb5: it fetches tickets from a KDC, or copies them out of a user's cache.

It also tells when tickets end. Everything here may block, so it is called in a thread. Importing this module loads
libkrb5, so that waits for the first step of a context, as `library` explains.
"""

import dataclasses
import datetime as dt
import weakref
from collections.abc import Iterable, Iterator
from typing import Final, Self

from acredssp.credentials import Keytab, Password, TicketCache, TicketInfo
from acredssp.errors import CredSSPError, PolicyError
from acredssp.mechanisms.kerberos.errors import Phase, translate
from acredssp.names import escape_principal, upper
from acredssp.status import SecurityStatus
from acredssp.wire.ticket import ticket_enctype

try:
    import gssapi  # noqa: F401 - both are needed, or neither is used
    import krb5
except ImportError:  # this is Windows, or else pyspnego will report the missing library
    HAS_GSSAPI = False
else:
    HAS_GSSAPI = True

__all__ = [
    "HAS_GSSAPI",
    "HeldTickets",
    "MemoryCache",
    "end_of_tickets",
    "keytab_name",
    "keytab_realms",
    "list_tickets",
    "now",
    "principal_of",
]

_SETTINGS: Final = b"X-CACHECONF:"
"""The realm of what is no ticket in a cache, but a setting of the library's."""
_RENEW_BEFORE: Final = 300
"""A ticket in memory is replaced this many seconds before its end: the five minutes that clocks may differ by."""


class MemoryCache:
    """A ticket cache in memory, whose name nobody else knows. It is destroyed with this object.

    Threads share the cache by its name, since only one thread at a time may use a context of libkrb5.
    """

    def __init__(
        self, context: "krb5.Context", client: "krb5.Principal | None", tickets: Iterable["krb5.Creds"]
    ) -> None:
        cache = krb5.cc_new_unique(context, b"MEMORY")
        weakref.finalize(self, krb5.cc_destroy, context, cache)
        self.name = f"MEMORY:{(cache.name or b'').decode()}"
        self._until = 0
        if client is not None:
            krb5.cc_initialize(context, cache, client)
        for ticket in tickets:
            krb5.cc_store_cred(context, cache, ticket)
            self._until = ticket.times.endtime

    @classmethod
    def acquire(cls, credential: Password | Keytab, *, forwardable: bool = False) -> Self:
        """Make a cache with a first ticket, which a KDC is asked for."""
        context = krb5.init_context()
        ticket = _first_ticket(context, credential, forwardable=forwardable)
        return cls(context, ticket.client, [ticket])

    @classmethod
    def copy_of(cls, credential: TicketCache) -> Self:
        """Make a cache with copies of the ticket-granting tickets of another one."""
        context = krb5.init_context()
        cache = _open_cache(context, credential)
        client = krb5.cc_get_principal(context, cache)
        return cls(context, client, (ticket for ticket in cache if ticket.server.components[:1] == [b"krbtgt"]))

    @classmethod
    def empty(cls) -> Self:
        """Make a cache that somebody else puts tickets into, by its name."""
        return cls(krb5.init_context(), None, ())

    def __iter__(self) -> Iterator["krb5.Creds"]:
        """Iterate over the tickets."""
        context = krb5.init_context()
        return iter(krb5.cc_resolve(context, self.name.encode()))

    @property
    def fresh(self) -> bool:
        """Whether the first ticket is valid for a while, at least the five minutes that clocks may differ by."""
        return now() < self._until - _RENEW_BEFORE


@dataclasses.dataclass(frozen=True, slots=True)
class HeldTickets(TicketCache):
    """Tickets in a cache in memory, which lasts as long as they are held.

    Attributes:
        cache: The cache.
    """

    cache: MemoryCache | None = dataclasses.field(default=None, compare=False, repr=False)


def now() -> int:
    """Return the present time in seconds since 1970."""
    return int(dt.datetime.now(dt.UTC).timestamp())


def end_of_tickets(credential: TicketCache) -> int | None:
    """Return when the ticket-granting ticket of a cache ends, in seconds since 1970; None where there is none.

    No KDC is asked. The result is None as well for a cache that cannot be read: the logon fails with the reason.
    """
    if not HAS_GSSAPI:
        return None
    try:
        context = krb5.init_context()
        cache = _open_cache(context, credential)
        realm = krb5.cc_get_principal(context, cache).realm
        ends = [ticket.times.endtime for ticket in cache if ticket.server.components == [b"krbtgt", realm]]
    except Exception:  # noqa: BLE001 - the logon reports the reason, whatever it is
        return None
    return max(ends, default=None)


def list_tickets(cache: "TicketCache | MemoryCache") -> tuple[TicketInfo, ...]:
    """Return what is known of the tickets in a cache; none for one that cannot be read. No KDC is asked."""
    if not HAS_GSSAPI:
        return ()
    try:
        context = krb5.init_context()
        opened = _open_cache(context, cache) if isinstance(cache, TicketCache) else cache
        return tuple(_info(context, each) for each in opened if each.server.realm != _SETTINGS)
    except Exception:  # noqa: BLE001 - the logon reports the reason, whatever it is
        return ()


def _info(context: "krb5.Context", ticket: "krb5.Creds") -> TicketInfo:
    try:
        sealed_by = _enctype(ticket_enctype(bytes(ticket.ticket)))
    except CredSSPError:
        sealed_by = ""
    return TicketInfo(
        client=_text(context, ticket.client),
        server=_text(context, ticket.server),
        session_enctype=_enctype(ticket.keyblock.enctype),
        ticket_enctype=sealed_by,
        ends=ticket.times.endtime,
        forwardable=krb5.TicketFlags.forwardable in ticket.ticket_flags,
    )


def _text(context: "krb5.Context", principal: "krb5.Principal") -> str:
    return str(krb5.unparse_name_flags(context, principal).decode("utf-8", "replace"))


def _enctype(number: int) -> str:
    return str(krb5.enctype_to_name(number))


def _open_cache(context: "krb5.Context", credential: TicketCache) -> "krb5.CCache":
    name = credential.name.encode("utf-8", "surrogateescape")
    return krb5.cc_resolve(context, name) if name else krb5.cc_default(context)


def _first_ticket(context: "krb5.Context", credential: Password | Keytab, *, forwardable: bool) -> "krb5.Creds":
    options = krb5.get_init_creds_opt_alloc(context)
    krb5.get_init_creds_opt_set_canonicalize(options, True)  # Active Directory may spell the name differently
    if forwardable:
        krb5.get_init_creds_opt_set_forwardable(options, True)
    if isinstance(credential, Password):
        principal = krb5.parse_name_flags(context, principal_of(credential).encode("utf-8", "surrogatepass"))
        password = credential.password.encode("utf-8", "surrogatepass")
        return krb5.get_init_creds_password(context, principal, options, password=password)
    keys = krb5.kt_resolve(context, keytab_name(credential)) if credential.name else krb5.kt_client_default(context)
    name = credential.principal or _first_principal(context, keys)
    principal = krb5.parse_name_flags(context, name.encode())
    krb5.kt_get_entry(context, keys, principal)  # a missing key would else be reported as failed preauthentication
    return krb5.get_init_creds_keytab(context, principal, options, keytab=keys)


def _first_principal(context: "krb5.Context", keys: "krb5.KeyTab") -> str:
    for entry in keys:  # an entry's principal lives as long as the entry
        return str(krb5.unparse_name_flags(context, entry.principal).decode())
    return ""


def keytab_realms(keytab: Keytab) -> frozenset[str]:
    """Return the realms of the keys in a keytab."""
    if not HAS_GSSAPI:
        raise PolicyError(
            "kerberos: windows does not tell the realms of its keys",
            security_status=SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION,
            hint="name the realms, for example by --allow-realm",
        )
    try:
        context = krb5.init_context()
        keys = krb5.kt_resolve(context, keytab_name(keytab)) if keytab.name else krb5.kt_default(context)
        return frozenset(entry.principal.realm.decode("utf-8", "backslashreplace") for entry in keys)
    except Exception as error:
        raise translate(error, Phase.ACCEPT) from error


def keytab_name(keytab: Keytab) -> bytes:
    """Return the name of a keytab in the form that libkrb5 takes."""
    return keytab.name.encode("utf-8", "surrogateescape")


def principal_of(credential: Password) -> str:
    """Return the principal of an account. A realm is in upper case, however the domain is written."""
    user, realm = credential.user, credential.domain
    if not realm and "@" in user:
        user, _, realm = user.rpartition("@")
    name = escape_principal(user)
    return f"{name}@{upper(realm)}" if realm else name
