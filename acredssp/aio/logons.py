"""The logons of a server whose transport is the program's own, such as HTTP: limits, reports and the log.

`create_server` does all of this for its own connections.
"""

import asyncio
import functools
from typing import Final

from acredssp.aio.answers import ServerAnswers
from acredssp.aio.failures import FailureLimit, Failures
from acredssp.aio.handshake import new_connection_id
from acredssp.aio.pacing import Pacing
from acredssp.aio.report import HandshakeHook, HandshakeOutcome, HandshakeReport, log_report, outcome_of
from acredssp.aio.sources import source_of
from acredssp.arguments import expect, expect_count
from acredssp.carriage.base import CarriedHandshake
from acredssp.config import ServerConfig
from acredssp.errors import CredSSPError
from acredssp.logs import CONNECTION_ID

__all__ = ["ServerLogon", "ServerLogons"]

_REFUSED: Final = frozenset({HandshakeOutcome.DENIED, HandshakeOutcome.FAILED})


class ServerLogons:
    """The logons of one server: its hooks, its limit of wrong passwords, and its reports.

    Args:
        config: The server's configuration, which has the hooks.
        max_failures: How many wrong passwords a source may send for an account; None for no limit.
        max_failed_per_second: How many logons of a source may fail in a second before its next ones have to wait; None
            for no limit.
        on_handshake: Called with a report once each logon has ended.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        max_failures: FailureLimit | None = None,
        max_failed_per_second: int | None = None,
        on_handshake: HandshakeHook | None = None,
    ) -> None:
        expect("max_failed_per_second", max_failed_per_second, int, None)
        if max_failed_per_second is not None:
            expect_count("max_failed_per_second", max_failed_per_second)
        self._config = config
        self._max_failures = max_failures
        self._on_handshake = on_handshake
        self._failures: Failures | None = None
        self._pacing = Pacing(max_failed_per_second) if max_failed_per_second is not None else None

    def wait(self, peer_address: object) -> float:
        """Return the seconds that a peer has to wait before the server reads the first token of its next logon."""
        if self._pacing is None:
            return 0.0
        return self._pacing.wait(source_of(peer_address), asyncio.get_running_loop().time())

    def begin(
        self,
        carried: CarriedHandshake,
        peer_address: object = None,
        deadline: float | None = None,
        *,
        started: float | None = None,
    ) -> "ServerLogon":
        """Begin a logon; a loop has to run.

        Args:
            carried: The handshake: the `SecurityContext`, where no carriage is around it.
            peer_address: The peer's address, as `get_extra_info("peername")` gives it.
            deadline: The moment at which the logon must have ended, in the loop's time; None without a deadline.
            started: The moment from which the report counts; None for now.
        """
        loop = asyncio.get_running_loop()
        if self._failures is None and self._max_failures is not None:
            self._failures = Failures(self._max_failures, loop.time, loop.call_at)
        refuses = None
        if self._failures is not None:
            refuses = functools.partial(self._failures.refuses, source_of(peer_address))
        answers = ServerAnswers(self._config, carried, peer_address, deadline, refuses=refuses)
        return ServerLogon(self, carried, answers, peer_address, loop.time() if started is None else started)

    def note(self, report: HandshakeReport) -> None:
        """Log a report, count it for the limits, and give it to `on_handshake`."""
        log_report(report)
        if self._failures is not None:
            self._failures.note(source_of(report.peer_address), report)
        if self._pacing is not None:
            self._pacing.note(source_of(report.peer_address), report, asyncio.get_running_loop().time())
        if self._on_handshake is not None:
            self._on_handshake(report)


class ServerLogon:
    """One logon at a server.

    Attributes:
        answers: The answers to its events, for `answer_events()`.
        connection_id: The `connection_id` of its records in the log.
        concluded: Whether its end was reported.
    """

    def __init__(
        self,
        logons: ServerLogons,
        carried: CarriedHandshake,
        answers: ServerAnswers,
        peer_address: object,
        started: float,
    ) -> None:
        self._logons = logons
        self._carried = carried
        self._peer_address = peer_address
        self._started = started
        self.answers = answers
        self.connection_id = new_connection_id()
        self.concluded = False

    def name_records(self) -> None:
        """Give the log's records of the calling task this connection's id, from here on."""
        CONNECTION_ID.set(self.connection_id)

    def conclude(self, error: CredSSPError | None) -> None:
        """Report how the logon has ended; a second call does nothing.

        Args:
            error: Why it failed; None for a success.
        """
        if self.concluded:
            return
        self.concluded = True
        answers, info = self.answers, self._carried.context.info
        outcome, hook = outcome_of(error), ""
        if outcome in _REFUSED and answers.refusal is not None:
            hook, outcome = answers.refusal
        elif outcome is HandshakeOutcome.TIMEOUT:
            hook = answers.running
        self._logons.note(
            HandshakeReport(
                peer_address=self._peer_address,
                error=error,
                info=info,
                principal=info.principal or answers.principal,
                server_name=answers.server_name,
                elapsed=asyncio.get_running_loop().time() - self._started,
                outcome=outcome,
                hook=hook,
                connection_id=self.connection_id,
            )
        )
