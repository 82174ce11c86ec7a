"""The sockets of `serve --workers`: one port for all, every address of a host, and nobody else's port."""

import contextlib
import itertools
import socket
import sys

import pytest

from acredssp import workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need linux")


@pytest.fixture
def bound():
    """Binds, and closes what was bound."""
    with contextlib.ExitStack() as stack:

        def bind(host, port=0, count=3):
            places = workers.bind(host, port, count)
            for listener in itertools.chain(*places):
                stack.enter_context(listener)
            return places

        yield bind


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_port_0_is_one_port_for_all(bound, host):
    try:
        places = bound(host)
    except OSError as error:
        pytest.skip(f"{host} is no address here: {error}")
    assert len({listener.getsockname()[1] for listener in itertools.chain(*places)}) == 1
    assert all(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for listener in itertools.chain(*places))


def test_a_host_of_several_addresses_is_listened_on_at_each(bound, monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in ("127.0.0.1", "127.0.0.2", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    places = bound("several.example")
    assert [[listener.getsockname()[0] for listener in place] for place in places] == [["127.0.0.1", "127.0.0.2"]] * 3
    assert len({listener.getsockname()[1] for listener in itertools.chain(*places)}) == 1


def test_a_port_that_another_group_has_is_not_joined(bound, served, command, users_file):
    port = bound("127.0.0.1")[0][0].getsockname()[1]
    status, out, err = command("serve", "--users", users_file, "--listen", f"127.0.0.1:{port}", "--workers", "2")
    assert (status, out) == (4, "")
    assert "address already in use" in err


def test_an_unknown_host_is_a_network_error(command, users_file):
    status, _, err = command("serve", "--users", users_file, "--listen", "host.invalid:0", "--workers", "2")
    assert status == 4
    assert "cannot listen on host.invalid:0" in err
