"""How a handshake ended: the report for the application, and the line in the log.

Text from a peer is made printable and cut to length before it gets into a line, so that no peer can write a second line
into the log, or move the cursor of a terminal that shows the log.

`handshake` and `server` call this module once for each handshake; `asking` uses its functions for texts.
"""

import dataclasses
import enum
import logging
import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from acredssp.core.results import HandshakeInfo
from acredssp.credentials import Account
from acredssp.errors import AuthenticationError, CredSSPError, HandshakeAborted, HandshakeTimeout, PeerClosed
from acredssp.logs import get_logger
from acredssp.mechanisms.base import Principal
from acredssp.wire.proxy_header import ProxyHeader
from acredssp.wire.x224 import ConnectionRequest

__all__ = [
    "HandshakeHook",
    "HandshakeOutcome",
    "HandshakeReport",
    "Sparingly",
    "address_text",
    "log_report",
    "outcome_of",
    "printable",
]

_logger = get_logger("acredssp")

_LONGEST: Final = 256
"""The most characters of a peer's text in a line: more than any name of Windows has."""


class HandshakeOutcome(enum.StrEnum):
    """The result of a handshake, for the operator: the peer is told less.

    Attributes:
        SUCCESS: The context is established.
        PASSED_ON: The server's `route` hook passed the connection on undecrypted. Nobody has logged on.
        DENIED: The logon or the user was refused: by the hook that the report names, or else for a wrong secret.
        FAILED: Protocol, TLS or policy failed; where the report names a hook, that hook raised an exception.
        TIMEOUT: The peer was too slow; where the report names a hook, that hook was too slow.
        BAD_ANSWER: The hook that the report names returned a value that is no answer.
        LEFT: The peer, or the network, ended the connection during the handshake.
        NO_DATA: The peer ended the connection before it had sent a byte, as the probes of load balancers do.
        LIMITED: A limit of the server turned the peer away: handshakes at a time, or wrong passwords.
        ABORTED: This program ended the handshake: the server closed its clients, or the task was cancelled.
    """

    SUCCESS = "success"
    PASSED_ON = "passed_on"
    DENIED = "denied"
    FAILED = "failed"
    TIMEOUT = "timeout"
    BAD_ANSWER = "bad_answer"
    LEFT = "left"
    NO_DATA = "no_data"
    LIMITED = "limited"
    ABORTED = "aborted"


_QUIET: Final = frozenset({HandshakeOutcome.SUCCESS, HandshakeOutcome.PASSED_ON, HandshakeOutcome.NO_DATA})
"""The outcomes that are logged at the level DEBUG."""


@dataclasses.dataclass(frozen=True, slots=True)
class HandshakeReport:
    """The report of one handshake that has ended. It holds no secret.

    Attributes:
        peer_address: The peer's address, as `get_extra_info("peername")` gives it.
        error: Why the handshake failed, with `stage`, `security_status` and `nt_status`; None for a success,
            and where the connection was passed on.
        info: The facts that were known at the end; None if the connection was turned away at once.
        principal: The name that the peer gave, which only a success proves; None if the handshake ended before the
            peer gave it.
        server_name: The name for which the client asked by SNI; empty if it asked for none.
        cookie: RDP: the `mstshash` cookie; empty if there was none.
        elapsed: Seconds since the connection was accepted.
        request: RDP: the client's whole Connection Request, with routing token and correlation id; None if none came.
        outcome: The result in one word.
        hook: The hook that refused, failed or was late: `"accept"`, `"route"`, `"lookup"`, `"oracle"`, `"authorize"` or
            `"admit"`; empty if no hook decided the outcome.
        session: The session object that the server's `accept` returned; None without one.
        connection_id: The `connection_id` of this connection's records in the log.
        proxy_header: What a load balancer has sent in front (`proxy_protocol`); None for nothing.
    """

    peer_address: object
    error: CredSSPError | None
    info: HandshakeInfo | None
    principal: Principal | None
    server_name: str = ""
    cookie: str = ""
    elapsed: float = 0.0
    request: ConnectionRequest | None = None
    outcome: HandshakeOutcome = HandshakeOutcome.FAILED
    hook: str = ""
    session: Any = None
    connection_id: str = ""
    proxy_header: ProxyHeader | None = None

    @property
    def account(self) -> Account | None:
        """The account that logged on, or was refused behind its proof, however the peer wrote its name.

        None unless the logon is proven.
        """
        principal = self.info.principal if self.info is not None else None
        return principal.account if principal is not None else None


class Sparingly:
    """Lets one event a second through: a client that is turned away returns at once, and each line costs time."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = -math.inf

    def lets(self, now: float) -> bool:
        """Return whether an event is let through.

        Args:
            now: The time of the event, in seconds of any clock.
        """
        if now < self._next:
            return False
        self._next = now + 1.0
        return True


HandshakeHook: TypeAlias = Callable[[HandshakeReport], object]
"""A plain function that is called once for each handshake, before the application gets the connection. Its result is
ignored."""


def outcome_of(error: CredSSPError | None, *, heard: bool = True) -> HandshakeOutcome:
    """Return the outcome of a handshake, as far as its error tells.

    Args:
        error: The error that ended the handshake; None for a success.
        heard: Whether the peer sent anything.
    """
    match error:
        case None:
            return HandshakeOutcome.SUCCESS
        case AuthenticationError():
            return HandshakeOutcome.DENIED
        case HandshakeTimeout():
            return HandshakeOutcome.TIMEOUT
        case PeerClosed():
            return HandshakeOutcome.LEFT if heard else HandshakeOutcome.NO_DATA
        case HandshakeAborted():
            return HandshakeOutcome.ABORTED
        case _:
            return HandshakeOutcome.FAILED


def log_report(report: HandshakeReport, *, quiet: bool = False) -> None:
    """Write a server's log line for one handshake. Its first words never change, so that filters can find the address.

    Args:
        report: The handshake's report.
        quiet: Whether to log it at the level DEBUG only.
    """
    error, outcome = report.error, report.outcome
    late = isinstance(error, HandshakeTimeout) and report.hook  # a hook over its own time limit is already logged
    level = logging.DEBUG if quiet or outcome in _QUIET else logging.WARNING if late else logging.INFO
    if not _logger.isEnabledFor(level):
        return
    peer, extra = address_text(report.peer_address), {"connection_id": report.connection_id}
    if outcome is HandshakeOutcome.PASSED_ON:
        _logger.log(level, "connection of %s passed on undecrypted", peer, extra=extra)
    elif error is None:
        _logger.log(level, "handshake with %s established", peer, extra=extra)
    else:
        _logger.log(level, "handshake with %s failed: %s, %s", peer, outcome, _reason(report, error), extra=extra)


def _reason(report: HandshakeReport, error: CredSSPError) -> str:
    facts = {
        "hook": report.hook,
        "claimed": report.principal,
        "account": report.account if str(report.account) != str(report.principal) else None,
        "stage": error.stage,
        "status": error.security_status,
        "nt status": error.nt_status,
    }
    told = "".join(f"{name} {printable(str(value))}, " for name, value in facts.items() if value)
    return f"{told}error {printable(str(error))}"


def address_text(address: object) -> str:
    """Return a peer's address for a line of text."""
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = str(address[0]), address[1]
        return printable(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    return printable(str(address)) if address else "somewhere"


def printable(text: str) -> str:
    """Return `text` in one line of bounded length, with every control character escaped."""
    shown = text[:_LONGEST]
    if not shown.isprintable():
        shown = "".join(map(_printable, shown))
    return shown if len(text) <= _LONGEST else f"{shown}..."


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
