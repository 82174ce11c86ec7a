import asyncio
import contextlib
import gc
import logging
import socket
import ssl
import sys
from pathlib import Path

import pytest
from support.endpoints import (
    BOB,
    PASSWORD,
    MemoryTransport,
    Recorder,
    client_config,
    memory_pair,
    server_config,
    turns,
    until,
)

from acredssp.aio import pacing
from acredssp.aio.failures import FailureLimit
from acredssp.aio.listening import Listening
from acredssp.aio.pacing import Pacing
from acredssp.aio.protocol import CredSSPProtocol
from acredssp.aio.report import HandshakeOutcome
from acredssp.aio.streams import create_connection, create_server, open_connection, start_server
from acredssp.aio.transport import SecureTransport
from acredssp.carriage.base import TLS
from acredssp.carriage.rdp import RDP
from acredssp.core.context import SecurityContext
from acredssp.credentials import Account, Deny, Oracle, Password
from acredssp.errors import (
    AuthenticationError,
    HandshakeAborted,
    HandshakeTimeout,
    LimitExceeded,
    PeerClosed,
    RemoteProtocolError,
)
from acredssp.policy import Policy
from acredssp.status import NTSTATUS, Stage
from acredssp.tls_config import self_signed, server_context_from_pem

HOST = "127.0.0.1"
MOST_BACKLOG = int(Path("/proc/sys/net/core/somaxconn").read_text("ascii"))

FRONT = server_context_from_pem(Policy(), *self_signed(["front"], "ec"))
"""Made here, since making one writes a file, which no test may do on its loop."""


class Lab:
    """A server whose applications and reports are noted."""

    def __init__(self, server, apps, reports):
        self.server, self.apps, self.reports = server, apps, reports
        self.port = server.sockets[0].getsockname()[1]

    async def connect(self, **options):
        config = options.pop("config", None) or client_config()
        return await create_connection(Recorder, HOST, self.port, config=config, **options)

    async def raw(self):
        return await asyncio.open_connection(HOST, self.port)

    async def reported(self, count):
        await until(lambda: len(self.reports) >= count)
        return self.reports


@pytest.fixture
async def lab():
    labs = []

    async def make(factory=Recorder, config=None, **options):
        apps, reports = [], []

        def protocol_factory():
            apps.append(factory())
            return apps[-1]

        options.setdefault("on_handshake", reports.append)
        server = await create_server(protocol_factory, HOST, 0, config=config or server_config(), **options)
        labs.append(Lab(server, apps, reports))
        return labs[-1]

    yield make
    for made in labs:
        made.server.close()
        made.server.abort_clients()
        await made.server.wait_closed()


async def test_a_client_gets_an_application_protocol_of_its_own(lab):
    lab = await lab()
    for number in range(3):
        transport, app = await lab.connect()
        transport.write(b"%d" % number)
        await until(lambda number=number: len(lab.apps) > number)
        assert await lab.apps[number].got(1) == b"%d" % number
        transport.close()
        assert await app.lost is None
    assert [report.error for report in lab.reports] == [None] * 3


async def test_hooks_and_report_have_the_name_where_the_callers_sni_callback_chose_a_context(lab):
    asked = []

    def choose(ssl_object, name, _context):
        if name is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        ssl_object.context = chosen
        return None

    chosen = server_config().ssl_context
    FRONT.sni_callback = choose
    config = server_config(ssl_context=FRONT, lookup=lambda request: asked.append(request) or BOB)
    lab = await lab(config=config)
    transport, _ = await lab.connect(server_hostname="localhost")
    (report,) = await lab.reported(1)
    assert report.error is None
    assert report.server_name == asked[0].server_name == "localhost"
    transport.abort()


async def test_a_report_of_a_success_tells_who_and_how(lab):
    lab = await lab(carriage=RDP())
    transport, _ = await lab.connect(carriage=RDP(cookie="bob"), server_hostname="localhost")
    (report,) = await lab.reported(1)
    assert report.error is None
    assert report.peer_address == transport.get_extra_info("sockname")
    assert (report.principal.user, report.principal.domain) == ("bob", "CONTOSO")
    assert (report.info.version, report.info.mechanism, report.info.delegated) == (6, "ntlm", "password")
    assert (report.server_name, report.cookie) == ("localhost", "bob")
    assert (report.request.cookie, report.request.routing_token) == ("bob", None)
    assert report.elapsed >= 0
    assert PASSWORD not in repr(report)
    transport.abort()


@pytest.mark.requirement("accounts.once")
@pytest.mark.parametrize(
    ("hooks", "account"),
    [
        ({}, Account("BOB@contoso")),
        ({"lookup": lambda _: BOB}, Account("bob", "CONTOSO")),
        ({"lookup": lambda _: BOB, "authorize": lambda _: True}, Account("bob", "CONTOSO")),
        ({"lookup": lambda _: BOB, "authorize": lambda _: Account("robert")}, Account("robert")),
        ({"lookup": lambda _: BOB, "admit": lambda _: False}, Account("bob", "CONTOSO")),
        ({"lookup": lambda _: BOB, "authorize": lambda _: Deny(account=Account("robert"))}, Account("robert")),
        ({"lookup": lambda _: BOB, "admit": lambda _: Deny(account=Account("robert"))}, Account("robert")),
        ({"lookup": lambda _: BOB, "admit": lambda _: Deny()}, Account("bob", "CONTOSO")),
        ({"lookup": lambda _: Deny(account=Account("robert"))}, None),
    ],
    ids=[
        "nobody names it",
        "lookup",
        "authorize lets in",
        "authorize",
        "admit refuses",
        "authorize refuses by name",
        "admit refuses by name",
        "admit refuses without a name",
        "lookup proves nothing",
    ],
)
@pytest.mark.parametrize("carriage", [TLS(), RDP(hybrid_ex=True)], ids=["tls", "rdp"])
async def test_a_report_tells_who_it_is_beside_what_was_claimed(lab, hooks, account, carriage):
    lab = await lab(config=server_config(**hooks), carriage=carriage)
    config = client_config(authenticate=Password(PASSWORD, "BOB@contoso", ""))
    with contextlib.suppress(AuthenticationError):
        transport, _ = await lab.connect(config=config, carriage=carriage)
        transport.abort()
    (report,) = await lab.reported(1)
    assert (report.principal.user, report.principal.domain) == ("BOB@contoso", "")
    assert report.account == account


async def test_a_report_of_a_failure_tells_who_claimed_to_come_and_why_not(lab, caplog):
    lab = await lab()
    with caplog.at_level(logging.INFO, "acredssp"):
        with pytest.raises(AuthenticationError):
            await lab.connect(config=client_config(authenticate=Password("wrong", "bob", "CONTOSO")))
        (report,) = await lab.reported(1)
    assert type(report.error) is AuthenticationError
    assert report.error.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    assert report.error.stage is Stage.NEGO_TOKEN
    assert report.principal.user == "bob"
    assert report.info.principal is None  # nobody has proven anything
    assert report.account is None
    assert lab.apps == []
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "nego_token" in record.getMessage()
    assert "STATUS_LOGON_FAILURE" in record.getMessage()
    assert "CONTOSO\\bob" in record.getMessage()
    assert "unknown user or wrong password" in record.getMessage()
    assert "{}:{}".format(*report.peer_address) in record.getMessage()


@pytest.mark.requirement("defect.one-for-all")
@pytest.mark.parametrize(
    "words",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00",
        b"",
        bytes(100_000),
    ],
    ids=["http", "a partial record", "x.224", "nothing", "zeros"],
)
async def test_a_peer_that_speaks_something_else_hurts_nobody(lab, words):
    lab = await lab()
    transport, app = await lab.connect()
    reader, writer = await lab.raw()
    writer.write(words)
    writer.write_eof()
    other, _ = await lab.connect()
    reports = await lab.reported(3)
    assert [type(report.error) for report in reports if report.error] in ([RemoteProtocolError], [PeerClosed])
    transport.write(b"still here")
    await lab.apps[0].got(10)
    for end in transport, other:
        end.close()
    assert await app.lost is None
    with contextlib.suppress(ConnectionError):  # the server closed on words that it had not read
        await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize("carriage", [TLS(), RDP()], ids=["tls", "rdp"])
@pytest.mark.parametrize(("crumbs", "what"), [(b"PROXY ", "a PROXY header"), (b"\0\0\0\x54\xfeSMB", "SMB")])
async def test_another_protocol_whose_bytes_come_one_by_one_is_named(lab, crumbs, what, carriage):
    lab = await lab(carriage=carriage)
    _, writer = await lab.raw()
    for i in range(len(crumbs)):
        assert not lab.reports, crumbs[:i]
        writer.write(crumbs[i : i + 1])
        await turns(5)
    (report,) = await lab.reported(1)
    assert (type(report.error), report.outcome) == (RemoteProtocolError, HandshakeOutcome.FAILED)
    assert what in report.error.message
    writer.close()


async def test_a_hundred_handshakes_at_once(lab):
    waiting, go_on = 0, asyncio.Event()

    async def lookup(_request):
        nonlocal waiting
        waiting += 1
        if waiting == 100:
            go_on.set()  # all hundred are in their lookup at the same time
        await go_on.wait()
        return Password(PASSWORD)

    lab = await lab(config=server_config(lookup=lookup))
    connected = await asyncio.gather(*(lab.connect() for _ in range(100)))
    reports = await lab.reported(100)
    assert all(report.error is None for report in reports)
    for number, (transport, _) in enumerate(connected):
        transport.write(b"%03d" % number)
    words = [await app.got(3) for app in lab.apps]
    assert sorted(words) == [b"%03d" % number for number in range(100)]
    for transport, _ in connected:
        transport.close()
    for _, app in connected:
        assert await app.lost is None


@pytest.mark.requirement("defect.login-attempts")
async def test_handshakes_above_the_limit_are_turned_away_and_others_go_on(lab):
    go_on = asyncio.Event()

    async def lookup(_request):
        await go_on.wait()
        return Password(PASSWORD)

    lab = await lab(config=server_config(lookup=lookup), max_handshakes=2)
    first = [asyncio.ensure_future(lab.connect()) for _ in range(2)]
    await until(lambda: len(lab.server._handshakes) == 2)
    with pytest.raises((PeerClosed, ConnectionError)):
        await lab.connect()
    (report,) = await lab.reported(1)
    assert isinstance(report.error, LimitExceeded)
    assert (report.info, report.principal) == (None, None)
    go_on.set()
    for transport, _ in await asyncio.gather(*first):
        transport.close()
    transport, _ = await lab.connect()  # there is room again
    transport.close()


@pytest.mark.requirement("defect.login-attempts")
async def test_a_source_at_its_limit_is_turned_away(lab):
    lab = await lab(max_handshakes_per_source=2)
    _, first = await lab.raw()
    _, second = await lab.raw()
    reader, third = await lab.raw()
    await until(lambda: lab.reports or len(lab.server._places) > 2)
    (report,) = lab.reports
    assert await reader.read() == b""
    assert report.outcome is HandshakeOutcome.LIMITED
    assert "127.0.0.1" in str(report.error)
    assert "--max-per-source" in str(report.error)
    first.close()
    await until(lambda: len(lab.server._places) == 1)
    transport, _ = await lab.connect()  # there is room again
    for end in transport, second, third:
        end.close()


@pytest.mark.requirement("defect.login-attempts")
async def test_a_stranger_who_takes_every_place_loses_one_to_each_newcomer_from_elsewhere(lab):
    lab = await lab(max_handshakes=3)
    silent = [await lab.raw() for _ in range(3)]
    await until(lambda: len(lab.server._handshakes) == 3)
    elsewhere, app = await lab.connect(local_addr=("127.0.0.2", 0))
    displaced, good = await lab.reported(2)
    assert displaced.outcome is HandshakeOutcome.LIMITED
    assert isinstance(displaced.error, LimitExceeded)
    assert displaced.peer_address == silent[0][1].get_extra_info("sockname")  # the oldest
    assert good.outcome is HandshakeOutcome.SUCCESS
    elsewhere.close()
    assert await app.lost is None
    for _, writer in silent:
        writer.close()


async def test_of_those_that_a_limit_turns_away_one_line_a_second_is_told(lab, caplog, monkeypatch):
    lab = await lab(max_handshakes_per_source=1)
    monkeypatch.setattr(lab.server._loop, "time", lambda: 1000.0, raising=False)
    with caplog.at_level(logging.DEBUG, "acredssp"):
        writers = [(await lab.raw())[1] for _ in range(6)]
        reports = await lab.reported(5)
    assert [report.outcome for report in reports] == [HandshakeOutcome.LIMITED] * 5
    assert [record.levelno for record in caplog.records] == [logging.INFO] + [logging.DEBUG] * 4
    for writer in writers:
        writer.close()


# --- failed handshakes ---


async def broken_off(lab, count):
    """Begin handshakes from 127.0.0.2 and leave."""
    for number in range(count):
        _, writer = await asyncio.open_connection(HOST, lab.port, local_addr=("127.0.0.2", 0))
        writer.write(b"\x16")
        writer.close()
        await lab.reported(number + 1)


@pytest.fixture
def waits_for_ever(monkeypatch):
    monkeypatch.setattr(pacing, "_LONGEST_WAIT", 3600.0)


@pytest.mark.usefixtures("waits_for_ever")
async def test_a_source_whose_handshakes_fail_waits_and_nobody_else_does(lab):
    lab = await lab(max_failed_per_second=1)
    await broken_off(lab, 6)
    reader, writer = await asyncio.open_connection(HOST, lab.port, local_addr=("127.0.0.2", 0))
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    transport, _ = await lab.connect()
    assert (await lab.reported(7))[-1].outcome is HandshakeOutcome.SUCCESS
    assert len(lab.reports) == 7  # nobody has read from the one that waits
    lab.server.close_clients()
    report = (await lab.reported(8))[-1]
    assert report.outcome is HandshakeOutcome.ABORTED
    with contextlib.suppress(ConnectionResetError):  # what it sent was not read
        assert await reader.read() == b""
    writer.close()
    transport.close()


async def test_a_wait_ends_with_the_time_of_the_handshake(lab, monkeypatch):
    monkeypatch.setattr(Pacing, "wait", lambda *_: 3600.0)
    lab = await lab(handshake_timeout=0.3)
    _, writer = await lab.raw()
    async with asyncio.timeout(60):
        (report,) = await lab.reported(1)
    assert report.outcome is HandshakeOutcome.TIMEOUT
    writer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells that a peer has left before its data is read")
async def test_one_that_leaves_while_it_waits_costs_nothing_more(lab):
    def come_and_leave():
        with socket.create_connection((HOST, lab.port), source_address=("127.0.0.2", 0)) as client:
            client.sendall(b"\x16")

    lab = await lab(max_failed_per_second=1)
    await broken_off(lab, 6)
    await asyncio.to_thread(come_and_leave)
    report = (await lab.reported(7))[-1]
    assert (report.outcome, report.info) == (HandshakeOutcome.NO_DATA, None)
    assert "while it had to wait" in str(report.error)


# --- accept ---


async def test_accept_gives_a_session_that_everybody_sees(lab):
    session, seen = object(), []

    async def accept(address):
        seen.append(address)
        return session

    def hook(who):
        seen.append(who.session)
        return True

    def lookup(request):
        seen.append(request.session)
        return Password(PASSWORD)

    lab = await lab(accept=accept, config=server_config(lookup=lookup, authorize=hook))
    transport, _ = await lab.connect()
    (report,) = await lab.reported(1)
    await until(lambda: lab.apps)
    assert seen == [transport.get_extra_info("sockname"), session, session]
    assert report.session is session
    assert lab.apps[0].transport.get_extra_info("session") is session
    assert transport.get_extra_info("session") is None
    transport.close()


async def never(_address):
    await asyncio.Event().wait()


def raising(_address):
    raise KeyError(PASSWORD)


async def raising_later(address):
    await asyncio.sleep(0)
    raising(address)


def cancelled(_address):
    raise asyncio.CancelledError


async def cancelled_later(address):
    await asyncio.sleep(0)
    cancelled(address)


@pytest.mark.parametrize(
    ("accept", "outcome"),
    [
        (lambda _: False, HandshakeOutcome.DENIED),
        (lambda _: Deny(), HandshakeOutcome.DENIED),
        (lambda _: None, HandshakeOutcome.BAD_ANSWER),
        (raising, HandshakeOutcome.FAILED),
        (raising_later, HandshakeOutcome.FAILED),
        (cancelled, HandshakeOutcome.FAILED),
        (cancelled_later, HandshakeOutcome.FAILED),
        (never, HandshakeOutcome.TIMEOUT),
    ],
    ids=["false", "deny", "none", "raises", "raises later", "is cancelled", "is cancelled later", "never"],
)
async def test_a_connection_that_accept_does_not_take_is_closed_unread(lab, accept, outcome):
    lab = await lab(accept=accept, config=server_config(Policy(hook_timeout=0.001 if accept is never else 60.0)))
    reader, writer = await lab.raw()
    await until(lambda: lab.reports or lab.server._connections)
    (report,) = lab.reports
    assert await reader.read() == b""
    assert (report.outcome, report.hook, report.info) == (outcome, "accept", None)
    assert report.error.stage is Stage.CONNECT
    assert report.peer_address == writer.get_extra_info("sockname")
    writer.close()


async def test_an_accept_that_takes_longer_than_the_handshake_may_is_late(lab):
    lab = await lab(accept=never, handshake_timeout=0.02)
    reader, writer = await lab.raw()
    assert await reader.read() == b""
    (report,) = await lab.reported(1)
    assert (type(report.error), report.outcome, report.hook) == (HandshakeTimeout, HandshakeOutcome.TIMEOUT, "accept")
    writer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells that a peer has left before its data is read")
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"], ids=["nothing", "data"])
async def test_a_client_that_leaves_while_accept_is_asked_frees_its_place(lab, said):
    begun, cancelled, asked = asyncio.Event(), asyncio.Event(), []

    async def accept(peer):
        asked.append(peer)
        if len(asked) == 2:
            return "session"
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    lab = await lab(accept=accept, max_handshakes=1)
    _, writer = await lab.raw()
    await begun.wait()
    writer.write(said)
    await turns(10)
    assert not cancelled.is_set(), "data is no end"
    writer.close()
    await cancelled.wait()
    (report,) = await lab.reported(1)
    assert (type(report.error), report.outcome, report.hook) == (PeerClosed, HandshakeOutcome.NO_DATA, "")
    await until(lambda: not lab.server._handshakes)
    assert lab.server._departures._epoll is None
    transport, _ = await lab.connect()
    transport.close()


async def test_a_client_may_speak_while_accept_is_asked(lab):
    go_on = asyncio.Event()

    async def accept(_peer):
        await go_on.wait()
        return "session"

    lab = await lab(accept=accept)
    connecting = asyncio.ensure_future(lab.connect())
    await until(lambda: lab.server._handshakes)
    await turns(20)
    go_on.set()
    transport, _ = await connecting
    transport.close()


# --- one report for each connection ---


@pytest.mark.parametrize("end", ["close_clients", "abort_clients"])
@pytest.mark.parametrize("when", range(0, 40, 3))
async def test_a_connection_that_is_ended_at_any_turn_is_reported_once(lab, end, when):
    async def hook(_who):
        await turns(3)
        return True

    lab = await lab(accept=hook, config=server_config(authorize=hook))
    connecting = asyncio.ensure_future(lab.connect())
    await until(lambda: lab.server._handshakes or lab.reports)
    await turns(when)
    getattr(lab.server, end)()
    lab.server.close()
    lab.server.abort_clients()
    await lab.server.wait_closed()
    await turns(3)
    (report,) = lab.reports
    if report.error is not None:
        assert type(report.error) is HandshakeAborted
        assert report.outcome is HandshakeOutcome.ABORTED
    with contextlib.suppress(PeerClosed, AuthenticationError, ConnectionError):
        transport, _ = await connecting
        transport.abort()


@pytest.mark.parametrize("end", ["close_clients", "abort_clients"])
async def test_handshakes_in_progress_are_ended_and_reported_once(lab, end):
    """One waits for its client, one for the application's hook, and one for `accept`."""
    asked = []

    async def never(who):
        asked.append(who)
        await asyncio.Event().wait()

    def accept(peer):
        return never(peer) if len(lab.server._handshakes) > 2 else "session"

    lab = await lab(accept=accept, config=server_config(authorize=never))
    _, silent = await lab.raw()
    silent.write(b"\x16")
    connecting = asyncio.ensure_future(lab.connect())
    await until(lambda: asked)
    _, unread = await lab.raw()
    await until(lambda: len(asked) == 2)
    getattr(lab.server, end)()
    reports = await lab.reported(3)
    assert {(type(report.error), report.outcome) for report in reports} == {
        (HandshakeAborted, HandshakeOutcome.ABORTED)
    }
    await until(lambda: not (lab.server._handshakes or lab.server._connections))
    assert len(lab.reports) == 3
    with pytest.raises((PeerClosed, AuthenticationError)):
        await connecting
    for writer in (silent, unread):
        writer.close()


@pytest.mark.parametrize("end", ["close_clients", "abort_clients"])
async def test_a_connection_that_is_ended_as_its_success_is_reported_ends(lab, end):
    reports = []

    def ends(report):
        reports.append(report)
        getattr(lab.server, end)()

    lab = await lab(on_handshake=ends)
    _, app = await lab.connect()
    error = await app.lost
    assert (type(error) is PeerClosed) == (end == "abort_clients")  # without close_notify
    assert [report.outcome for report in reports] == [HandshakeOutcome.SUCCESS]
    await until(lambda: not lab.server._connections)


@pytest.mark.parametrize("end", ["close_clients", "abort_clients"])
async def test_the_report_has_the_session_of_a_connection_that_ends_before_its_handshake_begins(lab, end):
    session = object()

    def accept(_peer):
        getattr(lab.server, end)()
        return session

    lab = await lab(accept=accept)
    reader, writer = await lab.raw()
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    (report,) = await lab.reported(1)
    assert (report.outcome, report.session) == (HandshakeOutcome.ABORTED, session)
    writer.close()


async def test_a_fault_of_ours_is_reported_and_told_to_the_loop(lab, monkeypatch):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))
    lab = await lab()
    monkeypatch.setattr("acredssp.aio.handshake.ServerAnswers", lambda *_, **__: 1 / 0)
    reader, writer = await lab.raw()
    assert await reader.read() == b""
    (report,) = await lab.reported(1)
    assert report.outcome is HandshakeOutcome.FAILED
    assert "ZeroDivisionError" in str(report.error)
    assert [type(error) for error in told] == [ZeroDivisionError]
    writer.close()


async def test_a_client_that_leaves_frees_its_hooks_place(lab):
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def authorize(_identity):
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    lab = await lab(config=server_config(authorize=authorize), max_handshakes=1)
    connecting = asyncio.ensure_future(lab.connect())
    await begun.wait()
    connecting.cancel()
    await cancelled.wait()
    (report,) = await lab.reported(1)
    assert (type(report.error), report.outcome) == (PeerClosed, HandshakeOutcome.LEFT)
    assert report.principal.user == "bob"
    await until(lambda: not lab.server._handshakes)
    assert len(lab.server._places) == 0


@pytest.mark.parametrize("carriage", [TLS(), RDP()], ids=["tls", "rdp"])
async def test_a_connection_that_ends_without_a_byte_is_told_apart_and_quiet(lab, caplog, carriage):
    lab = await lab(carriage=carriage)
    with caplog.at_level(logging.DEBUG, "acredssp"):
        _, writer = await lab.raw()
        writer.close()
        (report,) = await lab.reported(1)
    assert (type(report.error), report.outcome) == (PeerClosed, HandshakeOutcome.NO_DATA)
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert "no_data" in record.getMessage()


@pytest.mark.parametrize("words", [b"\x16", b"\x16\x03\x01"])
async def test_a_connection_that_ends_after_a_byte_is_none_without_one(lab, words):
    lab = await lab()
    _, writer = await lab.raw()
    writer.write(words)
    writer.write_eof()
    (report,) = await lab.reported(1)
    assert report.outcome is HandshakeOutcome.LEFT
    writer.close()


# --- wrong passwords ---


@pytest.mark.requirement("defect.login-attempts")
async def test_after_too_many_wrong_passwords_the_right_one_is_refused_unseen(lab, caplog):
    asked = []

    def lookup(request):
        asked.append(request.principal.user)
        return Password(PASSWORD)

    lab = await lab(config=server_config(lookup=lookup), max_failures=FailureLimit(2, 60.0))
    wrong, right = (client_config(authenticate=Password(secret, "bob")) for secret in ("wrong", PASSWORD))
    for config in wrong, wrong, right:
        with pytest.raises(AuthenticationError) as caught:
            await lab.connect(config=config)
        assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    outcomes = [report.outcome for report in await lab.reported(3)]
    assert outcomes == [HandshakeOutcome.DENIED, HandshakeOutcome.DENIED, HandshakeOutcome.LIMITED]
    assert asked == ["bob", "bob"]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "too many wrong passwords from 127.0.0.1 for BOB: no more tries for 60 seconds"
    ]
    alice, _ = await lab.connect(config=client_config(authenticate=Password(PASSWORD, "alice")))
    other, _ = await lab.connect(local_addr=("127.0.0.2", 0), config=right)
    for transport in alice, other:
        transport.close()


@pytest.mark.requirement("defect.login-attempts")
async def test_a_source_with_too_many_wrong_passwords_for_all_accounts_gets_no_connection(lab):
    lab = await lab(max_failures=FailureLimit(1, 60.0))
    for number in range(10):
        with pytest.raises(AuthenticationError):
            await lab.connect(config=client_config(authenticate=Password("wrong", f"user{number}")))
    reader, writer = await lab.raw()
    assert await reader.read() == b""
    report = (await lab.reported(11))[-1]
    assert (report.outcome, report.error.stage) == (HandshakeOutcome.LIMITED, Stage.CONNECT)
    transport, _ = await lab.connect(local_addr=("127.0.0.2", 0))
    transport.close()
    writer.close()


async def raises(_request):
    raise LookupError("no such user")


async def never_answers(_request):
    await asyncio.Event().wait()


@pytest.mark.requirement("defect.login-attempts")
@pytest.mark.parametrize(
    "lookup",
    [
        {}.get,
        raises,
        never_answers,
        lambda _request: Deny(),
        lambda _request: Oracle(lambda _exchange: None),
        lambda _request: Oracle(raises),
        lambda _request: Deny(NTSTATUS.STATUS_NO_SUCH_USER),
    ],
    ids=["none", "raises", "late", "denies", "oracle none", "oracle raises", "no such user"],
)
async def test_whatever_the_peer_sees_as_a_wrong_password_counts_as_one(lab, lookup):
    policy = Policy(hook_timeout=0.01)
    lab = await lab(config=server_config(lookup=lookup, policy=policy), max_failures=FailureLimit(1, 60.0))
    for _ in range(2):
        with pytest.raises(AuthenticationError) as caught:
            await lab.connect()
        assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    first, second = await lab.reported(2)
    assert first.outcome is not HandshakeOutcome.LIMITED
    assert second.outcome is HandshakeOutcome.LIMITED


@pytest.mark.requirement("defect.login-attempts")
@pytest.mark.parametrize(
    "lookup",
    [
        lambda _request: Deny(NTSTATUS.STATUS_NO_LOGON_SERVERS),
        lambda _request: Oracle(lambda _exchange: Deny(NTSTATUS.STATUS_NO_LOGON_SERVERS)),
        lambda _request: Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED, secret=Password(PASSWORD)),
    ],
    ids=["no logon servers", "oracle without logon servers", "disabled"],
)
async def test_what_the_peer_sees_as_something_else_is_no_wrong_password(lab, lookup):
    lab = await lab(config=server_config(lookup=lookup), max_failures=FailureLimit(1, 60.0))
    for _ in range(2):
        with pytest.raises(AuthenticationError) as caught:
            await lab.connect()
        assert caught.value.nt_status is not NTSTATUS.STATUS_LOGON_FAILURE
    assert {report.outcome for report in await lab.reported(2)} == {HandshakeOutcome.DENIED}


async def test_each_handshake_has_its_own_deadline(lab):
    lab = await lab(handshake_timeout=0.05)
    silent = [await lab.raw() for _ in range(3)]
    reports = await lab.reported(3)
    assert [type(report.error) for report in reports] == [HandshakeTimeout] * 3
    assert all(report.error.stage is Stage.TLS for report in reports)
    for reader, writer in silent:
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_the_policys_deadline_is_the_default(lab):
    lab = await lab(config=server_config(Policy(handshake_timeout=0.05)))
    _, writer = await lab.raw()
    (report,) = await lab.reported(1)
    assert isinstance(report.error, HandshakeTimeout)
    writer.close()
    await writer.wait_closed()


# --- asyncio.Server ---


async def test_close_stops_listening_and_leaves_connections_alone(lab):
    lab = await lab()
    assert lab.server.is_serving()
    assert lab.server.get_loop() is asyncio.get_running_loop()
    transport, app = await lab.connect()
    lab.server.close()
    assert not lab.server.is_serving()
    assert lab.server.sockets == ()
    with pytest.raises(OSError):  # noqa: PT011 - refused on every system, with its own number
        await lab.raw()
    transport.write(b"still here")
    assert await lab.apps[0].got(10) == b"still here"
    closed = asyncio.ensure_future(lab.server.wait_closed())
    await turns(5)
    assert not closed.done()
    transport.close()
    await app.lost
    await closed


async def test_a_handshake_in_progress_survives_close(lab):
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def lookup(_request):
        entered.set()
        await go_on.wait()
        return Password(PASSWORD)

    lab = await lab(config=server_config(lookup=lookup))
    connecting = asyncio.ensure_future(lab.connect())
    await entered.wait()
    lab.server.close()
    closed = asyncio.ensure_future(lab.server.wait_closed())
    await turns(5)
    assert not closed.done()
    go_on.set()
    transport, _ = await connecting
    transport.close()
    await closed


async def test_abort_clients_ends_connections_and_handshakes(lab):
    entered = asyncio.Event()

    async def lookup(_request):
        entered.set()
        await asyncio.Event().wait()

    lab = await lab()
    _, app = await lab.connect()
    lab.server._config = server_config(lookup=lookup)
    connecting = asyncio.ensure_future(lab.connect())
    await entered.wait()
    lab.server.close()
    lab.server.abort_clients()
    await lab.server.wait_closed()
    assert isinstance(await app.lost, ConnectionError)
    with pytest.raises((PeerClosed, AuthenticationError)):
        await connecting


async def test_close_clients_sends_what_was_written(lab):
    lab = await lab()
    _, app = await lab.connect()
    silent, writer = await lab.raw()
    await until(lambda: lab.apps and lab.server._handshakes)
    lab.apps[0].transport.write(b"last words")
    lab.server.close()
    lab.server.close_clients()
    await lab.server.wait_closed()
    assert await app.lost is None
    assert bytes(app.data) == b"last words"
    assert await silent.read() == b""
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("end", ["close_clients", "abort_clients"])
async def test_a_connection_whose_handshake_has_not_begun_is_ended_too(lab, end):
    lab, (peer, _) = await lab(), memory_pair()
    accepted, transport = lab.server.new_connection(), MemoryTransport()
    transport.connect(accepted, peer.transport)
    getattr(lab.server, end)()
    await until(lambda: accepted.lost)
    lab.server.close()
    await lab.server.wait_closed()


async def test_async_with_closes_and_waits():
    async with await create_server(Recorder, HOST, 0, config=server_config()) as server:
        assert server.is_serving()
    assert not server.is_serving()
    assert "CredSSPServer" in repr(server)


async def test_serve_forever_until_cancelled(lab):
    lab = await lab(start_serving=False)
    assert not lab.server.is_serving()
    serving = asyncio.ensure_future(lab.server.serve_forever())
    await turns(3)
    assert lab.server.is_serving()
    transport, _ = await lab.connect()
    transport.close()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not lab.server.is_serving()


async def test_start_serving_begins_to_accept(lab):
    lab = await lab(start_serving=False)
    await lab.server.start_serving()
    await lab.server.start_serving()
    transport, _ = await lab.connect()
    transport.close()


def kernel_backlog(server):
    """The connections that the kernel keeps for a listening socket: `tcpi_sacked` of its TCP_INFO, on Linux."""
    [listening] = server.sockets
    with socket.fromfd(listening.fileno(), listening.family, listening.type) as same:
        return int.from_bytes(same.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)[28:32], sys.byteorder)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("options", "backlog"), [({}, 100), ({"backlog": 7}, 7), ({"backlog": 200}, 200)])
async def test_the_kernel_keeps_100_connections_unless_told_otherwise(options, backlog, at_once):
    async with await create_server(
        Recorder, HOST, 0, config=server_config(), start_serving=at_once, **options
    ) as server:
        await server.start_serving()
        assert kernel_backlog(server) == min(backlog, MOST_BACKLOG)


async def test_a_server_that_is_made_without_serving_does_not_listen():
    server = await create_server(Recorder, HOST, 0, config=server_config(), start_serving=False)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, port)
    server.close()
    await server.wait_closed()


async def test_where_the_loop_watches_no_sockets_its_own_server_accepts(lab, monkeypatch):
    def watch(*_):
        raise NotImplementedError

    monkeypatch.setattr(Listening, "_watch", watch)
    lab = await lab(accept=lambda _address: "session", max_handshakes=1)
    assert lab.server.is_serving()
    transport, app = await lab.connect()
    (report,) = await lab.reported(1)
    assert (report.peer_address, report.session) == (transport.get_extra_info("sockname"), "session")
    transport.close()
    assert await app.lost is None
    lab.server.close()
    assert not lab.server.is_serving()


# --- the application's faults ---


@pytest.mark.parametrize("fault", ["factory", "connection_made", "report"])
async def test_a_fault_of_the_application_costs_one_connection_and_is_told_to_the_loop(lab, fault):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    faults = [True, False]

    def maybe(where):
        if where == fault and faults.pop(0):
            raise ZeroDivisionError

    class App(Recorder):
        def __init__(self):
            maybe("factory")
            super().__init__()

        def connection_made(self, transport):
            maybe("connection_made")
            super().connection_made(transport)

    lab = await lab(App, on_handshake=lambda _report: maybe("report"))
    _, app = await lab.connect()
    assert isinstance(await app.lost, ConnectionError)
    assert [type(context["exception"]) for context in told] == [ZeroDivisionError]
    transport, app = await lab.connect()
    transport.write(b"x")
    await until(lambda: lab.apps and lab.apps[-1].data)
    transport.close()
    assert await app.lost is None


async def test_a_report_that_fails_leaves_no_delegated_credentials_behind(lab):
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    borrowed = []

    def admit(admission):
        borrowed.append(admission.credentials)
        return True

    lab = await lab(config=server_config(admit=admit), on_handshake=lambda _report: 1 / 0)
    _, app = await lab.connect()
    assert isinstance(await app.lost, ConnectionError)
    (credentials,) = borrowed
    assert not any(bytes(credentials.password))


async def test_nothing_of_a_connection_stays_behind(lab):
    def alive():
        gc.collect()
        kinds = (SecurityContext, SecureTransport, CredSSPProtocol)
        return sum(isinstance(thing, kinds) for thing in gc.get_objects())

    lab, before = await lab(), alive()

    async def visit(password):
        try:
            transport, app = await lab.connect(config=client_config(authenticate=Password(password, "bob")))
            transport.close()
            await app.lost
        except AuthenticationError:
            pass

    await visit(PASSWORD)
    await visit("wrong")
    await lab.reported(2)
    await until(lambda: not (lab.server._connections or lab.server._handshakes))
    lab.apps.clear()
    lab.reports.clear()
    await turns(3)
    assert alive() == before


async def test_streams_server_gives_asyncios_own_reader_and_writer():
    seen = []

    async def echo(reader, writer):
        seen.append((type(reader), type(writer), writer.transport.take_credentials().kind))
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
        writer.close()
        await writer.wait_closed()

    async with await start_server(echo, HOST, 0, config=server_config()) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await open_connection(HOST, port, config=client_config())
        writer.write(b"hello\n" * 10_000)
        await writer.drain()
        writer.write_eof()
        assert await reader.read() == b"hello\n" * 10_000
        writer.close()
        await writer.wait_closed()
    assert seen == [(asyncio.StreamReader, asyncio.StreamWriter, "password")]


async def test_a_listening_socket_of_the_caller():
    listening = socket.create_server((HOST, 0))
    server = await create_server(Recorder, sock=listening, config=server_config())
    port = server.sockets[0].getsockname()[1]
    transport, _ = await create_connection(Recorder, HOST, port, config=client_config())
    transport.close()
    server.close()
    await server.wait_closed()
