"""A server of ours in a Samba domain, on its controller and on a member: winbind says who may log on."""

import asyncio
import dataclasses
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from support import freerdp, logons
from support.command import COMMAND, Server
from support.logon import session_base_key
from support.ntlm import HandMade
from support.peers import wait_until
from support.samba import DOMAIN, PASSWORD, REALM, Inside

from acredssp.aio import offload
from acredssp.aio.winbind import WinbindOracle
from acredssp.core.events import AskOracle, LookupCredential
from acredssp.credentials import Deny, Oracle, Password
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor, NTLMIdentity
from acredssp.policy import Policy
from acredssp.status import NTSTATUS

pytestmark = pytest.mark.interop

NO_LOGON_SERVERS = Deny(NTSTATUS.STATUS_NO_LOGON_SERVERS)

PORT = 3389
"""The network is the domain's own."""

TROUBLES = {
    "disabled": "STATUS_ACCOUNT_DISABLED",
    "expired": "STATUS_ACCOUNT_EXPIRED",
    "must-change": "STATUS_PASSWORD_MUST_CHANGE",
    "old-password": "STATUS_PASSWORD_EXPIRED",
    "wrong-hours": "STATUS_INVALID_LOGON_HOURS",
    "elsewhere": "STATUS_INVALID_WORKSTATION",
}
"""What the controller says to who has the password, and to nobody else."""

FREERDP3_STATUS = {
    "STATUS_LOGON_FAILURE": freerdp.LOGON_FAILED,
    "STATUS_ACCOUNT_DISABLED": 151,
    "STATUS_ACCOUNT_EXPIRED": 157,
    "STATUS_PASSWORD_MUST_CHANGE": 149,
    "STATUS_PASSWORD_EXPIRED": 148,
    "STATUS_INVALID_LOGON_HOURS": freerdp.DENIED,
    "STATUS_INVALID_WORKSTATION": freerdp.DENIED,
}

HOSTS = ("controller", "member")
CLIENTS = pytest.mark.parametrize("client", [2, 3], ids=["freerdp2", "freerdp3"])


class DomainServer(Server):
    """`acredssp serve --winbind --json` on a host of the domain."""

    def reasons(self, count):
        """What winbind said of the first `count` logons that it refused, as the operator reads it: (who, why)."""
        found = re.compile(r"^INFO acredssp\.winbind: winbind refuses '(.*?)': (\w+)$", re.MULTILINE)
        wait_until(lambda: len(found.findall(self.process.read_errors())) >= count, f"{count} reasons are told")
        return [(who.replace("\\\\", "\\"), why) for who, why in found.findall(self.process.read_errors())]


@pytest.fixture(params=HOSTS)
def inside(request, graphical_lab, domain):
    """A lab on the controller, then one on the member."""
    return Inside(graphical_lab, getattr(domain, request.param))


def serve(inside, *arguments):
    """Start our server there."""
    argv = [
        COMMAND,
        "serve",
        "--winbind",
        "--listen",
        f"{inside.host.address}:{PORT}",
        "--json",
        "--key-type",
        "ec",
        *arguments,
    ]
    process = inside.start(argv, split=True)
    wait_until(lambda: "listening" in process.read() or process.ended(), "the server listens")
    assert not process.ended(), process.read_errors()
    return DomainServer(PORT, process, inside.host.address)


def log_on(inside, server, *accounts, mechanism="auto"):
    """Log on by our own client, as each (domain, user, password): None, or the NTSTATUS that it was told."""
    words = [word for account in accounts for word in account]
    run = inside.run([sys.executable, logons.__file__, server.host, server.port, mechanism, *words], split=True)
    assert run.status == 0, run.errors
    return json.loads(run.output)


# --- who logs on ---


@CLIENTS
def test_freerdp_logs_on(inside, client):
    server = serve(inside)
    run = freerdp.log_on(inside, client, server.address, user="alice", domain=DOMAIN, password=PASSWORD)
    assert run.status == freerdp.LOGGED_ON
    record = server.record()
    assert {name: record[name] for name in ("result", "principal", "mechanism", "credssp_version", "delegated")} == {
        "result": "success",
        "principal": "ACRED\\alice",
        "mechanism": "ntlm",
        "credssp_version": 6,
        "delegated": "password",
    }


@pytest.mark.parametrize("mechanism", ["ntlm", "negotiate"])
def test_our_client_logs_on_under_every_name_that_the_domain_knows(inside, mechanism):
    server = serve(inside)
    names = [(DOMAIN, "alice"), ("acred", "ALICE"), (REALM, "alice"), ("", "alice@acred.test"), ("", "alice")]
    accounts = [(domain, user, PASSWORD) for domain, user in names]
    assert log_on(inside, server, *accounts, mechanism=mechanism) == [None] * len(names)
    assert [record["result"] for record in server.records(len(names))] == ["success"] * len(names)


def test_several_processes_serve(inside):
    server = serve(inside, "--workers", 2)
    outcomes = log_on(inside, server, *[(DOMAIN, "alice", PASSWORD)] * 4, (DOMAIN, "alice", "wrong"))
    assert outcomes == [None] * 4 + ["STATUS_LOGON_FAILURE"]
    assert server.process.stop() == 0


# --- who does not ---


@pytest.mark.requirement("winbind.proof")
def test_our_client_is_told_what_its_password_proves(inside):
    server = serve(inside)
    accounts = [(DOMAIN, user, password) for user in TROUBLES for password in (PASSWORD, "wrong")]
    told = [status for user in TROUBLES for status in (TROUBLES[user], "STATUS_LOGON_FAILURE")]
    assert log_on(inside, server, *accounts) == told
    reasons = [(f"{DOMAIN}\\{user}", why) for user in TROUBLES for why in (TROUBLES[user], "STATUS_WRONG_PASSWORD")]
    assert server.reasons(len(reasons)) == reasons


@pytest.mark.requirement("winbind.proof")
@pytest.mark.parametrize("user", TROUBLES)
def test_freerdp3_is_told_what_its_password_proves(graphical_lab, domain, user):
    inside = Inside(graphical_lab, domain.member)
    server = serve(inside)
    for password, status in ((PASSWORD, TROUBLES[user]), ("wrong", "STATUS_LOGON_FAILURE")):
        run = freerdp.log_on(inside, 3, server.address, user=user, domain=DOMAIN, password=password)
        assert run.status == FREERDP3_STATUS[status]
    assert [record["nt_status"] for record in server.records(2)] == [TROUBLES[user], "STATUS_LOGON_FAILURE"]


@pytest.mark.requirement("ntlm.uniform-failure")
@CLIENTS
def test_freerdp_is_refused_with_a_wrong_password_and_as_an_unknown_user_alike(inside, client):
    server = serve(inside)
    for user, password in (("alice", "wrong"), ("nobody", PASSWORD)):
        run = freerdp.log_on(inside, client, server.address, user=user, domain=DOMAIN, password=password)
        assert run.status == freerdp.LOGON_FAILED
    wrong, unknown = server.records(2)
    for record in (wrong, unknown):
        del record["peer"], record["elapsed_ms"], record["time"]
    assert (wrong.pop("principal"), unknown.pop("principal")) == ("ACRED\\alice", "ACRED\\nobody")
    assert (wrong.pop("cookie"), unknown.pop("cookie")) == ("alice", "nobody")
    assert wrong == unknown
    assert wrong["nt_status"] == "STATUS_LOGON_FAILURE"
    assert server.reasons(2) == [("ACRED\\alice", "STATUS_WRONG_PASSWORD"), ("ACRED\\nobody", "STATUS_NO_SUCH_USER")]


@pytest.mark.requirement("winbind.proof")
def test_a_locked_account_is_told_to_nobody_since_its_password_proves_nothing(inside):
    server = serve(inside)
    accounts = [(DOMAIN, "locked", password) for password in (PASSWORD, "wrong")]
    assert log_on(inside, server, *accounts) == ["STATUS_LOGON_FAILURE"] * 2
    # The controller gives the same answer to both: it does not look at the password of a locked account.
    assert server.reasons(2) == [("ACRED\\locked", "STATUS_ACCOUNT_LOCKED_OUT")] * 2


@pytest.mark.requirement("winbind.unavailable")
def test_without_winbindd_there_is_no_logon_server_and_with_it_there_is_one_again(graphical_lab, domain):
    inside = Inside(graphical_lab, domain.member)
    server = serve(inside)
    alice = (DOMAIN, "alice", PASSWORD)
    assert log_on(inside, server, alice) == [None]
    domain.member.stop_winbindd()
    try:
        accounts = [alice, (DOMAIN, "alice", "wrong"), (DOMAIN, "nobody", "x")]
        assert log_on(inside, server, *accounts) == ["STATUS_NO_LOGON_SERVERS"] * 3
    finally:
        domain.member.start_winbindd()
    assert log_on(inside, server, alice) == [None]


# --- Kerberos, with the PAC that a domain puts into its tickets ---

HOST = "srv.acred.test"


@pytest.fixture
def kerberos(kerberos_modules, graphical_lab, domain, member_keytab):
    """A lab on the member, where programs know the realm and our server takes tickets and whom winbind knows."""
    graphical_lab.environment |= {"KRB5_CONFIG": "/etc/krb5.conf", "KRB5RCACHETYPE": "none"}
    inside = Inside(graphical_lab, domain.member)
    inside.server = dataclasses.replace(serve(inside, "--keytab", member_keytab), host=HOST)
    return inside


def facts(record, *names):
    return [record[name] for name in names]


@pytest.mark.parametrize("mechanism", ["kerberos", "raw-kerberos", "auto"])
def test_our_client_logs_on_with_a_ticket_of_the_controller(kerberos, mechanism):
    assert log_on(kerberos, kerberos.server, (REALM, "alice", PASSWORD), mechanism=mechanism) == [None]
    record = kerberos.server.record()
    assert facts(record, "result", "principal", "account", "mechanism", "delegated") == [
        "success", f"{REALM}\\alice", f"{DOMAIN}\\alice", "kerberos", "password",
    ]  # fmt: skip


def test_our_client_hears_from_the_controller_itself_that_it_gets_no_ticket(kerberos):
    users = [user for user in TROUBLES if user != "elsewhere"]  # Samba's KDC asks no client where it is
    right, wrong = (
        log_on(kerberos, kerberos.server, *((REALM, user, password) for user in users), mechanism="kerberos")
        for password in (PASSWORD, "wrong")
    )
    assert not {None, "STATUS_LOGON_FAILURE"} & set(right)
    assert set(wrong) == {"STATUS_LOGON_FAILURE"}


def test_the_same_server_takes_ntlm(kerberos):
    accounts = [(DOMAIN, "alice", PASSWORD), (DOMAIN, "disabled", PASSWORD), (DOMAIN, "disabled", "wrong")]
    told = [None, "STATUS_ACCOUNT_DISABLED", "STATUS_LOGON_FAILURE"]
    assert log_on(kerberos, kerberos.server, *accounts, mechanism="ntlm") == told
    assert [facts(record, "principal", "nt_status") for record in kerberos.server.records(3)] == [
        [f"{DOMAIN}\\{user}", status] for (_, user, _), status in zip(accounts, told, strict=True)
    ]


def test_freerdp3_logs_on_with_a_ticket_of_the_controller(kerberos):
    run = freerdp.log_on(kerberos, 3, kerberos.server.address, user="alice", domain=REALM, password=PASSWORD)
    assert run.status == freerdp.LOGGED_ON
    record = kerberos.server.record()
    assert facts(record, "result", "mechanism", "delegated") == ["success", "kerberos", "password"]


# --- the oracle by itself ---


def exchange(identity, user="alice", password=PASSWORD, domain=DOMAIN):
    """What a logon to a server of that name leaves to be proven."""
    server = NTLMAcceptor(Policy(), identity)
    client = HandMade(server)
    event = server.step(client.authenticate(secret=Password(password, user, domain), user=user, domain=domain))
    assert isinstance(event, LookupCredential)
    asked = server.resume(Oracle(print))
    assert isinstance(asked, AskOracle)
    return asked.exchange


@pytest.mark.requirement("winbind.identity")
@pytest.mark.parametrize(("host", "computer"), [("controller", "DC1"), ("member", "SRV")], ids=HOSTS)
async def test_the_machine_tells_its_names(domain, host, computer):
    command = getattr(domain, host).enter("ntlm_auth")
    async with WinbindOracle(command=command, timeout=20.0) as winbind:
        identity = await winbind.identity()
    assert identity == NTLMIdentity(computer, DOMAIN, f"{computer.lower()}.acred.test", "acred.test")


@pytest.mark.requirement("winbind.identity")
async def test_a_controller_refuses_a_response_to_a_challenge_with_other_names(domain):
    async with WinbindOracle(command=domain.member.enter("ntlm_auth"), timeout=20.0) as winbind:
        right = exchange(await winbind.identity())
        assert await winbind.verify(right) == session_base_key(right, Password(PASSWORD))
        assert await winbind.verify(exchange(NTLMIdentity("ACREDSSP"))) == Deny(NTSTATUS.STATUS_LOGON_FAILURE)
        assert await winbind.verify(exchange(NTLMIdentity("OTHER", DOMAIN))) == Deny(NTSTATUS.STATUS_LOGON_FAILURE)


@pytest.mark.requirement("winbind.own-answer")
async def test_many_logons_at_once_get_an_answer_each_and_each_its_own(domain):
    async with WinbindOracle(command=domain.member.enter("ntlm_auth"), processes=3, timeout=60.0) as winbind:
        identity = await winbind.identity()
        asked = [
            exchange(identity, user, password)
            for _ in range(10)
            for user, password in (("alice", PASSWORD), ("alice", "wrong"), ("nobody", "x"), ("disabled", PASSWORD))
        ]
        answers = await asyncio.gather(*map(winbind.verify, asked))
    for at in range(0, len(asked), 4):
        assert answers[at : at + 4] == [
            session_base_key(asked[at], Password(PASSWORD)),
            Deny(NTSTATUS.STATUS_WRONG_PASSWORD),
            Deny(NTSTATUS.STATUS_NO_SUCH_USER),
            Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED, proven=True),
        ]


@pytest.mark.requirement("winbind.unavailable")
async def test_a_winbindd_that_hangs_is_no_logon_server_and_one_that_goes_on_is_one_again(domain):
    command = domain.member.enter("ntlm_auth")
    async with WinbindOracle(command=command, timeout=20.0) as winbind:
        asked = exchange(await winbind.identity())
        daemons = set(await offload.run(domain.member.processes)) - {domain.member.init}
        for pid in daemons:
            os.kill(pid, signal.SIGSTOP)
        try:
            async with WinbindOracle(command=command, timeout=0.5) as impatient:
                assert await impatient.verify(asked) == NO_LOGON_SERVERS
        finally:
            for pid in daemons:
                os.kill(pid, signal.SIGCONT)
        assert await winbind.verify(asked) == session_base_key(asked, Password(PASSWORD))


@pytest.mark.requirement("winbind.unavailable")
async def test_a_server_without_privileges_needs_the_group_of_winbind(domain):
    def oracle(groups):
        command = domain.member.enter("setpriv", "--reuid=nobody", "--regid=nogroup", groups, "ntlm_auth")
        return WinbindOracle(command=command, timeout=20.0)

    async with oracle("--groups=winbindd_priv") as winbind:
        asked = exchange(await winbind.identity())
        assert await winbind.verify(asked) == session_base_key(asked, Password(PASSWORD))
    async with oracle("--clear-groups") as winbind:
        with pytest.raises(OSError, match="check that it runs, and that this user may ask it"):
            await winbind.identity()
        assert await winbind.verify(asked) == NO_LOGON_SERVERS


@pytest.mark.requirement("winbind.names")
async def test_a_name_with_a_zero_is_not_taken_for_the_name_before_it(domain):
    async with WinbindOracle(command=domain.member.enter("ntlm_auth"), timeout=20.0) as winbind:
        assert await winbind.verify(exchange(await winbind.identity(), "alice\0of another name")) == Deny()


# --- the documentation ---

DOCS = Path(__file__).parents[2] / "docs" / "domain.md"

PROGRAM = """\
import asyncio, pathlib, sys
import acredssp

async def serve(reader, writer):
    print(writer.get_extra_info("credssp").principal, flush=True)
    writer.close()

for name, data in zip(("server.pem", "server.key"), acredssp.self_signed(["srv"])):
    pathlib.Path(name).write_bytes(data)

async def main():
{example}

asyncio.run(main())
"""


def test_the_example_of_the_documentation_serves_users_of_the_domain(graphical_lab, domain):
    inside = Inside(graphical_lab, domain.member)
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    program = PROGRAM.format(example="".join(f"    {line}\n" for line in example.splitlines()))
    process = inside.start([sys.executable, "-X", "dev", "-c", program], cwd=inside.folder, split=True)
    wait_until(lambda: domain.member.listens(PORT) or process.ended(), "the server listens")
    server = Server(PORT, process, inside.host.address)
    assert log_on(inside, server, (DOMAIN, "alice", PASSWORD)) == [None]
    wait_until(lambda: process.read() == "ACRED\\alice\n", "the server greets")


@pytest.mark.parametrize("user", TROUBLES)
def test_the_documentation_says_who_is_told_what(user):
    row = re.compile(rf"^\|[^|]*\| {TROUBLES[user]} \| STATUS_LOGON_FAILURE \|$", re.MULTILINE)
    assert row.search(DOCS.read_text(encoding="utf-8"))
