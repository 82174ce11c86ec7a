"""Cancellation at every `await` of what the package offers, one by one, each followed by a search for what is left.

`support.cancelling` says what a point is, when it is cancelled, and what must hold then.
"""

import asyncio
import contextlib
import re
import socket

import pytest
import uvloop
from support import cancelling as cancelling_module
from support.cancelling import cancel_everywhere, places_of
from support.endpoints import client_config, server_config
from support.kerberos import ALICE as KERBEROS_ALICE
from support.kerberos import SPN
from support.scenarios import COMMANDS, COMMANDS_IN_FOLDERS, IN_FOLDERS, PAGES, SCENARIOS, connecting
from support.security_figures import rows_of

from acredssp import Keytab, Policy
from acredssp.aio import offload
from acredssp.secret import SecretBytes

pytestmark = pytest.mark.interpreted_only("the compiled engine never waits: it asks, and aio waits")

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
ON_UVLOOP = [*SCENARIOS][:7]
"""What depends on the loop: the rest stands on top of it."""
SECTION = "cancellation"
FOLDERS = IN_FOLDERS | PAGES | COMMANDS_IN_FOLDERS


@pytest.fixture
def cancelling(figure):
    """Cancels a scenario everywhere, and notes the figures."""

    def cancel(name, scenario, loop="asyncio"):
        tally = cancel_everywhere(scenario, loop_factory=LOOPS[loop])
        assert tally.cancelled >= tally.points > 0
        assert tally.turns
        sites = places_of(tally.sites)
        tried = {"points": tally.points, "cancelled_there": tally.cancelled, "in_turns": tally.turns}
        figure(SECTION, name, **tried, places=len(sites))
        figure("places", name, places=sites)

    return cancel


@pytest.mark.thorough
@pytest.mark.parametrize("name", [*SCENARIOS, *COMMANDS])
def test_nothing_is_left_wherever_it_is_cancelled(name, cancelling):
    cancelling(name, (SCENARIOS | COMMANDS)[name])


@pytest.mark.thorough
@pytest.mark.parametrize("name", ON_UVLOOP)
def test_nothing_is_left_on_uvloop_wherever_it_is_cancelled(name, cancelling):
    cancelling(f"{name}, on uvloop", SCENARIOS[name], "uvloop")


@pytest.mark.thorough
@pytest.mark.parametrize("name", FOLDERS)
def test_nothing_is_left_of_what_needs_files_wherever_it_is_cancelled(name, tmp_path, cancelling):
    cancelling(name, lambda: FOLDERS[name](tmp_path))


def test_nothing_is_left_of_kerberos_wherever_it_is_cancelled(kerberos, cancelling):
    """A step that runs in a thread cannot be cancelled: its result is dropped."""
    policy = Policy(mechanism="kerberos")
    server = server_config(policy, lookup=None, keytab=Keytab(str(kerberos.keytab)))
    client, names = client_config(policy, authenticate=KERBEROS_ALICE), {"server_hostname": "localhost", "spn": SPN}
    cancelling("connect and accept, Kerberos", lambda: connecting(config=server, client=client, names=names))


def test_the_page_has_the_figures_of_all_scenarios():
    uvloops = (f"{name}, on uvloop" for name in ON_UVLOOP)
    names = [*SCENARIOS, *COMMANDS, *uvloops, *FOLDERS, "connect and accept, Kerberos"]
    assert rows_of(SECTION) == [*names, "all"]


# --- what must not pass ---


async def waiting_in_the_package():
    await asyncio.wait_for(offload.run(lambda: None), None)


async def swallows():
    with contextlib.suppress(asyncio.CancelledError):
        await waiting_in_the_package()


async def leaves_a_task():
    task = asyncio.create_task(asyncio.sleep(3600))
    kept.append(task)
    await waiting_in_the_package()
    task.cancel()


async def leaves_a_descriptor():
    end = socket.socket()
    kept.append(end)
    await waiting_in_the_package()
    end.close()


async def leaves_a_secret():
    kept.append(SecretBytes(b"secret"))
    await waiting_in_the_package()
    kept.clear()


kept = []


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (swallows, "it was swallowed"),
        (leaves_a_task, "still held: Counter({'tasks': 1"),
        (leaves_a_descriptor, "still held: Counter({'descriptors': 1"),
        (leaves_a_secret, "still held: Counter({'secrets': 1"),
    ],
)
def test_what_leaves_something_is_found(run, said, monkeypatch):
    monkeypatch.setattr(cancelling_module, "LONG", 0.1)

    @contextlib.asynccontextmanager
    async def scenario():
        yield run, dict
        await asyncio.sleep(0)

    try:
        with pytest.raises(AssertionError, match=re.escape(said)):
            cancel_everywhere(scenario)
    finally:
        while kept:
            (getattr(kept[-1], "close", None) or getattr(kept[-1], "cancel", lambda: None))()
            kept.pop()


def test_a_secret_that_is_freed_with_its_bytes_is_found(monkeypatch):
    monkeypatch.setattr(SecretBytes, "zero", lambda secret: None)

    @contextlib.asynccontextmanager
    async def scenario():
        async def run():
            SecretBytes(b"secret")
            await waiting_in_the_package()

        yield run, dict

    with pytest.raises(AssertionError, match="freed unwiped"):
        cancel_everywhere(scenario)
