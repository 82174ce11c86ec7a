"""Targets for the codecs: each reads bytes of a stranger by one of them, and compares with another reader or writer."""

import base64
import functools
import pathlib
import ssl
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Final
from unittest import mock

import asn1tools
from asn1crypto import parser as asn1_parser

from acredssp import tls_config
from acredssp.accounts import users as users_file
from acredssp.delegation import toml
from acredssp.http import headers as http_headers
from acredssp.http.errors import HTTPProtocolError
from acredssp.mechanisms.ntlm import messages as ntlm
from acredssp.secret import SecretBytes
from acredssp.wire import (
    der,
    early_auth,
    gss,
    mcs,
    preconnection,
    proxy_header,
    redirection,
    spnego,
    ticket_logon,
    tls_record,
    ts_credentials,
    ts_request,
    x224,
    x509,
)
from acredssp.wire.framing import FrameSize
from fuzz import seeds
from fuzz.target import Target, framed, round_trip

__all__ = ["TARGETS"]

_MODULE = pathlib.Path(__file__).parent.parent / "tests" / "vectors" / "cssp.asn"
_LIMIT = 65536


@functools.cache
def _asn1() -> asn1tools.compiler.Specification:
    return asn1tools.compile_files(str(_MODULE), "der")


def _without(owner: object, name: str, instead: object) -> Callable[[], AbstractContextManager[object]]:
    """Return a fault: something of the package is replaced for as long as the context lasts."""
    return lambda: mock.patch.object(owner, name, instead)


# --- CredSSP ---


def _ts_request(data: bytes) -> bytes:
    framed(lambda part: der.frame_size(part, _LIMIT), data)
    message = ts_request.TSRequest.decode(data)
    theirs = _asn1().decode("TSRequest", data)
    tokens = [item["negoToken"] for item in theirs.get("negoTokens", [])]
    assert (message.nego_token or b"") == (tokens[0] if tokens else b"")
    assert message.version == theirs["version"]
    assert message.auth_info == theirs.get("authInfo")
    assert message.pub_key_auth == theirs.get("pubKeyAuth")
    assert message.client_nonce == theirs.get("clientNonce")
    code = theirs.get("errorCode")
    assert message.error_code == (None if code is None else code & 0xFFFFFFFF)
    return round_trip(ts_request.TSRequest.decode, ts_request.TSRequest.encode, data)


def _ts_credentials(data: bytes) -> bytes:
    encoded = round_trip(ts_credentials.decode, ts_credentials.encode, data)
    theirs = _asn1().decode("TSCredentials", data)
    kind = {1: "TSPasswordCreds", 2: "TSSmartCardCreds", 6: "TSRemoteGuardCreds"}[theirs["credType"]]
    assert _asn1().decode(kind, theirs["credentials"]) is not None
    return encoded


def _credentials() -> Iterable[bytes]:
    yield ts_credentials.encode(ts_credentials.TSPasswordCreds.of("CONTOSO", "alice", "Passw0rd!"))
    detail = ts_credentials.TSCspDataDetail(key_spec=1, card_name=None, reader_name=None, container_name=None)
    yield ts_credentials.encode(ts_credentials.TSSmartCardCreds(pin=ts_credentials.SecretText(b""), csp_data=detail))
    package = ts_credentials.TSRemoteGuardPackageCred("Kerberos", ts_credentials.SecretText(b"ticket"))
    yield ts_credentials.encode(ts_credentials.TSRemoteGuardCreds(package, ()))


def _early_auth(data: bytes) -> bytes:
    encoded = early_auth.encode(early_auth.decode(data))
    assert encoded == data
    return encoded


def _lax_result(data: bytes) -> early_auth.AuthorizationResult:
    return early_auth.AuthorizationResult.SUCCESS if data[:1] == b"\0" else early_auth.AuthorizationResult.ACCESS_DENIED


def _ticket_logon(data: bytes) -> bytes:
    logon = ticket_logon.KerbTicketLogon.decode(data)
    sizes = [int.from_bytes(data[at : at + 4], "little") for at in (8, 12)]
    assert [len(logon.service_ticket), len(logon.ticket_granting_ticket)] == sizes, "a ticket was cut"
    return round_trip(ticket_logon.KerbTicketLogon.decode, ticket_logon.KerbTicketLogon.encode, data)


def _ticket_logons() -> Iterable[bytes]:
    yield bytes(ticket_logon.KerbTicketLogon(b"service", SecretBytes(b"granting")).encode())


# --- NTLM and SPNEGO ---


def _ntlm_negotiate(data: bytes) -> bytes:
    message = ntlm.NegotiateMessage.decode(data)
    assert message.raw == data
    assert data.startswith(b"NTLMSSP\0\1\0\0\0")
    return message.flags.to_bytes(4, "little")


def _lax_negotiate(data: bytes) -> ntlm.NegotiateMessage:
    return ntlm.NegotiateMessage(int.from_bytes(data[12:16], "little"), data)


def _ntlm_challenge(data: bytes) -> bytes:
    message = ntlm.ChallengeMessage.decode(data)
    for field in (message.target_name, message.target_info):
        assert not field or field in data[48:], "a field lies outside of the payload"
    pairs = ntlm.decode_av_pairs(message.target_info, "target info") if message.target_info else {}
    assert sum(4 + len(value) for value in pairs.values()) <= len(message.target_info)
    return repr((message, sorted(pairs.items()))).encode()


def _ntlm_authenticate(data: bytes) -> bytes:
    message = ntlm.AuthenticateMessage.decode(data)
    lengths = [int.from_bytes(data[at : at + 2], "little") for at in (12, 20, 28, 36, 44, 52)]
    fields = (message.lm_response, message.nt_response, message.domain, message.user, message.workstation)
    assert [len(field) for field in (*fields, message.encrypted_session_key)] == lengths, "a field was cut"
    assert all(not field or field in data[64:] for field in fields), "a field lies outside of the payload"
    made = repr((message.flags, message.payload_offset)).encode() + b"".join(fields)
    if len(message.nt_response) > 24:
        response = ntlm.NTLMv2Response.decode(message.nt_response)
        assert response.proof + response.temp == message.nt_response
        if response.mic_announced:
            assert len(message.mic) == 16
    return made


def _spnego_init(data: bytes) -> bytes:
    token = spnego.NegTokenInit.decode(data)
    assert 0 < len(token.mech_types) <= 32
    asn1_parser.parse(data, strict=True)  # raises where bytes follow
    assert token.mech_list in data, "the list that a mic covers is another one"
    content = b"".join(each[2:] for each in token.mech_types)
    assert len(content) <= len(token.mech_list)
    again = spnego.NegTokenInit.decode(spnego.NegTokenInit.encode(token.mech_list, token.mech_token or b""))
    assert (again.mech_types, again.mech_token or b"") == (token.mech_types, token.mech_token or b"")
    return token.mech_list + (token.mech_token or b"") + (token.mech_list_mic or b"")


def _spnego_resp(data: bytes) -> bytes:
    encoded = round_trip(spnego.NegTokenResp.decode, spnego.NegTokenResp.encode, data)
    asn1_parser.parse(data, strict=True)  # raises where bytes follow
    return encoded


def _responses() -> Iterable[bytes]:
    for token in seeds.negotiate_tokens():
        if token[:1] == b"\xa1":
            yield token


def _inits() -> Iterable[bytes]:
    yield from (token for token in seeds.negotiate_tokens() if spnego.SPNEGO in token[:16])


def _gss(data: bytes) -> bytes:
    """The first byte says from whom the token is, and which token of Kerberos is read."""
    if not data:
        return b""
    from_acceptor, token = bool(data[0] & 1), data[1:]
    match data[0] >> 1 & 3:
        case 0:
            gss.check_context_token(token, *gss.ContextToken)
            return b"context"
        case 1:
            gss.check_mic(token, from_acceptor=from_acceptor)
            assert token.startswith((b"\x04\x04", b"\x60"))
            return b"mic"
        case _:
            copies = gss.unrotated(token, from_acceptor=from_acceptor)
            assert all(sorted(copy[16:]) == sorted(token[16:]) for copy in copies), "a rotation changes bytes"
            return b"|".join(copies)


def _gss_tokens() -> Iterable[bytes]:
    for from_acceptor in (0, 1):
        yield bytes((2 | from_acceptor, 4, 4, 4 | from_acceptor)) + b"\xff" * 5 + bytes(8 + 12)
        yield bytes((4 | from_acceptor, 5, 4, 6 | from_acceptor)) + b"\xff\0\0\0\x1c" + bytes(8 + 60)
    oid = bytes.fromhex("06092a864886f712010202")
    yield b"\0" + der.encode(0x60, oid + b"\1\0" + der.encode(0x6E, b"ticket"))


# --- what comes in front of TLS ---


def _x224(decode: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    def run(data: bytes) -> bytes:
        total = framed(x224.frame_size, data)
        return decode(data[:total] if total else data)

    return run


def _request(data: bytes) -> bytes:
    x224.ConnectionRequest.decode(data)
    assert data[4:6] == bytes((len(data) - 5, 0xE0)), "another pdu than a connection request"
    return round_trip(x224.ConnectionRequest.decode, x224.ConnectionRequest.encode, data)


def _confirm(data: bytes) -> bytes:
    encoded = round_trip(x224.ConnectionConfirm.decode, x224.ConnectionConfirm.encode, data)
    assert encoded[-4:] == data[-4:] or len(encoded) == 11, "another protocol than the one that was sent"
    return encoded


def _preconnection(data: bytes) -> bytes:
    total = framed(preconnection.frame_size, data)
    pdu = preconnection.PreconnectionPDU
    return round_trip(pdu.decode, pdu.encode, data[:total] if total else data)


def _preconnections() -> Iterable[bytes]:
    yield preconnection.PreconnectionPDU(id=7).encode()
    yield preconnection.PreconnectionPDU(id=7, blob="vm-1").encode()


def _proxy_header(data: bytes) -> bytes:
    total = framed(proxy_header.frame_size, data)
    header = proxy_header.ProxyHeader.decode(data[:total] if total else data)
    encoded = round_trip(proxy_header.ProxyHeader.decode, proxy_header.ProxyHeader.encode, header.encode())
    if header.checksum and encoded[:-7] == data[: total - 7]:
        assert encoded == data[:total], "a wrong checksum was taken"
    assert repr((header.authority, header.unique_id, header.tls))
    return encoded


def _proxy_headers() -> Iterable[bytes]:
    yield b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 3389\r\n"
    yield b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 3389\r\n"
    yield b"PROXY UNKNOWN\r\n"
    line = proxy_header.ProxyHeader.decode(b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 3389\r\n")
    yield proxy_header.ProxyHeader(
        family=line.family,
        source=line.source,
        destination=line.destination,
        tlvs=((2, b"gateway.contoso.com"), (5, b"id"), (0x20, b"\x01\0\0\0\0\x21\0\x07TLSv1.3")),
        checksum=True,
    ).encode()


def _tls_records(data: bytes) -> bytes:
    ends, offset = [], 0
    while offset < len(data):
        framed(_record_size, data[offset:])
        end = tls_record.record_end(data, offset)
        if end > len(data):
            break
        assert 20 <= data[offset] <= 23
        assert end - offset <= tls_record.HEADER_SIZE + tls_record.MAX_FRAGMENT
        ends.append(end)
        offset = end
    end, count = tls_record.whole_records(data)
    assert count <= len(ends)
    assert end == ([0, *ends][count]), "records together end elsewhere than one by one"
    return repr(ends).encode()


def _record_size(part: bytes) -> FrameSize:
    end = tls_record.record_end(part)
    whole = len(part) >= tls_record.HEADER_SIZE
    return FrameSize(end if whole else 0, max(0, end - len(part)))


def _records() -> Iterable[bytes]:
    yield b"\x16\x03\x01\x00\x04\x01\0\0\0\x14\x03\x03\x00\x01\x01\x17\x03\x03\x00\x05hello\x15\x03\x03\x00\x02\x02\x28"


# --- what comes behind the logon ---


def _mcs(data: bytes) -> bytes:
    """Rewrite the protocols of either of the first PDUs: four bytes change, and no other."""
    total = framed(mcs.frame_size, data)
    pdu = data[:total] if total else data
    find = mcs.selected_protocol_at if pdu[7:9] == b"\x7f\x65" else mcs.requested_protocols_at
    at = find(pdu)
    if at is None:
        return b""
    written = mcs.write_protocols(pdu, at, x224.Protocols.HYBRID)
    assert len(written) == len(pdu), "a rewritten pdu has another size"
    assert written[:at] + written[at + 4 :] == pdu[:at] + pdu[at + 4 :], "a rewritten pdu has other bytes"
    assert find(written) == at
    return written


def _redirection(data: bytes) -> bytes:
    whole = redirection.RedirectionWatch()
    whole.receive(data)
    cut = redirection.RedirectionWatch()
    for offset in range(0, len(data), 7):
        cut.receive(data[offset : offset + 7])
    assert cut.found == whole.found, "what is found depends on where the bytes are cut"
    assert cut.wants_more == whole.wants_more
    return repr(whole.found).encode()


def _redirections() -> Iterable[bytes]:
    """A Server Redirection PDU with each field that is read, in its MCS packet ([MS-RDPBCGR] 2.2.13.1)."""
    texts = [(0x100, "sh2.contoso.com"), (0x200, "SH2"), (1, "192.0.2.1")]
    for flag, text in texts:
        content = f"{text}\0".encode("utf-16-le")
        fields = (len(content)).to_bytes(4, "little") + content + bytes(8)
        packet = (12 + len(fields)).to_bytes(2, "little") + b"\7\0\0\0" + flag.to_bytes(4, "little") + fields
        body = b"\0\0\0\4" + packet
        share = (6 + len(body)).to_bytes(2, "little") + b"\x1a\0\xea\3" + body
        user_data = bytes.fromhex("02f080 68 0001 03eb 70") + (0x8000 | len(share)).to_bytes(2, "big") + share
        yield b"\3\0" + (4 + len(user_data)).to_bytes(2, "big") + user_data


# --- certificates ---


def _x509(data: bytes) -> bytes:
    front = x509.front(data)
    assert front.key_info in data
    assert front.key_info.endswith(x509.subject_public_key(data)), "bytes follow the key"
    made = [front.issuer, front.subject, x509.subject_public_key(data), x509.pin_of(data).encode()]
    made += x509.signature_algorithms(data)
    made += x509.key_algorithm(front.key_info)
    return b"".join(made)


def _certificates() -> Iterable[bytes]:
    for key_type in ("rsa", "ec"):
        certificate, _ = tls_config.self_signed(["localhost"], key_type)
        yield ssl.PEM_cert_to_DER_cert(certificate.decode())


# --- files ---


def _users(data: bytes) -> bytes:
    users = users_file.Users.parse(data)
    assert len(users) <= data.count(b"\n") + 1
    return f"{len(users)} {users.by_ticket_alone}".encode()


def _users_files() -> Iterable[bytes]:
    yield b"CONTOSO:alice:Passw0rd!\n# a comment\nCONTOSO:bob:" + b"0" * 31 + b"1\r\nCONTOSO=contoso.com\nFABRIKAM:*:\n"


def _delegation(data: bytes) -> bytes:
    fields = toml.read_fields(data.decode())
    assert isinstance(fields.get("domain_joined", False), bool)
    return repr(sorted(fields.items())).encode()


def _delegations() -> Iterable[bytes]:
    yield b'AllowDefaultCredentials = ["TERMSRV/*.contoso.com"]\nDomainJoined = true\n'


# --- HTTP ---


def _http_headers(data: bytes) -> bytes:
    headers = [tuple(line.split(b":", 1)) for line in data.split(b"\n") if b":" in line]
    offered = http_headers.challenges(http_headers.values_of(headers, "WWW-Authenticate"))
    token = http_headers.challenge_token(headers)
    assert token is None or any(each.scheme.lower() == "credssp" for each in offered)
    answer = http_headers.authorization_token(headers)
    if answer:
        written = [("Authorization", http_headers.with_token(answer))]
        assert http_headers.authorization_token(written) == answer
    return repr((offered, token, answer)).encode()


def _http_fields() -> Iterable[bytes]:
    yield b'WWW-Authenticate: Negotiate, CredSSP TlRMTVNTUAA=, Digest realm="a, CredSSP"\nAuthorization: CredSSP AAEC'


_OIDS: Final = (spnego.SPNEGO, spnego.NTLM, spnego.KERBEROS, spnego.KERBEROS_MICROSOFT)
"""The object identifiers that tokens name, in DER."""

TARGETS: Final = (
    Target(
        "ts-request",
        _ts_request,
        seeds.ts_requests,
        _without(ts_request.der, "expect_end", lambda *_: None),
        words=[b"NTLMSSP\0", b"\xa0\3\2\1\6", b"\xa4\6\2\4"],
    ),
    Target(
        "ts-credentials",
        _ts_credentials,
        _credentials,
        _without(ts_credentials.der, "expect_end", lambda *_: None),
        words=[b"\xa0\3\2\1\1", b"\xa0\3\2\1\2", b"\xa0\3\2\1\6", b"\4\0", b"\4\2A\0", b"\xa2\2\4\0"],
    ),
    Target(
        "early-authorization",
        _early_auth,
        lambda: (b"\0\0\0\0", b"\5\0\0\0"),
        _without(early_auth, "decode", _lax_result),
    ),
    Target(
        "ticket-logon",
        _ticket_logon,
        _ticket_logons,
        _without(ticket_logon, "_slice", lambda data, offset, size: data[offset : offset + size]),
    ),
    Target(
        "ntlm-negotiate",
        _ntlm_negotiate,
        lambda: seeds.ntlm_messages(1),
        _without(ntlm.NegotiateMessage, "decode", _lax_negotiate),
    ),
    Target(
        "ntlm-challenge",
        _ntlm_challenge,
        lambda: seeds.ntlm_messages(2),
        _without(ntlm, "_check_field", lambda *_: None),
    ),
    Target(
        "ntlm-authenticate",
        _ntlm_authenticate,
        lambda: seeds.ntlm_messages(3),
        _without(ntlm, "_check_field", lambda *_: None),
    ),
    Target("spnego-init", _spnego_init, _inits, _without(spnego.der, "expect_end", lambda *_: None), words=_OIDS),
    Target(
        "spnego-resp",
        _spnego_resp,
        _responses,
        _without(spnego.der, "expect_end", lambda *_: None),
        words=[*_OIDS, *(bytes((0xA0, 3, 10, 1, state)) for state in range(4))],
    ),
    Target(
        "gss",
        _gss,
        _gss_tokens,
        _without(gss, "_expect_start", lambda *_: None),
        words=[*_OIDS, b"\4\4\4\xff", b"\5\4\6\xff", b"\xff\xff\xff\xff\xff"],
    ),
    Target("connection-request", _x224(_request), seeds.requests, _without(x224, "_check_pdu", lambda *_: 0)),
    Target(
        "connection-confirm",
        _x224(_confirm),
        seeds.confirms,
        _without(x224, "_decode_negotiation", lambda *_: (2, 0, 2)),
    ),
    Target(
        "preconnection",
        _preconnection,
        _preconnections,
        _without(preconnection, "_decode_blob", lambda data: data[18:].decode("utf-16-le", "replace")),
    ),
    Target(
        "proxy-header",
        _proxy_header,
        _proxy_headers,
        _without(proxy_header, "_check_checksum", lambda *_: None),
        words=[b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"],
    ),
    Target("tls-records", _tls_records, _records, _without(tls_record, "_refuse", lambda *_: None)),
    Target(
        "mcs",
        _mcs,
        lambda: (),
        _without(
            mcs,
            "write_protocols",
            lambda data, offset, protocols: data[:offset] + bytes(protocols.to_bytes(5, "little")) + data[offset + 4 :],
        ),
    ),
    Target(
        "redirection",
        _redirection,
        _redirections,
        _without(redirection.mcs, "frame_size", lambda data: FrameSize(len(data), 0)),
    ),
    Target("x509", _x509, _certificates, _without(x509.der, "expect_end", lambda *_: None)),
    Target(
        "users-file",
        _users,
        _users_files,
        _without(users_file, "_split", bytes.splitlines),
        words=[b"$NT$", b":*:", b"\xef\xbb\xbf", b"# "],
        refuses=(ValueError,),
    ),
    Target(
        "delegation-file",
        _delegation,
        _delegations,
        _without(toml, "_take_bool", lambda content, key: content.pop(key, None)),
        words=[b" = 1", b" = []", b"true", b"false", b"DomainJoined"],
        refuses=(ValueError,),
    ),
    Target(
        "http-headers",
        _http_headers,
        _http_fields,
        _without(http_headers, "_decoded", base64.b64decode),
        words=[b"WWW-Authenticate: ", b"Authorization: ", b"CredSSP ", b"Negotiate ", b'realm="', b", ", b"=="],
        refuses=(HTTPProtocolError,),
    ),
)
