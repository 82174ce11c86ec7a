"""The three NTLM messages and their AV pairs, from bytes to values and back ([MS-NLMP] 2.2).

The bounds of every field descriptor are checked before it is followed. The received bytes are kept beside the values,
because proofs and MICs cover the bytes as received, never bytes that are encoded again. The values are not frozen,
because freezing would treble the cost of making one; treat them as values.
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
    "encode_av_pair",
    "encode_av_pairs",
    "filetime_now",
    "with_mic",
]

SIGNATURE: Final = b"NTLMSSP\0"
_NEGOTIATE: Final = SIGNATURE + b"\1\0\0\0"
_CHALLENGE: Final = SIGNATURE + b"\2\0\0\0"
_AUTHENTICATE: Final = SIGNATURE + b"\3\0\0\0"
VERSION: Final = bytes.fromhex("0a007c4f0000000f")
"""10.0.20348, NTLM revision 15. It is for diagnosis only ([MS-NLMP] 2.2.2.10), but peers expect a Windows version."""

MIC_OFFSET: Final = 72
MIC_END: Final = 88
_MAX_NAME: Final = 2048
"""The most bytes of a user, domain or workstation name: the longest user principal name has 1024 characters."""
_AUTHENTICATE_FIELDS: Final = (
    "lm response", "nt response", "domain name", "user name", "workstation name", "session key",
)  # fmt: skip
_MAX_AV_PAIRS: Final = 64
"""[MS-NLMP] 2.2.2.1 defines 11 AV pairs. Without a bound 64 KiB of empty pairs would cost milliseconds."""

# A field has two lengths. The second (MaxLen) is ignored on receipt ([MS-NLMP] 2.2.1), and repeats the first when sent.
_unpack_negotiate = struct.Struct("<12xI").unpack_from
_pack_negotiate = struct.Struct("<12sI16x8s").pack
_unpack_challenge = struct.Struct("<12xH2xII8s8xH2xI").unpack_from
_pack_challenge = struct.Struct("<12sHHII8s8xHHI8s").pack
_unpack_authenticate = struct.Struct("<12xH2xIH2xIH2xIH2xIH2xIH2xII").unpack_from
_pack_authenticate = struct.Struct("<12sHHIHHIHHIHHIHHIHHII8s16x").pack
_unpack_av_header = struct.Struct("<HH").unpack_from
_pack_av_header = struct.Struct("<HH").pack
_ZEROS: Final = bytes(4)
_RESPONSE_VERSION: Final = b"\1\1\0\0\0\0\0\0"
"""RespType and HiRespType, the version of an NTLMv2_CLIENT_CHALLENGE, then Reserved1 and Reserved2."""

AvPairs: TypeAlias = dict[int, bytes]
"""AV pairs by id, in the order of the message, without MsvAvEOL."""


class Flags(enum.IntEnum):
    """The NegotiateFlags that this package uses ([MS-NLMP] 2.2.2.5). Combined flags are plain integers, for speed."""

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
    """The ids of AV pairs ([MS-NLMP] 2.2.2.1)."""

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


# Every logon needs these members as plain numbers: to look one up in its class takes a thousand instructions.
_SPEAKS_OF_VERSION: Final = int(Flags.VERSION)
_AV_FLAGS: Final = int(AvId.FLAGS)
_MIC_PRESENT: Final = int(AvFlags.MIC_PRESENT)


def filetime_now() -> int:
    """The time as FILETIME: 100 ns units since 1601-01-01 UTC ([MS-DTYP] 2.3.3)."""
    return time.time_ns() // 100 + 116_444_736_000_000_000


def decode_text(data: bytes, field: str) -> str:
    """Decode UTF-16LE text of the peer.

    Raises:
        RemoteProtocolError: The text has an odd length or an unpaired surrogate.
    """
    try:
        return codecs.utf_16_le_decode(data, "strict", True)[0]
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"{field}: expected utf-16, got {error.reason}") from None


def decode_av_pairs(data: bytes, field: str, offset: int = 0, *, whole: bool = False) -> AvPairs:
    """The AV pairs up to MsvAvEOL. Of pairs with the same id the first counts. Bytes behind MsvAvEOL are ignored.

    Args:
        data: The bytes that hold the pairs.
        field: The name of the field in error texts.
        offset: Where the pairs begin.
        whole: Whether to keep the header of each pair in front of its value, as on the wire.

    Raises:
        RemoteProtocolError: MsvAvEOL is missing, or a pair reaches past the end.
        LimitExceeded: There are more than 64 pairs.
    """
    pairs: AvPairs = {}
    skip = 0 if whole else 4
    last = len(data) - 4
    """The last offset at which a header can begin."""
    if offset > last:
        raise RemoteProtocolError(f"{field}: expected av pairs, got {len(data) - offset} bytes")
    for _ in range(_MAX_AV_PAIRS):
        av_id, length = _unpack_av_header(data, offset)
        if not av_id:
            return pairs
        begin = offset + skip
        offset += 4 + length
        if offset > last:
            raise _unending(data, offset - length, av_id, length, field)
        if av_id not in pairs:
            pairs[av_id] = data[begin:offset]
    raise LimitExceeded(f"{field}: expected at most {_MAX_AV_PAIRS} av pairs")


def _unending(data: bytes, offset: int, av_id: int, length: int, field: str) -> RemoteProtocolError:
    """The error for a pair whose value at `offset` leaves no room for the header of MsvAvEOL."""
    left = len(data) - offset
    if length > left:
        return RemoteProtocolError(f"{field}: expected {length} bytes of av pair {av_id}, got {left}")
    return RemoteProtocolError(f"{field}: expected an av pair at byte {offset + length}, got {left - length} bytes")


def encode_av_pair(av_id: int, value: bytes) -> bytes:
    """One AV pair."""
    return _pack_av_header(av_id, len(value)) + value


def encode_av_pairs(pairs: Mapping[int, bytes]) -> bytes:
    """AV pairs in the given order, with MsvAvEOL behind them."""
    return b"".join([encode_av_pair(av_id, value) for av_id, value in pairs.items()]) + bytes(4)


def _not_the_message(data: bytes, message_type: int, shortest: int) -> RemoteProtocolError:
    """The error for bytes that are not the NTLM message of this type, or that are shorter than its fixed part."""
    if data[:8] != SIGNATURE:
        return RemoteProtocolError("expected an ntlm message, got another token")
    got = int.from_bytes(data[8:12], "little")
    if len(data) >= 12 and got != message_type:
        return RemoteProtocolError(f"ntlm message: expected type {message_type}, got {got}")
    return RemoteProtocolError(f"ntlm message: expected at least {shortest} bytes, got {len(data)}")


def _check_field(data: bytes, length: int, offset: int, header: int, field: str) -> None:
    """Refuse a field descriptor that points outside the payload. An empty field may point anywhere."""
    if length and (offset < header or offset + length > len(data)):
        raise RemoteProtocolError(
            f"{field}: expected a field within bytes {header} to {len(data)}, got {length} bytes at offset {offset}"
        )


@dataclasses.dataclass(slots=True)
class NegotiateMessage:
    """NEGOTIATE_MESSAGE ([MS-NLMP] 2.2.1.1).

    Its names are not read: they are OEM text that nothing proves and nothing here uses.
    """

    flags: int
    raw: bytes = dataclasses.field(repr=False)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a message of 16 bytes or more: impacket leaves the Version out, and others leave the names out too.

        Raises:
            RemoteProtocolError: `data` is not a NEGOTIATE_MESSAGE.
        """
        if len(data) < 16 or data[:12] != _NEGOTIATE:
            raise _not_the_message(data, 1, 16)
        (flags,) = _unpack_negotiate(data)
        return cls(flags, data)

    @staticmethod
    def encode(flags: int) -> bytes:
        """A message without names, 40 bytes."""
        return _pack_negotiate(_NEGOTIATE, flags, VERSION if flags & _SPEAKS_OF_VERSION else b"")


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
            RemoteProtocolError: `data` is not a CHALLENGE_MESSAGE, or a field lies outside of it.
        """
        size = len(data)
        if size < 48 or data[:12] != _CHALLENGE:
            raise _not_the_message(data, 2, 48)
        name_len, name_at, flags, challenge, info_len, info_at = _unpack_challenge(data)
        name_end, info_end = name_at + name_len, info_at + info_len
        if name_at < 48 or info_at < 48 or name_end > size or info_end > size:
            _check_field(data, name_len, name_at, 48, "challenge target name")
            _check_field(data, info_len, info_at, 48, "challenge target info")
        return cls(flags, challenge, data[name_at:name_end], data[info_at:info_end], data)

    @staticmethod
    def encode(flags: int, server_challenge: bytes, target_name: bytes, target_info: bytes) -> bytes:
        """A message with Version and both payload fields."""
        name_len, info_len = len(target_name), len(target_info)
        header = _pack_challenge(
            _CHALLENGE, name_len, name_len, 56, flags, server_challenge, info_len, info_len, 56 + name_len,
            VERSION if flags & _SPEAKS_OF_VERSION else b"",
        )  # fmt: skip
        return header + target_name + target_info


@dataclasses.dataclass(slots=True)
class AuthenticateMessage:
    """AUTHENTICATE_MESSAGE ([MS-NLMP] 2.2.1.3). Text is kept as UTF-16LE, as on the wire."""

    flags: int
    domain: bytes
    user: bytes
    workstation: bytes
    lm_response: bytes = dataclasses.field(repr=False)
    nt_response: bytes = dataclasses.field(repr=False)
    encrypted_session_key: bytes = dataclasses.field(repr=False)
    """EncryptedRandomSessionKey; empty without KEY_EXCH."""
    payload_offset: int
    """Where the first field that is not empty begins, if that is below byte 88, else 88: a MIC has room only there."""
    raw: bytes = dataclasses.field(repr=False)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a message of at least 64 bytes (Version and MIC may be missing).

        Raises:
            RemoteProtocolError: `data` is not an AUTHENTICATE_MESSAGE, or a field lies outside of it.
            LimitExceeded: A name has more than 2048 bytes.
        """
        size = len(data)
        if size < 64 or data[:12] != _AUTHENTICATE:
            raise _not_the_message(data, 3, 64)
        fields = _unpack_authenticate(data)
        (
            lm_len, lm_at, nt_len, nt_at, domain_len, domain_at,
            user_len, user_at, station_len, station_at, key_len, key_at, flags,
        ) = fields  # fmt: skip
        lm_end, nt_end, domain_end = lm_at + lm_len, nt_at + nt_len, domain_at + domain_len
        user_end, station_end, key_end = user_at + user_len, station_at + station_len, key_at + key_len
        if domain_len > _MAX_NAME or user_len > _MAX_NAME or station_len > _MAX_NAME:
            raise LimitExceeded(
                f"authenticate domain, user, workstation name: expected at most {_MAX_NAME} bytes each, "
                f"got {domain_len}, {user_len}, {station_len}"
            )
        payload_offset = MIC_END
        # In the usual case all fields lie behind a MIC, which one test shows. Any other message is checked by field.
        if (
            lm_at < MIC_END or nt_at < MIC_END or domain_at < MIC_END
            or user_at < MIC_END or station_at < MIC_END or key_at < MIC_END
            or lm_end > size or nt_end > size or domain_end > size
            or user_end > size or station_end > size or key_end > size
        ):  # fmt: skip
            payload_offset = _check_fields(data, fields)
        return cls(
            flags,
            data[domain_at:domain_end],
            data[user_at:user_end],
            data[station_at:station_end],
            data[lm_at:lm_end],
            data[nt_at:nt_end],
            data[key_at:key_end],
            payload_offset,
            data,
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
        """A message with Version and a MIC of zeros, which `with_mic` replaces by the real one."""
        domain_len, user_len, station_len = len(domain), len(user), len(workstation)
        lm_len, nt_len, key_len = len(lm_response), len(nt_response), len(encrypted_session_key)
        user_at = MIC_END + domain_len
        station_at = user_at + user_len
        lm_at = station_at + station_len
        nt_at = lm_at + lm_len
        header = _pack_authenticate(
            _AUTHENTICATE, lm_len, lm_len, lm_at, nt_len, nt_len, nt_at, domain_len, domain_len, MIC_END,
            user_len, user_len, user_at, station_len, station_len, station_at, key_len, key_len, nt_at + nt_len,
            flags, VERSION if flags & _SPEAKS_OF_VERSION else b"",
        )  # fmt: skip
        return b"".join((header, domain, user, workstation, lm_response, nt_response, encrypted_session_key))

    @property
    def mic(self) -> bytes:
        """The 16 bytes of the MIC. Only a message whose MsvAvFlags announce a MIC has one.

        Raises:
            RemoteProtocolError: The payload begins before byte 88, so there is no room for a MIC.
        """
        if self.payload_offset < MIC_END or len(self.raw) < MIC_END:
            raise RemoteProtocolError(
                f"authenticate message: announces a mic, but its payload begins at byte {self.payload_offset}"
            )
        return self.raw[MIC_OFFSET:MIC_END]


def _check_fields(data: bytes, fields: tuple[int, ...]) -> int:
    """Refuse an AUTHENTICATE_MESSAGE with a field outside of it; return where the payload begins, at most 88.

    Args:
        data: The message.
        fields: Length and offset of each of the six, in the order of the header, then the flags.
    """
    lengths, offsets = fields[:12:2], fields[1::2]
    for length, offset, field in zip(lengths, offsets, _AUTHENTICATE_FIELDS, strict=True):
        _check_field(data, length, offset, 64, f"authenticate {field}")
    return min([MIC_END, *(offset for length, offset in zip(lengths, offsets, strict=True) if length)])


def with_mic(message: bytes, mic: bytes) -> bytes:
    """The AUTHENTICATE_MESSAGE with these 16 bytes as its MIC."""
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
    def decode(cls, data: bytes, names: bytes = b"") -> Self:
        """Read an NtChallengeResponse of more than 24 bytes.

        Args:
            data: The response.
            names: The AV pairs that the challenge began with. Most clients give them back at the same place, where they
                are left out of `av_pairs`.

        Raises:
            RemoteProtocolError: `data` is not an NTLMv2_RESPONSE, or MsvAvEOL is missing.
        """
        if len(data) < 48 or data[16:18] != b"\1\1":
            raise RemoteProtocolError(
                f"authenticate nt response: expected an ntlmv2 response, got {len(data)} other bytes"
            )
        offset = 44 + len(names) if data.startswith(names, 44) else 44
        return cls(data[:16], data[16:], decode_av_pairs(data, "authenticate nt response", offset))

    @staticmethod
    def encode_temp(timestamp: bytes, client_challenge: bytes, av_pairs: bytes) -> bytes:
        """The structure that the proof covers ([MS-NLMP] 3.3.2 `temp`), with four zero bytes at its end.

        Args:
            timestamp: A FILETIME as in an AV pair, 8 bytes.
            client_challenge: 8 bytes.
            av_pairs: The encoded AV pairs, MsvAvEOL included.
        """
        return b"".join((_RESPONSE_VERSION, timestamp, client_challenge, _ZEROS, av_pairs, _ZEROS))

    @property
    def mic_announced(self) -> bool:
        """Whether MsvAvFlags says that the message has a MIC."""
        flags = self.av_pairs.get(_AV_FLAGS)
        return flags is not None and len(flags) > 0 and flags[0] & _MIC_PRESENT != 0
