"""`acredssp probe`: what servers and clients would say, without a logon, and the findings that follow."""

import asyncio
import contextlib
import csv
import dataclasses
import functools
import io
import json
import pathlib
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from acredssp.aio import reason_of
from acredssp.arguments import expect_host_name
from acredssp.cli import arguments, render
from acredssp.cli.arguments import Service
from acredssp.cli.certificate import Certificate
from acredssp.cli.options import (
    RDP_PORT,
    AsJSON,
    Authorities,
    Pin,
    read_trust,
    until_done,
    usage_errors,
)
from acredssp.cli.outcome import EXIT_STATUS, ConnectError, Result, UsageError, result_of
from acredssp.cli.probing import ASKED_PROTOCOLS, Pace, Prober, hear_client, now
from acredssp.cli.render import printable
from acredssp.cli.report import now as written_now
from acredssp.cli.requirements import Requirements
from acredssp.cli.targets import Target, read_targets
from acredssp.diagnosis import (
    CertificateFacts,
    ClientFacts,
    Finding,
    Reach,
    ServerFacts,
    Severity,
    TLSAnswer,
    TLSOutcome,
    WebFacts,
    judge_client,
    judge_server,
    judge_web,
)
from acredssp.policy import Policy
from acredssp.rdp import Protocols, ResponseFlags
from acredssp.status import Stage
from acredssp.trust import Judgement, Trust
from acredssp.workers import Address

__all__ = ["Probed", "probe_command", "probe_one", "show_document", "show_findings"]

_COLOURS: Final = {
    Severity.HIGH: "bold red",
    Severity.MEDIUM: "yellow",
    Severity.LOW: "cyan",
    Severity.INFO: "dim",
}
_COLUMNS: Final = ("target", "address", "severity", "id", "text", "next_step")
_OF_OTHERS: Final = ("not-rdp", "connection-lost", "not-http", "http-no-answer")
"""The findings of a port at which no server of RDP, or no service over HTTP, answers."""
_OTHER_KEY: Final = 3
"""The exit status where a server has another key than that of `--pin`: that of `acredssp login`."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would run."""


@dataclasses.dataclass(frozen=True, slots=True)
class Probed:
    """One target, what was learned of it, and what follows."""

    facts: ServerFacts | WebFacts | ClientFacts
    findings: list[Finding]
    interrupted: bool = False
    """Whether Ctrl-C came before everything was asked."""

    @property
    def target(self) -> str:
        """The target as it was named; a client's address."""
        return self.facts.peer if isinstance(self.facts, ClientFacts) else self.facts.target

    @property
    def reached(self) -> bool:
        """Whether it answered at all."""
        return isinstance(self.facts, ClientFacts) or self.facts.reach is Reach.REACHED

    @property
    def not_begun(self) -> bool:
        """Whether a limit of this machine kept it from being asked."""
        return not isinstance(self.facts, ClientFacts) and self.facts.reach is Reach.OWN_LIMIT

    @property
    def spoken_to(self) -> bool:
        """Whether what answered is what was asked for, and no other protocol."""
        return self.reached and not any(each.id in _OF_OTHERS for each in self.findings)

    @property
    def worst(self) -> Severity:
        """The severity of the worst finding; INFO for none."""
        return self.findings[0].severity if self.findings else Severity.INFO

    def as_dict(self) -> dict[str, object]:
        """Return what `--json` prints: the facts, and the findings."""
        match self.facts:
            case ServerFacts() as facts:
                told = _server_dict(facts)
            case WebFacts() as facts:
                told = _web_dict(facts)
            case facts:
                told = _client_dict(facts)
        findings = [each.as_dict() for each in self.findings]
        return {**told, "interrupted": self.interrupted, "findings": findings, "time": written_now()}


def _server_dict(facts: ServerFacts) -> dict[str, object]:
    answer, challenge = facts.answer, facts.challenge
    asked = {each.names: facts.negotiation.get(each) for each in ASKED_PROTOCOLS}
    return {
        "kind": "rdp",
        "target": facts.target,
        "reach": facts.reach.value,
        "problem": facts.problem or None,
        "negotiation": {name: None if each is None else str(each) for name, each in asked.items()},
        "flags": [str(each.name) for each in ResponseFlags if each in facts.flags],
        "tls": {
            name: {
                "outcome": each.outcome.value,
                "cipher": each.cipher or None,
                "problem": each.problem or None,
                "suites": [*each.suites] or None,
            }
            for name, each in facts.tls.items()
        },
        "certificate": _certificate_dict(facts.certificate, facts.judgement),
        "other_certificates": [
            _certificate_dict(each.certificate, each.judgement) for each in facts.other_certificates
        ],
        "credssp_version": answer.version if answer else None,
        "mechanisms": [*facts.mechanisms] if answer else None,
        "ntlm": None
        if challenge is None
        else {
            "netbios_computer": challenge.netbios_computer or None,
            "netbios_domain": challenge.netbios_domain or None,
            "dns_computer": challenge.dns_computer or None,
            "dns_domain": challenge.dns_domain or None,
            "dns_forest": challenge.dns_forest or None,
            "build": challenge.build or None,
            "clock_difference": facts.clock_difference,
        },
        "mic_required": "unknown",
        "channel_binding_required": "unknown",
        "connections": facts.connections,
        "elapsed_ms": round(facts.seconds * 1000, 1),
    }


def _certificate_dict(certificate: CertificateFacts | None, judgement: Judgement | None) -> dict[str, object] | None:
    if certificate is None:
        return None
    told = dataclasses.asdict(certificate)
    told["names"], told["usages"] = [*certificate.names], [*certificate.usages]
    told["not_before"], told["not_after"] = certificate.not_before.isoformat(), certificate.not_after.isoformat()
    told["verdict"] = judgement.verdict.value if judgement else None
    return told


def _web_dict(facts: WebFacts) -> dict[str, object]:
    return {
        "kind": "winrm",
        "target": facts.target,
        "reach": facts.reach.value,
        "problem": facts.problem or None,
        "status": facts.status or None,
        "schemes": [*facts.schemes],
        "server": facts.server or None,
        "tls_version": facts.tls_version or None,
        "cipher": facts.cipher or None,
        "certificate": _certificate_dict(facts.certificate, facts.judgement),
        "inside_certificate": _certificate_dict(facts.inside, facts.inside_judgement),
        "inside_problem": facts.inside_problem or None,
        "connections": facts.connections,
        "elapsed_ms": round(facts.seconds * 1000, 1),
    }


def _client_dict(facts: ClientFacts) -> dict[str, object]:
    request, token = facts.request, facts.token
    protocols = request.requested_protocols if request else None
    return {
        "kind": "client",
        "target": facts.peer or None,
        "stage": facts.stage,
        "problem": facts.problem or None,
        "protocols": protocols.names if protocols is not None else None,
        "flags": [str(each.name) for each in type(request.flags) if each in request.flags] if request else [],
        "cookie": request.cookie if request else None,
        "tls_version": facts.tls_version or None,
        "cipher": facts.cipher or None,
        "server_name": facts.server_name or None,
        "credssp_version": token.version if token else None,
        "shape": token.shape if token else None,
        "mechanisms": [*token.mechanisms] if token else None,
    }


# --- probing ---


_INTERRUPTED: Final = "ctrl-c came before"


async def probe_one(prober: Prober, target: Target, interrupted: Callable[[Probed], object] | None = None) -> Probed:
    """Probe one target.

    Args:
        prober: Asks it.
        target: The target.
        interrupted: Gets what is known where this is cancelled; None where nobody wants that.
    """
    facts = prober.nothing_of_service(target) if isinstance(target, Service) else prober.nothing_of_server(target)
    try:
        match facts:
            case WebFacts():
                assert isinstance(target, Service)
                await prober.service(target, facts=facts)
            case ServerFacts():
                assert not isinstance(target, Service)
                await prober.server(target, facts=facts)
    except asyncio.CancelledError:
        if interrupted is not None:
            interrupted(_interrupted(prober, facts))
        raise
    return Probed(facts, _findings(prober, facts))


def _findings(prober: Prober, facts: ServerFacts | WebFacts) -> list[Finding]:
    name = prober.name_of(facts.host)
    return judge_web(facts, name, now()) if isinstance(facts, WebFacts) else judge_server(facts, name, now())


def _interrupted(prober: Prober, facts: ServerFacts | WebFacts) -> Probed:
    """Return what is known of a target while it is being asked."""
    if isinstance(facts, ServerFacts):
        prober.note_the_rest(facts, _INTERRUPTED)
    else:
        prober.note_the_end(facts, _INTERRUPTED)
    return Probed(facts, _findings(prober, facts), interrupted=True)


@dataclasses.dataclass(slots=True)
class _Run:
    """All targets of a run, as they are done."""

    prober: Prober
    output: "_Output"
    waiting: Iterator[tuple[Target, bool]]
    progress: Progress
    bar: Any
    asked: int = 0
    answered: int = 0
    spoken_to: int = 0
    not_begun: int = 0
    status: int = 0
    requirements: Requirements | None = None

    async def work(self) -> None:
        """Probe the targets that are waiting, one after the other."""
        for target, named in self.waiting:
            put = functools.partial(self.output.put, named=named)
            probed = await probe_one(self.prober, target, interrupted=put)
            self.output.put(probed, named=named)
            self.asked += 1
            self.answered += probed.reached
            self.spoken_to += probed.spoken_to
            self.not_begun += probed.not_begun
            self.status = max(self.status, self._status_of(probed))
            self.progress.advance(self.bar)

    def _status_of(self, probed: Probed) -> int:
        """Return the exit status that one target asks for."""
        if probed.not_begun:
            return EXIT_STATUS[Result.NETWORK_ERROR]  # also with a policy, of which nothing was checked
        if self.requirements is not None:
            return self.requirements.exit_status(probed.findings) if probed.reached else 0
        return _OTHER_KEY if any(each.id == "certificate-other-key" for each in probed.findings) else 0


async def _probe_all(run: _Run, at_once: int) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(run.work())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None  # such as output that nobody reads any more


# --- output ---


class _Output:
    """Prints what was found, as it comes."""

    def __init__(
        self, out: Console, *, one: bool, as_json: bool, as_csv: bool, requirements: Requirements | None
    ) -> None:
        self._out = out
        self._requirements = requirements
        self._one = one
        self._as_json = as_json
        self._as_csv = as_csv
        if as_csv:
            _print_csv(_COLUMNS if requirements is None else (*_COLUMNS, "fails_policy"))

    def put(self, probed: Probed, *, named: bool = True) -> None:
        """Print one target; of a network and for people, only if it answered or this machine could not ask it."""
        named = named or probed.not_begun
        if self._as_json:
            told = probed.as_dict()
            if self._requirements is not None:
                told["fails_policy"] = self._failing(probed)
            print(json.dumps(told))  # noqa: T201
        elif self._as_csv:
            failing = self._failing(probed)
            for row in _rows(probed) if probed.reached or named else ():
                fails = "yes" if row[_COLUMNS.index("id")] in failing else "no"
                _print_csv(row if self._requirements is None else (*row, fails))
        elif self._one:
            _show(self._out, probed)
            self._put_failing(probed, "\n")
        elif probed.reached or named:
            _show_line(self._out, probed)
            self._put_failing(probed, "       ")

    def _put_failing(self, probed: Probed, before: str) -> None:
        """Print which findings the policy does not accept, by which the exit status is told."""
        if failing := self._failing(probed):
            self._out.print(f"{before}fails --policy: {', '.join(failing)}", soft_wrap=True)

    def _failing(self, probed: Probed) -> list[str]:
        """Return the ids of the findings that the policy does not accept; none without a policy or an answer."""
        if self._requirements is None or not probed.reached:
            return []
        return [each.id for each in probed.findings if self._requirements.fails(each)]


def _rows(probed: Probed) -> Iterator[tuple[str, ...]]:
    address = "" if isinstance(probed.facts, ClientFacts) else probed.facts.address
    for each in probed.findings:
        yield probed.target, address, str(each.severity), each.id, each.text, each.next_step
    if not probed.findings:
        yield probed.target, address, "", "", "", ""


def _print_csv(row: tuple[str, ...]) -> None:
    """Print a row; text of a peer can control neither the terminal nor a spreadsheet."""
    line = io.StringIO()
    cells = [printable(cell) for cell in row]
    csv.writer(line, lineterminator="").writerow([f"'{each}" if each.startswith(_FORMULA) else each for each in cells])
    print(line.getvalue())  # noqa: T201


def _show(out: Console, probed: Probed) -> None:
    facts = probed.facts
    out.print(Text.assemble((printable(probed.target), "bold"), f"  {_in_short(probed)}"), soft_wrap=True)
    match facts:
        case ServerFacts():
            _show_facts(out, _server_card(facts))
        case WebFacts():
            _show_facts(out, _web_card(facts))
        case ClientFacts():
            _show_facts(out, _client_card(facts))
    show_findings(out, probed.findings)
    show_document(out, probed.findings)


def _in_short(probed: Probed) -> str:
    counts = {each: sum(one.severity is each for one in probed.findings) for each in reversed(Severity)}
    return ", ".join(f"{count} {severity}" for severity, count in counts.items() if count) or "no findings"


def _show_facts(out: Console, facts: Iterable[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=11)
    table.add_column(overflow="fold")
    last = ""
    for name, value in facts:
        if value:
            table.add_row("" if name == last else f"  {name}", Text(printable(value)))
            last = name
    if table.row_count:
        out.print(table)


def show_findings(out: Console, findings: list[Finding]) -> None:
    """Print findings: severity, id and title, then the sentence and the next step."""
    for each in findings:
        out.print()
        head = Text.assemble(
            (f"{each.severity:<6}", _COLOURS[each.severity]), " ", (each.id, "bold"), f"  {each.kind.title}"
        )
        out.print(head, soft_wrap=True)
        table = Table.grid(padding=(0, 1))
        table.add_column(min_width=6)
        table.add_column(overflow="fold")
        table.add_row("", Text(printable(each.text)))
        if each.next_step != "Nothing.":
            table.add_row(
                "    →", Text(printable(each.next_step), style="dim" if each.severity is Severity.INFO else "")
            )
        out.print(table)


def show_document(out: Console, findings: list[Finding]) -> None:
    """Say where findings are explained."""
    if findings:
        page = findings[0].kind.anchor.partition("#")[0]
        out.print(f"\n{page} of acredssp explains each finding, by its id", style="dim", soft_wrap=True)


def _server_card(facts: ServerFacts) -> Iterator[tuple[str, str]]:
    if facts.reach is not Reach.REACHED:
        return
    yield "accepts", ", ".join(_accepted(facts))
    refused: dict[str, list[str]] = {}
    for asked, each in facts.negotiation.items():
        if each.failure is not None or each.problem:
            refused.setdefault(str(each).removeprefix("refused: "), []).append(_name_of(asked))
    for answer, names in refused.items():
        yield "refuses", f"{', '.join(names)}: {answer}"
    yield "flags", ", ".join(str(each.name) for each in ResponseFlags if each in facts.flags)
    for name, tls in facts.tls.items():
        yield "tls", f"{name}: {_tls_in_short(tls)}"
    yield from _certificate_card(facts.certificate, facts.judgement)
    for other in facts.other_certificates:
        yield from _certificate_card(other.certificate, other.judgement)
    if facts.answer is not None:
        yield "credssp", f"version {facts.answer.version}, {', '.join(facts.mechanisms) or 'no mechanism'}"
    if (challenge := facts.challenge) is not None:
        names = [challenge.netbios_computer, challenge.dns_computer, challenge.netbios_domain, challenge.dns_domain]
        yield "names", ", ".join(dict.fromkeys(filter(None, names)))
        yield "build", challenge.build
        yield "clock", "" if facts.clock_difference is None else f"{facts.clock_difference:+d} s"
    many = "" if facts.connections == 1 else "s"
    yield "took", f"{facts.seconds * 1000:.0f} ms, {facts.connections} connection{many}"


def _tls_in_short(tls: TLSAnswer) -> str:
    """Return what became of a version of TLS."""
    if tls.outcome is TLSOutcome.NOT_TESTED:
        return f"not tested: {tls.problem}" if tls.problem else "not tested"
    return ", ".join(tls.suites) or tls.cipher or tls.problem


def _name_of(asked: Protocols) -> str:
    """Return the name of what a Connection Request asked for; HYBRID_EX never goes without HYBRID."""
    return "HYBRID_EX" if Protocols.HYBRID_EX in asked else asked.names


def _accepted(facts: ServerFacts) -> list[str]:
    answers = [each for each in facts.negotiation.values() if not each.problem and each.failure is None]
    return [*dict.fromkeys(each.selected.names if each.selected is not None else "RDP" for each in answers)]


def _certificate_card(
    certificate: CertificateFacts | None, judgement: Judgement | None, command: str = "login", pin: str = "key pin"
) -> Iterator[tuple[str, str]]:
    """Return the lines about a certificate; `command` would judge it, and `pin` says what its key is good for."""
    if certificate is None:
        return
    issuer = "itself" if certificate.self_signed else certificate.issuer
    yield "certificate", f"{certificate.subject or 'no subject'}, signed by {issuer}"
    yield "for", ", ".join(certificate.names)
    yield "valid", f"{certificate.not_before:%Y-%m-%d} to {certificate.not_after:%Y-%m-%d}"
    yield "key", f"{certificate.key}, signed with {certificate.digest or 'a hash of its own'}"
    yield pin, certificate.pin
    if judgement is not None:
        refusal = f"would refuse this certificate: {judgement.reason}"
        yield command, "would accept this certificate" if judgement.trusted else refusal


def _web_card(facts: WebFacts) -> Iterator[tuple[str, str]]:
    if facts.reach is not Reach.REACHED:
        return
    yield "answer", str(facts.status or "")
    yield "schemes", ", ".join(facts.schemes)
    yield "server", facts.server
    yield "tls", f"{facts.tls_version}: {facts.cipher}" if facts.tls_version else ""
    if facts.certificate is not None:
        yield "https", "its certificate is the next one, which --ca is for"
        yield from _certificate_card(facts.certificate, facts.judgement, "winrm", "https pin")
    if facts.inside is not None:
        yield "credssp", "the certificate inside is the next one, which --pin and --ca are for"
        yield from _certificate_card(facts.inside, facts.inside_judgement, "winrm")
    elif facts.inside_problem:
        yield "credssp", f"no certificate inside: {facts.inside_problem}"


def _client_card(facts: ClientFacts) -> Iterator[tuple[str, str]]:
    if facts.request is not None:
        yield "asks for", (facts.request.requested_protocols or Protocols.RDP).names
    yield "tls", f"{facts.tls_version}: {facts.cipher}" if facts.tls_version else ""
    yield "asked name", facts.server_name
    if (token := facts.token) is not None:
        around = "in SPNEGO" if token.shape == "spnego" else "without SPNEGO"
        yield "credssp", f"version {token.version}, {', '.join(token.mechanisms) or 'no mechanism'}, {around}"


def _show_line(out: Console, probed: Probed) -> None:
    ids = [each.id for each in probed.findings if each.severity is not Severity.INFO]
    worst = probed.worst
    head = Text.assemble((f"{worst:<6}", _COLOURS[worst]), " ", (printable(probed.target), "bold"))
    out.print(head + Text(f"  {_version_of(probed)}  {', '.join(ids) or 'nothing to mend'}"), soft_wrap=True)


def _version_of(probed: Probed) -> str:
    facts = probed.facts
    if not probed.reached:
        return "not asked" if probed.not_begun else "not reached"
    if isinstance(facts, ServerFacts):
        return f"credssp {facts.answer.version}" if facts.answer else "no credssp"
    return ", ".join(facts.schemes) if isinstance(facts, WebFacts) else ""


def _progress(console: Console, *, shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        expand=True,
        transient=True,
        disable=not (shown and console.is_terminal),
    )


def _memory() -> float:
    """Return the peak memory of this process in MiB; 0 where the system does not tell."""
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


# --- the command ---


def probe_command(  # noqa: PLR0913, PLR0917 - the options of a command line
    hosts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="HOST[:PORT]|NETWORK/BITS[:PORT]|URL",
            help="Servers of RDP (the port is 3389 unless given), or WinRM's as http://HOST:5985.",
        ),
    ] = None,
    targets: Annotated[
        pathlib.Path | None,
        typer.Option(
            metavar="FILE", help="Also probe the targets in this file, one in a line; - for the standard input."
        ),
    ] = None,
    policy_file: Annotated[
        pathlib.Path | None,
        typer.Option(
            "--policy", metavar="FILE", help="What is required, in TOML; the exit status tells the worst finding."
        ),
    ] = None,
    ca: Authorities = None,
    pin: Pin = None,
    server_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The name that certificates must have, by default HOST.")
    ] = None,
    suites: Annotated[
        bool, typer.Option("--suites", help="Ask for every cipher suite, too, by one more connection for each.")
    ] = False,
    rate: Annotated[
        float,
        typer.Option(metavar="N", help="At most so many connections begin in a second, over all hosts; 0: no limit."),
    ] = 100.0,
    at_once: Annotated[int, typer.Option(metavar="N", help="How many hosts to ask at a time, 1 to 1000.")] = 50,
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Seconds for each step: connecting, the negotiation, TLS, an answer."),
    ] = 5.0,
    host_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Seconds for all connections to a host together, besides waiting for --rate."
        ),
    ] = 30.0,
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST[:PORT]", help="Judge a client instead: the next one that connects to this address."),
    ] = None,
    cert: Annotated[
        pathlib.Path | None, typer.Option(metavar="FILE", help="With --listen: the certificate in PEM.")
    ] = None,
    key: Annotated[
        pathlib.Path | None, typer.Option(metavar="FILE", help="With --listen: its private key in PEM.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one line of CSV for each finding.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Ask servers what they would do with a logon, without one: protocols, TLS, certificate, CredSSP, names, clock.

    Nothing is sent that a server could count as a failed logon: no user, and no proof of a password.

    The exit status is 0 if a server of RDP or a service over HTTP answered, 2 if the command line is wrong, 3 if a
    server has another key than that of --pin, 4 if nothing answered but other protocols, 74 if the output cannot be
    written, and 130 after Ctrl-C. With --policy it is 10, 11, 12 or 13 for a worst finding of info, low, medium or high
    that the policy does not accept.
    """
    out, err = render.consoles()
    with usage_errors():
        if as_json and as_csv:
            raise UsageError("expected one of --json and --csv, got both")
        seconds = arguments.seconds("--timeout", timeout)
        host_seconds = arguments.seconds("--host-timeout", host_timeout)
        arguments.number("--rate", rate, 0)
        arguments.number("--at-once", at_once, 1, 1000)
        requirements = Requirements.from_file(policy_file) if policy_file is not None else None
        if server_name is not None:
            with arguments.values():
                expect_host_name("--server-name", server_name)
        trust = read_trust(False, ca, pin, allow_weak=False)
        if listen is not None:
            if hosts or targets:
                raise UsageError("expected hosts or --listen, got both")
            address = arguments.address(listen, default_port=RDP_PORT, lowest_port=0)
            context = _own(address.host, cert, key)
        else:
            if cert is not None or key is not None:
                raise UsageError("expected --listen HOST:PORT with --cert and --key, got them alone")
            wanted = read_targets(hosts or (), targets)
            if not wanted:
                raise UsageError("expected a HOST, --targets FILE or --listen, got none")
    if listen is not None:
        output = _Output(out, one=True, as_json=as_json, as_csv=as_csv, requirements=requirements)
        listening = functools.partial(_listen, str(address.host), address.port, context, seconds, err)
        heard = _hear(listening, output, err, always=as_json)
        raise typer.Exit(requirements.exit_status(heard.findings) if requirements else 0)
    output = _Output(out, one=len(wanted) == 1, as_json=as_json, as_csv=as_csv, requirements=requirements)
    https_trust = Trust.system() if pin is not None else None
    prober = Prober(
        pace=Pace(rate),
        timeout=seconds,
        total=host_seconds,
        trust=trust,
        https_trust=https_trust,
        server_name=server_name,
        suites=suites,
    )
    # The bar would break the long lines of scripts, where both go to the same terminal.
    shown = len(wanted) > 1 and not (out.is_terminal and (as_json or as_csv))
    progress = _progress(out if out.is_terminal else err, shown=shown)
    bar = progress.add_task(f"{len(wanted)} hosts", total=len(wanted))
    run = _Run(prober, output, iter(wanted.items()), progress, bar, requirements=requirements)
    raise typer.Exit(_exit_status(err, run, len(wanted), at_once, rate))


def _exit_status(err: Console, run: _Run, total: int, at_once: int, rate: float) -> int:
    """Probe all targets, print on `err` how many have answered, and return the exit status. Ctrl-C ends it early."""
    began, interrupted = time.perf_counter(), 0
    # rich 13 ends a hidden bar by a line break, so a hidden bar is not entered.
    with contextlib.nullcontext() if run.progress.disable else run.progress:
        try:
            until_done(_probe_all(run, min(at_once, total)))
        except typer.Exit as error:
            interrupted = error.exit_code
    if total > 1:
        took, turns = time.perf_counter() - began, run.prober.pace.turns
        limit = f", at most {rate:g}" if rate else ""
        missing = f" ({run.not_begun} were not asked, by a limit of this machine)" if run.not_begun else ""
        begun = f"ctrl-c ended it after {run.asked} of {total} hosts: " if interrupted else ""
        err.print(
            f"{begun}{run.answered} of {total} hosts answered{missing}, {turns} connections in {took:.1f} s "
            f"({turns / took:.0f} a second{limit}), {_memory():.0f} MiB of memory",
            soft_wrap=True,
        )
    if interrupted:
        return interrupted
    return run.status or (0 if run.spoken_to else EXIT_STATUS[Result.NETWORK_ERROR])


def _own(host: str, cert: pathlib.Path | None, key: pathlib.Path | None) -> ssl.SSLContext:
    if (cert is None) != (key is None):
        raise UsageError("expected --cert and --key together, got one of them")
    own = Certificate.from_files(cert, key) if cert and key else Certificate.self_made(host, "rsa")
    policy = Policy(min_tls=ssl.TLSVersion.TLSv1, dangerous_allow_legacy_tls=True, dangerous_allow_legacy_ciphers=True)
    config = own.server_config(policy, lookup=lambda _request: None)  # type: ignore[arg-type,return-value]
    assert config.ssl_context is not None
    return config.ssl_context


def _hear(
    listening: Callable[[ClientFacts], Coroutine[Any, Any, None]], output: _Output, err: Console, *, always: bool
) -> Probed:
    """Judge a client. After Ctrl-C, tell what is known of it, and `always` that nothing is known."""
    facts = ClientFacts("")
    try:
        until_done(listening(facts))
    except ConnectError as error:
        render.failure(err, error)
        raise typer.Exit(EXIT_STATUS[result_of(error)]) from None
    except typer.Exit:
        if facts.peer or always:
            output.put(Probed(facts, [], interrupted=True))
        raise
    heard = Probed(facts, judge_client(facts))
    output.put(heard)
    return heard


async def _listen(  # noqa: PLR0913, PLR0917
    host: str, port: int, context: ssl.SSLContext, seconds: float, err: Console, facts: ClientFacts
) -> None:
    """Wait for one client, and note in `facts` what it says."""
    first = iter((facts,))
    heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (own := next(first, None)) is None:
            writer.close()
            return
        await hear_client(reader, writer, context, seconds=seconds, facts=own)
        heard.set_result(None)

    try:
        server = await asyncio.start_server(hear, host, port)
    except OSError as error:
        raise ConnectError(
            f"cannot listen on {Address(host, port)}: {reason_of(error)}",
            stage=Stage.CONNECT,
            hint="choose another address with --listen HOST:PORT",
        ) from None
    name, number, *_ = server.sockets[0].getsockname()
    err.print(f"listening on {Address(name, number)}", soft_wrap=True)
    async with server:
        await heard
