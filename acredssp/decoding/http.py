"""The head of an HTTP message as a tree, and the tokens of CredSSP, Negotiate and NTLM in its header fields."""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Final

from acredssp.decoding import gss
from acredssp.decoding.nodes import Malformed, Node, Secret, Source

__all__ = ["begins_message", "message"]

_START: Final = re.compile(rb"(?:HTTP/1\.[01] \d{3}|[A-Z_]{3,20} [^\r\n ]{1,8000} HTTP/1\.[01])")
_MOST_FIELDS: Final = 200
_TOKEN_FIELDS: Final = frozenset({"authorization", "www-authenticate", "proxy-authorization", "proxy-authenticate"})
_HIDDEN: Final = re.compile("auth|cookie|token|key|secret|passw|credential|session|signature")
"""Names of fields whose values prove something."""
_END: Final = re.compile(rb"\r?\n\r?\n")
_IN_START: Final = re.compile(r"(?<=://)[^/@\s]*(?=@)|(?<=[?&;])[^\s#]*(?=\s|#|$)")
"""User, password and query of an address."""
_TOKEN: Final = re.compile(r"[ \t]*(CredSSP|Negotiate|NTLM)[ \t]+([A-Za-z0-9+/]+={0,2})[ \t]*", re.IGNORECASE)
_BARE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
"""A scheme with nothing behind it: there is nothing to hide."""
_MOST_TOKEN: Final = 1 << 17
"""Characters of a token that is looked into: the longest that acredssp takes is shorter."""


def begins_message(data: bytes) -> bool:
    """Whether a request or a response of HTTP/1 begins here."""
    return _START.match(data) is not None


def message(
    source: Source, parent: Node, start: int, end: int, inner: Callable[[Source, Node, str, int, int], None]
) -> int:
    """Add the head of a message, and return where the message ends: behind its body, if its length is told.

    Args:
        source: The bytes.
        parent: The node that gets the message.
        start: Where it begins.
        end: Where the bytes end.
        inner: Adds what a token of CredSSP holds.
    """
    found = _END.search(source.data, start, end)
    stop = found.end() if found else end
    head = source.data[start : found.start() if found else end]
    lines = [line + b"\n" for line in head.split(b"\n")]
    first = _text(lines[0].rstrip(b"\r\n"))
    node = source.new(parent, "HTTP response" if first.startswith("HTTP/") else "HTTP request", start, stop)
    _start_line(source, node, start, first)
    at, length = start + len(lines[0]), 0
    for ended in lines[1:]:
        line = ended.rstrip(b"\r\n")
        if len(node.children) > _MOST_FIELDS:
            raise Malformed(at, f"HTTP: expected at most {_MOST_FIELDS} header fields")
        name, colon, value = line.partition(b":")
        if (not colon or line[:1] in b" \t") and line:  # what goes on with the line before may be a secret
            source.guard(Secret.AUTHORIZATION, start, stop)
            raise Malformed(at, "HTTP: expected a header field with a colon")
        if line:
            _field(source, node, _text(name).strip(" \t\0"), at, len(line), _text(value).strip(" \t"), inner)
        if name.strip().lower() == b"content-length" and value.strip().isdigit() and len(value) < 12:
            length = int(value)
        at += len(ended)
    if found is None:
        source.guard(Secret.AUTHORIZATION, start, stop)
        raise Malformed(end, "HTTP: expected an empty line behind the header, got the end")
    if stop < end and length:
        body = min(end, stop + length)
        source.new(node, "body", stop, body, None, f"{body - stop} of {length} bytes")
        stop = body
    return stop


def _start_line(source: Source, node: Node, start: int, text: str) -> None:
    shown = text if Secret.AUTHORIZATION in source.show else _IN_START.sub("(authorization hidden)", text)
    source.new(node, "start line", start, start + len(text), shown)
    if shown != text:
        source.hide(start, start + len(text))


def _field(  # noqa: PLR0913, PLR0917 - as `message`
    source: Source,
    node: Node,
    name: str,
    start: int,
    size: int,
    value: str,
    inner: Callable[[Source, Node, str, int, int], None],
) -> None:
    lower = name.lower()
    if lower not in _TOKEN_FIELDS:
        if _HIDDEN.search(lower):
            source.secret(node, Secret.AUTHORIZATION, name, start, start + size, value)
        else:
            source.new(node, name, start, start + size, value)
        return
    match = _TOKEN.fullmatch(value)
    if match is None or len(match[2]) > _MOST_TOKEN:
        answers = lower.endswith("authenticate")
        if answers or _BARE.fullmatch(value):
            source.new(node, name, start, start + size, value)
        else:
            source.secret(node, Secret.AUTHORIZATION, name, start, start + size, value)
        return
    source.hide(start, start + size)
    field = source.new(node, name, start, start + size, match[1], "offsets below count in the decoded token")
    try:
        token = base64.b64decode(match[2], validate=True)
    except binascii.Error:
        field.fault = source.fault(Malformed(start, f"{name}: expected base64"))
        return
    nested = Source(token, source.show, source)
    read = inner if match[1].lower() == "credssp" else gss.token
    try:
        read(nested, field, "", 0, len(token))
    except Malformed as error:
        field.fault = nested.fault(error)


def _text(line: bytes) -> str:
    return line[:8192].decode("latin-1")
