"""Hexdumps, as xxd, hexdump, od, tcpdump and Wireshark print them: the bytes that a dump stands for.

Each line has an offset, and the next line's offset tells how many bytes the line has. So a column of text is never
taken for bytes, no byte is lost, and lines that are not of the dump, such as a heading, do not matter.
"""

import dataclasses
import re
from typing import Final

__all__ = ["NotADump", "dumped"]

_LINE: Final = re.compile(r"[ ]*(?:0x)?([0-9a-fA-F]{3,16})(:?)(?:([ ]+)(\S.*))?[ ]*")
_GROUP: Final = re.compile(r"[ ]*-?[ ]*([0-9a-fA-F]+)(?=[ \-|>]|$)")
_BASES: Final = (16, 8, 10)
"""Offsets are hexadecimal; those of od are octal or decimal, too."""
_MOST_IN_LINE: Final = 256


class NotADump(Exception):
    """The text looks like a hexdump, and its bytes cannot be told. The text says where."""


class _Other(Exception):
    """The lines are not of a dump whose offsets have this base."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Line:
    """A line of a dump.

    Attributes:
        number: The number of the line in the text, from 1 on.
        digits: The offset as it is written.
        marked: Whether what stands in front of the bytes shows that this is an offset: a colon, or a wide gap.
        colon: Whether a colon follows the offset.
        rest: What stands behind the offset; empty for the line that ends the dumps of hexdump and od.
        repeats: Whether a line with an asterisk follows: the bytes of this one come again until the next offset.
    """

    number: int
    digits: str
    marked: bool
    colon: bool
    rest: str
    repeats: bool = False


def dumped(text: str, most: int) -> list[bytes]:
    """Return the bytes of each hexdump in a text, in their order; none where the text has no hexdump.

    Args:
        text: The text.
        most: The most bytes that are returned together.

    Raises:
        NotADump: The text looks like a hexdump, but a line has fewer or more bytes than the offsets say.
    """
    lines = _lines(text)
    if not any(line.rest for line in lines):
        return []
    zero = next((at for at, line in enumerate(lines) if not int(line.digits, 16) and line.rest), 0)
    problem = ""
    for start in dict.fromkeys((zero, 0)):
        for base in _BASES:
            try:
                return _Dump(lines[start:], base, most).read()
            except _Other as error:
                problem = problem or str(error)
    first = lines[zero]
    if first.marked and not int(first.digits, 16):
        raise NotADump(problem)
    return []


def _lines(text: str) -> list[_Line]:
    found: list[_Line] = []
    for number, line in enumerate(text.expandtabs().splitlines(), 1):
        if line.strip() == "*" and found:
            found[-1] = dataclasses.replace(found[-1], repeats=True)
        match = _LINE.fullmatch(line)
        if match is None or (match[4] and not _begins_with_bytes(match[4])):
            continue
        marked = bool(match[2]) or len(match[3] or "") > 1
        found.append(_Line(number, match[1], marked, bool(match[2]), match[4] or ""))
    return found


def _begins_with_bytes(rest: str) -> bool:
    match = _GROUP.match(rest)
    return match is not None and not len(match[1]) % 2


class _Dump:
    """The lines of dumps whose offsets have one base."""

    def __init__(self, lines: list[_Line], base: int, most: int) -> None:
        self._lines = lines
        self._base = base
        self._most = most
        self._width = 0
        """Columns behind the offset that the bytes of a full line take; 0 where it is not known."""
        self._swapped = not any(line.colon for line in lines) and all(
            len(group) == 4 for line in lines for group in _groups(line.rest)[:4]
        )
        """Whether the groups are numbers of two bytes, the lower one first, as hexdump and `od -x` print them."""

    def read(self) -> list[bytes]:
        """Return the bytes of each dump.

        Raises:
            _Other: A line has not the bytes that the offsets say.
        """
        offsets = [self._offset(line) for line in self._lines]
        dumps, dump = [], bytearray()
        for line, offset, following in zip(self._lines, offsets, [*offsets[1:], None], strict=True):
            goes_on = following is not None and following > offset
            if following and not goes_on:
                raise _Other(f"line {line.number}: expected an offset after it that is larger, or 0")
            if line.rest:
                dump += self._data(line, following - offset if goes_on and following is not None else None)
            if not goes_on and dump:
                dumps.append(bytes(dump))
                dump = bytearray()
            if len(dump) > self._most:
                return [*dumps, bytes(dump)]
        if len(self._lines) == 1 and not self._lines[0].marked:
            raise _Other("one line")
        return dumps

    def _offset(self, line: _Line) -> int:
        try:
            return int(line.digits, self._base)
        except ValueError:
            raise _Other("another base") from None

    def _data(self, line: _Line, count: int | None) -> bytes:
        """Return the bytes of a line; `count` says how many there are up to the next offset."""
        if not line.repeats:
            return self._bytes(line, count)
        once = self._bytes(line, None)
        if count is None or count % len(once):
            raise _Other(f"line {line.number}: expected an offset behind the asterisk that fits the lines")
        return once * (min(count, self._most) // len(once))

    def _bytes(self, line: _Line, count: int | None) -> bytes:
        if count is not None and count > _MOST_IN_LINE:
            raise _Other(f"line {line.number}: expected the next offset after it, got one {count} bytes further")
        text = line.rest if count is not None else self._without_text(line.rest)
        data, at = b"", 0
        while count is None or len(data) < count:
            match = _GROUP.match(text, at)
            if match is None or len(match[1]) % 2:
                break
            group = bytes.fromhex(match[1])
            data += group[::-1] if self._swapped else group
            at = match.end()
        if self._swapped and count is not None and len(data) == count + 1:
            data = data[:count]  # the last group has a zero that fills it
        behind = text[at:]
        cut = count is None and bool(behind.strip())
        if cut or not data or (count is not None and len(data) != count) or not _is_text_column(behind):
            expected = "only bytes" if count is None else f"{count} bytes in hex"
            raise _Other(f"line {line.number}: expected {expected} behind the offset, got {len(data)} and other text")
        if count is not None:
            self._width = max(self._width, at)
        return data

    def _without_text(self, rest: str) -> str:
        """Return a last line without the column of text, whose place the lines before it tell."""
        bare = re.sub(r"[ ]+(?:\|.*\|?|>.*<?)$", "", rest)
        if bare != rest:
            return bare
        return rest[: self._width] if self._width else re.split(r"[ ]{2,}", rest, maxsplit=1)[0]


def _is_text_column(behind: str) -> bool:
    """Whether what follows the bytes is a column of text, which a gap or a bar parts from them."""
    return not behind.strip() or behind.startswith("  ") or behind.lstrip()[:1] in {"|", ">"}


def _groups(rest: str) -> list[str]:
    return re.findall(r"(?<![^ ])[0-9a-fA-F]+(?![^ ])", rest[:24])
