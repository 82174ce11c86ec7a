"""The door for transports of the program's own: all that a step asks is answered, each answer under its time limit."""

import asyncio
import dataclasses
import threading

import pytest
from support import endpoints
from support.endpoints import BOB, server_config

from acredssp.aio import ClientAnswers, HandshakeOutcome, ServerAnswers, answer_events
from acredssp.credentials import Deny, Oracle
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.errors import CertificateError, CredSSPError
from acredssp.events import LookupCredential, SecurityContext, State, StepMechanism
from acredssp.hooks import Principal
from acredssp.http import ClientExchange, ServerExchange
from acredssp.policy import Policy
from acredssp.trust import Trust

NAME, SPN = "localhost", "HTTP/localhost"
WEB = SPNList.of("HTTP/*")
DELEGATION = DelegationPolicy(allow_fresh_credentials=WEB, allow_fresh_credentials_when_ntlm_only=WEB)
LOOKUP = LookupCredential(Principal("bob", "CONTOSO"), "ntlm")


def client_config(**changes):
    return endpoints.client_config(delegation=DELEGATION, **changes)


@dataclasses.dataclass
class Asks:
    """What a step led to."""

    event: object


async def over_http(client_config, server_config, answers=None):
    """Log on by the exchanges of HTTP; return the server's."""
    client, server = ClientExchange(client_config, NAME), ServerExchange(server_config)
    ours = ClientAnswers(client_config, NAME)
    theirs = answers or ServerAnswers(server_config, server.context)
    turn = await answer_events(client, client.start(), ours)
    while turn.authorization:
        asked = server.receive([("Authorization", turn.authorization), ("Content-Length", "0")])
        reply = (await answer_events(server, asked, theirs)).reply
        turn = await answer_events(client, client.receive(reply.status, reply.headers), ours)
    return server


async def by_tokens(client_config, server_config):
    """Log on by contexts, which take turns; return the server's."""
    client = client_config.new_context(server_hostname=NAME, spn=SPN, turns=True)
    server = server_config.new_context(turns=True)
    ours, theirs = ClientAnswers(client_config, NAME), ServerAnswers(server_config, server)
    token = b""
    while server.state is not State.ESTABLISHED:
        token = (await answer_events(client, client.step(token), ours)).output
        token = (await answer_events(server, server.step(token), theirs)).output
    return server


async def lookup(request):
    await asyncio.sleep(0)
    return BOB


async def yes(identity):
    await asyncio.sleep(0)
    return True


async def never(request):
    await asyncio.Event().wait()


@pytest.mark.parametrize("log_on", [over_http, by_tokens])
@pytest.mark.parametrize("hooks", [{"lookup": lambda request: BOB}, {"lookup": lookup, "authorize": yes, "admit": yes}])
async def test_hooks_of_both_kinds_are_asked(log_on, hooks):
    server = await log_on(client_config(), server_config(**hooks))
    context = server if isinstance(server, SecurityContext) else server.context
    assert str(context.info.principal) == "CONTOSO\\bob"


async def test_an_oracle_that_takes_time_is_asked():
    asked = []

    async def verify(exchange):
        asked.append(exchange.user)
        await asyncio.sleep(0)
        return Deny()

    config = server_config(lookup=lambda request: Oracle(verify))
    with pytest.raises(CredSSPError):
        await over_http(client_config(), config)
    assert asked == ["bob"]


async def test_a_hook_that_gives_no_answer_is_a_refusal_after_the_policys_time():
    config = server_config(Policy(hook_timeout=1e-9), lookup=never)
    answers = ServerAnswers(config, ServerExchange(config).context)
    given = []

    class Source:
        def resume(self, event, answer):
            given.append(answer)
            return Asks(None)

    await answer_events(Source(), Asks(LOOKUP), answers)
    assert given == [None]
    assert answers.refusal == ("lookup", HandshakeOutcome.TIMEOUT)
    assert answers.running == ""
    assert answers.principal == LOOKUP.principal


async def test_a_step_of_kerberos_runs_in_a_thread_and_has_a_time_limit():
    steps = []

    class Source:
        def resume(self, event, answer):
            steps.append(answer)
            return Asks(None)

    await answer_events(Source(), Asks(StepMechanism(lambda: b"token")), ClientAnswers(client_config(), NAME))
    hasty = ClientAnswers(client_config(policy=Policy(kerberos_timeout=0.01)), NAME)
    release = threading.Event()
    try:
        await answer_events(Source(), Asks(StepMechanism(release.wait)), hasty)
    finally:
        release.set()
    assert steps[0] == b"token"
    assert str(steps[1]) == "kerberos: no kdc answered within 0.01 seconds"
    assert len(steps) == 2


async def test_a_refusal_of_the_clients_ends_its_logon():
    config = client_config(trust=Trust.pinned("00" * 32))
    context = config.new_context(server_hostname=NAME, spn=SPN, turns=True)
    server = server_config(lookup=lookup).new_context(turns=True)
    answers = ClientAnswers(config, NAME)
    hello = await answer_events(context, context.step(b""), answers)
    with pytest.raises(CertificateError) as caught:
        await answer_events(context, context.step(server.step(hello.output).output), answers)
    assert context.state is State.FAILED
    with pytest.raises(CertificateError) as again:
        context.step(b"")
    assert again.value is caught.value


async def test_a_caller_that_is_cancelled_gives_no_answer():
    asked, given = asyncio.Event(), []

    async def lookup(request):
        asked.set()
        await never(request)

    config = server_config(lookup=lookup)

    class Source:
        def resume(self, event, answer):
            given.append(answer)

        def fail(self, error):
            given.append(error)

    answers = ServerAnswers(config, ServerExchange(config).context)
    task = asyncio.create_task(answer_events(Source(), Asks(LOOKUP), answers))
    await asked.wait()
    assert answers.running == "lookup"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert given == []


async def test_an_answer_is_in_no_frame_of_an_error():
    class Source:
        def resume(self, event, answer):
            raise CredSSPError("refused")

        def fail(self, error):
            pass

    config = server_config(lookup=lambda request: BOB)
    answers = ServerAnswers(config, ServerExchange(config).context)
    with pytest.raises(CredSSPError) as caught:
        await answer_events(Source(), Asks(LOOKUP), answers)
    seen = [value for entry in caught.traceback for value in entry.frame.f_locals.values()]
    assert LOOKUP in seen, "the frames are looked at"
    assert BOB not in [value for value in seen if type(value) is type(BOB)]
