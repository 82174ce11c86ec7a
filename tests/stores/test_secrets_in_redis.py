"""What a real server keeps and hears holds no secret: its dump, its log of writes, and what MONITOR shows."""

import asyncio
import subprocess

import pytest
from support.canaries import Canaries
from support.peers import Lab, free_port, program, wait_until

from acredssp import Account
from acredssp.stores import Grant, LockoutRule, LogonAttempt, Sealer, find_token, issue_token, new_keys, redeem_token
from acredssp.stores.redis import RedisStore

PASSWORD = "C4n4ry-0f-th3-St0r3"
OF_GRANT = "Gr4nt-C4n4ry"
ACCOUNT = Account("alice", "CONTOSO")
SERVERS = {"redis-server": "redis-cli", "valkey-server": "valkey-cli"}


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    yield lab
    lab.stop()
    lab.show_logs()


async def used(url, keys):
    """Put into a store whatever a gateway puts there; return the token."""
    store = RedisStore(url, Sealer(keys), password=PASSWORD, deadline=30.0)
    try:
        grant = Grant(
            user="CONTOSO\\alice", target="desktops", uses=5, window=60, account="svc", password="Gr4nt-C4n4ry"
        )
        token = await issue_token(store, grant, 600)
        assert await find_token(store, token) == grant
        await redeem_token(store, token, grant, "198.51.100.7", ACCOUNT)
        attempt = LogonAttempt(store, ACCOUNT, LockoutRule(most=5))
        await attempt.begin()
        await attempt.failed()
        await store.stick(ACCOUNT, "desktops", "host", 600)
        await store.publish("node", "figures", 600)
        return token
    finally:
        await store.close()


@pytest.mark.requirement("defect.secrets-in-logs")
@pytest.mark.parametrize("name", SERVERS)
def test_no_secret_is_in_what_a_server_keeps_or_hears(name, lab, tmp_path):
    port, command, keys = free_port(), program(SERVERS[name]), new_keys()
    configuration = tmp_path / "store.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\nrequirepass {PASSWORD}\nappendonly yes\nappendfsync always\nsave 900 1\n"
        f"dir {tmp_path}\n",
        "ascii",
    )
    lab.start_server([name, configuration], port)
    words = [command, "-p", str(port), "--no-auth-warning"]
    environment = {"REDISCLI_AUTH": PASSWORD, "VALKEYCLI_AUTH": PASSWORD}
    heard = tmp_path / "heard"
    with heard.open("wb") as file, subprocess.Popen([*words, "MONITOR"], stdout=file, env=environment) as monitor:
        wait_until(lambda: heard.read_bytes().startswith(b"OK"), "MONITOR has begun")
        token = asyncio.run(used(f"redis://127.0.0.1:{port}", keys))
        subprocess.run([*words, "PING", "the-end"], check=True, capture_output=True, env=environment)
        wait_until(lambda: b"the-end" in heard.read_bytes(), "MONITOR has shown all of it")
        monitor.kill()
    subprocess.run([*words, "SAVE"], check=True, capture_output=True, env=environment)
    secrets = Canaries(
        token=token, token_bytes=token.rpartition("=")[2].strip(), grant="Gr4nt-C4n4ry", password=PASSWORD
    )
    for number, line in enumerate(keys.splitlines()):
        secrets.add(f"key {number}", line.partition(":")[2])
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path != configuration]
    assert any(path.suffix == ".rdb" for path in kept)
    assert any(".aof" in path.name for path in kept)
    assert b"EVAL" in heard.read_bytes().upper()
    found = [(path.name, leak) for path in kept for leak in secrets.leaks(path.read_bytes().decode("latin-1"))]
    assert found == []
