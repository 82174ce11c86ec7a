"""The pictures of the states in docs/architecture.md are the tables of core/states.py."""

import ast
import io
import re
import tokenize

from support.state_pictures import PAGE, SIDES, drawn, picture


def test_the_picture_is_the_table():
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("stateDiagram-v2") == len(SIDES)
    assert drawn(page) == page, "make conformance"


def test_a_picture_has_each_move_of_its_table_once():
    for moves in SIDES.values():
        lines = re.findall(r"^    (\w+) --> (\w+)$", picture(moves), re.MULTILINE)
        assert sorted(lines) == sorted((state.name, target.name) for state in moves for target in moves[state])


def test_every_module_it_names_exists():
    package = PAGE.parent.parent
    for name in re.findall(r"`((?:\w+/)+\w+\.py)`", PAGE.read_text(encoding="utf-8")):
        assert (package / name).exists() or (package / "acredssp" / name).exists(), name


def lines_of_code(source):
    """The lines that hold code: without comments, blank lines and docstrings."""
    words = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    empty = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = [each for each in tokenize.generate_tokens(io.StringIO(source).readline) if each.type not in empty]
    return len({line for each in tokens for line in range(each.start[0], each.end[0] + 1)} - words)


def test_the_gateway_is_small_enough_to_be_read_in_an_afternoon():
    package = PAGE.parent.parent / "acredssp"
    modules = [*(package / "proxy").rglob("*.py"), package / "cli" / "proxy.py", package / "cli" / "top.py"]
    assert sum(lines_of_code(module.read_text(encoding="utf-8")) for module in modules) <= 3000
