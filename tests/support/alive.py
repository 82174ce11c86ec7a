"""Tells which objects are still alive, by the garbage collector's list: compiled objects take no weak references."""

import gc


class Watch:
    """Tells which of some objects are alive, without keeping them alive."""

    def __init__(self, *things):
        assert all(map(gc.is_tracked, things))
        self._kinds = {id(thing): type(thing) for thing in things}

    def alive(self):
        return [thing for thing in gc.get_objects() if self._kinds.get(id(thing)) is type(thing)]


class Alive:
    """The objects of some types that have come into being since this object has.

    Args:
        types: The types.
    """

    def __init__(self, *types):
        gc.collect()
        self._types = types
        self._others = self._found()  # kept, so that no new object gets the id of one of them

    def _found(self):
        return [thing for thing in gc.get_objects() if isinstance(thing, self._types)]

    def __call__(self):
        """The types of those that live now."""
        others = {id(thing) for thing in self._others}
        return [type(thing) for thing in self._found() if id(thing) not in others]
