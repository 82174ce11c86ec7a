"""Captures of the network (pcap, pcapng) by tshark: the bytes of each conversation, decrypted where the keys are known.

tshark reads the file as it reads any capture, so whoever distrusts a file runs this where tshark may be run. Its time
and what it prints are bounded.
"""

import dataclasses
import io
import pathlib
import re
import shutil
import subprocess
import threading
from typing import Final

from acredssp.cli.outcome import UsageError

__all__ = ["Stream", "conversations", "is_capture"]

_MAGIC: Final = (
    b"\x0a\x0d\x0d\x0a",
    b"\xd4\xc3\xb2\xa1",
    b"\xa1\xb2\xc3\xd4",
    b"\x4d\x3c\xb2\xa1",
    b"\xa1\xb2\x3c\x4d",
)
"""How pcapng begins, and pcap of either byte order with microseconds or nanoseconds."""
_MOST_STREAMS: Final = 32
_TIMEOUT: Final = 60.0
_MOST_OUTPUT: Final = 1 << 26
_MOST_TURNS: Final = 2_000
"""How often the sides of all connections may take turns. A logon has some ten, and a session behind it has millions."""
_LINE: Final = re.compile(rb"(\t?)([0-9a-f]+)")
_NODES: Final = re.compile(rb"Node 0: .*:(\d+)\r?\nNode 1: .*:(\d+)")
"""The ends of a connection. What the first one sent has no tab in front."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stream:
    """Bytes that one side sent, without a break by the other side."""

    sender: str
    data: bytes
    last: bool = False
    """Whether the capture has more behind it, which is left out."""


def is_capture(data: bytes) -> bool:
    """Whether a file begins as a capture of the network does."""
    return data.startswith(_MAGIC)


def conversations(path: pathlib.Path, keylog: pathlib.Path | None) -> list[Stream]:
    """Return what the sides of each TCP connection sent: in clear, then decrypted where the keys are known.

    Raises:
        UsageError: tshark is not installed, or cannot read the file.
    """
    program = shutil.which("tshark")
    if program is None:
        raise UsageError("a capture of the network needs tshark: apt-get install tshark, or pass single messages")
    found: list[Stream] = []
    options = ["-o", f"tls.keylog_file:{keylog.absolute()}"] if keylog is not None else []
    for number in range(_MOST_STREAMS):
        in_clear, port = _follow(program, path, "tcp", number, options, "")
        if not in_clear:
            break
        # Wireshark takes 3389 alone for RDP, and looks for TLS behind its negotiation there alone.
        ports = ["-d", f"tcp.port=={port},tls"] if port else []
        decrypted, _ = _follow(program, path, "tls", number, [*options, *ports], port)
        found += [*_before_tls(in_clear), *decrypted] if decrypted else in_clear
        if len(found) > _MOST_TURNS:
            return [*found[: _MOST_TURNS - 1], dataclasses.replace(found[_MOST_TURNS - 1], last=True)]
    if not found:
        raise UsageError("the capture has no bytes of a tcp connection")
    return found


def _before_tls(streams: list[Stream]) -> list[Stream]:
    """Return what was sent before the first record of TLS."""
    first = next((at for at, each in enumerate(streams) if each.data[:1] == b"\x16"), len(streams))
    return streams[:first]


def _follow(  # noqa: PLR0913, PLR0917 - the words of a command
    program: str, path: pathlib.Path, layer: str, number: int, options: list[str], server: str
) -> tuple[list[Stream], str]:
    """Return the bytes of a connection as tshark follows it, and the server's port.

    Args:
        program: tshark.
        path: The capture.
        layer: `tcp` or `tls`.
        number: The number of the connection.
        options: Further options.
        server: The server's port; empty where the second end is the server's.
    """
    command = [program, "-n", "-r", str(path.absolute()), *options, "-q", "-z", f"follow,{layer},raw,{number}"]
    output = _output(command)
    found = _NODES.search(output[:4096])
    first, second = (found[1].decode(), found[2].decode()) if found else ("", "")
    senders = ("server", "client") if server and first == server else ("client", "server")
    turns: list[tuple[str, bytearray]] = []
    for line in io.BytesIO(output):
        match = _LINE.fullmatch(line.rstrip(b"\r\n"))
        if match is None or len(match[2]) % 2:
            continue
        sender = senders[bool(match[1])]
        if not turns or turns[-1][0] != sender:
            if len(turns) > _MOST_TURNS:
                break
            turns.append((sender, bytearray()))
        turns[-1][1].extend(bytes.fromhex(match[2].decode()))
    return [Stream(sender, bytes(data)) for sender, data in turns], second


def _output(command: list[str]) -> bytes:
    """Return what tshark prints, as far as it is read: what a capture makes of it has no other bound.

    Raises:
        UsageError: tshark cannot be run, fails, or takes too long.
    """
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: S603 - as said above
    except OSError:
        raise UsageError("tshark cannot be run") from None
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(_TIMEOUT, end)
    timer.start()
    with process:
        assert process.stdout is not None
        output = process.stdout.read(_MOST_OUTPUT)
        whole = len(output) < _MOST_OUTPUT
        if not whole:
            process.kill()
        process.wait()
        timer.cancel()
    if late.is_set():
        raise UsageError(f"tshark took longer than {_TIMEOUT:.0f} seconds with the capture")
    if whole and process.returncode:
        raise UsageError(f"tshark cannot read the capture: exit status {process.returncode}")
    return output
