"""Secrets in memory of their own: overwritten when forgotten, shown nowhere, multiplied by nobody."""

import copy
import ctypes
import gc
import pickle

import pytest

from acredssp.secret import SecretBytes
from acredssp.wire.ts_credentials import (
    SecretText,
    TSCspDataDetail,
    TSPasswordCreds,
    TSRemoteGuardCreds,
    TSRemoteGuardPackageCred,
    TSSmartCardCreds,
    UnicodeString,
)

KINDS = [SecretBytes(b"c4nary"), SecretText("c4nary")]


def memory_of(secret):
    """Where its bytes lie, as ctypes sees them, without holding them."""
    return ctypes.addressof((ctypes.c_char * len(secret)).from_buffer(secret))


def test_a_secret_that_is_forgotten_is_overwritten():
    gc.freeze()  # a collection need not look at what was there before
    secret = SecretBytes(b"c4nary" * 100)
    where = memory_of(secret)
    gc.collect()
    seen = []

    class Watched(SecretBytes):
        def __del__(self):
            super().__del__()
            seen.append(bytes(self))

    watched = Watched(b"c4nary")
    del watched
    gc.collect()
    assert seen == [bytes(6)]
    assert ctypes.string_at(where, 6) == b"c4nary"
    secret.zero()
    assert ctypes.string_at(where, 600) == bytes(600)
    assert secret == bytes(600)


@pytest.mark.parametrize("secret", KINDS, ids=lambda secret: type(secret).__name__)
@pytest.mark.parametrize("show", [repr, str, format, "{}".format, "{!r:>9}".format, lambda secret: f"{secret}"])
def test_no_text_shows_a_secret(secret, show):
    assert show(secret) == f"<{len(secret)} bytes>"


@pytest.mark.parametrize("secret", KINDS, ids=lambda secret: type(secret).__name__)
@pytest.mark.parametrize(
    "multiply",
    [pickle.dumps, copy.copy, copy.deepcopy, lambda secret: secret.copy(), lambda secret: pickle.dumps([secret], 0)],
)
def test_a_secret_is_neither_pickled_nor_copied(secret, multiply):
    with pytest.raises(TypeError, match="a secret cannot be"):
        multiply(secret)


@pytest.mark.parametrize(
    "credentials",
    [
        TSPasswordCreds.of("d", "u", "c4nary"),
        TSSmartCardCreds(SecretText("c4nary"), TSCspDataDetail(1)),
        TSRemoteGuardCreds(TSRemoteGuardPackageCred(UnicodeString("Kerberos"), SecretBytes(b"c4nary"))),
    ],
    ids=lambda credentials: credentials.kind,
)
def test_delegated_credentials_are_neither_pickled_nor_copied(credentials):
    for multiply in pickle.dumps, copy.deepcopy:
        with pytest.raises(TypeError, match="a secret cannot be"):
            multiply(credentials)
    assert "c4nary" not in repr(credentials)


def test_delegated_credentials_are_overwritten_on_demand():
    guard = TSRemoteGuardCreds(
        TSRemoteGuardPackageCred(UnicodeString("Kerberos"), SecretBytes(b"ticket")),
        (TSRemoteGuardPackageCred(UnicodeString("NTLM"), SecretBytes(b"hash")),),
    )
    password, card = TSPasswordCreds.of("d", "u", "pw"), TSSmartCardCreds(SecretText("1234"), TSCspDataDetail(1))
    for credentials in guard, password, card:
        credentials.zero()
    assert guard.logon_cred.cred_buffer == bytes(6)
    assert guard.supplemental_creds[0].cred_buffer == bytes(4)
    assert password.password == bytes(4)
    assert card.pin == bytes(8)


def test_what_is_secret_is_so_however_it_was_given():
    assert isinstance(TSPasswordCreds(UnicodeString(), UnicodeString(), b"x").password, SecretText)
    assert isinstance(TSSmartCardCreds(UnicodeString("1"), TSCspDataDetail(1)).pin, SecretText)
    assert isinstance(TSRemoteGuardPackageCred(UnicodeString(), b"x").cred_buffer, SecretBytes)


def test_secrets_compare_with_bytes_and_with_nothing_else():
    assert SecretBytes(b"x") == b"x" == SecretBytes(b"x")
    assert SecretBytes(b"x") != b"y"
    assert SecretBytes(b"x") != "x"
    assert SecretText("x") == b"x\0"
    with pytest.raises(TypeError):
        hash(SecretBytes(b"x"))


def test_a_text_is_revealed_on_demand():
    assert SecretText("pässwörd").reveal() == "pässwörd"
    assert SecretText("pw\0").reveal() == "pw"
    assert SecretText(b"\x00\xd8x").reveal() == "\ud800"
