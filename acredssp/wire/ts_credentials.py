"""TSCredentials, the plaintext of authInfo ([MS-CSSP] 2.2.1.2), between DER and frozen values.

    TSCredentials    ::= SEQUENCE { credType [0] INTEGER, credentials [1] OCTET STRING }

    TSPasswordCreds  ::= SEQUENCE { domainName [0], userName [1], password [2] OCTET STRING }   -- credType 1

    TSSmartCardCreds ::= SEQUENCE { pin [0] OCTET STRING, cspData [1] TSCspDataDetail,          -- credType 2
                                    userHint [2], domainHint [3] OCTET STRING OPTIONAL }
    TSCspDataDetail  ::= SEQUENCE { keySpec [0] INTEGER, cardName [1], readerName [2], containerName [3],
                                    cspName [4] OCTET STRING OPTIONAL }

    TSRemoteGuardCreds       ::= SEQUENCE { logonCred [0] TSRemoteGuardPackageCred,             -- credType 6
        supplementalCreds [1] SEQUENCE OF TSRemoteGuardPackageCred OPTIONAL }
    TSRemoteGuardPackageCred ::= SEQUENCE { packageName [0], credBuffer [1] OCTET STRING }

Everything here is secret or nearly so: no repr shows the content of a field, and no error text quotes it.
"""

import codecs
import dataclasses
from collections.abc import Callable
from typing import Final, Self, TypeAlias, assert_never

from acredssp.arguments import expect
from acredssp.credentials import DelegatedKind, Password, SmartCard
from acredssp.errors import RemoteProtocolError
from acredssp.secret import SecretBytes
from acredssp.status import SecurityStatus
from acredssp.wire import der

__all__ = [
    "SecretText",
    "TSCredentials",
    "TSCspDataDetail",
    "TSPasswordCreds",
    "TSRemoteGuardCreds",
    "TSRemoteGuardPackageCred",
    "TSSmartCardCreds",
    "UnicodeString",
    "decode",
    "encode",
]

_PASSWORD: Final = 1
_SMART_CARD: Final = 2
_REMOTE_GUARD: Final = 6

_MESSAGE: Final = der.Nesting(der.SEQUENCE)
_CREDENTIALS: Final = der.Nesting(der.CONTEXT + 1, der.OCTET_STRING, der.SEQUENCE)
_WHOLE: Final = {
    cred_type: der.Nesting(
        der.SEQUENCE, der.encode_integer(0, cred_type), der.CONTEXT + 1, der.OCTET_STRING, der.SEQUENCE
    )
    for cred_type in (_PASSWORD, _SMART_CARD, _REMOTE_GUARD)
}
"""The elements of TSCredentials around the fields of its credentials, by credType."""

_MAX_SUPPLEMENTAL: Final = 64
"""How many supplemental packages are read. Windows and FreeRDP send one, for NTLM."""


class UnicodeString(str):
    """The text of a text field, which is UTF-16LE without terminator on the wire ([MS-CSSP] 2.2.1.2.1).

    It compares, prints and hashes as the text. Terminating NULs (rdesktop sends them) and an odd last byte do not
    belong to the text, but stay in `wire`. Reading never fails, whatever the bytes are. The repr shows the length
    alone, since the name of a delegated user may be confidential.

    Args:
        value: The text, or the bytes on the wire.

    Attributes:
        wire: The bytes as received, or as they will be sent.
    """

    __slots__ = ("wire",)

    wire: bytes

    def __new__(cls, value: str | bytes | bytearray = b"") -> Self:
        """Make the text from text or from the bytes on the wire."""
        if not isinstance(value, str):
            wire = bytes(value)
        else:
            wire = value.wire if isinstance(value, UnicodeString) else value.encode("utf-16-le", "surrogatepass")
        even = wire[:-1] if len(wire) & 1 else wire
        text = str.__new__(cls, codecs.utf_16_le_decode(even, "surrogatepass", True)[0].rstrip("\0"))
        text.wire = wire
        return text

    def __repr__(self) -> str:
        """The length alone, never the text."""
        return f"<{len(self.wire)} bytes>"


_EMPTY: Final = UnicodeString()


class SecretText(SecretBytes):
    """A text field that is a secret: a password or a PIN.

    Args:
        value: The text, or the bytes on the wire.
    """

    __slots__ = ()

    def __init__(self, value: str | bytes | bytearray = b"") -> None:
        if isinstance(value, str):
            value = value.wire if isinstance(value, UnicodeString) else value.encode("utf-16-le", "surrogatepass")
        bytearray.__init__(self, value)

    def reveal(self) -> str:
        """The text, decoded as `UnicodeString` decodes it."""
        return str(UnicodeString(self))


@dataclasses.dataclass(frozen=True, slots=True)
class TSPasswordCreds:
    """A password and the account it is for ([MS-CSSP] 2.2.1.2.1). Three empty strings delegate nothing.

    Attributes:
        domain_name: The user's domain; empty for none.
        user_name: The user's name.
        password: The password.
    """

    domain_name: UnicodeString = _EMPTY
    user_name: UnicodeString = _EMPTY
    password: SecretText = dataclasses.field(default_factory=SecretText, repr=False)

    def __post_init__(self) -> None:
        if not (isinstance(self.domain_name, UnicodeString) and isinstance(self.user_name, UnicodeString)):
            _keep_text(self, "domain_name", "user_name")
        if not isinstance(self.password, SecretText):
            object.__setattr__(self, "password", SecretText(self.password))

    def as_password(self, known: Password | None = None) -> Password:
        """The credentials as a `Password`: to log on elsewhere, as a proxy does, or to delegate them again.

        Args:
            known: A password that this one may be, such as the one that the user has logged on by: its hash is then
                taken over. To hash a password takes as long as a tenth of a logon.

        Raises:
            ValueError: Nothing was delegated, or the user name contains a domain and `domain_name` is another one.
        """
        if self.kind is DelegatedKind.NOTHING:
            raise ValueError("nothing was delegated: there is no password")
        password, user, domain = self.password.reveal(), str(self.user_name), str(self.domain_name)
        if known is not None and known.password == password:
            return known.of_account(user, domain)
        return Password(password, user, domain)

    @classmethod
    def of(cls, domain_name: str = "", user_name: str = "", password: str = "") -> Self:
        """Make the credentials from text."""
        return cls(UnicodeString(domain_name), UnicodeString(user_name), SecretText(password))

    @property
    def kind(self) -> DelegatedKind:
        """`password`, or `nothing` for three empty strings; a string of NULs alone counts as empty."""
        # The test reads bytes, so that no text of the password is made.
        named = any(self.domain_name.wire) or any(self.user_name.wire)
        return DelegatedKind.PASSWORD if named or any(self.password) else DelegatedKind.NOTHING

    def zero(self) -> None:
        """Overwrite the password with zeros."""
        self.password.zero()


@dataclasses.dataclass(frozen=True, slots=True)
class TSCspDataDetail:
    """Where to find a smart card's key ([MS-CSSP] 2.2.1.2.2.1).

    Attributes:
        key_spec: 1 is AT_KEYEXCHANGE, 2 is AT_SIGNATURE.
        card_name: The card's name.
        reader_name: The reader's name.
        container_name: The name of the key's container on the card.
        csp_name: The name of the cryptographic service provider.
    """

    key_spec: int
    card_name: UnicodeString | None = None
    reader_name: UnicodeString | None = None
    container_name: UnicodeString | None = None
    csp_name: UnicodeString | None = None

    def __post_init__(self) -> None:
        _keep_text(self, "card_name", "reader_name", "container_name", "csp_name")


@dataclasses.dataclass(frozen=True, slots=True)
class TSSmartCardCreds:
    """A smart card's PIN and key ([MS-CSSP] 2.2.1.2.2).

    Attributes:
        pin: The card's PIN.
        csp_data: Where the key lies.
        user_hint: A hint for who logs on.
        domain_hint: A hint for the domain.
    """

    pin: SecretText = dataclasses.field(repr=False)
    csp_data: TSCspDataDetail
    user_hint: UnicodeString | None = None
    domain_hint: UnicodeString | None = None

    def __post_init__(self) -> None:
        _keep_text(self, "user_hint", "domain_hint")
        if not isinstance(self.pin, SecretText):
            object.__setattr__(self, "pin", SecretText(self.pin))

    def as_smart_card(self) -> SmartCard:
        """The credentials as the `SmartCard` that a client delegates."""
        detail = self.csp_data
        return SmartCard(
            pin=self.pin.reveal(),
            user=str(self.user_hint or ""),
            domain=str(self.domain_hint or ""),
            card_name=str(detail.card_name or ""),
            reader_name=str(detail.reader_name or ""),
            container_name=str(detail.container_name or ""),
            csp_name=str(detail.csp_name or ""),
            key_spec=detail.key_spec,
        )

    @property
    def kind(self) -> DelegatedKind:
        """`smartcard`."""
        return DelegatedKind.SMART_CARD

    def zero(self) -> None:
        """Overwrite the PIN with zeros."""
        self.pin.zero()


@dataclasses.dataclass(frozen=True, slots=True)
class TSRemoteGuardPackageCred:
    """The credentials of one security package ([MS-CSSP] 2.2.1.2.3.1).

    Attributes:
        package_name: `Kerberos` or `NTLM`.
        cred_buffer: The package's own structure: KERB_TICKET_LOGON or NTLM_REMOTE_SUPPLEMENTAL_CREDENTIAL.
    """

    package_name: UnicodeString
    cred_buffer: SecretBytes = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        _keep_text(self, "package_name")
        if not isinstance(self.cred_buffer, SecretBytes):
            object.__setattr__(self, "cred_buffer", SecretBytes(self.cred_buffer))


@dataclasses.dataclass(frozen=True, slots=True)
class TSRemoteGuardCreds:
    """Remote Credential Guard: tickets in place of a password ([MS-CSSP] 2.2.1.2.3).

    Attributes:
        logon_cred: What the user logs on with: a Kerberos ticket.
        supplemental_creds: None where the field is absent, which differs on the wire from a list without elements.
    """

    logon_cred: TSRemoteGuardPackageCred
    supplemental_creds: tuple[TSRemoteGuardPackageCred, ...] | None = None

    @property
    def kind(self) -> DelegatedKind:
        """`remote_guard`."""
        return DelegatedKind.REMOTE_GUARD

    def zero(self) -> None:
        """Overwrite the buffers of all packages with zeros."""
        for package in (self.logon_cred, *(self.supplemental_creds or ())):
            package.cred_buffer.zero()


def _keep_text(credentials: object, *names: str) -> None:
    """Turn text fields that were given as plain text or as bytes into `UnicodeString`."""
    for name in names:
        value = getattr(credentials, name)
        if value is not None and not isinstance(value, UnicodeString):
            expect(name, value, str, bytes)
            object.__setattr__(credentials, name, UnicodeString(value))


TSCredentials: TypeAlias = TSPasswordCreds | TSSmartCardCreds | TSRemoteGuardCreds


def encode(credentials: TSCredentials) -> bytes:
    """The DER of a TSCredentials, which is the plaintext of authInfo. The class decides credType."""
    match credentials:
        case TSPasswordCreds():
            return _WHOLE[_PASSWORD].encode(_encode_password(credentials))
        case TSSmartCardCreds():
            return _WHOLE[_SMART_CARD].encode(_encode_smart_card(credentials))
        case TSRemoteGuardCreds():
            return _WHOLE[_REMOTE_GUARD].encode(_encode_remote_guard(credentials))
        case _:
            assert_never(credentials)


def decode(data: bytes) -> TSCredentials:
    """The credentials in `data`, the plaintext of authInfo.

    Raises:
        RemoteProtocolError: `data` is not a TSCredentials. `security_status` is SEC_E_UNKNOWN_CREDENTIALS where
            credType is not 1, 2 or 6.
    """
    end = len(data)
    offset, stop = _MESSAGE.bounds(data, 0, end, "TSCredentials")
    der.expect_end(stop, end, "TSCredentials")
    cred_type, offset = der.integer(data, offset, end, 0, "credType")
    decode_body = _DECODERS.get(cred_type)
    if decode_body is None:
        raise RemoteProtocolError(
            f"credType: expected 1, 2 or 6, got {cred_type}",
            security_status=SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS,
        )
    offset, stop = _CREDENTIALS.bounds(data, offset, end, "credentials")
    der.expect_end(stop, end, "TSCredentials")
    return decode_body(data, offset, end)


def _encode_password(credentials: TSPasswordCreds) -> bytes:
    return (
        der.encode_octets(0, credentials.domain_name.wire)
        + der.encode_octets(1, credentials.user_name.wire)
        + der.encode_octets(2, credentials.password)
    )


def _decode_password(data: bytes, offset: int, end: int) -> TSPasswordCreds:
    start, offset = der.OCTETS[0].bounds(data, offset, end, "domainName")
    domain_name = data[start:offset]
    start, offset = der.OCTETS[1].bounds(data, offset, end, "userName")
    user_name = data[start:offset]
    start, offset = der.OCTETS[2].bounds(data, offset, end, "password")
    password = data[start:offset]
    der.expect_end(offset, end, "TSPasswordCreds")
    return TSPasswordCreds(UnicodeString(domain_name), UnicodeString(user_name), SecretText(password))


def _encode_smart_card(credentials: TSSmartCardCreds) -> bytes:
    detail = credentials.csp_data
    csp_data = der.encode_integer(0, detail.key_spec) + _encode_optional(
        1, detail.card_name, detail.reader_name, detail.container_name, detail.csp_name
    )
    return (
        der.encode_octets(0, credentials.pin)
        + der.encode(der.CONTEXT + 1, der.encode(der.SEQUENCE, csp_data))
        + _encode_optional(2, credentials.user_hint, credentials.domain_hint)
    )


def _decode_smart_card(data: bytes, offset: int, end: int) -> TSSmartCardCreds:
    start, offset = der.OCTETS[0].bounds(data, offset, end, "pin")
    pin = data[start:offset]
    offset, stop = der.explicit(data, offset, end, 1, der.SEQUENCE, "cspData")
    csp_data = _decode_csp_data(data, offset, stop)
    user_hint, offset = _optional_text(data, stop, end, 2, "userHint")
    domain_hint, offset = _optional_text(data, offset, end, 3, "domainHint")
    der.expect_end(offset, end, "TSSmartCardCreds")
    return TSSmartCardCreds(SecretText(pin), csp_data, user_hint, domain_hint)


def _decode_csp_data(data: bytes, offset: int, end: int) -> TSCspDataDetail:
    key_spec, offset = der.integer(data, offset, end, 0, "keySpec")
    card_name, offset = _optional_text(data, offset, end, 1, "cardName")
    reader_name, offset = _optional_text(data, offset, end, 2, "readerName")
    container_name, offset = _optional_text(data, offset, end, 3, "containerName")
    csp_name, offset = _optional_text(data, offset, end, 4, "cspName")
    der.expect_end(offset, end, "cspData")
    return TSCspDataDetail(key_spec, card_name, reader_name, container_name, csp_name)


def _encode_remote_guard(credentials: TSRemoteGuardCreds) -> bytes:
    body = der.encode(der.CONTEXT, _encode_package(credentials.logon_cred))
    if credentials.supplemental_creds is not None:
        packages = b"".join(map(_encode_package, credentials.supplemental_creds))
        body += der.encode(der.CONTEXT + 1, der.encode(der.SEQUENCE, packages))
    return body


def _encode_package(package: TSRemoteGuardPackageCred) -> bytes:
    return der.encode(
        der.SEQUENCE, der.encode_octets(0, package.package_name.wire) + der.encode_octets(1, package.cred_buffer)
    )


def _decode_remote_guard(data: bytes, offset: int, end: int) -> TSRemoteGuardCreds:
    offset, stop = der.explicit(data, offset, end, 0, der.SEQUENCE, "logonCred")
    logon_cred = _decode_package(data, offset, stop)
    if stop == end:
        return TSRemoteGuardCreds(logon_cred)
    offset, stop = der.explicit(data, stop, end, 1, der.SEQUENCE, "supplementalCreds")
    der.expect_end(stop, end, "TSRemoteGuardCreds")
    supplemental_creds: list[TSRemoteGuardPackageCred] = []
    while offset < stop:
        if len(supplemental_creds) == _MAX_SUPPLEMENTAL:
            raise RemoteProtocolError(f"supplementalCreds: expected at most {_MAX_SUPPLEMENTAL} packages, got more")
        start, offset = der.element(data, offset, stop, der.SEQUENCE, "supplementalCreds")
        supplemental_creds.append(_decode_package(data, start, offset))
    return TSRemoteGuardCreds(logon_cred, tuple(supplemental_creds))


def _decode_package(data: bytes, offset: int, end: int) -> TSRemoteGuardPackageCred:
    start, offset = der.OCTETS[0].bounds(data, offset, end, "packageName")
    package_name = data[start:offset]
    start, offset = der.OCTETS[1].bounds(data, offset, end, "credBuffer")
    cred_buffer = data[start:offset]
    der.expect_end(offset, end, "TSRemoteGuardPackageCred")
    return TSRemoteGuardPackageCred(UnicodeString(package_name), SecretBytes(cred_buffer))


def _encode_optional(first: int, *texts: UnicodeString | None) -> bytes:
    """Consecutive optional text fields from tag [first] on. None stands for an absent field."""
    numbered = enumerate(texts, first)
    return b"".join(der.encode_octets(number, text.wire) for number, text in numbered if text is not None)


def _optional_text(data: bytes, offset: int, end: int, number: int, field: str) -> tuple[UnicodeString | None, int]:
    """The text inside the explicit tag [number], or None where another tag or the end is; and where the next begins."""
    if offset == end or data[offset] != der.CONTEXT + number:
        return None, offset
    start, stop = der.OCTETS[number].bounds(data, offset, end, field)
    return UnicodeString(data[start:stop]), stop


_DECODERS: Final[dict[int, Callable[[bytes, int, int], TSCredentials]]] = {
    _PASSWORD: _decode_password,
    _SMART_CARD: _decode_smart_card,
    _REMOTE_GUARD: _decode_remote_guard,
}
