"""The question which credentials a server may be given, and the answer, with its error and its audit record."""

import dataclasses
import enum
import json
from typing import Final

from acredssp.credentials import DelegatedKind
from acredssp.delegation.settings import ALLOW, RESTRICTED, SETTINGS, CredentialClass
from acredssp.errors import PolicyError
from acredssp.status import SecurityStatus

__all__ = ["DelegationDecision", "DelegationRequest", "ServerAuth"]

_FIELDS: Final = {each.name: each.field for each in SETTINGS} | {RESTRICTED: "restricted_administration"}
"""The fields of a `DelegationPolicy` by Windows' names."""


class ServerAuth(enum.Flag):
    """What authenticates the server. It is empty for NTLM alone, which proves no name.

    Attributes:
        KERBEROS: Kerberos, which proves the server's name.
        CERTIFICATE: A trusted certificate for the target's name, or a pinned key.
        LOOPBACK: The server is this machine, and the mechanism proved that. An address of 127.0.0.0/8 is no proof,
            since it may be the end of a tunnel.
    """

    KERBEROS = 1
    CERTIFICATE = 2
    LOOPBACK = 4

    __hash__ = object.__hash__  # Enum's own is slow, being written in Python, and every client's decision needs one


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DelegationRequest:
    """The facts that a decision depends on.

    Attributes:
        target: The server's service principal name, such as `TERMSRV/host`; empty where there is none.
        server_auth: What authenticates the server.
        credential_class: The source of the credentials, which chooses the lists that count.
        kind: The kind of credentials that could be delegated.
        delegate: Whether delegation is asked for (ISC_REQ_DELEGATE).
        mutual_auth: Whether the server must be authenticated, whatever is delegated (ISC_REQ_MUTUAL_AUTH).
        certificate: The verdict on the server's certificate, such as `expired`; empty where it was not judged. It is
            only recorded.
        mechanism: The mechanism of the logon, `ntlm` or `kerberos`. It is only recorded.
        version: The CredSSP version. It is only recorded.
    """

    target: str
    server_auth: ServerAuth
    credential_class: CredentialClass = CredentialClass.FRESH
    kind: DelegatedKind = DelegatedKind.PASSWORD
    delegate: bool = True
    mutual_auth: bool = False
    certificate: str = ""
    mechanism: str = ""
    version: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", DelegatedKind(self.kind))  # callers may give the plain text


@dataclasses.dataclass(frozen=True, slots=True)
class DelegationDecision:
    """The decision on a request. It holds no secret, and goes into the audit log.

    Attributes:
        request: The request that was decided.
        status: SEC_E_OK, SEC_E_DELEGATION_POLICY, SEC_E_POLICY_NLTM_ONLY or SEC_E_MUTUAL_AUTH_FAILED.
        sends: The kind of credentials that may be sent: the request's kind, or `nothing`.
        setting: Windows' name of the setting that decided; empty where none did.
        pattern: The pattern of that setting that the target fits; None where none fits.
        similar: A pattern of that setting with the same host, but another service class or a port; None for none.
    """

    request: DelegationRequest
    status: SecurityStatus
    sends: DelegatedKind
    setting: str = ""
    pattern: str | None = None
    similar: str | None = None

    @property
    def allowed(self) -> bool:
        """Whether the logon may go on."""
        return self.status is SecurityStatus.SEC_E_OK

    def check(self) -> None:
        """Raise unless the logon may go on.

        Raises:
            PolicyError: The logon may not go on; the hint names the setting to change.
        """
        if self.status is not SecurityStatus.SEC_E_OK:
            raise self.error()

    def error(self) -> PolicyError:
        """Return the error that ends a logon by this refusal; the hint names the setting to change."""
        message, hint = self._reason()
        return PolicyError(message, security_status=self.status, hint=hint)

    @property
    def record(self) -> dict[str, object]:
        """The record for an audit log, in types that JSON has."""
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
        """Return why the logon is refused, and what to change."""
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
                f"give it a certificate that the client trusts, use kerberos, or list it in {_named(self.setting)}",
            )
        if self.setting == RESTRICTED:
            return (
                f"the delegation policy keeps every {self.request.kind} from {target}",
                f"delegate remote guard credentials, or change {_named(self.setting)}",
            )
        if self.pattern is not None:
            return (
                f"the delegation policy denies {what} to {target}",
                f"remove {self.pattern} from {_named(self.setting)}",
            )
        hint = f"list it in {_named(self.setting)}"
        if self.similar is not None:
            hint += f", where {self.similar} is another service"
        if not self.request.server_auth:
            hint += f", or authenticate it by kerberos or certificate and list it in {_named(ALLOW[source].name)}"
        return f"the delegation policy does not allow {what} for {target}", hint


def _named(setting: str) -> str:
    """Name a setting as programs and as administrators know it. The command line takes the former name away."""
    return f"{_FIELDS[setting]} of the DelegationPolicy ({setting} on windows)"
