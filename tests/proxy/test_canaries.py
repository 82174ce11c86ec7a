"""What the commands give away when they run as their users run them: a gateway with a worker, its target, and logons.

Logs are at DEBUG with asyncio's debug. Looked at are all outputs and files, the pages and the API, and what every
process and its children have as arguments and environment.
"""

import json
import ssl
import urllib.request

import pytest
from support.canaries import Canaries, given_to, with_children
from support.command import COMMAND
from support.peers import DEADLINE, Lab, free_port, listens, wait_until

from acredssp import Password, pin_of

pytestmark = pytest.mark.requirement("defect.secrets-in-logs")

PASSWORD, WRONG, INJECTED, SECRET = "C4n4ry-of-Alice", "Wr0ng-C4n4ry", "C4n4ry-of-the-Target", "C4n4ry-of-the-API"
SETTINGS = """\
[[listeners]]
address = "127.0.0.1:{port}"
certificates = [{{ certificate = "gateway.pem", key = "gateway.key" }}]
logon = {{ users = "users" }}
routes = [{{ token = true }}]

[targets.desktops]
addresses = ["127.0.0.1:{target}"]
pins = ["{pin}"]

[targets.injected]
addresses = ["127.0.0.1:{target}"]
pins = ["{pin}"]
credentials = "injected"
account = 'SERVERS\\svc'
password = "file:injected"

[api]
address = "127.0.0.1:{api}"
secret = "file:secret"

[admin]
address = "127.0.0.1:{admin}"
"""


@pytest.fixture
def inputs(folder, certificate):
    """The files with secrets, which the commands read: no others may have any."""
    texts = {
        "users": f"CONTOSO:alice:{PASSWORD}\nSERVERS:svc:{INJECTED}\n", "injected": INJECTED, "secret": SECRET,
        "right": PASSWORD, "wrong": WRONG,
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {folder / name for name in (*texts, "gateway.key")}


@pytest.fixture
def canaries(certificate):
    passwords = {"password": PASSWORD, "wrong": WRONG, "injected": INJECTED}
    hashes = {f"nt hash of {name}": Password(secret).nt_hash for name, secret in passwords.items()}
    return Canaries(**passwords, **hashes, api=SECRET, key=certificate[1].splitlines()[1])


def answer_of(port, path, body=None):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", body and json.dumps(body).encode(), {"Authorization": f"Bearer {SECRET}"}
    )
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:  # noqa: S310
        return answer.read().decode()


class Programs:
    """A gateway, its target, and logons by way of them."""

    def __init__(self, lab, certificate):
        self.lab, self.folder = lab, lab.folder
        self._pin = pin_of(ssl.PEM_cert_to_DER_cert(certificate[0].decode()))
        self.port, self.api, self.admin, target = (free_port() for _ in range(4))
        (self.folder / "settings.toml").write_text(
            SETTINGS.format(port=self.port, api=self.api, admin=self.admin, target=target, pin=self._pin)
        )
        files = ["--users", self.folder / "users", "--cert", self.folder / "gateway.pem"]
        self.target = lab.start_server(
            [COMMAND, "serve", "-v", "--listen", f"127.0.0.1:{target}", *files, "--key", self.folder / "gateway.key"],
            target,
            whole=True,  # so that the kernel knows what the program was given
        )
        argv = [COMMAND, "proxy", "run", self.folder / "settings.toml", "--workers=1", "--log-level=debug"]
        self.gateway = lab.start_server([*argv, "--record", self.folder / "records"], self.port, whole=True)
        wait_until(lambda: listens(self.api) and listens(self.admin), "the gateway's pages are there")

    def token(self, target):
        return json.loads(answer_of(self.api, "/v1/tokens", {"user": "CONTOSO\\alice", "target": target}))[
            "loadbalanceinfo"
        ]

    def log_on(self, token, password):
        argv = [COMMAND, "login", f"127.0.0.1:{self.port}", "-u", "alice", "-d", "CONTOSO", "--password-stdin", "-v"]
        with (self.folder / password).open("rb") as stdin:
            return self.lab.run(
                [*argv, "--pin", self._pin, "--load-balance-info", token], stdin=stdin, whole=True
            ).status

    def told(self, inputs):
        """(where, text) of everything that somebody else gets to see."""
        for process in (self.gateway, self.target):
            yield from given_to(process.pid, process.name)
        yield "metrics", answer_of(self.admin, "/metrics")
        for path in ("/healthz", "/readyz"):
            yield path, answer_of(self.admin, path)
        yield "connections", answer_of(self.api, "/v1/connections")
        assert [process.stop() for process in (self.gateway, self.target)] == [0, 0]
        for path in self.folder.rglob("*"):
            if path.is_file() and path not in inputs:
                yield f"file {path.name}", path.read_bytes().decode("latin-1")


@pytest.fixture
def environment():
    return {"PYTHONASYNCIODEBUG": "1"}


@pytest.fixture
def programs(tmp_path, certificate, inputs, environment):
    lab = Lab(tmp_path, **environment)
    (tmp_path / "records").mkdir()
    try:
        yield Programs(lab, certificate)
    finally:
        lab.stop()
        lab.show_logs()


def leaks(programs, inputs, canaries):
    return sorted({(where, leak) for where, text in programs.told(inputs) for leak in canaries.leaks(text)})


def test_no_canary_is_in_what_commands_write_show_and_are_given(programs, inputs, canaries):
    for target, password, status in (("desktops", "right", 0), ("injected", "right", 0), ("desktops", "wrong", 1)):
        token = programs.token(target)
        canaries.add("token", token.partition("=")[2])
        assert programs.log_on(token, password) == status
    assert leaks(programs, inputs, canaries) == []
    assert "DEBUG" in programs.gateway.read()
    assert "DEBUG" in programs.target.read()
    assert list((programs.folder / "records").iterdir())


@pytest.mark.parametrize("environment", [{"LEAK": PASSWORD}])
def test_a_secret_that_a_worker_is_given_is_found(programs, inputs, canaries):
    answer_of(programs.admin, "/healthz")  # the worker is there
    processes = with_children(programs.gateway.pid)
    assert len(processes) >= 2
    found = {where for where, leak in leaks(programs, inputs, canaries) if leak == "password"}
    assert {f"environ of {pid} of {programs.gateway.name}" for pid in processes} <= found
