import pytest

from acredssp.errors import RemoteProtocolError
from acredssp.status import SecurityStatus
from acredssp.wire import tls_record

RECORD = bytes.fromhex("1703030010") + bytes(16)


@pytest.mark.parametrize(("have", "expected"), [(0, 5), (1, 5), (2, 5), (3, 5), (4, 5), (5, 21), (20, 21), (21, 21)])
def test_the_end_is_first_that_of_the_header_and_then_that_of_the_body(have, expected):
    assert tls_record.record_end(RECORD[:have]) == expected


def test_bytes_of_the_next_record_are_not_counted():
    assert tls_record.record_end(RECORD + RECORD[:3]) == 21


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("have", range(len(RECORD) + 1))
def test_every_buffer_type_is_read_at_an_offset(kind, have):
    shifted = kind(b"\xff" * 7 + RECORD[:have])
    assert tls_record.record_end(shifted, 7) == 7 + tls_record.record_end(RECORD[:have])


@pytest.mark.parametrize("content_type", range(20, 24))
@pytest.mark.parametrize("minor", [0, 1, 2, 3, 4])
def test_every_record_type_and_minor_version_is_a_record(content_type, minor):
    assert tls_record.record_end(bytes([content_type, 3, minor, 0, 0])) == 5


@pytest.mark.parametrize("content_type", [0, 19, 24, 0x30, 0x80, 0xFF])
def test_a_wrong_type_is_refused_with_its_first_byte(content_type):
    with pytest.raises(RemoteProtocolError, match=f"type 20 to 23, got type {content_type}") as caught:
        tls_record.record_end(bytes([content_type]))
    assert caught.value.security_status == SecurityStatus.SEC_E_INVALID_TOKEN


@pytest.mark.parametrize("major", [0, 2, 4, 0xFE])
@pytest.mark.parametrize("have", [2, 3, 4, 5, 9])
def test_a_wrong_major_version_is_refused_with_its_byte(major, have):
    with pytest.raises(RemoteProtocolError, match=f"major version 3, got {major}"):
        tls_record.record_end((bytes([22, major]) + bytes(9))[:have])


@pytest.mark.parametrize(
    ("limit", "length", "fits"),
    [
        (tls_record.MAX_FRAGMENT, 18_432, True),
        (tls_record.MAX_FRAGMENT, 18_433, False),
        (tls_record.MAX_FRAGMENT_TLS13, 16_640, True),
        (tls_record.MAX_FRAGMENT_TLS13, 16_641, False),
    ],
)
def test_the_longest_fragment_is_a_bound(limit, length, fits):
    header = bytes([23, 3, 3]) + length.to_bytes(2, "big")
    if fits:
        assert tls_record.record_end(header, max_fragment=limit) == length + 5
    else:
        with pytest.raises(RemoteProtocolError, match=f"at most {limit} bytes"):
            tls_record.record_end(header, max_fragment=limit)


@pytest.mark.parametrize(
    ("limit", "high", "fits"),
    [
        (tls_record.MAX_FRAGMENT, 0x48, True),
        (tls_record.MAX_FRAGMENT, 0x49, False),
        (tls_record.MAX_FRAGMENT_TLS13, 0x41, True),
        (tls_record.MAX_FRAGMENT_TLS13, 0x42, False),
    ],
)
def test_the_first_length_byte_alone_can_be_too_much(limit, high, fits):
    header = bytes([23, 3, 3, high])
    if fits:
        assert tls_record.record_end(header, max_fragment=limit) == 5
    else:
        with pytest.raises(RemoteProtocolError, match=f"at most {limit} bytes"):
            tls_record.record_end(header, max_fragment=limit)


@pytest.mark.parametrize(
    ("data", "expected", "count"),
    [
        (b"", 0, 0),
        (RECORD[:-1], 0, 0),
        (RECORD, 21, 1),
        (RECORD + RECORD[:4], 21, 1),
        (RECORD * 2, 42, 2),
        (RECORD * 3 + RECORD[:20], 63, 3),
        (RECORD * 2 + b"\xff" * 9, 42, 2),
        (RECORD + b"\xff" * 9, 21, 1),
        (RECORD * 2 + b"\x17\x02\x03\x00\x00", 42, 2),
        (b"\x18\x03\x03\x00\x00", 0, 0),
        (bytes.fromhex("1603030000") * 4, 20, 4),
    ],
)
def test_where_the_whole_records_end(data, expected, count):
    assert tls_record.whole_records(data) == tls_record.whole_records(memoryview(data)) == (expected, count)
    assert tls_record.whole_records(RECORD + data, len(RECORD)) == (len(RECORD) + expected, count)


def test_no_more_records_than_the_longest_one_has_bytes():
    largest = bytes.fromhex("1603034800") + bytes(0x4800)
    assert tls_record.whole_records(largest + RECORD) == (len(largest), 1)
    assert tls_record.whole_records(RECORD + largest) == (len(RECORD), 1)
    for before in (0, 5):
        end, count = tls_record.whole_records(RECORD * 2000, before * len(RECORD))
        assert end == (before + count) * len(RECORD)
        assert tls_record.MAX_FRAGMENT + 5 - len(RECORD) < count * len(RECORD) <= tls_record.MAX_FRAGMENT + 5


@pytest.mark.parametrize(("most", "count"), [(0, 0), (1, 1), (3, 3), (4, 4), (5, 4)])
def test_no_more_records_than_are_asked_for(most, count):
    assert tls_record.whole_records(RECORD * 4, most=most) == (21 * count, count)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (b"", b""),
        (b"\x15\x03\x03\x00\x02\x02\x46", b"\x02\x46"),
        (b"\x16\x03\x03\x00\x01\x00\x15\x03\x01\x00\x02\x01\x00", b"\x01\x00"),
        (b"\x15\x03\x03\x00\x02\x02\x46\x17\x03\x03\x00\x01\x00", b""),
        (b"\x15\x03\x03\x00\x03\x02\x46\x00", b""),
        (b"\x17\x03\x03\x00\x07\x15\x03\x03\x00\x02\x02\x46", b""),
    ],
    ids=["nothing", "alone", "at_the_end", "in_front", "encrypted", "inside_another"],
)
def test_an_alert_is_read_where_it_ends_the_records_in_clear(records, expected):
    assert tls_record.alert_in_clear(records) == expected
