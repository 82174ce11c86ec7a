"""A Samba Active Directory domain: its controller, and a member server with a winbindd of its own.

Each is a set of Linux namespaces: network, mounts, host name. Inside, everything has Samba's own places (/etc/samba,
/run/samba, ...), so that a program runs there as it would on such a machine, and nothing meets the files or the network
of the machine that runs the tests. The daemons are in a process namespace besides, whose init reads from a pipe of
ours: when we close it, or die, the kernel ends them all. It takes root, and some seconds once a session.
"""

import contextlib
import dataclasses
import os
import subprocess
from pathlib import Path

import pytest
from support.peers import DEADLINE, program, wait_until

DOMAIN = "ACRED"
REALM = "ACRED.TEST"
PASSWORD = "Passw0rd!1"
ADMINISTRATOR = "Adm1nPass!"

ADDRESSES = {"dc1": "10.99.0.1", "srv": "10.99.0.2"}

ACCOUNTS = {
    "alice": {},
    "disabled": {"userAccountControl": "514"},
    "expired": {"accountExpires": "130000000000000000"},  # 2012
    "locked": {"lockoutTime": "133700000000000000"},  # in 2024, and until an administrator unlocks it
    "must-change": {"pwdLastSet": "0"},
    "old-password": {"pwdLastSet": "130000000000000000"},
    "wrong-hours": {"logonHours": bytes(21)},
    "elsewhere": {"userWorkstations": "ANOTHER"},
}
"""The users, who all have the same password. Each but alice has the trouble that its name tells."""

BOOT = """\
set -e
cd "$1"
hostname "$2"
mkdir -p /run/samba
for name in etc/samba run/samba var/lib/samba var/cache/samba var/log/samba; do mount --bind "$name" "/$name"; done
for name in etc/hosts etc/resolv.conf etc/krb5.conf; do mount --bind "$name" "/$name"; done
shift 2
[ $# -eq 0 ] || ip link set lo up
for address; do ip address add "$address/24" dev lo; done
echo up
exec cat >/dev/null
"""
"""Arguments: the host's folder, its name, and the addresses of the network if that is its own."""

FILES = {
    "etc/hosts": "127.0.0.1 localhost\n"
    + "".join(f"{address} {name}.acred.test {name}\n" for name, address in ADDRESSES.items()),
    "etc/resolv.conf": f"search acred.test\nnameserver {ADDRESSES['dc1']}\n",
    "etc/krb5.conf": f"""\
[libdefaults]
default_realm = {REALM}
dns_lookup_kdc = false
dns_canonicalize_hostname = false
rdns = false
[realms]
{REALM} = {{
 kdc = {ADDRESSES["dc1"]}
}}
[domain_realm]
acred.test = {REALM}
.acred.test = {REALM}
""",
}

KEYTAB = "/etc/samba/krb5.keytab"

MEMBER_CONF = f"""\
[global]
workgroup = {DOMAIN}
realm = {REALM}
security = ads
netbios name = SRV
interfaces = {ADDRESSES["srv"]}/24
bind interfaces only = yes
idmap config * : backend = tdb
idmap config * : range = 10000-20000
kerberos method = dedicated keytab
dedicated keytab file = {KEYTAB}
"""

PROVISION = [
    "samba-tool", "domain", "provision", "--server-role=dc", "--dns-backend=SAMBA_INTERNAL", "--host-name=dc1",
    f"--realm={REALM}", f"--domain={DOMAIN}", f"--adminpass={ADMINISTRATOR}", f"--host-ip={ADDRESSES['dc1']}",
    f"--option=interfaces=lo {ADDRESSES['dc1']}/24", "--option=bind interfaces only=yes", "--option=dns forwarder=",
    "--option=server services=s3fs, rpc, nbt, ldap, cldap, kdc, winbindd, dns",
]  # fmt: skip

MAKE_ACCOUNTS = f"""\
import ldb
from samba import dsdb
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB

configuration = LoadParm()
configuration.load("/etc/samba/smb.conf")
db = SamDB("/var/lib/samba/private/sam.ldb", session_info=system_session(), lp=configuration)
change = "changetype: modify\\nreplace: lockoutDuration\\nlockoutDuration: {-(2**63)}\\n"
db.modify_ldif(f"dn: {{db.domain_dn()}}\\n{{change}}")
for name, trouble in {ACCOUNTS!r}.items():
    db.newuser(name, {PASSWORD!r})
    message = ldb.Message(ldb.Dn(db, f"CN={{name}},CN=Users,{{db.domain_dn()}}"))
    for attribute, value in trouble.items():
        message[attribute] = ldb.MessageElement(value, ldb.FLAG_MOD_REPLACE, attribute)
    if trouble:
        # Past the module that lets nobody set the age of a password.
        past = [f"local_oid:{{dsdb.DSDB_CONTROL_BYPASS_PASSWORD_HASH_OID}}:0"] if name == "old-password" else []
        db.modify(message, past)
"""


PATIENCE = 10 * DEADLINE
"""Seconds that the setup may take on a busy machine; it needs some 4 seconds of the processor."""
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
"""An environment without the test's own variables, above all without Kerberos settings."""


@dataclasses.dataclass(frozen=True)
class Host:
    """A machine of the domain."""

    name: str
    folder: Path
    """The folder of its own files."""
    boot: subprocess.Popen
    init: int
    """The process with which all of its daemons end."""
    nsenter: str
    """The program that goes there."""

    @property
    def address(self):
        return ADDRESSES[self.name]

    def enter(self, *argv):
        """The command line that runs a program there; as a process of ours, which gets our signals."""
        return [self.nsenter, f"--target={self.init}", "--net", "--mount", "--uts", "--", *map(str, argv)]

    def run(self, *argv):
        """Run a program there, among the daemons, until it ends or has become one; answers with what it printed."""
        argv = [self.nsenter, f"--target={self.init}", "--net", "--mount", "--uts", "--pid", "--", *argv]
        with (self.folder / "log").open("a+", encoding="utf-8", errors="replace") as log:
            start = log.tell()
            run = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=PATIENCE, check=False, env=ENVIRONMENT
            )
            log.seek(start)
            printed = log.read()
        assert run.returncode == 0, printed
        return printed

    def ask(self, *argv):
        """Run a program there; return what it prints to both outputs, however it ends."""
        ended = subprocess.run(
            self.enter(*argv), capture_output=True, text=True, timeout=PATIENCE, check=False, env=ENVIRONMENT
        )
        return ended.stdout + ended.stderr

    def processes(self):
        """Its daemons' process ids, the init's among them."""
        space = Path(f"/proc/{self.init}/ns/pid").readlink()
        found = []
        for path in Path("/proc").glob("[0-9]*/ns/pid"):
            with contextlib.suppress(OSError):  # it has ended since
                found += [int(path.parts[2])] if path.readlink() == space else []
        return found

    def listens(self, *ports):
        """Whether TCP sockets listen on all of the ports there."""
        table = Path(f"/proc/{self.init}/net/tcp").read_text(encoding="ascii")
        return all(f":{port:04X} 00000000:0000 0A" in table for port in ports)

    def has_winbindd(self):
        """Whether winbindd takes questions there."""
        return (self.folder / "run/samba/winbindd/pipe").is_socket()

    def start_winbindd(self):
        self.run("winbindd", "--daemon")
        wait_until(self.has_winbindd, f"winbindd is up on {self.name}")

    def stop_winbindd(self):
        """Stop the host, and its children."""
        pid = (self.folder / "run/samba/winbindd.pid").read_text(encoding="ascii").strip()
        self.run("kill", pid)
        wait_until(lambda: not self.has_winbindd(), f"winbindd ends on {self.name}")

    def stop(self):
        self.boot.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.init, 9)
        self.boot.wait(DEADLINE)
        self.boot.stdout.close()


def require_namespaces():
    """Skip the test if the system allows no namespaces."""
    if os.geteuid() != 0:
        pytest.skip("a samba domain has namespaces of its own, which takes root")
    try:
        subprocess.run([program("unshare"), "--net", "--mount", "--uts", "--pid", "--fork", "true"], check=True)
    except subprocess.CalledProcessError:
        pytest.skip("a samba domain has namespaces of its own, which are not allowed here")


def boot(folder, name, *addresses, inside=None):
    """Make a host: with a network of its own that has the addresses, or in the network of another host."""
    for place in ("etc/samba", "run/samba", "var/lib/samba/private", "var/cache/samba", "var/log/samba"):
        (folder / place).mkdir(parents=True)
    for path, text in FILES.items():
        (folder / path).write_text(text, encoding="ascii")
    spaces = ["--mount", "--uts", "--pid", *(["--net"] if inside is None else [])]
    argv = [program("unshare"), *spaces, "--fork", "--kill-child", "sh", "-c", BOOT, "boot", folder, name, *addresses]
    argv = argv if inside is None else inside.enter(*argv)
    with (folder / "boot.log").open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=ENVIRONMENT)
    if process.stdout.readline() != b"up\n":
        process.communicate()
        pytest.fail(f"{name} does not come up:\n{(folder / 'boot.log').read_text(encoding='utf-8')}")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
    return Host(name, folder, process, int(children), program("nsenter"))


class Domain:
    """A domain that runs: `controller` and `member`."""

    def __init__(self, folder):
        for name in ("net", "ntlm_auth", "samba", "samba-tool", "wbinfo", "winbindd"):
            program(name)
        self._folder = folder
        self._hosts = contextlib.ExitStack()

    def start(self):
        try:
            self.controller = self._boot("dc1", *ADDRESSES.values())
            self._start_controller()
            self.member = self._boot("srv", inside=self.controller)
            self._start_member()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self):
        self._hosts.close()

    def make_keytab(self):
        """Give the member the keys of TERMSRV/srv.acred.test; answers with the path that they have there."""
        self.member.run("net", "ads", "keytab", "add_update_ads", "TERMSRV", "--machine-pass")
        return KEYTAB

    def _boot(self, name, *addresses, inside=None):
        host = boot(self._folder / name, name, *addresses, inside=inside)
        self._hosts.callback(host.stop)
        return host

    def _start_controller(self):
        controller = self.controller
        controller.run(*PROVISION)
        controller.run("/usr/bin/python3", "-c", MAKE_ACCOUNTS)
        controller.run("samba", "--daemon", "--model=prefork")
        wait_until(lambda: controller.listens(88, 389, 445) and controller.has_winbindd(), "the controller is up")

    def _start_member(self):
        member = self.member
        (member.folder / "etc/samba/smb.conf").write_text(MEMBER_CONF, encoding="ascii")
        member.run("net", "ads", "join", f"--user=Administrator%{ADMINISTRATOR}", "--no-dns-updates")
        # As Debian's package leaves it: who is in the group may ask about challenges and responses.
        member.run("install", "-d", "-m", "750", "-g", "winbindd_priv", "/var/lib/samba/winbindd_privileged")
        member.start_winbindd()


class Inside:
    """A lab whose programs run on a host of the domain."""

    def __init__(self, lab, host):
        self.folder, self.environment = lab.folder, lab.environment
        self.host = host
        self._lab = lab

    def start(self, argv, **options):
        return self._lab.start(self._enter(argv), **options)

    def run(self, argv, **options):
        return self._lab.run(self._enter(argv), **options)

    def _enter(self, argv):
        name, *arguments = map(str, argv)
        return self.host.enter(name if os.sep in name else program(name), *arguments)
