"""`acredssp proxy run` between FreeRDP's clients and FreeRDP's servers: real RDP on both legs."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import ssl
import subprocess

import pytest
from support import freerdp
from support.command import COMMAND
from support.hosted import HostedServer, look_up
from support.kdc import REALM
from support.peers import free_port, program, wait_until

import acredssp

pytestmark = pytest.mark.interop

SHADOWS = pytest.mark.parametrize("shadow", [2, 3], ids=["shadow2", "shadow3"])
CLIENTS = pytest.mark.parametrize("client", [2, 3], ids=["freerdp2", "freerdp3"])
SECURITIES = pytest.mark.parametrize(
    ("client", "security"),
    [(2, "/sec:nla"), (3, "/sec:nla"), (3, "/sec:ext")],
    ids=["freerdp2-hybrid", "freerdp3-hybrid", "freerdp3-hybrid-ex"],
)
PASSWORD, FRONT_PASSWORD, TARGET_PASSWORD = "Passw0rd!", "w0nderland", "bobpw"
CONNECTED = {2: (0, "Authentication only, exit status 0"), 3: (131, "Authentication only, exit status 1")}
"""Status and line of a client that has come through the whole of RDP's connection, as it is asked to with `+auth-only`.
FreeRDP 3 cancels itself then (ERRCONNECT_CONNECT_CANCELLED), and writes a success as 1."""

LISTENER = """
[[listeners]]
address = "127.0.0.1:{port}"
preconnection = true
restricted_admin = true
certificates = [{{ certificate = "gateway.pem", key = "gateway.key" }}, {certificates}]
logon = {logon}
"""
INJECTED = "credentials = 'injected'\naccount = 'bob'\npassword = 'file:password'\n"


@dataclasses.dataclass
class Proxy:
    """A gateway that runs."""

    address: str
    process: object
    folder: object

    def records(self, count=1):
        """The lines of the first connections that ended, waited for."""
        wait_until(lambda: len(self._records()) >= count, f"the gateway tells of {count} connections")
        return self._records()[:count]

    def _records(self):
        lines = self.process.read_errors().split("\n")[:-1]
        return [json.loads(line.partition(": ")[2]) for line in lines if "acredssp.proxy: {" in line]


@pytest.fixture
def proxy(graphical_lab, tmp_path, gateway_certificate):
    """Starts the gateway: `proxy(routes and targets)`; what it wrote has no password in it."""
    started = []

    def start(settings, logon='{ users = "users" }', listener="", certificates=""):
        for name, data in zip(("gateway.pem", "gateway.key"), gateway_certificate, strict=True):
            (tmp_path / name).write_bytes(data)
        users = f"CONTOSO:alice:{PASSWORD}\n{REALM}:alice:{PASSWORD}\n:carol:{FRONT_PASSWORD}\n"
        (tmp_path / "users").write_text(users, encoding="utf-8")
        (tmp_path / "alice").write_text(PASSWORD)
        (tmp_path / "password").write_text(TARGET_PASSWORD + "\n", encoding="utf-8")
        port = free_port()
        text = LISTENER.format(port=port, logon=logon, certificates=certificates)
        (tmp_path / "settings.toml").write_text(text + listener + settings)
        argv = [COMMAND, "proxy", "run", tmp_path / "settings.toml"]
        started.append(Proxy(f"127.0.0.1:{port}", graphical_lab.start_server(argv, port, split=True), tmp_path))
        return started[-1]

    yield start
    for each in started:
        written = each.process.read() + each.process.read_errors()
        assert not any(secret in written for secret in (PASSWORD, FRONT_PASSWORD, TARGET_PASSWORD))
        assert "Traceback" not in written


@pytest.fixture
def target(shadow_servers, pin_of):
    """The settings of a target: `target(generation, more settings)` is a shadow server."""

    def settings(generation, more="", security="nla"):
        server = shadow_servers(generation, security)
        pins = f'pins = ["{pin_of(server)}"]'
        return f'\n[targets.desktops]\naddresses = ["{server.address}"]\n{pins}\n{more}'

    return settings


ROUTE = '[[listeners.routes]]\ntarget = "desktops"\n'


def outcome(done, client):
    """The client's status, and whether it wrote the line of a success."""
    return done.status, CONNECTED[client][1] in done.errors


def connected(client):
    return CONNECTED[client][0], True


@SECURITIES
@SHADOWS
def test_a_user_is_connected_by_what_is_delegated(graphical_lab, proxy, target, client, security, shadow):
    gateway = proxy(ROUTE + target(shadow))
    done = freerdp.log_on(graphical_lab, client, gateway.address, security, password=PASSWORD)
    assert outcome(done, client) == connected(client)
    (record,) = gateway.records()
    assert record["outcome"] == "relayed"
    assert (record["user"], record["mechanism"], record["target"]) == ("CONTOSO\\alice", "ntlm", "desktops")
    assert {"front", "connect", "logon", "mcs", "relay"} == {*record["seconds"]}
    assert record["ended_by"] == "client"
    assert record["bytes_up"] > 400
    assert record["bytes_down"] > 100


@SECURITIES
@SHADOWS
def test_a_user_is_connected_by_an_account_that_is_injected(graphical_lab, proxy, target, client, security, shadow):
    gateway = proxy(ROUTE + target(shadow, INJECTED))
    done = freerdp.log_on(
        graphical_lab, client, gateway.address, security, user="carol", domain=None, password=FRONT_PASSWORD
    )
    assert outcome(done, client) == connected(client)
    assert gateway.records()[0]["user"] == "carol"


@CLIENTS
@SHADOWS
def test_a_desktop_opens_and_stays_until_its_client_goes(graphical_lab, proxy, target, client, shadow):
    """FreeRDP opens its window when the connection is made in full, and names the server in its title."""
    gateway = proxy(ROUTE + target(shadow))
    argv = [freerdp.CLIENTS[client], f"/v:{gateway.address}", "/cert:ignore", "/u:alice", "/d:CONTOSO"]
    running = graphical_lab.start([*argv, f"/p:{PASSWORD}", "/log-level:OFF"])

    environment = os.environ | graphical_lab.environment
    windows = [program("xwininfo"), "-root", "-tree"]
    title = f"FreeRDP: {gateway.address}".encode()
    wait_until(
        lambda: title in subprocess.check_output(windows, env=environment) or running.ended(), "it opens its window"
    )
    assert not running.ended()
    running.stop()
    (record,) = gateway.records()
    assert (record["outcome"], record["ended_by"]) == ("relayed", "client")


@CLIENTS
def test_a_wrong_password_at_the_front_is_refused_before_a_target_is_asked(graphical_lab, proxy, target, client):
    gateway = proxy(ROUTE + target(2, INJECTED))
    done = freerdp.log_on(graphical_lab, client, gateway.address, password="wrong")
    assert outcome(done, client) == (freerdp.LOGON_FAILED, False)
    record = gateway.records()[0]
    assert (record["outcome"], record["status"]) == ("denied", "STATUS_LOGON_FAILURE")
    assert "target" not in record


@pytest.mark.parametrize(
    ("client", "security", "status"),
    [
        (3, "/sec:ext", freerdp.DENIED),
        (3, "/sec:nla", freerdp.CONNECTION_ENDED),
        (2, "/sec:nla", freerdp.CONNECTION_ENDED),
    ],
    ids=["freerdp3-hybrid-ex", "freerdp3-hybrid", "freerdp2-hybrid"],
)
@SHADOWS
def test_a_target_that_refuses_what_was_delegated(graphical_lab, proxy, target, shadow, client, security, status):
    """With HYBRID_EX the client is told. With HYBRID nothing is left to tell it by, and the connection ends."""
    gateway = proxy(ROUTE + target(shadow))
    done = freerdp.log_on(
        graphical_lab, client, gateway.address, security, user="carol", domain=None, password=FRONT_PASSWORD
    )
    assert outcome(done, client) == (status, False)
    record = gateway.records()[0]
    assert (record["outcome"], record["user"], record["target"]) == ("denied", "carol", "desktops")
    assert record["reason"].startswith("target desktops at 127.0.0.1:")


@CLIENTS
@pytest.mark.parametrize(
    ("shadow", "status"), [(2, freerdp.LOGON_FAILED), (3, freerdp.DENIED)], ids=["shadow2", "shadow3"]
)
def test_a_target_that_refuses_what_was_injected(graphical_lab, proxy, target, shadow, status, client):
    """The client hears of it before it delegates anything. FreeRDP's clients have no status for 3's 0xC00700EA."""
    gateway = proxy(ROUTE + target(shadow, INJECTED.replace("'bob'", "'alice'")))
    done = freerdp.log_on(graphical_lab, client, gateway.address, password=PASSWORD)
    assert outcome(done, client) == (status, False)
    assert gateway.records()[0]["outcome"] == "denied"


@pytest.mark.parametrize(
    ("words", "reached"),
    [
        (["/load-balance-info:blue"], True),
        (["/load-balance-info:red"], False),
        ([], False),
    ],
    ids=["token", "other-token", "no-token"],
)
@CLIENTS
def test_a_routing_token_leads_to_its_target_and_nowhere_else(graphical_lab, proxy, target, client, words, reached):
    gateway = proxy(ROUTE + 'token = "blue"\n' + target(2))
    done = freerdp.log_on(graphical_lab, client, gateway.address, *words)
    assert outcome(done, client) == (connected(client) if reached else (freerdp.NEGOTIATION_FAILED, False))
    if not reached:
        reason = "no route has the client's cookie, routing token or preconnection blob"
        assert gateway.records()[0]["reason"] == reason


@CLIENTS
@pytest.mark.parametrize(("blob", "reached"), [("blue", True), ("red", False)])
def test_a_preconnection_blob_leads_to_its_target(graphical_lab, proxy, target, client, blob, reached):
    gateway = proxy(ROUTE + 'blob = "blue"\n' + target(3))
    done = freerdp.log_on(graphical_lab, client, gateway.address, f"/pcb:{blob}")
    assert outcome(done, client) == (connected(client) if reached else (freerdp.NEGOTIATION_FAILED, False))


@CLIENTS
def test_a_user_whom_no_route_is_for_is_told_so(graphical_lab, proxy, target, client):
    """Nothing has been delegated by then: not even to the gateway."""
    gateway = proxy(ROUTE + 'users = ["carol"]\n' + target(3))
    done = freerdp.log_on(graphical_lab, client, gateway.address)
    assert outcome(done, client) == (freerdp.DENIED, False)
    (record,) = gateway.records()
    assert (record["outcome"], record["status"]) == ("denied", "STATUS_LOGON_NOT_GRANTED")
    assert record["reason"] == "no route leads this user to a target"


@CLIENTS
@pytest.mark.parametrize(("host", "shown"), [("localhost", "named.example"), ("127.0.0.1", "localhost")])
def test_a_client_is_shown_the_certificate_of_the_name_that_it_asks_for(
    graphical_lab, proxy, target, client, host, shown
):
    """It writes what it was shown where it does not trust it. The certificate without `names` is for `localhost`."""
    for name, data in zip(("named.pem", "named.key"), acredssp.self_signed(["named.example"]), strict=True):
        (graphical_lab.folder / name).write_bytes(data)
    named = '{ certificate = "named.pem", key = "named.key", names = ["localhost"] }'
    gateway = proxy(ROUTE + target(3), certificates=named)
    address = gateway.address.replace("127.0.0.1", host)
    done = freerdp.log_on(graphical_lab, client, address, certificate="deny")
    assert not outcome(done, client)[1]
    assert {*re.findall(r"CN ?= ?([a-z.]+)", done.output + done.errors)} == {shown}


@CLIENTS
def test_a_target_that_is_down_is_named(graphical_lab, proxy, client):
    gateway = proxy(ROUTE + f'[targets.desktops]\naddresses = ["127.0.0.1:{free_port()}"]\n' + INJECTED)
    done = freerdp.log_on(graphical_lab, client, gateway.address)
    assert not outcome(done, client)[1]
    record = gateway.records()[0]
    assert record["reason"].startswith("target desktops: no host can be connected to")
    assert record["reason"].endswith("connection refused")
    assert record["status"] == "STATUS_NO_LOGON_SERVERS"


@CLIENTS
def test_a_target_whose_certificate_is_not_trusted_gets_nothing(graphical_lab, proxy, shadow_servers, client):
    gateway = proxy(ROUTE + f'[targets.desktops]\naddresses = ["{shadow_servers(3).address}"]\n')
    done = freerdp.log_on(graphical_lab, client, gateway.address)
    assert not outcome(done, client)[1]
    record = gateway.records()[0]
    assert record["status"] == "STATUS_TRUSTED_RELATIONSHIP_FAILURE"
    assert "trust" in record["reason"]
    assert "pins" in record["reason"]


def test_check_tries_the_targets(graphical_lab, proxy, target):
    gateway = proxy(ROUTE + target(3, INJECTED))
    check = [COMMAND, "proxy", "check", gateway.folder / "settings.toml", "--connect"]
    run = graphical_lab.run(check, split=True)
    assert (run.status, run.output.splitlines()[-1].rpartition(": ")[2]) == (0, "ready"), run.output
    (gateway.folder / "password").write_text("wrong")
    run = graphical_lab.run(check, split=True)
    assert run.status == 1
    assert "ready" not in run.output


# --- Kerberos ---

KERBEROS_ALONE = "/auth-pkg-list:kerberos,!ntlm"
FRONTS = pytest.mark.parametrize(
    ("front", "words"),
    [("ntlm", []), ("kerberos", [KERBEROS_ALONE])],
    ids=["front-ntlm", "front-kerberos"],
)


@pytest.fixture
def kerberos_proxy(graphical_lab, kerberos, kerberos_shadow_server, pin_of, proxy):
    """Starts the gateway with the realm's keytab, before a shadow server that takes tickets."""
    graphical_lab.environment |= kerberos.environment
    address = f"localhost:{kerberos_shadow_server.port}"
    pin = pin_of(kerberos_shadow_server)

    def start(more=""):
        logon = f'{{ users = "users", keytab = "{kerberos.keytab}", realms = ["{REALM}"] }}'
        return proxy(ROUTE + f'[targets.desktops]\naddresses = ["{address}"]\npins = ["{pin}"]\n{more}', logon)

    return start


@pytest.mark.parametrize("security", ["/sec:nla", "/sec:ext"], ids=["hybrid", "hybrid-ex"])
@pytest.mark.parametrize("mechanism", ["ntlm", "kerberos"])
@FRONTS
def test_either_leg_by_ntlm_or_kerberos(graphical_lab, kerberos_proxy, front, words, mechanism, security):
    """What is delegated by Kerberos names the realm, and the shadow server knows alice of CONTOSO by NTLM."""
    account = "alice@ACREDSSP.TEST" if mechanism == "kerberos" else "CONTOSO\\alice"
    secret = f"credentials = 'injected'\naccount = '{account}'\npassword = 'file:alice'\n"
    gateway = kerberos_proxy(f'mechanism = "{mechanism}"\n{secret}')
    address = gateway.address.replace("127.0.0.1", "localhost")
    domain = REALM if front == "kerberos" else "CONTOSO"
    done = freerdp.log_on(graphical_lab, 3, address, security, *words, domain=domain)
    assert outcome(done, 3) == connected(3)
    record = gateway.records()[0]
    assert (record["mechanism"], record["target_mechanism"], record["outcome"]) == (front, mechanism, "relayed")


@pytest.mark.parametrize("security", ["/sec:nla", "/sec:ext"], ids=["hybrid", "hybrid-ex"])
def test_kerberos_on_both_legs_by_what_is_delegated(graphical_lab, kerberos_proxy, security):
    gateway = kerberos_proxy('mechanism = "kerberos"\n')
    address = gateway.address.replace("127.0.0.1", "localhost")
    done = freerdp.log_on(graphical_lab, 3, address, security, KERBEROS_ALONE, domain=REALM)
    assert outcome(done, 3) == connected(3)
    (record,) = gateway.records()
    assert (record["mechanism"], record["target_mechanism"]) == ("kerberos", "kerberos")


@pytest.mark.parametrize("security", ["/sec:nla", "/sec:ext"], ids=["hybrid", "hybrid-ex"])
@pytest.mark.parametrize(
    ("front", "words", "mechanism"),
    [("ntlm", ["/auth-pkg-list:ntlm,!kerberos"], "kerberos"), ("kerberos", [KERBEROS_ALONE], "ntlm")],
    ids=["ntlm-then-kerberos", "kerberos-then-ntlm"],
)
def test_what_is_delegated_by_one_mechanism_logs_on_by_the_other(
    graphical_lab, kerberos_proxy, front, words, mechanism, security
):
    gateway = kerberos_proxy(f'mechanism = "{mechanism}"\n')
    address = gateway.address.replace("127.0.0.1", "localhost")
    done = freerdp.log_on(graphical_lab, 3, address, security, *words, domain=REALM)
    assert outcome(done, 3) == connected(3)
    (record,) = gateway.records()
    assert (record["mechanism"], record["target_mechanism"], record["outcome"]) == (front, mechanism, "relayed")


def test_a_ticket_of_a_realm_that_is_not_taken_is_refused(graphical_lab, kerberos_proxy, kerberos):
    gateway = kerberos_proxy()
    settings = gateway.folder / "settings.toml"
    settings.write_text(settings.read_text().replace(f'realms = ["{REALM}"]', 'realms = ["ELSEWHERE.TEST"]'))
    os.kill(gateway.process.pid, signal.SIGHUP)
    wait_until(lambda: "the settings are taken" in gateway.process.read(), "the settings are taken")
    address = gateway.address.replace("127.0.0.1", "localhost")
    done = freerdp.log_on(graphical_lab, 3, address, KERBEROS_ALONE, domain=REALM)
    assert outcome(done, 3) == (freerdp.LOGON_FAILED, False)


def test_a_silent_kdc_does_not_delay_a_target_of_ntlm(graphical_lab, proxy, target, silent_kdc, kerberos):
    graphical_lab.environment |= kerberos.environment
    account = "credentials = 'injected'\naccount = 'alice@ACREDSSP.TEST'\npassword = 'file:alice'\nmechanism = 'ntlm'\n"
    gateway = proxy(ROUTE + target(2, account))
    done = freerdp.log_on(graphical_lab, 2, gateway.address)
    assert outcome(done, 2) == (freerdp.LOGON_FAILED, False)
    assert not silent_kdc.heard.acquire(blocking=False)


# --- the target's own status ---


@pytest.mark.parametrize(
    ("nt_status", "status"),
    [
        ("STATUS_PASSWORD_MUST_CHANGE", 149),
        ("STATUS_ACCOUNT_LOCKED_OUT", 135),
        ("STATUS_ACCOUNT_DISABLED", 151),
        ("STATUS_LOGON_TYPE_NOT_GRANTED", 158),
    ],
)
@SECURITIES
def test_freerdp_tells_its_user_why_the_target_refuses(graphical_lab, proxy, client, security, nt_status, status):
    policy = acredssp.Policy()
    certificate, key = acredssp.self_signed(["localhost"], "ec")
    config = acredssp.ServerConfig(
        ssl_context=acredssp.server_context_from_pem(policy, certificate, key),
        lookup=look_up,
        authorize=lambda _identity: acredssp.Deny(acredssp.NTSTATUS[nt_status]),
    )
    pin = acredssp.pin_of(ssl.PEM_cert_to_DER_cert(certificate.decode()))
    with HostedServer(config, acredssp.RDP(hybrid_ex=True)) as server:
        gateway = proxy(ROUTE + f'[targets.desktops]\naddresses = ["{server.address}"]\npins = ["{pin}"]\n{INJECTED}')
        done = freerdp.log_on(graphical_lab, client, gateway.address, security)
        assert done.status == status
        assert gateway.records()[0]["status"] == nt_status


# --- the process ---


def test_a_hangup_takes_new_settings_and_refuses_wrong_ones(graphical_lab, proxy, target):
    gateway = proxy(ROUTE + target(3))
    settings = gateway.folder / "settings.toml"
    good = settings.read_text()
    settings.write_text(good + "\nc4nary = 1\n")
    os.kill(gateway.process.pid, signal.SIGHUP)
    wait_until(lambda: "nothing has changed" in gateway.process.read(), "the settings are refused")
    assert "the settings are not taken: targets.desktops.c4nary: no such setting" in gateway.process.read()
    assert outcome(freerdp.log_on(graphical_lab, 3, gateway.address), 3) == connected(3)
    settings.write_text(good.replace("[[listeners.routes]]", '[[listeners.routes]]\nusers = ["nobody"]'))
    os.kill(gateway.process.pid, signal.SIGHUP)
    wait_until(lambda: "the settings are taken" in gateway.process.read(), "the settings are taken")
    assert outcome(freerdp.log_on(graphical_lab, 3, gateway.address), 3) != connected(3)
    assert gateway.process.stop() == 0
    assert "stopped: 0 connections were cut" in gateway.process.read()


# --- passed on undecrypted ---

PASSTHROUGH = '[[listeners.routes]]\ntarget = "desktops"\nmode = "passthrough"\n'


def several(*addresses, more=""):
    listed = ", ".join(f'"{address}"' for address in addresses)
    return f"\n[targets.desktops]\naddresses = [{listed}]\n{more}"


@CLIENTS
@SHADOWS
def test_a_client_logs_on_to_the_target_itself(graphical_lab, proxy, shadow_server, client, shadow):
    address = shadow_server(shadow).address
    running = proxy(PASSTHROUGH + several(address))
    done = freerdp.log_on(graphical_lab, client, running.address)
    assert outcome(done, client) == connected(client)
    (record,) = running.records()
    assert (record["outcome"], record["host"]) == ("passed_on", address)
    assert record["bytes_up"] > 1000


@CLIENTS
def test_a_wrong_password_is_the_targets_to_refuse(graphical_lab, proxy, shadow_server, client):
    """FreeRDP 2's server refuses by ending the connection."""
    running = proxy(PASSTHROUGH + several(shadow_server(2).address))
    done = freerdp.log_on(graphical_lab, client, running.address, password="wrong")
    assert outcome(done, client) == (freerdp.CONNECTION_ENDED, False)


@CLIENTS
def test_a_client_without_network_level_authentication_is_refused_unless_the_route_says_so(
    graphical_lab, proxy, shadow_server, client
):
    address = shadow_server(3, "tls").address
    refused = proxy(PASSTHROUGH + several(address))
    done = freerdp.log_on(graphical_lab, client, refused.address, "/sec:tls")
    assert outcome(done, client) == (freerdp.NEGOTIATION_FAILED, False)
    (record,) = refused.records()
    assert record["outcome"] == "denied"


@CLIENTS
def test_the_host_that_is_up_is_taken(graphical_lab, proxy, shadow_server, client):
    """One host refuses connections, another one accepts them and says nothing."""
    address = shadow_server(2).address
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        mute = f"127.0.0.1:{silent.getsockname()[1]}"
        closed = f"127.0.0.1:{free_port()}"
        check = "check = { interval = 0.05, timeout = 1.0, failures = 2 }\n"
        running = proxy(PASSTHROUGH + several(mute, closed, address, more=check))
        wait_until(lambda: running.process.read_errors().count(" is down: ") == 2, "two hosts are down")
        assert f"host {mute} is down: rdp does not answer within 1 seconds" in running.process.read_errors()
        assert f"host {closed} is down: connection refused" in running.process.read_errors()
        done = freerdp.log_on(graphical_lab, client, running.address)
        assert outcome(done, client) == connected(client)
        (record,) = running.records()
        assert record["host"] == address


@CLIENTS
@pytest.mark.parametrize("mode", ["passthrough", "terminate"])
def test_a_reconnect_finds_the_same_host_and_a_routing_token_names_one(
    graphical_lab, proxy, target, shadow_servers, client, mode
):
    hosts = [shadow_servers(generation).address for generation in (2, 3)]
    pins = re.findall(r"pins = (.*)", target(2) + target(3))
    trusted = "pins = " + str([pin.strip('[]"') for pin in pins]).replace("'", '"') + "\n"
    running = proxy(PASSTHROUGH.replace("passthrough", mode) + several(*hosts, more=trusted))
    port = hosts[1].rpartition(":")[2]
    number = int.from_bytes(int(port).to_bytes(2, "big"), "little")
    tokens = [f"/load-balance-info:Cookie: msts=16777343.{number}.0000"]
    for arguments in (tokens, [], [], []):
        done = freerdp.log_on(graphical_lab, client, running.address, *arguments)
        assert outcome(done, client) == connected(client)
    used = [record["host"] for record in running.records(4)]
    assert used[0] == hosts[1]
    assert len(set(used[1 if mode == "passthrough" else 0 :])) == 1


def test_remote_credential_guard_reaches_the_target(graphical_lab, proxy, kerberos_shadow_server):
    """FreeRDP's server ends such a connection at once, with a gateway and without one."""
    running = proxy(PASSTHROUGH + several(kerberos_shadow_server.address))
    answers = [
        freerdp.log_on(graphical_lab, 3, address, "/remoteGuard")
        for address in (kerberos_shadow_server.address, running.address)
    ]
    assert answers[0].status == answers[1].status
    (record,) = running.records()
    assert kerberos_shadow_server.address in record["reason"]
    assert "it ended the connection in place of a Connection Confirm" in record["reason"]


@pytest.fixture
def ticket_target(kerberos):
    """A target of ours that takes tickets, and tells who came: `ticket_target(policy)`."""
    with contextlib.ExitStack() as servers:

        def start(policy):
            context = acredssp.server_context_from_pem(policy, *acredssp.self_signed(["localhost"]))
            keytab = acredssp.Keytab(str(kerberos.keytab))
            config = acredssp.ServerConfig(ssl_context=context, keytab=keytab, policy=policy)
            return servers.enter_context(HostedServer(config, acredssp.RDP(hybrid_ex=True)))

        yield start


UNCHECKED = "check = { enabled = false }\n"
"""So that the first handshake that the target reports is the client's."""


def test_freerdp_delegates_a_ticket_to_the_target_itself(graphical_lab, proxy, kerberos, ticket_target):
    """FreeRDP's own server takes none."""
    graphical_lab.environment |= kerberos.environment
    cache, server = kerberos.log_on("alice", "-f"), ticket_target(acredssp.Policy())
    running = proxy(PASSTHROUGH + several(server.address, more=UNCHECKED))
    address = running.address.replace("127.0.0.1", "localhost")
    words = ["/remoteGuard", f"/kerberos:cache:{cache}", KERBEROS_ALONE]
    done = freerdp.log_on(graphical_lab, 3, address, *words, domain=REALM, password="none")
    assert done.status == freerdp.LOGGED_ON
    report = server.report()
    assert (report.error, report.info.mechanism, report.info.delegated) == (None, "kerberos", "remote_guard")
    assert str(server.delegated().logon_cred.package_name) == "Kerberos"
    record = running.records()[0]
    assert (record["outcome"], record["host"]) == ("passed_on", server.address)
    assert "user" not in record


# --- rdesktop ---


@pytest.fixture
def rdesktop(graphical_lab, kerberos):
    """Starts rdesktop for alice, who has a ticket: `rdesktop(address)`."""
    graphical_lab.environment |= kerberos.environment | {"KRB5CCNAME": kerberos.log_on("alice", "-f")}

    def start(address):
        trust = graphical_lab.folder / "trust"
        trust.write_text("yes\n", encoding="ascii")  # to its question about the certificate
        argv = ["rdesktop", "-u", "alice", "-d", REALM, "-p", PASSWORD, address.replace("127.0.0.1", "localhost")]
        with trust.open("rb") as words:
            return graphical_lab.start(argv, stdin=words)

    return start


def test_rdesktop_is_too_old_for_the_gateway_s_own_logon(kerberos_proxy, rdesktop):
    """Its version 2 binds no logon to its server's key (CVE-2018-0886)."""
    gateway = kerberos_proxy('mechanism = "kerberos"\n')
    rdesktop(gateway.address)
    record = gateway.records()[0]
    assert record["outcome"] == "failed"
    assert "credssp version 2, at least 5 is required" in record["reason"]


def test_rdesktop_is_passed_on_to_a_target_that_takes_it(proxy, rdesktop, ticket_target):
    """FreeRDP's servers take none of rdesktop's sessions: its second PDU of MCS is too long by a byte."""
    old = acredssp.Policy(min_version=2, max_version=2, dangerous_allow_legacy_versions=True)
    server = ticket_target(old)
    running = proxy(PASSTHROUGH + several(server.address, more=UNCHECKED))
    client = rdesktop(running.address)
    report = server.report()
    client.stop()  # it stays when the connection has ended, also without a gateway
    assert (report.error, report.info.version, report.info.mechanism) == (None, 2, "kerberos")
    assert running.records()[0]["outcome"] == "passed_on"
