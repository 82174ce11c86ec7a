"""Runs the targets, and reports what was tried: `python -m fuzz --help`."""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from concurrent import futures

from fuzz import corpus, export, page
from fuzz.catalogue import TARGETS, target_of
from fuzz.engine_counters import COUNTERS
from fuzz.page import Result
from fuzz.target import Target

_PROGRESS = re.compile(r"cov: (\d+) ft: (\d+)")
_SPARE = 300
"""Seconds that a process may take beyond the time for fuzzing, to start and to end, on a machine that is busy."""
_PATIENCE = 30
"""Seconds after which an input counts as one that never ends. Usual ones take milliseconds."""


def fuzz(  # noqa: PLR0913 - how to run
    target: Target,
    seconds: float,
    *,
    runs: int = -1,
    faulty: bool = False,
    keep: bool = False,
    findings: pathlib.Path,
) -> Result:
    """Run a target for some seconds, in a process of its own; or `runs` inputs of it, the same ones each time."""
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        inputs = place / "inputs"
        inputs.mkdir()
        for number, data in enumerate([*target.seeds(), *(data for data, _ in corpus.read(target.name))]):
            (inputs / str(number)).write_bytes(data)
        words = place / "words"
        words.write_text(export.dictionary(target), "ascii")
        counters = place / "counters"
        counters.write_bytes(bytes(COUNTERS.size))
        findings.mkdir(parents=True, exist_ok=True)
        place_of_findings = place / "found" if faulty else findings / target.name
        options = [
            *([f"-max_total_time={seconds:g}"] if runs < 0 else [f"-runs={runs}", "-seed=1"]),
            f"-max_len={target.size}",
            f"-timeout={_PATIENCE}",
            "-len_control=0",
            "-rss_limit_mb=1024",
            *([f"-dict={words}"] if target.words else []),
            f"-artifact_prefix={place_of_findings}-",
            str(inputs),
        ]
        state = "faulty" if faulty else "sound"
        command = [sys.executable, "-m", "fuzz.engine", target.name, str(counters), state, *options]
        done = subprocess.run(  # noqa: S603 - our own
            command,
            capture_output=True,
            text=True,
            timeout=seconds + _SPARE,
            check=False,
            env=os.environ | {"PYTHONHASHSEED": "0"},
        )
        ran, accepted, deep = COUNTERS.unpack(counters.read_bytes())
        edges = max((int(found[0]) for found in _PROGRESS.findall(done.stderr)), default=0)
        found = "" if done.returncode == 0 else _last_line(done.stdout + done.stderr)
        if keep and faulty:
            for path in place.glob("found-crash-*"):
                corpus.note_fault(target.name, path.read_bytes())
        elif keep:
            _keep(target, [path.read_bytes() for path in sorted(inputs.iterdir())])
        return Result(target.name, seconds, runs, ran, accepted, deep, edges, found)


def _keep(target: Target, inputs: list[bytes]) -> None:
    """Keep the shortest inputs of each verdict, accepted ones first: what the tests replay."""
    by_verdict: dict[str, list[bytes]] = {}
    for data in sorted(set(inputs), key=len):
        by_verdict.setdefault(target.verdict(data), []).append(data)
    kept: list[bytes] = []
    groups = sorted(by_verdict.items())
    for depth in range(target.kept):
        kept += [group[depth] for _, group in groups if depth < len(group)]
    corpus.write(target, kept[: target.kept])


def _last_line(output: str) -> str:
    raised = re.search(r"^\s*((?:\w+\.)*\w*Error: .*)$", output, re.MULTILINE)
    return raised[1] if raised else output.strip()[-200:]


def _show(result: Result) -> None:
    share, deep = (100 * count / (result.ran or 1) for count in (result.accepted, result.deep))
    found = result.found or "nothing found"
    print(
        f"{result.target:20} {result.ran:9,} inputs, {share:5.1f} % accepted, {deep:5.1f} % past the first checks, "
        f"{result.edges:5} edges: {found}",
        flush=True,
    )


def _run(options: argparse.Namespace) -> int:
    targets = options.target or list(TARGETS.values())
    findings = pathlib.Path(options.findings)

    def one(target: Target) -> Result:
        return fuzz(
            target, options.seconds, runs=options.runs, faulty=options.faulty, keep=options.keep, findings=findings
        )

    results = []
    with futures.ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(one, targets):
            results.append(result)
            _show(result)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps([dataclasses.asdict(result) for result in results], indent=1))
    if options.page:
        page.write(pathlib.Path(options.page), results)
    wrong = [result.target for result in results if bool(result.found) is not options.faulty]
    if wrong:
        print(
            f"{'did not find the fault' if options.faulty else 'found something'}: {', '.join(wrong)}", file=sys.stderr
        )
    return 1 if wrong else 0


def _target(name: str) -> Target:
    """The target of that name, for argparse."""
    try:
        return target_of(name)
    except LookupError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main() -> int:
    """Do what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser("python -m fuzz", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("list", help="name the targets")
    written = commands.add_parser("export", help="write programs, dictionaries and corpora as OSS-Fuzz takes them")
    written.add_argument("folder", type=pathlib.Path)
    run = commands.add_parser("run", help="run targets, all of them unless some are named")
    run.add_argument("target", nargs="*", type=_target, metavar="target")
    run.add_argument("--seconds", type=float, default=20, help="for each target, 20 without it")
    run.add_argument("--runs", type=int, default=-1, help="inputs for each target, in place of seconds")
    run.add_argument(
        "--faulty", action="store_true", help="take a check out, and fail where the fuzzer does not notice"
    )
    run.add_argument(
        "--keep",
        action="store_true",
        help="write what was reached into the corpus; with --faulty, what found the fault",
    )
    run.add_argument("--findings", default="build/fuzz", help="the folder for inputs that found something")
    run.add_argument("--jobs", type=int, default=1, help="how many targets run at once")
    run.add_argument("--json", help="a file for the results")
    run.add_argument("--page", help="a page, as docs/security.md, that gets the table of results")
    options = parser.parse_args()
    if options.command == "list":
        print("\n".join(TARGETS))
        return 0
    if options.command == "export":
        for target in TARGETS.values():
            print(export.write(target, options.folder))
        return 0
    return _run(options)


if __name__ == "__main__":
    sys.exit(main())
