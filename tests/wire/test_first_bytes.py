"""What another protocol, or another carriage, is called where it comes in place of what is due."""

import pytest

from acredssp.errors import RemoteProtocolError
from acredssp.wire import first_bytes, tls_record, x224
from acredssp.wire.preconnection import PreconnectionPDU

CLIENT_HELLO = bytes.fromhex("16030100c4010000c00303")
CONNECTION_REQUEST = bytes.fromhex("0300000b06e00000000000")
PROXY_V2 = bytes.fromhex("0d0a0d0a000d0a515549540a2111000c") + bytes(12)

ELSEWHERE = "host and port"
EVERYWHERE = [
    (b"SSH-2.0-OpenSSH_9.2p1\r\n", "SSH", ELSEWHERE),
    (b"HTTP/1.1 400 Bad Request\r\n", "an HTTP response", ELSEWHERE),
    (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "an HTTP request", ELSEWHERE),
    (b"OPTIONS / HTTP/1.0\r\n\r\n", "an HTTP request", ELSEWHERE),
    (b"RDG_OUT_DATA /remoteDesktopGateway/ HTTP/1.1\r\n", "an HTTP request of the RD Gateway protocol", ELSEWHERE),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2", ELSEWHERE),
    (b"PROXY TCP4 10.0.0.1 10.0.0.2 4000 3389\r\n", "a PROXY header, version 1", "send-proxy"),
    (PROXY_V2, "a PROXY header, version 2", "send-proxy"),
    (b"RFB 003.008\n", "VNC", ELSEWHERE),
    (b"220 mail.example ESMTP\r\n", "the greeting of an FTP or mail server", ELSEWHERE),
    (b"220-FTP\r\n", "the greeting of an FTP or mail server", ELSEWHERE),
    (b"+OK POP3\r\n", "the greeting of a POP3 server", ELSEWHERE),
    (b"* OK IMAP4rev1\r\n", "the greeting of an IMAP server", ELSEWHERE),
    (b"\xff\xfd\x18\xff\xfd\x20", "Telnet", ELSEWHERE),
    (b"\0\0\0\x54\xfeSMB@\0", "SMB", ELSEWHERE),
    (b"\0\0\0\x2f\xffSMBr\0", "SMB", ELSEWHERE),
    (b"\x05\x01\0", "SOCKS", ELSEWHERE),
    (PreconnectionPDU(id=7).encode(), "a preconnection PDU", "allow_preconnection"),
    (PreconnectionPDU(blob="token").encode(), "a preconnection PDU", "allow_preconnection"),
]


def of_tls(data):
    tls_record.record_end(data)


def of_rdp(data):
    x224.frame_size(data)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(
    ("read", "data", "what", "hint"),
    [(read, *row) for row in EVERYWHERE for read in (of_tls, of_rdp)]
    + [
        (of_rdp, CLIENT_HELLO, "a TLS handshake", "--carriage tls"),
        (of_rdp, CLIENT_HELLO[:1], "a TLS handshake", "carriage=TLS()"),
        (of_rdp, bytes.fromhex("15030100020246"), "a TLS alert", "--carriage tls"),
        (of_tls, CONNECTION_REQUEST, "RDP's negotiation", "--carriage rdp"),
        (of_tls, CONNECTION_REQUEST[:1], "RDP's negotiation", "carriage=RDP()"),
    ],
)
def test_another_protocol_is_named_and_its_cause_asked_for(read, data, what, hint, kind):
    with pytest.raises(RemoteProtocolError) as raised:
        read(kind(data))
    assert what in raised.value.message
    assert hint in raised.value.hint


@pytest.mark.parametrize("data", [b"\0", b"S", b"\0\0\0\0SMB!", b"GETTING", bytes(32), b"PROXYX"])
def test_what_nobody_knows_has_its_number_and_no_hint(data):
    for read, said in ((of_tls, "type 20 to 23"), (of_rdp, "version 3")):
        with pytest.raises(RemoteProtocolError, match=f"{said}, got.* {data[0]}") as raised:
            read(data)
        assert raised.value.hint is None


def test_what_comes_first_is_looked_at_where_it_begins():
    error = first_bytes.refusal(b"GET SSH-2.0", 4, "x", "y")
    assert error.message == "expected x, got SSH"
