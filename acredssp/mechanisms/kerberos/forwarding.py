"""Gets a forwarded ticket of the user, sealed for a host, by libkrb5's `krb5_fwd_tgt_creds`.

python-krb5 lacks this function, so it is called by ctypes (`by_hand`). All structures of libkrb5 but two are opaque to
us. The two are `krb5_data` and `krb5_keyblock`, which krb5.h has never changed.

Everything here may block, so it is called in a thread.
"""

import ctypes
from typing import Final

import gssapi
import krb5

from acredssp.credentials import TicketCache
from acredssp.errors import CredSSPError
from acredssp.mechanisms.kerberos.by_hand import Library, Pointer
from acredssp.mechanisms.kerberos.errors import Phase, translate
from acredssp.mechanisms.kerberos.library import MECHANISM
from acredssp.mechanisms.kerberos.memory_cache import MemoryCache
from acredssp.mechanisms.kerberos.tickets import Tickets
from acredssp.secret import SecretBytes

__all__ = ["forward"]

_TIMESTAMPED: Final = 2
"""KRB5_AUTH_CONTEXT_RET_TIME puts the time into the KRB-CRED, and needs no replay cache."""
_FORWARDABLE: Final = 1


def forward(tickets: Tickets, service: str, host: str) -> tuple[bytes, SecretBytes]:
    """Get a ticket for a host, and a forwarded ticket-granting ticket sealed with its key.

    Args:
        tickets: The user's tickets.
        service: The service class of the host, such as `HOST`.
        host: The host's name.

    Returns:
        The host's Ticket and the KRB-CRED, both in DER.

    Raises:
        CredSSPError: The KDC does not know the host, or the ticket may not be forwarded.
    """
    try:
        cache = _working_cache(tickets)
        ticket = _fetch_ticket(cache, service, host)
        return bytes(ticket.ticket), _forwarded(cache, ticket, host)
    except CredSSPError:
        raise
    except Exception as error:
        raise translate(error, Phase.INITIATE) from error


def _working_cache(tickets: Tickets) -> MemoryCache:
    """A cache of our own in memory. The user's cache is not changed."""
    if isinstance(tickets.credential, TicketCache):
        return MemoryCache.copy_of(tickets.credential)
    return tickets.in_memory()


def _fetch_ticket(cache: MemoryCache, service: str, host: str) -> "krb5.Creds":
    """Make GSS-API fetch the host's ticket into the cache, as for a logon there. The token is not sent."""
    mechanism = gssapi.OID.from_int_seq(MECHANISM)
    name = gssapi.Name(f"{service}@{host}", gssapi.NameType.hostbased_service)
    acquired = gssapi.raw.acquire_cred_from({b"ccache": cache.name.encode()}, mechs=[mechanism], usage="initiate")
    gssapi.SecurityContext(
        name=name,
        creds=gssapi.Credentials(base=acquired.creds, usage="initiate"),
        mech=mechanism,
        usage="initiate",
    ).step()
    # krb5.conf may let the library look the host's name up, and the KDC may name another realm: compare the name alone.
    wanted = str(name.canonicalize(mechanism)).rpartition("@")[0]
    for ticket in cache:
        if _name(ticket.server).rpartition("@")[0] == wanted:
            return ticket
    raise LookupError(f"no ticket of {wanted} in the cache")


def _name(principal: "krb5.Principal") -> str:
    return (principal.name or b"").decode()


# --- libkrb5 by ctypes ---


class _Data(ctypes.Structure):
    """krb5_data."""

    _fields_ = (("magic", ctypes.c_int32), ("length", ctypes.c_uint), ("data", Pointer))


class _KeyBlock(ctypes.Structure):
    """krb5_keyblock."""

    _fields_ = (
        ("magic", ctypes.c_int32),
        ("enctype", ctypes.c_int32),
        ("length", ctypes.c_uint),
        ("contents", ctypes.c_char_p),
    )


def _forwarded(cache: MemoryCache, ticket: "krb5.Creds", host: str) -> SecretBytes:
    library = Library()
    client, server = (_name(principal).encode() for principal in (ticket.client, ticket.server))
    key = ticket.keyblock
    block = _KeyBlock(0, key.enctype, len(key.data), key.data)
    sealed = _Data()
    try:
        with (
            library.made("krb5_cc_resolve", "krb5_cc_close", cache.name.encode()) as native_cache,
            library.made("krb5_parse_name", "krb5_free_principal", client) as native_client,
            library.made("krb5_parse_name", "krb5_free_principal", server) as native_server,
            library.made("krb5_auth_con_init", "krb5_auth_con_free") as authentication,
        ):
            context = library.context
            library.call("krb5_auth_con_setflags", context, authentication, _TIMESTAMPED)
            library.call("krb5_auth_con_setuseruserkey", context, authentication, ctypes.byref(block))
            library.call(
                "krb5_fwd_tgt_creds", context, authentication, host.encode(), native_client, native_server,
                native_cache, _FORWARDABLE, ctypes.byref(sealed),
            )  # fmt: skip
            return SecretBytes(ctypes.string_at(sealed.data, sealed.length))
    finally:
        if sealed.data:
            library.free("krb5_free_data_contents", library.context, ctypes.byref(sealed))
        library.close()
