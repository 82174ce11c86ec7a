"""What `acredssp decode` is given: a file, the standard input or a text, and the bytes of the conversation in it."""

import contextlib
import dataclasses
import pathlib
import sys
import tempfile
import zlib
from collections.abc import Iterator
from typing import Any, Final

from acredssp.cli import report_file, tshark
from acredssp.cli.dumps import NotADump
from acredssp.cli.outcome import UsageError, expect_readable, unreadable
from acredssp.cli.writing import Written, as_text, written
from acredssp.decoding import MOST_BYTES, Kind, decode
from acredssp.recording import Recording

__all__ = ["Input", "Part", "read"]

_FORMS: Final = (
    "hex, base64, a hexdump, an array or string of a program, PEM, a header field with a token of CredSSP, Negotiate "
    "or NTLM, a record of --record, or a report of doctor"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one direction.

    Attributes:
        data: The bytes.
        sender: `"client"` or `"server"`; empty where it is not known.
        kind: What the first unit is; None where its bytes tell.
        connection: The number of the capture's connection; None where there is no capture.
    """

    data: bytes
    sender: str = ""
    kind: Kind | None = None
    connection: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
    """All that the command line names.

    Attributes:
        parts: The bytes, in their order.
        connections: The connections of a capture, also those over which nothing was sent.
        notes: What is left out, and why.
        report: A report of doctor; None for anything else.
    """

    parts: list[Part]
    connections: tuple[tshark.Connection, ...] = ()
    notes: tuple[str, ...] = ()
    report: dict[str, Any] | None = None


def read(what: str, kind: Kind | None, keylog: pathlib.Path | None) -> Input:
    """Return what the command line names.

    Args:
        what: A file, `-`, or the bytes as text.
        kind: What the bytes are; None to tell by them.
        keylog: The file with TLS's keys for a capture.

    Raises:
        UsageError: It cannot be read, or holds no bytes.
    """
    if what == "-":
        return _of_bytes(sys.stdin.buffer.read(MOST_BYTES + 1), kind, None, keylog)
    path = pathlib.Path(what)
    if not what or not _is_there(path):
        return Input([Part(each.data, each.sender, kind) for each in _of_words(what, kind)])
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise unreadable("file", path, error) from None
    return _of_bytes(data, kind, path, keylog)


def _is_there(path: pathlib.Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # the text is too long for a name, or has a NUL
        return False


def _of_words(what: str, kind: Kind | None) -> list[Written]:
    """Return the bytes that a word of the command line stands for."""
    with _usage_of_dumps():
        found = written(what, MOST_BYTES)
    if found and (kind or all(_is_known(each.data) or not each.is_base64 for each in found)):
        return found
    name = f" {what}" if 0 < len(what) <= 200 and what.isprintable() else ""
    if found:
        raise UsageError(
            f"expected a file, hex or base64: there is no file{name}, and as base64 it is no message that decode knows "
            "(--as says what it is)"
        )
    raise UsageError(f"expected a file, hex or base64: there is no file{name}, and it is neither hex nor base64")


def _is_known(data: bytes) -> bool:
    units = decode(data[:4096]).children
    return bool(units) and units[0].name != "unknown bytes"


def _of_bytes(data: bytes, kind: Kind | None, path: pathlib.Path | None, keylog: pathlib.Path | None) -> Input:
    if not data:
        raise UsageError("expected bytes to decode, got none")
    plain = _unzipped(data)
    if tshark.is_capture(plain):
        return _of_capture(data, kind, path, keylog)
    text = as_text(plain)
    if text is None:
        return Input([Part(plain, kind=kind)])
    if text.lstrip()[:1] == "{" and text.lstrip()[1:].lstrip()[:1] in {'"', "}", ""}:
        return _of_json(text)
    with _usage_of_dumps():
        found = [each for each in written(text, MOST_BYTES) if each.sure or kind or _is_known(each.data)]
    if not found and kind is None:
        raise UsageError(f"this is text, and decode finds no bytes in it: expected {_FORMS}")
    return Input([Part(each.data, each.sender, kind) for each in found] or [Part(plain, kind=kind)])


def _unzipped(data: bytes) -> bytes:
    """Return what gzip has packed, as far as it is looked at; other bytes as they are."""
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return zlib.decompressobj(31).decompress(data, MOST_BYTES + 1)
    except zlib.error:
        return data


@contextlib.contextmanager
def _usage_of_dumps() -> Iterator[None]:
    try:
        yield
    except NotADump as error:
        raise UsageError(f"this looks like a hexdump, and not all of its bytes can be read: {error}") from None


# --- captures ---


def _of_capture(data: bytes, kind: Kind | None, path: pathlib.Path | None, keylog: pathlib.Path | None) -> Input:
    if keylog is not None:
        expect_readable("--keylog", keylog)  # tshark would say nothing, and decrypt nothing
    if path is not None and path.is_file():
        return _followed(path, kind, keylog)
    if len(data) > MOST_BYTES:
        raise UsageError(f"expected a capture of at most {MOST_BYTES} bytes here: save it, and pass the file's name")
    with tempfile.NamedTemporaryFile(suffix=".pcap") as file:
        file.write(data)
        file.flush()
        return _followed(pathlib.Path(file.name), kind, keylog)


def _followed(path: pathlib.Path, kind: Kind | None, keylog: pathlib.Path | None) -> Input:
    capture = tshark.capture(path, keylog)
    parts = [
        Part(each.data, each.sender, kind, connection.number)
        for connection in capture.connections
        for each in connection.streams
    ]
    return Input(parts, capture.connections, capture.notes)


# --- records and reports ---


def _of_json(text: str) -> Input:
    if (report := report_file.report_of(text)) is not None:
        return Input([], report=report)
    try:
        return Input(_of_record(Recording.from_json(text)))
    except ValueError as error:
        raise UsageError(f"cannot read the record: {error}") from None


def _of_record(record: Recording) -> list[Part]:
    """Return the flights of a record, in their order."""
    flights = [
        Part(record.x224_request, "client", Kind.X224 if record.x224_request[:1] == b"\3" else None),
        Part(record.x224_confirm, "server", Kind.X224),
        *(Part(message.data, message.sender, Kind.TS_REQUEST) for message in record.messages),
        Part(record.early_result, "server", Kind.EARLY_AUTHORIZATION),
    ]
    return [part for part in flights if part.data]
