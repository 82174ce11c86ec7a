"""Logons at each kind of server: those of good clients, which are counted, and those with a wrong password."""

import asyncio
import contextlib
import dataclasses
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

import acredssp
from acredssp.aio import ClientAnswers, answer_events
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.http.initiator import ClientExchange
from acredssp.policy import MechanismChoice
from acredssp.rdp import read_pdu
from benchmarks.attackers import GOOD, HOST
from benchmarks.gateway import INITIAL
from benchmarks.peers import ALICE, NAME

__all__ = ["ERRORS", "Logons", "rate"]

SPN = f"HTTP/{NAME}"
SPNS = SPNList.of(SPN, f"TERMSRV/{NAME}", "TERMSRV/127.0.0.1")
ERRORS = (OSError, EOFError, acredssp.CredSSPError, TimeoutError)
"""What a logon may fail by."""
PATIENCE = 5.0
"""Seconds after which a good client gives a logon up."""

MOST_PATIENCE = 60.0
"""Seconds after which a slice without the logons that it waits for ends."""


@dataclasses.dataclass(frozen=True, slots=True)
class Logons:
    """Logs on at servers whose key is pinned.

    Args:
        config: Who logs on.
        context: For bare TLS.
        source: The address to come from; None for any.
    """

    config: acredssp.ClientConfig
    context: ssl.SSLContext
    source: str | None = None

    @classmethod
    def of(cls, certificate: bytes, credentials: acredssp.Password = ALICE, source: str | None = None) -> "Logons":
        pin = acredssp.pin_of(ssl.PEM_cert_to_DER_cert(certificate.decode()))
        config = acredssp.ClientConfig(
            authenticate=credentials,
            policy=acredssp.Policy(mechanism=MechanismChoice.NTLM),
            trust=acredssp.Trust.pinned(pin),
            delegation=DelegationPolicy(allow_fresh_credentials=SPNS, allow_fresh_credentials_when_ntlm_only=SPNS),
        )
        return cls(config, ssl.create_default_context(cadata=certificate.decode()), source)

    async def log_on(self, kind: str, port: int) -> None:
        """Log on at a kind of server, and leave."""
        async with asyncio.timeout(PATIENCE):
            if kind == "http":
                await self._by_http(port)
                return
            reader, writer = await self._connected(kind, port)
            try:
                if kind == "gateway":
                    writer.write(INITIAL)
                    await read_pdu(reader)  # the target's first PDU
                else:
                    await reader.read()  # the server hangs up
            finally:
                writer.close()
                with contextlib.suppress(*ERRORS):
                    await writer.wait_closed()

    async def _connected(self, kind: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        options: dict[str, Any] = {"server_hostname": NAME, "local_addr": self._local}
        if kind == "tls":
            reader, writer = await asyncio.open_connection(HOST, port, ssl=self.context, **options)
            writer.write(b"x")
            return reader, writer
        if kind == "gateway":
            options["carriage"] = acredssp.RDP(hybrid_ex=True)
        return await acredssp.open_connection(HOST, port, config=self.config, **options)

    async def _by_http(self, port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port, local_addr=self._local)
        try:
            exchange, answers = ClientExchange(self.config, NAME, spn=SPN), ClientAnswers(self.config, NAME)
            turn = await answer_events(exchange, exchange.start(), answers)
            while turn.authorization:
                head = "POST /wsman HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
                writer.write(f"{head}Authorization: {turn.authorization}\r\n\r\n".encode())
                answer = exchange.receive(*await _answer(reader))
                turn = await answer_events(exchange, answer, answers)
        finally:
            writer.transport.abort()

    @property
    def _local(self) -> tuple[str, int] | None:
        return None if self.source is None else (self.source, 0)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Read an answer, and return its status and its headers."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).rstrip(b"\r\n").split(b"\r\n")
    headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    size = next((int(value) for name, value in headers if name.lower() == b"content-length"), 0)
    await reader.readexactly(size)
    return int(first.split()[1]), headers


async def rate(log_on: Callable[[], Awaitable[None]], seconds: float, least: int = 0) -> float:
    """Return the logons a second of a few clients in a slice of time; those that have begun in it are waited for.

    Args:
        log_on: Does a logon.
        seconds: The length of the slice.
        least: How many logons the slice waits for, up to `MOST_PATIENCE`.
    """
    done, started = 0, time.perf_counter()
    last = started + MOST_PATIENCE

    async def work() -> None:
        nonlocal done
        while (now := time.perf_counter()) < started + seconds or (done < least and now < last):
            with contextlib.suppress(*ERRORS):
                await log_on()
                done += 1

    await asyncio.gather(*(work() for _ in range(GOOD)))
    return done / (time.perf_counter() - started)
