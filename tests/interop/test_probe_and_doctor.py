"""`acredssp probe` and `doctor` on real peers: FreeRDP's servers in every setting, and a domain of Samba."""

import contextlib
import json
import re
import socket
import socketserver
import subprocess
import threading

import pytest
from support.command import COMMAND
from support.peers import program, wait_until
from support.samba import DOMAIN, PASSWORD, Inside

from acredssp.rdp import ConnectionRequest

pytestmark = pytest.mark.interop

SETTINGS = {
    (2, "nla"): {"nla-required", "certificate-self-signed"},
    (3, "nla"): {"nla-required", "certificate-self-signed"},
    (2, "ext"): {"nla-not-offered", "tls-required"},  # these servers never select HYBRID_EX, and say "TLS required"
    (3, "ext"): {"nla-not-offered", "tls-required"},
    (2, "tls"): {"nla-not-offered", "nla-not-required"},
    (3, "tls"): {"nla-not-offered", "nla-not-required"},
    (2, "rdp"): {"nla-not-offered", "rdp-security-accepted"},
    (3, "rdp"): {"nla-not-offered", "rdp-security-accepted"},
}
"""FreeRDP's server by generation and setting, and findings that it must have."""


def told(lab, *words, status=None):
    """Run a command with --json; return its object and the ids of its findings."""
    run = lab.run([COMMAND, *words, "--json"], split=True)
    assert status is None or run.status == status, run
    record = json.loads(run.output)
    return record, {each["id"] for each in record.get("findings", record.get("causes", []))}


@pytest.mark.parametrize(("generation", "security"), SETTINGS)
def test_a_freerdp_server_has_the_findings_of_its_setting(lab, shadow_server, generation, security):
    server = shadow_server(generation, security)
    record, found = told(lab, "probe", server.address, status=0)
    assert SETTINGS[generation, security] <= found, record
    assert not server.process.ended()


@pytest.mark.parametrize("generation", [2, 3])
def test_a_probe_of_freerdp_tells_the_version_and_the_mechanism(lab, shadow_server, generation):
    record, found = told(lab, "probe", shadow_server(generation).address)
    assert record["credssp_version"] == 6
    assert "ntlm" in record["mechanisms"]
    assert "credssp-old" not in found


@contextlib.contextmanager
def tapped(server):
    """The address of a relay to a server, and what each client sends by it, in a list for each connection."""
    sent = []

    class Relay(socketserver.BaseRequestHandler):
        def handle(self):
            sent.append(kept := bytearray())
            with socket.create_connection(("127.0.0.1", server.port)) as onward:
                back = threading.Thread(target=self._copy, args=(onward, self.request, bytearray()))
                back.start()
                self._copy(self.request, onward, kept)
                back.join()

        @staticmethod
        def _copy(source, target, kept):
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    kept += data
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)

    class Relays(socketserver.ThreadingTCPServer):
        daemon_threads = False

    with Relays(("127.0.0.1", 0), Relay) as relays:
        thread = threading.Thread(target=relays.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"127.0.0.1:{relays.server_address[1]}", sent
        finally:
            relays.shutdown()
            thread.join()


@pytest.mark.parametrize(("generation", "security", "expected"), [(2, "nla", 13), (3, "nla", 13), (3, "tls", 10)])
def test_what_freerdp_is_sent_is_what_the_documentation_says(lab, shadow_server, generation, security, expected):
    with tapped(shadow_server(generation, security)) as (address, sent):
        record, _ = told(lab, "probe", address)
    requests = [ConnectionRequest.decode(bytes(each[: each[3]])) for each in sent]
    assert record["connections"] == len(sent) == expected
    assert [each.requested_protocols.value for each in requests[:6]] == [10, 2, 1, 0, 4, 16]
    assert {(each.cookie, each.routing_token) for each in requests} == {(None, None)}
    assert [each[each[3]] for each in map(bytes, sent) if len(each) > each[3]] == [0x16] * (expected - 6)


@pytest.mark.parametrize("generation", [2, 3])
def test_the_doctor_names_a_wrong_password_at_freerdp(lab, shadow_server, generation):
    words = ("-u", "CONTOSO\\alice", "-p", "wrong", "--insecure", "--mechanism", "ntlm")
    _, causes = told(lab, "doctor", shadow_server(generation).address, *words, status=1)
    assert "wrong-credentials" in causes
    words = ("-u", "CONTOSO\\alice", "-p", "Passw0rd!", "--insecure", "--mechanism", "ntlm")
    _, causes = told(lab, "doctor", shadow_server(generation).address, *words, status=0)
    assert causes == {"logon-succeeded"}


@pytest.mark.parametrize(
    ("generation", "security", "expected"),
    [
        (2, "tls", "nla-not-offered"), (3, "tls", "nla-not-offered"),
        (2, "rdp", "nla-not-offered"), (3, "rdp", "nla-not-offered"),
    ],
)  # fmt: skip
def test_the_doctor_names_a_freerdp_server_without_nla(lab, shadow_server, generation, security, expected):
    words = ("-u", "CONTOSO\\alice", "-p", "Passw0rd!", "--insecure")
    record, causes = told(lab, "doctor", shadow_server(generation, security).address, *words, status=3)
    assert causes & {expected, "tls-not-allowed", "tls-required"}, record


def nmap(server, script):
    """What a script of nmap says. Those that ask for certificates and suites (ssl-cert) cannot speak RDP first."""
    argv = [program("nmap"), "-Pn", "-n", "-p", str(server.port), "--script", f"+{script}", "127.0.0.1"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("generation", "security"), [(2, "nla"), (3, "nla"), (3, "tls"), (3, "rdp")])
def test_nmap_agrees_where_both_ask(lab, shadow_server, generation, security):
    server = shadow_server(generation, security)
    out = nmap(server, "rdp-enum-encryption")
    theirs = set(re.findall(r"^\|_?\s+(CredSSP \(NLA\)|SSL|Native RDP): SUCCESS", out, re.MULTILINE))
    record, _ = told(lab, "probe", server.address)
    accepted = {name for name, answer in record["negotiation"].items() if not answer.startswith("refused")}
    ours = {"SSL"} & accepted
    ours |= {"Native RDP"} if "RDP" in accepted else set()
    ours |= {"CredSSP (NLA)"} if {"HYBRID", "SSL"} & accepted else set()  # nmap asks for both, and takes either
    assert theirs == ours != set(), out


@pytest.mark.parametrize("generation", [2, 3])
def test_nmap_agrees_on_the_names_that_ntlm_tells(lab, shadow_server, generation):
    server = shadow_server(generation)
    out = nmap(server, "rdp-ntlm-info")
    theirs = dict(re.findall(r"^\|_?\s+([\w_]+): (\S+)$", out, re.MULTILINE))
    record, _ = told(lab, "probe", server.address)
    ours = record["ntlm"]
    assert theirs["NetBIOS_Computer_Name"] == ours["netbios_computer"], out
    assert theirs["NetBIOS_Domain_Name"] == ours["netbios_domain"], out


# --- a domain ---

PORT = 3389
TROUBLES = {
    "disabled": "account-disabled",
    "expired": "account-expired",
    "must-change": "password-must-change",
    "old-password": "password-expired",
    "wrong-hours": "account-restriction",
    "elsewhere": "account-restriction",
}
"""Accounts of the domain, and the causes that the doctor names."""


@pytest.fixture
def member(graphical_lab, domain):
    """Our server on a member of the domain: the lab inside, and the server's address."""
    inside = Inside(graphical_lab, domain.member)
    address = f"{inside.host.address}:{PORT}"
    argv = [COMMAND, "serve", "--winbind", "--listen", address, "--json", "--key-type", "ec"]
    process = inside.start(argv, split=True)
    wait_until(lambda: "listening" in process.read() or process.ended(), "the server listens")
    return inside, address


def counters(domain):
    """The counter of wrong passwords of each account, as the controller has it."""
    shown = domain.controller.ask(
        "ldbsearch", "-H", "/var/lib/samba/private/sam.ldb", "(objectClass=user)", "badPwdCount", "badPasswordTime",
        "logonCount", "lastLogon",
    )  # fmt: skip
    return sorted(line for line in shown.splitlines() if re.match(r"(dn|bad\w+|logonCount|lastLogon):", line))


def test_a_probe_is_no_logon_for_the_domain(member, domain):
    """Neither the counters nor winbind's log know anything of it."""
    inside, address = member
    before = counters(domain)
    assert before
    record, found = told(inside, "probe", address, status=0)
    assert record["ntlm"]["netbios_domain"] == DOMAIN
    assert "ntlm-only" in found
    assert counters(domain) == before


def test_the_doctor_names_what_is_wrong_with_an_account_of_the_domain(member):
    inside, address = member
    for user, cause in TROUBLES.items():
        words = ("-u", f"{DOMAIN}\\{user}", "-p", PASSWORD, "--insecure", "--mechanism", "ntlm")
        record, causes = told(inside, "doctor", address, *words, status=1)
        assert cause in causes, record["login"]
    _, causes = told(inside, "doctor", address, "-u", f"{DOMAIN}\\alice", "-p", PASSWORD, "--insecure", status=0)
    assert causes == {"logon-succeeded"}


def test_the_doctor_tells_a_server_that_does_not_reach_its_domain(member, domain):
    inside, address = member
    domain.member.stop_winbindd()
    try:
        words = ("-u", f"{DOMAIN}\\alice", "-p", PASSWORD, "--insecure", "--mechanism", "ntlm")
        _, causes = told(inside, "doctor", address, *words, status=1)
    finally:
        domain.member.start_winbindd()
    assert "no-domain-controller" in causes
