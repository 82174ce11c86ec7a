"""The users of `acredssp serve`: a file with one `DOMAIN:USER:SECRET` a line, as a lookup.

    CONTOSO:alice:her password, which may have : in it
    :bob:logs on with any domain, or none
    CONTOSO:carol:$NT$ and the 32 hex digits of an NT hash
    CONTOSO:dave:
    CONTOSO:*:
    CONTOSO=contoso.com
    # blank lines and lines like this one are skipped

The file is in UTF-8. An empty SECRET lets the user log on by Kerberos ticket alone, and `*` stands for every user of
that domain who has a ticket. `CONTOSO=contoso.com` says that the suffix or realm `contoso.com` is CONTOSO; without that
line, a suffix belongs to a domain only where both are equal. User and domain compare as Windows compares names, without
case. An entry for the user's own domain wins over one for any domain.

An error names the line and what is wrong with it, and never quotes the line.
"""

import dataclasses
import os
import pathlib
from typing import Final

from acredssp.cli.arguments import nt_hash
from acredssp.cli.domains import Domains
from acredssp.cli.outcome import UsageError, unreadable
from acredssp.credentials import Account, AccountSecret, Deny, LookupAnswer, NTHash, Password
from acredssp.hooks import CredentialRequest
from acredssp.names import upper

__all__ = ["Users"]

_NT_HASH: Final = "$NT$"
_EVERYBODY: Final = "*"
"""No account of Windows may have it in its name."""
_UNKNOWN: Final = Deny(secret=NTHash(os.urandom(16)))
"""With a secret in the stead of that of an account: every entry has one."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Line:
    """An entry as it is written."""

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
    """Its domain is empty for any domain and for none."""
    secret: AccountSecret | None
    """None for a logon by ticket alone."""


class Users:
    """The accounts of a file.

    Args:
        domains: What the file says of domains.
        entries: One for each account.
        everybody: One for each domain whose users all log on by ticket.
    """

    def __init__(self, domains: Domains, entries: list[_Entry], everybody: list[_Entry]) -> None:
        self._domains = domains
        # By plain tuples, which take no longer to be found than not to be.
        self._entries = {entry.account.key: entry for entry in entries}
        self._everybody_of = {upper(entry.account.domain) for entry in everybody}
        tickets = [entry.number for entry in (*entries, *everybody) if entry.secret is None]
        self.by_ticket_alone: Final = min(tickets, default=None)
        """The first line that is for logons by Kerberos alone; None where there is none."""

    def __len__(self) -> int:
        return len(self._entries)

    @classmethod
    def from_file(cls, path: pathlib.Path) -> "Users":
        """Read a file.

        Raises:
            UsageError: It cannot be read, or a line is wrong.
        """
        try:
            return cls.parse(path.read_bytes())
        except OSError as error:
            raise unreadable("--users", path, error) from None
        except UsageError as error:
            raise UsageError(f"--users {path}: {error}") from None

    @classmethod
    def parse(cls, text: bytes) -> "Users":
        """Read the content of a file; raises as `from_file` does."""
        lines = [line for number, raw in enumerate(_split(text), start=1) if (line := _read(number, raw)) is not None]
        domains = _domains([line for line in lines if isinstance(line, _Suffix)])
        entries: dict[Account, _Entry] = {}
        for line in lines:
            if isinstance(line, _Line):
                entry = _entry(line, domains)
                if (other := entries.setdefault(entry.account, entry)) is not entry:
                    raise UsageError(f"line {line.number}: the same account as in line {other.number}")
        everybody = [entry for entry in entries.values() if entry.account.user == _EVERYBODY]
        users = [entry for entry in entries.values() if entry.account.user != _EVERYBODY]
        return cls(domains, users, everybody)

    def knows(self, name: str) -> bool:
        r"""Whether a name means an account of this file: `USER` of any domain, `DOMAIN\USER` or `USER@SUFFIX`."""
        if Domains().account(name).domain:
            return self.account(name) is not None
        return bool(self._everybody_of) or upper(name) in {user for _, user in self._entries}

    def lookup(self, request: CredentialRequest) -> LookupAnswer:
        """Answer with the secret of the account that logs on, and its name; or with Deny."""
        entry = self._find(self._domains.account(request.principal.user, request.principal.domain))
        return _UNKNOWN if entry is None or entry.secret is None else entry.secret

    def account(self, user: str, domain: str = "") -> Account | None:
        """Return the account of this file that a name means; None where there is none.

        Args:
            user: As for `Domains.account`.
            domain: The same.
        """
        account = self._domains.account(user, domain)
        if (entry := self._find(account)) is not None:
            return entry.account
        return account if upper(account.domain) in self._everybody_of else None

    def _find(self, account: Account) -> _Entry | None:
        domain, user = account.key
        # Both are looked for, whichever there is, so that it always takes the same time.
        exact, of_any_domain = self._entries.get((domain, user)), self._entries.get(("", user))
        return exact or of_any_domain


def _split(text: bytes) -> list[bytes]:
    # As bytes and at line feeds alone: a password may hold what Unicode takes for a line's end.
    return text.removeprefix(b"\xef\xbb\xbf").split(b"\n")


def _read(number: int, raw: bytes) -> _Line | _Suffix | None:
    """Read one line; None where nothing is in it."""
    try:
        line = raw.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise UsageError(f"line {number}: expected utf-8") from None
    if not line.strip() or line.startswith("#"):
        return None
    fields = line.split(":", 2)
    if len(fields) == 3:
        return _Line(number, *fields)
    domain, equals, suffix = (part.strip() for part in line.partition("="))
    if len(fields) == 1 and equals and domain and suffix:
        return _Suffix(number, domain, suffix)
    raise UsageError(
        f"line {number}: expected DOMAIN:USER:SECRET, got {len(fields) - 1} of the two colons (or DOMAIN=SUFFIX)"
    )


def _domains(lines: list[_Suffix]) -> Domains:
    """Take the lines about suffixes together."""
    suffixes: dict[str, _Suffix] = {}
    for line in lines:
        if (other := suffixes.setdefault(upper(line.suffix), line)) is not line:
            raise UsageError(f"line {line.number}: the same suffix as in line {other.number}")
    for line in lines:
        if (same := suffixes.get(upper(line.domain))) is not None:
            raise UsageError(f"line {line.number}: expected a domain, got the suffix of line {same.number}")
    return Domains({line.suffix: line.domain for line in lines})


def _entry(line: _Line, domains: Domains) -> _Entry:
    account = domains.account(line.user, line.domain)
    try:
        return _Entry(line.number, account, _secret(line.secret, account))
    except UsageError as error:
        raise UsageError(f"line {line.number}: {error}") from None


def _secret(text: str, account: Account) -> AccountSecret | None:
    if not account.user:
        raise UsageError("expected DOMAIN:USER:SECRET, got an empty USER")
    if "\\" in account.user:
        raise UsageError("expected a USER without a backslash beside the DOMAIN")
    if account.user == _EVERYBODY and (text or not account.domain):
        raise UsageError("expected DOMAIN:*: for everybody of a domain, with no secret")
    if not text:
        return None
    if text.startswith(_NT_HASH):
        return NTHash(nt_hash(text.removeprefix(_NT_HASH)), account.user, account.domain)
    return Password(text, account.user, account.domain)
