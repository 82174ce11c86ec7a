import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from acredssp.cli.certificate import Certificate
from acredssp.cli.outcome import UsageError
from acredssp.policy import Policy


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


def test_a_key_of_another_certificate_is_refused():
    one, other = (Certificate.self_made("localhost", "ec") for _ in range(2))
    with pytest.raises(UsageError, match="no such pair"):
        Certificate(one.chain, other.key).server_config(Policy(), lookup=print)


def test_a_key_is_in_no_repr():
    assert "PRIVATE" not in repr(Certificate(b"", b"PRIVATE"))
