"""The preconnection PDU: what [MS-RDPEPS] says, written and read, and everything else refused."""

import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectors import hostile

from acredssp.errors import LocalProtocolError, RemoteProtocolError
from acredssp.wire import preconnection
from acredssp.wire.framing import FrameSize
from acredssp.wire.preconnection import PreconnectionPDU, frame_size

HYPER_V = "BA1B6DBD-89AC-4630-A737-C4BCC3BB99FB;EnhancedMode=1"
WRITTEN = {
    # the specification's own examples
    bytes.fromhex("10000000000000000100000" + "0eb99c6ee"): PreconnectionPDU(id=0xEEC699EB),
    bytes.fromhex("2000000000000000020000000000000007005400650073007400" + "56004d000000"): PreconnectionPDU(
        blob="TestVM"
    ),
    bytes.fromhex("7a0000000000000002000000000000003400") + f"{HYPER_V}\0".encode("utf-16-le"): PreconnectionPDU(
        blob=HYPER_V
    ),
    bytes.fromhex("10000000000000000100000000000000"): PreconnectionPDU(),
    bytes.fromhex("180000000000000002000000ffffffff03003dd800de0000"): PreconnectionPDU(
        id=0xFFFFFFFF, blob="\U0001f600"
    ),
}
ALSO_READ = {
    bytes.fromhex("10000000ffffffff0100000001000000"): PreconnectionPDU(id=1),  # flags are ignored
    bytes.fromhex("1400000000000000020000000000000001004100"): PreconnectionPDU(blob="A"),  # no NUL
    bytes.fromhex("1400000000000000020000000000000001000000"): PreconnectionPDU(),
    # FreeRDP 3.10 with an id alone and FreeRDP 2.11 with two NULs behind every blob
    bytes.fromhex("120000000000000002000000d20400000000"): PreconnectionPDU(id=1234),
    bytes.fromhex("1800000000000000020000000000000003004100" + "00000000"): PreconnectionPDU(blob="A"),
}
READ = WRITTEN | ALSO_READ
rows = pytest.mark.parametrize(("data", "value"), READ.items())


def pdu(body=b"", size=None, version=2, number=0):
    numbers = (16 + len(body) if size is None else size, 0, version, number)
    return b"".join(number.to_bytes(4, "little") for number in numbers) + body


def text(*units):
    return b"".join(unit.to_bytes(2, "little") for unit in (len(units), *units))


@pytest.mark.parametrize(("data", "value"), WRITTEN.items())
@pytest.mark.requirement("rdp.preconnection")
def test_pdus_are_written(data, value):
    assert value.encode() == data


@rows
@pytest.mark.parametrize("behind", [b"", b"\x03\0\0\x13\x0e\xe0", b"\0"])
@pytest.mark.requirement("rdp.preconnection")
def test_pdus_are_read_and_nothing_behind_them(data, value, behind):
    stream, got = io.BytesIO(data + behind), b""
    while missing := frame_size(got).missing:
        got += stream.read(missing)
    assert got == data
    assert PreconnectionPDU.decode(got) == value
    assert frame_size(data + behind) == FrameSize(len(data), 0)


@rows
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_no_prefix_is_refused_or_taken_for_whole(data, value, kind):
    for cut in range(len(data)):
        total, missing = frame_size(kind(data[:cut]))
        assert (total, missing) == ((0, 4 - cut) if cut < 4 else (len(data), len(data) - cut))
        assert frame_size(kind(b"\xff" + data[:cut]), 1) == (total, missing)
        with pytest.raises(RemoteProtocolError):
            PreconnectionPDU.decode(data[:cut])
    with pytest.raises(RemoteProtocolError):
        PreconnectionPDU.decode(data + b"\0")


@given(
    st.builds(
        PreconnectionPDU,
        id=st.integers(0, 0xFFFFFFFF),
        blob=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=300),
    )
)
def test_any_pdu_survives_the_round_trip(value):
    data = value.encode()
    assert frame_size(data) == (len(data), 0)
    assert PreconnectionPDU.decode(data) == value


def test_the_blob_stays_out_of_reprs():
    assert "token" not in repr(PreconnectionPDU(id=7, blob="token"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pdu(version=0), "expected version 1 or 2 at byte 8, got 0"),
        (pdu(version=3), "expected version 1 or 2 at byte 8, got 3"),
        (pdu(text(), version=1), "expected 16 bytes of version 1, got 18"),
        (pdu(version=2), "expected at least 18 bytes of version 2, got 16"),
        (pdu(text(0x41) + b"\0\0"), "expected 20 bytes for 1 characters at byte 16, got 22"),
        (pdu(b"\2\0\x41\0"), "expected 22 bytes for 2 characters at byte 16, got 20"),
        (pdu(b"\xff\xff\x41\0"), "expected 131088 bytes for 65535 characters"),
        (pdu(text(0xD800, 0)), "expected UTF-16 at byte 18"),
        (pdu(text(0xDC00, 0xD800, 0)), "expected UTF-16 at byte 18"),
        (pdu(text(0x41, 0, 0x42, 0)), "expected NULs at the end of the blob only"),
        (pdu(text(0, 0x41)), "expected NULs at the end of the blob only"),
    ],
)
def test_malformed_pdus_are_refused(data, message):
    with pytest.raises(RemoteProtocolError, match=message):
        PreconnectionPDU.decode(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pdu(size=0), "expected 16 to 16384 bytes, got 0"),
        (pdu(size=14), "expected 16 to 16384 bytes, got 14"),
        (pdu(b"\0", size=17), "got 0x11"),
        (b"\x16\x03\x01\x02\0\x01", "got a TLS handshake"),
        (b"\x03\0\0\x13", "got RDP's negotiation"),
        (b"GET / HTTP/1.1\r\n", "got an HTTP request"),
        (b"PROXY TCP4 1.2.3.4", "got a PROXY header"),
        (b"\r\n\r\n\0\r\nQUIT\n", "got a PROXY header"),
    ],
)
def test_what_is_no_preconnection_pdu_is_refused_by_its_beginning(data, message):
    with pytest.raises(RemoteProtocolError, match=message):
        frame_size(data)


def test_a_pdu_has_at_most_16_kib():
    longest = PreconnectionPDU(blob="x" * ((preconnection.MAX_SIZE - 20) // 2))
    assert len(longest.encode()) == 16384
    assert PreconnectionPDU.decode(longest.encode()) == longest
    assert frame_size(longest.encode()[:4]) == FrameSize(16384, 16380)
    with pytest.raises(RemoteProtocolError, match="expected 16 to 16384 bytes, got 16386"):
        frame_size((16386).to_bytes(4, "little"))
    with pytest.raises(LocalProtocolError, match="at most 16384 bytes, got 16386: shorten the blob"):
        PreconnectionPDU(blob=longest.blob + "x").encode()


@rows
def test_spoilt_pdus_raise_only_our_errors(data, value):
    for spoil in (hostile.truncations, hostile.flips, hostile.replacements, hostile.deletions, hostile.insertions):
        for spoilt in spoil(data):
            for read in (frame_size, PreconnectionPDU.decode):
                with contextlib.suppress(RemoteProtocolError):
                    read(spoilt)


@given(st.sampled_from([b"", b"\x20\0\0\0\0\0\0\0\2\0\0\0"]), st.binary(max_size=60))
def test_any_bytes_raise_only_our_errors(beginning, rest):
    for read in (frame_size, PreconnectionPDU.decode):
        with contextlib.suppress(RemoteProtocolError):
            read(beginning + rest)


@pytest.mark.parametrize(
    "value",
    [
        PreconnectionPDU(id=-1),
        PreconnectionPDU(id=1 << 32),
        PreconnectionPDU(blob="a\0b"),
        PreconnectionPDU(blob="\0"),
        PreconnectionPDU(blob="\ud800"),
    ],
    ids=str,
)
def test_values_that_cannot_be_written_are_the_callers_mistake(value):
    with pytest.raises(LocalProtocolError, match="preconnection"):
        value.encode()
