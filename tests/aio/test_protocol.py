import asyncio

import pytest
from support.endpoints import MemoryTransport, memory_pair, turns

from acredssp.aio import protocol as protocol_module
from acredssp.aio.protocol import CredSSPProtocol


def feed(protocol, data):
    protocol.get_buffer(-1)[: len(data)] = data
    protocol.buffer_updated(len(data))


async def test_owner_wakes_only_when_the_missing_bytes_have_come():
    protocol, _ = memory_pair()
    waiting = asyncio.ensure_future(protocol.receive(5))
    for _ in range(4):
        await turns(3)
        feed(protocol, b"x")
        assert protocol._waiter is not None
        assert not protocol._waiter.done()
    feed(protocol, b"x")
    assert await waiting is True
    assert bytes(protocol.received) == b"xxxxx"


async def test_missing_bytes_are_counted_from_what_was_kept():
    protocol, _ = memory_pair()
    feed(protocol, b"xxabc")
    protocol.keep(3)
    waiting = asyncio.ensure_future(protocol.receive(2))
    await turns()
    feed(protocol, b"d")
    await turns(3)
    assert not waiting.done()
    feed(protocol, b"e")
    assert await waiting is True


async def test_what_came_before_the_owner_waits_counts():
    protocol, _ = memory_pair()
    feed(protocol, b"abc")
    protocol.keep(3)
    feed(protocol, b"de")
    assert await protocol.receive(2) is True


async def test_what_is_not_kept_is_forgotten():
    protocol, _ = memory_pair()
    feed(protocol, b"abcdef")
    protocol.keep(2)
    assert bytes(protocol.received) == b"ef"
    protocol.keep(0)
    assert bytes(protocol.received) == b""


@pytest.mark.parametrize("end", ["eof_received", "connection_lost"])
async def test_end_wakes_the_owner_with_no(end):
    protocol, _ = memory_pair()
    waiting = asyncio.ensure_future(protocol.receive(5))
    await turns()
    feed(protocol, b"abc")
    answer = protocol.eof_received() if end == "eof_received" else protocol.connection_lost(None)
    assert answer is (True if end == "eof_received" else None)  # True: the transport must not close itself
    assert await waiting is False
    protocol.keep(3)
    assert await protocol.receive(1) is False
    assert bytes(protocol.received) == b"abc"


async def test_bytes_that_came_before_the_end_are_enough():
    protocol, _ = memory_pair()
    feed(protocol, b"abcde")
    protocol.eof_received()
    protocol.keep(5)
    assert await protocol.receive(0) is True


async def test_buffer_is_shared_by_the_loop_and_never_empty_nor_of_the_missing_size():
    one, other = memory_pair()
    waiting = asyncio.ensure_future(one.receive(5))
    await turns()
    for hint in -1, 0, 5, 65536:
        assert one.get_buffer(hint).obj is other.get_buffer(hint).obj
        assert len(one.get_buffer(hint)) > 5
    one.eof_received()
    await waiting


async def test_what_arrived_survives_the_next_connections_read():
    one, other = memory_pair()
    feed(one, b"one")
    feed(other, b"other")
    assert (bytes(one.received), bytes(other.received)) == (b"one", b"other")


async def test_a_busy_owner_makes_the_peer_wait():
    protocol, _ = memory_pair()
    limit = protocol_module._MOST_STORED
    while len(protocol.received) <= limit:
        assert protocol.transport.is_reading()
        feed(protocol, bytes(1000))
    assert not protocol.transport.is_reading()
    protocol.keep(10)
    waiting = asyncio.ensure_future(protocol.receive(5))
    await turns()
    assert protocol.transport.is_reading()
    feed(protocol, bytes(5))
    assert await waiting is True


async def test_an_owner_who_waits_for_more_than_the_limit_gets_it():
    protocol, _ = memory_pair()
    wanted = protocol_module._MOST_STORED * 2
    waiting = asyncio.ensure_future(protocol.receive(wanted))
    await turns()
    for _ in range(0, wanted, 1024):
        assert protocol.transport.is_reading()
        feed(protocol, bytes(1024))
    assert await waiting is True


async def test_drain_waits_while_writing_is_paused():
    protocol, _ = memory_pair()
    await protocol.drain()
    protocol.pause_writing()
    draining = asyncio.ensure_future(protocol.drain())
    await turns(3)
    assert not draining.done()
    protocol.resume_writing()
    await draining
    assert not protocol.owes_resume


async def test_drain_ends_when_the_transport_is_gone():
    protocol, _ = memory_pair()
    protocol.pause_writing()
    draining = asyncio.ensure_future(protocol.drain())
    await turns()
    protocol.connection_lost(ConnectionResetError())
    await draining
    protocol.write(b"nobody is there")
    assert protocol.transport.written == []


async def test_a_resume_without_a_pause_is_owed_to_the_protocol_that_was_there_before():
    protocol, _ = memory_pair()
    protocol.resume_writing()
    assert protocol.owes_resume


async def test_a_cancelled_wait_leaves_the_protocol_usable():
    protocol, _ = memory_pair()
    waiting = asyncio.ensure_future(protocol.receive(2))
    await turns()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    feed(protocol, b"ab")
    assert await protocol.receive(0)
    assert bytes(protocol.received) == b"ab"


async def test_after_close_what_comes_is_dropped():
    protocol, _ = memory_pair()
    held = memoryview(protocol.received)  # as the traceback of a failed step holds one
    protocol.close()
    feed(protocol, b"late")
    assert bytes(held) == b""
    await protocol.closed()


async def test_transports_that_cannot_pause_are_left_alone():
    class Stubborn(MemoryTransport):
        def pause_reading(self):
            raise NotImplementedError

        resume_reading = pause_reading

    protocol = CredSSPProtocol()
    Stubborn().connect(protocol, None)
    feed(protocol, bytes(40_000))
    protocol.keep(0)
    waiting = asyncio.ensure_future(protocol.receive(1))
    await turns()
    feed(protocol, b"x")
    assert await waiting


async def test_memory_transports_deliver_in_order_at_any_cut():
    client, server = memory_pair([1, 2, 3])
    server.transport.write(b"abcdef")
    server.transport.write(b"ghijkl")
    assert await client.receive(12)
    assert bytes(client.received) == b"abcdefghijkl"
