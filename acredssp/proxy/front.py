"""What is decided about one connection before its bytes pass: whose it is, where it leads, and the leg to its target.

The hooks of the listener's server ask here, in this order:

    route       the client's Connection Request rules routes out; a route of `passthrough` is taken at once
    may_try     somebody claims to be a user: is the account locked out?
    authorize   the user is known: the target is chosen, and the target leg made where its credentials are injected
    admit       the credentials came: the target leg is made where the user's own are taken

The target leg comes before the answer that it decides. In `authorize` the client has not seen our key proven yet, and a
refusal reaches it as an NTSTATUS. In `admit` a refusal reaches it as the early user authorization result (HYBRID_EX),
or as a mere close (HYBRID).
"""

import contextlib
import dataclasses
import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final

from acredssp import NTSTATUS, CredSSPError, ServerConfig, rdp, stores
from acredssp.accounts import Domains
from acredssp.credentials import Account, DelegatedKind, Deny, NTHash, Password, TicketCache
from acredssp.errors import AuthenticationError
from acredssp.hooks import Admission, CredentialRequest, Identity
from acredssp.proxy.leg import Leg, Target, split_account
from acredssp.proxy.limits import Limited, Slot
from acredssp.proxy.passthrough import logs_on_first
from acredssp.proxy.refused import Refused
from acredssp.proxy.routing import Route, choose, fitting, possible
from acredssp.proxy.settings import ListenerSettings
from acredssp.wire import TSPasswordCreds

__all__ = ["Front", "ListenerPlan", "here"]

_FLAGS: Final = rdp.ResponseFlags.EXTENDED_CLIENT_DATA_SUPPORTED | rdp.ResponseFlags.DYNVC_GFX_PROTOCOL_SUPPORTED
"""What every target of these days supports. The target's own flags are not known yet when the client is answered."""
_WITH_RESTRICTED_ADMIN: Final = _FLAGS | rdp.ResponseFlags.RESTRICTED_ADMIN_MODE_SUPPORTED
_NOT_HERE: Final = rdp.FailureCode.SSL_NOT_ALLOWED_BY_SERVER
"""What a client is told before TLS that no route is for."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ListenerPlan:
    """A listener with all that its settings name.

    Attributes:
        settings: Its settings.
        answer: The answer to a client whose user logs on here; it has the configuration of the server.
        routes: Its routes, in their order.
        targets: All targets by name, for the plug-ins of routes.
        domains: Which suffixes and realms are which domains.
    """

    settings: ListenerSettings
    answer: rdp.RDPRoute
    routes: Sequence[Route]
    targets: Mapping[str, Target]
    domains: Domains


def here(settings: ListenerSettings, config: ServerConfig) -> rdp.RDPRoute:
    """Return the answer to a client whose user logs on here."""
    flags = _WITH_RESTRICTED_ADMIN if settings.restricted_admin else _FLAGS
    return rdp.RDPRoute(config, hybrid_ex=settings.hybrid_ex, response_flags=flags)


@dataclasses.dataclass(slots=True, eq=False, repr=False)
class Front:
    """The decisions about one connection.

    Attributes:
        plan: The listener's plan when the connection came.
        source: The client's address without a port.
        slot: What the connection counts for.
        node: What is shared with other nodes.
        pass_on: Passes the bytes of the connection on, for a route of `passthrough`.
        routes: The routes that the connection may still take.
        target: The target; None until it is chosen.
        leg: The connection to the target; None until there is one.
        account: Who has logged on here; None until somebody has.
        claimed: Who a connection is of that nobody logs on by here; empty where that is not known.
        target_user: By whose credentials the target is logged on to; empty while they are not known.
        refused: Why the connection is refused; None while it is not.
        waits_for: The plug-in that has not answered yet; empty for none.
        known: The password of the users file that the client has to know, until the client delegates one: it is mostly
            the same, and need not be hashed again.
    """

    plan: ListenerPlan
    source: str
    slot: Slot
    node: stores.Node
    pass_on: Callable[[Route, rdp.RouteRequest], rdp.Passthrough]
    routes: Sequence[Route]
    target: Target | None = None
    leg: Leg | None = None
    account: Account | None = None
    claimed: str = ""
    target_user: str = ""
    refused: Refused | None = None
    waits_for: str = ""
    known: Password | None = dataclasses.field(default=None, repr=False)
    _request: rdp.ConnectionRequest | None = None
    _token: str = ""
    _grant: stores.Grant | None = None
    _attempt: stores.LogonAttempt | None = None

    # --- before TLS ---

    def route(self, asked: rdp.RouteRequest) -> rdp.RouteAnswer | Awaitable[rdp.RouteAnswer]:
        """Rule out what the client's Connection Request does not lead to: the server's `route`."""
        self._token = asked.request.routing_token or ""
        if stores.is_token(self._token) and any(route.by_token for route in self.routes):
            return self._route_by_token(asked)
        return self._route(asked)

    async def _route_by_token(self, asked: rdp.RouteRequest) -> rdp.RouteAnswer:
        """Route by the client's token. It is used once the user is known, or here where nobody logs on here."""
        try:
            with _token_checked():
                self._grant = await stores.find_token(self.node.store, self._token)
            if (target := self.plan.targets.get(self._grant.target)) is None:
                reason = f"the client's token is for target {self._grant.target}, which the settings do not have"
                return self._turned_away(reason, _NOT_HERE)
            answer = self._route(asked, target)
            if isinstance(answer, rdp.Passthrough) and self.routes[0].by_token:
                await self._redeem(self._grant)
        except Refused as refused:
            self.refused = refused
            return _NOT_HERE
        return answer

    def _route(self, asked: rdp.RouteRequest, named: Target | None = None) -> rdp.RouteAnswer:
        self.routes = possible(self.routes, asked, named)
        if not self.routes:
            reason = "no route has the client's cookie, routing token or preconnection blob"
            return self._turned_away(reason, _NOT_HERE)
        if self.routes[0].settings.mode == "passthrough":
            return self._route_through(self.routes[0], asked)
        self.routes = [route for route in self.routes if route.settings.mode == "terminate"]
        return self._route_here(asked.request.flags)

    def _route_here(self, flags: rdp.RequestFlags) -> rdp.RouteAnswer:
        """Have the user log on here."""
        settings = self.plan.settings
        if flags and flags & rdp.RequestFlags.REDIRECTED_AUTHENTICATION_MODE_REQUIRED:
            reason = "the client asks for remote credential guard, which needs a route with mode = 'passthrough'"
            return self._turned_away(reason, rdp.FailureCode.INCONSISTENT_FLAGS)
        if not settings.restricted_admin and flags and flags & rdp.RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED:
            return self._turned_away("the client asks for restricted admin", rdp.FailureCode.INCONSISTENT_FLAGS)
        return self.plan.answer

    def _route_through(self, route: Route, asked: rdp.RouteRequest) -> rdp.RouteAnswer:
        """Have the connection passed on undecrypted."""
        assert route.target is not None
        if not route.settings.allow_without_nla and not logs_on_first(asked.request.requested_protocols):
            reason = "the client offers no network level authentication, and the route has no allow_without_nla"
            return self._turned_away(reason, rdp.FailureCode.HYBRID_REQUIRED_BY_SERVER)
        self.target = route.target
        self.claimed = self._grant.user if self._grant and route.by_token else asked.request.cookie or ""
        try:
            self.slot.take("connections_per_target", self.target.name)
        except Refused as refused:
            self.refused = refused
            return _NOT_HERE
        return self.pass_on(route, dataclasses.replace(asked, request=self._for_target(asked.request, route)))

    def _turned_away(self, reason: str, code: rdp.FailureCode) -> rdp.FailureCode:
        self.refused = Refused(reason, NTSTATUS.STATUS_ACCESS_DENIED)
        return code

    # --- the logon ---

    async def may_try(self, who: CredentialRequest) -> None:
        """See that the account is not locked out: asked before the listener's lookup, if there is a lockout.

        Raises:
            Refused: It is, or nobody knows.
        """
        settings = self.slot.settings.lockout
        if settings is None:
            return
        of_source = settings.source_failures and settings.rule(settings.source_failures)
        account = Account(who.principal.user, who.principal.domain)
        self._attempt = stores.LogonAttempt(
            self.node.store, account, settings.rule(settings.failures), self.source, of_source or None
        )
        try:
            await self._attempt.begin()
        except stores.LockedOut as error:
            raise Limited("lockout", str(error), NTSTATUS.STATUS_LOGON_FAILURE) from None
        except stores.StoreError as error:
            if not settings.allow_without_store:
                reason = f"nobody knows whether the account is locked out: {error}"
                raise Refused(reason, NTSTATUS.STATUS_NO_LOGON_SERVERS) from error

    def authorize(self, who: Identity, account: Account) -> Account | Callable[[], Awaitable[Account]]:
        """Choose the target, and log on there by injected credentials: the server's `authorize`.

        Returns:
            The account if nobody has to be asked, and the user's own credentials are waited for; else what asks.

        Raises:
            Refused: The user may not come in. What is returned may raise it, too.
        """
        self.account = account
        if self._attempt is not None:
            self.node.begin(self._attempt.succeeded())
        self.slot.take("connections_per_user", account)
        route = next(fitting(self.routes, who, account))
        if route.target is not None and not route.by_token and route.target.settings.credentials == "delegated":
            self._lead(route.target, route, who)
            return account
        return functools.partial(self._authorize, who, account)

    async def _authorize(self, who: Identity, account: Account) -> Account:
        """Do what `authorize` cannot do at once."""
        target, route = await choose(self.routes, self.plan.targets, who, account)
        self._lead(target, route, who)
        grant = self._grant if route.by_token else None
        if grant is not None:
            await self._redeem(grant, account)
        if target.settings.credentials == "token":
            await self._log_on(_password_with(grant, target))
        elif target.settings.credentials != "delegated":
            await self._log_on(await target.credentials_for(who))
        return account

    def _lead(self, target: Target, route: Route, who: Identity) -> None:
        """Lead the connection to a target that will be given what the user delegates, or something else.

        Raises:
            Refused: There are too many connections to it, all its hosts are down, or the user will delegate nothing.
        """
        self.target = target
        self.slot.take("connections_per_target", target.name)
        if not target.pool.up:  # with HYBRID, the user can be told now, and not after delegating
            raise target.all_down()
        self._request = request = who.request and self._for_target(who.request, route)
        flags = request.flags if request and target.settings.credentials == "delegated" else None
        if flags and flags & rdp.RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED:
            raise _no_password(target, DelegatedKind.NOTHING)

    async def admit(self, who: Admission) -> bool:
        """Log on to the target by what the user has delegated: the server's `admit`.

        Raises:
            Refused: The target does not let the user in.
        """
        if self.leg is None:
            assert self.target is not None
            await self._log_on(_password_of(who, self.target, self.known))
        return True

    def ended(self, error: CredSSPError | None) -> None:
        """Let the attempt count as a failure if the password was wrong, and release it otherwise."""
        self.known = None
        if self._attempt is not None:
            wrong = self.refused is None and _is_wrong_password(error)
            self.node.begin(self._attempt.failed() if wrong else self._attempt.release())

    async def _redeem(self, grant: stores.Grant, account: Account | None = None) -> None:
        with _token_checked():
            await stores.redeem_token(self.node.store, self._token, grant, self.source, account, self.plan.domains)

    async def _log_on(self, credentials: Password | NTHash | TicketCache) -> None:
        assert self.target is not None
        assert self.account is not None
        most, by_ticket = self.slot.settings.logon, isinstance(credentials, TicketCache)
        self.target_user = str(self.account if by_ticket else Account(credentials.user, credentials.domain))
        self.leg = await self.target.log_on(
            credentials, self.account, self._request, token=self._token, logon_timeout=most
        )

    def _for_target(self, request: rdp.ConnectionRequest, route: Route) -> rdp.ConnectionRequest:
        """Return the client's request as the target gets it: without the routing token, if the token is the gateway's.

        The target must not get a token that the gateway has issued, since whoever has such a token may use it. A token
        of the settings stays in the request where the gateway decrypts nothing: a connection broker may read it there.
        """
        routes_here = route.settings.token is not None and route.settings.mode == "terminate"
        return dataclasses.replace(request, routing_token=None) if self._grant or routes_here else request

    def deny(self, refused: Refused) -> Deny:
        """Note why the user is refused, and return the answer of a hook."""
        self.refused = refused
        return Deny(refused.status, account=self.account)


@contextlib.contextmanager
def _token_checked() -> Iterator[None]:
    """Refuse a client whose token is no good, or cannot be checked."""
    try:
        yield
    except stores.TokenRefused as error:
        raise Refused(str(error), error.nt_status) from None
    except stores.StoreError as error:
        raise Refused(f"the client's token cannot be checked: {error}", NTSTATUS.STATUS_NO_LOGON_SERVERS) from error


def _is_wrong_password(error: CredSSPError | None) -> bool:
    """Whether the client was told of a wrong password. It is told the same if the account does not exist."""
    return type(error) is AuthenticationError and error.nt_status is NTSTATUS.STATUS_LOGON_FAILURE


def _password_of(who: Admission, target: Target, known: Password | None) -> Password:
    if not isinstance(who.credentials, TSPasswordCreds) or who.info.delegated is DelegatedKind.NOTHING:
        raise _no_password(target, who.credentials.kind)
    try:
        return who.credentials.as_password(known)
    except ValueError:
        reason = f"target {target.name}: the user delegated a name with a domain in front beside another domain"
        raise Refused(reason, NTSTATUS.STATUS_LOGON_FAILURE) from None


def _password_with(grant: stores.Grant | None, target: Target) -> Password:
    if grant is None or not grant.account:
        reason = f"target {target.name}: expected a token with account and password, got none of them"
        raise Refused(reason, NTSTATUS.STATUS_ACCOUNT_RESTRICTION)
    return Password(grant.password, *split_account(grant.account))


def _no_password(target: Target, kind: DelegatedKind) -> Refused:
    reason = f"target {target.name}: expected the user to delegate a password, got {kind.value}"
    return Refused(reason, NTSTATUS.STATUS_ACCOUNT_RESTRICTION)
