"""The errors of HTTP: rules of CredSSP's carriage that are broken, with the status of the answer, and a full pool."""

from acredssp.errors import CredSSPError, RemoteProtocolError

__all__ = ["HTTPProtocolError", "PoolTimeout"]


class HTTPProtocolError(RemoteProtocolError):
    """The peer broke the rules for headers or bodies ([MS-WSMV] 2.2.9.1.3, 3.1.4.1.28).

    Args:
        message: What was expected and what came, in lower case, without a full stop.
        http_status: The status of the answer that says so.
        hint: What a person can do about the failure; None for no hint.

    Attributes:
        http_status: The status that a server answers with; a client has no use for it.
    """

    def __init__(self, message: str, http_status: int = 400, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.http_status = http_status


class PoolTimeout(CredSSPError, TimeoutError):
    """No connection of the client became free in time. Nothing was sent."""
