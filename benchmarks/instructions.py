"""Instructions of a handshake above those of its TLS, counted by valgrind's callgrind: no load changes them.

Each peer does 4 handshakes, so that everything is imported and made that a process makes once, and then 20 that count.
All peers get the same key, since making a key takes any number of instructions. valgrind hides AVX-512 from OpenSSL, so
TLS itself seems more expensive than it is, and a ratio to TLS would be too small. That is why the figure is a
difference. Each figure comes twice: the whole, and the part outside of OpenSSL and the C library (`profiles`), which is
the same beside every release of OpenSSL.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence

import acredssp
from acredssp.policy import MechanismChoice
from benchmarks.children import ROOT
from benchmarks.harness import Figure, Results, Row, Size, Watch, settle
from benchmarks.peers import NAME, KeyType, Peer, Setting, handshake
from benchmarks.profiles import Counts

MARK = "getloadavg"
"""A function of the C library that nothing else calls: `os.getloadavg()` marks where a count begins or ends."""
VALGRIND = ("valgrind", "--tool=callgrind", f"--dump-before={MARK}")

WARM, COUNTED = 4, 20
"""The handshakes of a peer before those that count, and those that count."""
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
            results.rows += rows(name, kind, counts[name].less(counts["tls"], MILLION))
        results.details.setdefault("instructions", {})[kind] = {name: each.whole[0] for name, each in counts.items()}
    watch.done()


def rows(name: str, kind: KeyType, above: Counts) -> list[Row]:
    """Return the rows of a peer: all instructions above TLS, and those outside of OpenSSL where these are known."""
    peer = f"{NAMES[name]}, {'RSA-2048' if kind == 'rsa' else 'P-256'}"
    key = f"instructions.{kind}.{name.replace(' ', '.')}"
    [whole] = above.whole
    found = [Row(key=key, what=f"instructions above TLS, {peer}", figure=Figure(whole, whole, whole, 1),
                 unit="million", goal=GOALS.get(name))]  # fmt: skip
    if above.own is not None:
        [own] = above.own
        what = f"instructions above TLS without OpenSSL and libc, {peer}"
        found.append(Row(key=f"{key}{OWN}", what=what, figure=Figure(own, own, own, 1), unit="million"))
    return found


OWN = ".own"
"""The end of the key of a row that counts what is outside of OpenSSL and the C library."""
NAMES = {"ntlm": "raw NTLM", "spnego": "SPNEGO", "pyspnego tuned": "pyspnego tuned"}


def count_instructions(names: list[str], kind: KeyType = "rsa") -> dict[str, Counts]:
    """Return the instructions of one handshake of each peer, TLS included."""
    command = [sys.executable, "-m", "benchmarks.instructions"]
    return count(names, kind, options=["--cache-sim=no"], events=("Ir",), handshakes=COUNTED, command=command)


def count(  # noqa: PLR0913 - what and how to count
    names: list[str],
    kind: KeyType = "rsa",
    *,
    options: Sequence[str],
    events: Sequence[str],
    handshakes: int,
    command: list[str],
) -> dict[str, Counts]:
    """Return what callgrind counts for one handshake of each peer, TLS included.

    One process does the handshakes of all peers (`perform`). It finds bytecode that another process has written, since
    what the compiler leaves in memory would change the misses of caches.

    Args:
        names: The peers.
        kind: The type of the certificate's key.
        options: The options of callgrind.
        events: What callgrind counts, by its names.
        handshakes: How many of each peer's are counted.
        command: The command, which gets a folder with certificate and key, the number of handshakes, and the peers.
    """
    with tempfile.TemporaryDirectory() as folder:
        for file, content in zip(("certificate", "key"), acredssp.self_signed([NAME], kind), strict=True):
            pathlib.Path(folder, file).write_bytes(content)

        def run(*counter: str, handshakes: int, bytecode: str) -> None:
            usual = {"PYTHONHASHSEED": "0", "PYTHONPYCACHEPREFIX": f"{folder}/bytecode"}
            done = subprocess.run(  # noqa: S603 - ourselves
                [*counter, *command, folder, str(handshakes), *names],
                env=os.environ | usual | {"PYTHONDONTWRITEBYTECODE": bytecode},
                cwd=ROOT, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(f"{' '.join([*counter, *names])} failed: {done.stderr[-2000:]}")

        run(handshakes=1, bytecode="")
        counter = [*VALGRIND, f"--callgrind-out-file={folder}/profile", *options]
        run(*counter, handshakes=handshakes, bytecode="1")
        return {
            name: Counts.of(profile, events, handshakes)
            for name, profile in zip(names, _profiles(pathlib.Path(folder)), strict=True)
        }


def _profiles(folder: pathlib.Path) -> list[str]:
    """Return the profiles of each peer: what was counted between the first and the second mark, and so on."""
    found = sorted(folder.glob("profile.*"), key=lambda path: int(path.suffix[1:]))
    profiles = [path.read_text("utf-8", "replace") for path in found]
    return [profile for profile in profiles if f"Trigger: --dump-before={MARK}" in profile][1::2]


def perform(folder: str, handshakes: str, names: Sequence[str], start: Callable[[Peer], Callable[[int], None]]) -> None:
    """Do what valgrind watches, in a process of its own: for each peer, all that comes first, and what counts.

    Args:
        folder: The folder with certificate and key.
        handshakes: How many handshakes count.
        names: The peers.
        start: Returns the function that does a number of a peer's handshakes.
    """
    for name in names:
        with _users(name):
            run = start(peer(folder, name))
            run(WARM)
            settle()
            os.getloadavg()
            run(int(handshakes))
            os.getloadavg()


def _users(name: str) -> contextlib.AbstractContextManager[object]:
    if not name.startswith("pyspnego"):
        return contextlib.nullcontext()
    from benchmarks import pyspnego  # noqa: PLC0415 - its import takes valgrind many seconds

    return pyspnego.users()


def one_after_the_other(peer: Peer) -> Callable[[int], None]:
    def run(handshakes: int) -> None:
        for _ in range(handshakes):
            handshake(peer)

    return run


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
            from benchmarks import pyspnego  # noqa: PLC0415 - as above

            return pyspnego.peer(setting, name.removeprefix("pyspnego "))


if __name__ == "__main__":
    perform(*sys.argv[1:3], sys.argv[3:], one_after_the_other)
