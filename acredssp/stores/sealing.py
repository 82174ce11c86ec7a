"""Values that the store keeps and cannot read: sealed with a key that it does not have.

A value is bound to the name under which it is kept, so that the store cannot give it out under another. What the store
still can do: forget values, give out older ones, and count wrongly.

The keys are a text of lines, a secret that all nodes share:

    names:BASE64        makes names of accounts and addresses unreadable; stays as it is for good
    2026-11:BASE64      the first of the others seals
    2026-05:BASE64      every other one opens only

To rotate: add the new key as the last line at every node, then make it the first one at every node, and remove the old
key after a day, when nothing that it sealed is left.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from acredssp.stores.store import StoreError

__all__ = ["SealError", "Sealer", "new_keys"]

_LINE: Final = re.compile(r"([A-Za-z0-9._-]{1,32}):([A-Za-z0-9+/]{43}=)")
_NAMES: Final = "names"
_NONCE: Final = 12
_KEY: Final = 32


_SAME_KEYS: Final = "give all nodes the same file of keys"


class SealError(StoreError):
    """A value of the store was not sealed by one of our keys, or not for the place where it was found."""


class Sealer:
    """Seals and opens values.

    Args:
        text: The keys, as the module describes them.

    Raises:
        ValueError: `text` holds no such keys. The error quotes nothing of it.
    """

    def __init__(self, text: str) -> None:
        keys: dict[str, bytes] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            found = _LINE.fullmatch(line.strip())
            if found is None or found[1] in keys:
                raise ValueError(f"line {number} of the keys: expected ID:KEY, a new id and 32 bytes in base64")
            keys[found[1]] = base64.b64decode(found[2])
        names = keys.pop(_NAMES, None)
        if names is None or not keys:
            raise ValueError(f"expected keys with a line {_NAMES}:KEY and at least one line ID:KEY")
        self._names = names
        self._keys = {identity: AESGCM(key) for identity, key in keys.items()}
        self._first = next(iter(self._keys))

    def name(self, *parts: str) -> str:
        """Return a name that always stands for these texts and does not tell them."""
        return hmac.new(self._names, json.dumps(parts).encode(), hashlib.sha256).hexdigest()

    def seal(self, place: str, value: bytes) -> bytes:
        """Seal a value for the place where it will be kept."""
        nonce = secrets.token_bytes(_NONCE)
        sealed = self._keys[self._first].encrypt(nonce, value, place.encode())
        return self._first.encode() + b":" + nonce + sealed

    def open(self, place: str, sealed: bytes) -> bytes:
        """Return the value that was sealed for this place.

        Raises:
            SealError: It was not.
        """
        identity, _, rest = sealed.partition(b":")
        key = self._keys.get(identity.decode("ascii", "replace"))
        if key is None:
            known = re.fullmatch(rb"[A-Za-z0-9._-]{1,32}", identity)
            by = f"the key {identity.decode()}" if known else "no key of ours"
            here = ", ".join(self._keys)
            raise SealError(f"a value of the store is sealed by {by}, and the keys here are {here}: {_SAME_KEYS}")
        try:
            return key.decrypt(rest[:_NONCE], rest[_NONCE:], place.encode())
        except (InvalidTag, ValueError):
            raise SealError(
                f"a value of the store was changed or moved, or another node has another key of this name: key "
                f"{identity.decode()} does not fit: {_SAME_KEYS}"
            ) from None


def new_keys() -> str:
    """Return new keys as a text: one for names, and one that seals, whose id no earlier key has."""
    identities = (_NAMES, secrets.token_hex(4))
    lines = [f"{identity}:{base64.b64encode(secrets.token_bytes(_KEY)).decode()}" for identity in identities]
    return "\n".join(lines) + "\n"
