"""The answers of a server that come from the carriage itself: to a leg of the logon, and to whatever is refused."""

import dataclasses
from http import HTTPStatus
from typing import Final

from acredssp.errors import CredSSPError, RemoteProtocolError
from acredssp.http.errors import HTTPProtocolError
from acredssp.http.headers import with_token

__all__ = ["NO_CODING", "NO_HOST", "Reply", "challenge", "encoded", "logged_on", "plain", "refusal", "with_last_token"]

_CLOSE: Final = ("Connection", "close")
_TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
NO_HOST: Final = "expected one header field Host, got none or several"
NO_CODING: Final = "expected the transfer-encoding chunked alone, got another"
_OK: Final = 200
_BAD_REQUEST: Final = 400
_UNAUTHORIZED: Final = 401


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """A response that the server sends instead of the application's.

    Attributes:
        status: The status code.
        headers: The header fields, Content-Length among them.
        body: The body: a line of text for people, or nothing.
        close: Whether the connection ends with this response; `headers` then say so too.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = dataclasses.field(repr=False)
    body: bytes = b""
    close: bool = False


def challenge(token: bytes = b"", text: str = "") -> Reply:
    """Ask for a logon, or for its next leg."""
    return _reply(_UNAUTHORIZED, text, ("WWW-Authenticate", with_token(token)))


def logged_on() -> Reply:
    """Answer the last leg of a logon."""
    return _reply(_OK, "")


def refusal(error: CredSSPError, token: bytes | None = None) -> Reply:
    """Return the response that tells a client why its request was refused, and ends the connection.

    The text names what broke the rules of HTTP or of sealed bodies. It never tells a stranger why a logon failed: that
    is for the log, and for `token`.

    Args:
        error: What was wrong.
        token: The last token of a failed logon, which may be empty; None where the logon was over.
    """
    if isinstance(error, HTTPProtocolError) and error.http_status != _UNAUTHORIZED:
        return _reply(error.http_status, str(error), close=True)
    if token is not None:
        return _reply(_UNAUTHORIZED, "the logon failed", ("WWW-Authenticate", with_token(token)), close=True)
    if isinstance(error, HTTPProtocolError):
        return _reply(_UNAUTHORIZED, str(error), ("WWW-Authenticate", with_token(b"")), close=True)
    if isinstance(error, RemoteProtocolError):
        hint = f" ({error.hint})" if error.hint else ""
        return _reply(_BAD_REQUEST, f"the sealed body cannot be opened{hint}", close=True)
    return _reply(500, "the request failed", close=True)


def with_last_token(reply: Reply, token: bytes) -> Reply:
    """Return a refusal with the last token of a logon that was complete.

    Without a token, requests-credssp raises an error of its own, which tells neither the status nor the text.
    """
    return dataclasses.replace(reply, headers=(("WWW-Authenticate", with_token(token)), *reply.headers))


def plain(status: int, text: str) -> Reply:
    """Return the reply to bytes that the server cannot serve as a request. The reply ends the connection."""
    return _reply(status, text, close=True)


def encoded(reply: Reply) -> bytes:
    """Return the bytes of a response, for a server whose parser cannot make it any more."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in reply.headers)
    return f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n{fields}\r\n".encode() + reply.body


def _reply(status: int, text: str, *headers: tuple[str, str], close: bool = False) -> Reply:
    body = f"{text}\n".encode() if text else b""
    length = ("Content-Length", str(len(body)))
    kind, end = (_TEXT,) if body else (), (_CLOSE,) if close else ()
    return Reply(status, (*headers, *kind, length, *end), body, close)
