"""Our clients over HTTP against others: pyspnego's acceptor, and HAProxy and nginx that share connections."""

import asyncio

import httpx
import pytest
from support import http_pyspnego, kdc
from support.cutting import Cutter
from support.endpoints import server_config
from support.http_senders import SENDERS, send_by_httpx
from support.http_toy import CAROL, TRUSTING, Toy, client_config
from support.peers import free_port
from support.turns import VERSIONS

from acredssp.credentials import Keytab, Password
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.errors import AuthenticationError, CredSSPError
from acredssp.http.httpx import CredSSPTransport
from acredssp.policy import MechanismChoice, Policy

ALICE, WRONG = Password("Passw0rd!", "alice", "CONTOSO"), Password("wrong", "alice", "CONTOSO")
SIZES = [1, 16_383, 16_384, 16_385, 1 << 20, 20 << 20]
SPARE = 16


def config_of(version, mechanism, password=ALICE):
    policy = Policy(
        min_tls=version,
        max_tls=version,
        mechanism=MechanismChoice(mechanism),
        dangerous_accept_any_certificate=True,
    )
    return client_config(policy, authenticate=password)


# Made at import, since making a context reads files, which no test may do on its loop.
CONFIGS = {
    (tls, mechanism): (config_of(VERSIONS[tls], mechanism), config_of(VERSIONS[tls], mechanism, WRONG))
    for tls in VERSIONS
    for mechanism in ("ntlm", "negotiate")
}
BOBS, CAROLS = client_config(), client_config(authenticate=CAROL)


@pytest.fixture(params=["ntlm", "negotiate"])
def mechanism(request):
    return request.param


@pytest.fixture(params=VERSIONS)
def tls(request):
    return request.param


@pytest.fixture
def pyspnego(tmp_path, monkeypatch, tls, mechanism):
    path = tmp_path / "accounts"
    path.write_text("CONTOSO:alice:Passw0rd!\n", encoding="ascii")
    monkeypatch.setenv("NTLM_USER_FILE", str(path))
    monkeypatch.setenv("KRB5_CONFIG", "/dev/null")
    with http_pyspnego.running(mechanism, VERSIONS[tls]) as server:
        yield server


async def nothing():
    return
    yield b""


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
async def test_pyspnegos_acceptor_takes_our_clients_and_both_open_what_the_other_seals(pyspnego, tls, mechanism, send):
    url = f"http://localhost:{pyspnego.server_port}/wsman"
    bodies = [b"x" * size for size in SIZES]
    assert await send(CONFIGS[tls, mechanism][0], url, [*bodies, nothing()]) == [
        *[body.upper() for body in bodies],
        b"",
    ]
    assert pyspnego.bodies == [*bodies, b""]
    assert pyspnego.users == ["CONTOSO\\alice"]
    assert len(pyspnego.connections) == 1


async def test_pyspnegos_acceptor_refuses_a_wrong_password(pyspnego, tls, mechanism):
    url = f"http://localhost:{pyspnego.server_port}/wsman"
    with pytest.raises(AuthenticationError):
        await send_by_httpx(CONFIGS[tls, mechanism][1], url, [b"x"])
    assert pyspnego.bodies == []


# --- Kerberos ---


def kerberos_client(spn, authenticate, **rules):
    service = SPNList.of(spn)
    policy = Policy(mechanism=MechanismChoice.KERBEROS, dangerous_accept_any_certificate=True, **rules)
    delegation = DelegationPolicy(allow_fresh_credentials=service)
    return client_config(policy, authenticate=authenticate, delegation=delegation)


@pytest.fixture
def kerberos_configs(kerberos):
    """Those of the server, of alice by password for each service, and of a service that the KDC does not know."""
    server = server_config(lookup=None, keytab=Keytab(str(kerberos.keytab)))
    alice = Password(kdc.PASSWORD, "alice", kdc.REALM)
    spns = "HTTP/localhost", "WSMAN/localhost", "HTTP/nowhere.acredssp.test"
    return server, {spn: kerberos_client(spn, alice) for spn in spns}


@pytest.mark.interop
@pytest.mark.parametrize("spn", ["HTTP/localhost", "WSMAN/localhost"])
async def test_kerberos_logs_on_to_either_name_of_the_service(kerberos_configs, spn):
    server, clients = kerberos_configs
    transport = CredSSPTransport(clients[spn], ssl_context=TRUSTING, spn=spn)
    async with Toy(server) as toy, httpx.AsyncClient(transport=transport, timeout=60, trust_env=False) as client:
        assert (await client.post(toy.url, content=b"hello")).content == b"HELLO"
        assert toy.served[0].user == "alice"
        assert toy.served[0].mechanism == "kerberos"


@pytest.mark.interop
async def test_a_service_that_the_kdc_does_not_know_is_told_with_the_option_that_helps(kerberos_configs):
    server, clients = kerberos_configs
    spn = "HTTP/nowhere.acredssp.test"
    transport = CredSSPTransport(clients[spn], ssl_context=TRUSTING, spn=spn)
    async with Toy(server) as toy, httpx.AsyncClient(transport=transport, timeout=60, trust_env=False) as client:
        with pytest.raises(AuthenticationError, match=r"give another name of the service \(spn\), for WinRM"):
            await client.post(toy.url, content=b"hello")
        assert toy.served == []


# --- reverse proxies that share connections to the server among clients ---

HAPROXY = """\
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    server one 127.0.0.1:{target} pool-max-conn 1 maxconn 1
"""

NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream back {{ server 127.0.0.1:{target}; keepalive 1; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://back; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""


@pytest.fixture(params=["haproxy", "nginx"])
def proxied(request, lab):
    """(the port of the server, the URL of the proxy in front of it)."""
    port, target = free_port(), free_port()
    text = {"haproxy": HAPROXY, "nginx": NGINX}[request.param].format(port=port, target=target, folder=lab.folder)
    path = lab.folder / f"{request.param}.conf"
    path.write_text(text, encoding="ascii")
    lab.start_server(
        ["haproxy", "-db", "-f", path] if request.param == "haproxy" else ["nginx", "-c", path, "-p", lab.folder], port
    )
    return target, f"http://localhost:{port}/wsman"


@pytest.mark.interop
async def test_a_proxy_that_shares_connections_is_noticed_and_nobody_gets_anothers_identity(proxied):
    target, url = proxied
    refused, answered = [], []

    async def use(client, user, config, number):
        sent = f"{user}-{number}"
        try:
            answer = await client.post(url, content=sent.encode(), extensions={"credssp": config})
        except (CredSSPError, httpx.TransportError) as error:
            refused.append(error)
            return
        if answer.extensions["credssp_sealed"]:
            assert answer.text == f"{user} says {sent}"
            answered.append(sent)
        else:
            assert answer.status_code >= 400
            refused.append(answer.text)

    def answer(asked):
        return 200, f"{asked.user} says {asked.body.decode()}".encode(), True

    transport = CredSSPTransport(BOBS, ssl_context=TRUSTING)
    async with (
        Toy(port=target, answer=answer) as toy,
        httpx.AsyncClient(transport=transport, timeout=60, trust_env=False) as client,
    ):
        for number in range(10):
            await asyncio.gather(use(client, "bob", BOBS, number), use(client, "carol", CAROLS, number))
        at_once = len(refused)
        for number in range(10, 20):  # one after the other: a logon may succeed, until the other user comes
            await use(client, "bob", BOBS, number)
            await use(client, "carol", CAROLS, number)
        assert 0 < at_once < len(refused), "it is noticed"
        assert answered
        for asked in toy.served:
            assert asked.body.decode().startswith(f"{asked.user}-"), "another's identity"
        sent = [asked.body for asked in toy.served]
        assert len(sent) == len(set(sent)), "nothing is sent twice"
        told = [str(error) for error in refused]
        assert [text for text in told if "share connections among clients" not in text] == []


# --- an exchange that is cut ---


def test_a_connection_that_is_cut_at_every_byte_of_an_exchange():
    """On one loop, since it takes 20 seconds; tests/http/test_client.py cuts at some bytes on each loop."""
    asyncio.run(cut_at_every_byte())


async def cut_at_every_byte():
    async with Toy() as toy, Cutter(toy.port) as cutter:
        assert await send_by_httpx(BOBS, cutter.url.replace("127.0.0.1", "localhost"), [b"whole"]) == [b"WHOLE"]
        for size in range(cutter.passed["down"] - SPARE):
            cutter.size = size
            toy.served.clear()
            with pytest.raises((httpx.TransportError, CredSSPError)):
                await send_by_httpx(BOBS, cutter.url.replace("127.0.0.1", "localhost"), [b"cut"])
            assert len(toy.served) <= 1, "sent twice"
