"""KERB_TICKET_LOGON: as FreeRDP lays it out, and what is refused."""

import struct

import pytest
from vectors.load import captures

from acredssp.errors import RemoteProtocolError
from acredssp.secret import SecretBytes
from acredssp.wire import ts_credentials
from acredssp.wire.ticket_logon import KerbTicketLogon

LOGON = KerbTicketLogon(b"service", SecretBytes(b"granting"))


def test_a_recorded_one_is_read_and_made_again():
    (recording,) = [capture for capture in captures() if capture["label"] == "freerdp3.10-krb5-remoteguard"]
    data = ts_credentials.decode(bytes.fromhex(recording["ts_credentials_plain"])).logon_cred.cred_buffer
    logon = KerbTicketLogon.decode(data)
    assert logon.service_ticket[:1] == b"\x61"
    assert logon.ticket_granting_ticket[:1] == b"\x76"
    assert logon.encode() == data


def test_it_comes_back_as_it_went():
    assert KerbTicketLogon.decode(LOGON.encode()) == LOGON
    assert "service" not in repr(LOGON)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:31],
        lambda data: data[:-1],
        lambda data: b"\x09" + data[1:],
        lambda data: data[:8] + struct.pack("<I", 0) + data[12:],
        lambda data: data[:8] + struct.pack("<I", 0xFFFFFFFF) + data[12:],
        lambda data: data[:16] + struct.pack("<Q", 0) + data[24:],
        lambda data: data[:16] + struct.pack("<Q", 2**64 - 1) + data[24:],
        lambda data: data[:24] + struct.pack("<Q", 100) + data[32:],
    ],
)
def test_what_lies_outside_is_refused(change):
    with pytest.raises(RemoteProtocolError):
        KerbTicketLogon.decode(change(bytes(LOGON.encode())))
