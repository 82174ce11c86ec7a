"""One end of a conversation over TCP, whose bytes are changed on their way: a peer of the gateway that misbehaves.

An end is a whole client or server of our own (`support.engine.End`). Everything it says and hears is honest but for
what `say` and `hear` make of it, so that the other side can be led to any stage and lied to there.
"""

import dataclasses

from support.endpoints import server_config
from support.engine import End, answers_of

import acredssp
from acredssp import RDP, ClientConfig, Policy
from acredssp.core.events import LookupCredential
from acredssp.errors import CredSSPError

HOWS = {
    "flip": lambda byte: bytes([byte ^ 0x15]),
    "cut": lambda byte: b"",
    "insert": lambda byte: bytes([0x03, byte]),
}
"""What may happen to one byte. After `cut`, nothing follows."""


@dataclasses.dataclass
class Change:
    """Changes the byte at one place of a stream, which comes in pieces of any size.

    Args:
        at: The place.
        how: A name of `HOWS`.
    """

    at: int
    how: str
    passed: int = 0
    """How many bytes have come by."""
    done: bool = False
    protected: bool = True
    """Whether something of the logon vouches for the byte: the negotiation and the version of a record are free."""

    def __call__(self, data):
        if self.done:
            return b"" if self.how == "cut" else data
        at, negotiates = self.at - self.passed, not self.passed
        self.passed += len(data)
        if at >= len(data):
            return data
        self.done = True
        self.protected = not negotiates and not _is_version(data, at)
        return data[:at] + HOWS[self.how](data[at]) + (b"" if self.how == "cut" else data[at + 1 :])


def _is_version(data, at):
    """Whether the byte is of the version in front of a record in clear, which TLS 1.3 has everybody pass over."""
    start = 0
    while start < at:
        if data[start] in {0x14, 0x16} and start < at <= start + 2:
            return True
        start += 5 + int.from_bytes(data[start + 3 : start + 5], "big")
    return False


def client_end(authenticate, cookie, **options):
    """A client that takes any certificate."""
    policy = Policy(dangerous_accept_any_certificate=True)
    config = ClientConfig(
        authenticate=authenticate,
        policy=policy,
        delegation=acredssp.delegation.DelegationPolicy(),
        **options,
    )
    context = config.new_context(server_hostname="localhost", spn="TERMSRV/localhost")
    return End(RDP(hybrid_ex=True, cookie=cookie).initiator(context), answers_of(config))


def server_end(lookup):
    """A server with the certificate that the gateway's settings pin, whose users all have one secret."""
    config = server_config(lookup=lambda _: lookup)
    return End(
        RDP(hybrid_ex=True).acceptor(config), lambda event: lookup if isinstance(event, LookupCredential) else True
    )


async def act(end, reader, writer, first=b"", *, say=bytes, hear=bytes):
    """Lead the end's side of a conversation; return whether the end has come through.

    Args:
        end: The end.
        reader: What it hears.
        writer: What it speaks to.
        first: What it has heard already.
        say: What is made of what it says.
        hear: What is made of what it hears.
    """
    heard = first
    try:
        while True:
            said = end.step(hear(heard)) if heard or end.calls == 0 else b""
            writer.write(say(said))
            if end.done:
                return True
            if is_over(say):
                return False
            if not (heard := await reader.read(65_536)):
                end.context.receive_eof()
            if is_over(hear):
                return False
    except CredSSPError:
        writer.write(say(end.context.farewell))
        return False


async def come_up(session, reader, writer, flight=b""):
    """Complete a TLS handshake over streams; EOFError if the other side ends first.

    Args:
        session: A `TLSSession`.
        reader: What it hears.
        writer: What it speaks to.
        flight: What it has heard already.
    """
    while not session.handshake(flight):
        writer.write(session.output())
        if not (flight := await reader.read(65_536)):
            raise EOFError
    writer.write(session.output())


def is_over(change):
    """Whether a stream has been cut."""
    return isinstance(change, Change) and change.done and change.how == "cut"
