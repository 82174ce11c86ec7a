"""The settings of "Credentials Delegation" by Windows' names, and what each one is where nobody configured it."""

import dataclasses
import enum
from typing import Final

from acredssp.delegation.servers import SPNList

__all__ = [
    "ALLOW",
    "ALLOW_NTLM_ONLY",
    "DENY",
    "NTLM_ONLY_OF_DOMAIN",
    "RESTRICTED",
    "SETTINGS",
    "CredentialClass",
    "RestrictedAdministration",
    "Setting",
]


class CredentialClass(enum.StrEnum):
    """Where the delegated credentials come from.

    Attributes:
        FRESH: The application passes them for this logon: somebody has just typed them.
        SAVED: Out of a store.
        DEFAULT: Those that the user is logged on with already: a ticket cache of the session.
    """

    FRESH = "fresh"
    SAVED = "saved"
    DEFAULT = "default"


class RestrictedAdministration(enum.IntEnum):
    """RestrictedRemoteAdministrationType: what may go to a server at most, with the numbers of the registry.

    Attributes:
        RESTRICTED_ADMIN: Nothing: Restricted Admin.
        REMOTE_GUARD: What Remote Credential Guard redirects.
        EITHER: Remote Credential Guard where there is a ticket for it, Restricted Admin otherwise.
    """

    RESTRICTED_ADMIN = 1
    REMOTE_GUARD = 2
    EITHER = 3


_NOBODY: Final = SPNList()
_ANY_TERMINAL_SERVER: Final = SPNList.of("TERMSRV/*")


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One list of the policy."""

    name: str
    """Windows' name."""
    field: str
    """Ours."""
    short: str
    """What follows `ConcatenateDefaults_`."""
    default: SPNList = _NOBODY
    """The servers where it is not configured."""


DENY: Final = {
    CredentialClass.DEFAULT: Setting("DenyDefaultCredentials", "deny_default_credentials", "DenyDefault"),
    CredentialClass.FRESH: Setting("DenyFreshCredentials", "deny_fresh_credentials", "DenyFresh"),
    CredentialClass.SAVED: Setting("DenySavedCredentials", "deny_saved_credentials", "DenySaved"),
}
ALLOW: Final = {
    CredentialClass.DEFAULT: Setting("AllowDefaultCredentials", "allow_default_credentials", "AllowDefault"),
    CredentialClass.FRESH: Setting(
        "AllowFreshCredentials", "allow_fresh_credentials", "AllowFresh", _ANY_TERMINAL_SERVER
    ),
    CredentialClass.SAVED: Setting(
        "AllowSavedCredentials", "allow_saved_credentials", "AllowSaved", _ANY_TERMINAL_SERVER
    ),
}
ALLOW_NTLM_ONLY: Final = {
    CredentialClass.DEFAULT: Setting(
        "AllowDefCredentialsWhenNTLMOnly", "allow_default_credentials_when_ntlm_only", "AllowDefNTLMOnly"
    ),
    CredentialClass.FRESH: Setting(
        "AllowFreshCredentialsWhenNTLMOnly",
        "allow_fresh_credentials_when_ntlm_only",
        "AllowFreshNTLMOnly",
        _ANY_TERMINAL_SERVER,
    ),
    CredentialClass.SAVED: Setting(
        "AllowSavedCredentialsWhenNTLMOnly",
        "allow_saved_credentials_when_ntlm_only",
        "AllowSavedNTLMOnly",
        _ANY_TERMINAL_SERVER,  # unless the machine is in a domain: `DelegationPolicy.domain_joined`
    ),
}
SETTINGS: Final = (*ALLOW.values(), *ALLOW_NTLM_ONLY.values(), *DENY.values())
NTLM_ONLY_OF_DOMAIN: Final = ALLOW_NTLM_ONLY[CredentialClass.SAVED]
RESTRICTED: Final = "RestrictedRemoteAdministration"
