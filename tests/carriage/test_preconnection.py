"""A preconnection PDU before the Connection Request: sent by a client that has one, taken by a server that may."""

import pytest
from support.engine import CUTS, End, converse
from support.logon import ALICE, server_tls
from support.logon import client as client_end

from acredssp.carriage.rdp import RDP, RDPState
from acredssp.config import ServerConfig
from acredssp.errors import RemoteProtocolError
from acredssp.policy import Policy
from acredssp.status import SecurityStatus, Stage
from acredssp.wire.preconnection import PreconnectionPDU
from acredssp.wire.x224 import ConnectionConfirm, ConnectionRequest, Protocols

PDU = PreconnectionPDU(id=7, blob="token")
REQUEST = ConnectionRequest(requested_protocols=Protocols.SSL | Protocols.HYBRID).encode()
CONFIG = ServerConfig(ssl_context=server_tls(Policy(), "rsa"), lookup=lambda _: ALICE)
MAY = RDP(allow_preconnection=True)


def nobody(_request):
    pytest.fail("a sans-IO user answers events: hooks are for asyncio")


@pytest.mark.parametrize("pdu", [None, PDU, PreconnectionPDU(id=3)], ids=["none", "blob", "id"])
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.requirement("rdp.preconnection")
def test_a_sequence_passes_at_any_cut_with_and_without_one(cut, pdu):
    acceptor = MAY.acceptor(CONFIG)
    ends = client_end(carriage=RDP(preconnection=pdu)), End(acceptor, lambda _event: ALICE)
    list(converse(*ends, CUTS[cut]))
    assert [end.done for end in ends] == [True, True]
    assert acceptor.preconnection == ends[0].context.preconnection == pdu
    assert acceptor.extra_info["rdp_preconnection"] == pdu


@pytest.mark.parametrize("pdu", [PDU, PreconnectionPDU(id=3)])
def test_the_request_may_come_with_it_or_later(pdu):
    data = pdu.encode() + REQUEST
    for first in range(len(data)):
        acceptor, stored = MAY.acceptor(CONFIG), data[:first]
        result = acceptor.step(stored)
        assert 0 < result.missing <= len(data) - first
        stored = stored[len(stored) - result.extra :] + data[first:]
        result = acceptor.step(stored)
        assert ConnectionConfirm.decode(result.output).selected_protocol is Protocols.HYBRID
        assert (acceptor.preconnection, result.extra) == (pdu, 0)


def test_once_it_was_taken_the_request_alone_is_due():
    acceptor = MAY.acceptor(CONFIG)
    result = acceptor.step(PDU.encode() + REQUEST[:6])
    assert (result.status, result.extra, result.missing) == (SecurityStatus.SEC_I_CONTINUE_NEEDED, 6, len(REQUEST) - 6)
    assert acceptor.step(b"").status is SecurityStatus.SEC_E_INCOMPLETE_MESSAGE
    with pytest.raises(
        RemoteProtocolError, match=r"expected RDP's negotiation in clear .TPKT., got a preconnection PDU"
    ):
        acceptor.step(PDU.encode())


@pytest.mark.requirement("rdp.preconnection")
def test_the_route_is_told_of_it():
    acceptor = RDP(route=nobody, allow_preconnection=True).acceptor(CONFIG)
    assert acceptor.step(PDU.encode() + REQUEST).event.preconnection == PDU
    acceptor = RDP(route=nobody, allow_preconnection=True).acceptor(CONFIG)
    assert acceptor.step(REQUEST).event.preconnection is None


@pytest.mark.requirement("rdp.preconnection")
def test_a_server_that_does_not_expect_one_refuses_it_and_says_what_it_is():
    acceptor = RDP().acceptor(CONFIG)
    with pytest.raises(RemoteProtocolError, match="got a preconnection PDU") as raised:
        acceptor.step(PDU.encode() + REQUEST)
    assert "allow_preconnection=True" in raised.value.hint
    assert (raised.value.stage, acceptor.state) == (Stage.NEGOTIATION, RDPState.FAILED)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x16\x03\x01\x02", "got a TLS handshake"),
        (b"\x10\0\0\x01", "expected 16 to 16384 bytes"),
        (PDU.encode()[:8] + b"\x09" + PDU.encode()[9:], "expected version 1 or 2"),
        (PDU.encode() + REQUEST + b"\x16", "in clear behind the x.224 pdu, got 1"),
        (PDU.encode() + b"\x16", "got a TLS handshake"),
    ],
)
def test_what_is_neither_it_nor_the_request_is_refused(data, text):
    with pytest.raises(RemoteProtocolError, match=text):
        MAY.acceptor(CONFIG).step(data)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"preconnection": True}, TypeError, "preconnection: expected"),
        ({"preconnection": b"token"}, TypeError, "preconnection: expected"),
        ({"allow_preconnection": 1}, TypeError, "allow_preconnection: expected"),
        ({"preconnection": PreconnectionPDU(id=-1)}, ValueError, "preconnection id: expected a number"),
        ({"preconnection": PreconnectionPDU(blob="x" * 9000)}, ValueError, "shorten the blob"),
    ],
)
def test_what_cannot_be_sent_is_refused_at_once(options, error, text):
    with pytest.raises(error, match=text):
        RDP(**options)
