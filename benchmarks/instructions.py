"""Instructions of a handshake above those of its TLS, counted by valgrind's cachegrind: no load changes them.

The count of a process that does 24 handshakes, less that of a process that does 4, is the count of 20 handshakes,
without the work that a process does once. Both processes get the same key, since making a key takes any number of
instructions. valgrind hides AVX-512 from OpenSSL, so TLS itself seems more expensive than it is, and a ratio to TLS
would be too small. That is why the figure is a difference.

    python -m benchmarks.instructions FOLDER PEER COUNT     is the process that valgrind runs
"""

import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence

import acredssp
from acredssp.policy import MechanismChoice
from benchmarks.children import ROOT
from benchmarks.harness import Figure, Results, Row, Size, Watch
from benchmarks.peers import NAME, KeyType, Peer, Setting, handshake

VALGRIND = ("valgrind", "--tool=cachegrind", "--cachegrind-out-file=/dev/null")

FEW, MANY = 4, 24
MILLION = 1e6
GOALS = {"ntlm": 1.8, "spnego": 2.0}
"""The goal in millions of instructions above TLS, for both sides together."""

MISSING = "valgrind is missing: apt-get install valgrind"


def measure(size: Size, results: Results, watch: Watch) -> None:
    watch.step("instructions")
    if shutil.which("valgrind") is None:
        results.leave_out("instructions above TLS", MISSING)
        watch.done()
        return
    kinds: tuple[KeyType, ...] = ("rsa", "ec") if size.every_instruction else ("rsa",)
    more = ["pyspnego tuned"] if size.every_instruction else []
    for kind in kinds:
        counts = count_instructions(["tls", *GOALS, *(more if kind == "rsa" else [])], kind)
        for name in [name for name in counts if name != "tls"]:
            above = (counts[name] - counts["tls"]) / MILLION
            results.rows.append(
                Row(
                    key=f"instructions.{kind}.{name.replace(' ', '.')}",
                    what=f"instructions above TLS, {NAMES[name]}, {'RSA-2048' if kind == 'rsa' else 'P-256'}",
                    figure=Figure(above, above, above, 1),
                    unit="million",
                    goal=GOALS.get(name),
                )
            )
        results.details.setdefault("instructions", {})[kind] = counts
    watch.done()


NAMES = {"ntlm": "raw NTLM", "spnego": "SPNEGO", "pyspnego tuned": "pyspnego tuned"}


def count_instructions(names: list[str], kind: KeyType = "rsa") -> dict[str, float]:
    """Return the instructions of one handshake of each peer, TLS included."""
    return {
        name: refs
        for name, (refs,) in count(names, kind, options=["--cache-sim=no"], command=_command, read=_read).items()
    }


def count(  # noqa: PLR0913 - what and how to count
    names: list[str],
    kind: KeyType = "rsa",
    *,
    options: Sequence[str],
    sizes: tuple[int, int] = (FEW, MANY),
    command: Callable[[str, str, int], list[str]],
    read: Callable[[str], tuple[float, ...]],
) -> dict[str, tuple[float, ...]]:
    """Return what cachegrind counts for one handshake of each peer, TLS included.

    Several processes run at a time, since they do not change each other's counts. All of them find the same bytecode,
    which a first process of each peer has written: a process that has to compile a module, and another one that finds
    it compiled, would differ by more than all handshakes together.

    Args:
        names: The peers.
        kind: The type of the certificate's key.
        options: The options of cachegrind.
        sizes: The handshakes of the two processes of a peer.
        command: Returns the command for a folder with certificate and key, a peer and a number of handshakes.
        read: Returns the counts in what cachegrind has printed; an empty tuple if there are none.
    """

    def run(name: str, handshakes: int, *counter: str, **environment: str) -> str:
        usual = {"PYTHONHASHSEED": "0", "PYTHONPYCACHEPREFIX": f"{folder}/bytecode"}
        done = subprocess.run(  # noqa: S603 - ourselves
            [*counter, *command(folder, name, handshakes)], env=os.environ | usual | environment,
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{' '.join([*counter, name])} failed: {done.stderr[-2000:]}")
        return done.stderr

    def counted(name: str, handshakes: int) -> tuple[float, ...]:
        counts = read(run(name, handshakes, *VALGRIND, *options, PYTHONDONTWRITEBYTECODE="1"))
        if not counts:
            raise RuntimeError(f"valgrind counted nothing for {name}")
        return counts

    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for file, content in zip(("certificate", "key"), acredssp.self_signed([NAME], kind), strict=True):
            pathlib.Path(folder, file).write_bytes(content)
        for name in names:
            run(name, 1, PYTHONDONTWRITEBYTECODE="")
        runs = {(name, size): pool.submit(counted, name, size) for name in names for size in sizes}
        few, many = sizes
        pairs = {name: zip(runs[name, few].result(), runs[name, many].result(), strict=True) for name in names}
        return {name: tuple((more - less) / (many - few) for less, more in pair) for name, pair in pairs.items()}


def _command(folder: str, name: str, handshakes: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.instructions", folder, name, str(handshakes)]


def _read(said: str) -> tuple[float, ...]:
    refs = re.search(r"I\s+refs:\s+([\d,]+)", said)
    return (float(refs[1].replace(",", "")),) if refs else ()


def peer(folder: str, name: str) -> Peer:
    """Return a peer that uses the folder's certificate and key."""
    pem = tuple(pathlib.Path(folder, file).read_bytes() for file in ("certificate", "key"))
    return _peer(Setting.of(pem, "1.3"), name)


def _peer(setting: Setting, name: str) -> Peer:
    match name:
        case "tls":
            return setting.bare_tls()
        case "ntlm" | "spnego":
            choice = MechanismChoice.NTLM if name == "ntlm" else MechanismChoice.NEGOTIATE
            return setting.acredssp(choice)
        case _:
            from benchmarks import pyspnego  # noqa: PLC0415 - its import takes valgrind many seconds

            return pyspnego.peer(setting, name.removeprefix("pyspnego "))


def _perform(folder: str, name: str, handshakes: int) -> None:
    chosen = peer(folder, name)
    if name.startswith("pyspnego"):
        from benchmarks import pyspnego  # noqa: PLC0415 - as above

        with pyspnego.users():
            for _ in range(handshakes):
                handshake(chosen)
        return
    for _ in range(handshakes):
        handshake(chosen)


if __name__ == "__main__":
    _perform(sys.argv[1], sys.argv[2], int(sys.argv[3]))
