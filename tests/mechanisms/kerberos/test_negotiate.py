"""SPNEGO over Kerberos and NTLM, ours and MIT's, with a real KDC."""

import pytest
import spnego as pyspnego
from support.kerberos import ALICE, acceptor, drive, establish, initiator
from support.ntlm import acceptor as ntlm_acceptor
from support.ntlm import assert_sealed_both_ways
from support.ntlm import initiator as ntlm_initiator

from acredssp.errors import RemoteProtocolError
from acredssp.mechanisms.negotiate import DetectingAcceptor, NegotiateInitiator
from acredssp.wire import spnego
from acredssp.wire.spnego import NegState, NegTokenInit, NegTokenResp

gssapi = pytest.importorskip("gssapi")
SPNEGO = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")


def client(*mechanisms):
    return NegotiateInitiator(mechanisms or [initiator(), ntlm_initiator()])


def server(kerberos):
    return DetectingAcceptor([ntlm_acceptor(), acceptor(kerberos)])


def test_kerberos_as_the_first_choice_takes_one_round_trip(kerberos):
    ours, theirs = client(), server(kerberos)
    offer, answer, nothing = establish(ours, theirs)
    assert NegTokenInit.decode(offer).mech_types == (spnego.KERBEROS, spnego.KERBEROS_MICROSOFT, spnego.NTLM)
    answer = NegTokenResp.decode(answer)
    assert (answer.neg_state, answer.supported_mech) == (NegState.ACCEPT_COMPLETED, spnego.KERBEROS)
    assert answer.mech_list_mic is None
    assert nothing == b""
    assert ours.name == theirs.name == "kerberos"
    assert str(theirs.principal) == "ACREDSSP.TEST\\alice"
    assert_sealed_both_ways(ours, theirs)


def test_raw_kerberos_is_taken(kerberos):
    ours, theirs = initiator(), server(kerberos)
    establish(ours, theirs)
    assert theirs.name == "kerberos"
    assert_sealed_both_ways(ours, theirs)


@pytest.mark.parametrize("before", [spnego.KERBEROS_USER_TO_USER, spnego.NEGOEX], ids=["user-to-user", "negoex"])
def test_a_mechanism_that_we_have_not_is_passed_over_and_mics_are_exchanged(before, kerberos):
    inner, theirs = initiator(), server(kerberos)
    mech_list = spnego.encode_mech_list([before, spnego.KERBEROS, spnego.NTLM])
    choice = NegTokenResp.decode(theirs.step(NegTokenInit.encode(mech_list, b"\x60\x03\x06\x01\x2a")))
    assert choice == NegTokenResp(NegState.REQUEST_MIC, spnego.KERBEROS)
    answer = NegTokenResp.decode(drive(theirs, NegTokenResp(response_token=drive(inner)).encode()))
    drive(inner, answer.response_token)
    assert not theirs.complete
    inner.verify_mic(mech_list, answer.mech_list_mic)
    last = NegTokenResp(NegState.ACCEPT_COMPLETED, mech_list_mic=inner.get_mic(mech_list)).encode()
    assert drive(theirs, last) == b""
    assert theirs.complete
    assert_sealed_both_ways(inner, theirs)


def test_a_mic_that_is_due_and_left_out_or_altered_ends_it(kerberos):
    for mic in (None, bytes.fromhex("040404ffffffffff") + bytes(20)):
        inner, theirs = initiator(), server(kerberos)
        mech_list = spnego.encode_mech_list([spnego.NEGOEX, spnego.KERBEROS])
        theirs.step(NegTokenInit.encode(mech_list, b""))
        drive(theirs, NegTokenResp(response_token=drive(inner)).encode())
        with pytest.raises(RemoteProtocolError):
            theirs.step(NegTokenResp(NegState.ACCEPT_COMPLETED, mech_list_mic=mic).encode())
        assert not theirs.complete


def test_mits_initiator_logs_on(kerberos):
    cache = kerberos.log_on("bob")
    credential = gssapi.Credentials(
        base=gssapi.raw.acquire_cred_from({"ccache": cache}, mechs=[SPNEGO], usage="initiate").creds, usage="initiate"
    )
    name = gssapi.Name("TERMSRV@localhost", gssapi.NameType.hostbased_service)
    theirs, ours = gssapi.SecurityContext(name=name, creds=credential, mech=SPNEGO, usage="initiate"), server(kerberos)
    token = theirs.step()
    while token:
        token = drive(ours, token)
        token = theirs.step(token) if token and not theirs.complete else None
    assert theirs.complete
    assert ours.principal.user == "bob"
    assert ours.unwrap(theirs.wrap(b"x", encrypt=True).message) == b"x"
    assert theirs.unwrap(ours.wrap(b"x")).message == b"x"


def test_mits_acceptor_lets_us_in(kerberos):
    ours, theirs = client(), gssapi.SecurityContext(creds=gssapi.Credentials(usage="accept"), usage="accept")
    token = drive(ours)
    while token:
        token = theirs.step(token)
        token = drive(ours, token) if token and not ours.complete else None
    assert ours.complete
    assert str(theirs.initiator_name) == "alice@ACREDSSP.TEST"
    assert theirs.unwrap(ours.wrap(b"x")).message == b"x"
    assert ours.unwrap(theirs.wrap(b"x", encrypt=True).message) == b"x"


def test_pyspnego_both_ways(kerberos):
    ours, theirs = client(), pyspnego.server(protocol="negotiate", options=pyspnego.NegotiateOptions.use_negotiate)
    token = drive(ours)
    while token:
        token = theirs.step(token)
        token = drive(ours, token) if token and not ours.complete else None
    assert ours.name == theirs.negotiated_protocol == "kerberos"
    assert theirs.unwrap(ours.wrap(b"x")).data == b"x"

    ours, theirs = server(kerberos), pyspnego.client(
        "alice@ACREDSSP.TEST", ALICE.password, hostname="localhost", service="TERMSRV", protocol="negotiate",
        options=pyspnego.NegotiateOptions.use_negotiate,
    )  # fmt: skip
    token = theirs.step()
    while token:
        token = drive(ours, token)
        token = theirs.step(token) if token and not theirs.complete else None
    assert ours.name == "kerberos"
    assert ours.unwrap(theirs.wrap(b"x").data) == b"x"
