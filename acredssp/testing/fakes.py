"""A server and a client that behave: acredssp's own, in threads, for tests of the other side."""

import asyncio
import contextlib
import dataclasses
import queue
import threading
from types import TracebackType
from typing import Self

import acredssp
from acredssp.config import ServerConfig
from acredssp.credentials import Deny, Keytab, LookupAnswer, Password
from acredssp.hooks import CredentialRequest
from acredssp.policy import MechanismChoice, Policy

__all__ = ["FakeServer", "log_on"]

_PATIENCE = 60.0
"""Seconds until a thread that says nothing is taken for one that hangs."""


class FakeServer:
    """A server of acredssp in a thread, which lets one account in, while its block runs.

    Args:
        account: The account.
        rdp: Whether it negotiates as RDP does before TLS.
        policy: Its policy; None for the usual one.
        keytab: The service's keys, so that it takes Kerberos, too; None for NTLM alone.

    Attributes:
        port: The port on 127.0.0.1, once the block has begun.
        reports: A report of each handshake that has ended.
        credentials: What each client delegated that was let in.
    """

    def __init__(
        self, account: Password, *, rdp: bool = True, policy: Policy | None = None, keytab: Keytab | None = None
    ) -> None:
        self.port = 0
        self.reports: queue.SimpleQueue[acredssp.HandshakeReport] = queue.SimpleQueue()
        self.credentials: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._account = account
        self._carriage = acredssp.RDP() if rdp else acredssp.TLS()
        policy = policy or Policy()
        certificate = acredssp.self_signed(["localhost", "127.0.0.1"])
        context = acredssp.server_context_from_pem(policy, *certificate)
        self._config = ServerConfig(ssl_context=context, lookup=self._lookup, keytab=keytab, policy=policy)
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._done: asyncio.Event

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._up.wait(_PATIENCE):
            raise RuntimeError("the server does not begin")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(_PATIENCE)

    def _lookup(self, request: CredentialRequest) -> LookupAnswer:
        known = (self._account.user, self._account.domain)
        return self._account if (request.principal.user, request.principal.domain) == known else Deny()

    async def _serve(self) -> None:
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        server = await acredssp.start_server(
            self._hang_up,
            "127.0.0.1",
            0,
            config=self._config,
            carriage=self._carriage,
            on_handshake=self.reports.put,
        )
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        await self._done.wait()
        server.close()
        server.abort_clients()
        await server.wait_closed()

    async def _hang_up(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.credentials.put(acredssp.take_credentials(writer))
        writer.close()
        with contextlib.suppress(acredssp.CredSSPError):  # the client has left already
            await writer.wait_closed()


def log_on(  # noqa: PLR0913 - each is a fact of its own
    host: str,
    port: int,
    account: Password,
    *,
    rdp: bool = True,
    policy: Policy | None = None,
    spn: str | None = None,
) -> None:
    """Log on with acredssp's client, to any certificate, and close the connection.

    Args:
        host: The server's host.
        port: Its port.
        account: The account.
        rdp: Whether to negotiate as RDP does before TLS.
        policy: The client's policy; None for the usual one with NTLM alone.
        spn: The server's principal, for Kerberos; None for the one that follows from the host.

    Raises:
        CredSSPError: The logon failed.
    """
    policy = policy or Policy(mechanism=MechanismChoice.NTLM)
    policy = dataclasses.replace(policy, dangerous_accept_any_certificate=True)
    config = acredssp.ClientConfig(authenticate=account, policy=policy)

    async def main() -> None:
        _, writer = await acredssp.open_connection(
            host, port, config=config, carriage=acredssp.RDP() if rdp else acredssp.TLS(), spn=spn
        )
        writer.close()
        await writer.wait_closed()

    asyncio.run(main())
