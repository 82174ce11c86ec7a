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

    async def check(self) -> None:
        """See that nobody is locked out.

        Raises:
            Limited: The account or the source is.
            Refused: The store does not say, and the settings do not let anybody in then.
        """
        try:
            seconds = {name: await self._store.locked(name) for name in self._rules}
        except StoreError as error:
            if self._settings.allow_without_store:
                return
            reason = f"nobody knows whether the account is locked out: {error}"
            raise Refused(reason, NTSTATUS.STATUS_NO_LOGON_SERVERS) from error
        for name, left in seconds.items():
            if left:
                reason = f"{name!a} is locked out for {left:.1f} more seconds after too many wrong passwords"
                # The user is told what everybody is told of a wrong password: another status would tell a guesser more.
                raise Limited("lockout", reason, NTSTATUS.STATUS_LOGON_FAILURE)

    async def failed(self) -> None:
        """Count a wrong password; raises StoreError."""
        for name, rule in self._rules.items():
            if seconds := await self._store.fail(name, rule, self._spelling):
                _logger.warning("%a is locked out for %g seconds after too many wrong passwords", name, seconds)

    async def succeeded(self) -> None:
        """Forget the wrong passwords for the account, but not those of the source; raises StoreError."""
        await self._store.forgive(self._account, self._spelling)
