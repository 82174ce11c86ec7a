"""Which mechanism logs on, by credential, policy and service principal name."""

import pytest

from acredssp.credentials import Keytab, NTHash, Password, RemoteGuard, TicketCache
from acredssp.errors import PolicyError
from acredssp.mechanisms.choice import AcceptorChoice, InitiatorChoice
from acredssp.mechanisms.fall_back import FallingBack
from acredssp.mechanisms.kerberos.context import KerberosAcceptor, KerberosInitiator
from acredssp.mechanisms.negotiate import NegotiateInitiator
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor, NTLMIdentity
from acredssp.mechanisms.ntlm.initiator import NTLMInitiator
from acredssp.policy import MechanismChoice, Policy
from acredssp.status import SecurityStatus

SPN = "TERMSRV/host.contoso.test"
LOCAL = Password("secret", "alice", "CONTOSO")
REALM = Password("secret", "alice", "contoso.test")
PRINCIPAL = Password("secret", "alice@contoso.test")
HASH = NTHash(bytes(16), "alice", "contoso.test")
IDENTITY = NTLMIdentity("SERVER")
AUTO, NEGOTIATE, KERBEROS, RAW, NTLM = MechanismChoice

# These tests look at what was made, since a Kerberos mechanism says nothing of itself before its first ticket.


def offers(mechanism):
    """What a mechanism is made of, from the outside in."""
    if isinstance(mechanism, FallingBack):
        return ["falling back", *offers(mechanism._current)]
    if isinstance(mechanism, NegotiateInitiator):
        return ["spnego", *(name for each in mechanism._mechanisms for name in offers(each))]
    return ["kerberos" if isinstance(mechanism, KerberosInitiator) else "ntlm"]


@pytest.fixture(autouse=True)
def kerberos_is_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)


BOTH = ["falling back", "spnego", "kerberos", "ntlm"]


@pytest.mark.parametrize(
    ("credential", "allowed", "made"),
    [
        (LOCAL, AUTO, ["ntlm"]),
        (LOCAL, NEGOTIATE, ["spnego", "ntlm"]),
        (LOCAL, KERBEROS, ["spnego", "kerberos"]),
        (LOCAL, RAW, ["kerberos"]),
        (LOCAL, NTLM, ["ntlm"]),
        (REALM, AUTO, BOTH),
        (PRINCIPAL, AUTO, BOTH),
        (REALM, NEGOTIATE, BOTH),
        (REALM, KERBEROS, ["spnego", "kerberos"]),
        (REALM, RAW, ["kerberos"]),
        (REALM, NTLM, ["ntlm"]),
        (HASH, AUTO, ["ntlm"]),
        (HASH, NEGOTIATE, ["spnego", "ntlm"]),
        (TicketCache(), AUTO, ["spnego", "kerberos"]),
        (TicketCache(), RAW, ["kerberos"]),
        (Keytab(), NEGOTIATE, ["spnego", "kerberos"]),
    ],
    ids=str,
)
def test_credential_and_policy_choose(credential, allowed, made):
    assert offers(InitiatorChoice(credential, Policy(mechanism=allowed)).mechanism(SPN)) == made


@pytest.mark.parametrize(
    ("credential", "allowed", "made"),
    [
        (REALM, AUTO, ["falling back", "ntlm"]),
        (REALM, NEGOTIATE, ["falling back", "spnego", "ntlm"]),
        (LOCAL, AUTO, ["ntlm"]),
    ],
)
def test_no_kdc_is_asked_for_an_address(credential, allowed, made):
    mechanism = InitiatorChoice(credential, Policy(mechanism=allowed)).mechanism(SPN, ask_kdc=False)
    assert offers(mechanism) == made
    assert bool(mechanism.fallback) is (made[0] == "falling back")


@pytest.mark.parametrize(
    ("credential", "policy"),
    [
        (REALM, Policy(mechanism=KERBEROS)),
        (TicketCache(), Policy()),
        (REALM, Policy(fall_back=frozenset())),
    ],
)
def test_an_address_is_refused_where_ntlm_may_not_follow(credential, policy):
    with pytest.raises(PolicyError) as caught:
        InitiatorChoice(credential, policy).mechanism(SPN, ask_kdc=False)
    assert caught.value.security_status is SecurityStatus.SEC_E_TARGET_UNKNOWN


@pytest.mark.parametrize(
    ("credential", "allowed", "guard", "said"),
    [
        (HASH, KERBEROS, None, "a NTHash cannot be used for a logon by nt hash"),
        (HASH, AUTO, RemoteGuard(), "remote credential guard cannot be used for a logon by nt hash"),
        (REALM, NTLM, RemoteGuard(), "remote credential guard cannot be used for a logon by ntlm"),
        (TicketCache(), NTLM, None, "a TicketCache cannot be used for a logon by ntlm"),
        (Keytab(), NTLM, None, "a Keytab cannot be used for a logon by ntlm"),
    ],
)
def test_a_credential_that_the_policy_has_no_use_for_is_refused(credential, allowed, guard, said):
    with pytest.raises(PolicyError, match=said):
        InitiatorChoice(credential, Policy(mechanism=allowed), guard=guard)


def test_a_guarded_logon_has_no_second_choice_and_tickets_that_may_be_forwarded():
    choice = InitiatorChoice(LOCAL, Policy(), guard=RemoteGuard())
    assert offers(choice.mechanism(SPN)) == ["spnego", "kerberos"]
    assert choice.tickets.forwardable
    assert choice.guarded_ticket(SPN)._tickets is choice.tickets


def test_each_connection_has_a_mechanism_of_its_own_and_all_share_what_is_costly():
    ntlm = InitiatorChoice(LOCAL, Policy())
    first, second = ntlm.mechanism(SPN), ntlm.mechanism(SPN)
    assert isinstance(first, NTLMInitiator)
    assert first is not second
    assert first._credential is second._credential
    kerberos = InitiatorChoice(REALM, Policy(mechanism=RAW))
    first, second = kerberos.mechanism(SPN), kerberos.mechanism(SPN)
    assert first is not second
    assert first._tickets is second._tickets


@pytest.mark.parametrize(
    ("allowed", "ntlm", "keytab", "made"),
    [
        (AUTO, True, None, [NTLMAcceptor]),
        (AUTO, False, Keytab(), [KerberosAcceptor]),
        (AUTO, True, Keytab(), [NTLMAcceptor, KerberosAcceptor]),
        (NTLM, True, Keytab(), [NTLMAcceptor]),
        (KERBEROS, True, Keytab(), [KerberosAcceptor]),
        (RAW, True, Keytab(), [KerberosAcceptor]),
    ],
)
def test_a_server_takes_what_it_has_the_means_for(allowed, ntlm, keytab, made):
    acceptor = AcceptorChoice(Policy(mechanism=allowed), IDENTITY, ntlm=ntlm, keytab=keytab).mechanism()
    assert [type(each) for each in acceptor._mechanisms] == made


@pytest.mark.parametrize(
    ("allowed", "ntlm", "keytab"), [(AUTO, False, None), (NTLM, False, Keytab()), (RAW, True, None)]
)
def test_a_server_that_lets_nobody_in_is_refused(allowed, ntlm, keytab):
    with pytest.raises(ValueError, match="nobody can log on"):
        AcceptorChoice(Policy(mechanism=allowed), IDENTITY, ntlm=ntlm, keytab=keytab)
