"""Attempts to log on by a password, counted at all nodes: whoever sends too many wrong ones is locked out everywhere.

The limit of a server (`max_failures`) counts the wrong passwords of a source for an account, in one process. A guesser
with many sources gets past that limit, and past this one only by locking the account's owner out, too.

Names are counted as the server counts them: by the user alone, so that all spellings share their attempts. A right
password clears the wrong ones if all of them were sent for the name in the same spelling.
"""

import logging
from typing import Final

from acredssp.credentials import Account
from acredssp.stores.store import LockoutRule, Store, key_text

__all__ = ["LockedOut", "LogonAttempt"]

_logger = logging.getLogger("acredssp.stores")

_LONGEST_NAME: Final = 256


class LockedOut(Exception):
    """An account or a source is locked out. The text is for the operator.

    The user should be told what everybody is told of a wrong password, which tells a guesser nothing.

    Args:
        name: Who, as the store counts: `account USER` or `source ADDRESS`.
        seconds: Seconds until the lock ends.
    """

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"{name!a} is locked out for {seconds:.1f} more seconds after too many wrong passwords")
        self.seconds = seconds


class LogonAttempt:
    """One attempt: `begin` in the hook `lookup`, and one of the others once it is known how the handshake ended.

    Args:
        store: Where all nodes count.
        account: Whom the client claims to be.
        rule: When the account is locked out.
        source: The client's address without a port.
        source_rule: When the source is locked out, whatever accounts it tries; None for never.
    """

    def __init__(
        self,
        store: Store,
        account: Account,
        rule: LockoutRule,
        source: str = "",
        source_rule: LockoutRule | None = None,
    ) -> None:
        self._store = store
        self._spelling = key_text(account)[:_LONGEST_NAME]
        self._account = f"account {account.user_alone[:_LONGEST_NAME]}"
        self._rules = {self._account: rule} | ({f"source {source}": source_rule} if source_rule else {})
        self._counted: list[str] = []
        """For whom the store counts the attempt as a failure while nobody knows better."""

    async def begin(self) -> None:
        """See that nobody is locked out, and count the attempt, so that several at the same time get no more guesses.

        Raises:
            LockedOut: The account or the source is locked out.
            StoreError: The store does not say.
        """
        for name, rule in self._rules.items():
            if left := await self._store.attempt(name, rule, self._spelling):
                raise LockedOut(name, left)
            self._counted.append(name)

    async def failed(self) -> None:
        """Leave the attempt counted, since the password was wrong, and log a lock that begins by it.

        Raises:
            StoreError: The store does not say whether there is a lock.
        """
        counted, self._counted = self._counted, []
        for name in counted:
            if seconds := await self._store.locked(name):
                _logger.warning("%a is locked out for %.0f seconds after too many wrong passwords", name, seconds)

    async def succeeded(self) -> None:
        """Forget the wrong passwords for the account, but not those of the source.

        Raises:
            StoreError: The store does not take it.
        """
        await self.release()
        await self._store.forgive(self._account, self._spelling)

    async def release(self) -> None:
        """Count the attempt no more: the handshake ended, and the password was not wrong. Harmless after `failed`.

        Raises:
            StoreError: The store does not take it.
        """
        while self._counted:
            await self._store.release(self._counted.pop())
