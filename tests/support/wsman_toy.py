"""A WS-Management service for remote shells, after [MS-WSMV] 3.1 and what Windows was recorded to answer.

`Toy.post` takes an envelope and returns the HTTP status and the envelope of the answer, as the service behind an HTTP
server does. Commands are programs in Python, by the first word of the command line; others run in /bin/sh. `Toy.lose`
loses connections at chosen moments.
"""

import asyncio
import base64
import dataclasses
import re
import uuid
from collections.abc import Awaitable, Callable
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

NS = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "p": "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd",
    "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer",
    "rsp": "http://schemas.microsoft.com/wbem/wsman/1/windows/shell",
    "wsmid": "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd",
    "ps": "http://schemas.microsoft.com/powershell",
}
DECLARED = " ".join(f'xmlns:{name}="{NS[name]}"' for name in ("s", "a", "x", "w", "rsp", "p"))
ANONYMOUS = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
CMD = f"{NS['rsp']}/cmd"
MUST_UNDERSTAND = f"{{{NS['s']}}}mustUnderstand"

TIMED_OUT = 2150858793
UNEXPECTED_SELECTORS = 2150858843
SCHEMA = 2150858817
DISCONNECTED = 2150859204


class Fault(Exception):
    """A fault to answer, with Windows' words."""

    def __init__(self, code, subcode, text, detail="", whose="s:Sender"):
        super().__init__(text)
        self.code, self.subcode, self.text, self.detail, self.whose = code, subcode, text, detail, whose


def timed_out():
    return Fault(
        TIMED_OUT,
        "w:TimedOut",
        "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.  ",
        whose="s:Receiver",
    )


def no_such(what):
    return Fault(
        UNEXPECTED_SELECTORS,
        "w:InvalidSelectors",
        f"The Windows Remote Shell received a request to perform an operation on a {what} that does not exist. Either "
        "the command has completed execution or the client specified an invalid command identifier. ",
        "UnexpectedSelectors",
    )


def schema(why):
    return Fault(SCHEMA, "w:SchemaValidationError", f"The SOAP XML in the message does not match the schema: {why}. ")


@dataclasses.dataclass
class Process:
    """A command that runs, as its program sees it."""

    line: str
    arguments: list[str]
    options: dict[str, str]
    output: list[tuple[str, bytes]] = dataclasses.field(default_factory=list)
    stdin: asyncio.Queue = dataclasses.field(default_factory=asyncio.Queue)
    interrupted: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    changed: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    exit_code: int | None = None
    connected: bool = True
    gone: bool = False
    task: asyncio.Task | None = None

    def write(self, stream, data):
        self.output.append((stream, data))
        self.changed.set()

    async def read(self):
        """All input up to its end."""
        data = b""
        while (part := await self.stdin.get()) is not None:
            data += part
        return data


Program = Callable[[Process], Awaitable[int]]


async def local(process):
    """What /bin/sh makes of the command line."""
    line = " ".join([process.line, *process.arguments])
    child = await asyncio.create_subprocess_shell(
        line, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )

    async def copy(stream, reader):
        while data := await reader.read(1000):
            process.write(stream, data)

    await asyncio.gather(copy("stdout", child.stdout), copy("stderr", child.stderr))
    return await child.wait()


async def greet(process):
    process.write("stdout", b"hello\r\n")
    process.write("stderr", b"oh\r\n")
    return 3


async def upper(process):
    process.write("stdout", (await process.read()).upper())
    return 0


@dataclasses.dataclass
class ToyShell:
    """A shell, and its commands by identifier."""

    resource: str
    options: dict[str, str]
    environment: dict[str, str]
    details: dict[str, str]
    robust: bool = True
    connected: bool = True
    commands: dict[str, Process] = dataclasses.field(default_factory=dict)
    pool: object = None


@dataclasses.dataclass
class Loss:
    """A connection to lose: during the next request with this action, before, while or after it is served."""

    action: str
    when: str


class Toy:
    """The service.

    `stack` is the version of WinRM's stack: below 3 it knows neither identifiers of clients nor operations.
    """

    def __init__(self, programs=None, *, stack=3, idle_timeout="PT7200.000S", robust=True):
        self.programs, self.stack, self.idle_timeout = dict(programs or {}), stack, idle_timeout
        self.robust = robust and stack >= 3
        self.shells: dict[str, ToyShell] = {}
        self.requests: list[str] = []
        self.started: list[str] = []
        self.losses: list[Loss] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.seen = asyncio.Condition()
        self.fault_next: dict[str, Fault] = {}

    def lose(self, action, when):
        self.losses.append(Loss(action, when))

    async def until(self, action, times):
        """Wait until a request has come this often."""
        async with self.seen:
            await self.seen.wait_for(lambda: self.requests.count(action) >= times)

    async def aclose(self):
        for shell in self.shells.values():
            for process in shell.commands.values():
                await stop(process)

    async def post(self, body):
        root = ET.fromstring(body)  # noqa: S314 - from tests alone
        assert root.tag == f"{{{NS['s']}}}Envelope"
        if root.find("s:Body/wsmid:Identify", NS) is not None:
            return 200, self.identity()
        action = (text(root, "s:Header/a:Action") or "").rpartition("/")[2]
        async with self.seen:
            self.requests.append(action)
            self.seen.notify_all()
        loss = next((loss for loss in self.losses if loss.action == action), None)
        if loss is not None:
            self.losses.remove(loss)
            if loss.when == "before":
                raise ConnectionResetError("lost before the request")
        if loss is not None and loss.when == "while":
            serving = asyncio.ensure_future(self.serve(action, root))
            await asyncio.sleep(0)
            serving.cancel()  # Windows cancels what nobody waits for
            raise ConnectionResetError("lost while the request was served")
        answer = await self.serve(action, root)
        if loss is not None:
            raise ConnectionResetError("lost before the answer")
        return answer

    async def serve(self, action, root):
        message_id = text(root, "s:Header/a:MessageID")
        try:
            operation, retransmitted = self.operation(root)
        except Fault as fault:
            return self.fault(message_id, fault)
        if operation in self.answers:
            if retransmitted:
                return self.answers[operation]
            return self.fault(message_id, Fault(None, "a:InvalidMessageInformationHeader", "The OperationID is used."))
        try:
            check_header(root)
            if action in self.fault_next:
                raise self.fault_next.pop(action)
            inside = await getattr(self, f"on_{action.lower()}", self.unknown)(root)
            header = f'<p:OperationID s:mustUnderstand="false">{operation}</p:OperationID>' if operation else ""
            answer = 200, envelope(f"{action_uri(root)}Response", message_id, inside, header)
        except Fault as fault:
            answer = self.fault(message_id, fault)
        if operation:
            self.answers[operation] = answer
        return answer

    async def unknown(self, root):
        raise Fault(2150858755, "a:ActionNotSupported", f"The action {action_uri(root)} is not supported. ")

    def operation(self, root):
        """The operation of a request, where this service pays attention to it, and whether it is sent again."""
        found = root.find("s:Header/p:OperationID", NS)
        again = found is not None and found.get(MUST_UNDERSTAND) == "true"
        if again and self.stack < 3:
            raise Fault(2150858754, "s:MustUnderstand", "The header OperationID is not understood. ")
        return (None, False) if found is None or not self.robust else (found.text, again)

    def identity(self):
        return (
            f'<s:Envelope xml:lang="en-US" xmlns:s="{NS["s"]}"><s:Header/><s:Body>'
            f'<wsmid:IdentifyResponse xmlns:wsmid="{NS["wsmid"]}">'
            f"<wsmid:ProtocolVersion>{NS['w']}</wsmid:ProtocolVersion>"
            "<wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor>"
            f"<wsmid:ProductVersion>OS: 10.0.20348 SP: 0.0 Stack: {self.stack}.0</wsmid:ProductVersion>"
            "</wsmid:IdentifyResponse></s:Body></s:Envelope>"
        ).encode()

    def fault(self, message_id, fault):
        number = f'<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="{fault.code}" '
        number += f'Machine="toy"><f:Message>{escape(fault.text)}</f:Message></f:WSManFault>'
        detail = f"<w:FaultDetail>{NS['w'].removesuffix('.xsd')}/faultDetail/{fault.detail}</w:FaultDetail>"
        inside = (
            f"<s:Fault><s:Code><s:Value>{fault.whose}</s:Value><s:Subcode><s:Value>{fault.subcode}</s:Value></s:Subcode>"
            f'</s:Code><s:Reason><s:Text xml:lang="en-US">{escape(fault.text)}</s:Text></s:Reason>'
            f"<s:Detail>{detail if fault.detail else ''}{number if fault.code is not None else ''}</s:Detail></s:Fault>"
        )
        return 500, envelope("http://schemas.dmtf.org/wbem/wsman/1/wsman/fault", message_id, inside)

    # --- shells ---

    def shell(self, root):
        identifier = text(root, "s:Header/w:SelectorSet/w:Selector[@Name='ShellId']")
        if identifier not in self.shells:
            raise no_such("shell")
        return self.shells[identifier]

    def command(self, root, element):
        shell = self.shell(root)
        identifier = element.get("CommandId")
        if identifier not in shell.commands:
            raise no_such("command identifier")
        if not shell.connected or not shell.commands[identifier].connected:
            raise Fault(DISCONNECTED, "w:InternalError", "The shell is disconnected. ")
        return shell.commands[identifier]

    async def on_create(self, root):
        shell = root.find("s:Body/rsp:Shell", NS)
        resource = text(root, "s:Header/w:ResourceURI")
        if shell is None:
            raise schema("no shell")
        chosen = shell.get("ShellId")
        if chosen and self.stack < 3 and resource == CMD:
            raise schema("an attribute that this version does not know")
        idle = text(shell, "rsp:IdleTimeOut") or self.idle_timeout
        if not re.fullmatch(r"PT[0-9.]+S", idle):
            raise schema("IdleTimeOut")
        identifier = chosen or new_id()
        made = ToyShell(
            resource,
            options_of(root),
            {each.get("Name"): each.text or "" for each in shell.iterfind("rsp:Environment/rsp:Variable", NS)},
            {each.tag.rpartition("}")[2]: each.text or "" for each in shell},
        )
        self.shells[identifier] = made
        await self.created(identifier, made, shell)
        return (
            f"<x:ResourceCreated><a:Address>http://toy:5985/wsman</a:Address><a:ReferenceParameters>"
            f"<w:ResourceURI>{resource}</w:ResourceURI><w:SelectorSet>"
            f'<w:Selector Name="ShellId">{identifier}</w:Selector></w:SelectorSet></a:ReferenceParameters>'
            f"</x:ResourceCreated>{self.state_of(identifier, made, idle)}"
        )

    async def created(self, identifier, made, shell):
        """For kinds of shells that begin to talk at once."""

    def state_of(self, identifier, shell, idle):
        return (
            f"<rsp:Shell><rsp:ShellId>{identifier}</rsp:ShellId><rsp:ResourceUri>{shell.resource}</rsp:ResourceUri>"
            f"<rsp:Owner>CONTOSO\\alice</rsp:Owner><rsp:ClientIP>192.0.2.1</rsp:ClientIP>"
            f"<rsp:IdleTimeOut>{idle}</rsp:IdleTimeOut>"
            f"<rsp:InputStreams>{shell.details.get('InputStreams', '')}</rsp:InputStreams>"
            f"<rsp:OutputStreams>{shell.details.get('OutputStreams', '')}</rsp:OutputStreams>"
            f"<rsp:State>{'Connected' if shell.connected else 'Disconnected'}</rsp:State>"
            "<rsp:ShellRunTime>P0DT0H0M0S</rsp:ShellRunTime><rsp:ShellInactivity>P0DT0H0M0S</rsp:ShellInactivity>"
            "</rsp:Shell>"
        )

    async def on_get(self, root):
        shell = self.shell(root)
        return self.state_of(text(root, "s:Header/w:SelectorSet/w:Selector"), shell, self.idle_timeout)

    async def on_delete(self, root):
        shell = self.shell(root)
        for process in shell.commands.values():
            await stop(process)
        self.shells = {name: each for name, each in self.shells.items() if each is not shell}
        return ""

    async def on_disconnect(self, root):
        shell = self.shell(root)
        shell.connected = False
        for process in shell.commands.values():
            process.connected = False
        return ""

    async def on_reconnect(self, root):
        shell, which = self.shell(root), root.find("s:Body/rsp:Reconnect", NS)
        shell.connected = True
        if which is not None:
            shell.commands[which.get("CommandId")].connected = True
        return ""

    # --- commands ---

    async def on_command(self, root):
        shell, line = self.shell(root), root.find("s:Body/rsp:CommandLine", NS)
        if line is None or line.find("rsp:Command", NS) is None:
            raise schema("no command")
        chosen = line.get("CommandId")
        if chosen and self.stack < 3 and shell.resource == CMD:
            raise schema("an attribute that this version does not know")
        if chosen in shell.commands:
            raise Fault(183, "w:AlreadyExists", "Cannot create a file when that file already exists. ")
        process = Process(
            text(line, "rsp:Command") or "",
            [each.text or "" for each in line.iterfind("rsp:Arguments", NS)],
            options_of(root),
        )
        identifier = chosen or new_id()
        shell.commands[identifier] = process
        self.started.append(" ".join([process.line, *process.arguments]).strip())
        program = self.program_of(shell, process, identifier)
        process.task = asyncio.ensure_future(self.run(process, program))
        return f"<rsp:CommandResponse><rsp:CommandId>{identifier}</rsp:CommandId></rsp:CommandResponse>"

    def program_of(self, shell, process, identifier):
        return self.programs.get(process.line.split(" ")[0], local)

    async def run(self, process, program):
        try:
            process.exit_code = await program(process)
        finally:
            process.changed.set()

    async def on_receive(self, root):
        desired = root.find("s:Body/rsp:Receive/rsp:DesiredStream", NS)
        if desired is None:
            raise schema("no stream")
        if desired.get("CommandId") is None:
            return await self.receive_of_shell(root, self.shell(root))
        return await self.receive_of(root, self.command(root, desired), desired.get("CommandId"))

    async def receive_of_shell(self, root, shell):
        raise Fault(87, "w:InvalidParameter", "The parameter is incorrect. ")

    async def receive_of(self, root, process, identifier):
        try:
            async with asyncio.timeout(seconds_of(root)):
                while not process.output and process.exit_code is None and not process.gone:
                    process.changed.clear()
                    await process.changed.wait()
        except TimeoutError:
            raise timed_out() from None
        if process.gone:
            raise Fault(
                995, "w:InternalError", "The I/O operation has been aborted because of an application request. "
            )
        of = f' CommandId="{identifier}"' if identifier else ""
        parts = [
            f'<rsp:Stream Name="{stream}"{of}>{base64.b64encode(data).decode()}</rsp:Stream>'
            for stream, data in self.taken(process.output, int(text(root, "s:Header/w:MaxEnvelopeSize")))
        ]
        state = f"{NS['rsp']}/CommandState/"
        if process.output or process.exit_code is None:
            parts.append(f'<rsp:CommandState{of} State="{state}Running"/>' if identifier else "")
        else:
            parts += [f'<rsp:Stream Name="{stream}"{of} End="true"></rsp:Stream>' for stream in ("stdout", "stderr")]
            code = f"<rsp:ExitCode>{process.exit_code}</rsp:ExitCode>"
            parts.append(f'<rsp:CommandState{of} State="{state}Done">{code}</rsp:CommandState>')
        return f"<rsp:ReceiveResponse>{''.join(parts)}</rsp:ReceiveResponse>"

    def taken(self, output, limit):
        """The output that fits into an envelope; the rest stays."""
        room, parts = (limit - 4_000) // 4 * 3, []
        while output and room > 0:
            stream, data = output.pop(0)
            parts.append((stream, data[:room]))
            if data[room:]:
                output.insert(0, (stream, data[room:]))
            room -= len(data) + 200
        return parts

    async def on_send(self, root):
        stream = root.find("s:Body/rsp:Send/rsp:Stream", NS)
        if stream is None or stream.get("Name") is None:
            raise schema("no stream")
        process = self.command(root, stream)
        await self.take(process, base64.b64decode(stream.text or ""))
        if (stream.get("End") or "").lower() == "true":
            process.stdin.put_nowait(None)
        return "<rsp:SendResponse/>"

    async def take(self, process, data):
        process.stdin.put_nowait(data)

    async def on_signal(self, root):
        element = root.find("s:Body/rsp:Signal", NS)
        if element is None or not text(element, "rsp:Code"):
            raise schema("no code")
        process, code = self.command(root, element), text(element, "rsp:Code")
        if code.lower().endswith("/terminate"):
            await stop(process)
            del self.shell(root).commands[element.get("CommandId")]
        elif code.endswith("/ctrl_c"):
            process.interrupted.set()
        else:
            await self.other_signal(process, code)
        return "<rsp:SignalResponse/>"

    async def other_signal(self, process, code):
        raise Fault(87, "w:InvalidParameter", "The parameter is incorrect. ")


async def stop(process):
    process.gone = True
    process.changed.set()
    if process.task is not None:
        process.task.cancel()
        await asyncio.gather(process.task, return_exceptions=True)


def envelope(action, message_id, inside, header=""):
    return (
        f'<s:Envelope xml:lang="en-US" {DECLARED}><s:Header><a:Action>{action}</a:Action>'
        f"<a:MessageID>uuid:{new_id()}</a:MessageID>{header}<a:To>{ANONYMOUS}</a:To>"
        f"<a:RelatesTo>{message_id}</a:RelatesTo></s:Header><s:Body>{inside}</s:Body></s:Envelope>"
    ).encode()


def check_header(root):
    """What Windows wants of every request."""
    for path in ("a:To", "a:Action", "a:MessageID", "a:ReplyTo/a:Address", "w:ResourceURI"):
        if not text(root, f"s:Header/{path}"):
            raise Fault(2150858756, "a:MessageInformationHeaderRequired", f"The header {path} is missing. ")
    for header in root.find("s:Header", NS):
        understood = header.tag.rpartition("}")[0].strip("{") in NS.values()
        if header.get(MUST_UNDERSTAND) == "true" and not understood:
            raise Fault(2150858754, "s:MustUnderstand", f"The header {header.tag} is not understood. ")
    if int(text(root, "s:Header/w:MaxEnvelopeSize") or 8192) < 8192:
        raise Fault(2150858790, "w:EncodingLimit", "The envelope size is too small. ")


def options_of(root):
    return {each.get("Name"): each.text or "" for each in root.iterfind("s:Header/w:OptionSet/w:Option", NS)}


def seconds_of(root):
    return float(re.fullmatch(r"PT([0-9.]+)S", text(root, "s:Header/w:OperationTimeout"))[1])


def action_uri(root):
    return text(root, "s:Header/a:Action")


def text(element, path):
    found = element.find(path, NS)
    return None if found is None else found.text


def new_id():
    return str(uuid.uuid4()).upper()
