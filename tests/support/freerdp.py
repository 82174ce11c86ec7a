"""FreeRDP 2 and 3: clients that only log on, and shadow servers that demand it.

Which exit status means what was observed with Debian's 2.11.7 and 3.10.3.
"""

import dataclasses

from support.peers import free_port

CLIENTS = {2: "xfreerdp", 3: "xfreerdp3"}
SERVERS = {2: "freerdp-shadow-cli", 3: "freerdp-shadow-cli3"}

LOGGED_ON = 147
"""Both clients, where CredSSP succeeded and the connection is then closed: ERRCONNECT_CONNECT_TRANSPORT_FAILED."""
CONNECTION_ENDED = LOGGED_ON
"""The same status, so nothing can be told from it alone: the logon was refused by a mere close."""
NEGOTIATION_FAILED = 133
"""FreeRDP 2 offers HYBRID_EX with `/sec:ext`, and gives up when it is selected."""
ABORTED = -6
"""The client died by SIGABRT."""
LOGON_FAILED = 134
"""Both clients, on errorCode 0xC000006D: ERRCONNECT_LOGON_FAILURE."""
DENIED = 132
"""FreeRDP 3, on an early user authorization result that says no, and on codes it has no status for."""


@dataclasses.dataclass(frozen=True)
class ShadowServer:
    """A FreeRDP server that knows alice of CONTOSO."""

    generation: int
    port: int
    process: object

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"


def start_shadow_server(lab, generation, sam_file, security="nla", under=()):
    """Start FreeRDP's shadow server, under another program if `under` names one. The lab has an X display."""
    port = free_port()
    argv = [
        *under,
        SERVERS[generation],
        f"/port:{port}",
        "/bind-address:127.0.0.1",
        f"/sec:{security}",
        f"/sam-file:{sam_file}",
    ]
    return ShadowServer(generation, port, lab.start_server([*argv, "+auth"], port))


def log_on(
    lab, generation, address, *arguments, user="alice", domain="CONTOSO", password="Passw0rd!", certificate="ignore"
):
    """Run FreeRDP's client as far as the logon; None leaves an argument out."""
    named = {"/u": user, "/d": domain, "/p": password}
    account = [f"{name}:{value}" for name, value in named.items() if value is not None]
    argv = [
        CLIENTS[generation],
        f"/v:{address}",
        f"/cert:{certificate}",
        "/sec:nla",
        "+auth-only",
        *account,
        *arguments,
    ]
    return lab.run(argv, split=True)
