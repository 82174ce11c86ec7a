"""Keys that are too weak, too large, or of a kind that signs nothing; the other rules are shown beside openssl."""

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from support.certificates import NOW, Made, key_usage, shared_key

from acredssp.trust import Trust, Verdict

ROOT = Made("root", ca=True)
MODULUS = shared_key("rsa").public_key().public_numbers().n


class Public:
    """A key of which only the public half is there; somebody else signs."""

    def __init__(self, key):
        self._key = key

    def public_key(self):
        return self._key


def rsa_key(bits=2048, exponent=65537):
    """A public key of RSA; nobody has its private half."""
    return Public(rsa.RSAPublicNumbers(exponent, MODULUS if bits == 2048 else (1 << (bits - 1)) + 1).public_key())


KEYS = {
    "too small, whatever is let in": (rsa_key(1016), "a weak key: rsa of 1016 bits"),
    "the largest": (rsa_key(8192), ""),
    "too large": (rsa_key(8193), "rsa of 8193 bits, expected at most 8192"),
    "the largest exponent": (rsa_key(exponent=(1 << 64) - 1), ""),
    "too large an exponent": (rsa_key(exponent=(1 << 64) + 1), "an exponent of 65 bits, expected at most 64"),
    "another kind": (dsa.generate_private_key(1024), "a key of an unsupported kind"),  # noqa: S505 - quickly made
}


@pytest.mark.parametrize(("curve", "verdict"), [(ec.SECP224R1(), Verdict.TRUSTED), (ec.SECP192R1(), Verdict.WEAK)])
def test_a_curve_of_224_bits_is_strong(curve, verdict):
    leaf = Made("server", by=ROOT, key=ec.generate_private_key(curve))
    assert Trust(authorities=(ROOT.certificate,)).judge([leaf.der], "host.example", NOW).verdict is verdict


@pytest.mark.parametrize("where", ["server", "authority"])
@pytest.mark.parametrize(("key", "reason"), KEYS.values(), ids=KEYS)
def test_keys_that_would_take_long_are_refused_before_they_are_used(key, reason, where):
    if where == "server":
        chain = [Made("server", by=ROOT, key=key)]
    else:
        middle = Made("middle", by=ROOT, ca=True, key=key)
        chain = [Made("server", by=ROOT, issuer=middle.name), middle]
    trust = Trust(authorities=(ROOT.certificate,), dangerous_allow_weak_certificates=True)
    judgement = trust.judge([made.der for made in chain], "host.example", NOW)
    if reason:
        assert judgement.verdict is (Verdict.WEAK if "weak" in reason else Verdict.UNTRUSTED)
        assert reason in judgement.reason
        assert judgement.position == (where == "authority")
    else:
        assert judgement.trusted or "key did not sign it" in judgement.reason


@pytest.mark.parametrize(
    ("usages", "verdict"),
    [
        (["digital_signature"], Verdict.TRUSTED),
        (["key_encipherment"], Verdict.TRUSTED),
        (["key_agreement"], Verdict.TRUSTED),
        (["data_encipherment", "crl_sign"], Verdict.WRONG_USAGE),
    ],
    ids=repr,
)
def test_a_servers_key_may_do_one_of_three_things(usages, verdict):
    leaf = Made("server", by=ROOT, usage=key_usage(*usages))
    assert Trust(authorities=(ROOT.certificate,)).judge([leaf.der], "host.example", NOW).verdict is verdict


@pytest.mark.parametrize(("length", "verdict"), [(0, Verdict.UNTRUSTED), (1, Verdict.TRUSTED), (2, Verdict.TRUSTED)])
def test_an_authority_has_as_many_authorities_below_as_its_path_length_says(length, verdict):
    root = Made("root", ca=True, length=length)
    middle = Made("middle", by=root, ca=True)
    leaf = Made("server", by=middle)
    trust = Trust(authorities=(root.certificate,))
    assert trust.judge([leaf.der, middle.der], "host.example", NOW).verdict is verdict
