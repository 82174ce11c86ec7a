"""Our client with our server, whole: real TLS, NTLM raw and under SPNEGO, every pair of versions, every answer."""

import functools
import hmac
import ssl

import pytest
from support.engine import CUTS, End, answers_of, client_tls, converse, pem, server_tls

from acredssp.config import ClientConfig, ServerConfig
from acredssp.core.events import Admit, AskOracle, Authorize, LookupCredential
from acredssp.credentials import Candidates, Deny, Nothing, NTHash, Oracle, Password
from acredssp.errors import AuthenticationError, CredSSPError, PolicyError, PublicKeyMismatch
from acredssp.policy import MechanismChoice, Policy
from acredssp.status import NTSTATUS
from acredssp.trust import Trust, pin_of
from acredssp.wire.ts_credentials import TSPasswordCreds
from acredssp.wire.ts_request import TSRequest
from acredssp.wire.x509 import subject_public_key

ALICE = Password("Passw0rd!", "alice", "CONTOSO")
MECHANISMS = pytest.mark.parametrize("mechanism", [MechanismChoice.NTLM, MechanismChoice.NEGOTIATE])
TLS = {"tls12": ssl.TLSVersion.TLSv1_2, "tls13": ssl.TLSVersion.TLSv1_3}


@functools.cache
def certificate(key_type: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem(key_type)[0].decode())


def policy_of(**kwargs) -> Policy:
    return Policy(dangerous_allow_legacy_versions=True, **kwargs)


def client_end(policy: Policy | None = None, *, authenticate=ALICE, key_type="rsa", bare=False, **kwargs) -> End:
    pin = pin_of(certificate(key_type))
    policy = policy or Policy()
    kwargs.setdefault("ssl_context", client_tls(policy))
    config = ClientConfig(authenticate=authenticate, policy=policy, trust=Trust.pinned(pin), **kwargs)
    if bare:
        key = subject_public_key(certificate(key_type))
        return End(config.new_bare_context(public_key=key, spn="TERMSRV/x"), answers_of(config))
    return End(config.new_context(server_hostname="localhost", spn="TERMSRV/localhost"), answers_of(config))


def server_end(policy: Policy | None = None, *, lookup=ALICE, key_type="rsa", hooks=False, bare=False) -> End:
    policy = policy or Policy()
    config = ServerConfig(
        ssl_context=server_tls(policy, key_type),
        lookup=lambda request: lookup,
        authorize=(lambda identity: True) if hooks else None,
        admit=(lambda info: True) if hooks else None,
        policy=policy,
    )
    asked = []

    def answer(event: object) -> object:
        asked.append(type(event))
        match event:
            case LookupCredential():
                return lookup
            case AskOracle(oracle, exchange):
                return oracle.verify(exchange)
            case _:
                return True

    context = (
        config.new_bare_context(public_key=subject_public_key(certificate(key_type))) if bare else config.new_context()
    )
    end = End(context, answer)
    end.asked = asked
    return end


def finish(client: End, server: End, cut: str = "whole") -> list[str]:
    directions = [direction for direction, _ in converse(client, server, CUTS[cut])]
    assert client.done
    assert server.done
    return directions


# --- the whole way ---


@pytest.mark.requirement("tls.reassembly")
@MECHANISMS
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("key_type", ["rsa", "ec"])
@pytest.mark.parametrize("tls", TLS)
def test_a_logon(tls, key_type, cut, mechanism):
    policy = policy_of(min_tls=TLS[tls], max_tls=TLS[tls], mechanism=mechanism)
    client, server = client_end(policy, key_type=key_type), server_end(policy, key_type=key_type)
    finish(client, server, cut)
    info = server.context.info
    assert str(info.principal) == "CONTOSO\\alice"
    assert info.principal.target_name == "TERMSRV/localhost"
    assert (info.mechanism, info.version, info.delegated) == ("ntlm", 6, "password")
    assert info.tls_version == {"tls12": "TLSv1.2", "tls13": "TLSv1.3"}[tls]
    assert client.context.info.peer_key_sha256 == pin_of(certificate(key_type))
    assert server.context.take_credentials() == TSPasswordCreds.of("CONTOSO", "alice", "Passw0rd!")


@pytest.mark.parametrize("key_type", ["p384", "rsa3072", "ed25519"])
@pytest.mark.parametrize("version", range(2, 7))
@pytest.mark.thorough
def test_any_kind_of_key_is_bound(version, key_type):
    policy = policy_of(min_version=2, max_version=version)
    client, server = client_end(policy, key_type=key_type), server_end(policy, key_type=key_type)
    finish(client, server)


@pytest.mark.parametrize(
    ("tls", "mechanism", "c2s", "s2c"),
    [("tls13", "ntlm", 4, 3), ("tls13", "negotiate", 5, 4), ("tls12", "ntlm", 5, 4), ("tls12", "negotiate", 6, 5)],
)
def test_the_number_of_messages(tls, mechanism, c2s, s2c):
    policy = policy_of(min_tls=TLS[tls], max_tls=TLS[tls], mechanism=MechanismChoice(mechanism))
    directions = finish(client_end(policy), server_end(policy))
    assert (directions.count("c2s"), directions.count("s2c")) == (c2s, s2c)


@MECHANISMS
@pytest.mark.parametrize("cut", CUTS)
def test_the_bare_shape(cut, mechanism):
    policy = Policy(mechanism=mechanism)
    client, server = client_end(policy, bare=True), server_end(policy, bare=True)
    finish(client, server, cut)
    assert server.context.take_credentials().user_name.__str__() == "alice"
    assert (server.context.info.tls_version, server.context.info.cipher) == ("", "")


@pytest.mark.requirement("version.minimum")
@MECHANISMS
@pytest.mark.parametrize("own", range(2, 7))
@pytest.mark.parametrize("theirs", range(2, 7))
def test_every_pair_of_versions(own, theirs, mechanism):
    client = client_end(policy_of(min_version=2, max_version=own, mechanism=mechanism))
    server = server_end(policy_of(min_version=2, max_version=theirs, mechanism=mechanism))
    finish(client, server)
    assert client.context.info.version == server.context.info.version == min(own, theirs)


@pytest.mark.requirement("version.floor")
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("old", [2, 3, 4])
def test_a_pair_below_the_floor(side, old):
    low, high = policy_of(min_version=2, max_version=old), Policy()
    client, server = (client_end(high), server_end(low)) if side == "client" else (client_end(low), server_end(high))
    with pytest.raises(PolicyError, match=f"version {old}"):
        finish(client, server)


def test_all_events_are_asked_in_their_order():
    client, server = client_end(), server_end(hooks=True)
    finish(client, server)
    assert server.asked == [LookupCredential, Authorize, Admit]


# --- who is let in ---


def oracle(password: Password) -> Oracle:
    """A domain controller's part of the work, by hashlib alone."""

    def verify(exchange) -> bytes:
        def mac(key: bytes, data: bytes) -> bytes:
            return hmac.new(key, data, "md5").digest()

        key = mac(password.nt_hash, (exchange.user.upper() + exchange.domain).encode("utf-16-le"))
        proof = mac(key, exchange.server_challenge + exchange.nt_response[16:])
        if proof != exchange.nt_response[:16]:
            return Deny()
        return mac(key, proof)

    return Oracle(verify)


@MECHANISMS
@pytest.mark.parametrize(
    "answer",
    [
        Password("Passw0rd!"),
        NTHash(ALICE.nt_hash),
        Candidates([Password("old"), NTHash(bytes(16)), Password("Passw0rd!")]),
        oracle(ALICE),
    ],
    ids=["password", "nt_hash", "candidates", "oracle"],
)
def test_the_right_secret_in_any_form(answer, mechanism):
    policy = Policy(mechanism=mechanism)
    finish(client_end(policy), server_end(policy, lookup=answer))


@MECHANISMS
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Password("wrong"), NTSTATUS.STATUS_LOGON_FAILURE),
        (NTHash(bytes(16)), NTSTATUS.STATUS_LOGON_FAILURE),
        (Candidates([]), NTSTATUS.STATUS_LOGON_FAILURE),
        (Candidates([Password("a"), Password("b")]), NTSTATUS.STATUS_LOGON_FAILURE),
        (Deny(), NTSTATUS.STATUS_LOGON_FAILURE),
        (Deny(NTSTATUS.STATUS_NO_SUCH_USER), NTSTATUS.STATUS_LOGON_FAILURE),
        (Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED), NTSTATUS.STATUS_LOGON_FAILURE),
        (Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED, Password("wrong")), NTSTATUS.STATUS_LOGON_FAILURE),
        (Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED, ALICE), NTSTATUS.STATUS_ACCOUNT_DISABLED),
        (Deny(NTSTATUS.STATUS_NO_LOGON_SERVERS), NTSTATUS.STATUS_NO_LOGON_SERVERS),
        (oracle(Password("wrong")), NTSTATUS.STATUS_LOGON_FAILURE),
        (Oracle(lambda exchange: b"short"), NTSTATUS.STATUS_LOGON_FAILURE),
        (Oracle(lambda exchange: None), NTSTATUS.STATUS_LOGON_FAILURE),
        (None, NTSTATUS.STATUS_LOGON_FAILURE),
        (True, NTSTATUS.STATUS_LOGON_FAILURE),
        ("Passw0rd!", NTSTATUS.STATUS_LOGON_FAILURE),
        (ALICE.nt_hash, NTSTATUS.STATUS_LOGON_FAILURE),
        (TimeoutError("the vault is down"), NTSTATUS.STATUS_LOGON_FAILURE),
    ],
)
def test_everything_else_is_refused_and_the_client_sees_that_status(answer, status, mechanism):
    policy = Policy(mechanism=mechanism)
    client, server = client_end(policy), server_end(policy, lookup=answer)
    with pytest.raises(AuthenticationError) as refused:
        finish(client, server)
    assert refused.value.nt_status is status
    with pytest.raises(AuthenticationError) as told:
        client.step(server.context.farewell)
    assert told.value.nt_status is status


def test_a_user_principal_name_is_sent_as_it_is():
    policy = Policy(mechanism=MechanismChoice.NTLM)  # a realm in the name would bring Kerberos in
    client = client_end(policy, authenticate=Password("Passw0rd!", "alice@contoso.com"))
    server = server_end()
    finish(client, server)
    assert str(server.context.info.principal) == "alice@contoso.com"


@pytest.mark.parametrize(
    ("authenticate", "delegate", "kind"),
    [
        (NTHash(ALICE.nt_hash, "alice", "CONTOSO"), None, "nothing"),
        (ALICE, Nothing(), "nothing"),
        (ALICE, Password("other", "bob"), "password"),
        (NTHash(ALICE.nt_hash, "alice"), ALICE, "password"),
        (ALICE, TSPasswordCreds.of("A", "b", "c"), "password"),
    ],
)
def test_what_is_delegated(authenticate, delegate, kind):
    client, server = client_end(authenticate=authenticate, delegate=delegate), server_end()
    finish(client, server)
    assert server.context.info.delegated == client.context.info.delegated == kind
    if isinstance(delegate, Password):
        assert server.context.take_credentials().password.reveal() == delegate.password


@pytest.mark.parametrize("length", [0, 1, 56, 300, 4096, 30_000])
def test_long_passwords(length):
    password = Password("ü" * length, "alice")
    client, server = client_end(authenticate=password), server_end(lookup=password)
    finish(client, server)
    assert server.context.take_credentials().password.reveal() == password.password


# --- in between ---


@pytest.mark.requirement("defect.relay")
@MECHANISMS
@pytest.mark.parametrize("version", range(2, 7))
def test_a_man_in_the_middle_with_another_certificate_gets_no_credentials(version, mechanism):
    """He ends TLS on both sides and hands the TSRequests on: the classic relay (CVE-2018-0886 is its legacy form)."""
    policy = policy_of(min_version=2, max_version=version, mechanism=mechanism)
    client = client_end(policy, bare=True, key_type="ec")  # the client sees the attacker's certificate
    server = server_end(policy, bare=True, key_type="rsa")
    sent = []
    with pytest.raises((PublicKeyMismatch, CredSSPError)):
        for direction, message in converse(client, server):
            sent.append((direction, TSRequest.decode(message)))
    assert not any(message.auth_info for _, message in sent)
    assert not any(direction == "s2c" and message.pub_key_auth for direction, message in sent)
    assert server.context.take_credentials() is None


# --- nothing secret in sight ---


def test_no_secret_is_in_a_repr():
    canary = Password("c4n4ry-s3cret", "alice")
    client, server = client_end(authenticate=canary), server_end(lookup=canary, hooks=True)
    finish(client, server)
    seen = [canary, client.results, server.results, client.context, server.context, client.context.info]
    seen += [server.context.take_credentials(), Candidates([canary]), Deny(secret=canary), NTHash(canary.nt_hash)]
    text = " ".join(map(repr, seen)) + " ".join(map(str, seen))
    for secret in ("c4n4ry", canary.nt_hash.hex(), repr(canary.nt_hash)[2:-1], "c\\x004\\x00n"):
        assert secret not in text
