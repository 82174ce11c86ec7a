"""The benchmarks run, and leave behind what docs/performance.md promises. No time is asserted."""

import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import types
from pathlib import Path

import pytest
from support.peers import DEADLINE

import acredssp
from benchmarks import (
    crowd,
    instructions,
    lags,
    loopback,
    memory,
    misses,
    profiles,
    report,
    stalled_kdc,
    storm,
    timing,
    verdicts,
    workers,
)
from benchmarks.harness import Figure, Row
from benchmarks.peers import NAME, Peer, Setting
from benchmarks.profiles import Counts

ROOT = Path(__file__).parent.parent

GROUPS = [
    "inmemory",
    "crowd",
    "facade",
    "loopback",
    "lags",
    "memory",
    "bulk",
    "relay",
    "stages",
    "workers",
    "resumption",
    "storm",
    "attackers",
]
"""All but `instructions` and `misses`, which valgrind takes a minute for, and `compiled`, which gcc does."""

SIZES = (16384, 1024, 128, "128.answered")
"""The loads of a relay, as its rows name them."""


def test_no_module_that_tests_import_keeps_kerberos_out_of_the_process():
    """pyspnego's peer does, for its own process: other tests would find no gssapi any more."""
    imported = [name for name, module in globals().items() if getattr(module, "__package__", "") == "benchmarks"]
    assert "loopback" in imported
    names = ", ".join(f"benchmarks.{name}" for name in imported)
    script = f"import sys, {names}; sys.exit(None in sys.modules.values())"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    only = [word for group in GROUPS for word in ("--only", group)]
    command = [sys.executable, "-m", "benchmarks", "--mode", "quick", "--output", str(folder), *only]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20 * DEADLINE, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def results(folder):
    return json.loads((folder / "results.json").read_text("utf-8"))


def test_the_results_say_what_they_hold_for(results):
    assert set(results) == {"mode", "environment", "rows", "compiled", "left_out", "details"}
    assert results["mode"] == "quick"
    environment = {"build", "python", "openssl", "cryptography", "uvloop", "cpu", "cores", "kernel", "load"}
    assert set(results["environment"]) == environment


def test_every_row_has_goal_figure_spread_and_verdict(results):
    assert len({row["key"] for row in results["rows"]}) == len(results["rows"])
    for row in results["rows"]:
        assert set(row) == {"key", "what", "figure", "unit", "goal", "reach", "at_most", "note", "verdict"}
        figure = row["figure"]
        assert figure["low"] <= figure["median"] <= figure["high"]
        assert figure["rounds"] >= 1


def test_what_was_not_measured_is_named(results):
    assert {"instructions", "misses", "compiled"} <= {each["what"] for each in results["left_out"]}
    assert all(each["why"] for each in results["left_out"])


def test_the_table_has_every_row(folder, results):
    table = (folder / "table.md").read_text("utf-8")
    for row in results["rows"]:
        assert f"| {row['what']} |" in table


def test_the_details_are_those_that_the_plots_are_drawn_from(results):
    details = results["details"]
    assert set(details) - {"workers"} == {"in memory", "loopback", "memory", "stages", "storm"}
    assert ("workers" in details) == (len(os.sched_getaffinity(0)) > 1)
    for found in details["loopback"].values():
        assert {"acredssp", "protocols", "plumbing", "streams", "messages"} == {each["who"] for each in found}
        assert all({"at_once", "cpu_us", "p50_ms", "p99_ms", "latencies_ms"} < set(each) for each in found)


@pytest.mark.parametrize(
    ("key", "messages"),
    [
        ("messages.ntlm.to_server", 4),
        ("messages.ntlm.to_client", 3),
        ("messages.spnego.to_server", 5),
        ("messages.spnego.to_client", 4),
    ],
)
def test_a_handshake_takes_as_many_messages_as_promised(results, key, messages):
    [row] = [row for row in results["rows"] if row["key"] == key]
    assert row["figure"]["median"] == messages


def test_a_crowd_has_both_sides_and_the_server_alone_with_and_without_arc4(results):
    found = {row["key"]: row for row in results["rows"] if row["key"].startswith("in_flight.")}
    keys = {
        f"in_flight.{count}.{mechanism}.{side}"
        for count in (5, 10)
        for mechanism in ("ntlm", "spnego")
        for side in ("both", "server")
    }
    added = {f"in_flight.5.{mechanism}.both.arc4" for mechanism in ("ntlm", "spnego")}
    assert set(found) == keys | {f"{key}.no_arc4" for key in keys} | added
    assert all(found[key]["figure"]["low"] > 0 and " us" in found[key]["note"] for key in keys)
    assert {key for key, row in found.items() if row["goal"]} == {key for key in keys if ".5." in key} | added


def test_a_crowd_finishes_handshakes_and_begins_others():
    class Half:
        def __init__(self):
            self.done = False

        def step(self, data):
            self.done = data in {b"1", b"2"}  # the third step and the fourth
            return str(len(data) and int(data) + 1).encode()

    made = []

    def make():
        made.append(Half())
        return made[-1]

    clock = itertools.count()
    # Each step begins and ends with a look at the clock, and so takes one of its seconds.
    many = crowd.Crowd(Peer(make, make), 3, lambda: float(next(clock)))
    assert many.steps == 4
    before = len(made)
    many.run(12)
    assert len(made) - before > 12
    cost = many.cost()
    assert (cost.client, cost.server) == (3.0, 3.0)  # two steps, and one deletion


PROFILE = """
events: Ir ILmr DLmr DLmw
fl=(1) ceval.c
ob=(1) /usr/lib/libpython3.11.so.1.0
fn=(1) eval
10 100 1 2 3
+1 7
cob=(2) /lib/libcrypto.so.3
cfn=(2) encrypt
calls=1 20
+1 5000 50 60 70
* 3 1

ob=(2)
fn=(2)
20 5000 50 60 70
ob=(3) /lib/libc.so.6
fn=(3) malloc
5 40
ob=(1)
fn=(4) call
-3 1
"""
"""A file of callgrind's: names have numbers, zeros at a line's end are left out, and what a call took comes twice."""


def test_counts_are_read_by_file_and_without_those_of_functions_that_were_called():
    events = ("Ir", "ILmr", "DLmr", "DLmw")
    python = dict(zip(events, (111, 2, 2, 3), strict=True))
    found = profiles.by_file(PROFILE)
    assert found["libpython3.11.so.1.0"] == python
    assert {name: counts["Ir"] for name, counts in found.items()} == {
        "libpython3.11.so.1.0": 111, "libcrypto.so.3": 5000, "libc.so.6": 40,
    }  # fmt: skip
    counts = Counts.of(PROFILE, events[1:])
    assert counts == Counts((52.0, 62.0, 73.0), (2.0, 2.0, 3.0))
    assert counts.less(Counts((2.0, 2.0, 3.0), (1.0, 0.0, 3.0)), 10) == Counts((5.0, 6.0, 7.0), (0.1, 0.2, 0.0))


def test_where_openssl_is_linked_into_python_there_is_no_own_part():
    counts = Counts.of(PROFILE.replace("libcrypto", "crypto"), ("Ir",))
    assert counts == Counts((5151.0,), None)
    assert [row.key for row in instructions.rows("ntlm", "rsa", counts)] == ["instructions.rsa.ntlm"]
    with pytest.raises(ValueError, match=r"expected callgrind to have counted D1mr"):
        Counts.of(PROFILE, ("D1mr",))


def test_misses_have_rows_of_code_of_data_and_of_what_is_outside_of_openssl():
    counts = {
        "tls": Counts((1000.0, 2000.0, 0.0), (0.0, 500.0, 0.0)),
        "ntlm": Counts((4000.0, 4000.0, 500.0), (1000.0, 1500.0, 250.0)),
    }
    found = {row.key: row.figure.median for row in misses.rows(counts, "ntlm")}
    assert found == {"misses.ntlm": 5.5, "misses.ntlm.code": 3.0, "misses.ntlm.data": 2.5, "misses.ntlm.own": 2.25}


STAND_IN = """
import importlib.util, os, pathlib, sys
found = importlib.util.find_spec("colorsys").cached
said = f"{int(os.path.exists(found))} {found}"
for word in sys.argv:
    if word.startswith("--callgrind-out-file="):
        for number, trigger in enumerate([*["--dump-before=getloadavg"] * 10, "Program termination"], 1):
            text = f"desc: Trigger: {trigger}\\n{number} {said}"
            pathlib.Path(f"{word.partition('=')[2]}.{number}").write_text(text)
import colorsys
"""
"""Stands in for valgrind and the process that it watches: the profiles say whether there is bytecode, and where."""


def test_what_is_counted_is_what_lies_between_two_marks_and_finds_bytecode(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "")
    seen = []

    class Read(Counts):
        @classmethod
        def of(cls, profile, events, handshakes):
            assert (events, handshakes) == (("Ir",), 7)
            number, compiled, path = profile.splitlines()[1].split(" ", 2)
            seen.append((compiled, path))
            return Counts((float(number),), None)

    monkeypatch.setattr(instructions, "Counts", Read)
    names = ["one", "two", "three", "four", "five"]
    # The first process is the command alone. The second one has valgrind's words first, here as the script's.
    monkeypatch.setattr(instructions, "VALGRIND", (sys.executable, "-c", STAND_IN))
    command = [sys.executable, "-c", STAND_IN]
    counted = instructions.count(names, options=(), events=("Ir",), handshakes=7, command=command)
    assert {name: counts.whole for name, counts in counted.items()} == {
        "one": (2.0,), "two": (4.0,), "three": (6.0,), "four": (8.0,), "five": (10.0,),
    }  # fmt: skip
    assert len(set(seen)) == 1
    assert seen[0][0] == "1"


def test_a_relay_has_its_cpu_and_its_throughput_for_each_loop_and_size(results):
    found = {row["key"]: row for row in results["rows"] if row["key"].startswith("relay.")}
    cpu = {f"relay.{loop}.{size}" for loop in ("asyncio", "uvloop") for size in SIZES}
    assert set(found) == cpu | {f"{key}.speed" for key in cpu}
    goals = {"16384": 1.1, "answered": 0.91}
    assert all(
        row["goal"] == next((goal for part, goal in goals.items() if part in key), 1.0) for key, row in found.items()
    )
    assert all(row["figure"]["low"] > 0 for row in found.values())


def test_the_gateways_benchmark_runs_and_reports_what_it_promises(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gateway", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10 * DEADLINE, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    beside = {f"gateway.haproxy.{size}.{what}" for size in SIZES for what in ("cpu", "seconds")}
    if any(each["what"] == "haproxy" for each in results["left_out"]):
        beside = set()
    rows = {row["key"]: row for row in results["rows"]}
    crowds = {f"gateway.{run}.{what}" for run in ("quiet", "attacked") for what in ("errors", "p99", "memory")}
    legs = {f"gateway.two_legs{load}{what}" for load in ("", ".at_once") for what in ("", ".alone", ".serve")}
    assert set(rows) == crowds | legs | beside
    assert [rows[f"gateway.{run}.errors"]["figure"]["median"] for run in ("quiet", "attacked")] == [0, 0]
    assert all(len(run["latencies"]) == 10 and run["memory"] and run["echoes"] for run in results["details"]["gateway"])
    assert (tmp_path / "gateway.svg").exists()


def test_the_benchmark_of_http_runs_and_reports_what_it_promises(tmp_path):
    command = [sys.executable, "-m", "benchmarks.http", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10 * DEADLINE, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    rows = {row["key"]: row for row in results["rows"]}
    missing = {each["what"] for each in results["left_out"]}
    libraries, others = {"httpx", "aiohttp"}, {"requests_credssp", "awinrm"} - missing
    https = {f"{library}.https" for library in libraries}
    expected = {f"http.{side}.{name}{part}" for side in ("client", "acceptor") for name in https for part in PARTS}
    expected |= {f"http.client.{library}.{other}" for library in libraries for other in others}
    expected |= {"http.bodies.seal", "http.bodies.open"}
    expected |= {f"http.callback.{name}" for name in libraries | https | (others - {"requests_credssp"})}
    assert set(rows) == expected
    assert all(row["figure"]["low"] > 0 for row in rows.values())
    assert set(results["details"]["http"]) == libraries | https | others


PARTS = ("", ".first", ".rest")


@pytest.mark.parametrize("name", ["httpx", "aiohttp"])
def test_the_benchmark_of_http_notices_a_call_that_blocks_the_loop(name):
    done = run_script(BLOCK_THE_LOOP, name)
    assert "BlockingError" in done.stderr
    assert done.returncode == 1


BLOCK_THE_LOOP = """
import sys, time
from benchmarks import http

def blocks(clients, ask):
    async def slow(number):
        time.sleep(0.001)
        return await ask(number)
    return crowd(clients, slow)

crowd, http.crowd = http.crowd, blocks
http.OURS = {sys.argv[1]: http.OURS[sys.argv[1]]}
http.measure(http.QUICK, http.Results("quick", {}), http.Console())
"""


def row_of(what, figure, goal):
    return Row(key=what, what=what, figure=Figure(figure, figure, figure, 1), goal=goal)


def test_the_compiled_engine_has_figures_and_verdicts_of_its_own(folder):
    results = report.read(folder)
    assert "compiled" not in report.markdown(results).splitlines()[2]
    results.rows = [row_of("both", 1.5, 1.4), row_of("memory", 20, None), row_of("bound", 1.35, 1.4)]
    results.compiled = [row_of("both", 1.25, 1.4), row_of("crowd", 1.5, 1.0), row_of("bound", 1.35, 1.3)]
    assert report.head_and_rows(results) == (
        ("what", "goal", "figure", "spread", "verdict", "compiled", "spread", "verdict"),
        [
            ["both", "at most 1.4x", "1.50x", "", "missed by 7%", "1.25x", "", "met"],
            ["memory", "", "20x", "", "reported", "", "", ""],
            ["bound", "at most 1.4x; compiled at most 1.3x", "1.35x", "", "met", "1.35x", "", "missed by 4%"],
            ["crowd", "at most 1x", "", "", "", "1.50x", "", "missed by 50%"],
        ],
    )
    report.write(results, folder / "again")
    again = report.read(folder / "again")
    assert (again.rows, again.compiled) == (results.rows, results.compiled)


# --- what was too short to be measured ---

# No figure is a division by zero, however little a clock or a counter saw.


async def test_a_storm_that_ends_before_a_heartbeat_has_a_lag():
    async def listen():
        return await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)

    async def connect(_port):
        return close

    async def close():
        pass

    assert await lags.worst_lag(loopback.Contender(listen, connect), 1) >= lags.GRAIN


async def test_the_beat_that_a_storm_ended_in_counts(monkeypatch):
    """A loop that is held up from before the first beat until the storm is over."""
    now = itertools.count(0.0, 7.0)
    monkeypatch.setattr(lags, "time", types.SimpleNamespace(perf_counter=lambda: next(now)))
    stopped = asyncio.Event()
    heart = asyncio.create_task(lags.heartbeat(stopped))
    await asyncio.sleep(0)
    stopped.set()
    assert await heart == pytest.approx(7.0 - lags.BEAT)


def test_memory_that_did_not_grow_is_a_page():
    page = os.sysconf("SC_PAGE_SIZE")
    assert memory.growth(10 * page, 10 * page) == memory.growth(10 * page, 9 * page) == page
    assert memory.growth(10 * page, 13 * page) == 3 * page


def test_the_cpu_of_another_process_is_counted_finer_than_in_ticks():
    """It has had what it says itself, at least: a count in ticks, rounded down, is less."""
    code = "import time; print(time.process_time(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        said = float(process.stdout.readline())
        assert workers.cpu_of(process.pid) >= said
        process.stdin.write(b"\n")


async def test_a_generator_that_comes_too_late_logs_on_once_at_least(monkeypatch):
    async def log_on(_client, _port):
        pass

    monkeypatch.setattr(workers.storm, "log_on", log_on)
    assert (await workers._log_on_for(0.0, None, 0, 4))["logons"] >= 1
    assert workers._hash_for(0.0)["hashes"] == 1


async def test_a_generator_that_never_logs_on_says_so(monkeypatch):
    async def log_on(_client, _port):
        raise ConnectionRefusedError

    monkeypatch.setattr(workers.storm, "log_on", log_on)
    with pytest.raises(RuntimeError, match="none of 1001 logons succeeded"):
        await workers._log_on_for(0.0, None, 0, 1)


def test_a_rate_of_nothing_has_no_share():
    assert (stalled_kdc.share(0.0, 0.0), stalled_kdc.share(3.0, 4.0)) == (0.0, 0.75)


# --- what may not get worse ---

# In processes of their own: the module keeps gssapi out of the one that imports it.

CHECK_WITHOUT_TIMES = """
import sys
from benchmarks import check
check.inmemory.measure = check.attackers.measure = lambda *_: None
sys.exit(check.main())
"""

CHECK_A_COUNT = """
import json, sys
from benchmarks import check
from benchmarks.harness import Figure, Row
from benchmarks.peers import NAME, Peer, Setting
versions, million, key = json.loads(sys.argv[1]), float(sys.argv[2]), sys.argv[5]
found = check.environment()
check.environment = lambda: found | versions
check.BASELINE = check.pathlib.Path(sys.argv[3])
if not versions:
    check.record({"compiled": [Row(key=key, what="some row", figure=Figure(1.0, 1.0, 1.0, 1), unit=sys.argv[4])]})
rows = [Row(key=key, what="some row", figure=Figure(million, million, million, 1), unit=sys.argv[4])]
[gate] = check.of_counts(rows, "compiled")
print(gate.counts and not gate.holds, gate, sep="; ")
"""


def run_script(script, *arguments, **environment):
    environment = {name: value for name, value in (os.environ | environment).items() if value is not None}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=20 * DEADLINE,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "status"), [({}, 0), ({"CI": "true"}, 1), ({"ACREDSSP_NO_SKIPS": "1"}, 1), ({"CI": "false"}, 0)]
)
def test_without_valgrind_the_counts_are_skipped_by_name_and_in_ci_that_is_a_failure(environment, status, tmp_path):
    nowhere = {"PATH": str(tmp_path), "CI": None, "ACREDSSP_NO_SKIPS": None}
    done = run_script(CHECK_WITHOUT_TIMES, **nowhere | environment)
    assert "skipped: instructions and cache misses: valgrind is missing" in done.stdout
    assert done.returncode == status, done.stderr


@pytest.mark.parametrize(("unit", "most"), [("million", 1.05), ("thousand", 1.1)])
def test_a_count_above_the_baselines_margin_fails_on_the_baselines_versions_only(tmp_path, unit, most):
    baseline = str(tmp_path / "baseline.json")
    below, above = most - 0.01, most + 0.01
    here = [run_script(CHECK_A_COUNT, "{}", str(count), baseline, unit, "some").stdout for count in (below, above)]
    said = f"some row, compiled, {unit}"
    assert here[0] == f"False; {said}: {below:.3f}, at most {most:.3f}: holds\n"
    assert here[1] == f"True; {said}: {above:.3f}, at most {most:.3f}: FAILS\n"
    for versions in ({"python": "2.7.18"}, {"openssl": "9.9.9"}):
        elsewhere = run_script(CHECK_A_COUNT, json.dumps(versions), str(above), baseline, unit, "some").stdout
        assert elsewhere == f"False; {said}: {above:.3f}, at most {most:.3f}: would fail on the baseline's versions\n"


def test_a_count_without_openssl_fails_beside_every_openssl_and_every_python_of_the_same_minor_version(tmp_path):
    baseline = str(tmp_path / "baseline.json")
    minor = ".".join(map(str, sys.version_info[:2]))
    verdicts = [
        run_script(CHECK_A_COUNT, json.dumps(versions), "1.06", baseline, "million", "some.own").stdout.partition(";")[
            0
        ]
        for versions in ({}, {"openssl": "9.9.9", "cryptography": "1"}, {"python": f"{minor}.99"}, {"python": "2.7.18"})
    ]
    assert verdicts == ["True", "True", "True", "False"]


def test_the_baseline_has_instructions_and_cache_misses_of_both_builds():
    found = json.loads((ROOT / "benchmarks" / "baseline.json").read_text("utf-8"))
    for build in ("interpreted", "compiled"):
        counts = {"instructions.rsa.ntlm", "instructions.rsa.spnego"}
        assert set(found["million"][build]) == counts | {f"{key}.own" for key in counts}
        assert set(found["thousand"][build]) == {
            "misses.ntlm",
            "misses.ntlm.code",
            "misses.ntlm.data",
            "misses.ntlm.own",
        }


# --- the storm of logons ---


@pytest.mark.parametrize("cores", [1, 4])
@pytest.mark.parametrize("load", [*(pytest.param(load, marks=pytest.mark.thorough) for load in (0.2, 0.5)), 0.8])
@pytest.mark.thorough
def test_a_storm_of_single_steps_is_the_queue_of_the_textbooks(cores, load):
    users, step = 40_000, 0.001
    seconds = users * step / cores / load
    found = storm.simulate([[step]], users, seconds, cores)
    said = storm.estimate([[step]], users, seconds, cores)
    assert said.load == pytest.approx(load)
    assert said.wait == pytest.approx(step * load / (2 * (1 - load)))  # M/D/1
    assert found.wait == pytest.approx(said.wait, rel=0.1)


def test_a_storm_that_is_too_much_ends_when_all_is_worked_off():
    logons = [[0.001, 0.002, 0.001], [0.002, 0.003, 0.001]]
    said = storm.estimate(logons, 10_000, 20.0, 1)
    assert (said.load, said.wait, said.shared) == (pytest.approx(2.5), None, None)
    assert said.served_after == pytest.approx(50.0)
    assert storm.simulate(logons, 10_000, 20.0, 1).served_after == pytest.approx(50.0, rel=0.02)


def test_a_logon_alone_waits_for_nobody():
    found = storm.simulate([[0.001, 0.002]], 1, 1.0, 2, rtt=0.01)
    assert found.wait == 0
    assert found.longest == pytest.approx(0.013)


def test_service_times_are_read_from_a_report(results):
    service = storm.Service.from_json(results)
    assert service.as_json() == results["details"]["storm"]["service"]
    assert {len(logon) for logon in service.steps()} == {5}


def test_handshakes_beside_a_silent_kdc():
    for module in ("gssapi", "krb5"):
        pytest.importorskip(module, reason=f"{module} is missing: apt-get install libkrb5-dev, then make test")
    command = [sys.executable, "-m", "benchmarks.stalled_kdc", "--rounds", "1", "--seconds", "0.5", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20 * DEADLINE, check=False)
    found = json.loads(done.stdout)
    assert set(found["met"]) == {"rate", "callbacks", "deadlines", "executor"}
    assert found["met"]["deadlines"]
    assert found["met"]["executor"]
    assert done.returncode == (0 if all(found["met"].values()) else 1)


@pytest.mark.parametrize("intermediates", [0, 1])
@pytest.mark.thorough
def test_a_verdict_is_compared_with_that_of_a_verifier_for_the_web(intermediates):
    microseconds, ratio = verdicts.compare(*verdicts.make_chain("P-256", intermediates), rounds=1)
    assert microseconds > 0
    assert ratio > 0


def times(count, shift):
    """Pairs whose first time is longer by `shift` nanoseconds, with the noise that a machine has."""
    noise = random.Random(7)
    pairs = ((noise.gauss(40_000, 3_000), noise.gauss(40_000, 3_000)) for _ in range(count))
    return [(round(first + shift), round(second)) for first, second in pairs]


def test_a_difference_in_time_is_found_by_as_many_pairs_as_its_power_says():
    nothing = timing.Finding.of("the same", times(2000, 0))
    assert not nothing.found
    assert nothing.low < 0 < nothing.high
    seen = nothing.would_be_seen
    assert timing.Finding.of("told apart", times(2000, seen)).found
    assert timing.Finding.of("told apart", times(2000, -seen)).found
    fewer = timing.Finding.of("fewer pairs", times(500, 0)).would_be_seen
    assert 1.5 < fewer / seen < 2.7


@pytest.mark.parametrize("case", timing.CASES, ids=lambda case: case.what)
def test_the_logons_of_a_pair_are_measured(case):
    setting = Setting.of(acredssp.self_signed([NAME], "ec"))
    finding = timing.measure(case, setting, pairs=3)
    assert finding.answer > 0
    assert finding.low <= finding.difference <= finding.high
    assert f"| {case.what} |" in timing.table([finding])
