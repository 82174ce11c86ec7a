"""Records, what is left out of them, and our engine against either side of them."""

import dataclasses
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectors.load import CAPTURES, captures

from acredssp import RDP, TLS, AccessDenied, AuthenticationError, ClientConfig, NegotiationFailure, Password, Policy
from acredssp.config import ServerConfig
from acredssp.credentials import Deny
from acredssp.decoding import Kind, decode
from acredssp.errors import CredSSPError
from acredssp.policy import MechanismChoice
from acredssp.recording import (
    Agreement,
    Flight,
    Message,
    Recording,
    RecordingCarriage,
    redaction,
    replay,
    without_secrets,
)
from acredssp.status import NTSTATUS
from acredssp.tls import self_signed, server_context_from_pem
from acredssp.wire import TSRequest, der, spnego
from acredssp.wire.spnego import NegTokenInit

SAME, SAME_BUT, DIFFERS, TAKEN, REFUSED = Agreement
ACCOUNT = "CONTOSO:alice:Passw0rd!"


@pytest.fixture(scope="module")
def certificate():
    return self_signed(["localhost"])


class Pair:
    """A client and a server of ours, each of which is recorded, driven by hand."""

    def __init__(self, certificate, carriage=None, *, password="Passw0rd!", policy=None, **server):
        policy = policy or Policy(dangerous_accept_any_certificate=True, mechanism=MechanismChoice.NTLM)
        self.records, self.failed = {}, []
        carriage = carriage or RDP(hybrid_ex=True)
        keep = self.records.setdefault
        account = Password("Passw0rd!", "alice", "CONTOSO")
        self.server_config = ServerConfig(
            ssl_context=server_context_from_pem(Policy(), *certificate),
            lookup=lambda request: account,
            **server,
        )
        self.config = ClientConfig(authenticate=Password(password, "alice", "CONTOSO"), policy=policy, workstation="WS")
        context = self.config.new_context(server_hostname="localhost", spn="TERMSRV/localhost")
        self.client = RecordingCarriage(carriage, lambda record: keep("client", record)).initiator(context)
        self.server = RecordingCarriage(carriage, lambda record: keep("server", record)).acceptor(self.server_config)

    def _answer(self, event):
        match type(event).__name__:
            case "LookupCredential":
                return self.server_config.lookup(None)
            case "Authorize":
                return self.server_config.authorize(None)
            case "Admit":
                return self.server_config.admit(None)
            case _:
                return self.config.answer(event, "localhost")

    def _turn(self, side, data):
        """One side's answer to bytes; nothing of a side that has failed."""
        output, data = b"", bytes(data)
        if side in self.failed:
            return b""
        try:
            while True:
                result = side.step(data)
                data = data[len(data) - result.extra :]
                output += bytes(result.output)
                while result.event is not None:
                    result = side.resume(result.event, self._answer(result.event))
                    output += bytes(result.output)
                if result.missing or result.status.name == "SEC_E_OK" or not data:
                    return output
        except CredSSPError as error:
            self.failed.append(side)
            side.fail(error)
            return output + bytes(side.farewell)

    def run(self, change=lambda flight: flight):
        """Let them talk to the end; the records of both."""
        sides = (self.server, self.client)
        flight = self._turn(self.client, b"")
        turns = itertools.cycle(sides)
        while flight:
            flight = self._turn(next(turns), change(flight))
        for side in sides:
            name = "server" if side is self.server else "client"
            if name not in self.records:
                with pytest.raises(CredSSPError) as caught:
                    side.receive_eof()
                side.fail(caught.value)
        return self.records


def whole(record):
    """A record with secrets, as `--with-secrets` writes it, through its file."""
    return Recording.from_json(dataclasses.replace(record, accounts=(ACCOUNT,)).to_json())


def redacted(record):
    return Recording.from_json(without_secrets(record).to_json())


POLICIES = {
    choice.name: Policy(dangerous_accept_any_certificate=True, mechanism=choice)
    for choice in (MechanismChoice.NTLM, MechanismChoice.NEGOTIATE)
} | {
    "version 2": Policy(
        dangerous_accept_any_certificate=True, max_version=2, min_version=2, dangerous_allow_legacy_versions=True
    )
}


@pytest.mark.parametrize("policy", ["NTLM", "NEGOTIATE"])
@pytest.mark.parametrize("carriage", [RDP(hybrid_ex=True), RDP(), TLS()], ids=["hybrid_ex", "rdp", "tls"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_recorded_logon_replays_byte_for_byte_on_either_side(certificate, policy, carriage, side):
    records = Pair(certificate, carriage, policy=POLICIES[policy]).run()
    record = whole(records[side])
    for engine in ("client", "server"):
        result = replay(record, engine)
        own = {step.agreement for step in result.steps if step.sender == engine}
        assert (own, result.error, result.ended, result.complete) == ({SAME}, None, "", True)
        assert {step.agreement for step in result.steps if step.sender != engine} == {TAKEN}
    assert replay(record).reproduces(record)
    assert record.result == "success"
    assert record.tls["version"] == "TLSv1.3"
    assert record.tls["sni"] == "localhost"


def test_a_token_is_written_over_wherever_the_network_parted_it():
    sent = b"\3\0\0\x2b&\xe0\0\0\0\0\0acredssp=c4nary-T0ken\r\n\1\0\x08\0\3\0\0\0"
    pieces = [Flight("client", 0.0, sent[:24]), Flight("server", 0.0, b"\3"), Flight("client", 0.0, sent[24:])]
    record = without_secrets(Recording(x224_request=sent, flights=tuple(pieces)))
    assert record.x224_request == sent.replace(b"c4nary-T0ken", b"0" * 12)
    assert [len(flight.data) for flight in record.flights] == [24, 1, len(sent) - 24]
    assert b"".join(flight.data for flight in record.flights if flight.sender == "client") == record.x224_request


def test_a_record_that_ends_within_the_connection_confirm_is_taken_no_further(certificate):
    record = Pair(certificate).run()["client"]
    cut = dataclasses.replace(record, x224_confirm=record.x224_confirm[:2])
    assert replay(cut).ended == "the record ends within the server's Connection Confirm"
    assert replay(dataclasses.replace(cut, closed=True)).error is not None


def test_both_sides_record_the_same_conversation(certificate):
    records = Pair(certificate).run()
    client, server = records["client"], records["server"]
    assert client.messages == server.messages
    assert (client.x224_request, client.x224_confirm) == (server.x224_request, server.x224_confirm)
    assert client.early_result == server.early_result == bytes(4)
    assert client.tls == server.tls
    assert len(client.messages) == 5


FAILURES = {
    "a wrong password": ({"password": "wrong"}, AuthenticationError),
    "not authorized": ({"authorize": lambda _: Deny(NTSTATUS.STATUS_LOGON_TYPE_NOT_GRANTED)}, AccessDenied),
}


@pytest.mark.parametrize("policy", ["NTLM", "NEGOTIATE"])
@pytest.mark.parametrize(("options", "kind"), FAILURES.values(), ids=FAILURES)
def test_a_recorded_failure_replays_to_the_same_error(certificate, options, kind, policy):
    records = Pair(certificate, policy=POLICIES[policy], **options).run()
    for side in ("client", "server"):
        record = whole(records[side])
        # The client's record holds the account that it used, the server's the account that it knows.
        if side == "client" and "password" in options:
            record = dataclasses.replace(record, accounts=("CONTOSO:alice:wrong",))
        result = replay(record)
        assert type(result.error) is kind or (side == "client" and type(result.error) is AuthenticationError)
        assert result.reproduces(record)
        assert {step.agreement for step in result.steps if step.sender == side} == {SAME}


def test_a_refused_admission_replays_to_the_same_error_at_the_client(certificate):
    records = Pair(certificate, admit=lambda _: Deny()).run()
    record = whole(records["client"])
    result = replay(record)
    assert type(result.error) is AccessDenied
    assert result.reproduces(record)


def test_a_refused_negotiation_replays_to_the_same_error(certificate):
    pair = Pair(certificate)
    records = pair.run(lambda flight: flight.replace(bytes.fromhex("0b000000"), bytes.fromhex("01000000")))
    for side in ("client", "server"):
        record = whole(records[side])
        result = replay(record)
        assert type(result.error) is NegotiationFailure
        assert result.reproduces(record)


@pytest.mark.parametrize(
    ("field", "said"),
    [("pubKeyAuth", "signature"), ("version", "expected credssp version 2 or later"), ("der", "expected tag 0x30")],
)
def test_a_record_shows_the_error_that_a_wrong_peer_causes(certificate, field, said):
    """A bug report of somebody whose peer is wrong: the record alone is enough."""
    record = whole(Pair(certificate).run()["client"])
    at = 3 if field == "pubKeyAuth" else 1
    data = bytearray(record.messages[at].data)
    place = {"pubKeyAuth": len(data) - 1, "version": data.index(b"\xa0\x03\x02\x01\x06") + 4, "der": 0}[field]
    data[place] = 1 if field == "version" else data[place] ^ 1
    messages = list(record.messages)
    messages[at] = Message("server", bytes(data))
    broken = replay(dataclasses.replace(record, messages=tuple(messages)))
    assert said in broken.error.message
    assert broken.steps[-1].agreement is REFUSED
    assert not broken.reproduces(record)


def test_a_server_that_closed_the_connection_replays_to_the_same_error(certificate):
    pair = Pair(certificate)
    flight = pair._turn(pair.client, b"")
    for side in (pair.server, pair.client) * 3:
        flight = pair._turn(side, flight)
    with pytest.raises(CredSSPError) as caught:
        pair.client.receive_eof()
    pair.client.fail(caught.value)
    record = whole(pair.records["client"])
    assert record.closed
    result = replay(record)
    assert (type(result.error), result.reproduces(record)) == (AuthenticationError, True)


# --- without secrets ---


@pytest.mark.parametrize("policy", ["NTLM", "NEGOTIATE"])
def test_a_record_without_secrets_says_where_its_replay_ends(certificate, policy):
    records = Pair(certificate, policy=POLICIES[policy]).run()
    client, server = replay(redacted(records["client"])), replay(redacted(records["server"]))
    assert {step.agreement for step in client.steps if step.sender == "client"} == {SAME, SAME_BUT}
    assert client.ended == "the server's proof cannot be checked: the record leaves it out"
    assert server.ended == "the client's proof cannot be checked: the record leaves it out"


@pytest.mark.parametrize("policy", ["NTLM", "NEGOTIATE"])
def test_a_refused_logon_replays_without_secrets_too(certificate, policy):
    record = redacted(Pair(certificate, policy=POLICIES[policy], password="wrong").run()["client"])
    result = replay(record)
    assert result.reproduces(record)
    assert type(result.error) is AuthenticationError


@pytest.mark.parametrize("capture", captures(), ids=str)
def test_what_is_redacted_holds_no_proof_of_a_password_and_no_ticket(capture):
    record = Recording.from_json((CAPTURES / f"{capture}.json").read_text())
    text = without_secrets(record).to_json()
    for message, kept in zip(record.messages, without_secrets(record).messages, strict=True):
        for start, size, name in kept.redacted:
            assert name != "unknown"
            assert not any(kept.data[start : start + size])
            assert message.data[start : start + size].hex() not in text or not any(message.data[start : start + size])
        if b"NTLMSSP\0\3" in message.data:
            assert {name for *_, name in kept.redacted} >= {"nt-response", "session-key"}
        if message.data.count(b"\x6e\x82"):
            assert [name for *_, name in kept.redacted] == ["ticket", "ticket"]
    assert "Passw0rd" not in text
    assert record.accounts == () or "accounts" not in json.loads(text)


def test_without_a_random_key_nothing_is_kept_that_a_guess_could_be_checked_against(certificate):
    """NTLM's keys then follow from the password alone, and the plaintext of pubKeyAuth is known to everybody."""
    record = Pair(certificate, policy=POLICIES["NTLM"]).run()["client"]
    last = record.messages[2].data
    at = last.index(b"NTLMSSP\0\3") + 52
    weak = dataclasses.replace(record.messages[2], data=last[:at] + bytes(2) + last[at + 2 :])
    messages = (*record.messages[:2], weak, *record.messages[3:])
    kept = without_secrets(dataclasses.replace(record, messages=messages)).messages
    assert {name for *_, name in kept[2].redacted} == {"MIC", "nt-response", "unknown", "pubKeyAuth"}
    assert [name for *_, name in kept[3].redacted] == ["pubKeyAuth"]
    assert [name for *_, name in kept[4].redacted] == ["authInfo"]


def test_bytes_beside_the_fields_are_left_out(certificate):
    """A client with a wrong offset or length writes its proof where no field says that it is."""
    record = Pair(certificate, policy=POLICIES["NTLM"]).run()["client"]
    whole = record.messages[2]
    at = whole.data.index(b"NTLMSSP\0\3")
    place = at + int.from_bytes(whole.data[at + 24 : at + 28], "little")
    proof = whole.data[place : place + 16]
    for offset, value in ((24, 80), (20, 0), (21, 0), (24, whole.data[at + 24] ^ 16)):
        data = bytearray(whole.data)
        data[at + offset] = value
        spoilt = dataclasses.replace(whole, data=bytes(data))
        (kept,) = without_secrets(dataclasses.replace(record, messages=(spoilt,))).messages
        assert proof not in kept.data, (offset, value)


def test_a_message_that_cannot_be_decoded_is_left_out_as_a_whole(certificate):
    record = Pair(certificate).run()["client"]
    broken = Message("client", record.messages[2].data[:-7])
    (kept,) = without_secrets(dataclasses.replace(record, messages=(broken,))).messages
    assert not any(kept.data)
    assert kept.redacted == ((0, len(broken.data), "unknown"),)


def pieces(data):
    """All runs of 8 bytes, but for zeros."""
    return {bytes(data[at : at + 8]) for at in range(len(data) - 7) if any(data[at : at + 8])}


def secrets_of(message, kept):
    """The pieces of what is left out of a message. Of a response of NTLM, the proof is at its beginning."""
    found = set()
    for start, size, name in kept.redacted:
        found |= pieces(message.data[start : start + (min(size, 16) if name.endswith("response") else size)])
    return found


def messages_with_secrets():
    """One message of each shape, of all recordings."""
    shapes = {}
    for capture in captures():
        record = Recording.from_json((CAPTURES / f"{capture}.json").read_text())
        for message, kept in zip(record.messages, without_secrets(record).messages, strict=True):
            if kept.redacted:
                names = tuple(node.name for node in redaction._walk(decode(message.data, kind=Kind.TS_REQUEST)))
                shapes.setdefault((message.sender, *names), (f"{capture}-{len(shapes)}", record, message, kept))
    return [*shapes.values()]


@pytest.mark.parametrize(
    ("record", "message", "kept"), [pytest.param(*each, id=name) for name, *each in messages_with_secrets()]
)
@pytest.mark.thorough
def test_whatever_byte_is_spoilt_no_piece_of_a_proof_is_kept(record, message, kept):
    """A decoder that does not find the proof in a spoilt message must not leave it there."""
    secrets, leaks = secrets_of(message, kept), []
    for at, byte in enumerate(message.data):
        for value in {0, byte ^ 1 << at % 8} - {byte}:
            spoilt = Message(message.sender, message.data[:at] + bytes([value]) + message.data[at + 1 :])
            (left,) = without_secrets(dataclasses.replace(record, messages=(spoilt,))).messages
            if not secrets.isdisjoint(pieces(left.data)):
                leaks.append((at, byte, value))
    assert not leaks
    assert secrets


PROOF = bytes(range(64, 128))
"""Stands for a proof of a password."""


def unread(body):
    """Tokens whose proof no field of the tree accounts for."""
    return {
        "iakerb": der.encode(0x60, bytes.fromhex("06062b0601050205") + body),
        "ntlm with its identifier": der.encode(0x60, spnego.NTLM + body),
        "spnego around iakerb": NegTokenInit.encode(
            spnego.encode_mech_list((spnego.NTLM,)), der.encode(0x60, bytes.fromhex("06062b0601050205") + body)
        ),
    }


@pytest.mark.parametrize("token", unread(PROOF).values(), ids=unread(PROOF))
def test_what_no_field_accounts_for_is_left_out_as_a_whole(certificate, token):
    record = Pair(certificate).run()["client"]
    message = Message("client", TSRequest(6, nego_token=token).encode())
    (kept,) = without_secrets(dataclasses.replace(record, messages=(message,))).messages
    assert PROOF[:8] not in kept.data


def test_more_tokens_than_are_shown_are_left_out_as_a_whole(certificate):
    record = Pair(certificate).run()["client"]
    proof = record.messages[2].data
    request = TSRequest.decode(proof)

    def token(data):
        return der.encode(der.SEQUENCE, der.encode(der.CONTEXT, der.encode(0x04, data)))

    tokens = der.encode(der.SEQUENCE, token(b"x") * 64 + token(request.nego_token))
    data = der.encode(der.SEQUENCE, bytes.fromhex("a003020106") + der.encode(der.CONTEXT + 1, tokens))
    (kept,) = without_secrets(dataclasses.replace(record, messages=(Message("client", data),))).messages
    assert not any(kept.data)


@pytest.mark.parametrize("accounts", [("",), ("no colon",), ("one:colon",), ("a:b:$NT$zz",), ("#::",), ("\ud800:a:b",)])
def test_an_account_that_cannot_be_read_proves_nothing(certificate, accounts):
    record = dataclasses.replace(Pair(certificate).run()["client"], accounts=accounts)
    assert "the record has not the account" in replay(record).ended


def test_the_repr_of_a_record_has_no_secret(certificate):
    record = whole(Pair(certificate).run()["client"])
    assert "Passw0rd" not in repr(record)
    assert record.messages[2].data[20:40].hex() not in repr(record)


# --- the project's own recordings ---


@pytest.mark.parametrize("capture", captures(), ids=str)
def test_every_recording_replays_as_far_as_it_goes(capture):
    """Programs of others made them: what our engine decides by itself differs, and it gets on with every peer."""
    record = Recording.from_json((CAPTURES / f"{capture}.json").read_text())
    for side in ("client", "server"):
        result = replay(record, side)
        if capture.get("result") != "success":
            assert result.ended or result.error or side == "client"
            continue
        kerberos = capture.get("negotiated_protocol") not in {"ntlm", None}
        assert result.error is None or "denied" in str(capture), (side, result.error)
        if capture.get("accounts") or capture.get("credentials"):
            assert result.complete or kerberos or "Kerberos" in result.ended, (side, result.ended)


# --- files ---


def test_a_record_survives_its_file(certificate):
    record = dataclasses.replace(Pair(certificate).run()["server"], flights=())
    assert Recording.from_json(record.to_json()) == record
    kept = without_secrets(record)
    assert Recording.from_json(kept.to_json()) == kept


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda c: (
            st.lists(c)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "messages",
                        "dir",
                        "hex",
                        "redacted",
                        "tls",
                        "error",
                        "x224_cr",
                        "accounts",
                        "credentials",
                        "early_user_auth_result",
                        "recorder_role",
                        "client_version",
                    ]
                ),
                c,
            )
        ),
    )
)
def test_any_json_is_a_record_or_an_error_of_values(value):
    try:
        record = Recording.from_json(json.dumps(value))
    except ValueError:
        return
    replay(record)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"recorder_role": "nobody"}, "recorder_role: expected client or server"),
        ({"recorder_role": 1}, "recorder_role: expected a text"),
        ({"closed": "yes"}, "closed: expected true or false"),
        ({"closed": 0}, "closed: expected true or false"),
        ({"with_secrets": "no"}, "with_secrets: expected true or false"),
        ({"early_user_auth_result": -1}, "early_user_auth_result: expected a number from 0 to 4294967295"),
        ({"early_user_auth_result": 1 << 32}, "early_user_auth_result: expected a number from 0 to 4294967295"),
        ({"early_user_auth_result": True}, "early_user_auth_result: expected a number"),
        ({"client_version": -1}, "client_version: expected a number from 0"),
        ({"accounts": {}}, "accounts: expected a list"),
        ({"accounts": [1]}, "accounts: expected a list of texts"),
        ({"messages": [{"dir": "c2s", "hex": "00", "redacted": 0}]}, r"messages\[0\]: redacted: expected a list"),
        ({"messages": [{"dir": "c2s", "hex": "00", "len": 2}]}, "messages: len: expected 1, the bytes of hex"),
        ({"messages": [{"dir": "c2s", "hex": "00", "len": "1"}]}, r"messages\[0\]: len: expected a number"),
    ],
)
def test_what_no_recorder_writes_is_refused_by_its_key(facts, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        Recording.from_json(json.dumps({"messages": []} | facts))


def test_what_a_record_need_not_have_has_a_default():
    record = Recording.from_json(json.dumps({"messages": [{"dir": "c2s", "hex": "00"}]}))
    assert (record.side, record.closed, record.with_secrets, record.early_result) == ("client", False, True, b"")


def test_a_file_has_bounds():
    with pytest.raises(ValueError, match="at most"):
        Recording.from_json(b" " * (2**24 + 1))
    with pytest.raises(ValueError, match="messages: expected at most 1000"):
        Recording.from_json(json.dumps({"messages": [{"dir": "c2s", "hex": ""}] * 1001}))


def test_nothing_of_openssl_stays_tapped(certificate):
    pair = Pair(certificate)
    pair.run()
    for side in (pair.client, pair.server):
        assert type(side.context.tls.ssl_object._sslobj).__module__ == "_ssl"
