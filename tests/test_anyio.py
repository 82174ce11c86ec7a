"""acredssp.anyio: logons on trio and on asyncio, and their ends. The page about it has the first program."""

import asyncio
import contextlib
import logging
import threading

import anyio
import pytest
from support.endpoints import BOB, PanicError, client_config, server_config
from support.pages import ROOT, blocks_of

import acredssp
from acredssp.anyio import SecureStream, open_connection, start_credssp
from acredssp.policy import MechanismChoice

PAGE = "docs/anyio.md"
BLOCKS = [block for block in blocks_of(PAGE, (ROOT / PAGE).read_text(encoding="utf-8")) if block.language == "python"]
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
CARRIAGES = pytest.mark.parametrize("carriage", [acredssp.TLS(), acredssp.RDP()], ids=["tls", "rdp"])
WRONG = acredssp.Password("looking-glass", user="bob", domain="CONTOSO")


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The names of the page's program."""
    for name, data in zip(("server.pem", "server.key"), acredssp.self_signed(["localhost"], "ec"), strict=True):
        (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": PAGE}
    for block in BLOCKS:
        exec(block.compiled(), names)  # noqa: S102 - our own page
    return names


@contextlib.asynccontextmanager
async def listening(serve_one):
    """A listener whose connections this function gets; gives its port."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve_one)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - anyio's, not Django's
        tasks.cancel_scope.cancel()


def run(backend, client, config=None, carriage=acredssp.TLS(), serve=None):  # noqa: B008 - a frozen value
    """Run `client(port)` against a server, which sends back what it gets; gives (its result, the server's errors)."""
    errors, ends, config = [], [], config or server_config()

    async def serve_one(connection):
        try:
            stream = await start_credssp(connection, config, carriage=carriage)
            async with stream:
                await (serve or echo)(stream)
        except acredssp.CredSSPError as error:
            errors.append(error)
        finally:
            ends[0].set()

    async def main():
        ends.append(anyio.Event())
        async with listening(serve_one) as port:
            result = await client(port)
            await ends[0].wait()
            return result

    return anyio.run(main, backend=backend), errors


async def echo(stream):
    async for data in stream:
        await stream.send(data)


def connect(port, config=None, **options):
    return open_connection("localhost", port, config=config or client_config(), **options)


@BACKENDS
def test_the_program_of_the_page_logs_on_and_talks(page, backend, capsys):
    anyio.run(page["main"], backend=backend)
    assert capsys.readouterr().out == "CONTOSO\\alice said hello\n"


@BACKENDS
@CARRIAGES
def test_many_bytes_go_both_ways_at_once(backend, carriage):
    sent = bytes(range(256)) * 4096

    async def client(port):
        async with await connect(port, carriage=carriage) as stream, anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, sent)
            received = b""
            while len(received) < len(sent):
                received += await stream.receive(5000)
            return received, stream

    (received, stream), errors = run(backend, client, carriage=carriage)
    assert received == sent
    assert errors == []
    assert stream.info.version == 6
    assert isinstance(stream, SecureStream)


@BACKENDS
def test_a_direction_that_has_ended_lets_the_other_one_go_on(backend):
    async def serve(stream):
        data = b"".join([piece async for piece in stream])
        await stream.send(data[::-1])

    async def client(port):
        async with await connect(port) as stream:
            await stream.send(b"abc")
            await stream.send_eof()
            with pytest.raises(anyio.ClosedResourceError):
                await stream.send(b"more")
            return b"".join([piece async for piece in stream])

    assert run(backend, client, serve=serve) == (b"cba", [])


@BACKENDS
def test_the_server_gets_the_credentials_once(backend):
    taken = []

    async def serve(stream):
        taken.extend([stream.take_credentials(), stream.take_credentials()])
        assert stream.extra(anyio.abc.SocketAttribute.remote_address)[0] == "127.0.0.1"  # noqa: S610

    async def client(port):
        async with await connect(port) as stream:
            assert stream.take_credentials() is None
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()

    run(backend, client, serve=serve)
    assert [each and each.as_password() for each in taken] == [BOB, None]


@BACKENDS
def test_credentials_that_nobody_took_are_overwritten(backend):
    kept = []

    async def serve(stream):
        kept.append(stream._credentials)

    async def client(port):
        async with await connect(port) as stream:
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()

    run(backend, client, serve=serve)
    assert not any(bytes(kept[0].password))


@BACKENDS
def test_a_wrong_password_is_told_to_both_sides_and_logged(backend, caplog):
    async def client(port):
        with pytest.raises(acredssp.AuthenticationError) as caught:
            await connect(port, client_config(authenticate=WRONG))
        return caught.value

    with caplog.at_level(logging.INFO, "acredssp"):
        error, errors = run(backend, client)
    assert error.nt_status is acredssp.NTSTATUS.STATUS_LOGON_FAILURE
    assert [each.nt_status for each in errors] == [acredssp.NTSTATUS.STATUS_LOGON_FAILURE]
    [line] = [each.getMessage() for each in caplog.records]
    assert line.startswith("handshake with 127.0.0.1:")
    assert "failed: denied, claimed CONTOSO\\bob" in line


async def raises(_request):
    raise RuntimeError("the secret is rosebud")


async def panics(_request):
    raise PanicError("the secret is rosebud")


async def fails_late(_request):
    try:
        await anyio.sleep_forever()
    finally:
        raise PanicError("the secret is rosebud")


async def never(_request):
    await anyio.sleep_forever()


async def nothing(_request):
    await anyio.lowlevel.checkpoint()


@BACKENDS
@pytest.mark.parametrize(
    ("hook", "said"),
    [
        (raises, "raised RuntimeError"),
        (panics, "raised PanicError"),
        (never, "no answer"),
        (fails_late, "no answer"),
        (nothing, "None"),
    ],
)
@pytest.mark.parametrize(
    ("role", "refusal"), [("lookup", acredssp.AuthenticationError), ("authorize", acredssp.AccessDenied)]
)
def test_a_hook_that_fails_refuses(backend, hook, said, role, refusal, caplog):
    policy = acredssp.Policy(hook_timeout=0.05, authorize_timeout=0.05)

    async def client(port):
        with pytest.raises(acredssp.CredSSPError):
            await connect(port)

    _, errors = run(backend, client, server_config(policy, **{role: hook}))
    assert [type(each) for each in errors] == [refusal]
    [line] = [each.getMessage() for each in caplog.records if each.getMessage().startswith("hook ")]
    assert said in line
    assert "rosebud" not in caplog.text


@BACKENDS
def test_a_connection_that_is_cut_is_no_end(backend):
    async def serve(stream):
        await stream._stream.aclose()  # no close_notify

    async def client(port):
        async with await connect(port) as stream:
            with pytest.raises(anyio.BrokenResourceError) as caught:
                await stream.receive()
            return caught.value.__cause__

    cause, _ = run(backend, client, serve=serve)
    assert isinstance(cause, acredssp.PeerClosed)
    assert "without close_notify" in str(cause)


@BACKENDS
def test_a_record_that_was_changed_breaks_the_stream(backend):
    async def serve(stream):
        await stream._stream.send(bytes.fromhex("170303 0020") + bytes(32))
        with pytest.raises(anyio.BrokenResourceError) as caught:
            await stream.receive()
        told.append(caught.value.__cause__)

    async def client(port):
        async with await connect(port) as stream:
            with pytest.raises(anyio.BrokenResourceError) as caught:
                await stream.receive()
            return caught.value.__cause__

    told = []
    cause, _ = run(backend, client, serve=serve)
    assert isinstance(cause, acredssp.TLSError)
    assert "alert" in str(told[0]).lower()


class Stuck:
    """The end of a connection that takes the first bytes of a record, and no more."""

    def __init__(self, stream):
        self.stream, self.reached = stream, anyio.Event()

    async def send(self, item):
        await self.stream.send(item[:10])
        self.reached.set()
        await anyio.sleep_forever()

    async def aclose(self):
        await self.stream.aclose()


@BACKENDS
def test_a_call_that_is_cancelled_in_a_record_breaks_the_stream(backend):
    async def serve(stream):
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()

    async def client(port):
        stream = await connect(port)
        stream._stream = stuck = Stuck(stream._stream)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, b"hello")
            await stuck.reached.wait()
            tasks.cancel_scope.cancel()
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(b"more")
        await stream.aclose()

    run(backend, client, serve=serve)


@BACKENDS
def test_a_peer_that_leaves_ends_the_handshake(backend):
    async def leave(connection):
        async with connection:
            await connection.receive()

    async def main():
        async with listening(leave) as port:
            with pytest.raises(acredssp.PeerClosed):
                await connect(port)

    anyio.run(main, backend=backend)


@BACKENDS
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_deadline_or_a_cancellation_ends_the_handshake(backend, side, caplog):
    policy = acredssp.Policy(handshake_timeout=0.05)

    async def stay(connection):
        async with connection:
            await anyio.sleep_forever()

    async def main():
        async with listening(stay) as port:
            stream = await anyio.connect_tcp("localhost", port)
            config = client_config(policy) if side == "client" else server_config(policy)
            with pytest.raises(acredssp.HandshakeTimeout):
                await start_credssp(stream, config, server_hostname="localhost")
            with pytest.raises(anyio.ClosedResourceError):
                await stream.send(b"x")
            stream = await anyio.connect_tcp("localhost", port)
            config = client_config() if side == "client" else server_config()
            with anyio.move_on_after(0.05) as scope:
                await start_credssp(stream, config, server_hostname="localhost")
            assert scope.cancelled_caught
            with pytest.raises(anyio.ClosedResourceError):
                await stream.send(b"x")

    with caplog.at_level(logging.INFO, "acredssp"):
        anyio.run(main, backend=backend)
    outcomes = [each.getMessage().partition(" failed: ")[2].partition(",")[0] for each in caplog.records]
    assert outcomes == (["timeout", "aborted"] if side == "server" else [])


@BACKENDS
def test_wrong_arguments_are_refused_before_anything_is_sent(backend):
    one, _ = anyio.create_memory_object_stream(1)

    async def main():
        with pytest.raises(TypeError, match="config: expected ClientConfig or ServerConfig, got str"):
            await start_credssp(one, "no configuration")
        with pytest.raises(ValueError, match="server_hostname: expected a name"):
            await start_credssp(one, client_config())
        with pytest.raises(TypeError, match="config: expected ClientConfig, got ServerConfig"):
            await open_connection("localhost", 1, config=server_config())

    anyio.run(main, backend=backend)
    one.close()
    _.close()


@CARRIAGES
def test_a_client_on_trio_logs_on_to_a_server_on_asyncio(carriage):
    started, ports, ends = threading.Event(), [], []

    async def talk(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    async def serve():
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        server = await acredssp.start_server(talk, "127.0.0.1", 0, config=server_config(), carriage=carriage)
        async with server:
            ports.append(server.sockets[0].getsockname()[1])
            ends.append(lambda: loop.call_soon_threadsafe(end.set))
            started.set()
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    started.wait()

    async def client():
        async with await connect(ports[0], carriage=carriage) as stream:
            await stream.send(b"hello\n")
            return b"".join([piece async for piece in stream])

    try:
        assert anyio.run(client, backend="trio") == b"hello\n"
    finally:
        ends[0]()
        thread.join()


@BACKENDS
@pytest.mark.interop
def test_kerberos_runs_in_threads(backend, kerberos):
    policy = acredssp.Policy(mechanism=MechanismChoice.KERBEROS)
    server = server_config(policy, lookup=None, keytab=acredssp.Keytab(str(kerberos.keytab)))
    ticket = client_config(policy, authenticate=acredssp.TicketCache(kerberos.log_on()))

    async def client(port):
        async with await connect(port, ticket) as stream:
            return stream.info.mechanism

    assert run(backend, client, server) == ("kerberos", [])


@BACKENDS
@pytest.mark.interop
def test_a_silent_kdc_ends_the_logon_at_its_time_limit(backend, silent_kdc):
    policy = acredssp.Policy(mechanism=MechanismChoice.KERBEROS, kerberos_timeout=0.05)
    config = client_config(policy, authenticate=acredssp.Password("x", "alice", "ACREDSSP.TEST"))

    async def client(port):
        with pytest.raises(acredssp.AuthenticationError, match=r"no kdc answered within 0\.05 seconds"):
            await connect(port, config)
        silent_kdc.close()  # ends the thread

    run(backend, client)


def test_the_module_is_as_short_as_the_page_says():
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    lines = (ROOT / "acredssp" / "anyio.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 300
    assert f"The module has {len(lines)} lines" in text
    code = [line for block in BLOCKS for line in block.code.splitlines() if line.strip()]
    assert f"the program above {len(code)}." in text
