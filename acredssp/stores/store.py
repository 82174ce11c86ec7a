"""The store: what outlives a connection, and what the nodes of one gateway share.

It holds tokens, lockouts, the directory (who is on which node and target), the figures of the nodes, the host that a
user was on last, and the kicks that end connections. `MemoryStore` lies in the process; `RedisStore` is for several
nodes, or several processes of one node.

Every call may raise `StoreError`, within the store's deadline. Whoever needs the answer to let somebody in then refuses
(`use_token`, `attempt`); everything else goes on without the answer. Nothing is repeated by the store itself: a use of
a token whose answer got lost counts as used.

Times are in seconds. Names of accounts are as `Account.key` compares them.
"""

import dataclasses
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Final, Protocol

from acredssp.accounts import AccountNames, Domains
from acredssp.credentials import Account

__all__ = [
    "KICK_LIFE", "Entry", "Grant", "Kick", "LockoutRule", "Store", "StoreError", "entries_of", "key_text", "marks_of",
    "names_of", "voiding",
]  # fmt: skip

KICK_LIFE: Final = 86_400.0
"""Seconds for which a kick makes older tokens void; no token may live longer."""


class StoreError(Exception):
    """The store cannot be reached, does not answer in time, refuses, or holds what cannot be read.

    The text is for the operator and quotes no value of the store.
    """


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    r"""What a token is good for.

    Attributes:
        user: The account that may come: `USER` of any domain, `DOMAIN\USER` or `USER@SUFFIX`.
        target: The name of the target.
        uses: How often the token may be used.
        window: For how many seconds after a use the same client may come again without a further use. mstsc connects
            twice, and reconnects by itself when a network fails.
        account: Whom the gateway logs on to the target as, if the target's credentials come with the token; else empty.
        password: The account's password.
    """

    user: str
    target: str
    uses: int = 1
    window: float = 0.0
    account: str = ""
    password: str = dataclasses.field(default="", repr=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One connection in the directory.

    Attributes:
        id: Its `connection_id`.
        node: The node that it runs through.
        user: The account, as text.
        target: The name of the target.
        host: The host of the target, as text.
        client: The client's address, as text.
        since: When it began, in seconds since the epoch.
    """

    id: str
    node: str
    user: str
    target: str
    host: str
    client: str
    since: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kick:
    r"""An order to every node: end these connections.

    Attributes:
        user: Whose connections end: `USER` of any domain, `DOMAIN\USER` or `USER@SUFFIX`; empty for `connection`.
        connection: The `id` of the one connection that ends; empty for all connections of `user`.
    """

    user: str = ""
    connection: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LockoutRule:
    """From which number of failures on somebody is locked out, and for how long.

    Attributes:
        most: The failures that lock. Each further one doubles the time.
        window: Seconds without a failure after which all are forgotten, counted from the end of the lock.
        shortest: Seconds of the first lock.
        longest: Seconds of the longest lock.
    """

    most: int = 5
    window: float = 900.0
    shortest: float = 5.0
    longest: float = 900.0


def key_text(account: Account) -> str:
    r"""Return one text for all ways to write an account: `DOMAIN\USER` in upper case, or `USER` without a domain."""
    domain, user = account.key
    return f"{domain}\\{user}" if domain else user


def names_of(who: Account | str) -> list[str]:
    r"""Return the names by which an account may be kicked: `DOMAIN\USER`, and `USER` of any domain."""
    account = Domains().account(who) if isinstance(who, str) else who
    return [key_text(account), key_text(Account(account.user))]


def marks_of(kick: Kick) -> list[str]:
    """Return the marks that a kick of a user leaves: of those who have logged on, and of those who claim a name."""
    exact, alone = names_of(kick.user)
    return [exact, f"any {alone}"]


def voiding(grant: Grant, account: Account | None, spellings: Sequence[Account]) -> list[str]:
    """Return the marks that make a token void, if `account` uses it, or with None somebody who only claims a name."""
    who = account or Domains().account(grant.user)
    names = [name for each in (who, *spellings) for name in names_of(each)]
    return names if account or who.domain else [*names, f"any {names[1]}"]


def entries_of(entries: Iterable[Entry], user: str, domains: Iterable[Domains] = (Domains(),)) -> list[Entry]:
    r"""Return a user's connections out of the directory, whatever way the user's name is written in.

    Args:
        entries: As `Store.entries` returns them.
        user: `USER` of any domain, `DOMAIN\\USER` or `USER@SUFFIX`.
        domains: Which suffixes are which domains, one for each list of users that there is.
    """
    known = [(each, AccountNames([user], each)) for each in domains]
    return [entry for entry in entries if any(each.account(entry.user) in names for each, names in known)]


class Store(Protocol):
    """What every store can do; the module says what callers do with a `StoreError`."""

    async def ping(self) -> None:
        """Return if the store answers, for `/readyz`."""

    async def close(self) -> None:
        """Give up all connections; the store is of no further use."""

    async def put_token(self, key: str, grant: Grant, ttl: float) -> None:
        """Add a token.

        Args:
            key: The hash of the token, never the token itself.
            grant: What it is good for.
            ttl: Seconds within which the first use must happen, and every other use that counts.
        """

    async def find_token(self, key: str) -> Grant | None:
        """Return what a token is good for, without using it; None for an unknown, used up or expired one."""

    async def use_token(
        self, key: str, client: str, account: Account | None = None, spellings: Sequence[Account] = ()
    ) -> Grant | None:
        """Use a token, once for all nodes.

        Args:
            key: The hash of the token.
            client: Who uses it, as a host without a port. Only this client may come again within the window.
            account: The account that has logged on; None if nobody has, as with a connection that is not decrypted.
                Then a kick of a user of any domain makes the token of the plain name void, too.
            spellings: The same account with other names of its domain.

        Returns:
            What it is good for; None for a token that is unknown, used up, expired, or older than a kick of its user.
        """

    async def attempt(self, name: str, rule: LockoutRule, spelling: str = "") -> float:
        """Begin an attempt to log on. The attempt counts as a failure until `release` is called.

        So a client gains no attempts by making several at the same time.

        Args:
            name: The account or the address that tries, in one spelling for all nodes.
            rule: After how many failures the name is locked, and for how long.
            spelling: The name as it was sent.

        Returns:
            0 if the attempt may go on. If the name is locked, the seconds until the lock ends; then the attempt is not
            counted.
        """

    async def release(self, name: str) -> None:
        """Count one attempt less, since that attempt has not failed, and end the lock of the name."""

    async def locked(self, name: str) -> float:
        """Return the seconds until the lock of a name ends; 0 if the name is not locked."""

    async def forgive(self, name: str, spelling: str = "") -> None:
        """Forget somebody's failures, and the lock, if all of them were in this spelling."""

    async def announce(self, entries: Sequence[Entry], ttl: float) -> None:
        """Put connections into the directory, or keep them there.

        A node announces all of its connections again well before `ttl` is over. So the directory is whole again after
        a loss, and the connections of a dead node vanish.
        """

    async def withdraw(self, ids: Collection[str]) -> None:
        """Take connections out of the directory; harmless for those that are not in it."""

    async def entries(self) -> list[Entry]:
        """Return the connections of all nodes."""

    async def publish(self, node: str, figures: str, ttl: float) -> None:
        """Put a node's figures, as /metrics has them, in place of its last ones."""

    async def figures(self) -> dict[str, str]:
        """Return the figures of each node."""

    async def stick(self, account: Account, target: str, host: str, ttl: float) -> None:
        """Note the host that an account is on, so that a reconnect finds it from any node."""

    async def host_of(self, account: Account, target: str) -> str | None:
        """Return the host of a target that an account was on last; None if that is unknown or too long ago."""

    async def kick(self, kick: Kick) -> None:
        """Order every node to end connections. The unused tokens of a kicked user are void from now on."""

    def kicks(self) -> AsyncIterator[Kick]:
        """Give each kick from now on, for ever. This raises no `StoreError`: it goes on when the store is back."""
