"""A client whose connections are logged on by CredSSP: the pool, and the way of a request through it.

`acredssp.http.httpx`, `acredssp.http.httpx2` and `acredssp.http.aiohttp` are this client in the shape of each library.
"""

from collections.abc import Callable
from typing import Final, TypedDict

from acredssp.config import ClientConfig
from acredssp.errors import CredSSPError, LocalProtocolError
from acredssp.http.connection import Identity, LoggedOn, Response, log_on, name_origin
from acredssp.http.headers import values_of
from acredssp.http.opening import DEFAULT_LIMIT
from acredssp.http.pool import Pool
from acredssp.http.wire import Origin, Request, Wire

__all__ = ["Client", "ClientOptions"]

_POOL_TIMEOUT: Final = 30.0
"""Seconds to wait for a connection, where the request sets no limit."""


class ClientOptions(TypedDict, total=False):
    """How a client connects, whatever the HTTP library is.

    Attributes:
        spn: The service principal name; unless given, it is `HTTP/` and the name of the service.
        server_hostname: The name of the service, which its certificate inside CredSSP has to have; unless given, it is
            the URL's host.
        max_connections: How many connections there may be at a time, over all identities; 100 unless given. Further
            requests wait in line.
        idle_timeout: Seconds after which an idle connection is closed; 30 unless given. It has to be below the
            server's own limit, since a request that meets the server's end fails and is not sent again.
        response_limit: Bytes of plaintext that the body of a response may have; 64 MiB unless given.
        dangerous_allow_unsealed: Whether requests without a body are sent, and plain bodies of successful responses
            that are not empty are taken. Anybody in between can write those, unless HTTPS protects the connection.
    """

    spn: str
    server_hostname: str
    max_connections: int
    idle_timeout: float
    response_limit: int
    dangerous_allow_unsealed: bool


class Client:
    """Sends requests over connections that are logged on.

    Args:
        new_wire: Makes a connection of the HTTP library, which is not connected yet.
        config: Who logs on, and how. A request may have a configuration of its own.
        options: See `ClientOptions`.

    Raises:
        TypeError: An option is unknown, or the configuration is none.
        ValueError: An option is impossible.
    """

    def __init__(self, new_wire: Callable[[Origin], Wire], config: ClientConfig, options: ClientOptions) -> None:
        _expect_config(config)
        if unknown := sorted(options.keys() - ClientOptions.__optional_keys__):
            known = ", ".join(sorted(ClientOptions.__optional_keys__))
            raise TypeError(f"expected options among {known}, got {', '.join(unknown)}")
        most, idle = options.get("max_connections", 100), options.get("idle_timeout", 30.0)
        if most < 1:
            raise ValueError(f"max_connections: expected 1 or more, got {most}")
        if not idle > 0:
            raise ValueError(f"idle_timeout: expected seconds above 0, got {idle:g}")
        self._new_wire, self._config = new_wire, config
        self._spn, self._server_hostname = options.get("spn"), options.get("server_hostname")
        self._limit = options.get("response_limit", DEFAULT_LIMIT)
        self._allow_unsealed = options.get("dangerous_allow_unsealed", False)
        self._pool: Pool[LoggedOn] = Pool(most, idle)

    async def send(self, origin: Origin, request: Request, config: ClientConfig | None = None) -> Response:
        """Send a request over a connection that is logged on, and return the response once its headers have come.

        Args:
            origin: Where to.
            request: The request in plain.
            config: Who sends it, and how; None for the client's own configuration.

        Raises:
            TypeError: `config` is no configuration; nothing was sent.
            PoolTimeout: No connection became free in time; nothing was sent.
            LocalProtocolError: The request cannot be sent by CredSSP; nothing was sent.
            CredSSPError: The logon failed, or the server's answer breaks the rules.
        """
        if config is not None:
            _expect_config(config)
        try:
            self._check(request)
            return await self._send(origin, request, self._config if config is None else config)
        except CredSSPError as error:
            name_origin(error, origin)
            raise

    def close(self) -> None:
        """End all connections. Requests that are under way fail."""
        self._pool.close()

    @property
    def allow_unsealed(self) -> bool:
        """Whether what anybody in between can write counts as the server's."""
        return self._allow_unsealed

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._pool.closed

    def __str__(self) -> str:
        return f"{'closed' if self.closed else 'open'}, {len(self._pool)} connections"

    async def _send(self, origin: Origin, request: Request, config: ClientConfig) -> Response:
        name = self._server_hostname or origin.host
        identity = Identity(origin, config, name, self._spn)
        seconds = request.extensions.get("timeout", {}).get("pool")
        connection = await self._take(identity, _POOL_TIMEOUT if seconds is None else seconds)
        if connection is None:
            connection = await self._connect(identity, request)
        try:
            return await connection.send(
                request, limit=self._limit, allow_unsealed=self._allow_unsealed, ended=self._pool.put
            )
        except BaseException:
            connection.abort()
            self._pool.put(connection)
            raise

    async def _take(self, identity: Identity, seconds: float) -> LoggedOn | None:
        """Take a connection that has not ended since it was given to this request, or a place for a new one."""
        while (connection := await self._pool.take(identity, seconds)) is not None and not connection.is_usable:
            self._pool.put(connection)
        return connection

    async def _connect(self, identity: Identity, request: Request) -> LoggedOn:
        try:
            connection = await log_on(self._new_wire(identity.origin), identity, request)
        except BaseException:
            self._pool.leave()
            raise
        self._pool.add(connection)
        return connection

    def _check(self, request: Request) -> None:
        if values_of(request.headers, "Authorization"):
            raise LocalProtocolError(
                "expected no authorization header, which the logon has itself, got one",
                hint="httpx makes one of a user in the url and of .netrc: set trust_env=False there",
            )
        if request.body is None and not self._allow_unsealed:
            raise LocalProtocolError(
                f"expected a request with a body, which is sealed and shows whose it is, got a {request.method} alone",
                hint="send a body of at least one byte, or set dangerous_allow_unsealed at both ends",
            )


def _expect_config(config: object) -> None:
    if not isinstance(config, ClientConfig):
        raise TypeError(f"expected a ClientConfig, which holds the credential, got a {type(config).__name__}")
