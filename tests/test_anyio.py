"""The page about anyio: its program logs on on trio and on asyncio, and ends as it should when a logon fails."""

import anyio
import pytest
from support.pages import ROOT, blocks_of

import acredssp

PAGE = "docs/anyio.md"
BLOCKS = [block for block in blocks_of(PAGE, (ROOT / PAGE).read_text(encoding="utf-8")) if block.language == "python"]
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
WRONG = acredssp.Password("looking-glass", user="alice", domain="CONTOSO")


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


def served(page, client, backend):
    """Run a client of the page's server: `client(host, port)`."""

    async def main():
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, page["serve_one"])
            try:
                port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - anyio's, not Django's
                return await client("localhost", port)
            finally:
                tasks.cancel_scope.cancel()

    return anyio.run(main, backend=backend)


@BACKENDS
def test_the_program_logs_on_and_talks(page, backend, capsys):
    anyio.run(page["main"], backend=backend)
    assert capsys.readouterr().out == "CONTOSO\\alice said hello\n"


@BACKENDS
def test_a_wrong_password_is_told_to_both_sides(page, backend):
    config = acredssp.ClientConfig(authenticate=WRONG, trust=page["client"].trust)

    async def client(host, port):
        with pytest.raises(acredssp.AuthenticationError) as error:
            await page["open_credssp"](host, port, config)
        return error.value

    assert served(page, client, backend).nt_status is acredssp.NTSTATUS.STATUS_LOGON_FAILURE


@BACKENDS
def test_a_peer_that_leaves_ends_the_handshake(page, backend):
    async def leave(stream):
        async with stream:
            await stream.receive()

    page["serve_one"] = leave

    async def client(host, port):
        with pytest.raises(acredssp.PeerClosed):
            await page["open_credssp"](host, port)

    served(page, client, backend)


@BACKENDS
def test_a_deadline_ends_the_handshake_and_forgets_its_secrets(page, backend):
    async def stay(stream):
        async with stream:
            await anyio.sleep_forever()

    page["serve_one"] = stay

    async def client(host, port):
        stream = await anyio.connect_tcp(host, port)
        context = page["client"].new_context(server_hostname=host, spn=f"TERMSRV/{host}")
        with pytest.raises(TimeoutError):
            await page["log_on"](stream, context, None, 0.01)
        with pytest.raises(acredssp.HandshakeAborted):
            context.step()

    served(page, client, backend)


def test_the_logon_is_as_short_as_the_page_says():
    code = [line for line in BLOCKS[0].code.splitlines() if line.strip() and '"""' not in line]
    assert len(code) <= 70
