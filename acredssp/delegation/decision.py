"""The question what a server may be given, and its answer: what a refusal says, and what the audit log gets."""

import dataclasses
import enum
import json

from acredssp.credentials import DelegatedKind
from acredssp.delegation.settings import ALLOW, RESTRICTED, CredentialClass
from acredssp.errors import PolicyError
from acredssp.status import SecurityStatus

__all__ = ["DelegationDecision", "DelegationRequest", "ServerAuth"]


class ServerAuth(enum.Flag):
    """What authenticates the server, by the numbers of CREDSSP_SERVER_AUTH. Empty: NTLM alone, which proves no name.

    Attributes:
        KERBEROS: Kerberos, which proves the server's name.
        CERTIFICATE: A trusted certificate for the target's name, or a pinned key.
        LOOPBACK: The server is this machine, and the mechanism proved it. An address of 127.0.0.0/8 does not: it may be
            a tunnel's end.
    """

    KERBEROS = 1
    CERTIFICATE = 2
    LOOPBACK = 4

    __hash__ = object.__hash__  # Enum's own is written in Python, and every client's decision is looked up by one


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DelegationRequest:
    """What a decision depends on.

    Attributes:
        target: The service principal name, `TERMSRV/host`; empty for nobody in particular.
        server_auth: What authenticates the server.
        credential_class: Where the credentials come from; chooses the lists to look into.
        kind: What there is to delegate.
        delegate: Whether it is asked for (ISC_REQ_DELEGATE).
        mutual_auth: Whether the server has to be authenticated, whatever is delegated (ISC_REQ_MUTUAL_AUTH).
        certificate: What was found of the server's certificate, `expired` for one; empty where nobody looked. For
            people.
        mechanism: What authenticated us: `ntlm`, `kerberos`. For the record.
        version: The CredSSP version. For the record.
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
        object.__setattr__(self, "kind", DelegatedKind(self.kind))  # its value will do


@dataclasses.dataclass(frozen=True, slots=True)
class DelegationDecision:
    """What came of a request. Holds no secret: it is what the audit log gets.

    Attributes:
        request: What was decided about.
        status: SEC_E_OK, SEC_E_DELEGATION_POLICY, SEC_E_POLICY_NLTM_ONLY or SEC_E_MUTUAL_AUTH_FAILED.
        sends: The kind of credentials that may go: the request's, or `nothing`.
        setting: Windows' name of the setting that decided; empty where none did.
        pattern: The pattern in it that the target fits; None for none.
    """

    request: DelegationRequest
    status: SecurityStatus
    sends: DelegatedKind
    setting: str = ""
    pattern: str | None = None

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
        if self.setting == RESTRICTED:
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
            hint += f", or authenticate it by kerberos or certificate and list it in {ALLOW[source].name}"
        return f"the delegation policy allows no {what} for {target}", hint
