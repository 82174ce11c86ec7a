"""Every block of code in the README and in docs/ is run, or held against what the program really prints.

A new block needs a line here: a function that runs it, the test elsewhere that runs it, or why nothing does.
"""

import ast
import asyncio
import builtins
import configparser
import contextlib
import functools
import inspect
import json
import logging
import os
import re
import shlex
import ssl
import subprocess
import tomllib
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import httpx
import pytest
from support import tutorial
from support.command import COMMAND
from support.endpoints import BOB, CERTIFICATE, KEY, client_config, server_config
from support.mcs import FREERDP_3, SHADOW
from support.pages import ROOT, blocks, blocks_of
from support.peers import DEADLINE, Lab, free_port, wait_until
from support.requirements import List, requirements_of
from support.samba import MEMBER_CONF
from typer.main import get_command

import acredssp
from acredssp import rdp
from acredssp.aio.failures import FailureLimit, Failures
from acredssp.aio.report import HandshakeOutcome, HandshakeReport, log_report
from acredssp.cli.app import command_line
from acredssp.cli.options import RDP_PORT
from acredssp.delegation import DelegationPolicy
from acredssp.hosts import HostPool
from acredssp.mechanisms.base import Principal
from acredssp.status import Stage
from acredssp.stores import LockoutRule, MemoryStore
from acredssp.winrm import NotSent, OutcomeUnknown
from acredssp.workers import Address

BLOCKS = [block for block in blocks() if block.page not in tutorial.PAGES]  # tests/test_tutorial.py runs all of those

ELSEWHERE = {
    ("docs/anyio.md", ""): "tests/test_anyio.py::test_the_program_of_the_page_logs_on_and_talks",
    ("README.md", "import asyncio"): "tests/test_readme.py::test_the_examples_talk_to_each_other",
    ("README.md", "from acredssp.http.server"): "tests/test_readme.py::test_both_ends_over_http_talk_to_each_other",
    ("README.md", "import httpx"): "tests/test_readme.py::test_both_ends_over_http_talk_to_each_other",
    (
        "docs/using.md",
        "import asyncio",
    ): "tests/test_readme.py::test_the_examples_over_http_talk_to_each_other",
    (
        "docs/using.md",
        "import acredssp",
    ): "tests/test_readme.py::test_the_gateway_logs_its_client_on_to_the_target_and_relays",
    (
        "docs/gateway-tutorial.md",
        "ACL SETUSER",
    ): "tests/stores/test_redis.py::test_nothing_lies_there_in_plain_and_every_key_has_an_end",
    ("docs/architecture.md", "stateDiagram-v2"): "tests/test_architecture.py::test_the_picture_is_the_table",
    ("docs/carriages.md", ""): "tests/carriage/test_own_carriage.py::test_a_handshake_passes_over_it",
    ("docs/domain.md", "import acredssp"): "tests/interop/test_samba.py::"
    "test_the_example_of_the_documentation_serves_users_of_the_domain",
    ("docs/gateway.md", "[[listeners]]"): "tests/proxy/test_check.py::"
    "test_an_example_of_the_documentation_names_nothing_that_there_is_not",
    ("docs/gateway-tutorial.md", "[[listeners]]"): "tests/proxy/test_check.py::"
    "test_an_example_of_the_documentation_names_nothing_that_there_is_not",
    ("docs/limits.md", "acredssp serve --listen"): "tests/interop/test_haproxy.py::"
    "test_freerdp_logs_on_through_haproxy_and_beside_it",
    ("docs/limits.md", "[Definition]"): "tests/cli/test_limits.py::"
    "test_the_filter_finds_the_address_of_a_guesser_and_no_other",
    ("docs/migration.md", ""): "tests/test_migration.py::test_the_page_runs_from_its_top_to_its_end",
    ("docs/policy.md", "# Passwords that somebody types"): "tests/delegation/test_toml.py::"
    "test_the_example_of_the_documentation_is_a_policy_and_names_every_setting",
    ("docs/releasing.md", "sha256sum"): "tests/test_release.py::test_sums_are_checked_as_the_page_says",
    ("docs/security.md", "other-service: no-borrowed-seals"): "tests/model/test_model.py::"
    "test_the_page_shows_the_attack_as_it_is_found",
    ("docs/sansio.md", ""): "tests/test_docs.py::test_the_blocks_of_a_page_are_one_program",
    ("docs/http.md", ""): "tests/test_docs.py::test_the_blocks_of_a_page_are_one_program",
    ("docs/tools.md", "fail_at"): "tests/cli/test_probe.py::test_the_example_of_the_documentation_is_a_policy",
    ("docs/turns.md", ""): "tests/test_docs.py::test_the_blocks_of_a_page_are_one_program",
    ("docs/security.md", '{"measured"'): "tests/test_security_page.py::test_the_example_of_the_page_is_figures",
    ("docs/testing.md", "from acredssp.testing import HostileClient"): "tests/testing/test_suites.py::"
    "test_the_attack_of_the_documentation_runs",
    ("docs/testing.md", "import spnego"): "tests/testing/test_suites.py::test_the_attack_of_the_documentation_runs",
    (
        "docs/testing.md",
        "import pytest",
    ): "tests/testing/test_suites.py::test_the_classes_of_the_documentation_are_tests",
    ("docs/testing.md", "import subprocess"): "tests/testing/test_suites.py::"
    "test_the_classes_of_the_documentation_are_tests",
    ("docs/winrm.md", "from acredssp.winrm import CommandShell"): "tests/winrm/test_httpx.py::"
    "test_the_example_of_the_documentation_runs",
    ("docs/winrm.md", "import aiohttp"): "tests/winrm/test_httpx.py::test_the_example_for_aiohttp_runs",
    ("docs/winrm.md", "python examples/winrm_server.py"): "tests/test_examples.py::"
    "test_a_server_without_arguments_listens_at_the_port_of_winrm",
    ("docs/winrm.md", "from acredssp.winrm.powershell"): "tests/winrm/test_powershell.py::"
    "test_the_example_of_the_documentation_runs",
}
"""(page, how a block begins): the test that runs it. No beginning: the test runs all Python of the page."""

NOT_RUN = {
    ("docs/conformance.md", "@pytest.mark.requirement"): "a test without its body",
    ("docs/http.md", "client"): "a drawing",
    ("docs/performance.md", "W = n"): "formulas, for people",
    ("docs/releasing.md", "gh attestation"): "asks the hosting service, and nothing is published yet",
    ("docs/security.md", "flowchart LR"): "a drawing",
}
"""(page, how a block begins): why nothing runs it."""

RUNS = {}
"""(page, how a block begins): the function that runs it. A coroutine function runs on every loop."""


def runs(page, start):
    """Have a function run the blocks of a page that begin so."""

    def register(function):
        RUNS[page, start] = function
        return function

    return register


def keys_of(block, table):
    starts = [key for key in table if key[0] == block.page and block.first.startswith(key[1])]
    return [key for key in starts if key[1] or block.language == "python"]


def evaluate(block, **names):
    """Run a block of Python, which may use these names and `acredssp`; return all names that there are then."""
    names["acredssp"] = acredssp
    exec(block.compiled(), names)  # noqa: S102 - our own page
    return names


async def await_(block, **names):
    """Run a block with an `await` outside of functions, as in a coroutine."""
    names["acredssp"] = acredssp
    awaitable = eval(block.compiled(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # noqa: S307 - our own page
    await awaitable
    return names


# --- commands ---

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def command_of(line):
    """The command at the front of a line: what it does may stand behind two spaces or more."""
    return re.split(r" {2,}", line.strip())[0]


def check_command(line):
    """Hold a line of a shell against the tree: its targets, extras and options are there."""
    words = shlex.split(re.sub(r"<[^>]+>", "VALUE", command_of(line)))
    while "=" in words[0]:  # a variable of the environment
        assert words.pop(0) == "HATCH_BUILD_HOOKS_ENABLE=1"
        assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]["enable-by-default"] is False
    match words:
        case ["make", target]:
            assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)
        case ["pip", "install", *options, package]:
            name, extras = re.fullmatch(r"(\w+)(?:\[([\w,]+)\])?", package).groups()
            assert (name, options) in [("acredssp", []), ("acredssp", ["--no-binary", "acredssp"])]
            assert set((extras or "cli").split(",")) <= set(PROJECT["project"]["optional-dependencies"])
        case ["acredssp", name, *arguments]:
            command = get_command(command_line()).commands[name]
            if hasattr(command, "commands"):
                command, arguments = command.commands[arguments[0]], arguments[1:]
            command.make_parser(command.context_class(command)).parse_args(arguments)
        case ["systemctl", *arguments]:  # the unit's own file has it, or names its service so
            unit = ROOT / "examples" / "deploy" / f"{arguments[-1]}.service"
            assert shlex.join(arguments) in unit.read_text(encoding="utf-8")
        case [program]:
            assert os.access(ROOT / program, os.X_OK)
        case _:
            pytest.fail(f"nothing knows how to check the command {line}")


@runs("README.md", "pip install")
@runs("README.md", "acredssp serve")
@runs("docs/contributing.md", "make ")
@runs("docs/gateway.md", "acredssp proxy")
@runs("docs/gateway-tutorial.md", "pip install")
@runs("docs/gateway-tutorial.md", "acredssp ")
@runs("docs/gateway-tutorial.md", "systemctl ")
@runs("docs/performance.md", "make ")
@runs("docs/performance.md", "HATCH_")
@runs("docs/policy.md", "acredssp login")
@runs("docs/tools.md", "acredssp ")
@runs("docs/winrm.md", "acredssp winrm")
def commands(block):
    for line in block.code.splitlines():
        check_command(line)


def files_of_the_tutorial():
    """The files and the credentials that the settings of its two nodes name."""
    text = "".join(each.code for each in BLOCKS if each.page == "docs/gateway-tutorial.md" and each.language == "toml")
    return set(re.findall(r'"([\w-]+\.(?:pem|key|users))"', text)), set(re.findall(r'"credential:([\w-]+)"', text))


@runs("docs/gateway-tutorial.md", "(umask 077;")
def a_command_whose_output_is_kept(block):
    command, file = re.fullmatch(r"\(umask 077; (.*) > ([\w-]+)\)", block.first).groups()
    check_command(command)
    assert file in files_of_the_tutorial()[1]


@runs("docs/gateway-tutorial.md", "useradd")
def the_files_of_the_service(block):
    """The service's user is the unit's; it gets the files of the settings, and root keeps the credentials."""
    files, credentials = files_of_the_tutorial()
    useradd, _, chown, chmod, chmod_600 = (shlex.split(line) for line in block.code.splitlines())
    assert f"User={useradd[-1]}\n" in (ROOT / "examples/deploy/acredssp-proxy.service").read_text(encoding="utf-8")
    assert set(chown[2:]) == set(chmod[2:]) == files | {"gateway.toml"}
    assert set(chmod_600[2:]) == credentials


@runs("docs/gateway-tutorial.md", "LoadCredential=")
def the_credentials_of_the_service(block):
    found = re.findall(r"^LoadCredential=([\w-]+):/etc/acredssp/\1$", block.code, re.MULTILINE)
    assert len(found) == len(block.code.splitlines())
    assert set(found) == files_of_the_tutorial()[1]


@runs("docs/gateway-tutorial.md", "export CREDENTIALS_DIRECTORY")
def a_command_that_is_told_where_credentials_lie(block):
    _, command = block.code.splitlines()
    check_command(command)


@runs("docs/commands.md", "acredssp demo")
def the_command_line(block):
    commands(block)
    demo = [COMMAND, *command_of(block.first).split()[1:]]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@runs("docs/commands.md", "# blank lines")
def the_users_file(block):
    """Its alice logs on by the page's own commands, and so does bob, of any domain."""
    (listing,) = [each for each in BLOCKS if each.page == block.page and each.first.startswith("acredssp demo")]
    serve, login = (
        next(command_of(line) for line in listing.code.splitlines() if line.startswith(f"acredssp {name} "))
        for name in ("serve", "login")
    )
    port = free_port()
    users = Path("users.txt")
    users.touch(0o600)  # else the server warns of it
    users.write_text(block.code, encoding="utf-8")
    lab = Lab(Path.cwd())
    server = lab.start_server([COMMAND, *shlex.split(serve.replace("3390", str(port)))[1:]], port)
    try:
        pin = wait_until(lambda: re.search(r"key pin (\w+)", server.read()), "the server tells its pin")[1]
        _, *alice = shlex.split(login.replace("3390", str(port)).replace("<key pin>", pin))
        bob = [{"alice": "bob", "CONTOSO": "ANY"}.get(word, word) for word in alice]
        for arguments, account in (alice, "CONTOSO:alice:"), (bob, ":bob:"):
            secret = re.search(f"^{account}(.*)$", block.code, re.MULTILINE)[1]
            argv = [COMMAND, *arguments, "--password-stdin"]
            subprocess.run(argv, input=secret, capture_output=True, text=True, timeout=DEADLINE, check=True)
    finally:
        lab.stop()


# --- configurations and lines of logs ---


@runs("docs/domain.md", "[global]")
def the_members_file(block):
    assert set(block.code.splitlines()) <= set(MEMBER_CONF.splitlines())


@runs("docs/limits.md", "[acredssp]")
def the_jail(block):
    jail = configparser.ConfigParser()
    jail.read_string(block.code)
    page = (ROOT / block.page).read_text(encoding="utf-8")
    assert f"`/etc/fail2ban/filter.d/{jail['acredssp']['filter']}.conf`" in page
    assert f"StandardOutput=append:{jail['acredssp']['logpath']}`" in page
    assert jail["acredssp"]["port"] == str(RDP_PORT)


@runs("docs/limits.md", "WARNING acredssp: too many")
def the_lines_of_a_wait(block, caplog):
    now, timers = [0.0], []
    failures = Failures(FailureLimit(1, 600.0), lambda: now[0], lambda when, act: timers.append((when, act)))
    failures.failed("192.0.2.7", Principal("bob", ""))
    ((now[0], act),) = timers
    act()
    written = [logging.Formatter("%(levelname)s %(name)s: %(message)s").format(record) for record in caplog.records]
    assert written == block.code.splitlines()


@runs("docs/limits.md", "2026-11-29")
def the_line_of_a_handshake(block, caplog):
    page = (ROOT / block.page).read_text(encoding="utf-8")
    (form,) = re.findall(r'format="([^"]*)"', page)
    peer, error = ("192.0.2.7", 50123), acredssp.AuthenticationError("refused", stage=Stage.NEGO_TOKEN)
    with caplog.at_level(logging.INFO, "acredssp"):
        log_report(HandshakeReport(peer, error, None, Principal("bob", "CONTOSO"), outcome=HandshakeOutcome.DENIED))
    line = logging.Formatter(form).format(caplog.records[-1])
    told = re.escape(block.first.removesuffix("..."))
    assert re.match(re.sub(r"\d{4}\\-\d\d\\-\d\d\\ \d\d:\d\d:\d\d,\d{3}", r"[\\d-]+ [\\d:,]+", told), line), line


@runs("docs/policy.md", '{"event": "delegation"')
async def the_audit_record(block, caplog):
    """What a logon by the page's own policy writes."""
    (settings,) = [each.code for each in BLOCKS if each.page == block.page and each.language == "toml"]
    config = client_config(delegation=DelegationPolicy.from_toml(settings))
    with caplog.at_level(logging.INFO, "acredssp.audit"):
        async with served(server_config()) as (host, port):
            await leave(await acredssp.open_connection(host, port, config=config, spn="TERMSRV/host.example.com"))
    (record,) = [record for record in caplog.records if record.name == "acredssp.audit"]
    assert json.loads(record.getMessage()) == json.loads(block.code)


@runs("docs/conformance.md", "[[group.requirement]]")
def a_requirement(block):
    listed = List.load(f'title = "T"\n[[group]]\ntitle = "G"\n{block.code}')
    (requirement,) = requirements_of([listed])
    assert requirement.id == "codec.nonce"
    assert requirement.excuse


# --- programs ---


@contextlib.asynccontextmanager
async def served(config, client_connected=lambda _reader, writer: writer.close(), **options):
    """A server on this machine: its host and its port."""
    server = await acredssp.start_server(client_connected, "127.0.0.1", 0, config=config, **options)
    async with server:
        yield server.sockets[0].getsockname()[:2]


async def leave(streams):
    streams[1].close()
    await streams[1].wait_closed()


@runs("docs/accounts.md", "ALICE =")
async def a_lookup(block):
    names, seen = evaluate(block), []
    config = server_config(lookup=names["lookup"], admit=lambda who: seen.append(who.principal.account) or True)
    async with served(config) as address:
        for user, domain in ("alice", "CONTOSO"), ("alice@contoso.com", ""):
            password = acredssp.Password("wonderland", user, domain)
            await leave(await acredssp.open_connection(*address, config=client_config(authenticate=password)))
        with pytest.raises(acredssp.AuthenticationError):
            await acredssp.open_connection(*address, config=client_config())
    assert seen == [acredssp.Account("alice", "CONTOSO")] * 2


@runs("docs/kerberos.md", "config =")
def a_server_with_a_keytab(block):
    context = acredssp.server_context_from_pem(acredssp.Policy(), CERTIFICATE, KEY)
    assert evaluate(block, context=context)["config"].keytab == acredssp.Keytab("/etc/krb5.keytab")


@runs("docs/limits.md", "async def accept")
async def an_accept_hook(block):
    blocked = set()

    async def has(host):
        return host in blocked

    names = evaluate(block, blocklist=SimpleNamespace(has=has), Session=lambda address: ("session", address))
    seen = []

    def note(_reader, writer):
        seen.append(writer.get_extra_info("session"))
        writer.close()

    async with served(server_config(), note, accept=names["accept"]) as address:
        await leave(await acredssp.open_connection(*address, config=client_config()))
        blocked.add("127.0.0.1")
        with pytest.raises(acredssp.PeerClosed):
            await acredssp.open_connection(*address, config=client_config())
    ((name, address),) = seen
    assert (name, address[0]) == ("session", "127.0.0.1")


@runs("docs/limits.md", "from acredssp.rdp import FailureCode")
async def a_route_hook(block):
    async def find(token):
        return SimpleNamespace(server_config=server_config()) if token == "desks" else None

    route = evaluate(block, targets=SimpleNamespace(find=find))["route"]
    async with served(server_config(lookup=lambda _: acredssp.Deny()), carriage=acredssp.RDP(route=route)) as address:
        connect = functools.partial(acredssp.open_connection, *address, config=client_config())
        await leave(await connect(carriage=acredssp.RDP(routing_token="desks")))
        with pytest.raises(acredssp.NegotiationFailure, match="SSL_NOT_ALLOWED_BY_SERVER"):
            await connect(carriage=acredssp.RDP(routing_token="elsewhere"))


@runs("docs/policy.md", "from acredssp.delegation")
def a_delegation_policy(block):
    (settings,) = [each.code for each in BLOCKS if each.page == block.page and each.language == "toml"]
    Path("policy.toml").write_text(settings, encoding="utf-8")
    names = evaluate(block, account=BOB)
    policy = names["policy"]
    if "config" in names:
        assert names["config"].delegation == policy == DelegationPolicy.from_toml(settings)
    else:
        assert policy.allow_fresh_credentials.find("WSMAN/one.example.com") == "WSMAN/*.example.com"


@runs("docs/tls.md", "policy =")
def certificates_by_name(block):
    """Each client trusts the key of the one certificate that is for its name."""
    pins = {}
    for name in ("desk", "farm", "server"):
        chain, key = acredssp.self_signed([f"{name}.example.com"], "ec")
        Path(f"{name}.pem").write_bytes(chain + key)
        pins[name] = acredssp.pin_of(ssl.PEM_cert_to_DER_cert(chain.decode()))
    config = evaluate(block, lookup=lambda _: BOB)["config"]

    async def main():
        async with served(config) as address:
            for asked, shown in {
                "desk.example.com": "desk",
                "a.farm.example.com": "farm",
                "else.test": "server",
            }.items():
                trusting = client_config(trust=acredssp.Trust.pinned(pins[shown]))
                await leave(await acredssp.open_connection(*address, config=trusting, server_hostname=asked))

    asyncio.run(main())


@runs("docs/errors.md", "import acredssp")
async def advice_about_an_error(block):
    advise = evaluate(block)["advise"]
    async with served(server_config(lookup=lambda _: acredssp.Deny())) as address:
        with pytest.raises(acredssp.AuthenticationError) as refused:
            await acredssp.open_connection(*address, config=client_config())
        with pytest.raises(acredssp.CertificateError) as untrusted:
            await acredssp.open_connection(*address, config=client_config(trust=acredssp.Trust()))
    with pytest.raises(ConnectionRefusedError) as nowhere:
        await acredssp.open_connection("127.0.0.1", 1, config=client_config())
    told = [advise(each.value) for each in (refused, untrusted, nowhere)]
    assert [again for _, again in told] == [False, False, True]
    assert told[0][0].endswith("(docs/statuses.md#STATUS_LOGON_FAILURE)")
    assert told[1][0].startswith("this may not be the server: ")
    assert not advise(OutcomeUnknown("the connection ended"))[1]  # a ConnectionError, but its command may run
    assert advise(acredssp.PeerClosed("the connection ended"))[1]


@runs("docs/errors.md", "import aiohttp")
async def advice_about_an_error_over_http(block):
    advise = evaluate(block, advise=lambda error: ("", None))["advise_over_http"]
    key, refused = SimpleNamespace(host="x", port=1, ssl=True), OSError(111, "refused")
    unsent = [httpx.ConnectError("x"), NotSent("x"), aiohttp.ClientConnectorError(key, refused)]
    unknown = [
        OutcomeUnknown("x"),
        httpx.ReadError("x"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientOSError(104, "reset"),
        TimeoutError("total"),
    ]
    assert [[advise(error)[1] for error in errors] for errors in (unsent, unknown)] == [[True] * 3, [False] * 5]
    assert advise(acredssp.HandshakeTimeout("x"))[1] is None


def test_the_page_of_errors_has_every_class_and_its_builtin_kin():
    rows = re.findall(r"^\| (`\w+`.*?) \|", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    classes = {
        name
        for name, kind in vars(acredssp.errors).items()
        if inspect.isclass(kind) and kind.__module__ == acredssp.errors.__name__
    }
    assert set(names) == classes - {"CredSSPError"}
    for row in rows:
        if also := re.search(r"also a (\w+)", row):
            (name,) = re.findall(r"`(\w+)`", row)
            assert issubclass(getattr(acredssp, name), getattr(builtins, also[1]))


# --- the blocks of a gateway, on both legs ---


async def through(gateway):
    """Log on through a gateway to a target, and say a PDU and a line.

    Returns:
        What the target and the client heard, and the cookies of the target's clients.
    """
    heard, cookies, ended = [], [], asyncio.Event()

    async def target(reader, writer):
        cookies.append(writer.get_extra_info("rdp_request").cookie)
        heard.append(await rdp.read_pdu(reader))
        writer.write(SHADOW)
        writer.write(await reader.readline())
        writer.close()

    async def run_gateway(client_reader, client_writer):
        await gateway(host, port, client_reader, client_writer)
        ended.set()

    async with (
        served(server_config(), target, carriage=acredssp.RDP()) as (host, port),
        served(server_config(), run_gateway, carriage=acredssp.RDP(hybrid_ex=True)) as front,
    ):
        carriage = acredssp.RDP(hybrid_ex=True, cookie="bob")
        reader, writer = await acredssp.open_connection(*front, config=client_config(), carriage=carriage)
        writer.write(FREERDP_3 + b"hello\n")
        answer = await rdp.read_pdu(reader)
        assert await reader.read() == b"hello\n"
        await leave((reader, writer))
        await ended.wait()
    return heard, answer, cookies


@runs("docs/gateway.md", "request =")
async def the_clients_request(block):
    async def gateway(host, port, client_reader, client_writer):
        names = evaluate(block, client_writer=client_writer)
        target = await acredssp.open_connection(host, port, config=client_config(), carriage=names["carriage"])
        await acredssp.relay((client_reader, client_writer), target)

    _, _, cookies = await through(gateway)
    assert cookies == ["bob"]


@runs("docs/gateway.md", "result = await acredssp.relay")
async def a_relay(block):
    results = []

    async def gateway(host, port, client_reader, client_writer):
        carriage = acredssp.RDP()
        target_reader, target_writer = await acredssp.open_connection(
            host, port, config=client_config(), carriage=carriage
        )
        names = await await_(
            block,
            client_reader=client_reader,
            client_writer=client_writer,
            target_reader=target_reader,
            target_writer=target_writer,
        )
        results.append(names["result"])

    assert (await through(gateway))[:2] == ([FREERDP_3], SHADOW)
    (result,) = results
    assert (result.bytes_up, result.bytes_down) == (len(FREERDP_3) + 6, len(SHADOW) + 6)


@runs("docs/gateway.md", "from acredssp import relay")
async def a_recording(block):
    pieces = []
    names = evaluate(block, print=lambda *piece: pieces.append(piece))

    async def gateway(host, port, *client):
        target = await acredssp.open_connection(host, port, config=client_config(), carriage=acredssp.RDP())
        await names["record"](client, target)

    assert (await through(gateway))[:2] == ([FREERDP_3], SHADOW)
    counted = {side: sum(piece[2] for piece in pieces if piece[0] == side) for side in ("client", "target")}
    assert counted == {"client": len(FREERDP_3) + 6, "target": len(SHADOW) + 6}


@runs("docs/gateway.md", "from acredssp import RDP, Deny")
def whom_a_connection_is_for(block):
    config = server_config()
    carriage = evaluate(block)["carriage"]({"vm-1": config})
    assert carriage.allow_preconnection
    wanted = None, rdp.PreconnectionPDU(blob="vm-1"), rdp.PreconnectionPDU(blob="vm-2")
    asked = [rdp.RouteRequest(rdp.ConnectionRequest(), preconnection=each) for each in wanted]
    assert [carriage.route(each) for each in asked] == [acredssp.Deny(), config, acredssp.Deny()]


@runs("docs/gateway.md", "from acredssp import Account, Deny, NTSTATUS")
async def a_lockout(block):
    def lookup(_who):
        return acredssp.Password("wonderland")

    def user(password):
        return acredssp.Password(password, "alice", "CONTOSO")

    counted = evaluate(block)["counted"](MemoryStore(), lookup, LockoutRule(most=2))
    async with served(server_config(lookup=counted), accept=lambda _peer: SimpleNamespace()) as address:
        for password in ("wonderland", "a wrong one"):
            with contextlib.suppress(acredssp.AuthenticationError):
                await leave(await acredssp.open_connection(*address, config=client_config(authenticate=user(password))))
        with pytest.raises(acredssp.AuthenticationError) as error:
            await acredssp.open_connection(*address, config=client_config(authenticate=user("wonderland")))
    assert error.value.nt_status is acredssp.NTSTATUS.STATUS_LOGON_FAILURE


@runs("docs/gateway.md", "from asyncio import open_connection")
async def several_hosts(block):
    names = evaluate(block)
    assert [str(host.address) for host in names["pool"].hosts] == [f"desktop{n}.example.com:3389" for n in (1, 2)]
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        there, nowhere = Address(*server.sockets[0].getsockname()), Address("127.0.0.1", 1)
        pool = HostPool("desktops", [nowhere, there], chance=iter([0.0, 0.5, 0.0, 0.5]).__next__)
        alice = acredssp.Account("alice", "CONTOSO")
        await leave(await names["connect"](pool, alice))
        assert [host.failures for host in pool.hosts] == [1, 0]
        await leave(await names["connect"](pool, alice))
        assert [host.failures for host in pool.hosts] == [1, 0]  # alice is sent to the same host
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:1 is down"):
        await names["connect"](HostPool("desktops", [nowhere]), alice)


@runs("docs/gateway.md", "import asyncio")
async def both_protocols(block):
    pass_on = evaluate(block)["pass_on"]

    async def gateway(host, port, *client):
        await pass_on(
            client, await acredssp.open_connection(host, port, config=client_config(), carriage=acredssp.RDP())
        )

    heard, answer, _ = await through(gateway)
    assert heard == [rdp.rewrite_selected_protocol(FREERDP_3, rdp.Protocols.HYBRID)] != [FREERDP_3]
    both = rdp.Protocols.SSL | rdp.Protocols.HYBRID | rdp.Protocols.HYBRID_EX
    assert answer == rdp.rewrite_requested_protocols(SHADOW, both) != SHADOW


# --- the tests ---


def runners(*, on_loops):
    """The blocks that a function of this file runs, with the function."""
    found = [(block, RUNS[key]) for block in BLOCKS for key in keys_of(block, RUNS)]
    return [pytest.param(*each, id=str(each[0])) for each in found if inspect.iscoroutinefunction(each[1]) == on_loops]


def with_log(function, block, caplog):
    return function(block, caplog) if "caplog" in inspect.signature(function).parameters else function(block)


@pytest.mark.parametrize(("block", "function"), runners(on_loops=False))
def test_a_block_does_what_its_page_says(block, function, caplog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with_log(function, block, caplog)


@pytest.mark.parametrize(("block", "function"), runners(on_loops=True))
async def test_a_block_does_what_its_page_says_on_every_loop(block, function, caplog):
    await with_log(function, block, caplog)


@pytest.mark.parametrize(
    "page", [page for (page, start), test in ELSEWHERE.items() if not start and test.startswith("tests/test_docs.py")]
)
def test_the_blocks_of_a_page_are_one_program(page):
    program = [block for block in BLOCKS if (block.page, block.language) == (page, "python")]
    assert "".join(block.code for block in program).count("assert ") >= 3
    names = {"__name__": page}
    for block in program:
        exec(block.compiled(), names)  # noqa: S102 - our own page


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_run_or_has_a_reason(block):
    keys = [key for table in (RUNS, ELSEWHERE, NOT_RUN) for key in keys_of(block, table)]
    assert len(keys) == 1, f"give line {block.line} of {block.page} one line in RUNS, ELSEWHERE or NOT_RUN"


def test_every_reason_has_a_block():
    for table in RUNS, ELSEWHERE, NOT_RUN:
        assert [key for key in table if not any(keys_of(block, [key]) for block in BLOCKS)] == []


@pytest.mark.parametrize("test", sorted(set(ELSEWHERE.values())))
def test_a_test_elsewhere_is_there(test):
    path, _, name = test.partition("::")
    assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("words\n```python\na\n\nb\n```\nwords", [(3, "python", "a\n\nb\n")]),
        ("words\n\n    a\n      b\n\n    c\n\nwords", [(3, "", "a\n  b\n\nc\n")]),
        ("words\n    no code\n", []),
        ("```\na\n```\n\n    b\n", [(2, "text", "a\n"), (5, "", "b\n")]),
        ("* words\n\n  ```ini\n  a\n  ```\n", [(4, "ini", "a\n")]),
    ],
)
def test_the_blocks_of_a_page(text, found):
    assert [(block.line, block.language, block.code) for block in blocks_of("page", text)] == found
