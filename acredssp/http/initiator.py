"""The client's side of CredSSP over HTTP, without I/O: one object for each TCP connection.

How to drive it
===============

Begin with `start()`, or give the server's 401 to `receive()` where the server was asked first. Read each result so:

    event                 answer it: give `event` and its answer to `resume()`, whose result is read as this one
    authorization         send a request with an empty body and this `Authorization` over the same connection, and give
                          the status and the headers of its response to `receive()`
    neither               the connection is logged on

An error ends the logon: close the connection. A request that is sent over another connection logs on nobody.
"""

import contextlib
import dataclasses
import ipaddress
from typing import Any, Final

from acredssp.config import ClientConfig
from acredssp.errors import (
    AccessDenied,
    AuthenticationError,
    CredSSPError,
    LimitExceeded,
    LocalProtocolError,
    NegotiationFailure,
    PeerClosed,
    PolicyError,
    RemoteProtocolError,
    TLSError,
)
from acredssp.events import Answered, Event, Question, SecurityContext, State, StepResult
from acredssp.http.headers import SCHEME, Headers, challenge_token, challenges, values_of, with_token
from acredssp.policy import FIRST_SAFE_VERSION
from acredssp.status import NTSTATUS, SecurityStatus, Stage
from acredssp.wire import TSRequest

__all__ = ["FIRST_STEP", "PORTS_HINT", "SCHEME_HINT", "SHARED_HINT", "ClientExchange", "ClientTurn"]

_UNAUTHORIZED: Final = 401
_NOT_OFFERED: Final = (
    "enable credssp on the server: for WinRM run `Enable-WSManCredSSP -Role Server` there, as an administrator"
)
SHARED_HINT: Final = (
    "a proxy in between may share connections among clients, which credssp does not allow, or the server was restarted"
)
PORTS_HINT: Final = "WinRM has http at port 5985, https at 5986"
SCHEME_HINT: Final = (
    f"check the scheme and the port of the url: a server of https answers nothing, or 400, to plain http; {PORTS_HINT}"
)
_NOT_ALLOWED: Final = "the user may not log on there: ask the service's administrator"
_GARBLED_HINT: Final = (
    "the answer is none of credssp: check the url, and whether a proxy in between changes header fields"
)
_SILENT: Final = (
    "it told no reason: check user and password, whether the user may log on there (for WinRM: administrators, and the "
    "group Remote Management Users), and with Kerberos the server's clock and keytab"
)
_OLD_SERVER: Final = (
    "update the server (CVE-2018-0886); until then, Policy(min_version=2, dangerous_allow_legacy_versions=True) takes "
    "it, as AllowEncryptionOracle at 2 (vulnerable) does in windows"
)
_OLD_CLIENT: Final = "a server with AllowEncryptionOracle at 0 (force updated clients) refuses versions below 5"
_STEPS: Final = {
    State.TLS: "the tls handshake inside credssp",
    State.NEGO_TOKEN: "the logon by kerberos or ntlm",
    State.PUB_KEY_AUTH: "the proof of the server's key",
    State.ESTABLISHED: "the credentials",
}
FIRST_STEP: Final = f"in leg 1 of the logon, {_STEPS[State.TLS]}"
"""How far a logon has come while the server has not answered anything."""
_METHOD_HINT: Final = "the path takes other methods: WinRM's takes POST alone"
_HTTP_1_0_HINT: Final = (
    "a proxy in between asks the service by http/1.0, as nginx does unless it has `proxy_http_version 1.1`; credssp "
    "also needs a connection to the service for each client, so let the proxy pass tcp on (nginx: a `stream` server)"
)
_BEHIND_HINT: Final = "a proxy in between cannot reach the server"
_STATUS_HINTS: Final = {
    200: "nobody asks for a logon at this url: check its host, port and path (WinRM's path is /wsman)",
    301: "give the url that the server leads to",
    302: "give the url that the server leads to",
    400: f"{SCHEME_HINT}; or {SHARED_HINT}",
    403: "the server refuses everybody at this path, or clients from this address",
    404: "check the path of the url: WinRM's is /wsman",
    405: _METHOD_HINT,
    407: "a proxy in between asks for a logon of its own",
    413: "log on with requests that have empty bodies",
    431: "the server bounds its headers too tightly: for http.sys raise MaxFieldLength and MaxRequestBytes",
    500: "the server failed: its log has the reason (for WinRM the event log, Windows Remote Management)",
    501: _METHOD_HINT,
    502: _BEHIND_HINT,
    503: "the server has no room for more connections, or the service behind it does not run: for WinRM run "
    "`winrm quickconfig` there",
    504: _BEHIND_HINT,
    505: _HTTP_1_0_HINT,
}
"""What a status means in answer to the first token."""
_MOST_WORDS: Final = 200
"""Characters of a server's own text in an error."""
_LATER_HINTS: Final = _STATUS_HINTS | {200: SHARED_HINT, 400: SHARED_HINT}
"""What it means in answer to a later token, when the server has spoken credssp already."""


@dataclasses.dataclass(frozen=True, slots=True)
class ClientTurn:
    """What the caller does next. The text at the top of the module explains each case.

    Attributes:
        authorization: The value of the next request's `Authorization`; empty where no request is due.
        event: The engine's question; None where it asks nothing.
    """

    authorization: str = dataclasses.field(default="", repr=False)
    event: Event | None = None


class ClientExchange:
    """The logon of one TCP connection.

    Args:
        config: The client's configuration. Its delegation policy has to allow `spn`.
        host: The server's name, which its certificate inside CredSSP has to have.
        spn: The server's service principal name; None for `HTTP/` and the host.
        channel_bindings: The application data of the inner mechanism's bindings (RFC 5929); None for none.

    Attributes:
        context: The engine; once it is established, bodies are sealed and opened by it.
        logged_on: Whether the server has accepted the logon.
    """

    def __init__(
        self, config: ClientConfig, host: str, *, spn: str | None = None, channel_bindings: bytes | None = None
    ) -> None:
        self._spn = f"HTTP/{host}" if spn is None else spn
        self._config, self._host = config, host.strip("[]")  # certificates have addresses without the url's brackets
        by_address = _is_address(self._host)
        self.context: SecurityContext = config.new_context(
            server_hostname=None if by_address else host,
            spn=self._spn,
            channel_bindings=channel_bindings,
            ask_kdc=spn is not None or not by_address,
            turns=True,
        )
        self.logged_on = False
        self._begun = False
        self._legs = 0

    def __repr__(self) -> str:
        return f"<ClientExchange {self._spn} {'logged on' if self.logged_on else self.step}>"

    @property
    def step(self) -> str:
        """How far the logon has come, in words for an error text."""
        what = _STEPS.get(self.context.state)
        return f"in leg {self._legs} of the logon" + (f", {what}" if what else "")

    @property
    def is_first_leg(self) -> bool:
        """Whether the server has not answered any token yet."""
        return self._legs < 2

    def start(self) -> ClientTurn:
        """Begin the logon without asking which schemes the server offers.

        Raises:
            LocalProtocolError: The logon has begun before.
        """
        if self._begun:
            raise LocalProtocolError("the logon has begun already: give the server's answer to receive()")
        self._begun = True
        return self._step(b"")

    def receive(self, status: int, headers: Headers, body: bytes = b"") -> ClientTurn:
        """Take the server's response to the newest request.

        Args:
            status: The status code.
            headers: The header fields.
            body: The beginning of the body. The error for a status that is no part of a logon shows a line of it.

        Raises:
            NegotiationFailure: The server does not offer CredSSP.
            AuthenticationError: The server refuses the logon.
            CredSSPError: The logon failed. In every case: close the connection.
        """
        if self.logged_on:
            raise LocalProtocolError("the connection is logged on: there are no more legs")
        fields, step = tuple(headers), self.step
        try:
            return self._receive(status, fields, body)
        except CredSSPError as error:
            self.context.fail(error)
            self._explain(error, step, silent=status == _UNAUTHORIZED and not _has_token(fields))
            raise

    def resume(self, event: Question[Answered], answer: Answered) -> ClientTurn:
        """Give the answer to `ClientTurn.event`. Go on as after `receive()`.

        Raises:
            LocalProtocolError: The engine does not wait for this answer; nothing changed.
            CredSSPError: The logon failed: close the connection.
        """
        step = self.step
        try:
            return self._turn(self.context.resume(event, answer))
        except CredSSPError as error:
            self._explain(error, step)
            raise

    def fail(self, error: CredSSPError) -> None:
        """End the logon with an error of the caller, such as a timeout."""
        self.context.fail(error)

    def answer(self, event: Event) -> Any:
        """Return the configuration's answer to an event. A step of Kerberos waits for a KDC: run it in a thread.

        `acredssp.aio.answer_events()` does so.

        Raises:
            CredSSPError: The server is refused; the logon is over: close the connection.
        """
        try:
            return self._config.answer(event, self._host)
        except CredSSPError as error:
            self.context.fail(error)
            raise

    def _receive(self, status: int, headers: Headers, body: bytes) -> ClientTurn:
        if self.context.state is State.ESTABLISHED:
            return self._verdict(status, headers)
        if status != _UNAUTHORIZED:
            raise RemoteProtocolError(
                f"expected status 401 with a credssp token {self.step}, got status {status}{_words(headers, body)}",
                stage=Stage.NEGOTIATION if self.is_first_leg else None,
                hint=(_STATUS_HINTS if self.is_first_leg else _LATER_HINTS).get(status),
            )
        token = challenge_token(headers)
        if token is None and self.is_first_leg:
            raise NegotiationFailure(
                f"expected {SCHEME} among the schemes that the server offers, got {_offered(headers)}",
                hint=_NOT_OFFERED,
            )
        if not self._begun:
            return self.start()
        if _closes(headers):
            self.context.step(token or b"")  # raises the error that the token tells, if it tells one
            raise PeerClosed(f"the server closes the connection {self.step}", hint=SHARED_HINT)
        return self._step(token or b"")

    def _explain(self, error: CredSSPError, step: str, *, silent: bool = False) -> None:
        """Tell in an error of the engine what it means over HTTP.

        Args:
            error: The error.
            step: How far the logon had come.
            silent: Whether the server answered without a token.
        """
        if silent and isinstance(error, PeerClosed):
            error.message = f"the server did not answer with a credssp token {step}"
            error.hint = SHARED_HINT
        elif silent and isinstance(error, AuthenticationError) and not isinstance(error, AccessDenied):
            error.message = f"the server refused the logon: it did not answer with a credssp token {step}"
            old = self._config.policy.max_version < FIRST_SAFE_VERSION
            error.hint = f"{_SILENT}; {_OLD_CLIENT}" if old else _SILENT
        elif isinstance(error, RemoteProtocolError) and error.hint is None and not self._is_clear(error):
            error.message += "" if step in error.message else f", {step}"
            error.hint = SHARED_HINT if self._legs > 1 else _GARBLED_HINT  # it may be another connection's
        elif isinstance(error, PolicyError) and error.nt_status is NTSTATUS.STATUS_NOT_SUPPORTED:
            error.hint = _OLD_SERVER
        elif error.security_status is SecurityStatus.SEC_E_TARGET_UNKNOWN:
            error.hint = f"the logon was for {self._spn}: give another name of the service (spn), for WinRM WSMAN/host"

    def _is_clear(self, error: RemoteProtocolError) -> bool:
        """Whether an error needs no hint: a limit names its number, and the first alert of tls its reason."""
        return isinstance(error, LimitExceeded) or (isinstance(error, TLSError) and self.is_first_leg)

    def _step(self, token: bytes) -> ClientTurn:
        self._legs += 1
        return self._turn(self.context.step(token))

    def _turn(self, result: StepResult) -> ClientTurn:
        if result.event is not None:
            return ClientTurn(event=result.event)
        assert result.output or result.status is SecurityStatus.SEC_E_OK
        return ClientTurn(with_token(result.output))

    def _verdict(self, status: int, headers: Headers) -> ClientTurn:
        """Take the response to the credentials. Every status but 401 is the application's."""
        if status == _UNAUTHORIZED:
            told = self._error_code(challenge_token(headers) or b"")
            raise AccessDenied(
                "the server refused the logon after it got the credentials",
                nt_status=told or NTSTATUS.STATUS_ACCESS_DENIED,
                hint=None if told else f"{_NOT_ALLOWED}; or {SHARED_HINT}",
            )
        self.logged_on = True
        return ClientTurn()

    def _error_code(self, token: bytes) -> NTSTATUS | None:
        """Return the status in the server's last token, which says why it refused; None if there is no status."""
        with contextlib.suppress(CredSSPError):
            assert self.context.tls is not None
            if code := TSRequest.decode(self.context.tls.read(token)).error_code:
                return NTSTATUS(code)
        return None


def _has_token(headers: Headers) -> bool:
    with contextlib.suppress(CredSSPError):
        return bool(challenge_token(headers))
    return True


def _closes(headers: Headers) -> bool:
    options = ",".join(values_of(headers, "Connection")).lower().split(",")
    return "close" in [option.strip(" \t") for option in options]


def _words(headers: Headers, body: bytes) -> str:
    """Return what a server says beside a status, for an error text: one line of plain text, which no terminal obeys."""
    kind = ",".join(values_of(headers, "Content-Type")).lower()
    if not kind.startswith("text/plain") or values_of(headers, "Content-Encoding"):
        return ""
    line = body.decode("utf-8", "replace").strip().partition("\n")[0].strip()
    return f", and the server says {line[:_MOST_WORDS]!a}" if line else ""


def _offered(headers: Headers) -> str:
    schemes = [challenge.scheme for challenge in challenges(values_of(headers, "WWW-Authenticate"))]
    return ", ".join(dict.fromkeys(schemes[:10])) or "none"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
