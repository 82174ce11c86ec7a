r"""Credentials for the targets of `acredssp proxy` from a vault that speaks HashiCorp Vault's HTTP (KV version 2).

    [targets.servers]
    credentials = "injected"
    lookup = "vault_credentials:look_up"     # with this file's folder in PYTHONPATH

The secret `rdp/TARGET` has `username` (USER or DOMAIN\USER) and `password`. VAULT_ADDR is the vault's URL, VAULT_TOKEN
the gateway's token, and VAULT_KV the path of the store, `secret` unless it is set.
"""

import asyncio
import json
import os
import urllib.error
import urllib.parse
import urllib.request

import acredssp

TIMEOUT = 5.0
NOT_FOUND = 404


def read_secret(name: str) -> dict[str, str] | None:
    """Return the fields of a secret; None where there is none. This waits for the vault, so it runs in a thread."""
    store = os.environ.get("VAULT_KV", "secret")
    url = f"{os.environ['VAULT_ADDR']}/v1/{store}/data/rdp/{urllib.parse.quote(name, safe='')}"
    request = urllib.request.Request(url, headers={"X-Vault-Token": os.environ["VAULT_TOKEN"]})  # noqa: S310 - the operator's own URL
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 - the same
            fields: dict[str, str] = json.load(answer)["data"]["data"]
            return fields
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection
            if error.code == NOT_FOUND:
                return None
            raise


async def look_up(who: acredssp.Identity, target: str) -> acredssp.Password | acredssp.Deny:  # noqa: ARG001 - by target alone
    """Return what the gateway logs on to a target with: the `lookup` of its settings."""
    secret = await asyncio.to_thread(read_secret, target)
    if secret is None:
        return acredssp.Deny(acredssp.NTSTATUS.STATUS_LOGON_NOT_GRANTED)
    domain, _, user = secret["username"].rpartition("\\")
    return acredssp.Password(secret["password"], user, domain)
