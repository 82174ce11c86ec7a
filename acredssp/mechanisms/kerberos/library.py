"""Makes and drives contexts of pyspnego, and of python-gssapi below it. No other module imports them for that.

Everything here but sealing and signing may block, so it is called in a thread. Importing this module takes a tenth of a
second and loads libkrb5, so `context` imports it in that thread too, with the first step of a context.

The caller's credentials are not changed: no environment variable is set, and no cache is replaced. Tickets for a
password or a keytab live in a cache in memory that is freed with its owner (pyspnego's own caches stay until the
process ends).
"""

from typing import Any, Final, Self, TypeAlias

import spnego
from spnego.channel_bindings import GssChannelBindings

from acredssp.credentials import Keytab, Password, TicketCache
from acredssp.mechanisms.kerberos import memory_cache
from acredssp.mechanisms.kerberos.errors import Phase, translate
from acredssp.mechanisms.kerberos.memory_cache import HeldTickets, MemoryCache
from acredssp.mechanisms.kerberos.tickets import ServiceKeys, Tickets
from acredssp.names import escape_principal

if memory_cache.HAS_GSSAPI:
    import gssapi

    from acredssp.mechanisms.kerberos.by_hand import clock_skew

__all__ = ["MECHANISM", "NativeContext"]

_Credential: TypeAlias = spnego.CredentialCache | spnego.KerberosCCache | spnego.KerberosKeytab | spnego.Password

_REQUIRED: Final = spnego.ContextReq.mutual_auth | spnego.ContextReq.confidentiality | spnego.ContextReq.integrity
_WANTED: Final = _REQUIRED | spnego.ContextReq.replay_detect | spnego.ContextReq.sequence_detect
MECHANISM: Final = "1.2.840.113554.1.2.2"
"""The object identifier of Kerberos."""


def _principal_of_windows(name: str) -> str:
    r"""The principal of `DOMAIN\user`, which is how SSPI names a client."""
    domain, _, user = name.rpartition("\\")
    return f"{escape_principal(user)}@{domain}" if domain else escape_principal(user)


def _log_on(tickets: Tickets) -> tuple[_Credential, MemoryCache | None]:
    """The credential to log on with, and the cache that must be kept while the credential is used."""
    credential = tickets.credential
    if isinstance(credential, TicketCache):
        return _ticket_cache(credential), None
    if not memory_cache.HAS_GSSAPI:
        return _of_windows(credential), None
    cache = tickets.in_memory()
    return spnego.KerberosCCache(cache.name), cache


def _ticket_cache(credential: TicketCache) -> _Credential:
    principal = credential.principal or None
    return spnego.KerberosCCache(credential.name, principal) if credential.name else spnego.CredentialCache(principal)


def _of_windows(credential: Password | Keytab) -> _Credential:
    if isinstance(credential, Keytab):
        return spnego.KerberosKeytab(credential.name, credential.principal or None)
    return spnego.Password(memory_cache.principal_of(credential), credential.password)


def _service_keys(keytab: Keytab) -> "gssapi.Credentials":
    """The keys that an acceptor takes tickets with, from this keytab alone."""
    store: dict[str | bytes, str | bytes] = {b"keytab": memory_cache.keytab_name(keytab)} if keytab.name else {}
    name = gssapi.Name(keytab.principal, gssapi.NameType.kerberos_principal) if keytab.principal else None
    mechanisms = [gssapi.OID.from_int_seq(MECHANISM)]
    acquired = gssapi.raw.acquire_cred_from(store, name=name, mechs=mechanisms, usage="accept")
    return gssapi.Credentials(base=acquired.creds, usage="accept")


def _delegating_keys(keys: ServiceKeys) -> "gssapi.Credentials":
    """The same with the account's own ticket, which proves to the KDC who delegates. It is renewed when it ends."""
    keys.own_tickets = keys.own_tickets or MemoryCache.empty()
    keytab = memory_cache.keytab_name(keys.keytab)
    store: dict[str | bytes, str | bytes] = {b"ccache": keys.own_tickets.name.encode()}
    if keys.keytab.name:
        store |= {b"keytab": keytab, b"client_keytab": keytab}
    name = gssapi.Name(keys.keytab.principal, gssapi.NameType.kerberos_principal)
    mechanisms = [gssapi.OID.from_int_seq(MECHANISM)]
    acquired = gssapi.raw.acquire_cred_from(store, name=name, mechs=mechanisms, usage="both")
    return gssapi.Credentials(base=acquired.creds, usage="both")


def _bindings(application_data: bytes | None) -> GssChannelBindings | None:
    return None if application_data is None else GssChannelBindings(application_data=application_data)


class NativeContext:
    """A Kerberos context of pyspnego.

    Every method raises a `CredSSPError` whose cause is the library's own error.

    Args:
        context: The context of pyspnego.
        cache: The cache from which an initiator fetches its tickets, kept while it may do so; None for an acceptor, and
            for the caller's own cache.
    """

    def __init__(self, context: spnego.ContextProxy, cache: MemoryCache | None = None) -> None:
        self._context = context
        self.cache = cache

    @classmethod
    def initiator(
        cls,
        tickets: Tickets,
        service: str,
        host: str,
        channel_bindings: bytes | None,
    ) -> Self:
        """Make a client's context. It asks a KDC for the first ticket, unless one is there and valid for a while."""
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
    def acceptor(cls, keys: ServiceKeys, channel_bindings: bytes | None) -> Self:
        """Make a server's context."""
        try:
            # pyspnego 0.12 has no public way to accept with another keytab than the machine's.
            credential: dict[str, Any] = {}
            if memory_cache.HAS_GSSAPI:
                if keys.keytab.constrained_delegation:
                    credential["_gssapi_credential"] = _delegating_keys(keys)
                else:
                    keys.native = keys.native or _service_keys(keys.keytab)
                    credential["_gssapi_credential"] = keys.native
            context = spnego.server(
                protocol="kerberos", channel_bindings=_bindings(channel_bindings), context_req=_WANTED, **credential
            )
        except Exception as error:
            raise translate(error, Phase.ACCEPT) from error
        return cls(context)

    def step(self, token: bytes, phase: Phase) -> bytes:
        """Take the peer's token, and return ours; empty where there is none to send."""
        try:
            return self._step(token or None)
        except Exception as error:
            raise translate(error, phase) from error

    def _step(self, token: bytes | None) -> bytes:
        try:
            return self._context.step(token) or b""
        except AttributeError:
            # An acceptor that refuses has a KRB-ERROR to send, so python-gssapi raises the failure with the next call.
            # But pyspnego 0.12 first asks for the flags of the context, which does not exist.
            return self._context.step(token) or b""

    @property
    def complete(self) -> bool:
        """Whether no more tokens are needed."""
        return self._context.complete

    @property
    def protected(self) -> bool:
        """Whether both sides are proven, and messages are sealed."""
        return not _REQUIRED & ~self._context.context_attr

    @property
    def mutual(self) -> bool:
        """Whether both sides are proven, which the client has to ask for."""
        return spnego.ContextReq.mutual_auth in self._context.context_attr

    def end_of_ticket(self, *, acceptor: bool) -> int | None:
        """Return when the client's ticket ends, in seconds since 1970; None where the library does not tell.

        The result is exact to a second, since the library tells the seconds that are left. The first call reads
        krb5.conf.
        """
        # pyspnego 0.12 has no public way to ask for the lifetime.
        native = getattr(self._context, "_context", None)
        try:
            left: int | None = getattr(native, "lifetime", None)
            if left is None:
                return None
            return memory_cache.now() + left - (clock_skew() if acceptor else 0)
        except Exception:  # noqa: BLE001 - the context works without knowing the end, whatever failed
            return None

    @property
    def client_principal(self) -> str:
        """Acceptor: the principal that logged on, as libkrb5 writes it; empty where the ticket names nobody."""
        name = self._context.client_principal or ""
        return name if memory_cache.HAS_GSSAPI else _principal_of_windows(name)

    def delegated_tickets(self) -> TicketCache | None:
        """Acceptor: what logs on as the client by constrained delegation; None where the client may not be delegated.

        The call may block.
        """
        # pyspnego 0.12 has no public way to the credentials that a client delegates.
        delegated = getattr(getattr(self._context, "_context", None), "delegated_creds", None)
        if delegated is None:
            return None
        cache = MemoryCache.empty()
        try:
            store: dict[str | bytes, str | bytes] = {b"ccache": cache.name.encode()}
            gssapi.raw.store_cred_into(store, delegated, usage="initiate", overwrite=True)
        except Exception as error:
            raise translate(error, Phase.ACCEPT) from error
        return HeldTickets(cache.name, cache=cache)

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
