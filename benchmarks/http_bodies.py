"""Sealed bodies of CredSSP over HTTP: the CPU to seal and to open 20 MiB, over that of bare TLS for the same bytes.

All of it is in one thread and in memory, in pieces of 64 KiB as a stream has them. Both take turns, and a round's
figure is a ratio within that round.
"""

import contextlib
import dataclasses
import ssl
import time
from collections.abc import Iterator

import acredssp
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.events import SecurityContext
from acredssp.http import Opener, Sealer
from acredssp.policy import MechanismChoice
from benchmarks.harness import Row, ratios, settle
from benchmarks.peers import NAME, Engine, Setting, answerer

__all__ = ["rows"]

PIECE = bytes(64 * 1024)
RECORD = 16_384


def rows(size: int, rounds: int) -> Iterator[Row]:
    """Return the rows, from so many rounds with bodies of so many bytes; a round before them does not count."""
    setting = Setting.of(acredssp.self_signed([NAME], "rsa"), "1.3")
    measured = [_round(*_logged_on(setting), *_bare(setting), size) for _ in range(rounds + 1)][1:]
    for what in ("seal", "open"):
        yield Row(
            key=f"http.bodies.{what}",
            what=f"CPU to {what} a body of {size >> 20} MiB in pieces of 64 KiB, over plain TLS",
            figure=ratios(measured, what, f"{what}.tls"),
        )


def _logged_on(setting: Setting) -> tuple[SecurityContext, SecurityContext]:
    """Return a client's and a server's context that have logged on."""
    spn = f"HTTP/{NAME}"
    names = SPNList.of(spn)
    delegation = DelegationPolicy(allow_fresh_credentials=names, allow_fresh_credentials_when_ntlm_only=names)
    config = dataclasses.replace(setting.client_config(MechanismChoice.NTLM), delegation=delegation)
    contexts = config.new_context(server_hostname=NAME, spn=spn), setting.server_config().new_context()
    client, server = (Engine(each, answerer(config)) for each in contexts)
    flight = client.step(b"")
    while not server.done:
        reply = server.step(flight)
        flight = b"" if client.done else client.step(reply)
    return contexts


class _Bare:
    """One side of bare TLS."""

    def __init__(self, context: ssl.SSLContext, name: str | None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=name is None, server_hostname=name)

    def shake(self, data: bytes) -> bytes:
        self.incoming.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()


def _bare(setting: Setting) -> tuple[_Bare, _Bare]:
    client, server = _Bare(setting.client_context, NAME), _Bare(setting.plain_context, None)
    flight = client.shake(b"")
    while flight:
        flight = client.shake(server.shake(flight))
    return client, server


def _round(client: SecurityContext, server: SecurityContext, ours: _Bare, theirs: _Bare, size: int) -> dict[str, float]:
    """Return seconds of CPU."""
    spent: dict[str, float] = {}
    settle()
    started = time.thread_time()
    sealer = Sealer(client, size)
    sealed = [sealer.feed(PIECE) for _ in range(size // len(PIECE))]
    sealed.append(sealer.finish())
    spent["seal"] = time.thread_time() - started

    whole = memoryview(b"".join(sealed))
    pieces = [bytes(whole[start : start + len(PIECE)]) for start in range(0, len(whole), len(PIECE))]
    started = time.thread_time()
    opener = Opener(server, sealer.media_type)
    opened = sum(len(opener.feed(piece)) for piece in pieces)
    opener.finish()
    spent["open"] = time.thread_time() - started
    assert opened == size

    started = time.thread_time()
    records = [_written(ours) for _ in range(size // len(PIECE))]
    spent["seal.tls"] = time.thread_time() - started
    started = time.thread_time()
    read = sum(_read(theirs, each) for each in records)
    spent["open.tls"] = time.thread_time() - started
    assert read == size
    return spent


def _written(side: _Bare) -> bytes:
    for start in range(0, len(PIECE), RECORD):
        side.tls.write(PIECE[start : start + RECORD])
    return side.outgoing.read()


def _read(side: _Bare, records: bytes) -> int:
    side.incoming.write(records)
    size = 0
    try:
        while True:
            size += len(side.tls.read(RECORD))
    except ssl.SSLWantReadError:
        return size
