"""The asyncio functions, which have the shapes of asyncio's own. Most applications need no other functions.

`open_connection`, `create_connection`, `start_server` and `create_server` are asyncio's functions with a `config` and a
`carriage`. `start_credssp` upgrades an existing connection, as `loop.start_tls` does. They return the same things as
asyncio's functions: transports, `StreamReader`, `StreamWriter`, a server.

A server has three names, and each has an argument of its own: the host to connect to, the name for TLS
(`server_hostname`) and the service principal name (`spn`). What is not given follows from the one before it.
"""

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias, TypedDict, TypeVar, Unpack

from acredssp.aio.failures import FailureLimit
from acredssp.aio.handshake import Handshake, Names
from acredssp.aio.protocol import CredSSPProtocol
from acredssp.aio.report import HandshakeHook, address_text
from acredssp.aio.server import CredSSPServer, ProtocolFactory
from acredssp.aio.transport import SecureTransport, start_application
from acredssp.arguments import expect, expect_callable, expect_count, expect_seconds
from acredssp.carriage.base import TLS, Carriage
from acredssp.config import ClientConfig, ServerConfig
from acredssp.errors import PeerClosed
from acredssp.hooks import AcceptHook
from acredssp.status import Stage
from acredssp.wire.ts_credentials import TSCredentials

__all__ = [
    "ClientConnected",
    "ConnectOptions",
    "ListenOptions",
    "create_connection",
    "create_server",
    "open_connection",
    "start_credssp",
    "start_credssp_streams",
    "start_server",
    "take_credentials",
    "take_read_ahead",
]

_LIMIT: Final = 2**16
"""Bytes that a StreamReader keeps, as in asyncio."""

_BACKLOG: Final = 100
"""The backlog of asyncio. A longer one would cost good clients more than it gives them, see docs/limits.md."""

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)

ClientConnected: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


class ConnectOptions(TypedDict, total=False):
    """Arguments that are passed on to `loop.create_connection`; asyncio's documentation explains them.

    Attributes:
        sock: A connected socket, in place of host and port.
        family: The address family, for name resolution.
        proto: The protocol number, for name resolution.
        flags: The flags of `getaddrinfo`.
        local_addr: The host and port to connect from.
        happy_eyeballs_delay: Seconds until the next address is tried beside the first one (RFC 8305).
        interleave: How many addresses of the first family come first.
        all_errors: Whether the errors of all addresses are raised, as an ExceptionGroup.
    """

    sock: socket.socket
    family: int
    proto: int
    flags: int
    local_addr: tuple[str, int]
    happy_eyeballs_delay: float
    interleave: int
    all_errors: bool


class ListenOptions(TypedDict, total=False):
    """Arguments that are passed on to `loop.create_server`; asyncio's documentation explains them.

    Attributes:
        sock: A bound socket, in place of host and port.
        family: The address family to listen on.
        flags: The flags of `getaddrinfo`.
        reuse_address: Whether a port may be taken whose last connections the kernel still remembers.
        reuse_port: Whether several sockets may listen on the port.
        start_serving: Whether connections are accepted at once; True unless it is given.
    """

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
    connect_timeout: float | None = None,
    **options: Unpack[ConnectOptions],
) -> tuple[SecureTransport, _ProtocolT]:
    """Connect, log on, and return the transport with the application's protocol on it.

    Args:
        protocol_factory: Makes the application's protocol, once the handshake is established.
        host: The host to connect to; None with `sock`.
        port: The TCP port.
        config: The client's credentials, policy and trust.
        carriage: The protocol around CredSSP: `RDP()`, or `TLS()` for none.
        server_hostname: The name for SNI and in the server's certificate; None for `host`.
        spn: The service principal name, SERVICE/host; None for `TERMSRV/` and the name in the certificate. No KDC is
            asked for the `TERMSRV/` of an IP address.
        handshake_timeout: Seconds for the handshake, connecting excluded; None for the policy's.
        connect_timeout: Seconds for connecting, name resolution included; None for as long as the system waits.
        **options: As for `loop.create_connection`.

    Raises:
        OSError: The connection could not be made. It is a TimeoutError after `connect_timeout`.
        CredSSPError: The handshake failed; the connection is closed.
        TypeError, ValueError: An argument has a wrong type or an impossible value, such as `sock` without a
            `server_hostname`. The text names the argument. Nothing was sent.
    """
    _check(config, carriage, handshake_timeout, None, ClientConfig)
    _expect_timeout("connect_timeout", connect_timeout)
    connection = CredSSPProtocol()
    handshake = Handshake(
        connection, config, carriage, names=Names(host, server_hostname, spn), timeout=handshake_timeout
    )
    connecting = connection.loop.create_connection(  # type: ignore[call-overload] # host or sock
        lambda: connection, host, port, **options
    )
    await (connecting if connect_timeout is None else _in_time(connecting, connect_timeout, host, port))
    transport = await handshake.run()
    return transport, start_application(transport, protocol_factory)


async def _in_time(connecting: Awaitable[object], seconds: float, host: str | None, port: int | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await connecting
    except TimeoutError:
        where = address_text((host, port)) if host else "the server"
        raise TimeoutError(f"{where} does not answer within {seconds:g} seconds") from None


async def open_connection(  # noqa: PLR0913 - asyncio's shape
    host: str | None = None,
    port: int | None = None,
    *,
    config: ClientConfig,
    carriage: Carriage = TLS(),  # noqa: B008 - a frozen value
    server_hostname: str | None = None,
    spn: str | None = None,
    handshake_timeout: float | None = None,
    connect_timeout: float | None = None,
    limit: int = _LIMIT,
    **options: Unpack[ConnectOptions],
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, log on, and return asyncio's streams; arguments and errors as for `create_connection`.

    `writer.get_extra_info("credssp")` gives the facts of the handshake, and `get_extra_info("handshake_seconds")` how
    long it took, connecting excluded.
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
        connect_timeout=connect_timeout,
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
    max_failed_per_second: int | None = 20,
    proxy_protocol: Sequence[str] = (),
    on_handshake: HandshakeHook | None = None,
    backlog: int = _BACKLOG,
    **options: Unpack[ListenOptions],
) -> CredSSPServer:
    """Listen, and give each client that has logged on a protocol of the application.

    Args:
        protocol_factory: Makes the application's protocol, once a handshake is established.
        host: The address to listen on; None for all addresses of the machine.
        port: The TCP port.
        config: The server's certificate, hooks and policy.
        carriage: The protocol around CredSSP: `RDP()`, or `TLS()` for none.
        accept: A hook that is called for each connection before anything is read from it. It gives the connection a
            session object, or turns it away. None accepts every connection.
        handshake_timeout: Seconds from the accept to the end of a handshake; None for the policy's.
        max_handshakes: The most handshakes at a time. A connection above that is closed at once, unless another source
            has so many handshakes that one of these has to make room. None for no limit.
        max_handshakes_per_source: The most handshakes at a time from one IPv4 address or IPv6 /64 network. None for no
            limit.
        max_failures: How many wrong passwords a source may send for an account before it has to wait. None for no
            limit.
        max_failed_per_second: How many handshakes of a source may fail in a second, for whatever reason of the peer's.
            Above that, its next connections wait up to half a second before they are read. None for no limit.
        proxy_protocol: The networks of the load balancers in front, as `["10.0.0.0/8"]`. Each connection from there has
            to begin with a PROXY header, version 1 or 2, and the client's address that the header tells is the one for
            limits, hooks, reports and `get_extra_info("peername")`. Whoever connects from there can write any address,
            so name the load balancers alone. Empty for none: a header is refused.
        on_handshake: Called with a report once each handshake has ended; it must not block.
        backlog: Connections that the kernel keeps while the loop is busy.
        **options: As for `loop.create_server`.

    Raises:
        OSError: The address cannot be listened on.
        TypeError: An argument has a wrong type. The text names the argument.
        ValueError: A limit is below 1 (`backlog`: below 0), a time is not above 0, or a network is none. The text names
            the argument.
    """
    _check(config, carriage, handshake_timeout, on_handshake, ServerConfig)
    for name, most in (
        ("max_handshakes", max_handshakes),
        ("max_handshakes_per_source", max_handshakes_per_source),
        ("max_failed_per_second", max_failed_per_second),
    ):
        expect(name, most, int, None)
        if most is not None:
            expect_count(name, most)
    expect("max_failures", max_failures, FailureLimit, None)
    expect_count("backlog", backlog, 0)
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
        max_failed_per_second=max_failed_per_second,
        proxy_protocol=proxy_protocol,
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
    max_failed_per_second: int | None = 20,
    proxy_protocol: Sequence[str] = (),
    on_handshake: HandshakeHook | None = None,
    limit: int = _LIMIT,
    backlog: int = _BACKLOG,
    **options: Unpack[ListenOptions],
) -> CredSSPServer:
    """Listen, and call `client_connected_cb(reader, writer)` for each client that has logged on.

    A coroutine of the callback runs in a task. The other arguments and the errors are those of `create_server`.
    `take_credentials(writer)` returns the credentials that the client delegated, once.
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
        max_failed_per_second=max_failed_per_second,
        proxy_protocol=proxy_protocol,
        on_handshake=on_handshake,
        backlog=backlog,
        **options,
    )


def take_credentials(writer: asyncio.StreamWriter) -> TSCredentials | None:
    """Return the credentials that a client delegated, once, by the writer of its connection.

    This calls `take_credentials()` of the `SecureTransport` below the writer. Type checkers do not know that
    `writer.transport` is one.

    Args:
        writer: The writer that `start_server` gave to its callback, or that `start_credssp_streams` returned.

    Returns:
        The credentials; None on a client, and where they were taken before. `kind` says which kind they are.
        `as_password()` of a `TSPasswordCreds` makes a `Password` of them, for a logon elsewhere.

    Raises:
        TypeError: `writer` is not such a writer.
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

    The type of `config` chooses the side, client or server. After the handshake, `protocol` gets the data; its
    `connection_made` is not called. The transport's former protocol is not called any more.

    Args:
        transport: Any asyncio transport that is a stream; its protocol is replaced at once.
        protocol: The application's protocol.
        config: The configuration of a client or of a server.
        carriage: The protocol around CredSSP: `RDP()`, or `TLS()` for none.
        server_hostname: Client: the name for SNI and in the server's certificate. A client must give it.
        spn: Client: the service principal name; None for `TERMSRV/` and `server_hostname`.
        handshake_timeout: Seconds; None for the policy's.
        initial_data: Bytes of the peer's handshake that were already read from the transport.
        on_handshake: Called with a report once the handshake has ended. Nothing is reported of a connection that was
            closed before the call: no handshake begins on it, and `PeerClosed` is raised.
        peer_address: The peer's address for the hooks, the report and the log; None for the one that the transport has.
        session: Server: an object of the application for the hooks, the report and `get_extra_info("session")`.

    Raises:
        CredSSPError: The handshake failed; the connection is closed.
        TypeError, ValueError: An argument has a wrong type or an impossible value, or a client has no
            `server_hostname`. The text names the argument. Nothing was sent.
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
    expect("initial_data", initial_data, bytes, bytearray)
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
    initial_data: bytes = b"",
    on_handshake: HandshakeHook | None = None,
    peer_address: object = None,
    session: object = None,
    limit: int = _LIMIT,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Run a handshake over a pair of streams, and return a new pair; arguments and errors are those of `start_credssp`.

    The handshake takes `initial_data` first, and then the bytes that `reader` has read ahead. The old pair must not be
    used any more.
    """
    expect("initial_data", initial_data, bytes, bytearray)
    loop = asyncio.get_running_loop()
    new_reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(new_reader, loop=loop)
    # The old writer must live as long as its transport: it closes the transport when it is garbage-collected.
    connection = CredSSPProtocol(on_lost=functools.partial(_forget, writer))
    handshake = _new_handshake(
        connection, config, carriage, server_hostname, spn, handshake_timeout, on_handshake, peer_address, session
    )
    read_ahead = await take_read_ahead(reader, connection)
    transport = await _upgrade(handshake, writer.transport, protocol, initial_data + read_ahead)
    new_reader.set_transport(transport)
    return new_reader, asyncio.StreamWriter(transport, protocol, new_reader, loop)


def _new_handshake(  # noqa: PLR0913, PLR0917 - the arguments of both public functions
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
    """Make the handshake for an existing connection; raises TypeError or ValueError as `start_credssp` does."""
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


async def take_read_ahead(reader: asyncio.StreamReader, connection: CredSSPProtocol) -> bytes:
    """Return the bytes that a stream has buffered, and note on `connection` whether the peer has ended.

    This waits for nothing, so no byte can arrive in between. A connection that broke has ended, too.
    """
    if (error := reader.exception()) is not None:
        connection.ended, connection.error = True, error
        return b""
    # at_eof() is false while there are bytes left to read.
    connection.ended = reader.at_eof() or getattr(reader, "_eof", False)
    reader.feed_eof()
    return await reader.read()


def _forget(_writer: asyncio.StreamWriter, _connection: CredSSPProtocol) -> None:
    """Do nothing. The argument has kept the writer alive until now, when its connection is gone."""


async def _upgrade(
    handshake: Handshake,
    transport: asyncio.WriteTransport,
    protocol: asyncio.BaseProtocol,
    initial_data: bytes,
) -> SecureTransport:
    if transport.is_closing():
        raise PeerClosed("the connection is closed already", stage=Stage.CONNECT)
    connection = handshake.connection
    transport.set_protocol(connection)
    connection.connection_made(transport)
    connection.resume_reading()
    if initial_data:
        connection.store(initial_data)  # this may pause reading
    secure = await handshake.run()
    secure.start(protocol, connection_made=False)
    return secure


def _expect_timeout(name: str, seconds: object) -> None:
    expect(name, seconds, float, int, None)
    if isinstance(seconds, float | int):
        expect_seconds(name, seconds)


def _check(config: object, carriage: object, timeout: object, on_handshake: object, *kinds: type) -> None:
    """Check arguments before there is a connection.

    Raises:
        TypeError, ValueError: An argument is impossible. The text begins with its name.
    """
    expect("config", config, *kinds)
    if isinstance(carriage, type) or not (hasattr(carriage, "initiator") and hasattr(carriage, "acceptor")):
        got = f"{carriage.__name__} without parentheses" if isinstance(carriage, type) else type(carriage).__name__
        raise TypeError(f"carriage: expected a carriage such as TLS() or RDP(), got {got}")
    _expect_timeout("handshake_timeout", timeout)
    expect_callable("on_handshake", on_handshake)
