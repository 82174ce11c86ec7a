"""Logons by Kerberos over asyncio, with a real KDC: which mechanism it comes to, why, and each failure by its cause."""

import asyncio
import contextlib
import gc
import struct
from pathlib import Path

import pytest
from support import rfc4120
from support.endpoints import client_config, server_config
from support.kerberos import ALICE, SPN
from support.peers import wait_until

import acredssp
from acredssp import AuthenticationError, CredSSPError, Keytab, NTHash, Password, Policy, PolicyError, TicketCache
from acredssp.aio import offload
from acredssp.credentials import RemoteGuard, SmartCard
from acredssp.policy import FALL_BACK, MechanismChoice
from acredssp.status import NTSTATUS, SecurityStatus, Stage
from acredssp.wire import KerbTicketLogon

FORMS = [MechanismChoice.NEGOTIATE, MechanismChoice.KERBEROS, MechanismChoice.RAW_KERBEROS, MechanismChoice.AUTO]


@contextlib.asynccontextmanager
async def listening(kerberos, **changes):
    """A server that takes both mechanisms; gives its port and the reports of its handshakes, as they come."""
    reports = asyncio.Queue()
    changes = {"keytab": Keytab(str(kerberos.keytab)), "lookup": lambda request: Password("Passw0rd!")} | changes
    config = server_config(changes.pop("policy", None), **changes)
    server = await acredssp.start_server(
        lambda reader, writer: writer.close(), "127.0.0.1", 0, config=config, on_handshake=reports.put_nowait
    )
    try:
        yield server.sockets[0].getsockname()[1], reports
    finally:
        server.close()
        await server.wait_closed()


async def log_on(port, authenticate=ALICE, *, name="localhost", spn=SPN, **changes):
    """Log on, and give the facts of it."""
    config = client_config(changes.pop("policy", None), authenticate=authenticate, **changes)
    _, writer = await acredssp.open_connection("127.0.0.1", port, config=config, server_hostname=name, spn=spn)
    writer.close()
    with contextlib.suppress(CredSSPError, OSError):
        await writer.wait_closed()
    return writer.get_extra_info("credssp")


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("version", [2, 4, 5, 6])
async def test_a_password_logs_on_by_kerberos(form, version, kerberos):
    policy = Policy(mechanism=form, max_version=version, min_version=min(version, 5),
                    dangerous_allow_legacy_versions=True)  # fmt: skip
    async with listening(kerberos, policy=policy) as (port, reports):
        facts = await log_on(port, policy=policy)
        report = await reports.get()
    assert (facts.version, facts.mechanism, facts.fallback) == (version, "kerberos", "")
    assert facts.delegated == "password"
    assert report.error is None
    assert str(report.info.principal) == "ACREDSSP.TEST\\alice"
    assert report.info.mechanism == "kerberos"


async def test_tickets_and_keytabs_log_on_and_delegate_nothing(kerberos):
    cache = await asyncio.to_thread(kerberos.log_on, "bob")
    keys = Keytab(str(kerberos.keytab), "HTTP/localhost@ACREDSSP.TEST")
    async with listening(kerberos) as (port, reports):
        for credential, user in (TicketCache(cache), "bob"), (keys, "HTTP/localhost"):
            facts = await log_on(port, credential)
            assert (facts.mechanism, facts.delegated) == ("kerberos", "nothing")
            assert (await reports.get()).info.principal.user == user


async def test_what_is_delegated_is_another_value(kerberos):
    got = asyncio.Queue()

    def admitted(admission):
        got.put_nowait(admission.info)
        return True

    cache = await asyncio.to_thread(kerberos.log_on, "bob")
    async with listening(kerberos, admit=admitted) as (port, _):
        await log_on(port, TicketCache(cache), delegate=ALICE)
        info = await got.get()
    assert (info.principal.user, info.delegated) == ("bob", "password")


async def delegated(kerberos, authenticate, delegate):
    """What a server is handed, and the client's facts."""
    handed = asyncio.Queue()

    def connected(_reader, writer):
        handed.put_nowait(writer.transport.take_credentials())
        writer.close()

    config = server_config(keytab=Keytab(str(kerberos.keytab)))
    server = await acredssp.start_server(connected, "127.0.0.1", 0, config=config)
    try:
        facts = await log_on(server.sockets[0].getsockname()[1], authenticate, delegate=delegate)
        return await handed.get(), facts
    finally:
        server.close()
        await server.wait_closed()


async def test_remote_credential_guard_delegates_a_ticket_that_the_host_can_open(kerberos):
    cache = await asyncio.to_thread(kerberos.log_on, "alice")
    credentials, facts = await delegated(kerberos, TicketCache(cache), RemoteGuard())
    assert facts.delegated == credentials.kind == "remote_guard"
    logon = KerbTicketLogon.decode(credentials.logon_cred.cred_buffer)
    assert (logon.service_ticket[:1], logon.ticket_granting_ticket[:1]) == (b"\x61", b"\x76")
    keytab = rfc4120.read_keytab(await asyncio.to_thread(kerberos.keytab.read_bytes))
    ticket, _ = rfc4120.open_ticket_logon(keytab, bytes(credentials.logon_cred.cred_buffer))
    assert rfc4120.name(ticket["cname"]) == "alice"


async def test_remote_credential_guard_has_no_second_choice(kerberos):
    async with listening(kerberos) as (port, _):
        with pytest.raises(AuthenticationError, match="does not know the service"):
            await log_on(port, spn="TERMSRV/nowhere.acredssp.test", delegate=RemoteGuard())


async def test_a_ticket_that_may_not_be_forwarded_ends_the_logon_before_anything_is_sent(kerberos):
    cache = await asyncio.to_thread(kerberos.log_on, "alice", "-F")
    async with listening(kerberos) as (port, reports):
        with pytest.raises(AuthenticationError, match="may not be forwarded"):
            await log_on(port, TicketCache(cache), delegate=RemoteGuard())
        report = await reports.get()
    assert report.info.delegated is None


async def test_a_smart_card_is_delegated_beside_a_logon_by_ticket(kerberos):
    cache = await asyncio.to_thread(kerberos.log_on, "alice")
    card = SmartCard("1234", "alice", container_name="key", csp_name="provider")
    credentials, facts = await delegated(kerberos, TicketCache(cache), card)
    assert facts.delegated == "smartcard"
    assert (credentials.pin.reveal(), str(credentials.user_hint), credentials.domain_hint) == ("1234", "alice", None)
    detail = credentials.csp_data
    assert (detail.key_spec, detail.card_name, str(detail.container_name)) == (1, None, "key")


async def test_many_logons_at_once(kerberos):
    config = client_config(authenticate=ALICE)
    async with listening(kerberos) as (port, reports):

        async def one():
            _, writer = await acredssp.open_connection(
                "127.0.0.1", port, config=config, server_hostname="localhost", spn=SPN
            )
            writer.close()
            return writer.get_extra_info("credssp").mechanism

        assert await asyncio.gather(*(one() for _ in range(20))) == ["kerberos"] * 20
        assert [(await reports.get()).error for _ in range(20)] == [None] * 20


def open_files():
    return sorted(Path("/proc/self/fd").iterdir())


def test_logons_that_are_given_up_leave_no_file_open(kerberos):
    """Whatever step a cancellation meets: sockets, keytabs and caches are closed when the thread is through."""
    credentials = [ALICE, TicketCache(kerberos.log_on("bob")), Keytab(str(kerberos.keytab), "HOST/localhost")]
    configs = [client_config(only_kerberos(), authenticate=credential) for credential in credentials]

    async def one(port, config, patience):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                _, writer = await acredssp.open_connection(
                    "127.0.0.1", port, config=config, server_hostname="localhost", spn=SPN
                )
                writer.close()

    async def main(count):
        async with listening(kerberos) as (port, _):
            turns = [one(port, configs[number % 3], 0.3 * number / count) for number in range(count)]
            await asyncio.gather(*turns)
            await asyncio.gather(*(one(port, config, None) for config in configs))

    asyncio.run(main(3))
    before = open_files()
    asyncio.run(main(90))
    wait_until(lambda: not any(pool.unfinished for pool in offload._pools.values()), "every step is through")
    gc.collect()
    assert open_files() == before


# --- which mechanism ---


@pytest.mark.requirement("kerberos.second-choice")
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"spn": "TERMSRV/nowhere.acredssp.test"}, "kerberos: the kdc does not know the service"),
        ({"name": "127.0.0.1", "spn": None}, "kerberos: no kdc knows a service by an ip address"),
        (
            {"authenticate": Password("Passw0rd!", "alice", "elsewhere.test")},
            "kerberos: no kdc answers for the realm",
        ),
        ({"authenticate": Password("Passw0rd!", "alice", "ACREDSSP")}, ""),
        ({"policy": Policy(mechanism=MechanismChoice.NTLM)}, ""),
    ],
)
async def test_ntlm_is_the_second_choice_and_the_facts_say_why(changes, why, kerberos):
    async with listening(kerberos) as (port, _):
        facts = await log_on(port, **changes)
    assert (facts.mechanism, facts.fallback) == ("ntlm", why)


async def test_a_server_without_a_keytab_chooses_ntlm(kerberos):
    async with listening(kerberos, keytab=None) as (port, _):
        facts = await log_on(port)
    assert (facts.mechanism, facts.fallback) == ("ntlm", "the server chose ntlm")


async def test_a_server_that_forbids_ntlm_takes_kerberos_alone(kerberos):
    async with listening(kerberos, policy=Policy(mechanism=MechanismChoice.KERBEROS)) as (port, reports):
        assert (await log_on(port)).mechanism == "kerberos"
        await reports.get()
        with pytest.raises(CredSSPError):
            await log_on(port, policy=Policy(mechanism=MechanismChoice.NTLM))
        assert isinstance((await reports.get()).error, PolicyError)


@pytest.mark.requirement("kerberos.second-choice")
@pytest.mark.parametrize("causes", [frozenset(), FALL_BACK - {SecurityStatus.SEC_E_TARGET_UNKNOWN}])
async def test_nothing_falls_back_that_the_policy_does_not_name(causes, kerberos):
    async with listening(kerberos) as (port, _):
        with pytest.raises(AuthenticationError) as caught:
            await log_on(port, policy=Policy(fall_back=causes), spn="TERMSRV/nowhere.acredssp.test")
    assert caught.value.security_status is SecurityStatus.SEC_E_TARGET_UNKNOWN


@pytest.mark.requirement("kerberos.second-choice")
async def test_a_wrong_password_is_no_reason_for_ntlm(kerberos):
    lookup = asyncio.Queue()
    async with listening(kerberos, lookup=lookup.put_nowait) as (port, _):
        with pytest.raises(AuthenticationError, match="the password is wrong"):
            await log_on(port, Password("wrong", "alice", "acredssp.test"))
    assert lookup.empty()


@pytest.mark.parametrize("name", ["127.0.0.1", "::1", "fe80::1%lo"])
def test_no_kdc_is_asked_for_an_address_unless_the_spn_is_given(name):
    from acredssp.aio.handshake import Names  # noqa: PLC0415

    assert not Names(name, None, None).known_to_kdc
    assert not Names(None, name, None).known_to_kdc
    assert Names(name, None, SPN).known_to_kdc
    assert not Names("localhost", name, None).known_to_kdc
    assert Names(name, "localhost", None).known_to_kdc
    assert Names(name, "localhost", None).for_logon == "TERMSRV/localhost"


@pytest.mark.parametrize("name", ["localhost", "host1", "1.2.3", "127.0.0.01", "a:b", "ä", "\0", "\ud800"])
def test_what_only_looks_like_an_address_is_a_name(name):
    from acredssp.aio.handshake import Names  # noqa: PLC0415

    assert Names(name, None, None).known_to_kdc


def test_kerberos_alone_cannot_be_used_for_an_address(kerberos):
    config = client_config(Policy(mechanism=MechanismChoice.KERBEROS), authenticate=ALICE)
    with pytest.raises(PolicyError) as caught:
        config.new_context(server_hostname="localhost", spn="TERMSRV/127.0.0.1", ask_kdc=False)
    assert caught.value.security_status is SecurityStatus.SEC_E_TARGET_UNKNOWN


@pytest.mark.parametrize(
    ("credential", "choice"),
    [
        (TicketCache(), MechanismChoice.NTLM),
        (Keytab(), MechanismChoice.NTLM),
        (NTHash(bytes(16), "alice"), MechanismChoice.KERBEROS),
        (NTHash(bytes(16), "alice"), MechanismChoice.RAW_KERBEROS),
    ],
)
def test_a_credential_that_cannot_log_on_so_is_refused_at_once(credential, choice):
    with pytest.raises(PolicyError) as caught:
        client_config(Policy(mechanism=choice), authenticate=credential)
    assert caught.value.security_status is SecurityStatus.SEC_E_NO_CREDENTIALS


@pytest.mark.parametrize(
    ("credential", "choice"),
    [(NTHash(bytes(16), "alice"), MechanismChoice.AUTO), (ALICE, MechanismChoice.NTLM)],
)
def test_remote_credential_guard_takes_a_logon_by_kerberos(credential, choice):
    with pytest.raises(PolicyError, match="remote credential guard"):
        client_config(Policy(mechanism=choice), authenticate=credential, delegate=RemoteGuard())


def test_without_kerberos_a_password_logs_on_by_ntlm_and_nothing_else_does(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert client_config(authenticate=ALICE)._choice.tickets is None
    for make in (
        lambda: client_config(authenticate=TicketCache()),
        lambda: client_config(only_kerberos(), authenticate=ALICE),
        lambda: client_config(authenticate=ALICE, delegate=RemoteGuard()),
        lambda: server_config(keytab=Keytab()),
    ):
        with pytest.raises(PolicyError) as caught:
            make()
        assert caught.value.security_status is SecurityStatus.SEC_E_SECPKG_NOT_FOUND
        assert "pip install acredssp[kerberos]" in caught.value.hint


def test_a_server_must_be_able_to_let_somebody_in():
    with pytest.raises(ValueError, match="nobody can log on"):
        server_config(lookup=None)
    with pytest.raises(ValueError, match="nobody can log on"):
        server_config(Policy(mechanism=MechanismChoice.NTLM), lookup=None, keytab=Keytab())
    with pytest.raises(ValueError, match="nobody can log on"):
        server_config(Policy(mechanism=MechanismChoice.KERBEROS))


# --- failures, each by its cause ---


def only_kerberos(**changes):
    return Policy(mechanism=MechanismChoice.KERBEROS, **changes)


CLIENTS = {
    "wrong password": (Password("wrong", "alice", "acredssp.test"), SPN, SecurityStatus.SEC_E_LOGON_DENIED,
                       NTSTATUS.STATUS_LOGON_FAILURE),
    "unknown user": (Password("Passw0rd!", "nobody", "acredssp.test"), SPN, SecurityStatus.SEC_E_LOGON_DENIED,
                     NTSTATUS.STATUS_LOGON_FAILURE),
    "expired password": (Password("Passw0rd!", "frank", "acredssp.test"), SPN, SecurityStatus.SEC_E_LOGON_DENIED,
                         NTSTATUS.STATUS_PASSWORD_EXPIRED),
    "locked out": (Password("Passw0rd!", "dave", "acredssp.test"), SPN, SecurityStatus.SEC_E_LOGON_DENIED,
                   NTSTATUS.STATUS_ACCOUNT_DISABLED),
    "expired account": (Password("Passw0rd!", "erin", "acredssp.test"), SPN, SecurityStatus.SEC_E_LOGON_DENIED,
                        NTSTATUS.STATUS_ACCOUNT_EXPIRED),
    "unknown realm": (Password("Passw0rd!", "alice", "elsewhere.test"), SPN,
                      SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY, NTSTATUS.STATUS_NO_LOGON_SERVERS),
    "unknown service": (ALICE, "TERMSRV/nowhere", SecurityStatus.SEC_E_TARGET_UNKNOWN, NTSTATUS.STATUS_LOGON_FAILURE),
    "no cache": (TicketCache("FILE:/nowhere"), SPN, SecurityStatus.SEC_E_NO_CREDENTIALS,
                 NTSTATUS.STATUS_LOGON_FAILURE),
    "no keytab": (Keytab("/nowhere", "alice@ACREDSSP.TEST"), SPN, SecurityStatus.SEC_E_NO_CREDENTIALS,
                  NTSTATUS.STATUS_LOGON_FAILURE),
}  # fmt: skip


@pytest.mark.requirement("kerberos.failures")
@pytest.mark.requirement("kerberos.failures")
@pytest.mark.parametrize(("authenticate", "spn", "status", "nt_status"), CLIENTS.values(), ids=CLIENTS)
async def test_a_client_learns_why_it_has_no_ticket(authenticate, spn, status, nt_status, kerberos):
    async with listening(kerberos) as (port, _):
        with pytest.raises(AuthenticationError) as caught:
            await log_on(port, authenticate, spn=spn, policy=only_kerberos())
    assert (caught.value.security_status, caught.value.nt_status) == (status, nt_status)
    assert caught.value.stage is Stage.NEGO_TOKEN
    assert caught.value.__cause__ is not None


@pytest.mark.requirement("kerberos.failures")
async def test_an_expired_ticket_is_told_from_none(kerberos):
    cache = await asyncio.to_thread(kerberos.log_on, "alice")
    await asyncio.to_thread(let_expire, kerberos.folder / "ticket")
    async with listening(kerberos) as (port, _):
        with pytest.raises(AuthenticationError) as caught:
            await log_on(port, TicketCache(cache))
    assert caught.value.security_status is SecurityStatus.SEC_E_CONTEXT_EXPIRED


async def test_a_kdc_with_another_clock_is_told_by_both(kerberos):
    cache = await asyncio.to_thread(kerberos.log_on, "alice")
    await asyncio.to_thread(shift_clock, kerberos.folder / "ticket", 3600)
    async with listening(kerberos) as (port, _):
        with pytest.raises(AuthenticationError) as caught:
            await log_on(port, TicketCache(cache))
    assert caught.value.security_status is SecurityStatus.SEC_E_TIME_SKEW


@pytest.mark.requirement("kerberos.failures")
@pytest.mark.requirement("defect.kdc-unverified")
async def test_a_ticket_for_another_key_is_told_on_both_sides(kerberos):
    async with listening(kerberos, keytab=Keytab(str(kerberos.realm.wrong_keytab))) as (port, reports):
        with pytest.raises(AuthenticationError) as caught:
            await log_on(port)
        report = await reports.get()
    for error in caught.value, report.error:
        assert error.security_status is SecurityStatus.SEC_E_WRONG_PRINCIPAL
        assert error.nt_status is NTSTATUS.STATUS_MUTUAL_AUTHENTICATION_FAILED


@pytest.mark.requirement("kerberos.failures")
async def test_a_service_that_the_keytab_has_not_is_told_on_both_sides(kerberos):
    async with listening(kerberos) as (port, reports):
        with pytest.raises(AuthenticationError) as caught:
            await log_on(port, spn="TERMSRV/elsewhere.acredssp.test")
        report = await reports.get()
    for error in caught.value, report.error:
        assert error.security_status is SecurityStatus.SEC_E_WRONG_PRINCIPAL


@pytest.mark.requirement("kerberos.failures")
@pytest.mark.requirement("kerberos.failures")
async def test_a_client_whose_clock_is_off_is_told_on_both_sides(kerberos):
    cache = await asyncio.to_thread(kerberos.log_on, "alice")
    run = await asyncio.to_thread(kerberos.run, ["kvno", "-c", cache, SPN])
    assert run.status == 0, run.output
    await asyncio.to_thread(shift_clock, kerberos.folder / "ticket", 3600)
    async with listening(kerberos) as (port, reports):
        with pytest.raises(AuthenticationError) as caught:
            await log_on(port, TicketCache(cache))
        report = await reports.get()
    for error in caught.value, report.error:
        assert error.security_status is SecurityStatus.SEC_E_TIME_SKEW
        assert error.nt_status is NTSTATUS.STATUS_TIME_DIFFERENCE_AT_DC


async def test_a_server_without_keys_says_that_it_is_its_own_fault(kerberos):
    async with listening(kerberos, keytab=Keytab("/nowhere")) as (port, reports):
        with pytest.raises(AuthenticationError) as caught:
            await log_on(port)
        report = await reports.get()
    assert report.error.security_status is SecurityStatus.SEC_E_NO_CREDENTIALS
    assert caught.value.nt_status is NTSTATUS.STATUS_NO_LOGON_SERVERS


def let_expire(path):
    """Give every ticket of a cache an end in the past, as the cache says it in clear."""
    data = path.read_bytes()
    for end in sorted(ends_in(path)):
        data = data.replace(struct.pack(">I", end), struct.pack(">I", 1_000_000_000))
    path.write_bytes(data)


def ends_in(path):
    krb5 = pytest.importorskip("krb5")
    context = krb5.init_context()
    return {ticket.times.endtime for ticket in krb5.cc_resolve(context, f"FILE:{path}".encode())} - {0}


def shift_clock(path, seconds):
    """Let a cache say that the KDC's clock is that far ahead of ours (tag 1 of its header: DeltaTime)."""
    data = path.read_bytes()
    (length,) = struct.unpack_from(">H", data, 2)
    header = struct.pack(">HHii", 1, 8, seconds, 0)
    path.write_bytes(data[:2] + struct.pack(">H", len(header)) + header + data[4 + length :])


# --- a KDC that does not answer ---


async def test_a_silent_kdc_ends_at_the_deadline_and_ntlm_goes_on(kerberos, silent_kdc):
    async with listening(kerberos) as (port, _):
        facts = await log_on(port, policy=Policy(kerberos_timeout=0.1))
    assert (facts.mechanism, facts.fallback) == ("ntlm", "kerberos: no kdc answered within 0.1 seconds")


async def test_a_silent_kdc_is_no_authenticating_authority(kerberos, silent_kdc):
    async with listening(kerberos) as (port, _):
        with pytest.raises(AuthenticationError) as caught:
            await log_on(port, policy=only_kerberos(kerberos_timeout=0.1))
    assert caught.value.security_status is SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY
    assert caught.value.nt_status is NTSTATUS.STATUS_NO_LOGON_SERVERS
