"""Handles, time stamps and attributes: what the caller makes empty and the SSPI functions fill.

A handle is a reference, as in C: several may stand for one context, and when the context is deleted all of them are
invalid. What a handle stands for is private; `dwLower` and `dwUpper` are two opaque numbers to compare.

Any thread may make the next call on a context, but not two threads at once: a call while another one is in flight is
refused with SEC_E_INVALID_HANDLE and changes nothing. EncryptMessage and DecryptMessage are let in beside each other,
and TLS takes them in turn, since OpenSSL takes one call at a time for a connection.
"""

import contextlib
import dataclasses
import datetime as dt
import enum
import itertools
import ssl
import threading
from collections.abc import Collection, Iterator
from typing import ClassVar, Final, Generic, Self, TypeVar

from acredssp.config import ClientConfig, ServerConfig
from acredssp.errors import CredSSPError, LocalProtocolError
from acredssp.sspi.arguments import refusal
from acredssp.sspi.flags import ASC_RET, ISC_RET
from acredssp.status import SecurityStatus
from acredssp.tracebacks import forget_locals

__all__ = [
    "ContextAttributes",
    "ContextState",
    "CredHandle",
    "CredentialState",
    "CtxtHandle",
    "HandleState",
    "TimeStamp",
    "Use",
    "failure",
]

_INVALID: Final = (1 << 64) - 1
"""Both words of a handle that stands for nothing (SecInvalidateHandle)."""

_serials = itertools.count(1)


class HandleState:
    """What a handle stands for, until it is freed."""

    def __init__(self) -> None:
        self.serial: Final = next(_serials)
        self.alive = True
        """Whether it has not been freed."""

    def dispose(self) -> None:
        """Free it: every handle of it is invalid from now on."""
        self.alive = False


class CredentialState(HandleState):
    """The credentials behind a CredHandle, with everything costly made.

    Args:
        package: `CREDSSP` or `TSSSP`.
        client: What InitializeSecurityContext makes contexts from; None for INBOUND alone.
        server: What AcceptSecurityContext makes contexts from; None for OUTBOUND alone.
        principal: Whose they are: domain, backslash, user.
        certificate: Holds the client's certificate, for a server that asks for one; None without one.
        issuers: DER names of who issued that certificate's chain; None for unknown.
        logon_id: The logon session that the caller named, None for the process's own.
        ends: When the client's tickets end, in seconds since 1970; None for what does not end.
    """

    def __init__(
        self,
        *,
        package: str,
        client: ClientConfig | None,
        server: ServerConfig | None,
        principal: str,
        certificate: ssl.SSLContext | None,
        issuers: frozenset[bytes] | None,
        logon_id: int | None,
        ends: int | None = None,
    ) -> None:
        super().__init__()
        self.package: Final = package
        self.client: Final = client
        self.server: Final = server
        self.principal: Final = principal
        self.certificate: Final = certificate
        self._issuers: Final = issuers
        self.logon_id: Final = logon_id
        self.ends: Final = ends

    def certificate_for(self, authorities: Collection[bytes]) -> ssl.SSLContext | None:
        """What holds a client certificate that one of `authorities` issued, as far as is known; None for none.

        Args:
            authorities: DER names, as `ChooseCertificate` has them; empty for anybody's.
        """
        if self.certificate is None or not authorities or self._issuers is None:
            return self.certificate
        return None if self._issuers.isdisjoint(authorities) else self.certificate


class Use(enum.IntEnum):
    """What a call does with a context, as bits. Calls whose uses overlap exclude each other."""

    ENCRYPT = 1
    DECRYPT = 2
    ESTABLISH = 7  # a bit of its own: the first two together are no handshake


class ContextState(HandleState):
    """What a CtxtHandle stands for: what is in flight. The functions' own facts come on top."""

    def __init__(self) -> None:
        super().__init__()
        self.in_use = 0
        """What the calls in flight do, as bits of `Use`."""
        self.tls_lock = threading.Lock()
        """Around the work of a call that another one may be beside."""
        self._entry = threading.Lock()
        """Around `alive` and `in_use`. Whoever wants both locks takes this one first."""

    def hold(self, use: int) -> None:
        """Hold the context for one call, which ends with `release`.

        Raises:
            LocalProtocolError: SEC_E_INVALID_HANDLE: another call that excludes this one is in flight, or the context
                has been freed. There is nothing to release.
        """
        with self._entry:
            if not self.alive:
                raise _freed("context")
            if self.in_use & use:
                raise _in_flight()
            self.in_use |= use

    def release(self, use: int) -> None:
        """End what `hold` began."""
        with self._entry:
            self.in_use &= ~use

    @contextlib.contextmanager
    def looked_at(self) -> Iterator[None]:
        """Let no call begin, and none work in TLS, while a fact is read. One that establishes may be in flight.

        Raises:
            LocalProtocolError: SEC_E_INVALID_HANDLE: the context has been freed.
        """
        with self._entry, self.tls_lock:
            if not self.alive:
                raise _freed("context")
            yield

    def check_settled(self) -> None:
        """Refuse to tell what a call that is in flight may be changing.

        Raises:
            LocalProtocolError: SEC_E_INVALID_HANDLE: a call that establishes, or deletes, the context is in flight.
        """
        if self.in_use == Use.ESTABLISH:
            raise _in_flight()

    def dispose(self) -> None:
        """Free it, once nobody looks at it."""
        with self._entry:
            super().dispose()


_State = TypeVar("_State", bound=HandleState)


class _Handle(Generic[_State]):
    """Two opaque words, and the error of the last call that failed on it.

    Attributes:
        referent: What it stands for, freed or not: the functions' own matter, not the caller's.
        error: The exception behind the last failing status; None after a call that did not fail.
    """

    __slots__ = ("error", "referent")
    __hash__ = None  # type: ignore[assignment] # a call changes what it equals

    _kind: ClassVar[str]

    def __init__(self) -> None:
        self.referent: _State | None = None
        self.error: CredSSPError | None = None

    @property
    def dwLower(self) -> int:
        """Opaque; all ones for a handle that stands for nothing."""
        return self.referent.serial if self.referent is not None else _INVALID

    @property
    def dwUpper(self) -> int:
        """Opaque; all ones for a handle that stands for nothing."""
        return 0 if self.referent is not None else _INVALID

    @property
    def valid(self) -> bool:
        """Whether it stands for something that has not been freed."""
        return self.referent is not None and self.referent.alive

    @property
    def deleted(self) -> bool:
        """Whether it stood for something that has been freed since."""
        return self.referent is not None and not self.referent.alive

    @property
    def state(self) -> _State:
        """What it stands for, to be used.

        Raises:
            LocalProtocolError: SEC_E_INVALID_HANDLE: nothing, or something freed.
        """
        if self.referent is None:
            raise _invalid(f"the {self._kind} handle stands for nothing")
        if not self.referent.alive:
            raise _freed(self._kind)
        return self.referent

    def assign(self, state: _State) -> None:
        """Make it stand for `state`: what the functions do with the handle that the caller gives for a result."""
        self.referent = state

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return self.referent is other.referent

    def __repr__(self) -> str:
        words = "invalid" if self.referent is None else f"{self.dwLower:#x}"
        freed = "" if self.referent is None or self.referent.alive else ", freed"
        return f"{type(self).__name__}({words}{freed})"


class CredHandle(_Handle[CredentialState]):
    """A handle of credentials, for AcquireCredentialsHandle to fill.

    Args:
        strict_flags: Whether contexts made from it take no flags but those that the functions' pages list.
        require_delegate: Whether ISC_REQ_DELEGATE is mandatory and ISC_REQ_MUTUAL_AUTH ignored, as on Windows Vista
            and Windows Server 2008.
    """

    __slots__ = ("require_delegate", "strict_flags")
    _kind = "credentials"

    def __init__(self, *, strict_flags: bool = False, require_delegate: bool = False) -> None:
        super().__init__()
        self.strict_flags = strict_flags
        self.require_delegate = require_delegate


class CtxtHandle(_Handle[ContextState]):
    """A handle of a context, for InitializeSecurityContext or AcceptSecurityContext to fill."""

    __slots__ = ()
    _kind = "context"


def failure(error: Exception, *handles: CredHandle | CtxtHandle | None) -> SecurityStatus:
    """Note why a call fails on the handles it was given, and return its status.

    Args:
        error: A `CredSSPError` as it is. Anything else is the machine's or ours: its text may quote a secret, so the
            handles get its class name, and itself as the cause.
        handles: None is passed over.
    """
    forget_locals(error)
    if not isinstance(error, CredSSPError):
        status = SecurityStatus.SEC_E_INTERNAL_ERROR
        if isinstance(error, MemoryError):
            status = SecurityStatus.SEC_E_INSUFFICIENT_MEMORY
        reason = CredSSPError(f"the call ended with {type(error).__name__}", security_status=status)
        reason.__cause__ = error
        error = reason
    for handle in handles:
        if handle is not None:
            handle.error = error
    return error.security_status


def _invalid(message: str) -> LocalProtocolError:
    return refusal(message, SecurityStatus.SEC_E_INVALID_HANDLE)


def _freed(kind: str) -> LocalProtocolError:
    return _invalid(f"the {kind} handle has been freed")


def _in_flight() -> LocalProtocolError:
    return _invalid("another call on the context is in flight")


_EPOCH: Final = dt.datetime(1601, 1, 1)  # noqa: DTZ001 - a time stamp is local time, and says no zone
_TICK: Final = dt.timedelta(microseconds=1)
_TICKS_OF_MICROSECOND: Final = 10


@dataclasses.dataclass(slots=True)
class TimeStamp:
    """A time in ticks of 100 ns since 1601, in local time, as SSPI packages give it.

    Attributes:
        NEVER: The greatest value: it does not expire.
        QuadPart: The ticks.
    """

    NEVER: ClassVar[int] = 0x7FFFFFFFFFFFFFFF

    QuadPart: int = 0

    @property
    def LowPart(self) -> int:
        """The low 32 bits."""
        return self.QuadPart & 0xFFFFFFFF

    @property
    def HighPart(self) -> int:
        """The high 32 bits."""
        return self.QuadPart >> 32

    @classmethod
    def from_datetime(cls, moment: dt.datetime) -> Self:
        """The local time of `moment`, which must be aware."""
        local = moment.astimezone().replace(tzinfo=None)
        return cls((local - _EPOCH) // _TICK * _TICKS_OF_MICROSECOND)

    @classmethod
    def of_end(cls, seconds: int | None) -> Self:
        """The local time of an end in seconds since 1970; `NEVER` for None."""
        return cls(cls.NEVER) if seconds is None else cls.from_datetime(dt.datetime.fromtimestamp(seconds, dt.UTC))

    def to_datetime(self) -> dt.datetime | None:
        """The moment, aware, in the local zone; None for never."""
        if self.QuadPart == self.NEVER:
            return None
        return (_EPOCH + self.QuadPart // _TICKS_OF_MICROSECOND * _TICK).astimezone()


class ContextAttributes:
    """The attributes of a context, for `pfContextAttr`.

    `attributes & ISC_RET_DELEGATE`, `ISC_RET_DELEGATE in attributes` and `int(attributes)` read it.

    Attributes:
        flags: `ISC_RET` or `ASC_RET` after a call.
    """

    __slots__ = ("flags",)

    def __init__(self, flags: ISC_RET | ASC_RET | int = 0) -> None:
        self.flags = flags

    def __int__(self) -> int:
        return int(self.flags)

    __index__ = __int__

    def __and__(self, mask: int) -> int:
        return self.flags & mask

    def __contains__(self, mask: int) -> bool:
        return self.flags & mask == mask

    def __eq__(self, other: object) -> bool:
        return int(self) == int(other) if isinstance(other, int | ContextAttributes) else NotImplemented

    __hash__ = None  # type: ignore[assignment] # a call changes it

    def __repr__(self) -> str:
        return f"ContextAttributes({self.flags!r})"
