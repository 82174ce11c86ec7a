"""`serve` as a process, `login` against it: results, exit statuses, and nothing of a secret anywhere."""

import contextlib
import json
import signal
import socket
import subprocess
import sys

import pytest
from support.by_hand import PATIENCE, connect, once, read_to_the_end, wait_until_refused
from support.by_hand import log_on as log_on_by_hand
from support.peers import free_port
from support.warm import Warm

from acredssp import tls_config
from acredssp.carriage.rdp import RDP
from acredssp.wire import preconnection, x224
from acredssp.wire.preconnection import PreconnectionPDU


@pytest.fixture
def log_on(command, password):
    """Runs `login --json` as alice: its exit status, its object, its text for people."""

    def call(address, *words, secret=("-p", password), user="CONTOSO\\alice", trust=("--insecure",)):
        status, out, err = command("login", address, "-u", user, *secret, *trust, *words, "--json")
        assert password not in out + err
        return status, json.loads(out), err

    return call


@pytest.mark.parametrize("carriage", ["rdp", "tls"])
@pytest.mark.parametrize("mechanism", ["auto", "negotiate", "ntlm"])
def test_a_logon_succeeds(served, log_on, carriage, mechanism):
    server = served("--carriage", carriage)
    status, report, err = log_on(server.address, "--carriage", carriage, "--mechanism", mechanism)
    assert (status, err) == (0, "")
    assert report.pop("time")
    assert report | {"elapsed_ms": 0} == {
        "result": "success",
        "stage": "established",
        "security_status": "SEC_E_OK",
        "nt_status": None,
        "credssp_version": 6,
        "mechanism": "ntlm",
        "tls_version": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "peer_key_sha256": server.ready["peer_key_sha256"],
        "elapsed_ms": 0,
        "fallback": None,
        "message": None,
        "hint": None,
        "anchor": None,
    }
    line = server.line()
    assert line.pop("peer").startswith("127.0.0.1:")
    assert line.pop("time") >= server.ready["time"]
    assert line | {"elapsed_ms": 0} == {
        "result": "success",
        "stage": "established",
        "principal": "CONTOSO\\alice",
        "mechanism": "ntlm",
        "credssp_version": 6,
        "delegated": "password",
        "nt_status": None,
        "elapsed_ms": 0,
        "worker": None,
        "message": None,
        "hint": None,
        "security_status": "SEC_E_OK",
        "server_name": None,  # an address is no name for TLS
        "cookie": "alice" if carriage == "rdp" else None,
        "routing_token": None,
        "workstation": None,
        "account": "CONTOSO\\alice",
        "outcome": "success",
        "hook": None,
        "anchor": None,
    }


@pytest.mark.parametrize(
    ("user", "account", "secret"),
    [
        ("alice@contoso.com", "CONTOSO\\alice", None),
        ("contoso\\ALICE", "CONTOSO\\alice", None),
        ("bob", "bob", ("-p", "b0bs")),
        ("anywhere\\bob", "bob", ("-p", "b0bs")),
        ("CONTOSO\\carol", "CONTOSO\\carol", ("-p", "password")),
    ],
)
def test_everybody_in_the_file_logs_on(served, log_on, password, user, account, secret):
    server = served()
    status, _, _ = log_on(server.address, user=user, secret=secret or ("-p", password))
    assert status == 0
    line = server.line()
    assert (line["principal"], line["account"]) == (user, account)


def test_login_sends_a_user_name_as_it_stands(serve_by, log_on, tmp_path):
    users = tmp_path / "users"
    users.write_text("AzureAD:alice@contoso.com:pw\n")
    server = serve_by("--users", users)
    user = "AzureAD\\alice@contoso.com"
    status, _, _ = log_on(server.address, "-d", "", user=user, secret=("-p", "pw"))
    assert status == 0
    line = server.line()
    assert (line["principal"], line["account"]) == (user, user)


@pytest.mark.parametrize("user", ["alice@contoso.evil.example", "alice@CONTOSO.com.evil.example"])
def test_a_suffix_is_a_domains_only_where_the_file_says_so(served, log_on, user):
    server = served()
    status, _, _ = log_on(server.address, user=user)
    assert status == 1
    line = server.line()
    assert (line["result"], line["principal"], line["account"]) == ("denied", user, None)


def test_a_hash_logs_on_and_delegates_nothing(served, command):
    server = served()
    words = ["-u", "CONTOSO\\carol", "--nt-hash", "8846f7eaee8fb117ad06bdd830b7586c", "--insecure"]
    status, out, _ = command("login", server.address, *words)
    assert status == 0
    assert "restricted admin" in out
    assert server.line()["delegated"] == "nothing"


@pytest.mark.parametrize("user", ["CONTOSO\\alice", "nobody"])
def test_a_wrong_password_is_denied_like_an_unknown_user(served, log_on, user):
    server = served()
    status, report, err = log_on(server.address, user=user, secret=("-p", "wrong"))
    assert (status, report["result"], report["nt_status"]) == (1, "denied", "STATUS_LOGON_FAILURE")
    assert "STATUS_LOGON_FAILURE" in err
    assert "check the user, the domain and the password" in err
    assert (report["message"], report["hint"]) == (
        "the server refused the logon: STATUS_LOGON_FAILURE",
        "check the user, the domain and the password",
    )
    line = server.line()
    assert (line["result"], line["principal"], line["nt_status"]) == ("denied", user, "STATUS_LOGON_FAILURE")
    assert (line["security_status"], line["account"]) == ("SEC_E_LOGON_DENIED", None)
    assert line["message"].startswith("logon refused: ")
    assert line["delegated"] is None


def test_a_denial_without_a_status_says_who_denies_so(served, log_on):
    server = served()
    status, report, err = log_on(server.address, "--max-version", "5", secret=("-p", "wrong"))
    assert (status, report["result"], report["nt_status"]) == (1, "denied", None)
    assert "version 2 and 5 and FreeRDP" in err
    assert server.line()["credssp_version"] == 5


@pytest.mark.parametrize("user", ["CONTOSO\\alice", "alice@contoso.com", "alice@contoso", "contoso.com\\Alice"])
@pytest.mark.parametrize("name", ["alice", "contoso\\Alice", "alice@contoso.com"])
def test_a_user_who_is_refused_is_told_so_by_hybrid_ex(served, log_on, name, user):
    server = served("--hybrid-ex", "--refuse", name)
    status, report, err = log_on(server.address, user=user)
    assert (status, report["result"], report["stage"]) == (1, "denied", "early_user_auth")
    assert report["nt_status"] == "STATUS_ACCESS_DENIED"
    assert report["anchor"] == "docs/statuses.md#STATUS_ACCESS_DENIED"
    assert "did not authorize" in err
    line = server.line()
    assert (line["result"], line["stage"], line["nt_status"]) == ("denied", "early_user_auth", "STATUS_ACCESS_DENIED")
    assert line["account"] == "CONTOSO\\alice"
    status, _, _ = log_on(server.address, user="bob", secret=("-p", "b0bs"))
    assert (status, server.line()["result"]) == (0, "success")


def test_an_unknown_certificate_is_refused_with_the_pin_to_use(served, log_on):
    server = served()
    status, report, err = log_on(server.address, trust=())
    assert (status, report["result"], report["stage"]) == (3, "protocol_error", "tls")
    assert report["security_status"] == "SEC_E_UNTRUSTED_ROOT"
    assert server.ready["peer_key_sha256"] in err
    assert report["peer_key_sha256"] == server.ready["peer_key_sha256"]
    assert (report["credssp_version"], report["mechanism"]) == (None, None)
    assert server.line()["principal"] is None


@pytest.mark.parametrize(
    ("change", "expected"), [(str, 0), (str.upper, 0), (lambda pin: pin[:-1] + "fe"[pin[-1] == "f"], 3)]
)
def test_a_pin_decides(served, log_on, change, expected):
    server = served()
    status, _, _ = log_on(server.address, trust=("--pin", change(server.ready["peer_key_sha256"])))
    assert status == expected
    server.line()


@pytest.fixture(scope="module")
def certificate_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    chain, key = tls_config.self_signed(["rdp.example"], "ec")
    (folder / "chain.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(key)
    return folder / "chain.pem", folder / "key.pem"


@pytest.mark.parametrize(("name", "expected"), [("rdp.example", 0), ("other.example", 3)])
def test_an_authority_decides_together_with_the_name(served, log_on, certificate_files, name, expected):
    chain, key = certificate_files
    server = served("--cert", str(chain), "--key", str(key))
    status, report, _ = log_on(server.address, "--server-name", name, trust=("--ca", chain))
    assert status == expected
    if expected:
        assert report["security_status"] == "SEC_E_WRONG_PRINCIPAL"
    server.line()


def test_versions_that_do_not_meet_are_refused_by_who_sees_it(served, serve_once, log_on):
    old = serve_once("--min-version", "2", "--max-version", "4")
    status, report, err = log_on(old.address)
    assert (status, report["result"], report["credssp_version"]) == (3, "protocol_error", 4)
    assert "CVE-2018-0886" in err
    old.line()
    assert old.stop() == 0
    assert "CVE-2018-0886" in old.output
    new = served()
    status, report, err = log_on(new.address, "--min-version", "2", "--max-version", "4")
    assert (status, report["result"], report["nt_status"]) == (1, "denied", "STATUS_NOT_SUPPORTED")
    assert err.startswith("warning: versions 2 to 4")
    assert new.line()["result"] == "protocol_error"


def test_a_routing_token_and_a_name_are_told(served, log_on):
    server = served()
    status, _, _ = log_on(server.address, "--load-balance-info", "tsv://farm", "--server-name", "localhost")
    assert status == 0
    line = server.line()
    assert (line["routing_token"], line["cookie"], line["server_name"]) == ("tsv://farm", None, "localhost")


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["--pcb", "vm-1", "--pcid", "7"], PreconnectionPDU(id=7, blob="vm-1")),
        (["--pcb", "vm-1", "--load-balance-info", "tsv://farm"], PreconnectionPDU(blob="vm-1")),
        (["--pcid", "0"], PreconnectionPDU()),
    ],
)
def test_preconnection_id_and_blob_go_before_the_request(command, words, sent):
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        status, _, _ = command("login", address, "-u", "alice", "-p", "x", "--insecure", "--timeout", "0.5", *words)
        connection, _ = listener.accept()
        with connection:
            data = connection.recv(1000)
    assert status == 4  # nobody answers
    size = preconnection.frame_size(data).total
    assert PreconnectionPDU.decode(data[:size]) == sent
    assert x224.frame_size(data, size).total == len(data) - size


def test_a_server_that_expects_no_preconnection_pdu_says_what_came(served, log_on):
    server = served()
    status, report, _ = log_on(server.address, "--pcid", "7")
    assert (status, report["result"], report["stage"]) == (4, "network_error", "negotiation")
    line = server.line()
    assert (line["result"], line["stage"]) == ("protocol_error", "negotiation")
    assert "got a preconnection PDU" in line["message"]


@pytest.mark.parametrize(("ours", "theirs"), [("tls", "rdp"), ("rdp", "tls")])
def test_the_wrong_carriage_is_no_denial_and_the_right_one_is_named(served, log_on, ours, theirs):
    server = served("--carriage", theirs)
    status, report, err = log_on(server.address, "--carriage", ours)
    assert (status, report["result"]) == (4, "network_error")
    assert f"--carriage {theirs}" in err
    assert report["hint"] in err
    line = server.line()
    assert line["result"] == "protocol_error"
    assert f"--carriage {ours}" in line["hint"]


@pytest.fixture
def silent_port():
    """A port where connections are accepted by the kernel, and nobody ever says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_server_that_says_nothing_is_a_time_out(silent_port, log_on):
    status, report, err = log_on(f"127.0.0.1:{silent_port}", "--timeout", "0.1")
    assert (status, report["result"], report["stage"]) == (4, "timeout", "negotiation")
    assert "--timeout" in err


def test_a_host_that_answers_nothing_is_a_time_out(log_on):
    with contextlib.ExitStack() as stack:
        # Its queue is full: the kernel drops what else comes, as a firewall would.
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        status, report, err = log_on(f"127.0.0.1:{listener.getsockname()[1]}", "--timeout", "0.1")
    assert (status, report["result"], report["stage"]) == (4, "timeout", "connect")
    assert report["security_status"] is None
    assert "firewall" in err


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1:{}", "host.invalid:{}"])
def test_no_connection_is_a_network_error(log_on, host):
    status, report, err = log_on(host.format(closed_port()))
    assert (status, report["result"], report["stage"]) == (4, "network_error", "connect")
    assert err.startswith("network error at connect: cannot ")


def test_an_address_in_use_is_a_network_error(served, command, users_file):
    status, out, err = command("serve", "--users", users_file, "--listen", served().address, "--key-type", "ec")
    assert (status, out) == (4, "")
    assert "address already in use" in err


def test_people_get_a_card(served, command, password):
    server = served()
    status, out, err = command("login", server.address, "-u", "alice", "-d", "CONTOSO", "-p", password, "--insecure")
    assert (status, err) == (0, "")
    assert f"CONTOSO\\alice logged on to {server.address}" in out
    assert server.ready["peer_key_sha256"] in out
    server.line()


def test_people_get_a_line_from_the_server(users_file, command, password):
    argv = [
        sys.executable,
        "-m",
        "acredssp",
        "serve",
        "--users",
        users_file,
        "--listen",
        "127.0.0.1:0",
        "--key-type",
        "ec",
    ]
    with Warm(argv, stdout=subprocess.PIPE, text=True) as process:
        ready = process.stdout.readline().split()
        assert ready[:2] == ["listening", "on"]
        address = ready[2].rstrip(",")
        command("login", address, "-u", "CONTOSO\\alice", "-p", password, "--insecure")
        command("login", address, "-u", "CONTOSO\\alice", "-p", "wrong", "--insecure")
        command("login", address, "-u", "Alice@contoso.com", "-p", password, "--insecure")
        lines = [process.stdout.readline() for _ in range(3)]
        process.terminate()
    assert lines[0].startswith("success CONTOSO\\alice from 127.0.0.1:")
    assert "delegated password" in lines[0]
    assert lines[1].startswith("denied CONTOSO\\alice from 127.0.0.1:")
    assert "STATUS_LOGON_FAILURE" in lines[1]
    assert lines[2].startswith("success Alice@contoso.com (CONTOSO\\alice) from 127.0.0.1:")
    assert process.returncode == 0


def test_sigterm_lets_handshakes_in_flight_end_and_accepts_no_more(serve_once, password):
    server = serve_once()

    def stop():
        server.process.send_signal(signal.SIGTERM)
        wait_until_refused(server.port)

    with connect(server.port) as connection:
        log_on_by_hand(connection, password, carriage=RDP(), between=once(stop))
    assert server.wait() == 0
    results = [json.loads(line) for line in server.unread.splitlines()]
    assert [line["principal"] for line in results if line["result"] == "success"] == ["CONTOSO\\alice"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_what_is_established(serve_once, password, number):
    server = serve_once("--carriage", "tls")
    with connect(server.port) as connection:
        tls = log_on_by_hand(connection, password)
        server.process.send_signal(number)
        read_to_the_end(connection, tls)
    assert server.wait() == 0


def test_the_tls_carriage_echoes(served, password):
    server = served("--carriage", "tls")
    sent, echoed = bytes(range(256)) * 400, b""
    with connect(server.port) as connection:
        tls = log_on_by_hand(connection, password)
        for start in range(0, len(sent), 16384):
            tls.write(sent[start : start + 16384])
            connection.sendall(tls.output())
        while len(echoed) < len(sent):
            ciphertext = connection.recv(16384)
            assert ciphertext, "the connection ended in the middle"
            echoed += tls.read(ciphertext)
        tls.close()
        connection.sendall(tls.output())
        read_to_the_end(connection, tls)
    assert echoed == sent
    assert server.line()["result"] == "success"


def test_the_rdp_carriage_closes_cleanly(served, password):
    server = served()
    with connect(server.port) as connection:
        tls = log_on_by_hand(connection, password, carriage=RDP())
        read_to_the_end(connection, tls)
    assert server.line()["result"] == "success"


def test_a_mic_may_be_required_and_our_client_sends_one(serve_once, log_on):
    server = serve_once("--require-mic")
    status, _, _ = log_on(server.address)
    assert (status, server.line()["result"]) == (0, "success")


def test_a_server_whose_reader_went_away_goes_on_and_says_so_once(serve_once, log_on):
    server = serve_once()
    server.process.stdout.close()
    for _ in range(2):
        status, _, _ = log_on(server.address)
        assert status == 0
    server.process.send_signal(signal.SIGTERM)
    said = server.process.stderr.read().decode()
    assert server.process.wait(timeout=PATIENCE) == 0
    server.process.stderr.close()
    assert (
        said == "warning: cannot write the output: broken pipe: the server goes on without a line for each handshake\n"
    )


def test_the_steps_of_a_logon_are_logged_and_none_of_its_secrets(served, log_on):
    server = served()
    status, _, err = log_on(server.address, "-v")
    assert status == 0
    assert "DEBUG acredssp.login: took 0 bytes, sends " in err
    assert "tls TLSv1.3, credssp ESTABLISHED" in err
    assert "INFO acredssp.audit: " in err
    server.line()


def test_a_server_logs_what_it_is_told_to(serve_once, log_on):
    server = serve_once("--log-level", "info")
    log_on(server.address, secret=("-p", "wrong"))
    assert server.stop() == 0
    assert "INFO acredssp: handshake with " in server.output


def test_no_secret_is_in_any_output(serve_once, log_on, password):
    server = serve_once("--hybrid-ex", "--refuse", "bob")
    log_on(server.address)
    log_on(server.address, secret=("-p", password + "x"))
    log_on(server.address, user="bob", secret=("-p", "b0bs"))
    log_on(server.address, trust=())
    assert server.stop() == 0
    assert "CONTOSO" in server.output
    for secret in (password, "b0bs", "8846f7ea", "c4nary"):
        assert secret not in server.output
