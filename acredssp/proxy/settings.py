"""The settings of the gateway: a TOML file, read into models that pydantic validates.

Each error names its place in the file (`listeners[0].routes[2].target: ...`) and what was expected there, and never the
value that was refused, since that may be a secret in the wrong place. A secret itself is not in the file: the file
names where it lies (`SecretSource`). Paths are relative to the folder of the file.

This module reads the file alone. What the file names (certificates, users, secrets) is read by whoever needs it, under
`Problems.at`, so that these errors name their place, too.
"""

import contextlib
import dataclasses
import difflib
import ipaddress
import os
import pathlib
import re
import ssl
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PlainValidator,
    ValidationError,
    ValidationInfo,
)
from pydantic import model_validator as check_model

from acredssp.aio import reason_of
from acredssp.errors import CredSSPError
from acredssp.stores import LockoutRule
from acredssp.workers import Address

__all__ = [
    "CertificateSettings", "LimitSettings", "Line", "ListenerSettings", "LockoutSettings",
    "LogonSettings", "Problems", "RDPFileSettings", "RouteSettings", "SecretSource", "Settings", "SettingsError",
    "StoreSettings", "TargetSettings", "in_words", "read",
]  # fmt: skip


class SettingsError(Exception):
    """The settings cannot be used.

    Args:
        problems: One line for each: the place in the file, and what is wrong there.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


_NO_PEM: Final = "no certificate or no key in it"


class Problems:
    """Collects what is wrong, so that all of it can be told at once."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def add(self, place: str, text: str) -> None:
        """Note what is wrong at a place of the file."""
        self._found.append(f"{place}: {text}" if place else text)

    @contextlib.contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Note what goes wrong in the block as a problem at this place; what follows in the block is left out."""
        try:
            yield
        except ssl.SSLError as error:
            self.add(place, f"openssl does not take the certificate with this key: {error.reason or _NO_PEM}")
        except OSError as error:
            self.add(place, f"{error.filename}: {reason_of(error)}" if error.filename else reason_of(error))
        except (ValueError, TypeError, CredSSPError) as error:
            self.add(place, str(error).removeprefix(f"{place.rpartition('.')[2]}: "))

    def check(self) -> None:
        """Raise a `SettingsError` with what was found; nothing where nothing was."""
        if self._found:
            raise SettingsError(self._found)


# --- values ---


@dataclasses.dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a secret lies: `file:PATH`, `env:NAME`, or `credential:NAME` for a credential of systemd."""

    kind: str
    name: str

    def read(self) -> str:
        """Return the secret, without the line's end behind it.

        Raises:
            OSError: The file cannot be read.
            ValueError: There is no such variable, no folder of credentials, or no text in it.
        """
        if self.kind == "env":
            if not os.environ.get(self.name):
                raise ValueError(
                    f"expected a secret in the environment variable {self.name}, which is empty or not set"
                )
            return os.environ[self.name]
        path = pathlib.Path(self.name)
        if self.kind == "credential":
            if "CREDENTIALS_DIRECTORY" not in os.environ:
                raise ValueError(
                    "expected credentials of systemd, got no $CREDENTIALS_DIRECTORY: see LoadCredential=; outside the "
                    "service, set the variable to the folder of the files"
                )
            path = pathlib.Path(os.environ["CREDENTIALS_DIRECTORY"], self.name)
        try:
            text = path.read_bytes().decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise ValueError(f"{path}: expected a text in utf-8") from None
        if not text:
            raise ValueError(f"{path}: expected a secret, got an empty file")
        return text


_ADDRESS: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:\[\]/@]+)):(?P<port>[0-9]{1,5})")
_SECRET: Final = re.compile(r"(file|env|credential):(.+)")
_ENTRY: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

_STORE_URL: Final = re.compile(r"rediss?://[^@?#\n]+|unix:///[^@?#\n]+")


def _address(value: object) -> Address:
    found = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found["port"]) > 65535:
        raise ValueError("expected HOST:PORT or [IPV6]:PORT")
    return Address(found["v6"] or found["host"], int(found["port"]))


def _token(value: object) -> object:
    if value is not True and not isinstance(value, str):
        raise ValueError("expected a text, or true for the tokens that the gateway issues")
    return value


def _target_address(value: object) -> Address:
    address = _address(value)
    if not address.port:
        raise ValueError("expected a port from 1 to 65535")
    return address


def _secret(value: object, info: ValidationInfo) -> SecretSource:
    found = _SECRET.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("expected file:PATH, env:NAME or credential:NAME, and never the secret itself")
    kind, name = found.groups()
    if kind == "credential" and ("/" in name or name in {".", ".."}):
        raise ValueError("expected credential:NAME without a slash")
    return SecretSource(kind, str(_beside(pathlib.Path(name), info)) if kind == "file" else name)


def _entry(value: object) -> EntryPoint:
    if not isinstance(value, str) or _ENTRY.fullmatch(value) is None:
        raise ValueError("expected a function of a plug-in, as package.module:function")
    return EntryPoint(value, value, "acredssp.proxy")


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise ValueError("expected a network, as 10.0.0.0/8 or 2001:db8::/32") from None
    return value


def _store_url(value: str) -> str:
    if _STORE_URL.fullmatch(value) is None:
        raise ValueError("expected redis://, rediss:// or unix://, without user, password and options")
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("expected printable characters")
    return value


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _file(value: object, info: ValidationInfo) -> pathlib.Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("expected the path of a file")
    return _beside(pathlib.Path(value), info)


def _beside(path: pathlib.Path, info: ValidationInfo) -> pathlib.Path:
    context = info.context or {}
    found = pathlib.Path(context.get("folder", pathlib.Path()), path)
    context.setdefault("files", {})[found] = info.field_name
    return found


_Listen: TypeAlias = Annotated[Address, BeforeValidator(_address)]
_Connect: TypeAlias = Annotated[Address, BeforeValidator(_target_address)]
_Secret: TypeAlias = Annotated[SecretSource, BeforeValidator(_secret)]
_Entry: TypeAlias = Annotated[InstanceOf[EntryPoint], BeforeValidator(_entry)]
_Network: TypeAlias = Annotated[str, AfterValidator(_network)]
_File: TypeAlias = Annotated[pathlib.Path, BeforeValidator(_file)]
_Seconds: TypeAlias = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
_Count: TypeAlias = Annotated[int, Field(ge=1)]
_MaybeEmpty: TypeAlias = Annotated[str, AfterValidator(_printable)]
Line: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(_printable)]
"""A text with at least one character and with printable characters only. It fits into one line of an .rdp file."""


# --- the file ---


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, strict=True, use_attribute_docstrings=True
    )


class CertificateSettings(_Model):
    """A certificate of a listener."""

    certificate: _File
    """The certificate chain in PEM, the server's own first."""
    key: _File
    """The private key in PEM, without a password."""
    names: list[Line] = []
    """The host names that clients ask for by SNI, `*.example.com` included; empty for clients that ask for no other
    certificate's name."""


class LogonSettings(_Model):
    """Who may log on at a listener, and by what."""

    users: _File | None = None
    """The users file, as `acredssp serve --users` takes it."""
    winbind: bool = False
    """Whether every user of the machine's domain may log on, by Samba's winbind."""
    ntlm_auth: Line = "ntlm_auth"
    """Samba's helper, for `winbind`."""
    lookup: _Entry | None = None
    """A plug-in's lookup, plain or async: it gets a `CredentialRequest` and gives an account's secret."""
    keytab: _File | None = None
    """The service's keys, for logons by Kerberos ticket."""
    spn: _MaybeEmpty = ""
    """The only service of the keytab that tickets are taken for; empty for all of them."""
    delegating_account: _MaybeEmpty = ""
    """The gateway's account in the domain, as `gateway@REALM`, for targets with constrained credentials. The keytab has
    its key."""
    realms: list[Line] = []
    """The realms whose tickets are taken. A KDC hands on the tickets of every realm that it trusts."""

    @check_model(mode="after")
    def _consistent(self) -> Self:
        ways = [self.users is not None, self.winbind, self.lookup is not None]
        if sum(ways) > 1:
            raise ValueError("expected one of users, winbind and lookup, got more")
        if not any(ways) and self.keytab is None:
            raise ValueError("expected users, winbind, lookup or keytab, got none: nobody could log on")
        if (self.keytab is None) != (not self.realms):
            raise ValueError("expected keytab and realms together, got one of them")
        if self.delegating_account and (self.keytab is None or self.spn):
            raise ValueError("delegating_account: expected with keytab, and without spn")
        return self


class RouteSettings(_Model):
    """Which connections a target is for. All conditions of a route must hold; a route without one takes every user."""

    token: Annotated[Literal[True] | str, PlainValidator(_token)] | None = None
    """The routing token that the client sends: `loadbalanceinfo` of an .rdp file. `true`: a token that `acredssp proxy
    token` or the API has issued, which names the target. A client whose token is no good is turned away."""
    cookie: str | None = None
    """The name in the client's `mstshash` cookie, without regard to case. Unproven; clients cut it to 9 characters."""
    blob: Line | None = None
    """The text of the client's preconnection PDU ([MS-RDPEPS]). The listener must take one (`preconnection`)."""
    sni: Line | None = None
    """The host name that the client asks for in TLS; `*` stands for any characters."""
    users: list[Line] = []
    r"""The accounts: `USER` of any domain, `DOMAIN\USER` or `USER@SUFFIX`."""
    groups: list[Line] = []
    """The groups of `[groups]` of which the user must be in one."""
    target: Line | None = None
    """The target, by its name in `[targets]`."""
    entry: _Entry | None = None
    """A plug-in that chooses, plain or async: it gets the `Identity` and gives the name of a target, or None for no
    answer, and then the next route is asked."""

    mode: Literal["terminate", "passthrough"] = "terminate"
    """`terminate`: users log on here, and the gateway logs on to the target. `passthrough`: nothing is decrypted, and
    users log on to the target itself; for Remote Credential Guard, smart cards, RDSTLS and Microsoft Entra. The route
    is taken if no route before it has conditions that hold."""
    allow_without_nla: bool = False
    """With `passthrough`: whether a client may begin a session without a logon before it. Everybody who can reach the
    gateway then sees the target's logon screen."""
    forward_preconnection: bool = False
    """With `passthrough`: whether the gateway sends the client's preconnection PDU to the target. Hyper-V needs it."""

    @check_model(mode="after")
    def _consistent(self) -> Self:
        if [self.target is not None, self.entry is not None, self.token is True].count(True) != 1:
            raise ValueError("expected one of target, entry and token = true")
        if self.mode == "passthrough" and (self.entry or self.users or self.groups or self.sni):
            raise ValueError(
                "entry, users, groups and sni: expected none with mode = 'passthrough', which decrypts nothing"
            )
        if self.mode == "terminate" and (self.allow_without_nla or self.forward_preconnection):
            raise ValueError("allow_without_nla and forward_preconnection: expected with mode = 'passthrough' alone")
        if self.token is not None and self.cookie is not None:
            raise ValueError("expected token or cookie, got both: a client sends one of them")
        return self


class ListenerSettings(_Model):
    """An address that clients connect to."""

    address: _Listen
    """`HOST:PORT`; port 0 takes a free port."""
    hybrid_ex: bool = True
    """Whether clients are told by HYBRID_EX whether they may come in. Only this tells a user of a refusal of the target
    where the user's own credentials are delegated; FreeRDP 2 offers it and then gives up."""
    restricted_admin: bool = False
    """Whether clients may delegate nothing (`mstsc /restrictedAdmin`): for targets with injected credentials."""
    preconnection: bool = False
    """Whether clients may send a preconnection PDU, as `xfreerdp /pcb:TEXT` does; for routes with `blob`."""
    proxy_protocol: list[_Network] = []
    """The networks of load balancers in front, as `10.0.0.0/8`. Connections from there must begin with a PROXY header,
    and others must not."""
    certificates: Annotated[list[CertificateSettings], Field(min_length=1)]
    """The certificates, by name."""
    logon: LogonSettings
    """Who may log on."""
    routes: Annotated[list[RouteSettings], Field(min_length=1)]
    """The routes, in their order: the first one that fits is taken."""
    handshake_timeout: _Seconds = 30.0
    """Seconds for the whole handshake, the logon at the target included."""

    @check_model(mode="after")
    def _consistent(self) -> Self:
        if not self.preconnection and any(route.blob is not None for route in self.routes):
            raise ValueError("preconnection: expected true, since a route has a blob")
        return self


class CheckSettings(_Model):
    """How the gateway finds out whether a host of a target is up: by the two PDUs with which RDP begins."""

    enabled: bool = True
    """Whether hosts are checked. Without it, hosts are down only after connections to them have failed."""
    interval: _Seconds = 10.0
    """Seconds between two checks of a host; each time up to a fifth more or less."""
    timeout: _Seconds = 5.0
    """Seconds that a host has for its answer."""
    failures: Annotated[int, Field(ge=1)] = 3
    """How many checks must fail one after another before a host is down. One that succeeds brings it up again."""


class TargetSettings(_Model):
    """Where connections lead, and how the gateway logs on there."""

    addresses: Annotated[list[_Connect], Field(min_length=1)]
    """`HOST:PORT` of each host; of those that are up, the one with the fewest connections is taken."""
    sticky: Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)] = 86_400.0
    """Seconds for which a user who comes again is sent to the same host, counted from when the user came; 0 for
    never."""
    tokens: dict[Line, _Connect] = {}
    """Routing tokens that name one of `addresses`, as a farm gives them to clients that it redirects: `tsv://...`.
    `Cookie: msts=...` names its host by itself."""
    check: CheckSettings = CheckSettings()
    """How it is found out whether a host is up."""
    credentials: Literal["delegated", "injected", "constrained", "token"] = "delegated"
    """`delegated`: by what the user sends. `injected`: by `account` and `password` or `nt_hash`, or by `lookup`.
    `constrained`: as the user, by Kerberos constrained delegation; no password is anywhere. `token`: by the account and
    password that the broker gave with the token (`token = true` of the route)."""
    account: _MaybeEmpty = ""
    r"""The injected account: `DOMAIN\user`, `user@realm` or `user`."""
    password: _Secret | None = None
    """Where the injected account's password lies."""
    nt_hash: _Secret | None = None
    """Where the injected account's NT hash lies, in hex. A hash takes restricted admin at the target."""
    lookup: _Entry | None = None
    """A plug-in that gives the injected credentials, plain or async: it gets the `Identity` and the target's name, and
    gives a `Password`, an `NTHash` or `Deny`."""
    restricted_admin: bool = False
    """Whether nothing is delegated to the target: no password reaches it."""
    mechanism: Literal["ntlm", "kerberos", "either"] = "either"
    """What the gateway logs on by. `either`: Kerberos where the account names a realm, else or failing that NTLM."""
    spn: _MaybeEmpty = ""
    """The target's service principal name; empty for `TERMSRV/` and `certificate_name` or the host of
    the address. No KDC is asked for an IP address."""
    certificate_name: _MaybeEmpty = ""
    """The name in the target's certificate; empty for the host of the address."""
    authorities: _File | None = None
    """The authorities that the target's certificate is trusted by, in PEM. The operating system's where neither this
    nor `pins` is given."""
    pins: list[Line] = []
    """SHA-256 of the target's public keys in hex (`acredssp login` prints it), trusted without an authority."""
    delegation: _File | None = None
    """A delegation policy in TOML, by the names of Windows' settings (docs/policy.md); Windows' defaults without it."""
    hybrid_ex: bool = True
    """Whether the target is offered HYBRID_EX, by which it says whether the user may log on remotely."""
    connect_timeout: _Seconds = 10.0
    """Seconds for the TCP connection."""

    @check_model(mode="after")
    def _consistent(self) -> Self:
        sources = [self.password is not None, self.nt_hash is not None, self.lookup is not None]
        if any(address not in self.addresses for address in self.tokens.values()):
            raise ValueError("tokens: expected each to name one of addresses")
        if self.credentials == "constrained" and not (self.restricted_admin and self.mechanism == "kerberos"):
            raise ValueError("constrained credentials: expected restricted_admin = true and mechanism = 'kerberos'")
        if self.credentials != "injected":
            if any(sources) or self.account:
                raise ValueError("account, password, nt_hash and lookup: expected with credentials = 'injected' alone")
            return self
        if sum(sources) != 1:
            raise ValueError("expected one of password, nt_hash and lookup with credentials = 'injected'")
        if (self.lookup is None) != bool(self.account):
            raise ValueError("expected account with password or nt_hash, and none with lookup")
        if self.nt_hash is not None and not self.restricted_admin:
            raise ValueError("nt_hash: expected with restricted_admin = true, since a hash cannot be delegated")
        if self.nt_hash is not None and self.mechanism == "kerberos":
            raise ValueError("nt_hash: expected mechanism ntlm or either, got kerberos")
        return self


class RunSettings(_Model):
    """How the process runs."""

    node: _MaybeEmpty = ""
    """The node's name, as lists of connections have it; the machine's without it."""
    grace: _Seconds = 30.0
    """Seconds that relayed connections get to end after SIGTERM."""
    leave: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 0.0
    """Seconds after SIGTERM in which connections are still accepted, while `/readyz` says no: time for a load balancer
    to send new users elsewhere. Without it, users in the kernel's queue at that moment are reset."""
    log: Literal["text", "json"] = "text"
    """How lines are written to the standard error: `json` writes an object a line. A connection's line is an object
    either way."""


class AdminSettings(_Model):
    """Where the gateway's state is shown over HTTP: /healthz, /readyz, /metrics. Nobody is asked who they are.

    A client has 30 seconds for a request with its answer, and to the next one; a source may have 64 connections at a
    time. These limits are no settings.
    """

    address: _Listen = Address("127.0.0.1", 9389)
    """`HOST:PORT`; port 0 takes a free port."""


def _together(certificate: object, key: object) -> None:
    if (certificate is None) != (key is None):
        raise ValueError("expected certificate and key together, got one of them")


class APISettings(_Model):
    """The HTTP API by which brokers issue tokens, and see and end connections; see `acredssp.proxy.api`.

    The limits of `[admin]` hold here, too: 30 seconds for a request, and 64 connections at a time from one source.
    """

    address: _Listen = Address("127.0.0.1", 9390)
    """`HOST:PORT`; port 0 takes a free port."""
    secret: _Secret
    """Where the secret of every request lies. Who has it can let anybody in, as far as the logon allows."""
    certificate: _File | None = None
    """The certificate chain in PEM, the server's own first; needed unless the address is a loopback address."""
    key: _File | None = None
    """The private key in PEM, without a password."""

    @check_model(mode="after")
    def _consistent(self) -> Self:
        _together(self.certificate, self.key)
        if self.certificate is None and not _is_loopback(self.address.host):
            raise ValueError("expected certificate and key, or a loopback address: the secret would travel in clear")
        return self


class StoreSettings(_Model):
    """The store that nodes share: Redis or Valkey, without Sentinel or Cluster."""

    url: Annotated[str, AfterValidator(_store_url)]
    """`redis://HOST:PORT/DB`, `rediss://...` for TLS, or `unix:///PATH`; without user, password and options."""
    keys: _Secret
    """The keys that seal what the store keeps, which `acredssp proxy keys` makes; the same at every node."""
    username: _MaybeEmpty = ""
    """The ACL user; empty for the default one."""
    password: _Secret | None = None
    """Where the user's password lies."""
    authorities: _File | None = None
    """The authorities that the store's certificate is trusted by, in PEM; the operating system's without it."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "acredssp"
    """What all keys in the store begin with; the same at every node."""
    timeout: _Seconds = 2.0
    """Seconds that one question to the store may take."""


class RDPFileSettings(_Model):
    """The .rdp files that are made with tokens."""

    address: Line
    """The gateway as clients reach it: `HOST` or `HOST:PORT`."""
    certificate: _File | None = None
    """The chain of the certificate that signs the files, in PEM; without it, they are not signed."""
    key: _File | None = None
    """The RSA key of that certificate, in PEM, without a password."""

    @check_model(mode="after")
    def _consistent(self) -> Self:
        _together(self.certificate, self.key)
        return self


class LockoutSettings(_Model):
    """When an account is locked out at all nodes, wherever the wrong passwords came from. Its owner is, too."""

    failures: _Count = 10
    """Wrong passwords for an account that lock it. Each further one doubles the time."""
    source_failures: _Count | None = None
    """Wrong passwords of one source, for all accounts together, that lock the source out; never without it."""
    shortest: _Seconds = 5.0
    """Seconds of the first lock."""
    longest: _Seconds = 900.0
    """Seconds of the longest lock."""
    window: _Seconds = 900.0
    """Seconds without a wrong password after which all are forgotten, counted from the end of the lock."""
    allow_without_store: bool = False
    """Whether users may log on by password while the store is away and nobody knows who is locked out."""

    def rule(self, most: int) -> LockoutRule:
        """Return the rule that locks from so many failures on."""
        return LockoutRule(most=most, window=self.window, shortest=self.shortest, longest=self.longest)


class LimitSettings(_Model):
    """How much of the gateway one client may use. Each process counts for itself; only `lockout` counts for all."""

    handshakes: _Count = 500
    """Handshakes at a time, for each listener."""
    handshakes_per_source: _Count = 100
    """Handshakes at a time from one source: an IPv4 address, or a /64 network of IPv6; for each listener."""
    failed_per_second: _Count = 20
    """Failed handshakes of one source in a second; after that, its next connections wait up to half a second."""
    failures: _Count = 10
    """Wrong passwords of one source for one account within `failures_window`. After that, the source has to wait as
    long before it may try the account again, and twice as long each further time."""
    failures_window: _Seconds = 600.0
    """Seconds in which `failures` are counted."""
    lockout: LockoutSettings | None = None
    """When an account is locked out, for all processes that share a store; never without it."""
    connections: _Count | None = None
    """Connections at a time, handshakes included; no limit without it."""
    connections_per_source: _Count | None = None
    """Connections at a time from one source."""
    connections_per_user: _Count | None = None
    """Connections at a time of one user who has logged on. mstsc connects twice for a moment when it reconnects."""
    connections_per_target: _Count | None = None
    """Connections at a time to one target."""
    first_bytes: _Seconds = 10.0
    """Seconds until the client's whole Connection Request, counted from the end of a PROXY header."""
    logon: _Seconds = 20.0
    """Seconds for the logon at one host of a target, without the TCP connection."""
    idle: _Seconds | None = None
    """Seconds in which nothing moves after which a connection is cut; no limit without it."""
    total: _Seconds | None = None
    """Seconds after which a relayed connection is cut; no limit without it."""


class Settings(_Model):
    """The whole file."""

    listeners: Annotated[list[ListenerSettings], Field(min_length=1)]
    """The addresses that clients connect to."""
    targets: Annotated[dict[Line, TargetSettings], Field(min_length=1)]
    """Where connections lead, by name."""
    groups: dict[Line, list[Line]] = {}
    r"""The members of each group: `USER` of any domain, `DOMAIN\USER` or `USER@SUFFIX`."""
    limits: LimitSettings = LimitSettings()
    """What one client may take."""
    admin: AdminSettings | None = None
    """Where the state is shown; nowhere without it."""
    run: RunSettings = RunSettings()
    """How the process runs."""
    api: APISettings | None = None
    """Where brokers ask; nowhere without it."""
    store: StoreSettings | None = None
    """What nodes share; each process keeps it for itself without it."""
    rdp_file: RDPFileSettings | None = None
    """The .rdp files that are made with tokens; none without it."""

    @property
    def admits_by_store(self) -> bool:
        """Whether nobody comes in while the store is away."""
        lockout, routes = self.limits.lockout, [route for listener in self.listeners for route in listener.routes]
        return (lockout is not None and not lockout.allow_without_store) or all(route.token is True for route in routes)

    def check_shared(self, problems: Problems, processes: int) -> None:
        """See that there is a shared store where several processes need one."""
        tokens = any(route.token is True for listener in self.listeners for route in listener.routes)
        needs = {"token = true of a route": tokens, "[api]": self.api, "limits.lockout": self.limits.lockout}
        if self.store is None and processes > 1 and any(needs.values()):
            names = ", ".join(name for name, needed in needs.items() if needed)
            problems.add("store", f"expected [store] with several workers, since they share what {names} needs")

    def _check_names(self, problems: Problems) -> None:
        """See that what routes name is there."""
        for number, listener in enumerate(self.listeners):
            for index, route in enumerate(listener.routes):
                place = f"listeners[{number}].routes[{index}]"
                if route.token is True and self.store is None and self.api is None:
                    problems.add(f"{place}.token", "expected [store] or [api], by which tokens are issued")
                if route.target is not None and route.target not in self.targets:
                    problems.add(f"{place}.target", _unknown("target", route.target, self.targets))
                elif route.target is not None and self.targets[route.target].credentials == "token":
                    problems.add(f"{place}.target", "expected token = true, by which this target's credentials come")
                for group in route.groups:
                    if group not in self.groups:
                        problems.add(f"{place}.groups", _unknown("group", group, self.groups))


def read(path: pathlib.Path) -> Settings:
    """Read the settings of a file.

    Raises:
        SettingsError: The file cannot be read, is no TOML, or holds no such settings.
    """
    problems, content = Problems(), {}
    with problems.at(""):
        content = _parsed(path)
    problems.check()
    context: dict[str, Any] = {"folder": path.parent, "files": {}}
    try:
        settings = Settings.model_validate(content, context=context)
    except ValidationError as error:
        for text in in_words(error):
            problems.add("", text)
        for file, name in context["files"].items():  # what is right, and would be told of next
            with problems.at(name):
                file.stat()
        problems.check()
        raise
    settings._check_names(problems)  # noqa: SLF001 - a part of reading them
    problems.check()
    return settings


def _parsed(path: pathlib.Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected a text in utf-8") from None
    except (ValueError, RecursionError) as error:
        # Python's words quote no more than a character or a key, and say the line.
        where = re.search(r"\(at [a-z0-9, ]+\)", str(error))
        raise ValueError(f"{path}: expected toml, got something else {where[0] if where else ''}".rstrip()) from None


def in_words(error: ValueError) -> list[str]:
    """Return what is wrong, in the words of this project, each with its place. No value is quoted."""
    if not isinstance(error, ValidationError):
        return [str(error)]
    found = error.errors(include_url=False, include_input=False)
    return [f"{_place(each['loc'])}: {_text(each['loc'], each)}".removeprefix(": ") for each in found]


def _place(loc: tuple[int | str, ...]) -> str:
    """Return a place as the file has it: `listeners[0].routes[2].target`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def _text(loc: tuple[int | str, ...], error: Mapping[str, Any]) -> str:
    """Say what is wrong in the words of this project. pydantic's own may hold no value, as all of these."""
    match error["type"]:
        case "extra_forbidden":
            known = _NAMES if len(loc) > 1 else [*Settings.model_fields]
            if str(loc[-1]) in known:
                return "no such setting here"
            similar = difflib.get_close_matches(str(loc[-1]), known, n=1)
            return "no such setting" + (f"; {similar[0]} is one" if similar else "")
        case "value_error":
            return str(error["ctx"]["error"])
        case kind if kind in _WORDS:
            return _WORDS[kind].format(**error.get("ctx", {}))
        case _:
            text = str(error["msg"]).replace("Input should be", "expected").replace("Input should have", "expected")
            return text[:1].lower() + text[1:]


_WORDS: Final = {
    "model_type": "expected a table", "dict_type": "expected a table", "string_type": "expected a text",
    "bool_type": "expected true or false", "int_type": "expected a whole number", "float_type": "expected a number",
    "list_type": "expected a list", "missing": "expected a value, got none",
    "too_long": "expected at most {max_length}",
    "string_too_short": "expected a text that is not empty", "less_than_equal": "expected at most {le:g}",
    "too_short": "expected at least {min_length}, got {actual_length}", "greater_than": "expected more than {gt:g}",
}  # fmt: skip
"""What is wrong with a value, in the words of TOML, for some of pydantic's types of errors."""


def _unknown(what: str, name: str, known: Mapping[str, object]) -> str:
    similar = difflib.get_close_matches(name, known, n=1)
    return f"no such {what}" + (f"; {similar[0]!a} is one" if similar else "")


_NAMES: Final = sorted({name for model in _Model.__subclasses__() for name in model.model_fields})
"""Every setting there is, for suggestions."""
