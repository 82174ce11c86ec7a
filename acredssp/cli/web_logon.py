"""The one logon of `acredssp doctor` to a service over HTTP, such as WinRM: its steps are noted, and its stages told.

Only the logon is made, by requests without a body: the service is asked for nothing.
"""

import asyncio
import contextlib
import dataclasses
import ssl
import time
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from typing import Final

import h11

from acredssp.aio import ClientAnswers, answer_events, reason_of, write_if_open
from acredssp.cli.arguments import Service
from acredssp.cli.examination import Course, Examination, Step, addresses_of, facts_of, mark_end
from acredssp.cli.outcome import ConnectError, Interrupted
from acredssp.cli.probe import Probed
from acredssp.cli.probing import Prober, now
from acredssp.cli.rdp_logon import tls_name
from acredssp.cli.report import LoginReport
from acredssp.config import ClientConfig
from acredssp.credentials import Password
from acredssp.diagnosis import Finding, LogonFacts, Reach, WebFacts, explain, judge_web
from acredssp.errors import (
    CertificateError,
    CredSSPError,
    HandshakeTimeout,
    PeerClosed,
    RemoteProtocolError,
    TLSError,
)
from acredssp.events import HandshakeInfo, StepMechanism
from acredssp.http import ClientExchange, ClientTurn
from acredssp.status import Stage
from acredssp.tls import end_point_binding
from acredssp.workers import Address

__all__ = ["WebPatient", "examine_service"]

_CHUNK: Final = 16 * 1024
_MOST_OF_A_BODY: Final = 65_536
"""Bytes of a body that may come with one answer; nobody reads it."""
_CLOSE_GRACE: Final = 1.0
"""Seconds that a service gets to end TLS in order; the result does not depend on it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WebPatient:
    """Whose logon to which service is examined.

    Attributes:
        service: The service.
        config: Who logs on, and how. Its delegation policy decides whether the service gets the credentials.
        name: The name that the certificate inside CredSSP must have.
        spn: The service principal name; None for `HTTP/` and the name.
        https: The TLS context of HTTPS; None for a service of http.
        timeout: The seconds that the quiet questions, connecting and the logon may take together.
    """

    service: Service
    config: ClientConfig
    name: str
    spn: str | None
    https: ssl.SSLContext | None
    timeout: float

    @property
    def address(self) -> Address:
        """Where the service listens."""
        return Address(self.service.host, urllib.parse.urlsplit(self.service.url).port or 0)


class _Logon:
    """One logon, whose every step is noted.

    Attributes:
        info: The facts of the handshake that are known so far; None before it has begun.
        kdc_seconds: How long Kerberos took.
        status: The status of the service's last answer; 0 before it has answered.
        steps: What was noted.
    """

    def __init__(self, patient: WebPatient) -> None:
        self._patient = patient
        self._connection = h11.Connection(h11.CLIENT)
        self._exchange: ClientExchange | None = None
        self._began = time.perf_counter()
        self.kdc_seconds = 0.0
        self.status = 0
        self.steps: list[Step] = []

    @property
    def info(self) -> HandshakeInfo | None:
        with contextlib.suppress(CredSSPError):  # a certificate whose key cannot be read has no fingerprint
            return self._exchange.context.info if self._exchange is not None else None
        return None

    async def log_on(self, seconds: float) -> None:
        """Connect, log on and close the connection, in so many seconds.

        Raises:
            CredSSPError: The logon failed.
        """
        patient = self._patient
        try:
            async with asyncio.timeout(seconds), self._connected() as (reader, writer):
                await self._exchanged(reader, writer)
        except TimeoutError:
            step = self._exchange.step if self._exchange is not None else "before the connection was made"
            stage = None if self._exchange is not None else Stage.CONNECT
            raise HandshakeTimeout(f"{patient.service.url} gave no answer in time, {step}", stage=stage) from None
        except CredSSPError:
            raise
        except (ConnectionError, h11.RemoteProtocolError) as error:
            assert self._exchange is not None
            what = f"expected an answer of http {self._exchange.step}, got"
            if isinstance(error, ConnectionError):
                raise PeerClosed(f"{what} a reset of the connection") from None
            raise RemoteProtocolError(f"{what} something else: {error}") from None

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        patient, address = self._patient, self._patient.address
        try:
            reader, writer = await asyncio.open_connection(
                address.host,
                address.port,
                ssl=patient.https,
                server_hostname=address.host if patient.https is not None else None,
            )
        except ssl.SSLCertVerificationError as error:
            what = f"the certificate of https is not trusted: {error.verify_message}"
            raise CertificateError(what, stage=Stage.TLS) from None
        except ssl.SSLError as error:
            raise TLSError(f"https: {reason_of(error)}", stage=Stage.TLS) from None
        except (OSError, UnicodeError) as error:
            raise ConnectError(f"cannot connect to {address}: {reason_of(error)}", stage=Stage.CONNECT) from None
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CLOSE_GRACE):
                    await writer.wait_closed()

    async def _exchanged(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        patient = self._patient
        tls = writer.get_extra_info("ssl_object")
        binding = end_point_binding(tls.getpeercert(binary_form=True)) if tls is not None else None
        self._exchange = exchange = ClientExchange(
            patient.config, patient.name, spn=patient.spn, channel_bindings=binding
        )
        answers = ClientAnswers(patient.config, patient.name)
        turn = await self._answered(exchange, exchange.start(), answers)
        while not exchange.logged_on:
            request = self._request(turn.authorization)
            write_if_open(writer, request)
            self._note(0, len(turn.authorization))
            response, said = await self._response(reader)
            size = sum(len(value) for _, value in response.headers)
            self.status = response.status_code
            fields = [(name.decode("ascii"), value.decode("latin-1")) for name, value in response.headers]
            try:
                turn = await self._answered(exchange, exchange.receive(self.status, fields, said), answers)
            finally:
                self._note(size, 0)

    async def _answered(self, exchange: ClientExchange, turn: ClientTurn, answers: ClientAnswers) -> ClientTurn:
        began = time.perf_counter()
        asked_kdc = isinstance(turn.event, StepMechanism)
        try:
            return await answer_events(exchange, turn, answers)
        finally:
            if asked_kdc:
                self.kdc_seconds += time.perf_counter() - began

    def _note(self, took: int, sent: int) -> None:
        assert self._exchange is not None
        state = "the answer" if sent else self._exchange.context.state.name
        self.steps.append(Step(time.perf_counter() - self._began, took, sent, state, ""))

    def _request(self, authorization: str) -> bytes:
        if self._connection.our_state is not h11.IDLE:
            self._connection.start_next_cycle()
        service = self._patient.service
        headers = [
            ("Host", str(self._patient.address)),
            ("User-Agent", "acredssp doctor"),
            ("Authorization", authorization),
            ("Content-Length", "0"),
        ]
        request = h11.Request(method="POST", target=urllib.parse.urlsplit(service.url).path, headers=headers)
        return b"".join(self._connection.send(event) or b"" for event in (request, h11.EndOfMessage()))

    async def _response(self, reader: asyncio.StreamReader) -> tuple[h11.Response, bytes]:
        """Read one answer; return its header and its body."""
        response, body = None, b""
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
                data = await reader.read(_CHUNK)
                if not data:
                    assert self._exchange is not None
                    raise PeerClosed(f"the service ended the connection {self._exchange.step}")
                self._connection.receive_data(data)
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > _MOST_OF_A_BODY:
                    raise RemoteProtocolError(f"expected at most {_MOST_OF_A_BODY} bytes with an answer, got more")
            elif isinstance(event, h11.EndOfMessage):
                assert response is not None
                return response, body


async def examine_service(patient: WebPatient, prober: Prober, course: Course | None = None) -> Examination:
    """Ask the service quietly, log on once, and explain what came. The arguments are those of `rdp_logon.examine`."""
    course = course or Course()
    addresses: tuple[str, ...] = ()
    service = prober.nothing_of_service(patient.service)
    logon, error = _Logon(patient), None
    began = time.perf_counter()
    try:
        course.begin(f"looking for the address of {patient.address.host}")
        addresses = await addresses_of(patient.address)
        course.begin(f"asking {patient.service.url} quietly, without a logon")
        await prober.service(patient.service, inside=False, facts=service)
        course.begin(f"logging on to {patient.service.url}")
        began = time.perf_counter()
        await logon.log_on(patient.timeout - service.seconds)
    except CredSSPError as failure:
        error = failure
    except asyncio.CancelledError:
        error = course.interrupted()
    report = LoginReport.of(error, logon.info, time.perf_counter() - began)
    facts = facts_of(
        patient.config,
        report,
        error,
        host=patient.service.host,
        spn=patient.spn or f"HTTP/{patient.name}",
        server=service,
        nothing_delegated=not isinstance(patient.config.authenticate, Password),
        kdc_seconds=logon.kdc_seconds,
    )
    return Examination(
        target=patient.service.url,
        probed=Probed(service, _judged(service, prober.name_of(patient.service.host), error)),
        addresses=addresses,
        report=report,
        error=error,
        stages=tuple(mark_end(_stages(patient, addresses, facts, service, report), _ended(facts, addresses, service))),
        steps=tuple(logon.steps),
        facts=facts,
        tickets=await asyncio.to_thread(patient.config.list_tickets),
        causes=[] if isinstance(error, Interrupted) else explain(facts, now()),
    )


def _judged(service: WebFacts, name: str, error: CredSSPError | None) -> list[Finding]:
    """Judge the service; say nothing of one whose answer nobody waited for."""
    unanswered = isinstance(error, Interrupted) and not service.status
    return [] if unanswered else judge_web(service, name, now())


def _stages(
    patient: WebPatient, addresses: tuple[str, ...], facts: LogonFacts, service: WebFacts, report: LoginReport
) -> Iterator[tuple[str, str, str]]:
    """Return for each stage of the logon: its name, what was expected, and what came."""
    policy, error = patient.config.policy, facts.error
    yield "dns", "an address", ", ".join(addresses) or "none"
    yield "tcp", f"a connection to {patient.address}", service.reach.value.replace("_", " ")
    if patient.https is not None:
        judgement = service.judgement
        trusted = "" if judgement is None else "trusted" if judgement.trusted else judgement.reason
        yield "https", f"a certificate for {patient.service.host}", f"{service.tls_version} {trusted}".strip()
    came = f"{service.status}: {', '.join(service.schemes) or 'no scheme'}" if service.status else service.problem
    yield "http", "401 that offers CredSSP", came
    yield "tls inside", f"{tls_name(policy.min_tls)} or newer", report.tls_version or ""
    yield "credssp", f"version {policy.min_version} to {policy.max_version}", str(facts.version or "")
    used = f"{facts.mechanism}; no kerberos: {facts.fallback}" if facts.fallback else facts.mechanism
    yield "mechanism", str(policy.mechanism), used
    if facts.realm or facts.mechanism == "kerberos":
        wanted = f"a ticket of {facts.realm or 'the realm'} for {facts.spn}"
        yield "kerberos", wanted, f"{facts.kdc_seconds:.1f} s"
    yield "logon", "accepted", "accepted" if error is None else _told(error)


def _told(error: CredSSPError) -> str:
    """Return how the logon ended, and where."""
    return error.message if isinstance(error, Interrupted) else f"{error.message} (at {error.stage or 'http'})"


def _ended(facts: LogonFacts, addresses: tuple[str, ...], service: WebFacts) -> str | None:  # noqa: PLR0911 - one for each row
    """Return the row at which the logon ended; None for a success."""
    error = facts.error
    if error is None:
        return None
    if isinstance(error, Interrupted):
        return "logon"
    if error.message.startswith("kerberos:"):
        return "kerberos"
    match error.stage:
        case Stage.CONNECT if not addresses:
            return "dns"
        case Stage.CONNECT:
            return "https" if service.secure and service.reach is Reach.REACHED else "tcp"
        case None | Stage.NEGOTIATION:
            return "http"
        case Stage.TLS:
            return "https" if error.message.startswith(("https:", "the certificate of https")) else "tls inside"
        case Stage.NEGO_TOKEN:
            return "mechanism"
        case _:
            return "logon"
