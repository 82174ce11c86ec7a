"""The examples run as they are written: each in a process of its own, as a reader would start it."""

import asyncio
import contextlib
import importlib.util
import signal
import socket
import subprocess
import sys
import threading
from asyncio.subprocess import PIPE
from pathlib import Path

import httpx
import pytest
from support.command import COMMAND, told
from support.endpoints import BOB, PASSWORD, PIN, SPN, client_config, server_config
from support.peers import DEADLINE, free_port, listens, wait_until

import acredssp
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.http.httpx import CredSSPTransport

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, *arguments):
    command = [sys.executable, "-X", "dev", "-W", "error", EXAMPLES / f"{name}.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def echo_server():
    """The example's port and pin."""
    command = [sys.executable, EXAMPLES / "echo_server.py", "127.0.0.1", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        _, port, _, pin = server.stdout.readline().split()
        yield port, pin
        server.terminate()


@pytest.mark.parametrize("client", ["echo_client", "by_hand"])
def test_a_client_logs_on_to_the_echo_server(echo_server, client):
    done = run(client, *echo_server)
    assert done.returncode == 0, done.stderr
    assert "logged on: HandshakeInfo(version=6, mechanism='ntlm'" in done.stdout
    assert "echo: hello\n" in done.stdout
    assert "wonderland" not in done.stdout + done.stderr


@pytest.mark.parametrize("options", [(), ("--uvicorn",)])
def test_a_client_logs_on_to_the_server_over_http(options):
    port = free_port()
    service = SPNList.of("HTTP/localhost")
    delegation = DelegationPolicy(allow_fresh_credentials=service)

    async def ask(pin):
        config = acredssp.ClientConfig(
            authenticate=acredssp.Password("wonderland", "alice", "CONTOSO"),
            trust=acredssp.Trust.pinned(pin),
            delegation=delegation,
        )
        async with httpx.AsyncClient(transport=CredSSPTransport(config)) as client:
            return [(await client.post(f"http://localhost:{port}/", content=b"x" * size)).text for size in (1, 50_000)]

    command = [sys.executable, EXAMPLES / "http_server.py", "127.0.0.1", str(port), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            pin = server.stdout.readline().split()[-1]
            wait_until(lambda: listens(port), "the server listens")
            answers = asyncio.run(ask(pin))
        finally:
            server.terminate()
    assert answers == [
        "CONTOSO\\alice by ntlm sent 1 bytes, and delegated TSPasswordCreds\n",
        "CONTOSO\\alice by ntlm sent 50000 bytes, and delegated nothing more\n",
    ]


@pytest.mark.parametrize("name", ["http_server", "winrm_server"])
@pytest.mark.parametrize("arguments", [("nonsense",), ("127.0.0.1", "nonsense"), ("127.0.0.1", "1", "2")])
def test_a_server_whose_arguments_are_wrong_says_which_ones_there_are(name, arguments):
    done = run(name, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"usage: {name}.py [HOST PORT]")


@pytest.mark.parametrize("name", ["http_server", "winrm_server"])
def test_a_server_without_arguments_listens_at_the_port_of_winrm(name):
    """Or says that somebody else does, since the tests cannot have that port for themselves."""
    with subprocess.Popen(
        [sys.executable, EXAMPLES / f"{name}.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        line = server.stdout.readline()
        server.terminate()
        _, errors = server.communicate()
    assert line.startswith("127.0.0.1 5985 pin ") or "cannot listen: " in errors


@pytest.fixture(scope="module")
def winrm_server():
    """The command line that the toy of WinRM tells, as words."""
    command = [sys.executable, EXAMPLES / "winrm_server.py", "127.0.0.1", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        server.stdout.readline()
        *words, _whoami = server.stdout.readline().removeprefix("try: acredssp ").split()
        yield words
        server.terminate()


@pytest.mark.parametrize(
    ("words", "given", "expected"),
    [
        (["whoami"], "", (0, "contoso\\alice\n", "")),
        (["echo", "a", "b"], "", (0, "a b\n", "")),
        (["exit", "7"], "", (7, "", "")),
        (["exit", "-1"], "", (254, "", "")),
        (["-"], "whoami\necho a b\nexit 3\nwhoami\n", (3, "contoso\\alice\na b\n", "")),
        (["--stdin", "sort"], "b\na\n", (0, "a\nb\n", "")),
        (["dir"], "", (1, "", "'dir' is not recognized as an internal or external command.\n")),
    ],
)
def test_a_command_runs_at_the_toy_of_winrm(winrm_server, words, given, expected):
    done = subprocess.run(
        [COMMAND, *winrm_server, *words], input=given, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == expected


def test_output_of_several_envelopes_comes_from_the_toy_of_winrm(winrm_server):
    """1 MB of short lines, in and out: an answer has 150 KiB."""
    lines = [f"{number:09d}\n" for number in range(100_000)]
    done = subprocess.run(
        [COMMAND, *winrm_server, "--stdin", "sort"],
        input="".join(reversed(lines)),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(lines)


def test_ctrl_c_reaches_the_toy_of_winrm(winrm_server):
    command = [COMMAND, *winrm_server, "ping"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("Reply from")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=DEADLINE)
    assert out.endswith("Control-C\n")
    assert process.returncode == 130


def test_what_the_toy_of_winrm_does_not_do_is_a_fault(winrm_server):
    command = [COMMAND, *winrm_server, "--shell", "powershell", "ls"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 255
    assert "fault 2150858755: this toy runs commands of its own in shells of cmd" in done.stderr


def test_no_example_allows_more_than_it_needs():
    """A server whose certificate or key is trusted needs one list. The other one is for servers that nothing proves."""
    pages = [*EXAMPLES.glob("*.py"), EXAMPLES.parent / "README.md", *(EXAMPLES.parent / "docs").glob("*.md")]
    assert [page.name for page in pages if "when_ntlm_only=" in page.read_text(encoding="utf-8")] == []


def test_a_client_that_leaves_right_after_its_logon_ends_its_target_leg(tmp_path):
    """Nothing is left open, and nothing is written of it as if it were a fault of the gateway's."""
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    for file, data in zip(files, acredssp.self_signed(["localhost"]), strict=True):
        file.write_bytes(data)
    port = free_port()
    front = acredssp.ClientConfig(authenticate=BOB, trust=acredssp.Trust.from_file(str(files[0])))

    async def visit():
        ended = asyncio.Event()

        async def target(reader, writer):
            assert await reader.read() == b""
            ended.set()
            writer.close()

        carriage = acredssp.RDP()
        server = await acredssp.start_server(target, "127.0.0.1", 0, config=server_config(), carriage=carriage)
        with contextlib.closing(server):
            return await visit_by(server.sockets[0].getsockname()[1], ended)

    async def visit_by(target, ended):
        """Log on through the gateway and leave; return what the gateway wrote once the target leg has ended."""
        command = [*map(str, (port, *files)), BOB.user, PASSWORD, f"desktop=127.0.0.1:{target}:{PIN}"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", EXAMPLES / "gateway.py", *command, stdout=PIPE, stderr=PIPE
        )
        try:
            await asyncio.to_thread(wait_until, lambda: listens(port), "the gateway listens")
            carriage = acredssp.RDP(routing_token="desktop", hybrid_ex=True)
            _, writer = await acredssp.open_connection("localhost", port, config=front, carriage=carriage)
            writer.close()
            async with asyncio.timeout(DEADLINE):
                await ended.wait()
        finally:
            process.terminate()
            output = await process.communicate()
        return output

    out, errors = asyncio.run(visit())
    assert b": success" in out
    assert errors == b""


def test_tickets_log_on_and_are_delegated(kerberos, monkeypatch):
    monkeypatch.setenv("KRB5CCNAME", kerberos.log_on("alice"))
    done = run("kerberos", str(kerberos.keytab))
    assert done.returncode == 0, done.stderr
    server, client, ticket = done.stdout.splitlines()
    assert server == "server: ACREDSSP.TEST\\alice delegated remote_guard"
    assert client == "client: kerberos to localhost"
    assert ticket.endswith("bytes, sealed for the host")


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        *[(client, (), "usage: ") for client in ("echo_client", "by_hand", "sspi_client", "kerberos")],
        ("echo_server", ("h", "1", "2"), "usage: "),
        *[(gateway, ("--help",), "usage: ") for gateway in ("gateway", "pcapng_recorder")],
        *[(client, ("1", "zz"), "64 hex digits") for client in ("echo_client", "by_hand", "sspi_client")],
        ("echo_client", ("x", "00" * 32), "ValueError: "),
    ],
)
def test_arguments_that_cannot_be_end_in_one_line_and_a_status(name, arguments, said):
    done = run(name, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert len(told(done.stderr)) == 1


@pytest.mark.parametrize("client", ["echo_client", "by_hand"])
def test_a_client_refuses_a_server_with_another_key(echo_server, client):
    port, _ = echo_server
    done = run(client, port, "00" * 32)
    assert done.returncode == 1
    assert "CertificateError" in done.stderr


@pytest.mark.requirement("R5", "R76", "R77")
def test_the_port_of_a_c_client_logs_on_and_is_answered(echo_server):
    done = run("sspi_client", *echo_server)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "logged on\necho: hello\n"
    assert told(done.stderr) == []


def test_the_port_of_a_c_client_refuses_a_server_with_another_key(echo_server):
    port, _ = echo_server
    done = run("sspi_client", port, "00" * 32)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "InitializeSecurityContext: SEC_E_MUTUAL_AUTH_FAILED" in done.stderr


@pytest.fixture(scope="module")
def by_hand():
    spec = importlib.util.spec_from_file_location("by_hand", EXAMPLES / "by_hand.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def both_by_hand(by_hand, password, lookup=lambda _claim: acredssp.Password(PASSWORD)):
    """Drive both sides of a pair of sockets; what each ended with."""
    client = client_config(authenticate=acredssp.Password(password, "bob"))
    contexts = client.new_context(server_hostname="localhost", spn=SPN), server_config().new_context()
    answers = (lambda event: client.answer(event, "localhost")), lookup
    ended = [None, None]

    def side(number, sock):
        with sock:
            try:
                by_hand.handshake(sock, contexts[number], answers[number])
                ended[number] = contexts[number].info
            except acredssp.CredSSPError as error:
                ended[number] = error

    threads = [threading.Thread(target=side, args=(number, end)) for number, end in enumerate(socket.socketpair())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return ended


def test_both_sides_can_be_driven_by_hand(by_hand):
    client, server = both_by_hand(by_hand, PASSWORD)
    assert client.version == server.version == 6
    assert server.principal.user == "bob"


def test_a_refusal_by_hand_reaches_the_client(by_hand):
    client, server = both_by_hand(by_hand, "wrong")
    assert type(client) is type(server) is acredssp.AuthenticationError
    assert client.nt_status is acredssp.NTSTATUS.STATUS_LOGON_FAILURE


def test_a_refusal_of_the_application_by_hand_reaches_the_peer(by_hand):
    def refuse(_claim):
        raise acredssp.AccessDenied("not today", nt_status=acredssp.NTSTATUS.STATUS_ACCOUNT_RESTRICTION)

    client, server = both_by_hand(by_hand, PASSWORD, refuse)
    assert type(server) is acredssp.AccessDenied
    assert client.nt_status is acredssp.NTSTATUS.STATUS_ACCOUNT_RESTRICTION
