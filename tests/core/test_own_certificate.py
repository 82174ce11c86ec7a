"""Which certificate a server's context presents, however the caller has set it up."""

import ssl

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from support.engine import certificate_for, pem
from support.tls import TLS13, pair, subject_public_key

from acredssp import ServerConfig, tls_config
from acredssp.core import own_certificate
from acredssp.core.own_certificate import own_chain, own_public_key
from acredssp.core.tls import TLSSession, peer_public_key
from acredssp.errors import PolicyError
from acredssp.policy import Policy
from acredssp.wire.tls_hello import signature_algorithms

V = ssl.TLSVersion


@pytest.fixture
def load(tmp_path):
    """Loads certificates with their keys into a context of the caller's own, which acredssp never saw."""

    def load(*pairs, context=None):
        context = context or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for number, (chain, key) in enumerate(pairs):
            file = tmp_path / f"{number}.pem"
            file.write_bytes(key + chain)
            context.load_cert_chain(file)
        return context

    return load


def strict_about_names(context):
    context.sni_callback = lambda _object, name, _context: None if name else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME


def certificates_of_clients(context):
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=pem("ec")[0].decode())


def certificates_of_clients_in_tls12(context):
    certificates_of_clients(context)
    context.maximum_version = V.TLSv1_2


def one_curve(name):
    return lambda context: context.set_ecdh_curve(name)


def tls13_alone(context):
    context.minimum_version = V.TLSv1_3


def tls13_with_certificates_of_clients(context):
    certificates_of_clients(context)
    tls13_alone(context)


def tls12_alone(context):
    context.maximum_version = V.TLSv1_2


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def old_versions_alone(context):
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = V.TLSv1, V.TLSv1_1


def rsa_key_exchange_alone(context):
    tls12_alone(context)
    context.set_ciphers("AES128-SHA")


def anonymous_suites_too(context):
    context.set_ciphers("ALL:aNULL:@SECLEVEL=0")


WAYS = {
    "as it is": None,
    "strict about server names": strict_about_names,
    "certificates of clients": certificates_of_clients,
    "certificates of clients, tls 1.2": certificates_of_clients_in_tls12,
    "certificates of clients, tls 1.3": tls13_with_certificates_of_clients,
    "brainpool alone": one_curve("brainpoolP256r1"),
    "p-521 alone": one_curve("secp521r1"),
    "tls 1.2 alone": tls12_alone,
    "tls 1.3 alone": tls13_alone,
    "tls 1.0 and 1.1 alone": old_versions_alone,
    "rsa key exchange alone": rsa_key_exchange_alone,
    "anonymous suites too": anonymous_suites_too,
}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize("way", WAYS)
def test_a_context_is_asked_whatever_it_wants_of_clients(way, load):
    context = load(pem("rsa"))
    if WAYS[way] is not None:
        WAYS[way](context)
    assert own_public_key(context) == subject_public_key(pem("rsa")[0])
    assert own_chain(context) == tls_config.chain_of(pem("rsa")[0])
    ServerConfig(ssl_context=context, lookup=lambda request: None)


KEYS = {
    "brainpool": lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed448": ed448.Ed448PrivateKey.generate,
}


@pytest.mark.parametrize("key", [*KEYS, "rsa", "ec", "p384", "ed25519"])
def test_a_context_is_asked_whatever_its_key(key, load):
    chain = certificate_for(KEYS[key]()) if key in KEYS else pem(key)
    assert own_chain(load(chain)) == tls_config.chain_of(chain[0])


@pytest.mark.parametrize("key", ["brainpool", "secp256k1"])
def test_our_own_context_of_an_odd_key(key):
    chain = certificate_for(KEYS[key]())
    assert own_chain(tls_config.server_context_from_pem(Policy(), *chain)) == tls_config.chain_of(chain[0])


def test_a_context_of_a_chain_that_openssls_clients_would_not_take(load):
    """They stop at 100 KiB."""
    chain, key = pem("ec")
    long = chain * 300
    assert len(b"".join(tls_config.chain_of(long))) > 100 * 1024
    assert own_chain(load((long, key))) == tls_config.chain_of(long)


def test_a_context_is_asked_once(load):
    context = load(pem("ec"))
    assert own_public_key(context) == subject_public_key(pem("ec")[0])
    context.sni_callback = None
    own_public_key(context)
    assert context.sni_callback is None, "whoever asks a context notes its server names"


def test_asking_leaves_the_callers_callback_alone(load):
    called = []
    context = load(pem("rsa"))
    context.sni_callback = lambda *arguments: called.append(arguments)
    own_public_key(context)
    ServerConfig(ssl_context=context, lookup=lambda request: None)
    assert called == []
    pair(Policy(), context)
    assert len(called) == 1


NO_CIPHER, NO_SIGNATURE, NO_VERSION = (
    "tls failed: no shared cipher",
    "tls failed: no suitable signature algorithm",
    "tls failed: unsupported protocol",
)


@pytest.mark.parametrize(
    ("way", "said"),
    [
        (None, f"{NO_CIPHER}, {NO_SIGNATURE}"),
        (tls12_alone, f"{NO_CIPHER}, {NO_VERSION}"),
        (tls13_alone, f"{NO_VERSION}, {NO_SIGNATURE}"),
    ],
)
def test_a_context_without_a_certificate_is_refused_with_what_openssl_says_of_each_version(way, said):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if way is not None:
        way(context)
    with pytest.raises(PolicyError, match=rf"presents no certificate \({said}\): it has none, or"):
        own_public_key(context)


def test_a_context_is_asked_for_every_signature_that_openssl_knows():
    """Those that are of no kind here too, such as ECDSA with SHA-224, and ML-DSA from OpenSSL 3.5 on."""
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname = False
    client = TLSSession(asking, server_side=False)
    client.handshake()
    asked = [number for _, signatures in own_certificate._kinds_in_tls13(asking) for number in signatures]
    assert set(asked) >= set(signature_algorithms(client.output()))
    assert len(asked) == len(set(asked))


def suites_for_another_key(context):
    tls12_alone(context)
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")


def suites_for_shared_secrets(context):
    tls12_alone(context)
    context.set_ciphers("PSK:@SECLEVEL=0")


@pytest.mark.parametrize("way", [suites_for_another_key, suites_for_shared_secrets])
def test_a_certificate_that_its_context_cannot_use_is_not_said_to_be_missing(way, load):
    context = load(pem("rsa"))
    way(context)
    with pytest.raises(PolicyError, match="or none of its tls versions and cipher suites can use") as error:
        own_public_key(context)
    assert "set_ciphers()" in error.value.hint


def tls13_with_a_curve_that_takes_a_second_hello(context):
    tls13_alone(context)
    context.set_ecdh_curve("secp521r1")


def suites_of_rsa_alone(context):
    context.set_ciphers("ECDHE-RSA-AES256-GCM-SHA384")  # TLS 1.3 has suites of its own


def without_tls12(context):
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.options |= ssl.OP_NO_TLSv1_2
    context.minimum_version = V.TLSv1


TWO_KINDS = {
    "as it is": None,
    "tls 1.2 alone": tls12_alone,
    "tls 1.3 alone": tls13_alone,
    "tls 1.3 alone, a second hello": tls13_with_a_curve_that_takes_a_second_hello,
    "tls 1.3 alone, certificates of clients": tls13_with_certificates_of_clients,
    "suites of rsa alone in tls 1.2": suites_of_rsa_alone,
    "all but tls 1.2": without_tls12,
}


@pytest.mark.filterwarnings("ignore:ssl.:DeprecationWarning")
@pytest.mark.parametrize("way", TWO_KINDS)
@pytest.mark.parametrize("kinds", [("rsa", "ec"), ("ec", "ed25519"), ("rsa", "ed25519")])
def test_a_context_with_two_key_types_is_refused(kinds, way, load):
    context = load(*(pem(kind) for kind in kinds))
    if TWO_KINDS[way] is not None:
        TWO_KINDS[way](context)
    with pytest.raises(PolicyError, match="two key types"):
        own_public_key(context)
    with pytest.raises(PolicyError, match="two key types"):
        ServerConfig(ssl_context=context, lookup=lambda request: None, certificate=pem(kinds[0])[0])


@pytest.mark.filterwarnings("ignore:ssl.:DeprecationWarning")
@pytest.mark.parametrize("way", TWO_KINDS)
@pytest.mark.parametrize("kind", ["rsa", "ec", "ed25519"])
def test_a_context_with_one_key_type_is_taken(kind, way, load):
    context = load(pem(kind))
    if TWO_KINDS[way] is not None:
        TWO_KINDS[way](context)
    assert own_chain(context) == tls_config.chain_of(pem(kind)[0])


def test_a_context_that_an_sni_callback_chose_may_not_have_two_key_types_either(load):
    front, behind = load(pem("rsa")), load(pem("rsa"), pem("ec"))
    tls13_alone(behind)
    front.sni_callback = lambda ssl_object, _name, _context: setattr(ssl_object, "context", behind)
    _, server = pair(TLS13, front)
    with pytest.raises(PolicyError, match="two key types"):
        own_public_key(server.context)


# --- where it does not tell ---


@pytest.fixture
def silent(load):
    """A context of TLS 1.3 with more certificates than OpenSSL's clients take: nobody of this process sees them."""
    chain, key = pem("ec")
    return load((chain * 300, key), context=_of_tls13())


def _of_tls13():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = V.TLSv1_3
    return context


def test_openssls_reason_is_told(silent):
    with pytest.raises(PolicyError, match=r"cannot find out .*excessive message size.*ServerConfig as certificate"):
        ServerConfig(ssl_context=silent, lookup=lambda request: None)


def test_the_caller_may_say_which_it_is(silent):
    chain = pem("ec")[0] * 300
    ServerConfig(ssl_context=silent, lookup=lambda request: None, certificate=chain)
    assert own_chain(silent) == tls_config.chain_of(chain)
    assert own_public_key(silent) == subject_public_key(chain)


def test_another_certificate_than_the_one_that_is_presented_is_refused(load):
    with pytest.raises(PolicyError, match="another certificate"):
        ServerConfig(ssl_context=load(pem("ec")), lookup=lambda request: None, certificate=pem("rsa")[0])
    context = load(pem("ec"))
    ServerConfig(ssl_context=context, lookup=lambda request: None, certificate=pem("ec")[0])
    assert own_chain(context) == tls_config.chain_of(pem("ec")[0])


@pytest.mark.parametrize("certificate", [b"", b"no pem"])
def test_what_is_no_certificate_is_refused(certificate, load):
    with pytest.raises(ValueError, match="certificate"):
        ServerConfig(ssl_context=load(pem("ec")), lookup=lambda request: None, certificate=certificate)


def test_a_private_key_given_as_a_certificate_is_refused_without_showing_it(load):
    key = pem("ec")[1]
    with pytest.raises(ValueError, match="certificate") as caught:
        ServerConfig(ssl_context=load(pem("ec")), lookup=lambda request: None, certificate=key)
    assert key.decode().splitlines()[1] not in str(caught.value)


# --- the context that an SNI callback chose ---


def test_the_key_is_that_of_the_context_an_sni_callback_chose():
    front = tls_config.server_context_from_pem(Policy(), *pem("rsa"))
    behind = tls_config.server_context_from_pem(Policy(), *pem("ec"))
    front.sni_callback = lambda ssl_object, _name, _context: setattr(ssl_object, "context", behind)
    client, server = pair(TLS13, front)
    key = subject_public_key(pem("ec")[0])
    assert own_public_key(server.context) == peer_public_key(client.peer_chain()) == key
