import calendar
import contextlib
import datetime as dt
import itertools
import time

import pytest
from support.sspi import held

from acredssp.errors import AuthenticationError, LocalProtocolError
from acredssp.sspi import (
    ASC_RET_ALLOCATED_MEMORY,
    ISC_RET_ALLOCATED_MEMORY,
    ISC_RET_DELEGATE,
    ISC_RET_STREAM,
    ContextAttributes,
    CredHandle,
    CtxtHandle,
    SecurityStatus,
    TimeStamp,
)
from acredssp.sspi.flags import ISC_RET
from acredssp.sspi.handles import ContextState, CredentialState, Use, failure

INVALID = 0xFFFFFFFFFFFFFFFF


def credentials(**facts):
    return CredentialState(
        **{
            "package": "CREDSSP", "client": None, "server": None, "principal": "", "certificate": None,
            "issuers": None, "logon_id": None,
        } | facts
    )  # fmt: skip


def refused(status=SecurityStatus.SEC_E_INVALID_HANDLE):
    @contextlib.contextmanager
    def check():
        with pytest.raises(LocalProtocolError) as caught:
            yield
        assert caught.value.security_status is status

    return check()


@pytest.mark.parametrize("kind", [CredHandle, CtxtHandle])
def test_a_new_handle_stands_for_nothing(kind):
    handle = kind()
    assert not handle.valid
    assert (handle.dwLower, handle.dwUpper) == (INVALID, INVALID)
    assert handle.error is None
    with refused():
        _ = handle.state


@pytest.mark.parametrize(("kind", "state"), [(CredHandle, credentials()), (CtxtHandle, ContextState())])
def test_a_handle_is_valid_until_what_it_stands_for_is_freed(kind, state):
    handle, other = kind(), kind()
    handle.assign(state)
    other.assign(state)
    assert handle.valid
    assert handle.state is state
    assert (handle.dwLower, handle.dwUpper) == (other.dwLower, other.dwUpper) != (INVALID, INVALID)
    other.state.alive = False
    assert not handle.valid
    with refused():
        _ = handle.state
    assert "freed" in repr(handle)


def test_handles_are_equal_when_they_stand_for_the_same():
    one, same, another = CtxtHandle(), CtxtHandle(), CtxtHandle()
    state = ContextState()
    one.assign(state)
    same.assign(state)
    another.assign(ContextState())
    assert one == same
    assert one != another
    assert one != CtxtHandle()
    assert CtxtHandle() == CtxtHandle()
    assert CtxtHandle() != CredHandle()
    assert one.dwLower != another.dwLower
    with pytest.raises(TypeError):
        hash(one)


def test_a_client_certificate_is_for_who_issued_it_as_far_as_is_known():
    certificate, ours, theirs = object(), b"ours", b"theirs"
    known = credentials(certificate=certificate, issuers=frozenset({ours}))
    assert known.certificate_for((theirs, ours)) is certificate
    assert known.certificate_for(()) is certificate
    assert known.certificate_for((theirs,)) is None
    assert credentials(certificate=certificate).certificate_for((theirs,)) is certificate
    assert credentials().certificate_for(()) is None


@pytest.mark.parametrize(("first", "second"), list(itertools.product(Use, repeat=2)))
def test_encrypt_beside_decrypt_is_the_only_pair_at_a_time(first, second):
    state = ContextState()
    with held(state, first):
        if first & second:
            with refused(), held(state, second):
                pytest.fail("claimed twice")
        else:
            with held(state, second):
                pass
    with held(state, Use.ESTABLISH):
        pass  # nothing is left behind


@pytest.mark.parametrize("first", list(Use))
def test_a_handshake_excludes_everything(first):
    state = ContextState()
    with held(state, Use.ESTABLISH), refused(), held(state, first):
        pytest.fail("claimed beside a handshake")


def test_a_claim_ends_with_the_call_however_it_ends():
    state = ContextState()
    with contextlib.suppress(KeyError), held(state, Use.ESTABLISH):
        raise KeyError
    with held(state, Use.ESTABLISH):
        pass


def test_a_failure_is_noted_on_every_handle_and_gives_its_status():
    context, credential = CtxtHandle(), CredHandle()
    error = AuthenticationError("the logon was refused")
    assert failure(error, context, None, credential) is SecurityStatus.SEC_E_LOGON_DENIED
    assert context.error is credential.error is error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError(), SecurityStatus.SEC_E_INSUFFICIENT_MEMORY),
        (KeyError("Passw0rd!"), SecurityStatus.SEC_E_INTERNAL_ERROR),
        (OSError(24, "too many open files"), SecurityStatus.SEC_E_INTERNAL_ERROR),
    ],
)
def test_what_is_no_error_of_ours_has_a_status_and_its_text_stays_inside(error, status):
    handle = CtxtHandle()
    assert failure(error, handle) is status
    assert handle.error.security_status is status
    assert str(handle.error) == f"the call ended with {type(error).__name__}"
    assert handle.error.__cause__ is error


# --- time stamps ---

UNIX_EPOCH = 116_444_736_000_000_000
"""1970-01-01 as a FILETIME: the number that every program which converts them has in it."""


@pytest.fixture(params=["UTC0", "CET-1CEST,M3.5.0,M10.5.0/3", "IST-5:30"])
def local_zone(request, monkeypatch):
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of the process cannot be set")
def test_a_time_stamp_is_local_time(local_zone):
    moment = dt.datetime(2026, 11, 23, 8, 30, 15, 123_456, tzinfo=dt.UTC)
    stamp = TimeStamp.from_datetime(moment)
    clock_on_the_wall = calendar.timegm(time.localtime(moment.timestamp()))
    assert stamp.QuadPart == UNIX_EPOCH + (clock_on_the_wall * 1_000_000 + 123_456) * 10
    assert stamp.to_datetime() == moment


def test_a_time_stamp_is_known_from_elsewhere():
    local = TimeStamp(UNIX_EPOCH).to_datetime()
    assert (local.year, local.month, local.day, local.hour, local.minute) == (1970, 1, 1, 0, 0)


def test_never_is_the_greatest_value():
    stamp = TimeStamp(TimeStamp.NEVER)
    assert (stamp.HighPart, stamp.LowPart) == (0x7FFFFFFF, 0xFFFFFFFF)
    assert stamp.to_datetime() is None


# --- attributes ---


def test_attributes_are_read_as_flags():
    attributes = ContextAttributes()
    assert int(attributes) == 0
    attributes.flags = ISC_RET.DELEGATE | ISC_RET.STREAM
    assert attributes & ISC_RET_DELEGATE
    assert not attributes & ISC_RET_ALLOCATED_MEMORY
    assert ISC_RET_DELEGATE | ISC_RET_STREAM in attributes
    assert ISC_RET_DELEGATE | ISC_RET_ALLOCATED_MEMORY not in attributes
    assert attributes == 0x8001 == ContextAttributes(0x8001)
    assert attributes != ASC_RET_ALLOCATED_MEMORY
    assert attributes != "0x8001"
    assert repr(attributes) == "ContextAttributes(<ISC_RET.DELEGATE|STREAM: 32769>)"
