"""The macros of the SDK's headers that test a status or a handle, as functions."""

from acredssp.sspi.arguments import expect
from acredssp.sspi.handles import CredHandle, CtxtHandle
from acredssp.status import SecurityStatus

__all__ = ["FAILED", "SEC_SUCCESS", "SUCCEEDED", "SecInvalidateHandle", "SecIsValidHandle"]


def SEC_SUCCESS(Status: int) -> bool:
    """Return whether a status means success or information.

    Args:
        Status: A `SecurityStatus`, or its number, signed as pywin32 has it or unsigned.

    Raises:
        TypeError: `Status` is no number.
        ValueError: `Status` does not fit into 32 bits.
    """
    return not FAILED(Status)


SUCCEEDED = SEC_SUCCESS
"""The macro of winerror.h for the same test."""


def FAILED(hr: int) -> bool:
    """Return whether a status means failure; arguments and errors are those of `SEC_SUCCESS`."""
    expect("status", hr, int)
    return SecurityStatus(hr).failed


def SecIsValidHandle(x: CredHandle | CtxtHandle) -> bool:
    """Return whether a handle was ever filled, so that its two words are not all ones.

    As in C, this is True even if the handle's context was deleted or its credentials were freed. `handle.valid` says
    whether the handle can still be used.

    Raises:
        TypeError: `x` is no handle.
    """
    expect("x", x, CredHandle, CtxtHandle)
    return x.referent is not None


def SecInvalidateHandle(x: CredHandle | CtxtHandle) -> None:
    """Make a handle stand for nothing, like a new one. Its context or credentials are not freed.

    Raises:
        TypeError: `x` is no handle.
    """
    expect("x", x, CredHandle, CtxtHandle)
    x.referent = None
