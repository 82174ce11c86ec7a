"""What a record adds to its plaintext, held against real records of every suite that the local OpenSSL has."""

import ssl

import pytest
from support.engine import pem

from acredssp import tls_config
from acredssp.core.tls import TLSSession
from acredssp.errors import PolicyError
from acredssp.policy import Policy
from acredssp.sspi.ciphers import cipher_suite, protocol
from acredssp.sspi.flags import SP_PROT
from acredssp.status import SecurityStatus
from acredssp.tls_config import server_context_from_pem

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
    """A client and a server that agree on one suite."""
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
@pytest.mark.parametrize("encrypt_then_mac", [True, False], ids=["etm", "mte"])
@pytest.mark.parametrize(("version", "name"), [pair for pair in suites() if pair[0] == "TLSv1.2"], ids=lambda v: v)
def test_the_sizes_are_those_of_real_records(version, name, encrypt_then_mac):
    for end in connect(version, name, encrypt_then_mac=encrypt_then_mac):
        assert (end.version, end.cipher) == (version, name)
        suite = cipher_suite(end.version, end.cipher)
        found = overheads(end)
        assert max(found) == suite.header + suite.trailer
        assert min(found) == max(found) - suite.block + 1
        assert len(found) == suite.block


@needs_old_tls
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.requirement("D3")
@pytest.mark.parametrize("encrypt_then_mac", [True, False], ids=["etm", "mte"])
@pytest.mark.parametrize("name", ["AES128-SHA", "ECDHE-ECDSA-AES256-SHA"])
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1.1"])
def test_the_sizes_of_old_versions_are_those_of_real_records(version, name, encrypt_then_mac):
    for end in connect(version, name, encrypt_then_mac=encrypt_then_mac):
        assert (end.version, end.cipher) == (version, name)
        suite = cipher_suite(end.version, end.cipher)
        found = overheads(end)
        # The record in front has no plaintext: a block of padding, or the padding of the MAC.
        unused = 4 if version == "TLSv1" and not encrypt_then_mac else 0
        assert max(found) == suite.header + suite.trailer + suite.front - unused
        assert len(found) == suite.block


@pytest.mark.requirement("D3")
def test_the_sizes_of_tls_1_3_are_those_of_real_records():
    for end in connect("TLSv1.3", "TLS_AES_256_GCM_SHA384"):
        suite = cipher_suite(end.version, end.cipher)
        assert overheads(end) == {suite.header + suite.trailer} == {22}


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
    suite = cipher_suite(version, name)
    assert (suite.header, suite.trailer, suite.block) == (header, trailer, block)


@pytest.mark.parametrize(
    ("version", "name", "algorithms"),
    [
        ("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384", (0x6610, 0x800D, 384, 0xAE06)),
        ("TLSv1.2", "DHE-RSA-AES128-SHA256", (0x660E, 0x800C, 256, 0xAA02)),
        ("TLSv1.2", "AES128-SHA", (0x660E, 0x8004, 160, 0xA400)),
        ("TLSv1.2", "DES-CBC3-SHA", (0x6603, 0x8004, 160, 0xA400)),
        ("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305", (0, 0, 0, 0xAE06)),
        ("TLSv1.3", "TLS_AES_128_GCM_SHA256", (0x660E, 0x800C, 256, 0)),
    ],
)
def test_algorithms_are_told_by_windows_numbers(version, name, algorithms):
    suite = cipher_suite(version, name)
    assert (suite.cipher_id, suite.hash_id, suite.hash_bits, suite.exchange_id) == algorithms


@pytest.mark.parametrize(
    ("version", "name"),
    [("TLSv1.2", "NULL-SHA256"), ("TLSv1.2", "RC4-SHA"), ("SSLv3", "AES128-SHA"), ("TLSv1.2", ""), ("", "")],
)
def test_what_does_not_encrypt_or_is_older_than_tls_is_refused(version, name):
    with pytest.raises(PolicyError) as caught:
        cipher_suite(version, name)
    assert caught.value.security_status is SecurityStatus.SEC_E_CRYPTO_SYSTEM_INVALID


def test_a_version_has_a_bit_for_each_side():
    assert protocol("TLSv1.2", server=False) is SP_PROT.TLS1_2_CLIENT
    assert protocol("TLSv1.3", server=True) is SP_PROT.TLS1_3_SERVER
    assert protocol("TLSv1", server=True) is SP_PROT.TLS1_0_SERVER
    assert protocol("TLSv1.1", server=False) is SP_PROT.TLS1_1_CLIENT
