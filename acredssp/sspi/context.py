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
from acredssp.sspi.handles import ContextState, CredentialState, TimeStamp
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

    tell_peer: bool
    """Whether the call that fails gives out the bytes that tell the peer."""

    def __init__(self, credential: CredentialState, context: SecurityContext) -> None:
        super().__init__()
        self.credential = credential
        self.context = context
        self.chosen: CredentialState | None = None
        """The credentials that gave the client's certificate; from then on, they are as good as `credential`."""
        self.unfinished = Unfinished()
        """The input and the token that earlier calls leave to the next one."""
        self.over = False
        """Whether calls are no longer steps of the handshake, after its success or after `shutdown`."""
        self.shutdown = False
        """Whether ApplyControlToken asked for close_notify."""
        self.choosing: ChooseCertificate | None = None
        """The request for a client certificate that waits for another credential."""
        self.started = False
        """Whether the first call has been made."""
        self._said_goodbye = False
        """Whether the close_notify of a context that has failed has been handed out."""

    def attributes(self, *, allocated: bool = False) -> ISC_RET | ASC_RET:
        """Return the attributes of the context; those that matter to security only if it is established (R54, R83).

        A call's status cannot show that, since a shutdown also succeeds on a context that has failed.

        Args:
            allocated: Whether the package allocated this call's output.
        """
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
            self._note_established()
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
                    return StepResult(SecurityStatus.SEC_I_CONTINUE_NEEDED)  # only the rest is incomplete
        finally:
            del answer, data  # an error keeps a coroutine's variables, and these may be a key and a token

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

    def _note_established(self) -> None:
        """Note that the handshake has succeeded."""
        self.over = True

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
        self.tell_peer = bool(flags & _EXTENDED_ERROR)
        self._judgement: Judgement | None = None
        """The judgement on the server's certificate; None until it is judged, or if the policy accepts any."""
        self.chain: tuple[bytes, ...] = ()
        """The server's certificates in DER, its own first; empty until they were judged."""
        self.authorities: tuple[bytes, ...] = ()
        """The names in DER of the authorities whose client certificates the server accepts."""
        self._config = config

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

    def _note_established(self) -> None:
        super()._note_established()
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
        """The configurations of the credentials that the caller gave: the first handle's, and a chosen one's."""
        chosen = self.chosen
        if chosen is None or chosen is self.credential or chosen.client is None:
            return [self._config]
        return [self._config, chosen.client]

    def _note_chain(self, chain: tuple[bytes, ...]) -> None:
        """Judge the server's certificates: every trust that the caller named must accept them, or else the default."""
        self.chain = chain
        configs = self._configs
        for config in [config for config in configs if config.trusts_by_name] or configs[:1]:
            self._judgement = config.judgement_of(chain, self.target.host, _OPTION_NAMES)
            if self.verdict is not _TRUSTED:
                return


class AcceptorState(EstablishState):
    """A server's context.

    Args:
        credential: INBOUND credentials.
        context: The engine's context.
        flags: The `ASC_REQ` bits of the first call.
    """

    tell_peer = True  # an errorCode or an alert costs nothing, and tells the client the reason

    def __init__(self, credential: CredentialState, context: SecurityContext, flags: int) -> None:
        super().__init__(credential, context)
        assert credential.server is not None
        self.flags: Final = flags
        self._credentials: TSCredentials | None = None
        self._answers = ServerAnswers(credential.server, context, None, None)  # the caller sets no deadline

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
