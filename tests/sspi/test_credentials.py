"""AcquireCredentialsHandle (CredSSP): requirement by requirement."""

import dataclasses
import inspect
import os
import ssl

import pytest
from cryptography import x509
from support.engine import pem

from acredssp import ClientConfig, Keytab, NTHash, Password, Policy, ServerConfig, TicketCache, Trust, tls_config
from acredssp.core.own_certificate import own_public_key
from acredssp.mechanisms.kerberos import tickets
from acredssp.sspi import (
    CREDSSP_CRED,
    CREDSSP_CRED_EX,
    CREDSSP_FLAG_REDIRECT,
    SCH_CREDENTIALS,
    SCHANNEL_CRED,
    SEC_WINNT_AUTH_IDENTITY,
    SEC_WINNT_AUTH_IDENTITY_ANSI,
    SEC_WINNT_AUTH_IDENTITY_EX,
    SEC_WINNT_AUTH_IDENTITY_EX2,
    SEC_WINNT_AUTH_IDENTITY_UNICODE,
    SECPKG_CRED_ATTR_NAMES,
    SECPKG_CRED_ATTR_SSI_PROVIDER,
    SECPKG_CRED_AUTOLOGON_RESTRICTED,
    SECPKG_CRED_BOTH,
    SECPKG_CRED_DEFAULT,
    SECPKG_CRED_INBOUND,
    SECPKG_CRED_OUTBOUND,
    SECPKG_CRED_PROCESS_POLICY_ONLY,
    SP_PROT_TLS1_0_CLIENT,
    SP_PROT_TLS1_1_CLIENT,
    SP_PROT_TLS1_2_CLIENT,
    SP_PROT_TLS1_2_SERVER,
    SP_PROT_TLS1_3_CLIENT,
    SP_PROT_TLS1_3_SERVER,
    TLS_PARAMETERS,
    AcquireCredentialsHandle,
    CertContext,
    CredHandle,
    CredsspCertificateCreds,
    CredsspCredEx,
    CredsspPasswordCreds,
    CredsspSchannelCreds,
    CredsspSubmitBufferBoth,
    CredsspSubmitBufferBothOld,
    FreeCredentialsHandle,
    QueryCredentialsAttributes,
    SecPkgCredentials_Names,
    SecPkgInfo,
    SecurityStatus,
    TimeStamp,
)

OK = SecurityStatus.SEC_E_OK
ALICE = SEC_WINNT_AUTH_IDENTITY(User="alice", Domain="CONTOSO", Password="Passw0rd!")
BOTH_TYPES = [CredsspPasswordCreds, CredsspSubmitBufferBoth, CredsspSubmitBufferBothOld]


def lookup(request):
    return Password("Passw0rd!")


def cert_context():
    return CertContext(*pem("ec"))


# Made here once: loading a key writes it to a memfd, which is no work for a loop's thread.
SERVER_CONTEXT = tls_config.server_context_from_pem(Policy(), *pem("ec"))


def client_config(**facts):
    return ClientConfig(**{"authenticate": Password("Passw0rd!", "alice", "CONTOSO"), "trust": Trust()} | facts)


def server_config(**facts):
    return ServerConfig(**{"ssl_context": SERVER_CONTEXT, "lookup": lookup} | facts)


def password_cred(spnego=ALICE, schannel=None, cred_type=CredsspPasswordCreds):
    # An empty trust, since what the system trusts takes a while to read.
    return CREDSSP_CRED(cred_type, SCHANNEL_CRED(hRootStore=Trust()) if schannel is None else schannel, spnego)


def server_cred(spnego=lookup, schannel=None):
    return CREDSSP_CRED(CredsspSubmitBufferBoth, schannel or SCHANNEL_CRED(paCred=[cert_context()]), spnego)


async def acquire(auth_data, use=SECPKG_CRED_OUTBOUND, *, package="CREDSSP", principal=None, status=OK, logon_id=None):
    handle = CredHandle()
    got = await AcquireCredentialsHandle(principal, package, use, logon_id, auth_data, None, None, handle, None)
    assert got is status, handle.error
    assert (handle.error is None) is (status is OK)
    assert handle.valid is (status is OK)
    return handle


async def refused(status, auth_data, use=SECPKG_CRED_OUTBOUND, **others):
    return (await acquire(auth_data, use, status=status, **others)).error


# --- the call ---


@pytest.mark.requirement("C2")
def test_the_signature_is_microsofts():
    assert list(inspect.signature(AcquireCredentialsHandle).parameters) == [
        "pszPrincipal", "pszPackage", "fCredentialUse", "pvLogonID", "pAuthData", "pGetKeyFn", "pvGetKeyArgument",
        "phCredential", "ptsExpiry",
    ]  # fmt: skip


@pytest.mark.requirement("C2", "C11", "C13")
async def test_a_handle_and_its_expiry_are_filled():
    handle, expiry = CredHandle(), TimeStamp()
    handle.error = LookupError  # of an earlier call
    status = await AcquireCredentialsHandle(
        pszPackage="CREDSSP", fCredentialUse=SECPKG_CRED_OUTBOUND, pAuthData=password_cred(), phCredential=handle,
        ptsExpiry=expiry,
    )  # fmt: skip
    assert status is OK
    assert handle.valid
    assert handle.error is None
    assert expiry.QuadPart == TimeStamp.NEVER


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("phCredential", None), ("pszPrincipal", b"alice"), ("pszPackage", None), ("fCredentialUse", "OUTBOUND"),
        ("pvLogonID", "0"), ("pAuthData", ALICE), ("pAuthData", (1, 2)), ("ptsExpiry", 0),
        ("pAuthData", CREDSSP_CRED(pSpnegoCred="alice")), ("pAuthData", CREDSSP_CRED(pSchannelCred=b"pem")),
        ("pAuthData", CREDSSP_CRED(pSchannelCred=SCHANNEL_CRED(paCred=[b"pem"]))),
        ("pAuthData", CREDSSP_CRED(pSchannelCred=SCH_CREDENTIALS(hRootStore="store"))),
        ("pAuthData", CREDSSP_CRED(pSpnegoCred=SEC_WINNT_AUTH_IDENTITY(Password=1))),
        ("pAuthData", CREDSSP_CRED("password")), ("pAuthData", CREDSSP_CRED_EX(Cred=None)),
        ("pAuthData", CREDSSP_CRED_EX(CREDSSP_CRED())), ("pAuthData", CREDSSP_CRED_EX(Version="1")),
        ("pAuthData", CREDSSP_CRED_EX(Flags=None)),
        *[
            ("pAuthData", CREDSSP_CRED(pSchannelCred=schannel, pSpnegoCred=ALICE))
            for schannel in (
                SCHANNEL_CRED(dwVersion=None), SCHANNEL_CRED(dwFlags="x"), SCHANNEL_CRED(paCred=None),
                SCHANNEL_CRED(paCred=b"pem"), SCHANNEL_CRED(paCred=[CertContext("pem", b"key")]),
                SCHANNEL_CRED(paCred=[CertContext(b"pem", None)]), SCHANNEL_CRED(grbitEnabledProtocols="x"),
                SCHANNEL_CRED(dwMinimumCipherStrength="x"), SCH_CREDENTIALS(pTlsParameters=["x"]),
                SCH_CREDENTIALS(pTlsParameters=None),
                SCH_CREDENTIALS(pTlsParameters=[TLS_PARAMETERS(grbitDisabledProtocols=1.5)]),
            )
        ],
        *[
            ("pAuthData", CREDSSP_CRED(pSpnegoCred=identity))
            for identity in (
                SEC_WINNT_AUTH_IDENTITY("alice", Flags="z"), SEC_WINNT_AUTH_IDENTITY("alice", UserLength="5"),
                SEC_WINNT_AUTH_IDENTITY("alice", PasswordLength=1.5), SEC_WINNT_AUTH_IDENTITY_EX(Version=None),
                SEC_WINNT_AUTH_IDENTITY_EX(User="alice", PackageList=None),
            )
        ],
    ],
)  # fmt: skip
async def test_a_wrong_python_type_is_the_callers_mistake(name, value):
    handle = CredHandle()
    arguments = {"pszPackage": "CREDSSP", "fCredentialUse": 2, "pAuthData": password_cred(), "phCredential": handle}
    with pytest.raises(TypeError, match=r": expected .*, got "):
        await AcquireCredentialsHandle(**arguments | {name: value})
    assert not handle.valid


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("Type", CREDSSP_CRED(-1)), ("Flags", CREDSSP_CRED_EX(Flags=-1)),
        ("grbitEnabledProtocols", CREDSSP_CRED(pSchannelCred=SCHANNEL_CRED(grbitEnabledProtocols=-1))),
        ("dwMinimumCipherStrength", CREDSSP_CRED(pSchannelCred=SCHANNEL_CRED(dwMinimumCipherStrength=-1))),
        ("UserLength", CREDSSP_CRED(pSpnegoCred=SEC_WINNT_AUTH_IDENTITY("alice", UserLength=-1))),
    ],
)  # fmt: skip
async def test_a_negative_number_is_the_callers_mistake(member, value):
    with pytest.raises(ValueError, match=f"{member}: expected 0 or more, got -1"):
        await AcquireCredentialsHandle(None, "CREDSSP", 2, None, value, None, None, CredHandle())


@pytest.mark.requirement("C1")
async def test_nobody_is_asked_and_a_wrong_password_does_not_show():
    def ask(request):
        pytest.fail("asked for a secret")

    await acquire(password_cred(SEC_WINNT_AUTH_IDENTITY(User="nobody", Password="wrong")))
    await acquire(server_cred(ask), SECPKG_CRED_INBOUND)


@pytest.mark.requirement("C9", "C10")
@pytest.mark.parametrize("name", ["pGetKeyFn", "pvGetKeyArgument"])
async def test_what_is_reserved_must_be_none(name):
    handle = CredHandle()
    status = await AcquireCredentialsHandle(
        pszPackage="CREDSSP", fCredentialUse=2, pAuthData=password_cred(), phCredential=handle, **{name: print}
    )
    assert status is SecurityStatus.SEC_E_INVALID_PARAMETER
    assert name in str(handle.error)


@pytest.mark.requirement("C4")
@pytest.mark.parametrize("package", ["CREDSSP", "credssp", "CredSSP", "TSSSP", "tsssp"])
async def test_a_package_is_named_in_any_case(package):
    handle = await acquire(password_cred(), package=package)
    assert handle.state.package == package.upper()


@pytest.mark.requirement("C18")
@pytest.mark.parametrize("package", ["", "NTLM", "Negotiate", "Microsoft Unified Security Protocol Provider"])
async def test_an_unknown_package_is_not_found(package):
    await refused(SecurityStatus.SEC_E_SECPKG_NOT_FOUND, password_cred(), package=package)


@pytest.mark.requirement("C5")
@pytest.mark.parametrize("flag", [0, SECPKG_CRED_AUTOLOGON_RESTRICTED])
async def test_the_use_says_which_sides_there_are(flag):
    pair = (client_config(), server_config())
    outbound = (await acquire(pair, SECPKG_CRED_OUTBOUND | flag)).state
    inbound = (await acquire(pair, SECPKG_CRED_INBOUND | flag)).state
    both = (await acquire(pair, SECPKG_CRED_BOTH | flag)).state
    assert (outbound.client, outbound.server) == (pair[0], None)
    assert (inbound.client, inbound.server) == (None, pair[1])
    assert (both.client, both.server) == pair


@pytest.mark.requirement("C5")
@pytest.mark.parametrize("use", [0, SECPKG_CRED_DEFAULT, SECPKG_CRED_PROCESS_POLICY_ONLY | 2, 0x100 | 2])
async def test_any_other_use_is_refused(use):
    await refused(SecurityStatus.SEC_E_INVALID_PARAMETER, password_cred(), use)


# --- whose ---


@pytest.mark.requirement("C3")
@pytest.mark.parametrize("principal", [None, "alice", "ALICE", "contoso\\Alice", "alice@contoso"])
async def test_a_principal_is_that_of_the_credentials(principal):
    assert (await acquire(password_cred(), principal=principal)).state.principal == "CONTOSO\\alice"


@pytest.mark.requirement("C3")
async def test_names_that_windows_tells_apart_are_two_principals():
    credential = password_cred(Password("Passw0rd!", "straße", "CONTOSO"))
    assert (await acquire(credential, principal="STRAßE")).state.principal == "CONTOSO\\straße"
    await refused(SecurityStatus.SEC_E_NOT_OWNER, credential, principal="strasse")


@pytest.mark.requirement("C3", "C17")
@pytest.mark.parametrize("principal", ["bob", "", "OTHER\\alice", "alice@other", "alıce"])
async def test_credentials_of_another_principal_are_not_the_callers(principal):
    error = await refused(SecurityStatus.SEC_E_NOT_OWNER, password_cred(), principal=principal)
    assert "Passw0rd" not in str(error)


async def test_a_server_may_be_named():
    assert (await acquire(server_cred(), SECPKG_CRED_INBOUND, principal="TERMSRV/host")).state.principal == (
        "TERMSRV/host"
    )


@pytest.mark.requirement("C7")
async def test_a_caller_may_name_another_logon_session():
    own, named = [(await acquire(password_cred(), logon_id=logon_id)).state for logon_id in (None, 0x3E7)]
    assert (own.logon_id, named.logon_id) == (None, 0x3E7)


# --- pAuthData: OUTBOUND ---


@pytest.mark.requirement("C8", "C21", "C24")
@pytest.mark.parametrize("cred_type", BOTH_TYPES)
async def test_a_password_logs_on(cred_type):
    state = (await acquire(password_cred(cred_type=cred_type))).state
    assert state.client.authenticate == Password("Passw0rd!", "alice", "CONTOSO")
    assert state.server is None
    assert state.certificate is None


@pytest.mark.requirement("C22")
async def test_the_extended_structure_holds_the_other():
    state = (await acquire(CREDSSP_CRED_EX(Cred=password_cred()))).state
    assert state.client.authenticate.user == "alice"


@pytest.mark.requirement("C22")
@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Version": 1}, SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS),
        ({"Type": CredsspPasswordCreds}, SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS),
        ({"Flags": CREDSSP_FLAG_REDIRECT}, SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION),
        ({"Flags": 2}, SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION),
        ({"Cred": CREDSSP_CRED(CredsspCredEx)}, SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS),
    ],
)
async def test_an_extended_structure_that_says_something_else_is_refused(changes, status):
    await refused(status, dataclasses.replace(CREDSSP_CRED_EX(Cred=password_cred()), **changes))


@pytest.mark.requirement("C19", "C21", "C24")
@pytest.mark.parametrize("cred_type", [CredsspCertificateCreds, 0, 1, 99])
async def test_credentials_of_another_type_are_not_recognised(cred_type):
    await refused(SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS, password_cred(cred_type=cred_type))


@pytest.mark.requirement("C16", "C23")
@pytest.mark.parametrize(
    "auth_data",
    [
        None,
        CREDSSP_CRED(CredsspPasswordCreds),
        CREDSSP_CRED(CredsspSubmitBufferBoth, SCHANNEL_CRED(hRootStore=Trust())),
        password_cred(SEC_WINNT_AUTH_IDENTITY(Password="Passw0rd!")),
    ],
)
async def test_there_are_no_default_credentials(auth_data):
    await refused(SecurityStatus.SEC_E_NO_CREDENTIALS, auth_data)


@pytest.mark.requirement("C24")
async def test_schannel_data_alone_log_nobody_on():
    await refused(SecurityStatus.SEC_E_NO_CREDENTIALS, password_cred(cred_type=CredsspSchannelCreds))


@pytest.mark.requirement("C16")
async def test_a_lookup_hook_is_nobodys_credentials():
    await refused(SecurityStatus.SEC_E_NO_CREDENTIALS, server_cred())
    await refused(SecurityStatus.SEC_E_NO_CREDENTIALS, server_config())
    await refused(SecurityStatus.SEC_E_NO_CREDENTIALS, server_cred(), SECPKG_CRED_BOTH)


@pytest.mark.requirement("C23")
@pytest.mark.parametrize(
    "identity",
    [
        ALICE,
        SEC_WINNT_AUTH_IDENTITY_EX(User="alice", Domain="CONTOSO", Password="Passw0rd!"),
        SEC_WINNT_AUTH_IDENTITY_EX2(User="alice", Domain="CONTOSO", Password="Passw0rd!"),
        SEC_WINNT_AUTH_IDENTITY_EX(User="alice", Domain="CONTOSO", Password="Passw0rd!", PackageList="Kerberos, NTLM"),
        SEC_WINNT_AUTH_IDENTITY_EX(User="alice", Domain="CONTOSO", Password="Passw0rd!", PackageList="!kerberos"),
        SEC_WINNT_AUTH_IDENTITY("alice....", 5, "CONTOSO....", 7, "Passw0rd!....", 9),
        SEC_WINNT_AUTH_IDENTITY(
            "alice\0".encode("utf-16-le"), 5, "CONTOSO".encode("utf-16-le"), None, "Passw0rd!".encode("utf-16-le"),
        ),
        SEC_WINNT_AUTH_IDENTITY(b"alice", 5, b"CONTOSO", 7, b"Passw0rd!", 9, SEC_WINNT_AUTH_IDENTITY_ANSI),
        Password("Passw0rd!", "alice", "CONTOSO"),
    ],
)  # fmt: skip
async def test_an_identity_in_every_form(identity):
    state = (await acquire(password_cred(identity))).state
    assert state.client.authenticate == Password("Passw0rd!", "alice", "CONTOSO")


@pytest.mark.requirement("C19", "C23")
@pytest.mark.parametrize(
    "identity",
    [
        SEC_WINNT_AUTH_IDENTITY(User="alice", Flags=0),
        SEC_WINNT_AUTH_IDENTITY(User=b"a", Flags=SEC_WINNT_AUTH_IDENTITY_UNICODE),
        SEC_WINNT_AUTH_IDENTITY(User="alice", Password=b"\x81", Flags=SEC_WINNT_AUTH_IDENTITY_ANSI),
        SEC_WINNT_AUTH_IDENTITY_EX(User="alice", Version=0x201),
        SEC_WINNT_AUTH_IDENTITY_EX2(User="alice", Version=0x200),
    ],
)
async def test_an_identity_that_is_none_is_not_recognised(identity):
    error = await refused(SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS, password_cred(identity))
    assert error.__context__ is None  # where a UnicodeDecodeError would hold the password's bytes


def installed(monkeypatch, *, yes):
    monkeypatch.setattr(tickets, "installed", lambda: yes)


@pytest.mark.parametrize(
    ("packages", "mechanism"),
    [
        ("", "auto"),
        ("NTLM,Kerberos", "auto"),
        ("!other", "auto"),
        ("!ntlm", "kerberos"),
        ("Kerberos", "kerberos"),
        ("kerberos,!NTLM", "kerberos"),
        ("!Kerberos", "ntlm"),
        ("NTLM", "ntlm"),
    ],
)
async def test_a_package_list_says_which_mechanism_logs_on(packages, mechanism, monkeypatch):
    installed(monkeypatch, yes=True)
    identity = SEC_WINNT_AUTH_IDENTITY_EX(User="alice", Password="x", PackageList=packages)
    assert (await acquire(password_cred(identity))).state.client.policy.mechanism == mechanism


async def test_a_package_that_is_not_installed_is_not_found(monkeypatch):
    installed(monkeypatch, yes=False)
    identity = SEC_WINNT_AUTH_IDENTITY_EX(User="alice", Password="x", PackageList="!ntlm")
    await refused(SecurityStatus.SEC_E_SECPKG_NOT_FOUND, password_cred(identity))


@pytest.mark.parametrize("credential", [TicketCache("FILE:/x", "alice@A.TEST"), Keytab("/x", "alice@A.TEST")])
async def test_tickets_and_keys_log_on_too(credential, monkeypatch):
    installed(monkeypatch, yes=True)
    state = (await acquire(password_cred(credential))).state
    assert state.client.authenticate is credential
    assert state.principal == "A.TEST\\alice"


async def test_an_identity_has_one_domain():
    identity = SEC_WINNT_AUTH_IDENTITY_EX(User="FABRIKAM\\alice", Domain="CONTOSO", Password="x")
    await refused(SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS, password_cred(identity))


@pytest.mark.parametrize(
    "nobody", [Password("x"), NTHash(bytes(16)), SEC_WINNT_AUTH_IDENTITY_EX(Domain="CONTOSO", Password="x")]
)
async def test_an_identity_names_a_user(nobody):
    await refused(SecurityStatus.SEC_E_NO_CREDENTIALS, password_cred(nobody))


@pytest.mark.parametrize("packages", ["ntlm,!ntlm", "!ntlm,!kerberos", "digest"])
async def test_a_package_list_may_leave_nothing(packages):
    identity = SEC_WINNT_AUTH_IDENTITY_EX(User="alice", Password="x", PackageList=packages)
    await refused(SecurityStatus.SEC_E_NO_CREDENTIALS, password_cred(identity))


async def test_an_nt_hash_or_a_configuration_logs_on_too():
    nt_hash, config = NTHash(bytes(16), "alice"), client_config(policy=Policy(max_version=5))
    state = (await acquire(password_cred(nt_hash))).state
    assert state.client.authenticate is nt_hash
    assert state.principal == "alice"
    assert (await acquire(config)).state.client is config
    assert (await acquire(CREDSSP_CRED(pSpnegoCred=config))).state.client is config
    trust = Trust.pinned("00" * 32)
    changed = (await acquire(password_cred(config, SCHANNEL_CRED(hRootStore=trust)))).state.client
    assert changed == dataclasses.replace(config, trust=trust)


# --- pAuthData: TLS ---


@pytest.mark.requirement("C23")
@pytest.mark.parametrize("structure", [SCHANNEL_CRED, SCH_CREDENTIALS])
async def test_a_client_certificate_waits_apart_with_its_issuers(structure):
    schannel = structure(paCred=[cert_context()], hRootStore=Trust())
    state = (await acquire(password_cred(schannel=schannel))).state
    issuer = x509.load_pem_x509_certificate(pem("ec")[0]).issuer.public_bytes()
    assert isinstance(state.certificate, ssl.SSLContext)
    assert state.certificate is not state.client.ssl_context
    assert state.certificate_for((b"another", issuer)) is state.certificate
    assert state.certificate_for((b"another",)) is None


async def test_an_ssl_context_of_the_callers_own_is_a_certificate_too():
    context = tls_config.client_context(Policy())
    state = (await acquire(password_cred(schannel=SCHANNEL_CRED(paCred=[context], hRootStore=Trust())))).state
    assert state.certificate_for((b"anybody",)) is context
    server = (await acquire(server_cred(schannel=SCHANNEL_CRED(paCred=[SERVER_CONTEXT])), 1)).state.server
    assert server.ssl_context is SERVER_CONTEXT


@pytest.mark.requirement("C19", "C23")
@pytest.mark.parametrize(
    "schannel",
    [
        SCHANNEL_CRED(dwVersion=5),
        SCH_CREDENTIALS(dwVersion=4),
        SCHANNEL_CRED(paCred=[CertContext(b"no", b"pem")]),
        SCHANNEL_CRED(paCred=[CertContext(pem("ec")[0], pem("rsa")[1])]),
        SCHANNEL_CRED(paCred=[cert_context(), cert_context()]),
    ],
)
@pytest.mark.parametrize("use", [SECPKG_CRED_OUTBOUND, SECPKG_CRED_INBOUND])
async def test_tls_credentials_that_cannot_be_used_are_not_recognised(schannel, use):
    spnego = ALICE if use == SECPKG_CRED_OUTBOUND else lookup
    error = await refused(
        SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS, password_cred(spnego, dataclasses.replace(schannel)), use
    )
    assert "PRIVATE" not in str(error)


async def test_a_server_context_without_a_certificate_is_not_recognised():
    empty = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    await refused(SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS, server_cred(schannel=SCHANNEL_CRED(paCred=[empty])), 1)


TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    ("schannel", "versions"),
    [
        (SCHANNEL_CRED(), None),
        (SCHANNEL_CRED(grbitEnabledProtocols=SP_PROT_TLS1_2_CLIENT), (TLS12, TLS12)),
        (SCHANNEL_CRED(grbitEnabledProtocols=SP_PROT_TLS1_3_CLIENT | SP_PROT_TLS1_1_CLIENT), (TLS13, TLS13)),
        (SCHANNEL_CRED(grbitEnabledProtocols=SP_PROT_TLS1_2_CLIENT | SP_PROT_TLS1_3_CLIENT), None),
        (SCHANNEL_CRED(grbitEnabledProtocols=SP_PROT_TLS1_2_SERVER | SP_PROT_TLS1_3_CLIENT), (TLS13, TLS13)),
        (SCHANNEL_CRED(dwMinimumCipherStrength=128), None),
        (SCH_CREDENTIALS(), None),
        (SCH_CREDENTIALS(pTlsParameters=[TLS_PARAMETERS()]), None),
        (SCH_CREDENTIALS(pTlsParameters=[TLS_PARAMETERS(SP_PROT_TLS1_3_CLIENT)]), (TLS12, TLS12)),
        (SCH_CREDENTIALS(pTlsParameters=[TLS_PARAMETERS(), TLS_PARAMETERS(SP_PROT_TLS1_2_CLIENT)]), (TLS13, TLS13)),
    ],
)
async def test_versions_of_tls_are_those_that_are_named(schannel, versions):
    schannel = dataclasses.replace(schannel, hRootStore=Trust())
    client = (await acquire(password_cred(schannel=schannel))).state.client
    wanted = versions or (Policy().min_tls, Policy().max_tls)
    assert (client.policy.min_tls, client.policy.max_tls) == wanted
    assert client.ssl_context.minimum_version is wanted[0]
    assert client.ssl_context.maximum_version is wanted[1]


@pytest.mark.parametrize(
    "schannel",
    [
        SCHANNEL_CRED(grbitEnabledProtocols=SP_PROT_TLS1_0_CLIENT | SP_PROT_TLS1_1_CLIENT),
        SCHANNEL_CRED(grbitEnabledProtocols=SP_PROT_TLS1_2_SERVER),
        SCH_CREDENTIALS(pTlsParameters=[TLS_PARAMETERS(SP_PROT_TLS1_2_CLIENT | SP_PROT_TLS1_3_CLIENT)]),
        SCHANNEL_CRED(dwMinimumCipherStrength=256),
    ],
)
async def test_without_a_version_or_a_suite_left_the_algorithms_do_not_match(schannel):
    await refused(SecurityStatus.SEC_E_ALGORITHM_MISMATCH, password_cred(schannel=schannel))


async def test_a_configurations_own_versions_bound_those_that_are_named():
    config = client_config(policy=Policy(min_tls=TLS13))
    for bits, status in (
        (SP_PROT_TLS1_2_CLIENT, SecurityStatus.SEC_E_ALGORITHM_MISMATCH),
        (SP_PROT_TLS1_3_CLIENT | SP_PROT_TLS1_2_CLIENT, OK),
    ):
        handle = await acquire(password_cred(config, SCHANNEL_CRED(grbitEnabledProtocols=bits)), status=status)
    assert handle.state.client.ssl_context is config.ssl_context


# --- pAuthData: INBOUND ---


@pytest.mark.requirement("C6")
@pytest.mark.parametrize(
    ("use", "auth_data"),
    [
        (SECPKG_CRED_INBOUND, None),
        (SECPKG_CRED_INBOUND, client_config()),
        (SECPKG_CRED_INBOUND, server_cred(ALICE)),
        (SECPKG_CRED_INBOUND, server_cred(None)),
        (SECPKG_CRED_BOTH, client_config()),
        (SECPKG_CRED_BOTH, server_cred(ALICE, SCHANNEL_CRED(hRootStore=Trust()))),
    ],
)
async def test_without_somebody_to_validate_there_is_no_authority(use, auth_data):
    await refused(SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY, auth_data, use)


@pytest.mark.requirement("C8")
async def test_a_hook_and_a_certificate_make_a_server():
    state = (await acquire(server_cred(), SECPKG_CRED_INBOUND)).state
    assert state.client is None
    assert state.server.lookup is lookup
    assert own_public_key(state.server.ssl_context) == own_public_key(SERVER_CONTEXT)


@pytest.mark.requirement("C16")
@pytest.mark.parametrize("schannel", [SCHANNEL_CRED(), SCH_CREDENTIALS()])
async def test_a_server_needs_a_certificate(schannel):
    await refused(SecurityStatus.SEC_E_NO_CREDENTIALS, server_cred(schannel=schannel), SECPKG_CRED_INBOUND)
    await refused(SecurityStatus.SEC_E_NO_CREDENTIALS, CREDSSP_CRED(pSpnegoCred=lookup), SECPKG_CRED_INBOUND)


async def test_a_servers_configuration_keeps_its_own_certificate_unless_there_is_another():
    config = server_config(policy=Policy(max_version=5))
    assert (await acquire(config, SECPKG_CRED_INBOUND)).state.server is config
    kept = (await acquire(CREDSSP_CRED(pSpnegoCred=config), SECPKG_CRED_INBOUND)).state.server
    assert kept == config
    changed = SCHANNEL_CRED(paCred=[cert_context()], grbitEnabledProtocols=SP_PROT_TLS1_3_SERVER)
    server = (await acquire(server_cred(config, changed), SECPKG_CRED_INBOUND)).state.server
    assert server.policy.max_version == 5
    assert server.policy.min_tls is server.ssl_context.minimum_version is TLS13


async def test_the_versions_of_an_ssl_context_are_its_own():
    schannel = SCHANNEL_CRED(grbitEnabledProtocols=SP_PROT_TLS1_3_SERVER)
    await refused(SecurityStatus.SEC_E_INVALID_PARAMETER, server_cred(server_config(), schannel), 1)
    schannel.paCred = [SERVER_CONTEXT]
    await refused(SecurityStatus.SEC_E_INVALID_PARAMETER, server_cred(lookup, schannel), 1)


# --- what the machine does ---


@pytest.mark.requirement("C14")
async def test_memory_that_runs_out_has_its_status(monkeypatch):
    def exhausted(*_arguments):
        raise MemoryError

    monkeypatch.setattr(tls_config, "server_context_from_pem", exhausted)
    await refused(SecurityStatus.SEC_E_INSUFFICIENT_MEMORY, server_cred(), SECPKG_CRED_INBOUND)


@pytest.mark.requirement("C15")
@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="keys enter by another way")
async def test_any_other_failure_is_internal(monkeypatch):
    def too_many(_name):
        raise OSError(24, "too many open files")

    monkeypatch.setattr(os, "memfd_create", too_many)
    error = await refused(SecurityStatus.SEC_E_INTERNAL_ERROR, server_cred(), SECPKG_CRED_INBOUND)
    assert isinstance(error.__cause__, OSError)


# --- afterwards ---


@pytest.mark.requirement("C20")
async def test_a_handle_is_freed_once():
    handle = await acquire(password_cred())
    other = CredHandle()
    other.assign(handle.state)
    assert await FreeCredentialsHandle(handle) is OK
    assert not handle.valid
    for freed in (handle, other, CredHandle()):
        assert await FreeCredentialsHandle(freed) is SecurityStatus.SEC_E_INVALID_HANDLE
        assert freed.error.security_status is SecurityStatus.SEC_E_INVALID_HANDLE
    with pytest.raises(TypeError):
        await FreeCredentialsHandle(None)


@pytest.mark.parametrize(
    ("auth_data", "name"),
    [
        (password_cred(), "CONTOSO\\alice"),
        (password_cred(SEC_WINNT_AUTH_IDENTITY(User="bob@contoso.com")), "bob@contoso.com"),
    ],
)
async def test_credentials_tell_whose_they_are(auth_data, name):
    names = SecPkgCredentials_Names()
    assert await QueryCredentialsAttributes(await acquire(auth_data), SECPKG_CRED_ATTR_NAMES, names) is OK
    assert names.sUserName == name


async def test_credentials_tell_nothing_else():
    handle = await acquire(password_cred())
    for attribute in (SECPKG_CRED_ATTR_SSI_PROVIDER, 0x56, 0, 99):
        status = await QueryCredentialsAttributes(handle, attribute, SecPkgInfo())
        assert status is SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION
    with pytest.raises(TypeError, match="pBuffer: expected SecPkgCredentials_Names, got SecPkgInfo"):
        await QueryCredentialsAttributes(handle, SECPKG_CRED_ATTR_NAMES, SecPkgInfo())


async def test_freed_credentials_tell_nothing():
    handle = await acquire(password_cred())
    await FreeCredentialsHandle(handle)
    names = SecPkgCredentials_Names()
    status = await QueryCredentialsAttributes(handle, SECPKG_CRED_ATTR_NAMES, names)
    assert status is SecurityStatus.SEC_E_INVALID_HANDLE
    assert names.sUserName == ""


async def test_a_handle_shows_nothing_of_what_it_holds():
    handle = await acquire(password_cred(), principal="alice")
    assert not {"alice", "Passw0rd", "CONTOSO"} & set(repr(handle).replace("(", " ").split())
    assert "Passw0rd" not in repr(vars(handle.state))
