r"""Wrong passwords: a source that sends too many gets no more tries for a while, and for longer each time.

Wrong passwords are counted for each source and account together, so a stranger who guesses an account's password
elsewhere does not lock out its owner. A source may also try one password on many accounts: after ten times as many
wrong passwords for all accounts together, it gets no connection for a while. A try that was refused without a look at
its password counts for that as well.

The account is the user's name alone, without domain and without case: the spellings of one account share their tries,
also those that have a domain in the user's name, `DOMAIN\USER` and `USER@SUFFIX`.

A right password clears the count of earlier wrong ones only if all of them were sent for the name in the same spelling:
`bob` of another domain is another user. It does not clear the source's count for all accounts, and ends no wait.

The entries of sources and of accounts are bounded in number, in two separate tables, so an attacker who tries many
names pushes out no source. The entry that has been quiet for the longest time makes room; an entry with a running wait
makes room only if there is no other. The count of an account's entry is not lost with it: its source is taken to have
failed as often at every account that has no entry (`_Entry.least`). So no source can clear its own failures, and
several sources cannot clear them for one another.

Who calls: `server`, with each refused logon, and before each logon is tried.
"""

import asyncio
import collections
import dataclasses
from collections.abc import Callable
from typing import Final, TypeAlias

from acredssp.aio.report import HandshakeOutcome, HandshakeReport, printable
from acredssp.arguments import expect, expect_count
from acredssp.errors import AuthenticationError
from acredssp.logs import get_logger
from acredssp.mechanisms.base import Principal
from acredssp.names import split_logon_name, upper, user_alone
from acredssp.status import NTSTATUS

__all__ = ["FailureLimit", "Failures"]

_logger = get_logger("acredssp")

_NTLM: Final = "ntlm"
_ALL_ACCOUNTS: Final = ""
_PER_SOURCE: Final = 10
"""A source may fail this many times as often as one of its accounts: people behind one address mistype, too."""

_LONGEST: Final = 24 * 3600.0
"""The longest wait of a source, in seconds."""

_MOST_SOURCES: Final = 10_000
_MOST_ACCOUNTS: Final = 10_000
"""The most entries of each kind. With the longest names, all of them together take 35 MiB."""

_LONGEST_NAME: Final = 256
"""The characters of a user's name that count. No account of Windows has so many."""


@dataclasses.dataclass(frozen=True, slots=True)
class FailureLimit:
    """How many wrong passwords a source may send for an account; see `create_server(max_failures=...)`.

    Attributes:
        count: How many wrong passwords are too many.
        seconds: The seconds within which wrong passwords are counted. A source that sent too many has to wait as
            long, and twice as long each further time, up to a day.
    """

    count: int = 10
    seconds: float = 600.0

    def __post_init__(self) -> None:
        expect_count("count", self.count)
        expect("seconds", self.seconds, float, int)
        if not 0 < self.seconds <= _LONGEST:
            raise ValueError(f"seconds: expected seconds above 0 and at most {_LONGEST:,.0f}, got {self.seconds:g}")


@dataclasses.dataclass(slots=True)
class _Entry:
    failures: int
    """The failures within the current window."""
    since: float
    """When the current window began."""
    until: float = 0.0
    """When the wait ends and tries are accepted again."""
    wait: float = 0.0
    """The length of the last wait, in seconds."""
    waiting: bool = False
    timer: asyncio.TimerHandle | None = None
    """Ends the wait."""
    spelling: tuple[str, str] | None = None
    """The spelling of the name in all of the failures; None if they differ."""
    taken_over: bool = False
    """Whether some of the failures may belong to other accounts: the entry began with its source's `least`."""
    least: int = 0
    """For a source's entry: how many failures an account without an entry may have had before its entry made room. When
    this reaches the limit, every account without an entry is refused to that source."""
    least_until: float = 0.0
    """When `least` ends to count."""


_Key: TypeAlias = tuple[str, str]
"""A source and an account."""


class _Entries:
    """A bounded number of entries by their keys.

    Args:
        most: The most entries.
    """

    __slots__ = ("_most", "_not_waiting", "_waiting")

    def __init__(self, most: int) -> None:
        self._most = most
        self._not_waiting: collections.OrderedDict[_Key, _Entry] = collections.OrderedDict()
        """The entry that has been quiet for the longest time comes first."""
        self._waiting: collections.OrderedDict[_Key, _Entry] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._not_waiting) + len(self._waiting)

    def get(self, key: _Key) -> _Entry | None:
        return self._not_waiting.get(key) or self._waiting.get(key)

    def remove(self, key: _Key) -> None:
        self._not_waiting.pop(key, None)
        self._waiting.pop(key, None)

    def put(self, key: _Key, entry: _Entry) -> tuple[_Key, _Entry] | None:
        """Keep an entry as the most recent one; return the entry that had to make room for it, if there is one."""
        self.remove(key)
        removed = None
        if len(self) >= self._most:
            removed = (self._not_waiting or self._waiting).popitem(last=False)
        (self._waiting if entry.waiting else self._not_waiting)[key] = entry
        return removed


class Failures:
    """The wrong passwords of one server.

    Args:
        limit: How many wrong passwords are too many.
        clock: Gives the time in seconds.
        call_at: Calls a function at a time of that clock. It may also never call it: then only the log line comes late.
    """

    def __init__(
        self,
        limit: FailureLimit,
        clock: Callable[[], float],
        call_at: Callable[[float, Callable[[], object]], asyncio.TimerHandle | None],
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._call_at = call_at
        self._accounts = _Entries(_MOST_ACCOUNTS)
        self._sources = _Entries(_MOST_SOURCES)
        """The entries of sources, whose account is `_ALL_ACCOUNTS`."""

    def __len__(self) -> int:
        return len(self._accounts) + len(self._sources)

    def refuses(self, source: str, principal: Principal | None = None) -> bool:
        """Whether a source has to wait before it tries an account again; None for any account.

        A source that has to wait for all accounts has to wait for each.
        """
        return self._has_to_wait((source, _ALL_ACCOUNTS)) or (
            principal is not None and self._has_to_wait((source, _account(principal)))
        )

    def _has_to_wait(self, key: _Key) -> bool:
        entry = self._entry(key)
        if entry is None:
            return key[1] != _ALL_ACCOUNTS and self._least(key[0]) >= self._limit.count
        if not entry.waiting:
            return False
        if self._clock() < entry.until:
            return True
        self._waited(key, entry)
        return False

    def note(self, source: str, report: HandshakeReport) -> None:
        """Note how a handshake ended, if it was a try with a password."""
        if report.principal is None:
            return
        if report.outcome is HandshakeOutcome.SUCCESS:
            if report.info is not None and report.info.mechanism == _NTLM:
                self.succeeded(source, report.principal)
        elif _was_a_wrong_password(report):
            self.failed(source, report.principal)

    def failed(self, source: str, principal: Principal) -> None:
        """Note a wrong password, or a try that was refused without a look at its password."""
        key = (source, _account(principal))
        if not self._has_to_wait(key):
            self._count(key, self._limit.count, _spelling(principal))
        if not self._has_to_wait((source, _ALL_ACCOUNTS)):
            self._count((source, _ALL_ACCOUNTS), self._limit.count * _PER_SOURCE)

    def succeeded(self, source: str, principal: Principal) -> None:
        """Forget what a source has failed at for an account before it sent the right password."""
        entry = self._accounts.get((source, _account(principal)))
        if entry is not None and entry.spelling is not None and entry.spelling == _forgiving(principal):
            entry.failures = 0

    def _entry(self, key: _Key) -> _Entry | None:
        return self._entries(key).get(key)

    def _entries(self, key: _Key) -> _Entries:
        return self._sources if key[1] == _ALL_ACCOUNTS else self._accounts

    def _least(self, source: str) -> int:
        total = self._sources.get((source, _ALL_ACCOUNTS))
        return total.least if total is not None and self._clock() < total.least_until else 0

    def _new_entry(self, key: _Key, now: float) -> _Entry:
        least = 0 if key[1] == _ALL_ACCOUNTS else self._least(key[0])
        return _Entry(least, now, taken_over=least > 0)

    def _count(self, key: _Key, most: int, spelling: tuple[str, str] | None = None) -> None:
        now, window = self._clock(), self._limit.seconds
        entry = self._entry(key) or self._new_entry(key, now)
        if now >= entry.until + max(window, entry.wait):
            entry.wait = 0.0  # it has been quiet for long enough
        if now >= entry.since + window:
            entry.failures, entry.since, entry.taken_over = 0, now, False
        entry.spelling = spelling if not entry.failures or spelling == entry.spelling else None
        entry.failures += 1
        if entry.failures >= most and entry.taken_over:
            self._entries(key).remove(key)
            self._make_up_for(key, entry)
            return
        if entry.failures >= most:
            self._begin_wait(key, entry, now)
        self._keep(key, entry)

    def _keep(self, key: _Key, entry: _Entry) -> None:
        removed = self._entries(key).put(key, entry)
        if removed is not None:
            self._make_up_for(*removed)

    def _make_up_for(self, key: _Key, entry: _Entry) -> None:
        """Add what a removed entry had counted to its source's entry."""
        now, window = self._clock(), self._limit.seconds
        failures = self._limit.count if entry.waiting else entry.failures if now < entry.since + window else 0
        self._end_wait(key, entry)
        total = self._sources.get((key[0], _ALL_ACCOUNTS))
        if total is not None and failures:
            total.least, total.least_until = max(failures, self._least(key[0])), now + window

    def _begin_wait(self, key: _Key, entry: _Entry, now: float) -> None:
        entry.wait = min(entry.wait * 2 or self._limit.seconds, _LONGEST)
        entry.failures, entry.since = 0, now
        entry.until, entry.waiting = now + entry.wait, True
        _logger.warning("too many wrong passwords from %s: no more tries for %g seconds", _who(key), entry.wait)
        entry.timer = self._call_at(entry.until, lambda: self._waited(key, entry))

    def _waited(self, key: _Key, entry: _Entry) -> None:
        self._end_wait(key, entry)
        self._keep(key, entry)

    @staticmethod
    def _end_wait(key: _Key, entry: _Entry) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        if entry.waiting:
            entry.waiting = False
            _logger.warning("wrong passwords from %s: tries are taken again", _who(key))


def _was_a_wrong_password(report: HandshakeReport) -> bool:
    """Whether the peer was told the same as for a wrong password, whatever the reason was.

    If a lookup raises for unknown users, these refusals count, too. Otherwise a stranger could learn which users exist:
    he would have to wait for those alone.
    """
    return type(report.error) is AuthenticationError and report.error.nt_status is NTSTATUS.STATUS_LOGON_FAILURE


def _account(principal: Principal | None) -> str:
    """Return the key of an account; for None, the key of all accounts."""
    if principal is None:
        return _ALL_ACCOUNTS
    return upper(user_alone(principal.user)[:_LONGEST_NAME]) or "@"


def _spelling(principal: Principal) -> tuple[str, str] | None:
    """Return a name as it is spelled, without regard to case; None if it is too long to be kept."""
    if len(principal.user) + len(principal.domain) > _LONGEST_NAME:
        return None
    return upper(principal.domain), upper(principal.user)


def _forgiving(principal: Principal) -> tuple[str, str] | None:
    """Return the spelling whose failures a success clears; None if it clears none.

    For a name without a domain, a lookup may try the accounts of several domains, and names in its answer the account
    that the password fits. The earlier failures may then belong to another account, and stay counted.
    """
    domain = principal.domain or split_logon_name(principal.user)[1]
    return _spelling(principal) if domain or principal.known_as is None else None


def _who(key: _Key) -> str:
    source, account = key
    return f"{source} for {printable(account)}" if account else source
