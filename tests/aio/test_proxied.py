"""Connections through a load balancer: the PROXY header says whose they are, to limits, hooks and reports."""

import asyncio
import contextlib
import dataclasses
import ipaddress
import socket

import pytest
from support.endpoints import PASSWORD, Recorder, client_config, server_config, until

from acredssp.aio.failures import FailureLimit
from acredssp.aio.pacing import Pacing
from acredssp.aio.proxied import LoadBalancers, address_of_client
from acredssp.aio.report import HandshakeOutcome
from acredssp.aio.streams import create_connection, create_server, open_connection, start_server
from acredssp.carriage.base import TLS
from acredssp.carriage.rdp import RDP
from acredssp.credentials import Deny, Password
from acredssp.errors import CredSSPError, HandshakeTimeout, LimitExceeded, PeerClosed, RemoteProtocolError
from acredssp.status import Stage
from acredssp.wire.proxy_header import ProxyCommand, ProxyEndpoint, ProxyFamily, ProxyHeader
from acredssp.wire.x224 import ConnectionRequest, Protocols

HOST = "127.0.0.1"
BALANCER = [HOST]
FRONT = ProxyEndpoint(ipaddress.ip_address("203.0.113.1"), 3389)


def header(address="192.0.2.7", port=50123, version=2, **more):
    """What a load balancer sends for a client."""
    host = ipaddress.ip_address(address)
    front = FRONT if host.version == 4 else ProxyEndpoint(ipaddress.ip_address("2001:db8::1"), 3389)
    family = ProxyFamily.TCP4 if host.version == 4 else ProxyFamily.TCP6
    return ProxyHeader(
        version=version, family=family, source=ProxyEndpoint(host, port), destination=front, **more
    ).encode()


LOCAL = ProxyHeader(command=ProxyCommand.LOCAL).encode()
UNKNOWN = b"PROXY UNKNOWN\r\n"


class Lab:
    def __init__(self, server, apps, reports):
        self.server, self.apps, self.reports = server, apps, reports
        self.writers = []
        self.port = server.sockets[0].getsockname()[1]

    async def raw(self, data=b""):
        reader, writer = await asyncio.open_connection(HOST, self.port)
        self.writers.append(writer)
        writer.write(data)
        return reader, writer

    async def end(self):
        for writer in self.writers:
            writer.close()
        self.server.close()
        self.server.abort_clients()
        await self.server.wait_closed()
        for writer in self.writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def connect(self, first=b"", *, carriage=TLS(), config=None):  # noqa: B008
        """Log on behind a header; returns the transport."""
        sock = socket.socket()
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (HOST, self.port))
        await loop.sock_sendall(sock, first)
        transport, _ = await create_connection(
            Recorder,
            sock=sock,
            server_hostname="localhost",
            config=config or client_config(),
            carriage=carriage,
        )
        return transport

    async def reported(self, count):
        await until(lambda: len(self.reports) >= count)
        return self.reports


@pytest.fixture
async def lab():
    labs = []

    async def make(config=None, **options):
        apps, reports = [], []

        def factory():
            apps.append(Recorder())
            return apps[-1]

        server = await create_server(
            factory,
            HOST,
            0,
            config=config or server_config(),
            on_handshake=reports.append,
            **{"proxy_protocol": BALANCER} | options,
        )
        labs.append(Lab(server, apps, reports))
        return labs[-1]

    yield make
    for each in labs:
        await each.end()


CLIENTS = {
    "version 1": (header(version=1), ("192.0.2.7", 50123)),
    "version 1, ipv6": (header("2001:db8::7", version=1), ("2001:db8::7", 50123, 0, 0)),
    "version 2": (header(), ("192.0.2.7", 50123)),
    "version 2, ipv6": (header("2001:db8::7"), ("2001:db8::7", 50123, 0, 0)),
    "version 2, with more": (
        header(tlvs=((2, b"gw.example"), (5, b"id")), checksum=True),
        ("192.0.2.7", 50123),
    ),
    "unix": (ProxyHeader(family=ProxyFamily.UNIX_STREAM, source=b"/run/c", destination=b"").encode(), "/run/c"),
}


@pytest.mark.parametrize("carriage", [TLS(), RDP(), RDP(hybrid_ex=True)], ids=["tls", "rdp", "rdp-ex"])
@pytest.mark.parametrize(("first", "address"), CLIENTS.values(), ids=CLIENTS)
@pytest.mark.requirement("proxied.address")
async def test_everybody_sees_the_clients_address(lab, first, address, carriage):
    seen = {}

    def note(name, answer):
        def hook(asked):
            seen[name] = asked if name == "accept" else asked.peer_address
            return answer

        return hook

    config = server_config(
        lookup=note("lookup", Password(PASSWORD)), authorize=note("authorize", True), admit=note("admit", True)
    )
    lab = await lab(config, accept=note("accept", "session"), carriage=carriage)
    transport = await lab.connect(first, carriage=carriage)
    [report] = await lab.reported(1)
    assert (report.outcome, report.peer_address, report.session) == (HandshakeOutcome.SUCCESS, address, "session")
    assert report.proxy_header == ProxyHeader.decode(first)
    assert seen == dict.fromkeys(("accept", "lookup", "authorize", "admit"), address)
    await until(lambda: lab.apps)
    server_side = lab.apps[0].transport
    assert server_side.get_extra_info("peername") == address
    assert server_side.get_extra_info("proxy_header") == ProxyHeader.decode(first)
    assert server_side.get_extra_info("sockname") == (HOST, lab.port)
    transport.write(b"hello")
    await until(lambda: lab.apps[0].data == b"hello")
    transport.close()


@pytest.mark.parametrize("first", [LOCAL, UNKNOWN, ProxyHeader().encode()], ids=["local", "unknown", "unspec"])
@pytest.mark.requirement("proxied.address")
async def test_where_the_header_tells_no_client_the_real_address_holds(lab, first):
    lab = await lab()
    transport = await lab.connect(first)
    [report] = await lab.reported(1)
    assert (report.outcome, report.peer_address[0]) == (HandshakeOutcome.SUCCESS, HOST)
    assert report.proxy_header == ProxyHeader.decode(first)
    assert lab.apps[0].transport.get_extra_info("peername") == report.peer_address
    transport.close()


async def test_a_health_check_ends_quietly_and_is_told_apart(lab):
    lab = await lab()
    _, writer = await lab.raw(LOCAL)
    writer.close()
    [report] = await lab.reported(1)
    assert (report.outcome, report.proxy_header.command) == (HandshakeOutcome.NO_DATA, ProxyCommand.LOCAL)


async def test_start_server_takes_headers_too():
    served = asyncio.get_running_loop().create_future()

    async def serve(_reader, writer):
        served.set_result(writer.get_extra_info("peername"))
        writer.close()

    server = await start_server(serve, HOST, 0, config=server_config(), proxy_protocol=BALANCER)
    port = server.sockets[0].getsockname()[1]
    lab = Lab(server, [], [])
    transport = await lab.connect(header(), carriage=TLS())
    assert await served == ("192.0.2.7", 50123)
    assert lab.port == port
    transport.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("first", [header(), header(version=1), header("2001:db8::7", checksum=True)])
async def test_a_header_may_come_in_any_pieces_and_nothing_behind_it_is_lost(lab, first):
    lab = await lab(carriage=RDP())
    reader, writer = await lab.raw()
    request = ConnectionRequest(requested_protocols=Protocols.HYBRID).encode()
    for byte in first:
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    writer.write(request)
    assert (await reader.readexactly(19))[5] == 0xD0
    writer.close()
    [report] = await lab.reported(1)
    assert (report.outcome, report.peer_address[1]) == (HandshakeOutcome.LEFT, 50123)


# -- what is refused


NO_HEADERS = {
    "tls": (b"\x16\x03\x01\0\x05hello", "expected a PROXY header, got a TLS handshake"),
    "rdp": (b"\x03\0\0\x13\x0e\xe0", "expected a PROXY header, got RDP's negotiation"),
    "http": (b"GET / HTTP/1.1\r\n", "expected a PROXY header, got an HTTP request"),
    "a long line": (b"PROXY UNKNOWN " + b"x" * 200, "at most 107 bytes"),
    "a long header": (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", "at most 2048 bytes"),
    "a port with a sign": (b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", "the source port"),
    "a wrong checksum": (header(checksum=True)[:-1] + b"\0", "expected CRC32C"),
}


@pytest.mark.parametrize(("data", "text"), NO_HEADERS.values(), ids=NO_HEADERS)
@pytest.mark.requirement("proxied.senders")
async def test_a_load_balancer_that_sends_no_header_is_refused_by_name(lab, data, text):
    lab = await lab(accept=lambda _: pytest.fail("nobody knows whose connection this is"))
    reader, _ = await lab.raw(data)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    [report] = await lab.reported(1)
    assert isinstance(report.error, RemoteProtocolError)
    assert (report.outcome, report.peer_address[0]) == (HandshakeOutcome.FAILED, HOST)
    assert text in report.error.message
    assert report.proxy_header is None
    assert len(lab.server._without_header) == len(lab.server._places) == 0


@pytest.mark.parametrize("carriage", [TLS(), RDP()], ids=["tls", "rdp"])
@pytest.mark.parametrize("first", [header(), header(version=1), LOCAL])
@pytest.mark.parametrize("networks", [[], ["192.0.2.0/24", "::1"]], ids=["none", "others"])
@pytest.mark.requirement("proxied.senders")
async def test_a_header_from_elsewhere_is_refused(lab, networks, first, carriage):
    lab = await lab(proxy_protocol=networks, carriage=carriage)
    with pytest.raises((CredSSPError, ConnectionError)):
        await lab.connect(first, carriage=carriage)
    [report] = await lab.reported(1)
    assert (report.outcome, report.peer_address[0]) == (HandshakeOutcome.FAILED, HOST)
    assert "got a PROXY header" in report.error.message
    assert "--proxy-protocol" in report.error.hint


async def test_without_a_header_nobody_logs_on_from_a_load_balancer(lab):
    lab = await lab()
    with pytest.raises((CredSSPError, ConnectionError)):
        await lab.connect()
    assert lab.apps == []


@pytest.mark.parametrize(("part", "outcome"), [(b"", HandshakeOutcome.NO_DATA), (header()[:20], HandshakeOutcome.LEFT)])
@pytest.mark.parametrize("end", ["close", "write_eof", "abort"])
async def test_a_load_balancer_that_leaves_before_its_header_is_whole(lab, part, outcome, end):
    lab = await lab()
    _, writer = await lab.raw(part)
    if part:
        await until(lambda: any(protocol.received == part for protocol in lab.server._connections))
    if end == "abort":
        writer.transport.abort()
    else:
        getattr(writer, end)()
    [report] = await lab.reported(1)
    assert isinstance(report.error, PeerClosed)
    assert (report.outcome, report.error.stage) == (outcome, Stage.CONNECT)
    writer.close()


@pytest.mark.parametrize("part", [b"", b"PROXY TCP4 ", header()[:-1]])
@pytest.mark.requirement("proxied.bounded")
async def test_a_header_that_does_not_come_ends_with_the_handshakes_time(lab, part):
    lab = await lab(handshake_timeout=0.05)
    reader, _ = await lab.raw(part)
    assert await reader.read() == b""
    [report] = await lab.reported(1)
    assert isinstance(report.error, HandshakeTimeout)
    assert report.outcome is HandshakeOutcome.TIMEOUT
    assert "no whole PROXY header" in report.error.message


@pytest.mark.parametrize("end", ["close_clients", "abort_clients"])
async def test_the_servers_end_ends_the_waiting_for_a_header(lab, end):
    lab = await lab()
    reader, _ = await lab.raw(b"PROXY ")
    await until(lambda: len(lab.server._without_header) == 1)
    getattr(lab.server, end)()
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    [report] = await lab.reported(1)
    assert report.outcome is HandshakeOutcome.ABORTED
    assert len(lab.server._without_header) == 0


async def test_a_hook_that_turns_the_client_away_knows_its_address(lab):
    lab = await lab(accept=lambda address: Deny() if address[0] == "192.0.2.7" else "welcome")
    with pytest.raises((CredSSPError, ConnectionError)):
        await lab.connect(header())
    transport = await lab.connect(header("192.0.2.8"))
    first, second = await lab.reported(2)
    assert (first.hook, first.peer_address) == ("accept", ("192.0.2.7", 50123))
    assert (second.outcome, second.session) == (HandshakeOutcome.SUCCESS, "welcome")
    transport.close()


@pytest.mark.parametrize("early", [b"", b"\x16\x03\x01"])
@pytest.mark.parametrize("end", ["close", "write_eof"])
async def test_a_client_that_leaves_while_accept_is_asked_frees_its_place(lab, end, early):
    asked, ended = asyncio.Event(), []

    async def accept(_address):
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    lab = await lab(accept=accept)
    _, writer = await lab.raw(header() + early)
    await asked.wait()
    getattr(writer, end)()
    [report] = await lab.reported(1)
    assert ended == [True]
    assert isinstance(report.error, PeerClosed)
    assert report.peer_address == ("192.0.2.7", 50123)
    await until(lambda: len(lab.server._places) == 0)


async def test_what_a_client_sends_while_accept_is_asked_is_not_lost(lab):
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def accept(_address):
        asked.set()
        await go_on.wait()
        return "session"

    lab = await lab(accept=accept, carriage=RDP())
    reader, writer = await lab.raw(header())
    await asked.wait()
    writer.write(ConnectionRequest(requested_protocols=Protocols.HYBRID).encode())
    await until(lambda: any(protocol.received for protocol in lab.server._connections))
    go_on.set()
    assert (await reader.readexactly(19))[5] == 0xD0


# -- limits


@pytest.mark.requirement("proxied.address")
async def test_the_limit_of_a_source_is_by_the_headers_address(lab):
    lab = await lab(max_handshakes_per_source=2)
    for _ in range(2):
        await lab.raw(header())
    await until(lambda: len(lab.server._places) == 2)
    reader, _ = await lab.raw(header(port=7))
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    [report] = await lab.reported(1)
    assert isinstance(report.error, LimitExceeded)
    assert (report.outcome, report.peer_address) == (HandshakeOutcome.LIMITED, ("192.0.2.7", 7))
    assert "from 192.0.2.7" in report.error.message
    transport = await lab.connect(header("192.0.2.8"))
    assert (await lab.reported(2))[1].outcome is HandshakeOutcome.SUCCESS
    transport.close()


async def test_ipv6_clients_of_one_network_are_one_source(lab):
    lab = await lab(max_handshakes_per_source=1)
    await lab.raw(header("2001:db8::1"))
    await until(lambda: len(lab.server._places) == 1)
    await lab.raw(header("2001:db8::ffff"))
    await lab.raw(header("::ffff:192.0.2.7"))
    await lab.raw(header("192.0.2.7"))
    reports = await lab.reported(2)
    assert ["2001:db8::/64" in reports[0].error.message, "192.0.2.7" in reports[1].error.message] == [True, True]


async def test_a_source_waits_by_the_time_at_which_its_header_came(lab, monkeypatch):
    moments, loop = [], asyncio.get_running_loop()
    monkeypatch.setattr(Pacing, "wait", lambda _pacing, _source, now: moments.append(now) or 0.0)
    lab = await lab()
    _, writer = await lab.raw()
    await until(lambda: lab.server._connections)
    before = loop.time()
    await until(lambda: loop.time() > before)  # uvloop's clock has steps of a millisecond
    writer.write(header())
    await until(lambda: moments)
    assert moments[0] > before


async def test_places_are_shared_fairly_by_the_headers_addresses(lab):
    lab = await lab(max_handshakes=4)
    for _ in range(4):
        await lab.raw(header())
    await until(lambda: len(lab.server._places) == 4)
    transport = await lab.connect(header("192.0.2.8"))
    first, second = await lab.reported(2)
    assert (first.outcome, first.peer_address[0]) == (HandshakeOutcome.LIMITED, "192.0.2.7")
    assert (second.outcome, second.peer_address[0]) == (HandshakeOutcome.SUCCESS, "192.0.2.8")
    transport.close()


@pytest.mark.requirement("proxied.address")
async def test_wrong_passwords_are_counted_by_the_headers_address(lab):
    lab = await lab(max_failures=FailureLimit(1), max_failed_per_second=None)
    wrong = client_config(authenticate=dataclasses.replace(client_config().authenticate, password="wrong"))
    for address, outcomes in (
        ("192.0.2.7", (HandshakeOutcome.DENIED, HandshakeOutcome.LIMITED)),
        ("192.0.2.8", (HandshakeOutcome.DENIED,)),
    ):
        for outcome in outcomes:
            with pytest.raises(CredSSPError):
                await lab.connect(header(address), config=wrong)
            await until(lambda: lab.reports)
            assert lab.reports.pop().outcome is outcome


@pytest.mark.requirement("proxied.bounded")
async def test_connections_without_a_whole_header_are_bounded(lab):
    lab = await lab(max_handshakes=3, max_handshakes_per_source=1)
    for _ in range(3):
        await lab.raw(b"PROXY ")
    await until(lambda: len(lab.server._without_header) == 3)
    reader, _ = await lab.raw(b"PROXY ")
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    [report] = await lab.reported(1)
    assert (report.outcome, report.peer_address[0]) == (HandshakeOutcome.LIMITED, HOST)
    assert len(lab.server._without_header) == 3


async def test_a_whole_header_frees_the_place_of_those_that_wait_for_one(lab):
    lab = await lab(max_handshakes=1)
    _, waiting = await lab.raw(b"PROXY TCP4 192.0.2.7 ")
    await until(lambda: len(lab.server._without_header) == 1)
    waiting.write(b"203.0.113.1 7 8\r\n")
    await until(lambda: len(lab.server._places) == 1)
    assert len(lab.server._without_header) == 0
    waiting.close()
    await lab.reported(1)
    await until(lambda: len(lab.server._places) == 0)


async def test_hostile_headers_harm_no_other_connection(lab):
    lab = await lab()
    spoilt = [header()[:cut] for cut in range(0, 28, 3)] + [
        header()[:index] + bytes([header()[index] ^ 0x80]) + header()[index + 1 :] for index in range(16)
    ]
    writers = [(await lab.raw(data))[1] for data in spoilt]
    transport = await lab.connect(header())
    await until(lambda: lab.apps)
    for writer in writers:
        writer.close()
    await lab.reported(len(spoilt) + 1)
    assert [type(report.error) for report in lab.reports].count(type(None)) == 1
    assert all(report.error is None or isinstance(report.error, CredSSPError) for report in lab.reports)
    transport.close()


# -- the networks


@pytest.mark.parametrize(
    ("networks", "address", "expected"),
    [
        (["10.0.0.0/8"], ("10.1.2.3", 1), True),
        (["10.0.0.0/8"], ("::ffff:10.1.2.3", 1, 0, 0), True),
        (["10.0.0.0/8"], ("11.1.2.3", 1), False),
        (["10.0.0.2"], ("10.0.0.2", 1), True),
        (["10.0.0.2"], ("10.0.0.3", 1), False),
        (["2001:db8::/32"], ("2001:db8::5", 1, 0, 0), True),
        (["fe80::/10"], ("fe80::1%eth0", 1, 0, 2), True),
        (["::/0"], ("10.0.0.2", 1), False),
        (["0.0.0.0/0"], ("", 1)[:0], False),
        (["0.0.0.0/0"], "", False),
        ([], ("10.0.0.2", 1), False),
    ],
)
def test_networks_hold_addresses(networks, address, expected):
    assert (address in LoadBalancers(networks)) is expected


@pytest.mark.parametrize(
    ("networks", "error", "text"),
    [
        ("10.0.0.0/8", TypeError, "proxy_protocol: expected a sequence of networks, got str"),
        (b"10.0.0.0/8", TypeError, "proxy_protocol: expected a sequence of networks, got bytes"),
        ([10], TypeError, "proxy_protocol: expected networks as text, got int"),
        (["10.0.0.1/8"], ValueError, "proxy_protocol: expected a network as 10.0.0.0/8, got '10.0.0.1/8'"),
        (["balancer"], ValueError, "proxy_protocol: expected a network as 10.0.0.0/8, got 'balancer'"),
        ([""], ValueError, "proxy_protocol: expected a network as 10.0.0.0/8, got ''"),
    ],
)
async def test_what_is_no_network_is_refused(networks, error, text):
    with pytest.raises(error, match=text):
        await create_server(Recorder, HOST, 0, config=server_config(), proxy_protocol=networks)


def test_datagrams_tell_no_address_of_a_stream():
    source = ProxyEndpoint(ipaddress.ip_address("192.0.2.7"), 1)
    value = ProxyHeader(family=ProxyFamily.UDP4, source=source, destination=source)
    assert address_of_client(value, ("10.0.0.2", 5)) == ("10.0.0.2", 5)


async def test_streams_of_a_client_need_nothing_of_this(lab):
    lab = await lab(proxy_protocol=[])
    _, writer = await open_connection(HOST, lab.port, config=client_config(), server_hostname="localhost")
    assert writer.get_extra_info("proxy_header") is None
    await until(lambda: lab.apps)
    assert lab.apps[0].transport.get_extra_info("proxy_header") is None
    assert lab.apps[0].transport.get_extra_info("peername") == writer.get_extra_info("sockname")
    writer.close()
