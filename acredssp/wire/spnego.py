"""SPNEGO tokens between DER and values (RFC 4178 section 4.2, [MS-SPNG] 2.2).

    NegotiationToken ::= CHOICE { negTokenInit [0] NegTokenInit, negTokenResp [1] NegTokenResp }
    NegTokenInit     ::= SEQUENCE { mechTypes [0] SEQUENCE OF OBJECT IDENTIFIER, reqFlags [1] BIT STRING OPTIONAL,
                                    mechToken [2] OCTET STRING OPTIONAL, mechListMIC [3] OCTET STRING OPTIONAL, ... }
    NegTokenInit2    ::= as NegTokenInit, but negHints [3] SEQUENCE OPTIONAL, mechListMIC [4] OCTET STRING OPTIONAL
    NegTokenResp     ::= SEQUENCE { negState [0] ENUMERATED OPTIONAL, supportedMech [1] OBJECT IDENTIFIER OPTIONAL,
                                    responseToken [2] OCTET STRING OPTIONAL, mechListMIC [3] OCTET STRING OPTIONAL, ...}

An object identifier is kept as its DER element, tag and length included: it is only ever compared and copied.
"""

import dataclasses
import enum
from collections.abc import Sequence
from typing import Final, Self, TypeAlias

from acredssp.errors import LimitExceeded, RemoteProtocolError
from acredssp.wire import der

__all__ = [
    "KERBEROS",
    "KERBEROS_MICROSOFT",
    "KERBEROS_USER_TO_USER",
    "NEGOEX",
    "NTLM",
    "OID",
    "SPNEGO",
    "NegState",
    "NegTokenInit",
    "NegTokenResp",
    "TokenKind",
    "encode_mech_list",
    "token_kind",
]

OID: TypeAlias = bytes
"""An object identifier as its DER element."""

SPNEGO: Final[OID] = bytes.fromhex("06062b0601050502")
"""1.3.6.1.5.5.2"""
NTLM: Final[OID] = bytes.fromhex("060a2b06010401823702020a")
"""1.3.6.1.4.1.311.2.2.10"""
KERBEROS: Final[OID] = bytes.fromhex("06092a864886f712010202")
"""1.2.840.113554.1.2.2"""
KERBEROS_MICROSOFT: Final[OID] = bytes.fromhex("06092a864882f712010202")
"""1.2.840.48018.1.2.2: Windows 2000 cut an arc to 16 bits, and every Windows since offers both ([MS-SPNG] 3.1.5.2)."""
KERBEROS_USER_TO_USER: Final[OID] = bytes.fromhex("060a2a864886f71201020203")
"""1.2.840.113554.1.2.2.3"""
NEGOEX: Final[OID] = bytes.fromhex("060a2b06010401823702021e")
"""1.3.6.1.4.1.311.2.2.30"""

_GSS_HEADER: Final = 0x60
"""[APPLICATION 0], the InitialContextToken of RFC 2743 section 3.1."""
_INIT: Final = der.CONTEXT
_RESP: Final = der.CONTEXT + 1
_INIT_FIELDS: Final = der.Nesting(_INIT, der.SEQUENCE)
_RESP_FIELDS: Final = der.Nesting(_RESP, der.SEQUENCE)
_INIT_NAMES: Final = ("mechTypes", "reqFlags", "mechToken", "mechListMIC", "mechListMIC")
_RESP_NAMES: Final = ("negState", "supportedMech", "responseToken", "mechListMIC")
_MAX_MECH_TYPES: Final = 32
"""Windows 11 offers five."""


class TokenKind(enum.Enum):
    """What a token is, by its first bytes."""

    NTLM = enum.auto()
    SPNEGO_INIT = enum.auto()
    SPNEGO_RESP = enum.auto()
    KERBEROS = enum.auto()
    UNKNOWN = enum.auto()


def token_kind(token: bytes) -> TokenKind:
    """Which mechanism a token belongs to ([MS-CSSP] 2.2.1.1: SPNEGO, or NTLM or Kerberos without it)."""
    if token.startswith(b"NTLMSSP\0"):
        return TokenKind.NTLM
    if token[:1] == bytes((_RESP,)):
        return TokenKind.SPNEGO_RESP
    if token[:1] == bytes((_INIT,)):
        # A NegTokenInit that lacks its GSS header: not allowed as a first token, and harmless.
        return TokenKind.SPNEGO_INIT
    if token[:1] == bytes((_GSS_HEADER,)) and len(token) > 1:
        return _mechanism_kind(token)
    return TokenKind.UNKNOWN


def _mechanism_kind(token: bytes) -> TokenKind:
    """The kind by the object identifier behind the GSS header."""
    mech_type = 2 + (token[1] & 0x7F if token[1] > 0x7F else 0)
    if token.startswith(SPNEGO, mech_type):
        return TokenKind.SPNEGO_INIT
    return TokenKind.KERBEROS if token.startswith((KERBEROS, KERBEROS_MICROSOFT), mech_type) else TokenKind.UNKNOWN


class NegState(enum.IntEnum):
    """negState (RFC 4178 section 4.2.2)."""

    ACCEPT_COMPLETED = 0
    ACCEPT_INCOMPLETE = 1
    REJECT = 2
    REQUEST_MIC = 3


_NEG_STATES: Final = tuple(NegState)


def encode_mech_list(mech_types: Sequence[OID]) -> bytes:
    """The DER of a MechTypeList: what a mechListMIC signs."""
    return der.encode(der.SEQUENCE, b"".join(mech_types))


@dataclasses.dataclass(slots=True)
class NegTokenInit:
    """The initiator's first token (or an acceptor's NegTokenInit2, whose hints are dropped)."""

    mech_types: tuple[OID, ...]
    """Most preferred first."""
    mech_list: bytes
    """mechTypes as received, its tag and length included: a mechListMIC covers these bytes."""
    mech_token: bytes | None = dataclasses.field(default=None, repr=False)
    mech_list_mic: bytes | None = dataclasses.field(default=None, repr=False)

    @staticmethod
    def encode(mech_list: bytes, mech_token: bytes) -> bytes:
        """A token with its GSS header, from `encode_mech_list` and the preferred mechanism's first token."""
        content = der.encode(der.CONTEXT, mech_list) + der.encode_octets(2, mech_token)
        return der.encode(_GSS_HEADER, SPNEGO + _INIT_FIELDS.encode(content))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a token, with or without its GSS header. reqFlags and negHints are passed over.

        Raises:
            RemoteProtocolError: No NegTokenInit, or one without mechTypes.
            LimitExceeded: More than 32 mechanisms.
        """
        offset, end = 0, len(data)
        if data[:1] == bytes((_GSS_HEADER,)):
            offset, end = der.only(data, 0, end, _GSS_HEADER, "negTokenInit")
            if not data.startswith(SPNEGO, offset):
                raise RemoteProtocolError("negTokenInit: expected the object identifier of spnego")
            offset += len(SPNEGO)
        offset, end = _INIT_FIELDS.bounds(data, offset, end, "negTokenInit")
        fields = der.fields(data, offset, end, _INIT_NAMES, "negTokenInit")
        if 0 not in fields:
            raise RemoteProtocolError("negTokenInit: expected mechTypes")
        # [3] is the MIC of RFC 4178 or the hints of NegTokenInit2, and their types differ.
        mic = 4 if 3 in fields and fields[3][0] == der.SEQUENCE else 3
        return cls(
            _mech_types(data, fields[0]),
            data[fields[0][1] : fields[0][3]],
            _octets(data, fields.get(2), "mechToken"),
            _octets(data, fields.get(mic), "mechListMIC"),
        )


@dataclasses.dataclass(slots=True)
class NegTokenResp:
    """Every token after the first. None is an absent field."""

    neg_state: NegState | None = None
    supported_mech: OID | None = None
    response_token: bytes | None = dataclasses.field(default=None, repr=False)
    mech_list_mic: bytes | None = dataclasses.field(default=None, repr=False)

    def encode(self) -> bytes:
        """The token in DER."""
        parts = []
        if self.neg_state is not None:
            parts.append(bytes((der.CONTEXT, 3, der.ENUMERATED, 1, self.neg_state)))
        if self.supported_mech is not None:
            parts.append(der.encode(der.CONTEXT + 1, self.supported_mech))
        if self.response_token is not None:
            parts.append(der.encode_octets(2, self.response_token))
        if self.mech_list_mic is not None:
            parts.append(der.encode_octets(3, self.mech_list_mic))
        return _RESP_FIELDS.encode(b"".join(parts))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a token.

        Raises:
            RemoteProtocolError: No NegTokenResp.
        """
        offset, end = _RESP_FIELDS.bounds(data, 0, len(data), "negTokenResp")
        fields = der.fields(data, offset, end, _RESP_NAMES, "negTokenResp")
        return cls(
            _neg_state(data, fields.get(0)),
            _supported_mech(data, fields.get(1)),
            _octets(data, fields.get(2), "responseToken"),
            _octets(data, fields.get(3), "mechListMIC"),
        )


def _octets(data: bytes, field: der.Field | None, name: str) -> bytes | None:
    return None if field is None else der.octets_of(data, field, name)


def _mech_types(data: bytes, field: der.Field) -> tuple[OID, ...]:
    offset, end = der.content_of(field, der.SEQUENCE, "mechTypes")
    mech_types: list[OID] = []
    while offset < end:
        if len(mech_types) == _MAX_MECH_TYPES:
            raise LimitExceeded(f"mechTypes: expected at most {_MAX_MECH_TYPES} mechanisms")
        start, offset = der.element(data, offset, end, der.OBJECT_IDENTIFIER, "mechTypes")
        # Encoded again, so that a length which is not minimal compares equal.
        mech_types.append(der.encode(der.OBJECT_IDENTIFIER, data[start:offset]))
    if not mech_types:
        raise RemoteProtocolError("mechTypes: expected a mechanism, got an empty list")
    return tuple(mech_types)


def _neg_state(data: bytes, field: der.Field | None) -> NegState | None:
    if field is None:
        return None
    start, stop = der.content_of(field, der.ENUMERATED, "negState")
    if stop - start != 1 or data[start] > NegState.REQUEST_MIC:
        raise RemoteProtocolError(f"negState: expected 0 to 3, got 0x{data[start:stop][:4].hex()}")
    return _NEG_STATES[data[start]]


def _supported_mech(data: bytes, field: der.Field | None) -> OID | None:
    if field is None:
        return None
    start, stop = der.content_of(field, der.OBJECT_IDENTIFIER, "supportedMech")
    return der.encode(der.OBJECT_IDENTIFIER, data[start:stop])
