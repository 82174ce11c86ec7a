"""Carriages of somebody else's that lie, raise, return nonsense, forget bytes or never end."""

import asyncio
import socket
from types import SimpleNamespace

import pytest
from support.endpoints import client_config, server_config, turns

import acredssp
from acredssp.carriage import TLS
from acredssp.carriage.base import PassedOn
from acredssp.carriage.checked import CheckedHandshake, checked
from acredssp.events import State, StepResult
from acredssp.mechanisms.base import Question
from acredssp.status import SecurityStatus
from acredssp.wire.x224 import ConnectionRequest

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


# --- by hand, without a loop ---


class Asked(Question):
    """A question of nobody."""


class Handed:
    """A handshake that notes its calls, and gives what it was told to; its context is a client's."""

    def __init__(self, result=None, **facts):
        self.context = client_config().new_context(server_hostname="localhost", spn="TERMSRV/localhost")
        self.result, self.error, self.calls = result, None, []
        self.facts = GIVEN | {"passed_on": None} | facts

    def __getattr__(self, name):
        value = self.__dict__["facts"][name]
        if isinstance(value, Exception):
            raise value
        return value

    def step(self, data=b""):
        self.calls.append(("step", data))
        return self.result

    def resume(self, event, answer, early=b""):
        self.calls.append(("resume", event, answer, early))
        return self.result

    def receive_eof(self):
        self.calls.append(("receive_eof",))
        if self.error is not None:
            raise self.error

    def fail(self, error):
        self.calls.append(("fail", error))
        if self.error is not None:
            raise self.error


GIVEN = {
    "cookie": "alice",
    "request": ConnectionRequest(cookie="alice"),
    "chosen": server_config(),
    "passed_on": PassedOn(lambda *_: None, b"read"),
    "extra_info": {"route": 1},
    "heard_all": True,
    "farewell": b"farewell",
    "last_token": b"token",
}
USUAL = {
    "cookie": "", "request": None, "chosen": None, "passed_on": None, "extra_info": {}, "heard_all": False,
    "farewell": b"", "last_token": b"",
}  # fmt: skip
WRONG = {
    "cookie": (b"alice", "expected str, got bytes"),
    "request": ("alice", "expected ConnectionRequest or None, got str"),
    "chosen": (GIVEN["request"], "expected ServerConfig or None, got ConnectionRequest"),
    "passed_on": (True, "expected PassedOn or None, got bool"),
    "extra_info": ([], "expected Mapping, got list"),
    "heard_all": (1, "expected bool, got int"),
    "farewell": ("bye", "expected bytes or bytearray or memoryview, got str"),
    "last_token": (None, "expected bytes or bytearray or memoryview, got NoneType"),
}
FACTS = pytest.mark.parametrize("name", GIVEN)


def by_hand(*results, **facts):
    handed = Handed(*results, **facts)
    return handed, CheckedHandshake(Faulty("client"), handed)


def broken(call, *arguments):
    with pytest.raises(acredssp.CredSSPError) as raised:
        call(*arguments)
    assert raised.value.hint == "mend the carriage: docs/carriages.md has its contract"
    return raised.value.message


@pytest.mark.parametrize("carriage", [TLS(), acredssp.RDP()])
def test_a_handshake_of_this_package_is_returned_as_it_is(carriage):
    handed = Handed()
    assert checked(carriage, handed) is handed


def test_a_handshake_of_a_derived_carriage_is_checked():
    class Derived(acredssp.RDP):
        pass

    handed = Handed()
    found = checked(Derived(), handed)
    assert type(found) is CheckedHandshake
    assert found.context is handed.context


@pytest.mark.parametrize(
    ("made", "got"), [(None, "NoneType with NoneType"), (SimpleNamespace(context=5), "SimpleNamespace with int")]
)
def test_what_is_no_handshake_with_a_context_is_refused(made, got):
    with pytest.raises(TypeError) as raised:
        CheckedHandshake(Faulty("client"), made)
    assert str(raised.value) == f"carriage Faulty: expected a handshake with a SecurityContext, got {got}"


GOOD = [
    ({"output": b"out"}, 3),
    ({"output": bytearray(b"out"), "extra": 3}, 3),
    ({"output": memoryview(b"out"), "missing": 2**20}, 3),
    ({"missing": 2**20 - 3, "extra": 3}, 3),
    ({}, 0),
]


@pytest.mark.interpreted_only("a compiled StepResult takes no field of another type")
@pytest.mark.parametrize(("fields", "size"), GOOD)
def test_a_result_within_the_contract_is_handed_on(fields, size):
    result = StepResult(GO_ON, **fields)
    handed, handshake = by_hand(result)
    data, event, answer = bytes(size), object(), object()
    assert handshake.step(data) is result
    assert handshake.resume(event, answer, data) is result
    assert handed.calls == [("step", data), ("resume", event, answer, data)]


def test_a_step_and_an_answer_may_come_without_bytes():
    handed, handshake = by_hand(StepResult(GO_ON))
    handshake.step()
    handshake.resume(1, 2)
    assert handed.calls == [("step", b""), ("resume", 1, 2, b"")]


@pytest.mark.interpreted_only("a compiled StepResult takes no field of another type")
@pytest.mark.parametrize("call", ["step", "resume"])
@pytest.mark.parametrize(
    ("status", "fields", "said"),
    [
        (GO_ON, {"output": "out"}, "output: expected bytes or bytearray or memoryview, got str"),
        (GO_ON, {"event": 5}, "event: expected Question or None, got int"),
        (GO_ON, {"extra": "1"}, "extra: expected int, got str"),
        (GO_ON, {"extra": -1}, "extra: expected 0 to 3, got -1"),
        (GO_ON, {"extra": 4}, "extra: expected 0 to 3, got 4"),
        (GO_ON, {"missing": -1}, "missing: expected 0 to 1048576, got -1"),
        (GO_ON, {"missing": 2**20 + 1}, "missing: expected 0 to 1048576, got 1048577"),
        (GO_ON, {"missing": 2**20 - 2, "extra": 3}, "missing: expected 0 to 1048573, got 1048574"),
        (DONE, {}, "expected an established context for SEC_E_OK, got TLS"),
    ],
)
def test_a_result_beyond_the_contract_is_named(call, status, fields, said):
    _, handshake = by_hand(StepResult(status, **fields))
    arguments = (b"abc",) if call == "step" else (None, None, b"abc")
    assert broken(getattr(handshake, call), *arguments) == f"carriage Faulty: {call}: {said}"


@pytest.mark.parametrize("call", ["step", "resume"])
@pytest.mark.parametrize(("result", "kind"), [(None, "NoneType"), (5, "int")])
def test_a_result_of_another_type_is_named(call, result, kind):
    _, handshake = by_hand(result)
    arguments = (b"abc",) if call == "step" else (None, None, b"abc")
    said = f"carriage Faulty: {call}: expected a StepResult, got {kind}"
    assert broken(getattr(handshake, call), *arguments) == said


def test_beside_bytes_that_were_not_taken_no_more_may_be_missing_than_fit():
    size = 2**20 + 1
    _, handshake = by_hand(StepResult(GO_ON, missing=1, extra=size))
    said = "carriage Faulty: step: missing: expected 0 to 0, got 1"
    assert broken(handshake.step, bytes(size)) == said


def test_a_carriage_is_named_by_its_class():
    class Derived(acredssp.RDP):
        pass

    said = "carriage Derived: step: expected a StepResult, got int"
    assert broken(checked(Derived(), Handed(5)).step) == said


def test_so_many_results_may_take_no_byte_and_not_one_more():
    _, handshake = by_hand(StepResult(GO_ON, extra=3))
    for _ in range(32):
        handshake.step(b"abc")
    said = "carriage Faulty: step: expected bytes to be taken or missing, got 32 results with neither"
    assert broken(handshake.step, b"abc") == said


def test_answers_count_as_well_and_bytes_given_with_one_are_no_progress():
    handed, handshake = by_hand(StepResult(GO_ON))
    for _ in range(32):
        handshake.resume(None, None, b"abc")
    said = "carriage Faulty: resume: expected bytes to be taken or missing, got 32 results with neither"
    assert broken(handshake.resume, None, None, b"abc") == said
    assert len(handed.calls) == 33


@pytest.mark.parametrize(
    ("result", "data"),
    [
        (StepResult(GO_ON, extra=2), b"abc"),  # takes a byte
        (StepResult(GO_ON, missing=1, extra=3), b"abc"),  # waits for more
        (StepResult(GO_ON), b""),  # was given none
    ],
)
def test_progress_begins_the_count_anew(result, data):
    handed, handshake = by_hand()
    idle = StepResult(GO_ON, extra=3)
    for _ in range(2):
        handed.result = idle
        for _ in range(32):
            handshake.step(b"abc")
        handed.result = result
        handshake.step(data)
    handed.result = idle
    for _ in range(32):
        handshake.step(b"abc")
    assert "got 32 results with neither" in broken(handshake.step, b"abc")


def test_a_question_is_no_wait_and_counts():
    event = Asked()
    handed, handshake = by_hand(StepResult(GO_ON, missing=5, event=event))
    for _ in range(32):
        handshake.resume(event, None)
    assert "got 32 results with neither" in broken(handshake.resume, event, None)
    assert handed.result.event is event


def test_an_end_is_the_error_that_the_carriage_raises():
    handed, handshake = by_hand()
    handed.error = acredssp.PeerClosed("the end")
    with pytest.raises(acredssp.PeerClosed) as raised:
        handshake.receive_eof()
    assert raised.value is handed.error


def test_an_end_without_an_error_is_one():
    _, handshake = by_hand()
    said = "carriage Faulty: receive_eof: expected an error to be raised, got a return"
    assert broken(handshake.receive_eof) == said


@pytest.mark.parametrize("fault", [None, "the same", KeyError("x")])
def test_a_failure_reaches_carriage_and_context(fault):
    handed, handshake = by_hand()
    error = acredssp.CredSSPError("it fails")
    handed.error = error if fault == "the same" else fault
    handshake.fail(error)
    assert handed.calls == [("fail", error)]
    assert handed.context.state is State.FAILED
    notes = [f"carriage Faulty: fail raised {type(fault).__name__}"] if isinstance(fault, Exception) else []
    assert getattr(error, "__notes__", []) == notes


@FACTS
def test_a_fact_is_handed_on(name):
    _, handshake = by_hand(passed_on=GIVEN["passed_on"])
    assert getattr(handshake, name) == GIVEN[name]


@FACTS
def test_a_fact_of_another_type_is_named(name):
    value, said = WRONG[name]
    _, handshake = by_hand(**{name: value})
    assert broken(lambda: getattr(handshake, name)) == f"carriage Faulty: {name}: {said}"


@FACTS
@pytest.mark.parametrize("fault", ["raises", "wrong"])
def test_after_a_failure_a_fact_that_there_is_not_is_the_usual_one(name, fault):
    value = KeyError("x") if fault == "raises" else WRONG[name][0]
    _, handshake = by_hand(**{name: value})
    with pytest.raises((KeyError, acredssp.CredSSPError)):
        getattr(handshake, name)
    handshake.fail(acredssp.CredSSPError("it fails"))
    assert getattr(handshake, name) == USUAL[name]


@FACTS
def test_after_a_failure_a_fact_that_there_is_stays(name):
    _, handshake = by_hand(passed_on=GIVEN["passed_on"])
    handshake.fail(acredssp.CredSSPError("it fails"))
    assert getattr(handshake, name) == GIVEN[name]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("name", ["farewell", "last_token"])
def test_bytes_of_any_kind_are_handed_on_as_bytes(name, kind):
    _, handshake = by_hand(**{name: kind(b"text")})
    value = getattr(handshake, name)
    assert (type(value), value) == (bytes, b"text")


@FACTS
def test_the_facts_are_those_of_the_moment_in_which_it_was_complete(name):
    handed, handshake = by_hand(StepResult(DONE), passed_on=GIVEN["passed_on"])
    assert handshake.step(b"") is handed.result
    handed.facts = dict.fromkeys(GIVEN, KeyError("gone"))
    assert getattr(handshake, name) == GIVEN[name]


def test_a_complete_handshake_that_is_none_keeps_no_facts():
    handed, handshake = by_hand(StepResult(DONE), cookie="early")
    broken(handshake.step, b"")
    handed.facts["cookie"] = "late"
    assert handshake.cookie == "late"


def test_a_question_with_the_status_of_the_end_is_a_question():
    handed, handshake = by_hand(StepResult(DONE, event=Asked()))
    assert handshake.step(b"") is handed.result
