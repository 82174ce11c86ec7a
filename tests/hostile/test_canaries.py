"""No canary is seen on any path: at every `await` of what the package offers, and in every exception from there.

`tests/test_secrets.py` looks at handshakes that end in each way. Here whole programs run: connections, streams, SSPI,
HTTP, WinRM, gateways and stores (`support.scenarios`).
"""

import asyncio
import contextlib

import pytest
from support.canaries import Canaries, Files, Looker, Records, objects_of_ours, taps, texts_of_records
from support.cancelling import _idle, _run
from support.endpoints import BOB, KEY, PASSWORD
from support.gateway import ALICE
from support.kerberos import ALICE as KERBEROS_ALICE
from support.scenarios import SCENARIOS
from support.stores import PASSWORD as STORE_PASSWORD

from acredssp import Password
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


LOOKED_AT = ("connect and accept, TLS",)


@pytest.mark.parametrize("name", LOOKED_AT)
def test_no_canary_is_seen_at_any_point(name, figure):
    looked_at(SCENARIOS[name], figure, name)
