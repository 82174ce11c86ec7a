"""A toy WinRM service, for trying `acredssp winrm` and `acredssp.winrm` without Windows.

    python examples/winrm_server.py              # at 127.0.0.1, port 5985
    python examples/winrm_server.py HOST PORT    # at another address

It prints its address, the pin of its certificate, and a command line for it. alice of CONTOSO has the password
`wonderland`. Nothing of this machine is run: the commands are those of `COMMANDS`, in Python. PowerShell is not there.
"""

import asyncio
import base64
import contextlib
import re
import ssl
import sys
import uuid
from collections.abc import Awaitable, Callable
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import acredssp
from acredssp.hooks import CredentialRequest
from acredssp.http.asgi import Receive, Scope, Send
from acredssp.http.server import start_http_server

ACCOUNTS = {acredssp.Account("alice", "CONTOSO"): acredssp.Password("wonderland")}
USER = "CONTOSO\\alice"
NAMESPACES = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer",
    "rsp": "http://schemas.microsoft.com/wbem/wsman/1/windows/shell",
    "f": "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault",
    "wsmid": "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd",
}
DECLARED = " ".join(f'xmlns:{name}="{uri}"' for name, uri in NAMESPACES.items())
STATE = f"{NAMESPACES['rsp']}/CommandState"
TIMED_OUT, NO_SUCH, NOT_SUPPORTED = 2150858793, 2150858843, 2150858755
"""The numbers of Windows' errors."""
AROUND = 4_096
"""Bytes that an envelope has around its output, at the most."""


class Fault(Exception):
    """What the service refuses, with the number of Windows' error."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Process:
    """A command that runs."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.output: list[tuple[str, bytearray]] = []
        self.stdin: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.interrupted = asyncio.Event()
        self.changed = asyncio.Event()
        self.exit_code: int | None = None
        command = COMMANDS.get(words[0].lower() if words else "", unknown)
        self.task = asyncio.create_task(self.run(command))

    async def run(self, command: "Command") -> None:
        """Run the command to its end."""
        self.exit_code = await command(self)
        self.changed.set()

    def write(self, text: str, stream: str = "stdout") -> None:
        """Write a line."""
        if not self.output or self.output[-1][0] != stream:
            self.output.append((stream, bytearray()))
        self.output[-1][1].extend(f"{text}\r\n".encode())
        self.changed.set()

    async def read(self) -> bytes:
        """Return more of the standard input; nothing at its end."""
        data = await self.stdin.get()
        if data is None:
            self.stdin.put_nowait(None)  # for the next one who asks
        return data or b""

    async def received(self, seconds: float, room: int) -> str:
        """Return what was written since the last time, in the service's words; wait if there is nothing.

        Args:
            seconds: How long to wait.
            room: The bytes that the answer may have. What is left over waits for the next time.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.output and self.exit_code is None:
                    self.changed.clear()
                    await self.changed.wait()
        if not self.output and self.exit_code is None:
            raise Fault(TIMED_OUT, "nothing was written within the time specified in OperationTimeout")
        parts = []
        while self.output and room > AROUND:
            name, data = self.output[0]
            taken = bytes(data[: (room - AROUND) // 4 * 3])
            del data[: len(taken)]
            if not data:
                self.output.pop(0)
            parts.append(f'<rsp:Stream Name="{name}">{base64.b64encode(taken).decode()}</rsp:Stream>')
            room -= len(parts[-1])
        if self.exit_code is None or self.output:
            return f'{"".join(parts)}<rsp:CommandState State="{STATE}/Running"/>'
        code = f"<rsp:ExitCode>{self.exit_code}</rsp:ExitCode>"
        return f'{"".join(parts)}<rsp:CommandState State="{STATE}/Done">{code}</rsp:CommandState>'


Command = Callable[[Process], Awaitable[int]]


async def hostname(process: Process) -> int:
    """The name of the machine that this pretends to be."""
    process.write("TOY")
    return 0


async def whoami(process: Process) -> int:
    """Who logged on: nobody else can."""
    process.write(USER.lower())
    return 0


async def echo(process: Process) -> int:
    """The words of the command line."""
    process.write(" ".join(process.words[1:]))
    return 0


async def sort(process: Process) -> int:
    """The lines of the standard input, in order."""
    data = bytearray()
    while part := await process.read():
        data += part
    for line in sorted(data.decode("utf-8", "replace").splitlines()):
        process.write(line)
    return 0


async def ping(process: Process) -> int:
    """A line every second, until Ctrl-C."""
    while not process.interrupted.is_set():
        process.write("Reply from 127.0.0.1: time<1ms")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await process.interrupted.wait()
    process.write("Control-C")
    return 1


async def leave(process: Process) -> int:
    """The exit status that the command line names."""
    number = process.words[-1]
    return int(number) if re.fullmatch("-?[0-9]{1,10}", number) else 0


async def cmd(process: Process) -> int:
    """The lines of the standard input, each of which is a command, up to `exit` or their end."""
    code, data, more = 0, b"", True
    while more:
        while b"\n" not in data and (part := await process.read()):
            data += part
        line, more_lines, data = data.partition(b"\n")
        more = bool(more_lines)
        if words := line.decode("utf-8", "replace").split():
            process.words = words
            code = await COMMANDS.get(words[0].lower(), unknown)(process)
            more = more and words[0].lower() != "exit"
    return code


async def unknown(process: Process) -> int:
    """What cmd.exe says of a command that it does not know."""
    name = process.words[0] if process.words else ""
    process.write(f"'{name}' is not recognized as an internal or external command.", "stderr")
    return 1


COMMANDS: dict[str, Command] = {
    "cmd": cmd,
    "echo": echo,
    "exit": leave,
    "hostname": hostname,
    "ping": ping,
    "sort": sort,
    "whoami": whoami,
}


class Service:
    """The shells, and the commands of each: what [MS-WSMV] calls the server's role, as far as a toy needs it."""

    def __init__(self) -> None:
        self.shells: dict[str, dict[str, Process]] = {}

    async def answer(self, envelope: bytes) -> tuple[int, bytes]:
        """Return the HTTP status and the envelope that answer a request."""
        request = ET.fromstring(envelope)  # noqa: S314 - from users who have logged on, and the parser has bounds
        if request.find("s:Body/wsmid:Identify", NAMESPACES) is not None:
            return 200, reply("", "", IDENTITY)
        action, message_id = text(request, "s:Header/a:Action"), text(request, "s:Header/a:MessageID")
        act = getattr(self, f"on_{action.rpartition('/')[2].lower()}", self.refuse)
        try:
            return 200, reply(f"{action}Response", message_id, await act(request))
        except Fault as fault:
            return 500, reply(f"{NAMESPACES['w']}/fault", message_id, fault_of(fault))

    async def refuse(self, _request: ET.Element) -> str:
        """Answer an action that the toy does not know."""
        raise Fault(NOT_SUPPORTED, "this toy runs commands of its own in shells of cmd, and does nothing else")

    async def on_create(self, request: ET.Element) -> str:
        """Make a shell."""
        if not text(request, "s:Header/w:ResourceURI").endswith("/shell/cmd"):
            await self.refuse(request)
        name = new_id()
        self.shells[name] = {}
        selector = f'<w:SelectorSet><w:Selector Name="ShellId">{name}</w:Selector></w:SelectorSet>'
        return f"<x:ResourceCreated><a:ReferenceParameters>{selector}</a:ReferenceParameters></x:ResourceCreated>"

    async def on_command(self, request: ET.Element) -> str:
        """Start a command."""
        line = "s:Body/rsp:CommandLine"
        words = [text(request, f"{line}/rsp:Command")]
        words += [each.text or "" for each in request.iterfind(f"{line}/rsp:Arguments", NAMESPACES)]
        name = new_id()
        self.shell(request)[name] = Process(" ".join(words).replace('"', "").split())
        return f"<rsp:CommandResponse><rsp:CommandId>{name}</rsp:CommandId></rsp:CommandResponse>"

    async def on_receive(self, request: ET.Element) -> str:
        """Return what a command has written."""
        seconds = re.fullmatch(r"PT([0-9.]+)S", text(request, "s:Header/w:OperationTimeout"))
        room = re.fullmatch("[0-9]{1,9}", text(request, "s:Header/w:MaxEnvelopeSize"))
        process, _ = self.process(request, "rsp:Receive/rsp:DesiredStream")
        received = await process.received(float(seconds[1]) if seconds else 20, int(room[0]) if room else 153_600)
        return f"<rsp:ReceiveResponse>{received}</rsp:ReceiveResponse>"

    async def on_send(self, request: ET.Element) -> str:
        """Give a command its input."""
        process, stream = self.process(request, "rsp:Send/rsp:Stream")
        process.stdin.put_nowait(base64.b64decode(stream.text or ""))
        if stream.get("End", "").lower() == "true":
            process.stdin.put_nowait(None)
        return "<rsp:SendResponse/>"

    async def on_signal(self, request: ET.Element) -> str:
        """Press Ctrl-C at a command, or end it."""
        process, element = self.process(request, "rsp:Signal")
        if text(element, "rsp:Code").endswith("/ctrl_c"):
            process.interrupted.set()
        else:
            process.task.cancel()
            del self.shell(request)[element.get("CommandId", "")]
        return "<rsp:SignalResponse/>"

    async def on_delete(self, request: ET.Element) -> str:
        """End a shell with its commands."""
        for process in self.shell(request).values():
            process.task.cancel()
        del self.shells[text(request, "s:Header/w:SelectorSet/w:Selector")]
        return ""

    async def on_get(self, request: ET.Element) -> str:
        """Tell that a shell is there, which keeps it alive."""
        self.shell(request)
        return "<rsp:Shell><rsp:State>Connected</rsp:State></rsp:Shell>"

    def shell(self, request: ET.Element) -> dict[str, Process]:
        """Return the commands of the shell that a request is about."""
        name = text(request, "s:Header/w:SelectorSet/w:Selector")
        if name not in self.shells:
            raise Fault(NO_SUCH, "there is no such shell")
        return self.shells[name]

    def process(self, request: ET.Element, path: str) -> tuple[Process, ET.Element]:
        """Return the command that an element of a request is about, and the element."""
        element = request.find(f"s:Body/{path}", NAMESPACES)
        name = element.get("CommandId", "") if element is not None else ""
        if element is None or name not in self.shell(request):
            raise Fault(NO_SUCH, "there is no such command")
        return self.shell(request)[name], element


IDENTITY = (
    f"<wsmid:IdentifyResponse><wsmid:ProtocolVersion>{NAMESPACES['w']}</wsmid:ProtocolVersion>"
    "<wsmid:ProductVendor>acredssp</wsmid:ProductVendor>"
    "<wsmid:ProductVersion>a toy, Stack: 2.0</wsmid:ProductVersion></wsmid:IdentifyResponse>"
)
"""Before version 3, the service chooses the identifiers, and repeats no answers."""


def reply(action: str, message_id: str, inside: str) -> bytes:
    """Return an envelope."""
    header = f"<a:Action>{action}</a:Action><a:RelatesTo>{message_id}</a:RelatesTo>"
    return f"<s:Envelope {DECLARED}><s:Header>{header}</s:Header><s:Body>{inside}</s:Body></s:Envelope>".encode()


def fault_of(fault: Fault) -> str:
    """Return the inside of an envelope that refuses."""
    code = f'<f:WSManFault Code="{fault.code}"><f:Message>{escape(str(fault))}</f:Message></f:WSManFault>'
    return f"<s:Fault><s:Code><s:Value>s:Sender</s:Value></s:Code><s:Detail>{code}</s:Detail></s:Fault>"


def text(element: ET.Element, path: str) -> str:
    """Return the text at a path; empty where there is none."""
    return escape((element.findtext(path, "", NAMESPACES) or "").strip())


def new_id() -> str:
    """Return a new UUID as WinRM writes it."""
    return str(uuid.uuid4()).upper()


async def lookup(request: CredentialRequest) -> acredssp.Password | acredssp.Deny:
    """The account's password, or no logon."""
    return ACCOUNTS.get(request.principal.account, acredssp.Deny())


async def main(host: str, port: int) -> None:
    """Serve."""
    service = Service()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client has left
            body, more = body + message["body"], message["more_body"]
        status, envelope = await service.answer(body)
        headers = [(b"content-type", b"application/soap+xml;charset=UTF-8")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": envelope})

    certificate, key = acredssp.self_signed(["localhost", "127.0.0.1"])
    context = acredssp.server_context_from_pem(acredssp.Policy(), certificate, key)
    pin = acredssp.pin_of(ssl.PEM_cert_to_DER_cert(certificate.decode()))
    config = acredssp.ServerConfig(ssl_context=context, lookup=lookup)
    async with await start_http_server(app, host, port, config=config) as server:
        where, number, *_ = server.sockets[0].getsockname()
        print(where, number, "pin", pin)
        print(f"try: acredssp winrm {where}:{number} -u alice -d CONTOSO -p wonderland --pin {pin} whoami", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    try:
        host, port = sys.argv[1:] or ("127.0.0.1", "5985")
        asyncio.run(main(host, int(port)))
    except KeyboardInterrupt:
        pass
    except OSError as error:
        sys.exit(f"cannot listen: {error}")
    except ValueError:
        sys.exit("usage: winrm_server.py [HOST PORT]")
