"""What the tests of the gateway share: a folder with a settings file that can be used."""

import contextlib

import pytest
from support.gateway import HASH, Target, World, settings_of
from support.peers import Lab

import acredssp
from acredssp.proxy import settings
from acredssp.proxy.leg import as_it_is

SETTINGS = """\
[[listeners]]
address = "127.0.0.1:0"
certificates = [{ certificate = "gateway.pem", key = "gateway.key" }]
logon = { users = "users" }
routes = [{ target = "desktops" }]

[targets.desktops]
addresses = ["127.0.0.1:3389"]
"""


@pytest.fixture(scope="session")
def certificate():
    return acredssp.self_signed(["localhost", "127.0.0.1"], "ec")


@pytest.fixture
def lab(tmp_path):
    """Starts programs; what they wrote is shown if the test fails."""
    lab = Lab(tmp_path)
    yield lab
    lab.stop()
    lab.show_logs()


@pytest.fixture
def folder(tmp_path, certificate):
    """A folder with a certificate and users; `settings.toml` is to be written into it."""
    (tmp_path / "gateway.pem").write_bytes(certificate[0])
    (tmp_path / "gateway.key").write_bytes(certificate[1])
    (tmp_path / "users").write_text("CONTOSO:alice:wonderland\n:bob:b0bs\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def problems(folder):
    """What is wrong with a settings file: `problems(text)`, a list of lines; empty for nothing."""

    def find(text):
        (folder / "settings.toml").write_text(text, encoding="utf-8")
        try:
            settings.read(folder / "settings.toml")
        except settings.SettingsError as error:
            return error.problems
        return []

    return find


@pytest.fixture
def world(folder):
    """Begins a world: `async with world(more settings of the target) as (world, target)`."""
    (folder / "secret").write_text("server's\n")
    (folder / "hash").write_text(HASH)

    @contextlib.asynccontextmanager
    async def begin(more="", *, start=True, hybrid_ex=True, store=None, around=as_it_is, **texts):
        target, here = await Target().start(hybrid_ex=hybrid_ex), World(folder, store, around=around)
        try:
            await here.write(settings_of({"desktops": ([target.address], more)}, **texts))
            if start:
                await here.gateway.start()
            yield here, target
        finally:
            await target.stop()
            if start:
                await here.gateway.stop()

    return begin
