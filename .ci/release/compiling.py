"""A plugin of mypy that changes the C that mypyc has written before setuptools compiles it, and how it is compiled.

`mypyc.ini` names the plugin, and mypyc loads it in the process that does both. mypyc is compiled itself, so its own
functions cannot be replaced. tests/compiled.py looks at what comes of it:

* `help()` shows of the compiled wheel what it shows of the sources. mypyc 2.4 drops docstrings. A class, method or
  function that it compiles has the text of its signature in that place, a property has nothing, and an enumeration has
  a filler.
* A logon touches less code. mypyc writes the way out of an error behind each operation that may fail. Compilers of the
  GNU family put such code elsewhere if they know that a function is called in errors alone. The engine shows no
  symbols, so a call within it goes straight to its function (docs/performance.md).
"""

import ast
import inspect
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator

from mypy.plugin import Plugin
from mypyc.codegen.cstring import c_string_initializer
from setuptools.command.build_ext import build_ext

_TEXT = r'NULL|"(?:[^"\\]|\\.)*"'
_PLACE = re.compile(
    rf"(?P<front>\(PyCFunction\)CPyPy_(?P<function>\w+),\s+METH_[\w |]+, )PyDoc_STR\((?P<signature>{_TEXT})\)"
    r"|(?P<start>\(getter\)(?P<getter>\w+),\s+(?:NULL|\(setter\)\w+),\s+)NULL, NULL\}"
    r"|(?P<head>CPyType_(?P<kind>\w+)_template_ = \{(?:(?!\};)[^;])*?\.tp_doc = )"
    rf"PyDoc_STR\((?P<construction>{_TEXT})\)"
    r'|"(?P<module>acredssp[\w.]*)",\s+NULL, /\* docstring \*/'
    r"|CPyStatics\[\d+\]; /\* 'mypyc filler docstring' \*/"
    r'(?P<rest>(?:.*\n){1,6}?.*CPy_AddTraceback\("(?P<path>[\w/.]+)", "<module>", (?P<line>\d+),)'
)
"""The places of a docstring: of a method or function, a property, a class, a module, and an enumeration."""


def documented(paths: Iterable[pathlib.Path]) -> dict[str | tuple[str, int], str]:
    """Return the docstrings of compiled files by the names in C, by file and line, too, and those of modules.

    mypyc names a thing by as much of the end of its module's name as tells the module from others, so each end is here.
    """
    found: dict[str | tuple[str, int], str] = {}
    for path in paths:
        module = path.with_suffix("").parts
        tree = ast.parse(path.read_text("utf-8"))
        found[".".join(module)] = ast.get_docstring(tree) or ""
        for name, node in _definitions(tree, ()):
            text = ast.get_docstring(node)
            if text is not None:
                found[path.as_posix(), node.lineno] = text
                found |= dict.fromkeys(["___".join((*module[start:], *name)) for start in range(len(module))], text)
    return found


def _definitions(
    tree: ast.AST, outer: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield (*outer, node.name), node
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node, (*outer, node.name))


def with_docstrings(source: str, texts: dict[str | tuple[str, int], str]) -> str:
    """Return a C source of mypyc's with docstrings in their places."""

    def fill(place: re.Match[str]) -> str:
        if (name := place["function"] or place["kind"]) in texts:
            signature = place["signature"] or place["construction"]
            text = f"{'' if signature == 'NULL' else signature} {_in_c(texts[name])}"
            return f"{place['front'] or place['head']}PyDoc_STR({text})"
        if place["getter"] and (name := place["getter"].replace("_get_", "___", 1)) in texts:
            return f"{place['start']}PyDoc_STR({_in_c(texts[name])}), NULL}}"
        if (name := place["module"]) in texts:
            return f'"{name}", PyDoc_STR({_in_c(texts[name])}),'
        if place["path"] and (text := texts.get((place["path"], int(place["line"])))):
            return f"PyUnicode_FromString({_in_c(text)});{place['rest']}"
        return place[0]

    return _PLACE.sub(fill, source)


def _in_c(text: str) -> str:
    written: str = c_string_initializer(inspect.cleandoc(text).encode())
    return written


_IN_ERRORS_ALONE = (
    "CPy_AddTraceback", "CPy_AttributeError", "CPy_Raise", "CPy_TypeError", "CPy_TypeErrorTraceback",
    "CPyError_OutOfMemory", "PyErr_SetString",
)  # fmt: skip
"""The functions of mypyc and Python that the engine calls in errors alone."""
_DECLARATIONS = "\n".join(
    ["#include <CPy.h>", "#if defined(__GNUC__) && !defined(_WIN32)"]  # clang says that it is gcc, too
    + [f"__typeof__({name}) {name} __attribute__((cold));" for name in _IN_ERRORS_ALONE]
    + ["#endif", ""]
)
_OPTIONS = ("-fvisibility=hidden", "-fno-plt", "-fno-semantic-interposition", "-fno-jump-tables")
"""What gcc and clang are told on Linux: three options are about symbols of ELF, and the last one keeps tables out."""


class _Build(build_ext):
    """What compiles the sources, for this process."""

    def build_extensions(self) -> None:
        files = (pathlib.Path(*extension.name.split(".")).with_suffix(".py") for extension in self.extensions)
        texts = documented(file for file in files if file.is_file())  # the build runs in the project's folder
        for extension in self.extensions:
            for source in map(pathlib.Path, extension.sources):
                text = with_docstrings(source.read_text("utf-8"), texts)
                source.write_text(_DECLARATIONS + text if "CPy_AddTraceback" in text else text, "utf-8")
            if sys.platform == "linux":
                extension.extra_compile_args = [*extension.extra_compile_args, *_OPTIONS]
        super().build_extensions()


def plugin(_version: str) -> type[Plugin]:
    """Return what mypy asks for: a plugin that changes no type."""
    from setuptools.command import build_ext as module  # noqa: PLC0415 - the name is the class's, too

    module.build_ext = _Build
    return Plugin
