"""`acredssp demo`: real handshakes between an embedded server and clients, in one process.

The demonstration shows one handshake step by step, then runs some hundreds at once, then prints the figures.
"""

import dataclasses
import secrets
from typing import Annotated

import typer
from rich.bar import Bar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from acredssp.cli import loops, render
from acredssp.cli.certificate import Certificate
from acredssp.cli.options import AsJSON
from acredssp.cli.outcome import EXIT_STATUS, Result
from acredssp.cli.render import card
from acredssp.cli.report import DemoReport, to_json
from acredssp.cli.storm import HOST, Storm, listening, log_on, log_on_often
from acredssp.cli.timeline import CLIENT, Timeline, record
from acredssp.config import ClientConfig, ServerConfig
from acredssp.credentials import Deny, LookupAnswer, Password
from acredssp.errors import AuthenticationError
from acredssp.events import HandshakeInfo
from acredssp.hooks import CredentialRequest
from acredssp.policy import Policy
from acredssp.rdp import RDP
from acredssp.trust import Trust

__all__ = ["demo", "demo_command"]

_USER, _DOMAIN = "alice", "CONTOSO"


@dataclasses.dataclass(frozen=True, slots=True)
class _Stage:
    """Both sides of the demonstration; whatever is costly to make is made once."""

    client: ClientConfig
    server: ServerConfig
    intruder: ClientConfig
    """A client with a wrong password."""

    @classmethod
    def set(cls) -> "_Stage":
        password = secrets.token_urlsafe(12)
        certificate = Certificate.self_made(HOST, "ec")
        accounts = {(_DOMAIN, _USER): Password(password)}

        def lookup(request: CredentialRequest) -> LookupAnswer:
            return accounts.get((request.principal.domain, request.principal.user), Deny())

        def client(secret: str) -> ClientConfig:
            return ClientConfig(authenticate=Password(secret, _USER, _DOMAIN), trust=Trust.pinned(certificate.pin))

        server = certificate.server_config(Policy(), lookup=lookup, admit=lambda _info: True)
        return cls(client(password), server, client(password + "?"))


def demo(console: Console, *, count: int, concurrency: int, quiet: bool) -> DemoReport:
    """Run the demonstration and return its figures; unless `quiet`, show it on the console as it goes."""
    console.quiet = quiet
    stage = _Stage.set()
    _show_timeline(console, timeline := _slow_motion(stage))
    storm, wrong_password = loops.run(_crowd(console, stage, count, min(count, concurrency)))
    _show_summary(console, timeline.info, storm, wrong_password)
    return _report(timeline, storm, wrong_password)


def _slow_motion(stage: _Stage) -> Timeline:
    carriage = RDP(hybrid_ex=True)
    record(stage.client, stage.server, carriage, HOST)  # the first run also pays for what a process does only once
    return record(stage.client, stage.server, carriage, HOST)


async def _crowd(console: Console, stage: _Stage, count: int, concurrency: int) -> tuple[Storm, str | None]:
    """Log on `count` times, then once with a wrong password.

    Returns:
        The figures of the logons, and the NTSTATUS that the wrong password got; None if it got in.
    """
    async with listening(stage.server) as port:
        with _progress(console) as progress:
            bar = progress.add_task(f"{count} handshakes, {concurrency} at a time", total=count)
            storm = await log_on_often(
                stage.client, port, count=count, concurrency=concurrency, done=lambda: progress.advance(bar)
            )
        try:
            await log_on(stage.intruder, port)
        except AuthenticationError as error:
            return storm, str(error.nt_status)
        return storm, None


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        expand=True,
        disable=not console.is_terminal,
    )


def _show_timeline(console: Console, timeline: Timeline) -> None:
    total = sum(step.seconds for step in timeline.steps)
    sent = sum(step.sent for step in timeline.steps)
    table = Table(box=None, padding=(0, 1), expand=True, title_justify="left", title_style="", caption_justify="left")
    table.title = "[bold]One handshake, step by step[/], as RDP does it"
    table.add_column("from")
    table.add_column("sends", no_wrap=True)
    table.add_column("bytes", justify="right")
    table.add_column("µs", justify="right")
    table.add_column("when", ratio=1, min_width=10)
    begin = 0.0
    for step in timeline.steps:
        colour = "cyan" if step.side == CLIENT else "magenta"
        table.add_row(
            f"[{colour}]{step.side}[/]",
            step.what if step.sent else f"[dim italic]{step.what}[/]",
            str(step.sent) if step.sent else "",
            f"{step.seconds * 1e6:.0f}",
            Bar(total, begin, begin + step.seconds, color=colour),
        )
        begin += step.seconds
    table.add_row("", "[bold]both together[/]", f"[bold]{sent}[/]", f"[bold]{total * 1e6:.0f}[/]", "")
    console.print(table)
    console.print()


def _show_summary(console: Console, info: HandshakeInfo, storm: Storm, wrong_password: str | None) -> None:
    facts = {
        "rate": f"{storm.rate:.0f} handshakes a second, client and server on one core with {loops.NAME}",
        "latency": f"p50 {storm.percentile(50) * 1e3:.1f} ms, p99 {storm.percentile(99) * 1e3:.1f} ms, "
        f"{storm.concurrency} at a time",
        "credssp": f"version {info.version}, {info.mechanism}, delegated {info.delegated}",
        "tls": f"{info.tls_version}, {info.cipher}",
        "key": "P-256, made for this demonstration, pinned by the client",
    }
    if wrong_password:
        facts["denied"] = f"a wrong password, with {wrong_password}"
    console.print()
    card(console, f"{len(storm.latencies)} of {storm.count} logons in {storm.seconds:.2f} s", facts)


def _report(timeline: Timeline, storm: Storm, wrong_password: str | None) -> DemoReport:
    info = timeline.info
    passed = not storm.failures and wrong_password is not None
    return DemoReport(
        result=Result.SUCCESS if passed else Result.PROTOCOL_ERROR,
        handshakes=storm.count,
        failures=storm.failures,
        concurrency=storm.concurrency,
        seconds=round(storm.seconds, 6),
        handshakes_per_second=round(storm.rate, 1),
        latency_p50_ms=round(storm.percentile(50) * 1e3, 3),
        latency_p99_ms=round(storm.percentile(99) * 1e3, 3),
        wrong_password=wrong_password,
        credssp_version=info.version,
        mechanism=info.mechanism,
        tls_version=info.tls_version,
        cipher=info.cipher,
        event_loop=loops.NAME,
        timeline=[
            {"side": step.side, "what": step.what, "bytes": step.sent, "microseconds": round(step.seconds * 1e6, 1)}
            for step in timeline.steps
        ],
    )


# --- the command ---


def demo_command(
    count: Annotated[int, typer.Option(min=1, metavar="N", help="How many handshakes to make.")] = 400,
    concurrency: Annotated[
        int, typer.Option(min=1, max=400, metavar="N", help="How many of them to make at a time.")
    ] = 100,
    as_json: AsJSON = False,
) -> None:
    """Show real handshakes between a server and clients in this process: one step by step, then hundreds at once."""
    out, _ = render.consoles()
    report = demo(out, count=count, concurrency=concurrency, quiet=as_json)
    if as_json:
        print(to_json(report))  # noqa: T201
    raise typer.Exit(EXIT_STATUS[report.result])
