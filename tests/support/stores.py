"""A real Redis or Valkey for a test: started on a loopback port, killed and started again.

Observed with Debian's redis-server 7.0.15 and valkey-server 8.0.1.
"""

import contextlib
import os
import re
import signal
from pathlib import Path

from support.peers import Lab, free_port

import acredssp

SERVERS = ("redis-server", "valkey-server")
PASSWORD = "acl-secret"
PREFIX = "lab"
TUTORIAL = Path(__file__).parents[2] / "docs" / "gateway-tutorial.md"
ACL_RULES = re.search(r"ACL SETUSER gateway (.+)", TUTORIAL.read_text(encoding="utf-8"))[1]
"""Those of the tutorial, which are enough."""


class StoreServer:
    """A server that takes the ACL user `gateway`, for keys of one prefix alone; the default user is off.

    Args:
        lab: A `Lab`.
        program: One of `SERVERS`.
        tls: Whether it speaks TLS alone; `certificate` is then the file of its authority.
    """

    def __init__(self, lab, program, *, tls=False):
        self.certificate = lab.folder / "store.pem"
        self._tls = tls
        self._lab = lab
        self._program = program
        self._process = None
        self.port = free_port()

    @property
    def url(self):
        return f"rediss://localhost:{self.port}" if self._tls else f"redis://127.0.0.1:{self.port}"

    @property
    def logon(self):
        return {"username": "gateway", "password": PASSWORD, "prefix": PREFIX}

    def start(self):
        """Start it, empty."""
        rules = ACL_RULES.replace("PASSWORD", PASSWORD).replace("{acredssp}", f"{{{PREFIX}}}")
        configuration = self._lab.folder / f"{self._program}.conf"
        acl = self._lab.folder / f"{self._program}.acl"
        acl.write_text(f"user default off\nuser gateway {rules}\n", "ascii")
        configuration.write_text(
            f'{self._listening()}bind 127.0.0.1\nsave ""\nappendonly no\naclfile {acl}\ndir {self._lab.folder}\n',
            "ascii",
        )
        self._process = self._lab.start_server([self._program, configuration], self.port)

    def _listening(self):
        if not self._tls:
            return f"port {self.port}\n"
        key = self.certificate.with_suffix(".key")
        for path, data in zip((self.certificate, key), acredssp.self_signed(["localhost"]), strict=True):
            path.write_bytes(data)
        files = f"tls-cert-file {self.certificate}\ntls-key-file {key}\n"
        return f"port 0\ntls-port {self.port}\ntls-auth-clients no\n{files}"

    def kill(self):
        """End it at once, with all that it holds."""
        self._process.stop(signal.SIGKILL)

    def freeze(self):
        """Let it answer nothing, while its connections stay."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self):
        """Let it answer again."""
        os.kill(self._process.pid, signal.SIGCONT)


@contextlib.contextmanager
def running(folder, program):
    """A server that runs for the block."""
    lab = Lab(folder)
    server = StoreServer(lab, program)
    try:
        server.start()
        yield server
    finally:
        lab.stop()
        lab.show_logs()
