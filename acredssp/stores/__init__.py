"""What the nodes of a gateway share: tokens, lockouts, who is on which node and target, and kicks.

`Store` is the interface. `MemoryStore` keeps everything in one process. `acredssp.stores.redis.RedisStore` keeps it in
a Redis or Valkey, sealed by a `Sealer`, for several processes and nodes; it needs redis-py, which the extra `gateway`
brings. On top of either, `issue_token` and the like handle the tokens of a broker, a `LogonAttempt` counts wrong
passwords, and a `Node` keeps the directory and hears kicks. `acredssp proxy` uses all of them, and so can a gateway of
your own (docs/gateway.md).
"""

from acredssp.stores.attempts import LockedOut, LogonAttempt
from acredssp.stores.memory import Expiring, MemoryStore
from acredssp.stores.node import Node
from acredssp.stores.sealing import Sealer, SealError, new_keys
from acredssp.stores.store import (
    KICK_LIFE,
    Entry,
    Grant,
    Kick,
    LockoutRule,
    Store,
    StoreError,
    entries_of,
    key_text,
    names_of,
)
from acredssp.stores.tokens import TokenRefused, find_token, is_token, issue_token, redeem_token

__all__ = [
    "KICK_LIFE",
    "Entry",
    "Expiring",
    "Grant",
    "Kick",
    "LockedOut",
    "LockoutRule",
    "LogonAttempt",
    "MemoryStore",
    "Node",
    "SealError",
    "Sealer",
    "Store",
    "StoreError",
    "TokenRefused",
    "entries_of",
    "find_token",
    "is_token",
    "issue_token",
    "key_text",
    "names_of",
    "new_keys",
    "redeem_token",
]
