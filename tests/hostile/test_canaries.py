"""No canary is seen on any path: at every `await` of what the package offers, and in every exception from there.

`tests/test_secrets.py` looks at handshakes that end in each way. Here whole programs run: connections, streams, SSPI,
HTTP, WinRM, gateways and stores (`support.scenarios`).
"""

import asyncio
import contextlib
import functools
import logging
import tempfile

import pytest
from support import scenarios
from support.canaries import Canaries, Files, Looker, Records, objects_of_ours, taps, texts_of_records
from support.cancelling import _idle, _run
from support.endpoints import BOB, KEY, PASSWORD, client_config, server_config
from support.gateway import ALICE
from support.kerberos import ALICE as KERBEROS_ALICE
from support.kerberos import SPN
from support.scenarios import IN_FOLDERS, SCENARIOS, connecting
from support.stores import PASSWORD as STORE_PASSWORD
from support.wsman_toy import Toy as WSManToy

from acredssp import Keytab, NTHash, Password, Policy
from acredssp.credentials import RemoteGuard, SmartCard
from acredssp.delegation import DelegationPolicy
from acredssp.winrm import CommandShell, WSMan
from acredssp.wire import TSRemoteGuardCreds, TSRemoteGuardPackageCred
from acredssp.wire.ts_credentials import UnicodeString

pytestmark = [
    pytest.mark.requirement("defect.secrets-in-logs"),
    pytest.mark.interpreted_only("the compiled engine has no frames, and the same reprs"),
]

PIN = "7391-C4n4ry"
INPUT = "C4n4ry-of-the-input"
PACKAGE = b"P4ck4g3-C4n4ry\x00\xff"
GUARD = TSRemoteGuardCreds(TSRemoteGuardPackageCred(UnicodeString("NTLM"), PACKAGE), ())


def private_key():
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    return load_pem_private_key(KEY, None).private_numbers().private_value.to_bytes(32, "big")


def canaries():
    """The secrets of all scenarios."""
    return Canaries(
        password=PASSWORD, nt_hash=BOB.nt_hash, password_of_alice=ALICE.password, nt_hash_of_alice=ALICE.nt_hash,
        injected="server's".encode("utf-16-le"), nt_hash_of_injected=Password("server's").nt_hash, pin=PIN, input=INPUT,
        package=PACKAGE, kerberos=KERBEROS_ALICE.password, private_key=private_key(), pem=KEY.splitlines()[1],
        store=STORE_PASSWORD, winbind="Passw0rd!",
    )  # fmt: skip


@contextlib.asynccontextmanager
async def giving_input():
    """A command of WinRM, with secrets in its words and its input."""

    async def reads(process):
        process.write("stdout", (await process.stdin.get())[::-1])
        return 0

    toy = WSManToy({"reads": reads})

    async def post(envelope):
        await asyncio.sleep(0)
        return await toy.post(envelope)

    wsman = WSMan(post, "http://toy:5985/wsman", first_delay=0)

    async def run():
        async with await CommandShell.open(wsman, environment={"KEY": INPUT}) as shell:
            await shell.run("reads", INPUT, input=INPUT.encode())

    try:
        yield run, dict
    finally:
        await toy.aclose()


def delegating(credentials):
    config = server_config(**scenarios.hooks())
    return connecting(client=client_config(delegate=credentials, delegation=DelegationPolicy()), config=config)


MORE = {
    "an nt hash": lambda: connecting(client=client_config(authenticate=NTHash(BOB.nt_hash, "bob", "CONTOSO"))),
    "a smart card delegated": functools.partial(delegating, SmartCard(PIN, "bob", card_name="card")),
    "credentials of Remote Guard delegated": functools.partial(delegating, GUARD),
    "a command of WinRM with input": giving_input,
}


def looked_at(scenario, figure, name):
    """Run a scenario with a look at every point, and once more for each point with a cancellation there."""
    texts, looks, errors = {}, 0, 0
    known = {id(each) for each in objects_of_ours()}

    async def everywhere():
        nonlocal looks, errors
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0
        loop.set_exception_handler(lambda _loop, context: None)
        async with scenario() as (run, _):
            first = Looker(texts, known)
            await _run(run, first, ())
            points = list(dict.fromkeys(first.seen))
            for looker in [first, *(Looker(texts, known, point) for point in points)]:
                if looker is not first:
                    with contextlib.suppress(Exception):  # of the other side, and of what comes behind
                        await _run(run, looker, ())
                await _idle()
                looks, errors = looks + looker.looks, errors + looker.errors
            loop.set_task_factory(None)

    with taps(canaries()) as secrets, Records() as log, Files() as files:
        asyncio.run(everywhere())
    records = [(where, text) for text, where in {text: where for where, text in texts_of_records(log.records)}.items()]
    written = [*files.texts()]
    read = [(where, text) for text, where in texts.items()]
    found = {(where, leak) for where, text in [*read, *records, *written] for leak in secrets.leaks(text)}
    assert not found
    assert looks
    assert errors
    assert any("Executing <" in text for _, text in records), "asyncio's debug log was read"
    figure(
        "secrets", name, secrets=len(secrets.secrets), looks=looks, exceptions=errors, texts=len(read) + len(records),
        found=0,
    )  # fmt: skip


@pytest.mark.parametrize("name", [*SCENARIOS, *MORE])
def test_no_canary_is_seen_at_any_point(name, figure):
    looked_at((SCENARIOS | MORE)[name], figure, name)


@pytest.mark.parametrize("name", IN_FOLDERS)
def test_no_canary_is_seen_at_any_point_of_what_needs_files(name, tmp_path, figure):
    looked_at(lambda: IN_FOLDERS[name](tmp_path), figure, name)


@pytest.mark.parametrize("delegate", [None, RemoteGuard()], ids=["password", "remote guard"])
def test_no_canary_of_kerberos_is_seen_at_any_point(delegate, kerberos, figure):
    policy = Policy(mechanism="kerberos")
    server = server_config(policy, lookup=None, keytab=Keytab(str(kerberos.keytab)))
    more = {"delegate": delegate} if delegate else {}
    client = client_config(policy, authenticate=KERBEROS_ALICE, **more)
    names = {"server_hostname": "localhost", "spn": SPN}
    scenario = functools.partial(connecting, config=server, client=client, names=names)
    looked_at(scenario, figure, f"connect and accept, Kerberos, {'remote guard' if delegate else 'a password'}")


# --- the canaries sing ---


class Leaky:
    """An object of the package that shows a secret while a task waits."""

    def __init__(self, secret):
        self.secret = secret

    def __repr__(self):
        return f"<Leaky {self.secret}>"


Leaky.__module__ = "acredssp.leaky"


@contextlib.asynccontextmanager
async def leaking(what):
    """A connection beside which something shows a password."""
    async with connecting() as (run, held):

        async def leaks():
            if what == "object":
                kept = Leaky(PASSWORD)
                await run()
                del kept
            elif what == "log":
                logging.getLogger("somebody").debug("key %s", BOB.nt_hash.hex())
                await run()
            else:
                with tempfile.NamedTemporaryFile() as file:
                    file.write(PASSWORD.encode("utf-16-le"))
                    file.flush()
                    await run()
                    file.flush()

        yield leaks, held


@pytest.mark.parametrize("what", ["object", "log", "file"])
def test_a_leak_is_found(what, figure):
    with pytest.raises(AssertionError):
        looked_at(functools.partial(leaking, what), figure, "nothing")
