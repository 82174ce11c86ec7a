r"""Which names stand for the same domain, and which account a name means.

An account is written in several ways: `CONTOSO\alice`, `alice@contoso.com`, a Kerberos ticket of `CONTOSO.COM`. This
module alone turns such a name into an `Account`: for the users file, for logons by either mechanism, and for those who
are turned away. A suffix or a realm belongs to a domain only if both names are equal, or if the users file or winbind
says so: anybody may run a domain called `contoso.evil.example`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from acredssp.credentials import Account
from acredssp.names import split_logon_name, upper

__all__ = ["AccountNames", "Domains"]


class Domains:
    """The names by which each domain is known.

    Args:
        domain_of: Maps a suffix or a realm to its domain, where the two names differ.
    """

    def __init__(self, domain_of: Mapping[str, str] = MappingProxyType({})) -> None:
        self._domain_of = {upper(suffix): domain for suffix, domain in domain_of.items()}

    def account(self, user: str, domain: str = "") -> Account:
        r"""Return the account that a name means.

        Args:
            user: `USER`; without `domain`, also `DOMAIN\USER` or `USER@SUFFIX`.
            domain: The domain, or the realm of a ticket; empty if none is given apart.
        """
        if not domain:
            user, domain = split_logon_name(user)
        return Account(user, self._domain_of.get(upper(domain), domain))

    def spellings(self, account: Account) -> list[Account]:
        """Return an account with each name of its domain: its own, and the suffixes and realms that map to it."""
        domain = upper(account.domain)
        suffixes = [suffix for suffix, mapped in self._domain_of.items() if domain and upper(mapped) == domain]
        return [account, *(Account(account.user, suffix) for suffix in suffixes)]


class AccountNames:
    r"""A set of accounts as people write them: `USER` of any domain, `DOMAIN\USER` or `USER@SUFFIX`.

    Args:
        names: The accounts.
        domains: Which suffixes are which domains, where the accounts log on.
    """

    def __init__(self, names: Sequence[str], domains: Domains) -> None:
        accounts = [domains.account(name) for name in names]
        self._exact = {account for account in accounts if account.domain}
        self._anywhere = {account for account in accounts if not account.domain}

    def __contains__(self, account: Account) -> bool:
        return account in self._exact or Account(account.user) in self._anywhere
