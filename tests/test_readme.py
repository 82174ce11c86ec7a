"""The README and what it was too short for say what is so: examples run, tables and names are those of the tree."""

import asyncio
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.command import told
from support.endpoints import CERTIFICATE, client_config, server_config
from support.mcs import FREERDP_3, SHADOW
from support.peers import DEADLINE, free_port, listens, wait_until

import acredssp
from acredssp import rdp
from acredssp.cli.outcome import EXIT_STATUS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

USING, COMMANDS, DEFAULTS = (
    (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("using.md", "commands.md", "defaults.md")
)

SERVER, CLIENT, HTTP_SERVE, HTTP_ASK, GATEWAY, HTTP_SERVER, HTTP_CLIENT = re.findall(
    r"```python\n(.*?)```", README + USING, re.DOTALL
)


def section(page, title):
    return re.split(r"\n##", page.split(f"\n{title}\n")[1])[0]


def rows(page, title):
    """The cells of a section's table, without its head."""
    lines = [line for line in section(page, title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def words(text):
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


def python(*arguments):
    return [sys.executable, "-X", "dev", "-W", "error", *arguments]


@pytest.fixture
def folder(tmp_path):
    for name, data in zip(("server.pem", "server.key"), acredssp.self_signed(["localhost"]), strict=True):
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_the_examples_talk_to_each_other(folder):
    port = free_port()
    server, client = (python("-u", "-c", code.replace("3390", str(port))) for code in (SERVER, CLIENT))
    with subprocess.Popen(server, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: listens(port), "the server listens")
            done = subprocess.run(client, cwd=folder, capture_output=True, text=True, timeout=DEADLINE, check=False)
            assert process.stdout.readline() == "CONTOSO\\alice is here\n"
        finally:
            process.terminate()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("HandshakeInfo(version=6, mechanism='ntlm'")
    assert done.stdout.endswith("hello\n\n")
    assert told(done.stderr) == []


def test_the_examples_over_http_talk_to_each_other(folder):
    port = free_port()
    lookup = SERVER[SERVER.index("ACCOUNTS") : SERVER.index("async def echo")]
    code = HTTP_SERVER.replace("async def app", f"{lookup}async def app", 1)
    server, client = (python("-u", "-c", each.replace("5985", str(port))) for each in (code, HTTP_CLIENT))
    with subprocess.Popen(server, cwd=folder) as process:
        try:
            wait_until(lambda: listens(port), "the server listens")
            done = subprocess.run(client, cwd=folder, capture_output=True, text=True, timeout=DEADLINE, check=False)
        finally:
            process.terminate()
    assert (done.stdout, told(done.stderr)) == ("hello CONTOSO\\alice\n", [])


@pytest.fixture
def over_http(folder):
    """The README's functions for HTTP, the account and the trust of its client, and the port."""
    names, port = {"acredssp": acredssp}, free_port()
    exec(f"{HTTP_SERVE}\n{HTTP_ASK}".replace("5985", str(port)), names)  # noqa: S102 - our own
    account = acredssp.Password("wonderland", user="alice", domain="CONTOSO")
    context = acredssp.server_context(acredssp.Policy(), *(str(folder / f"server.{name}") for name in ("pem", "key")))
    config = acredssp.ServerConfig(ssl_context=context, lookup=lambda _request: account)
    return names["serve"](config), names["ask"](account, acredssp.Trust.from_file(str(folder / "server.pem"))), port


async def test_both_ends_over_http_talk_to_each_other(over_http):
    serving, asking, port = over_http
    server = asyncio.create_task(serving)
    try:
        await asyncio.to_thread(wait_until, lambda: listens(port), "the server listens")
        assert (await asking).text == "hello CONTOSO\\alice"
    finally:
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)


@pytest.fixture
def gateway(tmp_path):
    """The functions of the page's gateway, whose target has the certificate of these tests."""
    file, names = tmp_path / "target.pem", {}
    file.write_bytes(CERTIFICATE)
    exec(compile(GATEWAY.replace('"target.pem"', repr(str(file))), "docs/using.md", "exec"), names)  # noqa: S102 - our own
    return names


async def test_the_gateway_logs_its_client_on_to_the_target_and_relays(gateway, monkeypatch):
    """The target echoes what is behind the first PDU of each side."""
    heard, relayed = [], asyncio.Event()

    async def target(reader, writer):
        heard.append(await rdp.read_pdu(reader))
        writer.write(SHADOW)
        writer.write(await reader.readline())
        writer.close()

    target_server = await acredssp.start_server(target, "localhost", 0, config=server_config(), carriage=acredssp.RDP())
    port, connect = target_server.sockets[0].getsockname()[1], acredssp.open_connection

    async def connect_to_the_target(host, page_port, **options):
        return await connect(host, port if page_port == 3391 else page_port, **options)

    monkeypatch.setattr(acredssp, "open_connection", connect_to_the_target)

    async def serve(reader, writer):
        await gateway["serve"](reader, writer)
        relayed.set()

    config = server_config(admit=gateway["admit"])
    carriage = acredssp.RDP(hybrid_ex=True)
    front = await acredssp.start_server(
        serve, "localhost", 0, config=config, carriage=carriage, accept=lambda peer_address: {}
    )
    async with target_server, front:
        reader, writer = await acredssp.open_connection(
            "localhost", front.sockets[0].getsockname()[1], config=client_config(), carriage=carriage
        )
        writer.write(FREERDP_3 + b"hello\n")
        answer = await rdp.read_pdu(reader)
        assert await reader.read() == b"hello\n"
        writer.close()
        await relayed.wait()
    assert heard == [rdp.rewrite_selected_protocol(FREERDP_3, rdp.Protocols.HYBRID)] != [FREERDP_3]
    both = rdp.Protocols.SSL | rdp.Protocols.HYBRID | rdp.Protocols.HYBRID_EX
    assert answer == rdp.rewrite_requested_protocols(SHADOW, both)


def test_the_extras_are_those_of_the_package():
    extras = {words(cell)[0] for cell, _ in rows(README, "## Install")}
    assert extras == set(PROJECT["project"]["optional-dependencies"]) - {
        "bench",
        "dev",
        "docs",
        "fuzz",
        "mutation",
        "release",
    }


def test_the_exit_statuses_are_those_of_the_command():
    told = {result: int(status) for status, results, _ in rows(COMMANDS, "## login") for result in words(results)}
    assert told == {result.value: status for result, status in EXIT_STATUS.items()}


@pytest.mark.parametrize("command", ["login", "serve"])
def test_every_option_named_is_one(command):
    run = subprocess.run(
        python("-m", "acredssp", command, "--help"),
        env=os.environ | {"COLUMNS": "200"},  # so that no option is cut in two
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    named = set(re.findall(r"--[a-z][a-z-]+", section(COMMANDS, f"## {command}")))
    assert named
    assert {option for option in named if option not in run.stdout} == set()


def test_every_target_named_is_one():
    named = {word.split()[1] for word in words(README) if word.startswith("make ")}
    named |= set(re.findall(r"^    make (\w+)", README, re.MULTILINE))
    assert named
    assert {target for target in named if not re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)} == set()


def test_every_policy_named_is_one():
    calls = re.findall(r"Policy\(([^`]*)\)", DEFAULTS)
    assert calls
    for call in calls:
        for option in re.findall(r"(\w+)=", call):
            assert option in acredssp.Policy.__dataclass_fields__


def test_it_is_short_enough_to_be_read():
    assert len(README.splitlines()) <= 170


def test_every_file_linked_is_there():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
