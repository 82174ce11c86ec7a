import asyncio
import errno
import logging
import socket

import pytest
from support.endpoints import turns, until

from acredssp.aio import listening
from acredssp.aio.listening import ACCEPTS_A_TURN, Listening


class Flaky(socket.socket):
    """A listening socket that fails as often as it is told to, and counts what is asked of it."""

    def __init__(self):
        super().__init__()
        self.faults, self.asked = [], 0
        self.bind(("127.0.0.1", 0))
        self.setblocking(False)

    def accept(self):
        self.asked += 1
        if self.faults:
            raise OSError(self.faults.pop(0), "told to")
        return super().accept()


class Lab:
    def __init__(self):
        self.socket, self.accepted, self.clients = Flaky(), [], []
        self.listening = Listening([self.socket], self.take)

    def take(self, connection, address):
        self.accepted.append((connection, address))

    async def connect(self, count=1):
        loop = asyncio.get_running_loop()
        for _ in range(count):
            self.clients.append(socket.socket())
            self.clients[-1].setblocking(False)
            await loop.sock_connect(self.clients[-1], self.socket.getsockname())

    def close(self):
        self.listening.close()
        for end in [*self.clients, *(connection for connection, _ in self.accepted)]:
            end.close()


@pytest.fixture
async def lab():
    made = Lab()
    yield made
    made.close()


async def test_connections_are_given_on_with_their_address(lab):
    lab.listening.start(10)
    await lab.connect(2)
    await until(lambda: len(lab.accepted) == 2)
    assert [address for _, address in lab.accepted] == [client.getsockname() for client in lab.clients]
    assert all(connection.gettimeout() == 0 for connection, _ in lab.accepted)


async def test_a_few_are_accepted_a_turn(lab):
    lab.listening.start(200)
    loop = asyncio.get_running_loop()
    loop.remove_reader(lab.socket)
    await lab.connect(ACCEPTS_A_TURN + 5)
    lab.listening._accept(lab.socket)
    assert len(lab.accepted) == ACCEPTS_A_TURN
    lab.listening._accept(lab.socket)
    assert len(lab.accepted) == ACCEPTS_A_TURN + 5
    loop.add_reader(lab.socket, lab.listening._accept, lab.socket)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_without_descriptors_connections_wait_and_one_line_tells_of_it(lab, caplog, number):
    lab.socket.faults = [number]
    lab.listening.start(10)
    await lab.connect()
    await until(lambda: lab.socket.asked == 1)
    await turns(10)
    assert (lab.socket.asked, lab.accepted) == (1, [])
    lab.socket.faults = [number] * 3
    for asked in range(2, 5):  # something was closed: it is tried again at once, and nobody hears of it
        lab.listening.resume()
        await until(lambda asked=asked: lab.socket.asked == asked)
    lab.listening.resume()
    await until(lambda: lab.accepted)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "no connection can be accepted" in record.getMessage()


async def test_descriptors_that_others_free_are_seen_by_themselves(lab, monkeypatch):
    monkeypatch.setattr(listening, "_RETRY", 0.01)
    lab.socket.faults = [errno.EMFILE]
    lab.listening.start(10)
    await lab.connect()
    await until(lambda: lab.accepted)


async def test_a_connection_that_is_gone_is_passed_over(lab, caplog):
    lab.socket.faults = [errno.ECONNABORTED, errno.EPROTO]
    lab.listening.start(10)
    await lab.connect()
    await until(lambda: lab.accepted)
    assert caplog.records == []


async def test_closed_while_it_waits_it_stays_closed(lab):
    lab.socket.faults = [errno.EMFILE]
    lab.listening.start(10)
    await lab.connect()
    await until(lambda: lab.socket.asked == 1)
    lab.listening.close()
    lab.listening.resume()
    await turns(5)
    assert lab.socket.asked == 1
    assert not lab.listening.active


async def test_whoever_is_told_may_close_it(lab):
    lab.listening._accepted = lambda connection, _address: (connection.close(), lab.listening.close())
    lab.listening.start(10)
    asyncio.get_running_loop().remove_reader(lab.socket)
    await lab.connect(2)
    lab.listening._accept(lab.socket)
    assert lab.socket.asked == 1
    assert not lab.listening.active
