"""The three NTLM messages and their AV pairs: bytes to values and back ([MS-NLMP] 2.2).

Every field descriptor is bounds-checked before it is followed. The received bytes are kept beside the values,
because proofs and MICs are made over what was received, never over what was understood. The values are not frozen,
which would treble the price of making one; nobody changes them.
"""

import codecs
import dataclasses
import enum
import struct
import time
from collections.abc import Mapping
from typing import Final, Self, TypeAlias

from acredssp.errors import LimitExceeded, RemoteProtocolError

__all__ = [
    "SIGNATURE",
    "VERSION",
    "AuthenticateMessage",
    "AvFlags",
    "AvId",
    "AvPairs",
    "ChallengeMessage",
    "Flags",
    "NTLMv2Response",
    "NegotiateMessage",
    "decode_av_pairs",
    "decode_text",
    "encode_av_pairs",
    "filetime_now",
    "with_mic",
]

SIGNATURE: Final = b"NTLMSSP\0"
VERSION: Final = bytes.fromhex("0a00f44f0000000f")
"""10.0.20348, NTLM revision 15. For diagnosis only ([MS-NLMP] 2.2.2.10); peers expect a Windows version here."""

MIC_OFFSET: Final = 72
MIC_END: Final = 88
_MAX_NAME: Final = 2048
"""Bytes of a user, domain or workstation name: the longest user principal name has 1024 characters."""
_MAX_AV_PAIRS: Final = 64
"""[MS-NLMP] 2.2.2.1 defines 11; without a bound 64 KiB of empty pairs would cost milliseconds."""

_FIELD = struct.Struct("<HHI")
_AV_HEADER = struct.Struct("<HH")
_CHALLENGE_HEADER = struct.Struct("<8sIHHII8s8xHHI")
_AUTHENTICATE_HEADER = struct.Struct("<8sIHHIHHIHHIHHIHHIHHII")
_RESPONSE_HEADER = struct.Struct("<BB6xQ8s4x")

AvPairs: TypeAlias = dict[int, bytes]
"""AV pairs by id, in the order of the message, MsvAvEOL left out."""


class Flags(enum.IntEnum):
    """The NegotiateFlags this package speaks of ([MS-NLMP] 2.2.2.5); plain integers when combined, for speed."""

    UNICODE = 0x00000001
    OEM = 0x00000002
    REQUEST_TARGET = 0x00000004
    SIGN = 0x00000010
    SEAL = 0x00000020
    NTLM = 0x00000200
    ANONYMOUS = 0x00000800
    ALWAYS_SIGN = 0x00008000
    TARGET_TYPE_DOMAIN = 0x00010000
    TARGET_TYPE_SERVER = 0x00020000
    EXTENDED_SESSIONSECURITY = 0x00080000
    TARGET_INFO = 0x00800000
    VERSION = 0x02000000
    KEY_128 = 0x20000000
    KEY_EXCH = 0x40000000
    KEY_56 = 0x80000000


class AvId(enum.IntEnum):
    """AvId ([MS-NLMP] 2.2.2.1)."""

    EOL = 0
    NB_COMPUTER_NAME = 1
    NB_DOMAIN_NAME = 2
    DNS_COMPUTER_NAME = 3
    DNS_DOMAIN_NAME = 4
    DNS_TREE_NAME = 5
    FLAGS = 6
    TIMESTAMP = 7
    SINGLE_HOST = 8
    TARGET_NAME = 9
    CHANNEL_BINDINGS = 10


class AvFlags(enum.IntFlag):
    """The bits of MsvAvFlags."""

    CONSTRAINED = 1
    MIC_PRESENT = 2
    UNTRUSTED_SPN = 4


def filetime_now() -> int:
    """The time as FILETIME: 100 ns units since 1601-01-01 UTC ([MS-DTYP] 2.3.3)."""
    return time.time_ns() // 100 + 116_444_736_000_000_000


def decode_text(data: bytes, field: str) -> str:
    """UTF-16LE text of the peer.

    Raises:
        RemoteProtocolError: An odd length, or an unpaired surrogate.
    """
    try:
        return codecs.utf_16_le_decode(data, "strict", True)[0]
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"{field}: expected utf-16, got {error.reason}") from None


def decode_av_pairs(data: bytes, field: str) -> AvPairs:
    """The AV pairs up to MsvAvEOL; of an id that comes twice, the first. What follows MsvAvEOL is left alone.

    Raises:
        RemoteProtocolError: No MsvAvEOL, or a pair reaches past the end.
        LimitExceeded: More than 64 pairs.
    """
    pairs: AvPairs = {}
    offset, end = 0, len(data)
    for _ in range(_MAX_AV_PAIRS):
        if offset + 4 > end:
            raise RemoteProtocolError(f"{field}: expected an av pair at byte {offset}, got {end - offset} bytes")
        av_id, length = _AV_HEADER.unpack_from(data, offset)
        offset += 4
        if av_id == 0:
            return pairs
        if offset + length > end:
            raise RemoteProtocolError(f"{field}: av pair {av_id} has {length} bytes, {end - offset} are left")
        pairs.setdefault(av_id, data[offset : offset + length])
        offset += length
    raise LimitExceeded(f"{field}: expected at most {_MAX_AV_PAIRS} av pairs")


def encode_av_pairs(pairs: Mapping[int, bytes]) -> bytes:
    """AV pairs in the order given, closed by MsvAvEOL."""
    return b"".join(_AV_HEADER.pack(av_id, len(value)) + value for av_id, value in pairs.items()) + bytes(4)


def _check_header(data: bytes, message_type: int, shortest: int) -> None:
    """Refuse what is not the NTLM message of this type, or shorter than its fixed part."""
    if data[:8] != SIGNATURE:
        raise RemoteProtocolError("expected an ntlm message, got another token")
    if len(data) >= 12 and data[8:12] != bytes((message_type, 0, 0, 0)):
        got = int.from_bytes(data[8:12], "little")
        raise RemoteProtocolError(f"ntlm message: expected type {message_type}, got {got}")
    if len(data) < shortest:
        raise RemoteProtocolError(f"ntlm message: expected at least {shortest} bytes, got {len(data)}")


def _payload(data: bytes, length: int, offset: int, header: int, field: str) -> bytes:
    """What a field descriptor points at; an empty field may point anywhere."""
    if not length:
        return b""
    if offset < header or offset + length > len(data):
        raise RemoteProtocolError(
            f"{field}: {length} bytes at offset {offset} are not within the payload, bytes {header} to {len(data)}"
        )
    return data[offset : offset + length]


def _version(flags: int) -> bytes:
    """The Version field: zeros unless negotiated ([MS-NLMP] 2.2.2.5, flag T)."""
    return VERSION if flags & 0x02000000 else bytes(8)


def _name(data: bytes, length: int, offset: int, header: int, field: str) -> bytes:
    if length > _MAX_NAME:
        raise LimitExceeded(f"{field}: expected at most {_MAX_NAME} bytes, got {length}")
    return _payload(data, length, offset, header, field)


@dataclasses.dataclass(slots=True)
class NegotiateMessage:
    """NEGOTIATE_MESSAGE ([MS-NLMP] 2.2.1.1).

    Its names are OEM text that nothing uses and nobody proves: they are not read.
    """

    flags: int
    raw: bytes = dataclasses.field(repr=False)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a message of any length from 16 bytes on: impacket leaves the Version out, others the names too.

        Raises:
            RemoteProtocolError: No NEGOTIATE_MESSAGE.
        """
        _check_header(data, 1, 16)
        return cls(int.from_bytes(data[12:16], "little"), data)

    @staticmethod
    def encode(flags: int) -> bytes:
        """A message without names, 40 bytes."""
        return SIGNATURE + struct.pack("<II", 1, flags) + bytes(16) + _version(flags)


@dataclasses.dataclass(slots=True)
class ChallengeMessage:
    """CHALLENGE_MESSAGE ([MS-NLMP] 2.2.1.2)."""

    flags: int
    server_challenge: bytes
    """8 bytes."""
    target_name: bytes
    """UTF-16LE."""
    target_info: bytes
    """AV pairs as they stand on the wire."""
    raw: bytes = dataclasses.field(repr=False)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a message of at least 48 bytes (the Version may be missing).

        Raises:
            RemoteProtocolError: No CHALLENGE_MESSAGE, or a field lies outside of it.
        """
        _check_header(data, 2, 48)
        _, _, name_len, _, name_at, flags, challenge, info_len, _, info_at = _CHALLENGE_HEADER.unpack_from(data)
        name = _payload(data, name_len, name_at, 48, "challenge target name")
        info = _payload(data, info_len, info_at, 48, "challenge target info")
        return cls(flags, challenge, name, info, data)

    @staticmethod
    def encode(flags: int, server_challenge: bytes, target_name: bytes, target_info: bytes) -> bytes:
        """A message with Version and both payload fields."""
        name_len, info_len = len(target_name), len(target_info)
        header = _CHALLENGE_HEADER.pack(
            SIGNATURE, 2, name_len, name_len, 56, flags, server_challenge, info_len, info_len, 56 + name_len
        )
        return header + _version(flags) + target_name + target_info


@dataclasses.dataclass(slots=True)
class AuthenticateMessage:
    """AUTHENTICATE_MESSAGE ([MS-NLMP] 2.2.1.3). Text is UTF-16LE as it stands on the wire."""

    flags: int
    domain: bytes
    user: bytes
    workstation: bytes
    lm_response: bytes = dataclasses.field(repr=False)
    nt_response: bytes = dataclasses.field(repr=False)
    encrypted_session_key: bytes = dataclasses.field(repr=False)
    """EncryptedRandomSessionKey; empty without KEY_EXCH."""
    payload_offset: int
    """Where the first field that is not empty begins: a MIC has room only below it."""
    raw: bytes = dataclasses.field(repr=False)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a message of at least 64 bytes (Version and MIC may be missing).

        Raises:
            RemoteProtocolError: No AUTHENTICATE_MESSAGE, or a field lies outside of it.
            LimitExceeded: A name of more than 2048 bytes.
        """
        _check_header(data, 3, 64)
        (
            _, _,
            lm_len, _, lm_at, nt_len, _, nt_at, domain_len, _, domain_at,
            user_len, _, user_at, station_len, _, station_at, key_len, _, key_at, flags,
        ) = _AUTHENTICATE_HEADER.unpack_from(data)  # fmt: skip
        fields = ((lm_len, lm_at), (nt_len, nt_at), (domain_len, domain_at), (user_len, user_at),
                  (station_len, station_at), (key_len, key_at))  # fmt: skip
        return cls(
            flags=flags,
            domain=_name(data, domain_len, domain_at, 64, "authenticate domain name"),
            user=_name(data, user_len, user_at, 64, "authenticate user name"),
            workstation=_name(data, station_len, station_at, 64, "authenticate workstation name"),
            lm_response=_payload(data, lm_len, lm_at, 64, "authenticate lm response"),
            nt_response=_payload(data, nt_len, nt_at, 64, "authenticate nt response"),
            encrypted_session_key=_payload(data, key_len, key_at, 64, "authenticate session key"),
            payload_offset=min((at for length, at in fields if length), default=len(data)),
            raw=data,
        )

    @staticmethod
    def encode(  # noqa: PLR0913 -- the fields of the message, all named
        flags: int,
        *,
        domain: bytes,
        user: bytes,
        workstation: bytes,
        lm_response: bytes,
        nt_response: bytes,
        encrypted_session_key: bytes,
    ) -> bytes:
        """A message with Version and a MIC of zeros; `with_mic` puts the real one in."""
        payload = (domain, user, workstation, lm_response, nt_response, encrypted_session_key)
        offsets, offset = [], MIC_END
        for value in payload:
            offsets.append(_FIELD.pack(len(value), len(value), offset))
            offset += len(value)
        domain_at, user_at, station_at, lm_at, nt_at, key_at = offsets
        header = SIGNATURE + b"\3\0\0\0" + lm_at + nt_at + domain_at + user_at + station_at + key_at
        return b"".join((header, flags.to_bytes(4, "little"), _version(flags), bytes(16), *payload))

    @property
    def mic(self) -> bytes:
        """The 16 bytes where a MIC stands, if the client announced one (MsvAvFlags).

        Raises:
            RemoteProtocolError: The payload begins before byte 88: there is no room for a MIC.
        """
        if self.payload_offset < MIC_END or len(self.raw) < MIC_END:
            raise RemoteProtocolError(
                f"authenticate message: announces a mic, but its payload begins at byte {self.payload_offset}"
            )
        return self.raw[MIC_OFFSET:MIC_END]


def with_mic(message: bytes, mic: bytes) -> bytes:
    """An AUTHENTICATE_MESSAGE with these 16 bytes as its MIC."""
    return message[:MIC_OFFSET] + mic + message[MIC_END:]


@dataclasses.dataclass(slots=True)
class NTLMv2Response:
    """NTLMv2_RESPONSE ([MS-NLMP] 2.2.2.8): the proof, and the client's challenge structure it was made over."""

    proof: bytes = dataclasses.field(repr=False)
    """NTProofStr, 16 bytes."""
    temp: bytes = dataclasses.field(repr=False)
    """NTLMv2_CLIENT_CHALLENGE as received, to the end of the field: FreeRDP ends it with 12 zero bytes, impacket
    with none, Windows with 4, and the proof covers them."""
    av_pairs: AvPairs = dataclasses.field(repr=False)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read an NtChallengeResponse of more than 24 bytes.

        Raises:
            RemoteProtocolError: No NTLMv2_RESPONSE, or its AV pairs do not end.
        """
        if len(data) < 48 or data[16:18] != b"\1\1":
            raise RemoteProtocolError(f"authenticate nt response: {len(data)} bytes are no ntlmv2 response")
        temp = data[16:]
        return cls(data[:16], temp, decode_av_pairs(temp[28:], "authenticate nt response"))

    @staticmethod
    def encode_temp(timestamp: int, client_challenge: bytes, av_pairs: bytes) -> bytes:
        """The structure that the proof is made over ([MS-NLMP] 3.3.2 `temp`), closed by four zero bytes."""
        return _RESPONSE_HEADER.pack(1, 1, timestamp, client_challenge) + av_pairs + bytes(4)

    @property
    def mic_announced(self) -> bool:
        """Whether MsvAvFlags says that the message has a MIC."""
        return bool(int.from_bytes(self.av_pairs.get(AvId.FLAGS, b"")[:4], "little") & AvFlags.MIC_PRESENT)
