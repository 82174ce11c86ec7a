"""What mypyc makes something else of is not in the sources that it compiles, and what it leaves out is named."""

import ast
import tomllib

import pytest
from support.build import ROOT, listed

HARMLESS = {"len", "max", "min"}
"""Evaluated twice they cost little and do nothing."""


@pytest.mark.parametrize("path", listed(), ids=str)
def test_a_slice_has_no_bound_that_does_something(path):
    """mypyc 2.4 evaluates the bounds twice where the sliced value may be of several types."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    bounds = [
        each for node in ast.walk(tree) if isinstance(node, ast.Slice) for each in (node.lower, node.upper) if each
    ]
    nodes = [node for bound in bounds for node in ast.walk(bound)]
    called = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
    assert called <= HARMLESS
    assert not any(isinstance(node, ast.NamedExpr | ast.Await) for node in nodes)


@pytest.mark.parametrize("path", listed(), ids=str)
def test_no_function_deletes_an_argument(path):
    """mypyc 2.4 says of an argument that is deleted on one path that it is unbound on the others, too."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        arguments = {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
        deleted = [each for node in ast.walk(function) if isinstance(node, ast.Delete) for each in node.targets]
        assert not arguments & {ast.unparse(each) for each in deleted}, function.name


def test_the_list_names_sources_that_are_there():
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    hook = hook["hooks"]["mypyc"]
    for pattern in [*hook["include"], *hook["exclude"]]:
        assert list(ROOT.glob(pattern.lstrip("/") if pattern.startswith("/") else f"acredssp/**/{pattern}")), pattern
    assert hook["enable-by-default"] is False
