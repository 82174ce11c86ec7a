"""Ways to spoil a good message: every one is a lie about structure, none needs to know what the message means."""

from collections.abc import Iterator


def truncations(data: bytes) -> Iterator[bytes]:
    """Every proper prefix."""
    return (data[:cut] for cut in range(len(data)))


def flips(data: bytes, *, masks: tuple[int, ...] = (0x01, 0x80, 0xFF)) -> Iterator[bytes]:
    """Every byte changed, once with each mask."""
    for index in range(len(data)):
        for mask in masks:
            yield data[:index] + bytes([data[index] ^ mask]) + data[index + 1 :]


def replacements(data: bytes, values: tuple[int, ...] = (0x00, 0x7F, 0x80, 0x84, 0x85, 0xFF)) -> Iterator[bytes]:
    """Every byte replaced by each of the values that mean something as a length."""
    for index in range(len(data)):
        for value in values:
            yield data[:index] + bytes([value]) + data[index + 1 :]


def deletions(data: bytes) -> Iterator[bytes]:
    """Every byte left out."""
    return (data[:index] + data[index + 1 :] for index in range(len(data)))


def insertions(data: bytes) -> Iterator[bytes]:
    """A zero byte put in at every place."""
    return (data[:index] + b"\0" + data[index:] for index in range(len(data) + 1))
