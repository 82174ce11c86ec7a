"""One connection of the gateway, from its accept to its end.

    begin           the connection counts for the limits, and its client gets a time to send the Connection Request
    front           the hooks of the handshake ask the connection's `Front`, which makes the leg to the target
    handshake_ended the handshake with the client has succeeded or failed
    serve           the first PDUs of MCS are rewritten; then bytes pass until both legs have ended

If the route's mode is `passthrough`, `_pass_on` takes the place of the last two, and passes the bytes undecrypted.
`_ended` reports the end of each connection exactly once, whatever the cause.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from acredssp import NTSTATUS, CredSSPError, HandshakeReport, aio, connection_id, rdp, relay, take_credentials
from acredssp.accounts import AccountNames
from acredssp.proxy.front import Front, ListenerPlan
from acredssp.proxy.leg import Leg
from acredssp.proxy.limits import Limited, Slot
from acredssp.proxy.passthrough import connect
from acredssp.proxy.records import ConnectionRecord, limit_of
from acredssp.proxy.refused import Refused
from acredssp.proxy.routing import Route
from acredssp.stores import Entry, Kick, Node
from acredssp.workers import Address

__all__ = ["Connection"]

_GRACE: Final = 10.0
"""Seconds that a side has to end once the other one has ended."""
_FIRST_PDUS: Final = 30.0
"""Seconds for the first PDU of MCS of either side. Both send it at once."""
_LONGEST_NAME: Final = 255
_ENDS: Final = {aio.RelayEnd.A: "client", aio.RelayEnd.B: "target", aio.RelayEnd.IDLE: "idle"}


class Connection:
    """A connection: the session object of its handshake, and what follows.

    Args:
        plan: The listener's plan when the connection came.
        peer: The client's address.
        slot: What it counts for; given back at the end.
        node: What is shared with other nodes.
        on_end: Called once with the record, when all of it has ended.

    Attributes:
        id: What the log's records of both legs have as `connection_id`.
        front: Whose it is, where it leads, and the leg to its target.
    """

    def __init__(
        self,
        plan: ListenerPlan,
        peer: object,
        slot: Slot,
        node: Node,
        on_end: Callable[["Connection", ConnectionRecord], None],
    ) -> None:
        self.id = connection_id()
        self.front = Front(plan, aio.source_of(peer), slot, node, self._passthrough, plan.routes)
        self._record = ConnectionRecord(connection_id=self.id, listener=str(plan.settings.address), peer=peer)
        self._on_end = on_end
        self._silence: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._cut = ""
        self._watch = rdp.RedirectionWatch()

    # --- its life ---

    def begin(self) -> None:
        """Count the connection, and wait for the client's Connection Request for as long as `first_bytes` says.

        The server's `accept` calls this, in the task of the handshake.

        Raises:
            Limited: There are too many connections; this one has ended.
        """
        self._task = asyncio.current_task()
        try:
            self.front.slot.take("connections")
            self.front.slot.take("connections_per_source", self.front.source)
        except Limited as limited:
            self.front.refused = limited
            self._record.reason = str(limited)
            self._ended("limited")
            raise
        self._silence = asyncio.get_running_loop().call_later(self.front.slot.settings.first_bytes, self._late)

    def cut(self, why: str) -> None:
        """End the connection at once; harmless when it has ended.

        Args:
            why: What the record has as `ended_by`, in a word.
        """
        self._cut = self._cut or why
        if self._writer is not None:
            self._writer.transport.abort()
            if self.front.leg is not None:  # else the relay waits until the target has taken its bytes
                self.front.leg.streams[1].transport.abort()
        elif self._task is not None:
            self._task.cancel()

    def is_meant(self, kick: Kick) -> bool:
        """Whether a kick is for this connection. Who logs on at the target is known by token or cookie alone."""
        if kick.connection:
            return kick.connection == self.id
        account, claimed, domains = self.front.account, self.front.claimed, self.front.plan.domains
        if account is not None:
            return account in AccountNames([kick.user], domains)
        kicked, claims = domains.account(kick.user), domains.account(claimed)
        return claims in AccountNames([kick.user], domains) or kicked in AccountNames([claimed], domains)

    def route(self, asked: rdp.RouteRequest) -> rdp.RouteAnswer | Awaitable[rdp.RouteAnswer]:
        """Choose the route after the client's Connection Request has come. This is the server's hook `route`."""
        self._heard()
        return self.front.route(asked)

    def handshake_ended(self, report: HandshakeReport) -> None:
        """Note how the handshake with the client ended. This is the server's hook `on_handshake`."""
        self._heard()
        self.front.ended(report.error)
        record = self._record
        record.user = str(self.front.account or report.principal or "")
        if report.info is not None and report.outcome is not aio.HandshakeOutcome.PASSED_ON:
            record.mechanism = report.info.mechanism
        record.seconds |= {"front": report.elapsed} | (self.front.leg.seconds if self.front.leg else {})
        if report.error is not None:
            record.reason, record.limit = str(self.front.refused or report.error), limit_of(report)
            if self.front.waits_for and self.front.refused is None:
                record.reason += f" (no answer came from {self.front.waits_for})"
            self._ended(str(report.outcome), getattr(report.error, "nt_status", None))

    def _late(self) -> None:
        most = self.front.slot.settings.first_bytes
        self.front.refused = Limited("first_bytes", f"no Connection Request came within {most:g} seconds")
        self.cut("first_bytes")

    def _heard(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    # --- behind the front ---

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes between client and target until both have ended."""
        assert self.front.leg is not None
        self._writer = writer
        loop, outcome = asyncio.get_running_loop(), "no_session"
        credentials, begun, late = take_credentials(writer), loop.time(), loop.call_later(_FIRST_PDUS, self._no_session)
        if credentials is not None:
            credentials.zero()
        if self._cut:
            writer.transport.abort()
        self._announce(self.front.leg)
        try:
            first_up, first_down = await aio.exchange_mcs((reader, writer), self.front.leg.streams)
            late.cancel()
            self._record.seconds["mcs"] = loop.time() - begun
            outcome = "relayed"
            await self._relay((reader, writer), self.front.leg, first_down, aio.Recording(sink=self._look, lossy=True))
            self._record.bytes_up += first_up
        except (OSError, EOFError, CredSSPError) as error:
            why = self._record.reason or error or type(error).__name__
            self._record.reason = f"the first PDUs of MCS could not be passed on: {why}"
        finally:
            late.cancel()
            writer.transport.abort()
            self._ended(outcome)

    def _no_session(self) -> None:
        assert self._writer is not None
        self._record.reason = f"they did not come within {_FIRST_PDUS:g} seconds"
        self._writer.transport.abort()

    @staticmethod
    def _passthrough(route: Route, asked: rdp.RouteRequest) -> rdp.Passthrough:
        connection: Connection = asked.session  # a method of it would make it a part of a reference cycle
        return rdp.Passthrough(lambda *streams: connection._pass_on(route, asked, *streams))

    async def _pass_on(
        self, route: Route, asked: rdp.RouteRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass the bytes of a connection on undecrypted until both sides have ended."""
        assert route.target is not None
        self._task = asyncio.current_task()
        outcome = "no_session"
        try:
            if self._cut:
                return
            logon = self.front.slot.settings.logon
            leg, early, confirm = await connect(route.target, route.settings, asked, (reader, writer), logon)
            outcome = "passed_on"
            self.front.leg, self._writer = leg, writer
            self._record.seconds |= leg.seconds
            self._announce(leg)
            await self._relay((reader, writer), leg, confirm)
            self._record.bytes_up += early
        except aio.ClientLeft as error:
            self._record.reason, self._record.ended_by = str(error), "client"
        except Refused as refused:
            self.front.refused, self._record.reason, outcome = refused, str(refused), "denied"
            if refused.status is NTSTATUS.STATUS_ACCESS_DENIED:
                refusal = rdp.ConnectionConfirm(failure_code=rdp.FailureCode.HYBRID_REQUIRED_BY_SERVER)
                aio.write_if_open(writer, refusal.encode())
        except asyncio.CancelledError:
            if not self._cut:
                raise
        finally:
            writer.close()
            self._ended(outcome)

    def _look(self, source: aio.RelayEnd, offset: int, data: bytes) -> bool:
        """Look for a redirection in what the target sends; return whether one may still come."""
        if source is aio.RelayEnd.B and offset:  # the first piece is the Connect-Response
            self._watch.receive(data)
        return self._watch.wants_more

    async def _relay(
        self, client: aio.Streams, leg: Leg, first_down: bytes, recording: aio.Recording | None = None
    ) -> None:
        """Relay until both sides have ended or a limit is reached; record the bytes, and the side that ended first."""
        loop, limits, record = asyncio.get_running_loop(), self.front.slot.settings, self._record
        begun = loop.time()
        timer = loop.call_later(limits.total, self.cut, "total") if limits.total else None
        try:
            result = await relay(
                client,
                leg.streams,
                first_down=first_down,
                idle_timeout=limits.idle,
                half_open_timeout=_GRACE,
                recording=recording,
            )
        finally:
            record.seconds["relay"] = loop.time() - begun
            if timer is not None:
                timer.cancel()
        record.bytes_up, record.bytes_down = result.bytes_up, result.bytes_down
        record.ended_by, record.reason = _ENDS[result.ended_by], aio.reason_of(result.error)

    def _announce(self, leg: Leg) -> None:
        """Enter the connection in the directory, which all nodes read."""
        record, node, user = self._record, self.front.node, str(self.front.account or self.front.claimed)
        record.host = str(leg.address)
        client = str(Address(*record.peer[:2]) if isinstance(record.peer, tuple) else record.peer)
        entry = {"user": user, "target": leg.target, "host": record.host, "client": client}
        node.announce(Entry(id=self.id, node=node.name, since=time.time(), **entry))

    def _ended(self, outcome: str, status: object = None) -> None:
        """Give back the connection's slot and its leg, complete the record, and report the record.

        Args:
            outcome: The outcome for the record.
            status: The NTSTATUS that the library has sent to the user. It is recorded unless the gateway refused.
        """
        record, leg, refused, found = self._record, self.front.leg, self.front.refused, self._watch.found
        self.front.slot.close()
        self.front.node.withdraw(self.id)
        if leg is not None:
            leg.close()
            record.host, record.target_mechanism = record.host or str(leg.address), leg.mechanism
        if found is not None:
            record.redirected_to = found.host[:_LONGEST_NAME] or "a host without a name"
        record.target = self.front.target.name if self.front.target else ""
        record.target_user = self.front.target_user
        record.outcome, record.ended_by = outcome, self._cut or record.ended_by
        record.limit = record.limit or (record.ended_by if record.ended_by in {"idle", "total"} else "")
        if isinstance(refused, Limited):
            record.limit = refused.limit
        if refused is not None or outcome == "denied":
            record.status = str((refused.status if refused else status) or "")
        # The writer knows this object as its session: a reference cycle would keep both TLS sessions.
        self._writer = self._task = None
        self._on_end(self, record)
