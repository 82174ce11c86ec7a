"""A farm behind `acredssp proxy`: the gateway notices the Server Redirection that FreeRDP follows."""

import asyncio

import pytest
from support import freerdp
from support.gateway import Target, World, settings_of
from support.mcs import LICENCE, SHADOW, indication, packet, redirection, utf16

import acredssp
from acredssp import rdp

pytestmark = pytest.mark.interop

COOKIE = b"Cookie: msts=2132026432.15629.0000\r\n"
USER = b"\x00\x08"


class Farm(Target):
    """A host of a farm: it leads a client through MCS, and then sends it on."""

    async def _serve(self, reader, writer):
        try:
            await rdp.read_pdu(reader)
            writer.write(SHADOW)
            while pdu := await rdp.read_pdu(reader):
                kind, content = pdu[7] & 0xFC, pdu[8:]
                if kind == 0x28:  # attach user
                    writer.write(packet(b"\x2e\x00" + USER))
                elif kind == 0x38:  # join a channel
                    writer.write(packet(b"\x3e\x00" + content + content[2:]))
                elif writer.get_extra_info("rdp_request").routing_token:
                    return  # it has come back
                elif kind == 0x64:  # the client's information
                    named = redirection([(0x002, COOKIE), (0x200, utf16("SH2"))])
                    writer.write(indication(LICENCE) + indication(named))
        except (OSError, EOFError):
            pass
        finally:
            writer.close()


@pytest.fixture
def folder(tmp_path):
    for name, data in zip(("gateway.pem", "gateway.key"), acredssp.self_signed(["localhost"]), strict=True):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "users").write_text("CONTOSO:alice:wonderland\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
async def farm(folder):
    """A gateway in front of a farm."""
    target, here = await Farm().start(), World(folder)
    try:
        await here.write(settings_of({"desktops": ([target.address], "")}))
        async with here.running():
            yield here, target
    finally:
        await target.stop()


@pytest.mark.parametrize("client", [2, 3], ids=["freerdp2", "freerdp3"])
async def test_freerdp_comes_back_with_the_cookie_and_the_gateway_has_noticed(graphical_lab, farm, client):
    here, target = farm
    host, port = here.address
    await asyncio.to_thread(freerdp.log_on, graphical_lab, client, f"{host}:{port}", password="wonderland")
    first, second, *_ = await here.until_ended(2)
    assert (first.outcome, first.redirected_to, first.reason) == ("relayed", "SH2", "")
    assert (second.outcome, second.redirected_to, second.ended_by) == ("relayed", "", "target")
    tokens = [request.routing_token for request in target.requests]
    assert tokens[:2] == [None, COOKIE.decode().rstrip()]
