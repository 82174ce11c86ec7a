"""Packed logons against ctypes, which lays them out as a 64-bit process does."""

import ctypes

import pytest

from acredssp.errors import LocalProtocolError
from acredssp.sspi import KERB_CERTIFICATE_LOGON, KERB_INTERACTIVE_LOGON, SecurityStatus, unpack_credentials
from acredssp.sspi.kerb import pack_credentials
from acredssp.wire.ts_credentials import (
    TSCspDataDetail,
    TSPasswordCreds,
    TSRemoteGuardCreds,
    TSRemoteGuardPackageCred,
    TSSmartCardCreds,
    UnicodeString,
)

U16, U32, U64 = ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64


class Text(ctypes.Structure):
    _fields_ = [("Length", U16), ("MaximumLength", U16), ("Buffer", U64)]


class Interactive(ctypes.Structure):
    _fields_ = [("MessageType", U32), ("Domain", Text), ("User", Text), ("Password", Text)]


class Certificate(ctypes.Structure):
    _fields_ = [
        ("MessageType", U32), ("Domain", Text), ("User", Text), ("Pin", Text),
        ("Flags", U32), ("CspDataLength", U32), ("CspData", U64),
    ]  # fmt: skip


class CspInfo(ctypes.Structure):
    _fields_ = [
        ("dwCspInfoLen", U32), ("MessageType", U32), ("SpaceHolderForWow64", U64), ("flags", U32), ("KeySpec", U32),
        ("nCardNameOffset", U32), ("nReaderNameOffset", U32), ("nContainerNameOffset", U32), ("nCSPNameOffset", U32),
    ]  # fmt: skip


LOGONS = [
    KERB_INTERACTIVE_LOGON("CONTOSO", "alice", "Passw0rd!"),
    KERB_INTERACTIVE_LOGON(),
    KERB_INTERACTIVE_LOGON("", "bob@contoso.com", "pässwörd \N{KEY}"),
    KERB_CERTIFICATE_LOGON("CONTOSO", "alice", "123456", 1, b"csp data"),
    KERB_CERTIFICATE_LOGON(),
]


def text_at(packed, text):
    assert text.MaximumLength == text.Length
    return packed[text.Buffer : text.Buffer + text.Length].decode("utf-16-le")


def test_a_password_logon_is_laid_out_as_in_c():
    packed = KERB_INTERACTIVE_LOGON("CONTOSO", "alice", "Passw0rd!").pack()
    front = Interactive.from_buffer_copy(packed)
    assert front.MessageType == 2
    assert [text_at(packed, text) for text in (front.Domain, front.User, front.Password)] == [
        "CONTOSO",
        "alice",
        "Passw0rd!",
    ]
    assert front.Domain.Buffer == ctypes.sizeof(Interactive)
    assert len(packed) == ctypes.sizeof(Interactive) + 2 * len("CONTOSOalicePassw0rd!")


def test_smart_card_credentials_are_laid_out_as_in_c():
    detail = TSCspDataDetail(1, UnicodeString("card"), None, UnicodeString("key \N{KEY}"), UnicodeString("provider"))
    credentials = TSSmartCardCreds(UnicodeString("1234"), detail, UnicodeString("alice"), UnicodeString("CONTOSO"))
    packed = pack_credentials(credentials)
    front = Certificate.from_buffer_copy(packed)
    assert front.MessageType == 13
    assert [text_at(packed, text) for text in (front.Domain, front.User, front.Pin)] == ["CONTOSO", "alice", "1234"]
    csp_data = packed[front.CspData : front.CspData + front.CspDataLength]
    assert len(csp_data) == front.CspDataLength
    info = CspInfo.from_buffer_copy(csp_data)
    assert (info.dwCspInfoLen, info.MessageType, info.KeySpec) == (len(csp_data), 1, 1)
    names = csp_data[ctypes.sizeof(CspInfo) :]
    offsets = (info.nCardNameOffset, info.nReaderNameOffset, info.nContainerNameOffset, info.nCSPNameOffset)
    found = [names[2 * offset :].decode("utf-16-le").partition("\0")[0] for offset in offsets]
    assert found == ["card", "", "key \N{KEY}", "provider"]


def test_a_password_logon_of_c_is_read():
    texts = [text.encode("utf-16-le") for text in ("Passw0rd!", "alice", "CONTOSO")]  # in any order
    offset, fields = ctypes.sizeof(Interactive), []
    for text in texts:
        fields.append(Text(len(text), len(text) + 2, offset))
        offset += len(text)
    password, user, domain = fields
    packed = bytes(Interactive(2, domain, user, password)) + b"".join(texts)
    assert unpack_credentials(bytearray(packed)) == KERB_INTERACTIVE_LOGON("CONTOSO", "alice", "Passw0rd!")


@pytest.mark.parametrize("logon", LOGONS)
def test_what_is_packed_unpacks_to_the_same(logon):
    assert unpack_credentials(logon.pack()) == logon


def test_delegated_passwords_are_packed_as_a_password_logon():
    packed = pack_credentials(TSPasswordCreds.of("CONTOSO", "alice", "Passw0rd!"))
    assert unpack_credentials(packed) == KERB_INTERACTIVE_LOGON("CONTOSO", "alice", "Passw0rd!")


def test_tickets_have_no_packed_form():
    credentials = TSRemoteGuardCreds(TSRemoteGuardPackageCred(UnicodeString("Kerberos"), b"ticket"))
    with pytest.raises(LocalProtocolError) as caught:
        pack_credentials(credentials)
    assert caught.value.security_status is SecurityStatus.SEC_E_CANNOT_PACK


def test_a_text_too_long_for_its_length_is_refused():
    KERB_INTERACTIVE_LOGON(Password="x" * 32_767).pack()
    with pytest.raises(LocalProtocolError) as caught:
        KERB_INTERACTIVE_LOGON(Password="x" * 32_768).pack()
    assert caught.value.security_status is SecurityStatus.SEC_E_CANNOT_PACK


@pytest.mark.parametrize("logon", [LOGONS[0], LOGONS[3]])
def test_every_truncation_is_refused(logon):
    packed = logon.pack()
    for length in range(len(packed)):
        with pytest.raises(LocalProtocolError) as caught:
            unpack_credentials(packed[:length])
        assert caught.value.security_status is SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS


@pytest.mark.parametrize("message_type", [0, 1, 3, 6, 7, 14, 2**32 - 1])
def test_logons_of_other_types_are_refused(message_type):
    packed = message_type.to_bytes(4, "little") + KERB_INTERACTIVE_LOGON().pack()[4:]
    with pytest.raises(LocalProtocolError, match=f"expected MessageType 2, got {message_type}"):
        unpack_credentials(packed)


@pytest.mark.parametrize("offset", [2**64 - 1, 2**63, 10_000])
def test_texts_outside_are_refused(offset):
    outside = Text(8, 8, offset)
    with pytest.raises(LocalProtocolError, match="lie outside"):
        unpack_credentials(bytes(Interactive(2, Text(), Text(), outside)))
