"""What NTLM's initiator and acceptor share: the flags that CredSSP needs, and the established context."""

from typing import Final

from acredssp.errors import LocalProtocolError, PolicyError, RemoteProtocolError
from acredssp.mechanisms.base import Principal, Sealing
from acredssp.mechanisms.ntlm.crypto import SealingHandle
from acredssp.mechanisms.ntlm.messages import Flags
from acredssp.wire.spnego import NTLM

__all__ = ["REQUIRED_FLAGS", "NTLMContext", "require_flags"]

REQUIRED_FLAGS: Final[int] = (
    Flags.UNICODE | Flags.SIGN | Flags.SEAL | Flags.EXTENDED_SESSIONSECURITY | Flags.KEY_128 | Flags.KEY_EXCH
)
"""The weakest session security that is accepted: 128-bit keys with key exchange, and signatures by HMAC-MD5."""


def require_flags(flags: int, message: str) -> None:
    """Refuse a message whose NegotiateFlags lack one of `REQUIRED_FLAGS`.

    Raises:
        RemoteProtocolError: UNICODE is missing.
        PolicyError: SEC_E_UNSUPPORTED_FUNCTION: the session security is weaker.
    """
    missing = REQUIRED_FLAGS & ~flags
    if not missing:
        return
    names = ", ".join(flag.name for flag in Flags if flag & missing)
    if missing & Flags.UNICODE:
        raise RemoteProtocolError(f"ntlm {message}: expected unicode and 128-bit sealing, got no {names}")
    raise PolicyError(f"ntlm {message}: expected 128-bit sealing with key exchange, got no {names}")


class NTLMContext:
    """The part of an NTLM context that seals and signs. See `acredssp.mechanisms.base.Mechanism`."""

    name = "ntlm"
    mech_types = (NTLM,)
    fallback = ""
    authenticates_server = False
    ends: int | None = None

    __slots__ = ("_incoming", "_outgoing", "complete", "needs_mech_list_mic", "principal")

    def __init__(self) -> None:
        self.complete = False
        self.principal: Principal | None = None
        self.needs_mech_list_mic = False
        """Whether the AUTHENTICATE_MESSAGE has a MIC, so that SPNEGO needs one too ([MS-SPNG] note 8)."""
        self._outgoing: SealingHandle | None = None
        self._incoming: SealingHandle | None = None

    def _establish(self, session_key: bytes, *, initiator: bool) -> None:
        self._outgoing = SealingHandle(session_key, from_initiator=initiator)
        self._incoming = SealingHandle(session_key, from_initiator=not initiator)
        self.complete = True

    @property
    def sealing(self) -> Sealing:
        """What seals and unseals; see `Mechanism.sealing`."""
        if self._outgoing is None or self._incoming is None:
            raise _not_established()
        return self._outgoing.wrap, self._incoming.unwrap

    def wrap(self, plaintext: bytes) -> bytes:
        """Sign and seal: 16 bytes of signature, then the ciphertext."""
        if self._outgoing is None:
            raise _not_established()
        return self._outgoing.wrap(plaintext)

    def unwrap(self, sealed: bytes) -> bytes:
        """Verify and unseal the peer's next message.

        Raises:
            RemoteProtocolError: SEC_E_MESSAGE_ALTERED or SEC_E_OUT_OF_SEQUENCE; the context cannot be used any more.
        """
        if self._incoming is None:
            raise _not_established()
        return self._incoming.unwrap(sealed)

    def get_mic(self, message: bytes) -> bytes:
        """Return the signature of a mechTypes list, 16 bytes. Allowed only before the first `wrap`."""
        if self._outgoing is None:
            raise _not_established()
        return self._outgoing.get_mic(message)

    def verify_mic(self, message: bytes, mic: bytes) -> None:
        """Verify the peer's mechListMIC. Allowed only before the first `unwrap`.

        Raises:
            RemoteProtocolError: SEC_E_MESSAGE_ALTERED or SEC_E_OUT_OF_SEQUENCE; the context cannot be used any more.
        """
        if self._incoming is None:
            raise _not_established()
        self._incoming.verify_mic(message, mic)


def _not_established() -> LocalProtocolError:
    return LocalProtocolError("the ntlm context is not established")
