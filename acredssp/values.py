"""How frozen values are copied and pickled, whether they are compiled or not."""

import dataclasses
from typing import Any

__all__ = ["made_by"]


def made_by(value: Any) -> tuple[type[Any], tuple[object, ...]]:
    """Return the class of a frozen dataclass and the arguments that make the value again, for its `__reduce__`.

    A class that mypyc compiles needs a `__reduce__`: mypyc's own copies assign to the fields one by one, which a frozen
    value refuses.
    """
    fields = dataclasses.fields(value)
    return type(value), tuple(getattr(value, field.name) for field in fields if field.init)
