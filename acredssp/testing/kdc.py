"""A Kerberos realm on loopback by MIT's KDC, for tests of clients and servers that log on by Kerberos."""

import contextlib
import dataclasses
import pathlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Final

from acredssp.credentials import Keytab, Password

__all__ = ["Realm", "is_installed", "running_realm"]

_PROGRAMS: Final = ("krb5kdc", "kdb5_util", "kadmin.local")
_PATIENCE: Final = 60.0
"""Seconds until a program that says nothing is taken for one that hangs."""

_KRB5_CONF: Final = """[libdefaults]
 default_realm = {realm}
 dns_lookup_realm = false
 dns_lookup_kdc = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
[realms]
 {realm} = {{
  kdc = 127.0.0.1:{port}
 }}
[domain_realm]
 localhost = {realm}
"""
_KDC_CONF: Final = """[kdcdefaults]
 kdc_listen = 127.0.0.1:{port}
 kdc_tcp_listen = 127.0.0.1:{port}
[realms]
 {realm} = {{
  database_name = {folder}/principal
  key_stash_file = {folder}/stash
  acl_file = {folder}/acl
 }}
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Realm:
    """A realm that runs.

    Attributes:
        name: The realm.
        user: An account.
        password: Its password.
        keytab: The keytab of `TERMSRV/localhost` and `HTTP/localhost`.
        environment: The variables that a program needs to find the realm; KRB5_KTNAME names the keytab.
    """

    name: str
    user: str
    password: str
    keytab: pathlib.Path
    environment: dict[str, str]

    @property
    def account(self) -> Password:
        """The account as `ServerEndpoint` and `ClientEndpoint` take it: its domain is the realm."""
        return Password(self.password, self.user, self.name)

    @property
    def keys(self) -> Keytab:
        """The keytab as `ClientEndpoint` and a server's configuration take it."""
        return Keytab(str(self.keytab))


def is_installed() -> bool:
    """Whether MIT's KDC is installed."""
    return all(map(_program, _PROGRAMS))


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def running_realm(folder: pathlib.Path, *, user: str, password: str, name: str = "TESTING.ACREDSSP") -> Iterator[Realm]:
    """Run a realm for as long as the block runs.

    Args:
        folder: An empty folder for its files.
        user: The account to make.
        password: Its password.
        name: The realm's name.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    facts = {"realm": name, "port": port, "folder": folder}
    (folder / "krb5.conf").write_text(_KRB5_CONF.format(**facts), encoding="ascii")
    (folder / "kdc.conf").write_text(_KDC_CONF.format(**facts), encoding="ascii")
    (folder / "acl").touch()
    keytab = folder / "service.keytab"
    environment = {
        "KRB5_CONFIG": str(folder / "krb5.conf"),
        "KRB5_KDC_PROFILE": str(folder / "kdc.conf"),
        "KRB5_KTNAME": f"FILE:{keytab}",
        "KRB5RCACHETYPE": "none",
    }
    _run(["kdb5_util", "create", "-s", "-r", name, "-P", "database"], environment)
    orders = [f"addprinc +requires_preauth -pw {password} {user}"]
    for service in ("TERMSRV/localhost", "HTTP/localhost"):
        orders += [f"addprinc -randkey {service}", f"ktadd -norandkey -k {keytab} {service}"]
    _run(["kadmin.local", "-r", name], environment, "\n".join([*orders, ""]))
    kdc = subprocess.Popen([_program("krb5kdc") or "", "-n"], env=environment, stderr=subprocess.DEVNULL)  # noqa: S603 - MIT's
    try:
        _wait(port, kdc)
        yield Realm(name, user, password, keytab, environment)
    finally:
        kdc.terminate()
        kdc.wait(_PATIENCE)


def _run(words: Sequence[str], environment: dict[str, str], orders: str = "") -> None:
    argv = [_program(words[0]) or words[0], *words[1:]]
    subprocess.run(  # noqa: S603 - MIT's programs
        argv, env=environment, input=orders.encode(), check=True, capture_output=True, timeout=_PATIENCE
    )


def _wait(port: int, kdc: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + _PATIENCE
    while kdc.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("the kdc does not listen")
