"""`acredssp doctor`: one logon that explains itself.

The quiet questions of `acredssp probe` come first, then one logon, whose every step is noted with its size and time.
Then the causes of a failure are named. A second logon is made only after a question on the terminal: each wrong
password brings an account nearer to its lockout.
"""

import asyncio
import contextlib
import dataclasses
import json
import pathlib
import platform
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any, Final, cast

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import acredssp
from acredssp.aio import reason_of
from acredssp.arguments import expect_host_name, expect_service_name
from acredssp.carriage import CarriedHandshake, NewContext
from acredssp.cli import arguments, render
from acredssp.cli.arguments import Secret
from acredssp.cli.login import Login, log_on
from acredssp.cli.options import (
    RDP_PORT,
    AsJSON,
    Authorities,
    Domain,
    Insecure,
    KeytabFile,
    LegacyCiphers,
    LegacyTLS,
    MaxVersion,
    MinTLS,
    MinVersion,
    NTHashWord,
    PasswordStdin,
    PasswordWord,
    Pin,
    PolicyFile,
    PrincipalName,
    ServerName,
    Tickets,
    User,
    WeakCertificates,
    WithMechanism,
    allowed,
    client_config,
    read_policy,
    read_trust,
    until_done,
    usage_errors,
    warn_of,
)
from acredssp.cli.outcome import EXIT_STATUS, UsageError, result_of
from acredssp.cli.output import write_private
from acredssp.cli.probe import Probed, show_findings
from acredssp.cli.probing import Pace, Prober, now
from acredssp.cli.render import label, printable
from acredssp.cli.report import LoginReport
from acredssp.cli.report import now as written_now
from acredssp.config import ServerConfig
from acredssp.credentials import Nothing, Password
from acredssp.diagnosis import Finding, LogonFacts, Severity, clock_difference, explain, judge_server
from acredssp.errors import CredSSPError
from acredssp.events import Answered, Buffer, Question, SecurityContext, StepMechanism, StepResult
from acredssp.names import logon_name
from acredssp.policy import FIRST_SAFE_VERSION, NEWEST_VERSION, MechanismChoice
from acredssp.rdp import RDP, RDPInitiator, ResponseFlags
from acredssp.workers import Address

__all__ = ["Examination", "Patient", "doctor_command", "examine"]

_RATE: Final = 100.0
"""Connections a second of the quiet questions."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Step:
    """One step of the logon's engine."""

    at: float
    """Seconds since the logon began."""
    took: int
    """The bytes of the server's that it took."""
    sent: int
    """The bytes that it sent."""
    state: str
    """The engine's state afterwards: what it waits for."""
    event: str
    """What it asks; empty where it asks nothing."""


class _Noted:
    """A carriage that notes each step of its handshake."""

    def __init__(self, carriage: RDP) -> None:
        self._carriage = carriage
        self._began = time.perf_counter()
        self.steps: list[_Step] = []
        self.carried: RDPInitiator | None = None
        self.kdc_seconds = 0.0

    def initiator(self, context: SecurityContext) -> CarriedHandshake:
        self.carried = self._carriage.initiator(context)
        return cast("CarriedHandshake", _NotedHandshake(self.carried, self))

    def acceptor(self, config: ServerConfig, new_context: NewContext = ServerConfig.new_context) -> CarriedHandshake:  # noqa: ARG002
        raise AssertionError("doctor is a client")

    @property
    def flags(self) -> ResponseFlags | None:
        """The flags of the server's Connection Confirm; None where there was none."""
        confirm = self.carried.confirm if self.carried is not None else None
        return confirm.flags if confirm is not None else None

    def note(self, took: int, result: StepResult) -> None:
        """Note a step that did something."""
        assert self.carried is not None
        if took or result.output or result.event:
            state = self.carried.context.state.name if self.flags is not None else "NEGOTIATION"
            event = type(result.event).__name__ if result.event else ""
            self.steps.append(_Step(time.perf_counter() - self._began, took, len(result.output), state, event))

    def note_failure(self, took: int) -> None:
        """Note that the bytes of the server ended the logon."""
        self.steps.append(_Step(time.perf_counter() - self._began, took, 0, "NOTHING: the logon ended", ""))


class _NotedHandshake:
    """A handshake whose steps are noted."""

    def __init__(self, carried: RDPInitiator, noted: _Noted) -> None:
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
class Examination:
    """What a doctor has learned: of the server, quietly, and of one logon."""

    login: Login
    probed: Probed
    addresses: tuple[str, ...]
    """What DNS said; empty where it knows no address."""
    report: LoginReport
    error: CredSSPError | None
    steps: tuple[_Step, ...]
    facts: LogonFacts
    causes: list[Finding]

    @property
    def also(self) -> list[Finding]:
        """What else is wrong with the server; facts that are no faults are left out."""
        named = {each.id for each in self.causes}
        return [each for each in self.probed.findings if each.severity is not Severity.INFO and each.id not in named]

    def as_dict(self) -> dict[str, object]:
        """Return what `--json` and `--report` print. It holds no secret."""
        return {
            "result": str(self.report.result),
            "target": str(self.login.address),
            "account": self.facts.account,
            "spn": self.facts.spn,
            "realm": self.facts.realm or None,
            "addresses": [*self.addresses],
            "causes": [each.as_dict() for each in self.causes],
            "also": [each.as_dict() for each in self.also],
            "stages": [{"stage": stage, "expected": expected, "came": came} for stage, expected, came in _stages(self)],
            "timeline": [
                {
                    "ms": round(each.at * 1000, 1),
                    "received": each.took,
                    "sent": each.sent,
                    "waits_for": each.state,
                    "asks": each.event or None,
                }
                for each in self.steps
            ],
            "login": dataclasses.asdict(self.report),
            "server": self.probed.as_dict(),
            "client": {
                "acredssp": acredssp.__version__,
                "python": platform.python_version(),
                "openssl": ssl.OPENSSL_VERSION,
                "system": f"{platform.system()} {platform.release()}",
            },
            "time": written_now(),
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Patient:
    """Whose logon is examined.

    Attributes:
        login: The logon. Its carriage is replaced by one that notes each step.
        cookie: The user's name in the Connection Request; empty for none.
        spn: The server's principal, as it is asked for.
        realm: The realm of the account; empty for none.
        account: The account as it is sent.
    """

    login: Login
    cookie: str
    spn: str
    realm: str
    account: str

    @classmethod
    def of(cls, login: Login) -> "Patient":
        """Take what is needed from a logon."""
        credential = login.config.authenticate
        return cls(
            login,
            credential.user if credential.user.isprintable() else "",
            login.spn or f"TERMSRV/{login.server_hostname}",
            _realm(credential),
            logon_name(credential.domain, credential.user),
        )


async def examine(patient: Patient, prober: Prober) -> Examination:
    """Ask the server quietly, log on once, and explain what came."""
    login = patient.login
    addresses = await _addresses(login.address)
    server = await prober.server(login.address)
    probed = Probed(server, judge_server(server, login.server_hostname, now()))
    noted = _Noted(RDP(hybrid_ex=True, cookie=patient.cookie))
    report, error = await log_on(dataclasses.replace(login, carriage=noted))
    facts = LogonFacts(
        host=login.server_hostname,
        account=patient.account,
        spn=patient.spn,
        realm=patient.realm,
        error=error,
        server=server,
        version=report.credssp_version or 0,
        mechanism=report.mechanism or "",
        fallback=report.fallback or "",
        nothing_delegated=isinstance(login.config.delegate, Nothing)
        or not isinstance(login.config.authenticate, Password),
        kdc_seconds=noted.kdc_seconds,
        flags=noted.flags,
        pin=report.peer_key_sha256 or "",
        key_checked=not login.config.policy.dangerous_accept_any_certificate,
    )
    return Examination(login, probed, addresses, report, error, tuple(noted.steps), facts, explain(facts, now()))


async def _addresses(address: Address) -> tuple[str, ...]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(each[4][0]) for each in found))


# --- output ---


def _stages(examination: Examination) -> Iterator[tuple[str, str, str]]:
    """Return for each stage of the logon: its name, what was expected, and what came."""
    facts, report, server = examination.facts, examination.report, examination.facts.server
    login, error = examination.login, examination.error
    yield "dns", "an address", ", ".join(examination.addresses) or "none"
    yield "tcp", f"a connection to {login.address}", server.reach.value.replace("_", " ")
    asked = next(iter(server.negotiation.values()), None)
    yield "negotiation", "CredSSP (HYBRID, HYBRID_EX)", str(asked) if asked else ""
    yield "tls", f"{_tls_name(login.config.policy.min_tls)} or newer", report.tls_version or _tls_of(examination)
    judgement = server.judgement
    trusted = "" if judgement is None else "trusted" if judgement.trusted else judgement.reason
    any_certificate = login.config.policy.dangerous_accept_any_certificate
    wanted = "any (--insecure)" if any_certificate else f"trusted, for {login.server_hostname}"
    yield "certificate", wanted, trusted
    version = server.answer.version if server.answer else None
    yield (
        "credssp",
        f"version {login.config.policy.min_version} to {login.config.policy.max_version}",
        str(version or ""),
    )
    yield "mechanism", str(login.config.policy.mechanism), _mechanism_of(examination)
    if facts.realm or facts.mechanism == "kerberos":
        yield "kerberos", f"a ticket of {facts.realm or 'the realm'} for {facts.spn}", f"{facts.kdc_seconds:.1f} s"
    difference = clock_difference(server.challenge, now())
    yield "clock", "within 300 s", "" if difference is None else f"{difference:+d} s"
    yield "logon", "accepted", "accepted" if error is None else f"{error.message} (at {error.stage})"


def _tls_name(version: ssl.TLSVersion) -> str:
    """Return `"TLSv1.2"` for the member TLSv1_2."""
    return version.name.replace("_", ".")


def _tls_of(examination: Examination) -> str:
    return ", ".join(f"{name}: {each.problem}" for name, each in examination.facts.server.tls.items() if each.problem)


def _mechanism_of(examination: Examination) -> str:
    facts = examination.facts
    used = facts.mechanism or ", ".join(facts.server.mechanisms)
    return f"{used}; no kerberos: {facts.fallback}" if facts.fallback else used


def _show(out: Console, examination: Examination) -> None:
    report, login = examination.report, examination.login
    result = label(report.result)
    out.print(Text.assemble(result, f"  {printable(examination.facts.account)} at {login.address}"), soft_wrap=True)
    out.print()
    _show_stages(out, examination)
    out.print()
    _show_steps(out, examination)
    show_findings(out, examination.causes)
    if examination.also:
        out.print("\nAlso wrong with this server:")
        show_findings(out, examination.also)


def _show_stages(out: Console, examination: Examination) -> None:
    table = Table(box=None, padding=(0, 1), expand=False)
    for name, style in (("stage", "bold"), ("expected", "dim"), ("came", "")):
        table.add_column(name, style=style, overflow="fold")
    for stage, expected, came in _stages(examination):
        table.add_row(stage, Text(printable(expected)), Text(printable(came) or "-"))
    out.print(table)


def _show_steps(out: Console, examination: Examination) -> None:
    table = Table(box=None, padding=(0, 1), expand=False)
    for name in ("ms", "received", "sent"):
        table.add_column(name, justify="right")
    table.add_column("then waits for")
    for each in examination.steps:
        waits = f"an answer: {each.event}" if each.event else each.state.lower().replace("_", " ")
        table.add_row(f"{each.at * 1000:.1f}", str(each.took or ""), str(each.sent or ""), waits)
    if examination.steps:
        out.print(table)


def _write(path: pathlib.Path, examination: Examination) -> None:
    """Write the report, for its owner's eyes."""
    text = json.dumps(examination.as_dict(), indent=2) + "\n"
    try:
        write_private(path, text.encode("ascii"))
    except OSError as error:
        raise UsageError(f"cannot write --report {path}: {reason_of(error)}") from None


# --- the command ---


def doctor_command(  # noqa: PLR0913, PLR0917 - the options of a command line
    host: Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="The server; the port is 3389 unless given.")],
    user: User = None,
    domain: Domain = None,
    password: PasswordWord = None,
    password_stdin: PasswordStdin = False,
    nt_hash: NTHashWord = None,
    ccache: Tickets = None,
    keytab: KeytabFile = None,
    restricted_admin: Annotated[
        bool, typer.Option("--restricted-admin", help="Delegate no credentials, as a hash and a ticket do anyway.")
    ] = False,
    mechanism: WithMechanism = MechanismChoice.AUTO,
    min_version: MinVersion = FIRST_SAFE_VERSION,
    max_version: MaxVersion = NEWEST_VERSION,
    min_tls: MinTLS = arguments.TLSVersion.TLS_1_2,
    dangerous_allow_legacy_tls: LegacyTLS = False,
    dangerous_allow_legacy_ciphers: LegacyCiphers = False,
    insecure: Insecure = False,
    ca: Authorities = None,
    pin: Pin = None,
    dangerous_allow_weak_certificates: WeakCertificates = False,
    server_name: ServerName = None,
    spn: PrincipalName = None,
    policy_file: PolicyFile = None,
    report_file: Annotated[
        pathlib.Path | None,
        typer.Option("--report", metavar="FILE", help="Write all of it to a file for the support. It holds no secret."),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for the logon, connecting included.")] = 30.0,
    as_json: AsJSON = False,
) -> None:
    """Log on once, and explain what came: each stage with sizes and times, and the causes of a failure.

    The server is asked quietly first, as acredssp probe does. Exactly one logon is made. Before a second one, by NTLM
    where Kerberos failed, the doctor asks. The exit status is that of acredssp login.
    """
    out, err = render.consoles()
    with usage_errors():
        address = arguments.address(host, default_port=RDP_PORT)
        trust = read_trust(insecure, ca, pin, allow_weak=dangerous_allow_weak_certificates)
        delegation = read_policy(policy_file)
        credential = Secret(password, password_stdin, nt_hash, ccache, keytab).credential(user, domain)
        policy = arguments.policy_of(
            min_version,
            max_version,
            min_tls,
            legacy_tls=dangerous_allow_legacy_tls,
            legacy_ciphers=dangerous_allow_legacy_ciphers,
            dangerous_accept_any_certificate=insecure,
            mechanism=mechanism,
        )
        config = client_config(
            authenticate=credential,
            delegate=Nothing() if restricted_admin else None,
            delegation=delegation,
            policy=allowed(delegation.for_client, policy),
            trust=trust,
        )
        with arguments.values():
            name = server_name or address.host
            expect_host_name("--server-name" if server_name else "HOST", name)
            if spn is not None:
                expect_service_name("--spn", spn)
        login = Login(
            address=address,
            config=config,
            carriage=RDP(hybrid_ex=True),
            server_hostname=name,
            spn=spn,
            timeout=arguments.seconds("--timeout", timeout),
        )
    warn_of(err, policy, None, trust)
    prober = Prober(pace=Pace(_RATE), timeout=min(5.0, login.timeout), trust=trust, server_name=server_name)
    examination = until_done(examine(Patient.of(login), prober))
    _tell(out, examination, report_file, as_json=as_json)
    if not as_json and _asks_for_ntlm(examination):
        again = dataclasses.replace(config.policy, mechanism=MechanismChoice.NTLM)
        login = dataclasses.replace(login, config=dataclasses.replace(config, policy=again))
        examination = until_done(examine(Patient.of(login), prober))
        _tell(out, examination, report_file, as_json=False)
    raise typer.Exit(EXIT_STATUS[result_of(examination.error)])


def _tell(out: Console, examination: Examination, path: pathlib.Path | None, *, as_json: bool) -> None:
    if path is not None:
        with usage_errors():
            _write(path, examination)
    if as_json:
        print(json.dumps(examination.as_dict()))  # noqa: T201
    else:
        _show(out, examination)


def _asks_for_ntlm(examination: Examination) -> bool:
    """Ask whether to log on once more by NTLM alone, where that may tell more; return the answer."""
    error, credential = examination.error, examination.login.config.authenticate
    if error is None or not error.message.startswith("kerberos:") or not isinstance(credential, Password):
        return False
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    return typer.confirm("\nKerberos failed. Log on once more, by NTLM alone?")


def _realm(credential: Any) -> str:
    """Return the realm that an account names; empty for none."""
    with contextlib.suppress(AttributeError):
        if credential.domain and "." in credential.domain:
            return str(credential.domain).upper()
    user = str(credential.user)
    return user.rpartition("@")[2].upper() if "@" in user else ""
