"""SPNEGO tokens between DER and values (RFC 4178 section 4.2, [MS-SPNG] 2.2).

    NegotiationToken ::= CHOICE { negTokenInit [0] NegTokenInit, negTokenResp [1] NegTokenResp }
    NegTokenInit     ::= SEQUENCE { mechTypes [0] SEQUENCE OF OBJECT IDENTIFIER, reqFlags [1] BIT STRING OPTIONAL,
                                    mechToken [2] OCTET STRING OPTIONAL, mechListMIC [3] OCTET STRING OPTIONAL, ... }
    NegTokenInit2    ::= as NegTokenInit, but negHints [3] SEQUENCE OPTIONAL, mechListMIC [4] OCTET STRING OPTIONAL
    NegTokenResp     ::= SEQUENCE { negState [0] ENUMERATED OPTIONAL, supportedMech [1] OBJECT IDENTIFIER OPTIONAL,
                                    responseToken [2] OCTET STRING OPTIONAL, mechListMIC [3] OCTET STRING OPTIONAL, ...}

An object identifier is kept as its DER element, tag and length included, since it is only compared and copied.
"""

import dataclasses
import enum
import functools
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
    "encode_resp",
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
_GSS_START: Final = bytes((_GSS_HEADER,))
_INIT: Final = der.CONTEXT
_RESP: Final = der.CONTEXT + 1
_INIT_FIELDS: Final = der.Nesting(_INIT, der.SEQUENCE)
_INIT_FIELDS_BEHIND_HEADER: Final = der.Nesting(_GSS_HEADER, SPNEGO, _INIT, der.SEQUENCE)
_RESP_FIELDS: Final = der.Nesting(_RESP, der.SEQUENCE)
_INIT_NAMES: Final = ("mechTypes", "reqFlags", "mechToken", "mechListMIC", "mechListMIC")
_RESP_NAMES: Final = ("negState", "supportedMech", "responseToken", "mechListMIC")
_MECH_TYPES: Final = der.Nesting(der.CONTEXT, der.SEQUENCE)
_SUPPORTED_MECH: Final = der.Nesting(der.CONTEXT + 1, der.OBJECT_IDENTIFIER)
_TOKEN: Final = der.OCTETS[2]
"""mechToken or responseToken."""
_MIC: Final = der.OCTETS[3]
_OIDS: Final = {oid[2:]: oid for oid in (NTLM, KERBEROS, KERBEROS_MICROSOFT, KERBEROS_USER_TO_USER, NEGOEX)}
"""The object identifiers that peers offer, by their content."""
_FIELD_0: Final = der.CONTEXT
_FIELD_1: Final = der.CONTEXT + 1
_FIELD_2: Final = der.CONTEXT + 2
_FIELD_3: Final = der.CONTEXT + 3
_FIELD_4: Final = der.CONTEXT + 4
_NO_FIELD: Final = 0
"""Stands for the tag where no field is left."""
_MAX_MECH_TYPES: Final = 32
"""How many mechanisms a list may hold. Windows 11 offers five."""
_OFFERS: Final = 8
"""How many of our own lists of mechanisms are kept encoded. A configuration has one."""


class TokenKind(enum.Enum):
    """The kind of a token, by its first bytes."""

    NTLM = enum.auto()
    SPNEGO_INIT = enum.auto()
    SPNEGO_RESP = enum.auto()
    KERBEROS = enum.auto()
    UNKNOWN = enum.auto()


def token_kind(token: bytes) -> TokenKind:
    """Which mechanism a token belongs to ([MS-CSSP] 2.2.1.1: SPNEGO, or NTLM or Kerberos without it)."""
    if token.startswith(b"NTLMSSP\0"):
        return TokenKind.NTLM
    first = token[0] if token else 0
    if first == _RESP:
        return TokenKind.SPNEGO_RESP
    if first == _INIT:
        # A NegTokenInit without its GSS header is not allowed as a first token, but is harmless.
        return TokenKind.SPNEGO_INIT
    if first == _GSS_HEADER and len(token) > 1:
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


_NEG_STATE_FIELDS: Final = tuple(bytes((der.CONTEXT, 3, der.ENUMERATED, 1, state)) for state in NegState)
"""The encoded field, by its state."""
_NEG_STATES: Final = dict(zip(_NEG_STATE_FIELDS, NegState, strict=True))
# Every logon needs these members, and `NegState.X` would look them up in the class each time.
_COMPLETED: Final = NegState.ACCEPT_COMPLETED
_INCOMPLETE: Final = NegState.ACCEPT_INCOMPLETE
_NEG_STATE_SIZE: Final = 5
"""Bytes of an encoded negState field."""


def encode_mech_list(mech_types: Sequence[OID]) -> bytes:
    """The DER of a MechTypeList, which a mechListMIC signs."""
    return der.encode(der.SEQUENCE, b"".join(mech_types))


# The tokens of a usual logon by NTLM, each as one nesting of elements, which is compared in one go.
_NTLM_LIST: Final = encode_mech_list([NTLM])
_NTLM_OFFER: Final = der.Nesting(
    _GSS_HEADER, SPNEGO, _INIT, der.SEQUENCE, der.encode(_FIELD_0, _NTLM_LIST), _FIELD_2, der.OCTET_STRING
)
_NTLM_CHOICE: Final = der.Nesting(
    _RESP,
    der.SEQUENCE,
    _NEG_STATE_FIELDS[_INCOMPLETE] + der.encode(_FIELD_1, NTLM),
    _FIELD_2,
    der.OCTET_STRING,
)
"""The acceptor's first token: it chooses NTLM, and holds the challenge."""
_LAST_MIC: Final = der.Nesting(_RESP, der.SEQUENCE, _NEG_STATE_FIELDS[_COMPLETED], _FIELD_3, der.OCTET_STRING)
"""The acceptor's last token: it holds a mechListMIC alone."""


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
        """Encode a token with its GSS header.

        Args:
            mech_list: The result of `encode_mech_list`.
            mech_token: The preferred mechanism's first token.
        """
        return _offer(mech_list).headers(len(mech_token)) + mech_token

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a token, with or without its GSS header. reqFlags and negHints are skipped.

        Raises:
            RemoteProtocolError: `data` is not a NegTokenInit, or has no mechTypes.
            LimitExceeded: mechTypes has more than 32 mechanisms.
        """
        if start := _NTLM_OFFER.begin(data):
            return cls((NTLM,), _NTLM_LIST, data[start:])
        end = len(data)
        token = _INIT_FIELDS_BEHIND_HEADER if data[:1] == _GSS_START else _INIT_FIELDS
        offset, stop = token.bounds(data, 0, end, "negTokenInit")
        if stop != end:
            der.expect_end(stop, end, "negTokenInit")
        if offset == end or data[offset] != _FIELD_0:
            raise RemoteProtocolError("negTokenInit: expected mechTypes")
        mech_types, mech_list, offset = _mech_types(data, offset, end)
        mech_token = mech_list_mic = None
        field = data[offset] if offset < end else _NO_FIELD
        if field == _FIELD_1:
            _, offset = der.explicit(data, offset, end, 1, der.BIT_STRING, "reqFlags")
            field = data[offset] if offset < end else _NO_FIELD
        if field == _FIELD_2:
            start, offset = _TOKEN.bounds(data, offset, end, "mechToken")
            mech_token = data[start:offset]
        if offset < end:
            mech_list_mic = _last_of_init(data, offset, end)
        return cls(mech_types, mech_list, mech_token, mech_list_mic)


@dataclasses.dataclass(slots=True)
class NegTokenResp:
    """Any token after the first one. None stands for an absent field."""

    neg_state: NegState | None = None
    supported_mech: OID | None = None
    response_token: bytes | None = dataclasses.field(default=None, repr=False)
    mech_list_mic: bytes | None = dataclasses.field(default=None, repr=False)

    def encode(self) -> bytes:
        """The token in DER."""
        return encode_resp(self.neg_state, self.supported_mech, self.response_token, self.mech_list_mic)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a token.

        Raises:
            RemoteProtocolError: `data` is not a NegTokenResp.
        """
        if start := _NTLM_CHOICE.begin(data):
            return cls(_INCOMPLETE, NTLM, data[start:])
        if start := _LAST_MIC.begin(data):
            return cls(_COMPLETED, None, None, data[start:])
        end = len(data)
        offset, stop = _RESP_FIELDS.bounds(data, 0, end, "negTokenResp")
        if stop != end:
            der.expect_end(stop, end, "negTokenResp")
        neg_state = supported_mech = response_token = mech_list_mic = None
        field = data[offset] if offset < end else _NO_FIELD
        if field == _FIELD_0:
            neg_state = _NEG_STATES.get(data[offset : offset + _NEG_STATE_SIZE])
            if neg_state is None:
                neg_state, offset = _neg_state(data, offset, end)
            else:
                offset += _NEG_STATE_SIZE
            field = data[offset] if offset < end else _NO_FIELD
        if field == _FIELD_1:
            start, offset = _SUPPORTED_MECH.bounds(data, offset, end, "supportedMech")
            content = data[start:offset]
            supported_mech = _OIDS.get(content) or der.encode(der.OBJECT_IDENTIFIER, content)
            field = data[offset] if offset < end else _NO_FIELD
        if field == _FIELD_2:
            start, offset = _TOKEN.bounds(data, offset, end, "responseToken")
            response_token = data[start:offset]
            field = data[offset] if offset < end else _NO_FIELD
        if field == _FIELD_3:
            start, offset = _MIC.bounds(data, offset, end, "mechListMIC")
            mech_list_mic = data[start:offset]
        if offset < end:
            der.pass_over(data, offset, end, _RESP_NAMES, "negTokenResp")
        return cls(neg_state, supported_mech, response_token, mech_list_mic)


def encode_resp(
    neg_state: NegState | None,
    supported_mech: OID | None = None,
    response_token: bytes | None = None,
    mech_list_mic: bytes | None = None,
) -> bytes:
    """The DER of a NegTokenResp with these fields, for which no object is made."""
    content = b"" if neg_state is None else _NEG_STATE_FIELDS[neg_state]
    if supported_mech is not None:
        content += der.encode(_FIELD_1, supported_mech)
    if response_token is not None:
        content += _TOKEN.headers(len(response_token)) + response_token
    if mech_list_mic is not None:
        content += _MIC.headers(len(mech_list_mic)) + mech_list_mic
    return _RESP_FIELDS.headers(len(content)) + content


@functools.lru_cache(_OFFERS)
def _offer(mech_list: bytes) -> der.Nesting:
    """The elements of a NegTokenInit with these mechTypes; their content is the mechToken."""
    mech_types = der.encode(_FIELD_0, mech_list)
    return der.Nesting(_GSS_HEADER, SPNEGO, _INIT, der.SEQUENCE, mech_types, _FIELD_2, der.OCTET_STRING)


def _mech_types(data: bytes, offset: int, end: int) -> tuple[tuple[OID, ...], bytes, int]:
    """The mechanisms, their list as received, and the offset where the field ends."""
    start, end = _MECH_TYPES.bounds(data, offset, end, "mechTypes")
    # The list begins behind the field's header, whose second byte is the length or counts the bytes of the length.
    mech_list = offset + 2 + (data[offset + 1] & 0x7F if data[offset + 1] > 0x7F else 0)
    mech_types: list[OID] = []
    while start < end:
        if len(mech_types) == _MAX_MECH_TYPES:
            raise LimitExceeded(f"mechTypes: expected at most {_MAX_MECH_TYPES} mechanisms")
        start, stop = der.element(data, start, end, der.OBJECT_IDENTIFIER, "mechTypes")
        content, start = data[start:stop], stop
        # The identifier is encoded again, so that one whose length is not minimal compares equal.
        mech_types.append(_OIDS.get(content) or der.encode(der.OBJECT_IDENTIFIER, content))
    if not mech_types:
        raise RemoteProtocolError("mechTypes: expected a mechanism, got an empty list")
    return tuple(mech_types), data[mech_list:end], end


def _last_of_init(data: bytes, offset: int, end: int) -> bytes | None:
    """The MIC behind the mechToken: [3] in RFC 4178, [4] behind the hints of NegTokenInit2."""
    mic, least = None, 3
    if data[offset] == _FIELD_3:
        least = 4
        start, stop = der.element(data, offset, end, _FIELD_3, "mechListMIC")
        if start < stop and data[start] == der.SEQUENCE:
            der.only(data, start, stop, der.SEQUENCE, "negHints")
            if stop < end and data[stop] == _FIELD_4:
                least = 5
                start, stop = der.OCTETS[4].bounds(data, stop, end, "mechListMIC")
                mic = data[start:stop]
        else:
            start, stop = _MIC.bounds(data, offset, end, "mechListMIC")
            mic = data[start:stop]
        offset = stop
    der.pass_over(data, offset, end, _INIT_NAMES, "negTokenInit", least)
    return mic


def _neg_state(data: bytes, offset: int, end: int) -> tuple[NegState, int]:
    """A negState that is not in DER, and the offset where its field ends."""
    start, stop = der.explicit(data, offset, end, 0, der.ENUMERATED, "negState")
    if stop - start != 1 or data[start] > NegState.REQUEST_MIC:
        raise RemoteProtocolError(f"negState: expected 0 to 3, got 0x{data[start:stop][:4].hex()}")
    return NegState(data[start]), stop
