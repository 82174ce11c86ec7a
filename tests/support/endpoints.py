"""Both ends of a connection for tests of aio: transports in memory, configurations, and protocols that take notes.

A memory transport delivers one piece in each turn of the loop, cut where the test says. TCP does nothing worse, and the
pieces are the same on every run.
"""

import asyncio
import collections
import dataclasses
import functools
import itertools
import socket
import ssl

from acredssp.aio.answers import ClientAnswers, ServerAnswers
from acredssp.aio.buffers import shared_buffers
from acredssp.aio.driver import establish
from acredssp.aio.protocol import CredSSPProtocol
from acredssp.aio.transport import SecureTransport
from acredssp.carriage.base import TLS
from acredssp.config import ClientConfig, ServerConfig
from acredssp.credentials import Password
from acredssp.policy import Policy
from acredssp.tls_config import self_signed, server_context_from_pem
from acredssp.trust import Trust, pin_of

TLS_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
PASSWORD = "Pässw0rd"
BOB = Password(PASSWORD, "bob", "CONTOSO")
CERTIFICATE, KEY = self_signed(["localhost", "127.0.0.1"], "ec")
PIN = pin_of(ssl.PEM_cert_to_DER_cert(CERTIFICATE.decode()))
SPN = "TERMSRV/localhost"
TURNS_AT_ONCE = 100
"""Turns of the loop after which `until` gives the processor to others."""


def client_config(policy=None, *, authenticate=BOB, **changes):
    policy = policy or Policy()
    trust = None if policy.dangerous_accept_any_certificate else Trust.pinned(PIN)
    return ClientConfig(**{"authenticate": authenticate, "policy": policy, "trust": trust} | changes)


def tls_policy(version, **changes):
    return Policy(min_tls=TLS_VERSIONS[version], max_tls=TLS_VERSIONS[version], **changes)


# Made at import, since making a context writes a file, which no test may do on its loop.
_CONTEXTS = {
    (policy.min_tls, policy.max_tls): server_context_from_pem(policy, CERTIFICATE, KEY)
    for policy in (Policy(), tls_policy("TLSv1.2"), tls_policy("TLSv1.3"))
}


def server_config(policy=None, *, lookup=lambda _request: Password(PASSWORD), **changes):
    policy = policy or Policy()
    context = _CONTEXTS[policy.min_tls, policy.max_tls]
    return ServerConfig(**{"ssl_context": context, "lookup": lookup, "policy": policy} | changes)


class PanicError(BaseException):
    """As an extension in Rust raises it: no Exception."""


class MemoryTransport(asyncio.Transport):
    """One end of a connection in memory, for a `BufferedProtocol`.

    Args:
        sizes: The sizes of the pieces that arrive here; the last one stands for all that follow. None: as they were
            written.
    """

    def __init__(self, sizes=None):
        super().__init__({"peername": ("memory", 3389)})
        self.loop = asyncio.get_running_loop()
        self.sizes = collections.deque(sizes or ())
        self.inbox = collections.deque()
        self.written = []
        self.limits = (16384, 65536)
        self.closing = self.paused = self.peer_ended = self.scheduled = False

    def connect(self, protocol, peer):
        self.protocol, self.peer = protocol, peer
        protocol.connection_made(self)

    # asyncio's methods

    def set_protocol(self, protocol):
        self.protocol = protocol

    def get_protocol(self):
        return self.protocol

    def is_closing(self):
        return self.closing

    def is_reading(self):
        return not self.paused

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False
        self.schedule()

    def set_write_buffer_limits(self, high=None, low=None):
        self.limits = (low, high)

    def get_write_buffer_limits(self):
        return self.limits

    def get_write_buffer_size(self):
        return 0

    def write(self, data):
        assert not self.closing, "written to a transport that was closed"
        if data:
            self.written.append(bytes(data))
            self.peer.arrive(data)

    def close(self):
        if not self.closing:
            self.closing = True
            self.peer.end()
            self.loop.call_soon(self.protocol.connection_lost, None)

    abort = close

    # the network

    def arrive(self, data):
        if self.sizes and self.inbox:
            self.inbox[-1] += bytes(data)
        else:
            self.inbox.append(bytearray(data))
        self.schedule()

    def end(self):
        self.peer_ended = True
        self.schedule()

    def reset(self):
        """Break the network; both ends learn of it at once."""
        for transport in self, self.peer:
            if not transport.closing:
                transport.closing = True
                self.loop.call_soon(transport.protocol.connection_lost, ConnectionResetError("reset"))

    def schedule(self):
        if not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.deliver)

    def deliver(self):
        self.scheduled = False
        if self.closing or self.paused:
            return
        if self.inbox:
            self.deliver_piece()
            self.schedule()
        elif self.peer_ended:
            self.peer_ended = False
            self.protocol.eof_received()

    def deliver_piece(self):
        buffer = self.protocol.get_buffer(-1)
        head = self.inbox[0]
        size = self.sizes.popleft() if len(self.sizes) > 1 else self.sizes[0] if self.sizes else len(head)
        piece = head[: min(size, len(buffer))]
        del head[: len(piece)]
        if not head:
            self.inbox.popleft()
        buffer[: len(piece)] = piece
        self.protocol.buffer_updated(len(piece))


def memory_pair(client_sizes=None, server_sizes=None):
    """Two connected `CredSSPProtocol`s over memory: client, server."""
    client, server = CredSSPProtocol(), CredSSPProtocol()
    ours, theirs = MemoryTransport(client_sizes), MemoryTransport(server_sizes)
    ours.connect(client, theirs)
    theirs.connect(server, ours)
    return client, server


async def socket_pair():
    """Two connected `CredSSPProtocol`s over a pair of sockets: client, server."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    connected = [await loop.connect_accepted_socket(CredSSPProtocol, end) for end in (ours, theirs)]
    return [protocol for _, protocol in connected]


@dataclasses.dataclass
class Side:
    """One side of a handshake, ready to be driven."""

    protocol: CredSSPProtocol
    carried: object
    answers: object
    deadline: float

    def establish(self):
        return establish(self.protocol, self.carried, self.answers, self.deadline)

    def secure(self, app):
        transport = SecureTransport(self.protocol, self.carried, self.carried.context.info)
        transport.start(app)
        return transport


def client_side(protocol, config=None, carriage=TLS(), *, timeout=30.0, name="localhost"):  # noqa: B008
    config = config or client_config()
    carried = carriage.initiator(config.new_context(server_hostname=name, spn=SPN, bios=shared_buffers().bios))
    return Side(protocol, carried, ClientAnswers(config, name), asyncio.get_running_loop().time() + timeout)


def server_side(protocol, config=None, carriage=TLS(), *, timeout=30.0):  # noqa: B008
    config = config or server_config()
    carried = carriage.acceptor(config, functools.partial(ServerConfig.new_context, bios=shared_buffers().bios))
    deadline = asyncio.get_running_loop().time() + timeout
    address = protocol.transport.get_extra_info("peername")
    return Side(protocol, carried, ServerAnswers(config, carried, address, deadline), deadline)


async def both(client, server):
    """Drive both sides; return for each its result, or the exception that it raised."""
    return await asyncio.gather(client.establish(), server.establish(), return_exceptions=True)


class Noting:
    """Notes everything that an application is told of its connection."""

    def __init__(self, *, keep_open=False):
        self.keep_open = keep_open
        self.data = bytearray()
        self.told = []
        self.transport = None
        self.lost = asyncio.get_running_loop().create_future()
        self.changed = asyncio.Event()

    def note(self, what):
        self.told.append(what)
        self.changed.set()

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def eof_received(self):
        self.note("eof")
        return self.keep_open

    def connection_lost(self, exc):
        self.note("lost")
        self.lost.set_result(exc)

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")

    async def until(self, condition):
        """Wait until `condition()` holds; the condition is checked after each note."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    async def got(self, size):
        """Wait for `size` bytes; return all bytes that have come."""
        await self.until(lambda: len(self.data) >= size)
        return bytes(self.data)

    @property
    def story(self):
        """The notes, without repetitions."""
        return [what for what, before in zip(self.told, [None, *self.told], strict=False) if what != before]


class Recorder(Noting, asyncio.Protocol):
    """An application that notes what it is told, in order.

    Args:
        keep_open: What `eof_received` answers.
    """

    def data_received(self, data):
        assert data
        self.data += data
        self.note("data")


class BufferedRecorder(Noting, asyncio.BufferedProtocol):
    """A recording application with a buffer of its own, of `size` bytes."""

    def __init__(self, *, keep_open=False, size=100):
        super().__init__(keep_open=keep_open)
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint):
        assert sizehint > 0
        return self.buffer

    def buffer_updated(self, nbytes):
        self.data += self.buffer[:nbytes]
        self.note("data")


async def secure_pair(client_app=None, server_app=None, version="TLSv1.3", pair=None):
    """Two applications over an established handshake: the recorders of client and server."""
    client, server = pair or memory_pair()
    sides = (
        client_side(client, client_config(tls_policy(version))),
        server_side(server, server_config(tls_policy(version))),
    )
    facts = await both(*sides)
    assert [fact.version for fact in facts] == [6, 6]
    apps = client_app or Recorder(), server_app or Recorder()
    for side, app in zip(sides, apps, strict=True):
        side.secure(app)
    return apps


class Deadlines:
    """Lets the test end the handshakes that have `FAR` seconds, however slow the machine is. Other deadlines stay."""

    FAR = 3600.0

    def __init__(self, monkeypatch):
        self.limits, self._timeout_at = [], asyncio.timeout_at
        monkeypatch.setattr(asyncio, "timeout_at", self._noting)

    def _noting(self, when):
        limit = self._timeout_at(when)
        if when > asyncio.get_running_loop().time() + self.FAR / 2:
            self.limits.append(limit)
        return limit

    def come(self):
        """End the time of the only such handshake now."""
        (limit,) = self.limits
        limit.reschedule(asyncio.get_running_loop().time())


async def turns(count=1):
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition):
    """Let the loop turn until `condition()` holds, for facts that no callback tells.

    After some turns each is a millisecond: what takes longer waits for a clock or a peer, which needs the processor.
    """
    for turn in itertools.count():
        if condition():
            return
        await asyncio.sleep(0 if turn < TURNS_AT_ONCE else 0.001)
