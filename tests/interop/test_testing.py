"""acredssp.testing against FreeRDP 2 and 3: what their servers and clients withstand, and what they do not.

docs/testing.md has the same findings.
"""

import pytest
from support import freerdp
from support.defects import defects_of
from support.kdc import PASSWORD, REALM

from acredssp.credentials import Keytab, Password
from acredssp.policy import MechanismChoice
from acredssp.testing import (
    ClientDefects,
    ClientEndpoint,
    ServerEndpoint,
    attack_client,
    attack_server,
    client_defects,
    server_defects,
)

pytestmark = pytest.mark.interop

ACCOUNT = Password("Passw0rd!", "alice", "CONTOSO")
ALICE = Password(PASSWORD, "alice", REALM)
QUIET = 1.0
"""Seconds after which the attacker ends its side: after some attacks FreeRDP waits for more. It may still answer."""
QUIET_UNDER_MEMCHECK = 60.0
"""The same for a server that takes a hundred times as long; both of its attacks are answered."""


@pytest.mark.parametrize("generation", [2, 3])
def test_the_servers_of_freerdp_take_av_pairs_without_an_end(shadow_server, generation):
    server = shadow_server(generation)
    endpoint = ServerEndpoint.tcp("127.0.0.1", server.port, account=ACCOUNT, quiet=QUIET)
    seen = defects_of(attack_server, endpoint, server_defects())
    assert seen == {"av-pairs-without-end": "the server lets in a client with AV pairs without an end"}


@pytest.mark.parametrize("form", [MechanismChoice.KERBEROS, MechanismChoice.RAW_KERBEROS], ids=str)
def test_the_server_of_freerdp_3_withstands_the_attacks_by_kerberos(kerberos, kerberos_shadow_server, form):
    endpoint = ServerEndpoint.tcp(
        "127.0.0.1", kerberos_shadow_server.port, account=ALICE, spn="TERMSRV/localhost", quiet=QUIET
    )
    attacks = [each for each in server_defects(form) if each != "filler-outside"]  # it may end the server: see below
    assert defects_of(attack_server, endpoint, attacks, form) == {}


def test_the_server_of_freerdp_3_writes_outside_its_memory(graphical_lab, kerberos, kerberos_realm, sam_file, tmp_path):
    """Memcheck sees it always; glibc sees it now and then, and ends the server by "corrupted size vs. prev_size"."""
    graphical_lab.environment |= kerberos_realm.service_environment
    found = tmp_path / "memcheck"
    memcheck = ("valgrind", "--leak-check=no", "--undef-value-errors=no", f"--log-file={found}")
    server = freerdp.start_shadow_server(graphical_lab, 3, sam_file, under=memcheck)
    endpoint = ServerEndpoint.tcp(
        "127.0.0.1", server.port, account=ALICE, spn="TERMSRV/localhost", quiet=QUIET_UNDER_MEMCHECK
    )
    attack_server(endpoint, "wrong-signature", MechanismChoice.KERBEROS)
    assert "Invalid write" not in found.read_text("utf-8")
    attack_server(endpoint, "filler-outside", MechanismChoice.KERBEROS)
    assert "Invalid write" in found.read_text("utf-8")


@pytest.mark.parametrize("generation", [2, 3])
def test_the_clients_of_freerdp_send_the_password_at_version_2(graphical_lab, generation):
    def run(host, port):
        freerdp.log_on(graphical_lab, generation, f"{host}:{port}")

    endpoint = ClientEndpoint.tcp(run, account=ACCOUNT, quiet=QUIET)
    seen = defects_of(attack_client, endpoint, client_defects())
    assert list(seen) == ["old-version"]
    assert "CVE-2018-0886" in seen["old-version"]


def test_the_client_of_freerdp_3_by_kerberos(graphical_lab, kerberos):
    graphical_lab.environment |= kerberos.environment

    def run(_, port):
        freerdp.log_on(graphical_lab, 3, f"localhost:{port}", "/auth-pkg-list:kerberos,!ntlm", domain=REALM)

    endpoint = ClientEndpoint.tcp(run, account=ALICE, keytab=Keytab(str(kerberos.keytab)), quiet=QUIET)
    suite = ClientDefects()
    suite.mechanism = MechanismChoice.KERBEROS
    suite.test_an_honest_server_gets_the_password(endpoint)
    seen = defects_of(attack_client, endpoint, client_defects(suite.mechanism), suite.mechanism)
    assert list(seen) == ["rejected"]
