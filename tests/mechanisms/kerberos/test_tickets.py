"""What Kerberos logs on with, shared by contexts: one ticket for all, replaced and dropped when it has to be."""

import gc
import importlib.util
from pathlib import Path

import pytest
from support.kerberos import ALICE, SPN, acceptor, drive, establish, initiator, tickets_in

from acredssp.credentials import Keytab, TicketCache, TicketInfo
from acredssp.errors import CredSSPError, PolicyError
from acredssp.mechanisms.kerberos.context import KerberosInitiator
from acredssp.mechanisms.kerberos.tickets import Tickets, installed, keytab_realms, parse_spn
from acredssp.status import SecurityStatus

krb5 = pytest.importorskip("krb5")
memory_cache = pytest.importorskip("acredssp.mechanisms.kerberos.memory_cache")


def test_a_password_is_spent_on_one_ticket_for_all_contexts(kerberos):
    tickets = Tickets(ALICE)
    for _ in range(3):
        establish(KerberosInitiator(tickets, spn=SPN), acceptor(kerberos))
    assert kerberos.realm.log.count("AS_REQ") >= 1
    cached = tickets.cache
    assert cached.fresh
    establish(KerberosInitiator(tickets, spn=SPN), acceptor(kerberos))
    assert tickets.cache is cached


def test_a_ticket_that_ends_soon_is_replaced(kerberos, monkeypatch):
    tickets = Tickets(ALICE)
    drive(KerberosInitiator(tickets, spn=SPN))
    first = tickets.cache
    assert first.fresh
    first._until = krb5.timeofday(krb5.init_context()) + 299
    assert not first.fresh
    drive(KerberosInitiator(tickets, spn=SPN))
    assert tickets.cache is not first


def test_a_failure_drops_the_tickets_that_may_be_why(kerberos):
    tickets = Tickets(ALICE)
    drive(KerberosInitiator(tickets, spn=SPN))
    assert tickets.cache is not None
    with pytest.raises(CredSSPError):
        drive(KerberosInitiator(tickets, spn="TERMSRV/nowhere"))
    assert tickets.cache is None
    establish(KerberosInitiator(tickets, spn=SPN), acceptor(kerberos))


def test_a_ticket_in_memory_goes_with_who_holds_it(kerberos):
    held = memory_cache.MemoryCache.acquire(ALICE)
    name = held.name
    assert tickets_in(name)
    del held
    gc.collect()
    assert tickets_in(name) == []


def test_a_password_leaves_the_users_own_cache_alone(kerberos, monkeypatch):
    name = kerberos.log_on("bob")
    monkeypatch.setenv("KRB5CCNAME", name)
    before = tickets_in(name)
    establish(initiator(), acceptor(kerberos))
    assert tickets_in(name) == before


def test_a_cache_of_the_callers_is_not_put_in_memory():
    with pytest.raises(TypeError, match="expected a password or a keytab, got a ticket cache"):
        Tickets(TicketCache()).in_memory()


TICKET = 0x61  # APPLICATION 1 (RFC 4120 5.3); a cache also has entries that are no tickets
AES = "aes256-cts-hmac-sha1-96"
USER, GRANTING, SERVICE = "alice@ACREDSSP.TEST", "krbtgt/ACREDSSP.TEST@ACREDSSP.TEST", f"{SPN}@ACREDSSP.TEST"


def ends_in(name):
    """When the tickets of a cache end, by their services, as libkrb5 tells."""
    context = krb5.init_context()
    tickets = krb5.cc_resolve(context, name.encode())
    return {krb5.unparse_name_flags(context, each.server).decode(): each.times.endtime for each in tickets}


def test_the_contents_of_a_ticket_cache_are_told(kerberos):
    name = kerberos.log_on("alice")
    tickets = Tickets(TicketCache(name))
    end = ends_in(name)[GRANTING]
    assert tickets.held() == (TicketInfo(USER, GRANTING, AES, AES, end, forwardable=True),)
    assert tickets.end() == end


def test_the_users_own_ticket_cache_is_told_of_by_default(kerberos, monkeypatch):
    monkeypatch.setenv("KRB5CCNAME", kerberos.log_on("alice"))
    assert [each.client for each in Tickets(TicketCache()).held()] == [USER]


def test_tickets_in_memory_are_told_once_there_are_some(kerberos):
    tickets = Tickets(ALICE)
    assert (tickets.held(), tickets.end()) == ((), None)
    drive(KerberosInitiator(tickets, spn=SPN))
    assert [each.server for each in tickets.held()] == [GRANTING, SERVICE]
    assert tickets.end() is None  # a password gets new ones


def test_a_cache_without_the_users_first_ticket_has_no_end(kerberos):
    tickets = Tickets(ALICE)
    drive(KerberosInitiator(tickets, spn=SPN))
    _, service = tickets.cache
    alone = memory_cache.MemoryCache(krb5.init_context(), service.client, [service])
    assert Tickets(TicketCache(alone.name)).end() is None


@pytest.mark.parametrize("name", ["FILE:/nonexistent/cache", "RUBBISH:x"])
def test_a_cache_that_cannot_be_read_holds_nothing_that_is_told(name, kerberos):
    tickets = Tickets(TicketCache(name))
    assert (tickets.held(), tickets.end()) == ((), None)


def test_what_is_odd_in_a_ticket_cache_is_told_as_far_as_it_can_be_read(kerberos):
    name = kerberos.log_on("alice")
    path = Path(name.removeprefix("FILE:"))
    [ticket] = [each for each in tickets_in(name) if each[0] == TICKET]
    content = path.read_bytes().replace(ticket, b"\xff" * len(ticket)).replace(b"alice", b"al\xffce")
    path.write_bytes(content)
    [told] = Tickets(TicketCache(name)).held()
    assert (told.client, told.ticket_enctype, told.session_enctype) == ("al\ufffdce@ACREDSSP.TEST", "", AES)


@pytest.mark.parametrize(
    ("modules", "there"),
    [
        (("gssapi", "krb5"), True),
        (("sspilib",), True),
        (("gssapi",), False),
        (("krb5",), False),
        ((), False),
    ],
)
def test_kerberos_is_there_by_the_modules_of_either_system(modules, there, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in modules else None)
    assert installed() is there


def test_the_realms_of_a_keytab(kerberos, tmp_path):
    assert keytab_realms(Keytab(str(kerberos.keytab))) == {"ACREDSSP.TEST"}
    with pytest.raises(CredSSPError, match="no keytab"):
        keytab_realms(Keytab(str(tmp_path / "absent")))


@pytest.mark.parametrize(("spn", "parts"), [("TERMSRV/host", ("TERMSRV", "host")), ("HTTP/a.b:80", ("HTTP", "a.b:80"))])
def test_an_spn_is_split(spn, parts):
    assert parse_spn(spn) == parts


@pytest.mark.parametrize("spn", ["", "localhost", "TERMSRV/", "/localhost", "TERMSRV/a/b", "TERMSRV/a@REALM"])
def test_an_spn_is_a_service_and_a_host(spn):
    with pytest.raises(PolicyError) as caught:
        initiator(spn=spn)
    assert caught.value.security_status is SecurityStatus.SEC_E_TARGET_UNKNOWN
