"""What `acredssp probe --policy FILE` requires of a server or client, and the exit status that follows from findings.

The file is TOML:

    fail_at = "medium"                # findings of this severity and above fail; medium unless given
    forbid = ["ntlm-only"]            # these fail, whatever their severity
    accept = ["certificate-self-signed"]   # these never fail

All names are ids of docs/findings.md. The exit status is that of the worst finding that fails.
"""

import dataclasses
import pathlib
import tomllib
from collections.abc import Iterable
from typing import Any, Final, Self

from acredssp.cli.outcome import UsageError, read_bounded
from acredssp.diagnosis import CATALOGUE, Finding, Severity

__all__ = ["EXIT_OF", "Requirements"]

_MOST_BYTES: Final = 1024 * 1024
"""The longest file of requirements."""
EXIT_OF: Final = {Severity.INFO: 10, Severity.LOW: 11, Severity.MEDIUM: 12, Severity.HIGH: 13}
"""The exit status for the worst finding that fails."""


@dataclasses.dataclass(frozen=True, slots=True)
class Requirements:
    """Which findings fail.

    Attributes:
        fail_at: The lowest severity that fails.
        forbid: The ids that fail in any case.
        accept: The ids that never fail.
    """

    fail_at: Severity = Severity.MEDIUM
    forbid: frozenset[str] = frozenset()
    accept: frozenset[str] = frozenset()

    @classmethod
    def from_file(cls, path: pathlib.Path) -> Self:
        """Read a file.

        Raises:
            UsageError: The file cannot be read, or holds something else.
        """
        try:
            content = tomllib.loads(read_bounded("--policy", path, _MOST_BYTES).decode("utf-8"))
        except ValueError as error:
            raise UsageError(f"--policy {path}: {error}") from None
        unknown = sorted(set(content) - {"fail_at", "forbid", "accept"})
        if unknown:
            raise UsageError(f"--policy {path}: expected fail_at, forbid and accept, got {unknown[0]}")
        accept, forbid = (_ids(path, name, content.get(name, [])) for name in ("accept", "forbid"))
        if both := sorted(accept & forbid):
            raise UsageError(f"--policy {path}: expected {both[0]} in accept or in forbid, got it in both")
        return cls(_severity(path, content.get("fail_at", Severity.MEDIUM)), forbid, accept)

    def fails(self, finding: Finding) -> bool:
        """Return whether a finding fails."""
        if finding.id in self.accept:
            return False
        return finding.id in self.forbid or finding.severity.rank >= self.fail_at.rank

    def exit_status(self, findings: Iterable[Finding]) -> int:
        """Return 0, or the status of the worst finding that fails."""
        return max((EXIT_OF[each.severity] for each in findings if self.fails(each)), default=0)


def _severity(path: pathlib.Path, value: Any) -> Severity:
    try:
        return Severity(value)
    except ValueError:
        raise UsageError(f"--policy {path}: fail_at: expected one of {', '.join(Severity)}, got {value!r}") from None


def _ids(path: pathlib.Path, name: str, value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UsageError(f"--policy {path}: {name}: expected a list of ids, got {value!r}")
    for each in value:
        if each not in CATALOGUE:
            raise UsageError(f"--policy {path}: {name}: expected an id of docs/findings.md, got {each!r}")
    return frozenset(value)
