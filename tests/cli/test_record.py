"""`--record` of `login` and `serve`, and `acredssp replay`."""

import json
import shutil
import stat
import threading

import pytest

from acredssp.cli.record import ServerRecords
from acredssp.recording import Flight, Recording

PASSWORD = "c4nary:S3cret\u00e9"


@pytest.fixture
def log_on(command):
    def call(address, *words, password=PASSWORD):
        account = ["-u", "alice", "-d", "CONTOSO", "-p", password] if password else []
        return command("login", address, *account, "--insecure", "--mechanism", "ntlm", *words)

    return call


def replayed(command, path, *words):
    status, out, _ = command("replay", path, "--json", *words)
    report = json.loads(out)
    return status, report["verdict"], report


def test_a_login_is_recorded_and_replayed(served, log_on, command, tmp_path):
    path, capture = tmp_path / "logon.json", tmp_path / "logon.pcapng"
    path.touch(mode=0o644)
    words = ("--record", path, "--record", capture, "--with-secrets")
    status, _, err = log_on(served().address, *words)
    assert status == 0
    assert "whoever has these files can log on" in err
    assert replayed(command, path)[:2] == (0, "reproduced")
    assert replayed(command, path, "--side", "server")[:2] == (0, "accepted")
    keys = tmp_path / "logon.json.keylog"
    assert b"CLIENT_TRAFFIC_SECRET_0" in keys.read_bytes()
    for each in (path, capture, keys):
        assert stat.S_IMODE(each.stat().st_mode) == 0o600
    if shutil.which("tshark"):
        status, out, _ = command("decode", capture, "--keylog", keys)
        assert status == 0
        assert out.startswith("connection 0: 192.0.2.1:49152 to 192.0.2.2:3389, 20")
        assert [line.split("  ")[0] for line in out.splitlines()[1:] if line[0] in "cs"] == [
            "client: X.224 Connection Request", "server: X.224 Connection Confirm", "client: TSRequest",
            "server: TSRequest", "client: TSRequest", "server: TSRequest", "client: TSRequest",
        ]  # fmt: skip
        _, out, _ = command("decode", capture)
        assert "TLS Application Data" in out


def test_a_record_has_no_secret_unless_it_is_asked_for(served, log_on, command, tmp_path):
    path = tmp_path / "logon.json"
    status, _, err = log_on(served().address, "--record", path)
    assert (status, err.count("log on as")) == (0, 0)
    text = path.read_text()
    assert PASSWORD not in json.loads(text).values()
    assert "S3cret" not in text
    assert not list(tmp_path.glob("*.keylog"))
    status, verdict, report = replayed(command, path)
    assert (status, verdict) == (0, "incomplete")
    assert report["ended"] == "the server's proof cannot be checked: the record leaves it out"


def test_a_refused_login_replays_to_the_same_error(served, log_on, command, tmp_path):
    path = tmp_path / "logon.json"
    assert log_on(served().address, "--record", path, password="wrong")[0] == 1
    status, verdict, report = replayed(command, path)
    assert (status, verdict, report["nt_status"]) == (0, "reproduced", "STATUS_LOGON_FAILURE")
    _, out, _ = command("replay", path)
    assert "the same bytes, but for the proof" in out
    assert "reproduced: the server refused the logon: STATUS_LOGON_FAILURE" in out


def test_a_generated_account_makes_a_whole_record_of_nobodys_secret(served, log_on, command, tmp_path):
    path = tmp_path / "logon.json"
    status, _, _ = log_on(served().address, "--record", path, "--generated-account", password="")
    assert status == 1
    record = Recording.from_json(path.read_text())
    assert record.with_secrets
    assert record.accounts[0].startswith(":acredssp-")
    assert replayed(command, path)[1] == "reproduced"
    assert log_on(served().address, "--record", path, "--generated-account")[0] == 2


@pytest.mark.parametrize("option", ["--with-secrets", "--generated-account"])
def test_options_of_a_record_need_one(log_on, option):
    status, _, err = log_on("127.0.0.1:1", option)
    assert status == 2
    assert f"{option} needs --record FILE" in err


def test_a_file_that_cannot_be_written_ends_the_command_before_the_logon(log_on, tmp_path):
    status, _, err = log_on("127.0.0.1:1", "--record", tmp_path / "missing" / "logon.json")
    assert status == 2
    assert "cannot write --record " in err


def test_a_server_records_each_handshake_in_a_file_of_its_own(serve_once, log_on, command, tmp_path):
    path = tmp_path / "served.json"
    server = serve_once("--record", path)
    log_on(server.address)
    log_on(server.address, password="wrong")
    server.stop()
    first, second = path, tmp_path / "served-2.json"
    assert replayed(command, first)[:2] == (0, "incomplete")
    assert replayed(command, second)[:2] == (0, "incomplete")
    assert "S3cret" not in first.read_text() + second.read_text()
    assert Recording.from_json(second.read_text()).error.kind == "AuthenticationError"


def taken_by_a_server(folder, records, warn=pytest.fail, **settings):
    """The names of the files that a server makes of these records."""
    files = ServerRecords(
        [folder / "served.json"], with_secrets=False, generated=False, account_of=lambda *_: None, warn=warn, **settings
    )
    for record in records:
        files.take(record)
    files.end()
    return {each.name for each in folder.iterdir()}


def test_a_connection_over_which_nothing_came_uses_no_file_of_a_server_up(tmp_path):
    heard = Recording(flights=(Flight("client", 0.0, b"\3"),))
    assert taken_by_a_server(tmp_path, [Recording(), heard]) == {"served.json"}


def test_a_server_records_a_hundred_handshakes(tmp_path):
    names = taken_by_a_server(tmp_path, [Recording(flights=(Flight("client", 0.0, b"\3"),))] * 101)
    assert names == {"served.json", *(f"served-{number}.json" for number in range(2, 101))}


def test_the_number_of_recorded_handshakes_can_be_set(tmp_path):
    records = [Recording(flights=(Flight("client", 0.0, b"\3"),))] * 5
    assert taken_by_a_server(tmp_path, records, most=3) == {"served.json", "served-2.json", "served-3.json"}


def test_a_server_takes_the_number_of_records_as_an_option(serve_once, log_on, tmp_path):
    server = serve_once("--record", str(tmp_path / "served.json"), "--record-most", "1")
    for _ in range(2):
        log_on(server.address)
    server.stop()
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("served")] == ["served.json"]


def test_a_record_is_written_over_no_file(served, log_on, tmp_path):
    path = tmp_path / "logon.json"
    path.write_text("something else")
    status, _, err = log_on(served().address, "--record", path)
    assert status == 2
    assert "expected a new file, got one that is there: move it or give another name" in err
    assert path.read_text() == "something else"
    assert log_on(served().address, "--record", tmp_path / "new.json")[0] == 0
    assert log_on(served().address, "--record", tmp_path / "new.json")[0] == 2


def test_a_folder_has_a_file_for_each_handshake(serve_once, log_on, command, tmp_path):
    (tmp_path / "records").mkdir(mode=0o700)
    server = serve_once("--record", tmp_path / "records")
    assert log_on(server.address, "--record", tmp_path / "records")[0] == 0
    log_on(server.address, password="wrong")
    server.stop()
    files = sorted((tmp_path / "records").iterdir())
    assert [each.name for each in files] == ["0001.json", "0002.json", "0003.json"]
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}
    assert {Recording.from_json(each.read_text()).side for each in files[:2]} == {"client", "server"}
    assert Recording.from_json(files[2].read_text()).error.kind == "AuthenticationError"
    assert not any("S3cret" in each.read_text() for each in files)
    assert all(replayed(command, each)[:2] == (0, "incomplete") for each in files)


def test_workers_write_to_one_folder(serve_once, log_on, tmp_path):
    (tmp_path / "records").mkdir(mode=0o700)
    server = serve_once("--record", tmp_path / "records", "--workers", "2")
    for _ in range(8):
        log_on(server.address, password="wrong")
    server.stop()
    names = sorted(each.name for each in (tmp_path / "records").iterdir())
    assert names == [f"{number:04}.json" for number in range(1, 9)]


@pytest.mark.parametrize("command_line", [("serve", "--users"), ("proxy", "run")], ids=lambda words: words[0])
def test_workers_need_a_folder(command, command_line, tmp_path):
    (tmp_path / "users").write_text("CONTOSO:alice:x\n")
    status, _, err = command(*command_line, tmp_path / "users", "--workers", "2", "--record", tmp_path / "file.json")
    assert status == 2
    assert "expected a folder that is there, since several workers write to it" in err
    assert not (tmp_path / "file.json").exists()


def test_the_keys_of_a_whole_record_are_in_its_folder(served, log_on, tmp_path):
    (tmp_path / "records").mkdir()
    assert log_on(served().address, "--record", tmp_path / "records", "--with-secrets")[0] == 0
    assert sorted(each.name for each in (tmp_path / "records").iterdir()) == ["0001.json", "keylog"]
    assert "S3cret" in (tmp_path / "records" / "0001.json").read_text()


def test_a_full_folder_is_told_once_and_takes_no_more(tmp_path):
    said = []
    records = ServerRecords(
        [tmp_path], with_secrets=False, generated=False, most=2, account_of=lambda *_: None, warn=said.append
    )
    for _ in range(5):
        records.take(Recording(flights=(Flight("client", 0.0, b"\3"),)))
    records.end()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["0001.json", "0002.json"]
    (text,) = said
    assert "is full, and takes no more handshakes: a folder takes 2 records of 64 MiB together" in text


def test_records_that_wait_for_a_slow_disk_are_bounded(tmp_path):
    records = ServerRecords([tmp_path], with_secrets=False, generated=False, account_of=lambda *_: None, warn=print)
    held = threading.Event()
    records._thread.submit(held.wait)
    for _ in range(150):
        records.take(Recording(flights=(Flight("client", 0.0, b"\3"),)))
    held.set()
    records.end()
    assert len(list(tmp_path.iterdir())) == 100


def test_a_numbered_record_is_written_to_no_file_of_somebody_else(tmp_path):
    (tmp_path / "others").write_text("others'")
    (tmp_path / "served-2.json").symlink_to(tmp_path / "others")
    said = []
    taken_by_a_server(tmp_path, [Recording(flights=(Flight("client", 0.0, b"\3"),))] * 3, said.append)
    assert (tmp_path / "others").read_text() == "others'"
    assert (tmp_path / "served-2.json").is_symlink()
    assert Recording.from_json((tmp_path / "served-3.json").read_text()).flights == ()
    (text,) = said
    assert "served-2.json: file exists" in text


def test_a_server_with_a_generated_account_records_it_as_a_whole(serve_by, log_on, command, tmp_path):
    path = tmp_path / "served.json"
    server = serve_by("--record", path, "--generated-account")
    log_on(server.address, password="wrong")
    server.stop()
    said = server.output.split("log on as ")[1]
    assert said.startswith("acredssp-")
    assert replayed(command, path)[1] == "incomplete"


def test_a_generated_account_of_a_server_logs_on_and_replays(serve_by, command, tmp_path):
    path = tmp_path / "served.json"
    server = serve_by("--record", path, "--generated-account", "--log-level", "warning")
    line = server.process.stderr.readline().decode()
    while "log on as" not in line:
        line = server.process.stderr.readline().decode()
    words = line.split("log on as ")[1].split(" ")
    user, password = words[0], words[4].rstrip(":")
    assert command("login", server.address, "-u", user, "-p", password, "--insecure", "--mechanism", "ntlm")[0] == 0
    server.stop()
    assert replayed(command, path)[:2] == (0, "reproduced")
    assert Recording.from_json(path.read_text()).accounts == (f":{user}:{password}",)


@pytest.mark.parametrize(
    ("text", "said"), [(None, "cannot read FILE"), ("", "expected a record in json"), ("{}", "list of messages")]
)
def test_a_file_that_is_no_record_is_a_usage_error(command, tmp_path, text, said):
    path = tmp_path / "record.json"
    if text is not None:
        path.write_text(text)
    status, _, err = command("replay", path)
    assert status == 2
    assert said in err


def test_a_record_that_acredssp_no_longer_makes_differs(served, log_on, command, tmp_path):
    path = tmp_path / "logon.json"
    log_on(served().address, "--record", path, "--with-secrets")
    facts = json.loads(path.read_text())
    first = facts["messages"][0]
    first["hex"] = first["hex"][:-2] + "0e"
    path.write_text(json.dumps(facts))
    status, verdict, _ = replayed(command, path)
    assert (status, verdict) == (3, "differs")
    assert "other bytes from byte 56 on" in command("replay", path)[1]


def test_a_server_says_so_where_a_record_cannot_be_made(tmp_path, monkeypatch):
    def fail(recording):
        raise IndexError(recording)

    monkeypatch.setattr("acredssp.cli.record.without_secrets", fail)
    said = []
    records = ServerRecords(
        [tmp_path / "record.json"], with_secrets=False, generated=False, account_of=lambda *_: None, warn=said.append
    )
    records.take(Recording(flights=(Flight("client", 0.0, b"x"),)))
    records.end()
    assert said == ["record 1 cannot be made: IndexError"]
