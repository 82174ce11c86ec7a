"""What is of the wrong type is refused where it is given, by its name, and never quoted."""

import dataclasses
import ssl

import pytest

import acredssp
from acredssp import (
    NTSTATUS,
    RDP,
    TLS,
    Account,
    ClientConfig,
    Deny,
    FailureLimit,
    Keytab,
    NTHash,
    Password,
    Policy,
    ServerConfig,
    TicketCache,
    Trust,
)
from acredssp.config import NTLMIdentity
from acredssp.credentials import Candidates, Oracle, RemoteGuard, SmartCard
from acredssp.policy import MechanismChoice
from acredssp.tls import client_context
from acredssp.tls_config import client_context_from_pem

SECRET = "c4nary"
CERTIFICATE, KEY = acredssp.self_signed(["localhost"], "ec")


def client(**changes):
    return ClientConfig(**{"authenticate": Password("pw", "u"), "trust": Trust.pinned("00" * 32)} | changes)


def server(**changes):
    context = acredssp.server_context_from_pem(Policy(), CERTIFICATE, KEY)
    return ServerConfig(**{"ssl_context": context, "lookup": print} | changes)


def of_clients():
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def of_servers():
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


TIMEOUTS = ["handshake_timeout", "hook_timeout", "authorize_timeout", "admit_timeout", "kerberos_timeout"]
NO_SECONDS = [0, -1.0, float("nan"), float("inf"), 1e300]

REFUSED = [
    (client, {"trust": "server.pem"}, TypeError),
    (client, {"trust": Trust}, TypeError),
    (client, {"authenticate": SECRET}, TypeError),
    (client, {"authenticate": None}, TypeError),
    (client, {"authenticate": SmartCard("1234")}, TypeError),
    (client, {"authenticate": Password(SECRET)}, ValueError),
    (client, {"authenticate": NTHash(bytes(16), domain="CONTOSO")}, ValueError),
    (client, {"delegate": NTHash(bytes(16))}, TypeError),
    (client, {"delegate": SECRET}, TypeError),
    (client, {"delegate": TicketCache()}, TypeError),
    (client, {"delegation": "TERMSRV/*"}, TypeError),
    (client, {"credential_class": "fresh"}, TypeError),
    (client, {"mutual_auth": "yes"}, TypeError),
    (client, {"policy": None}, TypeError),
    (client, {"policy": {"min_version": 5}}, TypeError),
    (client, {"ssl_context": "ca.pem"}, TypeError),
    (client, {"ssl_context": of_servers()}, ValueError),
    (client, {"workstation": b"PC"}, TypeError),
    (server, {"ssl_context": "server.pem"}, TypeError),
    (server, {"ssl_context": of_clients()}, ValueError),
    (server, {"certificate": "server.pem"}, TypeError),
    (server, {"lookup": Password(SECRET)}, TypeError),
    (server, {"lookup": {"alice": SECRET}}, TypeError),
    (server, {"authorize": True}, TypeError),
    (server, {"admit": ["alice"]}, TypeError),
    (server, {"keytab": "/etc/krb5.keytab"}, TypeError),
    (server, {"policy": "strict"}, TypeError),
    (server, {"identity": "HOST"}, TypeError),
    (Policy, {"min_tls": "1.2"}, TypeError),
    (Policy, {"max_tls": 3}, TypeError),
    (Policy, {"min_version": "5"}, TypeError),
    (Policy, {"max_version": 6.0}, TypeError),
    (Policy, {"mechanism": "digest"}, ValueError),
    (Policy, {"fall_back": "never"}, TypeError),
    (Policy, {"max_message": "1 MiB"}, TypeError),
    (Policy, {"max_rounds": 2.5}, TypeError),
    (Policy, {"handshake_timeout": "30"}, TypeError),
    (Policy, {"hook_timeout": None}, TypeError),
    (Policy, {"kerberos_timeout": "10"}, TypeError),
    (Trust, {"authorities": "server.pem"}, TypeError),
    (Trust, {"authorities": (CERTIFICATE,)}, TypeError),
    (Trust, {"pins": "00" * 32}, TypeError),
    (Trust, {"pins": frozenset([b"00" * 32])}, TypeError),
    (Trust, {"pins": frozenset(["00"])}, ValueError),
    (Password, {"password": SECRET.encode()}, TypeError),
    (Password, {"password": None}, TypeError),
    (Password, {"password": SECRET, "user": b"u"}, TypeError),
    (Password, {"password": SECRET, "domain": None}, TypeError),
    (NTHash, {"nt_hash": "00" * 16}, TypeError),
    (NTHash, {"nt_hash": bytes(8)}, ValueError),
    (NTHash, {"nt_hash": bytes(16), "user": None}, TypeError),
    (TicketCache, {"name": None}, TypeError),
    (Keytab, {"principal": b"HOST/x"}, TypeError),
    (SmartCard, {"pin": 1234}, TypeError),
    (SmartCard, {"pin": SECRET, "key_spec": "1"}, TypeError),
    (RemoteGuard, {"service": None}, TypeError),
    (RemoteGuard, {"service": ""}, ValueError),
    (RemoteGuard, {"service": "HOST/x"}, ValueError),
    (SmartCard, {"pin": SECRET, "key_spec": True}, TypeError),
    (Oracle, {"verify": SECRET}, TypeError),
    (Account, {"user": 5}, TypeError),
    (Account, {"user": "alice", "domain": None}, TypeError),
    (Candidates, {"secrets": SECRET}, TypeError),
    (Candidates, {"secrets": [SECRET]}, TypeError),
    (Candidates, {"secrets": [Password(SECRET), None]}, TypeError),
    (Candidates, {"secrets": Password(SECRET)}, TypeError),
    (Candidates, {"secrets": None}, TypeError),
    (Deny, {"nt_status": 5}, TypeError),
    (Deny, {"nt_status": NTSTATUS.STATUS_SUCCESS}, ValueError),
    (Deny, {"nt_status": NTSTATUS(0x40000000)}, ValueError),
    (Deny, {"nt_status": "STATUS_LOGON_FAILURE"}, TypeError),
    (Deny, {"secret": SECRET}, TypeError),
    (Deny, {"secret": [Password(SECRET)]}, TypeError),
    (Deny, {"proven": "yes"}, TypeError),
    (Password, {"password": SECRET, "domain": "D", "user": r"C\a"}, ValueError),
    (NTHash, {"nt_hash": bytes(16), "domain": "D", "user": r"C\a"}, ValueError),
    (Policy, {"min_version": True}, TypeError),
    (Policy, {"max_rounds": True}, TypeError),
    (Policy, {"handshake_timeout": True}, TypeError),
    (Policy, {"fall_back": {"SEC_E_NO_CREDENTIALS"}}, TypeError),
    (Policy, {"max_message": 0}, ValueError),
    (Policy, {"max_rounds": -1}, ValueError),
    *[(Policy, {name: value}, ValueError) for name in TIMEOUTS for value in NO_SECONDS],
    (FailureLimit, {"count": "3"}, TypeError),
    (FailureLimit, {"count": True}, TypeError),
    (FailureLimit, {"count": None}, TypeError),
    (FailureLimit, {"count": 2.5}, TypeError),
    (FailureLimit, {"count": float("nan")}, TypeError),
    (FailureLimit, {"seconds": True}, TypeError),
    (FailureLimit, {"seconds": None}, TypeError),
    (FailureLimit, {"seconds": float("inf")}, ValueError),
    (FailureLimit, {"count": 0}, ValueError),
    (FailureLimit, {"seconds": "60"}, TypeError),
    (FailureLimit, {"seconds": -1}, ValueError),
    (FailureLimit, {"seconds": float("nan")}, ValueError),
    (acredssp.server_context, {"certfile": "s.pem", "policy": "strict"}, TypeError),
    (acredssp.server_context, {"policy": Policy(), "certfile": b"s.pem"}, TypeError),
    (acredssp.server_context, {"policy": Policy(), "certfile": "s.pem", "keyfile": 5}, TypeError),
    (acredssp.server_context_from_pem, {"policy": Policy(), "key": KEY, "certificate": "s.pem"}, TypeError),
    (acredssp.server_context_from_pem, {"policy": Policy(), "certificate": CERTIFICATE, "key": SECRET}, TypeError),
    (acredssp.server_context_from_pem, {"certificate": CERTIFICATE, "key": KEY, "policy": None}, TypeError),
    (client_context, {"policy": "strict"}, TypeError),
    (client_context_from_pem, {"certificate": CERTIFICATE, "key": KEY, "policy": None}, TypeError),
    (acredssp.self_signed, {"names": "localhost"}, TypeError),
    (acredssp.self_signed, {"names": [5]}, TypeError),
    (acredssp.self_signed, {"names": []}, ValueError),
    (acredssp.self_signed, {"names": ["h"], "key_type": "dsa"}, ValueError),
    (NTLMIdentity, {"netbios_computer": b"PC"}, TypeError),
    (NTLMIdentity, {"netbios_computer": "PC", "dns_domain": None}, TypeError),
    (RDP, {"cookie": None}, TypeError),
]


@pytest.mark.parametrize(
    ("make", "arguments", "kind"),
    REFUSED,
    ids=[f"{make.__name__}-{list(given)[-1]}-{number}" for number, (make, given, _) in enumerate(REFUSED)],
)
def test_an_argument_that_cannot_be_is_refused_by_its_name_and_not_quoted(make, arguments, kind):
    with pytest.raises(kind) as raised:
        make(**arguments)
    assert type(raised.value) is kind
    name = list(arguments)[-1]
    assert name in str(raised.value) or (kind is ValueError and make is Policy)
    assert SECRET not in str(raised.value)


SWITCHES = [field.name for field in dataclasses.fields(Policy) if isinstance(field.default, bool)]


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("value", ["no", 1, None])
def test_nothing_but_a_bool_turns_a_switch_of_the_policy(switch, value):
    with pytest.raises(TypeError, match=f"^{switch}: expected bool"):
        Policy(**{switch: value})


def test_every_dangerous_switch_is_one_of_them():
    assert {field.name for field in dataclasses.fields(Policy) if field.name.startswith("dangerous")} <= set(SWITCHES)


def test_what_is_given_otherwise_is_taken_as_it_is_kept():
    pin = "AB:" * 31 + "CD"
    assert Trust(pins={pin}).pins == Trust.pinned(pin).pins == frozenset(["ab" * 31 + "cd"])
    assert Trust(authorities=[]).authorities == ()
    assert Policy(mechanism="ntlm").mechanism is MechanismChoice.NTLM
    assert Policy(handshake_timeout=30).handshake_timeout == 30


SERVER = server()

NOWHERE = {"host": "127.0.0.1", "port": 1}
CONNECTS = [
    ({"config": SERVER}, TypeError, "config: expected ClientConfig, got ServerConfig"),
    ({"config": None}, TypeError, "config: expected ClientConfig, got NoneType"),
    (
        {"carriage": RDP},
        TypeError,
        r"carriage: expected a carriage such as TLS\(\) or RDP\(\), got RDP without parentheses",
    ),
    ({"carriage": "rdp"}, TypeError, "carriage: expected a carriage"),
    ({"handshake_timeout": "30"}, TypeError, "handshake_timeout: expected float or int or None"),
    ({"connect_timeout": "30"}, TypeError, "connect_timeout: expected float or int or None"),
    *[({"handshake_timeout": value}, ValueError, "handshake_timeout: expected seconds") for value in NO_SECONDS],
    *[({"connect_timeout": value}, ValueError, "connect_timeout: expected seconds") for value in NO_SECONDS],
    ({"spn": b"TERMSRV/x"}, TypeError, "spn: expected str"),
    ({"spn": "TERMSRV/" + "a" * 40000}, ValueError, "spn: expected SERVICE/host"),
    ({"spn": ""}, ValueError, "spn: expected SERVICE/host"),
    ({"spn": "TERMSRV/"}, ValueError, "spn: expected SERVICE/host"),
    ({"spn": "TERMSRV"}, ValueError, "spn: expected SERVICE/host"),
    ({"spn": "bad spn"}, ValueError, "spn: expected SERVICE/host"),
    ({"spn": "A/b/c/d"}, ValueError, "spn: expected SERVICE/host"),
    ({"server_hostname": 1}, TypeError, "server_hostname: expected str"),
    ({"server_hostname": "a..b"}, ValueError, "server_hostname: expected the name of a host"),
    ({"server_hostname": "a\0b"}, ValueError, "server_hostname: expected the name of a host"),
    ({"server_hostname": ""}, ValueError, "server_hostname: expected the name of a host"),
    ({"host": "-a"}, ValueError, "host: expected the name of a host"),
    ({"host": "a/b"}, ValueError, "host: expected the name of a host"),
    ({"host": "[::1]"}, ValueError, "host: expected the name of a host"),
    ({"host": "a..b"}, ValueError, "host: expected the name of a host"),
    ({"host": "a\0b"}, ValueError, "host: expected the name of a host"),
]


@pytest.mark.parametrize(("changes", "kind", "said"), CONNECTS)
async def test_a_client_that_cannot_be_says_so_before_it_connects(changes, kind, said):
    arguments = NOWHERE | {"config": client()} | changes
    with pytest.raises(kind, match=said) as raised:
        await acredssp.open_connection(**arguments)
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": client()}, "config: expected ServerConfig, got ClientConfig"),
        ({"carriage": TLS}, "carriage: expected a carriage"),
        ({"handshake_timeout": "30"}, "handshake_timeout: expected"),
        ({"max_handshakes": 1.5}, "max_handshakes: expected int or None"),
        ({"on_handshake": "print"}, "on_handshake: expected a function"),
        ({"backlog": "many"}, "backlog: expected int"),
        ({"accept": "all"}, "accept: expected a function"),
        ({"max_handshakes": True}, "max_handshakes: expected int or None"),
        ({"max_failures": 5}, "max_failures: expected FailureLimit or None"),
        ({"max_handshakes_per_source": "5"}, "max_handshakes_per_source: expected int or None"),
    ],
)
async def test_a_server_that_cannot_be_says_so_before_it_listens(changes, said):
    arguments = {"host": "127.0.0.1", "port": 0, "config": SERVER} | changes
    with pytest.raises(TypeError, match=said):
        await acredssp.start_server(print, **arguments)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_handshakes": 0}, "max_handshakes: expected 1 or more, got 0"),
        ({"max_handshakes": -1}, "max_handshakes: expected 1 or more, got -1"),
        ({"max_handshakes_per_source": 0}, "max_handshakes_per_source: expected 1 or more, got 0"),
        ({"max_failed_per_second": 0}, "max_failed_per_second: expected 1 or more, got 0"),
        ({"backlog": -1}, "backlog: expected 0 or more, got -1"),
        *[({"handshake_timeout": value}, "handshake_timeout: expected seconds") for value in NO_SECONDS],
    ],
)
async def test_a_limit_that_lets_nobody_in_or_is_none_is_refused(changes, said):
    arguments = {"host": "127.0.0.1", "port": 0, "config": SERVER} | changes
    with pytest.raises(ValueError, match=said):
        await acredssp.start_server(print, **arguments)


async def test_a_handshake_over_a_connection_takes_a_configuration_of_one_side():
    with pytest.raises(TypeError, match="config: expected ClientConfig or ServerConfig, got str"):
        await acredssp.start_credssp(None, None, "config")


@pytest.mark.parametrize("upgrade", [acredssp.start_credssp, acredssp.start_credssp_streams])
async def test_bytes_that_were_read_before_are_bytes(upgrade):
    with pytest.raises(TypeError, match="initial_data: expected bytes or bytearray, got str"):
        await upgrade(None, None, SERVER, initial_data=SECRET)


@pytest.mark.parametrize(
    "make",
    [
        lambda **names: client().new_context(**{"server_hostname": "h", "spn": "TERMSRV/h"} | names),
        lambda **names: client().new_bare_context(**{"public_key": b"k", "spn": "TERMSRV/h"} | names),
    ],
)
@pytest.mark.parametrize("name", ["TERMSRV/" + "a" * 40000, "TERMSRV/a\nb", "TERMSRV/a\0", "TERMSRV/", "/x", "bad spn"])
def test_the_engine_refuses_a_service_that_cannot_be(make, name):
    with pytest.raises(ValueError, match="spn: expected SERVICE/host"):
        make(spn=name)


def test_the_engine_refuses_a_host_that_cannot_be():
    with pytest.raises(ValueError, match="server_hostname: expected the name of a host"):
        client().new_context(server_hostname="a..b", spn="TERMSRV/h")
