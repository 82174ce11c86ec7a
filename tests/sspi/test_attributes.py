"""QueryContextAttributes (CredSSP): attribute by attribute, over contexts that the functions made."""

import datetime as dt
import hashlib
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support.certificates import Made
from support.endpoints import BOB, CERTIFICATE, KEY, PASSWORD, client_config, server_config, tls_policy
from support.records import CIPHERS, encrypt, query, split
from support.sspi import ASKED, CERTIFICATE_DER, CLIENT_FLAGS, OK, Client, Server, inbound, outbound, pair, talk

from acredssp.config import ServerConfig
from acredssp.credentials import Nothing, Password
from acredssp.policy import Policy
from acredssp.sspi import (
    ASC_RET,
    CERT_TRUST_STATUS,
    CREDSSP_CRED,
    CREDSSP_SERVER_AUTH,
    ISC_REQ,
    ISC_RET,
    KERB_CERTIFICATE_LOGON,
    KERB_INTERACTIVE_LOGON,
    SCHANNEL_CRED,
    SEC_WINNT_AUTH_IDENTITY,
    SECBUFFER_PKG_PARAMS,
    SECPKG_ATTR,
    SECPKG_NEGOTIATION,
    SP_PROT,
    CertContext,
    CredsspSubmitBufferBoth,
    CtxtHandle,
    FreeContextBuffer,
    QueryContextAttributes,
    SecBuffer,
    SecPkgContext_AccessToken,
    SecPkgContext_Bindings,
    SecPkgContext_ClientCreds,
    SecPkgContext_ClientSpecifiedTarget,
    SecPkgContext_ConnectionInfo,
    SecPkgContext_Flags,
    SecPkgContext_IssuerListInfoEx,
    SecPkgContext_Lifespan,
    SecPkgContext_Names,
    SecPkgContext_NativeNames,
    SecPkgContext_NegotiationInfo,
    SecPkgContext_PackageInfo,
    SecPkgContext_RemoteCertContext,
    SecPkgContext_SessionKey,
    SecPkgContext_Sizes,
    SecPkgContext_StreamSizes,
    SecPkgContext_SubjectAttributes,
    SecurityStatus,
    SetContextAttributes,
    TimeStamp,
    unpack_credentials,
)
from acredssp.sspi.attributes import _TRUST_ERRORS
from acredssp.sspi.certificates import is_self_signed
from acredssp.tls import end_point_binding
from acredssp.tls_config import server_context_from_pem
from acredssp.trust import Trust, Verdict
from acredssp.wire.ts_credentials import (
    TSCspDataDetail,
    TSPasswordCreds,
    TSRemoteGuardCreds,
    TSRemoteGuardPackageCred,
    TSSmartCardCreds,
    UnicodeString,
)

TLS = ["TLSv1.2", "TLSv1.3"]
CERTIFICATE_REQUEST = 13
INVALID_HANDLE = SecurityStatus.SEC_E_INVALID_HANDLE
UNSUPPORTED = SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION
NO_CREDENTIALS = SecurityStatus.SEC_E_NO_CREDENTIALS
BOBS_NAME = "CONTOSO\\bob"


async def contexts(tls="TLSv1.3", package="CREDSSP", client=None, server=None, **options):
    """A client and a server, established."""
    policy = tls_policy(tls)
    ends = await pair(client or client_config(policy), server or server_config(policy), package, **options)
    await talk(*ends)
    assert [end.status for end in ends] == [OK, OK], [end.error for end in ends]
    return ends


async def status_of(end, attribute, structure=None):
    status = await QueryContextAttributes(end.handle, attribute, structure)
    assert (end.error is None) == (status is OK)
    return status


@pytest.fixture(params=TLS)
def tls(request):
    return request.param


# --- certificates of every kind ---

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


def name_of(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def make(name="localhost", key=None, issuer=None, *, until=NOW + DAY, algorithm=hashes.SHA256, ca=False):
    """A certificate and its key; `issuer` is such a pair, None for self-signed."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    issuer_name, issuer_key = (issuer[0].subject, issuer[1]) if issuer else (name_of(name), key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(name))
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - 2 * DAY)
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if ca:
        usages = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            False,
        )
        usage = x509.KeyUsage(**usages, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False)
        builder = builder.add_extension(usage, critical=True)
    return builder.sign(issuer_key, None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else algorithm()), key


def server_with(certificate, key, policy=None):
    """A server that shows this certificate."""
    pem = certificate.public_bytes(Encoding.PEM)
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    context = server_context_from_pem(policy or Policy(), pem, key_pem)
    return ServerConfig(ssl_context=context, lookup=lambda _: Password(PASSWORD), policy=policy or Policy())


AUTHORITY = make("authority", ca=True)
ISSUED = make(issuer=AUTHORITY)
SELF_SIGNED = make()
EXPIRED = make(until=NOW - DAY)
OTHER_NAME = make("other.example", issuer=AUTHORITY)
SERVERS = {
    "issued": server_with(*ISSUED),
    "self": server_with(*SELF_SIGNED),
    "expired": server_with(*EXPIRED),
    "other": server_with(*OTHER_NAME),
    "ed25519": server_with(*make(key=ed25519.Ed25519PrivateKey.generate())),
}
TRUST = Trust(authorities=(AUTHORITY[0],))


# --- the call ---


@pytest.mark.requirement("Q2")
@pytest.mark.parametrize("attribute", [SECPKG_ATTR.SIZES, SECPKG_ATTR.NAMES, SECPKG_ATTR.STREAM_SIZES])
async def test_a_context_that_is_not_complete_has_no_attributes(attribute):
    client, server = await pair()
    await server.feed(await client.call())
    for end in (client, server):
        assert await status_of(end, attribute) is INVALID_HANDLE
    assert await QueryContextAttributes(CtxtHandle(), attribute, None) is INVALID_HANDLE


@pytest.mark.requirement("Q2")
@pytest.mark.parametrize(
    "attribute", [SECPKG_ATTR.ISSUER_LIST_EX, SECPKG_ATTR.CERT_TRUST_STATUS, SECPKG_ATTR.REMOTE_CERT_CONTEXT]
)
async def test_what_may_be_asked_early_is_refused_where_it_is_not_known_yet(attribute):
    client, _ = await pair()
    await client.call()
    assert await status_of(client, attribute) is INVALID_HANDLE


OF_WINDOWS = (
    SECPKG_ATTR.C_ACCESS_TOKEN,
    SECPKG_ATTR.C_FULL_ACCESS_TOKEN,
    SECPKG_ATTR.C_FULL_IDENT_TOKEN,
    SECPKG_ATTR.SUBJECT_SECURITY_ATTRIBUTES,
    124,
)
OF_CLIENTS = (SECPKG_ATTR.ISSUER_LIST_EX, SECPKG_ATTR.SERVER_AUTH_FLAGS, SECPKG_ATTR.CERT_TRUST_STATUS)
OF_SERVERS = (
    SECPKG_ATTR.CREDS,
    SECPKG_ATTR.CREDS_2,
    SECPKG_ATTR.CLIENT_SPECIFIED_TARGET,
    SECPKG_ATTR.LOCAL_CERT_CONTEXT,
)


@pytest.mark.requirement("Q3", "Q7", "Q8", "Q14", "Q15")
async def test_attributes_of_nobody_of_windows_and_of_the_other_side_are_refused():
    client, server = await contexts()
    for attribute in (*OF_WINDOWS, SECPKG_ATTR.SESSION_KEY, SECPKG_ATTR.DCE_INFO, 0x12345, -1):
        for end in (client, server):
            assert await status_of(end, attribute, SecPkgContext_AccessToken()) is UNSUPPORTED
    for end, attributes in ((client, OF_SERVERS), (server, OF_CLIENTS)):
        for attribute in attributes:
            assert await status_of(end, attribute) is UNSUPPORTED
    for structure in (SecPkgContext_SessionKey(), SecPkgContext_SubjectAttributes()):
        assert await status_of(client, SECPKG_ATTR.SESSION_KEY, structure) is UNSUPPORTED


@pytest.mark.requirement("Q1")
async def test_wrong_python_types_are_type_errors():
    client, _ = await contexts()
    for arguments in (
        (None, SECPKG_ATTR.NAMES, SecPkgContext_Names()),
        (client.handle, "NAMES", SecPkgContext_Names()),
        (client.handle, SECPKG_ATTR.NAMES, SecPkgContext_Sizes()),
        (client.handle, SECPKG_ATTR.NAMES, None),
    ):
        with pytest.raises(TypeError):
            await QueryContextAttributes(*arguments)


async def test_there_is_nothing_to_set():
    client, _ = await contexts()
    assert await SetContextAttributes(client.handle, SECPKG_ATTR.NAMES, SecPkgContext_Names()) is UNSUPPORTED


# --- packages ---


@pytest.mark.requirement("Q1", "Q4", "Q6")
@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
async def test_package_info_names_the_package_at_any_time(package):
    client, server = await pair(package=package)
    await client.call()
    assert (await query(client, SECPKG_ATTR.PACKAGE_INFO, SecPkgContext_PackageInfo())).PackageInfo.Name == package
    client, server = await contexts(package=package)
    for end in (client, server):
        info = await query(end, SECPKG_ATTR.PACKAGE_INFO, SecPkgContext_PackageInfo())
        assert info.PackageInfo.Name == package
        assert await FreeContextBuffer(info) is OK
        assert info.PackageInfo is None


@pytest.mark.requirement("Q12")
async def test_the_package_that_negotiate_chose_is_named():
    for end in await contexts():
        info = await query(end, SECPKG_ATTR.NEGOTIATION_PACKAGE, SecPkgContext_PackageInfo())
        assert (info.PackageInfo.Name, info.PackageInfo.wRPCID) == ("NTLM", 10)
        info = await query(end, SECPKG_ATTR.NEGOTIATION_INFO, SecPkgContext_NegotiationInfo())
        assert (info.PackageInfo.Name, info.NegotiationState) == ("NTLM", SECPKG_NEGOTIATION.COMPLETE)


# --- messages ---


@pytest.mark.requirement("Q5")
async def test_sizes_are_those_of_a_record_and_no_signature(tls):
    for end in await contexts(tls):
        sizes = await query(end, SECPKG_ATTR.SIZES, SecPkgContext_Sizes())
        stream = await query(end, SECPKG_ATTR.STREAM_SIZES, SecPkgContext_StreamSizes())
        info = await query(end, SECPKG_ATTR.PACKAGE_INFO, SecPkgContext_PackageInfo())
        assert sizes.cbMaxToken == info.PackageInfo.cbMaxToken
        assert (sizes.cbMaxSignature, sizes.cbBlockSize) == (0, 1)
        assert sizes.cbSecurityTrailer == stream.cbHeader + stream.cbTrailer
        assert len(await encrypt(end, b"hello")) == 5 + sizes.cbSecurityTrailer


@pytest.mark.requirement("Q5")
async def test_the_bare_shape_has_tokens_and_no_messages():
    for end in await contexts(package="TSSSP"):
        sizes = await query(end, SECPKG_ATTR.SIZES, SecPkgContext_Sizes())
        assert sizes == SecPkgContext_Sizes(cbMaxToken=13_000)
        for attribute in (SECPKG_ATTR.STREAM_SIZES, SECPKG_ATTR.CONNECTION_INFO, SECPKG_ATTR.UNIQUE_BINDINGS):
            assert await status_of(end, attribute) is UNSUPPORTED


async def test_connection_info_has_windows_numbers(tls):
    client, server = await contexts(tls)
    assert client.handle.state.context.tls.cipher == CIPHERS[tls]
    version = tls.replace("v", "").replace(".", "_")
    for end, side in ((client, "CLIENT"), (server, "SERVER")):
        info = await query(end, SECPKG_ATTR.CONNECTION_INFO, SecPkgContext_ConnectionInfo())
        assert info.dwProtocol is SP_PROT[f"{version}_{side}"]
        assert (info.aiCipher, info.dwCipherStrength) == (0x6610, 256)
        assert (info.aiHash, info.dwHashStrength) == (0x800D, 384)
        assert info.aiExch == {"TLSv1.2": 0xAE06, "TLSv1.3": 0}[tls]


# --- names, flags, time ---


@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
async def test_names_say_who_logged_on_and_where(package):
    client, server = await contexts(package=package)
    for end in (client, server):
        assert (await query(end, SECPKG_ATTR.NAMES, SecPkgContext_Names())).sUserName == BOBS_NAME
        names = await query(end, SECPKG_ATTR.NATIVE_NAMES, SecPkgContext_NativeNames())
        assert (names.sClientName, names.sServerName) == (BOBS_NAME, "TERMSRV/localhost")
    target = await query(server, SECPKG_ATTR.CLIENT_SPECIFIED_TARGET, SecPkgContext_ClientSpecifiedTarget())
    assert target.sTargetName == "TERMSRV/localhost"


async def test_flags_are_the_attributes_of_the_last_call():
    client, server = await contexts()
    flags = (await query(client, SECPKG_ATTR.FLAGS, SecPkgContext_Flags())).Flags
    assert flags == int(client.attributes) & ~ISC_RET.ALLOCATED_MEMORY
    assert flags & ISC_RET.DELEGATE
    flags = (await query(server, SECPKG_ATTR.FLAGS, SecPkgContext_Flags())).Flags
    assert flags == int(server.attributes) & ~ASC_RET.ALLOCATED_MEMORY
    assert flags & ASC_RET.DELEGATE


async def test_a_context_does_not_expire():
    for end in await contexts():
        span = await query(end, SECPKG_ATTR.LIFESPAN, SecPkgContext_Lifespan())
        assert (span.tsStart.QuadPart, span.tsExpiry.QuadPart) == (0, TimeStamp.NEVER)


# --- certificates ---

VERDICTS = {
    "trusted": ("issued", TRUST, 0, 0),
    "trusted, self-signed": ("self", Trust(authorities=(SELF_SIGNED[0],)), 0, 8),
    "untrusted": ("issued", Trust(), 0x20, 0),
    "untrusted, self-signed": ("self", TRUST, 0x20, 8),
    "expired": ("expired", Trust(authorities=(EXPIRED[0],)), 0x1, 8),
    "wrong name": ("other", TRUST, 0x800, 0),
}


@pytest.mark.requirement("Q9")
@pytest.mark.parametrize("case", VERDICTS)
async def test_every_verdict_on_the_certificate_has_its_own_status(case):
    server, trust, error, info = VERDICTS[case]
    # Nothing is delegated, so that the logon goes on whatever the verdict is.
    client, _ = await contexts(client=client_config(trust=trust, delegate=Nothing()), server=SERVERS[server])
    status = await query(client, SECPKG_ATTR.CERT_TRUST_STATUS, CERT_TRUST_STATUS())
    assert (status.dwErrorStatus, status.dwInfoStatus) == (error, info)


@pytest.mark.requirement("Q9")
@pytest.mark.parametrize("verdict", Verdict)
def test_no_verdict_is_without_a_trust_status(verdict):
    assert bool(_TRUST_ERRORS[verdict]) is (verdict is not Verdict.TRUSTED)


@pytest.mark.requirement("Q9")
async def test_the_trust_status_says_why_mutual_authentication_failed():
    client, server = await pair(client_config(trust=Trust()), flags=None)
    client.flags, server.flags = CLIENT_FLAGS | ISC_REQ.MUTUAL_AUTH, 0x100
    await talk(client, server)
    assert client.status is SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED
    assert (await query(client, SECPKG_ATTR.CERT_TRUST_STATUS, CERT_TRUST_STATUS())).dwErrorStatus == 0x20
    found = await query(client, SECPKG_ATTR.REMOTE_CERT_CONTEXT, SecPkgContext_RemoteCertContext())
    assert found.pbCertEncoded == CERTIFICATE_DER


@pytest.mark.requirement("Q13")
@pytest.mark.parametrize("trust", [TRUST, Trust()])
async def test_a_server_is_authenticated_by_a_trusted_certificate_and_not_by_ntlm(trust):
    client, _ = await contexts(client=client_config(trust=trust), server=SERVERS["issued"])
    flags = await query(client, SECPKG_ATTR.SERVER_AUTH_FLAGS, SecPkgContext_Flags())
    assert flags.Flags == (CREDSSP_SERVER_AUTH.CERTIFICATE if trust is TRUST else 0)


@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
async def test_both_ends_have_the_servers_certificate(package):
    client, server = await contexts(package=package)
    for end, attribute in ((client, SECPKG_ATTR.REMOTE_CERT_CONTEXT), (server, SECPKG_ATTR.LOCAL_CERT_CONTEXT)):
        found = await query(end, attribute, SecPkgContext_RemoteCertContext())
        assert (found.pbCertEncoded, found.chain) == (CERTIFICATE_DER, (CERTIFICATE_DER,))


async def test_a_client_without_a_certificate_has_none():
    _, server = await contexts()
    assert await status_of(server, SECPKG_ATTR.REMOTE_CERT_CONTEXT) is NO_CREDENTIALS


# --- a server that asks for a certificate ---


def asking(tls):
    context = server_context_from_pem(tls_policy(tls), CERTIFICATE, KEY)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=AUTHORITY[0].public_bytes(Encoding.PEM).decode())
    return ServerConfig(ssl_context=context, lookup=lambda _: Password(PASSWORD), policy=tls_policy(tls))


ASKING = {tls: asking(tls) for tls in TLS}


def with_certificate(certificate, key):
    pem = certificate.public_bytes(Encoding.PEM)
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    identity = SEC_WINNT_AUTH_IDENTITY(User=BOB.user, Domain=BOB.domain, Password=BOB.password)
    schannel = SCHANNEL_CRED(paCred=[CertContext(pem, key_pem)], hRootStore=Trust())
    return CREDSSP_CRED(CredsspSubmitBufferBoth, schannel, identity)


BOBS_CERTIFICATE = make("bob", issuer=AUTHORITY)


def naming(flight, name):
    """A server's TLS 1.2 flight, in clear, with a CertificateRequest that names an authority: CPython's name none."""
    stream = b"".join(record[5:] for record in split(flight))
    messages = []
    while stream:
        size = 4 + int.from_bytes(stream[1:4], "big")
        message, stream = stream[:size], stream[size:]
        if message[0] == CERTIFICATE_REQUEST:
            assert message.endswith(b"\0\0")
            names = (len(name) + 2).to_bytes(2, "big") + len(name).to_bytes(2, "big") + name
            body = message[4:-2] + names
            message = message[:1] + len(body).to_bytes(3, "big") + body
        messages.append(b"\x16\x03\x03" + len(message).to_bytes(2, "big") + message)
    return b"".join(messages)


@pytest.mark.requirement("Q16", "R95")
async def test_the_issuer_list_says_whose_certificate_to_bring():
    client, server = (
        Client(await outbound(client_config(tls_policy("TLSv1.2")))),
        Server(await inbound(ASKING["TLSv1.2"])),
    )
    [flight] = await server.feed(await client.call())
    name = AUTHORITY[0].subject.public_bytes()
    assert await client.feed(naming(flight, name)) == []
    assert client.status is ASKED
    issuers = await query(client, SECPKG_ATTR.ISSUER_LIST_EX, SecPkgContext_IssuerListInfoEx())
    assert (issuers.aIssuers, issuers.cIssuers) == ([name], 1)
    assert await FreeContextBuffer(issuers) is OK
    assert issuers.cIssuers == 0


@pytest.mark.requirement("Q16")
async def test_the_server_of_a_client_with_a_certificate_has_it(tls):
    client, server = Client(await outbound(with_certificate(*BOBS_CERTIFICATE))), Server(await inbound(ASKING[tls]))
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)
    found = await query(server, SECPKG_ATTR.REMOTE_CERT_CONTEXT, SecPkgContext_RemoteCertContext())
    assert found.pbCertEncoded == BOBS_CERTIFICATE[0].public_bytes(Encoding.DER)
    assert await status_of(client, SECPKG_ATTR.LOCAL_CERT_CONTEXT) is UNSUPPORTED
    assert (await query(client, SECPKG_ATTR.ISSUER_LIST_EX, SecPkgContext_IssuerListInfoEx())).aIssuers == []


@pytest.mark.requirement("Q16")
async def test_a_server_that_did_not_ask_has_an_empty_list():
    client, _ = await contexts()
    assert (await query(client, SECPKG_ATTR.ISSUER_LIST_EX, SecPkgContext_IssuerListInfoEx())).aIssuers == []


# --- channel bindings ---


@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
async def test_the_end_point_binding_is_the_hash_of_the_certificate(package):
    for end in await contexts(package=package):
        found = await query(end, SECPKG_ATTR.ENDPOINT_BINDINGS, SecPkgContext_Bindings())
        expected = b"tls-server-end-point:" + hashlib.sha256(CERTIFICATE_DER).digest()
        assert found.Bindings.ApplicationData == expected
        assert found.BindingsLength == 32 + len(expected)


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [(hashes.SHA256, "sha256"), (hashes.SHA384, "sha384"), (hashes.SHA512, "sha512"), (hashes.SHA3_256, "sha3_256")],
)
def test_the_end_point_binding_uses_the_signatures_hash(algorithm, name):
    certificate = make(algorithm=algorithm)[0].public_bytes(Encoding.DER)
    assert end_point_binding(certificate) == b"tls-server-end-point:" + hashlib.new(name, certificate).digest()


# RFC 5929 4.1: MD5 and SHA-1 give way to SHA-256. OpenSSL signs with neither any more, so the algorithm's name is
# put into a certificate whose signature nobody looks at: ecdsa-with-SHA256 ends in 04 03 02, ecdsa-with-SHA1 in 04 01.
def test_the_end_point_binding_leaves_sha1_for_sha256():
    weak = make()[0].public_bytes(Encoding.DER)
    sha256, sha1 = bytes.fromhex("300a06082a8648ce3d040302"), bytes.fromhex("300906072a8648ce3d0401")
    assert weak.count(sha256) == 2
    inner = weak.replace(sha256, sha1)
    total, tbs = int.from_bytes(inner[2:4], "big") - 2, int.from_bytes(inner[6:8], "big") - 1
    certificate = inner[:2] + total.to_bytes(2, "big") + inner[4:6] + tbs.to_bytes(2, "big") + inner[8:]
    assert x509.load_der_x509_certificate(certificate).signature_hash_algorithm.name == "sha1"
    assert end_point_binding(certificate) == b"tls-server-end-point:" + hashlib.sha256(certificate).digest()


async def test_an_end_point_binding_that_is_not_defined_is_refused():
    for end in await contexts(client=client_config(trust=Trust()), server=SERVERS["ed25519"]):
        assert await status_of(end, SECPKG_ATTR.ENDPOINT_BINDINGS) is UNSUPPORTED


@pytest.mark.parametrize("digest", [None, "sha1"])
def test_a_certificate_that_its_own_key_has_signed_is_self_signed(digest):
    """Windows' old ones are signed by SHA-1."""
    assert is_self_signed(Made("server", key="rsa", digest=digest).der)
    assert not is_self_signed(Made("server", by=Made("server", key="p384")).der)


def test_what_is_no_certificate_has_no_facts():
    assert end_point_binding(b"0\x00") is None
    assert not is_self_signed(b"0\x00")
    stranger = make("authority")
    forged = make(issuer=(AUTHORITY[0], stranger[1]))[0]
    assert not is_self_signed(forged.public_bytes(Encoding.DER))


async def test_the_unique_binding_is_the_same_at_both_ends():
    found = [
        await query(end, SECPKG_ATTR.UNIQUE_BINDINGS, SecPkgContext_Bindings()) for end in await contexts("TLSv1.2")
    ]
    assert found[0] == found[1]
    assert found[0].Bindings.ApplicationData.startswith(b"tls-unique:")
    assert len(found[0].Bindings.ApplicationData) == len(b"tls-unique:") + 12
    assert await FreeContextBuffer(found[0]) is OK
    assert found[0].BindingsLength == 0


async def test_tls_1_3_has_no_unique_binding():
    for end in await contexts("TLSv1.3"):
        assert await status_of(end, SECPKG_ATTR.UNIQUE_BINDINGS) is UNSUPPORTED


# --- delegated credentials ---

DETAIL = TSCspDataDetail(1, *(UnicodeString(name) for name in ("card", "reader", "container", "provider")))


@pytest.mark.requirement("Q4", "Q10", "Q11")
@pytest.mark.parametrize("attribute", [SECPKG_ATTR.CREDS, SECPKG_ATTR.CREDS_2])
@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
async def test_a_delegated_password_is_packed_and_can_be_asked_for_again(attribute, package):
    delegated = TSPasswordCreds.of("FABRIKAM", "alice", "S3crét")
    _, server = await contexts(package=package, client=client_config(delegate=delegated))
    for _ in range(2):
        found = await query(server, attribute, SecPkgContext_ClientCreds())
        assert found.AuthBufferLen == len(found.AuthBuffer)
        assert unpack_credentials(found.AuthBuffer) == KERB_INTERACTIVE_LOGON("FABRIKAM", "alice", "S3crét")
        assert "S3cr" not in repr(found)
        memory = found.AuthBuffer
        assert await FreeContextBuffer(found) is OK
        assert not any(memory)
    assert "S3cr" not in repr(vars(server.handle.state))


@pytest.mark.requirement("Q11")
async def test_a_delegated_smart_card_is_packed_with_its_pin():
    card = TSSmartCardCreds(UnicodeString("1234"), DETAIL, UnicodeString("alice"), UnicodeString("CONTOSO"))
    _, server = await contexts(client=client_config(delegate=card))
    found = await query(server, SECPKG_ATTR.CREDS_2, SecPkgContext_ClientCreds())
    logon = unpack_credentials(found.AuthBuffer)
    assert isinstance(logon, KERB_CERTIFICATE_LOGON)
    assert (logon.DomainName, logon.UserName, logon.Pin) == ("CONTOSO", "alice", "1234")


@pytest.mark.requirement("Q11")
async def test_tickets_of_remote_credential_guard_cannot_be_packed():
    tickets = TSRemoteGuardCreds(TSRemoteGuardPackageCred(UnicodeString("Kerberos"), b"ticket"))
    _, server = await contexts(client=client_config(delegate=tickets))
    assert await status_of(server, SECPKG_ATTR.CREDS_2) is SecurityStatus.SEC_E_CANNOT_PACK


@pytest.mark.requirement("Q11")
async def test_where_nothing_was_delegated_there_are_no_credentials():
    _, server = await contexts(client=client_config(delegate=Nothing()))
    assert await status_of(server, SECPKG_ATTR.CREDS_2) is NO_CREDENTIALS


async def test_supplied_credentials_name_the_client():
    """ISC_REQ_USE_SUPPLIED_CREDS: the principal is who was supplied, not whose handle it is."""
    supplied = KERB_INTERACTIVE_LOGON("CONTOSO", "carol", PASSWORD).pack()
    client = Client(
        await outbound(), CLIENT_FLAGS | ISC_REQ.USE_SUPPLIED_CREDS, extras=[SecBuffer(SECBUFFER_PKG_PARAMS, supplied)]
    )
    server = Server(await inbound())
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)
    for end in (client, server):
        assert (await query(end, SECPKG_ATTR.NAMES, SecPkgContext_Names())).sUserName == "CONTOSO\\carol"
