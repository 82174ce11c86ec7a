"""Changes the package in every small way that mutmut knows, and counts the changes that the quick tests notice.

`make mutants-all` does so for all files of `TESTS`, which takes hours, and goes on where it was ended. `python
tests/machine_mutants.py core/binding.py` does so for one file, `--changed BASE` for the functions that differ from a
commit. Everything happens in a copy below build/mutation, so the tree stays as it is.

A mutant is left out if it changes nothing but the text of an error, a hint or a log line: no test should quote those.
mutmut changes the bodies of functions, but not of those with decorators, and not what a module or class does when it is
made. Exit status 1: a mutant survived for which tests/machine_mutants.toml gives no reason.

mutmut makes the mutants, and `Trials` tries them: pytest collects the tests once. Then each mutant gets a process of
its own, which runs the tests that call the function: first those that noticed another mutant of that function.
"""

import argparse
import ast
import builtins
import collections
import contextlib
import datetime as dt
import fnmatch
import functools
import json
import os
import pickle
import platform
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import tomllib
import typing
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COPIES = ROOT / "build" / "mutation"
"""Has a copy of the tree for each pattern of `TESTS`, with what came out for the files of that pattern."""
FIGURES = ROOT / "docs" / "figures" / "mutants.json"
REASONS = ROOT / "tests" / "machine_mutants.toml"
TESTS = {
    "accounts/*.py": ["tests/accounts", "tests/test_names.py"],
    "aio/failures.py": ["tests/aio/test_failures.py"],
    "aio/limits.py": ["tests/aio/test_limits.py"],
    "aio/pacing.py": ["tests/aio/test_pacing.py"],
    "aio/sources.py": ["tests/aio/test_sources.py"],
    "carriage/*.py": ["tests/carriage"],
    "certificates/*.py": ["tests/certificates", "tests/test_trust.py"],
    "core/*.py": ["tests/core"],
    "delegation/*.py": ["tests/delegation"],
    "mechanisms/kerberos/*.py": ["tests/mechanisms/kerberos"],
    "mechanisms/*.py": ["tests/mechanisms"],
    "names.py": ["tests/test_names.py", "tests/accounts"],
    "trust.py": ["tests/test_trust.py", "tests/certificates"],
}
"""Files below the package, where a star stands for folders, too; and the tests that are to notice a change of them.
The first pattern that fits counts."""
WITH_PEERS = {"mechanisms/kerberos/*.py"}
"""The patterns for which all tests are asked, and not only the quick ones: most of this code needs a KDC."""
SHARED = "kerberos_realm"
"""A fixture of the session that takes a second: it is made once for all mutants."""
LEFT_OUT, UNTESTED, TOO_LONG = 34, 33, 36
"""mutmut's statuses: of a mutant that is not tried, one in a function that no test calls, one that took too long."""
KILLED, SURVIVED = {1, 3}, {0, 5, UNTESTED}
"""pytest's exit statuses, and mutmut's."""
TIMES_AS_LONG, SECONDS_MORE = 4, 5
"""How much of the processor's time the tests of a mutant may take: that which they take without it by the first, and
the second on top. Of the clock's time, ten times as much."""
MEMORY = 4 << 30
"""Bytes that a process with a mutant may have: some mutants are loops without an end."""
SAVED_EVERY = 50
"""So many results are lost at most if all is ended. mutmut's file for them is written as a whole."""
COLUMNS = ["file", "mutants", "texts, left out", "killed", "killed by time", "survived", "with a reason", "not tried"]


def pattern_of(file):
    """Which pattern of `TESTS` a file below the package is of; None for a file that is not mutated."""
    return next((pattern for pattern in TESTS if fnmatch.fnmatch(file, pattern)), None)


def mutable_files():
    """All files that are mutated, below the package."""
    names = [path.relative_to(ROOT / "acredssp").as_posix() for path in sorted((ROOT / "acredssp").rglob("*.py"))]
    return [name for name in names if pattern_of(name)]


def mirror_of(file):
    """The file of tests that mirrors a file below the package."""
    return f"tests/{file.removesuffix(Path(file).name)}test_{Path(file).name}"


def copy_for(pattern):
    """The copy of the tree for the files of a pattern."""
    return COPIES / pattern.removesuffix(".py").removesuffix("/*").replace("/", "-")


_PLACES_OF_TEXTS = {
    # the reason of a judgement
    "Refusal": 1, "_refusal": 2, "refuse_unless_allowed": 1,
    # what an error calls a field or a message
    "decode_text": 1, "require_flags": 1, "decode_av_pairs": 1, "_check_field": 4,
    # the message of an error that the function makes
    "_denied": 0, "_altered": 0, "_refuse_call": 0,
}  # fmt: skip
"""Which argument of these functions is nothing but a text for people."""


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
        elif (place := _PLACES_OF_TEXTS.get(name, 99)) < len(node.args):
            node.args[place] = ast.Constant("text")
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


@functools.cache
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


def prepare(pattern, files):
    """Bring the copy for a pattern up to date, with settings for mutmut to change these files; return its folder."""
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
        wanted = _below_package(path.relative_to(folder / "mutants")) in files
        if wanted != (b"__mutmut_" in path.read_bytes()):
            path.unlink()  # mutmut takes it for what it would make
    settings = {
        "source_paths": ["acredssp"],
        "only_mutate": [f"acredssp/{file}" for file in files],
        "also_copy": sorted({name.partition("/")[0] for name in names} - {"acredssp", "tests", "pyproject.toml"}),
    }
    table = "\n[tool.mutmut]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text("utf-8") + table, "utf-8")
    return folder


class Inside(typing.NamedTuple):
    """What the process in the copy is told."""

    tests: list[str]
    functions: dict[str, list[str]] | None
    """By file, the functions to try, whatever came out before; or None for all mutants that have not been tried."""
    again: bool
    """Whether to try survivors again, those with a reason excepted."""
    children: int
    """How many mutants to try at once."""
    most: int | None
    """How many tests to ask for each mutant at most."""
    end: float | None
    """The time of the clock at which to stop."""
    quick: bool
    """Whether the quick tests alone are asked."""


def run_inside(inside):
    """Make mutants in the current folder, which is a copy of the tree, and try those that are chosen."""
    import mutmut.__main__ as mutmut  # noqa: PLC0415

    with contextlib.redirect_stdout(None):
        mutmut.copy_src_dir()
        mutmut.copy_also_copy_files()
        mutmut.create_mutants(inside.children)
    mutmut.setup_source_paths()
    chosen = {}
    for path in mutmut.walk_mutatable_files():
        chosen |= _chosen(path, inside)
    if chosen:
        print(len(chosen), "mutants to try", flush=True)
        Trials(chosen, inside).run()


def _chosen(path, inside):
    """The mutants of a file that are to be tried, each with mutmut's data of the file."""
    chosen, data, file, reasons = {}, None, _below_package(path), survivors_with_a_reason()
    functions = None if inside.functions is None else inside.functions.get(file, ())
    for name, before, after, data in mutants([path]):
        status = data.exit_code_by_key[name]
        if without_texts(before) == without_texts(after):
            data.exit_code_by_key[name] = LEFT_OUT
        elif (
            status is None
            or (inside.again and status in SURVIVED and _survivor(file, name, before, after) not in reasons)
            if functions is None
            else _function_of(name).rpartition(".")[2] in functions
        ):
            chosen[name] = data
    if data is not None:
        data.save()
        data.meta_path = data.meta_path.resolve()  # the tests run in another folder
    return chosen


class Trials:
    """A plugin of pytest, which collects the tests; then this tries mutants, where pytest would run the tests."""

    def __init__(self, mutants, inside):
        self._mutants = mutants
        self._inside = inside
        self._items, self._places = [], []
        self._calls, self._seconds = {}, {}  # of each test, by its number: the functions that it calls, and its time
        self._noticed = collections.defaultdict(list)  # of each function: the tests that noticed a mutant of it
        self._running = {}  # by the pipe from a process: the mutant, the process, and when to end it
        self._count = 0
        self._at_failure = None

    def run(self):
        """Let pytest collect, and try the mutants. Nothing runs after that: the tests' plugins have nothing to tell."""
        self._said = os.dup(1)
        log = os.open("trials.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir("mutants")
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        options = ["--thorough", "--sockets", "-q", "--rootdir=.", "-p", "no:cacheprovider"]
        options += ["--hypothesis-seed=0", "--tb=native"]  # other forms of a traceback take longer than the test
        options += ["--quick"] if self._inside.quick else []
        pytest.main([*options, *self._inside.tests], plugins=[self])
        self._say("pytest could not collect the tests: see trials.log in the copy of the tree")
        os._exit(1)

    def _say(self, text):
        os.write(self._said, f"{text}\n".encode())

    def pytest_runtest_logreport(self, report):
        """End the process of a mutant, or note that a test fails without one."""
        if report.failed and self._at_failure:
            self._at_failure()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        """Try the mutants, and end the process."""
        self._items = session.items
        self._places = places_of(item.nodeid for item in session.items)
        try:
            self._make_shared_fixture()
            self._find_calls()
            self._try_all(sorted(self._mutants, key=_function_of))
        finally:  # Ctrl-C, or the same by another process
            self._save()
            session._setupstate.teardown_exact(None)  # what the shared fixture has started
        os._exit(0)

    def _make_shared_fixture(self):
        """Run a test that needs the fixture, in this process. No other process ends its session, and so the fixture."""
        needing = (number for number, item in enumerate(self._items) if SHARED in item.fixturenames)
        if (number := next(needing, None)) is not None:
            self.run_test(number, self._another(number))

    def _another(self, number):
        """The number of another test. A test that has a following one leaves the session's fixtures as they are."""
        return 0 if number else min(1, len(self._items) - 1)

    def _find_calls(self):
        """Run all tests without a mutant, in a process of its own, and take from it what they call and how long."""
        ours, its = os.pipe()
        if not os.fork():
            with os.fdopen(its, "wb") as pipe:
                pickle.dump(_Calls(self).of_all(self._items), pipe)
            os._exit(0)
        os.close(its)
        with os.fdopen(ours, "rb") as pipe:
            self._calls, self._seconds, failed = pickle.load(pipe)  # noqa: S301 - our own process wrote it
        os.wait()
        for number in sorted(failed):
            self._say(f"left out, since it fails without a mutant: {self._items[number].nodeid}")

    def _try_all(self, waiting):
        while waiting or self._running:
            late = self._inside.end is not None and time.monotonic() > self._inside.end
            while waiting and not late and len(self._running) < self._inside.children:
                self._start(waiting.pop(0))
            if late and not self._running:
                return
            self._wait()

    def _tests_of(self, name):
        """The numbers of the tests that call the function, those first that are likely to notice.

        These are tests that noticed another mutant of it, then those of the file that mirrors the module, then all
        others: of each test its first case before its second, and of these the ones that call the fewest functions.
        """
        function = _function_of(name)
        noticed = {number: place for place, number in enumerate(reversed(self._noticed[function]))}
        mirror = mirror_of(_below_package(self._mutants[name].path))

        def rank(number):
            file, case = self._places[number]
            return noticed.get(number, len(noticed)), file != mirror, case, len(self._calls[number])

        calling = [number for number in self._calls if function in self._calls[number]]
        return sorted(calling, key=rank)[: self._inside.most]

    def _start(self, name):
        numbers = self._tests_of(name)
        if not numbers:
            self._came_out(name, UNTESTED)
            return
        seconds = sum(self._seconds[number] for number in numbers) * TIMES_AS_LONG + SECONDS_MORE
        ours, its = os.pipe()
        if not (process := os.fork()):
            os.close(ours)
            self._be(name, numbers, int(seconds), its)
        os.close(its)
        self._running[ours] = name, process, time.monotonic() + 10 * seconds

    def _be(self, name, numbers, seconds, pipe):
        """In a process of its own: run tests with a mutant until one fails, tell which, and end."""
        from mutmut.mutation.trampoline import set_mutant_under_test  # noqa: PLC0415

        for ours in self._running:
            os.close(ours)
        used = int(time.process_time()) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, used + seconds))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        set_mutant_under_test(name)
        try:
            for number, following in zip(numbers, [*numbers[1:], self._another(numbers[-1])], strict=True):

                def end(number=number):
                    os.write(pipe, str(number).encode())
                    end_children()
                    os._exit(1)

                self._at_failure = end
                self.run_test(number, following)
            os._exit(0)
        finally:
            os._exit(3)

    def run_test(self, number, following):
        """Run one test with its fixtures; those stay that the following one needs, too."""
        item = self._items[number]
        item.ihook.pytest_runtest_protocol(item=item, nextitem=self._items[following])

    def when_a_test_fails(self, call):
        """Have this called."""
        self._at_failure = call

    def _wait(self):
        """Wait until a process has ended, or end one that is late."""
        ends = min(end for _, _, end in self._running.values())
        ready, _, _ = select.select(list(self._running), [], [], max(ends - time.monotonic(), 0))
        for pipe in ready or [pipe for pipe in self._running if self._running[pipe][2] == ends]:
            name, process, _ = self._running.pop(pipe)
            if not ready:
                os.kill(process, signal.SIGKILL)
            noticed = os.read(pipe, 20)
            os.close(pipe)
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            if noticed:
                self._noticed[_function_of(name)].append(int(noticed))
            self._came_out(name, status if status >= 0 else TOO_LONG)

    def _came_out(self, name, status):
        data = self._mutants[name]
        data.exit_code_by_key[name] = status
        self._count += 1
        if self._count % SAVED_EVERY == 0:
            self._say(f"{self._count} tried")
            self._save()

    def _save(self):
        for data in set(self._mutants.values()):
            data.save()


def end_children():
    """End the programs that this process has started, as the test that failed may have no more time to do."""
    for listed in Path("/proc/self/task").glob("*/children"):
        for child in listed.read_text("ascii").split():
            os.kill(int(child), signal.SIGKILL)


def places_of(names):
    """Of each test, by the name that pytest gives it: its file, and the number of the case among those of the test."""
    seen, places = collections.Counter(), []
    for name in names:
        test = name.partition("[")[0]
        places.append((name.partition("::")[0], seen[test]))
        seen[test] += 1
    return places


class _Calls:
    """Which mutated functions each test calls, itself or by a fixture that it shares with others."""

    def __init__(self, trials):
        self._trials = trials
        self._called = set()
        self._by_fixture = collections.defaultdict(set)

    def of_all(self, items):
        """Run all tests: of each, by its number, what it calls, and its seconds; and the numbers of those that fail."""
        from mutmut.mutation import trampoline  # noqa: PLC0415

        trampoline.set_mutant_under_test("stats")
        trampoline.record_trampoline_hit = lambda name, caller=None: self._called.add(name)
        items[0].session.config.pluginmanager.register(self)
        calls, seconds, failed = {}, {}, set()
        for number in range(len(items)):
            self._called = set()
            self._trials.when_a_test_fails(lambda number=number: failed.add(number))
            start = time.process_time()
            self._trials.run_test(number, number + 1 if number + 1 < len(items) else 0)
            calls[number], seconds[number] = self._called, time.process_time() - start
        for number, item in enumerate(items):
            calls[number] = calls[number].union(*(self._by_fixture[name] for name in getattr(item, "fixturenames", ())))
        return {number: calls[number] for number in calls if number not in failed}, seconds, failed

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        """What a fixture calls is called for every test that has it."""
        before, self._called = self._called, set()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                self._by_fixture[fixturedef.argname] |= self._called
            self._called |= before


def mutants(paths):
    """Every mutant of these files: its name, the function before and after, and mutmut's data of the file."""
    from mutmut.mutation.data import MutantLineSpans, SourceFileMutationData  # noqa: PLC0415

    for path in paths:
        data, spans = SourceFileMutationData(path=path), MutantLineSpans.load(path)
        data.load()
        if spans is None:  # the file has no function that mutmut changes
            continue
        lines = spans.mutants_path.read_text("utf-8").splitlines(keepends=True)
        code = {name: "".join(lines[at.start - 1 : at.end]) for name, at in spans.span_by_function_name.items()}
        for name in list(data.exit_code_by_key):
            mutant = name.rpartition(".")[2]
            original = f"{mutant.rpartition('__mutmut_')[0]}__mutmut_orig"
            yield name, code[original], code[mutant], data


def _function_of(name):
    """The module and the function of a mutant, as mutmut writes them."""
    return name.rpartition("__mutmut_")[0]


def _below_package(path):
    return Path(path).relative_to("acredssp").as_posix()


def survivors_with_a_reason():
    """The file, the function and the change of each."""
    rows = tomllib.loads(REASONS.read_text("utf-8")).get("survivor", [])
    return {(row["file"], row["function"], row["change"]) for row in rows}


def _survivor(file, name, before, after):
    return file, _plain(name), difference(before, after)


def results(files):
    """Of each file: how many mutants there are, in the order of `COLUMNS`; and the survivors without a reason."""
    reasons = survivors_with_a_reason()
    rows, unexplained = [], []
    for file in files:
        with contextlib.chdir(copy_for(pattern_of(file))):
            counts = dict.fromkeys(COLUMNS[1:], 0)
            for name, before, after, data in mutants([Path("acredssp", file)]):
                status = data.exit_code_by_key[name]
                counts["mutants"] += 1
                counts[_kind(status)] += 1
                if status in SURVIVED:
                    survivor = _survivor(file, name, before, after)
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
    return _function_of(name).rpartition(".")[2].removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")


def write(rows):
    """Put the figures of files into the table of figures; rows of other files stay, and of files not tried whole."""
    rows = [row for row in rows if not row[-1]]
    old = json.loads(FIGURES.read_text("utf-8"))["rows"] if FIGURES.exists() else []
    both = {row[0]: row for row in [*old, *rows]}
    total = [sum(row[n] for row in both.values() if row[0] != "all") for n in range(1, len(COLUMNS))]
    both.pop("all", None)
    when = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
    tests = "by the quick tests that mirror each file, for Kerberos by all of them"
    table = {
        "measured": f"{when}, Python {platform.python_version()}, {tests}",
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
    parser.add_argument("--again", action="store_true", help="try survivors without a reason again")
    parser.add_argument("--seconds", type=float, help="stop after this time")
    parser.add_argument("--children", type=int, default=os.cpu_count(), help="how many mutants to try at once")
    parser.add_argument("--most", type=int, help="how many tests to ask for each mutant, for a first view in less time")
    parser.add_argument("--report", action="store_true", help="try nothing, say what came out before")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/figures/mutants.json")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        run_inside(Inside(*json.loads(options.inside)))
        return 0
    if unknown := set(options.file).difference(mutable_files()):
        parser.error(f"expected files below acredssp/ that `TESTS` has tests for, got {', '.join(sorted(unknown))}")
    wanted = changed_functions(options.changed) if options.changed else None
    files = sorted(wanted) if wanted is not None else options.file or mutable_files()
    if not files:
        print("no function with mutants has changed")
        return 0
    end = time.monotonic() + options.seconds if options.seconds else None
    for pattern, tests in TESTS.items():
        if some := [file for file in files if pattern_of(file) == pattern]:
            chosen = {} if options.report else wanted and {file: sorted(wanted[file]) for file in some}
            quick = pattern not in WITH_PEERS
            inside = Inside(tests, chosen, options.again, options.children, options.most, end, quick)
            start(prepare(pattern, some), inside)
    rows, unexplained = results(files)
    if options.write:
        write(rows)
    for file, *counts in rows:
        print(file, *(f"{count} {name}" for name, count in zip(COLUMNS[1:], counts, strict=True) if count), sep=", ")
    for file, function, change in unexplained:
        print(f"survived: {file} {function}: {change}")
    return int(bool(unexplained))


def start(folder, inside):
    """Try mutants in a copy of the tree, in a process that finds nothing of the tree beside it."""
    command = [sys.executable, "-P", str(Path(__file__).resolve()), "--inside", json.dumps(inside)]
    environment = {name: value for name, value in os.environ.items() if name != "ACREDSSP_NO_SKIPS"}
    done = subprocess.run(command, cwd=folder, env=environment | {"PYTHONSAFEPATH": "1"}, check=False)
    if done.returncode:
        sys.exit(f"the process that tries mutants ended with {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
