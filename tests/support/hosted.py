"""An acredssp server beside the test, in a thread with an event loop of its own, for peers that are programs.

For what the command `acredssp serve` has no option for: a hook that refuses, the TLS secrets, the versions of TLS.
"""

import asyncio
import queue
import threading

import pytest
from support.peers import DEADLINE, free_port

import acredssp

NT_HASH = bytes.fromhex("fc525c9683e8fe067095ba2ddc971889")
"""Of `Passw0rd!`."""
SCRIPTS = ("გიორგი", "Νίκος", "yıldız", "straße", "юзер", "µser", "\U00010428")
"""Users of CONTOSO, with the same password, whose names Windows and Unicode put into upper case differently, or not."""
ACCOUNTS = {
    acredssp.Account("alice", "CONTOSO"): acredssp.Password("Passw0rd!"),
    acredssp.Account("carol", "CONTOSO"): acredssp.NTHash(NT_HASH),
    acredssp.Account("alice", "ACREDSSP.TEST"): acredssp.Password("Passw0rd!"),
    acredssp.Account("bob"): acredssp.Password("bobpw"),
    acredssp.Account("bob@contoso.com"): acredssp.Password("bobpw"),
} | {acredssp.Account(name, "CONTOSO"): acredssp.NTHash(NT_HASH) for name in SCRIPTS}


def look_up(request):
    return ACCOUNTS.get(request.principal.account, acredssp.Deny())


class HostedServer:
    """A server that runs while its block runs. `report()` and `delegated()` return the results of its handshakes.

    Args:
        config: A `ServerConfig`.
        carriage: What is around CredSSP.
    """

    def __init__(self, config, carriage):
        self.port = free_port()
        self._config, self._carriage = config, carriage
        self._reports, self._delegated, self._up = queue.SimpleQueue(), queue.SimpleQueue(), threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def report(self):
        """The report of the next handshake that has ended, waited for."""
        return _next(self._reports, "no handshake has ended")

    def delegated(self):
        """The credentials of the next handshake that has succeeded, waited for."""
        return _next(self._delegated, "no handshake has succeeded")

    async def _serve(self):
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        server = await acredssp.start_server(
            self._hang_up,
            "127.0.0.1",
            self.port,
            config=self._config,
            carriage=self._carriage,
            on_handshake=self._reports.put,
        )
        self._up.set()
        await self._done.wait()
        server.close()
        server.abort_clients()
        await server.wait_closed()

    def __enter__(self):
        self._thread.start()
        assert self._up.wait(DEADLINE)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()

    async def _hang_up(self, _reader, writer):
        """Close the connection, since there is no desktop behind the logon."""
        self._delegated.put(writer.transport.take_credentials())
        writer.close()
        await writer.wait_closed()


def _next(items, missing):
    try:
        return items.get(timeout=DEADLINE)
    except queue.Empty:
        pytest.fail(missing)
