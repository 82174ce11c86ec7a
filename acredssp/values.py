"""How frozen values are copied and pickled, whether they are compiled or not."""

import collections
import dataclasses
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

__all__ = ["copier", "made_by"]

_T = TypeVar("_T")

_run: Final = collections.deque[object](maxlen=0).extend
"""Takes all items of an iterator, and keeps none."""


def copier(names: Sequence[str]) -> Callable[[_T], _T]:
    """Return a function that copies these attributes of a frozen value into a new one of its class, and checks nothing.

    `dataclasses.replace()` makes and checks everything again, which takes several times as long.
    """
    values, assign = operator.attrgetter(*names), object.__setattr__

    def copy(value: _T) -> _T:
        other = type(value).__new__(type(value))  # `object.__new__` makes no instance of a compiled class
        _run(map(assign, itertools.repeat(other), names, values(value)))
        return other

    return copy


def made_by(value: Any) -> tuple[type[Any], tuple[object, ...]]:
    """Return the class of a frozen dataclass and the arguments that make the value again, for its `__reduce__`.

    A class that mypyc compiles needs a `__reduce__`: mypyc's own copies assign to the fields one by one, which a frozen
    value refuses.
    """
    fields = dataclasses.fields(value)
    return type(value), tuple(getattr(value, field.name) for field in fields if field.init)
