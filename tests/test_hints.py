import pytest
from support import statuses_page

from acredssp.hints import hint_on
from acredssp.status import NTSTATUS


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (NTSTATUS.STATUS_LOGON_FAILURE, "check the user, the domain and the password"),
        (NTSTATUS(0xC0DE00EA), "ask its administrator"),
        (None, "ask its administrator"),
        (NTSTATUS(0xC00700EA), "FreeRDP"),
        (NTSTATUS.STATUS_NTLM_BLOCKED, "--mechanism kerberos"),
        (NTSTATUS(0xC0070791), "--mechanism kerberos"),
        (NTSTATUS.STATUS_NETLOGON_NOT_STARTED, "Netlogon"),
    ],
)
def test_the_most_particular_hint_is_given(status, said):
    assert said in hint_on(status)


WRONG_ACCOUNT = {
    NTSTATUS.STATUS_LOGON_FAILURE, NTSTATUS(0x8009030C), NTSTATUS(0xC007030C), NTSTATUS(0xC00700EA),
    NTSTATUS(0xC007052E),
}  # fmt: skip


@pytest.mark.parametrize("status", sorted(WRONG_ACCOUNT | set(NTSTATUS) - {NTSTATUS.STATUS_SUCCESS}))
def test_user_domain_and_password_are_to_be_checked_where_they_are_what_is_wrong(status):
    advised = "check the user, the domain and the password" in hint_on(status)
    assert advised is (status in WRONG_ACCOUNT)


def test_a_refusal_with_a_name_has_a_hint_of_its_own():
    general = hint_on(None)
    without = {status for status in NTSTATUS if hint_on(status) == general}
    assert without == {
        NTSTATUS.STATUS_SUCCESS,
        NTSTATUS.STATUS_UNSUCCESSFUL,
        NTSTATUS.STATUS_INVALID_PARAMETER,
        NTSTATUS.STATUS_INTERNAL_ERROR,
        NTSTATUS.STATUS_NO_SUCH_LOGON_SESSION,
        NTSTATUS.STATUS_MUTUAL_AUTHENTICATION_FAILED,  # has a hint where it comes from
    }


def test_the_page_of_statuses_says_what_the_hints_say():
    assert statuses_page.page() == statuses_page.PAGE.read_text(encoding="utf-8"), "stale: make conformance"
    told = statuses_page.rows()
    assert set(told) == set(NTSTATUS.__members__)
    assert told["STATUS_NO_SUCH_USER"] == "Check the user and the domain."
    assert told["STATUS_NTLM_BLOCKED"].startswith(
        "The server or its domain refuses NTLM: log on with Kerberos (`--mech"
    )
