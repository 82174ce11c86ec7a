"""The fixtures: name this module in `pytest_plugins` of your conftest.py."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator

import pytest

from acredssp.credentials import Password
from acredssp.testing.fakes import FakeServer, log_on
from acredssp.testing.kdc import Realm, is_installed, running_realm

__all__ = ["credssp_account", "credssp_client", "credssp_kdc", "credssp_realm", "credssp_server"]


@pytest.fixture(scope="session")
def credssp_account() -> Password:
    """The account of the other fixtures. Override it for another one."""
    return Password("Passw0rd!", "alice", "CONTOSO")


@pytest.fixture
def credssp_server(credssp_account: Password) -> Iterator[FakeServer]:
    """A server of acredssp on 127.0.0.1 with RDP's negotiation, which lets `credssp_account` in."""
    with FakeServer(credssp_account) as server:
        yield server


@pytest.fixture
def credssp_client(credssp_account: Password) -> Callable[[str, int], bool]:
    """A client of acredssp: called with a host and a port, it logs on with `credssp_account` or raises."""

    def run(host: str, port: int) -> bool:
        log_on(host, port, credssp_account)
        return True

    return run


@pytest.fixture(scope="session")
def credssp_kdc(credssp_account: Password, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    """A realm on loopback with the user of `credssp_account`; skips the test where MIT's KDC is not installed."""
    if not is_installed():
        pytest.skip("MIT's KDC is missing: apt-get install krb5-kdc krb5-admin-server")
    folder: pathlib.Path = tmp_path_factory.mktemp("realm")
    with contextlib.ExitStack() as stack:
        realm = running_realm(folder, user=credssp_account.user, password=credssp_account.password)
        yield stack.enter_context(realm)


@pytest.fixture
def credssp_realm(credssp_kdc: Realm, monkeypatch: pytest.MonkeyPatch) -> Realm:
    """The realm of `credssp_kdc`, in effect in this process, where attacks by Kerberos and servers find it."""
    for name, value in credssp_kdc.environment.items():
        monkeypatch.setenv(name, value)
    return credssp_kdc
