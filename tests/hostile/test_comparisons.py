"""Every comparison with a secret is made in constant time, and nothing else decides."""

import hmac

import pytest
from support.logon import MECHANISMS, attack, bare_pair, established

NTLM = (
    "proof",
    "mic",
    "seal of the key",
    "key",
    "own value come back",
    "seal of the proof",
    "proof of the key",
    "seal",
)
EXPECTED = {"ntlm": len(NTLM), "negotiate": len(NTLM) + len(("client's mechListMIC", "server's mechListMIC"))}


def log_on(mechanism, monkeypatch, spoilt=None):
    """How many comparisons a logon makes, and whether it succeeds when number `spoilt` comes out the other way."""
    made, compare = [], hmac.compare_digest

    def compare_digest(one, other):
        made.append(one)
        return compare(one, other) is not (len(made) - 1 == spoilt)

    ends = bare_pair(mechanism)
    with monkeypatch.context() as patch:
        patch.setattr(hmac, "compare_digest", compare_digest)
        attack(*ends)
    return len(made), established(ends[1])


@pytest.mark.requirement("binding.constant-time")
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_each_comparison_in_constant_time_decides(mechanism, monkeypatch):
    assert log_on(mechanism, monkeypatch) == (EXPECTED[mechanism], True)
    for number in range(EXPECTED[mechanism]):
        assert log_on(mechanism, monkeypatch, number)[1] is False
