"""TLS sessions to resume, under the five conditions of InitializeSecurityContext's page (R14, R15).

A session is used again only for the same target name, while it has not expired, in the same process, in the same logon
session, and under the same credentials handle. All but the second are the key; so a forked worker, whose process is
another one, starts empty.

Off unless `Policy.tls_resumption` turns it on. What is resumed is TLS alone: the logon itself, and the binding to the
server's certificate, which belongs to the session, are made anew each time.
"""

import dataclasses
import os
import ssl
import threading
import time
from typing import Final

from acredssp.core.tls import TLSSession
from acredssp.sspi.handles import CredentialState
from acredssp.sspi.logon import logon_session
from acredssp.sspi.target import Target

__all__ = ["SessionCache", "SessionKey", "sessions"]

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
    """Sessions by key, for any thread; the functions share the one of this module, `sessions`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[SessionKey, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, credential: CredentialState, target: Target, tls: TLSSession) -> None:
        """Keep the session of an established connection for the next one; the last one counts.

        Nothing is kept for credentials that have been freed: `forget` has been here already.
        """
        session = tls.session
        if session is None or not (session.has_ticket or session.id):
            return
        lifetimes = [seconds for seconds in (session.timeout, session.ticket_lifetime_hint) if seconds]
        key = _key(credential, target)
        entry = _Entry(session, tls.version, session.time + min(lifetimes, default=0))
        with self._lock:
            if not credential.alive:
                return
            self._entries.pop(key, None)
            self._entries[key] = entry
            if len(self._entries) > _MOST_TARGETS:
                del self._entries[next(iter(self._entries))]

    def take(self, credential: CredentialState, target: Target) -> ssl.SSLSession | None:
        """Return a session that may be resumed now, None for none."""
        key = _key(credential, target)
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            expired = entry.expiry <= time.time()
            if expired or entry.tls_version == _SINGLE_USE:
                del self._entries[key]
        return None if expired else entry.session

    def forget(self, credential: CredentialState) -> None:
        """Drop what belongs to a credentials handle that is freed."""
        with self._lock:
            for key in [key for key in self._entries if key.credential == credential.serial]:
                del self._entries[key]


sessions: Final = SessionCache()


def _key(credential: CredentialState, target: Target) -> SessionKey:
    # Asked anew each time: the process may have been forked, or changed its user, since the credentials were acquired.
    return SessionKey(target.spn.casefold(), credential.serial, logon_session(credential.logon_id), os.getpid())
