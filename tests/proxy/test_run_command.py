"""`acredssp proxy run` as a process: its API, its signals, and what several workers need."""

import json
import pathlib
import re
import signal
import socket
import urllib.error
import urllib.request

import pytest
from support.command import COMMAND
from support.peers import DEADLINE, free_port, listens, wait_until
from support.warm import Warm

from acredssp.cli import app

SETTINGS = """\
[[listeners]]
address = "127.0.0.1:{port}"
certificates = [{{ certificate = "gateway.pem", key = "gateway.key" }}]
logon = {{ users = "users" }}
routes = [{{ token = true }}, {{ target = "desktops" }}]

[targets.desktops]
addresses = ["127.0.0.1:1"]

[api]
address = "127.0.0.1:{api}"
secret = "file:secret"

[rdp_file]
address = "gw.example.com"
"""
SECRET = "the API's long secret"


@pytest.fixture
def settings(folder):
    """A settings file with an API: (path, the listener's port, the API's port)."""
    port, api, path = free_port(), free_port(), folder / "settings.toml"
    (folder / "secret").write_text(SECRET, encoding="ascii")
    path.write_text(SETTINGS.format(port=port, api=api), encoding="ascii")
    return path, port, api


def ask(port, path, body=None, secret=SECRET):
    """(status, object) of a request to the API."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", body and json.dumps(body).encode(), {"Authorization": f"Bearer {secret}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE) as response:  # noqa: S310
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize("options", [(), ("--workers=1",)], ids=["alone", "worker"])
def test_brokers_ask_the_gateway_that_runs_and_a_reload_takes_a_new_secret(lab, settings, options):
    path, port, api = settings
    process = lab.start_server([COMMAND, "proxy", "run", path, *options], port, split=True)
    wait_until(lambda: listens(api), "the API is there")
    status, body = ask(api, "/v1/tokens", {"user": "alice", "target": "desktops"})
    assert status == 201
    assert body["loadbalanceinfo"].startswith("acredssp=")
    assert ask(api, "/v1/connections") == (200, {"connections": []})
    assert ask(api, "/v1/connections", secret="another long secret")[0] == 401
    path.with_name("secret").write_text("another long secret", encoding="ascii")
    process._process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the settings are taken" in process.read(), "the settings are taken")
    assert ask(api, "/v1/connections", secret="another long secret")[0] == 200
    process._process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


def blocked(pid):
    """The signals that a process keeps for later."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    mask = int(next(line for line in status.splitlines() if line.startswith("SigBlk:")).split()[1], 16)
    return {number for number in signal.Signals if mask >> (number - 1) & 1}


@pytest.mark.parametrize("options", [(), ("--workers=1",)], ids=["alone", "worker"])
def test_signals_that_come_before_it_is_ready_end_nothing(lab, settings, options):
    path, port, api = settings
    process = lab.start([COMMAND, "proxy", "run", path, *options], split=True, whole=True)
    wait_until(lambda: signal.SIGHUP in blocked(process.pid), "the command has begun")
    process._process.send_signal(signal.SIGHUP)
    if not options:
        process._process.send_signal(signal.SIGUSR2)
    wait_until(lambda: listens(api), "the gateway is there")
    wait_until(lambda: signal.SIGHUP not in blocked(process.pid), "signals are taken")
    if not options:
        wait_until(lambda: "the settings are taken" in process.read(), "the settings are taken")
        assert "SIGUSR2 starts the program anew with --workers alone" in process.read()
    assert listens(port)
    process._process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


def test_several_workers_need_a_store_for_what_they_share(settings, capsys):
    path, _, _ = settings
    assert app.run(["proxy", "run", str(path), "--workers=2"]) == 2
    assert capsys.readouterr().err.strip() == (
        "store: expected [store] with several workers, since they share what token = true of a route, [api] needs"
    )
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace('"file:secret"', '"file:short"'), "api.secret: expected a secret of at least 16 "),
        (lambda text: text.replace('"file:secret"', '"file:none"'), "api.secret: "),
        (
            lambda text: text.replace("[api]", '[api]\ncertificate = "users"\nkey = "gateway.key"'),
            "api.certificate: ",
        ),
    ],
    ids=["short", "none", "certificate"],
)
def test_an_api_that_cannot_be_used_is_found_by_check(settings, capsys, change, said):
    path, _, _ = settings
    path.with_name("short").write_text("c4nary", encoding="ascii")
    path.write_text(change(path.read_text(encoding="ascii")), encoding="ascii")
    assert app.run(["proxy", "check", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert "c4nary" not in err


def test_top_shows_the_figures_and_the_connections_of_a_node_with_an_api(lab, settings, capsys):
    path, port, _ = settings
    admin = free_port()
    path.write_text(f'{path.read_text("ascii")}\n[admin]\naddress = "127.0.0.1:{admin}"\n', encoding="ascii")
    lab.start_server([COMMAND, "proxy", "run", path], port)
    wait_until(lambda: listens(admin), "the figures are there")
    assert app.run(["proxy", "top", str(path), "--once", "--json", "--interval", "0.1"]) == 0
    view = json.loads(capsys.readouterr().out)
    assert [(row["node"], row["relays"]) for row in view["nodes"]] == [(f"127.0.0.1:{admin}", 0)]
    assert view["connections"] == []
    (path.parent / "secret").unlink()
    assert app.run(["proxy", "top", str(path), "--once", "--json"]) == 2
    assert capsys.readouterr().err.startswith("api.secret: ")


def test_a_line_of_text_says_when_it_was_written(lab, settings):
    path, port, _ = settings
    process = lab.start_server([COMMAND, "proxy", "run", path], port, split=True)
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        client.recv(1)
    line = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} [A-Z]+ acredssp\.proxy: \{", re.MULTILINE)
    wait_until(lambda: line.search(process.read_errors()), "the line is there")


def test_output_that_cannot_be_written_ends_no_gateway_and_no_drain(settings):
    path, port, _ = settings
    with pathlib.Path("/dev/full").open("w", encoding="ascii") as full:
        process = Warm([COMMAND, "proxy", "run", path], stdout=full, stderr=full)
    try:
        wait_until(lambda: process.poll() is not None or listens(port), "it listens or ends")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait()
