"""What a caller gives is looked at where it is given: an argument of another type is refused by its name.

No text quotes the value: it may be a secret.
"""

__all__ = ["expect"]


def expect(name: str, value: object, *kinds: type | None) -> None:
    """See that the argument `name` is of one of the types.

    Args:
        name: The argument's name, for the text.
        value: What was given.
        *kinds: The types; None for None itself.

    Raises:
        TypeError: It is of none of them.
    """
    if not isinstance(value, tuple([type(None) if kind is None else kind for kind in kinds])):
        wanted = " or ".join([_name(kind) for kind in kinds])
        raise TypeError(f"{name}: expected {wanted}, got {type(value).__name__}")


def _name(kind: type | None) -> str:
    return "None" if kind is None or kind is type(None) else kind.__name__
