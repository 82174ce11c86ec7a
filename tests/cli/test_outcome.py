import pytest

from acredssp.cli.outcome import EXIT_STATUS, ConnectError, Interrupted, Result, advice, result_of
from acredssp.errors import (
    AccessDenied,
    AuthenticationError,
    CertificateError,
    CredSSPError,
    HandshakeTimeout,
    LimitExceeded,
    NegotiationFailure,
    PeerClosed,
    PolicyError,
    PublicKeyMismatch,
    RemoteProtocolError,
    TLSError,
)
from acredssp.status import NTSTATUS, SecurityStatus, Stage


@pytest.mark.parametrize(
    ("error", "result", "status"),
    [
        (None, Result.SUCCESS, 0),
        (AuthenticationError("x"), Result.DENIED, 1),
        (AccessDenied("x"), Result.DENIED, 1),
        (TLSError("x", security_status=SecurityStatus.SEC_E_LOGON_DENIED), Result.DENIED, 1),
        (TLSError("x"), Result.PROTOCOL_ERROR, 3),
        (CertificateError("x"), Result.PROTOCOL_ERROR, 3),
        (PolicyError("x"), Result.PROTOCOL_ERROR, 3),
        (PublicKeyMismatch("x"), Result.PROTOCOL_ERROR, 3),
        (NegotiationFailure("x"), Result.PROTOCOL_ERROR, 3),
        (RemoteProtocolError("x"), Result.PROTOCOL_ERROR, 3),
        (LimitExceeded("x"), Result.PROTOCOL_ERROR, 3),
        (PeerClosed("x"), Result.NETWORK_ERROR, 4),
        (ConnectError("x"), Result.NETWORK_ERROR, 4),
        (HandshakeTimeout("x"), Result.TIMEOUT, 4),
        (Interrupted("x"), Result.INTERRUPTED, 130),
    ],
)
def test_each_error_has_a_result_and_each_result_an_exit_status(error, result, status):
    assert (result_of(error), EXIT_STATUS[result]) == (result, status)


def subclasses(kind):
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


OF_THE_ENGINE = [kind for kind in subclasses(CredSSPError) if kind.__module__ == CredSSPError.__module__]


@pytest.mark.parametrize("kind", sorted(OF_THE_ENGINE, key=lambda kind: kind.__name__))
def test_there_is_advice_on_every_kind_of_error(kind):
    assert advice(kind("x"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (AuthenticationError("x", hint="own hint", nt_status=NTSTATUS.STATUS_LOGON_FAILURE), "own hint"),
        (AuthenticationError("x", nt_status=NTSTATUS(0xC0DE00EA)), "ask its administrator"),
        (AuthenticationError("x"), "ask its administrator"),
        (HandshakeTimeout("x", stage=Stage.CONNECT), "firewall"),
        (HandshakeTimeout("x", stage=Stage.TLS), "--timeout"),
        (HandshakeTimeout("x", stage=Stage.NEGOTIATION), "--carriage"),
        (HandshakeTimeout("x", stage=Stage.NEGO_TOKEN), "--timeout"),
    ],
)
def test_the_most_particular_advice_is_given(error, said):
    assert said in advice(error)
