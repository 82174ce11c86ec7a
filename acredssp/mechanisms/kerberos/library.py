"""The door to pyspnego, and to python-gssapi and python-krb5 below it: credentials, contexts, and what fails in them.

Everything here but sealing and signing may block, so it is called in a thread. Importing this module takes a tenth of a
second and loads libkrb5, so `context` does it there too, with the first step that anybody asks for.

Credentials are the caller's alone. Tickets for a password or a keytab live in a cache in memory that goes with whoever
holds it (pyspnego's own stay until the process ends); no environment variable is set, no cache is replaced.
"""

import datetime as dt
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import spnego
from spnego.channel_bindings import GssChannelBindings

from acredssp.credentials import Keytab, Password, TicketCache
from acredssp.errors import PolicyError
from acredssp.mechanisms.kerberos.errors import Phase, translate
from acredssp.names import escape_principal, upper
from acredssp.status import SecurityStatus

try:
    import gssapi
    import krb5

    from acredssp.mechanisms.kerberos.by_hand import clock_skew
except ImportError:  # Windows; elsewhere pyspnego says what is missing
    _HAS_GSSAPI = False
else:
    _HAS_GSSAPI = True

if TYPE_CHECKING:
    from acredssp.mechanisms.kerberos.context import ServiceKeys, Tickets

__all__ = ["MECHANISM", "MemoryCache", "NativeContext", "end_of_tickets"]

_Credential: TypeAlias = spnego.CredentialCache | spnego.KerberosCCache | spnego.KerberosKeytab | spnego.Password

_REQUIRED: Final = spnego.ContextReq.mutual_auth | spnego.ContextReq.confidentiality | spnego.ContextReq.integrity
_WANTED: Final = _REQUIRED | spnego.ContextReq.replay_detect | spnego.ContextReq.sequence_detect
MECHANISM: Final = "1.2.840.113554.1.2.2"
"""Kerberos."""
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
        return _now() < self._until - _RENEW_BEFORE


def _now() -> int:
    return int(dt.datetime.now(dt.UTC).timestamp())


def end_of_tickets(credential: TicketCache) -> int | None:
    """Return when the ticket-granting ticket of a cache ends, in seconds since 1970; None where there is none.

    No KDC is asked. A cache that cannot be read fails a logon, which says why; it is not looked into here.
    """
    if not _HAS_GSSAPI:
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
        principal = krb5.parse_name_flags(context, _principal_of(credential).encode("utf-8", "surrogatepass"))
        password = credential.password.encode("utf-8", "surrogatepass")
        return krb5.get_init_creds_password(context, principal, options, password=password)
    keys = krb5.kt_resolve(context, _keytab_name(credential)) if credential.name else krb5.kt_client_default(context)
    name = credential.principal or _first_principal(context, keys)
    principal = krb5.parse_name_flags(context, name.encode())
    krb5.kt_get_entry(context, keys, principal)  # without the key, preauthentication would be said to have failed
    return krb5.get_init_creds_keytab(context, principal, options, keytab=keys)


def _first_principal(context: "krb5.Context", keys: "krb5.KeyTab") -> str:
    for entry in keys:  # an entry's principal lives as long as the entry
        return str(krb5.unparse_name_flags(context, entry.principal).decode())
    return ""


def _principal_of(credential: Password) -> str:
    """The principal of an account: realms are in upper case, whatever case a domain is written in."""
    user, realm = credential.user, credential.domain
    if not realm and "@" in user:
        user, _, realm = user.rpartition("@")
    name = escape_principal(user)
    return f"{name}@{upper(realm)}" if realm else name


def _principal_of_windows(name: str) -> str:
    r"""The principal of `DOMAIN\user`, as SSPI names a client."""
    domain, _, user = name.rpartition("\\")
    return f"{escape_principal(user)}@{domain}" if domain else escape_principal(user)


def keytab_realms(keytab: Keytab) -> frozenset[str]:
    """Return the realms that a keytab has keys of."""
    if not _HAS_GSSAPI:
        raise PolicyError(
            "kerberos: windows does not tell the realms of its keys",
            security_status=SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION,
            hint="name them, as by --allow-realm",
        )
    try:
        context = krb5.init_context()
        keys = krb5.kt_resolve(context, _keytab_name(keytab)) if keytab.name else krb5.kt_default(context)
        return frozenset(entry.principal.realm.decode("utf-8", "backslashreplace") for entry in keys)
    except Exception as error:
        raise translate(error, Phase.ACCEPT) from error


def _keytab_name(keytab: Keytab) -> bytes:
    return keytab.name.encode("utf-8", "surrogateescape")


def _log_on(tickets: "Tickets") -> tuple[_Credential, MemoryCache | None]:
    """What to log on with, and the cache that must be kept as long as it is used."""
    credential, cache = tickets.credential, tickets.cache
    if isinstance(credential, TicketCache):
        return _ticket_cache(credential), None
    if not _HAS_GSSAPI:
        return _of_windows(credential), None
    if cache is None or not cache.fresh:
        tickets.cache = cache = MemoryCache.acquire(credential, forwardable=tickets.forwardable)
    return spnego.KerberosCCache(cache.name), cache


def _ticket_cache(credential: TicketCache) -> _Credential:
    principal = credential.principal or None
    return spnego.KerberosCCache(credential.name, principal) if credential.name else spnego.CredentialCache(principal)


def _of_windows(credential: Password | Keytab) -> _Credential:
    if isinstance(credential, Keytab):
        return spnego.KerberosKeytab(credential.name, credential.principal or None)
    return spnego.Password(_principal_of(credential), credential.password)


def _service_keys(keytab: Keytab) -> "gssapi.Credentials":
    """The keys that an acceptor takes tickets with, from this keytab and no other."""
    store: dict[str | bytes, str | bytes] = {b"keytab": _keytab_name(keytab)} if keytab.name else {}
    name = gssapi.Name(keytab.principal, gssapi.NameType.kerberos_principal) if keytab.principal else None
    mechanisms = [gssapi.OID.from_int_seq(MECHANISM)]
    acquired = gssapi.raw.acquire_cred_from(store, name=name, mechs=mechanisms, usage="accept")
    return gssapi.Credentials(base=acquired.creds, usage="accept")


def _bindings(application_data: bytes | None) -> GssChannelBindings | None:
    return None if application_data is None else GssChannelBindings(application_data=application_data)


class NativeContext:
    """A context of the library's.

    Every method raises a `CredSSPError` whose cause is what the library raised.

    Args:
        context: pyspnego's.
        cache: What an initiator fetches its tickets from; kept as long as it may.
    """

    def __init__(self, context: spnego.ContextProxy, cache: MemoryCache | None = None) -> None:
        self._context = context
        self.cache = cache

    @classmethod
    def initiator(
        cls,
        tickets: "Tickets",
        service: str,
        host: str,
        channel_bindings: bytes | None,
    ) -> Self:
        """Make a client's; asks a KDC for the first ticket unless there is one that is good for a while."""
        try:
            native, cache = _log_on(tickets)
            context = spnego.client(
                native,
                hostname=host,
                service=service,
                channel_bindings=_bindings(channel_bindings),
                context_req=_WANTED,
                protocol="kerberos",
            )
        except Exception as error:
            raise translate(error, Phase.INITIATE) from error
        return cls(context, cache)

    @classmethod
    def acceptor(cls, keys: "ServiceKeys", channel_bindings: bytes | None) -> Self:
        """Make a server's."""
        try:
            # pyspnego has no public way to accept with another keytab than the machine's (0.12).
            credential: dict[str, Any] = {}
            if _HAS_GSSAPI:
                keys.native = keys.native or _service_keys(keys.keytab)
                credential["_gssapi_credential"] = keys.native
            context = spnego.server(
                protocol="kerberos", channel_bindings=_bindings(channel_bindings), context_req=_WANTED, **credential
            )
        except Exception as error:
            raise translate(error, Phase.ACCEPT) from error
        return cls(context)

    def step(self, token: bytes, phase: Phase) -> bytes:
        """Take the peer's token, and return ours; empty for none."""
        try:
            return self._step(token or None)
        except Exception as error:
            raise translate(error, phase) from error

    def _step(self, token: bytes | None) -> bytes:
        try:
            return self._context.step(token) or b""
        except AttributeError:
            # An acceptor that refuses has a KRB-ERROR to send, so python-gssapi keeps the failure for its next call;
            # and pyspnego (0.12) asks for the flags of a context that never was.
            return self._context.step(token) or b""

    @property
    def complete(self) -> bool:
        """Whether no more tokens are needed."""
        return self._context.complete

    @property
    def protected(self) -> bool:
        """Whether both sides are proven, and messages sealed."""
        return not _REQUIRED & ~self._context.context_attr

    @property
    def mutual(self) -> bool:
        """Whether both sides are proven: the client asked for it."""
        return spnego.ContextReq.mutual_auth in self._context.context_attr

    def end_of_ticket(self, *, acceptor: bool) -> int | None:
        """Return when the client's ticket ends, in seconds since 1970; None where the library does not say.

        To the second: the library tells how many are left. Reads krb5.conf the first time.
        """
        # pyspnego (0.12) has no way to ask, and none of its own to tell.
        native = getattr(self._context, "_context", None)
        try:
            left: int | None = getattr(native, "lifetime", None)
            if left is None:
                return None
            return _now() + left - (clock_skew() if acceptor else 0)
        except Exception:  # noqa: BLE001 - of whatever kind: a context is none the worse for it
            return None

    @property
    def client_principal(self) -> str:
        """Acceptor: who logged on, as libkrb5 writes it; empty where the ticket names nobody."""
        name = self._context.client_principal or ""
        return name if _HAS_GSSAPI else _principal_of_windows(name)

    def seal(self, plaintext: bytes) -> bytes:
        """Make a sealed Wrap token, in the library's layout."""
        try:
            return self._context.wrap(plaintext).data
        except Exception as error:
            raise translate(error, Phase.MESSAGE) from error

    def unseal(self, token: bytes) -> bytes:
        """Open a Wrap token."""
        try:
            return self._context.unwrap(token).data
        except Exception as error:
            raise translate(error, Phase.MESSAGE) from error

    def sign(self, message: bytes) -> bytes:
        """Make a MIC token."""
        try:
            return self._context.sign(message)
        except Exception as error:
            raise translate(error, Phase.MESSAGE) from error

    def verify(self, message: bytes, mic: bytes) -> None:
        """Verify a MIC token."""
        try:
            self._context.verify(message, mic)
        except Exception as error:
            raise translate(error, Phase.MESSAGE) from error
