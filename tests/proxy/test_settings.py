"""The settings file: what can be used, and how each fault names its place and never the value."""

import pytest

from acredssp import tls_config
from acredssp.proxy import settings
from acredssp.proxy.leg import make_target
from acredssp.proxy.settings import Problems, SecretSource, TargetSettings
from acredssp.workers import Address

CANARY = "c4nary"
LISTENER = """
[[listeners]]
address = "127.0.0.1:0"
certificates = [{ certificate = "gateway.pem", key = "gateway.key" }]
logon = { users = "users" }
"""
TARGET = """
[targets.desktops]
addresses = ["127.0.0.1:3389"]
"""
ROUTE = 'routes = [{ target = "desktops" }]\n'
GOOD = LISTENER + ROUTE + TARGET


def test_a_file_that_can_be_used_has_no_problem(problems):
    assert problems(GOOD) == []


def test_paths_are_relative_to_the_file(folder):
    (folder / "settings.toml").write_text(GOOD)
    (listener,) = settings.read(folder / "settings.toml").listeners
    assert listener.logon.users == folder / "users"
    assert listener.certificates[0].key == folder / "gateway.key"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["listeners: expected a value, got none", "targets: expected a value, got none"]),
        (LISTENER + TARGET, ["listeners[0].routes: expected a value, got none"]),
        (
            LISTENER + f'routes = [{{ target = "desktops" }}, {{ target = "{CANARY}" }}]' + TARGET,
            ["listeners[0].routes[1].target: no such target"],
        ),
        (
            LISTENER + 'routes = [{ target = "desktop" }]' + TARGET,
            ["listeners[0].routes[0].target: no such target; 'desktops' is one"],
        ),
        (
            LISTENER + f'routes = [{{ target = "desktops", groups = ["{CANARY}"] }}]' + TARGET,
            ["listeners[0].routes[0].groups: no such group"],
        ),
        (
            LISTENER + 'routes = [{ target = "desktops", entry = "package:function" }]' + TARGET,
            ["listeners[0].routes[0]: expected one of target, entry and token = true"],
        ),
        (
            LISTENER + 'routes = [{ target = "desktops", token = true }]' + TARGET,
            ["listeners[0].routes[0]: expected one of target, entry and token = true"],
        ),
        (
            GOOD + "credentials = 'token'",
            ["listeners[0].routes[0].target: expected token = true, by which this target's credentials come"],
        ),
        (
            LISTENER + "routes = [{ token = true }]" + TARGET,
            ["listeners[0].routes[0].token: expected [store] or [api], by which tokens are issued"],
        ),
        (
            GOOD + "[api]\nsecret = 'env:C4'\naddress = '0.0.0.0:1'",
            ["api: expected certificate and key, or a loopback address: the secret would travel in clear"],
        ),
        (
            GOOD + "[api]\nsecret = 'env:C4'\naddress = 'c4nary:1'",
            ["api: expected certificate and key, or a loopback address: the secret would travel in clear"],
        ),
        (
            GOOD + "[api]\nsecret = 'env:C4'\nkey = 'users'",
            ["api: expected certificate and key together, got one of them"],
        ),
        (
            GOOD + "[api]\nsecret = 'c4nary'",
            ["api.secret: expected file:PATH, env:NAME or credential:NAME, and never the secret itself"],
        ),
        (
            LISTENER + "routes = [{ token = false }]" + TARGET,
            ["listeners[0].routes[0].token: expected a text, or true for the tokens that the gateway issues"],
        ),
        (
            LISTENER + f'routes = [{{ entry = "{CANARY}" }}]' + TARGET,
            ["listeners[0].routes[0].entry: expected a function of a plug-in, as package.module:function"],
        ),
        (
            LISTENER + f'routes = [{{ target = "desktops", token = "{CANARY}", cookie = "{CANARY}" }}]' + TARGET,
            ["listeners[0].routes[0]: expected token or cookie, got both: a client sends one of them"],
        ),
        (GOOD + "pasword = 'c4nary'", ["targets.desktops.pasword: no such setting; password is one"]),
        (
            GOOD.replace("[targets.", "[target."),
            ["targets: expected a value, got none", "target: no such setting; targets is one"],
        ),
        (GOOD + "[admin]\ncertificate = 'c4nary'", ["admin.certificate: no such setting here"]),
        (
            GOOD + "[store]\nkeys = 'env:C4'\nurl = 'redis://c4nary@h:1'",
            ["store.url: expected redis://, rediss:// or unix://, without user, password and options"],
        ),
        (GOOD + "hybrid_ex = 'c4nary'", ["targets.desktops.hybrid_ex: expected true or false"]),
        (GOOD + "mechanism = 'c4nary'", ["targets.desktops.mechanism: expected 'ntlm', 'kerberos' or 'either'"]),
        (GOOD + "connect_timeout = 'c4nary'", ["targets.desktops.connect_timeout: expected a number"]),
        (GOOD + "pins = 'c4nary'", ["targets.desktops.pins: expected a list"]),
        (GOOD + "check = 'c4nary'", ["targets.desktops.check: expected a table"]),
        (GOOD + "spn = 5", ["targets.desktops.spn: expected a text"]),
        (GOOD + r'spn = "TERMSRV/desk\n"', ["targets.desktops.spn: expected printable characters"]),
        (GOOD + r'certificate_name = "d\u202Ek"', ["targets.desktops.certificate_name: expected printable characters"]),
        (GOOD + "connect_timeout = 0", ["targets.desktops.connect_timeout: expected more than 0"]),
        (GOOD + "connect_timeout = inf", ["targets.desktops.connect_timeout: expected a finite number"]),
        (GOOD + "authorities = 5", ["targets.desktops.authorities: expected the path of a file"]),
        (
            GOOD + "credentials = 'injected'\naccount = 'u'\npassword = 'c4nary'",
            ["targets.desktops.password: expected file:PATH, env:NAME or credential:NAME, and never the secret itself"],
        ),
        (
            GOOD + "credentials = 'injected'\naccount = 'u'\npassword = 4711",
            ["targets.desktops.password: expected file:PATH, env:NAME or credential:NAME, and never the secret itself"],
        ),
        (
            GOOD + "credentials = 'injected'\naccount = 'u'\npassword = 'credential:../c4nary'",
            ["targets.desktops.password: expected credential:NAME without a slash"],
        ),
        (
            GOOD + "credentials = 'injected'\naccount = 'c4nary'",
            ["targets.desktops: expected one of password, nt_hash and lookup with credentials = 'injected'"],
        ),
        (
            GOOD + "credentials = 'injected'\npassword = 'env:C4'",
            ["targets.desktops: expected account with password or nt_hash, and none with lookup"],
        ),
        (
            GOOD + "account = 'c4nary'",
            ["targets.desktops: account, password, nt_hash and lookup: expected with credentials = 'injected' alone"],
        ),
        (
            GOOD + "credentials = 'injected'\naccount = 'u'\nnt_hash = 'env:C4'",
            ["targets.desktops: nt_hash: expected with restricted_admin = true, since a hash cannot be delegated"],
        ),
        (
            GOOD + "credentials = 'constrained'",
            ["targets.desktops: constrained credentials: expected restricted_admin = true and mechanism = 'kerberos'"],
        ),
        (
            GOOD.replace("users = ", "delegating_account = 'g@R', users = "),
            ["listeners[0].logon: delegating_account: expected with keytab, and without spn"],
        ),
        (
            GOOD.replace("users = ", "winbind = true, users = "),
            ["listeners[0].logon: expected one of users, winbind and lookup, got more"],
        ),
        (
            GOOD.replace('users = "users"', ""),
            ["listeners[0].logon: expected users, winbind, lookup or keytab, got none: nobody could log on"],
        ),
        (
            GOOD.replace('users = "users"', 'keytab = "users"'),
            ["listeners[0].logon: expected keytab and realms together, got one of them"],
        ),
        (GOOD.replace("127.0.0.1:0", CANARY), ["listeners[0].address: expected HOST:PORT or [IPV6]:PORT"]),
        (GOOD.replace("127.0.0.1:0", "h:65536"), ["listeners[0].address: expected HOST:PORT or [IPV6]:PORT"]),
        (GOOD.replace("127.0.0.1:3389", "h:0"), ["targets.desktops.addresses[0]: expected a port from 1 to 65535"]),
    ],
)
def test_a_fault_names_its_place_and_not_the_value(problems, text, expected):
    assert problems(text) == expected
    assert not any(secret in line for line in expected for secret in (CANARY, "4711"))


def test_every_fault_is_told(problems):
    assert len(problems(GOOD.replace("127.0.0.1:0", "x") + "a = 1\nb = 2")) == 3


def test_the_address_of_an_rdp_file_stays_in_its_line(problems):
    (problem,) = problems(GOOD + '[rdp_file]\naddress = "gateway\\nc4nary:s:1"\n')
    assert problem == "rdp_file.address: expected printable characters"


@pytest.mark.parametrize("text", ['a = "c4nary', "a = 1\n[a]", "= c4nary", '"c4nary" = 1\n"c4nary" = 2', "a" * 99])
def test_what_is_no_toml_is_named_by_its_line_and_not_quoted(problems, folder, text):
    (problem,) = problems(text)
    assert problem.startswith(f"{folder / 'settings.toml'}: expected toml, got something else")
    assert "line" in problem or "end of document" in problem
    assert CANARY not in problem


def test_what_is_no_text_is_a_fault(folder):
    (folder / "settings.toml").write_bytes(b"\xff")
    with pytest.raises(settings.SettingsError, match="expected a text in utf-8"):
        settings.read(folder / "settings.toml")


def test_a_file_that_is_not_there_is_a_fault(folder):
    with pytest.raises(settings.SettingsError, match=r"absent\.toml: no such file or directory"):
        settings.read(folder / "absent.toml")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("gw.example.com:3389", "gw.example.com", 3389), ("[::1]:1", "::1", 1), ("192.0.2.1:65535", "192.0.2.1", 65535)],
)
def test_an_address(folder, text, host, port):
    (folder / "settings.toml").write_text(GOOD.replace("127.0.0.1:0", text))
    address = settings.read(folder / "settings.toml").listeners[0].address
    assert (address, str(address)) == (Address(host, port), text)


# --- secrets ---


def test_a_secret_is_read_from_a_file_without_the_lines_end(tmp_path):
    (tmp_path / "secret").write_bytes(b"two words \r\n")
    assert SecretSource("file", str(tmp_path / "secret")).read() == "two words "


def test_a_secret_is_read_from_the_environment_and_from_systemds_credentials(tmp_path, monkeypatch):
    monkeypatch.setenv("GATEWAY_SECRET", "of the environment")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "target").write_bytes(b"of systemd")
    assert SecretSource("env", "GATEWAY_SECRET").read() == "of the environment"
    assert SecretSource("credential", "target").read() == "of systemd"


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        (
            "env",
            "GATEWAY_ABSENT",
            "expected a secret in the environment variable GATEWAY_ABSENT, which is empty or not set",
        ),
        (
            "credential",
            "target",
            "expected credentials of systemd, got no .CREDENTIALS_DIRECTORY: .* the folder of the files",
        ),
    ],
)
def test_a_secret_that_is_not_there_says_where_it_was_looked_for(monkeypatch, kind, name, said):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ValueError, match=said):
        SecretSource(kind, name).read()


def test_a_secret_that_is_empty_is_none(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("\n")
    monkeypatch.setenv("GATEWAY_SECRET", "")
    with pytest.raises(ValueError, match="secret: expected a secret, got an empty file"):
        SecretSource("file", str(tmp_path / "secret")).read()
    with pytest.raises(
        ValueError, match="expected a secret in the environment variable GATEWAY_SECRET, which is empty or not set"
    ):
        SecretSource("env", "GATEWAY_SECRET").read()


def test_bytes_that_are_no_text_are_not_quoted(tmp_path):
    (tmp_path / "secret").write_bytes(b"c4nary\xff")
    with pytest.raises(ValueError, match="expected a text in utf-8") as raised:
        SecretSource("file", str(tmp_path / "secret")).read()
    assert CANARY not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_target_makes_one_tls_context(monkeypatch):
    made, client_context = [], tls_config.client_context
    monkeypatch.setattr(tls_config, "client_context", lambda policy: made.append(client_context(policy)) or made[-1])
    problems = Problems()
    target = make_target("desktops", TargetSettings(addresses=["pc1:3389"]), problems)
    problems.check()
    assert made == [target.config.ssl_context]
