"""The verdict on a certificate: authorities, names, dates, usages, pins."""

import dataclasses
import datetime as dt
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from support.certificates import CLIENT_AUTH, NOW, RDP_AUTHENTICATION, SERVER_AUTH, Made, Spoilt, constraints, key_usage

from acredssp import trust as trust_module
from acredssp.certificates.path import Anchors
from acredssp.errors import CertificateError, PolicyError
from acredssp.status import SecurityStatus, Stage
from acredssp.trust import Judgement, OptionNames, Trust, Verdict, pin_of
from acredssp.wire import der

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


def test_a_certificate_is_valid_in_its_first_and_in_its_last_second():
    leaf = Made("s", by=ROOT, start=0, days=1)
    for moment in (leaf.certificate.not_valid_before_utc, leaf.certificate.not_valid_after_utc):
        assert verdict([leaf.der], now=moment) is Verdict.TRUSTED
        assert verdict([leaf.der], now=moment.replace(microsecond=1)) is (
            Verdict.TRUSTED if moment == leaf.certificate.not_valid_before_utc else Verdict.EXPIRED
        )


def test_the_usages_of_a_certificate_are_listed():
    usages = (CLIENT_AUTH, ExtendedKeyUsageOID.CODE_SIGNING)
    judgement = TRUST.judge([Made("s", by=ROOT, usages=usages).der], "host.example", NOW)
    assert judgement.reason.endswith("its extendedKeyUsage is clientAuth, codeSigning")


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
    assert verdict([Made("another").der], trust=trust) is Verdict.PIN_DIFFERS


@pytest.mark.parametrize("pin", ["", "00", "zz" * 32, "00" * 33])
def test_a_pin_that_is_none_is_refused(pin):
    with pytest.raises(ValueError, match="64 hex digits"):
        Trust.pinned(pin)


OTHER = Made("other", ca=True)
FOR_CLIENTS = Made("for clients", by=ROOT, ca=True, usages=[CLIENT_AUTH])
EXPIRED = Made("expired", by=ROOT, ca=True, start=-9, days=-1)
NONE = Made("none", by=ROOT)
MUTE = Made("mute", by=ROOT, ca=True, usage=key_usage("crl_sign"))
NARROW = Made("narrow", by=ROOT, ca=True, length=0)
BELOW_NARROW = Made("below narrow", by=NARROW, ca=True)
CONSTRAINED = Made("constrained", by=ROOT, ca=True, extra=[(constraints(["b.example"], []), True)])
EXCLUDING = Made("excluding", by=ROOT, ca=True, extra=[(constraints([], ["host.example"]), True)])
FOR_MAIL = Made("mail", by=ROOT, ca=True, extra=[(constraints([x509.RFC822Name("example")], []), True)])
OLD_ROOT = Made("old root", ca=True, start=-9, days=-1)
RSA = Made("rsa", by=ROOT, ca=True, key="rsa")
IMPOSTOR = Made("root", ca=True, key="p384")

REASONS = {
    "an issuer that is nowhere": (
        [Made("s", by=OTHER)], 0,
        ("the server's certificate is issued by CN=other, which is neither in its chain nor among the "
        "trusted authorities"),
    ),
    "an issuer of the chain that nobody trusts": (
        [Made("s", by=OTHER), OTHER], 1,
        "certificate 2 of the server's chain (CN=other) is signed by itself, and is not among the trusted authorities",
    ),
    "self-signed": (
        [Made("s")], 0, "the server's certificate is signed by itself, and is not among the trusted authorities",
    ),
    "an authority of this name with another key": (
        [Made("s", by=IMPOSTOR)], 0,
        "the server's certificate names the trusted authority CN=root as its issuer, whose key did not sign it",
    ),
    "an authority of this name with another kind of key": (
        [Made("s", by=Made("root", ca=True, key="rsa"))], 0,
        "the server's certificate names the trusted authority CN=root as its issuer, whose key did not sign it",
    ),
    "expired": (
        [Made("s", by=ROOT, start=-9, days=-1)], 0, "the server's certificate expired on 2026-05-31 00:00:00 UTC",
    ),
    "not yet valid": (
        [Made("s", by=ROOT, start=1)], 0, "the server's certificate is not valid before 2026-06-02 00:00:00 UTC",
    ),
    "an expired authority": (
        [Made("s", by=EXPIRED), EXPIRED], 1,
        "certificate 2 of the server's chain (CN=expired) expired on 2026-05-31 00:00:00 UTC",
    ),
    "an expired root": (
        [Made("s", by=OLD_ROOT)], None, "the trusted authority CN=old root expired on 2026-05-31 00:00:00 UTC",
    ),
    "for clients": (
        [Made("s", by=ROOT, usages=[CLIENT_AUTH])], 0,
        "the server's certificate is not for servers: its extendedKeyUsage is clientAuth",
    ),
    "an authority for clients": (
        [Made("s", by=FOR_CLIENTS), FOR_CLIENTS], 1,
        ("certificate 2 of the server's chain (CN=for clients) may not vouch for servers: "
        "its extendedKeyUsage is clientAuth"),
    ),
    "no authority": (
        [Made("s", by=NONE), NONE], 1,
        "certificate 2 of the server's chain (CN=none) is not an authority: its basicConstraints say so",
    ),
    "no signer of certificates": (
        [Made("s", by=MUTE), MUTE], 1,
        "certificate 2 of the server's chain (CN=mute) may not sign certificates: its keyUsage has no keyCertSign",
    ),
    "too many authorities": (
        [Made("s", by=BELOW_NARROW), BELOW_NARROW, NARROW], 2,
        ("certificate 3 of the server's chain (CN=narrow) allows 0 authorities below it (pathLenConstraint), "
        "but there are 1"),
    ),
    "a name that is not permitted": (
        [Made("s", by=CONSTRAINED), CONSTRAINED], 0,
        ("the name constraints of certificate 2 of the server's chain (CN=constrained) do not allow the name "
        "host.example of the server's certificate"),
    ),
    "a name that is excluded": (
        [Made("s", by=EXCLUDING), EXCLUDING], 0,
        ("the name constraints of certificate 2 of the server's chain (CN=excluding) exclude the name "
        "host.example of the server's certificate"),
    ),
    "a name of another form": (
        [Made("s", by=FOR_MAIL, names=["host.example", x509.RFC822Name("a@example")]), FOR_MAIL], 0,
        ("the name constraints of certificate 2 of the server's chain (CN=mail) have entries for RFC822Name, "
        "which cannot be checked for the name of the server's certificate"),
    ),
    "a weak key": (
        [Made("s", by=ROOT, key="rsa1024")], 0,
        "the server's certificate has a weak key: rsa of 1024 bits, expected at least 2048",
    ),
    "a weak signature": (
        [Made("s", by=RSA, digest="sha1"), RSA], 0,
        "the server's certificate has a weak signature: sha1 can be forged",
    ),
    "another name": (
        [Made("s", by=ROOT, names=["b.example"])], 0,
        "the server's certificate is not for host.example: it is for b.example",
    ),
    "no name": (
        [Made("s", by=ROOT, names=())], 0,
        "the server's certificate is not for any host: it has no subjectAltName, and its common name s does not count",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("chain", "position", "reason"), REASONS.values(), ids=REASONS)
def test_a_refusal_says_which_certificate_is_at_fault_and_why(chain, position, reason):
    trust = Trust(authorities=(ROOT.certificate, OLD_ROOT.certificate))
    chain = [made.der for made in chain]
    judgement = trust.judge(chain, "host.example", NOW)
    assert (judgement.reason, judgement.position) == (reason, position)
    assert not judgement.trusted
    with pytest.raises(CertificateError) as caught:
        trust.check(chain, "host.example", NOW)
    assert caught.value.message == reason
    assert caught.value.hint == judgement.hint
    assert caught.value.security_status is judgement.verdict.security_status
    assert caught.value.stage is Stage.TLS


@pytest.mark.parametrize("case", REASONS)
def test_an_authority_is_asked_for_where_it_is_what_is_missing(case):
    chain = [made.der for made in REASONS[case][0]]
    hint = Trust(authorities=(ROOT.certificate, OLD_ROOT.certificate)).judge(chain, "host.example", NOW).hint
    missing = case in {"an issuer that is nowhere", "an issuer of the chain that nobody trusts", "self-signed"}
    assert ("trust its authority" in hint) is missing
    assert f"pin its key (Trust.pinned): {pin_of(chain[0])}" in hint


def test_who_has_no_names_is_not_told_to_ask_for_another_one():
    def hint(names):
        return TRUST.judge([Made("s", by=ROOT, names=names).der], "host.example", NOW).hint

    assert hint(["b.example"]).startswith("ask for the server by a name that its certificate has (server_hostname")
    assert hint(()).startswith(
        "renew the server's certificate with the names of its host as subjectAltName; if you know this server"
    )


def test_a_judgement_is_named_after_its_verdict():
    assert TRUST.judge([Made("s").der], "host.example", NOW).name == "UNTRUSTED"


def test_who_trusts_nobody_is_told_so():
    assert Trust().judge([Made("s", by=ROOT).der], "host.example", NOW).reason.endswith("authorities (there are none)")


def test_a_good_certificate_has_nothing_to_be_said_about():
    chain = [Made("s", by=ROOT).der]
    assert TRUST.judge(chain, "host.example", NOW) == Judgement(Verdict.TRUSTED)
    TRUST.check(chain, "host.example", NOW)


@pytest.mark.parametrize("authorities", [(), (ROOT.certificate,)])
def test_another_key_than_the_pinned_one_is_named_and_not_offered(authorities):
    known, came = Made("known", names=()), Made("s")
    trust = Trust(authorities=authorities, pins=frozenset({pin_of(known.der)}))
    judgement = trust.judge([came.der], "host.example", NOW)
    assert judgement.verdict is Verdict.PIN_DIFFERS
    expected = f"the server's key is not the pinned one: expected {pin_of(known.der)}, got {pin_of(came.der)}"
    also = ", and the server's certificate is signed by itself, and is not among the trusted authorities"
    assert judgement.reason == expected + (also if authorities else "")
    assert judgement.position == 0
    assert "an attacker may be in between" in judgement.hint
    assert "pin" not in judgement.hint
    assert judgement.error().security_status is SecurityStatus.SEC_E_CERT_UNKNOWN


@pytest.mark.parametrize(
    "changes",
    [{"days": -1, "start": -9}, {"start": 1}, {"usages": [CLIENT_AUTH]}, {"key": "rsa1024"}, {"names": ["b.example"]}],
)
def test_another_key_is_told_whatever_else_is_wrong(changes):
    """Whoever is in between chooses the certificate, and must not choose what the client is told."""
    trust = Trust.pinned("00" * 32)
    assert verdict([Made("s", **changes).der], trust=trust) is Verdict.PIN_DIFFERS
    assert verdict([Made("s", by=OTHER, **changes).der, OTHER.der], trust=trust) is Verdict.PIN_DIFFERS


def test_of_many_pins_some_are_named():
    trust = Trust.pinned(*[f"{number:064x}" for number in range(5)])
    reason = trust.judge([Made("s").der], "host.example", NOW).reason
    assert f"expected {0:064x} or {1:064x} or {2:064x} or another, got" in reason


def test_of_three_pins_each_is_named():
    trust = Trust.pinned(*[f"{number:064x}" for number in range(3)])
    assert "another, got" not in trust.judge([Made("s").der], "host.example", NOW).reason


@pytest.mark.parametrize(
    "arguments",
    [
        {"authorities": 1},
        {"authorities": [ROOT.der]},
        {"pins": [1]},
        {"pins": {1}},
        {"dangerous_allow_weak_certificates": 1},
    ],
)
def test_what_cannot_be_trusted_is_refused_by_its_name(arguments):
    with pytest.raises(TypeError, match=f"^{next(iter(arguments))}: "):
        Trust(**arguments)


def test_pins_may_be_a_set():
    leaf = Made("s")
    assert verdict([leaf.der], trust=Trust(pins={pin_of(leaf.der)})) is Verdict.TRUSTED


def test_authorities_may_be_a_list():
    trust = Trust(authorities=[ROOT.certificate])
    assert verdict([Made("s", by=ROOT).der], trust=trust) is Verdict.TRUSTED


@pytest.mark.parametrize(
    ("chain", "verdict"),
    [
        ([Made("s", by=ROOT)], Verdict.TRUSTED),
        ([Made("s", by=ROOT, names=["b.example"])], Verdict.WRONG_NAME),
        ([Made("s", by=ROOT, days=-1, start=-9)], Verdict.PIN_DIFFERS),
        ([Made("s", by=OTHER)], Verdict.PIN_DIFFERS),
    ],
)
def test_a_trusted_authority_vouches_beside_a_pin(chain, verdict):
    trust = Trust(authorities=(ROOT.certificate,), pins=frozenset({"00" * 32}))
    judgement = trust.judge([made.der for made in chain], "host.example", NOW)
    assert judgement.verdict is verdict
    assert "pin its key" not in judgement.hint


RSA_ROOT = Made("rsa root", ca=True, key="rsa")
SMALL_ROOT = Made("small root", ca=True, key="rsa1024")


@pytest.mark.parametrize(
    ("chain", "weak", "named"),
    [
        ([Made("s", by=RSA_ROOT)], Verdict.TRUSTED, Verdict.TRUSTED),
        ([Made("s", by=RSA_ROOT, digest="sha1")], Verdict.WEAK, Verdict.TRUSTED),
        ([Made("s", by=RSA_ROOT, digest="md5")], Verdict.WEAK, Verdict.WEAK),
        ([Made("s", by=RSA_ROOT, key="rsa1024")], Verdict.WEAK, Verdict.TRUSTED),
        ([Made("s", by=RSA_ROOT, key="p192")], Verdict.WEAK, Verdict.TRUSTED),
        ([Made("s", by=SMALL_ROOT)], Verdict.WEAK, Verdict.TRUSTED),
        ([Spoilt(Made("s", by=RSA_ROOT, digest="sha1"))], Verdict.WEAK, Verdict.UNTRUSTED),
    ],
)
def test_weak_keys_and_digests_are_let_in_by_name_and_md5_never(chain, weak, named):
    authorities = (RSA_ROOT.certificate, SMALL_ROOT.certificate)
    chain = [made.der for made in chain]
    assert verdict(chain, trust=Trust(authorities=authorities)) is weak
    assert verdict(chain, trust=Trust(authorities=authorities, dangerous_allow_weak_certificates=True)) is named


def test_the_switch_for_weak_certificates_is_offered_where_it_is_off():
    chain = [Made("s", by=RSA_ROOT, digest="md5").der]
    trust = Trust(authorities=(RSA_ROOT.certificate,))
    assert "Trust(dangerous_allow_weak_certificates=True)" in trust.judge(chain, "host.example", NOW).hint
    trust = dataclasses.replace(trust, dangerous_allow_weak_certificates=True)
    assert "dangerous" not in trust.judge(chain, "host.example", NOW).hint


def test_weakness_is_not_let_in_unless_asked():
    assert not Trust().dangerous_allow_weak_certificates
    assert not Trust.system().dangerous_allow_weak_certificates


@pytest.mark.parametrize("digest", ["sha1", "md5"])
def test_a_certificate_that_is_itself_trusted_may_be_weak(digest):
    leaf = Made("s", key="rsa1024", digest=digest)
    assert verdict([leaf.der], trust=Trust(authorities=(leaf.certificate,))) is Verdict.TRUSTED
    assert verdict([leaf.der], trust=Trust.pinned(pin_of(leaf.der))) is Verdict.TRUSTED


def test_an_empty_chain_is_not_trusted():
    assert TRUST.judge([], "host.example", NOW).reason == "the server has shown no certificate"
    assert verdict([]) is Verdict.UNTRUSTED


@pytest.mark.parametrize("chain", [[], [b"no certificate"]])
def test_who_shows_no_certificate_is_to_correct_his_own(chain):
    judgement = TRUST.judge(chain, "host.example", NOW)
    assert (judgement.verdict, judgement.hint) == (Verdict.UNTRUSTED, "correct the server's certificates")


def test_the_error_of_a_policy_keeps_its_status_and_has_the_reason():
    judgement = TRUST.judge([Made("s").der], "host.example", NOW)
    error = judgement.error_for(
        PolicyError("expected an authenticated server", security_status=SecurityStatus.SEC_E_POLICY_NLTM_ONLY)
    )
    assert error.security_status is SecurityStatus.SEC_E_POLICY_NLTM_ONLY
    assert error.message == f"expected an authenticated server: {judgement.reason}"


def test_every_verdict_has_a_status_of_its_own():
    assert len({verdict.security_status for verdict in Verdict}) == len(Verdict)


def test_trust_from_a_file(tmp_path):
    file = tmp_path / "ca.pem"
    file.write_bytes(ROOT.certificate.public_bytes(Encoding.PEM))
    assert Trust.from_file(str(file)) == TRUST
    file.write_text("no certificate")
    with pytest.raises(ValueError, match=r"ca\.pem.*PEM"):
        Trust.from_file(str(file))


def pem(certificate):
    return ssl.DER_cert_to_PEM_cert(certificate)


def with_version(number):
    return ROOT.der.replace(b"\xa0\x03\x02\x01\x02", bytes([0xA0, 3, 2, 1, number]))


def with_negative_serial_number():
    made = Made("negative", ca=True, serial=0x1122334455667788)
    return made.der.replace(b"\x02\x08\x11", b"\x02\x08\x91")


def test_a_file_with_what_is_no_certificate_is_refused_by_its_name(tmp_path):
    file = tmp_path / "ca.pem"
    file.write_text(pem(with_version(7)))
    with pytest.raises(ValueError, match=r"ca\.pem: expected certificates in PEM"):
        Trust.from_file(str(file))


def test_an_authority_of_a_file_may_have_the_serial_number_that_it_has(tmp_path):
    file = tmp_path / "ca.pem"
    file.write_text(pem(with_negative_serial_number()))
    assert len(Trust.from_file(str(file)).authorities) == 1


def test_odd_entries_of_the_systems_folder_do_not_take_the_others_with_them(tmp_path, monkeypatch):
    odd = ["no certificate", pem(with_version(7)), "\xff", pem(b"0\x00"), pem(with_negative_serial_number())]
    for number, content in enumerate([*odd, pem(ROOT.der)]):
        (tmp_path / f"{number:08x}.0").write_text(content, encoding="latin-1")
    (tmp_path / "ffffffff.0").mkdir()
    empty = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    monkeypatch.setattr(ssl, "create_default_context", lambda: empty)
    paths = ssl.get_default_verify_paths()._replace(capath=str(tmp_path))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    found = trust_module._system_authorities.__wrapped__()
    assert len(found) == 2
    assert found[1] == ROOT.certificate


def test_the_system_has_authorities_or_none_and_is_read_once():
    assert Trust.system().authorities is Trust.system().authorities
    assert isinstance(Trust.system()._anchors, Anchors)
    assert Trust.system()._anchors is Trust.system()._anchors


ED_ROOT = Made("ed25519 root", ca=True, key="ed25519")


def by_sha1_and_ecdsa(made, key):
    """The certificate, signed again by ECDSA with SHA-1, which cryptography does not do."""
    sha256, sha1 = bytes.fromhex("300a06082a8648ce3d040302"), bytes.fromhex("300906072a8648ce3d0401")
    body = made.certificate.tbs_certificate_bytes
    start, end = der.only(body, 0, len(body), der.SEQUENCE, "body")
    assert body.count(sha256) == 1
    body = der.encode(der.SEQUENCE, body[start:end].replace(sha256, sha1))
    signature = key.sign(body, ec.ECDSA(hashes.SHA1()))  # noqa: S303 - to see it let in and refused
    return der.encode(der.SEQUENCE, body + sha1 + der.encode(der.BIT_STRING, b"\x00" + signature))


@pytest.mark.parametrize(("signer", "expected"), [(ROOT, Verdict.TRUSTED), (OTHER, Verdict.UNTRUSTED)])
def test_a_signature_by_ecdsa_and_sha1_is_let_in_by_name_and_checked(signer, expected):
    chain = [by_sha1_and_ecdsa(Made("s", by=ROOT), signer.key)]
    assert verdict(chain) is Verdict.WEAK
    trust = Trust(authorities=(ROOT.certificate,), dangerous_allow_weak_certificates=True)
    assert verdict(chain, trust=trust) is expected


@pytest.mark.parametrize(
    ("authority", "der"),
    [
        (ROOT, Made("s", by=RSA_ROOT, digest="sha1", issuer=ROOT.name).der),
        (RSA_ROOT, by_sha1_and_ecdsa(Made("s", by=OTHER, issuer=RSA_ROOT.name), OTHER.key)),
        (ED_ROOT, Made("s", by=RSA_ROOT, digest="sha1", issuer=ED_ROOT.name).der),
    ],
    ids=["rsa for ecdsa", "ecdsa for rsa", "rsa for ed25519"],
)
def test_a_signature_by_sha1_that_the_key_of_its_issuer_cannot_make_is_wrong(authority, der):
    trust = Trust(authorities=(authority.certificate,), dangerous_allow_weak_certificates=True)
    judgement = trust.judge([der], "host.example", NOW)
    assert judgement.verdict is Verdict.UNTRUSTED
    assert "whose key did not sign it" in judgement.reason


def test_a_signature_by_sha1_is_the_algorithm_that_was_signed():
    """Inside stands SHA-256, outside SHA-1, and the signature fits what stands outside."""
    body = Made("s", by=RSA_ROOT).certificate.tbs_certificate_bytes
    signature = RSA_ROOT.key.sign(body, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 - to see it refused
    outside = der.encode(der.SEQUENCE, bytes.fromhex("06092a864886f70d0101050500"))
    chain = [der.encode(der.SEQUENCE, body + outside + der.encode(der.BIT_STRING, b"\x00" + signature))]
    trust = Trust(authorities=(RSA_ROOT.certificate,), dangerous_allow_weak_certificates=True)
    judgement = trust.judge(chain, "host.example", NOW)
    assert judgement.verdict is Verdict.UNTRUSTED
    assert "inside and outside do not match" in judgement.reason


def test_a_hint_names_the_certificate_that_is_to_be_issued_anew_and_the_chain_that_is_to_be_sent():
    client_only = [CLIENT_AUTH]
    between = Made("between", by=ROOT, ca=True)
    wrong = Made("wrong", by=ROOT, ca=True, usages=client_only)

    def hint(*chain):
        return TRUST.judge([link.der for link in chain], "host.example", NOW).hint

    whole = "let the server send its whole chain"
    assert hint(Made("s", by=between)).startswith(f"{whole}, with the authorities in between; if you know this server")
    assert whole not in hint(Made("s"))
    assert hint(Made("s", by=ROOT, usages=client_only)).startswith(
        "give the server a certificate that is issued for servers"
    )
    assert hint(Made("s", by=wrong), wrong).startswith("give the server a certificate by an authority that may")


def test_a_programs_names_of_options_are_put_in_the_place_of_the_librarys():
    names = OptionNames(name="A", authority="B", pin="C", weak="D")
    said = "server_hostname, Trust.from_file, Trust.pinned or Trust(dangerous_allow_weak_certificates=True) of Trust"
    assert names.put_into(said) == "A, B, C or D of Trust"
    assert OptionNames().put_into(said) == said
