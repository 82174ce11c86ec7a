import asyncio
import contextlib
import dataclasses
import gc
import socket
import ssl

import pytest
from support.endpoints import (
    BOB,
    CERTIFICATE,
    KEY,
    PASSWORD,
    PIN,
    MemoryTransport,
    Recorder,
    client_config,
    memory_pair,
    server_config,
    tls_policy,
    turns,
    until,
)

from acredssp.aio import streams
from acredssp.aio.protocol import CredSSPProtocol
from acredssp.aio.report import HandshakeOutcome
from acredssp.aio.streams import (
    create_connection,
    create_server,
    open_connection,
    start_credssp,
    start_credssp_streams,
    start_server,
    take_credentials,
)
from acredssp.carriage.base import TLS
from acredssp.carriage.rdp import RDP
from acredssp.config import ClientConfig
from acredssp.core.context import SecurityContext
from acredssp.credentials import Password
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.errors import (
    AuthenticationError,
    CertificateError,
    HandshakeTimeout,
    PeerClosed,
    RemoteProtocolError,
)
from acredssp.policy import Policy
from acredssp.status import Stage
from acredssp.tls_config import server_context_from_pem
from acredssp.trust import Trust

HOST = "127.0.0.1"


async def echo(reader, writer):
    with contextlib.suppress(ConnectionError):  # a client may go as it likes
        while data := await reader.read(10_000):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def serving():
    servers = []

    async def make(connected=echo, **options):
        host, port = (None, None) if "sock" in options else (HOST, 0)
        server = await start_server(connected, host, port, **{"config": server_config()} | options)
        servers.append(server)
        return server.sockets[0].getsockname()[1]

    yield make
    for server in servers:
        server.close()
        server.abort_clients()
        await server.wait_closed()


# --- clients ---


@pytest.mark.parametrize("carriage", [TLS(), RDP(), RDP(hybrid_ex=True)], ids=["tls", "rdp", "rdp-ex"])
async def test_open_connection_gives_streams(serving, carriage):
    port = await serving(carriage=carriage)
    reader, writer = await open_connection(HOST, port, config=client_config(), carriage=carriage)
    assert (type(reader), type(writer)) == (asyncio.StreamReader, asyncio.StreamWriter)
    assert writer.get_extra_info("credssp").version == 6
    assert 0 < writer.get_extra_info("handshake_seconds") < asyncio.get_running_loop().time()
    assert writer.get_extra_info("credssp").peer_key_sha256 == PIN
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("given", [False, True], ids=["address", "socket"])
async def test_a_small_message_of_either_end_does_not_wait_for_an_acknowledgement(serving, given):
    accepted = asyncio.get_running_loop().create_future()

    async def connected(reader, writer):
        accepted.set_result(writer)

    port = await serving(connected, **({"sock": socket.create_server((HOST, 0))} if given else {}))
    _, writer = await open_connection(HOST, port, config=client_config())
    for end in writer, await accepted:
        assert end.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        end.close()
        await end.wait_closed()


async def test_what_was_delegated_is_taken_from_the_writer_once(serving):
    taken = asyncio.get_running_loop().create_future()

    def connected(reader, writer):
        taken.set_result((take_credentials(writer), take_credentials(writer)))
        writer.close()

    port = await serving(connected)
    _, writer = await open_connection(HOST, port, config=client_config())
    credentials, second = await taken
    assert credentials.as_password() == BOB
    assert second is None
    assert take_credentials(writer) is None
    writer.close()
    await writer.wait_closed()


async def test_credentials_are_taken_from_nothing_else():
    with pytest.raises(TypeError, match="writer: expected StreamWriter, got int"):
        take_credentials(1)
    transport = MemoryTransport()
    transport.closing = True  # so its writer leaves it alone
    with pytest.raises(TypeError, match=r"writer\.transport: expected SecureTransport, got MemoryTransport"):
        take_credentials(asyncio.StreamWriter(transport, None, None, asyncio.get_running_loop()))


@pytest.fixture(params=["TLSv1.2", "TLSv1.3"])
def issuing(request):
    """A server that issues tickets and takes them back, as none of ours does."""
    config = server_config(tls_policy(request.param))
    context = server_context_from_pem(config.policy, CERTIFICATE, KEY)
    context.options &= ~ssl.OP_NO_TICKET
    context.num_tickets = 2
    return dataclasses.replace(config, ssl_context=context)


@pytest.mark.parametrize("resumption", [False, True])
async def test_connections_never_resume_whatever_the_policy(serving, issuing, resumption):
    port = await serving(config=issuing)
    config = client_config(Policy(tls_resumption=resumption))
    for _ in range(2):
        reader, writer = await open_connection(HOST, port, config=config)
        writer.write(b"word")
        assert await reader.readexactly(4) == b"word"
        ssl_object = writer.get_extra_info("ssl_object")
        assert not ssl_object.session_reused
        assert ssl_object.session.has_ticket or not resumption  # there was something to resume
        writer.close()
        await writer.wait_closed()


async def test_half_close_works_through_streams(serving):
    async def answer_at_the_end(reader, writer):
        question = await reader.read()
        writer.write(question.upper())
        writer.close()

    port = await serving(answer_at_the_end)
    reader, writer = await open_connection(HOST, port, config=client_config())
    writer.write(b"question")
    assert writer.can_write_eof()
    writer.write_eof()
    assert await reader.read() == b"QUESTION"
    writer.close()
    await writer.wait_closed()


async def test_streams_keep_no_more_than_their_limit_and_one_read(serving):
    sent = asyncio.Event()

    async def flood(_reader, writer):
        writer.write(bytes(4_000_000))
        sent.set()
        await writer.drain()
        writer.close()

    port = await serving(flood)
    reader, writer = await open_connection(HOST, port, config=client_config(), limit=1000)
    await sent.wait()
    await turns(50)
    assert len(reader._buffer) <= 2 * 1000 + 256 * 1024  # asyncio's own TLS reads as much at a time
    assert await reader.read() == bytes(4_000_000)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("names", "server_name", "target"),
    [
        ({}, "", "TERMSRV/127.0.0.1"),
        ({"server_hostname": "localhost"}, "localhost", "TERMSRV/localhost"),
        ({"spn": "HTTP/web"}, "", "HTTP/web"),
        ({"server_hostname": "localhost", "spn": "HTTP/web"}, "localhost", "HTTP/web"),
    ],
)
async def test_three_names_are_three_values(serving, names, server_name, target):
    asked = []

    def lookup(request):
        asked.append(request)
        return Password(PASSWORD)

    port = await serving(config=server_config(lookup=lookup))
    config = client_config(delegation=DelegationPolicy(allow_fresh_credentials=SPNList.of("*")))
    _, writer = await open_connection(HOST, port, config=config, **names)
    writer.close()
    await writer.wait_closed()
    (request,) = asked
    assert (request.server_name, request.principal.target_name) == (server_name, target)


@pytest.fixture
def trust(tmp_path):
    path = tmp_path / "cert.pem"
    path.write_bytes(CERTIFICATE)
    return Trust.from_file(str(path))


@pytest.mark.parametrize("name", ["localhost", None])
async def test_the_certificate_has_the_name_for_tls(serving, trust, name):
    port = await serving()
    _, writer = await open_connection(HOST, port, config=client_config(trust=trust), server_hostname=name)
    writer.close()
    await writer.wait_closed()


async def test_a_certificate_for_another_name_is_refused(serving, trust):
    port = await serving()
    with pytest.raises(CertificateError, match=r"other\.example"):
        await open_connection(HOST, port, config=client_config(trust=trust), server_hostname="other.example")


async def test_somebody_in_between_with_a_certificate_of_their_own_is_refused(serving):
    port = await serving()
    with pytest.raises(CertificateError):
        await open_connection(HOST, port, config=client_config(trust=Trust.pinned("ab" * 32)))


async def test_wrong_password_is_raised_from_open_connection(serving):
    port = await serving()
    config = client_config(authenticate=Password("wrong", "bob"))
    with pytest.raises(AuthenticationError) as caught:
        await open_connection(HOST, port, config=config)
    assert caught.value.nt_status.name == "STATUS_LOGON_FAILURE"


async def test_no_server_is_an_oserror_as_everywhere():
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        with pytest.raises(ConnectionRefusedError):
            await open_connection(HOST, unused.getsockname()[1], config=client_config())


@pytest.mark.parametrize(("host", "where"), [("host.example", "host.example:3389"), ("::1", r"\[::1\]:3389")])
async def test_a_server_that_takes_no_connection_in_time_is_named(monkeypatch, host, where):
    over = []

    class Never(CredSSPProtocol):
        def __init__(self):
            super().__init__()
            self.loop = self

        async def create_connection(self, *_arguments, **_options):
            try:
                await asyncio.Event().wait()
            finally:
                over.append(True)

    monkeypatch.setattr(streams, "CredSSPProtocol", Never)
    with pytest.raises(TimeoutError, match=f"^{where} does not answer within 0.01 seconds$"):
        await open_connection(host, 3389, config=client_config(), connect_timeout=0.01)
    assert over == [True]


async def test_a_time_for_connecting_is_none_of_the_handshakes():
    with socket.create_server((HOST, 0)) as silent, pytest.raises(HandshakeTimeout):
        await open_connection(
            HOST, silent.getsockname()[1], config=client_config(), handshake_timeout=0.1, connect_timeout=60
        )


async def test_a_socket_of_the_caller_needs_a_name(serving):
    port = await serving()
    loop = asyncio.get_running_loop()
    connected = socket.socket()
    connected.setblocking(False)
    await loop.sock_connect(connected, (HOST, port))
    with pytest.raises(ValueError, match="server_hostname"):
        await open_connection(sock=connected, config=client_config())
    transport, app = await create_connection(
        Recorder, sock=connected, config=client_config(), server_hostname="localhost"
    )
    transport.close()
    assert await app.lost is None


async def test_the_deadline_can_be_given_or_is_the_policys():
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(HandshakeTimeout):
            await open_connection(HOST, port, config=client_config(), handshake_timeout=0.02)
        with pytest.raises(HandshakeTimeout):
            await open_connection(HOST, port, config=client_config(Policy(handshake_timeout=0.02)))


@pytest.mark.parametrize("fault", ["factory", "connection_made"])
async def test_an_application_that_cannot_be_made_leaves_no_connection(serving, fault):
    class App(Recorder):
        def __init__(self):
            if fault == "factory":
                raise ZeroDivisionError
            super().__init__()

        def connection_made(self, transport):
            raise ZeroDivisionError

    gone = asyncio.Event()

    async def connected(reader, _writer):
        try:
            await reader.read()
        except ConnectionError:
            gone.set()

    port = await serving(connected)
    with pytest.raises(ZeroDivisionError):
        await create_connection(App, HOST, port, config=client_config())
    await gone.wait()


async def test_cancelling_a_connect_at_any_turn_leaves_nothing(serving):
    port = await serving()
    for turn in range(1, 100):
        connecting = asyncio.ensure_future(open_connection(HOST, port, config=client_config()))
        await turns(turn)
        if connecting.done():
            _, writer = await connecting
            writer.close()
            await writer.wait_closed()
            break
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
    assert 3 < turn < 99


async def test_one_configuration_serves_many_connections_at_once(serving):
    port = await serving()
    config = client_config()
    connected = await asyncio.gather(*(open_connection(HOST, port, config=config) for _ in range(10)))
    for number, (_, writer) in enumerate(connected):
        writer.write(b"%d" % number)
    for number, (reader, writer) in enumerate(connected):
        assert await reader.readexactly(1) == b"%d" % number
        writer.close()
        await writer.wait_closed()


# --- connections that are already there ---


class Upgraded(Recorder):
    """Speaks a clear protocol first, and can be upgraded."""


async def clear_connection():
    loop = asyncio.get_running_loop()
    ends = socket.socketpair()
    return [await loop.connect_accepted_socket(Recorder, end) for end in ends]


async def test_both_ends_of_a_clear_connection_can_be_upgraded():
    (ours, our_app), (theirs, their_app) = await clear_connection()
    ours.write(b"STARTCREDSSP")
    assert await their_app.got(12) == b"STARTCREDSSP"
    client, server = await asyncio.gather(
        start_credssp(ours, our_app, client_config(), server_hostname="localhost"),
        start_credssp(theirs, their_app, server_config()),
    )
    assert server.take_credentials().kind == "password"
    client.write(b" hello")
    server.write(b"hello")
    assert await their_app.got(18) == b"STARTCREDSSP hello"
    assert await our_app.got(5) == b"hello"
    assert our_app.told.count("made") == 1
    client.close()
    assert await our_app.lost is None
    assert await their_app.lost is None


async def test_a_handshake_on_a_connection_that_is_there_is_reported_with_its_peer_and_session():
    asked, reports = [], []

    def lookup(request):
        asked.append((request.peer_address, request.session))
        return Password(PASSWORD)

    (ours, our_app), (theirs, their_app) = await clear_connection()
    told = {"on_handshake": reports.append, "peer_address": ("203.0.113.9", 4711), "session": "leg 7"}
    client, server = await asyncio.gather(
        start_credssp(ours, our_app, client_config(), server_hostname="localhost", on_handshake=reports.append),
        start_credssp(theirs, their_app, server_config(lookup=lookup), **told),
    )
    assert asked == [(("203.0.113.9", 4711), "leg 7")]
    assert server.get_extra_info("session") == "leg 7"
    mine, its = sorted(reports, key=lambda report: report.session is not None)
    assert (mine.outcome, its.outcome) == (HandshakeOutcome.SUCCESS, HandshakeOutcome.SUCCESS)
    assert (its.peer_address, its.session, its.principal.user) == (("203.0.113.9", 4711), "leg 7", "bob")
    client.close()
    await our_app.lost
    await their_app.lost


@pytest.mark.parametrize("how", ["leaves", "cancelled"])
async def test_a_handshake_over_streams_that_fails_is_reported_once(how):
    server_end, client_end = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=server_end)
    _, peer = await asyncio.open_connection(sock=client_end)
    reports = []
    upgrade = start_credssp_streams(
        reader, writer, server_config(), on_handshake=reports.append, peer_address=("203.0.113.9", 4711)
    )
    task = asyncio.ensure_future(upgrade)
    await turns(3)
    if how == "leaves":
        peer.close()
    else:
        task.cancel()
    with pytest.raises(PeerClosed if how == "leaves" else asyncio.CancelledError):
        await task
    (report,) = reports
    assert report.peer_address == ("203.0.113.9", 4711)
    expected = HandshakeOutcome.NO_DATA if how == "leaves" else HandshakeOutcome.ABORTED
    assert report.outcome is expected
    peer.close()


@pytest.mark.parametrize("size", [1, 5, 100, 100_000])
async def test_bytes_that_were_read_before_belong_to_the_handshake(size):
    (ours, our_app), (theirs, their_app) = await clear_connection()
    upgrading = asyncio.ensure_future(start_credssp(ours, our_app, client_config(), server_hostname="localhost"))
    hello = await their_app.got(min(size, 200))
    theirs.pause_reading()  # as a server does that has read too much: start_credssp resumes
    await turns(3)
    server = await start_credssp(theirs, their_app, server_config(), initial_data=bytes(their_app.data))
    assert hello[0] == 22
    client = await upgrading
    their_app.data.clear()
    client.write(b"hello")
    assert await their_app.got(5) == b"hello"
    server.close()
    await our_app.lost
    await their_app.lost


async def test_a_failed_upgrade_closes_the_connection_and_the_clear_protocol_hears_nothing():
    (ours, our_app), (theirs, their_app) = await clear_connection()
    upgrading = asyncio.ensure_future(start_credssp(theirs, their_app, server_config()))
    await turns()
    ours.write(b"this is no tls")
    with pytest.raises(RemoteProtocolError):
        await upgrading
    assert theirs.is_closing()
    assert their_app.told == ["made"]
    await our_app.lost


async def test_a_connection_that_is_gone_cannot_be_upgraded():
    (ours, our_app), (_, their_app) = await clear_connection()
    ours.close()
    with pytest.raises(PeerClosed) as caught:
        await start_credssp(ours, our_app, client_config(), server_hostname="localhost")
    assert caught.value.stage is Stage.CONNECT
    await our_app.lost
    await their_app.lost


async def test_an_upgrading_client_needs_a_name():
    (ours, our_app), (_, their_app) = await clear_connection()
    with pytest.raises(ValueError, match="server_hostname"):
        await start_credssp(ours, our_app, client_config())
    assert ours.get_protocol() is our_app
    ours.close()
    await our_app.lost
    await their_app.lost


async def test_an_application_that_was_paused_before_the_upgrade_is_resumed_after_it():
    client, server = memory_pair()
    raw, app = client.transport, Recorder()
    raw.set_protocol(app)
    app.pause_writing()  # the transport was full of clear data
    upgrading = asyncio.ensure_future(start_credssp(raw, app, client_config(), server_hostname="localhost"))
    await turns(2)
    raw.protocol.resume_writing()
    other = Recorder()
    hello = bytes(server.received)
    secure = await start_credssp(server.transport, other, server_config(), initial_data=hello)
    await upgrading
    assert app.told == ["pause", "resume"]
    secure.abort()
    await app.lost


async def test_streams_can_be_upgraded_with_what_they_read_ahead():
    done = []

    async def serve(reader, writer):
        assert await reader.readline() == b"STARTCREDSSP\r\n"
        ahead = reader._buffer
        await until(lambda: len(ahead) >= 100)  # the client did not wait: its ClientHello is in the reader
        secure_reader, secure_writer = await start_credssp_streams(reader, writer, server_config())
        del reader, writer
        gc.collect()  # an old writer that dies closes its transport
        secure_writer.write((await secure_reader.readline()).upper())
        await secure_writer.drain()
        secure_writer.close()
        await secure_writer.wait_closed()
        done.append(True)

    async with await asyncio.start_server(serve, HOST, 0) as server:
        reader, writer = await asyncio.open_connection(HOST, server.sockets[0].getsockname()[1])
        writer.write(b"STARTCREDSSP\r\n")
        reader, writer = await start_credssp_streams(reader, writer, client_config(), server_hostname="localhost")
        gc.collect()
        writer.write(b"hello\n")
        assert await reader.read() == b"HELLO\n"
        writer.close()
        await writer.wait_closed()
        await until(lambda: done)


async def test_streams_can_be_upgraded_with_what_was_read_of_them_before():
    server_end, client_end = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=server_end)
    clear = await asyncio.open_connection(sock=client_end)
    client = asyncio.ensure_future(start_credssp_streams(*clear, client_config(), server_hostname="localhost"))
    first = await reader.readexactly(1)
    assert first == b"\x16"  # a record of TLS: the client logs on
    _, secure = await start_credssp_streams(reader, writer, server_config(), initial_data=first)
    client_reader, client_writer = await client
    secure.write(b"hello\n")
    assert await client_reader.readline() == b"hello\n"
    for each in (client_writer, secure):
        each.close()
        await each.wait_closed()


async def test_streams_whose_peer_has_gone_fail_at_once():
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    theirs.close()
    assert await reader.read() == b""
    with pytest.raises(PeerClosed):
        await start_credssp_streams(reader, writer, server_config())
    assert writer.transport.is_closing()


async def test_streams_whose_connection_broke_fail_as_a_peer_that_left():
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    broken = ConnectionResetError("gone")
    writer.transport.get_protocol().connection_lost(broken)
    with pytest.raises(PeerClosed) as caught:
        await start_credssp_streams(reader, writer, server_config())
    assert caught.value.__cause__ is broken
    assert writer.transport.is_closing()
    theirs.close()


async def test_the_deadline_holds_for_streams_whose_peer_takes_nothing():
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(bytes(16 * 1024 * 1024))
    with pytest.raises(HandshakeTimeout):
        await asyncio.wait_for(start_credssp_streams(reader, writer, server_config(), handshake_timeout=0.05), 5)
    assert writer.transport.is_closing()
    theirs.close()


async def test_a_server_of_one_carriage_refuses_a_client_of_another(serving):
    port = await serving(carriage=RDP())
    with pytest.raises((PeerClosed, RemoteProtocolError)):
        await open_connection(HOST, port, config=client_config(), carriage=TLS())


async def test_create_server_gives_each_client_a_protocol():
    apps = []

    def factory():
        apps.append(Recorder())
        return apps[-1]

    async with await create_server(factory, HOST, 0, config=server_config()) as server:
        port = server.sockets[0].getsockname()[1]
        transport, app = await create_connection(Recorder, HOST, port, config=client_config())
        transport.write(b"x")
        await until(lambda: apps)
        await apps[0].got(1)
        transport.close()
        await app.lost
        await apps[0].lost


def test_a_configuration_belongs_to_no_loop():
    config = ClientConfig(authenticate=Password("x", "bob"), trust=Trust.pinned(PIN))
    context = config.new_context(server_hostname="localhost", spn="TERMSRV/localhost")
    assert isinstance(context, SecurityContext)
    with pytest.raises(RuntimeError):
        CredSSPProtocol()


async def test_an_rdp_server_behind_us_sees_what_was_negotiated_in_clear():
    accepted = asyncio.get_running_loop().create_future()

    async def connected(_reader, writer):
        accepted.set_result((writer.get_extra_info("rdp_request"), writer.get_extra_info("rdp_confirm")))
        writer.close()

    server = await start_server(connected, "127.0.0.1", 0, config=server_config(), carriage=RDP())
    async with server:
        port = server.sockets[0].getsockname()[1]
        carriage = RDP(cookie="bob")
        _, writer = await open_connection(
            "127.0.0.1", port, config=client_config(), carriage=carriage, server_hostname="localhost"
        )
        request, confirm = await accepted
        assert request == writer.get_extra_info("rdp_request")
        assert request.cookie == "bob"
        assert confirm.selected_protocol == writer.get_extra_info("rdp_confirm").selected_protocol
        writer.close()
        await writer.wait_closed()


async def test_streams_whose_peer_said_something_and_went_fail_at_once():
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    _, peer = await asyncio.open_connection(sock=theirs)
    peer.write(b"\x16\x03\x01")
    peer.close()
    await until(lambda: reader._eof)
    with pytest.raises(PeerClosed):
        await start_credssp_streams(reader, writer, server_config())


async def test_a_peer_that_sent_very_much_before_the_handshake_gets_the_usual_failure():
    client, server = memory_pair()
    junk = b"\x16\x03\x01\xff\xff" + bytes(100_000)
    with pytest.raises(RemoteProtocolError):
        await start_credssp(server.transport, Recorder(), server_config(), initial_data=junk)
    client.transport.close()
