"""The binding values against those computed from the formula in protocol notes and recorded with FreeRDP 3.10."""

import pytest
from vectors.keys import SPK_EC, SPK_RSA

from acredssp.core.binding import client_value, server_value

NONCE = bytes(range(32))


@pytest.mark.requirement("binding.hash")
@pytest.mark.parametrize(
    ("key", "client", "server"),
    [
        (
            SPK_RSA,
            "34572a7a3fb5d77c1da6a4ca8f662bc14b93af0e8812e67cec5eb6c8d0217f5a",
            "8844ca87776f116579d8ab1320b415ae70d2405ccea00d96eb3ff4b2bfb80473",
        ),
        (
            SPK_EC,
            "dc5b3d8d889a8493fefdb0b36070f7aa7312282a250fb8fce17fd03fb39f20e2",
            "9433607331911a4012edc8a4d58637f9eb220a1761c90b3b1990880d1211e528",
        ),
    ],
    ids=["rsa", "ec"],
)
@pytest.mark.parametrize("version", [5, 6])
def test_hashes_of_version_5_and_6(version, key, client, server):
    assert client_value(version, NONCE, key).hex() == client
    assert server_value(version, NONCE, key).hex() == server


@pytest.mark.requirement("binding.echo")
@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("nonce", [None, NONCE])
def test_legacy_versions_echo_the_key_whatever_the_nonce(version, nonce):
    assert client_value(version, nonce, SPK_RSA) == SPK_RSA
    assert server_value(version, nonce, SPK_RSA) == b"\x31" + SPK_RSA[1:]


@pytest.mark.requirement("binding.echo")
def test_the_first_byte_wraps_around():
    assert server_value(2, None, b"\xff\x01") == b"\x00\x01"
