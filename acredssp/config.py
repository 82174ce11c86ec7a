"""One configuration a side: policy, credentials and everything costly, made once and shared by all connections.

Frozen; `dataclasses.replace()` derives a changed copy. A configuration makes fresh security contexts for any face of
the engine: the asyncio functions, the SSPI functions, a loop of the user's own.
"""

import dataclasses
import datetime as dt
import functools
import logging
import ssl
from collections.abc import Callable
from typing import Final

from acredssp import tls_config
from acredssp.arguments import expect, expect_callable, expect_host_name, expect_service_name
from acredssp.core.client import ClientHandshake, FetchedCredentials
from acredssp.core.context import SecurityContext
from acredssp.core.events import ChooseCertificate, Delegate, Event, JudgeCertificate, StepMechanism
from acredssp.core.own_certificate import own_public_key, present
from acredssp.core.server import ServerHandshake
from acredssp.core.server_name import note_server_name
from acredssp.core.tls import BIOPair, TLSSession
from acredssp.credentials import (
    Credential,
    Keytab,
    Nothing,
    NTHash,
    Password,
    RemoteGuard,
    SmartCard,
    TicketCache,
)
from acredssp.delegation import (
    NOTHING,
    CredentialClass,
    DelegationDecision,
    DelegationPolicy,
    DelegationRequest,
    ServerAuth,
)
from acredssp.errors import CertificateError, PolicyError
from acredssp.hooks import AdmitHook, AuthorizeHook, LookupHook
from acredssp.mechanisms.base import Mechanism
from acredssp.mechanisms.fall_back import FallingBack
from acredssp.mechanisms.kerberos.context import (
    KerberosAcceptor,
    KerberosInitiator,
    ServiceKeys,
    Tickets,
    installed,
    require_installed,
)
from acredssp.mechanisms.kerberos.remote_guard import GuardedTicket
from acredssp.mechanisms.negotiate import DetectingAcceptor, NegotiableMechanism, NegotiateInitiator
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor, NTLMIdentity
from acredssp.mechanisms.ntlm.initiator import NTLMCredential, NTLMInitiator
from acredssp.policy import MechanismChoice, Policy
from acredssp.status import SecurityStatus, Stage
from acredssp.trust import Judgement, Trust, Verdict
from acredssp.wire.ts_credentials import (
    SecretText,
    TSCredentials,
    TSCspDataDetail,
    TSPasswordCreds,
    TSRemoteGuardCreds,
    TSSmartCardCreds,
    UnicodeString,
)

__all__ = ["ClientConfig", "ServerConfig"]

_audit = logging.getLogger("acredssp.audit")
"""One line for each decision about delegation, at level INFO: JSON, and `record.delegation` is the decision itself."""

_DECISIONS: Final = 128
"""Decisions that a configuration remembers: every logon to a server comes to the same one, and to work it out anew
takes 39,000 instructions."""

_DELEGABLE: Final = (
    Password,
    SmartCard,
    RemoteGuard,
    Nothing,
    TSPasswordCreds,
    TSSmartCardCreds,
    TSRemoteGuardCreds,
)

_EMPTY_CREDENTIALS: Final = TSPasswordCreds.of()

_NEUTRAL_IDENTITY: Final = NTLMIdentity("ACREDSSP")
"""Everybody may read a challenge, so by default it does not tell the machine's name."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """How a client logs on, anywhere."""

    authenticate: Credential
    """What proves who we are."""
    delegate: Password | SmartCard | RemoteGuard | Nothing | TSCredentials | None = None
    """What the server is given once it has proven its key; None for the same password, and for `Nothing` when we
    authenticate without one. It may name somebody else ([MS-CSSP] 2.2.1.2). `RemoteGuard` takes a logon by Kerberos,
    and leaves no second choice."""
    delegation: DelegationPolicy = dataclasses.field(default_factory=DelegationPolicy)
    """Who may be given that, in Windows' words; as there, everybody of whom the SPN is `TERMSRV/...` and nobody else,
    unless it says so. Its AllowEncryptionOracle goes into `policy`."""
    credential_class: CredentialClass = CredentialClass.FRESH
    """Where what is delegated comes from: which of the delegation policy's lists are for it."""
    mutual_auth: bool = False
    """Whether a logon ends, before anything is delegated, on a server that neither a trusted certificate nor Kerberos
    authenticates. Only with `Policy.dangerous_accept_any_certificate` does a logon come that far without."""
    policy: Policy = dataclasses.field(default_factory=Policy)
    trust: Trust | None = None
    """Whom we believe; None for the operating system's authorities. It stays None then, also in copies, so that a
    configuration knows whether its caller named somebody. Whoever names somebody here cannot accept any certificate by
    the policy: that is a ValueError."""
    ssl_context: ssl.SSLContext | None = None
    """None for one that the policy describes. Another one's own verification comes on top of `trust`."""
    workstation: str = ""
    """Our name, for the server's log (NTLM's Workstation)."""
    _trust: Trust | None = dataclasses.field(init=False, repr=False, compare=False)
    """What judges certificates: `trust`, or that of the operating system; None where the policy takes any."""
    _tickets: Tickets | None = dataclasses.field(init=False, repr=False, compare=False)
    """What Kerberos logs on with; None where it is not used."""
    _ntlm_credential: NTLMCredential | None = dataclasses.field(init=False, repr=False, compare=False)
    """What NTLM logs on with; None where it cannot be used."""
    _delegated: TSCredentials | RemoteGuard = dataclasses.field(init=False, repr=False, compare=False)
    """What goes over if the policy allows it."""
    _decision: Callable[[str, ServerAuth, str, bool, bool, str, str, int], DelegationDecision] = dataclasses.field(
        init=False, repr=False, compare=False
    )
    """What the policy says to a server: a function of nothing else, so the latest decisions are remembered."""

    def __post_init__(self) -> None:
        self._check()
        decision = functools.partial(_decision, self.delegation, self.credential_class)
        object.__setattr__(self, "_decision", functools.lru_cache(_DECISIONS)(decision))
        object.__setattr__(self, "policy", self.delegation.for_client(self.policy))
        object.__setattr__(self, "_delegated", self._restricted(self._wanted()))
        guard = isinstance(self._delegated, RemoteGuard)
        object.__setattr__(self, "_tickets", _tickets(self.authenticate, self.policy.mechanism, guard=guard))
        secret = self.authenticate if isinstance(self.authenticate, Password | NTHash) else None
        object.__setattr__(self, "_ntlm_credential", secret and NTLMCredential(secret, self.workstation))
        if self.ssl_context is None:
            object.__setattr__(self, "ssl_context", tls_config.client_context(self.policy))
        any_certificate = self.trust is None and self.policy.dangerous_accept_any_certificate
        object.__setattr__(self, "_trust", None if any_certificate else self.trust or Trust.system())

    def _check(self) -> None:
        expect("authenticate", self.authenticate, Password, NTHash, TicketCache, Keytab)
        expect("delegate", self.delegate, *_DELEGABLE, None)
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
    ) -> SecurityContext:
        """Make a context for one connection, with TLS inside; it stops with `Delegate` before the credentials leave.

        Args:
            server_hostname: The name for SNI; None for none.
            spn: The service principal name, `TERMSRV/host` for RDP.
            tls: A fresh session of `ssl_context` that does more than the usual one; None for the usual one.
            bios: For the usual session, a pair of BIOs to share with others; None for one of its own.
            judge: Whether to stop with `JudgeCertificate`; None for yes, unless the policy accepts any certificate.
            channel_bindings: For the inner mechanism, application data as of RFC 5929. CredSSP needs none.
            ask_kdc: Whether `spn` is a name to ask a KDC for; not one that was made of an IP address.

        Raises:
            PolicyError: Kerberos alone is allowed, and cannot be used for `spn`.
            ValueError: `server_hostname` or `spn` is none.
        """
        assert self.ssl_context is not None
        if server_hostname is not None:
            expect_host_name("server_hostname", server_hostname)
        return SecurityContext(
            self._handshake(spn, channel_bindings, ask_kdc=ask_kdc),
            tls or TLSSession(self.ssl_context, server_side=False, server_hostname=server_hostname, bios=bios),
            judge=not self.policy.dangerous_accept_any_certificate if judge is None else judge,
        )

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
            public_key: The SubjectPublicKey of the server's certificate (`acredssp.subject_public_key`); None to give
                it to `SecurityContext.bind()` later.
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
        return self._tickets.end() if self._tickets is not None else None

    @property
    def trusts_by_name(self) -> bool:
        """Whether the caller named authorities or pins, and did not leave it to the operating system."""
        return self.trust is not None and bool(self.trust.pins or self.trust.authorities)

    def judgement_of(self, chain: tuple[bytes, ...], name: str) -> Judgement | None:
        """Judge a server's certificate chain now, under the name that was asked for, and raise nothing.

        Returns:
            The verdict with its reason; None where the caller named nobody to trust and the policy takes any
            certificate unseen.
        """
        return self._trust.judge(chain, name, dt.datetime.now(dt.UTC)) if self._trust is not None else None

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
    ) -> object:
        """Decide by the delegation policy what the server may be given, and write the audit line.

        Args:
            event: The engine's question.
            delegate: Whether to delegate at all.
            mutual_auth: Whether the server has to be authenticated; None for the configuration's `mutual_auth`.
            certificate: What was found of the server's certificate, for people.
            judgement: What `trust` says of the server's certificate, where that has not ended the logon; None where it
                has been asked already.
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
            decision = dataclasses.replace(decision, status=distrust.security_status, sends=NOTHING)
        if _audit.isEnabledFor(logging.INFO):
            _audit.info("%s", decision, extra={"delegation": decision})
        if distrust is not None:
            raise distrust
        decision.check()
        return _EMPTY_CREDENTIALS if decision.sends == NOTHING else True

    def answer(self, event: Event, name: str) -> object:
        """Answer any event of a client's context: what a loop of one's own gives to `SecurityContext.resume()`.

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
        expect_service_name("spn", spn)
        if self._tickets is None:
            mechanism = self._without_kerberos(spn, channel_bindings)
        else:
            mechanism = self._with_kerberos(self._tickets, spn, channel_bindings, ask_kdc=ask_kdc)
        delegated: TSCredentials | FetchedCredentials
        if isinstance(self._delegated, RemoteGuard):
            assert self._tickets is not None
            delegated = GuardedTicket(self._tickets, self._delegated, spn)
        else:
            delegated = self._delegated
        return ClientHandshake(mechanism, delegated, self.policy, target=spn)

    def _without_kerberos(self, spn: str, channel_bindings: bytes | None) -> Mechanism:
        ntlm = self._ntlm(spn, channel_bindings)
        return NegotiateInitiator([ntlm]) if self.policy.mechanism is MechanismChoice.NEGOTIATE else ntlm

    def _ntlm(self, spn: str, channel_bindings: bytes | None) -> NTLMInitiator:
        assert self._ntlm_credential is not None
        return NTLMInitiator(self._ntlm_credential, target_name=spn, channel_bindings=channel_bindings)

    def _with_kerberos(self, tickets: Tickets, spn: str, channel_bindings: bytes | None, *, ask_kdc: bool) -> Mechanism:
        policy = self.policy
        ntlm = policy.mechanism.ntlm and self._ntlm_credential is not None
        ntlm = ntlm and not isinstance(self._delegated, RemoteGuard)
        first: Mechanism | PolicyError
        try:
            kerberos = self._kerberos(tickets, spn, channel_bindings, ask_kdc=ask_kdc)
        except PolicyError as error:
            if not ntlm:
                raise
            first = error
        else:
            if policy.mechanism is MechanismChoice.RAW_KERBEROS:
                return kerberos
            first = NegotiateInitiator([kerberos, self._ntlm(spn, channel_bindings)] if ntlm else [kerberos])
            if not ntlm:
                return first
        second = functools.partial(self._without_kerberos, spn, channel_bindings)
        return FallingBack(first, second, policy.fall_back)

    def _kerberos(
        self, tickets: Tickets, spn: str, channel_bindings: bytes | None, *, ask_kdc: bool
    ) -> KerberosInitiator:
        if not ask_kdc:
            raise PolicyError(
                "kerberos: no kdc knows a service by an ip address",
                security_status=SecurityStatus.SEC_E_TARGET_UNKNOWN,
                stage=Stage.NEGO_TOKEN,
                hint="connect to the server's name, or give its spn",
            )
        return KerberosInitiator(
            tickets,
            spn=spn,
            channel_bindings=channel_bindings,
            allow_rc4=self.policy.dangerous_allow_kerberos_rc4,
        )

    def _restricted(self, wanted: TSCredentials | RemoteGuard) -> TSCredentials | RemoteGuard:
        """Return what RestrictedRemoteAdministration leaves of it."""
        kind = GuardedTicket.kind if isinstance(wanted, RemoteGuard) else wanted.kind
        if self.delegation.restricted_administration is None or self.delegation.restrict(kind) != NOTHING:
            return wanted
        return _EMPTY_CREDENTIALS

    def _wanted(self) -> TSCredentials | RemoteGuard:
        delegate = self.delegate
        if delegate is None:
            delegate = self.authenticate if isinstance(self.authenticate, Password) else Nothing()
        match delegate:
            case Password():
                return TSPasswordCreds.of(delegate.domain, delegate.user, delegate.password)
            case SmartCard():
                return _smart_card(delegate)
            case Nothing():
                return TSPasswordCreds.of()
            case _:
                return delegate


def _distrust(decision: DelegationDecision, judgement: Judgement, *, by_name: bool) -> CertificateError | None:
    """Return what ends a logon on a certificate that is not trusted; None where the decision stands.

    The policy's own refusals come first. A wrong name is why mutual authentication fails, so that is said instead.
    """
    if judgement.trusted:
        return None
    if decision.status is SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED:
        return judgement.error() if judgement.verdict is Verdict.WRONG_NAME else None
    sends = decision.allowed and decision.sends != NOTHING
    return judgement.error() if sends and by_name else None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """How a server lets clients in."""

    ssl_context: ssl.SSLContext
    """With the server's certificate: from `acredssp.tls_config`, or the caller's own with one certificate chain. Its
    `sni_callback` may choose another context by the name that a client asks for; what is there when the configuration
    is made goes on being called, behind a note of the name (`server_name` of requests and reports)."""
    certificate: bytes | None = dataclasses.field(default=None, repr=False)
    """The chain that `ssl_context` presents, in PEM, the server's own first. To be given where acredssp says that it
    cannot be found out; None to have the context asked, which nearly every context can be."""
    lookup: LookupHook | None = None
    """Gives an account's secret, for NTLM; None where nobody logs on by NTLM."""
    keytab: Keytab | None = None
    """The service's keys, for Kerberos; None where nobody logs on by Kerberos."""
    authorize: AuthorizeHook | None = None
    """Decides about a proven logon while the client can still be told; None lets everyone in who has one."""
    admit: AdmitHook | None = None
    """Decides once the delegated credentials came, and sees them; None admits."""
    policy: Policy = dataclasses.field(default_factory=Policy)
    identity: NTLMIdentity = _NEUTRAL_IDENTITY
    """What NTLM's challenge calls us."""
    _takes_ntlm: bool = dataclasses.field(init=False, repr=False, compare=False)
    """Whether anybody logs on by NTLM."""
    _keys: ServiceKeys | None = dataclasses.field(init=False, repr=False, compare=False)
    """What Kerberos takes tickets with; None where nobody logs on by it."""

    def __post_init__(self) -> None:
        self._check()
        object.__setattr__(self, "_takes_ntlm", self.lookup is not None and self.policy.mechanism.ntlm)
        keys = ServiceKeys(self.keytab) if self.keytab is not None and self.policy.mechanism.kerberos else None
        object.__setattr__(self, "_keys", keys)
        note_server_name(self.ssl_context)
        if self.certificate is not None:
            present(self.ssl_context, tls_config.chain_of(self.certificate))
        own_public_key(self.ssl_context)  # a context without a usable certificate is refused here, not at a client
        if not self._takes_ntlm and keys is None:
            raise ValueError("nobody can log on: ntlm takes a lookup, kerberos a keytab, and the policy must allow it")
        if keys is not None:
            require_installed()

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

    def new_context(self, *, bios: BIOPair | None = None, channel_bindings: bytes | None = None) -> SecurityContext:
        """Make a context for one connection, with TLS inside; `bios` and `channel_bindings` as for a client."""
        tls = TLSSession(self.ssl_context, server_side=True, bios=bios)
        return SecurityContext(self._handshake(channel_bindings), tls)

    def new_bare_context(self, *, public_key: bytes, channel_bindings: bytes | None = None) -> SecurityContext:
        """Make a context for one connection whose TLS somebody else runs, with a certificate of that key."""
        return SecurityContext(self._handshake(channel_bindings), None, public_key=public_key)

    def _handshake(self, channel_bindings: bytes | None) -> ServerHandshake:
        return ServerHandshake(
            DetectingAcceptor(self._mechanisms(channel_bindings)),
            self.policy,
            authorize=self.authorize is not None,
            admit=self.admit is not None,
        )

    def _mechanisms(self, channel_bindings: bytes | None) -> list[NegotiableMechanism]:
        mechanisms: list[NegotiableMechanism] = []
        if self._takes_ntlm:
            mechanisms.append(NTLMAcceptor(self.policy, self.identity, channel_bindings=channel_bindings))
        if self._keys is not None:
            acceptor = KerberosAcceptor(
                self._keys,
                channel_bindings=channel_bindings,
                allow_rc4=self.policy.dangerous_allow_kerberos_rc4,
            )
            mechanisms.append(acceptor)
        return mechanisms


def _decision(  # noqa: PLR0913, PLR0917 - by position, since they are the key of a cache
    policy: DelegationPolicy,
    credential_class: CredentialClass,
    target: str,
    server_auth: ServerAuth,
    kind: str,
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


def _smart_card(card: SmartCard) -> TSSmartCardCreds:
    """The card as the wire has it: what is empty is left out ([MS-CSSP] 2.2.1.2.2.1)."""
    names = (UnicodeString(name) if name else None for name in (card.card_name, card.reader_name,
                                                                card.container_name, card.csp_name))  # fmt: skip
    hints = (UnicodeString(hint) if hint else None for hint in (card.user, card.domain))
    return TSSmartCardCreds(SecretText(card.pin), TSCspDataDetail(card.key_spec, *names), *hints)


def _tickets(credential: Credential, choice: MechanismChoice, *, guard: bool) -> Tickets | None:
    """What Kerberos is to log on with; None where it is not to be tried.

    Raises:
        PolicyError: The credential does not serve what the policy allows, or Kerberos is not installed.
    """
    tickets_alone = isinstance(credential, TicketCache | Keytab)
    wanted = tickets_alone or guard or not choice.ntlm
    if wanted and (isinstance(credential, NTHash) or not choice.kerberos):
        what = "remote credential guard" if guard else f"a {type(credential).__name__}"
        raise PolicyError(
            f"{what} does not go with a logon by {'nt hash' if choice.kerberos else choice.value}",
            security_status=SecurityStatus.SEC_E_NO_CREDENTIALS,
        )
    if isinstance(credential, NTHash) or not choice.kerberos or not (wanted or _names_realm(credential)):
        return None
    if wanted:
        require_installed()
    return Tickets(credential, forwardable=guard) if wanted or installed() else None


def _names_realm(credential: Password | TicketCache | Keytab) -> bool:
    """Whether a KDC can be found for the account: a realm has a dot in it, a NetBIOS domain has not."""
    realm = credential.domain or credential.user.rpartition("@")[2]
    return "." in realm and (bool(credential.domain) or "@" in credential.user)
