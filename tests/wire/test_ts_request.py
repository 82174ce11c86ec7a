import contextlib
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectors import hostile, messages, schemas
from vectors.load import capture, captures

from acredssp.errors import RemoteProtocolError
from acredssp.status import SecurityStatus
from acredssp.wire import der, ts_request
from acredssp.wire.ts_request import TSRequest

NONCE = bytes(range(32))
V6 = "a003020106"
FULL = TSRequest(
    version=6,
    nego_token=b"t" * 200,
    auth_info=b"a" * 83,
    pub_key_auth=b"p" * 48,
    error_code=0xC000006D,
    client_nonce=NONCE,
)


def sequence(*parts: str) -> bytes:
    return der.encode(der.SEQUENCE, bytes.fromhex("".join(parts)))


def as_schema(request: TSRequest) -> dict:
    """The same message in the words of the ASN.1 module."""
    code = request.error_code
    return {
        "version": request.version,
        "negoTokens": None if request.nego_token is None else [{"negoToken": request.nego_token}],
        "authInfo": request.auth_info,
        "pubKeyAuth": request.pub_key_auth,
        "errorCode": code - (1 << 32) if code is not None and code >= 1 << 31 else code,
        "clientNonce": request.client_nonce,
    }


def all_messages():
    recorded = [(str(c), m.data) for c in captures() for m in c.messages]
    listed = [("raw NTLM", m) for m in messages.EXCHANGE_RAW_NTLM] + [
        ("SPNEGO", m) for m in messages.EXCHANGE_SPNEGO_NTLM
    ]
    return recorded + listed


# -- against recordings and other implementations


@pytest.mark.parametrize("version", range(8))
@pytest.mark.parametrize("size", [0, 1, 100, 110, 128, 250, 256, 0xFFF0])
def test_a_token_alone_is_written_and_read_as_a_message_of_any_fields(version, size):
    token = bytes(size)
    data = ts_request.encode_token(version, token)
    assert data == TSRequest(version, token).encode()
    assert ts_request.decode(data) == TSRequest(version, token)


@pytest.mark.requirement("codec.ts-request")
@pytest.mark.parametrize("recorded", captures(), ids=str)
def test_recorded_messages_read_as_pyspnego_read_them(recorded):
    for message in recorded.messages:
        request = TSRequest.decode(message.data)
        expected = message.decoded
        tokens = expected["nego_tokens"]
        assert request.version == expected["version"]
        assert request.nego_token == (bytes.fromhex(tokens[0]) if tokens else None)
        for name in ("auth_info", "pub_key_auth", "client_nonce"):
            assert getattr(request, name) == (bytes.fromhex(expected[name]) if expected[name] is not None else None)
        code = expected["error_code"]
        assert request.error_code == (None if code is None else int(code, 16))


@pytest.mark.requirement("codec.vectors")
def test_every_recorded_message_is_written_again_byte_for_byte():
    different = [name for name, data in all_messages() if TSRequest.decode(data).encode() != data]
    assert different == ["freerdp2.11-ntlm-badpw-5byte-errorcode"]  # the recorder wrote errorCode in 5 bytes
    assert len(all_messages()) > 300


@pytest.mark.requirement("codec.ts-request")
def test_every_recorded_message_is_read_and_written_as_asn1crypto_does():
    for name, data in all_messages():
        request = TSRequest.decode(data)
        read = schemas.native(schemas.TSRequest, data)
        if read["errorCode"] is not None and read["errorCode"] > 0x7FFFFFFF:
            read["errorCode"] -= 1 << 32
        assert dict(read) == as_schema(request), name
        assert schemas.dump(schemas.TSRequest, as_schema(request)) == request.encode(), name


@pytest.mark.requirement("codec.ts-request")
def test_every_recorded_message_is_read_and_written_as_asn1tools_does():
    for name, data in all_messages():
        request = TSRequest.decode(data)
        present = {key: value for key, value in as_schema(request).items() if value is not None}
        assert schemas.module().encode("TSRequest", present) == request.encode(), name
        if request.encode() == data:
            assert schemas.module().decode("TSRequest", data) == present, name


def test_the_published_exchange_is_the_captured_one():
    assert [m.data for m in capture("freerdp3.10-ntlm-v6").messages] == messages.EXCHANGE_RAW_NTLM


@pytest.mark.parametrize(
    ("index", "sealed"), [(2, messages.LEGACY_PUB_KEY_AUTH[0]), (3, messages.LEGACY_PUB_KEY_AUTH[1])]
)
def test_a_legacy_pub_key_auth_of_286_bytes_is_read_whole(index, sealed):
    assert TSRequest.decode(capture("freerdp3.10-ntlm-v4").messages[index].data).pub_key_auth == sealed


def test_a_spnego_exchange_has_its_fields_where_they_belong():
    requests = [TSRequest.decode(data) for data in messages.EXCHANGE_SPNEGO_NTLM]
    shape = [
        tuple(len(field) if field is not None else None for field in (r.nego_token, r.auth_info, r.pub_key_auth))
        for r in requests
    ]
    assert shape == [(74, None, None), (147, None, None), (322, None, 48), (29, None, 48), (None, 83, None)]
    assert [r.client_nonce is not None for r in requests] == [False, False, True, False, False]


@pytest.mark.requirement("codec.ts-request")
@given(
    st.builds(
        TSRequest,
        version=st.integers(0, 0xFFFFFFFF),
        nego_token=st.none() | st.binary(max_size=300),
        auth_info=st.none() | st.binary(max_size=300),
        pub_key_auth=st.none() | st.binary(max_size=300),
        error_code=st.none() | st.integers(0, 0xFFFFFFFF),
        client_nonce=st.none() | st.binary(min_size=32, max_size=32),
    )
)
def test_any_message_survives_the_round_trip_and_asn1crypto_agrees(request_):
    data = request_.encode()
    assert der.frame_size(data, 1 << 20) == (len(data), 0)
    assert TSRequest.decode(data) == request_
    assert schemas.dump(schemas.TSRequest, as_schema(request_)) == data


# -- worked encodings


@pytest.mark.requirement("codec.error-code")
@pytest.mark.parametrize(
    ("request_", "data"),
    [
        (TSRequest(2), "3005a003020102"),
        (TSRequest(6, error_code=0xC000006D), "300da003020106a4060204c000006d"),
        (TSRequest(6, error_code=0xC00000BB), "300da003020106a4060204c00000bb"),
        (TSRequest(6, error_code=13), "300aa003020106a40302010d"),
        (TSRequest(96), "3005a003020160"),
        (TSRequest(0), "3005a003020100"),
        (TSRequest(1), "3005a003020101"),
        (TSRequest(0xFFFFFFFF), "3009a007020500ffffffff"),
        (
            TSRequest(6, nego_token=b"T" * 40, client_nonce=NONCE),
            "305ba003020106a130302e302ca02a0428" + "54" * 40 + "a5220420" + NONCE.hex(),
        ),
        (TSRequest(6, nego_token=b""), "300fa003020106a1083006 3004a0020400"),
        (TSRequest(6, auth_info=b""), "3009a003020106a2020400"),
    ],
)
def test_worked_encodings(request_, data):
    assert request_.encode() == bytes.fromhex(data)
    assert TSRequest.decode(bytes.fromhex(data)) == request_


@pytest.mark.requirement("codec.lengths")
@pytest.mark.parametrize(
    "data",
    [
        "3082009e" + "a003020106" + "a2820095" + "04820091" + "61" * 0x91,  # rdesktop's form
        "30840000009e" + "a003020106" + "a2820095" + "0483000090" + "61" * 0x90,
    ],
)
def test_lengths_need_not_be_minimal(data):
    request = TSRequest.decode(bytes.fromhex(data))
    assert set(request.auth_info) == {0x61}
    assert TSRequest.decode(request.encode()) == request
    assert len(request.encode()) < len(bytes.fromhex(data))


# -- errorCode


@pytest.mark.requirement("codec.error-code")
@pytest.mark.parametrize(
    ("integer", "code"),
    [
        ("0204c000006d", 0xC000006D),
        ("020500c000006d", 0xC000006D),
        ("0205ffc000006d", 0xC000006D),
        ("02010d", 13),
        ("020100", 0),
        ("0201ff", 0xFFFFFFFF),
        ("02047fffffff", 0x7FFFFFFF),
        ("020500ffffffff", 0xFFFFFFFF),
        ("02048009030c", 0x8009030C),
        ("0204c00700ea", 0xC00700EA),
    ],
)
def test_error_code_is_read_signed_or_unsigned_and_masked(integer, code):
    field = bytes.fromhex(integer)
    assert TSRequest.decode(sequence(V6, f"a4{len(field):02x}", integer)).error_code == code


@pytest.mark.parametrize(
    "integer", ["0200", "0205 01c000006d", "0205fec000006d", "0205ff7fffffff", "0206 0000c000006d"]
)
def test_error_code_of_other_than_32_bits_is_refused(integer):
    field = bytes.fromhex(integer)
    with pytest.raises(RemoteProtocolError, match="errorCode"):
        TSRequest.decode(sequence(V6, f"a4{len(field):02x}", integer))


# -- negoTokens


@pytest.mark.parametrize(
    ("tokens", "token"),
    [
        ("a1023000", b""),
        ("a10830063004a0020400", b""),
        ("a10930073005a0030401aa", b"\xaa"),
        ("a10f300d3005a0030401aa3004a0020400", b"\xaa"),
        ("a10f300d3004a00204003005a0030401aa", b"\xaa"),
        ("a10e300c3004a00204003004a0020400", b""),
    ],
)
def test_the_one_token_is_read_and_none_is_the_same_as_an_empty_one(tokens, token):
    assert TSRequest.decode(sequence(V6, tokens)).nego_token == token


def test_absent_nego_tokens_are_none():
    assert TSRequest.decode(sequence(V6)).nego_token is None


def test_a_second_token_is_refused():
    with pytest.raises(RemoteProtocolError, match="negoTokens: expected one token, got another one"):
        TSRequest.decode(sequence(V6, "a110300e3005a0030401aa3005a0030401aa"))


@pytest.mark.parametrize("count", [8, 9])
def test_eight_elements_are_read_and_no_more(count):
    items = "3004a0020400" * count
    data = sequence(V6, f"a1{6 * count + 2:02x}30{6 * count:02x}", items)
    if count == 8:
        assert TSRequest.decode(data).nego_token == b""
    else:
        with pytest.raises(RemoteProtocolError, match="negoTokens: expected the end"):
            TSRequest.decode(data)


@pytest.mark.interpreted_only("counts calls within a module")
def test_a_message_full_of_empty_tokens_costs_no_more_than_a_good_one(monkeypatch):
    items = b"\x30\x04\xa0\x02\x04\x00" * 20_000
    data = der.encode(der.SEQUENCE, bytes.fromhex(V6) + der.encode(der.CONTEXT + 1, der.encode(der.SEQUENCE, items)))
    element = mock.Mock(wraps=der.element)
    monkeypatch.setattr(der, "element", element)
    with pytest.raises(RemoteProtocolError, match="negoTokens: expected the end"):
        TSRequest.decode(data)
    assert element.call_count < 50


# -- fields that are not known


@pytest.mark.parametrize("tags", [(6,), (30,), (6, 7), (6, 29, 30)])
def test_newer_fields_in_ascending_order_are_skipped(tags):
    newer = "".join(f"{0xA0 + tag:02x}03040177" for tag in tags)
    assert TSRequest.decode(sequence(V6, f"a5220420{NONCE.hex()}", newer)) == TSRequest(6, client_nonce=NONCE)


@pytest.mark.parametrize(
    "newer",
    [
        "a60304017aa60304017a",  # twice
        "a70304017aa60304017a",  # descending
        "a60304017aa5220420" + "00" * 32,  # a known one behind it
        "8601aa",  # primitive: no explicit tag
        "0401aa",  # universal
        "4601aa",  # application class
        "e601aa",  # private class
        "bf1f0304017a",  # [31], in several bytes
        "a6",
        "a605aabb",
        "a680aabb0000",
    ],
)
def test_other_strange_fields_are_refused(newer):
    with pytest.raises(RemoteProtocolError):
        TSRequest.decode(sequence(V6, newer))


# -- what is refused


FIELDS = [
    "a003020106",
    "a10930073005a0030401aa",
    "a203040161",
    "a303040162",
    "a4060204c000006d",
    "a5220420" + NONCE.hex(),
]


@pytest.mark.parametrize("first", range(6))
@pytest.mark.parametrize("second", range(6))
def test_fields_come_once_each_and_in_ascending_order(first, second):
    fields = [] if first == 0 else [FIELDS[0]]
    data = sequence(*fields, FIELDS[first], FIELDS[second])
    if first < second:
        assert TSRequest.decode(data).version == 6
    else:
        name = ("version", "negoTokens", "authInfo", "pubKeyAuth", "errorCode", "clientNonce")[second]
        with pytest.raises(RemoteProtocolError, match=f"ascending order, got {name} at byte "):
            TSRequest.decode(data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("", "TSRequest: expected an element at byte 0"),
        ("3000", "version: expected an element at byte 2"),
        ("3008a203040161a30104", "version: expected tag 0xA0 at byte 2, got 0xA2"),
        ("3004a0020200", "version: expected an INTEGER of 1 to 5 bytes"),
        ("3005a0030201ff", "version: expected 0 to 0xFFFFFFFF at byte 2, got -1"),
        ("3009a0070205 0100000000", "version: expected 0 to 0xFFFFFFFF at byte 2, got 4294967296"),
        ("300aa0080206 000000000006", "version: expected an INTEGER of 1 to 5 bytes"),
        ("3005a003040106", "version: expected tag 0x02 at byte 4, got 0x04"),
        ("3006a00402010600", "version: expected the end at byte 7, got 1 bytes more"),
        ("3005a00302010600", "TSRequest: expected the end at byte 7, got 1 bytes more"),
        ("3006a00302010600", "expected the fields once each and in ascending order, got tag 0x00 at byte 7"),
        ("3080a0030201060000", "TSRequest: expected a definite length"),
        ("30ffa003020106", "TSRequest: expected a definite length"),
        ("05000000", "TSRequest: expected tag 0x30 at byte 0, got 0x05"),
        ("3008a003020106a20100", "authInfo: expected an element at byte 9, got 1 bytes"),
        ("3009a003020106a2020500", "authInfo: expected tag 0x04 at byte 9, got 0x05"),
        ("300ba003020106a2040400aabb", "authInfo: expected the end at byte 11, got 2 bytes more"),
        ("300aa003020106a40302020d", "errorCode: length 2 at byte 9 reaches past"),
        ("3012a003020106a10b30093007a0030401aa0500", "negoTokens: expected the end at byte 18, got 2 bytes more"),
        ("3012a003020106a10b30073005a0030401aa0500", "negoTokens: expected the end at byte 18, got 2 bytes more"),
        ("3010a003020106a10931073005a0030401aa", "negoTokens: expected tag 0x30 at byte 9, got 0x31"),
    ],
)
def test_malformed_messages_are_refused_with_field_and_offset(data, text):
    with pytest.raises(RemoteProtocolError, match=text) as caught:
        TSRequest.decode(bytes.fromhex(data))
    assert caught.value.security_status == SecurityStatus.SEC_E_INVALID_TOKEN


@pytest.mark.requirement("codec.nonce")
@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_nonce_of_other_than_32_bytes_is_refused(size):
    data = der.encode(der.SEQUENCE, bytes.fromhex(V6) + der.encode_octets(5, bytes(size)))
    with pytest.raises(RemoteProtocolError, match=f"clientNonce: expected 32 bytes at byte .*, got {size}"):
        TSRequest.decode(data)


# -- hostile variations: nothing but our errors, and every cut is refused


VICTIMS = [
    FULL.encode(),
    *messages.EXCHANGE_SPNEGO_NTLM[::2],
    capture("freerdp3.10-ntlm-badpw-0xC000006D").messages[-1].data,
]


@pytest.mark.requirement("defect.truncated-request")
@pytest.mark.parametrize("data", VICTIMS, ids=len)
def test_every_truncation_is_refused(data):
    for cut in hostile.truncations(data):
        with pytest.raises(RemoteProtocolError):
            TSRequest.decode(cut)


@pytest.mark.parametrize("data", VICTIMS, ids=len)
@pytest.mark.parametrize("spoil", [hostile.flips, hostile.replacements, hostile.deletions, hostile.insertions])
def test_spoilt_messages_are_refused_or_read_as_another_message(spoil, data):
    for spoilt in spoil(data):
        with contextlib.suppress(RemoteProtocolError):
            request = TSRequest.decode(spoilt)
            assert TSRequest.decode(request.encode()) == request


@pytest.mark.requirement("codec.surplus")
@pytest.mark.parametrize("data", VICTIMS, ids=len)
@pytest.mark.parametrize("tail", [b"\0", b"0", b"\xff" * 9])
def test_bytes_behind_the_message_are_refused(data, tail):
    with pytest.raises(RemoteProtocolError, match="TSRequest: expected the end"):
        TSRequest.decode(data + tail)


@pytest.mark.requirement("defect.malformed-der")
@given(st.sampled_from(VICTIMS), st.data())
def test_mutations_of_any_bytes_raise_only_our_errors(victim, data):
    spoilt = bytearray(victim)
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RemoteProtocolError):
        TSRequest.decode(bytes(spoilt))


@pytest.mark.requirement("defect.malformed-der")
@given(st.binary(max_size=64))
def test_noise_raises_only_our_errors(noise):
    with contextlib.suppress(RemoteProtocolError):
        TSRequest.decode(noise)


# -- what is shown


def test_repr_shows_lengths_and_never_contents():
    assert repr(FULL) == (
        "TSRequest(version=6, error_code=0xC000006D, nego_token=<200 bytes>, auth_info=<83 bytes>, "
        "pub_key_auth=<48 bytes>, client_nonce=<32 bytes>)"
    )
    assert repr(TSRequest(2)) == "TSRequest(version=2)"


def test_no_error_text_quotes_a_content():
    canary = b"canary-in-a-token"
    data = TSRequest(6, nego_token=canary, auth_info=canary).encode()
    for spoil in (hostile.truncations, hostile.replacements):
        for spoilt in spoil(data):
            try:
                TSRequest.decode(spoilt)
            except RemoteProtocolError as error:
                text = str(error)
                if "canary" in text or canary.hex() in text:
                    pytest.fail(text)
