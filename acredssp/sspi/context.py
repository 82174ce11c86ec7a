"""The state behind a CtxtHandle: one security context of the engine, driven one call at a time.

The engine stops for events, and this module answers them within the call. The caller's choices on Microsoft's pages
(which flags, which certificate, what to delegate) become the answers to events:

    JudgeCertificate    the verdict is noted; an untrusted certificate alone does not end the handshake (R23, R24)
    ChooseCertificate   the credentials' certificate, or SEC_I_INCOMPLETE_CREDENTIALS (R64, R95, R96)
    Delegate            nothing is delegated without ISC_REQ_DELEGATE (R29); refused if MUTUAL_AUTH was asked for and
                        not achieved (R70), or if the delegation policy forbids it (R32, R68, R69)
    a server's events   the hooks of its `ServerConfig` answer them

`steps`, `messages` and `attributes` call this module.
"""

import ssl
from typing import Any, Final

from acredssp.aio.answers import ClientAnswers, ServerAnswers
from acredssp.aio.driver import Pending
from acredssp.certificates.judgement import OptionNames
from acredssp.config import ClientConfig
from acredssp.core.client import ClientHandshake
from acredssp.core.context import SecurityContext
from acredssp.core.events import ChooseCertificate, Delegate, Event, JudgeCertificate
from acredssp.core.results import StepResult
from acredssp.core.states import State
from acredssp.credentials import DelegatedKind
from acredssp.delegation import ServerAuth
from acredssp.errors import CredSSPError
from acredssp.names import logon_name
from acredssp.sspi.arguments import refusal
from acredssp.sspi.flags import ASC_REQ, ASC_RET, ISC_REQ, ISC_RET
from acredssp.sspi.handles import ContextState, CredentialState, CredHandle, CtxtHandle, TimeStamp, Use
from acredssp.sspi.session_cache import sessions
from acredssp.sspi.target import Target
from acredssp.sspi.unfinished import Unfinished
from acredssp.status import SecurityStatus
from acredssp.trust import Judgement, Verdict
from acredssp.wire.ts_credentials import TSCredentials
from acredssp.wire.x509 import subject_public_key

__all__ = ["AcceptorState", "EstablishState", "InitiatorState", "established"]

# Every call needs these: looking up a member of an enum takes longer than using it, and its name costs Python calls.
_OK: Final = SecurityStatus.SEC_E_OK
_ESTABLISH: Final = Use.ESTABLISH.value
_TRUSTED: Final = Verdict.TRUSTED
_TRUSTED_NAME: Final = Verdict.TRUSTED.name.lower()
_OPTION_NAMES: Final = OptionNames(
    name="pszTargetName",
    authority="hRootStore=Trust.from_file(...)",
    pin="hRootStore=Trust.pinned(...)",
    weak="hRootStore=Trust(dangerous_allow_weak_certificates=True, ...)",
)

# These are plain integers: an operator or `in` of an IntFlag is a Python call, and costs some ten times as much.
_DELEGATE: Final = ISC_REQ.DELEGATE.value  # the first three have the same value in all four families
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
    """The state of a context from its first call on.

    Args:
        credential: The credentials from which the context was made.
        context: The engine's context.
    """

    # Few contexts change these, so they cost nothing where they are not changed.
    chosen: CredentialState | None = None
    """The credentials that gave the client's certificate; from then on, they are as good as `credential`."""
    over = False
    """Whether calls are no longer steps of the handshake, after its success or after `shutdown`."""
    shutdown = False
    """Whether ApplyControlToken asked for close_notify."""
    choosing: ChooseCertificate | None = None
    """The request for a client certificate that waits for another credential."""
    started = False
    """Whether the bare shape's first call has been made."""
    pending: Pending | None = None
    """The answer to the engine's event that takes time; None while there is none."""
    _said_goodbye = False
    """Whether the close_notify of a context that has failed has been handed out."""

    def __init__(self, credential: CredentialState, context: SecurityContext) -> None:
        super().__init__()
        self.credential = credential
        self.context = context
        self.unfinished = Unfinished()
        """The input and the token that earlier calls leave to the next one."""
        self.usual = context.tls is not None

    def attributes(self, *, allocated: bool = False) -> ISC_RET | ASC_RET:
        """Return the attributes of the context; those that matter to security only if it is established (R54, R83).

        A call's status cannot show that, since a shutdown also succeeds on a context that has failed.

        Args:
            allocated: Whether the package allocated this call's output.
        """
        raise NotImplementedError

    @property
    def tell_peer(self) -> bool:
        """Whether a call that fails also returns a token, which tells the peer of the failure."""
        raise NotImplementedError

    @property
    def principal(self) -> str:
        """The user who logs on, as domain, backslash, user; empty while a server does not know the user."""
        raise NotImplementedError

    @property
    def expiry(self) -> TimeStamp:
        """When the context expires: at the end of its Kerberos ticket, or never where no ticket sets an end."""
        return TimeStamp.of_end(self.context.handshake.mechanism.ends)

    @property
    def established(self) -> bool:
        """Whether the last call of ISC or ASC succeeded."""
        return self.context.state is State.ESTABLISHED

    # A step never waits. Most calls are one step. If the step leaves an `event`, or input in `unfinished.rest`, the
    # call goes on with `answer`.

    def hold_for_step(self, phCredential: CredHandle | None, phNewContext: CtxtHandle | None) -> bool:
        """Hold the context for a call that makes one step of the handshake and nothing else.

        Args:
            phCredential: The credentials that the call gives.
            phNewContext: The handle that is to stand for the context.

        Returns:
            True if the context is held. False, with nothing changed, if the call has to do more than that, if another
            call uses the context, or if the credentials are not those of the first call.
        """
        with self.entry:
            if not self.usual or self.in_use:
                return False
            credential = self.credential
            if phCredential is not None and not (phCredential.referent is credential and credential.alive):
                return False
            self.in_use = _ESTABLISH
        if phNewContext is not None:
            phNewContext.referent = self
        return True

    @property
    def has_unfinished(self) -> bool:
        """Whether the next call is more than a step of the handshake, in a context that no call uses."""
        unfinished = self.unfinished
        return bool(
            self.over
            or unfinished.surplus
            or unfinished.unsent is not None
            or self.choosing is not None
            or self.context.tls is None
        )

    def step(self, data: bytes) -> StepResult:
        """Take whole records from the front of the input. If that leaves an event or input, call `answer` next.

        Raises:
            CredSSPError: The handshake failed; `context.farewell` is for the peer.
        """
        self.started = True
        unfinished = self.unfinished
        received = unfinished.begin(data)
        result = self.context.step(received)
        unfinished.leave(received, result.extra)
        if result.status is _OK:
            self.note_established()
        return result

    def go_on(self, result: StepResult, data: bytes) -> StepResult:
        """Answer the engine's events after a usual call's step.

        The context is not `usual` any more if `answer` has to go on with the result that this returns.

        Args:
            result: The result of the step.
            data: The input of the step.

        Raises:
            CredSSPError: As for `step`.
        """
        extra = result.extra
        if not extra:
            result = self.answer_at_once(result)
        if extra or result.event is not None:
            self.usual = False
            self.unfinished.begin(data)
            self.unfinished.leave(data, extra)
        return result

    def choose(self, answer: ssl.SSLContext | None, data: bytes) -> StepResult:
        """Go on after SEC_I_INCOMPLETE_CREDENTIALS, with the same input or with the part that was not taken (R96).

        Raises:
            CredSSPError: As for `step`.
        """
        choosing = self.choosing
        assert choosing is not None
        self.unfinished.go_on(data)
        self.unfinished.taken, self.choosing = b"", None
        return self.context.resume(choosing, answer)

    def ask_again(self, data: bytes) -> StepResult:
        """Return SEC_I_INCOMPLETE_CREDENTIALS again, for a certificate of no use. The input is as for `choose`."""
        self.unfinished.go_on(data)
        return StepResult(SecurityStatus.SEC_I_INCOMPLETE_CREDENTIALS, event=self.choosing)

    async def answer(self, result: StepResult, data: bytes) -> StepResult:
        """Answer the engine's events until there are bytes for the peer, or bytes of the peer are needed.

        Args:
            result: The result of `step` or `choose`.
            data: The input of that call.

        Raises:
            CredSSPError: As for `step`.
        """
        try:
            while True:
                while result.event is not None:
                    if self.pending is not None:
                        pending, self.pending = self.pending, None
                        # The answer may be a key. It is kept in no variable, since an error keeps a coroutine's.
                        result = self.context.resume(result.event, await pending)  # type: ignore[misc] # any type
                    else:
                        result = self.answer_at_once(result)
                    if self.choosing is not None:
                        self.unfinished.stop(data)
                        return result
                if result.status is _OK:
                    self.note_established()
                    return result
                if result.output or result.missing or not self.unfinished.rest:
                    return result
                result = self._step_rest()
                if result.status is SecurityStatus.SEC_E_INCOMPLETE_MESSAGE:
                    return StepResult(SecurityStatus.SEC_I_CONTINUE_NEEDED)  # only the rest is incomplete
        finally:
            del data  # an error keeps a coroutine's variables, and this is a token

    def answer_at_once(self, result: StepResult) -> StepResult:
        """Answer the engine's events until it asks nothing more, or until `answer` has to go on.

        That is where the result still has an event: its answer takes time (`pending`), or is the caller's (`choosing`).

        Raises:
            CredSSPError: As for `step`.
        """
        while (event := result.event) is not None:
            if isinstance(event, ChooseCertificate) and self._must_choose(event):
                return result
            answer: Any = self._answer(event)
            if isinstance(answer, Pending):
                self.pending = answer
                return result
            result = self.context.resume(event, answer)
        return result

    def _step_rest(self) -> StepResult:
        """Take the rest of the input, which had to wait for an answer."""
        rest = self.unfinished.rest
        result = self.context.step(rest)
        self.unfinished.leave(rest, result.extra)
        return result

    def fail(self, error: CredSSPError) -> None:
        """End the context for good."""
        self.context.fail(error)
        self.over = self.shutdown  # without a shutdown, the next call is a step and raises `error`

    def dispose(self) -> None:
        """Drop the engine, TLS and secrets; no other method may be called afterwards."""
        super().dispose()
        del self.context, self.credential
        self.chosen = None
        self.unfinished.forget()

    def answers(self) -> bytes:
        """Return bytes that TLS itself has to send, such as the answer to a key update; see `messages`."""
        if self.context.tls is None:
            return b""
        self.context.tls.answer()
        return self.context.tls.output()

    def close_notify(self) -> bytes:
        """Return the record that ends our direction; empty if it was given out already, and in the bare shape."""
        tls = self.context.tls
        if tls is None:
            return b""
        if not tls.closed:
            tls.close()
            return tls.output()
        # A context that has failed has made its close_notify already, behind an errorCode that was given out alone.
        behind = b"" if self._said_goodbye else self.context.farewell[len(self.context.last_token) :]
        self._said_goodbye = True
        return behind

    def note_established(self) -> None:
        """Note that the handshake has succeeded."""
        self.usual, self.over = False, True

    def _must_choose(self, event: ChooseCertificate) -> bool:
        """Return whether the caller has to bring another credential first; only a client's caller may have to."""
        raise NotImplementedError

    def _answer(self, event: Event) -> Pending | object:
        raise NotImplementedError


class InitiatorState(EstablishState):
    """A client's context.

    Args:
        credential: OUTBOUND credentials.
        config: The credentials' configuration, or one with the credentials that the caller supplied.
        context: The engine's context, which stops for certificate, delegation and client certificate.
        target: The target that the caller named.
        flags: The `ISC_REQ` bits of the first call.
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
        self._config = config

    chain: tuple[bytes, ...] = ()
    """The server's certificates in DER, its own first; empty until they were judged."""
    authorities: tuple[bytes, ...] = ()
    """The names in DER of the authorities whose client certificates the server accepts."""
    _judgement: Judgement | None = None
    """The judgement on the server's certificate; None until it is judged, or if the policy accepts any."""

    @property
    def tell_peer(self) -> bool:
        """Whether the caller asked for the bytes that tell the peer."""
        return self.flags & _EXTENDED_ERROR != 0

    def bind(self, certificate: bytes) -> None:
        """In the bare shape, take the certificate (DER) of the server, whose TLS the caller runs."""
        key = subject_public_key(certificate)
        self._note_chain((certificate,))
        self.context.bind(key, certified=self.verdict is Verdict.TRUSTED)

    def dispose(self) -> None:
        """Also drop the credentials, which the caller may have supplied for this context alone."""
        super().dispose()
        del self._config

    @property
    def verdict(self) -> Verdict:
        """The verdict on the server's certificate; UNTRUSTED until it is judged."""
        return self._judgement.verdict if self._judgement is not None else Verdict.UNTRUSTED

    @property
    def principal(self) -> str:
        """The user who logs on."""
        who = self._config.authenticate
        return logon_name(who.domain, who.user)

    @property
    def server_auth(self) -> ServerAuth:
        """What authenticates the server: a trusted certificate for the target's name, Kerberos, both or neither."""
        assert isinstance(self.context.handshake, ClientHandshake)
        return self.context.handshake.server_auth

    def attributes(self, *, allocated: bool = False) -> ISC_RET:
        """Return the attributes of the context; DELEGATE and MUTUAL_AUTH only if they were achieved."""
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

    def note_established(self) -> None:
        """Also keep the TLS session, if a later context may resume it."""
        super().note_established()
        if self.chosen is not None and self.chosen is not self.credential:
            return  # the session shows another handle's certificate, so no later context of this handle may resume it
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
            config, verdict = self._config, self.verdict
            chosen = self._chosen_config or config
            return config.decide(
                event,
                delegate=self.flags & _DELEGATE != 0,
                mutual_auth=self.flags & _MUTUAL_AUTH != 0 or config.mutual_auth or chosen.mutual_auth,
                certificate=_TRUSTED_NAME if verdict is _TRUSTED else verdict.name.lower(),
                judgement=self._judgement,
                by_name=config.trusts_by_name or chosen.trusts_by_name,
            )
        if isinstance(event, ChooseCertificate):
            return self.credential.certificate_for(event.authorities)
        return ClientAnswers(self._config, self.target.host)(event)

    @property
    def _chosen_config(self) -> ClientConfig | None:
        """The configuration of credentials that the caller chose beside the first handle's; None without any."""
        chosen = self.chosen
        return chosen.client if chosen is not None and chosen is not self.credential else None

    def _note_chain(self, chain: tuple[bytes, ...]) -> None:
        """Judge the server's certificates: every trust that the caller named must accept them, or else the default."""
        self.chain = chain
        config, chosen = self._config, self._chosen_config
        judges = [config]
        if chosen is not None and chosen.trusts_by_name:
            judges = [config, chosen] if config.trusts_by_name else [chosen]
        for judge in judges:
            self._judgement = judge.judgement_of(chain, self.target.host, _OPTION_NAMES)
            if self.verdict is not _TRUSTED:
                return


class AcceptorState(EstablishState):
    """A server's context.

    Args:
        credential: INBOUND credentials.
        context: The engine's context.
        flags: The `ASC_REQ` bits of the first call.
    """

    def __init__(self, credential: CredentialState, context: SecurityContext, flags: int) -> None:
        super().__init__(credential, context)
        assert credential.server is not None
        self.flags: Final = flags
        self._answers = ServerAnswers(credential.server, context, None, None)  # the caller sets no deadline

    _credentials: TSCredentials | None = None
    """The delegated credentials, once they were taken from the engine."""

    @property
    def tell_peer(self) -> bool:
        """True, since an errorCode or an alert costs nothing, and tells the client the reason."""
        return True

    def dispose(self) -> None:
        """Also overwrite and drop the delegated credentials."""
        super().dispose()
        if self._credentials is not None:
            self._credentials.zero()
            self._credentials = None
        del self._answers

    @property
    def principal(self) -> str:
        """The user who logged on."""
        principal = self.context.info.principal
        return str(principal) if principal is not None else ""

    @property
    def credentials(self) -> TSCredentials | None:
        """The delegated credentials; they are taken from the engine once, and kept until the context is deleted."""
        if self._credentials is None:
            self._credentials = self.context.take_credentials()
        return self._credentials

    def attributes(self, *, allocated: bool = False) -> ASC_RET:
        """Return the attributes; DELEGATE only if credentials came, MUTUAL_AUTH only if both sides are proven.

        A server knows this only with Kerberos: NTLM does not prove a server, and the client does not say whether it
        trusts the certificate.
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
        LocalProtocolError: SEC_E_INVALID_HANDLE: the context is not established (Q2, D15).
    """
    if isinstance(state, EstablishState) and state.established:
        return state
    failed = isinstance(state, EstablishState) and state.context.state is State.FAILED
    raise refusal(
        "the context has failed" if failed else "the context is not established", SecurityStatus.SEC_E_INVALID_HANDLE
    )
