"""A context that takes turns, against those who need one: requests-credssp over HTTP, and pyspnego's CredSSP."""

import importlib.metadata
import importlib.util
import json
import sys
import threading
from http.server import ThreadingHTTPServer

import pytest
import spnego
import spnego.tls
from spnego.exceptions import SpnegoError
from support import warm
from support.http_acceptor import Acceptor
from support.peers import DEADLINE, free_port
from support.turns import VERSIONS, answer_of_server, client_side, server_config, server_side

from acredssp.credentials import Password
from acredssp.errors import AuthenticationError
from acredssp.policy import MechanismChoice, Policy
from acredssp.status import NTSTATUS
from acredssp.wire.ts_credentials import TSPasswordCreds

needs_requests_credssp = pytest.mark.skipif(
    importlib.util.find_spec("requests_credssp") is None, reason="requests-credssp is missing: make clean test"
)

PYSPNEGO = tuple(int(part) for part in importlib.metadata.version("pyspnego").split(".")[:2])
USER, PASSWORD = "CONTOSO\\alice", "Passw0rd!"
DATA = 23


@pytest.fixture(autouse=True)
def accounts(tmp_path, monkeypatch):
    path = tmp_path / "accounts"
    path.write_text("CONTOSO:alice:Passw0rd!\n", encoding="ascii")
    monkeypatch.setenv("NTLM_USER_FILE", str(path))
    monkeypatch.setenv("KRB5_CONFIG", "/dev/null")


@pytest.fixture(params=VERSIONS)
def tls(request):
    return request.param


@pytest.fixture(params=["ntlm", "negotiate"])
def mechanism(request):
    return request.param


@pytest.fixture
def policy(tls, mechanism):
    return Policy(min_tls=VERSIONS[tls], max_tls=VERSIONS[tls], mechanism=MechanismChoice(mechanism))


@pytest.fixture
def server_policy(tls):
    return Policy(min_tls=VERSIONS[tls], max_tls=VERSIONS[tls])


# --- requests-credssp, which pywinrm and pypsrp log on with ---


# In a process of its own: requests-credssp leaves its connections to the garbage collector.
THEIR_CLIENT = """
import json, struct, sys, requests, requests_credssp
url, mechanism, password = sys.argv[1:]
auth = requests_credssp.HttpCredSSPAuth("CONTOSO\\\\alice", password, auth_mechanism=mechanism, minimum_version=5)
session = requests.Session()
session.trust_env = False  # no proxy between us
try:
    logged_on = session.post(url, auth=auth, timeout=60)
except requests_credssp.exceptions.NTStatusException as error:
    print(json.dumps({"nt_status": error.status}))
    raise SystemExit from None
client = auth.contexts["localhost"]
header, data, _ = client.wrap_winrm(b"a soap envelope")
answer = session.post(url, data=struct.pack("<I", len(header)) + header + data, timeout=60).content
(trailer,) = struct.unpack_from("<I", answer)
opened = client.unwrap_winrm(answer[4 : 4 + trailer], answer[4 + trailer :])
print(json.dumps({
    "status": logged_on.status_code,
    "text": logged_on.text,
    "tls": client.tls_connection.version(),
    "opened": opened.decode(),
    "trailers": [len(header), trailer],
}))
"""


@pytest.fixture
def acceptor(server_policy):
    """A server on the engine, which waits at its end for its clients to close their connections."""
    with ThreadingHTTPServer(("127.0.0.1", free_port()), Acceptor) as server:
        server.config, server.answer, server.tokens, server.errors = (
            server_config(server_policy),
            answer_of_server,
            [],
            [],
        )
        server.daemon_threads = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def their_word(acceptor, mechanism, password=PASSWORD):
    """What their client says at its end."""
    url = f"http://localhost:{acceptor.server_port}/wsman"
    mechanism = "auto" if mechanism == "negotiate" else mechanism
    command = [sys.executable, "-c", THEIR_CLIENT, url, mechanism, password]
    run = warm.run(command, capture_output=True, timeout=DEADLINE, check=False)
    assert run.returncode == 0, run.stderr.decode()
    return json.loads(run.stdout)


@needs_requests_credssp
@pytest.mark.requirement("tls.turns")
def test_requests_credssp_logs_on_and_seals_bodies(acceptor, tls, mechanism):
    word = their_word(acceptor, mechanism)
    ours, theirs = word.pop("trailers")
    assert word == {"status": 200, "text": USER, "tls": tls.replace("tls1", "TLSv1."), "opened": "A SOAP ENVELOPE"}
    assert ours == theirs, "the bytes behind a record's text"
    before, *tokens, after = acceptor.tokens
    assert (before, after, acceptor.errors) == (b"", b"", [])
    assert all(tokens)


@needs_requests_credssp
def test_requests_credssp_is_told_that_the_password_is_wrong(acceptor, mechanism):
    word = their_word(acceptor, mechanism, "wrong")
    assert word == {"nt_status": NTSTATUS.STATUS_LOGON_FAILURE}
    (error,) = acceptor.errors
    assert isinstance(error, AuthenticationError)


# --- pyspnego's CredSSP, both sides ---


def their_client(mechanism, password=PASSWORD):
    inner = spnego.client(USER, password, hostname="localhost", service="HTTP", protocol=mechanism)
    return spnego.client(USER, password, protocol="credssp", credssp_negotiate_context=inner)


def their_server(mechanism, tickets):
    tls = spnego._credssp._create_tls_context("accept")
    tls.context.num_tickets = tickets
    inner = spnego.server(protocol=mechanism)
    return spnego.server(protocol="credssp", credssp_negotiate_context=inner, credssp_tls_context=tls)


@pytest.mark.requirement("tls.turns")
def test_pyspnegos_client_logs_on_without_an_empty_token(server_policy, mechanism):
    client, server = their_client(mechanism), server_side(server_policy)
    token = client.step()
    while not client.complete:
        assert token, "their turn has no token"
        token = server.turn(token)
        assert token, "our turn has no token"
        token = client.step(token)
    assert not server.turn(token)
    assert server.done
    assert server.context.take_credentials() == TSPasswordCreds.of("CONTOSO", "alice", PASSWORD)


@pytest.mark.requirement("tls.turns")
@pytest.mark.parametrize("tickets", [0, 1, 2])
def test_our_client_logs_on_to_pyspnego(tls, mechanism, tickets):
    if (tls, tickets) == ("tls13", 0) and PYSPNEGO < (0, 12):
        pytest.skip("pyspnego before 0.12 ends with a struct.error where it sends no ticket: make clean test")
    version = VERSIONS[tls]
    policy = Policy(
        min_tls=version,
        max_tls=version,
        mechanism=MechanismChoice(mechanism),
        dangerous_accept_any_certificate=True,
    )
    client, server = client_side(policy), their_server(mechanism, tickets)
    token, tokens = client.turn(b""), []
    while not client.done:
        assert token, "our turn has no token"
        token = server.step(token) or b""
        tokens.append(token)
        token = client.turn(token)
    server.step(token)
    assert server.complete
    assert server.client_principal == USER
    assert server.get_extra_info("client_credential").password == PASSWORD
    # Only where a server of TLS 1.3 sends no ticket does it give the turn back with nothing.
    assert [place for place, token in enumerate(tokens) if not token] == ([1] if (tls, tickets) == ("tls13", 0) else [])


def test_our_client_is_refused_by_pyspnego(tls, mechanism):
    version = VERSIONS[tls]
    policy = Policy(
        min_tls=version, max_tls=version, mechanism=MechanismChoice(mechanism), dangerous_accept_any_certificate=True
    )
    client, server = client_side(policy, Password("wrong", "alice", "CONTOSO")), their_server(mechanism, 1)
    token = client.turn(b"")
    with pytest.raises(AuthenticationError):
        for _ in range(10):
            try:
                answer = server.step(token) or b""
            except SpnegoError:
                answer = b""  # a server that refuses without saying so
            token = client.turn(answer)
