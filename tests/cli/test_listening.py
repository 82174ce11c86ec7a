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


def test_sockets_that_listen_already_are_taken_by_their_address(bound):
    left = [listener for (listener,) in (*bound("127.0.0.1"), *bound("127.0.0.2"))]
    port = left[0].getsockname()[1]
    assert workers.take_bound(left, "host.invalid", port) == []
    assert workers.take_bound(left, "127.0.0.1", port + 1) == []
    taken = workers.take_bound(left, "127.0.0.1", port)
    assert [each.getsockname() for each in taken] == [("127.0.0.1", port)] * 3
    assert [each.getsockname()[0] for each in left] == ["127.0.0.2"] * 3


def test_a_socket_that_all_workers_share_is_bound_once():
    with workers.bind_shared("127.0.0.1", 0, []) as listener:
        host, port = listener.getsockname()
        assert not listener.getblocking()
        left = [listener]
        assert workers.bind_shared(host, port, left) is listener
        assert left == []
        with pytest.raises(OSError, match="in use"):
            workers.bind_shared(host, port, left)


@pytest.mark.parametrize("abstract", [True, False])
def test_systemd_is_told_where_it_has_started_the_service(tmp_path, monkeypatch, abstract):
    name = f"@acredssp-{tmp_path.name}-{tmp_path.parent.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(name.replace("@", "\0"))
        workers.notify_systemd("nobody hears this")
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        workers.notify_systemd("READY=1")
        assert notified.recv(100) == b"READY=1"
    workers.notify_systemd("nobody is there any more")
