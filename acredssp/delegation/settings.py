"""The settings of "Credentials Delegation" by Windows' names, with their defaults."""

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
    """The source of the delegated credentials.

    Attributes:
        FRESH: The application got them for this logon, for example from somebody who typed them.
        SAVED: They come out of a store.
        DEFAULT: The user is logged on with them already, as with the ticket cache of the session.
    """

    FRESH = "fresh"
    SAVED = "saved"
    DEFAULT = "default"


class RestrictedAdministration(enum.IntEnum):
    """RestrictedRemoteAdministrationType: the most that a server may be given, with the numbers of the registry.

    Attributes:
        RESTRICTED_ADMIN: Restricted Admin: nothing is delegated.
        REMOTE_GUARD: Remote Credential Guard: only the ticket that it delegates.
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
    """Windows' name of the setting."""
    field: str
    """The name of the field of `DelegationPolicy`."""
    short: str
    """The end of the name `ConcatenateDefaults_...` that belongs to the setting."""
    default: SPNList = _NOBODY
    """The servers where the setting is not configured."""


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
