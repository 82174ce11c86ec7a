"""The answers to the engine's events on asyncio: the client's trust, the application's hooks and threads give them.

`answer_events()` answers all that a step of a logon asks, each answer under its own time limit. It is for a transport
of the program's own, such as HTTP; a logon over a connection has the module `driver` in its place.

The module `asking` says how hooks are called, and what follows if they fail.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, assert_never

from acredssp.aio import offload
from acredssp.aio.asking import Asking
from acredssp.aio.driver import Pending, deadline_in
from acredssp.aio.offload import Lane
from acredssp.aio.report import HandshakeOutcome
from acredssp.carriage.base import CarriedHandshake
from acredssp.carriage.routes import RouteRequest
from acredssp.config import ClientConfig, ServerConfig
from acredssp.core.events import (
    Admit,
    Answered,
    AskOracle,
    Authorize,
    ChooseCertificate,
    Delegate,
    Event,
    JudgeCertificate,
    LookupCredential,
    Question,
    Route,
    StepMechanism,
)
from acredssp.credentials import Deny
from acredssp.errors import AuthenticationError, CredSSPError
from acredssp.hooks import Admission, CredentialRequest, Identity
from acredssp.mechanisms.base import Principal
from acredssp.policy import Policy
from acredssp.status import NTSTATUS, SecurityStatus
from acredssp.tracebacks import forget_locals
from acredssp.wire.x224 import ConnectionRequest

__all__ = ["ClientAnswers", "EventSource", "Outcome", "ServerAnswers", "answer_events", "no_kdc"]


class Outcome(Protocol):
    """The outcome of a step of a logon, such as a `StepResult` or a turn of `acredssp.http`."""

    @property
    def event(self) -> Event | None:
        """The engine's question; None where it asks nothing."""


_Outcome = TypeVar("_Outcome", bound=Outcome)
_Outcome_co = TypeVar("_Outcome_co", bound=Outcome, covariant=True)


class EventSource(Protocol[_Outcome_co]):
    """The side of a logon that asks questions: a `SecurityContext`, or an exchange of `acredssp.http`."""

    def resume(self, event: Question[Answered], answer: Answered, /) -> _Outcome_co:
        """Give the engine the answer to `event`, and return the outcome of the engine's next step."""

    def fail(self, error: CredSSPError, /) -> object:
        """End the logon with `error`."""


async def answer_events(
    source: EventSource[_Outcome], outcome: _Outcome, answers: "ClientAnswers | ServerAnswers"
) -> _Outcome:
    """Answer the questions of a logon until the engine asks nothing more, and return the last outcome.

    Hooks of the application have the policy's time limits, and a step of Kerberos runs in a thread under one. The time
    limit of the whole logon is the caller's: `asyncio.timeout_at()`. If the caller is cancelled, no answer is given:
    end the logon.

    Args:
        source: The side of the logon that asks the questions.
        outcome: The outcome of the last step of `source`.
        answers: One object for all steps of this logon.

    Raises:
        CredSSPError: The logon failed, and `source` knows it.
    """
    try:
        while (event := outcome.event) is not None:
            # The answer may be a key. It is kept in no variable, since an error keeps a coroutine's variables.
            outcome = source.resume(event, await _awaited(answers(event)))
    except CredSSPError as error:
        source.fail(error)
        forget_locals(error)
        raise
    return outcome


async def _awaited(answer: Pending | Any) -> Any:
    return await answer if isinstance(answer, Pending) else answer


class ClientAnswers:
    """Answers the events of one logon of a client.

    Args:
        config: The client's configuration: which servers it trusts, and what it delegates to them.
        server_hostname: The name that the server's certificate must have.
    """

    def __init__(self, config: ClientConfig, server_hostname: str) -> None:
        self._config = config
        self._server_hostname = server_hostname

    def __call__(self, event: Event) -> Pending | Any:
        """Return the answer to one event, or a `Pending` if the answer takes time.

        Raises:
            CertificateError: The server's certificate is not trusted.
            PolicyError: The delegation policy does not let the server have the credentials.
        """
        if isinstance(event, StepMechanism):
            return _step(event, self._config.policy, Lane.KDC)
        return self._config.answer(event, self._server_hostname)


class ServerAnswers:
    """Answers the events of one logon at a server, by asking the application.

    Args:
        config: The server's configuration, which has the hooks.
        carried: The handshake that asks: the `SecurityContext`, where no carriage is around it.
        peer_address: The peer's address, as `get_extra_info("peername")` gives it.
        deadline: The moment at which the handshake must have ended, in the loop's time; None without a deadline.
        session: The session object that the server's `accept` returned.
        refuses: Says whether a logon is refused without asking the hooks, after too many wrong passwords.

    Attributes:
        principal: The name that the peer gave, proven or not; None until the peer has given it.
    """

    def __init__(  # noqa: PLR0913 - the facts of one connection
        self,
        config: ServerConfig,
        carried: CarriedHandshake,
        peer_address: object = None,
        deadline: float | None = None,
        *,
        session: object = None,
        refuses: Callable[[Principal], bool] | None = None,
    ) -> None:
        self._listeners = config
        self._carried = carried
        self._peer_address = peer_address
        self._deadline = deadline
        self._session = session
        self._refuses = refuses
        self._asking = Asking(peer_address)
        """Calls the hooks, and remembers for the report what they did."""
        self.principal: Principal | None = None

    @property
    def refusal(self) -> tuple[str, HandshakeOutcome] | None:
        """The name of the hook that refused, and how it refused; None while no hook has refused."""
        return self._asking.refusal

    @property
    def running(self) -> str:
        """The name of the hook whose answer is awaited; empty while no answer is awaited."""
        return self._asking.running

    def __call__(self, event: Event) -> Pending | Any:
        """Return the answer to one event, or a `Pending` if the answer takes time; None if a hook failed."""
        config, ask = self._config, self._asking.ask
        policy = config.policy
        match event:
            case LookupCredential():
                return self._look_up(event, config)
            case Authorize():
                assert config.authorize is not None
                return ask("authorize", config.authorize, self._identity(event), self._limit(policy.authorize_timeout))
            case Admit():
                assert config.admit is not None
                return ask("admit", config.admit, self._admission(event), self._limit(policy.admit_timeout))
            case Route():
                request = RouteRequest(event.request, self._peer_address, self._session, event.preconnection)
                return ask("route", event.hook, request, policy.hook_timeout)
            case AskOracle():
                return ask("oracle", event.oracle.verify, event.exchange, policy.hook_timeout)
            case StepMechanism():
                return _step(event, policy, self._lane)
            case ChooseCertificate() | JudgeCertificate() | Delegate():
                raise AssertionError(f"a server was asked for {type(event).__name__}")
            case _:
                assert_never(event)

    def _look_up(self, event: LookupCredential, config: ServerConfig) -> Pending | object:
        self.principal = event.principal
        if self._refuses is not None and self._refuses(event.principal):
            self._asking.refusal = ("", HandshakeOutcome.LIMITED)
            return Deny()
        assert config.lookup is not None
        seconds = config.policy.hook_timeout
        request = CredentialRequest(*self._logon(event), self._hook_deadline(seconds))
        return self._asking.ask("lookup", config.lookup, request, seconds)

    @property
    def _config(self) -> ServerConfig:
        """The configuration of this connection: the one that `route` chose, or else the listener's."""
        return self._carried.chosen or self._listeners

    @property
    def _lane(self) -> Lane:
        """Where a step of Kerberos runs: an acceptor that delegates asks a KDC, which may be silent."""
        keytab = self._config.keytab
        return Lane.KDC if keytab is not None and keytab.constrained_delegation else Lane.LOCAL

    def _limit(self, seconds: float | None) -> float | None:
        """Return the time limit for a hook that by default may take all the time that the handshake has left.

        Args:
            seconds: The hook's own limit in the policy; None for the default.

        Returns:
            Seconds; None if the handshake's own deadline is the limit.
        """
        return self._config.policy.handshake_timeout if seconds is None and self._deadline is None else seconds

    def _identity(self, event: Authorize) -> Identity:
        return Identity(*self._logon(event))

    def _admission(self, event: Admit) -> Admission:
        info = self._carried.context.info_with(event.credentials.kind)
        return Admission(*self._logon(event), info=info, credentials=event.credentials)

    def _logon(
        self, event: Authorize | LookupCredential | Admit
    ) -> tuple[Principal, str, object, str, str, ConnectionRequest | None, object]:
        """Return who logs on, by which mechanism and over which connection: the first fields of an `Identity`."""
        carried = self._carried
        return (
            event.principal,
            event.mechanism,
            self._peer_address,
            self.server_name,
            carried.cookie,
            carried.request,
            self._session,
        )

    def _hook_deadline(self, seconds: float) -> float:
        """Return the moment after which an answer is too late; it is not in the past, even if the loop was held up."""
        deadline = deadline_in(seconds)
        return deadline if self._deadline is None else max(deadline_in(0.0), min(self._deadline, deadline))

    @property
    def server_name(self) -> str:
        """The server name for which the client asked by SNI; empty if it asked for none."""
        tls = self._carried.context.tls
        return tls.server_name if tls is not None else ""


def _step(event: StepMechanism, policy: Policy, lane: Lane) -> Pending:
    """Run a step that may block in a thread. After the policy's time limit, the thread is left to itself."""
    return Pending(offload.run(event.run, lane), functools.partial(_for_so_long, policy.kerberos_timeout))


async def _for_so_long(seconds: float, step: Awaitable[object]) -> object:
    try:
        async with asyncio.timeout(seconds):
            return await step
    except TimeoutError:
        return no_kdc(seconds)


def no_kdc(seconds: float) -> AuthenticationError:
    """Return the error of a step of Kerberos that has taken longer than its time limit."""
    return AuthenticationError(
        f"kerberos: no kdc answered within {seconds:g} seconds",
        security_status=SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY,
        nt_status=NTSTATUS.STATUS_NO_LOGON_SERVERS,
    )
