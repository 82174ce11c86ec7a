"""Log on to echo_server.py and say hello: `python examples/echo_client.py PORT PIN [HOST]`."""

import asyncio
import sys

import acredssp


async def main(port: str, pin: str, host: str = "127.0.0.1") -> None:
    """Log on, send a line, and print the answer."""
    config = acredssp.ClientConfig(
        authenticate=acredssp.Password("wonderland", user="alice"),
        trust=acredssp.Trust.pinned(pin),  # without a pin, the certificate must be trusted and have the host's name
    )
    reader, writer = await acredssp.open_connection(host, int(port), config=config)
    print("logged on:", writer.get_extra_info("credssp"))
    writer.write(b"hello\n")
    print("echo:", (await reader.readline()).decode().strip())
    writer.close()
    await writer.wait_closed()


if __name__ == "__main__":
    if len(sys.argv) not in {3, 4}:
        sys.exit(f"usage: {sys.argv[0]} PORT PIN [HOST]")
    try:
        asyncio.run(main(*sys.argv[1:]))
    except (acredssp.CredSSPError, OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
