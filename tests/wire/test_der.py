import contextlib
import re

import pytest
from asn1crypto import parser
from hypothesis import given
from hypothesis import strategies as st
from vectors.load import captures
from vectors.schemas import core

from acredssp.errors import LimitExceeded, RemoteProtocolError
from acredssp.status import SecurityStatus
from acredssp.wire import der
from acredssp.wire.framing import FrameSize

LIMIT = 128 * 1024


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", (0, 2)),
        ("30", (0, 1)),
        ("3000", (2, 0)),
        ("3005", (7, 5)),
        ("307f", (129, 127)),
        ("3081", (0, 1)),
        ("308180", (131, 128)),
        ("3082", (0, 2)),
        ("308201", (0, 1)),
        ("30820100", (260, 256)),
        ("3083", (0, 3)),
        ("3083010000", (65541, 65536)),
        ("3084", (0, 4)),
        ("30840000", (0, 2)),
        ("308400000001", (7, 1)),
        ("30820005aabbccddee", (9, 0)),
        ("3001aa30", (3, 0)),
    ],
)
def test_frame_size_is_exact(data, expected):
    assert der.frame_size(bytes.fromhex(data), LIMIT) == FrameSize(*expected)


@pytest.mark.parametrize("capture", captures(), ids=str)
def test_frame_size_of_every_prefix_leads_to_the_end_and_never_past_it(capture):
    for message in capture.messages:
        data = message.data
        for have in range(min(len(data), 600) + 1):
            size = der.frame_size(data[:have], LIMIT)
            assert size.total in {0, len(data)}
            assert have + size.missing <= len(data)
            assert (size.missing == 0) == (have == len(data))
            assert size.total == 0 or size.missing == len(data) - have


@pytest.mark.parametrize("capture", captures("freerdp3.10-ntlm-v*"), ids=str)
def test_feeding_exactly_what_is_missing_reads_a_message_in_two_or_three_steps(capture):
    for message in capture.messages:
        have, steps = 0, 0
        while missing := der.frame_size(message.data[:have], LIMIT).missing:
            have += missing
            steps += 1
        assert have == len(message.data)
        assert steps <= 3


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("data", ["", "30", "3081", "308180", "3002aabb"])
def test_every_buffer_type_is_measured_at_an_offset(kind, data):
    data = bytes.fromhex(data)
    assert der.frame_size(kind(b"\xff\xff\xff" + data), LIMIT, 3) == der.frame_size(data, LIMIT)


@pytest.mark.parametrize("data", ["31", "04", "05000000", "a003020106", "1603030005", "0300002b"])
def test_what_is_no_sequence_is_refused_with_its_first_byte(data):
    data = bytes.fromhex(data)
    with pytest.raises(RemoteProtocolError, match="expected tag 0x30 at byte 0") as caught:
        der.frame_size(data[:1], LIMIT)
    assert caught.value.security_status == SecurityStatus.SEC_E_INVALID_TOKEN
    with pytest.raises(RemoteProtocolError, match="expected tag 0x30 at byte 0"):
        der.frame_size(data, LIMIT)


@pytest.mark.requirement("codec.lengths")
@pytest.mark.parametrize("length", [0x80, 0x85, 0x88, 0xFF])
def test_indefinite_and_endless_lengths_are_refused_with_their_first_byte(length):
    what = "indefinite" if length == 0x80 else f"a length of {length & 0x7F} bytes"
    with pytest.raises(RemoteProtocolError, match=what):
        der.frame_size(bytes([0x30, length]), LIMIT)
    with pytest.raises(RemoteProtocolError, match=what):
        der.element(bytes([0x30, length]) + bytes(200), 0, 202, der.SEQUENCE, "thing")


@pytest.mark.requirement("codec.size")
def test_the_limit_counts_the_whole_message_and_holds_before_the_body_arrives():
    assert der.frame_size(bytes.fromhex("308203e8"), 1004) == FrameSize(1004, 1000)
    with pytest.raises(LimitExceeded, match="at most 1003 bytes, got a length of 1004") as caught:
        der.frame_size(bytes.fromhex("308203e8"), 1003)
    assert caught.value.security_status == SecurityStatus.SEC_E_INVALID_TOKEN
    with pytest.raises(LimitExceeded):
        der.frame_size(bytes.fromhex("3084ffffffff"), LIMIT)


def test_a_short_length_is_held_to_the_limit_too():
    with pytest.raises(LimitExceeded):
        der.frame_size(bytes.fromhex("3009"), 10)


@pytest.mark.parametrize(
    ("data", "bounds"),
    [
        ("0400", (2, 2)),
        ("0402aabb", (2, 4)),
        ("048102aabb", (3, 5)),
        ("04820002aabb", (4, 6)),
        ("0483000002aabb", (5, 7)),
        ("048400000002aabb", (6, 8)),
    ],
)
def test_element_takes_lengths_that_are_not_minimal(data, bounds):
    data = bytes.fromhex(data)
    assert der.element(data, 0, len(data), der.OCTET_STRING, "thing") == bounds


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("", "thing: expected an element at byte 0, got 0 bytes"),
        ("04", "thing: expected an element at byte 0, got 1 bytes"),
        ("0201", "thing: expected tag 0x04 at byte 0, got 0x02"),
        ("0401", "thing: length 1 at byte 0 reaches past the end of its container at byte 2"),
        ("048201", "thing: expected an element at byte 0, got 3 bytes"),
        ("0484ffffffff", "thing: length 4294967295 at byte 0 reaches past"),
        ("0480", "thing: expected a definite length of at most 4 bytes at byte 1, got an indefinite length"),
    ],
)
def test_element_refuses_and_names_field_and_offset(data, text):
    data = bytes.fromhex(data)
    with pytest.raises(RemoteProtocolError) as caught:
        der.element(data, 0, len(data), der.OCTET_STRING, "thing")
    assert text in str(caught.value)


def test_element_never_reads_past_its_container():
    data = bytes.fromhex("0404aabbccdd")
    for end in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            der.element(data, 0, end, der.OCTET_STRING, "thing")


@pytest.mark.parametrize(
    "data", ["a20404020102", "a2810404020102", "a2050481020102", "a2820007048300000201020000"[:-4]]
)
def test_explicit_reads_short_and_long_headers_alike(data):
    data = bytes.fromhex(data)
    start, stop = der.explicit(data, 0, len(data), 2, der.OCTET_STRING, "thing")
    assert (data[start:stop], stop) == (b"\x01\x02", len(data))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("a204040201", "reaches past the end"),
        ("a30404020102", "expected tag 0xA2 at byte 0, got 0xA3"),
        ("a20402020102", "expected tag 0x04 at byte 2, got 0x02"),
        ("a205040201020000", "expected the end at byte 6, got 1 bytes more"),
        ("a20304020102", "reaches past the end of its container at byte 5"),
        ("a200", "expected an element at byte 2, got 0 bytes"),
        ("a20104", "expected an element at byte 2, got 1 bytes"),
        ("a2", "expected an element at byte 0"),
    ],
)
def test_explicit_refuses_what_does_not_fit_exactly(data, text):
    data = bytes.fromhex(data)
    with pytest.raises(RemoteProtocolError) as caught:
        der.explicit(data, 0, len(data), 2, der.OCTET_STRING, "thing")
    assert text in str(caught.value)


def test_explicit_never_reads_past_its_container():
    data = bytes.fromhex("a2060404aabbccdd")
    for end in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            der.explicit(data, 0, end, 2, der.OCTET_STRING, "thing")


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("a003020106", 6),
        ("a0030201ff", -1),
        ("a0040202ff7f", -129),
        ("a00602040000000a", 10),
        ("a007020500ffffffff", 0xFFFFFFFF),
        ("a0070205ffc000006d", 0xC000006D - (1 << 32)),
    ],
)
def test_integer_is_signed_and_need_not_be_minimal(data, value):
    data = bytes.fromhex(data)
    assert der.integer(data, 0, len(data), 0, "number") == (value, len(data))


@pytest.mark.parametrize("size", [0, 6, 100])
def test_an_integer_of_no_or_of_many_bytes_is_refused(size):
    data = bytes([0xA0, size + 2, 0x02, size]) + bytes(size)
    with pytest.raises(RemoteProtocolError, match=f"number: expected an INTEGER of 1 to 5 bytes at byte 4, got {size}"):
        der.integer(data, 0, len(data), 0, "number")


def test_expect_end_refuses_what_is_left():
    der.expect_end(7, 7, "thing")
    with pytest.raises(RemoteProtocolError, match="thing: expected the end at byte 5, got 2 bytes more"):
        der.expect_end(5, 7, "thing")


@pytest.mark.requirement("codec.lengths")
@pytest.mark.parametrize("size", [0, 1, 0x7D, 0x7E, 0x7F, 0x80, 0xFD, 0xFE, 0xFF, 0x100, 0xFFFF, 0x10000, 0x1000000])
def test_the_writer_equals_asn1crypto_at_every_length_form(size):
    content = bytes(size)
    assert der.encode(der.OCTET_STRING, content) == core.OctetString(content).dump()
    assert der.encode_octets(3, content) == core.OctetString(content, explicit=3).dump()


@pytest.mark.parametrize(
    "value", [0, 1, 6, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xC000006D, -1, -128, -129, -0x3FFFFF93, -(1 << 31)]
)
def test_integers_are_written_as_asn1crypto_writes_them(value):
    assert der.encode_integer(4, value) == core.Integer(value, explicit=4).dump()


NESTING = der.Nesting(0x60, b"\x06\x01\x2b", 0xA0, der.OCTET_STRING)
"""As a NegTokenInit's: bytes that are always the same stand before the second element."""


SIZES = [*range(0x70, 0x90), *range(0xF0, 0x110), *range(0xFFE0, 0x10010)]
NOT_IN_DER = [
    "60810c06012b a007 0405 6162636465",
    "600d06012b a00804810561 62636465",
    "6082000d06012b a0810704056162636465",
]
MISFITS = [
    ("", "thing: expected an element at byte 0, got 0 bytes"),
    ("60", "thing: expected an element at byte 0, got 1 bytes"),
    ("61 0c06012b a0070405 6162636465", "thing: expected tag 0x60 at byte 0, got 0x61"),
    ("60 0c06012a a0070405 6162636465", "thing: expected 0x06012b at byte 2"),
    ("60 020601", "thing: expected 0x06012b at byte 2"),
    ("60 0c06012b a1070405 6162636465", "thing: expected tag 0xA0 at byte 5, got 0xA1"),
    ("60 0c06012b a0060405 6162636465", "thing: expected the end at byte 13, got 1 bytes more"),
    ("60 0c06012b a0070404 6162636465", "thing: expected the end at byte 13, got 1 bytes more"),
    ("60 0c06012b a0070406 6162636465", "thing: length 6 at byte 7 reaches past the end of its container"),
    ("60 0d06012b a0070405 6162636465", "thing: length 13 at byte 0 reaches past the end of its container"),
    ("60 8006012b a0070405 6162636465", "thing: expected a definite length of at most 4 bytes at byte 1"),
]


def by_hand(content):
    return parser.emit(1, 1, 0, b"\x06\x01\x2b" + core.OctetString(content, explicit=0).dump())


@pytest.mark.requirement("codec.lengths")
@pytest.mark.parametrize("size", SIZES)
def test_a_nesting_is_written_and_read_at_every_length_form(size):
    content = bytes(size)
    data = NESTING.encode(content)
    assert data == by_hand(content)
    start, stop = NESTING.bounds(b"??" + data + b"!", 2, len(data) + 2, "thing")
    assert (start, stop) == (len(data) + 2 - size, len(data) + 2)
    assert data[start - 2 :] == content


@pytest.mark.parametrize("size", SIZES)
def test_the_content_of_a_nesting_begins_behind_headers_that_are_compared_in_one_go(size):
    content = bytes(size)
    data = NESTING.encode(content)
    below_64_kib = data[1] <= 0x82
    assert NESTING.begin(data) == (len(data) - size if below_64_kib else 0)
    assert [NESTING.begin(other) for other in (data + b"!", data[:-1], b"?" + data, data[:1])] == [0] * 4


@pytest.mark.parametrize("data", [*NOT_IN_DER, *(data for data, _ in MISFITS)])
def test_what_is_no_nesting_in_der_begins_nowhere(data):
    assert NESTING.begin(bytes.fromhex(data)) == 0


@pytest.mark.parametrize("data", NOT_IN_DER)
def test_a_nesting_need_not_be_in_der(data):
    data = bytes.fromhex(data)
    start, stop = NESTING.bounds(data, 0, len(data), "thing")
    assert (data[start:stop], stop) == (b"abcde", len(data))


@pytest.mark.parametrize(("data", "text"), MISFITS)
def test_a_nesting_refuses_what_does_not_fit_exactly(data, text):
    data = bytes.fromhex(data)
    with pytest.raises(RemoteProtocolError) as caught:
        NESTING.bounds(data, 0, len(data), "thing")
    assert text in str(caught.value)


def test_a_nesting_never_reads_past_its_container():
    data = NESTING.encode(b"content")
    for end in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            NESTING.bounds(data, 0, end, "thing")


@pytest.mark.requirement("defect.malformed-der")
@given(st.binary(max_size=40), st.integers(0, 40))
def test_what_is_compared_in_one_go_is_what_is_read_element_by_element(data, offset):
    nesting = der.OCTETS[0]
    data = b"\xa0" + data
    end = min(offset, len(data))
    try:
        expected = nesting._one_by_one(data, 0, end, "x")
    except RemoteProtocolError as error:
        with pytest.raises(RemoteProtocolError, match=re.escape(str(error))):
            nesting.bounds(data, 0, end, "x")
    else:
        assert nesting.bounds(data, 0, end, "x") == expected


def in_one_go(nesting, data, end):
    """What `bounds` finds by comparing the headers, None where it would read element by element."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(der.Nesting, "_one_by_one", lambda *_: None)
        return nesting.bounds(data, 0, end, "thing")


ONE_GO = pytest.mark.interpreted_only("replaces a method of a class")


@ONE_GO
@pytest.mark.parametrize("size", SIZES)
def test_der_is_compared_in_one_go_below_a_length_of_three_bytes(size):
    data = NESTING.encode(bytes(size))
    expected = (len(data) - size, len(data)) if len(data) < 0x10000 + 4 else None
    assert in_one_go(NESTING, data, len(data)) == expected


@ONE_GO
@pytest.mark.parametrize("data", [*NOT_IN_DER, *(data for data, _ in MISFITS)])
def test_nothing_else_is_compared_in_one_go(data):
    data = bytes.fromhex(data)
    assert in_one_go(NESTING, data, len(data)) is None


@ONE_GO
def test_nothing_is_compared_past_its_container():
    data = NESTING.encode(b"content")
    assert [in_one_go(NESTING, data, end) for end in range(len(data))] == [None] * len(data)


@ONE_GO
@given(st.binary(max_size=40), st.integers(0, 40))
def test_what_is_compared_in_one_go_is_written_so(data, offset):
    nesting, data = der.OCTETS[0], b"\xa0" + data
    if found := in_one_go(nesting, data, min(offset, len(data))):
        start, stop = found
        assert nesting.encode(data[start:stop]) == data[:stop]


def test_beginnings_without_number_are_not_all_kept():
    nesting = der.Nesting(der.SEQUENCE)
    first = nesting.encode(b"content")
    for number in range(5000):
        with contextlib.suppress(RemoteProtocolError):
            nesting.bounds(number.to_bytes(4, "big"), 0, 4, "thing")
        assert len(nesting._known) <= 256
    assert nesting.bounds(first, 0, len(first), "thing") == (2, len(first))


@pytest.mark.requirement("defect.malformed-der")
@given(st.binary(max_size=40), st.integers(0, 45), st.integers(0, 45))
def test_no_input_raises_anything_but_our_errors(data, offset, end):
    """Bounds as the callers keep them: 0 <= offset, end <= len(data)."""
    end = min(end, len(data))
    for read in (
        lambda: der.frame_size(data, 64, min(offset, len(data))),
        lambda: der.element(data, offset, end, data[0] if data else 0, "x"),
        lambda: der.OCTETS[0].bounds(data, offset, end, "x"),
        lambda: der.integer(data, offset, end, 0, "x"),
    ):
        with contextlib.suppress(RemoteProtocolError):
            read()
