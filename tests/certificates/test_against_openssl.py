"""A hundred chains, judged by `Trust` and by `openssl verify`: equal, but for differences that say their reason."""

import dataclasses
import datetime as dt
import ipaddress
import shutil
import ssl
import subprocess

import pytest
from asn1crypto import keys as asn1_keys
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from support.certificates import (
    ANY_USAGE,
    CLIENT_AUTH,
    CODE_SIGNING,
    NOW,
    RDP_AUTHENTICATION,
    SERVER_AUTH,
    UNKNOWN,
    Made,
    Remade,
    Spoilt,
    common_name,
    constraints,
    described_curve,
    key_info,
    key_usage,
    shared_key,
    tlv,
)

from acredssp.trust import Trust, Verdict

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="needs the program openssl")

TRUSTED, UNTRUSTED, EXPIRED, WRONG_NAME, WRONG_USAGE, WEAK = (
    Verdict.TRUSTED, Verdict.UNTRUSTED, Verdict.EXPIRED, Verdict.WRONG_NAME, Verdict.WRONG_USAGE, Verdict.WEAK,
)  # fmt: skip

ROOT = Made("root", ca=True)
MIDDLE = Made("middle", by=ROOT, ca=True)
LOWER = Made("lower", by=MIDDLE, ca=True)
RSA_ROOT = Made("rsa root", ca=True, key="rsa")
OTHER = Made("other", ca=True)


@dataclasses.dataclass
class Row:
    """A chain as a server sends it, and what is right."""

    chain: list
    verdict: Verdict
    trusted: tuple = (ROOT,)
    name: str = "host.example"
    at: dt.datetime = NOW
    differs: str = ""
    """Why OpenSSL answers otherwise; empty where it does not."""


def leaf(by=ROOT, name="server", **changes):
    return Made(name, by=by, **changes)


def below(middle, verdict, *, at=ROOT, differs="", **changes):
    """A usual server below an authority made to order."""
    middle = Made("middle", by=at, ca=True, **middle)
    return Row([leaf(middle, **changes), middle], verdict, trusted=(at,), differs=differs)


def root(verdict, *, differs="", by_root=(), **changes):
    """A usual server of a root made to order."""
    own = Made("root", **{"ca": True} | changes)
    return Row([leaf(own, **dict(by_root))], verdict, trusted=(own,), differs=differs)


def server(verdict, *, name="host.example", differs="", **changes):
    """A server made to order of a usual root."""
    return Row([leaf(**changes)], verdict, name=name, differs=differs)


def named(names, name, verdict, differs="", **changes):
    return server(verdict, names=names, name=name, differs=differs, **changes)


def constrained(permitted, excluded, verdict, differs="", **changes):
    extra = [(constraints(permitted, excluded), True)]
    return below({"extra": extra}, verdict, differs=differs, **changes)


# --- RSASSA-PSS (RFC 4055) ---

SHA256 = tlv(0x30, bytes.fromhex("0609608648016503040201"))
SHA512 = tlv(0x30, bytes.fromhex("0609608648016503040203"))


def pss_parameters(digest, salt, trailer=1):
    mask = tlv(0x30, bytes.fromhex("06092a864886f70d010108") + digest)
    number = tlv(0xA3, bytes([2, 1, trailer])) if trailer != 1 else b""
    return tlv(0x30, tlv(0xA0, digest) + tlv(0xA1, mask) + tlv(0xA2, bytes([2, 1, salt])) + number)


def pss_algorithm(parameters):
    return tlv(0x30, bytes.fromhex("06092a864886f70d01010a") + parameters)


def pss_authority(parameters):
    """An authority whose key is for RSASSA-PSS alone, restricted by `parameters` where there are any."""
    key = shared_key("rsa", "pss")
    usual = key_info(key)
    own = asn1_keys.PublicKeyInfo.load(usual)["public_key"].dump()
    made = Made("pss", by=ROOT, ca=True, key=key, hints=False)
    return Remade(made, ROOT, [(usual, tlv(0x30, pss_algorithm(parameters) + own))])


def by_pss(authority, digest, salt, trailer=1):
    """A server that the authority vouches for by RSASSA-PSS."""
    name, algorithm = {"sha256": (SHA256, hashes.SHA256()), "sha512": (SHA512, hashes.SHA512())}[digest]
    return Remade(
        leaf(authority, hints=False), authority, algorithm=pss_algorithm(pss_parameters(name, salt, trailer)),
        sign=lambda body: authority.key.sign(body, padding.PSS(padding.MGF1(algorithm), salt), algorithm),
    )  # fmt: skip


FOR_PSS = pss_authority(b"")
FOR_PSS_BY_SHA512 = pss_authority(pss_parameters(SHA512, 64))


# --- what no library makes ---


def raw(oid, value):
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)


def raw_constraints(tree, verdict, differs="", *, excluded=False, **changes):
    """Below an authority with one subtree, whose DER is given."""
    value = tlv(0x30, tlv(0xA1 if excluded else 0xA0, tlv(0x30, tree)) if tree else b"")
    return below({"extra": [(raw("2.5.29.30", value), True)]}, verdict, differs=differs, **changes)


def dns(name):
    return tlv(0x82, name.encode())


def addresses(network, mask):
    return tlv(0x87, ipaddress.ip_address(network).packed + ipaddress.ip_address(mask).packed)


MINIMUM = {number: tlv(0x80, bytes([number])) for number in (0, 1)}
MAXIMUM = tlv(0x81, b"\5")
CLIENT_ALONE = bytes.fromhex("03020780")
"""Netscape's certificate type: sslClient."""

CURVED = shared_key("ec", "described curve")


def described(made):
    """The same with a key whose curve is written out."""
    return Remade(made, ROOT, [(key_info(made.key), described_curve(made.key))])


CURVED_AUTHORITY = described(Made("curved", by=ROOT, ca=True, key=CURVED, hints=False))


def shared_authority(number, **changes):
    """One of several certificates of one authority: the same name and key."""
    return Made("shared", ca=True, key=shared_key("ec", "shared"), serial=number, **changes)


def chain_of(authorities):
    links = []
    by = ROOT
    for number in range(authorities):
        by = Made(f"level {number}", by=by, ca=True)
        links.append(by)
    return [leaf(by), *reversed(links)]


COUNTRY = x509.Name([x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "DE")])
IN_COUNTRY = x509.Name([*COUNTRY, *common_name("server")])
PRINTABLE = x509.Name([
    x509.NameAttribute(x509.NameOID.COMMON_NAME, "root", x509.name._ASN1Type.PrintableString)
])  # fmt: skip
EMAIL = x509.RFC822Name("a@host.example")
URI = x509.UniformResourceIdentifier("https://host.example/")
SELF_SIGNED = Made("self")
RENEWED_ROOT = Made("root", ca=True, key=shared_key("ec", "renewed"))
EXPIRED_SHARED = shared_authority(9, by=ROOT, days=-1, start=-9)
VALID_SHARED = shared_authority(8, by=ROOT)
ELSEWHERE_SHARED = shared_authority(7, by=OTHER)
SELF_SHARED = shared_authority(6)
ROLLED = Made("middle", by=MIDDLE, ca=True, key=shared_key("ec", "rolled"))
SHORT = Made("short", by=ROOT, ca=True, length=0)
ROLLED_SHORT = Made("short", by=SHORT, ca=True, key=shared_key("ec", "rolled short"))
NARROW_ROOT = Made("root", ca=True, length=0)
END_ENTITY = leaf(name="end entity")
WITH_EMAIL = x509.Name([x509.NameAttribute(x509.NameOID.EMAIL_ADDRESS, "a@host.example")])
BOUND = Made("bound", by=ROOT, ca=True, extra=[(constraints(["host.example"]), True)])
OTHER_NAMES = [(x509.SubjectAlternativeName([x509.DNSName("b.example")]), False)]
ROLLED_NAMED = Made("bound", by=BOUND, ca=True, key=shared_key("ec", "rolled bound"), extra=OTHER_NAMES)
NAMED = Made("named", by=BOUND, ca=True, extra=OTHER_NAMES)

RDP_DIFFERS = "Windows' usage for RDP is for servers of RDP; OpenSSL does not know it"
ANY_DIFFERS = "OpenSSL's purpose sslserver does not count anyExtendedKeyUsage"
FORM_DIFFERS = "constraints on this form of names are not compared, so they are refused where they apply"
WEAK_DIFFERS = "openssl verify has security level 0 and takes weak keys and digests"
DOT_DIFFERS = "OpenSSL takes the dot at the end for a part of the name"

ROWS = {
    # --- paths ---
    "of a root": server(TRUSTED),
    "of an intermediate": Row([leaf(MIDDLE), MIDDLE], TRUSTED),
    "of two": Row([leaf(LOWER), LOWER, MIDDLE], TRUSTED),
    "in another order": Row([leaf(LOWER), MIDDLE, LOWER], TRUSTED),
    "with the root": Row([leaf(MIDDLE), MIDDLE, ROOT], TRUSTED),
    "with a stranger": Row([leaf(MIDDLE), OTHER, MIDDLE], TRUSTED),
    "twice the same": Row([leaf(MIDDLE), MIDDLE, MIDDLE], TRUSTED),
    "the intermediate is not sent": Row([leaf(MIDDLE)], UNTRUSTED),
    "the upper intermediate is not sent": Row([leaf(LOWER), LOWER], UNTRUSTED),
    "an unknown root": Row([leaf(OTHER)], UNTRUSTED),
    "an unknown root that is sent": Row([leaf(OTHER), OTHER], UNTRUSTED),
    "nobody is trusted": Row([leaf()], UNTRUSTED, trusted=(OTHER,)),
    "self-signed": Row([SELF_SIGNED], UNTRUSTED),
    "self-signed and trusted": Row([SELF_SIGNED], TRUSTED, trusted=(SELF_SIGNED,)),
    "trusted itself, its issuer not": Row([END_ENTITY], TRUSTED, trusted=(END_ENTITY,)),
    "trusted itself, for another name": Row([END_ENTITY], WRONG_NAME, trusted=(END_ENTITY,), name="b.example"),
    "a trusted intermediate": Row([leaf(MIDDLE)], TRUSTED, trusted=(MIDDLE,)),
    "one of two roots of one name": Row([leaf()], TRUSTED, trusted=(RENEWED_ROOT, ROOT)),
    "a root of this name with another key": Row([leaf(RENEWED_ROOT, hints=False)], UNTRUSTED),
    "a signature that does not fit": Row([Spoilt(leaf())], UNTRUSTED),
    "an intermediate whose signature does not fit": Row([leaf(MIDDLE), Spoilt(MIDDLE)], UNTRUSTED),
    "a leaf that issues": Row([leaf(END_ENTITY), END_ENTITY], UNTRUSTED),
    "ten certificates": Row(chain_of(9), TRUSTED),
    "eleven certificates": Row(chain_of(10), UNTRUSTED, differs="the bound; OpenSSL takes a hundred"),
    "a key identifier of another issuer": server(
        TRUSTED, hints=False, extra=[(x509.AuthorityKeyIdentifier(b"another", None, None), False)],
        differs="the identifier is a hint and the signature proves it; OpenSSL looks no further",
    ),
    "the issuer's name in another type of string": server(
        UNTRUSTED, issuer=PRINTABLE, differs="names are compared byte by byte, as RFC 5280 4.1.2.4 has authorities do"
    ),
    # --- twins ---
    "an expired twin, then a valid one": Row([leaf(VALID_SHARED), EXPIRED_SHARED, VALID_SHARED], TRUSTED),
    "a valid twin, then an expired one": Row([leaf(VALID_SHARED), VALID_SHARED, EXPIRED_SHARED], TRUSTED),
    "a twin of an unknown root first": Row(
        [leaf(VALID_SHARED), ELSEWHERE_SHARED, VALID_SHARED], TRUSTED,
        differs="every twin is tried; OpenSSL follows the first one that fits",
    ),
    "a twin of an unknown root last": Row([leaf(VALID_SHARED), VALID_SHARED, ELSEWHERE_SHARED], TRUSTED),
    "a self-signed twin first": Row(
        [leaf(VALID_SHARED), SELF_SHARED, VALID_SHARED], TRUSTED,
        differs="every twin is tried; OpenSSL follows the first one that fits",
    ),
    "a twin with another key": Row([leaf(ROLLED), MIDDLE, ROLLED], TRUSTED),
    # --- dates ---
    "expired": server(EXPIRED, start=-9, days=-1),
    "not yet valid": server(EXPIRED, start=1),
    "valid until now": Row(
        [leaf()], TRUSTED, at=NOW + dt.timedelta(days=30),
        differs="a certificate is valid through its notAfter (RFC 5280 4.1.2.5), to OpenSSL until then",
    ),
    "trusted itself, and expired": Row([SELF_SIGNED], EXPIRED, trusted=(SELF_SIGNED,), at=NOW + dt.timedelta(days=40)),
    "an expired intermediate": below({"start": -9, "days": -1}, EXPIRED),
    "an intermediate that is not yet valid": below({"start": 1}, EXPIRED),
    "an expired root": root(EXPIRED, start=-9, days=-1),
    # --- authorities: basicConstraints and keyUsage ---
    "basicConstraints are not critical": below({"critical": False}, TRUSTED),
    "easy-rsa's root": root(TRUSTED, critical=False),
    "a root without keyUsage": root(TRUSTED, usage=False),
    "an intermediate without keyUsage": below({"usage": False}, TRUSTED),
    "an intermediate without basicConstraints": below({"basic": False, "usage": False}, UNTRUSTED),
    "an intermediate that is none": below({"basic": x509.BasicConstraints(False, None)}, UNTRUSTED),
    "a root that is none": root(UNTRUSTED, basic=x509.BasicConstraints(False, None)),
    "a root without basicConstraints": root(
        UNTRUSTED, basic=False, differs="an authority says so; OpenSSL takes keyCertSign for that"
    ),
    "a keyUsage without keyCertSign": below({"usage": key_usage("crl_sign")}, UNTRUSTED),
    "a root's keyUsage without keyCertSign": root(UNTRUSTED, usage=key_usage("digital_signature")),
    "room for none below, and none": below({"length": 0}, TRUSTED),
    "room for none below, and one": Row(
        [leaf(Made("lowest", by=SHORT, ca=True)), Made("lowest", by=SHORT, ca=True), SHORT], UNTRUSTED
    ),
    "a root with room for none, and one": below({}, UNTRUSTED, at=NARROW_ROOT),
    "a self-issued one takes no room": Row([leaf(ROLLED_SHORT), ROLLED_SHORT, SHORT], TRUSTED),
    # --- extendedKeyUsage ---
    "an intermediate for servers": below({"usages": [SERVER_AUTH]}, TRUSTED),
    "an intermediate for clients": below({"usages": [CLIENT_AUTH]}, WRONG_USAGE),
    "an intermediate for both": below({"usages": [SERVER_AUTH, CLIENT_AUTH]}, TRUSTED),
    "an intermediate for all": below({}, TRUSTED),
    "an intermediate for code": below({"usages": [CODE_SIGNING]}, WRONG_USAGE),
    "an intermediate for rdp": below({"usages": [RDP_AUTHENTICATION]}, TRUSTED, differs=RDP_DIFFERS),
    "an intermediate for any usage": below({"usages": [ANY_USAGE]}, TRUSTED, differs=ANY_DIFFERS),
    "a root for servers": root(TRUSTED, usages=[SERVER_AUTH]),
    "a root for clients": root(WRONG_USAGE, usages=[CLIENT_AUTH]),
    "for servers": server(TRUSTED, usages=[SERVER_AUTH]),
    "for clients": server(WRONG_USAGE, usages=[CLIENT_AUTH]),
    "for clients and servers": server(TRUSTED, usages=[CLIENT_AUTH, SERVER_AUTH]),
    "for rdp": server(TRUSTED, usages=[RDP_AUTHENTICATION], differs=RDP_DIFFERS),
    "for any usage": server(TRUSTED, usages=[ANY_USAGE], differs=ANY_DIFFERS),
    "for a usage that nobody knows": server(WRONG_USAGE, usages=[x509.ObjectIdentifier("1.3.6.1.4.1.55555.2")]),
    "trusted itself, for clients": Row(
        [client := Made("self", usages=[CLIENT_AUTH])], WRONG_USAGE, trusted=(client,)
    ),
    # --- the server's keyUsage ---
    "it may sign": server(TRUSTED, usage=key_usage("digital_signature")),
    "it may encipher": server(TRUSTED, usage=key_usage("key_encipherment", "data_encipherment")),
    "it may agree on keys": server(TRUSTED, usage=key_usage("key_agreement")),
    "it may sign certificates alone": server(WRONG_USAGE, usage=key_usage("key_cert_sign")),
    # --- name constraints ---
    "a permitted name": constrained(["host.example"], [], TRUSTED),
    "a permitted domain": constrained(["example"], [], TRUSTED),
    "a permitted domain with a dot in front": constrained([".example"], [], TRUSTED),
    "a domain with a dot in front is no host": constrained([".host.example"], [], UNTRUSTED),
    "a name that is not permitted": constrained(["good.example"], [], UNTRUSTED),
    "a name with a permitted end": constrained(["st.example"], [], UNTRUSTED),
    "one of two names is not permitted": constrained(
        ["host.example"], [], UNTRUSTED, names=["host.example", "b.example"]
    ),
    "an excluded name": constrained([], ["host.example"], UNTRUSTED),
    "an excluded domain": constrained([], ["example"], UNTRUSTED),
    "another excluded name": constrained([], ["b.example"], TRUSTED),
    "permitted and excluded": constrained(["example"], ["host.example"], UNTRUSTED),
    "a wildcard over an excluded name": constrained(
        [], ["b.example.com"], UNTRUSTED, names=["host.example", "*.example.com"],
        differs="the wildcard stands for the excluded name; OpenSSL compares the letters",
    ),
    "a permitted address": constrained(["10.0.0.0/8"], [], TRUSTED, names=["10.0.0.1", "host.example"]),
    "an address that is not permitted": constrained(
        ["10.0.0.0/8"], [], UNTRUSTED, names=["192.0.2.1", "host.example"]
    ),
    "an excluded address": constrained([], ["10.0.0.0/8"], UNTRUSTED, names=["10.0.0.1", "host.example"]),
    "an excluded address in another form": constrained(
        [], ["10.0.0.0/8"], UNTRUSTED, names=["::ffff:10.0.0.1", "host.example"],
        differs="the two forms are one address to a client",
    ),
    "a permitted address in its other form": constrained(
        ["::ffff:0:0/96"], [], TRUSTED, names=["::ffff:10.0.0.1", "host.example"]
    ),
    "an address in another form than the permitted network's": constrained(
        ["::ffff:0:0/96"], [], UNTRUSTED, names=["10.0.0.1", "host.example"]
    ),
    "an ipv4 address in its other form where ipv6 is permitted": constrained(
        ["::/0", "192.0.2.0/24"], [], UNTRUSTED, names=["::ffff:10.0.0.1", "host.example"],
        differs="the two forms are one address to a client, and that one is not permitted",
    ),
    "constraints on addresses alone": constrained(["10.0.0.0/8"], [], TRUSTED),
    "a permitted directory name": constrained(
        [x509.DirectoryName(COUNTRY)], [], UNTRUSTED, name=IN_COUNTRY, differs=FORM_DIFFERS
    ),
    "a directory name that is not permitted": constrained([x509.DirectoryName(COUNTRY)], [], UNTRUSTED),
    "mail, and the server has none": constrained([x509.RFC822Name("example")], [], TRUSTED),
    "mail, and the server has one": constrained(
        [x509.RFC822Name("host.example")], [], UNTRUSTED, names=["host.example", EMAIL], differs=FORM_DIFFERS
    ),
    "uris, and the server has none": constrained([x509.UniformResourceIdentifier("example")], [], TRUSTED),
    "uris, and the server has one": constrained(
        [x509.UniformResourceIdentifier("host.example")], [], UNTRUSTED, names=["host.example", URI],
        differs=FORM_DIFFERS,
    ),
    "a wildcard over a permitted name": constrained(
        ["host.example"], [], UNTRUSTED, names=["host.example", "*.example"]
    ),
    "an address excluded in its other form": constrained(
        [], ["::ffff:0:0/96"], UNTRUSTED, names=["::ffff:10.0.0.1", "host.example"]
    ),
    "mail is excluded, and the server has one": constrained(
        [], [x509.RFC822Name("b.example")], UNTRUSTED, names=["host.example", EMAIL], differs=FORM_DIFFERS
    ),
    "mail in the subject": constrained(
        [x509.RFC822Name("host.example")], [], UNTRUSTED, name=WITH_EMAIL, differs=FORM_DIFFERS
    ),
    "mail in the subject that is not permitted": constrained(
        [x509.RFC822Name("b.example")], [], UNTRUSTED, name=WITH_EMAIL
    ),
    "constraints do not bind a self-issued authority": Row(
        [leaf(ROLLED_NAMED), ROLLED_NAMED, BOUND], TRUSTED
    ),
    "constraints bind an authority": Row([leaf(NAMED), NAMED, BOUND], UNTRUSTED),
    "constraints bind a server that is named like its authority": Row(
        [Made("bound", by=BOUND, names=["host.example", "b.example"], key="p384"), BOUND], UNTRUSTED
    ),
    "constraints of the root": root(UNTRUSTED, extra=[(constraints(["good.example"]), True)]),
    "constraints that are not critical": below(
        {"extra": [(constraints(["good.example"]), False)]}, UNTRUSTED
    ),
    "a subtree with a minimum": raw_constraints(dns("example") + MINIMUM[1], UNTRUSTED),
    "a subtree with a maximum": raw_constraints(dns("example") + MAXIMUM, UNTRUSTED),
    "an excluded subtree with a minimum": raw_constraints(dns("b.example") + MINIMUM[1], UNTRUSTED, excluded=True),
    "a permitted dot": constrained(["."], [], UNTRUSTED),
    "a permitted domain with a dot at the end": constrained(["example."], [], UNTRUSTED),
    "a permitted empty domain": constrained([x509.DNSName("")], [], TRUSTED),
    "an excluded empty domain": constrained([], [x509.DNSName("")], UNTRUSTED),
    "an excluded domain with a dot at the end": constrained(
        [], ["example."], UNTRUSTED, differs="a dot at the end is no difference, and what is meant is excluded"
    ),
    # --- critical extensions ---
    "a proxy": server(UNTRUSTED, extra=[(raw("1.3.6.1.5.5.7.1.14", tlv(0x30, b"")), False)]),
    "a proxy by a critical extension": server(UNTRUSTED, extra=[(raw("1.3.6.1.5.5.7.1.14", tlv(0x30, b"")), True)]),
    "Netscape's type for clients alone": server(
        TRUSTED, extra=[(raw("2.16.840.1.113730.1.1", CLIENT_ALONE), False)],
        differs="extendedKeyUsage says what a certificate is for; OpenSSL still reads the type that it replaced",
    ),
    "an unknown critical extension": server(UNTRUSTED, extra=[(UNKNOWN, True)]),
    "an unknown extension": server(TRUSTED, extra=[(UNKNOWN, False)]),
    "an intermediate's unknown critical extension": below({"extra": [(UNKNOWN, True)]}, UNTRUSTED),
    "a root's unknown critical extension": root(UNTRUSTED, extra=[(UNKNOWN, True)]),
    "critical policies": server(
        TRUSTED, extra=[(x509.CertificatePolicies([x509.PolicyInformation(ANY_USAGE, None)]), True)]
    ),
    "critical constraints on policies": below(
        {"extra": [(x509.PolicyConstraints(0, None), True)]}, UNTRUSTED,
        differs="policies are not processed, so who insists on them is refused; OpenSSL skips them unless asked",
    ),
    # --- keys and digests ---
    "rsa": Row([leaf(RSA_ROOT, key="rsa")], TRUSTED, trusted=(RSA_ROOT,)),
    "p384": root(TRUSTED, key="p384"),
    "p521": root(TRUSTED, key="p521"),
    "ed25519": root(TRUSTED, key="ed25519"),
    "ed448": root(TRUSTED, key="ed448"),
    "a server with ed25519": server(TRUSTED, key="ed25519"),
    "an intermediate with ed25519": below({"key": "ed25519"}, TRUSTED),
    "a server with rsa of 1024 bits": server(WEAK, key="rsa1024", differs=WEAK_DIFFERS),
    "an intermediate with rsa of 1024 bits": below({"key": "rsa1024"}, WEAK, differs=WEAK_DIFFERS),
    "a root with rsa of 1024 bits": root(WEAK, key="rsa1024", differs=WEAK_DIFFERS),
    "a curve of 192 bits": server(WEAK, key="p192", differs=WEAK_DIFFERS),
    "signed by sha1": Row([leaf(RSA_ROOT, digest="sha1")], WEAK, trusted=(RSA_ROOT,), differs=WEAK_DIFFERS),
    "signed by md5": Row([leaf(RSA_ROOT, digest="md5")], WEAK, trusted=(RSA_ROOT,), differs=WEAK_DIFFERS),
    "a root signed by sha1": root(TRUSTED, key="rsa", digest="sha1"),
    "a root signed by md5": root(TRUSTED, key="rsa", digest="md5"),
    "a server with a described curve": Row([described(leaf(key=CURVED, hints=False))], UNTRUSTED),
    "an intermediate with a described curve": Row([leaf(CURVED_AUTHORITY, hints=False), CURVED_AUTHORITY], UNTRUSTED),
    "rsassa-pss": Row([by_pss(RSA_ROOT, "sha256", 32)], TRUSTED, trusted=(RSA_ROOT,)),
    "rsassa-pss without salt": Row([by_pss(RSA_ROOT, "sha256", 0)], TRUSTED, trusted=(RSA_ROOT,)),
    "rsassa-pss with another trailer": Row(
        [by_pss(RSA_ROOT, "sha256", 32, trailer=2)], UNTRUSTED, trusted=(RSA_ROOT,)
    ),
    "a key for rsassa-pss, by it": Row([by_pss(FOR_PSS, "sha256", 32), FOR_PSS], TRUSTED),
    "a key for rsassa-pss, by pkcs1": Row([leaf(FOR_PSS, hints=False), FOR_PSS], UNTRUSTED),
    "a root's key for rsassa-pss, by pkcs1": Row([leaf(FOR_PSS, hints=False)], UNTRUSTED, trusted=(FOR_PSS,)),
    "a key for rsassa-pss by sha512, by it": Row([by_pss(FOR_PSS_BY_SHA512, "sha512", 64), FOR_PSS_BY_SHA512], TRUSTED),
    "a key for rsassa-pss by sha512, by sha256": Row(
        [by_pss(FOR_PSS_BY_SHA512, "sha256", 64), FOR_PSS_BY_SHA512], UNTRUSTED
    ),
    "a key for rsassa-pss by sha512, with less salt": Row(
        [by_pss(FOR_PSS_BY_SHA512, "sha512", 32), FOR_PSS_BY_SHA512], UNTRUSTED
    ),
    "a key for rsassa-pss by sha512, by pkcs1": Row(
        [leaf(FOR_PSS_BY_SHA512, hints=False), FOR_PSS_BY_SHA512], UNTRUSTED
    ),
    # --- names ---
    "another case": named(["HOST.example"], "host.EXAMPLE", TRUSTED),
    "another name": named(["host.example"], "b.example", WRONG_NAME),
    "a domain above": named(["host.example"], "example", WRONG_NAME),
    "a host below": named(["host.example"], "a.host.example", WRONG_NAME),
    "a dot at the end of what is asked for": named(["host.example"], "host.example.", TRUSTED, DOT_DIFFERS),
    "a dot at the end in the certificate": named(["host.example."], "host.example", TRUSTED, DOT_DIFFERS),
    "two dots at the end": named(["host.example"], "host.example..", WRONG_NAME),
    "a wildcard": named(["*.example.com"], "a.example.com", TRUSTED),
    "a wildcard for two labels": named(["*.example.com"], "a.b.example.com", WRONG_NAME),
    "a wildcard for none": named(["*.example.com"], "example.com", WRONG_NAME),
    "a wildcard over a top domain": named(["*.com"], "example.com", WRONG_NAME),
    "a wildcard in the middle": named(["a.*.example.com"], "a.b.example.com", WRONG_NAME),
    "two wildcards": named(["*.*.example.com"], "a.b.example.com", WRONG_NAME),
    "a wildcard in a label": named(
        ["h*.example.com"], "host.example.com", WRONG_NAME, "a wildcard is a whole label (RFC 9525 6.3)"
    ),
    "a wildcard for an international name": named(["*.example.com"], "xn--bcher-kva.example.com", TRUSTED),
    "an international name by its xn-- form": named(["xn--bcher-kva.example"], "xn--bcher-kva.example", TRUSTED),
    "a common name alone": server(
        WRONG_NAME, name="server", names=(),
        differs="a common name does not count (RFC 9525 2); OpenSSL takes it where there is no subjectAltName",
    ),
    "a common name beside others": named(["b.example"], "server", WRONG_NAME),
    "an address": named(["10.0.0.1"], "10.0.0.1", TRUSTED),
    "another address": named(["10.0.0.1"], "10.0.0.2", WRONG_NAME),
    "an address in ipv6": named(["2001:db8::1"], "2001:DB8:0::1", TRUSTED),
    "an address as a dns name": named([x509.DNSName("10.0.0.1")], "10.0.0.1", WRONG_NAME),
    "a short address as a dns name": named(
        [x509.DNSName("127.1")], "127.1", WRONG_NAME, "a resolver takes it for an address, so it is no name of a host"
    ),
    "a name for an address": named(["host.example"], "10.0.0.1", WRONG_NAME),
    "a uri": named([URI], "host.example", WRONG_NAME),
}  # fmt: skip


def is_address(name):
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def ask_openssl(row, folder):
    """Whether OpenSSL accepts the chain, and what it says."""
    files = {"trusted": row.trusted, "server": row.chain[:1], "sent": row.chain[1:]}
    for name, links in files.items():
        (folder / name).write_text("".join([ssl.DER_cert_to_PEM_cert(link.der) for link in links]))
    result = subprocess.run(
        [
            OPENSSL, "verify", "-purpose", "sslserver", "-partial_chain",
            "-verify_ip" if is_address(row.name) else "-verify_hostname", row.name,
            "-attime", str(int(row.at.timestamp())),
            "-no-CApath", "-no-CAstore", "-CAfile", folder / "trusted",
            *(["-untrusted", folder / "sent"] if row.chain[1:] else []),
            folder / "server",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode in {0, 2}, result.stderr
    return result.returncode == 0, result.stderr


def judged(row):
    trust = Trust(authorities=tuple([link.certificate for link in row.trusted]))
    return trust.judge([link.der for link in row.chain], row.name, row.at)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_chain_is_worth_what_is_right(row):
    judgement = judged(row)
    assert judgement.verdict is row.verdict, judgement


@pytest.mark.interop
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_chain_is_worth_the_same_to_openssl(row, tmp_path):
    judgement = judged(row)
    accepted, said = ask_openssl(row, tmp_path)
    assert (accepted is not judgement.trusted) is bool(row.differs), said


REFUSED = {name: row for name, row in ROWS.items() if row.verdict is not TRUSTED and len(row.chain) <= 10}


@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_a_refusal_says_where_the_certificate_at_fault_is(row):
    judgement = judged(row)
    position = judgement.position
    place = "trusted authorit" if position is None else "the server's certificate"
    assert (f"certificate {position + 1} of the server's chain" if position else place) in judgement.reason


def test_a_key_for_rsassa_pss_makes_no_other_signature_by_sha1_either():
    trust = Trust(authorities=(FOR_PSS.certificate,), dangerous_allow_weak_certificates=True)
    judgement = trust.judge([leaf(FOR_PSS, hints=False, digest="sha1").der], "host.example", NOW)
    assert judgement.verdict is UNTRUSTED
    assert "by pkcs #1 v1.5, but the key of the trusted authority CN=pss is for rsassa-pss alone" in judgement.reason


def test_there_are_enough_chains_and_few_differences():
    differences = [row for row in ROWS.values() if row.differs]
    assert len(ROWS) >= 100
    assert len(differences) <= len(ROWS) // 4
