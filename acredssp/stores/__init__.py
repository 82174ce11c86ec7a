"""What the nodes of a gateway share: tokens, lockouts, who is on which node and target, and kicks.

`Store` is the interface. `MemoryStore` keeps everything in one process. `acredssp.stores.redis.RedisStore` keeps it in
a Redis or Valkey, sealed by a `Sealer`, for several processes and nodes; it needs redis-py, which the extra `gateway`
brings. `acredssp proxy` uses both, and so can a gateway of your own (docs/gateway.md).
"""

from acredssp.stores.memory import Expiring, MemoryStore
from acredssp.stores.sealing import Sealer, SealError, new_keys
from acredssp.stores.store import (
    KICK_LIFE,
    Entry,
    Grant,
    Kick,
    LockoutRule,
    Store,
    StoreError,
    key_text,
    names_of,
)

__all__ = [
    "KICK_LIFE",
    "Entry",
    "Expiring",
    "Grant",
    "Kick",
    "LockoutRule",
    "MemoryStore",
    "SealError",
    "Sealer",
    "Store",
    "StoreError",
    "key_text",
    "names_of",
    "new_keys",
]
