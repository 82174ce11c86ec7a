"""How an application's hooks are called: under a time limit, and so that every failure is a refusal.

If a hook fails, the engine gets None as the answer, and takes that for a refusal. The peer sees a refusal like any
other. The report (`refusal`) and a warning in the log tell the operator what went wrong. The warning names the lines of
code that the exception came from, and leaves out the exception's text, which may quote a secret.

Every exception of a hook is a failure, even one whose class is no subclass of `Exception`, such as the panic of an
extension in Rust. This module passes on only `KeyboardInterrupt`, `SystemExit`, and the exception that ends the asking
task.

`answers` calls this module during a handshake, and `server` calls it before one.
"""

import asyncio
import contextlib
import functools
import inspect
import types
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, TypeVar

from acredssp.aio.driver import Pending, check_in_time
from acredssp.aio.report import HandshakeOutcome, address_text
from acredssp.carriage.routes import Passthrough, RDPRoute
from acredssp.config import ServerConfig
from acredssp.credentials import Account, Candidates, Deny, NTHash, Oracle, Password
from acredssp.logs import get_logger
from acredssp.wire.x224 import FailureCode

__all__ = ["Asking", "passes"]

_logger = get_logger("acredssp")

_Request = TypeVar("_Request")

_ENDS_THE_PROCESS: Final = (KeyboardInterrupt, SystemExit)
"""The exceptions of a hook that are no refusals."""

_DEEPEST: Final = 20
"""How many frames of a traceback the log gets, counted from the last one: endless recursion makes a thousand."""


class Asking:
    """Asks the hooks of one connection, one at a time.

    Args:
        peer_address: The peer's address, as `get_extra_info("peername")` gives it.
    """

    __slots__ = ("_peer_address", "refusal", "running")

    def __init__(self, peer_address: object) -> None:
        self._peer_address = peer_address
        self.running = ""
        """The name of the hook whose answer is awaited; empty while no answer is awaited."""
        self.refusal: tuple[str, HandshakeOutcome] | None = None
        """The name of the hook that refused, and how it refused; None while no hook has refused."""

    def ask(
        self, role: str, hook: Callable[[_Request], object], request: _Request, seconds: float | None
    ) -> Pending | object:
        """Call a hook. If it returns an awaitable, its answer is awaited under the time limit.

        Args:
            role: The name of the hook, for instance `"lookup"`.
            hook: The application's function.
            request: The argument of the function.
            seconds: The time limit for an awaitable; None if the handshake's deadline is the only limit.

        Returns:
            The hook's answer, or a `Pending`; None if the hook failed.
        """
        try:
            answer = hook(request)
            if not isinstance(answer, _NEVER_AWAITABLE) and inspect.isawaitable(answer):
                self.running = role
                return Pending(answer, functools.partial(self._in_time, role, hook, seconds))
            return self._checked(role, hook, answer)
        except BaseException as error:
            if passes(error):
                raise
            self._failed(role, hook, error)  # nothing is awaited here, so a CancelledError comes from the hook
            return None

    async def _in_time(
        self, role: str, hook: Callable[..., object], seconds: float | None, awaitable: Awaitable[object]
    ) -> object:
        limit = None if seconds is None else asyncio.timeout(seconds)
        try:
            if limit is None:
                answer = await awaitable
            else:
                async with limit:
                    answer = await awaitable
                check_in_time(limit)
            return self._checked(role, hook, answer)
        except BaseException as error:
            if passes(error) or _is_for_us(error):
                raise
            if limit is not None and limit.expired():
                self._late(role, hook, seconds)
            else:
                self._failed(role, hook, error)
            return None

    def _checked(self, role: str, hook: Callable[..., object], answer: object) -> object:
        """Remember a refusal, and log a value that is no answer; the engine gets every value unchanged."""
        self.running = ""
        if _YES[role](answer):
            return answer
        if isinstance(answer, Deny) or (answer is False and role in _MAY_SAY_FALSE) or _is_failure_code(role, answer):
            self.refusal = (role, HandshakeOutcome.DENIED)
            return answer
        what = _what_came(role, answer)
        self._warn(role, hook, HandshakeOutcome.BAD_ANSWER, f"answered {what}, expected {_EXPECTED[role]}")
        return answer

    def _failed(self, role: str, hook: Callable[..., object], error: BaseException) -> None:
        places = _told(lambda: "".join(_places(hook, error)))
        self._warn(role, hook, HandshakeOutcome.FAILED, f"raised {_class_name(error)}", places)

    def _late(self, role: str, hook: Callable[..., object], seconds: float | None) -> None:
        self._warn(role, hook, HandshakeOutcome.TIMEOUT, f"gave no answer within {seconds:g} seconds")

    def _warn(
        self, role: str, hook: Callable[..., object], outcome: HandshakeOutcome, what: str, where: str = ""
    ) -> None:
        self.running, self.refusal = "", (role, outcome)
        peer = address_text(self._peer_address)
        _logger.warning("hook %s (%s) %s, peer %s: taken as a refusal%s", role, _name(hook), what, peer, where)


def _is_for_us(error: BaseException) -> bool:
    """Return whether this task itself is being cancelled. A hook may also have awaited something that was cancelled."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and bool(task.cancelling())


def passes(error: BaseException) -> bool:
    """Return whether an exception is passed on, and is no refusal of the hook: the process or our coroutine ends.

    If our coroutine is closed while it awaits the hook, no frame of the hook is in the traceback.
    """
    if isinstance(error, GeneratorExit):
        return error.__traceback__ is None or error.__traceback__.tb_next is None
    return isinstance(error, _ENDS_THE_PROCESS)


_SECRETS: Final = (Password, NTHash, Candidates, Oracle)
_ROUTES: Final = (ServerConfig, RDPRoute, Passthrough)

_MAY_SAY_FALSE: Final = frozenset({"accept", "route", "authorize", "admit"})

_EXPECTED: Final = {
    "accept": "a session object, False or Deny",
    "route": "a ServerConfig, an RDPRoute, a Passthrough, a FailureCode, False or Deny",
    "lookup": "Password, NTHash, Candidates, Oracle or Deny",
    "oracle": "a key of 16 bytes or Deny",
    "authorize": "True, an Account, False or Deny",
    "admit": "True, False or Deny",
}


def _is_key(answer: object) -> bool:
    return isinstance(answer, bytes) and len(answer) == 16 and any(answer)


_YES: Final[Mapping[str, Callable[[object], bool]]] = {
    "accept": lambda answer: answer is not None and answer is not False and not isinstance(answer, Deny),
    "route": lambda answer: isinstance(answer, _ROUTES),
    "lookup": lambda answer: isinstance(answer, _SECRETS),
    "oracle": _is_key,
    "authorize": lambda answer: answer is True or isinstance(answer, Account),
    "admit": lambda answer: answer is True,
}
"""Whether the engine goes on with an answer, by role."""
_NEVER_AWAITABLE: Final = (*_SECRETS, *_ROUTES, Deny, FailureCode, Account, bytes, bool)
"""The types of all answers but session objects. Python cannot await them. The list has the types of refusals, too, so
that a refusal takes no more time than another answer."""


def _what_came(role: str, answer: object) -> str:
    """Name the kind of an answer, and reveal nothing of its content."""
    if answer is None:
        return "None"
    if role != "oracle" or not isinstance(answer, bytes):
        return f"a value of type {_class_name(answer)}"
    zeros = len(answer) == 16 and not any(answer)
    return f"{len(answer)} bytes" + (" that are all zero, which is no key" if zeros else "")


def _is_failure_code(role: str, answer: object) -> bool:
    """Return whether an answer of `route` refuses the connection with a code that the client is sent."""
    return role == "route" and isinstance(answer, FailureCode)


def _name(hook: Callable[..., object]) -> str:
    """Return the hook's name in the application's code, as far as it can be told."""
    name = _told(lambda: hook.__qualname__) or _told(lambda: type(hook).__qualname__) or _class_name(hook)
    module = _told(lambda: hook.__module__)  # an object has that of its class, a method of a built-in type has none
    return f"{module}.{name}" if module else name


_NAME_OF: Final = type.__dict__["__name__"].__get__
"""Returns the name of a class. It runs no code of that class, since such code may raise an exception."""


def _class_name(value: object) -> str:
    name: str = _NAME_OF(type(value))
    return name


def _told(tell: Callable[[], object]) -> str:
    """Return a text that an application's object tells about itself; empty if it cannot tell one.

    The object's own code may raise anything. If that were not caught, a refusal would become a failure of acredssp.
    """
    try:
        text = tell()
    except BaseException as error:
        if passes(error):
            raise
        return ""
    return text if type(text) is str else ""


def _places(hook: Callable[..., object], error: BaseException) -> Iterator[str]:
    """Yield the places in a traceback, without source text and without the exception's text.

    If a hook takes other arguments, its code is never entered and has no place in the traceback. Then the hook's first
    line is given.
    """
    frames = [*_frames(error.__traceback__)][1:]  # the first frame is the one that called the hook
    for code, line in frames[-_DEEPEST:] or _first_line(hook):
        yield f'\n  File "{code.co_filename}", line {line}, in {code.co_qualname}'


def _first_line(hook: Callable[..., object]) -> list[tuple[types.CodeType, int | None]]:
    """Return the place where the hook's code begins; nothing for a hook that is not written in Python."""
    while isinstance(hook, functools.partial):
        hook = hook.func
    function = hook if inspect.isroutine(hook) else type(hook).__call__
    with contextlib.suppress(ValueError):  # a wrapper that wraps itself
        function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    return [(code, code.co_firstlineno)] if isinstance(code, types.CodeType) else []


def _frames(traceback: types.TracebackType | None) -> Iterator[tuple[types.CodeType, int | None]]:
    while traceback is not None:
        yield traceback.tb_frame.f_code, traceback.tb_lineno
        traceback = traceback.tb_next
