"""One connection of the gateway, from its accept to its end.

    accept          `Connection` is made, by the plan of that moment
    route           the client's Connection Request rules routes out
    authorize       the user is known: the target is chosen, and the target leg made where its credentials are injected
    admit           the credentials came: the target leg is made where the user's own are taken
    handshake_ended the front is through, or it has failed
    relay           MCS is rewritten, then bytes pass until both legs have ended

A connection whose route is `passthrough` goes from `route` to `pass_on`: its bytes pass undecrypted.

The target leg comes before the answer that it decides. In `authorize` the client has not seen our key proven yet, and a
refusal reaches it as an NTSTATUS. In `admit` a refusal reaches it as the early user authorization result (HYBRID_EX),
or as a mere close (HYBRID).
"""

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from acredssp import NTSTATUS, CredSSPError, HandshakeReport, connection_id, rdp, relay, take_credentials
from acredssp.aio import Recording, RelayEnd, RelayResult, Streams, source_of
from acredssp.credentials import Account, DelegatedKind, Deny, NTHash, Password, TicketCache
from acredssp.errors import AuthenticationError
from acredssp.hooks import Admission, CredentialRequest, Identity
from acredssp.proxy import tokens
from acredssp.proxy.leg import Leg, Refused, Target, split_account
from acredssp.proxy.limits import Limited, Slot
from acredssp.proxy.lockout import Lockout
from acredssp.proxy.node import Node
from acredssp.proxy.passthrough import connect, logs_on_first
from acredssp.proxy.plan import ListenerPlan
from acredssp.proxy.records import ConnectionRecord
from acredssp.proxy.routing import Names, Route, choose, possible
from acredssp.proxy.settings import reason_of
from acredssp.stores import Entry, Grant, Kick, StoreError, names_of
from acredssp.wire import TSPasswordCreds
from acredssp.workers import Address

__all__ = ["Connection"]

_MCS_TIMEOUT: Final = 30.0
"""Seconds for the first PDU of MCS of either side. Both send it at once."""
_FLAGS: Final = rdp.ResponseFlags.EXTENDED_CLIENT_DATA_SUPPORTED | rdp.ResponseFlags.DYNVC_GFX_PROTOCOL_SUPPORTED
"""What every target of these days supports. The target's own flags are not known yet when the client is answered."""
_NOT_HERE: Final = rdp.FailureCode.SSL_NOT_ALLOWED_BY_SERVER
"""What a client is told before TLS that no route is for."""
_LONGEST_NAME: Final = 255
_READ_SIZE: Final = 65_536
_ENDS: Final = {RelayEnd.A: "client", RelayEnd.B: "target", RelayEnd.IDLE: "idle"}


class Connection:
    """A connection: the session object of its handshake, and what follows.

    Args:
        plan: The listener's plan when the connection came.
        peer: The client's address.
        slot: What it counts for; given back at the end.
        node: What is shared with other nodes.
        on_end: Called once with the record, when all of it has ended.
    """

    def __init__(
        self,
        plan: ListenerPlan,
        peer: object,
        slot: Slot,
        node: Node,
        on_end: Callable[["Connection", ConnectionRecord], None],
    ) -> None:
        self.plan = plan
        self.peer = peer
        self.id = connection_id()
        self.routes: list[Route] = [*plan.routes]
        self.target: Target | None = None
        self.leg: Leg | None = None
        self._slot = slot
        self._node = node
        self._on_end = on_end
        self._account: Account | None = None
        self._refused: Refused | None = None
        self._report: HandshakeReport | None = None
        self._request: rdp.ConnectionRequest | None = None
        self._token = ""
        self._claimed = ""
        """Who a connection is of that nobody logs on by here; empty where that is not known."""
        self._grant: Grant | None = None
        self._lockout: Lockout | None = None
        self._seconds: dict[str, float] = {}
        self._silence: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._cut = ""
        self._watch = rdp.RedirectionWatch()

    # --- the front's hooks ---

    def begin(self) -> None:
        """Count the connection, and wait for the client's Connection Request for as long as `first_bytes` says.

        The server's `accept` calls this, in the task of the handshake.

        Raises:
            Limited: There are too many connections; this one has ended.
        """
        self._task = asyncio.current_task()
        try:
            self._slot.take_source(source_of(self.peer))
        except Limited as limited:
            self._refused = limited
            self._ended("limited", str(limited))
            raise
        self._silence = asyncio.get_running_loop().call_later(self._slot.settings.first_bytes, self._late)

    def cut(self, why: str) -> None:
        """End the connection at once; harmless when it has ended.

        Args:
            why: What the record has as `ended_by`, in a word.
        """
        self._cut = self._cut or why
        if self._writer is not None:
            self._writer.transport.abort()
        elif self._task is not None:
            self._task.cancel()

    def is_meant(self, kick: Kick) -> bool:
        """Whether a kick is for this connection. Who logs on at the target is known by token or cookie alone."""
        if kick.connection:
            return kick.connection == self.id
        if self._account is not None:
            return names_of(kick.user)[0] in names_of(self._account)
        return bool(self._claimed) and names_of(kick.user)[1] == names_of(self._claimed)[1]

    def _late(self) -> None:
        most = self._slot.settings.first_bytes
        self._refused = Limited("first_bytes", f"no Connection Request came within {most:g} seconds")
        self.cut("first_bytes")

    def _heard(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def route(self, asked: rdp.RouteRequest) -> rdp.RouteAnswer | Awaitable[rdp.RouteAnswer]:
        """Rule out what the client's Connection Request does not lead to: the server's `route`."""
        self._heard()
        self._token = asked.request.routing_token or ""
        if tokens.is_token(self._token) and any(route.by_token for route in self.routes):
            return self._route_by_token(asked)
        return self._route(asked)

    async def _route_by_token(self, asked: rdp.RouteRequest) -> rdp.RouteAnswer:
        """Route by the client's token. It is used once the user is known, or here where nobody logs on here."""
        try:
            answer = self._route(asked, await self._named_by_token())
            if isinstance(answer, rdp.Passthrough) and self.routes[0].by_token:
                await self._redeem(None)
        except Refused as refused:
            return self._turned_away(str(refused), _NOT_HERE)
        return answer

    async def _named_by_token(self) -> Target:
        """Return the target of the client's token.

        Raises:
            Refused: It is no good.
        """
        try:
            self._grant = await tokens.find(self._node.store, self._token)
        except StoreError as error:
            raise Refused(f"the client's token cannot be read: {error}", NTSTATUS.STATUS_NO_LOGON_SERVERS) from error
        if self._grant is None:
            raise Refused("the client's token is unknown, used up or expired", NTSTATUS.STATUS_ACCESS_DENIED)
        if (target := self.plan.targets.get(self._grant.target)) is None:
            reason = f"the client's token is for target {self._grant.target}, which the settings do not have"
            raise Refused(reason, NTSTATUS.STATUS_ACCESS_DENIED)
        return target

    async def _redeem(self, account: Account | None) -> None:
        """Use the client's token, for a user who has logged on or, with None, for whoever will at the target.

        Raises:
            Refused: It is no good for this user, or no good any more.
        """
        assert self._grant is not None
        if account is not None and account not in Names([self._grant.user]):
            raise Refused("the client's token is for another user", NTSTATUS.STATUS_LOGON_NOT_GRANTED)
        try:
            grant = await tokens.redeem(self._node.store, self._token, source_of(self.peer), account)
        except StoreError as error:
            raise Refused(f"the client's token cannot be used: {error}", NTSTATUS.STATUS_NO_LOGON_SERVERS) from error
        if grant is None:
            reason = "the client's token is used up or expired, or its user was kicked"
            raise Refused(reason, NTSTATUS.STATUS_LOGON_NOT_GRANTED)

    def _route(self, asked: rdp.RouteRequest, named: Target | None = None) -> rdp.RouteAnswer:
        request, settings = asked.request, self.plan.settings
        self.routes = possible(self.routes, asked, named)
        if not self.routes:
            reason = "no route has the client's cookie, routing token or preconnection blob"
            return self._turned_away(reason, _NOT_HERE)
        if self.routes[0].settings.mode == "passthrough":
            return self._pass_on(self.routes[0], asked)
        self.routes = [route for route in self.routes if route.settings.mode == "terminate"]
        if request.flags & rdp.RequestFlags.REDIRECTED_AUTHENTICATION_MODE_REQUIRED:
            return self._turned_away("the client asks for remote credential guard", rdp.FailureCode.INCONSISTENT_FLAGS)
        if request.flags & rdp.RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED and not settings.restricted_admin:
            return self._turned_away("the client asks for restricted admin", rdp.FailureCode.INCONSISTENT_FLAGS)
        flags = _FLAGS | (rdp.ResponseFlags.RESTRICTED_ADMIN_MODE_SUPPORTED if settings.restricted_admin else 0)
        return rdp.RDPRoute(self.plan.config, hybrid_ex=settings.hybrid_ex, response_flags=flags)

    def _pass_on(self, route: Route, asked: rdp.RouteRequest) -> rdp.Passthrough | rdp.FailureCode:
        """Have the connection passed on undecrypted."""
        assert route.target is not None
        if not route.settings.allow_without_nla and not logs_on_first(asked.request.requested_protocols):
            reason = "the client offers no network level authentication, and the route has no allow_without_nla"
            return self._turned_away(reason, rdp.FailureCode.HYBRID_REQUIRED_BY_SERVER)
        self.target = route.target
        self._claimed = self._grant.user if self._grant and route.by_token else asked.request.cookie or ""
        try:
            self._slot.take_target(self.target.name)
        except Refused as refused:
            self._refused = refused
            return _NOT_HERE
        return rdp.Passthrough(lambda reader, writer: self.pass_on(route, asked, reader, writer))

    async def may_try(self, who: CredentialRequest) -> Deny | None:
        """Refuse an account that is locked out: asked before the listener's lookup, if there is a lockout."""
        settings = self._slot.settings.lockout
        if settings is None:  # the listener's configuration is older than the limits
            return None
        self._lockout = Lockout(settings, self._node.store, who.principal, source_of(self.peer))
        try:
            await self._lockout.check()
        except Refused as refused:
            return self._deny(refused)
        return None

    async def authorize(self, who: Identity, account: Account) -> bool | Account | Deny:
        """Choose the target, and log on there by injected credentials: the server's `authorize`."""
        self._account = account
        if self._lockout is not None:
            self._node.begin(self._lockout.succeeded())
        try:
            self._slot.take_user(account)
            self.target, route = await choose(self.routes, self.plan.targets, who, account)
            self._slot.take_target(self.target.name)
            self._request = _passed_on(who.request, route)
            if route.by_token:
                await self._redeem(account)
            if self.target.settings.credentials == "token":
                await self._log_on(_password_with(self._grant if route.by_token else None, self.target))
            elif self.target.settings.credentials != "delegated":
                await self._log_on(await self.target.credentials_for(who))
            elif who.request and who.request.flags & rdp.RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED:
                raise _no_password(self.target, DelegatedKind.NOTHING)
        except Refused as refused:
            return self._deny(refused)
        return account

    async def admit(self, who: Admission) -> bool | Deny:
        """Log on to the target by what the user has delegated: the server's `admit`."""
        if self.leg is not None:
            return True
        assert self.target is not None
        try:
            await self._log_on(_password_of(who, self.target))
        except Refused as refused:
            return self._deny(refused)
        return True

    def handshake_ended(self, report: HandshakeReport) -> None:
        """Note how the front's handshake ended: the server's `on_handshake`. Nobody takes over the leg of a failure."""
        self._heard()
        self._report = report
        self._seconds = {"front": report.elapsed, **(self.leg.seconds if self.leg else {})}
        if self._lockout is not None and self._refused is None and _is_wrong_password(report.error):
            self._node.begin(self._lockout.failed())
        if report.error is not None:
            self._ended(str(report.outcome), str(self._refused or report.error), ended_by=self._cut)

    async def _log_on(self, credentials: Password | NTHash | TicketCache) -> None:
        assert self.target is not None
        assert self._account is not None
        most = self._slot.settings.logon
        self.leg = await self.target.log_on(
            credentials, self._account, self._request, token=self._token, logon_timeout=most
        )

    def _turned_away(self, reason: str, code: rdp.FailureCode) -> rdp.FailureCode:
        self._refused = Refused(reason, NTSTATUS.STATUS_ACCESS_DENIED)
        return code

    def _deny(self, refused: Refused) -> Deny:
        self._refused = refused
        return Deny(refused.status, account=self._account)

    # --- behind the front ---

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes between client and target until both have ended."""
        assert self.leg is not None
        self._writer = writer
        clock = asyncio.get_running_loop().time
        credentials, begun, up, down, reason, ended_by = take_credentials(writer), clock(), 0, 0, "", ""
        if credentials is not None:
            credentials.zero()
        if self._cut:
            writer.transport.abort()
        self._announce()
        try:
            first_up, first_down = await self._exchange((reader, writer))
            self._seconds["mcs"] = clock() - begun
            result = await self._relay((reader, writer), first_down, Recording(sink=self._look, lossy=True))
            up, down = result.bytes_up + first_up, result.bytes_down
            ended_by, reason = _ENDS[result.ended_by], reason_of(result.error)
        except (OSError, EOFError, CredSSPError) as error:
            reason = f"the first PDUs of MCS could not be passed on: {error or type(error).__name__}"
        finally:
            writer.transport.abort()
            self._ended("relayed", reason, ended_by=self._cut or ended_by, bytes_up=up, bytes_down=down)

    async def pass_on(
        self, route: Route, asked: rdp.RouteRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass the bytes of a connection on undecrypted until both sides have ended."""
        assert self.target is not None
        self._task = asyncio.current_task()
        outcome, up, down, reason, ended_by = "passed_on", 0, 0, "", ""
        try:
            if self._cut:
                return
            self.leg, confirm = await connect(self.target, route.settings, asked, reader, self._slot.settings.logon)
            self._writer = writer
            self._seconds |= self.leg.seconds
            self._announce()
            result = await self._relay((reader, writer), confirm)
            up, down = result.bytes_up, result.bytes_down
            ended_by, reason = _ENDS[result.ended_by], reason_of(result.error)
        except Refused as refused:
            self._refused, outcome, reason = refused, "denied", str(refused)
            if refused.status is NTSTATUS.STATUS_ACCESS_DENIED:
                writer.write(rdp.ConnectionConfirm(failure_code=rdp.FailureCode.HYBRID_REQUIRED_BY_SERVER).encode())
        except asyncio.CancelledError:
            if not self._cut:
                raise
        finally:
            writer.close()
            self._ended(outcome, reason, ended_by=self._cut or ended_by, bytes_up=up, bytes_down=down)

    async def _look(self, source: RelayEnd, _: int, data: bytes) -> bool:
        """Look whether the target sends the client on to another host; False once that can be no more."""
        if source is RelayEnd.B:
            self._watch.receive(data)
        return self._watch.wants_more

    async def _relay(self, client: Streams, first_down: bytes, recording: Recording | None = None) -> RelayResult:
        """Relay within the limits."""
        assert self.leg is not None
        loop, limits = asyncio.get_running_loop(), self._slot.settings
        begun = loop.time()
        timer = loop.call_later(limits.total, self.cut, "total") if limits.total else None
        try:
            return await relay(
                client, self.leg.streams, first_down=first_down, idle_timeout=limits.idle, recording=recording
            )
        finally:
            self._seconds["relay"] = loop.time() - begun
            if timer is not None:
                timer.cancel()

    async def _exchange(self, client: Streams) -> tuple[int, bytes]:
        """Pass on the client's first PDU, and return its size and the target's answer, both rewritten.

        Each side is told of the protocols that it has negotiated itself ([MS-RDPBCGR] 5.4.2.1).
        """
        assert self.leg is not None
        target_writer = self.leg.streams[1]
        request = client[1].get_extra_info("rdp_request")
        selected = self.leg.confirm.selected_protocol
        assert isinstance(request, rdp.ConnectionRequest)
        assert request.requested_protocols is not None
        assert selected is not None
        async with asyncio.timeout(_MCS_TIMEOUT):
            first_up = rdp.rewrite_selected_protocol(await _first_pdu(client[0], "client"), selected)
            target_writer.write(first_up)
            early, answer = await self._answer(client[0])
            return len(first_up) + early, rdp.rewrite_requested_protocols(answer, request.requested_protocols)

    async def _answer(self, client: asyncio.StreamReader) -> tuple[int, bytes]:
        """Wait for the target's first PDU; pass on what the client sends meanwhile, and count it.

        Raises:
            EOFError: One of them has ended the connection.
        """
        assert self.leg is not None
        reader, writer = self.leg.streams
        early = 0

        async def pass_on() -> None:
            nonlocal early
            while data := await client.read(_READ_SIZE):
                early += len(data)
                writer.write(data)
                await writer.drain()

        passing = asyncio.create_task(pass_on())
        passing.add_done_callback(lambda task: None if task.cancelled() else writer.transport.abort())
        try:
            answer = await _first_pdu(reader, "target")
        except (OSError, EOFError):
            if client.at_eof() or client.exception() is not None:
                raise EOFError("the client ended the connection before the target's answer") from None
            raise
        finally:
            passing.cancel()
            await asyncio.wait([passing])
            _ = passing.cancelled() or passing.exception()  # said above
        return early, answer

    def _announce(self) -> None:
        """Tell all nodes that the connection is there."""
        assert self.leg is not None
        entry = Entry(
            id=self.id,
            node=self._node.name,
            user=str(self._account or self._claimed),
            target=self.leg.target,
            host=str(self.leg.address),
            client=str(Address(*self.peer[:2]) if isinstance(self.peer, tuple) else self.peer),
            since=time.time(),
        )
        self._node.announce(entry)

    def _ended(self, outcome: str, reason: str, *, ended_by: str = "", bytes_up: int = 0, bytes_down: int = 0) -> None:
        if self.leg is not None:
            self.leg.close()
        self._slot.close()
        self._node.withdraw(self.id)
        report, leg = self._report, self.leg
        told = bool(self._refused) or outcome == "denied"
        status = self._refused.status if self._refused else getattr(report and report.error, "nt_status", None)
        user, redirected = self._account or (report and report.principal), self._watch.found
        record = ConnectionRecord(
            connection_id=self.id,
            listener=str(self.plan.settings.address),
            peer=self.peer,
            user=str(user or ""),
            mechanism=report.info.mechanism if report and report.info and outcome != "passed_on" else "",
            target=self.target.name if self.target else "",
            host=str(leg.address) if leg else "",
            target_mechanism=leg.mechanism if leg else "",
            redirected_to=(redirected.host[:_LONGEST_NAME] or "a host without a name") if redirected else "",
            outcome=outcome,
            ended_by=ended_by,
            reason=reason,
            limit=_limit(self._refused, outcome, ended_by),
            status=str(status or "") if told else "",
            seconds=self._seconds,
            bytes_up=bytes_up,
            bytes_down=bytes_down,
        )
        self._on_end(self, record)


async def _first_pdu(reader: asyncio.StreamReader, whose: str) -> bytes:
    try:
        return await rdp.read_pdu(reader)
    except EOFError:
        raise EOFError(f"the {whose} ended the connection before its own") from None


def _is_wrong_password(error: CredSSPError | None) -> bool:
    """Whether the client was told the same as of a wrong password, as of an account that does not exist."""
    return type(error) is AuthenticationError and error.nt_status is NTSTATUS.STATUS_LOGON_FAILURE


def _limit(refused: Refused | None, outcome: str, ended_by: str) -> str:
    """Return the limit that refused or ended a connection; empty for none."""
    if isinstance(refused, Limited):
        return refused.limit
    if outcome == "limited":
        return "handshakes"
    return ended_by if ended_by in {"idle", "total"} else ""


def _passed_on(request: rdp.ConnectionRequest | None, route: Route) -> rdp.ConnectionRequest | None:
    """Return what the target gets of the client's request: not the token that has led here, which is ours."""
    if request is None or route.settings.token is None:
        return request
    return dataclasses.replace(request, routing_token=None)


def _password_of(who: Admission, target: Target) -> Password:
    if not isinstance(who.credentials, TSPasswordCreds) or who.info.delegated is DelegatedKind.NOTHING:
        raise _no_password(target, who.credentials.kind)
    try:
        return who.credentials.as_password()
    except ValueError:
        reason = f"target {target.name}: the user delegated a name with a domain in front beside another domain"
        raise Refused(reason, NTSTATUS.STATUS_LOGON_FAILURE) from None


def _password_with(grant: Grant | None, target: Target) -> Password:
    if grant is None or not grant.account:
        reason = f"target {target.name}: expected a token with account and password, got none of them"
        raise Refused(reason, NTSTATUS.STATUS_ACCOUNT_RESTRICTION)
    return Password(grant.password, *split_account(grant.account))


def _no_password(target: Target, kind: DelegatedKind) -> Refused:
    reason = f"target {target.name}: expected the user to delegate a password, got {kind.value}"
    return Refused(reason, NTSTATUS.STATUS_ACCOUNT_RESTRICTION)
