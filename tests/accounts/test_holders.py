"""Who comes in, and who is turned away: names become accounts once."""

import pytest

from acredssp.accounts import Anybody, Domains, TicketHolders, Users, WinbindUsers
from acredssp.aio.winbind import WinbindOracle
from acredssp.cli.door import Refused
from acredssp.core.results import HandshakeInfo
from acredssp.credentials import Account, Deny
from acredssp.hooks import Admission, CredentialRequest, Identity
from acredssp.mechanisms.base import Principal
from acredssp.wire.ts_credentials import TSPasswordCreds

USERS = Users.parse(
    b"CONTOSO=contoso.com\nCONTOSO:alice:pw\nFABRIKAM:alice:pw\n:bob:pw\nCONTOSO:bob:pw\nEVERY:*:\n:carol:pw\n"
)


def admission(account):
    principal = Principal("as claimed", "", known_as=account)
    info = HandshakeInfo(6, "ntlm", principal, "password", "TLSv1.3", "cipher", None)
    return Admission(principal, "ntlm", info=info, credentials=TSPasswordCreds.of())


ALICE, BOB = Account("alice", "CONTOSO"), Account("bob")


@pytest.mark.requirement("accounts.once")
@pytest.mark.parametrize(
    ("name", "refused", "let_in"),
    [
        ("alice", [ALICE, Account("ALICE", "FABRIKAM")], [BOB, Account("alice2")]),
        ("CONTOSO\\alice", [ALICE], [Account("alice", "FABRIKAM"), BOB]),
        ("contoso\\Alice", [ALICE], [Account("alice", "FABRIKAM")]),
        ("alice@contoso", [ALICE], [Account("alice", "FABRIKAM")]),
        ("alice@CONTOSO.COM", [ALICE], [Account("alice", "FABRIKAM")]),
        ("contoso.com\\alice", [ALICE], [Account("alice", "FABRIKAM")]),
        ("bob", [BOB, Account("bob", "CONTOSO")], [ALICE]),
        ("CONTOSO\\bob", [Account("bob", "CONTOSO")], [BOB]),
        ("CONTOSO\\carol", [Account("carol")], [ALICE]),
        ("EVERY\\erin", [Account("ERIN", "every")], [Account("frank", "EVERY")]),
        ("erin@every", [Account("ERIN", "every")], [Account("frank", "EVERY")]),
        ("strasse", [Account("STRASSE", "EVERY")], [Account("straße", "EVERY")]),
    ],
)
def test_a_refused_account_stays_out_however_it_was_named(name, refused, let_in):
    admit = Refused([name], USERS).admit
    assert [admit(admission(account)) for account in refused] == [False] * len(refused)
    assert [admit(admission(account)) for account in let_in] == [True] * len(let_in)


def test_nobody_is_refused_unless_named():
    assert Refused([]).admit(admission(ALICE))


@pytest.mark.requirement("accounts.once")
@pytest.mark.parametrize(
    ("realm", "user", "account"),
    [
        ("CONTOSO.COM", "alice", ALICE),
        ("contoso.com", "ALICE", ALICE),
        ("CONTOSO.COM", "erin", None),
        ("EVIL.EXAMPLE", "bob", None),
        ("EVIL.EXAMPLE", "alice", None),
        ("EVIL\\@CONTOSO.COM", "alice", None),
        ("", "bob", None),
    ],
)
def test_a_ticket_logs_on_an_account_of_the_file_in_a_realm_that_is_taken(realm, user, account):
    authorize = TicketHolders(USERS, ["CONTOSO.COM", "FABRIKAM.TEST"]).authorize
    answer = authorize(Identity(Principal(user, realm), "kerberos"))
    refused = Account(user, "CONTOSO" if realm == "CONTOSO.COM" else realm)  # by its domain, as who gets in is
    assert answer == (account or Deny(account=refused))


def test_without_a_file_every_ticket_of_the_realm_logs_on():
    authorize = TicketHolders(Anybody(), ["CONTOSO.COM"]).authorize
    assert authorize(Identity(Principal("erin", "CONTOSO.COM"), "kerberos")) == Account("erin", "CONTOSO.COM")
    assert authorize(Identity(Principal("erin", "EVIL.EXAMPLE"), "kerberos")) == Deny(
        account=Account("erin", "EVIL.EXAMPLE")
    )


@pytest.mark.parametrize(
    ("user", "realm", "who", "reason"),
    [
        ("alice", "EVIL.EXAMPLE", "EVIL.EXAMPLE\\alice", "tickets of its realm are not accepted (see realms)"),
        (
            "erin",
            "CONTOSO.COM",
            "CONTOSO.COM\\erin, account CONTOSO\\erin,",
            "the users file has no such account (see users)",
        ),
    ],
)
def test_the_operator_is_told_why_a_ticket_is_refused(user, realm, who, reason, caplog):
    with caplog.at_level("INFO", "acredssp.accounts"):
        TicketHolders(USERS, ["CONTOSO.COM"]).authorize(Identity(Principal(user, realm), "kerberos"))
    assert [record.getMessage() for record in caplog.records] == [f"the ticket of {who} is refused: {reason}"]


def test_a_logon_by_ntlm_has_been_decided_by_the_lookup():
    assert TicketHolders(USERS, []).authorize(Identity(Principal("erin", "X"), "ntlm")) is True


@pytest.mark.parametrize(
    ("user", "domain"),
    [("alice", "ACRED"), ("alice", "acred.test"), ("Alice@ACRED.TEST", ""), ("ACRED\\alice", ""), ("alice@acred", "")],
)
def test_the_domain_of_winbind_has_two_names(user, domain):
    winbind = WinbindOracle()
    users = WinbindUsers(winbind, Domains({"acred.test": "ACRED"}))
    oracle = users.lookup(CredentialRequest(Principal(user, domain), "ntlm"))
    assert oracle.verify == winbind.verify
    account = Account(oracle.user, oracle.domain)
    assert account == Account("alice", "ACRED") == users.account("alice", "ACRED.TEST")
    for name in ("alice", "ACRED\\alice", "alice@acred.test"):
        assert not Refused([name], users).admit(admission(account))
