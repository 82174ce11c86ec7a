"""SPNEGO tokens: recorded ones, pyspnego as the other reader and writer, and malformed ones."""

import pytest
from spnego._spnego import NegState as SpnegoState
from spnego._spnego import NegTokenInit as SpnegoInit
from spnego._spnego import NegTokenResp as SpnegoResp
from spnego._spnego import unpack_token
from vectors.load import captures

from acredssp.errors import CredSSPError, LimitExceeded, RemoteProtocolError
from acredssp.wire import der, spnego
from acredssp.wire.spnego import NegState, NegTokenInit, NegTokenResp, TokenKind, token_kind

NTLM_LIST = bytes.fromhex("300c060a2b06010401823702020a")
INIT = bytes.fromhex(
    "604806062b0601050502a03e303ca00e300c060a2b06010401823702020aa22a04284e544c4d5353500001000000358208620000000000"
    "00000000000000000000000a00d73a0000000f"
)
"""Recorded: an aardwolf client, and the completion below that it was answered with."""
RESP_COMPLETED = bytes.fromhex("a11b3019a0030a0100a312041001000000d93ca397ba7e287300000000")


def recorded_tokens():
    found = {}
    for capture in captures():
        for message in capture.messages:
            for text in message.decoded["nego_tokens"] or ():
                token = bytes.fromhex(text)
                if token_kind(token) in {TokenKind.SPNEGO_INIT, TokenKind.SPNEGO_RESP}:
                    found.setdefault(token, capture.name)
    return [pytest.param(token, id=f"{name}-{len(token)}") for token, name in found.items()]


@pytest.mark.parametrize("token", recorded_tokens())
def test_recorded_token_reads_as_pyspnego_reads_it_and_encodes_again(token):
    theirs = unpack_token(token)
    if token[0] == 0x60:
        ours = NegTokenInit.decode(token)
        assert [der.encode(6, _oid_content(oid)) for oid in theirs.mech_types] == list(ours.mech_types)
        assert (ours.mech_token, ours.mech_list_mic) == (theirs.mech_token, theirs.mech_list_mic)
        assert NegTokenInit.encode(ours.mech_list, ours.mech_token) == token
        return
    ours = NegTokenResp.decode(token)
    assert ours.neg_state == theirs.neg_state
    assert (ours.response_token, ours.mech_list_mic) == (theirs.response_token, theirs.mech_list_mic)
    assert ours.encode() == token


def _oid_content(dotted):
    first, second, *arcs = (int(arc) for arc in dotted.split("."))
    content = bytearray([first * 40 + second])
    for arc in arcs:
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(arc & 0x7F | 0x80)
        content += bytes(reversed(septets))
    return bytes(content)


@pytest.mark.parametrize(
    ("constant", "dotted"),
    [
        (spnego.SPNEGO, "1.3.6.1.5.5.2"),
        (spnego.NTLM, "1.3.6.1.4.1.311.2.2.10"),
        (spnego.KERBEROS, "1.2.840.113554.1.2.2"),
        (spnego.KERBEROS_MICROSOFT, "1.2.840.48018.1.2.2"),
        (spnego.KERBEROS_USER_TO_USER, "1.2.840.113554.1.2.2.3"),
        (spnego.NEGOEX, "1.3.6.1.4.1.311.2.2.30"),
    ],
)
def test_object_identifiers_are_the_published_ones(constant, dotted):
    assert constant == der.encode(der.OBJECT_IDENTIFIER, _oid_content(dotted))


def test_recorded_init_encodes_again():
    token = NegTokenInit.decode(INIT)
    assert token.mech_types == (spnego.NTLM,)
    assert token.mech_list == NTLM_LIST == spnego.encode_mech_list([spnego.NTLM])
    assert NegTokenInit.encode(token.mech_list, token.mech_token) == INIT


def test_recorded_completion_decodes():
    token = NegTokenResp.decode(RESP_COMPLETED)
    assert token == NegTokenResp(
        NegState.ACCEPT_COMPLETED, mech_list_mic=bytes.fromhex("01000000d93ca397ba7e287300000000")
    )


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 255, 256, 70_000])
def test_own_tokens_are_read_by_pyspnego(size):
    init = unpack_token(NegTokenInit.encode(spnego.encode_mech_list([spnego.KERBEROS, spnego.NTLM]), bytes(size)))
    assert init.mech_types == ["1.2.840.113554.1.2.2", "1.3.6.1.4.1.311.2.2.10"]
    assert init.mech_token == bytes(size)
    resp = unpack_token(NegTokenResp(NegState.REQUEST_MIC, spnego.NTLM, bytes(size), b"mic").encode())
    assert (resp.neg_state, resp.supported_mech) == (SpnegoState.request_mic, "1.3.6.1.4.1.311.2.2.10")
    assert (resp.response_token, resp.mech_list_mic) == (bytes(size), b"mic")


@pytest.mark.parametrize("size", [0, 1, 127, 128, 70_000])
def test_pyspnegos_tokens_are_read(size):
    init = SpnegoInit(mech_types=["1.2.840.48018.1.2.2"], mech_token=bytes(size), mech_list_mic=b"m").pack()
    ours = NegTokenInit.decode(init)
    assert ours.mech_types == (spnego.KERBEROS_MICROSOFT,)
    # pyspnego leaves an empty mechToken out.
    assert (ours.mech_token or b"", ours.mech_list_mic) == (bytes(size), b"m")
    resp = SpnegoResp(neg_state=SpnegoState.reject, response_token=bytes(size)).pack()
    assert NegTokenResp.decode(resp).neg_state is NegState.REJECT


def init_of(*parts):
    """A NegTokenInit of encoded fields, without GSS header."""
    return der.encode(0xA0, der.encode(der.SEQUENCE, b"".join(parts)))


MECHS = der.encode(0xA0, NTLM_LIST)
FLAGS = der.encode(0xA1, der.encode(der.BIT_STRING, b"\1\xfe"))
HINTS = der.encode(0xA3, der.encode(der.SEQUENCE, der.encode(0xA0, der.encode(0x1B, b"not_defined_in_RFC4178"))))


def test_token_without_gss_header_is_read():
    assert NegTokenInit.decode(init_of(MECHS, der.encode_octets(2, b"t"))).mech_token == b"t"


def test_hints_of_neg_token_init_2_are_passed_over():
    token = NegTokenInit.decode(init_of(MECHS, HINTS, der.encode_octets(4, b"mic")))
    assert token.mech_list_mic == b"mic"
    assert NegTokenInit.decode(init_of(MECHS, HINTS)).mech_list_mic is None
    # Without hints, [4] is a field of the future.
    token = NegTokenInit.decode(init_of(MECHS, der.encode_octets(3, b"mic"), der.encode_octets(4, b"other")))
    assert token.mech_list_mic == b"mic"


def test_req_flags_and_fields_of_the_future_are_passed_over():
    token = NegTokenInit.decode(init_of(MECHS, FLAGS, der.encode_octets(3, b"mic"), der.encode(0xA9, b"??")))
    assert (token.mech_token, token.mech_list_mic) == (None, b"mic")


def test_mech_list_is_kept_as_received():
    long_form = bytes.fromhex("30810d06810a2b06010401823702020a")
    token = NegTokenInit.decode(init_of(der.encode(0xA0, long_form)))
    assert token.mech_list == long_form
    assert token.mech_types == (spnego.NTLM,)


def test_mechanisms_without_number_are_past_the_limit():
    for count in (32, 33, 5000):
        token = init_of(der.encode(0xA0, spnego.encode_mech_list([spnego.NTLM] * count)))
        if count == 32:
            assert len(NegTokenInit.decode(token).mech_types) == 32
            continue
        with pytest.raises(LimitExceeded):
            NegTokenInit.decode(token)


@pytest.mark.requirement("defect.spnego-without-mechanism")
@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"\x60",
        b"\xa0",
        INIT + b"\0",
        INIT.replace(b"\x2b\x06\x01\x05\x05\x02", b"\x2b\x06\x01\x05\x05\x03"),
        RESP_COMPLETED,
        init_of(),
        init_of(der.encode_octets(2, b"t")),
        init_of(der.encode(0xA0, der.encode(der.SEQUENCE, b""))),
        init_of(der.encode(0xA0, der.encode(der.SEQUENCE, b"\x04\x01x"))),
        init_of(der.encode(0xA0, NTLM_LIST + b"\0")),
        init_of(MECHS, MECHS),
        init_of(MECHS, FLAGS, FLAGS),
        init_of(MECHS, der.encode(0xA1, b"\x04\x01x")),
        init_of(MECHS, der.encode_octets(2, b"t"), FLAGS),
        init_of(MECHS, der.encode_octets(2, b"t"), der.encode_octets(2, b"t")),
        init_of(MECHS, der.encode_octets(3, b"m"), der.encode_octets(2, b"t")),
        init_of(MECHS, der.encode_octets(3, b"m"), der.encode_octets(3, b"m")),
        init_of(MECHS, HINTS, HINTS),
        init_of(MECHS, HINTS, der.encode_octets(4, b"m"), der.encode_octets(4, b"m")),
        init_of(MECHS, der.encode(0xA3, b"\x30\x00\x05\x00")),
        init_of(MECHS, der.encode(0xA3, b"")),
        init_of(der.encode_octets(2, b"t"), MECHS),
        init_of(MECHS, der.encode(0xA2, b"\x02\x01\0")),
        init_of(MECHS, b"\x30\x00"),
        init_of(MECHS, b"\xbf\x20\x00"),
        init_of(MECHS) + b"\0",
        init_of(MECHS) + der.encode_octets(2, b"behind all"),
        init_of() + MECHS,
    ],
    ids=lambda token: token[:12].hex(),
)
def test_what_is_no_init_is_refused(token):
    with pytest.raises(RemoteProtocolError):
        NegTokenInit.decode(token)


def resp_of(*parts):
    return der.encode(0xA1, der.encode(der.SEQUENCE, b"".join(parts)))


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"\xa1",
        INIT,
        RESP_COMPLETED + b"\0",
        RESP_COMPLETED + der.encode(0xA9, b"behind all"),
        resp_of() + der.encode_octets(2, b"behind all"),
        resp_of(der.encode(0xA0, b"\x0a\x01\x04")),
        resp_of(der.encode(0xA0, b"\x0a\x02\0\1")),
        resp_of(der.encode(0xA0, b"\x0a\x00")),
        resp_of(der.encode(0xA0, b"\x02\x01\0")),
        resp_of(der.encode(0xA1, b"\x04\x01\0")),
        resp_of(der.encode_octets(2, b"t"), der.encode_octets(2, b"t")),
        resp_of(der.encode_octets(3, b"t"), der.encode_octets(2, b"t")),
        resp_of(b"\xa2\x03\x04\x02x"),
    ],
    ids=lambda token: token[:12].hex(),
)
def test_what_is_no_resp_is_refused(token):
    with pytest.raises(RemoteProtocolError):
        NegTokenResp.decode(token)


def test_empty_resp_has_no_fields():
    assert NegTokenResp.decode(resp_of()) == NegTokenResp()


@pytest.mark.parametrize(("decode", "token"), [(NegTokenInit.decode, INIT), (NegTokenResp.decode, RESP_COMPLETED)])
def test_every_truncation_is_refused(decode, token):
    for size in range(len(token)):
        with pytest.raises(RemoteProtocolError):
            decode(token[:size])


@pytest.mark.parametrize(("decode", "token"), [(NegTokenInit.decode, INIT), (NegTokenResp.decode, RESP_COMPLETED)])
def test_altered_byte_raises_no_other_error(decode, token):
    for position in range(len(token)):
        for value in (0, 1, 0x30, 0x7F, 0x80, 0x84, 0x88, 0xFF):
            altered = token[:position] + bytes((value,)) + token[position + 1 :]
            try:
                decode(altered)
            except CredSSPError as error:
                assert isinstance(error, RemoteProtocolError)  # noqa: PT017 -- most of them decode


@pytest.mark.requirement("mechanism.detection")
@pytest.mark.parametrize(
    ("token", "kind"),
    [
        (bytes.fromhex("4e544c4d5353500001000000"), TokenKind.NTLM),
        (INIT, TokenKind.SPNEGO_INIT),
        (bytes.fromhex("60820100 06062b0601050502 a0"), TokenKind.SPNEGO_INIT),
        (init_of(MECHS), TokenKind.SPNEGO_INIT),
        (RESP_COMPLETED, TokenKind.SPNEGO_RESP),
        (bytes.fromhex("60820312 06092a864886f712010202 0100"), TokenKind.KERBEROS),
        (bytes.fromhex("6006092a864886f712010202"), TokenKind.UNKNOWN),
        (bytes.fromhex("6e820312"), TokenKind.UNKNOWN),
        (b"", TokenKind.UNKNOWN),
        (b"\x60", TokenKind.UNKNOWN),
        (b"\x60\xff", TokenKind.UNKNOWN),
        (b"NTLMSSP", TokenKind.UNKNOWN),
        (b"\x30\x03\x02\x01\x06", TokenKind.UNKNOWN),
    ],
)
def test_kind_of_a_token_is_told_by_its_first_bytes(token, kind):
    assert token_kind(token) is kind


USUAL = [
    spnego.encode_resp(NegState.ACCEPT_INCOMPLETE, spnego.NTLM, b"challenge"),
    spnego.encode_resp(NegState.ACCEPT_COMPLETED, None, None, bytes(16)),
    NegTokenInit.encode(NTLM_LIST, b"negotiate"),
]


@pytest.mark.parametrize("token", USUAL, ids=["choice", "last mic", "offer"])
def test_the_usual_tokens_of_ntlm_read_as_the_same_tokens_with_a_longer_length(token):
    """The usual ones are compared in one go, and those that are not in DER are read element by element."""
    decode = NegTokenInit.decode if token[0] == 0x60 else NegTokenResp.decode
    assert token[1] < 0x80
    assert decode(token[:1] + b"\x81" + token[1:]) == decode(token)


@pytest.mark.parametrize("token", USUAL, ids=["choice", "last mic", "offer"])
def test_a_usual_token_with_one_bit_turned_reads_as_another_or_is_refused(token):
    decode = NegTokenInit.decode if token[0] == 0x60 else NegTokenResp.decode
    usual = decode(token)
    for index in range(len(token)):
        for bit in range(8):
            turned = bytearray(token)
            turned[index] ^= 1 << bit
            try:
                assert decode(bytes(turned)) != usual
            except CredSSPError:
                continue
