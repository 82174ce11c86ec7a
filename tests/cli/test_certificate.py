import datetime as dt
import ssl
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from acredssp.cli.certificate import Certificate
from acredssp.cli.outcome import UsageError
from acredssp.policy import Policy

needs_old_tls = pytest.mark.skipif(not (ssl.HAS_TLSv1 and ssl.HAS_TLSv1_1), reason="openssl was built without it")


def extension(certificate, kind):
    return x509.load_pem_x509_certificate(certificate.chain).extensions.get_extension_for_class(kind).value


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("rdp.example", {"rdp.example"}),
        ("192.0.2.1", {"192.0.2.1"}),
        ("localhost", {"localhost", "127.0.0.1", "::1"}),
        ("127.0.0.1", {"localhost", "127.0.0.1", "::1"}),
    ],
)
def test_a_self_made_certificate_is_for_the_names_that_are_listened_on(host, names):
    certificate = Certificate.self_made(host, "ec")
    alternative = extension(certificate, x509.SubjectAlternativeName)
    assert {str(name.value) for name in alternative} == names
    assert list(extension(certificate, x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_a_server_that_listens_everywhere_has_its_machine_s_name(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "machine")
    alternative = extension(Certificate.self_made("0.0.0.0", "ec"), x509.SubjectAlternativeName)  # noqa: S104
    assert {str(name.value) for name in alternative} == {"machine", "localhost", "127.0.0.1", "::1"}


def test_a_self_made_key_is_rsa_2048_unless_wanted_otherwise():
    key = x509.load_pem_x509_certificate(Certificate.self_made("localhost", "rsa").chain).public_key()
    assert key.key_size == 2048


def weak_pair(bits=1024, digest="sha256"):
    """A pair that OpenSSL does not take at its usual security level."""
    words = ["req", "-x509", "-newkey", f"rsa:{bits}", "-nodes", "-subj", "/CN=localhost", f"-{digest}", "-keyout", "-"]
    made = subprocess.run(["openssl", *words], capture_output=True, check=True).stdout
    key, mark, chain = made.partition(b"-----BEGIN CERTIFICATE-----")
    return mark + chain, key


@pytest.fixture
def files(tmp_path):
    """Makes the two files of a chain and a key, and reads them as `serve` does."""

    def make(chain, key):
        (tmp_path / "s.pem").write_bytes(chain)
        (tmp_path / "s.key").write_bytes(key)
        return Certificate.from_files(tmp_path / "s.pem", tmp_path / "s.key")

    return make


def other_key():
    return Certificate.self_made("localhost", "ec").key


@pytest.mark.parametrize(
    ("make", "reason", "advice"),
    [
        (lambda one: (one.chain, other_key()), "KEY_VALUES_MISMATCH", "give the key that belongs to the certificate"),
        (lambda _: weak_pair(), "EE_KEY_TOO_SMALL", "renew the certificate"),
        (lambda one: (one.chain.replace(b"M", b"!"), one.key), "no reason given", "check that both files are complete"),
    ],
)
def test_a_pair_that_openssl_does_not_take_is_refused_with_its_reason(make, reason, advice, files):
    pair = files(*make(Certificate.self_made("localhost", "ec")))
    with pytest.raises(UsageError) as caught:
        pair.server_config(Policy(), lookup=print)
    text = str(caught.value)
    assert reason in text
    assert advice in text
    assert "s.pem" in text
    assert "s.key" in text
    assert ("--min-tls 1.0 --dangerous-allow-legacy-tls" in text) == (reason == "EE_KEY_TOO_SMALL")


@needs_old_tls
def test_the_switch_for_old_tls_takes_a_servers_own_short_key(files):
    policy = Policy(min_tls=ssl.TLSVersion.TLSv1, dangerous_allow_legacy_tls=True)
    config = files(*weak_pair()).server_config(policy, lookup=print)
    assert config.ssl_context.minimum_version is ssl.TLSVersion.TLSv1


def test_a_key_is_in_no_repr():
    assert "PRIVATE" not in repr(Certificate(b"", b"PRIVATE"))


@pytest.mark.parametrize(
    ("days", "said"),
    [
        ((-30, -1), "has expired on 20"),
        ((1, 30), "is not valid before 20"),
        ((-1, 30), ""),
    ],
    ids=["expired", "not yet", "valid"],
)
def test_a_certificate_that_is_not_valid_now_is_named(days, said):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin, end = (dt.datetime.now(dt.UTC) + dt.timedelta(days=each) for each in days)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begin, end)
    chain = made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    invalid = Certificate(b"text of openssl\n" + chain + chain, b"", "--cert server.pem --key server.key").invalid
    assert invalid.startswith(f"--cert server.pem --key server.key: the certificate {said}") if said else not invalid


def test_a_certificate_that_cannot_be_read_gets_no_warning():
    assert not Certificate(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"", "x").invalid
