"""Tokens: a broker gives one to a user, and the gateway takes its bearer to the one target that the token names.

A token is random and says nothing. The store keeps its hash, so that whoever reads the store can use no token. It
travels as RDP's routing token, `loadbalanceinfo` of an .rdp file: `acredssp=TOKEN`. That is in plain, before TLS: the
token chooses the target, and it is the logon that proves the user.

A connection is `found` when its Connection Request comes, and `redeemed` once its user is known.
"""

import contextlib
import hashlib
import secrets
from collections.abc import Iterator
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from acredssp import NTSTATUS
from acredssp.accounts import AccountNames, Domains
from acredssp.credentials import Account
from acredssp.proxy.leg import Refused
from acredssp.proxy.settings import Line
from acredssp.stores import KICK_LIFE, Grant, Store, StoreError

__all__ = ["TokenOrder", "find", "is_token", "issue", "redeem"]

_BYTES: Final = 24
_BEGINNING: Final = "acredssp="


class TokenOrder(BaseModel):
    """What a broker asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)

    user: Annotated[Line, Field(max_length=256)]
    r"""Who may come: `USER` of any domain, `DOMAIN\\USER` or `USER@SUFFIX`."""
    target: Annotated[str, Field(min_length=1, max_length=256)]
    """The target, by its name in `[targets]`."""
    ttl: Annotated[float, Field(gt=0, le=KICK_LIFE, allow_inf_nan=False)] = 60.0
    """Seconds within which the token must be used."""
    uses: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """How often it may be used."""
    window: Annotated[float, Field(ge=0, le=KICK_LIFE, allow_inf_nan=False)] = 30.0
    """Seconds after each use in which the same client may come again: mstsc connects twice, and reconnects. 0 makes a
    strict one-time token of it."""

    account: Annotated[str, Field(max_length=512)] = ""
    r"""Whom the gateway logs on to a target with `credentials = "token"` as: `DOMAIN\user`, `user@realm` or `user`."""
    password: Annotated[SecretStr, Field(max_length=512)] = SecretStr("")
    """The account's password."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.account) != bool(self.password.get_secret_value()):
            raise ValueError("expected account and password together, got one of them")
        return self


async def issue(store: Store, order: TokenOrder) -> str:
    """Make a token; return it as the routing token, which is `loadbalanceinfo` of an .rdp file.

    Raises:
        StoreError: The store did not take it.
    """
    token = _BEGINNING + secrets.token_urlsafe(_BYTES)
    password = order.password.get_secret_value()
    grant = Grant(**order.model_dump(exclude={"ttl", "password"}), password=password)
    await store.put_token(_hash(token), grant, order.ttl)
    return token


def is_token(routing_token: str | None) -> bool:
    """Whether a client's routing token begins as those that are issued here, also where the rest was cut off."""
    return (routing_token or "").startswith(_BEGINNING)


async def find(store: Store, routing_token: str) -> Grant:
    """Return what a client's token is good for, without using it.

    Raises:
        Refused: It is no good.
    """
    with _readable("read"):
        grant = await store.find_token(_hash(routing_token))
    if grant is None:
        raise Refused("the client's token is unknown, used up or expired", NTSTATUS.STATUS_ACCESS_DENIED)
    return grant


async def redeem(  # noqa: PLR0913, PLR0917 - what a token is used for
    store: Store,
    routing_token: str,
    grant: Grant,
    client: str,
    account: Account | None = None,
    domains: Domains | None = None,
) -> None:
    """Use a client's token.

    Args:
        store: The store.
        routing_token: As the client has sent it.
        grant: What `find` has returned for it.
        client: The client's host, without a port.
        account: Who has logged on; None for a connection that is not decrypted, whose user the target will see.
        domains: Which suffixes are which domains, where the account has logged on.

    Raises:
        Refused: It is no good for this user, or no good any more.
    """
    domains = domains or Domains()
    spellings = domains.spellings(account or domains.account(grant.user))
    if account is not None and account not in AccountNames([grant.user], domains):
        raise Refused("the client's token is for another user", NTSTATUS.STATUS_LOGON_NOT_GRANTED)
    with _readable("used"):
        used = await store.use_token(_hash(routing_token), client, account, spellings)
    if used is None:
        reason = "the client's token is used up or expired, or its user was kicked"
        raise Refused(reason, NTSTATUS.STATUS_LOGON_NOT_GRANTED)


@contextlib.contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise Refused(f"the client's token cannot be {what}: {error}", NTSTATUS.STATUS_NO_LOGON_SERVERS) from error


def _hash(routing_token: str) -> str:
    return hashlib.sha256(routing_token.removeprefix(_BEGINNING).encode()).hexdigest()
