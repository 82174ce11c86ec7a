import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.mcs import FREERDP_2, FREERDP_3, SHADOW, block, core, initial, packet, per, response, server_core

from acredssp.errors import LocalProtocolError, RemoteProtocolError
from acredssp.wire import der, mcs
from acredssp.wire.framing import FrameSize
from acredssp.wire.mcs import frame_size, requested_protocols_at, selected_protocol_at, write_protocols
from acredssp.wire.x224 import Protocols

READERS = {"initial": selected_protocol_at, "response": requested_protocols_at}
PDUS = {"initial": FREERDP_3, "response": SHADOW}
KINDS = pytest.mark.parametrize("kind", PDUS)


# --- where the fields are ---


@pytest.mark.parametrize(
    ("pdu", "reader", "protocols"),
    [
        (FREERDP_2, selected_protocol_at, Protocols.HYBRID),
        (FREERDP_3, selected_protocol_at, Protocols.HYBRID_EX),
        (SHADOW, requested_protocols_at, Protocols.SSL | Protocols.HYBRID),
    ],
)
def test_real_peers_repeat_what_was_negotiated(pdu, reader, protocols):
    at = reader(pdu)
    assert pdu[at : at + 4] == int(protocols).to_bytes(4, "little")


@KINDS
def test_only_the_field_changes_and_what_is_behind_the_pdu_stays(kind):
    data = PDUS[kind] + b"behind"
    at = READERS[kind](data)
    assert at == READERS[kind](PDUS[kind])
    assert write_protocols(data, at, Protocols.RDSAAD) == data[:at] + b"\x10\x00\x00\x00" + data[at + 4 :]


@pytest.mark.parametrize("size", [132, 134, 211, 212])
def test_a_client_without_the_field(size):
    assert selected_protocol_at(initial(core(size))) is None


@pytest.mark.parametrize("size", [216, 220, 234])
def test_a_client_with_the_field_whatever_is_behind(size):
    pdu = initial(block(0xC003, bytes(8)) + core(size) + block(0xC002, bytes(8)))
    assert selected_protocol_at(pdu) == len(pdu) - 12 - size + 212


def test_a_server_without_the_field():
    assert requested_protocols_at(response(server_core(8))) is None


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("tag", [b"\x01\x01", b"\x02\x01\x00"])
def test_a_server_with_the_field(tag, long):
    pdu = response(server_core(16) + block(0x0C02, bytes(8)), tag=tag, long=long)
    assert requested_protocols_at(pdu) == len(pdu) - 12 - 16 + 8


# --- lengths ---


@KINDS
def test_the_missing_bytes_never_reach_past_the_pdu(kind):
    pdu, data = PDUS[kind], b""
    while missing := frame_size(data).missing:
        data += pdu[len(data) : len(data) + missing]
    assert data == pdu
    assert frame_size(pdu + b"more") == FrameSize(len(pdu), 0)


@KINDS
def test_a_pdu_cut_anywhere_is_not_read(kind):
    pdu = PDUS[kind]
    for size in range(len(pdu)):
        missing = frame_size(pdu[:size]).missing
        assert missing == (4 - size if size < 4 else len(pdu) - size)
        with pytest.raises(LocalProtocolError, match=f"expected a whole PDU, {missing} bytes are missing"):
            READERS[kind](pdu[:size])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("16", "TPKT: expected version 3, got 22"),
        ("03000006", "expected a length of at least 7, got 6"),
        ("0300001002f000", r"expected a data PDU \(02 f0 80\), got 02 f0 00"),
        ("0300001003", "expected a data PDU"),
    ],
)
def test_what_is_no_data_pdu_is_refused_as_soon_as_it_shows(data, said):
    with pytest.raises(RemoteProtocolError, match=said):
        frame_size(bytes.fromhex(data))


@pytest.mark.parametrize(
    ("pdu", "said"),
    [
        (SHADOW, "connect-initial: tag: expected 7f 65 at byte 7, got 7f 66"),
        (packet(b"\x7f\x65\x05\x04\x01\x01\x04\x01\x01"), "surplus|left|behind|end"),
        (packet(b"\x7f\x65\x7f"), "reaches past the end"),
        (packet(b"\x7f"), "tag: expected 7f 65"),
        (initial(core(213)), "client core data: expected at most 212 or at least 216 bytes, got 213"),
        (initial(core(215)), "got 215"),
        (initial(b""), "expected one block of type 0xC001, got 0"),
        (initial(core(216) + core(216)), "expected one block of type 0xC001, got 2"),
        (initial(core(216) + b"\x01"), "expected a block of 4 to 1 bytes"),
        (initial(core(216) + b"\x02\xc0\x03\x00"), "got a length of 3"),
        (initial(core(216) + b"\x02\xc0\x05\x00"), "expected a block of 4 to 4 bytes at byte .* got a length of 5"),
        (initial(core(216), head=bytes(12)), "conference create request: expected 00 08"),
        (initial(core(216), connect=lambda data: per(data + b"x")[:-1]), "connectPDU: expected a length that ends"),
        (initial(core(216), connect=lambda data: per(data)[:-1] + b"xx"), "connectPDU: expected a length that ends"),
        (initial(core(216), connect=lambda data: per(data + b"x")), "user data: expected a length that ends"),
        (initial(core(216), connect=lambda data: b"\xc1" + data), "expected a length of one or two bytes"),
        (initial(core(216), connect=lambda data: b""), "expected a length of one or two bytes"),
    ],
)
def test_a_wrong_connect_initial_is_refused(pdu, said):
    with pytest.raises(RemoteProtocolError, match=said):
        selected_protocol_at(pdu)


@pytest.mark.parametrize(
    ("pdu", "said"),
    [
        (FREERDP_2, "connect-response: tag: expected 7f 66 at byte 7, got 7f 65"),
        (response(server_core(9)), "server core data: expected at most 8 or at least 12 bytes, got 9"),
        (response(b""), "expected one block of type 0x0C01, got 0"),
        (response(server_core(12) * 2), "expected one block of type 0x0C01, got 2"),
        (response(server_core(12), tag=b"\xff"), "conference create response: expected 01 c0 00"),
        (response(server_core(12)).replace(b"\x14\x76\x0a", b"\x15\x76\x0a"), "expected a conference create response"),
        (response(server_core(12)).replace(b"McDn", b"McDm"), "expected 01 c0 00 4d 63 44 6e"),
        (response(server_core(12)).replace(b"\x0a\x01\x00", b"\x0b\x01\x00"), "result"),
    ],
)
def test_a_wrong_connect_response_is_refused(pdu, said):
    with pytest.raises(RemoteProtocolError, match=said):
        requested_protocols_at(pdu)


@KINDS
@given(data=st.data())
def test_whatever_comes_is_read_or_refused(kind, data):
    pdu = bytearray(PDUS[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        pdu[data.draw(st.integers(0, len(pdu) - 1))] = data.draw(st.integers(0, 255))
    try:
        at = READERS[kind](bytes(pdu))
    except (RemoteProtocolError, LocalProtocolError):
        return
    assert at is None or 0 < at <= frame_size(pdu).total - 4


@KINDS
@pytest.mark.parametrize("cut", range(1, 60))
def test_a_pdu_that_ends_early_with_a_length_that_agrees_is_refused(kind, cut):
    pdu = PDUS[kind][:-cut]
    with pytest.raises(RemoteProtocolError):
        READERS[kind](pdu[:2] + len(pdu).to_bytes(2, "big") + pdu[4:])


# --- fronts that are known ---


@KINDS
def test_a_front_is_read_once_and_known_for_every_other_pdu_that_has_it(kind, monkeypatch):
    reader, pdu = READERS[kind], PDUS[kind]
    at = reader(pdu)
    monkeypatch.setattr(der, "element", pytest.fail)
    changed = pdu[:-1] + bytes([pdu[-1] ^ 1])
    assert reader(changed) == at


@KINDS
@pytest.mark.parametrize("more", [1, -1])
def test_a_known_front_does_not_fit_a_pdu_of_another_size(kind, more):
    reader, pdu = READERS[kind], PDUS[kind]
    reader(pdu)
    with pytest.raises(RemoteProtocolError):
        reader(pdu[:2] + (len(pdu) + more).to_bytes(2, "big") + pdu[4:] + b"x")


def test_the_front_of_one_kind_is_not_known_for_the_other():
    requested_protocols_at(SHADOW)
    with pytest.raises(RemoteProtocolError, match="connect-initial: tag"):
        selected_protocol_at(SHADOW)


def test_the_key_in_another_place_ends_no_front():
    pdu = initial(core(216), calling=b"Duca")
    assert {selected_protocol_at(pdu), selected_protocol_at(pdu)} == {len(pdu) - 4}
    with pytest.raises(RemoteProtocolError, match=r"T\.124 identifier"):
        selected_protocol_at(pdu.replace(b"\x7c\x00\x01", b"\x7c\x00\x02"))


def test_no_more_fronts_are_known_than_there_are_programs(monkeypatch):
    monkeypatch.setattr(mcs, "_FRONTS", 3)
    for size in range(216, 236):
        assert selected_protocol_at(initial(core(size))) is not None
        assert len(mcs._INITIAL._known) <= 3


def test_known_blocks_are_not_those_of_a_pdu_with_other_blocks_of_the_same_size():
    pdu = initial(core(216) + block(0xC002, bytes(8)))
    assert selected_protocol_at(pdu) == len(pdu) - 16
    other = initial(block(0xC002, bytes(8)) + core(216))
    assert len(other) == len(pdu)
    assert selected_protocol_at(other) == len(other) - 4
    with pytest.raises(RemoteProtocolError, match="expected one block of type 0xC001, got 0"):
        selected_protocol_at(initial(block(0xC003, bytes(212)) + block(0xC002, bytes(8))))


def test_a_pdu_of_many_blocks_is_read_and_not_remembered():
    pdu = initial(core(216) + 3000 * block(0xC002, b""))
    assert selected_protocol_at(pdu) == selected_protocol_at(pdu) == len(pdu) - 12_004
    assert all(len(values) <= 64 for _, values, _ in mcs._INITIAL._known.values())


def answer_of(reader, pdu):
    try:
        return reader.field_at(pdu)
    except RemoteProtocolError as error:
        return str(error)


@KINDS
@given(data=st.data())
def test_a_reader_that_knows_the_program_answers_as_one_that_knows_none(kind, data):
    known = {"initial": mcs._INITIAL, "response": mcs._RESPONSE}[kind]
    known.field_at(PDUS[kind])
    pdu = bytearray(PDUS[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        pdu[data.draw(st.integers(4, len(pdu) - 1))] = data.draw(st.integers(0, 255))
    assert answer_of(known, bytes(pdu)) == answer_of(mcs._Reader(known._kind), bytes(pdu))
