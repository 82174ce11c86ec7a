"""Which mechanism logs on, by credential, policy and service principal name."""

import pytest

from acredssp.credentials import Keytab, NTHash, Password, RemoteGuard, TicketCache
from acredssp.errors import PolicyError
from acredssp.mechanisms.choice import AcceptorChoice, InitiatorChoice
from acredssp.mechanisms.fall_back import FallingBack
from acredssp.mechanisms.kerberos.context import KerberosAcceptor, KerberosInitiator
from acredssp.mechanisms.negotiate import NegotiateInitiator
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor, NTLMIdentity
from acredssp.mechanisms.ntlm.crypto import channel_bindings_hash
from acredssp.mechanisms.ntlm.initiator import NTLMInitiator
from acredssp.policy import MechanismChoice, Policy
from acredssp.status import SecurityStatus, Stage

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
        (Password("secret", "alice@of.old@contoso.test"), AUTO, BOTH),
        (Password("secret", "alice@of.old@contoso"), AUTO, ["ntlm"]),
        (Password("secret", "alice.smith"), AUTO, ["ntlm"]),
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
    assert caught.value.stage is Stage.NEGO_TOKEN


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
    with pytest.raises(PolicyError, match=said) as caught:
        InitiatorChoice(credential, Policy(mechanism=allowed), guard=guard)
    assert caught.value.security_status is SecurityStatus.SEC_E_NO_CREDENTIALS


def test_a_guarded_logon_has_no_second_choice_and_tickets_that_may_be_forwarded():
    choice = InitiatorChoice(LOCAL, Policy(), guard=RemoteGuard())
    assert offers(choice.mechanism(SPN)) == ["spnego", "kerberos"]
    assert choice.tickets.forwardable
    assert choice.guarded_ticket(SPN)._tickets is choice.tickets


BINDINGS = b"tls-server-end-point:hash"


def innermost(mechanism):
    """The mechanisms that log on."""
    if isinstance(mechanism, FallingBack):
        return innermost(mechanism._current)
    return mechanism._mechanisms if isinstance(mechanism, NegotiateInitiator) else (mechanism,)


def is_bound(mechanism):
    """Whether a mechanism was given `BINDINGS`; NTLM keeps their hash alone."""
    if isinstance(mechanism, KerberosInitiator | KerberosAcceptor):
        return mechanism._channel_bindings == BINDINGS
    return channel_bindings_hash(BINDINGS) in mechanism._bindings


@pytest.mark.parametrize(
    ("credential", "allowed", "ask_kdc"),
    [
        (LOCAL, AUTO, True),
        (LOCAL, NEGOTIATE, True),
        (REALM, AUTO, True),
        (REALM, AUTO, False),
        (REALM, NEGOTIATE, True),
        (REALM, NEGOTIATE, False),
        (REALM, KERBEROS, True),
        (REALM, RAW, True),
    ],
    ids=str,
)
def test_every_mechanism_of_a_client_is_bound_to_the_channel(credential, allowed, ask_kdc):
    made = InitiatorChoice(credential, Policy(mechanism=allowed)).mechanism(SPN, BINDINGS, ask_kdc=ask_kdc)
    assert [is_bound(each) for each in innermost(made)] == [True] * len(innermost(made))
    unbound = InitiatorChoice(credential, Policy(mechanism=allowed)).mechanism(SPN, ask_kdc=ask_kdc)
    assert not any(is_bound(each) for each in innermost(unbound))


def test_the_second_choice_of_a_client_is_bound_to_the_channel():
    falling = InitiatorChoice(REALM, Policy()).mechanism(SPN, BINDINGS)
    assert is_bound(falling._second())


def test_every_mechanism_of_a_server_is_bound_to_the_channel():
    choice = AcceptorChoice(Policy(), IDENTITY, ntlm=True, keytab=Keytab())
    assert [is_bound(each) for each in choice.mechanism(BINDINGS)._mechanisms] == [True, True]
    assert [each._bindings for each in choice.mechanism()._mechanisms[:1]] == [None]


@pytest.mark.parametrize("allowed", [False, True])
def test_the_policy_says_whether_kerberos_may_seal_with_rc4(allowed):
    policy = Policy(dangerous_allow_kerberos_rc4=allowed)
    initiator, _ = innermost(InitiatorChoice(REALM, policy).mechanism(SPN))
    _, acceptor = AcceptorChoice(policy, IDENTITY, ntlm=True, keytab=Keytab()).mechanism()._mechanisms
    assert initiator._allow_rc4 is acceptor._allow_rc4 is allowed


def test_each_mechanism_has_what_it_logs_on_with():
    choice = InitiatorChoice(REALM, Policy(), workstation="PC")
    kerberos, ntlm = innermost(choice.mechanism(SPN))
    assert kerberos._tickets is choice.tickets
    assert choice.tickets.credential is REALM
    assert ntlm._credential is choice._ntlm_credential
    assert ntlm._credential.workstation == "PC".encode("utf-16-le")
    assert InitiatorChoice(LOCAL, Policy()).mechanism(SPN)._credential.workstation == b""


def test_each_mechanism_of_a_server_has_what_it_takes_logons_by():
    policy, keytab = Policy(), Keytab("file")
    ntlm, kerberos = AcceptorChoice(policy, IDENTITY, ntlm=True, keytab=keytab).mechanism()._mechanisms
    assert (ntlm._policy, ntlm._identity) == (policy, IDENTITY)
    assert kerberos._keys.keytab is keytab


def test_kerberos_that_is_not_installed_is_not_tried_and_is_refused_where_it_is_needed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert offers(InitiatorChoice(REALM, Policy()).mechanism(SPN)) == ["ntlm"]
    for make in (
        lambda: InitiatorChoice(REALM, Policy(mechanism=KERBEROS)),
        lambda: AcceptorChoice(Policy(), IDENTITY, ntlm=True, keytab=Keytab()),
    ):
        with pytest.raises(PolicyError, match="kerberos is not installed"):
            make()
    AcceptorChoice(Policy(), IDENTITY, ntlm=True, keytab=None)


def test_each_connection_has_a_mechanism_of_its_own_and_all_share_what_is_costly():
    ntlm = InitiatorChoice(LOCAL, Policy())
    first, second = ntlm.mechanism(SPN), ntlm.mechanism(SPN)
    assert isinstance(first, NTLMInitiator)
    assert first is not second
    assert first._credential is second._credential
    kerberos = InitiatorChoice(REALM, Policy(mechanism=RAW))
    first, second = kerberos.mechanism(SPN), kerberos.mechanism(SPN)
    assert first is not second
    assert first._tickets is second._tickets is kerberos.tickets


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
