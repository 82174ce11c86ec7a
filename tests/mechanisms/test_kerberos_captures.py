"""Every recorded Kerberos conversation, opened from the service's keytab by an implementation of the RFCs alone.

The oracle first proves itself by published vectors. What it then opens must be what our core computes.
"""

import dataclasses

import pytest
from support import rfc3961, rfc4120, rfc4121
from support.recorded_kerberos import logons, sealed_messages, session_key, tokens_of
from vectors.load import capture as capture_named

from acredssp.core.binding import client_value, server_value
from acredssp.errors import CredSSPError, RemoteProtocolError
from acredssp.wire import gss, ts_credentials
from acredssp.wire.gss import ContextToken
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


@pytest.mark.requirement("kerberos.remote-guard")
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


# -- the layout of sealed messages, and what is refused before a library sees it


def recorded_tokens(capture):
    """(direction, sealed token, what it holds) of a recording."""
    return [
        (message.direction, bytes.fromhex(message.decoded[field]), sealed_messages(capture, message.direction)[field])
        for message in capture.messages
        for field in ("pub_key_auth", "auth_info")
        if message.decoded[field]
    ]


@LOGONS
@pytest.mark.requirement("kerberos.wrap")
def test_our_layout_is_the_recorded_one(capture):
    for direction, token, held in recorded_tokens(capture):
        as_gss_wrap = rfc4121.wrap(session_key(capture), dataclasses.replace(held, rotation=0))
        assert gss.unrotated(token, from_acceptor=direction == "s2c") == (as_gss_wrap,)
        if held.rotation:
            assert gss.rotate(as_gss_wrap, len(held.plaintext)) == token


@LOGONS
def test_a_seal_of_our_own_that_comes_back_is_refused(capture):
    for direction, token, _ in recorded_tokens(capture):
        with pytest.raises(RemoteProtocolError):
            gss.unrotated(token, from_acceptor=direction == "c2s")
    for direction, mic in tokens_of(capture).mics.items():
        gss.check_mic(mic, from_acceptor=direction == "s2c")
        with pytest.raises(RemoteProtocolError):
            gss.check_mic(mic, from_acceptor=direction == "c2s")


@LOGONS
@pytest.mark.requirement("kerberos.wrap")
def test_a_seal_as_windows_fills_it_is_found(capture):
    """EC 16, RRC 28, and turned by 44 ([MS-KILE] 3.4.5.4.1)."""
    for direction, _, held in recorded_tokens(capture):
        filled = dataclasses.replace(held, extra_count=16, rotation=28)
        token = rfc4121.wrap(session_key(capture), filled)
        body = token[rfc4121.HEADER.size :]
        turned = token[: rfc4121.HEADER.size] + rfc4121.rotate(body, 16)
        first, second = gss.unrotated(turned, from_acceptor=direction == "s2c")
        with pytest.raises(rfc3961.Altered):
            rfc4121.unwrap(session_key(capture), first)
        assert rfc4121.unwrap(session_key(capture), second).plaintext == held.plaintext


@LOGONS
def test_the_recorded_context_tokens_are_whole(capture):
    tokens = tokens_of(capture)
    gss.check_context_token(tokens.ap_req, ContextToken.AP_REQ)
    gss.check_context_token(tokens.ap_rep, ContextToken.AP_REP, ContextToken.KRB_ERROR)
    for token in (tokens.ap_req[:-1], tokens.ap_req + b"\0", tokens.ap_rep):
        with pytest.raises(CredSSPError):
            gss.check_context_token(token, ContextToken.AP_REQ)
