"""What the headers define as macros: tests of a status, and of a handle."""

from acredssp.sspi.arguments import expect
from acredssp.sspi.handles import CredHandle, CtxtHandle
from acredssp.status import SecurityStatus

__all__ = ["FAILED", "SEC_SUCCESS", "SUCCEEDED", "SecInvalidateHandle", "SecIsValidHandle"]


def SEC_SUCCESS(Status: int) -> bool:
    """Whether a status is one of success or information.

    Args:
        Status: A `SecurityStatus`, or its number: signed as pywin32 has it, or unsigned.

    Raises:
        TypeError: It is no number.
        ValueError: It does not have 32 bits.
    """
    return not FAILED(Status)


SUCCEEDED = SEC_SUCCESS
"""The macro of winerror.h for the same test."""


def FAILED(hr: int) -> bool:
    """Whether a status is one of failure; takes and raises what `SEC_SUCCESS` does."""
    expect("status", hr, int)
    return SecurityStatus(hr).failed


def SecIsValidHandle(x: CredHandle | CtxtHandle) -> bool:
    """Whether a handle was ever filled: whether its two words are something else than all ones.

    As in C, a handle whose context was deleted or whose credentials were freed still counts. `handle.valid` says
    whether what it stands for can still be used.

    Raises:
        TypeError: It is no handle.
    """
    expect("x", x, CredHandle, CtxtHandle)
    return x.referent is not None


def SecInvalidateHandle(x: CredHandle | CtxtHandle) -> None:
    """Make a handle stand for nothing, as a new one does. What it stood for is not freed.

    Raises:
        TypeError: It is no handle.
    """
    expect("x", x, CredHandle, CtxtHandle)
    x.referent = None
