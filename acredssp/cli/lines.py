"""The lines that `acredssp serve` prints when it listens and after each handshake, for people or for scripts."""

import contextlib
import json
from collections.abc import Callable
from time import monotonic

from rich.console import Console
from rich.text import Text

from acredssp.aio import HandshakeOutcome, HandshakeReport, Sparingly
from acredssp.cli.line_writer import LineWriter
from acredssp.cli.output import WholeLines
from acredssp.cli.render import label, printable
from acredssp.cli.report import ServeReport, now, to_json
from acredssp.errors import CredSSPError
from acredssp.workers import Address, Worker

__all__ = ["Lines"]


class Lines:
    """Prints one line for each handshake, for people or for scripts."""

    def __init__(
        self, console: Console, warn: Callable[[str], None], *, as_json: bool, worker: Worker | None = None
    ) -> None:
        self._console = console
        self._as_json = as_json
        self._worker = worker
        self._limited = Sparingly()
        self._whole_lines = WholeLines(console.file, worker.torn if worker else None)
        who = f"worker {worker.number}: " if worker else ""
        self._writer = LineWriter(self._write, lambda text: warn(who + text))

    def listening(self, address: Address, pin: str) -> None:
        """Print that the server is ready.

        Raises:
            OutputError: The line cannot be written.
        """
        if self._as_json:
            self._write(json.dumps({"listening": str(address), "peer_key_sha256": pin, "time": now()}) + "\n")
        else:
            self._write(self._rendered(Text.assemble("listening on ", (str(address), "bold"), f", key pin {pin}")))

    def handshake(self, report: HandshakeReport) -> None:
        """Print how one handshake went: the server's `on_handshake`.

        A connection that sent nothing, such as a load balancer's probe, gets no line. Connections that a limit turns
        away get one line a second together.
        """
        if report.outcome is HandshakeOutcome.NO_DATA:
            return
        if report.outcome is HandshakeOutcome.LIMITED and report.info is None and not self._limited.lets(monotonic()):
            return
        line = ServeReport.of(report, worker=self._worker.number if self._worker else None)
        self._writer.put(f"{to_json(line)}\n" if self._as_json else self._rendered(_sentence(line, report.error)))

    def end(self) -> None:
        """Wait a moment for the lines that are left to be written."""
        self._writer.end()

    def _rendered(self, line: Text) -> str:
        with self._console.capture() as captured:
            self._console.print(line, soft_wrap=True)
        return captured.get()

    def _write(self, line: str) -> None:
        with self._worker.turn() if self._worker else contextlib.nullcontext():
            self._whole_lines.write(line)


def _sentence(line: ServeReport, error: CredSSPError | None) -> Text:
    name = line.principal or "nobody"
    if line.account not in {None, name}:
        name += f" ({line.account})"
    who = f"{printable(name)} from {line.peer or 'somewhere'}"
    if error is None:
        what = f"{line.mechanism}, version {line.credssp_version}, delegated {line.delegated}"
    else:
        status = f", {line.nt_status}" if line.nt_status else ""
        hint = f" ({printable(error.hint)})" if error.hint else ""
        what = f"{printable(error.message)} at {line.stage}{status}{hint}"
    where = f", worker {line.worker}" if line.worker else ""
    return Text.assemble(label(line.result), f" {who}: {what}, {line.elapsed_ms:.1f} ms{where}")
