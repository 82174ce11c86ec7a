"""Every recorded Kerberos conversation, opened from the service's keytab by an implementation of the RFCs alone.

The oracle first proves itself by published vectors. What it then opens must be what our core computes.
"""

import pytest
from support import rfc3961, rfc4120, rfc4121
from support.recorded_kerberos import logons, sealed_messages, session_key, tokens_of
from vectors.load import capture as capture_named

from acredssp.core.binding import client_value, server_value
from acredssp.wire import ts_credentials
from acredssp.wire.ts_credentials import TSPasswordCreds, TSRemoteGuardCreds

LOGONS = pytest.mark.parametrize("capture", logons(), ids=str)
WITH_KEYTAB = pytest.mark.parametrize("capture", [c for c in logons() if c.get("keytab_hex")], ids=str)
TEXT = b"I would like the General Gau's Chicken, please, and wonton soup."

# -- the oracle


@pytest.mark.parametrize(
    ("data", "size", "folded"),
    [
        (b"012345", 8, "be072631276b1955"),
        (b"password", 7, "78a07b6caf85fa"),
        (b"Rough Consensus, and Running Code", 8, "bb6ed30870b7f0e0"),
    ],
)
def test_the_oracle_folds_as_rfc_3961_appendix_a(data, size, folded):
    assert rfc3961.n_fold(data, size).hex() == folded


@pytest.mark.parametrize(
    ("size", "encrypted"),
    [
        (17, "c6353568f2bf8cb4d8a580362da7ff7f97"),
        (31, "fc00783e0efdb2c1d445d4c8eff7ed2297687268d6ecccc0c07b25e25ecfe5"),
        (32, "39312523a78662d5be7fcbcc98ebf5a897687268d6ecccc0c07b25e25ecfe584"),
    ],
)
def test_the_oracle_encrypts_as_rfc_3962_appendix_b(size, encrypted):
    assert rfc3961.encrypt_cts(b"chicken teriyaki", TEXT[:size]).hex() == encrypted


@pytest.mark.parametrize("size", [16, 17, 31, 32, 33, 48, 64])
def test_the_oracle_decrypts_what_it_encrypts(size):
    key = b"chicken teriyaki"
    assert rfc3961.decrypt_cts(key, rfc3961.encrypt_cts(key, TEXT[:size])) == TEXT[:size]


RC4_KEY = bytes.fromhex("81a2cb90af7fc2d19554a150d8185359")
RC4_TOKEN = bytes.fromhex(
    "603b06092a864886f712010202020111001000ffffe29e8bbc6348e740ebaa619244a156a13b5cf65e3c21b9aa"
    "8ed63f0ac83815335b72e293bae1f660"
)


def test_the_oracle_opens_the_rc4_token_of_ms_kile():
    plaintext, sequence, confounder = rfc4121.rc4_unwrap(RC4_KEY, RC4_TOKEN)
    assert plaintext.hex() == "112233445566778899aabbccddeeff01"  # one byte of padding
    assert sequence[:4].hex() == "60cbacd3"
    assert confounder.hex() == "5256f3fb630cf12a"


@pytest.mark.parametrize("at", range(21, len(RC4_TOKEN)))
def test_the_oracle_refuses_an_altered_rc4_token(at):
    with pytest.raises(rfc3961.Altered):
        rfc4121.rc4_unwrap(RC4_KEY, RC4_TOKEN[:at] + bytes([RC4_TOKEN[at] ^ 1]) + RC4_TOKEN[at + 1 :])


# -- the recordings


def test_there_are_recordings_of_every_kind():
    seen = {(c["negotiated_version"] >= 5, tokens_of(c).mech_list is None, bool(tokens_of(c).mics)) for c in logons()}
    assert seen == {(new, raw, False) for new in (True, False) for raw in (True, False)} | {
        (new, False, True) for new in (True, False)
    }
    assert len(logons()) == 15
    assert sum(tokens_of(c).optimistic is not None for c in logons()) == 6


@WITH_KEYTAB
def test_the_keytab_opens_the_logon(capture):
    tokens = tokens_of(capture)
    logon = rfc4120.open_logon(rfc4120.read_keytab(capture.hex("keytab_hex")), tokens.ap_req, tokens.ap_rep)
    assert logon.user == capture["client_principal"]
    assert logon.service in {"TERMSRV/localhost", "TERMSRV/srv.acred.test"}
    assert logon.key == session_key(capture)
    proof = sealed_messages(capture, "s2c")["pub_key_auth"]
    assert proof.sequence == logon.acceptor_sequence + ("s2c" in tokens.mics)


@LOGONS
@pytest.mark.requirement("binding.echo", "binding.hash")
def test_the_seals_hold_what_our_core_computes(capture):
    version, key = capture["negotiated_version"], bytes.fromhex(capture["tls"]["subject_public_key"])
    beside = [m.decoded["client_nonce"] for m in capture.messages if m.decoded["pub_key_auth"]]
    nonce = bytes.fromhex(beside[0]) if beside[0] else None
    ours, theirs = sealed_messages(capture, "c2s"), sealed_messages(capture, "s2c")
    assert ours["pub_key_auth"].plaintext == client_value(version, nonce, key)
    if capture["result"] == "server pubKeyAuth mismatch":
        # FreeRDP 3 servers seal a 1 and zeros below version 5: a fault of theirs, which a client must refuse.
        assert theirs["pub_key_auth"].plaintext == b"\1" + bytes(len(key) - 1)
        assert theirs["pub_key_auth"].plaintext != server_value(version, nonce, key)
    else:
        assert theirs["pub_key_auth"].plaintext == server_value(version, nonce, key)


@LOGONS
def test_the_seals_are_numbered_one_after_the_other(capture):
    for direction, flags in ("c2s", 6), ("s2c", 7):
        mic = tokens_of(capture).mics.get(direction)
        numbers = [rfc4121.mic_fields(mic)[1]] if mic else []
        numbers += [sealed.sequence for sealed in sealed_messages(capture, direction).values()]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert {sealed.flags for sealed in sealed_messages(capture, direction).values()} == {flags}


@LOGONS
def test_every_mech_list_mic_covers_the_list_as_sent(capture):
    tokens = tokens_of(capture)
    for mic in tokens.mics.values():
        assert rfc4121.get_mic(session_key(capture), *rfc4121.mic_fields(mic), tokens.mech_list) == mic


@pytest.mark.parametrize("capture", [c for c in logons() if "auth_info" in sealed_messages(c, "c2s")], ids=str)
def test_the_delegated_credentials_come_out(capture):
    plaintext = sealed_messages(capture, "c2s")["auth_info"].plaintext
    assert plaintext == capture.hex("ts_credentials_plain")
    credentials = ts_credentials.decode(plaintext)
    assert ts_credentials.encode(credentials) == plaintext
    assert isinstance(credentials, TSRemoteGuardCreds if "remoteguard" in str(capture) else TSPasswordCreds)


def test_remote_credential_guard_delegates_a_ticket_of_the_user():
    capture = capture_named("freerdp3.10-krb5-remoteguard")
    logon = ts_credentials.decode(sealed_messages(capture, "c2s")["auth_info"].plaintext).logon_cred
    assert str(logon.package_name) == "Kerberos"
    keytab = rfc4120.read_keytab(capture.hex("keytab_hex"))
    ticket, forwarded = rfc4120.open_ticket_logon(keytab, logon.cred_buffer)
    assert rfc4120.name(ticket["cname"]) == "alice"
    (info,) = forwarded["ticket-info"]
    assert rfc4120.name(info["pname"]) == "alice"
    assert rfc4120.name(info["sname"]) == "krbtgt/ACREDSSP.TEST"
    assert rfc4120.flags(info["flags"]) >> 29 & 1, "forwarded"
