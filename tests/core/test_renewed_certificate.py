"""A certificate that is renewed while its context serves: logons go on, and stay bound to the key that was shown."""

import dataclasses
import ssl

import pytest
from support.engine import End, answers_of, converse, pem
from support.logon import ALICE, established, policy_of
from support.tls import subject_public_key

from acredssp.config import ClientConfig, ServerConfig
from acredssp.core.events import JudgeCertificate, LookupCredential
from acredssp.core.own_certificate import ask_again, own_public_key
from acredssp.errors import AuthenticationError, CredSSPError, PolicyError, PublicKeyMismatch
from acredssp.policy import Policy
from acredssp.status import NTSTATUS
from acredssp.tls_config import chain_of, self_signed

OLD, NEW = self_signed(["localhost"], "ec"), self_signed(["localhost"], "ec")


class CountingContext(ssl.SSLContext):
    """Counts how often it was asked for its certificate, which begins with its suites."""

    asked = 0

    def get_ciphers(self):
        self.asked += 1
        return super().get_ciphers()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def policy(request):
    return dataclasses.replace(policy_of(), min_tls=request.param, max_tls=request.param)


@pytest.fixture
def load(tmp_path):
    """Loads a certificate and its key into a context, as a server does that renews them."""

    def load(context, pair):
        chain, key = pair
        file = tmp_path / "server.pem"
        file.write_bytes(key + chain)
        context.load_cert_chain(file)

    return load


@pytest.fixture
def serve(load):
    """Makes a server's configuration of a context that has the old certificate."""

    def serve(**changes):
        context = CountingContext(ssl.PROTOCOL_TLS_SERVER)
        load(context, OLD)
        config = ServerConfig(ssl_context=context, lookup=lambda _: ALICE, policy=policy_of(min_version=2), **changes)
        context.asked = 0
        return config

    return serve


def ends(config, policy):
    """A client that takes any certificate, and a server's end; nothing has been said."""
    policy = dataclasses.replace(policy, dangerous_accept_any_certificate=True)
    client = ClientConfig(authenticate=ALICE, policy=policy)
    context = client.new_context(server_hostname="localhost", spn="TERMSRV/localhost")
    return (
        End(context, answers_of(client)),
        End(config.new_context(), lambda event: ALICE if isinstance(event, LookupCredential) else True),
    )


def log_on(client, server):
    """Let two ends talk; what the server presented."""
    for _ in converse(client, server):
        pass
    assert established(client)
    assert established(server)
    shown = client.context.tls.peer_chain()
    assert server.context.own_chain == shown
    return shown


@pytest.mark.requirement("binding.order")
@pytest.mark.parametrize("version", [2, 4, 5, 6])
def test_logons_go_on_after_a_renewal_bound_to_the_new_key(serve, load, policy, version):
    policy = dataclasses.replace(policy, min_version=2, max_version=version)
    config = serve()
    assert log_on(*ends(config, policy)) == chain_of(OLD[0])
    load(config.ssl_context, NEW)
    for _ in range(2):
        assert log_on(*ends(config, policy)) == chain_of(NEW[0])
    assert config.ssl_context.asked == 1, "the first logon after the renewal asks, and no other"
    assert own_public_key(config.ssl_context) == subject_public_key(NEW[0])


def test_a_connection_from_before_the_renewal_keeps_its_key(serve, load, policy):
    config = serve()
    early, later = ends(config, policy), ends(config, policy)
    load(config.ssl_context, NEW)
    assert log_on(*early) == chain_of(OLD[0])
    assert config.ssl_context.asked == 0
    assert log_on(*ends(config, policy)) == chain_of(NEW[0])
    assert log_on(*later) == chain_of(OLD[0]), "the new key is known by now, and is not this connection's"


def test_a_connection_from_before_the_renewal_was_noticed_learns_the_new_key(serve, load, policy):
    config = serve()
    load(config.ssl_context, NEW)
    first, second = ends(config, policy), ends(config, policy)
    assert log_on(*first) == log_on(*second) == chain_of(NEW[0])


def test_a_context_that_an_sni_callback_chose_may_be_renewed_too(serve, load, policy):
    chosen = serve().ssl_context
    config = serve()

    def choose(connection, _name, _context):
        connection.context = chosen

    config.ssl_context.sni_callback.caller = choose
    assert log_on(*ends(config, policy)) == chain_of(OLD[0])
    load(chosen, NEW)
    for _ in range(2):
        assert log_on(*ends(config, policy)) == chain_of(NEW[0])


def mismatched(config, between):
    """Why the server refuses a client that is bound to another key; `between` comes before its first word."""

    def answer(event):
        if isinstance(event, JudgeCertificate):  # tls is up, and nothing of the logon has been made
            client.context.handshake.public_key = subject_public_key(pem("p384")[0])
        return True

    ours = ClientConfig(authenticate=ALICE, policy=Policy(dangerous_accept_any_certificate=True))
    client = End(ours.new_context(server_hostname="localhost", spn="TERMSRV/localhost", judge=True), answer)
    between()
    _, server = ends(config, Policy())
    with pytest.raises(CredSSPError) as failure:
        for _ in converse(client, server):
            pass
    with pytest.raises(AuthenticationError) as told:
        client.step(server.context.farewell)
    assert told.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    assert server.context.take_credentials() is None
    return failure.value


@pytest.mark.requirement("binding.order", "defect.relay")
@pytest.mark.parametrize("renewed", [False, True])
def test_another_key_stays_a_mismatch_whether_the_certificate_was_renewed_or_not(serve, load, renewed):
    config = serve()
    error = mismatched(config, lambda: load(config.ssl_context, NEW) if renewed else None)
    assert type(error) is PublicKeyMismatch
    assert error.hint == "an attacker may be in between client and server"
    assert config.ssl_context.asked == 1


def test_a_renewal_by_a_key_of_another_kind_says_so(serve, load):
    """OpenSSL keeps the old one beside it, and the client decides which of them it is shown."""
    config = serve()
    error = mismatched(config, lambda: load(config.ssl_context, pem("rsa")))
    assert type(error) is PolicyError
    assert "two key types" in str(error)


def test_a_context_that_does_not_tell_keeps_what_the_caller_said(load):
    context = CountingContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    long = pem("ec")[0] * 300
    load(context, (long, pem("ec")[1]))
    config = ServerConfig(ssl_context=context, lookup=lambda _: ALICE, certificate=long)
    assert ask_again(context) == subject_public_key(pem("ec")[0])
    assert own_public_key(config.ssl_context) == subject_public_key(pem("ec")[0])
