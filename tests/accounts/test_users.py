import traceback

import pytest

from acredssp.accounts import Users
from acredssp.credentials import Account, Deny, NTHash, Password
from acredssp.hooks import CredentialRequest
from acredssp.mechanisms.base import Principal

HASH = "8846f7eaee8fb117ad06bdd830b7586c"


def answer(text, user, domain=""):
    principal = Principal(user, domain)
    return Users.parse(text.encode()).lookup(CredentialRequest(principal, "ntlm"))


def denied(text, user, domain=""):
    return isinstance(answer(text, user, domain), Deny)


@pytest.mark.requirement("accounts.suffix")
@pytest.mark.parametrize(
    ("line", "user", "domain", "account"),
    [
        ("CONTOSO:alice:pw", "alice", "CONTOSO", "CONTOSO\\alice"),
        ("contoso:ALICE:pw", "Alice", "Contoso", "contoso\\ALICE"),
        ("BÜCHER:björn:pw", "BJÖRN", "bücher", "BÜCHER\\björn"),
        (":alice:pw", "alice", "CONTOSO", "alice"),
        (":alice:pw", "alice", "", "alice"),
        ("contoso.com:alice:pw", "alice@contoso.com", "", "contoso.com\\alice"),
        ("contoso.com:alice:pw", "alice", "CONTOSO.COM", "contoso.com\\alice"),
        ("contoso:alice:pw", "alice@contoso", "", "contoso\\alice"),
        ("CONTOSO=contoso.com\nCONTOSO:alice:pw", "alice@contoso.com", "", "CONTOSO\\alice"),
        ("CONTOSO:alice:pw\nCONTOSO = contoso.com", "alice@Contoso.COM", "", "CONTOSO\\alice"),
        ("CONTOSO=contoso.com\nCONTOSO:alice:pw", "alice", "contoso.com", "CONTOSO\\alice"),
        ("CONTOSO=contoso.com\nCONTOSO=corp.test\nCONTOSO:alice:pw", "alice@corp.test", "", "CONTOSO\\alice"),
        ("CONTOSO=contoso.com\ncontoso.com:alice:pw", "alice", "contoso", "CONTOSO\\alice"),
        (":alice@contoso.com:pw", "alice@contoso.com", "", "contoso.com\\alice"),
        (":alice@contoso.com:pw", "Alice@CONTOSO.com", "", "contoso.com\\alice"),
        (":alice:pw", "alice@contoso.com", "", "alice"),
        ("contoso.com:al@ice:pw", "al@ice@contoso.com", "", "contoso.com\\al@ice"),
        ("CONTOSO:alice:pw", "CONTOSO\\alice", "", "CONTOSO\\alice"),
        ("AzureAD:a@contoso.com:pw", "AzureAD\\a@contoso.com", "", "AzureAD\\a@contoso.com"),
    ],
)
def test_an_entry_fits_and_says_whose_logon_it_is(line, user, domain, account):
    found = answer(line, user, domain)
    assert found.password == "pw"
    assert str(Account(found.user, found.domain)) == account


@pytest.mark.requirement("accounts.suffix")
@pytest.mark.parametrize(
    ("line", "user", "domain"),
    [
        ("CONTOSO:alice:pw", "alice", ""),
        ("CONTOSO:alice:pw", "alice", "FABRIKAM"),
        ("CONTOSO:alice:pw", "bob", "CONTOSO"),
        ("CONTOSO:alice:pw", "alice ", "CONTOSO"),
        ("com:alice:pw", "alice@contoso.com", ""),
        ("CONTOSO:alice:pw", "alice@contoso.com", ""),
        ("CONTOSO:alice:pw", "alice@contoso.evil.example", ""),
        ("CONTOSO=contoso.com\nCONTOSO:alice:pw", "alice@contoso.com.evil.example", ""),
        ("CONTOSO=contoso.com\nCONTOSO:alice:pw", "alice@evil.contoso.com", ""),
        ("contoso:alice:pw", "alice@contoso.com", "FABRIKAM"),
        ("CONTOSO:alice:pw", "alice@contoso", "CONTOSO"),
        ("CONTOSO:alice:pw", "@contoso.com", ""),
        ("CONTOSO:alice:pw", "alice@", ""),
        ("CONTOSO:alice:pw", "CONTOSO\\", ""),
        ("CONTOSO:straße:pw", "strasse", "CONTOSO"),
        ("STRASSE:alice:pw", "alice", "straße"),
        (":smith:pw", "ſmith", ""),
        (":kelvin:pw", "\N{KELVIN SIGN}elvin", ""),
        (":fiona:pw", "\N{LATIN SMALL LIGATURE FI}ona", ""),
        ("CONTOSO:alice:", "alice", "CONTOSO"),
        ("CONTOSO:*:", "alice", "CONTOSO"),
        ("CONTOSO:*:", "*", "CONTOSO"),
        ("", "alice", ""),
    ],
)
def test_everybody_else_is_denied(line, user, domain):
    assert denied(line, user, domain)


@pytest.mark.parametrize("text", [":bob:local\nCONTOSO:bob:domain", "CONTOSO:bob:domain\n:bob:local"])
def test_the_entry_of_the_very_domain_wins_over_the_one_for_any(text):
    assert answer(text, "bob", "CONTOSO").password == "domain"
    assert answer(text, "bob@contoso").password == "domain"
    assert answer(text, "bob", "FABRIKAM").password == "local"
    assert answer(text, "bob").password == "local"


@pytest.mark.requirement("accounts.names")
def test_accounts_that_windows_tells_apart_are_two():
    text = ":strasse:one\n:straße:two"
    assert answer(text, "STRASSE", "CONTOSO").password == "one"
    assert answer(text, "STRAßE", "CONTOSO").password == "two"


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("D:u:pw", Password("pw", "u", "D")),
        ("D:u:a:b::c", Password("a:b::c", "u", "D")),
        ("D:u: spaces kept ", Password(" spaces kept ", "u", "D")),
        ("D:u:pw\r", Password("pw", "u", "D")),
        ("D:u:\u2028line\x0bends\x85", Password("\u2028line\x0bends\x85", "u", "D")),
        ("D:u:#no comment", Password("#no comment", "u", "D")),
        ("D:u:a=b", Password("a=b", "u", "D")),
        ("D:u:$nt$" + HASH, Password("$nt$" + HASH, "u", "D")),
        ("D:u:$NT$" + HASH, NTHash(bytes.fromhex(HASH), "u", "D")),
        ("D:u:$NT$" + HASH.upper(), NTHash(bytes.fromhex(HASH), "u", "D")),
    ],
)
def test_the_secret_is_what_is_behind_the_second_colon(line, secret):
    assert answer(line, "u", "D") == secret


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("D:u:old\n#\nd:U:new", "line 3: the same account as in line 1"),
        (":u:old\n:u:", "line 2: the same account as in line 1"),
        ("contoso.com:alice:1\n:alice@contoso.com:2", "line 2: the same account as in line 1"),
        ("D:u:1\n:D\\u:2", "line 2: the same account as in line 1"),
        ("D:u:1\nD=d.test\nd.test:u:2", "line 3: the same account as in line 1"),
        ("D:u:1\n:u@d.test:2\nD=d.test", "line 2: the same account as in line 1"),
        ("D:*:\nd:*:", "line 2: the same account as in line 1"),
        ("A=x.test\nB=X.test", "line 2: the same suffix as in line 1"),
        ("A=x.test\nA=x.test", "line 2: the same suffix as in line 1"),
        ("A=b\nB=c", "line 2: expected a domain, got the suffix of line 1"),
        ("B=c\nA=b", "line 1: expected a domain, got the suffix of line 2"),
        ("A=a", "line 1: expected a domain, got the suffix of line 1"),
    ],
)
def test_lines_that_come_to_one_are_named_by_both_numbers(text, said):
    with pytest.raises(ValueError, match=f"^{said}$"):
        Users.parse(text.encode())


def test_every_name_takes_the_time_of_one_secret():
    """So does a name that is unknown, or that logs on by ticket alone."""
    text = "D:u:pw\n:u:other\nD:t:\nE:*:"
    users = Users.parse(text.encode())
    for user, domain in (("u", "D"), ("u", "X"), ("t", "D"), ("nobody", "D"), ("nobody", "E"), ("nobody", "")):
        found = users.lookup(CredentialRequest(Principal(user, domain), "ntlm"))
        secret = found.secret if isinstance(found, Deny) else found
        assert len(secret.nt_hash) == 16


@pytest.mark.requirement("accounts.suffix")
@pytest.mark.parametrize(
    ("user", "realm", "account"),
    [
        ("alice", "CONTOSO.COM", "CONTOSO\\alice"),
        ("ALICE", "contoso.com", "CONTOSO\\alice"),
        ("dave", "CONTOSO.COM", "CONTOSO\\dave"),
        ("bob", "FABRIKAM.TEST", "bob"),
        ("erin", "EVERYBODY.TEST", "EVERYBODY.TEST\\erin"),
        ("erin", "CONTOSO.COM", None),
        ("erin", "EVERYBODY.TEST.EVIL", None),
        ("alice", "EVIL\\@CONTOSO.COM", None),
        ("*", "CONTOSO.COM", None),
    ],
)
def test_a_ticket_is_for_an_account_of_the_file(user, realm, account):
    text = "CONTOSO=contoso.com\nCONTOSO:alice:pw\nCONTOSO:dave:\n:bob:pw\neverybody.test:*:"
    found = Users.parse(text.encode()).account(user, realm)
    assert (found if found is None else str(found)) == account


@pytest.mark.parametrize(("text", "told"), [("D:u:pw", None), ("D:u:", 1), ("#\nD:*:\nD:u:", 2), ("", None)])
def test_the_first_entry_for_tickets_is_told(text, told):
    assert Users.parse(text.encode()).by_ticket_alone == told


def test_blank_lines_comments_and_a_byte_order_mark_are_skipped():
    users = Users.parse(b"\xef\xbb\xbf# first\n\n   \n\r\nD:u:pw\n#D:v:pw\n")
    assert len(users) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"c4nary", "0 of the two colons"),
        (b"D:c4nary", "1 of the two colons"),
        (b"D::c4nary", "empty USER"),
        (b"D:E\\c4nary:pw", "a USER without a backslash"),
        (b":D\\E\\c4nary:pw", "a USER without a backslash"),
        (b"D:*:c4nary", "no secret"),
        (b":*:", "of a domain"),
        (b"=c4nary", "DOMAIN=SUFFIX"),
        (b"c4nary=", "DOMAIN=SUFFIX"),
        (b"D=c4nary:u", "1 of the two colons"),
        (b"D:u:$NT$c4nary", "32 hex digits"),
        (b"D:u:$NT$", "32 hex digits"),
        (b"D:u:$NT$" + HASH.encode() + b"c4", "32 hex digits"),
        (b"D:u:$NT$ " + HASH.encode()[:31], "32 hex digits"),
        (b"D:u:c4nary\xff", "utf-8"),
        (b" #c4nary", "colons"),
    ],
)
def test_a_bad_line_is_named_by_its_number_and_never_quoted(line, said):
    with pytest.raises(ValueError, match="line 3: ") as raised:
        Users.parse(b"# users\nD:u:pw\n" + line + b"\nD:v:pw\n")
    assert said in str(raised.value)
    assert "c4" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_file_that_is_not_there_is_the_operating_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Users.from_file(tmp_path / "absent")


def test_a_wrong_line_is_named_behind_its_file(tmp_path):
    (tmp_path / "users").write_bytes(b"\nCONTOSO:c4nary\n")
    with pytest.raises(ValueError, match=r"users: line 2: expected DOMAIN:USER:SECRET") as raised:
        Users.from_file(tmp_path / "users")
    assert "c4nary" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("ALICE", True),
        ("carol", True),
        ("erin", False),
        ("contoso\\Alice", True),
        ("alice@contoso.com", True),
        ("FABRIKAM\\alice", False),
        ("FABRIKAM\\carol", True),
    ],
)
def test_a_name_is_known_if_an_account_of_the_file_has_it(name, known):
    assert Users.parse(b"CONTOSO=contoso.com\nCONTOSO:alice:pw\n:carol:pw").knows(name) is known


def test_where_everybody_of_a_domain_has_an_account_every_name_is_known():
    users = Users.parse(b"EVERY:*:")
    assert users.knows("anybody")
    assert users.knows("EVERY\\anybody")
    assert not users.knows("CONTOSO\\anybody")


def test_a_domain_ends_at_the_first_equals_sign():
    assert Users.parse(b"CONTOSO=a=b\nCONTOSO:alice:pw").account("alice", "a=b") == Account("alice", "CONTOSO")


WRONG_LINES = [
    b"CONTOSO:bob:Bobs\xf6Passw0rd",
    b"BobsPassw0rd",
    b"CONTOSO::BobsPassw0rd",
    b"CONTOSO:*:BobsPassw0rd",
    b"CONTOSO:a\\b:BobsPassw0rd",
    b"CONTOSO:bob:$NT$BobsPassw0rd",
    b"CONTOSO:alice:BobsPassw0rd",
]


@pytest.mark.parametrize("line", WRONG_LINES)
def test_what_is_wrong_in_a_file_is_told_without_its_secrets(line, tmp_path):
    path = tmp_path / "users"
    path.write_bytes(b"CONTOSO:alice:AlicesPassw0rd\n" + line + b"\n")
    for read in (lambda: Users.from_file(path), lambda: Users.parse(path.read_bytes())):
        with pytest.raises(ValueError, match=r"line 2: (expected|the same)") as caught:
            read()
        assert caught.value.__context__ is None
        frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
        ours = [frame.f_locals for frame in frames if frame.f_globals["__name__"].startswith("acredssp.")]
        assert ours
        assert "Passw0rd" not in repr(ours)
