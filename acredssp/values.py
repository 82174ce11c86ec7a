"""What frozen values share, compiled or not: how they are copied and pickled."""

import dataclasses
from typing import Any

__all__ = ["made_by"]


def made_by(value: Any) -> tuple[type[Any], tuple[object, ...]]:
    """Return the class of a frozen dataclass and the arguments that make the value again: for its `__reduce__`.

    The class needs one as soon as mypyc compiles it: what mypyc generates for copies assigns to the fields one by one,
    which a frozen value refuses.
    """
    fields = dataclasses.fields(value)
    return type(value), tuple(getattr(value, field.name) for field in fields if field.init)
