"""The users file, with one `DOMAIN:USER:SECRET` on each line, as a server's lookup.

    CONTOSO:alice:her password, which may have : in it
    :bob:he may log on with any domain, or with none
    CONTOSO:carol:$NT$ and the 32 hex digits of an NT hash
    CONTOSO:dave:
    CONTOSO:*:
    CONTOSO=contoso.com
    # blank lines and lines like this one are skipped

The file is in UTF-8. An empty SECRET lets the user log on with a Kerberos ticket only, and `*` stands for every user of
that domain who has a ticket. `CONTOSO=contoso.com` says that the suffix or realm `contoso.com` belongs to CONTOSO.
Without such a line, a suffix belongs to a domain only if both names are equal. Users and domains are compared without
case, as Windows compares names. An entry for the user's own domain wins over an entry for any domain.

An error gives the number of a line and says what is wrong with the line. It never quotes the line.
"""

import dataclasses
import os
import pathlib
import re
from typing import Final

from acredssp.accounts.domains import Domains
from acredssp.credentials import Account, AccountSecret, Deny, LookupAnswer, NTHash, Password
from acredssp.hooks import CredentialRequest
from acredssp.names import upper

__all__ = ["Users"]

_NT_HASH: Final = "$NT$"
_HEX_DIGITS: Final = re.compile("[0-9A-Fa-f]{32}")
_EVERYBODY: Final = "*"
"""The USER that stands for everybody. No account of Windows may have an asterisk in its name."""
_UNKNOWN: Final = Deny(secret=NTHash(os.urandom(16)))
"""The answer for an unknown account. With its random secret, the refusal takes as long as that of a wrong password."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Line:
    """A line with an entry, split into its fields."""

    number: int
    domain: str
    user: str
    secret: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class _Suffix:
    """A line that says which domain a suffix belongs to."""

    number: int
    domain: str
    suffix: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    number: int
    account: Account
    """The account; its domain is empty if the user may log on with any domain, or with none."""
    secret: AccountSecret | None
    """The secret; None if the user logs on with a Kerberos ticket only."""


class Users:
    """The accounts of a users file.

    Args:
        domains: The domains of the file's suffixes.
        entries: One entry for each account.
        everybody: One entry for each domain whose users all may log on with a ticket.

    Attributes:
        domains: The domains of the file's suffixes.
        by_ticket_alone: The number of the first line that is for logons by ticket only; None if there is no such line.
    """

    def __init__(self, domains: Domains, entries: list[_Entry], everybody: list[_Entry]) -> None:
        self.domains = domains
        # The keys are plain tuples: looking one up takes equally long whether it is there or not.
        self._entries = {entry.account.key: entry for entry in entries}
        self._everybody_of = {upper(entry.account.domain) for entry in everybody}
        tickets = [entry.number for entry in (*entries, *everybody) if entry.secret is None]
        self.by_ticket_alone: Final = min(tickets, default=None)

    def __len__(self) -> int:
        return len(self._entries)

    @classmethod
    def from_file(cls, path: pathlib.Path) -> "Users":
        """Read a users file.

        Raises:
            OSError: The file cannot be read.
            ValueError: A line of it is wrong. The text begins with the path and the line's number.
        """
        users, wrong = cls._read(path.read_bytes())
        if users is None:
            raise ValueError(f"{path}: {wrong}")
        return users

    @classmethod
    def parse(cls, text: bytes) -> "Users":
        """Read the content of a users file.

        Raises:
            ValueError: A line is wrong.
        """
        users, wrong = cls._read(text)
        if users is None:
            del text  # a traceback may be shown with its variables
            raise ValueError(wrong)
        return users

    @classmethod
    def _read(cls, text: bytes) -> "tuple[Users | None, str]":
        """Return the users and an empty text, or None and a text that says what is wrong.

        A wrong line raises no error out of this method, since the traceback of that error would hold the secrets.
        """
        try:
            return cls._of_lines(text), ""
        except ValueError as error:
            return None, str(error)

    @classmethod
    def _of_lines(cls, text: bytes) -> "Users":
        lines = [line for number, raw in enumerate(_split(text), start=1) if (line := _read(number, raw)) is not None]
        domains = _domains([line for line in lines if isinstance(line, _Suffix)])
        entries: dict[Account, _Entry] = {}
        for line in lines:
            if isinstance(line, _Line):
                entry = _entry(line, domains)
                if (other := entries.setdefault(entry.account, entry)) is not entry:
                    raise ValueError(f"line {line.number}: the same account as in line {other.number}")
        everybody = [entry for entry in entries.values() if entry.account.user == _EVERYBODY]
        users = [entry for entry in entries.values() if entry.account.user != _EVERYBODY]
        return cls(domains, users, everybody)

    def knows(self, name: str) -> bool:
        r"""Return whether a name means an account of this file.

        Args:
            name: `USER` for a user of any domain, `DOMAIN\USER` or `USER@SUFFIX`.
        """
        if Domains().account(name).domain:
            return self.account(name) is not None
        return bool(self._everybody_of) or upper(name) in {user for _, user in self._entries}

    def lookup(self, request: CredentialRequest) -> LookupAnswer:
        """Return the secret and the name of the account that logs on, or `Deny` if the file has no such account."""
        entry = self._find(self.domains.account(request.principal.user, request.principal.domain))
        return _UNKNOWN if entry is None or entry.secret is None else entry.secret

    def account(self, user: str, domain: str = "") -> Account | None:
        """Return the account of this file that a name means; None if the file has no such account.

        Args:
            user: The user, as `Domains.account` takes it.
            domain: The domain, as `Domains.account` takes it.
        """
        account = self.domains.account(user, domain)
        if (entry := self._find(account)) is not None:
            return entry.account
        return account if upper(account.domain) in self._everybody_of else None

    def _find(self, account: Account) -> _Entry | None:
        domain, user = account.key
        # Both are always looked up, so that the time does not tell which of them exists.
        exact, of_any_domain = self._entries.get((domain, user)), self._entries.get(("", user))
        return exact or of_any_domain


def _split(text: bytes) -> list[bytes]:
    # The bytes are split at line feeds only: a password may hold characters that Unicode takes for the end of a line.
    return text.removeprefix(b"\xef\xbb\xbf").split(b"\n")


def _read(number: int, raw: bytes) -> _Line | _Suffix | None:
    """Read one line; return None if it is blank or a comment."""
    try:
        line = raw.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise ValueError(f"line {number}: expected utf-8, got other bytes") from None
    if not line.strip() or line.startswith("#"):
        return None
    fields = line.split(":", 2)
    if len(fields) == 3:
        return _Line(number, *fields)
    domain, equals, suffix = (part.strip() for part in line.partition("="))
    if len(fields) == 1 and equals and domain and suffix:
        return _Suffix(number, domain, suffix)
    raise ValueError(
        f"line {number}: expected DOMAIN:USER:SECRET or DOMAIN=SUFFIX, got {len(fields) - 1} of the two colons"
    )


def _domains(lines: list[_Suffix]) -> Domains:
    """Return the domains that the lines about suffixes describe."""
    suffixes: dict[str, _Suffix] = {}
    for line in lines:
        if (other := suffixes.setdefault(upper(line.suffix), line)) is not line:
            raise ValueError(f"line {line.number}: the same suffix as in line {other.number}")
    for line in lines:
        if (same := suffixes.get(upper(line.domain))) is not None:
            raise ValueError(f"line {line.number}: expected a domain, got the suffix of line {same.number}")
    return Domains({line.suffix: line.domain for line in lines})


def _entry(line: _Line, domains: Domains) -> _Entry:
    account = domains.account(line.user, line.domain)
    try:
        return _Entry(line.number, account, _secret(line.secret, account))
    except ValueError as error:
        raise ValueError(f"line {line.number}: {error}") from None


def _secret(text: str, account: Account) -> AccountSecret | None:
    if not account.user:
        raise ValueError("expected DOMAIN:USER:SECRET, got an empty USER")
    if "\\" in account.user:
        raise ValueError("expected a USER without a backslash, since DOMAIN has a field of its own")
    if account.user == _EVERYBODY and (text or not account.domain):
        raise ValueError("expected DOMAIN:*: for every user of a domain, with a DOMAIN and no secret")
    if not text:
        return None
    if text.startswith(_NT_HASH):
        return NTHash(_nt_hash(text.removeprefix(_NT_HASH)), account.user, account.domain)
    return Password(text, account.user, account.domain)


def _nt_hash(text: str) -> bytes:
    if not _HEX_DIGITS.fullmatch(text):
        raise ValueError("expected an nt hash of 32 hex digits")
    return bytes.fromhex(text)
