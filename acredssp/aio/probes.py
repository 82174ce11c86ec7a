"""Looks at a server without a logon: the check of a host's health, and of its certificate.

A gateway with several hosts asks each of them again and again whether it is up (`check_rdp`). Whoever sets one up wants
to see whether a server's certificate is trusted before there is an account for it (`judge_server`).
"""

from typing import Final

from acredssp.aio.relaying import Streams
from acredssp.aio.writing import write_if_open
from acredssp.carriage import TLS, Carriage
from acredssp.config import ClientConfig
from acredssp.core.events import JudgeCertificate
from acredssp.errors import NegotiationFailure, PeerClosed
from acredssp.rdp import ConnectionConfirm, ConnectionRequest, Protocols, read_negotiation
from acredssp.status import Stage

__all__ = ["check_rdp", "judge_server"]

_READ_SIZE: Final = 2**16
_REQUEST: Final = ConnectionRequest(requested_protocols=Protocols.SSL | Protocols.HYBRID | Protocols.HYBRID_EX).encode()


async def check_rdp(streams: Streams) -> ConnectionConfirm:
    """See whether the server of a connection speaks RDP: it must answer a Connection Request by a Connection Confirm.

    A host whose TCP port takes connections may still speak no RDP. The caller sets the time limit. The connection is of
    no further use, and is cut.

    Args:
        streams: Reader and writer of a new TCP connection.

    Returns:
        The server's answer, which selects a protocol.

    Raises:
        PeerClosed: The server has ended the connection in place of an answer.
        NegotiationFailure: The server refuses to negotiate.
        RemoteProtocolError: The answer is no Connection Confirm.
        OSError: The connection broke.
    """
    reader, writer = streams
    try:
        write_if_open(writer, _REQUEST)
        confirm = ConnectionConfirm.decode(await read_negotiation(reader))
    except EOFError:
        raise PeerClosed("it ended the connection in place of a connection confirm", stage=Stage.NEGOTIATION) from None
    finally:
        writer.transport.abort()
    if confirm.failure_code is not None:
        raise NegotiationFailure(f"it refuses to negotiate: {confirm.failure_code.name}")
    return confirm


async def judge_server(
    streams: Streams,
    config: ClientConfig,
    *,
    carriage: Carriage = TLS(),  # noqa: B008 - a frozen value
    server_hostname: str,
) -> bool:
    """See whether the server of a connection shows a certificate that the configuration trusts. Nobody logs on.

    The caller sets the time limit. The connection is of no further use, and is cut.

    Args:
        streams: Reader and writer of a new TCP connection.
        config: Whose trust counts. Its credentials are not used.
        carriage: What carries the handshake, as with `start_credssp_streams`.
        server_hostname: The name that the certificate must have, which is also sent as SNI.

    Returns:
        True; False if the configuration's policy accepts any certificate unchecked.

    Raises:
        CertificateError: The certificate is not trusted.
        CredSSPError: The negotiation or TLS fails.
        OSError: The connection broke.
    """
    reader, writer = streams
    # No KDC is asked: the mechanism begins behind the certificate's judgement.
    context = config.new_context(server_hostname=server_hostname, spn=f"TERMSRV/{server_hostname}", judge=True)
    handshake, received = carriage.initiator(context), bytearray()
    try:
        while not isinstance((result := handshake.step(received)).event, JudgeCertificate):
            del received[: len(received) - result.extra]
            write_if_open(writer, result.output)
            if not (data := await reader.read(_READ_SIZE)):
                handshake.receive_eof()
            received += data
        return config.judge(result.event.chain, server_hostname)
    finally:
        writer.transport.abort()
