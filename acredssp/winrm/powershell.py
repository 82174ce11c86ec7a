"""PowerShell over WS-Management: a pool of runspaces, pipelines in it, and what they write. It needs `psrpcore`.

`psrpcore` knows the PowerShell Remoting Protocol ([MS-PSRP]) and does no I/O; this module carries its fragments in
requests to a shell. Text is what PowerShell's own `Out-String` makes of the objects.
"""

import asyncio
import base64
import dataclasses
import uuid
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Final, Self, cast

from acredssp.errors import LimitExceeded, RemoteProtocolError
from acredssp.winrm import messages
from acredssp.winrm.client import WSMan
from acredssp.winrm.errors import UNEXPECTED_SELECTORS, OutcomeUnknown, WSManFault
from acredssp.winrm.messages import POWERSHELL, Received, Shell, ShellRef
from acredssp.winrm.shell import Completed, OpenShell, let_go, payload_size
from acredssp.winrm.soap import Option

try:
    import psrpcore
    from psrpcore.types import (
        ErrorCategory,
        ErrorCategoryInfo,
        ErrorRecord,
        HostInfo,
        HostMethodIdentifier,
        NETException,
        PSInvocationState,
        RunspacePoolState,
    )
except ImportError as error:
    raise ImportError(
        "acredssp.winrm.powershell needs psrpcore: pip install 'acredssp[winrm]'", name="psrpcore"
    ) from error

__all__ = ["Pipeline", "Record", "RunspacePool"]

_PROTOCOL: Final = "2.3"
_ENDPOINTS: Final = POWERSHELL.rpartition("/")[0]
_CREATION: Final = "http://schemas.microsoft.com/powershell"
_LAST_EXIT_CODE: Final = "$global:LASTEXITCODE"
_NATIVE: Final = "NativeCommandError"
"""How the names of errors begin that are only lines of a program's standard error."""
_MOST_WITHOUT_EVENT: Final = 200 << 20
"""Bytes of one object at most, as PowerShell's own client has it by default."""
_ENDED: Final = (PSInvocationState.Completed, PSInvocationState.Failed, PSInvocationState.Stopped)
_STREAMS: Final = {
    psrpcore.PipelineOutputEvent: "output",
    psrpcore.ErrorRecordEvent: "error",
    psrpcore.WarningRecordEvent: "warning",
    psrpcore.VerboseRecordEvent: "verbose",
    psrpcore.DebugRecordEvent: "debug",
    psrpcore.InformationRecordEvent: "information",
    psrpcore.ProgressRecordEvent: "progress",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """What a pipeline has written.

    Attributes:
        stream: `output`, `error`, `warning`, `verbose`, `debug`, `information` or `progress`.
        value: The object, as `psrpcore` reads it.
        text: A line or more of text, without a line break at its end.
    """

    stream: str
    value: Any
    text: str


class RunspacePool:
    """A pool of one runspace: what a pipeline sets there, the next one finds.

    Use it as `async with await RunspacePool.open(wsman) as pool:`.
    """

    def __init__(self, shell: OpenShell, pool: psrpcore.ClientRunspacePool) -> None:
        self._shell, self._pool = shell, pool
        self._pipelines: dict[uuid.UUID | None, Pipeline] = {}
        self._sending = asyncio.Lock()
        self._without_event = 0

    def __repr__(self) -> str:
        return f"<RunspacePool {self._shell}>"

    @classmethod
    async def open(
        cls, wsman: WSMan, *, configuration: str = "Microsoft.PowerShell", idle_timeout: float | None = None
    ) -> Self:
        """Make a pool.

        Args:
            wsman: The service.
            configuration: The name of the endpoint (`Get-PSSessionConfiguration`).
            idle_timeout: Seconds without a request after which the service ends the pool; None for its own choice.

        Raises:
            CredSSPError: The service refuses.
            OSError: The service cannot be reached.
        """
        # The host is said to be there, so that `exit N` in a script reaches it, but to have no terminal.
        pool = psrpcore.ClientRunspacePool(host=HostInfo(IsHostNull=False))
        pool.open()
        resource, shell_id = f"{_ENDPOINTS}/{configuration}", _name(pool.runspace_pool_id)
        first = pool.data_to_send(_room(payload_size(wsman, ShellRef(resource, shell_id))))
        assert first is not None
        shell = Shell(
            resource=resource,
            shell_id=shell_id,
            input_streams="stdin pr",
            output_streams="stdout",
            options=(Option("protocolversion", _PROTOCOL, must_comply=True),),
            idle_timeout=idle_timeout,
            content=f'<creationXml xmlns="{_CREATION}">{base64.b64encode(first.data).decode()}</creationXml>',
        )
        opened = cls(await OpenShell.make(wsman, shell), pool)
        try:
            await opened._until_opened()
        except BaseException:
            await opened.aclose()
            raise
        return opened

    async def start(self, script: str, *, lines: Iterable[str] | None = None, as_text: bool = True) -> "Pipeline":
        """Start a script.

        Args:
            script: The script.
            lines: What `$input` is in the script; None for nothing.
            as_text: Whether the output is lines of text, as a terminal shows them; otherwise it is objects.

        Raises:
            TypeError: The script is no text; nothing was sent.
            LocalProtocolError: The pool was closed; nothing was sent.
            OutcomeUnknown: The connection was lost: whether the script runs is unknown.
            CredSSPError: The service refuses.
        """
        if not isinstance(script, str):
            raise TypeError(f"script: expected the text of one script as a str, got {type(script).__name__}")
        shell = psrpcore.ClientPowerShell(self._pool, no_input=lines is None)
        shell.add_script(script)
        if as_text:
            shell.add_command("Out-String").add_parameter("Stream", value=True)
        pipeline = Pipeline(self, shell)
        self._pipelines[shell.pipeline_id] = pipeline
        try:
            await self._start(pipeline)
            if lines is not None:
                for line in lines:
                    shell.send(line)
                shell.send_eof()
                await self.flush()
        except BaseException as error:
            self.forget(pipeline)
            raise pipeline.doubted(error) from error
        return pipeline

    async def run(self, script: str, *, lines: Iterable[str] | None = None) -> Completed:
        """Run a script to its end, and return what it wrote: output as stdout, and all the rest as stderr."""
        pipeline = await self.start(script, lines=lines)
        try:
            out: list[str] = []
            err: list[str] = []
            async for record in pipeline:
                (out if record.stream == "output" else err).append(f"{record.text}\n")
            exit_code = await pipeline.exit_code()
            return Completed(exit_code, "".join(out), "".join(err), pipeline.may_lack_output)
        finally:
            await pipeline.aclose()

    async def aclose(self) -> None:
        """End the pool with all its pipelines."""
        await self._shell.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- for pipelines ---

    async def _receive(self, command_id: str) -> tuple[Received, bool]:
        """Ask the service for the output of a pipeline, and give each event to the pipeline that the event names."""
        received, hole = await self._shell.receive("stdout", command_id)
        self._take(received)
        await self.flush()  # answers to what a host is asked
        return received, hole

    async def signal(self, code: str, command_id: str) -> None:
        """Stop a pipeline, or let go of it."""
        if not self._shell.closed:
            await let_go(self._shell.request(messages.signal(self._shell.ref, code, command_id)))

    async def flush(self) -> None:
        """Send what `psrpcore` has to send."""
        async with self._sending:
            await self._flush()

    def forget(self, pipeline: "Pipeline") -> None:
        """Let go of a pipeline that has ended."""
        self._pipelines.pop(pipeline.shell.pipeline_id, None)
        self._pool.pipeline_table.pop(pipeline.shell.pipeline_id, None)

    # --- inside ---

    async def _start(self, pipeline: "Pipeline") -> None:
        async with self._sending:
            await self._flush()  # what is sent next is this script alone
            pipeline.shell.start()
            first = self._pool.data_to_send(self._size())
            assert first is not None
            words = (base64.b64encode(first.data).decode(),)
            request = messages.command(self._shell.ref, "", words, command_id=pipeline.command_id)
            try:
                await self._shell.request(request)
            except OutcomeUnknown as error:
                pipeline.doubt = error  # if the script runs, the service knows it by our identifier
            await self._flush()

    async def _until_opened(self) -> None:
        await self.flush()
        while self._pool.state not in (RunspacePoolState.Opened, RunspacePoolState.Broken, RunspacePoolState.Closed):
            received, _ = await self._shell.receive("stdout")
            self._take(received)
        await self.flush()

    async def _flush(self) -> None:
        while payload := self._pool.data_to_send(self._size()):
            pipeline = self._pipelines.get(payload.pipeline_id)
            if pipeline is None and payload.pipeline_id is not None:
                continue  # of a pipeline that was let go of
            stream = "pr" if payload.stream_type is psrpcore.StreamType.prompt_response else "stdin"
            command_id = pipeline.command_id if pipeline is not None else None
            await self._shell.request(messages.send(self._shell.ref, stream, payload.data, command_id))

    def _size(self) -> int:
        return _room(payload_size(self._shell.wsman, self._shell.ref))

    def _take(self, received: Received) -> None:
        for _, data in received.output:
            self._without_event += len(data)
            self._pool.receive_data(psrpcore.PSRPPayload(data, psrpcore.StreamType.default, None))
        while event := self._next_event():
            self._without_event = 0
            try:
                self._dispatch(event)
            except (AttributeError, LookupError, TypeError, ValueError) as error:  # psrpcore checks no record's type
                raise _no_messages(error) from error
        if self._without_event > _MOST_WITHOUT_EVENT:
            raise LimitExceeded(f"expected an object of at most {_MOST_WITHOUT_EVENT >> 20} MiB, got a larger one")

    def _next_event(self) -> "psrpcore.PSRPEvent[Any, Any] | None":
        try:
            return self._pool.next_event()
        except Exception as error:  # psrpcore lets out whatever fails while it reads
            raise _no_messages(error) from error

    def _dispatch(self, event: "psrpcore.PSRPEvent[Any, Any]") -> None:
        if isinstance(event, psrpcore.RunspacePoolStateEvent) and event.state is RunspacePoolState.Broken:
            raise RemoteProtocolError(f"the service broke the pool of runspaces: {event.reason}")
        if isinstance(event, psrpcore.PipelineHostCallEvent | psrpcore.RunspacePoolHostCallEvent):
            self._called(event)
        elif (pipeline := self._pipelines.get(event.pipeline_id)) is not None:
            pipeline.take(event)

    def _called(self, event: psrpcore.PipelineHostCallEvent | psrpcore.RunspacePoolHostCallEvent) -> None:
        """Take a call of the host, which is the terminal; there is none here, but an exit status is taken."""
        if event.method_identifier is HostMethodIdentifier.SetShouldExit:
            for pipeline in self._pipelines.values():
                if event.pipeline_id in {None, pipeline.shell.pipeline_id}:
                    pipeline.should_exit = int(event.method_parameters[0]) & 0xFFFFFFFF
        elif not event.method_identifier.is_void():
            refusal = ErrorRecord(
                Exception=NETException(Message="there is no terminal to ask at"),
                CategoryInfo=ErrorCategoryInfo(Category=ErrorCategory.NotImplemented),
                FullyQualifiedErrorId="NoTerminal",
            )
            self._pool.host_response(event.ci, error_record=refusal)


class Pipeline:
    """A script that runs. Read what it writes by `async for`, once, and then let go of it by `aclose()`.

    Attributes:
        command_id: Its identifier.
        had_errors: Whether there was an error that did not end it.
        shell: The pipeline as `psrpcore` knows it.
        should_exit: The N of `exit N`; None where the script has not said it.
        doubt: Why it is not known whether the script was started; None where that is known.
        may_lack_output: Whether output got lost with a connection, since the service does not repeat its answers.
    """

    def __init__(self, pool: RunspacePool, shell: psrpcore.ClientPowerShell) -> None:
        self._pool, self.shell = pool, shell
        self.command_id = _name(shell.pipeline_id)
        self.had_errors = self.may_lack_output = self._closed = False
        self.should_exit: int | None = None
        self.doubt: OutcomeUnknown | None = None
        self._records: list[Record] = []

    def __repr__(self) -> str:
        return f"<Pipeline {self.command_id} {self.state}>"

    @property
    def state(self) -> str:
        """How the script ended, or `Running`, as `psrpcore.types.PSInvocationState` names it."""
        return str(self.shell.state.name)

    async def __aiter__(self) -> AsyncIterator[Record]:
        while self.shell.state not in _ENDED:
            await self._receive()
            records, self._records = self._records, []
            for record in records:
                yield record

    async def exit_code(self) -> int:
        """Return the exit status of a script that has ended.

        It is the N of `exit N`; otherwise 1 if an error ended the script; otherwise the status of the last program that
        the script ran, if it is not 0; otherwise 1 if there was an error, and 0 if not.
        """
        if self.should_exit is not None:
            return self.should_exit
        if self.shell.state is not PSInvocationState.Completed:
            return 1
        return await self._last_exit_code() or int(self.had_errors)

    async def interrupt(self) -> None:
        """Stop the script, as Ctrl-C does; `async for` then ends with the state `Stopped`."""
        if self.shell.state not in _ENDED:
            await self._pool.signal(messages.POWERSHELL_STOP, self.command_id)

    async def aclose(self) -> None:
        """End the script if the script still runs, and let the service forget the script."""
        if not self._closed:
            self._closed = True
            self._pool.forget(self)
            await self._pool.signal(messages.TERMINATE, self.command_id)

    def take(self, event: "psrpcore.PSRPEvent[Any, Any]") -> None:
        """Take what `psrpcore` read."""
        if isinstance(event, psrpcore.PipelineStateEvent):
            if event.reason is not None and event.state is PSInvocationState.Failed:
                self._records.append(Record("error", event.reason, _error_text(event.reason)))
            return
        stream = _STREAMS.get(type(event))
        if stream is None:
            return
        value = cast("Any", event).data if stream == "output" else cast("Any", event).record
        native = stream == "error" and str(value.FullyQualifiedErrorId or "").startswith(_NATIVE)
        self.had_errors = self.had_errors or (stream == "error" and not native)
        self._records.append(Record(stream, value, _error_text(value) if stream == "error" else _text(stream, value)))

    def doubted(self, error: BaseException) -> BaseException:
        """Return the error to raise: that the start got lost, if the service says now that it knows no such script."""
        unknown = isinstance(error, WSManFault) and error.code == UNEXPECTED_SELECTORS
        return self.doubt if unknown and self.doubt is not None else error

    async def _receive(self) -> None:
        try:
            received, hole = await self._pool._receive(self.command_id)  # noqa: SLF001 - of the same module
        except WSManFault as fault:
            raise self.doubted(fault) from fault
        self.doubt = None
        self.may_lack_output = self.may_lack_output or hole
        if received.done and self.shell.state not in _ENDED:
            raise RemoteProtocolError("expected the state in which the script ended, got only that it ended")

    async def _last_exit_code(self) -> int:
        pipeline = await self._pool.start(_LAST_EXIT_CODE, as_text=False)
        try:
            values = [record.value async for record in pipeline if record.stream == "output"]
        finally:
            await pipeline.aclose()
        return int(values[0]) & 0xFFFFFFFF if values and isinstance(values[0], int) else 0


def _no_messages(error: Exception) -> RemoteProtocolError:
    return RemoteProtocolError(f"expected messages of psrp, got others: {type(error).__name__}")


def _name(identifier: uuid.UUID) -> str:
    return str(identifier).upper()


def _room(size: int) -> int:
    return max(64, size)


def _text(stream: str, value: Any) -> str:
    match stream:
        case "output":
            return "" if value is None else str(value)
        case "information":
            return str(value.MessageData)
        case "progress":
            return f"{value.Activity}: {value.StatusDescription}"
        case _:
            return f"{stream.upper()}: {value.Message}"


def _error_text(record: ErrorRecord) -> str:
    """What PowerShell shows of an error."""
    name = str(record.FullyQualifiedErrorId or "")
    if name.startswith(_NATIVE):
        return str(record)
    kind = f"\n    + CategoryInfo          : {record.CategoryInfo}" if record.CategoryInfo is not None else ""
    return f"{record}{kind}" + (f"\n    + FullyQualifiedErrorId : {name}" if name else "")
