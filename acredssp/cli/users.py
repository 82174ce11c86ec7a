"""The users of `acredssp serve`: a file with one `DOMAIN:USER:SECRET` a line, as a lookup.

    CONTOSO:alice:her password, which may have : in it
    :bob:logs on with any domain, or none
    CONTOSO:carol:$NT$ and the 32 hex digits of an NT hash
    # blank lines and lines like this one are skipped

UTF-8. User and domain compare without case. A logon as `user@suffix` without a domain is `user` of the domain
`suffix`, or of its first label, or an entry that has `user@suffix` for its user.

An error names the line and what is wrong with it, and never quotes it.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Final

from acredssp.cli.arguments import nt_hash
from acredssp.cli.outcome import UsageError, unreadable
from acredssp.credentials import AccountSecret, Candidates, Deny, LookupAnswer, NTHash, Password
from acredssp.hooks import CredentialRequest

__all__ = ["Users"]

_NT_HASH: Final = "$NT$"


@dataclasses.dataclass(frozen=True, slots=True)
class _Account:
    domain: str
    """In lower case; empty for any domain and for none."""
    user: str
    """In lower case."""
    secret: AccountSecret


class Users:
    """The accounts of a file.

    Args:
        accounts: In the order of the file; each lookup answers in that order.
    """

    def __init__(self, accounts: list[_Account]) -> None:
        self._by_user: dict[str, list[_Account]] = {}
        for account in accounts:
            self._by_user.setdefault(account.user, []).append(account)
        self._count = len(accounts)

    def __len__(self) -> int:
        return self._count

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
        accounts = []
        # Split as bytes and at line feeds alone: a password may hold what Unicode takes for a line's end.
        for number, raw in enumerate(text.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
            try:
                line = raw.removesuffix(b"\r").decode()
                if line.strip() and not line.startswith("#"):
                    accounts.append(_account(line))
            except UnicodeDecodeError:
                raise UsageError(f"line {number}: expected utf-8") from None
            except UsageError as error:
                raise UsageError(f"line {number}: {error}") from None
        return cls(accounts)

    def lookup(self, request: CredentialRequest) -> LookupAnswer:
        """Answer with the secret of the account that logs on, with several where several entries fit, or with Deny."""
        principal = request.principal
        secrets = [account.secret for account in self._matching(principal.user.casefold(), principal.domain.casefold())]
        match secrets:
            case []:
                return Deny()
            case [secret]:
                return secret
            case _:
                return Candidates(secrets)

    def _matching(self, user: str, domain: str) -> Iterator[_Account]:
        yield from self._of(user, {domain, ""})
        name, at, suffix = user.rpartition("@")
        if at and not domain:
            yield from self._of(name, {suffix, suffix.partition(".")[0], ""})

    def _of(self, user: str, domains: set[str]) -> Iterator[_Account]:
        return (account for account in self._by_user.get(user, ()) if account.domain in domains)


def _account(line: str) -> _Account:
    fields = line.split(":", 2)
    if len(fields) < 3:
        raise UsageError(f"expected DOMAIN:USER:SECRET, got {len(fields) - 1} of the two colons")
    domain, user, secret = fields
    if not user:
        raise UsageError("expected DOMAIN:USER:SECRET, got an empty USER")
    if not secret:
        raise UsageError("expected DOMAIN:USER:SECRET, got an empty SECRET")
    return _Account(domain.casefold(), user.casefold(), _secret(secret))


def _secret(text: str) -> AccountSecret:
    if text.startswith(_NT_HASH):
        return NTHash(nt_hash(text.removeprefix(_NT_HASH)))
    return Password(text)
