"""The hosts that a gateway or a broker leads its users to: which are up, and which one the next connection gets.

A connection goes to the host that its routing token names, else to the one where its user was last, else to the one
with the fewest connections. Hosts that are down are left out. A host is up until so many checks have failed one after
another as `HealthCheck` says, and up again after one that has not. A check is a Connection Request that a Connection
Confirm answers: a host whose TCP port answers may still speak no RDP. A connection that cannot be made counts as a
failed check, too.
"""

import asyncio
import contextlib
import dataclasses
import ipaddress
import random
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol, Self

from acredssp import Account, CredSSPError
from acredssp.aio import check_rdp, reason_of
from acredssp.logs import get_logger
from acredssp.rdp import msts_address
from acredssp.stores import Expiring, key_text
from acredssp.workers import Address

__all__ = ["Counted", "Directory", "HealthCheck", "Host", "HostPool"]

_logger = get_logger("acredssp.hosts")

_MOST_USERS: Final = 20_000
"""Users of a pool whose last host is remembered in this process; those who came longest ago are forgotten first."""
_PATIENCE: Final = 5.0
"""Seconds that a directory has for an answer."""
_JITTER: Final = 0.2
"""The part of the interval by which checks come earlier or later, so that many do not come at once."""


class Directory(Protocol):
    """Where several nodes note on which host an account was last: any `acredssp.stores.Store`.

    What it raises is taken as no answer, and so is silence for five seconds.
    """

    async def stick(self, account: Account, target: str, host: str, ttl: float) -> None:
        """Note the host that an account is on, for `ttl` seconds."""

    async def host_of(self, account: Account, target: str) -> str | None:
        """Return the host that an account was on last; None for none."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How it is found out whether a host is up, by `check_rdp`.

    Attributes:
        enabled: Whether hosts are checked. Without it, hosts are down only after connections to them have failed.
        interval: Seconds between two checks of a host; each time up to a fifth more or less.
        timeout: Seconds that a host has for its answer.
        failures: How many checks must fail one after another before a host is down. One that succeeds brings it up.
    """

    enabled: bool = True
    interval: float = 10.0
    timeout: float = 5.0
    failures: int = 3


@dataclasses.dataclass(slots=True, eq=False)
class Host:
    """A host of a pool.

    Attributes:
        address: Its address.
        connections: How many connections it has from here.
        failures: How many checks have failed one after another.
        why: Why the last check failed; empty where it did not.
        ip: The IP address that it was last reached at; empty where that is not known.
    """

    address: Address
    connections: int = 0
    failures: int = 0
    why: str = ""
    ip: str = ""


class Counted:
    """A connection that counts for its host until it is closed. It is a context manager, too.

    Args:
        host: The host.
    """

    __slots__ = ("_host",)

    def __init__(self, host: Host) -> None:
        self._host: Host | None = host
        host.connections += 1

    def close(self) -> None:
        """Count it no more; harmless when that is done."""
        if self._host is not None:
            self._host.connections -= 1
            self._host = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_exc_info: object) -> None:
        """Count it no more."""
        self.close()


class HostPool:
    """Some hosts that are as good as each other, with what is known of them.

    Args:
        name: The name of the target that they are the hosts of, for the log and the directory.
        addresses: The hosts.
        tokens: Routing tokens that name a host, as a farm gives them to clients that it redirects. `Cookie: msts=`
            names its host by itself.
        sticky: Seconds for which somebody who comes again is sent to the same host; 0 for never.
        check: How it is found out whether a host is up.
        directory: What all nodes know of users; None for what this process knows.
        clock: The time in seconds.
        chance: A number from 0 to 1, each time another one.
    """

    def __init__(  # noqa: PLR0913 - all but two are named, and most callers name none
        self,
        name: str,
        addresses: Sequence[Address],
        *,
        tokens: Mapping[str, Address] = MappingProxyType({}),
        sticky: float = 86_400.0,
        check: HealthCheck = HealthCheck(),
        directory: Directory | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.directory = directory
        self._tokens = tokens
        self._sticky = sticky
        self._check = check
        self._chance = chance
        self._hosts = {address: Host(address, ip=_ip(address)) for address in addresses}
        self._users: Expiring[Address] = Expiring(clock, _MOST_USERS)
        self._claimed: Expiring[Address] = Expiring(clock, _MOST_USERS)
        """By cookies, which nobody has proven: a stranger's may push out other strangers' only."""

    @property
    def hosts(self) -> list[Host]:
        """The hosts, in the order that they were given in."""
        return [*self._hosts.values()]

    @property
    def up(self) -> list[Host]:
        """The hosts that are up, in the order that they were given in."""
        return [host for host in self._hosts.values() if self.is_up(host)]

    def is_up(self, host: Host) -> bool:
        """Whether connections are sent to a host."""
        return host.failures < self._check.failures

    def take_over(self, before: "HostPool") -> None:
        """Go on with what an older pool of the same hosts knows; connections of that pool count here, too."""
        known, self._users, self._claimed = before._hosts, before._users, before._claimed  # noqa: SLF001 - same class
        self._hosts = {address: known.get(address, host) for address, host in self._hosts.items()}

    # --- which host ---

    async def in_order(self, who: Account | str | None, token: str = "") -> list[Address]:
        """Return the hosts that are up, in the order in which a connection should try them.

        Args:
            who: Whose connection it is: an account that has logged on, a name that a client claims, or None.
            token: The client's routing token, which may name a host.
        """
        up = self.up
        if len(up) == 1:
            return [up[0].address]
        chances = {host.address: (host.connections, self._chance()) for host in up}
        addresses = sorted(chances, key=chances.__getitem__)
        first = self.named(token) or await self._last(who)
        return [first, *(each for each in addresses if each != first)] if first in chances else addresses

    def named(self, token: str) -> Address | None:
        """Return the host that a routing token names; None where it names no host of this pool.

        `Cookie: msts=` has the IP address and the port of a host. Other tokens are those of `tokens`.
        """
        if not token:
            return None
        if token in self._tokens:
            return self._tokens[token]
        named = msts_address(token)
        return next((host.address for host in self.hosts if (host.ip, host.address.port) == named), None)

    async def stick(self, who: Account | str | None, address: Address) -> None:
        """Note where somebody is connected, so that a reconnect goes there."""
        if len(self._hosts) == 1 or not self._sticky:
            return
        if isinstance(who, str):
            self._claimed.set(who.casefold(), address, self._sticky)
        elif who is not None:
            self._users.set(key_text(who), address, self._sticky)
            if self.directory is not None:
                with contextlib.suppress(Exception):  # it says itself that it is down
                    async with asyncio.timeout(_PATIENCE):
                        await self.directory.stick(who, self.name, str(address), self._sticky)

    async def _last(self, who: Account | str | None) -> Address | None:
        if who is None or len(self._hosts) == 1:
            return None
        if isinstance(who, str):
            return self._claimed.get(who.casefold())
        if self.directory is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_PATIENCE):
                    host = await self.directory.host_of(who, self.name)
                if host:
                    return next((address for address in self._hosts if str(address) == host), None)
        return self._users.get(key_text(who))

    def connection(self, address: Address) -> "Counted":
        """Count a connection to a host until the result is closed, or for as long as a block of `with` runs."""
        return Counted(self._hosts[address])

    # --- who is up ---

    def note(self, address: Address, why: str) -> None:
        """Note that a host has answered, or why it has not."""
        host = self._hosts[address]
        before = self.is_up(host)
        host.failures, host.why = (host.failures + 1, why) if why else (0, "")
        if before and not self.is_up(host):
            _logger.warning("target %s: host %s is down: %s", self.name, address, why)
        elif not before and self.is_up(host):
            _logger.info("target %s: host %s is up again", self.name, address)

    def why_none(self) -> str:
        """Say why no host can be connected to."""
        return "; ".join(f"{host.address} is down: {host.why}" for host in self.hosts if host.why)

    async def watch(self) -> None:
        """Check every host again and again, until cancelled."""
        if self._check.enabled:
            async with asyncio.TaskGroup() as group:  # none of them outlives the others
                for address in self._hosts:
                    group.create_task(self._watch(address))

    async def _watch(self, address: Address) -> None:
        while True:
            self.note(address, await self.check(address))
            jitter = 1 + _JITTER * (2 * self._chance() - 1)
            await asyncio.sleep(self._check.interval * jitter)

    async def check(self, address: Address) -> str:
        """Begin to negotiate with a host, and return why it cannot be connected to; empty where it can."""
        timeout, streams = self._check.timeout, None
        try:
            async with asyncio.timeout(timeout):
                streams = await asyncio.open_connection(address.host, address.port)
                self._hosts[address].ip = streams[1].get_extra_info("peername")[0]
                await check_rdp(streams)
        except TimeoutError:
            return f"{'rdp' if streams else 'it'} does not answer within {timeout:g} seconds"
        except OSError as error:
            return reason_of(error)
        except (CredSSPError, ValueError) as error:  # a ValueError for a name that cannot be looked up
            return str(error)
        return ""


def _ip(address: Address) -> str:
    try:
        return str(ipaddress.ip_address(address.host))
    except ValueError:
        return ""
