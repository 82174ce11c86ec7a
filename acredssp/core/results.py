"""What a security context answers with: the result of one step, and the facts of an established context.

Who calls: `context`, and all that drive one.
"""

import dataclasses
from typing import TypeAlias

from acredssp.core.events import Event
from acredssp.credentials import DelegatedKind
from acredssp.mechanisms.base import Principal
from acredssp.status import SecurityStatus
from acredssp.values import made_by

__all__ = ["Buffer", "HandshakeInfo", "StepResult"]

Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclasses.dataclass(slots=True)
class StepResult:
    """The result of one `step()` or `resume()`.

    Send `output`, whatever else the result says. If there is an `event`, answer it with `resume()`. Otherwise keep the
    last `extra` bytes of the data, read at least `missing` bytes more, and call `step()` with both. If `status` is
    SEC_E_OK, the handshake is complete. docs/sansio.md has such a loop.

    The engine keeps no result, so each belongs to its caller. It is not frozen, because freezing would treble the cost
    of making one, and a logon makes ten.

    Attributes:
        status: SEC_E_OK: the handshake is complete. SEC_E_INCOMPLETE_MESSAGE: nothing was taken, `missing` bytes are
            needed. Any other status: go on.
        output: Bytes for the peer; may be empty.
        missing: How many bytes must come behind the `extra` ones before the next call can do anything; 0 where that is
            not known.
        extra: Bytes at the end of `data` that were not taken.
        event: The question that the engine waits to have answered; None where it waits for the peer.
    """

    status: SecurityStatus
    output: bytes = dataclasses.field(default=b"", repr=False)
    missing: int = 0
    extra: int = 0
    event: Event | None = None

    @classmethod
    def unfinished(cls, missing: int, size: int, taken: int = 0) -> "StepResult":
        """Make the result that asks for `missing` more bytes, where `taken` of the `size` given bytes are used up."""
        status = SecurityStatus.SEC_I_CONTINUE_NEEDED if taken else SecurityStatus.SEC_E_INCOMPLETE_MESSAGE
        return cls(status, missing=missing, extra=size - taken)


@dataclasses.dataclass(frozen=True, slots=True)
class HandshakeInfo:
    """The facts of an established context. It holds no secret.

    Attributes:
        version: The effective CredSSP version.
        mechanism: What authenticates: `"kerberos"` or `"ntlm"`; `"negotiate"` while that is not decided.
        principal: Server: who logged on. Client: None.
        delegated: The kind of the delegated credentials; None before they are delegated.
        tls_version: The version of TLS, such as `"TLSv1.3"`; empty in the bare shape.
        cipher: OpenSSL's name of the cipher suite; empty in the bare shape.
        peer_key_sha256: Client: the SHA-256 of the server's SubjectPublicKeyInfo in hex, which pins are compared with.
        fallback: Client: why the first choice of mechanism was not used; empty where it was.
    """

    version: int
    mechanism: str
    principal: Principal | None
    delegated: DelegatedKind | None
    tls_version: str
    cipher: str
    peer_key_sha256: str | None
    fallback: str = ""

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return made_by(self)
