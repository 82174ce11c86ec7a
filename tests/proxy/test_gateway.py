"""The gateway in this process, between a client and a target of our own engine."""

import asyncio
import contextlib
import dataclasses
import gc
import random
import socket
import ssl
import sys
import types

import pytest
from support.alive import Alive
from support.endpoints import PIN, turns, until
from support.gateway import BOB, INJECTED, MCS, Target, leave, settings_of, talk
from support.mcs import SHADOW, indication, redirection, share_control, utf16
from support.peers import free_port

import acredssp
from acredssp import NTSTATUS, Deny, Password, rdp
from acredssp.aio.relaying import _Relay
from acredssp.core.server import ServerHandshake
from acredssp.credentials import DelegatedKind, NTHash
from acredssp.proxy import connection, leg
from acredssp.proxy.connection import Connection
from acredssp.proxy.settings import SettingsError
from acredssp.rdp import FailureCode, Protocols, RequestFlags
from acredssp.wire import mcs

# --- connections ---


@pytest.mark.parametrize("hybrid_ex", [True, False], ids=["target-ex", "target"])
@pytest.mark.parametrize("front_ex", [True, False], ids=["front-ex", "front"])
async def test_bytes_pass_both_ways_once_both_legs_have_logged_on(world, hybrid_ex, front_ex):
    async with world(hybrid_ex=hybrid_ex) as (here, target):
        streams = await here.connect(hybrid_ex=front_ex)
        response = await talk(streams)
        await leave(streams)
        (record,) = await here.until_ended()
        at = mcs.selected_protocol_at(target.initials[0])
        selected = Protocols.HYBRID_EX if hybrid_ex else Protocols.HYBRID
        assert target.initials[0][at : at + 4] == selected.to_bytes(4, "little")
        at = mcs.requested_protocols_at(response)
        requested = Protocols.SSL | Protocols.HYBRID | (Protocols.HYBRID_EX if front_ex else 0)
        assert response[at : at + 4] == requested.to_bytes(4, "little")
    assert target.logons == [("CONTOSO\\alice", DelegatedKind.PASSWORD, "wonderland")]
    assert (record.outcome, record.ended_by, record.reason) == ("relayed", "client", "")
    assert (record.user, record.target, record.host) == ("CONTOSO\\alice", "desktops", target.address)
    assert record.target_user == "CONTOSO\\alice"
    assert (record.bytes_up, record.bytes_down) == (len(MCS) + 5, len(SHADOW) + 5)
    assert [*record.seconds] == ["front", "connect", "logon", "mcs", "relay"]
    assert "wonderland" not in repr(record)


async def test_a_client_that_leaves_behind_the_logon_is_named(world):
    async with world() as (here, _target):
        await leave(await here.connect())
        (record,) = await here.until_ended()
    assert (
        record.reason == "the first PDUs of MCS could not be passed on: the client ended the connection before its own"
    )


async def test_a_client_that_leaves_before_the_targets_answer_is_noticed_at_once(world):
    async with world() as (here, target):
        target.behind = b""
        streams = await here.connect()
        streams[1].write(MCS)
        await leave(streams)
        (record,) = await here.until_ended()
    assert record.reason == (
        "the first PDUs of MCS could not be passed on: the client ended the connection before the target's answer"
    )


@pytest.mark.parametrize("who", ["client", "target"])
async def test_a_first_pdu_that_does_not_come_in_time_ends_the_connection(world, monkeypatch, who):
    monkeypatch.setattr(connection, "_FIRST_PDUS", 0.1)
    async with world() as (here, target):
        target.behind = b""
        streams = await here.connect()
        if who == "target":
            streams[1].write(MCS)
        (record,) = await here.until_ended()
        await leave(streams)
    assert record.outcome == "no_session"
    assert record.reason == "the first PDUs of MCS could not be passed on: they did not come within 0.1 seconds"


async def test_what_a_client_sends_before_the_targets_answer_is_passed_on_and_counted(world):
    async with world() as (here, target):
        target.behind = b""
        reader, writer = await here.connect()
        writer.write(MCS)
        writer.write(SHADOW)  # which the target echoes, and which is then the answer to MCS
        assert len(await rdp.read_pdu(reader)) == len(SHADOW)
        await leave((reader, writer))
        (record,) = await here.until_ended()
    assert (record.bytes_up, record.reason) == (len(MCS) + len(SHADOW), "")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (redirection([(0x100, utf16("sh2.contoso.com"))]), "sh2.contoso.com"),
        (redirection([(0x100, utf16("x" * 300))]), "x" * 255),
        (redirection([]), "a host without a name"),
        (share_control(1, bytes(400)) + redirection([]), ""),
    ],
    ids=["name", "long-name", "no-name", "session"],
)
async def test_a_target_that_sends_the_client_on_is_noticed_and_the_bytes_pass(world, content, told):
    async with world() as (here, target):
        target.behind = SHADOW + indication(content, long=True)
        streams = await here.connect()
        await talk(streams, behind=len(target.behind) - len(SHADOW))
        await leave(streams)
        (record,) = await here.until_ended()
    assert (record.outcome, record.redirected_to) == ("relayed", told)
    assert record.bytes_down == len(target.behind) + 5


@pytest.mark.parametrize(
    ("more", "logon"),
    [
        (INJECTED, ("SERVERS\\svc", DelegatedKind.PASSWORD, "server's")),
        (INJECTED.replace("SERVERS\\", ""), ("svc", DelegatedKind.PASSWORD, "server's")),
        (INJECTED + "restricted_admin = true\n", ("SERVERS\\svc", DelegatedKind.NOTHING, "")),
        (
            "credentials = 'injected'\naccount = 'hashed'\nnt_hash = 'file:hash'\nrestricted_admin = true\n",
            ("hashed", DelegatedKind.NOTHING, ""),
        ),
        ("restricted_admin = true\n", ("CONTOSO\\alice", DelegatedKind.NOTHING, "")),
    ],
    ids=["injected", "no-domain", "injected-restricted-admin", "hash", "delegated-restricted-admin"],
)
async def test_what_the_target_is_given(world, more, logon):
    async with world(more) as (here, target):
        streams = await here.connect()
        await talk(streams)
        await leave(streams)
        await here.until_ended()
    assert target.logons == [logon]
    restricted = bool(target.requests[0].flags & RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED)
    assert restricted is (logon[1] is DelegatedKind.NOTHING)


async def test_the_target_gets_the_clients_request_without_the_token_that_led_here(world):
    routes = '[[listeners.routes]]\ntoken = "blue"\ntarget = "desktops"\n'
    async with world(routes=routes) as (here, target):
        name = bytes(range(1, 13)) + bytes(range(16, 20))
        streams = await here.connect(routing_token="blue", correlation_id=name)
        await leave(streams)
        await here.until_ended()
    (request,) = target.requests
    assert (request.routing_token, request.correlation_id) == (None, name)


# --- what the user is told ---

TOLD = [
    NTSTATUS.STATUS_PASSWORD_MUST_CHANGE,
    NTSTATUS.STATUS_ACCOUNT_LOCKED_OUT,
    NTSTATUS.STATUS_ACCOUNT_DISABLED,
    NTSTATUS.STATUS_LOGON_TYPE_NOT_GRANTED,
]


@pytest.mark.parametrize("status", TOLD, ids=str)
@pytest.mark.parametrize("hybrid_ex", [True, False], ids=["hybrid-ex", "hybrid"])
async def test_the_targets_own_status_reaches_a_user_whose_credentials_are_injected(world, status, hybrid_ex):
    async with world(INJECTED) as (here, target):
        target.answer = Deny(status)
        with pytest.raises(acredssp.AuthenticationError) as raised:
            await here.connect(hybrid_ex=hybrid_ex)
        (record,) = await here.until_ended()
    assert raised.value.nt_status == status
    assert (record.outcome, record.status) == ("denied", str(status))
    assert record.reason.startswith(f"target desktops at {target.address}: ")
    assert record.user == "CONTOSO\\alice"


async def test_a_user_whose_delegated_credentials_are_refused_is_denied_with_hybrid_ex(world):
    async with world() as (here, target):
        target.answer = Deny(NTSTATUS.STATUS_ACCOUNT_LOCKED_OUT)
        with pytest.raises(acredssp.AccessDenied):
            await here.connect()
        (record,) = await here.until_ended()
    assert record.status == "STATUS_ACCOUNT_LOCKED_OUT"


async def test_a_user_whose_delegated_credentials_are_refused_is_cut_off_with_hybrid(world):
    async with world() as (here, target):
        target.answer = Deny(NTSTATUS.STATUS_ACCOUNT_LOCKED_OUT)
        streams = await here.connect(hybrid_ex=False)
        assert await streams[0].read() == b""
        await leave(streams)
        (record,) = await here.until_ended()
    assert record.status == "STATUS_ACCOUNT_LOCKED_OUT"


async def test_the_password_of_both_logons_is_not_hashed_again(world, monkeypatch):
    async with world() as (here, target):
        monkeypatch.setattr("acredssp.credentials.md4", lambda _data: pytest.fail("hashed again"))
        streams = await here.connect()
        await talk(streams)
        await leave(streams)
        await here.until_ended()
    assert [who for who, _kind, _password in target.logons] == ["CONTOSO\\alice"]


async def test_a_wrong_password_at_the_front_reaches_no_target(world):
    async with world(INJECTED) as (here, target):
        with pytest.raises(acredssp.AuthenticationError) as raised:
            await here.connect(Password("wrong", "alice", "CONTOSO"))
        (record,) = await here.until_ended()
    assert raised.value.nt_status == NTSTATUS.STATUS_LOGON_FAILURE
    assert (target.requests, record.target, record.outcome) == ([], "", "denied")


async def test_a_target_that_is_down_is_no_logon_server(world):
    async with world(INJECTED) as (here, target):
        await target.stop()
        with pytest.raises(acredssp.AuthenticationError) as raised:
            await here.connect()
        (record,) = await here.until_ended()
    assert raised.value.nt_status == NTSTATUS.STATUS_NO_LOGON_SERVERS
    assert record.reason.endswith("the last one because of: connection refused")


async def test_a_target_whose_certificate_is_not_trusted_is_told_to_the_operator_with_its_settings(world):
    async with world(INJECTED, start=False) as (here, target):
        text = settings_of({"desktops": ([target.address], INJECTED)}).replace(PIN, "00" * 32)
        await here.write(text)
        await here.gateway.start()
        with pytest.raises(acredssp.AuthenticationError) as raised:
            await here.connect()
        (record,) = await here.until_ended()
        await here.gateway.stop()
    assert raised.value.nt_status == NTSTATUS.STATUS_TRUSTED_RELATIONSHIP_FAILURE
    assert "the server's key is not the pinned one" in record.reason
    assert target.requests == []


async def test_the_hint_about_a_certificate_names_settings(world):
    async with world(INJECTED, start=False) as (here, target):
        text = settings_of({"desktops": ([target.address], INJECTED)})
        await here.write(text.replace(f'pins = ["{PIN}"]', 'authorities = "gateway.pem"'))
        await here.gateway.start()
        with pytest.raises(acredssp.AuthenticationError):
            await here.connect()
        (record,) = await here.until_ended()
        await here.gateway.stop()
    assert f"pin its key (pins): {PIN}" in record.reason


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        ('certificate_name = "desktop.example"', ("desktop.example", None)),
        (
            'certificate_name = "desktop.example"\nspn = "TERMSRV/farm.example"',
            ("desktop.example", "TERMSRV/farm.example"),
        ),
        ("", ("127.0.0.1", None)),
    ],
)
async def test_a_target_is_asked_for_by_the_names_of_its_settings(world, monkeypatch, names, asked):
    found, open_connection = [], leg.open_connection

    def noted(*arguments, server_hostname, spn, **options):
        found.append((server_hostname, spn))
        return open_connection(*arguments, server_hostname=server_hostname, spn=spn, **options)

    monkeypatch.setattr(leg, "open_connection", noted)
    async with world(f"{INJECTED}\n{names}") as (here, _):
        await leave(await here.connect())
        await here.until_ended()
    assert found == [asked]


async def test_a_client_that_leaves_while_its_target_leg_is_made_leaves_nothing_behind(world):
    async with world(INJECTED) as (here, target):
        target.release = asyncio.Event()
        connecting = asyncio.ensure_future(here.connect())
        await target.asked.wait()
        connecting.cancel()
        (record,) = await here.until_ended()
        target.release.set()
    assert record.outcome == "left"
    assert target.logons == []
    assert here.gateway.connections == frozenset()


# --- what a client may ask for ---


async def test_a_client_may_ask_for_restricted_admin_where_the_listener_and_the_target_let_it(world):
    async with world(INJECTED, listener="restricted_admin = true\n") as (here, target):
        streams = await here.connect(delegate=acredssp.credentials.Nothing())
        await talk(streams)
        await leave(streams)
        await here.until_ended()
    assert target.logons == [("SERVERS\\svc", DelegatedKind.PASSWORD, "server's")]
    assert target.requests[0].flags == RequestFlags(0)


async def test_a_client_with_restricted_admin_is_told_that_its_target_needs_a_password(world):
    async with world(listener="restricted_admin = true\n") as (here, _target):
        with pytest.raises(acredssp.AuthenticationError) as raised:
            await here.connect(delegate=acredssp.credentials.Nothing())
        (record,) = await here.until_ended()
    assert raised.value.nt_status == NTSTATUS.STATUS_ACCOUNT_RESTRICTION
    assert record.reason == "target desktops: expected the user to delegate a password, got nothing"


@pytest.mark.parametrize("flag", [*RequestFlags][:2], ids=str)
async def test_a_client_that_asks_for_what_the_listener_has_not_is_turned_away_before_tls(world, flag):
    async with world() as (here, _target):
        with pytest.raises(acredssp.NegotiationFailure) as raised:
            await here.connect(request_flags=flag)
        (record,) = await here.until_ended()
    assert raised.value.failure_code == FailureCode.INCONSISTENT_FLAGS
    assert record.reason.startswith("the client asks for re")


# --- routes ---


def routed(*routes):
    return "".join(f"[[listeners.routes]]\n{route}\n" for route in routes)


ELSEWHERE = 'target = "elsewhere"'
DESKTOPS = 'target = "desktops"'


@pytest.mark.parametrize(
    ("route", "reached"),
    [
        ('users = ["alice"]', True),
        ('users = ["CONTOSO\\\\Alice"]', True),
        ('users = ["alice@contoso"]', True),
        ('users = ["FABRIKAM\\\\alice", "bob"]', False),
        ('groups = ["operators"]', True),
        ('groups = ["guests", "operators"]', True),
        ('groups = ["guests"]', False),
        ('sni = "Desk.Example.com"', True),
        ('sni = "*.example.com"', True),
        ('sni = "other.example.com"', False),
        ('cookie = "ALICE"', True),
        ('cookie = "bob"', False),
        ('token = "blue"', False),
        ('users = ["alice"]\ncookie = "bob"', False),
    ],
)
async def test_the_first_route_that_fits_is_taken(world, route, reached):
    groups = '[groups]\noperators = ["alice"]\nguests = ["bob"]\n'
    routes = routed(f"{route}\n{DESKTOPS}", ELSEWHERE)
    elsewhere = '\n[targets.elsewhere]\naddresses = ["127.0.0.1:1"]\n'
    async with world(routes=routes, rest=elsewhere + groups) as (here, _target):
        with contextlib.nullcontext() if reached else pytest.raises(acredssp.AccessDenied):
            await leave(await here.connect(cookie="alice", sni="desk.example.com"))
        (record,) = await here.until_ended()
    assert record.target == ("desktops" if reached else "elsewhere")


async def test_a_user_whom_no_route_leads_anywhere_is_told_so(world):
    async with world(routes=routed(f'users = ["bob"]\n{DESKTOPS}')) as (here, _target):
        with pytest.raises(acredssp.AuthenticationError) as raised:
            await here.connect()
        (record,) = await here.until_ended()
    assert raised.value.nt_status == NTSTATUS.STATUS_LOGON_NOT_GRANTED
    assert record.reason == "no route leads this user to a target"


async def test_a_client_that_fits_no_route_is_turned_away_before_tls(world):
    async with world(routes=routed(f'token = "blue"\n{DESKTOPS}')) as (here, _target):
        with pytest.raises(acredssp.NegotiationFailure) as raised:
            await here.connect(routing_token="red")
    assert raised.value.failure_code == FailureCode.SSL_NOT_ALLOWED_BY_SERVER


@pytest.fixture
def plugin(monkeypatch):
    """A module of somebody else's, with the function that a test gives it: `gateway_plugin:function`."""
    module = types.ModuleType("gateway_plugin")
    monkeypatch.setitem(sys.modules, "gateway_plugin", module)

    def install(function):
        module.function = function

    return install


def as_coroutine(function):
    async def wrapped(*arguments):
        await asyncio.sleep(0)
        return function(*arguments)

    return wrapped


@pytest.mark.parametrize("shape", [lambda function: function, as_coroutine], ids=["plain", "coroutine"])
async def test_a_plug_in_names_the_target_or_leaves_it_to_the_next_route(world, plugin, shape):
    asked = []

    def choose(who):
        asked.append(str(who.principal))
        return "desktops" if who.principal.user == "alice" else None

    plugin(shape(choose))
    routes = routed('entry = "gateway_plugin:function"')
    async with world(routes=routes) as (here, _target):
        await leave(await here.connect())
        with pytest.raises(acredssp.AuthenticationError):
            await here.connect(BOB)
        first, second = await here.until_ended(2)
    assert (first.target, second.reason) == ("desktops", "no route leads this user to a target")
    assert asked == ["CONTOSO\\alice", "bob"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda _who: "c4nary", "named no target of the settings"),
        (lambda _who: 5, "named no target of the settings"),
        (lambda _who: 1 / 0, "failed with ZeroDivisionError"),
    ],
    ids=["unknown", "no-name", "raises"],
)
async def test_a_plug_in_that_fails_refuses_the_user(world, plugin, answer, reason):
    plugin(answer)
    async with world(routes=routed('entry = "gateway_plugin:function"')) as (here, target):
        with pytest.raises(acredssp.AuthenticationError) as raised:
            await here.connect()
        (record,) = await here.until_ended()
    assert raised.value.nt_status == NTSTATUS.STATUS_NO_LOGON_SERVERS
    assert record.reason.startswith(f"the route's entry gateway_plugin:function {reason}")
    assert target.requests == []


@pytest.mark.parametrize("shape", [lambda function: function, as_coroutine], ids=["plain", "coroutine"])
async def test_a_plug_in_gives_the_injected_credentials(world, plugin, shape):
    plugin(
        shape(
            lambda who, name: (
                Password("server's", "svc") if (who.principal.user, name) == ("alice", "desktops") else Deny()
            )
        )
    )
    more = "credentials = 'injected'\nlookup = 'gateway_plugin:function'\n"
    async with world(more) as (here, target):
        await leave(await here.connect())
        with pytest.raises(acredssp.AuthenticationError) as raised:
            await here.connect(BOB)
        await here.until_ended(2)
    assert raised.value.nt_status == NTSTATUS.STATUS_LOGON_FAILURE
    assert [str(each) for each, *_ in target.logons] == ["svc"]


@pytest.mark.parametrize("answer", [None, "c4nary", NTHash(bytes(16), "svc")], ids=["none", "text", "hash"])
async def test_credentials_that_a_plug_in_may_not_give_refuse_the_user(world, plugin, answer):
    plugin(lambda _who, _name: answer)
    async with world("credentials = 'injected'\nlookup = 'gateway_plugin:function'\n") as (here, _target):
        with pytest.raises(acredssp.AuthenticationError) as raised:
            await here.connect()
        (record,) = await here.until_ended()
    assert raised.value.nt_status == NTSTATUS.STATUS_NO_LOGON_SERVERS
    assert f"got {type(answer).__name__}" in record.reason
    assert "c4nary" not in record.reason


async def test_a_lookup_of_ones_own_says_who_may_log_on(world, plugin):
    plugin(as_coroutine(lambda who: BOB if who.principal.user == "bob" else Deny()))
    async with world(start=False) as (here, target):
        text = settings_of({"desktops": ([target.address], "")})
        await here.write(text.replace('users = "users"', 'lookup = "gateway_plugin:function"'))
        await here.gateway.start()
        await leave(await here.connect(BOB))
        with pytest.raises(acredssp.AuthenticationError):
            await here.connect()
        await here.until_ended(2)
        await here.gateway.stop()
    assert [each for each, *_ in target.logons] == ["bob"]


async def test_credentials_of_nobody_are_told_of(world, plugin):
    plugin(as_coroutine(lambda *_: Password("c4nary", "")))
    async with world("credentials = 'injected'\nlookup = 'gateway_plugin:function'\n") as (here, target):
        with pytest.raises(acredssp.AuthenticationError) as raised:
            await here.connect()
        (record,) = await here.until_ended()
    assert raised.value.nt_status == NTSTATUS.STATUS_LOGON_FAILURE
    assert record.reason.startswith("target desktops: authenticate: expected the name of an account")
    assert target.logons == []


# --- several hosts ---


async def test_the_next_host_is_taken_where_one_cannot_be_connected_to(world):
    async with world(start=False) as (here, target):
        await here.write(settings_of({"desktops": (["127.0.0.1:1", target.address], "")}))
        await here.gateway.start()
        await leave(await here.connect())
        (record,) = await here.until_ended()
        await here.gateway.stop()
    assert record.host == target.address


async def test_a_connection_that_has_ended_counts_no_more(world):
    async with world(start=False) as (here, target):
        await here.write(settings_of({"desktops": ([target.address, "127.0.0.1:1"], "")}))
        await here.gateway.start()
        for count in (1, 2, 3):
            await leave(await here.connect())
            await here.until_ended(count)
            assert [host.connections for host in here.gateway.plan.targets["desktops"].pool.hosts] == [0, 0]
        await here.gateway.stop()


async def test_a_connection_that_has_ended_is_freed_without_the_garbage_collector(world):
    alive = Alive(Connection, _Relay)
    async with world() as (here, _target):
        gc.collect()
        gc.disable()
        try:
            for count in (1, 2, 3):
                streams = await here.connect()
                await talk(streams)
                assert alive() == [Connection, _Relay]
                await leave(streams)
                del streams
                await here.until_ended(count)
                await turns(5)
                assert alive() == []
        finally:
            gc.enable()


async def fail_by_garbage(here):
    _, writer = await asyncio.open_connection(*here.address)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    return writer


async def fail_by_leaving(here):
    reader, writer = await asyncio.open_connection(*here.address)
    writer.write(rdp.ConnectionRequest(requested_protocols=rdp.Protocols.HYBRID).encode())
    await rdp.read_negotiation(reader)
    return writer


async def fail_by_a_bad_record(here):
    writer = await fail_by_leaving(here)
    writer.write(b"no TLS")
    return writer


async def fail_by_a_wrong_password(here):
    with pytest.raises(acredssp.AuthenticationError):
        await here.connect(Password("wrong", "alice", "CONTOSO"))


FAILURES = {
    "garbage": fail_by_garbage,
    "leaves": fail_by_leaving,
    "record": fail_by_a_bad_record,
    "password": fail_by_a_wrong_password,
}


@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES)
async def test_a_handshake_that_has_failed_is_freed_without_the_garbage_collector(world, fail):
    alive = Alive(Connection, ServerHandshake)
    async with world() as (here, _target):
        gc.collect()
        gc.disable()
        try:
            for count in (1, 2, 3):
                if (writer := await fail(here)) is not None:
                    writer.close()
                await here.until_ended(count)
                await until(lambda: not alive())
        finally:
            gc.enable()


async def test_a_client_that_leaves_while_the_store_is_told_of_its_host_counts_no_more(world):
    asked = asyncio.Event()

    class Slow:
        async def host_of(self, *_):
            return None

        async def stick(self, *_):
            asked.set()
            await asyncio.Event().wait()

    async with world() as (here, target):
        await here.write(settings_of({"desktops": ([target.address, "127.0.0.1:1"], INJECTED)}))
        await here.gateway.reload()
        pool = here.gateway.plan.targets["desktops"].pool
        pool.directory = Slow()
        connecting = asyncio.ensure_future(here.connect())
        await asked.wait()
        connecting.cancel()
        await here.until_ended()
        assert [host.connections for host in pool.hosts] == [0, 0]


async def test_the_host_with_the_fewest_connections_is_taken(world):
    other = await Target().start()
    async with world(start=False) as (here, target):
        await here.write(settings_of({"desktops": ([target.address, other.address], "sticky = 0\n")}))
        await here.gateway.start()
        streams = [await here.connect() for _ in range(4)]
        for each in streams:
            await talk(each)
        assert (len(target.initials), len(other.initials)) == (2, 2)
        for each in streams:
            await leave(each)
        await here.until_ended(4)
        await here.gateway.stop()
    await other.stop()


SENT = random.Random(7).randbytes(8 * 2**20)


def with_small_buffers(transport):
    """Have the kernel keep little of what passes: it may keep many megabytes."""
    for option in socket.SO_SNDBUF, socket.SO_RCVBUF:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 65_536)


@dataclasses.dataclass
class Flood(Target):
    """A desktop that sends much at once, and reads only when the test lets it."""

    reads: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    heard: bytes = b""

    async def _serve(self, reader, writer):
        acredssp.take_credentials(writer).zero()
        await rdp.read_pdu(reader)
        with_small_buffers(writer.transport)
        writer.write(self.behind + SENT)
        await self.reads.wait()
        self.heard = await reader.readexactly(len(SENT))
        await writer.drain()
        writer.close()


async def test_two_sides_that_read_nothing_make_each_other_wait_and_little_is_stored(world):
    async with world(start=False) as (here, _):
        flood = await Flood().start()
        try:
            await here.write(settings_of({"desktops": ([flood.address], "")}))
            await here.gateway.start()
            reader, writer = await here.connect()
            writer.write(MCS)
            await rdp.read_pdu(reader)
            (connection,) = here.gateway.connections
            legs = [connection._writer.transport, connection.front.leg.streams[1].transport]
            for transport in writer.transport, *legs:
                with_small_buffers(transport)
            writer.write(SENT)
            await until(lambda: not any(leg.is_reading() for leg in legs))
            for leg in legs:  # its high-water mark, one read, and what TLS adds
                assert 0 < leg.get_write_buffer_size() < 64 * 1024 + 2 * 256 * 1024
            flood.reads.set()
            assert await reader.readexactly(len(SENT)) == SENT
            await until(lambda: flood.heard)
            assert flood.heard == SENT
            writer.close()
            (record,) = await here.until_ended()
        finally:
            flood.reads.set()
            await here.gateway.stop()
            await flood.stop()
    assert record.bytes_up >= len(SENT)
    assert record.bytes_down >= len(SENT)


# --- reload and stop ---


async def test_a_reload_takes_users_for_the_connections_to_come(world):
    async with world() as (here, _target):
        streams = await here.connect()
        await talk(streams)
        await here.write(":bob:b0bs\n", "users")
        await here.gateway.reload()
        with pytest.raises(acredssp.AuthenticationError):
            await here.connect()
        await leave(await here.connect(BOB))
        streams[1].write(b"still there")
        assert await streams[0].readexactly(11) == b"still there"
        await leave(streams)
        await here.until_ended(3)


async def test_a_gateway_that_ends_takes_no_other_settings(world):
    async with world(start=False) as (here, _):
        await here.gateway.start()
        streams = await here.connect()
        await talk(streams)
        ending = asyncio.create_task(here.gateway.stop())
        while not here.gateway.draining:  # noqa: ASYNC110
            await asyncio.sleep(0)
        with pytest.raises(SettingsError, match="the gateway ends"):
            await here.gateway.reload()
        await leave(streams)
        assert await ending == 0


async def test_a_reload_takes_a_certificate(world):
    async with world() as (here, _target):
        before = await here.connect()
        certificate, key = acredssp.self_signed(["new"], "ec")
        await here.write(certificate.decode(), "gateway.pem")
        await here.write(key.decode(), "gateway.key")
        await here.gateway.reload()
        after = await here.connect()
        keys = [each[1].get_extra_info("credssp").peer_key_sha256 for each in (before, after)]
        await leave(before)
        await leave(after)
        await here.until_ended(2)
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text + "c4nary = 1", "targets.desktops.c4nary: no such setting"),
        (lambda text: text.replace('"users"', '"absent"'), "listeners[0].logon.users: "),
        (
            lambda text: (
                text.replace("[[", "handshake_timeout = 5\n[[", 1)[0:0]
                + text.replace('"127.0.0.1:0"\n', '"127.0.0.1:0"\nhandshake_timeout = 5\n')
            ),
            "listeners[0].handshake_timeout: expected no change without a restart",
        ),
        (
            lambda text: text.replace("127.0.0.1:0", "192.0.2.1:9"),
            "listeners[0].address: cannot assign requested address",
        ),
    ],
    ids=["setting", "file", "restart", "address"],
)
async def test_settings_that_cannot_be_used_change_nothing_and_say_why(world, change, said):
    async with world() as (here, target):
        text = settings_of({"desktops": ([target.address], "")})
        await here.write(change(text))
        with pytest.raises(SettingsError) as raised:
            await here.gateway.reload()
        await leave(await here.connect())
        await here.until_ended()
    (problem,) = raised.value.problems
    assert problem.startswith(said)


async def test_a_listener_whose_address_another_one_has_is_named(world):
    async with world(start=False) as (here, target):
        text = settings_of({"desktops": ([target.address], "")})
        port = free_port()
        listener, bracket, targets = text.partition("\n[targets")
        both = [listener.replace("127.0.0.1:0", f"{host}:{port}") for host in ("127.0.0.1", "0.0.0.0")]  # noqa: S104
        await here.write("".join([*both, bracket, targets]))
        with pytest.raises(SettingsError) as raised:
            await here.gateway.start()
        await here.gateway.abort()
    assert raised.value.problems == [f"listener 0.0.0.0:{port}: address already in use"]


async def test_stop_waits_for_connections_that_end_by_themselves(world):
    async with world(start=False) as (here, _target):
        await here.gateway.start()
        streams = await here.connect()
        await talk(streams)
        stopping = asyncio.ensure_future(here.gateway.stop())
        await asyncio.sleep(0)
        streams[1].write(b"still there")
        assert await streams[0].readexactly(11) == b"still there"
        await leave(streams)
        assert await stopping == 0


async def test_an_address_that_the_settings_have_no_more_is_closed_and_its_connections_go_on(world):
    async with world(rest="[run]\ngrace = 0.05\n") as (here, _target):
        streams = await here.connect()
        await talk(streams)
        text = await asyncio.to_thread((here.folder / "settings.toml").read_text)
        before = here.address
        await here.write(text.replace("127.0.0.1:0", "localhost:0"))
        await here.gateway.reload()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*before)
        streams[1].write(b"still there")
        assert await streams[0].readexactly(11) == b"still there"
        assert await here.gateway.stop() == 1
        await leave(streams)
        await here.gateway.start()


async def test_stop_cuts_connections_after_the_grace(world):
    async with world(start=False, rest="[run]\ngrace = 0.05\n") as (here, _target):
        await here.gateway.start()
        streams = await here.connect()
        await talk(streams)
        assert await here.gateway.stop() == 1
        assert here.gateway.connections == frozenset()
        (record,) = here.records
        await leave(streams)
    assert record.outcome == "relayed"


# --- certificates by name ---


async def test_a_client_is_shown_the_certificate_of_the_name_that_it_asks_for(world):
    names = [("desk.example.com", "named"), ("other.example.com", "gateway")]
    pems = {name: acredssp.self_signed([name], "ec") for name in ("named", "gateway")}
    async with world(start=False) as (here, target):
        for name, (certificate, key) in pems.items():
            await here.write(certificate.decode(), f"{name}.pem")
            await here.write(key.decode(), f"{name}.key")
        more = '{ certificate = "named.pem", key = "named.key", names = ["desk.example.com"] }, { cert'
        await here.write(settings_of({"desktops": ([target.address], "")}).replace("{ cert", more, 1))
        await here.gateway.start()
        for asked, shown in names:
            streams = await here.connect(sni=asked)
            pin = acredssp.pin_of(ssl.PEM_cert_to_DER_cert(pems[shown][0].decode()))
            assert streams[1].get_extra_info("credssp").peer_key_sha256 == pin
            await leave(streams)
        await here.until_ended(2)
        await here.gateway.stop()


# --- which host ---

DOWN = "check = { interval = 0.01, failures = 1 }\n"


async def test_a_host_that_is_down_is_noticed_and_a_reload_goes_on_with_that(world):
    async with world() as (here, target):
        text = settings_of({"desktops": (["127.0.0.1:1", target.address], DOWN)})
        await here.write(text)
        await here.gateway.reload()
        pool = here.gateway.plan.targets["desktops"].pool
        await until(lambda: not pool.is_up(pool.hosts[0]))
        await here.write(text.replace("interval = 0.01", "interval = 3600"))
        await here.gateway.reload()
        after = here.gateway.plan.targets["desktops"].pool
        assert after is not pool
        assert await after.in_order(None) == [pool.hosts[1].address]


async def test_a_user_is_told_that_all_hosts_are_down_before_anything_is_delegated(world):
    """By HYBRID, nothing could be told afterwards."""
    async with world() as (here, _):
        await here.write(settings_of({"desktops": (["127.0.0.1:1"], DOWN)}))
        await here.gateway.reload()
        pool = here.gateway.plan.targets["desktops"].pool
        await until(lambda: not pool.is_up(pool.hosts[0]))
        with pytest.raises(acredssp.AuthenticationError) as raised:
            await here.connect(hybrid_ex=False)
        (record,) = await here.until_ended()
        assert record.reason == "target desktops: 127.0.0.1:1 is down: connection refused"
    assert raised.value.nt_status == NTSTATUS.STATUS_NO_LOGON_SERVERS


async def test_a_user_who_comes_again_finds_the_same_host_and_a_token_leads_to_another(world):
    async with world() as (here, target):
        other = await Target().start()
        hosts = [target.address, other.address]
        more = f'tokens = {{ "tsv://second" = "{other.address}", "tsv://first" = "{target.address}" }}\n'
        route = '[[listeners.routes]]\ntoken = "tsv://farm"\ntarget = "desktops"\n'
        await here.write(settings_of({"desktops": (hosts, more)}, route))
        await here.gateway.reload()

        async def connect(token):
            _, writer = await here.connect(routing_token=token)
            return writer

        first = await connect("tsv://first")
        writers = [await connect("tsv://farm") for _ in range(3)]
        second = await connect("tsv://second")
        writers += [await connect("tsv://farm") for _ in range(3)]
        for writer in [first, second, *writers]:
            writer.close()
        records = await here.until_ended(8)
        assert sorted(record.host for record in records) == sorted([*hosts] * 4)
        with pytest.raises(acredssp.NegotiationFailure):
            await connect("tsv://third")
        await other.stop()


async def test_a_gateway_ends_at_once_with_a_block_that_fails(world):
    async with world(rest="[run]\nleave = 3600\ngrace = 3600\n", start=False) as (here, _):
        with pytest.raises(ZeroDivisionError):
            async with here.gateway as gateway:
                await gateway.start()
                reader, _ = await here.connect()
                raise ZeroDivisionError
        assert not gateway.connections
        with contextlib.suppress(acredssp.CredSSPError, ConnectionError):
            assert await reader.read() == b""
        assert [record.ended_by for record in here.records] == ["drained"]
        assert not gateway.addresses


async def test_a_gateway_that_could_not_start_ends_with_the_block(world):
    async with world(start=False) as (here, _):
        await here.write("nonsense = 1\n")
        with pytest.raises(SettingsError):
            async with here.gateway as gateway:
                await gateway.start()
        assert not gateway.node._tasks
