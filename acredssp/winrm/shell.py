"""Commands of cmd.exe over WS-Management: a shell, its commands, their output as it comes, input and signals."""

import asyncio
import codecs
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping
from types import TracebackType
from typing import Final, Self

from acredssp.errors import CredSSPError, LocalProtocolError, RemoteProtocolError
from acredssp.winrm import messages
from acredssp.winrm.client import WSMan, new_id
from acredssp.winrm.errors import (
    OPERATION_TIMED_OUT,
    SHELL_DISCONNECTED,
    UNEXPECTED_SELECTORS,
    OutcomeUnknown,
    WSManFault,
)
from acredssp.winrm.messages import Received, Shell, ShellRef
from acredssp.winrm.soap import Option, Reply, Request

_logger = logging.getLogger("acredssp.winrm")

__all__ = ["Command", "CommandShell", "Completed", "OpenShell", "Output", "let_go", "payload_size"]

_OWN_IDS: Final = 3
"""The version of WinRM's stack from which on a client may choose the identifiers of shells and commands."""
_UTF_8: Final = 65_001
_MOST_RECONNECTS: Final = 3
"""Answers on end that the shell is disconnected. A service that says it again after that has another reason."""
_LEAST_PAUSE: Final = 1.0
"""Seconds between requests that keep a shell alive, at the least, even if the service's idle time-out is shorter."""
_CLOSING: Final = 10.0
"""Seconds that the service gets to confirm that something has ended."""
_CLOSED_HINT: Final = "use a shell within its `async with`, or open another one"
_NOTHING: Final = Received((), done=False, exit_code=None)


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """What a command has written.

    Attributes:
        stream: `stdout` or `stderr`.
        data: The bytes.
        text: The characters that these bytes end; the beginning of a character waits for its end.
    """

    stream: str
    data: bytes
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Completed:
    """A command that has ended.

    Attributes:
        exit_code: Its exit status: 32 bits, without a sign.
        stdout: What it wrote.
        stderr: What it wrote to its standard error.
        may_lack_output: Whether output got lost with a connection.
    """

    exit_code: int
    stdout: str
    stderr: str
    may_lack_output: bool = False


class OpenShell:
    """A shell of the service, of whatever kind: requests to it, and the keep-alive below its idle time-out.

    Attributes:
        ref: Names the shell in requests.
        robust: Whether the service repeats answers that got lost.
    """

    @classmethod
    async def make(cls, wsman: WSMan, shell: Shell) -> Self:
        """Ask for a shell; one whose making was not confirmed is deleted, if it is there."""
        try:
            reply = await wsman.request(messages.create(shell))
        except OutcomeUnknown:
            if shell.shell_id is not None:
                await let_go(wsman.request(messages.delete(ShellRef(shell.resource, shell.shell_id))))
            raise
        return cls(wsman, reply, shell)

    def __init__(self, wsman: WSMan, reply: Reply, shell: Shell) -> None:
        self.wsman, self.robust = wsman, reply.robust
        self.ref, self._idle_timeout = messages.shell_of(reply, shell)
        self._used = asyncio.get_running_loop().time()
        self._keeper = asyncio.create_task(self._keep_alive()) if self._idle_timeout else None
        self.closed = False

    def __str__(self) -> str:
        return f"{self.ref.shell_id}{' closed' if self.closed else ''}"

    async def request(self, request: Request) -> Reply:
        """Send a request to the shell.

        Raises:
            LocalProtocolError: The shell was closed; nothing was sent.
        """
        if self.closed:
            raise LocalProtocolError("the shell is closed: nothing was sent", hint=_CLOSED_HINT)
        loop = asyncio.get_running_loop()
        try:
            return await self.wsman.request(request, robust=self.robust)
        finally:
            self._used = loop.time()

    async def receive(self, streams: str, command_id: str | None = None) -> tuple[Received, bool]:
        """Return what there is to tell, which may be nothing, and whether an earlier part may have got lost."""
        for _ in range(_MOST_RECONNECTS):
            try:
                reply = await self.request(messages.receive(self.ref, streams, command_id))
                return messages.received(reply), reply.repeated and not self.robust
            except WSManFault as fault:
                if fault.code == OPERATION_TIMED_OUT:
                    return _NOTHING, False
                if fault.code not in SHELL_DISCONNECTED:
                    raise
            await self.reconnect(command_id)
        raise RemoteProtocolError("expected a shell that is connected, got again and again that it is not")

    async def reconnect(self, command_id: str | None = None) -> None:
        """Take up the shell, and one of its commands, after the service has noticed that the network was lost."""
        await self.request(messages.reconnect(self.ref))
        if command_id is not None:
            await self.request(messages.reconnect(self.ref, command_id))

    async def aclose(self) -> None:
        """End the shell with all its commands. A shell that is gone, or out of reach, is no error."""
        if self.closed:
            return
        self.closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})  # a caller that is cancelled meanwhile is not told the keeper's end
        await let_go(self.wsman.request(messages.delete(self.ref)))

    async def probe(self) -> None:
        """Send the request that keeps the shell alive."""
        await self.request(messages.get(self.ref))

    async def _keep_alive(self) -> None:
        assert self._idle_timeout
        pause, loop = max(_LEAST_PAUSE, self._idle_timeout / 3), asyncio.get_running_loop()
        with contextlib.suppress(CredSSPError, OSError):  # the next request tells what is wrong
            while True:
                await asyncio.sleep(max(0.0, self._used + pause - loop.time()))
                if loop.time() >= self._used + pause:
                    await self.probe()


def payload_size(wsman: WSMan, shell: ShellRef) -> int:
    """Return the bytes of input that fit into an envelope, in base64."""
    empty = messages.send(shell, "stdin", b"", new_id(), end=True)
    size = len(empty.encode(wsman.session, new_id(), new_id(), 3600))
    return max(3, (wsman.session.max_envelope_size - size) // 4 * 3)


async def let_go(answer: Awaitable[object]) -> None:
    """Wait for the answer to a request that ends something, but not for long.

    It is no error if that has ended already, or if the service is out of reach: it then ends it by its idle time-out.
    """
    try:
        async with asyncio.timeout(_CLOSING):
            await answer
    except WSManFault as fault:
        if fault.code != UNEXPECTED_SELECTORS:
            raise
    except OSError as error:
        _logger.debug("closing: the service is out of reach: %s", type(error).__name__)


class CommandShell:
    """A shell for commands of cmd.exe. Use it as `async with await CommandShell.open(wsman) as shell:`."""

    def __init__(self, shell: OpenShell, encoding: str, *, own_ids: bool) -> None:
        self._shell, self._encoding, self._own_ids = shell, encoding, own_ids

    def __repr__(self) -> str:
        return f"<CommandShell {self._shell}>"

    @classmethod
    async def open(  # noqa: PLR0913
        cls,
        wsman: WSMan,
        *,
        codepage: int = _UTF_8,
        profile: bool = True,
        environment: Mapping[str, str] | None = None,
        working_directory: str | None = None,
        idle_timeout: float | None = None,
    ) -> Self:
        """Make a shell.

        Args:
            wsman: The service.
            codepage: The code page of commands' output; 65001 is UTF-8.
            profile: Whether the user's profile is loaded.
            environment: Variables of commands.
            working_directory: The directory of commands; None for the user's.
            idle_timeout: Seconds without a request after which the service ends the shell; None for its own choice.

        Raises:
            LookupError: Python has no such code page.
            CredSSPError: The service refuses.
            OSError: The service cannot be reached.
        """
        encoding = codecs.lookup("utf-8" if codepage == _UTF_8 else f"cp{codepage}").name
        own_ids = (await wsman.identify()).stack >= _OWN_IDS
        shell = Shell(
            shell_id=new_id() if own_ids else None,
            options=(
                Option("WINRS_NOPROFILE", "FALSE" if profile else "TRUE"),
                Option("WINRS_CODEPAGE", str(codepage)),
            ),
            environment=environment or {},
            working_directory=working_directory,
            idle_timeout=idle_timeout,
        )
        return cls(await OpenShell.make(wsman, shell), encoding, own_ids=own_ids)

    async def start(
        self, command: str, *arguments: str, console_stdin: bool = False, skip_cmd_shell: bool = False
    ) -> "Command":
        """Start a command.

        Args:
            command: The command line, or the program if there are arguments.
            arguments: What follows on the command line, with a space in front of each; nothing is quoted.
            console_stdin: Whether the command's input is a console rather than a pipe.
            skip_cmd_shell: Whether the program is started without cmd.exe in between; services since Windows Server
                2012 R2 pay no attention to it.

        Raises:
            TypeError: A word is no text; nothing was sent.
            LocalProtocolError: The shell was closed; nothing was sent.
            OutcomeUnknown: The connection was lost: whether the command runs is unknown.
            CredSSPError: The service refuses.
        """
        _expect_words(command, *arguments)
        command_id = new_id() if self._own_ids else None
        options = (
            Option("WINRS_CONSOLEMODE_STDIN", "TRUE" if console_stdin else "FALSE"),
            Option("WINRS_SKIP_CMD_SHELL", "TRUE" if skip_cmd_shell else "FALSE"),
        )
        request = messages.command(self._shell.ref, command, arguments, command_id=command_id, options=options)
        try:
            reply = await self._shell.request(request)
        except OutcomeUnknown as error:
            if command_id is None:
                raise
            # If the command runs, it has our identifier: the first Receive shows it.
            return Command(self._shell, command_id, self._encoding, doubt=error)
        return Command(self._shell, messages.command_id_of(reply), self._encoding)

    async def run(self, command: str, *arguments: str, stdin: bytes = b"") -> Completed:
        """Run a command to its end, and return what it wrote. Nothing is quoted; see `start()`."""
        running = await self.start(command, *arguments)
        try:
            if stdin:
                await running.send(stdin, end=True)
            written: dict[str, list[str]] = {"stdout": [], "stderr": []}
            async for output in running:
                written.setdefault(output.stream, []).append(output.text)
            texts = {name: "".join(texts) for name, texts in written.items()}
            return Completed(running.exit_code, texts["stdout"], texts["stderr"], running.may_lack_output)
        finally:
            await running.aclose()

    async def aclose(self) -> None:
        """End the shell with all its commands."""
        await self._shell.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _expect_words(*words: object) -> None:
    for word in words:
        if not isinstance(word, str):
            raise TypeError(
                "command: expected the command line as a str, or the words of it one by one, such as "
                f'run("ipconfig", "/all") or run(*words), got {type(word).__name__}'
            )


class Command:
    """A command that runs. Read its output by `async for`, once, and then let go of it by `aclose()`.

    Attributes:
        command_id: Its identifier.
        done: Whether it has ended, and all its output has come.
        exit_code: Its exit status, when it has ended; -1 before, and where the service gave none, which is an error.
        may_lack_output: Whether output got lost with a connection, since the service does not repeat its answers.
    """

    def __init__(
        self, shell: OpenShell, command_id: str, encoding: str, *, doubt: OutcomeUnknown | None = None
    ) -> None:
        self._shell, self.command_id, self._doubt = shell, command_id, doubt
        self._decoders = {name: codecs.getincrementaldecoder(encoding)("replace") for name in ("stdout", "stderr")}
        self.exit_code = -1
        self.done = False
        self.may_lack_output = False
        self._closed = False

    def __repr__(self) -> str:
        return f"<Command {self.command_id} {f'ended with {self.exit_code}' if self.done else 'running'}>"

    async def __aiter__(self) -> AsyncIterator[Output]:
        if self.done:
            return
        received = _NOTHING
        while not self.done:
            received = await self._receive()
            self.done = received.done
            for stream, data in received.output:
                yield Output(stream, data, self._decoded(stream, data))
        for stream in self._decoders:
            if rest := self._decoded(stream, b"", final=True):
                yield Output(stream, b"", rest)
        if received.exit_code is None:
            raise RemoteProtocolError(
                "expected the exit status of the command with its end, got none",
                hint="the command has ended, and nobody knows whether it did what it was to do",
            )
        self.exit_code = received.exit_code

    async def send(self, data: bytes, *, end: bool = False) -> None:
        """Give input to the command.

        Args:
            data: The bytes, as many as there are.
            end: Whether this is all input.

        Raises:
            OutcomeUnknown: The connection was lost: whether the command got the input is unknown.
            CredSSPError: The service refuses, as it does after the command's end.
        """
        size = payload_size(self._shell.wsman, self._shell.ref)
        for start in range(0, len(data) or 1, size):
            last = end and start + size >= len(data)
            part = data[start : start + size]
            await self._shell.request(messages.send(self._shell.ref, "stdin", part, self.command_id, end=last))

    async def interrupt(self) -> None:
        """Press Ctrl-C at the command."""
        await self._shell.request(messages.signal(self._shell.ref, messages.CTRL_C, self.command_id))

    async def aclose(self) -> None:
        """Let go of the command; one that still runs is ended."""
        if not self._closed and not self._shell.closed:
            self._closed = True
            await let_go(self._shell.request(messages.signal(self._shell.ref, messages.TERMINATE, self.command_id)))

    async def _receive(self) -> Received:
        try:
            received, hole = await self._shell.receive("stdout stderr", self.command_id)
        except WSManFault as fault:
            if self._doubt is not None and fault.code == UNEXPECTED_SELECTORS:
                raise self._doubt from fault
            raise
        self._doubt = None
        self.may_lack_output = self.may_lack_output or hole
        return received

    def _decoded(self, stream: str, data: bytes, *, final: bool = False) -> str:
        decoder = self._decoders.get(stream)
        return decoder.decode(data, final) if decoder is not None else data.decode("utf-8", "replace")
