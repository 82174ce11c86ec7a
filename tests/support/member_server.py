"""A program that is a server of a domain member: Kerberos by its keytab, NTLM by winbind.

    python member_server.py HOST PORT KEYTAB

It prints a JSON object when it listens, and one for each handshake.
"""

import asyncio
import json
import sys

import acredssp


def say(**facts):
    print(json.dumps(facts), flush=True)  # noqa: T201


def tell(report):
    info, error = report.info, report.error
    say(
        result="success" if error is None else "failed",
        principal=str(report.principal),
        mechanism=info and info.mechanism,
        delegated=info and info.delegated,
        nt_status=error and error.nt_status and str(error.nt_status),
        error=error and f"{error.stage}: {error}",
    )


async def hang_up(_reader, writer):
    writer.close()


async def main(host, port, keytab):
    policy = acredssp.Policy()
    async with acredssp.WinbindOracle() as winbind:
        config = acredssp.ServerConfig(
            ssl_context=acredssp.server_context_from_pem(policy, *acredssp.self_signed([host], "ec")),
            policy=policy,
            keytab=acredssp.Keytab(keytab),
            lookup=winbind,
            identity=await winbind.identity(),
        )
        server = await acredssp.start_server(
            hang_up, host, int(port), config=config, carriage=acredssp.RDP(), on_handshake=tell
        )
        say(listening=f"{host}:{port}")
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
