"""One configuration a side: policy, credentials and everything costly, made once and shared by all connections.

Frozen; `dataclasses.replace()` derives a changed copy, and a plain copy is the configuration itself. A configuration
makes fresh security contexts for any face of the engine: the asyncio functions, the SSPI functions, a loop of the
user's own.
"""

import dataclasses
import datetime as dt
import functools
import logging
import ssl
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

from acredssp import tls_config
from acredssp.arguments import expect, expect_callable, expect_host_name, expect_target_name
from acredssp.certificates.judgement import OptionNames
from acredssp.core.client import ClientHandshake
from acredssp.core.context import SecurityContext
from acredssp.core.delegated import DELEGABLE, EMPTY_CREDENTIALS, as_sent
from acredssp.core.events import ChooseCertificate, Delegate, Event, JudgeCertificate, StepMechanism
from acredssp.core.own_certificate import own_public_key, present
from acredssp.core.server import ServerHandshake
from acredssp.core.server_name import note_server_name
from acredssp.core.tls import BIOPair, TLSSession, session_with_ticket
from acredssp.core.turns import TurnTakingContext
from acredssp.credentials import Credential, Keytab, Nothing, NTHash, Password, RemoteGuard, SmartCard, TicketCache
from acredssp.delegation import (
    CredentialClass,
    DelegatedKind,
    DelegationDecision,
    DelegationPolicy,
    DelegationRequest,
    ServerAuth,
)
from acredssp.errors import CertificateError
from acredssp.hooks import AdmitHook, AuthorizeHook, LookupHook
from acredssp.logs import get_logger
from acredssp.mechanisms.choice import AcceptorChoice, InitiatorChoice
from acredssp.mechanisms.ntlm.acceptor import NTLMIdentity
from acredssp.policy import Policy
from acredssp.status import SecurityStatus
from acredssp.trust import Judgement, Trust, Verdict
from acredssp.wire.ts_credentials import TSCredentials

__all__ = ["ClientConfig", "NTLMIdentity", "ServerConfig"]

_audit = get_logger("acredssp.audit")
"""One line for each decision about delegation, at level INFO: JSON, and `record.delegation` is the decision itself."""

_Decide: TypeAlias = Callable[[str, ServerAuth, DelegatedKind, bool, bool, str, str, int], DelegationDecision]
"""The delegation policy as a function of what a connection brings, in the order of `_decision`."""

_DECISIONS: Final = 128
"""Decisions that a configuration remembers: every logon to a server comes to the same one, and to work it out anew
takes 39,000 instructions."""

_FOR_WANT_OF_PROOF: Final = frozenset({SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED, SecurityStatus.SEC_E_POLICY_NLTM_ONLY})
"""What a server is refused that nothing but NTLM authenticates."""

_NEUTRAL_IDENTITY: Final = NTLMIdentity("ACREDSSP")
"""Everybody may read a challenge, so by default it does not tell the machine's name."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """How a client logs on, anywhere.

    Attributes:
        authenticate: What proves who we are.
        delegate: What the server is given once it has proven its key; None for the same password, and for `Nothing`
            when we authenticate without one. It may name somebody else ([MS-CSSP] 2.2.1.2). `RemoteGuard` takes a logon
            by Kerberos, and leaves no second choice.
        delegation: Who may be given that, in Windows' words; as there, everybody of whom the SPN is `TERMSRV/...` and
            nobody else, unless it says so. Its AllowEncryptionOracle goes into `policy`.
        credential_class: Where what is delegated comes from: which of the delegation policy's lists are for it.
        mutual_auth: Whether a logon ends, before anything is delegated, on a server that neither a trusted certificate
            nor Kerberos authenticates. Only with `Policy.dangerous_accept_any_certificate` does a logon come that far
            without.
        policy: The rules for versions, TLS, mechanisms and times.
        trust: Whom we believe; None for the operating system's authorities. It stays None then, also in copies, so that
            a configuration knows whether its caller named somebody. Whoever names somebody here cannot accept any
            certificate by the policy: that is a ValueError.
        ssl_context: None for one that the policy describes. Another one's own verification comes on top of `trust`.
        workstation: Our name, for the server's log (NTLM's Workstation).
    """

    authenticate: Credential
    delegate: Password | SmartCard | RemoteGuard | Nothing | TSCredentials | None = None
    delegation: DelegationPolicy = dataclasses.field(default_factory=DelegationPolicy)
    credential_class: CredentialClass = CredentialClass.FRESH
    mutual_auth: bool = False
    policy: Policy = dataclasses.field(default_factory=Policy)
    trust: Trust | None = None
    ssl_context: ssl.SSLContext | None = None
    workstation: str = ""
    _trust: Trust | None = dataclasses.field(init=False, repr=False, compare=False)
    """What judges certificates: `trust`, or that of the operating system; None where the policy takes any."""
    _choice: InitiatorChoice = dataclasses.field(init=False, repr=False, compare=False)
    """What logs on."""
    _delegated: TSCredentials | RemoteGuard = dataclasses.field(init=False, repr=False, compare=False)
    """What goes over if the policy allows it."""
    _decision: _Decide = dataclasses.field(init=False, repr=False, compare=False)
    """What the policy says to a server: a function of nothing else, so the latest decisions are remembered."""

    def __post_init__(self) -> None:
        self._check()
        decision = functools.partial(_decision, self.delegation, self.credential_class)
        object.__setattr__(self, "_decision", functools.lru_cache(_DECISIONS)(decision))
        object.__setattr__(self, "policy", self.delegation.for_client(self.policy))
        object.__setattr__(self, "_delegated", self._restricted(as_sent(self._wanted)))
        guard = self._delegated if isinstance(self._delegated, RemoteGuard) else None
        choice = InitiatorChoice(self.authenticate, self.policy, workstation=self.workstation, guard=guard)
        object.__setattr__(self, "_choice", choice)
        if self.ssl_context is None:
            object.__setattr__(self, "ssl_context", tls_config.client_context(self.policy))
        any_certificate = self.trust is None and self.policy.dangerous_accept_any_certificate
        object.__setattr__(self, "_trust", None if any_certificate else self.trust or Trust.system())

    def __copy__(self) -> "ClientConfig":
        return self  # it never changes, and its TLS context is one that all share

    def __deepcopy__(self, _memo: dict[int, Any]) -> "ClientConfig":
        return self

    def _check(self) -> None:
        expect("authenticate", self.authenticate, Password, NTHash, TicketCache, Keytab)
        expect("delegate", self.delegate, *DELEGABLE, None)
        expect("delegation", self.delegation, DelegationPolicy)
        expect("credential_class", self.credential_class, CredentialClass)
        expect("mutual_auth", self.mutual_auth, bool)
        expect("policy", self.policy, Policy)
        expect("trust", self.trust, Trust, None)
        expect("ssl_context", self.ssl_context, ssl.SSLContext, None)
        if self.ssl_context is not None and self.ssl_context.protocol is ssl.PROTOCOL_TLS_SERVER:
            raise ValueError("ssl_context: expected a context for clients, got one for servers")
        expect("workstation", self.workstation, str)
        if self.trusts_by_name and self.policy.dangerous_accept_any_certificate:
            raise ValueError(
                "trust: expected None beside Policy.dangerous_accept_any_certificate, got authorities or pins, which "
                "the policy would ignore"
            )

    def new_context(  # noqa: PLR0913 - all named, and most callers name two
        self,
        *,
        server_hostname: str | None,
        spn: str,
        tls: TLSSession | None = None,
        bios: BIOPair | None = None,
        judge: bool | None = None,
        channel_bindings: bytes | None = None,
        ask_kdc: bool = True,
        turns: bool = False,
    ) -> SecurityContext:
        """Make a context for one connection, with TLS inside; it stops with `Delegate` before the credentials leave.

        Args:
            server_hostname: The name for SNI; None for none.
            spn: The service principal name, `TERMSRV/host` for RDP; empty for nobody in particular.
            tls: A fresh session of `ssl_context` that does more than the usual one; None for the usual one.
            bios: For the usual session, a pair of BIOs to share with others; None for one of its own.
            judge: Whether to stop with `JudgeCertificate`; None for yes, unless the policy accepts any certificate.
            channel_bindings: For the inner mechanism, application data as of RFC 5929. CredSSP needs none.
            ask_kdc: Whether `spn` is a name to ask a KDC for; not one that was made of an IP address.
            turns: Whether the two sides take turns with one token each, as they do over HTTP (`acredssp.core.turns`
                says how to drive the context); False for a stream of bytes.

        Raises:
            PolicyError: Kerberos alone is allowed, and cannot be used for `spn`.
            ValueError: `server_hostname` or `spn` is none.
        """
        assert self.ssl_context is not None
        if server_hostname is not None:
            expect_host_name("server_hostname", server_hostname)
        handshake = self._handshake(spn, channel_bindings, ask_kdc=ask_kdc)
        if tls is None:
            tls = TLSSession(self.ssl_context, server_side=False, server_hostname=server_hostname, bios=bios)
        if judge is None:
            judge = not self.policy.dangerous_accept_any_certificate
        if turns:
            return TurnTakingContext(handshake, tls, judge=judge)
        return SecurityContext(handshake, tls, judge=judge)

    def new_bare_context(
        self,
        *,
        public_key: bytes | None,
        spn: str,
        certified: bool = False,
        channel_bindings: bytes | None = None,
        ask_kdc: bool = True,
    ) -> SecurityContext:
        """Make a context for one connection whose TLS somebody else runs, and whose certificate they have judged.

        Args:
            public_key: The SubjectPublicKey of the server's certificate (`acredssp.tls.subject_public_key`); None to
                give it to `SecurityContext.bind()` later.
            spn: As for `new_context`.
            certified: Whether the certificate authenticates the server.
            channel_bindings: As for `new_context`.
            ask_kdc: The same.
        """
        handshake = self._handshake(spn, channel_bindings, ask_kdc=ask_kdc)
        handshake.certified = certified
        return SecurityContext(handshake, None, public_key=public_key)

    def end_of_tickets(self) -> int | None:
        """Return when the tickets to log on with end, in seconds since 1970; None where there are none yet.

        A password or a keytab gets its first ticket with the first logon. Reads the ticket cache, so it may block.
        """
        tickets = self._choice.tickets
        return tickets.end() if tickets is not None else None

    @property
    def trusts_by_name(self) -> bool:
        """Whether the caller named authorities or pins, and did not leave it to the operating system."""
        return self.trust is not None and bool(self.trust.pins or self.trust.authorities)

    def judgement_of(
        self,
        chain: tuple[bytes, ...],
        name: str,
        options: OptionNames = OptionNames(),  # noqa: B008 - a frozen value
    ) -> Judgement | None:
        """Judge a server's certificate chain now, under the name that was asked for, and raise nothing.

        Args:
            chain: Certificates in DER, the server's own first.
            name: The name that was asked for.
            options: What the hint calls the caller's options.

        Returns:
            The verdict with its reason; None where the caller named nobody to trust and the policy takes any
            certificate unseen.
        """
        if self._trust is None:
            return None
        return self._trust.judge(chain, name, dt.datetime.now(dt.UTC), options=options)

    def judge(self, chain: tuple[bytes, ...], name: str) -> bool:
        """Judge a server's certificate chain now, under the name that was asked for: the answer to `JudgeCertificate`.

        Returns:
            Whether it authenticates the server; False where the policy takes any certificate unseen.

        Raises:
            CertificateError: It is not trusted.
        """
        if self.policy.dangerous_accept_any_certificate:
            return False
        assert self._trust is not None
        self._trust.check(chain, name, dt.datetime.now(dt.UTC))
        return True

    def decide(  # noqa: PLR0913 - all named, and most callers name none
        self,
        event: Delegate,
        *,
        delegate: bool = True,
        mutual_auth: bool | None = None,
        certificate: str = "",
        judgement: Judgement | None = None,
        by_name: bool | None = None,
    ) -> TSCredentials | Literal[True]:
        """Decide by the delegation policy what the server may be given, and write the audit line.

        Args:
            event: The engine's question.
            delegate: Whether to delegate at all.
            mutual_auth: Whether the server has to be authenticated; None for the configuration's `mutual_auth`.
            certificate: What was found of the server's certificate, for people.
            judgement: What `trust` says of the server's certificate, where that has not ended the logon; None where
                `trust` has been asked already, or is not asked at all.
            by_name: Whether the caller named the trust that `judgement` is of; None for `trusts_by_name`.

        Returns:
            The answer to `event`.

        Raises:
            PolicyError: Nothing, and the logon ends.
            CertificateError: The same: the certificate is not trusted, and the caller named whom to trust; or it is
                for another name, and the server has to be authenticated.
        """
        decision = self._decision(
            event.target,
            event.server_auth,
            event.kind,
            delegate,
            self.mutual_auth if mutual_auth is None else mutual_auth,
            certificate,
            event.mechanism,
            event.version,
        )
        by_name = self.trusts_by_name if by_name is None else by_name
        distrust = _distrust(decision, judgement, by_name=by_name) if judgement is not None else None
        if distrust is not None:
            decision = dataclasses.replace(decision, status=distrust.security_status, sends=DelegatedKind.NOTHING)
        if _audit.isEnabledFor(logging.INFO):
            _audit.info("%s", decision, extra={"delegation": decision})
        if distrust is not None:
            raise distrust
        decision.check()
        return EMPTY_CREDENTIALS if decision.sends is DelegatedKind.NOTHING else True

    def answer(self, event: Event, name: str) -> Any:
        """Answer any event of a client's context: what a loop of one's own gives to `SecurityContext.resume()`.

        The answer has the type that the event's class names. A type checker cannot know it where it does not know
        which event that is.

        A step of Kerberos runs here and now, and may wait for a KDC: an event loop runs such a step in a thread.

        Args:
            event: The engine's question.
            name: The name that the server's certificate must have.

        Raises:
            CertificateError: The server's certificate is not trusted; give the error to `SecurityContext.fail()`.
            PolicyError: The delegation policy keeps the credentials from the server; the same.
            TypeError: The event is a server's.
        """
        if isinstance(event, JudgeCertificate):
            return self.judge(event.chain, name)
        if isinstance(event, Delegate):
            return self.decide(event)
        if isinstance(event, StepMechanism):
            return _outcome(event)
        if isinstance(event, ChooseCertificate):
            return None
        raise TypeError(f"a client's configuration does not answer {type(event).__name__}, a server's event")

    def _handshake(self, spn: str, channel_bindings: bytes | None, *, ask_kdc: bool) -> ClientHandshake:
        expect_target_name("spn", spn)
        mechanism = self._choice.mechanism(spn, channel_bindings, ask_kdc=ask_kdc)
        delegated = self._delegated
        if isinstance(delegated, RemoteGuard):
            return ClientHandshake(mechanism, self._choice.guarded_ticket(spn), self.policy, target=spn)
        return ClientHandshake(mechanism, delegated, self.policy, target=spn)

    def _restricted(self, wanted: TSCredentials | RemoteGuard) -> TSCredentials | RemoteGuard:
        """Return what RestrictedRemoteAdministration leaves of it."""
        kind = DelegatedKind.REMOTE_GUARD if isinstance(wanted, RemoteGuard) else wanted.kind
        if self.delegation.restricted_administration is None:
            return wanted
        return EMPTY_CREDENTIALS if self.delegation.restrict(kind) is DelegatedKind.NOTHING else wanted

    @property
    def _wanted(self) -> Password | SmartCard | RemoteGuard | Nothing | TSCredentials:
        """What the caller wants to be delegated."""
        if self.delegate is not None:
            return self.delegate
        return self.authenticate if isinstance(self.authenticate, Password) else Nothing()


def _distrust(decision: DelegationDecision, judgement: Judgement, *, by_name: bool) -> CertificateError | None:
    """Return what ends a logon on a certificate that is not trusted; None where the decision stands.

    The policy's own refusals come first, and say what is wrong with the certificate where a better one would help. A
    wrong name is why mutual authentication fails, so that is said instead.
    """
    if judgement.trusted:
        return None
    if decision.status in _FOR_WANT_OF_PROOF:
        failed = decision.status is SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED
        wrong_name = failed and judgement.verdict is Verdict.WRONG_NAME
        return judgement.error() if wrong_name else judgement.error_for(decision.error())
    sends = decision.allowed and decision.sends is not DelegatedKind.NOTHING
    return judgement.error() if sends and by_name else None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """How a server lets clients in.

    Attributes:
        ssl_context: With the server's certificate: from `acredssp.tls_config`, or the caller's own with one certificate
            chain. Its `sni_callback` may choose another context by the name that a client asks for; what is there when
            the configuration is made goes on being called, behind a note of the name (`server_name` of requests and
            reports).
        certificate: The chain that `ssl_context` presents, in PEM, the server's own first. To be given where acredssp
            says that it cannot be found out; None to have the context asked, which nearly every context can be.
        lookup: Gives an account's secret, for NTLM; None where nobody logs on by NTLM.
        keytab: The service's keys, for Kerberos; None where nobody logs on by Kerberos.
        authorize: Decides about a proven logon while the client can still be told; None lets everyone in who has one.
        admit: Decides once the delegated credentials came, and sees them; None admits.
        policy: The rules for versions, TLS, mechanisms and times.
        identity: What NTLM's challenge calls us.
    """

    ssl_context: ssl.SSLContext
    certificate: bytes | None = dataclasses.field(default=None, repr=False)
    lookup: LookupHook | None = None
    keytab: Keytab | None = None
    authorize: AuthorizeHook | None = None
    admit: AdmitHook | None = None
    policy: Policy = dataclasses.field(default_factory=Policy)
    identity: NTLMIdentity = _NEUTRAL_IDENTITY
    _choice: AcceptorChoice = dataclasses.field(init=False, repr=False, compare=False)
    """What clients log on by."""

    def __post_init__(self) -> None:
        self._check()
        note_server_name(self.ssl_context)
        if self.certificate is not None:
            present(self.ssl_context, tls_config.chain_of(self.certificate))
        own_public_key(self.ssl_context)  # a context without a usable certificate is refused here, not at a client
        choice = AcceptorChoice(self.policy, self.identity, ntlm=self.lookup is not None, keytab=self.keytab)
        object.__setattr__(self, "_choice", choice)

    def __copy__(self) -> "ServerConfig":
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> "ServerConfig":
        return self

    def _check(self) -> None:
        expect("ssl_context", self.ssl_context, ssl.SSLContext)
        if self.ssl_context.protocol is ssl.PROTOCOL_TLS_CLIENT:
            raise ValueError("ssl_context: expected a context for servers, got one for clients")
        expect("certificate", self.certificate, bytes, None)
        for name in ("lookup", "authorize", "admit"):
            expect_callable(name, getattr(self, name))
        expect("keytab", self.keytab, Keytab, None)
        expect("policy", self.policy, Policy)
        expect("identity", self.identity, NTLMIdentity)

    def new_context(
        self, *, bios: BIOPair | None = None, channel_bindings: bytes | None = None, turns: bool = False
    ) -> SecurityContext:
        """Make a context for one connection, with TLS inside.

        Args:
            bios: A pair of BIOs to share with others; None for one of its own.
            channel_bindings: For the inner mechanism, application data as of RFC 5929. CredSSP needs none.
            turns: Whether the two sides take turns with one token each, as they do over HTTP (`acredssp.core.turns`
                says how to drive the context); False for a stream of bytes.
        """
        handshake = self._handshake(channel_bindings)
        if turns:
            return TurnTakingContext(handshake, session_with_ticket(self.ssl_context, bios))
        return SecurityContext(handshake, TLSSession(self.ssl_context, server_side=True, bios=bios))

    def new_bare_context(self, *, public_key: bytes, channel_bindings: bytes | None = None) -> SecurityContext:
        """Make a context for one connection whose TLS somebody else runs, with a certificate of that key."""
        return SecurityContext(self._handshake(channel_bindings), None, public_key=public_key)

    def _handshake(self, channel_bindings: bytes | None) -> ServerHandshake:
        return ServerHandshake(
            self._choice.mechanism(channel_bindings),
            self.policy,
            authorize=self.authorize is not None,
            admit=self.admit is not None,
        )


def _decision(  # noqa: PLR0913, PLR0917 - by position, since they are the key of a cache
    policy: DelegationPolicy,
    credential_class: CredentialClass,
    target: str,
    server_auth: ServerAuth,
    kind: DelegatedKind,
    delegate: bool,
    mutual_auth: bool,
    certificate: str,
    mechanism: str,
    version: int,
) -> DelegationDecision:
    """Decide what a server may be given."""
    request = DelegationRequest(
        target=target,
        server_auth=server_auth,
        credential_class=credential_class,
        kind=kind,
        delegate=delegate,
        mutual_auth=mutual_auth,
        certificate=certificate,
        mechanism=mechanism,
        version=version,
    )
    return policy.decide(request)


def _outcome(event: StepMechanism) -> object:
    """Run a mechanism's step; an exception is its result, too, for the mechanism to judge."""
    try:
        return event.run()
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
