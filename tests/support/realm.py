"""A Kerberos realm on loopback: MIT's KDC as any user, with accounts for the tests.

acredssp's NTLM tests need it too: FreeRDP 3 speaks SPNEGO only where a realm is known, and offers NTLM inside.
"""

import dataclasses
from pathlib import Path

from support.peers import free_port

NAME = "ACREDSSP.TEST"

CLIENT_CONF = """
[libdefaults]
 default_realm = {name}
 dns_lookup_realm = false
 dns_lookup_kdc = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
 forwardable = true
[realms]
 {name} = {{
  kdc = 127.0.0.1:{port}
 }}
[domain_realm]
 localhost = {name}
"""

KDC_CONF = """
[kdcdefaults]
 kdc_listen = 127.0.0.1:{port}
 kdc_tcp_listen = 127.0.0.1:{port}
[realms]
 {name} = {{
  database_name = {folder}/principal
  key_stash_file = {folder}/stash
  acl_file = {folder}/acl
  supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal
 }}
[logging]
 kdc = FILE:{folder}/kdc.log
"""


@dataclasses.dataclass(frozen=True)
class Realm:
    """A realm that runs."""

    environment: dict[str, str]
    """For a program that should know the realm; the ticket cache is the program's own."""
    keytab: Path
    """Of the services TERMSRV/localhost and TERMSRV/127.0.0.1."""


def start(lab):
    """Make a realm with the user alice and start its KDC."""
    folder, port = lab.folder, free_port()
    facts = {"name": NAME, "port": port, "folder": folder}
    (folder / "krb5.conf").write_text(CLIENT_CONF.format(**facts), encoding="ascii")
    (folder / "kdc.conf").write_text(KDC_CONF.format(**facts), encoding="ascii")
    (folder / "acl").touch()
    lab.environment |= {"KRB5_CONFIG": str(folder / "krb5.conf"), "KRB5_KDC_PROFILE": str(folder / "kdc.conf")}
    keytab = folder / "service.keytab"
    run = lab.run(["kdb5_util", "create", "-s", "-r", NAME, "-P", "database password"])
    assert run.status == 0, run.output
    services = [f"TERMSRV/{host}" for host in ("localhost", "127.0.0.1")]
    orders = ["addprinc -pw Passw0rd! alice", *(f"addprinc -randkey {service}" for service in services)]
    orders += [f"ktadd -norandkey -k {keytab} {service}" for service in services]
    for order in orders:
        run = lab.run(["kadmin.local", "-r", NAME, "-q", order])
        assert run.status == 0, run.output
    lab.start_server(["krb5kdc", "-n", "-P", folder / "kdc.pid"], port)
    return Realm({"KRB5_CONFIG": lab.environment["KRB5_CONFIG"], "KRB5RCACHETYPE": "none"}, keytab)
