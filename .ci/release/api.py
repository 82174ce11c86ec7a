"""The public names with their parameters, as griffe reads them, and what has changed in them since the last release.

`python -m release.api record` writes api.json anew. That belongs to a release: until the next one, a change that breaks
users is found by comparing with it.
"""

import ast
import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Final, TypeAlias

import griffe

from release.building import ROOT

__all__ = ["Entry", "Surface", "breaking", "main", "read", "surface"]

RECORDED: Final = pathlib.Path(__file__).with_name("api.json")
Entry: TypeAlias = str | list[list[str | None]]
"""The kind of a name; or, of what can be called, the name, kind and default of each parameter; no default is None."""
Surface: TypeAlias = dict[str, Entry]
"""By name, such as `acredssp.aio.open_connection` and `acredssp.Trust.judge`."""

_POSITIONAL: Final = "positional"


def public_modules() -> tuple[str, ...]:
    """Return the modules whose names are public, which the documentation's site has a list of."""
    tree = ast.parse((ROOT / "docs" / "_site" / "reference.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_NAMES":
            return ("acredssp", *(f"acredssp.{name}" for name in str(ast.literal_eval(node.value)).split()))
    raise LookupError("docs/_site/reference.py has no _NAMES")


def surface(package: str, modules: tuple[str, ...], where: pathlib.Path) -> Surface:
    """Return the public names of a package's modules, with those of their classes."""
    top = griffe.load(package, search_paths=[where], try_relative_path=False, resolve_aliases=True)
    found: Surface = {}
    for module in modules:
        inside = top[module.partition(".")[2]] if "." in module else top
        for name in inside.exports or ():
            found |= _entries(f"{module}.{name}", inside[str(name)])
    return dict(sorted(found.items()))


def _entries(name: str, item: griffe.Object | griffe.Alias) -> Iterator[tuple[str, Entry]]:
    try:
        item = item.final_target if item.is_alias else item
    except (griffe.AliasResolutionError, griffe.CyclicAliasError):
        yield name, "from another package"
        return
    if item.is_class:
        yield name, _parameters(item.parameters)
        for each, member in item.all_members.items():
            if not each.startswith("_") and not (member.is_alias and not member.inherited):
                yield from _entries(f"{name}.{each}", member)
    elif item.is_function:
        yield name, _parameters(item.parameters)
    else:
        yield name, str(item.kind.value)


def _parameters(parameters: griffe.Parameters) -> list[list[str | None]]:
    return [
        [each.name, _kind(each), None if each.default is None else str(each.default)]
        for each in parameters
        if each.name not in {"self", "cls"}
    ]


def _kind(parameter: griffe.Parameter) -> str:
    kind = parameter.kind.value if parameter.kind else "positional or keyword"
    return kind.replace("-", " ")


def breaking(old: Surface, new: Surface) -> Iterator[str]:
    """Yield each change that breaks a user of the old names."""
    for name, before in old.items():
        after = new.get(name)
        if after is None:
            yield f"{name} is gone"
        elif isinstance(before, str):
            if not isinstance(after, str):
                yield f"{name} was no function or class and is one"
        elif isinstance(after, str):
            yield f"{name} can no longer be called"
        else:
            yield from (f"{name}: {change}" for change in _changes(before, after))


def _changes(before: list[list[str | None]], after: list[list[str | None]]) -> Iterator[str]:
    now = {parameter[0]: parameter for parameter in after}
    takes_all = {parameter[1] for parameter in after}
    for name, kind, default in before:
        if name not in now:
            if f"variadic {'keyword' if kind == 'keyword only' else _POSITIONAL}" not in takes_all:
                yield f"{name} is gone"
            continue
        _, kind_now, default_now = now[name]
        if kind_now not in {kind, "positional or keyword"}:
            yield f"{name} was {kind} and is {kind_now}"
        if default is not None and default_now != default:
            yield f"{name} was {default} by default and is {'required' if default_now is None else default_now}"
    places = [[each[0] for each in some if _POSITIONAL in str(each[1])] for some in (before, after)]
    common = [[name for name in some if name in places[0] and name in places[1]] for some in places]
    if common[0] != common[1] or places[1][: len(common[0])] != common[1]:
        yield f"positional parameters were {', '.join(map(str, places[0]))} and are {', '.join(map(str, places[1]))}"
    known = {parameter[0] for parameter in before}
    yield from (
        f"{name} is new and required"
        for name, kind, default in after
        if name not in known and default is None and "variadic" not in str(kind)
    )


def read(path: pathlib.Path = RECORDED) -> tuple[str, Surface]:
    """Return the version whose names were recorded, and the names."""
    recorded = json.loads(path.read_text("utf-8"))
    return recorded["version"], recorded["names"]


def now() -> Surface:
    """Return the public names of the tree."""
    return surface("acredssp", public_modules(), ROOT)


def record(version: str, path: pathlib.Path = RECORDED) -> None:
    """Write the public names of the tree as those of a version."""
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in now().items())
    path.write_text(f'{{"version": {json.dumps(version)}, "names": {{\n{lines}\n}}}}\n', "utf-8")


def main(arguments: list[str]) -> int:
    """Record the names, or print each change that breaks users; return the exit status."""
    if arguments == ["record"]:
        import acredssp  # noqa: PLC0415 - only its version

        record(acredssp.__version__)
    version, old = read()
    changes = list(breaking(old, now()))
    print(*changes, f"{len(changes)} changes since {version} break users", sep="\n")
    return int(bool(changes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
