"""The connections of `acredssp probe`: what is asked of a server, quietly and once, and how each connection ends.

No question names a user or proves a password: nothing is a logon, and nothing can be counted as a failed one. These
connections are made to a server of RDP, one after the other:

    one for each protocol: a Connection Request, its Confirm, and the end;
    one for each version of TLS: the same, the TLS handshake, close_notify;
    one for each cipher suite that the server takes, if `suites` asks for them: the same;
    one for each question of CredSSP: the same with one TSRequest and its answer (`acredssp.diagnosis.Question`).

A service of WinRM gets one connection with one POST without a body and without a logon. If it offers CredSSP, it gets a
second one, whose POST carries the ClientHello of the TLS inside CredSSP: the answer has the certificate there. A server
that does not answer the first connection gets no other. What a later connection did not show is noted as not known.
All connections to a host together have a time limit, in which waiting for their turn does not count.
"""

import asyncio
import base64
import contextlib
import dataclasses
import datetime as dt
import email.message
import http.client
import io
import socket
import ssl
import time
import urllib.parse
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from acredssp import diagnosis
from acredssp.aio import reason_of, write_if_open
from acredssp.arguments import is_ip_address
from acredssp.carriage import TLS
from acredssp.cli.arguments import Service
from acredssp.cli.outcome import is_own_limit
from acredssp.diagnosis import (
    CertificateFacts,
    ClientFacts,
    NegotiationAnswer,
    NoAnswer,
    Question,
    Reach,
    ServerFacts,
    ShownCertificate,
    TLSAnswer,
    TLSOutcome,
    Unanswered,
    WebFacts,
)
from acredssp.errors import CredSSPError, LimitExceeded, PeerClosed, RemoteProtocolError, TLSError
from acredssp.http import challenges
from acredssp.rdp import RDP, ConnectionConfirm, ConnectionRequest, Protocols, read_negotiation
from acredssp.tls import TLSSession
from acredssp.trust import Trust, Verdict
from acredssp.workers import Address

__all__ = ["ASKED_PROTOCOLS", "Pace", "Prober", "hear_client", "now"]

_CREDSSP: Final = Protocols.HYBRID | Protocols.HYBRID_EX
ASKED_PROTOCOLS: Final = (
    _CREDSSP,
    Protocols.HYBRID,
    Protocols.SSL,
    Protocols.RDP,
    Protocols.RDSTLS,
    Protocols.RDSAAD,
)
"""What the Connection Requests ask for, in this order."""
_CREDSSP_SCHEME: Final = "credssp"
_MOST_SILENCES: Final = 2
"""After so many Connection Requests in a row without an answer, the server is asked no more."""
_TLS_VERSIONS: Final = {
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1": ssl.TLSVersion.TLSv1,
}
_ALL_SUITES: Final = "ALL:!aNULL:!eNULL:@SECLEVEL=0"
"""Whatever the local OpenSSL has; its level 0 alone allows TLS 1.0 and 1.1."""
_WITH_CHOICE_OF_SUITES: Final = ("TLSv1.2", "TLSv1.1", "TLSv1")
"""Python's ssl cannot choose among the suites of TLS 1.3 before Python 3.15. They are all strong."""
_MOST_OF_TLS: Final = 256 * 1024
"""Bytes of the longest TLS handshake and answer that are read."""
_MOST_OF_HTTP: Final = 32 * 1024
_CHUNK: Final = 16 * 1024
_INTERIM: Final = b"HTTP/1.1 1"


def now() -> dt.datetime:
    """Return the time, with its time zone."""
    return dt.datetime.now(dt.UTC)


class Pace:
    """Spaces connections out: at most so many begin in a second, over all hosts.

    Args:
        rate: Connections a second; 0 for no limit.
        clock: Returns the time in seconds.
        sleep: Waits.
    """

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._clock = clock
        self._sleep = sleep
        self._next = 0.0
        self.turns = 0
        """How many connections have begun."""

    async def turn(self) -> None:
        """Wait until the next connection may begin."""
        self.turns += 1
        if not self._interval:
            return
        at = max(self._next, self._clock())
        self._next = at + self._interval
        if (wait := at - self._clock()) > 0:
            await self._sleep(wait)


class _NotReached(Exception):
    """The host was not reached."""

    def __init__(self, reach: Reach, reason: str) -> None:
        super().__init__(reason)
        self.reach = reach
        self.reason = reason


@dataclasses.dataclass(frozen=True, slots=True)
class _Target:
    """A host that is asked, and the time for it.

    Attributes:
        address: Where to connect to.
        limit: Ends what is asked of it.
    """

    address: Address
    limit: asyncio.Timeout

    async def turn(self, pace: Pace) -> None:
        """Wait until the next connection may begin; waiting does not count."""
        loop, end = asyncio.get_running_loop(), self.limit.when()
        assert end is not None
        began = loop.time()
        self.limit.reschedule(None)
        await pace.turn()
        self.limit.reschedule(end + loop.time() - began)


@dataclasses.dataclass(frozen=True, slots=True)
class _Stream:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Prober:
    """Asks servers, one after the other or many at once.

    Args:
        pace: When connections may begin.
        timeout: Seconds for each step of a connection: connecting, the negotiation, TLS, a question with its answer.
        total: Seconds for all connections to a host together.
        trust: By what `login` would judge certificates, and `winrm` those inside CredSSP.
        https_trust: By what `winrm` would judge certificates of HTTPS; None for `trust`, unless that has pins, which
            are for the key inside CredSSP: then nobody judges them.
        server_name: The name that certificates must have; None for the host's own.
        suites: Whether to ask servers of RDP for every cipher suite, too.
        carriage: What a logon to the server is carried in. Its routing token and its preconnection PDU go with each
            question, since they lead to the server; its cookie does not, since it names the user. TLS asks by TLS at
            once, without a Connection Request.
    """

    def __init__(  # noqa: PLR0913 - all named
        self,
        *,
        pace: Pace,
        timeout: float = 5.0,
        total: float = 30.0,
        trust: Trust | None = None,
        https_trust: Trust | None = None,
        server_name: str | None = None,
        suites: bool = False,
        carriage: RDP | TLS = RDP(),  # noqa: B008 - a frozen value
    ) -> None:
        self._pace = pace
        self._timeout = timeout
        self._total = total
        self._trust = trust or Trust.system()
        self._https_trust = https_trust or (None if self._trust.pins else self._trust)
        self._server_name = server_name
        self._suites = suites
        self._carriage = carriage
        self._contexts = {name: _context(version, version) for name, version in _TLS_VERSIONS.items()}
        self._any_version = _context(ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_3) or ssl.create_default_context()

    @property
    def pace(self) -> Pace:
        """When connections may begin, and how many have begun."""
        return self._pace

    def name_of(self, host: str) -> str:
        """Return the name that the certificate of a host must have."""
        return self._server_name or host

    # --- RDP ---

    def nothing_of_server(self, target: Address) -> ServerFacts:
        """Return the facts of a server of RDP of which nothing is known yet."""
        at_once = isinstance(self._carriage, TLS)
        return ServerFacts(str(target), target.host, str(target), reach=Reach.UNKNOWN, tls_at_once=at_once)

    async def server(self, target: Address, *, thorough: bool = True, facts: ServerFacts | None = None) -> ServerFacts:
        """Ask a server of RDP everything.

        Args:
            target: The server.
            thorough: Whether to ask for every protocol and every version of TLS. Otherwise only CredSSP is asked.
            facts: What `nothing_of_server` returned, which is filled as the answers come, for whoever may interrupt
                this; None makes it.
        """
        facts = facts or self.nothing_of_server(target)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._total) as limit:
                await self._ask(facts, _Target(target, limit), thorough)
        except _NotReached as error:
            if facts.negotiation or facts.tls:
                self.note_the_rest(facts, f"connection {facts.connections} {_refused(error)}", thorough=thorough)
            else:
                facts.reach, facts.problem = error.reach, error.reason
        except TimeoutError:
            if facts.reach is Reach.UNKNOWN:
                facts.reach, facts.problem = Reach.NO_ANSWER, f"{self._total:g}"
            else:
                self.note_the_rest(facts, f"the {self._total:g} s for one host were over", thorough=thorough)
        facts.seconds = time.perf_counter() - began
        return facts

    def note_the_rest(self, facts: ServerFacts, problem: str, *, thorough: bool = True) -> None:
        """Note that a server was not asked the rest, and why."""
        for protocols in () if facts.tls_at_once else ASKED_PROTOCOLS[: None if thorough else 1]:
            facts.negotiation.setdefault(protocols, NegotiationAnswer(problem=problem, unasked=True))
        if thorough:
            for name, context in self._contexts.items():
                known = TLSAnswer(TLSOutcome.UNKNOWN, problem=problem) if context else TLSAnswer(TLSOutcome.NOT_TESTED)
                facts.tls.setdefault(name, known)
        for question in Question if facts.credssp_offered else ():
            if question not in facts.answers:
                facts.unanswered.setdefault(question, Unanswered(NoAnswer.NOT_ASKED, problem))

    async def _ask(self, facts: ServerFacts, target: _Target, thorough: bool) -> None:
        if facts.tls_at_once:
            await self._ask_in_tls(facts, target, None, thorough)
            return
        silent = 0
        for protocols in ASKED_PROTOCOLS[: None if thorough else 1]:
            async with self._connected(facts, target) as stream:
                facts.negotiation[protocols] = answer = await self._negotiated(stream, protocols)
            silent = silent + 1 if answer.silent else 0
            if answer.foreign or silent >= _MOST_SILENCES:
                break
        secure = next((each for each in (_CREDSSP, Protocols.HYBRID, Protocols.SSL) if _is_secure(facts, each)), None)
        if secure is not None:
            await self._ask_in_tls(facts, target, secure, thorough)

    async def _ask_in_tls(self, facts: ServerFacts, target: _Target, secure: Protocols | None, thorough: bool) -> None:
        """Ask for TLS and CredSSP, after a Connection Request for `secure` (None for TLS at once)."""
        if thorough:
            for name, context in self._contexts.items():
                facts.tls[name] = tls = await self._tls(facts, target, secure, context)
                if self._suites and tls.cipher and name in _WITH_CHOICE_OF_SUITES:
                    facts.tls[name] = await self._all_suites(facts, target, secure, name)
        if facts.credssp_offered:
            for question in Question:
                await self._question(facts, target, secure, question)

    def _opening(self, protocols: Protocols) -> bytes:
        """Return what a connection begins with: the preconnection PDU, if there is one, and the Connection Request."""
        carriage = self._carriage
        assert isinstance(carriage, RDP)
        request = ConnectionRequest(requested_protocols=protocols, routing_token=carriage.routing_token or None)
        preconnection = carriage.preconnection.encode() if carriage.preconnection is not None else b""
        return preconnection + request.encode()

    async def _negotiated(self, stream: _Stream, protocols: Protocols | None) -> NegotiationAnswer:
        """Send a Connection Request and return what came back; with None, send nothing."""
        if protocols is None:
            return NegotiationAnswer()
        try:
            async with asyncio.timeout(self._timeout):
                write_if_open(stream.writer, self._opening(protocols))
                confirm = ConnectionConfirm.decode(await read_negotiation(stream.reader))
        except TimeoutError:
            return NegotiationAnswer(problem=f"says nothing for {self._timeout:g} s", silent=True)
        except asyncio.IncompleteReadError as error:
            return NegotiationAnswer(problem="ends it" if not error.partial else "ends it in the middle of an answer")
        except ConnectionError:
            return NegotiationAnswer(problem="resets it", reset=True)
        except RemoteProtocolError as error:
            return NegotiationAnswer(problem=error.message, foreign=True)
        return NegotiationAnswer(confirm.selected_protocol, confirm.flags, confirm.failure_code)

    async def _tls(
        self, facts: ServerFacts, target: _Target, secure: Protocols | None, context: ssl.SSLContext | None
    ) -> TLSAnswer:
        """Make a TLS handshake of one version, and end it."""
        tls = TLSSession(context, server_side=False, server_hostname=self._sni(facts.host)) if context else None
        if tls is None or not _begins(tls):
            return TLSAnswer(TLSOutcome.NOT_TESTED)
        async with self._connected(facts, target) as stream:
            negotiated = await self._negotiated(stream, secure)
            if negotiated.problem or negotiated.failure is not None:
                return TLSAnswer(TLSOutcome.UNKNOWN, problem=f"before TLS, the server {_did(negotiated)}")
            try:
                async with asyncio.timeout(self._timeout):
                    await _shake_hands(stream, tls)
            except TimeoutError:
                return TLSAnswer(TLSOutcome.NO_ANSWER, problem=f"no whole answer came within {self._timeout:g} s")
            except (CredSSPError, OSError) as error:
                return _without_tls(error)
            self._note_certificate(facts, tls)
            _close(stream, tls)
        return TLSAnswer(TLSOutcome.ACCEPTED, tls.cipher)

    async def _all_suites(self, facts: ServerFacts, target: _Target, secure: Protocols | None, name: str) -> TLSAnswer:
        """Make handshakes of one version, each without the suites that the server has taken, until it takes none."""
        first, version = facts.tls[name], _TLS_VERSIONS[name]
        taken = [first.cipher]
        while (context := _context(version, version, without=taken)) is not None:
            facts.tls[name] = dataclasses.replace(first, suites=tuple(taken), problem="the probe ended before")
            answer = await self._tls(facts, target, secure, context)
            if answer.outcome in (TLSOutcome.UNKNOWN, TLSOutcome.NO_ANSWER):
                return dataclasses.replace(first, suites=tuple(taken), problem=answer.problem)
            if answer.outcome is not TLSOutcome.ACCEPTED or answer.cipher in taken:
                break
            taken.append(answer.cipher)
        return dataclasses.replace(first, suites=tuple(taken))

    async def _question(
        self, facts: ServerFacts, target: _Target, secure: Protocols | None, question: Question
    ) -> None:
        """Ask one question of CredSSP."""
        tls = TLSSession(self._any_version, server_side=False, server_hostname=self._sni(facts.host))
        _begins(tls)
        lost = NoAnswer.NOT_ASKED
        async with self._connected(facts, target) as stream:
            negotiated = await self._negotiated(stream, secure)
            try:
                async with asyncio.timeout(self._timeout):
                    if negotiated.problem or negotiated.failure is not None:
                        raise PeerClosed(f"before TLS, the server {_did(negotiated)}")
                    await _shake_hands(stream, tls)
                    lost = NoAnswer.ENDED
                    self._note_tls(facts, tls)
                    tls.write(question.message)
                    self._note_answer(facts, question, await _read_request(stream, tls))
                    _close(stream, tls)
                    return
            except TimeoutError:
                lost = NoAnswer.SILENT if lost is NoAnswer.ENDED else lost
                problem = f"no whole answer came within {self._timeout:g} s"
            except (RemoteProtocolError, LimitExceeded) as error:
                lost = NoAnswer.MALFORMED if lost is NoAnswer.ENDED else lost
                problem = error.message
            except (CredSSPError, OSError) as error:
                problem = _told(error)
        facts.unanswered[question] = Unanswered(lost, problem)

    def _note_tls(self, facts: ServerFacts, tls: TLSSession) -> None:
        """Note TLS that is up, which may be the first of its version after others were lost."""
        self._note_certificate(facts, tls)
        known = facts.tls.get(tls.version)
        if known is None or known.outcome is not TLSOutcome.ACCEPTED:
            facts.tls[tls.version] = TLSAnswer(TLSOutcome.ACCEPTED, tls.cipher)

    @staticmethod
    def _note_answer(facts: ServerFacts, question: Question, data: bytes) -> None:
        """Note an answer, and the difference of the clocks as it came: what follows takes time."""
        facts.answers[question] = answer = diagnosis.read_answer(data)
        if facts.clock_difference is None:
            facts.clock_difference = diagnosis.clock_difference(answer.challenge, now())

    def _note_certificate(self, facts: ServerFacts | WebFacts, tls: TLSSession) -> None:
        chain = tls.peer_chain()
        if chain and not facts.chain:
            self.judge(facts, chain)
        elif chain and isinstance(facts, ServerFacts):
            self._note_another(facts, chain)

    def _note_another(self, facts: ServerFacts, chain: tuple[bytes, ...]) -> None:
        if chain == facts.chain or any(chain == each.chain for each in facts.other_certificates):
            return
        judgement = self._trust.judge(chain, self.name_of(facts.host), now())
        facts.other_certificates.append(ShownCertificate(CertificateFacts.of(chain[0]), chain, judgement))

    def _note_inside(self, facts: WebFacts, chain: tuple[bytes, ...]) -> None:
        facts.inside_chain = chain
        facts.inside = CertificateFacts.of(chain[0])
        facts.inside_judgement = self._trust.judge(chain, self.name_of(facts.host), now())

    def judge(self, facts: ServerFacts | WebFacts, chain: tuple[bytes, ...]) -> None:
        """Note a server's certificate, and what `login` would say of it."""
        facts.chain = chain
        facts.certificate = CertificateFacts.of(chain[0])
        trust = self._https_trust if isinstance(facts, WebFacts) else self._trust
        if trust is None:
            return
        name = self.name_of(facts.host)
        facts.judgement = trust.judge(chain, name, now())
        if facts.judgement.verdict is Verdict.EXPIRED and facts.certificate is not None:
            facts.judgement_in_time = trust.judge(chain, name, facts.certificate.not_before)

    def _sni(self, host: str) -> str | None:
        name = self.name_of(host)
        return None if is_ip_address(name) else name

    # --- WinRM ---

    @staticmethod
    def nothing_of_service(service: Service) -> WebFacts:
        """Return the facts of a service of WinRM of which nothing is known yet."""
        target = Address(service.host, urllib.parse.urlsplit(service.url).port or 0)
        return WebFacts(service.url, service.host, str(target), service.secure, reach=Reach.UNKNOWN)

    async def service(self, service: Service, *, inside: bool = True, facts: WebFacts | None = None) -> WebFacts:
        """Ask a service of WinRM which schemes it offers, and for its certificates.

        Args:
            service: The service.
            inside: Whether to ask for the certificate inside CredSSP, too, which takes a second connection.
            facts: What `nothing_of_service` returned, which is filled as the answers come; None makes it.
        """
        parts = urllib.parse.urlsplit(service.url)
        address = Address(service.host, parts.port or 0)
        facts = facts or self.nothing_of_service(service)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._total) as limit:
                target = _Target(address, limit)
                async with self._connected(facts, target) as stream:
                    await self._ask_service(facts, stream, target, parts.path)
                if inside and _CREDSSP_SCHEME in {each.lower() for each in facts.schemes}:
                    await self._ask_inside(facts, target, parts.path)
        except _NotReached as error:
            facts.reach, facts.problem = error.reach, error.reason
        except TimeoutError:
            if facts.reach is Reach.UNKNOWN:
                facts.reach, facts.problem = Reach.NO_ANSWER, f"{self._total:g}"
            self.note_the_end(facts, f"the {self._total:g} s for one host were over")
        facts.seconds = time.perf_counter() - began
        return facts

    @staticmethod
    def note_the_end(facts: WebFacts, problem: str) -> None:
        """Note that a service was not asked the rest, and why."""
        if facts.status:
            facts.inside_problem = facts.inside_problem or problem
        elif facts.reach in (Reach.REACHED, Reach.UNKNOWN):
            facts.unasked = problem

    async def _ask_service(self, facts: WebFacts, stream: _Stream, target: _Target, path: str) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._answer(facts, stream, _request(target.address, path, "Connection: close"))
        except TimeoutError:
            facts.unanswered, facts.problem = True, f"no whole answer came within {self._timeout:g} s"
        except (CredSSPError, OSError) as error:
            facts.unanswered, facts.problem = not isinstance(error, LimitExceeded), _told(error)
        else:
            _read_http(facts, answer)

    async def _ask_inside(self, facts: WebFacts, target: _Target, path: str) -> None:
        """Begin a logon as far as the service's certificate: the ClientHello names no user and proves nothing."""
        tls = TLSSession(self._any_version, server_side=False, server_hostname=self._sni(facts.host))
        _begins(tls)
        hello = f"Authorization: CredSSP {base64.b64encode(tls.output()).decode()}"
        try:
            async with asyncio.timeout(self._timeout), self._connected(facts, target) as stream:
                headers = _headers_of(await self._answer(facts, stream, _request(target.address, path, hello)))
                tls.handshake(_token_of(headers))
                self._note_inside(facts, tls.peer_chain())
        except TimeoutError:
            facts.inside_problem = f"nothing came for {self._timeout:g} s"
        except _NotReached as error:
            facts.inside_problem = error.reason or error.reach.value
        except (CredSSPError, OSError) as error:
            facts.inside_problem = _told(error)
        except (ValueError, IndexError):
            facts.inside_problem = "its answer to the first token has no token with a certificate"

    async def _answer(self, facts: WebFacts, stream: _Stream, request: bytes) -> bytes:
        """Send a request, and return the header of the answer."""
        if not facts.secure:
            write_if_open(stream.writer, request)
            return _final(await _read_head(stream))
        tls = TLSSession(self._any_version, server_side=False, server_hostname=self._sni(facts.host))
        _begins(tls)
        await _shake_hands(stream, tls)
        self._note_certificate(facts, tls)
        facts.tls_version, facts.cipher = tls.version, tls.cipher
        tls.write(request)
        write_if_open(stream.writer, tls.output())
        answer = await _read_tls_until(stream, tls, _head_is_whole)
        _close(stream, tls)
        return _final(answer)

    # --- connections ---

    @contextlib.asynccontextmanager
    async def _connected(self, facts: ServerFacts | WebFacts, target: _Target) -> AsyncIterator[_Stream]:
        """Make a connection, and end it.

        Raises:
            _NotReached: It cannot be made.
        """
        await target.turn(self._pace)
        facts.connections += 1
        address = target.address
        try:
            async with asyncio.timeout(self._timeout):
                stream = _Stream(*await asyncio.open_connection(address.host, address.port, limit=_CHUNK))
        except TimeoutError:
            raise _NotReached(Reach.NO_ANSWER, f"{self._timeout:g}") from None
        except (OSError, UnicodeError) as error:
            raise _not_reached(error) from None
        facts.reach = Reach.REACHED
        try:
            yield stream
        except asyncio.CancelledError:
            stream.writer.transport.abort()  # nothing may wait for the peer any more
            raise
        finally:
            stream.writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await stream.writer.wait_closed()


def _context(lowest: ssl.TLSVersion, highest: ssl.TLSVersion, without: Sequence[str] = ()) -> ssl.SSLContext | None:
    """Return a context of some versions of TLS, without some suites; None where the local OpenSSL has none of them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # to ask for an old version is the purpose
            context.minimum_version = lowest
            context.maximum_version = highest
        context.set_ciphers(":".join((_ALL_SUITES, *(f"!{each}" for each in without))))
    except (ssl.SSLError, ValueError):
        return None
    return context


def _begins(tls: TLSSession) -> bool:
    """Make the ClientHello, which stays in the session; False where the local OpenSSL refuses to make one."""
    try:
        tls.handshake()
    except TLSError:
        return False
    return tls.has_output


def _is_secure(facts: ServerFacts, protocols: Protocols) -> bool:
    answer = facts.negotiation.get(protocols)
    return answer is not None and answer.selected in (Protocols.HYBRID, Protocols.HYBRID_EX, Protocols.SSL)


def _not_reached(error: OSError | UnicodeError) -> _NotReached:
    """Return what an error of connecting means."""
    if is_own_limit(error):
        return _NotReached(Reach.OWN_LIMIT, reason_of(error))
    match error:
        case socket.gaierror() | UnicodeError():
            return _NotReached(Reach.NOT_FOUND, reason_of(error))
        case ConnectionRefusedError():
            return _NotReached(Reach.REFUSED, "")
        case _:
            return _NotReached(Reach.FAILED, reason_of(error))


def _refused(error: _NotReached) -> str:
    """Return in words why a later connection was not made."""
    match error.reach:
        case Reach.REFUSED:
            return "was refused"
        case Reach.NO_ANSWER:
            return f"was not accepted within {error.reason} s"
        case Reach.OWN_LIMIT:
            return f"was not begun, by a limit of this machine: {error.reason}"
        case _:
            return f"was not made: {error.reason}"


def _did(answer: NegotiationAnswer) -> str:
    """Return in words what a server did, which had agreed to TLS before, in place of agreeing again."""
    return answer.problem or f"answered {answer}"


def _told(error: CredSSPError | OSError) -> str:
    """Return in words how a connection ended."""
    if isinstance(error, CredSSPError):
        return error.message
    return "the connection was reset" if isinstance(error, ConnectionError) else reason_of(error)


_NOTHING_IN_COMMON: Final = ("handshake_failure", "insufficient_security")
"""The alerts of a server that accepts no suite, no curve or no signature of the client's offer."""
_NOT_TAKEN: Final = (
    "dh key too small",
    "ee key too small",
    "unsafe legacy renegotiation disabled",
    "unsupported elliptic curve",
    "wrong cipher returned",
    "wrong curve",
    "wrong signature type",
)
"""The errors by which the local OpenSSL refuses a server's choice. A less strict client would accept the choice."""


def _without_tls(error: CredSSPError | OSError) -> TLSAnswer:
    """Return what an error of a TLS handshake says of its version: the server refuses it, or this OpenSSL has less."""
    told = _told(error)
    if told.removeprefix("the peer sent tls alert ") in _NOTHING_IN_COMMON:
        problem = f"{told}: it takes none of the suites, curves and signatures that this openssl offers"
        return TLSAnswer(TLSOutcome.NOT_TESTED, problem=problem)
    if told.removeprefix("tls failed: ") in _NOT_TAKEN:
        return TLSAnswer(TLSOutcome.NOT_TESTED, problem=f"this openssl refuses what the server has chosen: {told}")
    return TLSAnswer(TLSOutcome.REFUSED, problem=told)


async def _shake_hands(stream: _Stream, tls: TLSSession) -> None:
    """Go on with a TLS handshake that `_begins` has begun."""
    received, done = 0, False
    while True:
        write_if_open(stream.writer, tls.output())
        if done:
            return
        data = await _some(stream)
        received += len(data)
        if received > _MOST_OF_TLS:
            raise LimitExceeded(f"expected at most {_MOST_OF_TLS} bytes of a tls handshake")
        try:
            done = tls.handshake(data)
        except TLSError:
            write_if_open(stream.writer, tls.output())
            raise


async def _some(stream: _Stream) -> bytes:
    data = await stream.reader.read(_CHUNK)
    if not data:
        raise PeerClosed("the connection was ended")
    return data


async def _read_request(stream: _Stream, tls: TLSSession) -> bytes:
    """Send what is there to send, and read one TSRequest.

    Raises:
        RemoteProtocolError: Something else came.
        PeerClosed: The connection ended before.
    """
    write_if_open(stream.writer, tls.output())
    return await _read_tls_until(stream, tls, lambda data: not diagnosis.missing_bytes(data))


async def _read_tls_until(stream: _Stream, tls: TLSSession, whole: Callable[[bytes], bool]) -> bytes:
    plaintext = tls.read()
    while not plaintext or not whole(plaintext):
        if tls.peer_closed:
            raise PeerClosed("the connection was ended")
        if len(plaintext) > _MOST_OF_TLS:
            raise LimitExceeded(f"expected at most {_MOST_OF_TLS} bytes of an answer")
        plaintext += tls.read(await _some(stream))
        write_if_open(stream.writer, tls.output())
    return plaintext


def _close(stream: _Stream, tls: TLSSession) -> None:
    tls.close()
    write_if_open(stream.writer, tls.output())


def _head_is_whole(data: bytes) -> bool:
    if len(data) > _MOST_OF_HTTP:
        raise LimitExceeded(f"expected at most {_MOST_OF_HTTP} bytes of a header")
    answer = _final(data)
    return bool(answer) and (b"\r\n\r\n" in answer or not answer.startswith(b"HTTP/"[: len(answer)]))


def _final(data: bytes) -> bytes:
    """Return what is behind the interim answers, which have the statuses from 100 to 199 (RFC 9110 15.2)."""
    while data.startswith(_INTERIM) and b"\r\n\r\n" in data:
        data = data.partition(b"\r\n\r\n")[2]
    return data


async def _read_head(stream: _Stream) -> bytes:
    data = b""
    while not data or not _head_is_whole(data):
        data += await _some(stream)
    return data


def _request(target: Address, path: str, field: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: acredssp probe\r\nContent-Length: 0\r\n"
    return f"{head}{field}\r\n\r\n".encode("ascii", "replace")


def _read_http(facts: WebFacts, answer: bytes) -> None:
    line = answer.partition(b"\r\n")[0]
    version, _, status = line.partition(b" ")
    number = status[:3].decode("ascii", "replace")
    if not version.startswith(b"HTTP/1.") or not number.isdecimal():
        facts.problem = "its answer is no response of http"
        return
    try:
        headers = _headers_of(answer)
    except RemoteProtocolError as error:
        facts.problem = error.message
        return
    facts.status = int(number)
    facts.schemes = tuple(dict.fromkeys(each.scheme for each in challenges(headers.get_all("WWW-Authenticate", []))))
    facts.server = headers.get("Server", "")


def _headers_of(answer: bytes) -> email.message.Message:
    """Return the header fields of an answer.

    Raises:
        RemoteProtocolError: There are too many.
    """
    try:
        return http.client.parse_headers(io.BytesIO(answer.partition(b"\r\n")[2]))
    except http.client.HTTPException:
        pass
    raise RemoteProtocolError("its answer has more header fields than are read")


def _token_of(headers: email.message.Message) -> bytes:
    """Return the token of the service's CredSSP challenge.

    Raises:
        ValueError: There is none, or it is not base64.
    """
    offered = challenges(headers.get_all("WWW-Authenticate", []))
    token = next((each.token for each in offered if each.scheme.lower() == _CREDSSP_SCHEME), "")
    if not token:
        raise ValueError("no token")
    return base64.b64decode(token, validate=True)


# --- the other direction ---


async def hear_client(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    context: ssl.SSLContext,
    *,
    seconds: float,
    facts: ClientFacts | None = None,
) -> ClientFacts:
    """Hear a client that has connected, as far as its first message of CredSSP, and end the connection.

    Nothing that the client sends is a proof of its password: the connection ends before it would send one.

    Args:
        reader: What the client sends.
        writer: What it gets. It is closed at the end.
        context: The probe's own certificate.
        seconds: Seconds for the whole connection.
        facts: What is filled as the client speaks, for whoever may interrupt this; None makes it.
    """
    peer = writer.get_extra_info("peername")
    facts = facts or ClientFacts("")
    facts.peer = str(Address(*peer[:2])) if isinstance(peer, tuple) else "somewhere"
    try:
        async with asyncio.timeout(seconds):
            await _hear(_Stream(reader, writer), facts, context)
    except TimeoutError:
        facts.problem = f"no whole message came within {seconds:g} s"
    except asyncio.IncompleteReadError:
        facts.problem = "the connection was ended"
    except (CredSSPError, OSError) as error:
        facts.problem = _told(error)
        facts.unreadable = isinstance(error, RemoteProtocolError | LimitExceeded)
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(seconds):
                await writer.wait_closed()
    return facts


async def _hear(stream: _Stream, facts: ClientFacts, context: ssl.SSLContext) -> None:
    facts.request = request = ConnectionRequest.decode(await read_negotiation(stream.reader))
    asked = request.requested_protocols or Protocols.RDP
    selected = next((each for each in (Protocols.HYBRID_EX, Protocols.HYBRID, Protocols.SSL) if each in asked), None)
    if selected is None:
        facts.stage, facts.problem = "done", "the client knows neither tls nor credssp"
        return
    write_if_open(stream.writer, ConnectionConfirm(selected_protocol=selected).encode())
    facts.stage = "tls"
    tls = TLSSession(context, server_side=True)
    await _shake_hands(stream, tls)
    facts.tls_version, facts.cipher, facts.server_name = tls.version, tls.cipher, tls.server_name
    if selected is Protocols.SSL:
        facts.stage = "done"
    else:
        facts.stage = "credssp"
        facts.token = diagnosis.read_first_token(await _read_request(stream, tls))
        facts.stage = "done"
    _close(stream, tls)
