"""What another protocol, or another carriage, is called where it comes in place of what is due."""

import pytest
from support.protocols import EVERYWHERE

from acredssp.errors import RemoteProtocolError
from acredssp.wire import first_bytes, tls_record, x224

CLIENT_HELLO = bytes.fromhex("16030100c4010000c00303")
CONNECTION_REQUEST = bytes.fromhex("0300000b06e00000000000")


def of_tls(data):
    tls_record.record_end(data)


def of_rdp(data):
    x224.frame_size(data)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(
    ("read", "data", "what", "hint"),
    [(read, *row) for row in EVERYWHERE for read in (of_tls, of_rdp)]
    + [
        (of_rdp, CLIENT_HELLO, "a TLS handshake", "--carriage tls"),
        (of_rdp, CLIENT_HELLO[:1], "a TLS handshake", "carriage=TLS()"),
        (of_rdp, bytes.fromhex("15030100020246"), "a TLS alert", "--carriage tls"),
        (of_tls, CONNECTION_REQUEST, "RDP's negotiation", "--carriage rdp"),
        (of_tls, CONNECTION_REQUEST[:1], "RDP's negotiation", "carriage=RDP()"),
    ],
)
def test_another_protocol_is_named_and_its_cause_asked_for(read, data, what, hint, kind):
    with pytest.raises(RemoteProtocolError) as raised:
        read(kind(data))
    assert what in raised.value.message
    assert hint in raised.value.hint


@pytest.mark.parametrize("data", [b"\0", b"S", b"\0\0\0\0SMB!", b"GETTING", bytes(32), b"PROXYX"])
def test_what_nobody_knows_has_its_number_and_no_hint(data):
    for read, said in ((of_tls, "type 20 to 23"), (of_rdp, "version 3")):
        with pytest.raises(RemoteProtocolError, match=f"{said}, got.* {data[0]}") as raised:
            read(data)
        assert raised.value.hint is None


def test_what_comes_first_is_looked_at_where_it_begins():
    error = first_bytes.refusal(b"GET SSH-2.0", 4, "x", "y")
    assert error.message == "expected x, got SSH"


@pytest.mark.parametrize(("data", "what", "hint"), EVERYWHERE)
def test_a_beginning_is_undecided_until_it_has_its_name(data, what, hint):
    undecided = [first_bytes.undecided(data[:size]) for size in range(1, len(data) + 1)]
    assert undecided == sorted(undecided, reverse=True)
    assert undecided.count(True) < 16, "no more bytes than are looked at"
    named = data[: undecided.count(True) + 1]
    assert (what in str(first_bytes.refusal(named, 0, "x", "y")), not hint) == (True, False)


@pytest.mark.parametrize(
    "data", [b"Y", b"\x81", b"XY", b"GETTING", b"PROXYX", b"\0\0\0\0S", b"\0\0\0\0\xffX", bytes(8), b"\r\n\r\nX"]
)
def test_what_nobody_knows_is_decided(data):
    assert not first_bytes.undecided(data)
