"""`acredssp proxy check` and `acredssp proxy init`: what is wrong with what the settings name, and a first file."""

import builtins
import pathlib
import re
import stat

import pytest

import acredssp
from acredssp.cli import app
from acredssp.proxy import settings
from acredssp.stores import new_keys

CANARY = "c4nary"
GOOD = """
[[listeners]]
address = "127.0.0.1:0"
certificates = [{ certificate = "gateway.pem", key = "gateway.key" }]
logon = { users = "users" }
routes = [{ target = "desktops" }]
[targets.desktops]
addresses = ["127.0.0.1:3389"]
"""
INJECTED = "credentials = 'injected'\naccount = 'u'\npassword = 'file:secret'\n"


@pytest.fixture
def check(folder, capsys):
    """Runs the command: `check(text)` gives its status, its output, and its errors without the usage line."""

    def run(text, *words):
        (folder / "settings.toml").write_text(text, encoding="utf-8")
        status = app.run(["proxy", "check", str(folder / "settings.toml"), *words])
        out, err = capsys.readouterr()
        return status, out, err.splitlines()

    return run


def test_missing_files_are_named_beside_wrong_settings(check, folder):
    text = GOOD.replace('"users"', '"absent"').replace("gateway.key", "lost.key") + "nonsense = 1\n"
    status, _, err = check(text)
    missing = [
        f"{setting}: {folder / name}: no such file or directory"
        for setting, name in (("key", "lost.key"), ("users", "absent"))
    ]
    assert (status, err[-3:]) == (2, ["targets.desktops.nonsense: no such setting", *missing])


def test_a_good_file(check, folder):
    assert check(GOOD) == (0, f"{folder / 'settings.toml'}: can be used (listeners: 1, targets: 1)\n", [])


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD.replace("gateway.pem", "absent"), "listeners[0].certificates[0]: {}/absent: no such file or directory"),
        (
            GOOD.replace('"gateway.key"', '"other.key"'),
            "listeners[0].certificates[0]: openssl does not take the certificate with this key: KEY_VALUES_MISMATCH",
        ),
        (
            GOOD.replace("gateway.pem", "gateway.key"),
            "listeners[0].certificates[0]: openssl does not take the certificate with this key: no certificate or no ",
        ),
        (
            GOOD.replace('"gateway.key"', '"locked.key"'),
            "listeners[0].certificates[0]: key {}/locked.key: expected a private key without a password",
        ),
        (
            GOOD.replace('key" }', 'key", names = ["a b"] }'),
            "listeners[0].certificates: contexts: expected the name of a host",
        ),
        (GOOD.replace('"users"', '"absent"'), "listeners[0].logon.users: {}/absent: no such file or directory"),
        (
            GOOD.replace('"users"', '"wrong"'),
            "listeners[0].logon.users: {}/wrong: line 1: expected DOMAIN:USER:SECRET or DOMAIN=SUFFIX",
        ),
        (
            GOOD.replace('"users"', '"tickets"'),
            "listeners[0].logon.users: line 1: an empty SECRET needs keytab",
        ),
        (
            GOOD.replace('users = "users"', 'keytab = "absent", realms = ["R"]'),
            "listeners[0].logon.keytab: {}/absent: no such file or directory",
        ),
        (
            GOOD.replace('users = "users"', 'keytab = "users", realms = ["R"]'),
            "listeners[0].logon.keytab: {}/users: expected a keytab, got another file",
        ),
        (
            GOOD.replace('users = "users"', 'lookup = "no_such_package:function"'),
            "listeners[0].logon.lookup: no_such_package:function cannot be imported: no module no_such_package",
        ),
        (
            GOOD.replace('target = "desktops" }', 'entry = "json:nothing" }'),
            "listeners[0].routes[0].entry: json:nothing cannot be imported: AttributeError",
        ),
        (
            GOOD.replace("[targets", GOOD[1:].partition("[targets")[0] + "[targets"),
            "listeners[1].address: expected another address for each listener, got one twice",
        ),
        (
            GOOD.replace("127.0.0.1:0", "127.0.0.1:9389") + "[admin]",
            "admin.address: expected another address than that of a listener",
        ),
        (GOOD + 'authorities = "absent"', "targets.desktops.authorities: {}/absent: no such file or directory"),
        (GOOD + 'authorities = "users"', "targets.desktops.authorities: {}/users: expected certificates in PEM"),
        (GOOD + f'pins = ["{CANARY}"]', "targets.desktops.pins: expected"),
        (GOOD + INJECTED.replace("'u'", "'A\\b\\c'"), "targets.desktops.account: expected DOMAIN\\user"),
        (GOOD + 'delegation = "absent"', "targets.desktops.delegation: {}/absent: no such file or directory"),
        (
            GOOD + INJECTED.replace("'u'", "'DOM\\'"),
            "targets.desktops.account: expected DOMAIN\\user, user@realm or user, got another form",
        ),
        (GOOD + INJECTED, "targets.desktops.password: {}/secret: no such file or directory"),
        (
            GOOD + INJECTED.replace("password = 'file:secret'", "nt_hash = 'file:wrong'\nrestricted_admin = true"),
            "targets.desktops.nt_hash: expected an nt hash of 32 hex digits",
        ),
    ],
)  # fmt: skip
def test_what_the_settings_name_and_is_not_right_is_told_with_its_place(check, folder, text, expected):
    (folder / "wrong").write_text(f"{CANARY}:x")
    (folder / "tickets").write_text("CONTOSO:dave:\n")
    (folder / "locked.key").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    (folder / "other.key").write_bytes(acredssp.self_signed(["localhost"], "ec")[1])
    status, out, err = check(text)
    assert (status, out) == (2, "")
    (line,) = err
    assert line.startswith(expected.format(folder))
    assert CANARY not in line


def test_every_fault_is_told_at_once(check):
    status, _, err = check(GOOD.replace('"users"', '"absent"') + 'authorities = "absent"\ndelegation = "absent"')
    assert (status, len(err)) == (2, 3)


def test_connect_says_that_nobody_answers(check):
    status, out, _ = check(GOOD.replace(":3389", ":1"), "--connect")
    assert status == 1
    assert out.splitlines()[1:] == ["target desktops at 127.0.0.1:1: connection refused"]


def test_connect_says_that_the_store_does_not_answer(check, folder):
    (folder / "keys").write_text(new_keys())
    store = "[store]\nurl = 'redis://127.0.0.1:1'\nkeys = 'file:keys'\n"
    status, out, _ = check(GOOD.replace(":3389", ":1") + store, "--connect")
    assert status == 1
    assert out.splitlines()[1].startswith("store: ")
    assert "Connection refused" in out.splitlines()[1]


def test_the_first_file_can_be_used(folder, capsys):
    path = folder / "new" / "gateway.toml"
    path.parent.mkdir()
    assert app.run(["proxy", "init", str(path)]) == 0
    written = [line.removeprefix("wrote ") for line in capsys.readouterr().out.splitlines()]
    assert written == [str(path.with_name(name)) for name in
                       ("gateway.toml", "gateway.pem", "gateway.key", "gateway.users", "server.password")]  # fmt: skip
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert app.run(["proxy", "check", str(path)]) == 0
    users = path.with_name("gateway.users").read_text()
    assert all(len(line.split(":")[2]) == 16 for line in users.splitlines()[1:])


def test_the_first_file_takes_no_others_place(folder, capsys):
    (folder / "gateway.users").write_text("mine")
    assert app.run(["proxy", "init", str(folder / "first.toml")]) == 2
    assert "gateway.pem: it is there already" in capsys.readouterr().err
    assert not (folder / "first.toml").exists()


def test_without_the_extra_one_line_says_what_to_install(folder, capsys, monkeypatch):
    import_module = builtins.__import__

    def missing(name, *rest):
        if name.startswith("acredssp.proxy"):
            raise ModuleNotFoundError("No module named 'pydantic'", name="pydantic")
        return import_module(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert app.run(["proxy", "check", str(folder / "settings.toml")]) == 2
    err = capsys.readouterr().err
    assert "expected the package pydantic, which is not installed: pip install 'acredssp[gateway]'" in err
    assert "Traceback" not in err
    assert app.run(["proxy", "--help"]) == 0


@pytest.mark.parametrize("words", [["init", "--nonsense"], ["check"], ["token", "--ttl=x", "file"]])
def test_a_wrong_command_line_names_the_help_of_the_command(capsys, words):
    assert app.run(["proxy", *words]) == 2
    assert f"see acredssp proxy {words[0]} --help for the options" in capsys.readouterr().err


DOCS = pathlib.Path(__file__).parents[2] / "docs"
EXAMPLES = [
    text
    for page in ("gateway.md", "gateway-tutorial.md")
    for text in re.findall(r"```toml\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_of_the_documentation_names_nothing_that_there_is_not(folder, text):
    (folder / "settings.toml").write_text(text, encoding="utf-8")
    assert "servers" in settings.read(folder / "settings.toml").targets
