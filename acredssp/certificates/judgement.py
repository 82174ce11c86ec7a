"""The judgement on a server's certificate: a verdict and its reason.

The functions below `trust.Trust` raise a `Refusal` for a fault; `Trust.judge` turns it into a `Judgement`.
"""

import dataclasses
import enum
from typing import Final

from acredssp.errors import CertificateError, PolicyError
from acredssp.status import SecurityStatus, Stage

__all__ = ["Judgement", "OptionNames", "Refusal", "Verdict"]


class Verdict(enum.Enum):
    """The result of judging a server's certificate.

    Attributes:
        TRUSTED: The certificate, or its pinned key, proves who the server is.
        UNTRUSTED: No trusted authority vouches for the certificate, or the chain breaks a rule without a verdict of its
            own.
        EXPIRED: The certificate, or that of an authority above it, is expired or not yet valid.
        WRONG_NAME: The certificate is for other names than the one that the client asked for.
        WRONG_USAGE: The certificate is not for servers, or an authority above it may not vouch for servers.
        WEAK: A key or a signature on the path to the authority is too weak: it can be forged.
        PIN_DIFFERS: The server's key is not the one that the client has pinned.
    """

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"
    EXPIRED = "expired"
    WRONG_NAME = "wrong_name"
    WRONG_USAGE = "wrong_usage"
    WEAK = "weak"
    PIN_DIFFERS = "pin_differs"

    @property
    def security_status(self) -> SecurityStatus:
        """The status that an SSPI caller gets for this verdict."""
        return _STATUS[self]


_STATUS: Final = {
    Verdict.TRUSTED: SecurityStatus.SEC_E_OK,
    Verdict.UNTRUSTED: SecurityStatus.SEC_E_UNTRUSTED_ROOT,
    Verdict.EXPIRED: SecurityStatus.SEC_E_CERT_EXPIRED,
    Verdict.WRONG_NAME: SecurityStatus.SEC_E_WRONG_PRINCIPAL,
    Verdict.WRONG_USAGE: SecurityStatus.SEC_E_CERT_WRONG_USAGE,
    Verdict.WEAK: SecurityStatus.SEC_E_ALGORITHM_MISMATCH,
    Verdict.PIN_DIFFERS: SecurityStatus.SEC_E_CERT_UNKNOWN,
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OptionNames:
    """The names of the options that a hint recommends, in the words of the program that shows the hint.

    Attributes:
        name: The option for the server's name in its certificate.
        authority: The option for a trusted authority.
        pin: The option for a pinned key.
        weak: The switch that accepts weak certificates.
    """

    name: str = "server_hostname"
    authority: str = "Trust.from_file"
    pin: str = "Trust.pinned"
    weak: str = "Trust(dangerous_allow_weak_certificates=True)"

    def put_into(self, text: str) -> str:
        """Return a text of an error or a hint with these names in place of the library's own."""
        for field in dataclasses.fields(self):
            text = text.replace(str(field.default), getattr(self, field.name))
        return text


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on a server's certificate, and its reason.

    Attributes:
        verdict: The result in one word.
        reason: Which certificate of the chain is at fault, and what is wrong with it; empty for TRUSTED.
        hint: What a person can do about it; empty for TRUSTED.
        position: The position of the certificate at fault in the chain, where 0 is the server's own one. None for a
            trusted authority, which is not in the chain, and for TRUSTED.
    """

    verdict: Verdict
    reason: str = ""
    hint: str = ""
    position: int | None = None

    @property
    def trusted(self) -> bool:
        """Whether the certificate authenticates the server."""
        return self.verdict is Verdict.TRUSTED

    @property
    def name(self) -> str:
        """The name of the verdict, for a log."""
        return self.verdict.name

    def error(self) -> CertificateError:
        """Return the error that ends a handshake for this judgement, with its reason, hint and status."""
        return CertificateError(
            self.reason, security_status=self.verdict.security_status, stage=Stage.TLS, hint=self.hint or None
        )

    def error_for(self, refused: PolicyError) -> CertificateError:
        """Return the error of a policy that demands an authenticated server, with the reason of this judgement added.

        Args:
            refused: The policy's own error, whose status is kept.
        """
        # For a key that differs from the pinned one, the policy's hint is left out: an attacker may be in between.
        hint = self.hint if self.verdict is Verdict.PIN_DIFFERS else f"{self.hint}; otherwise, {refused.hint}"
        return CertificateError(f"{refused.message}: {self.reason}", security_status=refused.security_status, hint=hint)


class Refusal(Exception):
    """A certificate, or a path to an authority, is refused. `trust` catches it always.

    Args:
        verdict: The kind of fault.
        reason: Which certificate is at fault, and what is wrong with it.
        position: The position of that certificate in the chain; None for a trusted authority.
        no_authority: Whether nothing but a trusted authority is missing.
        chain_ends: Whether the chain ends below an authority that the server has not sent.
        no_names: Whether the certificate has no names at all, so that asking for another name is no help.
    """

    def __init__(  # noqa: PLR0913 - all named
        self,
        verdict: Verdict,
        reason: str,
        position: int | None = None,
        *,
        no_authority: bool = False,
        chain_ends: bool = False,
        no_names: bool = False,
    ) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason
        self.position = position
        self.no_authority = no_authority
        self.chain_ends = chain_ends
        self.no_names = no_names
