"""Accounts that are locked out at all nodes after too many wrong passwords, whoever sent them.

The library's own limit counts the wrong passwords of a source for an account, in each process. A guesser with many
sources gets past that, and past this one only by locking the account's owner out, too: so it is off without
`limits.lockout`. Names are counted as the library counts them: by the user alone, so that all spellings share their
tries. A right password clears the wrong ones if all of them were sent for the name in the same spelling.
"""

import dataclasses
import logging
from typing import Final

from acredssp import NTSTATUS
from acredssp.credentials import Account
from acredssp.hooks import Principal
from acredssp.proxy.leg import Refused
from acredssp.proxy.limits import Limited
from acredssp.proxy.settings import LockoutSettings
from acredssp.stores import LockoutRule, Store, StoreError, key_text

__all__ = ["Lockout"]

_logger = logging.getLogger("acredssp.proxy")

_LONGEST_NAME: Final = 256


class Lockout:
    """One try of a password.

    Args:
        settings: From how many failures on somebody is locked out.
        store: Where all nodes count.
        principal: Who claims to log on.
        source: Where from.
    """

    def __init__(self, settings: LockoutSettings, store: Store, principal: Principal, source: str) -> None:
        self._settings = settings
        self._store = store
        account = Account(principal.user, principal.domain)
        self._spelling = key_text(account)[:_LONGEST_NAME]
        self._account = f"account {account.user_alone[:_LONGEST_NAME]}"
        rule = LockoutRule(
            most=settings.failures, window=settings.window, shortest=settings.shortest, longest=settings.longest
        )
        self._rules = {self._account: rule}
        if settings.source_failures is not None:
            self._rules[f"source {source}"] = dataclasses.replace(rule, most=settings.source_failures)
        self._counted: list[str] = []
        """For whom the store counts the try as a failure while nobody knows better."""

    async def begin(self) -> None:
        """See that nobody is locked out, and count the try, so that tries at the same time get no more guesses.

        Raises:
            Limited: The account or the source is.
            Refused: The store does not say, and the settings do not let anybody in then.
        """
        try:
            for name, rule in self._rules.items():
                if left := await self._store.attempt(name, rule, self._spelling):
                    reason = f"{name!a} is locked out for {left:.1f} more seconds after too many wrong passwords"
                    # The user is told what everybody is told of a wrong password, which tells a guesser nothing.
                    raise Limited("lockout", reason, NTSTATUS.STATUS_LOGON_FAILURE)
                self._counted.append(name)
        except StoreError as error:
            if self._settings.allow_without_store:
                return
            reason = f"nobody knows whether the account is locked out: {error}"
            raise Refused(reason, NTSTATUS.STATUS_NO_LOGON_SERVERS) from error

    async def failed(self) -> None:
        """Leave the try counted, and tell of the lock if there is one now; raises StoreError."""
        counted, self._counted = self._counted, []
        for name in counted:
            if seconds := await self._store.locked(name):
                _logger.warning("%a is locked out for %.0f seconds after too many wrong passwords", name, seconds)

    async def succeeded(self) -> None:
        """Forget the wrong passwords for the account, but not those of the source; raises StoreError."""
        await self.release()
        await self._store.forgive(self._account, self._spelling)

    async def release(self) -> None:
        """Count the try no more, unless it has failed; raises StoreError."""
        while self._counted:
            await self._store.release(self._counted.pop())
