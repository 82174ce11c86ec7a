"""A gateway in this process, between a client and a target of our own engine."""

import asyncio
import contextlib
import dataclasses
from types import SimpleNamespace

from support.endpoints import PIN, server_config
from support.mcs import FREERDP_3, SHADOW

import acredssp
from acredssp import Deny, Password, rdp
from acredssp.credentials import NTHash
from acredssp.proxy.api import Broker
from acredssp.proxy.gateway import Gateway
from acredssp.proxy.records import Observer
from acredssp.stores import MemoryStore, StoreError

ALICE, BOB = Password("wonderland", "alice", "CONTOSO"), Password("b0bs", "bob")
HASH = "8846f7eaee8fb117ad06bdd830b7586c"
INJECTED = "credentials = 'injected'\naccount = 'SERVERS\\svc'\npassword = 'file:secret'\n"
MCS = FREERDP_3
LONG = 120
"""Seconds after which what has not ended will never end: all deadlines of a gateway in the tests are shorter."""


@dataclasses.dataclass
class Target:
    """A desktop: it notes who logs on, answers MCS and then echoes."""

    answer: object = True
    logons: list = dataclasses.field(default_factory=list, repr=False)
    """(user, kind, password) of each."""
    initials: list = dataclasses.field(default_factory=list)
    requests: list = dataclasses.field(default_factory=list)
    server: object = None
    address: str = ""
    asked: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    release: asyncio.Event | None = None
    listens: asyncio.Event | None = None
    """It reads nothing behind MCS until this is set."""
    behind: bytes = SHADOW
    """What it answers MCS with."""

    async def start(self, *, hybrid_ex=True):
        known = {"ALICE": "wonderland", "BOB": "b0bs", "SVC": "server's"}
        secrets = {user: Password(secret) for user, secret in known.items()} | {"HASHED": NTHash(bytes.fromhex(HASH))}
        self.server = await acredssp.start_server(
            self._serve,
            "127.0.0.1",
            0,
            config=server_config(
                lookup=lambda who: secrets.get(who.principal.user.upper(), Deny()), authorize=self._authorize
            ),
            carriage=acredssp.RDP(hybrid_ex=hybrid_ex),
        )
        host, port = self.server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def _authorize(self, who):
        self.requests.append(who.request)
        self.asked.set()
        if self.release is not None:
            await self.release.wait()
        return self.answer

    async def _serve(self, reader, writer):
        try:
            given = acredssp.take_credentials(writer)
            principal = writer.get_extra_info("credssp").principal
            self.logons.append((str(principal), given.kind, given.password.reveal()))
            self.initials.append(await rdp.read_pdu(reader))
            writer.write(self.behind)
            if self.listens is not None:
                await self.listens.wait()
            while data := await reader.read(65536):
                writer.write(data)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    async def stop(self):
        self.server.close()
        self.server.abort_clients()
        await self.server.wait_closed()


class World(Observer):
    """A gateway, its targets and its records."""

    def __init__(self, folder, store=None, **options):
        self.folder = folder
        self.records = []
        self.strangers = []
        """Reports of those who were ended before they became connections."""
        self.gateway = Gateway(folder / "settings.toml", self, store=store, **options)
        self._ended = asyncio.Event()

    def handshake(self, report):
        if report.session is None and report.outcome != "denied":  # those turned away have records
            self.strangers.append(report)
            self._ended.set()

    def ended(self, record):
        self.records.append(record)
        self._ended.set()

    async def until_ended(self, count=1):
        """The records, once so many connections have ended, strangers included.

        Fails with what has not ended after a time in which every deadline of the gateway has passed.
        """
        try:
            async with asyncio.timeout(LONG):
                while len(self.records) + len(self.strangers) < count:
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            raise AssertionError(f"{len(self.records)} + {len(self.strangers)} of {count}: {self.unended()}") from None
        return self.records

    def unended(self):
        """Which connections have not ended, and where each task stands, for the text of a failure."""
        tasks = [f"{task.get_name()} at {[*map(str, task.get_stack(limit=3))]}" for task in asyncio.all_tasks()]
        return f"connections {self.gateway.connections}, tasks {tasks}"

    @property
    def address(self):
        host, _, port = self.gateway.addresses[0].rpartition(":")
        return host, int(port)

    @contextlib.asynccontextmanager
    async def running(self):
        """The gateway, started here and stopped behind."""
        await self.gateway.start()
        try:
            yield self
        finally:
            await self.gateway.stop()

    async def write(self, text, name="settings.toml"):
        await asyncio.to_thread((self.folder / name).write_text, text)

    async def connect(self, who=ALICE, *, hybrid_ex=True, sni="localhost", address=None, **options):
        config = acredssp.ClientConfig(
            authenticate=who,
            policy=acredssp.Policy(dangerous_accept_any_certificate=True),
            delegation=acredssp.delegation.DelegationPolicy(),
            **{name: options.pop(name) for name in ("delegate",) if name in options},
        )
        carriage = acredssp.RDP(hybrid_ex=hybrid_ex, **options)
        return await acredssp.open_connection(
            *(address or self.address), config=config, carriage=carriage, server_hostname=sni
        )


def broker_of(store, access, domains=()):
    """The API of a store, with the targets `desktops` and `servers`, and a listener for each of these domains."""
    listeners = dict(enumerate(SimpleNamespace(domains=each) for each in domains))
    ways = {"desktops": "delegated", "servers": "token"}
    settings = SimpleNamespace(targets={name: SimpleNamespace(credentials=way) for name, way in ways.items()})
    plan = SimpleNamespace(api=access, settings=settings, listeners=listeners)
    return Broker(SimpleNamespace(store=store), lambda: plan)


CALLS = (
    "ping",
    "put_token",
    "find_token",
    "use_token",
    "attempt",
    "release",
    "locked",
    "forgive",
    "announce",
    "withdraw",
    "entries",
)


class Away(MemoryStore):
    """A store that answers none of the questions in `away`."""

    def __init__(self):
        super().__init__()
        self.away = CALLS

    def __getattribute__(self, name):
        if name in CALLS and name in self.away:
            return _is_away
        return super().__getattribute__(name)


async def _is_away(*_, **__):
    raise StoreError("the store is away")


def settings_of(targets, routes='[[listeners.routes]]\ntarget = "desktops"\n', listener="", rest=""):
    text = (
        '[[listeners]]\naddress = "127.0.0.1:0"\n'
        'certificates = [{ certificate = "gateway.pem", key = "gateway.key" }]\nlogon = { users = "users" }\n'
    )
    text += listener + routes
    for name, (addresses, more) in targets.items():
        listed = ", ".join(f'"{address}"' for address in addresses)
        text += f'\n[targets.{name}]\naddresses = [{listed}]\npins = ["{PIN}"]\n{more}'
    return text + rest


async def leave(streams):
    streams[1].close()
    with contextlib.suppress(OSError, acredssp.CredSSPError):
        await streams[1].wait_closed()


async def talk(streams, behind=0):
    """Go through MCS, pass over so many bytes that the target sends behind it, and have a word come back."""
    reader, writer = streams
    writer.write(MCS)
    response = await rdp.read_pdu(reader)
    await reader.readexactly(behind)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    return response
