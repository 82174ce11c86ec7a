"""The messages of remote shells ([MS-WSMV] 3.1.4), without I/O: what to ask, and what the answers say."""

import base64
import binascii
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Final

from acredssp.errors import RemoteProtocolError
from acredssp.winrm.errors import NOT_WINRM
from acredssp.winrm.soap import NAMESPACES, Option, Reply, Request, attribute, find, text

__all__ = [
    "CMD",
    "CTRL_C",
    "IDENTIFY",
    "POWERSHELL",
    "POWERSHELL_STOP",
    "TERMINATE",
    "Identity",
    "Received",
    "Shell",
    "ShellRef",
    "command",
    "command_id_of",
    "create",
    "delete",
    "disconnect",
    "get",
    "identity_of",
    "receive",
    "received",
    "reconnect",
    "send",
    "shell_of",
    "signal",
]

CMD: Final = f"{NAMESPACES['rsp']}/cmd"
"""The shell whose commands are those of cmd.exe."""
POWERSHELL: Final = "http://schemas.microsoft.com/powershell/Microsoft.PowerShell"
"""The shell that is a pool of PowerShell's runspaces ([MS-PSRP])."""
CTRL_C: Final = f"{NAMESPACES['rsp']}/signal/ctrl_c"
TERMINATE: Final = f"{NAMESPACES['rsp']}/signal/Terminate"
POWERSHELL_STOP: Final = "powershell/signal/crtl_c"
"""Stops a pipeline. The specification spells it so ([MS-PSRP] 3.1.5.3.9), and services compare the letters."""
IDENTIFY: Final = (
    f'<s:Envelope xmlns:s="{NAMESPACES["s"]}" xmlns:wsmid="{NAMESPACES["wsmid"]}">'
    "<s:Header/><s:Body><wsmid:Identify/></s:Body></s:Envelope>"
).encode()
"""Asks which service it is. The request has no header, and its answer names no request."""

_TRANSFER: Final = NAMESPACES["x"]
_SHELL: Final = NAMESPACES["rsp"]
_DONE: Final = "/CommandState/Done"
_STACK: Final = re.compile(r"\bStack: ?([0-9]+)\.")
_DURATION: Final = re.compile(r"P(?:([0-9]+)D)?(?:T(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+(?:\.[0-9]+)?)S)?)?", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """Which service it is.

    Attributes:
        protocol: The protocol that it speaks.
        vendor: Who made it.
        version: Its version in the vendor's words, such as `OS: 10.0.20348 SP: 0.0 Stack: 3.0`.
    """

    protocol: str
    vendor: str
    version: str

    @property
    def stack(self) -> int:
        """The version of Windows' WinRM: 2 until Windows 7, 3 since Windows 8 and Server 2012; 0 if unknown."""
        found = _STACK.search(self.version)
        return int(found[1][:4]) if found else 0


@dataclasses.dataclass(frozen=True, slots=True)
class ShellRef:
    """Names a shell in requests.

    Attributes:
        resource: What kind of shell it is: `CMD` or `POWERSHELL`, or another endpoint of PowerShell.
        shell_id: Its identifier.
    """

    resource: str
    shell_id: str

    def request(
        self, action: str, body: str = "", options: tuple[Option, ...] = (), *, repeatable: bool = False
    ) -> Request:
        """Return a request to this shell."""
        return Request(
            action=action,
            resource=self.resource,
            body=body,
            selectors={"ShellId": self.shell_id},
            options=options,
            repeatable=repeatable,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """A shell to make; None stands for the service's own choice.

    Attributes:
        resource: What kind of shell.
        shell_id: The identifier that it is to have.
        input_streams: Names of streams to the shell.
        output_streams: Names of streams from it.
        options: Options such as `WINRS_CODEPAGE` and `WINRS_NOPROFILE`.
        environment: Variables.
        working_directory: The directory of commands.
        idle_timeout: Seconds without any request after which the service ends the shell.
        content: More XML, such as PowerShell's creationXml.
    """

    resource: str = CMD
    shell_id: str | None = None
    input_streams: str = "stdin"
    output_streams: str = "stdout stderr"
    options: tuple[Option, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    working_directory: str | None = None
    idle_timeout: float | None = None
    content: str = dataclasses.field(default="", repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """What a command has written since the last time.

    Attributes:
        output: Pairs of a stream's name and bytes, in order.
        done: Whether the command has ended.
        exit_code: Its exit status; None while it runs, and where the service gives none.
    """

    output: tuple[tuple[str, bytes], ...]
    done: bool
    exit_code: int | None


# --- requests ---


def create(shell: Shell) -> Request:
    """Ask for a shell."""
    environment = "".join(
        f"<rsp:Variable Name={attribute(name)}>{text(value)}</rsp:Variable>"
        for name, value in shell.environment.items()
    )
    parts = [
        f"<rsp:Environment>{environment}</rsp:Environment>" if environment else "",
        _element("WorkingDirectory", shell.working_directory),
        f"<rsp:IdleTimeOut>PT{shell.idle_timeout:.3f}S</rsp:IdleTimeOut>" if shell.idle_timeout is not None else "",
        _element("InputStreams", shell.input_streams),
        _element("OutputStreams", shell.output_streams),
        shell.content,
    ]
    identifier = f" ShellId={attribute(shell.shell_id)}" if shell.shell_id is not None else ""
    return Request(
        action=f"{_TRANSFER}/Create",
        resource=shell.resource,
        body=f"<rsp:Shell{identifier}>{''.join(parts)}</rsp:Shell>",
        options=shell.options,
    )


def command(
    shell: ShellRef,
    line: str,
    arguments: Sequence[str] = (),
    *,
    command_id: str | None,
    options: tuple[Option, ...] = (),
) -> Request:
    """Ask to run a command.

    Args:
        shell: Where.
        line: The command.
        arguments: Its arguments. The service puts a space between them, and quotes nothing.
        command_id: The identifier that it is to have; None where the service is too old for that.
        options: Options such as `WINRS_SKIP_CMD_SHELL`.
    """
    identifier = f" CommandId={attribute(command_id)}" if command_id is not None else ""
    words = "".join(f"<rsp:Arguments>{text(each)}</rsp:Arguments>" for each in arguments)
    body = f"<rsp:CommandLine{identifier}><rsp:Command>{text(line)}</rsp:Command>{words}</rsp:CommandLine>"
    return shell.request(f"{_SHELL}/Command", body, options)


def receive(shell: ShellRef, streams: str, command_id: str | None = None) -> Request:
    """Ask for what the command, or the shell itself, has written since the last time."""
    return shell.request(
        f"{_SHELL}/Receive",
        f"<rsp:Receive><rsp:DesiredStream{_of(command_id)}>{text(streams)}</rsp:DesiredStream></rsp:Receive>",
        (Option("WSMAN_CMDSHELL_OPTION_KEEPALIVE", "TRUE"),),
        repeatable=True,
    )


def send(shell: ShellRef, stream: str, data: bytes, command_id: str | None = None, *, end: bool = False) -> Request:
    """Give input to the command, or to the shell itself."""
    last = ' End="true"' if end else ""
    content = base64.b64encode(data).decode()
    body = f"<rsp:Send><rsp:Stream Name={attribute(stream)}{_of(command_id)}{last}>{content}</rsp:Stream></rsp:Send>"
    return shell.request(f"{_SHELL}/Send", body)


def signal(shell: ShellRef, code: str, command_id: str) -> Request:
    """Interrupt a command, or let go of it."""
    body = f"<rsp:Signal{_of(command_id)}><rsp:Code>{text(code)}</rsp:Code></rsp:Signal>"
    return shell.request(f"{_SHELL}/Signal", body, repeatable=code == TERMINATE)


def delete(shell: ShellRef) -> Request:
    """End a shell with all its commands."""
    return shell.request(f"{_TRANSFER}/Delete", repeatable=True)


def get(shell: ShellRef) -> Request:
    """Ask for the state of a shell."""
    return ShellRef(_SHELL, shell.shell_id).request(f"{_TRANSFER}/Get", repeatable=True)


def disconnect(shell: ShellRef) -> Request:
    """Let go of a shell that keeps running."""
    return shell.request(f"{_SHELL}/Disconnect", "<rsp:Disconnect/>")


def reconnect(shell: ShellRef, command_id: str | None = None) -> Request:
    """Take up a shell, or one of its commands, that is disconnected."""
    body = f"<rsp:Reconnect{_of(command_id)}/>" if command_id is not None else ""
    return shell.request(f"{_SHELL}/Reconnect", body, repeatable=True)


# --- answers ---


def identity_of(reply: Reply) -> Identity:
    """Read the answer to `IDENTIFY`."""
    answer = reply.body.find("wsmid:IdentifyResponse", NAMESPACES)
    if answer is None:
        raise RemoteProtocolError(
            "expected the identity of a ws-management service, got another answer", hint=NOT_WINRM
        )
    names = ("ProtocolVersion", "ProductVendor", "ProductVersion")
    return Identity(*(find(answer, f"wsmid:{name}") or "" for name in names))


def shell_of(reply: Reply, shell: Shell) -> tuple[ShellRef, float | None]:
    """Read the answer to `create()`: the shell, and the seconds of its idle time-out where the service tells them."""
    selectors = reply.body.iterfind(".//w:SelectorSet/w:Selector[@Name='ShellId']", NAMESPACES)
    identifiers = [(each.text or "").strip() for each in selectors]
    identifier = next(iter(identifiers), "") or find(reply.body, "rsp:Shell/rsp:ShellId")
    if not identifier:
        raise RemoteProtocolError("expected the identifier of the new shell, got an answer without one")
    return ShellRef(shell.resource, identifier), _seconds(find(reply.body, "rsp:Shell/rsp:IdleTimeOut") or "")


def command_id_of(reply: Reply) -> str:
    """Read the answer to `command()`."""
    identifier = find(reply.body, "rsp:CommandResponse/rsp:CommandId")
    if not identifier:
        raise RemoteProtocolError("expected the identifier of the new command, got an answer without one")
    return identifier


def received(reply: Reply) -> Received:
    """Read the answer to `receive()`."""
    answer = reply.body.find("rsp:ReceiveResponse", NAMESPACES)
    if answer is None:
        raise RemoteProtocolError("expected the output of a command, got another answer")
    output = []
    for stream in answer.iterfind("rsp:Stream", NAMESPACES):
        try:
            data = base64.b64decode("".join((stream.text or "").split()), validate=True)
        except (binascii.Error, ValueError):
            raise RemoteProtocolError("expected output in base64, got other text") from None
        if data:
            output.append((stream.get("Name", ""), data))
    state = answer.find("rsp:CommandState", NAMESPACES)
    done = state is not None and state.get("State", "").endswith(_DONE)
    return Received(tuple(output), done, _exit_code(find(answer, "rsp:CommandState/rsp:ExitCode")))


def _exit_code(number: str | None) -> int | None:
    """Windows' exit codes have 32 bits; some services write them as signed numbers."""
    if number is None or number == "":
        return None
    if not re.fullmatch("-?[0-9]{1,10}", number):
        raise RemoteProtocolError("expected an exit code of 32 bits, got other text")
    return int(number) & 0xFFFFFFFF


def _seconds(duration: str) -> float | None:
    found = _DURATION.fullmatch(duration)
    if found is None or not any(found.groups()):
        return None
    days, hours, minutes, seconds = (float(each or 0) for each in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _of(command_id: str | None) -> str:
    return f" CommandId={attribute(command_id)}" if command_id is not None else ""


def _element(name: str, value: str | None) -> str:
    return f"<rsp:{name}>{text(value)}</rsp:{name}>" if value is not None else ""
