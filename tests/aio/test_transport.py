import array
import asyncio
import gc
import itertools
import random
import types
import weakref

import pytest
from support.alive import Watch
from support.endpoints import (
    PASSWORD,
    BufferedRecorder,
    Recorder,
    both,
    client_side,
    memory_pair,
    secure_pair,
    server_side,
    socket_pair,
    turns,
)

from acredssp.aio import buffers as buffers_module
from acredssp.aio import transport as transport_module
from acredssp.aio.buffers import Borrower, shared_buffers
from acredssp.errors import PeerClosed, TLSError
from acredssp.status import Stage

VERSIONS = ["TLSv1.2", "TLSv1.3"]
PAIRS = {"memory": memory_pair, "sockets": socket_pair}


@pytest.fixture(params=PAIRS)
def pair(request):
    async def make(*sizes):
        made = PAIRS[request.param](*sizes)
        return await made if asyncio.iscoroutine(made) else made

    return make


def payload(size, seed=0):
    return random.Random(seed).randbytes(size)


async def closed(*apps):
    """Close both ends and wait for that: what each one's connection ended with."""
    for app in apps:
        app.transport.close()
    return [await app.lost for app in apps]


# --- data ---


@pytest.mark.parametrize("version", VERSIONS)
async def test_data_arrives_whole_and_in_order_both_ways(pair, version):
    ours, theirs = await secure_pair(version=version, pair=await pair())
    sizes = [1, 0, 5, 16384, 16385, 100_000, 3]
    words = [payload(size, size) for size in sizes]
    for word in words:
        ours.transport.write(word)
    theirs.transport.writelines(words)
    assert await theirs.got(sum(sizes)) == await ours.got(sum(sizes)) == b"".join(words)
    assert await closed(ours, theirs) == [None, None]


@pytest.mark.parametrize("version", VERSIONS)
async def test_bulk_both_ways_at_once(version):
    size = 10 * 1024 * 1024
    data = payload(size)
    ours, theirs = await secure_pair(version=version, pair=await socket_pair())

    async def send(app):
        for start in range(0, size, 256 * 1024):
            app.transport.write(data[start : start + 256 * 1024])
            await app.until(lambda: app.told.count("pause") == app.told.count("resume"))

    await asyncio.gather(send(ours), send(theirs))
    assert await ours.got(size) == data
    assert await theirs.got(size) == data
    await closed(ours, theirs)


@pytest.mark.parametrize("sizes", [[1], [7], [5, 1, 1, 400], [16389], [70_000]])
async def test_any_cut_of_the_ciphertext_is_the_same_data(sizes):
    ours, theirs = await secure_pair(pair=memory_pair())
    theirs.transport._raw.sizes.extend(sizes)
    ours.transport.write(b"first")
    ours.transport.write(payload(3000))
    ours.transport.write_eof()
    await theirs.until(lambda: "eof" in theirs.told)
    assert bytes(theirs.data) == b"first" + payload(3000)


@pytest.mark.parametrize("data", [b"bytes", bytearray(b"bytes"), memoryview(b"bytes"), array.array("I", [1, 2])])
async def test_write_takes_what_asyncio_takes(data):
    ours, theirs = await secure_pair()
    ours.transport.write(data)
    assert await theirs.got(memoryview(data).nbytes) == bytes(data)
    with pytest.raises(TypeError):
        ours.transport.write("text")


async def test_one_write_is_one_write_below():
    ours, _ = await secure_pair()
    written = ours.transport._raw.written
    before = len(written)
    ours.transport.write(payload(100_000))
    assert len(written) == before + 1


async def test_records_are_full_and_no_fuller():
    ours, _ = await secure_pair()
    ours.transport.write(payload(40_000))
    sent, sizes = ours.transport._raw.written[-1], []
    while sent:
        sizes.append(5 + int.from_bytes(sent[3:5]))
        sent = sent[sizes[-1] :]
    besides = (sum(sizes) - 40_000) // 3
    assert [size - besides for size in sizes] == [16384, 16384, 40_000 - 2 * 16384]


# --- what came with the handshake ---


async def handshake_with_tail(tail):
    """Sides that are established; the server's engine found `tail` in the record of the credentials."""
    pair = memory_pair()
    ours, theirs = client_side(pair[0]), server_side(pair[1])
    await both(ours, theirs)
    theirs.carried.context.trailing_data = tail
    return ours, theirs


async def test_trailing_plaintext_is_the_first_data():
    ours, theirs = await handshake_with_tail(b"trailing ")
    app, other = Recorder(), Recorder()
    ours.secure(other).write(b"data")
    theirs.secure(app)
    assert await app.got(13) == b"trailing data"


async def test_what_came_early_waits_for_an_application_that_pauses_at_once():
    class Hesitant(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    ours, theirs = await handshake_with_tail(b"trailing ")
    ours.secure(Recorder()).write(b"data")
    await turns(3)
    app = Hesitant()
    theirs.secure(app)
    await turns(5)
    assert app.story == ["made"]
    app.transport.resume_reading()
    assert app.story == ["made"]  # asyncio delivers from the loop, never from within a call of the application
    assert await app.got(13) == b"trailing data"


@pytest.mark.parametrize("ends", ["eof", "reset"])
async def test_a_connection_that_ended_before_the_application_came_is_told_in_order(ends):
    pair = memory_pair()
    sides = client_side(pair[0]), server_side(pair[1])
    await both(*sides)
    sides[0].secure(Recorder()).write(b"last words")
    await turns(3)
    if ends == "eof":
        pair[0].transport.close()
    else:
        pair[0].transport.reset()
    await turns(3)
    app = Recorder()
    sides[1].secure(app)
    error = await app.lost
    assert isinstance(error, PeerClosed if ends == "eof" else ConnectionResetError)
    assert bytes(app.data) == b"last words"
    assert app.told == ["made", "data", "lost"]


async def test_closing_a_connection_that_was_lost_before_tells_its_end_once():
    pair = memory_pair()
    sides = client_side(pair[0]), server_side(pair[1])
    await both(*sides)
    pair[1].transport.reset()
    await turns(2)
    app = Recorder()
    transport = sides[1].secure(app)
    transport.write(b"into the void")
    transport.close()
    await app.lost
    await turns(3)
    assert app.told == ["made", "lost"]


# --- ends ---


@pytest.mark.parametrize("first", ["client", "server"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_each_direction_ends_alone(pair, version, first):
    apps = Recorder(keep_open=True), Recorder(keep_open=True)
    await secure_pair(*apps, version=version, pair=await pair())
    one, other = apps if first == "client" else apps[::-1]
    assert one.transport.can_write_eof()
    one.transport.write(b"all I have")
    one.transport.write_eof()
    await other.until(lambda: "eof" in other.told)
    assert bytes(other.data) == b"all I have"
    for word in range(20):  # the other direction goes on for as long as it likes
        other.transport.write(payload(10_000, word))
        await one.got(10_000 * (word + 1))
    other.transport.write_eof()
    await one.until(lambda: "eof" in one.told)
    assert bytes(one.data) == b"".join(payload(10_000, word) for word in range(20))
    assert (one.transport.is_closing(), other.transport.is_closing()) == (False, False)
    assert await closed(*apps) == [None, None]


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_was_under_way_when_we_ended_our_direction_still_arrives(pair, version):
    ours, theirs = Recorder(keep_open=True), Recorder(keep_open=True)
    await secure_pair(ours, theirs, version=version, pair=await pair())
    ours.transport.write(payload(50_000))
    theirs.transport.write(payload(60_000))
    ours.transport.write_eof()
    theirs.transport.write_eof()
    await asyncio.gather(*(app.until(lambda app=app: "eof" in app.told) for app in (ours, theirs)))
    assert bytes(ours.data) == payload(60_000)
    assert bytes(theirs.data) == payload(50_000)
    await closed(ours, theirs)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cut", [1, 5, 6, 100, 1000])
async def test_ending_our_direction_within_a_record_of_the_peer_loses_nothing(version, cut):
    ours, theirs = await secure_pair(Recorder(keep_open=True), version=version)
    ours.transport._raw.sizes.extend([cut, 10_000])
    theirs.transport.write(payload(2000))
    await turns(1)
    ours.transport.write_eof()  # `cut` bytes of the record are in the TLS session
    theirs.transport.write(b"more")
    assert await ours.got(2004) == payload(2000) + b"more"


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_application_that_does_not_keep_its_direction_is_closed_with_the_peers(pair, version):
    ours, theirs = await secure_pair(version=version, pair=await pair())
    ours.transport.write(b"bye")
    ours.transport.write_eof()
    assert await theirs.lost is None
    assert theirs.story == ["made", "data", "eof", "lost"]
    await ours.until(lambda: "eof" in ours.told)
    assert await ours.lost is None


@pytest.mark.parametrize("version", VERSIONS)
async def test_close_sends_what_was_written_and_close_notify(pair, version):
    ours, theirs = await secure_pair(version=version, pair=await pair())
    data = payload(2_000_000)
    ours.transport.write(data)
    ours.transport.close()
    ours.transport.close()
    ours.transport.write(b"too late")
    ours.transport.write_eof()
    assert ours.transport.is_closing()
    assert await theirs.lost is None
    assert bytes(theirs.data) == data
    assert await ours.lost is None
    assert ours.story[-1] == "lost"
    assert "data" not in ours.story


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_end_without_close_notify_is_an_error(pair, version):
    ours, theirs = await secure_pair(version=version, pair=await pair())
    ours.transport.write(b"half of the sto")
    await theirs.got(15)
    ours.transport._raw.close()
    error = await theirs.lost
    assert isinstance(error, PeerClosed)
    assert isinstance(error, ConnectionError)
    assert error.stage is Stage.ESTABLISHED
    assert "eof" not in theirs.told
    assert isinstance(await ours.lost, PeerClosed)


async def test_an_end_within_a_record_is_an_error():
    ours, theirs = await secure_pair()
    theirs.transport._raw.sizes.extend([40, 1])
    ours.transport.write(payload(1000))
    ours.transport._raw.inbox.clear()
    await turns(2)
    ours.transport._raw.peer.inbox.clear()
    ours.transport.abort()
    assert isinstance(await theirs.lost, PeerClosed)
    assert theirs.told == ["made", "lost"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_reset_is_the_error_it_is(version):
    ours, theirs = await secure_pair(version=version)
    ours.transport._raw.reset()
    assert isinstance(await theirs.lost, ConnectionResetError)
    assert isinstance(await ours.lost, ConnectionResetError)


async def test_abort_is_at_once_and_without_error_on_our_side(pair):
    ours, theirs = await secure_pair(pair=await pair())
    ours.transport.abort()
    assert ours.transport.is_closing()
    assert await ours.lost is None
    assert isinstance(await theirs.lost, PeerClosed)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_forged_record_ends_the_connection_on_both_sides(version):
    ours, theirs = await secure_pair(version=version)
    ours.transport.write(b"true")
    await theirs.got(4)
    ours.transport._raw.write(b"\x17\x03\x03\x00\x20" + bytes(32))
    error = await theirs.lost
    assert isinstance(error, TLSError)
    told = await ours.lost
    assert isinstance(told, TLSError)
    assert "alert" in str(told)  # the peer was told why
    assert bytes(theirs.data) == b"true"


@pytest.mark.parametrize(("app", "options", "pieces"), [(Recorder, {}, 1), (BufferedRecorder, {"size": 10_000}, 2)])
async def test_a_forged_record_is_told_when_what_came_before_it_was_taken(app, options, pieces):
    class Sipping(app):
        def note(self, what):
            super().note(what)
            if what == "data":
                self.transport.pause_reading()

    ours, theirs = await secure_pair(server_app=Sipping(**options))
    wire = ours.transport._raw
    theirs.transport._raw.inbox.append(bytearray())  # so that all of it arrives in one piece
    theirs.transport._raw.sizes.append(100_000)
    one, two = payload(10_000, 1), payload(10_000, 2)
    for word in one, two:
        ours.transport.write(word)
    wire.write(b"\x17\x03\x03\x00\x20" + bytes(32))
    for number, data in enumerate([one, one + two][-pieces:], 1):
        assert await theirs.got(len(data)) == data
        await turns(3)
        assert not theirs.transport.is_closing()
        assert theirs.told.count("data") == number
        theirs.transport.resume_reading()
    assert isinstance(await theirs.lost, TLSError)
    assert isinstance(await ours.lost, TLSError)


async def test_an_application_that_uses_other_connections_while_it_is_called():
    """Each read holds several records, for whose data the application writes to, and closes, other connections."""
    first, second = await secure_pair(), await secure_pair()
    words = [payload(10_000, seed) for seed in range(4)]

    class Relay(BufferedRecorder):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            for app in (*first, *second):
                app.transport.write(self.buffer[:nbytes])
            if self.buffer == words[2]:
                second[0].transport.close()

    ours, relay = await secure_pair(server_app=Relay(size=10_000))
    relay.transport._raw.inbox.append(bytearray())
    relay.transport._raw.sizes.append(100_000)
    for word in words:
        ours.transport.write(word)
    assert await relay.got(40_000) == b"".join(words)
    assert await first[0].got(40_000) == await first[1].got(40_000) == b"".join(words)
    assert await second[1].lost is None
    assert bytes(second[1].data) == b"".join(words[:3])


async def test_data_behind_close_notify_is_dropped():
    ours, theirs = await secure_pair(Recorder(), Recorder(keep_open=True))
    ours.transport.write_eof()
    await theirs.until(lambda: "eof" in theirs.told)
    ours.transport._raw.write(b"\x17\x03\x03\x00\x20" + bytes(32))
    await turns(4)
    assert theirs.told == ["made", "eof"]
    assert not theirs.transport.is_closing()


async def test_write_after_write_eof_is_misuse():
    ours, _ = await secure_pair()
    ours.transport.write_eof()
    ours.transport.write_eof()
    with pytest.raises(RuntimeError, match="write_eof"):
        ours.transport.write(b"x")


@pytest.mark.requirement("defect.never-reads")
async def test_a_peer_that_takes_nothing_is_cut_off_some_time_after_close(monkeypatch):
    monkeypatch.setattr(transport_module, "_CLOSE_TIMEOUT", 0.01)
    ours, theirs = await secure_pair(pair=await socket_pair())
    theirs.transport.pause_reading()
    ours.transport.write(payload(2_000_000))
    ours.transport.close()
    await ours.lost
    theirs.transport.abort()
    await theirs.lost


# --- many small records ---


class Pieces(Recorder):
    """Notes the sizes of what it is given."""

    def __init__(self, **options):
        super().__init__(**options)
        self.sizes = []

    def data_received(self, data):
        super().data_received(data)
        self.sizes.append(len(data))


async def burst(app, sizes):
    """A connection whose server's application is `app`, and a function that lets records of these sizes arrive there.

    They come in one read, with `behind` at their end.
    """
    ours, theirs = await secure_pair(server_app=app)
    wire, arrives = ours.transport._raw, theirs.transport._connection
    sent, written = payload(sum(sizes)), len(wire.written)
    peer, wire.peer = wire.peer, types.SimpleNamespace(arrive=lambda _data: None, end=wire.peer.end)
    start = 0
    for size in sizes:
        ours.transport.write(sent[start : start + size])
        start += size
    wire.peer = peer

    def come(behind=b""):
        stream = b"".join(wire.written[written:]) + behind
        assert len(stream) <= len(arrives.get_buffer(-1))
        arrives.get_buffer(-1)[: len(stream)] = stream
        arrives.buffer_updated(len(stream))

    return ours, theirs, sent, come


@pytest.mark.parametrize("size", [1, 128, 1024, 4096, 16_384])
@pytest.mark.parametrize("count", [2, 15])
async def test_the_records_of_one_read_are_one_piece(size, count):
    ours, theirs, sent, come = await burst(Pieces(), [size] * count)
    come()
    assert theirs.sizes == [size * count]  # in the callback that brought them
    assert bytes(theirs.data) == sent
    await closed(ours, theirs)


class Views(Pieces, Borrower):
    def data_received(self, data):
        assert data.obj is shared_buffers().plaintext.obj
        super().data_received(data)


@pytest.mark.parametrize(("size", "count"), [(128, 1500), (1024, 200), (16_384, 9)])
async def test_a_borrower_gets_a_view_of_the_plaintext_and_no_more_than_its_own(size, count):
    ours, theirs, sent, come = await burst(Views(), [size] * count)
    shared_buffers().plaintext[:] = b"!" * len(shared_buffers().plaintext)  # of another connection
    come()
    assert theirs.sizes == [size * count]
    assert bytes(theirs.data) == sent
    await closed(ours, theirs)


async def test_an_application_may_keep_what_it_gets():
    kept = []

    class Keeping(Pieces):
        def data_received(self, data):
            kept.append(data)
            super().data_received(data)

    ours, theirs, sent, come = await burst(Keeping(), [100] * 3)
    come()
    shared_buffers().plaintext[:] = bytes(len(shared_buffers().plaintext))
    assert kept == [sent]
    assert type(kept[0]) is bytes
    await closed(ours, theirs)


async def test_a_buffered_protocol_is_filled_with_small_records_together():
    app = BufferedRecorder(size=1000)
    ours, theirs, sent, come = await burst(app, [10] * 100)
    come()
    assert app.told.count("data") == 1
    assert bytes(app.data) == sent
    await closed(ours, theirs)


async def test_small_records_that_came_while_the_application_paused_are_one_piece():
    ours, theirs, sent, come = await burst(Pieces(), [100] * 50)
    theirs.transport.pause_reading()
    come()
    await turns(3)
    assert theirs.sizes == []
    theirs.transport.resume_reading()
    assert await theirs.got(5000) == sent
    assert theirs.sizes == [5000]
    await closed(ours, theirs)


async def test_a_burst_of_the_smallest_records_takes_several_turns():
    ours, theirs, sent, come = await burst(Pieces(), [1] * 6000)
    others = []
    come()
    asyncio.get_running_loop().call_soon(lambda: others.append(len(theirs.data)))
    assert theirs.sizes == [2048]
    assert await theirs.got(6000) == sent
    assert theirs.sizes == [2048, 2048, 1904]
    assert others == [4096]  # everybody else has a turn between two of these
    await closed(ours, theirs)


async def test_what_comes_while_a_burst_waits_for_its_turn_comes_behind_it_and_makes_the_peer_wait():
    ours, theirs, sent, come = await burst(Pieces(), [1] * 6000)
    come()
    wire = theirs.transport._raw
    record = ours.transport._tls.encrypt(b"behind")
    connection = theirs.transport._connection
    connection.get_buffer(-1)[: len(record)] = record
    connection.buffer_updated(len(record))
    assert not wire.is_reading()
    await turns()
    assert not wire.is_reading()  # not before all of it is delivered
    assert await theirs.got(6006) == sent + b"behind"
    await turns()
    assert wire.is_reading()
    await closed(ours, theirs)


async def test_an_application_that_pauses_between_two_turns_gets_the_rest_when_it_resumes():
    ours, theirs, sent, come = await burst(Pieces(), [1] * 6000)
    come()
    theirs.transport.pause_reading()
    await turns(5)
    assert len(theirs.data) == 2048
    theirs.transport.resume_reading()
    assert await theirs.got(6000) == sent
    await closed(ours, theirs)


async def test_an_application_that_pauses_at_every_piece_of_a_burst_gets_all_of_it():
    class Sipping(Pieces):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    ours, theirs, sent, come = await burst(Sipping(), [1] * 6000)
    come()
    assert await theirs.got(6000) == sent
    await closed(ours, theirs)


async def test_ending_our_direction_between_two_turns_loses_nothing():
    """OpenSSL would throw away what it finds unread."""

    class Ending(Pieces):
        def data_received(self, data):
            super().data_received(data)
            if len(self.sizes) == 1:
                self.transport.write_eof()

    ours, theirs, sent, come = await burst(Ending(keep_open=True), [1] * 6000)
    come()
    assert await theirs.got(6000) == sent
    await closed(ours, theirs)


@pytest.mark.parametrize("ends", ["close_notify", "eof_received", "connection_lost", "forged"])
async def test_the_end_of_a_burst_comes_behind_all_of_it(ends):
    ours, theirs, sent, come = await burst(Pieces(), [1] * 6000)
    if ends == "close_notify":
        ours.transport._tls.close()
        come(ours.transport._tls.output())
    else:
        come(b"\x17\x03\x03\x00\x20" + bytes(32) if ends == "forged" else b"")
    if ends == "eof_received":
        theirs.transport._connection.eof_received()
    elif ends == "connection_lost":
        theirs.transport._connection.connection_lost(error := ConnectionResetError())
    assert len(theirs.data) == (4096 if ends == "connection_lost" else 2048)
    assert "lost" not in theirs.told
    ended = await theirs.lost
    assert bytes(theirs.data) == sent
    assert theirs.told[-1] == "lost"
    if ends == "close_notify":
        assert ended is None
    elif ends == "connection_lost":
        assert ended is error
    else:
        assert isinstance(ended, TLSError if ends == "forged" else PeerClosed)


async def test_a_connection_that_is_closed_between_two_turns_delivers_no_more():
    _, theirs, _, come = await burst(Pieces(), [1] * 6000)
    come()
    theirs.transport.close()
    await theirs.lost
    await turns(3)
    assert theirs.sizes == [2048]


# --- flow control ---


async def test_a_paused_application_gets_nothing_and_little_is_kept_for_it():
    ours, theirs = await secure_pair(pair=await socket_pair())
    theirs.transport.pause_reading()
    assert not theirs.transport.is_reading()
    assert not theirs.transport._raw.is_reading()
    ours.transport.write(payload(2_000_000))
    assert ours.story == ["made", "pause"]
    await turns(50)
    assert theirs.story == ["made"]
    assert len(theirs.transport._ciphertext) <= buffers_module._READ_SIZE
    assert theirs.transport._records == []
    waiting = ours.transport.get_write_buffer_size()
    assert waiting > 1_000_000
    theirs.transport.resume_reading()
    assert await theirs.got(2_000_000) == payload(2_000_000)
    assert ours.story == ["made", "pause", "resume"]
    await closed(ours, theirs)


async def test_an_application_that_pauses_at_each_piece_gets_every_piece_once():
    class Sipping(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    app = Sipping(keep_open=True)
    ours, _ = await secure_pair(server_app=app)
    for start in range(0, 200_000, 25_000):
        ours.transport.write(payload(200_000)[start : start + 25_000])
    ours.transport.write_eof()
    await app.until(lambda: "eof" in app.told)
    assert bytes(app.data) == payload(200_000)
    assert app.told.count("data") == 8


async def test_the_end_waits_for_a_paused_application():
    ours, theirs = await secure_pair()
    theirs.transport.pause_reading()
    ours.transport.write(b"data")
    ours.transport.close()
    await turns(10)
    assert theirs.told == ["made"]
    theirs.transport.resume_reading()
    assert await theirs.lost is None
    assert theirs.told == ["made", "data", "eof", "lost"]


async def test_a_truncation_waits_for_a_paused_application():
    ours, theirs = await secure_pair()
    theirs.transport.pause_reading()
    ours.transport.write(b"data")
    ours.transport._raw.close()
    await turns(10)
    assert theirs.told == ["made"]
    theirs.transport.resume_reading()
    assert isinstance(await theirs.lost, PeerClosed)
    assert theirs.told == ["made", "data", "lost"]


async def test_pausing_and_resuming_again_and_again_is_harmless():
    ours, theirs = await secure_pair()
    for _ in range(3):
        theirs.transport.pause_reading()
        theirs.transport.resume_reading()
    theirs.transport.resume_reading()
    ours.transport.write(b"data")
    assert await theirs.got(4) == b"data"
    assert theirs.told == ["made", "data"]


async def test_write_limits_are_those_of_the_transport_below():
    ours, theirs = await secure_pair(pair=await socket_pair())
    ours.transport.set_write_buffer_limits(high=1000, low=100)
    assert ours.transport.get_write_buffer_limits() == (100, 1000)
    theirs.transport.pause_reading()
    for size in itertools.repeat(1000):
        if "pause" in ours.told:
            break
        ours.transport.write(payload(size))
        await turns(1)
    assert 1000 < ours.transport.get_write_buffer_size() < 3000
    theirs.transport.resume_reading()
    await ours.until(lambda: "resume" in ours.told)
    await closed(ours, theirs)


async def test_reading_is_not_resumed_after_close():
    ours, theirs = await secure_pair()
    theirs.transport.pause_reading()
    ours.transport.write(b"data")
    await turns(3)
    theirs.transport.close()
    theirs.transport.resume_reading()
    await theirs.lost
    assert "data" not in theirs.told
    assert not theirs.transport.is_reading()


# --- the application's protocol ---


@pytest.mark.parametrize("size", [1, 100, 16384, 100_000])
async def test_a_buffered_protocol_fills_its_own_buffer(size):
    app = BufferedRecorder(size=size, keep_open=True)
    ours, _ = await secure_pair(server_app=app)
    ours.transport.write(payload(5000))
    ours.transport.write_eof()
    await app.until(lambda: "eof" in app.told)
    assert bytes(app.data) == payload(5000)


async def test_a_buffered_protocol_may_pause_in_the_middle_of_a_record():
    class Sipping(BufferedRecorder):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.transport.pause_reading()

    app = Sipping(size=1000)
    ours, _ = await secure_pair(server_app=app)
    ours.transport.write(payload(5000))
    for sips in range(1, 6):
        assert await app.got(1000 * sips) == payload(5000)[: 1000 * sips]
        await turns(3)
        app.transport.resume_reading()


async def test_the_protocol_can_be_changed_in_the_middle_of_the_data():
    class Greeter(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.set_protocol(successor)

    successor = BufferedRecorder(size=50)
    ours, theirs = await secure_pair(server_app=Greeter())
    assert theirs.transport.get_protocol() is theirs
    ours.transport.write(b"hello")
    ours.transport.write(b"world")
    assert await successor.got(5) == b"world"
    assert bytes(theirs.data) == b"hello"
    assert theirs.transport.get_protocol() is successor
    ours.transport.close()
    assert await successor.lost is None
    assert "eof" not in theirs.told


@pytest.mark.parametrize("callback", ["data_received", "eof_received", "get_buffer", "empty buffer", "pause_writing"])
async def test_an_application_that_fails_loses_its_own_connection_and_the_loop_is_told(callback):
    def fail(*_args):
        raise ZeroDivisionError

    app = BufferedRecorder(size=0) if "buffer" in callback else Recorder()
    if callback != "empty buffer":
        setattr(app, callback, fail)
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    ours, theirs = await secure_pair(server_app=app, pair=await socket_pair())
    if callback == "pause_writing":
        theirs.transport.write(payload(2_000_000))
    elif callback == "eof_received":
        ours.transport.write_eof()
    else:
        ours.transport.write(b"data")
    error = await theirs.lost
    assert isinstance(error, RuntimeError if callback == "empty buffer" else ZeroDivisionError)
    assert [context["exception"] for context in told] == [error]
    assert told[0]["protocol"] is app
    await ours.lost


# --- what is left of a handshake, and of a connection ---


async def test_an_established_connection_keeps_nothing_of_its_handshake():
    """No keys, mechanism, buffers, answers, tasks: what it holds is TLS, the facts, and what was delegated."""
    client, server = await socket_pair()
    sides = client_side(client), server_side(server)
    await both(*sides)
    apps = [Recorder() for _ in sides]
    transports = [side.secure(app) for side, app in zip(sides, apps, strict=True)]
    engines = [(side.carried, side.carried.handshake, side.carried.handshake.mechanism) for side in sides]
    watch = Watch(*itertools.chain(*engines), *(side.answers for side in sides))
    assert len(watch.alive()) == 8
    del sides, engines
    assert watch.alive() == []  # at once, without the garbage collector
    held = [referent for transport in transports for referent in gc.get_referents(transport)]
    kinds = {type(referent).__module__ for referent in held}
    assert not {kind for kind in kinds if kind.startswith(("acredssp.mechanisms", "acredssp.core.client"))}
    for transport in transports:
        connection = transport._connection
        assert (bytes(connection.received), bytes(transport._ciphertext), transport._records) == (b"", b"", [])
        assert (connection._on_made, transport._close_timer) == (None, None)
    assert await closed(*apps) == [None, None]


@pytest.mark.parametrize("ends", ["closed", "aborted", "cut off", "lost before"])
async def test_a_connection_that_is_over_is_freed_without_the_garbage_collector(pair, ends):
    client, server = await pair()
    sides = [client_side(client), server_side(server)]
    await both(*sides)
    if ends == "lost before":
        client.abort()
        server.abort()
        await turns(5)
    apps = [Recorder() for _ in sides]
    transports = [side.secure(app) for side, app in zip(sides, apps, strict=True)]
    if ends == "closed":
        transports[0].close()
    elif ends == "aborted":
        transports[0].abort()
    elif ends == "cut off":
        transports[0]._raw.abort()
    for app in apps:
        await app.lost
    await turns(3)
    gone = [weakref.ref(transport._tls.ssl_object) for transport in transports]
    gc.disable()
    try:
        del client, server, sides, transports, app
        for app in apps:
            app.transport = None
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


# --- facts ---


@pytest.mark.parametrize("version", VERSIONS)
async def test_facts_of_the_connection(version):
    ours, theirs = await secure_pair(version=version, pair=await socket_pair())
    for transport in ours.transport, theirs.transport:
        info = transport.get_extra_info("credssp")
        assert info is transport.info
        assert (info.version, info.mechanism, info.tls_version) == (6, "ntlm", version)
        assert transport.get_extra_info("ssl_object").version() == version
        assert transport.get_extra_info("cipher")[0] == info.cipher
        assert transport.get_extra_info("compression") is None
        assert transport.get_extra_info("socket") is not None
        assert transport.get_extra_info("sslcontext", "none") == "none"
        assert transport.get_extra_info("nothing of the kind", 7) == 7
        assert PASSWORD not in repr(transport)
        assert version in repr(transport)
    assert ours.transport.get_extra_info("peercert") == {}  # as for every connection that ssl did not verify
    await closed(ours, theirs)
    assert "closing" in repr(ours.transport)


async def test_delegated_credentials_are_handed_over_once_to_a_server():
    ours, theirs = await secure_pair()
    assert theirs.transport.take_credentials().password == PASSWORD.encode("utf-16-le")
    assert theirs.transport.take_credentials() is None
    assert ours.transport.take_credentials() is None


async def test_credentials_nobody_took_go_with_the_connection():
    ours, theirs = await secure_pair()
    left = theirs.transport._credentials
    assert left.password == PASSWORD.encode("utf-16-le")
    ours.transport.close()
    await theirs.lost
    assert theirs.transport.take_credentials() is None
    assert left.password == bytes(len(left.password)), "overwritten"


async def test_the_close_timer_does_not_outlive_the_connection():
    ours, theirs = await secure_pair(pair=await socket_pair())
    theirs.transport.pause_reading()
    ours.transport.write(payload(2_000_000))
    ours.transport.close()
    timer = ours.transport._close_timer
    assert timer is not None
    theirs.transport.resume_reading()
    await ours.lost
    assert timer.cancelled()
    await theirs.lost
