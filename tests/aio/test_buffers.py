import asyncio

from support.endpoints import memory_pair, secure_pair

from acredssp.aio.buffers import shared_buffers
from acredssp.aio.protocol import CredSSPProtocol


def pending(buffers):
    return buffers.bios.incoming.pending, buffers.bios.outgoing.pending


async def test_all_connections_of_a_loop_share_their_buffers_and_leave_nothing_there():
    bios = shared_buffers().bios
    pairs = [await secure_pair(pair=memory_pair([7, 300, 50_000])) for _ in range(3)]
    for app in (app for pair in pairs for app in pair):
        tls = app.transport._tls
        assert (tls._incoming, tls._outgoing) == (bios.incoming, bios.outgoing)
        app.transport.write(bytes(100_000))
        assert pending(shared_buffers()) == (0, 0)
    for app in (app for pair in pairs for app in pair):
        await app.got(100_000)
        assert pending(shared_buffers()) == (0, 0)


async def test_a_connection_reads_little_before_its_handshake_is_over_and_much_afterwards():
    protocol = CredSSPProtocol()
    before = len(protocol.get_buffer(-1))
    app, _ = await secure_pair()
    after = app.transport._connection.get_buffer(-1)
    assert before == 64 * 1024 < len(after)
    assert after.obj is shared_buffers().read.obj is protocol.get_buffer(-1).obj


async def test_another_loop_has_buffers_of_its_own():
    async def theirs():
        return shared_buffers()

    other, ours = await asyncio.to_thread(lambda: asyncio.run(theirs())), shared_buffers()
    assert other.bios is not ours.bios
    assert other.read.obj is not ours.read.obj
    assert shared_buffers() is ours
