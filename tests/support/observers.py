"""Third parties that look at a conversation: nmap's RDP scripts, and tshark over a capture with the TLS keys."""

import contextlib
import json
import signal
import socket
from pathlib import Path

import pytest
from support.peers import program, wait_until


def nmap(lab, port, *scripts):
    """Run nmap's scripts against a port; the plus makes them run whatever the port number says."""
    chosen = ",".join(f"+{script}" for script in scripts)
    run = lab.run(["nmap", "-Pn", "-n", "-p", port, "--script", chosen, "127.0.0.1"])
    assert run.status == 0, run.output
    return run.output


class Capture:
    """What crosses one loopback port, from the start of the block to its end.

    A datagram of our own marks both: dumpcap writes late, and only what it has written is certainly captured.

    Args:
        lab: Where the capture lies.
        port: The server's.
        keytab: Of the server's service, for tshark to decrypt Kerberos with.
    """

    def __init__(self, lab, port, keytab=None):
        self.path = lab.folder / f"{port}.pcapng"
        self._lab, self._port = lab, port
        self._kerberos = ["-o", "kerberos.decrypt:TRUE", "-o", f"kerberos.file:{keytab}"] if keytab else []

    @contextlib.contextmanager
    def running(self):
        """Capture while the block runs; skips the test where this user may not."""
        argv = ["dumpcap", "-q", "-i", "lo", "-f", f"port {self._port}", "-w", self.path]
        dumpcap = self._lab.start(argv)
        wait_until(lambda: dumpcap.ended() or self._holds(b"capture begins"), "dumpcap captures")
        if dumpcap.ended():
            pytest.skip(f"dumpcap may not capture on lo: {dumpcap.read().strip()}")
        yield self
        wait_until(lambda: self._holds(b"capture ends"), "dumpcap has written all")
        dumpcap.stop(signal.SIGINT)

    def _holds(self, mark):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(mark, ("127.0.0.1", self._port))
        return self.path.exists() and mark in self.path.read_bytes()

    def decode(self, keys: Path, display_filter, *fields):
        """Let tshark decrypt and dissect.

        Args:
            keys: The TLS secrets, as `SSLContext.keylog_filename` writes them.
            display_filter: Which packets.
            fields: The fields to answer with.

        Returns:
            A dictionary for each packet: {field: list of values}.
        """
        port = f"tcp.port=={self._port},tls", f"tls.port=={self._port},tpkt"
        argv = [program("tshark"), "-r", self.path, "-o", f"tls.keylog_file:{keys}", "-d", port[0], "-d", port[1]]
        argv += ["-o", "ntlmssp.nt_password:Passw0rd!", *self._kerberos, "-Y", display_filter, "-T", "json"]
        run = self._lab.run([*argv, *(part for field in fields for part in ("-e", field))], split=True)
        assert run.status == 0, run.errors
        return [packet["_source"].get("layers", {}) for packet in json.loads(run.output)]
