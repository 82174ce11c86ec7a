"""Decides whether a server is the right one: `Trust` judges its certificate after the TLS handshake, before any logon.

TLS itself verifies nothing under CredSSP ([MS-CSSP] 3.1.5 step 1). A judgement is a value: the asyncio functions end
the logon unless it is TRUSTED, and the SSPI functions report it. The time is an argument. `acredssp.certificates` has
the rules for certificates, and docs/trust.md explains them.
"""

import dataclasses
import datetime as dt
import functools
import pathlib
import re
import ssl
import warnings
from collections.abc import Callable, Sequence
from typing import Final, Self, TypeVar

from cryptography import x509

from acredssp.arguments import expect
from acredssp.certificates.host_names import check_name
from acredssp.certificates.judgement import Judgement, OptionNames, Refusal, Verdict
from acredssp.certificates.link import readable
from acredssp.certificates.path import Anchors, check_path
from acredssp.errors import RemoteProtocolError
from acredssp.wire.x509 import pin_of

__all__ = ["Judgement", "OptionNames", "Trust", "Verdict", "pin_of"]

_Loaded = TypeVar("_Loaded")

_TRUSTED: Final = Judgement(Verdict.TRUSTED)

_MOST_PINS: Final = 3
"""How many pins an error lists."""

_ADVICE: Final = {
    Verdict.EXPIRED: "check the clocks of both sides, or renew that certificate",
    Verdict.WRONG_NAME: "ask for the server by a name that its certificate has",
    Verdict.WRONG_USAGE: "give the server a certificate that is issued for servers",
    Verdict.WEAK: "renew that certificate with a stronger key and signature",
    Verdict.UNTRUSTED: "correct the server's certificates",
}
"""The hints where trusting another authority would not help."""
_OPTION_NAMES: Final = OptionNames()
_ANOTHER_AUTHORITY: Final = "give the server a certificate by an authority that may vouch for servers"
_WHOLE_CHAIN: Final = "let the server send its whole chain, with the authorities in between"
_NO_NAMES: Final = "renew the server's certificate with the names of its host as subjectAltName"


@dataclasses.dataclass(frozen=True, slots=True)
class Trust:
    """Which servers a client trusts: those that an authority vouches for, and those whose keys the client knows.

    Attributes:
        authorities: The trusted authorities. A server's own certificate among them is trusted for the names that it
            has.
        pins: The SHA-256 of trusted keys (SubjectPublicKeyInfo), in lower-case hex. For a pinned key, the
            certificate's names, authority and dates do not matter.
        dangerous_allow_weak_certificates: Whether to accept RSA keys of 1024 to 2047 bits, curves below 224 bits, and
            signatures by SHA-1. MD5 is never accepted.

            The switch is not needed for the signature on a trusted authority, for a server's certificate that is itself
            among `authorities`, or for a pinned key: the trust in these does not depend on that strength.
    """

    authorities: tuple[x509.Certificate, ...] = ()
    pins: frozenset[str] = frozenset()
    dangerous_allow_weak_certificates: bool = False
    _anchors: Anchors | None = dataclasses.field(default=None, init=False, repr=False, compare=False)
    """The authorities by name; made when the first certificate is judged."""

    def __post_init__(self) -> None:
        expect("authorities", self.authorities, tuple, list)
        for authority in self.authorities:
            expect("authorities", authority, x509.Certificate)
        object.__setattr__(self, "authorities", tuple(self.authorities))
        expect("pins", self.pins, frozenset, set)
        object.__setattr__(self, "pins", frozenset([_cleaned(pin) for pin in self.pins]))
        expect("dangerous_allow_weak_certificates", self.dangerous_allow_weak_certificates, bool)

    @classmethod
    def system(cls) -> Self:
        """Trust the authorities of the operating system, which are read once in a process."""
        trust = cls(authorities=_system_authorities())
        object.__setattr__(trust, "_anchors", _system_anchors())
        return trust

    @classmethod
    def from_file(cls, path: str) -> Self:
        """Trust the certificates of a PEM file.

        Raises:
            OSError: The file cannot be read.
            ValueError: The file holds no certificate in PEM.
        """
        content = pathlib.Path(path).read_bytes()
        try:
            return cls(authorities=_load(lambda: tuple(x509.load_pem_x509_certificates(content))))
        except Refusal:
            raise ValueError(f"{path}: expected certificates in PEM, got something else") from None

    @classmethod
    def pinned(cls, *pins: str) -> Self:
        """Trust keys by their SHA-256 (`pin_of`), in hex; colons and case do not matter.

        Raises:
            ValueError: A pin is not a SHA-256 in hex.
        """
        return cls(pins=frozenset(pins))

    def judge(
        self, chain: Sequence[bytes], name: str, now: dt.datetime, *, options: OptionNames = _OPTION_NAMES
    ) -> Judgement:
        """Judge the certificate chain of a server. It does not raise for any chain.

        Args:
            chain: Certificates in DER, the server's own first, in the order received.
            name: The DNS name or IP address that the client asked for.
            now: The time, with a time zone.
            options: The names of the caller's options, for the hint.
        """
        if not chain:
            return Judgement(Verdict.UNTRUSTED, "the server has shown no certificate", _ADVICE[Verdict.UNTRUSTED])
        try:
            pin = pin_of(chain[0])
        except RemoteProtocolError as error:
            reason = f"the server's certificate cannot be read: {error}"
            return Judgement(Verdict.UNTRUSTED, reason, _ADVICE[Verdict.UNTRUSTED], 0)
        return _TRUSTED if pin in self.pins else self._judge(chain, name, now, pin, options)

    def check(self, chain: Sequence[bytes], name: str, now: dt.datetime) -> None:
        """Judge as `judge` does, and raise unless the verdict is TRUSTED.

        Raises:
            CertificateError: The server is not trusted; the text tells which certificate is at fault, and why.
        """
        judgement = self.judge(chain, name, now)
        if not judgement.trusted:
            raise judgement.error()

    def _judge(self, chain: Sequence[bytes], name: str, now: dt.datetime, pin: str, options: OptionNames) -> Judgement:
        if self._anchors is None:
            object.__setattr__(self, "_anchors", Anchors(self.authorities))
        assert self._anchors is not None
        try:
            leaf = check_path(chain, self._anchors, now, allow_weak=self.dangerous_allow_weak_certificates)
            check_name(leaf, name)
        except Refusal as refusal:
            return self._refused(refusal, pin, options)
        return _TRUSTED

    def _refused(self, refusal: Refusal, pin: str, options: OptionNames) -> Judgement:
        # A wrong name is found only after an authority has vouched. Any other fault may be of a stranger's making.
        if self.pins and refusal.verdict is not Verdict.WRONG_NAME:
            return self._another_key(refusal, pin)
        advice = self._advice(refusal, options)
        if not self.pins:  # a key that differs from a pinned one is never offered for pinning
            known = "if you know this server, "
            pinned = f"pin its key ({options.pin}): {pin}"
            if refusal.no_authority:
                advice = f"{known}trust its authority ({options.authority}) or {pinned}"
                advice = f"{_WHOLE_CHAIN}; {advice}" if refusal.chain_ends else advice
            else:
                advice = f"{advice}; {known}{pinned}"
        return Judgement(refusal.verdict, refusal.reason, advice, refusal.position)

    def _advice(self, refusal: Refusal, options: OptionNames) -> str:
        if refusal.no_names:
            return _NO_NAMES
        if refusal.verdict is Verdict.WRONG_USAGE and refusal.position != 0:
            return _ANOTHER_AUTHORITY
        advice = _ADVICE[refusal.verdict]
        if refusal.verdict is Verdict.WRONG_NAME:
            return f"{advice} ({options.name})"
        if refusal.verdict is Verdict.WEAK and not self.dangerous_allow_weak_certificates:
            return f"{advice}, or accept weak certificates ({options.weak})"
        return advice

    def _another_key(self, refusal: Refusal, pin: str) -> Judgement:
        expected = " or ".join(sorted(self.pins)[:_MOST_PINS]) + (" or another" if len(self.pins) > _MOST_PINS else "")
        also = f", and {refusal.reason}" if self.authorities else ""
        return Judgement(
            Verdict.PIN_DIFFERS,
            f"the server's key is not the pinned one: expected {expected}, got {pin}{also}",
            "an attacker may be in between: do not log on unless the server's administrator confirms the new key",
            0,
        )


@functools.cache
def _system_anchors() -> Anchors:
    return Anchors(_system_authorities())


def _cleaned(pin: str) -> str:
    """A pin in the form that is compared; raises `ValueError` for a text that is not a pin."""
    expect("pins", pin, str)
    cleaned = pin.replace(":", "").strip().lower()
    if not re.fullmatch("[0-9a-f]{64}", cleaned):
        raise ValueError("pins: expected a SHA-256 of 64 hex digits, got something else")
    return cleaned


@functools.cache
def _system_authorities() -> tuple[x509.Certificate, ...]:
    paths = ssl.get_default_verify_paths()
    links = ssl.create_default_context().get_ca_certs(binary_form=True)
    if not links and paths.capath is not None:
        # From a folder with hashed file names OpenSSL reads an authority only once it meets its name as an issuer.
        files = sorted(pathlib.Path(paths.capath).glob("*.[0-9]"))
        links = [link for file in files if (link := _folder_entry(file)) is not None]
    return tuple([certificate for link in links if (certificate := _parsed(link)) is not None])


# A file or certificate in the system's store that cannot be read is skipped, so that it does not spoil the others.


def _folder_entry(file: pathlib.Path) -> bytes | None:
    try:
        return ssl.PEM_cert_to_DER_cert(file.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _parsed(der: bytes) -> x509.Certificate | None:
    try:
        return _load(lambda: x509.load_der_x509_certificate(der))
    except Refusal:
        return None


def _load(load: Callable[[], _Loaded]) -> _Loaded:
    """Load certificates that the user trusts. The library's warnings are ignored: one is about serial numbers.

    RFC 5280 forbids a serial number that is negative or zero, but old authorities have one.

    Raises:
        Refusal: A certificate cannot be read. The caller tells which one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return readable(load, str, None)
