"""Which account a name means, and which accounts are in a list of names."""

import pytest

from acredssp.accounts import AccountNames, Domains
from acredssp.credentials import Account

DOMAINS = Domains({"contoso.example": "CONTOSO"})


@pytest.mark.parametrize(
    ("account", "spellings"),
    [
        (Account("alice", "contoso"), ["contoso", "CONTOSO.EXAMPLE", "CORP.TEST"]),
        (Account("alice", "FABRIKAM"), ["FABRIKAM", "FABRIKAM.EXAMPLE"]),
        (Account("alice", "OTHER"), ["OTHER"]),
        (Account("alice"), [""]),
    ],
)
def test_an_account_is_spelled_with_every_name_of_its_domain(account, spellings):
    domains = Domains({"contoso.example": "CONTOSO", "fabrikam.example": "FABRIKAM", "corp.test": "Contoso"})
    found = domains.spellings(account)
    assert [(each.user, each.domain) for each in found] == [("alice", domain) for domain in spellings]


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
