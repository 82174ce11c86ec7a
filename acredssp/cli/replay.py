"""`acredssp replay FILE`: our engine against either side of a recorded handshake."""

import dataclasses
import enum
import json
import pathlib
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from acredssp.cli import render, report_file, tshark
from acredssp.cli.options import AsJSON, usage_errors
from acredssp.cli.outcome import EXIT_STATUS, Result, UsageError, unreadable
from acredssp.recording import MOST_BYTES, Agreement, Recording, Replay, replay

__all__ = ["replay_command"]


class Side(enum.StrEnum):
    """The side that our engine takes."""

    CLIENT = "client"
    SERVER = "server"


class Verdict(enum.StrEnum):
    """How a replay compares with its record."""

    REPRODUCED = "reproduced"
    """Our engine made the recorded bytes, and ended as the record does."""
    ACCEPTED = "accepted"
    """Another program made the record, and our engine gets on with its peer to the end."""
    REFUSED = "refused"
    """Another program made the record, and our engine refuses its peer."""
    INCOMPLETE = "incomplete"
    """The record does not hold what the replay would need to go on."""
    DIFFERS = "differs"
    """Our engine makes other bytes than acredssp made then, or ends otherwise."""


_STYLE: Final = {
    Verdict.REPRODUCED: "bold green",
    Verdict.ACCEPTED: "bold green",
    Verdict.INCOMPLETE: "bold yellow",
    Verdict.REFUSED: "bold red",
    Verdict.DIFFERS: "bold red",
}
_WORDS: Final = {
    Agreement.SAME: "the same bytes",
    Agreement.SAME_BUT_SECRETS: "the same bytes, but for the proof",
    Agreement.TAKEN: "taken",
    Agreement.REFUSED: "refused",
}


def replay_command(
    file: Annotated[pathlib.Path, typer.Argument(metavar="FILE", help="A record, as --record writes it.")],
    side: Annotated[
        Side | None,
        typer.Option(help="The side that acredssp takes; without it, the side that the record was made at."),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Run acredssp's engine against one side of a recorded handshake, and compare it with the record.

    What is random and the time come from the record. So acredssp makes the recorded bytes again, unless it has changed.
    A record without secrets ends at the proof of the password, and a logon by Kerberos before its ticket.

    The exit status is 0 if the replay ends as the record does or as far as the record goes, 2 if the command line or
    the file is wrong, and 3 if the replay differs.
    """
    out, _ = render.consoles()
    with usage_errors():
        record = _read(file)
    result = replay(record, side.value if side else None)
    verdict = _verdict(record, result)
    failed = verdict is Verdict.DIFFERS or (verdict is Verdict.REFUSED and record.result == "success")
    status = Result.PROTOCOL_ERROR if failed else Result.SUCCESS
    if as_json:
        print(json.dumps(_report(status, verdict, result)))  # noqa: T201
    else:
        _show(out, record, result, verdict)
    raise typer.Exit(EXIT_STATUS[status])


def _read(path: pathlib.Path) -> Recording:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if tshark.is_capture(data):
            raise UsageError(f"{path}: this is a capture of the network, and a replay needs a record: see decode")
        if report_file.report_of(data) is not None:
            raise UsageError(f"{path}: this is a report of doctor, and a replay needs a record: see decode")
        return Recording.from_json(data)
    except OSError as error:
        raise unreadable("FILE", path, error) from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None


def _verdict(record: Recording, result: Replay) -> Verdict:
    own = _is_own(record, result)
    differs = own and any(step.agreement is Agreement.DIFFERS for step in result.steps)
    if differs or (own and not result.ended and not result.reproduces(record)):
        return Verdict.DIFFERS
    if result.ended:
        return Verdict.INCOMPLETE
    if own:
        return Verdict.REPRODUCED
    return Verdict.ACCEPTED if result.error is None else Verdict.REFUSED


def _is_own(record: Recording, result: Replay) -> bool:
    """Whether acredssp has made the record, at the side that it takes now."""
    return record.recorder.startswith("acredssp ") and record.side == result.side


def _show(out: Console, record: Recording, result: Replay, verdict: Verdict) -> None:
    what = f"a record of {record.label or record.utc or 'a handshake'}"
    out.print(Text.assemble("acredssp as the ", (result.side, "bold"), f" in {render.printable(what)}"), soft_wrap=True)
    own = _is_own(record, result)
    table = Table(box=None, padding=(0, 1))
    table.add_column("from")
    table.add_column("message", overflow="fold")
    table.add_column("bytes", justify="right")
    table.add_column("replay", overflow="fold")
    for step in result.steps:
        colour = "cyan" if step.sender == "client" else "magenta"
        said = _WORDS.get(step.agreement) or f"other bytes from byte {step.at} on"
        if step.agreement is Agreement.DIFFERS and not own:
            said += ", as another program or configuration may send"
        table.add_row(Text(step.sender, colour), step.what, str(step.size), said)
    if result.steps:
        out.print(table)
    out.print(Text.assemble((verdict.value, _STYLE[verdict]), _why(record, result)), soft_wrap=True)


def _why(record: Recording, result: Replay) -> str:
    if result.ended:
        recorded = f"; the recorded handshake failed: {render.printable(record.error.message)}" if record.error else ""
        return f": {render.printable(result.ended)}{recorded}"
    if result.error is not None:
        where = f" at {result.error.stage}" if result.error.stage else ""
        return f": {render.printable(result.error.message)}{where}"
    recorded = f", but the record ends with {render.printable(record.error.message)}" if record.error else ""
    return f": the handshake is complete{recorded}"


def _report(status: Result, verdict: Verdict, result: Replay) -> dict[str, Any]:
    error = result.error
    return {
        "result": status,
        "verdict": verdict,
        "side": result.side,
        "complete": result.complete,
        "ended": result.ended or None,
        "steps": [dataclasses.asdict(step) for step in result.steps],
        "stage": str(error.stage) if error is not None and error.stage else None,
        "security_status": str(error.security_status) if error is not None else None,
        "nt_status": str(error.nt_status) if error is not None and error.nt_status is not None else None,
        "message": error.message if error is not None else None,
        "hint": error.hint if error is not None else None,
    }
