"""A client on a blocking socket that goes step by step, for tests that do something to a server during a logon."""

import contextlib
import socket

from acredssp.config import ClientConfig
from acredssp.credentials import Password
from acredssp.policy import Policy
from acredssp.status import SecurityStatus

PATIENCE = 120
"""Seconds after which a silent peer counts as dead. Only a test that hangs waits so long."""


def once(act):
    """Return a function that calls `act` at its first call only."""
    calls = [act]
    return lambda: calls and calls.pop()()


def connect(port):
    """A connection to a server on the loopback interface."""
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def log_on(connection, password, *, user="alice", domain="CONTOSO", between=lambda: None, carriage=None):
    """Log on over a connection, with a call of `between` in the middle; return the TLS session."""
    policy = Policy(dangerous_accept_any_certificate=True)
    config = ClientConfig(authenticate=Password(password, user, domain), policy=policy)
    context = config.new_context(server_hostname="localhost", spn="TERMSRV/localhost")
    carried = carriage.initiator(context) if carriage else context
    result, received = carried.step(), b""
    while True:
        connection.sendall(result.output)
        if result.status is SecurityStatus.SEC_E_OK:
            return context.tls
        if result.missing or not received:
            received += _more(connection)
            between()
        result = carried.step(received)
        received = received[len(received) - result.extra :]
        if result.event is not None:
            result = carried.resume(result.event, config.decide(result.event))


def _more(connection):
    chunk = connection.recv(65536)
    if not chunk:
        raise ConnectionResetError("the server ended the connection")
    return chunk


def read_to_the_end(connection, tls):
    """Read until close_notify; the end of the connection without it is a failure."""
    while not tls.peer_closed:
        ciphertext = connection.recv(65536)
        assert ciphertext, "the connection ended without close_notify"
        tls.read(ciphertext)


def wait_until_refused(port):
    """Return once no socket listens: closing a listening socket resets the connections in its queue."""
    with contextlib.suppress(ConnectionRefusedError):
        while True:
            with contextlib.suppress(ConnectionResetError):
                connect(port).close()
