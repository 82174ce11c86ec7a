"""The exception tree."""

import inspect

import pytest

from acredssp import errors
from acredssp.errors import CredSSPError
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
