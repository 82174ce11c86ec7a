"""An echo server for clients that log on: `python examples/echo_server.py [HOST [PORT]]`, then echo_client.py."""

import asyncio
import ssl
import sys

import acredssp

# Made once: a password made in the hook would be hashed there, and the time that takes would tell which users exist.
USERS = {acredssp.Account("alice"): acredssp.Password("wonderland", "alice")}


async def lookup(request: acredssp.CredentialRequest) -> acredssp.Password | acredssp.Deny:
    """Return an account's secret, whatever the domain. A real server can await a database here."""
    return USERS.get(acredssp.Account(request.principal.user), acredssp.Deny())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one client that has logged on."""
    print("logged on:", writer.get_extra_info("credssp").principal, flush=True)
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def main(host: str = "127.0.0.1", port: str = "3390") -> None:
    """Serve until interrupted."""
    certificate, key = acredssp.self_signed([host, "localhost"], "ec")
    context = acredssp.server_context_from_pem(acredssp.Policy(), certificate, key)
    config = acredssp.ServerConfig(ssl_context=context, lookup=lookup)
    async with await acredssp.start_server(echo, host, int(port), config=config) as server:
        pin = acredssp.pin_of(ssl.PEM_cert_to_DER_cert(certificate.decode()))
        print("port", server.sockets[0].getsockname()[1], "pin", pin, flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) not in {1, 2, 3}:
        sys.exit(f"usage: {sys.argv[0]} [HOST [PORT]]")
    try:
        asyncio.run(main(*sys.argv[1:]))
    except (acredssp.CredSSPError, OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
