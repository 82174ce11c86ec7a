import io
import sys

import pytest

from acredssp.cli.arguments import (
    Secret,
    TLSVersion,
    account,
    address,
    legacy_warning,
    nt_hash,
    policy_of,
    proxy,
    service,
)
from acredssp.cli.outcome import UsageError
from acredssp.credentials import NTHash, Password
from acredssp.workers import Address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("server", "server", 3389),
        ("Server.example:4000", "Server.example", 4000),
        ("10.0.0.1", "10.0.0.1", 3389),
        ("[::1]:4000", "::1", 4000),
        ("[::1]", "::1", 3389),
        ("::1", "::1", 3389),
        ("fe80::1%eth0", "fe80::1%eth0", 3389),
        ("server:65535", "server", 65535),
    ],
)
def test_an_address_is_a_host_and_perhaps_a_port(text, host, port):
    assert address(text, default_port=3389) == Address(host, port)


@pytest.mark.parametrize(
    "text",
    ["", ":3389", "server:", "server:0", "server:65536", "server:rdp", "server:-1", "server:+1", "server:\u0661",
     "[::1", "[::1]4000", "[]:1", "a b"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UsageError, match="expected"):
        address(text, default_port=3389)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://host/path", "got a URL of another kind: write host without https://"),
        ("rdp://host:3389", "got a URL of another kind: write host:3389 without rdp://"),
        ("https://", "got a URL of another kind: write HOST without https://"),
        ("21341", "got only a number: write HOST:21341 for port 21341"),
        ("host/", "got a path or a network: 'host/'"),
        ("10.0.0.0/8", "got a path or a network: '10.0.0.0/8'"),
        ("alice@host", "got 'alice@host': give the user with -u"),
    ],
)
def test_what_people_write_for_an_address_is_named(text, said):
    with pytest.raises(UsageError) as raised:
        address(text, default_port=3389)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("host", "http://host:5985/wsman"),
        ("::1", "http://[::1]:5985/wsman"),
        ("[::1]:80", "http://[::1]:80/wsman"),
        ("https://[::1]/x", "https://[::1]:5986/x"),
    ],
)
def test_a_service_is_a_host_or_a_url(text, url):
    assert service(text).url == url


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("host:99999", "expected a port from 1 to 65535, got '99999' in 'host:99999'"),
        ("http://host:x/wsman", "expected a port from 1 to 65535, got 'x' in 'http://host:x/wsman'"),
        (
            "http://::1/wsman",
            "expected an IPv6 address in brackets, such as [::1] or [::1]:5985, got 'http://::1/wsman'",
        ),
        ("http://alice:c4nary@host:x/", "expected a URL without a user, such as http://HOST:5985/wsman"),
    ],
)
def test_what_is_no_service_is_named(text, said):
    with pytest.raises(UsageError) as raised:
        service(text)
    assert said in str(raised.value)
    assert "c4nary" not in str(raised.value)


def test_a_server_may_take_port_0():
    assert address("127.0.0.1:0", default_port=3389, lowest_port=0).port == 0


def test_an_address_prints_as_it_is_typed():
    assert [str(Address("::1", 1)), str(Address("a", 2))] == ["[::1]:1", "a:2"]


def versions(lowest, highest):
    return policy_of(lowest, highest, TLSVersion.TLS_1_2, legacy_tls=False, legacy_ciphers=False)


@pytest.mark.parametrize(("lowest", "highest"), [(6, 5), (1, 6), (5, 7), (0, 0)])
def test_versions_that_are_no_range_are_refused(lowest, highest):
    with pytest.raises(UsageError, match="--min-version"):
        versions(lowest, highest)


@pytest.mark.parametrize(("lowest", "warned"), [(2, True), (4, True), (5, False), (6, False)])
def test_versions_below_5_get_a_warning(lowest, warned):
    assert versions(lowest, 6).min_version == lowest
    assert bool(legacy_warning(lowest)) is warned


@pytest.mark.parametrize(
    ("user", "domain", "expected"),
    [
        ("alice", None, ("alice", "")),
        ("alice", "CONTOSO", ("alice", "CONTOSO")),
        ("CONTOSO\\alice", None, ("alice", "CONTOSO")),
        (".\\alice", None, ("alice", ".")),
        ("alice@contoso.com", None, ("alice@contoso.com", "")),
        ("alice", "", ("alice", "")),
        ("AzureAD\\alice@contoso.com", "", ("AzureAD\\alice@contoso.com", "")),
        ("CONTOSO\\alice", "", ("CONTOSO\\alice", "")),
    ],
)
def test_an_account_is_named_in_any_of_the_usual_ways(user, domain, expected):
    assert account(user, domain) == expected


@pytest.mark.parametrize(
    ("user", "domain"),
    [("", None), ("CONTOSO\\", None), ("CONTOSO\\alice", "CONTOSO"), ("\udcff", None), ("a", "\udcff")],
)
def test_what_names_no_account_is_refused(user, domain):
    with pytest.raises(UsageError, match="expected"):
        account(user, domain)


@pytest.mark.parametrize("text", ["", "c4", "c4" * 17, "c4" * 15 + " c", "x" * 32, "\u0661" * 32])
def test_what_is_no_nt_hash_is_refused_without_being_quoted(text):
    with pytest.raises(UsageError, match="32 hex digits") as raised:
        nt_hash(text)
    assert "c4" not in str(raised.value)


class Stdin(io.TextIOWrapper):
    def __init__(self, content, *, terminal=False):
        super().__init__(io.BytesIO(content))
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"pw\nmore\n", "pw"),
        (b"pw\r\n", "pw"),
        (b"pw", "pw"),
        (b" p w \n", " p w "),
        ("pw\u00e9\n".encode(), "pw\u00e9"),
    ],
)
def test_a_password_is_the_first_line_of_the_standard_input(monkeypatch, content, password):
    monkeypatch.setattr(sys, "stdin", Stdin(content))
    assert Secret(from_stdin=True).credential("u", "D") == Password(password, "u", "D")


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\n"])
def test_a_standard_input_without_a_password_is_refused(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", Stdin(content))
    with pytest.raises(UsageError, match="expected a password"):
        Secret(from_stdin=True).credential("u", "D")


def test_a_hash_is_a_credential_of_its_own():
    assert Secret(nt_hash="00" * 16).credential("u", "D") == NTHash(bytes(16), "u", "D")


@pytest.mark.parametrize(
    "secret",
    [Secret("pw", from_stdin=True), Secret("pw", nt_hash="00" * 16), Secret("", from_stdin=True, nt_hash="00" * 16)],
)
def test_more_than_one_secret_is_refused(secret):
    with pytest.raises(UsageError, match="got several"):
        secret.credential("u", "D")


def test_a_terminal_is_asked_for_the_password(monkeypatch):
    monkeypatch.setattr(sys, "stdin", Stdin(b"", terminal=True))
    monkeypatch.setattr("acredssp.cli.arguments.getpass", lambda prompt: f"answer to {prompt}")
    assert Secret().credential("u", "D") == Password("answer to Password of u: ", "u", "D")


def test_without_a_terminal_a_secret_has_to_be_given(monkeypatch):
    monkeypatch.setattr(sys, "stdin", Stdin(b"pw\n"))
    with pytest.raises(UsageError, match="no terminal"):
        Secret().credential("u", "D")


def test_no_secret_is_in_a_repr():
    assert "c4nary" not in repr(Secret("c4nary", nt_hash="c4nary"))


@pytest.mark.parametrize("text", ["::1:13390", "fe80::1:2:3:4:5:6:7:3389", "host:1:2"])
def test_an_address_with_a_port_behind_it_needs_brackets(text):
    with pytest.raises(UsageError, match=r"write \[IPV6\]:PORT"):
        address(text, default_port=3389)


@pytest.mark.parametrize("secret", [Secret(password="x"), Secret(nt_hash="0" * 32)])
@pytest.mark.parametrize("user", ["a\\b\\c", "CONTOSO\\\\alice"])
def test_a_doubled_backslash_is_named(secret, user):
    with pytest.raises(UsageError, match="with one backslash, got"):
        secret.credential(user, None)


@pytest.mark.parametrize(
    "url", ["http://proxy:3128", "https://user:pass@proxy", "socks5://[::1]:1080", "socks5h://proxy"]
)
def test_the_url_of_a_proxy_is_taken_as_it_stands(url):
    assert proxy(url) == url


@pytest.mark.parametrize(
    "url", ["", "proxy:3128", "ftp://u:c4nary@proxy", "http://", "http://proxy:99999", "http://[::1"]
)
def test_what_is_no_url_of_a_proxy_is_refused_without_being_quoted(url):
    with pytest.raises(
        UsageError, match=r"^--proxy: expected a URL of http, https or socks5, such as .*, got another$"
    ):
        proxy(url)
