"""The configurations of both sides: policy, credentials and everything costly, made once and shared by all connections.

A configuration is frozen. `dataclasses.replace()` derives a changed copy, and a plain copy is the configuration itself.
A configuration makes fresh security contexts for any user of the engine: the asyncio functions, the SSPI functions, or
a loop of the user's own.
"""

import dataclasses
import datetime as dt
import functools
import logging
import ssl
from collections.abc import Callable
from typing import Any, Final, Literal

from acredssp import tls_config
from acredssp.arguments import expect, expect_callable, expect_host_name, expect_target_name
from acredssp.certificates.judgement import OptionNames
from acredssp.core.client import ClientHandshake
from acredssp.core.context import SecurityContext
from acredssp.core.delegated import DELEGABLE, EMPTY_CREDENTIALS, as_sent
from acredssp.core.events import ChooseCertificate, Delegate, Event, JudgeCertificate, StepMechanism, outcome_of_step
from acredssp.core.own_certificate import own_public_key, present
from acredssp.core.server import ServerHandshake
from acredssp.core.server_name import note_server_name
from acredssp.core.tls import BIOPair, TLSSession, session_with_ticket
from acredssp.core.turns import TurnTakingContext
from acredssp.credentials import (
    Credential,
    Keytab,
    Nothing,
    NTHash,
    Password,
    RemoteGuard,
    SmartCard,
    TicketCache,
    TicketInfo,
)
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
from acredssp.values import copier
from acredssp.wire.ts_credentials import TSCredentials

__all__ = ["ClientConfig", "NTLMIdentity", "ServerConfig"]

_audit = get_logger("acredssp.audit")
"""Gets one line of JSON, at level INFO, for each decision about delegation; `record.delegation` is the decision."""

_DECISIONS: Final = 512
"""How many decisions are remembered: every logon to a server has the same one, and to decide anew takes 39,000
instructions."""

_FOR_WANT_OF_PROOF: Final = frozenset({SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED, SecurityStatus.SEC_E_POLICY_NLTM_ONLY})
"""The refusals for a server that nothing but NTLM authenticates."""

_NEUTRAL_IDENTITY: Final = NTLMIdentity("ACREDSSP")
"""The default identity. It does not tell the machine's name, since anybody can read a challenge."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """How a client logs on to any server.

    Attributes:
        authenticate: The credential that the client logs on with. A `Password` or an `NTHash` without a user is a
            ValueError.
        delegate: The credentials that the server gets once it has proven its key. None delegates the password of
            `authenticate`, or nothing where that is not a password. The credentials may be of another account
            ([MS-CSSP] 2.2.1.2). `RemoteGuard` needs a logon by Kerberos, without a fallback to NTLM.
        delegation: The servers that may get the credentials, by Windows' settings. By default these are all servers
            with an SPN of `TERMSRV/...`, as in Windows. Its AllowEncryptionOracle changes `policy`.
        credential_class: The source of the delegated credentials, which decides which lists of `delegation` apply.
        mutual_auth: Whether the logon ends, before anything is delegated, if neither a trusted certificate nor Kerberos
            authenticates the server. This can only happen with `Policy.dangerous_accept_any_certificate`: without it,
            a server whose certificate is not trusted is refused earlier.
        policy: The rules for versions, TLS, mechanisms and times.
        trust: The trusted authorities and keys; None for the operating system's authorities. The field stays None then,
            also in copies, so that a configuration knows whether the caller chose a trust. A trust together with
            `Policy.dangerous_accept_any_certificate` is a ValueError.
        ssl_context: A TLS context of the caller's own, which may verify certificates in addition to `trust`; None for
            one that the policy describes.
        workstation: This machine's name, for the server's log (NTLM's Workstation).
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
    """The trust that judges certificates: `trust`, or the operating system's; None where the policy accepts any."""
    _choice: InitiatorChoice = dataclasses.field(init=False, repr=False, compare=False)
    """Makes the mechanisms that log on."""
    _delegated: TSCredentials | RemoteGuard = dataclasses.field(init=False, repr=False, compare=False)
    """The credentials that are delegated if the policy allows it."""

    def __post_init__(self) -> None:
        self._check()
        object.__setattr__(self, "policy", self.delegation.for_client(self.policy))
        self._choose()
        if self.ssl_context is None:
            object.__setattr__(self, "ssl_context", tls_config.client_context(self.policy))
        any_certificate = self.trust is None and self.policy.dangerous_accept_any_certificate
        object.__setattr__(self, "_trust", None if any_certificate else self.trust or Trust.system())

    def __copy__(self) -> "ClientConfig":
        return self  # a configuration never changes, and all its connections share one TLS context

    def __deepcopy__(self, _memo: dict[int, Any]) -> "ClientConfig":
        return self

    def with_credential(self, authenticate: Credential) -> "ClientConfig":
        """Return this configuration with another credential: for each user of a gateway, say.

        This takes a fraction of the time of `dataclasses.replace()`, which checks and makes everything again.

        Raises:
            TypeError, ValueError, PolicyError: The credential cannot be used, as where a configuration is made of it.
        """
        _check_credential(authenticate)
        other = _without_credential(self)
        object.__setattr__(other, "authenticate", authenticate)
        other._choose()  # noqa: SLF001 - of the same class
        return other

    def _choose(self) -> None:
        """Set the attributes that depend on the credential: the delegated credentials, and the maker of mechanisms."""
        object.__setattr__(self, "_delegated", self._restricted(as_sent(self._wanted)))
        guard = self._delegated if isinstance(self._delegated, RemoteGuard) else None
        choice = InitiatorChoice(self.authenticate, self.policy, workstation=self.workstation, guard=guard)
        object.__setattr__(self, "_choice", choice)

    def _check(self) -> None:
        _check_credential(self.authenticate)
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
                "trust: expected None together with Policy.dangerous_accept_any_certificate, got authorities or pins, "
                "which the policy would ignore"
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
        """Make a context for one connection, with TLS inside. It stops with `Delegate` before it sends credentials.

        Args:
            server_hostname: The name for SNI; None for none.
            spn: The server's service principal name, `TERMSRV/host` for RDP; empty where it has none.
            tls: A fresh session of `ssl_context` with more functions than the usual one; None for the usual one.
            bios: A pair of BIOs that the usual session shares with others; None for a pair of its own.
            judge: Whether to stop with `JudgeCertificate`; None for True, unless the policy accepts any certificate.
            channel_bindings: The application data of the inner mechanism's bindings (RFC 5929); None for none, since
                CredSSP needs none.
            ask_kdc: Whether to ask a KDC for `spn`; False for an SPN that was made of an IP address.
            turns: Whether the two sides take turns with one token each, as they do over HTTP (docs/turns.md); False
                for a stream of bytes.

        Raises:
            PolicyError: Only Kerberos is allowed, and it cannot be used for `spn`.
            ValueError: `server_hostname` is not a host name, or `spn` is not a service principal name.
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
        """Make a context for one connection whose TLS the caller runs. The caller also judges the certificate.

        Args:
            public_key: The SubjectPublicKey of the server's certificate (`acredssp.tls.subject_public_key`); None to
                give it to `SecurityContext.bind()` later.
            spn: The server's service principal name; empty where it has none.
            certified: Whether the certificate authenticates the server.
            channel_bindings: The application data of the inner mechanism's bindings (RFC 5929); None for none.
            ask_kdc: Whether to ask a KDC for `spn`; False for an SPN that was made of an IP address.
        """
        handshake = self._handshake(spn, channel_bindings, ask_kdc=ask_kdc)
        handshake.certified = certified
        return SecurityContext(handshake, None, public_key=public_key)

    def end_of_tickets(self) -> int | None:
        """Return when the tickets of a `TicketCache` end, in seconds since 1970.

        The result is None for any other credential, and for a cache without tickets. The call reads the ticket cache,
        so it may block.
        """
        tickets = self._choice.tickets
        return tickets.end() if tickets is not None else None

    def list_tickets(self) -> tuple[TicketInfo, ...]:
        """Return what is known of the Kerberos tickets that this configuration logs on with, such as for a diagnosis.

        For a `TicketCache` these are the tickets in the cache; for a password or a keytab those that logons have
        fetched so far. No KDC is asked. There are none without the extra `kerberos`, on Windows, and in a cache that
        cannot be read. The call may read the ticket cache, so it may block.
        """
        tickets = self._choice.tickets
        return tickets.held() if tickets is not None else ()

    @property
    def trusts_by_name(self) -> bool:
        """Whether the caller named authorities or pins, and did not leave the trust to the operating system."""
        return self.trust is not None and bool(self.trust.pins or self.trust.authorities)

    def judgement_of(
        self,
        chain: tuple[bytes, ...],
        name: str,
        options: OptionNames = OptionNames(),  # noqa: B008 - a frozen value
    ) -> Judgement | None:
        """Judge a server's certificate chain at the present time. It does not raise for a certificate that is refused.

        Args:
            chain: Certificates in DER, the server's own first.
            name: The name that the certificate must have.
            options: The names of the caller's options, for the hint.

        Returns:
            The verdict with its reason; None where the caller chose no trust and the policy accepts any certificate
            unchecked.
        """
        if self._trust is None:
            return None
        return self._trust.judge(chain, name, dt.datetime.now(dt.UTC), options=options)

    def judge(self, chain: tuple[bytes, ...], name: str) -> bool:
        """Judge a server's certificate chain at the present time; return the answer to `JudgeCertificate`.

        Returns:
            Whether the certificate authenticates the server; False where the policy accepts any certificate unchecked.

        Raises:
            CertificateError: The certificate is not trusted.
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
        """Decide by the delegation policy which credentials the server may be given, and write the audit line.

        Args:
            event: The engine's question.
            delegate: Whether to delegate at all.
            mutual_auth: Whether the server has to be authenticated; None for the configuration's `mutual_auth`.
            certificate: The verdict on the server's certificate, for the audit line.
            judgement: The judgement of the server's certificate, where a refusal has not ended the logon yet; None
                where it has been acted on already, or the certificate is not judged at all.
            by_name: Whether the caller chose the trust that made `judgement`; None for `trusts_by_name`.

        Returns:
            The answer to `event`.

        Raises:
            PolicyError: The server may be given nothing, and the logon ends.
            CertificateError: The logon ends, since the certificate is not trusted and the caller chose the trust; or
                since it is for another name and the server has to be authenticated.
        """
        decision = _decision(
            self.delegation,
            self.credential_class,
            event.target,
            event.server_auth,
            event.kind,
            delegate,
            self.mutual_auth if mutual_auth is None else mutual_auth,
            certificate,
            event.mechanism,
            event.version,
        )
        distrust = None
        if judgement is not None:
            by_name = self.trusts_by_name if by_name is None else by_name
            distrust = _distrust(decision, judgement, by_name=by_name)
        if distrust is not None:
            decision = dataclasses.replace(decision, status=distrust.security_status, sends=DelegatedKind.NOTHING)
        if _audit.isEnabledFor(logging.INFO):
            _audit.info("%s", decision, extra={"delegation": decision})
        if distrust is not None:
            raise distrust
        decision.check()
        return EMPTY_CREDENTIALS if decision.sends is DelegatedKind.NOTHING else True

    def answer(self, event: Event, name: str) -> Any:
        """Return the answer to any event of a client's context. A loop of your own gives it to `resume()`.

        The answer has the type that the event's class names. A type checker cannot know that type unless it knows the
        event's class.

        A step of Kerberos runs within this call, and may wait for a KDC. An event loop should run such a step in a
        thread.

        Args:
            event: The engine's question.
            name: The name that the server's certificate must have.

        Raises:
            CertificateError: The server's certificate is not trusted; give the error to `SecurityContext.fail()`.
            PolicyError: The delegation policy keeps the credentials from the server; give the error to
                `SecurityContext.fail()`.
            TypeError: The event is a server's.
        """
        if isinstance(event, JudgeCertificate):
            return self.judge(event.chain, name)
        if isinstance(event, Delegate):
            return self.decide(event)
        if isinstance(event, StepMechanism):
            return outcome_of_step(event)
        if isinstance(event, ChooseCertificate):
            return None
        raise TypeError(f"event: expected an event of a client, got {type(event).__name__}, an event of a server")

    def _handshake(self, spn: str, channel_bindings: bytes | None, *, ask_kdc: bool) -> ClientHandshake:
        expect_target_name("spn", spn)
        mechanism = self._choice.mechanism(spn, channel_bindings, ask_kdc=ask_kdc)
        delegated = self._delegated
        if isinstance(delegated, RemoteGuard):
            return ClientHandshake(mechanism, self._choice.guarded_ticket(spn), self.policy, target=spn)
        return ClientHandshake(mechanism, delegated, self.policy, target=spn)

    def _restricted(self, wanted: TSCredentials | RemoteGuard) -> TSCredentials | RemoteGuard:
        """Return the credentials that RestrictedRemoteAdministration allows in place of the wanted ones."""
        kind = DelegatedKind.REMOTE_GUARD if isinstance(wanted, RemoteGuard) else wanted.kind
        if self.delegation.restricted_administration is None:
            return wanted
        return EMPTY_CREDENTIALS if self.delegation.restrict(kind) is DelegatedKind.NOTHING else wanted

    @property
    def _wanted(self) -> Password | SmartCard | RemoteGuard | Nothing | TSCredentials:
        """The credentials that the caller wants to delegate."""
        if self.delegate is not None:
            return self.delegate
        return self.authenticate if isinstance(self.authenticate, Password) else Nothing()


_without_credential: Final[Callable[[ClientConfig], ClientConfig]] = copier((
    "delegate", "delegation", "credential_class", "mutual_auth", "policy", "trust", "ssl_context", "workstation",
    "_trust",
))  # fmt: skip
"""Copies the attributes of a configuration that are the same for every credential."""


def _check_credential(credential: Credential) -> None:
    expect("authenticate", credential, Password, NTHash, TicketCache, Keytab)
    if isinstance(credential, Password | NTHash) and not credential.user:
        kind = type(credential).__name__
        raise ValueError(f"authenticate: expected the name of an account, got {kind} with an empty user")


def _distrust(decision: DelegationDecision, judgement: Judgement, *, by_name: bool) -> CertificateError | None:
    """Return the error that ends a logon for a certificate that is not trusted; None where the decision stands.

    The policy's own refusals come first. Where a better certificate would help, the error also tells what is wrong with
    this one. Where mutual authentication fails because of a wrong name, the error tells that alone.
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
    """How a server lets clients log on.

    Attributes:
        ssl_context: The TLS context with the server's certificate, made by `acredssp.tls` or by the caller. It must
            have one certificate chain. Its `sni_callback` may choose another context by the name that a client asks
            for; a callback that is set when the configuration is made is still called, after the name has been noted
            for requests and reports (`server_name`).
        certificate: The certificate chain that `ssl_context` presents, in PEM, the server's own first. It is needed
            only where acredssp cannot find the chain out by itself, and says so; None for all other contexts.
        lookup: Returns an account's secret, for NTLM; None where nobody logs on by NTLM.
        keytab: The service's keys, for Kerberos; None where nobody logs on by Kerberos.
        authorize: Decides about a proven logon while the client can still be told; None lets every proven logon in.
        admit: Decides once the delegated credentials have arrived, and sees them; None admits everybody.
        policy: The rules for versions, TLS, mechanisms and times.
        identity: The server's names in NTLM's challenge.
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
    """Makes the mechanisms that clients log on by."""

    def __post_init__(self) -> None:
        self._check()
        note_server_name(self.ssl_context)
        if self.certificate is not None:
            present(self.ssl_context, tls_config.chain_of(self.certificate))
        own_public_key(self.ssl_context)  # refuses a context without a usable certificate now, not at the first client
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
            bios: A pair of BIOs that the TLS session shares with others; None for a pair of its own.
            channel_bindings: The application data of the inner mechanism's bindings (RFC 5929); None for none, since
                CredSSP needs none.
            turns: Whether the two sides take turns with one token each, as they do over HTTP (docs/turns.md); False
                for a stream of bytes.
        """
        handshake = self._handshake(channel_bindings)
        if turns:
            return TurnTakingContext(handshake, session_with_ticket(self.ssl_context, bios))
        return SecurityContext(handshake, TLSSession(self.ssl_context, server_side=True, bios=bios))

    def new_bare_context(self, *, public_key: bytes, channel_bindings: bytes | None = None) -> SecurityContext:
        """Make a context for one connection whose TLS the caller runs, with a certificate of this public key."""
        return SecurityContext(self._handshake(channel_bindings), None, public_key=public_key)

    def _handshake(self, channel_bindings: bytes | None) -> ServerHandshake:
        return ServerHandshake(
            self._choice.mechanism(channel_bindings),
            self.policy,
            authorize=self.authorize is not None,
            admit=self.admit is not None,
        )


@functools.lru_cache(_DECISIONS)
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
    """Decide which credentials a server may be given."""
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
