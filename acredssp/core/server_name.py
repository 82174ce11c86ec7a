"""What a client asks a server for by SNI (RFC 6066 section 3), whoever else listens.

The ssl module tells it to one callback of the context and to nobody else. The caller may have one there already, to
choose a certificate by the name; so ours goes in front of it, and hands everything on.
"""

import ssl
from collections.abc import Callable
from typing import Any, Final, TypeAlias

__all__ = ["SNICallback", "ServerNameNote", "ask_without_callback", "note_server_name", "server_name_of"]

SNICallback: TypeAlias = Callable[[Any, Any, Any], int | None]
"""What `SSLContext.sni_callback` is: connection, name (None for none) and context in; None, or an alert, out."""

_SERVER_NAME: Final = "acredssp_server_name"
_ASKED_BY_US: Final = "acredssp_asked_by_us"


class ServerNameNote:
    """An `SSLContext.sni_callback` that keeps the name beside the connection, and then calls the caller's own.

    Args:
        caller: The callback that the context had before; None for none.
    """

    def __init__(self, caller: SNICallback | None) -> None:
        self.caller = caller

    def __call__(self, ssl_object: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
        """Note the name; the answer is the caller's."""
        if hasattr(ssl_object, _ASKED_BY_US):
            return None
        setattr(ssl_object, _SERVER_NAME, name)
        return self.caller(ssl_object, name, context) if self.caller is not None else None


def note_server_name(context: ssl.SSLContext) -> None:
    """Have a server context note what its clients ask for; harmless where it does already."""
    callback = context.sni_callback
    if not isinstance(callback, ServerNameNote):
        context.sni_callback = ServerNameNote(callback)


def ask_without_callback(ssl_object: ssl.SSLObject) -> None:
    """Keep the caller's callback out of a connection that no client is at the other end of."""
    setattr(ssl_object, _ASKED_BY_US, True)


def server_name_of(ssl_object: ssl.SSLObject) -> str:
    """The name that the client asked for; empty for none, or where nobody noted it."""
    return getattr(ssl_object, _SERVER_NAME, None) or ""
