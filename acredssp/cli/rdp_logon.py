"""The one logon of `acredssp doctor` to a server of RDP: its steps are noted, and its stages told."""

import asyncio
import dataclasses
import ssl
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

from acredssp.carriage import Carriage, CarriedHandshake, NewContext
from acredssp.cli.examination import Course, Examination, Step, addresses_of, facts_of, mark_end
from acredssp.cli.login import Login, log_on
from acredssp.cli.outcome import Interrupted
from acredssp.cli.probe import Probed
from acredssp.cli.probing import Prober, now
from acredssp.cli.report import LoginReport
from acredssp.config import ServerConfig
from acredssp.credentials import Nothing, Password
from acredssp.diagnosis import Finding, LogonFacts, ServerFacts, TLSOutcome, explain, judge_server
from acredssp.errors import CertificateError, CredSSPError
from acredssp.events import Answered, Buffer, Question, SecurityContext, State, StepMechanism, StepResult
from acredssp.rdp import RDPInitiator, ResponseFlags
from acredssp.status import SecurityStatus, Stage

__all__ = ["Patient", "examine", "tls_name"]


class _Noted:
    """A carriage that notes each step of its handshake."""

    def __init__(self, carriage: Carriage) -> None:
        self._carriage = carriage
        self._began = time.perf_counter()
        self.steps: list[Step] = []
        self.carried: CarriedHandshake | None = None
        self.kdc_seconds = 0.0

    def initiator(self, context: SecurityContext) -> CarriedHandshake:
        self.carried = self._carriage.initiator(context)
        return cast("CarriedHandshake", _NotedHandshake(self.carried, self))

    def acceptor(self, config: ServerConfig, new_context: NewContext = ServerConfig.new_context) -> CarriedHandshake:  # noqa: ARG002
        raise AssertionError("doctor is a client")

    @property
    def flags(self) -> ResponseFlags | None:
        """The flags of the server's Connection Confirm; None where there was none."""
        confirm = self.carried.confirm if isinstance(self.carried, RDPInitiator) else None
        return confirm.flags if confirm is not None else None

    @property
    def negotiates(self) -> bool:
        """Whether the server has still to say which protocol it takes."""
        return isinstance(self.carried, RDPInitiator) and self.carried.confirm is None

    def note(self, took: int, result: StepResult) -> None:
        """Note a step that did something."""
        assert self.carried is not None
        if took or result.output or result.event:
            state = self._state_after(result)
            event = type(result.event).__name__ if result.event else ""
            self.steps.append(Step(time.perf_counter() - self._began, took, len(result.output), state, event))

    def _state_after(self, result: StepResult) -> str:
        """Return what the logon waits for: the engine's state, or a name for what the carriage expects around it."""
        assert self.carried is not None
        if self.negotiates:
            return "NEGOTIATION"
        state = self.carried.context.state
        if state is State.ESTABLISHED and result.status is not SecurityStatus.SEC_E_OK:
            return "EARLY_USER_AUTHORIZATION"
        return state.name

    def note_failure(self, took: int) -> None:
        """Note that the bytes of the server ended the logon."""
        self.steps.append(Step(time.perf_counter() - self._began, took, 0, "NOTHING: the logon ended", ""))


class _NotedHandshake:
    """A handshake whose steps are noted."""

    def __init__(self, carried: CarriedHandshake, noted: _Noted) -> None:
        self._carried = carried
        self._noted = noted
        self._asked_kdc: float | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._carried, name)

    def step(self, data: Buffer = b"") -> StepResult:
        try:
            result = self._carried.step(data)
        except CredSSPError:
            self._noted.note_failure(len(data))
            raise
        return self._take(result, len(data))

    def resume(self, event: Question[Answered], answer: Answered, early: Buffer = b"") -> StepResult:
        if self._asked_kdc is not None:
            self._noted.kdc_seconds += time.perf_counter() - self._asked_kdc
            self._asked_kdc = None
        return self._take(self._carried.resume(event, answer, early), len(early))

    def _take(self, result: StepResult, size: int) -> StepResult:
        self._noted.note(size - result.extra, result)
        if isinstance(result.event, StepMechanism):
            self._asked_kdc = time.perf_counter()
        return result


@dataclasses.dataclass(frozen=True, slots=True)
class Patient:
    """Whose logon is examined.

    Attributes:
        login: The logon. Its carriage is replaced by one that notes each step.
        spn: The server's principal, as it is asked for.
    """

    login: Login
    spn: str

    @classmethod
    def of(cls, login: Login) -> "Patient":
        """Take what is needed from a logon."""
        return cls(login, login.spn or f"TERMSRV/{login.server_hostname}")


async def examine(patient: Patient, prober: Prober, course: Course | None = None) -> Examination:
    """Ask the server quietly, log on once, and explain what came.

    Args:
        patient: Whose logon to make.
        prober: Asks the server before it.
        course: Gets to know what is done. Who cancels this gets what was known by then.
    """
    login, course = patient.login, course or Course()
    addresses: tuple[str, ...] = ()
    server, noted = prober.nothing_of_server(login.address), _Noted(login.carriage)
    began = time.perf_counter()
    try:
        course.begin(f"looking for the address of {login.address.host}")
        addresses = await addresses_of(login.address)
        course.begin(f"asking {login.address} quietly, without a logon")
        await prober.server(login.address, facts=server)
        course.begin(f"logging on to {login.address}")
        report, error = await log_on(dataclasses.replace(login, carriage=noted, timeout=login.timeout - server.seconds))
    except asyncio.CancelledError:
        error = course.interrupted()
        report = LoginReport.of(error, None, time.perf_counter() - began)
    probed = Probed(server, judge_server(server, login.server_hostname, now()))
    facts = facts_of(
        login.config,
        report,
        error,
        host=login.server_hostname,
        spn=patient.spn,
        server=server,
        nothing_delegated=isinstance(login.config.delegate, Nothing)
        or not isinstance(login.config.authenticate, Password),
        kdc_seconds=noted.kdc_seconds,
        flags=noted.flags,
    )
    causes = [] if isinstance(error, Interrupted) else explain(facts, now())
    return Examination(
        target=str(login.address),
        probed=probed,
        addresses=addresses,
        report=report,
        error=error,
        stages=tuple(mark_end(_stages(login, addresses, facts, server, report), _ended(facts, addresses, causes))),
        steps=tuple(noted.steps),
        facts=facts,
        tickets=await asyncio.to_thread(login.config.list_tickets),
        causes=causes,
    )


def _stages(
    login: Login, addresses: tuple[str, ...], facts: LogonFacts, server: ServerFacts, report: LoginReport
) -> Iterator[tuple[str, str, str]]:
    """Return for each stage of the logon: its name, what was expected, and what came."""
    error = facts.error
    yield "dns", "an address", ", ".join(addresses) or "none"
    reached = server.reach.value.replace("_", " ") if addresses else "not tried"
    yield "tcp", f"a connection to {login.address}", reached
    asked = next(iter(server.negotiation.values()), None)
    answer = "" if asked is None else f"the server {asked}" if asked.problem and not asked.foreign else str(asked)
    if not server.tls_at_once:
        yield "negotiation", "CredSSP (HYBRID, HYBRID_EX)", answer
    yield "tls", f"{tls_name(login.config.policy.min_tls)} or newer", report.tls_version or _tls_of(server)
    judgement = server.judgement
    trusted = "" if judgement is None else "trusted" if judgement.trusted else judgement.reason
    any_certificate = login.config.policy.dangerous_accept_any_certificate
    pinned = login.config.trust is not None and login.config.trust.pins
    wanted = (
        "any (--insecure)"
        if any_certificate
        else "the key of --pin"
        if pinned
        else f"trusted, for {login.server_hostname}"
    )
    yield "certificate", wanted, trusted
    version = server.answer.version if server.answer else None
    yield (
        "credssp",
        f"version {login.config.policy.min_version} to {login.config.policy.max_version}",
        str(version or ""),
    )
    yield "mechanism", str(login.config.policy.mechanism), _mechanism_of(facts, server)
    if facts.realm or facts.mechanism == "kerberos":
        yield "kerberos", f"a ticket of {facts.realm or 'the realm'} for {facts.spn}", _kerberos_of(facts)
    difference = server.clock_difference
    yield "clock", "within 300 s", "" if difference is None else f"{difference:+d} s"
    where = f" (at {error.stage})" if error is not None and error.stage is not None else ""
    yield "logon", "accepted", "accepted" if error is None else f"{error.message}{where}"


_STAGES: Final = {
    Stage.CONNECT: "tcp",
    Stage.NEGOTIATION: "negotiation",
    Stage.TLS: "tls",
    Stage.NEGO_TOKEN: "mechanism",
}
"""The row of a stage; the stages behind these have the row of the logon itself."""


def _ended(facts: LogonFacts, addresses: tuple[str, ...], causes: Iterable[Finding]) -> str | None:  # noqa: PLR0911 - one for each row
    """Return the row at which the logon ended; None for a success."""
    error = facts.error
    if error is None:
        return None
    if isinstance(error, Interrupted):
        return "logon"
    if isinstance(error, CertificateError):
        return "certificate"
    if error.stage is Stage.CONNECT and not addresses:
        return "dns"
    if error.stage is Stage.NEGO_TOKEN and any(each.id == "credssp-old" for each in causes):
        return "credssp"
    if error.message.startswith("kerberos:"):
        return "kerberos"
    return _STAGES.get(error.stage or Stage.CONNECT, "logon")


def tls_name(version: ssl.TLSVersion) -> str:
    """Return `"TLSv1.2"` for the member TLSv1_2."""
    return version.name.replace("_", ".")


def _tls_of(server: ServerFacts) -> str:
    taken = [name for name, each in server.tls.items() if each.outcome is TLSOutcome.ACCEPTED]
    if taken:
        return f"none; asked quietly, the server took {', '.join(taken)}"
    return ", ".join(f"{name}: {each.problem}" for name, each in server.tls.items() if each.problem)


def _kerberos_of(facts: LogonFacts) -> str:
    """Return what became of Kerberos."""
    if facts.mechanism == "kerberos":
        return f"a ticket, after {facts.kdc_seconds:.1f} s"
    error = facts.error
    if error is not None and error.message.startswith("kerberos:"):
        return f"{error.message.removeprefix('kerberos: ')}, after {facts.kdc_seconds:.1f} s"
    return facts.fallback or "not tried"


def _mechanism_of(facts: LogonFacts, server: ServerFacts) -> str:
    used = facts.mechanism or ", ".join(server.mechanisms)
    return f"{used}; no kerberos: {facts.fallback}" if facts.fallback else used
