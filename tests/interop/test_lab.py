"""The lab itself: real peers against each other, so that a failure of ours can be told from one of theirs."""

import concurrent.futures
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import freerdp, samba
from support.kdc import PASSWORD, PRINCIPALS, REALM
from support.observers import Capture, nmap
from support.peers import DEADLINE, free_port, wait_until

from acredssp.status import NTSTATUS

pytestmark = pytest.mark.interop

SUCCESS = {2: 0, 3: 131}
"""xfreerdp3 3.10.3 ends `+auth-only` with 131 on success."""
REFUSED = {2: 147, 3: 132}
"""A shadow server 2 closes without a word; 3 says 0xC00700EA."""


@pytest.mark.parametrize("client", [2, 3])
@pytest.mark.parametrize("server", [2, 3])
def test_freerdp_logs_on_to_freerdp(graphical_lab, shadow_server, client, server):
    run = freerdp.log_on(graphical_lab, client, shadow_server(server).address)
    assert run.status == SUCCESS[client]
    assert "Authentication only, exit status" in run.errors


@pytest.mark.parametrize("client", [2, 3])
@pytest.mark.parametrize("server", [2, 3])
def test_freerdp_refuses_a_wrong_password_of_freerdp(graphical_lab, shadow_server, client, server):
    run = freerdp.log_on(graphical_lab, client, shadow_server(server).address, password="wrong")
    assert run.status == REFUSED[server]


def test_nmap_reads_freerdp(lab, shadow_server):
    found = nmap(lab, shadow_server(3).port, "rdp-ntlm-info", "rdp-enum-encryption")
    assert "Product_Version: 10." in found
    assert "CredSSP (NLA): SUCCESS" in found


def test_a_capture_holds_the_whole_conversation(graphical_lab, lab, shadow_server):
    server = shadow_server(2)
    with Capture(lab, server.port).running() as capture:
        freerdp.log_on(graphical_lab, 2, server.address)
    begin, end = "tls.handshake.type == 1", "tcp.flags.fin == 1 || tcp.flags.reset == 1"
    assert len(capture.decode(lab.folder / "no.keys", begin, "tls.handshake.version")) == 1
    assert capture.decode(lab.folder / "no.keys", end, "tcp.flags")


def test_the_realm_gives_tickets(kerberos):
    kerberos.log_on()
    service = kerberos.run(["kvno", "-c", kerberos.cache(), "-k", kerberos.realm.keytab, *PRINCIPALS])
    assert service.status == 0
    assert service.output.count("keytab entry valid") == len(PRINCIPALS)
    wrong = kerberos.run(["kvno", "-c", kerberos.cache(), "-k", kerberos.realm.wrong_keytab, *PRINCIPALS])
    assert wrong.output.count("keytab entry invalid") == len(PRINCIPALS)


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        pytest.param("carol", "Password expired.  You must change it now.", id="must-change"),
        pytest.param("dave", "Client's credentials have been revoked", id="locked-out"),
        pytest.param("erin", "Client's entry in database has expired", id="account-expired"),
        pytest.param("frank", "Password expired.  You must change it now.", id="password-expired"),
        pytest.param("nobody", "not found in Kerberos database", id="unknown"),
    ],
)
def test_the_realm_refuses_by_name(kerberos, user, reason):
    run = kerberos.kinit(user)
    assert run.status != 0
    assert reason in run.output


def test_the_realm_refuses_a_wrong_password(kerberos):
    run = kerberos.kinit(password="wrong")
    assert "Password incorrect" in run.output


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        pytest.param(["-f"], "FIA", id="forwardable"),
        pytest.param(["-F"], "IA", id="not-forwardable"),
        pytest.param(["-s", "1h"], "FDdiIA", id="postdated"),
    ],
)
def test_tickets_are_as_asked_for(kerberos, options, flags):
    kerberos.log_on("alice", *options)
    listed = kerberos.run(["klist", "-f", kerberos.cache()]).output
    assert f"Flags: {flags}" in listed


def test_a_kdc_of_another_time_gives_tickets_of_its_time(kerberos):
    with kerberos.realm.at_another_time("-2h") as port:
        kerberos.configure(port)
        kerberos.log_on("alice", "-l", "1h")
    assert kerberos.run(["klist", "-s", kerberos.cache()]).status == 1, "the ticket has expired"


def test_the_kdc_has_no_privileges(kerberos_realm):
    (kdc,) = [process for process in kerberos_realm.lab.processes if "krb5kdc" in process.name]
    status = Path(f"/proc/{kdc.pid}/status").read_text(encoding="ascii")
    users = re.search(r"^Uid:\t(.*)$", status, re.MULTILINE)[1].split()
    assert "0" not in users


def test_a_black_hole_hears_and_says_nothing(kerberos, black_hole):
    kerberos.configure(black_hole.port)
    asking = kerberos.start(["kinit", "-k", "-t", kerberos.realm.keytab, PRINCIPALS[0]])
    assert black_hole.heard.acquire(timeout=DEADLINE)
    assert not asking.ended()
    black_hole.close()
    assert asking.wait() == 1
    assert "not found in Kerberos database" in asking.read()


def test_libkrb5_reads_each_configuration_from_the_next_call_on(kerberos):
    """What `support.kdc` says of KRB5_CONFIG, in this process and in its threads."""
    gssapi = importlib.import_module("gssapi")
    user = gssapi.Name(f"alice@{REALM}", gssapi.NameType.kerberos_principal)

    def log_on(password=PASSWORD):
        return gssapi.raw.acquire_cred_with_password(user, password.encode(), mechs=[gssapi.MechType.kerberos])

    def refused():
        with pytest.raises(gssapi.exceptions.GSSError) as caught:
            log_on()
        return str(caught.value)

    assert log_on().lifetime > 0
    nobody_listens = free_port()
    kerberos.configure(nobody_listens)
    assert "Cannot contact any KDC" in refused()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert "Cannot contact any KDC" in pool.submit(refused).result()
        kerberos.configure(kerberos.realm.port)
        assert pool.submit(log_on).result().lifetime > 0
    assert log_on().lifetime > 0


# --- the Samba domain ---


@pytest.mark.parametrize("host", ["controller", "member"])
@pytest.mark.parametrize(
    ("user", "right", "wrong"),
    [
        ("alice", None, "WRONG_PASSWORD"),
        ("disabled", "ACCOUNT_DISABLED", "WRONG_PASSWORD"),
        ("expired", "ACCOUNT_EXPIRED", "WRONG_PASSWORD"),
        ("locked", "ACCOUNT_LOCKED_OUT", "ACCOUNT_LOCKED_OUT"),
        ("must-change", "PASSWORD_MUST_CHANGE", "WRONG_PASSWORD"),
        ("old-password", "PASSWORD_EXPIRED", "WRONG_PASSWORD"),
        ("wrong-hours", "INVALID_LOGON_HOURS", "WRONG_PASSWORD"),
        ("elsewhere", "INVALID_WORKSTATION", "WRONG_PASSWORD"),
        ("nobody", "NO_SUCH_USER", "NO_SUCH_USER"),
    ],
)
def test_what_the_domain_says_of_an_account_to_the_right_password_and_to_a_wrong_one(domain, host, user, right, wrong):
    for password, reason in ((samba.PASSWORD, right), ("wrong", wrong)):
        said = getattr(domain, host).ask("wbinfo", f"--authenticate={samba.DOMAIN}\\{user}%{password}")
        assert ("challenge/response password authentication succeeded" in said) == (reason is None)
        told = re.findall(r"error code was NT_(\w+) \((0x\w+),", said)  # of the challenge and the response alone
        assert told == ([(f"STATUS_{reason}", f"0x{NTSTATUS[f'STATUS_{reason}']:x}")] if reason else [])


def test_a_host_ends_with_all_that_it_started(tmp_path, namespaces):
    host = samba.boot(tmp_path / "host", "dc1", *samba.ADDRESSES.values())
    host.run("sh", "-c", "sleep 600 & setsid sleep 600 &")
    pids = host.processes()
    assert len(pids) == 3
    host.stop()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_host_ends_with_who_started_it(tmp_path, namespaces):
    program = f"""
import pathlib, sys, time
sys.path.insert(0, "")
from support import samba
host = samba.boot(pathlib.Path({str(tmp_path / "host")!r}), "dc1", "10.99.0.1")
host.run("sh", "-c", "setsid sleep 600 &")
print(*host.processes(), flush=True)
time.sleep(600)
"""
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]) as process:
        pids = process.stdout.readline().split()
        process.kill()
    assert len(pids) == 2
    wait_until(lambda: not any(Path(f"/proc/{int(pid)}").exists() for pid in pids), "the host ends")
