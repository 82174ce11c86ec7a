"""Connections that the gateway passes on undecrypted."""

import asyncio
import socket
import struct

import pytest
from support.endpoints import PIN, until
from support.gateway import BOB, leave, settings_of, talk

import acredssp
from acredssp import rdp
from acredssp.proxy import connection
from acredssp.rdp import ConnectionConfirm, ConnectionRequest, FailureCode, PreconnectionPDU, Protocols

PASSED_ON = '[[listeners.routes]]\ntoken = "tsv://pass"\ntarget = "desktops"\nmode = "passthrough"\n'
OTHERS = '[[listeners.routes]]\ntarget = "desktops"\n'
NLA = Protocols.SSL | Protocols.HYBRID


async def take(here, addresses, routes=PASSED_ON + OTHERS, more="", listener="", **rest):
    await here.write(settings_of({"desktops": (addresses, more)}, routes, listener=listener, **rest))
    await here.gateway.reload()


async def negotiate(here, protocols, token="tsv://pass", before=b""):
    """Begin as a client that asks for these protocols; give its streams, and the answer or None for none."""
    reader, writer = await asyncio.open_connection(*here.address)
    writer.write(before + ConnectionRequest(requested_protocols=protocols, routing_token=token).encode())
    try:
        return (reader, writer), ConnectionConfirm.decode(await rdp.read_negotiation(reader))
    except EOFError:
        writer.close()
        return (reader, writer), None


class Answering:
    """A target that notes what comes, and answers the first of it."""

    def __init__(self, answer):
        self.answer, self.heard, self.writers = answer, bytearray(), []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def _serve(self, reader, writer):
        self.writers.append(writer)
        while data := await reader.read(65536):
            self.heard += data
            if self.answer is not None:
                writer.write(self.answer)
        writer.close()

    async def __aexit__(self, *_):
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        await self.server.wait_closed()


async def test_a_user_logs_on_to_the_target_itself(world):
    async with world() as (here, target):
        await take(here, [target.address])
        streams = await here.connect(routing_token="tsv://pass")
        assert streams[1].get_extra_info("credssp").peer_key_sha256 == PIN
        await talk(streams)
        await leave(streams)
        (record,) = await here.until_ended()
    assert target.logons == [("CONTOSO\\alice", acredssp.credentials.DelegatedKind.PASSWORD, "wonderland")]
    assert (record.outcome, record.ended_by, record.target) == ("passed_on", "client", "desktops")
    assert (record.host, record.user, record.mechanism) == (target.address, "", "")
    assert set(record.seconds) == {"front", "connect", "negotiation", "relay"}
    assert record.bytes_up > 500
    assert record.bytes_down > 500


async def test_a_connection_that_is_reset_says_so_in_words(world):
    confirm = ConnectionConfirm(selected_protocol=Protocols.HYBRID).encode()
    async with world() as (here, _), Answering(confirm) as target:
        await take(here, [target.address])
        (_, writer), _ = await negotiate(here, NLA)
        linger = struct.pack("ii", 1, 0)  # a close is a reset
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        (record,) = await here.until_ended()
    assert (record.outcome, record.ended_by, record.reason) == ("passed_on", "client", "connection reset by peer")


async def test_other_clients_of_the_listener_log_on_here(world):
    async with world() as (here, target):
        await take(here, [target.address])
        streams = await here.connect(BOB)
        assert streams[1].get_extra_info("credssp").peer_key_sha256 != PIN
        await talk(streams)
        await leave(streams)
        (record,) = await here.until_ended()
    assert record.outcome == "relayed"


async def test_a_route_behind_one_that_may_fit_is_not_passed_on(world):
    async with world() as (here, target):
        await take(here, [target.address], OTHERS + PASSED_ON)
        streams = await here.connect(routing_token="tsv://pass")
        assert streams[1].get_extra_info("credssp").peer_key_sha256 != PIN
        await leave(streams)
        await here.until_ended()


@pytest.mark.parametrize("protocols", [Protocols.RDP, Protocols.SSL])
async def test_a_client_that_offers_no_logon_is_refused_unless_the_route_says_so(world, protocols):
    confirm = ConnectionConfirm(selected_protocol=protocols).encode()
    async with world() as (here, _), Answering(confirm) as target:
        await take(here, [target.address])
        (_, writer), answer = await negotiate(here, protocols)
        assert answer.failure_code is FailureCode.HYBRID_REQUIRED_BY_SERVER
        writer.close()
        (record,) = await here.until_ended()
        assert (record.outcome, bytes(target.heard)) == ("denied", b"")
        assert "allow_without_nla" in record.reason
        await take(here, [target.address], PASSED_ON + "allow_without_nla = true\n")
        (_, writer), answer = await negotiate(here, protocols)
        assert answer.selected_protocol == protocols
        writer.close()
        await here.until_ended(2)


@pytest.mark.parametrize("answer", [ConnectionConfirm(selected_protocol=Protocols.SSL), ConnectionConfirm()])
async def test_a_target_that_asks_for_no_logon_is_refused_unless_the_route_says_so(world, answer):
    async with world() as (here, _), Answering(answer.encode()) as target:
        await take(here, [target.address])
        (reader, writer), got = await negotiate(here, NLA)
        assert got.failure_code is FailureCode.HYBRID_REQUIRED_BY_SERVER
        assert await reader.read() == b""
        writer.close()
        (record,) = await here.until_ended()
        assert record.outcome == "denied"
        assert "by which nobody logs on first" in record.reason
        await take(here, [target.address], PASSED_ON + "allow_without_nla = true\n")
        (_, writer), got = await negotiate(here, NLA)
        assert got == answer
        writer.close()
        await here.until_ended(2)


@pytest.mark.parametrize("answer", [b"\x03\x00\x00\x13" + b"\xff" * 15, ConnectionRequest().encode()])
async def test_a_target_that_answers_something_else_is_refused_with_the_reason(world, answer):
    async with world() as (here, _), Answering(answer) as target:
        await take(here, [target.address])
        _, got = await negotiate(here, NLA)
        assert got is None
        (record,) = await here.until_ended()
    assert (record.outcome, record.status) == ("denied", "STATUS_NO_LOGON_SERVERS")
    assert f"target desktops at {target.address}: connection confirm: expected" in record.reason


@pytest.mark.parametrize("protocols", [Protocols.RDSTLS, Protocols.RDSAAD, Protocols.HYBRID_EX])
async def test_every_logon_that_the_gateway_does_not_know_passes(world, protocols):
    confirm = ConnectionConfirm(selected_protocol=protocols).encode()
    async with world() as (here, _), Answering(confirm) as target:
        await take(here, [target.address])
        (_, writer), answer = await negotiate(here, Protocols.SSL | protocols)
        assert answer.selected_protocol == protocols
        writer.close()
        await here.until_ended()


async def test_a_failure_code_of_the_target_reaches_the_client(world):
    confirm = ConnectionConfirm(failure_code=FailureCode.INCONSISTENT_FLAGS)
    async with world() as (here, _), Answering(confirm.encode()) as target:
        await take(here, [target.address])
        (_, writer), answer = await negotiate(here, NLA)
        assert answer == confirm
        writer.close()
        await here.until_ended()


@pytest.mark.parametrize("forward", [False, True])
async def test_the_target_gets_the_preconnection_pdu_where_the_route_says_so(world, forward):
    blob = PreconnectionPDU(id=7, blob="vm").encode()
    confirm = ConnectionConfirm(selected_protocol=Protocols.HYBRID).encode()
    route = '[[listeners.routes]]\nblob = "vm"\ntarget = "desktops"\nmode = "passthrough"\n'
    async with world(start=False) as (here, _), Answering(confirm) as target:
        more = f"forward_preconnection = {str(forward).lower()}\n"
        text = settings_of({"desktops": ([target.address], "check.enabled = false\n")}, route + more)
        await here.write(text.replace("[[listeners]]\n", "[[listeners]]\npreconnection = true\n", 1))
        await here.gateway.start()
        (_, writer), answer = await negotiate(here, NLA, before=blob)
        assert answer.selected_protocol is Protocols.HYBRID
        writer.close()
        await here.until_ended()
        await here.gateway.stop()
        request = ConnectionRequest(requested_protocols=NLA, routing_token="tsv://pass").encode()
        assert bytes(target.heard) == (blob if forward else b"") + request


async def test_the_next_host_is_taken_and_a_client_is_closed_where_there_is_none(world):
    async with world() as (here, target):
        off = "check.enabled = false\n"
        await take(here, ["127.0.0.1:1", target.address], more=off)
        for count in range(1, 9):
            await leave(await here.connect(routing_token="tsv://pass"))
            await here.until_ended(count)
        assert {record.host for record in here.records} == {target.address}
        await take(here, ["127.0.0.1:1"], more=off)
        _, answer = await negotiate(here, NLA)
        assert answer is None
        record = (await here.until_ended(9))[-1]
    assert (record.outcome, record.status) == ("denied", "STATUS_NO_LOGON_SERVERS")
    assert record.reason.endswith(": connection refused")  # it is down if chance has asked it three times before


async def test_a_client_cannot_mark_a_host_down(world):
    async with world() as (here, _), Answering(b"SSH-2.0\r\n") as target:
        await take(here, [target.address], more="check = { enabled = false, failures = 1 }\n")
        _, answer = await negotiate(here, NLA)
        assert answer is None
        await here.until_ended()
        pool = here.gateway.plan.targets["desktops"].pool
        assert pool.is_up(pool.hosts[0])
        assert pool.hosts[0].connections == 0


@pytest.mark.parametrize("relayed", [False, True], ids=["negotiating", "relayed"])
async def test_a_connection_can_be_cut(world, relayed):
    confirm = ConnectionConfirm(selected_protocol=Protocols.HYBRID).encode() if relayed else None
    async with world() as (here, _), Answering(confirm) as target:
        await take(here, [target.address], more="check.enabled = false\n")
        negotiating = asyncio.ensure_future(negotiate(here, NLA))
        while not target.heard:  # noqa: ASYNC110
            await asyncio.sleep(0)
        if relayed:
            await negotiating
        (connection,) = here.gateway.connections
        connection.cut("kicked")
        (record,) = await here.until_ended()
        (_, writer), _ = await negotiating
        writer.close()
    assert (record.outcome, record.ended_by) == ("passed_on" if relayed else "no_session", "kicked")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('users = ["alice"]\n', "entry, users, groups and sni: expected none with mode = 'passthrough'"),
        ('sni = "desk"\n', "entry, users, groups and sni: expected none with mode = 'passthrough'"),
    ],
)
def test_a_condition_that_needs_a_logon_is_refused(problems, text, said):
    (problem,) = problems(settings_of({"desktops": (["127.0.0.1:3389"], "")}, PASSED_ON + text))
    assert problem.startswith(f"listeners[0].routes[0]: {said}")


@pytest.mark.parametrize("name", ["allow_without_nla", "forward_preconnection"])
def test_what_is_for_passthrough_alone_is_refused_elsewhere(problems, name):
    (problem,) = problems(settings_of({"desktops": (["127.0.0.1:3389"], "")}, OTHERS + f"{name} = true\n"))
    assert "expected with mode = 'passthrough' alone" in problem


async def test_a_client_that_leaves_while_its_target_is_silent_gives_its_slot_back(world):
    request = ConnectionRequest(requested_protocols=NLA, routing_token="tsv://pass").encode()
    async with world() as (here, _), Answering(None) as target:
        await take(here, [target.address], more="check.enabled = false\n", rest="[limits]\nlogon = 3600.0\n")
        _, writer = await asyncio.open_connection(*here.address)
        writer.write(request)
        await until(lambda: target.heard)
        writer.transport.abort()
        (record,) = await here.until_ended()
    assert (record.outcome, record.ended_by) == ("no_session", "client")
    assert record.reason == "the client ended the connection before the target's answer"


async def test_what_a_client_sends_before_the_answer_of_its_target_passes_and_is_counted(world):
    confirm = ConnectionConfirm(selected_protocol=Protocols.HYBRID).encode()
    request = ConnectionRequest(requested_protocols=NLA, routing_token="tsv://pass").encode()
    async with world() as (here, _), Answering(None) as target:
        await take(here, [target.address], more="check.enabled = false\n", rest="[limits]\nlogon = 3600.0\n")
        streams = await asyncio.open_connection(*here.address)
        streams[1].write(request)
        await until(lambda: target.heard)
        streams[1].write(b"early")
        await until(lambda: target.heard.endswith(b"early"))
        target.writers[0].write(confirm)
        assert await rdp.read_negotiation(streams[0]) == confirm
        await leave(streams)
        (record,) = await here.until_ended()
    assert (record.outcome, record.ended_by, record.bytes_up) == ("passed_on", "client", 5)


async def test_a_client_that_stays_after_its_target_has_ended_gives_its_slot_back(world, monkeypatch):
    monkeypatch.setattr(connection, "_GRACE", 0.05)
    async with (
        world() as (here, _),
        Answering(ConnectionConfirm(selected_protocol=Protocols.HYBRID).encode()) as target,
    ):
        await take(here, [target.address], more="check.enabled = false\n")
        (reader, writer), _ = await negotiate(here, NLA)
        target.writers[0].write_eof()
        (record,) = await here.until_ended()
        assert await reader.read() == b""
        writer.close()
    assert (record.outcome, record.ended_by, record.reason) == ("passed_on", "target", "")
