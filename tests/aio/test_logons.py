"""The logons of a server with a transport of the program's own: what is reported, counted and logged."""

import logging

import pytest
from support.endpoints import BOB, client_config, server_config

from acredssp.aio import (
    ClientAnswers,
    FailureLimit,
    HandshakeOutcome,
    ServerLogons,
    answer_events,
    connection_id,
    pacing,
)
from acredssp.credentials import Password
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.errors import AuthenticationError, CredSSPError, HandshakeTimeout, PeerClosed
from acredssp.events import State

HERE = ("192.0.2.1", 4000)
WEB = SPNList.of("HTTP/*")
DELEGATION = DelegationPolicy(allow_fresh_credentials=WEB, allow_fresh_credentials_when_ntlm_only=WEB)


async def log_on(logons, password=BOB):
    """One logon by tokens; return it."""
    config = client_config(authenticate=password, delegation=DELEGATION)
    client = config.new_context(server_hostname="localhost", spn="HTTP/localhost", turns=True)
    server = server_config().new_context(turns=True)
    ours, logon, token = ClientAnswers(config, "localhost"), logons.begin(server, HERE), b""
    logon.name_records()
    try:
        while server.state is not State.ESTABLISHED:
            token = (await answer_events(client, client.step(token), ours)).output
            token = (await answer_events(server, server.step(token), logon.answers)).output
    except CredSSPError as error:
        logon.conclude(error)
    else:
        logon.conclude(None)
    return logon


async def test_a_logon_is_reported_once(caplog):
    caplog.set_level(logging.DEBUG, "acredssp")
    reports = []
    logon = await log_on(ServerLogons(server_config(), on_handshake=reports.append))
    logon.conclude(PeerClosed("later"))
    (report,) = reports
    assert report.outcome is HandshakeOutcome.SUCCESS
    assert str(report.principal) == "CONTOSO\\bob"
    assert report.connection_id == logon.connection_id == connection_id()
    assert "handshake with 192.0.2.1:4000 established" in caplog.text


async def test_a_refusal_is_reported_with_the_name_that_was_claimed():
    reports = []
    await log_on(ServerLogons(server_config(), on_handshake=reports.append), Password("wrong", "bob", "CONTOSO"))
    (report,) = reports
    assert report.outcome is HandshakeOutcome.DENIED
    assert str(report.principal) == "CONTOSO\\bob"
    assert report.account is None


@pytest.mark.parametrize(
    ("error", "outcome"), [(HandshakeTimeout("late"), HandshakeOutcome.TIMEOUT), (PeerClosed("gone"), "left")]
)
async def test_the_error_tells_the_outcome(error, outcome):
    reports = []
    logons = ServerLogons(server_config(), on_handshake=reports.append)
    logons.begin(server_config().new_context(turns=True), HERE).conclude(error)
    assert [report.outcome for report in reports] == [outcome]


async def test_wrong_passwords_are_counted_over_all_logons_of_the_server():
    reports = []
    logons = ServerLogons(server_config(), max_failures=FailureLimit(count=2), on_handshake=reports.append)
    for _ in range(2):
        await log_on(logons, Password("wrong", "bob", "CONTOSO"))
    await log_on(logons)
    assert [report.outcome for report in reports] == ["denied", "denied", "limited"]
    assert isinstance(reports[-1].error, AuthenticationError)


async def test_an_address_that_tries_many_accounts_gets_no_more_logons():
    reports = []
    logons = ServerLogons(server_config(), max_failures=FailureLimit(count=1), on_handshake=reports.append)
    for number in range(10):
        await log_on(logons, Password("wrong", f"user{number}", "CONTOSO"))
    await log_on(logons)
    assert [report.outcome for report in reports] == ["denied"] * 10 + ["limited"]
    assert isinstance(reports[-1].error, AuthenticationError)


async def test_an_address_whose_logons_fail_has_to_wait_and_no_other_one(monkeypatch):
    monkeypatch.setattr(pacing, "_LONGEST_WAIT", 3600.0)
    logons = ServerLogons(server_config(), max_failed_per_second=1)
    for _ in range(100):
        logons.begin(server_config().new_context(turns=True), HERE).conclude(PeerClosed("gone"))
    assert logons.wait(HERE) > 0.0
    assert logons.wait(("192.0.2.200", 1)) == 0.0
    assert ServerLogons(server_config()).wait(HERE) == 0.0


@pytest.mark.parametrize("most", [0, -1])
def test_a_limit_that_would_let_nobody_in_is_refused(most):
    with pytest.raises(ValueError, match="max_failed_per_second: expected 1 or more"):
        ServerLogons(server_config(), max_failed_per_second=most)
