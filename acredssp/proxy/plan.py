"""All that a settings file names, read: certificates, users, secrets, authorities, plug-ins.

A plan never changes. A reload makes a new one, and connections go on by the plan that they began with.
"""

import asyncio
import dataclasses
import datetime as dt
import functools
import inspect
import pathlib
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from cryptography import x509

from acredssp import Keytab, Policy, ServerConfig, server_context, sni_contexts
from acredssp.accounts import Accounts, Anybody, Domains, TicketHolders, Users, WinbindUsers
from acredssp.aio import WinbindOracle
from acredssp.config import NTLMIdentity
from acredssp.credentials import Account, Deny, LookupAnswer, Password
from acredssp.hooks import Admission, AuthorizeHook, CredentialRequest, Identity, LookupHook
from acredssp.proxy.front import Front, ListenerPlan, here
from acredssp.proxy.leg import Around, Target, as_it_is, make_target
from acredssp.proxy.plugin import PlugIn
from acredssp.proxy.refused import Refused
from acredssp.proxy.routing import make_route
from acredssp.proxy.settings import (
    CertificateSettings,
    ListenerSettings,
    LogonSettings,
    Problems,
    RDPFileSettings,
    Settings,
    StoreSettings,
    read,
)
from acredssp.rdp_file import FileSigner
from acredssp.stores import Sealer
from acredssp.stores.redis import RedisStore

__all__ = ["Access", "Plan", "make_plan", "redis_store", "signer_of"]

_SHORTEST_SECRET: Final = 16

_Winbind: TypeAlias = Mapping[str, tuple[WinbindOracle, NTLMIdentity]]
"""winbind by the program that asks it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the settings of the API name.

    Attributes:
        secret: What every request must carry.
        context: TLS; None for none.
        gateway: The gateway's address in .rdp files, as clients reach it; empty for no .rdp files.
        signer: Signs .rdp files; None for no signature.
    """

    secret: str = dataclasses.field(repr=False)
    context: ssl.SSLContext | None = None
    gateway: str = ""
    signer: FileSigner | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A whole file, read.

    Attributes:
        settings: The settings.
        listeners: The listeners, by the text of their addresses.
        targets: The targets, by name.
        store: The store that nodes share; None for none. Nothing has connected yet.
        api: What the settings of the API name; None for none.
        certificates: When each certificate of a listener ends, by the name of its file.
    """

    settings: Settings
    listeners: Mapping[str, ListenerPlan]
    targets: Mapping[str, Target]
    store: RedisStore | None
    api: Access | None
    certificates: Mapping[str, dt.datetime]


async def make_plan(path: pathlib.Path, oracles: dict[str, WinbindOracle], around: Around = as_it_is) -> Plan:
    """Read a settings file and all that it names.

    Args:
        path: The file.
        oracles: winbind by the program that asks it, for this plan and those after it; oracles are added here.
        around: Returns what carries the logons at targets.

    Raises:
        SettingsError: Something is wrong; every place is named.
    """
    settings = await asyncio.to_thread(read, path)
    problems, winbind = Problems(), {}
    for number, listener in enumerate(settings.listeners):
        if listener.logon.winbind:
            program = listener.logon.ntlm_auth
            with problems.at(f"listeners[{number}].logon.winbind"):
                oracle = oracles.setdefault(program, WinbindOracle(command=(program,)))
                winbind[program] = oracle, await oracle.identity()
    problems.check()
    return await asyncio.to_thread(_plan, settings, winbind, around)


def _plan(settings: Settings, winbind: _Winbind, around: Around) -> Plan:
    problems = Problems()
    targets = {name: make_target(name, each, problems, around) for name, each in settings.targets.items()}
    listeners: dict[str, ListenerPlan] = {}
    for number, listener in enumerate(settings.listeners):
        place = f"listeners[{number}]"
        if str(listener.address) in listeners:
            problems.add(f"{place}.address", "expected another address for each listener, got one twice")
        accounts, lookup = _accounts(listener.logon, f"{place}.logon", winbind, problems)
        routes = [
            make_route(route, f"{place}.routes[{index}]", targets, settings.groups, accounts.domains, problems)
            for index, route in enumerate(listener.routes)
        ]
        if lookup is not None and (settings.limits.lockout or listener.logon.lookup):
            lookup = _counted(lookup)
        config = _server_config(listener, place, winbind, accounts, lookup, problems)
        if config is not None:
            answer, domains = here(listener, config), accounts.domains
            listeners[str(listener.address)] = ListenerPlan(
                settings=listener, answer=answer, routes=routes, targets=targets, domains=domains
            )
    for name, section in {"admin": settings.admin, "api": settings.api}.items():
        if section is not None and section.address.port and str(section.address) in listeners:
            problems.add(f"{name}.address", "expected another address than that of a listener")
    store = redis_store(settings.store, problems) if settings.store else None
    api = _access(settings, problems)
    problems.check()
    return Plan(settings, listeners, targets, store, api, _ends_of(settings))


def _ends_of(settings: Settings) -> Mapping[str, dt.datetime]:
    paths = [each.certificate for listener in settings.listeners for each in listener.certificates]
    return {path.name: x509.load_pem_x509_certificates(path.read_bytes())[0].not_valid_after_utc for path in paths}


# --- the server of a listener ---


def _server_config(  # noqa: PLR0913, PLR0917 - what the settings of a listener name
    listener: ListenerSettings,
    place: str,
    winbind: _Winbind,
    accounts: Accounts,
    lookup: LookupHook | None,
    problems: Problems,
) -> ServerConfig | None:
    """Return the configuration of a listener's server; None where something was noted in `problems`."""
    policy = Policy(handshake_timeout=listener.handshake_timeout)
    context = _ssl_context(listener.certificates, policy, f"{place}.certificates", problems)
    logon = listener.logon
    keytab = None
    if logon.keytab is not None:
        with problems.at(f"{place}.logon.keytab"):
            if logon.keytab.read_bytes()[:1] != b"\5":  # what every keytab begins with
                raise ValueError(f"{logon.keytab}: expected a keytab, got another file")
            keytab = Keytab(str(logon.keytab), logon.delegating_account or logon.spn, bool(logon.delegating_account))
    if context is None or (lookup is None and keytab is None):
        return None
    with problems.at(f"{place}.logon"):
        config = ServerConfig(
            ssl_context=context,
            lookup=lookup,
            keytab=keytab,
            authorize=_authorize(TicketHolders(accounts, logon.realms)),
            admit=_admit,
            policy=policy,
        )
        return dataclasses.replace(config, identity=winbind[logon.ntlm_auth][1]) if logon.winbind else config
    return None


def _denying(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wrap a hook: where the hook raises `Refused`, the wrapper notes the reason and refuses the user.

    A hook that has to wait returns a `partial`, which makes the coroutine only when it is called: the client may have
    left before, and a coroutine must not stay unawaited.
    """

    def denying(who: Any) -> Any:
        front: Front = who.session.front
        try:
            answer = hook(who)
        except Refused as refused:
            return front.deny(refused)
        return awaited(front, answer) if isinstance(answer, functools.partial) else answer

    async def awaited(front: Front, ask: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await ask()
        except Refused as refused:
            return front.deny(refused)

    return denying


def _counted(lookup: LookupHook) -> LookupHook:
    """Have each connection be asked before its user's password is looked at."""

    async def counted(who: CredentialRequest) -> LookupAnswer:
        front: Front = who.session.front
        await front.may_try(who)
        answer = lookup(who)
        return await answer if inspect.isawaitable(answer) else answer

    return _denying(lambda who: functools.partial(counted, who))


def _authorize(tickets: TicketHolders) -> AuthorizeHook:
    """Return the server's `authorize`: whose logon it is, and then what the connection says to that."""

    def authorize(who: Identity) -> Account | Deny | Callable[[], Awaitable[Account]]:
        account = tickets.authorize(who)
        if isinstance(account, Deny):
            return account
        front: Front = who.session.front
        return front.authorize(who, account if isinstance(account, Account) else who.principal.account)

    return _denying(authorize)


@_denying
def _admit(who: Admission) -> Callable[[], Awaitable[bool]]:
    front: Front = who.session.front
    return functools.partial(front.admit, who)


def _accounts(
    logon: LogonSettings, place: str, winbind: _Winbind, problems: Problems
) -> tuple[Accounts, LookupHook | None]:
    """Return who may log on, and the lookup of their secrets; None for none."""
    if logon.users is not None:
        with problems.at(f"{place}.users"):
            users = Users.from_file(logon.users)
            if users.by_ticket_alone is not None and logon.keytab is None:
                raise ValueError(f"line {users.by_ticket_alone}: an empty SECRET needs keytab")
            return users, _noting(users)
    if logon.winbind:
        oracle, identity = winbind[logon.ntlm_auth]
        names = {identity.dns_domain: identity.netbios_domain} if identity.dns_domain else {}
        known = WinbindUsers(oracle, Domains(names))
        return known, known.lookup
    if logon.lookup is not None:
        with problems.at(f"{place}.lookup"):
            return Anybody(), PlugIn(logon.lookup, "the lookup of the logon,").ask
    return Anybody(), None


def _noting(users: Users) -> LookupHook:
    """Have each connection note the password that its client has to know."""

    def lookup(who: CredentialRequest) -> LookupAnswer:
        answer, front = users.lookup(who), who.session.front
        front.known = answer if isinstance(answer, Password) else None
        return answer

    return lookup


def _ssl_context(
    certificates: Sequence[CertificateSettings], policy: Policy, place: str, problems: Problems
) -> ssl.SSLContext | None:
    """Return the TLS context of a listener; None where something was noted in `problems`."""
    contexts, default = {}, None
    for index, each in enumerate(certificates):
        with problems.at(f"{place}[{index}]"):
            if b"ENCRYPTED" in each.key.read_bytes():  # OpenSSL would ask for the password at the terminal
                raise ValueError(f"key {each.key}: expected a private key without a password")
            context = server_context(policy, str(each.certificate), str(each.key))
            for name in each.names:
                contexts[name] = context
            if not each.names:
                if default is not None:
                    raise ValueError("names: expected names, since another certificate has none")
                default = context
    if len({id(context) for context in contexts.values()} | {id(default)}) == 1:
        return default
    with problems.at(place):
        return sni_contexts(contexts, default) if contexts else default
    return None


def redis_store(settings: StoreSettings, problems: Problems) -> RedisStore | None:
    """Make the store of a settings file, and read its secrets; None where something was noted in `problems`.

    Nothing connects yet.
    """
    sealer, password = None, ""
    with problems.at("store.keys"):
        sealer = Sealer(settings.keys.read())
    with problems.at("store.password"):
        password = settings.password.read() if settings.password else ""
    with problems.at("store.authorities"):
        if settings.authorities:
            settings.authorities.open("rb").close()
    if sealer is None:
        return None
    return RedisStore(
        settings.url,
        sealer,
        username=settings.username,
        password=password,
        authorities=str(settings.authorities) if settings.authorities else None,
        prefix=settings.prefix,
        deadline=settings.timeout,
    )


def _access(settings: Settings, problems: Problems) -> Access | None:
    """Read what `[api]` and `[rdp_file]` name; None for no API, and where something was noted in `problems`."""
    api, files, secret, context = settings.api, settings.rdp_file, "", None
    signer = signer_of(files, problems) if files else None
    if api is None:
        return None
    with problems.at("api.secret"):
        secret = api.secret.read()
        if len(secret) < _SHORTEST_SECRET:
            raise ValueError(f"expected a secret of at least {_SHORTEST_SECRET} characters")
    with problems.at("api.certificate"):
        if api.certificate is not None and api.key is not None:
            context = server_context(Policy(), str(api.certificate), str(api.key))
    return Access(secret=secret, context=context, gateway=files.address if files else "", signer=signer)


def signer_of(settings: RDPFileSettings, problems: Problems) -> FileSigner | None:
    """Return the signer that settings name; None for none, and where something was noted in `problems`."""
    with problems.at("rdp_file.certificate"):
        if settings.certificate is not None and settings.key is not None:
            return FileSigner.from_pem(settings.certificate.read_bytes(), settings.key.read_bytes())
    return None
