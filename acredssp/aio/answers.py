"""The answers to the engine's events on asyncio, by the client's trust, the application's hooks and the thread pool.

`asking` says how hooks are called, and what follows where they fail.
"""

import asyncio
import dataclasses
import functools
from collections.abc import Awaitable, Callable
from typing import Any, assert_never

from acredssp.aio import offload
from acredssp.aio.asking import Asking
from acredssp.aio.driver import Pending, deadline_in
from acredssp.aio.offload import Lane
from acredssp.aio.report import HandshakeOutcome
from acredssp.carriage.base import CarriedHandshake
from acredssp.carriage.rdp import RouteRequest
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
    Route,
    StepMechanism,
)
from acredssp.credentials import Deny
from acredssp.errors import AuthenticationError
from acredssp.hooks import Admission, CredentialRequest, Identity
from acredssp.mechanisms.base import Principal
from acredssp.policy import Policy
from acredssp.status import NTSTATUS, SecurityStatus
from acredssp.wire.x224 import ConnectionRequest

__all__ = ["ClientAnswers", "ServerAnswers"]


class ClientAnswers:
    """Answers a client's events.

    Args:
        config: Whom the client trusts, and what it delegates to whom.
        server_hostname: The name that the server's certificate must have.
    """

    def __init__(self, config: ClientConfig, server_hostname: str) -> None:
        self._config = config
        self._server_hostname = server_hostname

    def __call__(self, event: Event) -> Pending | Any:
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
        carried: The handshake that asks.
        peer_address: The peer's address, as `get_extra_info("peername")` gives it.
        deadline: The end of the time for the handshake, in the loop's time; None where the caller sets none.
        session: The session object that the server's `accept` returned.
        refuses: Says whether a logon is refused without a call of the hooks, after too many wrong passwords.
    """

    def __init__(  # noqa: PLR0913 - what it is told of the connection
        self,
        config: ServerConfig,
        carried: CarriedHandshake,
        peer_address: object,
        deadline: float | None,
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
        self.asking = Asking(peer_address)
        """What the hooks did, for the report."""
        self.principal: Principal | None = None
        """The name that the peer gave, proven or not; None before it has come."""

    def __call__(self, event: Event) -> Pending | Any:
        """Answer one event, at once or with a `Pending`; None where a hook failed."""
        config, ask = self._config, self.asking.ask
        policy = config.policy
        match event:
            case LookupCredential():
                return self._look_up(event)
            case AskOracle():
                return ask("oracle", event.oracle.verify, event.exchange, policy.hook_timeout)
            case Authorize():
                assert config.authorize is not None
                return ask("authorize", config.authorize, self._identity(event), self._limit(policy.authorize_timeout))
            case Admit():
                assert config.admit is not None
                return ask("admit", config.admit, self._admission(event), self._limit(policy.admit_timeout))
            case StepMechanism():
                return _step(event, policy, Lane.LOCAL)
            case Route():
                request = RouteRequest(event.request, self._peer_address, self._session, event.preconnection)
                return ask("route", event.hook, request, policy.hook_timeout)
            case ChooseCertificate() | JudgeCertificate() | Delegate():
                raise AssertionError(f"a server was asked for {type(event).__name__}")
            case _:
                assert_never(event)

    def _look_up(self, event: LookupCredential) -> Pending | object:
        self.principal = event.principal
        if self._refuses is not None and self._refuses(event.principal):
            self.asking.refusal = ("", HandshakeOutcome.LIMITED)
            return Deny()
        config = self._config
        assert config.lookup is not None
        request = self._credential_request(event)
        return self.asking.ask("lookup", config.lookup, request, config.policy.hook_timeout)

    @property
    def _config(self) -> ServerConfig:
        """What holds for this connection: the listener's configuration, or the one that was chosen in its place."""
        return self._carried.chosen or self._listeners

    def _limit(self, seconds: float | None) -> float | None:
        """The time limit of a hook that may take as long as the handshake has left: None where that has a deadline."""
        return self._config.policy.handshake_timeout if seconds is None and self._deadline is None else seconds

    def _identity(self, event: Authorize) -> Identity:
        return Identity(*self._logon(event))

    def _admission(self, event: Admit) -> Admission:
        info = dataclasses.replace(self._carried.context.info, delegated=event.credentials.kind)
        return Admission(*self._logon(event), info=info, credentials=event.credentials)

    def _credential_request(self, event: LookupCredential) -> CredentialRequest:
        return CredentialRequest(*self._logon(event), self._hook_deadline())

    def _logon(
        self, event: Authorize | LookupCredential | Admit
    ) -> tuple[Principal, str, object, str, str, ConnectionRequest | None, object]:
        """Who logs on, by what, and by which connection: the fields of an `Identity`."""
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

    def _hook_deadline(self) -> float:
        """When an answer comes too late; never in the past, not even on a loop that was held up."""
        deadline = deadline_in(self._config.policy.hook_timeout)
        return deadline if self._deadline is None else max(deadline_in(0.0), min(self._deadline, deadline))

    @property
    def server_name(self) -> str:
        """The server name that the client asked for by SNI; empty for none."""
        tls = self._carried.context.tls
        return tls.server_name if tls is not None else ""


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
