"""Tokens: a broker gives one to a user, and the gateway takes its bearer to the one target that the token names.

A token is random and says nothing. The store keeps its hash, so that whoever reads the store can use no token. It
travels as RDP's routing token, `loadbalanceinfo` of an .rdp file: `acredssp=TOKEN`. That is in plain, before TLS: the
token chooses the target, and it is the logon that proves the user.

A connection is found (`find_token`) when its Connection Request comes, and redeemed (`redeem_token`) once its user is
known.
"""

import hashlib
import secrets
from typing import Final

from acredssp.accounts import AccountNames, Domains
from acredssp.credentials import Account
from acredssp.status import NTSTATUS
from acredssp.stores.store import Grant, Store

__all__ = ["TokenRefused", "find_token", "is_token", "issue_token", "redeem_token"]

_BYTES: Final = 24
_BEGINNING: Final = "acredssp="


class TokenRefused(Exception):
    """A client's token is no good. The text is for the operator.

    Args:
        reason: The text.
        nt_status: What a hook may tell the user, by `Deny`.
    """

    def __init__(self, reason: str, nt_status: NTSTATUS) -> None:
        super().__init__(f"the client's token is {reason}")
        self.nt_status = nt_status


async def issue_token(store: Store, grant: Grant, ttl: float) -> str:
    """Make a token; return it as the routing token, which is `loadbalanceinfo` of an .rdp file.

    Args:
        store: The store that all nodes share.
        grant: What the token is good for.
        ttl: Seconds within which it must be used; at most `KICK_LIFE`.

    Raises:
        StoreError: The store did not take it.
    """
    token = _BEGINNING + secrets.token_urlsafe(_BYTES)
    await store.put_token(_hash(token), grant, ttl)
    return token


def is_token(routing_token: str | None) -> bool:
    """Whether a client's routing token begins as those that are issued here, also where the rest was cut off."""
    return (routing_token or "").startswith(_BEGINNING)


async def find_token(store: Store, routing_token: str) -> Grant:
    """Return what a client's token is good for, without using it.

    Raises:
        TokenRefused: It is no good.
        StoreError: The store does not say.
    """
    grant = await store.find_token(_hash(routing_token))
    if grant is None:
        raise TokenRefused("unknown, used up or expired", NTSTATUS.STATUS_ACCESS_DENIED)
    return grant


async def redeem_token(  # noqa: PLR0913, PLR0917 - what a token is used for
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
        grant: What `find_token` has returned for it.
        client: The client's host, without a port.
        account: Who has logged on; None for a connection that is not decrypted, whose user the target will see.
        domains: Which suffixes are which domains, where the account has logged on.

    Raises:
        TokenRefused: It is no good for this user, or no good any more.
        StoreError: The store does not say.
    """
    domains = domains or Domains()
    spellings = domains.spellings(account or domains.account(grant.user))
    if account is not None and account not in AccountNames([grant.user], domains):
        raise TokenRefused("for another user", NTSTATUS.STATUS_LOGON_NOT_GRANTED)
    if await store.use_token(_hash(routing_token), client, account, spellings) is None:
        raise TokenRefused("used up or expired, or its user was kicked", NTSTATUS.STATUS_LOGON_NOT_GRANTED)


def _hash(routing_token: str) -> str:
    return hashlib.sha256(routing_token.removeprefix(_BEGINNING).encode()).hexdigest()
