"""A context manager for `async with` alone."""

import contextlib

import pytest

from acredssp.http.block import Block


@contextlib.asynccontextmanager
async def made():
    yield "made"


def block():
    return Block(made(), "async with make() as it:", "nothing was made")


async def test_it_does_what_the_other_one_does():
    async with block() as it:
        assert it == "made"


async def test_another_way_to_use_it_is_refused_by_name():
    with pytest.raises(
        TypeError, match=r"expected `async with make\(\) as it:`, which ends with its block, got `await`"
    ):
        await block()
    with pytest.raises(TypeError, match=r"expected `async with make\(\) as it:`, .* got `with`"), block():
        pass
    with pytest.raises(
        AttributeError, match=r"expected `async with make\(\) as it:`, got `.status` of what it returns"
    ):
        _ = block().status


def test_one_that_nobody_enters_warns_that_it_has_done_nothing():
    with pytest.warns(RuntimeWarning, match=r"expected `async with make\(\) as it:`, got none: nothing was made"):
        block()
