import logging

import pytest

from acredssp import errors
from acredssp.aio.report import (
    HandshakeOutcome,
    HandshakeReport,
    Sparingly,
    address_text,
    log_report,
    outcome_of,
    printable,
)
from acredssp.core.results import HandshakeInfo
from acredssp.credentials import Account
from acredssp.mechanisms.base import Principal
from acredssp.status import NTSTATUS, Stage

V4 = ("192.0.2.7", 50123)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, HandshakeOutcome.SUCCESS),
        (errors.AuthenticationError("x"), HandshakeOutcome.DENIED),
        (errors.AccessDenied("x"), HandshakeOutcome.DENIED),
        (errors.HandshakeTimeout("x"), HandshakeOutcome.TIMEOUT),
        (errors.PeerClosed("x"), HandshakeOutcome.LEFT),
        (errors.HandshakeAborted("x"), HandshakeOutcome.ABORTED),
        (errors.TLSError("x"), HandshakeOutcome.FAILED),
        (errors.LimitExceeded("x"), HandshakeOutcome.FAILED),  # of the protocol
        (errors.PublicKeyMismatch("x"), HandshakeOutcome.FAILED),
    ],
)
def test_what_an_error_came_to(error, outcome):
    assert outcome_of(error) is outcome


def test_a_peer_that_left_without_a_byte_is_told_apart():
    assert outcome_of(errors.PeerClosed("x"), heard=False) is HandshakeOutcome.NO_DATA


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (V4, "192.0.2.7:50123"),
        (("2001:db8::1", 50123, 0, 0), "[2001:db8::1]:50123"),
        ("", "somewhere"),
        (None, "somewhere"),
        ("/run/x\n", "/run/x\\n"),
    ],
)
def test_a_peers_address_is_shown(address, text):
    assert address_text(address) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("CONTOSO\\bob", "CONTOSO\\bob"),
        ("Pässe", "Pässe"),
        ("a\r\nb", "a\\r\\nb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202ebob", "\\u202ebob"),
        ("\ud800", "\\ud800"),
        ("\u2028", "\\u2028"),
        ("x" * 300, "x" * 256 + "..."),
    ],
)
def test_what_a_peer_says_is_made_printable_and_cut(text, shown):
    assert printable(text) == shown


def report(**changes):
    error = errors.AuthenticationError(
        "logon refused", stage=Stage.NEGO_TOKEN, nt_status=NTSTATUS.STATUS_LOGON_FAILURE, hint="check it"
    )
    facts = {"principal": Principal("bob", "CONTOSO"), "outcome": HandshakeOutcome.DENIED, "error": error}
    return HandshakeReport(**{"peer_address": V4, "info": None} | facts | changes)


def line(caplog, **changes):
    with caplog.at_level(logging.DEBUG, "acredssp"):
        log_report(report(**changes))
    (record,) = caplog.records
    return record


def test_the_line_of_a_failure_tells_who_where_and_why(caplog):
    record = line(caplog, hook="lookup")
    assert record.levelno == logging.INFO
    assert record.getMessage() == (
        "handshake with 192.0.2.7:50123 failed: denied, hook lookup, claimed CONTOSO\\bob, stage nego_token, "
        "status SEC_E_LOGON_DENIED, nt status STATUS_LOGON_FAILURE, error logon refused (check it)"
    )


@pytest.mark.parametrize(
    ("known_as", "said"),
    [
        (Account("robert", "FABRIKAM"), "claimed CONTOSO\\bob, account FABRIKAM\\robert, stage"),
        (Account("bob", "CONTOSO"), "claimed CONTOSO\\bob, stage"),
        (None, "claimed CONTOSO\\bob, stage"),
    ],
)
def test_the_line_of_a_failure_tells_the_account_where_the_claim_is_another_name(caplog, known_as, said):
    principal = Principal("bob", "CONTOSO", known_as=known_as)
    info = HandshakeInfo(6, "kerberos", principal, None, "TLSv1.3", "x", None)
    assert said in line(caplog, info=info).getMessage()


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"error": None, "outcome": HandshakeOutcome.SUCCESS}, logging.DEBUG),
        ({"error": errors.PeerClosed("x"), "outcome": HandshakeOutcome.NO_DATA}, logging.DEBUG),
        ({"error": errors.PeerClosed("x"), "outcome": HandshakeOutcome.LEFT}, logging.INFO),
        ({"error": errors.HandshakeTimeout("x"), "outcome": HandshakeOutcome.TIMEOUT}, logging.INFO),
        (
            {"error": errors.HandshakeTimeout("x"), "outcome": HandshakeOutcome.TIMEOUT, "hook": "admit"},
            logging.WARNING,
        ),
    ],
)
def test_levels(caplog, changes, level):
    assert line(caplog, **changes).levelno == level


def test_nobody_writes_a_second_line_into_the_log(caplog):
    forged = "bob\nINFO handshake with 203.0.113.9:1 failed: denied"
    text = line(caplog, principal=Principal(forged, "x\x1b[2J")).getMessage()
    assert text.isprintable()
    assert text.startswith("handshake with 192.0.2.7:50123 failed: denied, ")


def test_one_of_many_is_let_through_a_second():
    lines = Sparingly()
    assert [lines.lets(now) for now in (-5.0, -4.5, -4.01, -4.0, -3.5, 7.0, 7.0)] == [
        True, False, False, True, False, True, False,
    ]  # fmt: skip
