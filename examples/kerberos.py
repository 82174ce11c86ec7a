"""Log on with your Kerberos tickets and delegate one: `kinit -f`, then `python examples/kerberos.py KEYTAB [HOST]`.

The server runs in the same program, with the service's keys: KEYTAB has TERMSRV/HOST and HOST/HOST.
"""

import asyncio
import ssl
import sys

import acredssp
from acredssp.credentials import RemoteGuard
from acredssp.policy import MechanismChoice
from acredssp.wire import KerbTicketLogon, TSRemoteGuardCreds


async def main(keytab: str, host: str = "localhost") -> None:
    """Serve and log on, and print what each side knows of the logon."""
    policy = acredssp.Policy(mechanism=MechanismChoice.KERBEROS)  # NTLM is no second choice
    certificate, key = acredssp.self_signed([host])
    handed = asyncio.get_running_loop().create_future()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the delegated credentials, which can be taken only once, and print whose they are."""
        credentials = acredssp.take_credentials(writer)
        assert isinstance(credentials, TSRemoteGuardCreds)
        print("server:", writer.get_extra_info("credssp").principal, "delegated", credentials.kind)
        handed.set_result(KerbTicketLogon.decode(credentials.logon_cred.cred_buffer))
        credentials.zero()
        await reader.read()
        writer.close()

    server = await acredssp.start_server(
        connected,
        host,
        0,
        config=acredssp.ServerConfig(
            ssl_context=acredssp.server_context_from_pem(policy, certificate, key),
            keytab=acredssp.Keytab(keytab),
            policy=policy,
        ),
    )
    client = acredssp.ClientConfig(
        authenticate=acredssp.TicketCache(),  # your own tickets, as kinit left them
        delegate=RemoteGuard(),
        policy=policy,
        trust=acredssp.Trust.pinned(acredssp.pin_of(ssl.PEM_cert_to_DER_cert(certificate.decode()))),
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await acredssp.open_connection(host, port, config=client)
        ticket = (await handed).ticket_granting_ticket
        print("client:", writer.get_extra_info("credssp").mechanism, "to", host)
        print("ticket:", len(ticket), "bytes, sealed for the host")
        writer.close()
        await writer.wait_closed()


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit(f"usage: {sys.argv[0]} KEYTAB [HOST]")
    try:
        asyncio.run(main(*sys.argv[1:]))
    except (acredssp.CredSSPError, OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
