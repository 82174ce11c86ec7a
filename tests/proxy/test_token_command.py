"""`acredssp proxy token`, `kick` and `keys`, with a real Redis and a real Valkey."""

import asyncio
import stat

import pytest
from support.peers import free_port
from support.stores import PASSWORD, PREFIX, SERVERS, running

from acredssp import self_signed
from acredssp.cli import app
from acredssp.credentials import Account
from acredssp.stores import Grant, Sealer, TokenRefused, find_token, redeem_token
from acredssp.stores.redis import RedisStore

SETTINGS = """\
[[listeners]]
address = "127.0.0.1:0"
certificates = [{ certificate = "gateway.pem", key = "gateway.key" }]
logon = { users = "users" }
routes = [{ target = "desktops" }]

[targets.desktops]
addresses = ["127.0.0.1:3389"]
"""
STORE = f"""
[store]
url = "redis://127.0.0.1:{{port}}"
keys = "file:keys"
username = "gateway"
password = "file:store.password"
prefix = "{PREFIX}"
[rdp_file]
address = "gw.example.com"
"""
SIGNED = 'certificate = "signer.pem"\nkey = "signer.key"\n'
ISSUE = ("--user", "CONTOSO\\alice", "--target", "desktops")


@pytest.fixture(scope="module", params=SERVERS)
def server(request, tmp_path_factory):
    with running(tmp_path_factory.mktemp(request.param), request.param) as started:
        yield started


@pytest.fixture
def proxy(folder, capsys):
    """Runs a command with the settings of a store: `proxy(port, command, *words)`: status, output, errors."""
    assert app.run(["proxy", "keys"]) == 0
    keys = capsys.readouterr().out
    (folder / "keys").write_text(keys, encoding="ascii")
    (folder / "store.password").write_text(f"{PASSWORD}\n", encoding="ascii")

    def run(port, command, *words, more=""):
        path = folder / "settings.toml"
        path.write_text(SETTINGS + STORE.format(port=port) + more, encoding="ascii")
        return app.run(["proxy", command, str(path), *words]), *capsys.readouterr()

    run.keys = keys
    return run


def asked(server, keys, *questions):
    """What a node of the same settings gets from the store."""

    async def main():
        store = RedisStore(server.url, Sealer(keys), deadline=60, **server.logon)
        answers = [await question(store) for question in questions]
        await store.close()
        return answers

    return asyncio.run(main())


def used(token):
    async def use(store):
        try:
            grant = await find_token(store, token)
            await redeem_token(store, token, grant, "10.0.0.1", Account("alice", "CONTOSO"))
        except TokenRefused:
            return None
        return grant

    return use


def test_a_token_of_the_command_line_is_good_at_every_node(server, proxy):
    status, out, _ = proxy(server.port, "token", *ISSUE, "--ttl", "5m", "--uses", "2", "--window", "0s")
    grant = Grant(user="CONTOSO\\alice", target="desktops", uses=2, window=0.0)
    assert status == 0
    assert asked(server, proxy.keys, *[used(out.strip())] * 3) == [grant, grant, None]


def test_a_token_is_written_into_an_rdp_file_that_others_cannot_read(server, proxy, folder):
    certificate, key = self_signed(["gateway"], "rsa")
    (folder / "signer.pem").write_bytes(certificate)
    (folder / "signer.key").write_bytes(key)
    path = folder / "out.rdp"
    status, out, _ = proxy(server.port, "token", *ISSUE, "--rdp", str(path), more=SIGNED)
    text = path.read_bytes().decode("utf-16")
    assert (status, out) == (0, f"wrote {path}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "\r\nsignature:s:" in text
    token = text.split("loadbalanceinfo:s:")[1].split("\r\n")[0]
    assert asked(server, proxy.keys, used(token)) == [Grant(user="CONTOSO\\alice", target="desktops", window=30.0)]


def test_an_rdp_file_that_cannot_be_written_is_one_line(server, proxy, folder):
    status, out, err = proxy(server.port, "token", *ISSUE, "--rdp", str(folder))
    assert (status, out) == (2, "")
    assert err.startswith(f"usage: cannot write {folder}: is a directory")


def test_a_kick_makes_the_tokens_of_its_user_void(server, proxy):
    _, token, _ = proxy(server.port, "token", *ISSUE)
    assert proxy(server.port, "kick", "alice") == (0, "connections that end: 0\n", "")
    assert asked(server, proxy.keys, used(token.strip())) == [None]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--user", "alice", "--target", "elsewhere"), "--target: expected one of desktops"),
        ((*ISSUE, "--ttl", "soon"), "expected seconds, or a number with s, m or h"),
        ((*ISSUE, "--ttl", "25h"), "--ttl: expected at most 86400"),
        ((*ISSUE, "--ttl", "0"), "--ttl: expected more than 0"),
        (("--user", "", "--target", "desktops"), "--user: expected a text that is not empty"),
        (("--user", "a" * 257, "--target", "desktops"), "--user: expected at most 256"),
        (("--user", "a\nb", "--target", "desktops"), "--user: expected printable characters"),
    ],
)
def test_what_cannot_be_issued_is_said(proxy, words, said):
    status, out, err = proxy(free_port(), "token", *words)
    assert (status, out) == (2, "")
    assert said in " ".join(err.split())


def test_a_signer_that_cannot_be_used_is_said_with_its_place(proxy, folder):
    status, _, err = proxy(free_port(), "token", *ISSUE, "--rdp", str(folder / "out.rdp"), more=SIGNED)
    assert status == 2
    assert err.startswith("rdp_file.certificate: ")


def test_a_store_that_is_away_is_one_line(proxy):
    status, out, err = proxy(free_port(), "token", *ISSUE)
    assert (status, out) == (4, "")
    assert "is away" in err
    assert "Traceback" not in err
    assert PASSWORD not in err


def test_keys_that_are_none_are_said_with_their_place_and_not_quoted(proxy, folder):
    (folder / "keys").write_text("c4nary", encoding="ascii")
    status, _, err = proxy(free_port(), "kick", "alice")
    assert status == 2
    assert err.startswith("store.keys: ")
    assert "c4nary" not in err


@pytest.mark.parametrize("url", ["redis://user:c4nary@h", "http://h", "redis://h?password=c4nary"])
def test_the_url_of_a_store_holds_no_secret(problems, folder, url):
    (folder / "keys").write_text("of no matter here", encoding="ascii")
    (problem,) = problems(f'{SETTINGS}[store]\nurl = "{url}"\nkeys = "file:keys"\n')
    assert problem.startswith("store.url: ")
    assert "c4nary" not in problem
