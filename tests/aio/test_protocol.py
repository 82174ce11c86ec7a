import asyncio

import pytest
from support.endpoints import MemoryTransport, memory_pair, turns, until

from acredssp.aio import protocol as protocol_module
from acredssp.aio.protocol import CredSSPProtocol


def feed(protocol, data):
    protocol.get_buffer(-1)[: len(data)] = data
    protocol.buffer_updated(len(data))


class Noting:
    """A receiver that notes what it is told."""

    def __init__(self):
        self.told = []

    def on_data(self, ciphertext):
        self.told.append(bytes(ciphertext))

    def on_eof(self):
        self.told.append("eof")

    def on_connection_lost(self, exc):
        self.told.append(exc)

    def on_pause_writing(self):
        self.told.append("pause")

    def on_resume_writing(self):
        self.told.append("resume")


async def test_the_receiver_is_handed_everything_and_nothing_is_stored():
    protocol, _ = memory_pair()
    protocol.give_to(receiver := Noting())
    feed(protocol, b"abc")
    protocol.pause_writing()
    assert protocol.writing_paused
    protocol.resume_writing()
    assert not protocol.writing_paused
    assert protocol.eof_received() is True  # the transport must not close itself
    error = ConnectionResetError()
    protocol.connection_lost(error)
    assert receiver.told == [b"abc", "pause", "resume", "eof", error]
    assert (bytes(protocol.received), protocol.error) == (b"", None)


async def test_without_a_receiver_everything_is_remembered():
    protocol, _ = memory_pair()
    feed(protocol, b"abc")
    feed(protocol, b"de")
    assert bytes(protocol.received) == b"abcde"
    assert protocol.eof_received() is True
    assert (protocol.ended, protocol.lost) == (True, False)
    error = ConnectionResetError()
    protocol.connection_lost(error)
    assert (protocol.ended, protocol.lost, protocol.error) == (True, True, error)


async def test_a_receiver_that_comes_when_all_is_over_is_not_kept():
    protocol, _ = memory_pair()
    protocol.connection_lost(None)
    protocol.give_to(Noting())
    assert protocol._receiver is None  # it would be a cycle


async def test_a_receiver_that_leaves_gets_no_more():
    protocol, _ = memory_pair()
    protocol.give_to(receiver := Noting())
    protocol.give_to(None)
    feed(protocol, b"abc")
    assert receiver.told == []
    assert protocol.hand_over(other := Noting()) == b"abc"
    feed(protocol, b"d")
    assert (other.told, bytes(protocol.received)) == ([b"d"], b"")


async def test_buffer_is_shared_by_the_loop_and_never_empty_nor_of_some_small_size():
    one, other = memory_pair()
    for hint in -1, 0, 5, 65536:
        assert one.get_buffer(hint).obj is other.get_buffer(hint).obj
        assert len(one.get_buffer(hint)) >= 64 * 1024


async def test_what_arrived_survives_the_next_connections_read():
    one, other = memory_pair()
    feed(one, b"one")
    feed(other, b"other")
    assert (bytes(one.received), bytes(other.received)) == (b"one", b"other")


async def test_more_than_is_stored_makes_the_peer_wait():
    protocol, _ = memory_pair()
    limit = protocol_module._MOST_STORED
    while len(protocol.received) <= limit:
        assert protocol.transport.is_reading()
        feed(protocol, bytes(1000))
    assert not protocol.transport.is_reading()
    protocol.resume_once()
    assert protocol.transport.is_reading()
    protocol.transport.pause_reading()
    protocol.resume_once()
    assert not protocol.transport.is_reading()  # somebody else's pause


async def test_to_a_transport_that_is_gone_nothing_is_written():
    protocol, _ = memory_pair()
    protocol.connection_lost(ConnectionResetError())
    assert protocol.write(b"nobody is there")  # and nobody will drain it
    assert protocol.transport.written == []


async def test_a_write_tells_whether_more_may_follow():
    protocol, _ = memory_pair()
    assert protocol.write(b"one")
    protocol.pause_writing()
    assert not protocol.write(b"other")
    assert protocol.transport.written == [b"one", b"other"]


async def test_a_resume_without_a_pause_is_owed_to_the_protocol_that_was_there_before():
    protocol, _ = memory_pair()
    protocol.pause_writing()
    protocol.resume_writing()
    assert not protocol.owes_resume
    protocol.resume_writing()
    assert protocol.owes_resume


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_after_the_end_what_comes_is_dropped(end):
    protocol, _ = memory_pair()
    held = memoryview(protocol.received)  # as the traceback of a failed step holds one
    getattr(protocol, end)()
    feed(protocol, b"late")
    assert bytes(held) == b""
    await turns()
    assert protocol.lost


async def test_transports_that_cannot_pause_are_left_alone():
    class Stubborn(MemoryTransport):
        def pause_reading(self):
            raise NotImplementedError

        resume_reading = pause_reading

    protocol = CredSSPProtocol()
    Stubborn().connect(protocol, None)
    feed(protocol, bytes(40_000))
    protocol.resume_once()
    feed(protocol, b"x")
    assert len(protocol.received) == 40_001


async def test_memory_transports_deliver_in_order_at_any_cut():
    client, server = memory_pair([1, 2, 3])
    server.transport.write(b"abcdef")
    server.transport.write(b"ghijkl")
    await until(lambda: len(client.received) == 12)
    assert bytes(client.received) == b"abcdefghijkl"


async def test_a_loop_must_run():
    with pytest.raises(RuntimeError):
        await asyncio.to_thread(CredSSPProtocol)
