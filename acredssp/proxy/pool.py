"""The hosts of a target, and which of them the next connection gets: the one with the fewest connections."""

import contextlib
from collections.abc import Iterator, Sequence

from acredssp.credentials import Account
from acredssp.proxy.settings import Address

__all__ = ["Pool"]


class Pool:
    """The addresses of a target, with the connections that each has.

    Args:
        addresses: At least one.
    """

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._connections = dict.fromkeys(addresses, 0)

    def in_order(self, account: Account) -> list[Address]:  # noqa: ARG002 - for pools that send a user back to a host
        """Return the addresses in the order in which a connection of this account should try them."""
        return sorted(self._connections, key=self._connections.__getitem__)

    @contextlib.contextmanager
    def connection(self, address: Address) -> Iterator[None]:
        """Count a connection to an address for as long as the block runs."""
        self._connections[address] += 1
        try:
            yield
        finally:
            self._connections[address] -= 1
