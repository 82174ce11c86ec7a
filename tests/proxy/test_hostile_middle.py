"""A man in the middle of either leg of a gateway, and impostors at both its ends.

A middle ends TLS on both sides with a certificate of his own. He may break a logon; he gets neither the logon nor any
credentials, whether his certificate is trusted or not.
"""

import asyncio
import contextlib
import ssl
import sys
import types

import pytest
from support.endpoints import PIN, server_config
from support.gateway import ALICE, BOB, INJECTED, leave, settings_of, talk
from support.puppets import come_up
from support.relays import among_relays, kept, until_freed

import acredssp
from acredssp import NTSTATUS, rdp, tls
from acredssp.core.tls import TLSSession
from acredssp.policy import Policy
from acredssp.stores import Kick
from acredssp.tls_config import server_context_from_pem
from acredssp.trust import pin_of

SECRETS = [text.encode("utf-16-le") for text in ("wonderland", "server's")]


class Middle:
    """Passes on what comes, and reads all of it."""

    def __init__(self, address, context):
        self.address, self._context = address, context
        self.seen = {"c2s": b"", "s2c": b""}

    async def serve(self, reader, writer):
        far_reader, far_writer = await asyncio.open_connection(*self.address)
        near, far = TLSSession(self._context, server_side=True), TLSSession(_CLIENT, server_side=False)
        try:
            far_writer.write(await rdp.read_negotiation(reader))
            writer.write(await rdp.read_negotiation(far_reader))
            await come_up(near, reader, writer, await reader.read(65_536))
            await come_up(far, far_reader, far_writer)
            ways = [("c2s", near, reader, far, far_writer), ("s2c", far, far_reader, near, writer)]
            tasks = [asyncio.create_task(self._pass(*way)) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        except (OSError, EOFError, acredssp.CredSSPError):
            pass
        finally:
            far_writer.transport.abort()
            writer.transport.abort()

    async def _pass(self, way, source, reader, sink, writer):
        data = b""
        with contextlib.suppress(OSError, acredssp.CredSSPError):
            while not source.peer_closed:
                said = source.read(data)
                self.seen[way] += said
                if said:
                    sink.write(said)
                    writer.write(sink.output())
                if not (data := await reader.read(65_536)):
                    break


_CLIENT = tls.client_context(Policy())


@contextlib.asynccontextmanager
async def listening(serve):
    """Serve everybody who connects; gives the address."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()


@pytest.fixture
def other(certificate):
    """TLS with a certificate that no target of these tests has."""
    return server_context_from_pem(Policy(), *certificate)


def hold(middle):
    """What a middle must not have."""
    assert not any(secret in said for secret in SECRETS for said in middle.seen.values())


# --- between client and gateway ---


@pytest.mark.requirement("defect.relay")
@pytest.mark.parametrize("more", ["", INJECTED], ids=["delegated", "injected"])
async def test_a_middle_in_front_of_the_gateway_gets_no_logon(world, more):
    async with world(more) as (here, target):
        middle = Middle(here.address, server_config().ssl_context)
        async with listening(middle.serve) as address:
            with pytest.raises(acredssp.CredSSPError) as caught:
                await here.connect(address=address)
            (record,) = await here.until_ended()
        hold(middle)
        assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
        assert (record.outcome, record.host) == ("failed", "")
        assert "pubKeyAuth is bound to another public key" in record.reason
        assert target.requests == target.logons == [], "the target was asked for somebody in between"


# --- between gateway and target ---


@pytest.mark.requirement("defect.relay")
@pytest.mark.parametrize("more", ["", INJECTED], ids=["delegated", "injected"])
@pytest.mark.parametrize("trusted", [True, False])
async def test_a_middle_in_front_of_the_target_gets_no_logon(world, other, certificate, more, trusted):
    async with world(more, start=False) as (here, target):
        host, _, port = target.address.rpartition(":")
        middle = Middle((host, int(port)), other)
        async with listening(middle.serve) as (host, port):
            text = settings_of({"desktops": ([f"{host}:{port}"], more)})
            if trusted:
                text = text.replace(PIN, pin_of(ssl.PEM_cert_to_DER_cert(certificate[0].decode())))
            await here.write(text)
            async with here.running():
                with pytest.raises(acredssp.CredSSPError) as caught:
                    await here.connect()
                (record,) = await here.until_ended()
        hold(middle)
        status = "STATUS_LOGON_FAILURE" if trusted else "STATUS_TRUSTED_RELATIONSHIP_FAILURE"
        assert (record.outcome, record.status) == ("denied", status)
        assert caught.value.nt_status.name == (status if more else "STATUS_ACCESS_DENIED")
        assert trusted or "an attacker may be in between" in record.reason
        assert bool(middle.seen["c2s"]) is trusted, "a middle who is not trusted hears nothing of the logon"
        assert target.requests == target.logons == []


# --- impostors in place of a target ---


def says(words):
    async def say(reader, writer):
        with contextlib.suppress(OSError):
            writer.write(words)
            await reader.read(65_536)
        writer.transport.abort()

    return say


async def echoes(reader, writer):
    """Answer as a client would: with what the gateway has said."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.transport.abort()


IMPOSTORS = {
    "ssh": says(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
    "http": says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    "smtp": says(b"220 mail.example ESMTP\r\n"),
    "proxy-1": says(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 3389\r\n"),
    "proxy-2": says(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
    "client": echoes,
}


@pytest.mark.requirement("defect.one-for-all")
async def test_impostors_of_targets_are_named_and_harm_nobody(folder):
    await asyncio.to_thread((folder / "secret").write_text, "server's\n")
    async with contextlib.AsyncExitStack() as stack:
        bad = {}
        for name, serve in IMPOSTORS.items():
            host, port = await stack.enter_async_context(listening(serve))
            bad[name] = f"{host}:{port}"
        async with among_relays(folder, bad, count=10, more=INJECTED) as (world, _):
            for number, name in enumerate(bad, start=1):
                with pytest.raises(acredssp.CredSSPError) as caught:
                    await world.connect(routing_token=name)
                record = (await world.until_ended(number))[-1]
                assert caught.value.nt_status is NTSTATUS.STATUS_NO_LOGON_SERVERS
                assert (record.target, record.outcome) == (name, "denied")
                assert record.reason.startswith(f"target {name} at {bad[name]}: ")
                assert "within" not in record.reason


# --- plug-ins that are no better ---


async def _cancels(*_):
    raise asyncio.CancelledError


async def _hangs(*_):
    await asyncio.Event().wait()


PLUGINS = {
    "cancels": _cancels,
    "hangs": _hangs,
    "a surrogate": lambda *_: acredssp.Password("\ud800", "svc", "SERVERS"),
    "a long user": lambda *_: acredssp.Password("x", "u" * 70_000, "SERVERS"),
    "bytes": lambda *_: b"desktops",
}


@pytest.mark.requirement("defect.failing-lookup")
@pytest.mark.parametrize("plugin", PLUGINS.values(), ids=PLUGINS)
@pytest.mark.parametrize("place", ["route", "vault"])
async def test_a_plug_in_that_hangs_or_answers_rubbish_refuses_its_user_and_leaves_nothing(
    world, monkeypatch, plugin, place
):
    module = types.ModuleType("hostile_plugin")
    module.answer = plugin
    monkeypatch.setitem(sys.modules, "hostile_plugin", module)
    name = '"hostile_plugin:answer"\n'
    more = f"credentials = 'injected'\nlookup = {name}" if place == "vault" else ""
    where = f"entry = {name}" if place == "route" else 'target = "desktops"\n'
    options = {"routes": f"[[listeners.routes]]\n{where}", "listener": "handshake_timeout = 1\n"}
    async with world(more, **options) as (here, target):
        before = await kept(here)
        with pytest.raises(acredssp.CredSSPError):
            await here.connect()
        (record,) = await here.until_ended()
        assert record.outcome in {"denied", "failed", "timeout"}
        assert record.reason
        assert target.logons == []
        target.requests.clear()
        here.records.clear()
        del record
        await until_freed(here, before)


# --- impostors in place of a client ---


async def test_a_cookie_of_another_user_gives_nothing_of_that_user(world):
    routes = '[[listeners.routes]]\nusers = ["bob"]\ntarget = "desktops"\n'
    async with world(routes=routes) as (here, target):
        with pytest.raises(acredssp.CredSSPError) as caught:
            await here.connect(ALICE, cookie="bob")
        assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_NOT_GRANTED
        assert target.logons == []
        streams = await here.connect(BOB, cookie="alice")
        await talk(streams)
        here.gateway._kicked(Kick(user="alice"))
        streams[1].write(b"still here")
        assert await streams[0].readexactly(10) == b"still here"
        await leave(streams)
        assert [record.user for record in await here.until_ended(2)] == ["CONTOSO\\alice", "bob"]
