"""What a caller may get wrong: about Python, which the functions raise for, and about SSPI, which a status says."""

from acredssp.arguments import expect
from acredssp.errors import LocalProtocolError
from acredssp.status import SecurityStatus

__all__ = ["expect", "refusal"]


def refusal(reason: str, status: SecurityStatus, hint: str | None = None) -> LocalProtocolError:
    """Make the error of a call that is refused with `status` and changes nothing."""
    return LocalProtocolError(reason, security_status=status, hint=hint)
