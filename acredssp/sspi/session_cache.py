"""TLS sessions to resume, under the five conditions of InitializeSecurityContext's page (R14, R15).

A session is used again only for the same target name, until it expires, in the same process, in the same logon session,
and under the same credentials handle. All conditions but the expiry form the key. So a forked worker, which is another
process, starts with an empty cache.

The cache is off unless `Policy.tls_resumption` turns it on. Only TLS is resumed: the logon itself, and the binding to
the server's certificate, which belongs to the session, are made anew each time.
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
"""The most entries that are kept; the oldest is dropped first. A session has some KiB."""
_SINGLE_USE: Final = "TLSv1.3"
"""A ticket of TLS 1.3 should be used once (RFC 8446 C.4)."""


@dataclasses.dataclass(frozen=True, slots=True)
class SessionKey:
    """The key of a session: its target, credentials, logon session and process."""

    target: str
    """The service principal name, without case."""
    credential: int
    """The serial number of the state behind the credentials handle."""
    logon_session: tuple[int, ...]
    process: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    session: ssl.SSLSession
    tls_version: str
    expiry: float


class SessionCache:
    """A cache of sessions that any thread may use; the functions share `sessions`, the one of this module."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[SessionKey, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, credential: CredentialState, target: Target, tls: TLSSession) -> None:
        """Keep the session of an established connection for the next one, in place of an earlier session.

        Nothing is kept for credentials that have been freed, since `forget` was called for them already.
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
        """Return a session that may be resumed now; None if there is none."""
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
        """Drop the sessions of a credentials handle that is freed."""
        with self._lock:
            for key in [key for key in self._entries if key.credential == credential.serial]:
                del self._entries[key]


sessions: Final = SessionCache()


def _key(credential: CredentialState, target: Target) -> SessionKey:
    # The process may have been forked, or have changed its user, since the credentials were acquired.
    return SessionKey(target.spn.casefold(), credential.serial, logon_session(credential.logon_id), os.getpid())
