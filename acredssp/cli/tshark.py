"""Captures of the network (pcap, pcapng) by tshark: the bytes of each connection, decrypted where the keys are known.

tshark reads the file as it reads any capture, so whoever distrusts a file runs this where tshark may be run. Its time
and what it prints are bounded.
"""

import dataclasses
import datetime as dt
import io
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
from typing import Final

from acredssp.cli.outcome import UsageError

__all__ = ["Capture", "Connection", "Stream", "capture", "is_capture"]

_MAGIC: Final = (
    b"\x0a\x0d\x0d\x0a",
    b"\xd4\xc3\xb2\xa1",
    b"\xa1\xb2\xc3\xd4",
    b"\x4d\x3c\xb2\xa1",
    b"\xa1\xb2\x3c\x4d",
)
"""How pcapng begins, and pcap of either byte order with microseconds or nanoseconds."""
_MOST_CONNECTIONS: Final = 32
_TIMEOUT: Final = 60.0
_MOST_OUTPUT: Final = 1 << 26
_MOST_REASON: Final = 4096
_MOST_TURNS: Final = 2_000
"""How often the sides of all connections may take turns. A logon has some ten, and a session behind it has millions."""
_LINE: Final = re.compile(rb"(\t?)([0-9a-f]+)")
_NODES: Final = re.compile(rb"Node 0: (.*):(\d+)\r?\nNode 1: (.*):(\d+)")
"""The ends of a connection. What the first one sent has no tab in front."""
_PACKET: Final = re.compile(rb"(\d+)\t([0-9.]+)")
_IN_TLS: Final = (b"\x14\x03", b"\x15\x03", b"\x16\x03", b"\x17\x03")


@dataclasses.dataclass(frozen=True, slots=True)
class Stream:
    """Bytes that one side sent, without a break by the other side."""

    sender: str
    data: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Connection:
    """One TCP connection of a capture.

    Attributes:
        number: Its number, from 0 on: what `tcp.stream` is in Wireshark.
        client: The address and port of the side that connected; empty where tshark does not tell.
        server: The address and port of the other side.
        time: When its first packet came, in ISO 8601; empty where tshark does not tell.
        note: Why it is not decrypted; empty where it is, and where there is nothing to decrypt.
        streams: What the sides sent.
    """

    number: int
    client: str
    server: str
    time: str
    note: str
    streams: tuple[Stream, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Capture:
    """What a capture holds, and notes about what is left out."""

    connections: tuple[Connection, ...]
    notes: tuple[str, ...]


def is_capture(data: bytes) -> bool:
    """Whether a file begins as a capture of the network does."""
    return data.startswith(_MAGIC)


def capture(path: pathlib.Path, keylog: pathlib.Path | None) -> Capture:
    """Return what the sides of each TCP connection sent: in clear, then decrypted where the keys are known.

    A capture that is cut off or damaged is shown as far as tshark reads it.

    Raises:
        UsageError: tshark is not installed, or reads nothing of the file.
    """
    program = shutil.which("tshark")
    if program is None:
        raise UsageError("a capture of the network needs tshark: apt-get install tshark, or pass single messages")
    return _Reading(program, path, keylog).read()


class _Reading:
    """tshark's runs over one capture."""

    def __init__(self, program: str, path: pathlib.Path, keylog: pathlib.Path | None) -> None:
        self._command = [program, "-n", "-r", str(path.absolute())]
        self._keylog = keylog
        self._options = ["-o", f"tls.keylog_file:{keylog.absolute()}"] if keylog is not None else []
        self._problem = ""
        """What tshark says of the file: that it is cut off, or damaged."""

    def read(self) -> Capture:
        began = self._moments()
        found: list[Connection] = []
        notes: list[str] = []
        turns = 0
        for number in range(_MOST_CONNECTIONS):
            if began and number not in began:
                break
            connection = self._connection(number, began.get(number, ""))
            if not connection.streams and not began:
                break
            kept = connection.streams[: _MOST_TURNS - turns]
            found.append(dataclasses.replace(connection, streams=kept))
            turns += len(kept)
            if len(kept) < len(connection.streams):
                notes.append(f"the first {_MOST_TURNS} turns of the capture are shown")
                break
        if not turns:
            raise UsageError(self._nothing())
        if len(began) > len(found) == _MOST_CONNECTIONS:
            notes.append(f"the first {_MOST_CONNECTIONS} of {len(began)} connections are shown")
        if self._problem:
            notes.append(f"the capture is shown as far as tshark reads it: {self._problem}")
        return Capture(tuple(found), tuple(notes))

    def _nothing(self) -> str:
        if self._problem:
            return f"tshark cannot read the capture: {self._problem}"
        return "the capture has no bytes of a tcp connection"

    def _moments(self) -> dict[int, str]:
        """Return when each connection began, by its number; none where tshark does not tell."""
        fields = ["-T", "fields", "-e", "tcp.stream", "-e", "frame.time_epoch", "-Y", "tcp"]
        began: dict[int, str] = {}
        for line in io.BytesIO(self._output(fields)):
            match = _PACKET.fullmatch(line.rstrip(b"\r\n"))
            if match is not None and int(match[1]) not in began:
                began[int(match[1])] = _iso(float(match[2]))
        return began

    def _connection(self, number: int, time: str) -> Connection:
        in_clear, client, server = self._follow("tcp", number, "")
        port = server.rpartition(":")[2]
        before = _before_tls(in_clear)
        if len(before) == len(in_clear):
            return Connection(number, client, server, time, "", tuple(in_clear))
        # Wireshark takes 3389 alone for RDP, and looks for TLS behind its negotiation there alone.
        ports = ["-d", f"tcp.port=={port},tls"] if port else []
        decrypted, _, _ = self._follow("tls", number, port, ports)
        streams = [*before, *decrypted] if decrypted else in_clear
        note = self._encrypted() if not decrypted and _has_data(in_clear) else ""
        return Connection(number, client, server, time, note, tuple(streams))

    def _encrypted(self) -> str:
        if self._keylog is None:
            return "encrypted by TLS: pass the file with TLS's keys as --keylog to see what is inside"
        return f"encrypted by TLS, and {self._keylog} has no keys that fit this connection"

    def _follow(
        self, layer: str, number: int, port: str, options: list[str] | None = None
    ) -> tuple[list[Stream], str, str]:
        """Return the bytes of a connection as tshark follows it, and the addresses of its client and server.

        Args:
            layer: `tcp` or `tls`.
            number: The number of the connection.
            port: The server's port; empty where the second end is the server's.
            options: Further options.
        """
        output = self._output([*self._options, *(options or ()), "-q", "-z", f"follow,{layer},raw,{number}"])
        found = _NODES.search(output[:4096])
        ends = ["", ""]
        if found:
            addresses = [each.decode("ascii", "replace") for each in found.groups()]
            ends = [_address(*addresses[:2]), _address(*addresses[2:])]
        swapped = bool(port) and ends[0].rpartition(":")[2] == port
        senders = ("server", "client") if swapped else ("client", "server")
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
        client, server = reversed(ends) if swapped else ends
        return [Stream(sender, bytes(data)) for sender, data in turns], client, server

    def _output(self, options: list[str]) -> bytes:
        """Return what tshark prints, as far as it is read: what a capture makes of it has no other bound.

        Raises:
            UsageError: tshark cannot be run, or takes too long.
        """
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen([*self._command, *options], stdout=subprocess.PIPE, stderr=errors)  # noqa: S603 - as said above
            except OSError:
                raise UsageError("tshark cannot be run") from None
            output, whole = _read(process)
            errors.seek(0)
            said = errors.read(_MOST_REASON).decode("utf-8", "replace")
        if whole and process.returncode:
            self._problem = self._problem or _reason(said) or f"exit status {process.returncode}"
        return output


def _read(process: "subprocess.Popen[bytes]") -> tuple[bytes, bool]:
    """Return the output of a process, and whether it is whole."""
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
    return output, whole


def _reason(said: str) -> str:
    """Return tshark's own words about a file, in one line."""
    _, found, words = said.partition("tshark: ")
    return " ".join(words.split()) if found else ""


def _before_tls(streams: list[Stream]) -> list[Stream]:
    """Return what was sent before the first record of TLS."""
    first = next((at for at, each in enumerate(streams) if each.data.startswith(_IN_TLS)), len(streams))
    return streams[:first]


def _has_data(streams: list[Stream]) -> bool:
    """Whether TLS came up: whether there is a record of application data."""
    for each in streams:
        at = 0
        while (kind := each.data[at : at + 2]) in _IN_TLS:
            if kind == _IN_TLS[-1]:
                return True
            at += 5 + int.from_bytes(each.data[at + 3 : at + 5], "big")
    return False


def _address(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _iso(moment: float) -> str:
    try:
        return dt.datetime.fromtimestamp(moment, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return ""
