"""Names the protocol that a connection begins with where its first bytes are not the expected ones.

The commonest mistake is a wrong port. The next one is that one side negotiates RDP while the other side begins with
TLS. Both mistakes show at the first byte. This module sees only bytes that are refused anyway, so it costs a usual
handshake nothing.
"""

from typing import Final

from acredssp.errors import RemoteProtocolError

__all__ = ["OTHER_SIDE_RDP", "OTHER_SIDE_TLS", "refusal", "undecided"]

OTHER_SIDE_TLS: Final = "the other side seems to use carriage TLS: use --carriage tls or carriage=TLS() on both sides"
OTHER_SIDE_RDP: Final = "the other side seems to use carriage RDP: use --carriage rdp or carriage=RDP() on both sides"
_PROXY: Final = (
    "the load balancer sends a PROXY header: name its address in proxy_protocol (--proxy-protocol), or switch its "
    "send-proxy off"
)
_PRECONNECTION: Final = (
    "the client sends an id or a blob first: the server accepts them with RDP(allow_preconnection=True)"
)
_ELSEWHERE: Final = "check that host and port are the right ones"

_KNOWN: Final = (
    (b"\x16", "a TLS handshake", OTHER_SIDE_TLS),
    (b"\x15", "a TLS alert", OTHER_SIDE_TLS),
    (b"\x03", "RDP's negotiation in clear (TPKT)", OTHER_SIDE_RDP),
    (b"PROXY ", "a PROXY header, version 1", _PROXY),
    (b"\r\n\r\n\x00\r\nQUIT\n", "a PROXY header, version 2", _PROXY),
    (b"SSH-", "SSH", _ELSEWHERE),
    (b"HTTP/", "an HTTP response", _ELSEWHERE),
    (b"<!DOCTYPE ", "an HTTP response without a header", _ELSEWHERE),
    (b"<!doctype ", "an HTTP response without a header", _ELSEWHERE),
    (b"<html", "an HTTP response without a header", _ELSEWHERE),
    (b"<HTML", "an HTTP response without a header", _ELSEWHERE),
    (b"GET ", "an HTTP request", _ELSEWHERE),
    (b"POST ", "an HTTP request", _ELSEWHERE),
    (b"HEAD ", "an HTTP request", _ELSEWHERE),
    (b"PUT ", "an HTTP request", _ELSEWHERE),
    (b"DELETE ", "an HTTP request", _ELSEWHERE),
    (b"PATCH ", "an HTTP request", _ELSEWHERE),
    (b"TRACE ", "an HTTP request", _ELSEWHERE),
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
"""First bytes, the name of their protocol, and the hint for it."""

_SMB: Final = (b"\xffSMB", b"\xfeSMB")
"""The beginnings of SMB 1 and SMB 2 messages, which follow four bytes of length on TCP."""
_PRECONNECTION_PDUS: Final = (bytes.fromhex("0000000001000000"), bytes.fromhex("0000000002000000"))
"""The bytes behind the four bytes of length in a preconnection PDU: no flags, then version 1 or 2."""
_PRECONNECTION_SIZES: Final = range(16, 16 * 1024 + 1, 2)
"""The values that this length may have."""
_MOST: Final = 16
"""How many bytes are compared."""


def refusal(data: bytes | bytearray | memoryview, offset: int, due: str, otherwise: str) -> RemoteProtocolError:
    """Make the error for first bytes that are not the expected ones. Its text names their protocol if it is known.

    Args:
        data: The bytes received so far.
        offset: Where the unexpected bytes begin; at least one byte is there.
        due: The name of the expected protocol.
        otherwise: The error's text where the protocol is unknown.
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


def undecided(data: bytes | bytearray | memoryview) -> bool:
    """Whether more bytes may tell which protocol a connection begins with, where its first bytes are refused.

    A peer may send its first bytes one by one, or the network may cut them. The answer is False as soon as `refusal`
    names the protocol, and as soon as no known protocol begins so. That takes 16 bytes at most.

    Args:
        data: All bytes that came, at least one.
    """
    beginning = bytes(data[:_MOST])
    if any(beginning.startswith(first) for first, _, _ in _KNOWN):
        return False
    if any(first.startswith(beginning) for first, _, _ in _KNOWN):
        return True
    return _may_become_smb(beginning) or _may_become_preconnection(beginning)


def _may_become_smb(beginning: bytes) -> bool:
    return beginning[0] == 0 and _begins_one(beginning[4:], _SMB)


def _may_become_preconnection(beginning: bytes) -> bool:
    size = int.from_bytes(beginning[:4], "little")
    may_be_size = size in _PRECONNECTION_SIZES or (len(beginning) == 1 and size % 2 == 0)
    return may_be_size and _begins_one(beginning[4:], _PRECONNECTION_PDUS)


def _begins_one(part: bytes, whole: tuple[bytes, ...]) -> bool:
    return any(len(part) < len(each) and each.startswith(part) for each in whole)
