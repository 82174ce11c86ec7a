"""`acredssp doctor URL`: each cause of a failed logon over HTTP has its finding, against such a service."""

import asyncio
import contextlib
import dataclasses
import json
import ssl

import pytest
from support import http_by_hand
from support.endpoints import BOB, PASSWORD, PIN, client_config, server_config
from support.engine import pem
from support.http_by_hand import OUTSIDE, WEB
from support.wsman_http import serving
from support.wsman_toy import Toy

from acredssp import NTSTATUS, Deny, Password, Policy, Trust
from acredssp.cli.arguments import service
from acredssp.cli.probing import Pace, Prober
from acredssp.cli.web_logon import WebPatient, examine_service
from acredssp.delegation import DelegationPolicy

FAR = 3600.0
TLS_HANDSHAKE = b"\x16"
"""The first byte of a client that begins TLS."""
TO_THE_WEB = DelegationPolicy(allow_fresh_credentials=WEB, allow_fresh_credentials_when_ntlm_only=WEB)


async def app(_scope, _receive, _send):
    raise AssertionError("a doctor asks for nothing")


def answering(status, *fields):
    """A service that gives every request this answer."""
    lines = [f"HTTP/1.1 {status} Text", *fields, "Content-Length: 4", "", "body"]
    return "\r\n".join(lines).encode()


def denying(status):
    return server_config(lookup=lambda _request: Deny(status, secret=Password(PASSWORD)))


def old():
    return server_config(
        dataclasses.replace(Policy(), min_version=2, max_version=4, dangerous_allow_legacy_versions=True)
    )


@contextlib.asynccontextmanager
async def running(server):
    """Run a service of ours by its configuration, or one that answers with fixed bytes; give its port."""
    if not isinstance(server, bytes):
        async with http_by_hand.serving("ours", app, server) as port:
            yield port
        return

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            of_tls = await reader.readexactly(1) == TLS_HANDSHAKE
            writer.write(server if of_tls else b"")
            while not of_tls and await reader.readuntil(b"\r\n\r\n") and server:
                writer.write(server)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


async def examined(server, config=None, **changes):
    async with running(server) as port:
        return await examine(f"http://127.0.0.1:{port}", config, **changes)


async def examine(url, config=None, **changes):
    known = {
        "service": service(url),
        "config": config or client_config(delegation=TO_THE_WEB),
        "name": "localhost",
        "spn": None,
        "https": None,
        "timeout": FAR,
    }
    prober = Prober(pace=Pace(0), timeout=FAR, trust=Trust.pinned(PIN))
    return await examine_service(WebPatient(**known | changes), prober)


def ids(examination):
    return {each.id for each in examination.causes}


WRONG = {"winrm-wrong-credentials"}
CASES = {
    "wrong password": (lambda: server_config(lookup=lambda _request: Password("another")), WRONG),
    "unknown user": (lambda: server_config(lookup=lambda _request: Deny()), WRONG),
    "locked": (lambda: denying(NTSTATUS.STATUS_ACCOUNT_LOCKED_OUT), {"account-locked"}),
    "expired": (lambda: denying(NTSTATUS.STATUS_PASSWORD_EXPIRED), {"password-expired"}),
    "logon type": (lambda: denying(NTSTATUS.STATUS_LOGON_TYPE_NOT_GRANTED), {"winrm-not-authorized"}),
    "not admitted": (
        lambda: server_config(admit=lambda _admission: False), {"winrm-not-authorized", "http-connection-shared"},
    ),
    "an old server": (old, {"credssp-old"}),
    "no credssp": (
        lambda: answering(401, "WWW-Authenticate: Negotiate", "WWW-Authenticate: Basic realm=x"), {"winrm-no-credssp"},
    ),
    "no logon at all": (lambda: answering(200), {"http-no-authentication"}),
    "another path": (lambda: answering(404), {"not-winrm"}),
    "another protocol": (lambda: b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n", {"not-http"}),
    "no answer": (lambda: b"", {"http-no-answer"}),
    "overloaded": (lambda: answering(503), {"http-unavailable"}),
    "a token of nobody": (
        lambda: answering(401, "WWW-Authenticate: CredSSP"), {"http-connection-shared"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_the_cause_of_a_failed_logon_is_named(case):
    make, expected = CASES[case]
    examination = await examined(make())
    assert ids(examination) == expected
    assert examination.error is not None


def ended(examination):
    return [each.stage for each in examination.stages if each.ended]


ENDS = {
    "http": ("no credssp", {}),
    "mechanism": ("an old server", {}),
    "logon": ("wrong password", {}),
    "tls inside": ("wrong password", {"trust": Trust.pinned("00" * 32)}),
}
"""The case and the settings by which a logon ends at a stage."""


@pytest.mark.parametrize("stage", ENDS)
async def test_the_stage_at_which_the_logon_ended_is_marked(stage):
    case, settings = ENDS[stage]
    examination = await examined(CASES[case][0](), client_config(delegation=TO_THE_WEB, **settings))
    assert ended(examination) == [stage]


async def test_a_logon_that_succeeds_delegates_to_the_service_and_asks_it_for_nothing():
    examination = await examined(server_config(lookup=lambda _request: BOB))
    assert ids(examination) == {"logon-succeeded"}
    assert examination.facts.spn == "HTTP/localhost"
    stages = {each.stage: each.came for each in examination.stages}
    assert stages["http"] == "401: CredSSP"
    assert (stages["credssp"], stages["mechanism"], stages["logon"]) == ("6", "ntlm", "accepted")
    assert sum(each.sent for each in examination.steps) > 1000
    assert sum(each.took for each in examination.steps) > 1000


async def test_a_rule_of_this_machine_is_named_and_nothing_is_delegated():
    admitted = []
    config = server_config(admit=lambda admission: admitted.append(admission) or True)
    examination = await examined(config, client_config())
    assert ids(examination) == {"policy-forbids"}
    assert admitted == []


async def test_a_certificate_inside_credssp_that_is_not_trusted_is_named():
    other = client_config(delegation=TO_THE_WEB, trust=Trust.pinned("00" * 32))
    assert ids(await examined(server_config(), other)) == {"certificate-untrusted"}


@pytest.fixture
async def failed_handshakes_are_told_to_nobody():
    """In debug mode, asyncio tells the loop of a client that ends the handshake of TLS."""
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, _context: None)
    yield
    loop.set_exception_handler(handler)


@pytest.mark.usefixtures("failed_handshakes_are_told_to_nobody")
async def test_https_is_bound_and_its_certificate_judged():
    async with http_by_hand.serving("ours", app, ssl=OUTSIDE) as port:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        examination = await examine(f"https://127.0.0.1:{port}", https=context)
        assert ids(examination) == {"logon-succeeded"}
        assert next(each.came for each in examination.stages if each.stage == "https").startswith("TLSv1.")
        refused = await examine(f"https://127.0.0.1:{port}", https=ssl.create_default_context())
    assert ids(refused) == {"https-untrusted"}
    assert (ended(examination), ended(refused)) == ([], ["https"])
    assert "the certificate of https" in refused.error.message


async def test_http_at_the_port_of_https_is_named():
    async with running(answering(401, "WWW-Authenticate: CredSSP")) as port:
        examination = await examine(f"https://127.0.0.1:{port}", https=http_by_hand.NO_CHECK)
    assert ids(examination) == {"tls-failed"}


async def test_a_closed_port_is_named(unused_tcp_port):
    examination = await examine(f"http://127.0.0.1:{unused_tcp_port}")
    assert ids(examination) == {"connection-refused"}
    assert ended(examination) == ["tcp"]


async def test_an_answer_may_be_long_and_not_endless():
    body = b"x" * 100_000
    head = b"HTTP/1.1 401 No\r\nWWW-Authenticate: CredSSP\r\nContent-Length: %d\r\n\r\n" % len(body)
    examination = await examined(head + body)
    assert "expected at most 65536 bytes" in examination.error.message


# --- the command ---


def test_the_command_tells_people_and_machines(winrm_service, command, tmp_path):
    url, authority = winrm_service
    report = tmp_path / "report.json"
    words = ["doctor", url, "-u", "CONTOSO\\alice", "-p", "Passw0rd!", "--ca", authority]
    status, out, _ = command(*words, "--report", report)
    assert status == 0
    for part in ("success", "CONTOSO\\alice at http://localhost:", "401 that offers CredSSP", "logon-succeeded"):
        assert part in out
    assert "Passw0rd!" not in report.read_text("ascii")
    status, out, _ = command(*words[:5], "wrong", *words[6:], "--json")
    assert status == 1
    told = json.loads(out)
    assert [each["id"] for each in told["causes"]][-1:] == ["winrm-wrong-credentials"]
    assert told["server"]["kind"] == "winrm"


def test_a_url_that_makes_no_sense_is_a_usage_error(command):
    status, _, err = command("doctor", "ftp://host", "-u", "a", "-p", "b")
    assert status == 2
    assert "expected a URL of http or https" in err


@pytest.fixture
def winrm_service(tmp_path):
    """The address of the toy service, and the file of its authority."""
    path = tmp_path / "authority.pem"
    path.write_bytes(pem()[0])
    with serving(Toy({})) as server:
        yield f"http://localhost:{server.server_port}", path
