"""A disk that is full under a record or a report: the command says so, and the logon is what it is."""

import os

import pytest

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux's full device")  # noqa: PTH110


def test_a_report_that_cannot_be_written_is_said(served, command, password):
    status, out, err = command(
        "doctor", served().address, "-u", "alice", "-d", "CONTOSO", "-p", f"{password}x", "--insecure",
        "--report", "/dev/full",
    )  # fmt: skip
    assert "no space left on device" in (out + err).lower()
    assert "Traceback" not in out + err
    assert status not in {0, 70}


@pytest.mark.parametrize("right", [True, False])
def test_a_record_of_a_login_that_cannot_be_written_is_said(served, command, password, right):
    words = ["-u", "alice", "-d", "CONTOSO", "-p", password if right else f"{password}x", "--insecure"]
    status, out, err = command("login", served().address, *words, "--record", "/dev/full")
    assert "no space left on device" in (out + err).lower()
    assert "Traceback" not in out + err
    assert status != 70
    if not right:
        assert status != 0
