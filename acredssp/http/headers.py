"""Header fields of HTTP: the schemes that a server offers, tokens in them, and parameters (RFC 9110 5.6, 11.3).

A list of challenges may stand in one field or in several fields, and a comma separates both the challenges and the
parameters of one challenge. A quoted text may hold commas and names of schemes, so no search for `CredSSP` in the text
is safe. The patterns here use possessive quantifiers, and take time that grows with the length of the text alone.
"""

import base64
import binascii
import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from acredssp.http.errors import HTTPProtocolError

__all__ = [
    "SCHEME",
    "Challenge",
    "Headers",
    "authorization_token",
    "challenge_token",
    "challenges",
    "has_body",
    "one_value",
    "parameters",
    "values_of",
    "with_token",
]

SCHEME: Final = "CredSSP"
_MOST_CHALLENGES: Final = 100

Headers: TypeAlias = Iterable[tuple[str | bytes, str | bytes]]
"""The header fields of a message, in order: names and values as text, or as bytes like those of h11 and httpcore."""

_NAME: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED: Final = r'"(?:[^"\\]|\\.)*+"'
_SEPARATORS: Final = re.compile(r"[ \t,]*+")
_SCHEME: Final = re.compile(_NAME)
_LONE_TOKEN: Final = re.compile(rf"[ \t]++([A-Za-z0-9\-._~+/]++=*+|{_QUOTED})[ \t]*+(?=,|$)")
_PARAMETER: Final = re.compile(rf"[ \t;,]*+({_NAME})[ \t]*+=[ \t]*+({_NAME}|{_QUOTED})[ \t]*+(?=[,;]|$)")
_REST: Final = re.compile(rf"(?:{_QUOTED}|[^\",])*+(?:\".*+)?", re.DOTALL)
"""Text up to the next comma outside of quotes; where a quote does not end, all text."""


@dataclasses.dataclass(frozen=True, slots=True)
class Challenge:
    """One scheme that a server offers.

    Attributes:
        scheme: Its name as the server wrote it. Names are the same whatever their case.
        token: The text behind the name: the token of an exchange; empty where there is none.
        parameters: Values by name in lower case, such as Digest's `realm`, without their quotes.
    """

    scheme: str
    token: str = dataclasses.field(default="", repr=False)
    parameters: dict[str, str] = dataclasses.field(default_factory=dict)


def values_of(headers: Headers, name: str) -> list[str]:
    """Return the values of all fields of a name, in order."""
    wanted, size = name.lower(), len(name)
    encoded = wanted.encode()
    return [
        _text(value).strip(" \t")
        for key, value in headers
        if len(key) == size and key.lower() == (encoded if isinstance(key, bytes) else wanted)
    ]


def one_value(headers: Headers, name: str) -> str:
    """Return the value of a header field that may appear at most once. If the field is absent, return an empty text.

    Raises:
        HTTPProtocolError: The field appears more than once.
    """
    values = values_of(headers, name)
    if len(values) > 1:
        raise HTTPProtocolError(f"expected one header field {name}, got {len(values)}")
    return values[0] if values else ""


def has_body(headers: Headers) -> bool:
    """Whether the header of a message announces a body of at least one byte, or of unknown length (RFC 9112 6.3)."""
    return bool(values_of(headers, "Transfer-Encoding")) or values_of(headers, "Content-Length") not in ([], ["0"])


def challenges(values: Iterable[str]) -> list[Challenge]:
    """Return the schemes that the values of `WWW-Authenticate` offer, in order, and skip text that is no challenge.

    No server offers more than a few: a hundred are read at most.
    """
    return list(itertools.islice((challenge for value in values for challenge in _challenges(value)), _MOST_CHALLENGES))


def challenge_token(headers: Headers) -> bytes | None:
    """Return the token of the server's CredSSP challenge: empty for a challenge without one, None for no challenge.

    Raises:
        HTTPProtocolError: The token is not base64, or there are several.
    """
    offered = challenges(values_of(headers, "WWW-Authenticate"))
    tokens = [each.token for each in offered if each.scheme.lower() == SCHEME.lower()]
    if not tokens:
        return None
    given = [token for token in tokens if token]
    if len(given) > 1:
        raise HTTPProtocolError(f"expected one credssp token in www-authenticate, got {len(given)}")
    return _decoded(given[0]) if given else b""


def authorization_token(headers: Headers) -> bytes | None:
    """Return the token of the client's `Authorization`; None for no header field, or for another scheme.

    Raises:
        HTTPProtocolError: The token is not base64, or the field comes more than once.
    """
    scheme, _, token = one_value(headers, "Authorization").replace("\t", " ").partition(" ")
    return _decoded(_unquoted(token.strip(" "))) if scheme.lower() == SCHEME.lower() else None


def with_token(token: bytes) -> str:
    """Return the value of either header field that carries a token; without one it is the scheme alone."""
    return f"{SCHEME} {base64.b64encode(token).decode()}" if token else SCHEME


def parameters(text: str) -> tuple[dict[str, str], int]:
    """Return the parameters at the beginning of a text, by name in lower case, and where they end.

    Commas or semicolons separate them. Of parameters with the same name the first one counts.
    """
    found: dict[str, str] = {}
    end = 0
    while match := _PARAMETER.match(text, end):
        found.setdefault(match[1].lower(), _unquoted(match[2]))
        end = match.end()
    return found, end


def _challenges(value: str) -> Iterator[Challenge]:
    end = _end(_SEPARATORS, value, 0)
    while end < len(value):
        name = _SCHEME.match(value, end)
        if name is not None:
            challenge, end = _challenge(name[0], value, name.end())
            yield challenge
        end = _end(_SEPARATORS, value, _end(_REST, value, end))


def _end(pattern: re.Pattern[str], value: str, start: int) -> int:
    """Return where the text ends that a pattern takes, which takes any text."""
    match = pattern.match(value, start)
    assert match is not None
    return match.end()


def _challenge(scheme: str, value: str, end: int) -> tuple[Challenge, int]:
    lone = _LONE_TOKEN.match(value, end)
    if lone is not None:
        return Challenge(scheme, _unquoted(lone[1])), lone.end()
    if found := _PARAMETER.match(value, end) if value[end : end + 1] in {" ", "\t"} else None:
        values, size = parameters(value[found.start() :])
        return Challenge(scheme, "", values), found.start() + size
    rest = _REST.match(value, end)
    assert rest is not None
    return Challenge(scheme, rest[0].strip(" \t")), rest.end()


def _decoded(token: str) -> bytes:
    try:
        return binascii.a2b_base64(token.encode("ascii"), strict_mode=True) if token else b""
    except (ValueError, UnicodeEncodeError):  # binascii.Error is a ValueError
        pass
    raise HTTPProtocolError(f"expected a credssp token in base64, got {len(token)} characters that are not")


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if len(text) > 1 and text[0] == text[-1] == '"' else text


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
