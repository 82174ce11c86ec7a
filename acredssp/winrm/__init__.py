"""WinRM, awaitable: commands of cmd.exe and PowerShell on Windows, over connections that CredSSP has logged on.

`WSMan` sends requests, `CommandShell` runs commands. docs/winrm.md goes through it.
"""

from acredssp.winrm.client import Post, WSMan
from acredssp.winrm.errors import NotSent, OutcomeUnknown, WSManFault
from acredssp.winrm.messages import Identity
from acredssp.winrm.shell import Command, CommandShell, Completed, Output
from acredssp.winrm.soap import Option, Reply, Request, Session

__all__ = [
    "Command",
    "CommandShell",
    "Completed",
    "Identity",
    "NotSent",
    "Option",
    "OutcomeUnknown",
    "Output",
    "Post",
    "Reply",
    "Request",
    "Session",
    "WSMan",
    "WSManFault",
]
