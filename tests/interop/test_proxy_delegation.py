"""`acredssp proxy` in a Samba domain: users get to targets by constrained delegation, and no password is anywhere."""

import dataclasses
import json
import re
import sys

import pytest
from support import freerdp
from support.command import COMMAND
from support.peers import wait_until
from support.samba import PASSWORD, REALM, Inside

import acredssp

pytestmark = pytest.mark.interop

GATEWAY, TARGET = "TERMSRV/gw.acred.test", "TERMSRV/target.acred.test"
UNLISTED = "TERMSRV/unlisted.acred.test"

LOG_ON = """
import asyncio, subprocess, sys
import acredssp
from acredssp.credentials import Nothing

def credential(user, password, mechanism):
    if mechanism == "ntlm":
        return acredssp.Password(password, user, "ACRED.TEST")
    subprocess.run(["kinit", "-f", "-c", cache, user], input=password.encode(), stdout=-3, check=True)
    return acredssp.TicketCache(f"FILE:{cache}")

async def main(port, user, password):
    config = acredssp.ClientConfig(
        authenticate=credential(user, password, MECHANISM),
        delegate=Nothing(),
        policy=acredssp.Policy(mechanism=MECHANISM, dangerous_accept_any_certificate=True),
    )
    try:
        reader, writer = await acredssp.open_connection(
            "10.99.0.2", int(port), config=config, carriage=acredssp.RDP(hybrid_ex=True), spn="TERMSRV/gw.acred.test"
        )
    except acredssp.CredSSPError as error:
        print(error.nt_status)
    else:
        print("in")
        writer.close()

cache = sys.argv.pop()
asyncio.run(main(*sys.argv[1:]))
"""

SETTINGS = """
[[listeners]]
address = "10.99.0.2:{port}"
restricted_admin = true
certificates = [{{ certificate = "gateway.pem", key = "gateway.key" }}]
routes = [{{ target = "desktops" }}]

[listeners.logon]
keytab = "gateway.keytab"
delegating_account = "gateway@{realm}"
realms = ["{realm}"]
{logon}

[targets.desktops]
addresses = ["10.99.0.2:{target_port}"]
spn = "{spn}"
pins = ["{pin}"]
credentials = "constrained"
mechanism = "kerberos"
restricted_admin = true
"""


@dataclasses.dataclass
class Gateway:
    """A gateway on the member, before a server of ours that takes tickets for the target's SPN."""

    inside: Inside
    port: int
    process: object
    target: object

    def log_on(self, user="alice", mechanism="kerberos"):
        """What the user is told: `in`, or an NTSTATUS."""
        script = LOG_ON.replace("MECHANISM", repr(mechanism))
        run = self.inside.run(
            [sys.executable, "-c", script, self.port, user, PASSWORD, self.inside.folder / user], split=True
        )
        assert run.status == 0, run.errors
        return run.output.strip()

    def ticket(self, user):
        """Get a ticket that can be forwarded; the cache's name."""
        words, cache = self.inside.folder / "words", f"FILE:{self.inside.folder / 'ticket'}"
        words.write_text(f"{PASSWORD}\n", encoding="ascii")
        with words.open("rb") as stdin:
            run = self.inside.run(["kinit", "-f", "-c", cache, user], stdin=stdin)
        assert run.status == 0, run.output
        return cache

    def logons(self):
        """What the target says of each logon, beside the lines of the pool's checks."""
        found = re.compile('^{"result": "success".*', re.MULTILINE).findall
        return [json.loads(line) for line in wait_until(lambda: found(self.target.read()), "the target reports")]

    def record(self):
        """The line of the first connection that ended."""
        found = wait_until(lambda: re.findall(r"acredssp\.proxy: (\{.*\})", self.process.read_errors()), "a line")
        return json.loads(found[0])


@pytest.fixture(scope="module")
def keytabs(domain, tmp_path_factory):
    """The accounts of the gateway and of the target: the domain lets the one delegate to the other's SPN alone."""
    folder = tmp_path_factory.mktemp("keytabs")
    tool = domain.controller.run
    for account, names in (("gateway", [GATEWAY]), ("target", [TARGET, UNLISTED])):
        tool("samba-tool", "user", "create", account, PASSWORD)
        for name in names:
            tool("samba-tool", "spn", "add", name, account)
        tool("samba-tool", "domain", "exportkeytab", folder / f"{account}.keytab", f"--principal={account}")
    tool("samba-tool", "delegation", "add-service", "gateway", TARGET)
    tool("samba-tool", "user", "create", "sensitive", PASSWORD)
    tool("samba-tool", "user", "sensitive", "sensitive", "on")
    return folder


@pytest.fixture
def gateway(kerberos_modules, graphical_lab, domain, keytabs, tmp_path):
    """Starts the gateway: `gateway(spn of its target)`."""
    graphical_lab.environment |= {"KRB5_CONFIG": "/etc/krb5.conf", "KRB5RCACHETYPE": "none"}
    inside = Inside(graphical_lab, domain.member)

    def start(spn=TARGET, logon=""):
        serve = [COMMAND, "serve", "--listen", "10.99.0.2:3391", "--keytab", keytabs / "target.keytab", "--json"]
        target = inside.start(serve, split=True)
        wait_until(lambda: "listening" in target.read() or target.ended(), "the target listens")
        pin = json.loads(target.read().splitlines()[0])["peer_key_sha256"]
        for name, data in zip(("gateway.pem", "gateway.key"), acredssp.self_signed(["localhost"], "ec"), strict=True):
            (tmp_path / name).write_bytes(data)
        (tmp_path / "gateway.keytab").write_bytes((keytabs / "gateway.keytab").read_bytes())
        (tmp_path / "users").write_text(f":alice:{PASSWORD}\n")
        values = {"port": 3390, "target_port": 3391, "realm": REALM, "pin": pin, "spn": spn, "logon": logon}
        (tmp_path / "settings.toml").write_text(SETTINGS.format(**values))
        process = inside.start([COMMAND, "proxy", "run", tmp_path / "settings.toml"], split=True)
        wait_until(lambda: "listening" in process.read() or process.ended(), "the gateway listens")
        assert not process.ended(), process.read_errors()
        return Gateway(inside, 3390, process, target)

    return start


def test_a_user_is_logged_on_to_the_target_without_a_password_anywhere(gateway):
    here = gateway()
    assert here.log_on() == "in"
    record = here.record()
    assert (record["mechanism"], record["target_mechanism"], record["user"]) == (
        "kerberos",
        "kerberos",
        f"{REALM}\\alice",
    )
    told = here.logons()[0]
    assert (told["principal"], told["delegated"]) == (f"{REALM}\\alice", "nothing")


def test_freerdp_is_connected_by_a_ticket_and_nothing_else(gateway):
    """It delegates nothing (restricted admin), and gets as far as this target goes."""
    here = gateway()
    cache = here.ticket("alice")
    words = ["/restricted-admin", f"/kerberos:cache:{cache}", "/server-name:gw.acred.test"]
    # A password is asked for, and not used.
    done = freerdp.log_on(here.inside, 3, f"10.99.0.2:{here.port}", *words, domain=REALM, password="none")
    assert done.status == freerdp.LOGGED_ON
    record = here.record()
    mechanisms = record["mechanism"], record["target_mechanism"]
    assert (record["outcome"], *mechanisms) == ("no_session", "kerberos", "kerberos")
    told = here.logons()[0]
    assert (told["principal"], told["delegated"]) == (f"{REALM}\\alice", "nothing")


def test_a_service_that_the_domain_does_not_list_is_refused_with_its_own_text(gateway):
    here = gateway(UNLISTED)
    assert here.log_on() == "STATUS_ACCOUNT_RESTRICTION"
    record = here.record()
    assert record["outcome"] == "denied"
    assert "the kdc gives the gateway no ticket for this user" in record["reason"]


def test_a_user_who_may_not_be_delegated_is_refused_with_its_own_text(gateway):
    here = gateway()
    assert here.log_on("sensitive") == "STATUS_ACCOUNT_RESTRICTION"
    assert "see that the domain lets the gateway's account delegate" in here.record()["reason"]


def test_a_user_of_ntlm_cannot_be_delegated(gateway):
    here = gateway(logon='users = "users"')
    assert here.log_on(mechanism="ntlm") == "STATUS_ACCOUNT_RESTRICTION"
    assert "got one who logged on by ntlm" in here.record()["reason"]
