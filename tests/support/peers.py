"""Real peers as processes: started on loopback, stopped by their process id, their logs kept for a failing test.

A program that is not installed skips the test by name; nothing here is imported by acredssp. Linux only, since the
peers are: the kernel is asked whether a port listens.
"""

import contextlib
import dataclasses
import itertools
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.warm import Warm

DEADLINE = 120.0
"""Seconds that a peer may take for anything before the test fails. Only a peer that hangs takes so long."""
POLL = 0.05
"""Seconds between two checks of a condition."""

PORTS = range(20000, 32768)
"""Ports below the ephemeral ones, any of which an outgoing loopback connection may take from a server."""

PACKAGES = {
    "Xvfb": "xvfb",
    "dumpcap": "tshark",
    "ip": "iproute2",
    "kadmin.local": "krb5-admin-server",
    "kdb5_util": "krb5-kdc",
    "kinit": "krb5-user",
    "krb5kdc": "krb5-kdc",
    "klist": "krb5-user",
    "ktutil": "krb5-user",
    "kvno": "krb5-user",
    "freerdp-shadow-cli": "freerdp2-shadow-x11",
    "freerdp-shadow-cli3": "-t bookworm-backports freerdp3-shadow-x11",
    "haproxy": "haproxy",
    "mkntfs": "ntfs-3g",
    "net": "samba-common-bin",
    "nginx": "nginx-light",
    "nmap": "nmap",
    "nsenter": "util-linux",
    "ntfscat": "ntfs-3g",
    "ntlm_auth": "winbind",
    "openssl": "openssl",
    "rdesktop": "rdesktop",
    "redis-server": "redis-server",
    "samba": "samba samba-ad-provision samba-dsdb-modules samba-vfs-modules python3-samba",
    "samba-tool": "samba",
    "systemd-analyze": "systemd",
    "tshark": "tshark",
    "unshare": "util-linux",
    "valkey-server": "-t bookworm-backports valkey-server",
    "wbinfo": "winbind",
    "winbindd": "winbind",
    "winpr-hash": "winpr-utils",
    "xfreerdp": "freerdp2-x11",
    "xfreerdp3": "-t bookworm-backports freerdp3-x11",
    "xwininfo": "x11-utils",
}
"""What Debian calls the packages of the programs the tests start."""


_ports = iter(random.sample(PORTS, len(PORTS)))
"""In no order: two sessions at once seldom meet."""


def share_ports(number, count):
    """Leave the process, which has been forked, every `count`-th of the ports that are left."""
    global _ports  # noqa: PLW0603
    _ports = itertools.islice(_ports, number, None, count)


def program(name):
    """The path of a peer's program; skips the test where it is not installed."""
    path = os.pathsep.join(
        [os.environ.get("PATH", os.defpath), "/usr/sbin"]
    )  # servers are there, outside the path of users
    return shutil.which(name, path=path) or pytest.skip(f"{name} is missing: apt-get install {PACKAGES[name]}")


def free_port():
    """A loopback port that nobody listens on; never the same one twice in a session."""
    for port in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is left")


def listens(port):
    """Whether a TCP socket listens on the port, without disturbing whoever does by a connection."""
    return any(port in listening_ports(family) for family in (socket.AF_INET, socket.AF_INET6))


# sock_diag(7). /proc/net/tcp says the same, but in 14 ms of CPU, since it shows every connection.
_SOCK_DIAG_BY_FAMILY, _REQUEST, _DUMP, _ERROR, _DONE = 20, 0x1, 0x300, 2, 3
_NETLINK_SOCK_DIAG, _LISTEN = 4, 10


def listening_ports(family):
    """The TCP ports on which a socket of the family listens."""
    wanted = struct.pack("=BBxxI48x", family, socket.IPPROTO_TCP, 1 << _LISTEN)
    header = struct.pack("=IHHII", 16 + len(wanted), _SOCK_DIAG_BY_FAMILY, _REQUEST | _DUMP, 1, 0)
    ports = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as kernel:
        kernel.sendall(header + wanted)
        while True:
            said = kernel.recv(65536)
            while said:
                length, kind = struct.unpack_from("=IH", said)
                if kind == _DONE:
                    return ports
                assert kind != _ERROR, f"the kernel does not say who listens: {struct.unpack_from('=i', said, 16)}"
                ports.add(int.from_bytes(said[20:22]))
                said = said[(length + 3) & ~3 :]


def wait_until(condition: Callable[[], object], what):
    """Answer with the first true value of `condition()`; fails the test at the deadline."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {DEADLINE:.0f} seconds")
        time.sleep(POLL)
    return value


@dataclasses.dataclass(frozen=True)
class Run:
    """A program that ran to its end."""

    status: int
    """Its exit status."""
    output: str
    """Both of its outputs, or the standard one alone where they were kept apart."""
    errors: str = ""


class Process:
    """A peer that runs. `output` and `errors` are files; they are one where the peer writes a log and nothing else."""

    def __init__(self, name, process, output, errors):
        self.name = name
        self.output = output
        self.errors = errors
        self._process = process

    @property
    def pid(self):
        return self._process.pid

    def read(self):
        """The output that the peer has written so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def read_errors(self):
        """What it has written to its error output, where that is kept apart."""
        return self.errors.read_text(encoding="utf-8", errors="replace") if self.errors != self.output else ""

    def ended(self):
        return self._process.poll() is not None

    def wait(self):
        """Wait for the end that the process comes to by itself; answers with its exit status."""
        try:
            return self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.name} did not end within {DEADLINE:.0f} seconds")

    def stop(self, number=signal.SIGTERM, patience=DEADLINE):
        """Ask the process to end, and end it if it does not within `patience`; answers with its exit status."""
        if not self.ended():
            self._process.send_signal(number)
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class Lab:
    """Starts peers in a folder of their own, and ends them all."""

    def __init__(self, folder, **environment):
        self.folder = folder
        self.environment = environment
        self.processes = []
        self._numbers = itertools.count(1)

    def start(self, argv, *, split=False, whole=False, **popen):
        """Start a program.

        Args:
            argv: The program's name, looked up with `program()`, and its arguments.
            split: Whether its two outputs are kept apart.
            whole: Whether a program in Python is started from nothing (`support.warm`).
            popen: More for `subprocess.Popen`, which `Warm` is.
        """
        name, *arguments = map(str, argv)
        path = name if os.sep in name else program(name)
        label = f"{next(self._numbers):02}-{Path(name).name}"
        home = self.folder / label
        home.mkdir()
        output, errors = self.folder / f"{label}.log", self.folder / f"{label}.{'err' if split else 'log'}"
        with output.open("wb") as stdout, errors.open("wb") if split else contextlib.nullcontext(stdout) as stderr:
            started = (subprocess.Popen if whole else Warm)(
                [path, *arguments],
                stdout=stdout,
                stderr=stderr,
                env=self._environment(home),
                **{"stdin": subprocess.DEVNULL, **popen},
            )
        process = Process(label, started, output, errors)
        self.processes.append(process)
        return process

    def start_server(self, argv, port, **options):
        """Start a program and wait until it listens on `port`."""
        server = self.start(argv, **options)
        wait_until(lambda: listens(port) or server.ended(), f"{server.name} listens on {port}")
        if server.ended():
            pytest.fail(f"{server.name} ended before it listened:\n{server.read()}")
        return server

    def run(self, argv, **options):
        """Run a program to its end."""
        process = self.start(argv, **options)
        status = process.wait()
        errors = (
            process.errors.read_text(encoding="utf-8", errors="replace") if process.errors != process.output else ""
        )
        return Run(status, process.read(), errors)

    def stop(self):
        """End the peers that still run, the youngest first."""
        for process in reversed(self.processes):
            process.stop(patience=5)  # its status does not matter any more

    def show_logs(self):
        """Print every log: pytest shows what a test printed if it failed."""
        for process in self.processes:
            for path in sorted({process.output, process.errors}):
                print(f"--- {path.name}\n{path.read_text(encoding='utf-8', errors='replace')}")  # noqa: T201

    def _environment(self, home):
        """The caller's environment, with no way to the caller's own files and locale."""
        places = {name: str(home) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME")}
        return os.environ | places | {"LC_ALL": "C.UTF-8", "KRB5_CONFIG": "/dev/null"} | self.environment
