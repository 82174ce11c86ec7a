"""Chooses a server's TLS context by the host name that a client asks for by SNI (RFC 6066 section 3).

OpenSSL begins a handshake with one context, here called the front. Once it has read the client's name, it calls back
for another context. That changes the certificate alone: versions, suites and options stay those of the front. So all
contexts have to agree on these. Contexts that differ are refused here; else a client could get what its context
forbids.

The engine uses the context that a connection has in the end, so a logon is bound to the certificate that the client was
shown. Who calls: applications, by `acredssp.sni_contexts`.
"""

import re
import ssl
from collections.abc import Mapping
from typing import Final, TypeAlias

from acredssp.arguments import expect
from acredssp.certificates.host_names import dns_name
from acredssp.core.own_certificate import own_public_key
from acredssp.core.server_name import ServerNameNote, note_server_name

__all__ = ["sni_contexts"]

_Settings: TypeAlias = tuple[object, ...]

_WILDCARD: Final = "*."
_NAME: Final = re.compile(r"[a-z0-9_.-]+")


def sni_contexts(contexts: Mapping[str, ssl.SSLContext], default: ssl.SSLContext | None) -> ssl.SSLContext:
    """Combine several contexts for servers into one, which answers each client with the context of the requested name.

    Names are compared as host names: without regard to case or to a dot at the end, and in their xn-- form.
    `*.example.com` stands for every name with one label in front of `example.com`; an exact name goes before it. Hooks
    and reports get the name that the client asked for (`server_name`), even if it is unknown.

    Args:
        contexts: The context for each name. Make them with one policy (`server_context`), since only their certificates
            may differ.
        default: The context for clients that ask for any other name, or for none, as clients that connect to an IP
            address do; None to refuse such clients by the alert unrecognized_name.

    Returns:
        The context for `ServerConfig`: `default`, or the first of `contexts` where there is no default. It has an
        `sni_callback` from now on, so it should have no other use. Another call with it replaces the names.

    Raises:
        TypeError, ValueError: A name is not a host's or is there twice, a context has an `sni_callback` of its own, or
            contexts have different policies. The text begins with the argument's name.
        PolicyError: A context has no certificate, or certificates of several kinds.
    """
    expect("contexts", contexts, Mapping)
    expect("default", default, ssl.SSLContext, None)
    choice = _Choice(default)
    for name, context in contexts.items():
        choice.add(name, context)
    front = default or next(iter(contexts.values()), None)
    if front is None:
        raise ValueError("contexts: expected at least one context or a default, got neither")
    _check(contexts, default, front)
    note_server_name(front)
    note = front.sni_callback
    assert isinstance(note, ServerNameNote)
    note.caller = choice
    return front


class _Choice:
    """The `sni_callback` of the front."""

    def __init__(self, default: ssl.SSLContext | None) -> None:
        self._default = default
        self._by_name: dict[str, ssl.SSLContext] = {}

    def add(self, name: str, context: ssl.SSLContext) -> None:
        """Let `context` answer clients that ask for `name`.

        Raises:
            TypeError, ValueError: The name cannot be a host's, or is there already.
        """
        expect("contexts: name", name, str)
        expect(f"contexts[{name!a}]", context, ssl.SSLContext)
        wanted = dns_name(name.removeprefix(_WILDCARD))
        if wanted is None or not _NAME.fullmatch(wanted):
            raise ValueError(
                f"contexts: expected the name of a host, such as example.com or *.example.com, got {name!a}"
            )
        if name.startswith(_WILDCARD):
            wanted = _WILDCARD + wanted
        if wanted in self._by_name:
            raise ValueError(f"contexts: expected each name once, got {wanted} twice")
        self._by_name[wanted] = context

    def __call__(self, ssl_object: ssl.SSLObject, name: str | None, _front: ssl.SSLContext) -> int | None:
        """Choose the context by the name that the client asked for; return an alert where none fits."""
        context = self._of(name) or self._default
        if context is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        ssl_object.context = context
        return None

    def _of(self, name: str | None) -> ssl.SSLContext | None:
        wanted = dns_name(name) if name else None
        if wanted is None or "*" in wanted:
            return None
        return self._by_name.get(wanted) or self._by_name.get(_WILDCARD + wanted.partition(".")[2])


def _check(contexts: Mapping[str, ssl.SSLContext], default: ssl.SSLContext | None, front: ssl.SSLContext) -> None:
    """Refuse contexts that cannot stand in for the front.

    Raises:
        ValueError, PolicyError: `sni_contexts` raises it, and documents it.
    """
    named = {context: f"contexts[{name!a}]" for name, context in contexts.items()}
    if default is not None:
        named.setdefault(default, "default")
    expected = _settings(front)
    for context, argument in named.items():
        if context.protocol is ssl.PROTOCOL_TLS_CLIENT:
            raise ValueError(f"{argument}: expected a context for servers, got one for clients")
        if not _is_free(context):
            raise ValueError(f"{argument}: expected a context without an sni_callback, got one that has its own")
        if _settings(context) != expected:
            raise ValueError(
                f"{argument}: expected the same tls versions, suites and options as in the other contexts, got others: "
                "make all contexts with one policy"
            )
        own_public_key(context)


def _is_free(context: ssl.SSLContext) -> bool:
    callback = context.sni_callback
    return callback is None or (
        isinstance(callback, ServerNameNote) and (callback.caller is None or isinstance(callback.caller, _Choice))
    )


def _settings(context: ssl.SSLContext) -> _Settings:
    """The settings that a connection keeps from the front, whichever context is chosen."""
    return (
        context.minimum_version,
        context.maximum_version,
        context.options,
        context.verify_mode,
        context.num_tickets,
        [cipher["name"] for cipher in context.get_ciphers()],
    )
