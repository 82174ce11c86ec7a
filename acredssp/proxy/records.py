"""What is written down: the record of a connection that has ended, and lines of JSON.

A record becomes one line of the log, and the figures of `metrics`. It holds no secret.
"""

import dataclasses
import datetime as dt
import itertools
import json
import logging
import operator
from collections.abc import Callable
from typing import Final

from acredssp import HandshakeReport
from acredssp.aio import HandshakeOutcome

__all__ = ["ConnectionRecord", "JSONLines", "Observer", "limit_of", "log_record"]

_logger = logging.getLogger("acredssp.proxy")

_EXPECTED: Final = frozenset({"passed_on", "relayed", "no_session", "no_data"})


@dataclasses.dataclass(slots=True, kw_only=True)
class ConnectionRecord:
    """What is told of a connection when it has ended; it is filled in on the way. It holds no secret.

    Attributes:
        connection_id: What the log's records of both legs have as `connection_id`.
        listener: The address that the client connected to.
        peer: The client's address.
        user: The account that logged on, or the name that was claimed; empty where none came.
        mechanism: What the user logged on by; empty where nobody did.
        target: The target; empty where none was chosen.
        host: The target's host; empty where none was connected to.
        target_user: The account by which the gateway logged on to the target, or tried to; empty where it did not.
        target_mechanism: What the gateway logged on to the target by; empty where it did not.
        redirected_to: The host that the target sent the client on to, as the target names it; empty where it did not.
        outcome: `relayed`, `passed_on` for one that was passed on undecrypted, `no_session` for one whose client or
            target ended it between the logon and the session, or that of the front's handshake, as
            `HandshakeReport.outcome` has it.
        ended_by: `client`, `target`, `idle`, `total`, `kicked` or `drained` for a relay; empty without one.
        reason: Why there was no relay, or why it broke, for the operator; empty where nothing went wrong.
        limit: The setting of `[limits]` that refused or ended the connection; empty for none.
        status: The NTSTATUS that the user was given; empty for none.
        seconds: How long each stage took: `front` is the client's handshake with all that it waited for, `connect` and
            `logon` are the target leg's, `mcs` and `relay` follow.
        bytes_up: Bytes that the target got.
        bytes_down: Bytes that the client got.
    """

    connection_id: str
    listener: str
    peer: object
    user: str = ""
    mechanism: str = ""
    target: str = ""
    host: str = ""
    target_user: str = ""
    target_mechanism: str = ""
    redirected_to: str = ""
    outcome: str = ""
    ended_by: str = ""
    reason: str = ""
    limit: str = ""
    status: str = ""
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0


_as_json: Final = json.JSONEncoder(default=str).encode
_FIELDS: Final = [field.name for field in dataclasses.fields(ConnectionRecord)]
_values: Final = operator.attrgetter(*_FIELDS)


def log_record(record: ConnectionRecord) -> None:
    """Write the line of a connection: JSON, which escapes whatever a peer says of itself."""
    values = _values(record)
    told = dict(itertools.compress(zip(_FIELDS, values, strict=True), values))  # without what is empty or zero
    told["seconds"] = {name: round(value, 4) for name, value in record.seconds.items()}
    level = logging.INFO if record.outcome in _EXPECTED else logging.WARNING
    if _logger.isEnabledFor(level):  # `log` would look for its caller in the frames, which nobody asks for
        extra = {"connection_id": record.connection_id, "told": told}
        _logger.handle(_logger.makeRecord(_logger.name, level, "records", 0, _Line(told), (), None, extra=extra))


class _Line:
    """The line of a record, which a formatter asks for; `JSONLines` writes a line of its own."""

    def __init__(self, told: dict[str, object]) -> None:
        self._told = told

    def __str__(self) -> str:
        return _as_json(self._told)


def limit_of(report: HandshakeReport) -> str:
    """Return the limit of the library that turned a client away: `handshakes` or `failures`; empty for none."""
    if report.outcome is not HandshakeOutcome.LIMITED:
        return ""
    return "handshakes" if "handshakes" in str(report.error) else "failures"


class Observer:
    """Told of what happens in a gateway. This one logs each connection that has ended."""

    def now_open(self, count: Callable[[], tuple[int, int]]) -> None:
        """Note that there are other connections than before: `count` returns how many handshakes and relays."""

    def handshake(self, report: HandshakeReport) -> None:
        """Note a handshake of a client that has ended, also where it never became a connection."""

    def ended(self, record: ConnectionRecord) -> None:
        """Note a connection that has ended."""
        log_record(record)


class JSONLines(logging.Formatter):
    """Writes each record of the log as one line of JSON; a connection's record has its fields in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        when = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds")
        line = {"time": when.replace("+00:00", "Z"), "level": record.levelname.lower(), "logger": record.name}
        if told := getattr(record, "told", None):
            return _as_json(line | {"message": "connection"} | told)
        line["message"] = record.getMessage()
        if identity := getattr(record, "connection_id", ""):
            line["connection_id"] = identity
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return _as_json(line)
