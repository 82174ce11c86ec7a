"""For which host a certificate is: names that look alike, and names that look different and are the same."""

import ipaddress

import pytest
from cryptography import x509
from support.certificates import NOW, Made

from acredssp.certificates.host_names import plain_address
from acredssp.trust import Trust, Verdict

ROOT = Made("root", ca=True)
TRUST = Trust(authorities=(ROOT.certificate,))


def judge(names, name):
    return TRUST.judge([Made("server", by=ROOT, names=names).der], name, NOW)


SAME = {
    "international": ("xn--bcher-kva.example", "bücher.example"),
    "international, in upper case": ("xn--bcher-kva.example", "BÜCHER.Example"),
    "international, composed of two characters": ("xn--bcher-kva.example", "bu\u0308cher.example"),
    "international, by its xn-- form": ("xn--bcher-kva.example", "XN--bcher-kva.example"),
    "the xn-- form in upper case": ("XN--BCHER-KVA.example", "bücher.example"),
    "a full stop of another script": ("xn--bcher-kva.example", "bücher\u3002example"),
    "international, with a dot at the end": ("xn--bcher-kva.example", "bücher.example."),
    "a wildcard beside an international name": ("*.xn--bcher-kva.example", "a.bücher.example"),
    "a kelvin sign, as a resolver reads it": ("kelvin.example", "\u212aelvin.example"),
    "a dot at the end": ("host.example", "host.example."),
    "a dot at the end of the other": ("host.example.", "host.example"),
    "dots at the end of both": ("host.example.", "host.example."),
    "an underscore": ("a_b.example", "a_b.example"),
    "one label": ("host", "HOST"),
    "a host that begins with digits": ("1.2.example", "1.2.example"),
    "a zone": ("fe80::1", "fe80::1%eth0"),
    "another spelling": ("::1", "0:0:0:0:0:0:0:1"),
    "ipv4 in ipv6": ("192.0.2.1", "::ffff:192.0.2.1"),
    "ipv4 in ipv6 in the certificate": ("::ffff:192.0.2.1", "192.0.2.1"),
}

DIFFERENT = {
    "an empty name": ("host.example", ""),
    "an empty name in both": (x509.DNSName(""), ""),
    "a dot": (x509.DNSName("."), "."),
    "a dot and an empty name": (x509.DNSName(""), "."),
    "two dots at the end": ("host.example", "host.example.."),
    "a dot in front": (".host.example", ".host.example"),
    "an empty label": ("a..example", "a..example"),
    "a wildcard for an empty label": ("*.host.example", ".host.example"),
    "a wildcard asked for": ("host.example", "*.example"),
    "a sharp s, which is ss or itself": ("strasse.example", "straße.example"),
    "a sharp s, and its newer form": ("xn--strae-oqa.example", "straße.example"),
    "a final sigma": ("xn--nxasmq6b.example", "\u03b2\u03cc\u03bb\u03bf\u03c2.example"),
    "a joiner that is not seen": ("host.example", "ho\u200dst.example"),
    "a character that becomes a dot": ("a.b.example", "a\u2024b.example"),
    "a character that becomes a slash": ("a/c.example", "\u2100.example"),
    "a character that is dropped, and nothing else": ("example", "\u00ad.example"),
    "a cyrillic letter": ("apple.example", "\u0430pple.example"),
    "a label that is too long": ("host.example", "ü" * 64 + ".example"),
    "a number": (x509.DNSName("2130706433"), "2130706433"),
    "a short address": (x509.DNSName("127.1"), "127.1"),
    "a short address for a whole one": ("127.0.0.1", "127.1"),
    "a hexadecimal address": (x509.DNSName("0x7f.1"), "0x7F.1"),
    "an address as a name": (x509.DNSName("127.0.0.1"), "127.0.0.1"),
    "an address with a dot at the end": (x509.DNSName("127.0.0.1"), "127.0.0.1."),
    "a wildcard for an address": (x509.DNSName("*.0.0.1"), "127.0.0.1"),
    "another zone is no other address": ("fe80::2", "fe80::1%eth0"),
    "ipv4-compatible is not ipv4": ("192.0.2.1", "::192.0.2.1"),
    "a name with nothing behind its zero byte": ("host.example", "host.example\x00.evil.example"),
    "a zero byte in the certificate": ("host.example\x00.evil.example", "host.example"),
    "a zero byte in a label of a wildcard": ("*.example.com", "a\0b.example.com"),
    "a wildcard in both": ("*.example.com", "*.example.com"),
    "a space in a label of a wildcard": ("*.example.com", "a b.example.com"),
    "a line break at the end": (x509.DNSName("example.com\n"), "example.com\n"),
    "a mail address": (x509.RFC822Name("a@host.example"), "host.example"),
}


@pytest.mark.parametrize(("its", "asked"), SAME.values(), ids=SAME)
def test_names_that_are_the_same(its, asked):
    assert judge([its], asked).verdict is Verdict.TRUSTED


@pytest.mark.parametrize(("its", "asked"), DIFFERENT.values(), ids=DIFFERENT)
def test_names_that_are_not(its, asked):
    assert judge([its], asked).verdict is Verdict.WRONG_NAME


@pytest.mark.parametrize(
    ("names", "name", "said"),
    [
        (
            (),
            "host.example",
            "is not for any host: it has no subjectAltName, and its common name server does not count",
        ),
        (["a.example"], "host.example", "is not for host.example: it is for a.example"),
        (["10.0.0.1", "*.example"], "b.c.example", "is not for b.c.example: it is for *.example, 10.0.0.1"),
        ([f"{n}.example" for n in "abcdef"], "host", "it is for a.example, b.example, c.example, d.example and 2 more"),
        (["a.example"], "", "is not for an empty name: it is for a.example"),
        ([x509.RFC822Name("a@b.example")], "b.example", "is not for b.example: it is for no host"),
        (
            ["*.example"],
            "a\0b.example",
            r"is not for a\x00b.example (which no host can be called): it is for *.example",
        ),
        (["a.example"], "straße.example", "which has two xn-- forms: write the intended one"),
        (["a.example"], "2001:db8::1", "is not for 2001:db8::1: it is for a.example"),
        (
            ["a.example\x1b[2J"],
            "b.example\n",
            r"is not for b.example\n (which no host can be called): it is for a.example\x1b[2J",
        ),
    ],
)
def test_a_refusal_says_for_which_names_it_is(names, name, said):
    judgement = judge(names, name)
    assert judgement.verdict is Verdict.WRONG_NAME
    assert said in judgement.reason
    assert judgement.position == 0


def test_no_network_is_an_address():
    """A certificate may have one as its name; it is nobody's address."""
    assert plain_address(ipaddress.ip_network("192.0.2.0/24")) is None
    assert plain_address(ipaddress.ip_address("192.0.2.1")) == ipaddress.ip_address("192.0.2.1")


@pytest.mark.parametrize(("number", "more"), [(4, ""), (5, " and 1 more")])
def test_a_refusal_lists_four_names_and_counts_the_others(number, more):
    names = [f"{n}.example" for n in range(number)]
    assert judge(names, "host.example").reason.endswith(f"it is for {', '.join(names[:4])}{more}")


def test_a_refusal_says_that_a_name_has_two_forms():
    reason = judge(["host.example"], "straße.example").reason
    assert "straße.example (which has two xn-- forms: write the intended one): it is for host.example" in reason
