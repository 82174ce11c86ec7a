"""The tree that decoding makes: nodes with their place in the bytes, secrets that stay hidden, and faults.

A decoder adds a node for each field before it looks at what follows, so the tree shows everything up to a fault. The
number of nodes is bounded, and so is the depth, since each decoder calls decoders of other formats only.
"""

import dataclasses
import enum
from typing import Final, TypeAlias

__all__ = ["MOST_NODES", "Fault", "Malformed", "Node", "Secret", "Source", "TooMuch", "Value"]

MOST_NODES: Final = 20_000
"""Nodes of one tree: a logon of Windows has about 300, and a hostile file could ask for millions."""

_AROUND: Final = 16
"""Bytes on each side of a fault that are shown with it."""

Value: TypeAlias = str | int | bytes | None
"""What a node holds: a text, a number, bytes that are not looked into, or nothing."""


class Secret(enum.StrEnum):
    """What is hidden unless it is asked for by its name.

    Attributes:
        PASSWORD: The delegated password.
        PIN: The delegated PIN of a smart card.
        CRED_BUFFER: The delegated tickets or keys of Remote Credential Guard.
        NT_RESPONSE: NTLM's proof of the password, which a guess of the password can be checked against.
        LM_RESPONSE: The same proof in its older form.
        SESSION_KEY: NTLM's encrypted session key.
        TICKET: Kerberos' encrypted tickets and authenticators.
        AUTHORIZATION: A header field of HTTP that holds a password or another proof.
        SEALED: What CredSSP's mechanism has encrypted: pubKeyAuth and authInfo.
        UNKNOWN: Bytes that no field accounts for, and fields of a broken message: they may be any of the others.
    """

    PASSWORD = "password"  # noqa: S105 - the name of what is hidden
    PIN = "pin"
    CRED_BUFFER = "cred-buffer"
    NT_RESPONSE = "nt-response"
    LM_RESPONSE = "lm-response"
    SESSION_KEY = "session-key"
    TICKET = "ticket"
    AUTHORIZATION = "authorization"
    SEALED = "sealed"
    UNKNOWN = "unknown"


class Malformed(Exception):
    """The bytes are not what the decoder expects. `offset` counts from the beginning of the source."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message


class TooMuch(Exception):
    """The tree has as many nodes as it may have."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """Where a structure breaks its format.

    Attributes:
        offset: The byte at fault, counted from the beginning of the bytes that the node's unit lies in.
        message: What was expected and what came.
        around_at: The offset of the first byte of `around`.
        around: The bytes around the fault in hex, separated by spaces; `··` stands for a byte of a secret.
    """

    offset: int
    message: str
    around_at: int
    around: str


@dataclasses.dataclass(slots=True)
class Node:
    """A structure or a field.

    Attributes:
        name: The name that the specification gives it.
        offset: Where it begins.
        size: How many bytes it has, with its header where it has one.
        value: What it holds; None for a structure, and for a hidden secret.
        note: What the value means.
        secret: Which secret it is; None for a field that is not secret.
        hidden: Whether its value is left out because nobody asked for it.
        children: The fields of a structure.
        fault: Why the fields end where they do; None for a structure that is whole.
        refused: Why acredssp itself refuses the structure, though its fields could be shown; empty for no reason.
    """

    name: str
    offset: int
    size: int
    value: Value = None
    note: str = ""
    secret: Secret | None = None
    hidden: bool = False
    children: "list[Node]" = dataclasses.field(default_factory=list)
    fault: Fault | None = None
    refused: str = ""


class Source:
    """Bytes that are decoded, with the bounds and the secrets of one tree.

    Args:
        data: The bytes.
        show: The secrets that are shown.
        parent: The source that the bytes were decoded from; None for the outermost.

    Attributes:
        count: The number of nodes so far, in a list that all sources of a tree share.
    """

    def __init__(self, data: bytes, show: frozenset[Secret] = frozenset(), parent: "Source | None" = None) -> None:
        self.data = data
        self.show = show
        self.count: list[int] = [0] if parent is None else parent.count
        self._secrets: list[tuple[int, int]] = []
        """The places of secrets that are not shown."""

    def new(  # noqa: PLR0913, PLR0917 - what a node has
        self, parent: Node, name: str, start: int, end: int, value: Value = None, note: str = ""
    ) -> Node:
        """Add a node to its parent and return it.

        Raises:
            TooMuch: The tree is full.
        """
        self.count[0] += 1
        if self.count[0] > MOST_NODES:
            raise TooMuch
        node = Node(name, start, end - start, value, note)
        parent.children.append(node)
        return node

    def secret(self, parent: Node, kind: Secret, name: str, start: int, end: int, value: Value = None) -> Node:  # noqa: PLR0913, PLR0917 - as `new`
        """Add a node for a secret. Its value is left out unless it was asked for; None stands for the bytes."""
        node = self.new(parent, name, start, end)
        node.secret = kind
        node.hidden = kind not in self.show
        if node.hidden:
            self.hide(start, end)
        else:
            node.value = self.data[start:end] if value is None else value
        return node

    def distrust(self, node: Node, kind: Secret = Secret.UNKNOWN) -> None:
        """Hide all texts and bytes below a node that is broken: a secret may stand where a name is expected."""
        if kind in self.show:
            return
        self.hide(node.offset, node.offset + node.size)
        waiting = list(node.children)
        while waiting:
            each = waiting.pop()
            waiting += each.children
            if each.secret is None and each.value and isinstance(each.value, (bytes, str)) and not _is_number(each):
                each.secret, each.hidden, each.value = kind, True, None

    def hide(self, start: int, end: int) -> None:
        """Keep bytes out of the surroundings of faults."""
        self._secrets.append((start, end))

    def guard(self, kind: Secret, start: int, end: int) -> None:
        """Keep bytes that may hold a secret out of the surroundings of faults, unless the secret is asked for."""
        if kind not in self.show:
            self.hide(start, end)

    def fault(self, error: Malformed) -> Fault:
        """Describe a fault with the bytes around it."""
        at = min(max(error.offset, 0), len(self.data))
        first, last = max(0, at - _AROUND), min(len(self.data), at + _AROUND)
        near = [(start, end) for start, end in self._secrets if start < last and end > first]
        shown = [
            "··" if any(start <= place < end for start, end in near) else f"{self.data[place]:02x}"
            for place in range(first, last)
        ]
        return Fault(at, error.message, first, " ".join(shown))

    def need(self, start: int, count: int, end: int, what: str) -> int:
        """Return where `count` bytes from `start` end.

        Raises:
            Malformed: They reach past `end`.
        """
        if start + count > end:
            raise Malformed(start, f"{what}: expected {count} bytes, got {max(0, end - start)}")
        return start + count

    def number(self, start: int, size: int, end: int, what: str, order: str = "little") -> int:
        """Return the number in `size` bytes.

        Raises:
            Malformed: They reach past `end`.
        """
        stop = self.need(start, size, end, what)
        return int.from_bytes(self.data[start:stop], "big" if order == "big" else "little")


def _is_number(node: Node) -> bool:
    """Whether the value is a number of flags in hex."""
    return node.size <= 4 and isinstance(node.value, str) and node.value.startswith("0x")
