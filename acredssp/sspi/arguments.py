"""What a caller may get wrong about Python, as opposed to SSPI: the one thing that the functions raise for."""

__all__ = ["expect"]


def expect(name: str, value: object, *kinds: type) -> None:
    """Refuse a value of a Python type that the parameter does not take.

    Raises:
        TypeError: It does not.
    """
    if not isinstance(value, kinds):
        wanted = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise TypeError(f"{name}: expected {wanted}, got {type(value).__name__}")
