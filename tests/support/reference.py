"""CredSSP made of parts of other projects, a reference with which tests compare acredssp's engine.

asn1tools reads and writes the messages after the ASN.1 module of [MS-CSSP]; pyspnego, MIT's GSS-API (Kerberos, and with
gss-ntlmssp NTLM in C) or sspi-rs authenticates; hashlib binds. Nothing of acredssp is used. The peers speak bare
TSRequests, with TLS and the server's key left to the caller, as generators: each takes the peer's message and yields
its own, and returns a `Result`.
"""

import contextlib
import dataclasses
import hashlib
import os
from pathlib import Path

import asn1tools
import pytest
import spnego
import sspilib
from spnego.exceptions import SpnegoError

try:
    import gssapi
except ImportError:  # it is compiled on installation, where Kerberos headers are
    gssapi = None

MODULE = asn1tools.compile_files(str(Path(__file__).parent.parent / "vectors" / "cssp.asn"), "der")

DOMAIN, USER, PASSWORD = "CONTOSO", "alice", "Passw0rd!"
ACCOUNTS = f"{DOMAIN}:{USER}:{PASSWORD}\n"
"""A file that pyspnego's and gss-ntlmssp's acceptors both read, named by NTLM_USER_FILE."""
HOST = "localhost"

LOGON_FAILURE = 0xC000006D - (1 << 32)
"""STATUS_LOGON_FAILURE in the four bytes that every peer reads."""
ERROR_CODE_VERSIONS = (3, 4, 6)
FIRST_HASHED_VERSION = 5

NTLM, KERBEROS, SPNEGO = "1.3.6.1.4.1.311.2.2.10", "1.2.840.113554.1.2.2", "1.3.6.1.5.5.2"
ACCOUNT = f"{DOMAIN}\\{USER}"
NTLM_AUTHENTICATE = b"NTLMSSP\0\x03\0\0\0"


class Refused(Exception):
    """The reference peer does not go on; for `errorCode` the number is in the message."""


@dataclasses.dataclass(frozen=True)
class Result:
    """The results that a reference peer has at the end."""

    version: int
    principal: str | None = None
    credentials: tuple[str, str, str] | None = None
    """Acceptor: domain, user and password as delegated."""


def encode(**fields):
    return MODULE.encode("TSRequest", fields)


def decode(message):
    return MODULE.decode("TSRequest", message)


def tokens(token):
    return {"negoTokens": [{"negoToken": token}]} if token else {}


def token_of(request):
    return request["negoTokens"][0]["negoToken"] if "negoTokens" in request else None


def key_binding(direction, version, nonce, public_key):
    """What pubKeyAuth seals: [MS-CSSP] 3.1.5, the hash from version 5 and the key itself before."""
    if version < FIRST_HASHED_VERSION:
        return public_key if direction == "Client-To-Server" else bytes([public_key[0] + 1]) + public_key[1:]
    return hashlib.sha256(f"CredSSP {direction} Binding Hash\0".encode() + nonce + public_key).digest()


class Authenticator:
    """One side of one exchange of NTLM, SPNEGO or Kerberos, by another project's library."""

    failure: type[Exception]
    """What its library raises."""

    def __init__(self, context):
        self._context = context

    @property
    def complete(self):
        return self._context.complete

    def step(self, token):
        try:
            return self._context.step(token)
        except self.failure as error:
            raise Refused(str(error)) from error


class Pyspnego(Authenticator):
    """pyspnego's own NTLM and SPNEGO, in Python; its Kerberos is MIT's library."""

    name = "pyspnego"
    failure = SpnegoError

    @classmethod
    def initiator(cls, protocol, password=PASSWORD, account=ACCOUNT):
        return cls(spnego.client(account, password, hostname=HOST, service="TERMSRV", protocol=protocol))

    @classmethod
    def acceptor(cls, protocol):
        return cls(spnego.server(hostname=HOST, service="TERMSRV", protocol=protocol))

    @property
    def principal(self):
        return self._context.client_principal

    def wrap(self, plaintext):
        return self._context.wrap(plaintext).data

    def unwrap(self, sealed):
        return self._context.unwrap(sealed).data


class GSSAPI(Authenticator):
    """MIT's libgssapi: its SPNEGO and Kerberos, and NTLM by gss-ntlmssp."""

    name = "gss-ntlmssp"
    failure = gssapi.exceptions.GSSError if gssapi is not None else None
    inner = NTLM
    """What it authenticates with, inside SPNEGO or without."""

    @classmethod
    def require(cls):
        """Skip the test where the library or its mechanism is not installed."""
        if gssapi is None:
            pytest.skip("gssapi is missing: apt-get install libkrb5-dev, then make test")
        if gssapi.OID.from_int_seq(cls.inner) not in gssapi.raw.indicate_mechs():
            pytest.skip(f"{cls.name} is missing: apt-get install {cls.name}")

    @classmethod
    def initiator(cls, protocol, password=PASSWORD, account=ACCOUNT):
        name = gssapi.Name(account, gssapi.NameType.user)
        mechanisms = cls._mechanisms(protocol)
        acquired = gssapi.raw.acquire_cred_with_password(name, password.encode(), mechs=mechanisms)
        flag = gssapi.RequirementFlag
        mutual = flag.mutual_authentication if cls.inner == KERBEROS else 0
        context = gssapi.SecurityContext(
            name=gssapi.Name(f"TERMSRV@{HOST}", gssapi.NameType.hostbased_service),
            creds=gssapi.Credentials(acquired.creds),
            mech=mechanisms[0],
            flags=mutual
            | flag.confidentiality
            | flag.integrity
            | flag.out_of_sequence_detection
            | flag.replay_detection,
            usage="initiate",
        )
        return cls(context)

    @classmethod
    def acceptor(cls, protocol):
        credentials = gssapi.raw.acquire_cred(None, usage="accept", mechs=cls._mechanisms(protocol)).creds
        if protocol == "negotiate":
            gssapi.raw.set_neg_mechs(credentials, [gssapi.OID.from_int_seq(cls.inner)])
        return cls(gssapi.SecurityContext(creds=gssapi.Credentials(credentials), usage="accept"))

    @classmethod
    def _mechanisms(cls, protocol):
        oids = [SPNEGO, cls.inner] if protocol == "negotiate" else [cls.inner]
        return [gssapi.OID.from_int_seq(oid) for oid in oids]

    @property
    def principal(self):
        return str(self._context.initiator_name).rstrip("\0")  # gss-ntlmssp counts its C string's end as a character

    def wrap(self, plaintext):
        return self._context.wrap(plaintext, encrypt=True).message

    def unwrap(self, sealed):
        return self._context.unwrap(sealed).message


class SSPIRs(Authenticator):
    """sspi-rs, in Rust: what IronRDP and Devolutions Gateway log on with. Its acceptor has no SPNEGO without a KDC."""

    name = "sspi-rs"
    failure = sspilib.WindowsError
    principal = ACCOUNT
    """An acceptor lets in every client that has the credentials with which it was made."""

    @classmethod
    def initiator(cls, protocol, password=PASSWORD):
        return cls(sspilib.ClientSecurityContext(cls._credential(protocol, password, "initiate"), f"TERMSRV/{HOST}"))

    @classmethod
    def acceptor(cls, protocol):
        return cls(sspilib.ServerSecurityContext(cls._credential(protocol, PASSWORD, "accept")))

    @staticmethod
    def _credential(protocol, password, usage):
        package, without = ("NTLM", None) if protocol == "ntlm" else ("Negotiate", ["!kerberos"])
        return sspilib.UserCredential(
            USER, password, domain=DOMAIN, protocol=package, usage=usage, protocol_list=without
        )

    def wrap(self, plaintext):
        return self._context.wrap(plaintext)

    def unwrap(self, sealed):
        return self._context.unwrap(sealed).data


class MITKerberos(GSSAPI):
    """The same with Kerberos: tokens as `gss_wrap` leaves them, unrotated."""

    name = "libgssapi-krb5-2"
    inner = KERBEROS


def accept(mechanism, own_version, public_key):
    """A CredSSP server."""
    request = decode((yield))
    version = min(own_version, request["version"])
    try:
        while True:
            token = mechanism.step(token_of(request)) if "negoTokens" in request else None
            if "pubKeyAuth" in request:
                break
            request = decode((yield encode(version=own_version, **tokens(token))))
    except Refused:
        if version in ERROR_CODE_VERSIONS:
            yield encode(version=own_version, errorCode=LOGON_FAILURE)
        raise
    nonce = request.get("clientNonce")
    bound = mechanism.unwrap(request["pubKeyAuth"])
    if bound != key_binding("Client-To-Server", version, nonce, public_key):
        raise Refused("the client is bound to another key")
    proof = mechanism.wrap(key_binding("Server-To-Client", version, nonce, public_key))
    request = decode((yield encode(version=own_version, pubKeyAuth=proof, **tokens(token))))
    return Result(version, mechanism.principal, _password_credentials(mechanism.unwrap(request["authInfo"])))


def initiate(mechanism, own_version, public_key, *, bundle=False):
    """A CredSSP client; with `bundle`, pubKeyAuth goes beside the last token even while SPNEGO owes a mechListMIC."""
    token = mechanism.step(None)
    while not (mechanism.complete or (bundle and token and NTLM_AUTHENTICATE in token)):
        reply = _answer((yield encode(version=own_version, **tokens(token))))
        token = mechanism.step(token_of(reply))
    version = min(own_version, reply["version"])
    nonce = os.urandom(32) if version >= FIRST_HASHED_VERSION else None
    sealed = mechanism.wrap(key_binding("Client-To-Server", version, nonce, public_key))
    proof = {"pubKeyAuth": sealed, **({"clientNonce": nonce} if nonce else {})}
    reply = _answer((yield encode(version=own_version, **tokens(token), **proof)))
    if not mechanism.complete:
        mechanism.step(token_of(reply))
    if mechanism.unwrap(reply["pubKeyAuth"]) != key_binding("Server-To-Client", version, nonce, public_key):
        raise Refused("the server is bound to another key")
    yield encode(version=own_version, authInfo=mechanism.wrap(_encoded_password_credentials()))
    return Result(version)


def _answer(message):
    reply = decode(message)
    if "errorCode" in reply:
        raise Refused(f"errorCode 0x{reply['errorCode'] & 0xFFFFFFFF:08X}")
    return reply


def _encoded_password_credentials():
    names = zip(("domainName", "userName", "password"), (DOMAIN, USER, PASSWORD), strict=True)
    inner = MODULE.encode("TSPasswordCreds", {field: text.encode("utf-16-le") for field, text in names})
    return MODULE.encode("TSCredentials", {"credType": 1, "credentials": inner})


def _password_credentials(encoded):
    credentials = MODULE.decode("TSCredentials", encoded)
    assert credentials["credType"] == 1
    inner = MODULE.decode("TSPasswordCreds", credentials["credentials"])
    return tuple(inner[field].decode("utf-16-le") for field in ("domainName", "userName", "password"))


def converse(reference, answer, message=None):
    """Let a reference peer talk until it is done.

    Args:
        reference: `accept()` or `initiate()`.
        answer: Takes the reference peer's message and gives ours.
        message: Our first one; None where the reference peer begins.

    Returns:
        The `Result` of the reference peer.
    """
    theirs = next(reference)
    if message is not None:
        theirs = reference.send(message)
    with contextlib.closing(reference):
        while True:
            try:
                theirs = reference.send(answer(theirs))
            except StopIteration as end:
                return end.value
