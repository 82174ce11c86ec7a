"""The compiled engine is what runs, and it needs nothing more than the sources do.

`make test-compiled` gives this file by name; `pytest tests` does not collect it: on the interpreted engine it fails.
"""

import ast
import ctypes
import functools
import importlib
import importlib.machinery
import inspect
import itertools
import os
import pathlib
import subprocess
import sys
import traceback

import pytest
from support.build import ROOT, listed

import acredssp
from acredssp.errors import RemoteProtocolError
from acredssp.wire import der

MODULES = [".".join(path.with_suffix("").parts) for path in listed()]
COMPILERS = ["mypy", "mypyc", "mypy_extensions", "librt", "typing_extensions"]


@pytest.mark.skipif("ACREDSSP_INSTALLED" not in os.environ, reason="interpreted only: it is for make test-installed")
def test_the_package_is_the_installed_one():
    assert pathlib.Path(acredssp.__file__).is_relative_to(os.environ["ACREDSSP_INSTALLED"])
    assert not list((ROOT / "acredssp").rglob("*.so"))


@pytest.mark.parametrize("name", MODULES)
def test_the_module_is_compiled(name):
    module = importlib.import_module(name)
    assert module.__file__.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES))


def _definitions(tree, outer=()):
    """What a source defines at its top and in its classes: its names, and its docstring."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield (*outer, node.name), ast.get_docstring(node)
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node, (*outer, node.name))


@pytest.mark.parametrize("name", MODULES)
def test_help_shows_the_docstrings_of_the_source(name):
    """Of the module, and of each class, method, property and function in it. Special methods have Python's own."""
    module = importlib.import_module(name)
    tree = ast.parse((ROOT / name.replace(".", "/")).with_suffix(".py").read_text("utf-8"))
    wanted = {names: text for names, text in _definitions(tree) if text and names[-1][:2] != "__"}
    shown = {names: inspect.getdoc(functools.reduce(getattr, names, module)) for names in wanted}
    assert shown == wanted
    assert inspect.getdoc(module) == ast.get_docstring(tree)


def test_nothing_of_the_compiler_is_needed_at_run_time():
    script = f"import importlib, sys\nsys.modules |= dict.fromkeys({COMPILERS})\n" + "".join(
        f"importlib.import_module({name!r})\n" for name in ["acredssp", "acredssp.sspi", *MODULES]
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_traceback_names_file_and_line_of_the_source():
    with pytest.raises(RemoteProtocolError) as caught:
        der.integer(b"\2\0", 0, 2, 0, "number")
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert {frame.filename for frame in frames[1:]} == {"acredssp/wire/der.py"}
    assert frames[-1].line.startswith("raise RemoteProtocolError")
    for outer, inner in itertools.pairwise(frames):
        assert f"{inner.name}(" in outer.line


@pytest.mark.skipif(sys.platform != "linux", reason="how others compile is left to mypyc")
def test_the_engine_shows_no_symbol_but_that_by_which_python_loads_it():
    engine = ctypes.CDLL(importlib.import_module("acredssp._engine__mypyc").__file__)
    assert hasattr(engine, "PyInit__engine__mypyc")
    assert not hasattr(engine, "CPy_AddTraceback")
