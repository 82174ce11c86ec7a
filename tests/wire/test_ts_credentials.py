import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectors import hostile, messages, schemas
from vectors.load import capture, captures

from acredssp.credentials import Password, SmartCard
from acredssp.errors import RemoteProtocolError
from acredssp.status import SecurityStatus
from acredssp.wire import der, ts_credentials
from acredssp.wire.ts_credentials import (
    TSCspDataDetail,
    TSPasswordCreds,
    TSRemoteGuardCreds,
    TSRemoteGuardPackageCred,
    TSSmartCardCreds,
    UnicodeString,
)

CANARY = "canary-secret"

SMART_CARD = TSSmartCardCreds(
    UnicodeString("b" * 12),
    TSCspDataDetail(
        1,
        reader_name=UnicodeString("OMNIKEY CardMan 3x21 0"),
        container_name=UnicodeString("le-MSSmartcardUser-8bda019f-1266--53268"),
        csp_name=UnicodeString("Microsoft Base Smart Card Crypto Provider"),
    ),
)
REMOTE_GUARD = TSRemoteGuardCreds(
    TSRemoteGuardPackageCred(UnicodeString("Kerberos"), b"k" * 300),
    (TSRemoteGuardPackageCred(UnicodeString("NTLM"), b"n" * 40),),
)
VICTIMS = [
    messages.SMART_CARD_CREDENTIALS,
    *messages.PASSWORD_CREDENTIALS.values(),
    ts_credentials.encode(REMOTE_GUARD),
]

TEXTS = st.binary(max_size=40).map(UnicodeString)
PACKAGES = st.builds(TSRemoteGuardPackageCred, TEXTS, st.binary(max_size=300))
ANY_CREDENTIALS = st.one_of(
    st.builds(TSPasswordCreds, TEXTS, TEXTS, TEXTS),
    st.builds(
        TSSmartCardCreds,
        TEXTS,
        st.builds(TSCspDataDetail, st.integers(1, 2), *[st.none() | TEXTS] * 4),
        st.none() | TEXTS,
        st.none() | TEXTS,
    ),
    st.builds(TSRemoteGuardCreds, PACKAGES, st.none() | st.lists(PACKAGES, max_size=4).map(tuple)),
)


def as_schema(credentials):
    """The ASN.1 type of the inner structure and the value in its words."""
    match credentials:
        case TSPasswordCreds(domain_name, user_name, password):
            return 1, "TSPasswordCreds", {"domainName": domain_name, "userName": user_name, "password": password}
        case TSSmartCardCreds(pin, detail, user_hint, domain_hint):
            csp_data = {
                "keySpec": detail.key_spec,
                "cardName": detail.card_name,
                "readerName": detail.reader_name,
                "containerName": detail.container_name,
                "cspName": detail.csp_name,
            }
            csp_data = {key: value for key, value in csp_data.items() if value is not None}
            value = {"pin": pin, "cspData": csp_data, "userHint": user_hint, "domainHint": domain_hint}
            return 2, "TSSmartCardCreds", {key: field for key, field in value.items() if field is not None}
        case TSRemoteGuardCreds(logon, supplemental):
            value = {"logonCred": {"packageName": logon.package_name, "credBuffer": logon.cred_buffer}}
            if supplemental is not None:
                value["supplementalCreds"] = [
                    {"packageName": package.package_name, "credBuffer": package.cred_buffer} for package in supplemental
                ]
            return 6, "TSRemoteGuardCreds", value


def plain(value):
    """As the bytes that asn1crypto takes, and without absent fields."""
    match value:
        case UnicodeString():
            return value.wire
        case bytes() | bytearray():
            return bytes(value)
        case dict():
            return {key: plain(field) for key, field in value.items() if field is not None}
        case list():
            return [plain(item) for item in value]
    return value


def credentials_of_type(cred_type: int, body: bytes) -> bytes:
    return der.encode(der.SEQUENCE, der.encode_integer(0, cred_type) + der.encode_octets(1, body))


# -- against the specification, recordings and other implementations


@pytest.mark.requirement("codec.vectors")
def test_the_specifications_smart_card_example_round_trips():
    decoded = ts_credentials.decode(messages.SMART_CARD_CREDENTIALS)
    assert decoded == SMART_CARD
    assert decoded.pin.reveal() == "bbbbbbbbbbbb"
    assert str(decoded.csp_data.reader_name) == "OMNIKEY CardMan 3x21 0"
    assert decoded.csp_data.card_name is None
    assert (decoded.user_hint, decoded.domain_hint) == (None, None)
    assert ts_credentials.encode(decoded) == messages.SMART_CARD_CREDENTIALS


@pytest.mark.requirement("codec.vectors")
@pytest.mark.parametrize(("account", "data"), messages.PASSWORD_CREDENTIALS.items())
def test_password_credentials_round_trip(account, data):
    assert ts_credentials.encode(TSPasswordCreds.of(*account)) == data
    decoded = ts_credentials.decode(data)
    assert (str(decoded.domain_name), str(decoded.user_name), decoded.password.reveal()) == account


@pytest.mark.requirement("codec.credentials")
@pytest.mark.parametrize("recorded", [c for c in captures() if c.get("ts_credentials_plain")], ids=str)
def test_recorded_credentials_read_as_pyspnego_read_them_and_round_trip(recorded):
    data = recorded.hex("ts_credentials_plain")
    decoded = ts_credentials.decode(data)
    assert ts_credentials.encode(decoded) == data
    expected = recorded.get("ts_credentials")
    if isinstance(expected, dict) and "domain_name" in expected:
        assert str(decoded.domain_name) == expected["domain_name"]
        assert str(decoded.user_name) == expected["username"]
        assert decoded.password.reveal() == expected["password"]


@pytest.mark.requirement("codec.credential-text")
def test_the_garbage_password_of_pass_the_hash_is_read_and_kept():
    decoded = ts_credentials.decode(capture("freerdp3.10-ntlm-pth").hex("ts_credentials_plain"))
    assert len(decoded.password) == 1088
    assert decoded.password.reveal().startswith("fc525c9683e8fe067095ba2ddc971889")
    assert decoded.kind == "password"


@pytest.mark.requirement("codec.credentials")
@given(ANY_CREDENTIALS)
def test_any_credentials_survive_the_round_trip_and_both_oracles_agree(credentials):
    data = ts_credentials.encode(credentials)
    assert ts_credentials.decode(data) == credentials
    cred_type, name, value = as_schema(credentials)
    outer = schemas.native(schemas.TSCredentials, data)
    assert outer["credType"] == cred_type
    inner = plain(schemas.native(getattr(schemas, name), outer["credentials"]))
    assert inner == plain(value)
    assert schemas.dump(getattr(schemas, name), plain(value)) == outer["credentials"]
    body = schemas.module().encode(name, plain(value))
    assert schemas.module().encode("TSCredentials", {"credType": cred_type, "credentials": body}) == data


def test_remote_guard_without_supplemental_credentials_omits_them():
    credentials = TSRemoteGuardCreds(REMOTE_GUARD.logon_cred)
    assert ts_credentials.decode(ts_credentials.encode(credentials)) == credentials
    assert b"\xa1\x02\x30\x00" in ts_credentials.encode(TSRemoteGuardCreds(REMOTE_GUARD.logon_cred, ()))


def test_hints_of_a_smart_card_are_read_each_alone():
    for hints in ({"user_hint": UnicodeString("u")}, {"domain_hint": UnicodeString("d")}):
        credentials = TSSmartCardCreds(UnicodeString("1"), TSCspDataDetail(2), **hints)
        assert ts_credentials.decode(ts_credentials.encode(credentials)) == credentials


def test_lengths_need_not_be_minimal():
    def loose(tag: int, content: bytes) -> bytes:
        return bytes([tag, 0x82]) + len(content).to_bytes(2, "big") + content

    body = loose(0x30, b"".join(loose(tag, loose(0x04, b"")) for tag in (0xA0, 0xA1, 0xA2)))
    data = loose(0x30, loose(0xA0, loose(0x02, b"\1")) + loose(0xA1, loose(0x04, body)))
    assert ts_credentials.decode(data) == TSPasswordCreds()


# -- what is refused


@pytest.mark.requirement("codec.credentials")
@pytest.mark.parametrize("cred_type", [0, 3, 4, 5, 7, -1, 255, 0x7FFFFFFF])
def test_an_unknown_type_has_its_own_status(cred_type):
    with pytest.raises(RemoteProtocolError, match=f"credType: expected 1, 2 or 6, got {cred_type}") as caught:
        ts_credentials.decode(credentials_of_type(cred_type, b"whatever"))
    assert caught.value.security_status == SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS


@pytest.mark.parametrize("claimed", [1, 2, 6])
@pytest.mark.parametrize("credentials", [TSPasswordCreds.of("d", "u", "p"), SMART_CARD, REMOTE_GUARD])
def test_the_inner_structure_must_be_the_one_of_the_type(claimed, credentials):
    actual, name, value = as_schema(credentials)
    data = credentials_of_type(claimed, schemas.dump(getattr(schemas, name), plain(value)))
    if claimed == actual:
        assert ts_credentials.decode(data) == credentials
    else:
        with pytest.raises(RemoteProtocolError) as caught:
            ts_credentials.decode(data)
        assert caught.value.security_status == SecurityStatus.SEC_E_INVALID_TOKEN


def test_bytes_behind_any_structure_are_refused():
    inner = {1: TSPasswordCreds.of("d", "u", "p"), 2: SMART_CARD, 6: REMOTE_GUARD}
    for cred_type, credentials in inner.items():
        _, name, value = as_schema(credentials)
        body = schemas.dump(getattr(schemas, name), plain(value))
        with pytest.raises(RemoteProtocolError, match="credentials: expected the end"):
            ts_credentials.decode(credentials_of_type(cred_type, body + b"\0"))
        with pytest.raises(RemoteProtocolError, match="TSCredentials: expected the end"):
            ts_credentials.decode(credentials_of_type(cred_type, body) + b"\0")
        content = der.element(body, 0, len(body), der.SEQUENCE, "body")
        longer = der.encode(der.SEQUENCE, body[slice(*content)] + bytes.fromhex("a90304017a"))
        with pytest.raises(RemoteProtocolError):
            ts_credentials.decode(credentials_of_type(cred_type, longer))


def test_credentials_behind_the_ts_credentials_are_not_read():
    body = der.encode_octets(1, b"\x30\x0c\xa0\x02\x04\x00\xa1\x02\x04\x00\xa2\x02\x04\x00")
    assert ts_credentials.decode(der.encode(der.SEQUENCE, der.encode_integer(0, 1) + body)) == TSPasswordCreds()
    with pytest.raises(RemoteProtocolError, match=f"TSCredentials: expected the end at byte 7, got {len(body)} bytes"):
        ts_credentials.decode(der.encode(der.SEQUENCE, der.encode_integer(0, 1)) + body)


def test_a_third_field_of_ts_credentials_is_refused():
    data = der.encode(
        der.SEQUENCE, der.encode_integer(0, 1) + der.encode_octets(1, b"\x30\x00") + der.encode_octets(2, b"")
    )
    with pytest.raises(RemoteProtocolError, match="TSCredentials: expected the end"):
        ts_credentials.decode(data)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "credentials: expected an element"),
        ("3000", "domainName: expected an element"),
        ("3004a0020400", "userName: expected an element"),
        ("3008a0020400a1020400", "password: expected an element"),
        ("300ca0020400a2020400a1020400", "userName: expected tag 0xA1 at byte .*, got 0xA2"),
        ("300ca0020400a0020400a2020400", "userName: expected tag 0xA1"),
        ("300ca0020c00a1020400a2020400", "domainName: expected tag 0x04 at byte .*, got 0x0C"),
        ("3010a0020400a1020400a2020400a3020400", "TSPasswordCreds: expected the end"),
        ("3080a0020400a1020400a20204000000", "credentials: expected a definite length"),
        ("310ca0020400a1020400a2020400", "credentials: expected tag 0x30"),
    ],
)
def test_malformed_password_credentials_are_refused_by_field(body, text):
    with pytest.raises(RemoteProtocolError, match=text):
        ts_credentials.decode(credentials_of_type(1, bytes.fromhex(body)))


PIN = der.encode_octets(0, b"")
KEY_SPEC = der.encode_integer(0, 1)


def text(number: int) -> bytes:
    return der.encode_octets(number, b"x\0")


def csp_data(*fields: bytes) -> bytes:
    return der.encode(der.CONTEXT + 1, der.encode(der.SEQUENCE, b"".join(fields)))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "pin: expected an element"),
        (csp_data(KEY_SPEC), "pin: expected tag 0xA0"),
        (PIN, "cspData: expected an element"),
        (PIN + text(1), "cspData: expected tag 0x30"),
        (PIN + csp_data(), "keySpec: expected an element"),
        (PIN + csp_data(der.encode_integer(1, 1)), "keySpec: expected tag 0xA0"),
        (PIN + csp_data(text(0)), "keySpec: expected tag 0x02"),
        (PIN + csp_data(KEY_SPEC, text(5)), "cspData: expected the end"),
        (PIN + csp_data(KEY_SPEC, text(1), text(1)), "cspData: expected the end"),
        (PIN + csp_data(KEY_SPEC, text(3), text(2)), "cspData: expected the end"),
        (PIN + csp_data(KEY_SPEC) + text(4), "TSSmartCardCreds: expected the end"),
        (PIN + csp_data(KEY_SPEC) + text(3) + text(2), "TSSmartCardCreds: expected the end"),
        (PIN + csp_data(KEY_SPEC) + text(2) + text(2), "TSSmartCardCreds: expected the end"),
        (PIN + csp_data(KEY_SPEC) + der.encode_integer(2, 1), "userHint: expected tag 0x04"),
    ],
)
def test_malformed_smart_card_credentials_are_refused_by_field(content, error):
    with pytest.raises(RemoteProtocolError, match=error):
        ts_credentials.decode(credentials_of_type(2, der.encode(der.SEQUENCE, content)))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("3000", "logonCred: expected an element"),
        ("3004a0023000", "packageName: expected an element"),
        ("3008a0063004a0020400", "credBuffer: expected an element"),
        ("3010a00e300ca0020400a1020400a2020400", "TSRemoteGuardPackageCred: expected the end"),
        ("300fa00a3008a0020400a1020400a20104", "supplementalCreds: expected tag 0xA1"),
        ("3010a00a3008a0020400a1020400a1023100", "supplementalCreds: expected tag 0x30"),
        ("3012a00a3008a0020400a1020400a10430023000", "packageName: expected an element"),
        ("3012a00a3008a0020400a1020400a1023000a200", "TSRemoteGuardCreds: expected the end"),
    ],
)
def test_malformed_remote_guard_credentials_are_refused_by_field(body, text):
    with pytest.raises(RemoteProtocolError, match=text):
        ts_credentials.decode(credentials_of_type(6, bytes.fromhex(body)))


@pytest.mark.requirement("defect.credential-lengths")
@pytest.mark.parametrize("count", [64, 65])
def test_supplemental_packages_are_bounded(count):
    credentials = TSRemoteGuardCreds(REMOTE_GUARD.logon_cred, REMOTE_GUARD.supplemental_creds * count)
    data = ts_credentials.encode(credentials)
    if count == 64:
        assert ts_credentials.decode(data) == credentials
    else:
        with pytest.raises(RemoteProtocolError, match="supplementalCreds: expected at most 64 packages"):
            ts_credentials.decode(data)


@pytest.mark.parametrize("data", VICTIMS, ids=len)
def test_every_truncation_is_refused(data):
    for cut in hostile.truncations(data):
        with pytest.raises(RemoteProtocolError):
            ts_credentials.decode(cut)


@pytest.mark.requirement("defect.credential-lengths")
@pytest.mark.parametrize("data", VICTIMS, ids=len)
@pytest.mark.parametrize("spoil", [hostile.flips, hostile.replacements, hostile.deletions, hostile.insertions])
@pytest.mark.thorough
def test_spoilt_credentials_are_refused_or_read_as_others(spoil, data):
    for spoilt in spoil(data):
        with contextlib.suppress(RemoteProtocolError):
            decoded = ts_credentials.decode(spoilt)
            assert ts_credentials.decode(ts_credentials.encode(decoded)) == decoded


@pytest.mark.requirement("defect.malformed-der")
@given(st.sampled_from(VICTIMS), st.data())
def test_mutations_of_any_bytes_raise_only_our_errors(victim, data):
    spoilt = bytearray(victim)
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RemoteProtocolError):
        ts_credentials.decode(bytes(spoilt))


# -- text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("", ""),
        ("61006c00", "al"),
        ("61006c000000", "al"),  # rdesktop terminates its strings
        ("610000000000", "a"),
        ("610000006200", "a\0b"),
        ("6100ff", "a"),
        ("61", ""),
        ("00d8", "\ud800"),
        ("00dc00d8", "\udc00\ud800"),
        ("3dd800de", "\U0001f600"),
    ],
)
def test_text_is_read_from_any_bytes(data, text):
    value = UnicodeString(bytes.fromhex(data))
    assert str(value) == value == text
    assert value.wire == bytes.fromhex(data)
    assert UnicodeString(value).wire == value.wire


@pytest.mark.parametrize("text", ["", "alice", "\u00fc\u4e2d", "\U0001f600", "\ud800"])
def test_text_is_written_without_terminator(text):
    assert UnicodeString(text).wire == text.encode("utf-16-le", "surrogatepass")
    assert str(UnicodeString(text)) == UnicodeString(text) == text


@pytest.mark.requirement("codec.credential-text")
@given(st.binary(max_size=40))
def test_reading_text_never_fails(data):
    assert isinstance(str(UnicodeString(data)), str)


# -- what a caller does with them


def test_user_and_domain_are_text_to_the_caller():
    credentials = ts_credentials.decode(ts_credentials.encode(TSPasswordCreds.of("CONTOSO", "alice", "x")))
    assert (credentials.domain_name, credentials.user_name) == ("CONTOSO", "alice")
    assert f"{credentials.domain_name}\\{credentials.user_name}" == "CONTOSO\\alice"
    assert {"alice": 1}[credentials.user_name] == 1
    assert credentials.user_name.upper() == "ALICE"


def test_a_password_that_was_delegated_logs_on_again():
    credentials = ts_credentials.decode(ts_credentials.encode(TSPasswordCreds.of("CONTOSO", "alice", "pass\u00e9")))
    password = credentials.as_password()
    assert password == Password("pass\u00e9", "alice", "CONTOSO")
    assert type(password.user) is type(password.domain) is str
    assert TSPasswordCreds(UnicodeString(b"d\0\0\0"), UnicodeString(b"u\0\0\0"), "p").as_password().user == "u"


@pytest.mark.parametrize("domain", ["CONTOSO", "contoso", ""])
def test_the_hash_of_a_known_password_is_not_computed_again(domain, monkeypatch):
    known, expected = Password("pass\u00e9", "alice", domain), Password("pass\u00e9", "alice", "CONTOSO")
    monkeypatch.setattr("acredssp.credentials.md4", lambda _data: pytest.fail("hashed again"))
    password = TSPasswordCreds.of("CONTOSO", "alice", "pass\u00e9").as_password(known)
    assert (password, password.nt_hash) == (expected, expected.nt_hash)


def test_another_password_than_the_known_one_has_its_own_hash():
    known, expected = Password("old", "alice", "CONTOSO"), Password("new", "alice", "CONTOSO")
    password = TSPasswordCreds.of("CONTOSO", "alice", "new").as_password(known)
    assert (password, password.nt_hash) == (expected, expected.nt_hash)


def test_where_nothing_was_delegated_there_is_no_password():
    with pytest.raises(ValueError, match="nothing was delegated"):
        TSPasswordCreds().as_password()


def test_a_smart_card_that_was_delegated_is_delegated_again():
    card = SmartCard("1234", "alice", "CONTOSO", "card", "", "key", "provider", 2)
    detail = TSCspDataDetail(2, "card", None, "key", "provider")
    assert TSSmartCardCreds("1234", detail, "alice", "CONTOSO").as_smart_card() == card


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: TSPasswordCreds(user_name=1), "user_name"),
        (lambda: TSPasswordCreds(domain_name=1), "domain_name"),
        (lambda: TSSmartCardCreds("1", TSCspDataDetail(1), user_hint=1), "user_hint"),
        (lambda: TSCspDataDetail(1, card_name=1), "card_name"),
        (lambda: TSRemoteGuardPackageCred(1, b""), "package_name"),
    ],
)
def test_a_text_field_is_text(make, name):
    with pytest.raises(TypeError, match=f"{name}: expected str or bytes, got int"):
        make()


# -- kinds and what is shown


@pytest.mark.parametrize(
    ("credentials", "kind"),
    [
        (TSPasswordCreds.of("d", "u", "p"), "password"),
        (TSPasswordCreds.of(password="p"), "password"),
        (TSPasswordCreds.of(user_name="u"), "password"),
        (TSPasswordCreds.of(domain_name="d"), "password"),
        (TSPasswordCreds(), "nothing"),
        (TSPasswordCreds(UnicodeString(b"\0\0"), UnicodeString(b"\0\0"), UnicodeString(b"\0\0")), "nothing"),
        (SMART_CARD, "smartcard"),
        (REMOTE_GUARD, "remote_guard"),
    ],
)
def test_kind_is_a_word_for_logs(credentials, kind):
    assert credentials.kind == kind


@pytest.mark.parametrize(
    "credentials",
    [
        TSPasswordCreds.of(CANARY, CANARY, CANARY),
        TSSmartCardCreds(UnicodeString(CANARY), TSCspDataDetail(1, UnicodeString(CANARY)), UnicodeString(CANARY)),
        TSRemoteGuardCreds(TSRemoteGuardPackageCred(UnicodeString("Kerberos"), CANARY.encode())),
    ],
)
def test_no_repr_and_no_error_text_shows_a_content(credentials):
    shown = [repr(credentials)]
    data = ts_credentials.encode(credentials)
    for spoil in (hostile.truncations, hostile.replacements):
        for spoilt in spoil(data):
            try:
                shown.append(repr(ts_credentials.decode(spoilt)))
            except RemoteProtocolError as error:
                shown.append(str(error))
    wide = CANARY.encode("utf-16-le")
    assert not [text for text in shown if CANARY in text or wide.hex() in text or "c\\x00a" in text]


def test_repr_names_the_fields_that_are_no_secret_by_length():
    assert (
        repr(TSPasswordCreds.of("CONTOSO", "alice", "x"))
        == "TSPasswordCreds(domain_name=<14 bytes>, user_name=<10 bytes>)"
    )
