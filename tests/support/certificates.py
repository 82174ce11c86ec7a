"""Certificates for tests: authorities and servers, correct ones and ones with exactly one fault."""

import datetime as dt
import functools
import ipaddress
import math

from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
SERVER_AUTH = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1")
CLIENT_AUTH = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.2")
CODE_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.3")
ANY_USAGE = x509.ObjectIdentifier("2.5.29.37.0")
RDP_AUTHENTICATION = x509.ObjectIdentifier("1.3.6.1.4.1.311.54.1.2")
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")

KINDS_OF_KEY = {
    "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p192": lambda: ec.generate_private_key(ec.SECP192R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "brainpool": lambda: ec.generate_private_key(ec.BrainpoolP512R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "rsa with a long exponent": lambda: with_long_exponent(shared_key("rsa")),
    "rsa1024": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505 - to see it refused
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
}
_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip
_WITH_SHA256 = bytes.fromhex("06092a864886f70d01010b")
_WEAK = {
    "sha1": (bytes.fromhex("06092a864886f70d010105"), hashes.SHA1()),  # noqa: S303 - to see it refused
    "md5": (bytes.fromhex("06092a864886f70d010104"), hashes.MD5()),  # noqa: S303 - the same
}


@functools.cache
def shared_key(kind, number=0):
    """A key that tests share; keys of RSA take long to make."""
    return KINDS_OF_KEY[kind]()


def with_long_exponent(key):
    """The same modulus of RSA with a public exponent of 64 bits."""
    numbers = key.private_numbers()
    p, q, modulus = numbers.p, numbers.q, numbers.public_numbers.n
    totient = (p - 1) * (q - 1)
    exponent = next(e for e in range(2**64 - 1, 0, -2) if math.gcd(e, totient) == 1)
    d = pow(exponent, -1, totient)
    public = rsa.RSAPublicNumbers(exponent, modulus)
    return rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), numbers.iqmp, public).private_key()


def common_name(name):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def key_usage(*usages):
    return x509.KeyUsage(**{usage: usage in usages for usage in _USAGES})


def general(name):
    """A name of a host as a certificate has it."""
    if isinstance(name, x509.GeneralName):
        return name
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def tree(name):
    """A subtree of a name constraint."""
    if isinstance(name, x509.GeneralName):
        return name
    return x509.IPAddress(ipaddress.ip_network(name)) if "/" in name else x509.DNSName(name)


def constraints(permitted=(), excluded=()):
    return x509.NameConstraints([*map(tree, permitted)] or None, [*map(tree, excluded)] or None)


class Made:
    """A certificate with its key.

    Args:
        name: The common name, or the whole subject.
        by: Who signs it; None for itself.
        ca: Whether it is an authority: a usual one unless the rest says otherwise.
        basic: basicConstraints; None for what `ca` says, False for none.
        usage: keyUsage; None for an authority's and for no server's, False for none.
        usages: extendedKeyUsage.
        names: subjectAltName, of a server alone.
        start, days: When it begins and ends, in days from NOW.
        extra: More extensions, each with whether it is critical.
        key: The kind of its key, or the key.
        digest: By what it is signed where that is RSA and weak, `"sha1"` or `"md5"`.
        issuer: The issuer's name where it is not that of `by`.
        hints: Whether it has the identifiers of its key and the issuer's.
    """

    def __init__(
        self,
        name,
        *,
        by=None,
        ca=False,
        basic=None,
        critical=True,
        length=None,
        usage=None,
        usages=(),
        names=("host.example",),
        start=-1,
        days=30,
        extra=(),
        key="ec",
        digest=None,
        issuer=None,
        serial=None,
        hints=True,
    ):
        self.key = shared_key(key, name) if isinstance(key, str) else key
        signer = by or self
        self.name = common_name(name) if isinstance(name, str) else name
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer or signer.name)
            .public_key(self.key.public_key())
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(NOW + dt.timedelta(days=start))
            .not_valid_after(NOW + dt.timedelta(days=days))
        )
        if basic is None:
            basic = x509.BasicConstraints(ca, length if ca else None)
        if usage is None and ca:
            usage = key_usage("digital_signature", "key_cert_sign", "crl_sign")
        for value, needed in (
            (basic, critical),
            (usage, True),
            (usages and x509.ExtendedKeyUsage(usages), False),
            (names and not ca and x509.SubjectAlternativeName([general(name) for name in names]), False),
            (hints and x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False),
            (hints and x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), False),
            *extra,
        ):
            if value:
                builder = builder.add_extension(value, critical=needed)
        own = isinstance(signer.key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
        self.certificate = builder.sign(signer.key, None if own else hashes.SHA256())
        if digest:
            self.certificate = _signed_again(self.certificate, signer.key, digest)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


class Spoilt:
    """Return a certificate whose signature is wrong."""

    def __init__(self, made):
        self.der = made.der[:-1] + bytes([made.der[-1] ^ 1])


class Remade:
    """Return a certificate with parts of its body replaced and signed again, which no library makes.

    Args:
        made: A `Made` or another `Remade`.
        by: Who signs it.
        parts: Bytes of the body and what stands there instead: whole elements of the outermost SEQUENCE.
        algorithm: The DER of the signature's AlgorithmIdentifier where that is another.
        sign: Makes the signature of a body; None for a usual one.
    """

    def __init__(self, made, by, parts=(), *, algorithm=None, sign=None):
        self.key, self.name = made.key, made.name
        old = asn1_x509.Certificate.load(made.der)
        usual = old["signature_algorithm"].dump()
        content = old["tbs_certificate"].contents
        for part, other in [*parts, (usual, algorithm or usual)]:
            assert content.count(part) == 1
            content = content.replace(part, other)
        body = tlv(0x30, content)
        signature = sign(body) if sign else usual_signature(by.key, body)
        self.der = tlv(0x30, body + (algorithm or usual) + tlv(0x03, b"\0" + signature))
        self.certificate = x509.load_der_x509_certificate(self.der)


def usual_signature(key, body):
    """By SHA-256, as `Made` is signed."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(body, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(body, ec.ECDSA(hashes.SHA256()))


def tlv(tag, content):
    """An element in DER."""
    size = len(content)
    length = (
        [size] if size < 128 else [0x80 | (size.bit_length() + 7) // 8, *size.to_bytes((size.bit_length() + 7) // 8)]
    )
    return bytes([tag, *length]) + content


def key_info(key):
    """The SubjectPublicKeyInfo of a private key."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def described_curve(key):
    """The SubjectPublicKeyInfo of a key on P-256, with the curve's parameters in place of its name (X9.62)."""
    prime, a, b = 2**256 - 2**224 + 2**192 + 2**96 - 1, -3, P256_B
    generator = ec.derive_private_key(1, ec.SECP256R1()).public_key()
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    field = tlv(0x30, bytes.fromhex("06072a8648ce3d0101") + integer(prime))
    curve = tlv(0x30, tlv(0x04, (a % prime).to_bytes(32)) + tlv(0x04, b.to_bytes(32)))
    parameters = tlv(0x30, integer(1) + field + curve + tlv(0x04, point(generator)) + integer(order) + integer(1))
    algorithm = tlv(0x30, bytes.fromhex("06072a8648ce3d0201") + parameters)
    return tlv(0x30, algorithm + tlv(0x03, b"\0" + point(key.public_key())))


P256_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


def integer(number):
    return tlv(0x02, number.to_bytes(number.bit_length() // 8 + 1))


def point(key):
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _signed_again(certificate, key, digest):
    """Sign with a digest with which cryptography no longer signs certificates."""
    oid, algorithm = _WEAK[digest]
    body = certificate.tbs_certificate_bytes
    assert body.count(_WITH_SHA256) == 1
    weak = body.replace(_WITH_SHA256, oid)
    der = certificate.public_bytes(Encoding.DER).replace(body, weak).replace(_WITH_SHA256, oid)
    return x509.load_der_x509_certificate(
        der.replace(certificate.signature, key.sign(weak, padding.PKCS1v15(), algorithm))
    )
