"""An RDP gateway: `gateway.py PORT CERTIFICATE KEY USER PASSWORD TOKEN=HOST:PORT:PIN[:USER:PASSWORD]...`.

Clients with the routing token TOKEN are logged on to that target: by its USER and PASSWORD, or by what they delegate.
"""

import asyncio
import contextlib
import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import acredssp
from acredssp import rdp


@dataclasses.dataclass
class Session:
    """Where a connection leads, and the connection to the target once there is one."""

    target: list[str] = dataclasses.field(default_factory=list, repr=False)
    leg: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def log_on(self, who: acredssp.Identity, password: acredssp.Password) -> bool | acredssp.Deny:
        """Connect to the target while the client still waits: what `authorize` or `admit` answers."""
        host, port, pin = self.target[:3]
        try:
            carriage = acredssp.RDP(request=who.request and dataclasses.replace(who.request, routing_token=None))
            config = acredssp.ClientConfig(authenticate=password, trust=acredssp.Trust.pinned(pin))
            self.leg = await acredssp.open_connection(host, int(port), config=config, carriage=carriage)
        except acredssp.AuthenticationError as error:
            return acredssp.Deny(error.nt_status or acredssp.NTSTATUS.STATUS_LOGON_FAILURE)
        except (OSError, ValueError, acredssp.CredSSPError) as error:
            print(f"{who.principal} cannot be logged on to {host}:{port}: {error}", flush=True)
            return acredssp.Deny(acredssp.NTSTATUS.STATUS_NO_LOGON_SERVERS)
        return True


async def authorize(who: acredssp.Identity) -> bool | acredssp.Deny:
    """Answer before our key is proven: until then the client can be told the target's own status."""
    session: Session = who.session
    account = session.target[3:]
    return await session.log_on(who, acredssp.Password(account[1], account[0])) if account else True


async def admit(who: acredssp.Admission) -> bool | acredssp.Deny:
    """Answer before the early user authorization result."""
    session: Session = who.session
    password = who.credentials.as_password() if isinstance(who.credentials, acredssp.TSPasswordCreds) else None
    return session.leg is not None or (password is not None and await session.log_on(who, password))


def on_handshake(report: acredssp.HandshakeReport) -> None:
    """Write the audit line. Nobody takes over the target leg of a client that was not let in."""
    print(f"{report.principal} from {report.peer_address}: {report.outcome} {report.hook} {report.error}", flush=True)
    if report.error and report.session and report.session.leg:
        report.session.leg[1].close()


async def serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    record: Callable[..., Any] = lambda *_: contextlib.nullcontext(),
) -> None:
    """Pass bytes on. Each side is told of the protocols that it has negotiated itself."""
    target_reader, target_writer = target = writer.get_extra_info("session").leg
    confirm, request = target_writer.get_extra_info("rdp_confirm"), writer.get_extra_info("rdp_request")
    with contextlib.closing(writer), contextlib.closing(target_writer), contextlib.suppress(EOFError, OSError):
        async with asyncio.timeout(30):
            first_up = rdp.rewrite_selected_protocol(await rdp.read_pdu(reader), confirm.selected_protocol)
            target_writer.write(first_up)
            first_down = rdp.rewrite_requested_protocols(await rdp.read_pdu(target_reader), request.requested_protocols)
        async with record(first_up, writer, target_writer) as recording:
            result = await acredssp.relay((reader, writer), target, first_down=first_down, recording=recording)
        print(result, flush=True)


async def main(  # noqa: PLR0913
    port: str, certificate: str, key: str, user: str, password: str, *routes: str, serve: Callable[..., Any] = serve
) -> None:
    """Serve until interrupted."""
    context = acredssp.server_context(acredssp.Policy(), certificate, key)
    known, unknown = {user: acredssp.Password(password)}, acredssp.Deny()
    config = acredssp.ServerConfig(
        ssl_context=context, lookup=lambda who: known.get(who.principal.user, unknown), authorize=authorize, admit=admit
    )
    targets = {token: target.split(":") for token, _, target in (route.partition("=") for route in routes)}

    def choose(asked: rdp.RouteRequest) -> acredssp.ServerConfig | rdp.FailureCode:
        asked.session.target = targets.get(asked.request.routing_token or "", [])
        return config if asked.session.target else rdp.FailureCode.SSL_NOT_ALLOWED_BY_SERVER

    carriage = acredssp.RDP(hybrid_ex=True, route=choose)
    server = await acredssp.start_server(
        serve, None, int(port), config=config, carriage=carriage, accept=lambda _: Session(), on_handshake=on_handshake
    )
    await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) <= 6:
        sys.exit(f"usage: {sys.argv[0]} PORT CERTIFICATE KEY USER PASSWORD TOKEN=HOST:PORT:PIN[:USER:PASSWORD]...")
    asyncio.run(main(*sys.argv[1:]))
