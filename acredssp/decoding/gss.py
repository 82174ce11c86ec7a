"""SPNEGO's tokens (RFC 4178) and the outside of Kerberos' (RFC 4120, RFC 4121) as trees. Nothing is decrypted."""

from collections.abc import Mapping
from typing import Final

from acredssp.decoding import asn1, ntlm
from acredssp.decoding.nodes import Malformed, Node, Secret, Source
from acredssp.wire import spnego

__all__ = ["is_kerberos", "kerberos_message", "per_message_token", "token"]

_NEG_STATES: Final = {0: "accept-completed", 1: "accept-incomplete", 2: "reject", 3: "request-mic"}
_KERBEROS_OIDS: Final = ("1.2.840.113554.1.2.2", "1.2.840.48018.1.2.2", "1.2.840.113554.1.2.2.3")
_TOKEN_IDS: Final = {
    b"\x01\x00": "AP-REQ",
    b"\x02\x00": "AP-REP",
    b"\x03\x00": "KRB-ERROR",
    b"\x04\x00": "TGT-REQ",
    b"\x04\x01": "TGT-REP",
    b"\x02\x01": "Wrap (RC4)",
    b"\x01\x01": "MIC (RC4)",
}
_ENCRYPTION: Final = {
    1: "des-cbc-crc",
    3: "des-cbc-md5",
    16: "des3-cbc-sha1",
    17: "aes128-cts-hmac-sha1-96",
    18: "aes256-cts-hmac-sha1-96",
    19: "aes128-cts-hmac-sha256-128",
    20: "aes256-cts-hmac-sha384-192",
    23: "rc4-hmac",
    24: "rc4-hmac-exp",
}
_NAME_TYPES: Final = {0: "unknown", 1: "principal", 2: "service and instance", 3: "service and host", 10: "enterprise"}
_ERRORS: Final = {
    3: "KDC_ERR_BAD_PVNO",
    6: "KDC_ERR_C_PRINCIPAL_UNKNOWN",
    7: "KDC_ERR_S_PRINCIPAL_UNKNOWN",
    12: "KDC_ERR_POLICY",
    13: "KDC_ERR_BADOPTION",
    14: "KDC_ERR_ETYPE_NOSUPP",
    18: "KDC_ERR_CLIENT_REVOKED",
    23: "KDC_ERR_KEY_EXPIRED",
    24: "KDC_ERR_PREAUTH_FAILED",
    25: "KDC_ERR_PREAUTH_REQUIRED",
    31: "KRB_AP_ERR_BAD_INTEGRITY",
    32: "KRB_AP_ERR_TKT_EXPIRED",
    33: "KRB_AP_ERR_TKT_NYV",
    34: "KRB_AP_ERR_REPEAT",
    35: "KRB_AP_ERR_NOT_US",
    36: "KRB_AP_ERR_BADMATCH",
    37: "KRB_AP_ERR_SKEW",
    40: "KRB_AP_ERR_MSG_TYPE",
    41: "KRB_AP_ERR_MODIFIED",
    44: "KRB_AP_ERR_BADKEYVER",
    45: "KRB_AP_ERR_NOKEY",
    60: "KRB_ERR_GENERIC",
    68: "KDC_ERR_WRONG_REALM",
}

_NAME: Final = asn1.sequence(
    {
        0: ("name-type", asn1.integer(_NAME_TYPES)),
        1: ("name-string", asn1.sequence_of("part", asn1.text)),
    }
)
_ENCRYPTED: Final = asn1.sequence(
    {
        0: ("etype", asn1.integer(_ENCRYPTION)),
        1: ("kvno", asn1.integer()),
        2: ("cipher", asn1.octets(Secret.TICKET)),
    }
)
_TICKET: Final = asn1.wrapped(
    0x61,
    asn1.sequence(
        {
            0: ("tkt-vno", asn1.integer()),
            1: ("realm", asn1.text),
            2: ("sname", _NAME),
            3: ("enc-part", _ENCRYPTED),
        }
    ),
)
_MESSAGE_HEAD: Final[dict[int, tuple[str, asn1.Decoder]]] = {
    0: ("pvno", asn1.integer()),
    1: ("msg-type", asn1.integer()),
}
_MESSAGES: Final[dict[int, tuple[str, asn1.Decoder]]] = {
    0x6E: (
        "AP-REQ",
        asn1.sequence(
            {
                **_MESSAGE_HEAD,
                2: ("ap-options", asn1.bit_string),
                3: ("ticket", _TICKET),
                4: ("authenticator", _ENCRYPTED),
            }
        ),
    ),
    0x6F: ("AP-REP", asn1.sequence({**_MESSAGE_HEAD, 2: ("enc-part", _ENCRYPTED)})),
    0x7E: (
        "KRB-ERROR",
        asn1.sequence(
            {
                **_MESSAGE_HEAD,
                2: ("ctime", asn1.text),
                3: ("cusec", asn1.integer()),
                4: ("stime", asn1.text),
                5: ("susec", asn1.integer()),
                6: ("error-code", asn1.integer(_ERRORS)),
                7: ("crealm", asn1.text),
                8: ("cname", _NAME),
                9: ("realm", asn1.text),
                10: ("sname", _NAME),
                11: ("e-text", asn1.text),
                12: ("e-data", asn1.octets()),
            }
        ),
    ),
    0x61: (
        "Ticket",
        asn1.sequence(
            {0: ("tkt-vno", asn1.integer()), 1: ("realm", asn1.text), 2: ("sname", _NAME), 3: ("enc-part", _ENCRYPTED)}
        ),
    ),
}
"""Name and decoder of each message by its application tag."""


def token(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    """Add the token of a mechanism: SPNEGO, NTLM or Kerberos; a fault stays in the token."""
    first = len(parent.children)
    try:
        _token(source, parent, name, start, end)
    except Malformed as error:
        node = parent.children[first] if len(parent.children) > first else source.new(parent, name, start, end)
        node.fault = node.fault or source.fault(error)


def is_kerberos(tag: int) -> bool:
    """Whether a message of Kerberos begins with this byte."""
    return tag in _MESSAGES


def _token(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    data = source.data
    if data.startswith(b"NTLMSSP\0", start, end):
        ntlm.decode_message(source, parent, name, start, end)
    elif data.startswith((b"\xa0", b"\xa1"), start, end):
        _negotiation(source, parent, name, start, end)
    elif data.startswith(b"\x60", start, end):
        _initial(source, parent, name, start, end)
    elif start < end and is_kerberos(data[start]):
        kerberos_message(source, parent, name, start, end)
    elif data.startswith((b"\x05\x04", b"\x04\x04"), start, end):
        per_message_token(source, parent, name, start, end)
    elif not any(data[start:end]):
        note = "zeros, as FreeRDP 3 refuses a logon" if start < end else "empty"
        source.new(parent, name, start, end, data[start:end], note)
    else:
        source.secret(parent, Secret.UNKNOWN, name, start, end).note = "unknown token"


def _initial(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    """Add an InitialContextToken (RFC 2743 3.1)."""
    body, stop = asn1.expect(source, 0x60, start, end, "GSS-API")
    oid_body, oid_stop = asn1.expect(source, asn1.OBJECT_IDENTIFIER, body, stop, "thisMech")
    mechanism = asn1.dotted(source.data[oid_body:oid_stop])
    if mechanism == "1.3.6.1.5.5.2":
        _negotiation(source, parent, name, start, end)
        return
    title = asn1.OIDS.get(mechanism, mechanism)
    node = source.new(parent, f"{name}: {title}" if name else title, start, stop)
    source.new(node, "thisMech", body, oid_stop, mechanism, title)
    if mechanism not in _KERBEROS_OIDS:
        source.secret(node, Secret.UNKNOWN, "innerToken", oid_stop, stop).note = "unknown token"
        return
    after = source.need(oid_stop, 2, stop, "TOK_ID")
    kind = source.data[oid_stop:after]
    source.new(node, "TOK_ID", oid_stop, after, kind, _TOKEN_IDS.get(kind, "unknown"))
    if after < stop and is_kerberos(source.data[after]):
        kerberos_message(source, node, "", after, stop)
    elif _TOKEN_IDS.get(kind, "").endswith("(RC4)"):
        source.secret(node, Secret.SEALED, "body", after, stop)
    else:
        source.secret(node, Secret.TICKET, "body", after, stop)


def _negotiation(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    """Add a NegTokenInit or a NegTokenResp (RFC 4178 4.2)."""
    tag, body, stop = asn1.element(source, start, end, "SPNEGO")
    if tag == 0x60:
        _, body = asn1.expect(source, asn1.OBJECT_IDENTIFIER, body, stop, "thisMech")
        tag, body, stop = asn1.element(source, body, stop, "SPNEGO")
    first = tag == 0xA0
    title = "NegTokenInit" if first else "NegTokenResp"
    if tag not in {0xA0, 0xA1}:
        raise Malformed(body, f"SPNEGO: expected a NegTokenInit or NegTokenResp, got tag 0x{tag:02X}")
    count = len(parent.children)
    try:
        asn1.sequence(_INIT if first else _RESP)(source, parent, title, body, stop)
    finally:
        if len(parent.children) > count:
            node = parent.children[count]
            node.name = f"{name}: SPNEGO {title}" if name else f"SPNEGO {title}"
            node.offset, node.size = start, end - start
    try:
        (spnego.NegTokenInit if first else spnego.NegTokenResp).decode(source.data[start:end])
    except Exception as error:  # noqa: BLE001 - whatever the engine finds wrong
        parent.children[count].refused = str(error)


def _hints_or_mic(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    """[3] is negHints in NegTokenInit2 ([MS-SPNG] 2.2.1), and mechListMIC in RFC 4178."""
    if source.data.startswith(b"\x30", start, end):
        asn1.sequence({0: ("hintName", asn1.text), 1: ("hintAddress", asn1.octets())})(
            source, parent, "negHints", start, end
        )
    else:
        _MIC(source, parent, name, start, end)


def _mic(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    source.new(parent, name, start, end, source.data[start:end])


_MIC: Final = asn1.octets(inner=_mic)
_INNER: Final = asn1.octets(inner=token)
_INIT: Final[Mapping[int, tuple[str, asn1.Decoder]]] = {
    0: ("mechTypes", asn1.sequence_of("mechType", asn1.object_identifier)),
    1: ("reqFlags", asn1.bit_string),
    2: ("mechToken", _INNER),
    3: ("mechListMIC", _hints_or_mic),
    4: ("mechListMIC", _MIC),
}
_RESP: Final[Mapping[int, tuple[str, asn1.Decoder]]] = {
    0: ("negState", asn1.integer(_NEG_STATES, asn1.ENUMERATED)),
    1: ("supportedMech", asn1.object_identifier),
    2: ("responseToken", _INNER),
    3: ("mechListMIC", _MIC),
}


def kerberos_message(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    """Add a message of Kerberos: its header, and how its parts are encrypted."""
    tag, body, stop = asn1.element(source, start, end, "Kerberos")
    title, read = _MESSAGES[tag]
    if tag != 0x7E:
        source.guard(Secret.TICKET, body, stop)
    read(source, parent, f"{name}: Kerberos {title}" if name else f"Kerberos {title}", body, stop)


def per_message_token(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    """Add a Wrap or MIC token of Kerberos (RFC 4121 4.2.6)."""
    source.need(start, 16, end, "Kerberos")
    data, wraps = source.data, source.data[start] == 5
    node = source.new(parent, name or "Kerberos", start, end, None, "a Wrap token" if wraps else "a MIC token")
    bits = {1: "from the acceptor", 2: "sealed", 4: "acceptor's subkey"}
    flags = data[start + 2]
    source.new(node, "flags", start + 2, start + 3, flags, ", ".join(n for b, n in bits.items() if flags & b))
    if wraps:
        source.new(node, "EC", start + 4, start + 6, source.number(start + 4, 2, end, "EC", "big"))
        source.new(node, "RRC", start + 6, start + 8, source.number(start + 6, 2, end, "RRC", "big"))
    source.new(node, "SND_SEQ", start + 8, start + 16, source.number(start + 8, 8, end, "SND_SEQ", "big"))
    if wraps:
        source.secret(node, Secret.SEALED, "sealed data", start + 16, end)
    else:
        source.new(node, "checksum", start + 16, end, data[start + 16 : end])
