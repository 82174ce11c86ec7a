"""Who is turned away at `serve` after a logon that was right."""

from collections.abc import Sequence

from acredssp.accounts import Accounts, Anybody, Domains
from acredssp.hooks import Admission
from acredssp.names import upper

__all__ = ["Refused"]


class Refused:
    r"""The accounts of `--refuse`: each is turned away, even after a logon with the right password or ticket.

    Args:
        names: `USER` refuses the user of that name in every domain; `DOMAIN\USER`, `USER@SUFFIX` or a Kerberos
            principal refuses the one account that the name means.
        accounts: The accounts that may log on.
    """

    def __init__(self, names: Sequence[str], accounts: Accounts | None = None) -> None:
        read = Domains().account
        self._users = {upper(name) for name in names if not read(name).domain}
        accounts = accounts or Anybody()
        named = [name for name in names if read(name).domain]
        self._accounts = {accounts.account(name) or read(name) for name in named}

    def admit(self, admission: Admission) -> bool:
        """Return whether the account that logged on may come in: the server's `admit`."""
        account = admission.principal.account
        return upper(account.user) not in self._users and account not in self._accounts
