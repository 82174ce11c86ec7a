"""Handles, time stamps and attributes, which the caller makes empty and the SSPI functions fill.

A handle is a reference, as in C: several handles may stand for one context, and all of them are invalid when the
context is deleted. The state behind a handle is private; `dwLower` and `dwUpper` are two opaque numbers for comparison.

Any thread may make the next call on a context, but two threads must not call at the same time: a call while another one
is in flight is refused with SEC_E_INVALID_HANDLE and changes nothing. EncryptMessage and DecryptMessage may be called
at the same time. They then work in turn, since OpenSSL takes one call at a time for a connection.
"""

import contextlib
import dataclasses
import datetime as dt
import enum
import functools
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
    """The state behind a handle, until it is freed."""

    alive = True
    """False once the state has been freed."""

    @functools.cached_property
    def serial(self) -> int:
        """A number that no other state has."""
        return next(_serials)

    def dispose(self) -> None:
        """Free the state: every handle of it is invalid from now on."""
        self.alive = False


class CredentialState(HandleState):
    """The credentials behind a CredHandle, with everything that is costly to make.

    Args:
        package: `CREDSSP` or `TSSSP`.
        client: The configuration for InitializeSecurityContext; None for INBOUND credentials.
        server: The configuration for AcceptSecurityContext; None for OUTBOUND credentials.
        principal: The user whose credentials they are, as domain, backslash, user.
        certificate: Holds the client's certificate, for a server that asks for one; None without one.
        issuers: The DER names of the issuers in that certificate's chain; None if they are unknown.
        logon_id: The logon session that the caller named; None for the process's own.
        ends: The end of the client's tickets, in seconds since 1970; None for credentials that do not end.
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
        self.package: Final = package
        self.client: Final = client
        self.server: Final = server
        self.principal: Final = principal
        self.certificate: Final = certificate
        self._issuers: Final = issuers
        self.logon_id: Final = logon_id
        self.ends: Final = ends

    def certificate_for(self, authorities: Collection[bytes]) -> ssl.SSLContext | None:
        """Return the holder of the client certificate if one of `authorities` issued it, or may have; None otherwise.

        Args:
            authorities: DER names, as `ChooseCertificate` has them; empty if every authority will do.
        """
        if self.certificate is None or not authorities or self._issuers is None:
            return self.certificate
        return None if self._issuers.isdisjoint(authorities) else self.certificate


class Use(enum.IntEnum):
    """The uses of a context by a call, as bits. Calls whose uses overlap exclude each other."""

    ENCRYPT = 1
    DECRYPT = 2
    ESTABLISH = 7  # this has a third bit, since encrypting and decrypting together is no handshake


class ContextState(HandleState):
    """The state behind a CtxtHandle. This class knows which calls are in flight; subclasses add the rest."""

    def __init__(self) -> None:
        self.tls_lock = threading.Lock()
        """Held during the work in TLS of a call that may run at the same time as another one."""
        self.entry = threading.Lock()
        """Guards `alive`, `in_use` and `usual`. Code that needs both locks takes this one first."""

    in_use = 0
    """The uses of the calls in flight, as bits of `Use`."""
    usual = False
    """Whether the next call only has to make one step of the handshake. The call has to do more if earlier calls have
    left work to it."""

    def hold(self, use: int) -> None:
        """Hold the context for one call, which ends with `release`.

        Raises:
            LocalProtocolError: SEC_E_INVALID_HANDLE: another call that excludes this one is in flight, or the context
                has been freed. There is nothing to release.
        """
        with self.entry:
            if not self.alive:
                raise _freed("context")
            if self.in_use & use:
                raise _in_flight()
            self.in_use |= use
            self.usual = False

    def release(self, use: int) -> None:
        """End what `hold` began."""
        with self.entry:
            self.in_use &= ~use

    @contextlib.contextmanager
    def looked_at(self) -> Iterator[None]:
        """While the block reads a fact, let no call begin and none work in TLS. An establishing call may be in flight.

        Raises:
            LocalProtocolError: SEC_E_INVALID_HANDLE: the context has been freed.
        """
        with self.entry, self.tls_lock:
            if not self.alive:
                raise _freed("context")
            yield

    def check_settled(self) -> None:
        """Refuse to read a fact that a call in flight may be changing.

        Raises:
            LocalProtocolError: SEC_E_INVALID_HANDLE: a call that establishes, or deletes, the context is in flight.
        """
        if self.in_use == Use.ESTABLISH:
            raise _in_flight()

    def dispose(self) -> None:
        """Free the state, once no fact is being read from it."""
        with self.entry:
            super().dispose()


_State = TypeVar("_State", bound=HandleState)


class _Handle(Generic[_State]):
    """A handle: two opaque words, and the error of the last call on it that failed.

    Attributes:
        referent: The state behind the handle, freed or not. Only the functions use it, not the caller.
        error: The exception behind the last failing status; None after a call that did not fail.
    """

    __slots__ = ("error", "referent")
    __hash__ = None  # type: ignore[assignment] # a call changes which handles are equal

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
        """Whether the handle stands for something that has not been freed."""
        return self.referent is not None and self.referent.alive

    @property
    def deleted(self) -> bool:
        """Whether the handle stood for something that has been freed since."""
        return self.referent is not None and not self.referent.alive

    @property
    def state(self) -> _State:
        """The state behind the handle.

        Raises:
            LocalProtocolError: SEC_E_INVALID_HANDLE: the handle stands for nothing, or for something freed.
        """
        if self.referent is None:
            raise _invalid(f"the {self._kind} handle stands for nothing")
        if not self.referent.alive:
            raise _freed(self._kind)
        return self.referent

    def assign(self, state: _State) -> None:
        """Make the handle stand for `state`, as the functions do with the handle that receives a result."""
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
        strict_flags: Whether contexts made from it accept only the flags that Microsoft's pages of the functions list.
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
    """Note on the handles of a call why it fails, and return its status.

    Args:
        error: A `CredSSPError`, or another exception, which is a fault of the machine or of acredssp. The text of such
            an exception may quote a secret, so the handles get an error with its class name, and itself as the cause.
        handles: The handles; None is skipped.
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
        NEVER: The greatest value, which means that something does not expire.
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
        """Return the time stamp of `moment`, which must be aware, in local time."""
        local = moment.astimezone().replace(tzinfo=None)
        return cls((local - _EPOCH) // _TICK * _TICKS_OF_MICROSECOND)

    @classmethod
    def of_end(cls, seconds: int | None) -> Self:
        """Return the time stamp of an end in seconds since 1970, in local time; `NEVER` for None."""
        return cls(cls.NEVER) if seconds is None else cls.from_datetime(dt.datetime.fromtimestamp(seconds, dt.UTC))

    def to_datetime(self) -> dt.datetime | None:
        """Return the moment as an aware datetime in the local zone; None for never."""
        if self.QuadPart == self.NEVER:
            return None
        return (_EPOCH + self.QuadPart // _TICKS_OF_MICROSECOND * _TICK).astimezone()


class ContextAttributes:
    """The attributes of a context, for `pfContextAttr`.

    Read them by `attributes & ISC_RET_DELEGATE`, `ISC_RET_DELEGATE in attributes` or `int(attributes)`.

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
