"""A forwarded ticket of the user, sealed for a host: libkrb5's `krb5_fwd_tgt_creds`, which python-krb5 has not.

The one place that calls libkrb5 by `ctypes`, in the library that python-krb5 is linked with. All structures but two are
opaque there; `krb5_data` and `krb5_keyblock` are as krb5.h has them since it exists.

Everything here may block, and is called in a thread.
"""

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Final

import gssapi
import krb5

from acredssp.credentials import TicketCache
from acredssp.errors import CredSSPError
from acredssp.mechanisms.kerberos.context import Tickets
from acredssp.mechanisms.kerberos.errors import Phase, translate
from acredssp.mechanisms.kerberos.library import MECHANISM, MemoryCache
from acredssp.secret import SecretBytes

__all__ = ["forward"]

_Pointer = ctypes.c_void_p
_TIMESTAMPED: Final = 2
"""KRB5_AUTH_CONTEXT_RET_TIME: the time goes into the KRB-CRED, and no replay cache is asked for."""
_FORWARDABLE: Final = 1


def forward(tickets: Tickets, service: str, host: str) -> tuple[bytes, SecretBytes]:
    """Get a ticket for a host, and a forwarded ticket-granting ticket sealed with its key.

    Args:
        tickets: Whose.
        service: The service of the host, `HOST`.
        host: Its name.

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
    """A cache in memory of our own: the users' is left as it is."""
    if isinstance(tickets.credential, TicketCache):
        return MemoryCache.copy_of(tickets.credential)
    cache = tickets.cache
    if cache is None or not cache.fresh:
        tickets.cache = cache = MemoryCache.acquire(tickets.credential, forwardable=tickets.forwardable)
    return cache


def _fetch_ticket(cache: MemoryCache, service: str, host: str) -> "krb5.Creds":
    """Have GSS-API fetch the host's ticket into the cache, as for a logon there; the token is not sent."""
    mechanism = gssapi.OID.from_int_seq(MECHANISM)
    name = gssapi.Name(f"{service}@{host}", gssapi.NameType.hostbased_service)
    acquired = gssapi.raw.acquire_cred_from({b"ccache": cache.name.encode()}, mechs=[mechanism], usage="initiate")
    gssapi.SecurityContext(
        name=name,
        creds=gssapi.Credentials(base=acquired.creds, usage="initiate"),
        mech=mechanism,
        usage="initiate",
    ).step()
    # krb5.conf may have had the host's name looked up; which realm it is in the KDC may have said.
    wanted = str(name.canonicalize(mechanism)).rpartition("@")[0]
    for ticket in cache:
        if _name(ticket.server).rpartition("@")[0] == wanted:
            return ticket
    raise LookupError(f"no ticket of {wanted} in the cache")


def _name(principal: "krb5.Principal") -> str:
    return (principal.name or b"").decode()


# --- libkrb5 by hand ---


class _Data(ctypes.Structure):
    """krb5_data."""

    _fields_ = (("magic", ctypes.c_int32), ("length", ctypes.c_uint), ("data", _Pointer))


class _KeyBlock(ctypes.Structure):
    """krb5_keyblock."""

    _fields_ = (
        ("magic", ctypes.c_int32),
        ("enctype", ctypes.c_int32),
        ("length", ctypes.c_uint),
        ("contents", ctypes.c_char_p),
    )


class _LibraryError(Exception):
    """What a function of libkrb5 returned."""

    def __init__(self, function: str, code: int) -> None:
        super().__init__(f"{function}: {code}")
        self.err_code = code


class _Library:
    """libkrb5, with one context."""

    def __init__(self) -> None:
        self._functions = ctypes.CDLL(krb5._ccache.__file__)  # noqa: SLF001 - finds the library it is linked with
        self.context = _Pointer()
        self.call("krb5_init_context", ctypes.byref(self.context))

    def call(self, function: str, *arguments: object) -> None:
        """Call a function that returns an error code."""
        code = self._functions[function](*arguments)
        if code:
            raise _LibraryError(function, code)

    def free(self, function: str, *arguments: object) -> None:
        """Call a function that frees something."""
        self._functions[function](*arguments)

    @contextlib.contextmanager
    def made(self, make: str, free: str, *arguments: object) -> Iterator[_Pointer]:
        """Have something made, and free it in the end."""
        thing = _Pointer()
        self.call(make, self.context, *arguments, ctypes.byref(thing))
        try:
            yield thing
        finally:
            self.free(free, self.context, thing)


def _forwarded(cache: MemoryCache, ticket: "krb5.Creds", host: str) -> SecretBytes:
    library = _Library()
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
        library.free("krb5_free_context", library.context)
