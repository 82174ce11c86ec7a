import asyncio
import contextvars
import dataclasses
import random
import types

import pytest
from support.endpoints import (
    BOB,
    PASSWORD,
    Deadlines,
    Recorder,
    both,
    client_config,
    client_side,
    memory_pair,
    secure_pair,
    server_config,
    server_side,
    tls_policy,
    turns,
    until,
)

from acredssp.aio import driver
from acredssp.aio.driver import Pending, establish
from acredssp.carriage.base import TLS
from acredssp.carriage.rdp import RDP
from acredssp.core.results import StepResult
from acredssp.credentials import Deny, NTHash, Password
from acredssp.errors import (
    AccessDenied,
    AuthenticationError,
    CertificateError,
    HandshakeTimeout,
    LimitExceeded,
    NegotiationFailure,
    PeerClosed,
    RemoteProtocolError,
    TLSError,
)
from acredssp.mechanisms.base import StepMechanism
from acredssp.policy import MechanismChoice, Policy
from acredssp.status import NTSTATUS, SecurityStatus, Stage
from acredssp.trust import Trust

CARRIAGES = {"tls": TLS(), "rdp": RDP(cookie="bob"), "rdp-ex": RDP(hybrid_ex=True)}


def sides(pair=None, *, client=None, server=None, carriage=TLS(), **options):  # noqa: B008
    ours, theirs = pair or memory_pair()
    return client_side(ours, client, carriage, **options), server_side(theirs, server, carriage, **options)


def closed(*protocols):
    return all(protocol.lost and protocol.transport.is_closing() for protocol in protocols)


# --- the way through ---


@pytest.mark.parametrize("mechanism", [MechanismChoice.NTLM, MechanismChoice.NEGOTIATE])
@pytest.mark.parametrize("carriage", CARRIAGES.values(), ids=CARRIAGES)
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_both_sides_establish(version, carriage, mechanism):
    client, server = sides(
        client=client_config(tls_policy(version, mechanism=mechanism)), server=server_config(), carriage=carriage
    )
    ours, theirs = await both(client, server)
    assert ours.version == theirs.version == 6
    assert ours.mechanism == theirs.mechanism == "ntlm"
    assert ours.tls_version == theirs.tls_version == version
    assert ours.delegated == theirs.delegated == "password"
    assert (theirs.principal.user, theirs.principal.domain) == ("bob", "CONTOSO")
    assert server.carried.context.take_credentials().password == PASSWORD.encode("utf-16-le")
    assert not client.protocol.transport.is_closing()
    assert not server.protocol.transport.is_closing()


CUTS = {
    "single bytes": ([1], [1]),
    **{
        f"random {seed}": tuple([random.Random(seed + side).randint(1, 400) for _ in range(40)] for side in (0, 1000))
        for seed in range(3)
    },
}


@pytest.mark.parametrize("carriage", CARRIAGES.values(), ids=CARRIAGES)
@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
async def test_any_cut_of_the_stream_establishes(cuts, carriage):
    client, server = sides(memory_pair(*cuts), carriage=carriage)
    ours, theirs = await both(client, server)
    assert (ours.version, theirs.version) == (6, 6)


async def test_the_engine_steps_only_when_a_header_or_a_record_is_there():
    client, server = sides(memory_pair([1], [1]))
    step, steps = server.carried.step, []
    counted = types.SimpleNamespace(
        step=lambda data: steps.append(len(data)) or step(data), resume=server.carried.resume, context=server.carried
    )
    await both(client, dataclasses.replace(server, carried=counted))
    # Received: ClientHello; CCS and Finished, NEGOTIATE; AUTHENTICATE; authInfo: six records, for each of which the
    # engine is asked once for the header and once for the body. With nothing stored it is asked once, at the start.
    assert len(steps) <= 1 + 2 * 6


async def test_data_behind_the_handshake_is_kept_for_the_transport():
    client, server = sides()
    establishing = asyncio.ensure_future(server.establish())
    await client.establish()
    app = Recorder()
    client.secure(app).write(b"first words")
    await establishing
    other = Recorder()
    server.secure(other)
    assert await other.got(11) == b"first words"


@pytest.mark.parametrize("carriage", CARRIAGES.values(), ids=CARRIAGES)
async def test_what_came_before_the_server_began_counts(carriage):
    client, server = sides(carriage=carriage)
    establishing = asyncio.ensure_future(client.establish())
    await until(lambda: server.protocol.received)
    assert (await server.establish()).version == 6
    await establishing


async def test_a_handshake_makes_no_task_of_its_own():
    client, server = sides()
    made = []
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coro, **options: made.append(coro) or asyncio.Task(coro, loop=loop, **options))
    try:
        await both(client, server)
    finally:
        loop.set_task_factory(None)
    assert len(made) == 2  # the two that `gather` made


async def test_a_handshake_makes_no_future_for_a_message():
    client, server = sides()
    loop, made = asyncio.get_running_loop(), []
    create = loop.create_future
    for side in client, server:
        side.protocol.loop = types.SimpleNamespace(create_future=lambda: made.append(create()) or made[-1])
    await both(client, server)
    assert len(made) == 2  # each side's end


# --- what the driver asks of an engine, whatever it is ---


class Engine:
    """A handshake that answers by a script and notes what it was given.

    Args:
        script: What each `step` or `resume` returns.
    """

    last_token = farewell = b"farewell"
    heard_all = False

    def __init__(self, *script):
        self.script, self.given, self.failed = list(script), [], None
        self.asked = None
        self.context = types.SimpleNamespace(info="facts")

    def step(self, data=b""):
        self.given.append(bytes(data))
        return self.next()

    def resume(self, event, answer, early=b""):
        assert event is self.asked
        self.given.append(answer)
        return self.next()

    def next(self):
        result = self.script.pop(0)
        self.asked = result.event
        return result

    def receive_eof(self):
        raise PeerClosed("it ended")

    def fail(self, error):
        self.failed = error


async def settled(awaitable):
    return await awaitable


def waits(missing, extra=0, output=b""):
    return StepResult(SecurityStatus.SEC_I_CONTINUE_NEEDED, output, missing, extra)


def asks():
    return StepResult(SecurityStatus.SEC_I_CONTINUE_NEEDED, event=StepMechanism(bytes))


def done(extra=0):
    return StepResult(SecurityStatus.SEC_E_OK, extra=extra)


def feed(protocol, data):
    protocol.get_buffer(-1)[: len(data)] = data
    protocol.buffer_updated(len(data))


@pytest.fixture
async def drive():
    """Drives an `Engine` in a task; what is not done at the end is cancelled."""
    tasks = []

    async def begin(engine, answer=lambda _event: "answer", *, protocol=None):
        protocol = protocol or memory_pair()[0]
        deadline = asyncio.get_running_loop().time() + 30
        tasks.append(asyncio.ensure_future(establish(protocol, engine, answer, deadline)))
        await turns()
        return protocol, tasks[-1]

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_engine_is_called_when_the_missing_bytes_have_come(drive):
    engine = Engine(waits(5), waits(2, extra=3), done())
    protocol, task = await drive(engine)
    feed(protocol, b"abcd")
    assert engine.given == [b""]
    feed(protocol, b"e")
    assert engine.given == [b"", b"abcde"]  # in the callback that brought it
    feed(protocol, b"f")
    assert len(engine.given) == 2  # what was kept does not count
    feed(protocol, b"g")
    assert engine.given[2] == b"cdefg"
    assert await task == "facts"


async def test_without_a_word_of_what_is_missing_a_header_is_waited_for(drive):
    engine = Engine(waits(0), waits(0, extra=2), done())
    protocol, task = await drive(engine)
    feed(protocol, b"abcd")
    assert len(engine.given) == 1
    feed(protocol, b"e")
    await task
    assert engine.given == [b"", b"abcde", b"de"]  # what was left over may be whole already


async def test_what_came_before_the_driver_counts(drive):
    protocol, _ = memory_pair()
    feed(protocol, b"abc")
    engine = Engine(waits(2, extra=3), done())
    _, task = await drive(engine, protocol=protocol)
    feed(protocol, b"de")
    await task
    assert engine.given == [b"abc", b"abcde"]


@pytest.mark.parametrize("end", ["eof_received", "connection_lost"])
async def test_bytes_that_came_before_the_end_are_enough(end, drive):
    protocol, _ = memory_pair()
    feed(protocol, b"abcde")
    protocol.eof_received() if end == "eof_received" else protocol.connection_lost(None)
    engine = Engine(waits(0, extra=2), waits(1, extra=2))
    _, task = await drive(engine, protocol=protocol)
    with pytest.raises(PeerClosed):
        await task
    assert engine.given == [b"abcde", b"de"]


# --- turns: an engine that takes only a part of what is there ---


async def test_what_one_call_leaves_waits_for_a_turn_of_the_loop(drive):
    """Everybody else of the loop has one in between, and what comes meanwhile is given with the rest."""
    engine = Engine(waits(8), waits(0, extra=6), waits(0, extra=4), done())
    protocol, task = await drive(engine)
    heard = []
    feed(protocol, b"abcdefgh")
    asyncio.get_running_loop().call_soon(lambda: heard.append(len(engine.given)))
    assert len(engine.given) == 2
    feed(protocol, b"ijk")
    assert len(engine.given) == 2
    await task
    assert heard == [3]
    assert engine.given == [b"", b"abcdefgh", b"cdefghijk", b"hijk"]


async def test_an_answer_on_the_way_takes_no_turn(drive):
    engine = Engine(waits(4), waits(0, extra=2, output=b"flight"), done())
    protocol, task = await drive(engine)
    feed(protocol, b"abcd")
    assert engine.given == [b"", b"abcd", b"cd"]
    await task


async def test_a_hasty_peer_waits_while_the_rest_waits_for_its_turn(drive):
    engine = Engine(waits(1), waits(0, extra=30_000), done())
    protocol, task = await drive(engine)
    feed(protocol, bytes(30_000))
    assert protocol.transport.is_reading()
    feed(protocol, bytes(10_000))
    assert not protocol.transport.is_reading()
    await task
    assert len(engine.given[2]) == 40_000


@pytest.mark.parametrize("end", ["eof_received", "connection_lost"])
async def test_an_end_between_two_turns_comes_behind_what_is_stored(end, drive):
    engine = Engine(waits(4), waits(0, extra=2), waits(1, extra=2))
    protocol, task = await drive(engine)
    feed(protocol, b"abcd")
    protocol.eof_received() if end == "eof_received" else protocol.connection_lost(None)
    with pytest.raises(PeerClosed):
        await task
    assert engine.given == [b"", b"abcd", b"cd"]


async def test_a_handshake_that_is_cancelled_between_two_turns_takes_no_other(drive):
    engine = Engine(waits(4), waits(0, extra=2))
    protocol, task = await drive(engine)
    task.cancel()
    feed(protocol, b"abcd")
    with pytest.raises(asyncio.CancelledError):
        await task
    await turns(3)
    assert engine.given == [b"", b"abcd"]
    assert closed(protocol)


async def test_a_deadline_between_two_turns_is_the_last_word():
    """However many turns there are to take."""

    class Endless(Engine):
        def step(self, data=b""):
            self.given.append(len(data))
            return waits(0, extra=len(data))

    protocol, _ = memory_pair()
    feed(protocol, b"abcd")
    engine = Endless()
    with pytest.raises(HandshakeTimeout):
        await establish(protocol, engine, None, asyncio.get_running_loop().time() + 0.02)
    taken = len(engine.given)
    await turns(3)
    assert len(engine.given) == taken
    assert isinstance(engine.failed, HandshakeTimeout)


@pytest.mark.parametrize("end", ["eof_received", "connection_lost"])
async def test_an_end_in_the_middle_is_the_engines_to_judge(end, drive):
    engine = Engine(waits(5), waits(2, extra=3))
    protocol, task = await drive(engine)
    feed(protocol, b"abc")
    protocol.eof_received() if end == "eof_received" else protocol.connection_lost(None)
    with pytest.raises(PeerClosed):
        await task
    assert isinstance(engine.failed, PeerClosed)


async def test_what_comes_behind_the_handshake_stays_stored(drive):
    protocol, task = await drive(Engine(waits(5), done(extra=2)))
    feed(protocol, b"abcde")
    feed(protocol, b"f")
    await task
    assert bytes(protocol.received) == b"def"


async def test_a_driver_that_waits_for_an_answer_makes_a_hasty_peer_wait(drive):
    go_on = asyncio.Event()

    async def slow():
        await go_on.wait()
        return "at last"

    engine = Engine(asks(), waits(40_000), waits(50_000), done())
    engine.heard_all = True  # else it is refused
    protocol, task = await drive(engine, lambda _event: Pending(slow(), settled))
    while protocol.transport.is_reading():
        feed(protocol, bytes(1000))
    assert len(protocol.received) < 35_000
    go_on.set()
    await until(lambda: len(engine.given) == 2)
    assert engine.given[1] == "at last"
    await until(protocol.transport.is_reading)  # what is waited for may be more than is stored for nobody
    for _ in range(60):
        feed(protocol, bytes(1000))
        assert protocol.transport.is_reading()
    await turns()
    feed(protocol, bytes(30_000))
    await task


async def test_while_writing_is_paused_the_engine_rests(drive):
    engine = Engine(waits(1, output=b"flight"), done())
    protocol, _ = memory_pair()
    protocol.pause_writing()
    _, task = await drive(engine, protocol=protocol)
    feed(protocol, b"a")
    await turns()
    assert engine.given == [b""]
    protocol.resume_writing()
    await task
    assert engine.given == [b"", b"a"]
    assert protocol.transport.written == [b"flight"]
    assert not protocol.owes_resume


async def test_a_transport_that_is_lost_while_writing_is_paused_is_an_end(drive):
    engine = Engine(waits(1, output=b"flight"))
    protocol, _ = memory_pair()
    protocol.pause_writing()
    _, task = await drive(engine, protocol=protocol)
    protocol.connection_lost(error := ConnectionResetError())
    with pytest.raises(PeerClosed) as caught:
        await task
    assert caught.value.__cause__ is error


async def test_what_comes_between_a_failure_and_its_report_is_borne(drive):
    class Failing(Engine):
        def step(self, data=b""):
            view = memoryview(data)  # which the traceback holds, so that `data` cannot grow
            if view:
                raise RemoteProtocolError("no")
            del view
            return super().step(data)

    protocol, task = await drive(Failing(waits(1)))
    feed(protocol, b"a")
    feed(protocol, b"b")
    with pytest.raises(RemoteProtocolError):
        await task


async def test_a_plain_answer_finds_the_context_that_the_handshake_began_in(drive):
    variable = contextvars.ContextVar("variable", default="nobody's")
    found = []
    variable.set("the caller's")
    protocol, task = await drive(Engine(waits(1), asks(), done()), lambda _event: found.append(variable.get()))
    contextvars.Context().run(feed, protocol, b"a")
    await task
    assert found == ["the caller's"]


async def test_an_answer_that_nobody_awaits_any_more_is_closed(drive, recwarn):
    async def slow():
        raise AssertionError("it never begins")

    protocol, task = await drive(Engine(waits(1), asks()), lambda _event: Pending(slow(), settled))
    feed(protocol, b"a")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [str(warning.message) for warning in recwarn] == []
    assert closed(protocol) or protocol.transport.is_closing()


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError, KeyError])
async def test_what_an_answer_raises_is_raised_to_who_waits_and_never_to_the_loop(error, drive):
    def answer(_event):
        raise error

    protocol, task = await drive(Engine(waits(1), asks()), answer)
    feed(protocol, b"a")
    with pytest.raises(error):
        await task
    await turns()
    assert closed(protocol)


# --- refusals: who learns what ---


async def test_wrong_password_is_an_authentication_error_with_its_number():
    client, server = sides(client=client_config(authenticate=Password("wrong", "bob", "CONTOSO")))
    ours, theirs = await both(client, server)
    assert type(ours) is type(theirs) is AuthenticationError
    assert ours.nt_status is theirs.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    assert ours.stage is Stage.PUB_KEY_AUTH
    assert closed(client.protocol, server.protocol)


async def test_nt_hash_is_enough_to_log_on():
    config = client_config(authenticate=NTHash(BOB.nt_hash, "bob", "CONTOSO"))
    client, server = sides(client=config)
    ours, theirs = await both(client, server)
    assert ours.delegated == theirs.delegated
    assert server.carried.context.take_credentials().password == b""


async def test_untrusted_certificate_ends_the_handshake_before_the_logon():
    asked = []
    server = server_config(lookup=asked.append)
    client, server = sides(client=client_config(trust=Trust.pinned("00" * 32)), server=server)
    ours, theirs = await both(client, server)
    assert isinstance(ours, CertificateError)
    assert ours.security_status is SecurityStatus.SEC_E_CERT_UNKNOWN
    assert isinstance(theirs, TLSError)
    assert theirs.message == "the peer sent tls alert certificate_unknown"
    assert asked == []
    assert closed(client.protocol, server.protocol)


async def test_any_certificate_is_accepted_only_where_the_policy_says_dangerous():
    client, server = sides(client=client_config(Policy(dangerous_accept_any_certificate=True), trust=None))
    ours, _ = await both(client, server)
    assert ours.version == 6


@pytest.mark.parametrize(
    ("hook", "carriage", "stage"),
    [
        ("authorize", "tls", Stage.PUB_KEY_AUTH),
        ("authorize", "rdp", Stage.PUB_KEY_AUTH),
        ("admit", "rdp-ex", Stage.EARLY_USER_AUTH),
    ],
)
async def test_a_refusal_reaches_the_client(hook, carriage, stage):
    config = server_config(**{hook: lambda _who: Deny(NTSTATUS.STATUS_ACCESS_DENIED)})
    client, server = sides(server=config, carriage=CARRIAGES[carriage])
    ours, theirs = await both(client, server)
    assert isinstance(theirs, AccessDenied)
    assert isinstance(ours, AuthenticationError)
    assert ours.nt_status is NTSTATUS.STATUS_ACCESS_DENIED
    assert ours.stage is stage
    assert closed(client.protocol, server.protocol)


async def test_a_refusal_that_cannot_be_told_closes_the_connection():
    client, server = sides(server=server_config(admit=lambda _facts: False))
    ours, theirs = await both(client, server)
    assert ours.version == 6  # the credentials had left, and the protocol has no word for no
    assert isinstance(theirs, AccessDenied)
    app = Recorder()
    client.secure(app)
    await app.lost
    assert app.told == ["made", "eof", "lost"]


async def test_a_server_without_credssp_is_a_negotiation_failure():
    client, server = memory_pair()
    side = client_side(client, carriage=RDP())
    establishing = asyncio.ensure_future(side.establish())
    await until(lambda: len(server.received) >= 11)
    server.transport.write(bytes.fromhex("030000130ed000001234000300080005000000"))
    with pytest.raises(NegotiationFailure) as caught:
        await establishing
    assert caught.value.failure_code == 5
    assert closed(client)


# --- peers that do not play along ---


@pytest.mark.parametrize("carriage", CARRIAGES.values(), ids=CARRIAGES)
@pytest.mark.parametrize("side", [0, 1], ids=["client", "server"])
@pytest.mark.parametrize("how", ["eof", "reset"])
async def test_a_peer_that_leaves_after_any_flight_is_a_typed_error(how, side, carriage):
    """The peer leaves when it should write its n-th flight, for every n."""
    for flight in range(10):
        pair = memory_pair()
        mine = sides(pair, carriage=carriage)
        leaving, staying = pair[1 - side], mine[side]
        write, count = leaving.transport.write, 0

        def leave(data, transport=leaving.transport, write=write, last=flight):
            nonlocal count
            count += 1
            if count <= last:
                write(data)
            elif how == "eof":
                transport.close()
            else:
                transport.reset()

        leaving.transport.write = leave
        results = await both(*mine)
        result = results[side]
        if count <= flight:
            assert (results[0].version, results[1].version) == (6, 6)
            break
        # Whoever sends the last flight is through before the other.
        assert isinstance(result, PeerClosed | AuthenticationError) or result.version == 6
        assert closed(staying.protocol) is isinstance(result, Exception)
    else:
        pytest.fail("the handshake has more flights than it should")
    assert flight >= 3


async def test_a_close_after_our_logon_is_a_refusal():
    client, server = sides()
    write, count = server.protocol.transport.write, 0

    def leave(data):
        nonlocal count
        count += 1
        write(data) if count < 3 else server.protocol.transport.close()  # ServerHello, CHALLENGE, then nothing

    server.protocol.transport.write = leave
    ours, _ = await both(client, server)
    assert isinstance(ours, AuthenticationError)
    assert ours.nt_status is None
    assert "check user and password" in str(ours)


async def test_a_network_error_is_the_cause_of_what_is_raised():
    client, server = memory_pair()
    establishing = asyncio.ensure_future(client_side(client).establish())
    await turns(3)
    server.transport.reset()
    with pytest.raises(PeerClosed) as caught:
        await establishing
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    assert caught.value.stage is Stage.TLS


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05hello",
        bytes(100),
        b"\x80\x2e\x01\x00\x02",  # SSL 2
    ],
)
async def test_garbage_is_a_protocol_error_and_is_answered_by_a_close(garbage):
    client, server = memory_pair()
    establishing = asyncio.ensure_future(server_side(server).establish())
    client.transport.write(garbage)
    with pytest.raises(RemoteProtocolError):
        await establishing
    assert closed(server)


async def test_a_message_above_the_limit_is_refused():
    client, server = sides(server=server_config(Policy(max_message=100)))
    _, theirs = await both(client, server)
    assert isinstance(theirs, LimitExceeded)
    assert closed(client.protocol, server.protocol)


# --- time ---


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("carriage", CARRIAGES.values(), ids=CARRIAGES)
async def test_a_silent_peer_is_a_timeout_with_its_stage(carriage, side):
    client, server = memory_pair()
    mine = client_side(client, carriage=carriage, timeout=0) if side == "client" else None
    mine = mine or server_side(server, carriage=carriage, timeout=0)
    with pytest.raises(HandshakeTimeout) as caught:
        await mine.establish()
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.stage is (Stage.TLS if carriage == TLS() else Stage.NEGOTIATION)
    assert closed(mine.protocol)


@pytest.mark.requirement("defect.failing-lookup")
async def test_a_hook_cannot_outlive_the_deadline(monkeypatch):
    deadlines = Deadlines(monkeypatch)

    async def lookup(_request):
        deadlines.come()
        await asyncio.Event().wait()

    client, server = memory_pair()
    theirs = server_side(server, server_config(Policy(hook_timeout=100), lookup=lookup), timeout=Deadlines.FAR)
    ours = asyncio.ensure_future(client_side(client).establish())
    with pytest.raises(HandshakeTimeout) as caught:
        await theirs.establish()
    assert caught.value.stage is Stage.NEGO_TOKEN
    with pytest.raises(AuthenticationError):
        await ours
    assert closed(client, server)


@pytest.mark.requirement("defect.failing-lookup")
async def test_a_hook_that_swallows_the_deadline_cannot_go_on(monkeypatch):
    deadlines = Deadlines(monkeypatch)

    async def lookup(_request):
        deadlines.come()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Password(PASSWORD)

    client, server = memory_pair()
    theirs = server_side(server, server_config(Policy(hook_timeout=100), lookup=lookup), timeout=Deadlines.FAR)
    ours = asyncio.ensure_future(client_side(client).establish())
    with pytest.raises(HandshakeTimeout):
        await theirs.establish()
    with pytest.raises(AuthenticationError):
        await ours


@pytest.mark.requirement("defect.never-reads")
async def test_a_peer_that_reads_nothing_does_not_hold_the_farewell_up(monkeypatch):
    monkeypatch.setattr(driver, "_FAREWELL_GRACE", 0.01)
    client, server = memory_pair()
    transport = server.transport
    transport.close = lambda: setattr(transport, "closing", True)  # never flushed, so never lost

    def abort():
        transport.closing = False
        type(transport).close(transport)

    transport.abort = abort
    side = server_side(server)
    client.transport.write(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(RemoteProtocolError):
        await side.establish()
    await until(lambda: server.lost)


class Refusing(Engine):
    """Refuses at once, with a last token and something behind it."""

    last_token, farewell = b"errorCode", b"errorCode, close_notify"

    def step(self, _data=b""):
        raise AuthenticationError("no")


@pytest.mark.parametrize("act", ["write_eof", "close", "reset"])
async def test_what_follows_the_last_token_waits_until_the_peer_has_acted_on_it(act, drive):
    client, server = memory_pair()
    _, task = await drive(Refusing(), protocol=server)
    await turns()
    assert (bytes(client.received), server.transport.closing) == (b"errorCode", False)
    {"write_eof": server.transport.end, "close": client.transport.close, "reset": client.transport.reset}[act]()
    with pytest.raises(AuthenticationError):
        await task
    assert b"".join(server.transport.written) == (Refusing.last_token if act == "reset" else Refusing.farewell)
    assert closed(server)


async def test_a_peer_that_does_nothing_is_not_waited_for_long(drive, monkeypatch):
    monkeypatch.setattr(driver, "_TOKEN_GRACE", 0.01)
    client, server = memory_pair()
    _, task = await drive(Refusing(), protocol=server)
    with pytest.raises(AuthenticationError):
        await task
    assert client.received == Refusing.farewell
    assert closed(server)


async def test_a_cancellation_between_the_last_words_aborts(drive):
    client, server = memory_pair()
    _, task = await drive(Refusing(), protocol=server)
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed(server)
    assert client.received == Refusing.last_token


@pytest.mark.requirement("defect.never-reads")
async def test_a_peer_that_reads_nothing_cannot_stop_the_clock():
    client, server = memory_pair()
    client.pause_writing()
    with pytest.raises(HandshakeTimeout):
        await client_side(client, timeout=0).establish()
    assert closed(client)
    assert not server.lost


# --- hooks whose client leaves ---


LEAVE = {
    "close": lambda transport: transport.close(),
    "write_eof": lambda transport: transport.peer.end(),
    "reset": lambda transport: transport.reset(),
}


class Waiting:
    """A hook that never answers, and notes how it ended."""

    def __init__(self):
        self.begun, self.ended = asyncio.Event(), []

    async def __call__(self, _who):
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            self.ended.append(type(error))
            raise


@pytest.mark.parametrize("how", LEAVE)
@pytest.mark.parametrize(
    ("hook", "carriage"),
    [("lookup", TLS()), ("authorize", TLS()), ("authorize", RDP()), ("admit", RDP(hybrid_ex=True))],
    ids=["lookup", "authorize", "authorize-rdp", "admit-rdp-ex"],
)
async def test_a_hook_whose_client_leaves_is_cancelled_at_once(hook, carriage, how):
    waiting = Waiting()
    client, server = sides(server=server_config(**{hook: waiting}), carriage=carriage)
    tasks = [asyncio.ensure_future(side.establish()) for side in (client, server)]
    await waiting.begun.wait()
    LEAVE[how](client.protocol.transport)
    _, theirs = await asyncio.gather(*tasks, return_exceptions=True)
    assert waiting.ended == [asyncio.CancelledError]
    assert type(theirs) is PeerClosed
    assert closed(server.protocol)


@pytest.mark.parametrize("size", [32 * 1024 + 1, 300_000])
@pytest.mark.parametrize("hook", ["lookup", "authorize"])
async def test_a_client_that_talks_on_instead_of_waiting_is_refused_at_once(hook, size):
    waiting = Waiting()
    client, server = sides(server=server_config(**{hook: waiting}))
    tasks = [asyncio.ensure_future(side.establish()) for side in (client, server)]
    await waiting.begun.wait()
    client.protocol.transport.write(b"\x17\x03\x03\x40\x00" + bytes(size))
    client.protocol.transport.close()
    _, theirs = await asyncio.gather(*tasks, return_exceptions=True)
    assert waiting.ended == [asyncio.CancelledError]
    assert type(theirs) is LimitExceeded
    assert closed(server.protocol)


async def test_a_client_that_has_said_all_may_send_much_while_it_is_being_admitted():
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def admit(_facts):
        begun.set()
        await go_on.wait()
        return True

    client, server = sides(server=server_config(admit=admit))
    establishing = asyncio.ensure_future(server.establish())
    await client.establish()
    await begun.wait()
    client.protocol.transport.write(bytes(100_000))
    await until(lambda: server.protocol.overfull)
    go_on.set()
    assert (await establishing).delegated == "password"


async def test_a_client_that_left_before_the_hooks_turn_has_it_not_even_begun():
    waiting = Waiting()
    client, server = sides(server=server_config(lookup=waiting))
    tasks = [asyncio.ensure_future(side.establish()) for side in (client, server)]
    ask = server.answers._look_up

    def leave(event, config):
        server.protocol.eof_received()
        return ask(event, config)

    server.answers._look_up = leave
    _, theirs = await asyncio.gather(*tasks, return_exceptions=True)
    assert type(theirs) is PeerClosed
    assert not waiting.begun.is_set()


async def test_a_client_that_has_said_all_may_leave_while_it_is_being_admitted():
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def admit(_facts):
        begun.set()
        await go_on.wait()
        return True

    client, server = sides(server=server_config(admit=admit))
    establishing = asyncio.ensure_future(server.establish())
    await client.establish()
    await begun.wait()
    client.protocol.transport.close()
    await until(lambda: server.protocol.ended)
    await turns(3)
    go_on.set()
    assert (await establishing).delegated == "password"


async def test_a_connection_that_breaks_while_its_client_is_being_admitted_cancels_the_hook():
    waiting = Waiting()
    client, server = sides(server=server_config(admit=waiting))
    establishing = asyncio.ensure_future(server.establish())
    await client.establish()
    await waiting.begun.wait()
    client.protocol.transport.reset()
    with pytest.raises(PeerClosed) as caught:
        await establishing
    assert waiting.ended == [asyncio.CancelledError]
    assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_a_hook_that_swallows_the_cancellation_cannot_go_on_without_its_client():
    begun = asyncio.Event()

    async def lookup(_request):
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Password(PASSWORD)

    client, server = sides(server=server_config(lookup=lookup))
    tasks = [asyncio.ensure_future(side.establish()) for side in (client, server)]
    await begun.wait()
    client.protocol.transport.close()
    _, theirs = await asyncio.gather(*tasks, return_exceptions=True)
    assert type(theirs) is PeerClosed


# --- cancellation ---


@pytest.mark.parametrize("cancelled", ["client", "server"])
@pytest.mark.parametrize("carriage", [TLS(), RDP(hybrid_ex=True)], ids=["tls", "rdp-ex"])
async def test_cancellation_at_any_turn_closes_the_connection(carriage, cancelled):
    async def authorize(_identity):
        await turns(2)
        return True

    for turn in range(1, 200):  # a task that never began has nothing to clean up
        config = server_config(authorize=authorize, admit=authorize)
        pair = memory_pair()
        tasks = [asyncio.ensure_future(side.establish()) for side in sides(pair, server=config, carriage=carriage)]
        mine = cancelled == "server"
        await turns(turn)
        if tasks[mine].done():
            assert all([(await task).version == 6 for task in tasks])
            break
        tasks[mine].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[mine]
        (other,) = await asyncio.gather(tasks[not mine], return_exceptions=True)
        # Whoever sends the last flight is through before the other.
        assert isinstance(other, PeerClosed | AuthenticationError) or other.version == 6
        await turns(2)
        assert closed(pair[mine])
    else:
        pytest.fail("the handshake never ended")
    assert turn > 7


async def test_cancellation_while_saying_good_bye_aborts():
    client, server = memory_pair()
    transport, aborted = server.transport, []
    transport.close = lambda: None
    transport.abort = lambda: aborted.append(True) or type(transport).close(transport)
    client.transport.write(b"GET / HTTP/1.1\r\n\r\n")
    task = asyncio.ensure_future(server_side(server).establish())
    await turns(6)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert aborted


async def test_an_error_of_our_own_closes_the_connection_and_is_raised_as_it_is():
    client, _ = memory_pair()
    side = client_side(client)

    async def fail():
        raise ZeroDivisionError

    side.answers = lambda _event: Pending(fail(), settled)
    _, theirs = client, server_side(_)
    peer = asyncio.ensure_future(theirs.establish())
    with pytest.raises(ZeroDivisionError):
        await side.establish()
    with pytest.raises(PeerClosed):
        await peer
    assert closed(client)


async def test_secure_pair_of_these_tests_works():
    ours, theirs = await secure_pair()
    ours.transport.write(b"x")
    assert await theirs.got(1) == b"x"
