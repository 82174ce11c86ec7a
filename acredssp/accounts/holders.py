"""Who may log on, as the hooks that answer when the engine asks about a logon.

A logon's account is decided once: the lookup decides it for NTLM, and `authorize` decides it for a Kerberos ticket.
Everything behind uses that account, however the client wrote its name.
"""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Protocol

from acredssp.accounts.domains import Domains
from acredssp.aio import WinbindOracle
from acredssp.aio.report import printable
from acredssp.credentials import Account, Deny, LookupAnswer, Oracle
from acredssp.hooks import CredentialRequest, Identity, Principal
from acredssp.names import upper

__all__ = ["Accounts", "Anybody", "TicketHolders", "WinbindUsers"]

_logger = logging.getLogger("acredssp.accounts")


class Accounts(Protocol):
    """The accounts that may log on.

    Attributes:
        domains: Which names are one domain.
    """

    domains: Domains

    def account(self, user: str, domain: str = "") -> Account | None:
        """Return the account that a name means, as `Domains.account` reads it; None if that account may not log on."""


class Anybody:
    """Every account may log on; whose tickets are accepted is decided elsewhere.

    Args:
        domains: Which names stand for the same domain.
    """

    def __init__(self, domains: Domains | None = None) -> None:
        self.domains = domains or Domains()

    def account(self, user: str, domain: str = "") -> Account:
        """Return the account that a name means."""
        return self.domains.account(user, domain)


class WinbindUsers(Anybody):
    """Every account that winbind knows may log on.

    Args:
        winbind: The oracle that checks a logon with winbind.
        domains: The names of the machine's domain.
    """

    def __init__(self, winbind: WinbindOracle, domains: Domains) -> None:
        super().__init__(domains)
        self._winbind = winbind

    def lookup(self, request: CredentialRequest) -> LookupAnswer:
        """Have winbind check the logon: the server's `lookup`."""
        account = self.account(request.principal.user, request.principal.domain)
        return Oracle(self._winbind.verify, account.user, account.domain)


@dataclasses.dataclass(frozen=True, slots=True)
class TicketHolders:
    """The users who may log on with a Kerberos ticket.

    Attributes:
        accounts: The accounts that may log on.
        realms: The realms whose tickets are accepted. A KDC also passes on tickets of every realm that it trusts.
        realms_option: What the operator calls the realms, for the log.
        users_option: What the operator calls the accounts, for the log.
    """

    accounts: Accounts
    realms: Sequence[str]
    realms_option: str = "realms"
    users_option: str = "users"

    def authorize(self, identity: Identity) -> bool | Account | Deny:
        """Return the account that a ticket is for, or refuse the ticket: the server's `authorize`."""
        if identity.mechanism != "kerberos":
            return True
        principal = identity.principal
        if upper(principal.domain) not in map(upper, self.realms):
            return self._refuse(principal, f"tickets of its realm are not accepted (see {self.realms_option})")
        account = self.accounts.account(principal.user, principal.domain)
        return account or self._refuse(principal, f"the users file has no such account (see {self.users_option})")

    def _refuse(self, principal: Principal, reason: str) -> Deny:
        """Refuse a ticket, and log whose it is and the reason for the operator: the client is not told the reason."""
        account = self.accounts.domains.account(principal.user, principal.domain)
        who = str(principal) if str(account) == str(principal) else f"{principal}, account {account},"
        _logger.info("the ticket of %s is refused: %s", printable(who), reason)
        return Deny(account=account)
