import pytest

from acredssp.cli.outcome import UsageError
from acredssp.cli.users import Users
from acredssp.credentials import Candidates, Deny, NTHash, Password
from acredssp.hooks import CredentialRequest
from acredssp.mechanisms.base import Principal

HASH = "8846f7eaee8fb117ad06bdd830b7586c"


def answer(text, user, domain=""):
    principal = Principal(user, domain)
    return Users.parse(text.encode()).lookup(CredentialRequest(principal, "ntlm"))


@pytest.mark.parametrize(
    ("line", "user", "domain"),
    [
        ("CONTOSO:alice:pw", "alice", "CONTOSO"),
        ("contoso:ALICE:pw", "Alice", "Contoso"),
        ("STRASSE:bj\u00f6rn:pw", "BJ\u00d6RN", "stra\u00dfe"),
        (":alice:pw", "alice", "CONTOSO"),
        (":alice:pw", "alice", ""),
        ("contoso.com:alice:pw", "alice@contoso.com", ""),
        ("CONTOSO:alice:pw", "alice@contoso.com", ""),
        (":alice@contoso.com:pw", "alice@contoso.com", ""),
        (":alice@contoso.com:pw", "Alice@CONTOSO.com", ""),
        (":alice:pw", "alice@contoso.com", ""),
        ("contoso.com:al@ice:pw", "al@ice@contoso.com", ""),
    ],
)
def test_an_entry_fits(line, user, domain):
    assert answer(line, user, domain) == Password("pw")


@pytest.mark.parametrize(
    ("line", "user", "domain"),
    [
        ("CONTOSO:alice:pw", "alice", ""),
        ("CONTOSO:alice:pw", "alice", "FABRIKAM"),
        ("CONTOSO:alice:pw", "bob", "CONTOSO"),
        ("com:alice:pw", "alice@contoso.com", ""),
        ("contoso:alice:pw", "alice@contoso.com", "FABRIKAM"),
        ("CONTOSO:alice:pw", "alice@contoso.com", "CONTOSO"),
        ("CONTOSO:alice:pw", "@contoso.com", ""),
        ("CONTOSO:alice:pw", "alice@", ""),
        ("", "alice", ""),
    ],
)
def test_everybody_else_is_denied(line, user, domain):
    assert answer(line, user, domain) == Deny()


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("D:u:pw", Password("pw")),
        ("D:u:a:b::c", Password("a:b::c")),
        ("D:u: spaces kept ", Password(" spaces kept ")),
        ("D:u:pw\r", Password("pw")),
        ("D:u:\u2028line\x0bends\x85", Password("\u2028line\x0bends\x85")),
        ("D:u:#no comment", Password("#no comment")),
        ("D:u:$nt$" + HASH, Password("$nt$" + HASH)),
        ("D:u:$NT$" + HASH, NTHash(bytes.fromhex(HASH))),
        ("D:u:$NT$" + HASH.upper(), NTHash(bytes.fromhex(HASH))),
    ],
)
def test_the_secret_is_what_is_behind_the_second_colon(line, secret):
    assert answer(line, "u", "D") == secret


def test_several_entries_that_fit_are_candidates_in_the_order_of_the_file():
    text = f"D:u:old\nother:u:no\n:u:any\nd:U:$NT${HASH}\n"
    assert answer(text, "u", "D") == Candidates([Password("old"), Password("any"), NTHash(bytes.fromhex(HASH))])


def test_blank_lines_comments_and_a_byte_order_mark_are_skipped():
    users = Users.parse(b"\xef\xbb\xbf# first\n\n   \n\r\nD:u:pw\n#D:v:pw\n")
    assert len(users) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"c4nary", "0 of the two colons"),
        (b"D:c4nary", "1 of the two colons"),
        (b"D::c4nary", "empty USER"),
        (b"D:c4nary:", "empty SECRET"),
        (b"D:u:$NT$c4nary", "32 hex digits"),
        (b"D:u:$NT$", "32 hex digits"),
        (b"D:u:$NT$" + HASH.encode() + b"c4", "32 hex digits"),
        (b"D:u:$NT$ " + HASH.encode()[:31], "32 hex digits"),
        (b"D:u:c4nary\xff", "utf-8"),
        (b" #c4nary", "colons"),
    ],
)
def test_a_bad_line_is_named_by_its_number_and_never_quoted(line, said):
    with pytest.raises(UsageError, match="line 3: ") as raised:
        Users.parse(b"# users\nD:u:pw\n" + line + b"\nD:v:pw\n")
    assert said in str(raised.value)
    assert "c4" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read --users .*absent: no such file"):
        Users.from_file(tmp_path / "absent")
