"""Names of accounts and domains: the one rule by which two names are equal.

Windows compares names in upper case, and NTLM hashes the user's name in upper case. Both use Windows' own table
([MS-UCODEREF] 3.1.5.3, "Windows 8 Upper Case Mapping Table"), which is about as old as Unicode 5.1, and differs from
Unicode. The final sigma, the dotless i, the long s and the micro sign stay as they are, and so do Georgian, Cherokee,
and everything beyond U+FFFF. With `str.casefold`, `strasse` and `straße` would be one account.

So no function here uses the running Python's Unicode tables but `unicode_upper`, which does as other NTLM clients do.

This module never decides who somebody is, only which names are equal. The mechanisms, the command line and, by
`acredssp.Account`, applications use it.
"""

import re
from typing import Final

__all__ = [
    "escape_principal",
    "logon_name",
    "split_logon_name",
    "split_principal",
    "unicode_upper",
    "upper",
    "user_alone",
]

_PAIRED: Final = (
    (0x0101, 0x012F), (0x0133, 0x0137), (0x013A, 0x0148), (0x014B, 0x0177), (0x017A, 0x017E), (0x0183, 0x0185),
    (0x0188, 0x0188), (0x018C, 0x018C), (0x0192, 0x0192), (0x0199, 0x0199), (0x01A1, 0x01A5), (0x01A8, 0x01A8),
    (0x01AD, 0x01AD), (0x01B0, 0x01B0), (0x01B4, 0x01B6), (0x01B9, 0x01B9), (0x01BD, 0x01BD), (0x01CE, 0x01DC),
    (0x01DF, 0x01EF), (0x01F5, 0x01F5), (0x01F9, 0x021F), (0x0223, 0x0233), (0x023C, 0x023C), (0x0242, 0x0242),
    (0x0247, 0x024F), (0x0371, 0x0373), (0x0377, 0x0377), (0x03D9, 0x03EF), (0x03F8, 0x03F8), (0x03FB, 0x03FB),
    (0x0461, 0x0481), (0x048B, 0x04BF), (0x04C2, 0x04CE), (0x04D1, 0x0523), (0x1E01, 0x1E95), (0x1EA1, 0x1EFF),
    (0x2184, 0x2184), (0x2C61, 0x2C61), (0x2C68, 0x2C6C), (0x2C73, 0x2C73), (0x2C76, 0x2C76), (0x2C81, 0x2CE3),
    (0xA641, 0xA65F), (0xA663, 0xA66D), (0xA681, 0xA697), (0xA723, 0xA72F), (0xA733, 0xA76F), (0xA77A, 0xA77C),
    (0xA77F, 0xA787), (0xA78C, 0xA78C),
)  # fmt: skip
"""Ranges, by first and last. In a range every second letter, from the first on, has its upper case right before it."""

_SHIFTED: Final = (
    (0x0061, 0x007A, -32), (0x00E0, 0x00F6, -32), (0x00F8, 0x00FE, -32), (0x00FF, 0x00FF, 121), (0x0180, 0x0180, 195),
    (0x0195, 0x0195, 97), (0x019A, 0x019A, 163), (0x019E, 0x019E, 130), (0x01BF, 0x01BF, 56), (0x01C6, 0x01C6, -2),
    (0x01C9, 0x01C9, -2), (0x01CC, 0x01CC, -2), (0x01DD, 0x01DD, -79), (0x01F3, 0x01F3, -2), (0x0250, 0x0250, 10783),
    (0x0251, 0x0251, 10780), (0x0253, 0x0253, -210), (0x0254, 0x0254, -206), (0x0256, 0x0257, -205),
    (0x0259, 0x0259, -202), (0x025B, 0x025B, -203), (0x0260, 0x0260, -205), (0x0263, 0x0263, -207),
    (0x0268, 0x0268, -209), (0x0269, 0x0269, -211), (0x026B, 0x026B, 10743), (0x026F, 0x026F, -211),
    (0x0271, 0x0271, 10749), (0x0272, 0x0272, -213), (0x0275, 0x0275, -214), (0x027D, 0x027D, 10727),
    (0x0280, 0x0280, -218), (0x0283, 0x0283, -218), (0x0288, 0x0288, -218), (0x0289, 0x0289, -69),
    (0x028A, 0x028B, -217), (0x028C, 0x028C, -71), (0x0292, 0x0292, -219), (0x037B, 0x037D, 130),
    (0x03AC, 0x03AC, -38), (0x03AD, 0x03AF, -37), (0x03B1, 0x03C1, -32), (0x03C3, 0x03CB, -32), (0x03CC, 0x03CC, -64),
    (0x03CD, 0x03CE, -63), (0x03D7, 0x03D7, -8), (0x03F2, 0x03F2, 7), (0x0430, 0x044F, -32), (0x0450, 0x045F, -80),
    (0x04CF, 0x04CF, -15), (0x0561, 0x0586, -48), (0x1D79, 0x1D79, 35332), (0x1D7D, 0x1D7D, 3814),
    (0x1F00, 0x1F07, 8), (0x1F10, 0x1F15, 8), (0x1F20, 0x1F27, 8), (0x1F30, 0x1F37, 8), (0x1F40, 0x1F45, 8),
    (0x1F51, 0x1F51, 8), (0x1F53, 0x1F53, 8), (0x1F55, 0x1F55, 8), (0x1F57, 0x1F57, 8), (0x1F60, 0x1F67, 8),
    (0x1F70, 0x1F71, 74), (0x1F72, 0x1F75, 86), (0x1F76, 0x1F77, 100), (0x1F78, 0x1F79, 128), (0x1F7A, 0x1F7B, 112),
    (0x1F7C, 0x1F7D, 126), (0x1F80, 0x1F87, 8), (0x1F90, 0x1F97, 8), (0x1FA0, 0x1FA7, 8), (0x1FB0, 0x1FB1, 8),
    (0x1FB3, 0x1FB3, 9), (0x1FC3, 0x1FC3, 9), (0x1FD0, 0x1FD1, 8), (0x1FE0, 0x1FE1, 8), (0x1FE5, 0x1FE5, 7),
    (0x1FF3, 0x1FF3, 9), (0x214E, 0x214E, -28), (0x2170, 0x217F, -16), (0x24D0, 0x24E9, -26), (0x2C30, 0x2C5E, -48),
    (0x2C65, 0x2C65, -10795), (0x2C66, 0x2C66, -10792), (0x2D00, 0x2D25, -7264), (0xFF41, 0xFF5A, -32),
)  # fmt: skip
"""Ranges, by first and last, with the distance from each letter to its upper case."""

_UPPER: Final[dict[int, int]] = {
    **{code: code - 1 for first, last in _PAIRED for code in range(first, last + 1, 2)},
    **{code: code + distance for first, last, distance in _SHIFTED for code in range(first, last + 1)},
}


def upper(name: str) -> str:
    """Return a name in upper case by Windows' table, which maps one character to one."""
    # Most names are ASCII. For them Python's own function gives the same in a tenth of the time.
    return name.upper() if name.isascii() else name.translate(_UPPER)


def unicode_upper(name: str) -> str:
    """Return a name in upper case by the running Python's Unicode tables, one character for one."""
    return name.upper() if name.isascii() else "".join([_simple_upper(character) for character in name])


def _simple_upper(character: str) -> str:
    # Where the full mapping gives several characters, the title case is the simple upper case, or gives several too.
    for candidate in (character.upper(), character.title()):
        if len(candidate) == 1:
            return candidate
    return character


def logon_name(domain: str, user: str) -> str:
    r"""Return `DOMAIN\user`, or the user alone where there is no domain."""
    return f"{domain}\\{user}" if domain else user


def split_logon_name(name: str) -> tuple[str, str]:
    r"""Split a name written in one field, `DOMAIN\USER` or `USER@SUFFIX`, into user and domain; empty for no domain."""
    domain, _, user = name.partition("\\")
    if domain and user:
        return user, domain
    user, _, suffix = name.rpartition("@")
    return (user, suffix) if user and suffix else (name, "")


def user_alone(name: str) -> str:
    r"""Return a name without any domain, even if several are written into it: `BOB` of `A\B\BOB@C@D`.

    It cuts more off than `split_logon_name` does, because other software splits names by rules of its own. Spellings
    that any of these rules takes for the same plain name have the same result.
    """
    return name.strip("\\@").rpartition("\\")[2].lstrip("@").partition("@")[0]


_PRINCIPAL: Final = re.compile(r"((?:[^\\@]|\\.)*)@(.*)", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_TO_ESCAPE: Final = str.maketrans({"\\": r"\\", "@": r"\@", "\n": r"\n", "\t": r"\t", "\b": r"\b", "\0": r"\0"})


def split_principal(text: str) -> tuple[str, str]:
    r"""Split a Kerberos principal, as libkrb5 writes it, into name and realm. The realm is empty where there is none.

    libkrb5 puts a backslash in front of a character that is not a separator. `\@` becomes `@` in the name, since the
    realm is separate now. All other escapes (`\/`, `\\`, `\n`, `\t`, `\b`, `\0`) stay: so `HTTP\/host` with one part
    differs from `HTTP/host` with two, and no name has a control character. Different principals have different names.
    """
    whole = _PRINCIPAL.fullmatch(text)
    name, realm = whole.groups() if whole else (text, "")
    return _ESCAPED.sub(lambda escaped: "@" if escaped[1] == "@" else escaped[0], name), realm


def escape_principal(name: str) -> str:
    """Return a user's name with the escapes that libkrb5 reads. A `/` stays, as the separator of a service's parts."""
    return name.translate(_TO_ESCAPE)
