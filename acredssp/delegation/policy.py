"""The delegation policy: its settings, and the decision for one server."""

import dataclasses
from typing import Final, Self

from acredssp.credentials import DelegatedKind
from acredssp.delegation.decision import DelegationDecision, DelegationRequest
from acredssp.delegation.servers import SPNList
from acredssp.delegation.settings import (
    ALLOW,
    ALLOW_NTLM_ONLY,
    DENY,
    NTLM_ONLY_OF_DOMAIN,
    RESTRICTED,
    SETTINGS,
    RestrictedAdministration,
    Setting,
)
from acredssp.delegation.toml import read_fields, read_file
from acredssp.policy import EncryptionOracle, Policy
from acredssp.status import SecurityStatus

__all__ = ["DelegationPolicy"]

_NOTHING: Final = DelegatedKind.NOTHING


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DelegationPolicy:
    """Windows' settings of the same names. None stands for "not configured", an empty list for "disabled".

    Attributes:
        allow_default_credentials: None stands for no server.
        allow_default_credentials_when_ntlm_only: AllowDefCredentialsWhenNTLMOnly. None stands for no server.
        allow_fresh_credentials: None stands for `TERMSRV/*`.
        allow_fresh_credentials_when_ntlm_only: None stands for `TERMSRV/*`.
        allow_saved_credentials: None stands for `TERMSRV/*`.
        allow_saved_credentials_when_ntlm_only: None stands for no server on a machine in a domain, and for `TERMSRV/*`
            on any other machine.
        deny_default_credentials: None denies no server. A denial counts before every Allow.
        deny_fresh_credentials: None denies no server. A denial counts before every Allow.
        deny_saved_credentials: None denies no server. A denial counts before every Allow.
        restricted_administration: RestrictedRemoteAdministration and its type. None allows passwords to be delegated.
        allow_encryption_oracle: None leaves the versions to `Policy` alone, which allows no vulnerable one by default.
        domain_joined: Whether this machine is in a domain. Windows finds that out by itself; here the caller has to say
            so. The default is the stricter rule.

    Raises:
        TypeError: A list is not an `SPNList`.
    """

    allow_default_credentials: SPNList | None = None
    allow_default_credentials_when_ntlm_only: SPNList | None = None
    allow_fresh_credentials: SPNList | None = None
    allow_fresh_credentials_when_ntlm_only: SPNList | None = None
    allow_saved_credentials: SPNList | None = None
    allow_saved_credentials_when_ntlm_only: SPNList | None = None
    deny_default_credentials: SPNList | None = None
    deny_fresh_credentials: SPNList | None = None
    deny_saved_credentials: SPNList | None = None
    restricted_administration: RestrictedAdministration | None = None
    allow_encryption_oracle: EncryptionOracle | None = None
    domain_joined: bool = True

    def __post_init__(self) -> None:
        for setting in SETTINGS:
            value = getattr(self, setting.field)
            if not isinstance(value, SPNList | None):
                raise TypeError(f"{setting.field}: expected an SPNList or None, got {type(value).__name__}")

    def decide(self, request: DelegationRequest) -> DelegationDecision:
        """Decide by the rules in the package's text. Call `check()` on the result."""
        authenticated = bool(request.server_auth)
        if request.mutual_auth and not authenticated:
            return DelegationDecision(request, SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED, _NOTHING)
        if not request.delegate:
            return DelegationDecision(request, SecurityStatus.SEC_E_OK, _NOTHING)
        kind = self.restrict(request.kind)
        if kind is _NOTHING:
            setting = RESTRICTED if self.restricted_administration is not None else ""
            return DelegationDecision(request, SecurityStatus.SEC_E_OK, _NOTHING, setting)
        if self.restricted_administration is not None and kind is not DelegatedKind.REMOTE_GUARD:
            return DelegationDecision(request, SecurityStatus.SEC_E_DELEGATION_POLICY, _NOTHING, RESTRICTED)
        return self._by_lists(request, kind, authenticated=authenticated)

    def restrict(self, kind: DelegatedKind) -> DelegatedKind:
        """Return the kind that RestrictedRemoteAdministration puts in place of `kind`. No list is consulted here.

        Restricted Admin replaces every kind by `nothing`. `EITHER` replaces every kind but that of Remote Guard.
        """
        restricted = self.restricted_administration
        if restricted is None or restricted is RestrictedAdministration.REMOTE_GUARD:
            return kind
        may_go = restricted is RestrictedAdministration.EITHER and kind == DelegatedKind.REMOTE_GUARD
        return kind if may_go else _NOTHING

    def _by_lists(self, request: DelegationRequest, kind: DelegatedKind, *, authenticated: bool) -> DelegationDecision:
        deny = DENY[request.credential_class]
        allow, ntlm_only = ALLOW[request.credential_class], ALLOW_NTLM_ONLY[request.credential_class]
        target = request.target
        if (pattern := self._find(deny, target)) is not None:
            return DelegationDecision(request, SecurityStatus.SEC_E_DELEGATION_POLICY, _NOTHING, deny.name, pattern)
        rule = allow if authenticated else ntlm_only
        if (pattern := self._find(rule, target)) is not None:
            return DelegationDecision(request, SecurityStatus.SEC_E_OK, kind, rule.name, pattern)
        if not authenticated and self._find(allow, target) is not None:
            return DelegationDecision(request, SecurityStatus.SEC_E_POLICY_NLTM_ONLY, _NOTHING, rule.name)
        configured: SPNList | None = getattr(self, rule.field)
        similar = configured.similar(target) if configured is not None else None
        return DelegationDecision(request, SecurityStatus.SEC_E_DELEGATION_POLICY, _NOTHING, rule.name, similar=similar)

    def _find(self, setting: Setting, target: str) -> str | None:
        configured: SPNList | None = getattr(self, setting.field)
        pattern = configured.find(target) if configured is not None else None
        if pattern is not None or (configured is not None and not configured.concatenate_defaults):
            return pattern
        default = SPNList() if setting is NTLM_ONLY_OF_DOMAIN and self.domain_joined else setting.default
        return default.find(target)

    # --- versions ---

    def for_client(self, policy: Policy) -> Policy:
        """Return a client's `Policy` with the versions that AllowEncryptionOracle forbids taken out.

        Raises:
            ValueError: No version is left.
        """
        return policy if self.allow_encryption_oracle is None else self.allow_encryption_oracle.for_client(policy)

    def for_server(self, policy: Policy) -> Policy:
        """Return a server's `Policy` with the versions that AllowEncryptionOracle forbids taken out.

        No other setting applies to a server.

        Raises:
            ValueError: No version is left.
        """
        return policy if self.allow_encryption_oracle is None else self.allow_encryption_oracle.for_server(policy)

    # --- TOML ---

    @classmethod
    def from_file(cls, path: str) -> Self:
        """Read a TOML file; see `from_toml`.

        Raises:
            OSError: The file cannot be read.
            ValueError: The file is not such a policy. The text names the file and the key.
        """
        return cls(**read_file(path))

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Read a policy from TOML: each of Windows' names has a list of patterns, or false for "disabled".

        Raises:
            ValueError: The text is not TOML, a key is unknown, or a value is wrong. The error names the key.
        """
        return cls(**read_fields(text))
