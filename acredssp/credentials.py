"""Credentials: what a client authenticates with, and what a server's `lookup` answers with.

Values only. A secret is in no repr, and no method here writes or logs one.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from acredssp.md4 import md4
from acredssp.status import NTSTATUS

__all__ = ["Candidates", "Credential", "Deny", "LookupAnswer", "NTHash", "Nothing", "Oracle", "Password", "logon_name"]


@dataclasses.dataclass(frozen=True, slots=True)
class Password:
    """A password.

    A client names the account with it; a server's lookup, which was asked for an account, gives the password alone.
    """

    password: str = dataclasses.field(repr=False)
    user: str = ""
    """The account's name, or a user principal name (`bob@contoso.com`, domain empty)."""
    domain: str = ""
    nt_hash: bytes = dataclasses.field(init=False, repr=False, compare=False)
    """MD4 of the password in UTF-16LE, 16 bytes: computed once, since every logon needs it ([MS-NLMP] 3.3.2)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "nt_hash", md4(self.password.encode("utf-16-le", "surrogatepass")))


@dataclasses.dataclass(frozen=True, slots=True)
class NTHash:
    """An NT hash in place of the password: enough to log on, not enough to delegate."""

    nt_hash: bytes = dataclasses.field(repr=False)
    """16 bytes."""
    user: str = ""
    domain: str = ""

    def __post_init__(self) -> None:
        if len(self.nt_hash) != 16:
            raise ValueError(f"an NT hash has 16 bytes, not {len(self.nt_hash)}")


@dataclasses.dataclass(frozen=True, slots=True)
class Nothing:
    """Delegate nothing: three empty strings, as Restricted Admin does ([MS-CSSP] 2.2.1.2.1)."""


def logon_name(domain: str, user: str) -> str:
    r"""Return `DOMAIN\user`; the user alone without a domain."""
    return f"{domain}\\{user}" if domain else user


Credential: TypeAlias = Password | NTHash
"""What a client can authenticate with."""


@dataclasses.dataclass(frozen=True, slots=True)
class Candidates:
    """Several secrets, of which any may be right: a password being rotated, an account known under two domains."""

    secrets: Sequence[Credential]
    """Tried in order; each costs two HMACs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Oracle:
    """Somebody who verifies without giving the secret: a domain controller, a vault.

    `verify` gets an `acredssp.NTLMExchange` and answers with the 16-byte session base key or `Deny`; it may be a
    plain function or a coroutine function. Who knows that the password was right, though the account may not log on,
    says so: `Deny(status, proven=True)`.
    """

    verify: Callable[[Any], "bytes | Deny | Awaitable[bytes | Deny]"] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Deny:
    """Refuse.

    From `lookup` or an `Oracle`, the status reaches the peer only if the peer proved the password, or if the status
    is not about the account (STATUS_NO_LOGON_SERVERS); otherwise the peer sees STATUS_LOGON_FAILURE. To say
    "disabled" to who knows the password, give the secret too.
    """

    nt_status: NTSTATUS = NTSTATUS.STATUS_LOGON_FAILURE
    secret: "Credential | None" = dataclasses.field(default=None, repr=False)
    proven: bool = False
    """An `Oracle` has seen that the password was right. Nobody else can know: it counts from an oracle alone."""


LookupAnswer: TypeAlias = Password | NTHash | Candidates | Oracle | Deny
"""What a lookup may answer; anything else is taken as `Deny()`."""
