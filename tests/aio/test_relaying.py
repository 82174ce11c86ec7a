import asyncio
import gc
import inspect
import random
import select
import socket
from types import SimpleNamespace

import pytest
from support.alive import Alive
from support.endpoints import CERTIFICATE, KEY, Recorder, client_config, server_config, turns, until

from acredssp.aio.buffers import shared_buffers
from acredssp.aio.relaying import Recording, RelayEnd, RelayResult, _End, relay
from acredssp.aio.streams import start_credssp, start_credssp_streams
from acredssp.errors import PeerClosed
from acredssp.policy import Policy
from acredssp.tls_config import client_context, server_context_from_pem

FAR = 3600.0
CLIENT_CONTEXT = client_context(Policy())
SERVER_CONTEXT = server_context_from_pem(Policy(), CERTIFICATE, KEY)
KINDS = ["plain", "secure"]
BOTH = [(first, second) for first in KINDS for second in KINDS]
NAMES = pytest.mark.parametrize("name", [RelayEnd.A, RelayEnd.B])


def payload(size, seed=0):
    return random.Random(seed).randbytes(size)


class Leg:
    """One connection of a gateway: its streams, and the peer's end as a recorder."""

    def __init__(self, streams, peer, ours, theirs):
        self.streams = self.reader, self.writer = streams
        self.peer = peer
        self.socket, self.peer_socket = ours, theirs

    async def have_read_ahead(self, data):
        """Have the peer send `data`, and wait until the stream's reader has it."""
        self.peer.transport.write(data)
        await until(lambda: len(self.reader._buffer) == len(data))

    def forget_streams(self):
        """Keep the transport alone, as a gateway keeps nothing of a connection that has ended."""
        self.writer = SimpleNamespace(transport=self.writer.transport)
        del self.reader, self.streams

    async def end(self):
        """Close the peer's side of a connection that has ended; return what it was lost with."""
        await self.peer.until(lambda: {"eof", "lost"} & set(self.peer.told))
        self.peer.transport.close()
        return await self.peer.lost


async def accepted(socket_, context):
    """Streams over a connection for which asyncio is the TLS server."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, socket_, ssl=context)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def new_leg(kind, *, keep_open=True):
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    for end in ours, theirs:
        end.setblocking(False)
    peer = Recorder(keep_open=keep_open)
    if kind == "tls":
        streams, _ = await asyncio.gather(
            accepted(ours, SERVER_CONTEXT),
            loop.create_connection(lambda: peer, sock=theirs, ssl=CLIENT_CONTEXT, server_hostname="localhost"),
        )
        return Leg(streams, peer, ours, theirs)
    streams = await asyncio.open_connection(sock=ours)
    if kind == "plain":
        await loop.create_connection(lambda: peer, sock=theirs)
        return Leg(streams, peer, ours, theirs)
    raw, _ = await loop.create_connection(asyncio.Protocol, sock=theirs)
    streams, transport = await asyncio.gather(
        start_credssp_streams(*streams, server_config()),
        start_credssp(raw, peer, client_config(), server_hostname="localhost"),
    )
    peer.transport = transport
    return Leg(streams, peer, ours, theirs)


@pytest.fixture
async def legs():
    """Makes the two legs of a gateway; whatever a test does, its relay leaves no socket open."""
    made = []

    async def make(first="plain", second="plain", **options):
        made.extend([await new_leg(first, **options), await new_leg(second, **options)])
        return made

    yield make
    await turns(3)
    left_open = [leg.socket for leg in made if leg.socket.fileno() != -1]
    for leg in made:
        leg.writer.transport.abort()
        leg.peer.transport.abort()
    await turns(3)
    assert not left_open


def started(a, b, **options):
    return asyncio.ensure_future(relay(a.streams, b.streams, **options))


def sides(a, b, name):
    """The leg of that name, and the other one."""
    return (a, b) if name is RelayEnd.A else (b, a)


class Timer:
    """What `call_at` gives."""

    def __init__(self, clock, when, callback):
        self.clock, self.when, self.callback = clock, when, callback

    def cancel(self):
        if self in self.clock.timers:
            self.clock.timers.remove(self)


class Clock:
    """The running loop's time, which stands still until a test lets it pass."""

    def __init__(self, monkeypatch):
        self.loop = asyncio.get_running_loop()
        self.now = float(int(self.loop.time()))  # whole seconds add up exactly
        self.timers = []
        monkeypatch.setattr(self.loop, "time", lambda: self.now)
        monkeypatch.setattr(self.loop, "call_at", self.call_at)

    def call_at(self, when, callback, *args):
        assert not args
        self.timers.append(Timer(self, when, callback))
        return self.timers[-1]

    async def passes(self, seconds):
        """Let time pass, and what is due happen."""
        self.now += seconds
        for timer in [timer for timer in self.timers if timer.when <= self.now]:
            timer.cancel()
            timer.callback()
        await turns(3)


@pytest.fixture
async def clock(monkeypatch):
    with monkeypatch.context() as patch:
        yield Clock(patch)


# --- bytes ---


@pytest.mark.parametrize(("first", "second"), BOTH)
async def test_bytes_pass_whole_and_in_order_both_ways(legs, first, second):
    a, b = await legs(first, second)
    up, down = payload(1_000_003, 1), payload(700_001, 2)
    await a.have_read_ahead(up[:1000])
    await b.have_read_ahead(down[:1000])
    running = started(a, b, first_up=b"first up ", first_down=b"first down ")
    a.peer.transport.write(up[1000:])
    b.peer.transport.write(down[1000:])
    assert await b.peer.got(len(up) + 9) == b"first up " + up
    assert await a.peer.got(len(down) + 11) == b"first down " + down
    a.peer.transport.write_eof()
    await b.peer.until(lambda: "eof" in b.peer.told)
    b.peer.transport.close()
    assert await running == RelayResult(
        bytes_up=len(up) + 9, bytes_down=len(down) + 11, ended_by=RelayEnd.A, error=None
    )
    assert await a.end() is None


async def test_more_than_a_reader_keeps_was_read_ahead(legs):
    a, b = await legs()
    data = payload(300_000)
    a.peer.transport.write(data)
    await until(lambda: len(a.reader._buffer) > 2 * 2**16)
    running = started(a, b)
    assert await b.peer.got(len(data)) == data
    a.peer.transport.close()
    b.peer.transport.close()
    assert (await running).bytes_up == len(data)


@NAMES
@pytest.mark.parametrize("kind", KINDS)
async def test_a_slow_reader_holds_up_the_other_peer_and_little_is_stored(legs, kind, name):
    a, b = await legs(kind, kind)
    sender, slow = sides(a, b, name)
    slow.peer.transport.pause_reading()
    running = started(a, b)
    data = payload(16 * 1024 * 1024)
    sender.peer.transport.write(data)
    most, transport = 0, slow.writer.transport
    for _ in range(500):
        await asyncio.sleep(0)
        most = max(most, transport.get_write_buffer_size())
    assert 0 < most < 64 * 1024 + 2 * 256 * 1024  # its high-water mark, one read, and what TLS adds
    assert sender.peer.told[-1] == "pause"
    slow.peer.transport.resume_reading()
    assert await slow.peer.got(len(data)) == data
    sender.peer.transport.close()
    slow.peer.transport.close()
    await running


async def test_a_transport_that_was_full_before_goes_on(legs):
    a, b = await legs()
    b.peer.transport.pause_reading()
    data = payload(4 * 1024 * 1024)
    b.writer.write(data)
    running = started(a, b)
    a.peer.transport.write(payload(4 * 1024 * 1024, 1))
    for _ in range(100):
        await asyncio.sleep(0)
    assert a.peer.told[-1] == "pause"
    assert b.writer.transport.get_write_buffer_size() <= len(data)  # nothing of it was read yet
    b.peer.transport.resume_reading()
    assert await b.peer.got(2 * len(data)) == data + payload(4 * 1024 * 1024, 1)
    a.peer.transport.close()
    b.peer.transport.close()
    assert (await running).bytes_up == len(data)


# --- ends ---


@NAMES
@pytest.mark.parametrize(("first", "second"), BOTH)
async def test_the_end_of_a_direction_is_passed_on_and_the_other_one_goes_on(legs, first, second, name):
    a, b = await legs(first, second)
    ending, other = sides(a, b, name)
    running = started(a, b)
    ending.peer.transport.write(b"question")
    ending.peer.transport.write_eof()
    await other.peer.until(lambda: "eof" in other.peer.told)
    assert bytes(other.peer.data) == b"question"
    other.peer.transport.write(b"answer")
    assert await ending.peer.got(6) == b"answer"
    assert not running.done()
    other.peer.transport.write_eof()
    result = await running
    assert (result.ended_by, result.error) == (name, None)
    assert await ending.end() is None


@NAMES
async def test_an_end_that_was_there_before_is_passed_on(legs, name):
    a, b = await legs()
    ending, other = sides(a, b, name)
    await ending.have_read_ahead(b"last words")
    ending.peer.transport.write_eof()
    await until(lambda: ending.reader._eof)
    running = started(a, b)
    await other.peer.until(lambda: "eof" in other.peer.told)
    assert bytes(other.peer.data) == b"last words"
    other.peer.transport.close()
    assert (await running).ended_by is name


@NAMES
@pytest.mark.parametrize(("first", "second"), [("tls", "plain"), ("plain", "tls")])
async def test_where_tls_cannot_end_one_direction_the_first_end_is_the_end_of_both(legs, first, second, name):
    a, b = await legs(first, second, keep_open=False)
    ending, other = sides(a, b, name)
    running = started(a, b)
    ending.peer.transport.write(b"last words")
    ending.peer.transport.close()
    result = await running
    assert (result.ended_by, result.error) == (name, None)
    assert await other.end() is None
    assert bytes(other.peer.data) == b"last words"
    assert "eof" in other.peer.told


@NAMES
async def test_a_tls_connection_of_asyncio_is_closed_only_once(legs, name):
    """A second close() takes the connection out of asyncio's transport, and every further call of it fails."""
    a, b = await legs("tls", "plain", keep_open=False)
    a.writer.transport.set_write_buffer_limits(0)
    a.peer.transport.pause_reading()
    a.writer.write(payload(8 * 1024 * 1024))
    await turns(5)
    ending, _ = sides(a, b, name)
    ending.peer.transport.close()
    await turns(5)
    running = started(a, b, idle_timeout=FAR)
    await turns(5)
    a.peer.transport.resume_reading()
    assert (await running).ended_by is name


@NAMES
async def test_a_reset_cuts_the_other_connection_behind_what_was_received(legs, name):
    a, b = await legs()
    breaking, other = sides(a, b, name)
    running = started(a, b)
    breaking.peer.transport.write(b"last words")
    await other.peer.got(10)
    breaking.peer.transport.pause_reading()
    other.peer.transport.write(b"nobody reads it: the kernel tells the writer so")
    await until(lambda: select.select([breaking.peer_socket], [], [], 0)[0])
    breaking.peer.transport.abort()
    result = await running
    assert result.ended_by is name
    assert isinstance(result.error, ConnectionError)
    await other.end()
    assert bytes(other.peer.data) == b"last words"


@NAMES
async def test_a_tls_connection_that_is_cut_off_is_an_error_and_never_looks_whole_to_the_other_peer(legs, name):
    a, b = await legs("secure", "secure")
    breaking, other = sides(a, b, name)
    running = started(a, b)
    breaking.peer.transport.write(b"half of it")
    await other.peer.got(10)
    breaking.peer.transport.abort()
    result = await running
    assert result.ended_by is name
    assert isinstance(result.error, PeerClosed)
    assert isinstance(await other.end(), PeerClosed)
    assert "eof" not in other.peer.told


@pytest.mark.parametrize("second", KINDS)
async def test_what_waits_for_a_slow_peer_is_no_part_of_the_shared_plaintext(legs, second):
    a, b = await legs("secure", second)
    running = started(a, b)
    b.peer.transport.pause_reading()
    a.peer.transport.write(payload(2_000_000))
    await until(b.writer.transport.get_write_buffer_size)
    plaintext = shared_buffers().plaintext
    plaintext[:] = bytes(len(plaintext))  # as by another connection
    b.peer.transport.resume_reading()
    assert await b.peer.got(2_000_000) == payload(2_000_000)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_a_broken_connection_sent_is_delivered_to_a_slow_peer(legs):
    a, b = await legs("secure", "secure")
    b.peer.transport.pause_reading()
    running = started(a, b)
    data = payload(400_000)
    a.peer.transport.write(data)
    await until(lambda: a.peer.transport.get_write_buffer_size() == 0)
    await turns(20)
    a.peer.transport.abort()
    b.peer.transport.resume_reading()
    result = await running
    await b.end()
    assert len(b.peer.data) == result.bytes_up
    assert data.startswith(b.peer.data)


@NAMES
@pytest.mark.parametrize("kind", KINDS)
async def test_a_connection_that_broke_before_is_an_error(legs, kind, name):
    a, b = await legs(kind, kind)
    breaking, other = sides(a, b, name)
    error = ConnectionResetError("gone")
    breaking.writer.transport.get_protocol().connection_lost(error)
    breaking.writer.transport.abort()
    result = await relay(a.streams, b.streams)
    assert (result.ended_by, result.error) == (name, error)
    await other.end()


@NAMES
async def test_a_connection_that_was_closed_before_ends_it(legs, name):
    a, b = await legs()
    closed, other = sides(a, b, name)
    closed.writer.close()
    await closed.writer.wait_closed()
    result = await relay(a.streams, b.streams)
    assert (result.ended_by, result.error) == (name, None)
    await other.end()


@NAMES
async def test_somebody_else_closes_a_connection(legs, name):
    a, b = await legs()
    closed, other = sides(a, b, name)
    running = started(a, b)
    await turns(3)
    closed.writer.close()
    result = await running
    assert (result.ended_by, result.error) == (name, None)
    await other.end()


@pytest.mark.parametrize(("first", "second"), BOTH)
async def test_a_cancelled_relay_cuts_both(legs, first, second):
    a, b = await legs(first, second)
    for leg in a, b:
        leg.peer.transport.pause_reading()
    running = started(a, b)
    a.peer.transport.write(payload(4 * 1024 * 1024))
    b.peer.transport.write(payload(4 * 1024 * 1024))
    await turns(50)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await turns(3)
    assert [leg.socket.fileno() for leg in (a, b)] == [-1, -1]


@pytest.mark.parametrize("recorded", [False, True], ids=["alone", "recorded"])
@pytest.mark.parametrize(("first", "second"), BOTH)
async def test_a_relay_that_is_over_is_freed_without_the_garbage_collector(legs, first, second, recorded):
    async def sink(_source, _offset, _data):
        pass

    a, b = await legs(first, second)
    alive_ends = Alive(_End)
    gc.disable()
    try:
        running = started(a, b, recording=Recording(sink=sink) if recorded else None)
        await turns(1)
        assert alive_ends()
        for leg in a, b:
            leg.peer.transport.abort()
        await running
        del running
        for leg in a, b:
            leg.forget_streams()
        await until(lambda: not alive_ends())
    finally:
        gc.enable()


async def test_the_streams_learn_of_the_end(legs):
    a, b = await legs("plain", "secure")
    running = started(a, b)
    a.peer.transport.write_eof()
    b.peer.transport.write_eof()
    await running
    for leg in a, b:
        leg.writer.close()
        await leg.writer.wait_closed()
        assert leg.reader.at_eof()


class NotConnected(asyncio.Transport):
    """A transport whose socket the peer has reset, which asyncio finds out when it is to end our direction."""

    def __init__(self):
        super().__init__()
        self.closing = False

    def get_protocol(self):
        return self.protocol

    def set_protocol(self, protocol):
        self.protocol = protocol

    def is_closing(self):
        return self.closing

    def resume_reading(self):
        pass

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def get_write_buffer_size(self):
        return 0

    def can_write_eof(self):
        return True

    def write_eof(self):
        raise OSError("not connected")

    def abort(self):
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


async def test_an_end_that_cannot_be_passed_on_is_the_other_connections_error(legs):
    a, unused = await legs()
    unused.writer.close()
    reader, transport = asyncio.StreamReader(), NotConnected()
    transport.protocol = asyncio.StreamReaderProtocol(reader)
    writer = asyncio.StreamWriter(transport, transport.protocol, reader, asyncio.get_running_loop())
    running = asyncio.ensure_future(relay(a.streams, (reader, writer)))
    await turns(2)
    a.peer.transport.write_eof()
    result = await running
    assert (result.ended_by, str(result.error)) == (RelayEnd.A, "not connected")


# --- time ---


async def test_an_idle_relay_ends_by_itself(legs):
    a, b = await legs()
    result = await relay(a.streams, b.streams, idle_timeout=0.01)
    assert result == RelayResult(bytes_up=0, bytes_down=0, ended_by=RelayEnd.IDLE, error=None)


@NAMES
@pytest.mark.parametrize("kind", KINDS)
async def test_data_of_either_direction_keeps_a_relay(legs, clock, kind, name):
    a, b = await legs(kind, kind)
    sender, other = sides(a, b, name)
    running = started(a, b, idle_timeout=100)
    await turns(2)
    for count in range(1, 4):
        await clock.passes(60)
        sender.peer.transport.write(b"x")
        await other.peer.got(count)
    await clock.passes(99)
    assert not running.done()
    await clock.passes(1)
    assert (await running).ended_by is RelayEnd.IDLE


async def test_the_end_of_one_direction_does_not_stop_the_clock(legs, clock):
    a, b = await legs()
    running = started(a, b, idle_timeout=100)
    a.peer.transport.write_eof()
    await b.peer.until(lambda: "eof" in b.peer.told)
    await clock.passes(100)
    assert (await running).ended_by is RelayEnd.A  # it ended first


@pytest.mark.parametrize("first", list(RelayEnd)[:2])
async def test_a_peer_that_does_not_end_after_the_other_one_is_closed_in_time(legs, clock, first):
    a, b = await legs()
    running = started(a, b, half_open_timeout=10)
    await clock.passes(100)
    ended, other = sides(a, b, first)
    ended.peer.transport.write_eof()
    await other.peer.until(lambda: "eof" in other.peer.told)
    await clock.passes(9)
    assert not running.done()
    await clock.passes(1)
    result = await running
    assert (result.ended_by, result.error) == (first, None)


async def test_a_slow_peer_is_not_idle_but_one_that_takes_nothing_is(legs, clock):
    a, b = await legs()
    b.peer.transport.pause_reading()
    running = started(a, b, first_up=payload(8 * 1024 * 1024), idle_timeout=100)
    await turns(10)
    for _ in range(3):
        waiting = b.writer.transport.get_write_buffer_size()
        b.peer.transport.resume_reading()
        await until(lambda: b.writer.transport.get_write_buffer_size() < waiting)  # noqa: B023
        b.peer.transport.pause_reading()
        await turns(10)
        await clock.passes(100)
        assert not running.done()
    await clock.passes(100)
    assert (await running).ended_by is RelayEnd.IDLE


@pytest.mark.parametrize("idle_timeout", [None, FAR])
async def test_a_peer_that_takes_nothing_does_not_keep_a_relay_that_has_ended(legs, clock, idle_timeout):
    a, b = await legs()
    b.peer.transport.pause_reading()
    running = started(a, b, idle_timeout=idle_timeout)
    a.peer.transport.write(payload(4 * 1024 * 1024))
    await turns(200)
    a.writer.transport.abort()
    await turns(3)
    assert not running.done()
    await clock.passes(30)
    await running
    b.peer.transport.abort()


# --- recordings ---


class Tape:
    """A sink that keeps what it gets, and takes nothing while it is `stopped`."""

    def __init__(self, answer=lambda _calls: None):
        self.calls = []
        self.answer = answer
        self.goes = asyncio.Event()
        self.goes.set()

    def __call__(self, source, offset, data):
        self.calls.append((source, offset, data))
        return self.take()

    async def take(self):
        await self.goes.wait()
        return self.answer(self.calls)

    def of(self, source):
        """What it got of one side; None stands for bytes that are missing."""
        whole = b""
        for name, offset, data in self.calls:
            if name is source:
                if offset != len(whole):
                    return None
                whole += data
        return whole


async def passed_and_ended(a, b, up, down):
    """Send these bytes through a relay, then end both sides."""
    a.peer.transport.write(up)
    b.peer.transport.write(down)
    await asyncio.gather(
        b.peer.until(lambda: up in bytes(b.peer.data)), a.peer.until(lambda: down in bytes(a.peer.data))
    )
    a.peer.transport.close()
    b.peer.transport.close()


@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize(("first", "second"), BOTH)
async def test_a_sink_gets_both_directions_whole_and_decrypted(legs, first, second, lossy):
    a, b = await legs(first, second)
    await a.have_read_ahead(b"ahead")
    tape = Tape()
    recording = Recording(sink=tape, lossy=lossy)
    running = started(a, b, first_up=b"up", first_down=b"down", recording=recording)
    up, down = payload(400_000), payload(300_000, 1)
    await passed_and_ended(a, b, up, down)
    result = await running
    assert tape.of(RelayEnd.A) == b"up" + b"ahead" + up
    assert tape.of(RelayEnd.B) == b"down" + down
    assert (result.bytes_up, result.bytes_unrecorded) == (len(up) + 7, 0)


@NAMES
async def test_a_slow_sink_holds_up_both_peers_and_little_is_stored(legs, name):
    a, b = await legs()
    sender, receiver = sides(a, b, name)
    tape = Tape()
    tape.goes.clear()
    running = started(a, b, recording=Recording(sink=tape, most_waiting=1000))
    data = payload(8 * 1024 * 1024)
    sender.peer.transport.write(data)
    await until(lambda: sender.peer.told[-1:] == ["pause"])
    await turns(50)
    assert len(receiver.peer.data) <= 1000 + 256 * 1024
    receiver.peer.transport.write(b"the other direction waits, too")
    await turns(20)
    assert not sender.peer.data
    tape.goes.set()
    assert await receiver.peer.got(len(data)) == data
    await sender.peer.got(30)
    a.peer.transport.close()
    b.peer.transport.close()
    assert (await running).bytes_unrecorded == 0
    assert tape.of(name) == data


async def test_a_sink_that_is_slow_from_the_beginning_holds_up_a_peer_whose_bytes_were_read_ahead(legs):
    a, b = await legs()
    data = payload(8 * 1024 * 1024)
    a.peer.transport.write(data)
    await until(lambda: len(a.reader._buffer) > 2 * 2**16)  # where the reader stops
    tape = Tape()
    tape.goes.clear()
    running = started(a, b, recording=Recording(sink=tape, most_waiting=1000))
    await until(lambda: b.peer.data)
    await turns(50)
    assert len(b.peer.data) < 1024 * 1024
    tape.goes.set()
    assert await b.peer.got(len(data)) == data
    a.peer.transport.close()
    b.peer.transport.close()
    await running
    assert tape.of(RelayEnd.A) == data


async def test_a_peer_that_goes_on_does_not_overtake_a_slow_sink(legs):
    a, b = await legs()
    b.peer.transport.pause_reading()
    tape = Tape()
    tape.goes.clear()
    first = payload(4 * 1024 * 1024)
    running = started(a, b, first_up=first, recording=Recording(sink=tape, most_waiting=1000))
    await until(lambda: tape.calls)
    a.peer.transport.write(b"later")  # what comes before the relay has begun is passed on at once
    b.peer.transport.resume_reading()
    assert await b.peer.got(len(first)) == first
    await turns(50)
    assert len(b.peer.data) == len(first)
    tape.goes.set()
    assert await b.peer.got(len(first) + 5) == first + b"later"
    a.peer.transport.close()
    b.peer.transport.close()
    await running


async def test_a_sink_that_goes_on_does_not_overtake_a_slow_peer(legs):
    a, b = await legs()
    b.peer.transport.pause_reading()
    tape = Tape()
    tape.goes.clear()
    running = started(a, b, recording=Recording(sink=tape, most_waiting=1000))
    data = payload(16 * 1024 * 1024)
    a.peer.transport.write(data)
    await until(lambda: tape.calls)
    tape.goes.set()
    transport = b.writer.transport
    for _ in range(300):
        await asyncio.sleep(0)
        assert transport.get_write_buffer_size() < 64 * 1024 + 2 * 256 * 1024
    b.peer.transport.resume_reading()
    assert await b.peer.got(len(data)) == data
    a.peer.transport.close()
    b.peer.transport.close()
    await running
    assert tape.of(RelayEnd.A) == data


async def test_a_lossy_recording_holds_nobody_up_and_counts_what_it_lost(legs):
    a, b = await legs()
    tape = Tape()
    tape.goes.clear()
    running = started(a, b, recording=Recording(sink=tape, most_waiting=1000, lossy=True))
    data = payload(1024 * 1024)
    a.peer.transport.write(data)
    assert await b.peer.got(len(data)) == data
    tape.goes.set()
    await until(lambda: len(tape.calls) > 0)
    await turns(5)
    a.peer.transport.write(b"end")
    await b.peer.got(len(data) + 3)
    a.peer.transport.close()
    b.peer.transport.close()
    result = await running
    recorded = sum(len(data) for _, _, data in tape.calls)
    assert recorded + result.bytes_unrecorded == result.bytes_up == len(data) + 3
    assert result.bytes_unrecorded > 0
    assert tape.calls[-1] == (RelayEnd.A, len(data), b"end")  # its place shows what is missing


async def test_a_sink_may_end_the_recording(legs):
    a, b = await legs()
    tape = Tape(lambda _calls: False)
    running = started(a, b, recording=Recording(sink=tape, most_waiting=1))
    data = payload(1024 * 1024)
    await passed_and_ended(a, b, data, b"down")
    assert (await running).bytes_unrecorded == 0
    assert len(tape.calls) == 1


async def test_a_relay_whose_recording_has_ended_is_as_one_without(legs):
    a, b = await legs()
    tape = Tape(lambda _calls: False)
    running = started(a, b, recording=Recording(sink=tape))
    a.peer.transport.write(b"once")
    await b.peer.until(lambda: bytes(b.peer.data) == b"once")
    a.peer.transport.write(b"more")
    await b.peer.until(lambda: bytes(b.peer.data) == b"oncemore")
    ends = {type(leg.streams[1].transport.get_protocol()) for leg in (a, b)}
    c, d = (await legs())[-2:]
    plain = started(c, d)
    c.peer.transport.write(b"x")
    await d.peer.until(lambda: bytes(d.peer.data) == b"x")
    assert ends == {type(leg.streams[1].transport.get_protocol()) for leg in (c, d)}
    for leg in (a, b, c, d):
        leg.peer.transport.close()
    assert (await running).bytes_up == 8
    assert (await plain).bytes_up == 1


@pytest.mark.parametrize(("first", "second"), BOTH)
async def test_a_sink_that_answers_at_once_gets_everything_and_needs_no_task(legs, first, second):
    a, b = await legs(first, second)
    tape = Tape()
    running = started(a, b, recording=Recording(sink=lambda *piece: tape.calls.append(piece)))
    up, down = payload(400_000), payload(300_000, 1)
    before = asyncio.all_tasks()
    a.peer.transport.write(up)
    await b.peer.until(lambda: up in bytes(b.peer.data))
    assert asyncio.all_tasks() <= before
    await passed_and_ended(a, b, b"", down)
    assert (await running).bytes_unrecorded == 0
    assert (tape.of(RelayEnd.A), tape.of(RelayEnd.B)) == (up, down)


async def test_a_sink_may_take_time_for_some_pieces_alone(legs):
    a, b = await legs()
    tape = Tape()

    def sink(source, offset, data):
        answer = tape(source, offset, data)
        if len(tape.calls) == 2:
            return answer
        answer.close()
        return None

    running = started(a, b, recording=Recording(sink=sink))
    for number in range(1, 5):
        a.peer.transport.write(b"piece")
        await until(lambda number=number: len(tape.calls) == number)
    await passed_and_ended(a, b, b"end", b"")
    assert (await running).bytes_unrecorded == 0
    assert tape.of(RelayEnd.A) == b"piece" * 4 + b"end"


async def test_a_sink_that_answers_at_once_may_end_the_recording(legs):
    a, b = await legs()
    tape = Tape()

    def sink(*piece):
        tape.calls.append(piece)
        return False

    running = started(a, b, recording=Recording(sink=sink))
    a.peer.transport.write(b"once")
    await b.peer.until(lambda: bytes(b.peer.data) == b"once")
    await passed_and_ended(a, b, b"more", b"down")
    assert (await running).bytes_unrecorded == 0
    assert tape.of(RelayEnd.A) == b"once"


@pytest.mark.parametrize("first", [b"", b"before the first piece of a peer"])
async def test_a_sink_that_fails_at_once_ends_the_relay(legs, first):
    a, b = await legs()

    def fail(_source, _offset, _data):
        raise OSError("disk full")

    running = started(a, b, first_up=first, recording=Recording(sink=fail, most_waiting=1))
    if not first:
        a.peer.transport.write(b"abc")
    result = await running
    assert (result.ended_by, str(result.error)) == (RelayEnd.RECORDING, "disk full")
    assert result.bytes_unrecorded == len(first or b"abc")


async def test_a_sink_whose_relay_cannot_begin_does_not_begin_either(legs):
    a, b = await legs()
    answer = Tape().take()
    reading = asyncio.ensure_future(a.reader.read(1))
    await turns(3)
    with pytest.raises(RuntimeError):
        await relay(a.streams, b.streams, first_up=b"up", recording=Recording(sink=lambda *_: answer))
    reading.cancel()
    await turns(3)
    assert inspect.getcoroutinestate(answer) == inspect.CORO_CLOSED


async def test_a_sink_that_fails_ends_the_relay(legs):
    a, b = await legs()

    async def fail(_source, _offset, _data):
        raise OSError("disk full")

    running = started(a, b, recording=Recording(sink=fail))
    a.peer.transport.write(b"abc")
    result = await running
    assert (result.ended_by, str(result.error), result.bytes_unrecorded) == (RelayEnd.RECORDING, "disk full", 3)


async def test_a_lossy_sink_that_fails_is_told_and_the_relay_goes_on(legs):
    a, b = await legs()
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["message"]))

    async def fail(_source, _offset, _data):
        raise OSError("disk full")

    running = started(a, b, recording=Recording(sink=fail, lossy=True))
    a.peer.transport.write(b"abc")
    await until(lambda: told)
    await passed_and_ended(a, b, b"def", b"ghi")
    result = await running
    assert (result.error, result.bytes_unrecorded) == (None, 9)
    assert told == ["the sink of a recording failed"]


async def test_a_sink_has_some_time_for_the_rest(legs, monkeypatch):
    a, b = await legs()
    tape = Tape()
    tape.goes.clear()
    running = started(a, b, recording=Recording(sink=tape))
    await passed_and_ended(a, b, b"abc", b"")
    await until(lambda: a.writer.transport.is_closing() and b.writer.transport.is_closing())
    await turns(5)
    assert not running.done()
    tape.goes.set()
    assert (await running).bytes_unrecorded == 0
    assert tape.of(RelayEnd.A) == b"abc"


async def test_a_sink_that_never_takes_the_rest_is_not_awaited_for_ever(legs, monkeypatch):
    monkeypatch.setattr("acredssp.aio.relaying._CLOSE_TIMEOUT", 0.01)
    a, b = await legs()
    tape = Tape()
    tape.goes.clear()
    running = started(a, b, recording=Recording(sink=tape))
    await passed_and_ended(a, b, b"abc", b"")
    assert (await running).bytes_unrecorded == 3


async def test_a_cancelled_relay_ends_the_recording(legs):
    a, b = await legs()
    tape = Tape()
    tape.goes.clear()
    running = started(a, b, recording=Recording(sink=tape))
    a.peer.transport.write(b"abc")
    await until(lambda: tape.calls)
    tasks = asyncio.all_tasks() - {asyncio.current_task(), running}
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: all(task.done() for task in tasks))


async def test_a_sink_that_is_cancelled_by_itself_has_failed(legs):
    a, b = await legs()

    async def sink(*_):
        raise asyncio.CancelledError

    running = started(a, b, recording=Recording(sink=sink))
    a.peer.transport.write(b"not recorded")
    result = await running
    assert (result.ended_by, result.bytes_unrecorded) == (RelayEnd.RECORDING, 12)
    assert "the sink was cancelled" in str(result.error)


async def test_a_sink_that_swallows_its_cancellation_does_not_keep_its_task(legs):
    a, b = await legs()
    called, cancelled = asyncio.Event(), asyncio.Event()

    async def sink(*_):
        called.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()

    before = asyncio.all_tasks()
    running = started(a, b, recording=Recording(sink=sink))
    a.peer.transport.write(b"one piece")
    await called.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await cancelled.wait()
    await turns(3)
    left = asyncio.all_tasks() - before
    for task in left:
        task.cancel()
    assert not left


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"sink": 5}, TypeError, "sink"),
        ({"sink": None}, TypeError, "sink: expected a callable, got None"),
        ({"most_waiting": 0}, ValueError, "most_waiting: expected at least 1 byte, got 0"),
        ({"most_waiting": "1"}, TypeError, "most_waiting: expected int, got str"),
        ({"lossy": 1}, TypeError, "lossy: expected bool, got int"),
    ],
)
def test_a_recording_that_cannot_be_is_refused(options, error, said):
    with pytest.raises(error, match=said):
        Recording(**{"sink": print} | options)


# --- misuse ---


async def test_a_stream_that_somebody_else_reads_is_refused_and_both_are_cut(legs):
    a, b = await legs()
    reading = asyncio.ensure_future(b.reader.read(1))
    await turns(1)
    with pytest.raises(RuntimeError, match="another coroutine is already waiting"):
        await relay(a.streams, b.streams)
    await reading


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"a": 1}, TypeError, r"^a: expected a pair of streams \(StreamReader, StreamWriter\), got int$"),
        ({"b": ()}, TypeError, r"^b: expected a pair of streams .*, got \(\)$"),
        ({"a": (1, 2)}, TypeError, r"^a: expected a pair of streams .*, got \(int, int\)$"),
        ({"a": [b"", None, "x"]}, TypeError, r"^a: expected a pair of streams .*, got \(bytes, NoneType, str\)$"),
        ({"first_up": "text"}, TypeError, "first_up: expected bytes or bytearray, got str"),
        ({"first_down": None}, TypeError, "first_down: expected bytes or bytearray, got NoneType"),
        ({"idle_timeout": "1"}, TypeError, "idle_timeout: expected float or int, got str"),
        ({"half_open_timeout": 0}, ValueError, "half_open_timeout: expected seconds above 0 and at most .*, got 0"),
        ({"idle_timeout": 0}, ValueError, "idle_timeout: expected seconds above 0 and at most .*, got 0"),
        ({"idle_timeout": -1}, ValueError, "idle_timeout: expected seconds above 0 and at most .*, got -1"),
        ({"idle_timeout": True}, TypeError, "idle_timeout: expected float or int, got bool"),
        ({"idle_timeout": float("inf")}, ValueError, "idle_timeout: expected seconds above 0 and at most .*, got inf"),
        ({"idle_timeout": 1e300}, ValueError, r"idle_timeout: expected seconds above 0 and at most .*, got 1e\+300"),
        ({"recording": print}, TypeError, "recording: expected Recording or None, got builtin_function_or_method"),
        ({"idle_timeout": float("nan")}, ValueError, "idle_timeout: expected seconds above 0 and at most .*, got nan"),
    ],
)
async def test_an_argument_that_cannot_be_is_refused_and_nothing_is_touched(legs, change, error, said):
    a, b = await legs()
    with pytest.raises(error, match=said):
        await relay(**{"a": a.streams, "b": b.streams} | change)
    a.peer.transport.write(b"still there")
    assert await a.reader.readexactly(11) == b"still there"
    a.writer.close()
    b.writer.close()


async def test_a_connection_is_not_relayed_to_itself(legs):
    a, b = await legs()
    with pytest.raises(ValueError, match="b: expected another connection than a, got the same one"):
        await relay(a.streams, a.streams)
    a.writer.close()
    b.writer.close()


async def test_one_reader_does_not_serve_both_connections(legs):
    a, b = await legs()
    with pytest.raises(ValueError, match="b: expected another connection than a, got the same one"):
        await relay(a.streams, (a.reader, b.writer))
    a.writer.close()
    b.writer.close()
