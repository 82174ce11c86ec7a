"""`acredssp proxy`: the commands of the gateway. They do it with `acredssp.proxy`, of the extra `gateway`."""

import contextlib
import logging
import pathlib
import sys
from collections.abc import Coroutine, Iterator
from typing import Annotated, Any

import typer

from acredssp.cli import loops, render
from acredssp.cli.options import LogLevel, WithLogLevel, log_from, until_done, usage_errors
from acredssp.cli.outcome import EXIT_STATUS, Result, UsageError
from acredssp.workers import is_supported

__all__ = ["proxy_app"]

proxy_app = typer.Typer(
    name="proxy",
    help="Run an RDP gateway: it logs users on, logs them on to a target, and passes the connection on.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # such a traceback would print local variables, and so passwords
    context_settings={"help_option_names": ["-h", "--help"]},
)

SettingsFile = Annotated[pathlib.Path, typer.Argument(metavar="FILE", help="The settings, in TOML.")]


@contextlib.contextmanager
def _gateway() -> Iterator[None]:
    """Turn a missing extra into one line, and settings that cannot be used into one line for each problem."""
    try:
        with usage_errors():
            yield
    except ModuleNotFoundError as error:
        raise typer.BadParameter(
            f"expected the package {error.name}, which is not installed: pip install 'acredssp[gateway]'"
        ) from None


def _until_done(main: Coroutine[Any, Any, int]) -> int:
    with _settings_errors():
        return until_done(main)
    raise AssertionError


@contextlib.contextmanager
def _settings_errors() -> Iterator[None]:
    """Print what is wrong with the settings, a line each, and end the command."""
    from acredssp.proxy.settings import SettingsError  # noqa: PLC0415 - needs the extra

    try:
        yield
    except SettingsError as error:
        for problem in error.problems:
            print(render.printable(problem), file=sys.stderr)  # noqa: T201
        raise typer.Exit(EXIT_STATUS[Result.USAGE]) from None


@proxy_app.command("run")
def run_command(
    file: SettingsFile,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, metavar="N", help="Serve with N processes; one for each core is best (Linux only)."
        ),
    ] = None,
    log_level: WithLogLevel = LogLevel.INFO,
) -> None:
    """Serve until SIGTERM, and print a line for each connection to the standard error. SIGHUP reads the settings again.

    With --workers, SIGUSR2 starts the program anew, and no connection is lost.

    Exit status: 0 after SIGTERM or SIGINT; 2 the settings cannot be used; 70 a worker fails again and again.
    """
    with _gateway():
        from acredssp.proxy import service  # noqa: PLC0415 - needs the extra

        if workers is not None and not is_supported():
            raise UsageError("--workers needs linux, with fork and SO_REUSEPORT: run without it on this system")
        log_from(log_level)
        if log_level is not LogLevel.DEBUG:  # the gateway's line for a connection says all that the library's would
            logging.getLogger("acredssp").setLevel(logging.WARNING)
            logging.getLogger("acredssp.proxy").setLevel(log_level.upper())

        def tell(text: str) -> None:
            print(render.printable(text), flush=True)  # noqa: T201

        if workers is not None:
            ourselves = [sys.executable, "-m", "acredssp", "proxy"]
            again = [*ourselves, "run", str(file), f"--workers={workers}", f"--log-level={log_level.value}"]
            check = [*ourselves, "check", str(file)]
            with _settings_errors():
                raise typer.Exit(
                    service.run_workers(file, workers, tell, main=loops.run, program=again, check_program=check)
                )

        async def main() -> int:
            await service.run(file, tell)
            return EXIT_STATUS[Result.SUCCESS]

        raise typer.Exit(_until_done(main()))


@proxy_app.command("check")
def check_command(
    file: SettingsFile,
    connect: Annotated[
        bool,
        typer.Option("--connect", help="Also log on to every target; where users log on, see its certificate alone."),
    ] = False,
) -> None:
    """See whether a settings file can be used, and name the place of everything that is wrong.

    Exit status: 0 the file is good; 1 a target refuses (--connect); 2 the file cannot be used.
    """
    with _gateway():
        from acredssp.proxy import check, plan  # noqa: PLC0415 - needs the extra

        async def main() -> int:
            made = await plan.make_plan(file, {})
            print(f"{file}: {len(made.listeners)} listeners and {len(made.targets)} targets can be used")  # noqa: T201
            refused = False
            if connect:
                async for who, reason in check.connect(made):
                    refused = refused or bool(reason)
                    print(render.printable(f"{who}: {reason or 'ready'}"))  # noqa: T201
            return EXIT_STATUS[Result.DENIED if refused else Result.SUCCESS]

        raise typer.Exit(_until_done(main()))


@proxy_app.command("init")
def init_command(
    file: Annotated[pathlib.Path, typer.Argument(metavar="FILE", help="Where to write the settings.")] = pathlib.Path(
        "gateway.toml"
    ),
) -> None:
    """Write a commented settings file that runs, with a self-made certificate and a users file beside it."""
    with _gateway():
        from acredssp.proxy import check  # noqa: PLC0415 - needs the extra

        try:
            written = check.init(file)
        except OSError as error:
            raise UsageError(
                f"cannot write {error.filename or file}: {error.strerror or 'it is there already'}"
            ) from None
        for path in written:
            print(f"wrote {path}")  # noqa: T201
