"""Our engine against other people's NTLM, SPNEGO and DER, every version and both sides, without TLS."""

import itertools

import pytest
from support import reference

from acredssp.config import ClientConfig, ServerConfig
from acredssp.core.events import Delegate, LookupCredential
from acredssp.credentials import Password
from acredssp.errors import AuthenticationError
from acredssp.policy import MechanismChoice, Policy
from acredssp.status import NTSTATUS, SecurityStatus
from acredssp.tls_config import self_signed, server_context_from_pem
from acredssp.wire.ts_credentials import TSPasswordCreds

PUBLIC_KEY = b"\x30the key of whoever runs TLS"
NEWEST = 6
VERSIONS = (2, 3, 4, 5, 6)
PAIRS = [(ours, theirs) for ours, theirs in itertools.product(VERSIONS, VERSIONS) if NEWEST in (ours, theirs)]

PEERS = {
    reference.Pyspnego: (),
    reference.GSSAPI: (pytest.mark.interop,),  # comes from a Debian package, the others from PyPI
    reference.SSPIRs: (),
}
MECHANISMS = ["ntlm", "negotiate"]


def pairs(*without):
    """The peers and what they log on with; `without` are those that one of them does not have."""
    return pytest.mark.parametrize(
        ("peer", "mechanism"),
        [
            pytest.param(peer, mechanism, id=f"{mechanism}-{peer.name}", marks=marks)
            for peer, marks in PEERS.items()
            for mechanism in MECHANISMS
            if (peer, mechanism) not in without
        ],
    )


SPNEGO_OF_RUST = (reference.SSPIRs, "negotiate")
INITIATORS = pairs()
BUNDLING_INITIATORS = pairs(SPNEGO_OF_RUST)
"""Those that seal before SPNEGO is through."""
ACCEPTORS = pairs(SPNEGO_OF_RUST)


@pytest.fixture(autouse=True)
def accounts(tmp_path, monkeypatch, peer):
    if peer is reference.GSSAPI:
        peer.require()
    path = tmp_path / "accounts"
    path.write_text(reference.ACCOUNTS, encoding="ascii")
    monkeypatch.setenv("NTLM_USER_FILE", str(path))
    monkeypatch.setenv("KRB5_CONFIG", "/dev/null")  # SPNEGO would look for a realm


@pytest.fixture(scope="module")
def tls():
    """A context that a ServerConfig asks for and the bare shape does not use."""
    return server_context_from_pem(Policy(), *self_signed(["localhost"], "ec"))


def policy(version=NEWEST, mechanism="ntlm"):
    choice = MechanismChoice(mechanism)
    return Policy(min_version=2, max_version=version, dangerous_allow_legacy_versions=True, mechanism=choice)


def client(mechanism, version=NEWEST, password=reference.PASSWORD):
    account = Password(password, reference.USER, reference.DOMAIN)
    config = ClientConfig(authenticate=account, policy=policy(version, mechanism))
    return config.new_bare_context(public_key=PUBLIC_KEY, spn=f"TERMSRV/{reference.HOST}")


def server(tls, version=NEWEST):
    config = ServerConfig(ssl_context=tls, lookup=lambda _: None, policy=policy(version))
    return config.new_bare_context(public_key=PUBLIC_KEY)


def drive(context, message):
    """Our answer to one message, with alice's password for whoever asks and whoever is proven."""
    result = context.step(message)
    assert result.extra == 0
    while result.event is not None:
        assert isinstance(result.event, LookupCredential | Delegate)
        assert not result.output
        answer = True if isinstance(result.event, Delegate) else Password(reference.PASSWORD)
        result = context.resume(result.event, answer)
    return result.output


@ACCEPTORS
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_our_client_logs_on(peer, mechanism, ours, theirs):
    context = client(mechanism, ours)
    acceptor = reference.accept(peer.acceptor(mechanism), theirs, PUBLIC_KEY)
    result = reference.converse(acceptor, lambda message: drive(context, message), context.step().output)
    assert context.info.version == result.version == min(ours, theirs)
    assert context.info.mechanism == "ntlm"
    assert context.info.delegated == "password"
    assert result.principal.endswith(f"{reference.DOMAIN}\\{reference.USER}")
    assert result.credentials == (reference.DOMAIN, reference.USER, reference.PASSWORD)


@INITIATORS
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_our_server_lets_in(peer, mechanism, ours, theirs, tls):
    let_in(tls, ours, theirs, reference.initiate(peer.initiator(mechanism), theirs, PUBLIC_KEY))


@BUNDLING_INITIATORS
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_our_server_lets_in_who_sends_his_proof_beside_the_last_token(peer, mechanism, ours, theirs, tls):
    let_in(tls, ours, theirs, reference.initiate(peer.initiator(mechanism), theirs, PUBLIC_KEY, bundle=True))


def let_in(tls, ours, theirs, initiator):
    context = server(tls, ours)
    result = reference.converse(initiator, lambda message: drive(context, message))
    assert context.info.version == result.version == min(ours, theirs)
    assert context.info.mechanism == "ntlm"
    assert (context.info.principal.domain, context.info.principal.user) == (reference.DOMAIN, reference.USER)
    assert context.take_credentials() == TSPasswordCreds.of(reference.DOMAIN, reference.USER, reference.PASSWORD)


@ACCEPTORS
@pytest.mark.parametrize("version", VERSIONS)
def test_our_client_is_refused_with_a_wrong_password(peer, mechanism, version):
    context = client(mechanism, version, password="wrong")
    acceptor = reference.accept(peer.acceptor(mechanism), NEWEST, PUBLIC_KEY)

    def refused():
        reference.converse(acceptor, lambda message: drive(context, message), context.step().output)

    if (peer, mechanism) == (reference.GSSAPI, "negotiate"):
        assert refusal(refused) is None  # MIT's SPNEGO says it with a token of its own: reject, and no number
    elif version in reference.ERROR_CODE_VERSIONS:
        assert refusal(refused) == NTSTATUS.STATUS_LOGON_FAILURE
    else:  # there is no errorCode: a close says it
        with pytest.raises(reference.Refused):
            refused()
        assert refusal(context.receive_eof) is None


def refusal(call):
    """The NTSTATUS of the AuthenticationError that the call raises."""
    with pytest.raises(AuthenticationError) as refused:
        call()
    return refused.value.nt_status


@INITIATORS
@pytest.mark.parametrize("version", VERSIONS)
def test_our_server_refuses_a_wrong_password(peer, mechanism, version, tls):
    context = server(tls)
    initiator = reference.initiate(peer.initiator(mechanism, password="wrong"), version, PUBLIC_KEY)
    with pytest.raises(AuthenticationError) as refused:
        reference.converse(initiator, lambda message: drive(context, message))
    assert refused.value.security_status == SecurityStatus.SEC_E_LOGON_DENIED
    assert refused.value.nt_status == NTSTATUS.STATUS_LOGON_FAILURE
    if version in reference.ERROR_CODE_VERSIONS:
        assert reference.decode(context.farewell)["errorCode"] == reference.LOGON_FAILURE
    else:
        assert context.farewell == b""
