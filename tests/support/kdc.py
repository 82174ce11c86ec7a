"""A pytest plugin: a Kerberos realm on loopback, MIT's KDC with accounts for the tests, and a KDC that never answers.

The KDC runs as the user who runs the tests; for root, it runs as nobody, in a folder of its own. The NTLM tests need a
realm, too: FreeRDP 3 speaks SPNEGO, and offers NTLM inside it, only if it knows a realm.

A process learns of the realm from KRB5_CONFIG, which libkrb5 reads whenever it makes a context. GSS-API makes a context
for every call, so the variable also reaches the test's own process (`monkeypatch.setenv`, through `kerberos`), from the
next call on and in every thread. This leads to two rules. libkrb5 looks at a file that it has read again only a second
later, so another configuration is always another file, and no file is rewritten. And no variable is set while a thread
may be inside libkrb5, which reads it without a lock: a test ends its threads before monkeypatch restores the
environment (`BlackHole.close` ends the calls that wait for it).
"""

import contextlib
import dataclasses
import os
import selectors
import shutil
import socket
import struct
import tempfile
import threading
from pathlib import Path

import pytest
from support import rfc4120
from support.peers import Lab, free_port, program, wait_until

from acredssp.aio import offload

REALM = "ACREDSSP.TEST"
PASSWORD = "Passw0rd!"

USERS = {
    "alice": "",
    "bob": "",
    "carol": "+needchange",
    "dave": "-allow_tix",
    "erin": "-expire 2001-01-01",
    "frank": "-pwexpire 2001-01-01",
}
"""The accounts, all with `PASSWORD`. alice and bob may log on, carol must change her password, dave is locked out,
erin's account has expired, and frank's password has expired."""
ODD_USERS = ("we/ird", r"we\/ird", r"we\\ird", r"alice\@contoso.com", r"ali\nce")
"""Accounts with the same password whose names libkrb5 writes with backslashes, as it writes them."""
ANONYMOUS = "WELLKNOWN/ANONYMOUS"
HOSTS = ("localhost", "127.0.0.1", "srv.acredssp.test")
SERVICES = ("TERMSRV", "HOST", "host", "HTTP", "WSMAN")
PRINCIPALS = [f"{service}/{host}" for host in HOSTS for service in SERVICES]
"""The services, which are all in the keytab."""
ENCRYPTION_TYPES = {
    "aes128": "aes128-cts-hmac-sha1-96",
    "sha256": "aes128-cts-hmac-sha256-128",
    "sha384": "aes256-cts-hmac-sha384-192",
    "rc4": "arcfour-hmac",
}
"""Each type has a service of its own. The tickets of this service have the type, and its messages have it if it is the
first of the client's `permitted_enctypes`. All other services have AES-256 with SHA-1."""
TYPED = {f"TERMSRV/{name}.acredssp.test": enctype for name, enctype in ENCRYPTION_TYPES.items()}
"""The services of `ENCRYPTION_TYPES`, in the same keytab."""
UNKNOWN_KEY = "TERMSRV/elsewhere.acredssp.test"
"""The service of another machine: the KDC gives tickets for it, and the keytab does not have it."""

NOBODY = 65534
KDC_ERR_C_PRINCIPAL_UNKNOWN = 6

KRB5_CONF = """
[libdefaults]
{settings}
 default_realm = {realm}
 dns_lookup_realm = false
 dns_lookup_kdc = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
 forwardable = true
 default_ccache_name = FILE:{folder}/cache
[realms]
 {realm} = {{
  kdc = 127.0.0.1:{port}
 }}
[domain_realm]
 localhost = {realm}
 127.0.0.1 = {realm}
 .acredssp.test = {realm}
"""

KDC_CONF = """
[kdcdefaults]
 kdc_listen = 127.0.0.1:{port}
 kdc_tcp_listen = 127.0.0.1:{port}
[realms]
 {realm} = {{
  database_name = {folder}/principal
  key_stash_file = {folder}/stash
  acl_file = {folder}/acl
  max_life = 10h
  supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal
 }}
[logging]
 kdc = FILE:{folder}/kdc-{port}.log
"""


def write_configuration(path, port, **settings):
    """Write a krb5.conf for clients of the KDC on `port`; the default ticket cache is `cache` beside it.

    Args:
        path: A file that no process has read yet.
        port: The KDC's.
        settings: More for `[libdefaults]`; of two values for one setting libkrb5 takes the first.
    """
    lines = "\n".join(f" {name} = {value}" for name, value in settings.items())
    path.write_text(KRB5_CONF.format(realm=REALM, folder=path.parent, port=port, settings=lines), encoding="ascii")
    return path


def environment(configuration, keytab=None):
    """The variables that tell a process of a realm. No replay cache: a test's files are its own."""
    keys = {"KRB5_KTNAME": f"FILE:{keytab}"} if keytab else {}
    return {"KRB5_CONFIG": str(configuration), "KRB5RCACHETYPE": "none", **keys}


@dataclasses.dataclass(frozen=True)
class Realm:
    """A realm that runs."""

    lab: Lab
    port: int
    identity: dict
    """The user as whom the KDC's programs run, for `subprocess.Popen`."""

    @property
    def folder(self):
        return self.lab.folder

    @property
    def environment(self):
        """The environment of a client that knows the realm."""
        return environment(self.folder / "krb5.conf")

    @property
    def service_environment(self):
        """The environment of a server that knows the realm and has the keys."""
        return environment(self.folder / "krb5.conf", self.keytab)

    @property
    def keytab(self):
        """The keytab of all services in `PRINCIPALS`."""
        return self.folder / "service.keytab"

    @property
    def wrong_keytab(self):
        """The same principals and key versions with other keys, as after a reinstallation."""
        return self.folder / "wrong.keytab"

    @property
    def log(self):
        """What the KDC has logged so far: every ticket, and every refusal with its reason."""
        return (self.folder / f"kdc-{self.port}.log").read_text(encoding="utf-8")

    def _feed(self, argv, lines):
        """Run one of the KDC's interactive programs with a script."""
        script = self.folder / "script"
        script.write_text("\n".join([*lines, ""]), encoding="ascii")
        with script.open("rb") as orders:
            run = self.lab.run(argv, stdin=orders, **self.identity)
        assert run.status == 0, run.output

    def create(self):
        """Make the database, the accounts and the keytabs."""
        # The KDC reads it, too; Debian's follows the mitigation of CVE-2025-3576, by which RC4 is off unless asked for.
        write_configuration(self.folder / "krb5.conf", self.port, allow_rc4="true")
        self._write_kdc_configuration("kdc.conf", self.port)
        (self.folder / "acl").touch()
        run = self.lab.run(["kdb5_util", "create", "-s", "-r", REALM, "-P", "database password"], **self.identity)
        assert run.status == 0, run.output
        orders = [f"addprinc +requires_preauth -pw {PASSWORD} {how} {user}" for user, how in USERS.items()]
        orders += [f"addprinc -pw {PASSWORD} {user}" for user in ODD_USERS]
        orders += [f"addprinc -randkey {service}" for service in (*PRINCIPALS, UNKNOWN_KEY, ANONYMOUS)]
        orders += [f"addprinc -randkey -e {enctype}:normal {service}" for service, enctype in TYPED.items()]
        orders += [f"setstr {service} session_enctypes {enctype}" for service, enctype in TYPED.items()]
        orders += [f"ktadd -norandkey -k {self.keytab} {service}" for service in (*PRINCIPALS, *TYPED)]
        self._feed(["kadmin.local", "-r", REALM], orders)
        keys = "addent -password -p {} -k 1 -e aes256-cts-hmac-sha1-96\nanother password"
        self._feed(["ktutil"], [*map(keys.format, PRINCIPALS), f"write_kt {self.wrong_keytab}"])

    def _write_kdc_configuration(self, name, port):
        path = self.folder / name
        path.write_text(KDC_CONF.format(realm=REALM, port=port, folder=self.folder), encoding="ascii")
        return str(path)

    def serve(self):
        """Start the KDC."""
        self.lab.start_server(["krb5kdc", "-n", "-P", self.folder / f"{self.port}.pid"], self.port, **self.identity)

    @contextlib.contextmanager
    def configured(self, **settings):
        """A second KDC of this realm with more settings for it in kdc.conf; gives its port."""
        port = free_port()
        lab = Lab(self.folder / f"configured-{port}", **self.lab.environment)
        lab.folder.mkdir()
        profile = Path(self._write_kdc_configuration(f"kdc-{port}.conf", port))
        lines = "".join(f"  {name} = {value}\n" for name, value in settings.items())
        text = profile.read_text(encoding="ascii")
        profile.write_text(text.replace("  max_life", f"{lines}  max_life"), encoding="ascii")
        lab.environment["KRB5_KDC_PROFILE"] = str(profile)
        lab.start_server(["krb5kdc", "-n", "-P", self.folder / f"{port}.pid"], port, **self.identity)
        try:
            yield port
        finally:
            lab.stop()

    @contextlib.contextmanager
    def at_another_time(self, offset):
        """A second KDC of this realm whose clock is off by `offset`, such as `-2h`; gives its port.

        libfaketime shifts it, and nothing else: clients believe their KDC's time, services their own.
        """
        port = free_port()
        shifted = Lab(self.folder / f"at-{port}", **self.lab.environment, **shifted_clock(offset))
        shifted.folder.mkdir()
        shifted.environment["KRB5_KDC_PROFILE"] = self._write_kdc_configuration(f"kdc-{port}.conf", port)
        argv = ["krb5kdc", "-n", "-P", self.folder / f"{port}.pid"]
        shifted.start_server(argv, port, **self.identity)
        try:
            yield port
        finally:
            shifted.stop()


def shifted_clock(offset):
    """The environment of a program whose clock is to be off, such as by `-2h`; skips the test without libfaketime."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is missing: apt-get install libfaketime")
    return {"LD_PRELOAD": str(library), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@pytest.fixture(scope="session")
def kerberos_realm():
    """A Kerberos realm with its KDC."""
    for name in ("kdb5_util", "kadmin.local", "ktutil", "krb5kdc", "kinit"):
        program(name)
    # Not below pytest's folder, which nobody else may enter.
    folder = Path(tempfile.mkdtemp(prefix="acredssp-kdc-"))
    identity = {}
    if os.geteuid() == 0:
        identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        os.chown(folder, NOBODY, NOBODY)
    profile = {"KRB5_CONFIG": str(folder / "krb5.conf"), "KRB5_KDC_PROFILE": str(folder / "kdc.conf")}
    lab = Lab(folder, **profile)
    realm = Realm(lab, free_port(), identity)
    try:
        realm.create()
        realm.serve()
        yield realm
    finally:
        lab.stop()
        shutil.rmtree(folder)


class Kerberos:
    """One test's view of the realm: a configuration and ticket caches of its own, in effect in this process too."""

    def __init__(self, realm, folder, monkeypatch):
        self.realm = realm
        self.folder = folder
        self._monkeypatch = monkeypatch
        self._lab = Lab(folder)
        self.keytab = realm.keytab
        self.configure(realm.port)

    def configure(self, port, **settings):
        """Take another KDC or other `[libdefaults]` from here on."""
        number = len(list(self.folder.glob("*.conf")))
        path = write_configuration(self.folder / f"krb5-{number}.conf", port, **settings)
        self.environment = environment(path, self.keytab)
        self._lab.environment = self.environment
        for name in ("KRB5CCNAME", "KRB5_CLIENT_KTNAME", "KRB5_TRACE"):
            self._monkeypatch.delenv(name, raising=False)
        for name, value in self.environment.items():
            self._monkeypatch.setenv(name, value)

    def prefer(self, encryption_type):
        """Have messages sealed by one of `ENCRYPTION_TYPES` from here on, by the host that this gives."""
        enctypes = f"{ENCRYPTION_TYPES[encryption_type]} aes256-cts-hmac-sha1-96"
        weak = {"allow_rc4": "true"} if encryption_type == "rc4" else {}
        self.configure(self.realm.port, permitted_enctypes=enctypes, **weak)
        return f"{encryption_type}.acredssp.test"

    def cache(self, name="ticket"):
        """A ticket cache of this test, as KRB5CCNAME has it."""
        return f"FILE:{self.folder / name}"

    def log_on(self, user="alice", *options, password=PASSWORD, name="ticket", clock=""):
        """Get a ticket-granting ticket, as kinit does; gives the cache's name.

        Args:
            user: Whose.
            options: More for kinit: `-F` for one that is not forwardable, `-l 1m` for a short life, `-s 1h` postdated.
            password: The user's.
            name: Of the cache's file.
            clock: As for `run`.
        """
        run = self.kinit(user, *options, password=password, name=name, clock=clock)
        assert run.status == 0, run.output
        return self.cache(name)

    def kinit(self, user="alice", *options, password=PASSWORD, name="ticket", clock=""):
        """Run kinit, and return its output."""
        answers = self.folder / "password"
        answers.write_text(f"{password}\n", encoding="ascii")
        with answers.open("rb") as stdin:
            return self.run(["kinit", "-c", self.cache(name), *options, user], stdin=stdin, clock=clock)

    def run(self, argv, *, clock="", **options):
        """Run a program that knows the realm to its end; with `clock`, `-2h` or the like, at another time."""
        self._lab.environment = self.environment | (shifted_clock(clock) if clock else {})
        return self._lab.run(argv, **options)

    def start(self, argv, **options):
        """Start a program that knows the realm; it ends with the test."""
        return self._lab.start(argv, **options)

    def close(self):
        """End all programs that still run."""
        self._lab.stop()
        self._lab.show_logs()


@pytest.fixture
def kerberos_modules():
    """Skips where acredssp, in this process or as a command, has no Kerberos."""
    for module in ("gssapi", "krb5"):
        pytest.importorskip(module, reason=f"{module} is missing: apt-get install libkrb5-dev, then make test")


@pytest.fixture
def kerberos(kerberos_modules, kerberos_realm, tmp_path, monkeypatch):
    """The realm for one test, in effect in this process: what needs KRB5_CONFIG or a keytab finds it."""
    folder = tmp_path / "kerberos"
    folder.mkdir()
    kerberos = Kerberos(kerberos_realm, folder, monkeypatch)
    yield kerberos
    kerberos.close()


class BlackHole:
    """Listens on TCP and UDP, accepts every client, reads its requests and never answers, or never to the end.

    Attributes:
        begins: How many bytes of its answer over TCP it sends; the first 4 are the answer's length.
        begun: How many answers it has begun.
    """

    def __init__(self):
        self.begins = self.begun = 0
        refusal = rfc4120.refusal(KDC_ERR_C_PRINCIPAL_UNKNOWN, REALM)
        self._answer = struct.pack(">I", len(refusal)) + refusal
        self.port = free_port()
        self._selector = selectors.DefaultSelector()
        self._ours, self._wake = socket.socketpair()
        self._connections, self._asked = [], set()
        self.heard = threading.Semaphore(0)
        """Released for every connection that asks something, and for every datagram."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.bind(("127.0.0.1", self.port))
        for each in (self._ours, self._listener, self._datagrams):
            each.setblocking(False)
            self._selector.register(each, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._swallow, name="black hole")
        self._thread.start()

    def _swallow(self):
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._ours:
                    return
                self._take(key.fileobj)

    def _take(self, ready):
        if ready is self._listener:
            connection, _ = ready.accept()
            connection.setblocking(False)
            self._connections.append(connection)
            self._selector.register(connection, selectors.EVENT_READ)
        elif ready is self._datagrams:
            ready.recv(65536)
            self.heard.release()
        elif not _read(ready):
            self._selector.unregister(ready)
        elif ready not in self._asked:
            self._asked.add(ready)
            if self.begins:
                ready.sendall(self._answer[: self.begins])
                self.begun += 1
            self.heard.release()

    def close(self):
        """Refuse all clients that wait for an answer, and wait until they have gone.

        They get a KRB-ERROR: after a mere close, libkrb5 would look for the KDC for three seconds more.
        """
        if not self._thread.is_alive():
            return
        self._wake.send(b"x")
        self._thread.join()
        for each in self._connections:
            with contextlib.suppress(OSError):
                each.sendall(self._answer[self.begins if each in self._asked else 0 :])
        for each in (*self._connections, self._ours, self._listener, self._datagrams, self._wake):
            each.close()
        self._selector.close()
        wait_until(
            lambda: not any(pool.unfinished for pool in offload._pools.values()), "every thread is back from the KDC"
        )


def _read(connection):
    try:
        return connection.recv(65536)
    except OSError:
        return b""


@pytest.fixture
def black_hole():
    """A KDC that accepts and never answers."""
    hole = BlackHole()
    yield hole
    hole.close()


@pytest.fixture
def silent_kdc(kerberos, black_hole):
    """The realm, with a KDC that accepts and never answers: the `BlackHole`."""
    kerberos.configure(black_hole.port)
    return black_hole
