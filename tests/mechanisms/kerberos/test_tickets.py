"""What Kerberos logs on with, shared by contexts: one ticket for all, replaced and dropped when it has to be."""

import gc

import pytest
from support.kerberos import ALICE, SPN, acceptor, drive, establish, initiator, tickets_in

from acredssp.credentials import Keytab, TicketCache
from acredssp.errors import CredSSPError, PolicyError
from acredssp.mechanisms.kerberos.context import KerberosInitiator
from acredssp.mechanisms.kerberos.tickets import Tickets, keytab_realms, parse_spn
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
