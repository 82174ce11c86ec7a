"""Names: upper case as Windows has it, held against a table that is not ours."""

import itertools
import struct

import pytest
from support.peers import Lab

from acredssp.names import escape_principal, split_logon_name, split_principal, unicode_upper, upper, user_alone


@pytest.mark.requirement("ntlm.upper-case")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alice", "ALICE"),
        ("Ünal", "ÜNAL"),
        ("straße", "STRAßE"),
        ("Νίκος", "ΝΊΚΟς"),
        ("yıldız", "YıLDıZ"),
        ("µser", "µSER"),
        ("ſmith", "ſMITH"),
        ("юзер", "ЮЗЕР"),
        ("ștefan", "ȘTEFAN"),
        ("გიორგი", "გიორგი"),
        ("\uab70\uab71", "\uab70\uab71"),
        ("\U00010428", "\U00010428"),
        ("\N{LATIN SMALL LIGATURE FI}x", "\N{LATIN SMALL LIGATURE FI}X"),
        ("ᾳ", "ᾼ"),
        ("ǆǅ", "Ǆǅ"),
        ("ŉ", "ŉ"),
        ("用户", "用户"),
        ("\u019b\u0264", "\u019b\u0264"),  # have an upper case since Unicode 16
        ("\ud801\udc28", "\ud801\udc28"),
        ("", ""),
    ],
)
def test_upper_case_is_windows_own(name, expected):
    assert upper(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alice", "ALICE"),
        ("straße", "STRAßE"),
        ("Νίκος", "ΝΊΚΟΣ"),
        ("yıldız", "YILDIZ"),
        ("µser", "ΜSER"),
        ("ŉ", "ŉ"),
        ("ᾳ", "ᾼ"),
        ("ǆ", "Ǆ"),
        ("\U00010428", "\U00010400"),
    ],
)
def test_unicodes_upper_case_maps_one_character_to_one(name, expected):
    assert unicode_upper(name) == expected


@pytest.mark.requirement("ntlm.upper-case")
@pytest.mark.interop
def test_every_character_is_as_ntfs_has_it(tmp_path):
    """NTFS compares file names by the same table, and keeps it in each volume; ntfs-3g makes one of its own."""
    lab = Lab(tmp_path)
    volume = tmp_path / "volume"
    with volume.open("wb") as empty:
        empty.truncate(2 << 20)
    made = lab.run(["mkntfs", "--force", "--quick", "--quiet", volume])
    assert made.status == 0, made.output
    read = lab.start(["ntfscat", "--force", volume, "$UpCase"], split=True)
    assert read.wait() == 0, read.read_errors()
    table = struct.unpack("<65536H", read.output.read_bytes())
    assert [ord(upper(chr(code))) for code in range(0x10000)] == list(table)
    beyond = "".join(map(chr, range(0x10000, 0x110000)))
    assert upper(beyond) == beyond


@pytest.mark.requirement("kerberos.principals")
@pytest.mark.parametrize(
    ("text", "name", "realm"),
    [
        ("alice@REALM", "alice", "REALM"),
        ("HTTP/host@REALM", "HTTP/host", "REALM"),
        (r"HTTP\/host@REALM", r"HTTP\/host", "REALM"),
        (r"alice\@contoso.com@REALM", "alice@contoso.com", "REALM"),
        (r"alice@EVIL\@REALM", "alice", r"EVIL\@REALM"),
        (r"alice\@REALM@EVIL", "alice@REALM", "EVIL"),
        (r"alice\\@REALM", r"alice\\", "REALM"),
        (r"alice\\\@REALM@EVIL", r"alice\\@REALM", "EVIL"),
        (r"al\nice@REALM", r"al\nice", "REALM"),
        (r"al\tice\b\0@REALM", r"al\tice\b\0", "REALM"),
        ("alice", "alice", ""),
        (r"alice\@contoso.com", "alice@contoso.com", ""),
        ("@REALM", "", "REALM"),
        ("alice@", "alice", ""),
        ("", "", ""),
    ],
)
def test_a_principal_is_split_where_its_realm_begins(text, name, realm):
    assert split_principal(text) == (name, realm)


@pytest.mark.requirement("kerberos.principals")
def test_principals_that_differ_have_names_that_differ():
    """Every way in which libkrb5 may write a name of up to four of these pieces."""
    pieces = ["a", "/", r"\/", r"\@", r"\\", r"\n", r"\0"]
    written = {"".join(choice) for length in range(5) for choice in itertools.product(pieces, repeat=length)}
    assert len({split_principal(f"{name}@REALM") for name in written}) == len(written)


@pytest.mark.parametrize("name", ["alice", "alice@contoso.com", "a\\b", "a\nb\tc\bd\0e", "HTTP/host"])
def test_a_users_name_is_written_as_libkrb5_reads_it(name):
    written = escape_principal(name)
    assert written.isprintable()
    split, realm = split_principal(f"{written}@REALM")
    assert realm == "REALM"
    assert split.replace("@", r"\@") == written


@pytest.mark.parametrize(
    ("name", "user", "domain"),
    [
        ("bob", "bob", ""),
        (r"CONTOSO\bob", "bob", "CONTOSO"),
        ("bob@contoso.com", "bob", "contoso.com"),
        (r"AzureAD\bob@contoso.com", "bob@contoso.com", "AzureAD"),
        ("bob@mail.example@contoso.com", "bob@mail.example", "contoso.com"),
        (r"\bob", r"\bob", ""),
        ("CONTOSO\\", "CONTOSO\\", ""),
        ("@contoso.com", "@contoso.com", ""),
        ("bob@", "bob@", ""),
        ("", "", ""),
    ],
)
def test_a_logon_name_is_split_into_user_and_domain(name, user, domain):
    assert split_logon_name(name) == (user, domain)


def test_a_user_alone_is_what_is_left_when_no_domain_can_be_split_off_any_more():
    """Every name of up to seven of these characters that is a plain user's in the end."""
    for length in range(1, 8):
        for name in map("".join, itertools.product("ab\\@", repeat=length)):
            rest, domain = split_logon_name(name)
            while domain:
                rest, domain = split_logon_name(rest)
            if rest.isalpha():
                assert user_alone(name) == rest


@pytest.mark.parametrize("user", ["bob", "@bob", "bob@", "@bob@", "b@ob"])
def test_a_name_alone_is_the_same_whether_the_domain_is_in_the_name_or_apart(user):
    for written in (f"CONTOSO\\{user}", f"{user}@contoso.com", f"A\\CONTOSO\\{user}"):
        assert user_alone(written) == user_alone(user) != ""


@pytest.mark.parametrize("name", ["XAVIER", "MAX", "x"])
def test_a_name_alone_keeps_every_letter(name):
    """Only the separators at either end are cut off."""
    assert user_alone(f"\\{name}@") == user_alone(name) == name
