"""Both ends of TLS records: calls of EncryptMessage and DecryptMessage, and records made by hand.

By hand, because CPython's `ssl` cannot ask for a key update or a renegotiation, send a ticket on demand, or any alert
but close_notify. The keys are derived from a key log as RFC 8446 7.1 and RFC 5246 6.3 say, with no code of ours.
"""

import hmac

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from acredssp.sspi import (
    SECBUFFER_DATA,
    SECBUFFER_EMPTY,
    SECBUFFER_STREAM_HEADER,
    SECBUFFER_STREAM_TRAILER,
    SECPKG_ATTR_STREAM_SIZES,
    DecryptMessage,
    EncryptMessage,
    QueryContextAttributes,
    SecBuffer,
    SecBufferDesc,
    SecPkgContext_StreamSizes,
    SecurityStatus,
)

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23

CIPHERS = {"TLSv1.2": "ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.3": "TLS_AES_256_GCM_SHA384"}
"""What both ends of a test agree on."""

_KEY, _IV, _SALT = 32, 12, 4


# --- calls ---


async def query(end, attribute, structure):
    """The structure, filled."""
    status = await QueryContextAttributes(end.handle, attribute, structure)
    assert status is SecurityStatus.SEC_E_OK, end.handle.error
    return structure


async def stream_sizes(end):
    """The sizes that EncryptMessage needs."""
    return await query(end, SECPKG_ATTR_STREAM_SIZES, SecPkgContext_StreamSizes())


def plain(data, header=64, trailer=64):
    """The four buffers for EncryptMessage: parts of one piece of memory, as C code lays them out."""
    memory = memoryview(bytearray(header) + data + bytearray(trailer))
    end = header + len(data)
    return SecBufferDesc(
        [
            SecBuffer(SECBUFFER_STREAM_HEADER, memory[:header]),
            SecBuffer(SECBUFFER_DATA, memory[header:end]),
            SecBuffer(SECBUFFER_STREAM_TRAILER, memory[end:]),
            SecBuffer(SECBUFFER_EMPTY),
        ]
    )


async def encrypt(end, data):
    """The record, from buffers of just the sizes that are asked for."""
    sizes = await stream_sizes(end)
    message = plain(data, sizes.cbHeader, sizes.cbTrailer)
    status = await EncryptMessage(end.handle, 0, message, 0)
    assert status is SecurityStatus.SEC_E_OK, end.handle.error
    return joined(message)


def joined(message):
    """The bytes of an encrypted message to send."""
    return b"".join(bytes(buffer) for buffer in message.pBuffers[:3])


def sealed(data):
    """The four buffers for DecryptMessage."""
    return SecBufferDesc([SecBuffer(SECBUFFER_DATA, bytearray(data)), SecBuffer(), SecBuffer(), SecBuffer()])


async def decrypt(end, data=b""):
    """The status and the buffers."""
    message = sealed(data)
    return await DecryptMessage(end.handle, message, 0), message


# --- by hand ---


def split(data):
    """The records of a stream."""
    records = []
    while data:
        size = 5 + int.from_bytes(data[3:5], "big")
        records.append(data[:size])
        data = data[size:]
    return records


class Direction13:
    """One direction of TLS 1.3 under its application traffic secret (RFC 8446 5.2, 7.2, 7.3)."""

    def __init__(self, secret):
        self._take(secret)

    def _take(self, secret):
        self._secret = secret
        self._aead = AESGCM(self._expand("key", _KEY))
        self._iv = self._expand("iv", _IV)
        self.sequence = 0

    def _expand(self, label, length):
        name = b"tls13 " + label.encode()
        info = length.to_bytes(2, "big") + bytes((len(name),)) + name + b"\0"
        return HKDFExpand(hashes.SHA384(), length, info).derive(self._secret)

    def update(self):
        """Go on with the next secret, as after a KeyUpdate."""
        self._take(self._expand("traffic upd", 48))

    def _nonce(self):
        nonce = int.from_bytes(self._iv, "big") ^ self.sequence
        self.sequence += 1
        return nonce.to_bytes(_IV, "big")

    def seal(self, content_type, data):
        """The next record."""
        inner = data + bytes((content_type,))
        header = bytes((APPLICATION_DATA, 3, 3)) + (len(inner) + 16).to_bytes(2, "big")
        return header + self._aead.encrypt(self._nonce(), inner, header)

    def open(self, record):
        """The content type and the content of the next record."""
        inner = self._aead.decrypt(self._nonce(), record[5:], record[:5]).rstrip(b"\0")
        return inner[-1], inner[:-1]


class Direction12:
    """One direction of TLS 1.2 with AES-GCM (RFC 5288 3)."""

    def __init__(self, key, salt):
        self._aead, self._salt, self.sequence = AESGCM(key), salt, 0

    def seal(self, content_type, data):
        """The next record."""
        explicit, extra = self._additional(content_type, len(data))
        sealed_data = self._aead.encrypt(self._salt + explicit, data, extra)
        fragment = explicit + sealed_data
        return bytes((content_type, 3, 3)) + len(fragment).to_bytes(2, "big") + fragment

    def open(self, record):
        """The content type and the content of the next record."""
        _, extra = self._additional(record[0], len(record) - 5 - 8 - 16)
        return record[0], self._aead.decrypt(self._salt + record[5:13], record[13:], extra)

    def _additional(self, content_type, length):
        number = self.sequence.to_bytes(8, "big")
        self.sequence += 1
        return number, number + bytes((content_type, 3, 3)) + length.to_bytes(2, "big")


def directions(key_log, flights):
    """What the client and what the server send, after all that is in `flights` (`support.sspi.talk`)."""
    sent = {name: [] for name in ("c2s", "s2c")}
    for name, token in flights:
        sent[name] += split(token)
    lines = [line.split() for line in key_log.splitlines() if not line.startswith("#")]
    secrets = {label: [bytes.fromhex(word) for word in words] for label, *words in lines}
    if "CLIENT_TRAFFIC_SECRET_0" in secrets:
        client = Direction13(secrets["CLIENT_TRAFFIC_SECRET_0"][1])
        server = Direction13(secrets["SERVER_TRAFFIC_SECRET_0"][1])
        for direction, name in ((client, "c2s"), (server, "s2c")):
            _catch_up(direction, sent[name])
        return client, server
    client_random, master = secrets["CLIENT_RANDOM"]
    server_random = sent["s2c"][0][11:43]
    block = _prf(master, b"key expansion" + server_random + client_random, 2 * (_KEY + _SALT))
    client = Direction12(block[:32], block[64:68])
    server = Direction12(block[32:64], block[68:72])
    for direction, name in ((client, "c2s"), (server, "s2c")):
        types = [record[0] for record in sent[name]]
        direction.sequence = len(types) - types.index(CHANGE_CIPHER_SPEC) - 1
    return client, server


def _catch_up(direction, records):
    """Read what was sent under the application's keys: nothing of it verifies under the handshake's."""
    for record in records:
        before = direction.sequence
        try:
            direction.open(record)
        except Exception:  # noqa: BLE001 - cryptography's InvalidTag, or a record in clear that is too short
            direction.sequence = before


def _prf(secret, seed, length):
    """P_SHA384 (RFC 5246 5)."""
    output, chain = b"", seed
    while len(output) < length:
        chain = hmac.digest(secret, chain, "sha384")
        output += hmac.digest(secret, chain + seed, "sha384")
    return output[:length]
