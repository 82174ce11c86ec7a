"""The hosts of a pool: which are up, and which one a connection gets."""

import asyncio
import contextlib
import logging

import pytest
from support.endpoints import until

from acredssp import Account
from acredssp import hosts as pools
from acredssp.hosts import HealthCheck, HostPool
from acredssp.rdp import ConnectionConfirm, FailureCode, Protocols, read_negotiation
from acredssp.workers import Address

ALICE = Account("alice", "CONTOSO")
A, B, C = (Address(f"10.0.0.{number}", 3389) for number in (1, 2, 3))
CONFIRM = ConnectionConfirm(selected_protocol=Protocols.HYBRID).encode()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def make_pool(*addresses, clock=None, chance=lambda: 0.5, check=None, **options):
    check = HealthCheck(**check or {})
    return HostPool("desktops", addresses, clock=clock or Clock(), chance=chance, check=check, **options)


def fail(pool, address, times=3):
    for _ in range(times):
        pool.note(address, "connection refused")


# --- which host ---


async def test_the_host_with_the_fewest_connections_comes_first():
    pool = make_pool(A, B, C)
    with pool.connection(A), pool.connection(A), pool.connection(C):
        assert await pool.in_order(None) == [B, C, A]
        with pool.connection(B), pool.connection(B), pool.connection(B):
            assert await pool.in_order(None) == [C, A, B]
    with pool.connection(A):
        assert (await pool.in_order(None))[-1] == A


async def test_chance_decides_between_hosts_with_as_many_connections():
    chances = iter([0.9, 0.1, 0.5])
    assert await make_pool(A, B, C, chance=lambda: next(chances)).in_order(None) == [B, C, A]


async def test_a_connection_that_is_closed_twice_counts_once():
    pool = make_pool(A, B)
    first, second = pool.connection(A), pool.connection(A)
    first.close()
    first.close()
    assert [host.connections for host in pool.hosts] == [1, 0]
    second.close()
    assert [host.connections for host in pool.hosts] == [0, 0]


@pytest.mark.parametrize("error", [None, RuntimeError("the relay failed")])
async def test_a_connection_counts_until_its_end(error):
    pool = make_pool(A, B)
    with contextlib.suppress(RuntimeError), pool.connection(A):
        assert [host.connections for host in pool.hosts] == [1, 0]
        if error:
            raise error
    assert [host.connections for host in pool.hosts] == [0, 0]


@pytest.mark.parametrize("who", [ALICE, "alice"])
async def test_somebody_who_comes_again_finds_the_same_host(who):
    pool = make_pool(A, B)
    await pool.stick(who, B)
    with pool.connection(B), pool.connection(B):
        assert await pool.in_order(who) == [B, A]
        assert await pool.in_order(Account("bob")) == [A, B]
        assert await pool.in_order("ALICE" if who == "alice" else Account("ALICE", "contoso")) == [B, A]


async def test_a_name_that_is_claimed_moves_nobody_who_has_logged_on():
    pool = make_pool(A, B)
    await pool.stick(Account("alice"), A)
    await pool.stick("alice", B)
    assert await pool.in_order(Account("alice")) == [A, B]
    assert await pool.in_order("alice") == [B, A]


async def test_a_host_is_remembered_for_some_time():
    clock = Clock()
    pool = make_pool(A, B, clock=clock, sticky=100.0)
    await pool.stick(ALICE, B)
    with pool.connection(B):
        clock.now = 99.9
        assert await pool.in_order(ALICE) == [B, A]
        clock.now = 100.0
        assert await pool.in_order(ALICE) == [A, B]


async def test_nobody_is_remembered_where_the_settings_say_so():
    pool = make_pool(A, B, sticky=0)
    await pool.stick(ALICE, B)
    with pool.connection(B):
        assert await pool.in_order(ALICE) == [A, B]


async def test_those_who_came_longest_ago_are_forgotten_first(monkeypatch):
    monkeypatch.setattr(pools, "_MOST_USERS", 2)
    pool = make_pool(A, B)
    for user in ("one", "two", "one", "three"):
        await pool.stick(Account(user), B)
    with pool.connection(B):
        orders = [(await pool.in_order(Account(user)))[0] for user in ("one", "two", "three")]
    assert orders == [B, A, B]


class Directory:
    def __init__(self, answer=None):
        self.answer, self.noted = answer, []

    async def stick(self, account, target, host, ttl):
        self.noted.append((account, target, host, ttl))
        if isinstance(self.answer, Exception):
            raise self.answer

    async def host_of(self, account, target):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "first"),
    [(str(B), B), (None, C), ("10.9.9.9:3389", A), (ConnectionError("the store is down"), C)],
    ids=["known", "came back empty", "no host any more", "down"],
)
async def test_a_directory_of_all_nodes_is_asked_and_this_process_where_it_knows_nothing(answer, first):
    directory = Directory(answer)
    pool = make_pool(A, B, C, directory=directory, sticky=60.0)
    await pool.stick(ALICE, C)
    assert directory.noted == [(ALICE, "desktops", str(C), 60.0)]
    assert (await pool.in_order(ALICE))[0] == first


async def test_a_directory_that_never_answers_is_not_waited_for(monkeypatch):
    class Silent:
        async def stick(self, *_args):
            await asyncio.Event().wait()

        host_of = stick

    monkeypatch.setattr(pools, "_PATIENCE", 0.01)
    pool = make_pool(A, B, C, directory=Silent(), sticky=60.0)
    await pool.stick(ALICE, C)
    assert (await pool.in_order(ALICE))[0] == C


@pytest.mark.parametrize(
    ("token", "first"),
    [
        ("Cookie: msts=33554442.15629.0000", B),  # 0x0200000A: 10.0.0.2, and 0x3D0D: 3389
        ("Cookie: msts=33554442.15629.", B),
        ("Cookie: msts=33554442.15629.0000 ", B),
        ("Cookie: msts=33554442.15630.0000", A),
        ("Cookie: msts=33554442.81165.0000", A),
        ("Cookie: msts=4328521738.15629.0000", A),
        ("Cookie: msts=-1.15629.0000", A),
        ("tsv://VMResource.1.b", B),
        ("tsv://VMResource.1.c", A),
        ("", A),
    ],
)
async def test_a_routing_token_names_a_host_of_the_target(token, first):
    pool = make_pool(A, B, tokens={"tsv://VMResource.1.b": B})
    with pool.connection(B):
        assert (await pool.in_order(ALICE, token))[0] == first
        await pool.stick(ALICE, A)
        assert (await pool.in_order(ALICE, token))[0] == first


async def test_the_msts_token_of_microsofts_documentation_names_its_address():
    address = Address("172.31.249.216", 3389)
    assert make_pool(A, address).named("Cookie: msts=3640205228.15629.0000") == address


# --- who is up ---


async def test_a_host_that_is_down_is_left_out_and_one_success_brings_it_back(caplog):
    caplog.set_level(logging.INFO, "acredssp.hosts")
    pool = make_pool(A, B, check={"failures": 3})
    await pool.stick(ALICE, B)
    fail(pool, B, 2)
    assert await pool.in_order(ALICE, "Cookie: msts=33554442.15629.0000") == [B, A]
    fail(pool, B, 5)
    assert await pool.in_order(ALICE, "Cookie: msts=33554442.15629.0000") == [A]
    fail(pool, A)
    assert await pool.in_order(ALICE) == []
    assert pool.why_none() == f"{A} is down: connection refused; {B} is down: connection refused"
    pool.note(B, "")
    assert await pool.in_order(ALICE) == [B]
    assert [record.getMessage() for record in caplog.records] == [
        f"target desktops: host {B} is down: connection refused",
        f"target desktops: host {A} is down: connection refused",
        f"target desktops: host {B} is up again",
    ]


async def test_failures_count_one_after_another_only():
    pool = make_pool(A, B, check={"failures": 2})
    for why in ("refused", "", "refused", "", "refused"):
        pool.note(A, why)
    assert A in await pool.in_order(None)


async def test_a_reload_goes_on_with_what_is_known():
    before, after = make_pool(A, B), make_pool(B, C)
    await before.stick(ALICE, B)
    fail(before, B)
    with before.connection(B):
        after.take_over(before)
        assert await after.in_order(ALICE) == [C]
        after.note(B, "")
        assert [(host.address, host.connections) for host in after.hosts] == [(B, 1), (C, 0)]
        assert await after.in_order(ALICE) == [B, C]
        assert [host.address for host in before.hosts] == [A, B]
    assert [host.connections for host in after.hosts] == [0, 0]


# --- checks ---


@pytest.fixture
async def host():
    """Starts hosts: `await host(answer)`, whose answer to a Connection Request is bytes, or None for silence."""
    servers, writers = [], []

    async def start(answer, asked=None):
        async def serve(reader, writer):
            writers.append(writer)
            try:
                request = await read_negotiation(reader)
            except (OSError, EOFError):  # a check that is cancelled
                writer.close()
                return
            if asked is not None:
                asked.append(request)
            if answer is not None:
                writer.write(answer() if callable(answer) else answer)
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        return Address("127.0.0.1", server.sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()
    for writer in writers:
        writer.transport.abort()
    for server in servers:
        await server.wait_closed()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (CONFIRM, ""),
        (ConnectionConfirm(selected_protocol=Protocols.SSL).encode(), ""),
        (ConnectionConfirm().encode(), ""),
        (
            ConnectionConfirm(failure_code=FailureCode.SSL_CERT_NOT_ON_SERVER).encode(),
            "it refuses to negotiate: SSL_CERT_NOT_ON_SERVER",
        ),
        (b"", "it ended the connection in place of a connection confirm"),
        (CONFIRM[:-1], "it ended the connection in place of a connection confirm"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
    ],
)
async def test_a_check_is_a_negotiation(host, answer, why):
    address = await host(answer)
    pool = make_pool(address, check={"timeout": 30.0})
    said = await pool.check(address)
    assert (said == why) if why != "SSH" else ("ssh" in said.lower())
    assert pool.hosts[0].ip == "127.0.0.1"


async def test_a_host_that_does_not_answer_fails_its_check(host, monkeypatch):
    asked, limits, timeout = [], [], asyncio.timeout
    monkeypatch.setattr(asyncio, "timeout", lambda delay: limits.append(timeout(delay)) or limits[-1])
    address = await host(None, asked)
    check = asyncio.create_task(make_pool(address, check={"timeout": 30.0}).check(address))
    await until(lambda: asked)
    limits[0].reschedule(asyncio.get_running_loop().time())
    assert await check == "rdp does not answer within 30 seconds"


async def test_a_host_that_cannot_be_connected_to_fails_its_check(host):
    address = await host(CONFIRM)
    closed = Address("127.0.0.1", 1)
    pool = make_pool(address, closed, Address(f"{'a' * 64}.example", 3389))
    assert await pool.check(closed) == "connection refused"
    assert await pool.check(pool.hosts[2].address)


async def test_a_host_by_name_is_known_to_msts_tokens_after_a_check(host):
    address = await host(CONFIRM)
    named = Address("localhost", address.port)
    pool = make_pool(named)
    number, port = int.from_bytes(bytes([127, 0, 0, 1]), "little"), int.from_bytes(address.port.to_bytes(2), "little")
    token = f"Cookie: msts={number}.{port}.0000"
    assert pool.named(token) is None
    assert await pool.check(named) == ""
    assert pool.named(token) == named


async def test_hosts_are_watched_until_cancelled(host):
    asked, answers = [], iter([CONFIRM, b"", b"", b"", CONFIRM])
    address = await host(lambda: next(answers, CONFIRM), asked)
    silent = await host(None)
    pool = make_pool(address, silent, check={"interval": 0.001, "timeout": 30.0, "failures": 3})
    seen, note = [], pool.note

    def noted(address, why):
        note(address, why)
        seen.append(pool.is_up(pool.hosts[0]))

    pool.note = noted
    watching = asyncio.ensure_future(pool.watch())
    await until(lambda: len(seen) >= 5)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert seen[:5] == [True, True, True, False, True]


async def test_the_time_between_checks_varies(host, monkeypatch):
    slept, chances = [], iter([0.0, 0.5, 1.0])
    sleep = asyncio.sleep

    async def note_sleep(seconds):
        slept.append(seconds)
        await sleep(0 if len(slept) < 3 else 3600)

    address = await host(CONFIRM)
    pool = make_pool(address, check={"interval": 10.0}, chance=lambda: next(chances))
    monkeypatch.setattr(pools.asyncio, "sleep", note_sleep)
    watching = asyncio.ensure_future(pool.watch())
    while len(slept) < 3:
        await sleep(0)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert slept == [8.0, 10.0, 12.0]


async def test_nothing_is_checked_where_the_settings_say_so():
    pool = make_pool(Address("127.0.0.1", 1), check={"enabled": False})
    await pool.watch()
    assert pool.hosts[0].why == ""
