"""OpenSSL's own server is told why its certificate was refused, in TLS 1.2 and 1.3; so is who logs on."""

import datetime as dt
import ssl

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support.certificates import CLIENT_AUTH, NOW, Made
from support.command import login
from support.peers import free_port, wait_until

from acredssp.trust import pin_of

pytestmark = pytest.mark.interop

TODAY = (dt.datetime.now(dt.UTC) - NOW).days
"""The certificates are made for the day of the test, as the program has no other clock."""
DATES = {"start": TODAY - 30, "days": TODAY + 30}
ROOT = Made("root", ca=True, **DATES)
SERVER = DATES | {"names": ["localhost"]}
REFUSALS = {
    "unknown ca": (Made("server", **SERVER), "SEC_E_UNTRUSTED_ROOT", "is signed by itself"),
    "certificate expired": (
        Made("server", by=ROOT, **SERVER | {"days": TODAY - 20}), "SEC_E_CERT_EXPIRED", "expired on",
    ),
    "unsupported certificate": (
        Made("server", by=ROOT, usages=[CLIENT_AUTH], **SERVER), "SEC_E_CERT_WRONG_USAGE", "is not for servers",
    ),
    "bad certificate": (
        Made("server", by=ROOT, **SERVER | {"names": ["b.example"]}), "SEC_E_WRONG_PRINCIPAL", "it is for b.example",
    ),
}  # fmt: skip


def start_s_server(lab, folder, made, version):
    file = folder / "server.pem"
    key = made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(key + ssl.DER_cert_to_PEM_cert(made.der).encode())
    port = free_port()
    words = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", version, "-cert", file, "-naccept", "1", "-rev"]
    return lab.start_server(words, port), port


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("alert", REFUSALS)
def test_both_sides_are_told_why(lab, tmp_path, alert, version):
    made, status, reason = REFUSALS[alert]
    server, port = start_s_server(lab, tmp_path, made, version)
    (tmp_path / "root.pem").write_text(ssl.DER_cert_to_PEM_cert(ROOT.der))
    trust = ("--ca", tmp_path / "root.pem", "--server-name", "localhost")
    done = login(lab, f"127.0.0.1:{port}", *trust, "--carriage", "tls")
    server.wait()
    wait_until(server.ended, "s_server ends")
    assert f"alert {alert}" in server.read()
    assert done.status == 3, done.run
    assert done.record["security_status"] == status
    assert done.record["stage"] == "tls"
    assert done.record["peer_key_sha256"] == pin_of(made.der)
    assert reason in done.record["message"]
    assert pin_of(made.der) in done.record["hint"]
    assert done.record["message"] in done.run.errors
