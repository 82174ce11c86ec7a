"""What a probe asks of a server, and the findings that follow: each against a server that has the cause."""

import asyncio
import base64
import datetime as dt
import errno
import pathlib
import re
import socket
import ssl
import struct

import pytest
from cryptography import x509
from support import http_by_hand
from support.certificates import Made
from support.endpoints import PIN
from support.peers import free_port
from support.scripted import CLOSE, ScriptedServer, Silent, challenge, context, credentials, ntlm, pems_of, serving

from acredssp.aio import HandshakeOutcome
from acredssp.cli import probing
from acredssp.cli.arguments import service
from acredssp.cli.probe import _web_card, probe_one
from acredssp.cli.probing import Pace, Prober, hear_client
from acredssp.diagnosis import (
    ClientFacts,
    NegotiationAnswer,
    Question,
    Reach,
    ServerFacts,
    TLSAnswer,
    TLSOutcome,
    WebFacts,
    judge_client,
    judge_server,
    judge_web,
)
from acredssp.rdp import (
    ConnectionConfirm,
    ConnectionRequest,
    FailureCode,
    Protocols,
    ResponseFlags,
    read_negotiation,
)
from acredssp.trust import Trust
from acredssp.wire import TSRequest
from acredssp.workers import Address

HYBRID, SSL, RDP = Protocols.HYBRID, Protocols.SSL, Protocols.RDP
TLS_1_0, TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
ALL = "ALL:@SECLEVEL=0"


def prober(**settings):
    """A prober with all the time of the world, and without the operating system's authorities."""
    settings = {"timeout": 3600.0, "total": 3600.0, "trust": Trust(), "server_name": "localhost"} | settings
    settings.setdefault("pace", Pace(0))
    return Prober(**settings)


async def probed(server, **settings):
    async with serving(server) as port:
        return await probe_one(prober(**settings), Address("127.0.0.1", port))


def ids(result):
    return {each.id for each in result.findings}


def now():
    return dt.datetime.now(dt.UTC)


CASES = {
    "rdp security": (lambda: ScriptedServer(None), {"rdp-security-accepted", "nla-not-offered"}),
    "rdp security, said": (lambda: ScriptedServer(RDP), {"rdp-security-accepted", "nla-not-offered"}),
    "tls alone": (lambda: ScriptedServer(SSL, refusal=FailureCode.SSL_REQUIRED_BY_SERVER, tls=context()),
                  {"nla-not-required", "nla-not-offered", "tls-required"}),
    "tls beside nla": (lambda: ScriptedServer(HYBRID, SSL, tls=context(), answer=ntlm()), {"nla-not-required"}),
    "tls switched off": (lambda: ScriptedServer(refusal=FailureCode.SSL_NOT_ALLOWED_BY_SERVER), {"tls-not-allowed"}),
    "no certificate": (lambda: ScriptedServer(refusal=FailureCode.SSL_CERT_NOT_ON_SERVER), {"no-server-certificate"}),
    "flags": (lambda: ScriptedServer(refusal=FailureCode.INCONSISTENT_FLAGS), {"inconsistent-flags"}),
    "nla alone": (lambda: ScriptedServer(HYBRID, tls=context(), answer=ntlm()), {"nla-required"}),
    "client certificates": (lambda: ScriptedServer(refusal=FailureCode.SSL_WITH_USER_AUTH_REQUIRED_BY_SERVER),
                            {"client-certificate-required"}),
    "another code": (lambda: ScriptedServer(refusal=FailureCode(77)), {"negotiation-refused"}),
    "rdstls": (lambda: ScriptedServer(Protocols.RDSTLS), {"rdstls-offered", "nla-not-offered"}),
    "entra": (lambda: ScriptedServer(Protocols.RDSAAD), {"entra-offered", "nla-not-offered"}),
    "restricted admin": (lambda: ScriptedServer(HYBRID, flags=ResponseFlags.RESTRICTED_ADMIN_MODE_SUPPORTED),
                         {"restricted-admin-offered"}),
    "remote guard": (lambda: ScriptedServer(HYBRID, flags=ResponseFlags.REDIRECTED_AUTHENTICATION_MODE_SUPPORTED),
                     {"remote-guard-offered"}),
    "tls 1.0": (lambda: ScriptedServer(HYBRID, tls=context(TLS_1_0, TLS_1_0), answer=ntlm()), {"tls-too-old"}),
    "old tls too": (lambda: ScriptedServer(HYBRID, tls=context(TLS_1_0, TLS_1_2), answer=ntlm()),
                    {"tls-old", "tls-no-1-3"}),
    "no forward secrecy": (lambda: ScriptedServer(HYBRID, tls=context(TLS_1_2, TLS_1_2, "AES128-SHA:@SECLEVEL=0",
                                                                      pems_of(Made("x", key="rsa"))), answer=ntlm()),
                           {"no-forward-secrecy"}),
    "no tls at all": (lambda: ScriptedServer(HYBRID), {"tls-failed"}),
    "version 4": (lambda: ScriptedServer(HYBRID, tls=context(), answer=ntlm(4)), {"credssp-old"}),
    "version 2": (lambda: ScriptedServer(HYBRID, tls=context(), answer=ntlm(2)), {"credssp-old"}),
    "ends at the first message": (lambda: ScriptedServer(HYBRID, tls=context(), answer=CLOSE), {"credssp-no-answer"}),
    "ntlm refused": (lambda: ScriptedServer(HYBRID, tls=context(), answer=TSRequest(6, error_code=0xC0000418)),
                     {"ntlm-refused"}),
    "a clock ahead": (lambda: ScriptedServer(HYBRID, tls=context(), answer=ntlm(now=now() + dt.timedelta(minutes=10))),
                      {"clock-off"}),
    "a clock behind": (lambda: ScriptedServer(HYBRID, tls=context(), answer=ntlm(now=now() - dt.timedelta(days=3))),
                       {"clock-off"}),
    "ssh": (lambda: ScriptedServer(greeting=b"SSH-2.0-OpenSSH_9.6\r\n"), {"not-rdp"}),
    "http": (lambda: ScriptedServer(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n"), {"not-rdp"}),
    "closes at once": (lambda: ScriptedServer(refusal=None), {"connection-lost"}),
}  # fmt: skip
"""What a server does, and the findings that it must have."""


@pytest.fixture(params=CASES)
def case(request):
    """A server, made before the loop runs, and the findings that it must have."""
    make, expected = CASES[request.param]
    return make(), expected


async def test_a_server_has_the_finding_of_its_fault(case):
    server, expected = case
    result = await probed(server)
    assert expected <= ids(result), result.as_dict()


@pytest.fixture(scope="module")
def tls():
    """The TLS context of a good server."""
    return context()


@pytest.fixture
def nla(tls):
    """A server of NLA and NTLM alone."""
    return ScriptedServer(HYBRID, tls=tls, answer=ntlm())


async def test_a_server_as_it_should_be_has_no_finding_above_low(nla, tls):
    """Its certificate is self-signed, as those of Windows are."""

    def answer(request):
        version = 6
        if request.nego_token.startswith(b"NTLMSSP\0"):
            return TSRequest(version, challenge(now()))
        kerberos = bytes.fromhex("a11430 12a0030a0101a10b06092a864886f712010202".replace(" ", ""))
        return TSRequest(version, kerberos)

    result = await probed(ScriptedServer(HYBRID, tls=tls, answer=answer))
    assert ids(result) == {"nla-required", "enforcement-unknown", "certificate-self-signed"}
    assert result.facts.mechanisms == ("kerberos", "ntlm")
    assert result.facts.challenge.dns_computer == "server.contoso.example"
    assert result.facts.challenge.build == "10.0.20348", "what this package sends itself"
    assert abs(result.as_dict()["ntlm"]["clock_difference"]) < 300


async def test_a_server_with_the_trusted_certificate_has_no_finding_about_it(nla):
    certificate, _ = credentials()
    pin = (await probed(nla)).facts.certificate.pin
    result = await probed(nla, trust=Trust.pinned(pin))
    assert not {each for each in ids(result) if each.startswith("certificate")}
    assert certificate


async def test_another_key_than_the_pinned_one_is_the_worst(nla):
    result = await probed(nla, trust=Trust.pinned("0" * 64))
    assert result.findings[0].id == "certificate-other-key"


async def test_a_certificate_for_another_name_is_found_on_the_wire(nla):
    result = await probed(nla, server_name="other.example")
    assert "certificate-wrong-name" in ids(result)


@pytest.fixture(scope="module")
def expired():
    """The TLS context of a server whose certificate has expired."""
    return context(pems=pems_of(Made("localhost", names=("localhost",), start=-900, days=-800)))


@pytest.mark.parametrize(
    "greeting",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"<!DOCTYPE HTML>\n<html>", b"<html><head>"],
    ids=["header", "http/0.9", "no doctype"],
)
async def test_a_web_server_at_the_port_is_called_so(greeting):
    (finding,) = (await probed(ScriptedServer(greeting=greeting))).findings
    assert finding.id == "not-rdp"
    assert "got an HTTP response" in finding.text


async def test_a_stranger_of_whom_too_little_comes_is_told_by_its_first_byte():
    (finding,) = (await probed(ScriptedServer(greeting=b"HTTP"))).findings
    assert finding.id == "not-rdp"
    assert "got 72" in finding.text


async def test_an_expired_certificate_that_nobody_vouches_for_has_both_findings(expired):
    result = await probed(ScriptedServer(HYBRID, tls=expired, answer=ntlm()))
    assert {"certificate-expired", "certificate-self-signed"} <= ids(result)


async def test_an_expired_certificate_of_a_trusted_authority_has_one_finding(expired):
    server = ScriptedServer(HYBRID, tls=expired, answer=ntlm())
    chain = (await probed(server)).facts.chain
    trust = Trust((x509.load_der_x509_certificate(chain[0]),), dangerous_allow_weak_certificates=True)
    result = await probed(server, trust=trust)
    assert "certificate-expired" in ids(result)
    assert "certificate-self-signed" not in ids(result)


async def test_an_expired_certificate_is_found_on_the_wire(expired):
    assert "certificate-expired" in ids(await probed(ScriptedServer(HYBRID, tls=expired, answer=ntlm())))


@pytest.fixture(scope="module")
def unreadable(tmp_path_factory):
    """The TLS context of a server whose certificate OpenSSL takes, and no other parser."""
    pem, key = credentials()
    der = ssl.PEM_cert_to_DER_cert(pem.decode()).replace(b"\x82\x09localhost", b"\x87\x09localhost")
    path = tmp_path_factory.mktemp("unreadable") / "both.pem"
    path.write_bytes(key + ssl.DER_cert_to_PEM_cert(der).encode())
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(path)
    return made


async def test_a_certificate_that_cannot_be_read_is_no_good_one(unreadable):
    result = await probed(ScriptedServer(HYBRID, tls=unreadable, answer=ntlm()))
    assert result.facts.certificate is None
    assert "certificate-untrusted" in ids(result)


async def test_a_certificate_that_cannot_be_read_has_another_key_than_the_pinned_one(unreadable):
    result = await probed(ScriptedServer(HYBRID, tls=unreadable, answer=ntlm()), trust=Trust.pinned("0" * 64))
    assert "certificate-other-key" in ids(result)


async def test_a_closed_port_is_told_from_a_filtered_one(monkeypatch):
    closed = await probe_one(prober(), Address("127.0.0.1", free_port()))
    assert ids(closed) == {"connection-refused"}
    assert not closed.reached

    async def drop(*_args, **_more):
        raise TimeoutError

    monkeypatch.setattr(probing.asyncio, "open_connection", drop)
    filtered = await probe_one(prober(), Address("127.0.0.1", 3389))
    assert ids(filtered) == {"no-answer"}
    assert filtered.facts.connections == 1, "a silent host is asked once"


async def test_a_server_that_says_nothing_is_asked_twice(monkeypatch):
    async def no_answer_in_time(_reader):
        raise TimeoutError

    monkeypatch.setattr(probing, "read_negotiation", no_answer_in_time)
    silent = await probed(ScriptedServer(None))
    assert ids(silent) == {"connection-lost"}
    assert silent.facts.connections == 2


class Losing:
    """A server that loses some of its connections by a reset, once it has read their Connection Request."""

    def __init__(self, server, *lost):
        self._server, self._lost, self._number = server, lost, 0

    async def __call__(self, reader, writer):
        self._number += 1
        if self._number not in self._lost:
            await self._server(reader, writer)
            return
        await reader.read(100)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


@pytest.fixture(scope="module")
def every_version():
    """The TLS context of a server that takes every version."""
    return context(TLS_1_0, TLS_1_3)


async def test_a_connection_that_was_lost_before_tls_says_nothing_of_its_version(every_version):
    nla = ScriptedServer(HYBRID, tls=every_version, answer=ntlm())
    result = await probed(Losing(nla, 7))
    assert result.facts.tls["TLSv1.3"].outcome is TLSOutcome.ACCEPTED, "a later connection has shown it"
    assert not ids(result) & {"tls-no-1-3", "probe-incomplete"}
    result = await probed(Losing(nla, 7, 8, 11, 12, 13))
    assert result.facts.tls["TLSv1.3"].outcome is TLSOutcome.UNKNOWN
    assert result.as_dict()["tls"]["TLSv1.2"]["outcome"] == "unknown"
    assert not ids(result) & {"tls-no-1-3", "tls-too-old", "tls-failed", "credssp-no-answer"}
    assert {"tls-old", "probe-incomplete"} <= ids(result)


async def test_a_handshake_that_takes_too_long_says_nothing_of_its_version(monkeypatch, nla):
    calls, real = [], probing._shake_hands

    async def slow(stream, tls):
        calls.append(tls)
        if len(calls) == 2:
            raise TimeoutError
        await real(stream, tls)

    monkeypatch.setattr(probing, "_shake_hands", slow)
    result = await probed(nla)
    assert result.facts.tls["TLSv1.2"].outcome is TLSOutcome.NO_ANSWER
    assert "probe-incomplete" in ids(result)
    assert "tls-failed" not in ids(result)


@pytest.mark.parametrize("most", [6, 11])
async def test_a_server_that_refuses_a_later_connection_keeps_its_findings(most, nla):
    """As a limit of connections does."""
    count = 0

    async def serve(reader, writer):
        nonlocal count
        count += 1
        if count == most:
            listening.close()
        await nla(reader, writer)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    result = await probe_one(prober(), Address("127.0.0.1", port))
    assert result.reached
    assert {"nla-required", "probe-incomplete"} <= ids(result)
    assert not ids(result) & {"connection-refused", "tls-failed", "tls-no-1-3", "credssp-no-answer"}
    (told,) = [each for each in result.findings if each.id == "probe-incomplete"]
    assert f"connection {most + 1} was refused" in told.text
    assert ("certificate-self-signed" in ids(result)) == (most == 11), "what was learned is told"
    await listening.wait_closed()


@pytest.fixture(scope="module", params=["secp224r1", "brainpoolP256r1"])
def rare_curve(request):
    """The TLS context of a server that takes one curve alone, which OpenSSL has and does not offer."""
    made = context(suites="ECDHE:@SECLEVEL=0")
    made.set_ecdh_curve(request.param)
    return made


async def test_a_version_whose_curve_is_not_offered_is_not_tested(rare_curve):
    result = await probed(ScriptedServer(HYBRID, tls=rare_curve, answer=ntlm()))
    outcomes = {name: each.outcome for name, each in result.facts.tls.items()}
    assert outcomes["TLSv1.3"] is outcomes["TLSv1.2"] is TLSOutcome.NOT_TESTED
    assert outcomes["TLSv1.1"] is TLSOutcome.REFUSED
    (told,) = [each for each in result.findings if each.id == "tls-failed"]
    assert "TLSv1.3, TLSv1.2" in told.text
    assert "none of the suites, curves and signatures that this openssl offers" in told.text
    assert "tls-not-tested" in ids(result)


async def test_what_the_local_openssl_refuses_is_no_refusal_of_the_server():
    """Such as a ServerHello without secure renegotiation (RFC 5746), which OpenSSL 3 does not go on with."""
    hello = bytes.fromhex("160303002a 02000026 0303") + bytes(32) + bytes.fromhex("00 c02f 00")

    async def old(reader, writer):
        request = ConnectionRequest.decode(await read_negotiation(reader))
        nla = HYBRID in request.requested_protocols
        writer.write((ConnectionConfirm(selected_protocol=HYBRID) if nla else ConnectionConfirm()).encode())
        if await reader.read(1):
            writer.write(hello)
        await reader.read()
        writer.close()

    result = await probed(old)
    tls = result.facts.tls["TLSv1.2"]
    assert tls.outcome is TLSOutcome.NOT_TESTED
    assert "unsafe legacy renegotiation disabled" in tls.problem


async def test_tls_that_is_not_up_is_one_finding():
    assert ids(await probed(ScriptedServer(HYBRID))) == {"tls-failed", "nla-required"}


async def test_the_clock_is_read_when_the_challenge_comes(monkeypatch, tls):
    server = ScriptedServer(HYBRID, tls=tls, answer=ntlm(now=now()))
    monkeypatch.setattr("acredssp.cli.probe.now", lambda: now() + dt.timedelta(seconds=400))
    result = await probed(server)
    assert "clock-off" not in ids(result)
    assert abs(result.as_dict()["ntlm"]["clock_difference"]) < 300


@pytest.fixture(scope="module")
def two_certificates():
    """Two servers behind a balancer, one of which has an expired certificate."""
    old = context(pems=pems_of(Made("localhost", names=("localhost",), start=-900, days=-800)))
    return [ScriptedServer(HYBRID, tls=each, answer=ntlm()) for each in (context(), old)]


async def test_every_certificate_that_a_server_shows_is_judged(two_certificates):
    first, second = two_certificates
    count = 0

    async def balance(reader, writer):
        nonlocal count
        count += 1
        await (second if count in {8, 12} else first)(reader, writer)

    result = await probed(balance)
    assert {"certificate-self-signed", "certificate-expired", "certificate-several"} <= ids(result)
    assert len(result.as_dict()["other_certificates"]) == 1


async def test_an_empty_answer_refuses_nothing(tls):
    result = await probed(ScriptedServer(HYBRID, tls=tls, answer=TSRequest(6, b"")))
    assert "credssp-no-answer" in ids(result)
    assert "ntlm-refused" not in ids(result)


@pytest.mark.parametrize("answer", [TSRequest(6, challenge()[:40]), TSRequest(6, b"nonsense")], ids=["cut", "other"])
async def test_a_token_that_cannot_be_read_is_named(answer, tls):
    result = await probed(ScriptedServer(HYBRID, tls=tls, answer=answer))
    assert "credssp-malformed" in ids(result)
    assert result.as_dict()["credssp_version"] == 6


@pytest.mark.parametrize("name", ["a" * 300, "a..b"])
async def test_a_name_that_no_host_can_have_is_told(name):
    result = await probe_one(prober(), Address(name, 3389))
    assert ids(result) == {"host-not-found"}
    assert result.facts.problem.startswith("the name of no host can have such a part between its dots")


async def test_a_name_without_an_address_is_told(monkeypatch):
    async def unknown(*_args, **_more):
        raise probing.socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(probing.asyncio, "open_connection", unknown)
    result = await probe_one(prober(), Address("nowhere.example", 3389))
    assert ids(result) == {"host-not-found"}
    assert result.facts.reach is Reach.NOT_FOUND


async def test_a_probe_names_no_user_and_proves_no_password_and_ends_each_connection_cleanly(nla):
    server = nla
    result = await probed(server)
    assert all(each.cookie is None and each.routing_token is None for each in server.requests)
    tokens = [each.nego_token for each in server.asked]
    assert len(tokens) == len(Question)
    for token in tokens:
        assert b"NTLMSSP\0\3" not in token, "an AUTHENTICATE would be a logon"
    assert {each.auth_info or each.pub_key_auth for each in server.asked} == {None}
    assert set(server.ends) == {"close_notify"}
    assert result.facts.connections == len(server.requests) == 13


WHAT_IS_SENT = (
    (pathlib.Path(__file__).parents[2] / "docs" / "tools.md")
    .read_text("utf-8")
    .partition("### What is sent")[2]
    .partition("\n### ")[0]
)
BOTH = Protocols.HYBRID | Protocols.HYBRID_EX


async def test_what_is_sent_is_what_the_documentation_says(nla):
    await probed(nla)
    rows = [int(each) for each in re.findall(r"^\| (\d+) \|", WHAT_IS_SENT, re.MULTILINE)]
    assert rows == [6, 4, 1, 1, 1]
    assert f"these {sum(rows)} connections, with three messages of CredSSP in all" in WHAT_IS_SENT
    asked_for = [each.requested_protocols for each in nla.requests]
    assert asked_for[:6] == [BOTH, HYBRID, SSL, RDP, Protocols.RDSTLS, Protocols.RDSAAD]
    assert asked_for[6:] == [BOTH] * 7
    first, second, third = (each.nego_token for each in nla.asked)
    assert first[:12] == b"NTLMSSP\0\1\0\0\0"
    assert second.startswith(b"\x60")
    assert b"NTLMSSP\0\1\0\0\0" in second
    assert third.startswith(b"\x60")
    assert b"NTLMSSP" not in third


@pytest.mark.parametrize(
    ("accepts", "said", "connections"),
    [(SSL, "without CredSSP gets the first 10", 10), (RDP, "with neither, the first 6", 6)],
)
async def test_a_server_with_less_gets_as_many_connections_as_the_documentation_says(accepts, said, connections, tls):
    server = ScriptedServer(accepts, tls=tls)
    assert (await probed(server)).facts.connections == len(server.requests) == connections
    assert said in WHAT_IS_SENT.replace("\n", " ")
    assert server.asked == []


async def test_what_is_sent_to_a_service_is_what_the_documentation_says():
    heads = []

    async def answer(reader, writer):
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: CredSSP\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    async with serving(answer) as port:
        result = await probe_one(prober(), service(f"http://127.0.0.1:{port}"))
    assert "If it offers CredSSP, a second connection has a POST" in WHAT_IS_SENT.replace("\n", " ")
    assert result.facts.connections == len(heads) == 2
    assert all(each.startswith("POST /wsman HTTP/1.1\r\n") and "Content-Length: 0\r\n" in each for each in heads)
    assert "Authorization" not in heads[0]
    (token,) = re.findall(r"Authorization: CredSSP (\S+)\r\n", heads[1])
    assert base64.b64decode(token)[:1] == b"\x16", "a record of TLS's handshake, and nothing else"
    assert len(base64.b64decode(token)) == 5 + int.from_bytes(base64.b64decode(token)[3:5], "big")


async def test_what_the_local_openssl_does_not_offer_is_not_tested(monkeypatch, nla, tls):
    real = probing._context
    monkeypatch.setattr(probing, "_context", lambda low, high: None if low == high == TLS_1_0 else real(low, high))
    result = await probed(nla)
    assert result.facts.tls["TLSv1"].outcome is TLSOutcome.NOT_TESTED
    assert "tls-not-tested" in ids(result)
    assert result.facts.connections == 12, "nothing is sent for it"


@pytest.mark.parametrize(
    "garbage",
    [b"\x03\x00\x00\x0b\x06\xd0\x00\x00\x00\x00", b"\x03\x00\xff\xff", b"\0" * 64, b"\x16\x03\x03\x00\x02ab"],
    ids=["cut", "long", "zeros", "tls"],
)
async def test_garbage_from_a_server_is_a_finding_and_no_traceback(garbage):
    result = await probed(ScriptedServer(greeting=garbage))
    assert ids(result) & {"not-rdp", "connection-lost"}


@pytest.mark.parametrize(
    "answer",
    [TSRequest(6, b"garbage"), TSRequest(6, b""), TSRequest(6, b"NTLMSSP\0\2\0\0\0"), TSRequest(6, bytes(100)),
     TSRequest(6, challenge(names={1: "\x1b[2J"}))],
    ids=["no token", "empty", "cut challenge", "zeros", "escape"],
)  # fmt: skip
async def test_a_strange_answer_to_credssp_is_a_finding_and_no_traceback(answer, tls):
    result = await probed(ScriptedServer(HYBRID, tls=tls, answer=answer))
    assert result.findings
    assert "\x1b" not in str(result.as_dict()["findings"])


# --- WinRM ---


def http(*lines):
    async def serve(reader, writer):
        heard = b""
        while b"\r\n\r\n" not in heard and (data := await reader.read(4096)):
            heard += data
        writer.write("\r\n".join([*lines, "", ""]).encode())
        writer.close()

    return serve


UNAUTHORIZED = "HTTP/1.1 401 Unauthorized"
HTTP_CASES = {
    "credssp": ((UNAUTHORIZED, "WWW-Authenticate: CredSSP", "WWW-Authenticate: Negotiate"), set()),
    "no credssp": ((UNAUTHORIZED, "WWW-Authenticate: Negotiate, Kerberos"), {"winrm-no-credssp"}),
    "basic": ((UNAUTHORIZED, 'WWW-Authenticate: Basic realm="CredSSP"'), {"winrm-no-credssp", "winrm-basic-in-clear"}),
    "no logon": (("HTTP/1.1 200 OK",), {"http-no-authentication"}),
    "another service": (("HTTP/1.1 404 Not Found",), {"not-winrm"}),
    "overloaded": (("HTTP/1.1 503 Service Unavailable",), {"http-unavailable"}),
    "no post": (("HTTP/1.1 501 Unsupported method ('POST')",), {"not-winrm"}),
    "an interim answer": (
        ("HTTP/1.1 100 Continue", "", UNAUTHORIZED, "WWW-Authenticate: Kerberos"),
        {"winrm-no-credssp"},
    ),
    "ssh": (("SSH-2.0-OpenSSH_9.6",), {"not-http"}),
    "nothing": ((), {"not-http"}),
}


@pytest.mark.parametrize("case", HTTP_CASES)
async def test_a_service_of_winrm_has_the_findings_of_its_schemes(case):
    lines, expected = HTTP_CASES[case]
    async with serving(http(*lines)) as port:
        result = await probe_one(prober(), service(f"http://127.0.0.1:{port}"))
    assert ids(result) == expected
    assert result.as_dict()["kind"] == "winrm"


async def test_the_certificate_of_https_is_judged_too(tls):
    listening = await asyncio.start_server(
        http(UNAUTHORIZED, "WWW-Authenticate: CredSSP", "WWW-Authenticate: Basic"), "127.0.0.1", 0, ssl=tls
    )
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        result = await probe_one(prober(server_name="x.example"), service(f"https://127.0.0.1:{port}"))
    assert ids(result) == {"winrm-basic", "certificate-self-signed", "certificate-wrong-name"}
    await asyncio.sleep(0.01)


async def test_a_certificate_of_https_that_cannot_be_read_is_no_good_one(unreadable):
    listening = await asyncio.start_server(
        http(UNAUTHORIZED, "WWW-Authenticate: CredSSP"), "127.0.0.1", 0, ssl=unreadable
    )
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        result = await probe_one(prober(), service(f"https://127.0.0.1:{port}"))
    assert ids(result) == {"certificate-untrusted"}
    await asyncio.sleep(0.01)


@pytest.mark.parametrize("secure", [False, True])
async def test_the_certificate_inside_is_told_apart_from_the_one_of_https(secure):
    """It is asked for by a ClientHello alone, which nobody counts as a try of a password."""
    reports, looked_up = [], []
    config = http_by_hand.server_config(lookup=looked_up.append)
    outside = http_by_hand.OUTSIDE if secure else None
    async with http_by_hand.serving("ours", None, config, ssl=outside, on_handshake=reports.append) as port:
        url = service(f"{'https' if secure else 'http'}://localhost:{port}")
        probed = await probe_one(prober(), url)
        pin = probed.facts.inside.pin
        pinned = await probe_one(prober(trust=Trust.pinned(pin)), url)
        other = await probe_one(prober(trust=Trust.pinned("0" * 64)), url)
    assert pin == PIN
    told = probed.as_dict()
    assert (told["inside_certificate"]["pin"], told["inside_problem"], told["connections"]) == (pin, None, 2)
    assert (told["certificate"] is not None) is secure
    assert "winrm-certificate-untrusted" in ids(probed)
    assert not {"winrm-certificate-untrusted", "certificate-other-key"} & ids(pinned)
    assert "certificate-other-key" in ids(other)
    shown = dict(_web_card(probed.facts))
    assert shown["key pin"] == pin
    assert ("https pin" in shown) is secure
    assert looked_up == []
    assert {report.outcome for report in reports} <= {HandshakeOutcome.LEFT}


async def test_a_service_whose_answer_has_no_certificate_inside_says_why():
    async with serving(http(UNAUTHORIZED, "WWW-Authenticate: CredSSP")) as port:
        probed = await probe_one(prober(), service(f"http://127.0.0.1:{port}"))
    assert probed.facts.inside_problem == "its answer to the first token has no token with a certificate"
    assert dict(_web_card(probed.facts))["credssp"].startswith("no certificate inside: its answer")


async def test_a_slow_service_may_speak_http(monkeypatch):
    async def slow(_stream):
        raise TimeoutError

    monkeypatch.setattr(probing, "_read_head", slow)
    async with serving(http(UNAUTHORIZED)) as port:
        result = await probe_one(prober(), service(f"http://127.0.0.1:{port}"))
    assert ids(result) == {"http-no-answer"}


async def test_https_without_tls_in_common_is_a_fault_of_tls():
    async def refuse(reader, writer):
        await reader.read(4096)
        writer.write(bytes.fromhex("15030300020228"))
        writer.close()

    async with serving(refuse) as port:
        result = await probe_one(prober(), service(f"https://127.0.0.1:{port}"))
    assert ids(result) == {"tls-failed"}
    assert "handshake_failure" in result.findings[0].text


def test_a_service_without_any_scheme_offers_no_scheme():
    facts = WebFacts("http://host", "host", "host", secure=False, status=401)
    (told,) = judge_web(facts, "host", now())
    assert "offers no scheme, and no CredSSP" in told.text


# --- clients ---


async def heard(sent):
    """What a client that sends this is told to be."""
    reader = asyncio.StreamReader()
    reader.feed_data(sent)
    reader.feed_eof()
    results = []

    async def serve(_reader, writer):
        results.append(await hear_client(reader, writer, None, seconds=3600.0))

    async with serving(serve) as port:
        stream, writer = await asyncio.open_connection("127.0.0.1", port)
        await stream.read()
        writer.close()
    return {each.id: each for each in judge_client(results[0])}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [(b"", "client-silent"), (b"\x03\x00\x00", "client-silent"), (b"GET / HTTP/1.1\r\n\r\n", "client-not-rdp")],
)
async def test_a_client_that_asks_for_nothing_is_told_from_one_of_another_protocol(sent, expected):
    assert set(await heard(sent)) == {expected}


def client_after_tls(**seen):
    request = ConnectionRequest(requested_protocols=HYBRID)
    return {each.id for each in judge_client(ClientFacts("host", request, stage="credssp", problem="x", **seen))}


def test_a_message_that_cannot_be_read_is_told_from_none():
    assert client_after_tls() == {"client-sent-nothing"}
    assert client_after_tls(unreadable=True) == {"client-malformed"}


# --- the time for a host, and the limits of this machine ---


@pytest.fixture
def targets(monkeypatch):
    """The targets of probes, whose limits a test can let come."""
    made, real = [], probing._Target

    def new(address, limit):
        made.append(real(address, limit))
        return made[-1]

    monkeypatch.setattr(probing, "_Target", new)
    return made


async def when_time_is_over(silent, targets, target=None):
    """What is told of a server whose time comes while it is silent."""
    async with serving(silent) as port:
        url = target and service(f"{target}127.0.0.1:{port}")
        probing_it = asyncio.create_task(probe_one(prober(), url or Address("127.0.0.1", port)))
        await silent.held.wait()
        targets[0].limit.reschedule(asyncio.get_running_loop().time())
        return await probing_it


@pytest.mark.parametrize("answered", [0, 1, 6, 7, 11], ids=["nothing", "once", "no tls", "tls 1.3", "ntlm"])
async def test_all_connections_to_a_host_have_one_time_limit(answered, targets, nla):
    result = await when_time_is_over(Silent(answered, nla), targets)
    assert result.reached
    assert result.facts.connections == answered + 1
    told = {each.id: each for each in result.findings}
    assert "the 3600 s for one host were over" in told["probe-incomplete"].text
    assert not set(told) & {"connection-lost", "tls-failed", "tls-no-1-3", "credssp-no-answer", "nla-not-offered"}
    assert ("nla-required" in told) == (answered >= 3)
    assert not result.interrupted


async def test_a_service_over_http_has_the_same_limit(targets):
    result = await when_time_is_over(Silent(0), targets, "http://")
    assert ids(result) == {"probe-incomplete"}
    assert "the 3600 s for one host were over" in result.findings[0].text


async def test_a_host_that_takes_no_connection_has_the_same_limit(monkeypatch, targets):
    connecting = asyncio.Event()

    async def hang(*_args, **_more):
        connecting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(probing.asyncio, "open_connection", hang)
    probing_it = asyncio.create_task(probe_one(prober(), Address("127.0.0.1", 3389)))
    await connecting.wait()
    targets[0].limit.reschedule(asyncio.get_running_loop().time())
    assert ids(await probing_it) == {"no-answer"}


async def test_waiting_for_a_turn_does_not_count():
    during = []
    async with asyncio.timeout(3600) as limit:

        class Slow(Pace):
            async def turn(self):
                during.append(limit.when())

        before = limit.when()
        await probing._Target(Address("h", 1), limit).turn(Slow(0))
        assert during == [None], "no limit can come meanwhile"
        assert limit.when() > before - 1e-6, "floats round a sum of seconds"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_a_limit_of_this_machine_is_not_blamed_on_the_target(number, monkeypatch, nla):
    real, count = asyncio.open_connection, 0

    async def limited(*args, **more):
        nonlocal count
        count += 1
        if count > most:
            raise OSError(number, "x")
        return await real(*args, **more)

    monkeypatch.setattr(probing.asyncio, "open_connection", limited)
    most = 0
    result = await probed(nla)
    assert ids(result) == {"own-limit"}
    assert result.as_dict()["reach"] == "own_limit"
    assert "says nothing of the server" in result.findings[0].text
    most, count = 8, 0
    result = await probed(nla)
    (told,) = [each for each in result.findings if each.id == "probe-incomplete"]
    assert "connection 9 was not begun, by a limit of this machine: " in told.text
    assert result.reached


async def test_a_name_that_is_not_found_for_want_of_a_descriptor_is_no_unknown_name(monkeypatch):
    async def not_found(*_args, **_more):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    def no_descriptor(*_args):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(probing.asyncio, "open_connection", not_found)
    assert ids(await probe_one(prober(), Address("server.example", 3389))) == {"host-not-found"}
    monkeypatch.setattr("acredssp.cli.outcome.os.open", no_descriptor)
    assert ids(await probe_one(prober(), Address("server.example", 3389))) == {"own-limit"}


# --- ctrl-c ---


@pytest.mark.parametrize(("answered", "scheme"), [(0, ""), (2, ""), (7, ""), (0, "http://")])
async def test_what_is_known_is_told_where_a_probe_is_interrupted(answered, scheme, nla):
    silent, told = Silent(answered, nla), []
    async with serving(silent) as port:
        where = service(f"{scheme}127.0.0.1:{port}") if scheme else Address("127.0.0.1", port)
        probing_it = asyncio.create_task(probe_one(prober(), where, told.append))
        await silent.held.wait()
        probing_it.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probing_it
    (result,) = told
    assert result.interrupted
    assert result.as_dict()["interrupted"] is True
    assert result.as_dict()["reach"] == "reached"
    (gap,) = [each for each in result.findings if each.id == "probe-incomplete"]
    assert "ctrl-c came before" in gap.text
    assert not ids(result) & {"connection-lost", "tls-failed", "nla-not-offered", "http-no-answer", "tls-no-1-3"}


# --- the pace ---


async def test_connections_begin_no_faster_than_the_rate():
    clock, waits = [100.0], []

    async def sleep(seconds):
        waits.append(round(seconds, 3))
        clock[0] += seconds

    pace = Pace(10, clock=lambda: clock[0], sleep=sleep)
    for _ in range(4):
        await pace.turn()
    assert waits == [0.1, 0.1, 0.1]
    clock[0] += 5
    await pace.turn()
    assert len(waits) == 3, "time that went by unused is no credit for a burst, and no wait either"
    await pace.turn()
    assert len(waits) == 4
    assert pace.turns == 6


TWO_SUITES = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-SHA384")
WITH_A_WEAK_ONE = ("AES128-GCM-SHA256", "SEED-SHA", "AES256-SHA")


@pytest.fixture(params=[TWO_SUITES, TWO_SUITES[:1]], ids=len)
def suites(request):
    return request.param


@pytest.fixture
def with_suites_alone(suites):
    return context(TLS_1_2, TLS_1_3, ":".join(suites))


async def test_every_suite_is_asked_for_if_wanted(suites, with_suites_alone):
    server = ScriptedServer(HYBRID, tls=with_suites_alone, answer=ntlm())
    with_suites = await probed(server, suites=True)
    assert set(with_suites.facts.tls["TLSv1.2"].suites) == set(suites)
    assert with_suites.facts.tls["TLSv1.2"].suites[0] == with_suites.facts.tls["TLSv1.2"].cipher
    assert with_suites.facts.tls["TLSv1.3"].suites == ()
    assert with_suites.as_dict()["tls"]["TLSv1.2"]["suites"] == [*with_suites.facts.tls["TLSv1.2"].suites]
    without = await probed(server)
    assert without.facts.tls["TLSv1.2"].suites == ()
    assert with_suites.facts.connections == without.facts.connections + len(suites)


def test_weak_suites_are_named_beside_the_one_that_is_chosen():
    facts = ServerFacts("host", "host", "host", negotiation={HYBRID: NegotiationAnswer(HYBRID)})
    facts.tls["TLSv1.2"] = TLSAnswer(TLSOutcome.ACCEPTED, "ECDHE-RSA-AES128-SHA", suites=WITH_A_WEAK_ONE)
    (weak,) = [each for each in judge_server(facts, "host", now()) if each.id == "suites-weak"]
    assert weak.facts == {"version": "TLSv1.2", "suites": "SEED-SHA"}
