"""What a cipher suite's algorithms and TLS's versions are by Windows' numbers."""

import pytest

from acredssp.errors import PolicyError
from acredssp.sspi.ciphers import cipher_suite, protocol
from acredssp.sspi.flags import SP_PROT
from acredssp.status import SecurityStatus


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
