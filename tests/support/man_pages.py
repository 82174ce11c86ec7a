"""The manual pages of the command line, made of what `--help` is made of.

`make conformance` writes them to docs/man, and the wheel installs them in share/man/man1. tests/cli/test_man_pages.py
fails where one is stale. The text is the same with every version of typer: the kinds of values are those of the
commands' annotations. click-man makes no pages of typer's commands, which are not click's any more.
"""

import enum
import functools
import pathlib
import re
import typing

from typer.main import get_command

from acredssp.cli import app as app_module
from acredssp.cli.app import command_line

FOLDER = pathlib.Path(__file__).parent.parent.parent / "docs" / "man"

_KINDS = {str: "TEXT", int: "N", float: "NUMBER", pathlib.Path: "FILE"}


def main() -> None:
    """Write the pages, and take away those of commands that are gone."""
    made = pages()
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, "utf-8")


def pages() -> dict[str, str]:
    """The pages by file name."""
    return {f"{'-'.join(words)}.1": _page(words, command) for words, command in commands().items()}


@functools.cache
def commands() -> dict[tuple[str, ...], typing.Any]:
    """Every command that `--help` shows, by the words that call it."""
    return dict(_below(("acredssp",), get_command(command_line())))


def options(command) -> list:
    """The options that a command's `--help` shows, without `--help` itself."""
    shown = command.get_params(command.context_class(command))
    found = [each for each in shown if each.param_type_name == "option"]
    return [each for each in found if not each.hidden and "--help" not in each.opts]


def _inner(command):
    return {name: each for name, each in getattr(command, "commands", {}).items() if not each.hidden}


def _below(words, command):
    yield words, command
    for name, each in _inner(command).items():
        yield from _below((*words, name), each)


def _page(words, command) -> str:
    title, inner = "-".join(words), _inner(command)
    summary, *rest = _paragraphs(command.help)
    lines = [
        f'.TH "{title.upper()}" "1" "" "acredssp" "acredssp"',
        ".SH NAME",
        rf"{_text(title)} \- {_text(summary.rstrip('.'))}",
        ".SH SYNOPSIS",
        _synopsis(words, command),
        ".SH DESCRIPTION",
        _text(summary),
    ]
    for paragraph in rest:
        lines += [".PP", _text(paragraph)]
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    for heading, entries in ("ARGUMENTS", arguments), ("OPTIONS", options(command)):
        if entries:
            lines += [f".SH {heading}", *(line for each in entries for line in _entry(each, command))]
    if inner:
        lines.append(".SH COMMANDS")
    for name, each in inner.items():
        lines += [".TP", rf"\fB{_text('-'.join([*words, name]))}\fR(1)", _text(_paragraphs(each.help)[0])]
    if len(words) == 1:
        lines += [".SH EXIT STATUS", _text(_exit_statuses())]
    else:
        lines += [".SH SEE ALSO", rf"\fB{_text('-'.join(words[:-1]))}\fR(1)"]
    return "\n".join(lines) + "\n"


def _synopsis(words, command) -> str:
    parts = [rf"\fB{_text(' '.join(words))}\fR"]
    parts += [r"[\fIOPTIONS\fR]"] if options(command) else []
    for each in command.params:
        if each.param_type_name == "argument":
            parts.append(
                _text(
                    each.metavar if each.required else f"[{each.metavar}]".replace("[[", "[").replace("]...]", "]...")
                )
            )
    parts += [r"\fICOMMAND\fR"] if _inner(command) else []
    return " ".join(parts)


def _entry(parameter, command):
    """The lines about an argument or an option."""
    if parameter.param_type_name == "argument":
        head = rf"\fI{_text(parameter.metavar)}\fR"
    else:
        names = sorted(parameter.opts, key=len)
        kind = "" if parameter.is_flag else rf" \fI{_text(parameter.metavar or _kind(parameter, command))}\fR"
        head = ", ".join(rf"\fB{_text(name)}\fR" for name in names) + kind
    said = [parameter.help, _default(parameter), "Required." if parameter.required else ""]
    return [".TP", head, _text(" ".join(each for each in said if each))]


def _kind(parameter, command) -> str:
    """What an option's value is: the words to choose from, or a kind."""
    if isinstance(parameter.default, str) and not isinstance(parameter.default, enum.Enum):
        return "TEXT"  # whatever a parser makes of it
    annotation = typing.get_type_hints(command.callback)[parameter.name]
    found = [each for each in _types(annotation) if each is not type(None)]
    (kind,) = found
    return "|".join(str(each.value) for each in kind) if issubclass(kind, enum.Enum) else _KINDS[kind]


def _types(annotation):
    """The types in a union or a list."""
    inner = typing.get_args(annotation)
    return [each for argument in inner for each in _types(argument)] if inner else [annotation]


def _default(parameter) -> str:
    """A sentence about the default, where there is one to speak of."""
    value = parameter.default
    if value is None or value is False or value is ... or callable(value) or not parameter.show_default:
        return ""
    value = value.value if isinstance(value, enum.Enum) else value
    return f"The default is {value:g}." if isinstance(value, float) else f"The default is {value}."


def _exit_statuses() -> str:
    (said,) = [each for each in _paragraphs(app_module.__doc__) if each.startswith("The exit statuses are")]
    return said


def _paragraphs(text) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text.strip())]


def _text(text) -> str:
    """Text for troff, as one line that is no request."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", "")
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


if __name__ == "__main__":
    main()
