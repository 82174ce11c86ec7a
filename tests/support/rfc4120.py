"""Kerberos' messages opened by their keys, an oracle: RFC 4120 by asn1tools, and RFC 3961. Nothing is acredssp's."""

import dataclasses
import datetime as dt
import functools
import struct
from pathlib import Path

import asn1tools
from support.rfc3961 import Altered, Key

TICKET, AUTHENTICATOR, AP_REP, KRB_CRED = 2, 11, 12, 14
"""Key usages, RFC 4120 section 7.5.1."""
AP_REQ_TOKEN, AP_REP_TOKEN = b"\1\0", b"\2\0"
"""TOK_ID, RFC 4121 section 4.1."""
KERBEROS_OID = bytes.fromhex("06092a864886f712010202")

KERB_TICKET_LOGON = struct.Struct("<IIIIQQ")
"""MessageType, Flags, lengths of ServiceTicket and TicketGrantingTicket, and where both begin: as Remote Credential
Guard's credBuffer has it, [MS-CSSP] 2.2.1.2.3.1."""

_MODULE = (Path(__file__).parent.parent / "vectors" / "kerberos.asn").read_text("utf-8")
"""Is read here, since a test with an event loop may read no file."""


@functools.cache
def module():
    """RFC 4120's ASN.1, compiled where a test needs it, since every process of tests imports this file."""
    return asn1tools.compile_string(_MODULE, "der")


@dataclasses.dataclass(frozen=True)
class Logon:
    """What an AP-REQ and its AP-REP agree on."""

    user: str
    service: str
    key: Key
    """Of the per-message tokens: the acceptor's subkey (RFC 4121 section 2)."""
    initiator_sequence: int
    acceptor_sequence: int
    ticket_flags: int


def read_keytab(data):
    """{principal: {key version and type: Key}} of a keytab, file format 0x0502."""
    assert data[:2] == b"\5\2"
    keys, at = {}, 2
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        if size > 0:  # a hole has a negative size
            principal, version, key = _keytab_entry(data[at + 4 : at + 4 + size])
            if key is not None:
                keys.setdefault(principal, {})[version, key.enctype] = key
        at += 4 + abs(size)
    return keys


def _keytab_entry(entry):
    (count,) = struct.unpack_from(">H", entry)
    at, names = 2, []
    for _ in range(count + 1):  # the realm comes first
        (size,) = struct.unpack_from(">H", entry, at)
        names.append(entry[at + 2 : at + 2 + size].decode())
        at += 2 + size
    _name_type, _timestamp, version, enctype, size = struct.unpack_from(">IIBHH", entry, at)
    value = entry[at + 13 : at + 13 + size]
    if len(entry) - at - 13 - size >= 4:  # the version in 32 bits, where there is room for it
        (version,) = struct.unpack_from(">I", entry, at + 13 + size)
    return "/".join(names[1:]), version, Key(enctype, value) if enctype in (17, 18) else None


def open_logon(keytab, ap_req, ap_rep):
    """Open both halves of a logon by the service's keytab.

    Args:
        keytab: Of `read_keytab`.
        ap_req: The initiator's token, with its GSS header or without.
        ap_rep: The acceptor's.

    Raises:
        Altered: The keytab has the service's key, and it does not fit.
        LookupError: It has not.
    """
    request = module().decode("AP-REQ", inner(ap_req, AP_REQ_TOKEN))
    service = name(request["ticket"]["sname"])
    ticket = open_ticket(keytab[service], request["ticket"])
    session = _key(ticket["key"])
    authenticator = decrypt(session, AUTHENTICATOR, request["authenticator"], "Authenticator")
    reply = module().decode("AP-REP", inner(ap_rep, AP_REP_TOKEN))
    answer = decrypt(session, AP_REP, reply["enc-part"], "EncAPRepPart")
    if answer["ctime"] != authenticator["ctime"] or answer["cusec"] != authenticator["cusec"]:
        raise Altered
    return Logon(
        f"{name(authenticator['cname'])}@{authenticator['crealm']}",
        service,
        _key(answer["subkey"]),
        authenticator["seq-number"],
        answer["seq-number"],
        flags(ticket["flags"]),
    )


def open_ticket(keys, ticket):
    """The EncTicketPart of a ticket, by one of the service's keys."""
    sealed = ticket["enc-part"]
    return decrypt(keys[sealed["kvno"], sealed["etype"]], TICKET, sealed, "EncTicketPart")


def open_ticket_logon(keytab, cred_buffer):
    """Open a KERB_TICKET_LOGON: the host's EncTicketPart, and the EncKrbCredPart that the host's session key seals.

    FreeRDP 3.10 seals nothing there (etype 0, RFC 3961 section 6.1): authInfo around it is sealed.
    """
    kind, _flags, service_size, tgt_size, service_at, tgt_at = KERB_TICKET_LOGON.unpack_from(cred_buffer)
    assert kind == 10, "KerbTicketLogon"
    ticket = module().decode("Ticket", cred_buffer[service_at : service_at + service_size])
    part = open_ticket(keytab[name(ticket["sname"])], ticket)
    forwarded = module().decode("KRB-CRED", cred_buffer[tgt_at : tgt_at + tgt_size])
    sealed = forwarded["enc-part"]
    if sealed["etype"] == 0:
        return part, module().decode("EncKrbCredPart", sealed["cipher"])
    return part, decrypt(_key(part["key"]), KRB_CRED, sealed, "EncKrbCredPart")


def refusal(error_code, realm):
    """The KRB-ERROR by which a KDC refuses a request."""
    fields = {
        "pvno": 5,
        "msg-type": 30,
        "stime": dt.datetime.now(dt.UTC).replace(microsecond=0, tzinfo=None),
        "susec": 0,
        "error-code": error_code,
        "realm": realm,
        "sname": {"name-type": 2, "name-string": ["krbtgt", realm]},
    }
    return module().encode("KRB-ERROR", fields)


def inner(token, token_id):
    """The Kerberos message of a GSS token (RFC 4121 section 4.1)."""
    if token[:1] != b"\x60":
        return token
    start = token.index(KERBEROS_OID) + len(KERBEROS_OID)
    assert token[start : start + 2] == token_id
    return token[start + 2 :]


def decrypt(key, usage, sealed, kind):
    plaintext, _ = key.decrypt(usage, sealed["cipher"])
    return module().decode(kind, plaintext)


def name(principal):
    return "/".join(principal["name-string"])


def flags(bits):
    """KerberosFlags as a number, bit 0 in front."""
    value, size = bits
    return int.from_bytes(value, "big") << (32 - 8 * len(value)) if size else 0


def _key(encryption_key):
    return Key(encryption_key["keytype"], encryption_key["keyvalue"])
