"""The tokens of a hostile peer's mechanism: bare, or in SPNEGO; and how a step that may block is made here, at once."""

from typing import Final

from acredssp.decoding import Kind, Node, Secret, decode
from acredssp.errors import CredSSPError, RemoteProtocolError
from acredssp.mechanisms.base import StepMechanism
from acredssp.mechanisms.kerberos.context import KerberosAcceptor, KerberosInitiator
from acredssp.policy import MechanismChoice
from acredssp.wire import spnego
from acredssp.wire.spnego import NegTokenInit, NegTokenResp, TokenKind

__all__ = [
    "ANOTHER_MECHANISM",
    "AP_REP",
    "AP_REQ",
    "KRB_ERROR",
    "at",
    "changed_cipher",
    "check_mechanism",
    "is_negotiated",
    "of_another_type",
    "stepped",
    "token_of",
]

ANOTHER_MECHANISM: Final[spnego.OID] = bytes.fromhex("06062b0601040101")
"""An object identifier that is no mechanism of anybody."""
AP_REQ, AP_REP, KRB_ERROR = (b"\1\0", 0x6E), (b"\2\0", 0x6F), (b"\3\0", 0x7E)
"""TOK_ID and the message's tag (RFC 4121 4.1, RFC 4120 5.5)."""


def check_mechanism(mechanism: MechanismChoice) -> None:
    """Check that the attacks are there for a mechanism.

    Raises:
        ValueError: They are not.
    """
    if mechanism in {MechanismChoice.AUTO, MechanismChoice.NEGOTIATE}:
        raise ValueError(f"mechanism: expected ntlm, kerberos or raw-kerberos, got {mechanism}: an attack is for one")


def is_negotiated(mechanism: MechanismChoice) -> bool:
    """Whether the tokens of a mechanism are inside SPNEGO."""
    return mechanism is MechanismChoice.KERBEROS


def stepped(context: KerberosInitiator | KerberosAcceptor, token: bytes) -> bytes:
    """Give a context of Kerberos a token, and return its own. The call waits for the KDC.

    Raises:
        CredSSPError: The context refuses the token, or there is no ticket.
    """
    progress = context.step(token)
    assert isinstance(progress, StepMechanism)
    try:
        answer: object = progress.run()
    except CredSSPError as error:
        answer = error
    return context.resume(answer)


def token_of(token: bytes) -> bytes:
    """Return the mechanism's token inside of one of SPNEGO, or a bare token as it is; empty where there is none.

    Raises:
        RemoteProtocolError: It is neither.
    """
    match spnego.token_kind(token):
        case TokenKind.SPNEGO_INIT:
            return NegTokenInit.decode(token).mech_token or b""
        case TokenKind.SPNEGO_RESP:
            return NegTokenResp.decode(token).response_token or b""
        case TokenKind.UNKNOWN:
            raise RemoteProtocolError("expected a token of ntlm, kerberos or spnego")
    return token


def at(message: bytes, offset: int, data: bytes) -> bytes:
    """Return a message with other bytes from an offset on."""
    return message[:offset] + data + message[offset + len(data) :]


def changed_cipher(token: bytes, number: int) -> bytes:
    """Return a token of Kerberos with another last byte of its encrypted part `number`, from 0."""
    cipher = _ciphers([decode(token, kind=Kind.TOKEN)])[number]
    where = cipher.offset + cipher.size - 1
    return at(token, where, bytes([token[where] ^ 1]))


def _ciphers(nodes: list[Node]) -> list[Node]:
    found: list[Node] = []
    for node in nodes:
        if node.secret is Secret.TICKET and node.name == "cipher":
            found.append(node)
        found += _ciphers(node.children)
    return found


def of_another_type(token: bytes, before: tuple[bytes, int], after: tuple[bytes, int]) -> bytes:
    """Return a token of Kerberos with another TOK_ID and the tag that belongs to it, such as `AP_REQ`."""
    return token.replace(before[0] + bytes([before[1]]), after[0] + bytes([after[1]]), 1)
