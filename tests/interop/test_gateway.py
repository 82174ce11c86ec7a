"""Real FreeRDP clients work on FreeRDP's servers through a gateway of ours, and repeat in MCS what was negotiated."""

import asyncio
import threading

import pytest
from support import freerdp
from support.hosted import look_up
from support.peers import DEADLINE, free_port

import acredssp
from acredssp import rdp
from acredssp.wire import mcs

pytestmark = pytest.mark.interop


SUCCESS = {2: 0, 3: 1}
"""What each generation says at the end of `+auth-only` where the session came up."""


def protocols_at(pdu, offset):
    return int.from_bytes(pdu[offset : offset + 4], "little")


class Gateway:
    """Logs a client on, then itself with the client's credentials at the target, and relays. Runs in a thread."""

    def __init__(self, target, certificate, *, hybrid_ex):
        self.port = free_port()
        self.seen = {}
        """What the two sides said in MCS, and in clear before."""
        self._target = target
        self._carriage = acredssp.RDP(hybrid_ex=hybrid_ex)
        context = acredssp.server_context_from_pem(acredssp.Policy(), *certificate)
        self._config = acredssp.ServerConfig(ssl_context=context, lookup=look_up)
        self._up = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    def __enter__(self):
        self._thread.start()
        assert self._up.wait(DEADLINE)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(DEADLINE)

    async def _serve(self):
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        server = await acredssp.start_server(
            self._pass_on, "127.0.0.1", self.port, config=self._config, carriage=self._carriage
        )
        self._up.set()
        await self._done.wait()
        server.close()
        server.abort_clients()
        await server.wait_closed()

    async def _pass_on(self, reader, writer):
        try:
            target = await acredssp.open_connection(
                "127.0.0.1",
                self._target,
                config=acredssp.ClientConfig(
                    authenticate=acredssp.take_credentials(writer).as_password(),
                    policy=acredssp.Policy(dangerous_accept_any_certificate=True),
                ),
                carriage=acredssp.RDP(request=writer.get_extra_info("rdp_request")),
            )
        except acredssp.CredSSPError:
            writer.close()
            return
        front, back = writer.get_extra_info("rdp_confirm"), target[1].get_extra_info("rdp_confirm")
        initial = await self._read(reader)
        target[1].write(rdp.rewrite_selected_protocol(initial, back.selected_protocol))
        response = await self._read(target[0])
        asked, sent = writer.get_extra_info("rdp_request"), target[1].get_extra_info("rdp_request")
        self.seen.update(initial=initial, response=response, front=front, asked=asked, sent=sent)
        first_down = rdp.rewrite_requested_protocols(response, asked.requested_protocols)
        self.seen["result"] = await acredssp.relay((reader, writer), target, first_down=first_down)

    @staticmethod
    async def _read(reader):
        data = b""
        while missing := rdp.missing_bytes(data):
            data += await reader.readexactly(missing)
        return data


@pytest.fixture(scope="module")
def certificate():
    return acredssp.self_signed(["localhost", "127.0.0.1"])


@pytest.mark.parametrize("generation", [2, 3], ids=["server2", "server3"])
@pytest.mark.parametrize(("client", "hybrid_ex"), [(2, False), (3, False), (3, True)])
def test_a_session_through_a_gateway(graphical_lab, shadow_servers, certificate, client, hybrid_ex, generation):
    with Gateway(shadow_servers(generation).port, certificate, hybrid_ex=hybrid_ex) as gateway:
        security = "/sec:ext" if hybrid_ex else "/sec:nla"
        argv = [freerdp.CLIENTS[client], f"/v:127.0.0.1:{gateway.port}", "/cert:ignore", "+auth-only", security]
        done = graphical_lab.run([*argv, "/u:alice", "/d:CONTOSO", "/p:Passw0rd!"], split=True)
    assert done.status == {2: 0, 3: 131}[client]
    assert f"uthentication only, exit status {SUCCESS[client]}" in done.output + done.errors
    seen = gateway.seen
    selected = protocols_at(seen["initial"], mcs.selected_protocol_at(seen["initial"]))
    assert selected == seen["front"].selected_protocol
    assert seen["sent"].cookie == seen["asked"].cookie == "alice"
    assert (selected == rdp.Protocols.HYBRID_EX) == hybrid_ex
    requested = protocols_at(seen["response"], mcs.requested_protocols_at(seen["response"]))
    assert requested == seen["sent"].requested_protocols
    assert seen["result"].ended_by is acredssp.RelayEnd.A
    assert seen["result"].bytes_down >= len(seen["response"])
