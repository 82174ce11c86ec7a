"""A program that logs on to a server once for each account on its command line, by our own client.

    python logons.py HOST PORT MECHANISM DOMAIN USER PASSWORD [DOMAIN USER PASSWORD ...]

It prints a JSON list with the result of each logon: null for a success, otherwise the name of the NTSTATUS.
"""

import asyncio
import json
import sys

import acredssp
from acredssp.policy import MechanismChoice


async def log_on(host, port, mechanism, domain, user, password):
    policy = acredssp.Policy(dangerous_accept_any_certificate=True, mechanism=MechanismChoice(mechanism))
    config = acredssp.ClientConfig(authenticate=acredssp.Password(password, user, domain), policy=policy)
    try:
        _, writer = await acredssp.open_connection(host, port, config=config, carriage=acredssp.RDP())
    except acredssp.AuthenticationError as error:
        return str(error.nt_status)
    writer.close()
    return None


async def main(host, port, mechanism, *accounts):
    outcomes = [
        await log_on(host, int(port), mechanism, *account) for account in zip(*[iter(accounts)] * 3, strict=True)
    ]
    print(json.dumps(outcomes))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
