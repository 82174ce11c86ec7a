"""The verdict on a certificate: authorities, names, dates, usages, pins."""

import contextlib
import datetime as dt
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from vectors.hostile import flips, replacements, truncations

from acredssp.certificates.rules import RDP_AUTHENTICATION
from acredssp.errors import CertificateError, CredSSPError
from acredssp.status import SecurityStatus, Stage
from acredssp.trust import Trust, Verdict, pin_of

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
SERVER_AUTH = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1")
CLIENT_AUTH = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.2")


class Made:
    """A certificate with its key."""

    def __init__(
        self, name: str, *, by: "Made | None" = None, ca: bool = False, names=("host.example",), usages=(), days=30
    ):
        self.key = ec.generate_private_key(ec.SECP256R1())
        issuer = by or self
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - dt.timedelta(days=1))
            .not_valid_after(NOW + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
        )
        if ca:
            usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        elif names:
            builder = builder.add_extension(x509.SubjectAlternativeName([general(n) for n in names]), critical=False)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        self.certificate = builder.sign(issuer.key, hashes.SHA256())

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


ROOT = Made("root", ca=True)
MIDDLE = Made("middle", by=ROOT, ca=True)
TRUST = Trust(authorities=(ROOT.certificate,))


def verdict(chain, name="host.example", now=NOW, *, trust=TRUST):
    return trust.judge(chain, name, now).verdict


@pytest.mark.parametrize("usages", [(), (SERVER_AUTH,), (RDP_AUTHENTICATION,), (CLIENT_AUTH, RDP_AUTHENTICATION)])
def test_a_server_certificate_of_a_known_authority_is_trusted(usages):
    assert verdict([Made("s", by=ROOT, usages=usages).der]) is Verdict.TRUSTED


def test_a_certificate_for_clients_only_is_not():
    assert verdict([Made("s", by=ROOT, usages=(CLIENT_AUTH,)).der]) is Verdict.WRONG_USAGE


def test_intermediates_come_from_the_peer():
    leaf = Made("s", by=MIDDLE)
    assert verdict([leaf.der, MIDDLE.der]) is Verdict.TRUSTED
    assert verdict([leaf.der]) is Verdict.UNTRUSTED


def test_a_leaf_may_not_issue():
    middle = Made("no authority", by=ROOT)
    assert verdict([Made("s", by=middle).der, middle.der]) is Verdict.UNTRUSTED


@pytest.mark.parametrize(
    ("names", "name", "fits"),
    [
        (["host.example"], "host.example", True),
        (["host.example"], "HOST.Example.", True),
        (["host.example"], "other.example", False),
        (["*.example.com"], "a.example.com", True),
        (["*.example.com"], "a.b.example.com", False),
        (["*.example.com"], "example.com", False),
        (["*.com"], "example.com", False),
        (["10.0.0.1"], "10.0.0.1", True),
        (["10.0.0.1"], "10.0.0.2", False),
        (["::1"], "::1", True),
        (["host.example"], "10.0.0.1", False),
        ([], "s", False),
    ],
)
def test_the_name_is_that_of_the_subject_alternative_names(names, name, fits):
    assert verdict([Made("s", by=ROOT, names=names).der], name) is (Verdict.TRUSTED if fits else Verdict.WRONG_NAME)


@pytest.mark.parametrize("days", [-2, 31])
def test_dates(days):
    moment = NOW + dt.timedelta(days=days)
    assert verdict([Made("s", by=ROOT).der], now=moment) is Verdict.EXPIRED


def test_an_unknown_authority_is_not_trusted():
    assert verdict([Made("s", by=Made("other", ca=True)).der]) is Verdict.UNTRUSTED
    assert Trust().judge([Made("s", by=ROOT).der], "host.example", NOW).verdict is Verdict.UNTRUSTED


def test_a_self_signed_certificate_is_trusted_once_it_is_among_the_authorities():
    leaf = Made("s")
    assert verdict([leaf.der]) is Verdict.UNTRUSTED
    own = Trust(authorities=(leaf.certificate,))
    assert own.judge([leaf.der], "host.example", NOW).verdict is Verdict.TRUSTED
    assert own.judge([leaf.der], "other.example", NOW).verdict is Verdict.WRONG_NAME


def test_a_pinned_key_needs_nothing_else():
    leaf = Made("s", names=(), days=1)
    spki = leaf.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(spki)
    pin = digest.finalize().hex()
    assert pin_of(leaf.der) == pin
    colons = ":".join(pin[i : i + 2] for i in range(0, 64, 2)).upper()
    for text in (pin, colons):
        trust = Trust.pinned(text)
        assert trust.judge([leaf.der], "anything", NOW + dt.timedelta(days=900)).verdict is Verdict.TRUSTED
    assert verdict([Made("s").der], trust=trust) is Verdict.PIN_DIFFERS


@pytest.mark.parametrize("pin", ["", "00", "zz" * 32, "00" * 33])
def test_a_pin_that_is_none_is_refused(pin):
    with pytest.raises(ValueError, match="64 hex digits"):
        Trust.pinned(pin)


def test_an_error_names_the_pin_to_use():
    leaf = Made("s")
    with pytest.raises(CertificateError, match=pin_of(leaf.der)) as caught:
        TRUST.check([leaf.der], "host.example", NOW)
    assert caught.value.security_status is SecurityStatus.SEC_E_UNTRUSTED_ROOT
    assert caught.value.stage is Stage.TLS
    TRUST.check([Made("s", by=ROOT).der], "host.example", NOW)


STRANGE = {
    "version 4": (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03"),
    "an extension twice": (b"\x06\x03\x55\x1d\x23", b"\x06\x03\x55\x1d\x0e"),
    "a signature of unknown kind": (bytes.fromhex("2a8648ce3d0403"), bytes.fromhex("2a8648ce3d0463")),
    "a key of unknown kind": (bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d0277")),
    "a curve of unknown kind": (bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030166")),
    "a name of unknown kind": (b"\x82\x0chost.example", b"\x83\x0chost.example"),
}


@pytest.mark.requirement("defect.malformed-der")
@pytest.mark.parametrize("chain", ["leaf", "intermediate"])
@pytest.mark.parametrize(("good", "strange"), STRANGE.values(), ids=STRANGE)
def test_a_certificate_that_openssl_reads_and_nobody_understands_is_not_trusted(good, strange, chain):
    leaf = Made("s", by=ROOT).der
    assert good in leaf
    spoilt = leaf.replace(good, strange)
    assert verdict([spoilt] if chain == "leaf" else [spoilt, leaf]) is not Verdict.TRUSTED


def test_a_negative_serial_number_is_not_trusted():
    """cryptography warns of one, and here a warning is an error."""
    leaf = Made("s", by=ROOT)
    serial = leaf.certificate.serial_number
    number = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    assert number in leaf.der
    spoilt = leaf.der.replace(number, bytes([number[0] | 0x80]) + number[1:])
    assert verdict([spoilt]) is Verdict.UNTRUSTED


@pytest.mark.requirement("defect.malformed-der")
@pytest.mark.parametrize("spoil", [flips, replacements, truncations])
def test_spoilt_certificates_raise_only_our_errors(spoil):
    good = Made("s", by=ROOT).der
    for number, spoilt in enumerate(spoil(good)):
        if number % 13 == 0:
            with contextlib.suppress(CredSSPError):
                TRUST.check([spoilt, MIDDLE.der], "host.example", NOW)


def test_every_verdict_has_a_status_of_its_own():
    assert len({verdict.security_status for verdict in Verdict}) == len(Verdict)


def test_trust_from_a_file(tmp_path):
    file = tmp_path / "ca.pem"
    file.write_bytes(ROOT.certificate.public_bytes(Encoding.PEM))
    assert Trust.from_file(str(file)) == TRUST
    file.write_text("no certificate")
    with pytest.raises(ValueError, match="PEM"):
        Trust.from_file(str(file))


def test_the_system_has_authorities_or_none_and_is_read_once():
    assert Trust.system().authorities is Trust.system().authorities
