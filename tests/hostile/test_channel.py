"""Tricks with the channel: what comes before TLS, how TLS is cut, where it is closed, what is behind it.

CVE-2023-40217 (CPython took bytes from before the handshake for protected ones), the STARTTLS injections,
CVE-2024-32650 (a close_notify that made rustls spin), CVE-2024-11738 (a fragmented ClientHello that made it panic).
"""

import random
import ssl
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.engine import converse, pem
from support.logon import (
    TLS_POLICIES,
    attack,
    certificate,
    client,
    come_up,
    established,
    records,
    say,
    server,
    tls_peer,
)

from acredssp.carriage.rdp import RDP
from acredssp.core.states import State
from acredssp.core.tls import TLSSession
from acredssp.errors import CredSSPError, LimitExceeded, PeerClosed, RemoteProtocolError, TLSError
from acredssp.status import SecurityStatus
from acredssp.wire import der, early_auth
from acredssp.wire.ts_request import TSRequest
from acredssp.wire.x224 import ConnectionConfirm, ConnectionRequest, Protocols

CARRIAGES = {"tls": None, "rdp": RDP(), "rdp_ex": RDP(hybrid_ex=True)}
every_carriage = pytest.mark.parametrize("carriage", CARRIAGES.values(), ids=CARRIAGES)
every_tls = pytest.mark.parametrize("policy", TLS_POLICIES.values(), ids=TLS_POLICIES)

REQUEST = TSRequest(6, nego_token=b"NTLMSSP\0\1\0\0\0" + bytes(24)).encode()
PREFACES = {
    "a TSRequest": REQUEST,
    "a TSRequest that is refused": TSRequest(6, error_code=0xC000006D).encode(),
    "application data": b"\x17\x03\x03" + len(REQUEST).to_bytes(2, "big") + REQUEST,
    "text": b"EHLO attacker.example\r\n",
    "ssl 2": bytes.fromhex("802e0103010015000000100100800300800600400200800400800000040000090000030000060000"),
    "zeros": bytes(64),
}


@pytest.fixture(autouse=True)
def unraisable(monkeypatch):
    """What CPython could not raise; nothing but a server name that is no ASCII may be among it."""
    reports = []
    monkeypatch.setattr(sys, "unraisablehook", reports.append)
    yield reports
    told = [report.exc_value for report in reports]  # warnings are of what other tests have left behind
    assert all(type(each) is UnicodeDecodeError for each in told if not isinstance(each, Warning))


# --- before TLS ---


@pytest.mark.requirement("defect.before-tls")
@every_tls
@pytest.mark.parametrize("preface", PREFACES.values(), ids=PREFACES)
def test_bytes_before_the_client_hello_never_count_as_protected(preface, policy):
    target, honest = server(policy), tls_peer(policy, server_side=False)
    honest.handshake()
    with pytest.raises(CredSSPError):
        target.step(preface + honest.output())
    assert target.context.state is State.FAILED
    assert target.context.handshake.mechanism.name == "negotiate"  # no token has come that far
    assert target.context.context.handshake.peer_version == -1


@pytest.mark.requirement("defect.before-tls")
@every_tls
@pytest.mark.parametrize("preface", PREFACES.values(), ids=PREFACES)
def test_bytes_before_the_server_hello_never_count_as_protected(preface, policy):
    victim, honest = client(policy), tls_peer(policy, server_side=True)
    honest.handshake(victim.step(b""))
    with pytest.raises(CredSSPError):
        victim.step(preface + honest.output())
    assert victim.context.handshake.peer_version == -1


@pytest.mark.requirement("defect.before-tls")
@every_tls
def test_plaintext_requests_between_the_records_of_a_handshake(policy):
    def inject(number, direction, flight):
        return b"".join(record + PREFACES["application data"] for record in records(flight))

    for only in ("c2s", "s2c"):
        ends = client(policy), server(policy)
        attack(*ends, lambda n, d, flight, only=only: inject(n, d, flight) if d == only else flight)
        assert not established(ends[1])


PDUS = {
    "server": ConnectionRequest(requested_protocols=Protocols.HYBRID).encode(),
    "client": ConnectionConfirm(selected_protocol=Protocols.HYBRID).encode(),
}


@pytest.mark.requirement("defect.starttls-injection")
@pytest.mark.parametrize("behind", [b"\0", b"\x16", b"\x16\x03\x01", b"\x03\0", REQUEST, PDUS["server"]], ids=len)
@pytest.mark.parametrize("side", PDUS)
def test_nothing_may_be_left_over_behind_the_x224_pdu(side, behind):
    """A ClientHello there would be no attack, but to let it pass is to be sure of every byte. No client sends one."""
    end = server(carriage=RDP()) if side == "server" else client(carriage=RDP())
    if side == "client":
        end.step(b"")
    with pytest.raises(RemoteProtocolError, match="in clear behind"):
        end.step(PDUS[side] + behind)
    assert end.context.context.state is State.FAILED


@pytest.mark.requirement("defect.starttls-injection")
def test_second_x224_pdu_is_no_tls_record():
    target = server(carriage=RDP())
    target.step(PDUS["server"])
    with pytest.raises(RemoteProtocolError):
        target.step(PDUS["server"])


# --- how TLS is cut ---


def fragmented(hello: bytes, size: int) -> bytes:
    """The same handshake message in many records (RFC 8446 5.1)."""
    header, body = hello[:3], hello[5:]
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(header + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.requirement("defect.fragmented-hello")
@every_tls
@pytest.mark.parametrize("size", [5, 9, 37, 200])
def test_client_hello_in_fragments(size, policy):
    ends = client(policy), server(policy)
    attack(*ends, lambda number, direction, flight: fragmented(flight, size) if number == 0 else flight)
    assert all(map(established, ends))


@pytest.mark.requirement("defect.fragmented-hello")
@every_tls
@pytest.mark.parametrize("size", [1, 2])
def test_client_hello_in_crumbs_is_refused(size, policy):
    ends = client(policy), server(policy)
    attack(*ends, lambda number, direction, flight: fragmented(flight, size) if number == 0 else flight)
    assert not any(map(established, ends))
    with pytest.raises(LimitExceeded):
        ends[1].context.step(b"")


@pytest.mark.requirement("tls.nothing-to-say", "defect.fragmented-hello")
@every_tls
@pytest.mark.parametrize("size", [4, 7])
def test_client_hello_in_fragments_and_records_cut_anywhere(size, policy):
    target, honest = server(policy), tls_peer(policy, server_side=False)
    honest.handshake()
    hello = fragmented(honest.output(), size)
    answer = b"".join(target.step(hello[at : at + 1]) for at in range(len(hello)))
    honest.handshake(answer)
    assert honest.output()


@pytest.mark.requirement("defect.fragmented-hello")
@pytest.mark.parametrize("size", [0, 1, 4, 9, 40])
def test_client_hello_that_never_ends(size):
    """Records without content, or a message whose other half does not come: nothing is answered and nothing spins."""
    target, honest = server(), tls_peer(server_side=False)
    honest.handshake()
    hello = honest.output()[:5] + honest.output() if size == 0 else honest.output()
    if size:
        assert target.step(hello[:3] + size.to_bytes(2, "big") + hello[5 : 5 + size]) == b""
    with pytest.raises(CredSSPError):
        target.context.receive_eof()


@pytest.mark.requirement("defect.close-notify-loop")
def test_records_without_content_come_to_an_end():
    target = server()
    come_up(target, tls_peer(server_side=False))
    with pytest.raises(CredSSPError):
        for _ in range(100):
            target.step(b"\x17\x03\x03\x00\x00")


# --- where it is closed ---


@pytest.mark.requirement("defect.close-notify-loop")
@every_carriage
@every_tls
@pytest.mark.parametrize("direction", ["c2s", "s2c"])
def test_close_notify_anywhere(direction, policy, carriage):
    """In place of each flight, sent properly by the end whose turn it is; both ends come to an end in bounded steps."""
    for stage in range(12):
        ends = client(policy, carriage=carriage), server(policy, carriage=carriage)
        closed = []

        def close(number, towards, flight, ends=ends, stage=stage, closed=closed):
            if number != stage or towards != direction:
                return flight
            sender = ends[0] if towards == "c2s" else ends[1]
            tls = sender.context.context.tls
            tls.close()
            closed.append(tls.output())
            return closed[0]

        attack(*ends, close)
        if closed:
            assert not (established(ends[0]) and established(ends[1])) or stage >= 6
        assert sum(end.calls for end in ends) < 60


@pytest.mark.requirement("defect.close-notify-loop")
@every_tls
def test_alert_records_in_clear_anywhere(policy):
    """A close_notify of somebody who has no keys: below TLS 1.3 taken until the keys are there, never afterwards."""
    for stage in range(9):
        for alert in (b"\x15\x03\x03\x00\x02\x01\x00", b"\x15\x03\x03\x00\x02\x02\x31", b"\x15\x03\x03\x00\x00"):
            ends = client(policy), server(policy)
            attack(*ends, lambda n, d, flight, s=stage, a=alert: a + flight if n == s and flight else flight)
            assert stage > 6 or not established(ends[1])


@pytest.mark.requirement("defect.close-notify-loop")
@every_tls
def test_close_notify_in_front_of_data_hides_the_data(policy):
    target, attacker = server(policy), tls_peer(policy, server_side=False)
    come_up(target, attacker)
    attacker.close()
    with pytest.raises(PeerClosed):
        target.step(attacker.output() + b"\x17\x03\x03\x00\x10" + bytes(16))


def test_renegotiation_is_refused():
    policy = TLS_POLICIES["tls12"]
    target, attacker = server(policy), tls_peer(policy, server_side=False)
    come_up(target, attacker)
    hello = tls_peer(policy, server_side=False)
    hello.handshake()
    attacker.write(hello.output())
    with pytest.raises(CredSSPError):
        target.step(attacker.output())


# --- who says what ---


@pytest.mark.requirement("rdp.early-denial")
def test_server_is_not_told_by_a_client_that_access_is_denied():
    """The early user authorization result is the server's to send; from a client it is just no TSRequest."""
    target, attacker = server(), tls_peer(server_side=False)
    come_up(target, attacker)
    with pytest.raises(CredSSPError) as caught:
        say(target, attacker, early_auth.encode(early_auth.AuthorizationResult.ACCESS_DENIED))
    assert type(caught.value) is RemoteProtocolError


@pytest.mark.requirement("rdp.early-denial")
def test_early_result_before_the_credentials_does_not_let_a_client_go_on():
    victim, attacker = client(carriage=RDP(hybrid_ex=True)), tls_peer(server_side=True)
    victim.step(b"")
    victim.held = b""
    attacker_flight = victim.step(ConnectionConfirm(selected_protocol=Protocols.HYBRID_EX).encode())
    for _ in range(2):
        attacker.handshake(attacker_flight)
        attacker_flight = victim.step(attacker.output())
    assert TSRequest.decode(attacker.read(attacker_flight)).nego_token
    with pytest.raises(RemoteProtocolError):
        say(victim, attacker, early_auth.encode(early_auth.AuthorizationResult.SUCCESS))


def test_name_that_is_no_ascii_in_sni_is_refused(unraisable):
    """CPython reads the name before our callback is called, and says on stderr that it could not: once, in ASCII."""
    context = client().context.tls.ssl_object.context
    target, honest = server(), TLSSession(context, server_side=False, server_hostname="aaaa")
    honest.handshake()
    with pytest.raises(TLSError):
        target.step(honest.output().replace(b"aaaa", b"\xff\xc3\x28\x80"))
    assert [type(report.exc_value) for report in unraisable] == [UnicodeDecodeError]


@pytest.mark.parametrize("length", ["indefinite", "of five bytes"])
def test_certificate_in_ber_that_only_openssl_reads(length, tmp_path):
    """It is refused before the logon, and whoever asks for the facts afterwards hears them, without a fingerprint."""
    good = certificate()
    start, end = der.element(good, 0, len(good), der.SEQUENCE, "test")
    tbs, tbs_end = der.element(good, start, end, der.SEQUENCE, "test")
    lengths = {"indefinite": (b"\x80", b"\0\0"), "of five bytes": (b"\x85" + (tbs_end - tbs).to_bytes(5, "big"), b"")}
    header, trailer = lengths[length]
    strange = der.encode(der.SEQUENCE, b"\x30" + header + good[tbs:tbs_end] + trailer + good[tbs_end:end])
    path = tmp_path / "strange.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(strange) + pem("rsa")[1].decode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    victim = client()
    with pytest.raises(RemoteProtocolError, match="definite length"):
        come_up(victim, TLSSession(context, server_side=True))
    info = victim.context.info
    assert info.tls_version
    assert info.peer_key_sha256 is None


# --- any bytes ---


@every_tls
@every_carriage
@pytest.mark.thorough
def test_any_byte_of_the_whole_conversation_changed(carriage, policy):
    """Some bytes of each flight, all of them over the years: whatever is changed, nobody gets what is not his."""
    source = random.Random(carriage is not None)
    for stage in range(11):
        for _ in range(3):

            def flip(number, direction, flight, stage=stage):
                if number != stage or not flight:
                    return flight
                at = source.randrange(len(flight))
                return flight[:at] + bytes([flight[at] ^ (1 << source.randrange(8))]) + flight[at + 1 :]

            attack(client(policy, carriage=carriage), server(policy, carriage=carriage), flip)


@given(noise=st.binary(max_size=300), carriage=st.sampled_from(list(CARRIAGES)), side=st.booleans())
def test_noise(noise, carriage, side):
    end = client(carriage=CARRIAGES[carriage]) if side else server(carriage=CARRIAGES[carriage])
    if side:
        end.step(b"")
    try:
        end.step(noise)
        end.context.receive_eof()
    except CredSSPError:
        pass
    assert not established(end)


@given(noise=st.binary(max_size=300), side=st.booleans())
def test_noise_inside_tls(noise, side):
    end = client() if side else server()
    peer = tls_peer(server_side=side)
    come_up(end, peer)
    try:
        if noise:
            say(end, peer, noise)
        end.context.receive_eof()
    except CredSSPError:
        pass
    assert not established(end)


@every_tls
def test_conversation_left_alone_succeeds(policy):
    """What every attack above is measured against."""
    for carriage in CARRIAGES.values():
        ends = client(policy, carriage=carriage), server(policy, carriage=carriage)
        list(converse(*ends))
        assert all(map(established, ends))
        assert ends[0].results[-1].status is SecurityStatus.SEC_E_OK
