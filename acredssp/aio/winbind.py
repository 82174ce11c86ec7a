"""Domain users, checked by winbind: a server on a domain member needs no user's secret.

This module asks Samba's `ntlm_auth` by the helper protocol ntlm-server-1: questions and answers are lines, and a line
with a dot ends each of them. ntlm_auth hands the client's NTLMv2 response to winbindd, which hands it to a domain
controller (NetrLogonSamLogonEx, [MS-APDS] 3.1.5.2). It answers with the session base key, or with a reason.

The answer to one question must never be taken for the answer to another. Nothing in an answer names its question, so a
process has one question at a time. A process whose answer is no longer awaited (a cancelled logon, a deadline) is
killed, and so is a process that says anything unasked. A new process takes its place when one is needed.

A client with a wrong password is told STATUS_LOGON_FAILURE and nothing else. A status about the account shows that the
password was right only if the controller checks the password first. Samba 4.17's controller was asked about accounts of
every kind, with the right password and with a wrong one. For each status in `_PROVEN`, the wrong password gave
STATUS_WRONG_PASSWORD. The controller reports a locked account before it checks the password, which therefore stays
unproven: the client is told STATUS_LOGON_FAILURE, and the log has the true status.
"""

import asyncio
import base64
import binascii
import contextlib
import dataclasses
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Self, TypeAlias, cast

from acredssp.aio import offload
from acredssp.credentials import Deny, Oracle
from acredssp.errors import CredSSPError
from acredssp.logs import get_logger
from acredssp.mechanisms.base import NTLMExchange
from acredssp.mechanisms.ntlm.acceptor import NTLMIdentity
from acredssp.mechanisms.ntlm.messages import AvId, ChallengeMessage, Flags, NegotiateMessage, decode_av_pairs
from acredssp.names import logon_name
from acredssp.status import NTSTATUS

__all__ = ["WinbindOracle", "machine_identity"]

_logger = get_logger("acredssp.winbind")

_PROVEN: Final = frozenset(
    {
        NTSTATUS.STATUS_ACCOUNT_DISABLED,
        NTSTATUS.STATUS_ACCOUNT_EXPIRED,
        NTSTATUS.STATUS_PASSWORD_EXPIRED,
        NTSTATUS.STATUS_PASSWORD_MUST_CHANGE,
        NTSTATUS.STATUS_INVALID_LOGON_HOURS,
        NTSTATUS.STATUS_INVALID_WORKSTATION,
    }
)
"""The statuses that Samba's controller gives only for the right password (4.17.12; `authsam_account_ok` comes last).
STATUS_ACCOUNT_RESTRICTION is not among them: authentication policies ([MS-APDS] 3.1.5.2) are checked before the
password."""

_HELPER_PROTOCOL: Final = "--helper-protocol=ntlm-server-1"
_NO_WINBINDD: Final = "Reading winbind reply failed!"
_NOBODY: Final = "acredssp"
"""The user in the question that finds out whether winbindd runs; whatever the answer is, it logs on nobody."""

_STATUS_OF_TEXT: Final = {
    "The specified account does not exist.": NTSTATUS.STATUS_NO_SUCH_USER,
    "When trying to update a password, this return status indicates that the value provided as the current password is "
    "not correct.": NTSTATUS.STATUS_WRONG_PASSWORD,
    "The attempted logon is invalid. This is either due to a bad username or authentication "
    "information.": NTSTATUS.STATUS_LOGON_FAILURE,
    "Indicates a referenced user name and authentication information are valid, but some user account restriction has "
    "prevented successful authentication (such as time-of-day restrictions).": NTSTATUS.STATUS_ACCOUNT_RESTRICTION,
    "The user account has time restrictions and cannot be logged onto at this "
    "time.": NTSTATUS.STATUS_INVALID_LOGON_HOURS,
    "The user account is restricted so that it cannot be used to log on from the source "
    "workstation.": NTSTATUS.STATUS_INVALID_WORKSTATION,
    "The user account password has expired.": NTSTATUS.STATUS_PASSWORD_EXPIRED,
    "The referenced account is currently disabled and cannot be logged on to.": NTSTATUS.STATUS_ACCOUNT_DISABLED,
    "A user has requested a type of logon (for example, interactive or network) that has not been granted. An "
    "administrator has control over who can logon interactively and through the "
    "network.": NTSTATUS.STATUS_LOGON_TYPE_NOT_GRANTED,
    "The user account has expired.": NTSTATUS.STATUS_ACCOUNT_EXPIRED,
    "The user password must be changed before logging on the first time.": NTSTATUS.STATUS_PASSWORD_MUST_CHANGE,
    "The user account has been automatically locked because too many invalid logon attempts or password change "
    "attempts have been requested.": NTSTATUS.STATUS_ACCOUNT_LOCKED_OUT,
    "Smart card logon is required and was not used.": NTSTATUS.STATUS_SMARTCARD_LOGON_REQUIRED,
    # The rest says nothing about an account: winbindd does not run, or reaches no controller that knows this machine.
    _NO_WINBINDD: NTSTATUS.STATUS_NO_LOGON_SERVERS,
    "No logon servers are currently available to service the logon request.": NTSTATUS.STATUS_NO_LOGON_SERVERS,
    "A domain controller for this domain was not found.": NTSTATUS.STATUS_NO_LOGON_SERVERS,
    "Configuration information could not be read from the domain controller, either because the machine is unavailable "
    "or access has been denied.": NTSTATUS.STATUS_NO_LOGON_SERVERS,
    "The SAM database on the Windows Server does not have a computer account for this workstation trust "
    "relationship.": NTSTATUS.STATUS_NO_LOGON_SERVERS,
    "The workstation does not have a trust secret for the primary domain in the local LSA "
    "database.": NTSTATUS.STATUS_NO_LOGON_SERVERS,
    "The logon request failed because the trust relationship between this workstation and the primary domain "
    "failed.": NTSTATUS.STATUS_NO_LOGON_SERVERS,
    "The time at the primary domain controller is different from the time at the backup domain controller or member "
    "server by too large an amount.": NTSTATUS.STATUS_NO_LOGON_SERVERS,
    "An attempt was made to logon, but the NetLogon service was not started.": NTSTATUS.STATUS_NO_LOGON_SERVERS,
    "{Device Timeout} The specified I/O operation on %hs was not completed before the time-out period "
    "expired.": NTSTATUS.STATUS_NO_LOGON_SERVERS,
    "The remote system is not reachable by the transport.": NTSTATUS.STATUS_NO_LOGON_SERVERS,
    "The transport-connection attempt was refused by the remote system.": NTSTATUS.STATUS_NO_LOGON_SERVERS,
    "The transport connection is now disconnected.": NTSTATUS.STATUS_NO_LOGON_SERVERS,
}
"""The statuses behind Samba's texts. Authentication-Error has Samba's sentence for an NTSTATUS
(`get_friendly_nt_error_msg`, as of 4.17), or the status's name."""

_LONGEST_NAME: Final = 255
"""The most bytes of UTF-8 for which winbindd's request has room. winbindd would cut a longer name, and so check another
user."""
_LONGEST_ANSWER: Final = 4096
"""The most bytes of an answer. Real answers have some 200."""
_MOST_FIELDS: Final = 8

_ENDED: Final = "it ended"

_Answer: TypeAlias = bytes | str
"""For a yes, the session base key, which is empty if none came; for a no, the reason as text."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WinbindOracle(Oracle):
    r"""An oracle that asks winbind. It also serves as the `lookup` of a server whose users are all of the domain:

        async with acredssp.aio.WinbindOracle() as winbind:
            config = acredssp.ServerConfig(lookup=winbind, identity=await winbind.identity(), ...)

    An oracle belongs to one event loop, and starts its processes when they are needed. Where a logon cannot be
    validated (no winbindd, no domain controller, no answer in time, too many logons that wait), the client sees
    STATUS_NO_LOGON_SERVERS. Leave `user` and `domain` of an `Oracle` empty for the name that the client wrote.

    Attributes:
        verify: Asks winbind; made by the oracle itself.
        command: The program and its arguments before ours, for example `--require-membership-of=DOMAIN\GROUP`.
        processes: How many processes may run. Each handles one logon at a time, which takes a domain controller
            milliseconds.
        waiting: How many logons may wait for a process; further ones are refused at once.
        timeout: Seconds for a logon, waiting included. Keep this below `Policy.hook_timeout`: after that time a client
            sees STATUS_LOGON_FAILURE.
        tell_account_status: Whether a client that knows the password is told that the account is disabled, or that
            account or password has expired. Set this to False where the domain controllers say so to clients with a
            wrong password, too: those of Windows may, for accounts under an authentication policy ([MS-APDS] 3.1.5).
    """  # noqa: D415 - the example goes on

    verify: "Callable[[Any], Awaitable[bytes | Deny]]" = dataclasses.field(init=False, repr=False)
    command: Sequence[str] = ("ntlm_auth",)
    processes: int = 4
    waiting: int = 256
    timeout: float = 8.0
    tell_account_status: bool = True
    _pool: "_Pool" = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.command or self.processes < 1 or self.waiting < 0 or self.timeout <= 0:
            raise ValueError("expected a command, at least one process, and a positive timeout")
        object.__setattr__(self, "verify", self._verify)
        object.__setattr__(self, "_pool", _Pool(self.command, self.processes, self.waiting))

    def __call__(self, request: object) -> Self:  # noqa: ARG002 - winbind decides about every user
        """Answer as a `lookup`: return this oracle."""
        return self

    async def __aenter__(self) -> Self:
        """Start the first process.

        Raises:
            OSError: The program does not exist, or may not be run.
        """
        await self._pool.start_one()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End every process. Logons that still wait for an answer are refused with STATUS_NO_LOGON_SERVERS."""
        await self._pool.aclose()

    async def identity(self) -> NTLMIdentity:
        """Ask for the names that this machine has in its domain, for `ServerConfig.identity`.

        A server needs them: since CVE-2015-0005 and CVE-2016-2111 a domain controller refuses a response unless the
        challenge had the names of the member that passes the response on.

        Raises:
            OSError: The program cannot be run, does not tell the names in time, or cannot ask winbindd.
        """
        async with asyncio.timeout(self.timeout):
            identity = await offload.run(lambda: machine_identity(self.command, self.timeout))
        if isinstance(identity, Exception):
            raise identity
        return identity

    async def _verify(self, exchange: NTLMExchange) -> bytes | Deny:
        who = logon_name(exchange.domain, exchange.user)
        question = _question(exchange)
        if question is None:
            _logger.info("winbind is not asked about %a: no account has such a name", who)
            return Deny()
        try:
            async with asyncio.timeout(self.timeout):
                answer = await self._pool.ask(question)
        except OSError as error:  # TimeoutError is an OSError, too
            _logger.warning("winbind cannot be asked about %a: %s", who, str(error) or "no answer in time")
            return Deny(NTSTATUS.STATUS_NO_LOGON_SERVERS)
        return answer if isinstance(answer, bytes) and any(answer) else self._refusal(who, answer)

    def _refusal(self, who: str, answer: _Answer) -> Deny:
        """Return the refusal for a no, or for a yes without a key, which means a guest."""
        if isinstance(answer, bytes):
            _logger.info("winbind accepts %a as a guest only: refused", who)
            return Deny()
        status = _status_of(answer)
        _logger.info("winbind refuses %a: %s", who, ascii(answer) if status is None else status)
        if status is None:
            return Deny()
        return Deny(status, proven=self.tell_account_status and status in _PROVEN)


class _Pool:
    """The processes of ntlm_auth, and the queue of the logons that wait for one.

    Args:
        command: The program, and the arguments that come before the helper protocol.
        processes: How many processes may run.
        waiting: How many logons may wait for a process.
    """

    def __init__(self, command: Sequence[str], processes: int, waiting: int) -> None:
        self._command = command
        self._most = processes + waiting
        self._asking = 0
        self._slots = asyncio.Semaphore(processes)
        self._helpers: set[_Helper] = set()
        self._idle: list[_Helper] = []
        self._closed = False

    async def ask(self, question: bytes) -> _Answer:
        """Return the answer to a question.

        Raises:
            OSError: There is no answer: too many logons wait, no process can be started, the process failed, or the
                pool is closed.
        """
        if self._asking >= self._most:
            raise OSError("too many logons wait already")
        self._asking += 1
        try:
            async with self._slots:
                return await self._ask(question)
        finally:
            self._asking -= 1

    async def _ask(self, question: bytes) -> _Answer:
        helper = self._idle_helper() or await self._start()
        try:
            answer = await helper.ask(question)
        except BaseException:
            # Otherwise its late answer would be taken for the answer to the next question.
            helper.kill("its answer is no longer awaited")
            raise
        if answer is None:
            raise OSError(f"{self._command[0]} gave no answer: {helper.fault}")
        self._idle.append(helper)
        return answer

    def _idle_helper(self) -> "_Helper | None":
        while self._idle:
            helper = self._idle.pop()
            if not helper.fault:
                return helper
        return None

    async def start_one(self) -> None:
        """Start a process, so that the first logon finds one ready."""
        async with self._slots:
            self._idle.append(await self._start())

    async def _start(self) -> "_Helper":
        if self._closed:
            raise OSError("closed")
        helper = _Helper()
        self._helpers.add(helper)
        helper.gone.add_done_callback(lambda _: self._helpers.discard(helper))
        await helper.start(self._command)
        return helper

    async def aclose(self) -> None:
        """End every process, and wait until all have ended."""
        self._closed = True
        while self._helpers:
            helpers = [*self._helpers]
            for helper in helpers:
                helper.kill("closed")
            await asyncio.wait([helper.gone for helper in helpers])


class _Helper(asyncio.SubprocessProtocol):
    """One process of ntlm_auth, which is asked one question at a time."""

    def __init__(self) -> None:
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the process has ended."""
        self.fault = ""
        """Why the process cannot be asked any more; empty while it can be asked."""
        self._transport: asyncio.SubprocessTransport | None = None
        self._answer: asyncio.Future[_Answer | None] | None = None
        self._received = bytearray()
        self._fields: dict[str, str] = {}
        self._second_dot_is_due = False

    async def start(self, command: Sequence[str]) -> None:
        """Start the process.

        Raises:
            OSError: The process cannot be started.
        """
        argv = [*command, _HELPER_PROTOCOL]
        try:
            await asyncio.get_running_loop().subprocess_exec(lambda: self, *argv, **_STREAMS)
        except BaseException:
            self.kill("not started")
            if not self.gone.done() and self._transport is None:
                self.gone.set_result(None)
            raise

    async def ask(self, question: bytes) -> _Answer | None:
        """Return the answer to a question; None if the process failed and must not be asked again."""
        if self._transport is None or self.fault:
            return None
        stdin = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
        if stdin.is_closing():  # the process has ended, and the loop has not reported it yet
            self.kill(_ENDED)
            return None
        self._answer = asyncio.get_running_loop().create_future()
        stdin.write(question)
        return await self._answer

    def kill(self, fault: str) -> None:
        """End the process; `fault` is kept as the reason, unless there is one already."""
        self.fault = self.fault or fault
        self._settle(None)
        transport = self._transport
        if transport is not None and transport.get_returncode() is None:
            # The signal goes to the whole session, since a wrapper around ntlm_auth does not pass it on.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(transport.get_pid(), signal.SIGKILL)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the process's transport, or end the process if its start was given up."""
        self._transport = cast(asyncio.SubprocessTransport, transport)  # uvloop's has the methods, and another type
        if self.fault:
            self.kill(self.fault)

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002 - only the process's output is a pipe
        """Take the complete lines."""
        self._received += data
        *lines, rest = self._received.split(b"\n")
        self._received = rest
        for line in lines:
            if not self.fault:
                self._take(line.decode("utf-8", "replace"))
        if len(rest) > _LONGEST_ANSWER:
            self.kill("it does not end its line")

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 - no pipe, no use
        """End the process."""
        self.kill(_ENDED)

    def process_exited(self) -> None:
        """Give the process up, and end other processes that may still hold its pipes open."""
        self.kill(_ENDED)
        assert self._transport is not None
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the process has ended, whatever ended it
        """Set the result of `gone`."""
        if not self.gone.done():
            self.gone.set_result(None)

    def _take(self, line: str) -> None:
        name, colon, value = line.partition(": ")
        if line == "." and self._fields:
            self._finish()
        elif line == "." and self._second_dot_is_due:
            self._second_dot_is_due = False
        elif self._answer is None or self._answer.done():
            self.kill("it speaks without being asked")
        elif not colon or name in self._fields or len(self._fields) == _MOST_FIELDS:
            self.kill("it answers nonsense")
        else:
            self._fields[name] = value

    def _finish(self) -> None:
        answer = _read(self._fields)
        # A refusal ends in two dots (in Samba 4.17 and, by its source, every version before); the second may come late.
        self._second_dot_is_due = isinstance(answer, str)
        self._fields = {}
        if answer is None:
            self.kill("it answers nonsense")
        self._settle(answer)

    def _settle(self, answer: _Answer | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)


_STREAMS: Final[dict[str, Any]] = {
    "stdin": asyncio.subprocess.PIPE,
    "stdout": asyncio.subprocess.PIPE,
    "stderr": asyncio.subprocess.DEVNULL,  # the errors are free text, which may name users
    "start_new_session": True,  # Ctrl-C in a terminal must not end ntlm_auth: logons in flight need their answers
}


def _question(exchange: NTLMExchange) -> bytes | None:
    """Return the lines that ask about an exchange; None if a name would reach winbindd cut short.

    Names are in base64 (a double colon says so), so that they cannot end a line. The LMv2 response is left out: a
    controller accepts it in place of a wrong NTLMv2 response, and then proves nothing about the NTLMv2 response.
    """
    names = [_name(exchange.user), _name(exchange.domain)]
    if None in names:
        return None
    user, domain = names
    return (
        f"Username:: {user}\n"
        f"NT-Domain:: {domain}\n"
        f"LANMAN-Challenge: {exchange.server_challenge.hex()}\n"
        f"NT-Response: {exchange.nt_response.hex()}\n"
        "Request-User-Session-Key: Yes\n"
        ".\n"
    ).encode("ascii")


def _name(name: str) -> str | None:
    """Return a name in base64; None if winbindd would cut it, at a zero or for its length."""
    text = name.encode("utf-8")
    return None if b"\0" in text or len(text) > _LONGEST_NAME else base64.b64encode(text).decode("ascii")


def _read(fields: dict[str, str]) -> _Answer | None:
    """Return the answer that the lines express; None for nonsense."""
    match fields:
        case {"Authenticated": "Yes", "User-Session-Key": key}:
            try:
                return value if len(value := binascii.unhexlify(key)) == 16 else None
            except ValueError:
                return None
        case {"Authenticated": "Yes"}:
            return b""
        case {"Authenticated": "No"}:
            return fields.get("Authentication-Error", "")
    return None


def _status_of(text: str) -> NTSTATUS | None:
    """Return the status that winbind's text stands for; None for an unknown text."""
    return _STATUS_OF_TEXT.get(text) or NTSTATUS.__members__.get(text.removeprefix("NT_"))


def machine_identity(command: Sequence[str], timeout: float = 8.0) -> NTLMIdentity:
    """Return the names of this machine as `WinbindOracle.identity` does, but in this thread, without an event loop.

    Args:
        command: The program, and the arguments that come before the helper protocol.
        timeout: Seconds to wait for the program.

    Raises:
        OSError: The program cannot be run, does not tell the names in time, or cannot ask winbindd.
    """
    try:
        identity = _identity(_challenge_of(command, timeout))
        _check_winbindd(command, identity, timeout)
    except subprocess.TimeoutExpired:
        raise OSError(f"{command[0]} does not answer") from None
    except (CredSSPError, ValueError):
        raise OSError(f"{command[0]} does not tell the names of this machine") from None
    return identity


def _check_winbindd(command: Sequence[str], identity: NTLMIdentity, timeout: float) -> None:
    """Check that winbindd answers: without winbindd, nobody can log on, and yet the program makes a challenge.

    This asks about a local account that this machine does not have, for which winbindd asks no controller.
    """
    question = _question(NTLMExchange(_NOBODY, identity.netbios_computer, "", bytes(8), bytes(48), b""))
    assert question is not None
    if _NO_WINBINDD.encode("ascii") in _answer_of([*command, _HELPER_PROTOCOL], question, timeout):
        raise OSError("winbindd does not answer: check that it runs, and that this user may ask it")


def _challenge_of(command: Sequence[str], timeout: float) -> bytes:
    """Return the CHALLENGE_MESSAGE that ntlm_auth makes if it acts as the server; no bytes if it makes none."""
    negotiate = NegotiateMessage.encode(Flags.UNICODE | Flags.NTLM | Flags.REQUEST_TARGET | Flags.TARGET_INFO)
    question = b"YR " + base64.b64encode(negotiate) + b"\n"
    answer = _answer_of([*command, "--helper-protocol=squid-2.5-ntlmssp"], question, timeout)
    verb, _, token = answer.partition(b"\n")[0].partition(b" ")
    return base64.b64decode(token) if verb == b"TT" else b""


def _answer_of(argv: Sequence[str], question: bytes, timeout: float) -> bytes:
    """Run the program for one question, and return its standard output."""
    # S603: the program is the one that the server's configuration names.
    return subprocess.run(argv, input=question, capture_output=True, timeout=timeout, check=False).stdout  # noqa: S603


def _identity(challenge: bytes) -> NTLMIdentity:
    """Return the names in a challenge; raises its decoders' errors, or `ValueError` if it lacks the computer's name."""
    pairs = decode_av_pairs(ChallengeMessage.decode(challenge).target_info, "challenge target info")
    names = {
        "netbios_computer": AvId.NB_COMPUTER_NAME,
        "netbios_domain": AvId.NB_DOMAIN_NAME,
        "dns_computer": AvId.DNS_COMPUTER_NAME,
        "dns_domain": AvId.DNS_DOMAIN_NAME,
        "dns_tree": AvId.DNS_TREE_NAME,
    }
    return NTLMIdentity(**{field: pairs.get(av_id, b"").decode("utf-16-le") for field, av_id in names.items()})
