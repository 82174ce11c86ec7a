"""A route hook that passes connections on undecrypted."""

import asyncio

import pytest
from support.endpoints import Recorder, client_config, memory_pair, server_config, until

from acredssp.aio.handshake import Handshake
from acredssp.aio.relaying import relay
from acredssp.aio.report import HandshakeOutcome
from acredssp.aio.streams import create_connection, create_server
from acredssp.carriage.rdp import RDP
from acredssp.carriage.routes import Passthrough
from acredssp.errors import HandshakeAborted
from acredssp.wire.preconnection import PreconnectionPDU

HOST = "127.0.0.1"
CLIENT = RDP(routing_token="tsv://MS Terminal Services Plugin.1.Desktops")
BLOB = PreconnectionPDU(id=7, blob="token")


def no_application():
    raise AssertionError("nobody has logged on here")


class Gateway:
    """A server that passes every connection on; the test is its receiver."""

    def __init__(self):
        self.streams, self.reports = [], []

    async def listen(self, **options):
        answer = Passthrough(lambda *streams: self.streams.append(streams), **options)
        carriage = RDP(route=lambda _: answer, allow_preconnection=True)
        self.server = await create_server(
            no_application, HOST, 0, config=server_config(), carriage=carriage, on_handshake=self.reports.append
        )
        self.port = self.server.sockets[0].getsockname()[1]

    async def connect(self, *pieces):
        """Connect and send, piece by piece; give the client's streams, and the streams that the gateway got."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        await until(lambda: self.streams)
        return (reader, writer), self.streams.pop()


@pytest.fixture
async def gateway():
    made = Gateway()
    yield made
    made.server.close()
    made.server.abort_clients()
    await made.server.wait_closed()


def request_of(carriage):
    return carriage.new_request(carriage.request_flags).encode()


async def test_a_client_logs_on_to_the_target_behind(gateway):
    await gateway.listen()
    at_target, apps = [], []
    target = await create_server(
        lambda: apps.append(Recorder()) or apps[-1],
        HOST,
        0,
        config=server_config(),
        carriage=RDP(hybrid_ex=True),
        on_handshake=at_target.append,
    )

    async def pass_on():
        await until(lambda: gateway.streams)
        onward = await asyncio.open_connection(HOST, target.sockets[0].getsockname()[1])
        return await relay(gateway.streams.pop(), onward)

    relaying = asyncio.ensure_future(pass_on())
    transport, app = await create_connection(
        Recorder, HOST, gateway.port, config=client_config(), carriage=RDP(hybrid_ex=True, routing_token="tsv://x")
    )
    transport.write(b"hello")
    await until(lambda: apps)
    assert await apps[0].got(5) == b"hello"
    transport.close()
    assert await app.lost is None
    result = await relaying
    assert result.bytes_up > 1000
    assert result.bytes_down > 1000
    [report] = gateway.reports
    assert (report.outcome, report.error, report.principal) == (HandshakeOutcome.PASSED_ON, None, None)
    assert at_target[0].request == report.request
    assert report.request.routing_token == "tsv://x"
    target.close()
    await target.wait_closed()


@pytest.mark.parametrize("with_preconnection", [False, True])
@pytest.mark.parametrize("cut", ["whole", "bytes"])
async def test_the_receiver_gets_all_that_came_from_the_beginning(gateway, with_preconnection, cut):
    await gateway.listen(preconnection=with_preconnection)
    request = request_of(CLIENT)
    data = BLOB.encode() + request
    pieces = [data] if cut == "whole" else [data[i : i + 1] for i in range(len(data))]
    (_, writer), (reader, _) = await gateway.connect(*pieces)
    writer.write(b"\x16\x03\x01 and so on")
    expected = (BLOB.encode() if with_preconnection else b"") + request + b"\x16\x03\x01 and so on"
    assert await reader.readexactly(len(expected)) == expected
    writer.close()
    assert await reader.read() == b""


async def test_what_comes_while_the_hook_runs_is_passed_on_too(gateway):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def route(_request):
        begun.set()
        await go_on.wait()
        return Passthrough(lambda *streams: gateway.streams.append(streams))

    gateway.server = server = await create_server(
        no_application, HOST, 0, config=server_config(), carriage=RDP(route=route)
    )
    gateway.port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection(HOST, gateway.port)
    writer.write(request_of(CLIENT))
    await begun.wait()
    writer.write(b"early")
    go_on.set()
    await until(lambda: gateway.streams)
    [(reader, _)] = gateway.streams
    assert await reader.readexactly(len(request_of(CLIENT)) + 5) == request_of(CLIENT) + b"early"
    writer.close()


@pytest.mark.parametrize("ends", ["close_clients", "abort_clients"])
async def test_the_server_counts_the_connection_as_its_own(gateway, ends):
    await gateway.listen()
    (reader, writer), _ = await gateway.connect(request_of(CLIENT))
    gateway.server.close()
    closed = asyncio.ensure_future(gateway.server.wait_closed())
    await asyncio.sleep(0)
    assert not closed.done()
    getattr(gateway.server, ends)()
    await closed
    try:
        assert await reader.read() == b""
    except ConnectionResetError:
        assert ends == "abort_clients"
    writer.close()


async def test_a_handshake_of_the_applications_own_connection_passes_nothing_on():
    received, reports = [], []
    client, server = memory_pair()
    client.write(request_of(CLIENT))
    carriage = RDP(route=lambda _: Passthrough(lambda *streams: received.append(streams)))
    with pytest.raises(HandshakeAborted, match="create_server alone"):
        await Handshake(server, server_config(), carriage, on_handshake=reports.append).run()
    [report] = reports
    assert (report.outcome, received) == (HandshakeOutcome.ABORTED, [])
    await until(lambda: client.ended)


@pytest.mark.parametrize(("arguments", "said"), [((None,), "connected"), (("x",), "connected"), ((print, 1), "precon")])
def test_what_cannot_be_is_refused(arguments, said):
    with pytest.raises(TypeError, match=said):
        Passthrough(*arguments)
