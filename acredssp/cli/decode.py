"""`acredssp decode`: bytes of a conversation as a tree for people, or as JSON.

The bytes come from the command line, a file, the standard input, a record of `--record`, or a capture of the network,
which tshark takes apart. All of them may be a stranger's: what is printed has no control character, and its size is
bounded.
"""

import dataclasses
import itertools
import json
import pathlib
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from acredssp.cli import inputs, render, report_file
from acredssp.cli.inputs import Input, Part
from acredssp.cli.options import AsJSON, usage_errors
from acredssp.cli.outcome import EXIT_STATUS, Result
from acredssp.cli.tshark import Connection
from acredssp.decoding import Fault, Kind, Node, Secret, decode

__all__ = ["decode_command"]

_MOST_BYTES_SHOWN: Final = 32
"""Bytes of a value that a line of the tree shows; `--json` has all of them."""
_MOST_TEXT_SHOWN: Final = 300
_WIDTH_OF_FILES: Final = 2_000
"""Columns where no terminal is: lines are not broken, so that tools find what they look for."""


def decode_command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="A file, - for the standard input, or the bytes themselves in hex or base64. A file may hold bytes, "
            "hex, base64, a hexdump, lines of a log with tokens of HTTP, a record of --record, a report of doctor, or "
            "a capture of the network (pcap, pcapng).",
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
        typer.Option(
            metavar="NAME",
            help=f"Show this secret, which is hidden otherwise: {', '.join(Secret)}. May be given several times.",
        ),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Show what bytes of a handshake mean: CredSSP, SPNEGO, NTLM, Kerberos, RDP's negotiation, TLS records, HTTP.

    Secrets are hidden unless --show names them: a decoded handshake is often shown to others.

    The exit status is 0 if all could be decoded, 2 if the command line is wrong, and 3 if something is malformed: the
    tree then has the offset and the bytes around it. 74 means that the output could not be written.
    """
    out, err = render.consoles()
    with usage_errors():
        given = inputs.read(what, kind, keylog)
    if given.report is not None:
        report_file.show(out, given.report, as_json=as_json)
        return
    trees = [(part, decode(part.data, kind=part.kind, show=show or ())) for part in given.parts]
    fault = next((found for _, tree in trees if (found := _first_fault(tree)) is not None), None)
    result = Result.SUCCESS if fault is None else Result.PROTOCOL_ERROR
    if as_json:
        print(json.dumps(_report(result, fault, trees, given)))  # noqa: T201
    else:
        _show(out, trees, given)
        if fault is not None and not out.is_terminal:  # a terminal shows the tree, which says the same
            render.warning(err, f"malformed at byte {fault.offset}: {render.printable(fault.message)}")
    raise typer.Exit(EXIT_STATUS[result])


# --- what is printed ---


def _first_fault(node: Node) -> Fault | None:
    if node.fault is not None:
        return node.fault
    return next((fault for child in node.children if (fault := _first_fault(child)) is not None), None)


def _show(out: Console, trees: list[tuple[Part, Node]], given: Input) -> None:
    if not out.is_terminal:
        out.width = _WIDTH_OF_FILES
    connections = {each.number: each for each in given.connections}
    for number, group in itertools.groupby(trees, lambda each: each[0].connection):
        for passed in [each for each in connections if number is not None and each <= number]:
            _show_connection(out, connections.pop(passed))
        for part, tree in group:
            for unit in tree.children:
                out.print(_tree(unit, part.sender))
            if tree.note:
                render.warning(out, tree.note)
    for rest in connections.values():
        _show_connection(out, rest)
    for note in given.notes:
        render.warning(out, render.printable(note))


def _show_connection(out: Console, connection: Connection) -> None:
    words = [f"{connection.client} to {connection.server}" if connection.client else "", connection.time]
    said = [connection.note] if connection.streams else ["no byte was sent"]
    facts = ", ".join(render.printable(each) for each in (*words, *said) if each)
    out.print(Text.assemble((f"connection {connection.number}", "bold"), f": {facts}" if facts else ""), soft_wrap=True)


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


def _report(result: Result, fault: Fault | None, trees: list[tuple[Part, Node]], given: Input) -> dict[str, Any]:
    return {
        "result": result,
        "units": [
            {"sender": part.sender or None, "connection": part.connection, **_node(unit)}
            for part, tree in trees
            for unit in tree.children
        ],
        "connections": [
            {
                "number": each.number,
                "client": each.client or None,
                "server": each.server or None,
                "time": each.time or None,
                "note": each.note or None,
            }
            for each in given.connections
        ],
        "notes": [*(tree.note for _, tree in trees if tree.note), *given.notes],
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
