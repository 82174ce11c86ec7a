"""MD4 against the test suite of RFC 1320 (appendix A.5), the NT hashes of [MS-NLMP] 4.2 and pyspnego's own MD4."""

import pytest
from spnego._ntlm_raw.md4 import md4 as spnego_md4

from acredssp.md4 import md4

RFC_1320 = [
    ("", "31d6cfe0d16ae931b73c59d7e0c089c0"),
    ("a", "bde52cb31de33e46245e05fbdbd6fb24"),
    ("abc", "a448017aaf21d8525fc10ae87aa6729d"),
    ("message digest", "d9130a8164549fe818874806e1c7014b"),
    ("abcdefghijklmnopqrstuvwxyz", "d79e1c308aa5bbcdeea8ed63df412da9"),
    ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "043f8582f241db351ce627e153e7f0e4"),
    ("1234567890" * 8, "e33b4ddc9c38f2199c3e7b164fcc0536"),
]


@pytest.mark.parametrize(("text", "digest"), RFC_1320)
def test_md4_gives_the_digests_of_rfc_1320(text, digest):
    assert md4(text.encode()).hex() == digest


def test_md4_gives_the_nt_hash_of_ms_nlmp():
    assert md4("Password".encode("utf-16-le")).hex() == "a4f49c406510bdcab6824ee7c30fd852"


@pytest.mark.parametrize("length", [*range(53, 68), 119, 120, 127, 128, 129])
def test_md4_pads_every_length_around_a_block_as_pyspnego_does(length):
    data = bytes(range(256))[:length]
    assert md4(data) == spnego_md4(data)
