"""Notes the name that a client asks for by SNI (RFC 6066 section 3), and leaves the caller's own callback in place.

The ssl module tells the name to one callback of the context alone. The caller may have set one, to choose a certificate
by the name. So our callback takes its place, and calls it.
"""

import ssl
from collections.abc import Callable
from typing import Any, Final, TypeAlias

__all__ = ["SNICallback", "ServerNameNote", "ask_without_callback", "note_server_name", "server_name_of"]

SNICallback: TypeAlias = Callable[[Any, Any, Any], int | None]
"""The type of `SSLContext.sni_callback`: takes the connection, name (or None) and context; returns None or an alert."""

_SERVER_NAME: Final = "acredssp_server_name"
_ASKED_BY_US: Final = "acredssp_asked_by_us"


class ServerNameNote:
    """An `SSLContext.sni_callback` that keeps the name beside the connection, and then calls the caller's own.

    Args:
        caller: The callback that the context had before, or None.
    """

    def __init__(self, caller: SNICallback | None) -> None:
        self.caller = caller

    def __call__(self, ssl_object: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
        """Note the name, and return what the caller's own callback returns."""
        if hasattr(ssl_object, _ASKED_BY_US):
            return None
        setattr(ssl_object, _SERVER_NAME, name)
        return self.caller(ssl_object, name, context) if self.caller is not None else None


def note_server_name(context: ssl.SSLContext) -> None:
    """Make a server context note the names that its clients ask for. A second call changes nothing."""
    callback = context.sni_callback
    if not isinstance(callback, ServerNameNote):
        context.sni_callback = ServerNameNote(callback)


def ask_without_callback(ssl_object: ssl.SSLObject) -> None:
    """Leave the caller's callback out of a connection that has no client at its other end."""
    setattr(ssl_object, _ASKED_BY_US, True)


def server_name_of(ssl_object: ssl.SSLObject) -> str:
    """The name that the client asked for; empty where it asked for none, or `note_server_name` was not called."""
    return getattr(ssl_object, _SERVER_NAME, None) or ""
