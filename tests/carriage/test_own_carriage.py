"""A carriage that is no part of the package: the one of docs/carriages.md, on the public names alone."""

import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from support.endpoints import BOB, client_config, server_config

import acredssp

PAGE = (Path(__file__).parents[2] / "docs" / "carriages.md").read_text(encoding="utf-8")
(SOURCE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
USE = """

import acredssp
from acredssp.carriage import Carriage

carriage: Carriage = StartTLS()


async def connect(config: acredssp.ClientConfig) -> None:
    await acredssp.open_connection("localhost", 1, config=config, carriage=StartTLS())
"""


@pytest.fixture(scope="module")
def starttls():
    module = types.ModuleType("starttls")
    exec(compile(SOURCE, "carriages.md", "exec"), vars(module))  # noqa: S102 - our own page
    return module


def check(tmp_path, source):
    file = tmp_path / "starttls.py"
    file.write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)


def test_a_type_checker_takes_it_for_a_carriage(tmp_path):
    done = check(tmp_path, SOURCE + USE)
    assert done.stdout.startswith("Success"), done.stdout


def test_a_type_checker_misses_what_the_contract_asks_for(tmp_path):
    done = check(tmp_path, SOURCE.replace("def heard_all", "def heard_nothing") + USE)
    assert "heard_all" in done.stdout


async def test_a_handshake_passes_over_it(starttls):
    told = []

    async def serve(reader, writer):
        told.append((writer.get_extra_info("starttls"), acredssp.take_credentials(writer).as_password()))
        writer.write(await reader.readline())
        writer.close()

    carriage = starttls.StartTLS()
    server = await acredssp.start_server(serve, "localhost", 0, config=server_config(), carriage=carriage)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await acredssp.open_connection("localhost", port, config=client_config(), carriage=carriage)
        writer.write(b"hello\n")
        assert await reader.read() == b"hello\n"
        writer.close()
        await writer.wait_closed()
    assert told == [(True, BOB)]


def sides(starttls):
    context = client_config().new_context(server_hostname="localhost", spn="TERMSRV/localhost")
    return starttls.StartTLS().initiator(context), starttls.StartTLS().acceptor(server_config())


def test_the_lines_are_taken_at_any_cut(starttls):
    client, server = sides(starttls)
    asked = client.step().output
    for cut in range(len(asked)):
        result = server.step(asked[:cut])
        assert (result.missing, result.extra, result.output) == (len(asked) - cut, cut, b"")
    agreed = server.step(asked).output
    for cut in range(len(agreed)):
        assert client.step(agreed[:cut]).missing == len(agreed) - cut
    assert client.step(agreed).output[0] == 22, "a record of the TLS handshake"


@pytest.mark.parametrize("data", [b"HELLO\r\n", b"STARTTLS\r\n\x16\x03\x01", b"OK\r\n"])
def test_other_bytes_end_it_for_good_and_nothing_of_tls_goes_out(starttls, data):
    _, server = sides(starttls)
    with pytest.raises(acredssp.RemoteProtocolError) as first:
        server.step(data)
    with pytest.raises(acredssp.RemoteProtocolError) as second:
        server.step(b"STARTTLS\r\n")
    assert second.value is first.value
    assert server.farewell == server.last_token == b""


async def test_a_server_without_it_is_named(starttls):
    server = await acredssp.start_server(lambda reader, writer: None, "localhost", 0, config=server_config())
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(acredssp.CredSSPError, match="starttls"):
            await acredssp.open_connection("localhost", port, config=client_config(), carriage=starttls.StartTLS())
