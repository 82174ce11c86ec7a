"""Errors for a caller's mistakes: a wrong Python type raises TypeError, a misuse of SSPI is refused with a status."""

from acredssp.arguments import expect
from acredssp.errors import LocalProtocolError
from acredssp.status import SecurityStatus

__all__ = ["expect", "refusal"]


def refusal(reason: str, status: SecurityStatus, hint: str | None = None) -> LocalProtocolError:
    """Make the error of a call that is refused with `status` and changes nothing."""
    return LocalProtocolError(reason, security_status=status, hint=hint)
