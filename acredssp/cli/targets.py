"""The targets of `acredssp probe`, from words and from a file: hosts, networks and URLs of WinRM."""

import ipaddress
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from acredssp.cli import arguments
from acredssp.cli.arguments import Service
from acredssp.cli.options import RDP_PORT
from acredssp.cli.outcome import UsageError, read_bounded
from acredssp.workers import Address

__all__ = ["Target", "read_targets"]

Target: TypeAlias = Address | Service
"""A server of RDP, or a service of WinRM."""

_MOST_BYTES: Final = 16 * 1024 * 1024
"""The longest file of targets."""
_MOST: Final = 65536
"""The most addresses of one network: a typing error should not ask half of the Internet."""


def read_targets(words: Iterable[str], path: pathlib.Path | None) -> dict[Target, bool]:
    """Return the targets of the words, then those of the file, and for each whether it was named by itself.

    A target that was named is no address of a network alone, so people want to know that it does not answer.

    Args:
        words: Each is `HOST`, `HOST:PORT`, `NETWORK/BITS`, `NETWORK/BITS:PORT`, or a URL of http or https.
        path: A file with one target in a line, and comments behind `#`; `-` for the standard input.

    Raises:
        UsageError: A target cannot be understood, or the file cannot be read.
    """
    targets = [each for word in words for each in _targets(word)]
    if path is not None:
        for number, line in enumerate(_lines(path), 1):
            word = line.partition("#")[0].strip()
            try:
                targets += _targets(word) if word else []
            except UsageError as error:
                raise UsageError(f"--targets {path}, line {number}: {error}") from None
        if not targets:
            raise UsageError(f"--targets {path}: expected a target in a line, got none")
    once: dict[Target, bool] = {}
    for target, named in targets:
        once[target] = named or once.get(target, False)
    return once


def _lines(path: pathlib.Path) -> list[str]:
    if str(path) == "-":
        if not sys.stdin:
            return []
        typed = read_bounded("--targets", path, _MOST_BYTES, arguments.unbuffered_input())
        return typed.decode("utf-8-sig", "replace").splitlines()
    try:
        return read_bounded("--targets", path, _MOST_BYTES).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"--targets {path}: expected a text in utf-8, got something else") from None


def _targets(word: str) -> Iterator[tuple[Target, bool]]:
    """Return the targets that a word means, and whether it names them."""
    if word.lower().startswith(("http://", "https://")):
        yield arguments.service(word), True
    elif "/" in word and "://" not in word:
        yield from ((each, False) for each in _network(word))
    else:
        yield arguments.address(word, default_port=RDP_PORT), True


def _network(word: str) -> Iterator[Address]:
    text, slash, rest = word.partition("/")
    bits, _, port = rest.partition(":")
    try:
        network = ipaddress.ip_network(f"{text}{slash}{bits}")
        number = int(port or RDP_PORT)
    except ValueError as error:
        raise UsageError(
            "expected a network such as 10.0.0.0/24 or 10.0.0.0/24:3389, or a URL such as "
            f"http://HOST:5985/wsman: {error}"
        ) from None
    if network.num_addresses > _MOST:
        raise UsageError(f"expected a network of at most {_MOST} addresses, got {word}")
    if not 1 <= number <= 65535:
        raise UsageError(f"expected a port from 1 to 65535, got {port!r}")
    for address in network.hosts():
        yield Address(str(address), number)
