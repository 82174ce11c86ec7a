"""`acredssp probe` as users run it: targets, output for people and for scripts, requirements, many hosts, clients."""

import asyncio
import contextlib
import csv
import errno
import http.server
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console
from support.peers import free_port
from support.scripted import ScriptedServer
from support.warm import Warm

from acredssp.cli.outcome import UsageError
from acredssp.cli.probe import _progress, show_findings
from acredssp.cli.render import consoles
from acredssp.cli.requirements import Requirements
from acredssp.cli.targets import read_targets
from acredssp.diagnosis import CATALOGUE, Severity, found
from acredssp.rdp import FailureCode
from acredssp.workers import Address

KEYS = {
    "kind", "target", "reach", "problem", "negotiation", "flags", "tls", "certificate", "other_certificates",
    "credssp_version", "mechanisms", "ntlm", "mic_required", "channel_binding_required", "connections", "elapsed_ms",
    "interrupted", "findings", "time",
}  # fmt: skip
"""The keys of a server's object, which scripts rely on."""
FINDING_KEYS = {"id", "severity", "title", "text", "next_step", "facts", "anchor"}


def ids(record):
    return {each["id"] for each in record["findings"]}


# --- one server ---


def test_a_server_is_told_to_people(served, command):
    status, out, _ = command("probe", served("--hybrid-ex").address)
    assert status == 0
    for part in ("HYBRID_EX", "TLSv1.3", "version 6, ntlm", "certificate-self-signed", "→"):
        assert part in out


def test_people_are_told_what_login_would_say_of_the_certificate(served, command):
    server = served("--hybrid-ex")
    _, out, _ = command("probe", server.address)
    assert re.search(r"\n  login +would refuse this certificate: \S", out)
    _, out, _ = command("probe", server.address, "--pin", server.ready["peer_key_sha256"])
    assert re.search(r"\n  login +would accept this certificate *\n", out)


def test_a_server_is_told_to_scripts(served, command):
    server = served("--hybrid-ex")
    status, out, err = command("probe", server.address, "--json")
    record = json.loads(out)
    assert (status, err) == (0, "")
    assert set(record) == KEYS
    assert all(set(each) == FINDING_KEYS for each in record["findings"])
    assert record["certificate"]["pin"] == server.ready["peer_key_sha256"]
    assert record["certificate"]["verdict"] == "untrusted"
    assert record["negotiation"]["RDP"] == "refused: HYBRID_REQUIRED_BY_SERVER"
    assert record["mic_required"] == record["channel_binding_required"] == "unknown"
    assert {"ntlm-only", "certificate-self-signed", "nla-required"} <= ids(record)


def test_a_server_in_a_weak_setting_is_told_so(served, command):
    weak = ("--min-version", "2", "--max-version", "4", "--min-tls", "1.0", "--dangerous-allow-legacy-tls")
    _, out, _ = command("probe", served(*weak).address, "--json")
    record = json.loads(out)
    assert {"credssp-old", "tls-old"} <= ids(record)
    assert record["findings"][0]["id"] == "credssp-old", "the worst comes first"


def test_the_pin_of_the_server_silences_the_certificate(served, command):
    server = served("--hybrid-ex")
    _, out, _ = command("probe", server.address, "--json", "--pin", server.ready["peer_key_sha256"])
    assert not {each for each in ids(json.loads(out)) if each.startswith("certificate")}


def test_no_failed_logon_is_counted(serve_once, command, password):
    """One wrong password would lock the source out, and a probe makes ten connections."""
    server = serve_once("--max-failures", "1/10")
    assert command("probe", server.address)[0] == 0
    pin = server.ready["peer_key_sha256"]
    status, _, err = command("login", server.address, "-u", "CONTOSO\\alice", "-p", password, "--pin", pin)
    assert status == 0, err
    server.stop()


def test_a_closed_port_ends_with_the_status_of_the_network(command):
    address = f"127.0.0.1:{free_port()}"
    status, out, _ = command("probe", address)
    assert status == 4
    assert "connection-refused" in out


def test_another_key_than_the_pinned_one_ends_as_a_logon_would(served, command, required):
    server = served("--hybrid-ex")
    status, out, _ = command("probe", server.address, "--pin", "0" * 64)
    assert status == 3
    assert "certificate-other-key" in out
    assert "docs/findings.md of acredssp explains each finding" in out
    assert command("probe", server.address, "--pin", server.ready["peer_key_sha256"])[0] == 0
    accepting = required('accept = ["certificate-other-key"]\nfail_at = "high"\n')
    assert command("probe", server.address, "--pin", "0" * 64, "--policy", accepting)[0] == 0


def test_a_port_of_another_protocol_is_no_answer(command, required):
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"127.0.0.1:{server.server_port}"
        results = [command("probe", address, *words) for words in ((), ("--policy", required('fail_at = "medium"\n')))]
        server.shutdown()
        thread.join()
    assert all("not-rdp" in out for _, out, _ in results)
    assert [status for status, _, _ in results] == [4, 13]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rate", "-1"), "--rate: expected a number 0 or more, got -1"),
        (("--rate", "nan"), "--rate: expected a number 0 or more, got nan"),
        (("--at-once", "0"), "--at-once: expected a number from 1 to 1000, got 0"),
        (("--at-once", "1001"), "--at-once: expected a number from 1 to 1000, got 1001"),
        (("--cert", "x.pem"), "expected --listen HOST:PORT with --cert and --key, got them alone"),
    ],
)
def test_what_is_wrong_with_an_option_is_said(words, said, command):
    status, _, err = command("probe", "127.0.0.1:1", *words)
    assert status == 2
    assert said in err


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to a whole console")
def test_ctrl_c_prints_how_far_a_probe_of_many_came():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        words = [f"127.0.0.1:{free_port()}", address, "--at-once", "1", "--rate", "0", "--timeout", "3600"]
        with (
            Warm(
                [sys.executable, "-m", "acredssp", "probe", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as process,
            listener.accept()[0],
        ):
            process.send_signal(signal.SIGINT)
            _, err = process.communicate()
    assert process.returncode == 130
    assert err.startswith(b"ctrl-c ended it after 1 of 2 hosts: 0 of 2 hosts answered, 2 connections in ")


def interrupted(listener, *words):
    """What a probe prints that Ctrl-C ends once it has connected."""
    process = Warm(
        [sys.executable, "-m", "acredssp", "probe", "--timeout", "3600", "--host-timeout", "3600", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process, listener.accept()[0] as connection:
        connection.recv(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130, err
    return out.decode()


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to a whole console")
@pytest.mark.parametrize("scheme", ["", "http://"])
def test_ctrl_c_prints_the_object_of_each_target_that_was_begun(scheme):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = f"{scheme}127.0.0.1:{listener.getsockname()[1]}"
        words = (where, f"127.0.0.1:{free_port()}", "--at-once", "1", "--json")
        (told,) = map(json.loads, interrupted(listener, *words).splitlines())
    assert told["interrupted"] is True
    assert told["target"].startswith(where)
    assert told["reach"] == "reached"
    assert [each["id"] for each in told["findings"]] == ["probe-incomplete"]


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to a whole console")
def test_ctrl_c_prints_an_object_where_no_client_has_come():
    words = [sys.executable, "-m", "acredssp", "probe", "--listen", "127.0.0.1:0", "--json"]
    with Warm(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr.readline().startswith(b"listening on ")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate()
    assert process.returncode == 130
    told = json.loads(out)
    assert (told["kind"], told["target"], told["interrupted"]) == ("client", None, True)


# --- what is required ---


@pytest.fixture
def required(tmp_path):
    def write(text):
        path = tmp_path / "required.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ('fail_at = "low"', 11),
        ('fail_at = "info"', 11),
        ('forbid = ["restricted-admin-offered"]', 10),
        ('fail_at = "low"\naccept = ["ntlm-only", "certificate-self-signed"]', 0),
    ],
)
def test_the_exit_status_is_that_of_the_worst_finding_that_the_policy_does_not_accept(
    served, command, required, text, expected
):
    status, _, _ = command("probe", served("--hybrid-ex").address, "--json", "--policy", required(text))
    assert status == expected


def test_people_are_told_which_findings_the_policy_does_not_accept(served, command, required):
    server = served("--hybrid-ex").address
    policy = required('forbid = ["restricted-admin-offered", "ntlm-only"]')
    _, alone, _ = command("probe", server, "--policy", policy)
    assert alone.splitlines()[-1] == "fails --policy: ntlm-only, restricted-admin-offered"
    _, of_many, _ = command("probe", server, "127.0.0.1:1", "--policy", policy)
    assert [each.strip() for each in of_many.splitlines()].count(
        "fails --policy: ntlm-only, restricted-admin-offered"
    ) == 1
    _, accepted, _ = command("probe", server, "--policy", required(""))
    assert "fails" not in accepted


def test_scripts_are_told_which_findings_the_policy_does_not_accept(served, command, required):
    server = served("--hybrid-ex").address
    policy = required('forbid = ["restricted-admin-offered", "ntlm-only"]')
    _, out, _ = command("probe", server, "--policy", policy, "--json")
    assert json.loads(out)["fails_policy"] == ["ntlm-only", "restricted-admin-offered"]
    _, out, _ = command("probe", server, "--policy", policy, "--csv")
    rows = [*csv.DictReader(io.StringIO(out))]
    assert [row["id"] for row in rows if row["fails_policy"] == "yes"] == ["ntlm-only", "restricted-admin-offered"]
    assert {row["fails_policy"] for row in rows} == {"yes", "no"}


def test_a_high_finding_ends_with_13(served, command, required):
    old = served("--min-version", "2", "--max-version", "4", "--min-tls", "1.0", "--dangerous-allow-legacy-tls")
    assert command("probe", old.address, "--json", "--policy", required(""))[0] == 13


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fail_at = 3", "expected one of info, low, medium, high"),
        ('accept = ["nonsense"]', "expected an id of docs/findings.md, got 'nonsense'"),
        ('forbid = "ntlm-only"', "expected a list of ids"),
        ('require = ["x"]', "expected fail_at, forbid and accept, got require"),
        ('accept = ["ntlm-only"]\nforbid = ["ntlm-only"]', "got it in both"),
        ("= 3", "--policy"),
    ],
)
def test_a_policy_that_makes_no_sense_is_a_usage_error(command, required, text, said):
    status, _, err = command("probe", "localhost", "--policy", required(text))
    assert status == 2
    assert said in err


def test_the_example_of_the_documentation_is_a_policy(required):
    page = (Path(__file__).parents[2] / "docs" / "tools.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(fail_at.*?)```", page, re.DOTALL)
    requirements = Requirements.from_file(required(example))
    assert requirements == Requirements(
        Severity.MEDIUM, frozenset({"ntlm-only"}), frozenset({"certificate-self-signed"})
    )


def test_every_severity_can_fail():
    any_finding = Requirements(Severity.INFO)
    by_severity = {kind.severity: kind for kind in CATALOGUE.values()}
    statuses = [
        any_finding.exit_status([found(kind.id, **dict.fromkeys(kind.facts, "x"))]) for kind in by_severity.values()
    ]
    assert sorted(statuses) == [10, 11, 12, 13]


# --- targets ---


def test_targets_are_words_and_lines_of_a_file(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("# the farm\nb:3390\n\na  # again\nhttp://c:5985/wsman\n10.0.0.8/30:3391\n", encoding="utf-8")
    first, second, third, *network = read_targets(["a"], path)
    assert (first, second) == (Address("a", 3389), Address("b", 3390))
    assert third.url == "http://c:5985/wsman"
    assert network == [Address("10.0.0.9", 3391), Address("10.0.0.10", 3391)]


def test_a_target_that_is_named_and_in_a_network_is_named():
    expected = {Address("10.0.0.9", 3389): True, Address("10.0.0.10", 3389): False}
    assert read_targets(["10.0.0.9", "10.0.0.8/30"], None) == expected
    assert read_targets(["10.0.0.8/30", "10.0.0.9"], None) == expected


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("10.0.0.0/8", "at most 65536 addresses"),
        ("10.0.0.1/24", "has host bits set"),
        ("10.0.0.0/24:0", "expected a port"),
        ("10.0.0.0/24:x", "expected a network such as"),
        ("ftp://x", "got a URL"),
        ("a:b:c@d", "give the user with -u"),
        ("http://[::1", "expected a URL such as http://HOST:5985/wsman"),
    ],
)
def test_a_target_that_makes_no_sense_is_a_usage_error(word, said):
    with pytest.raises(UsageError, match=said):
        read_targets([word], None)


def test_a_wrong_line_is_named(tmp_path, command):
    path = tmp_path / "hosts"
    path.write_text("a\n\nb c\n", encoding="utf-8")
    status, _, err = command("probe", "--targets", path)
    assert status == 2
    assert f"--targets {path}, line 3" in err


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("x", "--server-name", "a\udcffb"),
        ("x", "--listen", "127.0.0.1"),
        ("x", "--json", "--csv"),
        ("--listen", "127.0.0.1", "--cert", "x"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_a_usage_error(words, command):
    status, _, err = command("probe", *words)
    assert status == 2
    assert "see acredssp probe --help for the options" in err


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
@pytest.mark.parametrize("words", [("--targets", "/dev/zero"), ("localhost", "--policy", "/dev/zero")])
def test_a_file_without_an_end_is_a_usage_error(words, command):
    status, _, err = command("probe", *words)
    assert status == 2
    assert f"{words[-2]} /dev/zero: expected at most" in err


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_targets_without_an_end_on_the_standard_input_are_a_usage_error(monkeypatch, command):
    with Path("/dev/zero").open("rb") as endless:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(endless))
        status, _, err = command("probe", "--targets", "-")
    assert status == 2
    assert "--targets -: expected at most" in err


# --- many hosts ---


@pytest.fixture
def farm():
    """50 servers on addresses of loopback, all at one port, in a thread; each refuses everything but NLA."""
    port, ready, done = free_port(), threading.Event(), threading.Event()
    hosts = [f"127.0.0.{number}" for number in range(10, 60)]

    async def serve():
        server = ScriptedServer(refusal=FailureCode.HYBRID_REQUIRED_BY_SERVER)
        tasks = set()

        async def answer(reader, writer):
            tasks.add(asyncio.current_task())
            await server(reader, writer)
            tasks.discard(asyncio.current_task())

        listening = [await asyncio.start_server(answer, host, port) for host in hosts]
        ready.set()
        await asyncio.to_thread(done.wait)
        for each in listening:
            each.close()
        while tasks:
            await asyncio.wait([*tasks])

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    yield port, hosts
    done.set()
    thread.join()


def test_a_network_of_254_addresses_with_50_servers_is_probed_in_one_go(farm, command):
    port, hosts = farm
    status, out, err = command("probe", f"127.0.0.0/24:{port}", "--json", "--rate", "5000")
    records = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert len(records) == 254
    answered = {record["target"].partition(":")[0] for record in records if record["reach"] == "reached"}
    assert answered == set(hosts)
    assert all(ids(record) == {"nla-required", "nla-not-offered"} for record in records if record["reach"] == "reached")
    refused = [record for record in records if record["reach"] == "refused"]
    assert len(refused) == 204
    assert {record["connections"] for record in refused} == {1}
    assert "50 of 254 hosts answered, 504 connections" in err
    assert "at most 5000" in err
    assert "MiB of memory" in err


@pytest.mark.parametrize("form", ["--csv", ""])
def test_hosts_that_this_machine_could_not_ask_are_told_also_of_a_network(form, command, monkeypatch, required):
    async def no_descriptor(*_args, **_more):
        raise OSError(errno.EMFILE, "x")

    monkeypatch.setattr("acredssp.cli.probing.asyncio.open_connection", no_descriptor)
    for more in ((), ("--policy", required(""))):
        status, out, err = command("probe", "127.0.0.0/30", *filter(None, [form]), *more)
        assert status == 4, "nothing was checked"
        assert out.count("own-limit") == 2
        assert "0 of 2 hosts answered (2 were not asked, by a limit of this machine)" in err


def test_a_bar_on_the_terminal_counts_the_hosts_and_a_file_has_none():
    terminal, file = io.StringIO(), io.StringIO()
    for stream, is_terminal in ((terminal, True), (file, False)):
        bar = _progress(Console(file=stream, force_terminal=is_terminal, width=60), shown=True)
        with contextlib.nullcontext() if bar.disable else bar:
            bar.advance(bar.add_task("3 hosts", total=3))
            bar.refresh()
    assert "3 hosts" in terminal.getvalue()
    assert "1/3" in terminal.getvalue()
    assert file.getvalue() == ""


def test_many_hosts_are_a_line_each_for_people(farm, command):
    port, hosts = farm
    status, out, _ = command("probe", *(f"{host}:{port}" for host in hosts[:3]), "--rate", "0")
    assert status == 0
    lines = out.splitlines()
    assert len(lines) == 3
    assert all("nla-not-offered" in line for line in lines)


def test_who_was_named_and_cannot_be_reached_has_a_line_and_an_address_of_a_network_has_none(farm, command):
    port, hosts = farm
    words = f"127.0.0.9:{port}", f"127.0.0.8/30:{port}"  # .9 is named; of .9 and .10 in the network, .10 answers
    status, out, err = command("probe", *words, "--rate", "0")
    assert status == 0
    lines = {line.split()[1]: line for line in out.splitlines()}
    assert set(lines) == {f"127.0.0.9:{port}", f"{hosts[0]}:{port}"}
    assert lines[f"127.0.0.9:{port}"].endswith("not reached  connection-refused")
    assert "1 of 2 hosts answered" in err
    _, out, _ = command("probe", f"127.0.0.8/30:{port}", "--rate", "0")
    assert out.splitlines() == [lines[f"{hosts[0]}:{port}"]]


def test_findings_come_as_csv_for_spreadsheets(farm, command):
    port, hosts = farm
    _, out, _ = command("probe", *(f"{host}:{port}" for host in hosts[:2]), "--csv")
    head, *rows = csv.reader(io.StringIO(out))
    assert head == ["target", "address", "severity", "id", "text", "next_step"]
    assert {row[3] for row in rows} == {"nla-required", "nla-not-offered"}
    assert len(rows) == 4


# --- clients ---


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), {"client-ntlm-only", "client-user-in-clear"}),
        (("--mechanism", "negotiate"), {"client-ntlm-only", "client-user-in-clear"}),
        (
            ("--max-version", "4", "--min-version", "2"),
            {"client-ntlm-only", "client-user-in-clear", "client-credssp-old"},
        ),
        (("--pin", "0" * 64), {"client-user-in-clear", "client-tls-failed"}),
    ],
)
def test_a_client_that_connects_is_judged(words, expected, command, password):
    argv = [sys.executable, "-m", "acredssp", "probe", "--listen", "127.0.0.1:0", "--json"]
    with Warm(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        address = process.stderr.readline().split()[-1]
        trust = () if "--pin" in words else ("--insecure",)
        status, _, _ = command("login", address, "-u", "CONTOSO\\alice", "-p", password, *trust, *words)
        out, err = process.communicate()
    record = json.loads(out)
    assert (process.returncode, err) == (0, "")
    assert status != 0
    assert ids(record) == expected
    assert record["kind"] == "client"
    assert password not in out


def test_an_address_that_is_in_use_cannot_be_listened_on(command, served_nowhere):
    status, _, err = command("probe", "--listen", served_nowhere)
    assert status == 4
    assert f"cannot listen on {served_nowhere}: " in err
    assert "choose another address with --listen HOST:PORT" in err


def test_targets_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "targets"
    path.write_bytes("\ufeff127.0.0.1:1\r\nhost\r\n".encode())
    assert [str(each) for each in read_targets((), path)] == ["127.0.0.1:1", "host:3389"]


def test_targets_without_a_target_are_a_usage_error(command, tmp_path):
    path = tmp_path / "targets"
    path.write_text("# nothing\n")
    status, _, err = command("probe", "--targets", path)
    assert status == 2
    assert "expected a target in a line, got none" in err


def test_csv_leaves_out_addresses_of_a_network_that_do_not_answer(command):
    status, out, _ = command("probe", "127.0.0.0/30:1", "127.0.0.3:1", "--csv")
    assert status == 4
    assert [line.partition(",")[0] for line in out.splitlines()] == ["target", "127.0.0.3:1"]


def test_a_finding_without_a_next_step_has_none(capsys):
    show_findings(consoles()[0], [found("logon-succeeded", mechanism="ntlm", version=6)])
    assert "\u2192" not in capsys.readouterr().out
