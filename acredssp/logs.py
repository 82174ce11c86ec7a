"""The loggers of the package. Each of their records names the connection that it is about.

`record.connection_id` is the same for both legs of a gateway: a client's handshake that begins while a server's
connection is served, in a hook or in the application's own task, has the id of that connection. The id is empty for a
record about no connection.

Who calls: every module that writes a log; `aio` sets the connection's id.
"""

import contextvars
import logging
from typing import Final

__all__ = ["CONNECTION_ID", "connection_id", "get_logger"]

CONNECTION_ID: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("acredssp.connection_id", default="")


def connection_id() -> str:
    """Return the id of the connection that the calling code works for: 16 hex digits; empty where there is none.

    Every hook has an id, and so has the task of `start_server`'s callback. It is the same id as
    `get_extra_info("connection_id")` of a transport and `HandshakeReport.connection_id`.
    """
    return CONNECTION_ID.get()


def get_logger(name: str) -> logging.Logger:
    """Return a logger whose records have `connection_id`."""
    logger = logging.getLogger(name)
    logger.addFilter(_name_connection)
    return logger


def _name_connection(record: logging.LogRecord) -> bool:
    if not hasattr(record, "connection_id"):
        record.connection_id = CONNECTION_ID.get()
    return True
