"""Sealing of bodies: the bytes of [MS-WSMV] 2.2.9.1.3, their size beforehand, and streams."""

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.http_bodies import END, MULTI, SOAP, SUITES, TYPE, logged_on, pair
from support.records import split

from acredssp.http import Sealer, open_body, seal_body

LENGTHS = [0, 1, 15, 16, 17, 16_383, 16_384, 16_385, 32_768, 100_000]


@pytest.fixture(scope="module", params=SUITES, ids="-".join)
def ends(request):
    return logged_on(*request.param)


@pytest.fixture(scope="module")
def aead():
    return logged_on()


def parts_of(body, server):
    """Take a body apart by the lengths in its records alone; return (plaintext, trailer, record) of each pair."""
    found = []
    while body != END:
        plaintext_length = int(body.partition(b";Length=")[2].partition(b"\r\n")[0])
        before, records = body.split(b"\tContent-Type: application/octet-stream\r\n", 1)
        trailer = int.from_bytes(records[:4], "little")
        assert before == pair(b"", plaintext_length).partition(b"\tContent-Type: application/octet")[0]
        size = 5 + int.from_bytes(records[7:9], "big") if plaintext_length else 0
        record, body = records[4 : 4 + size], records[4 + size :]
        found.append((server.tls.read(record), trailer, record))
        assert len(found[-1][0]) == plaintext_length
    return found


@pytest.mark.parametrize("length", LENGTHS)
def test_a_body_is_pairs_of_parts_with_a_record_each(ends, length):
    client, server = ends
    plaintext = bytes(range(256)) * (length // 256 + 1)
    plaintext = plaintext[:length]
    media_type, body = seal_body(client, plaintext)
    assert media_type == (MULTI if length > 16_384 else TYPE)
    found = parts_of(body, server)
    assert b"".join(each for each, _, _ in found) == plaintext
    assert [len(each) for each, _, _ in found] == [16_384] * (length // 16_384) + (
        [length % 16_384] if length % 16_384 or not length else []
    )
    for text, trailer, record in found:
        assert trailer == (len(record) - server.record_sizes.header - len(text) if text else 0)


@pytest.mark.parametrize(
    ("version", "cipher", "trailers"),
    [
        ("TLSv1.3", "", {17}),
        ("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384", {16}),
        ("TLSv1.2", "ECDHE-RSA-CHACHA20-POLY1305", {16}),
        ("TLSv1.2", "AES128-SHA", set(range(21, 37))),
        ("TLSv1.2", "ECDHE-RSA-AES256-SHA384", set(range(49, 65))),
    ],
)
def test_the_trailers_that_the_specifications_of_the_suites_say(version, cipher, trailers):
    client, server = logged_on(version, cipher, encrypt_then_mac=False)
    found = [parts_of(seal_body(client, bytes(length))[1], server)[0][1] for length in range(1, 33)]
    assert set(found) == trailers
    mac = min(trailers) - 1
    if len(trailers) > 1:
        assert found == [mac + 16 - (length + mac) % 16 for length in range(1, 33)]


@pytest.mark.skipif(not ssl.HAS_TLSv1, reason="openssl was built without it")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_the_empty_record_of_tls_1_0_is_no_part_of_the_trailer():
    client, server = logged_on("TLSv1", "AES128-SHA", encrypt_then_mac=False)
    _, body = seal_body(client, bytes(100))
    records = body.split(b"octet-stream\r\n")[1].removesuffix(END)
    empty, full = split(records[4:])
    assert int.from_bytes(records[:4], "little") == len(full) - 5 - 100
    assert len(empty) < len(full)
    assert open_body(server, TYPE, body) == (SOAP, bytes(100))


@pytest.mark.parametrize("length", LENGTHS)
def test_the_size_of_the_sealed_body_is_known_beforehand(ends, length):
    sealer = Sealer(ends[0], length)
    if ends[0].record_sizes.block > 1:
        assert sealer.size is None, "the padding shows in the end alone"
    body = sealer.feed(bytes(length)) + sealer.finish()
    assert sealer.size in {None, len(body)}
    parts_of(body, ends[1])


def test_a_body_of_unknown_size_has_no_size_and_is_of_several_pairs(aead):
    sealer = Sealer(aead[0], None)
    assert (sealer.size, sealer.media_type) == (None, MULTI)
    body = sealer.feed(b"a") + sealer.feed(b"b") + sealer.finish()
    assert open_body(aead[1], MULTI, body) == (SOAP, b"ab")


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 40_000), max_size=5))
def test_any_cuts_of_the_plaintext_make_the_same_parts(sizes):
    client, server = logged_on_once()
    plaintext = bytes(sum(sizes))
    sealer = Sealer(client, len(plaintext))
    body = b"".join([sealer.feed(bytes(size)) for size in sizes]) + sealer.finish()
    assert len(body) == sealer.size
    assert [len(text) for text, _, _ in parts_of(body, server)] == [
        len(text) for text, _, _ in parts_of(seal_body(client, plaintext)[1], server)
    ]


def logged_on_once(kept=[]):  # noqa: B006 - one pair for all examples
    kept[:] = kept or logged_on()
    return kept


def test_a_stream_holds_less_than_one_part(aead):
    client, server = aead
    sealer = Sealer(client, 3 * 16_384)
    for _ in range(3):
        assert not sealer.feed(bytes(16_383))
        assert len(sealer._pending) < 16_384
        parts_of(sealer.feed(b"x") + END, server)
    assert sealer.finish() == END


def test_another_content_type(aead):
    media_type, body = seal_body(aead[0], b"{}", "application/json")
    assert b"type=application/json;Length=2\r\n" in body
    assert open_body(aead[1], media_type, body) == ("application/json", b"{}")


@pytest.mark.parametrize("content_type", ["", "a\r\nb", "a\x00", "é"])
def test_a_content_type_that_would_break_a_line_is_refused(aead, content_type):
    with pytest.raises(ValueError, match="content_type: expected printable characters of ascii"):
        Sealer(aead[0], 1, content_type)


def test_a_length_that_does_not_fit_is_refused(aead):
    with pytest.raises(ValueError, match="length: expected 0 or more bytes, got -1"):
        Sealer(aead[0], -1)
    with pytest.raises(ValueError, match="length: expected 2 bytes of plaintext, got more"):
        Sealer(aead[0], 2).feed(b"abc")
    with pytest.raises(ValueError, match="length: expected 2 bytes of plaintext, got 0"):
        Sealer(aead[0], 2).finish()
