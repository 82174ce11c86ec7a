"""`acredssp login` on real FreeRDP servers, 2.11 and 3.10."""

import pytest
from support.command import login
from support.kdc import REALM
from support.peers import free_port

pytestmark = pytest.mark.interop

KEYS = {
    "time",
    "message",
    "hint",
    "anchor",
    "result",
    "stage",
    "security_status",
    "nt_status",
    "credssp_version",
    "mechanism",
    "tls_version",
    "cipher",
    "peer_key_sha256",
    "elapsed_ms",
    "fallback",
}

# A FreeRDP 2 server takes raw NTLM alone. A FreeRDP 3 server takes both, and answers versions 2 to 4 with a key of
# zeros (its defect), which we must refuse.
SOUND = [
    *((2, "ntlm", version) for version in (2, 3, 4, 5, 6)),
    *((3, mechanism, version) for mechanism in ("ntlm", "negotiate") for version in (5, 6)),
]
ROWS = pytest.mark.parametrize(("server", "mechanism", "version"), SOUND)


def options(mechanism, version):
    return ["--insecure", "--mechanism", mechanism, "--min-version", version, "--max-version", version]


@ROWS
def test_a_good_password(lab, shadow_server, server, mechanism, version):
    done = login(lab, shadow_server(server).address, *options(mechanism, version))
    assert done.status == 0, done.run
    assert set(done.record) == KEYS
    assert done.record["result"] == "success"
    assert done.record["stage"] == "established"
    assert done.record["security_status"] == "SEC_E_OK"
    assert done.record["nt_status"] is None
    assert done.record["credssp_version"] == version
    assert done.record["mechanism"] == "ntlm"
    assert done.record["tls_version"] == "TLSv1.3"
    assert len(bytes.fromhex(done.record["peer_key_sha256"])) == 32


@ROWS
def test_a_wrong_password(lab, shadow_server, server, mechanism, version):
    done = login(lab, shadow_server(server).address, *options(mechanism, version), password="wrong")
    assert done.status == 1, done.run
    assert set(done.record) == KEYS
    assert done.record["result"] == "denied"
    assert done.record["security_status"] == "SEC_E_LOGON_DENIED"
    # FreeRDP 2 only closes. FreeRDP 3 gives a Win32 error, where the version has a place.
    assert done.record["nt_status"] == ("ERROR_MORE_DATA" if (server, version) == (3, 6) else None)


@pytest.mark.parametrize("mechanism", ["ntlm", "negotiate"])
@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_key_of_zeros_is_refused(lab, shadow_server, mechanism, version):
    done = login(lab, shadow_server(3).address, *options(mechanism, version))
    assert done.status == 3, done.run
    assert done.record["result"] == "protocol_error"
    assert done.record["stage"] == "pub_key_auth"
    assert done.record["security_status"] == "SEC_E_MESSAGE_ALTERED"


@pytest.mark.parametrize("server", [2, 3])
def test_the_pin_we_print_is_the_pin_we_take(lab, shadow_server, server):
    address = shadow_server(server).address
    refused = login(lab, address)
    assert refused.status == 3, refused.run
    pin = refused.record["peer_key_sha256"]
    assert pin in refused.run.errors
    assert login(lab, address, "--pin", pin).status == 0
    wrong = login(lab, address, "--pin", "0" * 64)
    assert wrong.status == 3
    assert wrong.record["mechanism"] is None  # nothing of the logon has left


def test_the_nt_hash_is_enough_to_log_on(lab, shadow_server):
    pass_the_hash = ["--insecure", "--nt-hash", "fc525c9683e8fe067095ba2ddc971889"]
    done = login(lab, shadow_server(2).address, *pass_the_hash, password=None)
    assert done.status == 0, done.run


RESTRICTED_ADMIN = "RestrictedRemoteAdministration = true\nRestrictedRemoteAdministrationType = 1"


@pytest.mark.requirement("delegation.lists", "delegation.restricted")
@pytest.mark.parametrize("server", [2, 3])
@pytest.mark.parametrize(
    ("policy", "status", "security_status"),
    [
        ('AllowFreshCredentialsWhenNTLMOnly = ["TERMSRV/127.0.0.*"]', 0, "SEC_E_OK"),
        (RESTRICTED_ADMIN, 0, "SEC_E_OK"),
        ("AllowFreshCredentialsWhenNTLMOnly = false", 3, "SEC_E_POLICY_NLTM_ONLY"),
        ('DenyFreshCredentials = ["TERMSRV/127.0.0.1"]', 3, "SEC_E_DELEGATION_POLICY"),
    ],
)
def test_a_policy_decides_what_a_real_server_is_given(
    lab, shadow_server, tmp_path, server, policy, status, security_status
):
    (tmp_path / "policy.toml").write_text(policy)
    done = login(lab, shadow_server(server).address, "--insecure", "--policy", tmp_path / "policy.toml")
    assert done.status == status, done.run
    assert done.record["security_status"] == security_status
    assert done.record["stage"] == ("pub_key_auth" if status else "established")


@pytest.mark.parametrize("security", ["tls", "rdp"])
def test_a_server_without_credssp(lab, shadow_server, security):
    done = login(lab, shadow_server(3, security).address, "--insecure")
    assert done.status == 3, done.run
    assert done.record["result"] == "protocol_error"
    assert done.record["stage"] == "negotiation"


def test_nobody_there(lab):
    done = login(lab, f"127.0.0.1:{free_port()}", "--insecure")
    assert done.status == 4
    assert set(done.record) == KEYS
    assert done.record["result"] == "network_error"
    assert done.record["stage"] == "connect"


@pytest.mark.parametrize("mechanism", ["auto", "kerberos", "raw-kerberos"])
def test_kerberos_with_a_password(lab, kerberos, kerberos_shadow_server, mechanism):
    lab.environment |= kerberos.realm.environment
    words = ["--insecure", "--mechanism", mechanism, "--spn", "TERMSRV/localhost"]
    done = login(lab, kerberos_shadow_server.address, *words, domain=REALM)
    assert done.status == 0, done.run
    assert (done.record["mechanism"], done.record["credssp_version"]) == ("kerberos", 6)


@pytest.mark.parametrize("option", ["--ccache", "--keytab"])
def test_kerberos_without_a_password(lab, kerberos, kerberos_shadow_server, option):
    lab.environment |= kerberos.realm.environment
    value = {"--ccache": kerberos.log_on(), "--keytab": kerberos.keytab}[option]
    words = ["--insecure", option, value, "--spn", "TERMSRV/localhost"]
    done = login(lab, kerberos_shadow_server.address, *words, user=None, domain=None, password=None)
    assert done.status == 0, done.run
    assert done.record["mechanism"] == "kerberos"


def test_a_kdc_that_is_silent_is_a_time_out_of_the_command(lab, kerberos, silent_kdc, kerberos_shadow_server):
    lab.environment |= kerberos.environment
    words = ["--insecure", "--mechanism", "kerberos", "--spn", "TERMSRV/localhost", "--timeout", "1"]
    done = login(lab, kerberos_shadow_server.address, *words, domain=REALM)
    assert done.status == 4
    assert (done.record["result"], done.record["stage"]) == ("timeout", "nego_token")
