"""`acredssp doctor`: each cause of a failed logon has its finding, against a server that has the cause."""

import asyncio
import contextlib
import datetime as dt
import io
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from support.certificates import Made
from support.endpoints import CERTIFICATE, KEY, PASSWORD, PIN, client_config, server_config
from support.peers import free_port
from support.scripted import CLOSE, ScriptedServer, Silent, challenge, context, pems_of, serving
from support.warm import Warm

import acredssp
from acredssp import NTSTATUS, Deny, Password, Policy, Trust
from acredssp.carriage import TLS
from acredssp.cli.doctor import _beside, _progress
from acredssp.cli.examination import Course
from acredssp.cli.login import Login
from acredssp.cli.outcome import Interrupted, Result
from acredssp.cli.output import CANNOT_WRITE
from acredssp.cli.probing import Pace, Prober
from acredssp.cli.rdp_logon import Patient, examine
from acredssp.credentials import Nothing
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.rdp import RDP, FailureCode, PreconnectionPDU, Protocols, ResponseFlags
from acredssp.wire import TSRequest
from acredssp.workers import Address

HYBRID, SSL = Protocols.HYBRID, Protocols.SSL
TLS_1_0, TLS_1_2 = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_2
FAR = 3600.0
KERBEROS_ALONE = bytes.fromhex("a1143012a0030a0101a10b06092a864886f712010202")
"""SPNEGO's answer that the server goes on with Kerberos."""


def now():
    return dt.datetime.now(dt.UTC)


def own_context(**settings):
    return context(**{"pems": (CERTIFICATE, KEY)} | settings)


def after_authenticate(answer, version=6, at=None):
    """A server that gives its challenge, and then answers the proof of the password so."""

    def answers(request):
        if request.nego_token and request.nego_token.startswith(b"NTLMSSP\0\1"):
            return TSRequest(version, challenge(at))
        return answer

    return answers


def scripted(answer, version=6, at=None, **settings):
    return ScriptedServer(HYBRID, tls=own_context(**settings), answer=after_authenticate(answer, version, at))


@contextlib.asynccontextmanager
async def running(server):
    """Run a scripted server, or a configuration of ours, and give the port."""
    if isinstance(server, ScriptedServer):
        async with serving(server) as port:
            yield port
        return
    config, carriage = server if isinstance(server, tuple) else (server, RDP(hybrid_ex=True))
    listening = await acredssp.create_server(asyncio.Protocol, "127.0.0.1", 0, config=config, carriage=carriage)
    async with listening:
        yield listening.sockets[0].getsockname()[1]
        listening.close()
        await listening.wait_closed()


def login_to(port, config=None, **fields):
    login = {
        "address": Address("127.0.0.1", port),
        "config": config or client_config(),
        "carriage": RDP(hybrid_ex=True),
        "server_hostname": "127.0.0.1",
        "spn": None,
        "timeout": FAR,
    }
    return Login(**login | fields)


async def examined(server, config=None, **fields):
    config = config or client_config()
    carriage = fields.get("carriage", RDP())
    prober = Prober(pace=Pace(0), timeout=FAR, trust=config.trust or Trust(), carriage=carriage)
    async with running(server) as port:
        return await examine(Patient.of(login_to(port, config, **fields)), prober)


def ids(examination):
    return {each.id for each in examination.causes}


def denied(status):
    """A server that knows the password, and refuses the account."""
    return lambda: server_config(lookup=lambda _request: Deny(status, secret=Password(PASSWORD)))


def refuses(code):
    return lambda: ScriptedServer(refusal=code)


CASES = {
    "1 an old server": (lambda: scripted(CLOSE, version=4), {"credssp-old"}),
    "2 ntlm blocked": (denied(NTSTATUS.STATUS_NTLM_BLOCKED), {"ntlm-disabled", "ntlm-by-address"}),
    "2 ntlm not supported": (lambda: scripted(TSRequest(6, error_code=0x80090302)),
                             {"ntlm-disabled", "ntlm-by-address"}),
    "2 kerberos alone": (lambda: ScriptedServer(HYBRID, tls=own_context(), answer=TSRequest(6, KERBEROS_ALONE)),
                         {"ntlm-refused"}),
    "3 a restriction": (denied(NTSTATUS.STATUS_ACCOUNT_RESTRICTION), {"account-restriction", "ntlm-by-address"}),
    "4 expired password": (denied(NTSTATUS.STATUS_PASSWORD_EXPIRED), {"password-expired"}),
    "4 password to change": (denied(NTSTATUS.STATUS_PASSWORD_MUST_CHANGE), {"password-must-change"}),
    "5 locked": (denied(NTSTATUS.STATUS_ACCOUNT_LOCKED_OUT), {"account-locked"}),
    "5 disabled": (denied(NTSTATUS.STATUS_ACCOUNT_DISABLED), {"account-disabled"}),
    "5 expired account": (denied(NTSTATUS.STATUS_ACCOUNT_EXPIRED), {"account-expired"}),
    "6 wrong password": (lambda: server_config(lookup=lambda _request: Password("another")), {"wrong-credentials"}),
    "6 unknown user": (lambda: server_config(lookup=lambda _request: Deny()), {"wrong-credentials"}),
    "7 no controller": (denied(NTSTATUS.STATUS_NO_LOGON_SERVERS), {"no-domain-controller"}),
    "7 no trust": (denied(NTSTATUS.STATUS_TRUSTED_RELATIONSHIP_FAILURE), {"trust-broken"}),
    "9 a clock ahead": (lambda: scripted(TSRequest(6, error_code=0xC000006D), at=now() + dt.timedelta(minutes=10)),
                        {"wrong-credentials", "clock-off"}),
    "10 code 1": (refuses(FailureCode.SSL_REQUIRED_BY_SERVER), {"tls-required"}),
    "10 code 2": (refuses(FailureCode.SSL_NOT_ALLOWED_BY_SERVER), {"tls-not-allowed"}),
    "10 code 3": (refuses(FailureCode.SSL_CERT_NOT_ON_SERVER), {"no-server-certificate"}),
    "10 code 4": (refuses(FailureCode.INCONSISTENT_FLAGS), {"inconsistent-flags"}),
    "10 code 5": (refuses(FailureCode.HYBRID_REQUIRED_BY_SERVER), {"nla-required"}),
    "10 code 6": (refuses(FailureCode.SSL_WITH_USER_AUTH_REQUIRED_BY_SERVER), {"client-certificate-required"}),
    "10 another code": (refuses(FailureCode(9)), {"negotiation-refused"}),
    "10 no nla": (lambda: ScriptedServer(SSL), {"nla-not-offered"}),
    "10 rdp security": (lambda: ScriptedServer(None), {"nla-not-offered", "rdp-security-accepted"}),
    "10 redirected logons alone": (lambda: ScriptedServer(Protocols.RDSTLS), {"nla-required", "rdstls-offered"}),
    "10 entra alone": (lambda: ScriptedServer(Protocols.RDSAAD), {"nla-required", "entra-offered"}),
    "11 not admitted": (lambda: server_config(admit=lambda _admission: False), {"not-authorized"}),
    "11 logon type": (denied(NTSTATUS.STATUS_LOGON_TYPE_NOT_GRANTED), {"not-authorized"}),
    "12 proof refused": (lambda: scripted(TSRequest(6, error_code=0x8009030F)), {"tls-intercepted", "peer-defect"}),
    "12 closed after ours": (lambda: scripted(CLOSE), {"silent-refusal", "wrong-credentials", "tls-intercepted"}),
    "13 reset at the hello": (lambda: ScriptedServer(HYBRID), {"tls-failed"}),
    "13 no common version": (lambda: scripted(CLOSE, lowest=TLS_1_0, highest=TLS_1_0), {"tls-too-old"}),
    "silent at version 5": (lambda: scripted(CLOSE, version=5), {"silent-refusal", "wrong-credentials"}),
    "FreeRDP's number": (lambda: scripted(TSRequest(6, error_code=0xC00700EA)),
                         {"silent-refusal", "wrong-credentials"}),
    "another status": (lambda: scripted(TSRequest(6, error_code=0xC0001234)), {"unknown"}),
    "nonsense": (lambda: ScriptedServer(HYBRID, tls=own_context(), answer=TSRequest(6, b"nonsense")),
                 {"credssp-malformed"}),
    "ssh": (lambda: ScriptedServer(greeting=b"SSH-2.0-OpenSSH_9.6\r\n"), {"not-rdp"}),
    "http": (lambda: ScriptedServer(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n"), {"not-rdp"}),
    "a success": (server_config, {"logon-succeeded"}),
}  # fmt: skip
"""What a server does, by the number of the complaint, and the causes that the doctor must name."""


@pytest.fixture(params=CASES)
def case(request):
    """A server, made before the loop runs, and the causes to name."""
    make, expected = CASES[request.param]
    return make(), expected


async def test_the_cause_of_a_failed_logon_is_named(case):
    server, expected = case
    examination = await examined(server)
    assert ids(examination) == expected, examination.as_dict()


async def test_the_facts_of_an_unknown_failure_are_told(bad_status):
    (finding,) = (await examined(bad_status)).causes
    assert "0xC0001234" in finding.text


@pytest.fixture
def bad_status():
    return scripted(TSRequest(6, error_code=0xC0001234))


@pytest.fixture
def expired():
    """A server whose certificate has expired."""
    pems = pems_of(Made("127.0.0.1", names=("127.0.0.1",), start=-900, days=-800))
    return ScriptedServer(HYBRID, tls=context(pems=pems), answer=CLOSE)


def ended(examination):
    return [each.stage for each in examination.stages if each.ended]


def came(examination):
    return {each.stage: each.came for each in examination.stages}


ENDS = {
    "negotiation": refuses(FailureCode.INCONSISTENT_FLAGS),
    "tls": lambda: ScriptedServer(HYBRID),
    "logon": lambda: server_config(lookup=lambda _request: Password("another")),
    "mechanism": lambda: ScriptedServer(HYBRID, tls=own_context(), answer=TSRequest(6, b"nonsense")),
    "credssp": lambda: scripted(CLOSE, version=4),
}
"""Servers, by the stage at which a logon to them ends."""


@pytest.fixture(params=ENDS)
def end(request):
    """A server, made before the loop runs, and the stage at which the logon to it ends."""
    return ENDS[request.param](), request.param


async def test_the_stage_at_which_the_logon_ended_is_marked(end):
    server, stage = end
    assert ended(await examined(server)) == [stage]


async def test_a_success_has_no_stage_at_which_it_ended():
    assert ended(await examined(server_config())) == []


@pytest.fixture
def closing():
    """A server that ends the connection after the proof of the password; made before the loop runs."""
    return scripted(CLOSE)


async def test_stages_that_the_logon_did_not_reach_are_told_from_those_that_it_did(closing):
    examination = await examined(closing, client_config(trust=Trust.pinned("0" * 64)))
    assert ended(examination) == ["certificate"]
    assert came(examination)["credssp"] == "not reached; asked quietly: 6"
    assert came(examination)["mechanism"] == "not reached; asked quietly: ntlm"
    assert came(examination)["negotiation"] == "HYBRID"


async def test_the_stage_of_a_closed_port_is_the_connection():
    prober = Prober(pace=Pace(0), timeout=FAR, trust=Trust())
    examination = await examine(Patient.of(login_to(free_port())), prober)
    assert ended(examination) == ["tcp"]
    assert came(examination)["certificate"] == "not reached"


def test_people_see_where_the_logon_ended(served, command):
    status, out, _ = doctor(command, served("--hybrid-ex").address, password="wrong")
    assert status == 1
    assert sum("the logon ended here" in line for line in out.splitlines()) == 1
    assert re.search(r"\n *logon .*the logon ended here", out)


def test_the_requirements_of_probe_are_no_policy_of_a_logon(command, tmp_path):
    path = tmp_path / "required.toml"
    path.write_text('fail_at = "medium"\n')
    status, _, err = command("doctor", "127.0.0.1:1", "-u", "alice", "-p", "x", "--policy", path)
    assert status == 2
    assert "fail_at is a requirement of acredssp probe; here --policy names the rules of delegation" in " ".join(
        err.split()
    )


async def test_an_expired_certificate_is_named(expired):
    causes = ids(await examined(expired, client_config(trust=Trust())))
    assert causes == {"certificate-expired", "certificate-self-signed"}


async def test_a_certificate_for_another_name_is_named():
    config = client_config(trust=Trust())
    examination = await examined(server_config(), config, server_hostname="other.example")
    assert "certificate-wrong-name" in ids(examination)


async def test_another_key_than_the_pinned_one_is_named():
    assert ids(await examined(server_config(), client_config(trust=Trust.pinned("0" * 64)))) == {
        "certificate-other-key"
    }


async def test_a_rule_of_this_machine_is_named():
    config = client_config(delegation=DelegationPolicy(deny_fresh_credentials=SPNList.of("TERMSRV/*")))
    assert ids(await examined(server_config(), config)) == {"policy-forbids"}


async def test_restricted_admin_that_the_server_does_not_announce_is_named():
    server = server_config(admit=lambda _admission: False), RDP(hybrid_ex=True, response_flags=ResponseFlags(0))
    examination = await examined(server, client_config(delegate=Nothing()))
    assert ids(examination) == {"not-authorized", "restricted-admin-off"}


async def test_a_closed_port_is_named():
    examination = await examine(Patient.of(login_to(free_port())), Prober(pace=Pace(0), timeout=FAR, trust=Trust()))
    assert ids(examination) == {"connection-refused"}


async def test_a_filtered_port_is_named(monkeypatch):
    async def drop(*_args, **_more):
        raise TimeoutError

    monkeypatch.setattr("acredssp.cli.probing.asyncio.open_connection", drop)
    monkeypatch.setattr("acredssp.cli.login._connect_to_any", drop)
    prober = Prober(pace=Pace(0), timeout=FAR, trust=Trust())
    examination = await examine(Patient.of(login_to(free_port())), prober)
    assert ids(examination) == {"no-answer"}
    assert ended(examination) == ["tcp"]


async def test_the_logon_has_the_time_that_the_questions_have_left(monkeypatch):
    left = []

    async def log_on(login):
        left.append(login.timeout)
        raise asyncio.CancelledError

    async def slow(self, target, facts):
        facts.seconds = 1000.0

    monkeypatch.setattr("acredssp.cli.rdp_logon.log_on", log_on)
    monkeypatch.setattr(Prober, "server", slow)
    await examine(Patient.of(login_to(free_port())), Prober(pace=Pace(0), timeout=FAR, trust=Trust()))
    assert left == [FAR - 1000.0]


class Intercepting:
    """Ends TLS in front of a server with a key of its own, as an inspecting firewall does."""

    def __init__(self, port, tls):
        self._port, self._tls = port, tls

    async def __call__(self, reader, writer):
        their_reader, their_writer = await asyncio.open_connection("127.0.0.1", self._port)
        with contextlib.suppress(ConnectionError, ssl.SSLError, EOFError):
            their_writer.write(await acredssp.rdp.read_negotiation(reader))
            writer.write(confirm := await acredssp.rdp.read_negotiation(their_reader))
            if len(confirm) == 19 and confirm[11] == 2:
                outward = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                outward.check_hostname, outward.verify_mode = False, ssl.CERT_NONE
                await writer.start_tls(self._tls)
                await their_writer.start_tls(outward)
            await asyncio.gather(_pass_on(reader, their_writer), _pass_on(their_reader, writer))
        for each in (writer, their_writer):
            each.transport.abort()


async def _pass_on(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@pytest.fixture
def intercepting():
    """The TLS context of whoever is in between."""
    return context()


async def test_a_firewall_that_ends_tls_is_named(intercepting):
    """The client accepts its key, as somebody does who was told to click the warning away."""
    config = client_config(Policy(dangerous_accept_any_certificate=True))
    async with running(server_config()) as port, serving(Intercepting(port, intercepting)) as between:
        prober = Prober(pace=Pace(0), timeout=FAR, trust=Trust())
        examination = await examine(Patient.of(login_to(between, config)), prober)
    assert ids(examination) == {"wrong-credentials", "key-unchecked"}, "our server refuses both with the same status"
    (finding,) = [each for each in examination.causes if each.id == "key-unchecked"]
    assert finding.facts["pin"] not in {PIN, ""}


async def test_a_server_that_expects_tls_at_once_is_asked_so():
    examination = await examined((server_config(), TLS()), carriage=TLS())
    assert ids(examination) == {"logon-succeeded"}
    assert "negotiation" not in came(examination)
    assert (came(examination)["credssp"], came(examination)["mechanism"]) == ("6", "ntlm")
    assert examination.steps[0].state == "TLS"
    assert examination.probed.facts.negotiation == {}
    assert examination.probed.facts.connections == 4 + 3, "one for each version of TLS, and for each question"


async def test_a_negotiation_in_place_of_tls_at_once_is_seen():
    examination = await examined(server_config(), carriage=TLS())
    assert ids(examination) == {"tls-failed"}
    assert ended(examination) == ["tls"]


async def test_the_way_to_a_server_behind_a_broker_goes_with_every_question_and_the_name_with_the_logon_alone():
    server = ScriptedServer(refusal=FailureCode.HYBRID_REQUIRED_BY_SERVER)
    await examined(server, carriage=RDP(hybrid_ex=True, routing_token="tsv://farm"))
    assert {each.routing_token for each in server.requests} == {"tsv://farm"}
    server = ScriptedServer(refusal=FailureCode.HYBRID_REQUIRED_BY_SERVER)
    await examined(server, carriage=RDP(hybrid_ex=True, cookie="alice"))
    assert [each.cookie for each in server.requests] == [*[None] * (len(server.requests) - 1), "alice"]


async def test_the_preconnection_pdu_goes_before_every_request():
    first = []

    async def listening(reader, writer):
        first.append(await reader.read(len(pdu.encode())))
        writer.transport.abort()

    pdu = PreconnectionPDU(id=7, blob="vm-1")
    carriage = RDP(hybrid_ex=True, preconnection=pdu)
    async with serving(listening) as port:
        prober = Prober(pace=Pace(0), timeout=FAR, trust=Trust(), carriage=carriage)
        await examine(Patient.of(login_to(port, carriage=carriage)), prober)
    assert len(first) > 1
    assert set(first) == {pdu.encode()}


@pytest.mark.parametrize(("user", "named"), [("CONTOSO/bob", True), ("bob", False)])
async def test_a_slash_in_place_of_a_backslash_is_named(user, named):
    config = client_config(authenticate=Password(PASSWORD, user))
    causes = ids(await examined(server_config(lookup=lambda _request: Deny()), config))
    assert causes == {"wrong-credentials"} | ({"slash-in-account"} if named else set())


async def test_exactly_one_logon_is_made():
    proofs = []

    def lookup(request):
        proofs.append(request.principal.user)
        return Password("another")

    await examined(server_config(lookup=lookup))
    assert proofs == ["bob"]


# --- while it works ---


async def test_what_is_done_is_told_in_its_order():
    told = []
    async with running(server_config()) as port:
        prober = Prober(pace=Pace(0), timeout=FAR, trust=client_config().trust)
        await examine(Patient.of(login_to(port)), prober, Course(told.append))
    assert [each.split()[0] for each in told] == ["looking", "asking", "logging"]
    assert all("127.0.0.1" in each for each in told)


def test_a_terminal_shows_what_is_done_and_a_file_does_not():
    terminal, file = io.StringIO(), io.StringIO()
    for stream, is_terminal in ((terminal, True), (file, False)):
        with _progress(Console(file=stream, force_terminal=is_terminal)) as course:
            course.begin("asking a\x1bhost")
    assert "asking a\\x1bhost (Ctrl-C ends it)" in terminal.getvalue()
    assert file.getvalue() == ""


async def interrupted(server):
    """Cancel an examination, as Ctrl-C does, while the server keeps it waiting."""
    async with serving(server) as port:
        prober = Prober(pace=Pace(0), timeout=FAR, trust=Trust())
        task = asyncio.create_task(examine(Patient.of(login_to(port)), prober))
        await server.held.wait()
        task.cancel()
        return await task


async def test_an_interrupted_doctor_tells_what_it_knows():
    server = ScriptedServer(refusal=FailureCode.INCONSISTENT_FLAGS)
    examination = await interrupted(Silent(2, server))
    assert isinstance(examination.error, Interrupted)
    assert examination.report.result is Result.INTERRUPTED
    assert examination.causes == []
    assert came(examination)["tcp"] == "reached"
    assert came(examination)["negotiation"] == "refused: INCONSISTENT_FLAGS"
    assert came(examination)["logon"].startswith("ctrl-c ended it while asking 127.0.0.1:")
    assert ended(examination) == ["logon"]
    assert len(examination.probed.facts.negotiation) == 2
    assert json.dumps(examination.as_dict())


async def test_an_interrupted_logon_is_told_from_an_interrupted_question():
    examination = await interrupted(Silent(6, ScriptedServer(refusal=FailureCode.INCONSISTENT_FLAGS)))
    assert came(examination)["logon"].startswith("ctrl-c ended it while logging on to 127.0.0.1:")
    assert "inconsistent-flags" in {each.id for each in examination.also}
    assert [each.sent > 0 for each in examination.steps] == [True]


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to a whole console")
@pytest.mark.parametrize("scheme", ["", "http://"])
def test_ctrl_c_prints_the_object_and_writes_the_report(tmp_path, scheme):
    pytest.importorskip("h11")
    report = tmp_path / "report.json"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = f"{scheme}127.0.0.1:{listener.getsockname()[1]}"
        words = ["doctor", where, "-u", "alice", "-p", "x", "--json", "--report", str(report)]
        process = Warm([sys.executable, "-m", "acredssp", *words], stdout=subprocess.PIPE)
        with process, listener.accept()[0]:
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate()
    assert process.returncode == 130
    told = json.loads(out)
    assert told["result"] == "interrupted"
    assert told["server"]["reach"] in {"reached", "unknown"}
    assert told["causes"] == told["also"] == []
    assert json.loads(report.read_text("ascii"))["login"] == told["login"]


# --- what it prints ---


def doctor(command, address, *words, password=PASSWORD):
    return command("doctor", address, "-u", "CONTOSO\\alice", "-p", password, "--insecure", *words)


def test_a_logon_is_told_to_people(served, command, password):
    status, out, _ = doctor(command, served("--hybrid-ex").address, password=password)
    assert status == 0
    for part in (
        "success",
        "HYBRID_EX",
        "then waits for",
        "the server's token of NTLM",
        "the server's early user authorization result",
        "logon-succeeded",
        "\nWrong with this",
        "ntlm-only",
    ):
        assert part in out
    assert "any (--insecure)" in out
    assert out.count("nothing: the logon is complete") == 1


def test_tls_at_once_is_an_option(served, command, password):
    server = served("--carriage", "tls")
    status, out, _ = doctor(command, server.address, "--carriage", "tls", password=password)
    assert status == 0
    assert "logon-succeeded" in out
    status, out, _ = doctor(command, server.address, password=password)
    assert status != 0
    assert "acredssp doctor --carriage tls" in out


@pytest.mark.parametrize(
    "words", [("--carriage", "tls"), ("--pcb", "vm"), ("--pcid", "0"), ("--load-balance-info", "tsv://farm")]
)
def test_a_service_over_http_is_reached_without_a_carriage(words, command):
    status, _, err = doctor(command, "http://127.0.0.1:1", *words)
    assert status == 2
    assert "got the URL of a service" in err


def test_a_refusal_is_told_to_people_and_ends_as_that_of_login(served, command):
    status, out, _ = doctor(command, served("--hybrid-ex").address, password="wrong")
    assert status == 1
    assert "wrong-credentials" in out
    assert "you sent CONTOSO\\alice" in out


def test_the_report_holds_everything_and_no_secret(served, command, password, tmp_path):
    path = tmp_path / "report.json"
    path.touch(0o644)
    status, out, _ = doctor(command, served("--hybrid-ex").address, "--json", "--report", path, password=password)
    report = json.loads(path.read_text("ascii"))
    assert status == 0
    assert json.loads(out).keys() == report.keys()
    assert {"causes", "also", "stages", "timeline", "login", "server", "client"} <= report.keys()
    assert [each["stage"] for each in report["stages"]][:4] == ["dns", "tcp", "negotiation", "tls"]
    assert sum(each["sent"] for each in report["timeline"]) > 1000
    assert password not in path.read_text("ascii")
    if os.name != "nt":
        assert path.stat().st_mode & 0o777 == 0o600


def test_people_are_told_where_the_report_is_and_it_is_not_written_over(served, command, password, tmp_path):
    path = tmp_path / "report.json"
    address = served("--hybrid-ex").address
    _, _, err = doctor(command, address, "--report", path, password=password)
    assert f"the report is in {path}" in err
    first = path.read_bytes()
    status, _, err = doctor(command, address, "--report", path, password=password)
    assert status == 2
    assert f"--report {path}: expected a new file" in err
    assert path.read_bytes() == first


def test_the_report_of_a_second_logon_has_a_name_that_no_file_has(tmp_path):
    first = tmp_path / "report.json"
    assert _beside(first) == tmp_path / "report-2.json"
    (tmp_path / "report-2.json").touch()
    assert _beside(first) == tmp_path / "report-3.json"


def test_a_report_that_cannot_be_written_is_a_usage_error_before_any_logon(monkeypatch, command, password, tmp_path):
    def forbidden(_making):
        raise AssertionError("a logon was made")

    monkeypatch.setattr("acredssp.cli.doctor.until_done", forbidden)
    status, _, err = doctor(command, "127.0.0.1", "--report", tmp_path / "no" / "report", password=password)
    assert status == 2
    assert "cannot write --report" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_diagnosis_is_told_though_its_report_cannot_be_kept(served, command, password):
    status, out, err = doctor(
        command, served("--hybrid-ex").address, "--json", "--report", "/dev/full", password=password
    )
    assert status == CANNOT_WRITE
    assert json.loads(out)["result"] == "success"
    assert "cannot write --report" in err


@pytest.mark.parametrize(
    "words", [("x",), ("x", "-u", "a", "-p", "b", "--timeout", "0"), ("x/y", "-u", "a", "-p", "b")]
)
def test_a_command_line_that_makes_no_sense_is_a_usage_error(words, command):
    status, _, err = command("doctor", *words)
    assert status == 2
    assert "see acredssp doctor --help" in err


def test_no_repr_of_a_patient_holds_the_password():
    assert PASSWORD not in repr(Patient.of(login_to(1)))


# --- Kerberos, with a real KDC ---

ALICE = ("-u", "ACREDSSP.TEST\\alice", "-p", "Passw0rd!")
ONLY = ("--mechanism", "kerberos")


@pytest.fixture
def kerberos_server(kerberos, serve_by):
    """A server that takes Kerberos alone."""
    return serve_by("--keytab", kerberos.keytab)


@pytest.fixture
def causes_at(command):
    """Runs the doctor against a server by its name; gives the ids of the causes."""

    def call(server, *words, host="localhost"):
        _, out, _ = command("doctor", f"{host}:{server.port}", "--insecure", "--json", *words)
        report = json.loads(out)
        return {each["id"] for each in report["causes"]}, report

    return call


KERBEROS_CASES = {
    "right": ((*ALICE, *ONLY), {"logon-succeeded"}),
    "8 no such service": ((*ALICE, *ONLY, "--spn", "TERMSRV/nowhere"), {"spn-unknown"}),
    "9 no kdc": (("-u", "bob@elsewhere.test", "-p", "x", *ONLY), {"kdc-not-reached"}),
    "6 wrong password": (("-u", "alice@acredssp.test", "-p", "wrong", *ONLY), {"wrong-credentials", "key-unchecked"}),
    "5 locked": (("-u", "dave@acredssp.test", "-p", "Passw0rd!", *ONLY), {"account-disabled"}),
    "4 to change": (("-u", "carol@acredssp.test", "-p", "Passw0rd!", *ONLY), {"password-expired"}),
    "no ticket": (("--ccache", "MEMORY:nowhere", *ONLY), {"no-ticket"}),
}


@pytest.mark.parametrize("case", KERBEROS_CASES)
def test_the_cause_of_a_failed_logon_by_kerberos_is_named(case, kerberos_server, causes_at):
    words, expected = KERBEROS_CASES[case]
    causes, report = causes_at(kerberos_server, *words)
    assert causes == expected, report["login"]


@pytest.mark.parametrize("words", [("--spn", "TERMSRV/nowhere"), ()])
def test_the_row_of_kerberos_is_marked_where_it_ended_the_logon(words, kerberos_server, causes_at):
    _, report = causes_at(kerberos_server, *ALICE, *ONLY, *words)
    assert [each["stage"] for each in report["stages"] if each["ended"]] == (["kerberos"] if words else [])


def test_the_tickets_are_told_without_their_keys(kerberos_server, causes_at, command):
    _, report = causes_at(kerberos_server, *ALICE, *ONLY)
    told = {each["server"]: each for each in report["tickets"]}
    assert told.keys() == {"krbtgt/ACREDSSP.TEST@ACREDSSP.TEST", "TERMSRV/localhost@ACREDSSP.TEST"}
    for each in told.values():
        assert each["client"] == "alice@ACREDSSP.TEST"
        assert each["ticket_enctype"] == each["session_enctype"] == "aes256-cts-hmac-sha1-96"
        assert dt.datetime.fromisoformat(each["ends"]) > now()
    assert each.keys() == {"client", "server", "ticket_enctype", "session_enctype", "ends", "forwardable"}
    _, out, _ = command("doctor", f"localhost:{kerberos_server.port}", "--insecure", *ALICE, *ONLY)
    assert "aes256-cts-hmac-sha1-96" in out


def test_the_tickets_of_a_cache_are_told_where_the_logon_fails(kerberos, kerberos_server, causes_at):
    words = ("--ccache", kerberos.log_on(), *ONLY, "--spn", "TERMSRV/nowhere")
    causes, report = causes_at(kerberos_server, *words)
    assert causes == {"spn-unknown"}
    assert [each["server"] for each in report["tickets"]] == ["krbtgt/ACREDSSP.TEST@ACREDSSP.TEST"]


def test_the_kdc_and_the_service_are_named(kerberos_server, causes_at):
    _, report = causes_at(kerberos_server, *ALICE, *ONLY, "--spn", "TERMSRV/nowhere")
    (cause,) = report["causes"]
    assert cause["facts"] == {"spn": "TERMSRV/nowhere", "realm": "ACREDSSP.TEST"}
    assert "setspn -Q TERMSRV/nowhere" in cause["next_step"]


def test_by_address_there_is_no_kerberos(kerberos_server, causes_at):
    causes, _ = causes_at(kerberos_server, *ALICE, *ONLY, host="127.0.0.1")
    assert causes == {"ntlm-by-address"}


def test_another_key_than_the_kdcs_is_named(kerberos, serve_by, causes_at):
    server = serve_by("--keytab", kerberos.realm.wrong_keytab)
    causes, _ = causes_at(server, *ALICE, *ONLY)
    assert "spn-wrong-key" in causes


def test_why_kerberos_was_not_used_is_named_beside_what_ntlm_met(kerberos, serve_by, users_file, causes_at):
    server = serve_by("--keytab", kerberos.keytab, "--users", users_file)
    causes, report = causes_at(server, *ALICE, "--spn", "TERMSRV/nowhere")
    assert {"wrong-credentials", "spn-unknown"} <= causes, report["login"]


def test_a_clock_ten_minutes_off_is_named(kerberos, serve_by, causes_at):
    """The KDC's clock is late, and so the ticket's client takes its own for early."""
    server = serve_by("--keytab", kerberos.keytab)
    with kerberos.realm.at_another_time("-10m") as port:
        kerberos.configure(port)
        causes, report = causes_at(server, "--ccache", kerberos.log_on(), *ONLY)
    assert "clock-skew" in causes, report["login"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "\nThe cause:\n"),
        (("--insecure", "--mechanism", "ntlm"), "\nThe cause is one of these, the likeliest first:\n"),
        (("--pin", "0" * 64), "the key of --pin"),
    ],
    ids=["untrusted", "wrong-password", "pin"],
)
def test_the_cause_of_a_failure_is_called_so(served, command, words, said):
    status, out, _ = command("doctor", served("--hybrid-ex").address, "-u", "alice", "-p", "wrong", *words)
    assert status in {1, 3}
    assert said in out
