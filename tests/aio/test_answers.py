import asyncio
import functools
import hashlib
import hmac
import logging
import types

import pytest
from support.endpoints import (
    BOB,
    PASSWORD,
    Deadlines,
    PanicError,
    both,
    client_config,
    client_side,
    memory_pair,
    server_config,
    server_side,
)

from acredssp.aio.answers import ClientAnswers, ServerAnswers
from acredssp.aio.asking import Asking
from acredssp.aio.handshake import Handshake
from acredssp.aio.offload import Lane
from acredssp.aio.report import HandshakeOutcome
from acredssp.carriage.base import TLS
from acredssp.carriage.rdp import RDP
from acredssp.core.events import JudgeCertificate, LookupCredential, StepMechanism
from acredssp.credentials import Candidates, Deny, Keytab, NTHash, Oracle, Password
from acredssp.errors import AccessDenied, AuthenticationError
from acredssp.mechanisms.base import Principal
from acredssp.policy import Policy
from acredssp.status import NTSTATUS

CANARY = "canary-9d1f"


async def handshake(config, carriage=TLS(), name="localhost"):  # noqa: B008
    client, server = memory_pair()
    return await both(client_side(client, carriage=carriage, name=name), server_side(server, config, carriage))


def as_coroutine(function):
    async def hook(request):
        await asyncio.sleep(0)
        return function(request)

    return hook


def as_future(function):
    def hook(request):
        future = asyncio.get_running_loop().create_future()
        future.set_result(function(request))
        return future

    return hook


SHAPES = {"function": lambda function: function, "coroutine": as_coroutine, "future": as_future}


def verify_like_a_domain_controller(exchange):
    """What NetrLogonSamLogonEx does with it ([MS-NLMP] 3.3.2)."""
    owf = hmac.digest(BOB.nt_hash, (exchange.user.upper() + exchange.domain).encode("utf-16-le"), hashlib.md5)
    proof = hmac.digest(owf, exchange.server_challenge + exchange.nt_response[16:], hashlib.md5)
    if proof != exchange.nt_response[:16]:
        return Deny()
    return hmac.digest(owf, proof, hashlib.md5)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    "answer",
    [
        Password(PASSWORD),
        NTHash(BOB.nt_hash),
        Candidates([Password("old"), Password(PASSWORD)]),
        Oracle(verify_like_a_domain_controller),
        Oracle(as_coroutine(verify_like_a_domain_controller)),
    ],
    ids=["password", "nt-hash", "candidates", "oracle", "async-oracle"],
)
async def test_lookup_may_answer_in_any_form_and_shape(answer, shape):
    ours, theirs = await handshake(server_config(lookup=shape(lambda _request: answer)))
    assert ours.version == theirs.version == 6


def raising(error):
    def hook(_request):
        raise error

    return hook


NO_EXCEPTIONS = [PanicError(CANARY), BaseExceptionGroup(CANARY, [PanicError(CANARY)]), GeneratorExit(CANARY)]


async def never(_request):
    await asyncio.Event().wait()


async def right_but_late(_request):
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return Password(PASSWORD)


REFUSALS = {
    "none": lambda _request: None,
    "true": lambda _request: True,
    "a string": lambda _request: PASSWORD,
    "deny": lambda _request: Deny(),
    "deny with a status about the account": lambda _request: Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED),
    "raises": raising(LookupError(CANARY)),
    "raises in a coroutine": as_coroutine(raising(LookupError(CANARY))),
    "raises what is no exception": raising(PanicError(CANARY)),
    "raises what is no exception in a coroutine": as_coroutine(raising(PanicError(CANARY))),
    "raises a time-out": raising(TimeoutError(CANARY)),
    "oracle that raises": lambda _request: Oracle(raising(LookupError(CANARY))),
    "oracle that says none": lambda _request: Oracle(lambda _exchange: None),
    "oracle that gives a short key": lambda _request: Oracle(lambda _exchange: bytes(15)),
    "wrong password": lambda _request: Password("wrong"),
    "never": never,
    "right, but late": right_but_late,
}


@pytest.mark.requirement("defect.failing-lookup")
@pytest.mark.parametrize("lookup", REFUSALS.values(), ids=REFUSALS)
async def test_every_other_answer_of_lookup_is_the_same_refusal(lookup):
    ours, theirs = await handshake(server_config(Policy(hook_timeout=0.02), lookup=lookup))
    assert type(ours) is type(theirs) is AuthenticationError
    assert ours.nt_status is theirs.nt_status is NTSTATUS.STATUS_LOGON_FAILURE


@pytest.mark.parametrize("hook", ["authorize", "admit"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_true_lets_in(hook, shape):
    ours, theirs = await handshake(server_config(**{hook: shape(lambda _who: True)}), RDP(hybrid_ex=True))
    assert ours.version == theirs.version == 6


@pytest.mark.requirement("defect.failing-lookup")
@pytest.mark.parametrize("hook", ["authorize", "admit"])
@pytest.mark.parametrize(
    "answer",
    [lambda _who: False, lambda _who: None, lambda _who: 1, raising(KeyError(CANARY)), never, lambda _who: Deny()],
    ids=["false", "none", "one", "raises", "never", "deny"],
)
async def test_everything_else_refuses(hook, answer):
    config = server_config(Policy(authorize_timeout=0.02, admit_timeout=0.02), **{hook: answer})
    ours, theirs = await handshake(config, RDP(hybrid_ex=True))
    assert isinstance(theirs, AccessDenied)
    assert isinstance(ours, AuthenticationError)


@pytest.mark.requirement("defect.secrets-in-logs")
async def test_log_names_the_kind_of_failure_and_nothing_more(caplog):
    with caplog.at_level(logging.DEBUG):
        await handshake(server_config(lookup=raising(LookupError(CANARY))))
    (record,) = [record for record in caplog.records if record.name == "acredssp"]
    assert record.levelno == logging.WARNING
    assert "LookupError" in record.getMessage()
    assert record.getMessage().startswith(
        f"hook lookup ({__name__}.raising.<locals>.hook) raised LookupError, peer mem"
    )
    assert f'File "{__file__}", line' in record.getMessage()
    assert CANARY not in caplog.text
    assert record.exc_info is None


class WithoutArguments:
    def __call__(self):
        """Be called with nothing."""

    def method(self):
        """Be called with nothing."""


def without_arguments():
    """Be called with nothing."""


@pytest.mark.parametrize(
    ("hook", "code"),
    [
        (without_arguments, without_arguments.__code__),
        (WithoutArguments(), WithoutArguments.__call__.__code__),
        (WithoutArguments().method, WithoutArguments.method.__code__),
        (functools.partial(without_arguments), without_arguments.__code__),
        (max, None),
    ],
    ids=["function", "object", "method", "partial", "built-in"],
)
async def test_a_hook_that_cannot_be_called_so_is_told_with_its_own_line(hook, code, caplog):
    with caplog.at_level(logging.WARNING, "acredssp"):
        await handshake(server_config(lookup=hook))
    (record,) = [record for record in caplog.records if record.name == "acredssp"]
    _, *places = record.getMessage().split("\n")
    assert "raised TypeError" in record.getMessage()
    assert places == (
        [f'  File "{code.co_filename}", line {code.co_firstlineno}, in {code.co_qualname}'] if code else []
    )


def wraps_itself():
    """Be called with nothing."""


wraps_itself.__wrapped__ = wraps_itself


class HidesItsName(type):
    def __getattribute__(cls, name):
        if name in {"__name__", "__qualname__"}:
            raise RuntimeError(CANARY)
        return super().__getattribute__(name)


class Nameless(metaclass=HidesItsName):
    def __call__(self, _request):
        raise LookupError(CANARY)

    @property
    def __module__(self):
        raise RuntimeError(CANARY)


class Classless:
    @property
    def __class__(self):
        raise PanicError(CANARY)


class UntraceableError(Exception):
    @property
    def __traceback__(self):
        raise PanicError(CANARY)


HERE = f"({__name__}."


@pytest.mark.parametrize(
    ("hook", "named", "said"),
    [
        (types.MappingProxyType({}).__getitem__, "(mappingproxy.__getitem__)", "raised KeyError"),
        ({}.__getitem__, "(dict.__getitem__)", "raised KeyError"),
        (str.upper, "(str.upper)", "raised TypeError"),
        (wraps_itself, HERE + "wraps_itself)", "raised TypeError"),
        (Nameless(), "(Nameless)", "raised LookupError"),
        (lambda _: Nameless(), HERE + "<lambda>)", "answered a value of type Nameless"),
        (as_coroutine(lambda _: Nameless()), HERE, "answered a value of type Nameless"),
        (lambda _: Classless(), HERE + "<lambda>)", "raised PanicError"),
        (as_coroutine(lambda _: Classless()), HERE, "raised PanicError"),
        (raising(UntraceableError(CANARY)), HERE, "raised UntraceableError"),
    ],
)
async def test_a_hook_is_named_as_far_as_it_can_be_told(hook, named, said, caplog):
    with caplog.at_level(logging.WARNING, "acredssp"):
        ours, _ = await handshake(server_config(lookup=hook))
    assert ours.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    (record,) = [record for record in caplog.records if record.name == "acredssp"]
    assert record.getMessage().startswith(f"hook lookup {named}")
    assert said in record.getMessage()
    assert CANARY not in caplog.text


@pytest.mark.parametrize("error", NO_EXCEPTIONS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("shape", [SHAPES["function"], SHAPES["coroutine"]], ids=["function", "coroutine"])
@pytest.mark.parametrize("role", ["lookup", "oracle", "authorize", "admit"])
async def test_what_is_no_exception_is_a_failure_of_the_hook_like_any_other(role, shape, error, caplog):
    client, server = memory_pair()
    reports, hook = [], shape(raising(error))
    config = server_config(**({"lookup": lambda _: Oracle(hook)} if role == "oracle" else {role: hook}))
    logon = Handshake(server, config, RDP(hybrid_ex=True), on_handshake=reports.append)
    theirs, ours = await asyncio.gather(
        logon.run(), client_side(client, carriage=RDP(hybrid_ex=True)).establish(), return_exceptions=True
    )
    assert isinstance(theirs, AuthenticationError)
    assert isinstance(ours, AuthenticationError)
    assert [(report.outcome, report.hook) for report in reports] == [(HandshakeOutcome.FAILED, role)]
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f" raised {type(error).__name__}, peer " in record.getMessage()
    assert f'File "{__file__}", line' in record.getMessage()
    assert CANARY not in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("shape", [SHAPES["function"], SHAPES["coroutine"]], ids=["function", "coroutine"])
async def test_what_ends_the_process_is_no_refusal(shape, error, caplog):
    asking = Asking(None)
    with pytest.raises(error):
        await asking.ask("lookup", shape(raising(error())), None, None)
    assert asking.refusal is None
    assert not caplog.records


@pytest.mark.parametrize("seconds", [None, 60.0])
async def test_a_hook_whose_wait_is_dropped_has_not_failed(seconds, caplog):
    asking = Asking(None)
    waiting = asking.ask("lookup", never, None, seconds).__await__()
    waiting.send(None)
    waiting.close()
    assert asking.refusal is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("hooks", "role", "outcome", "said"),
    [
        (
            {"lookup": lambda _: PASSWORD},
            "lookup",
            HandshakeOutcome.BAD_ANSWER,
            "answered a value of type str, expected",
        ),
        ({"lookup": lambda _: None}, "lookup", HandshakeOutcome.BAD_ANSWER, "answered None, expected Password, "),
        ({"lookup": as_coroutine(lambda _: None)}, "lookup", HandshakeOutcome.BAD_ANSWER, "answered None"),
        ({"lookup": raising(LookupError(CANARY))}, "lookup", HandshakeOutcome.FAILED, "raised LookupError"),
        ({"lookup": raising(TimeoutError(CANARY))}, "lookup", HandshakeOutcome.FAILED, "raised TimeoutError"),
        ({"lookup": never}, "lookup", HandshakeOutcome.TIMEOUT, "gave no answer within 1e-06 seconds"),
        ({"lookup": right_but_late}, "lookup", HandshakeOutcome.TIMEOUT, "gave no answer within 1e-06 seconds"),
        ({"lookup": lambda _: Deny()}, "lookup", HandshakeOutcome.DENIED, ""),
        ({"lookup": lambda _: Password("wrong")}, "", HandshakeOutcome.DENIED, ""),
        (
            {"lookup": lambda _: Oracle(lambda _: bytes(15))},
            "oracle",
            HandshakeOutcome.BAD_ANSWER,
            "answered 15 bytes, expected a key of 16 bytes",
        ),
        (
            {"lookup": lambda _: Oracle(lambda _: bytes(16))},
            "oracle",
            HandshakeOutcome.BAD_ANSWER,
            "answered 16 bytes that are all zero, which is no key, expected a key of 16 bytes",
        ),
        ({"lookup": lambda _: Oracle(raising(KeyError(CANARY)))}, "oracle", HandshakeOutcome.FAILED, "raised KeyError"),
        ({"lookup": lambda _: Oracle(lambda _: Deny())}, "oracle", HandshakeOutcome.DENIED, ""),
        ({"authorize": lambda who: who.user == "bob"}, "authorize", HandshakeOutcome.FAILED, "raised AttributeError"),
        (
            {"authorize": lambda _: None},
            "authorize",
            HandshakeOutcome.BAD_ANSWER,
            "expected True, an Account, False or Deny",
        ),
        ({"authorize": lambda _: False}, "authorize", HandshakeOutcome.DENIED, ""),
        ({"admit": as_coroutine(lambda _: Deny())}, "admit", HandshakeOutcome.DENIED, ""),
        ({"admit": never}, "admit", HandshakeOutcome.TIMEOUT, "gave no answer"),
    ],
)
async def test_the_operator_is_told_which_hook_refused_and_how(hooks, role, outcome, said, caplog):
    client, server = memory_pair()
    reports = []
    seconds = 1e-6 if outcome is HandshakeOutcome.TIMEOUT else 60.0
    limits = Policy(hook_timeout=seconds, authorize_timeout=seconds, admit_timeout=seconds)
    handshake = Handshake(
        server,
        server_config(limits, **hooks),
        RDP(hybrid_ex=True),
        on_handshake=reports.append,
    )
    with caplog.at_level(logging.INFO, "acredssp"):
        theirs, ours = await asyncio.gather(
            handshake.run(), client_side(client, carriage=RDP(hybrid_ex=True)).establish(), return_exceptions=True
        )
    (report,) = reports
    assert report.error is theirs
    assert isinstance(ours, AuthenticationError)
    assert (report.outcome, report.hook) == (outcome, role)
    ours_logged = [record for record in caplog.records if record.name == "acredssp"]  # asyncio warns of a slow machine
    warnings = [record.getMessage() for record in ours_logged if record.levelno == logging.WARNING]
    assert len(warnings) == bool(said)
    assert all(message.startswith(f"hook {role} (") and said in message for message in warnings)
    assert CANARY not in caplog.text
    assert PASSWORD not in caplog.text


async def cancelled_task(_request):
    task = asyncio.ensure_future(asyncio.Event().wait())
    task.cancel()
    await task


def cancelled_future(_request):
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    return future


@pytest.mark.parametrize("hook", [cancelled_task, cancelled_future, raising(asyncio.CancelledError(CANARY))])
@pytest.mark.parametrize("role", ["lookup", "oracle", "authorize", "admit"])
async def test_a_hook_that_ends_as_cancelled_by_itself_has_failed(role, hook, caplog):
    client, server = memory_pair()
    reports = []
    config = server_config(**({"lookup": lambda _: Oracle(hook)} if role == "oracle" else {role: hook}))
    handshake = Handshake(server, config, RDP(hybrid_ex=True), on_handshake=reports.append)
    theirs, ours = await asyncio.gather(
        handshake.run(), client_side(client, carriage=RDP(hybrid_ex=True)).establish(), return_exceptions=True
    )
    (report,) = reports
    assert report.error is theirs
    assert isinstance(theirs, AuthenticationError)
    assert isinstance(ours, AuthenticationError)
    assert (report.outcome, report.hook) == (HandshakeOutcome.FAILED, role)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage().startswith(f"hook {role} (")
    assert " raised CancelledError, peer " in record.getMessage()
    assert CANARY not in caplog.text


@pytest.mark.parametrize("role", ["lookup", "authorize", "admit"])
async def test_a_handshake_that_is_cancelled_while_a_hook_is_asked_is_ended_by_us(role, caplog):
    client, server = memory_pair()
    reports, begun = [], asyncio.Event()

    async def hook(_request):
        begun.set()
        await asyncio.Event().wait()

    handshake = Handshake(server, server_config(**{role: hook}), TLS(), on_handshake=reports.append)
    task = asyncio.ensure_future(handshake.run())
    connecting = asyncio.ensure_future(client_side(client).establish())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.gather(connecting, return_exceptions=True)
    assert [report.outcome for report in reports] == [HandshakeOutcome.ABORTED]
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


async def test_a_hook_that_the_deadline_of_the_handshake_overtakes_is_named(caplog, monkeypatch):
    deadlines = Deadlines(monkeypatch)

    async def lookup(request):
        deadlines.come()
        await never(request)

    client, server = memory_pair()
    reports = []
    config = server_config(Policy(hook_timeout=100), lookup=lookup)
    handshake = Handshake(server, config, TLS(), timeout=Deadlines.FAR, on_handshake=reports.append)
    await asyncio.gather(handshake.run(), client_side(client).establish(), return_exceptions=True)
    (report,) = reports
    assert (report.outcome, report.hook) == (HandshakeOutcome.TIMEOUT, "lookup")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "hook lookup" in record.getMessage()


async def test_lookup_is_told_who_claims_to_log_on_and_by_which_way():
    asked = []

    def lookup(request):
        asked.append(request)
        return Password(PASSWORD)

    await handshake(server_config(lookup=lookup), RDP(cookie="bob"))
    (request,) = asked
    assert (request.principal.user, request.principal.domain) == ("bob", "CONTOSO")
    assert request.principal.target_name == "TERMSRV/localhost"
    assert request.mechanism == "ntlm"
    assert request.peer_address == ("memory", 3389)
    assert (request.server_name, request.cookie) == ("localhost", "bob")
    assert request.request.cookie == "bob"
    assert 0 < request.deadline - asyncio.get_running_loop().time() <= Policy().hook_timeout


async def test_a_hooks_deadline_is_never_behind_the_handshakes():
    asked = []
    client, server = memory_pair()
    theirs = server_side(server, server_config(lookup=asked.append), timeout=5)
    await both(client_side(client), theirs)
    assert asked[0].deadline == theirs.deadline


@pytest.mark.parametrize("deadline", [-1.0, None], ids=["passed", "none"])
async def test_a_hooks_deadline_is_never_in_the_past(deadline):
    asked = []
    client, server = memory_pair()
    theirs = server_side(server, server_config(lookup=asked.append))
    now = asyncio.get_running_loop().time()
    theirs.answers = ServerAnswers(
        server_config(lookup=asked.append), theirs.carried, None, None if deadline is None else now + deadline
    )
    await both(client_side(client), theirs)
    assert now <= asked[0].deadline <= asyncio.get_running_loop().time() + Policy().hook_timeout


async def test_authorize_and_admit_are_told_who_came():
    told = []

    def hook(who):
        told.append(who)
        return True

    await handshake(server_config(authorize=hook, admit=hook), RDP(cookie="bob"))
    for identity in told:
        assert (identity.principal.user, identity.mechanism, identity.cookie) == ("bob", "ntlm", "bob")
        assert identity.request.cookie == "bob"
        assert identity.server_name == "localhost"
    facts = told[1].info
    assert (facts.principal.user, facts.version, facts.delegated) == ("bob", 6, "password")


async def test_admit_sees_what_was_delegated_and_the_application_gets_it_all_the_same():
    seen = []

    def admit(admission):
        seen.append(admission.credentials.as_password())
        return True

    client, server = memory_pair()
    theirs = server_side(server, server_config(admit=admit))
    await both(client_side(client), theirs)
    given = theirs.carried.context.take_credentials().as_password()
    assert seen == [given] == [Password(PASSWORD, "bob", "CONTOSO")]
    assert theirs.carried.context.take_credentials() is None


@pytest.mark.parametrize("answer", [False, Deny(), None])
async def test_what_was_delegated_is_overwritten_where_admit_refuses(answer):
    kept = []

    def admit(admission):
        kept.append(admission)
        return answer

    await handshake(server_config(admit=admit))
    [admission] = kept
    assert not any(admission.credentials.password)
    assert PASSWORD not in repr(admission)


@pytest.mark.parametrize("hook", ["authorize", "admit"])
async def test_authorize_and_admit_may_take_longer_than_the_other_hooks(hook):
    async def yes(_identity):
        for _ in range(3):
            await asyncio.sleep(0)
        return True

    _, theirs = await handshake(server_config(Policy(hook_timeout=1e-9), **{hook: yes}))
    assert theirs.version == 6


@pytest.mark.parametrize("hook", ["authorize", "admit"])
async def test_authorize_and_admit_have_time_limits_of_their_own(hook):
    async def never(_identity):
        await asyncio.Event().wait()

    client, server = memory_pair()
    theirs = server_side(server, server_config(Policy(**{f"{hook}_timeout": 1e-9}), **{hook: never}))
    await both(client_side(client), theirs)
    assert theirs.answers.refusal == (hook, HandshakeOutcome.TIMEOUT)


async def test_a_client_named_by_address_sends_no_server_name():
    asked = []
    await handshake(server_config(lookup=asked.append), name="127.0.0.1")
    assert asked[0].server_name == ""


async def test_a_step_that_may_block_runs_in_a_thread_on_both_sides():
    client, server = memory_pair()
    sides = client_side(client), server_side(server)
    for side in sides:
        assert await side.answers(StepMechanism(lambda: b"token")) == b"token"
        assert isinstance(await side.answers(StepMechanism(functools.partial(raising(OSError()), None))), OSError)


async def test_an_event_of_the_other_side_is_a_bug_of_ours():
    _, server = memory_pair()
    ours = ClientAnswers(client_config(), "localhost")
    theirs = ServerAnswers(server_config(), server_side(server).carried, None, 0)
    with pytest.raises(TypeError, match="LookupCredential"):
        await ours(LookupCredential(Principal("bob", ""), "ntlm"))
    with pytest.raises(AssertionError, match="JudgeCertificate"):
        await theirs(JudgeCertificate(()))


@pytest.mark.parametrize(
    ("keytab", "lane"),
    [
        (None, Lane.LOCAL),
        (Keytab("keys"), Lane.LOCAL),
        (Keytab("keys", "gateway@REALM", constrained_delegation=True), Lane.KDC),
    ],
)
def test_an_acceptor_that_asks_a_kdc_holds_up_no_other_one(keytab, lane):
    config = types.SimpleNamespace(keytab=keytab)
    answers = ServerAnswers(config, types.SimpleNamespace(chosen=None), None, None)
    assert answers._lane is lane
