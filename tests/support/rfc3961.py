"""Kerberos encryption from the RFCs alone, an oracle: AES-CTS with HMAC-SHA1-96 (RFC 3961, RFC 3962)."""

import dataclasses
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

BLOCK = 16
CHECKSUM = 12
"""Bytes of HMAC-SHA1-96."""
KEY_SIZES = {17: 16, 18: 32}
"""Of aes128-cts-hmac-sha1-96 and aes256-cts-hmac-sha1-96."""


class Altered(Exception):
    """A checksum does not fit: another key, another usage, other bytes."""


@dataclasses.dataclass(frozen=True)
class Key:
    """A protocol key of encryption type 17 or 18."""

    enctype: int
    value: bytes

    def __post_init__(self):
        assert KEY_SIZES[self.enctype] == len(self.value)

    def encrypt(self, usage, plaintext, confounder):
        """RFC 3961 section 5.3: the confounder goes first, the checksum of both last."""
        data = confounder + plaintext
        return encrypt_cts(self._derive(usage, 0xAA), data) + self._hmac(usage, 0x55, data)

    def decrypt(self, usage, ciphertext):
        """Give the plaintext and its confounder."""
        data = decrypt_cts(self._derive(usage, 0xAA), ciphertext[:-CHECKSUM])
        if self._hmac(usage, 0x55, data) != ciphertext[-CHECKSUM:]:
            raise Altered
        return data[BLOCK:], data[:BLOCK]

    def checksum(self, usage, data):
        """RFC 3961 section 5.3, get_mic."""
        return self._hmac(usage, 0x99, data)

    def _hmac(self, usage, purpose, data):
        return hmac.digest(self._derive(usage, purpose), data, "sha1")[:CHECKSUM]

    def _derive(self, usage, purpose):
        """DK: encrypt the folded constant, and what comes of it, until there is enough for a key."""
        block = n_fold(usage.to_bytes(4, "big") + bytes([purpose]), BLOCK)
        derived = b""
        while len(derived) < len(self.value):
            block = _cbc(self.value).encryptor().update(block)
            derived += block
        return derived


def n_fold(data, size):
    """RFC 3961 section 5.1: as many copies as fill both lengths, each turned by 13 bits more, added up end-around."""
    bits, width = 8 * len(data), 8 * size
    number, total, turned = int.from_bytes(data, "big"), b"", 0
    while not total or len(total) % size:
        turn = turned % bits
        total += ((number >> turn | number << (bits - turn)) & ((1 << bits) - 1)).to_bytes(len(data), "big")
        turned += 13
    added = sum(int.from_bytes(total[at : at + size], "big") for at in range(0, len(total), size))
    while added >> width:
        added = (added & ((1 << width) - 1)) + (added >> width)
    return added.to_bytes(size, "big")


def encrypt_cts(key, data):
    """CBC with a zero IV, the last two blocks swapped and the last one cut (RFC 3962 section 5)."""
    if len(data) == BLOCK:
        return _cbc(key).encryptor().update(data)
    encrypted = _cbc(key).encryptor().update(data + bytes(-len(data) % BLOCK))
    rest = len(data) % BLOCK or BLOCK
    return encrypted[: -2 * BLOCK] + encrypted[-BLOCK:] + encrypted[-2 * BLOCK : -BLOCK][:rest]


def decrypt_cts(key, data):
    if len(data) == BLOCK:
        return _cbc(key).decryptor().update(data)
    rest = len(data) % BLOCK or BLOCK
    head, last, cut = data[: -BLOCK - rest], data[-BLOCK - rest : -rest], data[-rest:]
    # The cut block's missing tail is what the padding of zeros left in the last one.
    whole = cut + Cipher(algorithms.AES(key), modes.ECB()).decryptor().update(last)[rest:]  # noqa: S305
    return _cbc(key).decryptor().update(head + whole + last)[: len(data)]


def _cbc(key):
    return Cipher(algorithms.AES(key), modes.CBC(bytes(BLOCK)))
