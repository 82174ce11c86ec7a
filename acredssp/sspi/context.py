"""What a CtxtHandle stands for: one security context of the engine, driven one call at a time.

The engine stops for events; here they are answered without leaving the call. What the page of the functions calls a
policy of the caller (which flags, whose certificate, what to delegate) becomes the answer to an event:

    JudgeCertificate    the verdict is noted and never fatal by itself (R23, R24)
    ChooseCertificate   the credentials' certificate, or SEC_I_INCOMPLETE_CREDENTIALS (R64, R95, R96)
    Delegate            nothing without ISC_REQ_DELEGATE (R29); refused where MUTUAL_AUTH was asked and not had (R70),
                        and where the delegation policy forbids it (R32, R68, R69)
    the server's        the hooks of its `ServerConfig`

Who calls: `steps`, `messages` and `attributes`.
"""

import ssl
from typing import Any, Final

from acredssp.aio.answers import ClientAnswers, ServerAnswers
from acredssp.aio.driver import Pending
from acredssp.certificates.judgement import OptionNames
from acredssp.config import ClientConfig
from acredssp.core.client import ClientHandshake
from acredssp.core.context import SecurityContext, StepResult
from acredssp.core.events import ChooseCertificate, Delegate, Event, JudgeCertificate
from acredssp.core.states import State
from acredssp.credentials import DelegatedKind
from acredssp.delegation import ServerAuth
from acredssp.errors import CredSSPError
from acredssp.names import logon_name
from acredssp.sspi.arguments import refusal
from acredssp.sspi.flags import ASC_REQ, ASC_RET, ISC_REQ, ISC_RET
from acredssp.sspi.handles import ContextState, CredentialState, TimeStamp
from acredssp.sspi.session_cache import sessions
from acredssp.sspi.target import Target
from acredssp.sspi.unfinished import Unfinished
from acredssp.status import SecurityStatus
from acredssp.trust import Judgement, Verdict
from acredssp.wire.ts_credentials import TSCredentials
from acredssp.wire.x509 import subject_public_key

__all__ = ["AcceptorState", "EstablishState", "InitiatorState", "established"]

# For every call: a member's look-up in its enum takes longer than the rest, and its name some Python calls.
_OK: Final = SecurityStatus.SEC_E_OK
_TRUSTED: Final = Verdict.TRUSTED
_TRUSTED_NAME: Final = Verdict.TRUSTED.name.lower()
_OPTION_NAMES: Final = OptionNames(
    name="pszTargetName",
    authority="hRootStore=Trust.from_file(...)",
    pin="hRootStore=Trust.pinned(...)",
    weak="hRootStore=Trust(dangerous_allow_weak_certificates=True, ...)",
)

# Plain integers: an operator or `in` of an IntFlag is a Python call, at some ten times the price.
_DELEGATE: Final = ISC_REQ.DELEGATE.value  # these three have one value in all four families
_MUTUAL_AUTH: Final = ISC_REQ.MUTUAL_AUTH.value
_ALLOCATED_MEMORY: Final = ISC_RET.ALLOCATED_MEMORY.value
_EXTENDED_ERROR: Final = ISC_REQ.EXTENDED_ERROR.value
_MANUAL_CRED_VALIDATION: Final = ISC_RET.MANUAL_CRED_VALIDATION.value
_USED_SUPPLIED_CREDS: Final = ISC_RET.USED_SUPPLIED_CREDS.value
_ISC_ANYTIME: Final = (ISC_REQ.CONNECTION | ISC_REQ.STREAM | ISC_REQ.EXTENDED_ERROR).value
_ISC_BY_TLS: Final = (
    ISC_REQ.CONFIDENTIALITY
    | ISC_REQ.INTEGRITY
    | ISC_REQ.SEQUENCE_DETECT
    | ISC_REQ.REPLAY_DETECT
    | ISC_REQ.USE_SESSION_KEY
).value
_ASC_ANYTIME: Final = (ASC_REQ.CONNECTION | ASC_REQ.STREAM | ASC_REQ.EXTENDED_ERROR).value
_ASC_BY_TLS: Final = (
    ASC_REQ.CONFIDENTIALITY
    | ASC_REQ.INTEGRITY
    | ASC_REQ.SEQUENCE_DETECT
    | ASC_REQ.REPLAY_DETECT
    | ASC_REQ.USE_SESSION_KEY
).value


class EstablishState(ContextState):
    """A context from its first call on.

    Args:
        credential: What it was made from.
        context: The engine's.
    """

    tell_peer: bool
    """Whether a failure hands out what the peer should be sent."""

    def __init__(self, credential: CredentialState, context: SecurityContext) -> None:
        super().__init__()
        self.credential = credential
        self.context = context
        self.chosen: CredentialState | None = None
        """What brought the client's certificate: from then on it serves as well as `credential`."""
        self.unfinished = Unfinished()
        """What the calls so far leave to the next one."""
        self.over = False
        """Whether a call is no step of the handshake any more: it has succeeded, or `shutdown`."""
        self.shutdown = False
        """Whether ApplyControlToken asked for close_notify."""
        self.choosing: ChooseCertificate | None = None
        """The request for a client certificate that waits for another credential."""
        self.started = False
        """Whether the first call has been made."""
        self._said_goodbye = False
        """Whether the close_notify of a context that has failed has been handed out."""

    def attributes(self, *, allocated: bool = False) -> ISC_RET | ASC_RET:
        """Return what the context has: what matters to security only where it was established (R54, R83).

        A status cannot tell: a shutdown succeeds on a context that failed, too. `allocated` is whether this call's
        output was.
        """
        raise NotImplementedError

    @property
    def principal(self) -> str:
        """Who logs on: domain, backslash, user; empty while a server does not know."""
        raise NotImplementedError

    @property
    def expiry(self) -> TimeStamp:
        """When the context ends: with the Kerberos ticket that logged on; neither NTLM nor TLS ends it by the clock."""
        return TimeStamp.of_end(self.context.handshake.mechanism.ends)

    @property
    def established(self) -> bool:
        """Whether the last call of ISC or ASC succeeded."""
        return self.context.state is State.ESTABLISHED

    # A step waits for nothing. Most calls are one step: it is the whole call unless it left an `event`, or input in
    # `unfinished.rest`.

    def step(self, data: bytes) -> StepResult:
        """Take whole records from the front of the input. Where that is not all, call `answer` next.

        Raises:
            CredSSPError: The handshake failed; `context.farewell` is for the peer.
        """
        self.started = True
        unfinished = self.unfinished
        received = unfinished.begin(data)
        result = self.context.step(received)
        unfinished.leave(received, result.extra)
        if result.status is _OK:
            self._note_established()
        return result

    def choose(self, answer: ssl.SSLContext | None, data: bytes) -> StepResult:
        """Go on after SEC_I_INCOMPLETE_CREDENTIALS, with the same input or with what was not taken of it (R96).

        Raises:
            CredSSPError: As for `step`.
        """
        choosing = self.choosing
        assert choosing is not None
        self.unfinished.go_on(data)
        self.unfinished.taken, self.choosing = b"", None
        return self.context.resume(choosing, answer)

    def ask_again(self, data: bytes) -> StepResult:
        """Answer SEC_I_INCOMPLETE_CREDENTIALS once more: what came is as good as none. The input is as for `choose`."""
        self.unfinished.go_on(data)
        return StepResult(SecurityStatus.SEC_I_INCOMPLETE_CREDENTIALS, event=self.choosing)

    async def answer(self, result: StepResult, data: bytes) -> StepResult:
        """Answer what the engine asks until there is something for the peer, or nothing to do without him.

        Args:
            result: Of `step` or `choose`.
            data: The input they were given.

        Raises:
            CredSSPError: As for `step`.
        """
        answer: Any = None
        try:
            while True:
                while (event := result.event) is not None:
                    if isinstance(event, ChooseCertificate) and self._must_choose(event):
                        self.unfinished.stop(data)
                        return result
                    answer = self._answer(event)
                    if isinstance(answer, Pending):
                        answer = await answer
                    result = self.context.resume(event, answer)
                if result.status is _OK:
                    self._note_established()
                    return result
                if result.output or result.missing or not self.unfinished.rest:
                    return result
                result = self._step_rest()
                if result.status is SecurityStatus.SEC_E_INCOMPLETE_MESSAGE:
                    return StepResult(SecurityStatus.SEC_I_CONTINUE_NEEDED)  # of the rest: the call took something
        finally:
            del answer, data  # a coroutine's variables are kept with an error, and these may be a key and a token

    def _step_rest(self) -> StepResult:
        """Take what was left of the input: an answer made room for the records behind it."""
        rest = self.unfinished.rest
        result = self.context.step(rest)
        self.unfinished.leave(rest, result.extra)
        return result

    def fail(self, error: CredSSPError) -> None:
        """End the context for good."""
        self.context.fail(error)
        self.over = self.shutdown  # the next call is a step, and raises `error`

    def dispose(self) -> None:
        """Drop engine, TLS and secrets too; no other method may be called afterwards."""
        super().dispose()
        del self.context, self.credential
        self.chosen = None
        self.unfinished.forget()

    def answers(self) -> bytes:
        """Return what TLS has to say for itself, to a key update for one; see `messages`."""
        if self.context.tls is None:
            return b""
        self.context.tls.answer()
        return self.context.tls.output()

    def close_notify(self) -> bytes:
        """Return the record that ends our direction; empty when it is out already, and in the bare shape."""
        tls = self.context.tls
        if tls is None:
            return b""
        if not tls.closed:
            tls.close()
            return tls.output()
        # One that has failed has made it already, behind an errorCode that was handed out without it.
        behind = b"" if self._said_goodbye else self.context.farewell[len(self.context.last_token) :]
        self._said_goodbye = True
        return behind

    def _note_established(self) -> None:
        """Keep what outlasts the handshake."""
        self.over = True

    def _must_choose(self, event: ChooseCertificate) -> bool:
        """Whether the caller has to bring another credential first: a client's alone."""
        raise NotImplementedError

    def _answer(self, event: Event) -> Pending | object:
        raise NotImplementedError


class InitiatorState(EstablishState):
    """A client's context.

    Args:
        credential: OUTBOUND.
        config: Its own, or one with the credentials that the caller supplied.
        context: The engine's, which stops for certificate, delegation and client certificate.
        target: Whom the caller wants to reach.
        flags: What the caller asked for in the first call: `ISC_REQ` bits.
    """

    def __init__(
        self,
        credential: CredentialState,
        config: ClientConfig,
        context: SecurityContext,
        target: Target,
        flags: int,
    ) -> None:
        super().__init__(credential, context)
        self.target = target
        self.flags: Final = flags
        self.tell_peer = bool(flags & _EXTENDED_ERROR)
        self._judgement: Judgement | None = None
        """On the server's certificate; None until it was judged, and where the policy takes any unseen."""
        self.chain: tuple[bytes, ...] = ()
        """The server's certificates in DER, its own first; empty until they were judged."""
        self.authorities: tuple[bytes, ...] = ()
        """Names in DER of whose client certificates the server takes."""
        self._config = config

    def bind(self, certificate: bytes) -> None:
        """Bare shape: take the certificate (DER) of the server whose TLS the caller runs."""
        key = subject_public_key(certificate)
        self._note_chain((certificate,))
        self.context.bind(key, certified=self.verdict is Verdict.TRUSTED)

    def dispose(self) -> None:
        """Drop the credentials too: the caller may have supplied some for this context alone."""
        super().dispose()
        del self._config

    @property
    def verdict(self) -> Verdict:
        """On the server's certificate; UNTRUSTED until it was judged."""
        return self._judgement.verdict if self._judgement is not None else Verdict.UNTRUSTED

    @property
    def principal(self) -> str:
        """Who logs on."""
        who = self._config.authenticate
        return logon_name(who.domain, who.user)

    @property
    def server_auth(self) -> ServerAuth:
        """What authenticates the server: a trusted certificate for the target's name, Kerberos."""
        assert isinstance(self.context.handshake, ClientHandshake)
        return self.context.handshake.server_auth

    def attributes(self, *, allocated: bool = False) -> ISC_RET:
        """Return what the context has; DELEGATE and MUTUAL_AUTH only where they came true."""
        granted = self.flags & _ISC_ANYTIME | _MANUAL_CRED_VALIDATION
        if self._config is not self.credential.client:
            granted |= _USED_SUPPLIED_CREDS
        if allocated:
            granted |= _ALLOCATED_MEMORY
        if not self.established:
            return ISC_RET(granted)
        if self.context.tls is not None:
            granted |= self.flags & _ISC_BY_TLS
        if self.context.handshake.delegated is not DelegatedKind.NOTHING:
            granted |= _DELEGATE
        if self.server_auth:
            granted |= _MUTUAL_AUTH
        return ISC_RET(granted)

    def _note_established(self) -> None:
        super()._note_established()
        if self.chosen is not None and self.chosen is not self.credential:
            return  # the session is of another handle's certificate, which no later context of this one may show
        if self.context.tls is not None and self._config.policy.tls_resumption:
            sessions.keep(self.credential, self.target, self.context.tls)

    def _must_choose(self, event: ChooseCertificate) -> bool:
        self.authorities = event.authorities
        if self.credential.certificate_for(event.authorities) is not None:
            return False
        self.choosing = event
        return True

    def _answer(self, event: Event) -> Pending | object:
        if isinstance(event, JudgeCertificate):
            self._note_chain(event.chain)
            return self.verdict is _TRUSTED
        if isinstance(event, Delegate):
            configs = self._configs
            return self._config.decide(
                event,
                delegate=bool(self.flags & _DELEGATE),
                mutual_auth=bool(self.flags & _MUTUAL_AUTH) or any(config.mutual_auth for config in configs),
                certificate=_TRUSTED_NAME if self.verdict is _TRUSTED else self.verdict.name.lower(),
                judgement=self._judgement,
                by_name=any(config.trusts_by_name for config in configs),
            )
        if isinstance(event, ChooseCertificate):
            return self.credential.certificate_for(event.authorities)
        return ClientAnswers(self._config, self.target.host)(event)

    @property
    def _configs(self) -> list[ClientConfig]:
        """What the credentials say that the caller has given: the first handle's, and another one's that was chosen."""
        chosen = self.chosen
        if chosen is None or chosen is self.credential or chosen.client is None:
            return [self._config]
        return [self._config, chosen.client]

    def _note_chain(self, chain: tuple[bytes, ...]) -> None:
        """Judge the server's certificates: every trust that the caller named must say yes, or else the default one."""
        self.chain = chain
        configs = self._configs
        for config in [config for config in configs if config.trusts_by_name] or configs[:1]:
            self._judgement = config.judgement_of(chain, self.target.host, _OPTION_NAMES)
            if self.verdict is not _TRUSTED:
                return


class AcceptorState(EstablishState):
    """A server's context.

    Args:
        credential: INBOUND.
        context: The engine's.
        flags: What the caller asked for in the first call: `ASC_REQ` bits.
    """

    tell_peer = True  # an errorCode or an alert costs nothing and tells the client why

    def __init__(self, credential: CredentialState, context: SecurityContext, flags: int) -> None:
        super().__init__(credential, context)
        assert credential.server is not None
        self.flags: Final = flags
        self._credentials: TSCredentials | None = None
        self._answers = ServerAnswers(credential.server, context, None, None)  # the caller takes what time it wants

    def dispose(self) -> None:
        """Overwrite and drop what the client delegated, too."""
        super().dispose()
        if self._credentials is not None:
            self._credentials.zero()
            self._credentials = None
        del self._answers

    @property
    def principal(self) -> str:
        """Who logged on."""
        principal = self.context.info.principal
        return str(principal) if principal is not None else ""

    @property
    def credentials(self) -> TSCredentials | None:
        """What the client delegated: taken from the engine once, and kept until the context is deleted."""
        if self._credentials is None:
            self._credentials = self.context.take_credentials()
        return self._credentials

    def attributes(self, *, allocated: bool = False) -> ASC_RET:
        """Return what the context has; DELEGATE only where credentials came, MUTUAL_AUTH only where both are proven.

        A server knows that of Kerberos alone: NTLM proves no server, and what the client made of the certificate it
        does not say.
        """
        granted = self.flags & _ASC_ANYTIME
        if allocated:
            granted |= _ALLOCATED_MEMORY
        if not self.established:
            return ASC_RET(granted)
        if self.context.handshake.mechanism.authenticates_server:
            granted |= _MUTUAL_AUTH
        if self.context.tls is not None:
            granted |= self.flags & _ASC_BY_TLS
        if self.context.handshake.delegated is not DelegatedKind.NOTHING:
            granted |= _DELEGATE
        return ASC_RET(granted)

    def _answer(self, event: Event) -> Pending | object:
        return self._answers(event)


def established(state: ContextState) -> EstablishState:
    """Return the state of an established context.

    Raises:
        LocalProtocolError: SEC_E_INVALID_HANDLE: it is not (Q2, D15).
    """
    if isinstance(state, EstablishState) and state.established:
        return state
    failed = isinstance(state, EstablishState) and state.context.state is State.FAILED
    raise refusal(
        "the context has failed" if failed else "the context is not established", SecurityStatus.SEC_E_INVALID_HANDLE
    )
