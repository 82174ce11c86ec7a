"""FreeRDP reads our .rdp files, and sends the token."""

import pytest
from support import freerdp, haproxy

from acredssp import self_signed
from acredssp.rdp_file import FileSigner, rdp_file
from acredssp.wire import x224

pytestmark = pytest.mark.interop

TOKEN = "acredssp=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.mark.parametrize("client", [2, 3], ids=["freerdp2", "freerdp3"])
def test_the_token_of_a_signed_file_is_the_routing_token(graphical_lab, client):
    path = graphical_lab.folder / "gateway.rdp"
    with haproxy.listening() as listener:
        signer = FileSigner.from_pem(*self_signed(["gateway"], "rsa"))
        path.write_bytes(rdp_file(f"127.0.0.1:{listener.getsockname()[1]}", TOKEN, "alice", signer))
        graphical_lab.start([freerdp.CLIENTS[client], path, "/cert:ignore"])
        with haproxy.accepted(listener) as connection:
            request = haproxy.read_frame(connection, x224.frame_size)
    assert x224.ConnectionRequest.decode(request).routing_token == TOKEN
