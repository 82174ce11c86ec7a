"""For `proxy check` and `proxy init`: see whether the targets let the gateway in, and write a first settings file."""

import os
import pathlib
import secrets
from collections.abc import AsyncIterator
from typing import Final

from acredssp import CredSSPError, self_signed
from acredssp.proxy.leg import Refused, Target, in_words
from acredssp.proxy.plan import Plan
from acredssp.proxy.settings import Address, reason_of

__all__ = ["connect", "init"]


async def connect(plan: Plan) -> AsyncIterator[tuple[str, str]]:
    """Log on to every host of every target, and yield what each says.

    Where the credentials are the user's, or a plug-in's, nobody logs on: the gateway goes as far as the certificate.

    Yields:
        The target with its host, and why it cannot be used; empty where it can.
    """
    for name, target in plan.targets.items():
        for address in target.settings.addresses:
            yield f"target {name} at {address}", await _why_not(target, address)


async def _why_not(target: Target, address: Address) -> str:
    try:
        if target.injected is None:
            await target.probe(address)
        else:
            (await target.log_on_at(address, target.injected)).close()
    except Refused as refused:
        return in_words(refused.error) if isinstance(refused.error, CredSSPError) else str(refused)
    except OSError as error:
        return reason_of(error)
    except CredSSPError as error:
        return in_words(error)
    return ""


# --- a first file ---

_SETTINGS: Final = """\
# The settings of `acredssp proxy`. See docs/gateway.md for every setting.
# Paths are relative to this file. After a change: `acredssp proxy check FILE`, then send SIGHUP to the process.

[[listeners]]
address = "127.0.0.1:3389"    # 0.0.0.0:3389 for every address of this machine
hybrid_ex = true              # users learn that a target has refused them; false only for clients that cannot do it

[[listeners.certificates]]
certificate = "gateway.pem"   # self-made by `proxy init`: replace it by one that your clients trust
key = "gateway.key"

[listeners.logon]
users = "gateway.users"       # one DOMAIN:USER:SECRET a line; or winbind = true; or keytab = "..." and realms = ["..."]

# The first route that fits is taken. Each condition is optional, and all that are given must hold:
#   token = "..."    what the client sends as loadbalanceinfo
#   cookie = "..."   the name in its mstshash cookie (unproven)
#   sni = "..."      the host name that it asks for in TLS
#   users = [...], groups = [...]    who has logged on
[[listeners.routes]]
users = ["admin"]
target = "servers"

[[listeners.routes]]
target = "desktops"

# Users are logged on here by the credentials that they type.
[targets.desktops]
addresses = ["desktop.example.com:3389"]
# authorities = "ca.pem"      # who vouches for its certificate; the operating system's authorities without this
# pins = ["..."]              # or the SHA-256 of its key, as `acredssp login` prints it

# Users are logged on here by an account that they do not know.
[targets.servers]
addresses = ["server1.example.com:3389", "server2.example.com:3389"]
credentials = "injected"
account = 'EXAMPLE\\administrator'
password = "file:server.password"    # or env:NAME, or credential:NAME of systemd

[limits]
connections_per_user = 10     # see docs/gateway.md for the others, most of which have a default

[admin]
address = "127.0.0.1:9389"    # /healthz, /readyz and /metrics

[run]
grace = 30                    # seconds that connections get to end after SIGTERM
log = "text"                  # or json: an object a line
"""

_USERS: Final = """\
# DOMAIN:USER:SECRET, where an empty DOMAIN stands for any. SECRET is a password, or $NT$ and an NT hash in hex.
:admin:{admin}
:alice:{alice}
"""


def init(path: pathlib.Path) -> list[pathlib.Path]:
    """Write a first settings file that can be run, and beside it what it names. Passwords are made at random.

    Returns:
        The files that were written, the settings first.

    Raises:
        OSError: A file is there already, or cannot be written.
    """
    certificate, key = self_signed(["localhost", "127.0.0.1", "::1"])
    users = _USERS.format(admin=secrets.token_urlsafe(12), alice=secrets.token_urlsafe(12))
    contents = {
        path: _SETTINGS.encode(),
        path.with_name("gateway.pem"): certificate,
        path.with_name("gateway.key"): key,
        path.with_name("gateway.users"): users.encode(),
        path.with_name("server.password"): b"put the password of the injected account here\n",
    }
    for file in contents:
        if file.exists():
            raise FileExistsError(17, "", str(file))
    for file, content in contents.items():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(content)
    return [*contents]
