"""Kerberos' tokens from the outside: forms that are taken, and every form that is not."""

import contextlib
import random

import pytest
from vectors.load import captures

from acredssp.errors import CredSSPError, LimitExceeded, RemoteProtocolError
from acredssp.wire import gss
from acredssp.wire.gss import ContextToken

OID = bytes.fromhex("06092a864886f712010202")
MICROSOFT = bytes.fromhex("06092a864882f712010202")

# [MS-KILE] 4.5: GSS_WrapEx with RC4-HMAC.
RC4 = bytes.fromhex(
    "603b06092a864886f712010202020111001000ffffe29e8bbc6348e740ebaa619244a156a13b5cf65e3c21b9aa"
    "8ed63f0ac83815335b72e293bae1f660"
)
# Exchange C's pubKeyAuth, client to server: EC 0, RRC 28.
SEALED = bytes.fromhex(
    "050406ff0000001c0000000000000001d08251d55ad9045aab9c7caa5a5a0f2efbe3cbb72cfaf7e432550a836a3a8f63dea2b2cdfb18c5f0f3"
    "56a923552e38e0a2fc92b70462e55036f80bec9b8d3994d4342c0cd3c885b33ba81009"
)
MIC = bytes.fromhex("040404ffffffffff0000000000000000260dbef0f9da6d669c5d42a8")


def token(kind, body=b"x", oid=OID):
    identifier, tag = kind.value
    content = oid + identifier + bytes((tag, len(body))) + body
    return bytes((0x60, len(content))) + content


@pytest.mark.parametrize("oid", [OID, MICROSOFT])
@pytest.mark.parametrize("kind", ContextToken)
def test_a_context_token_is_of_its_kind_and_of_no_other(kind, oid):
    gss.check_context_token(token(kind, oid=oid), kind)
    for other in set(ContextToken) - {kind}:
        with pytest.raises(RemoteProtocolError):
            gss.check_context_token(token(kind, oid=oid), other)
    gss.check_context_token(token(kind), *ContextToken)


@pytest.mark.parametrize("cut", range(30))
def test_a_context_token_that_is_cut_is_refused(cut):
    whole = token(ContextToken.AP_REQ, bytes(14))
    assert len(whole) == 31
    with pytest.raises(RemoteProtocolError):
        gss.check_context_token(whole[:cut], ContextToken.AP_REQ)


def test_a_context_token_of_more_than_windows_longest_is_refused():
    with pytest.raises(LimitExceeded):
        gss.check_context_token(bytes(65_536), ContextToken.AP_REQ)


@pytest.mark.requirement("kerberos.wrap", "defect.gss-wrap-lengths")
@pytest.mark.parametrize(
    ("sealed", "from_acceptor"), [(SEALED, False), (SEALED[:2] + b"\x07" + SEALED[3:], True), (RC4, False), (RC4, True)]
)
def test_sealed_tokens_are_taken(sealed, from_acceptor):
    (unrotated,) = gss.unrotated(sealed, from_acceptor=from_acceptor)
    assert len(unrotated) == len(sealed)
    assert unrotated is not sealed


@pytest.mark.requirement("kerberos.wrap")
@pytest.mark.parametrize("size", [0, 1, 32, 294])
@pytest.mark.parametrize("checksum", [12, 16, 24])
def test_a_rotation_is_undone(size, checksum):
    body = random.Random(size).randbytes(16 + size + 16 + checksum)
    made = bytes.fromhex("050406ff00000000") + bytes(8) + body
    sent = gss.rotate(made, size)
    assert int.from_bytes(sent[6:8], "big") == 16 + checksum
    assert sent[16:] == body[16 + size :] + body[: 16 + size]
    assert gss.unrotated(sent, from_acceptor=False) == (made,)
    assert gss.rotate(sent, size) == sent
    assert gss.rotate(RC4, 15) == RC4


def test_a_filled_token_has_two_readings():
    body = bytes(range(100))
    filled = bytes.fromhex("050406ff0010001c") + bytes(8) + body
    by_rotation, by_both = gss.unrotated(filled, from_acceptor=False)
    assert by_rotation[16:] == body[28:] + body[:28]
    assert by_both[16:] == body[44:] + body[:44]
    assert by_rotation[:8] == by_both[:8] == bytes.fromhex("050406ff00100000")


@pytest.mark.requirement("defect.gss-wrap-lengths")
@pytest.mark.parametrize(
    "sealed",
    [
        b"",
        b"\x05\x04",
        SEALED[:15],
        SEALED[:59],
        RC4[:-16],
        RC4[:-1],
        RC4 + b"\0",
        bytes.fromhex("602b") + RC4[2:45],
        RC4.replace(bytes.fromhex("1000ffff"), bytes.fromhex("ffffffff"), 1),
        RC4.replace(bytes.fromhex("0201"), bytes.fromhex("0101"), 2),
        SEALED[:2] + b"\x04" + SEALED[3:],
        SEALED[:2] + b"\x07" + SEALED[3:],
        SEALED[:2] + b"\x0e" + SEALED[3:],
        SEALED[:3] + b"\x00" + SEALED[4:],
        SEALED[:4] + b"\x00\x01" + SEALED[6:],
        SEALED[:4] + b"\x00\x20" + SEALED[6:],
        SEALED[:4] + b"\x00\x10" + SEALED[6:75],
        MIC + bytes(60),
    ],
)
def test_what_is_no_sealed_token_is_refused(sealed):
    with pytest.raises(RemoteProtocolError):
        gss.unrotated(sealed, from_acceptor=False)


@pytest.mark.parametrize(
    "mic",
    [
        b"",
        MIC[:-1],
        MIC + bytes(13),
        SEALED,
        MIC[:2] + b"\x05" + MIC[3:],
        MIC[:2] + b"\x06" + MIC[3:],
        MIC[:7] + b"\0" + MIC[8:],
        b"\x60\x23" + OID + bytes(24),
        b"\x60\x22" + OID + bytes.fromhex("01011100ffffffff") + bytes(15),
    ],
)
def test_what_is_no_mic_is_refused(mic):
    with pytest.raises(RemoteProtocolError):
        gss.check_mic(mic, from_acceptor=False)


@pytest.mark.parametrize(
    "mic", [MIC, MIC + bytes(12), b"\x60\x23" + OID + bytes.fromhex("01011100ffffffff") + bytes(16)]
)
def test_mics_are_taken(mic):
    gss.check_mic(mic, from_acceptor=False)


@pytest.mark.parametrize("seed", range(50))
def test_chance_is_refused_or_taken_and_nothing_else(seed):
    source = random.Random(seed)
    for _ in range(200):
        start = source.choice([SEALED, RC4, MIC, token(ContextToken.AP_REQ)])
        data = bytearray(start[: source.randint(0, len(start))] + source.randbytes(source.randint(0, 4)))
        for _ in range(source.randint(0, 3)):
            if data:
                data[source.randrange(len(data))] = source.randrange(256)
        for check in (gss.unrotated, gss.check_mic):
            with contextlib.suppress(CredSSPError):
                check(bytes(data), from_acceptor=source.random() < 0.5)
        with contextlib.suppress(CredSSPError):
            gss.check_context_token(bytes(data), *ContextToken)


KERBEROS = [
    capture for capture in captures() if "1.2.840.113554.1.2.2" in str(capture.get("negotiated_protocol"))
    or "kerberos" in str(capture.get("negotiated_protocol"))
]  # fmt: skip


@pytest.mark.parametrize("capture", KERBEROS, ids=lambda capture: capture["label"])
def test_recorded_tokens_are_taken(capture):
    for message in capture.messages:
        from_acceptor = message.direction == "s2c"
        for field in "pub_key_auth", "auth_info":
            sealed = message.decoded[field]
            if sealed:
                gss.unrotated(bytes.fromhex(sealed), from_acceptor=from_acceptor)
