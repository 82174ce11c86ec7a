"""A peer that has TLS answer again and again, and reads no answer: it has to wait, and the memory stays small."""

import asyncio
import contextlib
import gc
import socket

import pytest
from support.endpoints import (
    CERTIFICATE,
    KEY,
    BufferedRecorder,
    Recorder,
    memory_pair,
    secure_pair,
    server_config,
    turns,
    until,
)
from support.gateway import ALICE, MCS, Target, World, settings_of
from support.openssl import channel

from acredssp import start_server
from acredssp.aio import transport as transport_module
from acredssp.aio.buffers import Borrower
from acredssp.aio.transport import SecureTransport

SMALL = 8192
"""Bytes of the buffers of the kernel, so that they are soon full."""
BATCH = 1000
MOST_BATCHES = 10
"""As many as are far more than the buffers of both kernels and our own."""
BOUND = 512 * 1024
"""Bytes: a full write buffer, one read's worth of answers, and as many as do not count."""


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport):
        self.transport, self._buffer = transport, bytearray(100)

    def get_buffer(self, sizehint):
        return self._buffer

    def buffer_updated(self, nbytes):
        self.transport.write(bytes(self._buffer[:nbytes]))


def small(end):
    """Give a socket small buffers in the kernel."""
    for which in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        end.setsockopt(socket.SOL_SOCKET, which, SMALL)
    end.setblocking(False)
    return end


@contextlib.asynccontextmanager
async def connected(address):
    loop = asyncio.get_running_loop()
    with channel(small(socket.socket())) as peer:
        await loop.sock_connect(peer.socket, address)
        yield peer


async def flood(peer, transport):
    """Send key updates without reading anything, until the server takes no more.

    Returns:
        The most bytes that waited to be sent by the server, and the task that goes on sending.
    """
    most = 0

    async def send():
        for _ in range(MOST_BATCHES):
            await peer.send(peer.peer.key_updates(BATCH))

    sending = asyncio.create_task(send())
    while not sending.done() and not transport._waits_for_peer:
        most = max(most, transport.get_write_buffer_size())
        await asyncio.sleep(0)
    await turns(50)
    return max(most, transport.get_write_buffer_size()), sending


async def end_of_flood(peer, sending):
    """Read all answers, so that the rest of the flood is taken; then have a word come back.

    One task reads all of the bytes. The loop loses what it has read for a task that is cancelled.
    """
    word = b"still there"
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(peer.read(len(word)))
        await sending
        await peer.send(peer.peer.seal(word))
    assert reading.result() == word


@pytest.mark.requirement("defect.never-reads")
@pytest.mark.parametrize("kind", [Echo, BufferedEcho])
async def test_a_peer_that_reads_no_answer_to_its_key_updates_has_to_wait(kind):
    """The peer is OpenSSL's own client."""
    transports, writers = [], []
    listener = small(socket.create_server(("127.0.0.1", 0)))

    def connect(reader, writer):
        transport, app = writer.transport, kind()
        app.connection_made(transport)
        transport.set_protocol(app)
        transports.append(transport)
        writers.append(writer)  # asyncio closes the transport of a writer that is freed

    server = await start_server(connect, sock=listener, config=server_config())
    async with connected(listener.getsockname()) as peer:
        await peer.log_on()
        await until(lambda: transports)
        most, sending = await flood(peer, transports[0])
        assert not sending.done(), "the server has taken all of it"
        assert most < BOUND
        await end_of_flood(peer, sending)
    server.close()
    server.abort_clients()
    await server.wait_closed()


@pytest.mark.requirement("defect.never-reads")
async def test_a_peer_of_a_gateway_that_reads_no_answer_has_to_wait(tmp_path):
    target, world = await Target().start(), World(tmp_path)
    await world.write("CONTOSO:alice:wonderland\n", "users")
    await world.write(CERTIFICATE.decode(), "gateway.pem")
    await world.write(KEY.decode(), "gateway.key")
    await world.write(settings_of({"desktops": ([target.address], "")}))
    async with world.running(), connected(world.address) as peer:
        await peer.log_on(ALICE, rdp=True)
        await peer.send(peer.peer.seal(MCS))
        first = await peer.read(1)
        transport = next(
            each
            for each in gc.get_objects()
            if isinstance(each, SecureTransport)
            and not each.is_closing()  # another test's, which has no socket any more
            and each.get_extra_info("peername") == peer.socket.getsockname()
            and isinstance(each.get_protocol(), Borrower)
        )
        for which in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, which, SMALL)
        await peer.send(peer.peer.seal(b"mark"))
        while not first.endswith(b"mark"):
            first = await peer.read(len(first) + 1, first)
        most, sending = await flood(peer, transport)
        assert not sending.done(), "the gateway has taken all of it"
        assert most < BOUND
        await end_of_flood(peer, sending)
    await target.stop()
    await world.gateway.stop()


# --- in memory, where every step is the test's ---


async def answered(size, app=Recorder):
    """A server whose write buffer is full, and to whose buffer TLS adds so many bytes of answers."""
    pair = memory_pair()
    ours, theirs = await secure_pair(server_app=app(), pair=pair)
    transport = theirs.transport
    transport._connection.pause_writing()
    transport._tls._output = bytes(size)
    transport._look_further()
    return ours, theirs, transport


@pytest.mark.parametrize("app", [Recorder, BufferedRecorder])
@pytest.mark.parametrize(
    ("size", "waits"), [(transport_module._MOST_ANSWERS, False), (transport_module._MOST_ANSWERS + 1, True)]
)
async def test_reading_goes_on_up_to_so_many_answers_and_again_once_they_are_read(size, waits, app):
    ours, theirs, transport = await answered(size, app)
    assert transport._raw.paused is waits
    ours.transport._connection.give_to(None)  # the answers are no records
    ours.transport.write(b"data")
    await turns(20)
    assert bytes(theirs.data) == (b"" if waits else b"data")
    transport._connection.resume_writing()
    assert await theirs.got(4) == b"data"
    assert not transport._raw.paused
    assert transport.is_reading()


async def test_answers_do_not_count_while_the_write_buffer_has_room():
    ours, theirs = await secure_pair(pair=memory_pair())
    transport = theirs.transport
    transport._tls._output = bytes(10 * transport_module._MOST_ANSWERS)
    transport._look_further()
    assert not transport._raw.paused
    ours.transport.abort()


async def test_an_application_that_pauses_and_resumes_does_not_make_the_peer_read_less():
    ours, _, transport = await answered(transport_module._MOST_ANSWERS + 1)
    transport.pause_reading()
    transport.resume_reading()
    await turns(5)
    assert transport._raw.paused
    transport.pause_reading()
    transport._connection.resume_writing()
    await turns(5)
    assert transport._raw.paused, "now for the application"
    transport.resume_reading()
    await turns(5)
    assert not transport._raw.paused
    ours.transport.abort()


async def test_a_peer_that_has_to_wait_and_is_gone_is_told_as_ever():
    _, theirs, transport = await answered(transport_module._MOST_ANSWERS + 1)
    transport._raw.reset()
    assert isinstance(await theirs.lost, ConnectionResetError)
