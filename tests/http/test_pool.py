"""The pool by itself: bounds, order, identities, idle connections and cancellation."""

import asyncio

import pytest

from acredssp.errors import LocalProtocolError
from acredssp.http.errors import PoolTimeout
from acredssp.http.pool import Pool


class Fake:
    """A connection."""

    def __init__(self, identity):
        self.identity, self.is_usable, self.aborted = identity, True, False

    def abort(self):
        self.aborted, self.is_usable = True, False


def pool_of(most=2, idle=60.0):
    return Pool(most, idle)


async def taken(pool, identity):
    """Take a connection as a client does."""
    connection = await pool.take(identity, 1)
    if connection is None:
        connection = Fake(identity)
        pool.add(connection)
    return connection


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_connection_is_used_again_by_its_identity_alone():
    pool = pool_of()
    one = await taken(pool, "a")
    pool.put(one)
    assert await taken(pool, "b") is not one
    assert await taken(pool, "a") is one
    assert len(pool) == 2
    pool.close()


async def test_the_connection_that_was_used_last_is_used_first():
    pool = pool_of()
    one, two = await taken(pool, "a"), await taken(pool, "a")
    pool.put(one)
    pool.put(two)
    assert await taken(pool, "a") is two
    pool.close()


async def test_a_connection_is_found_whatever_number_of_others_is_idle():
    pool, looked = pool_of(2_000), []

    class Watched(Fake):
        @property
        def is_usable(self):
            return True

        @is_usable.setter
        def is_usable(self, value):
            pass

        @property
        def identity(self):
            looked.append(self)
            return self.name

        @identity.setter
        def identity(self, value):
            self.name = value

    mine = None
    for number in range(1_000):
        assert await pool.take(number, 1) is None
        connection = Watched(number)
        pool.add(connection)
        pool.put(connection)
        mine = mine or connection
    looked.clear()
    assert await pool.take(0, 1) is mine
    assert len(looked) < 10
    pool.close()


async def test_connections_of_one_identity_that_the_server_has_closed_are_all_ended():
    pool = pool_of(10)
    gone = [await taken(pool, "a") for _ in range(5)]
    other = await taken(pool, "b")
    for each in (*gone, other):
        pool.put(each)
    for each in gone:
        each.is_usable = False
    assert await pool.take("a", 1) is None
    pool.leave()
    assert [each.aborted for each in gone] == [True] * 5
    assert len(pool) == 1
    assert not other.aborted
    pool.close()


async def test_a_connection_that_cannot_be_used_is_ended():
    pool = pool_of()
    one = await taken(pool, "a")
    one.is_usable = False
    pool.put(one)
    assert one.aborted
    two = await taken(pool, "a")
    pool.put(two)
    two.is_usable = False  # while it is idle
    assert await taken(pool, "a") not in {one, two}
    assert two.aborted
    assert len(pool) == 1
    pool.close()


async def test_an_idle_connection_of_another_identity_makes_room_the_oldest_first():
    pool = pool_of()
    one, two = await taken(pool, "a"), await taken(pool, "b")
    pool.put(one)
    pool.put(two)
    await taken(pool, "c")
    assert (one.aborted, two.aborted) == (True, False)
    assert len(pool) == 2
    pool.close()


async def test_requests_wait_in_line_whatever_their_identity_is():
    """Connections of `a` come back all the time, and yet `b`, which asked before, is served before a further `a`."""
    pool, order = pool_of(1), []
    first = await taken(pool, "a")

    async def use(identity, number):
        connection = await taken(pool, identity)
        order.append(number)
        await asyncio.sleep(0)
        pool.put(connection)

    tasks = []
    for number, identity in enumerate("abaab"):
        tasks.append(asyncio.create_task(use(identity, number)))
        await turns(1)
    pool.put(first)
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    pool.close()


async def test_who_comes_when_others_wait_does_not_overtake_them():
    pool = pool_of(1)
    first = await taken(pool, "a")
    waiting = asyncio.create_task(taken(pool, "a"))
    await turns()
    pool.put(first)
    late = asyncio.create_task(taken(pool, "a"))
    assert await waiting is first
    await turns()
    assert not late.done()
    pool.put(first)
    assert await late is first
    pool.close()


async def test_nobody_waits_longer_than_its_limit():
    pool = pool_of(1)
    one = await taken(pool, "a")
    with pytest.raises(PoolTimeout, match=r"no connection became free within 0.01 seconds, 1 are in use"):
        await pool.take("a", 0.01)
    pool.put(one)
    assert await taken(pool, "a") is one
    pool.close()


@pytest.mark.parametrize("granted", [False, True])
@pytest.mark.parametrize("place", [False, True])
async def test_what_a_cancelled_request_was_given_is_given_to_the_next(granted, place):
    pool = pool_of(1)
    one = await taken(pool, "a")
    cancelled = asyncio.create_task(pool.take("b" if place else "a", 1))
    following = asyncio.create_task(pool.take("b" if place else "a", 1))
    await turns()
    if granted:
        pool.put(one)  # the grant and the cancellation meet in one turn of the loop
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    if not granted:
        pool.put(one)
    assert await following is (None if place else one)
    assert len(pool) == 1
    pool.close()


async def test_a_place_that_was_not_used_is_given_to_the_next():
    pool = pool_of(1)
    assert await pool.take("a", 1) is None
    following = asyncio.create_task(pool.take("a", 1))
    await turns()
    assert not following.done()
    pool.leave()
    assert await following is None
    pool.close()


async def test_idle_connections_end_after_their_time():
    pool, ended = pool_of(idle=0.02), asyncio.Event()
    one, two, busy = Fake("a"), Fake("a"), Fake("a")
    two.abort = ended.set
    pool = Pool(3, 0.02)
    for each in one, two, busy:
        assert await pool.take("a", 1) is None
        pool.add(each)
    pool.put(one)
    pool.put(two)
    await ended.wait()
    assert one.aborted
    assert not busy.aborted
    assert len(pool) == 1
    pool.close()


async def test_a_pool_that_is_closed():
    pool = pool_of(2)
    busy, idle = await taken(pool, "a"), await taken(pool, "a")
    waiting = asyncio.create_task(pool.take("a", 1))
    await turns()
    pool.put(idle)
    pool.put(await waiting)
    waiting = [asyncio.create_task(pool.take("a", 1)) for _ in range(2)]
    await turns()
    pool.close()
    assert busy.aborted
    assert idle.aborted
    with pytest.raises(LocalProtocolError, match="the client is closed: nothing was sent"):
        await waiting[1]
    with pytest.raises(LocalProtocolError, match="the client is closed: nothing was sent"):
        await pool.take("a", 1)
    late = Fake("a")  # its logon was under way
    pool.add(late)
    assert late.aborted
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_connection_that_is_given_back_twice_is_in_the_pool_once():
    pool = pool_of(1)
    one = await taken(pool, "a")
    pool.put(one)
    pool.put(one)
    assert len(pool) == 1
    pool.close()
