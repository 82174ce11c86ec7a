"""NTLM messages: the published ones of [MS-NLMP] 4.2.4, recorded ones, and every lie a length or offset can tell."""

import itertools
import struct

import pytest
from spnego._ntlm_raw.messages import Authenticate, Challenge, Negotiate
from vectors.load import captures

from acredssp.errors import CredSSPError, LimitExceeded, RemoteProtocolError
from acredssp.mechanisms.ntlm.messages import (
    AuthenticateMessage,
    AvId,
    ChallengeMessage,
    NegotiateMessage,
    NTLMv2Response,
    decode_av_pairs,
    decode_text,
    encode_av_pairs,
    filetime_now,
    with_mic,
)

CHALLENGE = bytes.fromhex(
    "4e544c4d53535000020000000c000c003800000033828ae20123456789abcdef0000000000000000240024004400000006007017000000"
    "0f53006500720076006500720002000c0044006f006d00610069006e0001000c0053006500720076006500720000000000"
)
AUTHENTICATE = bytes.fromhex(
    "4e544c4d5353500003000000180018006c00000054005400840000000c000c00480000000800080054000000100010005c000000100010"
    "00d8000000358288e20501280a0000000f44006f006d00610069006e00550073006500720043004f004d005000550054004500520086c3"
    "5097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa68cd0ab851e51c96aabc927bebef6a1c01010000000000000000000000000000aa"
    "aaaaaaaaaaaaaa0000000002000c0044006f006d00610069006e0001000c0053006500720076006500720000000000"
    "00000000c5dad2544fc9799094ce1ce90bc9d03e"
)
WITH_MIC = with_mic(
    AuthenticateMessage.encode(
        0xE2888235,
        domain=b"d\0",
        user=b"u\0",
        workstation=b"w\0",
        lm_response=bytes(24),
        nt_response=bytes(48),
        encrypted_session_key=bytes(16),
    ),
    b"m" * 16,
)
"""The message of [MS-NLMP] has no room for a MIC; of this one the payload begins behind it."""


def recorded_tokens():
    """Every raw NTLM message in the captures, one of each content."""
    tokens = {}
    for capture in captures():
        for message in capture.messages:
            for text in message.decoded["nego_tokens"] or ():
                token = bytes.fromhex(text)
                if token.startswith(b"NTLMSSP\0"):
                    tokens[token] = capture.name
    return sorted(tokens)


RECORDED = recorded_tokens()


def of_type(message_type):
    return [token for token in RECORDED if token[8] == message_type]


@pytest.mark.requirement("ntlm.vectors")
def test_challenge_of_ms_nlmp_decodes():
    challenge = ChallengeMessage.decode(CHALLENGE)
    assert challenge.flags == 0xE28A8233
    assert challenge.server_challenge.hex() == "0123456789abcdef"
    assert challenge.target_name.decode("utf-16-le") == "Server"
    assert decode_av_pairs(challenge.target_info, "test") == {
        AvId.NB_DOMAIN_NAME: "Domain".encode("utf-16-le"),
        AvId.NB_COMPUTER_NAME: "Server".encode("utf-16-le"),
    }
    assert challenge.raw == CHALLENGE


@pytest.mark.requirement("ntlm.vectors")
def test_authenticate_of_ms_nlmp_decodes():
    message = AuthenticateMessage.decode(AUTHENTICATE)
    assert message.flags == 0xE2888235
    assert (message.domain, message.user, message.workstation) == tuple(
        text.encode("utf-16-le") for text in ("Domain", "User", "COMPUTER")
    )
    assert message.lm_response.hex() == "86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa"
    assert message.nt_response[:16].hex() == "68cd0ab851e51c96aabc927bebef6a1c"
    assert message.encrypted_session_key.hex() == "c5dad2544fc9799094ce1ce90bc9d03e"
    response = NTLMv2Response.decode(message.nt_response)
    assert not response.mic_announced
    assert set(response.av_pairs) == {1, 2}


def test_names_that_a_response_gives_back_in_place_are_not_read_again():
    data = AuthenticateMessage.decode(AUTHENTICATE).nt_response
    names = data[44:-8]  # up to MsvAvEOL and the reserved bytes
    whole = NTLMv2Response.decode(data)
    assert set(whole.av_pairs) == {1, 2}
    assert NTLMv2Response.decode(data, names).av_pairs == {}
    assert NTLMv2Response.decode(data, names[:16] + b"?" + names[17:]) == whole
    assert (NTLMv2Response.decode(data, names).proof, NTLMv2Response.decode(data, names).temp) == (data[:16], data[16:])


@pytest.mark.requirement("ntlm.vectors")
def test_ntlmv2_response_of_ms_nlmp_encodes():
    temp = AuthenticateMessage.decode(AUTHENTICATE).nt_response[16:]
    pairs = encode_av_pairs(decode_av_pairs(temp[28:], "test"))
    assert NTLMv2Response.encode_temp(bytes(8), b"\xaa" * 8, pairs) == temp


@pytest.mark.parametrize("token", of_type(1), ids=lambda token: f"{len(token)} bytes {token[12:16].hex()}")
def test_recorded_negotiate_has_the_flags_that_pyspnego_reads(token):
    assert NegotiateMessage.decode(token).flags == Negotiate.unpack(token).flags


@pytest.mark.parametrize("token", of_type(2), ids=lambda token: token[24:32].hex())
def test_recorded_challenge_has_the_values_that_pyspnego_reads(token):
    ours, theirs = ChallengeMessage.decode(token), Challenge.unpack(token)
    assert ours.flags == theirs.flags
    assert ours.server_challenge == theirs.server_challenge
    assert ours.target_name.decode("utf-16-le") == theirs.target_name
    assert encode_av_pairs(decode_av_pairs(ours.target_info, "test")) == theirs.target_info.pack()


@pytest.mark.parametrize("token", of_type(3), ids=lambda token: token[72:88].hex())
def test_recorded_authenticate_has_the_values_that_pyspnego_reads(token):
    ours, theirs = AuthenticateMessage.decode(token), Authenticate.unpack(token)
    assert ours.flags == theirs.flags
    assert decode_text(ours.user, "test") == (theirs.user_name or "")
    assert decode_text(ours.domain, "test") == (theirs.domain_name or "")
    assert decode_text(ours.workstation, "test") == (theirs.workstation or "")
    assert ours.lm_response == (theirs.lm_challenge_response or b"")
    assert ours.nt_response == theirs.nt_challenge_response
    assert ours.encrypted_session_key == theirs.encrypted_random_session_key
    assert NTLMv2Response.decode(ours.nt_response).mic_announced
    assert ours.mic == theirs.mic


def test_own_messages_are_read_by_pyspnego():
    negotiate = Negotiate.unpack(NegotiateMessage.encode(0xE2088235))
    assert (negotiate.flags, negotiate.version.major) == (0xE2088235, 10)
    info = encode_av_pairs({AvId.NB_COMPUTER_NAME: b"S\0", AvId.NB_DOMAIN_NAME: b"D\0"})
    challenge = Challenge.unpack(ChallengeMessage.encode(0xE28A8235, b"12345678", b"S\0", info))
    assert (challenge.target_name, challenge.server_challenge) == ("S", b"12345678")
    assert challenge.target_info.pack() == info


@pytest.mark.parametrize(("flags", "version"), [(0xE2088235, "0a007c4f0000000f"), (0xE0088235, "0000000000000000")])
def test_version_is_zeros_unless_negotiated(flags, version):
    fields = dict.fromkeys(
        ["domain", "user", "workstation", "lm_response", "nt_response", "encrypted_session_key"], b""
    )
    assert NegotiateMessage.encode(flags)[32:40].hex() == version
    assert ChallengeMessage.encode(flags, bytes(8), b"", b"")[48:56].hex() == version
    assert AuthenticateMessage.encode(flags, **fields)[64:72].hex() == version


@pytest.mark.parametrize(
    ("decode", "data", "said"),
    [
        (NegotiateMessage.decode, b"\x60" + bytes(40), "expected an ntlm message, got another token"),
        (NegotiateMessage.decode, CHALLENGE, "expected type 1, got 2"),
        (NegotiateMessage.decode, b"NTLMSSP\0" + (258).to_bytes(4, "little") + bytes([7]), "expected type 1, got 258"),
        (NegotiateMessage.decode, b"NTLMSSP\0" + (258).to_bytes(4, "little"), "expected type 1, got 258"),
        (NegotiateMessage.decode, b"NTLMSSP\0\2\0\0", "expected at least 16 bytes, got 11"),
        (NegotiateMessage.decode, b"NTLMSSP\0\1\0\0\0", "expected at least 16 bytes, got 12"),
        (ChallengeMessage.decode, CHALLENGE[:47], "expected at least 48 bytes, got 47"),
        (AuthenticateMessage.decode, CHALLENGE, "expected type 3, got 2"),
        (AuthenticateMessage.decode, AUTHENTICATE[:63], "expected at least 64 bytes, got 63"),
    ],
)
def test_what_is_wrong_with_a_message_is_told(decode, data, said):
    with pytest.raises(RemoteProtocolError, match=f"{said}$"):
        decode(data)


def test_messages_may_end_with_their_fixed_part():
    challenge = ChallengeMessage.decode(CHALLENGE[:12] + bytes(8) + CHALLENGE[20:40] + bytes(8))
    assert (challenge.target_name, challenge.target_info) == (b"", b"")
    authenticate = AuthenticateMessage.decode(AUTHENTICATE[:12] + bytes(48) + AUTHENTICATE[60:64])
    assert (authenticate.user, authenticate.nt_response) == (b"", b"")


def test_fields_may_begin_where_the_fixed_part_of_a_challenge_ends():
    """Some servers leave the Version out."""
    fields = struct.pack("<HHI", 2, 2, 48), struct.pack("<HHI", 4, 4, 48)
    short = CHALLENGE[:12] + fields[0] + CHALLENGE[20:40] + fields[1] + bytes(3)
    with pytest.raises(RemoteProtocolError, match="got 4 bytes at offset 48"):
        ChallengeMessage.decode(short)
    assert ChallengeMessage.decode(short + b"\0").target_info == bytes(4)
    nameless = CHALLENGE[:12] + bytes(8) + short[20:] + b"\0"
    assert ChallengeMessage.decode(nameless).target_info == bytes(4)


@pytest.mark.parametrize("field", ["domain", "user", "workstation"])
def test_a_name_may_have_2048_bytes(field):
    values = dict.fromkeys(
        ["domain", "user", "workstation", "lm_response", "nt_response", "encrypted_session_key"], b""
    )
    message = AuthenticateMessage.encode(0, **values | {field: bytes(2048)})
    assert getattr(AuthenticateMessage.decode(message), field) == bytes(2048)
    with pytest.raises(LimitExceeded):
        AuthenticateMessage.decode(AuthenticateMessage.encode(0, **values | {field: bytes(2049)}))


def test_an_av_pair_that_leaves_no_room_for_the_end_is_told_by_its_place():
    with pytest.raises(RemoteProtocolError, match=r"^pairs: expected an av pair at byte 6, got 0 bytes"):
        decode_av_pairs(b"\1\0\2\0ab", "pairs")


def test_there_may_be_no_av_pair_but_the_end():
    assert decode_av_pairs(bytes(4), "pairs") == {}
    assert NTLMv2Response.decode(bytes(16) + b"\1\1" + bytes(30)).av_pairs == {}


@pytest.mark.parametrize("size", range(16))
def test_negotiate_shorter_than_its_flags_is_refused(size):
    with pytest.raises(RemoteProtocolError):
        NegotiateMessage.decode(NegotiateMessage.encode(0xE2088235)[:size])


@pytest.mark.parametrize("size", [16, 17, 31, 32, 39, 40])
def test_negotiate_may_end_after_flags_or_names_or_version(size):
    assert NegotiateMessage.decode(NegotiateMessage.encode(0)[:size]).raw == NegotiateMessage.encode(0)[:size]
    assert NegotiateMessage.decode(NegotiateMessage.encode(0xE2088235)[:size]).flags == 0xE2088235


@pytest.mark.requirement("defect.ntlm-truncation")
@pytest.mark.parametrize("decode", [ChallengeMessage.decode, AuthenticateMessage.decode])
@pytest.mark.parametrize("message", [CHALLENGE, AUTHENTICATE, NegotiateMessage.encode(0xE2088235), b"", b"NTLMSSP"])
def test_every_truncation_is_refused_or_is_another_message(decode, message):
    for size in range(len(message)):
        with pytest.raises(RemoteProtocolError):
            decode(message[:size])


CHALLENGE_FIELDS = (12, 40)
AUTHENTICATE_FIELDS = (12, 20, 28, 36, 44, 52)
LENGTHS = (1, 2, 16, 0x7FFF, 0x8000, 0xFFFF)
OFFSETS = (0, 1, 8, 47, 0x7FFFFFFF, 0x80000000, 0xFFFF0000, 0xFFFFFFF0, 0xFFFFFFFE, 0xFFFFFFFF)


@pytest.mark.requirement("defect.ntlm-offsets")
@pytest.mark.parametrize(
    ("decode", "message", "at"),
    [(ChallengeMessage.decode, CHALLENGE, at) for at in CHALLENGE_FIELDS]
    + [(AuthenticateMessage.decode, message, at) for message in (AUTHENTICATE, WITH_MIC) for at in AUTHENTICATE_FIELDS],
)
def test_field_outside_of_the_payload_is_refused(decode, message, at):
    own = (len(message) - 1, len(message), len(message) + 1)
    for length, offset in itertools.product(LENGTHS, (*OFFSETS, *own)):
        if offset >= 64 and offset + length <= len(message):
            continue
        lie = message[:at] + struct.pack("<HHI", length, length, offset) + message[at + 8 :]
        with pytest.raises(RemoteProtocolError):
            decode(lie)


@pytest.mark.parametrize("offset", OFFSETS)
def test_empty_field_may_have_any_offset(offset):
    message = AUTHENTICATE[:12] + struct.pack("<HHI", 0, 0, offset) + AUTHENTICATE[20:]
    assert AuthenticateMessage.decode(message).lm_response == b""


@pytest.mark.requirement("defect.long-names")
@pytest.mark.parametrize("at", [28, 36, 44])
def test_name_of_64_kib_is_past_the_limit(at):
    message = AUTHENTICATE[:at] + struct.pack("<HHI", 0xFFFE, 0xFFFE, 64) + AUTHENTICATE[at + 8 :] + bytes(0xFFFE)
    with pytest.raises(LimitExceeded):
        AuthenticateMessage.decode(message)


@pytest.mark.requirement("defect.av-pairs")
@pytest.mark.parametrize(
    "pairs",
    [
        b"",
        b"\0",
        b"\0\0\0",
        b"\1\0\2\0",
        b"\1\0\2\0a",
        b"\1\0\2\0a\0",
        b"\1\0\xff\xffa\0\0\0\0\0",
        b"\7\0\x08\0" + bytes(7),
    ],
)
def test_av_pairs_without_end_are_refused(pairs):
    with pytest.raises(RemoteProtocolError):
        decode_av_pairs(pairs, "test")


def test_av_pair_past_the_end_is_named():
    with pytest.raises(RemoteProtocolError, match="expected 65535 bytes of av pair 1, got 6"):
        decode_av_pairs(b"\1\0\xff\xffa\0\0\0\0\0", "test")


def test_av_pairs_end_at_eol_and_keep_the_first_of_an_id():
    pairs = b"\1\0\2\0a\0" + b"\1\0\2\0b\0" + b"\0\0\0\0" + b"\2\0\2\0c\0"
    assert decode_av_pairs(pairs, "test") == {1: b"a\0"}


def test_av_pairs_keep_their_order():
    pairs = {9: b"s\0", 1: b"", 6: b"\2\0\0\0"}
    assert list(decode_av_pairs(encode_av_pairs(pairs), "test")) == [9, 1, 6]


def test_av_pairs_may_be_kept_as_they_stand():
    pairs = b"\1\0\2\0a\0" + b"\2\0\0\0"
    decoded = decode_av_pairs(b"before" + pairs + bytes(4), "test", 6, whole=True)
    assert b"".join(decoded.values()) == pairs
    assert list(decoded) == [1, 2]


@pytest.mark.requirement("defect.av-pairs")
def test_av_pairs_without_number_are_past_the_limit():
    with pytest.raises(LimitExceeded):
        decode_av_pairs(b"\1\0\0\0" * 16_000, "test")


@pytest.mark.parametrize("size", [*range(48), 1000])
def test_nt_response_that_is_no_ntlmv2_response_is_refused(size):
    with pytest.raises(CredSSPError):
        NTLMv2Response.decode(bytes(size))


@pytest.mark.requirement("defect.text-and-leaks")
@pytest.mark.parametrize("text", [b"a", b"a\0b", b"\0\xd8", b"\0\xdca\0", b"\0\xd8\0\xd8"])
def test_text_that_is_no_utf_16_is_refused(text):
    with pytest.raises(RemoteProtocolError, match="utf-16"):
        decode_text(text, "name")


@pytest.mark.parametrize(
    ("flags", "announced"),
    [(b"\2\0\0\0", True), (b"\3\0\0\0", True), (b"\1\0\0\0", False), (b"\2", True), (b"", False)],
)
def test_mic_is_announced_by_its_bit_of_msv_av_flags(flags, announced):
    data = bytes(16) + NTLMv2Response.encode_temp(bytes(8), bytes(8), encode_av_pairs({AvId.FLAGS: flags}))
    assert NTLMv2Response.decode(data).mic_announced is announced


def test_mic_without_room_is_refused():
    with pytest.raises(RemoteProtocolError, match="byte 72"):
        _ = AuthenticateMessage.decode(AUTHENTICATE).mic


@pytest.mark.parametrize("offset", [0, 40, 72, 88, 0xFFFFFFFF])
def test_empty_field_takes_no_room_from_the_mic(offset):
    decoded = AuthenticateMessage.decode(WITH_MIC[:44] + struct.pack("<HHI", 0, 0, offset) + WITH_MIC[52:])
    assert (decoded.mic, decoded.user, decoded.workstation) == (b"m" * 16, b"u\0", b"")


@pytest.mark.requirement("defect.ntlm-offsets")
@pytest.mark.parametrize("at", AUTHENTICATE_FIELDS)
@pytest.mark.parametrize("offset", [64, 72, 87])
def test_field_in_the_place_of_the_mic_leaves_it_no_room(at, offset):
    decoded = AuthenticateMessage.decode(WITH_MIC[:at] + struct.pack("<HHI", 1, 1, offset) + WITH_MIC[at + 8 :])
    with pytest.raises(RemoteProtocolError, match=f"byte {offset}"):
        _ = decoded.mic


def test_with_mic_changes_the_mic_alone():
    message = AuthenticateMessage.encode(
        0xE2888235,
        domain=b"",
        user=b"u\0",
        workstation=b"",
        lm_response=b"",
        nt_response=b"",
        encrypted_session_key=b"",
    )
    signed = with_mic(message, b"m" * 16)
    assert AuthenticateMessage.decode(signed).mic == b"m" * 16
    assert with_mic(signed, bytes(16)) == message


def test_values_show_no_proof_and_no_key():
    message = AuthenticateMessage.decode(AUTHENTICATE)
    text = repr(message) + repr(NTLMv2Response.decode(message.nt_response)) + repr(ChallengeMessage.decode(CHALLENGE))
    for secret in (message.nt_response, message.encrypted_session_key, message.lm_response, AUTHENTICATE):
        assert repr(secret)[2:-1] not in text


@pytest.mark.parametrize(
    ("unix_ns", "filetime"), [(0, 116_444_736_000_000_000), (1_700_000_000_123_456_789, 133_444_736_001_234_567)]
)
def test_filetime_counts_100_ns_since_1601(monkeypatch, unix_ns, filetime):
    monkeypatch.setattr("time.time_ns", lambda: unix_ns)
    assert filetime_now() == filetime
