"""Kerberos contexts against each other, with a real KDC: tokens, sealing in SSPI's layout, and what is refused."""

import dataclasses
import struct
import types

import pytest
import spnego
from support import rfc3961, rfc4121
from support.kerberos import ALICE, SPN, acceptor, cache, drive, establish, initiator, run, tickets_in

from acredssp.credentials import Keytab, Password
from acredssp.errors import (
    AuthenticationError,
    CredSSPError,
    LimitExceeded,
    LocalProtocolError,
    PolicyError,
    RemoteProtocolError,
)
from acredssp.mechanisms.base import StepMechanism
from acredssp.mechanisms.kerberos.context import KerberosAcceptor
from acredssp.mechanisms.kerberos.tickets import ServiceKeys, Tickets, keytab_realms
from acredssp.status import NTSTATUS, SecurityStatus

krb5 = pytest.importorskip("krb5")
library = pytest.importorskip("acredssp.mechanisms.kerberos.library")
memory_cache = pytest.importorskip("acredssp.mechanisms.kerberos.memory_cache")

MESSAGES = (b"pubKeyAuth", b"", b"x" * 20_000, b"authInfo")


@pytest.fixture
def pair(kerberos):
    """Two established contexts."""
    client, server = initiator(), acceptor(kerberos)
    establish(client, server)
    return client, server


def exchange_messages(client, server):
    for plaintext in MESSAGES:
        assert server.unwrap(client.wrap(plaintext)) == plaintext
        assert client.unwrap(server.wrap(plaintext)) == plaintext


# --- logging on ---


def test_a_password_logs_on(kerberos):
    client, server = initiator(), acceptor(kerberos)
    tokens = establish(client, server)
    assert [bool(token) for token in tokens] == [True, True, False]
    assert (server.principal.user, server.principal.domain) == ("alice", "ACREDSSP.TEST")
    assert client.principal is None
    assert server.principal.tickets is None
    exchange_messages(client, server)


@pytest.mark.parametrize(
    ("user", "domain"),
    [("alice", "ACREDSSP.TEST"), ("alice", "acredssp.test"), ("alice@acredssp.test", ""), ("alice", "")],
)
def test_an_account_is_known_by_its_realm_however_it_is_written(user, domain, kerberos):
    server = acceptor(kerberos)
    establish(initiator(Password("Passw0rd!", user, domain)), server)
    assert str(server.principal) == "ACREDSSP.TEST\\alice"


@pytest.fixture
def odd_names(kerberos):
    """A KDC that gives tickets to users with odd names. MIT's own PACs (1.20) do not verify for them: it makes none."""
    with kerberos.realm.configured(disable_pac="true") as port:
        kerberos.configure(port)
        yield kerberos


@pytest.mark.requirement("kerberos.principals")
@pytest.mark.parametrize(
    ("principal", "user"),
    [
        ("we/ird", "we/ird"),
        (r"we\/ird", r"we\/ird"),
        (r"we\\ird", r"we\\ird"),
        (r"alice\@contoso.com", "alice@contoso.com"),
        (r"ali\nce", r"ali\nce"),
    ],
)
def test_escaped_characters_neither_join_nor_split_names(principal, user, odd_names):
    server = acceptor(odd_names)
    establish(initiator(cache(odd_names.log_on(principal))), server)
    assert (server.principal.user, server.principal.domain) == (user, "ACREDSSP.TEST")


@pytest.mark.parametrize("user", ["alice@contoso.com", "ali\nce", "we/ird"])
def test_a_password_logs_on_whatever_characters_are_in_the_name(user, odd_names):
    server = acceptor(odd_names)
    establish(initiator(Password("Passw0rd!", user, "ACREDSSP.TEST")), server)
    assert server.principal.domain == "ACREDSSP.TEST"


@pytest.mark.requirement("kerberos.anonymous")
@pytest.mark.parametrize(
    "principal",
    [
        "WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS",
        "WELLKNOWN/ANONYMOUS@ACREDSSP.TEST",
        "alice@WELLKNOWN:ANONYMOUS",
        "@ACREDSSP.TEST",
        "",
    ],
)
def test_a_ticket_of_nobody_is_denied(principal, kerberos):
    client, server = initiator(), acceptor(kerberos)
    event = server.step(drive(client))
    token = event.run()
    server._native = types.SimpleNamespace(complete=True, client_principal=principal)
    with pytest.raises(AuthenticationError) as caught:
        server.resume(token)
    assert caught.value.security_status is SecurityStatus.SEC_E_LOGON_DENIED
    assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    assert not server.complete
    assert server.principal is None


def test_windows_names_its_clients_another_way_and_keeps_its_realms_to_itself(monkeypatch):
    monkeypatch.setattr(memory_cache, "HAS_GSSAPI", False)
    for name, principal in (("CONTOSO\\alice", "alice@CONTOSO"), ("a@b", r"a\@b"), ("", "")):
        native = library.NativeContext(types.SimpleNamespace(client_principal=name))
        assert native.client_principal == principal
    with pytest.raises(PolicyError, match="--allow-realm") as caught:
        keytab_realms(Keytab())
    assert caught.value.security_status is SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION


def test_windows_is_given_the_credential_and_no_tickets(monkeypatch):
    monkeypatch.setattr(memory_cache, "HAS_GSSAPI", False)
    password, nothing = library._log_on(Tickets(Password("secret", "alice", "contoso")))
    assert (password.username, password.password, nothing) == ("alice@CONTOSO", "secret", None)
    keytab, nothing = library._log_on(Tickets(Keytab("FILE:keys", "HTTP/host@CONTOSO")))
    assert (keytab.keytab, keytab.principal, nothing) == ("FILE:keys", "HTTP/host@CONTOSO", None)
    keytab, _ = library._log_on(Tickets(Keytab("FILE:keys")))
    assert keytab.principal is None
    assert Tickets(cache("")).held() == ()
    assert Tickets(cache("")).end() is None


def test_a_ticket_cache_logs_on_and_keeps_what_it_has(kerberos):
    name = kerberos.log_on("bob")
    before = tickets_in(name)
    server = acceptor(kerberos)
    establish(initiator(cache(name)), server)
    assert server.principal.user == "bob"
    assert tickets_in(name)[: len(before)] == before


def test_the_users_own_cache_logs_on_by_default(kerberos, monkeypatch):
    monkeypatch.setenv("KRB5CCNAME", kerberos.log_on("bob"))
    server = acceptor(kerberos)
    establish(initiator(cache("")), server)
    assert server.principal.user == "bob"


def test_a_keytab_logs_on(kerberos):
    server = acceptor(kerberos)
    establish(initiator(Keytab(str(kerberos.keytab), "HTTP/localhost@ACREDSSP.TEST")), server)
    assert server.principal.user == "HTTP/localhost"


def test_the_machines_own_keytab_is_taken_by_default(kerberos):
    server = KerberosAcceptor(ServiceKeys(Keytab()))
    establish(initiator(), server)
    assert server.principal.user == "alice"


def test_a_key_that_is_added_to_the_keytab_later_is_found(kerberos, tmp_path):
    path = tmp_path / "keytab"
    path.write_bytes(kerberos.realm.wrong_keytab.read_bytes())
    keys = ServiceKeys(Keytab(str(path)))
    with pytest.raises(CredSSPError):
        establish(initiator(), KerberosAcceptor(keys))
    path.write_bytes(kerberos.keytab.read_bytes())
    establish(initiator(), KerberosAcceptor(keys))


def test_a_keytab_logs_on_as_the_owner_of_its_first_key(kerberos):
    server = acceptor(kerberos)
    establish(initiator(Keytab(str(kerberos.keytab))), server)
    assert server.principal.user == "TERMSRV/localhost"


def test_both_sides_know_when_the_ticket_ends(kerberos, monkeypatch):
    # The clock skew is read once in a process, so that another test may have left it.
    monkeypatch.setattr(library, "clock_skew", library.clock_skew.__wrapped__)
    client, server = initiator(cache(kerberos.log_on("alice"))), acceptor(kerberos)
    begun = memory_cache.now()
    establish(client, server)
    late = (
        memory_cache.now() - begun
    )  # libkrb5 tells the seconds that are left, some of which pass until they are added
    end = Tickets(cache(kerberos.cache())).end()
    assert end - 1 <= client.ends <= end + 1 + late
    assert end - 1 <= server.ends <= end + 1 + late


def delegating(kerberos, spn=SPN):
    return ServiceKeys(Keytab(str(kerberos.keytab), f"{spn}@ACREDSSP.TEST", constrained_delegation=True))


def test_constrained_delegation_gives_what_the_kdc_is_asked_with_in_the_users_name(kerberos, monkeypatch):
    monkeypatch.setenv("KRB5_KTNAME", str(kerberos.realm.wrong_keytab))  # the machine's own, which is not asked
    account, keys = f"{SPN}@ACREDSSP.TEST", delegating(kerberos)
    named = []
    for credential in (ALICE, dataclasses.replace(ALICE, user="bob")):
        server = KerberosAcceptor(keys)
        establish(initiator(credential), server)
        held = Tickets(server.principal.tickets).held()
        assert [each.server for each in held] == ["krbtgt/ACREDSSP.TEST@ACREDSSP.TEST", account]
        assert [each.client for each in held] == [account, f"{credential.user}@ACREDSSP.TEST"]
        named.append((server.principal.tickets.name, keys.own_tickets))
    assert named[0][0] != named[1][0]
    assert named[0][1] is named[1][1]  # the account's own ticket is asked for once
    assert len(Tickets(cache(keys.own_tickets.name)).held()) == 1


def test_the_machines_own_keytab_delegates_by_default(kerberos, monkeypatch):
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", str(kerberos.keytab))
    server = KerberosAcceptor(ServiceKeys(Keytab("", f"{SPN}@ACREDSSP.TEST", constrained_delegation=True)))
    establish(initiator(), server)
    assert server.principal.tickets is not None


def test_constrained_delegation_takes_tickets_for_the_one_account_alone(kerberos):
    with pytest.raises(CredSSPError) as caught:
        establish(initiator(), KerberosAcceptor(delegating(kerberos, "HTTP/localhost")))
    assert caught.value.security_status is SecurityStatus.SEC_E_WRONG_PRINCIPAL


@pytest.mark.parametrize("context", [types.SimpleNamespace(), types.SimpleNamespace(_context=types.SimpleNamespace())])
def test_a_library_that_delegates_nothing_gives_no_tickets(context):
    assert library.NativeContext(context).delegated_tickets() is None


def test_what_a_library_delegates_and_cannot_store_is_a_failure():
    context = types.SimpleNamespace(_context=types.SimpleNamespace(delegated_creds="no credentials"))
    with pytest.raises(CredSSPError) as caught:
        library.NativeContext(context).delegated_tickets()
    assert isinstance(caught.value.__cause__, TypeError)


def test_an_acceptor_may_be_one_service_of_its_keytab(kerberos):
    only = ServiceKeys(Keytab(str(kerberos.keytab), "HTTP/localhost@ACREDSSP.TEST"))
    establish(initiator(spn="HTTP/localhost"), KerberosAcceptor(only))
    with pytest.raises(CredSSPError) as caught:
        establish(initiator(), KerberosAcceptor(only))
    assert caught.value.security_status is SecurityStatus.SEC_E_WRONG_PRINCIPAL


# --- messages ---


@pytest.mark.requirement("kerberos.wrap")
@pytest.mark.parametrize("size", [0, 1, 32, 294, 20_000])
def test_wrap_tokens_are_made_in_sspis_layout(size, pair):
    for side in pair:
        token = side.wrap(bytes(size))
        assert token[:2] == b"\x05\x04"
        assert token[4:8] == bytes.fromhex("0000001c")
        assert len(token) == size + 60


@pytest.mark.requirement("kerberos.wrap")
@pytest.mark.parametrize("rotation", [0, 1, 12, 28, 44, 76, 91, 92, 500, 65_535])
def test_wrap_tokens_are_taken_with_any_rotation(rotation, pair):
    client, server = pair
    assert server.unwrap(rotated(client.wrap(b"x" * 32), rotation)) == b"x" * 32


def rotated(token, rotation):
    """The same token with another rotation."""
    body = token[16:]
    count = struct.unpack(">H", token[6:8])[0] % len(body)
    body = body[count:] + body[:count]
    count = rotation % len(body)
    body = body[len(body) - count :] + body[: len(body) - count]
    return token[:6] + struct.pack(">H", rotation) + token[8:16] + body


@pytest.mark.requirement("kerberos.wrap")
@pytest.mark.parametrize("announced", [28, 44])
@pytest.mark.parametrize("accepts", [True, False])
def test_a_filled_token_is_taken_whether_it_announces_the_filler_or_not(announced, accepts, pair):
    """As [MS-KILE] 3.4.5.4.1 has it: EC 16, RRC 28, and turned by both."""
    sender, receiver = pair[::-1] if accepts else pair
    key = rfc3961.Key(18, sender._native._context.session_key)
    own = rfc4121.unwrap(key, sender.wrap(b"x" * 32))
    token = rfc4121.wrap(key, dataclasses.replace(own, extra_count=16, rotation=44))
    token = token[:6] + struct.pack(">H", announced) + token[8:]
    assert receiver.unwrap(token) == b"x" * 32


def test_sealed_tokens_are_what_the_rfcs_say(pair):
    client, server = pair
    key = rfc3961.Key(18, client._native._context.session_key)
    for side, flags in ((client, 6), (server, 7)):
        opened = rfc4121.unwrap(key, side.wrap(b"x" * 32))
        assert (opened.plaintext, opened.flags, opened.extra_count, opened.rotation) == (b"x" * 32, flags, 0, 28)


@pytest.mark.requirement("defect.gss-wrap-lengths")
@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:-1],
        lambda token: token[:59],
        lambda token: token[:16],
        lambda token: b"",
        lambda token: token + b"\0",
        lambda token: token[:4] + b"\0\x01" + token[6:],
        lambda token: token[:4] + b"\0\x10" + token[6:],
        lambda token: token[:4] + b"\xff\xff" + token[6:],
        lambda token: token[:2] + bytes((token[2] & ~2,)) + token[3:],
        lambda token: token[:2] + bytes((token[2] ^ 1,)) + token[3:],
        lambda token: token[:2] + bytes((token[2] | 8,)) + token[3:],
        lambda token: token[:3] + b"\0" + token[4:],
        lambda token: b"\x04\x04" + token[2:],
        lambda token: bytes.fromhex("603b06092a864886f712010202") + token,
        lambda token: token[:-1] + bytes((token[-1] ^ 1,)),
        lambda token: token[:16] + bytes((token[16] ^ 1,)) + token[17:],
        lambda token: token[:15] + bytes((token[15] ^ 1,)) + token[16:],
    ],
)
def test_a_changed_wrap_token_is_refused(change, pair):
    client, server = pair
    with pytest.raises(RemoteProtocolError):
        server.unwrap(change(client.wrap(b"x" * 32)))


def test_a_token_that_came_before_is_refused(pair):
    client, server = pair
    token = client.wrap(b"x")
    server.unwrap(token)
    with pytest.raises(RemoteProtocolError) as caught:
        server.unwrap(token)
    assert caught.value.security_status is SecurityStatus.SEC_E_OUT_OF_SEQUENCE


def test_a_token_of_our_own_is_refused(pair):
    client, server = pair
    for side in client, server:
        with pytest.raises(RemoteProtocolError) as caught:
            side.unwrap(side.wrap(b"x"))
        assert caught.value.security_status is SecurityStatus.SEC_E_MESSAGE_ALTERED
        with pytest.raises(RemoteProtocolError):
            side.verify_mic(b"list", side.get_mic(b"list"))


def test_mics_verify_and_count_in_the_sequence(pair):
    client, server = pair
    server.verify_mic(b"list", client.get_mic(b"list"))
    client.verify_mic(b"list", server.get_mic(b"list"))
    exchange_messages(client, server)


@pytest.mark.parametrize(
    "change",
    [
        lambda mic: mic[:-1],
        lambda mic: mic[:-1] + bytes((mic[-1] ^ 1,)),
        lambda mic: b"",
        lambda mic: mic + bytes(13),
        lambda mic: mic[:2] + bytes((mic[2] ^ 2,)) + mic[3:],
        lambda mic: mic[:4] + b"\0" + mic[5:],
        lambda mic: bytes.fromhex("602306092a864886f712010202") + bytes(24),
    ],
)
def test_a_changed_mic_is_refused(change, pair):
    client, server = pair
    with pytest.raises(RemoteProtocolError):
        server.verify_mic(b"list", change(client.get_mic(b"list")))


def test_a_mic_of_another_list_is_refused(pair):
    client, server = pair
    with pytest.raises(RemoteProtocolError) as caught:
        server.verify_mic(b"another", client.get_mic(b"list"))
    assert caught.value.security_status is SecurityStatus.SEC_E_MESSAGE_ALTERED


# --- RC4 ---


@pytest.fixture
def rc4_pair(kerberos):
    """Tickets of a service that has a key for RC4 and no other: a pair of contexts, `allowed` to use it or not."""
    spn = f"TERMSRV/{kerberos.prefer('rc4')}"

    def pair(*, allowed):
        client = initiator(spn=spn, allow_rc4=allowed)
        server = KerberosAcceptor(ServiceKeys(Keytab(str(kerberos.keytab))), allow_rc4=allowed)
        establish(client, server)
        return client, server

    return pair


@pytest.mark.requirement("defect.rc4-hmac-spoof")
def test_a_context_of_rc4_is_refused_before_anything_is_sealed(rc4_pair):
    for side in rc4_pair(allowed=False):
        with pytest.raises(PolicyError, match="rc4") as caught:
            side.wrap(b"x")
        assert caught.value.security_status is SecurityStatus.SEC_E_STRONG_CRYPTO_NOT_SUPPORTED
        assert "dangerous_allow_kerberos_rc4" in caught.value.hint


@pytest.mark.requirement("defect.rc4-hmac-spoof")
def test_what_the_peer_seals_with_rc4_is_refused(rc4_pair):
    client, server = rc4_pair(allowed=True)
    for sender, receiver in ((client, server), (server, client)):
        receiver._allow_rc4 = False
        with pytest.raises(PolicyError, match="rc4"):
            receiver.unwrap(sender.wrap(b"x"))


def test_rc4_works_where_it_is_allowed(rc4_pair):
    client, server = rc4_pair(allowed=True)
    token = client.wrap(b"x" * 32)
    assert token[:1] == b"\x60"
    plaintext, _, _ = rfc4121.rc4_unwrap(client._native._context.session_key, token)
    assert plaintext == b"x" * 32 + b"\1"
    assert server.unwrap(token) == b"x" * 32
    exchange_messages(client, server)
    server.verify_mic(b"list", client.get_mic(b"list"))
    with pytest.raises(RemoteProtocolError):
        server.unwrap(client.wrap(b"x")[:-1])


# --- tokens of the wrong kind ---


@pytest.mark.requirement("kerberos.tokens")
@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:-1],
        lambda token: token + b"\0",
        lambda token: b"",
        lambda token: b"\x6e" + token[1:],
        lambda token: token.replace(bytes.fromhex("2a864886f712010202"), bytes.fromhex("2a864886f712010203"), 1),
        lambda token: token.replace(b"\x01\x00\x6e", b"\x02\x00\x6f", 1),
        lambda token: token.replace(b"\x01\x00\x6e", b"\x03\x00\x7e", 1),
        lambda token: token.replace(b"\x01\x00\x6e", b"\x01\x00\x6f", 1),
        lambda token: token[:40],
        lambda token: b"NTLMSSP\0" + bytes(32),
    ],
)
def test_a_first_token_of_the_wrong_form_never_reaches_the_library(change, kerberos):
    token, server = drive(initiator()), acceptor(kerberos)
    with pytest.raises(RemoteProtocolError):
        server.step(change(token))
    assert server._native is None


@pytest.mark.requirement("kerberos.tokens")
def test_a_token_that_is_too_long_is_refused(kerberos):
    body = bytes.fromhex("06092a864886f7120102020100") + b"\x6e\x83\x01\x00\x00" + bytes(65_536)
    with pytest.raises(LimitExceeded):
        acceptor(kerberos).step(b"\x60\x83" + len(body).to_bytes(3, "big") + body)


def test_a_changed_ap_rep_is_refused(kerberos):
    client, server = initiator(), acceptor(kerberos)
    token = bytearray(drive(server, drive(client)))
    token[-1] ^= 1
    with pytest.raises(CredSSPError):
        drive(client, bytes(token))
    assert not client.complete


def test_an_ap_req_to_an_initiator_is_refused(kerberos):
    client = initiator()
    token = drive(client)
    with pytest.raises(RemoteProtocolError, match="AP_REP or KRB_ERROR"):
        client.step(token)


def test_an_acceptor_does_not_speak_first(kerberos):
    with pytest.raises(RemoteProtocolError):
        initiator().step(b"x")


def test_a_server_that_does_not_prove_itself_is_left(kerberos, monkeypatch):
    client, server = initiator(), acceptor(kerberos)
    reply = drive(server, drive(client))
    monkeypatch.setattr(library.NativeContext, "protected", False)
    with pytest.raises(PolicyError) as caught:
        drive(client, reply)
    assert caught.value.security_status is SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED
    assert not client.complete


# --- misuse ---


def test_steps_come_in_their_order(kerberos, pair):
    client = initiator()
    with pytest.raises(LocalProtocolError):
        client.resume(b"")
    for call in (lambda: client.wrap(b""), lambda: client.unwrap(b""), lambda: client.get_mic(b"")):
        with pytest.raises(LocalProtocolError):
            call()
    event = client.step(b"")
    assert isinstance(event, StepMechanism)
    with pytest.raises(LocalProtocolError):
        client.step(b"")
    client.resume(run(event))
    with pytest.raises(LocalProtocolError):
        client.wrap(b"")  # the server has not answered yet
    for side in pair:
        with pytest.raises(RemoteProtocolError):
            side.step(b"more")
        with pytest.raises(LocalProtocolError):
            side.step(b"more")


@pytest.mark.parametrize("answer", [None, True, b"token", TimeoutError()])
def test_a_step_that_was_not_run_is_a_failure(answer):
    client = initiator()
    client.step(b"")
    with pytest.raises(CredSSPError) as caught:
        client.resume(answer)
    assert not client.complete
    assert caught.value.__cause__ is (answer if isinstance(answer, Exception) else None)


# --- pyspnego on the other end ---


def test_our_initiator_logs_on_to_pyspnego(kerberos):
    client, server = initiator(), spnego.server(protocol="kerberos")
    client_token = drive(client)
    drive(client, server.step(client_token))
    assert server.client_principal == "alice@ACREDSSP.TEST"
    for plaintext in MESSAGES:
        assert server.unwrap(client.wrap(plaintext)).data == plaintext
        assert client.unwrap(server.wrap(plaintext).data) == plaintext


def test_pyspnego_logs_on_to_our_acceptor(kerberos):
    client = spnego.client("alice@ACREDSSP.TEST", "Passw0rd!", hostname="localhost", service="TERMSRV",
                           protocol="kerberos")  # fmt: skip
    server = acceptor(kerberos)
    client.step(drive(server, client.step()))
    assert str(server.principal) == "ACREDSSP.TEST\\alice"
    for plaintext in MESSAGES:
        assert server.unwrap(client.wrap(plaintext).data) == plaintext
        assert client.unwrap(server.wrap(plaintext)).data == plaintext


def test_channel_bindings_agree(kerberos):
    bindings = b"tls-server-end-point:" + bytes(32)
    establish(initiator(channel_bindings=bindings), acceptor(kerberos, channel_bindings=bindings))
    with pytest.raises(CredSSPError) as caught:
        establish(initiator(channel_bindings=b"other"), acceptor(kerberos, channel_bindings=bindings))
    assert caught.value.security_status is SecurityStatus.SEC_E_BAD_BINDINGS
    establish(initiator(), acceptor(kerberos, channel_bindings=bindings))  # as of a client that knows none


def test_a_library_that_cannot_seal_or_sign_says_why(kerberos):
    native = library.NativeContext.initiator(Tickets(ALICE), "TERMSRV", "localhost", None)
    for call in (native.seal, native.sign):
        with pytest.raises(CredSSPError) as caught:
            call(b"before anything is established")
        assert caught.value.__cause__ is not None
