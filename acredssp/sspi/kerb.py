"""Packed logon structures, which hold credentials in one buffer (SECPKG_ATTR_CREDS_2, SECBUFFER_PKG_PARAMS).

    KERB_INTERACTIVE_LOGON  MessageType (2), LogonDomainName, UserName, Password
    KERB_CERTIFICATE_LOGON  MessageType (13), DomainName, UserName, Pin, Flags, CspDataLength, CspData
    KERB_SMARTCARD_CSP_INFO dwCspInfoLen, MessageType (1), a pointer's room, flags, KeySpec, four name offsets, names

They are packed as KerbInteractiveUnlockLogonPack does it: little-endian, in the layout of a 64-bit process. The Buffer
of each UNICODE_STRING is an offset from the start of the structure, and the texts follow the structure without a
terminator. Everything here is secret.
"""

import dataclasses
import struct
from typing import Final, Self, TypeAlias, assert_never

from acredssp.errors import LocalProtocolError
from acredssp.sspi.arguments import refusal
from acredssp.status import SecurityStatus
from acredssp.wire.ts_credentials import (
    TSCredentials,
    TSCspDataDetail,
    TSPasswordCreds,
    TSRemoteGuardCreds,
    TSSmartCardCreds,
    UnicodeString,
)

__all__ = ["KERB_CERTIFICATE_LOGON", "KERB_INTERACTIVE_LOGON", "PackedLogon", "pack_credentials", "unpack_credentials"]

_INTERACTIVE: Final = struct.Struct("<L4x HH4xQ HH4xQ HH4xQ")
_CERTIFICATE: Final = struct.Struct("<L4x HH4xQ HH4xQ HH4xQ L L Q")
_MESSAGE_TYPE: Final = struct.Struct("<L")
_CSP_INFO: Final = struct.Struct("<L L Q L L 4L")
_CSP_MESSAGE_TYPE: Final = 1

_LONGEST_TEXT: Final = 0xFFFE
"""The most bytes that a UNICODE_STRING can count."""


@dataclasses.dataclass(slots=True)
class KERB_INTERACTIVE_LOGON:
    """A password logon.

    Attributes:
        LogonDomainName: The domain; empty for none.
        UserName: The user's name.
        Password: The password.
    """

    MessageType = 2

    LogonDomainName: str = ""
    UserName: str = ""
    Password: str = dataclasses.field(default="", repr=False)

    def pack(self) -> bytes:
        """Return the structure in one buffer.

        Raises:
            LocalProtocolError: SEC_E_CANNOT_PACK: a text is longer than a UNICODE_STRING can count.
        """
        words, texts = _lay_out(_INTERACTIVE.size, self.LogonDomainName, self.UserName, self.Password)
        return _INTERACTIVE.pack(self.MessageType, *words) + texts

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview) -> Self:
        """Return the logon that `data` holds.

        Raises:
            LocalProtocolError: SEC_E_UNKNOWN_CREDENTIALS: `data` holds no such logon.
        """
        return cls(*_texts(data, _front(data, _INTERACTIVE, cls.MessageType)))


@dataclasses.dataclass(slots=True)
class KERB_CERTIFICATE_LOGON:
    """A smart card logon.

    Attributes:
        DomainName: The domain; empty for none.
        UserName: The user's name; empty for the certificate's.
        Pin: The card's PIN.
        Flags: Flags of the C structure; 0 for none.
        CspData: A KERB_SMARTCARD_CSP_INFO.
    """

    MessageType = 13

    DomainName: str = ""
    UserName: str = ""
    Pin: str = dataclasses.field(default="", repr=False)
    Flags: int = 0
    CspData: bytes = dataclasses.field(default=b"", repr=False)

    def pack(self) -> bytes:
        """Return the structure in one buffer; raise what `KERB_INTERACTIVE_LOGON.pack` raises."""
        words, texts = _lay_out(_CERTIFICATE.size, self.DomainName, self.UserName, self.Pin)
        csp_data = _CERTIFICATE.size + len(texts)
        return (
            _CERTIFICATE.pack(self.MessageType, *words, self.Flags, len(self.CspData), csp_data) + texts + self.CspData
        )

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview) -> Self:
        """Return the logon that `data` holds; raise what `KERB_INTERACTIVE_LOGON.unpack` raises."""
        *words, flags, length, offset = _front(data, _CERTIFICATE, cls.MessageType)
        domain, user, pin = _texts(data, words)
        return cls(domain, user, pin, flags, _slice(data, offset, length))


PackedLogon: TypeAlias = KERB_INTERACTIVE_LOGON | KERB_CERTIFICATE_LOGON


def pack_credentials(credentials: TSCredentials) -> bytes:
    """Return delegated credentials as SECPKG_ATTR_CREDS_2 gives them.

    Raises:
        LocalProtocolError: SEC_E_CANNOT_PACK: the credentials are tickets of Remote Credential Guard, which have no
            such form, or a text is too long.
    """
    match credentials:
        case TSPasswordCreds():
            domain, user = str(credentials.domain_name), str(credentials.user_name)
            return KERB_INTERACTIVE_LOGON(domain, user, credentials.password.reveal()).pack()
        case TSSmartCardCreds():
            return KERB_CERTIFICATE_LOGON(
                DomainName=_text(credentials.domain_hint),
                UserName=_text(credentials.user_hint),
                Pin=credentials.pin.reveal(),
                CspData=_pack_csp_info(credentials.csp_data),
            ).pack()
        case TSRemoteGuardCreds():
            raise refusal(
                "the client delegated tickets of remote credential guard, which have no packed form",
                SecurityStatus.SEC_E_CANNOT_PACK,
            )
        case _:
            assert_never(credentials)


def unpack_credentials(data: bytes | bytearray | memoryview) -> PackedLogon:
    """Return the logon in a packed buffer, by its MessageType.

    Raises:
        LocalProtocolError: SEC_E_UNKNOWN_CREDENTIALS: the buffer holds neither kind of logon.
    """
    message_type = _MESSAGE_TYPE.unpack_from(data)[0] if len(data) >= _MESSAGE_TYPE.size else None
    if message_type == KERB_CERTIFICATE_LOGON.MessageType:
        return KERB_CERTIFICATE_LOGON.unpack(data)
    return KERB_INTERACTIVE_LOGON.unpack(data)


def _pack_csp_info(detail: TSCspDataDetail) -> bytes:
    """Return a KERB_SMARTCARD_CSP_INFO: names end with a NUL, and offsets count characters from the first name."""
    names, offsets = "", []
    for name in (detail.card_name, detail.reader_name, detail.container_name, detail.csp_name):
        offsets.append(len(UnicodeString(names).wire) // 2)
        names += _text(name) + "\0"
    buffer = UnicodeString(names).wire
    total = _CSP_INFO.size + len(buffer)
    return _CSP_INFO.pack(total, _CSP_MESSAGE_TYPE, 0, 0, detail.key_spec, *offsets) + buffer


def _text(value: UnicodeString | None) -> str:
    return "" if value is None else str(value)


def _lay_out(offset: int, *values: str) -> tuple[list[int], bytes]:
    """Return the three words of each UNICODE_STRING, and the texts, which begin at `offset`."""
    words: list[int] = []
    texts = b""
    for text in [UnicodeString(value).wire for value in values]:
        if len(text) > _LONGEST_TEXT:
            raise refusal(
                f"a text is too long: expected at most {_LONGEST_TEXT} bytes, got {len(text)}",
                SecurityStatus.SEC_E_CANNOT_PACK,
            )
        words += (len(text), len(text), offset + len(texts))
        texts += text
    return words, texts


def _front(data: bytes | bytearray | memoryview, layout: struct.Struct, message_type: int) -> list[int]:
    """Return the words that follow MessageType."""
    if len(data) < layout.size:
        raise _unknown(f"expected at least {layout.size} bytes, got {len(data)}")
    found, *words = layout.unpack_from(data)
    if found != message_type:
        raise _unknown(f"expected MessageType {message_type}, got {found}")
    return words


def _texts(data: bytes | bytearray | memoryview, words: list[int]) -> list[str]:
    return [str(UnicodeString(_slice(data, words[i + 2], words[i]))) for i in range(0, 9, 3)]


def _slice(data: bytes | bytearray | memoryview, offset: int, length: int) -> bytes:
    if length and offset + length > len(data):
        raise _unknown(f"{length} bytes at offset {offset} lie outside the buffer of {len(data)} bytes")
    return bytes(data[offset : offset + length])


def _unknown(reason: str) -> LocalProtocolError:
    return refusal(f"the buffer is no packed logon: {reason}", SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS)
