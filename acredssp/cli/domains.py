r"""Which names are one domain, and which account a name means.

An account is written in several ways: `CONTOSO\alice`, `alice@contoso.com`, a Kerberos ticket of `CONTOSO.COM`. Here,
and nowhere else in the command line, such a name becomes an `Account`: for the users file, for logons by either
mechanism, and for `--refuse`. A suffix or a realm is a domain's only where the two are equal, or where somebody has
said so: anybody may run a domain called `contoso.evil.example`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from acredssp.credentials import Account
from acredssp.names import split_logon_name, upper

__all__ = ["Domains"]


class Domains:
    """What is known of the domains.

    Args:
        domain_of: The domain of each suffix or realm that has another name than its domain.
    """

    def __init__(self, domain_of: Mapping[str, str] = MappingProxyType({})) -> None:
        self._domain_of = {upper(suffix): domain for suffix, domain in domain_of.items()}

    def account(self, user: str, domain: str = "") -> Account:
        r"""Return the account that a name means.

        Args:
            user: `USER`; without a domain also `DOMAIN\USER` or `USER@SUFFIX`.
            domain: The domain, or the realm of a ticket; empty for none.
        """
        if not domain:
            user, domain = split_logon_name(user)
        return Account(user, self._domain_of.get(upper(domain), domain))
