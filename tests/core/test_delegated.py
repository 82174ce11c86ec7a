"""What a caller wants to delegate, as the wire has it."""

import pytest

from acredssp.core.delegated import DELEGABLE, EMPTY_CREDENTIALS, as_sent
from acredssp.credentials import Nothing, Password, RemoteGuard, SmartCard
from acredssp.wire.ts_credentials import (
    TSCspDataDetail,
    TSPasswordCreds,
    TSRemoteGuardCreds,
    TSRemoteGuardPackageCred,
    TSSmartCardCreds,
)

GUARD_CREDENTIALS = TSRemoteGuardCreds(TSRemoteGuardPackageCred("Kerberos", b"logon"))
CARD_CREDENTIALS = TSSmartCardCreds("1234", TSCspDataDetail(1))


@pytest.mark.parametrize(
    ("delegate", "sent"),
    [
        (Password("secret", "alice", "CONTOSO"), TSPasswordCreds.of("CONTOSO", "alice", "secret")),
        (Nothing(), EMPTY_CREDENTIALS),
        (SmartCard("1234"), CARD_CREDENTIALS),
        (
            SmartCard("1234", "alice", "CONTOSO", "card", "reader", "container", "csp", key_spec=2),
            TSSmartCardCreds("1234", TSCspDataDetail(2, "card", "reader", "container", "csp"), "alice", "CONTOSO"),
        ),
        (SmartCard("1234", csp_name="csp"), TSSmartCardCreds("1234", TSCspDataDetail(1, csp_name="csp"))),
    ],
    ids=["password", "nothing", "card", "whole card", "card with a provider"],
)
def test_credentials_are_mapped_field_by_field(delegate, sent):
    assert as_sent(delegate) == sent


@pytest.mark.parametrize("delegate", [EMPTY_CREDENTIALS, CARD_CREDENTIALS, GUARD_CREDENTIALS, RemoteGuard()])
def test_what_is_made_already_or_later_stays_as_it_is(delegate):
    assert as_sent(delegate) is delegate


def test_all_that_is_mapped_may_be_delegated():
    assert {Password, SmartCard, RemoteGuard, Nothing, TSPasswordCreds, TSSmartCardCreds, TSRemoteGuardCreds} == set(
        DELEGABLE
    )
