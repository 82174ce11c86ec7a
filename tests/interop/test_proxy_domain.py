"""`acredssp proxy` in a Samba domain: winbind says who may log on, at the front and at the target."""

import dataclasses
import json
import re

import pytest
from support import freerdp
from support.command import COMMAND
from support.peers import wait_until
from support.samba import DOMAIN, PASSWORD, Inside

import acredssp

pytestmark = pytest.mark.interop

CLIENTS = pytest.mark.parametrize("client", [2, 3], ids=["freerdp2", "freerdp3"])
FRONT, TARGET = "10.99.0.2:3390", "10.99.0.2:3391"
FRONT_PASSWORD = "w0nderland"

SETTINGS = """
[[listeners]]
address = "{front}"
certificates = [{{ certificate = "gateway.pem", key = "gateway.key" }}]
logon = {logon}
routes = [{{ target = "desktops" }}]

[targets.desktops]
addresses = ["{target}"]
pins = ["{pin}"]
check = {{ enabled = false }}
{credentials}
"""

TROUBLES = {
    "disabled": ("STATUS_ACCOUNT_DISABLED", 151),
    "expired": ("STATUS_ACCOUNT_EXPIRED", 157),
    "must-change": ("STATUS_PASSWORD_MUST_CHANGE", 149),
    "old-password": ("STATUS_PASSWORD_EXPIRED", 148),
    "locked": ("STATUS_LOGON_FAILURE", freerdp.LOGON_FAILED),
}
"""What the domain says to who has the password, and FreeRDP's status of it. It proves no password of a locked account,
so that nobody is told of the lock."""


@dataclasses.dataclass
class Gateway:
    """A gateway on the member, before `acredssp serve` that asks winbind, too."""

    inside: Inside
    process: object
    target: object

    def log_on(self, client, *words, user="alice", domain=DOMAIN, password=PASSWORD):
        """FreeRDP's status."""
        return freerdp.log_on(self.inside, client, FRONT, *words, user=user, domain=domain, password=password).status

    def record(self):
        """The line of the first connection that ended."""
        found = wait_until(lambda: re.findall(r"acredssp\.proxy: (\{.*\})", self.process.read_errors()), "a line")
        return json.loads(found[0])

    def logons(self):
        """What the target says of each logon."""
        return [json.loads(line) for line in re.findall(r'^\{"result": .*', self.target.read(), re.MULTILINE)]


@pytest.fixture
def gateway(graphical_lab, domain, tmp_path):
    """Starts the gateway: `gateway(logon=..., credentials=...)`."""
    inside = Inside(graphical_lab, domain.member)

    def start(logon="{ winbind = true }", credentials=""):
        serve = [COMMAND, "serve", "--winbind", "--listen", TARGET, "--json", "--key-type", "ec"]
        target = inside.start(serve, split=True)
        wait_until(lambda: "listening" in target.read() or target.ended(), "the target listens")
        pin = json.loads(target.read().splitlines()[0])["peer_key_sha256"]
        for name, data in zip(("gateway.pem", "gateway.key"), acredssp.self_signed(["localhost"], "ec"), strict=True):
            (tmp_path / name).write_bytes(data)
        (tmp_path / "users").write_text(f":carol:{FRONT_PASSWORD}\n", encoding="utf-8")
        (tmp_path / "password").write_text(PASSWORD, encoding="utf-8")
        values = {"front": FRONT, "target": TARGET, "pin": pin, "logon": logon, "credentials": credentials}
        (tmp_path / "settings.toml").write_text(SETTINGS.format(**values), encoding="utf-8")
        process = inside.start([COMMAND, "proxy", "run", tmp_path / "settings.toml"], split=True)
        wait_until(lambda: "listening" in process.read() or process.ended(), "the gateway listens")
        assert not process.ended(), process.read_errors()
        return Gateway(inside, process, target)

    return start


def injected(user):
    return f"credentials = 'injected'\naccount = '{DOMAIN}\\{user}'\npassword = 'file:password'\n"


@CLIENTS
def test_a_user_of_the_domain_is_logged_on_to_the_target_by_what_is_delegated(gateway, client):
    here = gateway()
    assert here.log_on(client) == freerdp.LOGGED_ON  # behind the logon, this target hangs up
    record = here.record()
    assert (record["outcome"], record["user"], record["mechanism"]) == ("no_session", f"{DOMAIN}\\alice", "ntlm")
    logon = here.logons()[0]  # FreeRDP 3 comes a second time
    assert (logon["result"], logon["principal"], logon["delegated"]) == ("success", f"{DOMAIN}\\alice", "password")


@CLIENTS
def test_a_wrong_password_gets_no_further_than_winbind(gateway, client):
    here = gateway()
    assert here.log_on(client, password="wrong") == freerdp.LOGON_FAILED
    assert here.record()["status"] == "STATUS_LOGON_FAILURE"
    assert here.logons() == []


@pytest.mark.parametrize("user", TROUBLES)
def test_what_the_domain_says_at_the_front_reaches_the_user(gateway, user):
    here, (status, code) = gateway(), TROUBLES[user]
    assert here.log_on(3, user=user) == code
    assert (here.record()["outcome"], here.record()["status"]) == ("denied", status)
    assert here.logons() == []


@pytest.mark.parametrize("security", ["/sec:nla", "/sec:ext"], ids=["hybrid", "hybrid-ex"])
@pytest.mark.parametrize("user", TROUBLES)
def test_what_the_domain_says_at_the_target_reaches_the_user(gateway, user, security):
    """The gateway logs on by an account in trouble; the user's own is the gateway's."""
    here, (status, code) = gateway('{ users = "users" }', injected(user)), TROUBLES[user]
    assert here.log_on(3, security, user="carol", domain=None, password=FRONT_PASSWORD) == code
    record = here.record()
    assert (record["outcome"], record["user"], record["status"]) == ("denied", "carol", status)
    assert record["reason"].startswith(f"target desktops at {TARGET}: ")
    (logon,) = here.logons()
    assert (logon["result"], logon["nt_status"]) == ("denied", status)
