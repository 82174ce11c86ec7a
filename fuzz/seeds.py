"""Good inputs, taken from the recorded conversations of the tests and from what the package writes itself."""

import functools
import json
import pathlib
from collections.abc import Iterator

from acredssp.wire.ts_request import TSRequest

__all__ = ["confirms", "negotiate_tokens", "ntlm_messages", "requests", "ts_requests"]

_CAPTURES = pathlib.Path(__file__).parent.parent / "tests" / "vectors" / "captures"
_NTLM = b"NTLMSSP\0"


@functools.cache
def _captures() -> tuple[dict[str, object], ...]:
    return tuple(json.loads(path.read_text("utf-8")) for path in sorted(_CAPTURES.glob("*.json")))


def ts_requests() -> list[bytes]:
    """Every TSRequest that was recorded."""
    return [bytes.fromhex(message["hex"]) for capture in _captures() for message in capture["messages"]]


def _tokens() -> Iterator[bytes]:
    for message in ts_requests():
        if token := TSRequest.decode(message).nego_token:
            yield token


def ntlm_messages(number: int) -> list[bytes]:
    """The recorded NTLM messages of a type, raw ones and those inside SPNEGO."""
    start = _NTLM + bytes((number, 0, 0, 0))
    return [token[token.index(start) :] for token in _tokens() if start in token]


def negotiate_tokens() -> list[bytes]:
    """The recorded tokens that are not raw NTLM: SPNEGO's, and Kerberos' inside it."""
    return [token for token in _tokens() if not token.startswith(_NTLM)]


def requests() -> list[bytes]:
    """The recorded Connection Requests."""
    return _field("x224_cr")


def confirms() -> list[bytes]:
    """The recorded Connection Confirms."""
    return _field("x224_cc")


def _field(name: str) -> list[bytes]:
    return sorted({bytes.fromhex(str(capture[name])) for capture in _captures() if capture.get(name)})
