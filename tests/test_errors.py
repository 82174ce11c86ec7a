"""The exception tree."""

import inspect

import pytest
from support.pages import ROOT

from acredssp import errors
from acredssp.errors import AuthenticationError, CredSSPError, PeerClosed
from acredssp.status import NTSTATUS, SecurityStatus, Stage

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, CredSSPError)]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_below_the_root_and_has_a_failing_status(error):
    assert error.__name__ in errors.__all__
    assert error("expected x, got y").security_status.failed


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.LocalProtocolError, RuntimeError),
        (errors.HandshakeTimeout, TimeoutError),
        (errors.PeerClosed, ConnectionError),
    ],
)
def test_builtin_kin(error, builtin):
    assert issubclass(error, builtin)


def test_the_text_is_a_sentence_with_its_hint():
    assert str(CredSSPError("it failed", hint="try again")) == "it failed (try again)"
    assert str(CredSSPError("it failed")) == "it failed"


def test_facts_are_kept():
    error = CredSSPError(
        "no",
        security_status=SecurityStatus.SEC_E_TIME_SKEW,
        stage=Stage.TLS,
        nt_status=NTSTATUS.STATUS_ACCESS_DENIED,
    )
    assert (error.security_status, error.stage, error.nt_status) == (
        SecurityStatus.SEC_E_TIME_SKEW,
        Stage.TLS,
        NTSTATUS.STATUS_ACCESS_DENIED,
    )
    assert CredSSPError.security_status is SecurityStatus.SEC_E_INTERNAL_ERROR


@pytest.mark.parametrize(
    ("error", "anchor"),
    [
        (AuthenticationError("no", nt_status=NTSTATUS.STATUS_ACCOUNT_DISABLED), "#STATUS_ACCOUNT_DISABLED"),
        (AuthenticationError("no", nt_status=NTSTATUS(0xC007052E)), "#STATUS_LOGON_FAILURE"),  # a Win32 error
        (AuthenticationError("no", nt_status=NTSTATUS(0xC00700EA)), "#SEC_E_LOGON_DENIED"),
        (AuthenticationError("no", nt_status=NTSTATUS(0xC0DE00EA)), "#SEC_E_LOGON_DENIED"),
        (PeerClosed("gone"), "#SEC_E_CONTEXT_EXPIRED"),
        (CredSSPError("odd", security_status=SecurityStatus(0xC0DE00EA)), ""),
    ],
)
def test_an_error_says_where_its_status_is_explained(error, anchor):
    assert error.anchor == f"docs/statuses.md{anchor}"
    page = (ROOT / "docs" / "statuses.md").read_text(encoding="utf-8")
    assert f'<a id="{anchor[1:]}"></a>' in page or not anchor


def test_the_usual_status_of_each_error_is_explained():
    page = (ROOT / "docs" / "statuses.md").read_text(encoding="utf-8")
    assert len(CLASSES) == 14
    assert [kind for kind in CLASSES if f'<a id="{kind.security_status}"></a>' not in page] == []
