"""The target leg: connect to a target, log on there, and say in the target's own words why that is refused."""

import asyncio
import dataclasses
import functools
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, cast

from acredssp import NTSTATUS, RDP, ClientConfig, HandshakeInfo, NTHash, Password, Policy, Trust, open_connection
from acredssp.aio import Streams, judge_server, reason_of
from acredssp.carriage import Carriage
from acredssp.credentials import Account, Deny, Nothing, TicketCache
from acredssp.delegation import DelegationPolicy
from acredssp.errors import AccessDenied, AuthenticationError, CertificateError, CredSSPError
from acredssp.hooks import Identity
from acredssp.hosts import Counted, HealthCheck, HostPool
from acredssp.policy import MechanismChoice
from acredssp.proxy.plugin import PlugIn
from acredssp.proxy.refused import Refused
from acredssp.proxy.settings import Problems, TargetSettings
from acredssp.rdp import ConnectionRequest, RequestFlags
from acredssp.status import SecurityStatus
from acredssp.trust import OptionNames
from acredssp.workers import Address

__all__ = ["Around", "Leg", "Target", "as_it_is", "in_words", "make_target", "split_account"]

Around: TypeAlias = Callable[[Carriage, str], Carriage]
"""Returns what carries a handshake in the place of its carriage. The text says whose handshake it is, for people."""

_MECHANISMS: Final = {
    "ntlm": MechanismChoice.NTLM,
    "kerberos": MechanismChoice.KERBEROS,
    "either": MechanismChoice.AUTO,
}
_SETTINGS: Final = OptionNames(
    name="certificate_name", authority="authorities", pin="pins", weak="which the gateway never does"
)
_NOBODY: Final = Password("", "nobody")
_MODES: Final = RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED | RequestFlags.REDIRECTED_AUTHENTICATION_MODE_REQUIRED
"""What a client asks for of its own logon. The target leg has a mode of its own, which `RDP` asks for."""


def as_it_is(carriage: Carriage, _: str) -> Carriage:
    """Return the carriage itself."""
    return carriage


@dataclasses.dataclass(slots=True)
class Leg:
    """A connection to a target on which the user is logged on.

    Attributes:
        target: The name of the target.
        address: Its host.
        streams: Reader and writer.
        seconds: How long connecting and logging on took, by stage.
        counted: The place in the pool that the connection takes until it is closed.
    """

    target: str
    address: Address
    streams: Streams
    seconds: dict[str, float]
    counted: Counted = dataclasses.field(repr=False)

    @property
    def mechanism(self) -> str:
        """What we have logged on by; empty where the client itself does."""
        info = self.streams[1].get_extra_info("credssp")
        return info.mechanism if isinstance(info, HandshakeInfo) else ""

    def close(self) -> None:
        """Close the connection at once, and give its place in the pool back; harmless when that is done."""
        self.streams[1].transport.abort()
        self.counted.close()


@dataclasses.dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Target:
    """Where connections lead, with all that its settings name.

    Attributes:
        name: Its name in the settings.
        settings: The settings.
        config: The configuration of its leg, with a credential of nobody.
        carriage: The carriage of its leg, without a client's Connection Request.
        injected: The injected credentials of the settings; None for those of the user or of `lookup`.
        lookup: The plug-in that gives the injected credentials; None without one.
        pool: Its hosts.
        around: Returns what carries the logons there.
    """

    name: str
    settings: TargetSettings
    config: ClientConfig
    carriage: RDP
    injected: Password | NTHash | None = dataclasses.field(repr=False)
    lookup: PlugIn | None
    pool: HostPool
    around: Around = as_it_is

    async def credentials_for(self, who: Identity) -> Password | NTHash | TicketCache:
        """Return the injected or constrained credentials for a connection.

        Raises:
            Refused: The plug-in has none, or the user may not be delegated.
        """
        if self.injected is not None:
            return self.injected
        if self.settings.credentials == "constrained":
            return self._constrained(who)
        assert self.lookup is not None
        answer = await self.lookup.ask(who, self.name)
        if isinstance(answer, Password) or (isinstance(answer, NTHash) and self.settings.restricted_admin):
            return answer
        if isinstance(answer, Deny):
            raise Refused(f"{self.lookup.name} refused the user", answer.nt_status)
        reason = f"{self.lookup.name}: expected a Password, or an NTHash with restricted_admin, got "
        raise Refused(reason + type(answer).__name__, NTSTATUS.STATUS_NO_LOGON_SERVERS)

    def _constrained(self, who: Identity) -> TicketCache:
        tickets: TicketCache | None = who.principal.tickets
        if tickets is not None:
            return tickets
        reason = f"target {self.name}: expected a user who may be delegated, got one who logged on by {who.mechanism}"
        if who.mechanism == "kerberos":
            reason += " with a ticket that is not forwardable, or whose account is sensitive, or no delegating_account"
        raise Refused(reason, NTSTATUS.STATUS_ACCOUNT_RESTRICTION)

    def log_on(
        self,
        credentials: Password | NTHash | TicketCache,
        account: Account,
        request: ConnectionRequest | None,
        *,
        token: str = "",
        logon_timeout: float | None = None,
    ) -> Awaitable[Leg]:
        """Connect and log on to the first host that can be connected to, once the result is awaited.

        Args:
            credentials: By what.
            account: Whose connection this is, for the pool.
            request: The client's Connection Request, which the target gets in its essence; None for none.
            token: The client's routing token, which may name a host.
            logon_timeout: Seconds for the logon at one host.

        Raises:
            Refused: No host can be connected to, or the logon failed.
        """
        begin = functools.partial(self.log_on_at, credentials=credentials, request=request, logon_timeout=logon_timeout)
        return self.reach(account, token, begin)

    async def reach(self, who: Account | str | None, token: str, begin: Callable[[Address], Awaitable[Leg]]) -> Leg:
        """Begin with the first host that can be connected to.

        Args:
            who: Whose connection this is, as `Pool.in_order` takes it.
            token: The client's routing token, which may name a host.
            begin: Makes the leg to a host.

        Raises:
            Refused: No host can be connected to, or `begin` raised it.
        """
        failed: OSError | None = None
        for address in await self.pool.in_order(who, token):
            try:
                leg = await begin(address)
            except OSError as error:
                failed = error
                self.pool.note(address, reason_of(error))
                continue
            try:
                await self.pool.stick(who, address)
            except BaseException:
                leg.close()
                raise
            return leg
        if failed is None:
            raise self.all_down()
        reason = f"target {self.name}: no host can be connected to, the last one because of: {reason_of(failed)}"
        raise Refused(reason, NTSTATUS.STATUS_NO_LOGON_SERVERS, failed)

    def all_down(self) -> Refused:
        """Return the refusal of a user whose target has no host that is up."""
        return Refused(f"target {self.name}: {self.pool.why_none()}", NTSTATUS.STATUS_NO_LOGON_SERVERS)

    async def log_on_at(
        self,
        address: Address,
        credentials: Password | NTHash | TicketCache,
        request: ConnectionRequest | None = None,
        *,
        logon_timeout: float | None = None,
    ) -> Leg:
        """Connect and log on to one host.

        Raises:
            OSError: The host cannot be connected to.
            Refused: The logon failed.
        """
        try:
            config = self.config.with_credential(credentials)
        except ValueError as error:
            raise Refused(f"target {self.name}: {error}", NTSTATUS.STATUS_LOGON_FAILURE, error) from error
        carriage = self.around(self._carriage(request), f"target {self.name}")
        clock = asyncio.get_running_loop().time
        begun, counted = clock(), self.pool.connection(address)
        try:
            streams = await open_connection(
                address.host,
                address.port,
                config=config,
                carriage=carriage,
                server_hostname=self.settings.certificate_name or address.host,
                spn=self.settings.spn or None,
                handshake_timeout=logon_timeout,
                connect_timeout=self.settings.connect_timeout,
            )
        except BaseException as error:
            counted.close()
            if not isinstance(error, CredSSPError):
                raise
            reason = f"target {self.name} at {address}: {self._in_words(error)}"
            raise Refused(reason, self._status(error), error) from error
        logon: float = streams[1].get_extra_info("handshake_seconds")
        return Leg(self.name, address, streams, {"connect": clock() - begun - logon, "logon": logon}, counted)

    async def dial(self, address: Address) -> Leg:
        """Make the leg to a host as far as its TCP connection, and count it.

        Raises:
            OSError: The host cannot be connected to.
        """
        clock = asyncio.get_running_loop().time
        begun, counted = clock(), self.pool.connection(address)
        try:
            streams = await self.connect(address)
        except BaseException:
            counted.close()
            raise
        return Leg(self.name, address, streams, {"connect": clock() - begun}, counted)

    async def probe(self, address: Address) -> None:
        """See whether a host negotiates CredSSP, and shows a certificate that is trusted. Nobody logs on.

        Raises:
            OSError: The host cannot be connected to.
            CredSSPError: The negotiation fails, or the certificate is not trusted.
        """
        name, streams = self.settings.certificate_name or address.host, await self.connect(address)
        async with asyncio.timeout(self.settings.connect_timeout):
            await judge_server(streams, self.config, carriage=self.carriage, server_hostname=name)

    async def connect(self, address: Address) -> Streams:
        """Make a TCP connection to a host.

        Raises:
            OSError: The host cannot be connected to.
        """
        try:
            async with asyncio.timeout(self.settings.connect_timeout):
                return await asyncio.open_connection(address.host, address.port)
        except TimeoutError:
            raise TimeoutError(f"{address} does not answer within {self.settings.connect_timeout:g} seconds") from None

    def _status(self, error: CredSSPError) -> NTSTATUS:
        return NTSTATUS.STATUS_ACCOUNT_RESTRICTION if self._may_not_delegate(error) else _status(error)

    def _may_not_delegate(self, error: CredSSPError) -> bool:
        """Whether the KDC refused constrained delegation: KDC_ERR_BADOPTION, whatever the reason ([MS-SFU] 3.2.5.2)."""
        constrained = self.settings.credentials == "constrained"
        return constrained and error.security_status is SecurityStatus.SEC_E_NO_CREDENTIALS

    def _in_words(self, error: CredSSPError) -> str:
        if self._may_not_delegate(error):
            return (
                "the kdc gives the gateway no ticket for this user (see that the domain lets the gateway's account "
                "delegate to this spn, and that the user's account is not sensitive and the user's ticket forwardable)"
            )
        return in_words(error)

    def _carriage(self, request: ConnectionRequest | None) -> RDP:
        if request is None:
            return self.carriage
        if request.flags and request.flags & _MODES:
            request = dataclasses.replace(request, flags=request.flags & ~_MODES)
        return self.carriage.with_request(request)


def in_words(error: CredSSPError) -> str:
    """Say what failed, with a hint that names settings where the library's own names its options."""
    return _SETTINGS.put_into(str(error))


def _status(error: CredSSPError) -> NTSTATUS:
    """Return what the user is told of a failure of the target leg."""
    match error:
        case AccessDenied():
            return error.nt_status or NTSTATUS.STATUS_ACCESS_DENIED
        case AuthenticationError():
            return error.nt_status or NTSTATUS.STATUS_LOGON_FAILURE
        case CertificateError():
            return NTSTATUS.STATUS_TRUSTED_RELATIONSHIP_FAILURE
        case _:
            return NTSTATUS.STATUS_NO_LOGON_SERVERS


# --- from the settings ---


def make_target(name: str, settings: TargetSettings, problems: Problems, around: Around = as_it_is) -> Target:
    """Read what the settings of a target name; what is wrong is noted in `problems`, and the result is then of no use.

    This reads files.
    """
    place = f"targets.{name}"
    trust, delegation, lookup = Trust(), DelegationPolicy(), None
    injected: Password | NTHash | None = None
    with problems.at(f"{place}.authorities"):
        trust = Trust.from_file(str(settings.authorities)) if settings.authorities else trust
    with problems.at(f"{place}.pins"):
        pinned = Trust.pinned(*settings.pins)
        trust = Trust(trust.authorities, pinned.pins) if settings.authorities or settings.pins else Trust.system()
    with problems.at(f"{place}.delegation"):
        delegation = DelegationPolicy.from_file(str(settings.delegation)) if settings.delegation else delegation
    with problems.at(f"{place}.lookup"):
        lookup = PlugIn(settings.lookup, f"target {name}: the lookup of its credentials,") if settings.lookup else None
    if settings.password or settings.nt_hash:
        with problems.at(f"{place}.account"):
            injected = Password("", *split_account(settings.account))
        if injected is not None:
            with problems.at(f"{place}.{'password' if settings.password else 'nt_hash'}"):
                injected = _injected(settings)
    config, check = cast("ClientConfig", None), HealthCheck(**dict(settings.check))
    with problems.at(f"{place}.mechanism"):
        policy = Policy(mechanism=_MECHANISMS[settings.mechanism])
        sent = Nothing() if settings.restricted_admin else None
        config = ClientConfig(authenticate=_NOBODY, delegate=sent, delegation=delegation, policy=policy, trust=trust)
    return Target(
        name=name,
        settings=settings,
        config=config,
        carriage=RDP(hybrid_ex=settings.hybrid_ex),
        injected=injected,
        lookup=lookup,
        pool=HostPool(name, settings.addresses, tokens=settings.tokens, sticky=settings.sticky, check=check),
        around=around,
    )


def split_account(account: str) -> tuple[str, str]:
    r"""Return user and domain of an injected account: of `DOMAIN\user`; other forms have no domain apart.

    Raises:
        ValueError: There is no user.
    """
    *domain, user = account.split("\\", 1)
    if not user or "\\" in user:
        raise ValueError(r"account: expected DOMAIN\user, user@realm or user, got another form")
    return user, "".join(domain)


def _injected(settings: TargetSettings) -> Password | NTHash:
    user, domain = split_account(settings.account)
    if settings.nt_hash is None:
        assert settings.password is not None
        return Password(settings.password.read(), user, domain)
    text = settings.nt_hash.read()
    try:
        return NTHash(bytes.fromhex(text), user, domain)
    except ValueError:
        raise ValueError("expected an nt hash of 32 hex digits") from None
