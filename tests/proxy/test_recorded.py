"""`acredssp proxy run --record`: the handshakes of both legs in files, without secrets."""

import asyncio
import dataclasses
import json
import signal
import socket
import stat

import pytest
from support.command import COMMAND
from support.gateway import leave, settings_of, talk
from support.peers import free_port, wait_until

from acredssp import CredSSPError
from acredssp.cli import app
from acredssp.cli.record import ServerRecords
from acredssp.recording import Recording, RecordingCarriage, replay, to_pcapng, without_secrets

CANARY = "wonderland"
TOKEN = "acredssp=c4nary-T0ken"
LISTENER, TARGET = "listener 127.0.0.1:0", "target desktops"
BY_TOKEN = "[[listeners.routes]]\ntoken = true\n"
THROUGH = '[[listeners.routes]]\ntarget = "desktops"\nmode = "passthrough"\n'


def forms(secret):
    """How a file may hold a secret."""
    raw, wide = secret.encode(), secret.encode("utf-16-le")
    return [raw, wide, raw.hex().encode(), wide.hex().encode()]


def contents_of(folder, pattern):
    """The modes and contents of files by their names."""
    return {each.name: (stat.S_IMODE(each.stat().st_mode), each.read_bytes()) for each in folder.glob(pattern)}


@pytest.fixture
def kept():
    """The records of a gateway, whole, by their labels."""
    return {}


@pytest.fixture
def around(kept):
    """What a gateway takes to have its handshakes recorded in `kept`."""
    return lambda carriage, label: RecordingCarriage(carriage, lambda each: kept.update({label: each}), label=label)


async def test_the_handshakes_of_both_legs_replay_byte_for_byte(world, kept, around):
    async with world(around=around) as (here, target):
        streams = await here.connect()
        await talk(streams)
        await leave(streams)
        await here.until_ended()
    assert [str(who) for who, *_ in target.logons] == ["CONTOSO\\alice"]
    assert {label: record.side for label, record in kept.items()} == {TARGET: "client", LISTENER: "server"}
    for label, record in kept.items():
        whole = dataclasses.replace(record, accounts=("CONTOSO:alice:wonderland",))
        result = replay(Recording.from_json(whole.to_json()))
        assert (result.error, result.ended, result.complete) == (None, "", True), label
        assert result.reproduces(record), label


async def test_files_of_both_legs_have_no_password(world, tmp_path):
    paths = [tmp_path / "records.json", tmp_path / "records.pcapng"]
    records = await asyncio.to_thread(
        lambda: ServerRecords(paths, with_secrets=False, generated=False, account_of=lambda *_: None, warn=pytest.fail)
    )
    async with world(around=records.around) as (here, _):
        await leave(await here.connect())
        await here.until_ended()
    await asyncio.to_thread(records.end)
    files = await asyncio.to_thread(contents_of, tmp_path, "records*")
    assert set(files) == {"records.json", "records.pcapng", "records-2.json", "records-2.pcapng"}
    made = [Recording.from_json(files[name][1]) for name in ("records.json", "records-2.json")]
    assert [record.label for record in made] == [TARGET, LISTENER]
    assert [record.result for record in made] == ["success", "success"]
    assert [replay(record).ended for record in made] == [
        "the server's proof cannot be checked: the record leaves it out",
        "the client's proof cannot be checked: the record leaves it out",
    ]
    for record in made:
        parts = [(each.data[at : at + size], size) for each in record.messages for at, size, _ in each.redacted]
        assert parts
        assert all(data == bytes(size) for data, size in parts)
    for name, (mode, content) in files.items():
        assert mode == 0o600, name
        assert not any(form in content for form in forms(CANARY)), name


@pytest.fixture
def api(folder):
    """The settings of an API, by which tokens are issued."""
    (folder / "api").write_text("a long secret of the API")
    return "[api]\naddress = '127.0.0.1:0'\nsecret = 'file:api'\n"


async def test_a_token_is_written_over(world, api, kept, around):
    async with world(around=around, routes=BY_TOKEN, rest=api) as (here, _):
        with pytest.raises(CredSSPError):
            await here.connect(routing_token=TOKEN)
        await here.until_ended()
    record = kept[LISTENER]
    assert TOKEN.encode() in record.x224_request
    assert TOKEN.encode() in to_pcapng(record)
    redacted = without_secrets(record)
    for data in (redacted.to_json().encode(), to_pcapng(redacted)):
        assert not any(form in data for form in forms(TOKEN.partition("=")[2]))
    assert b"acredssp=" + b"0" * 12 in redacted.x224_request
    assert replay(redacted).reproduces(record)


async def test_a_connection_that_is_passed_on_goes_its_way(world, kept, around):
    async with world(around=around) as (here, target):
        await here.write(settings_of({"desktops": ([target.address], "")}, THROUGH))
        await here.gateway.reload()
        streams = await here.connect()
        await talk(streams)
        await leave(streams)
        (record,) = await here.until_ended()
    assert record.outcome == "passed_on"
    (recorded,) = kept.values()
    assert recorded.x224_request
    assert (recorded.x224_confirm, recorded.messages) == (b"", ())
    assert replay(recorded).ended == "the record ends before the handshake is complete"


@pytest.fixture
def settings(folder):
    """A settings file whose target is away, and the listener's port."""
    port, path = free_port(), folder / "settings.toml"
    text = settings_of({"desktops": (["127.0.0.1:1"], "")})
    path.write_text(text.replace("127.0.0.1:0", f"127.0.0.1:{port}"), encoding="ascii")
    return path, port


def test_the_command_records_a_refused_logon(lab, settings, tmp_path, capsys):
    path, port = settings
    file = tmp_path / "record.json"
    process = lab.start_server([COMMAND, "proxy", "run", path, "--record", file], port)
    socket.create_connection(("127.0.0.1", port)).close()  # over which nothing comes
    account = ("-u", "alice", "-d", "CONTOSO", "-p", CANARY)
    status = app.run(["login", f"127.0.0.1:{port}", *account, "--insecure", "--mechanism", "ntlm"])
    assert status == 1
    process.stop()
    record = Recording.from_json(file.read_text(encoding="utf-8"))
    assert (record.label, record.side) == (f"listener 127.0.0.1:{port}", "server")
    assert record.error is not None
    assert record.error.nt_status == "STATUS_NO_LOGON_SERVERS"
    assert not any(form in file.read_bytes() for form in forms(CANARY))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    capsys.readouterr()
    assert app.run(["replay", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "incomplete"
    assert [each.name for each in tmp_path.glob("record*")] == ["record.json"]


def test_workers_record_in_one_folder_also_after_a_new_start(lab, settings, tmp_path, capsys):
    path, port = settings
    folder = tmp_path / "records"
    folder.mkdir(mode=0o700)
    words = ["proxy", "run", path, "--workers=2", "--record", folder]
    process = lab.start_server([COMMAND, *words], port)
    wait_until(lambda: "2 workers are ready" in process.read(), "the workers are ready")
    account = ("-u", "alice", "-d", "CONTOSO", "-p", CANARY)
    login = ["login", f"127.0.0.1:{port}", *account, "--insecure", "--mechanism", "ntlm"]
    assert [app.run(login) for _ in range(3)] == [1, 1, 1]
    process._process.send_signal(signal.SIGUSR2)
    wait_until(lambda: process.read().count("2 workers are ready") == 2, "the program is started anew")
    assert [app.run(login) for _ in range(3)] == [1, 1, 1]
    process.stop()
    files = contents_of(folder, "*")
    assert sorted(files) == [f"{number:04}.json" for number in range(1, 7)]
    for mode, content in files.values():
        assert mode == 0o600
        assert Recording.from_json(content).label == f"listener 127.0.0.1:{port}"
        assert not any(form in content for form in forms(CANARY))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--record", "record.json", "--workers=1"), "--record record.json: expected a folder that is there"),
        (("--record", "missing/record.json"), "cannot write --record missing/record.json: no such file"),
    ],
    ids=["workers", "no-folder"],
)
def test_a_record_that_cannot_be_made_ends_the_command(settings, words, said, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    assert app.run(["proxy", "run", str(settings[0]), *words]) == 2
    assert said in capsys.readouterr().err
