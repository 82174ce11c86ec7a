"""Remote Credential Guard: a forwarded ticket that the host can open, and nobody else, with a real KDC."""

import concurrent.futures
import sys

import pytest
from support import rfc4120
from support.kerberos import ALICE, cache

from acredssp.credentials import Keytab, Password, RemoteGuard
from acredssp.errors import CredSSPError, PolicyError
from acredssp.mechanisms.kerberos.remote_guard import GuardedTicket
from acredssp.mechanisms.kerberos.tickets import Tickets
from acredssp.status import SecurityStatus
from acredssp.wire import ts_credentials
from acredssp.wire.ticket_logon import KerbTicketLogon

SPN = "TERMSRV/localhost"
FORWARDED = 1 << 29


def guarded(credential, guard=RemoteGuard(), spn=SPN):  # noqa: B008 - a frozen value
    return GuardedTicket(Tickets(credential, forwardable=True), guard, spn)


def opened(kerberos, encoded):
    """What the host's keytab opens: the host's ticket, and what the forwarded one is said to be."""
    credentials = ts_credentials.decode(encoded)
    assert str(credentials.logon_cred.package_name) == "Kerberos"
    assert credentials.supplemental_creds == ()
    keytab = rfc4120.read_keytab(kerberos.keytab.read_bytes())
    ticket, forwarded = rfc4120.open_ticket_logon(keytab, bytes(credentials.logon_cred.cred_buffer))
    (info,) = forwarded["ticket-info"]
    return ticket, info


def krb_cred(encoded):
    logon = KerbTicketLogon.decode(ts_credentials.decode(encoded).logon_cred.cred_buffer)
    return rfc4120.module().decode("KRB-CRED", bytes(logon.ticket_granting_ticket))


@pytest.mark.requirement("kerberos.remote-guard")
@pytest.mark.parametrize("of", ["password", "cache", "own cache", "keytab"])
def test_the_host_is_given_a_forwarded_ticket_of_the_user(of, kerberos, monkeypatch):
    user = "alice"
    match of:
        case "password":
            credential = ALICE
        case "cache":
            credential = cache(kerberos.log_on("alice"))
        case "own cache":
            monkeypatch.setenv("KRB5CCNAME", kerberos.log_on("alice"))
            credential = cache("")
        case _:
            credential, user = Keytab(str(kerberos.keytab), "HTTP/localhost@ACREDSSP.TEST"), "HTTP/localhost"
    ticket, info = opened(kerberos, guarded(credential).fetch())
    assert rfc4120.name(ticket["cname"]) == user
    assert rfc4120.name(info["pname"]) == user
    assert rfc4120.name(info["sname"]) == "krbtgt/ACREDSSP.TEST"
    assert rfc4120.flags(info["flags"]) & FORWARDED


@pytest.mark.requirement("kerberos.remote-guard")
def test_it_is_sealed_with_the_key_of_the_hosts_ticket(kerberos):
    encoded = guarded(ALICE).fetch()
    assert krb_cred(encoded)["enc-part"]["etype"] == 18
    keytab = rfc4120.read_keytab(kerberos.realm.wrong_keytab.read_bytes())
    with pytest.raises(rfc4120.Altered):
        rfc4120.open_ticket_logon(keytab, bytes(ts_credentials.decode(encoded).logon_cred.cred_buffer))


def test_many_at_once_share_one_ticket(kerberos):
    tickets = Tickets(ALICE, forwardable=True)
    guards = [GuardedTicket(tickets, RemoteGuard(), SPN) for _ in range(24)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for encoded in pool.map(GuardedTicket.fetch, guards):
            _, info = opened(kerberos, encoded)
            assert rfc4120.name(info["pname"]) == "alice"


def test_the_users_cache_is_left_as_it_is(kerberos):
    name = kerberos.log_on("alice")
    before = (kerberos.folder / "ticket").read_bytes()
    guarded(cache(name)).fetch()
    assert (kerberos.folder / "ticket").read_bytes() == before


def test_another_service_of_the_host_may_be_named(kerberos):
    encoded = guarded(ALICE, RemoteGuard("HTTP")).fetch()
    logon = KerbTicketLogon.decode(ts_credentials.decode(encoded).logon_cred.cred_buffer)
    ticket = rfc4120.module().decode("Ticket", logon.service_ticket)
    assert rfc4120.name(ticket["sname"]) == "HTTP/localhost"


@pytest.mark.parametrize(
    ("credential", "spn", "status"),
    [
        (Password("wrong", "alice", "acredssp.test"), SPN, SecurityStatus.SEC_E_LOGON_DENIED),
        (ALICE, "TERMSRV/nowhere.acredssp.test", SecurityStatus.SEC_E_TARGET_UNKNOWN),
        (cache("FILE:/nowhere"), SPN, SecurityStatus.SEC_E_NO_CREDENTIALS),
    ],
)
def test_what_cannot_be_fetched_is_told_by_its_cause(credential, spn, status, kerberos):
    with pytest.raises(CredSSPError) as caught:
        guarded(credential, spn=spn).fetch()
    assert caught.value.security_status is status


def test_a_ticket_that_may_not_be_forwarded_is_told(kerberos):
    name = kerberos.log_on("alice", "-F")
    with pytest.raises(CredSSPError, match="the ticket may not be forwarded") as caught:
        guarded(cache(name)).fetch()
    assert "kinit -f" in caught.value.hint


def test_a_machine_without_libkrb5_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "acredssp.mechanisms.kerberos.forwarding", None)
    with pytest.raises(PolicyError, match="needs libkrb5"):
        guarded(ALICE).fetch()


def test_a_server_is_named_by_its_spn():
    with pytest.raises(PolicyError):
        guarded(ALICE, spn="")
