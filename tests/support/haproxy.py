"""HAProxy as a load balancer in front of a server of ours, or of a plain socket that keeps what it says.

Observed with Debian's 2.6.12.
"""

import contextlib
import socket

from support.peers import DEADLINE, free_port

import acredssp

CONFIGURATION = """\
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend front
    bind {bind}
    {frontend}
    default_backend back
backend back
    server one 127.0.0.1:{target} {server}
"""


def start(lab, target, server, *, tls=False, both_families=False, frontend=""):
    """Start HAProxy in front of a loopback port; return the port that it listens on.

    Args:
        lab: A `Lab`.
        target: The port behind.
        server: Options of the line `server`: `send-proxy`, `check`.
        tls: Whether clients come over TLS, with a certificate of the lab's.
        both_families: Whether it listens on IPv6, for clients of IPv4, too.
        frontend: A further line of the frontend.
    """
    port = free_port()
    bind = f"[::]:{port} v4v6" if both_families else f"127.0.0.1:{port}"
    if tls:
        pem = lab.folder / "haproxy.pem"
        certificate, key = acredssp.self_signed(["gw.example"])
        pem.write_bytes(certificate + key)
        bind += f" ssl crt {pem}"
    configuration = lab.folder / f"haproxy-{port}.cfg"
    text = CONFIGURATION.format(bind=bind, target=target, server=server, frontend=frontend)
    configuration.write_text(text, encoding="ascii")
    lab.start_server(["haproxy", "-db", "-f", configuration], port)
    return port


@contextlib.contextmanager
def listening():
    """A loopback socket that listens, to look at what a peer says first."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
        listener.listen()
        listener.settimeout(DEADLINE)
        yield listener


def accepted(listener):
    """The next connection of a listening socket."""
    connection, _ = listener.accept()
    connection.settimeout(DEADLINE)
    return connection


def read_exactly(connection, size):
    """So many bytes of a connection, and not one more."""
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        assert more, f"the peer left after {data!r}"
        data += more
    return data


def read_frame(connection, frame_size):
    """The frame that a connection begins with, read as `frame_size` says, and nothing behind it."""
    data = b""
    while missing := frame_size(data).missing:
        data += read_exactly(connection, missing)
    return data


REVERSE = """\
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    option http-keep-alive
    http-reuse always
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    server one 127.0.0.1:{target} maxconn 1
"""


def start_reverse_proxy(lab, target):
    """Start HAProxy as a reverse proxy of HTTP with one connection to the server for all clients; return its port."""
    port = free_port()
    configuration = lab.folder / f"haproxy-{port}.cfg"
    configuration.write_text(REVERSE.format(port=port, target=target), encoding="ascii")
    lab.start_server(["haproxy", "-db", "-f", configuration], port)
    return port
