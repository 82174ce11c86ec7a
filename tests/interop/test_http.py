"""The clients of the field log on to our side of HTTP, and both seal bodies of many sizes.

requests-credssp is in the extra `dev`. The others are not: their tests run where somebody has installed them.
"""

import importlib.util
import json
import subprocess
import sys
import threading
from http.server import ThreadingHTTPServer

import pytest
from support.http_server import EchoServer
from support.peers import DEADLINE, free_port
from support.turns import VERSIONS, answer_of_server, server_config

from acredssp.errors import AuthenticationError
from acredssp.policy import Policy

SIZES = [1, 16_383, 16_384, 16_385, 1 << 20]

# Each client has a function `send(bytes) -> bytes`. In a process of its own: they leave sockets to the collector.
CLIENTS = {
    "requests_credssp": """
import requests, requests_credssp, struct, re
auth = requests_credssp.HttpCredSSPAuth(USER, PASSWORD, auth_mechanism=MECHANISM, minimum_version=5)
session = requests.Session()
session.trust_env = False
def send(message):
    if not auth.contexts:
        session.post(URL, auth=auth, timeout=60).raise_for_status()
    client = auth.contexts["localhost"]
    parts = []
    for start in range(0, len(message), 16384):
        chunk = message[start : start + 16384]
        header, data, _ = client.wrap_winrm(chunk)
        parts.append(
            b"--Encrypted Boundary\\r\\n\\tContent-Type: application/HTTP-CredSSP-session-encrypted\\r\\n"
            b"\\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=%d\\r\\n--Encrypted Boundary\\r\\n"
            b"\\tContent-Type: application/octet-stream\\r\\n" % len(chunk)
            + struct.pack("<I", len(header)) + header + data
        )
    kind = "multipart/encrypted" if len(message) <= 16384 else "multipart/x-multi-encrypted"
    kind += ';protocol="application/HTTP-CredSSP-session-encrypted";boundary="Encrypted Boundary"'
    body = b"".join([*parts, b"--Encrypted Boundary--\\r\\n"])
    answer = session.post(URL, data=body, headers={"Content-Type": kind}, timeout=60)
    answer.raise_for_status()
    parts = re.split(rb"--Encrypted Boundary(?:--)?\\r\\n", answer.content)[2::2]
    return b"".join(
        client.unwrap(part.partition(b"octet-stream\\r\\n")[2][4:]) for part in parts
    )
""",
    "pypsrp": """
from pypsrp.wsman import _TransportHTTP
transport = _TransportHTTP(
    "localhost", PORT, USER, PASSWORD, ssl=False, auth="credssp", no_proxy=True,
    credssp_auth_mechanism=MECHANISM, credssp_minimum_version=5,
)
send = transport.send
""",
    "winrm": """
from winrm.transport import Transport
transport = Transport(
    URL, auth_method="credssp", username=USER, password=PASSWORD, proxy=None,
    credssp_auth_mechanism=MECHANISM, credssp_minimum_version=5,
)
send = transport.send_message
""",
}

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
URL, PORT, MECHANISM, PASSWORD, SIZES = sys.argv[1], int(sys.argv[2]), *sys.argv[3:5], json.loads(sys.argv[5])
USER = "CONTOSO\\\\alice"
{client}
try:
    answers = [send(b"x" * size) == b"x" * size for size in SIZES]
    print(json.dumps({{"answers": answers, "nothing": len(send(b"nothing"))}}))
except Exception as error:
    print(json.dumps({{"error": type(error).__name__, "text": str(error)}}))
"""


@pytest.fixture(autouse=True)
def no_realm(monkeypatch):
    monkeypatch.setenv("KRB5_CONFIG", "/dev/null")


@pytest.fixture(params=VERSIONS)
def server(request):
    version = VERSIONS[request.param]
    with ThreadingHTTPServer(("127.0.0.1", free_port()), EchoServer) as server:
        server.config = server_config(Policy(min_tls=version, max_tls=version))
        server.answer, server.exchanges, server.bodies = answer_of_server, [], []
        server.daemon_threads = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def word_of(client, server, mechanism="ntlm", password="Passw0rd!", sizes=SIZES):
    """What their client says at its end."""
    if importlib.util.find_spec(client) is None:
        pytest.skip(f"{client} is not installed")
    program = PROGRAM.format(client=CLIENTS[client])
    url = f"http://localhost:{server.server_port}/wsman"
    command = [sys.executable, "-c", program, url, str(server.server_port), mechanism, password, json.dumps(sizes)]
    run = subprocess.run(command, capture_output=True, timeout=DEADLINE, check=False)
    assert run.returncode == 0, run.stderr.decode()
    return json.loads(run.stdout)


@pytest.mark.parametrize("mechanism", ["ntlm", "auto"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_of_the_field_logs_on_and_sends_and_gets_sealed_bodies(server, client, mechanism):
    word = word_of(client, server, mechanism)
    assert word == {"answers": [True] * len(SIZES), "nothing": 0}
    assert server.bodies == [*SIZES, len("nothing")]
    (exchange,) = server.exchanges
    assert str(exchange.context.info.principal) == "CONTOSO\\alice"
    assert exchange.error is None


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_of_the_field_is_told_that_the_password_is_wrong(server, client):
    word = word_of(client, server, password="wrong")
    assert word["error"] == "NTStatusException"
    assert "0xc000006d" in word["text"].lower()
    (error,) = [exchange.error for exchange in server.exchanges if exchange.error]
    assert isinstance(error, AuthenticationError)
    assert server.bodies == []


def test_a_body_of_20_mib(server):
    """By the client whose cost does not grow with the square of the size here."""
    assert word_of("requests_credssp", server, sizes=[20 << 20]) == {"answers": [True], "nothing": 0}
