"""The toy service with PowerShell: `psrpcore`'s server side is its runspaces, and scripts are functions in Python."""

import asyncio
import base64
import uuid

import psrpcore
from psrpcore.types import ErrorCategory, ErrorCategoryInfo, NETException
from support.wsman_toy import CMD, NS, Process, Toy, no_such, text

STOP = "powershell/signal/crtl_c"


class Script:
    """A script that runs, as its function sees it."""

    def __init__(self, toy, shell, pipeline, process):
        self.toy, self.shell, self.pipeline, self.process = toy, shell, pipeline, process
        self.lines = asyncio.Queue()
        self.answers = asyncio.Queue()

    def __getattr__(self, name):
        """`write_output()` and the like, sent at once."""

        def call(*args, **kwargs):
            result = getattr(self.pipeline, name)(*args, **kwargs)
            self.toy.flush(self.shell)
            return result

        return call

    def error(self, message, name="Toy", **kwargs):
        self.write_error(
            NETException(Message=message),
            category_info=ErrorCategoryInfo(Category=ErrorCategory.InvalidOperation, Reason="ToyException"),
            fully_qualified_error_id=name,
            **kwargs,
        )

    async def input(self):
        """The lines of `$input`, to their end."""
        lines = []
        while (line := await self.lines.get()) is not None:
            lines.append(line)
        return lines


class PowerShellToy(Toy):
    """`scripts` are async functions by their text. `last_exit_code` is what $LASTEXITCODE is."""

    def __init__(self, scripts=None, **options):
        super().__init__(**options)
        self.scripts = {"$global:LASTEXITCODE": self.tell_last_exit_code, **(scripts or {})}
        self.last_exit_code = None
        self.running = {}

    async def tell_last_exit_code(self, script):
        script.write_output(self.last_exit_code)

    async def created(self, identifier, made, shell):
        if made.resource == CMD:
            return
        assert made.options["protocolversion"] == "2.3"
        made.pool, made.process = psrpcore.ServerRunspacePool(), Process("", [], {})
        await self.feed(made, base64.b64decode(text(shell, "ps:creationXml")))

    async def feed(self, shell, data):
        shell.pool.receive_data(psrpcore.PSRPPayload(data, psrpcore.StreamType.default, None))
        while event := shell.pool.next_event():
            script = self.running.get(event.pipeline_id)
            if isinstance(event, psrpcore.CreatePipelineEvent):
                self.begin(script, event.pipeline.commands)
            elif isinstance(event, psrpcore.PipelineInputEvent):
                script.lines.put_nowait(event.data)
            elif isinstance(event, psrpcore.EndOfPipelineInputEvent):
                script.lines.put_nowait(None)
            elif isinstance(event, psrpcore.PipelineHostResponseEvent):
                script.answers.put_nowait(event)
        self.flush(shell)

    def begin(self, script, commands):
        words = commands[0].command_text
        self.started.append(words)
        script.commands = commands
        script.process.task = asyncio.ensure_future(self.run_script(script, self.scripts[words]))

    async def run_script(self, script, function):
        script.start()
        await function(script)
        if script.pipeline.state.name == "Running":
            script.complete()
        script.process.exit_code = 0
        script.process.changed.set()

    def flush(self, shell):
        """Hand what the pool has to say to the streams of its pipelines."""
        while payload := shell.pool.data_to_send(30_000):
            process = shell.process if payload.pipeline_id is None else self.running[payload.pipeline_id].process
            process.write("stdout", payload.data)

    def program_of(self, shell, process, identifier):
        if shell.resource == CMD:
            return super().program_of(shell, process, identifier)
        self.started.pop()
        pipeline = psrpcore.ServerPipeline(shell.pool, uuid.UUID(identifier))
        self.running[pipeline.pipeline_id] = Script(self, shell, pipeline, process)

        async def take_first(process):
            await self.feed(shell, base64.b64decode(process.arguments[0]))

        return take_first

    async def run(self, process, program):
        if process.line:
            await super().run(process, program)
        else:
            process.task = None
            await program(process)

    async def on_command(self, root):
        """A fragment is taken before the service answers."""
        answer = await super().on_command(root)
        for shell in self.shells.values():
            for process in shell.commands.values():
                if process.task is not None and shell.pool is not None and not process.task.done():
                    await asyncio.sleep(0)
        return answer

    def taken(self, output, limit):
        """PowerShell's fragments are never cut."""
        if not any(shell.pool for shell in self.shells.values()):
            return super().taken(output, limit)
        count = (limit - 4_000) // 4 * 3 // 31_000
        parts, output[:] = output[:count], output[count:]
        return parts

    async def receive_of_shell(self, root, shell):
        if shell.pool is None:
            return await super().receive_of_shell(root, shell)
        return await self.receive_of(root, shell.process, None)

    async def on_send(self, root):
        stream = root.find("s:Body/rsp:Send/rsp:Stream", NS)
        shell = self.shell(root)
        if shell.pool is None:
            return await super().on_send(root)
        if stream.get("CommandId") is not None and stream.get("CommandId") not in shell.commands:
            raise no_such("command identifier")
        assert stream.get("Name") in {"stdin", "pr"}
        await self.feed(shell, base64.b64decode(stream.text or ""))
        return "<rsp:SendResponse/>"

    async def other_signal(self, process, code):
        if code != STOP:
            await super().other_signal(process, code)
            return
        script = next(each for each in self.running.values() if each.process is process)
        script.process.task.cancel()
        script.stop()
        process.exit_code = 0
        process.changed.set()
