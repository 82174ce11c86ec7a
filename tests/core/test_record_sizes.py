"""What a record adds to its plaintext, held against real records of every suite that the local OpenSSL has."""

import copy
import os
import ssl

import pytest
from support.engine import ALICE, Script, pem

from acredssp import tls_config
from acredssp.core.client import ClientHandshake
from acredssp.core.context import SecurityContext
from acredssp.core.record_sizes import record_sizes
from acredssp.core.server import ServerHandshake
from acredssp.core.tls import TLSSession
from acredssp.errors import LocalProtocolError, PolicyError
from acredssp.policy import Policy
from acredssp.status import SecurityStatus
from acredssp.tls_config import server_context_from_pem
from acredssp.wire.tls_record import record_end

V = ssl.TLSVersion
VERSIONS = {"TLSv1": V.TLSv1, "TLSv1.1": V.TLSv1_1, "TLSv1.2": V.TLSv1_2, "TLSv1.3": V.TLSv1_3}
needs_old_tls = pytest.mark.skipif(not (ssl.HAS_TLSv1 and ssl.HAS_TLSv1_1), reason="openssl was built without it")
ANY_STRENGTH = ":@SECLEVEL=0"
NO_ENCRYPT_THEN_MAC = 0x00080000
"""SSL_OP_NO_ENCRYPT_THEN_MAC, which CPython does not name."""
LENGTHS = (*range(1, 34), 1000, 16_384)


def suites():
    """(version, name) of all that encrypt and authenticate by a certificate of the two kinds that servers have.

    Without DHE, which needs parameters: the way to the keys makes no difference to records.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:!aNULL:!eNULL:!PSK:!SRP:!aDSS:!kDHE" + ANY_STRENGTH)
    names = [(cipher["protocol"], cipher["name"]) for cipher in context.get_ciphers()]
    return [("TLSv1.3" if version == "TLSv1.3" else "TLSv1.2", name) for version, name in names]


def connect(version, name, *, encrypt_then_mac=True):
    """A client and a server that agree on one sizes."""
    newest = VERSIONS[version]
    policy = Policy(min_tls=V.TLSv1, dangerous_allow_legacy_tls=True) if newest < V.TLSv1_2 else Policy()
    server_context = server_context_from_pem(policy, *pem("ec" if "ECDSA" in name else "rsa"))
    client_context = tls_config.client_context(policy)
    for context in (client_context, server_context):
        context.maximum_version = newest
        context.set_ciphers(("ALL" if version == "TLSv1.3" else name) + ANY_STRENGTH)
        if not encrypt_then_mac:
            context.options |= NO_ENCRYPT_THEN_MAC
    client = TLSSession(client_context, server_side=False)
    server = TLSSession(server_context, server_side=True)
    flight = b""
    for _ in range(4):
        client.handshake(flight)
        server.handshake(client.output())
        flight = server.output()
    return client, server


def overheads(session):
    """Bytes that a record adds, for many lengths of plaintext."""
    found = set()
    for length in LENGTHS:
        session.write(bytes(length))
        found.add(len(session.output()) - length)
    return found


@pytest.mark.requirement("D3")
@pytest.mark.parametrize(
    "encrypt_then_mac", [True, pytest.param(False, marks=pytest.mark.thorough)], ids=["etm", "mte"]
)
@pytest.mark.parametrize(("version", "name"), [pair for pair in suites() if pair[0] == "TLSv1.2"], ids=lambda v: v)
def test_the_sizes_are_those_of_real_records(version, name, encrypt_then_mac):
    for end in connect(version, name, encrypt_then_mac=encrypt_then_mac):
        assert (end.version, end.cipher) == (version, name)
        sizes = record_sizes(end.version, end.cipher)
        found = overheads(end)
        assert max(found) == sizes.header + sizes.trailer
        assert min(found) == max(found) - sizes.block + 1
        assert len(found) == sizes.block


@needs_old_tls
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.requirement("D3")
@pytest.mark.parametrize("encrypt_then_mac", [True, False], ids=["etm", "mte"])
@pytest.mark.parametrize("name", ["AES128-SHA", "ECDHE-ECDSA-AES256-SHA"])
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1.1"])
def test_the_sizes_of_old_versions_are_those_of_real_records(version, name, encrypt_then_mac):
    for end in connect(version, name, encrypt_then_mac=encrypt_then_mac):
        assert (end.version, end.cipher) == (version, name)
        sizes = record_sizes(end.version, end.cipher)
        found = overheads(end)
        # The record in front has no plaintext: a block of padding, or the padding of the MAC.
        unused = 4 if version == "TLSv1" and not encrypt_then_mac else 0
        assert max(found) == sizes.header + sizes.trailer + sizes.front - unused
        assert len(found) == sizes.block


@pytest.mark.requirement("D3")
def test_the_sizes_of_tls_1_3_are_those_of_real_records():
    for end in connect("TLSv1.3", "TLS_AES_256_GCM_SHA384"):
        sizes = record_sizes(end.version, end.cipher)
        assert overheads(end) == {sizes.header + sizes.trailer} == {22}


@pytest.mark.parametrize(
    ("version", "name", "header", "trailer", "block"),
    [
        ("TLSv1.3", "TLS_AES_128_GCM_SHA256", 5, 17, 1),
        ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256", 5, 17, 1),
        ("TLSv1.3", "TLS_AES_128_CCM_SHA256", 5, 17, 1),
        ("TLSv1.3", "TLS_AES_128_CCM_8_SHA256", 5, 9, 1),
        ("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384", 13, 16, 1),
        ("TLSv1.2", "ECDHE-ECDSA-AES128-CCM", 13, 16, 1),
        ("TLSv1.2", "ECDHE-ECDSA-AES128-CCM8", 13, 8, 1),
        ("TLSv1.2", "ECDHE-RSA-CHACHA20-POLY1305", 5, 16, 1),
        ("TLSv1.2", "AES128-SHA", 21, 36, 16),
        ("TLSv1.2", "ECDHE-RSA-AES128-SHA256", 21, 48, 16),
        ("TLSv1.2", "ECDHE-RSA-AES256-SHA384", 21, 64, 16),
        ("TLSv1.2", "DES-CBC3-SHA", 13, 28, 8),
        ("TLSv1.1", "AES128-SHA", 21, 36, 16),
        ("TLSv1", "AES128-SHA", 5, 36, 16),
    ],
)
def test_the_sizes_are_those_of_the_documents(version, name, header, trailer, block):
    sizes = record_sizes(version, name)
    assert (sizes.header, sizes.trailer, sizes.block) == (header, trailer, block)


def test_sizes_can_be_copied():
    sizes = record_sizes("TLSv1", "AES128-SHA")
    assert copy.copy(sizes) == sizes


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("TLSv1.2", "NULL-SHA256"), ("TLSv1.2", "RC4-SHA"), ("SSLv3", "AES128-SHA"), ("TLSv1.2", ""), ("", ""),
        ("TLSv1.2", "AES128-MD5"),
    ],
)  # fmt: skip
def test_what_does_not_encrypt_or_is_older_than_tls_or_is_not_known_is_refused(version, name):
    with pytest.raises(PolicyError) as caught:
        record_sizes(version, name)
    assert caught.value.security_status is SecurityStatus.SEC_E_CRYPTO_SYSTEM_INVALID


# --- on a context ---


@pytest.mark.parametrize("encrypt_then_mac", [True, False], ids=["etm", "mte"])
@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384"),
        ("TLSv1.2", "ECDHE-RSA-CHACHA20-POLY1305"),
        ("TLSv1.2", "ECDHE-RSA-AES128-SHA256"),
        ("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    ],
)
def test_a_context_tells_the_sizes_of_its_own_records(version, name, encrypt_then_mac):
    client, server = connect(version, name, encrypt_then_mac=encrypt_then_mac)
    contexts = (
        SecurityContext(ClientHandshake(Script(b""), ALICE, Policy()), client),
        SecurityContext(ServerHandshake(Script(b""), Policy()), server),
    )
    for context in contexts:
        sizes = context.record_sizes
        assert sizes.max_message == 16_384
        for length in LENGTHS:
            plaintext = os.urandom(length)
            record = context.tls.encrypt(plaintext)
            assert record_end(record) == len(record), "one record"
            trailer = len(record) - sizes.header - length
            assert sizes.trailer - sizes.block < trailer <= sizes.trailer
        longer = context.tls.encrypt(bytes(sizes.max_message + 1))
        assert record_end(longer) < len(longer), "two records"


def test_a_context_without_tls_has_no_records():
    handshake = ServerHandshake(Script(b""), Policy())
    with pytest.raises(LocalProtocolError, match="tls"):
        _ = SecurityContext(handshake, None, public_key=b"key").record_sizes


def test_a_context_whose_tls_is_not_up_has_no_sizes_yet():
    tls = TLSSession(tls_config.client_context(Policy()), server_side=False)
    context = SecurityContext(ClientHandshake(Script(b""), ALICE, Policy()), tls)
    with pytest.raises(LocalProtocolError, match="is established"):
        _ = context.record_sizes
    context.step()
    with pytest.raises(LocalProtocolError, match="is established"):
        _ = context.record_sizes
