"""examples/vault_credentials.py against a vault's HTTP."""

import asyncio
import http.server
import importlib.util
import json
import threading
from pathlib import Path

import pytest

from acredssp import NTSTATUS, Deny, Password
from acredssp.hooks import Identity, Principal

EXAMPLE = Path(__file__).parents[2] / "examples" / "vault_credentials.py"
WHO = Identity(Principal("alice", "CONTOSO"), "ntlm")
SECRETS = {
    "/v1/secret/data/rdp/servers": {"username": "SERVERS\\svc", "password": "c4nary"},
    "/v1/secret/data/rdp/a%2Fb": {"username": "svc", "password": "c4nary"},
}


class Vault(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.headers["X-Vault-Token"] != "t0ken":
            status, body = 403, {"errors": ["permission denied"]}
        elif self.path in SECRETS:
            status, body = 200, {"data": {"data": SECRETS[self.path], "metadata": {"version": 3}}}
        else:
            status, body = 404, {"errors": []}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def look_up(monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Vault) as vault:
        thread = threading.Thread(target=vault.serve_forever)
        thread.start()
        monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{vault.server_port}")
        monkeypatch.setenv("VAULT_TOKEN", "t0ken")
        spec = importlib.util.spec_from_file_location("vault_credentials", EXAMPLE)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield lambda target: asyncio.run(module.look_up(WHO, target))
        vault.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("servers", Password("c4nary", "svc", "SERVERS")),
        ("a/b", Password("c4nary", "svc", "")),
        ("elsewhere", Deny(NTSTATUS.STATUS_LOGON_NOT_GRANTED)),
    ],
)
def test_the_secret_of_the_target_is_looked_up(look_up, target, answer):
    assert look_up(target) == answer


def test_a_vault_that_refuses_is_no_answer(look_up, monkeypatch):
    monkeypatch.setenv("VAULT_TOKEN", "wrong")
    with pytest.raises(OSError, match="403"):
        look_up("servers")
