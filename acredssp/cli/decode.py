"""`acredssp decode`: bytes of a conversation as a tree for people, or as JSON.

The bytes come from the command line, a file, the standard input, a record of `--record`, or a capture of the network,
which tshark takes apart. All of them may be a stranger's: what is printed has no control character, and its size is
bounded.
"""

import base64
import binascii
import dataclasses
import json
import pathlib
import re
import sys
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from acredssp.cli import render, tshark
from acredssp.cli.options import AsJSON, usage_errors
from acredssp.cli.outcome import EXIT_STATUS, Result, UsageError, unreadable
from acredssp.decoding import MOST_BYTES, Fault, Kind, Node, Secret, decode
from acredssp.recording import Recording

__all__ = ["Part", "decode_command"]

_MOST_BYTES_SHOWN: Final = 32
"""Bytes of a value that a line of the tree shows; `--json` has all of them."""
_MOST_TEXT_SHOWN: Final = 300
_WIDTH_OF_FILES: Final = 2_000
"""Columns where no terminal is: lines are not broken, so that tools find what they look for."""
_HEX: Final = re.compile(r"(?:0[xX])?+[0-9a-fA-F]{2}(?:[\s:,]*+(?:0[xX])?+[0-9a-fA-F]{2})*+")
"""Possessive, since a repetition that may give back needs a hundred times the memory of the text."""
_DUMP_LINE: Final = re.compile(r"^[0-9a-fA-F]{4,8}:?\s+((?:[0-9a-fA-F]{2,4}\s){1,16}).*$", re.MULTILINE)
"""A line of xxd, hexdump -C or Wireshark: an offset, bytes, and what they mean as text."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one direction."""

    data: bytes
    sender: str = ""
    """`"client"` or `"server"`; empty where it is not known."""
    kind: Kind | None = None
    last: bool = False
    """Whether more follows, which is left out."""


def decode_command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="A file, - for the standard input, or the bytes themselves in hex or base64. A file may hold bytes, "
            "hex, base64, a record of --record, or a capture of the network (pcap, pcapng).",
        ),
    ],
    kind: Annotated[
        Kind | None, typer.Option("--as", help="What the bytes are; without it, decode tells by the bytes.")
    ] = None,
    keylog: Annotated[
        pathlib.Path | None,
        typer.Option(metavar="FILE", help="TLS's keys for a capture of the network, as --keylog writes them."),
    ] = None,
    show: Annotated[
        list[Secret] | None,
        typer.Option(help="Show this secret, which is hidden otherwise. May be given several times."),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Show what bytes of a handshake mean: CredSSP, SPNEGO, NTLM, Kerberos, RDP's negotiation, TLS records, HTTP.

    Secrets are hidden unless --show names them: a decoded handshake is often shown to others.

    The exit status is 0 if all could be decoded, 2 if the command line is wrong, and 3 if something is malformed: the
    tree then has the offset and the bytes around it.
    """
    out, err = render.consoles()
    with usage_errors():
        parts = _parts(what, kind, keylog)
    trees = [(part.sender, decode(part.data, kind=part.kind, show=show or ())) for part in parts]
    if parts and parts[-1].last:
        trees[-1][1].note = trees[-1][1].note or f"the first {len(parts)} turns of the capture are shown"
    fault = next((found for _, tree in trees if (found := _first_fault(tree)) is not None), None)
    result = Result.SUCCESS if fault is None else Result.PROTOCOL_ERROR
    if as_json:
        print(json.dumps(_report(result, fault, trees)))  # noqa: T201
    else:
        _show(out, trees)
        if fault is not None:
            render.warning(err, f"malformed at byte {fault.offset}: {render.printable(fault.message)}")
    raise typer.Exit(EXIT_STATUS[result])


# --- where the bytes come from ---


def _parts(what: str, kind: Kind | None, keylog: pathlib.Path | None) -> list[Part]:
    """Return the bytes that the command line names.

    Raises:
        UsageError: They cannot be read, or are none.
    """
    if what == "-":
        return _parts_of(sys.stdin.buffer.read(MOST_BYTES + 1), kind)
    path = pathlib.Path(what)
    if not what or not _is_there(path):
        data = _from_text(what)
        if data is None:
            raise UsageError("expected a file, hex or base64, got a name that no file has and that is neither")
        return [Part(data, kind=kind)]
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise unreadable("file", path, error) from None
    if tshark.is_capture(data):
        if keylog is not None:
            _check_readable("--keylog", keylog)  # tshark would say nothing, and decrypt nothing
        return [Part(each.data, each.sender, kind, each.last) for each in tshark.conversations(path, keylog)]
    return _parts_of(data, kind)


def _check_readable(option: str, path: pathlib.Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise unreadable(option, path, error) from None


def _is_there(path: pathlib.Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # the text is too long for a name, or has a NUL
        return False


def _parts_of(data: bytes, kind: Kind | None) -> list[Part]:
    if not data:
        raise UsageError("expected bytes to decode, got none")
    if data.lstrip()[:1] == b"{":
        try:
            return _of_record(Recording.from_json(data))
        except ValueError as error:
            raise UsageError(f"cannot read the record: {error}") from None
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return [Part(data, kind=kind)]
    return [Part(_from_text(text) or data, kind=kind)]


def _of_record(record: Recording) -> list[Part]:
    """Return the flights of a record, in their order."""
    flights = [
        Part(record.x224_request, "client", Kind.X224 if record.x224_request[:1] == b"\3" else None),
        Part(record.x224_confirm, "server", Kind.X224),
        *(Part(message.data, message.sender, Kind.TS_REQUEST) for message in record.messages),
        Part(record.early_result, "server", Kind.EARLY_AUTHORIZATION),
    ]
    return [part for part in flights if part.data]


def _from_text(text: str) -> bytes | None:
    """Return the bytes that a text in hex or base64 stands for; None for any other text."""
    dumped = _DUMP_LINE.findall(text + "\n")
    if dumped and len(dumped) == len(text.strip().splitlines()) and "\n" in text:
        text = " ".join(dumped)
    if _HEX.fullmatch(text.strip()):
        return bytes.fromhex(re.sub(r"0[xX]|[\s:,]", "", text))
    try:
        return base64.b64decode("".join(text.split()), validate=True) or None
    except binascii.Error:
        return None


# --- what is printed ---


def _first_fault(node: Node) -> Fault | None:
    if node.fault is not None:
        return node.fault
    return next((fault for child in node.children if (fault := _first_fault(child)) is not None), None)


def _show(out: Console, trees: list[tuple[str, Node]]) -> None:
    if not out.is_terminal:
        out.width = _WIDTH_OF_FILES
    for sender, tree in trees:
        for unit in tree.children:
            out.print(_tree(unit, sender))
        if tree.note:
            render.warning(out, tree.note)


def _tree(unit: Node, sender: str) -> Tree:
    label = _line(unit)
    if sender:
        label = Text.assemble((f"{sender}: ", "bold cyan" if sender == "client" else "bold magenta"), label)
    tree = Tree(label, guide_style="dim")
    _grow(tree, unit)
    return tree


def _grow(tree: Tree, node: Node) -> None:
    for child in node.children:
        _grow(tree.add(_line(child)), child)
    if node.refused:
        tree.add(Text.assemble(("acredssp refuses this: ", "yellow"), render.printable(node.refused)))
    if (fault := node.fault) is not None:
        branch = tree.add(Text.assemble(("malformed", "bold red"), f" at byte {fault.offset}: {_text(fault.message)}"))
        if fault.around:
            branch.add(_around(fault))


def _around(fault: Fault) -> Text:
    """Return the bytes around a fault, with the one at fault marked."""
    shown = fault.around.split(" ")
    at = fault.offset - fault.around_at
    text = Text.assemble((f"{fault.around_at:04x}  ", "dim"))
    for place, byte in enumerate(shown):
        text.append(f">{byte}<" if place == at else byte, "bold red" if place == at else "")
        text.append(" ")
    if at >= len(shown):
        text.append("><", "bold red")
    return text


def _line(node: Node) -> Text:
    value = f"({node.secret} hidden, {node.size} bytes)" if node.hidden else _value(node)
    text = Text.assemble((_text(node.name), "bold" if node.children else "green"))
    if value:
        text.append(f"  {value}", "yellow" if node.hidden else "")
    if node.note:
        text.append(f"  {_text(node.note)}", "cyan")
    text.append(f"  @{node.offset}+{node.size}", "dim")
    return text


def _value(node: Node) -> str:
    match node.value:
        case None:
            return ""
        case bytes() as data:
            more = f" and {len(data) - _MOST_BYTES_SHOWN} bytes more" if len(data) > _MOST_BYTES_SHOWN else ""
            return data[:_MOST_BYTES_SHOWN].hex() + more
        case value:
            return _text(str(value))


def _text(text: str) -> str:
    more = " ..." if len(text) > _MOST_TEXT_SHOWN else ""
    return render.printable(text[:_MOST_TEXT_SHOWN]) + more


def _report(result: Result, fault: Fault | None, trees: list[tuple[str, Node]]) -> dict[str, Any]:
    return {
        "result": result,
        "units": [{"sender": sender or None, **_node(unit)} for sender, tree in trees for unit in tree.children],
        "notes": [tree.note for _, tree in trees if tree.note],
        "message": f"malformed at byte {fault.offset}: {fault.message}" if fault else None,
        "hint": None,
    }


def _node(node: Node) -> dict[str, Any]:
    value = node.value.hex() if isinstance(node.value, bytes) else node.value
    facts: dict[str, Any] = {"name": node.name, "offset": node.offset, "size": node.size, "value": value}
    if isinstance(node.value, bytes):
        facts["encoding"] = "hex"
    if node.note:
        facts["note"] = node.note
    if node.secret is not None:
        facts |= {"secret": node.secret, "hidden": node.hidden}
    if node.refused:
        facts["refused"] = node.refused
    if node.fault is not None:
        facts["fault"] = dataclasses.asdict(node.fault)
    if node.children:
        facts["children"] = [_node(child) for child in node.children]
    return facts
