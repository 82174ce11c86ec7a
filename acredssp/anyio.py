"""CredSSP on anyio, and so on trio as well as on asyncio: clients and servers over any byte stream of anyio.

    async with await open_connection("server.contoso.example", 3389, config=config) as stream:
        await stream.send(b"hello")
        print(await stream.receive(), stream.info)

The engine, the configurations, the checks of hooks and the reports are those of `acredssp.aio`. A server is a listener
of anyio whose handler calls `start_credssp`; it has no limits by source (docs/anyio.md).
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from acredssp.aio.answers import ClientAnswers, ServerAnswers, no_kdc
from acredssp.aio.asking import Asking, passes
from acredssp.aio.driver import Pending
from acredssp.aio.handshake import Names, aborted, new_connection_id, report_of
from acredssp.aio.report import log_report
from acredssp.arguments import expect
from acredssp.carriage.base import TLS, Carriage, CarriedHandshake
from acredssp.carriage.checked import checked
from acredssp.config import ClientConfig, ServerConfig
from acredssp.core.events import Event, StepMechanism, outcome_of_step
from acredssp.errors import CredSSPError, HandshakeAborted, HandshakeTimeout, PeerClosed, TLSError
from acredssp.logs import CONNECTION_ID
from acredssp.policy import Policy
from acredssp.status import SecurityStatus, Stage
from acredssp.tracebacks import forget_locals
from acredssp.wire.ts_credentials import TSCredentials

try:
    import anyio
    from anyio.abc import ByteStream, SocketAttribute
    from anyio.lowlevel import RunVar, checkpoint
except ImportError as error:
    raise ImportError("acredssp.anyio needs anyio: pip install 'acredssp[anyio]'") from error

__all__ = ["SecureStream", "open_connection", "start_credssp"]

_GRACE: Final = 1.0, 0.1
"""Seconds that a peer gets to take our last bytes, and to act on an errorCode before close_notify (`aio.driver`)."""
_PIECE: Final = 64 * 1024  # bytes that are encrypted and sent at a time
_LOST: Final = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
_kdc_threads: Final[RunVar[anyio.CapacityLimiter]] = RunVar("acredssp_kdc_threads")
"""The limit for threads that ask a KDC: if it is silent, no other threads may have to wait."""


class SecureStream(ByteStream):
    """The stream inside of TLS, after the logon. One task may receive while others send.

    Attributes:
        info: The facts of the handshake, a `HandshakeInfo`.
        connection_id: The id of this connection's records in the log.
    """

    def __init__(self, stream: ByteStream, carried: CarriedHandshake, rest: bytes, connection_id: str) -> None:
        assert carried.context.tls is not None
        self.info, self.connection_id = carried.context.info, connection_id
        self._stream, self._tls = stream, carried.context.tls
        self._credentials = carried.context.take_credentials()
        self._plain, self._rest = carried.context.trailing_data, rest
        self._sending = anyio.Lock()
        self._broken = self._closed = False

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The typed attributes of the stream below, for `extra()`, such as the `SocketAttribute.remote_address`."""
        return self._stream.extra_attributes

    def take_credentials(self) -> TSCredentials | None:
        """Return the credentials that the client delegated. Later calls return None, and so does a client's stream."""
        credentials, self._credentials = self._credentials, None
        return credentials

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return at least one byte, and at most `max_bytes`.

        Raises:
            anyio.EndOfStream: The peer has ended its direction by close_notify.
            anyio.BrokenResourceError: The connection is lost. Its cause is a `PeerClosed` where it ended without
                close_notify, and a `TLSError` where a record did not verify.
        """
        while not self._plain:
            if self._tls.peer_closed:
                raise anyio.EndOfStream
            try:
                ciphertext, self._rest = self._rest or await self._stream.receive(), b""
                self._plain = self._tls.read(ciphertext)
            except anyio.EndOfStream:
                lost = PeerClosed(
                    "the connection ended without close_notify: data may be missing", stage=Stage.ESTABLISHED
                )
                raise anyio.BrokenResourceError from lost
            except TLSError as error:
                await self._send()  # the alert
                raise anyio.BrokenResourceError from error
            await self._send()  # there may be an answer to a key update
        data, self._plain = self._plain[:max_bytes], self._plain[max_bytes:]
        return data

    async def send(self, item: bytes) -> None:
        """Encrypt bytes and send them. A call that is cancelled leaves the stream broken, as a record may be cut."""
        for start in range(0, len(item), _PIECE):
            await self._send(item[start : start + _PIECE])

    async def send_eof(self) -> None:
        """End our direction by close_notify; the peer may go on."""
        self._tls.close()
        await self._send()

    async def aclose(self) -> None:
        """Send close_notify, which a peer gets a second to take, and close the stream below."""
        if not self._closed:
            self._closed = True
            if (credentials := self.take_credentials()) is not None:
                credentials.zero()
            try:
                with anyio.move_on_after(_GRACE[0]), contextlib.suppress(*_LOST):
                    await self.send_eof()
            finally:
                await self._stream.aclose()

    async def _send(self, plaintext: bytes = b"") -> None:
        async with self._sending:
            if plaintext:
                if self._broken or self._tls.closed:
                    raise anyio.BrokenResourceError if self._broken else anyio.ClosedResourceError
                self._tls.write(plaintext)
            if self._tls.has_output and not self._broken:
                self._broken = True
                await self._stream.send(self._tls.output())
                self._broken = False


async def open_connection(  # noqa: PLR0913 - the names of a server
    host: str,
    port: int,
    *,
    config: ClientConfig,
    carriage: Carriage = TLS(),  # noqa: B008 - a frozen value
    server_hostname: str | None = None,
    spn: str | None = None,
) -> SecureStream:
    """Connect to a server by TCP, log on, and return the stream inside.

    Args:
        host: The server's name or address.
        port: The server's TCP port.
        config: The credentials, which servers are trusted, and the policy, which has the time limits.
        carriage: The protocol around CredSSP: `TLS()`, or `RDP(...)`.
        server_hostname: The name for SNI, which the certificate must have; None for `host`.
        spn: The service principal name; None for `TERMSRV/` and `host`.

    Raises:
        CredSSPError: The handshake failed; the connection is closed.
        OSError: There is no connection.
    """
    expect("config", config, ClientConfig)
    names = Names(host, server_hostname, spn)
    carried = names.carried(config, carriage)
    stream = await anyio.connect_tcp(host, port)
    return await _log_on(stream, config.policy, carried, ClientAnswers(config, names.for_tls))


async def start_credssp(
    stream: ByteStream,
    config: ClientConfig | ServerConfig,
    *,
    carriage: Carriage = TLS(),  # noqa: B008 - a frozen value
    server_hostname: str | None = None,
    spn: str | None = None,
) -> SecureStream:
    """Make the handshake of a client or a server over a stream that is connected, and return the stream inside.

    Args:
        stream: The connection.
        config: The configuration of a client or of a server. Its policy has the time limits.
        carriage: The protocol around CredSSP.
        server_hostname: Client: the name for SNI, which the certificate must have.
        spn: Client: the service principal name; None for `TERMSRV/` and `server_hostname`.

    Raises:
        CredSSPError: The handshake failed; the stream is closed.
        TypeError, ValueError: An argument is impossible, or a client has no `server_hostname`.
    """
    expect("config", config, ClientConfig, ServerConfig)
    if isinstance(config, ClientConfig):
        names = Names(None, server_hostname, spn)
        carried = names.carried(config, carriage)
        return await _log_on(stream, config.policy, carried, ClientAnswers(config, names.for_tls))
    carried = checked(carriage, carriage.acceptor(config))
    return await _log_on(stream, config.policy, carried, _ServerAnswers(config, carried, stream))


async def _log_on(
    stream: ByteStream, policy: Policy, carried: CarriedHandshake, answers: "ClientAnswers | _ServerAnswers"
) -> SecureStream:
    """Make a handshake, which owns the stream until it succeeds. A server logs how it ended."""
    began, connection_id = anyio.current_time(), new_connection_id()
    CONNECTION_ID.set(connection_id)
    failure: CredSSPError | None = None
    try:
        with anyio.move_on_after(policy.handshake_timeout):
            return SecureStream(stream, carried, await _establish(stream, carried, answers, policy), connection_id)
        raise HandshakeTimeout("the handshake did not end before its deadline")  # noqa: TRY301 - one way to end
    except BaseException as error:
        cancelled = isinstance(error, anyio.get_cancelled_exc_class())
        failure = error if isinstance(error, CredSSPError) else aborted(None if cancelled else error)
        carried.fail(failure)
        forget_locals(error)
        await _say_goodbye(stream, carried)
        raise
    finally:
        if isinstance(answers, _ServerAnswers):
            elapsed = anyio.current_time() - began
            log_report(report_of(carried, answers, failure, answers.address, elapsed, connection_id=connection_id))


async def _establish(
    stream: ByteStream, carried: CarriedHandshake, answers: ClientAnswers | ServerAnswers, policy: Policy
) -> bytes:
    """Drive a handshake to its end, and return the ciphertext that came behind it."""
    data, result = bytearray(), carried.step()
    while True:
        try:
            if result.output:
                await stream.send(result.output)
            if result.event is not None:
                # The answer may be a key. It is kept in no variable, since an error keeps a coroutine's variables.
                result = carried.resume(result.event, await _answered(result.event, answers, policy), data)
                continue
            if result.status is SecurityStatus.SEC_E_OK:
                break
            if result.missing or not data:
                data += await stream.receive()
            else:  # the engine took as much as one call may take
                await checkpoint()
        except _LOST:
            carried.receive_eof()  # it raises the error that says where the handshake ended
        result = carried.step(data)
        del data[: len(data) - result.extra]
    if carried.passed_on is not None:
        raise HandshakeAborted("the route hook answered Passthrough, which acredssp.create_server alone can do")
    return bytes(data)


async def _say_goodbye(stream: ByteStream, carried: CarriedHandshake) -> None:
    """Send the farewell and close; a peer that does not read it is cut off after a moment."""
    token, farewell = carried.last_token, carried.farewell
    try:
        with anyio.move_on_after(_GRACE[0], shield=True), contextlib.suppress(*_LOST):
            if token:
                await stream.send(token)
            if token != farewell:
                with anyio.move_on_after(_GRACE[1]), contextlib.suppress(*_LOST):
                    while True:
                        await stream.receive()
                await stream.send(farewell[len(token) :])
            await stream.aclose()
    finally:
        await anyio.aclose_forcefully(stream)


class _Asking(Asking):
    """Asks the hooks on the loop that runs."""

    async def _in_time(
        self, role: str, hook: Callable[..., object], seconds: float | None, awaitable: Awaitable[object]
    ) -> object:
        with anyio.move_on_after(seconds) as limit:
            try:
                answer = await awaitable
                if not limit.cancel_called:  # otherwise the hook has swallowed its cancellation
                    return self._checked(role, hook, answer)
            except BaseException as error:
                if passes(error) or isinstance(error, anyio.get_cancelled_exc_class()):
                    raise
                if not limit.cancel_called:
                    self._failed(role, hook, error)
                    return None
        self._late(role, hook, seconds)
        return None


class _ServerAnswers(ServerAnswers):
    def __init__(self, config: ServerConfig, carried: CarriedHandshake, stream: ByteStream) -> None:
        self.address = stream.extra(SocketAttribute.remote_address, None)  # noqa: S610 - anyio's, not Django's
        super().__init__(config, carried, self.address)
        self._asking = _Asking(self.address)


async def _answered(event: Event, answers: ClientAnswers | ServerAnswers, policy: Policy) -> Any:
    """Return the answer to an event. A step of Kerberos runs in a thread, which is left to itself if it is too slow."""
    if not isinstance(event, StepMechanism):
        return await answer if isinstance(answer := answers(event), Pending) else answer
    _kdc_threads.set(limiter := _kdc_threads.get(None) or anyio.CapacityLimiter(40))
    with anyio.move_on_after(policy.kerberos_timeout):
        return await anyio.to_thread.run_sync(outcome_of_step, event, abandon_on_cancel=True, limiter=limiter)
    return no_kdc(policy.kerberos_timeout)
