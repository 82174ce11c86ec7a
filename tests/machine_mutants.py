"""Changes the package in every small way that mutmut knows, and counts the changes that the quick tests notice.

`make mutants-all` does so for all files of `TESTS`, which takes hours, and goes on where it was ended. `python
tests/machine_mutants.py core/binding.py` does so for one file, `--changed BASE` for the functions that differ from a
commit. Everything happens in a copy below build/mutation, so the tree stays as it is.

A mutant is left out if it changes nothing but the text of an error, a hint or a log line: no test should quote those.
mutmut changes the bodies of functions, but not of those with decorators, and not what a module or class does when it is
made. Exit status 1: a mutant survived for which tests/machine_mutants.toml gives no reason.
"""

import argparse
import ast
import builtins
import contextlib
import datetime as dt
import fnmatch
import json
import operator
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import tomllib
import types
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIES = ROOT / "build" / "mutation"
"""Has a copy of the tree for each pattern of `TESTS`, since mutmut forgets what it knows if the tests are others."""
FIGURES = ROOT / "docs" / "figures" / "mutants.json"
REASONS = ROOT / "tests" / "machine_mutants.toml"
TESTS = {
    "accounts/*.py": ["tests/accounts", "tests/test_names.py"],
    "aio/limits.py": ["tests/aio/test_limits.py"],
    "carriage/*.py": ["tests/carriage", "tests/core"],
    "certificates/*.py": ["tests/certificates", "tests/test_trust.py"],
    "core/*.py": ["tests/core"],
    "delegation/*.py": ["tests/delegation"],
    "mechanisms/*.py": ["tests/mechanisms", "tests/core"],
    "names.py": ["tests/test_names.py", "tests/accounts"],
    "trust.py": ["tests/test_trust.py", "tests/certificates"],
}
"""Files below the package, where a star stands for folders, too; and the tests that are to notice a change of them."""
LEFT_OUT = 34
"""mutmut's status of a mutant that it does not try."""
UNTESTED = 33
"""mutmut's status of a mutant in a function that no test calls, as far as it knows."""
KILLED, SURVIVED = {1, 3}, {0, 5, UNTESTED}
"""pytest's exit statuses, and mutmut's."""
COLUMNS = ["file", "mutants", "texts, left out", "killed", "killed by time", "survived", "with a reason", "not tried"]


def pattern_of(file):
    """Which pattern of `TESTS` a file below the package is of; None for a file that is not mutated."""
    return next((pattern for pattern in TESTS if fnmatch.fnmatch(file, pattern)), None)


def mutable_files():
    """All files that are mutated, below the package."""
    names = [path.relative_to(ROOT / "acredssp").as_posix() for path in sorted((ROOT / "acredssp").rglob("*.py"))]
    return [name for name in names if pattern_of(name)]


def copy_for(pattern):
    """The copy of the tree for the files of a pattern."""
    return COPIES / pattern.removesuffix(".py").removesuffix("/*").replace("/", "-")


class _WithoutTexts(ast.NodeTransformer):
    def visit_Call(self, node):
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if _is_error(name):
            node.args = []
            node.keywords = [each for each in node.keywords if each.arg != "hint"]
        elif name == "Judgement":
            node.args = [
                ast.Constant("text") if isinstance(each, ast.Constant | ast.JoinedStr) else each for each in node.args
            ]
        elif name in {"debug", "info", "warning", "error", "exception"}:
            node.args = []
        elif (place := {"Refusal": 1, "_refusal": 2, "refuse_unless_allowed": 1}.get(name, 99)) < len(node.args):
            node.args[place] = ast.Constant("text")  # the reason of a judgement
        elif name in {"encode", "decode", "read_text"}:
            node.args = [ast.Constant(ast.unparse(each).lower()) for each in node.args]  # no name of a codec has a case
        return node

    def visit_Assign(self, node):
        self.generic_visit(node)
        if ast.unparse(node.targets[0]) in {"reason", "hint", "lacks"}:
            node.value = ast.Constant("text")
        return node


def _is_error(name):
    if isinstance(found := getattr(builtins, name, None), type):
        return issubclass(found, Exception)
    return name.endswith("Error") or name in {
        "AccessDenied",
        "HandshakeAborted",
        "HandshakeTimeout",
        "LimitExceeded",
        "NegotiationFailure",
        "PeerClosed",
        "PublicKeyMismatch",
    }


def without_texts(function):
    """A function's code in a form that is the same if only texts for people differ."""
    [tree] = ast.parse(textwrap.dedent(function)).body
    tree.name = "function"
    return ast.unparse(_WithoutTexts().visit(tree))


def difference(before, after):
    """What a mutant changes, in one line: `a < b -> a <= b`."""
    old, new = (_lines(ast.parse(textwrap.dedent(text)).body[0]) for text in (before, after))
    while old and new and old[0].strip() == new[0].strip():
        old, new = old[1:], new[1:]
    while old and new and old[-1].strip() == new[-1].strip():
        old, new = old[:-1], new[:-1]
    return " -> ".join(" ".join(line.strip() for line in lines) for lines in (old, new))


def _lines(function):
    """A function's parameters and body, without its name and decorators, which mutmut changes for itself."""
    return [ast.unparse(function.args), *(line for node in function.body for line in ast.unparse(node).splitlines())]


def functions_at(source, lines):
    """The names that mutmut gives to the functions of a module that have one of these lines."""
    for node in ast.parse(source).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        for each in inside:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([each.lineno, *(decorator.lineno for decorator in each.decorator_list)])
                if any(first <= line <= each.end_lineno for line in lines):
                    yield f"xǁ{node.name}ǁ{each.name}" if node is not each else f"x_{each.name}"


def changed_functions(base):
    """The functions that differ from a commit, by file below the package."""
    command = ["git", "diff", "--unified=0", "--no-color", "--no-ext-diff", base, "--", "acredssp"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = {}
    for part in text.split("\n+++ b/acredssp/")[1:]:
        file = part.partition("\n")[0].strip()
        hunks = re.findall(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", part, re.MULTILINE)
        lines = {int(start) + n for start, count in hunks for n in range(int(count or 1))}
        if pattern_of(file):
            names = set(functions_at((ROOT / "acredssp" / file).read_text("utf-8"), lines))
            found |= {file: names} if names else {}
    return found


def prepare(pattern):
    """Bring the copy for a pattern up to date, with settings for mutmut; return its folder."""
    folder = copy_for(pattern)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    said = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [name for name in said.split("\0") if (ROOT / name).is_file()]
    for name in names:
        old = folder / name
        if not old.is_file() or old.read_bytes() != (ROOT / name).read_bytes():
            old.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, old)
            (folder / "mutants" / name).unlink(missing_ok=True)  # mutmut does not copy what is there
    for path in [*(folder / "acredssp").rglob("*.py"), *(folder / "tests").rglob("*.py")]:
        name = str(path.relative_to(folder))
        if name not in names:
            path.unlink()
            (folder / "mutants" / name).unlink(missing_ok=True)
    for path in (folder / "mutants" / "acredssp").rglob("*.py"):
        if (
            pattern_of(_below_package(path.relative_to(folder / "mutants"))) == pattern
            and b"__mutmut_" not in path.read_bytes()
        ):
            path.unlink()  # a copy that mutmut would take for what it has changed
    settings = {
        "source_paths": ["acredssp"],
        "only_mutate": [f"acredssp/{file}" for file in mutable_files() if pattern_of(file) == pattern],
        "also_copy": sorted({name.partition("/")[0] for name in names} - {"acredssp", "tests", "pyproject.toml"}),
        "pytest_add_cli_args": ["--quick", "--thorough", "--sockets", "-p", "no:cacheprovider"],
        "pytest_add_cli_args_test_selection": TESTS[pattern],
        "use_git_change_detection": False,
        "on_dependency_change": "ignore",
    }
    table = "\n[tool.mutmut]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text("utf-8") + table, "utf-8")
    return folder


def run_inside(files, functions, again):
    """Run mutmut in the current folder.

    Args:
        files: The files to try, below the package.
        functions: The functions to try, by file, whatever came out before; None for all that have not been tried.
        again: Whether to try survivors again.
    """
    import mutmut.__main__ as mutmut  # noqa: PLC0415

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # mutmut ends well by KeyboardInterrupt
    mutmut.fnmatch = types.SimpleNamespace(fnmatch=operator.eq)  # thousands of names are compared with each other
    generate, names = mutmut.create_mutants, []

    def generate_and_choose(processes):
        stats = generate(processes)
        for name, before, after, data in mutants(mutmut.walk_mutatable_files()):
            file, status = _below_package(data.path), data.exit_code_by_key[name]
            if without_texts(before) == without_texts(after):
                data.exit_code_by_key[name] = LEFT_OUT
                data.save()
            elif file in files and (
                _function_of(name) in functions[file]
                if functions is not None
                else status in {None, UNTESTED} or (again and status in SURVIVED)
            ):
                names.append(name)
        if not names:
            sys.exit(0)
        return stats

    mutmut.create_mutants = generate_and_choose
    mutmut._run(names, 1)


def mutants(paths):
    """Every mutant of these files: its name, the function before and after, and mutmut's data of the file."""
    from mutmut.mutation.data import MutantLineSpans, SourceFileMutationData  # noqa: PLC0415

    for path in paths:
        data, spans = SourceFileMutationData(path=path), MutantLineSpans.load(path)
        data.load()
        for name in list(data.exit_code_by_key):
            mutant = name.rpartition(".")[2]
            original = f"{_function_of(name)}__mutmut_orig"
            before, after = spans.read_function_sources([original, mutant])
            yield name, before, after, data


def _function_of(name):
    return name.rpartition(".")[2].rpartition("__mutmut_")[0]


def _below_package(path):
    return Path(path).relative_to("acredssp").as_posix()


def results(files):
    """Of each file: how many mutants there are, in the order of `COLUMNS`; and the survivors without a reason."""
    reasons = {
        (row["file"], row["function"], row["change"])
        for row in tomllib.loads(REASONS.read_text("utf-8")).get("survivor", [])
    }
    rows, unexplained = [], []
    for file in files:
        with contextlib.chdir(copy_for(pattern_of(file))):
            counts = dict.fromkeys(COLUMNS[1:], 0)
            for name, before, after, data in mutants([Path("acredssp", file)]):
                status = data.exit_code_by_key[name]
                counts["mutants"] += 1
                counts[_kind(status)] += 1
                if status in SURVIVED:
                    survivor = (file, _plain(name), difference(before, after))
                    counts["with a reason"] += survivor in reasons
                    if survivor not in reasons:
                        unexplained.append(survivor)
            rows.append([f"`{file}`", *counts.values()])
    return rows, unexplained


def _kind(status):
    if status is None:
        return "not tried"
    if status == LEFT_OUT:
        return "texts, left out"
    return "killed" if status in KILLED else "survived" if status in SURVIVED else "killed by time"


def _plain(name):
    """A function's name as a person writes it."""
    return _function_of(name).removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")


def write(rows):
    """Put the figures of files into the table of figures; rows of other files stay."""
    old = json.loads(FIGURES.read_text("utf-8"))["rows"] if FIGURES.exists() else []
    both = {row[0]: row for row in [*old, *rows]}
    total = [sum(row[n] for row in both.values() if row[0] != "all") for n in range(1, len(COLUMNS))]
    both.pop("all", None)
    when = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
    table = {
        "measured": f"{when}, Python {platform.python_version()}, by the quick tests that mirror each file",
        "columns": COLUMNS,
        "rows": [*(both[name] for name in sorted(both)), ["all", *total]],
    }
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(table, indent=1) + "\n", "utf-8")


def main():
    """Run mutmut, print what came out, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="*", help="below the package; all of them if none is named")
    parser.add_argument("--changed", metavar="BASE", help="only functions that differ from this commit")
    parser.add_argument("--again", action="store_true", help="try survivors again, for there are new tests")
    parser.add_argument("--seconds", type=float, help="stop after this time")
    parser.add_argument("--report", action="store_true", help="try nothing, say what came out before")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/figures/mutants.json")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        run_inside(*json.loads(options.inside))
        return 0
    wanted = changed_functions(options.changed) if options.changed else None
    files = sorted(wanted) if wanted is not None else options.file or mutable_files()
    if not files:
        print("no function with mutants has changed")
        return 0
    end = time.monotonic() + options.seconds if options.seconds else None
    for pattern in TESTS:
        if some := [file for file in files if pattern_of(file) == pattern]:
            start(prepare(pattern), [] if options.report else some, wanted, options.again, end)
    rows, unexplained = results(files)
    if options.write:
        write(rows)
    for file, *counts in rows:
        print(file, *(f"{count} {name}" for name, count in zip(COLUMNS[1:], counts, strict=True) if count), sep=", ")
    for file, function, change in unexplained:
        print(f"survived: {file} {function}: {change}")
    return int(bool(unexplained))


def start(folder, files, functions, again, end):
    """Let mutmut work on a copy until a time of the clock, in a process that finds nothing of the tree beside it."""
    chosen = functions and {file: sorted(names) for file, names in functions.items()}
    command = [sys.executable, "-P", str(Path(__file__).resolve()), "--inside", json.dumps([files, chosen, again])]
    environment = {name: value for name, value in os.environ.items() if name != "ACREDSSP_NO_SKIPS"}
    with subprocess.Popen(
        command, cwd=folder, env=environment | {"PYTHONSAFEPATH": "1", "PYTEST_ADDOPTS": "--sockets"}
    ) as process:
        try:
            process.wait(end and max(end - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            return
        if process.wait() not in {0, 1}:
            sys.exit(f"mutmut ended with {process.returncode}")


if __name__ == "__main__":
    sys.exit(main())
