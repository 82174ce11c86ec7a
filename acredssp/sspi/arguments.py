"""What a caller may get wrong: about Python, which the functions raise for, and about SSPI, which a status says."""

from acredssp.errors import LocalProtocolError
from acredssp.status import SecurityStatus

__all__ = ["expect", "refusal"]


def expect(name: str, value: object, *kinds: type) -> None:
    """Refuse a value of a Python type that the parameter does not take.

    Raises:
        TypeError: It does not.
    """
    if not isinstance(value, kinds):
        wanted = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise TypeError(f"{name}: expected {wanted}, got {type(value).__name__}")


def refusal(reason: str, status: SecurityStatus, hint: str | None = None) -> LocalProtocolError:
    """Make the error of a call that is refused with `status` and changes nothing."""
    return LocalProtocolError(reason, security_status=status, hint=hint)
