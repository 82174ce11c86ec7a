"""Who answers the engine's events on asyncio: the certificate's judge, the application's hooks, the thread pool.

A hook fails closed: whatever goes wrong with it is answered with None, which the engine takes for a refusal. The log
names the kind of failure and nothing more, since an exception's text may well quote a secret.
"""

import asyncio
import dataclasses
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar, assert_never

from acredssp.aio import offload
from acredssp.aio.driver import Pending, check_in_time, deadline_in
from acredssp.aio.offload import Lane
from acredssp.carriage.base import Sequence
from acredssp.config import ClientConfig, ServerConfig
from acredssp.core.events import (
    Admit,
    AskOracle,
    Authorize,
    ChooseCertificate,
    Delegate,
    Event,
    JudgeCertificate,
    LookupCredential,
    StepMechanism,
)
from acredssp.errors import AuthenticationError
from acredssp.hooks import CredentialRequest, Identity
from acredssp.mechanisms.base import Principal
from acredssp.policy import Policy
from acredssp.status import NTSTATUS, SecurityStatus

__all__ = ["ClientAnswers", "ServerAnswers"]

_logger = logging.getLogger("acredssp")

_Request = TypeVar("_Request")


class ClientAnswers:
    """Answers a client's events.

    Args:
        config: Whom the client trusts, and what it delegates to whom.
        server_hostname: The name that the server's certificate must have.
    """

    def __init__(self, config: ClientConfig, server_hostname: str) -> None:
        self._config = config
        self._server_hostname = server_hostname

    def __call__(self, event: Event) -> Pending | object:
        """Answer one event: at once, or with a `Pending`.

        Raises:
            CertificateError: The server's certificate is not trusted.
            PolicyError: The delegation policy keeps the credentials from the server.
        """
        if isinstance(event, StepMechanism):
            return _step(event, self._config.policy, Lane.KDC)
        return self._config.answer(event, self._server_hostname)


class ServerAnswers:
    """Answers a server's events by asking the application.

    Args:
        config: Its hooks.
        sequence: The handshake that asks.
        peer_address: As `get_extra_info("peername")` gives it.
        deadline: The handshake's, in the loop's time; None where the caller sets none.
    """

    def __init__(self, config: ServerConfig, sequence: Sequence, peer_address: object, deadline: float | None) -> None:
        self._config = config
        self._sequence = sequence
        self._peer_address = peer_address
        self._deadline = deadline
        self.principal: Principal | None = None
        """Who claims to log on, proven or not; None before anybody does."""

    def __call__(self, event: Event) -> Pending | object:
        """Answer one event, at once or with a `Pending`; None where a hook failed."""
        match event:
            case LookupCredential():
                self.principal = event.principal
                assert self._config.lookup is not None
                return self._ask(self._config.lookup, self._credential_request(event))
            case AskOracle():
                return self._ask(event.oracle.verify, event.exchange)
            case Authorize():
                assert self._config.authorize is not None
                return self._ask(self._config.authorize, self._identity(event))
            case Admit():
                assert self._config.admit is not None
                facts = dataclasses.replace(self._sequence.context.info, delegated=event.credentials.kind)
                return self._ask(self._config.admit, facts)
            case StepMechanism():
                return _step(event, self._config.policy, Lane.LOCAL)
            case ChooseCertificate() | JudgeCertificate() | Delegate():
                raise AssertionError(f"a server was asked for {type(event).__name__}")
            case _:
                assert_never(event)

    def _identity(self, event: Authorize) -> Identity:
        return Identity(
            event.principal,
            event.mechanism,
            self._peer_address,
            self.server_name,
            self._sequence.cookie,
            self._sequence.request,
        )

    def _credential_request(self, event: LookupCredential) -> CredentialRequest:
        return CredentialRequest(
            event.principal,
            event.mechanism,
            self._peer_address,
            self.server_name,
            self._sequence.cookie,
            self._sequence.request,
            self._hook_deadline(),
        )

    def _hook_deadline(self) -> float:
        """When an answer comes too late; never in the past, not even on a loop that was held up."""
        deadline = deadline_in(self._config.policy.hook_timeout)
        return deadline if self._deadline is None else max(deadline_in(0.0), min(self._deadline, deadline))

    @property
    def server_name(self) -> str:
        """What the client asked for by SNI; empty for none."""
        tls = self._sequence.context.tls
        return tls.server_name if tls is not None else ""

    def _ask(self, hook: Callable[[_Request], object], request: _Request) -> Pending | object:
        """Call a hook, plain function or coroutine function, the latter under its time limit."""
        try:
            answer = hook(request)
            if inspect.isawaitable(answer):
                return Pending(answer, functools.partial(self._in_time, type(request)))
        except Exception as error:  # noqa: BLE001 - the application's own, of whatever kind, is a refusal
            _log_failure(error, type(request))
            return None
        return answer

    async def _in_time(self, asked_for: type, answer: Awaitable[object]) -> object:
        try:
            async with asyncio.timeout(self._config.policy.hook_timeout) as limit:
                value = await answer
            check_in_time(limit)
        except Exception as error:  # noqa: BLE001 - as above
            _log_failure(error, asked_for)
            return None
        return value


def _log_failure(error: Exception, asked_for: type) -> None:
    _logger.warning(
        "a hook failed with %s while asked for a %s: taken as a refusal", type(error).__name__, asked_for.__name__
    )


def _step(event: StepMechanism, policy: Policy, lane: Lane) -> Pending:
    """Run a step that may block, for as long as the policy waits; a thread that is stuck is left behind."""
    return Pending(offload.run(event.run, lane), functools.partial(_for_so_long, policy.kerberos_timeout))


async def _for_so_long(seconds: float, step: Awaitable[object]) -> object:
    try:
        async with asyncio.timeout(seconds):
            return await step
    except TimeoutError:
        return AuthenticationError(
            f"kerberos: no kdc answered within {seconds:g} seconds",
            security_status=SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY,
            nt_status=NTSTATUS.STATUS_NO_LOGON_SERVERS,
        )
