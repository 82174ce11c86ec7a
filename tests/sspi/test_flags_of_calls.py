"""What callers ask of InitializeSecurityContext and AcceptSecurityContext by flags, and what they are told they got."""

import datetime as dt
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.endpoints import BOB, PASSWORD, client_config, server_config, tls_policy
from support.sspi import (
    CERTIFICATE_DER,
    CLIENT_FLAGS,
    CONTINUE,
    INCOMPLETE,
    OK,
    SERVER_FLAGS,
    Client,
    Server,
    inbound,
    outbound,
    talk,
)

from acredssp.config import ServerConfig
from acredssp.credentials import Deny, Nothing, NTHash, Password
from acredssp.errors import PeerClosed
from acredssp.policy import Policy
from acredssp.sspi import (
    ASC_REQ,
    ASC_RET,
    ISC_REQ,
    ISC_RET,
    KERB_INTERACTIVE_LOGON,
    SECBUFFER_PKG_PARAMS,
    SecBuffer,
    SecurityStatus,
)
from acredssp.sspi.flags import ASC_REQ_ACCEPTED, ASC_REQ_CREDSSP, ISC_REQ_ACCEPTED, ISC_REQ_CREDSSP
from acredssp.status import NTSTATUS
from acredssp.tls_config import server_context_from_pem
from acredssp.trust import Trust
from acredssp.wire.ts_credentials import TSPasswordCreds
from acredssp.wire.ts_request import TSRequest

UNSUPPORTED = SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION
MUTUAL_AUTH_FAILED = SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED
WRONG_PRINCIPAL = SecurityStatus.SEC_E_WRONG_PRINCIPAL
BITS = [1 << place for place in range(40)]


async def log_on(flags=CLIENT_FLAGS, server_flags=SERVER_FLAGS, client=None, server=None, **options):
    """A client and a server with these flags that have talked to the end."""
    both = Client(await outbound(client, **options), flags), Server(await inbound(server), server_flags)
    await talk(*both)
    return both


async def succeed(*arguments, **options):
    client, server = await log_on(*arguments, **options)
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)
    return client, server


# --- which bits ---


@pytest.mark.requirement("R16", "R19", "R66", "R82")
@pytest.mark.parametrize("strict", [False, True])
async def test_every_bit_of_a_client_is_taken_or_refused(strict):
    credential = await outbound(strict_flags=strict)
    allowed = ISC_REQ_CREDSSP if strict else ISC_REQ_ACCEPTED
    for bit in BITS:
        client = Client(credential, bit, memory=4096)
        await client.call()
        assert client.status is (CONTINUE if bit & allowed else UNSUPPORTED), hex(bit)
        assert client.handle.valid is bool(bit & allowed)
    both = Client(credential, ISC_REQ_CREDSSP | ISC_REQ.DATAGRAM)
    await both.call()
    assert both.status is UNSUPPORTED
    assert "0x400" in str(both.error)


@pytest.mark.requirement("A31", "A33")
@pytest.mark.parametrize("strict", [False, True])
async def test_every_bit_of_a_server_is_taken_or_refused(strict):
    credential = await inbound(strict_flags=strict)
    allowed = ASC_REQ_CREDSSP if strict else ASC_REQ_ACCEPTED
    for bit in BITS:
        server = Server(credential, bit)
        await server.call(b"")
        assert server.status is (INCOMPLETE if bit & allowed else UNSUPPORTED), hex(bit)
    assert ASC_REQ.DELEGATE & allowed, "as A10 says and the page denies elsewhere"
    assert not 0x40 & allowed


@pytest.mark.requirement("R19", "R66")
async def test_no_flag_is_needed():
    client, server = Client(await outbound(), 0, memory=20_000), Server(await inbound(), 0, memory=20_000)
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK)


@pytest.mark.requirement("R30", "R33", "R66")
@pytest.mark.parametrize("missing", [True, False])
async def test_delegate_may_be_made_mandatory_and_mutual_auth_ignored(missing):
    flags = CLIENT_FLAGS | ISC_REQ.MUTUAL_AUTH
    client = Client(await outbound(client_config(trust=Trust()), require_delegate=True), flags)
    server = Server(await inbound())
    if missing:
        client.flags &= ~ISC_REQ.DELEGATE
        await client.call()
        assert client.status is UNSUPPORTED
        assert "DELEGATE" in str(client.error)
    else:
        await talk(client, server)
        assert (client.status, server.status) == (OK, OK), client.error
        assert ISC_RET.MUTUAL_AUTH not in client.attributes


# --- what comes back ---


@pytest.mark.requirement("R34", "R52", "R53", "R54", "R55", "R56", "R83", "R84", "A20")
async def test_security_attributes_are_there_at_the_end_and_no_sooner():
    client = Client(await outbound(), ISC_REQ_ACCEPTED & ~ISC_REQ.USE_SUPPLIED_CREDS)
    server = Server(await inbound(), ASC_REQ_ACCEPTED)
    seen = {client: [], server: []}
    token = await client.call()
    seen[client].append(client.attributes.flags)
    for end in [server, client] * 10:
        if server.status is OK:
            break
        token = await end.call(end.received + token)
        seen[end].append(end.attributes.flags)
    early = ISC_RET.MANUAL_CRED_VALIDATION | ISC_RET.ALLOCATED_MEMORY | ISC_RET.CONNECTION | ISC_RET.STREAM
    early |= ISC_RET.EXTENDED_ERROR
    by_tls = ISC_RET.CONFIDENTIALITY | ISC_RET.INTEGRITY | ISC_RET.SEQUENCE_DETECT | ISC_RET.REPLAY_DETECT
    by_tls |= ISC_RET.USE_SESSION_KEY
    assert set(seen[client][:-1]) == {early}
    assert seen[client][-1] == early | by_tls | ISC_RET.DELEGATE | ISC_RET.MUTUAL_AUTH
    assert all(type(flags) is ISC_RET for flags in seen[client])
    early = ASC_RET.ALLOCATED_MEMORY | ASC_RET.CONNECTION | ASC_RET.STREAM | ASC_RET.EXTENDED_ERROR
    by_tls = ASC_RET.CONFIDENTIALITY | ASC_RET.INTEGRITY | ASC_RET.SEQUENCE_DETECT | ASC_RET.REPLAY_DETECT
    by_tls |= ASC_RET.USE_SESSION_KEY
    assert set(seen[server][:-1]) == {early}
    assert seen[server][-1] == early | by_tls | ASC_RET.DELEGATE  # NTLM proves no server
    assert all(type(flags) is ASC_RET for flags in seen[server])


@pytest.mark.parametrize("name", ["CONNECTION", "STREAM", "SEQUENCE_DETECT", "CONFIDENTIALITY", "INTEGRITY"])
async def test_what_was_asked_for_is_told_and_what_was_not_is_not(name):
    client, server = await succeed(CLIENT_FLAGS | ISC_REQ[name], SERVER_FLAGS)
    assert ISC_RET[name] in client.attributes
    assert ASC_RET[name] not in server.attributes
    client, server = await succeed(CLIENT_FLAGS, SERVER_FLAGS | ASC_REQ[name])
    assert ISC_RET[name] not in client.attributes
    assert ASC_RET[name] in server.attributes


@pytest.mark.requirement("R20", "R55", "A8", "A20")
async def test_allocated_memory_is_told_of_the_call():
    client = Client(await outbound(), CLIENT_FLAGS, memory=20_000)
    server = Server(await inbound(), 0, memory=20_000)
    answer = await server.call(await client.call())
    assert ISC_RET.ALLOCATED_MEMORY in client.attributes
    assert ASC_RET.ALLOCATED_MEMORY not in server.attributes
    client.flags &= ~ISC_REQ.ALLOCATE_MEMORY
    assert await client.call(answer)
    assert ISC_RET.ALLOCATED_MEMORY not in client.attributes


@pytest.mark.requirement("R23", "R24")
@pytest.mark.parametrize("asked", [0, ISC_REQ.MANUAL_CRED_VALIDATION])
async def test_manual_validation_is_always_set_and_no_certificate_ends_the_logon(asked):
    """Nobody vouches for the server, and it is not for the functions to mind."""
    client, _ = await succeed(CLIENT_FLAGS | asked, client=client_config(trust=Trust()))
    assert ISC_RET.MANUAL_CRED_VALIDATION in client.attributes
    assert ISC_RET.MUTUAL_AUTH not in client.attributes


@pytest.mark.requirement("R34", "R53")
async def test_the_bare_shape_claims_nothing_of_the_callers_tls():
    client = Client(
        await outbound(package="TSSSP"), ISC_REQ_ACCEPTED & ~ISC_REQ.USE_SUPPLIED_CREDS, certificate=CERTIFICATE_DER
    )
    server = Server(await inbound(package="TSSSP"), ASC_REQ_ACCEPTED)
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK)
    for flags in (client.attributes.flags, server.attributes.flags):
        assert not flags & (ISC_RET.CONFIDENTIALITY | ISC_RET.SEQUENCE_DETECT | ISC_RET.REPLAY_DETECT)


@pytest.mark.requirement("R27", "R34", "R85")
@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("given", [True, False])
async def test_supplied_credentials_are_told_where_they_were_used(flag, given):
    params = SecBuffer(SECBUFFER_PKG_PARAMS, KERB_INTERACTIVE_LOGON(BOB.domain, BOB.user, BOB.password).pack())
    flags = CLIENT_FLAGS | ISC_REQ.USE_SUPPLIED_CREDS if flag else CLIENT_FLAGS
    client, server = Client(await outbound(), flags, extras=[params] if given else []), Server(await inbound())
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK)
    assert (ISC_RET.USED_SUPPLIED_CREDS in client.attributes) is (flag and given)


# --- delegation ---


@pytest.mark.requirement("R28", "R29", "R32", "A10")
@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("tls", ["TLSv1.2", "TLSv1.3"])
async def test_without_delegate_an_empty_set_goes_over(asked, tls):
    flags = CLIENT_FLAGS if asked else CLIENT_FLAGS & ~ISC_REQ.DELEGATE
    client, server = await succeed(flags, client=client_config(tls_policy(tls)))
    expected = TSPasswordCreds.of(BOB.domain, BOB.user, BOB.password) if asked else TSPasswordCreds.of("", "", "")
    assert server.handle.state.context.take_credentials() == expected
    assert (ISC_RET.DELEGATE in client.attributes) is asked
    assert (ASC_RET.DELEGATE in server.attributes) is asked


@pytest.mark.requirement("R28", "R34")
@pytest.mark.parametrize(
    "config",
    [
        client_config(delegate=Nothing()),
        client_config(authenticate=NTHash(Password(PASSWORD).nt_hash, "bob", "CONTOSO")),
    ],
)
async def test_what_cannot_be_delegated_is_not_said_to_be(config):
    client, server = await succeed(CLIENT_FLAGS, client=config)
    assert server.handle.state.context.take_credentials() == TSPasswordCreds.of("", "", "")
    assert ISC_RET.DELEGATE not in client.attributes
    assert ASC_RET.DELEGATE not in server.attributes


# --- mutual authentication ---


def certificate(names=("localhost",), days=30):
    """A certificate of its own and its key, in PEM; with negative days it has expired."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    end = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - dt.timedelta(days=60))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pkcs8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(*pkcs8)


CERTIFICATES = {
    "trusted": certificate(),
    "untrusted": certificate(),
    "expired": certificate(days=-1),
    "wrong_name": certificate(("other.example",)),
}
SERVERS = {
    kind: ServerConfig(
        ssl_context=server_context_from_pem(Policy(), *pem), lookup=lambda _: Password(PASSWORD), policy=Policy()
    )
    for kind, pem in CERTIFICATES.items()
}
AUTHORITIES = Trust(
    authorities=tuple(
        x509.load_pem_x509_certificate(pem) for kind, (pem, _) in CERTIFICATES.items() if kind != "untrusted"
    )
)


@pytest.mark.requirement("R13", "R31", "R70", "R79")
@pytest.mark.parametrize("kind", CERTIFICATES)
@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
@pytest.mark.parametrize("required", [True, False])
async def test_mutual_auth_takes_a_trusted_certificate(kind, package, required):
    flags = CLIENT_FLAGS | ISC_REQ.MUTUAL_AUTH if required else CLIENT_FLAGS
    credential = await outbound(client_config(trust=AUTHORITIES), package)
    der = ssl.PEM_cert_to_DER_cert(CERTIFICATES[kind][0].decode())
    client = Client(credential, flags, certificate=der if package == "TSSSP" else None)
    server = Server(await inbound(SERVERS[kind], package))
    await talk(client, server)
    if kind == "trusted":
        assert (client.status, server.status) == (OK, OK), (client.error, server.error)
        assert ISC_RET.MUTUAL_AUTH in client.attributes
        return
    # Where it is not asked for, the trust that was named ends the logon all the same: see test_trust.py.
    verdicts = {
        "untrusted": SecurityStatus.SEC_E_UNTRUSTED_ROOT,
        "expired": SecurityStatus.SEC_E_CERT_EXPIRED,
        "wrong_name": WRONG_PRINCIPAL,
    }
    failed = WRONG_PRINCIPAL if kind == "wrong_name" else MUTUAL_AUTH_FAILED
    status = failed if required else verdicts[kind]
    assert client.status is status
    assert client.error.hint
    assert server.handle.state.context.take_credentials() is None
    assert not server.handle.state.established
    await client.call(b"")
    assert client.status is status, "a failure is for good"


@pytest.mark.requirement("R31", "R70")
async def test_a_policy_that_takes_any_certificate_authenticates_nobody():
    config = client_config(Policy(dangerous_accept_any_certificate=True), trust=None)
    client, _ = await log_on(CLIENT_FLAGS | ISC_REQ.MUTUAL_AUTH, client=config)
    assert client.status is MUTUAL_AUTH_FAILED


@pytest.mark.requirement("R13")
async def test_a_pinned_key_authenticates_under_any_name():
    client = Client(await outbound(), CLIENT_FLAGS | ISC_REQ.MUTUAL_AUTH, target="TERMSRV/another.example")
    server = Server(await inbound())
    await talk(client, server)
    assert client.status is OK, client.error
    assert ISC_RET.MUTUAL_AUTH in client.attributes


# --- extended errors ---


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("asked", [True, False])
async def test_a_client_that_fails_tells_the_peer_where_that_was_asked_for(asked):
    """MUTUAL_AUTH is refused inside TLS, so close_notify is what can be said."""
    flags = CLIENT_FLAGS | ISC_REQ.MUTUAL_AUTH
    client = Client(await outbound(client_config(trust=Trust())), flags if asked else flags & ~ISC_REQ.EXTENDED_ERROR)
    server = Server(await inbound())
    await talk(client, server)
    assert client.status is MUTUAL_AUTH_FAILED
    assert isinstance(server.error, PeerClosed if asked else type(None))
    assert server.done is asked


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("asked", [True, False])
async def test_a_client_that_cannot_speak_tls_with_the_peer_sends_an_alert_where_that_was_asked_for(asked):
    flags = CLIENT_FLAGS if asked else CLIENT_FLAGS & ~ISC_REQ.EXTENDED_ERROR
    client = Client(await outbound(client_config(tls_policy("TLSv1.3"))), flags)
    old = Server(await inbound(server_config(tls_policy("TLSv1.2"))))
    await client.call()
    server_hello_of_tls12 = await old.call(await Client(await outbound(client_config(tls_policy("TLSv1.2")))).call())
    alert = await client.call(server_hello_of_tls12)
    assert client.status.failed
    assert alert[:1] == (b"\x15" if asked else b"")


@pytest.mark.requirement("A11", "A37")
@pytest.mark.parametrize("flags", [SERVER_FLAGS, SERVER_FLAGS & ~ASC_REQ.EXTENDED_ERROR])
@pytest.mark.parametrize("version", [2, 3, 4, 5, 6])
async def test_a_server_that_refuses_says_why_where_the_version_can(flags, version):
    """In the bare shape, where what it says can be read: an errorCode in versions 3, 4 and 6."""
    policy = Policy(min_version=version, max_version=version, dangerous_allow_legacy_versions=version < 5)
    credential = await outbound(client_config(policy), "TSSSP")
    client = Client(credential, certificate=CERTIFICATE_DER)
    server = Server(await inbound(server_config(policy, lookup=lambda _: Deny()), "TSSSP"), flags)
    direction, token = (await talk(client, server))[-1]
    assert server.status is SecurityStatus.SEC_E_LOGON_DENIED
    if version in (3, 4, 6):
        assert direction == "s2c"
        assert TSRequest.decode(token).error_code == NTSTATUS.STATUS_LOGON_FAILURE
        assert client.status is SecurityStatus.SEC_E_LOGON_DENIED
        assert client.error.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    else:
        assert direction == "c2s"
        assert client.status is CONTINUE


@pytest.mark.requirement("A11", "A37")
async def test_a_failing_token_is_handed_out_again_when_it_did_not_fit():
    client, server = Client(await outbound()), Server(await inbound(server_config(lookup=lambda _: Deny())), 0)
    invoke, sizes = server.invoke, []

    async def shy(output):
        buffer = output.pBuffers[0]
        buffer.pvBuffer = None
        status = await invoke(output)
        if not status.failed or status is INCOMPLETE:
            return status
        sizes.append(buffer.cbBuffer)
        buffer.pvBuffer = bytearray(buffer.cbBuffer)
        return await invoke(output)

    server.invoke = shy
    await talk(client, server)
    assert server.status is SecurityStatus.SEC_E_LOGON_DENIED
    assert client.status is SecurityStatus.SEC_E_LOGON_DENIED, client.error
    assert client.error.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    assert sizes[-1] > 0
