"""Helpers for tests with Kerberos contexts: both sides over the realm of `support.kdc`, stepped by hand."""

import pytest

from acredssp.credentials import Keytab, Password, TicketCache
from acredssp.errors import CredSSPError
from acredssp.mechanisms.base import StepMechanism
from acredssp.mechanisms.kerberos.context import KerberosAcceptor, KerberosInitiator
from acredssp.mechanisms.kerberos.tickets import ServiceKeys, Tickets

pytest.importorskip("gssapi", reason="gssapi is missing: apt-get install libkrb5-dev, then make clean test")
krb5 = pytest.importorskip("krb5", reason="krb5 is missing: apt-get install libkrb5-dev, then make clean test")

SPN = "TERMSRV/localhost"
ALICE = Password("Passw0rd!", "alice", "acredssp.test")


def initiator(credential=ALICE, spn=SPN, **options):
    return KerberosInitiator(Tickets(credential), spn=spn, **options)


def acceptor(kerberos, **options):
    return KerberosAcceptor(ServiceKeys(Keytab(str(kerberos.keytab))), **options)


def cache(name):
    return TicketCache(name)


def run(event):
    """Do the work of an event, as a thread would, and return its outcome."""
    assert isinstance(event, StepMechanism)
    try:
        return event.run()
    except CredSSPError as error:
        return error


def drive(mechanism, token=b""):
    """Give a mechanism a token and answer its events; return its own token."""
    progress = mechanism.step(token)
    while isinstance(progress, StepMechanism):
        progress = mechanism.resume(run(progress))
    return progress


def establish(client, server):
    """Let two contexts, bare or under SPNEGO, talk to the end; return the tokens of both."""
    tokens, sides = [drive(client)], [server, client]
    while tokens[-1]:
        side = sides[len(tokens) % 2 - 1]
        if side.complete:
            break
        tokens.append(drive(side, tokens[-1]))
    assert client.complete
    assert server.complete
    return tokens


def tickets_in(name):
    """The tickets of a cache, in DER."""
    context = krb5.init_context()
    return [bytes(ticket.ticket) for ticket in krb5.cc_resolve(context, name.encode())]
