"""A client's second choice: after which failures, and until when."""

import pytest
from support.engine import Script

from acredssp.errors import AuthenticationError, CredSSPError, PolicyError
from acredssp.mechanisms.base import StepMechanism
from acredssp.mechanisms.fall_back import FallingBack
from acredssp.policy import FALL_BACK
from acredssp.status import SecurityStatus

STEP = StepMechanism(lambda: b"")
NO_KDC = SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY


def failing(status=NO_KDC, text="no kdc"):
    return AuthenticationError(text, security_status=status)


def mechanism(*tokens, causes=FALL_BACK):
    second = Script(b"second", b"", name="ntlm")
    return FallingBack(Script(*tokens, name="kerberos"), lambda: second, causes), second


def test_the_first_choice_is_all_there_is_while_it_works():
    falling, second = mechanism(STEP, b"first", b"")
    assert falling.step(b"") is STEP
    assert falling.resume(b"") == b"first"
    assert falling.step(b"reply") == b""
    assert (falling.name, falling.fallback, falling.complete) == ("kerberos", "", True)
    assert second.got == []
    assert falling.unwrap(falling.wrap(b"x")) == b"x"


@pytest.mark.parametrize("status", FALL_BACK, ids=str)
def test_the_second_choice_begins_after_a_failure_that_is_named(status):
    falling, second = mechanism(STEP, b"never")
    falling.step(b"")
    assert falling.resume(failing(status)) == b"second"
    assert second.got == [b""]
    assert falling.step(b"reply") == b""
    assert second.got == [b"", b"reply"]
    assert (falling.name, falling.fallback, falling.complete) == ("ntlm", "no kdc", True)


@pytest.mark.parametrize(
    "status",
    [SecurityStatus.SEC_E_LOGON_DENIED, SecurityStatus.SEC_E_TIME_SKEW, SecurityStatus.SEC_E_WRONG_PRINCIPAL,
     SecurityStatus.SEC_E_INVALID_TOKEN, SecurityStatus.SEC_E_INTERNAL_ERROR],
)  # fmt: skip
def test_any_other_failure_is_the_end(status):
    falling, second = mechanism(STEP, b"never")
    falling.step(b"")
    with pytest.raises(CredSSPError):
        falling.resume(failing(status))
    assert second.got == []


def test_nothing_falls_back_where_nothing_is_named():
    falling, second = mechanism(STEP, b"never", causes=frozenset())
    falling.step(b"")
    with pytest.raises(CredSSPError):
        falling.resume(failing())
    assert second.got == []


class Signing(Script):
    """Its MICs show what was signed."""

    def get_mic(self, message):
        return b"mic of " + message

    def verify_mic(self, message, mic):
        if mic != b"mic of " + message:
            raise AuthenticationError("wrong mic")


def test_messages_are_signed_and_verified_by_the_current_choice():
    falling = FallingBack(Signing(b""), lambda: None, FALL_BACK)
    falling.verify_mic(b"message", falling.get_mic(b"message"))
    with pytest.raises(AuthenticationError, match="wrong mic"):
        falling.verify_mic(b"message", falling.get_mic(b"another"))


def test_what_was_sent_is_not_taken_back():
    falling, second = mechanism(STEP, b"first", STEP, b"never")
    falling.step(b"")
    falling.resume(b"")
    falling.step(b"reply")
    with pytest.raises(CredSSPError):
        falling.resume(failing())
    assert second.got == []


def test_the_second_choice_has_no_third():
    falling, _ = mechanism(STEP)
    falling._second = lambda: Script(STEP, b"never")
    falling.step(b"")
    assert falling.resume(failing()) is STEP
    with pytest.raises(CredSSPError):
        falling.resume(failing())


def test_a_first_choice_that_cannot_even_begin():
    second = Script(b"second", name="ntlm")
    error = PolicyError("no name", security_status=SecurityStatus.SEC_E_TARGET_UNKNOWN)
    falling = FallingBack(error, lambda: second, FALL_BACK)
    assert (falling.step(b""), falling.name, falling.fallback) == (b"second", "ntlm", "no name")
    with pytest.raises(PolicyError):
        FallingBack(error, lambda: second, frozenset())
