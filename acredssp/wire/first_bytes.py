"""What the first bytes of a connection are where they are not what is due: another protocol, or another carriage.

The commonest mistake of all is a wrong port, and the next one that one side negotiates RDP while the other begins with
TLS. Both sides see it at the first byte. Only what is refused anyway is looked at here, so a handshake costs nothing.
"""

from typing import Final

from acredssp.errors import RemoteProtocolError

__all__ = ["OTHER_SIDE_RDP", "OTHER_SIDE_TLS", "refusal"]

OTHER_SIDE_TLS: Final = "is the other side's carriage TLS? Give both sides the same one: --carriage tls, carriage=TLS()"
OTHER_SIDE_RDP: Final = "is the other side's carriage RDP? Give both sides the same one: --carriage rdp, carriage=RDP()"
_PROXY: Final = "is the load balancer's send-proxy on? Switch it off, or read its header first and then start_credssp()"
_PRECONNECTION: Final = (
    "does the client send an id or a blob first? The server takes them with RDP(allow_preconnection=True)"
)
_ELSEWHERE: Final = "see that host and port are the right ones on both sides"

_KNOWN: Final = (
    (b"\x16", "a TLS handshake", OTHER_SIDE_TLS),
    (b"\x15", "a TLS alert", OTHER_SIDE_TLS),
    (b"\x03", "RDP's negotiation in clear (TPKT)", OTHER_SIDE_RDP),
    (b"PROXY ", "a PROXY header, version 1", _PROXY),
    (b"\r\n\r\n\x00\r\nQUIT\n", "a PROXY header, version 2", _PROXY),
    (b"SSH-", "SSH", _ELSEWHERE),
    (b"HTTP/", "an HTTP response", _ELSEWHERE),
    (b"GET ", "an HTTP request", _ELSEWHERE),
    (b"POST ", "an HTTP request", _ELSEWHERE),
    (b"HEAD ", "an HTTP request", _ELSEWHERE),
    (b"PUT ", "an HTTP request", _ELSEWHERE),
    (b"OPTIONS ", "an HTTP request", _ELSEWHERE),
    (b"CONNECT ", "an HTTP request", _ELSEWHERE),
    (b"RDG_OUT_DATA ", "an HTTP request of the RD Gateway protocol", _ELSEWHERE),
    (b"RDG_IN_DATA ", "an HTTP request of the RD Gateway protocol", _ELSEWHERE),
    (b"PRI * HTTP/2", "HTTP/2", _ELSEWHERE),
    (b"RFB ", "VNC", _ELSEWHERE),
    (b"220", "the greeting of an FTP or mail server", _ELSEWHERE),
    (b"+OK", "the greeting of a POP3 server", _ELSEWHERE),
    (b"* OK", "the greeting of an IMAP server", _ELSEWHERE),
    (b"EHLO ", "a mail client", _ELSEWHERE),
    (b"HELO ", "a mail client", _ELSEWHERE),
    (b"\xff\xfb", "Telnet", _ELSEWHERE),
    (b"\xff\xfd", "Telnet", _ELSEWHERE),
    (b"\x05\x01\x00", "SOCKS", _ELSEWHERE),
    (b"\x05\x02\x00", "SOCKS", _ELSEWHERE),
)
"""What begins so, what that is, and what to do about it."""

_SMB: Final = (b"\xffSMB", b"\xfeSMB")
"""What follows the four bytes of length that SMB has on TCP."""
_PRECONNECTION_PDUS: Final = (bytes.fromhex("0000000001000000"), bytes.fromhex("0000000002000000"))
"""What follows the four bytes of length in a preconnection PDU: no flags, and its version."""
_PRECONNECTION_SIZES: Final = range(16, 16 * 1024 + 1, 2)
"""What that length may be."""
_MOST: Final = 16
"""Bytes that are looked at."""


def refusal(data: bytes | bytearray | memoryview, offset: int, due: str, otherwise: str) -> RemoteProtocolError:
    """Make the error for a beginning that is not what is due, named as far as its bytes are there.

    Args:
        data: Where the beginning is, cut anywhere.
        offset: Where it begins; at least one byte is there.
        due: What is expected in its place.
        otherwise: The error's text for what nobody knows.
    """
    end = offset + _MOST
    beginning = bytes(data[offset:end])
    for first, what, hint in _KNOWN:
        if beginning.startswith(first):
            return RemoteProtocolError(f"expected {due}, got {what}", hint=hint)
    if beginning[4:8] in _SMB:
        return RemoteProtocolError(f"expected {due}, got SMB", hint=_ELSEWHERE)
    if beginning[4:12] in _PRECONNECTION_PDUS and int.from_bytes(beginning[:4], "little") in _PRECONNECTION_SIZES:
        return RemoteProtocolError(f"expected {due}, got a preconnection PDU", hint=_PRECONNECTION)
    return RemoteProtocolError(otherwise)
