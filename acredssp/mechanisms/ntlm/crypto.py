"""The cryptography of NTLMv2: proofs, session keys, and the two sealing handles of a context ([MS-NLMP] 3.3, 3.4).

Only extended session security with 128-bit keys and key exchange is here: CredSSP needs confidentiality, and
everything weaker is refused before a key is made.
"""

import hashlib
import hmac
import struct
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext

from acredssp.errors import PolicyError, RemoteProtocolError
from acredssp.status import SecurityStatus

__all__ = [
    "SealingHandle",
    "channel_bindings_hash",
    "hmac_md5",
    "message_mic",
    "nt_proof",
    "ntowf_v2",
    "rc4",
    "upper",
]

SIGNATURE_SIZE: Final = 16
_INNER_PAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD: Final = bytes(byte ^ 0x5C for byte in range(256))
_SEQUENCE = struct.Struct("<I")
_SEAL_VERSION: Final = b"\1\0\0\0"

_CLIENT_TO_SERVER: Final = b"session key to client-to-server %s key magic constant\0"
_SERVER_TO_CLIENT: Final = b"session key to server-to-client %s key magic constant\0"


def _md5(data: bytes) -> bytes:
    # NTLM is defined with MD5; `usedforsecurity=False` keeps it working where a FIPS build forbids MD5 otherwise.
    return hashlib.md5(data, usedforsecurity=False).digest()


def hmac_md5(key: bytes, message: bytes) -> bytes:
    """HMAC-MD5 (RFC 2104) for a key of at most 64 bytes.

    By hand, because `hmac` refuses MD5 in FIPS builds and takes half as long again.
    """
    block = key.ljust(64, b"\0")
    return _md5(block.translate(_OUTER_PAD) + _md5(block.translate(_INNER_PAD) + message))


def _rc4_cipher(key: bytes) -> Cipher[None]:
    return Cipher(ARC4(key), mode=None)


def _keystream(cipher: Cipher[None]) -> CipherContext:
    try:
        return cipher.encryptor()
    except UnsupportedAlgorithm:
        raise PolicyError(
            "ntlm needs rc4, which this build of openssl does not offer", hint="load openssl's legacy provider"
        ) from None


def rc4(key: bytes, data: bytes) -> bytes:
    """RC4 in one go: EncryptedRandomSessionKey, both ways."""
    return _keystream(_rc4_cipher(key)).update(data)


def upper(text: str) -> str:
    """Upper case, one character for one, as Windows has it: `ß` stays, where `str.upper` makes `SS`."""
    if text.isascii():
        return text.upper()
    return "".join(_upper_character(character) for character in text)


def _upper_character(character: str) -> str:
    # Where the full mapping has several characters, the title case is the simple upper case, or has several too.
    for candidate in (character.upper(), character.title()):
        if len(candidate) == 1:
            return candidate
    return character


def ntowf_v2(nt_hash: bytes, user: str, domain: bytes) -> bytes:
    """NTOWFv2, the response key ([MS-NLMP] 3.3.2).

    Args:
        nt_hash: 16 bytes.
        user: As the client sent it, in any case.
        domain: UTF-16LE exactly as the client sent it: only the user is put into upper case.
    """
    return hmac_md5(nt_hash, upper(user).encode("utf-16-le", "surrogatepass") + domain)


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
    return _md5(bytes(16) + len(application_data).to_bytes(4, "little") + application_data)


class SealingHandle:
    """One direction of a context: its keys, its RC4 stream and its sequence number ([MS-NLMP] 3.4.2 to 3.4.5).

    Args:
        session_key: ExportedSessionKey, 16 bytes.
        from_initiator: Whether this is the direction from client to server.
    """

    __slots__ = ("_cipher", "_rc4", "_sequence", "_sign_key")

    def __init__(self, session_key: bytes, *, from_initiator: bool) -> None:
        magic = _CLIENT_TO_SERVER if from_initiator else _SERVER_TO_CLIENT
        self._sign_key = _md5(session_key + magic % b"signing")
        self._cipher = _rc4_cipher(_md5(session_key + magic % b"sealing"))
        self._rc4 = _keystream(self._cipher)
        self._sequence = 0

    def wrap(self, plaintext: bytes) -> bytes:
        """Signature (16 bytes), then the ciphertext."""
        # GSS_WrapEx seals first and then the checksum, with the same continuing stream ([MS-NLMP] 3.4.6).
        ciphertext = self._rc4.update(plaintext)
        return self._signature(plaintext, self._rc4) + ciphertext

    def unwrap(self, sealed: bytes) -> bytes:
        """The plaintext of the next message.

        Raises:
            RemoteProtocolError: The signature does not fit; the handle is of no use any more.
        """
        if len(sealed) < SIGNATURE_SIZE:
            raise _altered(f"expected a sealed message of at least 16 bytes, got {len(sealed)}")
        plaintext = self._rc4.update(sealed[SIGNATURE_SIZE:])
        self._verify(plaintext, sealed[:SIGNATURE_SIZE], self._rc4)
        return plaintext

    def get_mic(self, message: bytes) -> bytes:
        """Sign a mechTypes list ([MS-SPNG] 3.3.5.1).

        The RC4 state is given back afterwards and the sequence number is not. SPNEGO signs before anything is
        sealed, so the state given back is the first one: the next sealed message has number 1 and the stream
        from its beginning.
        """
        return self._signature(message, _keystream(self._cipher))

    def verify_mic(self, message: bytes, mic: bytes) -> None:
        """Verify the peer's signature of a mechTypes list; see `get_mic`.

        Raises:
            RemoteProtocolError: The signature does not fit.
        """
        self._verify(message, mic, _keystream(self._cipher))

    def _signature(self, message: bytes, stream: CipherContext) -> bytes:
        """NTLMSSP_MESSAGE_SIGNATURE under extended session security ([MS-NLMP] 3.4.4.2)."""
        sequence = _SEQUENCE.pack(self._sequence & 0xFFFFFFFF)
        self._sequence += 1
        checksum = stream.update(hmac_md5(self._sign_key, sequence + message)[:8])
        return _SEAL_VERSION + checksum + sequence

    def _verify(self, message: bytes, signature: bytes, stream: CipherContext) -> None:
        expected = self._signature(message, stream)
        if hmac.compare_digest(expected, signature):
            return
        if len(signature) == SIGNATURE_SIZE and signature[12:] != expected[12:]:
            got = int.from_bytes(signature[12:], "little")
            raise RemoteProtocolError(
                f"expected the sealed message with sequence number {self._sequence - 1}, got {got}",
                security_status=SecurityStatus.SEC_E_OUT_OF_SEQUENCE,
            )
        raise _altered("the signature of a sealed message does not fit")


def _altered(message: str) -> RemoteProtocolError:
    return RemoteProtocolError(message, security_status=SecurityStatus.SEC_E_MESSAGE_ALTERED)
