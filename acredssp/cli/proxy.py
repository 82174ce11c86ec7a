"""`acredssp proxy`: the commands of the gateway. They do it with `acredssp.proxy`, of the extra `gateway`."""

import asyncio
import contextlib
import functools
import json
import logging
import pathlib
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final, ParamSpec

import typer

from acredssp.accounts import Domains, Users
from acredssp.aio import reason_of
from acredssp.cli import loops, render
from acredssp.cli.options import LogLevel, MostRecords, RecordFiles, WithLogLevel, log_from, until_done, usage_errors
from acredssp.cli.outcome import EXIT_STATUS, Result, UsageError
from acredssp.cli.output import write_private
from acredssp.cli.record import ServerRecords
from acredssp.workers import is_supported

if TYPE_CHECKING:  # they need the extra
    from acredssp.proxy.settings import Settings
    from acredssp.stores.redis import RedisStore

__all__ = ["proxy_app", "top_command"]

_P = ParamSpec("_P")

_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

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
        from acredssp.proxy.settings import SettingsError  # noqa: PLC0415 - needs the extra

        with usage_errors():
            yield
    except ModuleNotFoundError as error:
        raise typer.BadParameter(
            f"expected the package {error.name}, which is not installed: pip install 'acredssp[gateway]'"
        ) from None
    except SettingsError as error:
        raise _failed(Result.USAGE, *error.problems) from None


def _write(path: pathlib.Path, content: bytes, *, anew: bool = False) -> None:
    try:
        write_private(path, content, anew=anew)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {reason_of(error)}") from None
    print(f"wrote {path}")  # noqa: T201


def _failed(result: Result, *texts: str) -> typer.Exit:
    """Print why a command fails, a line each, and return what ends it."""
    for text in texts:
        print(render.printable(text), file=sys.stderr)  # noqa: T201
    return typer.Exit(EXIT_STATUS[result])


def _command(name: str, short_help: str) -> Callable[[Callable[_P, Coroutine[Any, Any, None]]], Callable[_P, None]]:
    """Make a command of a coroutine function, which runs on a fresh event loop."""

    def register(main: Callable[_P, Coroutine[Any, Any, None]]) -> Callable[_P, None]:
        @functools.wraps(main)
        def command(*args: _P.args, **options: _P.kwargs) -> None:
            with _gateway():
                until_done(main(*args, **options))

        return proxy_app.command(name, short_help=short_help)(command)

    return register


@contextlib.contextmanager
def _held_signals() -> Iterator[None]:
    """Keep signals that would end the process until `service` handles them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR2})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@proxy_app.command("run", short_help="Run the gateway until SIGTERM.")
def run_command(
    file: SettingsFile,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, metavar="N", help="Serve with N processes; one for each core is best (Linux only)."
        ),
    ] = None,
    record: RecordFiles = None,
    record_most: MostRecords = None,
    log_level: WithLogLevel = LogLevel.INFO,
) -> None:
    """Serve until SIGTERM, and print a line for each connection to the standard error. SIGHUP reads the settings again.

    With --workers, SIGUSR2 starts the program anew: no handshake is lost, and relays get run.grace seconds to end.

    --record writes a file for each handshake, those with clients and those with targets: for the first 100 of them, or
    for the first 1,000 if FILE is a folder, unless --record-most is given. With --workers it has to be a folder.

    Exit status: 0 after SIGTERM or SIGINT; 2 the settings cannot be used; 70 a worker fails again and again.
    """
    with _held_signals(), _gateway():
        from acredssp.proxy import service  # noqa: PLC0415 - needs the extra

        if workers is not None and not is_supported():
            raise UsageError("--workers needs linux, with fork and SO_REUSEPORT: run without it on this system")
        log_from(log_level)
        if log_level is not LogLevel.DEBUG:  # the gateway's line for a connection says all that the library's would
            logging.getLogger("acredssp").setLevel(logging.WARNING)
            for ours in ("acredssp.proxy", "acredssp.hosts"):
                logging.getLogger(ours).setLevel(log_level.upper())

        def tell(text: str) -> None:
            with contextlib.suppress(OSError):  # a full disk ends no service and no drain
                print(render.printable(text), flush=True)  # noqa: T201

        records = ServerRecords(
            record or [], with_secrets=False, generated=False, most=record_most, account_of=lambda *_: None, warn=tell
        )
        if workers is None:
            records.begin()
            with _ended(records):
                until_done(service.run(file, tell, records.around))
            return
        records.check_shared()
        records.begin()

        def main(task: Coroutine[Any, Any, None]) -> None:
            with _ended(records):
                loops.run(task)

        ourselves = [sys.executable, "-m", "acredssp", "proxy"]
        recorded = [f"--record={path}" for path in record or ()]
        recorded += [f"--record-most={record_most}"] if record_most else []
        again = [*ourselves, "run", str(file), f"--workers={workers}", f"--log-level={log_level.value}", *recorded]
        check = [*ourselves, "check", str(file)]
        raise typer.Exit(
            service.run_workers(
                file, workers, tell, main=main, program=again, check_program=check, around=records.around
            )
        )


@contextlib.contextmanager
def _ended(records: ServerRecords) -> Iterator[None]:
    """Have all records written when the block ends."""
    try:
        yield
    finally:
        records.end()


@_command("check", "See whether a settings file can be used.")
async def check_command(
    file: SettingsFile,
    connect: Annotated[
        bool,
        typer.Option("--connect", help="Also log on to every target; where users log on, see its certificate alone."),
    ] = False,
) -> None:
    """See whether a settings file can be used, and name the place of everything that is wrong.

    Exit status: 0 the file is good; 1 a target refuses (--connect); 2 the file cannot be used.
    """
    from acredssp.proxy import check, plan  # noqa: PLC0415 - needs the extra

    made = await plan.make_plan(file, {})
    print(f"{file}: can be used (listeners: {len(made.listeners)}, targets: {len(made.targets)})")  # noqa: T201
    refused = False
    if connect:
        async for who, reason in check.connect(made):
            refused = refused or bool(reason)
            print(render.printable(f"{who}: {reason or 'ready'}"))  # noqa: T201
    if refused:
        raise typer.Exit(EXIT_STATUS[Result.DENIED])


@proxy_app.command("init", short_help="Write a commented settings file that runs.")
def init_command(
    file: Annotated[pathlib.Path, typer.Argument(metavar="FILE", help="Where to write the settings.")] = pathlib.Path(
        "gateway.toml"
    ),
) -> None:
    """Write a commented settings file that runs, with a self-made certificate and a users file beside it."""
    with _gateway():
        from acredssp.proxy import check  # noqa: PLC0415 - needs the extra

        files = check.first_files(file)
        for path in files:
            if path.exists():
                raise UsageError(f"cannot write {path}: it is there already")
        for path, content in files.items():
            _write(path, content, anew=True)


@contextlib.asynccontextmanager
async def _store(read: "Settings") -> "AsyncIterator[RedisStore]":
    """Give the store that the nodes of a settings file share."""
    from acredssp.proxy.plan import redis_store  # noqa: PLC0415 - needs the extra
    from acredssp.proxy.settings import Problems  # noqa: PLC0415
    from acredssp.stores import StoreError  # noqa: PLC0415

    if read.store is None:
        raise UsageError("expected [store] in the settings; without it, the HTTP API of the gateway does this ([api])")
    problems = Problems()
    store = redis_store(read.store, problems)
    problems.check()
    assert store is not None
    try:
        yield store
    except StoreError as error:
        raise _failed(Result.NETWORK_ERROR, str(error)) from None
    finally:
        await store.close()


def _duration(text: str) -> float:
    """Return the seconds of `60`, `60s`, `5m` or `1h`."""
    found = re.fullmatch(r"([0-9]{1,6})([smh]?)", text)
    if found is None:
        raise typer.BadParameter("expected seconds, or a number with s, m or h")
    return int(found[1]) * _UNITS[found[2]]


@_command("token", "Issue a token that lets a user in.")
async def token_command(  # noqa: PLR0913, PLR0917
    file: SettingsFile,
    user: Annotated[str, typer.Option(metavar="USER", help="Who may come: USER, DOMAIN\\USER or USER@SUFFIX.")],
    target: Annotated[str, typer.Option(metavar="NAME", help="The target, by its name in the settings.")],
    ttl: Annotated[
        float, typer.Option(metavar="TIME", parser=_duration, help="The time to use it in: 60s, 5m, 1h.")
    ] = "60s",  # type: ignore[assignment]
    uses: Annotated[int, typer.Option(min=1, metavar="N", help="How often it may be used.")] = 1,
    window: Annotated[
        float,
        typer.Option(metavar="TIME", parser=_duration, help="How long after a use the same client may come again."),
    ] = "30s",  # type: ignore[assignment]
    rdp: Annotated[
        pathlib.Path | None, typer.Option(metavar="PATH", help="Write an .rdp file with it, signed by [rdp_file].")
    ] = None,
) -> None:
    """Issue a token for a user, through the store that nodes share, and print it: `loadbalanceinfo` of an .rdp file.

    Exit status: 0 it was issued; 2 the settings or options cannot be used; 4 the store does not take it.
    """
    from acredssp.proxy import settings, tokens  # noqa: PLC0415 - needs the extra
    from acredssp.proxy.plan import signer_of  # noqa: PLC0415
    from acredssp.rdp_file import rdp_file  # noqa: PLC0415

    read, problems = settings.read(file), settings.Problems()
    if rdp is not None and read.rdp_file is None:
        raise UsageError("--rdp: expected [rdp_file] in the settings")
    signer = signer_of(read.rdp_file, problems) if rdp and read.rdp_file else None
    problems.check()
    try:
        order = tokens.TokenOrder(user=user, target=target, ttl=ttl, uses=uses, window=window)
        order.check(read.targets)
    except ValueError as error:
        raise UsageError("; ".join(f"--{text}" for text in settings.in_words(error))) from None
    async with _store(read) as store:
        token = await order.issue(store)
    if rdp is None or read.rdp_file is None:
        print(token)  # noqa: T201
        return
    _write(rdp, rdp_file(read.rdp_file.address, token, user, signer))


@_command("kick", "End a user's connections at every node.")
async def kick_command(
    file: SettingsFile,
    user: Annotated[str, typer.Argument(metavar="USER", help="USER of any domain, DOMAIN\\USER or USER@SUFFIX.")],
) -> None:
    """End a user's connections at every node, say how many, and make the tokens void that the user was given.

    Exit status: 0 the nodes are told; 2 the settings cannot be used; 4 the store does not take it.
    """
    from acredssp.proxy import settings  # noqa: PLC0415 - needs the extra
    from acredssp.stores import Kick, entries_of  # noqa: PLC0415

    if not user:
        raise UsageError("USER: expected a name, got an empty text")
    read = settings.read(file)
    known = [Domains()]
    for users_file in (each.logon.users for each in read.listeners if each.logon.users):
        with contextlib.suppress(OSError, ValueError):  # the count must not keep a kick from the nodes
            known.append(Users.from_file(users_file).domains)
    async with _store(read) as store:
        ending = entries_of(await store.entries(), user, known)
        await store.kick(Kick(user=user))
    print(f"connections that end: {len(ending)}")  # noqa: T201


@_command("top", "Show connections, rates and refusals as they change.")
async def top_command(
    file: SettingsFile,
    node: Annotated[bool, typer.Option("--node", help="Show this node alone, though there is a store.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How often to look.")] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print what there is to see after one interval, and end.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object in a line after each interval.")] = False,
) -> None:
    """Show connections, rates, refusals and times as they change: of all nodes by [store], of one node by [admin].

    Exit status: 0 it was left, or --once; 2 the settings cannot be used; 4 --once or --json cannot read the figures.
    """
    from acredssp.cli import top  # noqa: PLC0415 - needs the extra
    from acredssp.proxy import settings, view  # noqa: PLC0415

    read = await asyncio.to_thread(settings.read, file)
    api, problems, secret = (read.api if read.api and read.api.certificate is None else None), settings.Problems(), ""
    with problems.at("api.secret"):
        secret = await asyncio.to_thread(api.secret.read) if api else ""
    problems.check()
    async with contextlib.AsyncExitStack() as stack:
        if read.store is not None and not node:
            look = view.through_store(await stack.enter_async_context(_store(read)))
        elif read.admin is not None:
            look = await stack.enter_async_context(
                view.through_http(read.admin.address, api.address if api else None, secret)
            )
        else:
            raise UsageError("expected [admin] in the settings, for one node, or [store], for all nodes")
        if not once and not as_json:
            await top.Top(look, interval, str(file)).run_async()
            return
        looks = top.Looks(look)
        try:
            await looks.view()
            while True:
                await asyncio.sleep(interval)
                shown = await looks.view()
                if as_json:
                    print(json.dumps(shown), flush=True)  # noqa: T201
                else:
                    top.show(shown)
                if once:
                    return
        except view.LookFailed as error:
            raise _failed(Result.NETWORK_ERROR, str(error)) from None


@proxy_app.command("keys", short_help="Print new keys for the store that nodes share.")
def keys_command() -> None:
    """Print new keys for [store] of the settings: a secret, which every node gets the same."""
    with _gateway():
        from acredssp.stores import new_keys  # noqa: PLC0415 - needs the extra

        print(new_keys(), end="")  # noqa: T201
