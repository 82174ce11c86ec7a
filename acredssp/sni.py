"""Certificates by name: which TLS context answers a client that asks for a host by SNI (RFC 6066 section 3).

OpenSSL begins a handshake by one context, the front, and asks it for another one when it has read the client's name.
Only the certificate changes then: versions, suites and options stay those of the front. So all contexts have to agree
on these, and where they do not they are refused here, before a client could get what its context forbids.

The engine looks at the context that a connection has in the end, so a logon is bound to the certificate that the client
was shown. Who calls: applications, by `acredssp.sni_contexts`.
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
    """Make one context for servers of several, each of which answers clients that ask for its name.

    Names are compared as those of hosts: without regard to case and to a dot at the end, and in their xn-- form.
    `*.example.com` stands for every name with one label in front of `example.com`; a name that is there itself goes
    before it. Hooks and reports are told the name that the client asked for (`server_name`), known or not.

    Args:
        contexts: The context for each name; made with one policy (`server_context`), since they may differ in their
            certificates alone.
        default: For clients that ask for another name or for none, as those do that connect to an IP address; None to
            refuse such clients by the alert unrecognized_name.

    Returns:
        The context for `ServerConfig`: `default`, or the first one where there is no default. It calls back for names
        from now on, so it should have no other use. Another call for it replaces the names.

    Raises:
        TypeError, ValueError: The text has the argument's name: a name that is no host's or is there twice, a context
            with an `sni_callback` of its own, contexts of different policies.
        PolicyError: A context has no certificate, or certificates of several kinds.
    """
    expect("contexts", contexts, Mapping)
    expect("default", default, ssl.SSLContext, None)
    choice = _Choice(default)
    for name, context in contexts.items():
        choice.add(name, context)
    front = default or next(iter(contexts.values()), None)
    if front is None:
        raise ValueError("contexts: expected at least one, got none, and no default")
    _check(contexts, default, front)
    note_server_name(front)
    note = front.sni_callback
    assert isinstance(note, ServerNameNote)
    note.caller = choice
    return front


class _Choice:
    """The callback of the front."""

    def __init__(self, default: ssl.SSLContext | None) -> None:
        self._default = default
        self._by_name: dict[str, ssl.SSLContext] = {}

    def add(self, name: str, context: ssl.SSLContext) -> None:
        """Have `context` answer for `name`.

        Raises:
            TypeError, ValueError: The name can be no host's, or is there already.
        """
        expect("contexts: name", name, str)
        expect(f"contexts[{name!a}]", context, ssl.SSLContext)
        wanted = dns_name(name.removeprefix(_WILDCARD))
        if wanted is None or not _NAME.fullmatch(wanted):
            raise ValueError(f"contexts: expected the name of a host, as example.com or *.example.com, got {name!a}")
        if name.startswith(_WILDCARD):
            wanted = _WILDCARD + wanted
        if wanted in self._by_name:
            raise ValueError(f"contexts: expected each name once, got {wanted} twice")
        self._by_name[wanted] = context

    def __call__(self, ssl_object: ssl.SSLObject, name: str | None, _front: ssl.SSLContext) -> int | None:
        """Choose by the name that a client asked for; an alert where nothing fits."""
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
        ValueError, PolicyError: As `sni_contexts`.
    """
    named = {f"contexts[{name!a}]": context for name, context in contexts.items()}
    if default is not None:
        named["default"] = default
    expected = _settings(front)
    for argument, context in named.items():
        if context.protocol is ssl.PROTOCOL_TLS_CLIENT:
            raise ValueError(f"{argument}: expected a context for servers, got one for clients")
        if not _is_free(context):
            raise ValueError(f"{argument}: expected a context without an sni_callback, got one that has its own")
        if _settings(context) != expected:
            raise ValueError(
                f"{argument}: expected tls versions, suites and options as those of the other contexts, got others: "
                "make all contexts with one policy"
            )
        own_public_key(context)


def _is_free(context: ssl.SSLContext) -> bool:
    callback = context.sni_callback
    return callback is None or (
        isinstance(callback, ServerNameNote) and (callback.caller is None or isinstance(callback.caller, _Choice))
    )


def _settings(context: ssl.SSLContext) -> _Settings:
    """What a connection keeps of the front, whatever context is chosen."""
    return (
        context.minimum_version,
        context.maximum_version,
        context.options,
        context.verify_mode,
        context.num_tickets,
        [cipher["name"] for cipher in context.get_ciphers()],
    )
