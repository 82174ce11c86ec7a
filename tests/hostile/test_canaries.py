"""No canary is seen on any path: at every `await` of what the package offers, and in every exception from there.

`tests/test_secrets.py` looks at handshakes that end in each way. Here whole programs run: connections, streams, SSPI,
HTTP, WinRM, gateways and stores (`support.scenarios`).
"""

import asyncio
import contextlib
import re

import pytest
from support.canaries import Canaries, Files, Looker, Records, objects_of_ours, taps, texts_of_records
from support.cancelling import PACKAGE as OURS
from support.cancelling import _run
from support.endpoints import BOB, KEY, PASSWORD, client_config, server_config
from support.gateway import ALICE, INJECTED
from support.kerberos import ALICE as KERBEROS_ALICE
from support.kerberos import SPN
from support.scenarios import API_SECRET, IN_FOLDERS, INPUT, PAGES, SCENARIOS, connecting, through_a_gateway
from support.security_figures import rows_of
from support.stores import PASSWORD as STORE_PASSWORD

from acredssp import Keytab, Password, Policy
from acredssp.wire import TSRemoteGuardCreds, TSRemoteGuardPackageCred
from acredssp.wire.ts_credentials import UnicodeString

pytestmark = [
    pytest.mark.requirement("defect.secrets-in-logs"),
    pytest.mark.interpreted_only("the compiled engine has no frames, and the same reprs"),
]

WRONG = "Wr0ng-C4n4ry"
PIN = "7391-C4n4ry"
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
        store=STORE_PASSWORD, winbind="Passw0rd!", wrong=WRONG,
        nt_hash_of_wrong=Password(WRONG).nt_hash, api=API_SECRET,
    )  # fmt: skip


def looked_at(scenario, figure, name):
    """Run a scenario with a look at every point, and once more for each point with a cancellation there."""
    texts, lookers = {}, []
    known = {id(each) for each in objects_of_ours()}

    async def look(run, point=None):
        """One run; what the other side makes of a cancellation is not the question here."""
        tasks = len(asyncio.all_tasks())
        lookers.append(Looker(texts, known, point))
        with contextlib.suppress(Exception) if point else contextlib.nullcontext():
            await _run(run, lookers[-1], ())
        for _ in range(TURNS):
            if len(asyncio.all_tasks()) <= tasks:
                break
            await asyncio.sleep(0.001)

    async def everywhere():
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0
        loop.set_exception_handler(lambda _loop, context: None)
        async with scenario() as (run, _):
            await look(run)
            for point in dict.fromkeys(lookers[0].seen):
                await look(run, point)
            loop.set_task_factory(None)

    with taps(canaries()) as secrets, Records() as log, Files() as files:
        asyncio.run(everywhere())
    records = {text: where for where, text in texts_of_records(log.records)}
    told = [*((where, text) for text, where in records.items()), *files.texts()]
    found = {(where, leak) for where, text in told for leak in secrets.leaks(text)}
    seen = {(where, leak) for text, where in texts.items() for leak in secrets.leaks(text)}
    found |= {(where, leak) for where, leak in seen if not is_data(where, leak)}
    assert not found, sorted(found)
    looks, errors = (sum(getattr(looker, name) for looker in lookers) for name in ("looks", "errors"))
    assert looks
    assert errors
    assert any("Executing <" in text for text in records), "asyncio's debug log was read"
    figure(
        "secrets", name, secrets=len(secrets.secrets), looks=looks, exceptions=errors, texts=len(texts) + len(records),
        found=0,
    )  # fmt: skip


NOT_TOLD = ("input", "token of a gateway")
"""What a caller or a client has sent as data. It is in no log line, no file and no program's arguments. Objects and
tracebacks with local variables have it: a client sends its token in clear, before TLS."""
IN_HEADERS = re.compile(r"Request\.headers\[|(headers|request|scope) in ")
"""Where the token of an `Authorization` is: in the fields of a request, which local variables hold. It is in no repr of
an object of the package."""


def is_data(where, leak):
    """Whether a place has what it is there for."""
    return leak.startswith(NOT_TOLD) or (leak.startswith("HTTP token") and IN_HEADERS.match(where))


TURNS = 200
"""Turns of the loop in which what a run has left behind ends; what has not ended then, runs into the next one."""
REFUSED = {
    "logon through a gateway, a wrong password": lambda folder: through_a_gateway(
        folder, who=Password(WRONG, "alice", "CONTOSO"), refused=True
    ),
    "logon through a gateway, a wrong account of its own": lambda folder: through_a_gateway(
        folder, INJECTED.replace("svc", "bob"), refused=True
    ),
}
LOOKED_AT = (
    {name: lambda _, scenario=scenario: scenario() for name, scenario in SCENARIOS.items()}
    | IN_FOLDERS
    | PAGES
    | REFUSED
)


@pytest.mark.thorough
@pytest.mark.parametrize("name", LOOKED_AT)
def test_no_canary_is_seen_at_any_point(name, figure, tmp_path):
    looked_at(lambda: LOOKED_AT[name](tmp_path), figure, name)


def test_no_canary_of_kerberos_is_seen_at_any_point(kerberos, figure):
    policy = Policy(mechanism="kerberos")
    server = server_config(policy, lookup=None, keytab=Keytab(str(kerberos.keytab)))
    client, names = client_config(policy, authenticate=KERBEROS_ALICE), {"server_hostname": "localhost", "spn": SPN}
    looked_at(lambda: connecting(config=server, client=client, names=names), figure, "connect and accept, Kerberos")


def test_the_page_has_the_figures_of_all_scenarios():
    assert rows_of("secrets") == [*LOOKED_AT, "connect and accept, Kerberos"]


# --- the canaries sing ---

LOUD = compile(
    """
import asyncio, logging, pathlib, subprocess, sys

class Loud:
    def __init__(self, secret):
        self.secret = secret

async def in_an_object(secret, folder):
    loud, secret = Loud(secret), None
    await asyncio.sleep(0)

async def in_a_local_variable(secret, folder):
    loud = [secret, await asyncio.sleep(0)]

async def in_a_log_line(secret, folder):
    logging.getLogger("loud").debug("%s", secret)

async def in_a_file(secret, folder):
    await asyncio.to_thread((folder / "loud").write_text, secret)

async def in_a_file_that_is_removed(secret, folder):
    (folder / "loud").write_text(secret)
    (folder / "loud").unlink()

async def in_an_argument(secret, folder):
    await asyncio.to_thread(subprocess.run, [sys.executable, "-V", secret], stdout=subprocess.DEVNULL)

async def in_an_environment(secret, folder):
    environment, secret = {"LOUD": secret}, None
    await asyncio.to_thread(subprocess.run, [sys.executable, "-V"], env=environment, stdout=subprocess.DEVNULL)
""",
    OURS + "loud.py",
    "exec",
)
"""Code that is taken for the package's, and gives a secret away."""
LEAKS = {
    "in_an_object": "Loud.secret",
    "in_a_local_variable": "secret in in_a_local_variable",
    "in_a_log_line": "log loud",
    "in_a_file": "file ",
    "in_a_file_that_is_removed": "removed file ",
    "in_an_argument": "a program",
    "in_an_environment": "a program",
}


@pytest.mark.parametrize("way", LEAKS)
def test_a_leak_is_found(way, tmp_path):
    code = {"__name__": "acredssp.loud"}
    exec(LOUD, code)  # noqa: S102

    @contextlib.asynccontextmanager
    async def scenario():
        yield lambda: code[way](PASSWORD, tmp_path), dict

    with pytest.raises(AssertionError, match=f"{re.escape(LEAKS[way])}.*'password'"):
        looked_at(scenario, lambda *_, **__: None, way)
