"""The result of `acredssp doctor`: what a server and one logon have shown.

People see it on the terminal, and `--report` writes it to a file for the support.
"""

import asyncio
import dataclasses
import datetime as dt
import json
import pathlib
import platform
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

import acredssp
from acredssp.aio import reason_of
from acredssp.cli.outcome import Interrupted
from acredssp.cli.output import OutputError, write_private
from acredssp.cli.probe import Probed, show_document, show_findings
from acredssp.cli.render import label, printable
from acredssp.cli.report import LoginReport
from acredssp.cli.report import now as written_now
from acredssp.config import ClientConfig
from acredssp.credentials import Credential, TicketInfo
from acredssp.diagnosis import Finding, LogonFacts, ServerFacts, Severity, WebFacts
from acredssp.errors import CredSSPError
from acredssp.names import logon_name
from acredssp.rdp import ResponseFlags
from acredssp.workers import Address

__all__ = [
    "Course",
    "Examination",
    "Stage",
    "Step",
    "addresses_of",
    "facts_of",
    "mark_end",
    "show",
    "write",
]


class Course:
    """What a doctor does at the moment, for people who wait, and for whoever ends it by Ctrl-C.

    Args:
        tell: Called with each new activity.
    """

    def __init__(self, tell: Callable[[str], object] = str) -> None:
        self._tell = tell
        self._doing = "beginning"

    def begin(self, doing: str) -> None:
        """Note and tell what is done from now on."""
        self._doing = doing
        self._tell(doing)

    def interrupted(self) -> Interrupted:
        """Take the cancellation of the task that calls this, which Ctrl-C has caused; return it as an error."""
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        return Interrupted(f"ctrl-c ended it while {self._doing}")


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
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


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """What was expected at one stage of the logon, and what came."""

    stage: str
    expected: str
    came: str
    ended: bool = False
    """Whether the logon ended here, without success."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What a doctor has learned: of the server, quietly, and of one logon."""

    target: str
    """The server, as it is shown."""
    probed: Probed
    addresses: tuple[str, ...]
    """What DNS said; empty where it knows no address."""
    report: LoginReport
    error: CredSSPError | None
    stages: tuple[Stage, ...]
    steps: tuple[Step, ...]
    facts: LogonFacts
    tickets: tuple[TicketInfo, ...]
    """The Kerberos tickets that there are after the logon."""
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
            "target": self.target,
            "account": self.facts.account,
            "spn": self.facts.spn,
            "realm": self.facts.realm or None,
            "addresses": [*self.addresses],
            "causes": [each.as_dict() for each in self.causes],
            "also": [each.as_dict() for each in self.also],
            "stages": [dataclasses.asdict(each) for each in self.stages],
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
            "tickets": [dataclasses.asdict(each) | {"ends": _moment(each.ends)} for each in self.tickets],
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


def _moment(seconds: int) -> str:
    """Return a time of Kerberos as the reports have it."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat().replace("+00:00", "Z")


async def addresses_of(address: Address) -> tuple[str, ...]:
    """Ask DNS for the addresses of a host; none where it knows none."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(each[4][0]) for each in found))


_OF_THE_LOGON: Final = ("kerberos", "clock", "logon")
"""The stages whose rows say how far the logon came with them, or do not depend on it."""


def mark_end(rows: Iterable[tuple[str, str, str]], ended: str | None) -> Iterator[Stage]:
    """Mark the stage at which the logon ended, and the stages behind it as not reached.

    What the quiet questions showed of a stage that the logon did not reach is told as such.

    Args:
        rows: For each stage of the logon: its name, what was expected, and what came.
        ended: The name of the stage at which it ended; None for a success.
    """
    over = False
    for name, expected, came in rows:
        if over and name not in _OF_THE_LOGON:
            shown = f"not reached; asked quietly: {came}" if came not in {"", "not tried"} else "not reached"
            yield Stage(name, expected, shown)
        else:
            yield Stage(name, expected, came, ended=name == ended)
        over = over or name == ended


def facts_of(  # noqa: PLR0913 - all named, each known by its caller alone
    config: ClientConfig,
    report: LoginReport,
    error: CredSSPError | None,
    *,
    host: str,
    spn: str,
    server: ServerFacts | WebFacts,
    nothing_delegated: bool,
    kdc_seconds: float,
    flags: ResponseFlags | None = None,
) -> LogonFacts:
    """Put together what one logon has shown. The attributes of `LogonFacts` say what each argument is."""
    credential = config.authenticate
    return LogonFacts(
        host=host,
        account=logon_name(credential.domain, credential.user),
        spn=spn,
        realm=_realm_of(credential),
        error=error,
        server=server,
        version=report.credssp_version or 0,
        mechanism=report.mechanism or "",
        fallback=report.fallback or "",
        nothing_delegated=nothing_delegated,
        kdc_seconds=kdc_seconds,
        flags=flags,
        pin=report.peer_key_sha256 or "",
        key_checked=not config.policy.dangerous_accept_any_certificate,
    )


def _realm_of(credential: Credential) -> str:
    """Return the realm that an account names; empty for none."""
    domain, user = str(getattr(credential, "domain", "")), str(credential.user)
    if "." in domain:
        return domain.upper()
    return user.rpartition("@")[2].upper() if "@" in user else ""


_ASKED: Final = {
    "JudgeCertificate": "our verdict on the certificate",
    "StepMechanism": "our Kerberos, which may ask the KDC",
    "Delegate": "our decision to delegate the credentials",
}
"""What the engine waits for on this side, by its event."""
_AWAITED: Final = {
    "NEGOTIATION": "the server's Connection Confirm",
    "TLS": "the server's TLS",
    "NEGO_TOKEN": "the server's token of NTLM, Kerberos or SPNEGO",
    "PUB_KEY_AUTH": "the server's proof of its key (pubKeyAuth)",
    "EARLY_USER_AUTHORIZATION": "the server's early user authorization result",
    "ESTABLISHED": "nothing: the logon is complete",
}
"""What the engine waits for from the server, by its state."""


def show(out: Console, examination: Examination) -> None:
    """Print an examination for people."""
    who = f"  {printable(examination.facts.account)} at {printable(examination.target)}"
    out.print(Text.assemble(label(examination.report.result), who), soft_wrap=True)
    out.print()
    _show_stages(out, examination)
    out.print()
    _show_steps(out, examination)
    _show_tickets(out, examination)
    if isinstance(examination.error, Interrupted):
        out.print(Text(f"\n{printable(examination.error.message)}: that is what was known by then"), soft_wrap=True)
    elif examination.error is not None:
        several = len(examination.causes) > 1
        out.print("\nThe cause is one of these, the likeliest first:" if several else "\nThe cause:", style="bold")
    show_findings(out, examination.causes)
    if examination.also:
        out.print(f"\n{'Also wrong' if examination.error is not None else 'Wrong'} with this server:", style="bold")
        show_findings(out, examination.also)
    show_document(out, [*examination.causes, *examination.also])


def _show_stages(out: Console, examination: Examination) -> None:
    table = Table(box=None, padding=(0, 1), expand=False)
    for name, style in (("stage", "bold"), ("expected", "dim"), ("came", "")):
        table.add_column(name, style=style, overflow="fold")
    for each in examination.stages:
        came = Text(printable(each.came) or "-")
        if each.ended:
            came.append("  <- the logon ended here", style="bold red")
        table.add_row(each.stage, Text(printable(each.expected)), came)
    out.print(table)


def _show_steps(out: Console, examination: Examination) -> None:
    table = Table(box=None, padding=(0, 1), expand=False)
    for name in ("ms", "received", "sent"):
        table.add_column(name, justify="right")
    table.add_column("then waits for")
    for each in examination.steps:
        waits = _ASKED.get(each.event, each.event) or _AWAITED.get(each.state, each.state.lower())
        table.add_row(f"{each.at * 1000:.1f}", str(each.took or ""), str(each.sent or ""), waits)
    if examination.steps:
        out.print(table)


def _show_tickets(out: Console, examination: Examination) -> None:
    table = Table(box=None, padding=(0, 1), expand=False)
    for name in ("ticket for", "sealed by", "session key", "ends"):
        table.add_column(name, overflow="fold")
    for each in examination.tickets:
        words = (each.server, each.ticket_enctype, each.session_enctype, _moment(each.ends))
        table.add_row(*(Text(printable(word)) for word in words))
    if examination.tickets:
        out.print()
        out.print(table)


def write(path: pathlib.Path, examination: Examination) -> None:
    """Write the report, for its owner's eyes.

    Raises:
        OutputError: It cannot be written.
    """
    text = json.dumps(examination.as_dict(), indent=2) + "\n"
    try:
        write_private(path, text.encode("ascii"))
    except OSError as error:
        raise OutputError(f"cannot write --report {path}: {reason_of(error)}") from None
