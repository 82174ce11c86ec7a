"""For `proxy check` and `proxy init`: see whether the targets let the gateway in, and make a first settings file."""

import importlib.resources
import pathlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Final

from acredssp import CredSSPError, self_signed
from acredssp.aio import reason_of
from acredssp.proxy.leg import Target, in_words
from acredssp.proxy.plan import Plan
from acredssp.proxy.refused import Refused
from acredssp.stores import StoreError
from acredssp.workers import Address

__all__ = ["connect", "first_files"]


async def connect(plan: Plan) -> AsyncIterator[tuple[str, str]]:
    """Ask the store, log on to every host of every target, and yield what each says.

    Where the credentials are the user's, or a plug-in's, nobody logs on: the gateway goes as far as the certificate.

    Yields:
        The store, or a target with its host, and why it cannot be used; empty where it can.
    """
    if plan.store is not None:
        yield "store", await _why_not(plan.store.ping())
        await plan.store.close()
    for name, target in plan.targets.items():
        for address in target.settings.addresses:
            yield f"target {name} at {address}", await _why_not(_see(target, address))


async def _see(target: Target, address: Address) -> None:
    if target.injected is None:
        await target.probe(address)
    else:
        (await target.log_on_at(address, target.injected)).close()


async def _why_not(asked: Awaitable[None]) -> str:
    try:
        await asked
    except Refused as refused:
        return in_words(refused.error) if isinstance(refused.error, CredSSPError) else str(refused)
    except (OSError, StoreError) as error:
        return reason_of(error)
    except CredSSPError as error:
        return in_words(error)
    return ""


# --- a first file ---

_USERS: Final = """\
# DOMAIN:USER:SECRET, where an empty DOMAIN stands for any. SECRET is a password, or $NT$ and an NT hash in hex.
:admin:{admin}
:alice:{alice}
"""


def first_files(path: pathlib.Path) -> Mapping[pathlib.Path, bytes]:
    """Return a first settings file that can be run, and what it names, to be written beside it.

    Passwords are made at random.
    """
    certificate, key = self_signed(["localhost", "127.0.0.1", "::1"])
    users = _USERS.format(admin=secrets.token_urlsafe(12), alice=secrets.token_urlsafe(12))
    return {
        path: (importlib.resources.files("acredssp.proxy") / "first.toml").read_bytes(),
        path.with_name("gateway.pem"): certificate,
        path.with_name("gateway.key"): key,
        path.with_name("gateway.users"): users.encode(),
        path.with_name("server.password"): b"put the password of the injected account here\n",
    }
