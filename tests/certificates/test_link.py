"""Certificates that cannot be read: whatever the library raises is a refusal with its reason."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from support.certificates import NOW, UNKNOWN, Made, shared_key
from vectors.hostile import flips, replacements, truncations

from acredssp.certificates.judgement import Refusal
from acredssp.certificates.link import Link, read_link, readable, shown
from acredssp.errors import CertificateError
from acredssp.trust import Trust, Verdict
from acredssp.wire import der

ROOT = Made("root", ca=True)
MIDDLE = Made("middle", by=ROOT, ca=True)
TRUST = Trust(authorities=(ROOT.certificate,))

_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def changed(made, old, new, by=ROOT):
    """The certificate with other bytes of the same length, and a signature of `by` that fits them."""
    assert len(old) == len(new)
    body = made.certificate.tbs_certificate_bytes
    assert body.count(old) == 1
    body = body.replace(old, new)
    signature = by.key.sign(body, ec.ECDSA(hashes.SHA256()))
    return der.encode(der.SEQUENCE, body + _ECDSA_WITH_SHA256 + der.encode(der.BIT_STRING, b"\x00" + signature))


SERIAL = 0x1122334455667788
NAMES = x509.SubjectAlternativeName([x509.DNSName("host.example")])
CHANGES = {
    "a negative serial number": (b"\x02\x08\x11", b"\x02\x08\x91", "serial number is not positive"),
    "the least negative first byte of a serial number": (b"\x02\x08\x11", b"\x02\x08\x80", "not positive"),
    "a serial number of zero": (bytes.fromhex("02081122334455667788"), b"\x02\x08" + bytes(8), "not positive"),
    "a common name that is a bit string": (b"\x0c\x08QQQQQQQQ", b"\x03\x08\x00QQQQQQQ", ""),
    "a common name that is no utf-8": (b"\x0c\x08QQQQQQQQ", b"\x0c\x08QQQ\xffQQQQ", ""),
    "a time that is none": (b"\x17\x0d2605", b"\x17\x0d2613", "cannot be read"),
    "a time of another calendar": (b"\x17\x0d260531", b"\x17\x0d260532", "cannot be read"),
    "a version that is none": (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", "cannot be read"),
    "a key of unknown kind": (b"\x2a\x86\x48\xce\x3d\x02\x01", b"\x2a\x86\x48\xce\x3d\x02\x77", "cannot be read"),
    "a point that is on no curve": (b"\x03\x42\x00\x04", b"\x03\x42\x00\x05", "cannot be read"),
    "an extension twice": (b"\x06\x03\x55\x1d\x23", b"\x06\x03\x55\x1d\x0e", "cannot be read"),
    "another algorithm outside than inside": (
        bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06082a8648ce3d040303"), "",
    ),
}  # fmt: skip


@pytest.mark.requirement("defect.malformed-der")
@pytest.mark.parametrize("where", ["server", "authority"])
@pytest.mark.parametrize(("old", "new", "said"), CHANGES.values(), ids=CHANGES)
def test_a_certificate_that_nobody_understands_is_not_trusted_and_the_reason_is_told(old, new, said, where):
    """The signatures fit, so that nothing else is wrong with it."""
    odd = Made("QQQQQQQQ", by=ROOT, serial=SERIAL, ca=where == "authority")
    spoilt = changed(odd, old, new)
    chain = [spoilt] if where == "server" else [Made("server", by=odd).der, spoilt]
    judgement = TRUST.judge(chain, "another.example", NOW)
    assert not judgement.trusted
    assert said in judgement.reason
    assert judgement.reason
    assert isinstance(judgement.error(), CertificateError)


@pytest.mark.parametrize("name", [b"\x03\x08\x00QQQQQQQ", b"\x0c\x08QQQ\xffQQQQ"])
def test_a_common_name_that_cannot_be_read_is_no_name_of_a_host(name):
    odd = changed(Made("QQQQQQQQ", by=ROOT, names=()), b"\x0c\x08QQQQQQQQ", name)
    judgement = TRUST.judge([odd], "host.example", NOW)
    assert judgement.verdict is Verdict.WRONG_NAME
    assert judgement.reason.endswith("it has no subjectAltName")


def test_an_issuer_whose_name_cannot_be_read_is_told_all_the_same():
    other = Made("QQQQQQQQ", ca=True)
    odd = changed(Made("server", by=other), b"\x0c\x08QQQQQQQQ", b"\x03\x08\x00QQQQQQQ")
    assert "issued by a name that cannot be read" in TRUST.judge([odd], "host.example", NOW).reason


def test_an_issuer_without_a_name_is_told_in_words():
    orphan = Made("server", by=Made(x509.Name([]), ca=True, key=shared_key("ec")))
    assert "is issued by an empty name," in TRUST.judge([orphan.der], "host.example", NOW).reason


STRANGE = {
    "a signature of unknown kind": (bytes.fromhex("2a8648ce3d0403"), bytes.fromhex("2a8648ce3d0463")),
    "a curve of unknown kind": (bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030166")),
    "a name of unknown kind": (b"\x82\x0chost.example", b"\x83\x0chost.example"),
    "a name that is no ascii": (b"\x82\x0chost.example", b"\x82\x0ch\xc3\xb6t.example"),
    "an address of five bytes": (b"\x82\x0chost.example", b"\x87\x05host\x82\x05ample"),
}


@pytest.mark.requirement("defect.malformed-der")
@pytest.mark.parametrize("where", ["server", "authority"])
@pytest.mark.parametrize(("good", "strange"), STRANGE.values(), ids=STRANGE)
def test_a_certificate_that_openssl_reads_and_nobody_understands_is_not_trusted(good, strange, where):
    middle = Made("middle", by=ROOT, ca=True, extra=[(NAMES, False)])
    spoilt = (middle if where == "authority" else Made("server", by=ROOT)).der
    assert good in spoilt
    spoilt = spoilt.replace(good, strange)
    chain = [spoilt] if where == "server" else [Made("server", by=middle).der, spoilt]
    judgement = TRUST.judge(chain, "host.example", NOW)
    assert judgement.verdict is Verdict.UNTRUSTED
    assert judgement.position == (where == "authority")
    named = "certificate 2 of the server's chain" if where == "authority" else "the server's certificate"
    assert judgement.reason.startswith(named)


@pytest.mark.requirement("defect.malformed-der")
@pytest.mark.parametrize("where", ["server", "authority"])
@pytest.mark.parametrize("spoil", [flips, replacements, truncations])
def test_a_spoilt_certificate_raises_nothing(spoil, where):
    good = Made("server", by=MIDDLE).der
    for number, spoilt in enumerate(spoil(good if where == "server" else MIDDLE.der)):
        if number % 13 == 0:
            chain = [spoilt, MIDDLE.der] if where == "server" else [good, spoilt]
            judgement = TRUST.judge(chain, "host.example", NOW)
            assert judgement.trusted is not bool(judgement.reason)


KINDS_OF_KEYS = {kind: Made(kind, ca=True, key=kind) for kind in ("ec", "rsa", "ed25519")}


@pytest.mark.parametrize("signed", KINDS_OF_KEYS)
@pytest.mark.parametrize("named", KINDS_OF_KEYS)
def test_a_key_that_can_make_no_such_signature_did_not_sign_it(signed, named):
    signer, issuer = KINDS_OF_KEYS[signed], KINDS_OF_KEYS[named]
    leaf = Made("server", by=signer, issuer=issuer.name)
    judgement = Trust(authorities=(issuer.certificate,)).judge([leaf.der], "host.example", NOW)
    assert judgement.trusted is (signed == named)
    assert ("whose key did not sign it" in judgement.reason) is (signed != named)


def test_a_signature_whose_algorithm_is_another_inside_is_told():
    """The signature fits what stands outside."""
    body = MIDDLE.certificate.tbs_certificate_bytes
    other = _ECDSA_WITH_SHA256[:-1] + b"\x03"
    signature = ROOT.key.sign(body, ec.ECDSA(hashes.SHA384()))
    spoilt = der.encode(der.SEQUENCE, body + other + der.encode(der.BIT_STRING, b"\x00" + signature))
    judgement = TRUST.judge([Made("server", by=MIDDLE).der, spoilt], "host.example", NOW)
    assert judgement.verdict is Verdict.UNTRUSTED
    assert "cannot be read" in judgement.reason


class PanicException(BaseException):
    """What pyo3 raises where Rust has panicked; its class cannot be imported."""


@pytest.mark.parametrize("error", [TypeError("odd"), KeyError("odd"), UserWarning("odd"), PanicException("odd")])
def test_whatever_the_library_raises_is_a_refusal(error):
    def read():
        raise error

    with pytest.raises(Refusal, match=f"the server's certificate cannot be read: {type(error).__name__}: .*odd"):
        readable(read, lambda: "the server's certificate", 0)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (bytes.fromhex("3010a00e300c82076578616d706c65800100"), "(EncodedDefault in NameConstraints::"),
        (b"\x30\x05\x01", "its encoding is not the one that der and rfc 5280 demand (ShortData)"),
        (bytes.fromhex("300ea00c300a87080a000001ff000000"), "cannot be read: 10.0.0.1/8 has host bits set"),
    ],
)
def test_a_fault_of_the_encoding_is_told_in_words(value, said):
    odd = x509.UnrecognizedExtension(x509.NameConstraints.oid, value)
    authority = Made("middle", by=ROOT, ca=True, extra=[(odd, True)])
    reason = TRUST.judge([Made("server", by=authority).der, authority.der], "host.example", NOW).reason
    assert said in reason
    assert "ParseError" not in reason
    assert "ValueError" not in reason


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_who_ends_the_process_is_not_the_library(error):
    def read():
        raise error

    with pytest.raises(type(error)):
        readable(read, lambda: "the server's certificate", 0)


def test_a_strangers_text_is_short_and_on_one_line():
    assert shown("a\x1b[2J\r\n\u202eb ü") == r"a\x1b[2J\r\n\u202eb ü"
    assert shown("a" * 120) == "a" * 120
    assert shown("a" * 121) == "a" * 120 + "..."


def test_a_critical_extension_that_is_not_known_is_noted():
    assert (
        Link((made := Made("a", extra=[(UNKNOWN, True)])).certificate, made.der, 0).not_understood
        == UNKNOWN.oid.dotted_string
    )
    assert read_link(Made("a", extra=[(UNKNOWN, False)]).der, 0).not_understood is None
