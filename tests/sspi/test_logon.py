"""Which logon session a process is in."""

import os
import pathlib

import pytest

from acredssp.sspi import logon
from acredssp.sspi.logon import logon_session


@pytest.fixture(autouse=True)
def read_anew():
    logon._audit_session.cache_clear()
    yield
    logon._audit_session.cache_clear()


def test_a_luid_is_the_callers_word():
    assert logon_session(0x3E7) == (0x3E7,)
    assert logon_session(0x3E7) != logon_session(0x3E8)


@pytest.mark.skipif(not pathlib.Path("/proc/self/sessionid").exists(), reason="the kernel keeps no audit sessions")
def test_without_a_luid_it_is_user_and_audit_session():
    session = int(pathlib.Path("/proc/self/sessionid").read_text("ascii"))
    assert logon_session(None) == logon_session(None) == (os.getuid(), session)


def test_another_user_is_another_session(monkeypatch):
    before = logon_session(None)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert logon_session(None) != before


def test_without_audit_sessions_the_user_alone_counts(monkeypatch):
    def absent(*_arguments):
        raise FileNotFoundError

    monkeypatch.setattr(pathlib.Path, "read_text", absent)
    assert logon_session(None) == (os.getuid(), -1)
