r"""Who comes in: what `serve` answers when the engine asks about a logon.

The account is decided once: by the lookup where the logon is by NTLM, by `authorize` where it is by a ticket. What
comes afterwards, `--refuse` and the report, speaks of that account, however the client wrote its name.
"""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Protocol

from acredssp.aio import WinbindOracle
from acredssp.aio.report import printable
from acredssp.cli.domains import Domains
from acredssp.credentials import Account, Deny, LookupAnswer, Oracle
from acredssp.hooks import Admission, CredentialRequest, Identity, Principal
from acredssp.names import upper

__all__ = ["Accounts", "Anybody", "Refused", "TicketHolders", "WinbindUsers"]

_logger = logging.getLogger("acredssp.serve")


class Accounts(Protocol):
    """Who may log on at all."""

    def account(self, user: str, domain: str = "") -> Account | None:
        """Return the account that a name means, as `Domains.account` reads it; None where it may not log on."""


class Anybody:
    """Everybody who has a ticket of a realm that is taken.

    Args:
        domains: Which names are one domain.
    """

    def __init__(self, domains: Domains | None = None) -> None:
        self._domains = domains or Domains()

    def account(self, user: str, domain: str = "") -> Account:
        """Return the account that a name means."""
        return self._domains.account(user, domain)


class WinbindUsers(Anybody):
    """Everybody whom winbind knows.

    Args:
        winbind: The oracle.
        domains: The names of the machine's domain.
    """

    def __init__(self, winbind: WinbindOracle, domains: Domains) -> None:
        super().__init__(domains)
        self._winbind = winbind

    def lookup(self, request: CredentialRequest) -> LookupAnswer:
        """Answer with winbind, and with the account that it is asked about."""
        account = self.account(request.principal.user, request.principal.domain)
        return Oracle(self._winbind.verify, account.user, account.domain)


@dataclasses.dataclass(frozen=True, slots=True)
class TicketHolders:
    """Who logs on by a Kerberos ticket."""

    accounts: Accounts
    realms: Sequence[str]
    """Whose tickets are taken. A KDC hands on the tickets of every realm that it trusts."""

    def authorize(self, identity: Identity) -> bool | Account | Deny:
        """Say whose account a ticket is for: the server's `authorize`."""
        if identity.mechanism != "kerberos":
            return True
        principal = identity.principal
        if upper(principal.domain) not in map(upper, self.realms):
            return _refuse(principal, "tickets of its realm are not taken (--allow-realm)")
        account = self.accounts.account(principal.user, principal.domain)
        return account or _refuse(principal, "the users file has no such account (--users)")


def _refuse(principal: Principal, reason: str) -> Deny:
    """Refuse a ticket, and tell the operator why: the client is not told so much."""
    _logger.info("the ticket of %s is refused: %s", printable(str(principal)), reason)
    return Deny()


class Refused:
    r"""Accounts that log on with the right password or ticket and are turned away all the same.

    Args:
        names: `USER` for one of any domain; `DOMAIN\USER`, `USER@SUFFIX` or a Kerberos principal for the account that
            this is.
        accounts: Who may log on.
    """

    def __init__(self, names: Sequence[str], accounts: Accounts | None = None) -> None:
        read = Domains().account
        self._users = {upper(name) for name in names if not read(name).domain}
        accounts = accounts or Anybody()
        named = [name for name in names if read(name).domain]
        self._accounts = {accounts.account(name) or read(name) for name in named}

    def admit(self, admission: Admission) -> bool:
        """Whether who logged on may come in: the server's `admit`."""
        account = admission.principal.account
        return upper(account.user) not in self._users and account not in self._accounts
