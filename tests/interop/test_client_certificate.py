"""OpenSSL's own server asks for a client certificate and names its authorities, in TLS 1.2 and 1.3."""

import socket
import threading

import pytest
from asn1crypto import pem as asn1_pem
from asn1crypto import x509 as asn1_x509
from support.engine import ALICE, Script, pem
from support.peers import DEADLINE, free_port, wait_until

from acredssp import tls_config
from acredssp.core.client import ClientHandshake
from acredssp.core.client_certificate import WatchingTLSSession, watch_certificate_requests
from acredssp.core.context import SecurityContext
from acredssp.core.events import ChooseCertificate
from acredssp.core.states import State
from acredssp.policy import Policy

pytestmark = pytest.mark.interop


def subject(certificate: bytes) -> bytes:
    _, _, der = asn1_pem.unarmor(certificate)
    return asn1_x509.Certificate.load(der).subject.dump()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("choice", ["with", "without"])
def test_openssl_names_its_authorities_and_sees_the_certificate_chosen(lab, tmp_path, version, choice):
    for name in ("ec", "p384"):
        (tmp_path / f"{name}.pem").write_bytes(b"".join(pem(name)))
    port = free_port()
    server = lab.start_server(
        [
            "openssl", "s_server", "-accept", f"127.0.0.1:{port}", version, "-cert", tmp_path / "ec.pem",
            "-key", tmp_path / "ec.pem", "-CAfile", tmp_path / "p384.pem", "-verify", "1", "-naccept", "1", "-rev",
        ],
        port,
    )  # fmt: skip
    chosen = tls_config.client_context(Policy())
    chosen.load_cert_chain(tmp_path / "p384.pem")
    asked = log_on(port, chosen if choice == "with" else None)
    assert asked == ChooseCertificate((subject(pem("p384")[0]),))
    server.wait()
    assert ("verify return:1" in server.read()) == (choice == "with")
    wait_until(server.ended, "s_server ends")


def log_on(port: int, answer) -> ChooseCertificate:
    """Bring TLS up, send the first TSRequest, and leave."""
    context = tls_config.client_context(Policy())
    watch_certificate_requests(context, threading.Lock())
    handshake = ClientHandshake(Script(b"c1", b"c2"), ALICE, Policy())
    client = SecurityContext(handshake, WatchingTLSSession(context))
    asked, received = [], b""
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as connection:
        result = client.step()
        while client.state is State.TLS:
            if result.event is not None:
                asked.append(result.event)
                result = client.resume(result.event, answer)
                continue
            connection.sendall(result.output)
            if result.missing or not received:
                received += connection.recv(65536)
            result = client.step(received)
            received = received[len(received) - result.extra :] if result.extra else b""
        connection.sendall(result.output)
    (event,) = asked
    return event
