"""An argument of a wrong type is refused by its name, and never quoted."""

import pytest

from acredssp.arguments import (
    expect,
    expect_callable,
    expect_count,
    expect_host_name,
    expect_seconds,
    expect_service_name,
    expect_target_name,
    is_ip_address,
)


@pytest.mark.parametrize(
    ("value", "kinds"),
    [("text", (str,)), (None, (str, None)), (None, (str, type(None))), (True, (int, bool)), (1, (str, int))],
)
def test_an_argument_of_one_of_the_types_is_taken(value, kinds):
    expect("name", value, *kinds)


@pytest.mark.parametrize(
    ("value", "kinds", "said"),
    [
        ("c4nary", (int,), "name: expected int, got str"),
        ("c4nary", (int, bytes, None), "name: expected int or bytes or None, got str"),
        (None, (str,), "name: expected str, got NoneType"),
        (True, (int,), "name: expected int, got bool"),
        (False, (float, int, None), "name: expected float or int or None, got bool"),
        (b"c4nary", (str, type(None)), "name: expected str or None, got bytes"),
    ],
)
def test_another_type_is_refused_by_the_arguments_name(value, kinds, said):
    with pytest.raises(TypeError) as raised:
        expect("name", value, *kinds)
    assert str(raised.value) == said


@pytest.mark.parametrize(("value", "least"), [(1, 1), (0, 0), (10**9, 1)])
def test_a_count_is_a_whole_number_from_the_least_on(value, least):
    expect_count("name", value, least)
    with pytest.raises(ValueError, match=f"^name: expected {least} or more, got {least - 1}$"):
        expect_count("name", least - 1, least)
    with pytest.raises(TypeError, match=r"^name: expected int, got float$"):
        expect_count("name", 1.5, least)


@pytest.mark.parametrize("value", [0.001, 30, 1e9])
def test_seconds_are_a_number_above_0(value):
    expect_seconds("name", value)


@pytest.mark.parametrize(
    ("value", "came"), [(0, "0"), (-1.5, "-1.5"), (float("nan"), "nan"), (float("inf"), "inf"), (1e300, r"1e\+300")]
)
def test_what_is_no_time_is_refused(value, came):
    with pytest.raises(ValueError, match=f"^name: expected seconds above 0 and at most 1,000,000,000, got {came}$"):
        expect_seconds("name", value)


def test_a_function_is_one_or_none():
    expect_callable("hook", None)
    expect_callable("hook", print)
    with pytest.raises(TypeError, match=r"^hook: expected a function or None, got str$"):
        expect_callable("hook", "c4nary")


@pytest.mark.parametrize(
    "name",
    [
        "localhost", "Server_1.example.", "127.0.0.1", "::1", "fe80::1%eth0", "b\u00fccher.example",
        "xn--bcher-kva.example", "a" * 63 + ".x", "_ldap._tcp.example", "my_host", "4711", "a--b.example",
        "foo-.example",
        "::ffff:127.0.0.1",
    ],
)  # fmt: skip
def test_a_host_may_be_named_in_any_language_and_by_its_address(name):
    expect_host_name("host", name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a..b",
        ".x",
        "a" * 64 + ".x",
        "a\0b",
        "a b",
        "a\tb",
        "\ud800",
        "a.b\n",
        ".".join(["a" * 63] * 5),
        "\u00fc" * 80,
        "-a",
        "a/b",
        "[::1]",
        "::1]",
        "::1:::2",
        "host:3389",
        "alice@host",
        "a*b.example",
        "fe80::1%",
        "127.0.0.1%eth0",
        "a\\b",
    ],
)
def test_what_names_no_host_is_refused(name):
    with pytest.raises(ValueError, match=r"^host: expected the name of a host or an ip address, got '") as raised:
        expect_host_name("host", name)
    assert type(raised.value) is ValueError
    assert len(str(raised.value)) < 450
    assert str(raised.value).isascii()


SERVICES = [
    "TERMSRV/host", "HTTP/host:5986", "TERMSRV/h\u00f6st", "ldap/dc.example/example", "ldap/dc.example:389/example",
    "TERMSRV/127.0.0.1", "TERMSRV/::1", "TERMSRV/fe80::1%eth0", "TERMSRV/[::1]:3389", "TERMSRV/[::1]",
    "TERMSRV/host.", "A/my_host",
    "Microsoft Virtual Console Service/hyperv", "T/" + "a" * 63,
]  # fmt: skip
NO_SERVICES = [
    "TERMSRV/", "/", "/x", "A/b/c/d", "A//c", "A/b/", "bad spn", "TERMSRV/bad host", "TERMSRV/\0x", "T/a\nb",
    "T/\ud800",
    "TERMSRV/host:", "TERMSRV/host:x", "TERMSRV/host:0", "TERMSRV/host:65536", "TERMSRV/:3389", "TERMSRV/[::1",
    "TERMSRV/[host]", "TERMSRV/[::1]x", "TERMSRV/[::1]:",
    "TERMSRV/host@REALM", " TERMSRV/host", "TERMSRV /host", "host@REALM", "TERMSRV/*", "T/" + "a" * 40000,
    "T/h/" + "n" * 1021,
]  # fmt: skip


@pytest.mark.parametrize("check", [expect_service_name, expect_target_name])
@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_be_named_as_directories_name_it(name, check):
    check("spn", name)


@pytest.mark.parametrize("check", [expect_service_name, expect_target_name])
@pytest.mark.parametrize("name", NO_SERVICES)
def test_what_names_no_service_is_refused(name, check):
    with pytest.raises(
        ValueError, match=r"^spn: expected SERVICE/host, SERVICE/host:port or SERVICE/host/name"
    ) as raised:
        check("spn", name)
    assert len(str(raised.value)) < 450


@pytest.mark.parametrize("name", ["", "TERMSRV", "host.example", "host:3389"])
def test_a_target_may_be_nobody_or_a_host_alone_and_a_service_may_not(name):
    expect_target_name("spn", name)
    with pytest.raises(ValueError, match=r"^spn: expected SERVICE/host"):
        expect_service_name("spn", name)


@pytest.mark.parametrize("check", [expect_host_name, expect_service_name, expect_target_name])
def test_a_name_is_text(check):
    with pytest.raises(TypeError, match=r"^x: expected str, got bytearray$"):
        check("x", bytearray(b"h"))


@pytest.mark.parametrize(
    ("host", "is_address"),
    [
        ("192.0.2.7", True),
        ("2001:db8::7", True),
        ("fe80::1%eth0", True),
        ("::ffff:192.0.2.7", True),
        ("desktop.example", False),
        ("127.1", False),
        ("192.0.2.256", False),
        ("1", False),
        ("[::1]", False),
        ("host:3389", False),
        ("\u0661.1.1.1", False),
        ("", False),
    ],
)
def test_an_address_is_told_from_a_name(host, is_address):
    assert is_ip_address(host) is is_address
