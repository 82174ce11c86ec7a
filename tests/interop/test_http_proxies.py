"""Reverse proxies that share connections among clients stand in front of our acceptor: noticed, and never served.

nginx and HAProxy keep connections to the server open, and send the next client's requests over them.
"""

import contextlib
import http.client

import pytest
from support import haproxy, nginx
from support.endpoints import BOB, PASSWORD, server_config
from support.http_by_hand import NAME, SERVERS, config_of_client
from support.http_hosted import HostedHTTP
from support.peers import DEADLINE

from acredssp.aio import HandshakeOutcome
from acredssp.credentials import Password
from acredssp.http import ClientExchange, open_body, seal_body

pytestmark = pytest.mark.interop

PROXIES = {"nginx": nginx.start, "haproxy": haproxy.start_reverse_proxy}
ALICE = Password(PASSWORD, "alice", "CONTOSO")
ACCOUNTS = {"alice": ALICE, "bob": BOB}


class Client:
    """One client's connection to the proxy."""

    def __init__(self, port, account):
        self.config = config_of_client(authenticate=account)
        self.exchange = ClientExchange(self.config, NAME)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)

    def ask(self, headers=(), body=b""):
        self.connection.request("POST", "/wsman", body, dict(headers))
        response = self.connection.getresponse()
        return response.status, response.headers, response.read()

    def answered(self, turn):
        while turn.event is not None:
            turn = self.exchange.resume(turn.event, self.exchange.answer(turn.event))
        return turn

    def leg(self, turn):
        """Send the next leg; return the server's status, and the next turn."""
        status, headers, body = self.ask([("Authorization", turn.authorization)])
        return status, body, headers

    def log_on(self):
        turn = self.answered(self.exchange.start())
        while turn.authorization:
            status, _, headers = self.leg(turn)
            turn = self.answered(self.exchange.receive(status, headers.items()))

    def post(self, plaintext):
        """Send a sealed body; return the status, and the answer in plain, or as it came."""
        kind, body = seal_body(self.exchange.context, plaintext, "text/plain")
        status, headers, answer = self.ask([("Content-Type", kind)], body)
        if status == 200:
            answer = open_body(self.exchange.context, headers["content-type"], answer)[1]
        return status, answer


@pytest.fixture(params=SERVERS)
def acceptor(request):
    config = server_config(lookup=lambda asked: ACCOUNTS[asked.principal.user])
    with HostedHTTP(request.param, config) as server:
        yield server


@pytest.fixture(params=PROXIES)
def proxied(request, lab, acceptor):
    """Makes clients of a proxy in front of the acceptor."""
    port = PROXIES[request.param](lab, acceptor.port)
    with contextlib.ExitStack() as stack:

        def client(account):
            one = Client(port, account)
            stack.callback(one.connection.close)
            return one

        yield client


def test_the_second_logon_over_the_connection_of_the_first_is_refused(acceptor, proxied):
    alice, bob = proxied(ALICE), proxied(BOB)
    alice.log_on()
    assert alice.post(b"hers") == (200, b"hers")
    status, body, _ = bob.leg(bob.answered(bob.exchange.start()))
    assert status == 400
    assert b"let no proxy share connections among clients" in body
    status, _ = alice.post(b"after the connection ended")
    assert status == 401
    assert acceptor.app.users == ["CONTOSO\\alice"]
    assert [report.outcome for report in acceptor.reports] == [HandshakeOutcome.SUCCESS]


@pytest.mark.parametrize("body", [b"", b"his"])
def test_a_plain_request_over_the_connection_of_another_client_is_not_served_as_hers(acceptor, proxied, body):
    alice, bob = proxied(ALICE), proxied(BOB)
    alice.log_on()
    assert alice.post(b"hers") == (200, b"hers")
    status, _, text = bob.ask([("Content-Type", "text/plain")], body)
    assert status == 401
    assert b"expected a sealed body, which shows whose request it is" in text
    assert acceptor.app.users == ["CONTOSO\\alice"]


def test_two_logons_that_the_proxy_mixes_log_on_nobody_as_another(acceptor, proxied):
    alice, bob = proxied(ALICE), proxied(BOB)
    status, _, headers = alice.leg(alice.answered(alice.exchange.start()))
    turn = alice.answered(alice.exchange.receive(status, headers.items()))
    status, _, _ = bob.leg(bob.answered(bob.exchange.start()))
    assert status == 401
    status, _, _ = alice.leg(turn)
    assert status == 401
    assert acceptor.app.users == []
    assert all(report.error is not None for report in acceptor.reports)
