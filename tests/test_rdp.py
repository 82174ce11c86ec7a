import asyncio

import pytest
from support.mcs import FREERDP_3, SHADOW, core, initial, response, server_core

from acredssp import rdp
from acredssp.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError


@pytest.mark.parametrize(
    ("rewrite", "pdu", "there", "absent"),
    [
        (rdp.rewrite_selected_protocol, FREERDP_3, rdp.Protocols.HYBRID_EX, initial(core(212))),
        (rdp.rewrite_requested_protocols, SHADOW, rdp.Protocols.SSL | rdp.Protocols.HYBRID, response(server_core(8))),
    ],
)
def test_rewriting(rewrite, pdu, there, absent):
    assert rewrite(pdu + b"behind", there) == pdu + b"behind"
    other = rewrite(bytearray(pdu + b"behind"), rdp.Protocols.RDSAAD)
    assert type(other) is bytes
    assert sum(before != after for before, after in zip(pdu + b"behind", other, strict=True)) == 1
    assert rewrite(other, there) == pdu + b"behind"
    assert rewrite(absent, rdp.Protocols.HYBRID_EX) == absent
    with pytest.raises(LocalProtocolError, match="1 bytes are missing"):
        rewrite(pdu[:-1], there)
    with pytest.raises(RemoteProtocolError):
        rewrite(pdu[:7] + b"\x7f\x67" + pdu[9:], there)


@pytest.mark.parametrize("pdu", [FREERDP_3, SHADOW])
def test_a_pdu_that_comes_in_pieces(pdu):
    data, rest = b"", pdu + b"behind"
    while missing := rdp.missing_bytes(data):
        data, rest = data + rest[:missing], rest[missing:]
    assert (data, rest) == (pdu, b"behind")
    with pytest.raises(RemoteProtocolError, match="TPKT: expected version 3, got 22"):
        rdp.missing_bytes(b"\x16")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: rdp.missing_bytes("text"), "data: expected bytes or bytearray, got str"),
        (lambda: rdp.rewrite_selected_protocol(None, rdp.Protocols.HYBRID), "data: expected bytes"),
        (lambda: rdp.rewrite_selected_protocol(FREERDP_3, 2), "protocol: expected Protocols, got int"),
        (lambda: rdp.rewrite_requested_protocols(SHADOW, None), "protocols: expected Protocols, got NoneType"),
    ],
)
def test_an_argument_of_a_wrong_type(call, said):
    with pytest.raises(TypeError, match=said):
        call()


async def test_a_pdu_is_read_and_nothing_behind_it():
    reader = asyncio.StreamReader()
    reader.feed_data(FREERDP_3 + b"behind")
    reader.feed_eof()
    assert await rdp.read_pdu(reader) == FREERDP_3
    assert await reader.read() == b"behind"


@pytest.mark.parametrize("size", [0, 3, 100])
async def test_a_stream_that_ends_within_a_pdu_is_no_pdu(size):
    reader = asyncio.StreamReader()
    reader.feed_data(FREERDP_3[:size])
    reader.feed_eof()
    with pytest.raises(EOFError):
        await rdp.read_pdu(reader)


CONFIRM = rdp.ConnectionConfirm(selected_protocol=rdp.Protocols.HYBRID).encode()
REQUEST = rdp.ConnectionRequest(requested_protocols=rdp.Protocols.SSL, cookie="alice").encode()


@pytest.mark.parametrize("pdu", [CONFIRM, REQUEST])
async def test_a_pdu_of_the_negotiation_is_read_and_nothing_behind_it(pdu):
    reader = asyncio.StreamReader()
    reader.feed_data(pdu + b"\x16\x03\x01")
    reader.feed_eof()
    assert await rdp.read_negotiation(reader) == pdu
    assert await reader.read() == b"\x16\x03\x01"


@pytest.mark.parametrize("size", [0, 3, 15])
async def test_a_stream_that_ends_within_a_pdu_of_the_negotiation_is_none(size):
    reader = asyncio.StreamReader()
    reader.feed_data(CONFIRM[:size])
    reader.feed_eof()
    with pytest.raises(EOFError):
        await rdp.read_negotiation(reader)


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01\x02\x00", b"\x03\x00\xff\xff"])
async def test_what_is_no_negotiation_is_refused_at_once(data):
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    with pytest.raises((RemoteProtocolError, LimitExceeded)):
        await rdp.read_negotiation(reader)
