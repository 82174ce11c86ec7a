"""The command line as a whole: it takes the words that were typed and returns an exit status.

Each command and its options are in a module of their own: `login`, `serve`, `demo`, `winrm`, `proxy`, `decode`,
`replay`, `probe`, `doctor`. A process imports the one that its command line names: to import all takes longer than most
commands.

The exit statuses are: 0 success, 1 denied, 2 usage, 3 protocol, 4 network or time-out, 70 a fault in acredssp,
74 output that cannot be written, 130 Ctrl-C. Nothing that a user or a peer can do ends in a traceback.
"""

import importlib
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, cast

import typer
from typer.core import TyperGroup

import acredssp
from acredssp.cli import output, render
from acredssp.cli.options import log_from
from acredssp.cli.outcome import EXIT_STATUS, Result
from acredssp.cli.output import CANNOT_WRITE, OutputError
from acredssp.cli.report import DemoReport, LoginReport, Report, ServeReport, WinRMReport, to_json
from acredssp.ctrl_c import INTERRUPTED
from acredssp.workers import EXIT_FAILED

__all__ = ["command_line", "run"]

_REPORTS: Final[dict[str, type[Report]]] = {
    "demo": DemoReport,
    "login": LoginReport,
    "serve": ServeReport,
    "winrm": WinRMReport,
}
_CommandLineError: Final = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[2])
"""The exception that typer raises for a command line that it does not understand.

This is click's ClickException, or the copy of it that typer brings.
"""


class _Commands(TyperGroup):
    """The commands, with typer's completion for shells, but not what installs it.

    The option --install-completion would edit the shell's startup files, and let PowerShell run any script.
    """

    def get_params(self, ctx: Any) -> Any:  # click's type, or that of typer's copy
        """Return the options without --install-completion."""
        return [each for each in super().get_params(ctx) if "--install-completion" not in each.opts]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command whose arguments are shown as they are called, without Python's names of their types."""
        command = super().get_command(ctx, cmd_name)
        for each in _parameters(command):
            if each.param_type_name == "argument" and each.metavar:
                each.display_type_rich = lambda ctx: None  # noqa: ARG005 - what typer 0.29 calls
        return command


def _parameters(command: Any) -> Iterator[Any]:
    """Yield the parameters of a command and, if the command is a group, those of all commands in the group."""
    yield from getattr(command, "params", ())
    for each in getattr(command, "commands", {}).values():
        yield from _parameters(each)


_SHORT_HELPS: Final = {
    "decode": "Show what the bytes of a handshake mean.",
    "demo": "Show real handshakes between a server and clients.",
    "doctor": "Log on once, and explain why the logon fails.",
    "login": "Log on to a server once, and tell how it went.",
    "probe": "Ask servers what they would do with a logon, without one.",
    "replay": "Run acredssp's engine against a recorded handshake.",
    "serve": "Let users log on, and print a line for each handshake.",
    "winrm": "Run a command on Windows by WinRM.",
    "proxy": "Run an RDP gateway.",
}
"""What the help says of each command. The command is in the module of the same name."""
_HIDDEN: Final = {"top": ("proxy", "top_command")}
"""The commands that the help does not list. Each has the name of its module and that of its function."""


def command_line(words: Sequence[str] = ()) -> typer.Typer:
    """Return the app with the command that the first word names, or with all where it names none."""
    app = typer.Typer(
        name="acredssp",
        cls=_Commands,
        help="Make CredSSP logons, the handshake of Remote Desktop, as a client, a server or a gateway, and find out "
        "why they fail.",
        rich_markup_mode=None,  # rich's tables would cut the names of long options
        pretty_exceptions_enable=False,  # such a traceback would print local variables, and so passwords
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_acredssp)
    known = [*_SHORT_HELPS, *_HIDDEN]
    for name in words[:1] if words and words[0] in known else known:
        _add_to(app, name)
    return app


def _add_to(app: typer.Typer, name: str) -> None:
    module, function = _HIDDEN.get(name, (name, f"{name}_command"))
    commands = importlib.import_module(f"acredssp.cli.{module}")
    if name == "proxy":
        app.add_typer(commands.proxy_app, short_help=_SHORT_HELPS[name])
    else:
        register = app.command(
            name,
            cls=commands.WinRMCommand if name == "winrm" else None,
            short_help=_SHORT_HELPS.get(name),
            hidden=name in _HIDDEN,
        )
        register(getattr(commands, function))


def run(words: list[str]) -> int:
    """Run the command line `words` and return the exit status."""
    with output.guarded():
        try:
            status = _run(words)
            sys.stdout.flush()
        except OutputError as error:
            output.abandon()
            print(error, file=sys.stderr)  # noqa: T201
            status = CANNOT_WRITE
        except Exception:  # noqa: BLE001 - Python's own status 1 would report this fault as a denied logon
            traceback.print_exc()
            status = EXIT_FAILED
        finally:
            log_from(None)
        sys.stderr.flush()
    return status


def _run(words: list[str]) -> int:
    try:
        status = command_line(words)(words, prog_name="acredssp", standalone_mode=False)
    except _CommandLineError as error:
        _, err = render.consoles()
        report = _usage_report(words, _message_of(error))
        render.usage(err, report)
        if "--json" in words:
            print(to_json(report))  # noqa: T201
        return EXIT_STATUS[Result.USAGE]
    except typer.Abort:
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _message_of(error: typer.BadParameter) -> str:
    """Return typer's text without what repeats that the value is wrong."""
    return error.format_message().removeprefix("Invalid value: ").replace(": Value error, ", ": ", 1)


def _usage_report(words: list[str], message: str) -> Report:
    """Return the report of a command line that was not understood; `--json` prints it with the command's usual keys."""
    named = [*(word for word in words if not word.startswith("-")), ""]
    command = named[0]
    kind = _REPORTS.get(command)
    if command == "proxy":
        from acredssp.cli.proxy import proxy_app  # noqa: PLC0415 - other commands do not import it

        if named[1] in {each.name for each in proxy_app.registered_commands}:
            command = f"proxy {named[1]}"
    help_of = f"acredssp {command} --help" if named[0] in (*_SHORT_HELPS, *_HIDDEN) else "acredssp --help"
    return (kind or LoginReport)(result=Result.USAGE, message=message, hint=f"see {help_of} for the options")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"acredssp {acredssp.__version__}")  # noqa: T201
        raise typer.Exit


def _acredssp(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - the option's callback acts on it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)  # noqa: T201
        raise typer.Exit(EXIT_STATUS[Result.USAGE])
