"""The objects of a logon have slots alone: each step finds them cold where other logons are in flight."""

import pytest
from support.ntlm import acceptor, initiator

from acredssp.core.client import ClientHandshake
from acredssp.core.context import SecurityContext
from acredssp.core.server import ServerHandshake
from acredssp.mechanisms.negotiate import DetectingAcceptor, NegotiateAcceptor, NegotiateInitiator
from acredssp.policy import Policy
from acredssp.wire.ts_credentials import TSPasswordCreds


def objects():
    yield initiator()
    yield acceptor()
    yield NegotiateInitiator([initiator()])
    yield NegotiateAcceptor([acceptor()])
    yield DetectingAcceptor([acceptor()])
    for handshake in (
        ClientHandshake(initiator(), TSPasswordCreds.of(), Policy()),
        ServerHandshake(acceptor(), Policy()),
    ):
        yield handshake
        yield SecurityContext(handshake, None, public_key=b"key")


@pytest.mark.parametrize("thing", list(objects()), ids=lambda thing: type(thing).__name__)
def test_an_object_of_a_logon_has_no_dictionary(thing):
    with pytest.raises(TypeError):
        vars(thing)
