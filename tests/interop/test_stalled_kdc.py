"""A KDC that accepts and never answers, or never to the end: handshakes end at their deadline, and hold nobody up.

Nothing is left of them.

How long libkrb5 itself would wait depends on the KDCs of the realm: 27 seconds for one, more for more. What holds for
time is measured by `benchmarks/stalled_kdc.py`.
"""

import asyncio
import concurrent.futures
import dataclasses
import threading

import pytest
from support.command import COMMAND
from support.endpoints import client_config, server_config, until
from support.hosted import HostedServer
from support.kdc import PASSWORD, REALM
from support.sspi import pair, talk

import acredssp
from acredssp import HandshakeTimeout, Policy
from acredssp.aio.offload import Lane
from acredssp.policy import MechanismChoice
from acredssp.status import SecurityStatus

pytestmark = pytest.mark.interop

HOST, SPN = "127.0.0.1", "TERMSRV/localhost"
ALICE = acredssp.Password(PASSWORD, "alice", REALM)
SILENT = Policy(mechanism=MechanismChoice.KERBEROS, kerberos_timeout=600, handshake_timeout=600)
MANY = Lane.KDC.value + 8
"""More than there are threads: some get as far as the KDC, the others wait for a thread."""
MOST = Lane.KDC.value + Lane.LOCAL.value


class NobodysExecutor(concurrent.futures.ThreadPoolExecutor):
    """The loop's default executor, for a test in which nothing may run there."""

    asked = 0

    def submit(self, *_, **__):
        self.asked += 1
        raise AssertionError("something runs in the loop's default executor")


@pytest.fixture
def threads(silent_kdc):
    """Gives the threads that acredssp has started since."""
    before = set(threading.enumerate())
    return lambda: [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("acredssp")]


@pytest.fixture
async def executor():
    """Fails the test if anything asks for the loop's default executor."""
    nobodys = NobodysExecutor()
    asyncio.get_running_loop().set_default_executor(nobodys)
    yield
    assert nobodys.asked == 0


@pytest.fixture
async def server(kerberos, executor):
    """A server that takes Kerberos and NTLM; its `reports` are those of its handshakes."""
    reports = []

    def hang_up(_reader, writer):
        writer.close()

    keytab = acredssp.Keytab(str(kerberos.realm.keytab))
    config = server_config(keytab=keytab, lookup=lambda _request: acredssp.Password(PASSWORD))
    server = await acredssp.start_server(hang_up, HOST, 0, config=config, on_handshake=reports.append)
    server.reports = reports
    yield server
    server.close()
    server.abort_clients()
    await server.wait_closed()


async def log_on(server, config, **options):
    return await log_on_at(server.sockets[0].getsockname()[1], config, **options)


async def log_on_at(port, config, **options):
    options = {"config": config, "server_hostname": "localhost", "spn": SPN} | options
    _, writer = await acredssp.open_connection(HOST, port, **options)
    writer.close()
    return writer.get_extra_info("credssp")


@pytest.fixture
def stalled():
    """What logs on by Kerberos alone."""
    return client_config(SILENT, authenticate=ALICE)


@pytest.mark.requirement("kerberos.off-loop", "kerberos.silent-kdc")
async def test_every_stalled_handshake_ends_at_its_deadline(silent_kdc, server, stalled, threads):
    ends = [log_on(server, stalled, handshake_timeout=1.0) for _ in range(MANY)]
    assert {type(end) for end in await asyncio.gather(*ends, return_exceptions=True)} == {HandshakeTimeout}
    await until(lambda: len(server.reports) == MANY)
    assert {type(report.error) for report in server.reports} == {acredssp.PeerClosed}
    assert len(threads()) <= MOST


@pytest.mark.requirement("kerberos.off-loop", "kerberos.silent-kdc")
async def test_others_go_on_while_every_thread_is_stuck(silent_kdc, server, stalled, threads):
    stuck = [asyncio.ensure_future(log_on(server, stalled, handshake_timeout=600)) for _ in range(MANY)]
    await until(lambda: silent_kdc.heard._value >= Lane.KDC.value)
    ntlm = client_config(Policy(mechanism=MechanismChoice.NTLM), authenticate=ALICE)
    facts = await asyncio.gather(*(log_on(server, ntlm) for _ in range(20)))
    assert {fact.mechanism for fact in facts} == {"ntlm"}
    assert not any(task.done() for task in stuck)
    assert len(threads()) <= MOST
    for task in stuck:
        task.cancel()
    ends = await asyncio.gather(*stuck, return_exceptions=True)
    assert {type(end) for end in ends} == {asyncio.CancelledError}


@pytest.mark.requirement("kerberos.off-loop", "kerberos.silent-kdc")
@pytest.mark.parametrize("begins", [2, 4, 40], ids=["half the length", "no body", "half the body"])
async def test_a_kdc_that_stops_within_its_answer_holds_nobody_up(silent_kdc, server, stalled, begins):
    silent_kdc.begins = begins
    stuck = asyncio.ensure_future(log_on(server, stalled, handshake_timeout=600))
    await until(lambda: silent_kdc.begun)
    ntlm = client_config(Policy(mechanism=MechanismChoice.NTLM), authenticate=ALICE)
    assert (await log_on(server, ntlm)).mechanism == "ntlm"
    with pytest.raises(HandshakeTimeout):
        await log_on(server, stalled, handshake_timeout=1.0)
    assert not stuck.done()
    stuck.cancel()
    await asyncio.wait([stuck])
    assert stuck.cancelled()


async def test_a_server_gives_up_by_itself(silent_kdc, kerberos, stalled):
    """The client may wait as long as it likes."""
    reports = []
    config = server_config(keytab=acredssp.Keytab(str(kerberos.realm.keytab)), lookup=None)
    listening = await acredssp.start_server(
        lambda _reader, writer: writer.close(),
        HOST,
        0,
        config=config,
        on_handshake=reports.append,
        handshake_timeout=0.5,
    )
    async with listening:
        waiting = asyncio.ensure_future(log_on(listening, stalled, handshake_timeout=600))
        await until(lambda: reports)
        assert isinstance(reports[0].error, HandshakeTimeout)
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_ntlm_is_tried_where_the_policy_lets_it(silent_kdc, server):
    patient = client_config(Policy(kerberos_timeout=0.2), authenticate=ALICE)
    facts = await log_on(server, patient)
    assert facts.mechanism == "ntlm"
    assert "no kdc answered" in facts.fallback


async def test_a_call_of_the_sspi_functions_ends_with_the_policys_patience(silent_kdc, executor):
    impatient = dataclasses.replace(SILENT, kerberos_timeout=0.2)
    configs = client_config(impatient, authenticate=ALICE), server_config()
    client, server = await pair(*configs)
    await talk(client, server)
    assert client.status is SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY


async def test_a_call_of_the_sspi_functions_can_be_cancelled(silent_kdc, executor):
    client, server = await pair(client_config(SILENT, authenticate=ALICE), server_config())
    talking = asyncio.ensure_future(talk(client, server))
    await until(lambda: silent_kdc.heard._value)
    talking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await talking


@pytest.mark.requirement("kerberos.silent-kdc")
def test_a_server_takes_tickets_while_the_program_waits_for_a_kdc(silent_kdc, lab, kerberos, stalled):
    """A proxy is both: its clients have their tickets, and its own logons wait for a KDC that is silent."""
    lab.environment |= kerberos.realm.environment
    config = server_config(keytab=acredssp.Keytab(str(kerberos.keytab)), lookup=None)
    with HostedServer(config, acredssp.TLS()) as server:
        argv = [COMMAND, "login", server.address, "-u", "alice", "-d", REALM, "-p", PASSWORD, "--mechanism", "kerberos"]
        argv += ["--spn", SPN, "--insecure", "--carriage", "tls"]

        async def main():
            waiting = [asyncio.ensure_future(log_on_at(server.port, stalled)) for _ in range(MANY)]
            await until(lambda: silent_kdc.heard._value >= Lane.KDC.value)
            run = await asyncio.to_thread(lab.run, argv)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            return run

        assert asyncio.run(main()).status == 0


def test_the_command_ends_with_its_time_out(silent_kdc, kerberos, tmp_path):
    """It does not wait for libkrb5, which for this realm would wait longer than the test does."""
    path = kerberos.folder / "slow.conf"
    kdc = f"  kdc = 127.0.0.1:{silent_kdc.port}\n"
    path.write_text((kerberos.folder / "krb5-1.conf").read_text("ascii").replace(kdc, 4 * kdc), encoding="ascii")
    kerberos.environment |= {"KRB5_CONFIG": str(path)}

    async def main():
        config = server_config(keytab=acredssp.Keytab(str(kerberos.keytab)))
        server = await acredssp.start_server(lambda _reader, writer: writer.close(), HOST, 0, config=config)
        async with server:
            address = f"{HOST}:{server.sockets[0].getsockname()[1]}"
            argv = [COMMAND, "login", address, "-u", "alice", "-d", REALM, "-p", PASSWORD, "--mechanism", "kerberos"]
            argv += ["--spn", SPN, "--insecure", "--carriage", "tls", "--timeout", "2", "--json"]
            return await asyncio.to_thread(kerberos.run, argv)

    run = asyncio.run(main())
    assert run.status == 4, run.output
    assert '"result": "timeout"' in run.output
