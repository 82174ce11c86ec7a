"""The lab itself: real peers against each other, so that a failure of ours can be told from one of theirs."""

import pytest
from support import freerdp
from support.observers import Capture, nmap

pytestmark = pytest.mark.interop

SUCCESS = {2: 0, 3: 131}
"""xfreerdp3 3.10.3 ends `+auth-only` with 131 on success."""
REFUSED = {2: 147, 3: 132}
"""A shadow server 2 closes without a word; 3 says 0xC00700EA."""


@pytest.mark.parametrize("client", [2, 3])
@pytest.mark.parametrize("server", [2, 3])
def test_freerdp_logs_on_to_freerdp(graphical_lab, shadow_server, client, server):
    run = freerdp.log_on(graphical_lab, client, shadow_server(server).address)
    assert run.status == SUCCESS[client]
    assert "Authentication only, exit status" in run.errors


@pytest.mark.parametrize("client", [2, 3])
@pytest.mark.parametrize("server", [2, 3])
def test_freerdp_refuses_a_wrong_password_of_freerdp(graphical_lab, shadow_server, client, server):
    run = freerdp.log_on(graphical_lab, client, shadow_server(server).address, password="wrong")
    assert run.status == REFUSED[server]


def test_nmap_reads_freerdp(lab, shadow_server):
    found = nmap(lab, shadow_server(3).port, "rdp-ntlm-info", "rdp-enum-encryption")
    assert "Product_Version: 10." in found
    assert "CredSSP (NLA): SUCCESS" in found


def test_a_capture_holds_the_whole_conversation(graphical_lab, lab, shadow_server):
    server = shadow_server(2)
    with Capture(lab, server.port).running() as capture:
        freerdp.log_on(graphical_lab, 2, server.address)
    begin, end = "tls.handshake.type == 1", "tcp.flags.fin == 1 || tcp.flags.reset == 1"
    assert len(capture.decode(lab.folder / "no.keys", begin, "tls.handshake.version")) == 1
    assert capture.decode(lab.folder / "no.keys", end, "tcp.flags")


def test_the_realm_gives_tickets(lab, kerberos_realm):
    lab.environment |= kerberos_realm.environment
    run = lab.run(["kinit", "-V", "-c", lab.folder / "cache", "-k", "-t", kerberos_realm.keytab, "TERMSRV/localhost"])
    assert run.status == 0
