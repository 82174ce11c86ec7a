"""A TLS client that, once the handshake is done, seals records by itself: those that OpenSSL would never send.

OpenSSL does the handshake, and writes the secrets of the session into a key log. With these, any content is sealed:
empty records, alerts, KeyUpdate messages without end, messages of handshakes at the wrong time.
"""

import contextlib
import hashlib
import hmac
import pathlib
import ssl

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["ALERT", "APPLICATION_DATA", "HANDSHAKE", "RawTLS", "plain_record"]

ALERT, HANDSHAKE, APPLICATION_DATA = 21, 22, 23
KEY_UPDATE = 24
LARGEST = 1 << 14
"""The most bytes of plaintext in a record."""
_SUITE_OF_1_2 = "ECDHE-RSA-AES256-GCM-SHA384"
_RECORD_HEADER = 5


def plain_record(kind: int, content: bytes) -> bytes:
    """Return a record in the clear."""
    return bytes((kind, 3, 1)) + len(content).to_bytes(2, "big") + content


class RawTLS:
    """One connection.

    Args:
        key_log: A file that this process alone uses, for all of its connections.
        version: The version of TLS, 1.3 or 1.2.
    """

    def __init__(self, key_log: pathlib.Path, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        context.set_ciphers(_SUITE_OF_1_2)
        context.keylog_filename = str(key_log)
        self._key_log, self._version = key_log, version
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._heard = b""
        self._secret = b""
        self._sequence = 0
        self.done = False
        self.hello = self.step(b"")

    def step(self, data: bytes) -> bytes:
        """Take the server's bytes, and return the next flight; `done` says whether it is the last one."""
        self._heard += b"" if self.done else data
        self._incoming.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
            self.done = True
        return self._outgoing.read()

    # --- records of our own, after the handshake ---

    def record(self, kind: int, content: bytes) -> bytes:
        """Seal content of a kind, as the next record of the client."""
        if not self._secret:
            self._take_secret("CLIENT_TRAFFIC_SECRET_0")
        number = self._sequence.to_bytes(8, "big")
        self._sequence += 1
        if self._version is ssl.TLSVersion.TLSv1_2:
            return self._record_of_1_2(kind, content, number)
        header = b"\x17\x03\x03" + (len(content) + 1 + 16).to_bytes(2, "big")
        nonce = bytes(a ^ b for a, b in zip(self._iv, bytes(4) + number, strict=True))
        return header + self._cipher.encrypt(nonce, content + bytes((kind,)), header)

    def key_update(self, *, asked: bool) -> bytes:
        """Return a KeyUpdate message, and go on to the next keys; `asked` has the server answer with one of its own."""
        record = self.record(HANDSHAKE, bytes((KEY_UPDATE, 0, 0, 1, asked)))
        self._use(self._expanded(self._secret, "traffic upd", 48))
        return record

    def within_handshake(self, content: bytes) -> bytes:
        """Seal a message of the handshake in place of the client's Finished, whatever its size."""
        self._take_secret("CLIENT_HANDSHAKE_TRAFFIC_SECRET")
        return b"".join(
            self.record(HANDSHAKE, content[start : start + LARGEST]) for start in range(0, len(content), LARGEST)
        )

    def _take_secret(self, label: str) -> None:
        """Find the secret in the key log, whose last lines are those of this session."""
        if self._version is ssl.TLSVersion.TLSv1_2:
            self._take_master_secret()
            return
        lines = self._key_log.read_text("ascii").splitlines()
        self._use(bytes.fromhex(next(line for line in reversed(lines) if line.startswith(f"{label} ")).split()[2]))

    def _use(self, secret: bytes) -> None:
        self._secret, self._sequence = secret, 0
        self._cipher = AESGCM(self._expanded(secret, "key", 32))
        self._iv = self._expanded(secret, "iv", 12)

    @staticmethod
    def _expanded(secret: bytes, label: str, size: int) -> bytes:
        """HKDF-Expand-Label of RFC 8446, for up to the size of one hash."""
        name = f"tls13 {label}".encode()
        info = size.to_bytes(2, "big") + bytes((len(name),)) + name + b"\0\x01"
        return hmac.digest(secret, info, "sha384")[:size]

    # --- TLS 1.2 ---

    def _take_master_secret(self) -> None:
        lines = self._key_log.read_text("ascii").splitlines()
        _, client, master = next(line for line in reversed(lines) if line.startswith("CLIENT_RANDOM ")).split()
        self._secret = bytes.fromhex(master)
        start = _RECORD_HEADER + 4 + 2  # behind the headers of the record and of the ServerHello, and its version
        seed = b"key expansion" + self._heard[start : start + 32] + bytes.fromhex(client)
        block, one = b"", seed
        while len(block) < 72:
            one = hmac.digest(self._secret, one, hashlib.sha384)
            block += hmac.digest(self._secret, one + seed, hashlib.sha384)
        self._cipher, self._iv = AESGCM(block[:32]), block[64:68]
        self._sequence = 1  # the client's Finished was the first record

    def _record_of_1_2(self, kind: int, content: bytes, number: bytes) -> bytes:
        start = bytes((kind, 3, 3))
        sealed = self._cipher.encrypt(self._iv + number, content, number + start + len(content).to_bytes(2, "big"))
        return start + (8 + len(sealed)).to_bytes(2, "big") + number + sealed
