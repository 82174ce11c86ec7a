"""The first bytes of other protocols, their names, and the hint for a program that meets them."""

from acredssp.wire.preconnection import PreconnectionPDU

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
    (b"DELETE /x HTTP/1.1\r\n\r\n", "an HTTP request", ELSEWHERE),
    (PreconnectionPDU(id=7).encode(), "a preconnection PDU", "allow_preconnection"),
    (PreconnectionPDU(blob="token").encode(), "a preconnection PDU", "allow_preconnection"),
]
