"""Credentials: values whose secrets are in no repr."""

import dataclasses
import json

import pytest

from acredssp.credentials import Account, Candidates, DelegatedKind, Deny, Keytab, NTHash, Oracle, Password


def test_the_nt_hash_of_a_password():
    """[MS-NLMP] 4.2.2.1.2 and a recorded account."""
    assert Password("Password").nt_hash.hex() == "a4f49c406510bdcab6824ee7c30fd852"
    assert Password("Passw0rd!").nt_hash.hex() == "fc525c9683e8fe067095ba2ddc971889"


@pytest.mark.parametrize("password", ["", "ü" * 300, "\ud800", "\U0001f600"])
def test_any_text_is_a_password(password):
    assert len(Password(password).nt_hash) == 16


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_an_nt_hash_has_16_bytes(size):
    with pytest.raises(ValueError, match=f"16 bytes, got {size}"):
        NTHash(bytes(size))


def test_nothing_secret_is_in_a_repr():
    secret = Password("c4n4ry", "alice", "CONTOSO")
    values = [
        secret,
        NTHash(secret.nt_hash, "alice"),
        Candidates([secret]),
        Deny(secret=secret),
        Oracle("c4n4ry".upper),
    ]
    for value in values:
        assert "c4n4ry" not in repr(value)
        assert secret.nt_hash.hex() not in repr(value)
        assert repr(secret.nt_hash)[2:-1] not in repr(value)
    assert "alice" in repr(secret)


@pytest.mark.requirement("accounts.names")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Account("alice", "CONTOSO"), Account("ALICE", "contoso")),
        (Account("alice"), Account("Alice", "")),
        (Account("юзер", "bücher"), Account("ЮЗЕР", "BÜCHER")),
    ],
)
def test_accounts_are_equal_without_case(one, other):
    assert one == other
    assert {one: "found"}[other] == "found"


@pytest.mark.requirement("accounts.names")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Account("alice", "CONTOSO"), Account("alice")),
        (Account("alice", "CONTOSO"), Account("alice", "FABRIKAM")),
        (Account("alice", "CONTOSO"), Account("CONTOSO", "alice")),
        (Account("alice@contoso.com"), Account("alice", "contoso.com")),
        (Account("alice"), Account("alice ")),
        (Account("strasse"), Account("straße")),
        (Account("smith"), Account("ſmith")),
        (Account("kelvin"), Account("\N{KELVIN SIGN}elvin")),
        (Account("fiona"), Account("\N{LATIN SMALL LIGATURE FI}ona")),
        (Account("Νίκοσ"), Account("Νίκος")),
        (Account("alice"), "alice"),
    ],
)
def test_accounts_that_windows_tells_apart_are_not_equal(one, other):
    assert one != other
    assert len({one, other}) == 2


def test_an_account_is_written_as_windows_does():
    assert str(Account("alice", "CONTOSO")) == "CONTOSO\\alice"
    assert str(Account("alice")) == "alice"


@pytest.mark.parametrize("account", [Account("bob"), Account("A\\B\\Bob@C"), Account("bob@c", "D"), Account("\\BOB@")])
def test_spellings_of_an_account_have_the_user_alone_in_common(account):
    assert account.user_alone == "BOB"


@pytest.mark.parametrize("make", [lambda *names: Password("pw", *names), lambda *names: NTHash(bytes(16), *names)])
def test_a_domain_in_front_of_the_user_is_refused_unless_it_is_said_to_be_none(make):
    with pytest.raises(ValueError, match="domain=") as caught:
        make("CONTOSO\\alice")
    assert "alice" not in str(caught.value)
    with pytest.raises(ValueError, match="since there is a domain") as caught:
        make("CONTOSO\\alice", "FABRIKAM")
    assert "alice" not in str(caught.value)
    for user, domain in (("AzureAD\\alice@contoso.com", ""), ("alice", "CONTOSO")):
        credential = make(user, domain)
        assert (credential.user, credential.domain) == (user, domain)
        assert dataclasses.replace(credential) == credential


@pytest.mark.parametrize("credential", [Password("pw", "alice"), NTHash(bytes(16), "alice"), Password("pw")])
def test_a_domain_that_is_left_out_is_empty(credential):
    assert (type(credential.domain), credential.domain) == (str, "")
    assert credential == dataclasses.replace(credential)


@pytest.mark.parametrize("kind", DelegatedKind)
def test_a_kind_is_its_value_wherever_one_is_compared_looked_up_or_written(kind):
    assert kind == kind.value
    assert {kind.value: 1}[kind] == 1
    assert json.loads(json.dumps(kind)) == f"{kind}" == kind.value


def test_a_keytab_for_constrained_delegation_names_its_account():
    assert Keytab("file", "gateway@REALM", constrained_delegation=True).constrained_delegation
    with pytest.raises(ValueError, match="principal: expected the account that delegates, got none"):
        Keytab("file", constrained_delegation=True)


def test_the_same_password_of_another_account():
    first = Password("secret", "alice", "CONTOSO")
    other = first.of_account("bob", "FABRIKAM")
    assert (other, other.nt_hash) == (Password("secret", "bob", "FABRIKAM"), first.nt_hash)
    assert first.of_account("bob@fabrikam.com").domain == ""
    with pytest.raises(ValueError, match="without a domain in front"):
        first.of_account("FABRIKAM\\bob")
