"""The objects that `--json` prints. Scripts may rely on their keys: each is always present, and null if unknown.

No object holds a secret.
"""

import dataclasses
import datetime as dt
import json
from typing import TypeAlias

from acredssp.aio import HandshakeReport
from acredssp.cli.outcome import Result, advice, result_of
from acredssp.errors import CredSSPError
from acredssp.events import HandshakeInfo
from acredssp.status import SecurityStatus, Stage
from acredssp.workers import Address

__all__ = ["DemoReport", "LoginReport", "Report", "ServeReport", "WinRMReport", "anchor_of", "now", "to_json"]


def now() -> str:
    """Return the present time as the reports print it: UTC, ISO 8601, to the millisecond."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoginReport:
    """The result of `login`."""

    result: Result
    stage: str | None = None
    """The stage where the handshake ended: `"established"`, or the stage that failed."""
    security_status: str | None = None
    nt_status: str | None = None
    """The NTSTATUS that the server gave; null if it gave none."""
    credssp_version: int | None = None
    mechanism: str | None = None
    tls_version: str | None = None
    cipher: str | None = None
    peer_key_sha256: str | None = None
    """SHA-256 of the server's SubjectPublicKeyInfo in hex: what `--pin` takes."""
    elapsed_ms: float | None = None
    """Milliseconds from the first packet to the end of the handshake."""
    fallback: str | None = None
    """Why the first choice of a mechanism was not used; null if it was used."""
    time: str = dataclasses.field(default_factory=now)
    """When this was written: UTC, ISO 8601."""
    message: str | None = None
    """What failed, for people; null for a success."""
    hint: str | None = None
    """What to do about it, for people."""
    anchor: str | None = None
    """The place in the documentation that explains the status."""

    @classmethod
    def of(cls, error: CredSSPError | None, info: HandshakeInfo | None, elapsed: float) -> "LoginReport":
        """Report one handshake of a client.

        Args:
            error: Why the handshake failed; None for a success.
            info: The facts that were known at its end; None if there was no connection.
            elapsed: The seconds that it took.
        """
        version = (info.version or None) if info else None
        return cls(
            result=result_of(error),
            stage=_stage(error),
            security_status=_security_status(error),
            nt_status=_nt_status(error),
            credssp_version=version,
            # Before the peer's first message, the mechanism is only this client's first choice.
            mechanism=info.mechanism if info and version else None,
            tls_version=(info.tls_version or None) if info else None,
            cipher=(info.cipher or None) if info else None,
            peer_key_sha256=info.peer_key_sha256 if info else None,
            elapsed_ms=_milliseconds(elapsed),
            fallback=(info.fallback or None) if info else None,
            message=error.message if error else None,
            hint=advice(error) if error else None,
            anchor=anchor_of(error),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServeReport:
    """The result of one handshake of `serve`."""

    result: Result
    stage: str | None = None
    principal: str | None = None
    r"""The name that the client wrote, `DOMAIN\user` or `user`; only a success proves it."""
    mechanism: str | None = None
    credssp_version: int | None = None
    delegated: str | None = None
    """What the client delegated: `"password"`, `"smartcard"`, `"remote_guard"` or `"nothing"`."""
    nt_status: str | None = None
    """The NTSTATUS of a refusal."""
    peer: str | None = None
    """The client's address."""
    elapsed_ms: float | None = None
    worker: int | None = None
    """The number of the worker that served it, from 1; null without `--workers`."""
    time: str = dataclasses.field(default_factory=now)
    """When this was written: UTC, ISO 8601."""
    message: str | None = None
    """What failed, for people; null for a success."""
    hint: str | None = None
    """What to do about it, for people."""
    security_status: str | None = None
    """The status that the function of SSPI would return."""
    server_name: str | None = None
    """The name that the client asked for in TLS (SNI)."""
    cookie: str | None = None
    """With RDP, the name in the client's `mstshash` cookie; nothing proves it."""
    routing_token: str | None = None
    """With RDP, the routing token that the client sent in place of the cookie."""
    workstation: str | None = None
    """With NTLM, the name that the client gives its computer; nothing proves it."""
    account: str | None = None
    r"""The account that logged on or was refused behind its proof, as `DOMAIN\user`, however `principal` is written;
    null unless the logon is proven."""
    outcome: str | None = None
    """How the handshake ended, in more detail than `result`: a value of `acredssp.aio.HandshakeOutcome`."""
    hook: str | None = None
    """The hook that refused the logon: `"lookup"`, `"oracle"`, `"authorize"` or `"admit"`; null if none did."""
    anchor: str | None = None
    """The place in the documentation that explains the status."""

    @classmethod
    def of(cls, report: HandshakeReport, *, worker: int | None = None) -> "ServeReport":
        """Report one handshake of a server.

        Args:
            report: The report of the server's `on_handshake`.
            worker: The number of the worker that served the handshake; None without `--workers`.
        """
        error, info = report.error, report.info
        version = (info.version or None) if info else None
        return cls(
            result=result_of(error),
            stage=_stage(error),
            principal=str(report.principal) if report.principal else None,
            mechanism=info.mechanism if info and version else None,
            credssp_version=version,
            delegated=(info.delegated or None) if info else None,
            nt_status=_nt_status(error),
            peer=_address(report.peer_address),
            elapsed_ms=_milliseconds(report.elapsed),
            worker=worker,
            message=error.message if error else None,
            hint=error.hint if error else None,
            security_status=_security_status(error),
            server_name=report.server_name or None,
            cookie=report.cookie or None,
            routing_token=report.request.routing_token if report.request else None,
            workstation=(report.principal.workstation or None) if report.principal else None,
            account=str(report.account) if report.account else None,
            outcome=str(report.outcome),
            hook=report.hook or None,
            anchor=anchor_of(error),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """The result of `demo`."""

    result: Result
    handshakes: int | None = None
    failures: int | None = None
    concurrency: int | None = None
    seconds: float | None = None
    handshakes_per_second: float | None = None
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    wrong_password: str | None = None
    """The NTSTATUS that a wrong password got."""
    credssp_version: int | None = None
    mechanism: str | None = None
    tls_version: str | None = None
    cipher: str | None = None
    event_loop: str | None = None
    timeline: list[dict[str, str | int | float]] | None = None
    """The steps of one handshake: `side`, `what`, `bytes`, `microseconds`."""
    time: str = dataclasses.field(default_factory=now)
    """When this was written: UTC, ISO 8601."""
    message: str | None = None
    """What failed, for people; null for a success."""
    hint: str | None = None
    """What to do about it, for people."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WinRMReport:
    """The result of `winrm`, for `--json`."""

    result: Result
    exit_code: int | None = None
    """The exit status of the command, of 32 bits; null if it did not run to its end."""
    interrupted: bool = False
    """Whether Ctrl-C was pressed."""
    stdout: str | None = None
    stderr: str | None = None
    may_lack_output: bool = False
    """Whether output got lost with a connection."""
    server: str | None = None
    """The service's product and version, in its own words."""
    stage: str | None = None
    """The stage where the logon failed; null if it did not."""
    security_status: str | None = None
    nt_status: str | None = None
    """The NTSTATUS that the server gave; null if it gave none."""
    fault: int | None = None
    """The number of the fault by which the service refused a request; null if it refused none."""
    time: str = dataclasses.field(default_factory=now)
    """When this was written: UTC, ISO 8601."""
    message: str | None = None
    """What failed, for people; null for a success."""
    hint: str | None = None
    """What to do about it, for people."""
    anchor: str | None = None
    """The place in the documentation that explains the status of the logon."""


Report: TypeAlias = LoginReport | ServeReport | DemoReport | WinRMReport
"""What a command prints with `--json`."""


def to_json(report: Report) -> str:
    """Return the report as one line of JSON in ASCII, so that a peer's name cannot control the terminal."""
    return json.dumps(dataclasses.asdict(report))


def anchor_of(error: CredSSPError | None) -> str | None:
    """Return the place in the documentation that explains a failed handshake; None where there was none."""
    return None if error is None or error.stage is Stage.CONNECT else error.anchor


def _stage(error: CredSSPError | None) -> str | None:
    if error is None:
        return "established"
    return str(error.stage) if error.stage else None


def _security_status(error: CredSSPError | None) -> str | None:
    if error is None:
        return str(SecurityStatus.SEC_E_OK)
    # Without a connection, no security function was called.
    return None if error.stage is Stage.CONNECT else str(error.security_status)


def _nt_status(error: CredSSPError | None) -> str | None:
    return None if error is None or error.nt_status is None else str(error.nt_status)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _address(peer: object) -> str | None:
    if not isinstance(peer, tuple) or len(peer) < 2:
        return None
    host, port, *_ = peer
    return str(Address(host, port))
