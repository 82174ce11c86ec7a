"""examples/gateway.py between FreeRDP's clients and FreeRDP's servers: real RDP on both legs."""

import re
import sys
from pathlib import Path

import pytest
from support import freerdp
from support.peers import free_port, wait_until

from acredssp.rdp import Protocols
from acredssp.wire import mcs

pytestmark = pytest.mark.interop

GATEWAY = Path(__file__).parent.parent.parent / "examples" / "gateway.py"
SHADOWS = pytest.mark.parametrize("shadow", [2, 3], ids=["shadow2", "shadow3"])
CLIENTS = pytest.mark.parametrize("client", [2, 3], ids=["freerdp2", "freerdp3"])
PASSWORD, FRONT_PASSWORD = "Passw0rd!", "wonderland"
BOB = ":bob:bobpw"

OBSERVED = """
import runpy, sys
from acredssp import rdp

read_pdu = rdp.read_pdu

async def read_and_tell(reader):
    pdu = await read_pdu(reader)
    print("PDU", pdu.hex(), flush=True)
    return pdu

rdp.read_pdu = read_and_tell
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs the example, and prints what the two sides say in MCS before it is rewritten."""

CONNECTED = {2: (0, "Authentication only, exit status 0"), 3: (131, "Authentication only, exit status 1")}
"""Status and line of a client that has come through the whole of RDP's connection, as it is asked to with `+auth-only`.
FreeRDP 3 cancels itself then (ERRCONNECT_CONNECT_CANCELLED), and writes a success as 1."""


@pytest.fixture
def gateway(graphical_lab, shadow_servers, pin_of, gateway_certificate, tmp_path):
    """Starts the gateway before a shadow server: `gateway(generation, front's password, account)`."""

    def start(generation, password=PASSWORD, account=""):
        server = shadow_servers(generation)
        for name, data in zip(("cert.pem", "key.pem"), gateway_certificate, strict=True):
            (tmp_path / name).write_bytes(data)
        port = free_port()
        files = tmp_path / "cert.pem", tmp_path / "key.pem"
        route = f"desktops=127.0.0.1:{server.port}:{pin_of(server)}{account}"
        argv = [sys.executable, "-c", OBSERVED, GATEWAY, port, *files, "alice", password, route]
        return f"127.0.0.1:{port}", graphical_lab.start_server(argv, port)

    return start


def connect(lab, client, address, *arguments, token="desktops", **account):
    return freerdp.log_on(lab, client, address, f"/load-balance-info:{token}", *arguments, **account)


def outcome(done, client):
    """The client's status, and whether it wrote the line of a success."""
    return done.status, CONNECTED[client][1] in done.errors


def repeated(process):
    """Which protocol the client says in MCS that its server selected, and which ones the server that were requested."""
    initial, response = (bytes.fromhex(pdu) for pdu in re.findall(r"^PDU (\w+)$", process.read(), re.MULTILINE))
    fields = (initial, mcs.selected_protocol_at(initial)), (response, mcs.requested_protocols_at(response))
    return tuple(Protocols.from_bytes(pdu[place : place + 4], "little") for pdu, place in fields)


@pytest.mark.parametrize(
    ("client", "security", "selected"),
    [(2, "/sec:nla", Protocols.HYBRID), (3, "/sec:nla", Protocols.HYBRID), (3, "/sec:ext", Protocols.HYBRID_EX)],
    ids=["freerdp2-hybrid", "freerdp3-hybrid", "freerdp3-hybrid-ex"],
)
@SHADOWS
@pytest.mark.parametrize(
    ("password", "account"), [(PASSWORD, ""), (FRONT_PASSWORD, BOB)], ids=["delegated", "injected"]
)
def test_a_client_is_connected_to_the_target(
    graphical_lab, gateway, client, security, selected, shadow, password, account
):
    """Each side repeats in MCS what it has negotiated with the gateway; FreeRDP's servers refuse anything else."""
    address, process = gateway(shadow, password, account)
    done = connect(graphical_lab, client, address, security, password=password)
    assert outcome(done, client) == (CONNECTED[client][0], True)
    wait_until(lambda: "RelayResult" in process.read(), "the relay ends")
    assert repeated(process) == (selected, Protocols.SSL | Protocols.HYBRID)
    assert "ended_by=<RelayEnd.A: " in process.read()
    assert "alice from ('127.0.0.1'" in process.read()
    assert password not in process.read()


@CLIENTS
def test_a_wrong_password_is_refused_before_a_target_is_asked(graphical_lab, gateway, client):
    address, process = gateway(2)
    done = connect(graphical_lab, client, address, password="wrong")
    assert outcome(done, client) == (freerdp.LOGON_FAILED, False)
    assert "authorize" not in process.read()


@pytest.mark.parametrize(
    ("client", "security", "status"),
    [
        (3, "/sec:ext", freerdp.DENIED),
        (3, "/sec:nla", freerdp.CONNECTION_ENDED),
        (2, "/sec:nla", freerdp.CONNECTION_ENDED),
    ],
    ids=["freerdp3-hybrid-ex", "freerdp3-hybrid", "freerdp2-hybrid"],
)
@SHADOWS
def test_a_target_that_refuses_what_was_delegated(graphical_lab, gateway, shadow, client, security, status):
    """With HYBRID_EX the client is told. With HYBRID nothing is left to tell it by, and the connection ends."""
    address, process = gateway(shadow, FRONT_PASSWORD)
    done = connect(graphical_lab, client, address, security, password=FRONT_PASSWORD)
    assert outcome(done, client) == (status, False)
    assert "denied admit" in process.read()


@CLIENTS
@pytest.mark.parametrize(
    ("shadow", "status"), [(2, freerdp.LOGON_FAILED), (3, freerdp.DENIED)], ids=["shadow2", "shadow3"]
)
def test_a_target_that_refuses_what_was_injected(graphical_lab, gateway, shadow, status, client):
    """The client hears of it before it delegates anything. FreeRDP's clients have no status for 3's 0xC00700EA."""
    address, process = gateway(shadow, FRONT_PASSWORD, ":bob:wrong")
    done = connect(graphical_lab, client, address, password=FRONT_PASSWORD)
    assert outcome(done, client) == (status, False)
    assert "denied authorize" in process.read()


@CLIENTS
def test_a_token_that_leads_nowhere_is_refused_before_tls(graphical_lab, gateway, client):
    address, process = gateway(2)
    done = connect(graphical_lab, client, address, token="elsewhere")
    assert outcome(done, client) == (freerdp.NEGOTIATION_FAILED, False)
    assert "denied route" in process.read()
