"""Tickets by python-krb5: fetched from a KDC into a cache in memory, copied out of a user's cache, and when they end.

Everything here may block, so it is called in a thread. Importing this module loads libkrb5; see `library`, which says
why that waits for the first step.
"""

import datetime as dt
import weakref
from collections.abc import Iterable, Iterator
from typing import Final, Self

from acredssp.credentials import Keytab, Password, TicketCache
from acredssp.errors import PolicyError
from acredssp.mechanisms.kerberos.errors import Phase, translate
from acredssp.names import escape_principal, upper
from acredssp.status import SecurityStatus

try:
    import gssapi  # noqa: F401 - both are needed, or neither is used
    import krb5
except ImportError:  # Windows; elsewhere pyspnego says what is missing
    HAS_GSSAPI = False
else:
    HAS_GSSAPI = True

__all__ = ["HAS_GSSAPI", "MemoryCache", "end_of_tickets", "keytab_name", "keytab_realms", "now", "principal_of"]

_RENEW_BEFORE: Final = 300
"""Seconds before its end that a ticket in memory is replaced: the five minutes that clocks may differ by."""


class MemoryCache:
    """A ticket cache that nobody else knows the name of, with some tickets in it; gone when it is forgotten.

    Threads share it by its name: a context of libkrb5 is for one of them at a time.
    """

    def __init__(self, context: "krb5.Context", client: "krb5.Principal", tickets: Iterable["krb5.Creds"]) -> None:
        cache = krb5.cc_new_unique(context, b"MEMORY")
        weakref.finalize(self, krb5.cc_destroy, context, cache)
        self.name = f"MEMORY:{(cache.name or b'').decode()}"
        self._until = 0
        krb5.cc_initialize(context, cache, client)
        for ticket in tickets:
            krb5.cc_store_cred(context, cache, ticket)
            self._until = ticket.times.endtime

    @classmethod
    def acquire(cls, credential: Password | Keytab, *, forwardable: bool = False) -> Self:
        """Ask a KDC for the first ticket."""
        context = krb5.init_context()
        ticket = _first_ticket(context, credential, forwardable=forwardable)
        return cls(context, ticket.client, [ticket])

    @classmethod
    def copy_of(cls, credential: TicketCache) -> Self:
        """Copy the ticket-granting tickets of a cache."""
        context = krb5.init_context()
        cache = _open_cache(context, credential)
        client = krb5.cc_get_principal(context, cache)
        return cls(context, client, (ticket for ticket in cache if ticket.server.components[:1] == [b"krbtgt"]))

    def __iter__(self) -> Iterator["krb5.Creds"]:
        """Give the tickets."""
        context = krb5.init_context()
        return iter(krb5.cc_resolve(context, self.name.encode()))

    @property
    def fresh(self) -> bool:
        """Whether the first ticket is good for a while."""
        return now() < self._until - _RENEW_BEFORE


def now() -> int:
    """Return the time in seconds since 1970."""
    return int(dt.datetime.now(dt.UTC).timestamp())


def end_of_tickets(credential: TicketCache) -> int | None:
    """Return when the ticket-granting ticket of a cache ends, in seconds since 1970; None where there is none.

    No KDC is asked. A cache that cannot be read fails a logon, which says why; it is not looked into here.
    """
    if not HAS_GSSAPI:
        return None
    try:
        context = krb5.init_context()
        cache = _open_cache(context, credential)
        realm = krb5.cc_get_principal(context, cache).realm
        ends = [ticket.times.endtime for ticket in cache if ticket.server.components == [b"krbtgt", realm]]
    except Exception:  # noqa: BLE001 - of whatever kind: see above
        return None
    return max(ends, default=None)


def _open_cache(context: "krb5.Context", credential: TicketCache) -> "krb5.CCache":
    name = credential.name.encode("utf-8", "surrogateescape")
    return krb5.cc_resolve(context, name) if name else krb5.cc_default(context)


def _first_ticket(context: "krb5.Context", credential: Password | Keytab, *, forwardable: bool) -> "krb5.Creds":
    options = krb5.get_init_creds_opt_alloc(context)
    krb5.get_init_creds_opt_set_canonicalize(options, True)  # an AD realm spells a name its own way
    if forwardable:
        krb5.get_init_creds_opt_set_forwardable(options, True)
    if isinstance(credential, Password):
        principal = krb5.parse_name_flags(context, principal_of(credential).encode("utf-8", "surrogatepass"))
        password = credential.password.encode("utf-8", "surrogatepass")
        return krb5.get_init_creds_password(context, principal, options, password=password)
    keys = krb5.kt_resolve(context, keytab_name(credential)) if credential.name else krb5.kt_client_default(context)
    name = credential.principal or _first_principal(context, keys)
    principal = krb5.parse_name_flags(context, name.encode())
    krb5.kt_get_entry(context, keys, principal)  # without the key, preauthentication would be said to have failed
    return krb5.get_init_creds_keytab(context, principal, options, keytab=keys)


def _first_principal(context: "krb5.Context", keys: "krb5.KeyTab") -> str:
    for entry in keys:  # an entry's principal lives as long as the entry
        return str(krb5.unparse_name_flags(context, entry.principal).decode())
    return ""


def keytab_realms(keytab: Keytab) -> frozenset[str]:
    """Return the realms that a keytab has keys of."""
    if not HAS_GSSAPI:
        raise PolicyError(
            "kerberos: windows does not tell the realms of its keys",
            security_status=SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION,
            hint="name them, as by --allow-realm",
        )
    try:
        context = krb5.init_context()
        keys = krb5.kt_resolve(context, keytab_name(keytab)) if keytab.name else krb5.kt_default(context)
        return frozenset(entry.principal.realm.decode("utf-8", "backslashreplace") for entry in keys)
    except Exception as error:
        raise translate(error, Phase.ACCEPT) from error


def keytab_name(keytab: Keytab) -> bytes:
    """Return the name of a keytab as libkrb5 takes it."""
    return keytab.name.encode("utf-8", "surrogateescape")


def principal_of(credential: Password) -> str:
    """Return the principal of an account: realms are in upper case, whatever case a domain is written in."""
    user, realm = credential.user, credential.domain
    if not realm and "@" in user:
        user, _, realm = user.rpartition("@")
    name = escape_principal(user)
    return f"{name}@{upper(realm)}" if realm else name
