"""Searches the path from a server's certificate to a trusted authority (RFC 5280 6.1), within bounds.

An issuer is found by its name and proven by its signature. Several certificates may fit (an authority that was renewed,
or is signed by two others), and a path may lead nowhere, so this is a search. A stranger chooses the certificates:
without bounds, a dozen of them with one name and one key would keep the search busy for years. So one verdict reads at
most `MOST_CERTIFICATES`, of `MOST_BYTES` together, and checks at most `MOST_SIGNATURES`. Checks that cost less than a
signature come first.

Where no path is found, the refusal gives the most telling reason. A fault of a fitting authority tells more than a
wrong signature, and a wrong signature tells more than a missing issuer.
"""

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from acredssp.certificates.constraints import check_constraints
from acredssp.certificates.judgement import Refusal, Verdict
from acredssp.certificates.link import Link, place, read_link, readable
from acredssp.certificates.rules import check_authority, check_server, check_signature_kind, check_strength
from acredssp.errors import CredSSPError
from acredssp.wire.x509 import (
    RSASSA_PSS,
    front,
    key_algorithm,
    pss_parameters,
    signature_algorithms,
    signature_parameters,
)

__all__ = ["MOST_BYTES", "MOST_CERTIFICATES", "MOST_SIGNATURES", "Anchors", "check_path", "verify_signature"]

MOST_CERTIFICATES: Final = 10
"""The most certificates of a server's chain. Public chains have two to four, and OpenSSL's own limit is a hundred."""
MOST_BYTES: Final = 64 * 1024
"""The most bytes of all certificates of the chain together, in DER."""
MOST_SIGNATURES: Final = 50
"""The most signatures that one verdict checks. A path without ambiguity takes one for each of its certificates. A
signature of a slow key counts as several: see `_price`."""


class Anchors:
    """The trusted authorities, by name.

    Args:
        certificates: The authorities. A certificate that cannot be read is left out, and so vouches for nobody.
    """

    def __init__(self, certificates: Iterable[x509.Certificate]) -> None:
        self._by_subject: dict[bytes, list[tuple[bytes, x509.Certificate]]] = {}
        self._links: dict[bytes, Link | None] = {}
        """The authorities that were read so far: most authorities of a system are never needed."""
        for certificate in certificates:
            der = certificate.public_bytes(Encoding.DER)
            try:
                subject = front(der).subject
            except CredSSPError:
                continue
            self._by_subject.setdefault(subject, []).append((der, certificate))

    def named(self, subject: bytes) -> list[Link]:
        """Return the authorities whose name has these bytes in DER."""
        links = [self._link(der, certificate) for der, certificate in self._by_subject.get(subject, ())]
        return [link for link in links if link is not None]

    def find(self, der: bytes) -> x509.Certificate | None:
        """Return the certificate with exactly these bytes, if it is among the authorities."""
        try:
            subject = front(der).subject
        except CredSSPError:
            return None
        return next((certificate for its, certificate in self._by_subject.get(subject, ()) if its == der), None)

    def _link(self, der: bytes, certificate: x509.Certificate) -> Link | None:
        if der not in self._links:
            try:
                self._links[der] = readable(lambda: Link(certificate, der, None), lambda: "an authority", None)
            except Refusal:
                self._links[der] = None
        return self._links[der]

    def __bool__(self) -> bool:
        """Whether there is any authority."""
        return bool(self._by_subject)


_ECDSA_WITH_SHA1: Final = x509.SignatureAlgorithmOID.ECDSA_WITH_SHA1

_SIGNED_BY: Final[dict[type, tuple[type, ...]]] = {
    padding.PKCS1v15: (rsa.RSAPublicKey,),
    padding.PSS: (rsa.RSAPublicKey,),
    ec.ECDSA: (ec.EllipticCurvePublicKey,),
}
"""The kinds of keys that make signatures with such parameters. Ed25519 and Ed448 signatures have no parameters."""
_EDWARDS: Final = (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)


def check_path(chain: Sequence[bytes], anchors: Anchors, now: dt.datetime, *, allow_weak: bool) -> Link:
    """Return the server's certificate if a trusted authority vouches for it. Its names are not checked here.

    Args:
        chain: Certificates in DER, the server's own first, in the order received.
        anchors: The trusted authorities. A server's certificate among them needs no signature, and may be weak.
        now: The time, with a time zone.
        allow_weak: Whether to accept signatures by SHA-1, and keys that are as weak.

    Raises:
        Refusal: The certificate is not for servers, or no trusted authority vouches for it.
    """
    _check_size(chain)
    known = anchors.find(chain[0])
    leaf = read_link(chain[0], 0, known)
    check_server(leaf, now)
    if known is None:
        check_strength(leaf, allow_weak=allow_weak)
        _Search(anchors, chain, now, allow_weak=allow_weak).require(leaf)
    return leaf


def verify_signature(link: Link, issuer: Link) -> None:
    """Refuse a certificate that `issuer` did not sign. Signatures are checked here and nowhere else.

    Raises:
        Refusal: UNTRUSTED.
    """
    try:
        link.ask(lambda: _verify(link, issuer))
    except InvalidSignature:
        reason = f"{link.who} names {issuer.who} as its issuer, whose key did not sign it"
        raise Refusal(Verdict.UNTRUSTED, reason, link.position) from None


def _verify(link: Link, issuer: Link) -> None:
    certificate = link.certificate
    if isinstance(issuer.key, rsa.RSAPublicKey):
        _check_pss(link, issuer)
    if not isinstance(certificate.signature_hash_algorithm, hashes.SHA1):
        _verify_directly(certificate, issuer)
        return
    # cryptography does not verify SHA-1 signatures of certificates. Where they are allowed, they are verified here.
    inner, outer = signature_algorithms(link.der)
    if inner != outer:
        raise ValueError("the signature algorithms inside and outside do not match")
    signature, body = certificate.signature, certificate.tbs_certificate_bytes
    match issuer.key, certificate.signature_algorithm_parameters:
        case rsa.RSAPublicKey() as key, (padding.PKCS1v15() | padding.PSS()) as parameters:
            key.verify(signature, body, parameters, hashes.SHA1())  # noqa: S303 - SHA-1, which the caller has allowed
        case ec.EllipticCurvePublicKey() as curve, _ if certificate.signature_algorithm_oid == _ECDSA_WITH_SHA1:
            curve.verify(signature, body, ec.ECDSA(hashes.SHA1()))  # noqa: S303 - SHA-1, which the caller has allowed
        case _:
            raise InvalidSignature


def _check_pss(link: Link, issuer: Link) -> None:
    """Refuse RSA signatures that RFC 4055 1.2 and 3.1 forbid, which the certificate library does not check."""
    algorithm, restricted = key_algorithm(issuer.key_info)
    if not isinstance(link.certificate.signature_algorithm_parameters, padding.PSS):
        if algorithm == RSASSA_PSS:
            raise Refusal(
                Verdict.UNTRUSTED,
                f"{link.who} has a signature by pkcs #1 v1.5, but the key of {issuer.who} is for rsassa-pss alone",
                link.position,
            )
        return
    made = pss_parameters(signature_parameters(link.der))
    if made.trailer != 1:
        reason = f"{link.who} has a signature by rsassa-pss with trailer {made.trailer}, expected trailer 1"
        raise Refusal(Verdict.UNTRUSTED, reason, link.position)
    if algorithm != RSASSA_PSS or not restricted:
        return
    allowed = pss_parameters(restricted)
    if (made.digest, made.mask) != (allowed.digest, allowed.mask) or made.salt < allowed.salt:
        reason = f"{link.who} has a signature by rsassa-pss with other parameters than the key of {issuer.who} allows"
        raise Refusal(Verdict.UNTRUSTED, reason, link.position)


def _verify_directly(certificate: x509.Certificate, issuer: Link) -> None:
    try:
        certificate.verify_directly_issued_by(issuer.certificate)
    except ValueError:
        kinds = _SIGNED_BY.get(type(certificate.signature_algorithm_parameters), _EDWARDS)
        if isinstance(issuer.key, kinds):
            raise
        raise InvalidSignature from None  # the issuer's key cannot make a signature of this kind


def _check_size(chain: Sequence[bytes]) -> None:
    if len(chain) > MOST_CERTIFICATES:
        reason = f"the server's chain is too long: {len(chain)} certificates, expected at most {MOST_CERTIFICATES}"
        raise Refusal(Verdict.UNTRUSTED, reason, 0)
    size = sum(map(len, chain))
    if size > MOST_BYTES:
        reason = f"the server's chain is too large: {size} bytes, expected at most {MOST_BYTES}"
        raise Refusal(Verdict.UNTRUSTED, reason, 0)


_CURVES: Final = {"secp224r1": 1, "secp256r1": 1, "secp384r1": 3, "secp521r1": 3}
"""How many signatures one counts as, by its curve, for the curves that OpenSSL has special code for."""
_SLOW: Final = 5
"""How many signatures any other slow one counts as: it takes up to 1.2 ms, a usual one 0.02 to 0.2 ms."""
_FAST_RSA: Final = 4096
_FAST_EXPONENT: Final = 32


def _price(key: CertificatePublicKeyTypes) -> int:
    """How many signatures one by this key counts as, by the time that it takes to check."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name, _SLOW)
    if isinstance(key, rsa.RSAPublicKey):
        fast = key.key_size <= _FAST_RSA and key.public_numbers().e.bit_length() <= _FAST_EXPONENT
        return 1 if fast else _SLOW
    return 1


class _Spent(Exception):
    """The verdict has checked as many signatures as it may."""


_NOT_THERE, _NOT_SIGNED, _FAULTY, _OF_ITSELF = range(4)
"""How telling the reason of a refusal is, the least telling first."""


class _Search:
    """The search for one verdict."""

    def __init__(self, anchors: Anchors, chain: Sequence[bytes], now: dt.datetime, *, allow_weak: bool) -> None:
        self._anchors = anchors
        self._now = now
        self._allow_weak = allow_weak
        self._signatures = MOST_SIGNATURES
        self._links: dict[bytes, Link] = {}
        self._refusal = Refusal(Verdict.UNTRUSTED, "")
        self._says = -1
        self._by_subject: dict[bytes, list[tuple[bytes, int]]] = {}
        for position, der in enumerate(chain[1:], 1):
            if der not in chain[:position]:
                self._place(der, position)

    def _place(self, der: bytes, position: int) -> None:
        try:
            subject = readable(lambda: front(der).subject, lambda: place(position), position)
        except Refusal as refusal:
            self._note(refusal, _NOT_SIGNED)
        else:
            self._by_subject.setdefault(subject, []).append((der, position))

    def require(self, leaf: Link) -> None:
        """Refuse a certificate from which no path leads to a trusted authority.

        Raises:
            Refusal: No path was found; the reason is the most telling one.
        """
        try:
            found = self._find((leaf,))
        except _Spent:
            most = f"more than {MOST_SIGNATURES} signatures to check, or fewer of slow keys"
            reason = f"the server's chain has too many possible paths: {most}"
            raise Refusal(Verdict.UNTRUSTED, reason, 0) from None
        if not found:
            raise self._refusal

    def _find(self, path: tuple[Link, ...]) -> bool:
        """Extend a path by an authority above its last certificate; return whether a trusted authority was reached."""
        link = path[-1]
        known = False
        for issuer in self._issuers(path):
            known = True
            if self._vouches(issuer, path) and (issuer.position is None or self._find((*path, issuer))):
                return True
        if not known and self._says < _NOT_THERE:
            self._note(self._not_there(link), _NOT_THERE)
        elif known and self._is_of_itself(link):
            self._note(self._not_there(link), _OF_ITSELF)
        return False

    def _is_of_itself(self, link: Link) -> bool:
        """Whether a certificate is signed by itself, and what has its name among the authorities is of another key.

        Whatever is wrong with those authorities is then no reason: none of them could have signed the certificate.
        """
        if not link.self_issued or any(each.key_info == link.key_info for each in self._anchors.named(link.subject)):
            return False
        return self._signatures >= _price(link.key) and self._signed(link, link)

    def _issuers(self, path: tuple[Link, ...]) -> Iterator[Link]:
        """The certificates with the issuer's name: trusted authorities first, then those of the server's chain.

        An authority (name and key) that is in the path already is left out, since it would only make the path longer.
        """
        yield from self._anchors.named(path[-1].issuer)
        for der, position in self._by_subject.get(path[-1].issuer, ()):
            try:
                issuer = self._links.get(der) or read_link(der, position)
            except Refusal as refusal:
                self._note(refusal, _FAULTY)
                continue
            self._links[der] = issuer
            if all(issuer.key_info != link.key_info or issuer.subject != link.subject for link in path):
                yield issuer

    def _vouches(self, issuer: Link, path: tuple[Link, ...]) -> bool:
        below = sum(not link.self_issued for link in path[1:])
        try:
            check_authority(issuer, below, self._now)
            check_strength(issuer, allow_weak=self._allow_weak)
            check_signature_kind(path[-1], allow_weak=self._allow_weak)
        except Refusal as refusal:
            self._note(refusal, _FAULTY)
            return False
        return self._signed(path[-1], issuer) and (issuer.position is not None or self._allowed((*path, issuer)))

    def _signed(self, link: Link, issuer: Link) -> bool:
        price = _price(issuer.key)
        if self._signatures < price:
            raise _Spent
        self._signatures -= price
        try:
            verify_signature(link, issuer)
        except Refusal as refusal:
            self._note(refusal, _NOT_SIGNED)
            return False
        return True

    def _allowed(self, path: tuple[Link, ...]) -> bool:
        # This check comes last: without a trusted authority's signature nobody can make us compare thousands of names.
        try:
            check_constraints(path)
        except Refusal as refusal:
            self._note(refusal, _FAULTY)
            return False
        return True

    def _not_there(self, link: Link) -> Refusal:
        if link.self_issued:
            reason = f"{link.who} is signed by itself, and is not among the trusted authorities"
        else:
            there = "neither in its chain nor among the trusted authorities"
            reason = f"{link.who} is issued by {link.issuer_shown}, which is {there}"
        none = "" if self._anchors else " (there are none)"
        ends = not link.self_issued
        return Refusal(Verdict.UNTRUSTED, reason + none, link.position, no_authority=True, chain_ends=ends)

    def _note(self, refusal: Refusal, says: int) -> None:
        """Keep the refusal with the most telling reason, and the first of equal ones."""
        if says > self._says:
            self._refusal, self._says = refusal, says
