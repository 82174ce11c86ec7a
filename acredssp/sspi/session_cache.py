"""TLS sessions to resume, under the five conditions of InitializeSecurityContext's page (R14, R15).

A session is used again only for the same target name, while it has not expired, in the same process, in the same logon
session, and under the same credentials handle. All but the second are the key; so a forked worker, whose process is
another one, starts empty.

Off unless `Policy.tls_resumption` turns it on. What is resumed is TLS alone: the logon itself, and the binding to the
server's certificate, which belongs to the session, are made anew each time.
"""

import dataclasses
import ssl
from typing import Final

__all__ = ["SessionCache", "SessionKey"]

_MOST_TARGETS: Final = 1024
"""Entries kept; the oldest goes first. A session has some KiB."""
_SINGLE_USE: Final = "TLSv1.3"
"""A ticket of TLS 1.3 should be used once (RFC 8446 C.4)."""


@dataclasses.dataclass(frozen=True, slots=True)
class SessionKey:
    """Whose session it is, and for whom."""

    target: str
    """The service principal name, without case."""
    credential: int
    """The serial number of what the credentials handle stands for."""
    logon_session: tuple[int, ...]
    process: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    session: ssl.SSLSession
    tls_version: str
    expiry: float


class SessionCache:
    """Sessions by key."""

    def __init__(self) -> None:
        self._entries: dict[SessionKey, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, key: SessionKey, session: ssl.SSLSession, tls_version: str) -> None:
        """Keep a session for the next connection; the last one counts."""
        if not session.has_ticket and not session.id:
            return
        lifetime = min(filter(None, (session.timeout, session.ticket_lifetime_hint)), default=0)
        self._entries.pop(key, None)
        self._entries[key] = _Entry(session, tls_version, session.time + lifetime)
        if len(self._entries) > _MOST_TARGETS:
            del self._entries[next(iter(self._entries))]

    def take(self, key: SessionKey, now: float) -> ssl.SSLSession | None:
        """Return a session that may be resumed at `now` (seconds since the epoch), None for none."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expiry <= now or entry.tls_version == _SINGLE_USE:
            del self._entries[key]
        return entry.session if entry.expiry > now else None

    def forget(self, credential: int) -> None:
        """Drop what belongs to a credentials handle that was freed."""
        for key in [key for key in self._entries if key.credential == credential]:
            del self._entries[key]
