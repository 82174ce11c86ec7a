"""The client of WinRM over httpx, against the toy service behind HTTP and CredSSP."""

import asyncio
import contextlib

import pytest
from support import endpoints
from support.pages import blocks
from support.peers import free_port
from support.wsman_http import app_of
from support.wsman_toy import Toy, greet, upper

from acredssp.credentials import Password
from acredssp.errors import AuthenticationError, LocalProtocolError, NegotiationFailure, RemoteProtocolError
from acredssp.http.server import start_http_server
from acredssp.winrm import CommandShell, NotSent, OutcomeUnknown
from acredssp.winrm.errors import OPERATION_TIMED_OUT

http_toy = pytest.importorskip("support.http_toy", exc_type=ImportError)
connect = pytest.importorskip("acredssp.winrm.httpx", exc_type=ImportError).connect

EXAMPLE = next(block for block in blocks() if block.page == "docs/winrm.md" and "CommandShell" in block.first)
BY_AIOHTTP = next(block for block in blocks() if block.page == "docs/winrm.md" and "aiohttp" in block.first)
AT_ONCE = {"first_delay": 0}
TIMED_OUT = f"""<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault><s:Detail>
<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="{OPERATION_TIMED_OUT}"/>
</s:Detail></s:Fault></s:Body></s:Envelope>""".encode()

# Made at import, since making a context reads files, which no test may do on its loop.
CONFIG = http_toy.client_config()
SERVER = endpoints.server_config(lookup=http_toy.lookup)
WRONG = http_toy.client_config(authenticate=Password("wrong", "bob", "CONTOSO"))


async def echo(process):
    process.write("stdout", " ".join(process.arguments).encode())
    return 0


async def ping(process):
    process.write("stdout", b"Pinging")
    await process.interrupted.wait()
    return 0


PROGRAMS = {"greet": greet, "echo": echo, "ping": ping, "ipconfig": greet, "upper": upper}


@contextlib.asynccontextmanager
async def service(**options):
    """The toy, and the HTTP server in front of it."""
    toy = Toy(PROGRAMS)

    async def answer(asked):
        try:
            status, envelope = await toy.post(asked.body)
        except ConnectionError:
            return None
        return status, envelope, True

    async with http_toy.Toy(answer=answer, **options) as server:
        try:
            yield toy, server
        finally:
            await toy.aclose()


@contextlib.asynccontextmanager
async def shell_of(server, **options):
    client = connect(server.url, CONFIG, ssl_context=http_toy.TRUSTING, wsman=AT_ONCE, **options)
    async with client as wsman, await CommandShell.open(wsman) as shell:
        yield shell


async def test_a_command_runs_over_one_connection_that_is_logged_on():
    async with service() as (toy, server), shell_of(server) as shell:
        done = await shell.run("greet")
        assert (done.exit_code, done.stdout, done.stderr) == (3, "hello\r\n", "oh\r\n")
        assert server.connections == 1
        assert {(asked.user, asked.method, asked.target) for asked in server.served} == {("bob", "POST", "/wsman")}
        assert {asked.content_type for asked in server.served} == {"application/soap+xml;charset=UTF-8"}
    assert toy.shells == {}


@pytest.mark.parametrize("forged", ["fault", "nothing"])
async def test_a_fault_in_plain_is_no_word_of_the_service(forged):
    """Somebody in between keeps what a command wrote, and says in plain that it wrote nothing yet."""
    kept = []

    async def answer(asked):
        status, envelope = await toy.post(asked.body)
        if b"shell/Receive<" in asked.body and not kept:
            kept.append(envelope)
            return 500, TIMED_OUT if forged == "fault" else b"", False
        return status, envelope, True

    toy = Toy(PROGRAMS)
    async with http_toy.Toy(answer=answer) as server:
        async with shell_of(server) as shell:
            with pytest.raises(
                RemoteProtocolError, match="expected http status 200 and an envelope, got http status 500"
            ):
                await shell.run("greet")
        await toy.aclose()
    assert kept


async def test_a_command_runs_at_the_package_s_own_server():
    toy = Toy(PROGRAMS)
    server = await start_http_server(app_of(toy), "127.0.0.1", 0, config=SERVER, ssl=http_toy.OUTER.context)
    try:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/wsman"
        client = connect(url, CONFIG, ssl_context=http_toy.TRUSTING)
        async with server, client as wsman, await CommandShell.open(wsman) as shell:
            done = await asyncio.gather(shell.run("greet"), shell.run("upper", stdin=b"a" * 300_000))
    finally:
        await toy.aclose()
    assert [each.exit_code for each in done] == [3, 0]
    assert done[1].stdout == "A" * 300_000
    assert toy.principals == {"CONTOSO\\bob"}


async def test_a_command_runs_over_https():
    async with service(tls=http_toy.OUTER.context) as (_, server), shell_of(server) as shell:
        assert (await shell.run("greet")).exit_code == 3


async def test_a_signal_goes_over_another_connection_while_output_is_waited_for():
    async with service() as (_, server), shell_of(server) as shell:
        command = await shell.start("ping")
        async for output in command:
            assert output.text == "Pinging"
            await command.interrupt()
        await command.aclose()
        assert command.exit_code == 0


async def test_large_input_goes_as_sealed_bodies():
    async with service() as (_, server), shell_of(server) as shell:
        assert (await shell.run("upper", stdin=b"a" * 500_000)).stdout == "A" * 500_000


async def test_commands_at_once_do_not_mix():
    async with service() as (toy, server), shell_of(server) as shell:
        words = [f"word-{number}" for number in range(20)]
        done = await asyncio.gather(*(shell.run("echo", word) for word in words))
        assert [each.stdout for each in done] == words
        assert sorted(toy.started) == sorted(f"echo {word}" for word in words)


@pytest.mark.parametrize("when", ["before", "while", "after"])
async def test_a_connection_lost_during_receive_loses_no_output_and_runs_no_command_twice(when):
    async with service() as (toy, server), shell_of(server) as shell:
        toy.lose("Receive", when)
        done = await shell.run("greet")
        assert (done.exit_code, done.stdout, done.stderr, done.may_lack_output) == (3, "hello\r\n", "oh\r\n", False)
        assert toy.started == ["greet"]
        assert server.connections == 2


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_connection_lost_while_a_command_starts_runs_it_at_most_once(when):
    async with service() as (toy, server), shell_of(server) as shell:
        toy.lose("Command", when)
        if when == "after":
            assert (await shell.run("greet")).exit_code == 3
        else:
            with pytest.raises(OutcomeUnknown):
                await shell.run("greet")
        assert toy.requests.count("Command") == 1


async def test_a_wrong_password_is_no_lost_connection():
    async with service() as (toy, server), connect(server.url, WRONG, wsman=AT_ONCE) as wsman:
        with pytest.raises(AuthenticationError):
            await CommandShell.open(wsman)
        assert toy.requests == []


async def test_a_server_that_nobody_runs_gets_nothing():
    async with connect(f"http://localhost:{free_port()}/wsman", CONFIG) as wsman:
        with pytest.raises(NotSent, match="cannot connect to http://localhost:"):
            await wsman.identify()


async def test_a_server_without_credssp_is_told_by_what_it_offers():
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"http://localhost:{port}/wsman", CONFIG) as wsman:
            with pytest.raises(NegotiationFailure, match="got Negotiate"):
                await wsman.identify()


async def test_the_example_of_the_documentation_runs(capsys):
    names = {}
    exec(EXAMPLE.compiled(), names)  # noqa: S102 - our own page
    async with service() as (toy, server):
        names["connect"] = lambda url, config: connect(server.url, config)
        await names["main"](CONFIG)
    assert capsys.readouterr().out == "3 hello\r\n\nstdout Pinging\n"
    assert toy.started == ["ipconfig /all", "ping -t localhost"]


async def test_the_example_for_aiohttp_runs(capsys):
    names = {}
    exec(BY_AIOHTTP.compiled(), names)  # noqa: S102 - our own page
    async with service() as (toy, server):
        await names["main_by_aiohttp"](CONFIG, server.url)
    assert capsys.readouterr().out == "3 hello\r\n\n"
    assert toy.started == ["ipconfig /all"]


async def test_the_example_for_aiohttp_tells_what_was_not_sent():
    names = {}
    exec(BY_AIOHTTP.compiled(), names)  # noqa: S102 - our own page
    with pytest.raises(NotSent, match="nothing listens there"):
        await names["main_by_aiohttp"](CONFIG, f"http://localhost:{free_port()}/wsman")


async def test_a_client_that_is_used_behind_its_block_sends_nothing():
    async with service() as (_, server):
        async with connect(server.url, CONFIG) as wsman:
            pass
        with pytest.raises(LocalProtocolError, match="the client of the service is closed: nothing was sent"):
            await wsman.identify()
        assert server.connections == 0


async def test_a_client_without_async_with_says_how_it_is_made():
    with pytest.raises(TypeError, match=r"expected `async with connect\(url, config\) as wsman:`.*, got `await`"):
        await connect("http://localhost:1/wsman", CONFIG)
    with pytest.raises(
        AttributeError, match=r"expected `async with connect\(url, config\) as wsman:`, got `.identify`"
    ):
        _ = connect("http://localhost:1/wsman", CONFIG).identify
