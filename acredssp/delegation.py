"""What a server may be given: Windows' policy "Credentials Delegation", setting by setting, and what it comes to.

A client's question, once the server has proven its key and before any credentials leave. `DelegationPolicy.decide()`
is a pure function; `docs/policy.md` has the settings for administrators. Nothing here knows the engine or sends
anything, and nothing here is a secret.

    1  MUTUAL_AUTH asked for, and nothing authenticates the server     SEC_E_MUTUAL_AUTH_FAILED
    2  DELEGATE not asked for, or nothing to delegate                  empty credentials; no list counts
    3  RestrictedRemoteAdministration leaves nothing of them           empty credentials (Restricted Admin)
       ... or asks for Remote Guard, and they are others               SEC_E_DELEGATION_POLICY
    4  the target is in Deny<class>                                    SEC_E_DELEGATION_POLICY
    5  Kerberos, certificate or loopback authenticates the server:
           the target is in Allow<class>                               delegate
    6  nothing does (NTLM only):
           the target is in Allow<class>WhenNTLMOnly                   delegate
           the target is in Allow<class>                               SEC_E_POLICY_NLTM_ONLY
    7  anything else                                                   SEC_E_DELEGATION_POLICY

Who calls: `config`.
"""

import dataclasses
import difflib
import enum
import json
import pathlib
import tomllib
from typing import Any, Final, Self

from acredssp.errors import PolicyError
from acredssp.policy import FIRST_SAFE_VERSION, OLDEST_VERSION, Policy
from acredssp.status import SecurityStatus

__all__ = [
    "CredentialClass",
    "DelegationDecision",
    "DelegationPolicy",
    "DelegationRequest",
    "EncryptionOracle",
    "RestrictedAdministration",
    "SPNList",
    "ServerAuth",
]

NOTHING: Final = "nothing"
_REMOTE_GUARD: Final = "remote_guard"
"""Kinds of credentials, as `TSCredentials.kind` has them."""


class CredentialClass(enum.StrEnum):
    """Where the delegated credentials come from."""

    FRESH = "fresh"
    """The application passes them for this logon: somebody has just typed them."""
    SAVED = "saved"
    """Out of a store."""
    DEFAULT = "default"
    """Those that the user is logged on with already: a ticket cache of the session."""


class ServerAuth(enum.Flag):
    """What authenticates the server, by the numbers of CREDSSP_SERVER_AUTH. Empty: NTLM alone, which proves no name."""

    KERBEROS = 1
    CERTIFICATE = 2
    """A trusted certificate for the target's name, or a pinned key."""
    LOOPBACK = 4
    """The server is this machine, and the mechanism proved it. An address of 127.0.0.0/8 does not: it may be a
    tunnel's end."""

    __hash__ = object.__hash__  # Enum's own is written in Python, and every client's decision is looked up by one


class RestrictedAdministration(enum.IntEnum):
    """RestrictedRemoteAdministrationType: what may go to a server at most, with the numbers of the registry."""

    RESTRICTED_ADMIN = 1
    """Nothing: Restricted Admin."""
    REMOTE_GUARD = 2
    """What Remote Credential Guard redirects."""
    EITHER = 3
    """Remote Credential Guard where there is a ticket for it, Restricted Admin otherwise."""


class EncryptionOracle(enum.IntEnum):
    """AllowEncryptionOracle: which peers below version 5 (CVE-2018-0886) are allowed, with the registry's numbers.

    A level only ever forbids. What it leaves open takes `Policy(min_version=2, dangerous_allow_legacy_versions=True)`.
    """

    FORCE_UPDATED_CLIENTS = 0
    """None, on either side."""
    MITIGATED = 1
    """A server may let old clients in; a client goes to no old server."""
    VULNERABLE = 2
    """Both may."""

    def for_client(self, policy: Policy) -> Policy:
        """Return a client's policy with what the level forbids taken away.

        Raises:
            ValueError: No version is left.
        """
        return self._floored(policy, OLDEST_VERSION if self is EncryptionOracle.VULNERABLE else FIRST_SAFE_VERSION)

    def for_server(self, policy: Policy) -> Policy:
        """Return a server's policy with what the level forbids taken away.

        Raises:
            ValueError: No version is left.
        """
        forced = self is EncryptionOracle.FORCE_UPDATED_CLIENTS
        return self._floored(policy, FIRST_SAFE_VERSION if forced else OLDEST_VERSION)

    def _floored(self, policy: Policy, floor: int) -> Policy:
        if policy.min_version >= floor:
            return policy
        if policy.max_version < floor:
            raise ValueError(
                f"AllowEncryptionOracle: {_LEVEL_NAMES[self]} requires version {floor}, max_version is "
                f"{policy.max_version}"
            )
        return dataclasses.replace(policy, min_version=floor)


_LEVEL_NAMES: Final = {
    EncryptionOracle.FORCE_UPDATED_CLIENTS: "ForceUpdatedClients",
    EncryptionOracle.MITIGATED: "Mitigated",
    EncryptionOracle.VULNERABLE: "Vulnerable",
}


# --- lists of servers ---


@dataclasses.dataclass(frozen=True, slots=True)
class SPNList:
    """The servers of one setting.

    A pattern is a service principal name with at most one `*`, which stands for any text: `TERMSRV/host.example.com`,
    `TERMSRV/*.example.com`, `TERMSRV/*`. Case does not count, nor does the dot that may end a host's name.

    Raises:
        ValueError: A pattern is empty, has two `*`, or has spaces or control characters.
    """

    patterns: tuple[str, ...] = ()
    """No pattern: nobody, as a disabled setting."""
    concatenate_defaults: bool = False
    """Whether the servers that the setting has when it is not configured are meant too."""
    _folded: tuple[tuple[str, str, str, str], ...] = dataclasses.field(init=False, repr=False, compare=False)
    """Each pattern, and what is before its `*`, that, and what is behind: folded once, looked at in every logon."""

    def __post_init__(self) -> None:
        for pattern in self.patterns:
            _check_pattern(pattern)
        parts = tuple((pattern, *_fold(pattern).partition("*")) for pattern in self.patterns)
        object.__setattr__(self, "_folded", parts)

    @classmethod
    def of(cls, *patterns: str, concatenate_defaults: bool = False) -> Self:
        """From patterns."""
        return cls(patterns, concatenate_defaults)

    def find(self, target: str) -> str | None:
        """Return the first pattern that a service principal name fits; None for none."""
        name = _fold(target)
        for pattern, before, star, after in self._folded:
            if not star:
                if name == before:
                    return pattern
            elif len(name) >= len(before) + len(after) and name.startswith(before) and name.endswith(after):
                return pattern
        return None


def _fold(name: str) -> str:
    """Return a name as it is compared."""
    # As Python's resolver folds host names (RFC 3491), so that no Deny is got around by another spelling.
    return name.casefold().removesuffix(".")


def _check_pattern(pattern: str) -> None:
    if not pattern.removesuffix(".") or not pattern.isprintable() or " " in pattern:
        raise ValueError(f"expected a service principal name like TERMSRV/*.example.com, got {pattern!r}")
    if pattern.count("*") > 1:
        raise ValueError(f"expected at most one * in a pattern, got {pattern!r}")


@dataclasses.dataclass(frozen=True, slots=True)
class _Setting:
    """One list of the policy."""

    name: str
    """Windows' name."""
    field: str
    """Ours."""
    short: str
    """What follows `ConcatenateDefaults_`."""
    default: SPNList = SPNList()
    """The servers where it is not configured."""


_NOBODY: Final = SPNList()
_ANY_TERMINAL_SERVER: Final = SPNList.of("TERMSRV/*")

_DENY: Final = {
    CredentialClass.DEFAULT: _Setting("DenyDefaultCredentials", "deny_default_credentials", "DenyDefault"),
    CredentialClass.FRESH: _Setting("DenyFreshCredentials", "deny_fresh_credentials", "DenyFresh"),
    CredentialClass.SAVED: _Setting("DenySavedCredentials", "deny_saved_credentials", "DenySaved"),
}
_ALLOW: Final = {
    CredentialClass.DEFAULT: _Setting("AllowDefaultCredentials", "allow_default_credentials", "AllowDefault"),
    CredentialClass.FRESH: _Setting(
        "AllowFreshCredentials", "allow_fresh_credentials", "AllowFresh", _ANY_TERMINAL_SERVER
    ),
    CredentialClass.SAVED: _Setting(
        "AllowSavedCredentials", "allow_saved_credentials", "AllowSaved", _ANY_TERMINAL_SERVER
    ),
}
_ALLOW_NTLM_ONLY: Final = {
    CredentialClass.DEFAULT: _Setting(
        "AllowDefCredentialsWhenNTLMOnly", "allow_default_credentials_when_ntlm_only", "AllowDefNTLMOnly"
    ),
    CredentialClass.FRESH: _Setting(
        "AllowFreshCredentialsWhenNTLMOnly",
        "allow_fresh_credentials_when_ntlm_only",
        "AllowFreshNTLMOnly",
        _ANY_TERMINAL_SERVER,
    ),
    CredentialClass.SAVED: _Setting(
        "AllowSavedCredentialsWhenNTLMOnly",
        "allow_saved_credentials_when_ntlm_only",
        "AllowSavedNTLMOnly",
        _ANY_TERMINAL_SERVER,  # unless the machine is in a domain: `DelegationPolicy.domain_joined`
    ),
}
_SETTINGS: Final = (*_ALLOW.values(), *_ALLOW_NTLM_ONLY.values(), *_DENY.values())
_NTLM_ONLY_OF_DOMAIN: Final = _ALLOW_NTLM_ONLY[CredentialClass.SAVED]
_RESTRICTED: Final = "RestrictedRemoteAdministration"


# --- question and answer ---


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DelegationRequest:
    """What a decision depends on."""

    target: str
    """The service principal name, `TERMSRV/host`; empty for nobody in particular."""
    server_auth: ServerAuth
    credential_class: CredentialClass = CredentialClass.FRESH
    kind: str = "password"
    """What there is to delegate: `password`, `smartcard`, `remote_guard` or `nothing`."""
    delegate: bool = True
    """Whether it is asked for (ISC_REQ_DELEGATE)."""
    mutual_auth: bool = False
    """Whether the server has to be authenticated, whatever is delegated (ISC_REQ_MUTUAL_AUTH)."""
    certificate: str = ""
    """What was found of the server's certificate, `expired` for one; empty where nobody looked. For people."""
    mechanism: str = ""
    """What authenticated us: `ntlm`, `kerberos`. For the record."""
    version: int = 0
    """The CredSSP version. For the record."""


@dataclasses.dataclass(frozen=True, slots=True)
class DelegationDecision:
    """What came of a request. Holds no secret: it is what the audit log gets."""

    request: DelegationRequest
    status: SecurityStatus
    """SEC_E_OK, SEC_E_DELEGATION_POLICY, SEC_E_POLICY_NLTM_ONLY or SEC_E_MUTUAL_AUTH_FAILED."""
    sends: str
    """The kind of credentials that may go: the request's, or `nothing`."""
    setting: str = ""
    """Windows' name of the setting that decided; empty where none did."""
    pattern: str | None = None
    """The pattern in it that the target fits; None for none."""

    @property
    def allowed(self) -> bool:
        """Whether the logon may go on."""
        return self.status is SecurityStatus.SEC_E_OK

    def check(self) -> None:
        """Raise unless the logon may go on.

        Raises:
            PolicyError: It may not; the hint names the setting to change.
        """
        if self.status is not SecurityStatus.SEC_E_OK:
            raise self.error()

    def error(self) -> PolicyError:
        """Return the error that ends a logon by this refusal; the hint names the setting to change."""
        message, hint = self._reason()
        return PolicyError(message, security_status=self.status, hint=hint)

    @property
    def record(self) -> dict[str, object]:
        """The line of an audit log, as JSON knows it."""
        request = self.request
        return {
            "event": "delegation",
            "outcome": "allowed" if self.allowed else "refused",
            "status": self.status.name,
            "sends": self.sends,
            "target": request.target,
            "class": request.credential_class.value,
            "kind": request.kind,
            "server_auth": [str(flag.name).lower() for flag in request.server_auth],
            "certificate": request.certificate,
            "mechanism": request.mechanism,
            "version": request.version,
            "delegate": request.delegate,
            "mutual_auth": request.mutual_auth,
            "setting": self.setting,
            "pattern": self.pattern,
        }

    def __str__(self) -> str:
        """The record, in JSON on one line."""
        return json.dumps(self.record)

    def _reason(self) -> tuple[str, str]:
        """Say why not, and what to change."""
        target = self.request.target or "a server without a name"
        source = self.request.credential_class
        what = f"{source.value} credentials"
        if self.status is SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED:
            return (
                "the server could not be authenticated by a trusted certificate or by kerberos",
                "give it a certificate that the client trusts, use kerberos, or do not ask for mutual authentication",
            )
        if self.status is SecurityStatus.SEC_E_POLICY_NLTM_ONLY:
            return (
                f"the delegation policy keeps {what} from {target} as long as only ntlm authenticates it",
                f"give it a certificate that the client trusts, use kerberos, or list it in {self.setting}",
            )
        if self.setting == _RESTRICTED:
            return (
                f"the delegation policy keeps every {self.request.kind} from {target}",
                f"delegate remote guard credentials, or change {self.setting}",
            )
        if self.pattern is not None:
            return (
                f"the delegation policy denies {what} to {target}",
                f"take {self.pattern} out of {self.setting}",
            )
        hint = f"list it in {self.setting}"
        if not self.request.server_auth:
            hint += f", or authenticate it by kerberos or certificate and list it in {_ALLOW[source].name}"
        return f"the delegation policy allows no {what} for {target}", hint


# --- the policy ---


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DelegationPolicy:
    """Windows' settings of the same names. None is "not configured", an empty list is "disabled".

    Raises:
        TypeError: A list is no `SPNList`.
    """

    allow_default_credentials: SPNList | None = None
    """None: nobody."""
    allow_default_credentials_when_ntlm_only: SPNList | None = None
    """AllowDefCredentialsWhenNTLMOnly. None: nobody."""
    allow_fresh_credentials: SPNList | None = None
    """None: `TERMSRV/*`."""
    allow_fresh_credentials_when_ntlm_only: SPNList | None = None
    """None: `TERMSRV/*`."""
    allow_saved_credentials: SPNList | None = None
    """None: `TERMSRV/*`."""
    allow_saved_credentials_when_ntlm_only: SPNList | None = None
    """None: nobody, and `TERMSRV/*` where the machine is in no domain."""
    deny_default_credentials: SPNList | None = None
    """None: nobody is denied. A denial counts before every Allow."""
    deny_fresh_credentials: SPNList | None = None
    deny_saved_credentials: SPNList | None = None
    restricted_administration: RestrictedAdministration | None = None
    """RestrictedRemoteAdministration and its type. None: passwords may be delegated."""
    allow_encryption_oracle: EncryptionOracle | None = None
    """None: `Policy` alone says which versions are allowed, and by default none that is vulnerable."""
    domain_joined: bool = True
    """Whether this machine is in a domain, which Windows knows of itself. True, where nobody says: the stricter."""

    def __post_init__(self) -> None:
        for setting in _SETTINGS:
            value = getattr(self, setting.field)
            if not isinstance(value, SPNList | None):
                raise TypeError(f"{setting.field}: expected an SPNList or None, got {type(value).__name__}")

    def decide(self, request: DelegationRequest) -> DelegationDecision:
        """Decide, by the procedure of the module's text; `check()` what comes of it."""
        authenticated = bool(request.server_auth)
        if request.mutual_auth and not authenticated:
            return DelegationDecision(request, SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED, NOTHING)
        if not request.delegate:
            return DelegationDecision(request, SecurityStatus.SEC_E_OK, NOTHING)
        kind = self.restrict(request.kind)
        if kind == NOTHING:
            setting = _RESTRICTED if self.restricted_administration is not None else ""
            return DelegationDecision(request, SecurityStatus.SEC_E_OK, NOTHING, setting)
        if self.restricted_administration is not None and kind != _REMOTE_GUARD:
            return DelegationDecision(request, SecurityStatus.SEC_E_DELEGATION_POLICY, NOTHING, _RESTRICTED)
        return self._by_lists(request, kind, authenticated=authenticated)

    def restrict(self, kind: str) -> str:
        """Return what RestrictedRemoteAdministration makes of credentials of that kind, without asking whether it may.

        Restricted Admin has nothing in place of everything, and so has `EITHER` for all that is not Remote Guard's.
        """
        restricted = self.restricted_administration
        if restricted is None or restricted is RestrictedAdministration.REMOTE_GUARD:
            return kind
        return kind if restricted is RestrictedAdministration.EITHER and kind == _REMOTE_GUARD else NOTHING

    def _by_lists(self, request: DelegationRequest, kind: str, *, authenticated: bool) -> DelegationDecision:
        deny = _DENY[request.credential_class]
        allow, ntlm_only = _ALLOW[request.credential_class], _ALLOW_NTLM_ONLY[request.credential_class]
        target = request.target
        if (pattern := self._find(deny, target)) is not None:
            return DelegationDecision(request, SecurityStatus.SEC_E_DELEGATION_POLICY, NOTHING, deny.name, pattern)
        rule = allow if authenticated else ntlm_only
        if (pattern := self._find(rule, target)) is not None:
            return DelegationDecision(request, SecurityStatus.SEC_E_OK, kind, rule.name, pattern)
        if not authenticated and self._find(allow, target) is not None:
            return DelegationDecision(request, SecurityStatus.SEC_E_POLICY_NLTM_ONLY, NOTHING, rule.name)
        return DelegationDecision(request, SecurityStatus.SEC_E_DELEGATION_POLICY, NOTHING, rule.name)

    def _find(self, setting: _Setting, target: str) -> str | None:
        configured: SPNList | None = getattr(self, setting.field)
        pattern = configured.find(target) if configured is not None else None
        if pattern is not None or (configured is not None and not configured.concatenate_defaults):
            return pattern
        default = _NOBODY if setting is _NTLM_ONLY_OF_DOMAIN and self.domain_joined else setting.default
        return default.find(target)

    # --- versions ---

    def for_client(self, policy: Policy) -> Policy:
        """Return a client's `Policy` as far as AllowEncryptionOracle allows it.

        Raises:
            ValueError: It allows none of its versions.
        """
        return policy if self.allow_encryption_oracle is None else self.allow_encryption_oracle.for_client(policy)

    def for_server(self, policy: Policy) -> Policy:
        """Return a server's `Policy` as far as AllowEncryptionOracle allows it: all that the policy says to a server.

        Raises:
            ValueError: It allows none of its versions.
        """
        return policy if self.allow_encryption_oracle is None else self.allow_encryption_oracle.for_server(policy)

    # --- TOML ---

    @classmethod
    def from_file(cls, path: str) -> Self:
        """Read a TOML file; see `from_toml`.

        Raises:
            OSError: It cannot be read.
            ValueError: It is no such policy. The text names the file and the key.
        """
        try:
            return cls.from_toml(pathlib.Path(path).read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Read a policy from TOML: Windows' names, a list of patterns each, or false for "disabled".

        Raises:
            ValueError: It is no TOML, or a key is unknown, or its value is of no use. The text names the key.
        """
        content = tomllib.loads(text)
        fields: dict[str, Any] = {}
        for setting in _SETTINGS:
            if (servers := _take_list(content, setting)) is not None:
                fields[setting.field] = servers
        if (restricted := _take_restriction(content)) is not None:
            fields["restricted_administration"] = restricted
        if (level := _take_level(content)) is not None:
            fields["allow_encryption_oracle"] = level
        if (joined := _take_bool(content, "DomainJoined")) is not None:
            fields["domain_joined"] = joined
        _refuse_unknown(content)
        return cls(**fields)


# --- reading TOML: each takes its keys out of the content ---


def _take_list(content: dict[str, Any], setting: _Setting) -> SPNList | None:
    concatenate = _take_bool(content, f"ConcatenateDefaults_{setting.short}")
    value = content.pop(setting.name, None)
    if not isinstance(value, list):
        if value is not None and value is not False:
            raise ValueError(f"{setting.name}: expected a list of service principal names, or false, got {value!r}")
        if concatenate is not None:
            raise ValueError(f"ConcatenateDefaults_{setting.short}: expected beside a list in {setting.name} only")
        return None if value is None else SPNList()
    if wrong := [pattern for pattern in value if not isinstance(pattern, str)]:
        raise ValueError(f"{setting.name}: expected texts in the list, got {wrong[0]!r}")
    try:
        return SPNList(tuple(value), concatenate or False)
    except ValueError as error:
        raise ValueError(f"{setting.name}: {error}") from None


def _take_restriction(content: dict[str, Any]) -> RestrictedAdministration | None:
    key = f"{_RESTRICTED}Type"
    restricted = _take_bool(content, _RESTRICTED)
    number = content.pop(key, None)
    if not restricted:
        if number is not None:
            raise ValueError(f"{key}: expected beside {_RESTRICTED} = true only")
        return None
    if type(number) is not int or number not in [*RestrictedAdministration]:
        raise ValueError(
            f"{key}: expected 1 (Restricted Admin), 2 (Remote Credential Guard) or 3 (either), got {number!r}"
        )
    return RestrictedAdministration(number)


def _take_level(content: dict[str, Any]) -> EncryptionOracle | None:
    value = content.pop("AllowEncryptionOracle", None)
    if value is None:
        return None
    for level, name in _LEVEL_NAMES.items():
        if value == name:
            return level
    raise ValueError(f"AllowEncryptionOracle: expected one of {', '.join(_LEVEL_NAMES.values())}, got {value!r}")


def _take_bool(content: dict[str, Any], key: str) -> bool | None:
    value = content.pop(key, None)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{key}: expected true or false, got {value!r}")
    return value


def _refuse_unknown(content: dict[str, Any]) -> None:
    for key in content:
        similar = difflib.get_close_matches(key, _KEYS, n=1)
        raise ValueError(f"{key}: no such setting" + (f"; {similar[0]} is one" if similar else ""))


_KEYS: Final = (
    *(setting.name for setting in _SETTINGS),
    *(f"ConcatenateDefaults_{setting.short}" for setting in _SETTINGS),
    _RESTRICTED,
    f"{_RESTRICTED}Type",
    "AllowEncryptionOracle",
    "DomainJoined",
)
