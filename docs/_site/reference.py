"""The reference: a page for each public module, made of the docstrings that `help()` shows.

A name that several public modules have is described once: by the module of its subject. The others link there.
"""

import builtins
import functools
import importlib
import inspect
import sys
from types import ModuleType

_NAMES = """
    aio accounts anyio carriage config credentials decoding delegation diagnosis errors events hooks hosts http
    http.aiohttp http.asgi http.httpx http.httpx2 http.server http.uvicorn policy rdp rdp_file recording sspi status
    stores stores.redis testing tls trust winrm winrm.httpx
    winrm.powershell wire workers
"""
PUBLIC = ("acredssp", *(f"acredssp.{name}" for name in _NAMES.split()))
"""The public modules in the order of the pages; a test holds this list against the one of the public names."""
_LIBRARIES = {
    *(
        "aiohttp",
        "anyio",
        "asn1crypto",
        "cryptography",
        "h11",
        "httpcore",
        "httptools",
        "httpx",
        "httpx2",
        "psrpcore",
        "redis",
    ),
    *("uvicorn", "yarl"),
}


@functools.cache
def modules() -> dict[str, ModuleType]:
    """Return the public modules by name."""
    return {name: importlib.import_module(name) for name in PUBLIC}


def place(module: str, name: str) -> str:
    """Return the public module that describes a name of a public module."""
    value = getattr(modules()[module], name)
    places = [each for each, found in modules().items() if name in found.__all__ and getattr(found, name) is value]
    places = [each for each in places if each != "acredssp"] or places
    home = getattr(value, "__module__", None) or ""
    return max(
        places, key=lambda each: (home.startswith(each), len(each) if home.startswith(each) else 0, -PUBLIC.index(each))
    )


def place_of(target: str, module: str | None) -> tuple[str, str] | None:
    """Return where a name is described that a signature or docstring mentions: (public module, name).

    Args:
        target: The name, perhaps behind the module that defines it, which may be internal.
        module: The module whose page mentions the name.
    """
    owner, _, name = target.rpartition(".")
    having = [each for each, found in modules().items() if name in found.__all__]
    if owner.startswith("acredssp"):
        having = [each for each in having if getattr(getattr(modules()[each], name), "__module__", owner) == owner]
    if not having or (owner and not owner.startswith("acredssp")):
        return None
    return place(module if module in having else having[0], name), name


def is_elsewhere(target: str) -> bool:
    """Return whether a name has no place on this site: one of Python, of a library, or of an internal module.

    Only what a signature names has its module in front, so a name that a docstring misspells is still found.
    """
    top, _, rest = target.partition(".")
    return (
        not target.replace(".", "_").isidentifier()
        or (top == "acredssp" and bool(rest))
        or hasattr(builtins, top)
        or top in sys.stdlib_module_names
        or top in _LIBRARIES
    )


def pages() -> dict[str, str]:
    """Return the pages by file name."""
    found = {f"{name}.md": _page(name, module) for name, module in modules().items()}
    index = "# The public modules\n\n```{toctree}\n" + "\n".join(PUBLIC) + "\n```\n"
    return found | {"index.md": index}


def _page(module: str, found: ModuleType) -> str:
    own = [name for name in sorted(found.__all__) if place(module, name) == module and has_text(getattr(found, name))]
    others = {name: place(module, name) for name in found.__all__ if place(module, name) != module}
    lines = [f"# {module}", "", "```{eval-rst}", f".. automodule:: {module}", "   :no-members:", ""]
    lines += [f".. {_directive(getattr(found, name))}:: {module}.{name}" for name in own]
    lines += ["```", ""]
    if others:
        lines += ["## Described elsewhere", "", "| name | is described in |", "| --- | --- |"]
        lines += [f"| [`{name}`](#{where}.{name}) | [{where}]({where}.md) |" for name, where in sorted(others.items())]
    return "\n".join(lines) + "\n"


def _directive(value: object) -> str:
    if inspect.isclass(value):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    return "autofunction" if inspect.isroutine(value) else "autodata"


def has_text(value: object) -> bool:
    """Return whether there is more to say of a name than its number, as of SSPI's constants."""
    return inspect.isclass(value) or callable(value) or not isinstance(value, int | str)
