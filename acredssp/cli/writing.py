"""Bytes that are written as text: in hex, base64, hexdumps, arrays and strings of programs, PEM, and header fields.

People copy messages from logs, terminals, Wireshark and programs. `written` finds what they have copied, so that
nobody has to bring it into another form.
"""

import base64
import binascii
import dataclasses
import re
from collections.abc import Iterator
from typing import Final, Literal

from acredssp.cli.dumps import dumped

__all__ = ["Written", "as_text", "written"]

_HEX: Final = re.compile(r"(?:0[xX])?+[0-9a-fA-F]{2}(?:[\s:,\-]*+(?:0[xX])?+[0-9a-fA-F]{2})*+,?")
"""Possessive, since a repetition that may give back needs a hundred times the memory of the text."""
_PEM: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{1,60}-----([A-Za-z0-9+/=\s]*)-----END ")
_COMMENT: Final = re.compile(r"//.*$|/\*.*$", re.MULTILINE)
"""A comment of C, to the end of its line: Wireshark writes bytes as text into it, which may hold the comment's end."""
_ARRAY: Final = re.compile(r"[{\[(]([\s,0-9a-fA-FxX]+)[})\]]")
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]{1,2}|[0-9]{1,3}")
_QUOTED: Final = re.compile(r"\"((?:[^\"\\\n]|\\.)*)\"|'((?:[^'\\\n]|\\.)*)'")
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|(.))|([^\\])", re.DOTALL)
_ESCAPED_ONLY: Final = re.compile(r"(?:\\x[0-9a-fA-F]{2}|\\?\s)+")
_LETTERS: Final = {"n": 10, "r": 13, "t": 9, "a": 7, "b": 8, "f": 12, "v": 11, "e": 27}
_TOKEN: Final = re.compile(
    r"(?:\b([A-Za-z-]{4,40})[\"']?[ \t]*[:=][ \t]*[\"']?)?"
    r"\b(CredSSP|Negotiate|NTLM|Kerberos)[ \t:=]+([A-Za-z0-9+/]{12,}={0,2})(?![A-Za-z0-9+/=])",
    re.IGNORECASE,
)
"""A scheme of HTTP's authentication with a token, and the name of the header field where there is one."""
_HTTP: Final = re.compile(r"(?:HTTP/1\.[01] \d{3}|[A-Z_]{3,20} \S{1,8000} HTTP/1\.[01])")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_BOMS: Final = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """Bytes that a text stands for.

    Attributes:
        data: The bytes.
        sender: `"client"` or `"server"`; empty where it is not known.
        sure: Whether the text can hardly mean anything else; base64 without its padding may be any word.
        is_base64: Whether it is base64 alone, as a word without a space may be by chance.
    """

    data: bytes
    sender: Literal["client", "server", ""] = ""
    sure: bool = True
    is_base64: bool = False


def as_text(data: bytes) -> str | None:
    """Return the text that a file holds: ASCII, UTF-8, or UTF-16 with its mark; None for a file of bytes."""
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return text if all(each.isprintable() or each.isspace() for each in set(text)) else None


def written(text: str, most: int) -> list[Written]:
    """Return what a text stands for, in its order; nothing where it holds no bytes in a form that is known.

    Args:
        text: The text.
        most: The most bytes that a hexdump may stand for.

    Raises:
        NotADump: The text looks like a hexdump, and a line of it cannot be read.
    """
    text = text.strip()
    if _HTTP.match(text):
        return [Written(text.encode() + b"\n\n")]
    if dumps := dumped(text, most):
        return [Written(data) for data in dumps]
    for form in (_in_hex, _in_pem, _in_base64, _in_arrays, _in_strings, _in_fields):
        if found := list(form(text)):
            return found
    return []


def _in_hex(text: str) -> Iterator[Written]:
    text = text.strip("\"'")
    if _HEX.fullmatch(text):
        yield Written(bytes.fromhex(re.sub(r"0[xX]|[\s:,\-]", "", text)))


def _in_pem(text: str) -> Iterator[Written]:
    for body in _PEM.findall(text):
        yield from _in_base64(body)


def _in_base64(text: str) -> Iterator[Written]:
    """Base64 in one piece, over several lines, or one piece a line; with the letters for URLs, or without padding."""
    if (data := _strict("".join(text.split()).strip("\"'"))) is not None:
        yield Written(data, is_base64=True)
        return
    lines = text.strip("\"'").split()
    each = [_strict(line) for line in lines] if len(lines) > 1 else [None]
    if all(each):
        yield from (Written(data, is_base64=True) for data in each if data is not None)
    elif (data := _lenient("".join(lines))) is not None:
        yield Written(data, sure=False, is_base64=True)


def _strict(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True) or None
    except (binascii.Error, ValueError):
        return None


def _lenient(text: str) -> bytes | None:
    if not _BASE64.fullmatch(text):
        return None
    bare = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    return _strict(bare + "=" * (-len(bare) % 4))


def _in_arrays(text: str) -> Iterator[Written]:
    """Arrays of C, Go, Java, Python: numbers with commas between them, in braces or brackets."""
    for inside in _ARRAY.findall(_COMMENT.sub("", text)):
        numbers = [each.strip() for each in inside.strip(" \t\r\n,").split(",")]
        if len(numbers) < 4 or not all(_NUMBER.fullmatch(each) for each in numbers):
            continue
        values = [int(each, 16 if each[:2].lower() == "0x" else 10) for each in numbers]
        if max(values) < 256:
            yield Written(bytes(values))


def _in_strings(text: str) -> Iterator[Written]:
    """Strings of C or Python with escapes; pieces of one string behind each other are put together."""
    if "\\x" not in text and "\\0" not in text:
        return
    if _ESCAPED_ONLY.fullmatch(text):
        yield Written(bytes.fromhex(re.sub(r"\\x|[\\\s]", "", text)))
        return
    data = b"".join(_unescaped(one or other) for one, other in _QUOTED.findall(text))
    if data:
        yield Written(data)


def _unescaped(text: str) -> bytes:
    data = bytearray()
    for in_hex, octal, letter, plain in _ESCAPE.findall(text):
        if in_hex or octal:
            data.append(int(in_hex or octal, 16 if in_hex else 8) & 0xFF)
        elif letter:
            data.append(_LETTERS.get(letter, ord(letter) & 0xFF))
        else:
            data += plain.encode()
    return bytes(data)


def _in_fields(text: str) -> Iterator[Written]:
    """Tokens behind the name of their scheme, as logs of HTTP and traces of browsers and curl have them."""
    for field, _, token in _TOKEN.findall(text):
        if (data := _lenient(token)) is not None:
            name = field.lower()
            answers = name.endswith(("authenticate", "authentication-info"))
            yield Written(data, "server" if answers else "client" if name.endswith("authorization") else "")
