"""One certificate of a chain: the values that the rules check, read once, and its name in error texts.

A stranger may have written everything in a server's certificate. A certificate that the library cannot read is refused
with the library's reason, whatever exception it raised, and no text of a certificate reaches a terminal unescaped.
"""

import contextlib
import re
from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from acredssp.certificates.judgement import Refusal, Verdict
from acredssp.errors import CredSSPError
from acredssp.wire.x509 import front

__all__ = ["Link", "place", "read_link", "readable", "shown"]

_Result = TypeVar("_Result")
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_Values: TypeAlias = dict[type[x509.ExtensionType], x509.ExtensionType]

_LONGEST_TEXT: Final = 120
"""How many characters of a stranger's text an error shows: enough for a usual name, and not a page of text."""

_ENCODING: Final = re.compile(r'ParseError \{ kind: (?P<kind>\w+)(?:.*?location: \["(?P<field>[\w:]+))?')
"""The library's error for bytes that it cannot parse, with the kind of the fault and the field."""

_UNDERSTOOD: Final = frozenset({
    x509.BasicConstraints.oid,
    x509.KeyUsage.oid,
    x509.ExtendedKeyUsage.oid,
    x509.SubjectAlternativeName.oid,
    x509.NameConstraints.oid,
    # The key identifiers are hints for building a path. The signature decides.
    x509.SubjectKeyIdentifier.oid,
    x509.AuthorityKeyIdentifier.oid,
    # Certificate policies restrict nothing unless a certain policy is asked for (RFC 5280 6.1.1 c to f).
    x509.CertificatePolicies.oid,
    x509.InhibitAnyPolicy.oid,
})  # fmt: skip
"""The extensions that may be critical."""


_PROXY: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")
"""proxyCertInfo (RFC 3820): somebody else speaks for the server. It is refused even where it is not critical."""


class Link:
    """A certificate, and the values in it that the rules check.

    Args:
        certificate: The certificate as the library has read it.
        der: The certificate in DER.
        position: Its position in the server's chain; None for a trusted authority.

    Raises:
        Exception: Any exception of the library that cannot read the certificate; `read_link` makes a `Refusal` of it.
    """

    __slots__ = (
        "_who",
        "basic", "certificate", "constraints", "der", "issuer", "key", "key_info", "key_usage", "names", "not_after",
        "not_before", "not_understood", "position", "subject", "usages",
    )  # fmt: skip

    def __init__(self, certificate: x509.Certificate, der: bytes, position: int | None) -> None:
        self.certificate = certificate
        self.der = der
        self.position = position
        self._who: str | None = None
        _, self.issuer, self.subject, self.key_info = front(der)
        self.not_before = certificate.not_valid_before_utc
        self.not_after = certificate.not_valid_after_utc
        self.key: CertificatePublicKeyTypes = certificate.public_key()
        values: _Values = {}
        self.not_understood: str | None = None
        """An extension that the rules do not know, and that is critical or proxyCertInfo; None where there is none."""
        for extension in certificate.extensions:
            values[type(extension.value)] = extension.value
            if (extension.critical and extension.oid not in _UNDERSTOOD) or extension.oid == _PROXY:
                self.not_understood = extension.oid.dotted_string
        self.basic = _value(values, x509.BasicConstraints)
        self.key_usage = _value(values, x509.KeyUsage)
        self.usages = _value(values, x509.ExtendedKeyUsage)
        self.names = _value(values, x509.SubjectAlternativeName)
        self.constraints = _value(values, x509.NameConstraints)

    def ask(self, read: Callable[[], _Result]) -> _Result:
        """Return what `read` returns, where `read` reads a value of this certificate.

        Raises:
            Refusal: The library cannot read the certificate.
            InvalidSignature: `read` checked a signature, which is wrong.
        """
        return readable(read, lambda: self.who, self.position)

    @property
    def self_issued(self) -> bool:
        """Whether subject and issuer have the same name (RFC 5280 3.2)."""
        return self.subject == self.issuer

    @property
    def who(self) -> str:
        """The certificate in words, for an error text.

        The text is made once, since a stranger's name may be long, and a search may refuse one certificate many times.
        """
        if self._who is None:
            self._who = self._describe()
        return self._who

    def _describe(self) -> str:
        if self.position == 0:
            return place(0)
        name = shown_name(lambda: self.certificate.subject)
        return f"the trusted authority {name}" if self.position is None else f"{place(self.position)} ({name})"

    @property
    def issuer_shown(self) -> str:
        """The issuer's name, for an error text."""
        return shown_name(lambda: self.certificate.issuer)

    @property
    def common_name(self) -> str:
        """The common name, for an error text; empty where there is none, or where it cannot be read."""
        with contextlib.suppress(Exception):
            names = self.certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            return shown(str(names[0].value)) if names else ""
        return ""


def _value(values: _Values, kind: type[_Extension]) -> _Extension | None:
    value = values.get(kind)
    return value if isinstance(value, kind) else None


def read_link(der: bytes, position: int, known: x509.Certificate | None = None) -> Link:
    """Read a certificate of the server's chain. `known` is the same certificate, if the caller has read it already.

    Raises:
        Refusal: The certificate cannot be read.
    """
    return readable(lambda: Link(known or _load(der), der, position), lambda: place(position), position)


def place(position: int) -> str:
    """Name the certificate at a position of the server's chain, for an error text."""
    return f"certificate {position + 1} of the server's chain" if position else "the server's certificate"


def readable(read: Callable[[], _Result], who: Callable[[], str], position: int | None) -> _Result:
    """Return what `read` returns. Any exception of the certificate library becomes a `Refusal`.

    Args:
        read: Reads a value of a certificate.
        who: Names the certificate, for an error text.
        position: The certificate's position in the server's chain.

    Raises:
        Refusal: The certificate cannot be read; the reason is the library's.
        InvalidSignature: `read` checked a signature, which is wrong.
    """
    try:
        return read()
    except (Refusal, InvalidSignature):
        raise
    except BaseException as error:
        # A list of the library's exceptions would never be complete: it has raised ValueError, TypeError,
        # UnsupportedAlgorithm, warnings turned into errors, and panics of Rust, which are not an `Exception`.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise Refusal(Verdict.UNTRUSTED, f"{who()} cannot be read: {_told(error)}", position) from None


def _told(error: BaseException) -> str:
    """Return the library's reason in words. For a wrong encoding the library's own text is a dump of a Rust value."""
    text = str(error)
    if encoding := _ENCODING.search(text):
        where = f" in {encoding['field']}" if encoding["field"] else ""
        return f"its encoding is not the one that der and rfc 5280 demand ({encoding['kind']}{where})"
    sentence = isinstance(error, CredSSPError) or (type(error) is ValueError and text)
    return shown(text) if sentence else f"{type(error).__name__}: {shown(text)}"


def _load(der: bytes) -> x509.Certificate:
    number = front(der).serial_number
    if number[:1] >= b"\x80" or not any(number):
        # The library would read it, warn on standard error, and refuse it in a future version.
        raise ValueError("its serial number is not positive (RFC 5280 4.1.2.2)")
    return x509.load_der_x509_certificate(der)


def shown(text: str) -> str:
    """Return a stranger's text in a form fit for an error: short, on one line, without control characters."""
    if len(text) > _LONGEST_TEXT:
        text = f"{text[:_LONGEST_TEXT]}..."
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text])


def shown_name(read: Callable[[], x509.Name]) -> str:
    """Return a distinguished name in a form fit for an error."""
    try:
        return shown(read().rfc4514_string()) or "an empty name"
    except Exception:  # noqa: BLE001 - an unreadable name must not replace the error that shows it
        return "a name that cannot be read"
