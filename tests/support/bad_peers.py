"""Bad peers, as coroutine functions over a plain TCP connection: clients of a server, and servers to connect to.

`CLIENTS` and `SERVERS` name them all. Each speaks the RDP negotiation first where that leads it further.
"""

import functools

from support.endpoints import server_config

from acredssp.core.tls import TLSSession
from acredssp.policy import Policy
from acredssp.tls import client_context
from acredssp.wire import early_auth
from acredssp.wire.ts_request import TSRequest
from acredssp.wire.x224 import ConnectionConfirm, ConnectionRequest, Protocols, frame_size

_CLIENT = client_context(Policy())
REQUEST = ConnectionRequest(requested_protocols=Protocols.HYBRID).encode()
CONFIRM = ConnectionConfirm(selected_protocol=Protocols.HYBRID).encode()
NEGOTIATE = b"NTLMSSP\0\1\0\0\0" + bytes.fromhex("b78208e2") + bytes(16)

WORDS = {
    "garbage": b"\x00garbage",
    "another protocol": b"GET / HTTP/1.1\r\n\r\n",
    "indefinite length": b"\x30\x80",
    "length of five bytes": b"\x30\x85\xff\xff\xff\xff\xff",
    "giant": b"\x30\x84\x7f\xff\xff\xff" + bytes(10_000),
    "beyond the limit by its header": b"\x30\x83\xff\xff\xff",
    "nothing inside": TSRequest(6).encode(),
    "version 0": TSRequest(0, nego_token=NEGOTIATE).encode(),
    "old version": TSRequest(2, nego_token=NEGOTIATE).encode(),
    "empty token": TSRequest(6, nego_token=b"").encode(),
    "token of nothing": TSRequest(6, nego_token=b"\xff" * 5000).encode(),
    "key before any logon": TSRequest(6, pub_key_auth=bytes(48)).encode(),
    "credentials in place of everything": TSRequest(6, auth_info=bytes(200)).encode(),
    "error code": TSRequest(6, error_code=0xC000006D).encode(),
    "access denied": early_auth.encode(early_auth.AuthorizationResult.ACCESS_DENIED),
    "access granted": early_auth.encode(early_auth.AuthorizationResult.SUCCESS),
}
"""What a peer may say inside TLS in place of its next TSRequest."""


# --- before TLS ---


async def leaves(_reader, writer):
    writer.transport.abort()


async def says_nothing(reader, _writer):
    await reader.read()


async def speaks_another_protocol(reader, writer):
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await reader.read()


async def announces_more_than_comes(reader, writer):
    writer.write(b"\x03\x00\xff\xff")
    writer.write_eof()
    await reader.read()


# --- TLS ---


async def hear_pdu(reader):
    """Read one PDU of the negotiation."""
    data = await reader.readexactly(4)
    await reader.readexactly(frame_size(data).missing)


async def negotiate(reader, writer, behind=b"", *, server):
    """Go through the negotiation; `behind` follows our PDU at once."""
    if server:
        await hear_pdu(reader)
    writer.write((CONFIRM if server else REQUEST) + behind)
    if not server:
        await hear_pdu(reader)


async def injects_behind_its_pdu(reader, writer, *, server):
    await negotiate(reader, writer, b"\x16\x03\x01", server=server)
    await reader.read()


async def breaks_tls(reader, writer, *, server):
    await negotiate(reader, writer, server=server)
    writer.write(b"\x16\x03\x01\x00\x05hello")
    await reader.read()


async def ends_in_front_of_tls(reader, writer, *, server):
    await negotiate(reader, writer, server=server)
    writer.write_eof()
    await reader.read()


async def shake_hands(reader, writer, *, server):
    """Bring TLS up as an honest peer does, and send all that it has to say."""
    await negotiate(reader, writer, server=server)
    context = server_config().ssl_context if server else _CLIENT
    tls = TLSSession(context, server_side=server)
    flight = await reader.read(65_536) if server else b""
    while not tls.handshake(flight):
        writer.write(tls.output())
        if not (flight := await reader.read(65_536)):
            raise ConnectionResetError("the other side left in the middle of TLS")
    writer.write(tls.output())
    return tls


# --- inside TLS ---


async def says(reader, writer, word, *, server):
    tls = await shake_hands(reader, writer, server=server)
    tls.write(word)
    writer.write(tls.output())
    await reader.read()


async def sends_crumbs(reader, writer, *, server):
    """A long TSRequest one byte a record."""
    tls = await shake_hands(reader, writer, server=server)
    for byte in b"\x30\x83\x01\xff\xf0" + bytes(2000):
        tls.write(bytes((byte,)))
        writer.write(tls.output())
    await reader.read()


async def forges_a_record(reader, writer, *, server):
    await shake_hands(reader, writer, server=server)
    writer.write(b"\x17\x03\x03\x00\x20" + bytes(32))
    await reader.read()


async def dies_in_the_middle(reader, writer, *, server):
    tls = await shake_hands(reader, writer, server=server)
    tls.write(TSRequest(6, nego_token=NEGOTIATE).encode())
    writer.write(tls.output())
    await reader.read(65_536)
    writer.transport.abort()


_PLAIN = (leaves, says_nothing, speaks_another_protocol, announces_more_than_comes)
_RDP = (
    injects_behind_its_pdu,
    breaks_tls,
    ends_in_front_of_tls,
    sends_crumbs,
    forges_a_record,
    dies_in_the_middle,
)


def _all(*, server):
    found = {each.__name__: each for each in _PLAIN}
    found |= {each.__name__: functools.partial(each, server=server) for each in _RDP}
    return found | {f"says {name}": functools.partial(says, word=word, server=server) for name, word in WORDS.items()}


CLIENTS, SERVERS = _all(server=False), _all(server=True)
