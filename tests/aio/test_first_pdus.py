"""What a gateway passes on before it relays: the first PDUs of MCS, each with its own side's protocols."""

import asyncio
import socket

import pytest
from support.endpoints import until
from support.mcs import FREERDP_3, SHADOW

from acredssp.aio import ClientLeft, exchange_mcs, pass_until_answer
from acredssp.rdp import (
    ConnectionConfirm,
    ConnectionRequest,
    Protocols,
    rewrite_requested_protocols,
    rewrite_selected_protocol,
)

INFO = {
    "rdp_request": ConnectionRequest(requested_protocols=Protocols.SSL | Protocols.HYBRID | Protocols.HYBRID_EX),
    "rdp_confirm": ConnectionConfirm(selected_protocol=Protocols.HYBRID),
}


class Writer(asyncio.StreamWriter):
    """A writer of a leg whose handshake is over."""

    def get_extra_info(self, name, default=None):
        return INFO.get(name, super().get_extra_info(name, default))


class End:
    """One end of a connection: the gateway's streams, and the peer's."""

    async def open(self):
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours, limit=2**23)
        self.streams = reader, Writer(writer.transport, reader._transport.get_protocol(), reader, writer._loop)
        self.reader, self.writer = await asyncio.open_connection(sock=theirs)
        self.made = [writer, self.writer]
        self.stream = reader._transport.get_protocol()
        return self


@pytest.fixture
async def legs():
    """The client's and the target's leg of a gateway."""
    made = [await End().open(), await End().open()]
    yield made
    for writer in [writer for end in made for writer in (*end.made, end.streams[1])]:
        writer.transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_each_side_is_told_of_the_protocols_that_it_has_negotiated(legs):
    client, target = legs
    client.writer.write(FREERDP_3)
    passing = asyncio.ensure_future(exchange_mcs(client.streams, target.streams))
    assert await target.reader.readexactly(len(FREERDP_3)) == rewrite_selected_protocol(FREERDP_3, Protocols.HYBRID)
    client.writer.write(b"erect")
    assert await target.reader.readexactly(5) == b"erect"
    target.writer.write(SHADOW + b"more")
    requested = INFO["rdp_request"].requested_protocols
    assert await passing == (len(FREERDP_3) + 5, rewrite_requested_protocols(SHADOW, requested))
    assert await target.streams[0].readexactly(4) == b"more"


@pytest.mark.parametrize("whose", ["client", "target"])
async def test_whoever_ends_the_connection_before_its_own_is_named(legs, whose):
    client, target = legs
    passing = asyncio.ensure_future(exchange_mcs(client.streams, target.streams))
    if whose == "target":
        client.writer.write(FREERDP_3)
        await target.reader.readexactly(len(FREERDP_3))
    {"client": client, "target": target}[whose].writer.close()
    with pytest.raises(EOFError, match=f"the {whose} ended the connection before its own") as raised:
        await passing
    assert not isinstance(raised.value, ClientLeft)


async def test_a_client_that_leaves_before_the_answer_is_told_apart_from_a_target_that_does(legs):
    client, target = legs
    client.writer.close()
    with pytest.raises(ClientLeft, match="before the target's answer"):
        await pass_until_answer(client.streams, target.streams, lambda reader: reader.readexactly(1))


async def test_what_the_client_has_sent_already_is_passed_on_and_the_stream_goes_on_behind_the_answer(legs):
    client, target = legs
    client.writer.write(b"ear")
    assert await client.streams[0].readexactly(1) == b"e"
    passing = asyncio.ensure_future(pass_until_answer(client.streams, target.streams, lambda it: it.readexactly(6)))
    assert await target.reader.readexactly(2) == b"ar"
    client.writer.write(b"ly")
    assert await target.reader.readexactly(2) == b"ly"
    target.writer.write(b"answer")
    assert await passing == (4, b"answer")
    client.writer.write(b"late")
    assert await client.streams[0].readexactly(4) == b"late"


async def test_a_target_that_takes_nothing_lets_the_client_wait_until_it_does(legs):
    client, target = legs
    target.reader._transport.pause_reading()
    passing = asyncio.ensure_future(pass_until_answer(client.streams, target.streams, lambda it: it.readexactly(6)))
    sent = bytes(range(256)) * 2**14
    client.writer.write(sent)
    await until(lambda: not client.streams[1].transport.is_reading())
    assert target.streams[1].transport.get_write_buffer_size() < len(sent)
    target.reader._transport.resume_reading()
    assert await target.reader.readexactly(len(sent)) == sent
    target.writer.write(b"answer")
    assert await passing == (len(sent), b"answer")


@pytest.mark.parametrize("early", [b"early", bytes(2**22)], ids=["little", "more than the target takes"])
async def test_the_stream_has_its_place_back_where_the_wait_is_cancelled(legs, early):
    client, target = legs
    target.reader._transport.pause_reading()
    passing = asyncio.ensure_future(pass_until_answer(client.streams, target.streams, lambda it: it.readexactly(6)))
    client.writer.write(early)
    transport = client.streams[1].transport
    await until(
        lambda: transport.get_protocol() is not client.stream and (len(early) < 9 or not transport.is_reading())
    )
    passing.cancel()
    await asyncio.wait([passing])
    client.writer.write(b"late")
    assert (await client.streams[0].readuntil(b"late")).strip(b"\0") == b"late"


async def test_streams_without_a_negotiation_are_refused(legs):
    client, target = legs
    bare = client.reader, client.writer
    with pytest.raises(TypeError, match="rdp_request"):
        await exchange_mcs(bare, target.streams)
    with pytest.raises(TypeError, match="rdp_confirm"):
        await exchange_mcs(client.streams, bare)
