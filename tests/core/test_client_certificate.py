"""Stopping for a server's CertificateRequest, before anything is answered: TLS 1.2 and 1.3, against OpenSSL servers."""

import functools
import ssl
import threading
import types

import pytest
from support.engine import ALICE, CUTS, End, Script, converse, pem

from acredssp import tls_config
from acredssp.core import client_certificate
from acredssp.core.client import ClientHandshake
from acredssp.core.client_certificate import WatchingTLSSession, watch_certificate_requests
from acredssp.core.context import SecurityContext
from acredssp.core.events import ChooseCertificate
from acredssp.core.server import ServerHandshake
from acredssp.core.tls import TLSSession
from acredssp.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError, TLSError
from acredssp.policy import Policy
from acredssp.status import SecurityStatus, Stage
from acredssp.wire import tls_record

TLS = {"tls12": ssl.TLSVersion.TLSv1_2, "tls13": ssl.TLSVersion.TLSv1_3}
OLD = {"tls10": ssl.TLSVersion.TLSv1, "tls11": ssl.TLSVersion.TLSv1_1}
TLS12 = 3
"""The second byte of the version of a record of TLS 1.2. Below are those of older versions."""


@pytest.fixture(params=TLS)
def version(request):
    return TLS[request.param]


@functools.cache
def certificate_file(tmp: str, key_type: str) -> str:
    path = f"{tmp}/{key_type}.pem"
    with open(path, "wb") as file:  # noqa: PTH123 - cached by a plain string
        file.write(b"".join(pem(key_type)))
    return path


@pytest.fixture
def asking(version, tmp_path):
    """A server that asks for a certificate and takes none too; it believes the RSA certificate and a P-384 one."""
    context = tls_config.server_context_from_pem(Policy(min_tls=version, max_tls=version), *pem("ec"))
    context.verify_mode = ssl.CERT_OPTIONAL
    for key_type in ("rsa", "p384"):
        context.load_verify_locations(certificate_file(str(tmp_path), key_type))
    return context


@pytest.fixture
def with_certificate(tmp_path):
    context = tls_config.client_context(Policy())
    context.load_cert_chain(certificate_file(str(tmp_path), "p384"))
    return context


def watching() -> ssl.SSLContext:
    context = tls_config.client_context(Policy())
    watch_certificate_requests(context, threading.Lock())
    return context


def ends(server_context: ssl.SSLContext, answer, client_context: ssl.SSLContext | None = None):
    policy = Policy()
    session = WatchingTLSSession(client_context or watching())
    client = SecurityContext(ClientHandshake(Script(b"c1", b"c2"), ALICE, policy), session)
    server_tls = TLSSession(server_context, server_side=True)
    server = SecurityContext(ServerHandshake(Script(b"s1", b""), policy), server_tls)
    return End(client, answer), End(server)


@pytest.mark.parametrize("cut", CUTS)
def test_the_certificate_that_was_chosen_is_the_one_the_server_sees(asking, with_certificate, cut):
    asked = []
    client, server = ends(asking, lambda event: (asked.append(event), with_certificate)[1])
    list(converse(client, server, CUTS[cut]))
    assert client.done
    assert server.done
    (event,) = asked
    assert event == ChooseCertificate(authorities=())  # CPython's servers name none
    assert server.context.tls.peer_certificate == ssl.PEM_cert_to_DER_cert(pem("p384")[0].decode())


def test_the_status_is_incomplete_credentials_and_nothing_was_answered(asking, with_certificate):
    client, server = ends(asking, lambda event: with_certificate)
    flight = server.step(client.context.step().output)
    result = client.context.step(flight)
    assert result.status is SecurityStatus.SEC_I_INCOMPLETE_CREDENTIALS
    assert result.output == b""
    assert not client.context.tls.has_output
    with pytest.raises(LocalProtocolError, match="resume"):
        client.context.step(flight)


@pytest.mark.parametrize("together", range(1, 8))
def test_what_came_behind_the_request_in_the_same_call_waits_for_the_answer(asking, with_certificate, together):
    asked = []
    client, server = ends(asking, lambda event: (asked.append(event), with_certificate)[1])
    records = records_of(server.step(client.step(b"")))
    server.wire += client.step(b"".join(records[:together]))
    server.wire += client.step(b"".join(records[together:]))
    list(talk_on(client, server))
    assert server.done
    assert asked == [ChooseCertificate(authorities=())]
    assert server.context.tls.peer_certificate == ssl.PEM_cert_to_DER_cert(pem("p384")[0].decode())


@pytest.mark.parametrize("answer", [None, "no context", False])
def test_anything_else_goes_on_without(asking, answer):
    client, server = ends(asking, lambda event: answer)
    list(converse(client, server))
    assert server.done
    assert server.context.tls.peer_certificate is None


def test_a_server_that_asks_for_none_is_never_stopped_at(version):
    context = tls_config.server_context_from_pem(Policy(min_tls=version, max_tls=version), *pem("rsa"))
    client, server = ends(context, lambda event: pytest.fail("asked"))
    list(converse(client, server))
    assert server.done


@pytest.mark.parametrize("size", [20, 100, 16_384])
def test_messages_of_tls12_may_be_packed_and_cut_anyhow(tmp_path, with_certificate, size):
    """The server's whole flight in records of another size than OpenSSL's own."""
    context = tls_config.server_context_from_pem(Policy(max_tls=TLS["tls12"]), *pem("ec"))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(certificate_file(str(tmp_path), "p384"))
    client, server = ends(context, lambda event: with_certificate)
    flight = repacked(server.step(client.step(b"")), size)
    server.wire += client.step(flight)
    list(talk_on(client, server))
    assert server.done
    assert server.context.tls.peer_certificate == ssl.PEM_cert_to_DER_cert(pem("p384")[0].decode())


@pytest.mark.skipif(not (ssl.HAS_TLSv1 and ssl.HAS_TLSv1_1), reason="openssl was built without it")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", OLD)
@pytest.mark.parametrize("size", [20, 16_384])
def test_servers_of_versions_before_tls12_ask_too(version, size, tmp_path):
    """Their requests have no signatures (RFC 4346 7.4.4), and their records a version of their own."""
    policy = Policy(min_tls=OLD[version], max_tls=OLD[version], dangerous_allow_legacy_tls=True)
    server_context = tls_config.server_context_from_pem(policy, *pem("ec"))
    client_context, chosen = tls_config.client_context(policy), tls_config.client_context(policy)
    for context in (server_context, client_context, chosen):
        context.set_ciphers("ALL:@SECLEVEL=0")
    server_context.verify_mode = ssl.CERT_OPTIONAL
    server_context.load_verify_locations(certificate_file(str(tmp_path), "p384"))
    chosen.load_cert_chain(certificate_file(str(tmp_path), "p384"))
    watch_certificate_requests(client_context, threading.Lock())
    client, server = WatchingTLSSession(client_context), TLSSession(server_context, server_side=True)
    client.handshake()
    server.handshake(client.output())
    client.handshake(repacked(server.output(), size))
    assert client.certificate_request == ()
    client.answer_certificate_request(chosen)
    client.handshake()
    assert server.handshake(client.output())
    assert client.handshake(server.output())
    assert server.peer_certificate == ssl.PEM_cert_to_DER_cert(pem("p384")[0].decode())


def test_a_piece_of_a_message_that_looks_like_a_whole_one_stays_in_its_place():
    """The Certificate from its fourth byte on: what is the length of the list there would be that of a message."""
    context = tls_config.server_context_from_pem(Policy(max_tls=TLS["tls12"]), *pem("ec"))
    client, server = ends(context, lambda event: pytest.fail("asked"))
    hello, certificate, *others = records_of(server.step(client.step(b"")))
    assert certificate[5] == 11
    pieces = [b"\x16\x03\x03" + len(piece).to_bytes(2, "big") + piece for piece in (certificate[5:8], certificate[8:])]
    server.wire += client.step(b"".join([hello, *pieces, *others]))
    list(talk_on(client, server))
    assert server.done


def records_of(flight: bytes) -> list[bytes]:
    records, offset = [], 0
    while offset < len(flight):
        end = tls_record.record_end(flight, offset)
        records.append(flight[offset:end])
        offset = end
    return records


def repacked(flight: bytes, size: int) -> bytes:
    messages = b"".join(record[5:] for record in records_of(flight))
    pieces = [messages[start : start + size] for start in range(0, len(messages), size)]
    return b"".join(flight[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def talk_on(client: End, server: End):
    while not (client.done and server.done):
        for end, other in ((server, client), (client, server)):
            data, end.wire = bytes(end.wire), bytearray()
            if data and not end.done:
                other.wire += end.step(data)
                yield


def test_without_the_private_callback_tls13_goes_on_without_a_certificate(tmp_path):
    context = tls_config.server_context_from_pem(Policy(min_tls=TLS["tls13"]), *pem("ec"))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(certificate_file(str(tmp_path), "rsa"))
    unwatched = tls_config.client_context(Policy())
    client, server = ends(context, lambda event: pytest.fail("asked"), unwatched)
    list(converse(client, server))
    assert server.done


@pytest.mark.interpreted_only("takes the callback out of the module's reach")
def test_a_python_without_the_private_callback_is_no_error(monkeypatch):
    context = tls_config.client_context(Policy())
    with monkeypatch.context() as patch:
        patch.setattr(client_certificate, "ssl", types.SimpleNamespace(SSLContext=object))
        watch_certificate_requests(context, threading.Lock())
    assert vars(context) == {}


def callback_of(context):
    return super(ssl.SSLContext, ssl.SSLContext)._msg_callback.__get__(context)


def test_a_session_listens_while_it_is_made_and_until_the_certificate_came():
    """Whatever else the connections of a context do is no call of Python."""
    lock = CountingLock()
    context = tls_config.client_context(Policy())
    watch_certificate_requests(context, lock)
    server_context = tls_config.server_context_from_pem(Policy(min_tls=TLS["tls13"]), *pem("ec"))
    client, server = ends(server_context, lambda event: pytest.fail("asked"), context)
    list(converse(client, server))
    assert client.done
    assert lock.entered == 4  # twice each for the connection and for the flight
    assert callback_of(context) is None


class CountingLock:
    entered = 0

    def __enter__(self):
        self.entered += 1

    def __exit__(self, *exc):
        pass


def test_no_session_listens_once_the_certificate_came_however_the_flight_is_cut():
    lock = CountingLock()
    context = tls_config.client_context(Policy())
    watch_certificate_requests(context, lock)
    server_context = tls_config.server_context_from_pem(Policy(min_tls=TLS["tls13"]), *pem("ec"))
    client, _, flight = at_hello(server_context, context)
    entered = [lock.entered]
    for record in flight:
        client.handshake(record)
        entered.append(lock.entered)
    # ServerHello comes in clear, so the session listens from ChangeCipherSpec on. Certificate is the fourth record.
    assert entered == [2, 2, 4, 6, 8, 8, 8]
    assert callback_of(context) is None


def test_no_session_listens_once_a_request_was_answered(asking):
    lock = CountingLock()
    context = tls_config.client_context(Policy())
    watch_certificate_requests(context, lock)
    client, server, flight = at_hello(asking, context)
    client.handshake(b"".join(flight))
    assert client.certificate_request == ()
    client.answer_certificate_request(None)
    before = lock.entered
    done = client.handshake()
    server.handshake(client.output())
    assert done or client.handshake(server.output())
    assert lock.entered == before


def test_a_connection_that_watches_for_nothing_is_left_alone(asking):
    """A plain session of a context hears of messages too, while another session of the context listens."""
    context = watching()
    vars(context)["acredssp_listeners"].begin(context)
    client, server = TLSSession(context, server_side=False), TLSSession(asking, server_side=True)
    client.handshake()
    server.handshake(client.output())
    done = client.handshake(server.output())
    server.handshake(client.output())
    assert done or client.handshake(server.output())


def test_sessions_that_listen_at_once_do_not_silence_each_other():
    context = watching()
    listeners = vars(context)["acredssp_listeners"]
    watch_certificate_requests(context, threading.Lock())
    assert vars(context)["acredssp_listeners"] is listeners
    listeners.begin(context)
    WatchingTLSSession(context)
    assert callback_of(context) is not None
    listeners.end(context)
    assert callback_of(context) is None


def test_a_connection_that_cannot_be_made_leaves_no_callback():
    context = watching()
    with pytest.raises(ValueError, match="idna"):
        WatchingTLSSession(context, server_hostname="ä..b")
    assert callback_of(context) is None


def test_this_cpython_still_has_the_private_callback():
    """Should it go, TLS 1.3 servers are answered without a certificate: then the docs must say so."""
    assert hasattr(super(ssl.SSLContext, ssl.SSLContext), "_msg_callback")


def note_request_of(session):
    client_certificate._note_message(session.ssl_object, "read", 0x304, 22, 13, bytes.fromhex("0d000003000000"))


def test_a_flight_in_one_record_was_answered_already():
    """What the callback noted is dropped when TLS has gone on."""
    session = WatchingTLSSession(watching())
    note_request_of(session)
    session.handshake()  # puts the ClientHello out, as the answer to a packed flight would be
    assert session.certificate_request is None


def test_what_comes_once_the_handshake_is_over_is_left_alone(version):
    """A request after the handshake (RFC 8446 4.6.2) is the application's, and so is what came with it."""
    context = tls_config.server_context_from_pem(Policy(min_tls=version, max_tls=version), *pem("ec"))
    client, server = ends(context, lambda event: pytest.fail("asked"))
    list(converse(client, server))
    session = client.context.tls
    note_request_of(session)
    assert session.ssl_object.acredssp_watch.request == b""


@pytest.mark.parametrize("place", range(6))
def test_a_warning_anywhere_in_the_flight_stops_nothing(place, tmp_path, with_certificate):
    """Servers that do not know the name asked for say so, some before they say hello (RFC 6066 3)."""
    context = tls_config.server_context_from_pem(Policy(max_tls=TLS["tls12"]), *pem("ec"))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(certificate_file(str(tmp_path), "p384"))
    client, server = ends(context, lambda event: with_certificate)
    records = records_of(server.step(client.step(b"")))
    assert len(records) == 5
    records.insert(place, bytes.fromhex("15 0303 0002 01 70"))
    server.wire += client.step(b"".join(records))
    list(talk_on(client, server))
    assert server.done
    assert server.context.tls.peer_certificate == ssl.PEM_cert_to_DER_cert(pem("p384")[0].decode())


@pytest.mark.parametrize("size", [128 * 1024 + 1, (1 << 24) + 3])
def test_a_message_of_more_than_128_kib_is_refused(size):
    session = WatchingTLSSession(watching())
    session.handshake()
    with pytest.raises(LimitExceeded, match=f"at most 131072 bytes, got {size}") as caught:
        session.handshake(record_of(beginning_of(size)))
    assert caught.value.stage is Stage.TLS


def test_a_message_of_128_kib_is_waited_for():
    session = WatchingTLSSession(watching())
    session.handshake()
    assert not session.handshake(record_of(beginning_of(128 * 1024)))


def beginning_of(size: int, message_type: int = 11) -> bytes:
    """The header of a message of this size, the header included; a Certificate, unless another type is given."""
    return bytes([message_type]) + (size - 4).to_bytes(3, "big")


def record_of(piece: bytes) -> bytes:
    return b"\x16\x03\x03" + len(piece).to_bytes(2, "big") + piece


# --- messages of TLS 1.2, cut as no server of ours cuts them ---


def at_hello(server_context: ssl.SSLContext, client_context: ssl.SSLContext | None = None, **kwargs):
    """A client and a server of TLS alone, and the records with which the server answers the client's hello."""
    client = WatchingTLSSession(client_context or watching(), **kwargs)
    server = TLSSession(server_context, server_side=True)
    client.handshake()
    server.handshake(client.output())
    return client, server, records_of(server.output())


@pytest.fixture
def tls12():
    return tls_config.server_context_from_pem(Policy(max_tls=TLS["tls12"]), *pem("ec"))


@pytest.mark.parametrize("lacking", [8, 10, 1 << 16])
def test_the_rest_of_a_message_is_no_message_whatever_it_looks_like(tls12, lacking):
    """Whatever a record lacks of its message, the record behind it begins with the message's rest."""
    client, _, (hello, *_) = at_hello(tls12)
    client.handshake(hello)
    size = lacking + 5
    client.handshake(record_of(beginning_of(size).ljust(size - lacking, b"x")))
    assert not client.handshake(record_of(bytes.fromhex("0d000000")))  # by itself a request, and a malformed one
    assert client.certificate_request is None


def test_a_whole_message_does_not_wait_for_the_rest_of_the_next_one(tls12):
    """So that a ServerHello which OpenSSL refuses is refused at once."""
    client, _, (hello, certificate, *_) = at_hello(tls12)
    of_tls11 = hello[5:9] + bytes.fromhex("0302") + hello[11:]
    with pytest.raises(TLSError, match="protocol"):
        client.handshake(record_of(of_tls11 + certificate[5:9]))


def test_another_record_in_the_middle_of_a_message_fails_the_handshake(tls12):
    client, _, (hello, *_) = at_hello(tls12)
    client.handshake(record_of(hello[5:20]))
    with pytest.raises(TLSError, match="tls failed"):
        client.handshake(bytes.fromhex("14 0303 0001 01"))


@pytest.mark.parametrize("cut", ["as it is", "in pieces"])
def test_a_session_is_resumed_however_the_hello_is_cut(tls12, cut):
    """ChangeCipherSpec then comes in the same call as the hello, whose pieces are still held back."""
    client, server, first = at_hello(tls12)
    client.handshake(b"".join(first))
    server.handshake(client.output())
    client.handshake(server.output())
    again, _, (hello, *others) = at_hello(tls12, client.context, session=client.session)
    assert again.handshake(b"".join([repacked(hello, 20) if cut == "in pieces" else hello, *others]))
    assert again.session_reused


def test_a_second_request_is_for_openssl_to_refuse(tmp_path, tls12):
    """Nobody is asked twice: what comes behind the answer is not read."""
    tls12.verify_mode = ssl.CERT_OPTIONAL
    tls12.load_verify_locations(certificate_file(str(tmp_path), "p384"))
    client, _, flight = at_hello(tls12)
    client.handshake(b"".join(flight))
    assert client.certificate_request == ()
    client.answer_certificate_request(None)
    client.handshake()
    (request,) = [record for record in flight if record[5] == 13]
    with pytest.raises(TLSError, match="unexpected message"):
        client.handshake(request)
    assert client.certificate_request is None


@pytest.mark.parametrize(
    "message", ["0d000000", "0d000001ff", "0d00000401020000", "0d00000601010000000a", "0d0000060100000004ffff"]
)
def test_a_malformed_request_is_refused(message):
    with pytest.raises(RemoteProtocolError):
        client_certificate._authorities_in_clear(bytes.fromhex(message), TLS12)


@pytest.mark.parametrize("message", ["0d000000", "0d00000300ffff", "0d000007000004002f00ff"])
def test_a_malformed_request_of_tls13_is_refused(message):
    with pytest.raises(RemoteProtocolError):
        client_certificate._authorities_of_tls13(bytes.fromhex(message))


def test_a_request_without_names():
    assert client_certificate._authorities_in_clear(bytes.fromhex("0d000006010100000000"), TLS12) == ()
    assert client_certificate._authorities_in_clear(bytes.fromhex("0d00000401010000"), TLS12 - 1) == ()
    assert client_certificate._authorities_of_tls13(bytes.fromhex("0d000007000004000d0000")) == ()


def test_only_a_watching_session_can_be_answered():
    session = TLSSession(watching(), server_side=False)
    with pytest.raises(LocalProtocolError):
        session.answer_certificate_request(None)


NAMES = bytes.fromhex("0003 300100 0004 30020000")  # two names, 3 and 4 bytes
FIRST, SECOND = bytes.fromhex("300100"), bytes.fromhex("30020000")


@pytest.mark.parametrize(("version", "signatures"), [(TLS12, "0002 0403"), (TLS12 - 1, ""), (TLS12 - 2, "")])
def test_the_names_stand_behind_the_signatures_which_tls12_was_the_first_to_have(version, signatures):
    body = bytes.fromhex("01 01" + signatures) + len(NAMES).to_bytes(2, "big") + NAMES
    message = b"\x0d" + len(body).to_bytes(3, "big") + body
    assert client_certificate._authorities_in_clear(message, version) == (FIRST, SECOND)


def test_the_names_of_tls13_stand_in_an_extension():
    names = len(NAMES).to_bytes(2, "big") + NAMES
    extensions = bytes.fromhex("000d 0004 0002 0403  002f") + len(names).to_bytes(2, "big") + names
    body = b"\0" + len(extensions).to_bytes(2, "big") + extensions
    message = b"\x0d" + len(body).to_bytes(3, "big") + body
    assert client_certificate._authorities_of_tls13(message) == (FIRST, SECOND)


def test_nothing_is_heard_of_messages_behind_the_certificate(monkeypatch):
    policy = Policy(min_tls=ssl.TLSVersion.TLSv1_3)
    heard, note = [], client_certificate._note_message

    def noted(*told):
        heard.append(told[4])
        note(*told)

    monkeypatch.setattr(client_certificate, "_note_message", noted)
    client, server = ends(tls_config.server_context_from_pem(policy, *pem("ec")), lambda _event: None)
    list(converse(client, server))
    assert client.done
    assert heard[-1] == 11  # Certificate (RFC 8446 4); CertificateVerify and both Finished come behind it
    assert client.context.tls._context._msg_callback is None
