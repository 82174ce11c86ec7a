"""`acredssp winrm`: one command on Windows, its output as it comes, its input, Ctrl-C, and its exit status."""

import asyncio
import contextlib
import dataclasses
import enum
import pathlib
import re
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

import typer
from typer.core import TyperCommand

from acredssp.aio import reason_of
from acredssp.cli import arguments, render
from acredssp.cli.arguments import Secret, Service
from acredssp.cli.keylog import log_keys
from acredssp.cli.options import (
    AsJSON,
    Authorities,
    Domain,
    Insecure,
    KeyLog,
    KeytabFile,
    LegacyCiphers,
    LegacyTLS,
    LogLevel,
    MaxVersion,
    MinTLS,
    MinVersion,
    NTHashWord,
    PasswordStdin,
    PasswordWord,
    Pin,
    PolicyFile,
    Tickets,
    User,
    Verbose,
    WeakCertificates,
    WithLogLevel,
    WithMechanism,
    allowed,
    client_config,
    log_from,
    read_policy,
    read_trust,
    until_done,
    usage_errors,
    warn_of,
)
from acredssp.cli.outcome import ConnectError, Result, advice, result_of
from acredssp.cli.output import OutputError, write_bytes
from acredssp.cli.report import WinRMReport, anchor_of, to_json
from acredssp.cli.services import extra_of_services, name_of_service, to_this_service
from acredssp.config import ClientConfig
from acredssp.ctrl_c import INTERRUPTED
from acredssp.errors import CredSSPError
from acredssp.policy import FIRST_SAFE_VERSION, NEWEST_VERSION, MechanismChoice
from acredssp.winrm import CommandShell, Identity, WSMan, WSManFault

if TYPE_CHECKING:  # it needs the extra
    from acredssp.winrm.powershell import RunspacePool

__all__ = ["WinRMCommand", "winrm_command"]

FAILED: Final = 255
"""The exit status if the command could not be run to its end; ssh has the same."""
_HIGHEST: Final = 254
"""What stands for every exit status of a command above it: a process has one byte."""
_GRACE: Final = 5.0
"""Seconds that an interrupted command has to end by itself."""
_ACCESS_DENIED: Final = 5
_READ_SIZE: Final = 65_536
_READ_AHEAD: Final = 4
_LINE_BREAK: Final = re.compile(r"\r*\n")


class WinRMCommand(TyperCommand):
    """The command, whose own options end at the first word of the command to run, as those of ssh do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # click's type, or that of typer's copy
        """Parse the command line as if `--` stood in front of the command to run."""
        start = self._first_word(ctx, args)  # the url
        if "--" not in args[:start]:
            start += 1
            start += self._first_word(ctx, args[start:])
            if "--" not in args[:start]:
                args = [*args[:start], "--", *args[start:]]
        return super().parse_args(ctx, args)

    def _first_word(self, ctx: Any, args: list[str]) -> int:
        """Return the position of the first word that is neither an option nor its value."""
        parser = self.make_parser(ctx)
        parser.allow_interspersed_args = False
        found, _, _ = parser.parse_args(list(args))
        words = found.get("command")
        behind = len(words) if isinstance(words, list | tuple) else 0
        return len(args) - behind - (1 if found.get("url") else 0)


class ShellChoice(enum.StrEnum):
    """What runs the command."""

    CMD = "cmd"
    POWERSHELL = "powershell"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """The command to run, and where."""

    service: Service
    config: ClientConfig
    options: dict[str, Any]
    shell: ShellChoice
    command: str
    """Empty to ask which service it is."""
    with_input: bool
    profile: bool


@dataclasses.dataclass(slots=True)
class _Written:
    """What came of the command so far."""

    as_json: bool
    held: dict[bool, str] = dataclasses.field(default_factory=lambda: {False: "", True: ""})
    """The end of a terminal's text that may be the first half of a line break."""
    texts: dict[bool, list[str]] = dataclasses.field(default_factory=lambda: {False: [], True: []})
    identity: Identity | None = None
    exit_code: int | None = None
    interrupted: bool = False
    may_lack_output: bool = False

    def write(self, text: str, data: bytes, *, is_error: bool) -> None:
        """Write output, or keep it for the report. On a terminal it cannot write over what stands there already."""
        if self.as_json:
            self.texts[is_error].append(text)
            return
        stream = sys.stderr if is_error else sys.stdout
        if stream.isatty():
            stream.write(self._for_terminal(text, is_error=is_error))
            stream.flush()
        else:
            write_bytes(stream, data)

    def _for_terminal(self, text: str, *, is_error: bool) -> str:
        """Return text whose control characters are escaped, but for tabs and the line breaks of Windows and Unix."""
        text = self.held[is_error] + text
        rest = text.rstrip("\r")
        self.held[is_error] = text[len(rest) :]
        lines = _LINE_BREAK.split(rest)
        return "\n".join("\t".join(map(render.printable, line.split("\t"))) for line in lines)

    def report(self, error: CredSSPError | None) -> WinRMReport:
        """Return the report."""
        denied = isinstance(error, WSManFault) and error.code == _ACCESS_DENIED
        logon = error if error is not None and error.stage is not None else None
        return WinRMReport(
            result=Result.DENIED if denied else result_of(error),
            exit_code=self.exit_code,
            interrupted=self.interrupted,
            stdout="".join(self.texts[False]),
            stderr="".join(self.texts[True]),
            may_lack_output=self.may_lack_output,
            server=f"{self.identity.vendor} {self.identity.version}" if self.identity else None,
            stage=str(logon.stage) if logon else None,
            security_status=str(logon.security_status) if logon else None,
            nt_status=str(error.nt_status) if error is not None and error.nt_status is not None else None,
            fault=error.code if isinstance(error, WSManFault) else None,
            message=error.message if error else None,
            hint=advice(error) if error else None,
            anchor=anchor_of(logon),
        )


class _Running(Protocol):
    """A command of either shell."""

    may_lack_output: bool

    async def interrupt(self) -> None:
        """Press Ctrl-C at it."""

    async def aclose(self) -> None:
        """Let go of it."""


# --- running ---


async def _run(task: _Task, written: _Written) -> CredSSPError | None:
    """Run the command; return why it could not be run to its end."""
    from acredssp.winrm.httpx import connect  # noqa: PLC0415 - needs the extra

    try:
        async with connect(task.service.url, task.config, **task.options) as wsman:
            written.identity = await wsman.identify()
            if task.command:
                await (_in_cmd if task.shell is ShellChoice.CMD else _in_powershell)(task, wsman, written)
    except CredSSPError as error:
        return error
    except OutputError:
        raise
    except OSError as error:
        return ConnectError(
            f"the connection was lost: {reason_of(error)}",
            hint="the service may have been restarted, or the network is down: try again",
        )
    return None


async def _in_cmd(task: _Task, wsman: WSMan, written: _Written) -> None:
    async with await CommandShell.open(wsman, profile=task.profile) as shell:
        from_stdin = task.command == "-"
        command = await shell.start("cmd /q" if from_stdin else task.command)

        async def read() -> None:
            async for output in command:
                written.write(output.text, output.data, is_error=output.stream == "stderr")
            written.exit_code = command.exit_code

        async def feed() -> None:
            with contextlib.suppress(WSManFault):  # a command that has ended takes no more
                async for data in _standard_input():
                    await command.send(data)
                await command.send(b"", end=True)

        await _to_its_end(command, read, feed if task.with_input or from_stdin else None, written)


async def _in_powershell(task: _Task, wsman: WSMan, written: _Written) -> None:
    from acredssp.winrm.powershell import RunspacePool  # noqa: PLC0415 - needs the extra

    given = b"".join([data async for data in _standard_input()]) if task.with_input or task.command == "-" else b""
    text = given.decode("utf-8", "replace")
    async with await RunspacePool.open(wsman) as pool:
        await _script(task, pool, written, text)


async def _script(task: _Task, pool: "RunspacePool", written: _Written, text: str) -> None:
    from_stdin = task.command == "-"
    lines = text.splitlines() if task.with_input and not from_stdin else None
    pipeline = await pool.start(text if from_stdin else task.command, lines=lines)

    async def read() -> None:
        async for record in pipeline:
            if record.stream != "progress":
                line = f"{record.text}\n"
                written.write(line, line.encode("utf-8", "replace"), is_error=record.stream != "output")
        written.exit_code = await pipeline.exit_code()

    await _to_its_end(pipeline, read, None, written)


async def _to_its_end(
    running: _Running, read: Callable[[], Any], feed: Callable[[], Any] | None, written: _Written
) -> None:
    """Read all output while input is fed. Ctrl-C interrupts the command; after a while, or again, it ends it."""
    reading = asyncio.ensure_future(read())
    others = [asyncio.ensure_future(_or_stop(feed(), reading))] if feed is not None else []

    async def stop() -> None:
        with contextlib.suppress(CredSSPError, OSError):
            await running.interrupt()
        await asyncio.sleep(_GRACE)
        reading.cancel()

    def pressed() -> None:
        if written.interrupted:
            reading.cancel()
        else:
            written.interrupted = True
            others.append(asyncio.ensure_future(stop()))

    try:
        with _on_ctrl_c(pressed):
            await asyncio.wait([reading])
        failed = [each.exception() for each in others if each.done() and not each.cancelled()]
        if error := next((each for each in failed if each is not None), None):
            raise error
        if not reading.cancelled():
            reading.result()
    finally:
        for each in (reading, *others):
            each.cancel()
        await asyncio.gather(reading, *others, return_exceptions=True)
        written.may_lack_output = running.may_lack_output
        await running.aclose()


async def _or_stop(feeding: Any, reading: "asyncio.Future[None]") -> None:
    """Feed input; if that fails, nothing more is read."""
    try:
        await feeding
    except BaseException:
        reading.cancel()
        raise


@contextlib.contextmanager
def _on_ctrl_c(pressed: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGINT, pressed)
    except (NotImplementedError, RuntimeError):  # on Windows, and outside of the main thread
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _standard_input() -> AsyncIterator[bytes]:
    """Read the standard input in a thread that does not keep the process alive."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    ahead = threading.Semaphore(_READ_AHEAD)

    def read() -> None:
        with contextlib.suppress(RuntimeError, OSError, ValueError):  # the loop or the input is closed
            data = b"more"
            while data:
                ahead.acquire()
                data = (arguments.unbuffered_input().read(_READ_SIZE) or b"") if sys.stdin is not None else b""
                loop.call_soon_threadsafe(queue.put_nowait, data)

    threading.Thread(target=read, daemon=True).start()
    while data := await queue.get():
        ahead.release()
        yield data


# --- the command ---


def winrm_command(  # noqa: PLR0913, PLR0917 - the options of a command line
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="The service: http://HOST:5985/wsman, which HOST alone stands for, or https."
        ),
    ],
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND",
            help="The command. From its first word on, options are the command's own. Without a command, the logon is "
            "tried alone. A lone - reads commands from the standard input.",
        ),
    ] = None,
    user: User = None,
    domain: Domain = None,
    password: PasswordWord = None,
    password_stdin: PasswordStdin = False,
    nt_hash: NTHashWord = None,
    ccache: Tickets = None,
    keytab: KeytabFile = None,
    shell: Annotated[ShellChoice, typer.Option(help="What runs the command: cmd.exe or PowerShell.")] = ShellChoice.CMD,
    with_input: Annotated[
        bool,
        typer.Option("--stdin", "-i", help="Send the standard input to the command; in PowerShell it is $input."),
    ] = False,
    no_profile: Annotated[
        bool, typer.Option("--no-profile", help="Leave the user's profile out, with --shell cmd.")
    ] = False,
    mechanism: WithMechanism = MechanismChoice.AUTO,
    min_version: MinVersion = FIRST_SAFE_VERSION,
    max_version: MaxVersion = NEWEST_VERSION,
    min_tls: MinTLS = arguments.TLSVersion.TLS_1_2,
    dangerous_allow_legacy_tls: LegacyTLS = False,
    dangerous_allow_legacy_ciphers: LegacyCiphers = False,
    keylog: KeyLog = None,
    insecure: Insecure = False,
    ca: Authorities = None,
    pin: Pin = None,
    dangerous_allow_weak_certificates: WeakCertificates = False,
    server_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The name that the certificate inside CredSSP must have, by default HOST."),
    ] = None,
    spn: Annotated[
        str | None,
        typer.Option(metavar="SPN", help="The server's principal name, by default HTTP/NAME; WSMAN/NAME is usual too."),
    ] = None,
    policy_file: PolicyFile = None,
    proxy: Annotated[
        str | None, typer.Option(metavar="URL", help="Pass through this proxy of http, https or socks5.")
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Give up a logon after this many seconds.")] = 30.0,
    log_level: WithLogLevel = LogLevel.WARNING,
    verbose: Verbose = False,
    as_json: AsJSON = False,
) -> None:
    """Run a command on Windows by WinRM, and print its output as it comes.

    The server gets the password, so the command reaches further machines as the user. With --nt-hash, --ccache and
    --keytab it gets none, which WinRM on Windows may refuse. Ctrl-C interrupts the command.

    The exit status is that of the command, or 254 if that is above 254. It is 255 if the command could not be run to
    its end, 2 if the command line is wrong, 74 if the output cannot be written, and 130 after Ctrl-C.
    """
    _, err = render.consoles()
    log_from(LogLevel.DEBUG if verbose else log_level)
    with usage_errors(), extra_of_services():
        service = arguments.service(url)
        trust = read_trust(insecure, ca, pin, allow_weak=dangerous_allow_weak_certificates)
        name = name_of_service(service, server_name, spn)
        delegation = read_policy(policy_file) if policy_file is not None else to_this_service(spn or f"HTTP/{name}")
        credential = Secret(password, password_stdin, nt_hash, ccache, keytab).credential(user, domain)
        policy = arguments.policy_of(
            min_version,
            max_version,
            min_tls,
            legacy_tls=dangerous_allow_legacy_tls,
            legacy_ciphers=dangerous_allow_legacy_ciphers,
            dangerous_accept_any_certificate=insecure,
            mechanism=mechanism,
            handshake_timeout=arguments.seconds("--timeout", timeout),
        )
        policy = allowed(delegation.for_client, policy)
        config = client_config(authenticate=credential, delegation=delegation, policy=policy, trust=trust)
        if keylog is not None:
            log_keys(config.ssl_context, keylog)
        task = _Task(
            service=service,
            config=config,
            options=_options(service, spn, server_name, proxy, insecure=insecure, authorities=ca),
            shell=shell,
            command=" ".join(command or ()),
            with_input=with_input,
            profile=not no_profile,
        )
        warn_of(err, policy, keylog, trust)
        written = _Written(as_json)
        error = until_done(_run(task, written))
    if as_json:
        print(to_json(written.report(error)))  # noqa: T201
    if error is not None:
        render.failure(err, error)
        raise typer.Exit(FAILED)
    if not task.command and not as_json:
        assert written.identity is not None
        render.card(
            render.consoles()[0],
            f"you are logged on to {service.url}",
            {"service": f"{written.identity.vendor} {written.identity.version}"},
        )
    if written.may_lack_output and not as_json:
        render.warning(err, "a connection was lost, and this old service does not repeat what got lost with it")
    raise typer.Exit(INTERRUPTED if written.interrupted else min(written.exit_code or 0, _HIGHEST))


def _options(  # noqa: PLR0913
    service: Service,
    spn: str | None,
    server_name: str | None,
    proxy: str | None,
    *,
    insecure: bool,
    authorities: pathlib.Path | None,
) -> dict[str, Any]:
    """Return the arguments of `acredssp.winrm.httpx.connect`."""
    options: dict[str, Any] = {"spn": spn, "server_hostname": server_name}
    if proxy is not None:
        options["proxy"] = arguments.proxy(proxy)
    if service.secure:
        options["ssl_context"] = arguments.https_context(insecure=insecure, authorities=authorities)
    return {name: value for name, value in options.items() if value is not None}
