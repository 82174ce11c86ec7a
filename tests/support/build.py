"""A pytest plugin that knows which build of the engine is tested: the sources, or the build of `make compiled`.

    @pytest.mark.interpreted_only("counts calls within a module")

skips a test when the compiled engine is tested, where the test makes no sense. Such a skip is allowed everywhere.
"""

import importlib.machinery
import pathlib
import tomllib

import pytest

import acredssp.core.context

ROOT = pathlib.Path(__file__).parents[2]
COMPILED = acredssp.core.context.__file__.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES))
INTERPRETED_ONLY = "interpreted only: "


def pytest_report_header():
    return f"engine: {'compiled' if COMPILED else 'interpreted'}, {acredssp.core.context.__file__}"


def pytest_collection_modifyitems(config, items):
    for item in items if COMPILED else ():
        if marker := item.get_closest_marker("interpreted_only"):
            item.add_marker(pytest.mark.skip(reason=f"{INTERPRETED_ONLY}{marker.args[0]}"), append=False)


def attributes(thing):
    """Return what `vars()` returns, for compiled objects too."""
    names = getattr(type(thing), "__mypyc_attrs__", None)
    if names is None:
        slots = [name for kind in type(thing).__mro__ for name in _slots(kind)]
        return {name: getattr(thing, name) for name in slots if hasattr(thing, name)} | getattr(thing, "__dict__", {})
    return {name: getattr(thing, name, None) for name in names}


def _slots(kind):
    """The names of a class's own slots, as its objects have them."""
    slots = kind.__dict__.get("__slots__", ())
    for name in (slots,) if isinstance(slots, str) else slots:
        if name not in {"__dict__", "__weakref__"}:
            private = name.startswith("__") and not name.endswith("__")
            yield f"_{kind.__name__.lstrip('_')}{name}" if private else name


def listed():
    """Return the source files that pyproject.toml lists for compilation, relative to the checkout."""
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    hook = hook["hooks"]["mypyc"]
    included = {path.relative_to(ROOT) for pattern in hook["include"] for path in ROOT.glob(pattern.lstrip("/"))}
    left_out = {path for path in included if path.name in hook["exclude"] or f"/{path}" in hook["exclude"]}
    return sorted(included - left_out)
