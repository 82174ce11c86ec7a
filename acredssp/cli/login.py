"""`acredssp login`: one logon on a server, and how it went."""

import asyncio
import contextlib
import dataclasses
import logging
import socket
import time
from typing import Any, cast

from acredssp.aio.handshake import Handshake, Names
from acredssp.aio.protocol import CredSSPProtocol
from acredssp.aio.transport import SecureTransport, start_application
from acredssp.carriage.base import Carriage, NewContext, Sequence
from acredssp.cli.arguments import Address
from acredssp.cli.nobody import Nobody
from acredssp.cli.outcome import ConnectError, reason_of
from acredssp.cli.report import LoginReport
from acredssp.config import ClientConfig, ServerConfig
from acredssp.core.context import Buffer, HandshakeInfo, SecurityContext, StepResult
from acredssp.errors import CredSSPError, HandshakeTimeout
from acredssp.status import Stage

__all__ = ["Login", "log_on"]

_logger = logging.getLogger("acredssp.login")

_CLOSE_GRACE = 1.0
"""Seconds that a server gets to take our close_notify; nothing depends on it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What to do."""

    address: Address
    config: ClientConfig
    carriage: Carriage
    server_hostname: str
    """The name for SNI, and the one that the certificate must have."""
    spn: str | None
    """None for `TERMSRV/` and `server_hostname`; no KDC is asked for an IP address then."""
    timeout: float
    """Seconds for connecting and the handshake together."""


class _Watched:
    """A carriage that remembers the context it was given: the facts of a handshake that failed are in there."""

    def __init__(self, carriage: Carriage) -> None:
        self._carriage = carriage
        self._context: SecurityContext | None = None

    def initiator(self, context: SecurityContext) -> Sequence:
        self._context = context
        sequence = self._carriage.initiator(context)
        return cast("Sequence", _Told(sequence)) if _logger.isEnabledFor(logging.DEBUG) else sequence

    def acceptor(self, config: ServerConfig, new_context: NewContext = ServerConfig.new_context) -> Sequence:  # noqa: ARG002
        raise AssertionError("login is a client")

    @property
    def info(self) -> HandshakeInfo | None:
        """The facts as far as they came."""
        with contextlib.suppress(CredSSPError):  # a certificate whose key cannot be read has no fingerprint either
            return self._context.info if self._context else None
        return None


class _Told:
    """A sequence whose steps are logged: how many bytes came and went, and where the handshake stands then."""

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sequence, name)

    def step(self, data: Buffer = b"") -> StepResult:
        result = self._sequence.step(data)
        self._tell(f"took {len(data) - result.extra} bytes", result)
        return result

    def resume(self, answer: object, early: Buffer = b"") -> StepResult:
        result = self._sequence.resume(answer, early)
        self._tell("got an answer", result)
        return result

    def _tell(self, what: str, result: StepResult) -> None:
        asked = f", asks {type(result.event).__name__}" if result.event else ""
        _logger.debug(
            "%s, sends %d bytes%s: tls %s, credssp %s",
            what,
            len(result.output),
            asked,
            self._sequence.context.info.tls_version or "not up",
            self._sequence.context.state.name,
        )


async def log_on(login: Login) -> tuple[LoginReport, CredSSPError | None]:
    """Log on and close again; return the report, and why it failed (None: it did not)."""
    started = time.perf_counter()
    carriage = _Watched(login.carriage)
    error: CredSSPError | None = None
    transport: SecureTransport | None = None
    try:
        connection = await _connect(login)
        left = login.timeout - (time.perf_counter() - started)
        transport = await _handshake(connection, login, carriage, left)
    except CredSSPError as failure:
        error = failure
    elapsed = time.perf_counter() - started
    if transport is not None:
        await _close(transport)
    _logger.debug("%s after %.1f ms", "failed" if error else "logged on", elapsed * 1000)
    return LoginReport.of(error, carriage.info, elapsed), error


async def _handshake(connection: CredSSPProtocol, login: Login, carriage: Carriage, left: float) -> SecureTransport:
    names = Names(None, login.server_hostname, login.spn)
    try:
        handshake = Handshake(connection, login.config, carriage, names=names, timeout=left)
    except BaseException:  # the handshake could not even begin
        connection.abort()
        raise
    return await handshake.run()


async def _connect(login: Login) -> CredSSPProtocol:
    """Make the TCP connection; whatever is wrong with it is a `CredSSPError` of stage CONNECT.

    The connection keeps what a server says before the handshake begins: an SSH server greets, for one.
    """
    address, loop = login.address, asyncio.get_running_loop()
    _logger.debug("connecting to %s", address)
    try:
        async with asyncio.timeout(login.timeout):
            transport, connection = await loop.create_connection(CredSSPProtocol, address.host, address.port)
    except TimeoutError:
        raise HandshakeTimeout(f"no connection to {address}", stage=Stage.CONNECT) from None
    except socket.gaierror as error:
        raise ConnectError(
            f"cannot find {address.host}: {reason_of(error)}", stage=Stage.CONNECT, hint="check the name of the host"
        ) from None
    except (OSError, UnicodeError) as error:
        raise ConnectError(
            f"cannot connect to {address}: {reason_of(error)}",
            stage=Stage.CONNECT,
            hint="check that a server listens at this address",
        ) from None
    _logger.debug("connected to %s", transport.get_extra_info("peername"))
    return connection


async def _close(transport: SecureTransport) -> None:
    protocol = start_application(transport, Nobody)
    transport.close()
    try:
        async with asyncio.timeout(_CLOSE_GRACE):
            await protocol.ended
    except TimeoutError:
        transport.abort()
