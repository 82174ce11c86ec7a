"""Carriages of somebody else's that lie, raise, return nonsense, forget bytes or never end."""

import asyncio
import socket

import pytest
from support.endpoints import client_config, server_config, turns

import acredssp
from acredssp.carriage import TLS
from acredssp.events import State, StepResult
from acredssp.status import SecurityStatus

GO_ON, DONE = SecurityStatus.SEC_I_CONTINUE_NEEDED, SecurityStatus.SEC_E_OK
SIDES = pytest.mark.parametrize("side", ["client", "server"])


def boom(*_):
    raise ValueError("boom")


class Carried:
    """A context's handshake, of which some members are replaced: properties by `facts`, methods by `calls`."""

    def __init__(self, context, facts, calls):
        self.inner, self.facts, self.calls = context, facts, calls

    def __getattr__(self, name):
        if name in self.facts:
            return self.facts[name](self.inner)
        if name in self.calls:
            return lambda *arguments: self.calls[name](self.inner, *arguments)
        return getattr(self.inner, name)


class Faulty:
    """A carriage with such handshakes on one side; it keeps those that it made."""

    def __init__(self, side, *, facts=None, **calls):
        self.side, self.facts, self.calls, self.made = side, facts or {}, calls, []

    def initiator(self, context):
        self.made.append(context)
        return Carried(context, self.facts, self.calls) if self.side == "client" else context

    def acceptor(self, config, new_context=acredssp.ServerConfig.new_context):
        self.made.append(context := new_context(config))
        return Carried(context, self.facts, self.calls) if self.side == "server" else context


class Logon:
    """A client and a server on one loop, one of them with a faulty carriage."""

    def __init__(self, side, carriage):
        self.side, self.carriage, self.reports, self.told = side, carriage, [], []

    async def run(self):
        """Log on; return the error of the faulty side."""
        asyncio.get_running_loop().set_exception_handler(lambda _loop, told: self.told.append(told["exception"]))
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            outcomes = await asyncio.gather(self.log_on(ours), self.accept(theirs), return_exceptions=True)
            await turns(5)
            self.open = [end for end in (ours, theirs) if end.fileno() != -1]
        return outcomes[self.side == "server"]

    async def log_on(self, end):
        transport, protocol = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=end)
        try:
            secure = await acredssp.start_credssp(
                transport, protocol, client_config(), server_hostname="localhost", **self.options("client")
            )
            secure.abort()
        except acredssp.CredSSPError as error:
            return error
        return None

    async def accept(self, end):
        transport, protocol = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=end)
        try:
            secure = await acredssp.start_credssp(transport, protocol, server_config(), **self.options("server"))
            secure.abort()
        except acredssp.CredSSPError as error:
            return error
        return None

    def options(self, side):
        if side != self.side:
            return {}
        return {"carriage": self.carriage, "on_handshake": self.reports.append}


def changed(**changes):
    """A `step` whose result is the context's own with other fields."""

    def step(context, *data):
        result = context.step(*data)
        for name, value in changes.items():
            setattr(result, name, value)
        return result

    return step


def no_progress(output):
    return lambda _context, data=b"": StepResult(GO_ON, output, extra=len(data))


def refuse(*_):
    raise acredssp.RemoteProtocolError("refused")


NO_SUCH_RESULT = pytest.mark.interpreted_only("a compiled StepResult takes no field of another type")


@SIDES
@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ({"step": lambda *_: None}, "step: expected a StepResult, got NoneType"),
        ({"step": lambda *_: b"token"}, "step: expected a StepResult, got bytes"),
        pytest.param(
            {"step": changed(output="text")},
            "step: output: expected bytes or bytearray or memoryview, got str",
            marks=NO_SUCH_RESULT,
        ),
        ({"step": changed(event="what")}, "step: event: expected Question or None, got str"),
        ({"step": changed(extra=10**6)}, r"step: extra: expected 0 to \d+, got 1000000"),
        ({"step": changed(extra=-1)}, r"step: extra: expected 0 to \d+, got -1"),
        pytest.param({"step": changed(extra=None)}, "step: extra: expected int, got NoneType", marks=NO_SUCH_RESULT),
        ({"step": changed(missing=-1)}, r"step: missing: expected 0 to \d+, got -1"),
        ({"step": changed(missing=2**30)}, r"step: missing: expected 0 to \d+, got 1073741824"),
        ({"step": lambda *_: StepResult(DONE)}, "step: expected an established context for SEC_E_OK, got TLS"),
        ({"resume": lambda *_: None}, "resume: expected a StepResult, got NoneType"),
        ({"resume": lambda *_: StepResult(DONE)}, "resume: expected an established context for SEC_E_OK, got "),
        ({"resume": lambda _context, event, *_: StepResult(GO_ON, event=event)}, "resume: expected bytes to be taken"),
        ({"facts": {"cookie": lambda _: 5}}, "cookie: expected str, got int"),
        ({"facts": {"request": lambda _: "mstshash"}}, "request: expected ConnectionRequest or None, got str"),
        ({"facts": {"passed_on": lambda _: "me"}}, "passed_on: expected PassedOn or None, got str"),
        ({"facts": {"extra_info": lambda _: None}}, "extra_info: expected Mapping, got NoneType"),
        ({"facts": {"heard_all": lambda _: None}}, "heard_all: expected bool, got NoneType"),
        ({"facts": {"chosen": lambda _: {}}}, "chosen: expected ServerConfig or None, got dict"),
    ],
)
async def test_what_breaks_the_contract_ends_the_handshake_by_its_name(side, calls, said):
    logon = Logon(side, Faulty(side, **calls))
    error = await logon.run()
    assert type(error) is acredssp.CredSSPError
    with pytest.raises(acredssp.CredSSPError, match=f"^carriage Faulty: {said}"):
        raise error
    assert "docs/carriages.md" in error.hint
    assert [report.error for report in logon.reports] == [error]
    assert [context.state for context in logon.carriage.made] == [State.FAILED]
    assert (logon.open, logon.told) == ([], [])


@pytest.mark.parametrize("output", [b"", b"x" * 1000], ids=["silent", "talkative"])
async def test_a_step_that_takes_nothing_for_ever_does_not_keep_the_loop(output):
    logon = Logon("server", Faulty("server", step=no_progress(output)))
    with pytest.raises(acredssp.CredSSPError, match="step: expected bytes to be taken or missing, got 32 results"):
        raise await logon.run()
    assert logon.open == []


@SIDES
@pytest.mark.parametrize("member", ["step", "resume", "cookie", "request", "extra_info", "heard_all"])
async def test_what_a_carriage_raises_is_raised_and_nothing_stays_open(side, member):
    is_call = member in {"step", "resume"}
    logon = Logon(side, Faulty(side, **({member: boom} if is_call else {"facts": {member: boom}})))
    with pytest.raises(ValueError, match="boom"):
        raise await logon.run()
    (report,) = logon.reports
    assert report.error.message == "the handshake ended with ValueError, a fault in this program"
    assert [context.state for context in logon.carriage.made] == [State.FAILED]
    assert logon.open == []


@SIDES
@pytest.mark.parametrize(
    "faults",
    [
        {"fail": boom},
        {"facts": {"farewell": boom}},
        {"facts": {"last_token": boom}},
        {"facts": {"last_token": lambda _: None}},
        {"facts": {"farewell": lambda _: "bye"}},
        {"facts": {"cookie": boom, "request": boom, "passed_on": boom, "heard_all": boom}},
    ],
)
async def test_a_failure_stays_the_failure_that_it_was(side, faults):
    logon = Logon(side, Faulty(side, step=refuse, **faults))
    error = await logon.run()
    assert error.message == "refused"
    assert [report.error for report in logon.reports] == [error]
    assert [context.state for context in logon.carriage.made] == [State.FAILED]
    assert logon.open == []


async def test_an_end_of_the_peer_that_the_carriage_makes_nothing_of_is_an_end():
    carriage = Faulty("server", receive_eof=lambda _context: None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        transport, protocol = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=theirs)
        ours.close()
        with pytest.raises(acredssp.CredSSPError, match="receive_eof: expected an error to be raised, got a return"):
            await acredssp.start_credssp(transport, protocol, server_config(), carriage=carriage)


@pytest.mark.parametrize("made", [lambda *_: None, lambda *_: 5, lambda *_: object])
async def test_a_carriage_that_makes_no_handshake_is_refused(made):
    carriage = Faulty("client")
    carriage.initiator = made
    with pytest.raises(TypeError, match=r"^carriage Faulty: expected a handshake with a SecurityContext, got "):
        await acredssp.open_connection("127.0.0.1", 9, config=client_config(), carriage=carriage)


@SIDES
async def test_a_carriage_without_a_fault_logs_on(side):
    logon = Logon(side, Faulty(side))
    assert await logon.run() is None
    assert [report.error for report in logon.reports] == [None]


async def test_the_carriages_of_this_package_are_not_checked(monkeypatch):
    monkeypatch.setattr("acredssp.carriage.checked.CheckedHandshake", boom)
    assert await Logon("server", TLS()).run() is None
    with pytest.raises(ValueError, match="boom"):
        await acredssp.open_connection("127.0.0.1", 9, config=client_config(), carriage=Faulty("client"))
