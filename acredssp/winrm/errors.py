"""What a WS-Management service answers when it refuses a request, and what to do about it."""

from typing import Final

from acredssp.errors import CredSSPError

__all__ = [
    "NOT_WINRM",
    "OPERATION_TIMED_OUT",
    "SHELL_DISCONNECTED",
    "UNEXPECTED_SELECTORS",
    "NotSent",
    "OutcomeUnknown",
    "WSManFault",
]

OPERATION_TIMED_OUT: Final = 2150858793
"""The command wrote nothing within the operation time-out. The command goes on."""
UNEXPECTED_SELECTORS: Final = 2150858843
"""The shell or command does not exist, or does not exist any more."""
SHELL_DISCONNECTED: Final = (2150859204, 2150859230)
"""The shell or its stream is disconnected, for example after a loss of the network. Both go on after a Reconnect."""

NOT_WINRM: Final = (
    "what answers there is not WinRM: check the host, the port and the path of the url (WinRM's path is /wsman)"
)
"""The hint where an answer is none of WS-Management."""

_QUOTA_HINT: Final = (
    "the quota of this user or of the service is used up: delete shells that are left over, or look at "
    "`winrm get winrm/config/winrs` on the server"
)
_ENVELOPE_HINT: Final = "ask for smaller envelopes, or raise MaxEnvelopeSizekb on the server"
_ANY_HINT: Final = "the server's event log may say more (Applications and Services, Windows Remote Management)"
_HINTS: Final = {
    5: "the user may log on but not run commands: put the user into the server's group Remote Management Users, or let "
    "an administrator of the server run `winrm configSDDL default` there",
    UNEXPECTED_SELECTORS: "the shell is gone: the service was restarted, or nobody used the shell within its idle "
    "time-out",
    2150858790: _ENVELOPE_HINT,
    2150859173: _QUOTA_HINT,
    2150859174: _QUOTA_HINT,
    2150859175: _QUOTA_HINT,
    2150859176: _QUOTA_HINT,
    2150859179: _QUOTA_HINT,
    2150859180: "remote shells are off there: an administrator of the server has to set "
    '`winrm set winrm/config/winrs @{AllowRemoteShellAccess="true"}`',
    2150859236: _QUOTA_HINT,
    2150859237: _QUOTA_HINT,
    2150859238: _QUOTA_HINT,
    2150859239: _QUOTA_HINT,
    2150859240: _QUOTA_HINT,
    2150859241: _QUOTA_HINT,
}


class WSManFault(CredSSPError):
    """The service answered a request with a fault ([MS-WSMV] 2.2.4.43).

    Args:
        code: The number of Windows' error; None where the service gives none.
        subcode: The name of the kind of fault, such as `w:InvalidSelectors`.
        reason: The service's own words.

    Attributes:
        code: As above.
        subcode: As above.
        reason: As above.
    """

    def __init__(self, code: int | None, subcode: str, reason: str) -> None:
        number = f"fault {code}" if code is not None else f"the fault {subcode}"
        super().__init__(f"the service answered with {number}: {reason}", hint=_HINTS.get(code or 0, _ANY_HINT))
        self.code, self.subcode, self.reason = code, subcode, reason


class OutcomeUnknown(CredSSPError, ConnectionError):
    """The connection was lost during a request that must not be repeated, such as one that starts a command.

    The client did not repeat the request. Nobody knows whether the service did what the request asks for.
    """


class NotSent(CredSSPError, ConnectionError):
    """There was no connection to send a request over, so the service did not get it."""
