"""Targets for what judges or takes apart more than one message: chains, requests for certificates, bodies, settings."""

import datetime as dt
import functools
import pathlib
import re
import ssl
import tomllib
import types
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final
from unittest import mock

from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from acredssp import tls_config
from acredssp.certificates import path as certificate_path
from acredssp.core import client_certificate
from acredssp.core.tls import TLSSession
from acredssp.errors import CredSSPError
from acredssp.http import opening, sealing
from acredssp.http.errors import HTTPProtocolError
from acredssp.policy import Policy
from acredssp.proxy import settings
from acredssp.trust import Trust
from acredssp.wire import der
from fuzz.program import Program
from fuzz.target import Target

__all__ = ["TARGETS"]

_NOW: Final = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
_HOST: Final = "host.example"


def _without(owner: object, name: str, instead: object) -> Callable[[], AbstractContextManager[object]]:
    return lambda: mock.patch.object(owner, name, instead)


# --- the judge of certificates ---


@functools.cache
def _key(number: int) -> ec.EllipticCurvePrivateKey:
    """A key that is the same in every run."""
    return ec.derive_private_key(number + 1, ec.SECP256R1())


def _certificate(name: str, number: int, by: tuple[str, int], *, authority: bool) -> bytes:
    """A certificate that is the same in every run."""
    usages = ("key_cert_sign", "crl_sign") if authority else ("digital_signature",)
    usage = x509.KeyUsage(**{each: each in usages for each in _USAGES})
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(by[0]))
        .public_key(_key(number).public_key())
        .serial_number(number + 1)
        .not_valid_before(_NOW - dt.timedelta(days=1))
        .not_valid_after(_NOW + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(usage, critical=True)
    )
    if not authority:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(_HOST)]), critical=False)
    return builder.sign(_key(by[1]), hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


_USAGES: Final = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


@functools.cache
def _chain() -> tuple[bytes, ...]:
    """A server's certificate, the authority above it, and the trusted root."""
    return (
        _certificate("server", 2, ("middle", 1), authority=False),
        _certificate("middle", 1, ("root", 0), authority=True),
        _certificate("root", 0, ("root", 0), authority=True),
    )


@functools.cache
def _trust() -> Trust:
    return Trust(authorities=(x509.load_der_x509_certificate(_chain()[2]),))


def _judge(data: bytes) -> bytes:
    """Judge a chain in which single bytes are changed, each certificate signed anew by its true issuer if told so.

    A trusted chain must be good by another reading: the signatures, the dates, the name, and who is an authority.
    """
    program = Program(data)
    chain = list(_chain())
    for _ in range(4):
        what = program.byte()
        if not what:
            break
        number = what % 2
        chain[number] = _changed(chain[number], program, None if what & 2 else _key(1 - number))
    order = program.choose(((0, 1), (0, 1, 2), (1, 0), (0,), (0, 0, 1), (1,)))
    shown = [chain[each] for each in order]
    judgement = _trust().judge(shown, _HOST, _NOW)
    if not judgement.trusted:
        raise judgement.error()
    _hold_good(shown)
    return b"trusted"


def _changed(certificate: bytes, program: Program, signer: ec.EllipticCurvePrivateKey | None) -> bytes:
    """Change a byte, or put bytes in place of some; sign the result if there is a key to sign with."""
    start, end = der.element(certificate, 0, len(certificate), der.SEQUENCE, "certificate")
    _, body_end = der.element(certificate, start, end, der.SEQUENCE, "body")
    at = program.number(1024) % (len(certificate) if signer is None else body_end - start)
    at += 0 if signer is None else start
    changed = certificate[:at] + bytes((certificate[at] ^ (program.byte() or 1),)) + certificate[at + 1 :]
    if signer is None:
        return changed
    body = changed[start:body_end]
    signature = signer.sign(body, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    bits = der.encode(0x03, b"\0" + signature)
    _, algorithm_end = der.element(certificate, body_end, end, der.SEQUENCE, "algorithm")
    return der.encode(der.SEQUENCE, body + certificate[body_end:algorithm_end] + bits)


def _hold_good(shown: list[bytes]) -> None:
    """Read a trusted chain by asn1crypto, and find a path in it that holds."""
    links = {each: asn1_x509.Certificate.load(each) for each in (*shown, _chain()[2])}
    leaf = links[shown[0]]
    names = leaf.subject_alt_name_value
    assert names is not None, "a certificate without a name is trusted"
    assert _HOST in [str(name).lower() for name in names.native], "a certificate for another name is trusted"
    link, above = shown[0], [each for each in links if each != shown[0]]
    while link != _chain()[2]:
        validity = links[link]["tbs_certificate"]["validity"].native
        assert validity["not_before"] <= _NOW <= validity["not_after"], "a certificate is trusted beside its time"
        issuers = [each for each in above if _issued(links[link], links[each])]
        assert issuers, "nobody has signed a trusted certificate"
        link = issuers[0]
        above.remove(link)
        basic = links[link].basic_constraints_value
        assert basic is not None, "somebody without constraints is taken for an authority"
        assert basic["ca"].native, "a server is taken for an authority"


def _issued(link: asn1_x509.Certificate, issuer: asn1_x509.Certificate) -> bool:
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes(issuer.public_key["public_key"]))
    try:
        key.verify(bytes(link["signature_value"]), link["tbs_certificate"].dump(), ec.ECDSA(hashes.SHA256()))
    except Exception:  # noqa: BLE001 - whatever fails, it is no signature
        return False
    return True


# --- a server's request for a certificate ---


def _request(data: bytes) -> bytes:
    """The first byte says of which version of TLS the request is. Names that come out are those that went in."""
    if data[:1] == b"\x03":
        names = client_certificate._authorities_of_tls13(data[1:])  # noqa: SLF001
    else:
        names = client_certificate._authorities_in_clear(data[1:], 2 if data[:1] == b"\x01" else 3)  # noqa: SLF001
    at = 0
    for name in names:
        at = data.find(len(name).to_bytes(2, "big") + name, at) + 2
        assert at > 1, "a name is not in the request"
        at += len(name)
    return b"|".join(names)


def _requests() -> Iterable[bytes]:
    names = b"".join(len(name).to_bytes(2, "big") + name for name in (b"\x30\x03abc", b"\x30\0"))
    listed = len(names).to_bytes(2, "big") + names
    yield b"\2\x0d\0\0\x20" + b"\x02\x01\x40" + b"\0\2\4\3" + listed
    yield b"\1\x0d\0\0\x1c" + b"\x02\x01\x40" + listed
    extension = b"\0\x0d\0\4\0\2\4\3" + b"\0\x2f" + len(listed).to_bytes(2, "big") + listed
    yield b"\3\x0d\0\0\x20" + b"\0" + len(extension).to_bytes(2, "big") + extension


# --- sealed bodies of HTTP ---


@functools.cache
def _tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    policy = Policy()
    return tls_config.client_context(policy), tls_config.server_context_from_pem(
        policy, *tls_config.self_signed(["localhost"], "ec")
    )


def _sessions() -> tuple[Any, Any]:
    """Two ends of a new TLS connection, as far as sealing looks at their contexts."""
    theirs, ours = (TLSSession(context, server_side=bool(side)) for side, context in enumerate(_tls_contexts()))
    theirs.handshake()
    ours.handshake(theirs.output())
    theirs.handshake(ours.output())
    ours.handshake(theirs.output())
    sizes = types.SimpleNamespace(header=5, trailer=17, block=1, front=0)
    theirs.read(ours.output())
    return tuple(types.SimpleNamespace(tls=each, record_sizes=sizes) for each in (theirs, ours))


_PLAIN: Final = bytes(range(256)) * 130
"""More than two parts."""


def _sealed_body(data: bytes) -> bytes:
    """Open a body whose lines are changed and whose parts are cut, mixed and repeated; whole, and in pieces."""
    one, two = (_opened(Program(data), in_pieces) for in_pieces in (False, True))
    assert type(one) is type(two), "a body opens or not, depending on where it is cut"
    if isinstance(one, CredSSPError):
        raise one
    assert one == two, "what a body holds depends on where it is cut"
    return one


def _opened(program: Program, in_pieces: bool) -> bytes | CredSSPError:
    peer, ours = _sessions()
    plain = _PLAIN[: program.choose((700, 0, 1, 16_384, 16_385, 33_000))]
    kind, body = sealing.seal_body(peer, plain, program.choose(("text/plain", "a/b;c=d")))
    for _ in range(6):
        what = program.byte()
        if not what:
            break
        at, size = program.number(65_536) % (len(body) or 1), program.number(256)
        if what < 160:  # the lines are at the front
            at %= 220
        put = (program.take(program.number(16)), b"", body[at : at + size] * 2, b"\r\n", b" ")[what % 5]
        body = body[:at] + put + body[at + (size if what & 1 else 0) :]
    step = 1 + program.byte() * 8
    pieces = [body[start : start + step] for start in range(0, len(body), step)][:200] if in_pieces else [body]
    if in_pieces and len(pieces) == 200:
        pieces.append(body[200 * step :])
    opener = opening.Opener(ours, kind, limit=1 << 16)
    opened = b""
    try:
        for piece in pieces:
            opened += opener.feed(piece)
        opener.finish()
    except CredSSPError as error:
        return error
    assert plain.startswith(opened), "a body opens to bytes that were not sealed in this order"
    assert re.search(rb"--[ \t]*Encrypted Boundary--\s*$", body), "a body without an end is taken"
    return opener.content_type.encode() + b" " + opened


# --- the gateway's settings ---

_CANARY: Final = b"hunter2"
_SECRET_AS_IT_IS: Final = re.compile(rb'^password = "[^"\n]*hunter2', re.MULTILINE)


def _settings(data: bytes) -> bytes:
    """Read settings. No error may quote a secret that somebody wrote where the place of a secret belongs."""
    path = types.SimpleNamespace(read_bytes=lambda: data, parent=pathlib.Path("/nowhere"))
    refused: settings.SettingsError | None = None
    try:
        return repr(sorted(settings.read(path).targets)).encode()
    except settings.SettingsError as error:
        refused = error
    if len(_SECRET_AS_IT_IS.findall(data)) == data.count(_CANARY):
        assert _CANARY.decode() not in f"{refused!r}{refused}", "an error quotes a secret"
    raise refused


def _settings_files() -> Iterable[bytes]:
    yield b"""[[listeners]]
address = "127.0.0.1:3389"
certificates = [{ certificate = "gateway.pem", key = "gateway.key" }]
logon = { users = "users" }
routes = [{ groups = ["operators"], target = "servers" }]

[targets.servers]
addresses = ["server1.example.com:3389"]
credentials = "injected"
account = 'EXAMPLE\\svc'
password = "env:hunter2"

[groups]
operators = ["bob"]
"""


def _quoting(path: Any) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except ValueError as error:
        raise ValueError(f"{error}: {path.read_bytes()!r}") from None


TARGETS: Final = (
    Target(
        "certificate-judge",
        _judge,
        lambda: (bytes(12), b"\0\1" + bytes(10)),
        _without(certificate_path, "verify_signature", lambda *_: None),
        size=64,
        kept=80,
    ),
    Target(
        "certificate-request",
        _request,
        _requests,
        _without(
            client_certificate, "_vector", lambda data, size: (data[size : size + data[size - 1]], data[size * 2 :])
        ),
        size=512,
    ),
    Target(
        "http-sealed-body",
        _sealed_body,
        lambda: (bytes((size, 0, 0)) + bytes(20) for size in range(6)),
        _without(opening.Opener, "finish", lambda _: None),
        refuses=(HTTPProtocolError, CredSSPError),
        size=128,
        kept=40,
    ),
    Target(
        "gateway-settings",
        _settings,
        _settings_files,
        _without(settings, "_parsed", _quoting),
        words=[b"[[listeners]]", b"[targets.servers]", b" = ", b"true", b"{", b"}"],
        refuses=(settings.SettingsError,),
        size=2048,
        kept=80,
    ),
)
