"""The WinRM clients of the field log on to our acceptor, by each of its servers, and both seal bodies of many sizes.

What one of them cannot do: awinrm (0.1.2, by asyauth 0.0.23) is tried with NTLM alone.
"""

import asyncio
import json
import subprocess
import sys

import httpx
import pytest
from support.http_by_hand import OUTSIDE, SERVERS
from support.http_clients import CLIENTS, word_of
from support.http_hosted import LOOPS, HostedHTTP
from support.kdc import PASSWORD, REALM
from support.peers import DEADLINE
from support.turns import VERSIONS, server_config

import acredssp
from acredssp.aio import HandshakeOutcome
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.errors import AuthenticationError
from acredssp.http.httpx import CredSSPTransport
from acredssp.policy import Policy
from acredssp.tls import own_chain

SIZES = [1, 16_383, 16_384, 16_385, 1 << 20]
ALL_SIZES = [*SIZES, len("nothing")]


@pytest.fixture(autouse=True)
def no_realm(request, monkeypatch):
    if "kerberos" not in request.fixturenames:
        monkeypatch.setenv("KRB5_CONFIG", "/dev/null")


def inside(version):
    return server_config(Policy(min_tls=VERSIONS[version], max_tls=VERSIONS[version]))


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_of_the_field_logs_on_and_sends_and_gets_sealed_bodies(client, kind, version, loop):
    with HostedHTTP(kind, inside(version), loop=loop) as server:
        assert word_of(client, server.port, sizes=SIZES) == {"answers": [True] * len(SIZES), "nothing": 0}
    assert server.app.sizes == ALL_SIZES
    assert set(server.app.users) == {"CONTOSO\\alice"}
    assert [report.outcome for report in server.reports] == [HandshakeOutcome.SUCCESS]
    assert server.reports[0].info.tls_version == {"tls12": "TLSv1.2", "tls13": "TLSv1.3"}[version]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_of_the_field_logs_on_inside_https(client, kind, version):
    with HostedHTTP(kind, inside(version), ssl=OUTSIDE) as server:
        word = word_of(client, server.port, sizes=SIZES, scheme="https")
    assert word == {"answers": [True] * len(SIZES), "nothing": 0}
    assert server.app.sizes == ALL_SIZES


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("client", ["requests_credssp", "pypsrp", "winrm"])
def test_a_client_of_the_field_logs_on_by_kerberos(kerberos, client, kind):
    config = acredssp.ServerConfig(
        ssl_context=inside("tls13").ssl_context, keytab=acredssp.Keytab(str(kerberos.keytab)), policy=Policy()
    )
    with HostedHTTP(kind, config) as server:
        word = word_of(client, server.port, "kerberos", PASSWORD, sizes=SIZES, user=f"alice@{REALM}")
    assert word == {"answers": [True] * len(SIZES), "nothing": 0}
    assert set(server.app.mechanisms) == {"kerberos"}
    assert set(server.app.users) == {f"{REALM}\\alice"} or set(server.app.users) == {f"alice@{REALM}"}


@pytest.mark.parametrize("spn", ["HTTP/localhost", "WSMAN/localhost"])
@pytest.mark.parametrize("kind", SERVERS)
def test_our_client_logs_on_by_kerberos_under_both_names_of_the_service(kerberos, kind, spn):
    tls = inside("tls13").ssl_context
    config = acredssp.ServerConfig(ssl_context=tls, keytab=acredssp.Keytab(str(kerberos.keytab)), policy=Policy())
    names = SPNList.of(spn)
    pin = acredssp.pin_of(own_chain(tls)[0])
    client = acredssp.ClientConfig(
        authenticate=acredssp.Password(PASSWORD, "alice", REALM),
        trust=acredssp.Trust.pinned(pin),
        delegation=DelegationPolicy(allow_fresh_credentials=names),
    )

    async def ask(port):
        transport = CredSSPTransport(client, spn=spn)
        async with httpx.AsyncClient(transport=transport) as http:
            return (await http.post(f"http://localhost:{port}/wsman", content=b"hello")).content

    with HostedHTTP(kind, config) as server:
        assert asyncio.run(ask(server.port)) == b"hello"
    assert server.app.mechanisms == ["kerberos"]


WRONG = {
    "requests_credssp": "NTStatusException",
    "pypsrp": "NTStatusException",
    "winrm": "NTStatusException",
    "awinrm": "WinRMError",
}
"""What each client raises for a wrong password."""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_of_the_field_is_told_that_the_password_is_wrong(client, kind, version):
    with HostedHTTP(kind, inside(version)) as server:
        word = word_of(client, server.port, password="wrong")
    assert word["error"] == WRONG[client]
    if client != "awinrm":  # it tells nothing of the reason
        assert "0xc000006d" in word["text"].lower()
    (report,) = server.reports
    assert isinstance(report.error, AuthenticationError)
    assert report.outcome is HandshakeOutcome.DENIED
    assert server.app.sizes == []


@pytest.mark.parametrize(
    ("client", "kind"),
    [
        *[("requests_credssp", kind) for kind in SERVERS],
        # The cost of the others grows with the square of the size. They seal for longer than the 5 seconds for which
        # uvicorn keeps an idle connection by default. awinrm passes it too, but takes twice as long, and is left out.
        ("pypsrp", "ours"),
        ("winrm", "ours"),
    ],
)
def test_a_body_of_20_mib(client, kind):
    with HostedHTTP(kind, inside("tls13")) as server:
        assert word_of(client, server.port, sizes=[20 << 20]) == {"answers": [True], "nothing": 0}
    assert server.app.sizes[0] == 20 << 20


PLAIN = """
import json, sys, requests, requests_credssp
auth = requests_credssp.HttpCredSSPAuth("CONTOSO\\\\alice", "Passw0rd!", auth_mechanism="ntlm", minimum_version=5)
with requests.Session() as session:
    session.trust_env = False
    answers = [session.post(sys.argv[1], auth=auth, data=data, timeout=60) for data in (sys.argv[2], None)]
    print(json.dumps([[answer.status_code, answer.text] for answer in answers]))
"""


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", SERVERS)
def test_requests_credssp_alone_is_told_that_it_seals_nothing(kind, version, allowed):
    options = {"dangerous_allow_unsealed": True} if allowed else {}
    with HostedHTTP(kind, inside(version), **options) as server:
        url = f"http://localhost:{server.port}/wsman"
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PLAIN, url, "hello"],
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
    assert run.returncode == 0, run.stderr.decode()
    (status, text), (without_body, _) = json.loads(run.stdout)
    assert without_body == 200
    if allowed:
        assert (status, text) == (200, "hello")
        return
    assert (status, server.app.sizes) == (415, [])
    assert "requests-credssp does not" in text
    assert server.reports[0].outcome is HandshakeOutcome.FAILED
    assert "dangerous_allow_unsealed" in str(server.reports[0].error)
