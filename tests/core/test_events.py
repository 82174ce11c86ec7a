"""Events name the type of their answer, for type checkers; the engine takes the answer to its own question alone."""

import subprocess
import sys
import typing

import pytest
from support.engine import ALICE, script_client, script_server

from acredssp.core.events import (
    Admit,
    Authorize,
    ChooseCertificate,
    Event,
    JudgeCertificate,
    LookupCredential,
    Question,
)
from acredssp.core.states import State
from acredssp.credentials import Deny
from acredssp.errors import LocalProtocolError
from acredssp.mechanisms.base import Principal, StepMechanism
from acredssp.status import SecurityStatus
from acredssp.wire.ts_request import TSRequest

ANSWERS = """
import ssl
from typing import Any, assert_never

import acredssp
from acredssp import credentials, events, rdp, wire
from acredssp.carriage import CarriedHandshake
from acredssp.events import Event, Question


def answer(
    engine: events.SecurityContext,
    event: Event,
    config: acredssp.ServerConfig,
    tls: ssl.SSLContext,
    sent: wire.TSCredentials,
    code: rdp.FailureCode,
) -> None:
    match event:
        case events.Route():
            engine.resume(event, config)
            engine.resume(event, rdp.RDPRoute(config))
            engine.resume(event, code, b"early")
            engine.resume(event, acredssp.Deny())
            engine.resume(event, tls)  # wrong
            engine.resume(event, None)  # wrong
        case events.LookupCredential():
            engine.resume(event, acredssp.Password("secret"))
            engine.resume(event, credentials.Candidates([acredssp.NTHash(bytes(16))]))
            engine.resume(event, acredssp.Deny())
            engine.resume(event, "secret")  # wrong
            engine.resume(event, None)  # wrong
        case events.AskOracle():
            engine.resume(event, bytes(16))
            engine.resume(event, acredssp.Deny())
            engine.resume(event, True)  # wrong
        case events.StepMechanism():
            engine.resume(event, event.run())
            engine.resume(event, OSError())
            engine.resume(event, True)  # wrong
        case events.ChooseCertificate():
            engine.resume(event, tls)
            engine.resume(event, None)
            engine.resume(event, b"pem")  # wrong
        case events.JudgeCertificate():
            engine.resume(event, True)
            engine.resume(event, False)
            engine.resume(event, None)  # wrong
        case events.Delegate():
            engine.resume(event, True)
            engine.resume(event, sent)
            engine.resume(event, False)  # wrong
            engine.resume(event, acredssp.Password("secret"))  # wrong
        case events.Authorize():
            engine.resume(event, True)
            engine.resume(event, acredssp.Account("alice"))
            engine.resume(event, acredssp.Deny())
            engine.resume(event, None)  # wrong
        case events.Admit():
            engine.resume(event, event.principal.known_as is not None)
            engine.resume(event, acredssp.Deny())
            engine.resume(event, acredssp.Account("alice"))  # wrong
        case _:
            assert_never(event)


def forgotten(event: Event) -> None:
    match event:
        case events.Route() | events.LookupCredential() | events.AskOracle() | events.StepMechanism():
            pass
        case events.ChooseCertificate() | events.JudgeCertificate() | events.Delegate() | events.Authorize():
            pass
        case _:
            assert_never(event)  # wrong


def by_configuration(engine: events.SecurityContext, event: Event, config: acredssp.ClientConfig) -> None:
    engine.resume(event, config.answer(event, "host"))
    if isinstance(event, events.Delegate):
        engine.resume(event, config.decide(event))
    engine.resume(event, True)  # wrong


def in_a_carriage(handshake: CarriedHandshake, event: events.JudgeCertificate) -> None:
    handshake.resume(event, True)
    handshake.resume(event, "yes")  # wrong


def without_types(engine: events.SecurityContext, event: Question[Any], answer: object) -> None:
    engine.resume(event, answer)
"""


def checked(source):
    """The numbers of the lines that mypy has an error for, and its whole output."""
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary", str(source)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not ran.stderr, ran.stderr
    return [int(line.split(":")[1]) for line in ran.stdout.splitlines() if ": error: " in line], ran.stdout


def test_a_type_checker_takes_the_right_answers_and_refuses_the_wrong_ones(tmp_path):
    source = tmp_path / "answers.py"
    source.write_text(ANSWERS, encoding="utf-8")
    wrong = [number for number, line in enumerate(ANSWERS.splitlines(), 1) if line.endswith("# wrong")]
    errors, output = checked(source)
    assert errors == wrong, output
    assert output.count('"resume"') == len(wrong) - 1, output
    assert output.count('to "assert_never" has incompatible type "Admit"') == 1, output


def test_every_event_names_the_type_of_its_answer():
    for event in typing.get_args(Event):
        (question,) = event.__orig_bases__
        assert typing.get_origin(question) is Question, event
        assert typing.get_args(question)[0] not in (object, typing.Any), event


STEP = StepMechanism(run=bytes)
LOOKUP = LookupCredential(Principal("alice", ""), "ntlm")
OTHERS = {
    "of another type": Authorize(Principal("alice", ""), "ntlm"),
    "that only equals it": LookupCredential(Principal("alice", ""), "ntlm"),
    "of nobody": None,
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_an_answer_to_another_event_changes_nothing(other):
    server = script_server(LOOKUP, b"s1", b"")
    result = server.step(TSRequest(6, nego_token=b"c1").encode())
    with pytest.raises(LocalProtocolError, match="expected the answer to the pending LookupCredential, got one to a"):
        server.resume(other, Deny())
    assert (server.state, server.farewell) == (State.NEGO_TOKEN, b"")
    assert server.handshake.mechanism.answers == []
    assert TSRequest.decode(server.resume(result.event, ALICE).output).nego_token == b"s1"
    assert server.handshake.mechanism.answers == [ALICE]


def test_an_event_is_answered_once():
    client = script_client(STEP, b"c1", b"c2")
    client.resume(client.step().event, b"done")
    with pytest.raises(LocalProtocolError, match="does not wait for an answer"):
        client.resume(STEP, b"done")
    assert client.state is State.NEGO_TOKEN


def test_the_refusal_of_an_answer_shows_nothing_of_the_events():
    server = script_server(LOOKUP, b"s1", b"")
    server.step(TSRequest(6, nego_token=b"c1").encode())
    with pytest.raises(LocalProtocolError) as caught:
        server.resume(Admit(Principal("mallory", ""), "ntlm", ALICE), True)
    assert "alice" not in str(caught.value)
    assert "mallory" not in str(caught.value)
    assert caught.value.security_status is SecurityStatus.SEC_E_OUT_OF_SEQUENCE


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (JudgeCertificate((b"x" * 900, b"y" * 1200)), "JudgeCertificate(chain=<2 of 900, 1200 bytes>)"),
        (JudgeCertificate(()), "JudgeCertificate(chain=<none>)"),
        (ChooseCertificate(()), "ChooseCertificate(authorities=<none>)"),
        (
            ChooseCertificate((b"x" * 40,) * 8),
            "ChooseCertificate(authorities=<8 of 40, 40, 40, 40, 40, 40, 40, 40 bytes>)",
        ),
        (
            ChooseCertificate((b"x" * 40,) * 9),
            "ChooseCertificate(authorities=<9 of 40, 40, 40, 40, 40, 40, 40, 40, ... bytes>)",
        ),
    ],
)
def test_a_repr_shows_the_sizes_of_certificates_and_not_their_bytes(event, shown):
    assert repr(event) == shown
