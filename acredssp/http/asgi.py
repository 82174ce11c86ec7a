"""The server's side for ASGI: a middleware that logs on the clients of an application that knows nothing of CredSSP.

The application sees plain requests, with `scope["credssp"]` (`LoggedOn`), and answers in plain; a request with a sealed
body gets a sealed answer. The middleware needs to know over which TCP connection a request came. Two servers tell it:
`acredssp.http.server`, and uvicorn with a protocol of `acredssp.http.uvicorn`. Under any other server it refuses every
request.
"""

from typing import Final, NoReturn

from acredssp.aio import FailureLimit, HandshakeHook, ServerLogons
from acredssp.config import ServerConfig
from acredssp.http.cycle import ASGIApp, Cycle, Message, Receive, Scope, Send
from acredssp.http.limits import HTTPLimits
from acredssp.http.served import STATE, Acceptor, LoggedOn, ServedConnection

__all__ = ["ASGIApp", "CredSSPMiddleware", "LoggedOn", "Message", "Receive", "Scope", "Send"]

_UVICORN: Final = "uvicorn without a protocol of acredssp"
_BLIND: Final = {
    "hypercorn": "hypercorn",
    "granian": "granian",
    "_granian": "granian",
    "daphne": "daphne",
    "uvicorn": _UVICORN,
}
"""Servers that show an application nothing of the connection, by the first part of their modules' names."""


class CredSSPMiddleware:
    """Logs on the clients of an ASGI application by CredSSP, and opens and seals bodies.

    Args:
        app: The application.
        config: The certificate inside CredSSP, the hooks and the policy.
        max_failures: How many wrong passwords a source may send for an account before it has to wait; None for no
            limit.
        max_failed_per_second: How many logons of a source may fail in a second, for whatever reason of the client's.
            After that its next logons wait, up to half a second each. None for no limit.
        on_handshake: Called with a report once each logon has ended; it must not block.
        dangerous_allow_unsealed: Whether requests without a sealed body are served too, and answered in plain. Whoever
            can write into the connection, such as a proxy that shares it among clients, then acts as the user.
    """

    def __init__(  # noqa: PLR0913 - what a server limits and reports
        self,
        app: ASGIApp,
        config: ServerConfig,
        *,
        max_failures: FailureLimit | None = None,
        max_failed_per_second: int | None = 20,
        on_handshake: HandshakeHook | None = None,
        dangerous_allow_unsealed: bool = False,
    ) -> None:
        if not isinstance(config, ServerConfig):
            raise TypeError(f"config: expected a ServerConfig, got {type(config).__name__}")
        logons = ServerLogons(
            config,
            max_failures=max_failures,
            max_failed_per_second=max_failed_per_second,
            on_handshake=on_handshake,
        )
        self._app = app
        self._acceptor = Acceptor(config, logons, dangerous_allow_unsealed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            RuntimeError: The server does not tell over which connection the request came.
        """
        match scope["type"]:
            case "http":
                connection = scope.get("state", {}).get(STATE)
                if not isinstance(connection, ServedConnection):
                    await _refuse(_cannot_serve(_server_of(receive, send)), send)
                connection.begin(self._acceptor)
                await Cycle(connection, scope, receive, send).serve(self._app)
            case "lifespan":
                await self._live(scope, receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": "credssp carries no websocket"})
            case other:
                raise RuntimeError(f"expected a scope of http, got one of {other!a}")

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin and end the application; a server that would refuse every request does not start."""
        server = _server_of(receive, send)
        if server and not (server == _UVICORN and _has_our_protocol(receive)):
            await receive()
            await send({"type": "lifespan.startup.failed", "message": _cannot_serve(server)})
            return
        await self._app(scope, receive, send)


def _server_of(receive: Receive, send: Send) -> str:
    """Return the name of a server that shows nothing of its connections; empty for another one."""
    for function in (receive, send):
        for each in (function, getattr(function, "__self__", None), getattr(function, "func", None)):
            for module in (getattr(each, "__module__", None), type(each).__module__):
                if (name := str(module).partition(".")[0]) in _BLIND:
                    return _BLIND[name]
    return ""


def _has_our_protocol(receive: Receive) -> bool:
    """Whether uvicorn runs with a protocol of ours.

    uvicorn's object for the lifespan knows the protocol. Where that object tells nothing, the answer is True.
    """
    config = getattr(getattr(receive, "__self__", None), "config", None)
    protocol = getattr(config, "http_protocol_class", None)
    return protocol is None or isinstance(getattr(protocol, "limits", None), HTTPLimits)


async def _refuse(text: str, send: Send) -> NoReturn:
    """Answer 500 in words, since most servers show nothing of an error, and raise the error for their log.

    Raises:
        RuntimeError: In every case.
    """
    body = f"{text}\n".encode()
    fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 500, "headers": fields})
    await send({"type": "http.response.body", "body": body})
    raise RuntimeError(text)


def _cannot_serve(server: str) -> str:
    who = f"{server} shows" if server else "this server shows"
    return (
        f"credssp logs on one tcp connection, and {who} nothing of its connections: run the application by "
        "acredssp.http.server, or by uvicorn with http=acredssp.http.uvicorn.H11Protocol or HttpToolsProtocol "
        "(--http acredssp.http.uvicorn:HttpToolsProtocol)"
    )
