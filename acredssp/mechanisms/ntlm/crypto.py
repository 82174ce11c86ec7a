"""The cryptography of NTLMv2: proofs, session keys, and the two sealing handles of a context ([MS-NLMP] 3.3, 3.4).

There is only extended session security with 128-bit keys and key exchange: CredSSP needs confidentiality, and anything
weaker is refused before a key is made.
"""

import codecs
import functools
import hashlib
import hmac
import struct
from collections.abc import Callable
from typing import Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher

from acredssp.errors import LocalProtocolError, PolicyError, RemoteProtocolError
from acredssp.names import unicode_upper, upper
from acredssp.status import SecurityStatus

try:
    from _md5 import md5 as _builtin_md5  # type: ignore[import-not-found] # CPython's own, unknown to typeshed
except ImportError:  # a build of CPython may leave it out
    _builtin_md5 = functools.partial(hashlib.md5, usedforsecurity=False)
try:
    import arc4
except ImportError:  # where it has no wheel, it is no dependency
    arc4 = None  # type: ignore[assignment]

__all__ = [
    "SealingHandle",
    "channel_bindings_hash",
    "encode_text",
    "hmac_blocks",
    "hmac_md5",
    "hmac_md5_of",
    "keyed_names",
    "message_mic",
    "nt_proof",
    "ntowf_v2",
    "rc4",
]

_md5: Final[Callable[[bytes], "hashlib._Hash"]] = _builtin_md5
"""NTLM is defined with MD5, and a logon hashes 36 short messages. For each of them CPython's MD5 takes 0.57 of the
instructions that OpenSSL's takes, and it is allowed in FIPS builds too."""

SIGNATURE_SIZE: Final = 16
_INNER_PAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD: Final = bytes(byte ^ 0x5C for byte in range(256))
_INNER_REST: Final = b"\x36" * 48
_OUTER_REST: Final = b"\x5c" * 48
"""The rest of a block behind a key of 16 bytes: zeros, combined with the pad."""
_pack_sequence = struct.Struct("<I").pack
_SEAL_VERSION: Final = b"\1\0\0\0"

_CLIENT_TO_SERVER: Final = (
    b"session key to client-to-server signing key magic constant\0",
    b"session key to client-to-server sealing key magic constant\0",
)
_SERVER_TO_CLIENT: Final = (
    b"session key to server-to-client signing key magic constant\0",
    b"session key to server-to-client sealing key magic constant\0",
)

HMACBlocks: TypeAlias = tuple[bytes, bytes]
"""The first blocks of HMAC-MD5's inner and outer hash, 64 bytes each, which depend on the key alone."""


def hmac_blocks(key: bytes) -> HMACBlocks:
    """Return the two HMAC blocks of a 16-byte key. A caller that uses the key more than once keeps them.

    The blocks are bytes and not prepared hash objects: copying hash objects is faster only from the fourth message on.
    """
    return key.translate(_INNER_PAD) + _INNER_REST, key.translate(_OUTER_PAD) + _OUTER_REST


def hmac_md5_of(blocks: HMACBlocks, message: bytes) -> bytes:
    """HMAC-MD5 (RFC 2104) under the key that the blocks were made of.

    It does not use `hmac`, which refuses MD5 in FIPS builds and takes nearly twice the instructions.
    """
    inner, outer = blocks
    return _md5(outer + _md5(inner + message).digest()).digest()


def hmac_md5(key: bytes, message: bytes) -> bytes:
    """HMAC-MD5 under a key of 16 bytes that is used once."""
    inner = key.translate(_INNER_PAD) + _INNER_REST
    return _md5(key.translate(_OUTER_PAD) + _OUTER_REST + _md5(inner + message).digest()).digest()


Keystream: TypeAlias = Callable[[bytes], bytes]
"""An RC4 stream: it combines its input with the next bytes of the stream, which both encrypts and decrypts."""


def _openssl_keystream(key: bytes) -> Keystream:
    try:
        return Cipher(ARC4(key), mode=None).encryptor().update
    except UnsupportedAlgorithm:
        raise PolicyError(
            "ntlm needs rc4, which this build of openssl does not offer",
            hint="load openssl's legacy provider, or install arc4",
        ) from None


def _small_keystream(key: bytes) -> Keystream:
    return arc4.ARC4(key).encrypt


# A logon makes six streams for a few bytes each. A stream takes 38,000 instructions with cryptography, and 7,000 with
# the extension module `arc4`.
_keystream = _openssl_keystream if arc4 is None else _small_keystream


def rc4(key: bytes, data: bytes) -> bytes:
    """Encrypt or decrypt with RC4 in one go, as EncryptedRandomSessionKey is."""
    return _keystream(key)(data)


def encode_text(text: str) -> bytes:
    """Encode text as UTF-16LE.

    It calls the codec directly: `str.encode` looks the codec up by its name first, and takes three times as long.
    """
    return codecs.utf_16_le_encode(text, "surrogatepass")[0]


def ntowf_v2(nt_hash: bytes, user: str, domain: bytes) -> bytes:
    """NTOWFv2, the response key ([MS-NLMP] 3.3.2).

    Args:
        nt_hash: The NT hash, 16 bytes.
        user: The user's name in any case; it is put into upper case.
        domain: UTF-16LE exactly as the client sends it; it is not put into upper case.
    """
    return hmac_md5(nt_hash, encode_text(upper(user)) + domain)


def keyed_names(user: str, domain: bytes) -> list[bytes]:
    """The names that a client may have made its response key of, the likeliest first. Each is user and domain in one.

    Clients differ in two ways. Windows puts the user into upper case by a table of its own, FreeRDP by Unicode's table.
    Some clients leave the domain out of the key although they send it ([MS-NLMP] 3.2.5.1.2).

    Args:
        user: As the client sent it.
        domain: UTF-16LE exactly as the client sent it.
    """
    name = encode_text(upper(user))
    other = name if user.isascii() else encode_text(unicode_upper(user))
    if other == name:
        return [name + domain, name] if domain else [name]
    return [name + domain, other + domain, name, other] if domain else [name, other]


def nt_proof(response_key: bytes, server_challenge: bytes, temp: bytes) -> bytes:
    """NTProofStr over the client's challenge structure, 16 bytes ([MS-NLMP] 3.3.2)."""
    return hmac_md5(response_key, server_challenge + temp)


def message_mic(session_key: bytes, negotiate: bytes, challenge: bytes, authenticate: bytes) -> bytes:
    """The MIC of an exchange, 16 bytes; the MIC in `authenticate` must be zeros ([MS-NLMP] 3.1.5.1.2)."""
    return hmac_md5(session_key, negotiate + challenge + authenticate)


def channel_bindings_hash(application_data: bytes) -> bytes:
    """MsvAvChannelBindings: MD5 of gss_channel_bindings_struct without addresses ([MS-NLMP] 3.1.1.2, RFC 4121 4.1.1.2).

    Args:
        application_data: For example `tls-server-end-point:` and the hash of the certificate (RFC 5929).
    """
    return _md5(bytes(16) + len(application_data).to_bytes(4, "little") + application_data).digest()


_ZEROS: Final = bytes(8)
"""As many bytes as a signature's checksum has."""


class SealingHandle:
    """One direction of a context: its keys, its RC4 stream and its sequence number ([MS-NLMP] 3.4.2 to 3.4.5).

    Args:
        session_key: ExportedSessionKey, 16 bytes.
        from_initiator: Whether this is the direction from client to server.
    """

    __slots__ = ("_ahead", "_crypt", "_sealed", "_sequence", "_sign_blocks")

    def __init__(self, session_key: bytes, *, from_initiator: bool) -> None:
        signing, sealing = _CLIENT_TO_SERVER if from_initiator else _SERVER_TO_CLIENT
        self._sign_blocks = hmac_blocks(_md5(session_key + signing).digest())
        self._crypt = _keystream(_md5(session_key + sealing).digest())
        """The RC4 stream at its present position."""
        self._ahead = b""
        """The first bytes of the RC4 stream, if a mechListMIC has used them; empty otherwise.

        The first sealed message must begin with these bytes again. They are kept because a second RC4 stream for the
        mechListMIC would cost more than the rest of its signature."""
        self._sealed = False
        """Whether a message was sealed."""
        self._sequence = 0

    def wrap(self, plaintext: bytes) -> bytes:
        """Sign and seal; return the signature (16 bytes), then the ciphertext."""
        # GSS_WrapEx encrypts the message first and then the checksum, with the same stream ([MS-NLMP] 3.4.6).
        self._sealed = True
        ciphertext = self._crypt_again(plaintext) if self._ahead else self._crypt(plaintext)
        return self._sign(plaintext, self._crypt_again if self._ahead else self._crypt) + ciphertext

    def unwrap(self, sealed: bytes) -> bytes:
        """Verify and unseal the next message; return the plaintext.

        Raises:
            RemoteProtocolError: The signature is wrong; the handle cannot be used any more.
        """
        if len(sealed) < SIGNATURE_SIZE:
            self._crypt, self._ahead = _refuse, b""
            raise _altered(f"expected a sealed message of at least 16 bytes, got {len(sealed)}")
        self._sealed = True
        plaintext, signature = sealed[SIGNATURE_SIZE:], sealed[:SIGNATURE_SIZE]
        plaintext = self._crypt_again(plaintext) if self._ahead else self._crypt(plaintext)
        expected = self._sign(plaintext, self._crypt_again if self._ahead else self._crypt)
        if not hmac.compare_digest(expected, signature):
            raise self._mismatch(expected, signature)
        return plaintext

    def get_mic(self, message: bytes) -> bytes:
        """Sign a mechTypes list ([MS-SPNG] 3.3.5.1). Allowed only before the first sealed message.

        The signature uses up a sequence number, but not the RC4 stream: the first sealed message has the next number,
        and the stream from its beginning.

        Raises:
            LocalProtocolError: A message was sealed before.
        """
        if self._sealed:
            raise LocalProtocolError("expected a mechListMIC before the first sealed message, got it after")
        return self._sign(message, self._crypt_ahead)

    def verify_mic(self, message: bytes, mic: bytes) -> None:
        """Verify the peer's signature of a mechTypes list; see `get_mic`.

        Raises:
            LocalProtocolError: A message was sealed before.
            RemoteProtocolError: The signature is wrong; the handle cannot be used any more.
        """
        expected = self.get_mic(message)
        if not hmac.compare_digest(expected, mic):
            raise self._mismatch(expected, mic)

    def _crypt_ahead(self, checksum: bytes) -> bytes:
        """Encrypt a checksum with the first bytes of the RC4 stream, and keep these bytes in `_ahead`."""
        if not self._ahead:
            self._ahead = self._crypt(_ZEROS)
        return _xor(checksum, self._ahead)

    def _crypt_again(self, data: bytes) -> bytes:
        """Encrypt or decrypt with the bytes in `_ahead` first, and then with the rest of the RC4 stream."""
        ahead, used = self._ahead, len(self._ahead)
        size = len(data)
        self._ahead = ahead[size:]
        return _xor(data[:used], ahead[:size]) + self._crypt(data[used:])

    def _sign(self, message: bytes, crypt: Keystream) -> bytes:
        """The next NTLMSSP_MESSAGE_SIGNATURE ([MS-NLMP] 3.4.4.2): version, Checksum under `crypt`, SeqNum."""
        sequence = _pack_sequence(self._sequence & 0xFFFFFFFF)
        self._sequence += 1
        # HMAC-MD5 is written out here: six to ten calls would take a hundredth of a logon's NTLM.
        inner, outer = self._sign_blocks
        digest = _md5(inner + sequence)
        digest.update(message)  # not joined: it may have a password, and nobody overwrites what Python frees
        checksum = _md5(outer + digest.digest()).digest()[:8]
        return _SEAL_VERSION + crypt(checksum) + sequence

    def _mismatch(self, expected: bytes, signature: bytes) -> RemoteProtocolError:
        """The error for a wrong signature, after which the handle can neither unseal nor verify anything."""
        self._crypt, self._ahead = _refuse, b""
        if len(signature) == SIGNATURE_SIZE and signature[12:] != expected[12:]:
            got = int.from_bytes(signature[12:], "little")
            return RemoteProtocolError(
                f"expected the sealed message with sequence number {self._sequence - 1}, got {got}",
                security_status=SecurityStatus.SEC_E_OUT_OF_SEQUENCE,
            )
        return _altered("the signature of a sealed or signed message is wrong")


def _refuse(_data: bytes) -> bytes:
    """Stands for the RC4 stream of a handle that has failed."""
    raise LocalProtocolError("the ntlm context has failed")


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "little") ^ int.from_bytes(other, "little")).to_bytes(len(one), "little")


def _altered(message: str) -> RemoteProtocolError:
    return RemoteProtocolError(message, security_status=SecurityStatus.SEC_E_MESSAGE_ALTERED)
