"""Which service principal names a pattern fits, and which patterns are refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.delegation import decide

from acredssp.delegation import (
    DelegationPolicy,
    SPNList,
)


@pytest.mark.requirement("delegation.patterns")
@pytest.mark.parametrize(
    ("pattern", "target", "fits"),
    [
        ("TERMSRV/host", "TERMSRV/host", True),
        ("TERMSRV/host", "termsrv/HOST", True),
        ("termsrv/HOST", "TERMSRV/host", True),
        ("TERMSRV/host", "TERMSRV/host2", False),
        ("TERMSRV/host", "TERMSRV/hos", False),
        ("TERMSRV/host", "XTERMSRV/host", False),
        ("TERMSRV/host", "TERMSRV/host.", True),
        ("TERMSRV/host.", "TERMSRV/host", True),
        ("TERMSRV/*.example.com", "TERMSRV/a.example.com.", True),
        ("TERMSRV/*", "TERMSRV/host", True),
        ("TERMSRV/*", "TERMSRV/a.b.c:3389", True),
        ("TERMSRV/*", "TERMSRV", False),
        ("TERMSRV/*", "TERMSRVX/host", False),
        ("TERMSRV/*.example.com", "TERMSRV/a.b.example.com", True),
        ("TERMSRV/*.example.com", "TERMSRV/example.com", False),
        ("TERMSRV/*.example.com", "TERMSRV/badexample.com", False),
        ("TERMSRV/*.example.com", "TERMSRV/a.example.com.evil.net", False),
        ("TERMSRV/*.example.com", "TERMSRV/A.EXAMPLE.COM", True),
        ("TERMSRV/web*", "TERMSRV/web1.example.com", True),
        ("TERMSRV/ab*ba", "TERMSRV/aba", False),
        ("TERMSRV/ab*ba", "TERMSRV/abba", True),
        ("*/host", "HTTP/host", True),
        ("*/host", "/host", True),
        ("*", "anything at all", True),
        ("*", "", True),
        ("TERMSRV/h?st", "TERMSRV/host", False),
        ("TERMSRV/h.st", "TERMSRV/host", False),
        ("TERMSRV/[a-z]*", "TERMSRV/host", False),
        ("TERMSRV/bücher.example", "TERMSRV/BÜCHER.example", True),
        ("TERMSRV/straße", "TERMSRV/STRASSE", True),
    ],
)
def test_a_pattern_fits(pattern, target, fits):
    policy = DelegationPolicy(allow_fresh_credentials=SPNList.of("WSMAN/nobody", pattern))
    decision = decide(policy, target)
    assert decision.allowed is fits
    assert decision.pattern == (pattern if fits else None)


spn_text = st.text("abAB./*", max_size=6)


@pytest.mark.requirement("delegation.patterns")
@given(before=spn_text, after=spn_text, target=st.text("abAB./", max_size=12))
def test_patterns_mean_what_regular_expressions_mean(before, after, target):
    """An independent oracle: `*` is `.*`, everything else is itself in any case, and the last dot is not there."""
    pattern = before.replace("*", "") + "*" + after.replace("*", "")
    parts = [re.escape(part) for part in pattern.removesuffix(".").split("*")]
    expected = re.fullmatch(".*".join(parts), target.removesuffix("."), re.IGNORECASE)
    policy = DelegationPolicy(allow_fresh_credentials=SPNList.of(pattern))
    assert decide(policy, target).allowed is bool(expected)


@pytest.mark.requirement("delegation.patterns")
@given(st.text(min_size=1).filter(lambda pattern: "://" not in pattern))
def test_a_pattern_is_refused_or_fits_itself(pattern):
    try:
        servers = SPNList.of(pattern)
    except ValueError:
        assert pattern.count("*") > 1 or " " in pattern or not pattern.isprintable() or not set(pattern) & set("*/")
    else:
        assert decide(DelegationPolicy(allow_fresh_credentials=servers), pattern).allowed


@pytest.mark.requirement("delegation.patterns")
@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("", "like TERMSRV/"),
        (".", "like TERMSRV/"),
        (" TERMSRV/host", "like TERMSRV/"),
        ("TERMSRV/host ", "like TERMSRV/"),
        ("TERMSRV/ho st", "like TERMSRV/"),
        ("TERMSRV/host\n", "like TERMSRV/"),
        ("TERMSRV/\0", "like TERMSRV/"),
        ("localhost", "write TERMSRV/localhost for remote desktop, HTTP/localhost or WSMAN/localhost for winrm"),
        ("localhost:3389", "which fits no service"),
        ("http://user:c4nary@web.example:5985/wsman", "got a url, which fits no service: write HTTP/web.example$"),
        ("https://*", "got a url"),
        ("TERMSRV/**", "at most one"),
        ("*/*", "at most one"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused(pattern, said):
    with pytest.raises(ValueError, match=said):
        SPNList.of("TERMSRV/fine", pattern)


@pytest.mark.parametrize(
    ("patterns", "similar"),
    [
        (["HTTP/other", "HTTP/web:5985"], "HTTP/web:5985"),
        (["WSMAN/WEB."], "WSMAN/WEB."),
        (["HTTP/web/instance"], "HTTP/web/instance"),
        (["HTTP/web2", "WSMAN/*", "HTTP/[::1]"], None),
        (["WSMAN/web", "HTTP/*"], None),
    ],
)
def test_a_name_that_is_listed_beside_another_service_or_a_port_is_told(patterns, similar):
    policy = DelegationPolicy(allow_fresh_credentials=SPNList.of(*patterns))
    decision = decide(policy, "HTTP/web")
    assert decision.similar == similar
    if not decision.allowed:
        told = f", where {similar} is another service" if similar else "(AllowFreshCredentials on windows)"
        assert decision.error().hint.endswith(told)
