"""The links that the figures over loopback compare: each connects two application protocols by TLS or CredSSP.

All links share one certificate, its two contexts of `ssl`, and one backlog. Both ends are in one event loop.
"""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Protocol

import acredssp
from acredssp.policy import MechanismChoice
from benchmarks.peers import NAME, Setting

HOST = "127.0.0.1"
BACKLOG = 4096
"""The kernel reduces the backlog to its own limit (net.core.somaxconn)."""
PATIENCE = 600.0
"""The most seconds for a handshake: thousands at once take long on a machine that does other work."""

Factory = Callable[[], asyncio.BaseProtocol]


class Link(Protocol):
    """Listens and connects."""

    async def listen(self, factory: Factory) -> asyncio.AbstractServer: ...

    async def connect(self, factory: Factory, port: int) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connect; return once the handshake is done."""


@dataclasses.dataclass(frozen=True, slots=True)
class LoopTLS:
    """The loop's own `ssl=`."""

    setting: Setting

    async def listen(self, factory: Factory) -> asyncio.AbstractServer:
        loop = asyncio.get_running_loop()
        return await loop.create_server(factory, HOST, 0, ssl=self.setting.server_context, backlog=BACKLOG)

    async def connect(self, factory: Factory, port: int) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        loop = asyncio.get_running_loop()
        return await loop.create_connection(factory, HOST, port, ssl=self.setting.client_context, server_hostname=NAME)


@dataclasses.dataclass(frozen=True, slots=True)
class Acredssp:
    """acredssp's `create_server` and `create_connection`, SPNEGO."""

    client: acredssp.ClientConfig
    server: acredssp.ServerConfig

    @classmethod
    def of(cls, setting: Setting) -> "Acredssp":
        return cls(setting.client_config(MechanismChoice.NEGOTIATE), setting.server_config())

    async def listen(self, factory: Factory) -> asyncio.AbstractServer:
        return await acredssp.create_server(factory, HOST, 0, config=self.server, backlog=BACKLOG)

    async def connect(self, factory: Factory, port: int) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        return await acredssp.create_connection(factory, HOST, port, config=self.client, server_hostname=NAME)


@dataclasses.dataclass(frozen=True, slots=True)
class TCP:
    """TCP alone, without TLS or CredSSP."""

    async def listen(self, factory: Factory) -> asyncio.AbstractServer:
        return await asyncio.get_running_loop().create_server(factory, HOST, 0, backlog=BACKLOG)

    async def connect(self, factory: Factory, port: int) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        return await asyncio.get_running_loop().create_connection(factory, HOST, port)


serving: set[asyncio.Task[None]] = set()
"""The running tasks of the servers' ends. A storm is over when all of them are."""


def keep(task: asyncio.Task[None]) -> None:
    """Keep a task in `serving` until it is done."""
    serving.add(task)
    task.add_done_callback(serving.discard)


def port_of(server: asyncio.AbstractServer) -> int:
    return server.sockets[0].getsockname()[1]
