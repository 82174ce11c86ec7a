"""The asyncio functions, in asyncio's own shapes: what most applications call, and all they need.

`open_connection`, `create_connection`, `start_server` and `create_server` are asyncio's with a `config` and a
`carriage`; `start_credssp` is `loop.start_tls` for a connection that is already there. What they give is asyncio's
own: transports, `StreamReader`, `StreamWriter`, a server.

Three names are three values: the host to connect to, the name for TLS (`server_hostname`) and the service principal
name (`spn`). The others follow from the first unless given.
"""

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias, TypedDict, TypeVar, Unpack

from acredssp.aio.failures import FailureLimit
from acredssp.aio.handshake import Handshake, Names
from acredssp.aio.protocol import CredSSPProtocol
from acredssp.aio.report import HandshakeHook
from acredssp.aio.server import CredSSPServer, ProtocolFactory
from acredssp.aio.transport import SecureTransport, start_application
from acredssp.arguments import expect, expect_callable
from acredssp.carriage.base import TLS, Carriage
from acredssp.config import ClientConfig, ServerConfig
from acredssp.errors import PeerClosed
from acredssp.hooks import AcceptHook
from acredssp.status import Stage
from acredssp.wire.ts_credentials import TSCredentials

__all__ = [
    "ConnectOptions",
    "ListenOptions",
    "create_connection",
    "create_server",
    "open_connection",
    "start_credssp",
    "start_credssp_streams",
    "start_server",
    "take_credentials",
]

_LIMIT: Final = 2**16
"""Bytes that a StreamReader keeps, as in asyncio."""

_BACKLOG: Final = 100
"""As in asyncio. More costs good clients more than it gives them, see docs/limits.md."""

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)

ClientConnected: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


class ConnectOptions(TypedDict, total=False):
    """What `loop.create_connection` takes besides; its documentation says what each means."""

    sock: socket.socket
    family: int
    proto: int
    flags: int
    local_addr: tuple[str, int]
    happy_eyeballs_delay: float
    interleave: int
    all_errors: bool


class ListenOptions(TypedDict, total=False):
    """What `loop.create_server` takes besides; its documentation says what each means."""

    sock: socket.socket
    family: int
    flags: int
    reuse_address: bool
    reuse_port: bool
    start_serving: bool


# --- clients ---


async def create_connection(  # noqa: PLR0913 - asyncio's shape
    protocol_factory: Callable[[], _ProtocolT],
    host: str | None = None,
    port: int | None = None,
    *,
    config: ClientConfig,
    carriage: Carriage = TLS(),  # noqa: B008 - a frozen value
    server_hostname: str | None = None,
    spn: str | None = None,
    handshake_timeout: float | None = None,
    **options: Unpack[ConnectOptions],
) -> tuple[SecureTransport, _ProtocolT]:
    """Connect, log on, and return the transport with the application's protocol on it.

    Args:
        protocol_factory: Makes the application's protocol, once the handshake is established.
        host: Whom to connect to; None with `sock`.
        port: The TCP port.
        config: Credentials, policy, trust.
        carriage: What is around CredSSP: `TLS()` for nothing, `RDP()`.
        server_hostname: The name for SNI and in the server's certificate; None for `host`.
        spn: The service principal name; None for `TERMSRV/` and `host` as given. No KDC is asked for an IP address
            unless it is given here.
        handshake_timeout: Seconds for the handshake, connecting excluded; None for the policy's.
        **options: As for `loop.create_connection`.

    Raises:
        OSError: There is no connection.
        CredSSPError: The handshake failed; the connection is closed.
        TypeError, ValueError: An argument cannot be, which its name in the text says: a host's name, say, or `sock`
            without a `server_hostname`. Nothing was sent.
    """
    _check(config, carriage, handshake_timeout, None, ClientConfig)
    connection = CredSSPProtocol()
    handshake = Handshake(
        connection, config, carriage, names=Names(host, server_hostname, spn), timeout=handshake_timeout
    )
    await connection.loop.create_connection(  # type: ignore[call-overload] # host or sock
        lambda: connection, host, port, **options
    )
    transport = await handshake.run()
    return transport, start_application(transport, protocol_factory)


async def open_connection(  # noqa: PLR0913 - asyncio's shape
    host: str | None = None,
    port: int | None = None,
    *,
    config: ClientConfig,
    carriage: Carriage = TLS(),  # noqa: B008 - a frozen value
    server_hostname: str | None = None,
    spn: str | None = None,
    handshake_timeout: float | None = None,
    limit: int = _LIMIT,
    **options: Unpack[ConnectOptions],
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, log on, and return asyncio's streams; arguments and errors as for `create_connection`.

    `writer.get_extra_info("credssp")` gives the facts of the handshake.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    transport, protocol = await create_connection(
        lambda: asyncio.StreamReaderProtocol(reader, loop=loop),
        host,
        port,
        config=config,
        carriage=carriage,
        server_hostname=server_hostname,
        spn=spn,
        handshake_timeout=handshake_timeout,
        **options,
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


# --- servers ---


async def create_server(  # noqa: PLR0913 - asyncio's shape
    protocol_factory: ProtocolFactory,
    host: str | Sequence[str] | None = None,
    port: int | None = None,
    *,
    config: ServerConfig,
    carriage: Carriage = TLS(),  # noqa: B008 - a frozen value
    accept: AcceptHook | None = None,
    handshake_timeout: float | None = None,
    max_handshakes: int | None = None,
    max_handshakes_per_source: int | None = None,
    max_failures: FailureLimit | None = None,
    on_handshake: HandshakeHook | None = None,
    backlog: int = _BACKLOG,
    **options: Unpack[ListenOptions],
) -> CredSSPServer:
    """Listen; each client that logged on gets a protocol of the application.

    Args:
        protocol_factory: Makes the application's protocol, once a handshake is established.
        host: Where to listen; None for everywhere.
        port: The TCP port.
        config: Certificate, hooks, policy.
        carriage: What is around CredSSP: `TLS()` for nothing, `RDP()`.
        accept: Asked about each connection before anything is read from it: gives it a session object, or turns it
            away. None takes everybody.
        handshake_timeout: Seconds from the accept to the end of a handshake; None for the policy's.
        max_handshakes: Handshakes at a time; a connection above that is closed at once, unless another source holds
            so many that one of its own makes room. None for no limit.
        max_handshakes_per_source: Of those, from one IPv4 address or IPv6 /64 network. None for no limit.
        max_failures: How many wrong passwords a source may send for an account before it has to wait. None for no
            limit.
        on_handshake: Told how each handshake ended; it must not block.
        backlog: Connections that the kernel keeps while the loop is busy.
        **options: As for `loop.create_server`.

    Raises:
        OSError: The address cannot be had.
        TypeError: An argument is of another type, which its name in the text says.
    """
    _check(config, carriage, handshake_timeout, on_handshake, ServerConfig)
    expect("max_handshakes", max_handshakes, int, None)
    expect("max_handshakes_per_source", max_handshakes_per_source, int, None)
    expect("max_failures", max_failures, FailureLimit, None)
    expect("backlog", backlog, int)
    expect_callable("protocol_factory", protocol_factory)
    expect_callable("accept", accept)
    server = CredSSPServer(
        protocol_factory,
        config=config,
        carriage=carriage,
        accept=accept,
        handshake_timeout=config.policy.handshake_timeout if handshake_timeout is None else handshake_timeout,
        max_handshakes=max_handshakes,
        max_handshakes_per_source=max_handshakes_per_source,
        max_failures=max_failures,
        on_handshake=on_handshake,
    )
    start_serving = options.pop("start_serving", True)
    listener = await asyncio.get_running_loop().create_server(  # type: ignore[call-overload] # host and port, or sock
        server.new_connection,
        host,
        port,
        backlog=backlog,
        start_serving=False,
        **options,
    )
    server.listen(listener, backlog)
    if start_serving:
        await server.start_serving()
    return server


async def start_server(  # noqa: PLR0913 - asyncio's shape
    client_connected_cb: ClientConnected,
    host: str | Sequence[str] | None = None,
    port: int | None = None,
    *,
    config: ServerConfig,
    carriage: Carriage = TLS(),  # noqa: B008 - a frozen value
    accept: AcceptHook | None = None,
    handshake_timeout: float | None = None,
    max_handshakes: int | None = None,
    max_handshakes_per_source: int | None = None,
    max_failures: FailureLimit | None = None,
    on_handshake: HandshakeHook | None = None,
    limit: int = _LIMIT,
    backlog: int = _BACKLOG,
    **options: Unpack[ListenOptions],
) -> CredSSPServer:
    """Listen; each client that logged on is given to `client_connected_cb(reader, writer)`, in a task if a coroutine.

    Arguments and errors as for `create_server`. `take_credentials(writer)` gives what was delegated, once.
    """
    loop = asyncio.get_running_loop()

    def protocol_factory() -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(
            asyncio.StreamReader(limit=limit, loop=loop), client_connected_cb, loop=loop
        )

    return await create_server(
        protocol_factory,
        host,
        port,
        config=config,
        carriage=carriage,
        accept=accept,
        handshake_timeout=handshake_timeout,
        max_handshakes=max_handshakes,
        max_handshakes_per_source=max_handshakes_per_source,
        max_failures=max_failures,
        on_handshake=on_handshake,
        backlog=backlog,
        **options,
    )


def take_credentials(writer: asyncio.StreamWriter) -> TSCredentials | None:
    """Hand over what the client delegated, once, by what the functions for streams give.

    The same as `take_credentials()` of the `SecureTransport` underneath, which `writer.transport` is not declared to
    be.

    Args:
        writer: Of `start_server`'s callback, or of `start_credssp_streams`.

    Returns:
        The credentials; None on a client, and where they were taken before. `kind` says which they are, and
        `as_password()` makes a password of them that logs on elsewhere.

    Raises:
        TypeError: `writer` is none of these.
    """
    expect("writer", writer, asyncio.StreamWriter)
    expect("writer.transport", writer.transport, SecureTransport)
    assert isinstance(writer.transport, SecureTransport)
    return writer.transport.take_credentials()


# --- connections that are already there ---


async def start_credssp(  # noqa: PLR0913 - asyncio's shape
    transport: asyncio.Transport,
    protocol: asyncio.BaseProtocol,
    config: ClientConfig | ServerConfig,
    *,
    carriage: Carriage = TLS(),  # noqa: B008 - a frozen value
    server_hostname: str | None = None,
    spn: str | None = None,
    handshake_timeout: float | None = None,
    initial_data: bytes = b"",
    on_handshake: HandshakeHook | None = None,
    peer_address: object = None,
    session: object = None,
) -> SecureTransport:
    """Run a handshake over a transport that is connected, as `loop.start_tls` does for TLS.

    `config` says which side we are. `protocol` gets the data from then on; its `connection_made` is not called again.
    Whoever was on the transport before gets nothing more.

    Args:
        transport: Any asyncio transport that is a stream; its protocol is replaced at once.
        protocol: The application's.
        config: A client's or a server's.
        carriage: What is around CredSSP.
        server_hostname: Client: the name for SNI and in the server's certificate; must be given.
        spn: Client: the service principal name; None for `TERMSRV/` and `server_hostname`.
        handshake_timeout: Seconds; None for the policy's.
        initial_data: Bytes of the peer's handshake that were already read from the transport.
        on_handshake: Told once how the handshake ended.
        peer_address: Whom hooks, report and log are told; None for what the transport says.
        session: Server: what the hooks, the report and `get_extra_info("session")` are given.

    Raises:
        CredSSPError: The handshake failed; the connection is closed.
        TypeError, ValueError: An argument cannot be, which its name in the text says: a client without a
            `server_hostname`, say. Nothing was sent.
    """
    handshake = _new_handshake(
        CredSSPProtocol(),
        config,
        carriage,
        server_hostname,
        spn,
        handshake_timeout,
        on_handshake,
        peer_address,
        session,
    )
    return await _upgrade(handshake, transport, protocol, initial_data)


async def start_credssp_streams(  # noqa: PLR0913 - asyncio's shape
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    config: ClientConfig | ServerConfig,
    *,
    carriage: Carriage = TLS(),  # noqa: B008 - a frozen value
    server_hostname: str | None = None,
    spn: str | None = None,
    handshake_timeout: float | None = None,
    on_handshake: HandshakeHook | None = None,
    peer_address: object = None,
    session: object = None,
    limit: int = _LIMIT,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Run a handshake over a pair of streams and return a new pair, for arguments and errors of `start_credssp`.

    What `reader` has read ahead belongs to the handshake. The old pair is not to be used any more.
    """
    loop = asyncio.get_running_loop()
    new_reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(new_reader, loop=loop)
    # The old writer must live as long as its transport: asyncio has it close the transport when it is forgotten.
    connection = CredSSPProtocol(on_lost=functools.partial(_forget, writer))
    handshake = _new_handshake(
        connection, config, carriage, server_hostname, spn, handshake_timeout, on_handshake, peer_address, session
    )
    await writer.drain()
    read_ahead = await _read_ahead(reader, connection)
    transport = await _upgrade(handshake, writer.transport, protocol, read_ahead)
    new_reader.set_transport(transport)
    return new_reader, asyncio.StreamWriter(transport, protocol, new_reader, loop)


def _new_handshake(  # noqa: PLR0913, PLR0917 - what the caller of either function said
    connection: CredSSPProtocol,
    config: ClientConfig | ServerConfig,
    carriage: Carriage,
    server_hostname: str | None,
    spn: str | None,
    timeout: float | None,
    on_handshake: HandshakeHook | None,
    peer_address: object,
    session: object,
) -> Handshake:
    """Make the handshake for a connection that is there; raises TypeError or ValueError as `start_credssp` does."""
    _check(config, carriage, timeout, on_handshake, ClientConfig, ServerConfig)
    return Handshake(
        connection,
        config,
        carriage,
        names=Names(None, server_hostname, spn),
        timeout=timeout,
        on_handshake=on_handshake,
        peer_address=peer_address,
        session=session,
    )


async def _read_ahead(reader: asyncio.StreamReader, connection: CredSSPProtocol) -> bytes:
    """Take what a stream has buffered; nothing is waited for, so nothing can come in between."""
    connection.ended = reader.at_eof()
    reader.feed_eof()
    return await reader.read()


def _forget(_writer: asyncio.StreamWriter, _connection: CredSSPProtocol) -> None:
    """Do nothing: the connection that calls this is gone, and with it the last reason to keep the writer."""


async def _upgrade(
    handshake: Handshake,
    transport: asyncio.WriteTransport,
    protocol: asyncio.BaseProtocol,
    initial_data: bytes,
) -> SecureTransport:
    if transport.is_closing():
        raise PeerClosed("the connection is closed already", stage=Stage.CONNECT)
    connection = handshake.connection
    if initial_data:
        connection.store(initial_data)
    transport.set_protocol(connection)
    connection.connection_made(transport)
    connection.resume_reading()
    secure = await handshake.run()
    secure.start(protocol, connection_made=False)
    return secure


def _check(config: object, carriage: object, timeout: object, on_handshake: object, *kinds: type) -> None:
    """Refuse what is of a wrong type before there is a connection.

    Raises:
        TypeError: The text has the argument's name.
    """
    expect("config", config, *kinds)
    if isinstance(carriage, type) or not (hasattr(carriage, "initiator") and hasattr(carriage, "acceptor")):
        got = f"{carriage.__name__} without parentheses" if isinstance(carriage, type) else type(carriage).__name__
        raise TypeError(f"carriage: expected a carriage, as TLS() or RDP(), got {got}")
    expect("handshake_timeout", timeout, float, int, None)
    expect_callable("on_handshake", on_handshake)
