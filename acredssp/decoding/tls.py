"""The hellos of TLS as trees: what a client offers, and what a server chooses (RFC 8446 4.1, RFC 5246 7.4.1)."""

from typing import Final

from acredssp.decoding.nodes import Node, Source

__all__ = ["VERSIONS", "client_hello", "server_hello"]

VERSIONS: Final = {0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}
_SUITES: Final = {
    0x0004: "RSA_RC4_128_MD5", 0x0005: "RSA_RC4_128_SHA", 0x000A: "RSA_3DES_EDE_CBC_SHA",
    0x0016: "DHE_RSA_3DES_EDE_CBC_SHA", 0x002F: "RSA_AES_128_CBC_SHA", 0x0033: "DHE_RSA_AES_128_CBC_SHA",
    0x0035: "RSA_AES_256_CBC_SHA", 0x0039: "DHE_RSA_AES_256_CBC_SHA", 0x003C: "RSA_AES_128_CBC_SHA256",
    0x003D: "RSA_AES_256_CBC_SHA256", 0x0067: "DHE_RSA_AES_128_CBC_SHA256", 0x006B: "DHE_RSA_AES_256_CBC_SHA256",
    0x009C: "RSA_AES_128_GCM_SHA256", 0x009D: "RSA_AES_256_GCM_SHA384", 0x009E: "DHE_RSA_AES_128_GCM_SHA256",
    0x009F: "DHE_RSA_AES_256_GCM_SHA384", 0x00FF: "EMPTY_RENEGOTIATION_INFO", 0x1301: "AES_128_GCM_SHA256",
    0x1302: "AES_256_GCM_SHA384", 0x1303: "CHACHA20_POLY1305_SHA256", 0x1304: "AES_128_CCM_SHA256",
    0x1305: "AES_128_CCM_8_SHA256", 0x5600: "FALLBACK", 0xC009: "ECDHE_ECDSA_AES_128_CBC_SHA",
    0xC00A: "ECDHE_ECDSA_AES_256_CBC_SHA", 0xC013: "ECDHE_RSA_AES_128_CBC_SHA", 0xC014: "ECDHE_RSA_AES_256_CBC_SHA",
    0xC023: "ECDHE_ECDSA_AES_128_CBC_SHA256", 0xC024: "ECDHE_ECDSA_AES_256_CBC_SHA384",
    0xC027: "ECDHE_RSA_AES_128_CBC_SHA256", 0xC028: "ECDHE_RSA_AES_256_CBC_SHA384",
    0xC02B: "ECDHE_ECDSA_AES_128_GCM_SHA256", 0xC02C: "ECDHE_ECDSA_AES_256_GCM_SHA384",
    0xC02F: "ECDHE_RSA_AES_128_GCM_SHA256", 0xC030: "ECDHE_RSA_AES_256_GCM_SHA384",
    0xCCA8: "ECDHE_RSA_CHACHA20_POLY1305_SHA256", 0xCCA9: "ECDHE_ECDSA_CHACHA20_POLY1305_SHA256",
    0xCCAA: "DHE_RSA_CHACHA20_POLY1305_SHA256",
}  # fmt: skip
"""Names of the suites that peers of RDP and WinRM offer, without the prefix TLS_."""
_SERVER_NAME: Final = 0
_SUPPORTED_VERSIONS: Final = 43


def client_hello(source: Source, parent: Node, start: int, end: int) -> None:
    """Add the versions, suites and the name of the server that a ClientHello offers."""
    at = _front(source, start, end)
    size = source.number(at, 2, end, "cipher suites", "big")
    stop = source.need(at + 2, size, end, "cipher suites")
    names = _suites(source.data[at + 2 : stop])
    source.new(parent, "cipher suites", at, stop, names, f"{size // 2} offered")
    at = stop
    at = source.need(at + 1, source.number(at, 1, end, "compression"), end, "compression")
    found = _extensions(source, at, end)
    if _SUPPORTED_VERSIONS in found:
        first, last = found[_SUPPORTED_VERSIONS]
        source.new(parent, "versions offered", first, last, _versions(source.data[first + 1 : last]))
    else:
        highest = source.data[start : start + 2]
        source.new(parent, "versions offered", start, start + 2, f"up to {_versions(highest)}")
    if _SERVER_NAME in found:
        first, last = found[_SERVER_NAME]
        name = source.data[first + 5 : last].decode("ascii", "backslashreplace")
        source.new(parent, "server name", first, last, name, "SNI")
    else:
        source.new(parent, "server name", end, end, None, "none: the client connects by address, or leaves it out")


def server_hello(source: Source, parent: Node, start: int, end: int) -> None:
    """Add the version and the suite that a ServerHello chooses."""
    at = _front(source, start, end)
    stop = source.need(at, 2, end, "cipher suite")
    source.new(parent, "cipher suite", at, stop, _suites(source.data[at:stop]))
    found = _extensions(source, stop + 1, end)
    first, last = found.get(_SUPPORTED_VERSIONS, (start, start + 2))
    source.new(parent, "version chosen", first, last, _versions(source.data[first:last]))


def _front(source: Source, start: int, end: int) -> int:
    """Return where what follows the version, the random and the session's id begins."""
    at = source.need(start, 34, end, "hello")
    return source.need(at + 1, source.number(at, 1, end, "session id"), end, "session id")


def _extensions(source: Source, at: int, end: int) -> dict[int, tuple[int, int]]:
    """Return the bounds of each extension by its number; none where the hello has none."""
    found: dict[int, tuple[int, int]] = {}
    if at >= end:
        return found
    at = source.need(at, 2, end, "extensions")
    while at < end:
        kind, size = source.number(at, 2, end, "extension", "big"), source.number(at + 2, 2, end, "extension", "big")
        found[kind] = at + 4, source.need(at + 4, size, end, "extension")
        at = found[kind][1]
    return found


def _suites(data: bytes) -> str:
    numbers = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2)]
    return " ".join(_SUITES.get(each, f"0x{each:04x}") for each in numbers if not _is_grease(each))


def _versions(data: bytes) -> str:
    numbers = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2)]
    return ", ".join(VERSIONS.get(each, f"0x{each:04x}") for each in numbers if not _is_grease(each))


def _is_grease(number: int) -> bool:
    """Whether a number is one of those that mean nothing (RFC 8701)."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF
