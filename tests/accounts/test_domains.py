"""Which account a name means, and which accounts are in a list of names."""

import pytest

from acredssp.accounts import AccountNames, Domains
from acredssp.credentials import Account

DOMAINS = Domains({"contoso.example": "CONTOSO"})


@pytest.mark.parametrize(
    ("names", "account", "there"),
    [
        (["alice"], Account("alice", "CONTOSO"), True),
        (["ALICE"], Account("alice", "anywhere"), True),
        ([r"CONTOSO\alice"], Account("alice", "contoso"), True),
        ([r"CONTOSO\alice"], Account("alice", "OTHER"), False),
        ([r"CONTOSO\alice"], Account("alice"), False),
        (["alice@contoso.example"], Account("alice", "CONTOSO"), True),
        (["alice@contoso.evil.example"], Account("alice", "CONTOSO"), False),
        (["bob", r"CONTOSO\alice"], Account("bob", "OTHER"), True),
        ([], Account("alice"), False),
    ],
)
def test_an_account_is_in_a_list_of_names_by_what_each_name_means(names, account, there):
    assert (account in AccountNames(names, DOMAINS)) is there
