"""What an error of the HTTP library means: the same sentence for every library, with the service, and what to do.

The libraries tell their errors in many ways, and most of them name neither the service nor a way out. So a connection
(`wire.Wire`) says which fault an error stands for, and this module has the words. An error of the library keeps its
class and gets our text; what ends a logon under way is an error of this package.

Who calls: `connection`, with every error of a library.
"""

import dataclasses
import errno
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Final, assert_never

from acredssp.aio import reason_of
from acredssp.errors import CredSSPError, HandshakeTimeout, PeerClosed, RemoteProtocolError
from acredssp.http.initiator import FIRST_STEP, PORTS_HINT, SCHEME_HINT, SHARED_HINT, ClientExchange
from acredssp.http.wire import Fault, Origin

__all__ = ["ONCE", "Failure", "of_answer", "of_connecting", "of_logon", "of_request", "of_total"]

_NOT_THERE: Final = f"check the host and the port of the url, and that the service runs: {PORTS_HINT}"
_NO_TLS: Final = f"check the scheme and the port of the url: {PORTS_HINT}"
_NO_NAME: Final = "check the host of the url, and the resolver of this machine"
_NO_ANSWER: Final = (
    "check the host and the port of the url, and whether a firewall is in between, or raise the time limit for "
    "connecting"
)
_UNTRUSTED: Final = (
    "this is the certificate of https: trust its authority (ssl_context); Trust.pinned is for the one inside credssp"
)
_OTHER_TLS: Final = "check the scheme and the port of the url, and which versions of tls the server takes"
_PROXY: Final = "check the proxy's url, and whether it lets this client connect there"
_ENDED: Final = "the server, or a proxy in between, did not answer the first token: look into its log"
_LATE: Final = "look into the server's log, or allow more time (Policy.handshake_timeout, and the library's own limits)"
ONCE: Final = "the server may have acted on the request, which is not sent again: find out before you repeat it"
_REFUSED: Final = re.compile(rf"\[Errno (?!{errno.ECONNREFUSED}\])")
"""A reason other than a refusal, in asyncio's text about several addresses of one name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """What failed, in words.

    Attributes:
        message: The service, what was expected, and what came.
        hint: What to do next.
    """

    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})"


def of_connecting(origin: Origin, error: BaseException, fault: Fault, detail: str, seconds: float) -> Failure:
    """Return why there is no connection.

    Args:
        origin: The service.
        error: The library's error.
        fault: What the error stands for.
        detail: What went wrong at a proxy; empty for any other fault.
        seconds: The time limit for connecting.
    """
    what, hint = _no_connection(origin, error, fault, detail, seconds)
    return Failure(f"cannot connect to {origin}: {what}", hint)


def _no_connection(origin: Origin, error: BaseException, fault: Fault, detail: str, seconds: float) -> tuple[str, str]:
    match fault:
        case Fault.PROXY:
            return detail, _PROXY
        case Fault.NO_HTTP:
            return "expected an answer of http from the proxy, got something else", _PROXY
        case Fault.TIMEOUT:
            return f"expected a connection within {seconds:g} seconds, got none", _NO_ANSWER
        case Fault.ENDED:
            return _no_network(origin, error) or _no_tls(origin, error) or _other_reason(error)
        case other:
            assert_never(other)


def _no_network(origin: Origin, error: BaseException) -> tuple[str, str] | None:
    """Return the text for a name without an address, and for a port without a service."""
    for each in _causes(error):
        if isinstance(each, socket.gaierror):
            return f"expected the address of {origin.host}, got none: {reason_of(each).lower()}", _NO_NAME
        if _is_refusal(each):
            return "expected a service at this port, and nothing listens there", _NOT_THERE
    return None


def _no_tls(origin: Origin, error: BaseException) -> tuple[str, str] | None:
    """Return the text for a handshake of TLS that failed."""
    for each in _causes(error):
        if why := getattr(each, "verify_message", ""):  # aiohttp's own errors of these classes lack the attributes
            return f"expected a certificate of https that is trusted, got another: {why}", _UNTRUSTED
        reason = getattr(each, "reason", None)
        if isinstance(each, ssl.SSLError) and reason == "WRONG_VERSION_NUMBER":
            return "expected a handshake of tls, as of https, got an answer that is no tls", _NO_TLS
        if isinstance(each, ssl.SSLEOFError | ConnectionError) and origin.scheme == "https":
            return "expected a handshake of tls, as of https, got the end of the connection", _NO_TLS
        if isinstance(each, ssl.SSLError) and reason:
            return f"the handshake of tls failed: {reason.replace('_', ' ').lower()}", _OTHER_TLS
    return None


def _other_reason(error: BaseException) -> tuple[str, str]:
    last = next((each for each in reversed([*_causes(error)]) if isinstance(each, OSError)), error)
    assert isinstance(last, Exception)
    return reason_of(last) or type(last).__name__, _NOT_THERE


def of_logon(origin: Origin, exchange: ClientExchange | None, fault: Fault) -> CredSSPError:
    """Return the error for a logon that the network, a time limit or a program that speaks no HTTP has ended."""
    step = exchange.step if exchange is not None else FIRST_STEP
    first = exchange is None or exchange.is_first_leg
    by_scheme = SCHEME_HINT if origin.scheme == "http" else _ENDED
    if fault is Fault.TIMEOUT:
        return HandshakeTimeout(f"{origin} gave no answer in time, {step}", hint=by_scheme if first else _LATE)
    if fault is Fault.NO_HTTP:
        what = f"expected an answer of http from {origin}, got something else, {step}"
        return RemoteProtocolError(what, hint=_NO_TLS if first else SHARED_HINT)
    return PeerClosed(f"the connection to {origin} ended, {step}", hint=by_scheme if first else SHARED_HINT)


def of_request(origin: Origin, fault: Fault, seconds: float | None) -> Failure:
    """Return why a request over a connection that is logged on got no answer.

    Args:
        origin: The service.
        fault: What the library's error stands for.
        seconds: The time limit for each wait; None where there is none.
    """
    if fault is Fault.TIMEOUT:
        within = "in time" if seconds is None else f"within {seconds:g} seconds"
        return Failure(f"{origin}: expected an answer {within}, got none", ONCE)
    if fault is Fault.NO_HTTP:
        return Failure(f"{origin}: expected an answer of http, got something else", ONCE)
    return Failure(f"{origin}: expected an answer, got the end of the connection", ONCE)


def of_answer(origin: Origin, fault: Fault, seconds: float | None) -> Failure:
    """Return why the rest of an answer did not come; see `of_request`."""
    if fault is Fault.TIMEOUT:
        within = "in time" if seconds is None else f"within {seconds:g} seconds"
        return Failure(f"{origin}: expected the rest of the answer {within}, got nothing more", ONCE)
    return Failure(f"{origin}: expected the rest of the answer, got the end of the connection", ONCE)


def of_total(origin: Origin, method: str, seconds: float, steps: Sequence[str]) -> Failure:
    """Return why a request was cut by its limit for everything.

    Args:
        origin: The service.
        method: The method of the request.
        seconds: The time limit.
        steps: How far the request came before it was sent; empty where it may have been.
    """
    what = f"{method} to {origin} took longer than {seconds:g} seconds (total)"
    if steps:
        return Failure(", ".join([what, *steps]), "the request was not sent; allow more time, or see what takes it")
    return Failure(what, ONCE)


def _is_refusal(error: BaseException) -> bool:
    """Whether nothing listens. asyncio joins the reasons of several addresses to one text, without a number."""
    if isinstance(error, ConnectionRefusedError) or getattr(error, "errno", None) == errno.ECONNREFUSED:
        return True
    text = str(error)
    return isinstance(error, OSError) and f"[Errno {errno.ECONNREFUSED}]" in text and not _REFUSED.search(text)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Return an error and those behind it, which the libraries have caught."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
