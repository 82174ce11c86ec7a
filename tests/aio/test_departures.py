"""Who leaves while nothing is read from the connection."""

import asyncio
import select
import socket
import sys

import pytest
from support.endpoints import turns, until

from acredssp.aio.departures import Departures

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells that a peer has left")


@pytest.fixture
def pair():
    """Both ends of a connection over TCP, ours first."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as theirs:
        ours, _ = listener.accept()
        theirs.setblocking(False)
        with ours:
            yield ours, theirs


@only_linux
@pytest.mark.parametrize("how", ["closes", "ends", "closes with data unread", "resets"])
async def test_an_end_is_told_once(pair, how):
    ours, theirs = pair
    departures, told = Departures(asyncio.get_running_loop()), []
    with departures.watching(ours, lambda: told.append("left")):
        if how == "closes with data unread":
            theirs.send(b"x")
            await turns(5)
            assert told == []
        if how == "resets":
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.shutdown(socket.SHUT_WR) if how == "ends" else theirs.close()
        await until(lambda: told)
        await turns(10)
        assert told == ["left"]
    assert departures._epoll is None


@only_linux
async def test_who_has_left_before_is_told_too(pair):
    ours, theirs = pair
    theirs.close()
    told = asyncio.Event()
    with Departures(asyncio.get_running_loop()).watching(ours, told.set):
        await told.wait()


@only_linux
async def test_each_is_told_of_its_own_peer_and_of_nothing_once_it_is_over(pair):
    departures, told = Departures(asyncio.get_running_loop()), []
    other, peer = socket.socketpair()
    peer.setblocking(False)
    with other, peer, departures.watching(other, lambda: told.append("other")):
        with departures.watching(pair[0], lambda: told.append("first")):
            pass
        pair[1].close()
        peer.send(b"data")
        await turns(10)
        assert told == []
        peer.close()
        await until(lambda: told)
    assert told == ["other"]
    assert departures._epoll is None


@pytest.mark.parametrize("missing", ["EPOLLRDHUP", "descriptors"])
async def test_where_nobody_can_be_watched_nothing_else_changes(pair, missing, monkeypatch):
    def no_descriptor():
        raise OSError("too many open files")

    if missing == "descriptors":
        monkeypatch.setattr(select, "epoll", no_descriptor, raising=False)
    else:
        monkeypatch.delattr(select, "EPOLLRDHUP", raising=False)
    departures, told = Departures(asyncio.get_running_loop()), []
    with departures.watching(pair[0], lambda: told.append("left")):
        pair[1].close()
        await turns(5)
    assert (told, departures._epoll) == ([], None)
