"""The clients of the field log on to our side of HTTP without I/O, and both seal bodies of many sizes."""

import threading
from http.server import ThreadingHTTPServer

import pytest
from support.http_clients import CLIENTS, word_of
from support.http_server import EchoServer
from support.peers import free_port
from support.turns import VERSIONS, answer_of_server, server_config

from acredssp.errors import AuthenticationError
from acredssp.policy import Policy

BY_PYSPNEGO = [client for client in CLIENTS if client != "awinrm"]
SIZES = [1, 16_383, 16_384, 16_385, 1 << 20]


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


@pytest.mark.parametrize("mechanism", ["ntlm", "auto"])
@pytest.mark.parametrize("client", BY_PYSPNEGO)
def test_a_client_of_the_field_logs_on_and_sends_and_gets_sealed_bodies(server, client, mechanism):
    word = word_of(client, server.server_port, mechanism, sizes=SIZES)
    assert word == {"answers": [True] * len(SIZES), "nothing": 0}
    assert server.bodies == [*SIZES, len("nothing")]
    (exchange,) = server.exchanges
    assert str(exchange.context.info.principal) == "CONTOSO\\alice"
    assert exchange.error is None


@pytest.mark.parametrize("client", BY_PYSPNEGO)
def test_a_client_of_the_field_is_told_that_the_password_is_wrong(server, client):
    word = word_of(client, server.server_port, password="wrong", sizes=SIZES)
    assert word["error"] == "NTStatusException"
    assert "0xc000006d" in word["text"].lower()
    (error,) = [exchange.error for exchange in server.exchanges if exchange.error]
    assert isinstance(error, AuthenticationError)
    assert server.bodies == []


def test_a_body_of_20_mib(server):
    """By the client whose cost does not grow with the square of the size here."""
    assert word_of("requests_credssp", server.server_port, sizes=[20 << 20]) == {"answers": [True], "nothing": 0}
