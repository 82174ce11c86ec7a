"""Server Redirection, found in whatever way the bytes are cut, and nothing else taken for it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.mcs import (
    ATTACH_USER_CONFIRM,
    LICENCE,
    SHADOW,
    channel_join_confirm,
    indication,
    packet,
    redirection,
    share_control,
    utf16,
)

from acredssp.wire.redirection import RedirectionWatch, ServerRedirection, msts_address

BEFORE = SHADOW + ATTACH_USER_CONFIRM + channel_join_confirm(1007) + channel_join_confirm(1003) + indication(LICENCE)
COOKIE = b"Cookie: msts=2132026432.15629.0000\r\n"
NAMED = redirection(
    [
        (0x001, utf16("192.0.2.8")),
        (0x002, COOKIE),
        (0x004, utf16("alice")),
        (0x008, utf16("CONTOSO")),
        (0x010, b"\x02\0\0\x80DSHL" + bytes(112)),
        (0x100, utf16("sh2.contoso.com")),
        (0x200, utf16("SH2")),
        (0x800, bytes(60)),
    ],
    session_id=3,
)
WHOLE = ServerRedirection(
    session_id=3, fqdn="sh2.contoso.com", netbios_name="SH2", net_address="192.0.2.8", load_balance_info=COOKIE
)
DEMAND_ACTIVE = share_control(1, bytes(400))


def watched(*pieces):
    watch = RedirectionWatch()
    for piece in pieces:
        watch.receive(piece)
    return watch


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize(
    ("content", "found", "host"),
    [
        (NAMED, WHOLE, "sh2.contoso.com"),
        (redirection([]), ServerRedirection(session_id=7), ""),
        (redirection([(0x200, utf16("SH2"))], tail=b""), ServerRedirection(session_id=7, netbios_name="SH2"), "SH2"),
        (redirection([(1, utf16("::1"))]), ServerRedirection(session_id=7, net_address="::1"), "::1"),
        (redirection([(0x100, "sh2".encode("utf-16-le"))]), ServerRedirection(session_id=7, fqdn="sh2"), "sh2"),
    ],
    ids=["all", "nothing", "netbios", "address", "no-nul"],
)
def test_a_redirection_is_found(content, found, host, long):
    watch = watched(BEFORE + indication(content, long=long or len(content) > 127) + b"\x03behind")
    assert (watch.found, watch.wants_more) == (found, False)
    assert watch.found.host == host


def test_byte_by_byte():
    data = BEFORE + indication(NAMED, long=True)
    watch = RedirectionWatch()
    for number in range(len(data)):
        assert watch.wants_more
        watch.receive(data[number : number + 1])
    assert watch.found == WHOLE


@given(st.lists(st.integers(0, len(BEFORE) + 400)))
def test_cut_anywhere(places):
    data = BEFORE + indication(NAMED, long=True) + b"\x03behind"
    cuts = [0, *sorted(place for place in places if place < len(data)), len(data)]
    watch = watched(*(data[start:end] for start, end in itertools.pairwise(cuts)))
    assert watch.found == WHOLE


def test_a_session_that_begins_ends_the_search():
    watch = watched(BEFORE, indication(DEMAND_ACTIVE), indication(NAMED))
    assert (watch.found, watch.wants_more) == (None, False)


@pytest.mark.parametrize("behind", [b"\x80\x03\x02", b"\x16\x03\x03", b"\x03\x00\x00\x0b\x06\xd0"])
def test_what_is_no_mcs_ends_the_search(behind):
    watch = watched(SHADOW, behind, indication(NAMED))
    assert (watch.found, watch.wants_more) == (None, False)


@pytest.mark.parametrize(
    "pdu",
    [
        indication(LICENCE),
        indication(b"\x00\x10\x00\x00\x06\x00\x01\x00\x01\x10"),  # network detection
        indication(redirection([], flags=0x80)),  # it only names the session that the client has
        indication(redirection([])[:-8]),  # the header counts more than there is
        indication(bytes.fromhex("8000010002000000")),  # licensing, with something in flagsHi that has no meaning
        indication(share_control(10, bytes(20))),  # other flags than a redirection's
        indication(share_control(10, b"\0\0\x00\x04\x0c")),  # cut off
        indication(share_control(7, bytes(30))),
        indication(b"\x0a"),
        indication(b""),
        packet(b"\x68"),
        packet(b""),
        packet(b"\x64" + indication(NAMED)[8:]),  # a client's Send Data Request
    ],
)
def test_anything_else_is_passed_over(pdu):
    watch = watched(SHADOW, pdu)
    assert (watch.found, watch.wants_more) == (None, True)
    watch.receive(indication(NAMED, long=True))
    assert watch.found == WHOLE


def test_a_field_that_reaches_past_the_end_leaves_the_rest_out():
    content = redirection([(0x001, utf16("192.0.2.8")), (0x200, utf16("SH2"))], tail=b"")
    at = content.index(utf16("192.0.2.8")) - 4
    content = content[:at] + b"\xff\xff\xff\x7f" + content[at + 4 :]
    watch = watched(SHADOW, indication(content))
    assert (watch.found.netbios_name, watch.wants_more) == ("", False)


def test_only_64_kib_are_looked_at():
    filler = indication(bytes(2000), long=True)
    count = 65536 // len(filler)
    watch = watched(*[filler] * count)
    assert watch.wants_more
    watch.receive(filler)
    assert not watch.wants_more
    watch.receive(indication(NAMED, long=True))
    assert watch.found is None
    assert watched(filler * (count + 1) + indication(NAMED, long=True)).found is None


@given(st.binary(max_size=400))
def test_no_bytes_raise_an_exception(data):
    watched(SHADOW, data, indication(data, long=True), indication(share_control(10, b"\0\0\x00\x04" + data), long=True))


def test_text_is_refused():
    with pytest.raises(TypeError, match="data: expected bytes"):
        RedirectionWatch().receive("text")


@pytest.mark.parametrize(
    ("token", "address"),
    [
        ("Cookie: msts=3640205228.15629.0000", ("172.31.249.216", 3389)),  # [MS-RDPBCGR] 4.1.1
        ("Cookie: msts=16777343.15629.0000 ", ("127.0.0.1", 3389)),
        ("Cookie: msts=0.0.", ("0.0.0.0", 0)),  # noqa: S104 - a value that a client may send
        ("Cookie: msts=4294967296.15629.0000", None),
        ("Cookie: msts=16777343.65536.0000", None),
        ("Cookie: msts=16777343.0000", None),
        ("cookie: msts=16777343.15629.0000", None),
        ("Cookie: msts=16777343.15629.0000\r\n", None),
        ("Cookie: msts=\u0661.15629.0000", None),
        ("tsv://MS Terminal Services Plugin.1.Farm", None),
        ("", None),
    ],
)
def test_a_routing_token_names_the_address_of_a_host(token, address):
    assert msts_address(token) == address
