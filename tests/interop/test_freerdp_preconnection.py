"""FreeRDP's preconnection PDUs are read as it means them, and a route goes by them."""

import pytest
from support import freerdp, haproxy
from support.hosted import HostedServer, look_up

from acredssp import Deny, Policy, ServerConfig, self_signed, server_context_from_pem
from acredssp.rdp import RDP
from acredssp.wire import preconnection, x224
from acredssp.wire.preconnection import PreconnectionPDU

pytestmark = pytest.mark.interop

SENT = [
    (["/pcid:1234"], PreconnectionPDU(id=1234)),
    (["/pcb:J\u00fcrgen \U0001f600"], PreconnectionPDU(blob="J\u00fcrgen \U0001f600")),
    (["/pcb:token", "/pcid:4294967295"], PreconnectionPDU(id=4294967295, blob="token")),
    ([f"/pcb:{'x' * 3000}"], PreconnectionPDU(blob="x" * 3000)),
]


@pytest.mark.parametrize(("arguments", "value"), SENT, ids=["id", "blob", "both", "long"])
@pytest.mark.parametrize("client", [2, 3], ids=["freerdp2", "freerdp3"])
def test_id_and_blob_come_before_the_negotiation(graphical_lab, client, arguments, value):
    with haproxy.listening() as listener:
        port = listener.getsockname()[1]
        graphical_lab.start([freerdp.CLIENTS[client], f"/v:127.0.0.1:{port}", "/cert:ignore", "/u:alice", *arguments])
        with haproxy.accepted(listener) as connection:
            data = haproxy.read_frame(connection, preconnection.frame_size)
            request = haproxy.read_frame(connection, x224.frame_size)
    assert PreconnectionPDU.decode(data) == value
    assert PreconnectionPDU.decode(value.encode()) == value
    assert x224.ConnectionRequest.decode(request).cookie == "alice"


@pytest.mark.parametrize(
    ("arguments", "hook"), [(["/pcb:vm-1", "/pcid:7"], ""), (["/pcb:vm-2", "/pcid:7"], "route"), ([], "route")]
)
@pytest.mark.parametrize("client", [2, 3], ids=["freerdp2", "freerdp3"])
def test_a_route_goes_by_id_and_blob(graphical_lab, client, arguments, hook):
    context = server_context_from_pem(Policy(), *self_signed(["127.0.0.1"]))
    config = ServerConfig(ssl_context=context, lookup=look_up)
    wanted = PreconnectionPDU(id=7, blob="vm-1")
    carriage = RDP(
        route=lambda request: config if request.preconnection == wanted else Deny(), allow_preconnection=True
    )
    with HostedServer(config, carriage) as server:
        freerdp.log_on(graphical_lab, client, server.address, *arguments)
        report = server.report()  # FreeRDP 3 comes a second time where it was turned away
    assert (report.outcome, report.hook) == ("denied" if hook else "success", hook)
