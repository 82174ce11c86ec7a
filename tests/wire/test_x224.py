import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectors import hostile
from vectors.load import captures

from acredssp.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from acredssp.status import SecurityStatus
from acredssp.wire import x224
from acredssp.wire.framing import FrameSize
from acredssp.wire.x224 import (
    ConnectionConfirm,
    ConnectionRequest,
    FailureCode,
    Protocols,
    RequestFlags,
    ResponseFlags,
)

SSL_HYBRID = Protocols.SSL | Protocols.HYBRID
CORRELATION_ID = bytes(range(0x20, 0x30))
ALL_FLAGS = ResponseFlags(0x1F)

REQUESTS = {
    # [MS-RDPBCGR] 4.1.1
    "0300002c27e00000000000436f6f6b69653a206d737473686173683d656c746f6e730d0a0100080000000000": ConnectionRequest(
        cookie="eltons", requested_protocols=Protocols.RDP
    ),
    # FreeRDP 2.11 and 3.10, hydra
    "0300002b26e00000000000436f6f6b69653a206d737473686173683d616c6963650d0a0100080003000000": ConnectionRequest(
        cookie="alice", requested_protocols=SSL_HYBRID
    ),
    "0300002b26e00000000000436f6f6b69653a206d737473686173683d616c6963650d0a010008000b000000": ConnectionRequest(
        cookie="alice", requested_protocols=SSL_HYBRID | Protocols.HYBRID_EX
    ),
    "0300002b26e00000000000436f6f6b69653a206d737473686173683d616c6963650d0a0101080003000000": ConnectionRequest(
        cookie="alice", requested_protocols=SSL_HYBRID, flags=RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED
    ),
    "0300002b26e00000000000436f6f6b69653a206d737473686173683d616c6963650d0a010208000b000000": ConnectionRequest(
        cookie="alice",
        requested_protocols=SSL_HYBRID | Protocols.HYBRID_EX,
        flags=RequestFlags.REDIRECTED_AUTHENTICATION_MODE_REQUIRED,
    ),
    # impacket
    "030000130ee000000000000100080003000000": ConnectionRequest(requested_protocols=SSL_HYBRID),
    # X.224 alone, and a cookie alone: standard RDP
    "0300000b06e00000000000": ConnectionRequest(),
    "030000221de00000000000436f6f6b69653a206d737473686173683d6e6d61700d0a": ConnectionRequest(cookie="nmap"),
}
CONFIRMS = {
    # [MS-RDPBCGR] 4.1.2
    "030000130ed000001234000200080000000000": ConnectionConfirm(selected_protocol=Protocols.RDP),
    "030000130ed00000123400021f080002000000": ConnectionConfirm(selected_protocol=Protocols.HYBRID, flags=ALL_FLAGS),
    "030000130ed00000123400021f080008000000": ConnectionConfirm(selected_protocol=Protocols.HYBRID_EX, flags=ALL_FLAGS),
    "030000130ed000001234000300080005000000": ConnectionConfirm(failure_code=FailureCode.HYBRID_REQUIRED_BY_SERVER),
    # freerdp-shadow
    "030000130ed000000000000203080002000000": ConnectionConfirm(
        selected_protocol=Protocols.HYBRID, flags=ResponseFlags(3), src_ref=0
    ),
    "0300000b06d00000123400": ConnectionConfirm(),
}


def pdu(code: int, body: bytes) -> bytes:
    total = 11 + len(body)
    return bytes([3, 0, *total.to_bytes(2, "big"), total - 5, code, 0, 0, 0, 0, 0]) + body


# -- both ways


@pytest.mark.requirement("rdp.x224")
@pytest.mark.parametrize(("data", "value"), REQUESTS.items())
def test_requests_round_trip(data, value):
    assert ConnectionRequest.decode(bytes.fromhex(data)) == value
    assert value.encode() == bytes.fromhex(data)


@pytest.mark.requirement("rdp.x224")
@pytest.mark.parametrize(("data", "value"), CONFIRMS.items())
def test_confirms_round_trip(data, value):
    assert ConnectionConfirm.decode(bytes.fromhex(data)) == value
    assert value.encode() == bytes.fromhex(data)


@pytest.mark.requirement("rdp.x224")
@pytest.mark.parametrize("recorded", captures(), ids=str)
def test_recorded_pdus_round_trip_and_agree_with_the_recorder(recorded):
    request = ConnectionRequest.decode(recorded.hex("x224_cr"))
    assert request.encode() == recorded.hex("x224_cr")
    if recorded["recorder_role"] == "server":
        # The recorder wrote 0 for a request without RDP_NEG_REQ too.
        assert (request.requested_protocols or 0) == recorded["requested_protocols"]
    confirm = ConnectionConfirm.decode(recorded.hex("x224_cc"))
    assert confirm.encode() == recorded.hex("x224_cc")
    if confirm.failure_code is None:
        assert confirm.selected_protocol == recorded["selected_protocol"]


@pytest.mark.requirement("rdp.x224")
def test_correlation_info_follows_the_negotiation_request():
    value = ConnectionRequest(
        requested_protocols=SSL_HYBRID,
        flags=RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED,
        cookie="alice",
        correlation_id=CORRELATION_ID,
    )
    data = value.encode()
    tail = "0109080003000000" + "06002400" + CORRELATION_ID.hex() + "00" * 16
    assert data.endswith(bytes.fromhex(tail))
    assert ConnectionRequest.decode(data) == value


@pytest.mark.requirement("rdp.x224")
@pytest.mark.parametrize(
    "token",
    ["Cookie: msts=3640205228.15629.0000", "tsv://MS Terminal Services Plugin.1.Farm", "mth://host/00000001", "x"],
)
def test_a_routing_token_is_whole_and_no_cookie(token):
    value = ConnectionRequest(routing_token=token, requested_protocols=SSL_HYBRID)
    assert token.encode() + b"\r\n\x01\x00\x08\x00" in value.encode()
    decoded = ConnectionRequest.decode(value.encode())
    assert decoded == value
    assert decoded.cookie is None


@pytest.mark.parametrize(
    "ident", ["", "a", "CONTOSO\\alice", "bob@contoso.com", "J\u00fcrgen", "\udcff\udcfe", "a b=c"]
)
def test_a_cookie_holds_whatever_a_client_sends(ident):
    value = ConnectionRequest(cookie=ident)
    assert ConnectionRequest.decode(value.encode()) == value


@given(
    st.builds(
        ConnectionRequest,
        requested_protocols=st.integers(0, 0xFFFFFFFF).map(Protocols),
        flags=st.sampled_from([0, 1, 2, 3, 0x80, 0xF7]).map(RequestFlags),
        cookie=st.none() | st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=30),
        correlation_id=st.sampled_from([None, CORRELATION_ID]),
    )
)
def test_any_request_survives_the_round_trip(value):
    data = value.encode()
    assert x224.frame_size(data) == (len(data), 0)
    assert ConnectionRequest.decode(data) == value


@pytest.mark.requirement("rdp.x224")
def test_unknown_bits_and_codes_keep_their_number():
    request = ConnectionRequest.decode(pdu(0xE0, bytes.fromhex("01f40800ffffffff")))
    assert request.requested_protocols == 0xFFFFFFFF
    assert request.flags == 0xF4
    confirm = ConnectionConfirm.decode(pdu(0xD0, bytes.fromhex("0300080007000000")))
    assert confirm.failure_code == 7
    assert str(confirm.failure_code) == "0x00000007"
    assert ConnectionConfirm.decode(pdu(0xD0, bytes.fromhex("02e0080040000000"))).selected_protocol == 0x40


def test_references_and_class_are_not_judged():
    data = bytes.fromhex("030000130ed0aaaabbbb0f0200080002000000")
    assert ConnectionConfirm.decode(data) == ConnectionConfirm(selected_protocol=Protocols.HYBRID, src_ref=0xBBBB)
    data = bytes.fromhex("03ff00130ee0aaaabbbb0f0100080003000000")
    assert ConnectionRequest.decode(data) == ConnectionRequest(requested_protocols=SSL_HYBRID)


# -- framing


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(
    ("have", "expected"),
    [(0, (0, 4)), (1, (0, 3)), (3, (0, 1)), (4, (43, 39)), (11, (43, 32)), (42, (43, 1)), (43, (43, 0))],
)
def test_missing_counts_the_header_first_and_then_the_body(kind, have, expected):
    data = bytes.fromhex(list(REQUESTS)[1])
    assert x224.frame_size(kind(data[:have])) == FrameSize(*expected)
    assert x224.frame_size(kind(b"\xff" + data[:have]), 1) == FrameSize(*expected)


def test_bytes_behind_the_pdu_are_not_counted():
    data = bytes.fromhex(next(iter(CONFIRMS)))
    assert x224.frame_size(data + b"\x16\x03\x01") == FrameSize(19, 0)


@pytest.mark.parametrize("first", [0, 0x30, 0x47])
def test_what_is_no_tpkt_is_refused_with_its_first_byte(first):
    with pytest.raises(RemoteProtocolError, match=f"TPKT: expected version 3, got {first}"):
        x224.frame_size(bytes([first]))


@pytest.mark.parametrize("length", [0, 4, 10])
def test_a_length_below_the_smallest_pdu_is_refused(length):
    with pytest.raises(RemoteProtocolError, match=f"at least 11, got {length}"):
        x224.frame_size(bytes([3, 0, 0, length]))


def test_the_largest_pdu_is_what_the_length_indicator_can_say():
    assert x224.frame_size(bytes([3, 0, 0x01, 0x03])) == FrameSize(259, 255)
    with pytest.raises(LimitExceeded, match="at most 259, got 260") as caught:
        x224.frame_size(bytes([3, 0, 0x01, 0x04]))
    assert caught.value.security_status == SecurityStatus.SEC_E_INVALID_TOKEN
    longest = ConnectionRequest(cookie="u" * 229)
    assert len(longest.encode()) == 259
    assert ConnectionRequest.decode(longest.encode()) == longest


# -- what is refused


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "expected 11 bytes, got 0"),
        (pdu(0xE0, b"")[:10], "expected 11 bytes, got 10"),
        (pdu(0xE0, b"") + b"\0", "expected 11 bytes, got 12"),
        (bytes.fromhex("0300000b07e00000000000"), "expected length indicator 6, got 7"),
        (bytes.fromhex("0300000b05e00000000000"), "expected length indicator 6, got 5"),
        (pdu(0xD0, b""), "connection request: expected code 0xE0, got 0xD0 .connection confirm"),
        (pdu(0xF0, b""), "connection request: expected code 0xE0, got 0xF0 .data"),
        (pdu(0xE0, b"Cookie: mstshash=alice"), "expected CR LF behind the text at byte 11"),
        (pdu(0xE0, b"Cookie: mstshash=alice\n\x01\0\x08\0\3\0\0\0"), "expected CR LF"),
        (pdu(0xE0, b"Cookie: mstshash=a\r\n\x01"), "negotiation data: expected 8 bytes at byte 31, got 1"),
        (pdu(0xE0, b"\x01\0\x08\0\3\0\0"), "negotiation data: expected 8 bytes at byte 11, got 7"),
        (pdu(0xE0, b"\x01\0\x07\0\3\0\0\0"), "negotiation data: expected length 8 at byte 11, got 7"),
        (pdu(0xE0, b"\x02\0\x08\0\3\0\0\0"), "expected RDP_NEG_REQ at byte 11, got type 2"),
        (pdu(0xE0, b"\x01\0\x08\0\3\0\0\0" + bytes(8)), "expected 0 bytes behind RDP_NEG_REQ, got 8"),
        (pdu(0xE0, b"\x01\x08\x08\0\3\0\0\0"), "expected 36 bytes behind RDP_NEG_REQ, got 0"),
        (pdu(0xE0, b"\x01\x08\x08\0\3\0\0\0" + bytes(36)), "correlation info: expected type 6 of 36 bytes, got type 0"),
        (pdu(0xE0, b"\x01\x08\x08\0\3\0\0\0\6\0\x23\0" + bytes(32)), "expected type 6 of 36 bytes, got type 6 of 35"),
        (pdu(0xE0, b"Cookie: mstshash=a\nlog line\r\n"), "of one line, got several"),
        (pdu(0xE0, b"tsv://a\rb\r\n"), "of one line, got several"),
        (pdu(0xE0, b"\r\n"), "negotiation data: expected 8 bytes"),
    ],
)  # fmt: skip
def test_malformed_requests_are_refused(data, text):
    with pytest.raises(RemoteProtocolError, match=text):
        ConnectionRequest.decode(data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (pdu(0xE0, b""), "connection confirm: expected code 0xD0, got 0xE0 .connection request"),
        (pdu(0xD0, b"\x02\0\x08\0\2\0\0"), "negotiation data: expected 8 bytes"),
        (pdu(0xD0, b"\x02\0\x09\0\2\0\0\0"), "negotiation data: expected length 8"),
        (pdu(0xD0, b"\x02\0\x08\0\2\0\0\0\0"), "expected 11 or 19 bytes, got 20"),
        (pdu(0xD0, b"\x01\0\x08\0\2\0\0\0"), "expected RDP_NEG_RSP or RDP_NEG_FAILURE, got type 1"),
    ],
)
def test_malformed_confirms_are_refused(data, text):
    with pytest.raises(RemoteProtocolError, match=text):
        ConnectionConfirm.decode(data)


@pytest.mark.parametrize(
    ("decode", "data"),
    [(ConnectionRequest.decode, bytes.fromhex(data)) for data in REQUESTS]
    + [(ConnectionConfirm.decode, bytes.fromhex(data)) for data in CONFIRMS],
)
def test_truncations_are_refused_and_spoilt_pdus_raise_only_our_errors(decode, data):
    for cut in hostile.truncations(data):
        with pytest.raises(RemoteProtocolError):
            decode(cut)
    for spoil in (hostile.flips, hostile.replacements, hostile.deletions, hostile.insertions):
        for spoilt in spoil(data):
            with contextlib.suppress(RemoteProtocolError):
                decode(spoilt)


@given(st.binary(max_size=60))
def test_any_body_raises_only_our_errors(body):
    for code, kind in ((0xE0, ConnectionRequest), (0xD0, ConnectionConfirm)):
        with contextlib.suppress(RemoteProtocolError):
            kind.decode(pdu(code, body))


# -- what cannot be written


def test_a_cookie_may_hold_control_characters_but_no_end_of_a_line():
    taken = ConnectionRequest(cookie="a\0b")  # a gateway sends on what its client has sent
    assert ConnectionRequest.decode(taken.encode()) == taken
    with pytest.raises(LocalProtocolError, match="of one line that begins with a printable character"):
        ConnectionRequest(cookie="a\r\nb").encode()


@pytest.mark.parametrize(
    "value",
    [
        ConnectionRequest(cookie="u" * 230),
        ConnectionRequest(cookie="a\r\nb"),
        ConnectionRequest(cookie="a\nb"),
        ConnectionRequest(cookie="\ud800"),
        ConnectionRequest(routing_token=""),
        ConnectionRequest(routing_token="\x01"),
        ConnectionRequest(cookie="a", routing_token="b"),
        ConnectionRequest(flags=RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED),
        ConnectionRequest(correlation_id=CORRELATION_ID),
        ConnectionRequest(requested_protocols=SSL_HYBRID, correlation_id=b"\x20" * 15),
        ConnectionRequest(requested_protocols=SSL_HYBRID, correlation_id=b"\x00" + b"\x20" * 15),
        ConnectionRequest(requested_protocols=SSL_HYBRID, correlation_id=b"\xf4" + b"\x20" * 15),
        ConnectionRequest(requested_protocols=SSL_HYBRID, correlation_id=b"\x20" * 15 + b"\x0d"),
        ConnectionConfirm(selected_protocol=Protocols.HYBRID, failure_code=FailureCode.INCONSISTENT_FLAGS),
        ConnectionConfirm(flags=ALL_FLAGS),
        ConnectionConfirm(flags=ALL_FLAGS, failure_code=FailureCode.INCONSISTENT_FLAGS),
    ],
    ids=repr,
)
def test_values_that_contradict_themselves_are_the_callers_mistake(value):
    with pytest.raises(LocalProtocolError):
        value.encode()


def test_the_correlation_flag_follows_the_correlation_id():
    with_flag = ConnectionRequest(requested_protocols=SSL_HYBRID, flags=RequestFlags.CORRELATION_INFO_PRESENT)
    assert with_flag.encode() == ConnectionRequest(requested_protocols=SSL_HYBRID).encode()


@pytest.mark.parametrize(
    ("value", "names"),
    [(0, "RDP"), (1, "SSL"), (3, "SSL, HYBRID"), (4, "RDSTLS"), (0x10, "RDSAAD"), (0x40000001, "SSL, 0x40000000")],
)
def test_protocols_are_told_by_their_names(value, names):
    assert Protocols(value).names == names
