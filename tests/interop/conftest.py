"""What the tests against real peers share: a lab a test, an X display and FreeRDP servers a session."""

import subprocess

import pytest
from support import freerdp, samba
from support.command import login
from support.kdc import REALM
from support.peers import Lab, program, wait_until

import acredssp


@pytest.fixture(scope="session")
def display(tmp_path_factory):
    """An X display for FreeRDP, with a number of its own choice.

    It must not reset itself when its last client goes: a shadow server goes and comes back at once as it starts, and is
    turned away if it comes into the reset, about once in thirty.
    """
    lab = Lab(tmp_path_factory.mktemp("display"))
    number = lab.folder / "number"
    with number.open("wb") as file:
        argv = ["Xvfb", "-displayfd", str(file.fileno()), "-screen", "0", "800x600x24", "-nolisten", "tcp", "-noreset"]
        lab.start(argv, pass_fds=[file.fileno()])
    yield f":{wait_until(lambda: number.read_text(encoding='ascii').strip(), 'Xvfb names its display')}"
    lab.stop()


@pytest.fixture
def lab(tmp_path):
    """Starts peers for one test; whatever they wrote is shown if the test fails."""
    lab = Lab(tmp_path)
    yield lab
    lab.stop()
    lab.show_logs()


@pytest.fixture
def graphical_lab(lab, display):
    """A lab whose programs find an X display."""
    lab.environment["DISPLAY"] = display
    return lab


@pytest.fixture(scope="session")
def sam_file(tmp_path_factory):
    """The accounts of FreeRDP's servers, made by their own tool: alice of CONTOSO and of the realm, and bob of none."""
    path = tmp_path_factory.mktemp("accounts") / "sam"
    alice = ["-u", "alice", "-p", "Passw0rd!"]
    accounts = [[*alice, "-d", "CONTOSO"], [*alice, "-d", REALM], ["-u", "bob", "-p", "bobpw"]]
    hashes = [subprocess.check_output([program("winpr-hash"), *account, "-f", "sam"]) for account in accounts]
    path.write_bytes(b"".join(hashes))
    return path


@pytest.fixture(scope="session")
def shadow_servers(tmp_path_factory, display, sam_file):
    """Starts FreeRDP servers, each kind once a session: `shadow_servers(generation, security)`."""
    lab, servers = Lab(tmp_path_factory.mktemp("shadow"), DISPLAY=display), {}

    def get(generation, security="nla"):
        kind = generation, security
        if kind not in servers:
            servers[kind] = freerdp.start_shadow_server(lab, generation, sam_file, security)
        return servers[kind]

    yield get
    lab.stop()


@pytest.fixture(scope="session")
def known_pins():
    """The pins of shadow servers by their addresses, as far as somebody has asked."""
    return {}


@pytest.fixture
def pin_of(graphical_lab, known_pins):
    """The pin of a shadow server's certificate, as our command line tells it: `pin_of(server)`."""

    def find(server):
        if server.address not in known_pins:
            record = login(graphical_lab, server.address, "--mechanism", "ntlm").record
            known_pins[server.address] = record["peer_key_sha256"]
        return known_pins[server.address]

    return find


@pytest.fixture(scope="session")
def gateway_certificate():
    """The chain and the key of a gateway, for all tests: an RSA key takes long to make."""
    return acredssp.self_signed(["localhost"])


@pytest.fixture(scope="session")
def kerberos_shadow_server(tmp_path_factory, display, sam_file, kerberos_realm):
    """FreeRDP's server 3 with the realm's keytab: it takes Kerberos, in SPNEGO and without, and NTLM."""
    lab = Lab(tmp_path_factory.mktemp("kerberos-shadow"), DISPLAY=display, **kerberos_realm.service_environment)
    yield freerdp.start_shadow_server(lab, 3, sam_file)
    lab.stop()


@pytest.fixture
def shadow_server(shadow_servers):
    """A FreeRDP server by generation; what it logged during the test is shown if the test fails."""
    used = {}

    def get(generation, security="nla"):
        server = shadow_servers(generation, security)
        used.setdefault(server, len(server.process.read()))
        return server

    yield get
    for server, before in used.items():
        print(f"--- {server.process.name}\n{server.process.read()[before:]}")  # noqa: T201


@pytest.fixture(scope="session")
def namespaces():
    """Skips where there can be none."""
    samba.require_namespaces()


@pytest.fixture(scope="session")
def domain(tmp_path_factory, namespaces):
    """A Samba domain with a controller and a member."""
    domain = samba.Domain(tmp_path_factory.mktemp("domain")).start()
    yield domain
    domain.stop()


@pytest.fixture(scope="session")
def member_keytab(domain):
    """Where the member has its keys for Kerberos."""
    return domain.make_keytab()
